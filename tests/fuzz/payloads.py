"""What may arrive in place of a valid message: bytes, JSON of any shape, valid ones gone wrong."""

import copy
import json
import string
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Literal(NamedTuple):
    """JSON text that stands for itself, whether it is JSON or not."""

    text: str

    def __repr__(self) -> str:
        return f"Literal({self.text[:40]!r})"


class Pairs(list[Any]):
    """An object as a list of ``[name, value]``: it may have a name twice."""


class Payload(NamedTuple):
    """Bytes of a message, told of in short."""

    content: bytes

    def __repr__(self) -> str:
        more = f" + {len(self.content) - 500} bytes" if len(self.content) > 500 else ""
        return f"Payload({self.content[:500]!r}{more})"


class Place(NamedTuple):
    """Where a value stands: in a list, or in a pair of an object."""

    inner: list[Any]
    at: int

    @property
    def value(self) -> Any:
        each = self.inner[self.at]
        return each[1] if isinstance(self.inner, Pairs) else each

    @value.setter
    def value(self, value: Any) -> None:
        if isinstance(self.inner, Pairs):
            value = [self.inner[self.at][0], value]
        self.inner[self.at] = value


DEPTHS = (1, 2, 60, 199, 201, 300, 10_000)
"""Levels; pydantic reads 200 of them, orjson 1024, and Python's own parser recurses."""

