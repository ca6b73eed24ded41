"""Settings: the environment in, one object out, and every problem at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settings import Settings, SettingsError


def problems_of(env: dict[str, str]) -> list[str]:
    """The lines of the error, each beginning with the name of a variable."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(env)
    return str(refused.value).split("\n")


def variables(problems: list[str]) -> list[str]:
    return [line.split(":", 1)[0] for line in problems]


class TestDefaults:
    def test_an_empty_environment_makes_a_single_machine(self) -> None:
        settings = Settings.from_env({})
        assert (settings.http_host, settings.http_port) == ("127.0.0.1", 5000)
        assert (settings.mqtt_host, settings.mqtt_port, settings.mqtt5_port) == (None, 1883, None)
        assert (settings.mqtt_username, settings.mqtt_password) == (None, None)
        assert (settings.mqtt_ca, settings.redis_url) == (None, None)
        assert settings.feeder == "ieee123"
        assert settings.data_dir == Path(".flexfeeder")
        assert settings.results_dir == Path("results_api")
        assert settings.solve_hz == 20.0
        assert (settings.log_level, settings.log_format) == ("INFO", "console")

    def test_variables_of_other_programs_are_left_alone(self) -> None:
        assert Settings.from_env({"PATH": "/bin", "MQTT_PORT": "x"}) == Settings()

    @pytest.mark.parametrize("text", ["", "  ", "\t\n"])
    def test_an_empty_variable_is_as_good_as_none(self, text: str) -> None:
        assert Settings.from_env({"FLEXFEEDER_HTTP_PORT": text}) == Settings()

    def test_space_around_a_value_is_not_part_of_it(self) -> None:
        assert Settings.from_env({"FLEXFEEDER_FEEDER": " ieee13\n"}).feeder == "ieee13"


class TestValues:
    def test_variables_are_read_as_what_they_are(self, tmp_path: Path) -> None:
        authority = tmp_path / "ca.pem"
        authority.touch()
        settings = Settings.from_env(
            {
                "FLEXFEEDER_MQTT_HOST": "broker",
                "FLEXFEEDER_MQTT_PORT": "8883",
                "FLEXFEEDER_MQTT_CA": str(authority),
                "FLEXFEEDER_SOLVE_HZ": "2.5",
                "FLEXFEEDER_LOG_FORMAT": "json",
            }
        )
        assert (settings.mqtt_host, settings.mqtt_port) == ("broker", 8883)
        assert settings.mqtt_ca == authority
        assert (settings.solve_hz, settings.log_format) == (2.5, "json")

    @pytest.mark.parametrize(
        ("variable", "text"),
        [
            ("FLEXFEEDER_HTTP_PORT", "0"),
            ("FLEXFEEDER_HTTP_PORT", "65536"),
            ("FLEXFEEDER_HTTP_PORT", "http"),
            ("FLEXFEEDER_MQTT_PORT", "-1"),
            ("FLEXFEEDER_MQTT5_PORT", "1.5"),
            ("FLEXFEEDER_FEEDER", "../ieee123"),
            ("FLEXFEEDER_FEEDER", "ieee 123"),
            ("FLEXFEEDER_FEEDER", "x" * 65),
            ("FLEXFEEDER_SOLVE_HZ", "0"),
            ("FLEXFEEDER_SOLVE_HZ", "1001"),
            ("FLEXFEEDER_SOLVE_HZ", "nan"),
            ("FLEXFEEDER_SOLVE_HZ", "inf"),
            ("FLEXFEEDER_MQTT_LISTEN", "localhost"),
            ("FLEXFEEDER_MQTT_LISTEN", "::"),
            ("FLEXFEEDER_MQTT_CA", "/no/such/file"),
            ("FLEXFEEDER_REDIS_URL", "localhost:6379"),
            ("FLEXFEEDER_LOG_LEVEL", "LOUD"),
            ("FLEXFEEDER_LOG_FORMAT", "xml"),
        ],
    )
    def test_a_bad_value_is_refused_under_its_variable(self, variable: str, text: str) -> None:
        assert variables(problems_of({variable: text})) == [variable]

    def test_a_misspelt_variable_is_refused(self) -> None:
        """It would be ignored in silence otherwise, and its default used."""
        assert problems_of({"FLEXFEEDER_PORT": "5000"}) == ["FLEXFEEDER_PORT: no such setting"]

    def test_only_secrets_come_from_files(self) -> None:
        expected = ["FLEXFEEDER_HTTP_PORT_FILE: no such setting"]
        assert expected == problems_of({"FLEXFEEDER_HTTP_PORT_FILE": "/dev/null"})

    def test_all_problems_are_listed_at_once(self, tmp_path: Path) -> None:
        problems = problems_of(
            {
                "FLEXFEEDER_HTTP_PORT": "http",
                "FLEXFEEDER_FEEDER": "a/b",
                "FLEXFEEDER_PORT": "5000",
                "FLEXFEEDER_REDIS_URL_FILE": str(tmp_path / "absent"),
            }
        )
        assert sorted(variables(problems)) == [
            "FLEXFEEDER_FEEDER",
            "FLEXFEEDER_HTTP_PORT",
            "FLEXFEEDER_PORT",
            "FLEXFEEDER_REDIS_URL_FILE",
        ]


