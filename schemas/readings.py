"""Readings of meters, one at a time or in batches."""

from typing import Annotated

from pydantic import AwareDatetime, Field

from schemas.wire import Kvar, Kw, Name, WireModel


class Reading(WireModel):
    """What a meter saw. ``demand_kw`` is what its load would draw if no setpoint held it."""

    kw: Kw
    kvar: Kvar | None = None
    demand_kw: Kw | None = None
    at: AwareDatetime | None = None


class AddressedReading(Reading):
    """A reading that says itself where it was taken."""

    bus: Name
    element: Name


class ReadingBatch(WireModel):
    """What a head-end collected."""

    readings: Annotated[tuple[AddressedReading, ...], Field(max_length=10_000)]
