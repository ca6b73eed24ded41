"""The owner loop: the one thread that holds the twin of a feeder and both connections.

A round of it: take what has arrived, let the demand accept or refuse each command, solve once,
publish the state, answer, and only then acknowledge. Commands are solved for at once; readings
alone wait for their turn, ``solve_hz`` times a second. Setpoints and alerts go out last.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from schemas import topics
from schemas.alerts import Alert, AlertEvent
from schemas.commands import SOLVER_COMMANDS, SolverCommand
from schemas.errors import Refusal
from schemas.programs import Adjustments
from schemas.state import VERSIONS_PER_FENCE
from services import requests
from services.bus import Connection, Message
from services.logs import Log, OncePerTopic
from services.outcomes import Done
from services.presence import Presence
from services.reactor import Reactor
from services.requests import Request
from services.solver import handlers
from services.solver.findings import Finding
from services.solver.intake import Intake
from services.solver.reports import Reports
from services.solver.twin import Cycle, Twin

REPUBLISH_S = 1.0
"""The state goes out at least this often, so that a lost message heals."""

LONGEST_WAIT_S = 0.1
"""How long the loop may sleep before it looks whether it is to stop."""

MOST_RETRIES = 3
"""Cycles that follow one that left a zone over its rating: they start nearer to its relief."""

LAPSE_S = 1.0
"""How often it is looked who has been above his setpoint for too long."""

SETPOINTS_AFTER_S = 0.01
"""How long setpoints wait for those who wait for an answer: both would want the same processors."""

SETPOINTS_A_ROUND = 16
"""Setpoints that go out before commands are looked at again."""

LARGEST_ADJUSTMENTS = 4 << 20
"""Bytes of adjustments that are still read."""

LONGEST_LEAP = 10**9
"""How far ahead a revision may be: one that nobody could surpass would end all programs."""

_ADJUSTMENTS = TypeAdapter(Adjustments)


class Owner:
    """Owns one feeder for as long as :meth:`run` runs.

    ``inbox`` is where the commands connection puts its messages.
    """

    def __init__(
        self,
        *,
        feeder: str,
        twin: Twin,
        intake: Intake,
        presence: Presence,
        commands: Connection,
        inbox: list[Message],
        reports: Callable[[Callable[[], bytes]], Reports],
        fence: int,
        solve_hz: float,
        log: Log,
    ) -> None:
        self._feeder = feeder
        self._twin = twin
        self._intake = intake
        self._presence = presence
        self._commands = commands
        self._inbox = inbox
        self._reports = reports(lambda: self._state)
        self._version = fence * VERSIONS_PER_FENCE
        self._solve_interval = 1.0 / solve_hz
        self._log = log
        self._readings_due = 0.0
        self._retries = 0
        self._lapse_due = 0.0
        self._setpoints_due = 0.0
        self._republish_due = 0.0
        self._state = b""
        self._cycle: Cycle | None = None
        """The newest cycle, until what it did is told."""
        self._converged = True
        self._figures = {
            "fence": float(fence),
            "solves": 0.0,
            "cycles": 0.0,
            "commands": 0.0,
            "commands_refused": 0.0,
            "cycle_ms": 0.0,
        }
        self._adjustments_topic = topics.adjustments(feeder)
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
            self._reports.close()

    def take_setpoint(self, message: Message) -> None:
        """What the broker has kept from before, and is not in force, is cleared."""
        if not message.retained or not message.payload:
            return
        in_force = self._twin.setpoints.in_force(topics.address_of(message.topic))
        if in_force is None or message.topic != topics.setpoint(self._feeder, *in_force):
            self._commands.clear(message.topic)

    def figures(self) -> dict[str, float]:
        """Counters since the start, for the heartbeat."""
        outcomes = {f"readings_{reason}": float(n) for reason, n in self._intake.outcomes.items()}
        return {**self._figures, **outcomes}

    def cycle(self) -> float:
        """Solve for everything as it is now and publish the state; returns the seconds taken."""
        started = time.perf_counter()
        now = time.time()
        self._version += 1
        waited = self._twin.setpoints.has_changes
        cycle = self._twin.cycle(self._version, now)
        self._state = cycle.state
        if not cycle.is_over:
            self._retries = 0
        self._publish()
        self._readings_due = time.monotonic() + self._solve_interval
        if not waited:
            self._setpoints_due = time.monotonic() + SETPOINTS_AFTER_S
        self._figures["cycles"] += 1
        self._figures["solves"] += cycle.solves
        self._cycle = cycle
        taken = time.perf_counter() - started
        self._figures["cycle_ms"] = round(1000 * taken, 3)
        if cycle.converged != self._converged:
            self._converged = cycle.converged
            log = self._log.info if self._converged else self._log.error
            log("converged_again" if self._converged else "not_converged", version=self._version)
        return taken

    def _wait(self) -> float:
        due = self._republish_due
        if self._twin.setpoints.has_changes:
            due = min(due, self._setpoints_due)
        if self._twin.demand.has_changed or self._retries:
            due = min(due, self._readings_due)
        return min(LONGEST_WAIT_S, max(0.0, due - time.monotonic()))

    def _round(self) -> None:
        now = time.monotonic()
        batch = self._inbox[:]
        self._inbox.clear()
        is_adjusted = False
        decided: list[tuple[Request[SolverCommand], Done | Refusal]] = []
        for message in batch:
            if message.topic == self._adjustments_topic:
                is_adjusted |= self._adjust(message)
            else:
                decided.append(self._decide(message))
        accepted = any(isinstance(outcome, Done) for _, outcome in decided)
        with self._commands.together():
            is_due = now >= self._readings_due
            if accepted or is_adjusted or (is_due and self._twin.demand.has_changed):
                self._retries = MOST_RETRIES
                self.cycle()
            elif is_due and self._retries:
                self._retries -= 1
                self.cycle()
            elif now >= self._republish_due:
                self._publish()
            for request, outcome in decided:
                requests.reply(self._commands, request, outcome, self._version)
            for message in batch:
                self._commands.acknowledge(message)
        if now >= self._lapse_due:
            self._lapse_due = now + LAPSE_S
            self._twin.demand.lapse(time.time())
        self._tell(decided, now)
        self._presence.beat(self._commands, now, self.figures)

    def _decide(self, message: Message) -> tuple[Request[SolverCommand], Done | Refusal]:
        request = requests.read(message, SOLVER_COMMANDS)
        self._figures["commands"] += 1
        try:
            if isinstance(request.command, Refusal):
                raise request.command
            requests.check_deadline(request.command, datetime.now(UTC))
            handlers.check(request.command, self._feeder)
            return request, handlers.handle(request.command, self._twin.demand)
        except Refusal as refusal:
            self._figures["commands_refused"] += 1
            self._refusals.warn(message.topic, f"{refusal.code}: {refusal.message}")
            return request, refusal

    def _adjust(self, message: Message) -> bool:
        """Put adjustments in force; False where they are not to be read, or change nothing."""
        if not message.payload:
            return False
        if len(message.payload) > LARGEST_ADJUSTMENTS:
            self._refusals.warn(message.topic, f"{len(message.payload)} bytes")
            return False
        try:
            adjustments = _ADJUSTMENTS.validate_json(message.payload)
        except ValidationError as error:
            self._refusals.warn(message.topic, Refusal.of_validation(error).message)
            return False
        if adjustments.revision > self._twin.revision + LONGEST_LEAP:
            self._refusals.warn(message.topic, f"revision {adjustments.revision} is a leap")
            return False
        return self._twin.adjust(adjustments)

    def _publish(self) -> None:
        self._commands.retain(topics.state(self._feeder), self._state, version=self._version)
        self._republish_due = time.monotonic() + REPUBLISH_S

    def _tell(
        self, decided: list[tuple[Request[SolverCommand], Done | Refusal]], now: float
    ) -> None:
        """Everything that nobody waits for: setpoints, alerts, files."""
        is_due = now >= self._setpoints_due
        for change in self._twin.setpoints.take_changes(SETPOINTS_A_ROUND) if is_due else ():
            topic = topics.setpoint(self._feeder, change.bus, change.element)
            if change.setpoint is None:
                self._commands.clear(topic)
            else:
                self._commands.retain(topic, change.setpoint.model_dump_json().encode(), qos=1)
        at = time.time()
        for _, outcome in decided:
            if isinstance(outcome, Done):
                self._reports.done(outcome.message, at)
        if self._cycle is not None:
            self._reports.relief(self._cycle.relieved, self._cycle.actions, at)
            self._cycle = None
        if events := self._twin.take_alerts(now):
            self._reports.alerts(events, at)
            for event, finding in events:
                self._alert(event, finding, at)
        self._reports.beat(now)

    def _alert(self, event: AlertEvent, finding: Finding, at: float) -> None:
        alert = Alert(
            feeder=self._feeder,
            kind=finding.kind,
            event=event,
            subject=finding.subject,
            at=datetime.fromtimestamp(at, UTC),
            version=self._version,
            message=finding.message,
            value=finding.value,
            limit=finding.limit,
        )
        self._commands.publish(topics.alert(self._feeder), alert.model_dump_json().encode(), qos=1)
