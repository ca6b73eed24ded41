"""What those who serve a request say of it to whoever tells of it. Pure."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Seen:
    """What is to be told of a request, and only those know who serve it."""

    request_id: str | None = None
    """The one that its command has."""
    version: int | None = None
    """Of the state with which it was answered."""
    traceparent: str | None = None
    """What its command is to say of the trace that it belongs to."""


SEEN: ContextVar[Seen | None] = ContextVar("flexfeeder_seen", default=None)
"""Of the request that is being served."""
