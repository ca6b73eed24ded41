"""The state document against the engine it was read from, element by element, without a broker."""

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from opendssdirect import dss
from support import FEEDERS, State, bus, demands, loads

from schemas.readings import Reading
from schemas.state import State as StateModel
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.topology import topology
from services.solver.twin import Twin

OPEN_ENDS = ("251", "350", "451")
"""Buses of the 123 node feeder behind open switches."""

VOLTAGE_REPEATS_PU = 5e-6
"""How near the same demand and taps come to the same voltage from another start."""


class Solver:
    """What the solver does between messages: demand in, state out."""

    def __init__(self, feeder_id: str) -> None:
        self.feeder = Feeder.load(FEEDERS, feeder_id)
        self.engine = Engine(self.feeder)
        self.circuit = self.engine.circuit
        self._twin = Twin(self.feeder, self.engine)
        self.demand = self._twin.demand
        self._version = 0

    def solve(self) -> State:
        self._version += 1
        encoded = self._twin.cycle(self._version, 1_800_000_000.0).state
        StateModel.model_validate_json(encoded)
        state: State = json.loads(encoded, parse_constant=_no_number)
        return state

    def all_different(self) -> State:
        """Solved with every load at a demand of its own, so that figures can be told apart."""
        for index, load in enumerate(self.circuit.loads):
            share = 0.5 + 0.011 * index % 0.6
            if index % 3 == 0:
                self.demand.pin(load.bus, load.name, load.kw * share, None)
            elif index % 3 == 1:
                reading = Reading(kw=load.kw * share, kvar=load.kvar * 0.7)
                self.demand.take_reading(
                    load.bus, load.name, reading, 1_799_999_000.0 + index, retained=False
                )
            else:
                self.demand.set_bus_factor(load.bus, share)
        return self.solve()


def _no_number(name: str) -> float:
    raise AssertionError(f"{name} in a state")


def voltages(state: State) -> dict[tuple[str, str], float]:
    return {
        (details["bus"], phase): voltage["v_pu"]
        for details in state["bus_details"]
        for phase, voltage in details["phases"].items()
    }


def solved_figures(state: State) -> dict[str, Any]:
    """Everything in a state that comes from the engine."""
    return {
        "summary": state["power_summary"],
        "profile": state["voltage_profile"],
        "taps": state["taps"],
        "transformers": state["transformers"],
        "voltages": [details["phases"] for details in state["bus_details"]],
        "drawn": {name: (load["kw"], load["kvar"]) for name, load in loads(state).items()},
    }


@pytest.fixture(params=["ieee123", "ieee13"])
def solver(request: pytest.FixtureRequest) -> Iterator[Solver]:
    yield Solver(request.param)
    dss.Basic.ClearAll()


@pytest.fixture
def ieee123() -> Iterator[Solver]:
    yield Solver("ieee123")
    dss.Basic.ClearAll()


