"""Drives MQTT connections from the one thread that owns them, and everything else it owns."""

import selectors
import socket
import time
from collections.abc import Callable
from functools import partial

from services.bus import Connection

BUDGET = 64
"""Messages taken from a connection before the next one gets its turn."""


class Reactor:
    """Waits for any of its connections, and serves them in the order in which they are given."""

    def __init__(self, *connections: Connection) -> None:
        self._connections = connections
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[Connection, socket.socket] = {}
        self._writing: set[Connection] = set()
        self._maintain_at: dict[Connection, float] = {}
        for connection in connections:
            connection.watch(partial(self._opened, connection), partial(self._closed, connection))

    def poll(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for messages and hand over what has come."""
        now = time.monotonic()
        until = now + timeout
        for connection in self._connections:
            due = self._maintain_at.get(connection, 0.0)
            if now >= due or not connection.is_open:
                due = self._maintain_at[connection] = connection.maintain(now)
            until = now if connection.has_pending else min(until, due)
            self._watch_write(connection)
        ready = {key.data for key, _ in self._selector.select(max(0.0, until - now))}
        for connection in self._connections:
            if connection in ready or connection.has_pending:
                if connection.wants_write:
                    connection.write()
                connection.read(BUDGET)

    def poll_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Serve until a fact comes true or ``timeout`` seconds have passed; says which."""
        deadline = time.monotonic() + timeout
        while not done() and (left := deadline - time.monotonic()) > 0:
            self.poll(left)
        return done()

    def close(self) -> None:
        self._selector.close()

    def _opened(self, connection: Connection, sock: socket.socket) -> None:
        self._sockets[connection] = sock
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _closed(self, connection: Connection, sock: socket.socket) -> None:
        # While the socket still has its number: a moment later another may bear it.
        if self._sockets.pop(connection, None) is not None and self._selector.get_map():
            self._selector.unregister(sock)
        self._writing.discard(connection)

    def _watch_write(self, connection: Connection) -> None:
        sock = self._sockets.get(connection)
        if sock is None or connection.wants_write == (connection in self._writing):
            return
        if connection.wants_write:
            self._writing.add(connection)
            self._selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        else:
            self._writing.discard(connection)
            self._selector.modify(sock, selectors.EVENT_READ, connection)
