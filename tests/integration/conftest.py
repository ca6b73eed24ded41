"""Running systems for the tests that do not disturb each other: one a broker, one at a time."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from containers import engine
from containers.servers import servers
from support import FEEDERS, loads, pids, results

from flexfeeder.testing import MOSQUITTO, System, system

BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    ),
]

SYSTEMS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(
            MOSQUITTO is None or engine.is_there(),
            reason="mosquitto is not installed, or runs in a container instead",
        ),
    ),
    pytest.param("mosquitto-in-containers", marks=engine.needed()),
]
"""What a whole system runs on: the embedded broker and store; and where an engine is, Mosquitto and
Redis in containers, else the Mosquitto of this machine.
"""


@pytest.fixture(params=BROKERS)
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which broker a test starts for itself."""
    return str(request.param)


@pytest.fixture(scope="session", params=SYSTEMS)
def running(request: pytest.FixtureRequest) -> Iterator[System]:
    """A whole system without meters."""
    with ExitStack() as stack:
        env = {}
        if request.param == "mosquitto-in-containers":
            engine.sweep()
            env = stack.enter_context(servers()).env
        on_mosquitto = request.param == "mosquitto"
        yield stack.enter_context(system(on_mosquitto=on_mosquitto, env=env, feeders_dir=FEEDERS))


@pytest.fixture
def unharmed(running: System) -> Iterator[None]:
    """Whatever a test does: no process dies of it, and none meets an error of its own."""
    before = pids(running)
    logged = running.log.stat().st_size
    yield
    assert pids(running) == before
    assert "Traceback" not in running.log.read_bytes()[logged:].decode()


@pytest.fixture(scope="session")
def _http(running: System) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=30) as client:
        yield client


@pytest.fixture
def http(_http: httpx.Client, unharmed: None) -> Iterator[httpx.Client]:
    """An HTTP client of the running system; pins and factors are put back after each test."""
    yield _http
    for (bus_name, load_name), load in loads(results(_http.get("/get_state"))).items():
        if load["source"] == "operator":
            pinned = {"bus_name": bus_name, "load_name": load_name}
            results(_http.post("/release_load", json=pinned))
        if load["factor"] != 1.0:
            nominal = {"bus_name": bus_name, "factor": 1.0}
            results(_http.post("/modify_load_household", json=nominal))


@pytest.fixture(scope="session")
def _unmetered(_http: httpx.Client) -> list[tuple[str, str]]:
    state = results(_http.get("/get_state"))
    alone = [
        (details["bus"], load["name"])
        for details in state["bus_details"]
        for load in details["loads"]
        if len(details["loads"]) == 1 and load["source"] == "nominal"
    ]
    return [name for name in alone if name[0].isdigit() and int(name[0]) >= 50]


@pytest.fixture
def unmetered(_unmetered: list[tuple[str, str]]) -> tuple[str, str]:
    """Bus and name of a load that no test has given a reading yet: a reading is there to stay."""
    return _unmetered.pop()
