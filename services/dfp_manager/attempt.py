"""A command on its way into the store: answered as it was before, or decided, or refused."""

from collections.abc import Callable
from datetime import datetime

from schemas.commands import ManagerCommand
from schemas.errors import Refusal
from schemas.programs import ExecuteProgram, GetProgram, ListPrograms
from services import once, outcomes, requests
from services.dfp_manager.decided import Decided, running
from services.dfp_manager.handlers import Decision
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.registry import Found, Write
from services.outcomes import Outcome


class Attempt:
    """What became of a command when the registry was last asked for :meth:`write`.

    ``decide`` decides it upon the programs that there are, or raises a refusal; ``at`` is when.
    """

    def __init__(
        self,
        command: ManagerCommand,
        decide: Callable[[FeederPrograms], Decision],
        at: datetime,
    ) -> None:
        self.asks_only = isinstance(command, ListPrograms | GetProgram)
        self.request_id = None if self.asks_only else command.request_id
        """The id under which the command is remembered; None where it has none, or only asks."""
        self.decision: Decision | None = None
        """What was decided now."""
        self.refusal: Refusal | None = None
        """Why it is refused now: once and for all, if the store holds it."""
        self.decided: Decided | None = None
        """What the store is to remember, or has remembered."""
        self.programs = FeederPrograms("")
        """Those that the store held."""
        self._command = command
        self._digest = outcomes.digest(command) if self.request_id is not None else ""
        self._decide = decide
        self._at = at

    def write(self, found: Found) -> Write:
        """What the store is to hold after it.

        Raises:
            Refusal: of a kind that is not remembered; the store holds what it held.

        """
        self.decision = self.refusal = self.decided = None
        self.programs = found.programs
        if self.request_id is None:
            self.decision = self._decide(found.programs)
            return Write(self.decision.programs)
        self.check(found.decided, found.horizon)
        if found.decided is not None:
            self.decided = found.decided
            return Write(found.programs)
        requests.check_deadline(self._command, self._at)
        try:
            self.decision = self._decide(found.programs)
        except Refusal as refusal:
            if not outcomes.is_final(refusal):
                raise
            self.refusal = refusal
            self.decided = self._remembered(self.request_id, refusal, None)
            return Write(found.programs, self.decided)
        self.decided = self._decided(self.request_id, self.decision)
        return Write(self.decision.programs, self.decided)

    def check(self, known: Decided | None, horizon: float = 0.0) -> None:
        """Whether it may be decided, or answered as what is ``known`` under its id.

        Raises:
            Refusal: as :func:`services.once.check`.

        """
        out_of_date = self._at.timestamp() - once.REMEMBERED_S
        digest = known.digest if known is not None else None
        once.check(self._command, self._digest, digest, max(horizon, out_of_date))

    def _decided(self, request_id: str, decision: Decision) -> Decided:
        change, done, revision = decision.change, decision.done, decision.programs.revision
        if change is None or not isinstance(self._command, ExecuteProgram):
            adjusts = change is not None and change.adjusts
            return self._remembered(request_id, done, revision if adjusts else None)
        program = change.program
        since = program.executions[-1].revision if program.executions else revision
        begun = outcomes.Done(
            done.message, done.buses, running(program.name, program.number, since)
        )
        return self._remembered(request_id, begun, revision, is_whole=False)

    def _remembered(
        self, request_id: str, outcome: Outcome, revision: int | None, *, is_whole: bool = True
    ) -> Decided:
        at = self._at.timestamp()
        return Decided(request_id, self._digest, at, outcome, revision, is_whole)
