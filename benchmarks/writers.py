"""How many writes a second two hundred writers make beside one, and what a write then costs."""

import asyncio
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable

import httpx
import orjson
import paho.mqtt.client as paho

from benchmarks import bare
from benchmarks.figures import Row, progress
from benchmarks.readings import QUIET
from flexfeeder.testing import MOSQUITTO, System, system

WRITERS = 200
SECONDS = 4.0
TURNS = 3
ASKED = 2.5

Count = Callable[[int], float]
"""Writes a second of so many writers."""


def run() -> list[Row]:
    rows = []
    with system(on_mosquitto=MOSQUITTO is not None, env=QUIET) as running:
        for way, count in (("MQTT", _Mqtt(running).count), ("REST", _Rest(running).count)):
            progress(f"{WRITERS} writers beside one, over {way}")
            rows += _compare(running, way, count)
    return rows


def _compare(running: System, way: str, count: Count) -> list[Row]:
    one = many = 0.0
    spent = {"commands": 0.0, "solves": 0.0, "journal_calls": 0.0}
    for _ in range(TURNS):
        one += count(1) / TURNS
        before = _figures(running)
        many += count(WRITERS) / TURNS
        after = _figures(running)
        for figure in spent:
            spent[figure] += after[figure] - before[figure]
    written = spent["commands"]
    return [
        Row(
            f"{WRITERS} writers, {way}",
            f"{many:.0f} writes/s; {spent['solves'] / written:.3f} solves and "
            f"{spent['journal_calls'] / written:.3f} round trips to the store a write",
            f"one writer {one:.0f} writes/s",
            f"ratio at least {ASKED:g}: {many / one:.2f}",
            many >= ASKED * one,
        )
    ]


def _figures(running: System) -> dict[str, float]:
    """The solver's counters, by the heartbeat that comes within a second."""
    time.sleep(1.5)
    text = httpx.get(f"{running.url}/metrics").text
    found = {}
    for figure in ("commands", "solves", "journal_calls"):
        start = text.index(f"flexfeeder_solver_{figure}{{")
        found[figure] = float(text[start:].split("\n", 1)[0].rsplit(" ", 1)[1])
    return found


def _body(number: int) -> dict[str, object]:
    return {
        "bus_name": "1",
        "load_name": "Load_1",
        "new_kw": 5.0 + number % 7,
        "new_kvar": 1.0,
    }


class _Mqtt:
    """Writers that share one client: each sends its next command when it has its reply."""

    def __init__(self, running: System) -> None:
        self._name = f"bench-{uuid.uuid4().hex[:8]}"
        self._client = bare.client(running.mqtt5_port, self._name)
        self._client.on_message = self._replied
        self._reply_to = f"flexfeeder/reply/{self._name}"
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.subscribe(self._reply_to, qos=1)
        self._client.loop_start()
        subscribed.wait(5)
        self._sent = self._done = 0
        self._is_over = False

    def count(self, writers: int) -> float:
        self._is_over, start = False, self._done
        began = time.perf_counter()
        for _ in range(writers):
            self._send()
        time.sleep(SECONDS)
        self._is_over = True
        taken, written = time.perf_counter() - began, self._done - start
        deadline = time.monotonic() + 10
        while self._done < self._sent and time.monotonic() < deadline:
            time.sleep(0.01)
        return written / taken

    def _send(self) -> None:
        self._sent += 1
        envelope = {"request_id": uuid.uuid4().hex, "reply_to": self._reply_to}
        self._client.publish(
            "flexfeeder/ieee123/command/set_load",
            orjson.dumps({**_body(self._sent), **envelope}),
            qos=1,
        )

    def _replied(self, _client: paho.Client, _userdata: object, _message: object) -> None:
        self._done += 1
        if not self._is_over:
            self._send()


class _Rest:
    """Writers with a connection each, in a process of their own."""

    def __init__(self, running: System) -> None:
        self._running = running

    def count(self, writers: int) -> float:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # the figures go through the pipe, and nothing of ours is cleaned up twice
            try:
                written = asyncio.run(self._write_all(writers))
                os.write(writer, json.dumps(written / SECONDS).encode())
            finally:
                os._exit(0)
        os.close(writer)
        try:
            with os.fdopen(reader) as output:
                return float(json.loads(output.read()))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    async def _write_all(self, writers: int) -> int:
        until = time.monotonic() + SECONDS
        return sum(await asyncio.gather(*(self._write(n, until) for n in range(writers))))

    async def _write(self, number: int, until: float) -> int:
        source, sink = await asyncio.open_connection(
            self._running.http_host, self._running.http_port, limit=1 << 20
        )
        written = 0
        while time.monotonic() < until:
            body = json.dumps(_body(number + written)).encode()
            head = (
                "POST /modify_load_household HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            sink.write(head.encode() + body)
            answer = await source.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer[:200])
            length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0])
            await source.readexactly(length)
            written += 1
        sink.close()
        return written
