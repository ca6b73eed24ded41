"""JSON with holes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.solver.template import HOLE, Template, punched


def test_numbers_stand_in_the_holes_in_their_order() -> None:
    template = Template(punched({"a": HOLE, "b": {"name": "x", "c": HOLE}, "d": [HOLE, "y"]}))
    assert json.loads(template.fill(np.array([1.5, -2.0, 3.0]))) == {
        "a": 1.5,
        "b": {"name": "x", "c": -2.0},
        "d": [3.0, "y"],
    }


def test_a_template_can_be_filled_again() -> None:
    template = Template(punched({"a": HOLE}))
    template.fill(np.array([1.0]))
    assert template.fill(np.array([2.0])) == b'{"a":2.0}'


def test_without_holes_it_is_the_text_itself() -> None:
    assert Template(punched({"a": 1})).fill(np.zeros(0)) == b'{"a":1}'


def test_members_of_another_object_come_before_its_own() -> None:
    template = Template(punched({"a": HOLE, "b": 2}))
    assert template.fill(np.array([1.0]), b'{"x":[]}') == b'{"x":[],"a":1.0,"b":2}'
    assert template.fill(np.array([3.0]), b'{"y":0}') == b'{"y":0,"a":3.0,"b":2}'
    assert template.fill(np.array([3.0])) == b'{"a":3.0,"b":2}'


def test_members_of_another_object_come_before_a_text_without_holes() -> None:
    assert Template(punched({"a": 1})).fill(np.zeros(0), b'{"x":0}') == b'{"x":0,"a":1}'


def test_as_many_numbers_as_holes_are_wanted() -> None:
    with pytest.raises(ValueError, match="size"):
        Template(punched({"a": HOLE})).fill(np.array([1.0, 2.0]))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_every_number_reads_back_to_the_last_digit(numbers: list[float]) -> None:
    template = Template(punched([HOLE] * len(numbers)))
    assert json.loads(template.fill(np.array(numbers))) == numbers


@given(st.text())
def test_any_text_around_a_hole_is_kept(text: str) -> None:
    try:
        template = Template(punched({"name": text, "a": HOLE}))
    except TypeError:  # a lone surrogate is no JSON text
        return
    assert json.loads(template.fill(np.array([1.0]))) == {"name": text, "a": 1.0}
