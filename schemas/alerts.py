"""Alerts: something is over a limit, or not as it should be, from when until when."""

from enum import StrEnum

from pydantic import AwareDatetime

from schemas.wire import WireModel


class AlertKind(StrEnum):
    OVERLOAD = "overload"
    UNDERVOLTAGE = "undervoltage"
    OVERVOLTAGE = "overvoltage"
    NOT_FOLLOWING = "not_following"
    NO_CONVERGENCE = "no_convergence"
    VOIDED = "voided"


class AlertEvent(StrEnum):
    BEGIN = "begin"
    END = "end"


class Alert(WireModel):
    """The begin or end of an alert. ``subject`` is a transformer, a bus with its phase, a load or
    device with its bus, or the feeder; value and limit are in percent of the rating, pu, or kW. At
    the end, message and value tell what was wrong when it was last seen.
    """

    feeder: str
    kind: AlertKind
    event: AlertEvent
    subject: str
    at: AwareDatetime
    version: int
    message: str
    value: float | None = None
    limit: float | None = None
