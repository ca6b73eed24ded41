"""Demand of every load, from what operators, meters and the model say. Pure: no clock, no I/O.

What the engine is to see is derived from these inputs at every solve and stored nowhere else, so
the order of commands does not matter, repeating one changes nothing, and lifting anything
restores the demand to the last digit. The rules stand in ``docs/demand.md``.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from schemas.errors import ErrorCode, Refusal
from schemas.readings import Reading
from schemas.wire import canonical

_READING_AT = attrgetter("reading_at")

FUTURE_LIMIT_S = 60.0
"""A reading stamped further ahead than this is refused."""


class Source(StrEnum):
    """Who says what a load demands."""

    OPERATOR = "operator"
    METER = "meter"
    NOMINAL = "nominal"


class ReadingOutcome(StrEnum):
    """What became of a reading."""

    ACCEPTED = "accepted"
    STALE = "stale"
    FUTURE = "future"
    UNKNOWN_BUS = "unknown_bus"
    UNKNOWN_ELEMENT = "unknown_element"


@dataclass(frozen=True, slots=True)
class NominalLoad:
    """A load as the feeder's model has it; demand in kW and kvar at nominal voltage."""

    name: str
    bus: str
    kw: float
    kvar: float


class Power(NamedTuple):
    """Demand in kW and kvar; consumption is positive."""

    kw: float
    kvar: float


class DemandInForce(NamedTuple):
    """What follows from the inputs of one load: what is asked for, and how it is to be solved."""

    load: int
    """Index of the load in the circuit."""
    kw: float
    kvar: float
    factor: float
    source: Source
    constant_power: bool
    """True where somebody said what is drawn; the nominal demand keeps the load's model."""


class LoadDemand:
    """The inputs of one load, and the demand that follows from them."""

    __slots__ = ("bus", "factor", "index", "name", "nominal", "pin", "reading", "reading_at")

    def __init__(self, index: int, load: NominalLoad) -> None:
        self.index = index
        self.name = load.name
        self.bus = load.bus
        self.nominal = Power(load.kw, load.kvar)
        self.factor = 1.0
        self.pin: Power | None = None
        self.reading: Power | None = None
        self.reading_at = -math.inf
        """When the newest reading was taken, epoch seconds; -inf where it did not say."""

    def in_force(self) -> DemandInForce:
        """Pin, else newest reading, else nominal; times the factor."""
        factor = self.factor
        if self.pin is not None:
            (kw, kvar), source = self.pin, Source.OPERATOR
        elif self.reading is not None:
            (kw, kvar), source = self.reading, Source.METER
        else:
            (kw, kvar), source = self.nominal, Source.NOMINAL
        said = source is not Source.NOMINAL
        return DemandInForce(self.index, kw * factor, kvar * factor, factor, source, said)

    def power(self, kw: float, kvar: float | None) -> Power:
        """``kw`` with its kvar, or with the nominal power factor where that is not given."""
        if kvar is None:
            kvar = kw * (self.nominal.kvar / self.nominal.kw) if self.nominal.kw else 0.0
        return Power(kw, kvar)


