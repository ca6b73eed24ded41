"""Devices and generators in the real engine: what the twin's state says of them holds there.

On the 123 node feeder, whose buses are grounded, and on the 37 node feeder, which has no neutral.
"""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from opendssdirect import dss
from support import FEEDERS, State, bus, demands

from schemas.commands import SOLVER_COMMANDS
from schemas.equipment import DeviceAddition, GeneratorAddition
from schemas.errors import Refusal
from schemas.programs import Adjustments, BusAdjustment, ProgramInForce
from schemas.readings import Reading
from schemas.state import State as StateModel
from services.outcomes import Done
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.handlers import handle
from services.solver.slots import MOST_IDLE
from services.solver.twin import Twin

NOW = 1_800_000_000.0

REPEATS_PU = 1e-5
"""How near the same demand and taps come to the same voltage again."""

LARGE = {"ieee123": "47", "ieee37": "701"}
"""A bus of three phases with loads, and room in its neighbourhood, by feeder."""

LINE_TO_LINE = {"ieee123": 4.16, "ieee37": 4.8}


class Solver:
    """What the solver does between messages: commands in, state out."""

    def __init__(self, feeder_id: str) -> None:
        self.feeder = Feeder.load(FEEDERS, feeder_id)
        self.engine = Engine(self.feeder)
        self.twin = Twin(self.feeder, self.engine)
        self.demand = self.twin.demand
        self.at = LARGE[feeder_id]
        self._version = 0

    def solve(self) -> State:
        self._version += 1
        cycle = self.twin.cycle(self._version, NOW + self._version)
        StateModel.model_validate_json(cycle.state)
        state: State = json.loads(cycle.state)
        assert state["converged"] is cycle.converged
        return state

    def do(self, command: str, body: dict[str, Any]) -> Done:
        """A body of the contract, as it comes from the wire."""
        return handle(SOLVER_COMMANDS[command].validate_json(json.dumps(body)), self.demand)

    def add_device(self, name: str, kw: float, at: str | None = None, **more: Any) -> State:
        bus_name = at or self.at
        self.demand.add_device(DeviceAddition(bus_name=bus_name, device_name=name, kw=kw, **more))
        return self.solve()

    def add_generator(self, name: str, kw: float, at: str | None = None, **more: Any) -> State:
        bus_name = at or self.at
        self.demand.add_generator(
            GeneratorAddition(bus_name=bus_name, generator_name=name, kw=kw, **more)
        )
        return self.solve()


@pytest.fixture(params=list(LARGE))
def solver(request: pytest.FixtureRequest) -> Iterator[Solver]:
    yield Solver(request.param)
    dss.Basic.ClearAll()


@pytest.fixture
def ieee123() -> Iterator[Solver]:
    yield Solver("ieee123")
    dss.Basic.ClearAll()


@pytest.fixture
def ieee37() -> Iterator[Solver]:
    yield Solver("ieee37")
    dss.Basic.ClearAll()


