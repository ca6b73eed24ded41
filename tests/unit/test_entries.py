"""Entries of the journal, to JSON and back."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Detail, ErrorCode, Refusal
from schemas.loads import SetLoad
from services import outcomes
from services.once import Remembered
from services.outcomes import Done
from services.solver import entries
from services.solver.entries import Adjusted, Barrier, Decided, Entry, UnreadableEntry, Voided

PIN = SetLoad(bus_name="1", load_name="Load_1", new_kw=0.1 + 0.2, new_kvar=1e-300)
DONE = Done("load Load_1 pinned", ("1",), {"generator_name": "g"})
REFUSED = Refusal(ErrorCode.BUS_NOT_FOUND, "no bus", [Detail(field="bus_name", problem="none")])

names = st.text(max_size=20)
values = st.none() | st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False))


def same(one: Entry, other: Entry) -> bool:
    """Entries are equal where their outcomes say the same: refusals are exceptions."""
    if isinstance(one, Decided) and isinstance(other, Decided):
        said = outcomes.to_json(one.outcome), outcomes.to_json(other.outcome)
        rest = [(e.name, e.asked, e.at, e.request_id) for e in (one, other)]
        return orjson.dumps(said[0]) == orjson.dumps(said[1]) and rest[0] == rest[1]
    return one == other


@pytest.mark.parametrize(
    "entry",
    [
        Decided("set_load", outcomes.asked(PIN), 1.5, DONE, "r1"),
        Decided("set_load", outcomes.asked(PIN), 1.5, REFUSED),
        Adjusted(b'{"revision":3,"programs":[]}'),
        Voided("7-12", "because"),
        Barrier(),
    ],
)
def test_what_is_encoded_is_read_back(entry: Entry) -> None:
    assert same(entries.decode(entries.encode(entry)), entry)


def test_a_command_is_read_back_to_the_last_digit() -> None:
    entry = entries.decode(entries.encode(Decided("set_load", outcomes.asked(PIN), 1.5, DONE)))
    assert isinstance(entry, Decided)
    assert SetLoad.model_validate_json(entry.asked) == PIN


def test_its_digest_is_that_of_the_command() -> None:
    entry = Decided("set_load", outcomes.asked(PIN), 1.5, DONE, "r1")
    assert entry.remembered == Remembered("r1", outcomes.digest(PIN), 1.5, DONE)


def test_without_a_request_id_there_is_nothing_to_remember() -> None:
    assert Decided("set_load", b"{}", 1.5, DONE).remembered is None


@given(names, names, values, st.floats(0, 1e10), st.none() | names)
def test_any_outcome_survives(
    message: str, bus: str, results: object, at: float, request_id: str | None
) -> None:
    entry = Decided("set_load", b"{}", at, Done(message, (bus,), results), request_id)
    assert same(entries.decode(entries.encode(entry)), entry)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | names,
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["command", "asked", "at", "outcome", "voids", "adjustments"]),
                inner,
            )
        ),
        max_leaves=8,
    ).map(lambda content: repr(content).replace("'", '"').replace("None", "null").encode())
)
def test_anything_else_is_unreadable_and_nothing_worse(payload: bytes) -> None:
    for decode in (entries.decode, entries.decode_segment):
        with suppress(UnreadableEntry):
            decode(payload)


def test_a_segment_is_read_back_in_order() -> None:
    segment = [Remembered(f"r{n}", "d", float(n), DONE) for n in range(5)]
    assert entries.decode_segment(entries.encode_segment(segment)) == segment


def test_asking_for_the_same_in_another_envelope_is_the_same() -> None:
    again = PIN.model_copy(update={"request_id": "r9", "reply_to": "flexfeeder/reply/x"})
    assert outcomes.digest(again) == outcomes.digest(PIN)
    other = PIN.model_copy(update={"new_kw": 0.3})
    assert outcomes.digest(other) != outcomes.digest(PIN)
