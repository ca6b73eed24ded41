"""Setpoints: what a load, device or generator is asked to keep to."""

from typing import Annotated

from pydantic import Field

from schemas.wire import Kw, PowerFactor, WireModel


class Setpoint(WireModel):
    """At most ``max_kw`` (of consumption; of production for a generator) and a power factor of
    ``pf``; None where it is free. ``reason`` names the programs and zones that ask for it.
    """

    max_kw: Kw | None = None
    pf: PowerFactor | None = None
    reason: Annotated[str, Field(max_length=10_000)] = ""
