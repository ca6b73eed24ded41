"""What waits for a reader of ``/events``, and when it goes. Pure; times in monotonic seconds."""

from collections import deque

STATE_INTERVAL_S = 0.5
"""A reader gets a state at most this often."""

PING_S = 5.0
"""A reader that nothing was sent to for this long gets a comment, to see whether it is there."""

MOST_WAITING = 64
"""Events that wait for a reader; one that is slower than this is cut off."""

PING = b": ping\n\n"


def encoded(event: str, data: bytes, version: int | None = None) -> bytes:
    """An event as it goes out; ``data`` is JSON, in which a line break means nothing."""
    line = data.replace(b"\n", b" ").replace(b"\r", b" ")
    identity = b"" if version is None else b"id: %d\n" % version
    return b"event: %b\n%bdata: %b\n\n" % (event.encode(), identity, line)


class Outbox:
    """Of the states only the newest waits; everything else is kept in its order."""

    def __init__(self, now: float) -> None:
        self._state: bytes | None = None
        self._events: deque[bytes] = deque()
        self._state_due = now
        self._ping_due = now + PING_S

    def put_state(self, state: bytes) -> bool:
        """Have an encoded state sent when it is time; True if no other was waiting."""
        is_first = self._state is None
        self._state = state
        return is_first

    def put_event(self, event: bytes) -> bool:
        """Have an encoded event sent; False if too many wait already."""
        if len(self._events) >= MOST_WAITING:
            return False
        self._events.append(event)
        return True

    def take(self, now: float) -> bytes | None:
        """What is to be sent now, None if there is nothing. A state goes before the events: what
        they speak of is in it.
        """
        chunk: bytes | None = None
        if self._state is not None and now >= self._state_due:
            chunk, self._state = self._state, None
            self._state_due = now + STATE_INTERVAL_S
        elif self._events:
            chunk = self._events.popleft()
        elif now >= self._ping_due:
            chunk = PING
        if chunk is not None:
            self._ping_due = now + PING_S
        return chunk

    def due(self) -> float:
        """When :meth:`take`, if it had nothing, will have something even if nothing is put in."""
        if self._state is None:
            return self._ping_due
        return min(self._state_due, self._ping_due)
