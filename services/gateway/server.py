"""uvicorn as a gateway needs it: it ends when asked to, and can hang up on a caller."""

import signal
import socket
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HANG_UP = "flexfeeder.hang_up"


class Protocol(HttpToolsProtocol):
    """Tells the application how to hang up: an orderly end waits for a caller that reads."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_HANG_UP: {"now": self.transport.abort}}


def hang_up_of(scope: MutableMapping[str, Any]) -> Callable[[], None]:
    """What ends the connection of a request at once; does nothing under another server."""
    extension = scope.get("extensions", {}).get(_HANG_UP, {})
    found: Callable[[], None] = extension.get("now", lambda: None)
    return found


class Server(uvicorn.Server):
    """uvicorn without its habit of dying of the signal that it has just obeyed.

    ``on_shutdown`` is called before it waits for the requests that are under way.
    """

    def __init__(self, config: uvicorn.Config, on_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_shutdown()
        await super().shutdown(sockets)
