"""Commands about what is connected to a bus: flexible loads (devices) and generators."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from schemas.envelope import Body, Envelope
from schemas.wire import POWER_LIMIT, Kvar, Name, PowerFactor, misfit

MOST_DEVICES = 2000
"""Devices that a feeder may have at once."""

MOST_GENERATORS = 500
"""Generators that a feeder may have at once, the feeder's own model not counted."""


def _letter(phase: Any) -> Any:
    """``a`` and 1 are phase A."""
    if isinstance(phase, str):
        return phase.upper()
    if isinstance(phase, int) and not isinstance(phase, bool):
        return {1: "A", 2: "B", 3: "C"}.get(phase, phase)
    return phase


Phase = Annotated[
    Literal["A", "B", "C"],
    BeforeValidator(_letter),
    WithJsonSchema({"enum": ["A", "B", "C", "a", "b", "c", 1, 2, 3]}),
]
"""A phase by its letter, or by its number 1 to 3."""


def _no_truth(model: Any) -> Any:
    """``true`` equals 1 in Python, and means nothing here."""
    if isinstance(model, bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return model


Model = Annotated[Literal[1, 2, 3, 4, 5, 7], BeforeValidator(_no_truth)]
"""OpenDSS's number of a generator's model."""

PhaseCount = Annotated[int, Field(ge=1, le=3)]

RatedKw = Annotated[float, Field(ge=0, le=POWER_LIMIT, allow_inf_nan=False)]
"""What a device may draw or a generator produce, in kW; never negative."""


class DeviceAddition(Body):
    """Adds a flexible load of ``kw``. Its kvar is ``kvar``, else follows from ``pf``, else 0.
    Without ``phases`` and ``phase`` it takes all phases of its bus.
    """

    bus_name: Name
    device_name: Name
    kw: RatedKw
    kvar: Kvar | None = None
    pf: PowerFactor | None = None
    phases: PhaseCount | None = None
    phase: Phase | None = None


class DeviceRemoval(Body):
    """Takes a device off its bus."""

    bus_name: Name
    device_name: Name


class GeneratorAddition(Body):
    """Adds a generator of ``kw``, positive production. Its kvar (positive injects) is ``kvar``,
    else follows from ``pf``, else 0. A ``kv`` that is not its bus's gets a step-up transformer.
    ``model`` is OpenDSS's; outside of ``vmin_pu`` to ``vmax_pu`` it turns into an impedance.
    """

    bus_name: Name
    kw: RatedKw
    kvar: Kvar | None = None
    pf: PowerFactor | None = None
    kv: Annotated[float, Field(ge=0.1, le=500, allow_inf_nan=False)] | None = None
    phases: PhaseCount | None = None
    phase: Phase | None = None
    model: Model = 1
    vmin_pu: Annotated[float, Field(gt=0, lt=2, allow_inf_nan=False)] = 0.9
    vmax_pu: Annotated[float, Field(gt=0, lt=2, allow_inf_nan=False)] = 1.1
    generator_name: Name | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.vmin_pu >= self.vmax_pu:
            raise misfit("vmin_pu", "must be below vmax_pu")
        return self


class GeneratorRemoval(Body):
    """Takes a generator, and its step-up transformer, off the feeder."""

    generator_name: Name


class AddDevice(Envelope, DeviceAddition):
    """Add a device."""

    command: ClassVar[str] = "add_device"


class DisconnectDevice(Envelope, DeviceRemoval):
    """Remove a device."""

    command: ClassVar[str] = "disconnect_device"


class AddGenerator(Envelope, GeneratorAddition):
    """Add a generator; the reply's results give its ``generator_name``."""

    command: ClassVar[str] = "add_generator"


class RemoveGenerator(Envelope, GeneratorRemoval):
    """Remove a generator."""

    command: ClassVar[str] = "remove_generator"
