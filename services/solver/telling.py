"""What a solver tells of itself to whoever runs it: figures, a line for each command, traces.

The owner says what it has done, in the order in which it does it, and once it has answered. Figures
and traces then hold nothing up. A line does: it is written to the log before the owner goes on, so
that the next round waits for whoever reads the log. Hence what anybody can bring about is rationed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import Histogram

from schemas import topics
from schemas.alerts import AlertKind
from schemas.commands import SOLVER_COMMANDS
from schemas.errors import Refusal
from services import requests
from services.bus import Connection
from services.logs import Log
from services.metrics import (
    FAST_S,
    LONGEST_COMMAND,
    TELL_S,
    CommandMetrics,
    Pulse,
    Snapshot,
    Sourced,
    new_registry,
    seen_in,
)
from services.ration import LINES_A_SECOND, Ration
from services.solver.custody import Custody
from services.solver.desk import Decision
from services.solver.intake import OUTCOMES, Intake
from services.solver.standing import Standing
from services.solver.twin import Cycle, Twin
from services.stopwatch import Interval
from services.tracing import Attributes, Tracing

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Bounds of batches, in commands."""

_VOLTAGES = (AlertKind.UNDERVOLTAGE, AlertKind.OVERVOLTAGE)


@dataclass(frozen=True, slots=True)
class Sight:
    """Where an owner's figures are to be seen. Only its own thread looks there."""

    fence: int
    twin: Twin
    custody: Custody
    intake: Intake
    commands: Connection
    readings: Connection


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be seen at one time."""

    sight: Sight
    version: int
    standing: Standing
    most_in_inbox: int
    """Messages that were found waiting, since the last look."""


class Telling:
    """Tells of one solver, be it the owner of its feeder or a standby; ``clock`` in seconds."""

    def __init__(
        self,
        feeder: str,
        log: Log,
        tracing: Tracing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pulse = Pulse()
        self.registry = registry = new_registry()
        self._feeder = feeder
        self._log = log.bind()
        self._tracing = tracing
        self._sight: Sight | None = None
        self._due = 0.0
        self._cycled = Interval(0.0, 0.0)
        self._most_in_inbox = 0
        self._rubbish = Ration(LINES_A_SECOND, clock)
        labels = {"feeder": feeder}
        self._snapshot = Snapshot(FIGURES, labels)
        registry.register(self._snapshot)
        self._snapshot.tell({OWNER.name: 0.0})
        self._commands = CommandMetrics("solver", list(SOLVER_COMMANDS), registry, labels)

        def histogram(name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
            found = Histogram(name, meaning, ["feeder"], buckets=buckets, registry=registry)
            return found.labels(feeder)

        self._cycle_s = histogram(
            "flexfeeder_solver_cycle_seconds",
            "Seconds that a cycle takes, from the demand as it is to the state as it is published.",
            FAST_S,
        )
        self._solve_s = histogram(
            "flexfeeder_solver_solve_seconds",
            "Seconds of a cycle that the engine takes for its solves.",
            FAST_S,
        )
        self._append_s = histogram(
            "flexfeeder_solver_journal_append_seconds",
            "Seconds that writing a batch to the journal takes.",
            FAST_S,
        )
        self._batch = histogram(
            "flexfeeder_solver_batch_commands",
            "Commands that are answered together, by one write to the journal and one cycle.",
            BATCHES,
        )

    def serves(self, sight: Sight) -> None:
        """From now on it owns the feeder."""
        self._sight = sight

    def came_round(self, now: float, version: int) -> None:
        """The owner's loop has come round; ``now`` in monotonic seconds."""
        sight = self._sight
        if sight is None:
            return
        self.pulse.beat("" if sight.commands.connected else "the broker is not connected")
        if now >= self._due:
            self._due = now + TELL_S
            look = Look(sight, version, sight.twin.standing(), self._most_in_inbox)
            self._snapshot.tell(seen_in(look, FIGURES))
            self._most_in_inbox = 0

    def took(self, messages: int) -> None:
        """So many messages were in the inbox."""
        self._most_in_inbox = max(self._most_in_inbox, messages)

    def cycled(self, cycle: Cycle, taken: Interval) -> None:
        """A cycle is through, and its state is on its way."""
        self._cycled = taken
        self._cycle_s.observe(taken.seconds)
        self._solve_s.observe(cycle.solve_s)

    def answered(self, decisions: Sequence[Decision], began: float, version: int) -> None:
        """These decisions have their answers, in a round that ``began`` then (seconds of
        ``time.perf_counter``).
        """
        now = time.perf_counter()
        parts = {}
        if self._sight is not None and self._sight.custody.wrote.start >= began:
            parts["journal"] = self._sight.custody.wrote
            self._append_s.observe(parts["journal"].seconds)
        if not decisions:
            return
        if self._cycled.start >= began:
            parts["solve"] = self._cycled
        self._batch.observe(len(decisions))
        for decision in decisions:
            self._answered(decision, Interval(began, now), version, parts, len(decisions))

    def _answered(
        self,
        decision: Decision,
        carried_out: Interval,
        version: int,
        parts: dict[str, Interval],
        batch: int,
    ) -> None:
        request, outcome = decision.request, decision.outcome
        command = topics.command_of(request.message.topic)
        code = requests.outcome_of(outcome)
        if decision.is_told:
            # It counted when its sender was told that nobody knew.
            self._log.info("command_settled", request_id=request.request_id, outcome=code)
            return
        whole = Interval(request.stopwatch.arrived_at, carried_out.end)
        self._commands.answered(command, code, whole.seconds)
        is_command = not isinstance(request.command, Refusal)
        if is_command or self._rubbish.allows():
            self._log.info(
                "command",
                command=command[:LONGEST_COMMAND],
                request_id=request.request_id,
                outcome=code,
                version=version,
                batch=batch,
                waited_ms=Interval(request.stopwatch.arrived_at, carried_out.start).ms,
                journal_ms=parts["journal"].ms if "journal" in parts else 0.0,
                cycle_ms=parts["solve"].ms if "solve" in parts else 0.0,
                total_ms=whole.ms,
                **requests.refusal_told(request.message.topic, outcome),
                **({"suppressed": left_out} if (left_out := self._rubbish.left_out()) else {}),
            )
        if self._tracing is not None:
            attributes: Attributes = {
                "flexfeeder.request_id": request.request_id or "",
                "flexfeeder.feeder": self._feeder,
                "flexfeeder.command": command[:LONGEST_COMMAND],
                "flexfeeder.outcome": code,
                "flexfeeder.version": version,
                "flexfeeder.batch_size": batch,
            }
            traceparent = requests.traceparent_of(request)
            name = command if command in SOLVER_COMMANDS else "unknown command"
            self._tracing.record(name, traceparent, whole, attributes, parts)


