"""The clock of a service jumps by an hour while the system runs: commands are refused in clear
words or carried out, once; states go on, and readings are taken again as soon as it is right.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import patience
import pytest
from support import FEEDER, FEEDERS, MqttClient, assert_refused, loads, mqtt, results

from flexfeeder.testing import System, system, wait_until

LIBRARY = next(Path("/usr").glob("lib*/**/faketime/libfaketimeMT.so.1"), None)
"""The libfaketime of this machine, None where there is none."""

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")

AHEAD, BEHIND, RIGHT = "+3600", "-3600", "+0"
STATE = f"flexfeeder/{FEEDER}/state"
LOAD = ("1", "Load_1")

CLOCKS = Path(__file__).resolve().parents[1] / "clocks"

_keys = count(1)


class Clocked:
    """A system one of whose services has a clock that can be set, and what it was asked for."""

    def __init__(self, running: System, http: httpx.Client, clock: Path) -> None:
        self.running = running
        self.http = http
        self._clock = clock

    def jump(self, offset: str) -> None:
        """Have the clock go wrong by so many seconds, from now on."""
        newer = self._clock.with_suffix(".newer")
        newer.write_text(offset, encoding="ascii")
        newer.replace(self._clock)

    def add_generator(self, key: str) -> httpx.Response:
        """One without a name: carried out twice, it would be two."""
        body = {"bus_name": "1", "kw": 0.1}
        return self.http.post("/add_generator", json=body, headers={"Idempotency-Key": key})

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = results(self.http.get("/get_state"))
        return state

    def generators(self) -> set[str]:
        return {each["name"] for b in self.state()["bus_details"] for each in b["generators"]}

    def refused_readings(self, reason: str) -> float:
        figure = f"flexfeeder_solver_readings_{reason}"
        lines = self.http.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(figure))


def _python_path() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return [path] if path else []


@contextmanager
def clocked(service: str, folder: Path) -> Iterator[Clocked]:
    """A system on which nothing is wrong yet but that ``service`` has a clock of its own."""
    clock = folder / "clock"
    env = {
        "PYTHONPATH": os.pathsep.join([str(CLOCKS), *_python_path()]),
        "CLOCK_OF": f"services.{service}",
        "CLOCK_LIBRARY": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    clock.write_text(RIGHT, encoding="ascii")
    with (
        system(env=env, feeders_dir=FEEDERS) as running,
        patience.client(running.url, meant={"deadline_passed"}) as http,
    ):
        yield Clocked(running, http, clock)


@pytest.fixture(scope="module")
def _solver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    with clocked("solver", tmp_path_factory.mktemp("clock")) as made:
        yield made


@pytest.fixture(scope="module")
def _gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    with clocked("gateway", tmp_path_factory.mktemp("clock")) as made:
        yield made


@pytest.fixture
def solver(_solver: Clocked) -> Iterator[Clocked]:
    """A system with a clock for its solver, right at the beginning and at the end of each test."""
    yield _solver
    _solver.jump(RIGHT)


@pytest.fixture
def gateway(_gateway: Clocked) -> Iterator[Clocked]:
    """The same for its gateway."""
    yield _gateway
    _gateway.jump(RIGHT)


@pytest.fixture
def meter(solver: Clocked) -> Iterator[MqttClient]:
    """Somebody who sends readings."""
    with mqtt(solver.running, "3.1.1") as client:
        yield client


def asked(asked_of: Clocked, offset: str) -> tuple[list[str], list[httpx.Response], set[str]]:
    """Ask for generators while the clock is wrong: keys, answers, and what is there of it."""
    before = asked_of.generators()
    asked_of.jump(offset)
    keys = [f"clock-{next(_keys)}" for _ in range(3)]
    answers = [asked_of.add_generator(key) for key in keys]
    return keys, answers, asked_of.generators() - before


def assert_refused_then_done_once(asked_of: Clocked, offset: str) -> None:
    keys, answers, there = asked(asked_of, offset)
    for answer in answers:
        assert_refused(answer, answer.status_code, "deadline_passed", "deadline")
    assert there == set()
    asked_of.jump(RIGHT)
    told = [results(asked_of.add_generator(key))["generator_name"] for key in keys * 2]
    assert len(set(told)) == len(keys)
    assert set(told) <= asked_of.generators()


def assert_done_once(asked_of: Clocked, offset: str) -> None:
    keys, answers, there = asked(asked_of, offset)
    told = {results(answer)["generator_name"] for answer in answers}
    assert told == there
    asked_of.jump(RIGHT)
    again = {results(asked_of.add_generator(key))["generator_name"] for key in keys}
    assert again == told
    assert len(there) == len(keys)


def test_a_solver_whose_clock_is_ahead_refuses_what_seems_late(solver: Clocked) -> None:
    assert_refused_then_done_once(solver, AHEAD)


def test_a_solver_whose_clock_is_behind_carries_out(solver: Clocked) -> None:
    assert_done_once(solver, BEHIND)


def test_what_a_gateway_asks_whose_clock_is_behind_is_refused(gateway: Clocked) -> None:
    assert_refused_then_done_once(gateway, BEHIND)


def test_what_a_gateway_asks_whose_clock_is_ahead_is_carried_out(gateway: Clocked) -> None:
    assert_done_once(gateway, AHEAD)


def test_states_go_on_and_versions_never_fall(solver: Clocked, meter: MqttClient) -> None:
    meter.subscribe(STATE)

    def has_heard(number: int) -> bool:
        return len(meter.on(STATE)) >= number

    for offset in (AHEAD, BEHIND, RIGHT):
        solver.jump(offset)
        seen = len(meter.on(STATE))
        wait_until(partial(has_heard, seen + 2), f"two states more at {offset}")
    versions = [orjson.loads(message.payload)["version"] for message in meter.on(STATE)]
    assert versions == sorted(versions)
    wait_until(solver.running.is_ready, "everybody is there")


def read(meter: MqttClient, kw: float, at: datetime | None = None) -> None:
    """Send a reading of the load."""
    reading = orjson.dumps({"kw": kw} if at is None else {"kw": kw, "at": at})
    meter.publish(f"flexfeeder/{FEEDER}/meter/{'/'.join(LOAD)}", reading)


def wait_until_shown(solver: Clocked, kw: float) -> None:
    wait_until(lambda: loads(solver.state())[LOAD]["demand_kw"] == kw, f"{kw} kW are in the state")


def test_a_reading_that_says_when_it_was_taken(solver: Clocked, meter: MqttClient) -> None:
    """It is as good as its own clock; to a solver whose clock is behind it is of the future."""
    solver.jump(AHEAD)
    read(meter, 11.0, datetime.now(UTC))
    wait_until_shown(solver, 11.0)
    solver.jump(BEHIND)
    refused = solver.refused_readings("future")
    read(meter, 12.0, datetime.now(UTC))
    wait_until(lambda: solver.refused_readings("future") == refused + 1, "it is counted")
    assert loads(solver.state())[LOAD]["demand_kw"] == 11.0
    solver.jump(RIGHT)
    read(meter, 13.0, datetime.now(UTC))
    wait_until_shown(solver, 13.0)


def test_a_reading_that_says_nothing_of_time_is_taken_whatever_the_clock_says(
    solver: Clocked, meter: MqttClient
) -> None:
    for kw, offset in enumerate((RIGHT, BEHIND, RIGHT, AHEAD, RIGHT), start=21):
        solver.jump(offset)
        read(meter, float(kw))
        wait_until_shown(solver, float(kw))


def test_once_the_clock_is_right_again_readings_are(solver: Clocked, meter: MqttClient) -> None:
    solver.jump(AHEAD)
    read(meter, 31.0)
    wait_until_shown(solver, 31.0)
    solver.jump(RIGHT)
    read(meter, 32.0, datetime.now(UTC))
    wait_until_shown(solver, 32.0)
