"""How many readings a second the solver takes, how soon they show, and what commands feel of it."""

import http.client
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import orjson
import paho.mqtt.client as paho
import psutil

from benchmarks import bare
from benchmarks.caller import calling
from benchmarks.figures import Row, percentile, progress
from benchmarks.generator import Generator, seen
from flexfeeder.testing import MOSQUITTO, System, system, wait_until

SINGLE_RATE = 8_000
BATCH_RATE = 100_000
BATCH_SIZE = 100
SECONDS = 60
IDLE_SECONDS = 10
BATCH_SECONDS = 20
SATURATION_RATE = 100_000
SATURATION_S = 8
LAG_MS = 250
COMMANDS_HZ = 10
QUIET = {"FLEXFEEDER_LOG_LEVEL": "ERROR"}


def run() -> list[Row]:
    rows = _on("embedded broker", on_mosquitto=False)
    if MOSQUITTO:
        rows += _on("Mosquitto", on_mosquitto=True)
    return rows


def _on(broker: str, *, on_mosquitto: bool) -> list[Row]:
    with system(on_mosquitto=on_mosquitto, env=QUIET) as running:
        loads = loads_of(running)
        progress(f"commands, {COMMANDS_HZ} a second, idle")
        with calling(running, COMMANDS_HZ) as idle:
            time.sleep(IDLE_SECONDS)
        idle_ms = percentile(idle, 0.5)
        progress(f"{SINGLE_RATE} single readings a second for {SECONDS} s, {broker}")
        memory_before = _solver_memory_mb(running)
        with calling(running, COMMANDS_HZ) as meanwhile, _observed(running, loads) as flood:
            flood.generator.singles(SINGLE_RATE, SECONDS)
        memory = _solver_memory_mb(running)
        progress(f"{BATCH_RATE} readings a second in batches for {BATCH_SECONDS} s, {broker}")
        with _observed(running, loads) as batched:
            batched.generator.batches(BATCH_RATE, BATCH_SECONDS, BATCH_SIZE)
        progress(f"more than goes through, {broker}")
        ours = _saturated(running, loads)
        progress(f"more than goes through, bare subscriber, {broker}")
        theirs = _saturated_bare(running, loads)
    lag, batch_lag = percentile(flood.lag_ms, 0.99), percentile(batched.lag_ms, 0.99)
    command_ms = percentile(meanwhile, 0.5)
    return [
        Row(
            f"single readings, {broker}",
            f"{flood.rate:,.0f}/s, {flood.taken:.2%} taken, in the state after p99 {lag:.0f} ms",
            "-",
            f"{SINGLE_RATE:,}/s for {SECONDS} s, all, within {LAG_MS} ms",
            flood.taken >= 1 and lag <= LAG_MS and flood.rate >= 0.99 * SINGLE_RATE,
        ),
        Row(
            f"REST write meanwhile, {broker}",
            f"p50 {command_ms:.2f} ms, p99 {percentile(meanwhile, 0.99):.2f} ms",
            f"idle p50 {idle_ms:.2f} ms",
            f"ratio at most 3: {command_ms / idle_ms:.2f}",
            command_ms <= 3 * idle_ms,
        ),
        Row(
            f"solver's memory over that minute, {broker}",
            f"{memory:.1f} MB",
            f"before {memory_before:.1f} MB",
            "bounded",
            memory < 1.2 * memory_before,
        ),
        Row(
            f"single readings, as many as go through, {broker}",
            f"{ours:,.0f}/s",
            f"bare paho subscriber {theirs:,.0f}/s",
            f"ratio at least 0.7: {ours / theirs:.2f}",
            ours >= 0.7 * theirs,
        ),
        Row(
            f"readings in batches of {BATCH_SIZE}, {broker}",
            f"{batched.rate:,.0f}/s, {batched.taken:.2%} taken, "
            f"in the state after p99 {batch_lag:.0f} ms",
            "-",
            f"{BATCH_RATE:,}/s, all",
            batched.taken >= 1 and batched.rate >= 0.99 * BATCH_RATE,
        ),
    ]


