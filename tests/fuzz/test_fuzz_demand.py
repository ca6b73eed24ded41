"""Demand of a feeder on which everything happens at once: commands that are kept or lost, readings,
programs, relief, setpoints and restarts, in any order and at the limits of what is allowed.

Buses 1 and 2 have loads, three phases and a neutral; 9r has phase A only; 610 is 0.48 kV without a
neutral; 150 has no load.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fuzz.effort import effort, patient
from fuzz.shapes import assert_finite
from fuzz.tried import tried
from schemas.commands import SolverCommand
from schemas.equipment import AddDevice, AddGenerator, DisconnectDevice, RemoveGenerator
from schemas.errors import Refusal
from schemas.loads import ReleaseLoad, SetFactor, SetLoad
from schemas.programs import Adjustments, BusAdjustment, ProgramInForce
from schemas.readings import Reading
from schemas.wire import POWER_LIMIT, canonical
from services.outcomes import Done
from services.solver.bus_rule import DemandInForce, ReliefCap
from services.solver.demand import Demand, GenerationInForce
from services.solver.elements import Element, Held, Kind, NominalLoad, Power
from services.solver.handlers import handle
from services.solver.network import Bus
from services.solver.setpoints import Setpoints

pytestmark = patient

T0 = 1_800_000_000.0

LOADS = (
    NominalLoad("Load_1", bus="1", kw=40.0, kvar=20.0),
    NominalLoad("Load_2_a", bus="2", kw=20.0, kvar=10.0),
    NominalLoad("Load_2_b", bus="2", kw=30.0, kvar=-40.0),
    NominalLoad("Load_9", bus="9r", kw=0.0, kvar=5.0),
)
MOST = 10 * POWER_LIMIT
"""What an operator can ask for, in kW or kvar: a pin at its limit, times the largest factor."""


def _bus(name: str, phases: tuple[int, ...], kv: float = 4.16, *, grounded: bool = True) -> Bus:
    return Bus(name, phases, kv, x=None, y=None, distance_km=0.0, grounded=grounded)


BUSES = (
    _bus("1", (1, 2, 3)),
    _bus("2", (1, 2, 3)),
    _bus("9r", (1,)),
    _bus("610", (1, 2, 3), 0.48, grounded=False),
    _bus("150", (1, 2, 3)),
)


def feeder() -> Demand:
    return Demand(LOADS, BUSES, {1: ["1", "2"], 7: ["9R"]})


LIMITS = [0.0, -0.0, 1e-300, 5e-324, 0.05, 5.0, 20.0, POWER_LIMIT]
ratings = st.sampled_from(LIMITS) | st.floats(0, POWER_LIMIT) | st.floats(0, 60)
powers = ratings | ratings.map(lambda kw: -kw)
some_powers = st.none() | powers
factors = st.sampled_from([0.0, 1.0, 10.0, 5e-324]) | st.floats(0, 10)
power_factors = st.sampled_from([5e-324, 1e-9, 0.95, 1.0]) | st.floats(0, 1, exclude_min=True)
at_buses = st.sampled_from(["1", "1", "2", "9R", "610", "150", "77"])
device_names = st.sampled_from(["a", "a", "A", "b", "b", "c", "Load_1", "pv"])
device_buses = st.sampled_from(["1", "1", "1", "150", "150", "610", "77"])
generator_names = st.none() | st.sampled_from(["a", "pv", "PV", "generator_2"])
names = st.sampled_from(["Load_1", "LOAD_2_A", "Load_2_b", "Load_9", "a", "b", "c", "pv"]) | (
    st.integers(1, 3).map(lambda number: f"generator_{number}")
)
wires = st.sampled_from([{}, {}, {}, {}, {"phase": "A"}, {"phase": "b"}, {"phases": 2}])
some_kv = st.sampled_from([None, None, 0.48, 4.16, 0.1, 500.0])

additions: list[st.SearchStrategy[SolverCommand]] = [
    st.builds(
        lambda wired, **body: AddDevice(**body, **wired),
        wires,
        bus_name=device_buses,
        device_name=device_names,
        kw=ratings,
        kvar=some_powers,
        pf=st.none() | power_factors,
    ),
    st.builds(
        lambda wired, **body: AddGenerator(**body, **wired),
        wires,
        bus_name=at_buses,
        generator_name=generator_names,
        kw=ratings,
        kvar=some_powers,
        kv=some_kv,
    ),
]
COMMANDS: tuple[st.SearchStrategy[SolverCommand], ...] = (
    st.builds(SetLoad, bus_name=at_buses, load_name=names, new_kw=powers, new_kvar=some_powers),
    st.builds(ReleaseLoad, bus_name=at_buses, load_name=st.none() | names),
    st.builds(SetFactor, bus_name=at_buses, factor=factors),
    st.builds(SetFactor, neighbourhood=st.sampled_from([1, 7, 8]), factor=factors),
    *additions * 2,
    *[st.builds(DisconnectDevice, bus_name=device_buses, device_name=device_names)] * 2,
    st.builds(RemoveGenerator, generator_name=names),
)
commands = st.one_of(*COMMANDS)
seconds = st.sampled_from([0.0, 1.0, 29.0, 31.0, 121.0]) | st.floats(0, 200)


class Follower:
    """What an engine makes of what it is handed: it never looks at the demand itself."""

    def __init__(self) -> None:
        self.demands = {each.row: each for each in feeder().demands()}
        self.generation: dict[int, GenerationInForce] = {}

    def follow(self, demand: Demand) -> None:
        for placement in demand.take_placements():
            row, is_generator = placement.element.row, placement.machine is not None
            kept: dict[int, Any] = self.generation if is_generator else self.demands
            assert (row in kept) is not placement.is_there, "a row is taken once"
            if placement.is_there:
                kept[row] = None
            else:
                del kept[row]
        demands, generation = demand.take_changed()
        self.demands |= {each.row: each for each in demands}
        self.generation |= {each.row: each for each in generation}


class DemandMachine(RuleBasedStateMachine):
    """Everything that may happen to a demand, in the way in which its owner lets it happen."""

    def __init__(self) -> None:
        super().__init__()
        self.demand = feeder()
        self.engine = Follower()
        self.setpoints = Setpoints(automatic=["zone"])
        self.now = T0
        self.revision = 0
        self.adjustments = Adjustments(revision=0)
        self.devices: set[tuple[str, str]] = set()
        self.generators: set[str] = set()
        self.relieved: set[Element] = set()
        """Those that relief holds, if they are still there."""

    @initialize()
    def has_equipment(self) -> None:
        self.kept(
            [
                AddDevice(bus_name="1", device_name="a", kw=10.0),
                AddDevice(bus_name="1", device_name="b", kw=8.0, phase="B"),
                AddDevice(bus_name="150", device_name="a", kw=5.0),
                AddGenerator(bus_name="1", generator_name="pv", kw=20.0, kv=0.48),
            ]
        )

    @rule(batch=st.lists(commands, min_size=1, max_size=4))
    def kept(self, batch: list[SolverCommand]) -> None:
        """Commands that the journal has taken."""
        for command in batch:
            before = self.demand.to_json()
            done = tried(Refusal, partial(handle, command, self.demand))
            if isinstance(done, Refusal):
                assert self.demand.to_json() == before, "a refused command has changed nothing"
            else:
                self._remember(command, done)
        self.demand.commit()

    @rule(batch=st.lists(commands, min_size=1, max_size=4))
    def lost(self, batch: list[SolverCommand]) -> None:
        """Commands that could not be written."""
        before = self.demand.to_json(), self.demand.demands(), self.demand.generation()
        for command in batch:
            tried(Refusal, partial(handle, command, self.demand))
        self.demand.roll_back()
        assert (
            self.demand.to_json(),
            self.demand.demands(),
            self.demand.generation(),
        ) == before

    @rule(
        at=at_buses,
        name=names,
        kw=powers,
        kvar=some_powers,
        demand_kw=some_powers,
        ago=st.none() | st.floats(-70, 70),
        retained=st.booleans(),
    )
    def metered_at(
        self,
        at: str,
        name: str,
        kw: float,
        kvar: float | None,
        demand_kw: float | None,
        ago: float | None,
        retained: bool,
    ) -> None:
        taken_at = None if ago is None else datetime.fromtimestamp(self.now - ago, UTC)
        reading = Reading(kw=kw, kvar=kvar, demand_kw=demand_kw, at=taken_at)
        self.demand.take_reading(at, name, reading, self.now, retained=retained)

    @rule(share=st.sampled_from([0.0, 0.5, 0.9, 1.0, 1.05, 1.06, 3.0]))
    def everybody_is_metered_at_a_share_of_his_setpoint(self, share: float) -> None:
        for element in self.demand.elements():
            if element.held.max_kw is not None:
                kw = min(share * element.held.max_kw, POWER_LIMIT)
                self.demand.take_reading(
                    element.bus, element.name, Reading(kw=kw), self.now, retained=False
                )

    @rule(
        asked=st.lists(
            st.builds(BusAdjustment, bus=at_buses, max_kw=ratings, target_pf=power_factors),
            max_size=4,
        ),
        split=st.integers(0, 4),
    )
    def adjusted(self, asked: list[BusAdjustment], split: int) -> None:
        """Two programs, each at some of the buses."""
        self.revision += 1
        self.adjustments = Adjustments(
            revision=self.revision,
            programs=tuple(
                ProgramInForce(name=f"p{number}", number=number, buses=tuple(buses))
                for number, buses in ((1, asked[:split]), (2, asked[split:]))
            ),
        )
        self.demand.adjust(self.adjustments)

    @rule(share=st.none() | st.floats(0, 1), which=st.integers(0, 7))
    def relieves(self, share: float | None, which: int) -> None:
        """Some of those that draw or produce something are held at a share of it, or nobody is."""
        loads: dict[int, ReliefCap] = {}
        generators: dict[int, ReliefCap] = {}
        if share is not None:
            for demand in self.demand.demands():
                if demand.kw > 0 and demand.row & which:
                    loads[demand.row] = ReliefCap(share * demand.kw, ("zone",))
            for produced in self.demand.generation():
                if produced.kw > 0 and (produced.row + 1) & which:
                    generators[produced.row] = ReliefCap(share * produced.kw, ("zone",))
        self.demand.relieve(loads, generators)
        self.relieved = {
            *map(self.demand.consumer, loads),
            *map(self.demand.generator, generators),
        }

    @rule(is_exact=st.booleans())
    def asked_for(self, is_exact: bool) -> None:
        """Everybody is sent what follows for him, in messages that are valid."""
        for demand in self.demand.demands():
            element = self.demand.consumer(demand.row)
            held = Held(demand.max_kw, demand.pf)
            self.setpoints.ask(element, held, demand.asked_by, self.now, is_exact=is_exact)
        for produced in self.demand.generation():
            element = self.demand.generator(produced.row)
            held = Held(produced.max_kw, None)
            self.setpoints.ask(element, held, produced.asked_by, self.now)
        for change in self.setpoints.take_changes(100):
            assert change.setpoint is None or change.setpoint.reason

    @rule(later=seconds)
    def later(self, later: float) -> None:
        self.now += later
        self.demand.lapse(self.now)

    @rule(after=st.sampled_from([29.0, 31.0]))
    def nobody_follows(self, after: float) -> None:
        """Everybody draws three times what he was asked for, for longer or not than is borne."""
        self.asked_for(is_exact=False)
        self.everybody_is_metered_at_a_share_of_his_setpoint(3.0)
        self.handed_over()
        self.later(after)

    @rule(share=st.floats(0, 1))
    def one_takes_the_place_of_another_that_was_relieved(self, share: float) -> None:
        self.relieves(share, 7)
        going = DisconnectDevice(bus_name="1", device_name="a")
        self.kept([going, AddDevice(bus_name="150", device_name="c", kw=50.0)])

    @rule()
    def started_again(self) -> None:
        """Another owner goes on from a snapshot, the adjustments in force, and no relief."""
        self.relieves(None, 0)
        expected = self._in_force()
        other = feeder()
        assert other.restore(orjson.loads(orjson.dumps(self.demand.to_json()))) == []
        other.adjust(self.adjustments)
        self.demand, self.engine = other, Follower()
        assert self._in_force() == expected
        self.setpoints = Setpoints(automatic=["zone"])
        for element in other.elements():
            if element.held != Held(None, None):
                self.setpoints.resume(element)

    @rule()
    def handed_over(self) -> None:
        """What has changed since the last time is what makes the old figures the new ones."""
        self.engine.follow(self.demand)
        assert not self.demand.has_changed
        assert [self.engine.demands[row] for row in sorted(self.engine.demands)] == (
            self.demand.demands()
        )
        assert [self.engine.generation[row] for row in sorted(self.engine.generation)] == (
            self.demand.generation()
        )

    @rule()
    def let_go(self) -> None:
        """With every pin, factor, program and relief lifted, all draw what the model or their
        meters say, to the last digit.
        """
        demand = feeder()
        assert demand.restore(self.demand.to_json()) == []
        for element in demand.elements():
            if element.kind is not Kind.GENERATOR:
                demand.release(element.bus, element.name)
        for number in (1, 7):
            demand.set_neighbourhood_factor(number, 1.0)
        everything: list[DemandInForce | GenerationInForce] = [
            *demand.demands(),
            *demand.generation(),
        ]
        for each in everything:
            is_generator = isinstance(each, GenerationInForce)
            element = (demand.generator if is_generator else demand.consumer)(each.row)
            expected = element.nominal if element.reading is None else element.reading
            assert Power(each.kw, each.kvar) == expected
            assert each.held_by == ()

    @invariant()
    def everything_is_within_bounds(self) -> None:
        for each in self.demand.demands():
            assert_finite(each)
            assert max(abs(each.kw), abs(each.kvar), abs(each.demand_kw)) <= MOST
            assert each.max_kw is None or 0 <= each.max_kw <= MOST
            assert each.pf is None or 0 <= each.pf <= 1
        for produced in self.demand.generation():
            assert_finite(produced)
            assert max(abs(produced.kw), abs(produced.kvar)) <= MOST

    @invariant()
    def nobody_draws_or_produces_more_than_is_demanded(self) -> None:
        """And what is negative is left alone."""
        for each in self.demand.demands():
            assert each.kw <= each.demand_kw
            if each.demand_kw <= 0:
                assert each.kw == each.demand_kw
            else:
                assert each.kw >= 0
        for produced in self.demand.generation():
            assert produced.kw <= produced.available_kw
            if produced.available_kw <= 0:
                assert produced.kw == produced.available_kw

    @invariant()
    def only_those_are_relieved_that_were_to_be(self) -> None:
        """And not whoever has come to their place since."""
        asked = [self.demand.consumer(d.row) for d in self.demand.demands() if "zone" in d.asked_by]
        asked += [
            self.demand.generator(produced.row)
            for produced in self.demand.generation()
            if "zone" in produced.asked_by
        ]
        assert self.relieved.issuperset(asked)

    @invariant()
    def each_bus_keeps_to_its_programs(self) -> None:
        """Unless somebody does not follow; what is exported is not counted against it."""
        most = _most_by_bus(self.adjustments)
        drawn = dict.fromkeys(most, 0.0)
        for each in self.demand.demands():
            bus = canonical(self.demand.consumer(each.row).bus)
            if bus in most and not each.not_following:
                drawn[bus] += max(each.kw, 0.0)
        for bus, kw in drawn.items():
            assert kw <= most[bus] + 1e-9 * max(most[bus], 1.0)

    @invariant()
    def each_row_is_that_of_one_element(self) -> None:
        elements = self.demand.elements()
        rows = [(element.kind is Kind.GENERATOR, element.row) for element in elements]
        assert len(set(rows)) == len(rows)
        for element in elements:
            is_generator = element.kind is Kind.GENERATOR
            of_row = self.demand.generator if is_generator else self.demand.consumer
            assert of_row(element.row) is element
            assert self.demand.find(element.bus, element.name) is element
        assert [each.row for each in self.demand.demands()] == sorted(
            row for is_generator, row in rows if not is_generator
        )

    @invariant()
    def there_is_what_came_and_did_not_go(self) -> None:
        elements = self.demand.elements()
        assert self.devices == {
            (canonical(element.bus), canonical(element.name))
            for element in elements
            if element.kind is Kind.DEVICE
        }
        assert self.generators == {
            canonical(element.name) for element in elements if element.kind is Kind.GENERATOR
        }

    def _remember(self, command: SolverCommand, done: Done) -> None:
        match command:
            case AddDevice():
                self.devices.add((canonical(command.bus_name), canonical(command.device_name)))
            case DisconnectDevice():
                self.devices.remove((canonical(command.bus_name), canonical(command.device_name)))
            case AddGenerator():
                self.generators.add(canonical(done.results["generator_name"]))
            case RemoveGenerator():
                self.generators.remove(canonical(command.generator_name))

    def _in_force(self) -> dict[tuple[str, str], DemandInForce | GenerationInForce]:
        """What follows for every element, whatever its row."""
        return {
            (of_row(each.row).bus, of_row(each.row).name): each._replace(row=0)
            for of_row, all_of_them in (
                (self.demand.consumer, self.demand.demands()),
                (self.demand.generator, self.demand.generation()),
            )
            for each in all_of_them
        }


def _most_by_bus(adjustments: Adjustments) -> Mapping[str, float]:
    most: dict[str, float] = {}
    for program in adjustments.programs:
        for bus in program.buses:
            key = canonical(bus.bus)
            most[key] = min(most.get(key, math.inf), bus.max_kw)
    return most


def test_demand_holds_together_whatever_happens() -> None:
    run_state_machine_as_test(DemandMachine, settings=effort(160, stateful_step_count=50))
