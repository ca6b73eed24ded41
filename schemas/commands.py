"""Commands: what a sender may ask of the solver, each a body inside the common envelope."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, Discriminator, Field, Tag, TypeAdapter, model_validator

from schemas.wire import Factor, Kvar, Kw, Name, WireModel

LARGEST_COMMAND = 1 << 16
"""Bytes of a command, or of the body that becomes one, that are parsed: far more than any valid
one takes."""

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]


class Envelope(WireModel):
    """What every command carries beside its body; a 3.1.1 client needs ``reply_to`` to get an
    answer, an MQTT 5 client may use a response topic and correlation data instead.
    """

    request_id: RequestId | None = None
    issued_at: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    reply_to: Annotated[str, Field(max_length=512)] | None = None


class Body(WireModel):
    """What is asked for; without ``feeder`` it is asked of the default one."""

    feeder: Name | None = None


class LoadPin(Body):
    """Pins one load to a value; without kvar its nominal power factor is kept."""

    bus_name: Name
    load_name: Name
    new_kw: Kw
    new_kvar: Kvar | None = None


class BusFactor(Body):
    """Sets the factor of all loads of a bus."""

    bus_name: Name
    factor: Factor


class NeighbourhoodFactor(Body):
    """Sets the factor of every load of a neighbourhood."""

    neighbourhood: Annotated[int, Field(ge=0, le=1_000_000)]
    factor: Factor


class Release(Body):
    """Lifts the pin of one load, or of all loads of a bus."""

    bus_name: Name
    load_name: Name | None = None


FORMS = frozenset({"<pin>", "<factor>"})
"""Names of the forms of a body; pydantic puts them among the fields of an error."""


def _household_form(body: Any) -> Literal["<pin>", "<factor>"]:
    if isinstance(body, dict):
        return "<factor>" if "factor" in body else "<pin>"
    return "<factor>" if isinstance(body, BusFactor) else "<pin>"


HouseholdChange = Annotated[
    Annotated[LoadPin, Tag("<pin>")] | Annotated[BusFactor, Tag("<factor>")],
    Discriminator(_household_form),
]
"""The two forms of a household change; a body with ``factor`` is the second."""


class RunSimulation(Envelope, Body):
    """Solve now."""

    name: ClassVar[str] = "run_simulation"


class SetLoad(Envelope, LoadPin):
    """Pin a load."""

    name: ClassVar[str] = "set_load"


class ReleaseLoad(Envelope, Release):
    """Lift pins."""

    name: ClassVar[str] = "release_load"


class SetFactor(Envelope, Body):
    """Set the factor of a bus or of a neighbourhood: exactly one of the two is named."""

    name: ClassVar[str] = "set_factor"

    factor: Factor
    bus_name: Name | None = None
    neighbourhood: Annotated[int, Field(ge=0, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.bus_name is None) == (self.neighbourhood is None):
            raise ValueError("name either bus_name or neighbourhood")
        return self


SolverCommand = RunSimulation | SetLoad | ReleaseLoad | SetFactor

SOLVER_COMMANDS: dict[str, TypeAdapter[SolverCommand]] = {
    model.name: TypeAdapter(model) for model in (RunSimulation, SetLoad, ReleaseLoad, SetFactor)
}
"""Every command that the solver knows, by the name in its topic."""
