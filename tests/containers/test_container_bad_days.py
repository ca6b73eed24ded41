"""A store that answers and will not write: its disk is full, or its memory. What was accepted
stays, what was refused was not done, and with room again the system goes on by itself.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import httpx
import orjson
import patience
import pytest
from support import FEEDER, FEEDERS, assert_refused, bus, loads, mqtt, pids, results

from containers.servers import TMPFS, Server, servers
from flexfeeder.testing import System, system, wait_until
from schemas.state import VERSIONS_PER_FENCE


class Day(NamedTuple):
    """How a store comes to be full, and to have room again."""

    options: tuple[str, ...]
    tmpfs: str | None
    fill: tuple[str, ...]
    make_room: tuple[str, ...]


_FILLER = f"{TMPFS}/filler"
_MAXMEMORY = ("redis-cli", "config", "set", "maxmemory")

DAYS = {
    # With "always" a store that cannot write ends: see the end of this file.
    "disk-full": Day(
        ("--appendfsync", "everysec"),
        "4m",
        ("sh", "-c", f"dd if=/dev/zero of={_FILLER} bs=1k; test -s {_FILLER}"),
        ("rm", "-f", _FILLER),
    ),
    "out-of-memory": Day(("--appendfsync", "always"), None, (*_MAXMEMORY, "1"), (*_MAXMEMORY, "0")),
}


class Full:
    """A system whose store can be filled up, and what it was asked for."""

    def __init__(
        self, day: Day, store: Server, running: System, http: httpx.Client, told: httpx.Client
    ) -> None:
        """``told`` is a client that takes a refusal for an answer."""
        self.running = running
        self.http = http
        self._told = told
        self.accepted: set[str] = set()
        """Names of devices and programs."""
        self._day = day
        self._store = store
        self._number = 0

    def fill(self) -> None:
        self._store.run(*self._day.fill)

    def make_room(self) -> None:
        self._store.run(*self._day.make_room)

    def add_device(self, name: str) -> httpx.Response:
        body = {"bus_name": "1", "device_name": name, "kw": 0.1}
        return self._asked("/add_device", name, body)

    def register(self, name: str) -> httpx.Response:
        return self._asked("/register_dfp", name, {"name": name, "min_power_kw": 1, "target_pf": 1})

    def until_refused(self, ask: Callable[[str], httpx.Response]) -> str:
        """Ask for one after the other until one is refused, in clear words; its name.

        A store that writes behind its answers notices with the next write that there is no room.
        """
        answers: list[tuple[str, httpx.Response]] = []

        def is_refused() -> bool:
            self._number += 1
            name = f"number_{self._number}"
            answers.append((name, ask(name)))
            return answers[-1][1].status_code != 200

        wait_until(is_refused, "the store is full")
        name, answer = answers[-1]
        assert_refused(answer, 503, "service_unavailable", "store")
        assert answer.json()["message"].endswith("nothing was changed")
        return name

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = results(self.http.get("/get_state"))
        return state

    def there(self) -> set[str]:
        """Names of the devices and programs that there are."""
        programs = results(self.http.get("/dfps"))
        devices = bus(self.state(), "1")["devices"]
        return {each["name"] for each in (*programs, *devices)}

    def _asked(self, path: str, name: str, body: dict[str, Any]) -> httpx.Response:
        answers: list[httpx.Response] = []

        def is_of_the_store() -> bool:
            answers.append(self._told.post(path, json=body, headers={"Idempotency-Key": name}))
            return answers[-1].status_code != 503 or "store" in _fields(answers[-1])

        wait_until(is_of_the_store, "nobody else is away")
        if answers[-1].status_code == 200:
            self.accepted.add(name)
        return answers[-1]


def _fields(answer: httpx.Response) -> list[str]:
    return [detail["field"] for detail in answer.json()["details"]]


@contextmanager
def full_of(day: Day, store: Server, running: System) -> Iterator[Full]:
    """Such a system, and those who ask of it."""
    with (
        patience.client(running.url) as http,
        patience.client(running.url, meant={"service_unavailable"}) as told,
    ):
        yield Full(day, store, running, http, told)


@pytest.fixture(scope="module", params=DAYS)
def _full(request: pytest.FixtureRequest) -> Iterator[Full]:
    day = DAYS[request.param]
    with (
        servers(day.options, store_tmpfs=day.tmpfs) as made,
        system(env=made.env, feeders_dir=FEEDERS) as running,
        full_of(day, made.store, running) as full,
    ):
        yield full


@pytest.fixture
def full(_full: Full) -> Iterator[Full]:
    """A system whose store has room before each test, and after it."""
    yield _full
    _full.make_room()
    wait_until(_full.running.is_ready, "the system heals by itself")


def test_nothing_accepted_is_lost_and_nothing_refused_is_done(full: Full) -> None:
    for number in range(3):
        results(full.add_device(f"device_{number}"))
        results(full.register(f"program_{number}"))
    services = pids(full.running)
    full.fill()
    given_up = [full.until_refused(full.add_device), full.until_refused(full.register)]
    device = full.until_refused(full.add_device)
    full.make_room()

    def is_accepted(ask: Callable[[str], httpx.Response], name: str) -> bool:
        return ask(name).status_code == 200

    for name, ask in ((device, full.add_device), ("program", full.register)):
        wait_until(partial(is_accepted, ask, name), f"{name} is accepted")
    wait_until(full.running.is_ready, "the system heals by itself")
    assert pids(full.running) == services, "no service ends of it"

    version = full.state()["version"]
    os.kill(services["solver"], signal.SIGKILL)
    wait_until(
        lambda: full.state()["version"] // VERSIONS_PER_FENCE > version // VERSIONS_PER_FENCE,
        "the next solver has read what was kept",
    )
    assert full.there() == full.accepted
    assert full.accepted.isdisjoint(given_up)


def test_readings_and_states_go_on(full: Full) -> None:
    full.fill()
    full.until_refused(full.add_device)
    version = full.state()["version"]
    with mqtt(full.running) as meter:

        def is_shown() -> bool:
            reading = orjson.dumps({"kw": 12.5})
            meter.publish(f"flexfeeder/{FEEDER}/meter/1/Load_1", reading)
            return bool(loads(full.state())["1", "Load_1"]["demand_kw"] == 12.5)

        wait_until(is_shown, "the reading is in the state", every_s=0.1)
    assert full.state()["version"] > version
    assert results(full.http.post("/run_simulation"))["converged"]
    full.until_refused(full.add_device)


def test_programs_can_be_read(full: Full) -> None:
    results(full.register("to_be_read"))
    full.fill()
    full.until_refused(full.register)
    assert "to_be_read" in {each["name"] for each in results(full.http.get("/dfps"))}


def test_a_store_that_ends_for_want_of_room_is_started_again_until_there_is_some() -> None:
    """With `appendfsync always`, as it is deployed, it does not stay to refuse."""
    day = DAYS["disk-full"]
    with (
        servers(store_tmpfs=day.tmpfs, store_comes_back=True) as made,
        system(env=made.env, feeders_dir=FEEDERS) as running,
        full_of(day, made.store, running) as full,
    ):
        for number in range(3):
            results(full.add_device(f"device_{number}"))
        full.fill()
        names = iter(f"late_{number}" for number in range(10_000))
        asked: list[str] = []

        def is_refused() -> bool:
            asked.append(next(names))
            # 409 as long as nobody knows what became of it: the store may not come back for long.
            return full.add_device(asked[-1]).status_code in {409, 503, 504}

        wait_until(is_refused, "the store is full")
        assert results(full.http.post("/run_simulation"))["converged"]
        full.make_room()
        wait_until(
            lambda: full.add_device(asked[-1]).status_code == 200,
            "what was not accepted is, asked for again",
        )
        version = full.state()["version"]
        os.kill(running.pid("solver"), signal.SIGKILL)
        wait_until(
            lambda: full.state()["version"] // VERSIONS_PER_FENCE > version // VERSIONS_PER_FENCE,
            "the next solver has read what was kept",
        )
        wait_until(running.is_ready, "the system heals by itself")
        assert full.there() == full.accepted
        assert full.accepted == {"device_0", "device_1", "device_2", *asked}
