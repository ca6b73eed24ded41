"""The drawing of a feeder, on a street of five buses small enough to place by hand."""

import json
import re
from collections.abc import Iterator
from time import process_time
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from flexfeeder.drawing import svg
from schemas.state import State
from schemas.topology import Topology

GREY = "#5d6b7c"
Document = dict[str, Any]


def bus(name: str, x: float | None, y: float | None, km: float, phases: str = "ABC") -> Document:
    return {
        "bus": name,
        "phases": list(phases),
        "kv_base": 4.16,
        "x": x,
        "y": y,
        "distance_km": km,
        "neighbourhood": None,
    }


def line(a: str, b: str, phases: str = "ABC", *, switch: bool = False, closed: bool = True) -> Any:
    return {
        "name": f"{a}_{b}",
        "from_bus": a,
        "to_bus": b,
        "phases": list(phases),
        "length_km": 1.0,
        "is_switch": switch,
        "closed": closed,
    }


def bus_state(name: str, **pu: float) -> Document:
    return {
        "bus": name,
        "kv_base": 4.16,
        "phases": {phase: {"v_pu": v_pu, "angle_deg": 0.0} for phase, v_pu in pu.items()},
        **dict.fromkeys(("load_kw", "load_kvar", "gen_kw", "net_kw"), 0.0),
        "neighbourhood": None,
        **{many: [] for many in ("loads", "devices", "generators", "dfps")},
    }


@pytest.fixture
def topology() -> Document:
    """source =reg= head --- end, with a lateral on B, and an open switch from end to dead."""
    return {
        "feeder": "street",
        "name": "High Street",
        "buses": [
            bus("source", 0, 0, 0),
            bus("head", 100, 0, 0),
            bus("end", 300, 0, 2),
            bus("lateral", 100, 50, 1, "B"),
            bus("dead", 400, 0, 2.001),
        ],
        "lines": [
            line("head", "end"),
            line("head", "lateral", "B"),
            line("end", "dead", switch=True, closed=False),
        ],
        "transformers": [
            {"name": f"reg{p}", "kind": "regulator", "buses": ["source", "head"], "kva": 500.0}
            for p in "abc"
        ],
        "loads": [],
        "neighbourhoods": [],
    }


@pytest.fixture
def state() -> Document:
    return {
        "feeder": "street",
        "version": 42,
        "solved_at": "2026-11-22T13:11:10.056+01:00",
        "converged": True,
        "iterations": 3,
        "oldest_reading_s": None,
        "taps": {"rega": 7, "regb": -2, "regc": 0},
        "management_status": {"status": "OK", "management_log": []},
        "power_summary": {
            "total_circuit_power_kw": 3589.722,
            "total_circuit_power_kvar": 0.0,
            "total_losses_kw": 95.2723,
            "total_losses_kvar": 0.0,
            "total_load_kw": 3494.45,
            "total_generation_kw": 0.0,
        },
        "voltage_profile": {
            "min_voltage_pu": 0.96,
            "min_voltage_bus": "end",
            "max_voltage_pu": 1.04,
            "max_voltage_bus": "head",
            "avg_voltage_pu": 1.0,
            "violations": [],
        },
        "bus_details": [
            bus_state("source", A=1.0, B=1.0, C=1.0),
            bus_state("head", A=1.04, B=1.03, C=1.02),
            bus_state("end", A=0.96, B=0.97, C=0.98),
            bus_state("lateral", B=1.01),
            bus_state("dead", A=0.0, B=0.0, C=0.0),
        ],
        "transformers": [
            {
                "name": "service",
                "kind": "service",
                "bus": "end",
                "rating_kva": 100.0,
                "loading_kva": 80.0,
                "loading_percent": 80.0,
                "status": "OK",
            }
        ],
        "adjustments": {"revision": 0, "programs": []},
    }


def local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def title(element: ET.Element) -> str:
    return next((child.text or "" for child in element if local(child) == "title"), "")


