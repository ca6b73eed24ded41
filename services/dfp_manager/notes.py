"""What is noted in the registry when it is seen: what executions did."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from services.dfp_manager import programs
from services.dfp_manager.answers import Told
from services.dfp_manager.decided import Decided
from services.dfp_manager.jobs import Job
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.store_watch import StoreWatch
from services.outcomes import Done


class Notes:
    """Kept until the store takes them, one of each request that has an id. To note something twice
    does no harm.
    """

    def __init__(self) -> None:
        self._notes: list[_Note] = []

    def add(self, job: Job, told: Told) -> None:
        """Note what is said of a job: in the history what its execution took off, and under its
        request id the answer.
        """
        shed, whole = _shed(job, told), _whole(job, told)
        if shed is None and whole is None:
            return
        for earlier in [note for note in self._notes if whole and note.is_of(job.feeder, whole)]:
            # Who asks again may come too late to see what the execution took off.
            shed = shed or earlier.change
            self._notes.remove(earlier)
        self._notes.append(_Note(job.feeder, shed or _as_it_is, whole))

    def write(self, store: StoreWatch) -> None:
        """Put them into the store, as far as it takes them."""
        while self._notes and store.change(*self._notes[0]):
            del self._notes[0]


class _Note(NamedTuple):
    feeder: str
    change: Callable[[FeederPrograms], FeederPrograms]
    decided: Decided | None

    def is_of(self, feeder: str, decided: Decided) -> bool:
        """Whether it is of the request that came to this."""
        own = self.decided
        return own is not None and (self.feeder, own.request_id) == (feeder, decided.request_id)


def _as_it_is(held: FeederPrograms) -> FeederPrograms:
    return held


def _shed(job: Job, told: Told) -> Callable[[FeederPrograms], FeederPrograms] | None:
    """What puts the kW that an execution took off into its history, where that was seen."""
    report = told.report
    if report is None or not job.begins or job.before is None:
        return None
    return partial(
        programs.with_shed,
        number=report.number,
        revision=report.revision,
        total_shed_kw=report.total_shed_kw,
    )


def _whole(job: Job, told: Told) -> Decided | None:
    """What is remembered of an execution when it is told what it did."""
    decided = job.decided
    if decided is None or decided.is_whole or not isinstance(told.outcome, Done):
        return None
    return replace(decided, outcome=told.outcome, is_whole=True)
