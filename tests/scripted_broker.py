"""A broker that a test plays: just enough MQTT 5 to do what no real broker does on demand."""

import socket
import struct
from dataclasses import dataclass
from typing import Self

CONNECT, PUBLISH = 0x10, 0x30
CONNACK = b"\x20\x03\x00\x00\x00"
"""Welcome, to a new session."""

TIMEOUT_S = 30.0

LOOK_S = 5.0
"""For whoever looks again and again."""


@dataclass(frozen=True, slots=True)
class Packet:
    """Type and flags, and what follows the length."""

    head: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.head & 0xF0

    def message(self) -> tuple[str, bytes]:
        """Topic and payload of a PUBLISH whose properties take less than 128 bytes."""
        length = int.from_bytes(self.body[:2], "big")
        start = 2 + length + (2 if self.head & 0x06 else 0)
        start += 1 + self.body[start]
        return self.body[2 : 2 + length].decode(), self.body[start:]


def publish_packet(topic: str, payload: bytes) -> bytes:
    """A short PUBLISH at QoS 0."""
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + b"\x00" + payload
    assert len(body) < 128
    return bytes([PUBLISH, len(body)]) + body


def answers_connect(host: str, port: int, client_id: str) -> bool:
    """True if a client of that name is welcome by MQTT 3.1.1; it comes and leaves."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x0a" + len(name).to_bytes(2, "big") + name
    try:
        with socket.create_connection((host, port), timeout=LOOK_S) as sock:
            sock.sendall(bytes([CONNECT, len(body)]) + body)
            welcome = sock.recv(4)
            sock.sendall(b"\xe0\x00")
    except OSError:
        return False
    return welcome == b"\x20\x02\x00\x00"


class Peer:
    """The broker's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(TIMEOUT_S)
        self._socket = sock

    def send(self, packets: bytes) -> None:
        self._socket.sendall(packets)

    def next_packet(self) -> Packet | None:
        """What has come next, None once the other side has gone."""
        head = self._socket.recv(1)
        if not head:
            return None
        length, shift = 0, 0
        while (byte := self._exactly(1)[0]) & 0x80:
            length += (byte & 0x7F) << shift
            shift += 7
        return Packet(head[0], self._exactly(length + (byte << shift)))

    def published_until(self, topic: str) -> list[tuple[str, bytes]]:
        """Topics and payloads of what is published, up to the first on ``topic``; nothing is
        acknowledged.
        """
        found: list[tuple[str, bytes]] = []
        while not found or found[-1][0] != topic:
            packet = self.next_packet()
            assert packet is not None, f"it left before it published on {topic}"
            if packet.kind == PUBLISH:
                found.append(packet.message())
        return found

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Hang up as a process that dies does, with data unread."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _exactly(self, length: int) -> bytes:
        found = b""
        while len(found) < length:
            part = self._socket.recv(length - len(found))
            if not part:
                raise ConnectionError("it left in the middle of a packet")
            found += part
        return found


class ScriptedBroker:
    """Listens on a port of its own; whoever is accepted is closed in the end."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_S)
        self._accepted: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._accepted:
            sock.close()
        self._listener.close()

    def accept_raw(self) -> socket.socket:
        """The next connection, before a byte is read."""
        sock, _ = self._listener.accept()
        self._accepted.append(sock)
        return sock

    def accept(self) -> Peer:
        """The next connection, once its CONNECT has come."""
        peer = Peer(self.accept_raw())
        packet = peer.next_packet()
        assert packet is not None
        assert packet.kind == CONNECT
        return peer
