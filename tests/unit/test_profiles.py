"""The standard load profiles, against figures worked by hand from the published table."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexfeeder.profiles import Profile, relative_demand

QUARTER_HOUR = timedelta(minutes=15)

# 31 December of a leap year: 1.24 + 0.7686 - 9.4037112 + 15.6889267 - 7.0341303 = 1.2596852.
PEAK_W = {Profile.HOUSEHOLD: 213.20 * 1.2596852, Profile.COMMERCIAL: 240.40}

profiles = st.sampled_from(Profile)
wall_times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 12, 31))


def quarter_hours(first: datetime, days: int) -> list[datetime]:
    return [first + n * QUARTER_HOUR for n in range(96 * days)]


def year(number: int) -> list[datetime]:
    first = datetime(number, 1, 1)
    return quarter_hours(first, (datetime(number + 1, 1, 1) - first).days)


def household_factor(at: datetime) -> float:
    d = at.timetuple().tm_yday
    return float(-3.92e-10 * d**4 + 3.20e-7 * d**3 - 7.02e-5 * d**2 + 2.10e-3 * d + 1.24)


def energy_kwh(profile: Profile, times: list[datetime]) -> float:
    return sum(relative_demand(profile, at) for at in times) * PEAK_W[profile] * 0.25 / 1000


class TestPublishedFigures:
    def test_commerce_peaks_on_a_winter_workday_before_noon(self) -> None:
        """The highest figure of G0 is 240.40 W, at 11:30 on a winter workday."""
        assert relative_demand(Profile.COMMERCIAL, datetime(2026, 1, 14, 11, 30)) == 1.0

    def test_household_peaks_on_a_winter_saturday_evening(self) -> None:
        """213.20 W at 19:00, times the factor's highest value: 31 December 2016, a Saturday."""
        assert relative_demand(Profile.HOUSEHOLD, datetime(2016, 12, 31, 19)) == 1.0

    def test_household_demand_follows_the_day_of_the_year(self) -> None:
        """7 January, a Wednesday, 00:00: 67.60 W, times F(7) = 1.251369, over the peak."""
        expected = 67.60 * 1.251369 / PEAK_W[Profile.HOUSEHOLD]
        actual = relative_demand(Profile.HOUSEHOLD, datetime(2026, 1, 7))
        assert expected == pytest.approx(actual, rel=1e-6)

    def test_demand_is_linear_between_quarter_hours(self) -> None:
        """07:30 has 119.92 W and 07:45 has 136.40 W, so 07:35 has 119.92 + 16.48 / 3 W."""
        expected = (119.92 + 16.48 / 3) / 240.40
        actual = relative_demand(Profile.COMMERCIAL, datetime(2026, 1, 14, 7, 35))
        assert expected == pytest.approx(actual)

    @pytest.mark.parametrize(
        ("at", "power_w"),
        [
            (datetime(2024, 3, 20, 11, 30), 240.40),
            (datetime(2024, 3, 21, 11, 30), 221.96),
            (datetime(2024, 5, 14, 11, 30), 221.96),
            (datetime(2024, 5, 15, 11, 30), 209.60),
            (datetime(2023, 9, 14, 11, 30), 209.60),
            (datetime(2023, 9, 15, 11, 30), 221.96),
            (datetime(2023, 10, 31, 11, 30), 221.96),
            (datetime(2023, 11, 1, 11, 30), 240.40),
        ],
    )
    def test_seasons_change_on_the_published_dates(self, at: datetime, power_w: float) -> None:
        """Winter ends on 20 March and returns on 1 November; summer is 15 May to 14 September."""
        assert power_w / 240.40 == pytest.approx(relative_demand(Profile.COMMERCIAL, at))

    @pytest.mark.parametrize(
        ("day", "power_w"),
        [(16, 240.40), (17, 207.36), (18, 73.48), (19, 240.40)],
        ids=["friday", "saturday", "sunday", "monday"],
    )
    def test_each_day_type_has_its_own_curve(self, day: int, power_w: float) -> None:
        """G0 in January at 11:30, from Friday to Monday."""
        actual = relative_demand(Profile.COMMERCIAL, datetime(2026, 1, day, 11, 30))
        assert power_w / 240.40 == pytest.approx(actual)

    def test_a_public_holiday_counts_as_its_weekday(self) -> None:
        """25 December 2025 is a Thursday, so commerce is at its workday peak."""
        assert relative_demand(Profile.COMMERCIAL, datetime(2025, 12, 25, 11, 30)) == 1.0


