"""What the manager tells of itself to whoever runs it: figures, a line for each command, traces."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import Histogram

from schemas import topics
from schemas.commands import MANAGER_COMMANDS, ManagerCommand
from schemas.errors import Refusal
from schemas.programs import Program
from schemas.wire import canonical
from services import requests
from services.bus import Connection
from services.dfp_manager.feeders import Feeders
from services.dfp_manager.jobs import Waiting
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.registry import Registry
from services.dfp_manager.store_watch import StoreWatch
from services.logs import Log
from services.metrics import (
    FAST_S,
    LONGEST_COMMAND,
    TELL_S,
    CommandMetrics,
    Pulse,
    Snapshot,
    Sourced,
    Value,
    new_registry,
    seen_in,
)
from services.outcomes import Outcome
from services.ration import LINES_A_SECOND, Ration
from services.requests import Request
from services.stopwatch import Interval, Stopwatch
from services.tracing import Attributes, Tracing

_PARTS = frozenset({"store", "solver"})
"""What a command may wait for: the phases of it that are told."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the manager's figures are taken from. Only its own thread looks there."""

    registry: Registry
    store: StoreWatch
    feeders: Feeders
    waiting: Waiting
    commands: Connection
    states: Connection


class Telling:
    """Tells of one manager; ``feeder`` is the default one."""

    def __init__(self, feeder: str, log: Log, tracing: Tracing | None = None) -> None:
        self.pulse = Pulse()
        self.registry = registry = new_registry()
        self._feeder = feeder
        self._log = log.bind()
        self._tracing = tracing
        self._due = 0.0
        self._answered: list[_Answered] = []
        self._rubbish = Ration(LINES_A_SECOND)
        self._snapshot = Snapshot(FIGURES, {})
        registry.register(self._snapshot)
        self._commands = CommandMetrics("dfp_manager", list(MANAGER_COMMANDS), registry)
        self._store_s = Histogram(
            "flexfeeder_dfp_manager_store_seconds",
            "Seconds that a look at the store takes, or a change of what it holds.",
            buckets=FAST_S,
            registry=registry,
        )

    def store_took(self, seconds: float) -> None:
        """The store was asked, and has answered or not."""
        self._store_s.observe(seconds)

    def came_round(self, now: float, sight: Sight) -> None:
        """The manager's loop has come round; ``now`` in monotonic seconds."""
        self.pulse.beat("" if sight.commands.connected else "the broker is not connected")
        for each in self._answered:
            self._tell(each)
        self._answered.clear()
        if now >= self._due:
            self._due = now + TELL_S
            self._snapshot.tell(seen_in(_look(sight), FIGURES))

    def answered(
        self, request: Request[ManagerCommand], outcome: Outcome, version: int | None
    ) -> None:
        """A command has its answer; more is said of it when its sender is not held up by that."""
        self._answered.append(_Answered(request, outcome, version, time.perf_counter()))

    def _tell(self, answered: "_Answered") -> None:
        request, outcome, version, now = answered
        command = topics.command_of(request.message.topic)
        code = requests.outcome_of(outcome)
        whole = Interval(request.stopwatch.arrived_at, now)
        phases = request.stopwatch.read(now)
        feeder = self._feeder_of(request)
        self._commands.answered(command, code, whole.seconds)
        if not isinstance(request.command, Refusal) or self._rubbish.allows():
            self._log.info(
                "command",
                command=command[:LONGEST_COMMAND],
                request_id=request.request_id,
                feeder=feeder,
                outcome=code,
                version=version,
                waited_ms=phases[Stopwatch.WAITED].ms,
                store_ms=phases["store"].ms if "store" in phases else 0.0,
                solver_ms=phases["solver"].ms if "solver" in phases else 0.0,
                total_ms=whole.ms,
                **requests.refusal_told(request.message.topic, outcome),
                **({"suppressed": left_out} if (left_out := self._rubbish.left_out()) else {}),
            )
        if self._tracing is not None:
            attributes: Attributes = {
                "flexfeeder.request_id": request.request_id or "",
                "flexfeeder.feeder": feeder,
                "flexfeeder.command": command[:LONGEST_COMMAND],
                "flexfeeder.outcome": code,
                **({"flexfeeder.version": version} if version is not None else {}),
            }
            parts = {name: taken for name, taken in phases.items() if name in _PARTS}
            traceparent = requests.traceparent_of(request)
            name = command if command in MANAGER_COMMANDS else "unknown command"
            self._tracing.record(name, traceparent, whole, attributes, parts)

    def _feeder_of(self, request: Request[ManagerCommand]) -> str:
        command = request.command
        named = None if isinstance(command, Refusal) else command.feeder
        return canonical(named or self._feeder)


class _Answered(NamedTuple):
    request: Request[ManagerCommand]
    outcome: Outcome
    version: int | None
    at: float


@dataclass(frozen=True, slots=True)
class _Look:
    """What there is to be seen at one moment, and the programs that are held, by feeder."""

    sight: Sight
    held: dict[str, FeederPrograms]


def _look(sight: Sight) -> _Look:
    served = sorted({sight.feeders.default, *sight.registry.feeders})
    return _Look(sight, {feeder: sight.registry.programs(feeder) for feeder in served})


def _by_feeder(of: Callable[[FeederPrograms], float]) -> Callable[[_Look], Value]:
    return lambda look: {name: float(of(each)) for name, each in look.held.items()}


def _shed_kw(program: Program) -> float:
    """What its execution took off the feeder when it began; 0 where it does not execute, or that
    was not seen.
    """
    if not program.executing or not program.executions:
        return 0.0
    return program.executions[-1].total_shed_kw or 0.0


FIGURES: tuple[Sourced[_Look], ...] = (
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_programs",
        "Programs that are registered.",
        "feeder",
        read=_by_feeder(lambda programs: len(programs.by_number)),
    ),
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_executing",
        "Programs that execute.",
        "feeder",
        read=_by_feeder(lambda programs: programs.executing),
    ),
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_revision",
        "Revision of the adjustments that are to be in force.",
        "feeder",
        read=_by_feeder(lambda programs: programs.revision),
    ),
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_applied_revision",
        "Revision of the adjustments that the newest state was solved with.",
        "feeder",
        read=lambda look: {name: float(look.sight.feeders.get(name).applied) for name in look.held},
    ),
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_shed_kw",
        "kW that the executions under way took off the feeder when they began.",
        "feeder",
        read=_by_feeder(lambda programs: sum(map(_shed_kw, programs.by_number.values()))),
    ),
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_store_away",
        "1 while the store is away, or takes no writes; 0 otherwise.",
        read=lambda look: float(not look.sight.store.is_writable),
    ),
    Sourced(
        "gauge",
        "flexfeeder_dfp_manager_jobs_waiting",
        "Commands that are carried out and wait for the solver, or for the store.",
        read=lambda look: float(look.sight.waiting.count),
    ),
    Sourced(
        "counter",
        "flexfeeder_dfp_manager_reconnects",
        "Times that a connection to the broker was made again.",
        "connection",
        read=lambda look: {
            "commands": float(max(0, look.sight.commands.connects - 1)),
            "states": float(max(0, look.sight.states.connects - 1)),
        },
    ),
    Sourced(
        "counter",
        "flexfeeder_dfp_manager_messages_dropped",
        "Messages that were not sent because too many waited for the broker.",
        read=lambda look: float(look.sight.commands.dropped),
    ),
)
"""What is looked at once a second."""
