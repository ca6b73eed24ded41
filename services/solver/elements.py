"""What draws or produces at a bus: its inputs, and the demand that follows from them. Pure.

The inputs are what an operator, a meter and the model say; an element that has a setpoint is read
with care, since a device that obeys its setpoint says nothing of what it would draw without it.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.readings import Reading
from schemas.wire import POWER_LIMIT

OBEYS_FROM = 0.9
OBEYS_TO = 1.05
"""A reading within these shares of the setpoint is obedience."""

STANDBY_KW = 0.05
"""What a device that is asked for 0 kW may still draw."""

LEAST_KW = 0.001
"""Less than this has no power factor worth the name."""

PATIENCE_S = 30.0
"""How long a reading may be above its setpoint before its element counts as not following."""

MEMORY_S = 120.0
"""How long one may still obey a setpoint that has been replaced: devices are late, meters rare."""

MOST_FORMER = 16
"""Replaced setpoints that are remembered."""


class Source(StrEnum):
    """Who says what an element demands."""

    OPERATOR = "operator"
    METER = "meter"
    NOMINAL = "nominal"


class Kind(StrEnum):
    LOAD = "load"
    DEVICE = "device"
    GENERATOR = "generator"


# For what is done for each element at each solve: to find a member of an enumeration takes longer
# than the rest of it.
OPERATOR, METER, NOMINAL = Source
DEVICE, GENERATOR = Kind.DEVICE, Kind.GENERATOR


class Power(NamedTuple):
    """kW and kvar; consumption is positive, a generator's production likewise."""

    kw: float
    kvar: float


class Held(NamedTuple):
    """What an element is asked to keep to: most kW and power factor, None where it is free."""

    max_kw: float | None
    pf: float | None


FREE = Held(None, None)


class Former(NamedTuple):
    """A setpoint in kW that has been replaced, and until when it may be obeyed, epoch seconds."""

    max_kw: float
    until: float


class Inputs(NamedTuple):
    """Everything that has been said of an element, by operators, meters and its setpoints; times
    in epoch seconds, None where there is none.
    """

    pin: Power | None
    factor: float
    reading: Power | None
    reading_at: float | None
    held: Held
    not_following: bool
    above_since: float | None
    metered: Power | None
    former: list[Former]


@dataclass(frozen=True, slots=True)
class NominalLoad:
    """A load as the feeder's model has it; demand in kW and kvar at nominal voltage."""

    name: str
    bus: str
    kw: float
    kvar: float


