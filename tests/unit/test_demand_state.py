"""Demand taken back, and demand put back: what is undone if nobody could keep it, and what a
restart begins with.

Buses 1 and 2 have loads, three phases and a neutral; 9r has phase A only; 610 is 0.48 kV without a
neutral; 150 has no load.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.commands import SolverCommand
from schemas.equipment import (
    AddDevice,
    AddGenerator,
    DeviceAddition,
    DisconnectDevice,
    GeneratorAddition,
    RemoveGenerator,
)
from schemas.errors import Refusal
from schemas.loads import ReleaseLoad, SetFactor, SetLoad
from schemas.programs import Adjustments, BusAdjustment, ProgramInForce
from schemas.readings import Reading
from services.outcomes import Done
from services.solver.bus_rule import DemandInForce, ReliefCap
from services.solver.demand import Demand, GenerationInForce, ReadingOutcome
from services.solver.elements import FREE, Element, Held, NominalLoad, Power
from services.solver.handlers import handle
from services.solver.network import Bus
from services.solver.slots import Slots, Undo

T0 = 1_800_000_000.0

LOADS = (
    NominalLoad("Load_1", bus="1", kw=40.0, kvar=20.0),
    NominalLoad("Load_2_a", bus="2", kw=20.0, kvar=10.0),
    NominalLoad("Load_2_b", bus="2", kw=30.0, kvar=40.0),
    NominalLoad("Load_9", bus="9r", kw=12.0, kvar=5.0),
)

NOTHING_SAID = [None, 1.0, None, None, [None, None], False, None, None, []]
"""Pin, factor, reading and when it was taken, setpoint, not following, above since, last metered,
former setpoints.
"""


def bus(
    name: str, phases: tuple[int, ...] = (1, 2, 3), kv: float = 4.16, *, grounded: bool = True
) -> Bus:
    return Bus(name, phases, kv, x=None, y=None, distance_km=0.0, grounded=grounded)


BUSES = (bus("1"), bus("2"), bus("9r", (1,)), bus("610", kv=0.48, grounded=False), bus("150"))


def feeder(loads: tuple[NominalLoad, ...] = LOADS, buses: tuple[Bus, ...] = BUSES) -> Demand:
    return Demand(loads, buses, {1: ["1", "2"], 7: ["9R"]})


def device(name: str = "EV", at: str = "1", kw: float = 10.0, **more: Any) -> DeviceAddition:
    return DeviceAddition(bus_name=at, device_name=name, kw=kw, **more)


def generator(
    name: str | None = None, at: str = "1", kw: float = 50.0, **more: Any
) -> GeneratorAddition:
    return GeneratorAddition(bus_name=at, generator_name=name, kw=kw, **more)


def metered(demand: Demand, at: str, name: str, kw: float, at_s: float = 0.0) -> ReadingOutcome:
    reading = Reading(kw=kw, kvar=0.0)
    return demand.take_reading(at, name, reading, T0 + at_s, retained=False)


def program(max_kw: float, at: str = "1", revision: int = 1) -> Adjustments:
    asked = (BusAdjustment(bus=at, max_kw=max_kw, target_pf=1e-9),)
    programs = (ProgramInForce(name="dfp", number=1, buses=asked),)
    return Adjustments(revision=revision, programs=programs)


def element(demand: Demand, at: str, name: str) -> Element:
    found = demand.find(at, name)
    assert found is not None
    return found


def settled(demand: Demand) -> Demand:
    """The same, with everything until now kept and handed over."""
    demand.commit()
    demand.take_placements()
    demand.take_changed()
    return demand


def through_json(content: dict[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = orjson.loads(orjson.dumps(content))
    return decoded


def restored(demand: Demand) -> Demand:
    """Another one that begins with what this one has been told."""
    other = feeder()
    assert other.restore(through_json(demand.to_json())) == []
    return other


def names(demand: Demand, at: str) -> list[str]:
    """Devices and generators of a bus in their order."""
    content = demand.to_json()
    return [row[0] for row in (*content["devices"], *content["generators"]) if row[2][0] == at]


class TestRollBack:
    def test_a_pin_leaves_the_pin_and_the_factor_that_were_there(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.set_bus_factor("1", 0.5)
        demand.commit()
        demand.pin("1", "Load_1", 9.0, 2.0)
        demand.pin("1", "Load_1", 11.0, 3.0)
        demand.roll_back()
        load = element(demand, "1", "Load_1")
        assert (load.pin, load.factor) == (Power(7.0, 1.0), 0.5)

    def test_a_release_leaves_the_pins_that_were_there(self) -> None:
        demand = feeder()
        demand.pin("2", "Load_2_b", 7.0, 1.0)
        demand.commit()
        demand.release("2", None)
        demand.roll_back()
        assert element(demand, "2", "Load_2_b").pin == Power(7.0, 1.0)
        assert element(demand, "2", "Load_2_a").pin is None

    def test_the_factor_of_a_neighbourhood_leaves_each_load_its_own(self) -> None:
        demand = feeder()
        demand.set_bus_factor("2", 0.5)
        demand.commit()
        demand.set_neighbourhood_factor(1, 3.0)
        demand.roll_back()
        assert [load.factor for load in demand.loads] == [1.0, 0.5, 0.5, 1.0]

    def test_a_device_that_came_was_never_there(self) -> None:
        """Its place is the next one's, and nobody is told of it."""
        demand = feeder()
        demand.add_device(device("a"))
        demand.pin("1", "a", 3.0, None)
        demand.roll_back()
        assert demand.find("1", "a") is None
        assert demand.take_placements() == []
        assert [each.row for each in demand.take_changed()[0]] == []
        demand.add_device(device("b"))
        assert element(demand, "1", "b").row == 4

    def test_a_device_that_went_is_the_same_in_the_same_place(self) -> None:
        """Row, order at its bus, pin and reading."""
        demand = feeder()
        for name in ("a", "b", "c"):
            demand.add_device(device(name))
        demand.pin("1", "b", 3.0, 1.0)
        metered(demand, "1", "b", 4.0)
        before = element(settled(demand), "1", "b")
        demand.disconnect_device("1", "B")
        demand.add_device(device("d"))
        demand.roll_back()
        assert demand.find("1", "b") is before
        assert demand.consumer(5) is before
        assert (before.pin, before.reading) == (Power(3.0, 1.0), Power(4.0, 0.0))
        assert names(demand, "1") == ["a", "b", "c"]
        assert demand.take_placements() == []
        assert demand.oldest_reading_at() == T0

    def test_one_of_the_same_name_that_came_after_it_makes_room(self) -> None:
        demand = feeder()
        demand.add_device(device("a", kw=1.0))
        before = element(settled(demand), "1", "a")
        demand.disconnect_device("1", "a")
        demand.add_device(device("a", kw=2.0, phase="B"))
        demand.disconnect_device("1", "a")
        demand.roll_back()
        assert demand.find("1", "a") is before

    def test_a_generator_that_went_is_the_same_in_the_same_place(self) -> None:
        demand = feeder()
        for name in ("a", "b", "c"):
            demand.add_generator(generator(name, kv=0.48))
        before = element(settled(demand), "1", "a")
        demand.remove_generator("a")
        demand.remove_generator("c")
        demand.roll_back()
        assert demand.generator(0) is before
        assert names(demand, "1") == ["a", "b", "c"]
        assert len(demand.generation()) == 3

    def test_a_name_that_was_assigned_is_free_again(self) -> None:
        """Nobody has heard of it. The replay of what was kept has to come to the same names."""
        demand = feeder()
        demand.add_generator(generator())
        demand.commit()
        demand.add_generator(generator())
        demand.add_generator(generator())
        demand.roll_back()
        assert demand.add_generator(generator())[1] == "generator_2"

    def test_the_cap_of_relief_is_that_of_the_element_before(self) -> None:
        demand = feeder()
        demand.add_device(device())
        demand.add_generator(generator("pv"))
        settled(demand).relieve({4: ReliefCap(2.0, ("zone",))}, {0: ReliefCap(9.0, ("zone",))})
        before = demand.demands(), demand.generation()
        demand.disconnect_device("1", "EV")
        demand.add_device(device("other"))
        demand.remove_generator("pv")
        demand.add_generator(generator("other_pv"))
        demand.roll_back()
        assert (demand.demands(), demand.generation()) == before
        assert demand.generation()[0].kw == 9.0

    def test_one_that_is_above_its_setpoint_is_still_watched(self) -> None:
        """Above at T0, taken away and put back, it counts as not following from T0 + 30 on."""
        demand = feeder()
        demand.add_device(device())
        element(demand, "1", "EV").hold(Held(5.0, None), T0)
        metered(demand, "1", "EV", 10.0)
        settled(demand).disconnect_device("1", "EV")
        demand.roll_back()
        demand.lapse(T0 + 30)
        assert element(demand, "1", "EV").not_following

    def test_what_was_committed_stays(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.add_device(device())
        before = demand.to_json()
        demand.commit()
        demand.roll_back()
        assert demand.to_json() == before
        assert [placement.element.name for placement in demand.take_placements()] == ["EV"]

    def test_taking_back_twice_takes_back_once(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.commit()
        demand.pin("1", "Load_1", 8.0, 1.0)
        demand.roll_back()
        demand.roll_back()
        assert element(demand, "1", "Load_1").pin == Power(7.0, 1.0)

    def test_a_refused_command_leaves_nothing_to_take_back(self) -> None:
        demand = feeder()
        for call in (
            lambda: demand.pin("1", "nobody", 1.0, None),
            lambda: demand.set_bus_factor("150", 0.5),
            lambda: demand.add_device(device("load_1")),
            lambda: demand.add_generator(generator(kv=0.48, kw=9000.0)),
            lambda: demand.remove_generator("nobody"),
        ):
            with pytest.raises(Refusal):
                call()
        assert demand._undo == []

    def test_a_program_that_was_stopped_meanwhile_holds_nothing_that_is_put_back(self) -> None:
        """Programs are not taken back. 45 kW at bus 1 left 5 of its 10 kW to a device, which was
        away when the program stopped, and is handed over once it is back.
        """
        demand = feeder()
        demand.add_device(device())
        demand.adjust(program(45.0))
        assert settled(demand).demands()[4].kw == 5.0
        demand.disconnect_device("1", "EV")
        demand.adjust(Adjustments(revision=2))
        demand.roll_back()
        assert {each.row: each.kw for each in demand.take_changed()[0]} == {0: 40.0, 4: 10.0}

    def test_places_are_free_in_the_order_in_which_they_were(self) -> None:
        """40 are free, 8 more than may wait for their like: so the longest free ones are moved."""
        undo: Undo = []
        slots: Slots[int] = Slots(0, undo)
        for key in range(40):
            slots.take(key)
        for key in range(40):
            slots.give_back(key, key)
        undo.clear()
        assert [slots.take(7), slots.take(99), slots.take(0)] == [7, 0, 1]
        slots.give_back(7, 99)
        while undo:
            undo.pop()()
        assert [slots.take(99 + number) for number in range(10)] == [*range(9), 40]


class TestSnapshot:
    def test_a_demand_of_which_nothing_was_said_has_nothing_to_tell(self) -> None:
        expected = {"loads": [], "devices": [], "generators": [], "generators_named": 0}
        assert feeder().to_json() == expected

    def test_a_load_of_which_something_was_said_has_a_row(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.set_bus_factor("1", 0.5)
        metered(demand, "2", "Load_2_b", 12.5)
        assert demand.to_json()["loads"] == [
            ["1", "Load_1", [[7.0, 1.0], 0.5, None, None, [None, None], False, None, None, []]],
            ["2", "Load_2_b", [None, 1.0, [12.5, 0.0], T0, [None, None], False, None, None, []]],
        ]

    def test_a_load_that_was_left_to_itself_again_has_none(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.release("1", "Load_1")
        assert demand.to_json()["loads"] == []

    def test_a_device_says_how_it_is_connected(self) -> None:
        """Between B and C, as 610 has no neutral."""
        demand = feeder()
        demand.add_device(device(at="610", kvar=2.0, phase="B"))
        expected = ["EV", [10.0, 2.0], ["610", [2, 3], 1, True, 0.48], NOTHING_SAID]
        assert demand.to_json()["devices"] == [expected]

    def test_a_generator_says_what_stands_between_it_and_its_bus(self) -> None:
        """50 kW at 0.48 kV come in over 75 kVA."""
        demand = feeder()
        demand.add_generator(generator(kv=0.48, model=7))
        wires = ["1", [1, 2, 3], 3, False, 4.16]
        rating = [7, 0.9, 1.1, 0.48, 75.0]
        content = demand.to_json()
        expected = ["generator_1", [50.0, 0.0], wires, NOTHING_SAID, rating]
        assert content["generators"] == [expected]
        assert content["generators_named"] == 1

    def test_a_setpoint_is_remembered_with_those_before_it(self) -> None:
        demand = feeder()
        load = element(demand, "1", "Load_1")
        load.hold(Held(20.0, 0.95), T0)
        load.hold(Held(15.0, None), T0 + 5)
        metered(demand, "1", "Load_1", 39.0, at_s=6)
        (row,) = demand.to_json()["loads"]
        held, not_following, above_since, last, former = row[2][4:]
        assert (held, former) == ([15.0, None], [[20.0, T0 + 125]])
        assert (not_following, above_since, last) == (False, T0 + 6, [39.0, 0.0])


class TestRestore:
    def test_everything_that_came_is_still_to_be_placed(self) -> None:
        demand = feeder()
        demand.add_device(device("a", phase="B"))
        demand.add_device(device("gone"))
        demand.add_device(device("b", "610"))
        demand.add_generator(generator(kv=0.48))
        demand.disconnect_device("1", "gone")
        other = restored(demand)
        assert other.has_changed
        placements = other.take_placements()
        assert [each.element.name for each in placements] == ["a", "b", "generator_1"]
        assert all(each.is_there for each in placements)
        assert [each.connection.nodes for each in placements] == [(2,), (1, 2, 3), (1, 2, 3)]
        assert placements[2].machine is not None
        assert placements[2].machine.stepup_kva == 75.0

    def test_everything_that_was_said_is_still_to_be_handed_over(self) -> None:
        demand = feeder()
        demand.set_bus_factor("2", 0.5)
        demand.add_device(device())
        demand.add_generator(generator())
        demands, generation = restored(demand).take_changed()
        assert sorted(each.row for each in demands) == [1, 2, 4]
        assert [each.row for each in generation] == [0]

    def test_devices_keep_their_order_at_a_bus(self) -> None:
        demand = feeder()
        for name in ("c", "a", "b"):
            demand.add_device(device(name, "150"))
            demand.add_device(device(name, "1"))
        demand.disconnect_device("1", "c")
        demand.add_device(device("c", "1"))
        assert names(restored(demand), "150") == ["c", "a", "b"]
        assert names(restored(demand), "1") == ["a", "b", "c"]

    def test_a_number_of_a_generator_is_not_used_again(self) -> None:
        demand = feeder()
        demand.remove_generator(demand.add_generator(generator())[1])
        assert restored(demand).add_generator(generator())[1] == "generator_2"

    def test_an_older_reading_is_still_stale(self) -> None:
        demand = feeder()
        metered(demand, "1", "Load_1", 12.5)
        other = restored(demand)
        assert other.oldest_reading_at() == T0
        assert metered(other, "1", "Load_1", 13.5, at_s=-1) is ReadingOutcome.STALE
        assert metered(other, "1", "Load_1", 13.5, at_s=0) is ReadingOutcome.ACCEPTED

    def test_a_reading_of_unknown_age_still_gives_way(self) -> None:
        demand = feeder()
        demand.take_reading("1", "Load_1", Reading(kw=9.0), T0, retained=True)
        other = restored(demand)
        assert other.oldest_reading_at() is None
        assert other.demands()[0].kw == 9.0
        assert metered(other, "1", "Load_1", 5.0, at_s=-1e9) is ReadingOutcome.ACCEPTED

    def test_obedience_is_still_no_demand(self) -> None:
        """Asked for 20 of its 40 kW before the restart, it draws 20 kW after it."""
        demand = feeder()
        metered(demand, "1", "Load_1", 40.0)
        element(demand, "1", "Load_1").hold(Held(20.0, None), T0)
        other = restored(demand)
        metered(other, "1", "Load_1", 20.0, at_s=60)
        assert other.demands()[0].kw == 40.0

    def test_patience_goes_on_where_it_was(self) -> None:
        """Above its 20 kW since T0, at 39 kW: not following at T0 + 30."""
        demand = feeder()
        element(demand, "1", "Load_1").hold(Held(20.0, None), T0)
        metered(demand, "1", "Load_1", 39.0)
        other = restored(demand)
        other.lapse(T0 + 29)
        assert not element(other, "1", "Load_1").not_following
        other.lapse(T0 + 30)
        assert element(other, "1", "Load_1").not_following
        assert other.demands()[0].kw == 39.0

    def test_one_that_does_not_follow_still_does_not(self) -> None:
        demand = feeder()
        element(demand, "1", "Load_1").hold(Held(20.0, None), T0)
        metered(demand, "1", "Load_1", 39.0)
        demand.lapse(T0 + 30)
        assert element(restored(demand), "1", "Load_1").not_following

    def test_programs_and_relief_are_put_back_by_others(self) -> None:
        demand = feeder()
        demand.adjust(program(20.0))
        demand.relieve({1: ReliefCap(2.0, ("zone",))}, {})
        assert demand.to_json() == feeder().to_json()

    def test_what_was_put_back_cannot_be_taken_back(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.add_device(device())
        other = restored(demand)
        other.roll_back()
        assert other.to_json() == demand.to_json()
        assert len(other.take_placements()) == 1

    def test_names_are_those_of_the_feeder_in_any_case(self) -> None:
        demand = feeder()
        demand.pin("9r", "Load_9", 7.0, 1.0)
        demand.add_device(device(at="9r"))
        loads = tuple(NominalLoad(e.name.upper(), e.bus.upper(), e.kw, e.kvar) for e in LOADS)
        other = feeder(loads, tuple(bus(b.name.upper(), b.phases, b.kv_base) for b in BUSES))
        assert other.restore(demand.to_json()) == []
        assert element(other, "9r", "load_9").pin == Power(7.0, 1.0)
        assert other.take_placements()[0].connection.bus == "9R"


def _eventful() -> Demand:
    """Something of everything."""
    demand = feeder()
    demand.pin("1", "Load_1", 7.0, 1.0)
    demand.set_bus_factor("2", 0.5)
    demand.add_device(device("three", "1"))
    demand.add_device(device("b", "1", phase="B"))
    demand.add_device(device("a", "9r"))
    demand.add_device(device("delta", "610"))
    demand.add_generator(generator("pv", "1", kv=0.48))
    demand.add_generator(generator(None, "150", phases=2))
    metered(demand, "2", "Load_2_b", 12.5)
    held = element(demand, "1", "three")
    held.hold(Held(8.0, None), T0)
    held.hold(Held(5.0, 0.95), T0)
    metered(demand, "1", "three", 10.0)
    return demand


EVENTFUL = through_json(_eventful().to_json())


def without_bus(name: str) -> Demand:
    return feeder(
        tuple(load for load in LOADS if load.bus != name), tuple(b for b in BUSES if b.name != name)
    )


def with_bus(changed: Bus) -> Demand:
    return feeder(buses=tuple(changed if b.name == changed.name else b for b in BUSES))


LOAD_1, LOAD_2_A, LOAD_2_B = (
    f"load {load.name!r} of bus {load.bus!r}" for load in LOADS if load.bus != "9r"
)
AT_ONE_PHASE = "device 'a' of bus '9r'"
IN_DELTA = "device 'delta' of bus '610'"
AT_TWO_PHASES = "generator 'generator_1' of bus '150'"
NO_LOAD = "there is no such load"


class TestMisfits:
    @pytest.mark.parametrize(
        ("other", "problems"),
        [
            (feeder, {}),
            (lambda: feeder(LOADS[1:]), {LOAD_1: NO_LOAD}),
            (lambda: without_bus("2"), {LOAD_2_A: NO_LOAD, LOAD_2_B: NO_LOAD}),
            (lambda: without_bus("610"), {IN_DELTA: "there is no bus '610'"}),
            (lambda: without_bus("150"), {AT_TWO_PHASES: "there is no bus '150'"}),
            (
                lambda: feeder((*LOADS, NominalLoad("B", "1", 1.0, 0.0))),
                {"device 'b' of bus '1'": "bus '1' has a load 'B' already"},
            ),
            (
                lambda: with_bus(bus("150", (2,))),
                {AT_TWO_PHASES: "bus '150' has the phases B"},
            ),
            (
                lambda: with_bus(bus("150", (1, 3))),
                {AT_TWO_PHASES: "bus '150' is not wired as it was"},
            ),
            (
                lambda: with_bus(bus("9r", (3,))),
                {AT_ONE_PHASE: "bus '9r' has the phases C"},
            ),
            (
                lambda: with_bus(bus("610", kv=0.48)),
                {IN_DELTA: "bus '610' is not wired as it was"},
            ),
            (
                lambda: with_bus(bus("610", kv=4.16, grounded=False)),
                {IN_DELTA: "it was at 0.48 kV, and bus '610' has 4.16 kV"},
            ),
            (lambda: with_bus(bus("610", kv=0.49, grounded=False)), {}),
        ],
        ids=[
            "same", "load", "bus-of-loads", "bus-of-device", "bus-of-generator", "name",
            "fewer-phases", "other-phases", "other-phase", "neutral", "kv", "nearly-the-same-kv",
        ],
    )  # fmt: skip
    def test_what_does_not_fit_any_more_is_named_and_the_rest_is_there(
        self, other: Callable[[], Demand], problems: dict[str, str]
    ) -> None:
        demand = other()
        expected = [f"{what} is left out: {why}" for what, why in problems.items()]
        assert demand.restore(EVENTFUL) == expected
        content = demand.to_json()
        for kind in ("loads", "devices", "generators"):
            missing = [row for row in EVENTFUL[kind] if row not in content[kind]]
            assert len(missing) == sum(what.startswith(kind[:-1]) for what in problems)
        there = len(content["devices"]) + len(content["generators"])
        assert len(demand.take_placements()) == there
        assert demand.add_generator(generator())[1] == "generator_2"


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """What EVENTFUL is with another value in one place."""
    content = copy.deepcopy(EVENTFUL)
    inner: Any = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return content


class TestMalformed:
    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ({}, "loads: Field required"),
            ([], "valid dictionary"),
            (None, "valid dictionary"),
            ({**EVENTFUL, "programs": []}, "programs: Extra inputs"),
            (changed(("loads",), {}), "loads: "),
            (changed(("loads", 0), ["1", "Load_1"]), r"loads\.0\.2: Field required"),
            (changed(("loads", 0, 2, 1), "0.5"), r"loads\.0\.2\.1: .* number"),
            (changed(("loads", 0, 2, 1), math.nan), r"loads\.0\.2\.1: .* finite"),
            (changed(("loads", 0, 2, 0), [7.0]), r"loads\.0\.2\.0\.1: Field required"),
            (changed(("loads", 0, 2, 5), 0), r"loads\.0\.2\.5: .* boolean"),
            (changed(("loads", 0), EVENTFUL["loads"][1]), "2, Load_2_a is there twice"),
            (changed(("devices", 0, 0), "EV 1"), r"devices\.0\.0: "),
            (changed(("devices", 0, 0), "B"), "1, b is there twice"),
            (changed(("devices", 0, 2, 1), []), r"devices\.0\.2\.1: "),
            (changed(("devices", 0, 2, 1), [4]), r"devices\.0\.2\.1\.0: "),
            (changed(("generators", 0, 4, 0), 6), r"generators\.0\.4\.0: "),
            (changed(("generators", 0, 0), "GENERATOR_1"), "generator_1 is there twice"),
            (changed(("generators_named",), -1), "generators_named: "),
        ],
    )
    def test_it_says_what_is_wrong_and_changes_nothing(self, content: Any, problem: str) -> None:
        """Model 6 would load code."""
        demand = feeder()
        with pytest.raises(ValueError, match=problem):
            demand.restore(content)
        assert demand.to_json() == feeder().to_json()
        assert not demand.has_changed


Step = Callable[[Demand], Any]
"""Something that happens to a demand; gives its outcome, in terms that can be compared."""


class Commanded(NamedTuple):
    command: SolverCommand

    def __call__(self, demand: Demand) -> Any:
        try:
            done = handle(self.command, demand)
        except Refusal as refused:
            return refused.code, refused.message
        return done


class Metered(NamedTuple):
    bus: str
    name: str
    reading: Reading
    after_s: float
    retained: bool

    def __call__(self, demand: Demand) -> Any:
        at_s = T0 + self.after_s
        return demand.take_reading(self.bus, self.name, self.reading, at_s, retained=self.retained)


class Asked(NamedTuple):
    """A setpoint goes out."""

    bus: str
    name: str
    held: Held
    after_s: float
    for_now: bool

    def __call__(self, demand: Demand) -> Any:
        found = demand.find(self.bus, self.name)
        if found is not None:
            found.hold(self.held, T0 + self.after_s, for_now=self.for_now)


class Lapsed(NamedTuple):
    after_s: float

    def __call__(self, demand: Demand) -> Any:
        demand.lapse(T0 + self.after_s)


class Adjusted(NamedTuple):
    bus: str
    max_kw: float

    def __call__(self, demand: Demand) -> Any:
        demand.adjust(program(self.max_kw, self.bus))


kws = st.floats(0, 100)
kvars = st.none() | st.floats(-100, 100)
seconds = st.floats(0, 200)
at_buses = st.sampled_from(["1", "1", "2", "9r", "610", "150", "77"])
device_names = st.sampled_from(["a", "A", "b", "c", "Load_1", "generator_1"])
generator_names = st.none() | st.sampled_from(["a", "c", "pv", "generator_2"])
device_places = st.sampled_from([("1", "a"), ("1", "b"), ("150", "A"), ("2", "c"), ("77", "a")])
places = (
    st.sampled_from([(load.bus, load.name) for load in LOADS])
    | device_places
    | st.sampled_from([("1", "pv"), ("150", "generator_1"), ("1", "generator_2")])
)
wirings = st.sampled_from([{}, {}, {"phase": "A"}, {"phase": "B"}, {"phases": 2}, {"phases": 3}])

commands = st.one_of(
    st.builds(
        lambda at, kw, kvar: SetLoad(bus_name=at[0], load_name=at[1], new_kw=kw, new_kvar=kvar),
        places,
        kws,
        kvars,
    ),
    st.builds(lambda at: ReleaseLoad(bus_name=at[0], load_name=at[1]), places),
    st.builds(lambda at: ReleaseLoad(bus_name=at), at_buses),
    st.builds(lambda at, factor: SetFactor(bus_name=at, factor=factor), at_buses, st.floats(0, 10)),
    st.builds(
        lambda number, factor: SetFactor(neighbourhood=number, factor=factor),
        st.sampled_from([1, 7, 8]),
        st.floats(0, 10),
    ),
    *[
        st.builds(
            lambda at, name, kw, kvar, wires: AddDevice(
                bus_name=at, device_name=name, kw=kw, kvar=kvar, **wires
            ),
            at_buses,
            device_names,
            kws,
            kvars,
            wirings,
        ),
        st.builds(
            lambda at, name, kw, kv, wires: AddGenerator(
                bus_name=at, generator_name=name, kw=kw, kv=kv, **wires
            ),
            at_buses,
            generator_names,
            kws,
            st.sampled_from([None, 0.48]),
            wirings,
        ),
    ]
    * 2,
    st.builds(lambda at: DisconnectDevice(bus_name=at[0], device_name=at[1]), device_places),
    st.builds(
        lambda name: RemoveGenerator(generator_name=name),
        st.sampled_from(["a", "c", "pv", "generator_1", "generator_2", "generator_3"]),
    ),
).map(Commanded)

readings = st.builds(
    lambda at, kw, kvar, demand_kw, after_s, retained: Metered(
        at[0], at[1], Reading(kw=kw, kvar=kvar, demand_kw=demand_kw), after_s, retained
    ),
    places,
    st.sampled_from([5.0, 10.0, 20.0]) | kws,
    kvars,
    st.none() | kws,
    seconds,
    st.booleans(),
)
setpoints = st.builds(
    lambda at, held, after_s, for_now: Asked(at[0], at[1], held, after_s, for_now),
    places,
    st.sampled_from([FREE, Held(None, None), Held(5.0, None), Held(10.0, 0.95), Held(20.0, None)]),
    seconds,
    st.booleans(),
)
adjustments = st.builds(Adjusted, at_buses, kws)
anything = st.one_of(
    commands, commands, readings, readings, setpoints, seconds.map(Lapsed), adjustments
)

FIRST = [
    Commanded(AddDevice(bus_name="1", device_name="a", kw=10.0)),
    Commanded(AddDevice(bus_name="1", device_name="b", kw=8.0, phase="B")),
    Commanded(AddDevice(bus_name="150", device_name="a", kw=5.0)),
    Commanded(AddGenerator(bus_name="1", generator_name="pv", kw=20.0, kv=0.48)),
    Commanded(AddGenerator(bus_name="150", kw=30.0)),
]
"""So that there is something to take away."""


def steps(each: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """A few as a rule, at times many."""
    return st.lists(each, max_size=12) | st.lists(each, min_size=10, max_size=30)


def do(demand: Demand, taken: list[Any]) -> list[Any]:
    return [step(demand) for step in taken]


class Follower:
    """What an engine makes of what it is handed: it never looks at the demand itself."""

    def __init__(self) -> None:
        self.demands = {each.row: each for each in feeder().demands()}
        self.generation: dict[int, GenerationInForce] = {}

    def keeps_up_with(self, demand: Demand) -> bool:
        for placement in demand.take_placements():
            kept: dict[int, Any] = self.demands if placement.machine is None else self.generation
            assert (placement.element.row in kept) is not placement.is_there
            kept.pop(placement.element.row, None)
            if placement.is_there:
                kept[placement.element.row] = None
        demands, generation = demand.take_changed()
        self.demands |= {each.row: each for each in demands}
        self.generation |= {each.row: each for each in generation}
        return (
            list(map(self.demands.get, sorted(self.demands))) == demand.demands()
            and list(map(self.generation.get, sorted(self.generation))) == demand.generation()
        )


def in_force(demand: Demand) -> dict[tuple[str, str], DemandInForce | GenerationInForce]:
    """What follows for every element, whatever its row."""
    follows: dict[tuple[str, str], DemandInForce | GenerationInForce] = {}
    for each in demand.demands():
        found = demand.consumer(each.row)
        follows[found.bus, found.name] = each._replace(row=0)
    for produced in demand.generation():
        found = demand.generator(produced.row)
        follows[found.bus, found.name] = produced._replace(row=0)
    return follows


def elements(demand: Demand) -> dict[int, Element]:
    """Every element, by row; generators from -1 downwards."""
    consumers = {each.row: demand.consumer(each.row) for each in demand.demands()}
    return consumers | {-1 - each.row: demand.generator(each.row) for each in demand.generation()}


Move = tuple[bool, int, int]
"""Whether a place is taken or given back, for what key, and which of those that are taken."""

moves = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 99)), max_size=30)


def move(slots: Slots[int], taken: dict[int, int], these: list[Move]) -> None:
    for takes, key, which in these:
        if takes or not taken:
            taken[slots.take(key)] = key
        else:
            place = sorted(taken)[which % len(taken)]
            slots.give_back(place, taken.pop(place))


class TestLaws:
    @given(
        before=steps(anything),
        caps=st.dictionaries(st.integers(0, 6), kws.map(lambda kw: ReliefCap(kw, ("zone",)))),
        batch=steps(st.one_of(commands, commands, adjustments)),
        after=steps(anything),
    )
    @settings(max_examples=300)
    def test_what_is_taken_back_has_never_been(
        self,
        before: list[Step],
        caps: dict[int, ReliefCap],
        batch: list[Step],
        after: list[Step],
    ) -> None:
        """A twin that never saw the commands of the batch, only the programs that came between
        them, is in the same state, rows included, and stays so.
        """
        demand, twin = feeder(), feeder()
        engine = Follower()
        for each in (demand, twin):
            do(each, FIRST + before)
            each.commit()
        assert engine.keeps_up_with(demand)
        twin.take_placements()
        for each in (demand, twin):
            each.relieve(
                {row: cap for row, cap in caps.items() if row in engine.demands},
                {row: cap for row, cap in caps.items() if row in engine.generation},
            )
        there = elements(demand)
        do(demand, batch)
        do(twin, [step for step in batch if isinstance(step, Adjusted)])
        demand.roll_back()
        assert elements(demand) == there
        for taken in ([], after):
            assert do(demand, taken) == do(twin, taken)
            assert demand.to_json() == twin.to_json()
            assert demand.demands() == twin.demands()
            assert demand.generation() == twin.generation()
            assert demand.oldest_reading_at() == twin.oldest_reading_at()
        assert engine.keeps_up_with(demand)

    @given(before=steps(anything), adjusted=adjustments, after=steps(anything))
    @settings(max_examples=300)
    def test_one_that_was_put_back_goes_on_as_the_one_before(
        self, before: list[Step], adjusted: Step, after: list[Step]
    ) -> None:
        """To the last digit; rows may be others, and whoever begins with it is told all."""
        demand = feeder()
        do(demand, FIRST + before)
        other = restored(demand)
        assert other.to_json() == demand.to_json()
        do(demand, [adjusted])
        do(other, [adjusted])
        assert in_force(other) == in_force(demand)
        engine = Follower()
        assert engine.keeps_up_with(other)
        assert do(other, after) == do(demand, after)
        assert other.to_json() == demand.to_json()
        assert in_force(other) == in_force(demand)
        assert other.oldest_reading_at() == demand.oldest_reading_at()
        assert engine.keeps_up_with(other)

    @given(before=steps(anything), after=steps(commands), lost=steps(commands))
    @settings(max_examples=300)
    def test_a_snapshot_and_what_was_accepted_after_it_make_the_whole(
        self, before: list[Step], after: list[Commanded], lost: list[Commanded]
    ) -> None:
        """Also where some commands came to nothing, as nobody could write them down."""
        demand = feeder()
        do(demand, FIRST + [step for step in before if not isinstance(step, Adjusted)])
        demand.commit()
        snapshot = orjson.dumps(demand.to_json())
        journal: list[tuple[Commanded, Any]] = []
        for batch, is_written in ((after[:9], True), (lost, False), (after[9:], True)):
            outcomes = do(demand, batch)
            if is_written:
                demand.commit()
                journal += zip(batch, outcomes, strict=True)
            else:
                demand.roll_back()
        other = feeder()
        assert other.restore(orjson.loads(snapshot)) == []
        for step, outcome in journal:
            if isinstance(outcome, Done):
                assert step(other) == outcome
        assert other.to_json() == demand.to_json()
        assert in_force(other) == in_force(demand)

    @given(before=moves, after=moves)
    def test_places_are_free_as_they_were(self, before: list[Move], after: list[Move]) -> None:
        """With about as many of them free as may wait for their like."""
        undo: Undo = []
        slots: Slots[int] = Slots(0, undo)
        taken = {slots.take(1000 + number): number for number in range(60)}
        for place in range(20, 55):
            slots.give_back(place, taken.pop(place))
        move(slots, taken, before)
        undo.clear()
        expected = slots._next, list(slots._free.items())
        move(slots, taken, after)
        while undo:
            undo.pop()()
        assert (slots._next, list(slots._free.items())) == expected

    @given(
        lost=st.sets(st.sampled_from([b.name for b in BUSES])),
        phases=st.sampled_from([(1,), (2,), (1, 2), (2, 3), (1, 2, 3)]),
        grounded=st.booleans(),
    )
    @settings(max_examples=50)
    def test_a_problem_is_told_for_everything_that_is_missing(
        self, lost: set[str], phases: tuple[int, ...], grounded: bool
    ) -> None:
        """Of a feeder that was rebuilt: what is there again is what it was."""
        buses = tuple(
            bus(b.name, phases if b.name == "150" else b.phases, b.kv_base, grounded=grounded)
            for b in BUSES
            if b.name not in lost
        )
        other = feeder(tuple(load for load in LOADS if load.bus not in lost), buses)
        problems = other.restore(EVENTFUL)
        content = other.to_json()
        missing = 0
        for kind in ("loads", "devices", "generators"):
            assert all(row in EVENTFUL[kind] for row in content[kind])
            missing += len(EVENTFUL[kind]) - len(content[kind])
        assert len(problems) == missing
        assert not any("\n" in problem for problem in problems)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    for key, each in inner:
        is_inner = isinstance(each, list | dict)
        found += _paths(each, (*path, key)) if is_inner else [(*path, key)]
    return found


junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.text(max_size=3),
        st.sampled_from(["1", "Load_1", "b", "pv", [1], [1, 1], [3, 2, 1]]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)


class TestAnyContent:
    @given(path=st.sampled_from(_paths(EVENTFUL)), value=junk)
    @settings(max_examples=500)
    def test_what_is_not_quite_a_snapshot_is_put_back_or_refused(
        self, path: tuple[str | int, ...], value: Any
    ) -> None:
        self._is_put_back_or_refused(changed(path, value))

    @given(content=junk | st.fixed_dictionaries(dict.fromkeys(EVENTFUL, junk)))
    def test_what_is_nothing_like_a_snapshot_is_put_back_or_refused(self, content: Any) -> None:
        self._is_put_back_or_refused(content)

    def _is_put_back_or_refused(self, content: Any) -> None:
        demand = feeder()
        try:
            demand.restore(content)
        except ValueError:
            assert demand.to_json() == feeder().to_json()
            assert not demand.has_changed
        else:
            again = feeder()
            assert again.restore(through_json(demand.to_json())) == []
            assert again.to_json() == demand.to_json()
