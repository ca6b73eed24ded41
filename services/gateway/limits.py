"""How often each of many callers may do something. Pure: the time is passed in.

A token bucket needs no more than the moment at which it is full again: a token taken moves it on by
the time that one takes to come.
"""

from collections import OrderedDict

MOST_CALLERS = 10_000
"""Callers that are remembered; of more, those longest unheard of count as new."""


class Limit:
    """A bucket of tokens for each caller: ``burst`` at once, ``rate`` a second on average."""

    def __init__(self, rate: float, burst: float, most_callers: int = MOST_CALLERS) -> None:
        self._interval_s = 1 / rate
        # A bucket that cannot hold one whole token would never give one.
        self._depth_s = max(burst, 1.0) / rate
        self._most_callers = most_callers
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._full_at)

    def take(self, caller: str, now: float) -> float:
        """0 where the caller may; else the seconds until it may, and nothing is counted.

        ``now`` is monotonic, in seconds.
        """
        full_at = max(self._full_at.get(caller, now), now) + self._interval_s
        # Rounding must not cost a token that is there.
        missing_s = full_at - now - self._depth_s
        if missing_s > self._interval_s * 1e-6:
            self._full_at.move_to_end(caller)
            return missing_s
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > self._most_callers:
            self._full_at.popitem(last=False)
        return 0.0
