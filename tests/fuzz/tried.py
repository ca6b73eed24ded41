"""What a call comes to: its result, or the refusal that it documents; anything else is raised."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def tried(refuses: type[E] | tuple[type[E], ...], call: Callable[[], T]) -> T | E:
    try:
        return call()
    except refuses as error:
        return error
