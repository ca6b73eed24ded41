"""MQTT for the services, on paho-mqtt: one connection, driven by the thread that owns it.

A :class:`Connection` does nothing by itself. Its owner calls :meth:`~Connection.maintain`,
:meth:`~Connection.read` and :meth:`~Connection.write` when time or its socket asks for it
(``services.reactor`` does so for a plain thread, the gateway for its event loop). Messages are
handed over inside ``read``, so nothing here needs a lock and no callback can surprise an engine.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import paho.mqtt.client as paho
import paho.mqtt.properties as paho_properties
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from services.logs import Log
from services.settings import Settings

KEEPALIVE_S = 10
FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 1.0
CONNECT_S = 1.0
HANDSHAKE_S = 5.0
STEADY_S = 5.0
"""A connection that has lasted this long is no flicker."""
SESSION_EXPIRY_S = 24 * 3600
MAX_INFLIGHT = 1000
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only
_CORK: int | None = getattr(socket, "TCP_CORK", None)  # Linux only


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker listens for MQTT 5, and what it wants to know."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    ca: Path | None = None
    carries_properties: bool = True
    """False where an MQTT 5 property on a message would harm subscribers that speak 3.1.1."""

    @classmethod
    def of(cls, settings: Settings) -> "BrokerAddress":
        password = settings.mqtt_password
        return cls(
            host=settings.mqtt_host or "127.0.0.1",
            port=settings.mqtt5_port or settings.mqtt_port,
            username=settings.mqtt_username,
            password=password.get_secret_value() if password else None,
            ca=settings.mqtt_ca,
            carries_properties=settings.mqtt5_port is None,
        )


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came; ``receipt`` is what acknowledging it takes."""

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None
    receipt: tuple[int, int, int]
    """Number of the connection on which it came, message id, QoS."""


@dataclass(frozen=True, slots=True)
class Subscription:
    topic_filter: str
    qos: int


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when the connection dies without a goodbye."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Retained:
    payload: bytes
    qos: int
    properties: Properties | None


