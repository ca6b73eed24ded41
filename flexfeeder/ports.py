"""Ports of this machine: free ones, taken ones, and who holds them."""

import contextlib
import http.client
import socket
import urllib.request
from collections.abc import Collection

import psutil

LOOPBACK = "127.0.0.1"

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def reachable(host: str) -> str:
    """Where a client on this machine finds a server that listens on ``host``."""
    return LOOPBACK if host in {"0.0.0.0", "::"} else host  # noqa: S104


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on now."""
    return free_ports(1, host)[0]


def free_ports(
    count: int, host: str = LOOPBACK, *, avoid: Collection[int | None] = ()
) -> tuple[int, ...]:
    """Ports that nobody listens on now, no two alike and none of those to ``avoid``.

    Asked for one after the other, two in ten thousand would be the same.
    """
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            server = held.enter_context(socket.create_server((host, 0)))
            port: int = server.getsockname()[1]
            if port not in avoid:
                found.append(port)
        return tuple(found)


def is_open(host: str, port: int) -> bool:
    """True if something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.2):
        return True
    return False


def is_free(host: str, port: int) -> bool:
    """True if we could listen there."""
    try:
        with socket.create_server((host, port)):
            return True
    except OSError:
        return False


def fetch(url: str, timeout_s: float) -> bytes | None:
    """What a server on this machine answers with success; None while it does not.

    No proxy leads there, whatever the environment says of proxies.
    """
    try:
        with _DIRECTLY.open(url, timeout=timeout_s) as response:
            body: bytes = response.read()
            return body
    except (OSError, http.client.HTTPException):
        return None


def holder(port: int) -> str | None:
    """Who listens on a port, e.g. ``python (pid 4711)``; None where we may not know."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr[1] == port
                and connection.pid
            ):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None


def refuses_mqtt311(
    host: str, port: int, credentials: tuple[str, str] | None = None, timeout_s: float = 0.5
) -> bool:
    """True if the listener takes a connection and hangs up on an MQTT 3.1.1 CONNECT, with the name
    and password that it wants, if it wants any.

    A listener that is slow, or not there, does not refuse.
    """
    connect = _connect311(credentials)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as sock:
            sock.settimeout(timeout_s)
            try:
                sock.sendall(connect)
                answer = sock.recv(4)
            except ConnectionError:
                return True
            if answer:
                sock.sendall(b"\xe0\x00")
            return not answer
    except OSError:
        return False


def _connect311(credentials: tuple[str, str] | None) -> bytes:
    """A CONNECT packet (MQTT 3.1.1, section 3.1): clean session, 10 s keep-alive."""
    texts = ["flexfeeder-probe", *(credentials or ())]
    flags = 0xC2 if credentials else 0x02
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x0a"
    for text in map(str.encode, texts):
        body += len(text).to_bytes(2, "big") + text
    length, rest = b"", len(body)
    while rest > 127:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return b"\x10" + length + bytes([rest]) + body
