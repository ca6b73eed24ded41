"""So many lines a second, and no more, of what anybody can bring about. Pure."""

import time
from collections import deque
from collections.abc import Callable

LINES_A_SECOND = 10
"""Lines that a service writes, within any second, of commands that are none."""


class Ration:
    """Says what is still to be told, and how much was not."""

    def __init__(self, a_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._told_at: deque[float] = deque(maxlen=a_second)
        """When the last ones were told, as many as there may be within a second."""
        self._clock = clock
        self._left_out = 0

    def allows(self) -> bool:
        """True if one more may be told now; otherwise it counts as left out."""
        now = self._clock()
        if len(self._told_at) == self._told_at.maxlen and now - self._told_at[0] < 1.0:
            self._left_out += 1
            return False
        self._told_at.append(now)
        return True

    def left_out(self) -> int:
        """How many were not told since this was last asked."""
        number, self._left_out = self._left_out, 0
        return number
