"""What the gateway keeps of what it hears, and who waits for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest

from schemas.replies import ServiceStatus
from services.gateway.examples import STATE
from services.gateway.newest import MOST_FEEDERS, PLAUSIBLE_STEP, HeldState, Newest
from services.gateway.roster import LARGEST_STATUS, MOST_SERVICES, Roster


def state(version: int, feeder: str = "f") -> bytes:
    rest = {name: value for name, value in STATE.items() if name not in {"feeder", "version"}}
    return orjson.dumps({"feeder": feeder, "version": version, **rest})


@pytest.fixture
def heard() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def newest(heard: list[tuple[str, int]]) -> Newest:
    return Newest(lambda feeder, held: heard.append((feeder, held.version)))


class TestStates:
    def test_a_newer_one_is_kept_and_told(
        self, newest: Newest, heard: list[tuple[str, int]]
    ) -> None:
        for version in (1, 2, 5):
            newest.take_state("f", state(version))
        assert newest.states["f"] == HeldState(5, state(5))
        assert heard == [("f", 1), ("f", 2), ("f", 5)]

    def test_an_older_one_is_dropped(self, newest: Newest, heard: list[tuple[str, int]]) -> None:
        newest.take_state("f", state(5))
        newest.take_state("f", state(4))
        assert newest.states["f"].version == 5
        assert heard == [("f", 5)]

    def test_one_that_is_said_again_is_no_news(
        self, newest: Newest, heard: list[tuple[str, int]]
    ) -> None:
        newest.take_state("f", state(5))
        newest.take_state("f", state(5))
        assert heard == [("f", 5)]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"not json",
            b'{"feeder":"f","version":7,',
            b'{"feeder":"other","version":7,"bus_details":[]}',
            b'{"version":7,"feeder":"f","bus_details":[]}',
            b'{"feeder":"f","version":7,"x":[]}',
        ],
    )
    def test_what_is_none_is_not_kept(self, newest: Newest, body: bytes) -> None:
        newest.take_state("f", body)
        assert newest.states == {}

    def test_a_great_step_is_looked_at_more_closely(self, newest: Newest) -> None:
        newest.take_state("f", state(1))
        newest.take_state("f", b'{"feeder":"f","version":%d,' % (PLAUSIBLE_STEP + 2))
        assert newest.states["f"].version == 1
        newest.take_state("f", state(PLAUSIBLE_STEP + 2))
        assert newest.states["f"].version == PLAUSIBLE_STEP + 2

    @pytest.mark.parametrize("feeder", ["a b", "", "dfp", "reply", "service"])
    def test_what_is_no_feeder_has_none(self, newest: Newest, feeder: str) -> None:
        newest.take_state(feeder, state(1, feeder))
        assert newest.states == {}

    def test_of_so_many_feeders_and_no_more(self, newest: Newest) -> None:
        for n in range(MOST_FEEDERS + 5):
            newest.take_state(f"f{n}", state(1, f"f{n}"))
        assert len(newest.states) == MOST_FEEDERS

    def test_one_that_no_solver_can_surpass_is_forgotten(self, newest: Newest) -> None:
        """A store that was reset counts its fences from the start."""
        newest.take_state("f", state(7_000_000_001))
        newest.drop_above("f", 7)
        assert "f" in newest.states
        newest.drop_above("f", 6)
        assert newest.states == {}


class TestReached:
    def test_one_that_is_there_is_not_waited_for(self, newest: Newest) -> None:
        newest.take_state("f", state(5))
        assert run(newest.reached("f", 4)).version == 5

    def test_a_newer_one_will_do(self, newest: Newest) -> None:
        assert run(newest.reached("f", 5), lambda: newest.take_state("f", state(6))).version == 6

    def test_an_older_one_and_another_feeders_will_not(self, newest: Newest) -> None:
        def arrive() -> None:
            newest.take_state("f", state(4))
            newest.take_state("g", state(9, "g"))
            newest.take_state("f", state(5))

        assert run(newest.reached("f", 5), arrive).body == state(5)

    def test_many_wait_for_one(self, newest: Newest) -> None:
        async def all_three() -> list[HeldState]:
            return await asyncio.gather(*(newest.reached("f", version) for version in (3, 4, 5)))

        found = run(all_three(), lambda: newest.take_state("f", state(5)))
        assert [held.version for held in found] == [5, 5, 5]

    def test_who_gives_up_leaves_nothing_behind(self, newest: Newest) -> None:
        async def give_up() -> None:
            task = asyncio.create_task(newest.reached("f", 9))
            await asyncio.sleep(0)
            newest.take_state("f", state(1))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        run(give_up())
        assert newest._waiting == {"f": []}


def run(waiting: Coroutine[Any, Any, Any], arrive: Callable[[], None] = lambda: None) -> Any:
    """What a coroutine returns that waits until something has arrived."""

    async def both() -> Any:
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        arrive()
        return await task

    return asyncio.run(both())


class TestRoster:
    @pytest.fixture
    def roster(self) -> Roster:
        return Roster()

    def test_a_service_is_online_while_it_says_so(self, roster: Roster) -> None:
        assert not roster.is_online("solver-f")
        roster.take("solver-f", b'{"status":"online","service":"solver"}')
        assert roster.is_online("solver-f")
        roster.take("solver-f", b'{"status":"offline","service":"solver"}')
        assert not roster.is_online("solver-f")
        assert "solver-f" in roster

    def test_a_cleared_status_takes_it_off_the_list(self, roster: Roster) -> None:
        roster.take("gateway-1", b'{"status":"online","service":"gateway"}')
        roster.take("gateway-1", b"")
        assert "gateway-1" not in roster

    def test_it_gives_what_each_said_last(self, roster: Roster) -> None:
        said = b'{"status":"online","service":"s","figures":{"n":%d}}'
        assert roster.take("b", said % 1) == ServiceStatus(
            status="online", service="s", figures={"n": 1.0}
        )
        roster.take("a", said % 2)
        roster.take("b", said % 3)
        assert [(name, status.figures) for name, status in roster.statuses()] == [
            ("a", {"n": 2.0}),
            ("b", {"n": 3.0}),
        ]

    def test_what_is_no_status_changes_nothing(self, roster: Roster) -> None:
        said = b'{"status":"online","service":"s"}'
        for instance, payload in (
            ("s", b"{"),
            ("s", b'{"status":"well"}'),
            ("s", said + b" " * LARGEST_STATUS),
            ("a b", said),
        ):
            assert roster.take(instance, payload) is None
            assert instance not in roster

    def test_so_many_are_kept_and_no_more(self, roster: Roster) -> None:
        for n in range(MOST_SERVICES + 5):
            roster.take(f"s{n}", b'{"status":"online","service":"s"}')
        assert len(list(roster.statuses())) == MOST_SERVICES
