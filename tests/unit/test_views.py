"""Views of a feeder of two buses, worked by hand."""

from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from schemas.state import State
from schemas.topology import Topology
from services.gateway import results, views


def load(name: str, demand_kw: float, kw: float, *held_by: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "demand_kw": demand_kw,
        "set_kw": kw,
        "kw": kw,
        "kvar": kw / 2,
        "factor": 1.0,
        "source": "meter",
        "held_by": list(held_by),
        "not_following": False,
        **more,
    }


def generator(name: str, available_kw: float, kw: float, *held_by: str) -> dict[str, Any]:
    return {
        "name": name,
        "available_kw": available_kw,
        "set_kw": kw,
        "kw": kw,
        "kvar": 0.0,
        "source": "operator",
        "held_by": list(held_by),
        "not_following": False,
    }


BUS_1: dict[str, Any] = {
    "bus": "1",
    "kv_base": 2.4,
    "phases": {"A": {"v_pu": 1.01, "angle_deg": 0.0}, "B": {"v_pu": 1.02, "angle_deg": -120.0}},
    "load_kw": 26.0,
    "load_kvar": 13.0,
    "gen_kw": 0.0,
    "net_kw": 26.0,
    "neighbourhood": 1,
    "loads": [load("Load_1", 40.0, 20.0, "peak", "Neighbourhood_1")],
    "devices": [load("EV", 7.0, 6.0, "peak", not_following=True), load("Heater", 5.0, 0.0, "sub")],
    "generators": [],
    "dfps": ["peak"],
}

BUS_2A: dict[str, Any] = {
    "bus": "2a",
    "kv_base": 2.4,
    "phases": {"A": {"v_pu": 0.94, "angle_deg": -1.0}, "C": {"v_pu": 0.0, "angle_deg": 0.0}},
    "load_kw": 0.0,
    "load_kvar": 0.0,
    "gen_kw": 30.0,
    "net_kw": -30.0,
    "neighbourhood": 2,
    "loads": [],
    "devices": [],
    "generators": [generator("gen_1", 50.0, 30.0, "neighbourhood_2")],
    "dfps": [],
}


def transformer(name: str, kind: str, bus: str, percent: float) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "bus": bus,
        "rating_kva": 50.0,
        "loading_kva": percent / 2,
        "loading_percent": percent,
        "status": "OK" if percent <= 100 else "OVERLOADED",
    }


SERVICE_1 = transformer("neighbourhood_1", "service", "1", 58.1)
SERVICE_2 = transformer("neighbourhood_2", "service", "2a", 110.0)
SUBSTATION = transformer("Sub", "transformer", "1", 20.0)

VOLTAGES: dict[str, Any] = {
    "min_voltage_pu": 0.94,
    "min_voltage_bus": "2a",
    "max_voltage_pu": 1.02,
    "max_voltage_bus": "1",
    "avg_voltage_pu": 0.99,
    "violations": [
        {"bus": "2a", "phase": "A", "v_pu": 0.94, "limit_pu": 0.95, "kind": "undervoltage"}
    ],
}

STATE: dict[str, Any] = {
    "feeder": "two",
    "version": 42,
    "solved_at": "2026-11-22T10:00:00Z",
    "converged": True,
    "iterations": 3,
    "oldest_reading_s": 1.5,
    "taps": {},
    "management_status": {"status": "ALERT", "management_log": ["2a is low"]},
    "power_summary": {
        "total_circuit_power_kw": -3.9,
        "total_circuit_power_kvar": 13.2,
        "total_losses_kw": 0.1,
        "total_losses_kvar": 0.2,
        "total_load_kw": 26.0,
        "total_generation_kw": 30.0,
    },
    "voltage_profile": VOLTAGES,
    "bus_details": [BUS_2A, BUS_1],
    "transformers": [SERVICE_1, SERVICE_2, SUBSTATION],
    "adjustments": {"revision": 1, "programs": ["peak"]},
}


def node(bus: str, distance_km: float, area: int) -> dict[str, Any]:
    return {
        "bus": bus,
        "phases": ["A"],
        "kv_base": 2.4,
        "x": 1.0,
        "y": None,
        "distance_km": distance_km,
        "neighbourhood": area,
    }


def area(number: int, bus: str) -> dict[str, Any]:
    return {"number": number, "buses": [bus], "transformer_bus": bus, "transformer_kva": 50.0}


TOPOLOGY: dict[str, Any] = {
    "feeder": "two",
    "name": "Two buses",
    "buses": [node("1", 0.1, 1), node("2a", 0.4, 2)],
    "lines": [],
    "transformers": [],
    "loads": [
        {"name": "Load_1", "bus": "1", "phases": ["A"], "nominal_kw": 40.0, "nominal_kvar": 20.0}
    ],
    "neighbourhoods": [area(1, "1"), area(2, "2a")],
}


def conforms(view: Any, model: Any) -> Any:
    """The view, once it has been found to be what the documentation says of it."""
    TypeAdapter(model).validate_json(orjson.dumps(view))
    return view


def test_the_feeder_of_these_tests_is_one() -> None:
    conforms(STATE, State)
    conforms(TOPOLOGY, Topology)


