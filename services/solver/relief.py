"""Relief: the least shedding and curtailment that keep zones within their ratings. Pure.

One cycle is a few solves: without relief, with relief until every zone is at its rating, with
controls acting, and where generation drives a voltage over its limit, with less of that. The rules
stand in ``docs/relief.md``; who gives how much is decided in ``shares.py``.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from services.solver.curtailment import allowed_part, corrected_part, generation_raises
from services.solver.flexibility import Elements, Role
from services.solver.network import Floats
from services.solver.relief_log import ZoneAction, curtailment_line
from services.solver.relief_terms import (
    OVERVOLTAGE,
    Ask,
    Caps,
    Held,
    Hold,
    Limits,
    Measured,
    Producer,
    Relief,
    Shiftable,
    Solve,
)
from services.solver.shares import Plan
from services.solver.solution import Complexes

__all__ = [
    "OVERVOLTAGE",
    "Caps",
    "Held",
    "Hold",
    "Limits",
    "Measured",
    "Producer",
    "Relief",
    "Shiftable",
    "relieve",
]

MOST_SOLVES = 6
LIFT = 0.95
"""Share of its rating at which, without relief, a zone's relief is lifted."""

_FOR_VOLTAGE = 2
"""Solves that curtailment for voltage takes: with generation at zero, and with what it may be."""

_SAME_KW = 1e-6

NO_CAPS = Caps({}, {})


def relieve(limits: Limits, elements: Ask, held: Held, solve: Solve) -> Relief:
    """One cycle: at most six solves, of which an ordinary cycle needs one.

    ``elements`` is asked only where there is something to relieve; ``held`` is what the cycle
    before came to.
    """
    taps_move = not held.zones
    measured = solve(NO_CAPS, taps_move)
    is_over = np.abs(measured.zone_kva) > limits.rating_kva
    if (
        taps_move
        and measured.converged
        and not (is_over & limits.is_relievable).any()
        and not generation_raises(measured, limits)
    ):
        over = tuple(np.flatnonzero(is_over).tolist())
        return Relief(NO_CAPS, {}, {}, held, (), over, 1, measured)
    return _Cycle(limits, Elements(*elements()), held, solve, measured).run(taps_move=taps_move)


