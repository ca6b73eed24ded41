"""Commands that are carried out and not answered yet."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from schemas.commands import ManagerCommand
from schemas.programs import ExecuteProgram
from services.dfp_manager.decided import Decided
from services.dfp_manager.feeders import Feeder
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
    until: float
    """When its sender is told that it takes too long, in monotonic seconds."""
    revision: int | None = None
    """The revision of the adjustments that the solver is to show; None: none."""
    decided: Decided | None = None
    """What the store remembers of it."""
    executes: bool = False
    """Its answer is a report of what an execution did."""
    begins: bool = False
    """It is by this command that the execution has begun."""
    before: bytes | None = None
    """Of one that executes: the newest state when the command came, None where that is not known
    any more.
    """

    def left(self) -> "Job":
        """What is left to do once its sender has been told that it takes too long, and everybody
        what has happened: to note what the execution did, when that is seen after all.
        """
        change = self.decision.change
        silent = replace(change, events=()) if change is not None else None
        decision = replace(self.decision, change=silent)
        return replace(self, request=None, decision=decision, until=math.inf)

    @property
    def program(self) -> int | None:
        """Number of the program that it is about; None where it is about all."""
        change = self.decision.change
        return change.program.number if change is not None else None


def first(
    request: Request[ManagerCommand],
    decision: Decision,
    decided: Decided | None,
    feeder: Feeder,
    until: float,
) -> Job:
    """What is left to do of a command that was decided now."""
    executes = isinstance(request.command, ExecuteProgram)
    change = decision.change
    adjusts = change is not None and change.adjusts
    return Job(
        feeder.id,
        request,
        decision,
        until,
        decision.programs.revision if executes or adjusts else None,
        decided,
        executes,
        begins=executes and change is not None and bool(change.events),
        before=feeder.state,
    )


class Waiting:
    """Jobs that wait for the solver, by feeder, in the order of their revisions; and those whose
    write got no answer from the store, at most one a feeder.
    """

    def __init__(self) -> None:
        self._jobs: defaultdict[str, list[Job]] = defaultdict(list)
        self._unknown: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        """Have it wait for the solver."""
        self._jobs[job.feeder].append(job)

    def leave(self, job: Job) -> None:
        """Have what is left of an execution wait, instead of what was left of an earlier one."""
        jobs = self._jobs[job.feeder]
        jobs[:] = [each for each in jobs if each.request or each.program != job.program]
        jobs.append(job.left())

    def hold(self, job: Job) -> None:
        """Have it wait until the store says whether it was done."""
        self._unknown[job.feeder] = job

    def is_held(self, job: Job) -> bool:
        """True of one that waits for the store, False of one that waits for the solver."""
        return self._unknown.get(job.feeder) is job

    @property
    def count(self) -> int:
        """How many have somebody who waits for their answer."""
        waiting = [job for jobs in self._jobs.values() for job in jobs]
        return sum(job.request is not None for job in [*waiting, *self._unknown.values()])

    def take_settled(self, feeder: str) -> Job | None:
        """The one that waited for the store; it does no more."""
        return self._unknown.pop(feeder, None)

    def take_applied(self, feeder: str, revision: int) -> list[Job]:
        """Those that a state of this revision answers; they wait no more."""
        return self._take([job for job in self._jobs[feeder] if (job.revision or 0) <= revision])

    def take_overdue(self, now: float) -> list[Job]:
        """Those whose time is over; they wait no more."""
        return self._take([j for jobs in self._jobs.values() for j in jobs if now >= j.until])

    def release_overdue(self, now: float) -> Iterator[Request[ManagerCommand]]:
        """The requests for which the store takes too long; what became of them is still looked
        into.
        """
        for feeder, job in self._unknown.items():
            if job.request is not None and now >= job.until:
                self._unknown[feeder] = replace(job, request=None)
                yield job.request

    def find(self, feeder: str, request_id: str | None) -> Job | None:
        """The one that is remembered under a request id, and waits for the solver or the store."""
        jobs = self._jobs.get(feeder, [])
        unknown = self._unknown.get(feeder)
        if unknown is not None:
            jobs = [*jobs, unknown]
        return next((j for j in jobs if j.decided and j.decided.request_id == request_id), None)

    def replace(self, job: Job, other: Job) -> None:
        """Have another one wait in a job's place."""
        if self.is_held(job):
            self._unknown[job.feeder] = other
        else:
            jobs = self._jobs[job.feeder]
            jobs[jobs.index(job)] = other

    def _take(self, taken: list[Job]) -> list[Job]:
        for job in taken:
            self._jobs[job.feeder].remove(job)
        return taken
