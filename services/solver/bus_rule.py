"""What programs and relief leave to the loads and devices of one bus. Pure.

The rule of a bus is what all programs in force there ask for together: the lowest power, the
highest power factor. It is applied to demand anew at every solve, so it holds as demand moves.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from schemas.programs import ProgramInForce
from schemas.wire import canonical
from services.solver.elements import DEVICE, NOMINAL, Element, Power, Source


@dataclass(frozen=True, slots=True)
class BusRule:
    """At most ``max_kw`` (kW) by the programs ``capped_by``, a power factor of at least ``pf`` by
    the programs ``corrected_by``; ``programs`` are all that are in force at the bus.
    """

    max_kw: float
    capped_by: tuple[str, ...]
    pf: float
    corrected_by: tuple[str, ...]
    programs: tuple[str, ...]


class ReliefCap(NamedTuple):
    """The most kW that relief leaves to an element, and the zones that ask for it."""

    max_kw: float
    zones: tuple[str, ...]


class DemandInForce(NamedTuple):
    """What follows from the inputs of one load or device: what is asked for, and how it is solved.

    ``kw`` and ``kvar`` are what the engine is given; ``max_kw`` and ``pf`` what the element is
    asked to keep to, None where it is free, and ``asked_by`` who asks. ``held_by`` are those that
    ask for less than it would draw.
    """

    row: int
    demand_kw: float
    kw: float
    kvar: float
    factor: float
    source: Source
    constant_power: bool
    """True where somebody said what is drawn; nominal demand keeps the load's model."""
    held_by: tuple[str, ...] = ()
    not_following: bool = False
    max_kw: float | None = None
    pf: float | None = None
    asked_by: tuple[str, ...] = ()


_new = tuple.__new__


def rules_by_bus(programs: Iterable[ProgramInForce]) -> dict[str, BusRule]:
    """The rule of each bus (by canonical name) that a program is in force at."""
    asked: dict[str, list[tuple[str, float, float]]] = {}
    for program in programs:
        for bus in program.buses:
            asked.setdefault(canonical(bus.bus), []).append(
                (program.name, bus.max_kw, bus.target_pf)
            )
    return {bus: _combined(terms) for bus, terms in asked.items()}


def _combined(terms: Sequence[tuple[str, float, float]]) -> BusRule:
    max_kw = min(kw for _, kw, _ in terms)
    pf = max(target for _, _, target in terms)
    return BusRule(
        max_kw=max_kw,
        capped_by=tuple(name for name, kw, _ in terms if kw == max_kw),
        pf=pf,
        corrected_by=tuple(name for name, _, target in terms if target == pf),
        programs=tuple(name for name, _, _ in terms),
    )


def unruled(element: Element) -> DemandInForce:
    """The demand of an element that neither a program nor relief concerns."""
    (kw, kvar), source = element.base()
    factor = element.factor
    said = source is not NOMINAL or element.kind is DEVICE
    demand_kw = kw * factor
    # Straight to the tuple: this is made for every element at every solve, and the constructor
    # with its defaults takes twice as long.
    return _new(
        DemandInForce,
        (
            element.row,
            demand_kw,
            demand_kw,
            kvar * factor,
            factor,
            source,
            said,
            (),
            False,
            None,
            None,
            (),
        ),
    )


def ruled(
    elements: Sequence[Element], rule: BusRule | None, relief: Mapping[int, ReliefCap]
) -> list[DemandInForce]:
    """The demand of all loads and devices of a bus under its rule and relief (by row).

    What is asked of each does not depend on who follows: nobody makes up for another. One that
    does not is solved as it is metered, and its setpoint stays.
    """
    free = [unruled(element) for element in elements]
    shares = _program_shares(elements, free, rule)
    held = [
        _capped(demand, share, rule, relief.get(demand.row))
        for demand, share in zip(free, shares, strict=True)
    ]
    if rule is not None:
        held = _corrected(held, rule)
    return [
        _as_metered(demand, metered)
        if element.not_following and demand.max_kw is not None
        else demand
        for element, demand, metered in zip(elements, held, free, strict=True)
    ]


def _program_shares(
    elements: Sequence[Element], free: Sequence[DemandInForce], rule: BusRule | None
) -> list[float]:
    """What the program leaves of each element's demand: devices give way first, then loads."""
    if rule is None:
        return [1.0] * len(free)
    positive = [max(demand.kw, 0.0) for demand in free]
    is_device = [element.kind is DEVICE for element in elements]
    total = math.fsum(positive)
    if total <= rule.max_kw:
        return [1.0] * len(free)
    devices = math.fsum(kw for kw, device in zip(positive, is_device, strict=True) if device)
    loads = total - devices
    if rule.max_kw >= loads:
        of_devices, of_loads = (rule.max_kw - loads) / devices, 1.0
    else:
        of_devices, of_loads = 0.0, rule.max_kw / loads
    return [
        1.0 if demand.kw <= 0 else of_devices if device else of_loads
        for demand, device in zip(free, is_device, strict=True)
    ]


def _capped(
    free: DemandInForce, share: float, rule: BusRule | None, relief: ReliefCap | None
) -> DemandInForce:
    max_kw: float | None = None
    asked_by: tuple[str, ...] = ()
    if rule is not None and share < 1.0:
        max_kw, asked_by = free.kw * share, rule.capped_by
    if relief is not None and (max_kw is None or relief.max_kw < max_kw):
        max_kw, asked_by = relief
    if max_kw is None:
        return free
    asked = free._replace(max_kw=max_kw, asked_by=asked_by)
    if free.kw <= max_kw:  # what a zone still asks for, with nothing to take
        return asked
    return asked._replace(
        kw=max_kw,
        kvar=free.kvar * (max_kw / free.kw),
        constant_power=True,
        held_by=asked_by,
    )


def _as_metered(demand: DemandInForce, metered: DemandInForce) -> DemandInForce:
    return demand._replace(kw=metered.kw, kvar=metered.kvar, not_following=True)


def _corrected(held: list[DemandInForce], rule: BusRule) -> list[DemandInForce]:
    """The same at the rule's power factor: those with the sign of the net kvar give way alike."""
    active = math.fsum(max(demand.kw, 0.0) for demand in held)
    net = math.fsum(demand.kvar for demand in held)
    most = active * math.tan(math.acos(rule.pf))
    if active <= 0 or abs(net) <= most:
        return held
    sign = math.copysign(1.0, net)
    movable = [d.kvar * sign > 0 for d in held]
    moved = math.fsum(d.kvar for d, moves in zip(held, movable, strict=True) if moves)
    if not moved:
        return held
    share = max(0.0, (sign * most - (net - moved)) / moved)
    if share >= 1.0:
        return held
    return [
        _at_power_factor(demand, share, rule) if moves else demand
        for demand, moves in zip(held, movable, strict=True)
    ]


def _at_power_factor(demand: DemandInForce, share: float, rule: BusRule) -> DemandInForce:
    kvar = demand.kvar * share
    held_by, asked_by = (
        (*names, *(name for name in rule.corrected_by if name not in names))
        for names in (demand.held_by, demand.asked_by)
    )
    return demand._replace(
        kvar=kvar,
        constant_power=True,
        held_by=held_by,
        asked_by=asked_by,
        pf=_power_factor(Power(demand.kw, kvar)),
    )


def _power_factor(power: Power) -> float | None:
    """Of what is drawn; None where there is no active power to have one."""
    if power.kw <= 0:
        return None
    return power.kw / math.hypot(power.kw, power.kvar)
