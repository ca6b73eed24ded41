"""Where commands are decided: read, known or new, in time, and then by the demand's rules.

Deciding changes the demand and nothing else; what was decided is then written to the journal, or
rolled back.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.commands import SOLVER_COMMANDS, SolverCommand
from schemas.errors import ErrorCode, Refusal
from schemas.loads import RunSimulation
from services import outcomes, requests
from services.bus import Message
from services.logs import Log
from services.once import Once
from services.outcomes import Done, Outcome
from services.requests import Request
from services.solver import handlers
from services.solver.demand import Demand
from services.solver.entries import Decided

STORE_AWAY = Refusal.of_field(
    ErrorCode.SERVICE_UNAVAILABLE, "store", "it is away, or takes no writes; nothing was changed"
)

IN_PROGRESS = Refusal.of_field(
    ErrorCode.REQUEST_IN_PROGRESS, "request_id", "it is being carried out; ask again"
)

STORE_SILENT = Refusal.of_field(
    ErrorCode.NO_REPLY, "store", "it has not said in time whether the command was accepted"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """A request, what became of it, and what the journal is to keep of it, if anything.

    One that ``is_new`` was decided now; any other has its answer from before, or a refusal.
    """

    request: Request[SolverCommand]
    outcome: Outcome
    entry: Decided | None = None
    is_new: bool = False
    is_told: bool = False
    """Its sender has been told that nobody knows yet."""

    @property
    def takes_effect(self) -> bool:
        return self.is_new and isinstance(self.outcome, Done)

    @property
    def is_told_apart(self) -> bool:
        """False where its repetition by the broker could not be told from another command."""
        return self.entry is None or self.entry.request_id is not None


class Desk:
    """Decides the commands of one feeder."""

    def __init__(self, feeder: str, demand: Demand, once: Once, log: Log) -> None:
        self.commands = 0
        self.refused = 0
        self.is_broken = False
        """A command met an error of ours; nobody knows what it has left behind."""
        self._feeder = feeder
        self._demand = demand
        self._once = once
        self._log = log

    def decide(
        self,
        message: Message,
        now: datetime,
        *,
        may_write: bool,
        arrived_at: float,
        in_progress: Container[str | None] = (),
    ) -> Decision:
        """Decide the command that a message brings; ``arrived_at`` in seconds of
        ``time.perf_counter``; ``in_progress`` are ids of requests that were decided already, and of
        which nobody knows yet whether they are written.
        """
        request = requests.read(message, SOLVER_COMMANDS, arrived_at)
        self.commands += 1
        try:
            decision = self._decided(request, now, may_write, in_progress)
        except Refusal as refusal:
            decision = Decision(request, refusal.untraced())
        if isinstance(decision.outcome, Refusal):
            self.refused += 1
        return decision

    def _decided(
        self,
        request: Request[SolverCommand],
        now: datetime,
        may_write: bool,
        in_progress: Container[str | None],
    ) -> Decision:
        command = request.command
        if isinstance(command, Refusal):
            raise command
        asked = outcomes.asked(command)
        known = self._once.recall(command, outcomes.digest_of(command.command, asked))
        if known is not None:
            return Decision(request, known)
        if command.request_id is not None and command.request_id in in_progress:
            return Decision(request, IN_PROGRESS)
        requests.check_deadline(command, now)
        if isinstance(command, RunSimulation):
            # It changes nothing, so there is nothing to keep, whether the store is there or not.
            return Decision(request, self._handle(command), is_new=True)
        if not may_write:
            return Decision(request, STORE_AWAY)
        outcome = self._handle(command)
        entry = Decided(command.command, asked, now.timestamp(), outcome, command.request_id)
        if (remembered := entry.remembered) is not None:
            self._once.remember(remembered)
        return Decision(request, outcome, entry, is_new=True)

    def _handle(self, command: SolverCommand) -> Outcome:
        try:
            handlers.check(command, self._feeder)
            return handlers.handle(command, self._demand)
        except Refusal as refusal:
            return refusal.untraced()
        except Exception:  # noqa: BLE001 - whatever it is, its sender is told, and it does not come again
            self._log.exception("command_broke", command=command.command)
            self.is_broken = True
            return Refusal(ErrorCode.INTERNAL_ERROR, "the solver met an error of its own")

    def again(self, decision: Decision) -> None:
        """Carry out once more what was rolled back and turns out to be written."""
        if decision.takes_effect and not isinstance(decision.request.command, Refusal):
            handlers.handle(decision.request.command, self._demand)
        if decision.entry is not None and (remembered := decision.entry.remembered) is not None:
            self._once.remember(remembered)

    def undo(self, decisions: Sequence[Decision]) -> None:
        """Forget decisions that are not written, and have the demand as it was before them."""
        self._demand.roll_back()
        for decision in decisions:
            if decision.entry is not None and decision.entry.request_id is not None:
                self._once.forget(decision.entry.request_id)
