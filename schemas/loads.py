"""Commands about loads: pins, factors, and a solve on demand."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from schemas.envelope import Body, Envelope
from schemas.wire import Factor, Kvar, Kw, Name, misfit


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

    command: ClassVar[str] = "run_simulation"


class SetLoad(Envelope, LoadPin):
    """Pin a load."""

    command: ClassVar[str] = "set_load"


class ReleaseLoad(Envelope, Release):
    """Lift pins."""

    command: ClassVar[str] = "release_load"


class SetFactor(Envelope, Body):
    """Set the factor of a bus or of a neighbourhood: exactly one of the two is named."""

    command: ClassVar[str] = "set_factor"

    factor: Factor
    bus_name: Name | None = None
    neighbourhood: Annotated[int, Field(ge=0, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.bus_name is None) == (self.neighbourhood is None):
            raise misfit("bus_name", "name either bus_name or neighbourhood")
        return self