class TestEnergy:
    @pytest.mark.parametrize("number", [2023, 2024, 2025, 2026])
    def test_static_household_profile_is_1000_kwh_a_year(self, number: int) -> None:
        """Without its dynamisation, H0 is within 0.2 % of 1000 kWh."""
        static_kwh = sum(
            relative_demand(Profile.HOUSEHOLD, at) / household_factor(at) for at in year(number)
        )
        static_kwh *= PEAK_W[Profile.HOUSEHOLD] * 0.25 / 1000
        assert static_kwh == pytest.approx(1000, rel=0.002)

    @pytest.mark.parametrize("number", [2023, 2024, 2025, 2026])
    def test_dynamisation_moves_energy_but_adds_none(self, number: int) -> None:
        """With its dynamisation, H0 is still within 0.3 % of 1000 kWh."""
        assert energy_kwh(Profile.HOUSEHOLD, year(number)) == pytest.approx(1000, rel=0.003)

    @pytest.mark.parametrize("number", [2023, 2024, 2025, 2026])
    def test_commercial_profile_is_1000_kwh_a_year(self, number: int) -> None:
        """G0 is 1.8 % to 2.3 % above 1000 kWh, because public holidays count as workdays here."""
        assert 1017 < energy_kwh(Profile.COMMERCIAL, year(number)) < 1023


class TestShape:
    @pytest.mark.parametrize("profile", Profile)
    @pytest.mark.parametrize("number", [2016, 2025, 2026])
    def test_the_highest_value_of_a_year_is_one(self, profile: Profile, number: int) -> None:
        """G0 reaches 1 each year; H0 comes within 0.3 % of it, by where its Saturdays fall."""
        highest = max(relative_demand(profile, at) for at in year(number))
        assert 0.997 < highest <= 1.0

    def test_household_evening_is_far_above_its_night(self) -> None:
        """On a winter workday, 188.92 W at 19:30 against 38.28 W at night: nearly five to one."""
        curve = [
            relative_demand(Profile.HOUSEHOLD, at)
            for at in quarter_hours(datetime(2026, 1, 14), days=1)
        ]
        assert curve.index(max(curve)) == 19 * 4 + 2
        assert max(curve) / min(curve) == pytest.approx(188.92 / 38.28)

    def test_household_uses_less_in_summer(self) -> None:
        """A July workday takes less than three quarters of the energy of a January workday."""
        january = energy_kwh(Profile.HOUSEHOLD, quarter_hours(datetime(2026, 1, 14), days=1))
        july = energy_kwh(Profile.HOUSEHOLD, quarter_hours(datetime(2026, 7, 15), days=1))
        assert july < 0.75 * january

    @pytest.mark.parametrize("month", range(1, 13))
    def test_commercial_sunday_is_about_half_a_workday(self, month: int) -> None:
        """In each season G0 takes 48 % to 53 % of a workday's energy on a Sunday."""
        wednesday = next(
            at
            for at in (datetime(2026, month, 8) + timedelta(days=n) for n in range(7))
            if at.weekday() == 2
        )
        sunday = wednesday + timedelta(days=4)
        workday_kwh = energy_kwh(Profile.COMMERCIAL, quarter_hours(wednesday, days=1))
        sunday_kwh = energy_kwh(Profile.COMMERCIAL, quarter_hours(sunday, days=1))
        assert 0.48 < sunday_kwh / workday_kwh < 0.53


class TestContinuity:
    @pytest.mark.parametrize("profile", Profile)
    @pytest.mark.parametrize(
        "midnight",
        [
            datetime(2026, 1, 15),
            datetime(2026, 1, 17),
            datetime(2026, 1, 18),
            datetime(2026, 1, 19),
            datetime(2026, 3, 21),
            datetime(2026, 11, 1),
            datetime(2027, 1, 1),
            datetime(2024, 2, 29),
        ],
    )
    def test_there_is_no_jump_at_midnight(self, profile: Profile, midnight: datetime) -> None:
        """A day ends at the value at which the next begins, whatever its type, season or year."""
        before = relative_demand(profile, midnight - timedelta(microseconds=1))
        assert before == pytest.approx(relative_demand(profile, midnight), abs=1e-8)

    @given(profile=profiles, at=wall_times)
    def test_demand_moves_slowly(self, profile: Profile, at: datetime) -> None:
        """The steepest quarter hour is 22.40 W of 240.40 W; a minute moves under a tenth / 15."""
        change = relative_demand(profile, at + timedelta(minutes=1)) - relative_demand(profile, at)
        assert abs(change) < 0.1 / 15


class TestProperties:
    @given(profile=profiles, at=wall_times)
    def test_demand_is_a_share_of_the_peak(self, profile: Profile, at: datetime) -> None:
        """Demand is above 0 and at most 1, at any time from 1970 to 2100."""
        assert 0 < relative_demand(profile, at) <= 1

    @given(profile=profiles, at=wall_times, offset_h=st.integers(-12, 14))
    def test_only_the_wall_clock_counts(
        self, profile: Profile, at: datetime, offset_h: int
    ) -> None:
        """19:00 is the evening peak in every time zone."""
        aware = at.replace(tzinfo=timezone(timedelta(hours=offset_h)))
        assert relative_demand(profile, at) == relative_demand(profile, aware)
