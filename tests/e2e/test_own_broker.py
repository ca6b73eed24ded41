"""Two lives of the system on one Mosquitto that remembers the first: its store is a new one."""

import os
import signal
from collections.abc import Iterator

import orjson
import patience
import pytest
from support import FEEDER, FEEDERS, MqttClient, loads, results

from flexfeeder.testing import MOSQUITTO, System, mosquitto, system, wait_until
from schemas.state import VERSIONS_PER_FENCE

STATE = f"flexfeeder/{FEEDER}/state"
PIN = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def port() -> Iterator[int]:
    """Of the broker."""
    with mosquitto() as found:
        yield found


def version_of(running: System) -> int:
    return int(results(patience.get(f"{running.url}/get_state"))["version"])


def test_a_store_that_counts_from_one_again_is_obeyed_at_once(port: int) -> None:
    """The retained state of the first life bears a version that the second one never reaches."""
    env = {"FLEXFEEDER_MQTT_HOST": "127.0.0.1", "FLEXFEEDER_MQTT_PORT": str(port)}
    with system(feeders_dir=FEEDERS, env=env) as first:
        # Each start of a solver takes the next fence, which counts for so many versions.
        once = version_of(first)
        os.kill(first.pid("solver"), signal.SIGKILL)
        wait_until(
            lambda: version_of(first) // VERSIONS_PER_FENCE > once // VERSIONS_PER_FENCE,
            "the state of another solver",
        )
        before = version_of(first)
    with MqttClient(port, protocol="5") as client:
        client.subscribe(STATE)
        assert orjson.loads(client.first_on(STATE).payload)["version"] >= before
    with system(feeders_dir=FEEDERS, env=env) as second:
        with patience.client(second.url) as http:
            written = results(http.post("/modify_load_household", json=PIN))
        assert loads(written)["1", "Load_1"]["set_kw"] == 5.0
        assert written["version"] < before
        read = results(patience.get(f"{second.url}/get_state"))
        assert loads(read)["1", "Load_1"]["set_kw"] == 5.0
        assert written["version"] <= read["version"] < before