class Flood:
    """A flood of readings, watched through the states."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.lag_ms: list[float] = []
        self.rate = 0.0
        self.taken = 0.0
        self._shown = [0] * len(generator.sent_at)

    def show(self, state: dict[str, Any], index: dict[tuple[str, str], int], now: float) -> None:
        """Take the lag of each reading that this state is the first to contain."""
        for bus in state["bus_details"]:
            for load in bus["loads"]:
                if load["source"] != "meter":
                    continue
                which = index[bus["bus"], load["name"]]
                sent = self.generator.sent_at[which]
                upto = min(seen(load["demand_kw"]), len(sent))
                self.lag_ms += [1000 * (now - at) for at in sent[self._shown[which] : upto]]
                self._shown[which] = max(self._shown[which], upto)

    @property
    def is_shown(self) -> bool:
        return sum(self._shown) >= self.generator.sent


class SolverStatus:
    """The solver's heartbeat: how many readings it has taken, and when it said so."""

    def __init__(self, port: int) -> None:
        self._heard: list[tuple[float, float]] = []
        self._client = bare.client(port, "bench-status")
        self._client.on_message = self._arrived
        self._client.subscribe("flexfeeder/service/solver-ieee123/status", qos=0)
        self._client.loop_start()

    def taken(self) -> tuple[float, float]:
        """Epoch seconds of the next heartbeat, and the readings taken until then."""
        self._heard.clear()
        wait_until(lambda: bool(self._heard), "the solver's heartbeat")
        return self._heard[-1]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _arrived(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if message.retain:
            return
        status = orjson.loads(message.payload)
        figures = status["figures"]
        readings = figures.get("readings_accepted", 0.0) + figures.get("readings_stale", 0.0)
        self._heard.append((datetime.fromisoformat(status["at"]).timestamp(), readings))


@contextmanager
def _observed(running: System, loads: list[tuple[str, str]]) -> Iterator[Flood]:
    """Watch what the body sends through ``flood.generator`` until all of it is in the state."""
    flood = Flood(Generator(running.mqtt_port, loads))
    index = {load: number for number, load in enumerate(loads)}
    client = bare.client(running.mqtt5_port, "bench-observer")

    def arrived(_client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        now = time.monotonic()
        if not message.retain:
            flood.show(orjson.loads(message.payload), index, now)

    client.on_message = arrived
    client.subscribe("flexfeeder/ieee123/state", qos=0)
    client.loop_start()
    status = SolverStatus(running.mqtt5_port)
    _, before = status.taken()
    start = time.monotonic()
    yield flood
    flood.rate = flood.generator.sent / (time.monotonic() - start)
    with suppress(TimeoutError):
        wait_until(lambda: flood.is_shown, "all readings are in the state", timeout_s=3)
    status.taken()
    flood.taken = (status.taken()[1] - before) / flood.generator.sent
    status.close()
    client.disconnect()
    client.loop_stop()
    flood.generator.close()


@contextmanager
def _flooding(running: System, loads: list[tuple[str, str]]) -> Iterator[None]:
    """More single readings than anyone takes."""
    generator = Generator(running.mqtt_port, loads)
    thread = threading.Thread(target=generator.singles, args=(SATURATION_RATE, SATURATION_S))
    thread.start()
    time.sleep(1)
    yield
    thread.join()
    generator.close()


def _saturated(running: System, loads: list[tuple[str, str]]) -> float:
    """Readings a second that the solver takes when more are sent."""
    status = SolverStatus(running.mqtt5_port)
    with _flooding(running, loads):
        then, before = status.taken()
        time.sleep(SATURATION_S / 2)
        now, after = status.taken()
    status.close()
    return (after - before) / (now - then)


def _saturated_bare(running: System, loads: list[tuple[str, str]]) -> float:
    """Messages a second that a bare paho subscriber takes, the services standing still."""
    pids = [running.pid(name) for name in ("solver", "gateway", "dfp_manager")]
    with bare.running("subscriber", running.mqtt5_port) as subscriber:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            with _flooding(running, loads):
                then, before = _count(subscriber)
                time.sleep(SATURATION_S / 2)
                now, after = _count(subscriber)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    return (after - before) / (now - then)


def _count(subscriber: "subprocess.Popen[str]") -> tuple[float, float]:
    """When a bare subscriber answered, and how many messages it had then."""
    assert subscriber.stdin is not None
    assert subscriber.stdout is not None
    subscriber.stdin.write("count\n")
    subscriber.stdin.flush()
    count, at = subscriber.stdout.readline().split()
    return float(at), float(count)


def loads_of(running: System) -> list[tuple[str, str]]:
    """Bus and name of every load."""
    connection = http.client.HTTPConnection(running.http_host, running.http_port)
    connection.request("GET", "/get_state")
    state = orjson.loads(connection.getresponse().read())["results"]
    connection.close()
    return [(bus["bus"], load["name"]) for bus in state["bus_details"] for load in bus["loads"]]


def _solver_memory_mb(running: System) -> float:
    return float(psutil.Process(running.pid("solver")).memory_info().rss) / (1 << 20)
