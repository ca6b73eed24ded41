"""Drives MQTT connections from the one thread that owns them, and everything else it owns."""

import selectors
import socket
import time
from collections.abc import Callable

from services.bus import Connection

BUDGET = 64
"""Messages taken from a connection before the next one gets its turn."""


class Reactor:
    """Waits for any of its connections, and serves them in the order in which they are given."""

    def __init__(self, *connections: Connection) -> None:
        self._connections = connections
        self._selector = selectors.DefaultSelector()
        self._maintain_at: dict[Connection, float] = {}
        self._watched: dict[Connection, tuple[socket.socket, int]] = {}

    def poll(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for messages and hand over what has come."""
        now = time.monotonic()
        until = now + timeout
        for connection in self._connections:
            due = self._maintain_at.get(connection, 0.0)
            if now >= due or connection.socket is None:
                due = self._maintain_at[connection] = connection.maintain(now)
            until = min(until, due)
            self._watch(connection)
        ready = {key.data for key, _ in self._selector.select(max(0.0, until - now))}
        for connection in self._connections:
            if connection in ready:
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

    def _watch(self, connection: Connection) -> None:
        sock = connection.socket
        events = selectors.EVENT_READ
        if connection.wants_write:
            events |= selectors.EVENT_WRITE
        before = self._watched.get(connection)
        if sock is not None and before == (sock, events):
            return
        if before is not None and before[0] is sock:
            self._selector.modify(before[0], events, connection)
        else:
            if before is not None:
                self._forget(before[0])
            if sock is not None:
                self._selector.register(sock, events, connection)
        if sock is None:
            self._watched.pop(connection, None)
        else:
            self._watched[connection] = (sock, events)

    def _forget(self, sock: socket.socket) -> None:
        # paho has closed it already, so its number must be found by the object.
        for key in list(self._selector.get_map().values()):
            if key.fileobj is sock:
                self._selector.unregister(sock)
