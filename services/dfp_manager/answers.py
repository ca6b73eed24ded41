"""What the manager says: replies to those who asked, and events, lines and logs to the others."""

from dataclasses import dataclass

import orjson

from schemas import topics
from schemas.commands import ManagerCommand
from schemas.errors import ErrorCode, Refusal
from schemas.programs import ExecutionReport, ProgramEventKind
from services import requests
from services.acks import InOrder
from services.bus import Connection
from services.dfp_manager import effect
from services.dfp_manager.feeders import SILENT_S, Feeder
from services.dfp_manager.jobs import ANSWER_S, Job
from services.dfp_manager.reports import Reports
from services.dfp_manager.telling import Telling
from services.logs import Log
from services.outcomes import Done, Outcome
from services.requests import Request


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of a job: its outcome, what its execution did where that was seen, and the
    version of the state that shows it.
    """

    outcome: Outcome
    report: ExecutionReport | None
    version: int | None


class Answers:
    """Replies, then acknowledges: what is not answered comes again after a restart."""

    def __init__(
        self,
        connection: Connection,
        acks: InOrder,
        reports: Reports,
        telling: Telling,
        log: Log,
    ) -> None:
        self.refused = 0
        self._connection = connection
        self._acks = acks
        self._reports = reports
        self._telling = telling
        self._log = log

    def finish(self, job: Job, told: Told) -> None:
        """Tell everybody of a job, and answer its sender."""
        self._tell(job, told.report)
        if job.request is not None:
            self.answer(job.request, told.outcome, told.version)

    def answer(
        self,
        request: Request[ManagerCommand],
        outcome: Outcome,
        version: int | None = None,
    ) -> None:
        """Reply, and acknowledge the command."""
        if isinstance(outcome, Refusal):
            self.refused += 1
        requests.reply(self._connection, request, outcome, version)
        self._acks.done(request.message)
        self._telling.answered(request, outcome, version)

    def superseded(self, request: Request[ManagerCommand]) -> None:
        """Acknowledge a command that another one is answered for."""
        self._acks.done(request.message)

    def _tell(self, job: Job, report: ExecutionReport | None) -> None:
        change = job.decision.change
        if change is None:
            return
        for happened in change.events:
            event = happened
            if event.event is ProgramEventKind.EXECUTED and report is not None:
                event = event.model_copy(update={"total_shed_kw": report.total_shed_kw})
            payload = event.model_dump_json().encode()
            self._connection.publish(topics.program_event(job.feeder), payload, qos=1)
            self._log.info(f"program_{event.event}", **event.model_dump(exclude={"event", "at"}))
            self._reports.happened(event, change.program, report)


def of(job: Job, solver: Feeder | None = None) -> Told:
    """What is to be said of a job; ``solver`` where its newest state has the job in it."""
    report = _report(job, solver) if solver is not None and job.executes else None
    outcome = _outcome(job, report)
    return Told(outcome, report, solver.version if solver is not None else None)


def feeder_unknown(feeder_id: str) -> Refusal:
    return Refusal.of_field(
        ErrorCode.FEEDER_NOT_FOUND, "feeder", f"there is no feeder {feeder_id!r}"
    )


def store_away() -> Refusal:
    return Refusal.of_field(
        ErrorCode.SERVICE_UNAVAILABLE, "store", "it is away; nothing was changed"
    )


def writes_refused() -> Refusal:
    return Refusal.of_field(
        ErrorCode.SERVICE_UNAVAILABLE, "store", "it takes no writes; nothing was changed"
    )


def store_silent() -> Refusal:
    return Refusal.of_field(
        ErrorCode.NO_REPLY, "store", "it has not said in time whether the change was made"
    )


def solver_away(feeder_id: str) -> Refusal:
    return Refusal.of_field(
        ErrorCode.SERVICE_UNAVAILABLE,
        "solver",
        f"no state of {feeder_id!r} has come for {SILENT_S:g} s; nothing was changed",
    )


def under_way() -> Refusal:
    return Refusal.of_field(
        ErrorCode.REQUEST_IN_PROGRESS, "request_id", "it is under way; ask again for its answer"
    )


def _report(job: Job, solver: Feeder) -> ExecutionReport | None:
    """What an execution did; None where a state cannot be read."""
    change = job.decision.change
    if change is None:
        return None
    runs = change.program.executions
    revision = runs[-1].revision if runs else change.programs.revision
    try:
        after = orjson.loads(solver.state)
        before = orjson.loads(job.before) if job.before is not None else after
        return effect.report(before, after, change.program, revision)
    except (orjson.JSONDecodeError, effect.NoState):
        return None


def _outcome(job: Job, report: ExecutionReport | None) -> Outcome:
    done = job.decision.done
    if report is not None:
        is_seen = job.before is not None
        did = f"shed {report.total_shed_kw:g} kW" if is_seen else "what it took off was not seen"
        return Done(f"{done.message}; {did}", done.buses, report.model_dump(mode="json"))
    if job.executes:
        return Refusal.of_field(
            ErrorCode.NO_REPLY,
            "solver",
            f"the program is in force from revision {job.revision} of the adjustments on and will "
            f"be applied; no state that could be read has shown it within {ANSWER_S:g} s",
        )
    return done
