"""Feeder folders: one that reads well, and what each mistake in ``feeder.toml`` is told as."""

from pathlib import Path

import pytest

from services.solver.feeder import (
    Feeder,
    FeederError,
    Neighbourhood,
    VoltageLimits,
    circuit_problems,
    neighbourhood_problems,
)

GOOD = """
name = "Two buses"
master = "master.dss"
load_floor = 0.25

[voltage_limits]
min_pu = 0.94
max_pu = 1.06

[[neighbourhoods]]
number = 1
buses = ["1", "2"]
transformer_bus = "1"
transformer_kva = 75
"""

SMALLEST = """
name = "Nothing said"
master = "master.dss"
"""

NEIGHBOURHOOD = """
[[neighbourhoods]]
number = 1
buses = ["1"]
transformer_bus = "1"
transformer_kva = 75
"""

SECOND_NEIGHBOURHOOD = """
[[neighbourhoods]]
number = 2
buses = ["2"]
transformer_bus = "2"
transformer_kva = 50
"""


@pytest.fixture
def feeders(tmp_path: Path) -> Path:
    """A folder of feeders with an OpenDSS file in ``mine``, and one beside it in ``yours``."""
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "master.dss").write_text("New Circuit.x\n", encoding="utf-8")
    return tmp_path


def load(feeders: Path, content: str | bytes) -> Feeder:
    if isinstance(content, str):
        content = content.encode()
    (feeders / "mine" / "feeder.toml").write_bytes(content)
    return Feeder.load(feeders, "mine")


def problems_of(feeders: Path, content: str | bytes) -> list[str]:
    with pytest.raises(FeederError) as refused:
        load(feeders, content)
    assert all(problem in str(refused.value) for problem in refused.value.problems)
    return refused.value.problems


def neighbourhood(number: int, *buses: str) -> Neighbourhood:
    return Neighbourhood(number=number, buses=buses, transformer_bus=buses[0], transformer_kva=75.0)


class TestGoodFolder:
    def test_all_that_is_written_is_read(self, feeders: Path) -> None:
        feeder = load(feeders, GOOD)
        assert feeder.id == "mine"
        assert feeder.master == feeders / "mine" / "master.dss"
        assert feeder.config.name == "Two buses"
        assert feeder.config.load_floor == 0.25
        assert feeder.config.voltage_limits == VoltageLimits(min_pu=0.94, max_pu=1.06)
        assert feeder.config.neighbourhoods == (neighbourhood(1, "1", "2"),)

    def test_what_is_not_written_has_a_default(self, feeders: Path) -> None:
        """ANSI C84.1 range A, relief down to half of a load, and no neighbourhoods."""
        config = load(feeders, SMALLEST).config
        assert config.load_floor == 0.5
        assert config.voltage_limits == VoltageLimits(min_pu=0.95, max_pu=1.05)
        assert config.neighbourhoods == ()

    def test_the_master_file_may_lie_in_a_folder_below(self, feeders: Path) -> None:
        below = feeders / "mine" / "dss" / "feeder.dss"
        below.parent.mkdir()
        below.write_text("New Circuit.x\n", encoding="utf-8")
        assert load(feeders, 'name = "x"\nmaster = "dss/feeder.dss"').master == below

    @pytest.mark.parametrize("floor", [0, 1])
    def test_the_load_floor_may_be_none_or_all_of_demand(self, feeders: Path, floor: int) -> None:
        assert load(feeders, f"{SMALLEST}load_floor = {floor}").config.load_floor == floor


class TestUnreadableFile:
    def test_an_absent_feeder_is_answered_with_those_that_are_there(self, feeders: Path) -> None:
        for name in ("mine", "yours"):
            (feeders / name / "feeder.toml").write_text(SMALLEST, encoding="utf-8")
        (feeders / "no_feeder").mkdir()
        with pytest.raises(FeederError, match="feeders here: mine, yours") as refused:
            Feeder.load(feeders, "ours")
        assert str(feeders / "ours" / "feeder.toml") in str(refused.value)

    def test_an_absent_folder_of_feeders_holds_none(self, tmp_path: Path) -> None:
        with pytest.raises(FeederError, match="feeders here: none"):
            Feeder.load(tmp_path / "nowhere", "mine")

    @pytest.mark.parametrize(
        "content",
        ["name = ", "{}", "<xml/>", 'name = "x"\nname = "y"', b"name = '\xff'", b"\0"],
        ids=["cut-off", "JSON", "XML", "name-twice", "not-UTF-8", "NUL"],
    )
    def test_what_is_not_toml_cannot_be_read(self, feeders: Path, content: str | bytes) -> None:
        [problem] = problems_of(feeders, content)
        assert problem.startswith("cannot be read: ")

    def test_a_folder_in_place_of_the_file_cannot_be_read(self, feeders: Path) -> None:
        (feeders / "mine" / "feeder.toml").mkdir()
        with pytest.raises(FeederError, match="cannot be read"):
            Feeder.load(feeders, "mine")


