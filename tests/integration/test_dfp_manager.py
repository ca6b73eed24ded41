"""The program manager as a process, on real brokers and a real store, with a scripted solver."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import orjson
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from stores import Fault, Store, Way
from support import Broker, MqttClient, assert_error, leave

from flexfeeder.testing import MOSQUITTO, wait_until
from schemas.programs import Adjustments, ExecutionReport, Program, ProgramEvent
from schemas.replies import Accepted, Refused, ServiceStatus
from schemas.topology import BusNode, Topology
from services.dfp_manager.feeders import SILENT_S, revision_of
from services.dfp_manager.programs import adjustments
from services.dfp_manager.registry import Registry

FEEDER = "ieee123"
COMMAND = "flexfeeder/dfp/command"
STATUS = "flexfeeder/service/dfp_manager/status"

DEMAND = {"1": (140.0, 70.0), "4": (10.0, 2.0), "SourceBus": (0.0, 0.0)}
"""Demand of the scripted feeder in kW and kvar, by bus."""

PEAK = {"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95}

Reply = dict[str, Any]


class Solver:
    """Publishes a topology, and states that follow the adjustments: each load is a bus's only one,
    so a cap and a power factor are applied as they stand.
    """

    def __init__(self, port: int, feeder: str = FEEDER) -> None:
        self.follows = True
        """False: it goes on publishing states, and takes no adjustments."""
        self.is_silent = False
        self._feeder = feeder
        self._client = MqttClient(port, protocol="5")
        self._applied = Adjustments(revision=0)
        self._version = int(time.time() * 1000)
        self.received: list[Adjustments] = []
        """All adjustments that have come."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._client.__enter__()
        self._client.subscribe(f"flexfeeder/{self._feeder}/adjustments")
        self.publish_topology()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.__exit__()

    def publish_topology(self) -> None:
        nodes = tuple(
            BusNode(
                bus=bus, phases=("A",), kv_base=4.16, x=0.0, y=0.0, distance_km=0.0, neighbourhood=1
            )
            for bus in DEMAND
        )
        wiring = Topology(
            feeder=self._feeder,
            name=self._feeder,
            buses=nodes,
            lines=(),
            transformers=(),
            loads=(),
            neighbourhoods=(),
        )
        topic = f"flexfeeder/{self._feeder}/topology"
        self._client.publish(topic, wiring.model_dump_json().encode(), retain=True)

    def _run(self) -> None:
        due = 0.0
        while not self._stop.wait(0.002):
            for message in self._client.heard[len(self.received) :]:
                self.received.append(Adjustments.model_validate_json(message.payload))
            if self.follows and self.received:
                newest = max(self.received, key=lambda adjustments: adjustments.revision)
                if newest.revision > self._applied.revision:
                    self._applied, due = newest, 0.0
            if time.monotonic() >= due and not self.is_silent:
                due = time.monotonic() + 0.1
                self._client.publish(
                    f"flexfeeder/{self._feeder}/state", self._state(), qos=0, retain=True
                )

    def _state(self) -> bytes:
        self._version += 1
        return orjson.dumps(
            {
                "feeder": self._feeder,
                "version": self._version,
                "bus_details": [self._bus(bus) for bus in DEMAND],
                "adjustments": {
                    "revision": self._applied.revision,
                    "programs": [program.name for program in self._applied.programs],
                },
            }
        )

    def _bus(self, bus: str) -> dict[str, Any]:
        kw, kvar = DEMAND[bus]
        demand_kw = kw
        asked = [b for program in self._applied.programs for b in program.buses if b.bus == bus]
        for each in asked:
            if kw > each.max_kw:
                kw, kvar = each.max_kw, kvar * each.max_kw / kw
            kvar = min(kvar, kw * math.tan(math.acos(each.target_pf)))
        load = {"name": f"Load_{bus}", "demand_kw": demand_kw, "set_kw": kw}
        kvar = round(kvar, 4)
        return {"bus": bus, "load_kw": kw, "load_kvar": kvar, "loads": [load], "devices": []}


class Caller:
    """Somebody who sends commands to the manager, and listens to what it says of itself."""

    def __init__(self, port: int) -> None:
        self.client = MqttClient(port, protocol="5")

    def __enter__(self) -> Self:
        self.client.__enter__()
        self.client.subscribe(f"{self.client.reply_topic}/#")
        self.client.subscribe(STATUS)
        self.client.subscribe("flexfeeder/+/program")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__()

    def send(self, command: str, body: Any) -> bytes:
        """Send a command; returns what its reply will bear."""
        correlation = uuid.uuid4().bytes
        payload = body if isinstance(body, bytes) else orjson.dumps(body)
        self.client.publish(
            f"{COMMAND}/{command}",
            payload,
            response_topic=self.client.reply_topic,
            correlation=correlation,
        )
        return correlation

    def has_reply(self, correlation: bytes) -> bool:
        return bool(self._replies(correlation))

    def reply(self, correlation: bytes, timeout_s: float = 30.0) -> Reply:
        """The reply to what was sent, in the one shape of all replies."""
        wait_until(lambda: self.has_reply(correlation), "a reply", timeout_s)
        payload = self._replies(correlation)[0]
        reply: Reply = orjson.loads(payload)
        (Accepted if reply["status"] == "success" else Refused).model_validate_json(payload)
        return reply

    def ask(self, command: str, body: Any) -> Reply:
        return self.reply(self.send(command, body))

    def does(self, command: str, body: Any) -> Any:
        """The results of a command that succeeds."""
        reply = self.ask(command, body)
        assert reply["status"] == "success", reply
        return reply["results"]

    def _replies(self, correlation: bytes) -> list[bytes]:
        return [
            bytes(message.payload)
            for message in self.client.on(self.client.reply_topic)
            if getattr(message.properties, "CorrelationData", None) == correlation
        ]

    def status(self) -> ServiceStatus | None:
        """What the manager last said of itself."""
        heard = self.client.on(STATUS)
        return ServiceStatus.model_validate_json(heard[-1].payload) if heard else None

    def is_online(self) -> bool:
        status = self.status()
        return status is not None and status.status == "online"

    def is_served(self) -> bool:
        """It is online, and finds the store there."""
        status = self.status()
        return self.is_online() and status is not None and not status.figures["store_away"]

    def events(self, name: str) -> list[ProgramEvent]:
        """What was told of a program."""
        heard = [m for m in self.client.heard if m.topic.endswith("/program")]
        told = [ProgramEvent.model_validate_json(message.payload) for message in heard]
        return [event for event in told if event.name == name]


class World:
    """A broker, a store, and the manager as a process between them."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.broker = Broker(kind, folder)
        self.store = Store(folder)
        self.results = folder / "results"
        self.log = folder / "manager.log"
        self.logged_before = 0
        """Bytes of the log that were there before the test, and count for nothing."""
        self._process: subprocess.Popen[bytes] | None = None

    def start_manager(self, store_url: str | None = None) -> None:
        own = {name: v for name, v in os.environ.items() if not name.startswith("FLEXFEEDER_")}
        settings = {
            "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
            "FLEXFEEDER_MQTT_PORT": str(self.broker.port),
            "FLEXFEEDER_REDIS_URL": store_url or self.store.url,
            "FLEXFEEDER_RESULTS_DIR": str(self.results),
            "FLEXFEEDER_FEEDER": FEEDER.upper(),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.dfp_manager"], env={**own, **settings}, stderr=log
            )

    def stop_manager(self, number: int = signal.SIGTERM) -> int:
        """End the process; returns its exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(10)
        self._process = None
        return status

    def logged(self, event: str) -> int:
        """How often an event stands in the manager's log."""
        return self.log.read_bytes()[self.logged_before :].decode().count(f" {event} ")

    def read(self, name: str) -> str:
        path = self.results / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.broker.kill()
        self.store.kill()
        assert "Traceback" not in self.log.read_text(encoding="utf-8")


