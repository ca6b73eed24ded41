"""``flexfeeder meters``: a simulated smart meter for every load of a feeder.

Each publishes its reading once an interval, with the wall's time stamp, and obeys the setpoints
that it gets. The loads are those of the retained topology, so any running system will do.
"""

import random
import signal
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson

from flexfeeder.simulation import MeteredLoad, Setpoint, Timelapse, measure, metered_load
from schemas import topics
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import Log, configure
from services.presence import HEARTBEAT_S, Presence
from services.reactor import Reactor
from services.settings import Settings


def run(settings: Settings, *, seed: int, speed: float, interval_s: float) -> None:
    """Publish readings until told to stop.

    ``speed`` is simulated seconds a second; ``interval_s`` the seconds between a meter's readings.
    """
    fleet = Fleet(settings, seed, speed, interval_s, configure(settings, "meters"))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, fleet.stop)
    fleet.run()


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
        self._setpoints: dict[tuple[str, str], Setpoint] = {}
        self._stopping = False
        instance = f"meters-{self._feeder}-{uuid.uuid4().hex[:8]}"
        self._presence = Presence("meters", instance, self._feeder)
        self._connection = Connection(
            BrokerAddress.of(settings),
            instance,
            log=log,
            on_message=self._arrived,
            subscriptions=[
                Subscription(topics.topology(self._feeder), qos=1),
                Subscription(topics.setpoints(self._feeder), qos=1),
            ],
            will=self._presence.will,
        )

    def stop(self, *_: object) -> None:
        self._stopping = True

    def run(self) -> None:
        """Each load in its turn, spread evenly over the interval."""
        reactor = Reactor(self._connection)
        published = 0.0
        turn = 0
        due = time.monotonic()
        heartbeat_due = 0.0
        while not self._stopping:
            now = time.monotonic()
            if now >= heartbeat_due:
                heartbeat_due = now + HEARTBEAT_S
                self._presence.announce(self._connection, {"readings": published})
            if not self._loads or not self._connection.connected:
                reactor.poll(0.05)
                due = time.monotonic()
                continue
            while due <= now:
                self._publish(self._loads[turn % len(self._loads)])
                published += 1
                turn += 1
                due += self._interval_s / len(self._loads)
            reactor.poll(min(0.1, max(0.0, due - time.monotonic())))
        self._connection.close(lambda: self._presence.farewell(self._connection))
        reactor.close()

    def _publish(self, load: MeteredLoad) -> None:
        now = time.time()
        key = (canonical(load.bus), canonical(load.name))
        held = self._setpoints.get(key)
        measured = measure(load, self._clock.at(now), held or Setpoint(), self._chance)
        reading: dict[str, Any] = {
            "kw": measured.kw,
            "kvar": measured.kvar,
            "at": datetime.fromtimestamp(now, UTC),
        }
        if held is not None:
            reading["demand_kw"] = measured.demand_kw
        self._connection.publish(
            topics.meter(self._feeder, load.bus, load.name), orjson.dumps(reading)
        )

    def _arrived(self, message: Message) -> None:
        if message.topic == topics.topology(self._feeder):
            self._take_topology(message.payload)
        else:
            self._take_setpoint(message)
        self._connection.acknowledge(message)

    def _take_topology(self, payload: bytes) -> None:
        if not payload:
            return
        self._loads = tuple(
            metered_load(
                load["bus"],
                load["name"],
                len(load["phases"]),
                load["nominal_kw"],
                load["nominal_kvar"],
                self._seed,
            )
            for load in orjson.loads(payload)["loads"]
        )
        self._log.info("metering", loads=len(self._loads), speed=self._clock.speed)

    def _take_setpoint(self, message: Message) -> None:
        address = topics.address_of(message.topic)
        if address is None:
            return
        key = (canonical(address.bus), canonical(address.element))
        if message.payload:
            asked = orjson.loads(message.payload)
            self._setpoints[key] = Setpoint(asked.get("max_kw"), asked.get("pf"))
        else:
            self._setpoints.pop(key, None)
