"""A client: it wants something, asks until it knows what became of it, and wants something else."""

import threading
import time
from random import Random

from chaos.asker import PAUSE_S, Asker
from chaos.operations import Operation
from chaos.wishes import Wishes

PATIENCE_S = (0.3, 1.0, 6.0)
"""How long an answer is waited for; the gateway itself gives up after five seconds."""

REPEATS = 0.1
"""How often something that was answered is asked again, and must have no effect."""

TWICE = 0.04
"""How often something is sent twice in a row from the start."""

LEISURELY_S = 0.25
"""The longest pause between two operations, if nothing else is asked for."""

DRAIN_S = 60.0
"""How long the last operation may take to get its answer once nothing more is done to the system.
"""


class Client:
    """Runs in a thread of its own, from one rest to the next."""

    def __init__(self, asker: Asker, rng: Random, longest_pause_s: float) -> None:
        self.asker = asker
        self._longest_pause_s = longest_pause_s
        self._rng = rng
        self._wishes = Wishes(asker.client, asker.world, rng)
        self._stopping = threading.Event()
        self._deadline = 0.0
        self._is_cut = False
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Begin a new past, and go to work."""
        self.asker.begin()
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self.asker.client)
        self._thread.start()

    def stop(self, within_s: float = DRAIN_S) -> None:
        """Ask for an end, after the answer to the last operation if it comes in time."""
        self._deadline = time.monotonic() + within_s
        self._stopping.set()

    def join(self) -> None:
        """Wait for the end; what went wrong with the client itself is raised here."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.asker.close()
        if self._failure is not None:
            raise self._failure

    def cut(self) -> None:
        """Have its connection end in the middle of its next request."""
        self._is_cut = True

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._ask(self.asker.new(self._wishes.next()))
                if self.asker.recent and self._rng.random() < REPEATS:
                    self._attempt(self._rng.choice(self.asker.recent))
                self._stopping.wait(self._rng.uniform(0.0, self._longest_pause_s))
        except BaseException as failure:  # noqa: BLE001 - raised again by whoever waits for it
            self._failure = failure

    def _ask(self, operation: Operation) -> None:
        while not self.asker.is_answered(operation):
            self._attempt(operation)
            if self.asker.is_answered(operation) or self._is_too_late():
                break
            time.sleep(self._rng.uniform(0.0, 2 * PAUSE_S))

    def _attempt(self, operation: Operation) -> None:
        hangs_up, self._is_cut = self._is_cut, False
        self.asker.attempt(
            operation,
            self._rng.choice(PATIENCE_S),
            hangs_up=hangs_up,
            times=2 if self._rng.random() < TWICE else 1,
        )

    def _is_too_late(self) -> bool:
        return self._stopping.is_set() and time.monotonic() > self._deadline
