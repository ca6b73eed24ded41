"""The manager's loop: one thread that holds the registry and the connection.

A round of it: take what has arrived, carry out each command in the store, publish what is in
force, and answer. What changed the adjustments is answered when a state of the solver shows their
revision; meanwhile the loop serves others.
"""

import time
from collections.abc import Callable
from functools import partial

from schemas import topics
from services.acks import InOrder
from services.bus import Connection
from services.dfp_manager import answers, programs
from services.dfp_manager.answers import Answers
from services.dfp_manager.desk import Desk
from services.dfp_manager.feeders import Feeder, Feeders
from services.dfp_manager.in_force import InForce
from services.dfp_manager.jobs import Job, Waiting
from services.dfp_manager.notes import Notes
from services.dfp_manager.registry import Registry
from services.dfp_manager.reports import Reports
from services.dfp_manager.store_watch import StoreWatch
from services.dfp_manager.telling import Sight, Telling
from services.inbox import Arrived, Inbox
from services.logs import Log, OncePerTopic
from services.presence import Presence
from services.reactor import Reactor

LONGEST_WAIT_S = 0.1
"""How long the loop may sleep before it looks whether it is to stop."""

SETTLE_S = 2.0
"""How long after connecting commands wait for the feeder to show itself, before they are answered
by what is known: it takes a solver a second to say that it is there.
"""

_COMMAND = topics.dfp_command("").rstrip("/")


