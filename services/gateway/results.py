"""What the gateway answers with, beside what the services themselves say; a test holds the views
against these models.
"""

from typing import Generic, Literal, TypeVar

from pydantic import AwareDatetime

from schemas.errors import Detail, ErrorCode
from schemas.state import (
    BusState,
    ManagementStatus,
    PowerSummary,
    State,
    TransformerState,
    VoltageProfile,
    VoltageViolation,
)
from schemas.wire import WireModel

R = TypeVar("R")


class Success(WireModel, Generic[R]):
    """The answer of every success."""

    status: Literal["success"]
    message: str
    results: R


class Failure(WireModel):
    """The answer of every error; ``details`` names each field that is wrong."""

    status: Literal["error"]
    code: ErrorCode
    message: str
    details: tuple[Detail, ...]


class MinimalState(WireModel):
    """What ``Prefer: return=minimal`` leaves of a state: figures, and the buses touched."""

    version: int
    power_summary: PowerSummary
    voltage_profile: VoltageProfile
    management_status: ManagementStatus
    bus_details: tuple[BusState, ...]


class StateWithGenerator(State):
    """A state, and the name of the generator that is new in it."""

    generator_name: str


class MinimalStateWithGenerator(MinimalState):
    """The same, as far as ``Prefer: return=minimal`` leaves it."""

    generator_name: str


class BusView(BusState):
    """A bus of the state, with its place: x and y in the units of the feeder's drawing, distance
    from the source in km.
    """

    x: float | None
    y: float | None
    distance_km: float | None
    version: int


class NeighbourhoodView(WireModel):
    """What the loads and generators of a neighbourhood do, in kW and kvar, and what that makes of
    its service transformer; voltages in pu of each bus's base.
    """

    number: int
    buses: tuple[str, ...]
    loads: int
    load_kw: float
    load_kvar: float
    generation_kw: float
    min_voltage_pu: float | None
    max_voltage_pu: float | None
    transformer: TransformerState


class HeldElement(WireModel):
    """A load, device or generator that relief holds down for a transformer's sake: at ``set_kw``
    instead of the ``wanted_kw`` that it would draw, or produce.
    """

    bus: str
    element: str
    kind: Literal["load", "device", "generator"]
    wanted_kw: float
    set_kw: float


class TransformerView(TransformerState):
    """A transformer. A service transformer has the number and buses of its neighbourhood, any other
    null.
    """

    neighbourhood: int | None
    buses: tuple[str, ...] | None
    holds: tuple[HeldElement, ...]


class ProfilePoint(WireModel):
    bus: str
    distance_km: float
    v_pu: float


class VoltageProfileView(VoltageProfile):
    """Voltage in pu against distance from the source in km, by phase, nearest first."""

    version: int
    phases: dict[str, tuple[ProfilePoint, ...]]


class NotFollowing(WireModel):
    """A load, device or generator whose meter says that it does not keep to its setpoint."""

    bus: str
    element: str
    kind: Literal["load", "device", "generator"]
    kw: float
    held_by: tuple[str, ...]


class Violations(WireModel):
    """Everything that is not as it should be now."""

    version: int
    voltages: tuple[VoltageViolation, ...]
    transformers: tuple[TransformerState, ...]
    not_following: tuple[NotFollowing, ...]


class FeederView(WireModel):
    """A feeder in a line; null is what is not known yet."""

    feeder: str
    name: str | None
    solver: Literal["online", "offline"]
    version: int | None
    solved_at: AwareDatetime | None
    converged: bool | None
    status: Literal["OK", "ALERT", "ERROR"] | None
    buses: int | None
    loads: int | None


class Alive(WireModel):
    """The gateway answers."""

    gateway: Literal["alive"]
