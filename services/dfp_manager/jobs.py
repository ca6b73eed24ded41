"""Commands that are carried out and not answered yet."""

from collections import defaultdict
from dataclasses import dataclass

from schemas.commands import ManagerCommand
from services.dfp_manager.handlers import Decision
from services.requests import Request

ANSWER_S = 4.0
"""How long a command waits for the solver, or for a store that does not answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A command on its way from its decision to its answer."""

    feeder: str
    request: Request[ManagerCommand] | None
    """None once it has been answered, with something left to do."""
    decision: Decision
    executes: bool
    before: bytes
    """The newest state when the command came; empty where there was none."""
    until: float
    """When its sender is told that it takes too long, in monotonic seconds."""

    @property
    def revision(self) -> int:
        """The revision of the adjustments that the solver is to show."""
        return self.decision.programs.revision


class Waiting:
    """Jobs that wait for the solver, by feeder, in the order of their revisions."""

    def __init__(self) -> None:
        self._jobs: defaultdict[str, list[Job]] = defaultdict(list)

    def add(self, job: Job) -> None:
        self._jobs[job.feeder].append(job)

    def take_applied(self, feeder: str, revision: int) -> list[Job]:
        """Those that a state of this revision answers; they wait no more."""
        return self._take([job for job in self._jobs[feeder] if job.revision <= revision])

    def take_overdue(self, now: float) -> list[Job]:
        """Those whose time is over; they wait no more."""
        return self._take([j for jobs in self._jobs.values() for j in jobs if now >= j.until])

    def _take(self, taken: list[Job]) -> list[Job]:
        for job in taken:
            self._jobs[job.feeder].remove(job)
        return taken