class Connection:
    """One MQTT connection that comes back by itself.

    After each connect it subscribes and republishes what it has :meth:`retain`-ed. With
    ``session`` the broker keeps subscriptions and unacknowledged QoS 1 messages for the client id
    while it is away; without it each connect starts clean. QoS 1 messages are acknowledged by
    :meth:`acknowledge` only.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_id: str,
        *,
        log: Log,
        on_message: Callable[[Message], None],
        subscriptions: Sequence[Subscription] = (),
        session: bool = False,
        will: Will | None = None,
    ) -> None:
        self.client_id = client_id
        self.connected = False
        self.subscribed = False
        """The broker has taken the subscriptions of this connection."""
        self.dropped = 0
        """Messages that were not sent because too many waited for the broker."""
        self._is_dropping = False
        self._address = address
        self._log = log.bind(client=client_id, broker=f"{address.host}:{address.port}")
        self._on_message = on_message
        self._on_open: Callable[[socket.socket], None] = lambda _: None
        self._on_close: Callable[[socket.socket], None] = lambda _: None
        self._subscriptions = tuple(subscriptions)
        self._retained: dict[str, _Retained] = {}
        self._republish = False
        self._number = 0
        self._received = 0
        self._connected_at = 0.0
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._handshake_until = 0.0
        self._closing = False
        self._away = False
        self._unsteady = False
        self._session = session
        self._client = self._make_client(will)

    @property
    def connects(self) -> int:
        """How often it has connected."""
        return self._number

    def watch(
        self,
        on_open: Callable[[socket.socket], None],
        on_close: Callable[[socket.socket], None],
    ) -> None:
        """Tell whoever waits for the socket: when it opens, and just before it closes."""
        self._on_open, self._on_close = on_open, on_close

    @property
    def _socket(self) -> socket.socket | None:
        return cast("socket.socket | None", self._client.socket())

    @property
    def is_open(self) -> bool:
        """True while there is a socket, connected or still shaking hands."""
        return self._socket is not None

    def fileno(self) -> int | None:
        """Number of the socket, None while there is none."""
        sock = self._socket
        return None if sock is None else sock.fileno()

    @property
    def wants_write(self) -> bool:
        return self._client.want_write()

    @property
    def has_pending(self) -> bool:
        """True while decrypted data waits that the socket no longer tells of (TLS only)."""
        sock = self._socket
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def maintain(self, now: float) -> float:
        """Connect or reconnect when due, keep alive; returns when to call again (monotonic s).

        May block for as long as the TCP connect takes: a second for each of the broker's
        addresses, after the time that its name takes to resolve.
        """
        if self._closing:
            return now + KEEPALIVE_S
        if self._is_unanswered(now):
            self.read()  # whoever was held up himself finds the answer waiting
        if self._is_unanswered(now):
            self._lost("no answer to CONNECT; does the broker speak MQTT 5 on this port?")
            self._drop()
        if self.is_open:
            self._client.loop_misc()
            self._steady(now)
            return now + 1.0
        if now >= self._retry_at:
            self._connect(now)
        return now + HANDSHAKE_S if self.is_open else self._retry_at

    def read(self, budget: int = 1) -> int:
        """Hand over up to ``budget`` messages that have arrived; returns how many came."""
        start = self._received
        while self._received - start < budget:
            before = self._received
            self._client.loop_read()
            if self._received == before and not self.has_pending:
                break
        if self._republish:
            # Only now: on connecting, paho first repeats what was not acknowledged, and an older
            # retained message must not come after the newer.
            self._republish = False
            for topic, kept in self._retained.items():
                self._send_retained(topic, kept)
        self._acknowledge_quickly()
        if self._client.want_write():
            self._client.loop_write()
        return self._received - start

    def write(self) -> None:
        """Send what is queued and fits into the socket."""
        self._client.loop_write()

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        correlation: bytes | None = None,
    ) -> bool:
        """Send a message; False (and nothing sent or queued) while there is no connection, or while
        too many wait for the broker's acknowledgement: such a one is counted as dropped.
        """
        if not self.connected:
            return False
        properties = None
        if correlation is not None:
            properties = _properties(PacketTypes.PUBLISH)
            properties.CorrelationData = correlation
        return self._send(topic, payload, qos, retain, properties)

    def retain(
        self, topic: str, payload: bytes, *, qos: int = 0, version: int | None = None
    ) -> None:
        """Publish as retained now, and again after every reconnect until replaced.

        ``version`` also goes out as a user property where the broker carries properties.
        """
        properties = None
        if version is not None and self._address.carries_properties:
            properties = _VersionProperty(version)
        kept = self._retained[topic] = _Retained(payload, qos, properties)
        if self.connected:
            self._send_retained(topic, kept)

    def clear(self, topic: str) -> None:
        """Have the broker forget what it keeps on a topic, now; nothing is left to republish."""
        self._retained.pop(topic, None)
        self.publish(topic, b"", qos=1, retain=True)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is sent inside leave in one go at the end.

        The broker is then woken once for a state, its replies and acknowledgements; on a busy
        machine each time more costs a change of process.
        """
        sock = self._socket
        if _CORK is None or sock is None:
            yield
            return
        sock.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
        try:
            yield
        finally:
            if self._socket is sock:
                sock.setsockopt(socket.IPPROTO_TCP, _CORK, 0)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a QoS 1 message, unless the connection on which it came is gone:
        the broker will bring it again then, and a late acknowledgement would hit another.
        """
        number, message_id, qos = message.receipt
        if qos and number == self._number and self.connected:
            self._client.ack(message_id, qos)

    def close(self, farewell: Callable[[], None] = lambda: None) -> None:
        """Publish what ``farewell`` publishes, say goodbye and close the socket."""
        self._closing = True
        if self.connected:
            farewell()
            self._client.disconnect()
            sock = self._socket
            if sock is not None and self.wants_write:
                sock.setblocking(True)
                sock.settimeout(0.5)
                self._client.loop_write()
        self.connected = False

    def _make_client(self, will: Will | None) -> paho.Client:
        address = self._address
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.max_queued_messages_set(10 * MAX_INFLIGHT)
        if address.username:
            client.username_pw_set(address.username, address.password)
        if address.ca:
            client.tls_set_context(_tls(address.ca))
        if will:
            client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_socket_open = self._opened
        client.on_socket_close = self._closed
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._has_subscribed
        client.on_message = self._arrived
        return client

    def _connect(self, now: float) -> None:
        properties = _properties(PacketTypes.CONNECT)
        properties.ReceiveMaximum = MAX_INFLIGHT
        if self._session:
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self._handshake_until = now + HANDSHAKE_S
        try:
            self._client.connect(
                self._address.host,
                self._address.port,
                keepalive=KEEPALIVE_S,
                clean_start=not self._session,
                properties=properties,
            )
        except (OSError, ValueError) as error:
            self._lost(str(error))
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _is_unanswered(self, now: float) -> bool:
        """True if CONNECT has been waiting for its answer for too long."""
        return self.is_open and not self.connected and now > self._handshake_until

    def _drop(self) -> None:
        sock = self._socket
        if sock is not None:
            with suppress(OSError):  # the other side may have dropped it already
                sock.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()

    def _send_retained(self, topic: str, kept: _Retained) -> None:
        self._send(topic, kept.payload, kept.qos, True, kept.properties)

    def _send(
        self,
        topic: str,
        payload: bytes,
        qos: int,
        retain: bool,
        properties: Properties | None,
    ) -> bool:
        info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self._is_dropping = False
            return True
        self.dropped += 1
        if not self._is_dropping:
            self._is_dropping = True
            self._log.warning("message_dropped", topic=topic, reason="too many wait for the broker")
        return False

    def _lost(self, reason: str) -> None:
        """Say once that the broker is away, not at every attempt."""
        if not self._away and not self._closing:
            self._away = True
            self._log.warning("broker_away", reason=reason)

    def _steady(self, now: float) -> None:
        """A connection that lasts may fail loudly again, and its retries start small."""
        if self.connected and now - self._connected_at >= STEADY_S:
            self._retry_s = FIRST_RETRY_S
            if self._unsteady:
                self._unsteady = self._away = False
                self._log.info("broker_connected", steady=True)

    def _opened(self, _client: paho.Client, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._on_open(sock)

    def _closed(self, _client: paho.Client, _userdata: Any, sock: Any) -> None:
        self._on_close(sock)

    def _connected(
        self,
        client: paho.Client,
        _userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._lost(f"refused: {reason}")
            return
        self._number += 1
        self.connected = True
        self._connected_at = time.monotonic()
        if not self._unsteady:
            self._away = False
            self._log.info("broker_connected", session_present=flags.session_present)
        if self._subscriptions:
            client.subscribe(
                [(s.topic_filter, SubscribeOptions(qos=s.qos)) for s in self._subscriptions]
            )
        self._republish = True

    def _has_subscribed(self, *_: Any) -> None:
        self.subscribed = True

    def _disconnected(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        now = time.monotonic()
        if self.connected:
            # Somebody with our client id, say, takes the session over and over.
            self._unsteady = self._unsteady or now - self._connected_at < STEADY_S
            self._retry_at = now + self._retry_s
        self.connected = self.subscribed = False
        self._lost(str(reason))

    def _arrived(self, _client: paho.Client, _userdata: Any, arrived: paho.MQTTMessage) -> None:
        self._received += 1
        try:
            topic = arrived.topic
        except UnicodeDecodeError:
            topic = arrived._topic.decode("utf-8", "backslashreplace")  # noqa: SLF001
        properties = arrived.properties
        self._on_message(
            Message(
                topic=topic,
                payload=bytes(arrived.payload),
                retained=arrived.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
                receipt=(self._number, arrived.mid, arrived.qos),
            )
        )

    def _acknowledge_quickly(self) -> None:
        # The embedded broker sends with Nagle's algorithm on: its next small segment waits for
        # our TCP acknowledgement, which the kernel would hold back for 40 ms.
        sock = self._socket
        if _QUICKACK is not None and sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


class _TlsSocket(ssl.SSLSocket):
    """Closes itself where the handshake fails: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _tls(authority: Path) -> ssl.SSLContext:
    """TLS with a broker that bears its name, signed by this authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(authority)
    context.sslsocket_class = _TlsSocket
    return context


class _VersionProperty(Properties):
    """The user property ``version`` of a state, encoded here: paho takes 50 us for it, a tenth
    of all that a solve costs.
    """

    _packed: bytes

    def __init__(self, version: int) -> None:
        name, value = b"version", str(version).encode()
        pair = bytes([0, len(name)]) + name + bytes([0, len(value)]) + value
        object.__setattr__(self, "_packed", bytes([1 + len(pair), 0x26]) + pair)

    def pack(self) -> bytes:
        return self._packed

    def isEmpty(self) -> bool:  # noqa: N802 - paho's name
        return False


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def _read_text(buffer: bytes, available: int) -> tuple[str, int]:
    """An MQTT string at the head of ``buffer``, and the bytes it takes.

    In place of paho's own reader, which takes U+FEFF for a protocol error and disconnects. MQTT
    allows it, brokers pass it on, and a QoS 1 message with it would come back for ever.
    """
    length = int.from_bytes(buffer[:2], "big")
    if available < 2 or length > available - 2:
        raise MalformedPacket("a string is longer than its packet")
    return bytes(buffer[2 : 2 + length]).decode("utf-8", "replace"), length + 2


paho_properties.readUTF = _read_text
