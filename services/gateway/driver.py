"""Drives an MQTT connection from the event loop itself, so a request crosses no thread."""

import asyncio
import socket
import time
from collections.abc import Callable

from services.bus import Connection

BUDGET = 64
"""Messages handed over before the loop serves others."""


class Driver:
    """Watches the connection's socket for the event loop in which it runs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watched: int | None = None
        self._writing = False

    async def run(self, beat: Callable[[float], None], farewell: Callable[[], None]) -> None:
        """Keep the connection alive until cancelled; ``beat`` is called now and then with the time
        (monotonic seconds), ``farewell`` before the end.
        """
        self._loop = asyncio.get_running_loop()
        self._connection.watch(lambda _: None, self._closing)
        try:
            while True:
                now = time.monotonic()
                beat(now)
                if self._connection.is_open:
                    due = self._connection.maintain(now)
                else:
                    # It may block while it connects; nothing else touches it until it is done.
                    due = await asyncio.to_thread(self._connection.maintain, now)
                self.watch()
                await asyncio.sleep(max(0.02, min(due - time.monotonic(), 0.1)))
        finally:
            self._connection.close(farewell)

    def watch(self) -> None:
        """Let the event loop watch the socket as it is now: after anything that may have sent."""
        number = self._connection.fileno()
        if number is None:
            return
        if self._watched is None:
            self._watched = number
            self._loop.add_reader(number, self._readable)
        wants_write = self._connection.wants_write
        if wants_write and not self._writing:
            self._loop.add_writer(number, self._writable)
        elif self._writing and not wants_write:
            self._loop.remove_writer(number)
        self._writing = wants_write
        if self._connection.has_pending:
            self._loop.call_soon(self._readable)

    def _closing(self, _sock: socket.socket) -> None:
        # While the socket still has its number: a moment later a caller's may bear it.
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            if self._writing:
                self._loop.remove_writer(self._watched)
            self._watched = None
            self._writing = False

    def _readable(self) -> None:
        self._connection.read(BUDGET)
        self.watch()

    def _writable(self) -> None:
        self._connection.write()
        self.watch()
