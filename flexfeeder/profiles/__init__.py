"""Standard load profiles: how the demand of a household or a business follows the clock.

The curves are the German representative profiles H0 and G0 (VDEW, "Repräsentative
VDEW-Lastprofile", 1999), published today by BDEW; `bdew.csv` holds the figures and their units.
"""

import csv
import enum
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources

__all__ = ["Profile", "relative_demand"]

_DAY_TYPES = ("workday", "saturday", "sunday")
_QUARTER_HOUR_S = 900


class Profile(enum.StrEnum):
    """A customer group, by its BDEW code."""

    HOUSEHOLD = "H0"
    COMMERCIAL = "G0"


def relative_demand(profile: Profile, at: datetime) -> float:
    """Demand at the local wall time `at`, as a share of the profile's peak: above 0, at most 1.

    The peak is the highest value the profile can reach in any year, so the scale is the same in
    every year. G0 reaches 1 on each winter workday. H0 peaks on a winter Saturday evening, above
    0.997 in every year, and at 1 when 31 December of a leap year is a Saturday.

    `at` may be naive or aware: only its own date and clock fields count, never its time zone.
    Public holidays count as their weekday, whereas VDEW treats them as Sundays, and 24 and 31
    December as Saturdays.

    Each published mean stands at the start of its quarter hour. Between quarter hours the value is
    linear, also across midnight, where it runs to the first value of the next day. The result is
    therefore continuous over a year, with no step at weekends, seasons or New Year.

    Raises OverflowError on 9999-12-31, which has no next day.
    """
    since_midnight_s = at.hour * 3600 + at.minute * 60 + at.second + at.microsecond / 1e6
    quarter, into_quarter_s = divmod(since_midnight_s, _QUARTER_HOUR_S)
    curve = _day_curve(profile, at.date())
    start, end = curve[int(quarter)], curve[int(quarter) + 1]
    return start + (end - start) * (into_quarter_s / _QUARTER_HOUR_S)


@lru_cache(maxsize=64)  # All meters ask for the same day; the rest serves replays.
def _day_curve(profile: Profile, day: date) -> tuple[float, ...]:
    """The 97 relative demands at the quarter hours of `day`, from 00:00 to 24:00."""
    tomorrow = day + timedelta(days=1)
    powers_w = (*_day_powers_w(profile, day), _day_powers_w(profile, tomorrow)[0])
    peak_w = _peak_w(profile)
    return tuple(power_w / peak_w for power_w in powers_w)


def _day_powers_w(profile: Profile, day: date) -> tuple[float, ...]:
    """The 96 quarter-hour powers of `day` in W, for a customer who uses 1000 kWh a year."""
    day_type = _DAY_TYPES[max(0, day.weekday() - 4)]
    factor = _dynamisation(profile, day)
    return tuple(w * factor for w in _published_w()[f"{profile} {_season(day)} {day_type}"])


@cache
def _peak_w(profile: Profile) -> float:
    """The highest power in W, at 1000 kWh a year, were each date of a leap year of any day type."""
    leap_year = (date(2000, 1, 1) + timedelta(days=n) for n in range(366))
    return max(
        max(_published_w()[f"{profile} {_season(day)} {day_type}"]) * _dynamisation(profile, day)
        for day in leap_year
        for day_type in _DAY_TYPES
    )


def _season(day: date) -> str:
    """The VDEW season: winter 1 Nov to 20 Mar, summer 15 May to 14 Sep, transition the rest."""
    month_day = (day.month, day.day)
    if month_day >= (11, 1) or month_day <= (3, 20):
        return "winter"
    if (5, 15) <= month_day <= (9, 14):
        return "summer"
    return "transition"


def _dynamisation(profile: Profile, day: date) -> float:
    """The factor, 0.78 to 1.26, by which household demand follows the year; 1 for commerce.

    F(d) = -3.92e-10 d^4 + 3.20e-7 d^3 - 7.02e-5 d^2 + 2.10e-3 d + 1.24, d the day of the year from
    1 to 366. Source: Fünfgeld and Tiedemann, "Anwendung der Repräsentativen VDEW-Lastprofile
    step-by-step", VDEW-Materialien M-05/2000, step 4b.
    """
    if profile is not Profile.HOUSEHOLD:
        return 1.0
    d = day.timetuple().tm_yday
    return (((-3.92e-10 * d + 3.20e-7) * d - 7.02e-5) * d + 2.10e-3) * d + 1.24


@cache
def _published_w() -> dict[str, tuple[float, ...]]:
    """The published powers in W at 1000 kWh a year: 96 values for each column of the table."""
    text = resources.files(__name__).joinpath("bdew.csv").read_text(encoding="utf-8")
    rows = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    _times, *columns = zip(*rows, strict=True)
    return {name: tuple(map(float, powers_w)) for name, *powers_w in columns}
