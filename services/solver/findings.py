"""What a solve shows to be wrong, and the alerts that begin and end with it. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from schemas.alerts import AlertEvent, AlertKind

ENDS_AFTER_S = 1.0
"""An alert ends when its finding has been gone for this long: a value that hovers about its limit
makes one alert, not a hundred.
"""


class Finding(NamedTuple):
    """Something over a limit; value and limit in percent of a rating, pu, or kW."""

    kind: AlertKind
    subject: str
    message: str
    value: float | None = None
    limit: float | None = None


class AlertBook:
    """Which alerts have begun and not ended."""

    def __init__(self) -> None:
        self._open: dict[tuple[AlertKind, str], tuple[Finding, float]] = {}

    def update(self, findings: Iterable[Finding], now: float) -> list[tuple[AlertEvent, Finding]]:
        """The alerts that begin or end with these findings; ``now`` in seconds of any clock."""
        events: list[tuple[AlertEvent, Finding]] = []
        for finding in findings:
            key = (finding.kind, finding.subject)
            if key not in self._open:
                events.append((AlertEvent.BEGIN, finding))
            self._open[key] = (finding, now)
        for key, (finding, seen_at) in list(self._open.items()):
            if now - seen_at >= ENDS_AFTER_S:
                del self._open[key]
                events.append((AlertEvent.END, finding))
        return events
