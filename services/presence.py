"""Birth, heartbeat and last will: how a service says that it is there."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from schemas import topics
from schemas.replies import ServiceStatus
from services.bus import Connection, Will

HEARTBEAT_S = 1.0


class Presence:
    """The retained status of one service instance, e.g. ``solver-ieee123``.

    A ``transient`` instance, one with a random name, leaves nothing behind: its end clears the
    topic, where another's would say that it is offline.
    """

    def __init__(
        self, service: str, instance: str, feeder: str | None = None, *, transient: bool = False
    ) -> None:
        self.topic = topics.service_status(instance)
        self._service = service
        self._feeder = feeder
        self._transient = transient
        self._started_at = datetime.now(UTC)
        self._beat_due = 0.0

    @property
    def will(self) -> Will:
        """What the broker is to say when this service dies."""
        return Will(self.topic, self._end())

    def announce(self, connection: Connection, figures: dict[str, float]) -> None:
        """Birth and heartbeat alike: online, with the service's figures."""
        connection.retain(self.topic, self._status("online", figures), qos=1)

    def beat(
        self,
        connection: Connection,
        now: float,
        figures: Callable[[], dict[str, float]] = dict,
    ) -> None:
        """Announce if a heartbeat is due; ``now`` in monotonic seconds."""
        if now >= self._beat_due:
            self._beat_due = now + HEARTBEAT_S
            self.announce(connection, figures())

    def farewell(self, connection: Connection) -> None:
        """A service that stops says so itself; the will is for the others."""
        connection.retain(self.topic, self._end(), qos=1)

    def _end(self) -> bytes:
        return b"" if self._transient else self._status("offline", {})

    def _status(self, status: Literal["online", "offline"], figures: dict[str, float]) -> bytes:
        return (
            ServiceStatus(
                status=status,
                service=self._service,
                feeder=self._feeder,
                at=datetime.now(UTC),
                started_at=self._started_at,
                pid=os.getpid(),
                figures=figures,
            )
            .model_dump_json()
            .encode()
        )
