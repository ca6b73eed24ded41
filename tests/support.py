"""What the tests on running systems share: clients that keep what they hear, brokers to kill."""

import logging
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, cast

import httpx
import orjson
import paho.mqtt.client as paho
import psutil
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from flexfeeder import broker, ports
from flexfeeder.testing import MOSQUITTO, System, wait_until
from services.solver.network import Bus

FEEDERS = Path(__file__).resolve().parents[1] / "feeders"
FEEDER = "ieee123"
SERVICES = ("solver", "dfp_manager", "gateway")

State = dict[str, Any]

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


def quiet_log() -> Any:
    """A log that keeps to itself; configuring the real one would be for all tests of the run."""
    wrapper = structlog.make_filtering_bound_logger(logging.CRITICAL)
    return structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=wrapper)


def buses_named(*names: str) -> list[Bus]:
    """Grounded buses of 4.16 kV with three phases, without a place."""
    return [
        Bus(name, (1, 2, 3), 4.16, x=None, y=None, distance_km=0.0, grounded=True) for name in names
    ]


LoadName = tuple[str, str]
"""Bus and name of a load."""


def results(response: httpx.Response) -> Any:
    """The results of an answer that says success, in the one shape of all successes."""
    assert response.status_code == 200, response.text
    answer = response.json()
    assert set(answer) == {"status", "message", "results"}
    assert answer["status"] == "success"
    assert answer["message"]
    return answer["results"]


def assert_refused(
    response: httpx.Response, status: int, code: str, field: str | None = None
) -> None:
    """The answer is an error in the one shape of all errors, and names the field."""
    assert response.status_code == status, response.text[:500]
    assert_error(response.json(), code, field)


def assert_error(error: dict[str, Any], code: str, field: str | None = None) -> None:
    """The error has its code, its words, and a detail for the field."""
    assert error["status"] == "error"
    assert error["code"] == code, error
    assert isinstance(error["message"], str)
    assert error["message"]
    assert set(error) - {"request_id"} == {"status", "code", "message", "details"}
    for detail in error["details"]:
        assert set(detail) == {"field", "problem"}
        assert detail["problem"]
    if field is not None:
        assert field in [detail["field"] for detail in error["details"]], error


def loads(state: State) -> dict[LoadName, dict[str, Any]]:
    """Every load of a state."""
    return {(b["bus"], load["name"]): load for b in state["bus_details"] for load in b["loads"]}


def demands(state: State) -> dict[LoadName, tuple[float, float, float, str]]:
    """What is asked for at every load: all that a command or a reading can change."""
    return {
        name: (load["demand_kw"], load["set_kw"], load["factor"], load["source"])
        for name, load in loads(state).items()
    }


def bus(state: State, name: str) -> dict[str, Any]:
    """One bus of a state."""
    found: dict[str, Any] = next(b for b in state["bus_details"] if b["bus"] == name)
    return found


