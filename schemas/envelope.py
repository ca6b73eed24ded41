"""What every command has in common: an envelope for its way, around a body that says what for."""

from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field

from schemas.wire import Name, WireModel

LARGEST_COMMAND = 1 << 16
"""Bytes of a command, or of the body that becomes one, that are parsed: far more than any valid
one takes."""

RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]

Traceparent = Annotated[str, Field(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
"""Version 00 of the W3C's trace context: trace, span, flags."""


class Envelope(WireModel):
    """What every command carries beside its body; a 3.1.1 client needs ``reply_to`` to get an
    answer, an MQTT 5 client may use a response topic and correlation data instead.
    """

    command: ClassVar[str]
    """The name of the command on its topic."""

    request_id: RequestId | None = None
    issued_at: AwareDatetime | None = None
    deadline: AwareDatetime | None = None
    reply_to: Annotated[str, Field(max_length=512)] | None = None
    traceparent: Traceparent | None = None
    """What its sender was doing, for whoever follows a request through the services. It stands in
    the payload because MQTT 5 properties are not to be had everywhere.
    """


class Body(WireModel):
    """What is asked for; without ``feeder`` it is asked of the default one."""

    feeder: Name | None = None
