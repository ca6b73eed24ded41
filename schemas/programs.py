"""Demand flexibility programs (DFPs): commands to the manager, and what it says of a program."""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from schemas.envelope import Body, Envelope
from schemas.wire import POWER_LIMIT, Name, PowerFactor, WireModel, misfit

MOST_PROGRAMS = 500
"""Programs that a feeder may have registered at once."""

MinPower = Annotated[float, Field(ge=0, le=POWER_LIMIT, allow_inf_nan=False)]
"""Power in kW that a program leaves to each of its buses."""

Description = Annotated[str, Field(max_length=500)]

ProgramNumber = Annotated[int, Field(ge=1, le=1_000_000_000)]

HIGHEST_REVISION = 10**15 - 1
"""Of adjustments; a thousand a second would take 30 000 years to get there."""


class Registration(Body):
    """A new program: subscribed buses are to draw at most ``min_power_kw``, at a power factor of
    at least ``target_pf``.
    """

    name: Name
    min_power_kw: MinPower
    target_pf: PowerFactor
    description: Description = ""


class Update(Body):
    """New terms of a program, also of one that is executing; no description keeps the old one."""

    name: Name
    min_power_kw: MinPower
    target_pf: PowerFactor
    description: Description | None = None


class SubscriptionChange(Body):
    """A bus, and the program that it joins or leaves: named by exactly one of the two."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": kind}}}
                for name, kind in (("dfp_number", "integer"), ("dfp_name", "string"))
            ]
        }
    )

    bus_name: Name
    dfp_number: ProgramNumber | None = None
    dfp_name: Name | None = None

    @model_validator(mode="after")
    def _one_program(self) -> Self:
        if (self.dfp_number is None) == (self.dfp_name is None):
            raise misfit("dfp_number", "name the program by either dfp_number or dfp_name")
        return self


class Run(Body):
    """The program that is to be executed or stopped."""

    dfp_name: Name


class ProgramName(Body):
    """A program by its name."""

    name: Name


class RegisterProgram(Envelope, Registration):
    """Register a program under a number that is never used again."""

    command: ClassVar[str] = "register"


class UpdateProgram(Envelope, Update):
    """Change a program's terms."""

    command: ClassVar[str] = "update"


class DeleteProgram(Envelope, ProgramName):
    """End a program's execution, and remove it with its subscriptions."""

    command: ClassVar[str] = "delete"


class Subscribe(Envelope, SubscriptionChange):
    """Subscribe a bus."""

    command: ClassVar[str] = "subscribe"


class Unsubscribe(Envelope, SubscriptionChange):
    """Unsubscribe a bus."""

    command: ClassVar[str] = "unsubscribe"


class ExecuteProgram(Envelope, Run):
    """Put a program in force; answered once the feeder has been solved with it."""

    command: ClassVar[str] = "execute"


class StopProgram(Envelope, Run):
    """Lift a program."""

    command: ClassVar[str] = "stop"


class ListPrograms(Envelope, Body):
    """Every program of the feeder."""

    command: ClassVar[str] = "list"


class GetProgram(Envelope, ProgramName):
    """One program."""

    command: ClassVar[str] = "get"


class Execution(WireModel):
    """One run of a program; ``stopped_at`` is None while it lasts."""

    started_at: AwareDatetime
    stopped_at: AwareDatetime | None
    revision: int
    """Revision of the adjustments that put it in force."""
    buses: int
    total_shed_kw: float | None
    """What it took off the feeder when it began; None where that was not seen."""


class Program(WireModel):
    """A registered program, with the buses that are subscribed and its latest executions."""

    name: str
    number: int
    description: str
    min_power_kw: float
    target_pf: float
    registered_at: AwareDatetime
    subscriptions: tuple[str, ...]
    executing: bool
    executions: tuple[Execution, ...]


class DeletedProgram(WireModel):
    """What is left of a program that was deleted."""

    name: str
    number: int


class BusPower(WireModel):
    """What loads and devices of a bus draw, solved; ``pf`` is None where they draw no kW."""

    kw: float
    kvar: float
    pf: float | None


class BusOutcome(WireModel):
    """What an execution did at a bus; ``left_alone`` says why nothing."""

    bus: str
    before: BusPower
    after: BusPower
    shed_kw: float
    left_alone: str | None


class ExecutionReport(WireModel):
    """What an execution did, as of the state of ``version``."""

    name: str
    number: int
    revision: int
    version: int
    total_shed_kw: float
    buses: tuple[BusOutcome, ...]


class BusAdjustment(WireModel):
    """What a program asks of a bus: at most ``max_kw`` in kW, at least ``target_pf``."""

    bus: Name
    max_kw: MinPower
    target_pf: PowerFactor


class ProgramInForce(WireModel):
    """An executing program and its buses."""

    name: Name
    number: ProgramNumber
    buses: tuple[BusAdjustment, ...]


class Adjustments(WireModel):
    """Everything in force on a feeder, retained; a lower revision than the last is ignored."""

    revision: Annotated[int, Field(ge=0, le=HIGHEST_REVISION)]
    programs: tuple[ProgramInForce, ...] = ()


class ProgramEventKind(StrEnum):
    REGISTERED = "registered"
    UPDATED = "updated"
    DELETED = "deleted"
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    EXECUTED = "executed"
    STOPPED = "stopped"


class ProgramEvent(WireModel):
    """Something happened to a program: what, and in which revision of the adjustments."""

    feeder: str
    event: ProgramEventKind
    name: str
    number: int
    at: AwareDatetime
    revision: int
    bus: str | None = None
    total_shed_kw: float | None = None