def is_gone(pid: int) -> bool:
    """True if no process of that number runs; one that nobody has waited for yet has ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def pids(running: System) -> dict[str, int]:
    """The recorded processes of a running system, by name."""
    found = {}
    for path in (running.data_dir / "run").glob("*.pid"):
        with suppress(FileNotFoundError):  # it has just ended
            text = path.read_text(encoding="ascii").strip()
            if text:
                found[path.stem] = int(text)
    return found


def leave(client: paho.Client) -> None:
    """Have a client leave, and be gone: while the embedded broker is still about to notice that
    somebody has left, it may take a newcomer for him, and hang up on the newcomer.
    """
    sock = cast("socket.socket | None", client.socket())
    kept = None if sock is None else sock.dup()
    client.disconnect()
    client.loop_stop()
    if kept is not None:
        with kept, suppress(OSError):  # the broker may be gone, or not be able to notice
            kept.settimeout(5.0)
            while kept.recv(1 << 16):
                pass


class MqttClient:
    """An MQTT client that keeps every message it hears, in the order of arrival."""

    def __init__(
        self, port: int, *, protocol: str, client_id: str | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.name = client_id or f"test-{uuid.uuid4().hex[:12]}"
        self.heard: list[paho.MQTTMessage] = []
        self.is_v5 = protocol == "5"
        self.reply_topic = f"flexfeeder/reply/{self.name}"
        self._host, self._port = host, port
        self._subscribed: set[int] = set()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.name,
            protocol=paho.MQTTv5 if self.is_v5 else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        self._client.on_socket_open = _send_without_delay
        self._client.on_message = self._on_message
        self._client.on_publish = lambda client, *_: _acknowledge_at_once(client)
        self._client.on_subscribe = lambda _client, _userdata, mid, *_: self._subscribed.add(mid)

    def __enter__(self) -> Self:
        self._connect()
        wait_until(self._is_welcome, f"{self.name} is connected")
        return self

    def __exit__(self, *_: object) -> None:
        leave(self._client)

    def _connect(self) -> None:
        self._client.connect(self._host, self._port)
        self._client.loop_start()

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.heard.append(message)
        _acknowledge_at_once(client)

    def _is_welcome(self) -> bool:
        """Connected; once more, if the broker has taken this for somebody who has just left."""
        if not self.is_connected() and self._client.socket() is None:
            self._client.loop_stop()
            self._connect()
        return self.is_connected()

    def is_connected(self) -> bool:
        return self._client.is_connected()

    def subscribe(self, topic_filter: str, qos: int = 1) -> None:
        """Subscribe, and wait until the broker says so."""
        _, mid = self._client.subscribe(topic_filter, qos)
        assert mid is not None
        wait_until(lambda: mid in self._subscribed, f"subscribed to {topic_filter}")

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        user_property: tuple[str, str] | None = None,
    ) -> None:
        """Publish; at QoS 1 the broker has it when this returns."""
        properties = None
        if any(each is not None for each in (response_topic, correlation, user_property)):
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if response_topic is not None:
                properties.ResponseTopic = response_topic
            if correlation is not None:
                properties.CorrelationData = correlation
            if user_property is not None:
                properties.UserProperty = user_property
        sent = self._client.publish(topic, payload, qos, retain, properties)
        sent.wait_for_publish(30)
        assert sent.is_published(), topic

    def on(self, topic: str) -> list[paho.MQTTMessage]:
        """What was heard on one topic."""
        return [message for message in self.heard if message.topic == topic]

    def first_on(self, topic: str, timeout_s: float = 30.0) -> paho.MQTTMessage:
        """The first message on a topic, once there is one."""
        wait_until(lambda: bool(self.on(topic)), f"a message on {topic}", timeout_s)
        return self.on(topic)[0]

    def send(self, topic: str, payload: bytes, *, qos: int = 1) -> dict[str, Any]:
        """Publish whatever it is with an MQTT 5 response topic, and wait for the reply."""
        correlation = uuid.uuid4().bytes
        self.publish(
            topic, payload, qos=qos, response_topic=self.reply_topic, correlation=correlation
        )
        return self._reply(
            lambda message: getattr(message.properties, "CorrelationData", None) == correlation,
            topic,
        )

    def ask(self, command: str, body: dict[str, Any], *, qos: int = 1) -> dict[str, Any]:
        """Send a command the way of this client's protocol, and wait for the reply."""
        topic = f"flexfeeder/{FEEDER}/command/{command}"
        if self.is_v5:
            return self.send(topic, orjson.dumps(body), qos=qos)
        request_id = uuid.uuid4().hex
        envelope = {"request_id": request_id, "reply_to": self.reply_topic}
        self.publish(topic, orjson.dumps({**body, **envelope}), qos=qos)
        return self.reply_to(request_id)

    def reply_to(self, request_id: str) -> dict[str, Any]:
        """The reply that bears a request id."""
        return self._reply(
            lambda message: orjson.loads(message.payload)["request_id"] == request_id, request_id
        )

    def _reply(self, matches: Any, to: str) -> dict[str, Any]:
        def found() -> list[paho.MQTTMessage]:
            return [message for message in self.on(self.reply_topic) if matches(message)]

        wait_until(lambda: bool(found()), f"a reply to {to}")
        reply: dict[str, Any] = orjson.loads(found()[0].payload)
        return reply


@contextmanager
def mqtt(
    running: System, protocol: str = "5", *, client_id: str | None = None
) -> Iterator[MqttClient]:
    """A client of a running system's broker that listens for its own replies."""
    port = running.mqtt5_port if protocol == "5" else running.mqtt_port
    with MqttClient(port, protocol=protocol, client_id=client_id) as client:
        client.subscribe(f"{client.reply_topic}/#")
        yield client


class Broker:
    """A broker that can be killed and started again on the same port; it forgets everything."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.port, port311 = ports.free_ports(2)
        config = folder / "broker.toml"  # the embedded one goes by the suffix
        if kind == "mosquitto":
            assert MOSQUITTO is not None
            config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
            self._command = [MOSQUITTO, "-c", str(config)]
        else:
            config.write_text(broker.configuration("127.0.0.1", port311, self.port))
            self._command = [sys.executable, "-m", "flexfeeder.broker", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: ports.is_open("127.0.0.1", self.port), "the broker listens")

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _acknowledge_at_once(client: paho.Client) -> None:
    """The embedded broker sends with Nagle's algorithm on: what it has to say next waits for a TCP
    acknowledgement, which would come 40 ms later.
    """
    sock = cast("socket.socket | None", client.socket())
    if _QUICKACK is not None and sock is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


def _send_without_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
