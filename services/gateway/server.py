"""uvicorn as a gateway needs it: it ends when asked to, can hang up on a caller, and waits for
nobody for ever. uvicorn itself bounds how long a connection may be idle between two requests, and
nothing else of it.
"""

import asyncio
import resource
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.figures import Closed, Figures
from services.gateway.headers import BASE, NOTHING, POLICY
from services.logs import Log

_HANG_UP = "flexfeeder.hang_up"

KEEP_ALIVE_S = 60
"""How long a connection may be idle between two requests."""

MOST_CONNECTIONS = 2000

_OTHER_FILES = 100
"""Open files that are no connections: the broker's, the log, libraries."""

_REFUSALS = {
    400: (b"400 Bad Request", Closed.NOT_HTTP),
    429: (b"429 Too Many Requests", Closed.TOO_FAST),
    431: (b"431 Request Header Fields Too Large", Closed.LONG_HEAD),
}


@dataclass(slots=True)
class Connections:
    """What every connection has to keep to, and how many did not.

    Those count in the figures by reason; the first one of each reason is logged too.
    """

    log: Log
    figures: Figures
    most: int = MOST_CONNECTIONS
    head_s: float = 10.0
    """How long the head of a request may take, from its first byte; of a connection's first, from
    when that is made. A TLS handshake may take as long."""
    longest_head: int = 1 << 16
    """Bytes of a request's line and headers."""
    most_headers: int = 100
    """Each takes far more memory than it has bytes."""
    most_pipelined: int = 16
    """Requests that are sent before the answer to one is there."""
    unread_s: float = 30.0
    """How long a caller may leave off reading what it is sent."""
    closed: Counter[Closed] = field(default_factory=Counter)
    """Connections that were closed for not keeping to it, by reason."""

    def count(self, reason: Closed, client: tuple[str, int] | None) -> None:
        """Say that one is closed."""
        if not self.closed[reason]:
            self.log.warning("connection_closed", reason=reason, client=client and client[0])
        self.closed[reason] += 1
        self.figures.closed(reason)


class _TooMuch(Exception):
    """The head of a request is, or how many come at once."""


class Protocol(HttpToolsProtocol):
    """A connection that is kept to its bounds, and tells the application how to hang up: an orderly
    end waits for a caller that reads.
    """

    def __init__(self, bounds: Connections, *uvicorns: Any) -> None:
        super().__init__(*uvicorns)
        self._bounds = bounds
        self._waiting: asyncio.TimerHandle | None = None
        """For the head of a request."""
        self._unread: asyncio.TimerHandle | None = None
        self._arriving = 0
        """Bytes of the piece that is being read."""
        self._loose = 0
        """Bytes, in pieces before, of what is not over yet and no body: a head, or what follows a
        body in pieces."""
        self._problem = 400

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.most:
            self._hang_up(Closed.TOO_MANY)
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_unread()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._arriving = len(data)
        super().data_received(data)
        self._loose += len(data)
        if self._loose > self._bounds.longest_head:
            self._refuse(431)
        elif not self._is_answering and self._waiting is self.timeout_keep_alive_task is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= self._bounds.most_pipelined:
            self._problem = 429
            raise _TooMuch
        super().on_message_begin()
        self._tie()
        self.scope["extensions"] = {_HANG_UP: {"now": self.transport.abort}}

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= self._bounds.most_headers:
            self._problem = 431
            raise _TooMuch
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._unset_keepalive_if_required()
        if self._loose >= 0 or self._arriving > self._bounds.longest_head:
            head = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if head > self._bounds.longest_head:
                self._problem = 431
                raise _TooMuch
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._tie()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._tie()
        if self._waiting is not None:
            # That was the rest of a body that nobody wanted: now the connection is idle.
            self._stop_waiting()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says the same to everybody
        self._refuse(self._problem)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self._bounds.unread_s, self._hang_up, Closed.UNREAD)

    def resume_writing(self) -> None:
        self._stop_unread()
        super().resume_writing()

    @property
    def _is_answering(self) -> bool:
        """True while a request is being answered, so that it is not the caller who is waited for,
        or while its body may still be wanted, which whoever wants it waits for.
        """
        return self.cycle is not None and not self.cycle.response_complete

    def _tie(self) -> None:
        """What has come so far, the piece that is being read included, has come to something."""
        self._loose = -self._arriving

    def _wait_for_head(self) -> None:
        self._waiting = self.loop.call_later(self._bounds.head_s, self._hang_up, Closed.SLOW_HEAD)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _hang_up(self, reason: Closed) -> None:
        self._bounds.count(reason, self.client)
        self.transport.abort()

    def _refuse(self, status: int) -> None:
        """Answer a head that is none, and hang up."""
        line, reason = _REFUSALS[status]
        words = reason.encode("ascii")
        self._bounds.count(reason, self.client)
        if not self._is_answering:
            headers = (
                *BASE,
                (POLICY, NOTHING),
                (b"cache-control", b"no-store"),
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(words)).encode("ascii")),
                (b"connection", b"close"),
            )
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            self.transport.write(b"HTTP/1.1 " + line + b"\r\n" + lines + b"\r\n" + words)
        self.transport.close()


def hang_up_of(scope: MutableMapping[str, Any]) -> Callable[[], None]:
    """What ends the connection of a request at once; does nothing under another server."""
    extension = scope.get("extensions", {}).get(_HANG_UP, {})
    found: Callable[[], None] = extension.get("now", lambda: None)
    return found


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What HTTPS takes; ``certificate`` may be a chain.

    Raises:
        OSError: where a file cannot be read, is not PEM, is encrypted, or the two do not belong
            together.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key, password=lambda: b"")  # or a terminal is asked
    return context


def room_for_connections() -> int:
    """How many connections there may be: as many as are wanted, if this process may open so many
    files; it takes leave to as far as it can.
    """
    wanted = MOST_CONNECTIONS + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(soft - _OTHER_FILES, 1)
    return MOST_CONNECTIONS


class Server(uvicorn.Server):
    """uvicorn without its habit of dying of the signal that it has just obeyed, with connections
    that keep to their bounds.

    With ``tls`` it speaks HTTPS. ``on_shutdown`` is called before it waits for the requests that
    are under way.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        tls: ssl.SSLContext | None,
        on_shutdown: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._tls = tls
        self._on_shutdown = on_shutdown

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            self.should_exit = True
            return
        protocol = partial(
            Protocol, self._connections, self.config, self.server_state, self.lifespan.state
        )
        # uvicorn would give a handshake a minute.
        patience_s = self._connections.head_s if self._tls else None
        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol,
                sock=sock,
                ssl=self._tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=patience_s,
            )
            for sock in sockets or ()
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        await super().shutdown(sockets)