class TestSecrets:
    def test_a_secret_may_come_from_a_file(self, tmp_path: Path) -> None:
        """The newline that an editor leaves behind is no part of it."""
        path = tmp_path / "password"
        path.write_text("correct horse\n", encoding="utf-8")
        settings = Settings.from_env({"FLEXFEEDER_MQTT_PASSWORD_FILE": str(path)})
        assert settings.mqtt_password is not None
        assert settings.mqtt_password.get_secret_value() == "correct horse"

    def test_the_variable_itself_wins_over_the_file(self, tmp_path: Path) -> None:
        """So a file that is not there does no harm either."""
        settings = Settings.from_env(
            {
                "FLEXFEEDER_REDIS_URL": "redis://here",
                "FLEXFEEDER_REDIS_URL_FILE": str(tmp_path / "absent"),
            }
        )
        assert settings.redis_url is not None
        assert settings.redis_url.get_secret_value() == "redis://here"

    @pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["absent", "not-UTF-8"])
    def test_a_file_that_cannot_be_read_is_a_problem(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "password"
        if content is not None:
            path.write_bytes(content)
        problems = problems_of({"FLEXFEEDER_MQTT_PASSWORD_FILE": str(path)})
        assert variables(problems) == ["FLEXFEEDER_MQTT_PASSWORD_FILE"]

    def test_an_empty_file_is_as_good_as_none(self, tmp_path: Path) -> None:
        """As an empty variable is."""
        path = tmp_path / "password"
        path.write_text("\n", encoding="utf-8")
        assert Settings.from_env({"FLEXFEEDER_MQTT_PASSWORD_FILE": str(path)}) == Settings()

    def test_secrets_are_not_shown(self) -> None:
        env = {
            "FLEXFEEDER_MQTT_PASSWORD": "correct horse",
            "FLEXFEEDER_REDIS_URL": "redis://:battery@here",
        }
        shown = repr(Settings.from_env(env)) + str(Settings.from_env(env))
        shown += "".join(problems_of({**env, "FLEXFEEDER_HTTP_PORT": "http"}))
        assert "horse" not in shown
        assert "battery" not in shown


ports = st.integers(1, 65535).map(str)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
environments = st.fixed_dictionaries(
    {},
    optional={
        "FLEXFEEDER_HTTP_HOST": words,
        "FLEXFEEDER_HTTP_PORT": ports,
        "FLEXFEEDER_MQTT_HOST": words,
        "FLEXFEEDER_MQTT_PORT": ports,
        "FLEXFEEDER_MQTT5_PORT": ports,
        "FLEXFEEDER_MQTT_USERNAME": words,
        "FLEXFEEDER_MQTT_PASSWORD": words,
        "FLEXFEEDER_MQTT_CA": st.just(__file__),
        "FLEXFEEDER_REDIS_URL": words.map("redis://{}".format),
        "FLEXFEEDER_FEEDER": st.sampled_from(["ieee13", "x" * 64]),
        "FLEXFEEDER_FEEDERS_DIR": words,
        "FLEXFEEDER_DATA_DIR": words,
        "FLEXFEEDER_RESULTS_DIR": words,
        "FLEXFEEDER_SOLVE_HZ": st.floats(0.001, 1000).map(str),
        "FLEXFEEDER_LOG_LEVEL": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR"]),
        "FLEXFEEDER_LOG_FORMAT": st.sampled_from(["console", "json"]),
    },
)


class TestChildren:
    @given(env=environments)
    def test_a_child_process_gets_the_same_settings(self, env: dict[str, str]) -> None:
        settings = Settings.from_env(env)
        assert Settings.from_env(settings.to_env()) == settings

    def test_what_is_not_set_is_not_passed_on(self) -> None:
        env = Settings.from_env({}).to_env()
        assert "FLEXFEEDER_MQTT_PASSWORD" not in env
        assert "None" not in env.values()

    def test_a_secret_is_passed_on_as_it_is(self) -> None:
        env = Settings.from_env({"FLEXFEEDER_MQTT_PASSWORD": "correct horse"}).to_env()
        assert env["FLEXFEEDER_MQTT_PASSWORD"] == "correct horse"