class TestMistakes:
    @pytest.mark.parametrize(
        ("content", "field"),
        [
            ('master = "master.dss"', "name"),
            ('name = ""\nmaster = "master.dss"', "name"),
            ('name = "x"', "master"),
            ('name = "x"\nmaster = 1', "master"),
            (SMALLEST + "loadfloor = 0.5", "loadfloor"),
            (SMALLEST + "load_floor = 2", "load_floor"),
            (SMALLEST + "load_floor = -0.1", "load_floor"),
            (SMALLEST + "load_floor = nan", "load_floor"),
            (SMALLEST + 'load_floor = "half"', "load_floor"),
            (SMALLEST + "[voltage_limits]\nmin_pu = 0", "voltage_limits.min_pu"),
            (SMALLEST + "[voltage_limits]\nmax_pu = inf", "voltage_limits.max_pu"),
            (SMALLEST + "[voltage_limits]\nmean_pu = 1", "voltage_limits.mean_pu"),
            (SMALLEST + NEIGHBOURHOOD.replace('["1"]', "[]"), "neighbourhoods.0.buses"),
            (SMALLEST + NEIGHBOURHOOD.replace('["1"', '["1", "1.2"'), "neighbourhoods.0.buses.1"),
            (SMALLEST + NEIGHBOURHOOD.replace("75", "0"), "neighbourhoods.0.transformer_kva"),
            (SMALLEST + NEIGHBOURHOOD.replace("75", "inf"), "neighbourhoods.0.transformer_kva"),
            (SMALLEST + NEIGHBOURHOOD.replace("= 1", "= -1"), "neighbourhoods.0.number"),
            (SMALLEST + NEIGHBOURHOOD + "kva = 75", "neighbourhoods.0.kva"),
        ],
    )
    def test_a_bad_value_is_told_under_its_field(
        self, feeders: Path, content: str, field: str
    ) -> None:
        [problem] = problems_of(feeders, content)
        assert problem.startswith(f"{field}: ")

    def test_voltage_limits_must_leave_room(self, feeders: Path) -> None:
        content = SMALLEST + "[voltage_limits]\nmin_pu = 1.05\nmax_pu = 0.95"
        [problem] = problems_of(feeders, content)
        assert problem.startswith("voltage_limits: ")
        assert "min_pu must be below max_pu" in problem

    def test_a_master_file_that_is_not_there_is_named(self, feeders: Path) -> None:
        expected = ["master: there is no file 'absent.dss' in the feeder's folder"]
        assert expected == problems_of(feeders, 'name = "x"\nmaster = "absent.dss"')

    @pytest.mark.parametrize("master", ["", "."])
    def test_a_folder_is_no_master_file(self, feeders: Path, master: str) -> None:
        [problem] = problems_of(feeders, f'name = "x"\nmaster = "{master}"')
        assert problem.startswith("master: there is no file")

    @pytest.mark.parametrize("master", ["../yours/master.dss", "/etc/hostname", ".."])
    def test_a_master_file_lies_in_the_folder_of_its_feeder(
        self, feeders: Path, master: str
    ) -> None:
        """Even where there is such a file: another feeder is another folder."""
        [problem] = problems_of(feeders, f'name = "x"\nmaster = "{master}"')
        assert problem == f"master: {master!r} lies outside of the feeder's folder"

    def test_a_link_leads_no_further_than_a_path(self, feeders: Path) -> None:
        (feeders / "mine" / "link.dss").symlink_to(feeders / "yours" / "master.dss")
        [problem] = problems_of(feeders, 'name = "x"\nmaster = "link.dss"')
        assert problem == "master: 'link.dss' lies outside of the feeder's folder"

    @pytest.mark.parametrize("master", ["a\\u0000b.dss", "x" * 300], ids=["NUL", "too-long"])
    def test_a_name_that_no_file_can_have_is_a_problem_like_any_other(
        self, feeders: Path, master: str
    ) -> None:
        [problem] = problems_of(feeders, f'name = "x"\nmaster = "{master}"')
        assert problem.startswith("master: ")

    def test_a_number_belongs_to_one_neighbourhood(self, feeders: Path) -> None:
        content = SMALLEST + NEIGHBOURHOOD + SECOND_NEIGHBOURHOOD.replace("= 2", "= 1")
        assert problems_of(feeders, content) == ["neighbourhoods: number 1 is given 2 times"]

    def test_a_bus_belongs_to_one_neighbourhood(self, feeders: Path) -> None:
        content = SMALLEST + NEIGHBOURHOOD + SECOND_NEIGHBOURHOOD.replace('["2"]', '["2", "1"]')
        assert problems_of(feeders, content) == ["neighbourhoods: bus '1' is listed 2 times"]


