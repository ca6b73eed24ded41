"""Tells what nobody waits for: setpoints to devices, alerts to all, lines to the result files."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from schemas import topics
from schemas.alerts import Alert, AlertEvent, AlertKind
from services.bus import Connection, Message
from services.solver.findings import Finding
from services.solver.reports import Reports
from services.solver.twin import Cycle, Twin

SETPOINTS_AFTER_S = 0.01
"""How long setpoints wait for those who wait for an answer: both would want the same processors."""

SETPOINTS_A_ROUND = 16
"""Setpoints that go out before commands are looked at again."""


class Herald:
    """Speaks for the owner of one feeder. ``now`` is in monotonic seconds throughout."""

    def __init__(self, feeder: str, twin: Twin, connection: Connection, reports: Reports) -> None:
        self._feeder = feeder
        self._twin = twin
        self._connection = connection
        self._reports = reports
        self._setpoints_due = 0.0
        self._voided: list[str] = []

    def voided(self, what: str) -> None:
        """A command was voided; it is told as soon as anybody can hear."""
        self._voided.append(what)

    @property
    def due(self) -> float:
        """When there is something to tell, in monotonic seconds; never if there is nothing."""
        return self._setpoints_due if self._twin.setpoints.has_changes else float("inf")

    def postpone(self) -> None:
        """Those who wait for an answer come first."""
        self._setpoints_due = time.monotonic() + SETPOINTS_AFTER_S

    def take_setpoint(self, message: Message) -> None:
        """What the broker has kept from before, and is not in force, is cleared."""
        if not message.retained or not message.payload:
            return
        in_force = self._twin.setpoints.in_force(topics.address_of(message.topic))
        if in_force is None or message.topic != topics.setpoint(self._feeder, *in_force):
            self._connection.clear(message.topic)

    def tell(self, done: Iterable[str], cycle: Cycle | None, version: int, now: float) -> None:
        """What commands did, what the newest cycle did if there was one, and what is wrong."""
        if now >= self._setpoints_due:
            self._tell_setpoints()
        at = time.time()
        for message in done:
            self._reports.done(message, at)
        if cycle is not None:
            self._reports.relief(cycle.relieved, cycle.actions, at)
        if events := self._twin.take_alerts(now):
            self._reports.alerts(events, at)
            for event, finding in events:
                self._alert(event, finding, version, at)
        if self._voided and self._connection.connected:
            self._tell_voided(version, at)
        self._reports.beat(now)

    def close(self) -> None:
        self._reports.close()

    def _tell_setpoints(self) -> None:
        for change in self._twin.setpoints.take_changes(SETPOINTS_A_ROUND):
            topic = topics.setpoint(self._feeder, change.bus, change.element)
            if change.setpoint is None:
                self._connection.clear(topic)
            else:
                payload = change.setpoint.model_dump_json().encode()
                self._connection.retain(topic, payload, qos=1)

    def _tell_voided(self, version: int, at: float) -> None:
        """It has no duration: it begins, and that is the end of it."""
        for what in self._voided:
            finding = Finding(AlertKind.VOIDED, "feeder", f"voided: {what}")
            for event in AlertEvent:
                self._reports.alerts([(event, finding)], at)
                self._alert(event, finding, version, at)
        self._voided.clear()

    def _alert(self, event: AlertEvent, finding: Finding, version: int, at: float) -> None:
        alert = Alert(
            feeder=self._feeder,
            kind=finding.kind,
            event=event,
            subject=finding.subject,
            at=datetime.fromtimestamp(at, UTC),
            version=version,
            message=finding.message if event is AlertEvent.BEGIN else f"ended: {finding.message}",
            value=finding.value,
            limit=finding.limit,
        )
        payload = alert.model_dump_json().encode()
        self._connection.publish(topics.alert(self._feeder), payload, qos=1)


NewReports = Callable[[Callable[[], bytes]], Reports]
"""Makes the reports, given where to find the newest state."""
