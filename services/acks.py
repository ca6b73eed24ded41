"""Acknowledgements in the order in which messages came, in whatever order they are done with."""

from collections.abc import Callable

from services.bus import Message


class InOrder:
    """Holds an acknowledgement back until all earlier messages are done with.

    The embedded broker disconnects a client that acknowledges out of order.
    """

    def __init__(self, acknowledge: Callable[[Message], None]) -> None:
        self._acknowledge = acknowledge
        self._waiting: dict[tuple[int, int, int], Message] = {}
        self._done: set[tuple[int, int, int]] = set()

    def arrived(self, message: Message) -> None:
        """A message that will be done with some time; at QoS 0 there is nothing to acknowledge."""
        number, _, qos = message.receipt
        first = next(iter(self._waiting), None)
        if first is not None and first[0] != number:
            self._waiting.clear()  # on a connection that is gone: the broker brings them again
            self._done.clear()
        if qos:
            self._waiting[message.receipt] = message

    def done(self, message: Message) -> None:
        """A message is answered, or wants no answer."""
        if message.receipt in self._waiting:
            self._done.add(message.receipt)
        while (first := next(iter(self._waiting), None)) in self._done:
            self._done.remove(first)
            self._acknowledge(self._waiting.pop(first))
