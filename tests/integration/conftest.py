"""Running systems for the tests that do not disturb each other: one a broker, one at a time."""

from collections.abc import Iterator

import httpx
import pytest
from support import FEEDERS, pids

from flexfeeder.testing import MOSQUITTO, System, system

BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    ),
]


@pytest.fixture(scope="session", params=BROKERS)
def running(request: pytest.FixtureRequest) -> Iterator[System]:
    """A whole system without meters. What a test changes in it, it puts back."""
    on_mosquitto = request.param == "mosquitto"
    with system(on_mosquitto=on_mosquitto, feeders_dir=FEEDERS) as started:
        yield started


@pytest.fixture
def unharmed(running: System) -> Iterator[None]:
    """Whatever a test does: no process has died by it, and none has met an error of its own."""
    before = pids(running)
    yield
    assert pids(running) == before
    log = running.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :]


@pytest.fixture
def http(running: System, unharmed: None) -> Iterator[httpx.Client]:
    """An HTTP client of the running system."""
    with httpx.Client(base_url=running.url, timeout=10) as client:
        yield client


@pytest.fixture(params=BROKERS)
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which broker a test starts for itself."""
    return str(request.param)
