"""``flexfeeder meters``: a simulated smart meter for every load of a feeder.

Each publishes its reading once an interval, with the wall's time stamp, and obeys the setpoints
that it gets. Where somebody else publishes for a load, its simulated meter steps aside: point a
real meter at the system and it takes over. The loads are those of the retained topology, so any
running system will do.
"""

import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from flexfeeder.simulation import MeteredLoad, Timelapse, measure, metered_load
from schemas import topics
from schemas.readings import Reading, ReadingBatch
from schemas.setpoints import Setpoint
from schemas.topology import Topology
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import Log, configure
from services.presence import Presence
from services.process import stop_event
from services.reactor import Reactor
from services.settings import Settings

STEP_ASIDE_S = 900.0
"""How long a simulated meter keeps silent after a reading of somebody else: a usual interval."""

LONGEST_CATCH_UP_S = 1.0
"""A longer pause (of the machine, say) is not made up for."""

MOST_SETPOINTS = 100_000
"""Setpoints that are kept, whoever else publishes some."""

REMEMBERED = 100
"""Own readings of a load that are known again when the broker echoes them."""

Key = tuple[str, str]

_SETPOINT = TypeAdapter(Setpoint)
_READING = TypeAdapter(Reading)


def run(settings: Settings, *, seed: int, speed: float, interval_s: float) -> None:
    """Publish readings until told to stop.

    ``speed`` is simulated seconds a second; ``interval_s`` the seconds between a meter's readings.
    """
    stop = stop_event()
    Fleet(settings, seed, speed, interval_s, configure(settings, "meters")).run(stop.is_set)


class Fleet:
    """All meters of a feeder, on one connection."""

    def __init__(
        self, settings: Settings, seed: int, speed: float, interval_s: float, log: Log
    ) -> None:
        self._feeder = canonical(settings.feeder)
        self._seed = seed
        self._interval_s = interval_s
        self._log = log
        self._chance = random.Random(seed)  # noqa: S311
        self._clock = Timelapse(time.time(), datetime.now().astimezone(), speed)
        self._loads: tuple[MeteredLoad, ...] = ()
        self._keys: frozenset[Key] = frozenset()
        self._setpoints: dict[Key, Setpoint] = {}
        self._own: dict[Key, deque[bytes]] = {}
        self._silent_until: dict[Key, float] = {}
        self._published = 0
        instance = f"meters-{self._feeder}-{uuid.uuid4().hex[:8]}"
        self._presence = Presence("meters", instance, self._feeder, transient=True)
        self._connection = Connection(
            BrokerAddress.of(settings),
            instance,
            log=log,
            on_message=self._arrived,
            subscriptions=[
                Subscription(topics.topology(self._feeder), qos=1),
                Subscription(topics.setpoints(self._feeder), qos=1),
                Subscription(topics.every_meter(self._feeder), qos=0),
                Subscription(topics.meters(self._feeder), qos=0),
            ],
            will=self._presence.will,
        )

    def run(self, stopping: Callable[[], bool]) -> None:
        """Each load in its turn, spread evenly over the interval, until ``stopping``."""
        reactor = Reactor(self._connection)
        turn = 0
        due = time.monotonic()
        while not stopping():
            now = time.monotonic()
            self._presence.beat(self._connection, now, self._figures)
            if not self._loads or not self._connection.connected:
                reactor.poll(0.05)
                due = time.monotonic()
                continue
            due = max(due, now - LONGEST_CATCH_UP_S)
            while due <= now and not stopping():
                self._published += self._publish(self._loads[turn % len(self._loads)])
                turn += 1
                due += self._interval_s / len(self._loads)
            reactor.poll(min(0.1, max(0.0, due - time.monotonic())))
        self._connection.close(lambda: self._presence.farewell(self._connection))
        reactor.close()

    def _figures(self) -> dict[str, float]:
        return {"readings": float(self._published)}

    def _publish(self, load: MeteredLoad) -> bool:
        """Publish the reading of a load; False where its simulated meter has stepped aside."""
        now = time.time()
        key = _key(load.bus, load.name)
        if now < self._silent_until.get(key, 0.0):
            return False
        held = self._setpoints.get(key)
        measured = measure(load, self._clock.at(now), held or Setpoint(), self._chance)
        reading: dict[str, Any] = {
            "kw": measured.kw,
            "kvar": measured.kvar,
            "at": datetime.fromtimestamp(now, UTC),
        }
        if held is not None:
            reading["demand_kw"] = measured.demand_kw
        payload = orjson.dumps(reading)
        self._own.setdefault(key, deque(maxlen=REMEMBERED)).append(payload)
        return self._connection.publish(topics.meter(self._feeder, load.bus, load.name), payload)

    def _arrived(self, message: Message) -> None:
        if message.topic == topics.topology(self._feeder):
            self._take_topology(message.payload)
        elif message.topic == topics.meters(self._feeder):
            self._take_batch(message.payload)
        elif (address := topics.address_of(message.topic)) is not None:
            key = _key(*address)
            if message.topic == topics.setpoint(self._feeder, *address):
                self._take_setpoint(key, message.payload)
            elif message.payload not in self._own.get(key, ()) and not message.retained:
                self._take_reading(key, message.payload)
        self._connection.acknowledge(message)

    def _take_topology(self, payload: bytes) -> None:
        try:
            topology = Topology.model_validate_json(payload)
        except ValidationError:
            return
        self._loads = tuple(
            metered_load(
                load.bus,
                load.name,
                len(load.phases),
                load.nominal_kw,
                load.nominal_kvar,
                self._seed,
            )
            for load in topology.loads
        )
        self._keys = frozenset(_key(load.bus, load.name) for load in self._loads)
        self._setpoints = {k: v for k, v in self._setpoints.items() if k in self._keys}
        self._log.info("metering", loads=len(self._loads), speed=self._clock.speed)

    def _take_setpoint(self, key: Key, payload: bytes) -> None:
        if not payload:
            self._setpoints.pop(key, None)
        # Before the topology has come nobody knows which loads there are.
        if (self._keys and key not in self._keys) or len(self._setpoints) >= MOST_SETPOINTS:
            return
        with suppress(ValidationError):
            self._setpoints[key] = _SETPOINT.validate_json(payload)

    def _take_batch(self, payload: bytes) -> None:
        # Simulated meters send no batches, so every reading in one is somebody else's.
        try:
            batch = ReadingBatch.model_validate_json(payload)
        except ValidationError:
            return
        for reading in batch.readings:
            self._step_aside(_key(reading.bus, reading.element))

    def _take_reading(self, key: Key, payload: bytes) -> None:
        # What the solver will refuse silences nobody.
        with suppress(ValidationError):
            _READING.validate_json(payload)
            self._step_aside(key)

    def _step_aside(self, key: Key) -> None:
        if key not in self._keys:
            return
        now = time.time()
        if now >= self._silent_until.get(key, 0.0):
            self._log.info("stepping_aside", bus=key[0], load=key[1], for_s=STEP_ASIDE_S)
        self._silent_until[key] = now + STEP_ASIDE_S


def _key(bus: str, element: str) -> Key:
    return canonical(bus), canonical(element)
