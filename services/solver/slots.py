"""Places for what comes and goes, used again before ever more are made. Pure.

An element once made stays in the engine for good, so a place that is given back is kept for the
next one: best for one that wants the same connection, which then costs the engine no rebuild.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

MOST_IDLE = 32
"""Free places that may wait for their connection to be wanted again."""


class Slots(Generic[K]):
    """Numbered from ``first`` on; at most :data:`MOST_IDLE` more than were ever taken at once."""

    def __init__(self, first: int = 0) -> None:
        self._next = first
        self._free: dict[int, K] = {}

    def take(self, key: K) -> int:
        """A free place that had the same key last, else a new one, else the longest free."""
        same = next((place for place, last in self._free.items() if last == key), None)
        if same is None and len(self._free) < MOST_IDLE:
            self._next += 1
            return self._next - 1
        place = next(iter(self._free)) if same is None else same
        del self._free[place]
        return place

    def give_back(self, place: int, key: K) -> None:
        """Free a place; ``key`` is what it is wanted for at the least cost."""
        self._free[place] = key
