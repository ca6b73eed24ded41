"""Between the gateway and the broker: states and events in, commands out, replies awaited."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson

from schemas import topics
from schemas.errors import Detail, ErrorCode, Refusal
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.gateway.driver import Driver
from services.gateway.figures import Figures, Sight
from services.gateway.newest import HeldState, Newest
from services.gateway.replies import Expected, Replies
from services.gateway.roster import Roster
from services.gateway.seen import SEEN, Seen
from services.logs import Log
from services.metrics import TELL_S
from services.presence import HEARTBEAT_S, Presence

REPLY_TIMEOUT_S = 5.0
"""How long a caller waits for a service before it is told to ask again."""

MANAGER = "dfp_manager"
"""The program manager's instance."""


class Listener(Protocol):
    """Whoever wants to hear of everything that happens on the feeders."""

    @property
    def count(self) -> int:
        """For how many it listens."""

    def on_state(self, feeder: str, state: HeldState) -> None:
        """A state that is newer than the last."""

    def on_event(self, feeder: str, kind: str, payload: bytes) -> None:
        """What was published as the feeder's ``alert`` or ``program`` event, by anybody."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An accepted command: what the service says of it, and a state that contains it where the
    reply named one.
    """

    message: str
    buses: tuple[str, ...]
    results: Any
    state: HeldState | None


@dataclass(slots=True)
class _Question:
    """A command that waits for its reply, and to whom it went."""

    instance: str
    topic: str
    body: Mapping[str, Any]
    issued_at: datetime
    expected: Expected
    there_on: int = 0
    """On which connection its service had been heard when the newest copy went out."""
    put_at: float = 0.0

    def encoded(self) -> bytes:
        return orjson.dumps(
            {
                **self.body,
                "request_id": self.expected.request_id,
                "issued_at": self.issued_at,
                "deadline": self.issued_at + timedelta(seconds=REPLY_TIMEOUT_S),
                "reply_to": self.expected.topic,
            }
        )


