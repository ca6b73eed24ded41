"""Where a connection puts its messages until the loop that owns it takes them."""

import time
from typing import NamedTuple

from services.bus import Message


class Arrived(NamedTuple):
    """A message, and when it came: seconds of ``time.perf_counter``."""

    message: Message
    at: float


class Inbox:
    """Messages in the order in which they came."""

    def __init__(self) -> None:
        self._messages: list[Arrived] = []

    def put(self, message: Message) -> None:
        """Take what a connection hands over."""
        self._messages.append(Arrived(message, time.perf_counter()))

    def take(self) -> list[Arrived]:
        """Everything that has come since the last call."""
        taken, self._messages = self._messages, []
        return taken