class Picture:
    """What a reader finds in the drawing, by the titles that a pointer would show."""

    def __init__(self, text: str) -> None:
        self.root = ET.fromstring(text)

    def named(self, start: str) -> list[ET.Element]:
        return [element for element in self.root.iter() if title(element).startswith(start)]

    def bus(self, name: str) -> ET.Element:
        (found,) = (e for e in self.named(f"{name}:") if local(e) == "circle")
        return found

    def symbols(self, kind: str) -> list[ET.Element]:
        """Symbols of the map; those of the legend have no title."""
        return [e for e in self.root.iter() if e.get("class") == kind and title(e)]

    def dots(self, phase: str) -> list[tuple[float, float]]:
        """Places on the profile of the buses with a phase."""
        paths = self.named(f"phase {phase}, buses")
        return [
            (float(x), float(y))
            for path in paths
            for x, y in re.findall(r"M(\S+) (\S+?)h0", path.attrib["d"])
        ]

    def segments(self, phase: str) -> int:
        return sum(
            e.attrib["d"].count("M") for e in self.named(f"phase {phase}") if "L" in e.attrib["d"]
        )

    def texts(self) -> Iterator[str]:
        return (e.text or "" for e in self.root.iter() if local(e) == "text")


def test_the_documents_of_these_tests_are_valid(topology: Document, state: Document) -> None:
    """What is drawn here is what the solver could send."""
    Topology.model_validate_json(json.dumps(topology))
    State.model_validate_json(json.dumps(state))


class TestHeader:
    def test_says_what_was_solved_and_when(self, topology: Document, state: Document) -> None:
        """Name, status, source power, losses, time in UTC, version, lowest and highest voltage."""
        texts = set(Picture(svg(topology, state)).texts())
        assert {
            "High Street",
            "Converged, within all limits",
            "3,590 kW",
            "95.3 kW",
            "solved 2026-11-22 12:11:10 UTC, version 42",
            "0.960 pu",
            "1.040 pu",
        } <= texts

    def test_export_is_negative(self, topology: Document, state: Document) -> None:
        """A feeder that feeds back 312.4 kW has a source power of -312.4 kW, with a true minus."""
        state["power_summary"]["total_circuit_power_kw"] = -312.4
        assert "−312.4 kW" in Picture(svg(topology, state)).texts()  # noqa: RUF001

    def test_a_failed_solve_is_said(self, topology: Document, state: Document) -> None:
        """Without convergence nothing is said about limits."""
        state["converged"] = False
        assert "Not converged" in Picture(svg(topology, state)).texts()

    def test_has_a_description_in_words(self, topology: Document, state: Document) -> None:
        """A screen reader hears the size, the extremes and the status."""
        expected = (
            "Map and voltage profile of High Street: 5 buses, 1 of them de-energised, lowest"
            " 0.960 pu at end A, highest 1.040 pu at head A, solved 2026-11-22 12:11:10 UTC."
            " Converged, within all limits."
        )
        root = Picture(svg(topology, state)).root
        assert ("img", expected) == (root.get("role"), root.get("aria-label"))