class TestEveryFigureIsInItsPlace:
    def test_voltages_are_those_of_their_bus_and_phase(self, solver: Solver) -> None:
        state = solver.all_different()
        compared = 0
        for details in state["bus_details"]:
            dss.Circuit.SetActiveBus(details["bus"])
            polar = list(dss.Bus.puVmagAngle())
            expected = {
                "ABC"[node - 1]: (polar[2 * row], polar[2 * row + 1])
                for row, node in enumerate(dss.Bus.Nodes())
            }
            if "AB" in details["phases"]:
                continue
            assert set(details["phases"]) == set(expected)
            for phase, (magnitude, angle) in expected.items():
                shown = details["phases"][phase]
                assert shown["v_pu"] == pytest.approx(magnitude, abs=1e-6)
                if magnitude > 0.1:
                    assert shown["angle_deg"] == pytest.approx(angle, abs=1e-4)
                compared += 1
        assert compared > 30

    def test_base_voltages_are_line_to_line(self, solver: Solver) -> None:
        for details in solver.solve()["bus_details"]:
            dss.Circuit.SetActiveBus(details["bus"])
            assert details["kv_base"] == pytest.approx(dss.Bus.kVBase() * math.sqrt(3), abs=1e-5)

    def test_loads_draw_what_their_element_draws(self, solver: Solver) -> None:
        state = solver.all_different()
        for (bus_name, name), load in loads(state).items():
            dss.Loads.Name(name)
            assert dss.CktElement.BusNames()[0].split(".")[0] == bus_name
            powers = list(dss.CktElement.Powers())
            assert load["kw"] == pytest.approx(sum(powers[0::2]), abs=1e-3)
            assert load["kvar"] == pytest.approx(sum(powers[1::2]), abs=1e-3)
            assert load["set_kw"] == pytest.approx(dss.Loads.kW(), rel=1e-12)

    def test_loads_bear_the_demand_that_was_asked_for(self, solver: Solver) -> None:
        state = solver.all_different()
        expected = {
            (solver.circuit.loads[each.row].bus, solver.circuit.loads[each.row].name): (
                each.kw,
                each.kw,
                each.factor,
                each.source.value,
            )
            for each in solver.demand.demands()
        }
        assert demands(state) == expected
        assert {source for *_, source in expected.values()} == {"operator", "meter", "nominal"}
        assert state["oldest_reading_s"] == 1000.0 - 1

    def test_what_is_pinned_or_metered_draws_constant_power(self, solver: Solver) -> None:
        for name, load in loads(solver.all_different()).items():
            if load["source"] != "nominal":
                near = max(0.01, 0.001 * abs(load["set_kw"]))
                assert load["kw"] == pytest.approx(load["set_kw"], abs=near), name
            else:
                assert load["kw"] == pytest.approx(load["set_kw"], rel=0.12), name

    def test_buses_draw_what_their_loads_draw(self, solver: Solver) -> None:
        for details in solver.all_different()["bus_details"]:
            for of_bus, of_load in (("load_kw", "kw"), ("load_kvar", "kvar"), ("net_kw", "kw")):
                drawn = sum(load[of_load] for load in details["loads"])
                assert details[of_bus] == pytest.approx(drawn, abs=1e-3)

    def test_the_summary_is_what_the_circuit_says(self, solver: Solver) -> None:
        summary = solver.all_different()["power_summary"]
        imported = [-figure for figure in dss.Circuit.TotalPower()]
        lost = [figure / 1000 for figure in dss.Circuit.Losses()]
        assert summary["total_circuit_power_kw"] == pytest.approx(imported[0], abs=1e-3)
        assert summary["total_circuit_power_kvar"] == pytest.approx(imported[1], abs=1e-3)
        assert summary["total_losses_kw"] == pytest.approx(lost[0], abs=1e-3)
        assert summary["total_losses_kvar"] == pytest.approx(lost[1], abs=1e-3)
        used = summary["total_load_kw"] + summary["total_losses_kw"]
        assert summary["total_circuit_power_kw"] == pytest.approx(used, abs=0.5)

    def test_taps_are_those_of_their_regulator(self, solver: Solver) -> None:
        state = solver.all_different()
        assert len(state["taps"]) == dss.RegControls.Count()
        for name, tap in state["taps"].items():
            dss.RegControls.Name(name)
            assert tap == dss.RegControls.TapNumber()

    def test_the_voltage_profile_is_drawn_from_the_buses(self, solver: Solver) -> None:
        state = solver.all_different()
        profile = state["voltage_profile"]
        energised = {name: v for name, v in voltages(state).items() if v > 1e-3}
        lowest = min(energised, key=lambda name: energised[name])
        highest = max(energised, key=lambda name: energised[name])
        assert profile["min_voltage_pu"] == energised[lowest]
        assert profile["min_voltage_bus"] == lowest[0]
        assert profile["max_voltage_pu"] == energised[highest]
        assert profile["max_voltage_bus"] == highest[0]
        average = sum(energised.values()) / len(energised)
        assert profile["avg_voltage_pu"] == pytest.approx(average, abs=2e-6)

    def test_violations_are_all_voltages_beyond_a_limit(self, solver: Solver) -> None:
        for load in solver.circuit.loads:
            solver.demand.set_bus_factor(load.bus, 1.6)
        state = solver.solve()
        assert state["converged"]
        expected = {
            (bus_name, phase, v, "undervoltage" if v < 1 else "overvoltage")
            for (bus_name, phase), v in voltages(state).items()
            if 1e-3 < v < 0.95 - 5e-4 or v > 1.05 + 5e-4
        }
        found = state["voltage_profile"]["violations"]
        assert {(v["bus"], v["phase"], v["v_pu"], v["kind"]) for v in found} == expected
        assert len(expected) == len(found) > 0
        assert state["management_status"]["status"] == "ALERT"

    def test_service_transformers_carry_their_neighbourhood(self, solver: Solver) -> None:
        state = solver.all_different()
        service = {t["name"]: t for t in state["transformers"] if t["kind"] == "service"}
        areas = solver.feeder.config.neighbourhoods
        assert len(service) == len(areas)
        for area in areas:
            found = service[f"neighbourhood_{area.number}"]
            buses = [bus(state, name.lower()) for name in area.buses]
            kva = math.hypot(sum(b["load_kw"] for b in buses), sum(b["load_kvar"] for b in buses))
            assert found["loading_kva"] == pytest.approx(kva, abs=1e-2)
            percent = 100 * kva / area.transformer_kva
            assert found["loading_percent"] == pytest.approx(percent, abs=1e-2)
            assert found["status"] == ("OVERLOADED" if percent > 100 else "OK")
            assert found["bus"] == area.transformer_bus.lower()

    def test_buses_are_in_the_neighbourhood_of_feeder_toml(self, solver: Solver) -> None:
        expected = {
            name.lower(): area.number
            for area in solver.feeder.config.neighbourhoods
            for name in area.buses
        }
        for details in solver.solve()["bus_details"]:
            assert details["neighbourhood"] == expected.get(details["bus"])

    def test_the_topology_has_the_same_buses_and_loads(self, solver: Solver) -> None:
        state = solver.solve()
        found = topology(solver.feeder, solver.circuit)
        assert [b.bus for b in found.buses] == [b["bus"] for b in state["bus_details"]]
        assert {(load.bus, load.name) for load in found.loads} == set(loads(state))


