"""The state of a feeder, as the solver publishes it and everyone reads it.

The solver writes these documents without building the models (validation costs more than the
solve); a test holds what it writes against them.
"""

import re
from typing import Literal

from pydantic import AwareDatetime

from schemas.wire import WireModel


class ManagementStatus(WireModel):
    status: Literal["OK", "ALERT", "ERROR"]
    management_log: tuple[str, ...]


class PowerSummary(WireModel):
    """Source power is positive when importing; the rest is drawn, lost or produced."""

    total_circuit_power_kw: float
    total_circuit_power_kvar: float
    total_losses_kw: float
    total_losses_kvar: float
    total_load_kw: float
    total_generation_kw: float


class VoltageViolation(WireModel):
    bus: str
    phase: str
    v_pu: float
    limit_pu: float
    kind: Literal["undervoltage", "overvoltage"]


class VoltageProfile(WireModel):
    min_voltage_pu: float
    min_voltage_bus: str
    max_voltage_pu: float
    max_voltage_bus: str
    avg_voltage_pu: float
    violations: tuple[VoltageViolation, ...]


class PhaseVoltage(WireModel):
    v_pu: float
    angle_deg: float


class LoadState(WireModel):
    """A load or device. ``demand_kw`` is asked for, ``set_kw`` is what the engine was given, ``kw``
    is drawn. ``held_by`` names the programs and zones that hold it down; ``not_following`` is true
    where its meter says that it does not keep to its setpoint.
    """

    name: str
    demand_kw: float
    set_kw: float
    kw: float
    kvar: float
    factor: float
    source: Literal["operator", "meter", "nominal"]
    held_by: tuple[str, ...]
    not_following: bool


class GeneratorState(WireModel):
    """Positive production: what is available, what is let through, what comes at the terminals."""

    name: str
    available_kw: float
    set_kw: float
    kw: float
    kvar: float
    source: Literal["operator", "meter", "nominal"]
    held_by: tuple[str, ...]
    not_following: bool


class BusState(WireModel):
    bus: str
    kv_base: float
    phases: dict[str, PhaseVoltage]
    load_kw: float
    load_kvar: float
    gen_kw: float
    net_kw: float
    neighbourhood: int | None
    loads: tuple[LoadState, ...]
    devices: tuple[LoadState, ...]
    generators: tuple[GeneratorState, ...]
    dfps: tuple[str, ...]


class TransformerState(WireModel):
    name: str
    kind: Literal["service", "transformer"]
    bus: str
    rating_kva: float
    loading_kva: float
    loading_percent: float
    status: Literal["OK", "OVERLOADED"]


class AdjustmentsApplied(WireModel):
    """The adjustments that this state was solved with."""

    revision: int
    programs: tuple[str, ...]


class State(WireModel):
    feeder: str
    version: int
    solved_at: AwareDatetime
    converged: bool
    iterations: int
    oldest_reading_s: float | None
    taps: dict[str, int]
    management_status: ManagementStatus
    power_summary: PowerSummary
    voltage_profile: VoltageProfile
    bus_details: tuple[BusState, ...]
    transformers: tuple[TransformerState, ...]
    adjustments: AdjustmentsApplied


VERSIONS_PER_FENCE = 1_000_000_000
"""version = fence x this + n: each start of a solver takes the next fence, so versions never fall
as long as the store remembers it."""

_HEAD = re.compile(rb'\{"feeder":"[A-Za-z0-9_-]{1,64}","version":(\d{1,18}),')


def version_of(state: bytes) -> int | None:
    """Version of an encoded state, read from its head without parsing the rest."""
    head = _HEAD.match(state)
    return int(head[1]) if head else None
