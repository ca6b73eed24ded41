"""The services that have been heard of, and whether they are there."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from schemas import topics
from schemas.replies import ServiceStatus
from services.presence import HEARTBEAT_S

SILENT_S = 4 * HEARTBEAT_S
"""A service without a heartbeat for this long counts as away."""

MOST_SERVICES = 200
"""Services that are kept track of, whoever says that there are more."""

LARGEST_STATUS = 1 << 14
"""Bytes of a status that are read."""


@dataclass(frozen=True, slots=True)
class _Heard:
    status: ServiceStatus
    at: float


class Roster:
    """What each service says of itself, by its instance: ``solver-ieee123``, ``dfp_manager``."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def __contains__(self, instance: str) -> bool:
        return instance in self._heard

    def take(self, instance: str, payload: bytes) -> ServiceStatus | None:
        """Note a status; returns it if it is one. An empty one takes the service off the list."""
        if not payload:
            self._heard.pop(instance, None)
            return None
        if len(payload) > LARGEST_STATUS:
            return None
        try:
            status = ServiceStatus.model_validate_json(payload)
        except ValidationError:
            return None
        is_known = instance in self._heard
        if not is_known and (len(self._heard) >= MOST_SERVICES or not topics.is_name(instance)):
            return None
        self._heard[instance] = _Heard(status, time.monotonic())
        return status

    def statuses(self) -> Iterator[tuple[str, ServiceStatus]]:
        """What each service said last, by instance."""
        for instance, heard in sorted(self._heard.items()):
            yield instance, heard.status

    def is_online(self, instance: str) -> bool:
        """True while the service says so, and its heartbeat is fresh."""
        heard = self._heard.get(instance)
        return (
            heard is not None
            and heard.status.status == "online"
            and time.monotonic() - heard.at < SILENT_S
        )