@contextmanager
def world(kind: str, folder: Path, *, with_manager: bool = True) -> Iterator[World]:
    made = World(kind, folder)
    try:
        made.broker.start()
        made.store.start()
        if with_manager:
            made.start_manager()
        yield made
    finally:
        made.close()


@pytest.fixture(
    scope="module",
    params=[
        "embedded",
        pytest.param(
            "mosquitto",
            marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
        ),
    ],
)
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A world for the tests that leave it as they found it."""
    with world(request.param, tmp_path_factory.mktemp("world")) as made:
        yield made


ON_ONE_BROKER = pytest.mark.parametrize("kept", ["embedded"], indirect=True)
"""For what takes seconds, and is between the manager and the solver: any broker carries it."""


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world for one test, where the broker does not matter; its manager is started by ``way``,
    where the test asks for that.
    """
    with world("embedded", tmp_path, with_manager="way" not in request.fixturenames) as made:
        yield made


@pytest.fixture(scope="module")
def _healing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world("embedded", tmp_path_factory.mktemp("healing")) as made:
        yield made


@pytest.fixture
def healing(_healing: World) -> Iterator[World]:
    """A world in which solver and store fail, in one test after the other: the manager is served
    again after each, and has no programs.
    """
    _healing.logged_before = _healing.log.stat().st_size
    yield _healing
    with Solver(_healing.broker.port), Caller(_healing.broker.port) as caller:
        is_ready(caller)
        for program in caller.does("list", {}):
            caller.does("delete", {"name": program["name"]})


