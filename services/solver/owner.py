"""The owner loop: the one thread that holds the engine, the demand and both connections.

A round of it: take what has arrived, let the demand accept or refuse each command, solve once,
publish the state, answer, and only then acknowledge. Commands are solved for at once; readings
alone wait for their turn, ``solve_hz`` times a second.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from schemas import topics
from schemas.errors import ErrorCode, Refusal
from schemas.state import VERSIONS_PER_FENCE
from services.bus import Connection, Message
from services.logs import Log, OncePerTopic
from services.presence import Presence
from services.reactor import Reactor
from services.solver import handlers
from services.solver.demand import Demand
from services.solver.document import Stamp, StateDocument
from services.solver.engine import Engine
from services.solver.intake import Intake

REPUBLISH_S = 1.0
"""The state goes out at least this often, so that a lost message heals."""

LONGEST_WAIT_S = 0.1
"""How long the loop may sleep before it looks whether it is to stop."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to, and where its sender wants to hear of it."""

    message: Message
    request_id: str | None
    reply_topic: str | None
    outcome: handlers.Done | Refusal


class Owner:
    """Owns one feeder for as long as :meth:`run` runs.

    ``inbox`` is where the commands connection puts its messages.
    """

    def __init__(
        self,
        *,
        feeder: str,
        engine: Engine,
        demand: Demand,
        document: StateDocument,
        intake: Intake,
        presence: Presence,
        commands: Connection,
        inbox: list[Message],
        fence: int,
        solve_hz: float,
        log: Log,
    ) -> None:
        self._feeder = feeder
        self._engine = engine
        self._demand = demand
        self._document = document
        self._intake = intake
        self._presence = presence
        self._commands = commands
        self._inbox = inbox
        self._version = fence * VERSIONS_PER_FENCE
        self._solve_interval = 1.0 / solve_hz
        self._log = log
        self._readings_due = 0.0
        self._republish_due = 0.0
        self._state = b""
        self._converged = True
        self._figures = {
            "fence": float(fence),
            "solves": 0.0,
            "commands": 0.0,
            "commands_refused": 0.0,
            "cycle_ms": 0.0,
        }
        self._refusals = OncePerTopic(log, "command_refused")

    def run(self, readings: Connection, stopping: Callable[[], bool]) -> None:
        """Serve until ``stopping``; the first state is solved before anything is connected."""
        commands = self._commands
        reactor = Reactor(commands, readings)
        self.cycle()
        try:
            while not stopping():
                reactor.poll(self._wait())
                self._round()
        finally:
            readings.close()
            commands.close(lambda: self._presence.farewell(commands))
            reactor.close()

    def _wait(self) -> float:
        due = self._republish_due
        if self._demand.has_changed:
            due = min(due, self._readings_due)
        return min(LONGEST_WAIT_S, max(0.0, due - time.monotonic()))

    def _round(self) -> None:
        now = time.monotonic()
        batch = self._inbox[:]
        self._inbox.clear()
        answers = [self._decide(message) for message in batch]
        accepted = any(isinstance(answer.outcome, handlers.Done) for answer in answers)
        with self._commands.together():
            if accepted or (self._demand.has_changed and now >= self._readings_due):
                self.cycle()
            elif now >= self._republish_due:
                self._publish()
            for answer in answers:
                self._reply(answer)
                self._commands.acknowledge(answer.message)
        self._presence.beat(self._commands, now, self.figures)

    def figures(self) -> dict[str, float]:
        """Counters since the start, for the heartbeat."""
        outcomes = {f"readings_{reason}": float(n) for reason, n in self._intake.outcomes.items()}
        return {**self._figures, **outcomes}

    def _decide(self, message: Message) -> Answer:
        request_id: str | None = None
        reply_topic = message.response_topic
        try:
            command = handlers.decode(message.topic, message.payload)
            request_id = command.request_id
            reply_topic = _reply_topic(message.response_topic, command.reply_to)
            handlers.check(command, self._feeder, datetime.now(UTC))
            outcome: handlers.Done | Refusal = handlers.handle(command, self._demand)
        except Refusal as refusal:
            outcome = refusal
            self._figures["commands_refused"] += 1
            if request_id is None:
                request_id, reply_to = handlers.salvage(message.payload)
                reply_topic = reply_topic or reply_to
            self._refusals.warn(message.topic, f"{refusal.code}: {refusal.message}")
        self._figures["commands"] += 1
        return Answer(message, request_id, reply_topic, outcome)

    def cycle(self) -> float:
        """Solve for the demand as it is now and publish the state; returns the seconds taken."""
        started = time.perf_counter()
        changed = self._demand.take_changed()
        self._engine.set_loads(changed)
        self._document.set_demand(changed)
        solution = self._engine.solve()
        self._version += 1
        stamp = Stamp(self._version, time.time(), self._demand.oldest_reading_at())
        self._state = self._document.update(solution, stamp)
        self._publish()
        self._readings_due = time.monotonic() + self._solve_interval
        self._figures["solves"] += 1
        taken = time.perf_counter() - started
        self._figures["cycle_ms"] = round(1000 * taken, 3)
        if solution.converged != self._converged:
            self._converged = solution.converged
            log = self._log.info if self._converged else self._log.error
            log("converged_again" if self._converged else "not_converged", version=self._version)
        return taken

    def _publish(self) -> None:
        self._commands.retain(topics.state(self._feeder), self._state, version=self._version)
        self._republish_due = time.monotonic() + REPUBLISH_S

    def _reply(self, answer: Answer) -> None:
        if answer.reply_topic is None or not topics.is_reply(answer.reply_topic):
            return
        self._commands.publish(
            answer.reply_topic,
            _encoded(answer, self._version),
            qos=1,
            correlation=answer.message.correlation,
        )


def _reply_topic(response_topic: str | None, reply_to: str | None) -> str | None:
    """Where to answer: the response topic of MQTT 5, or ``reply_to`` from the payload.

    Raises:
        Refusal: where they differ, or one is no reply topic: nobody is answered elsewhere.

    """
    wanted = response_topic or reply_to
    if response_topic and reply_to and response_topic != reply_to:
        raise Refusal.of_field(
            ErrorCode.REPLY_TOPIC_REFUSED, "reply_to", "it differs from the response topic"
        )
    if wanted is not None and not topics.is_reply(wanted):
        field = "reply_to" if reply_to else "response_topic"
        raise Refusal.of_field(
            ErrorCode.REPLY_TOPIC_REFUSED, field, "answers go to flexfeeder/reply/{client}/... only"
        )
    return wanted


def _encoded(answer: Answer, version: int) -> bytes:
    """The reply by the contract of ``schemas.replies``, without building its model."""
    outcome = answer.outcome
    if isinstance(outcome, handlers.Done):
        return orjson.dumps(
            {
                "request_id": answer.request_id,
                "status": "success",
                "message": outcome.message,
                "version": version,
                "buses": outcome.buses,
            }
        )
    return orjson.dumps(
        {
            "request_id": answer.request_id,
            "status": "error",
            "code": outcome.code,
            "message": outcome.message,
            "details": [detail.model_dump() for detail in outcome.details],
        }
    )