class TestMap:
    def test_y_points_up(self, topology: Document, state: Document) -> None:
        """The lateral, 50 units above the main, is drawn above it: at a smaller y in SVG."""
        picture = Picture(svg(topology, state))
        assert float(picture.bus("lateral").attrib["cy"]) < float(picture.bus("head").attrib["cy"])

    def test_scale_is_the_same_in_both_directions(
        self, topology: Document, state: Document
    ) -> None:
        """400 units fill the map's 604 px, so 50 units are 75.5 px high."""
        picture = Picture(svg(topology, state))
        x, y = (
            [float(picture.bus(name).attrib[key]) for name in names]
            for key, names in (("cx", ("source", "dead")), ("cy", ("lateral", "head")))
        )
        assert pytest.approx((x[1] - x[0], y[1] - y[0]), abs=0.2) == (604.0, 75.5)

    def test_voltages_are_told_apart_by_colour(self, topology: Document, state: Document) -> None:
        """Buses at a mean of 1.03, 1.00 and 0.97 pu have three colours."""
        picture = Picture(svg(topology, state))
        assert len({picture.bus(name).attrib["fill"] for name in ("head", "source", "end")}) == 3

    def test_the_scale_is_centred_on_nominal(self, topology: Document, state: Document) -> None:
        """1.00 pu is the middle of the scheme, 0.95 and 1.05 pu its ends, and 1.20 as 1.05."""
        for name, pu in (("source", 1.0), ("head", 0.95), ("end", 1.05), ("lateral", 1.2)):
            details = next(b for b in state["bus_details"] if b["bus"] == name)
            details["phases"] = bus_state(name, B=pu)["phases"]
        picture = Picture(svg(topology, state))
        actual = [picture.bus(n).attrib["fill"] for n in ("head", "source", "end", "lateral")]
        assert actual == ["#4a7bb7", "#eaeccc", "#dd3d2d", "#dd3d2d"]

    def test_a_lateral_has_the_colour_of_its_own_phase(
        self, topology: Document, state: Document
    ) -> None:
        """Phases A and C of the bus it leaves do not change the colour of a lateral on B."""
        before = Picture(svg(topology, state)).named("line head_lateral B")[0].attrib["stroke"]
        head = state["bus_details"][1]["phases"]
        head["A"]["v_pu"] = head["C"]["v_pu"] = 0.96
        after = Picture(svg(topology, state)).named("line head_lateral B")[0].attrib["stroke"]
        assert before == after

    def test_a_bus_without_voltage_is_grey(self, topology: Document, state: Document) -> None:
        """So is one that the state does not know; one with voltage is not."""
        del state["bus_details"][3]
        picture = Picture(svg(topology, state))
        actual = [picture.bus(name).attrib["fill"] == GREY for name in ("dead", "lateral", "end")]
        assert actual == [True, True, False]

    def test_an_open_switch_is_dashed(self, topology: Document, state: Document) -> None:
        """Its line is dashed and it has the symbol of an open switch; a closed line is neither."""
        picture = Picture(svg(topology, state))
        (switch,) = (e for e in picture.named("switch end_dead") if local(e) == "path")
        (main,) = picture.named("line head_end")
        assert switch.get("stroke-dasharray")
        assert main.get("stroke-dasharray") is None
        assert (len(picture.symbols("open")), len(picture.symbols("closed"))) == (1, 0)

    def test_a_closed_switch_is_not_dashed(self, topology: Document, state: Document) -> None:
        """Closed, the same switch has a solid line and the other symbol."""
        topology["lines"][2]["closed"] = True
        picture = Picture(svg(topology, state))
        assert all(e.get("stroke-dasharray") is None for e in picture.named("switch end_dead"))
        assert (len(picture.symbols("open")), len(picture.symbols("closed"))) == (0, 1)

    def test_regulators_side_by_side_share_a_symbol(
        self, topology: Document, state: Document
    ) -> None:
        """Three single-phase regulators are one symbol, which tells each one's tap."""
        (symbol,) = Picture(svg(topology, state)).symbols("regulator")
        expected = ["regulator rega, tap +7", "regulator regb, tap -2", "regulator regc, tap +0"]
        assert expected == title(symbol).splitlines()

    def test_a_transformer_to_phase_pairs_has_a_colour(
        self, topology: Document, state: Document
    ) -> None:
        """Behind a delta winding there are pairs AB, BC and CA: energised, so not grey."""
        topology["transformers"][0] |= {
            "name": "t1",
            "kind": "transformer",
            "buses": ["end", "dead"],
        }
        state["bus_details"][4] = bus_state("dead", AB=0.96, BC=0.97, CA=0.98)
        picture = Picture(svg(topology, state))
        (branch,) = (e for e in picture.named("transformer t1") if local(e) == "path")
        assert branch.attrib["stroke"] != GREY
        assert len(picture.symbols("transformer")) == 1

    def test_the_source_is_marked(self, topology: Document, state: Document) -> None:
        """The first bus at distance 0 is the source, though `head` has no line before it either."""
        (source,) = Picture(svg(topology, state)).symbols("source")
        assert title(source).startswith("Source, source:")

    def test_extremes_are_labelled(self, topology: Document, state: Document) -> None:
        """Lowest is A at the end, 0.96 pu, highest A at the head, 1.04 pu; 0 pu is neither."""
        texts = list(Picture(svg(topology, state)).texts())
        assert {"lowest 0.960", "bus end A", "highest 1.040", "bus head A"} <= set(texts)

    def test_an_overloaded_transformer_is_highlighted(
        self, topology: Document, state: Document
    ) -> None:
        """A warning with its loading, in the map and in the header."""
        state["transformers"][0] |= {"status": "OVERLOADED", "loading_percent": 118.2}
        picture = Picture(svg(topology, state))
        (warning,) = picture.symbols("overload")
        assert title(warning) == "service: 118 % of 100 kVA"
        assert {"118 %", "Converged, 1 transformer overloaded"} <= set(picture.texts())

    def test_a_bus_outside_limits_is_ringed(self, topology: Document, state: Document) -> None:
        """One ring for a bus, however many of its phases violate the solver's limits."""
        state["voltage_profile"]["violations"] = [
            {"bus": "end", "phase": p, "v_pu": 0.9, "limit_pu": 0.95, "kind": "undervoltage"}
            for p in "AB"
        ]
        picture = Picture(svg(topology, state))
        assert len(picture.symbols("violation")) == 1
        assert "Converged, 1 bus outside limits" in picture.texts()

    def test_a_bus_without_coordinates_is_left_off(
        self, topology: Document, state: Document
    ) -> None:
        """It and its lines are not on the map, and it keeps its place in the profile."""
        topology["buses"][2] |= {"x": None, "y": None}
        picture = Picture(svg(topology, state))
        assert not picture.named("end:")
        assert not picture.named("line head_end")
        assert len(picture.dots("A")) == 3

    def test_a_feeder_without_coordinates_still_has_a_profile(
        self, topology: Document, state: Document
    ) -> None:
        """The map says why it is empty."""
        for place in topology["buses"]:
            place |= {"x": None, "y": None}
        picture = Picture(svg(topology, state))
        assert "No bus has coordinates" in picture.texts()
        assert len(picture.dots("A")) == 3

    def test_buses_may_share_one_place(self, topology: Document, state: Document) -> None:
        """A feeder whose coordinates are all the same is drawn in the middle, without a scale."""
        for place in topology["buses"]:
            place |= {"x": 7.0, "y": 7.0}
        assert Picture(svg(topology, state)).bus("end").attrib["cx"] == "366"