def device(state: State, at: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(d for d in bus(state, at)["devices"] if d["name"] == name)
    return found


def generator(state: State, at: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(g for g in bus(state, at)["generators"] if g["name"] == name)
    return found


def voltages(state: State) -> dict[tuple[str, str], float]:
    return {
        (details["bus"], phase): voltage["v_pu"]
        for details in state["bus_details"]
        for phase, voltage in details["phases"].items()
    }


def imbalance_kw(state: State) -> float:
    """Source + generation - load - losses, in kW."""
    power: dict[str, float] = state["power_summary"]
    return (
        power["total_circuit_power_kw"]
        + power["total_generation_kw"]
        - power["total_load_kw"]
        - power["total_losses_kw"]
    )


def elements() -> int:
    """All that the engine has ever made."""
    return int(dss.Circuit.NumCktElements())


class TestBodiesOfTheContract:
    def test_generators(self, ieee123: Solver) -> None:
        body = {
            "bus_name": "1",
            "kv": 0.48,
            "kw": 50.0,
            "kvar": 10.0,
            "model": 1,
            "vmin_pu": 0.9,
            "vmax_pu": 1.1,
        }
        first = ieee123.do("add_generator", body).results["generator_name"]
        body = {"bus_name": "1", "kw": 100, "phases": 3}
        second = ieee123.do("add_generator", body).results["generator_name"]
        state = ieee123.solve()
        for name, kw, kvar in ((first, 50.0, 10.0), (second, 100.0, 0.0)):
            found = generator(state, "1", name)
            assert found["set_kw"] == found["available_kw"] == kw
            assert found["kw"] == pytest.approx(kw, abs=0.05)
            assert found["kvar"] == pytest.approx(kvar, abs=0.05)
        assert bus(state, "1")["gen_kw"] == pytest.approx(150, abs=0.1)
        for name in (first, second):
            ieee123.do("remove_generator", {"generator_name": name})
        assert bus(ieee123.solve(), "1")["generators"] == []

    def test_devices(self, ieee123: Solver) -> None:
        name = {"bus_name": "1", "device_name": "EV_Charger_1"}
        ieee123.do("add_device", {**name, "kw": 7.2, "kvar": 1.4, "pf": 0.98})
        found = device(ieee123.solve(), "1", "EV_Charger_1")
        assert (found["demand_kw"], found["set_kw"], found["source"]) == (7.2, 7.2, "nominal")
        assert (found["kw"], found["kvar"]) == pytest.approx((7.2, 1.4), abs=0.01)
        ieee123.do("disconnect_device", name)
        ieee123.do("add_device", {**name, "kw": 7.5, "phases": 1})
        found = device(ieee123.solve(), "1", "EV_Charger_1")
        assert (found["kw"], found["kvar"]) == pytest.approx((7.5, 0.0), abs=0.01)
        ieee123.do("disconnect_device", name)
        assert bus(ieee123.solve(), "1")["devices"] == []


class TestDevices:
    @pytest.mark.parametrize("phases", [None, 1, 2, 3])
    def test_a_device_draws_what_it_is_set_to(self, solver: Solver, phases: int | None) -> None:
        before = solver.solve()
        state = solver.add_device("EV", 20.0, kvar=5.0, phases=phases)
        found = device(state, solver.at, "EV")
        assert (found["kw"], found["kvar"]) == pytest.approx((20.0, 5.0), abs=0.02)
        drawn = bus(state, solver.at)["load_kw"] - bus(before, solver.at)["load_kw"]
        assert drawn == pytest.approx(20.0, abs=0.5)
        assert abs(imbalance_kw(state)) < 0.5

    @pytest.mark.parametrize("phase", ["A", "B", "C"])
    def test_one_phase_loads_its_own_phase_only(self, ieee123: Solver, phase: str) -> None:
        """60 kW lower the voltage of their phase."""
        before = voltages(ieee123.solve())
        after = voltages(ieee123.add_device("EV", 60.0, phase=phase))
        drop = {p: before["47", p] - after["47", p] for p in "ABC"}
        assert max(drop, key=lambda p: drop[p]) == phase
        assert drop[phase] > 0.002

    @pytest.mark.parametrize(("phase", "pair"), [("A", "AB"), ("B", "BC"), ("C", "CA")])
    def test_without_a_neutral_one_phase_is_between_two(
        self, ieee37: Solver, phase: str, pair: str
    ) -> None:
        before = voltages(ieee37.solve())
        after = voltages(ieee37.add_device("EV", 60.0, phase=phase))
        drop = {p: before["701", p] - after["701", p] for p in ("AB", "BC", "CA")}
        assert max(drop, key=lambda p: drop[p]) == pair

    def test_a_device_at_every_bus(self, solver: Solver) -> None:
        """Whatever its phases and its voltage, down to the 480 V behind a transformer."""
        dead = {b for (b, _), v in voltages(solver.solve()).items() if v == 0}
        names = [b.name for b in solver.engine.circuit.buses if b.name not in dead]
        for name in names:
            solver.demand.add_device(DeviceAddition(bus_name=name, device_name="EV", kw=0.5))
        state = solver.solve()
        assert state["converged"]
        for name in names:
            assert device(state, name, "EV")["kw"] == pytest.approx(0.5, abs=0.01), name
        assert abs(imbalance_kw(state)) < 0.5

    def test_a_device_where_there_is_no_voltage_draws_nothing(self, ieee123: Solver) -> None:
        """Bus 350 is behind an open switch."""
        state = ieee123.add_device("EV", 10.0, at="350")
        assert state["converged"]
        assert device(state, "350", "EV")["kw"] == pytest.approx(0, abs=1e-3)

    def test_a_pinned_device_draws_what_it_is_pinned_to(self, solver: Solver) -> None:
        solver.add_device("EV", 20.0, kvar=5.0)
        solver.demand.pin(solver.at, "EV", 8.0, None)
        found = device(solver.solve(), solver.at, "EV")
        assert (found["set_kw"], found["source"]) == (8.0, "operator")
        assert (found["kw"], found["kvar"]) == pytest.approx((8.0, 2.0), abs=0.01)

    def test_a_phase_that_the_bus_has_not_is_refused_and_nothing_is_placed(
        self, ieee123: Solver
    ) -> None:
        """Bus 2 of the 123 node feeder is on phase B."""
        before = elements()
        with pytest.raises(Refusal, match="has the phases B"):
            ieee123.add_device("EV", 10.0, at="2", phase="A")
        ieee123.solve()
        assert elements() == before


class TestGenerators:
    def test_480_v_comes_in_behind_a_step_up(self, solver: Solver) -> None:
        """Straight on the bus it would solve as 3.2 MW at a voltage nobody has seen."""
        before = voltages(solver.solve())
        state = solver.add_generator("pv", 50.0, kvar=10.0, kv=0.48)
        found = generator(state, solver.at, "pv")
        assert (found["available_kw"], found["set_kw"]) == (50.0, 50.0)
        assert (found["kw"], found["kvar"]) == pytest.approx((50.0, 10.0), abs=0.05)
        details = bus(state, solver.at)
        assert details["gen_kw"] == pytest.approx(50.0, abs=0.05)
        assert details["net_kw"] == pytest.approx(details["load_kw"] - 50.0, abs=0.05)
        after = voltages(state)
        assert set(after) == set(before)
        assert max(abs(after[node] - before[node]) for node in before) < 0.01
        assert abs(imbalance_kw(state)) < 0.5

    @pytest.mark.parametrize("phases", [1, 2, 3])
    def test_its_low_voltage_side_is_hidden_and_has_a_base(
        self, solver: Solver, phases: int
    ) -> None:
        """480 V: between phases, or from one to the neutral."""
        before = solver.solve()
        state = solver.add_generator("pv", 5.0, kv=0.48, phases=phases)
        hidden = [name for name in dss.Circuit.AllBusNames() if name.startswith("ff_")]
        assert len(hidden) == 1
        names = [details["bus"] for details in state["bus_details"]]
        assert names == [details["bus"] for details in before["bus_details"]]
        profile = state["voltage_profile"]
        shown = [v for v in voltages(state).values() if v > 1e-3]
        assert profile["avg_voltage_pu"] == pytest.approx(sum(shown) / len(shown), abs=2e-6)
        assert {profile["min_voltage_bus"], profile["max_voltage_bus"]} <= set(names)
        dss.Circuit.SetActiveBus(hidden[0])
        is_three_phase = len(dss.Bus.Nodes()) > 1
        assert dss.Bus.kVBase() == pytest.approx(0.48 / 3**0.5 if is_three_phase else 0.48)
        assert all(0.9 < v < 1.1 for v in dss.Bus.puVmagAngle()[::2])

    @pytest.mark.parametrize("kv", [None, 0.48])
    @pytest.mark.parametrize("model", [1, 2, 4, 5, 7])
    def test_models_give_what_they_are_set_to(
        self, solver: Solver, model: int, kv: float | None
    ) -> None:
        """Model 2 is an admittance, model 5 has its kvar from one: they move with the voltage."""
        state = solver.add_generator("pv", 50.0, kvar=10.0, model=model, kv=kv)
        assert state["converged"]
        found = generator(state, solver.at, "pv")
        near = 0.12 if model in {2, 5} else 0.001
        assert found["kw"] == pytest.approx(50.0, rel=near)
        assert found["kvar"] == pytest.approx(10.0, rel=near)
        assert abs(imbalance_kw(state)) < 0.5

    @pytest.mark.parametrize("kv", [None, 0.48])
    def test_model_3_holds_its_voltage_with_its_kvar(
        self, solver: Solver, kv: float | None
    ) -> None:
        """At most twice the kvar that it is set to, as OpenDSS has it; kW is constant."""
        state = solver.add_generator("pv", 50.0, kvar=10.0, model=3, kv=kv)
        assert state["converged"]
        found = generator(state, solver.at, "pv")
        assert found["kw"] == pytest.approx(50.0, abs=0.05)
        assert 0.1 < abs(found["kvar"]) < 20.1

    @pytest.mark.parametrize("model", [1, 2, 3, 4, 5, 7])
    def test_whatever_its_model_one_that_is_gone_has_no_effect(
        self, solver: Solver, model: int
    ) -> None:
        before = solver.solve()
        solver.add_generator("pv", 50.0, kvar=10.0, model=model, kv=0.48)
        solver.demand.remove_generator("pv")
        after = solver.solve()
        assert after["power_summary"]["total_generation_kw"] == 0
        if after["taps"] == before["taps"]:
            assert voltages(after) == pytest.approx(voltages(before), abs=REPEATS_PU)

    def test_the_next_in_its_place_has_a_model_of_its_own(self, ieee123: Solver) -> None:
        """The same connection with another model and another voltage."""
        for name, model, kv in (("a", 3, 0.48), ("b", 1, 0.48), ("c", 1, None), ("d", 2, 0.24)):
            state = ieee123.add_generator(name, 30.0, kvar=3.0, model=model, kv=kv)
            assert state["converged"]
            found = generator(state, "47", name)
            assert found["kw"] == pytest.approx(30.0, rel=0.12 if model == 2 else 0.001)
            ieee123.demand.remove_generator(name)

    def test_a_generator_at_every_bus(self, solver: Solver) -> None:
        """Every other one behind a step-up."""
        dead = {b for (b, _), v in voltages(solver.solve()).items() if v == 0}
        names = [b.name for b in solver.engine.circuit.buses if b.name not in dead]
        for index, name in enumerate(names):
            kv = 0.208 if index % 2 else None
            solver.demand.add_generator(
                GeneratorAddition(bus_name=name, generator_name=f"g{index}", kw=0.5, kv=kv)
            )
        state = solver.solve()
        assert state["converged"]
        for index, name in enumerate(names):
            assert generator(state, name, f"g{index}")["kw"] == pytest.approx(0.5, abs=0.01), name
        assert abs(imbalance_kw(state)) < 0.5
        assert len(state["bus_details"]) == len(solver.engine.circuit.buses)

    @pytest.mark.parametrize("kv", [None, 0.48])
    def test_a_generator_where_there_is_no_voltage_disturbs_nobody(
        self, ieee123: Solver, kv: float | None
    ) -> None:
        """Bus 350 is behind an open switch: an island of nothing but the generator."""
        ieee123.solve()
        before = ieee123.solve()
        state = ieee123.add_generator("pv", 2.0, at="350", kv=kv)
        assert state["converged"]
        assert generator(state, "350", "pv")["kw"] == pytest.approx(0, abs=1e-3)
        assert state["power_summary"] == pytest.approx(before["power_summary"], abs=0.01)

    def test_one_phase_feeds_its_own_phase(self, ieee123: Solver) -> None:
        before = voltages(ieee123.solve())
        after = voltages(ieee123.add_generator("pv", 60.0, phase="B"))
        rise = {p: after["47", p] - before["47", p] for p in "ABC"}
        assert max(rise, key=lambda p: rise[p]) == "B"
        assert rise["B"] > 0.002

    def test_generation_is_taken_off_what_the_source_supplies(self, solver: Solver) -> None:
        before = solver.solve()["power_summary"]
        after = solver.add_generator("pv", 50.0)["power_summary"]
        assert after["total_generation_kw"] == pytest.approx(50.0, abs=0.05)
        saved = before["total_circuit_power_kw"] - after["total_circuit_power_kw"]
        assert saved == pytest.approx(50.0, abs=10.0)

    def test_a_generator_nets_the_loading_of_its_neighbourhood(self, ieee123: Solver) -> None:
        """Buses 47 to 49 are behind one service transformer: |S| of loads less generators."""
        before = ieee123.solve()
        after = ieee123.add_generator("pv", 50.0, kvar=0.0, kv=0.48)

        def loading(state: State) -> float:
            return float(
                next(t for t in state["transformers"] if t["name"] == "neighbourhood_7")[
                    "loading_kva"
                ]
            )

        assert loading(after) < loading(before) - 30
        area = next(a for a in ieee123.feeder.config.neighbourhoods if a.number == 7)
        kva = sum(
            complex(b["net_kw"], b["load_kvar"] - sum(g["kvar"] for g in b["generators"]))
            for b in after["bus_details"]
            if b["bus"] in area.buses
        )
        assert loading(after) == pytest.approx(abs(kva), abs=0.05)

    def test_a_metered_generator_produces_what_its_meter_says(self, solver: Solver) -> None:
        solver.add_generator("pv", 50.0, kvar=10.0, kv=0.48)
        reading = Reading(kw=30.0, kvar=-4.0)
        solver.demand.take_reading(solver.at, "pv", reading, NOW, retained=False)
        state = solver.solve()
        found = generator(state, solver.at, "pv")
        assert (found["set_kw"], found["source"]) == (30.0, "meter")
        assert (found["kw"], found["kvar"]) == pytest.approx((30.0, -4.0), abs=0.05)
        assert state["oldest_reading_s"] is not None


class TestComingAndGoing:
    def test_removing_everything_restores_demand_and_voltages(self, solver: Solver) -> None:
        """Demand to the last digit; voltages to 1e-5 pu with the same taps."""
        solver.solve()
        before = solver.solve()
        chance = random.Random(3)
        live = sorted({b for (b, _), v in voltages(before).items() if v > 0})
        for number in range(12):
            at = chance.choice(live)
            solver.add_device(f"d{number}", chance.uniform(0, 5), at=at)
            solver.add_generator(f"g{number}", chance.uniform(0, 5), at=at, kv=0.208)
        for details in solver.solve()["bus_details"]:
            for each in details["devices"]:
                solver.demand.disconnect_device(details["bus"], each["name"])
            for each in details["generators"]:
                solver.demand.remove_generator(each["name"])
        after = solver.solve()
        assert demands(after) == demands(before)
        assert all(not b["devices"] and not b["generators"] for b in after["bus_details"])
        assert after["power_summary"]["total_generation_kw"] == 0
        if after["taps"] == before["taps"]:  # they depend on the path, as they do in the field
            assert voltages(after) == pytest.approx(voltages(before), abs=REPEATS_PU)

    def test_a_thousand_that_come_and_go_leave_the_engine_as_large_as_few(
        self, ieee123: Solver
    ) -> None:
        """Never more than 5 devices and 5 generators at once: at most 37 places of each are made,
        and a step-up for each generator.
        """
        ieee123.solve()
        before = ieee123.solve()
        start = elements()
        chance = random.Random(7)
        names = [b.name for b in ieee123.engine.circuit.buses]
        devices: list[tuple[str, str]] = []
        generators: list[str] = []
        for number in range(1000):
            at = chance.choice(names)
            if number % 2:
                kv = chance.choice([None, 0.208, 0.48])
                wanted = GeneratorAddition(bus_name=at, kw=chance.uniform(0, 3), kv=kv)
                generators.append(ieee123.demand.add_generator(wanted)[1])
            else:
                name = f"d{number}"
                wanted_device = DeviceAddition(
                    bus_name=at, device_name=name, kw=chance.uniform(0, 3)
                )
                ieee123.demand.add_device(wanted_device)
                devices.append((at, name))
            if len(devices) == 5:
                ieee123.demand.disconnect_device(*devices.pop(chance.randrange(5)))
            if len(generators) == 5:
                ieee123.demand.remove_generator(generators.pop(chance.randrange(5)))
            if number % 10 == 0:
                assert ieee123.twin.cycle(100 + number, NOW).converged
        for gone in devices:
            ieee123.demand.disconnect_device(*gone)
        for gone_generator in generators:
            ieee123.demand.remove_generator(gone_generator)
        after = ieee123.solve()
        assert elements() - start <= 3 * (5 + MOST_IDLE)
        assert demands(after) == demands(before)
        if after["taps"] == before["taps"]:
            assert voltages(after) == pytest.approx(voltages(before), abs=REPEATS_PU)
        else:
            assert voltages(after) == pytest.approx(voltages(before), abs=0.02)

    def test_the_same_place_costs_nothing_the_second_time(self, solver: Solver) -> None:
        solver.add_device("EV", 5.0)
        solver.add_generator("pv", 5.0, kv=0.48)
        made = elements()
        for _ in range(20):
            solver.demand.disconnect_device(solver.at, "EV")
            solver.demand.remove_generator("pv")
            solver.solve()
            solver.add_device("EV", 7.0)
            state = solver.add_generator("pv", 6.0, kv=0.48)
            assert device(state, solver.at, "EV")["kw"] == pytest.approx(7.0, abs=0.01)
            assert generator(state, solver.at, "pv")["kw"] == pytest.approx(6.0, abs=0.01)
        assert elements() == made

    def test_what_comes_and_goes_between_two_solves_leaves_no_trace(self, solver: Solver) -> None:
        solver.solve()
        before = solver.solve()
        for _ in range(3):
            body = DeviceAddition(bus_name=solver.at, device_name="EV", kw=50.0)
            solver.demand.add_device(body)
            solver.demand.disconnect_device(solver.at, "EV")
        after = solver.solve()
        assert demands(after) == demands(before)
        assert bus(after, solver.at)["devices"] == []
        if after["taps"] == before["taps"]:
            assert voltages(after) == pytest.approx(voltages(before), abs=REPEATS_PU)

    def test_figures_stay_in_their_place_while_others_come_and_go(self, solver: Solver) -> None:
        """Each device draws a power of its own, told from all others by its kW."""
        names = [b.name for b in solver.engine.circuit.buses if len(b.phases) == 3]
        chance = random.Random(11)
        here: dict[str, tuple[str, float]] = {}
        for number in range(60):
            if here and chance.random() < 0.4:
                name = chance.choice(sorted(here))
                solver.demand.disconnect_device(here.pop(name)[0], name)
            else:
                name, at = f"d{number}", chance.choice(names)
                here[name] = (at, 1 + number / 100)
                wanted = DeviceAddition(bus_name=at, device_name=name, kw=1 + number / 100)
                solver.demand.add_device(wanted)
            state = solver.solve()
            shown = {
                each["name"]: (details["bus"], each["set_kw"])
                for details in state["bus_details"]
                for each in details["devices"]
            }
            assert shown == here


class TestTooMuch:
    def test_a_device_that_no_feeder_can_supply_is_relieved_to_nothing(
        self, ieee123: Solver
    ) -> None:
        """1e6 kW at bus 1: its neighbourhood is over its rating, and devices give way first."""
        before = ieee123.solve()
        state = ieee123.add_device("EV", 1e6, at="1")
        assert state["converged"]
        found = device(state, "1", "EV")
        assert found["demand_kw"] == 1e6
        assert found["held_by"] == ["neighbourhood_1"]
        assert found["kw"] <= 225
        ieee123.demand.disconnect_device("1", "EV")
        for _ in range(3):
            after = ieee123.solve()
        assert after["converged"]
        assert after["management_status"] == before["management_status"]
        assert demands(after) == demands(before)

    def test_where_nothing_relieves_it_the_last_good_figures_stay(self, ieee123: Solver) -> None:
        """Bus 61 is in no neighbourhood, and no transformer supplies it."""
        ieee123.solve()
        before = ieee123.solve()
        for failed in (ieee123.add_device("EV", 1e6, at="61"), ieee123.solve()):
            assert failed["converged"] is False
            assert failed["management_status"]["status"] == "ERROR"
            assert device(failed, "61", "EV")["set_kw"] == 1e6
            assert failed["power_summary"] == before["power_summary"]
            assert voltages(failed) == voltages(before)
        ieee123.demand.disconnect_device("61", "EV")
        after = ieee123.solve()
        assert after["converged"] is True
        assert after["management_status"] == before["management_status"]
        assert demands(after) == demands(before)
        if after["taps"] == before["taps"]:
            assert voltages(after) == pytest.approx(voltages(before), abs=REPEATS_PU)

    def test_demand_beyond_every_message_is_an_error_and_no_end(self, ieee123: Solver) -> None:
        """1e6 kW pinned times 10: relief would have the load keep to the half, 5e6 kW, which is
        more than a setpoint can say.
        """
        before = ieee123.solve()
        ieee123.demand.pin("1", "Load_1", 1e6, 0.0)
        ieee123.demand.set_bus_factor("1", 10.0)
        failed = ieee123.solve()
        assert failed["management_status"]["status"] == "ERROR"
        ieee123.demand.release("1", "Load_1")
        ieee123.demand.set_bus_factor("1", 1.0)
        for _ in range(3):
            after = ieee123.solve()
        assert after["converged"]
        assert demands(after) == demands(before)

    def test_a_load_of_next_to_no_kw_is_brought_to_a_power_factor(self, ieee123: Solver) -> None:
        """1 W beside 100 kvar, at a bus with another load: its own power factor is next to 0."""
        ieee123.demand.add_device(DeviceAddition(bus_name="1", device_name="coil", kw=0.001))
        ieee123.demand.pin("1", "coil", 0.0001, 100.0)
        asked = BusAdjustment(bus="1", max_kw=1e6, target_pf=0.95)
        program = ProgramInForce(name="dfp", number=1, buses=(asked,))
        ieee123.twin.adjust(Adjustments(revision=1, programs=(program,)))
        found = bus(ieee123.solve(), "1")
        pf = found["load_kw"] / abs(complex(found["load_kw"], found["load_kvar"]))
        assert pf == pytest.approx(0.95, abs=0.001)
