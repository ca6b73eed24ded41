"""Who may be asked to give, as arrays. Pure."""

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from services.solver.network import Floats, Indices
from services.solver.relief_terms import Producer, Shiftable
from services.solver.solution import Complexes

HARDLY = 1e-9
"""The share of an element that is held at its demand, as constant power."""
_LEAST_KW = 1e-6


class Role(IntEnum):
    """Who may be asked to give."""

    DEVICE = 0
    LOAD = 1
    GENERATOR = 2


Roles = npt.NDArray[np.int64]


class Elements:
    """Who may be asked to give, as arrays: loads and devices by row, then generators by row.

    ``kva`` counts as drawn, so a generator's is negative; ``room_kw`` is what each can give.
    ``pair_zone`` and ``pair_element`` list who is in which zone, zone by zone.
    """

    def __init__(self, shiftables: Iterable[Shiftable], producers: Iterable[Producer]) -> None:
        loads = sorted(shiftables)
        generators = sorted(producers)
        everyone: list[Shiftable | Producer] = [*loads, *generators]
        self.rows = [each.row for each in everyone]
        self.loads = len(loads)
        self.role: Roles = np.array(
            [Role.DEVICE if load.is_device else Role.LOAD for load in loads]
            + [Role.GENERATOR] * len(generators),
            dtype=np.int64,
        )
        self.kw: Floats = np.array([each.kw for each in everyone], dtype=np.float64)
        # A program may have gone below the floor already.
        floors = [min(max(load.floor_kw, 0.0), load.kw) for load in loads]
        self.floor_kw: Floats = np.array(floors + [0.0] * len(generators), dtype=np.float64)
        self.room_kw: Floats = self.kw - self.floor_kw
        self.room_share: Floats = self.room_kw / np.maximum(self.kw, _LEAST_KW)
        self.kva: Complexes = np.array(
            [complex(load.kw, load.kvar) for load in loads]
            + [-complex(each.kw, each.kvar) for each in generators],
            dtype=np.complex128,
        )
        pairs = sorted((zone, index) for index, each in enumerate(everyone) for zone in each.zones)
        self.pair_zone: Indices = np.array([zone for zone, _ in pairs], dtype=np.intp)
        self.pair_element: Indices = np.array([index for _, index in pairs], dtype=np.intp)
        self.pairs_of_element = _by_element(self.pair_element, len(everyone))
        self._load_index = {row: i for i, row in enumerate(self.rows[: self.loads])}
        self._generator_index = {
            row: i for i, row in enumerate(self.rows[self.loads :], self.loads)
        }
        self._pairs: dict[int, slice] = {}
        self._givers: dict[tuple[int, Role], Indices] = {}

    def index_of(self, row: int, *, generator: bool) -> int | None:
        """The index of the generator, or load or device, of a row; None if it cannot give."""
        return (self._generator_index if generator else self._load_index).get(row)

    def drawn(self, load_kva: Complexes, generator_kva: Complexes) -> Complexes:
        """What each draws in a solve, from kVA by row of loads and by row of generators."""
        load_rows = np.array(self.rows[: self.loads], dtype=np.intp)
        generator_rows = np.array(self.rows[self.loads :], dtype=np.intp)
        return np.concatenate((load_kva[load_rows], -generator_kva[generator_rows]))

    def shares_under(self, cap_kw: Floats) -> Floats:
        """The share that each gives under a cap; 0 where the cap is infinite."""
        shares = (self.kw - cap_kw) / np.maximum(self.room_kw, _LEAST_KW)
        return np.where(np.isfinite(cap_kw), np.clip(shares, HARDLY, 1.0), 0.0)

    def cap_kw(self, shares: Floats) -> Floats:
        """The most kW of each that gives this share; never below its floor."""
        return np.clip(self.kw - shares * self.room_kw, self.floor_kw, self.kw)

    def members(self, zone: int) -> Indices:
        """Indices of the elements of a zone."""
        return self.pair_element[self.pairs(zone)]

    def pairs(self, zone: int) -> slice:
        """The pairs of a zone, one for each of its members."""
        if zone not in self._pairs:
            start, end = np.searchsorted(self.pair_zone, (zone, zone + 1)).tolist()
            self._pairs[zone] = slice(start, end)
        return self._pairs[zone]

    def givers(self, zone: int, role: Role) -> Indices:
        """Which of a zone's members have a role and have something to give."""
        if (zone, role) not in self._givers:
            members = self.members(zone)
            can_give = (self.role[members] == role) & (self.room_kw[members] > _LEAST_KW)
            self._givers[zone, role] = np.flatnonzero(can_give)
        return self._givers[zone, role]

    def by_zone(self, kva: Complexes, zones: int) -> Complexes:
        """Sums by zone of what is given by element."""
        of_pair = kva[self.pair_element]
        sums = np.zeros(zones, dtype=np.complex128)
        if len(of_pair):
            sums.real = np.bincount(self.pair_zone, of_pair.real, zones)
            sums.imag = np.bincount(self.pair_zone, of_pair.imag, zones)
        return sums


def _by_element(pair_element: Indices, elements: int) -> Indices:
    """The pairs of each element as rows, filled up with the number of pairs."""
    order = np.argsort(pair_element, kind="stable")
    counts = np.bincount(pair_element, minlength=elements)
    table = np.full((elements, int(counts.max(initial=1))), len(order), dtype=np.intp)
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[pair_element[order], column] = order
    return table
