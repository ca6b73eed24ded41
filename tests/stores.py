"""A real store for tests, to be killed and started again, and a way to it that can fail."""

import os
import select
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

import redis
from patience import PATIENCE_S

from flexfeeder import embedded, ports
from flexfeeder.testing import wait_until

Fault = Literal["request lost", "request late", "reply lost"]


def be_patient(client: "redis.Redis") -> None:
    """Have a service's client, before it connects, take no store for one that is away because it is
    slow: what it does then is told by tests of its own.
    """
    client.connection_pool.connection_kwargs.update(
        socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S
    )


class Store:
    """The embedded store on a free port of its own, with more options of its server where they are
    given; it keeps what it has when it is killed.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = ports.free_port()
        self._folder = folder
        self._options = options
        self._has_served = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it serves; on another port, if somebody was faster at first."""
        self._launch()
        wait_until(self._serves, "the store serves")
        self._has_served = True

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Let it take connections, and answer nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url)

    def _launch(self) -> None:
        command = [*embedded._store_command(self._folder, self.port), *self._options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _serves(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            if not self._has_served:
                self.port = ports.free_port()
            self._launch()
        with suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False


class Way:
    """A port that leads to a store. The next script that is run through it may be lost, come late,
    or its reply may be lost; or no connection is let through at all.
    """

    def __init__(self, store: Store) -> None:
        self.is_closed = False
        self.fault: Fault | None = None
        self.late: list[bytes] = []
        self._store = store
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._clients: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Whoever still has a connection through it loses it."""
        self.is_closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        for client in self._clients:
            with suppress(OSError):  # it may be gone already
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def has_failed(self) -> bool:
        """Whether what was to be lost or late has been."""
        return self.fault is None

    def deliver_late(self) -> None:
        """What was held back reaches the store now."""
        for request in self.late:
            with self._to_store() as store:
                store.sendall(request)
                assert store.recv(65_536), "the store answers"
        self.late.clear()

    def _to_store(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._store.port), timeout=PATIENCE_S)

    def _accept(self) -> None:
        with suppress(OSError):  # it is shut down
            while True:
                client, _ = self._listener.accept()
                if self.is_closed:
                    client.close()
                    continue
                self._clients.append(client)
                thread = threading.Thread(target=self._serve, args=[client])
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), self._to_store() as store:
            fault = None
            while True:
                ready, _, _ = select.select([client, store], [], [])
                if store in ready:
                    reply = store.recv(1 << 20)
                    if not reply or fault == "reply lost":
                        return
                    client.sendall(reply)
                if client in ready:
                    request = client.recv(1 << 20)
                    if b"EVALSHA" in request:
                        fault, self.fault = self.fault, None
                    if fault == "request late":
                        self.late.append(request)
                    if not request or fault in {"request late", "request lost"}:
                        return
                    store.sendall(request)
