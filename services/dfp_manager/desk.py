"""Where commands are carried out: answered as they were before, decided by the rules and written to
the registry, or refused.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from schemas.commands import MANAGER_COMMANDS, ManagerCommand
from schemas.errors import Refusal
from schemas.programs import ExecuteProgram
from schemas.wire import canonical
from services import requests
from services.bus import Message
from services.dfp_manager import answers, handlers, jobs, programs, repeats
from services.dfp_manager.answers import Answers
from services.dfp_manager.attempt import Attempt
from services.dfp_manager.feeders import Feeder, Feeders
from services.dfp_manager.handlers import Context, Decision
from services.dfp_manager.in_force import InForce
from services.dfp_manager.jobs import ANSWER_S, Job, Waiting
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.registry import Found, Registry, StoreAway, WritesRefused, WriteUnknown
from services.dfp_manager.store_watch import StoreWatch
from services.requests import Request


class Desk:
    """Carries out the commands to one manager. Times are monotonic seconds."""

    def __init__(
        self,
        registry: Registry,
        store: StoreWatch,
        feeders: Feeders,
        in_force: InForce,
        waiting: Waiting,
        replies: Answers,
    ) -> None:
        self.commands = 0
        self._registry = registry
        self._store = store
        self._feeders = feeders
        self._in_force = in_force
        self._waiting = waiting
        self._replies = replies

    def take(self, message: Message, now: float, arrived_at: float) -> Job | None:
        """Carry out the command that a message brings; ``arrived_at`` in seconds of
        ``time.perf_counter``.

        Returns what is left to do of it now: nothing where it is refused, or has to wait for the
        store or for the answer to an earlier one.
        """
        self.commands += 1
        request = requests.read(message, MANAGER_COMMANDS, arrived_at)
        try:
            if isinstance(request.command, Refusal):
                raise request.command
            return self._carry_out(request, request.command, now)
        except Refusal as refusal:
            self._replies.answer(request, refusal)
            return None

    def is_known(self, feeder: Feeder) -> bool:
        """True for the default feeder, and any that has been heard of or has programs."""
        return (
            feeder.id == self._feeders.default
            or feeder.buses is not None
            or feeder.id in self._registry.feeders
        )

    def _carry_out(
        self, request: Request[ManagerCommand], command: ManagerCommand, now: float
    ) -> Job | None:
        """Have the store hold what a command makes of the programs, unless it did so before.

        Raises:
            Refusal: nothing was changed.

        """
        at = datetime.now(UTC)
        feeder = self._feeders.get(canonical(command.feeder or self._feeders.default))
        attempt = Attempt(command, partial(self._decide, command, feeder, at, now), at)
        if attempt.request_id is None:
            requests.check_deadline(command, at)
        elif self._is_under_way(request, attempt, feeder, now):
            return None
        if not self._store.is_loaded:
            raise answers.store_away()
        if not self.is_known(feeder):
            raise answers.feeder_unknown(feeder.id)
        request.stopwatch.enter("store", time.perf_counter())
        is_written = self._attempt(feeder, attempt)
        if attempt.refusal is not None:
            # One that may be forgotten is not given: it would have to be given again.
            raise attempt.refusal if is_written else answers.store_away()
        job = _job(request, attempt, feeder, now + ANSWER_S)
        if not is_written:
            self._waiting.hold(job)
        return job if is_written else None

    def _decide(
        self,
        command: ManagerCommand,
        feeder: Feeder,
        at: datetime,
        now: float,
        held: FeederPrograms,
    ) -> Decision:
        newest = self._in_force.newest(feeder)
        context = Context(feeder.buses, at)
        decision = handlers.decide(command, programs.above(held, newest), context)
        if isinstance(command, ExecuteProgram) and feeder.is_silent(now):
            raise answers.solver_away(feeder.id)
        return decision

    def _attempt(self, feeder: Feeder, attempt: Attempt) -> bool:
        """Make an attempt in the store; while that is away, one that only asks is made upon what it
        held when it was last there. False where nobody knows what the store holds.

        Raises:
            Refusal: it holds what it held.

        """
        if self._store.is_there:
            try:
                return self._write(feeder, attempt)
            except Refusal:
                if self._store.is_there or not attempt.asks_only:
                    raise
        elif not attempt.asks_only:
            raise answers.store_away()
        attempt.write(Found(self._registry.programs(feeder.id)))
        return True

    def _write(self, feeder: Feeder, attempt: Attempt) -> bool:
        """Have the store hold what comes of an attempt; False where nobody knows whether it does.

        Raises:
            Refusal: it does not.

        """
        try:
            has_written = self._registry.carry_out(feeder.id, attempt.request_id, attempt.write)
        except WritesRefused as error:
            self._store.takes_no_writes(feeder.id, error)
            raise answers.writes_refused() from None
        except StoreAway as error:
            self._store.lost(error)
            raise answers.store_away() from None
        except WriteUnknown as error:
            self._store.lost(error)
            return False
        if has_written:
            self._store.takes_writes()
        return True

    def _is_under_way(
        self, request: Request[ManagerCommand], attempt: Attempt, feeder: Feeder, now: float
    ) -> bool:
        """Whether the answer of a request that came before answers this one too.

        Raises:
            Refusal: that one is under way, and answers its own sender.

        """
        job = self._waiting.find(feeder.id, attempt.request_id)
        if job is None or job.decided is None:
            return False
        attempt.check(job.decided)
        awaited = "store" if self._waiting.is_held(job) else "solver"
        request.stopwatch.enter(awaited, time.perf_counter())
        earlier = job.request
        if earlier is None:
            self._waiting.replace(job, replace(job, request=request, until=now + ANSWER_S))
        elif requests.is_brought_again(earlier.message, request.message):
            self._replies.superseded(earlier)
            self._waiting.replace(job, replace(job, request=request))
        else:
            raise answers.under_way()
        return True


def _job(request: Request[ManagerCommand], attempt: Attempt, feeder: Feeder, until: float) -> Job:
    """What is left to do of a command that was accepted, now or before.

    Raises:
        Refusal: it was refused before.

    """
    if attempt.decision is not None:
        return jobs.first(request, attempt.decision, attempt.decided, feeder, until)
    if attempt.decided is None:
        raise RuntimeError("an attempt that is not refused was decided")
    outcome = attempt.decided.outcome
    if isinstance(outcome, Refusal):
        raise outcome
    return repeats.job(request, attempt.decided, outcome, attempt.programs, feeder, until)
