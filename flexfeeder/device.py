"""``flexfeeder device``: one simulated device that publishes what it draws and obeys its setpoint.

For trying programs and relief, and as an example of what a device has to do: publish readings,
listen to its own setpoint topic, keep to what comes there.
"""

import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from flexfeeder.simulation import JITTER, Measurement, obeying
from schemas import topics
from schemas.setpoints import Setpoint
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import Log, configure
from services.process import stop_event
from services.reactor import Reactor
from services.settings import Settings


@dataclass(frozen=True, slots=True)
class Habits:
    """What a device does: draws ``kw`` and ``kvar`` give or take a jitter, says so every
    ``interval_s``, and takes ``late_s`` to follow a setpoint, if it follows any.
    """

    kw: float
    kvar: float
    interval_s: float
    late_s: float
    follows: bool


class Device:
    """A device's mind: which setpoint it follows by now, and what it draws. No I/O."""

    def __init__(self, habits: Habits, chance: random.Random) -> None:
        self._habits = habits
        self._chance = chance
        self._setpoint = Setpoint()
        self._coming: deque[tuple[float, Setpoint]] = deque()

    def asked(self, setpoint: Setpoint, now: float) -> None:
        """A setpoint came; ``now`` in seconds of any clock."""
        self._coming.append((now + self._habits.late_s, setpoint))

    def measured(self, now: float) -> Measurement:
        """What it draws."""
        while self._coming and now >= self._coming[0][0]:
            self._setpoint = self._coming.popleft()[1]
        habits = self._habits
        share = max(0.0, 1.0 + self._chance.gauss(0.0, JITTER))
        setpoint = self._setpoint if habits.follows else Setpoint()
        return obeying(habits.kw * share, habits.kvar * share, setpoint)


def run(settings: Settings, bus: str, name: str, habits: Habits, count: int | None) -> None:
    """Publish ``count`` readings, or until told to stop."""
    stop = stop_event()
    log = configure(settings, "device")
    device = Device(habits, random.Random())  # noqa: S311
    serve(settings, bus, name, device, habits, count, stop.is_set, log)


def serve(
    settings: Settings,
    bus: str,
    name: str,
    device: Device,
    habits: Habits,
    count: int | None,
    stopping: Callable[[], bool],
    log: Log,
) -> None:
    """Be this device on the broker of the settings."""
    feeder = canonical(settings.feeder)

    def take(message: Message) -> None:
        try:
            setpoint = Setpoint.model_validate_json(message.payload or b"{}")
        except ValidationError:
            log.warning("setpoint_not_read", topic=message.topic)
        else:
            device.asked(setpoint, time.monotonic())
            log.info("setpoint", max_kw=setpoint.max_kw, pf=setpoint.pf, reason=setpoint.reason)
        connection.acknowledge(message)

    connection = Connection(
        BrokerAddress.of(settings),
        f"device-{uuid.uuid4().hex[:12]}",
        log=log,
        on_message=take,
        subscriptions=[Subscription(topics.setpoint(feeder, bus, name), qos=1)],
    )
    reactor = Reactor(connection)
    published = 0
    due = time.monotonic()
    while not stopping() and (count is None or published < count):
        now = time.monotonic()
        if now >= due and connection.connected:
            measured = device.measured(now)
            reading: dict[str, Any] = {
                "kw": measured.kw,
                "kvar": measured.kvar,
                "demand_kw": measured.demand_kw,
                "at": datetime.now(UTC),
            }
            connection.publish(topics.meter(feeder, bus, name), orjson.dumps(reading))
            log.info("reading", kw=measured.kw, kvar=measured.kvar)
            published += 1
            due = now + habits.interval_s
        reactor.poll(min(0.1, max(0.01, due - time.monotonic())))
    connection.close()
    reactor.close()
