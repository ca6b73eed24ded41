"""Commands that come again: what is left to do of one that was decided before."""

from dataclasses import replace

from schemas.commands import ManagerCommand
from schemas.programs import ExecutionReport
from services.dfp_manager.decided import Decided
from services.dfp_manager.feeders import Feeder
from services.dfp_manager.handlers import Decision
from services.dfp_manager.jobs import Job
from services.dfp_manager.programs import Change, FeederPrograms
from services.outcomes import Done
from services.requests import Request

ENDED = "it has ended since, and what it took off was not seen"


def job(
    request: Request[ManagerCommand],
    decided: Decided,
    done: Done,
    programs: FeederPrograms,
    feeder: Feeder,
    until: float,
) -> Job:
    """What answers a command that was accepted before: as it was answered, or would have been.

    ``programs`` are those that there are now. An execution of which nobody has told what it did
    is not begun again; what it did is told as far as that can still be seen.
    """
    again = Job(feeder.id, request, Decision(programs, done), until, decided.revision, decided)
    if decided.is_whole:
        return again
    number, since = done.results["number"], done.results["revision"]
    program = programs.by_number.get(number)
    runs = program.executions if program is not None and program.executing else ()
    if program is None or not runs or runs[-1].revision != since:
        ended = Done(f"{done.message}; {ENDED}", done.buses, _unseen(done, feeder.version))
        return replace(again, decision=Decision(programs, ended), revision=None)
    change = Change(programs, program, done.message)
    return replace(
        again,
        decision=Decision(programs, done, change),
        executes=True,
        begins=True,
        before=feeder.before(since),
    )


def _unseen(done: Done, version: int) -> dict[str, object]:
    """The report of an execution of which nothing can be seen any more."""
    report = ExecutionReport(**done.results, version=version, total_shed_kw=0.0, buses=())
    return report.model_dump(mode="json")
