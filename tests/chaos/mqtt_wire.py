"""Operations as messages of MQTT 3.1.1: the request id and where to answer are in the payload."""

import select
import socket
import time
from collections import deque
from contextlib import suppress
from typing import Any

import orjson
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from chaos.history import Answer
from chaos.operations import Operation, Owner
from schemas import topics

LOOP_S = 0.05

_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class MqttWire:
    """One connection to the broker, driven by whoever asks, and opened again when it breaks.

    Each connection is a clean start: what was not acknowledged is for the client to send again.
    """

    def __init__(self, host: str, port: int, client: str, feeder: str) -> None:
        self._address = host, port
        self._name = client
        self._feeder = feeder
        self._reply_to = f"{topics.reply(client)}/answers"
        self._client: paho.Client | None = None
        self._subscribed = False
        self._replies: deque[dict[str, Any]] = deque()
        self._overheard: list[tuple[str, Answer]] = []

    def ask(
        self,
        operation: Operation,
        patience_s: float,
        *,
        hangs_up: bool = False,
        times: int = 1,
    ) -> Answer | str:
        deadline = time.monotonic() + patience_s
        if not self._is_connected(deadline):
            self.close()
            return "no connection"
        assert self._client is not None
        payload = orjson.dumps(
            {
                **operation.body,
                "request_id": operation.request_id,
                "reply_to": self._reply_to,
            }
        )
        way = operation.way
        topic = (
            topics.dfp_command(way.command)
            if way.owner is Owner.MANAGER
            else topics.command(self._feeder, way.command)
        )
        for _ in range(times):
            self._client.publish(topic, payload, qos=1)
        if hangs_up:
            self.close()
            return "hung up"
        while time.monotonic() < deadline:
            if not _turn(self._client):
                self.close()
                return "connection lost"
            if (answer := self._taken(operation)) is not None:
                return answer
        return "no reply in time"

    def overheard(self) -> list[tuple[str, Answer]]:
        heard, self._overheard = self._overheard, []
        return heard

    def close(self) -> None:
        client, self._client = self._client, None
        sock: Any = client.socket() if client is not None else None
        if client is not None and sock is not None:
            # Without a goodbye: that is how connections end here.
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            client.loop_read()

    def _is_connected(self, deadline: float) -> bool:
        if self._client is not None:
            return True
        self._subscribed = False
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=self._name, reconnect_on_failure=False
        )
        client.connect_timeout = 1.0
        client.on_socket_open = _send_at_once
        client.on_connect = lambda each, *_: each.subscribe(self._reply_to, qos=1)
        client.on_subscribe = self._on_subscribe
        client.on_message = lambda _client, _userdata, message: self._heard(message)
        try:
            client.connect(*self._address, keepalive=60)
        except OSError:
            return False
        while not self._subscribed and time.monotonic() < deadline:
            if not _turn(client):
                return False
        return self._subscribed

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed = True

    def _heard(self, message: paho.MQTTMessage) -> None:
        self._replies.append(orjson.loads(message.payload))

    def _taken(self, operation: Operation) -> Answer | None:
        """The first reply to an operation; those to others that came before it are set aside."""
        while self._replies:
            reply = self._replies.popleft()
            if reply["request_id"] == operation.request_id:
                return _answer(reply)
            self._overheard.append((reply["request_id"], _answer(reply)))
        return None


def _turn(client: paho.Client) -> bool:
    """Let a connection send and receive for a moment; False where it has ended."""
    sock: Any = client.socket()
    if sock is None:
        return False
    to_write = [sock] if client.want_write() else []
    readable, writable, _ = select.select([sock], to_write, [], LOOP_S)
    if writable:
        client.loop_write()
    if readable and client.loop_read() != paho.MQTT_ERR_SUCCESS:
        return False
    if _QUICKACK is not None and client.socket() is not None:
        # The embedded broker holds its next message back until this one is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
    return client.loop_misc() == paho.MQTT_ERR_SUCCESS


def _send_at_once(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _answer(reply: dict[str, Any]) -> Answer:
    if reply["status"] != "success":
        return Answer("error", reply["code"], reply["message"])
    return Answer("success", None, reply["message"], reply["results"], reply["version"])
