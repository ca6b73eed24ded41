"""What an execution did, from the states before and after it. Pure: no clock, no I/O."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.programs import BusOutcome, BusPower, ExecutionReport, Program
from schemas.wire import canonical

DRAWN_TOLERANCE = 1e-3
"""What is drawn is within this share of what was set, or within the next, whichever is more."""

DRAWN_TOLERANCE_KVAR = 0.01

SUM_TOLERANCE_KW = 1e-6
"""Demands are exact in a state; their sum is not, to the last digit."""

NO_LOAD = "no load"
AT_MINIMUM = "already at or below its minimum"
AT_POWER_FACTOR = "already at the power factor"
NOT_THERE = "not a bus of the feeder"

Document = Mapping[str, Any]
"""A state, or a part of one, as parsed from JSON (``schemas.state``)."""


class NoState(Exception):
    """Something that was published as a state is none."""


def report(before: Document, after: Document, program: Program, revision: int) -> ExecutionReport:
    """What ``program``, in force from ``revision`` on, did at each bus; ``after`` has it applied.

    Raises:
        NoState: where a document is none.

    """
    try:
        return _report(before, after, program, revision)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise NoState(repr(error)) from None


def _report(before: Document, after: Document, program: Program, revision: int) -> ExecutionReport:
    buses_before, buses_after = _buses(before), _buses(after)
    outcomes = tuple(
        _outcome(bus, buses_before.get(canonical(bus)), buses_after.get(canonical(bus)), program)
        for bus in program.subscriptions
    )
    return ExecutionReport(
        name=program.name,
        number=program.number,
        revision=revision,
        version=after["version"],
        total_shed_kw=_rounded(math.fsum(outcome.shed_kw for outcome in outcomes)),
        buses=outcomes,
    )


def _buses(state: Document) -> dict[str, Document]:
    return {canonical(details["bus"]): details for details in state["bus_details"]}


def _outcome(
    bus: str, before: Document | None, after: Document | None, program: Program
) -> BusOutcome:
    if before is None or after is None:
        nothing = BusPower(kw=0.0, kvar=0.0, pf=None)
        return BusOutcome(bus=bus, before=nothing, after=nothing, shed_kw=0.0, left_alone=NOT_THERE)
    drawn_before, drawn_after = _drawn(before), _drawn(after)
    return BusOutcome(
        bus=bus,
        before=drawn_before,
        after=drawn_after,
        shed_kw=_rounded(drawn_before.kw - drawn_after.kw),
        left_alone=_left_alone(before, after, program),
    )


def _left_alone(before: Document, after: Document, program: Program) -> str | None:
    """Why nothing was asked of a bus; None where something was.

    A state has the demand in kW as it was given, but no demand in kvar. Whether the power factor
    had to be corrected is therefore judged by what the bus drew before.
    """
    demand_kw = _positive(after, "demand_kw")
    if demand_kw == 0.0:
        return NO_LOAD
    # Another program, or relief, may have brought it there before.
    kw = min(demand_kw, _positive(before, "set_kw"))
    if kw > program.min_power_kw + SUM_TOLERANCE_KW:
        return None
    drawn_kw, drawn_kvar = before["load_kw"], abs(before["load_kvar"])
    allowed_kvar = drawn_kw * math.tan(math.acos(program.target_pf))
    if drawn_kvar - allowed_kvar > max(DRAWN_TOLERANCE_KVAR, DRAWN_TOLERANCE * drawn_kvar):
        return None
    return f"{AT_MINIMUM}; {AT_POWER_FACTOR}"


def _positive(bus: Document, figure: str) -> float:
    """Sum in kW over loads and devices that consume: what exports is neither capped nor netted."""
    return math.fsum(max(0.0, element[figure]) for element in _elements(bus))


def _elements(bus: Document) -> Iterator[Document]:
    yield from bus["loads"]
    yield from bus["devices"]


def _drawn(bus: Document) -> BusPower:
    kw, kvar = float(bus["load_kw"]), float(bus["load_kvar"])
    return BusPower(kw=kw, kvar=kvar, pf=round(kw / math.hypot(kw, kvar), 6) if kw else None)


def _rounded(kw: float) -> float:
    """To the digits that a state has."""
    return round(kw, 4)
