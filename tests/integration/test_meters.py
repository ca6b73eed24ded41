"""Simulated meters as a process of their own, on a street of two loads and either broker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from support import Broker, MqttClient

from flexfeeder import ports
from flexfeeder.testing import wait_until
from schemas.readings import Reading
from schemas.topology import LoadPoint, Topology

METER_1, METER_2 = "flexfeeder/street/meter/1/Load_1", "flexfeeder/street/meter/2/Load_2"
BATCH = "flexfeeder/street/meters"
SETPOINT_1 = "flexfeeder/street/setpoint/1/Load_1"
ONE_KW = b'{"max_kw": 1.0, "pf": null, "reason": "overload"}'
STREET = Topology(
    feeder="street",
    name="High Street",
    buses=(),
    lines=(),
    transformers=(),
    loads=tuple(
        LoadPoint(name=f"Load_{n}", bus=f"{n}", phases=("A",), nominal_kw=40.0, nominal_kvar=20.0)
        for n in (1, 2)
    ),
    neighbourhoods=(),
)

FOREIGN_1 = {"bus": "1", "element": "LOAD_1", "kw": 7.0}
INVALID = {
    "no JSON": (METER_1, b"{"),
    "nothing": (METER_1, b""),
    "no kW": (METER_1, b'{"kvar": 1.0}'),
    "kW as text": (METER_1, b'{"kw": "7.0"}'),
    "another load": ("flexfeeder/street/meter/3/Load_3", b'{"kw": 7.0}'),
    "a batch that is none": (BATCH, b"[]"),
    "a batch with a bad reading": (
        BATCH,
        orjson.dumps({"readings": [FOREIGN_1, {**FOREIGN_1, "kw": "7.0"}]}),
    ),
    "a batch for another load": (BATCH, orjson.dumps({"readings": [{**FOREIGN_1, "bus": "3"}]})),
}


@pytest.fixture
def client(broker_kind: str, tmp_path: Path) -> Iterator[MqttClient]:
    """Somebody on the bus who hears every reading."""
    broker = Broker(broker_kind, tmp_path)
    broker.start()
    try:
        with MqttClient(broker.port, protocol="5") as listener:
            listener.subscribe("flexfeeder/street/meter/#")
            yield listener
    finally:
        broker.kill()


def environment(port: int, folder: Path) -> dict[str, str]:
    """Settings for meters of the street."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    return env | {
        "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
        "FLEXFEEDER_MQTT_PORT": str(port),
        "FLEXFEEDER_FEEDER": "street",
        "FLEXFEEDER_DATA_DIR": str(folder),
    }


