"""What a simulated meter measures."""

import math
import random
from datetime import datetime, timedelta

import pytest

from flexfeeder.profiles import Profile, relative_demand
from flexfeeder.simulation import MeteredLoad, Timelapse, measure, metered_load
from schemas.setpoints import Setpoint

WINTER_EVENING = datetime(2026, 1, 14, 18, 30)
STEADY = MeteredLoad("1", "Load_1", 40.0, 20.0, Profile.HOUSEHOLD, 1.0, timedelta())


class NoChance(random.Random):
    """A world without noise."""

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        return mu


def test_without_noise_a_meter_draws_what_its_profile_says() -> None:
    measured = measure(STEADY, WINTER_EVENING, Setpoint(), NoChance())
    expected_kw = 40.0 * relative_demand(Profile.HOUSEHOLD, WINTER_EVENING)
    assert measured.kw == pytest.approx(expected_kw, abs=1e-4)
    assert measured.demand_kw == measured.kw


def test_kvar_follows_kw_at_the_nominal_power_factor() -> None:
    measured = measure(STEADY, WINTER_EVENING, Setpoint(), NoChance())
    assert measured.kvar == pytest.approx(measured.kw / 2, abs=1e-4)


def test_a_meter_obeys_a_cap_and_says_what_it_would_draw() -> None:
    measured = measure(STEADY, WINTER_EVENING, Setpoint(max_kw=3.0), NoChance())
    assert (measured.kw, measured.kvar) == (3.0, 1.5)
    assert measured.demand_kw > 3.0


def test_a_cap_above_demand_changes_nothing() -> None:
    free = measure(STEADY, WINTER_EVENING, Setpoint(), NoChance())
    assert measure(STEADY, WINTER_EVENING, Setpoint(max_kw=1000.0), NoChance()) == free


def test_a_meter_obeys_a_power_factor() -> None:
    """At 10 kW and a power factor of 0.95 it may draw 10 tan(acos 0.95) = 3.287 kvar."""
    measured = measure(STEADY, WINTER_EVENING, Setpoint(max_kw=10.0, pf=0.95), NoChance())
    assert measured.kvar == pytest.approx(10 * math.tan(math.acos(0.95)), abs=1e-4)


def test_the_same_seed_gives_a_load_the_same_habits() -> None:
    one, again = (metered_load("1", "Load_1", 1, 40.0, 20.0, seed=7) for _ in range(2))
    other = metered_load("1", "Load_1", 1, 40.0, 20.0, seed=8)
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("phases", "nominal_kw", "profile"),
    [
        (1, 40.0, Profile.HOUSEHOLD),
        (1, 75.0, Profile.COMMERCIAL),
        (3, 40.0, Profile.COMMERCIAL),
    ],
)
def test_large_and_three_phase_loads_are_commercial(
    phases: int, nominal_kw: float, profile: Profile
) -> None:
    assert metered_load("1", "x", phases, nominal_kw, 0.0, seed=1).profile is profile


def test_readings_scatter_about_the_profile() -> None:
    chance = random.Random(1)
    readings = [measure(STEADY, WINTER_EVENING, Setpoint(), chance).kw for _ in range(500)]
    mean = sum(readings) / len(readings)
    assert mean == pytest.approx(
        40.0 * relative_demand(Profile.HOUSEHOLD, WINTER_EVENING), rel=0.01
    )
    assert len(set(readings)) > 400


def test_a_load_without_nominal_power_draws_none() -> None:
    idle = MeteredLoad("1", "x", 0.0, 5.0, Profile.HOUSEHOLD, 1.0, timedelta())
    measured = measure(idle, WINTER_EVENING, Setpoint(), NoChance())
    assert (measured.kw, measured.kvar) == (0.0, 0.0)


def test_a_time_lapse_runs_a_day_in_24_minutes_at_speed_60() -> None:
    clock = Timelapse(wall_start_s=1000.0, simulated_start=WINTER_EVENING, speed=60.0)
    assert clock.at(1000.0 + 24 * 60) == WINTER_EVENING + timedelta(days=1)
