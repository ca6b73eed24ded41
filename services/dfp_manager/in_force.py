"""The retained message of what is in force on each feeder, until its solver shows it."""

from dataclasses import dataclass

from schemas import topics
from services.bus import Connection
from services.dfp_manager.feeders import Feeder
from services.dfp_manager.programs import FeederPrograms, adjustments

REPEAT_S = 1.0
"""The adjustments are published again after so long, as long as the solver does not show them."""


@dataclass(frozen=True, slots=True)
class _Published:
    revision: int
    at: float


class InForce:
    """Publishes adjustments, retained. Times are monotonic seconds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._published: dict[str, _Published] = {}

    def newest(self, feeder: Feeder) -> int:
        """The highest revision that anybody can know of: lower ones are ignored."""
        published = self._published.get(feeder.id)
        return max(feeder.applied, published.revision if published is not None else 0)

    def keep(self, programs: FeederPrograms, feeder: Feeder, now: float) -> None:
        """Publish what is in force if it has changed, or if the solver has not taken it over.

        A solver that is silent needs no repetition: it finds the retained message when it comes.
        """
        published = self._published.get(feeder.id)
        if published is not None and published.revision == programs.revision:
            is_applied = feeder.applied >= programs.revision
            if is_applied or feeder.is_silent(now) or now < published.at + REPEAT_S:
                return
        payload = adjustments(programs).model_dump_json().encode()
        self._connection.retain(topics.adjustments(feeder.id), payload, qos=1)
        self._published[feeder.id] = _Published(programs.revision, now)