def _found(look: Look, kind: AlertKind) -> float:
    """How much of a kind is wrong."""
    return float(look.standing.findings[kind])


def _oldest_reading_s(look: Look) -> float | None:
    """A meter's clock may be ahead of ours."""
    age_s = look.sight.twin.oldest_reading_s(time.time())
    return None if age_s is None else max(0.0, age_s)


OWNER: Sourced[Look] = Sourced(
    "gauge",
    "flexfeeder_solver_owner",
    "1 if it owns its feeder, 0 if it is a standby.",
    read=lambda _: 1.0,
)
"""Of a standby it is told too, and nothing else is."""

FIGURES: tuple[Sourced[Look], ...] = (
    OWNER,
    Sourced(
        "gauge",
        "flexfeeder_solver_fence",
        "Fencing number: rises by 1 with each owner that the feeder gets.",
        read=lambda look: float(look.sight.fence),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_version",
        "Version of the newest state.",
        read=lambda look: float(look.version),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_revision",
        "Revision of the adjustments in force.",
        read=lambda look: float(look.sight.twin.revision),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_store_away",
        "1 while the store is away, or has not said what became of a write; 0 otherwise.",
        read=lambda look: float(not look.sight.custody.is_writable),
    ),
    Sourced(
        "counter",
        "flexfeeder_solver_journal_round_trips",
        "Calls to the store.",
        read=lambda look: look.sight.custody.figures["journal_calls"],
    ),
    Sourced(
        "counter",
        "flexfeeder_solver_snapshots",
        "Snapshots that were saved.",
        read=lambda look: look.sight.custody.figures["snapshots"],
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_snapshot_seconds",
        "Seconds that the last snapshot took.",
        read=lambda look: look.sight.custody.figures["snapshot_ms"] / 1000,
    ),
    Sourced(
        "counter",
        "flexfeeder_solver_rebuilds",
        "Times that the engine had to build its circuit anew.",
        read=lambda look: float(look.sight.twin.rebuilds),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_inbox_messages",
        "The most messages that were found waiting at once, within the last second.",
        read=lambda look: float(look.most_in_inbox),
    ),
    Sourced(
        "counter",
        "flexfeeder_solver_readings",
        "Readings, by what became of them; topic, too_large and invalid are whole messages.",
        "outcome",
        read=lambda look: {name: float(look.sight.intake.outcomes[name]) for name in OUTCOMES},
    ),
    Sourced(
        "counter",
        "flexfeeder_solver_reconnects",
        "Times that a connection to the broker was made again.",
        "connection",
        read=lambda look: {
            "commands": float(max(0, look.sight.commands.connects - 1)),
            "readings": float(max(0, look.sight.readings.connects - 1)),
        },
    ),
    Sourced(
        "counter",
        "flexfeeder_solver_messages_dropped",
        "Messages that were not sent because too many waited for the broker.",
        read=lambda look: float(look.sight.commands.dropped + look.sight.readings.dropped),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_oldest_reading_seconds",
        "Seconds since the oldest of the newest readings of each element; missing where there is "
        "none.",
        read=_oldest_reading_s,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_converged",
        "1 if the newest solve converged; if 0, the electrical figures are those of the last one "
        "that did.",
        read=lambda look: float(look.standing.converged),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_load_kw",
        "kW that loads and devices draw.",
        read=lambda look: look.standing.load_kw,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_generation_kw",
        "kW that generators produce.",
        read=lambda look: look.standing.generation_kw,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_losses_kw",
        "kW that are lost.",
        read=lambda look: look.standing.losses_kw,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_source_kw",
        "kW drawn from the source; negative while the feeder exports.",
        read=lambda look: look.standing.source_kw,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_shed_kw",
        "kW that programs and relief hold back of the demand of loads and devices.",
        read=lambda look: look.standing.held_kw,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_curtailed_generation_kw",
        "kW that relief holds back of what generators could produce.",
        read=lambda look: look.standing.curtailed_kw,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_min_voltage_pu",
        "Lowest voltage of an energised node, in pu of its bus's base.",
        read=lambda look: look.standing.min_voltage_pu,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_max_voltage_pu",
        "Highest voltage of an energised node, in pu of its bus's base.",
        read=lambda look: look.standing.max_voltage_pu,
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_voltage_violations",
        "Nodes whose voltage is out of its limits, by kind; 0 while nothing converges.",
        "kind",
        read=lambda look: {str(kind): _found(look, kind) for kind in _VOLTAGES},
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_overloaded_transformers",
        "Transformers, service transformers among them, over their rating; 0 while nothing "
        "converges.",
        read=lambda look: _found(look, AlertKind.OVERLOAD),
    ),
    Sourced(
        "gauge",
        "flexfeeder_solver_not_following",
        "Loads, devices and generators that do not keep to their setpoints; 0 while nothing "
        "converges.",
        read=lambda look: _found(look, AlertKind.NOT_FOLLOWING),
    ),
)
"""What is looked at once a second."""
