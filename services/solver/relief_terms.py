"""What relief is told, and what it says. Pure.

Power is in kW, kvar and kVA; drawn counts as positive, and production of generators likewise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from services.solver.network import Floats
from services.solver.solution import Complexes
from services.solver.zones import Zone

OVERVOLTAGE = "overvoltage"
"""What holds a generator that is curtailed for voltage, in the place of a zone's name."""


class Shiftable(NamedTuple):
    """A load or device with positive demand that follows its setpoint.

    ``kw`` and ``kvar`` are after programs and without relief; relief leaves at least ``floor_kw``.
    """

    row: int
    zones: tuple[int, ...]
    is_device: bool
    kw: float
    kvar: float
    floor_kw: float


class Producer(NamedTuple):
    """A generator that follows its setpoint; what it can produce, kW positive."""

    row: int
    zones: tuple[int, ...]
    kw: float
    kvar: float


@dataclass(frozen=True, slots=True)
class Caps:
    """The most kW, by row of loads and devices, and by row of generators."""

    loads: Mapping[int, float]
    generators: Mapping[int, float]


@dataclass(frozen=True)
class Limits:
    """What is not to be exceeded: ratings of the zones, and the highest voltage in pu.

    A voltage counts as over its limit from ``tolerance_pu`` beyond it.
    """

    zones: tuple[Zone, ...]
    max_pu: float
    tolerance_pu: float

    @cached_property
    def rating_kva(self) -> Floats:
        return np.array([zone.rating_kva for zone in self.zones])

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(zone.name for zone in self.zones)

    @cached_property
    def is_relievable(self) -> npt.NDArray[np.bool_]:
        return np.array([zone.relievable for zone in self.zones], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one solve gave.

    ``zone_kva`` by zone, positive into it; ``load_kva`` drawn, by row of loads and devices;
    ``generator_kva`` produced, by row of generators; ``v_pu`` by row of voltages.
    """

    converged: bool
    zone_kva: Complexes
    load_kva: Complexes
    generator_kva: Complexes
    v_pu: Floats


@dataclass(frozen=True, slots=True)
class Hold:
    """What one zone asks: the most kW by row of generators if it exports, else of loads."""

    exporting: bool
    caps: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Held:
    """The relief in force, by zone; handed to the next cycle."""

    zones: Mapping[int, Hold]

    def without_load(self, row: int) -> "Held":
        """The same without a load or device that is gone: its row may become another's."""
        return self._without(row, exporting=False)

    def without_generator(self, row: int) -> "Held":
        return self._without(row, exporting=True)

    def _without(self, row: int, *, exporting: bool) -> "Held":
        return Held(
            {
                zone: Hold(exporting, {r: kw for r, kw in hold.caps.items() if r != row})
                if hold.exporting is exporting
                else hold
                for zone, hold in self.zones.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Relief:
    """What a cycle came to. The newest solve, ``measured``, was made with ``caps``.

    Who holds an element down, by row, are names of zones or :data:`OVERVOLTAGE`. ``actions`` are
    lines for the management log, ``over`` zones that are over their rating all the same.
    """

    NOTHING_HELD: ClassVar[Held] = Held({})

    caps: Caps
    load_held_by: Mapping[int, tuple[str, ...]]
    generator_held_by: Mapping[int, tuple[str, ...]]
    held: Held
    actions: tuple[str, ...]
    over: tuple[int, ...]
    solves: int
    measured: Measured


Solve = Callable[[Caps, bool], Measured]
"""Solves with these caps; False locks the taps.

What is capped is solved as constant power, at the lower of demand and cap, kvar in proportion.
"""
Ask = Callable[[], tuple[Sequence[Shiftable], Sequence[Producer]]]
