"""So many lines a second: three, here."""

import pytest

from services.ration import Ration


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def ration(now: list[float]) -> Ration:
    return Ration(3, lambda: now[0])


def test_what_is_more_is_left_out_and_counted(ration: Ration) -> None:
    assert [ration.allows() for _ in range(5)] == [True, True, True, False, False]
    assert ration.left_out() == 2


def test_what_was_left_out_is_told_once(ration: Ration) -> None:
    for _ in range(5):
        ration.allows()
    assert [ration.left_out(), ration.left_out()] == [2, 0]


def test_within_no_second_there_are_more(ration: Ration, now: list[float]) -> None:
    """Whenever it is taken to begin: of one line each quarter, every fourth is left out."""
    allowed = []
    for quarter in range(12):
        now[0] = 100.0 + quarter / 4
        allowed.append(ration.allows())
    assert allowed == [True, True, True, False] * 3


def test_after_a_second_there_may_be_as_many_again(ration: Ration, now: list[float]) -> None:
    for _ in range(5):
        ration.allows()
    now[0] = 100.999
    assert not ration.allows()
    now[0] = 101.0
    assert [ration.allows() for _ in range(4)] == [True, True, True, False]
    assert ration.left_out() == 4
