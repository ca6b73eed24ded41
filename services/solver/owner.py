"""The owner loop: the one thread that holds the twin of a feeder and both connections.

A round of it: take what has arrived, let the demand accept or refuse each command, write the
journal, solve once, publish the state, answer, and only then acknowledge. Commands are solved for
at once; readings alone wait for their turn, ``solve_hz`` times a second. Setpoints and alerts go
out last.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from pydantic import TypeAdapter, ValidationError

from schemas import topics
from schemas.errors import Refusal
from schemas.programs import Adjustments
from schemas.replies import ServiceStatus
from schemas.state import VERSIONS_PER_FENCE
from services import requests
from services.acks import InOrder
from services.bus import Connection, Message
from services.inbox import Arrived, Inbox
from services.logs import Log, OncePerTopic
from services.presence import Presence
from services.reactor import Reactor
from services.solver.custody import Custody, LeaseLost
from services.solver.desk import Decision, Desk
from services.solver.herald import Herald
from services.solver.intake import Intake
from services.solver.ledger import Ledger
from services.solver.telling import Telling
from services.solver.twin import Cycle, Twin
from services.solver.watchdog import Watchdog
from services.stopwatch import Interval

REPUBLISH_S = 1.0
"""The state goes out at least this often, so that a lost message heals."""

LONGEST_WAIT_S = 0.1
"""How long the loop may sleep before it looks whether it is to stop."""

MOST_RETRIES = 3
"""Cycles that follow one that left a zone over its rating: they start nearer to its relief."""

LAPSE_S = 1.0
"""How often it is looked who has been above his setpoint for too long."""

LARGEST_ADJUSTMENTS = 4 << 20
"""Bytes of adjustments that are still read."""

LONGEST_LEAP = 10**9
"""How far ahead a revision may be: one that nobody could surpass would end all programs."""

_ADJUSTMENTS = TypeAdapter(Adjustments)


class Broken(Exception):
    """A command met an error of ours. What it left behind goes with the process; the next one
    starts from the journal.
    """


class Owner:
    """Owns one feeder for as long as :meth:`run` runs.

    ``inbox`` is where the commands connection puts its messages; ``telling`` hears what is done.
    """

    def __init__(
        self,
        *,
        feeder: str,
        twin: Twin,
        desk: Desk,
        custody: Custody,
        intake: Intake,
        herald: Callable[[Callable[[], bytes]], Herald],
        presence: Presence,
        commands: Connection,
        inbox: Inbox,
        telling: Telling,
        fence: int,
        solve_hz: float,
        log: Log,
    ) -> None:
        self._twin = twin
        self._desk = desk
        self._custody = custody
        self._ledger = Ledger(desk, custody, twin.demand)
        self._intake = intake
        self.herald = herald(lambda: self._state)
        self._presence = presence
        self._commands = commands
        self._inbox = inbox
        self._telling = telling
        self._acks = InOrder(commands.acknowledge)
        self._watchdog = Watchdog()
        self._version = fence * VERSIONS_PER_FENCE
        self._solve_interval = 1.0 / solve_hz
        self._log = log
        self._readings_due = 0.0
        self._retries = 0
        self._lapse_due = 0.0
        self._republish_due = 0.0
        self._state = b""
        self._cycle: Cycle | None = None
        """The newest cycle, until what it did is told."""
        self._converged = True
        self._is_announced = False
        """Nobody is told that the feeder is served before its readings are heard."""
        self._figures = {
            "fence": float(fence),
            "solves": 0.0,
            "cycles": 0.0,
            "commands": 0.0,
            "commands_refused": 0.0,
            "cycle_ms": 0.0,
        }
        self._state_topic = topics.state(feeder)
        self._adjustments_topic = topics.adjustments(feeder)
        self._refusals = OncePerTopic(log, "adjustments_refused")

    def run(self, readings: Connection, stopping: Callable[[], bool]) -> None:
        """Serve until ``stopping``; the first state is there before anything is connected.

        Raises:
            LeaseLost: when somebody else owns the feeder.
            Broken: when a command met an error of ours; it has its answer.

        """
        commands = self._commands
        reactor = Reactor(commands, readings)
        farewell: Callable[[], None] = partial(self._presence.farewell, commands)
        try:
            while not stopping():
                now = time.monotonic()
                self._watchdog.arm(now)
                self._telling.came_round(now, self._version)
                settled = self._custody.beat(time.monotonic())
                reactor.poll(self._wait())
                self._is_announced = self._is_announced or readings.subscribed
                self._round(settled)
        except LeaseLost:
            farewell = _nothing  # the next owner bears the same name, and is online
            raise
        finally:
            readings.close()
            commands.close(farewell)
            reactor.close()
            self.herald.close()
            self._watchdog.disarm()

    def take_status(self, message: Message) -> None:
        """Somebody who bears our name says that he is online.

        Raises:
            LeaseLost: with a higher fencing number, while the store cannot tell who is right.

        """
        with suppress(ValidationError):
            status = ServiceStatus.model_validate_json(message.payload)
            if status.figures.get("fence", 0.0) > self._figures["fence"]:
                self._custody.is_doubted()

    def figures(self) -> dict[str, float]:
        """Counters since the start, for the heartbeat."""
        outcomes = {f"readings_{reason}": float(n) for reason, n in self._intake.outcomes.items()}
        return {
            **self._figures,
            **self._custody.figures,
            "commands": float(self._desk.commands),
            "commands_refused": float(self._desk.refused),
            "messages_dropped": float(self._commands.dropped),
            "rebuilds": float(self._twin.rebuilds),
            "store_away": float(not self._custody.is_writable),
            **outcomes,
        }

    def cycle(self, cause: Sequence[str] = ()) -> float:
        """Solve for everything as it is now and publish the state; returns the seconds taken.

        ``cause`` is what commands have changed since the last one.
        """
        started = time.perf_counter()
        self._version += 1
        waited = self._twin.setpoints.has_changes
        cycle = self._twin.cycle(self._version, time.time(), cause)
        self._state = cycle.state
        if not cycle.is_over:
            self._retries = 0
        self._publish()
        self._readings_due = time.monotonic() + self._solve_interval
        if not waited:
            self.herald.postpone()
        self._figures["cycles"] += 1
        self._figures["solves"] += cycle.solves
        self._cycle = cycle
        ended = time.perf_counter()
        self._telling.cycled(cycle, Interval(started, ended))
        taken = ended - started
        self._figures["cycle_ms"] = round(1000 * taken, 3)
        if cycle.converged != self._converged:
            self._converged = cycle.converged
            log = self._log.info if self._converged else self._log.error
            log("converged_again" if self._converged else "not_converged", version=self._version)
        return taken

    def _wait(self) -> float:
        due = min(self._republish_due, self.herald.due, self._custody.due)
        if self._twin.demand.has_changed or self._retries:
            due = min(due, self._readings_due)
        return min(LONGEST_WAIT_S, max(0.0, due - time.monotonic()))

    def _round(self, settled: bool | None) -> None:
        """``settled`` says what became of a batch of unknown fate, once that is known."""
        now, began = time.monotonic(), time.perf_counter()
        arrived = self._inbox.take()
        batch = [each.message for each in arrived]
        self._telling.took(len(batch))
        decided = self._ledger.settle(is_written=settled) if settled is not None else []
        new, adjustments = self._take(arrived)
        if not all(decision.is_told_apart for decision in new):
            # What the broker would bring again cannot be told from a second command like it: it
            # is not to come again once it is written.
            self._acknowledge([decision.request.message for decision in decided])
            self._acknowledge(batch)
        decided += self._ledger.keep(new, adjustments)
        decided += self._ledger.give_up(now)
        adjusted = [self._twin.adjust(each) for each in adjustments]
        done = [d.outcome.message for d in decided if d.takes_effect]
        with self._commands.together():
            self._solve_if_due(now, done, is_adjusted=any(adjusted))
            for decision in decided:
                requests.reply(self._commands, decision.request, decision.outcome, self._version)
            self._acknowledge([decision.request.message for decision in decided])
            self._acknowledge([each for each in batch if each.topic == self._adjustments_topic])
        self._telling.answered(decided, began, self._version)
        if now >= self._lapse_due:
            self._lapse_due = now + LAPSE_S
            self._twin.demand.lapse(time.time())
        self.herald.tell(done, self._cycle, self._version, now)
        self._cycle = None
        self._custody.solved()
        if self._is_announced:
            self._presence.beat(self._commands, now, self.figures)
        if self._desk.is_broken:
            raise Broken

    def _acknowledge(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._acks.done(message)

    def _solve_if_due(self, now: float, done: Sequence[str], *, is_adjusted: bool) -> None:
        is_due = now >= self._readings_due
        if self._twin.demand.has_changed:
            self._custody.has_news()
        if done or is_adjusted or (is_due and self._twin.demand.has_changed):
            self._retries = MOST_RETRIES
            self.cycle(done)
        elif is_due and self._retries:
            self._retries -= 1
            self.cycle()
        elif now >= self._republish_due:
            self._publish()

    def _take(self, batch: Sequence[Arrived]) -> tuple[list[Decision], list[Adjustments]]:
        """Decide what has arrived: commands, and adjustments that are newer than those in force."""
        now = datetime.now(UTC)
        decided: list[Decision] = []
        adjustments: list[Adjustments] = []
        in_progress = self._ledger.in_progress
        for message, at in batch:
            self._acks.arrived(message)
            if self._ledger.adopt(message):
                continue
            if message.topic != self._adjustments_topic:
                decided.append(
                    self._desk.decide(
                        message,
                        now,
                        may_write=self._custody.is_writable,
                        in_progress=in_progress,
                        arrived_at=at,
                    )
                )
            elif (read := self._read_adjustments(message)) is not None:
                adjustments.append(read)
        return decided, adjustments

    def _read_adjustments(self, message: Message) -> Adjustments | None:
        """Adjustments that are to be put in force; None where they are not to be read, or no
        newer than what is.
        """
        if not message.payload:
            return None
        if len(message.payload) > LARGEST_ADJUSTMENTS:
            self._refusals.warn(message.topic, f"{len(message.payload)} bytes")
            return None
        try:
            adjustments = _ADJUSTMENTS.validate_json(message.payload)
        except ValidationError as error:
            self._refusals.warn(message.topic, Refusal.of_validation(error).message)
            return None
        if adjustments.revision > self._twin.revision + LONGEST_LEAP:
            self._refusals.warn(message.topic, f"revision {adjustments.revision} is a leap")
            return None
        return adjustments if adjustments.revision > self._twin.revision else None

    def _publish(self) -> None:
        self._commands.retain(self._state_topic, self._state, version=self._version)
        self._republish_due = time.monotonic() + REPUBLISH_S


def _nothing() -> None:
    pass