class Bridge:
    """One plain client of the broker: random id, clean start, nothing to lose.

    What a broker takes into its grave is said again: a command without a reply is sent once more,
    under the same request id, when this and the service are back.

    ``figures`` are its own where nobody else has any to add.
    """

    def __init__(
        self,
        address: BrokerAddress,
        default_feeder: str,
        listener: Listener,
        log: Log,
        figures: Figures | None = None,
    ) -> None:
        self.default_feeder = default_feeder
        self.newest = Newest(listener.on_state)
        self.services = Roster()
        self.figures = figures or Figures()
        self._tell_due = 0.0
        self._awaited = 0
        self._heard_at: dict[str, float] = {}
        """When a state of each feeder was last kept, in monotonic seconds."""
        self._listener = listener
        self.instance = instance = f"gateway-{uuid.uuid4().hex[:12]}"
        self._presence = Presence("gateway", instance, transient=True)
        self._replies = Replies(topics.reply(instance))
        self._questions: dict[str, _Question] = {}
        """Those without a reply, by request id."""
        self._there_on: dict[str, int] = {}
        """On which connection each service was last heard to be there. What went out on a later one
        may have found nobody.
        """
        self._connection = Connection(
            address,
            instance,
            log=log,
            on_message=self._arrived,
            subscriptions=[
                Subscription(topics.every_service_status(), qos=1),
                Subscription(topics.every_topology(), qos=1),
                Subscription(topics.every_alert(), qos=1),
                Subscription(topics.every_program_event(), qos=1),
                Subscription(topics.every_state(), qos=0),
                Subscription(topics.replies(instance), qos=1),
            ],
            will=self._presence.will,
        )
        self._driver = Driver(self._connection)

    async def run(self) -> None:
        """Keep the connection alive until cancelled."""
        self._loop = asyncio.get_running_loop()
        await self._driver.run(
            self._beat,
            lambda: self._presence.farewell(self._connection),
        )

    def _beat(self, now: float) -> None:
        self._presence.beat(self._connection, now)
        self.figures.pulse.beat("" if self.broker_connected else "the broker is not connected")
        if now >= self._tell_due:
            self._tell_due = now + TELL_S
            self.look(now)

    def look(self, now: float) -> None:
        """Have the figures tell how things stand; ``now`` in monotonic seconds."""
        kept = self.newest.states
        self._heard_at = {feeder: at for feeder, at in self._heard_at.items() if feeder in kept}
        sight = Sight(
            readers=self._listener.count,
            replies_awaited=self._awaited,
            is_connected=self.broker_connected,
            connects=self._connection.connects,
            dropped=self._connection.dropped,
            state_age_s={feeder: now - at for feeder, at in self._heard_at.items()},
        )
        self.figures.look(sight)

    @property
    def broker_connected(self) -> bool:
        return self._connection.connected

    def knows(self, feeder: str) -> bool:
        """True for the default feeder and any whose solver has ever been heard of."""
        return (
            feeder == self.default_feeder
            or feeder in self.newest.states
            or f"solver-{feeder}" in self.services
        )

    async def execute(
        self, feeder: str, command: str, body: Mapping[str, Any], request_id: str | None = None
    ) -> Outcome:
        """Have the feeder's solver carry out a command; the outcome has a state that contains it.
        Without a request id it is given a new one.

        Raises:
            Refusal: from the solver; or 503 where nothing was published, 504 where no answer came,
                409 where a request of the same id is under way here.

        """
        instance = f"solver-{feeder}"
        self._require(instance, "solver", f"the solver of {feeder!r}")
        return await self._ask(instance, topics.command(feeder, command), feeder, body, request_id)

    async def manage(
        self, feeder: str, command: str, body: Mapping[str, Any], request_id: str | None = None
    ) -> Outcome:
        """Have the program manager carry out a command for a feeder. Without a request id it is
        given a new one.

        Raises:
            Refusal: from the manager; or 503 where nothing was published, 504 where no answer came,
                409 where a request of the same id is under way here.

        """
        self._require(MANAGER, MANAGER, "the program manager")
        meant = {**body, "feeder": feeder}
        return await self._ask(MANAGER, topics.dfp_command(command), feeder, meant, request_id)

    def _require(self, instance: str, field: str, service: str) -> None:
        if not self.broker_connected:
            raise Refusal.of_field(
                ErrorCode.SERVICE_UNAVAILABLE, "broker", "not connected; nothing was changed"
            )
        if not self.services.is_online(instance):
            raise Refusal.of_field(
                ErrorCode.SERVICE_UNAVAILABLE, field, f"{service} is away; nothing was changed"
            )

    async def _ask(
        self,
        instance: str,
        topic: str,
        feeder: str,
        body: Mapping[str, Any],
        request_id: str | None,
    ) -> Outcome:
        seen = SEEN.get() or Seen()
        seen.request_id = request_id = request_id or uuid.uuid4().hex
        self._awaited += 1
        try:
            with self._replies.expect(request_id) as expected:
                meant = (
                    body if seen.traceparent is None else {**body, "traceparent": seen.traceparent}
                )
                question = _Question(instance, topic, meant, datetime.now(UTC), expected)
                async with asyncio.timeout(REPLY_TIMEOUT_S):
                    reply = _accepted(await self._replied(question))
                    version = reply.get("version")
                    state = None if version is None else await self.newest.reached(feeder, version)
                    seen.version = None if state is None else state.version
        except TimeoutError:
            reason = f"no reply within {REPLY_TIMEOUT_S:g} s"
            raise _ask_again(Refusal(ErrorCode.NO_REPLY, reason), request_id) from None
        except Refusal as refusal:
            if refusal.code is ErrorCode.NO_REPLY:
                raise _ask_again(refusal, request_id) from None
            raise
        finally:
            self._awaited -= 1
        buses = tuple(reply.get("buses", ()))
        return Outcome(reply["message"], buses, reply.get("results"), state)

    async def _replied(self, question: _Question) -> dict[str, Any]:
        request_id = question.expected.request_id
        self._questions[request_id] = question
        try:
            self._put(question)
            self._driver.watch()
            return await question.expected.reply
        finally:
            del self._questions[request_id]

    def _put(self, question: _Question) -> None:
        question.there_on = self._there_on.get(question.instance, 0)
        question.put_at = time.monotonic()
        self._connection.publish(question.topic, question.encoded(), qos=1)

    def _is_back(self, instance: str) -> None:
        """A service says that it is there: put to it again what another connection may have lost,
        and what it was about to answer there.
        """
        here = self._there_on[instance] = self._connection.connects
        long_ago = time.monotonic() - HEARTBEAT_S / 2  # anybody may say it, as often as he likes
        for question in self._questions.values():
            is_lost = question.there_on != here
            is_open = question.expected.is_open and question.put_at < long_ago
            if question.instance == instance and (is_lost or is_open):
                self._replies.repeat(question.expected)
                self._put(question)

    def _arrived(self, message: Message) -> None:
        self._take(message)
        # After those who waited for it: the broker has time, a caller has not.
        self._loop.call_soon(self._connection.acknowledge, message)

    def _take(self, message: Message) -> None:
        topic = message.topic
        if self._replies.take(topic, message.payload):
            return
        kind = topic.rpartition("/")[2]
        if kind == "state":
            feeder = topics.feeder_of(topic)
            before = self.newest.states.get(feeder)
            self.newest.take_state(feeder, message.payload)
            # Anything may come on a state's topic; what is said again is kept anew.
            if self.newest.states.get(feeder) is not before:
                self._heard_at[feeder] = time.monotonic()
        elif kind == "status":
            self._take_status(topics.instance_of(topic), message.payload)
        elif kind == "topology":
            self.newest.take_topology(topics.feeder_of(topic), message.payload)
        else:
            self._listener.on_event(topics.feeder_of(topic), kind, message.payload)

    def _take_status(self, instance: str, payload: bytes) -> None:
        status = self.services.take(instance, payload)
        fence = status.figures.get("fence") if status else None
        if status is not None and status.feeder is not None and fence is not None:
            self.newest.drop_above(status.feeder, fence)
        if status is not None and status.status == "online":
            self._is_back(instance)


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


def _ask_again(refusal: Refusal, request_id: str) -> Refusal:
    """What says of a request that went unanswered how to ask for what became of it."""
    return Refusal(
        refusal.code,
        f"{refusal.message}; ask again with request id {request_id}",
        [*refusal.details, Detail(field="request_id", problem=request_id)],
    )