class _Cycle:
    """One cycle in which there may be something to relieve."""

    def __init__(
        self,
        limits: Limits,
        elements: Elements,
        held: Held,
        solve: Solve,
        base: Measured,
    ) -> None:
        self._limits = limits
        self._elements = elements
        self._held = held
        self._solver = solve
        self._measured = base
        self._solves = 1
        self._has_converged = base.converged
        self._base_kva = base.zone_kva
        drawn_kva = elements.kva
        if base.converged:
            drawn_kva = elements.drawn(base.load_kva, base.generator_kva)
        else:
            self._base_kva = elements.by_zone(elements.kva, len(limits.zones))
        self._is_base_solved = base.converged
        self._standing = {
            zone: self._eased(zone, hold, drawn_kva)
            for zone, hold in held.zones.items()
            if self._stands(zone, hold)
        }
        self._standing_kw = self._standing_caps()
        self._standing_shares = elements.shares_under(self._standing_kw)
        self._let_through = 1.0
        self._may_try = True
        self._plan = Plan(elements, limits.rating_kva, self._standing_shares, drawn_kva)
        self._plan.begin(self._base_kva)

    def run(self, *, taps_move: bool) -> Relief:
        """``taps_move``: whether they did in the solve without relief."""
        if self._balance(keep=1) or not taps_move:
            self._solve(taps_move=True)
            if self._measured.converged:
                self._has_converged = True
                self._plan.know(self._measured.zone_kva, self._drawn())
                self._balance(keep=0)
        if self._measured.converged:
            self._curtail_for_voltage()
        return self._result()

    def _stands(self, zone: int, hold: Hold) -> bool:
        """True where the caps that are out stay as they are, whatever else happens.

        Nothing is lifted on the strength of a solve that did not converge.
        """
        if not self._has_converged:
            return True
        kva = complex(self._base_kva[zone])
        rating = self._limits.rating_kva[zone]
        return (kva.real < 0.0) is hold.exporting and LIFT * rating < abs(kva) <= rating

    def _eased(self, zone: int, hold: Hold, drawn_kva: Complexes) -> Hold:
        """The caps that are out, or where they would now hold the zone below what lifts them:
        what is demanded now. What is left of a large overload is not to hold down its neighbours.
        """
        if not self._is_base_solved:
            return hold
        elements, kva, eased = self._elements, complex(self._base_kva[zone]), {}
        for row, kw in hold.caps.items():
            index = elements.index_of(row, generator=hold.exporting)
            demand_kw = kw if index is None else float(elements.kw[index])
            eased[row] = max(kw, demand_kw)
            if index is not None and kw < demand_kw:
                kva += complex(elements.kva[index] * (kw / demand_kw) - drawn_kva[index])
        is_low = abs(kva) < LIFT * self._limits.rating_kva[zone]
        return Hold(hold.exporting, eased) if is_low else hold

    def _standing_caps(self) -> Floats:
        """The most kW of each element by the relief that stands; infinite where there is none."""
        elements = self._elements
        caps = np.full(len(elements.rows), np.inf)
        for hold in self._standing.values():
            for row, kw in hold.caps.items():
                index = elements.index_of(row, generator=hold.exporting)
                if index is not None:
                    caps[index] = min(caps[index], max(kw, elements.floor_kw[index]))
        return caps

    def _solve(self, *, taps_move: bool) -> None:
        self._measured = self._solver(self._caps(), taps_move)
        self._solves += 1

    def _balance(self, keep: int) -> bool:
        """Bring zones to their ratings, taps locked; False if nothing had to be solved.

        ``keep`` solves are left, and those that voltage will need.
        """
        solved = False
        while self._may_solve(keep) and self._plan.settle():
            self._solve(taps_move=False)
            solved = True
            if not self._measured.converged and not self._recovers(keep):
                break
            learn = self._plan.learn if self._has_converged else self._plan.know
            learn(self._measured.zone_kva, self._drawn())
            self._has_converged = True
        return solved

    def _drawn(self) -> Complexes:
        """What elements drew in the newest solve."""
        return self._elements.drawn(self._measured.load_kva, self._measured.generator_kva)

    def _recovers(self, keep: int) -> bool:
        """After a solve that did not converge: take back what was asked, or, where nothing ever
        converged, ask everything. True if that converged and there is more to find out.
        """
        if not self._has_converged:
            if self._may_solve(keep) and self._plan.exhaust():
                self._solve(taps_move=False)
            return self._measured.converged
        if keep or self._may_solve(keep):
            self._plan.take_back()
            if not keep:
                self._solve(taps_move=False)
        self._may_try = False
        return False

    def _may_solve(self, keep: int) -> bool:
        if generation_raises(self._measured, self._limits):
            keep += _FOR_VOLTAGE
        return self._may_try and self._solves + keep < MOST_SOLVES

    def _curtail_for_voltage(self) -> None:
        """Let through as much generation as keeps voltages at their limit, taps locked."""
        limits, full_pu = self._limits, self._measured.v_pu
        if (
            not generation_raises(self._measured, limits)
            or self._elements.loads == len(self._elements.rows)
            or self._solves + _FOR_VOLTAGE > MOST_SOLVES
        ):
            return
        self._let_through = 0.0
        self._solve(taps_move=False)
        none_pu = self._measured.v_pu if self._measured.converged else full_pu
        self._let_through = part = allowed_part(none_pu, full_pu, limits)
        self._solve(taps_move=False)
        if part < 1.0 and self._measured.converged and self._solves < MOST_SOLVES:
            partly_pu = self._measured.v_pu
            self._let_through = corrected_part(part, none_pu, partly_pu, full_pu, limits)
            if self._let_through != part:
                self._solve(taps_move=False)

    def _cap_kw(self) -> Floats:
        """The most kW of each element for the sake of zones; infinite where it is free."""
        shares = self._plan.shares
        asked = np.where(shares > 0.0, self._elements.cap_kw(shares), np.inf)
        # As published: the same cap is not to come out of the arithmetic in other digits.
        stands = np.isfinite(self._standing_kw) & (shares <= self._standing_shares)
        return np.where(stands, self._standing_kw, asked)

    def _caps(self) -> Caps:
        """The caps for the sake of zones, and of voltage."""
        caps = self._zone_caps()
        if self._let_through == 1.0:
            return caps
        elements = self._elements
        could_kw = np.minimum(elements.kw, self._cap_kw())[elements.loads :] * self._let_through
        rows = elements.rows[elements.loads :]
        return Caps(
            caps.loads, {**caps.generators, **dict(zip(rows, could_kw.tolist(), strict=True))}
        )

    def _zone_caps(self) -> Caps:
        elements = self._elements
        loads: dict[int, float] = {}
        generators: dict[int, float] = {}
        for hold in self._standing.values():
            caps = generators if hold.exporting else loads
            for row, kw in hold.caps.items():
                caps[row] = min(kw, caps.get(row, kw))
        for index, kw in enumerate(self._cap_kw().tolist()):
            if kw < np.inf:
                caps = loads if index < elements.loads else generators
                caps[elements.rows[index]] = kw
        return Caps(loads, generators)

    def _holds(self) -> dict[int, Hold]:
        """What each zone asks for from here on."""
        elements, plan = self._elements, self._plan
        holds = dict(self._standing)
        for zone in self._relieved():
            exporting = plan.is_exporting(zone)
            stood = holds.get(zone)
            caps = dict(stood.caps) if stood and stood.exporting is exporting else {}
            for index, kw in plan.asked_kw(zone):
                row = elements.rows[index]
                caps[row] = min(kw, caps.get(row, kw))
            holds[zone] = Hold(exporting, caps)
        return holds

    def _relieved(self) -> list[int]:
        """Zones that ask something of their members beyond what stands."""
        return sorted(zone for zone, level in self._plan.level.items() if level)

    def _result(self) -> Relief:
        caps, for_zones, holds = self._caps(), self._zone_caps(), self._holds()
        loads = _held_by(for_zones.loads, holds, exporting=False, names=self._limits.names)
        generators = _held_by(for_zones.generators, holds, exporting=True, names=self._limits.names)
        if self._let_through < 1.0:
            generators = {row: (*generators.get(row, ()), OVERVOLTAGE) for row in caps.generators}
        loading = np.abs(self._measured.zone_kva)
        return Relief(
            caps=caps,
            load_held_by=loads,
            generator_held_by=generators,
            held=Held(holds),
            actions=tuple(self._actions(holds, loading)),
            over=tuple(np.flatnonzero(loading > self._limits.rating_kva).tolist()),
            solves=self._solves,
            measured=self._measured,
        )

    def _actions(self, holds: dict[int, Hold], loading: Floats) -> Iterator[str]:
        plan, cap_kw = self._plan, self._cap_kw()
        helpless = {zone for zone in plan.short if loading[zone] > self._limits.rating_kva[zone]}
        for zone in sorted({*self._held.zones, *holds, *helpless}):
            exporting = zone in holds and holds[zone].exporting
            roles = (Role.GENERATOR,) if exporting else (Role.DEVICE, Role.LOAD)
            action = ZoneAction(
                zone=self._limits.names[zone],
                rating_kva=self._limits.zones[zone].rating_kva,
                would_kva=abs(complex(self._base_kva[zone])),
                now_kva=float(loading[zone]),
                exports=exporting,
                given_kw={role: self._given_kw(zone, role, cap_kw) for role in roles},
                stands=self._is_base_solved and zone in self._standing and not plan.level.get(zone),
                is_exhausted=zone in plan.short,
            )
            if zone in holds or zone in helpless:
                yield action.line()
            elif action.would_kva <= action.rating_kva:
                yield action.lifted()
        if self._let_through < 1.0:
            yield self._curtailment(cap_kw)

    def _curtailment(self, cap_kw: Floats) -> str:
        could_kw = np.minimum(self._elements.kw, cap_kw)[self._elements.loads :].sum()
        return curtailment_line(
            self._let_through,
            (1.0 - self._let_through) * float(could_kw),
            float(np.max(self._measured.v_pu)),
            self._limits.max_pu,
        )

    def _given_kw(self, zone: int, role: Role, cap_kw: Floats) -> float:
        elements = self._elements
        members = elements.members(zone)
        members = members[elements.role[members] == role]
        return float(np.maximum(elements.kw[members] - cap_kw[members], 0.0).sum())


def _held_by(
    caps: Mapping[int, float], holds: Mapping[int, Hold], *, exporting: bool, names: Sequence[str]
) -> dict[int, tuple[str, ...]]:
    """The zones that ask for no more than the cap, by row."""
    held_by: dict[int, tuple[str, ...]] = dict.fromkeys(caps, ())
    for zone, hold in sorted(holds.items()):
        for row, kw in hold.caps.items():
            if hold.exporting is exporting and kw <= caps[row] + _SAME_KW:
                held_by[row] += (names[zone],)
    return held_by
