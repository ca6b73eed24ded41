"""The composed system, with TLS and passwords: how soon it is up, how large its image is, what a
write takes beside a bare Mosquitto, and how soon the readings of many meters show.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import starmap
from pathlib import Path
from typing import Any

import orjson

from benchmarks.figures import Row, percentile, progress, times_ms
from benchmarks.rest_write import request
from flexfeeder import broker_users, ports
from flexfeeder.broker_acl import VIEWER, meter_user
from flexfeeder.testing import MOSQUITTO, system
from schemas import topics
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import configure
from services.reactor import Reactor
from services.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ("docker", "compose", "--file", str(ROOT / "deploy" / "docker-compose.yml"))
COUNT = 1000
WARM_UP = 200
TURNS = 10
METERS = 500
SECONDS = 30
LAG_MS = 250
STEP_KW = 0.001
FEEDER = "ieee123"


def run() -> list[Row]:
    if shutil.which("docker") is None or _fails("docker", "info"):
        progress("no container engine: nothing is measured of the composed system")
        return []
    with tempfile.TemporaryDirectory(prefix="flexfeeder-composed-") as folder:
        secrets = Path(folder)
        _flexfeeder("secrets", "--folder", folder)
        http_port, mqtt_port = ports.free_ports(2)
        env = {
            "COMPOSE_PROJECT_NAME": f"flexfeeder-bench-{os.getpid()}",
            "DEPLOY_SECRETS": folder,
            "DEPLOY_HTTP_PORT": str(http_port),
            "DEPLOY_MQTT_PORT": str(mqtt_port),
            "FLEXFEEDER_HTTP_RATE": "100000",
            "DEPLOY_IMAGE": "flexfeeder:bench",
        }
        progress("building the image")
        _compose(env, "build")
        with _up(env) as seconds:
            caller = _Caller(
                "127.0.0.1", http_port, (secrets / "api_admin.key").read_text().strip()
            )
            rows = [_readiness(seconds), _size(), *_writes(caller)]
            rows.append(_readings(caller, env, mqtt_port, secrets))
    return rows


@contextmanager
def _up(env: dict[str, str]) -> Iterator[float]:
    """The composed system; yields the seconds that it took to be healthy."""
    progress("starting everything")
    started = time.monotonic()
    try:
        _compose(env, "up", "--wait", "--wait-timeout", "120")
        yield time.monotonic() - started
    finally:
        _compose(env, "down", "--volumes", "--timeout", "5")


def _readiness(seconds: float) -> Row:
    asked = "20 s after the images are built"
    return Row("composed: up and healthy", f"{seconds:.1f} s", "-", asked, seconds <= 20)


def _size() -> Row:
    inspect = ("docker", "image", "inspect", "--format", "{{.Size}}", "flexfeeder:bench")
    size = int(subprocess.run(inspect, check=True, capture_output=True, text=True).stdout) / 1e6
    return Row("image", f"{size:.0f} MB", "-", "under 350 MB", size < 350)


def _writes(caller: "_Caller") -> list[Row]:
    if MOSQUITTO is None:
        return []
    progress("REST write, beside the same on a bare Mosquitto")
    composed: list[float] = []
    bare: list[float] = []
    # Both write a line for each request.
    with system(on_mosquitto=True, env={"FLEXFEEDER_LOG_FORMAT": "json"}) as running:
        other = _Caller(running.http_host, running.http_port, None)
        for _ in range(TURNS):
            composed += times_ms(caller.pin, COUNT // TURNS, WARM_UP // TURNS)
            bare += times_ms(other.pin, COUNT // TURNS, WARM_UP // TURNS)
    ours, theirs = percentile(composed, 0.5), percentile(bare, 0.5)
    return [
        Row(
            "REST write, composed, TLS, API key",
            f"p50 {ours:.2f} ms, p99 {percentile(composed, 0.99):.2f} ms",
            f"bare Mosquitto p50 {theirs:.2f} ms, p99 {percentile(bare, 0.99):.2f} ms",
            f"ratio at most 1.5: {ours / theirs:.2f}",
            ours <= 1.5 * theirs,
        )
    ]


def _readings(caller: "_Caller", env: dict[str, str], mqtt_port: int, secrets: Path) -> Row:
    """Every load, and devices until there are enough, with a meter and a connection each."""
    caller.post("/release_load", {"bus_name": "1", "load_name": "Load_1"})
    progress(f"{METERS} meters with a TLS connection each, a reading a second, for {SECONDS} s")
    meters = [(bus["bus"], load["name"]) for bus in caller.buses() for load in bus["loads"]]
    buses = [bus["bus"] for bus in caller.buses() if bus["loads"]]
    for number in range(METERS - len(meters)):
        bus = buses[number % len(buses)]
        caller.post("/add_device", {"bus_name": bus, "device_name": f"D{number}", "kw": STEP_KW})
        meters.append((bus, f"D{number}"))
    passwords = {user: broker_users.new_password() for user in starmap(meter_user, meters)}
    with broker_users.edited(secrets / "broker" / "passwords", 0o644) as users:
        users |= {u: broker_users.hashed(p, broker_users.new_salt()) for u, p in passwords.items()}
    _compose(env, "kill", "--signal", "HUP", "broker")
    lag_ms, taken = _Fleet(mqtt_port, secrets, passwords).run()
    p99 = percentile(lag_ms, 0.99)
    return Row(
        f"{METERS} meters, TLS, a reading a second each",
        f"{taken:.2%} shown, lag p50 {percentile(lag_ms, 0.5):.0f} ms, p99 {p99:.0f} ms",
        "-",
        f"p99 under {LAG_MS} ms",
        p99 < LAG_MS and taken >= 1,
    )


class _Fleet:
    """Meters, each with a user and a connection of its own, and a viewer who sees what comes of
    their readings. A meter's first reading is one step of power, its second two, and so on.
    """

    def __init__(self, port: int, secrets: Path, passwords: dict[str, str]) -> None:
        self._sent_at: dict[str, list[float]] = {user: [] for user in passwords}
        self._shown = dict.fromkeys(passwords, 0)
        self._lag_ms: list[float] = []
        log = configure(Settings(log_level="ERROR"), "bench")

        def connection(user: str, password: str, *subscriptions: Subscription) -> Connection:
            address = BrokerAddress("localhost", port, user, password, secrets / "ca.crt")
            arrived = self._arrived
            return Connection(
                address, user, log=log, on_message=arrived, subscriptions=subscriptions
            )

        self._meters = {user: connection(user, password) for user, password in passwords.items()}
        password = (secrets / "mqtt" / VIEWER).read_text(encoding="utf-8").strip()
        state = Subscription(topics.state(FEEDER), qos=0)
        self._viewer = connection(VIEWER, password, state)
        self._reactor = Reactor(self._viewer, *self._meters.values())

    def run(self) -> tuple[list[float], float]:
        """Milliseconds from sending to showing, and the share of readings that were shown."""
        everybody = (self._viewer, *self._meters.values())
        all_in = self._reactor.poll_until(lambda: all(c.connected for c in everybody), 60)
        if not all_in:
            raise RuntimeError("not all of them could connect")
        turn = 0
        start = time.monotonic()
        users = list(self._meters)
        while turn < METERS * SECONDS:
            due = start + turn / METERS
            now = time.monotonic()
            if now < due:
                self._reactor.poll(due - now)
                continue
            self._send(users[turn % METERS])
            turn += 1
        sent = {user: len(times) for user, times in self._sent_at.items()}
        self._reactor.poll_until(lambda: self._shown == sent, 3)
        for each in everybody:
            each.close()
        return self._lag_ms, sum(self._shown.values()) / turn

    def _send(self, user: str) -> None:
        bus, element = user.split("/")
        times = self._sent_at[user]
        times.append(time.monotonic())
        reading = orjson.dumps({"kw": round(STEP_KW * len(times), 6)})
        self._meters[user].publish(topics.meter(FEEDER, bus, element), reading)

    def _arrived(self, message: Message) -> None:
        now = time.monotonic()
        for bus in orjson.loads(message.payload)["bus_details"]:
            for element in bus["loads"] + bus["devices"]:
                if element["source"] == "meter":
                    self._show(meter_user(bus["bus"], element["name"]), element["demand_kw"], now)

    def _show(self, user: str, demand_kw: float, now: float) -> None:
        """Take the lag of each reading that this state is the first to contain."""
        upto, before = round(demand_kw / STEP_KW), self._shown[user]
        if upto > before:
            self._lag_ms += [1000 * (now - at) for at in self._sent_at[user][before:upto]]
            self._shown[user] = upto


class _Caller:
    """Somebody with an API key and a connection that stays."""

    def __init__(self, host: str, port: int, key: str | None) -> None:
        self._connection = http.client.HTTPConnection(host, port)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._level = 0

    def pin(self) -> bytes:
        """Pin a household; returns the answer, the whole state."""
        self._level += 1
        kw = 5.0 + self._level % 7
        body = {"bus_name": "1", "load_name": "Load_1", "new_kw": kw, "new_kvar": 1.0}
        return self.post("/modify_load_household", body)

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        return request(self._connection, path, body, headers=self._headers)

    def buses(self) -> list[dict[str, Any]]:
        results = orjson.loads(self.post("/run_simulation", {}))["results"]
        found: list[dict[str, Any]] = results["bus_details"]
        return found


def _compose(env: dict[str, str], *args: str) -> None:
    done = subprocess.run(
        [*COMPOSE, *args], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"docker compose {args[0]}: {done.stderr[-2000:]}")


def _flexfeeder(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "flexfeeder", *args], check=True, capture_output=True)


def _fails(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0
