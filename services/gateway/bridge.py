"""Between the event loop of the gateway and the broker: states in, commands out, replies awaited.

The paho connection is driven by the event loop itself, so a request crosses no thread.
"""

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from schemas import topics
from schemas.errors import Detail, ErrorCode, Refusal
from schemas.replies import ServiceStatus
from schemas.state import VERSIONS_PER_FENCE, version_of
from schemas.topology import Topology
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import Log
from services.presence import HEARTBEAT_S, Presence

REPLY_TIMEOUT_S = 5.0
"""How long a caller waits for the solver before it is told to ask again."""

SILENT_S = 4 * HEARTBEAT_S
"""A service without a heartbeat for this long counts as away."""

BUDGET = 64
"""Messages handed over before the loop serves others."""

MOST_KEPT = 200
"""Feeders, and services, that are kept track of."""

PLAUSIBLE_STEP = 1000
"""A version that is further ahead than this is looked at more closely."""


@dataclass(frozen=True, slots=True)
class HeldState:
    """The newest state of a feeder, as the solver encoded it."""

    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Executed:
    """An accepted command, and a state that contains it."""

    message: str
    buses: tuple[str, ...]
    state: HeldState


@dataclass(slots=True)
class _Service:
    online: bool
    heard_at: float


class Bridge:
    """One plain client of the broker: random id, clean start, nothing to lose."""

    def __init__(self, address: BrokerAddress, default_feeder: str, log: Log) -> None:
        self.default_feeder = default_feeder
        self.topologies: dict[str, bytes] = {}
        self.states: dict[str, HeldState] = {}
        instance = f"gateway-{uuid.uuid4().hex[:12]}"
        self._presence = Presence("gateway", instance, transient=True)
        self._reply_to = topics.reply(instance)
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._waiting: dict[str, list[tuple[int, asyncio.Future[HeldState]]]] = {}
        self._services: dict[str, _Service] = {}
        self._watched: int | None = None
        self._writing = False
        self._connection = Connection(
            address,
            instance,
            log=log,
            on_message=self._arrived,
            subscriptions=[
                Subscription(topics.every_service_status(), qos=1),
                Subscription(topics.every_topology(), qos=1),
                Subscription(topics.every_state(), qos=0),
                Subscription(topics.replies(instance), qos=1),
            ],
            will=self._presence.will,
        )

    async def run(self) -> None:
        """Keep the connection alive until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._connection.watch(lambda _: None, self._closing)
        try:
            while True:
                now = time.monotonic()
                self._presence.beat(self._connection, now)
                if self._connection.is_open:
                    due = self._connection.maintain(now)
                else:
                    # It may block while it connects; nothing else touches it until it is done.
                    due = await asyncio.to_thread(self._connection.maintain, now)
                self._watch()
                await asyncio.sleep(max(0.02, min(due - time.monotonic(), 0.1)))
        finally:
            self._connection.close(lambda: self._presence.farewell(self._connection))

    @property
    def broker_connected(self) -> bool:
        return self._connection.connected

    def is_online(self, instance: str) -> bool:
        """True while the service says so, and its heartbeat is fresh."""
        service = self._services.get(instance)
        return (
            service is not None
            and service.online
            and time.monotonic() - service.heard_at < SILENT_S
        )

    def knows(self, feeder: str) -> bool:
        """True for the default feeder and any whose solver has ever been heard of."""
        return (
            feeder == self.default_feeder
            or feeder in self.states
            or f"solver-{feeder}" in self._services
        )

    async def execute(self, feeder: str, command: str, body: Mapping[str, Any]) -> Executed:
        """Have the feeder's solver carry out a command; returns with a state that contains it.

        Raises:
            Refusal: from the solver; or 503 where nothing was published, 504 where no answer came.

        """
        if not self.broker_connected:
            raise Refusal.of_field(
                ErrorCode.SERVICE_UNAVAILABLE, "broker", "not connected; nothing was changed"
            )
        if not self.is_online(f"solver-{feeder}"):
            raise Refusal.of_field(
                ErrorCode.SERVICE_UNAVAILABLE,
                "solver",
                f"the solver of {feeder!r} is away; nothing was changed",
            )
        request_id = uuid.uuid4().hex
        now = datetime.now(UTC)
        payload = {
            **body,
            "request_id": request_id,
            "issued_at": now,
            "deadline": now + timedelta(seconds=REPLY_TIMEOUT_S),
            "reply_to": self._reply_to,
        }
        replied: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._replies[request_id] = replied
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                self._connection.publish(
                    topics.command(feeder, command), orjson.dumps(payload), qos=1
                )
                self._watch()
                reply = _accepted(await replied)
                state = await self._state(feeder, reply["version"])
        except TimeoutError:
            raise Refusal(
                ErrorCode.NO_REPLY,
                f"no reply within {REPLY_TIMEOUT_S:g} s; ask again with request id {request_id}",
                [Detail(field="request_id", problem=request_id)],
            ) from None
        finally:
            del self._replies[request_id]
        return Executed(reply["message"], tuple(reply["buses"]), state)

    async def _state(self, feeder: str, version: int) -> HeldState:
        held = self.states.get(feeder)
        if held is not None and held.version >= version:
            return held
        future: asyncio.Future[HeldState] = self._loop.create_future()
        waiter = (version, future)
        waiting = self._waiting.setdefault(feeder, [])
        waiting.append(waiter)
        try:
            return await future
        finally:
            if waiter in waiting:
                waiting.remove(waiter)

    def _arrived(self, message: Message) -> None:
        self._take(message)
        # After those who waited for it: the broker has time, a caller has not.
        self._loop.call_soon(self._connection.acknowledge, message)

    def _take(self, message: Message) -> None:
        topic = message.topic
        if topic.endswith("/state"):
            self._take_state(topics.feeder_of(topic), message.payload)
        elif topic.startswith(self._reply_to):
            self._take_reply(message.payload)
        elif topic.endswith("/status"):
            self._take_status(topics.instance_of(topic), message.payload)
        elif topic.endswith("/topology"):
            self._take_topology(topics.feeder_of(topic), message.payload)

    def _take_state(self, feeder: str, body: bytes) -> None:
        version = version_of(body)
        if version is None or not self._may_keep(feeder, self.states):
            return
        held = self.states.get(feeder)
        if held is not None and version < held.version:
            return
        is_plausible = held is not None and version <= held.version + PLAUSIBLE_STEP
        if not is_plausible and not _is_state(feeder, body):
            return
        state = self.states[feeder] = HeldState(version, body)
        waiting = self._waiting.get(feeder)
        if waiting:
            self._waiting[feeder] = [w for w in waiting if w[0] > version]
            for wanted, future in waiting:
                if wanted <= version and not future.done():
                    future.set_result(state)

    def _may_keep(self, name: str, kept: Mapping[str, object]) -> bool:
        """Whatever anybody publishes, so much is kept and no more."""
        return name in kept or (topics.is_name(name) and len(kept) < MOST_KEPT)

    def _take_topology(self, feeder: str, payload: bytes) -> None:
        with contextlib.suppress(ValidationError):
            Topology.model_validate_json(payload)
            if self._may_keep(feeder, self.topologies):
                self.topologies[feeder] = payload

    def _take_reply(self, payload: bytes) -> None:
        try:
            reply = orjson.loads(payload)
            future = self._replies.get(reply["request_id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return
        if future is not None and not future.done():
            future.set_result(reply)

    def _take_status(self, instance: str, payload: bytes) -> None:
        if not payload:
            self._services.pop(instance, None)
            return
        try:
            status = ServiceStatus.model_validate_json(payload)
        except ValidationError:
            return
        if not self._may_keep(instance, self._services):
            return
        self._services[instance] = _Service(status.status == "online", time.monotonic())
        fence = status.figures.get("fence")
        if status.feeder is not None and fence is not None:
            self._drop_state_above(status.feeder, fence)

    def _drop_state_above(self, feeder: str, fence: float) -> None:
        """Forget a state that no solver can surpass: the store that counted it has been reset."""
        held = self.states.get(feeder)
        if held is not None and held.version >= (fence + 1) * VERSIONS_PER_FENCE:
            del self.states[feeder]

    def _watch(self) -> None:
        """Let the event loop watch the connection's socket as it is now."""
        number = self._connection.fileno()
        if number is None:
            return
        if self._watched is None:
            self._watched = number
            self._loop.add_reader(number, self._readable)
        wants_write = self._connection.wants_write
        if wants_write and not self._writing:
            self._loop.add_writer(number, self._writable)
        elif self._writing and not wants_write:
            self._loop.remove_writer(number)
        self._writing = wants_write
        if self._connection.has_pending:
            self._loop.call_soon(self._readable)

    def _closing(self, _sock: socket.socket) -> None:
        # While the socket still has its number: a moment later a caller's may bear it.
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            if self._writing:
                self._loop.remove_writer(self._watched)
            self._watched = None
            self._writing = False

    def _readable(self) -> None:
        self._connection.read(BUDGET)
        self._watch()

    def _writable(self) -> None:
        self._connection.write()
        self._watch()


def _accepted(reply: dict[str, Any]) -> dict[str, Any]:
    """The reply of a success.

    Raises:
        Refusal: as the service worded it.

    """
    if reply["status"] == "success":
        return reply
    raise Refusal(
        ErrorCode(reply["code"]),
        reply["message"],
        [Detail.model_validate(detail) for detail in reply["details"]],
    )


def _is_state(feeder: str, body: bytes) -> bool:
    """True if the whole of it reads as a state of that feeder."""
    try:
        state = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(state, dict) and state["feeder"] == feeder and "bus_details" in state
