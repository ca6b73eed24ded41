"""A caller may do so much at once and so much a second, and no caller pays for another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.limits import Limit


def test_a_burst_at_once_and_then_one_by_one() -> None:
    """Ten a second, five at once: the sixth comes a tenth of a second later."""
    limit = Limit(rate=10, burst=5)
    assert [limit.take("a", 100.0) for _ in range(5)] == [0.0] * 5
    assert limit.take("a", 100.0) == pytest.approx(0.1)
    assert limit.take("a", 100.06) == pytest.approx(0.04)
    assert limit.take("a", 100.1) == 0.0
    assert limit.take("a", 100.1) > 0


def test_what_is_refused_costs_nothing() -> None:
    limit = Limit(rate=1, burst=1)
    assert limit.take("a", 0.0) == 0.0
    assert [limit.take("a", 0.5) for _ in range(1000)] == [pytest.approx(0.5)] * 1000
    assert limit.take("a", 1.0) == 0.0


def test_rest_fills_the_bucket_and_no_more() -> None:
    limit = Limit(rate=10, burst=3)
    for _ in range(3):
        limit.take("a", 0.0)
    assert [limit.take("a", 1e6) > 0 for _ in range(4)] == [False, False, False, True]


def test_each_caller_has_a_bucket_of_its_own() -> None:
    limit = Limit(rate=1, burst=1)
    assert [limit.take(caller, 0.0) for caller in "abc"] == [0.0] * 3
    assert all(limit.take(caller, 0.0) for caller in "abc")


def test_a_rate_below_one_still_gives_one_now_and_then() -> None:
    """0.1 a second, half a second of them at once: a twentieth of a request is none."""
    limit = Limit(rate=0.1, burst=0.05)
    assert limit.take("a", 0.0) == 0.0
    assert limit.take("a", 1.0) == pytest.approx(9.0)
    assert limit.take("a", 10.0) == 0.0


def test_of_too_many_callers_those_longest_unheard_of_are_forgotten() -> None:
    limit = Limit(rate=1, burst=1, most_callers=3)
    for caller in ("a", "b", "c"):
        limit.take(caller, 0.0)
    assert limit.take("a", 0.0) > 0  # refused, and heard of
    limit.take("d", 0.0)
    assert len(limit) == 3
    assert limit.take("a", 0.0) > 0
    assert limit.take("b", 0.0) == 0.0


@given(
    rate=st.floats(0.1, 1e4),
    burst=st.integers(1, 100),
    gaps=st.lists(st.floats(0, 10), max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: int, gaps: list[float]) -> None:
    """And whoever waits as long as it was told is let in."""
    limit, now = Limit(rate, burst), 1000.0
    for taken, gap in enumerate(gaps, start=1):
        now += gap
        wait_s = limit.take("a", now)
        if wait_s:
            now += wait_s + 1e-6
            assert limit.take("a", now) == 0.0
        assert taken <= burst + rate * (now - 1000.0) + 1e-3 * taken
