"""Replies of services to commands."""

from typing import Literal

from pydantic import AwareDatetime, Field

from schemas.errors import Detail, ErrorCode
from schemas.wire import WireModel


class Accepted(WireModel):
    """The command took effect in the state of ``version``; ``buses`` are those it touched."""

    request_id: str | None = None
    status: Literal["success"] = "success"
    message: str
    version: int
    buses: tuple[str, ...] = ()


class Refused(WireModel):
    """The command was refused and changed nothing."""

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
