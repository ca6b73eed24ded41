"""The journal on a real store: one owner at a time, and no write done twice or by surprise."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import Store, Way, be_patient

from flexfeeder.testing import wait_until
from services.once import Remembered
from services.outcomes import Done
from services.solver import entries
from services.solver.entries import Barrier, Decided
from services.solver.journal import (
    LEASE_MS,
    MOST_SEGMENTS,
    Forgotten,
    InFlight,
    Journal,
    LeaseLost,
    StoreAway,
    WriteUnknown,
    order,
)

FEEDER = "ieee123"
BARRIER = entries.encode(Barrier())

Call = Callable[[], object]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as started:
        yield started


@pytest.fixture
def way(store: Store) -> Iterator[Way]:
    with store.client() as client:
        client.flushall()
    with Way(store) as opened:
        yield opened


def journal_at(where: Store | Way) -> Journal:
    """That of one who owns nothing yet."""
    opened = Journal(where.url, FEEDER)
    be_patient(opened._store)
    return opened


@pytest.fixture
def journal(way: Way) -> Iterator[Journal]:
    """That of the first owner."""
    opened = journal_at(way)
    assert opened.take() is True
    yield opened
    opened._store.close()


@pytest.fixture
def other(way: Way) -> Iterator[Journal]:
    """That of another, who owns nothing yet."""
    opened = journal_at(way)
    yield opened
    opened._store.close()


def entry(number: int) -> bytes:
    return entries.encode(Decided("set_load", b"{}", float(number), Done("done"), f"r{number}"))


def ids(journal: Journal) -> list[str]:
    return [id_ for id_, _ in journal.load().entries]


def succeed(other: Journal) -> InFlight | bool:
    """Wait until the lease of the owner has lapsed, and own the feeder."""
    taken: list[InFlight | bool] = []

    def has_taken() -> bool:
        taken.append(other.take())
        return taken[-1] is not False

    wait_until(has_taken, "the lease lapses")
    return taken[-1]


def hold(store: Store) -> None:
    """The lease of now does not lapse, however long the rest of a test takes."""
    with store.client() as client:
        assert client.persist("flexfeeder:ieee123:owner")


class TestLease:
    def test_the_first_owner_takes_the_first_number(self, journal: Journal) -> None:
        assert journal.fence == 1

    def test_who_asks_again_because_the_answer_was_lost_has_it(
        self, journal: Journal, other: Journal, way: Way
    ) -> None:
        journal.append([entry(1)])
        journal.release()
        other._store.script_load(other._take.script)
        way.fault = "reply lost"
        with pytest.raises(StoreAway):
            other.take()
        assert other.take() == InFlight("1-1", "1-1", strikes=1, trial=None)
        assert other.fence == 2

    def test_nobody_owns_what_has_an_owner(
        self, journal: Journal, other: Journal, store: Store
    ) -> None:
        journal.renew("0-0")
        hold(store)
        assert other.take() is False

    def test_a_lease_that_is_not_renewed_lapses(
        self, journal: Journal, other: Journal, store: Store
    ) -> None:
        """Within its second, whether it is new, was renewed, or came with a write."""
        ways: tuple[Call, ...] = (
            lambda: None,
            lambda: journal.renew("0-0"),
            lambda: journal.append([entry(1)]),
        )
        for say in ways:
            say()
            with store.client() as client:
                left_ms = client.pttl("flexfeeder:ieee123:owner")  # -1: it would stay for good
            assert left_ms <= LEASE_MS
            assert left_ms != -1
        assert succeed(other) is not False
        assert other.fence == 2

    def test_one_that_is_released_is_free_at_once(self, journal: Journal, other: Journal) -> None:
        journal.release()
        assert other.take() is True

    def test_whoever_was_paused_for_too_long_writes_nothing(
        self, journal: Journal, other: Journal
    ) -> None:
        succeed(other)
        writes: tuple[Call, ...] = (
            lambda: journal.append([entry(1)]),
            lambda: journal.renew("1-0"),
            lambda: journal.save(b"{}", "1-0", None),
            lambda: journal.begin_trial("1-1"),
            lambda: journal.void(entry(1)),
            journal.reclaim,
        )
        for write in writes:
            with pytest.raises(LeaseLost):
                write()
        assert ids(other) == []
        assert other.load().snapshot is None

    def test_releasing_what_another_owns_leaves_it_his(
        self, journal: Journal, other: Journal, way: Way, store: Store
    ) -> None:
        succeed(other)
        other.renew("0-0")
        hold(store)
        journal.release()
        third = journal_at(way)
        assert third.take() is False
        third.release()

    def test_a_lapsed_lease_that_nobody_took_is_still_ones_own(
        self, journal: Journal, store: Store
    ) -> None:
        with store.client() as client:
            client.delete("flexfeeder:ieee123:owner")
        journal.append([entry(1)])
        assert ids(journal) == ["1-1"]

    def test_numbers_go_on_from_the_journal_where_the_counter_is_lost(
        self, journal: Journal, other: Journal, store: Store
    ) -> None:
        journal.append([entry(1)])
        journal.release()
        with store.client() as client:
            client.delete("flexfeeder:ieee123:fence")
        assert isinstance(other.take(), InFlight)
        assert other.fence == 2


class TestEntries:
    def test_entries_bear_the_fence_and_are_numbered(self, journal: Journal) -> None:
        journal.append([entry(1), entry(2)])
        journal.append([entry(3)])
        assert journal.load().entries == (("1-1", entry(1)), ("1-2", entry(2)), ("1-3", entry(3)))
        assert journal.last == "1-3"

    def test_the_next_owner_goes_on_behind(self, journal: Journal, other: Journal) -> None:
        journal.append([entry(1)])
        journal.release()
        other.take()
        other.append([entry(2)])
        assert ids(other) == ["1-1", "2-1"]

    def test_a_batch_is_one_round_trip(self, journal: Journal) -> None:
        before = journal.calls
        journal.append([entry(number) for number in range(100)])
        assert journal.calls == before + 1

    def test_ids_are_compared_by_number(self) -> None:
        assert order("2-1") > order("1-30") > order("1-4")


class TestUnknown:
    def test_a_reply_that_is_lost_hides_a_write_that_was_done(
        self, journal: Journal, way: Way
    ) -> None:
        journal.append([entry(1)])
        way.fault = "reply lost"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2), entry(3)])
        assert journal.settle(BARRIER) is True
        journal.append([entry(4)])
        assert ids(journal) == ["1-1", "1-2", "1-3", "1-4"]

    def test_a_request_that_is_lost_is_a_write_that_was_not_done(
        self, journal: Journal, way: Way
    ) -> None:
        journal.append([entry(1)])
        way.fault = "request lost"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2)])
        assert journal.settle(BARRIER) is False
        journal.append([entry(3)])
        assert [payload for _, payload in journal.load().entries] == [entry(1), BARRIER, entry(3)]

    def test_a_request_that_is_late_finds_its_place_taken(self, journal: Journal, way: Way) -> None:
        journal.append([entry(1)])
        way.fault = "request late"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2), entry(3)])
        assert journal.settle(BARRIER) is False
        way.deliver_late()
        assert [payload for _, payload in journal.load().entries] == [entry(1), BARRIER]

    def test_a_late_request_of_an_owner_who_is_gone_changes_nothing(
        self, journal: Journal, other: Journal, way: Way
    ) -> None:
        journal.append([entry(1)])
        way.fault = "request late"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2)])
        succeed(other)
        way.deliver_late()
        assert ids(other) == ["1-1"]

    def test_nothing_more_is_written_until_it_is_settled(self, journal: Journal, way: Way) -> None:
        journal.append([entry(1)])
        way.fault = "reply lost"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2)])
        with pytest.raises(StoreAway):
            journal.append([entry(3)])
        assert journal.settle(BARRIER) is True

    def test_settling_that_is_not_answered_is_no_proof_of_the_write(
        self, journal: Journal, way: Way
    ) -> None:
        """The barrier of a batch of one has the id that is looked for."""
        journal.append([entry(1)])
        way.fault = "request lost"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2)])
        journal._store.script_load(journal._settle.script)
        way.fault = "reply lost"
        with pytest.raises(StoreAway):
            journal.settle(BARRIER)
        assert journal.settle(BARRIER) is False
        journal.append([entry(3)])
        assert [payload for _, payload in journal.load().entries] == [entry(1), BARRIER, entry(3)]

    def test_what_the_store_has_lost_is_noticed(self, journal: Journal, store: Store) -> None:
        journal.append([entry(1), entry(2)])
        assert journal.has_kept_everything()
        with store.client() as client:
            client.xdel("flexfeeder:ieee123:journal", "1-2")
        assert not journal.has_kept_everything()


class TestInFlight:
    def test_what_nobody_saw_solved_is_in_flight(self, journal: Journal, other: Journal) -> None:
        journal.append([entry(1)])
        journal.append([entry(2), entry(3)])
        assert succeed(other) == InFlight("1-2", "1-3", strikes=1, trial=None)

    def test_each_death_is_a_strike(self, journal: Journal, other: Journal, way: Way) -> None:
        journal.append([entry(1)])
        journal.release()
        other.take()
        other.begin_trial("1-1")
        other.release()
        third = journal_at(way)
        assert third.take() == InFlight("1-1", "1-1", strikes=2, trial="1-1")
        third.release()

    def test_what_was_solved_is_not_in_flight(self, journal: Journal, other: Journal) -> None:
        journal.append([entry(1)])
        journal.renew("1-1")
        journal.release()
        assert other.take() is True

    def test_a_barrier_that_is_solved_takes_what_was_before_it_along(
        self, journal: Journal, other: Journal, way: Way
    ) -> None:
        journal.append([entry(1)])
        way.fault = "request lost"
        with pytest.raises(WriteUnknown):
            journal.append([entry(2)])
        journal.settle(BARRIER)
        journal.renew(journal.last)
        journal.release()
        assert other.take() is True

    def test_what_came_after_it_still_is(self, journal: Journal, other: Journal) -> None:
        journal.append([entry(1)])
        journal.append([entry(2)])
        journal.renew("1-1")
        journal.release()
        assert other.take() == InFlight("1-2", "1-2", strikes=1, trial=None)

    def test_what_is_voided_leaves_the_rest_in_flight(
        self, journal: Journal, other: Journal, way: Way
    ) -> None:
        journal.append([entry(1), entry(2)])
        journal.release()
        other.take()
        other.begin_trial("1-1")
        other.void(entry(3))
        assert ids(other) == ["1-1", "1-2", "2-1"]
        other.release()
        third = journal_at(way)
        assert third.take() == InFlight("1-1", "1-2", strikes=2, trial=None)
        third.release()


class TestSnapshot:
    def test_it_is_replaced_whole_and_says_what_it_contains(self, journal: Journal) -> None:
        journal.append([entry(1), entry(2)])
        journal.save(b"first", "1-1", None)
        journal.save(b"second", "1-2", None)
        past = journal.load()
        assert (past.snapshot, past.last) == (b"second", "1-2")
        assert len(past.entries) == 2

    def test_entries_are_left_behind_but_for_the_last(self, journal: Journal) -> None:
        journal.append([entry(1), entry(2), entry(3)])
        journal.save(b"content", "1-3", b"[]")
        assert ids(journal) == ["1-3"]
        journal.append([entry(4)])
        assert ids(journal) == ["1-3", "1-4"]

    def test_what_is_remembered_of_them_is_kept_in_segments(self, journal: Journal) -> None:
        segments = tuple(
            entries.encode_segment([Remembered(f"r{n}", "d", 1.0, Done("done"))])
            for n in range(MOST_SEGMENTS + 3)
        )
        for segment in segments:
            journal.save(b"content", "1-0", segment)
        assert journal.load().segments == segments[3:]

    def test_a_segment_that_comes_twice_or_is_empty_takes_no_place(self, journal: Journal) -> None:
        segment = entries.encode_segment([Remembered("r1", "d", 1.0, Done("done"))])
        for each in (segment, segment, b"[]"):
            journal.save(b"content", "1-0", each)
        assert journal.load().segments == (segment,)

    def test_one_that_comes_late_does_not_replace_a_newer(self, journal: Journal) -> None:
        journal.append([entry(1), entry(2)])
        journal.save(b"newer", "1-2", b"[]")
        journal.save(b"late", "1-1", None)
        assert journal.load().snapshot == b"newer"


class TestStoreAway:
    def test_a_store_that_is_away_writes_nothing(self, tmp_path: Path) -> None:
        with Store(tmp_path) as own:
            journal = journal_at(own)
            journal.take()
            own.kill()
            with pytest.raises(StoreAway):
                journal.renew("1-0")
            own.start()
            journal.append([entry(1)])
            own.kill()
            own.start()
            assert ids(journal) == ["1-1"]
            journal.release()

    def test_one_that_has_lost_its_memory_says_so(self, journal: Journal, store: Store) -> None:
        journal.append([entry(1)])
        with store.client() as client:
            client.flushall()
        writes: tuple[Call, ...] = (
            lambda: journal.append([entry(2)]),
            lambda: journal.renew("1-1"),
            lambda: journal.save(b"{}", "1-1", None),
        )
        for write in writes:
            with pytest.raises(Forgotten):
                write()
        journal.reclaim()
        journal.append([entry(2)])
        assert ids(journal) == ["1-2"]

    def test_it_is_not_reclaimed_from_one_who_owns_it_now(
        self, journal: Journal, other: Journal, store: Store
    ) -> None:
        with store.client() as client:
            client.flushall()
        other.take()
        with pytest.raises(LeaseLost):
            journal.reclaim()
