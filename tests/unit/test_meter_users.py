"""``flexfeeder meters add|list|remove``: the users of the broker that are meters."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from support import FEEDERS

from flexfeeder import broker_users
from flexfeeder.__main__ import main

RELOAD = "docker compose -f deploy/docker-compose.yml kill -s HUP broker"


class Folder:
    """A folder of secrets with a service and no meters, and the commands on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "broker").mkdir(parents=True)
        kept = broker_users.hashed("secret", broker_users.new_salt())
        self.passwords.write_text(f"solver:{kept}\n")

    @property
    def passwords(self) -> Path:
        return self.path / "broker/passwords"

    def users(self) -> dict[str, str]:
        return broker_users.read(self.passwords)

    def run(self, *arguments: str, feeder: str = "ieee123", feeders: Path = FEEDERS) -> Result:
        env = {"FLEXFEEDER_FEEDER": feeder, "FLEXFEEDER_FEEDERS_DIR": str(feeders)}
        command, *names = arguments
        return CliRunner(env=env).invoke(
            main, ["meters", command, "--folder", str(self.path), *names]
        )

    def add(self, *names: str) -> dict[str, str]:
        result = self.run("add", *names)
        assert result.exit_code == 0, result.output
        shown: dict[str, str] = orjson.loads(result.stdout)
        return shown


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


class TestAdd:
    def test_what_a_meter_needs_is_printed_once(self, folder: Folder) -> None:
        """Its password is nowhere but in the output; the broker keeps a hash."""
        shown = folder.add("1", "Load_1")
        password = shown.pop("password")
        assert shown == {
            "username": "1/Load_1",
            "topic": "flexfeeder/ieee123/meter/1/Load_1",
            "setpoint_topic": "flexfeeder/ieee123/setpoint/1/Load_1",
        }
        assert broker_users.is_of(password, folder.users()["1/Load_1"])
        assert password not in folder.passwords.read_text()

    def test_what_is_to_be_done_next_is_said(self, folder: Folder) -> None:
        assert RELOAD in folder.run("add", "1", "Load_1").stderr

    def test_names_are_those_under_which_setpoints_come(self, folder: Folder) -> None:
        """Loads as the feeder's files spell them, buses in lower case, as the engine has them."""
        assert folder.add("65", "LOAD_65_A")["username"] == "65/Load_65_a"
        assert folder.add("150R", "EV_1")["topic"] == "flexfeeder/ieee123/meter/150r/EV_1"

    def test_other_users_are_left_alone(self, folder: Folder) -> None:
        before = folder.users()
        folder.add("1", "Load_1")
        assert list(folder.users()) == ["solver", "1/Load_1"]
        assert folder.users()["solver"] == before["solver"]

    @pytest.mark.parametrize("names", [("1", "Load_1"), ("1", "LOAD_1")])
    def test_a_meter_that_is_known_is_refused(self, folder: Folder, names: tuple[str, str]) -> None:
        folder.add("1", "Load_1")
        before = folder.passwords.read_bytes()
        refused = folder.run("add", *names)
        assert refused.exit_code == 1
        assert "1/Load_1 is known; --replace gives it a new password" in refused.stderr
        assert refused.stdout == ""
        assert folder.passwords.read_bytes() == before

    def test_a_device_that_is_spelled_otherwise_is_known(self, folder: Folder) -> None:
        folder.add("1", "EV_Charger")
        assert "1/EV_Charger is known" in folder.run("add", "1", "ev_charger").stderr

    def test_replaced_it_has_a_new_password_and_no_other(self, folder: Folder) -> None:
        old = folder.add("1", "EV_Charger")["password"]
        shown = folder.add("1", "ev_charger", "--replace")
        assert shown["username"] == "1/ev_charger"
        users = folder.users()
        assert list(users) == ["solver", "1/ev_charger"]
        assert broker_users.is_of(shown["password"], users["1/ev_charger"])
        assert not broker_users.is_of(old, users["1/ev_charger"])

    def test_the_same_load_at_another_bus_is_another(self, folder: Folder) -> None:
        folder.add("1", "EV_Charger")
        folder.add("2", "EV_Charger")
        assert len(folder.users()) == 3

    @pytest.mark.parametrize(
        "names", [("1", "a/b"), ("1/2", "a"), ("+", "a"), ("1", "#"), ("", "a"), ("1", "a:b")]
    )
    def test_what_is_no_name_is_refused(self, folder: Folder, names: tuple[str, str]) -> None:
        before = folder.passwords.read_bytes()
        refused = folder.run("add", *names)
        assert refused.exit_code == 2
        assert "is no name" in refused.stderr
        assert folder.passwords.read_bytes() == before


