"""What the gateway meets in its tests: a solver and a program manager that the tests play, and the
gateway itself, in a process of its own. What they publish, test_gateway_peers.py holds against the
contract.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
import paho.mqtt.client as paho
from support import Broker, MqttClient

from flexfeeder import ports
from flexfeeder.testing import wait_until
from schemas import topics

FEEDER, OTHER = "alpha", "beta"
"""The default feeder of the gateway, and another one."""

FENCE = 7
FIRST = FENCE * 1_000_000_000 + 1
"""The first version that a scripted solver publishes."""

Json = dict[str, Any]
Answer = Callable[[str, Json], Json | None]
"""What a peer replies to a command, by its name and content; None where it keeps silent."""


def state(feeder: str, version: int) -> bytes:
    """A state of a feeder of two buses, with little on it."""
    document = {
        "feeder": feeder,
        "version": version,
        "solved_at": datetime.now(UTC),
        "converged": True,
        "iterations": 2,
        "oldest_reading_s": None,
        "taps": {},
        "management_status": {"status": "OK", "management_log": []},
        "power_summary": {
            "total_circuit_power_kw": 40.5,
            "total_circuit_power_kvar": 20.5,
            "total_losses_kw": 0.5,
            "total_losses_kvar": 0.5,
            "total_load_kw": 40.0,
            "total_generation_kw": 0.0,
        },
        "voltage_profile": {
            "min_voltage_pu": 1.0,
            "min_voltage_bus": "1",
            "max_voltage_pu": 1.0,
            "max_voltage_bus": "2",
            "avg_voltage_pu": 1.0,
            "violations": [],
        },
        "bus_details": [_bus("1", 40.0), _bus("2", 0.0)],
        "transformers": [
            {
                "name": "neighbourhood_1",
                "kind": "service",
                "bus": "1",
                "rating_kva": 50.0,
                "loading_kva": 44.72,
                "loading_percent": 89.44,
                "status": "OK",
            }
        ],
        "adjustments": {"revision": 0, "programs": []},
    }
    return orjson.dumps(document)


def _bus(name: str, kw: float) -> Json:
    load = {
        "name": f"Load_{name}",
        "demand_kw": kw,
        "set_kw": kw,
        "kw": kw,
        "kvar": kw / 2,
        "factor": 1.0,
        "source": "nominal",
        "held_by": [],
        "not_following": False,
    }
    return {
        "bus": name,
        "kv_base": 2.4,
        "phases": {"A": {"v_pu": 1.0, "angle_deg": 0.0}},
        "load_kw": kw,
        "load_kvar": kw / 2,
        "gen_kw": 0.0,
        "net_kw": kw,
        "neighbourhood": 1,
        "loads": [load],
        "devices": [],
        "generators": [],
        "dfps": [],
    }


def topology(feeder: str) -> bytes:
    """The topology that goes with it."""
    buses = [
        {
            "bus": name,
            "phases": ["A"],
            "kv_base": 2.4,
            "x": None,
            "y": None,
            "distance_km": distance,
            "neighbourhood": 1,
        }
        for name, distance in (("1", 0.1), ("2", 0.2))
    ]
    area = {"number": 1, "buses": ["1", "2"], "transformer_bus": "1", "transformer_kva": 50.0}
    document = {
        "feeder": feeder,
        "name": feeder.title(),
        "buses": buses,
        "lines": [],
        "transformers": [],
        "loads": [],
        "neighbourhoods": [area],
    }
    return orjson.dumps(document)


class Peer:
    """A service that a test plays: it says that it is there, and answers as ``answer`` says."""

    def __init__(self, port: int, instance: str, commands: str, **status: Any) -> None:
        self.client = MqttClient(port, protocol="5")
        self.heard: list[tuple[str, Json]] = []
        self.answer: Answer = lambda _command, _body: {}
        self._status_topic = topics.service_status(instance)
        self._status = status
        self._commands = commands
        self._away = False
        self._speaking = threading.Lock()
        self._stopped = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self.client.__enter__()
        self.client._client.on_message = self._arrived
        self.client.subscribe(self._commands)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._heart.join()
        self.client.__exit__()

    def say(self, status: str) -> None:
        """Publish a status, as if of the service."""
        payload = orjson.dumps({"status": status, **self._status})
        self.client.publish(self._status_topic, payload, retain=True)

    @contextmanager
    def away(self) -> Iterator[None]:
        """It says that it goes, and is back in the end."""
        with self._speaking:  # a heartbeat that comes after it would have it back
            self._away = True
            self.say("offline")
        yield
        self._away = False
        self.say("online")

    @contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """Commands are answered otherwise for a while."""
        usual, self.answer = self.answer, answer
        yield
        self.answer = usual

    def last(self) -> tuple[str, Json]:
        """Name and body of the command that came last, without what only its way takes."""
        topic, content = self.heard[-1]
        envelope = {"request_id", "issued_at", "deadline", "reply_to"}
        assert envelope <= set(content)
        return topic, {name: value for name, value in content.items() if name not in envelope}

    def _beat(self) -> None:
        while not self._stopped.wait(0.5):
            with self._speaking:
                if not self._away:
                    self.say("online")

    def _arrived(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        content = orjson.loads(message.payload)
        self.heard.append((message.topic, content))
        reply = self.answer(topics.command_of(message.topic), content)
        if reply is not None:
            whole = {"status": "success", "message": "done", **reply}
            whole["request_id"] = content["request_id"]
            # Not by publish(), which waits for the thread that runs this.
            self.client._client.publish(content["reply_to"], orjson.dumps(whole), 1)


class Solver(Peer):
    """Answers each command with the next version, whose state it has published before."""

    def __init__(self, port: int, feeder: str) -> None:
        super().__init__(
            port,
            f"solver-{feeder}",
            topics.commands(feeder),
            service="solver",
            feeder=feeder,
            figures={"fence": float(FENCE), "solves": 3.0},
        )
        self.feeder = feeder
        self.version = FIRST - 1
        self.answer = lambda _command, _body: self.solved()

    def __enter__(self) -> Self:
        super().__enter__()
        self.client.publish(topics.topology(self.feeder), topology(self.feeder), retain=True)
        self.publish_state()
        self.say("online")
        return self

    def publish_state(self) -> int:
        """Publish the next state; returns its version."""
        self.version += 1
        payload = state(self.feeder, self.version)
        self.client._client.publish(topics.state(self.feeder), payload, 0, retain=True)
        return self.version

    def solved(self, **reply: Any) -> Json:
        """Publish the next state, and reply with its version."""
        return {"version": self.publish_state(), "buses": ["1"], **reply}


class Manager(Peer):
    """Answers each command with the name of the command."""

    def __init__(self, port: int) -> None:
        super().__init__(port, "dfp_manager", topics.dfp_commands(), service="dfp_manager")
        self.answer = lambda command, _body: {"results": {"did": command}}

    def __enter__(self) -> Self:
        super().__enter__()
        self.say("online")
        return self


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    url: str
    port: int
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def log(self) -> list[Json]:
        """What it has logged, whole lines only."""
        text = self.log_path.read_bytes()
        return [orjson.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def logged(self, event: str) -> list[Json]:
        return [entry for entry in self.log() if entry["event"] == event]


@dataclass(slots=True)
class Scene:
    """A broker with everybody on it."""

    broker: Broker
    folder: Path
    solver: Solver = field(init=False)
    other: Solver = field(init=False)
    manager: Manager = field(init=False)

    @contextmanager
    def gateway(self) -> Iterator[Gateway]:
        """Start a gateway, and stop it after; ready when it is yielded."""
        port = ports.free_port()
        log_path = self.folder / f"gateway-{port}.log"
        settings = {
            "FLEXFEEDER_HTTP_PORT": str(port),
            "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
            "FLEXFEEDER_MQTT_PORT": str(self.broker.port),
            "FLEXFEEDER_FEEDER": FEEDER,
            "FLEXFEEDER_LOG_FORMAT": "json",
        }
        plain = {n: v for n, v in os.environ.items() if not n.startswith("FLEXFEEDER_")}
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.gateway"],
                env={**plain, **settings},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        gateway = Gateway(f"http://127.0.0.1:{port}", port, process, log_path)
        try:
            wait_until(
                lambda: ports.fetch(f"{gateway.url}/readyz", 1.0) is not None,
                "the gateway is ready",
                timeout_s=30,
            )
            wait_until(
                lambda: OTHER.encode() in (ports.fetch(f"{gateway.url}/feeders", 1.0) or b""),
                "it has heard of the other feeder",
            )
            yield gateway
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


@contextmanager
def playing(folder: Path) -> Iterator[Scene]:
    """An embedded broker, two scripted solvers and a scripted manager."""
    broker = Broker("embedded", folder)
    broker.start()
    try:
        found = Scene(broker, folder)
        with ExitStack() as stack:
            found.solver = stack.enter_context(Solver(broker.port, FEEDER))
            found.other = stack.enter_context(Solver(broker.port, OTHER))
            found.manager = stack.enter_context(Manager(broker.port))
            yield found
    finally:
        broker.kill()