class Element:
    """A load, device or generator: the inputs about it, in the one place where they change.

    ``row`` is its place among the loads and devices, or among the generators, of the engine.
    """

    __slots__ = (
        "_above_since",
        "_former",
        "_metered",
        "bus",
        "factor",
        "held",
        "kind",
        "name",
        "nominal",
        "not_following",
        "pin",
        "reading",
        "reading_at",
        "row",
    )

    def __init__(self, kind: Kind, row: int, name: str, bus: str, nominal: Power) -> None:
        self.kind = kind
        self.row = row
        self.name = name
        self.bus = bus
        self.nominal = nominal
        self.factor = 1.0
        self.pin: Power | None = None
        self.reading: Power | None = None
        self.reading_at = -math.inf
        """When the newest reading was taken, epoch seconds; -inf where it did not say."""
        self.held = FREE
        self.not_following = False
        self._above_since: float | None = None
        self._metered: Power | None = None
        """What was read last under a setpoint, whatever it meant."""
        self._former: dict[float, float] = {}
        """Setpoints in kW that have been replaced, each with until when it may be obeyed."""

    def base(self) -> tuple[Power, Source]:
        """Pin, else newest reading, else nominal."""
        if self.pin is not None:
            return self.pin, OPERATOR
        if self.reading is not None:
            return self.reading, METER
        return self.nominal, NOMINAL

    def operate(self, pin: Power | None, factor: float) -> None:
        """Have what an operator says in force."""
        self.pin = pin
        self.factor = factor

    def power(self, kw: float, kvar: float | None) -> Power:
        """``kw`` with its kvar, or with the nominal power factor where that is not given."""
        return Power(kw, _scaled(self.nominal, kw) if kvar is None else kvar)

    def hold(self, held: Held, now: float, *, for_now: bool = False) -> None:
        """Take note of the setpoint that goes out; ``now`` in epoch seconds.

        One that is lifted is over, unless only ``for_now``: by relief, which may be back soon.
        """
        if held.max_kw is None:
            self.not_following = False
            self._above_since = None
            if not for_now:
                self._former.clear()
        before = self.held.max_kw
        if before is not None and before != held.max_kw and (held.max_kw is not None or for_now):
            self._remember(before, now)
        self.held = held

    def read(self, reading: Reading, at: float, arrived_at: float) -> None:
        """Take the newest reading; ``at`` and ``arrived_at`` in epoch seconds."""
        self.reading_at = at
        if self.held == FREE and not any(until >= arrived_at for until in self._former.values()):
            self.reading = self.power(reading.kw, reading.kvar)
            return
        self._metered = self.power(reading.kw, reading.kvar)
        self._watch(reading.kw, arrived_at)
        self.reading = self._demanded(reading, arrived_at)

    def _demanded(self, reading: Reading, arrived_at: float) -> Power | None:
        """What a reading says that the element would draw without its setpoint."""
        held, kw, kvar = self.held, reading.kw, reading.kvar
        known = self.nominal if self.reading is None else self.reading
        is_above = held.max_kw is not None and kw > OBEYS_TO * held.max_kw
        if self.not_following:
            pass  # as metered, whatever it tells
        elif self._obeys(kw, arrived_at) or (is_above and kw < known.kw):
            # There, or on its way down.
            if reading.demand_kw is None:
                return self.reading
            kw = reading.demand_kw
        if kvar is None:
            return self.power(kw, None)
        if _obeys_pf(held, reading.kw, kvar):
            return Power(kw, _scaled(known, kw))
        if kw == reading.kw:
            return Power(kw, kvar)
        # The power factor of standby is not that of full power.
        is_telling = abs(reading.kw) > STANDBY_KW
        return Power(kw, _scaled(Power(reading.kw, kvar) if is_telling else known, kw))

    def _obeys(self, kw: float, arrived_at: float) -> bool:
        if _keeps_to(self.held.max_kw, kw):
            return True
        return any(
            _keeps_to(most, kw) for most, until in self._former.items() if arrived_at <= until
        )

    def _remember(self, most: float, now: float) -> None:
        """Take note of a setpoint that is replaced, in the place of one that is nearly the same."""
        former = {
            kw: until
            for kw, until in self._former.items()
            if until >= now and not _is_close(kw, most)
        }
        former[most] = now + MEMORY_S
        self._former = dict(list(former.items())[-MOST_FORMER:])

    def _watch(self, kw: float, arrived_at: float) -> None:
        most = self.held.max_kw
        if most is None or kw <= OBEYS_TO * most + STANDBY_KW or self._obeys(kw, arrived_at):
            self._above_since = None
            self.not_following = False
        elif self._above_since is None:
            self._above_since = arrived_at
        elif arrived_at - self._above_since >= PATIENCE_S:
            self.not_following = True

    def to_json(self) -> list[Any]:
        """Its :class:`Inputs` in terms of JSON."""
        return [
            None if self.pin is None else [*self.pin],
            self.factor,
            None if self.reading is None else [*self.reading],
            self.reading_at if self.is_dated else None,
            [*self.held],
            self.not_following,
            self._above_since,
            None if self._metered is None else [*self._metered],
            [[*former] for former in self._former.items()],
        ]

    def restore(self, inputs: Inputs) -> None:
        """Have nothing but these inputs."""
        self.pin = inputs.pin
        self.factor = inputs.factor
        self.reading = inputs.reading
        self.reading_at = -math.inf if inputs.reading_at is None else inputs.reading_at
        self.held = inputs.held
        self.not_following = inputs.not_following
        self._above_since = inputs.above_since
        self._metered = inputs.metered
        self._former = dict(inputs.former)

    @property
    def is_dated(self) -> bool:
        """True where it is known when the newest reading was taken."""
        return self.reading_at != -math.inf

    @property
    def is_above(self) -> bool:
        """True from a reading above the setpoint on, until there is one that is not."""
        return self._above_since is not None

    def lapse(self, now: float) -> bool:
        """Lose patience with an element whose newest reading has been above its setpoint for too
        long; True where that is news.
        """
        since = self._above_since
        if since is None or self.not_following or now - since < PATIENCE_S:
            return False
        self.not_following = True
        self.reading = self._metered
        return True


def _keeps_to(most: float | None, kw: float) -> bool:
    if most is None:
        return False
    if most <= STANDBY_KW:
        return 0.0 <= kw <= most + STANDBY_KW
    return OBEYS_FROM * most <= kw <= OBEYS_TO * most


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= 0.02 * max(abs(one), abs(other))


def _obeys_pf(held: Held, kw: float, kvar: float) -> bool:
    """True where the kvar is what the setpoint's power factor leaves, and not the element's own."""
    if held.pf is None or kw <= 0:
        return False
    most = kw * math.tan(math.acos(held.pf))
    return OBEYS_FROM * most <= abs(kvar) <= OBEYS_TO * most + 1e-3


def _scaled(power: Power, kw: float) -> float:
    """The kvar that goes with ``kw`` at the power factor of ``power``; 0 where it has none."""
    if abs(power.kw) < LEAST_KW:
        return 0.0
    return max(-POWER_LIMIT, min(POWER_LIMIT, kw * (power.kvar / power.kw)))