@contextmanager
def meters(client: MqttClient, folder: Path) -> Iterator[None]:
    """``flexfeeder meters``, each meter twenty times a second."""
    command = [sys.executable, "-m", "flexfeeder", "meters", "--interval", "0.05"]
    with (folder / "meters.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            env=environment(client._port, folder),
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            status = process.wait(10)
        log.seek(0)
        assert "Traceback" not in log.read()
        assert status == 0


@pytest.fixture
def metered(client: MqttClient, tmp_path: Path) -> Iterator[MqttClient]:
    """Both loads are metered."""
    client.publish("flexfeeder/street/topology", STREET.model_dump_json().encode(), retain=True)
    with meters(client, tmp_path):
        client.first_on(METER_1)
        client.first_on(METER_2)
        yield client


def wait_for_more(client: MqttClient, topic: str, count: int, when: str = "") -> None:
    """Wait for so many more readings of a meter."""
    wanted = len(client.on(topic)) + count
    wait_until(lambda: len(client.on(topic)) >= wanted, f"{count} more on {topic} {when}")


def wait_until_silent(client: MqttClient, topic: str) -> None:
    """Wait until the last readings are all another meter's: they take turns otherwise."""

    def is_silent() -> bool:
        last = client.heard[-5:]
        return all(message.topic != topic for message in last)

    wait_until(is_silent, f"nothing on {topic} while others go on")


def newest(client: MqttClient, topic: str) -> dict[str, Any]:
    reading: dict[str, Any] = orjson.loads(client.on(topic)[-1].payload)
    return reading


class TestReadings:
    def test_each_load_is_read_in_turn(self, metered: MqttClient) -> None:
        wait_for_more(metered, METER_1, 5)
        last = [message.topic for message in metered.heard[-6:]]
        assert last in ([METER_1, METER_2] * 3, [METER_2, METER_1] * 3)
        reading = Reading.model_validate_json(metered.on(METER_1)[-1].payload)
        assert 0.0 < reading.kw < 60.0
        assert reading.kvar == pytest.approx(reading.kw / 2, abs=1e-4)
        assert reading.demand_kw is None
        assert reading.at is not None

    @pytest.mark.parametrize("interval", ["0", "-1", "nan"])
    def test_an_interval_that_is_none_is_refused(self, tmp_path: Path, interval: str) -> None:
        nowhere = ports.free_port()
        ended = subprocess.run(
            [sys.executable, "-m", "flexfeeder", "meters", "--interval", interval],
            env=environment(nowhere, tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 2
        assert "--interval" in ended.stderr
        assert "Traceback" not in ended.stderr


class TestStepAside:
    @pytest.mark.parametrize(
        ("topic", "payload"),
        [(METER_1, b'{"kw": 7.0}'), (BATCH, orjson.dumps({"readings": [FOREIGN_1]}))],
        ids=["single", "batch"],
    )
    def test_a_simulated_meter_makes_way_for_a_reading_of_somebody_else(
        self, metered: MqttClient, topic: str, payload: bytes
    ) -> None:
        metered.publish(topic, payload)
        wait_until_silent(metered, METER_1)
        heard = len(metered.on(METER_1))
        wait_for_more(metered, METER_2, 10)
        assert len(metered.on(METER_1)) == heard

    def test_it_goes_on_after_what_the_solver_refuses(self, metered: MqttClient) -> None:
        for name, (topic, payload) in INVALID.items():
            metered.publish(topic, payload)
            wait_for_more(metered, METER_1, 5, f"after {name}")


class TestSetpoint:
    def test_it_is_obeyed_until_it_is_taken_back(self, metered: MqttClient) -> None:
        metered.publish(SETPOINT_1, ONE_KW, retain=True)
        wait_until(lambda: newest(metered, METER_1)["kw"] == 1.0, "it draws 1 kW")
        held = newest(metered, METER_1)
        assert held["demand_kw"] > 1.0
        assert held["kvar"] == 0.5
        assert newest(metered, METER_2)["kw"] > 1.0
        metered.publish(SETPOINT_1, b"", retain=True)
        wait_until(lambda: newest(metered, METER_1)["kw"] > 1.0, "it draws what it wants")
        assert "demand_kw" not in newest(metered, METER_1)

    def test_one_that_was_there_before_the_meters_is_obeyed(
        self, client: MqttClient, tmp_path: Path
    ) -> None:
        client.publish(SETPOINT_1, ONE_KW, retain=True)
        client.publish("flexfeeder/street/topology", STREET.model_dump_json().encode(), retain=True)
        with meters(client, tmp_path):
            client.first_on(METER_1)
            wait_until(lambda: newest(client, METER_1)["kw"] == 1.0, "it draws 1 kW")

    def test_one_that_comes_before_the_topology_is_obeyed(
        self, client: MqttClient, tmp_path: Path
    ) -> None:
        """As when meters and setpoints are there before the solver."""
        client.subscribe("flexfeeder/service/+/status")
        with meters(client, tmp_path):
            wait_until(lambda: bool(client.heard), "the meters are online")
            client.publish(SETPOINT_1, ONE_KW, retain=True)
            topology = STREET.model_dump_json().encode()
            client.publish("flexfeeder/street/topology", topology, retain=True)
            client.first_on(METER_1)
            wait_until(lambda: newest(client, METER_1)["kw"] == 1.0, "it draws 1 kW")