class TestBus:
    def test_it_is_that_of_the_state_with_its_place_and_version(self) -> None:
        found = conforms(views.bus(STATE, TOPOLOGY, "2A"), results.BusView)
        assert found == {**BUS_2A, "x": 1.0, "y": None, "distance_km": 0.4, "version": 42}

    def test_one_that_the_topology_does_not_have_has_no_place(self) -> None:
        found = conforms(views.bus(STATE, {**TOPOLOGY, "buses": []}, "1"), results.BusView)
        assert (found["x"], found["distance_km"]) == (None, None)

    def test_there_is_none_of_that_name(self) -> None:
        assert views.bus(STATE, TOPOLOGY, "2") is None


class TestNeighbourhoods:
    def test_they_sum_what_their_buses_draw_and_produce(self) -> None:
        first, second = conforms(
            views.neighbourhoods(STATE, TOPOLOGY), list[results.NeighbourhoodView]
        )
        assert first == {
            "number": 1,
            "buses": ["1"],
            "loads": 1,
            "load_kw": 26.0,
            "load_kvar": 13.0,
            "generation_kw": 0.0,
            "min_voltage_pu": 1.01,
            "max_voltage_pu": 1.02,
            "transformer": SERVICE_1,
        }
        assert (second["generation_kw"], second["transformer"]) == (30.0, SERVICE_2)

    def test_a_phase_without_voltage_is_not_the_lowest(self) -> None:
        _, second = views.neighbourhoods(STATE, TOPOLOGY)
        assert (second["min_voltage_pu"], second["max_voltage_pu"]) == (0.94, 0.94)


class TestTransformers:
    @pytest.fixture
    def found(self) -> dict[str, dict[str, Any]]:
        listed = conforms(views.transformers(STATE, TOPOLOGY), list[results.TransformerView])
        return {each["name"]: each for each in listed}

    def test_each_is_that_of_the_state(self, found: dict[str, dict[str, Any]]) -> None:
        assert list(found) == ["neighbourhood_1", "neighbourhood_2", "Sub"]
        for stated in STATE["transformers"]:
            assert found[stated["name"]].items() >= stated.items()

    def test_a_service_transformer_has_its_neighbourhood(
        self, found: dict[str, dict[str, Any]]
    ) -> None:
        assert (found["neighbourhood_2"]["neighbourhood"], found["neighbourhood_2"]["buses"]) == (
            2,
            ["2a"],
        )

    def test_another_has_none(self, found: dict[str, dict[str, Any]]) -> None:
        assert (found["Sub"]["neighbourhood"], found["Sub"]["buses"]) == (None, None)

    def test_it_lists_what_it_holds_and_what_that_would_be_if_free(
        self, found: dict[str, dict[str, Any]]
    ) -> None:
        """Programs hold too, but for no transformer's sake; names are compared without case."""
        assert found["neighbourhood_1"]["holds"] == [
            {"bus": "1", "element": "Load_1", "kind": "load", "wanted_kw": 40.0, "set_kw": 20.0}
        ]
        assert found["neighbourhood_2"]["holds"] == [
            {
                "bus": "2a",
                "element": "gen_1",
                "kind": "generator",
                "wanted_kw": 50.0,
                "set_kw": 30.0,
            }
        ]
        assert found["Sub"]["holds"] == [
            {"bus": "1", "element": "Heater", "kind": "device", "wanted_kw": 5.0, "set_kw": 0.0}
        ]


def test_violations_are_what_is_over_a_limit_or_does_not_follow() -> None:
    assert conforms(views.violations(STATE), results.Violations) == {
        "version": 42,
        "voltages": VOLTAGES["violations"],
        "transformers": [SERVICE_2],
        "not_following": [
            {"bus": "1", "element": "EV", "kind": "device", "kw": 6.0, "held_by": ["peak"]}
        ],
    }


def test_the_voltage_profile_goes_outwards_by_phase() -> None:
    """Phase C of bus 2a is without voltage."""
    found = conforms(views.voltage_profile(STATE, TOPOLOGY), results.VoltageProfileView)
    assert found["phases"] == {
        "A": [
            {"bus": "1", "distance_km": 0.1, "v_pu": 1.01},
            {"bus": "2a", "distance_km": 0.4, "v_pu": 0.94},
        ],
        "B": [{"bus": "1", "distance_km": 0.1, "v_pu": 1.02}],
    }
    assert found["version"] == 42
    assert found["min_voltage_bus"] == "2a"


class TestFeeder:
    def test_it_is_a_line_about_it(self) -> None:
        found = views.feeder("two", STATE, TOPOLOGY, online=True)
        assert conforms(found, results.FeederView) == {
            "feeder": "two",
            "name": "Two buses",
            "solver": "online",
            "version": 42,
            "solved_at": "2026-11-22T10:00:00Z",
            "converged": True,
            "status": "ALERT",
            "buses": 2,
            "loads": 1,
        }

    def test_what_is_not_known_yet_is_null(self) -> None:
        found = conforms(views.feeder("two", None, None, online=False), results.FeederView)
        assert {name for name, value in found.items() if value is not None} == {"feeder", "solver"}


def test_minimal_is_the_summary_and_the_buses_touched() -> None:
    found = conforms(views.minimal(STATE, ("1",)), results.MinimalState)
    assert found == {
        "version": 42,
        "power_summary": STATE["power_summary"],
        "voltage_profile": VOLTAGES,
        "management_status": STATE["management_status"],
        "bus_details": [BUS_1],
    }
