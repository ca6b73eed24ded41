"""Finds out in the background when the store answers again, so that nobody has to wait for it."""

import threading

import redis

from services import store

EVERY_S = 0.1
TIMEOUT_S = 1.0


class Probe:
    """Asks the store again and again, in a thread of its own, from :meth:`begin` until it answers
    or :meth:`close` is called.
    """

    def __init__(self, redis_url: str) -> None:
        self._url = redis_url
        self._answered = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def has_answered(self) -> bool:
        """True once the store has answered since :meth:`begin`."""
        return self._answered.is_set()

    def begin(self) -> None:
        """Start asking; one that asks already goes on."""
        if self._thread is not None and self._thread.is_alive() and not self.has_answered:
            return
        self._answered.clear()
        self._thread = threading.Thread(target=self._ask, name="store-probe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop asking; returns at once."""
        self._closing.set()

    def _ask(self) -> None:
        client = store.connect(self._url, TIMEOUT_S)
        try:
            while not self._closing.wait(EVERY_S):
                try:
                    client.ping()
                except redis.RedisError:
                    continue
                self._answered.set()
                return
        finally:
            client.close()