class TestProfile:
    def test_every_energised_phase_of_every_bus_appears(
        self, topology: Document, state: Document
    ) -> None:
        """A and C at source, head and end; B at the lateral too; nothing at the dead bus."""
        picture = Picture(svg(topology, state))
        assert [len(picture.dots(phase)) for phase in "ABC"] == [3, 4, 3]

    def test_lines_follow_the_branches(self, topology: Document, state: Document) -> None:
        """The regulators' jump and the main for each phase, and the lateral for B."""
        picture = Picture(svg(topology, state))
        assert [picture.segments(phase) for phase in "ABC"] == [2, 3, 2]

    def test_an_open_switch_joins_nothing(self, topology: Document, state: Document) -> None:
        """Not even where both of its ends have voltage."""
        before = Picture(svg(topology, state)).segments("A")
        state["bus_details"][4] = bus_state("dead", A=1.0, B=1.0, C=1.0)
        assert before == Picture(svg(topology, state)).segments("A")

    def test_voltage_is_up_and_distance_to_the_right(
        self, topology: Document, state: Document
    ) -> None:
        """A: source at 0 km and 1.00, head at 0 km and 1.04, end at 2 km and 0.96 pu."""
        source, head, end = Picture(svg(topology, state)).dots("A")
        assert source[0] == head[0] < end[0]
        assert head[1] < source[1] < end[1]

    def test_phase_pairs_have_their_own_marks(self, topology: Document, state: Document) -> None:
        """An ungrounded bus has AB, BC and CA, named in the key."""
        state["bus_details"][4] = bus_state("dead", AB=0.96, BC=0.97, CA=0.98)
        picture = Picture(svg(topology, state))
        assert [len(picture.dots(pair)) for pair in ("AB", "BC", "CA")] == [1, 1, 1]
        assert "AB BC CA" in picture.texts()


