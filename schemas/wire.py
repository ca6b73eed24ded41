"""The ground under every message: a strict frozen model, names, and bounded quantities."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

NAME_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Name of a feeder, bus, load, device, generator or program; case-insensitive, as in OpenDSS."""

POWER_LIMIT = 1e6
"""Largest magnitude of a power on the wire, kW or kvar: a thousand times a feeder's head."""

Kw = Annotated[float, Field(ge=-POWER_LIMIT, le=POWER_LIMIT, allow_inf_nan=False)]
"""Active power in kW; consumption is positive."""

Kvar = Annotated[float, Field(ge=-POWER_LIMIT, le=POWER_LIMIT, allow_inf_nan=False)]
"""Reactive power in kvar; inductive consumption is positive."""

Factor = Annotated[float, Field(ge=0.0, le=10.0, allow_inf_nan=False)]
"""Dimensionless multiplier of demand."""


PowerFactor = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
"""Ratio of active to apparent power; 1 where nothing is reactive."""


class WireModel(BaseModel):
    """A message or a part of one: strict types, no unknown fields, immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def misfit(field: str, problem: str) -> PydanticCustomError:
    """What a validator of a whole model raises, so that the error names the field after all."""
    return PydanticCustomError("misfit", "{problem}", {"field": field, "problem": problem})


def canonical(name: str) -> str:
    """The form in which names are compared: ``Load_1`` and ``LOAD_1`` are one load."""
    return name.lower()