class TestAllAtOnce:
    def test_all_mistakes_in_values_are_listed(self, feeders: Path) -> None:
        content = (
            'nmae = "x"\nmaster = "master.dss"\nload_floor = 2\n'
            "[voltage_limits]\nmin_pu = 1.05\nmax_pu = 0.95\n"
        )
        content += NEIGHBOURHOOD.replace("75", "0")
        fields = [problem.split(":")[0] for problem in problems_of(feeders, content)]
        assert sorted(fields) == [
            "load_floor",
            "name",
            "neighbourhoods.0.transformer_kva",
            "nmae",
            "voltage_limits",
        ]

    def test_all_mistakes_between_values_are_listed(self, feeders: Path) -> None:
        content = 'name = "x"\nmaster = "absent.dss"\n' + NEIGHBOURHOOD + NEIGHBOURHOOD
        assert problems_of(feeders, content) == [
            "master: there is no file 'absent.dss' in the feeder's folder",
            "neighbourhoods: number 1 is given 2 times",
            "neighbourhoods: bus '1' is listed 2 times",
        ]

    def test_a_mistake_in_one_value_does_not_hide_those_between_others(self, feeders: Path) -> None:
        """A folder is mended in one go, and not in one go for each kind of mistake."""
        content = 'name = "x"\nmaster = "absent.dss"\nload_floor = 2\n'
        content += NEIGHBOURHOOD + NEIGHBOURHOOD
        problems = problems_of(feeders, content)
        for expected in ("load_floor", "'absent.dss'", "number 1", "bus '1'"):
            assert any(expected in problem for problem in problems), expected


class TestNeighbourhoods:
    def test_neighbourhoods_that_share_nothing_are_well(self) -> None:
        assert neighbourhood_problems((neighbourhood(1, "1"), neighbourhood(2, "2"))) == []
        assert neighbourhood_problems(()) == []

    def test_a_bus_is_the_same_in_any_case(self) -> None:
        """25r and 25R are one bus, in one list or in two."""
        twice = ["neighbourhoods: bus '25r' is listed 2 times"]
        assert twice == neighbourhood_problems((neighbourhood(1, "25r", "25R"),))
        assert twice == neighbourhood_problems((neighbourhood(1, "25r"), neighbourhood(2, "25R")))


class TestAgainstTheCircuit:
    def test_neighbourhoods_that_hold_every_load_fit(self) -> None:
        """Written in any case; a bus without load may be in none."""
        areas = (neighbourhood(1, "1", "25R"),)
        assert circuit_problems(areas, {"1", "25r", "150"}, {"25r"}) == []

    def test_all_that_does_not_fit_is_listed(self) -> None:
        """Bus 9 is not there, transformer bus 8 neither, and bus 3 is left out."""
        area = Neighbourhood(number=4, buses=("1", "9"), transformer_bus="8", transformer_kva=75.0)
        assert circuit_problems((area,), {"1", "3"}, {"1", "3"}) == [
            "neighbourhoods: bus '9' is not in the circuit",
            "neighbourhoods: transformer_bus '8' of number 4 is not in the circuit",
            "neighbourhoods: bus '3' has a load but is in none of them",
        ]

    def test_a_feeder_without_neighbourhoods_fits_any_circuit(self) -> None:
        assert circuit_problems((), {"1"}, {"1"}) == []


class TestSpelling:
    def test_names_are_found_as_the_files_spell_them(self, feeders: Path) -> None:
        """In any of the forms in which OpenDSS lets an element be made; the first one counts."""
        feeder = load(feeders, SMALLEST)
        (feeders / "mine" / "a.dss").write_text(
            "New Load.Load_1 Bus1=1\n"
            "  new object=LOAD.Load_2\n"
            'NEW "Transformer.XFM-1" phases=3\n'
            "! New Load.Comment\n"
            "Edit Load.Edited kW=1\n",
            encoding="utf-8",
        )
        (feeders / "mine" / "b.dss").write_bytes(b"New load.LOAD_1\nNew Line.L\xe9\n")
        spelled = feeder.spelling()
        assert spelled["load.load_1"] == "Load_1"
        assert spelled["load.load_2"] == "Load_2"
        assert spelled["transformer.xfm-1"] == "XFM-1"
        assert "load.comment" not in spelled
        assert "load.edited" not in spelled


@pytest.mark.parametrize("feeder_id", ["ieee13", "ieee34", "ieee37", "ieee123"])
def test_the_feeders_that_come_along_read_well(feeder_id: str) -> None:
    feeder = Feeder.load(Path(__file__).parents[2] / "feeders", feeder_id)
    assert feeder.config.neighbourhoods
