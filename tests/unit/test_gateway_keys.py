"""From an ``Idempotency-Key`` to a request id."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from schemas.envelope import RequestId
from schemas.errors import ErrorCode, Refusal
from services.gateway.keys import LONGEST_KEY, request_id_of

REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)

OURS = "5b0c1d9ee1344a0ab9a2f4f0c4c2b9aa"
UUID = "3f0f2b7c-5a55-4b0e-9d0e-6f3a1c9d2e41"

keys = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=LONGEST_KEY
)


def hashed(key: str) -> str:
    return f"key:sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("key", "request_id"),
    [
        ("a", "key:a"),
        (UUID, f"key:{UUID}"),
        ("a.b:c_d-1", "key:a.b:c_d-1"),
        (OURS, OURS),
        (OURS.upper(), f"key:{OURS.upper()}"),
        (OURS[:-1], f"key:{OURS[:-1]}"),
        (OURS + "0", f"key:{OURS}0"),
        (f"key:{UUID}", f"key:{UUID}"),
        ("key:", "key:"),
        ("key:a b", hashed("key:a b")),
        ("a b", hashed("a b")),
        (f'"{UUID}"', hashed(f'"{UUID}"')),
        ("~", hashed("~")),
        ("x" * 124, "key:" + "x" * 124),
        ("x" * 125, hashed("x" * 125)),
        ("x" * 255, hashed("x" * 255)),
    ],
)
def test_a_key_stands_for_a_request_id(key: str, request_id: str) -> None:
    assert request_id_of([key]) == request_id


def test_without_a_key_there_is_none() -> None:
    assert request_id_of([]) is None


@pytest.mark.parametrize(
    "values",
    [[""], ["x" * 256], ["é"], ["\u00a0"], ["a\tb"], ["a\x7f"], ["a\x00"], ["a", "b"], ["a", "a"]],
)
def test_what_is_no_key_is_refused_and_named(values: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        request_id_of(values)
    assert refused.value.code is ErrorCode.INVALID_VALUE
    assert [detail.field for detail in refused.value.details] == ["Idempotency-Key"]


@given(keys)
def test_whatever_the_key_it_is_a_request_id_and_stands_for_itself(key: str) -> None:
    """The id that is named in an answer is a key for the same request."""
    request_id = request_id_of([key])
    assert request_id is not None
    assert REQUEST_ID.validate_python(request_id) == request_id
    assert request_id_of([request_id]) == request_id


@given(keys, keys)
def test_different_keys_are_different_requests(one: str, other: str) -> None:
    """Unless one of them is the request id of the other."""
    if one != other and request_id_of([one]) == request_id_of([other]):
        assert request_id_of([one]) in {one, other}
