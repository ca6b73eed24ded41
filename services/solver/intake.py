"""Readings, from message to demand: read, checked, folded, counted."""

import logging
from collections import Counter

from pydantic import TypeAdapter, ValidationError

from schemas import topics
from schemas.errors import Refusal
from schemas.readings import Reading, ReadingBatch
from services.bus import Message
from services.logs import Log, OncePerTopic
from services.solver.demand import Demand, ReadingOutcome

LARGEST_READING = 1 << 16
"""Bytes of a single reading that are still read: far more than any valid one takes."""

LARGEST_BATCH = 4 << 20
"""Bytes of a batch of readings that are still read."""

OUTCOMES = (*(str(outcome) for outcome in ReadingOutcome), "topic", "too_large", "invalid")
"""What may become of a reading, or of a message that holds none."""

_READING = TypeAdapter(Reading)
_BATCH = TypeAdapter(ReadingBatch)


class Intake:
    """Takes readings into the demand. A message that does not validate is refused whole; in a
    valid batch each reading stands for itself. What is refused is counted by reason, and logged
    once per topic.
    """

    def __init__(self, feeder: str, demand: Demand, log: Log) -> None:
        self.outcomes: Counter[str] = Counter()
        self._demand = demand
        self._refusals = OncePerTopic(log, "reading_refused")
        self._log = log.bind()
        self._tells_all = self._log.is_enabled_for(logging.DEBUG)
        self._batch_topic = topics.meters(feeder)

    def take(self, message: Message, arrived_at: float) -> None:
        """Fold what a message says; ``arrived_at`` in epoch seconds."""
        before = self.outcomes.copy() if self._tells_all else None
        self._take(message, arrived_at)
        if before is not None:
            became = {str(outcome): n for outcome, n in (self.outcomes - before).items()}
            self._log.debug(
                "reading", topic=message.topic[:200], retained=message.retained, outcomes=became
            )

    def _take(self, message: Message, arrived_at: float) -> None:
        if message.topic == self._batch_topic:
            self._take_batch(message, arrived_at)
        else:
            self._take_single(message, arrived_at)

    def _take_single(self, message: Message, arrived_at: float) -> None:
        address = topics.address_of(message.topic)
        if address is None:
            self._refused("topic", message.topic, "a meter topic is .../meter/{bus}/{element}")
            return
        if not message.payload and not message.retained:
            return  # somebody cleared a retained reading
        if len(message.payload) > LARGEST_READING:
            self._refused("too_large", message.topic, f"{len(message.payload)} bytes")
            return
        try:
            reading = _READING.validate_json(message.payload)
        except ValidationError as error:
            self._refused("invalid", message.topic, Refusal.of_validation(error).message)
            return
        outcome = self._demand.take_reading(
            address.bus, address.element, reading, arrived_at, retained=message.retained
        )
        self._count(outcome, message.topic)

    def _take_batch(self, message: Message, arrived_at: float) -> None:
        if len(message.payload) > LARGEST_BATCH:
            self._refused("too_large", message.topic, f"{len(message.payload)} bytes")
            return
        try:
            batch = _BATCH.validate_json(message.payload)
        except ValidationError as error:
            self._refused("invalid", message.topic, Refusal.of_validation(error).message)
            return
        for reading in batch.readings:
            outcome = self._demand.take_reading(
                reading.bus, reading.element, reading, arrived_at, retained=message.retained
            )
            self._count(outcome, message.topic)

    def _count(self, outcome: ReadingOutcome, topic: str) -> None:
        if outcome is ReadingOutcome.ACCEPTED or outcome is ReadingOutcome.STALE:
            self.outcomes[outcome] += 1
        else:
            self._refused(outcome, topic, outcome.value.replace("_", " "))

    def _refused(self, reason: str, topic: str, problem: str) -> None:
        self.outcomes[reason] += 1
        self._refusals.warn(topic, problem)
