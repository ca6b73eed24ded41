"""What the manager hears of each feeder: its buses, and the newest state of its solver. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from schemas import topics
from schemas.state import version_of
from schemas.topology import Topology
from schemas.wire import canonical

SILENT_S = 4.0
"""A solver publishes its state at least once a second; after this long without one it is away."""

MOST_FEEDERS = 200
"""Feeders that are listened to, whatever anybody publishes."""

_TAIL = b'"adjustments":{"revision":'
_APPLIED = re.compile(_TAIL + rb'(\d{1,15}),"programs":\[[^\[\]]*\]\}\}\s*\Z')
_NEVER = float("-inf")


def revision_of(state: bytes) -> int | None:
    """Revision of the adjustments that an encoded state was solved with, read from its tail."""
    start = state.rfind(_TAIL)
    tail = _APPLIED.match(state, start) if start >= 0 else None
    return int(tail[1]) if tail else None


@dataclass(slots=True)
class Feeder:
    """A feeder as heard on the bus. Times are monotonic seconds."""

    id: str
    buses: dict[str, str] | None = None
    """The feeder's spelling of each bus by its canonical name; None until its topology came."""
    state: bytes = b""
    """The newest state, as the solver encoded it."""
    version: int = 0
    applied: int = 0
    """Revision of the adjustments that the newest state was solved with."""
    earlier: bytes = b""
    """The last state before that revision was applied."""
    applied_earlier: int = 0
    """Revision that it was solved with."""
    heard_at: float = _NEVER

    def take_topology(self, payload: bytes) -> bool:
        """Take over the buses; False for what is no topology."""
        try:
            topology = Topology.model_validate_json(payload)
        except ValidationError:
            return False
        names = [node.bus for node in topology.buses if topics.is_name(node.bus)]
        self.buses = {canonical(name): name for name in names}
        return True

    def take_state(self, payload: bytes, now: float, *, retained: bool) -> bool:
        """Take over a state unless there is a newer one; False for what is no state.

        A solver that has gone leaves its last state retained: that says nothing of whether it is
        there. Lower versions than that of a solver that is there come from one whose time is over;
        when it is silent they come from one that counts anew, because the store was reset.
        """
        version, applied = version_of(payload), revision_of(payload)
        if version is None or applied is None:
            return False
        if version < self.version and not self.is_silent(now):
            return True
        if applied > self.applied:
            self.earlier, self.applied_earlier = self.state, self.applied
        self.state, self.version, self.applied = payload, version, applied
        if not retained:
            self.heard_at = now
        return True

    def before(self, revision: int) -> bytes | None:
        """The newest state that was solved without the adjustments of a revision, None where none
        was heard that is as near to it as can be.
        """
        if self.applied < revision:
            return self.state or None
        return self.earlier or None if self.applied_earlier < revision else None

    def is_silent(self, now: float) -> bool:
        """True while no solver shows that it is there."""
        return now - self.heard_at > SILENT_S


class Feeders:
    """Every feeder that has been heard of; the default one is always among them."""

    def __init__(self, default: str) -> None:
        self.default = canonical(default)
        self._heard = {self.default: Feeder(self.default)}

    def __iter__(self) -> Iterator[Feeder]:
        return iter(self._heard.values())

    def get(self, feeder_id: str) -> Feeder:
        """A feeder; one that has not been heard of has said nothing yet."""
        return self._heard.get(feeder_id) or Feeder(feeder_id)

    def take(self, topic: str, payload: bytes, now: float, *, retained: bool) -> Feeder | None:
        """Take over a topology or state; returns whose, None where it cannot be read."""
        feeder = self.get(canonical(topics.feeder_of(topic)))
        is_new = feeder.id not in self._heard
        if is_new and not (_is_feeder(feeder.id) and len(self._heard) < MOST_FEEDERS):
            return None
        if topic.endswith("/topology"):
            is_read = feeder.take_topology(payload)
        else:
            is_read = feeder.take_state(payload, now, retained=retained)
        if not is_read:
            return None
        if is_new:
            self._heard[feeder.id] = feeder
        return feeder


def _is_feeder(name: str) -> bool:
    return topics.is_name(name) and name not in topics.RESERVED