class Manager:
    """Runs the programs of every feeder for as long as :meth:`run` runs.

    ``inbox`` is where the connections put their messages.
    """

    def __init__(
        self,
        *,
        feeder: str,
        registry: Registry,
        connection: Connection,
        inbox: Inbox,
        presence: Presence,
        reports: Reports,
        telling: Telling,
        log: Log,
    ) -> None:
        self._registry = registry
        self._connection = connection
        self._inbox = inbox
        self._presence = presence
        self._reports = reports
        self._telling = telling
        self._log = log
        self._feeders = Feeders(feeder)
        self._store = StoreWatch(registry, presence, connection, log)
        self._in_force = InForce(connection)
        self._acks = InOrder(connection.acknowledge)
        self._answers = Answers(connection, self._acks, reports, telling, log)
        self._waiting = Waiting()
        self._notes = Notes()
        self._desk = Desk(
            registry, self._store, self._feeders, self._in_force, self._waiting, self._answers
        )
        self._early: list[Arrived] = []
        """Commands that came before anything was known of the feeder."""
        self._connected_at: float | None = None
        self._unreadable = OncePerTopic(log, "message_unreadable")

    def run(self, feeders: Connection, stopping: Callable[[], bool]) -> None:
        """Serve until ``stopping``; commands are refused until the registry is loaded.

        ``feeders`` is the connection on which topologies and states come.
        """
        connection = self._connection
        reactor = Reactor(feeders, connection)
        sight = Sight(
            self._registry, self._store, self._feeders, self._waiting, connection, feeders
        )
        try:
            while not stopping():
                self._round()
                self._telling.came_round(time.monotonic(), sight)
                reactor.poll(LONGEST_WAIT_S)
        finally:
            feeders.close()
            connection.close(lambda: self._presence.farewell(connection))
            reactor.close()

    def figures(self) -> dict[str, float]:
        """Counters since the start, and how many programs there are, for the heartbeat."""
        held = [self._registry.programs(feeder_id) for feeder_id in self._registry.feeders]
        return {
            "commands": float(self._desk.commands),
            "commands_refused": float(self._answers.refused),
            "programs": float(sum(len(each.by_number) for each in held)),
            "executing": float(sum(each.executing for each in held)),
            "store_away": float(not self._store.is_writable),
        }

    def _round(self) -> None:
        now = time.monotonic()
        batch = self._inbox.take()
        self._store.look(now, partial(self._settled, now))
        with self._connection.together():
            for arrived in batch:
                self._take(arrived, now)
            if self._early and self._is_settled(now):
                early, self._early = self._early, []
                for arrived in early:
                    self._take_command(arrived, now)
            self._give_up(now)
            if self._store.is_loaded:
                self._keep_in_force(now)
        self._notes.write(self._store)
        self._store.beat(now, self.figures)

    def _take(self, arrived: Arrived, now: float) -> None:
        message = arrived.message
        self._acks.arrived(message)
        topic = message.topic
        if topic.startswith(_COMMAND):
            if self._early or not self._is_settled(now):
                self._early.append(arrived)
            else:
                self._take_command(arrived, now)
            return
        feeder = self._feeders.take(topic, message.payload, now, retained=message.retained)
        if feeder is None:
            self._unreadable.warn(topic, "not what belongs there")
        else:
            for job in self._waiting.take_applied(feeder.id, feeder.applied):
                self._finish(job, feeder)
        self._acks.done(message)

    def _is_settled(self, now: float) -> bool:
        """False shortly after connecting, until the feeder's topology and a state have come."""
        if not self._connection.connected:
            self._connected_at = None
            return True
        if self._connected_at is None:
            self._connected_at = now
        feeder = self._feeders.get(self._feeders.default)
        is_known = feeder.buses is not None and not feeder.is_silent(now)
        return is_known or now - self._connected_at > SETTLE_S

    def _take_command(self, arrived: Arrived, now: float) -> None:
        job = self._desk.take(arrived.message, now, arrived.at)
        if job is not None:
            self._carried_out(job, now)

    def _settled(self, now: float, feeder_id: str, is_done: bool) -> None:
        """The store has said what became of a write after all."""
        job = self._waiting.take_settled(feeder_id)
        if job is not None and is_done:
            self._carried_out(job, now)
        elif job is not None and job.request is not None:
            self._answers.answer(job.request, answers.store_away())

    def _carried_out(self, job: Job, now: float) -> None:
        """Answer, or wait for the solver where it has something to show."""
        feeder = self._feeders.get(job.feeder)
        if job.request is not None:
            job.request.stopwatch.enter("answer", time.perf_counter())
        if job.revision is None or (feeder.is_silent(now) and not job.executes):
            self._finish(job)
        elif feeder.applied >= job.revision:
            self._finish(job, feeder)
        else:
            if job.request is not None:
                job.request.stopwatch.enter("solver", time.perf_counter())
            self._waiting.add(job)

    def _finish(self, job: Job, solver: Feeder | None = None) -> None:
        told = answers.of(job, solver)
        # First, so that nobody who asks again after that hears anything else.
        self._notes.add(job, told)
        self._notes.write(self._store)
        self._answers.finish(job, told)

    def _give_up(self, now: float) -> None:
        """Answer those for whom it takes too long."""
        for job in self._waiting.take_overdue(now):
            self._finish(job)
            if job.begins:
                self._waiting.leave(job)
        for request in self._waiting.release_overdue(now):
            self._answers.answer(request, answers.store_silent())

    def _keep_in_force(self, now: float) -> None:
        for feeder in self._feeders:
            if self._store.is_there and self._desk.is_known(feeder):
                self._surpass(feeder)
        served = sorted({self._feeders.default, *self._registry.feeders})
        held = tuple(self._registry.programs(feeder_id) for feeder_id in served)
        for each in held:
            self._in_force.keep(each, self._feeders.get(each.feeder), now)
        self._reports.registered(held)

    def _surpass(self, feeder: Feeder) -> None:
        """Raise a revision that is behind: the store was reset, and lower ones are ignored."""
        newest = self._in_force.newest(feeder)
        if self._registry.programs(feeder.id).revision >= newest:
            return
        if self._store.change(feeder.id, partial(programs.above, revision=newest)):
            self._log.warning("revision_behind", feeder=feeder.id, surpassed=newest)
