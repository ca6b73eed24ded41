"""How long a REST write takes until its answer, the whole solved state, is there."""

import http.client
import json
import threading
from typing import Any

import paho.mqtt.client as paho

from benchmarks import bare
from benchmarks.figures import Row, percentile, progress, times_ms
from flexfeeder import ports
from flexfeeder.testing import MOSQUITTO, System, system

COUNT = 1000
WARM_UP = 100


def run() -> list[Row]:
    rows = _on("embedded broker", on_mosquitto=False, orientation_ms=5.0)
    if MOSQUITTO:
        rows += _on("Mosquitto", on_mosquitto=True, orientation_ms=4.0)
    return rows


def _on(broker: str, *, on_mosquitto: bool, orientation_ms: float) -> list[Row]:
    with system(on_mosquitto=on_mosquitto, env={"FLEXFEEDER_LOG_LEVEL": "ERROR"}) as running:
        progress(f"REST write, {broker}")
        taken, size = write_times(running, COUNT, WARM_UP)
        progress(f"bare MQTT echo, {broker}")
        with bare.running("echo", running.mqtt5_port):
            echo = _echo_times(running.mqtt5_port, size)
    progress("empty FastAPI route")
    port = ports.free_port()
    with bare.running("http", port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        empty = times_ms(lambda: request(connection, "/empty", {}), COUNT, WARM_UP)
        connection.close()
    p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
    baseline = percentile(empty, 0.5) + percentile(echo, 0.5)
    ratio = p50 / baseline
    return [
        Row(
            f"REST write to whole state, {broker}",
            f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, {size} bytes",
            f"empty route {percentile(empty, 0.5):.2f} + echo {percentile(echo, 0.5):.2f} ms",
            f"ratio at most 2.5: {ratio:.2f}; p50 about {orientation_ms:g} ms; "
            f"p99 at most 2.5 x p50: {p99 / p50:.2f}",
            ratio <= 2.5 and p99 <= 2.5 * p50,
        )
    ]


def write_times(running: System, count: int, warm_up: int) -> tuple[list[float], int]:
    """Milliseconds of household writes, and the bytes of an answer."""
    connection = http.client.HTTPConnection(running.http_host, running.http_port)
    size = 0
    level = 0

    def write() -> None:
        nonlocal size, level
        level += 1
        body = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0 + level % 7, "new_kvar": 1.0}
        size = len(request(connection, "/modify_load_household", body))

    taken = times_ms(write, count, warm_up)
    connection.close()
    return taken, size


def request(connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> bytes:
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {content[:200]!r}")
    return content


def _echo_times(port: int, size: int) -> list[float]:
    """Milliseconds of a payload of that size there and back, at QoS 1."""
    back = threading.Event()
    made = bare.client(port, "bench-caller")

    def arrived(_client: paho.Client, _userdata: Any, _message: paho.MQTTMessage) -> None:
        bare.acknowledge_quickly(made)
        back.set()

    made.on_message = arrived
    made.on_publish = lambda *_: bare.acknowledge_quickly(made)
    subscribed = threading.Event()
    made.on_subscribe = lambda *_: subscribed.set()
    made.subscribe(bare.ECHO_OUT, qos=1)
    made.loop_start()
    subscribed.wait(5)
    payload = b"x" * size

    def echo() -> None:
        back.clear()
        made.publish(bare.ECHO_IN, payload, qos=1)
        if not back.wait(5):
            raise RuntimeError("no echo within 5 s")

    taken = times_ms(echo, COUNT, WARM_UP)
    made.disconnect()
    made.loop_stop()
    return taken