class TestDocument:
    def test_names_are_escaped(self, topology: Document, state: Document) -> None:
        """A bus `<a&b>` and a feeder `"Q" & <co>` come back from the parsed drawing unchanged."""
        topology["name"] = '"Q" & <co>'
        topology["buses"][2]["bus"] = state["bus_details"][2]["bus"] = "<a&b>"
        topology["lines"] = [line("head", "<a&b>")]
        picture = Picture(svg(topology, state))
        assert title(picture.bus("<a&b>")) == "<a&b>: A 0.9600, B 0.9700, C 0.9800"
        assert {'"Q" & <co>', "bus <a&b> A"} <= set(picture.texts())

    def test_characters_that_xml_forbids_are_replaced(
        self, topology: Document, state: Document
    ) -> None:
        """A control character, legal in JSON, does not spoil the file."""
        topology["name"] = "High\u0000Street"
        assert "High\ufffdStreet" in Picture(svg(topology, state)).texts()

    def test_stands_alone(self, topology: Document, state: Document) -> None:
        """It has its own ground and fetches nothing: GitHub shows it as it is."""
        text = svg(topology, state)
        first = next(e for e in Picture(text).root if local(e) == "rect")
        assert (first.get("width"), first.get("height")) == ("1200", "660")
        assert not re.search(r"href|<script|<style|@import|url\((?!#)", text)

    def test_the_same_documents_give_the_same_bytes(
        self, topology: Document, state: Document
    ) -> None:
        """So the picture in a repository changes only when the feeder does."""
        assert svg(topology, state) == svg(
            json.loads(json.dumps(topology)), json.loads(json.dumps(state))
        )

    def test_a_dead_feeder_is_drawn(self, topology: Document, state: Document) -> None:
        """Without any voltage all buses are grey and the profile has its axes only."""
        for details in state["bus_details"]:
            for value in details["phases"].values():
                value["v_pu"] = 0.0
        picture = Picture(svg(topology, state))
        assert {GREY} == {picture.bus(b["bus"]).attrib["fill"] for b in topology["buses"]}
        assert not picture.dots("A")

    def test_a_feeder_of_132_buses_takes_less_than_120_kb(self, state: Document) -> None:
        """A comb of 132 three-phase buses, with numbers of many digits."""
        assert len(svg(*comb(132, state)).encode()) < 120_000

    def test_a_feeder_of_8500_buses_takes_less_than_2_s(self, state: Document) -> None:
        """The size of the IEEE 8500-node feeder."""
        documents = comb(8500, state)
        start = process_time()
        svg(*documents)
        assert process_time() - start < 2


def comb(size: int, state: Document) -> tuple[Document, Document]:
    """A main with a lateral of ten buses at each of its buses."""
    buses, lines, details = [], [], []
    for number in range(size):
        along, out = divmod(number, 11)
        buses.append(bus(f"b{number}", along * 31.7, out * 17.3, (along + out) * 0.137))
        volts = 1.05 - 0.0001234 * (along + out) / size * 1000
        details.append(bus_state(f"b{number}", A=volts, B=volts - 0.00123, C=volts - 0.00234))
        if number:
            before = number - 1 if out else number - 11
            lines.append(line(f"b{before}", f"b{number}"))
    topology = {"name": "Comb", "buses": buses, "lines": lines, "transformers": []}
    return topology, state | {"bus_details": details}
