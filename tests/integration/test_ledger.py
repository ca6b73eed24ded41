"""Commands whose write is lost, late, or done without a word: on a real store, each takes effect
once or not at all, and its sender is told which.
"""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from stores import Fault, Store, Way, be_patient
from support import FEEDERS, quiet_log

from flexfeeder.testing import wait_until
from schemas import topics
from schemas.errors import ErrorCode, Refusal
from services.bus import Message
from services.once import Once
from services.outcomes import Done
from services.probe import Probe
from services.solver import recovery
from services.solver.custody import Custody
from services.solver.desk import Decision, Desk
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.journal import Journal
from services.solver.ledger import ANSWER_S, Ledger
from services.solver.twin import Twin

FEEDER = Feeder.load(FEEDERS, "ieee13")
LOG = quiet_log()
GENERATOR = {"bus_name": "671", "kw": 5.0}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as started:
        yield started


class Solver:
    """All of a solver that has to do with the journal, and no broker."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.twin = Twin(FEEDER, Engine(FEEDER))
        self.once = Once()
        self.journal = Journal(way.url, "ieee13")
        be_patient(self.journal._store)
        assert self.journal.take() is True
        self._probe = Probe(way.url)
        self.custody = Custody(
            self.journal,
            self._probe,
            self.once,
            lambda: recovery.content(self.twin, self.once),
            LOG,
        )
        self._desk = Desk("ieee13", self.twin.demand, self.once, LOG)
        self.ledger = Ledger(self._desk, self.custody, self.twin.demand)

    def message(self, request_id: str, connection: int = 1) -> Message:
        return Message(
            topics.command("ieee13", "add_generator"),
            orjson.dumps({**GENERATOR, "request_id": request_id}),
            retained=False,
            response_topic="flexfeeder/reply/test",
            correlation=None,
            receipt=(connection, 1, 1),
        )

    def decide(self, request_id: str) -> Decision:
        return self._desk.decide(
            self.message(request_id),
            datetime.now(UTC),
            may_write=self.custody.is_writable,
            arrived_at=0.0,
            in_progress=self.ledger.in_progress,
        )

    def take(self, *request_ids: str) -> list[Decision]:
        """Decide and write a batch; what can be answered now."""
        return self.ledger.keep([self.decide(each) for each in request_ids], [])

    def settled(self) -> list[Decision]:
        """Wait until it is known what became of what was left open."""
        known: list[bool] = []

        def is_known() -> bool:
            said = self.custody.beat(time.monotonic())
            if said is not None:
                known.append(said)
            return bool(known)

        wait_until(is_known, "the store says it")
        return self.ledger.settle(is_written=known[0])

    @property
    def generators(self) -> list[str]:
        return [element.name for element in self.twin.demand.elements() if "gen" in element.name]

    def close(self) -> None:
        self.custody.close()


@pytest.fixture
def solver(store: Store) -> Iterator[Solver]:
    with store.client() as client:
        client.flushall()
    with Way(store) as way:
        opened = Solver(way)
        opened.take("first")
        yield opened
        opened.close()


def codes(decisions: list[Decision]) -> list[str]:
    return [d.outcome.code if isinstance(d.outcome, Refusal) else "done" for d in decisions]


class TestOpen:
    def test_what_was_written_without_a_word_is_done_once_that_is_known(
        self, solver: Solver
    ) -> None:
        solver.way.fault = "reply lost"
        assert solver.take("second", "third") == []
        assert solver.generators == ["generator_1"]
        decided = solver.settled()
        assert codes(decided) == ["done", "done"]
        assert solver.generators == ["generator_1", "generator_2", "generator_3"]
        assert [d.outcome.results for d in decided if isinstance(d.outcome, Done)] == [
            {"generator_name": "generator_2"},
            {"generator_name": "generator_3"},
        ]

    @pytest.mark.parametrize("fault", ["request lost", "request late"])
    def test_what_was_not_written_is_refused_and_has_left_nothing(
        self, solver: Solver, fault: Fault
    ) -> None:
        solver.way.fault = fault
        assert solver.take("second", "third") == []
        assert codes(solver.settled()) == [ErrorCode.SERVICE_UNAVAILABLE] * 2
        solver.way.deliver_late()
        assert codes(solver.take("second")) == ["done"]
        assert solver.generators == ["generator_1", "generator_2"]
        assert len(solver.journal.load().entries) == 3, "a barrier among them"

    @pytest.mark.parametrize(
        ("fault", "answers", "then"),
        [
            ("reply lost", [ErrorCode.REQUEST_IN_PROGRESS], ["done"]),
            ("request lost", [ErrorCode.REQUEST_IN_PROGRESS], [ErrorCode.SERVICE_UNAVAILABLE]),
        ],
    )
    def test_what_came_twice_in_one_batch_is_not_told_that_it_is_done(
        self, solver: Solver, fault: Fault, answers: list[str], then: list[str]
    ) -> None:
        solver.way.fault = fault
        assert codes(solver.take("second", "second")) == answers
        assert codes(solver.settled()) == then

    def test_who_asks_again_meanwhile_is_told_to_wait(self, solver: Solver) -> None:
        solver.way.fault = "reply lost"
        solver.take("second")
        assert codes([solver.decide("second")]) == [ErrorCode.REQUEST_IN_PROGRESS]
        assert codes([solver.decide("third")]) == [ErrorCode.SERVICE_UNAVAILABLE]
        assert codes([solver.decide("first")]) == ["done"]

    def test_what_the_broker_brings_again_is_the_same_and_has_one_answer(
        self, solver: Solver
    ) -> None:
        solver.way.fault = "reply lost"
        solver.take("second")
        assert not solver.ledger.adopt(solver.message("second")), "its sender asks again"
        again = solver.message("second", connection=2)
        assert solver.ledger.adopt(again)
        assert [decision.request.message for decision in solver.settled()] == [again]

    def test_who_waits_for_too_long_is_told_once_that_nobody_knows(self, solver: Solver) -> None:
        solver.way.fault = "reply lost"
        solver.take("second")
        now = time.monotonic()
        assert solver.ledger.give_up(now) == []
        told = solver.ledger.give_up(now + ANSWER_S)
        assert codes(told) == [ErrorCode.NO_REPLY]
        assert solver.ledger.give_up(now + 2 * ANSWER_S) == []
        assert solver.settled()[0].request.reply_topic is None
        assert solver.generators == ["generator_1", "generator_2"]


class TestAway:
    def test_what_cannot_be_sent_is_refused_at_once(self, tmp_path: Path) -> None:
        with Store(tmp_path) as own, Way(own) as way:
            solver = Solver(way)
            solver.take("first")
            own.kill()
            way.is_closed = True
            solver.journal._store.connection_pool.disconnect()
            twice_and_known = solver.take("second", "second", "first")
            away = ErrorCode.SERVICE_UNAVAILABLE
            assert codes(twice_and_known) == [away, away, "done"]
            assert solver.generators == ["generator_1"]
            assert not solver.custody.is_writable
            own.start()
            way.is_closed = False

            def heals() -> bool:
                assert solver.custody.beat(time.monotonic()) is None
                return solver.custody.is_writable

            wait_until(heals, "the store is back")
            assert codes(solver.take("second")) == ["done"]
            solver.close()
