"""JSON with holes for numbers: encoded once, filled many times. Pure.

A state is some hundred names and brackets that stay, around some thousand numbers that do not.
Keeping the former as text makes a state several times cheaper than walking a document.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

_MARK = b"\0"  # stands in no JSON text

HOLE = orjson.Fragment(_MARK)
"""Put this where a number is to go."""


def punched(value: Any) -> bytes:
    """A JSON value with :data:`HOLE` in it, as text that :class:`Template` understands."""
    return orjson.dumps(value)


class Template:
    """A JSON text with holes, in the order in which they stand in it."""

    def __init__(self, text: bytes) -> None:
        texts = text.split(_MARK)
        self.holes = len(texts) - 1
        self._pieces = [b""] * (2 * self.holes + 1)
        self._pieces[::2] = texts
        self._first = texts[0]

    def fill(self, numbers: npt.NDArray[np.float64], head: bytes = b"") -> bytes:
        """The JSON text with these numbers (finite, one for each hole) in it. Where a ``head`` is
        given, both are JSON objects that are not empty, and its members come before the text's.
        """
        if self.holes:
            encoded = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)
            self._pieces[1::2] = encoded[1:-1].split(b",")
        self._pieces[0] = b"%b,%b" % (head[:-1], self._first[1:]) if head else self._first
        return b"".join(self._pieces)
