"""A real store that answers and takes no writes, as the manager's watch over it sees it."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from stores import Store, Way
from structlog.testing import LogCapture
from support import quiet_log

from schemas.programs import ExecutionReport, Registration, Run
from services.bus import BrokerAddress, Connection
from services.dfp_manager import programs as rules
from services.dfp_manager.answers import Told
from services.dfp_manager.decided import Decided, running
from services.dfp_manager.feeders import Feeders
from services.dfp_manager.handlers import Decision
from services.dfp_manager.jobs import Job, Waiting
from services.dfp_manager.notes import Notes
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.registry import Found, Registry, Write, WritesRefused, WriteUnknown
from services.dfp_manager.store_watch import StoreWatch
from services.dfp_manager.telling import Sight, Telling
from services.outcomes import Done
from services.presence import Presence
from services.settings import Settings

FEEDER = "ieee123"
AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as started:
        yield started


@pytest.fixture
def way(store: Store) -> Iterator[Way]:
    """To a store that is empty and has room."""
    has_room(store, True)
    with store.client() as client:
        client.flushall()
        client.config_resetstat()
    with Way(store) as opened:
        yield opened


@pytest.fixture
def watched(way: Way) -> Iterator["Watched"]:
    made = Watched(way)
    yield made
    made.registry.close()


def has_room(store: Store, is_so: bool) -> None:
    """Have the store take writes, or refuse them."""
    with store.client() as client:
        client.config_set("maxmemory", 0 if is_so else 1)


def counted(store: Store, section: str, name: str, field: str) -> int:
    """What the store counts since the test began."""
    with store.client() as client:
        return int(client.info(section).get(name, {}).get(field, 0))


def refused(store: Store) -> int:
    """How many writes the store has refused."""
    return counted(store, "errorstats", "errorstat_OOM", "count")


def registered(name: str, held: FeederPrograms) -> FeederPrograms:
    asked = Registration(name=name, min_power_kw=30.0, target_pf=0.95)
    return rules.register(held, asked, AT).programs


REGISTER = partial(registered, "a")


def as_it_is(held: FeederPrograms) -> FeederPrograms:
    return held


class Watched:
    """A watch over a registry, what it logs, and what became of writes without an answer."""

    def __init__(self, way: Way) -> None:
        capture = LogCapture()
        log: Any = structlog.wrap_logger(None, processors=[capture])
        self.registry = Registry(way.url)
        self.connection = Connection(
            BrokerAddress.of(Settings()), "watched", log=quiet_log(), on_message=lambda _: None
        )
        presence = Presence("dfp_manager", "watched")
        self.watch = StoreWatch(self.registry, presence, self.connection, log)
        self.settled: list[tuple[str, bool]] = []
        self._entries = capture.entries

    def look(self) -> None:
        self.watch.look(math.inf, lambda feeder, is_done: self.settled.append((feeder, is_done)))

    def may_write(self) -> bool:
        return self.watch.is_writable

    @property
    def logged(self) -> list[str]:
        return [entry["event"] for entry in self._entries]

    def names(self, feeder: str = FEEDER) -> list[str]:
        """Of the programs that a command would find."""
        found: list[FeederPrograms] = []

        def read(held: Found) -> Write:
            found.append(held.programs)
            return Write(held.programs)

        assert self.registry.carry_out(feeder, None, read) is False, "it only reads"
        return [program.name for program in found[0].by_number.values()]


class TestWritesAreRefused:
    def test_what_nobody_waits_for_is_tried_again_at_the_next_look(
        self, watched: Watched, store: Store
    ) -> None:
        watched.look()
        has_room(store, False)
        for _ in range(30):
            assert not watched.watch.change(FEEDER, REGISTER)
        assert refused(store) == 1
        watched.look()
        for _ in range(30):
            assert not watched.watch.change(FEEDER, REGISTER)
        assert refused(store) == 2
        assert watched.logged == ["registry_loaded", "store_refuses_writes"]

    def test_what_writes_nothing_says_nothing_of_it(self, watched: Watched, store: Store) -> None:
        watched.look()
        assert watched.watch.change(FEEDER, REGISTER)
        has_room(store, False)
        assert watched.watch.change(FEEDER, as_it_is), "nothing is left to do"
        assert watched.may_write()
        assert not watched.watch.change(FEEDER, partial(registered, "b"))
        assert watched.names() == ["a"]
        assert watched.watch.is_there
        assert not watched.may_write()
        assert watched.logged == ["registry_loaded", "store_refuses_writes"]

    def test_it_is_noticed_that_there_is_room_again_though_nobody_writes(
        self, watched: Watched, store: Store
    ) -> None:
        """Also where the store holds nothing yet; what it holds stays as it was."""
        watched.look()
        has_room(store, False)
        assert not watched.watch.change(FEEDER, REGISTER)
        has_room(store, True)
        watched.look()
        assert watched.may_write()
        assert watched.logged[1:] == ["store_refuses_writes", "store_takes_writes"]
        assert watched.registry.programs(FEEDER) == FeederPrograms(FEEDER)
        watched.look()
        assert watched.watch.change(FEEDER, REGISTER)
        assert watched.names() == ["a"]
        assert len(watched.logged) == 3

    def test_the_gauge_that_the_alert_rests_on_rises_and_falls(
        self, watched: Watched, store: Store
    ) -> None:
        telling = Telling(FEEDER, quiet_log())
        connection = watched.connection
        sight = Sight(
            watched.registry, watched.watch, Feeders(FEEDER), Waiting(), connection, connection
        )

        def told(now: float) -> float | None:
            telling.came_round(now, sight)
            return telling.registry.get_sample_value("flexfeeder_dfp_manager_store_away")

        assert told(0.0) == 1.0, "it has not been asked yet"
        watched.look()
        assert told(10.0) == 0.0
        has_room(store, False)
        assert not watched.watch.change(FEEDER, REGISTER)
        assert told(20.0) == 1.0
        has_room(store, True)
        watched.look()
        assert told(30.0) == 0.0


class TestAWriteWithoutAnAnswerToo:
    def test_it_can_be_read_until_it_has_said(
        self, watched: Watched, way: Way, store: Store
    ) -> None:
        watched.look()
        assert watched.watch.change(FEEDER, REGISTER)
        way.fault, way.is_closed = "request late", True
        with pytest.raises(WriteUnknown):
            watched.registry.change(FEEDER, partial(registered, "b"))
        has_room(store, False)
        way.is_closed = False
        watched.look()
        assert watched.watch.is_there
        assert not watched.may_write()
        assert watched.names() == ["a"]
        with pytest.raises(WritesRefused):
            watched.registry.change(FEEDER, partial(registered, "c"))
        watched.look()
        assert watched.registry.unknown == (FEEDER,)
        assert watched.settled == []

        has_room(store, True)
        watched.look()
        assert watched.settled == [(FEEDER, False)]
        assert watched.may_write()
        way.deliver_late()
        assert watched.names() == ["a"]
        assert watched.logged == ["registry_loaded", "store_refuses_writes", "store_takes_writes"]

    def test_one_that_was_done_is_settled_without_writing(
        self, watched: Watched, way: Way, store: Store
    ) -> None:
        watched.look()
        way.fault, way.is_closed = "reply lost", True
        assert not watched.watch.change(FEEDER, REGISTER)
        has_room(store, False)
        way.is_closed = False
        watched.look()
        assert watched.settled == [(FEEDER, True)]
        assert watched.names() == ["a"]


class TestNotes:
    """An execution took 40 kW off; its request comes again while the store takes no writes."""

    def test_each_request_has_one_and_what_was_seen_stays(
        self, watched: Watched, store: Store
    ) -> None:
        watched.look()
        assert watched.watch.change(FEEDER, REGISTER)
        run = Run(dfp_name="a")
        assert watched.watch.change(
            FEEDER, lambda held: rules.execute(held, run, AT).programs, self.begun()
        )
        has_room(store, False)
        assert not watched.watch.change(FEEDER, partial(registered, "b"))
        first = Job(FEEDER, None, self.decision(), 0.0, 1, self.begun(), True, True, before=b"{}")
        notes = Notes()
        notes.add(first, self.told(40.0))
        for _ in range(5):
            notes.add(replace(first, before=None), self.told(0.0))
        notes.write(watched.watch)

        has_room(store, True)
        watched.look()
        before = counted(store, "commandstats", "cmdstat_evalsha", "calls")
        notes.write(watched.watch)
        notes.write(watched.watch)
        assert counted(store, "commandstats", "cmdstat_evalsha", "calls") == before + 1
        [execution] = watched.registry.programs(FEEDER).by_number[1].executions
        assert execution.total_shed_kw == 40.0
        found: list[Found] = []

        def read(held: Found) -> Write:
            found.append(held)
            return Write(held.programs)

        watched.registry.carry_out(FEEDER, "r-1", read)
        assert found[0].decided is not None
        assert found[0].decided.outcome == Done("shed 0 kW")
        assert found[0].decided.is_whole

    @staticmethod
    def begun() -> Decided:
        """What the store remembers of an execution before its effect has been seen."""
        done = Done("it executes", (), running("a", 1, 1))
        return Decided("r-1", "digest", AT.timestamp(), done, 1, is_whole=False)

    @staticmethod
    def decision() -> Decision:
        return Decision(FeederPrograms(FEEDER), Done("it executes"))

    @staticmethod
    def told(shed_kw: float) -> Told:
        report = ExecutionReport(
            name="a", number=1, revision=1, version=7, total_shed_kw=shed_kw, buses=()
        )
        return Told(Done(f"shed {shed_kw:g} kW"), report, 7)
