"""How a device or generator is connected to a bus: which phases, between which wires. Pure."""

from dataclasses import dataclass
from math import hypot, sqrt
from typing import NamedTuple

from schemas.errors import ErrorCode, Refusal
from services.solver.network import PHASE_LETTERS, Bus

SAME_KV = 0.05
"""A generator's kV that is this close to its bus's, as a share of it, connects directly."""

STEP_UP_MARGIN = 1.25
"""Rating of a step-up transformer over its generator's kVA, at least."""

_SINGLE_PHASE_KVA = (5, 10, 15, 25, 37.5, 50, 75, 100, 167, 250, 333, 500, 667, 833, 1250, 1667)
_THREE_PHASE_KVA = (
    15, 30, 45, 75, 112.5, 150, 225, 300, 500, 750, 1000, 1500, 2000, 2500, 3750, 5000, 7500, 10000
)  # fmt: skip
"""Standard sizes of distribution transformers (IEEE C57.12.00, table 2)."""


class Connection(NamedTuple):
    """Where an element sits: ``nodes`` are the phases 1 to 3 of its bus in the order of its wires,
    ``phases`` the number that OpenDSS wants, ``kv`` the voltage across it.
    """

    bus: str
    nodes: tuple[int, ...]
    phases: int
    delta: bool
    kv: float


@dataclass(frozen=True, slots=True)
class Machine:
    """How a generator is connected: its OpenDSS model, between which pu it holds, its own kV, and
    the rating in kVA of its step-up transformer, None where its kV is its bus's.
    """

    connection: Connection
    model: int
    vmin_pu: float
    vmax_pu: float
    kv: float
    stepup_kva: float | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for: a number of phases, or one by its letter; None where not said."""

    phases: int | None
    phase: str | None


def connect(bus: Bus, wish: Wish) -> Connection:
    """The connection that was asked for, else all phases of the bus.

    Line to neutral, or from the first phases on, where the bus is grounded. Elsewhere there is no
    neutral: three phases are a delta, and anything less is between two phases (A is AB, B is BC,
    C is CA).

    Raises:
        Refusal: for phases that the bus has not; it names those that it has.

    """
    if wish.phase is not None and wish.phases not in {None, 1}:
        raise Refusal.of_field(
            ErrorCode.INVALID_VALUE, "phases", f"phase {wish.phase} is one phase, not {wish.phases}"
        )
    count = 1 if wish.phase is not None else wish.phases or len(bus.phases)
    if not 1 <= count <= len(bus.phases):
        raise _refused("phases", bus)
    if bus.grounded:
        return _to_neutral(bus, count, wish.phase)
    return _between_phases(bus, count, wish.phase)


def step_up_kva(connection: Connection, kv: float, kw: float, kvar: float) -> float | None:
    """Rating of the transformer that brings ``kv`` to the bus; None where it needs none.

    Raises:
        Refusal: for a generator that is larger than any standard size carries.

    """
    if abs(kv - connection.kv) <= SAME_KV * connection.kv:
        return None
    least = STEP_UP_MARGIN * hypot(kw, kvar)
    for size in _THREE_PHASE_KVA if connection.phases == 3 else _SINGLE_PHASE_KVA:
        if size >= least:
            return float(size)
    raise Refusal.of_field(
        ErrorCode.INVALID_VALUE,
        "kw",
        f"no standard transformer carries {least:.0f} kVA from {kv:g} kV to the bus's "
        f"{connection.kv:.4g} kV",
    )


def _to_neutral(bus: Bus, count: int, phase: str | None) -> Connection:
    nodes = bus.phases[:count] if phase is None else (_number(bus, phase),)
    kv = bus.kv_base if count > 1 else bus.kv_base / sqrt(3)
    return Connection(bus.name, nodes, count, delta=False, kv=kv)


def _between_phases(bus: Bus, count: int, phase: str | None) -> Connection:
    if count == 3:
        return Connection(bus.name, bus.phases, 3, delta=True, kv=bus.kv_base)
    pairs = [pair for pair in ((1, 2), (2, 3), (3, 1)) if set(pair) <= set(bus.phases)]
    if phase is not None:
        pairs = [pair for pair in pairs if PHASE_LETTERS[pair[0]] == phase]
    if not pairs:
        raise _refused("phase" if phase else "phases", bus)
    return Connection(bus.name, pairs[0], 1, delta=True, kv=bus.kv_base)


def _number(bus: Bus, phase: str) -> int:
    for number in bus.phases:
        if PHASE_LETTERS[number] == phase:
            return number
    raise _refused("phase", bus)


def _refused(field: str, bus: Bus) -> Refusal:
    letters = ", ".join(PHASE_LETTERS[number] for number in bus.phases) or "none"
    wired = "" if bus.grounded else "; without a neutral, what is not three-phase is between two"
    return Refusal.of_field(
        ErrorCode.INVALID_VALUE, field, f"bus {bus.name!r} has the phases {letters}{wired}"
    )
