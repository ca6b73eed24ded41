"""What the journal costs a write, a snapshot the loop, and a restart everybody."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import redis

from benchmarks.figures import Row, percentile, progress, times_ms
from benchmarks.readings import QUIET
from flexfeeder.testing import System, system, wait_until
from schemas.equipment import DeviceAddition, GeneratorAddition
from schemas.loads import SetLoad
from services import outcomes
from services.once import Once, Remembered
from services.outcomes import Done
from services.solver import entries, recovery
from services.solver.engine import Engine
from services.solver.entries import Decided
from services.solver.feeder import Feeder
from services.solver.journal import Journal
from services.solver.twin import Twin

TURNS = 20
CALLS = 100
FULL = 950
"""Entries in a journal that is nearly full: at a thousand, a snapshot leaves them behind."""

RESTARTS = 5


def run() -> list[Row]:
    with system(env=QUIET) as running:
        return [*_write(running), *_snapshot(running), *_restart(running)]


@contextmanager
def _journal(running: System) -> Iterator[Journal]:
    journal = Journal(_store_url(running), f"bench-{uuid.uuid4().hex[:6]}")
    journal.take()
    yield journal
    journal.release()


def _store_url(running: System) -> str:
    port = next(
        connection.laddr[1]
        for connection in psutil.Process(running.pid("store")).net_connections()
        if connection.status == "LISTEN"
    )
    return f"redis://127.0.0.1:{port}/0"


def _entry() -> Decided:
    command = SetLoad(bus_name="1", load_name="Load_1", new_kw=5.0, new_kvar=1.0)
    done = Done("load Load_1 at bus 1 pinned to 5 kW", ("1",))
    return Decided(command.command, outcomes.asked(command), time.time(), done, uuid.uuid4().hex)


def _write(running: System) -> list[Row]:
    progress("a journal entry, beside a bare PING")
    pinged: list[float] = []
    written: list[float] = []
    with _journal(running) as journal, redis.Redis.from_url(_store_url(running)) as bare:
        for _ in range(TURNS):
            pinged += times_ms(bare.ping, CALLS, 10)
            written += times_ms(lambda: journal.append([entries.encode(_entry())]), CALLS, 10)
    p50, ping = percentile(written, 0.5), percentile(pinged, 0.5)
    return [
        Row(
            "journal: a write",
            f"p50 {p50:.3f} ms, p99 {percentile(written, 0.99):.3f} ms, one round trip a batch",
            f"PING p50 {ping:.3f} ms",
            f"at most 0.6 ms: {p50:.3f}; ratio {p50 / ping:.2f}",
            p50 <= 0.6,
        )
    ]


def _snapshot(running: System) -> list[Row]:
    progress("snapshots, of the feeder as it is and as full as it may be")
    rows = []
    twin = Twin(feeder := Feeder.load(Path("feeders"), "ieee123"), Engine(feeder))
    once = Once()
    for what in ("plain", "2000 devices, 500 generators, 1000 requests to remember"):
        if what != "plain":
            _fill(twin)
        twin.cycle(1, time.time())
        segment = [each for _ in range(1000) if (each := _entry().remembered) is not None]
        with _journal(running) as journal:

            def save(journal: Journal = journal, segment: list[Remembered] = segment) -> None:
                content = recovery.content(twin, once)
                journal.save(content, journal.last, entries.encode_segment(segment))

            taken = times_ms(save, 30, 3)
        solve = percentile(times_ms(lambda: twin.cycle(1, time.time()), 20, 2), 0.5)
        rows.append(
            Row(
                f"journal: a snapshot, {what}",
                f"p50 {percentile(taken, 0.5):.1f} ms, longest {max(taken):.1f} ms, "
                f"{len(recovery.content(twin, once)) / 1024:.0f} kB",
                f"a cycle {solve:.1f} ms",
                "never over 20 ms",
                max(taken) <= 20,
            )
        )
    return rows


def _fill(twin: Twin) -> None:
    buses = sorted({load.bus for load in twin.demand.loads})
    for number in range(2000):
        twin.demand.add_device(
            DeviceAddition(
                bus_name=buses[number % len(buses)], device_name=f"device_{number}", kw=0.01
            )
        )
    for number in range(500):
        twin.demand.add_generator(GeneratorAddition(bus_name=buses[number % len(buses)], kw=0.01))
    twin.demand.commit()


def _restart(running: System) -> list[Row]:
    progress(f"restarts with {FULL} entries in the journal")
    taken = []
    with httpx.Client(base_url=running.url, timeout=10) as http:
        for _ in range(RESTARTS):
            _fill_journal(running, http)
            pid = running.pid("solver")
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: _writes(http), "writes are accepted again", timeout_s=30)
            taken.append(time.monotonic() - killed)
    imports = times_ms(_start_python, 3, 1)
    return [
        Row(
            "kill -9 of the solver until a write is accepted",
            f"p50 {percentile(taken, 0.5):.2f} s, longest {max(taken):.2f} s",
            f"starting Python with its libraries {percentile(imports, 0.5) / 1000:.2f} s",
            "under 2 s",
            max(taken) < 2,
        )
    ]


def _fill_journal(running: System, http: httpx.Client) -> None:
    """Until there are as many entries as there may be."""
    with redis.Redis.from_url(_store_url(running)) as store:
        while store.xlen("flexfeeder:ieee123:journal") < FULL:
            for number in range(50):
                _write_one(http, number)


def _writes(http: httpx.Client) -> bool:
    return _write_one(http, 1).status_code == 200


def _write_one(http: httpx.Client, number: int) -> httpx.Response:
    body = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0 + number % 7, "new_kvar": 1.0}
    headers = {"Prefer": "return=minimal"}
    return http.post("/modify_load_household", json=body, headers=headers)


def _start_python() -> None:
    command = "import numpy, opendssdirect, paho.mqtt.client, pydantic"
    subprocess.run([sys.executable, "-c", command], check=True)
