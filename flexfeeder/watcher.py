"""What ``flexfeeder up`` hears of the services that it has started."""

import uuid
from contextlib import suppress

from pydantic import ValidationError

from schemas import topics
from schemas.replies import ServiceStatus
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import Log
from services.reactor import Reactor
from services.settings import Settings

MOST_SERVICES = 200
"""Services whose status is kept, whoever else publishes one."""


class Watcher:
    """What ``up`` hears on the bus: which process of each service is online, its figures, and the
    states of the feeder where somebody looks.
    """

    def __init__(self, settings: Settings, log: Log, *, with_states: bool) -> None:
        self.statuses: dict[str, ServiceStatus] = {}
        self.state: bytes | None = None
        """The newest."""
        self._state_topic = topics.state(canonical(settings.feeder))
        subscriptions = [Subscription(topics.every_service_status(), qos=1)]
        if with_states:
            subscriptions.append(Subscription(self._state_topic, qos=0))
        self._connection = Connection(
            BrokerAddress.of(settings),
            f"up-{uuid.uuid4().hex[:12]}",
            log=log,
            on_message=self._arrived,
            subscriptions=subscriptions,
        )
        self._reactor = Reactor(self._connection)

    def poll(self, timeout_s: float) -> None:
        self._reactor.poll(timeout_s)

    def close(self) -> None:
        self._connection.close()
        self._reactor.close()

    def is_online(self, pid: int) -> bool:
        """True if a service with this pid says that it is online."""
        return any(
            status.pid == pid and status.status == "online" for status in self.statuses.values()
        )

    def solver_figures(self, feeder: str) -> dict[str, float]:
        status = self.statuses.get(f"solver-{feeder}")
        return status.figures if status else {}

    def _arrived(self, message: Message) -> None:
        if message.topic == self._state_topic:
            self.state = message.payload
            return
        instance = topics.instance_of(message.topic)
        if not message.payload:
            self.statuses.pop(instance, None)
        with suppress(ValidationError):  # anybody may publish there
            status = ServiceStatus.model_validate_json(message.payload)
            if instance in self.statuses or len(self.statuses) < MOST_SERVICES:
                self.statuses[instance] = status
        self._connection.acknowledge(message)
