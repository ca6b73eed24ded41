"""Everything that is demanded and produced on a feeder: the one place where it changes. Pure.

What the engine is to see is derived from inputs (what operators, meters, programs and the model
say) at every solve and stored nowhere else, so the order of commands does not matter, repeating
one changes nothing, and lifting anything restores demand to the last digit. The rules stand in
``docs/demand.md``.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from schemas.equipment import DeviceAddition, GeneratorAddition
from schemas.errors import ErrorCode, Refusal
from schemas.programs import Adjustments
from schemas.readings import Reading
from schemas.wire import canonical
from services.solver import inputs
from services.solver.bus_rule import (
    BusRule,
    DemandInForce,
    ReliefCap,
    ruled,
    rules_by_bus,
    unruled,
)
from services.solver.elements import GENERATOR, Element, NominalLoad, Power, Source
from services.solver.network import Bus
from services.solver.roster import Placement, Roster
from services.solver.slots import Undo

_READING_AT = attrgetter("reading_at")

FUTURE_LIMIT_S = 60.0
"""A reading stamped further ahead than this is refused."""


class ReadingOutcome(StrEnum):
    """What became of a reading."""

    ACCEPTED = "accepted"
    STALE = "stale"
    FUTURE = "future"
    UNKNOWN_BUS = "unknown_bus"
    UNKNOWN_ELEMENT = "unknown_element"


class GenerationInForce(NamedTuple):
    """What follows for one generator, positive production in kW and kvar: what is available, and
    what is let through. ``max_kw`` is what it is asked to keep to, None where it is free, and
    ``asked_by`` who asks; ``held_by`` are those that ask for less than is available.
    """

    row: int
    available_kw: float
    kw: float
    kvar: float
    source: Source
    held_by: tuple[str, ...]
    not_following: bool
    max_kw: float | None
    asked_by: tuple[str, ...]


class Demand:
    """Demand of all loads and devices of a feeder, and production of its generators.

    Every command either takes effect whole and returns the names of the buses it touched, or
    raises :class:`Refusal` and changes nothing. Until :meth:`commit` it can be taken back.
    """

    def __init__(
        self,
        loads: Sequence[NominalLoad],
        buses: Iterable[Bus],
        neighbourhoods: Mapping[int, Iterable[str]],
    ) -> None:
        self._undo: Undo = []
        self._roster = Roster(loads, buses, self._undo)
        self._neighbourhoods = {number: tuple(buses) for number, buses in neighbourhoods.items()}
        self._rules: dict[str, BusRule] = {}
        self._load_relief: Mapping[int, ReliefCap] = {}
        self._generator_relief: Mapping[int, ReliefCap] = {}
        self._metered: set[Element] = set()
        self._above: set[Element] = set()
        """Those that were read above their setpoint, and perhaps no longer are."""
        self._changed: set[Element] = set()
        self._placements: list[Placement] = []

    # What operators say.

    def pin(self, bus: str, load: str, kw: float, kvar: float | None) -> tuple[str, ...]:
        """Hold one load or device at a demand until released; its factor goes back to 1."""
        found = self._roster.consumer(bus, load)
        self._operate(found, found.power(kw, kvar), 1.0)
        return (found.bus,)

    def release(self, bus: str, load: str | None) -> tuple[str, ...]:
        """Lift the pin of one load or device, or of all of a bus."""
        roster = self._roster
        found = roster.consumers_of(bus) if load is None else [roster.consumer(bus, load)]
        for element in found:
            self._operate(element, None, element.factor)
        return (found[0].bus,)

    def set_bus_factor(self, bus: str, factor: float) -> tuple[str, ...]:
        """Set the factor of every load of a bus."""
        return self._set_factor(self._roster.loads_of(bus), factor)

    def set_neighbourhood_factor(self, number: int, factor: float) -> tuple[str, ...]:
        """Set the factor of every load of a neighbourhood."""
        buses = self._neighbourhoods.get(number)
        if buses is None:
            raise Refusal.of_field(
                ErrorCode.NEIGHBOURHOOD_NOT_FOUND,
                "neighbourhood",
                f"there is no neighbourhood {number}",
            )
        loads = [load for bus in buses for load in self._roster.loads_at(bus)]
        return self._set_factor(loads, factor)

    def add_device(self, wanted: DeviceAddition) -> tuple[str, ...]:
        """Connect a flexible load."""
        return self._place(self._roster.add_device(wanted))

    def disconnect_device(self, bus: str, device: str) -> tuple[str, ...]:
        """Take a device off its bus."""
        return self._place(self._roster.remove_device(bus, device))

    def add_generator(self, wanted: GeneratorAddition) -> tuple[tuple[str, ...], str]:
        """Connect a generator; returns the buses touched, and its name."""
        placement = self._roster.add_generator(wanted)
        return self._place(placement), placement.element.name

    def remove_generator(self, name: str) -> tuple[str, ...]:
        """Take a generator off the feeder."""
        return self._place(self._roster.remove_generator(name))

    def commit(self) -> None:
        """What commands have changed until now stays."""
        self._undo.clear()

    def roll_back(self) -> None:
        """Take back everything that commands have changed since the last commit, of which nothing
        has been handed over yet. What they touched is handed over as if it had changed.
        """
        while self._undo:
            self._undo.pop()()

    # What was there before.

    def to_json(self) -> dict[str, Any]:
        """What operators and meters said, which setpoints were sent, and what has come to the
        feeder, in terms of JSON (kW, kvar, epoch seconds); not what programs and relief say.
        """
        return inputs.to_json(self._roster)

    def restore(self, content: dict[str, Any]) -> list[str]:
        """Put back what :meth:`to_json` gave, on a demand of which nothing has been said yet.

        Returns what does not fit the feeder any more, a line each; it is left out.

        Raises:
            ValueError: for what :meth:`to_json` has not given; nothing is changed.

        """
        restored = inputs.restore(self._roster, content)
        for placement in restored.placements:
            self._place(placement)
        for element in restored.elements:
            self._watch(element)
        self._changed.update(restored.elements)
        self.commit()
        return restored.problems

    # What meters, programs and relief say.

    def take_reading(
        self, bus: str, element: str, reading: Reading, arrived_at: float, *, retained: bool
    ) -> ReadingOutcome:
        """Keep a reading if it is the newest of its element; ``arrived_at`` in epoch seconds."""
        found = self._roster.find(bus, element)
        if found is None:
            known = self._roster.has_bus(bus)
            return ReadingOutcome.UNKNOWN_ELEMENT if known else ReadingOutcome.UNKNOWN_BUS
        if reading.at is not None:
            at = reading.at.timestamp()
            if at > arrived_at + FUTURE_LIMIT_S:
                return ReadingOutcome.FUTURE
        elif retained:
            # Nobody knows how long the broker has kept it: it only fills a gap.
            if found.reading is not None:
                return ReadingOutcome.STALE
            at = -math.inf
        else:
            at = arrived_at
        # What is held from further ahead was stamped by a clock that has been put right since. What
        # comes live is newer than that; what the broker has kept may not be.
        is_from_ahead = found.reading_at > arrived_at + FUTURE_LIMIT_S
        if at < found.reading_at and (retained or not is_from_ahead):
            return ReadingOutcome.STALE
        found.read(reading, at, arrived_at)
        self._watch(found)
        self._changed.add(found)
        return ReadingOutcome.ACCEPTED

    def lapse(self, now: float) -> None:
        """Lose patience with those who have been above their setpoints for too long; ``now`` in
        epoch seconds.
        """
        self._changed.update(element for element in self._above if element.lapse(now))
        self._above = {element for element in self._above if element.is_above}

    def adjust(self, adjustments: Adjustments) -> list[Element]:
        """Put these programs in force, and no others; buses that there are not are left out.

        Returns the loads and devices at buses where that changes anything.
        """
        rules = rules_by_bus(adjustments.programs)
        concerned = [
            element
            for bus in {*rules, *self._rules}
            if rules.get(bus) != self._rules.get(bus)
            for element in self._roster.consumers_at(bus)
        ]
        self._rules = rules
        self._changed.update(concerned)
        return concerned

    def relieve(self, loads: Mapping[int, ReliefCap], generators: Mapping[int, ReliefCap]) -> None:
        """Have relief hold these rows of loads and devices, and of generators, and no others."""
        self._mark(self._load_relief, loads, self._roster.consumer_of_row)
        self._mark(self._generator_relief, generators, self._roster.generator_of_row)
        self._load_relief, self._generator_relief = loads, generators

    # What follows.

    @property
    def loads(self) -> tuple[Element, ...]:
        """The feeder's own loads, by row."""
        return self._roster.loads

    @property
    def has_changed(self) -> bool:
        return bool(self._changed or self._placements)

    def take_placements(self) -> list[Placement]:
        """What has come and gone since the last call, in order."""
        taken, self._placements = self._placements, []
        return taken

    def take_changed(self) -> tuple[list[DemandInForce], list[GenerationInForce]]:
        """Demand and generation of each element for which it may have changed since the last call.

        Where a rule holds, all elements of its bus are given.
        """
        changed, self._changed = self._changed, set()
        demands: list[DemandInForce] = []
        generation: list[GenerationInForce] = []
        buses: set[str] = set()
        rules, relief = self._rules, self._load_relief
        for element in changed:
            if element.kind is GENERATOR:
                generation.append(self._generation(element))
            elif rules and canonical(element.bus) in rules:
                buses.add(canonical(element.bus))
            elif relief and element.row in relief:
                demands += ruled((element,), None, relief)
            else:
                demands.append(unruled(element))
        for bus in buses:
            demands += ruled(self._roster.consumers_at(bus), rules[bus], relief)
        return demands, generation

    def demands(self) -> list[DemandInForce]:
        """The demand of every load and device, by row."""
        found = [
            demand
            for bus in self._roster.buses_with_consumers()
            for demand in ruled(
                self._roster.consumers_at(bus), self._rules.get(bus), self._load_relief
            )
        ]
        return sorted(found)

    def generation(self) -> list[GenerationInForce]:
        """The production of every generator, by row."""
        return sorted(self._generation(generator) for generator in self._roster.generators())

    def find(self, bus: str, name: str) -> Element | None:
        """The load, device or generator of a name at a bus, if there is one."""
        return self._roster.find(bus, name)

    def elements(self) -> list[Element]:
        """Every load, device and generator."""
        return [*self._roster.consumers(), *self._roster.generators()]

    def use_up_name(self) -> None:
        """Give the name that the next unnamed generator would have had to none."""
        self._roster.generators_named += 1

    def consumer(self, row: int) -> Element:
        """The load or device of a row."""
        return _there(self._roster.consumer_of_row(row))

    def generator(self, row: int) -> Element:
        """The generator of a row."""
        return _there(self._roster.generator_of_row(row))

    def programs_by_bus(self) -> dict[str, tuple[str, ...]]:
        """Names of the programs in force, by name of the bus."""
        return {
            self._roster.bus(bus).name: rule.programs
            for bus, rule in self._rules.items()
            if self._roster.has_bus(bus)
        }

    def oldest_reading_at(self) -> float | None:
        """When the oldest of the newest readings was taken, epoch seconds."""
        return min(map(_READING_AT, self._metered), default=None)

    def _generation(self, generator: Element) -> GenerationInForce:
        (kw, kvar), source = generator.base()
        relief = self._generator_relief.get(generator.row)
        max_kw, asked_by = (None, ()) if relief is None else relief
        is_held = max_kw is not None and kw > max_kw
        not_following = max_kw is not None and generator.not_following
        let_through = Power(kw, kvar)
        if max_kw is not None and is_held and not not_following:
            let_through = Power(max_kw, kvar * (max_kw / kw))
        return GenerationInForce(
            generator.row,
            kw,
            let_through.kw,
            let_through.kvar,
            source,
            asked_by if is_held else (),
            not_following,
            max_kw,
            asked_by,
        )

    def _mark(
        self,
        before: Mapping[int, ReliefCap],
        after: Mapping[int, ReliefCap],
        of_row: Callable[[int], Element | None],
    ) -> None:
        for row in {*before, *after}:
            if before.get(row) != after.get(row) and (element := of_row(row)) is not None:
                self._changed.add(element)

    def _place(self, placement: Placement) -> tuple[str, ...]:
        """Take note of what has come or gone; returns the bus that it touches."""
        element = placement.element
        self._undo.append(
            partial(self._take_back, placement, self._load_relief, self._generator_relief)
        )
        if placement.is_there:
            self._changed.add(element)
        else:
            self._forget(element)
        if canonical(element.bus) in self._rules:
            self._changed.update(self._roster.consumers_at(element.bus))
        # Relief that concerned the row before is not this element's.
        if placement.machine is None:
            self._load_relief = _without(self._load_relief, element.row)
        else:
            self._generator_relief = _without(self._generator_relief, element.row)
        self._placements.append(placement)
        return (element.bus,)

    def _take_back(
        self,
        placement: Placement,
        load_relief: Mapping[int, ReliefCap],
        generator_relief: Mapping[int, ReliefCap],
    ) -> None:
        """Undo :meth:`_place`, with the relief of before."""
        self._placements.pop()
        self._load_relief, self._generator_relief = load_relief, generator_relief
        if placement.is_there:
            self._forget(placement.element)
        else:
            self._watch(placement.element)
            # Rules may have changed while it was away.
            self._changed.add(placement.element)

    def _watch(self, element: Element) -> None:
        """Take note of what its newest reading says."""
        if element.is_dated:
            self._metered.add(element)
        if element.is_above:
            self._above.add(element)

    def _forget(self, element: Element) -> None:
        """It is not there any more."""
        self._metered.discard(element)
        self._above.discard(element)
        self._changed.discard(element)

    def _set_factor(self, loads: list[Element], factor: float) -> tuple[str, ...]:
        for load in loads:
            self._operate(load, load.pin, factor)
        return tuple(dict.fromkeys(load.bus for load in loads))

    def _operate(self, element: Element, pin: Power | None, factor: float) -> None:
        """Have what an operator says of an element in force."""
        self._undo.append(partial(element.operate, element.pin, element.factor))
        element.operate(pin, factor)
        self._changed.add(element)


def _without(relief: Mapping[int, ReliefCap], row: int) -> Mapping[int, ReliefCap]:
    return {r: cap for r, cap in relief.items() if r != row} if row in relief else relief


def _there(element: Element | None) -> Element:
    if element is None:
        raise KeyError("nothing is at this row")
    return element
