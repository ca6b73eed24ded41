"""How long a REST write takes until its answer, the whole solved state, is there."""

import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any, Self

import paho.mqtt.client as paho

from benchmarks import bare
from benchmarks.figures import Row, percentile, progress, times_ms
from flexfeeder import ports
from flexfeeder.testing import MOSQUITTO, system

COUNT = 1000
WARM_UP = 200
TURNS = 10


def run() -> list[Row]:
    rows = _on("embedded broker", on_mosquitto=False, orientation_ms=5.0)
    if MOSQUITTO:
        rows += _on("Mosquitto", on_mosquitto=True, orientation_ms=4.0)
    return rows


def _on(broker: str, *, on_mosquitto: bool, orientation_ms: float) -> list[Row]:
    progress(f"REST write, beside an empty route and a bare echo, {broker}")
    taken: list[float] = []
    empty: list[float] = []
    echo: list[float] = []
    http_port = ports.free_port()
    with (
        system(on_mosquitto=on_mosquitto, env={"FLEXFEEDER_LOG_LEVEL": "ERROR"}) as running,
        bare.running("http", http_port),
        bare.running("echo", running.mqtt5_port),
        _Http(running.http_host, running.http_port) as ours,
        _Http("127.0.0.1", http_port) as theirs,
    ):
        size = len(ours.write())
        with _Echo(running.mqtt5_port, size) as echoing:
            # In turns, so that all three find the machine in the same condition.
            for _ in range(TURNS):
                taken += times_ms(ours.write, COUNT // TURNS, WARM_UP // TURNS)
                empty += times_ms(theirs.empty, COUNT // TURNS, WARM_UP // TURNS)
                echo += times_ms(echoing.once, COUNT // TURNS, WARM_UP // TURNS)
    p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
    ratio = p50 / (percentile(empty, 0.5) + percentile(echo, 0.5))
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


class _Http:
    """A caller with a connection that stays."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port)
        self._level = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def write(self) -> bytes:
        """Pin a household; returns the answer, the whole state."""
        self._level += 1
        kw = 5.0 + self._level % 7
        body = {"bus_name": "1", "load_name": "Load_1", "new_kw": kw, "new_kvar": 1.0}
        return request(self._connection, "/modify_load_household", body)

    def empty(self) -> bytes:
        return request(self._connection, "/empty", {})


class _Echo:
    """A payload of a size, sent to the bare echo and awaited at QoS 1."""

    def __init__(self, port: int, size: int) -> None:
        self._payload = b"x" * size
        self._back = threading.Event()
        self._client = bare.client(port, "bench-caller")
        self._client.on_message = self._arrived
        self._client.on_publish = lambda *_: bare.acknowledge_quickly(self._client)

    def __enter__(self) -> Self:
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.subscribe(bare.ECHO_OUT, qos=1)
        self._client.loop_start()
        subscribed.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def once(self) -> None:
        self._back.clear()
        self._client.publish(bare.ECHO_IN, self._payload, qos=1)
        if not self._back.wait(5):
            raise RuntimeError("no echo within 5 s")

    def _arrived(self, _client: paho.Client, _userdata: Any, _message: paho.MQTTMessage) -> None:
        bare.acknowledge_quickly(self._client)
        self._back.set()


def request(
    connection: http.client.HTTPConnection,
    path: str,
    body: dict[str, Any],
    method: str = "POST",
    headers: Mapping[str, str] = {},
) -> bytes:
    connection.request(method, path, json.dumps(body), headers)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {content[:200]!r}")
    return content
