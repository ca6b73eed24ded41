"""Replies of services to commands."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from schemas.errors import Detail, ErrorCode
from schemas.wire import WireModel


class Accepted(WireModel):
    """The command took effect: in the state of ``version``, where it concerns one. ``buses`` are
    those it touched, ``results`` what else its sender wants to know (the manager's whole answer).
    """

    request_id: str | None = None
    status: Literal["success"] = "success"
    message: str
    version: int | None = None
    buses: tuple[str, ...] = ()
    results: dict[str, Any] | list[Any] | None = None


class Refused(WireModel):
    """The command was refused and changed nothing; or, under ``no_reply``, nobody knows yet what
    became of it.
    """

    request_id: str | None = None
    status: Literal["error"] = "error"
    code: ErrorCode
    message: str
    details: tuple[Detail, ...] = ()


class ServiceStatus(WireModel):
    """Birth, heartbeat and last will of a service; the figures are its own, by name."""

    status: Literal["online", "offline"]
    service: str
    feeder: str | None = None
    at: AwareDatetime | None = None
    started_at: AwareDatetime | None = None
    pid: int | None = None
    figures: dict[str, float] = Field(default_factory=dict)
