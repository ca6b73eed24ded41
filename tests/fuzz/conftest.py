"""Running systems to be fuzzed: one for each module and broker, so that what one leaves behind is
no other's.
"""

from collections.abc import Iterator

import httpx
import patience
import pytest
from support import FEEDERS

from flexfeeder.testing import MOSQUITTO, System, system

BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    ),
]


@pytest.fixture(scope="module", params=BROKERS)
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which broker a system is on."""
    return str(request.param)


@pytest.fixture(scope="module")
def running(broker_kind: str) -> Iterator[System]:
    """A whole system without meters."""
    with system(on_mosquitto=broker_kind == "mosquitto", feeders_dir=FEEDERS) as started:
        yield started


@pytest.fixture(scope="module")
def http(running: System) -> Iterator[httpx.Client]:
    with patience.client(running.url, meant={"no_reply", "deadline_passed"}) as client:
        yield client


@pytest.fixture(scope="module")
def served() -> Iterator[System]:
    """A whole system without meters, for what does not depend on the broker."""
    with system(feeders_dir=FEEDERS) as started:
        yield started
