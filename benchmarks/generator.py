"""Readings at a given rate, from a socket that speaks just enough MQTT 3.1.1.

A client library would cost more than what it measures. Each reading of a load is told from the
last by its kW, so that a state shows how far it has come.
"""

import socket
import time
from collections.abc import Callable, Sequence

import orjson

STEP_KW = 0.001
BURST_S = 0.005


class Generator:
    """Publishes readings for loads in turn; ``sent_at[i][k]`` is when the k-th of load i left."""

    def __init__(
        self, port: int, loads: Sequence[tuple[str, str]], feeder: str = "ieee123"
    ) -> None:
        self.sent_at: list[list[float]] = [[] for _ in loads]
        self.sent = 0
        self._loads = loads
        self._topics = [f"flexfeeder/{feeder}/meter/{bus}/{load}".encode() for bus, load in loads]
        self._batch_topic = f"flexfeeder/{feeder}/meters".encode()
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = b"bench-generator"
        head = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client).to_bytes(2, "big") + client
        self._sock.sendall(b"\x10" + bytes([len(head)]) + head)
        if self._sock.recv(4)[:1] != b"\x20":
            raise RuntimeError("the broker did not accept the generator")

    def singles(self, rate: float, seconds: float) -> float:
        """Single readings at ``rate`` a second; returns the seconds taken."""
        return self._paced(rate, seconds, self._burst)

    def batches(self, rate: float, seconds: float, size: int) -> float:
        """Readings at ``rate`` a second, ``size`` a message; returns the seconds taken."""

        def burst(count: int) -> bytes:
            return b"".join(self._batch(size) for _ in range(count // size))

        return self._paced(rate, seconds, burst)

    def close(self) -> None:
        self._sock.sendall(b"\xe0\x00")
        self._sock.close()

    def _paced(self, rate: float, seconds: float, burst: Callable[[int], bytes]) -> float:
        start = time.monotonic()
        first = self.sent
        while (elapsed := time.monotonic() - start) < seconds:
            due = int(rate * elapsed) - (self.sent - first)
            if due > 0:
                self._sock.sendall(burst(due))
            time.sleep(BURST_S)
        return time.monotonic() - start

    def _burst(self, count: int) -> bytes:
        now = time.monotonic()
        packets = []
        for _ in range(count):
            index = self.sent % len(self._loads)
            payload = b'{"kw":%.3f}' % self._next_kw(index, now)
            packets.append(_publish(self._topics[index], payload))
        return b"".join(packets)

    def _batch(self, size: int) -> bytes:
        now = time.monotonic()
        readings = []
        for _ in range(size):
            index = self.sent % len(self._loads)
            bus, load = self._loads[index]
            readings.append({"bus": bus, "element": load, "kw": self._next_kw(index, now)})
        return _publish(self._batch_topic, orjson.dumps({"readings": readings}))

    def _next_kw(self, index: int, now: float) -> float:
        self.sent += 1
        self.sent_at[index].append(now)
        return round(STEP_KW * len(self.sent_at[index]), 3)


def seen(kw: float) -> int:
    """How many readings of a load have come when its demand is ``kw``."""
    return round(kw / STEP_KW)


def _publish(topic: bytes, payload: bytes) -> bytes:
    length = 2 + len(topic) + len(payload)
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | 0x80 if length else digit)
        if not length:
            break
    return b"\x30" + bytes(encoded) + len(topic).to_bytes(2, "big") + topic + payload