@pytest.fixture
def own_on_each(broker_kind: str, tmp_path: Path) -> Iterator[World]:
    """A world for one test, on either broker."""
    with world(broker_kind, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def kept_peers(kept: World) -> Iterator[tuple[Caller, Solver]]:
    with Solver(kept.broker.port) as solver, Caller(kept.broker.port) as caller:
        is_ready(caller)
        yield caller, solver


@pytest.fixture
def solver(kept_peers: tuple[Caller, Solver]) -> Iterator[Solver]:
    """A solver that does as it should, before and after a test."""
    solver = kept_peers[1]
    yield solver
    solver.follows, solver.is_silent = True, False


@pytest.fixture
def caller(kept_peers: tuple[Caller, Solver]) -> Iterator[Caller]:
    """A caller of a manager that knows a feeder without programs."""
    caller = kept_peers[0]
    yield caller
    for program in caller.does("list", {}):
        caller.does("delete", {"name": program["name"]})


def is_ready(caller: Caller) -> None:
    """Wait until the manager serves, and has heard the buses and a state of the solver."""
    wait_until(caller.is_served, "the manager is online")

    wait_until_heard(caller)


def wait_until_heard(caller: Caller, feeder: str = FEEDER) -> None:
    """Wait until the manager has heard the buses of a feeder, and a state of its solver."""

    def is_heard() -> bool:
        of = {"feeder": feeder}
        probe = {"dfp_name": "probe", **of}
        caller.ask("register", {"name": "probe", "min_power_kw": 0, "target_pf": 1, **of})
        caller.ask("unsubscribe", {**probe, "bus_name": "1"})
        has_state = caller.ask("execute", probe)["status"] == "success"
        has_buses = caller.ask("subscribe", {**probe, "bus_name": "1"})["status"] == "success"
        caller.ask("delete", {"name": "probe", **of})
        return bool(has_state and has_buses)

    wait_until(is_heard, f"the manager hears the solver of {feeder}")


class TestALife:
    def test_from_registration_to_deletion(self, caller: Caller, solver: Solver) -> None:
        registered = caller.does(
            "register", {"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95}
        )
        number = registered["number"]
        assert set(registered) == set(Program.model_fields)
        assert registered["subscriptions"] == []
        assert not registered["executing"]

        updated = caller.does(
            "update", {"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98}
        )
        assert (updated["min_power_kw"], updated["target_pf"]) == (120.0, 0.98)
        caller.does("update", PEAK)

        caller.does("subscribe", {"bus_name": "1", "dfp_number": number})
        caller.does("subscribe", {"bus_name": "4", "dfp_name": "PEAK_SHAVING"})
        again = caller.does("subscribe", {"bus_name": "sourcebus", "dfp_number": number})
        assert again["subscriptions"] == ["1", "4", "SourceBus"]

        reply = caller.ask("execute", {"dfp_name": "peak_shaving"})
        assert reply["buses"] == ["1", "4", "SourceBus"]
        report = reply["results"]
        ExecutionReport.model_validate_json(orjson.dumps(report))
        assert (report["name"], report["number"]) == ("peak_shaving", number)
        assert report["version"] == reply["version"]
        assert report["total_shed_kw"] == 40.0
        # 140 kW and 70 kvar: 2 / sqrt(5). 100 kW at 0.95: 100 x sqrt(1 / 0.95^2 - 1) kvar.
        assert report["buses"][0] == {
            "bus": "1",
            "before": {"kw": 140.0, "kvar": 70.0, "pf": 0.894427},
            "after": {"kw": 100.0, "kvar": 32.8684, "pf": 0.95},
            "shed_kw": 40.0,
            "left_alone": None,
        }
        assert [bus["left_alone"] for bus in report["buses"][1:]] == [
            "already at or below its minimum; already at the power factor",
            "no load",
        ]
        assert solver.received[-1].revision == report["revision"]

        [listed] = caller.does("list", {})
        assert listed["executions"][0]["total_shed_kw"] == 40.0
        assert listed == caller.does("get", {"name": "peak_shaving"})
        assert listed["executing"]

        stopped = caller.ask("stop", {"dfp_name": "peak_shaving"})
        assert stopped["version"] > reply["version"]
        assert not stopped["results"]["executing"]
        assert stopped["results"]["executions"][0]["stopped_at"] is not None
        assert solver.received[-1] == Adjustments(revision=report["revision"] + 1)

        left = caller.does("unsubscribe", {"bus_name": "1", "dfp_number": number})
        assert left["subscriptions"] == ["4", "SourceBus"]
        caller.does("unsubscribe", {"bus_name": "4", "dfp_name": "peak_shaving"})
        gone = caller.does("delete", {"name": "peak_shaving"})
        assert gone == {"name": "peak_shaving", "number": number}
        assert_error(caller.ask("delete", {"name": "peak_shaving"}), "program_not_found", "name")
        assert caller.does("list", {}) == []
        assert caller.does("register", PEAK)["number"] == number + 1

    def test_what_is_the_case_already_succeeds_and_says_so(self, caller: Caller) -> None:
        caller.does("register", PEAK)
        assert "was not executing" in caller.ask("stop", {"dfp_name": "peak_shaving"})["message"]
        not_there = {"dfp_name": "peak_shaving", "bus_name": "4"}
        assert "was not subscribed" in caller.ask("unsubscribe", not_there)["message"]
        first = caller.ask("execute", {"dfp_name": "peak_shaving"})
        assert "nobody subscribed" in first["message"]
        assert first["results"]["buses"] == []
        joined = caller.ask("subscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
        assert joined["version"] is not None
        again = caller.ask("subscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
        assert "already" in again["message"]
        second = caller.ask("execute", {"dfp_name": "peak_shaving"})
        assert "already" in second["message"]
        assert second["results"]["revision"] == first["results"]["revision"]
        [outcome] = second["results"]["buses"]
        assert outcome["after"]["kw"] == 100.0
        assert len(caller.does("get", {"name": "peak_shaving"})["executions"]) == 1

    def test_an_execution_follows_what_happens_to_its_program(
        self, caller: Caller, solver: Solver
    ) -> None:
        """The solver shows each change by the time that it is answered."""

        def asked() -> list[tuple[str, float]]:
            [program] = solver.received[-1].programs
            return [(bus.bus, bus.max_kw) for bus in program.buses]

        caller.does("register", PEAK)
        caller.does("subscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
        caller.does("execute", {"dfp_name": "peak_shaving"})
        assert asked() == [("1", 100.0)]
        caller.does("subscribe", {"dfp_name": "peak_shaving", "bus_name": "4"})
        assert asked() == [("1", 100.0), ("4", 100.0)]
        caller.does("update", {**PEAK, "min_power_kw": 50})
        assert asked() == [("1", 50.0), ("4", 50.0)]
        caller.does("unsubscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
        assert asked() == [("4", 50.0)]
        caller.does("delete", {"name": "peak_shaving"})
        assert solver.received[-1].programs == ()

    def test_everybody_is_told(self, caller: Caller) -> None:
        name = {"name": "told", "min_power_kw": 100, "target_pf": 0.95}
        caller.does("register", name)
        caller.does("update", {**name, "min_power_kw": 99})
        caller.does("subscribe", {"dfp_name": "told", "bus_name": "1"})
        revision = caller.does("execute", {"dfp_name": "told"})["revision"]
        caller.does("unsubscribe", {"dfp_name": "told", "bus_name": "1"})
        caller.does("delete", {"name": "told"})
        wait_until(lambda: len(caller.events("told")) == 7, "all events")
        told = caller.events("told")
        assert [(event.event, event.bus, event.total_shed_kw) for event in told] == [
            ("registered", None, None),
            ("updated", None, None),
            ("subscribed", "1", None),
            ("executed", None, 41.0),
            ("unsubscribed", "1", None),
            ("stopped", None, None),
            ("deleted", None, None),
        ]
        assert [event.revision - revision for event in told[3:]] == [0, 1, 2, 2]
        assert {event.feeder for event in told} == {FEEDER}


REFUSED: dict[str, list[tuple[Any, str, str | None]]] = {
    "register": [
        ({"min_power_kw": 1, "target_pf": 1}, "invalid_value", "name"),
        ({**PEAK, "name": None}, "invalid_value", "name"),
        ({**PEAK, "name": 7}, "invalid_value", "name"),
        ({**PEAK, "name": ""}, "invalid_value", "name"),
        ({**PEAK, "name": "a b"}, "invalid_value", "name"),
        ({**PEAK, "name": "x" * 65}, "invalid_value", "name"),
        ({"name": "a", "target_pf": 1}, "invalid_value", "min_power_kw"),
        ({**PEAK, "min_power_kw": None}, "invalid_value", "min_power_kw"),
        ({**PEAK, "min_power_kw": "1"}, "invalid_value", "min_power_kw"),
        ({**PEAK, "min_power_kw": -0.1}, "invalid_value", "min_power_kw"),
        ({**PEAK, "min_power_kw": 1.1e6}, "invalid_value", "min_power_kw"),
        (b'{"name":"a","target_pf":1,"min_power_kw":NaN}', "invalid_value", "min_power_kw"),
        (b'{"name":"a","target_pf":NaN,"min_power_kw":1}', "invalid_value", "target_pf"),
        (b'{"name":"a","target_pf":Infinity,"min_power_kw":1}', "invalid_value", "target_pf"),
        ({"name": "a", "min_power_kw": 1}, "invalid_value", "target_pf"),
        ({**PEAK, "target_pf": 0}, "invalid_value", "target_pf"),
        ({**PEAK, "target_pf": 1.01}, "invalid_value", "target_pf"),
        ({**PEAK, "target_pf": -0.9}, "invalid_value", "target_pf"),
        ({**PEAK, "number": 3}, "invalid_value", "number"),
        ({**PEAK, "description": "x" * 501}, "invalid_value", "description"),
        ({**PEAK, "feeder": "nowhere"}, "feeder_not_found", "feeder"),
        ({**PEAK, "feeder": "dfp"}, "feeder_not_found", "feeder"),
        ({**PEAK, "feeder": "a/b"}, "invalid_value", "feeder"),
        ({**PEAK, "name": "THERE"}, "already_exists", "name"),
        (b"{", "not_json", None),
        (b"\xff", "not_json", None),
        (b"[]", "invalid_value", None),
        (b" " * 70_000, "too_large", "message"),
    ],
    "update": [
        ({**PEAK, "name": "nobody"}, "program_not_found", "name"),
        ({"min_power_kw": 1, "target_pf": 1}, "invalid_value", "name"),
        ({"name": "there", "min_power_kw": 1}, "invalid_value", "target_pf"),
        ({**PEAK, "name": "there", "min_power_kw": -1}, "invalid_value", "min_power_kw"),
        ({**PEAK, "name": "there", "min_power_kw": []}, "invalid_value", "min_power_kw"),
        ({**PEAK, "name": "there", "target_pf": 0}, "invalid_value", "target_pf"),
        ({**PEAK, "name": "there", "target_pf": 1.01}, "invalid_value", "target_pf"),
        ({**PEAK, "name": "there", "target_pf": None}, "invalid_value", "target_pf"),
        (b'{"name":"there","target_pf":NaN,"min_power_kw":1}', "invalid_value", "target_pf"),
    ],
    "delete": [
        ({}, "invalid_value", "name"),
        ({"name": None}, "invalid_value", "name"),
        ({"name": ["there"]}, "invalid_value", "name"),
        ({"name": "nobody"}, "program_not_found", "name"),
    ],
    "get": [
        ({}, "invalid_value", "name"),
        ({"name": None}, "invalid_value", "name"),
        ({"name": 1}, "invalid_value", "name"),
        ({"name": "nobody"}, "program_not_found", "name"),
    ],
    "list": [
        ({"name": "there"}, "invalid_value", "name"),
        ({"feeder": 1}, "invalid_value", "feeder"),
        ({"feeder": "nowhere"}, "feeder_not_found", "feeder"),
    ],
    "execute": [
        ({}, "invalid_value", "dfp_name"),
        ({"dfp_name": None}, "invalid_value", "dfp_name"),
        ({"dfp_name": 1}, "invalid_value", "dfp_name"),
        ({"dfp_name": "nobody"}, "program_not_found", "dfp_name"),
        ({"dfp_name": "there", "dfp_number": 1}, "invalid_value", "dfp_number"),
    ],
    "stop": [
        ({}, "invalid_value", "dfp_name"),
        ({"dfp_name": None}, "invalid_value", "dfp_name"),
        ({"dfp_name": {}}, "invalid_value", "dfp_name"),
        ({"dfp_name": "nobody"}, "program_not_found", "dfp_name"),
    ],
    "subscribe": [
        ({"dfp_name": "there"}, "invalid_value", "bus_name"),
        ({"bus_name": None, "dfp_name": "there"}, "invalid_value", "bus_name"),
        ({"bus_name": 1, "dfp_name": "there"}, "invalid_value", "bus_name"),
        ({"bus_name": "99", "dfp_name": "there"}, "bus_not_found", "bus_name"),
        ({"bus_name": "1"}, "invalid_value", "dfp_number"),
        ({"bus_name": "1", "dfp_name": "there", "dfp_number": 1}, "invalid_value", "dfp_number"),
        ({"bus_name": "1", "dfp_name": "nobody"}, "program_not_found", "dfp_name"),
        ({"bus_name": "1", "dfp_number": 0}, "invalid_value", "dfp_number"),
        ({"bus_name": "1", "dfp_number": 1.5}, "invalid_value", "dfp_number"),
        ({"bus_name": "1", "dfp_number": "1"}, "invalid_value", "dfp_number"),
        ({"bus_name": "1", "dfp_number": True}, "invalid_value", "dfp_number"),
        ({"bus_name": "1", "dfp_number": 10**9}, "program_not_found", "dfp_number"),
    ],
    "unsubscribe": [
        ({}, "invalid_value", "bus_name"),
        ({"bus_name": None, "dfp_name": "there"}, "invalid_value", "bus_name"),
        ({"bus_name": "99", "dfp_name": "there"}, "bus_not_found", "bus_name"),
        ({"bus_name": "1", "dfp_name": "nobody"}, "program_not_found", "dfp_name"),
        ({"bus_name": "1", "dfp_number": 10**9}, "program_not_found", "dfp_number"),
        ({"bus_name": "1"}, "invalid_value", "dfp_number"),
    ],
    "nonsense": [({}, "unknown_command", "command")],
}
"""By command: bodies, the code with which each is refused, and the field that is named."""


class TestRefusals:
    @pytest.mark.parametrize("command", REFUSED)
    def test_bad_input_is_answered_and_changes_nothing(self, caller: Caller, command: str) -> None:
        caller.does("register", {"name": "there", "min_power_kw": 1, "target_pf": 1})
        before = caller.does("list", {})
        sent = [(caller.send(command, body), code, field) for body, code, field in REFUSED[command]]
        for correlation, code, field in sent:
            assert_error(caller.reply(correlation), code, field)
        assert caller.does("list", {}) == before

    def test_the_bounds_themselves_are_taken(self, caller: Caller) -> None:
        for name, kw, pf in (("a", 0, 1), ("b", 1e6, 1e-9), ("c", 0.0, 1.0)):
            caller.does("register", {"name": name, "min_power_kw": kw, "target_pf": pf})

    def test_what_cannot_be_read_does_not_stop_it(self, caller: Caller, kept: World) -> None:
        for topic in (f"{FEEDER}/state", f"{FEEDER}/topology", "dfp/state", "other/topology"):
            for payload in (b"", b"\xff\x00", b"{}", b'{"feeder":"ieee123","version":1,'):
                caller.client.publish(f"flexfeeder/{topic}", payload)
        caller.client.publish(COMMAND, b"")
        caller.client.publish(f"{COMMAND}/register", b"nobody is to be answered")
        assert caller.does("list", {}) == []
        wait_until(lambda: kept.logged("message_unreadable") > 0, "it is logged")

    def test_a_state_that_ends_well_and_is_none_makes_no_report(
        self, caller: Caller, solver: Solver
    ) -> None:
        caller.does("register", PEAK)
        caller.does("subscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
        solver.is_silent, solver.follows = True, False
        asked = caller.send("execute", {"dfp_name": "peak_shaving"})
        wait_until(lambda: bool(solver.received[-1].programs), "it is in force")
        tail = {"revision": solver.received[-1].revision, "programs": []}
        head = {"feeder": FEEDER, "version": solver._version + 1000, "bus_details": 7}
        state = orjson.dumps({**head, "adjustments": tail})
        caller.client.publish(f"flexfeeder/{FEEDER}/state", state)
        assert_error(caller.reply(asked), "no_reply", "solver")
        solver._version += 1000


def under(request_id: str, body: dict[str, Any], **way: Any) -> dict[str, Any]:
    """A command that bears a request id."""
    return {**body, "request_id": request_id, **way}


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


EXECUTE = {"dfp_name": "peak_shaving"}
BUS_1 = {"dfp_name": "peak_shaving", "bus_name": "1"}


class TestARequestThatComesAgain:
    """It has the answer that it had, and no further effect."""

    @pytest.fixture
    def id_(self) -> str:
        """A request id that nobody has used."""
        return uuid.uuid4().hex

    def test_each_command_is_carried_out_once(self, caller: Caller) -> None:
        terms = {**PEAK, "name": "once"}
        run, bus_1 = {"dfp_name": "once"}, {"dfp_name": "once", "bus_name": "1"}
        bodies: list[tuple[str, dict[str, Any]]] = [
            ("register", terms),
            ("update", {**terms, "min_power_kw": 50}),
            ("subscribe", bus_1),
            ("execute", run),
            ("unsubscribe", bus_1),
            ("stop", run),
            ("delete", {"name": "once"}),
        ]
        ids = {command: uuid.uuid4().hex for command, _ in bodies}
        first = {command: caller.ask(command, under(ids[command], b)) for command, b in bodies}
        again = {command: caller.ask(command, under(ids[command], b)) for command, b in bodies}
        for command, reply in first.items():
            assert reply["status"] == "success"
            assert_same(again[command], reply)
        assert first["execute"]["results"]["total_shed_kw"] == 90.0
        assert caller.does("list", {}) == []
        caller.does("register", terms)
        wait_until(lambda: len(caller.events("once")) >= 8, "all events")
        assert [event.event for event in caller.events("once")] == [
            "registered",
            "updated",
            "subscribed",
            "executed",
            "unsubscribed",
            "stopped",
            "deleted",
            "registered",
        ]

    def test_a_refusal_comes_again_though_it_would_be_accepted_now(
        self, caller: Caller, id_: str
    ) -> None:
        delete = under(id_, {"name": "peak_shaving"})
        refused = caller.ask("delete", delete)
        assert_error(refused, "program_not_found", "name")
        caller.does("register", PEAK)
        assert_same(caller.ask("delete", delete), refused)
        assert len(caller.does("list", {})) == 1

    def test_something_else_under_its_id_is_refused(self, caller: Caller, id_: str) -> None:
        caller.does("register", under(id_, PEAK))
        for command, body in (
            ("register", {**PEAK, "min_power_kw": 1}),
            ("register", {**PEAK, "description": "x"}),
            ("delete", {"name": "peak_shaving"}),
        ):
            assert_error(caller.ask(command, under(id_, body)), "request_id_reused", "request_id")
        [program] = caller.does("list", {})
        assert program["min_power_kw"] == 100.0

    def test_what_only_asks_is_asked_anew(self, caller: Caller, id_: str) -> None:
        assert caller.does("list", under(id_, {})) == []
        caller.does("register", under(id_, PEAK))
        assert len(caller.does("list", under(id_, {}))) == 1

    def test_without_an_id_it_is_carried_out_again(self, caller: Caller) -> None:
        caller.does("register", PEAK)
        assert_error(caller.ask("register", PEAK), "already_exists", "name")

    def test_one_that_is_known_is_answered_also_after_its_deadline(
        self, caller: Caller, id_: str
    ) -> None:
        first = caller.ask("register", under(id_, PEAK))
        assert_same(caller.ask("register", under(id_, PEAK, deadline=ago(5))), first)

    def test_one_that_comes_too_late_is_refused_and_not_remembered(
        self, caller: Caller, id_: str
    ) -> None:
        late = caller.ask("register", under(id_, PEAK, deadline=ago(5)))
        assert_error(late, "deadline_passed", "deadline")
        assert caller.does("register", under(id_, PEAK))["name"] == "peak_shaving"

    def test_one_that_may_be_forgotten_is_refused(self, caller: Caller, id_: str) -> None:
        day = 24 * 3600
        old = caller.ask("register", under(id_, PEAK, issued_at=ago(day + 1)))
        assert_error(old, "request_too_old", "issued_at")
        caller.does("register", under(id_, PEAK, issued_at=ago(day - 60)))

    def test_each_feeder_has_its_own(self, caller: Caller, kept: World, id_: str) -> None:
        elsewhere = {"feeder": "IEEE13"}
        with Solver(kept.broker.port, "ieee13"):
            wait_until(lambda: caller.ask("list", elsewhere)["status"] == "success", "it is known")
            caller.does("register", under(id_, PEAK))
            caller.does("register", under(id_, PEAK, **elsewhere))
            assert len(caller.does("list", elsewhere)) == 1
            caller.does("delete", {"name": "peak_shaving", **elsewhere})

    def test_while_it_waits_for_the_solver_it_is_under_way(
        self, caller: Caller, solver: Solver, id_: str
    ) -> None:
        caller.does("register", PEAK)
        caller.does("subscribe", BUS_1)
        solver.follows = False
        first = caller.send("execute", under(id_, EXECUTE))
        again = caller.ask("execute", under(id_, EXECUTE))
        assert_error(again, "request_in_progress", "request_id")
        other = caller.ask("execute", under(id_, {"dfp_name": "other"}))
        assert_error(other, "request_id_reused", "request_id")
        assert not caller.has_reply(first)
        solver.follows = True
        reply = caller.reply(first)
        assert reply["results"]["total_shed_kw"] == 40.0
        assert_same(caller.ask("execute", under(id_, EXECUTE)), reply)

    @ON_ONE_BROKER
    def test_one_that_was_given_up_is_answered_when_the_solver_comes_to_it(
        self, caller: Caller, solver: Solver, id_: str
    ) -> None:
        """And what it did is noted, though nobody waits for it."""
        caller.does("register", PEAK)
        caller.does("subscribe", BUS_1)
        solver.follows = False
        assert_error(caller.ask("execute", under(id_, EXECUTE)), "no_reply", "solver")
        again = caller.send("execute", under(id_, EXECUTE))
        third = caller.ask("execute", under(id_, EXECUTE))
        assert_error(third, "request_in_progress", "request_id")
        solver.follows = True
        reply = caller.reply(again)
        assert reply["results"]["total_shed_kw"] == 40.0
        assert_same(caller.ask("execute", under(id_, EXECUTE)), reply)
        [execution] = caller.does("get", {"name": "peak_shaving"})["executions"]
        assert execution["total_shed_kw"] == 40.0
        wait_until(lambda: caller.events("peak_shaving")[-1].event == "executed", "it is told")

    @ON_ONE_BROKER
    def test_what_it_did_is_noted_also_if_nobody_asks_again(
        self, caller: Caller, solver: Solver, id_: str
    ) -> None:
        caller.does("register", PEAK)
        caller.does("subscribe", BUS_1)
        solver.follows = False
        assert_error(caller.ask("execute", under(id_, EXECUTE)), "no_reply", "solver")
        solver.follows = True

        def shed() -> Any:
            [execution] = caller.does("get", {"name": "peak_shaving"})["executions"]
            return execution["total_shed_kw"]

        wait_until(lambda: shed() == 40.0, "it is noted")
        answer = caller.ask("execute", under(id_, EXECUTE))
        assert answer["message"] == "program peak_shaving is in force at 1 bus; shed 40 kW"

    def test_the_broker_may_bring_it_again(self, own_on_each: World, broker_kind: str) -> None:
        """Its sender waits for one answer, and gets it; where the embedded broker loses that, as it
        may while it hangs up, whoever asks again gets it.
        """
        own = own_on_each
        with peers(own) as (caller, solver):
            caller.does("stop", EXECUTE)
            solver.follows = False
            asked = caller.send("execute", under("r-1", EXECUTE))
            wait_until(lambda: bool(solver.received[-1].programs), "it is in force")
            interrupt(own.broker.port, "dfp_manager")
            caller.does("list", {})
            assert own.logged("broker_away") >= 1
            assert_error(caller.ask("execute", under("r-1", EXECUTE)), "request_in_progress")
            solver.follows = True
            again = asked_again(caller, "execute", under("r-1", EXECUTE))
            assert again["status"] == "success"
            if broker_kind == "mosquitto" or caller.has_reply(asked):
                assert_same(again, caller.reply(asked))
                assert len(caller._replies(asked)) == 1
            assert caller.does("get", {"name": "peak_shaving"})["executing"]


def assert_same(again: Reply, first: Reply) -> None:
    """Two replies say the same, as of different versions perhaps."""
    as_of = {"version"}
    assert {k: v for k, v in again.items() if k not in as_of} == {
        k: v for k, v in first.items() if k not in as_of
    }


def interrupt(port: int, client_id: str) -> None:
    """Take over somebody's session, and leave it with all that is in it."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5, manual_ack=True
    )
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()
    wait_until(client.is_connected, "the session is taken over")
    leave(client)


class TestFeeders:
    def test_each_feeder_has_its_own_programs(self, caller: Caller, kept: World) -> None:
        elsewhere = {"feeder": "IEEE13"}
        with Solver(kept.broker.port, "ieee13") as other:
            wait_until_heard(caller, "ieee13")
            first = caller.does("register", PEAK)
            there = caller.does("register", {**PEAK, **elsewhere})
            assert first["subscriptions"] == there["subscriptions"] == []
            joined = {"dfp_name": "peak_shaving", "bus_name": "1", **elsewhere}
            caller.does("subscribe", joined)
            report = caller.does("execute", {"dfp_name": "peak_shaving", **elsewhere})
            assert report["total_shed_kw"] == 40.0
            assert other.received[-1].programs[0].buses[0].bus == "1"
            assert not caller.does("get", {"name": "peak_shaving"})["executing"]
            caller.does("delete", {"name": "peak_shaving", **elsewhere})


class TestFiles:
    def test_both_say_what_has_happened(self, caller: Caller, kept: World) -> None:
        name = {"name": "filed", "min_power_kw": 100, "target_pf": 0.95, "description": "in a file"}
        caller.does("register", name)
        caller.does("subscribe", {"dfp_name": "filed", "bus_name": "1"})
        caller.does("execute", {"dfp_name": "filed"})

        def registry() -> str:
            _, _, said = kept.read("dfp_registry.txt").partition("  filed\n")
            return said

        wait_until(lambda: "executing             yes" in registry(), "it executes")
        assert "description           in a file\n" in registry()
        caller.does("delete", {"name": "filed"})
        wait_until(lambda: "filed" not in kept.read("dfp_registry.txt"), "it is gone")

        def said() -> list[str]:
            whole, _, _ = kept.read("dfps_logs.txt").rpartition("\n")
            lines = whole.splitlines()
            return [line.split(") ", 1)[1] for line in lines if " filed (" in line]

        wait_until(lambda: len(said()) == 6, "all lines")
        assert [line.strip().split(":")[0] for line in said()] == [
            "registered",
            "subscribed",
            "executed",
            "bus 1",
            "stopped",
            "deleted",
        ]
        assert said()[2].endswith("1 bus, shed 40 kW")


@contextmanager
def peers(own: World) -> Iterator[tuple[Caller, Solver]]:
    """A solver and a caller, in a world of their own with an execution at bus 1."""
    with ExitStack() as stack:
        solver = stack.enter_context(Solver(own.broker.port))
        caller = stack.enter_context(Caller(own.broker.port))
        is_ready(caller)
        caller.does("register", PEAK)
        caller.does("subscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
        caller.does("execute", {"dfp_name": "peak_shaving"})
        [program] = caller.does("list", {})
        assert program["executions"][0]["total_shed_kw"] == 40.0
        yield caller, solver


def has_room(store: Store, is_so: bool) -> None:
    """Have a store take writes, or refuse them."""
    with store.client() as client:
        client.config_set("maxmemory", 0 if is_so else 1)


class TestWhatDies:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_a_manager_that_starts_again_serves_what_is_in_the_store(
        self, own_on_each: World, number: int
    ) -> None:
        own = own_on_each
        with peers(own) as (caller, solver):
            before = caller.does("list", {})
            in_force = solver.received[-1]
            status = own.stop_manager(number)
            assert status == (0 if number == signal.SIGTERM else -signal.SIGKILL)
            wait_until(lambda: not caller.is_online(), "it is offline")
            if number == signal.SIGTERM:
                assert "shed 40 kW" in own.read("dfps_logs.txt")
                assert "peak_shaving" in own.read("dfp_registry.txt")
            published = len(solver.received)
            asked = caller.send("list", {})
            own.start_manager()
            assert caller.reply(asked)["status"] in {"success", "error"}, "it came in its absence"
            wait_until(caller.is_served, "it is online")
            wait_until(lambda: len(solver.received) > published, "what is in force is published")
            assert solver.received[-1] == in_force
            assert caller.does("list", {}) == before
            told = caller.status()
            assert told is not None
            assert (told.figures["programs"], told.figures["executing"]) == (1.0, 1.0)

    def test_while_the_solver_is_silent_nothing_is_executed_and_the_rest_is_not_held_up(
        self, healing: World
    ) -> None:
        with peers(healing) as (caller, solver):
            solver.is_silent = True
            silent_from = time.monotonic() + SILENT_S
            caller.does("register", {**PEAK, "name": "other"})
            other = {"dfp_name": "other"}
            # One that is asked for before would be waited for.
            wait_until(lambda: time.monotonic() > silent_from, "it may count as silent")

            def is_refused() -> bool:
                reply = caller.ask("execute", other)
                caller.ask("stop", other)
                return bool(reply["status"] == "error" and reply["code"] == "service_unavailable")

            wait_until(is_refused, "it counts as silent")
            assert_error(caller.ask("execute", other), "service_unavailable", "solver")
            assert not caller.does("get", {"name": "other"})["executing"]
            revision = in_the_store(healing).revision
            stopped = caller.ask("stop", {"dfp_name": "peak_shaving"})
            assert stopped["status"] == "success"
            assert stopped["version"] is None
            wait_until(lambda: solver.received[-1].revision == revision + 1, "it is published")
            solver.is_silent = False
            wait_until(lambda: caller.ask("execute", other)["status"] == "success", "it executes")

    def test_while_the_solver_takes_nothing_over_others_are_served_and_it_is_told_again(
        self, healing: World
    ) -> None:
        """Acknowledgements wait for the answer, and the embedded broker wants them in order."""
        with peers(healing) as (caller, solver):
            caller.does("stop", {"dfp_name": "peak_shaving"})
            solver.follows = False
            executing = caller.send("execute", {"dfp_name": "peak_shaving"})
            wait_until(lambda: bool(solver.received[-1].programs), "it is in force")
            leaving = caller.send("unsubscribe", {"dfp_name": "peak_shaving", "bus_name": "1"})
            assert caller.does("get", {"name": "peak_shaving"})["executing"]
            assert not caller.has_reply(executing)
            revision = solver.received[-1].revision

            def repeated() -> bool:
                return sum(each.revision >= revision for each in solver.received) >= 4

            wait_until(repeated, "it is published again and again")
            assert_error(caller.reply(executing), "no_reply", "solver")
            reply = caller.reply(leaving)
            assert reply["status"] == "success"
            assert reply["version"] is None

            solver.follows = True
            again = caller.ask("execute", {"dfp_name": "peak_shaving"})
            assert again["status"] == "success"
            assert solver.received[-1].programs[0].buses == ()
            assert healing.logged("broker_away") == 0

    def test_without_the_store_nothing_is_done_but_told_and_it_heals(self, healing: World) -> None:
        with peers(healing) as (caller, solver):
            before = caller.does("list", {})
            healing.store.kill()
            bodies = {
                "register": {**PEAK, "name": "late"},
                "update": {**PEAK, "min_power_kw": 1},
                "subscribe": {"dfp_name": "peak_shaving", "bus_name": "4"},
                "unsubscribe": {"dfp_name": "peak_shaving", "bus_name": "1"},
                "stop": {"dfp_name": "peak_shaving"},
                "execute": {"dfp_name": "peak_shaving"},
                "delete": {"name": "peak_shaving"},
            }
            for command, body in bodies.items():
                assert_error(caller.ask(command, body), "service_unavailable", "store")
            assert caller.does("list", {}) == before, "what it held last"
            assert caller.does("get", {"name": "peak_shaving"}) == before[0]
            wait_until(lambda: not caller.is_served(), "it says that it cannot write")
            assert caller.is_online()
            assert healing.logged("store_away") == 1
            healing.store.start()
            wait_until(caller.is_served, "it is back")
            assert caller.does("list", {}) == before
            caller.does("stop", {"dfp_name": "peak_shaving"})
            assert solver.received[-1].programs == ()

    def test_a_store_that_hangs_is_refused_like_one_that_is_gone(self, healing: World) -> None:
        with peers(healing) as (caller, _):
            before = caller.does("list", {})
            healing.store.freeze()
            try:
                reply = caller.ask("stop", {"dfp_name": "peak_shaving"})
                assert_error(reply, "service_unavailable", "store")
            finally:
                healing.store.thaw()
            wait_until(caller.is_served, "it is back")
            wait_until(lambda: caller.ask("list", {})["status"] == "success", "it serves")
            assert caller.does("list", {}) == before

    def test_a_store_that_takes_no_writes_is_read_and_it_heals(self, healing: World) -> None:
        """The service stays online, and says once that nothing is written, and once that it is."""
        late = {**PEAK, "name": "late"}
        with peers(healing) as (caller, _):
            before = caller.does("list", {})
            has_room(healing.store, False)
            for command, body in (("register", late), ("stop", EXECUTE), ("register", late)):
                reply = caller.ask(command, body)
                assert_error(reply, "service_unavailable", "store")
                assert reply["message"] == "store: it takes no writes; nothing was changed"
                assert caller.does("list", {}) == before
            assert healing.logged("store_takes_writes") == 0
            has_room(healing.store, True)
            caller.does("register", late)
            caller.does("delete", {"name": "late"})
            assert caller.does("list", {}) == before
            assert healing.logged("store_refuses_writes") == 1
            assert healing.logged("store_takes_writes") == 1
            assert healing.logged("store_away") == 0

    def test_what_an_execution_did_is_noted_once_the_store_takes_writes(
        self, healing: World
    ) -> None:
        """Who asks meanwhile hears it all the same."""
        with peers(healing) as (caller, solver):
            caller.does("stop", EXECUTE)
            solver.follows = False
            asked = caller.send("execute", under("r-1", EXECUTE))
            wait_until(lambda: bool(solver.received[-1].programs), "it is in force")
            has_room(healing.store, False)
            solver.follows = True
            reply = caller.reply(asked)
            assert reply["results"]["total_shed_kw"] == 40.0
            assert_same(asked_again(caller, "execute", under("r-1", EXECUTE)), reply)

            def noted() -> Any:
                runs = caller.does("get", {"name": "peak_shaving"})["executions"]
                return runs[-1]["total_shed_kw"]

            assert noted() is None
            has_room(healing.store, True)
            wait_until(lambda: noted() == 40.0, "it is noted")
            assert_same(caller.ask("execute", under("r-1", EXECUTE)), reply)
            assert (
                healing.logged("store_refuses_writes") == healing.logged("store_takes_writes") == 1
            )

    def test_a_store_that_was_emptied_is_surpassed(self, healing: World) -> None:
        """Lower revisions are ignored: an empty registry goes on above what the solver shows."""
        with peers(healing) as (caller, solver):
            revision = solver.received[-1].revision
            with healing.store.client() as client:
                client.flushall()
            wait_until(lambda: solver.received[-1].revision > revision, "it goes on above")
            assert solver.received[-1].programs == ()
            assert caller.does("list", {}) == []
            caller.does("register", PEAK)
            report = caller.does("execute", {"dfp_name": "peak_shaving"})
            assert report["revision"] > revision + 1

    def test_one_that_takes_no_writes_besides_is_surpassed_when_it_does(
        self, healing: World
    ) -> None:
        """It is said that a lower revision was surpassed when it was, and once."""
        with peers(healing) as (_, solver):
            revision = solver.received[-1].revision
            has_room(healing.store, False)
            with healing.store.client() as client:
                client.flushall()
            wait_until(lambda: healing.logged("store_refuses_writes") == 1, "it refuses")
            assert healing.logged("revision_behind") == 0
            has_room(healing.store, True)
            wait_until(lambda: solver.received[-1].revision > revision, "it goes on above")
            assert solver.received[-1].programs == ()
            assert healing.logged("revision_behind") == 1

    def test_one_that_was_emptied_while_the_manager_was_away_too(self, own: World) -> None:
        with peers(own) as (caller, solver):
            revision = solver.received[-1].revision
            own.stop_manager(signal.SIGKILL)
            with own.store.client() as client:
                client.flushall()
            own.start_manager()
            wait_until(lambda: solver.received[-1].revision > revision, "it goes on above")
            assert solver.received[-1].programs == ()
            wait_until(caller.is_served, "it is online")
            assert caller.does("list", {}) == []

    def test_a_broker_that_forgot_everything_is_told_again(self, own_on_each: World) -> None:
        own = own_on_each
        with peers(own) as (_, solver):
            in_force = solver.received[-1]
        own.broker.kill()
        own.broker.start()
        with MqttClient(own.broker.port, protocol="5") as client:
            client.subscribe(f"flexfeeder/{FEEDER}/adjustments")
            message = client.first_on(f"flexfeeder/{FEEDER}/adjustments")
            assert Adjustments.model_validate_json(message.payload) == in_force


@pytest.fixture
def way(own: World) -> Iterator[Way]:
    """Between the manager of one test and its store."""
    with Way(own.store) as way:
        own.start_manager(way.url)
        yield way
        own.stop_manager()


class TestAWriteWithoutAnAnswer:
    """The store is lost in the very moment in which it was to change something."""

    @pytest.mark.parametrize(
        ("fault", "status"), [("reply lost", "success"), ("request lost", "error")]
    )
    def test_its_sender_hears_what_became_of_it_once_the_store_is_back(
        self, own: World, way: Way, fault: Fault, status: str
    ) -> None:
        with peers(own) as (caller, solver):
            way.fault, way.is_closed = fault, True
            asked = caller.send("stop", {"dfp_name": "peak_shaving"})
            wait_until(lambda: own.logged("store_away") == 1, "it is away")
            assert caller.does("list", {})[0]["executing"], "so it was when the store was there"
            assert not caller.has_reply(asked)
            way.is_closed = False
            reply = caller.reply(asked)
            assert reply["status"] == status
            if status == "error":
                assert_error(reply, "service_unavailable", "store")
            else:
                assert solver.received[-1].programs == ()
            wait_until(caller.is_served, "it is back")
            stopped = caller.does("get", {"name": "peak_shaving"})
            assert stopped["executing"] is (status == "error")

    def test_who_asks_again_meanwhile_hears_that_and_then_what_became_of_it(
        self, own: World, way: Way
    ) -> None:
        """Nobody is told that nothing was changed while that is not known."""
        with peers(own) as (caller, _):
            stop = under("r-1", EXECUTE)
            way.fault, way.is_closed = "reply lost", True
            asked = caller.send("stop", stop)
            assert_error(caller.ask("stop", stop), "request_in_progress", "request_id")
            assert_error(caller.reply(asked), "no_reply", "store")
            asked = caller.send("stop", stop)
            assert_error(caller.ask("stop", stop), "request_in_progress", "request_id")
            way.is_closed = False
            assert caller.reply(asked)["message"] == "program peak_shaving stopped"
            wait_until(caller.is_served, "it is back")
            caller.does("execute", EXECUTE)
            again = asked_again(caller, "stop", stop)
            assert again["message"] == "program peak_shaving stopped"
            assert caller.does("get", {"name": "peak_shaving"})["executing"]

    def test_its_sender_is_told_in_time_that_nobody_knows(self, own: World, way: Way) -> None:
        with peers(own) as (caller, solver):
            way.fault, way.is_closed = "reply lost", True
            asked = caller.send("stop", {"dfp_name": "peak_shaving"})
            assert_error(caller.reply(asked), "no_reply", "store")
            way.is_closed = False
            wait_until(lambda: solver.received[-1].programs == (), "it was done after all")

            def is_told() -> bool:
                return caller.events("peak_shaving")[-1].event == "stopped"

            wait_until(is_told, "everybody is told")

    def test_while_the_store_takes_no_writes_either_it_is_served_and_read(
        self, own: World, way: Way
    ) -> None:
        with peers(own) as (caller, solver):
            way.fault, way.is_closed = "request lost", True
            asked = caller.send("stop", EXECUTE)
            wait_until(lambda: own.logged("store_away") == 1, "it is away")
            has_room(own.store, False)
            way.is_closed = False
            wait_until(lambda: own.logged("store_refuses_writes") == 1, "it is back, and refuses")
            assert caller.is_online()
            assert caller.does("get", {"name": "peak_shaving"})["executing"]
            reply = caller.ask("register", {**PEAK, "name": "late"})
            assert_error(reply, "service_unavailable", "store")
            has_room(own.store, True)
            assert caller.reply(asked)["status"] == "error"
            wait_until(lambda: own.logged("store_takes_writes") == 1, "it takes writes")
            caller.does("stop", EXECUTE)
            assert solver.received[-1].programs == ()
            assert own.logged("store_away") == 1


def in_the_store(own: World) -> Adjustments:
    """What is in force by the registry."""
    registry = Registry(own.store.url)
    registry.refresh()
    held = registry.programs(FEEDER)
    registry.close()
    return adjustments(held)


NOT_YET = {"request_in_progress", "no_reply", "service_unavailable"}
"""Codes with which nobody is told that it is done, or never will be: he is to ask again."""


def asked_again(caller: Caller, command: str, body: dict[str, Any]) -> Reply:
    """The answer to a command that the broker may have brought again meanwhile, to a manager that
    may just have started.
    """
    replies: list[Reply] = []

    def is_done() -> bool:
        replies.append(caller.ask(command, body))
        return replies[-1].get("code") not in NOT_YET

    wait_until(is_done, "it is not under way any more")
    return replies[-1]


def wait_until_published(own: World, solver: Solver) -> None:
    """Wait until the solver has been sent what the store has."""
    wait_until(lambda: solver.received[-1] == in_the_store(own), "it is published")


class TestAKillAtTheWorstMoment:
    """Kill -9, and the same request to the manager that comes after."""

    @pytest.mark.parametrize("fault", ["reply lost", "request lost"])
    def test_between_what_it_writes_and_what_it_publishes(
        self, own: World, way: Way, fault: Fault
    ) -> None:
        """Each command is carried out once, whether the store has it or not, and what is published
        is what the store has.
        """
        with peers(own) as (caller, solver):
            last = caller.does("get", {"name": "peak_shaving"})["number"]
            bodies: list[tuple[str, dict[str, Any]]] = [
                ("register", {**PEAK, "name": "other"}),
                ("update", {**PEAK, "min_power_kw": 50}),
                ("unsubscribe", BUS_1),
                ("subscribe", BUS_1),
                ("stop", EXECUTE),
                ("execute", EXECUTE),
                ("delete", {"name": "peak_shaving"}),
            ]
            for command, body in bodies:
                was_away, before = own.logged("store_away"), in_the_store(own)
                way.fault, way.is_closed = fault, True
                caller.send(command, under(command, body))
                wait_until(lambda: own.logged("store_away") > was_away, "the store is lost")  # noqa: B023
                assert solver.received[-1] == before
                own.stop_manager(signal.SIGKILL)
                assert (in_the_store(own) != before) == (
                    fault == "reply lost" and command != "register"
                )
                way.is_closed = False
                own.start_manager(way.url)
                reply = asked_again(caller, command, under(command, body))
                assert reply["status"] == "success", reply
                wait_until_published(own, solver)
                if command == "execute":
                    assert reply["message"].endswith("at 1 bus; shed 90 kW")
                    runs = caller.does("get", {"name": "peak_shaving"})["executions"]
                    assert [run["total_shed_kw"] for run in runs] == [40.0, 90.0]
                assert_same(caller.ask(command, under(command, body)), reply)
            [left] = caller.does("list", {})
            assert (left["name"], left["number"]) == ("other", last + 1)

    def test_between_what_it_publishes_and_what_it_answers(self, own: World) -> None:
        """The execution is not begun again. What it did can be told as long as nobody has missed
        how it began.
        """
        with peers(own) as (caller, solver):
            self._killed_while_it_waits(own, caller, solver, "r-1")
            own.start_manager()
            caller.send("execute", under("r-1", EXECUTE))
            again = caller.ask("execute", under("r-1", EXECUTE))
            assert_error(again, "request_in_progress", "request_id")
            solver.follows = True
            reply = asked_again(caller, "execute", under("r-1", EXECUTE))
            assert reply["message"] == "program peak_shaving is in force at 1 bus; shed 40 kW"
            assert reply["results"]["total_shed_kw"] == 40.0
            assert_same(caller.ask("execute", under("r-1", EXECUTE)), reply)
            runs = caller.does("get", {"name": "peak_shaving"})["executions"]
            assert [run["total_shed_kw"] for run in runs] == [40.0, 40.0]

    def test_right_after_the_answer(self, own: World) -> None:
        """Whoever has heard it hears it again."""
        with peers(own) as (caller, _):
            caller.does("stop", EXECUTE)
            reply = caller.ask("execute", under("r-1", EXECUTE))
            own.stop_manager(signal.SIGKILL)
            own.start_manager()
            assert_same(asked_again(caller, "execute", under("r-1", EXECUTE)), reply)

    def test_what_nobody_has_seen_is_not_made_up(self, own: World) -> None:
        """The solver has come to it while there was no manager."""
        with peers(own) as (caller, solver):
            self._killed_while_it_waits(own, caller, solver, "r-1")
            self._comes_to_it_alone(own, solver)
            own.start_manager()
            reply = asked_again(caller, "execute", under("r-1", EXECUTE))
            assert reply["message"] == (
                "program peak_shaving is in force at 1 bus; what it took off was not seen"
            )
            [outcome] = reply["results"]["buses"]
            assert outcome["before"] == outcome["after"]
            assert outcome["after"]["kw"] == 100.0
            assert_same(caller.ask("execute", under("r-1", EXECUTE)), reply)
            runs = caller.does("get", {"name": "peak_shaving"})["executions"]
            assert [run["total_shed_kw"] for run in runs] == [40.0, None]

    @pytest.mark.parametrize("command", ["stop", "delete"])
    def test_what_has_ended_since_is_not_begun_again(self, own: World, command: str) -> None:
        with peers(own) as (caller, solver):
            self._killed_while_it_waits(own, caller, solver, "r-1")
            self._comes_to_it_alone(own, solver)
        # So that it does not bring the command again itself.
        own.broker.kill()
        own.broker.start()
        own.start_manager()
        with Solver(own.broker.port) as solver, Caller(own.broker.port) as caller:
            is_ready(caller)
            name = "name" if command == "delete" else "dfp_name"
            caller.does(command, {name: "peak_shaving"})
            reply = asked_again(caller, "execute", under("r-1", EXECUTE))
            assert reply["message"] == (
                "program peak_shaving is in force at 1 bus; it has ended since, and what it took "
                "off was not seen"
            )
            ExecutionReport.model_validate_json(orjson.dumps(reply["results"]))
            assert reply["results"]["buses"] == []
            assert solver.received[-1].programs == ()
            assert_same(caller.ask("execute", under("r-1", EXECUTE)), reply)

    def test_at_any_moment(self, own_on_each: World) -> None:
        """What is asked for until it is answered is done once, whenever the manager dies over it:
        no number is left out, and the adjustments change as often as they are to.
        """
        own = own_on_each
        with peers(own) as (caller, solver):
            revision = solver.received[-1].revision
            last = caller.does("get", {"name": "peak_shaving"})["number"]
            for number, moment in enumerate(range(0, 4000, 500), 1):
                register = under(f"register-{number}", {**PEAK, "name": f"p{number}"})
                command = "stop" if number % 2 else "execute"
                run = under(f"run-{number}", EXECUTE)
                caller.send("register", register)
                until = time.perf_counter() + moment * 1e-6
                caller.send(command, run)
                wait_until(lambda: time.perf_counter() >= until, "the moment", every_s=0.0)  # noqa: B023
                own.stop_manager(signal.SIGKILL)
                own.start_manager()
                registered = asked_again(caller, "register", register)
                assert registered["results"]["number"] == last + number
                ran = asked_again(caller, command, run)
                assert ran["status"] == "success"
                wait_until_published(own, solver)
                assert solver.received[-1].revision == revision + number
            runs = caller.does("get", {"name": "peak_shaving"})["executions"]
            assert len(runs) == 1 + 4

    def _killed_while_it_waits(
        self, own: World, caller: Caller, solver: Solver, request_id: str
    ) -> None:
        """With an execution in force that the solver has not come to."""
        caller.does("stop", EXECUTE)
        solver.follows = False
        caller.send("execute", under(request_id, EXECUTE))
        wait_until(lambda: bool(solver.received[-1].programs), "it is in force")
        own.stop_manager(signal.SIGKILL)

    def _comes_to_it_alone(self, own: World, solver: Solver) -> None:
        """And says so, to whoever comes later."""
        solver.follows = True
        wanted = solver.received[-1].revision
        with MqttClient(own.broker.port, protocol="5") as client:
            client.subscribe(f"flexfeeder/{FEEDER}/state")

            def is_shown() -> bool:
                heard = client.on(f"flexfeeder/{FEEDER}/state")
                return bool(heard) and revision_of(bytes(heard[-1].payload)) == wanted

            wait_until(is_shown, "the solver has come to it")


class TestStart:
    def test_it_refuses_until_the_store_is_there(self, tmp_path: Path) -> None:
        made = World("embedded", tmp_path)
        try:
            made.broker.start()
            made.start_manager()
            with Solver(made.broker.port), Caller(made.broker.port) as caller:

                def is_refused() -> bool:
                    asked = caller.send("list", {})
                    try:
                        reply = caller.reply(asked, timeout_s=0.5)
                    except TimeoutError:
                        return False
                    assert_error(reply, "service_unavailable", "store")
                    return True

                wait_until(is_refused, "it refuses")
                assert not caller.is_online()
                made.store.start()
                wait_until(caller.is_served, "it is online")
                assert caller.does("list", {}) == []
        finally:
            made.close()

    def test_a_results_folder_that_cannot_be_written_does_not_stop_it(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("in the way")
        with (
            world("embedded", tmp_path) as made,
            Solver(made.broker.port),
            Caller(made.broker.port) as caller,
        ):
            wait_until(caller.is_served, "it is online")
            caller.does("register", PEAK)
            wait_until(lambda: made.logged("files_not_written") == 1, "it is logged")
            assert made.stop_manager() == 0
            assert made.logged("files_not_written") == 1
