"""A client that takes a refusal at its word: what it was told was not done, it does not ask again.

So whatever of it is there in the end was done, and said not to be.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from chaos.history import Answer
from chaos.operations import Kind, Operation
from chaos.rest_wire import RestWire

from flexfeeder.testing import System

PATIENCE_S = 6.0
"""More than the gateway's own."""

PAUSE_S = 0.05
SETTLES_WITHIN_S = 30.0


class Trusting:
    """Adds devices at a bus, each of another name, and takes away those that it was told of."""

    def __init__(self, system: System, name: str, bus: str) -> None:
        self.accepted = 0
        self._name, self._bus = name, bus
        self._wire = RestWire(system.http_host, system.http_port, (), Random(0))
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Come to an end, with an answer to everything."""
        self._stopping.set()
        self._thread.join()
        self._wire.close()

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_S):
            device = {"bus_name": self._bus, "device_name": f"{self._name}_{self._number}"}
            answer = self._told(Kind.ADD_DEVICE, {**device, "kw": 0.1})
            if answer.is_success:
                self.accepted += 1
                self._settled(self._new(Kind.DISCONNECT_DEVICE, device))

    def _told(self, kind: Kind, body: dict[str, Any]) -> Answer:
        """What is said of an operation: a refusal, if that is the first word."""
        operation = self._new(kind, body)
        first = self._wire.ask(operation, PATIENCE_S)
        if isinstance(first, Answer) and (first.is_definite or first.code == "service_unavailable"):
            return first
        return self._settled(operation)

    def _settled(self, operation: Operation) -> Answer:
        """Ask until it is known what became of it: once a word was lost, a refusal is of the
        repetition alone.
        """
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while time.monotonic() < deadline:
            answer = self._wire.ask(operation, PATIENCE_S)
            if isinstance(answer, Answer) and answer.is_definite:
                return answer
            time.sleep(PAUSE_S)
        raise TimeoutError(f"no answer to {operation}: {answer}")

    def _new(self, kind: Kind, body: dict[str, Any]) -> Operation:
        self._number += 1
        return Operation(self._name, self._number, kind, body)


@contextmanager
def trusting(system: System, name: str, bus: str) -> Iterator[Trusting]:
    """Such a client at work; in the end none of its devices is to be there."""
    made = Trusting(system, name, bus)
    made.start()
    try:
        yield made
    finally:
        made.stop()
