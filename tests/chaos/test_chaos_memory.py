"""Whether memory grows, with figures worked by hand."""

import pytest

from chaos.memory import Sample, slope, trend


def test_a_slope_is_what_most_samples_agree_on() -> None:
    """1 MB in 100 s is 36 MB an hour; a peak and a step of 5 MB at the end do not count."""
    rising = [Sample(float(at), 0.0, 50.0 + at / 100) for at in range(0, 1000, 10)]
    peak = [*rising[:50], Sample(495.0, 0.0, 90.0), *rising[50:]]
    assert slope(rising) == pytest.approx(36.0)
    assert slope(peak) == pytest.approx(36.0, rel=0.05)
    level = [Sample(float(at), 0.0, 50.0 + 5.0 * (at > 950)) for at in range(0, 1000, 10)]
    assert slope(level) == 0.0


def test_the_warm_up_is_not_judged() -> None:
    """30 MB in the first 300 of 1000 s, then nothing; or 10 MB in the rest, 54 MB an hour."""
    warming = [Sample(float(at), 0.0, min(at, 300) / 10) for at in range(0, 1001, 10)]
    assert not trend("solver", warming).grows
    growing = [s._replace(own_mb=s.own_mb + s.at_s / 66.7) for s in warming]
    found = trend("solver", growing)
    assert found.grows
    assert found.mb_per_hour == pytest.approx(54.0, rel=0.01)


def test_little_growth_is_noise() -> None:
    """1.9 MB in 200 s would be 34 MB an hour, if it went on."""
    life = [Sample(float(at), 0.0, at * 1.9 / 200) for at in range(0, 301, 10)]
    assert not trend("store", life).grows