class Demand:
    """Demand of all loads of a feeder: the one place where it changes.

    Every command either takes effect whole and returns the names of the buses it touched, or
    raises :class:`Refusal` and changes nothing.
    """

    def __init__(
        self, loads: Sequence[NominalLoad], neighbourhoods: Mapping[int, Iterable[str]]
    ) -> None:
        self.loads = tuple(LoadDemand(index, load) for index, load in enumerate(loads))
        self._by_bus: dict[str, dict[str, LoadDemand]] = {}
        for load in self.loads:
            self._by_bus.setdefault(canonical(load.bus), {})[canonical(load.name)] = load
        self._neighbourhoods = {
            number: tuple(canonical(bus) for bus in buses)
            for number, buses in neighbourhoods.items()
        }
        self._buses: set[str] = set(self._by_bus)
        self._metered: set[LoadDemand] = set()
        self._changed: set[LoadDemand] = set()

    def know_buses(self, buses: Iterable[str]) -> None:
        """Name the buses of the circuit, so that one without load is told from none at all."""
        self._buses |= {canonical(bus) for bus in buses}

    def pin(self, bus: str, load: str, kw: float, kvar: float | None) -> tuple[str, ...]:
        """Hold one load at a demand until released; its factor goes back to 1."""
        found = self._load(bus, load)
        found.pin = found.power(kw, kvar)
        found.factor = 1.0
        self._changed.add(found)
        return (found.bus,)

    def release(self, bus: str, load: str | None) -> tuple[str, ...]:
        """Lift the pin of one load, or of all loads of a bus."""
        loads = [self._load(bus, load)] if load is not None else self._loads_of(bus)
        for found in loads:
            found.pin = None
            self._changed.add(found)
        return (loads[0].bus,)

    def set_bus_factor(self, bus: str, factor: float) -> tuple[str, ...]:
        """Set the factor of every load of a bus."""
        return self._set_factor(self._loads_of(bus), factor)

    def set_neighbourhood_factor(self, number: int, factor: float) -> tuple[str, ...]:
        """Set the factor of every load of a neighbourhood."""
        buses = self._neighbourhoods.get(number)
        if buses is None:
            raise Refusal.of_field(
                ErrorCode.NEIGHBOURHOOD_NOT_FOUND,
                "neighbourhood",
                f"there is no neighbourhood {number}",
            )
        loads = [load for bus in buses for load in self._by_bus.get(bus, {}).values()]
        return self._set_factor(loads, factor)

    def take_reading(
        self, bus: str, element: str, reading: Reading, arrived_at: float, *, retained: bool
    ) -> ReadingOutcome:
        """Keep a reading if it is the newest of its load; ``arrived_at`` in epoch seconds."""
        loads = self._by_bus.get(canonical(bus))
        if loads is None:
            known = canonical(bus) in self._buses
            return ReadingOutcome.UNKNOWN_ELEMENT if known else ReadingOutcome.UNKNOWN_BUS
        load = loads.get(canonical(element))
        if load is None:
            return ReadingOutcome.UNKNOWN_ELEMENT
        if reading.at is not None:
            at = reading.at.timestamp()
            if at > arrived_at + FUTURE_LIMIT_S:
                return ReadingOutcome.FUTURE
        elif retained:
            # Nobody knows how long the broker has kept it: it only fills a gap.
            if load.reading is not None:
                return ReadingOutcome.STALE
            at = -math.inf
        else:
            at = arrived_at
        if at < load.reading_at:
            return ReadingOutcome.STALE
        load.reading = load.power(reading.kw, reading.kvar)
        load.reading_at = at
        if at != -math.inf:
            self._metered.add(load)
        self._changed.add(load)
        return ReadingOutcome.ACCEPTED

    def in_force(self) -> list[DemandInForce]:
        """The demand of every load."""
        return [load.in_force() for load in self.loads]

    @property
    def has_changed(self) -> bool:
        return bool(self._changed)

    def take_changed(self) -> list[DemandInForce]:
        """The demand of each load for which it may have changed since the last call."""
        changed, self._changed = self._changed, set()
        return [load.in_force() for load in changed]

    def oldest_reading_at(self) -> float | None:
        """When the oldest of the newest readings was taken, epoch seconds."""
        return min(map(_READING_AT, self._metered), default=None)

    def _set_factor(self, loads: list[LoadDemand], factor: float) -> tuple[str, ...]:
        for load in loads:
            load.factor = factor
        self._changed.update(loads)
        return tuple(dict.fromkeys(load.bus for load in loads))

    def _loads_of(self, bus: str) -> list[LoadDemand]:
        loads = self._by_bus.get(canonical(bus))
        if loads is not None:
            return list(loads.values())
        if canonical(bus) in self._buses:
            raise Refusal.of_field(ErrorCode.LOAD_NOT_FOUND, "bus_name", f"bus {bus!r} has no load")
        raise Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", f"there is no bus {bus!r}")

    def _load(self, bus: str, load: str) -> LoadDemand:
        loads = self._loads_of(bus)
        for found in loads:
            if canonical(found.name) == canonical(load):
                return found
        names = ", ".join(found.name for found in loads)
        raise Refusal.of_field(
            ErrorCode.LOAD_NOT_FOUND,
            "load_name",
            f"bus {bus!r} has no load {load!r}; it has {names}",
        )
