"""Which share of its power each element gives so that no zone is over its rating. Pure.

A zone asks its members for shares by one number, its level: devices give ``level`` of their
power up to 1, and loads ``level`` - 1 of what is above their floor; in a zone that exports,
generators give ``level``. An element of several zones gives the largest share that is asked.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from services.solver.flexibility import HARDLY, Elements, Role
from services.solver.network import Floats, Indices
from services.solver.solution import Complexes

AIM = 0.9975
"""Share of its rating to which a zone is brought: the middle of what counts as reached."""
REACHED = 0.995
"""Share from which it is reached; a zone below it gives some back."""

_SWEEPS = 30
"""Rounds in which zones take account of each other. Two do, unless relief of one loads another."""
_GAINS = (0.2, 2.0)
"""What a kVA given may take off a zone's loading, in kVA. A three-phase load takes a third of its
power off one unit of a bank."""
_GAIN_FROM = 0.003
"""Share of a rating by which members must have moved before a gain is read from it."""
_SETTLED = 1e-7
"""Change of a level below which zones have taken account of each other."""
_SAME_SHARE = 1e-4
"""Change of a share that is not worth a solve,"""
_SAME_KVA = 1e-3
"""unless what is given by it is more of the zone's rating than this: it may be a share of a GW."""


class Plan:
    """The levels of the zones, from what is known of their loading.

    ``level`` is by zone that is to be relieved, ``short`` those that all their members cannot
    relieve, ``shares`` by element. ``standing`` are shares that are held whatever the loading;
    ``drawn_kva`` is what elements draw while nothing is asked of them.
    """

    def __init__(
        self, elements: Elements, rating_kva: Floats, standing: Floats, drawn_kva: Complexes
    ) -> None:
        self.level: dict[int, float] = {}
        self.short: set[int] = set()
        self.shares = standing
        self.loading_kva: Complexes = np.zeros(len(rating_kva), dtype=np.complex128)
        self._is_exporting: dict[int, bool] = {}
        self._elements = elements
        self._rating_kva = rating_kva
        self._standing = standing
        self._free_kva = drawn_kva
        self._known_kva = drawn_kva
        self._gain: dict[int, float] = {}
        # By pair; the last stands for no pair.
        self._asked = np.zeros(len(elements.pair_zone) + 1)
        self._keep()

    def know(self, loading_kva: Complexes, drawn_kva: Complexes) -> None:
        """Start from this loading, by zone, of a solve with the present shares, and from what
        elements drew in it: who is free draws as the voltage lets him.
        """
        self.loading_kva = loading_kva
        self._free_kva = np.where(self.shares > 0.0, self._free_kva, drawn_kva)
        self._known_kva = self._drawn(self.shares)

    def begin(self, loading_kva: Complexes) -> None:
        """Start from this loading, of a solve in which nothing was asked of anybody."""
        self.loading_kva = loading_kva
        self._known_kva = self._free_kva

    def learn(self, loading_kva: Complexes, drawn_kva: Complexes) -> None:
        """Take over a solve with the present shares, and what they have done to each zone."""
        drawn = np.where(self.shares > 0.0, self._drawn(self.shares), drawn_kva)
        for zone in self.level:
            members = self._elements.members(zone)
            given = complex((drawn[members] - self._known_kva[members]).sum())
            if abs(given) > _GAIN_FROM * self._rating_kva[zone]:
                change = complex(loading_kva[zone] - self.loading_kva[zone])
                gain = (change * given.conjugate()).real / abs(given) ** 2
                self._gain[zone] = min(max(gain, _GAINS[0]), _GAINS[1])
        # What seemed to be the nearest a zone gets may have been far off; only those of which
        # everything was asked have no more to give.
        self.short = {z for z in self.short if self.level.get(z, 0.0) >= len(self._roles(z))}
        self.know(loading_kva, drawn_kva)

    def settle(self) -> bool:
        """Find the least levels that bring every zone to its aim.

        False, and everything as it was, where all zones are there, or those that are not have no
        other share to ask.
        """
        if not (unmet := self._unmet()):
            return False
        before = self._keep()
        self.level = dict.fromkeys(self._is_exporting, 0.0)
        self.short = set()
        self._asked[:] = 0.0
        self.shares = self._standing
        for _ in range(_SWEEPS):
            former = dict(self.level)
            self._take_in_zones()
            for zone in sorted(self._is_exporting):
                self.level[zone] = self._least_level(zone)
            self.shares = self._most_asked()
            changes = (abs(x - former.get(zone, 0.0)) for zone, x in self.level.items())
            if max(changes, default=0.0) < _SETTLED:
                break
        if any(self._differs(before, zone) for zone in unmet):
            return True
        short = self.short
        self.take_back()
        self.short = short
        return False

    def _unmet(self) -> set[int]:
        """Zones that are over and may have more to give, or that ask more than they have to."""
        loading = np.abs(self.loading_kva)
        over = set(np.flatnonzero(loading > self._rating_kva).tolist())
        over.intersection_update(self._elements.pair_zone.tolist())
        return (over - self.short) | {
            zone
            for zone, level in self.level.items()
            if level and loading[zone] < REACHED * self._rating_kva[zone]
        }

    def _differs(self, before: Floats, zone: int) -> bool:
        elements, members = self._elements, self._elements.members(zone)
        old, new = before[members], self.shares[members]
        change = np.abs(new - old)
        given_kva = change @ np.abs(elements.kva[members] * elements.room_share[members])
        return bool(
            ((old > 0.0) != (new > 0.0)).any()
            or (change > _SAME_SHARE).any()
            or given_kva > _SAME_KVA * self._rating_kva[zone]
        )

    def exhaust(self) -> bool:
        """Ask everything of the members of all zones that are to be relieved."""
        before = self._keep()
        for zone in self.level:
            self._ask(zone, float(len(self._roles(zone))))
        self.shares = self._most_asked()
        return not np.array_equal(self.shares, before)

    def take_back(self) -> None:
        """Ask what was asked before the newest change."""
        self.shares, self.level, self.short, self._asked = self._former

    def is_exporting(self, zone: int) -> bool:
        return self._is_exporting[zone]

    def asked_kw(self, zone: int) -> list[tuple[int, float]]:
        """The most kW that a zone leaves to each element of which it asks something, by index."""
        shares = np.zeros(len(self.shares))
        pairs = self._elements.pairs(zone)
        shares[self._elements.pair_element[pairs]] = self._asked[pairs]
        caps = self._elements.cap_kw(shares)
        return [(index, float(caps[index])) for index in np.flatnonzero(shares).tolist()]

    def _keep(self) -> Floats:
        self._former = self.shares, self.level.copy(), self.short, self._asked.copy()
        return self.shares

    def _take_in_zones(self) -> None:
        """Include zones that are over, or that what is asked of others would put over."""
        elements = self._elements
        change = self._drawn(self.shares) - self._known_kva
        predicted = self.loading_kva + elements.by_zone(change, len(self._rating_kva))
        is_over = np.abs(self.loading_kva) > self._rating_kva
        direction = np.where(is_over, self.loading_kva, predicted).real
        is_over |= np.abs(predicted) > self._rating_kva
        for zone in np.unique(elements.pair_zone[is_over[elements.pair_zone]]).tolist():
            self._is_exporting.setdefault(zone, bool(direction[zone] < 0.0))

    def _least_level(self, zone: int) -> float:
        """The least level at which a zone is predicted at its aim, or as near as it gets.

        Between the shares that other zones ask, the zone's power is linear in its level.
        """
        elements, rating = self._elements, float(self._rating_kva[zone])
        members = elements.members(zone)
        self._ask(zone, 0.0)
        self.short.discard(zone)
        shares = self._most_asked(members)
        best_level, best = 0.0, abs(self._predicted(zone, members, shares))
        if best <= rating:
            return 0.0
        for stage, role in enumerate(self._roles(zone)):
            own = elements.givers(zone, role)
            for low, high in pairwise(sorted({0.0, 1.0, *shares[own].tolist()})):
                moving = own[shares[own] <= low]
                if not len(moving):
                    continue
                shares[moving] = max(low, HARDLY)
                start = self._predicted(zone, members, shares)
                shares[moving] = high
                end = self._predicted(zone, members, shares)
                part, loading = _first_within(start, end, AIM * rating)
                if loading < best:
                    best_level, best = stage + max(low + part * (high - low), HARDLY), loading
                if loading <= AIM * rating * (1 + HARDLY):
                    self._ask(zone, best_level)
                    return best_level
        self.short.add(zone)
        self._ask(zone, best_level)
        return best_level

    def _ask(self, zone: int, level: float) -> None:
        asked = self._asked[self._elements.pairs(zone)]
        for stage, role in enumerate(self._roles(zone)):
            asked[self._elements.givers(zone, role)] = min(max(level - stage, 0.0), 1.0)
        self.level[zone] = level

    def _roles(self, zone: int) -> Sequence[Role]:
        """Who is asked, one after the other."""
        return (Role.GENERATOR,) if self._is_exporting[zone] else (Role.DEVICE, Role.LOAD)

    def _most_asked(self, members: Indices | slice = slice(None)) -> Floats:
        asked: Floats = self._asked[self._elements.pairs_of_element[members]].max(axis=1)
        most: Floats = np.maximum(self._standing[members], asked)
        return most

    def _predicted(self, zone: int, members: Indices, shares: Floats) -> complex:
        """Power into a zone whose members give these shares."""
        drawn = self._drawn(shares, members) - self._known_kva[members]
        return complex(self.loading_kva[zone]) + self._gain.get(zone, 1.0) * complex(drawn.sum())

    def _drawn(self, shares: Floats, members: Indices | slice = slice(None)) -> Complexes:
        elements = self._elements
        held = elements.kva[members] * (1.0 - shares * elements.room_share[members])
        return np.where(shares > 0.0, held, self._free_kva[members])


def _first_within(start: complex, end: complex, radius: float) -> tuple[float, float]:
    """How far along from ``start`` to ``end`` (0 to 1) the magnitude first is within ``radius``,
    and what it is there; where it never is, the same for where it is least.
    """
    step = end - start
    square = abs(step) ** 2
    along = (start * step.conjugate()).real
    if abs(start) <= radius or along >= 0.0:
        return 0.0, abs(start)
    nearest = min(-along / square, 1.0)
    least = abs(start + nearest * step)
    if least > radius:
        return nearest, least
    outside = abs(start) ** 2 - radius**2
    first = outside / (-along + max(along**2 - square * outside, 0.0) ** 0.5)
    return first, abs(start + first * step)
