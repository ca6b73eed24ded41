"""Places for what comes and goes, used again before ever more are made. Pure.

An element once made stays in the engine for good, so a place that is given back is kept for the
next one: best for one that wants the same connection, which then costs the engine no rebuild.
"""

from collections.abc import Callable, Hashable
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Undo = list[Callable[[], object]]
"""What takes back, the last first, what has been done."""

MOST_IDLE = 32
"""Free places that may wait for their connection to be wanted again."""


class Slots(Generic[K]):
    """Numbered from ``first`` on; at most :data:`MOST_IDLE` more than were ever taken at once.

    What takes a change back is left in ``undo``.
    """

    def __init__(self, first: int = 0, undo: Undo | None = None) -> None:
        self._next = first
        self._free: dict[int, K] = {}
        self._undo: Undo = [] if undo is None else undo

    def take(self, key: K) -> int:
        """A free place that had the same key last, else a new one, else the longest free."""
        free = enumerate(self._free.items())
        index = next((index for index, (_, last) in free if last == key), None)
        if index is None:
            if len(self._free) < MOST_IDLE:
                self._undo.append(partial(setattr, self, "_next", self._next))
                self._next += 1
                return self._next - 1
            index = 0
        place = next(islice(self._free, index, None))
        self._undo.append(partial(insert, self._free, index, place, self._free.pop(place)))
        return place

    def give_back(self, place: int, key: K) -> None:
        """Free a place; ``key`` is what it is wanted for at the least cost."""
        self._free[place] = key
        self._undo.append(partial(self._free.pop, place))


def insert(items: dict[K, V], index: int, key: K, value: V) -> None:
    """Put a new key at a place in the order of a dict, where one was taken out."""
    after = list(items.items())[index:]
    for moved, _ in after:
        del items[moved]
    items[key] = value
    items.update(after)