EXTREMES: tuple[Any, ...] = (
    *(Literal(text) for text in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "-0", "01")),
    *(Literal(text) for text in ("1.", "1e", "+1", "0x1", "'a'", "\\u0041", "nul", "{", "]", "")),
    *(Literal(f'"{text}"') for text in ("\\ud800", "\\udc00\\ud800", "\\u0000", "x" * 70_000)),
    *(Literal(digits) for digits in ("9" * 400, "1" + "0" * 5000, "0." + "1" * 5000)),
    *(Literal("[" * depth + "]" * depth) for depth in DEPTHS),
    *(2**bits + off for bits in (31, 53, 63, 64) for off in (-1, 0, 1)),
    *(-(2**63) - 1, -1, 0, 1, 2, 10**15, 10**15 - 1, 10**18),
    *(1e308, -1e308, 5e-324, 1e-300, -0.0, 0.5, 1e6, 1000000.0000000001, -1e6, 1e30, 10.0),
    *(True, False, None, [], {}, [[]], [None], [1], {"": None}, {"a": 1}),
    *("", " ", "\0", "\n", "1\n", "a b", "a/b", "+", "#", "$SYS", "é", "\ufeff", "\U0001f50c"),
    *("nan", "inf", "1e400", "1", "true", "null", "x" * 65, "x" * 600, "\x1b[2J", "<pin>"),
    *("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2026-11-22T10:00:00"),
    *("2026-02-30T00:00:00Z", "1e9", "2026-11-22T10:00:00.123456789Z", "-1", "10000-01-01T00:00Z"),
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(EXTREMES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
"""JSON of any shape, and what only looks like it."""


def text_of(value: Any) -> str:
    """A value as JSON text; NaN is written as Python writes it."""
    if isinstance(value, Literal):
        return value.text
    if isinstance(value, dict):
        value = [*value.items()]
        return text_of(Pairs(value))
    if isinstance(value, Pairs):
        pairs = (f"{json.dumps(name, ensure_ascii=False)}:{text_of(each)}" for name, each in value)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def encoded(value: Any) -> bytes:
    return text_of(value).encode("utf-8", "surrogatepass")


def spoilt(*valid: Any) -> Iterator[bytes]:
    """Valid messages with each value of theirs in turn left out, there twice, under another name,
    deeper, or something else altogether.
    """
    for root in map(_root, valid):
        for number in range(len([*_places(root)])):
            for change in _WAYS:
                yield _changed(root, number, change)


@st.composite
def one_spoilt(draw: Draw, *valid: Any) -> Payload:
    """One of those."""
    root = _root(draw(st.sampled_from(valid)))
    number = draw(st.integers(0, len([*_places(root)]) - 1))
    way = draw(st.integers(0, len(_WAYS) - 1))
    return Payload(_changed(root, number, _WAYS[way]))


def payloads(*valid: Any) -> st.SearchStrategy[Payload]:
    """Anything that may arrive in place of these valid messages, and they themselves."""
    wrong = _transmitted(_gone_wrong(valid))
    likely = [wrong] * 6 + [_transmitted(st.sampled_from(valid))]
    return st.one_of(*likely, _transmitted(values), st.binary(max_size=80)).map(Payload)


@st.composite
def _gone_wrong(draw: Draw, valid: Sequence[Any]) -> Any:
    """A valid message of which up to three values are not as they were."""
    root = _root(draw(st.sampled_from(valid)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        places = list(_places(root))
        if not places:
            break
        place = places[draw(st.integers(0, len(places) - 1))]
        draw(st.sampled_from(_CHANGES))(draw, place, places)
    return root[0] if root else Literal("")


@st.composite
def _transmitted(draw: Draw, whole: st.SearchStrategy[Any]) -> bytes:
    """The JSON of a value, as a rule as it stands, else damaged or encoded in another way."""
    text = text_of(draw(whole))
    how = draw(st.sampled_from(["whole"] * 20 + ["cut", "byte", "utf-16", "bom", "twice", "space"]))
    match how:
        case "utf-16":
            return text.encode("utf-16", "surrogatepass")
        case "bom":
            text = "\ufeff" + text
        case "twice":
            text = f"{text} {text}"
        case "space":
            text = f"\n\t {text} \r\n"
    sent = text.encode("utf-8", "surrogatepass")
    if how not in {"cut", "byte"}:
        return sent
    at = draw(st.integers(0, len(sent)))
    return sent[:at] if how == "cut" else sent[:at] + draw(st.binary(max_size=2)) + sent[at:]


def _root(value: Any) -> list[Any]:
    """The only list with this value in it, all to be changed in place."""
    return [_tree(value)]


def _tree(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs([[name, _tree(each)] for name, each in value.items()])
    return [_tree(each) for each in value] if isinstance(value, list | tuple) else value


def _places(inner: list[Any]) -> Iterator[Place]:
    for index in range(len(inner)):
        place = Place(inner, index)
        yield place
        if isinstance(place.value, list):
            yield from _places(place.value)


def _changed(root: list[Any], number: int, change: Callable[[Place], None]) -> bytes:
    changed = copy.deepcopy(root)
    change([*_places(changed)][number])
    return encoded(changed[0]) if changed else b""


def _put(place: Place, value: Any) -> None:
    place.value = value


def _drop(place: Place) -> None:
    del place.inner[place.at]


def _repeat(place: Place) -> None:
    place.inner.append(place.inner[place.at])


def _deepen(place: Place) -> None:
    place.value = [place.value]


def _rename(place: Place) -> None:
    if isinstance(place.inner, Pairs):
        place.inner[place.at][0] += "_"


def _misname(place: Place) -> None:
    """Under the name of the one before it."""
    if isinstance(place.inner, Pairs):
        place.inner[place.at][0] = place.inner[place.at - 1][0]


_WAYS: tuple[Callable[[Place], None], ...] = (
    *(partial(_put, value=extreme) for extreme in EXTREMES),
    *(_drop, _repeat, _deepen, _rename, _misname),
)


def _any_nudge(draw: Draw, place: Place, _others: Sequence[Place]) -> None:
    value = place.value
    if isinstance(value, str):
        place.value = value + draw(st.text(alphabet=string.printable, min_size=1, max_size=2))
    elif isinstance(value, int | float):
        place.value = draw(st.floats() | st.integers() | st.just(-value))


def _any_depth(draw: Draw, place: Place, _others: Sequence[Place]) -> None:
    depth = draw(st.sampled_from(DEPTHS))
    opening, closing = draw(st.sampled_from([("[", "]"), ('{"a":', "}"), ("[[],", "]")]))
    place.value = Literal(opening * depth + text_of(place.value) + closing * depth)


def _any_twice(draw: Draw, place: Place, _others: Sequence[Place]) -> None:
    inner, index = place
    again = [inner[index][0], draw(values)] if isinstance(inner, Pairs) else inner[index]
    inner.insert(draw(st.integers(0, len(inner))), again)


def _any_name(draw: Draw, place: Place, others: Sequence[Place]) -> None:
    inner, index = place
    if isinstance(inner, Pairs):
        names = [other.inner[other.at][0] for other in others if isinstance(other.inner, Pairs)]
        inner[index][0] = draw(st.text(max_size=8) | st.sampled_from(names))


def _borrowed(draw: Draw, place: Place, others: Sequence[Place]) -> None:
    place.value = Literal(text_of(others[draw(st.integers(0, len(others) - 1))].value))


_CHANGES: tuple[Callable[[Draw, Place, Sequence[Place]], None], ...] = (
    lambda _draw, place, _others: _drop(place),
    lambda draw, place, _others: _put(place, draw(values)),
    lambda draw, place, _others: _put(place, draw(st.sampled_from(EXTREMES))),
    _any_nudge,
    _any_depth,
    _any_twice,
    _any_name,
    _borrowed,
)