class TestWarnings:
    """Devices are added to a feeder that runs, so nothing is refused for being unknown."""

    def test_what_the_feeder_has_needs_none(self, folder: Folder) -> None:
        assert folder.run("add", "1", "Load_1").stderr.splitlines() == [
            "1/Load_1 may connect once the broker has been told:",
            f"  {RELOAD}",
        ]

    def test_an_unknown_load_is_said(self, folder: Folder) -> None:
        added = folder.run("add", "1", "EV_Charger")
        assert added.exit_code == 0
        assert "ieee123 is built without a load EV_Charger" in added.stderr
        assert "neighbourhood" not in added.stderr

    def test_an_unknown_bus_is_said(self, folder: Folder) -> None:
        added = folder.run("add", "4711", "Load_1")
        assert added.exit_code == 0
        assert "ieee123 has no neighbourhood with a bus 4711" in added.stderr

    def test_a_feeder_that_is_not_here_is_said(self, folder: Folder) -> None:
        added = folder.run("add", "1", "Load_1", feeders=folder.path)
        assert added.exit_code == 0
        assert "ieee123 is not among the feeders here" in added.stderr


class TestListAndRemove:
    def test_only_meters_are_listed(self, folder: Folder) -> None:
        assert folder.run("list").stdout == ""
        folder.add("2", "Load_2")
        folder.add("1", "Load_1")
        assert folder.run("list").stdout == "1/Load_1\n2/Load_2\n"

    def test_a_meter_is_removed_however_it_is_spelled(self, folder: Folder) -> None:
        folder.add("1", "Load_1")
        folder.add("2", "Load_2")
        removed = folder.run("remove", "1", "load_1")
        assert removed.exit_code == 0
        assert RELOAD in removed.stderr
        assert list(folder.users()) == ["solver", "2/Load_2"]

    @pytest.mark.parametrize("names", [("1", "Load_1"), ("solver", ""), ("", "solver")])
    def test_what_is_no_known_meter_is_not_removed(
        self, folder: Folder, names: tuple[str, str]
    ) -> None:
        refused = folder.run("remove", *names)
        assert refused.exit_code == 1
        assert "is not known" in refused.stderr
        assert list(folder.users()) == ["solver"]


@pytest.mark.parametrize("command", [["list"], ["add", "1", "Load_1"], ["remove", "1", "Load_1"]])
def test_without_the_folder_it_is_said_what_makes_it(command: list[str], tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["meters", *command, "--folder", str(tmp_path)])
    assert refused.exit_code == 1
    assert "run `flexfeeder secrets` first" in refused.stderr


@pytest.mark.parametrize("command", [["list"], ["add", "1", "Load_1"], ["remove", "1", "Load_1"]])
def test_a_file_that_cannot_be_read_is_named(command: list[str], folder: Folder) -> None:
    folder.passwords.write_text("rubbish")
    refused = folder.run(*command)
    assert refused.exit_code == 1
    assert f"{folder.passwords}: line 1 is no user and hash" in refused.stderr


def test_without_a_command_meters_are_simulated_as_ever() -> None:
    """Its options are its own, and are checked before anything runs."""
    refused = CliRunner().invoke(main, ["meters", "--seed", "1", "--interval", "0"])
    assert refused.exit_code == 2
    assert "--interval" in refused.stderr