class TestIeee123:
    def test_an_ungrounded_bus_shows_its_voltages_between_phases(self, ieee123: Solver) -> None:
        """Bus 610 is behind a delta winding: 0.48 kV between phases."""
        details = bus(ieee123.solve(), "610")
        assert list(details["phases"]) == ["AB", "BC", "CA"]
        assert details["kv_base"] == pytest.approx(0.48)
        dss.Circuit.SetActiveBus("610")
        flat = list(dss.Bus.Voltages())
        a, b, c = (complex(flat[2 * n], flat[2 * n + 1]) for n in range(3))
        for phase, across in (("AB", a - b), ("BC", b - c), ("CA", c - a)):
            assert details["phases"][phase]["v_pu"] == pytest.approx(abs(across) / 480, abs=1e-6)
            assert 0.9 < details["phases"][phase]["v_pu"] < 1.1

    def test_buses_behind_open_switches_are_shown_and_count_for_nothing(
        self, ieee123: Solver
    ) -> None:
        state = ieee123.solve()
        for name in OPEN_ENDS:
            assert {v["v_pu"] for v in bus(state, name)["phases"].values()} == {0.0}
        profile = state["voltage_profile"]
        assert profile["min_voltage_pu"] > 0.9
        assert profile["min_voltage_bus"] not in OPEN_ENDS
        assert not {v["bus"] for v in profile["violations"]} & set(OPEN_ENDS)
        assert state["management_status"] == {"status": "OK", "management_log": []}

    def test_a_feeder_without_load_is_a_feeder(self, ieee123: Solver) -> None:
        for load in ieee123.circuit.loads:
            ieee123.demand.set_bus_factor(load.bus, 0.0)
        state = ieee123.solve()
        assert state["converged"]
        assert state["power_summary"]["total_load_kw"] == pytest.approx(0, abs=1e-6)


class TestNoConvergence:
    @pytest.mark.parametrize("kw", [1e6, -1e6])
    @pytest.mark.parametrize("which", [0, 1, -1])
    def test_the_last_good_figures_stay_until_it_converges_again(
        self, solver: Solver, which: int, kw: float
    ) -> None:
        solver.solve()
        before = solver.solve()
        load = solver.circuit.loads[which]
        solver.demand.pin(load.bus, load.name, kw, None)
        for _ in range(2):
            failed = solver.solve()
            assert failed["converged"] is False
            assert failed["management_status"]["status"] == "ERROR"
            assert failed["management_status"]["management_log"]
            assert loads(failed)[load.bus, load.name]["demand_kw"] == kw
            assert solved_figures(failed) == solved_figures(before)
        solver.demand.release(load.bus, load.name)
        after = solver.solve()
        assert after["converged"] is True
        assert after["management_status"]["status"] == before["management_status"]["status"]
        assert demands(after) == demands(before)
        if after["taps"] == before["taps"]:  # they depend on the path, as they do in the field
            assert voltages(after) == pytest.approx(voltages(before), abs=VOLTAGE_REPEATS_PU)
        assert_solved_with_these_taps(solver.feeder.id, after)

    @pytest.mark.parametrize("kw", [1e4, 1e5, 1e6, -1e6])
    @pytest.mark.parametrize("start", ["from a solution", "from the start"])
    def test_a_pinned_load_draws_what_is_left_of_its_pin_or_the_state_is_an_error(
        self, solver: Solver, start: str, kw: float
    ) -> None:
        """Below vminpu a load turns into an impedance: the engine then finds a solution in which
        it draws next to nothing, at next to no voltage.
        """
        if start == "from a solution":
            solver.solve()
        load = solver.circuit.loads[0]
        solver.demand.pin(load.bus, load.name, kw, None)
        state = solver.solve()
        if state["converged"]:
            drawn = loads(state)[load.bus, load.name]
            assert drawn["kw"] == pytest.approx(drawn["set_kw"], rel=1e-3)
            if drawn["set_kw"] < kw:
                # Relief leaves no less than half of the demand: the floor of these feeders.
                assert drawn["set_kw"] >= 0.5 * kw
                assert drawn["held_by"]
            else:
                assert drawn["set_kw"] == kw
        else:
            assert state["management_status"]["status"] == "ERROR"


def assert_solved_with_these_taps(feeder_id: str, state: State) -> None:
    """The voltages are those of a fresh engine with nominal demand and the taps locked there."""
    fresh = Solver(feeder_id)
    dss.Solution.ControlMode(-1)
    for name, tap in state["taps"].items():
        dss.RegControls.Name(name)
        dss.RegControls.TapNumber(tap)
    assert voltages(state) == pytest.approx(voltages(fresh.solve()), abs=VOLTAGE_REPEATS_PU)
