"""What a simulated meter measures. Pure: time and chance are handed in."""

import math
import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from flexfeeder.profiles import Profile, relative_demand
from schemas.setpoints import Setpoint

COMMERCIAL_FROM_KW = 60.0
"""Loads of at least this nominal demand, and all three-phase ones, follow the G0 profile."""

JITTER = 0.04
"""Standard deviation of a reading about its profile, as a share of it."""


@dataclass(frozen=True, slots=True)
class MeteredLoad:
    """A load and its habits; nominal demand in kW and kvar."""

    bus: str
    name: str
    nominal_kw: float
    nominal_kvar: float
    profile: Profile
    scale: float
    shift: timedelta


@dataclass(frozen=True, slots=True)
class Measurement:
    """Drawn power, and what would be drawn without a setpoint; kW and kvar."""

    kw: float
    kvar: float
    demand_kw: float


def metered_load(
    bus: str, name: str, phases: int, nominal_kw: float, nominal_kvar: float, seed: int
) -> MeteredLoad:
    """A load with the habits that the seed gives it: the same for the same seed and name."""
    habits = random.Random(f"{seed}/{bus}/{name}")  # noqa: S311
    commercial = phases == 3 or nominal_kw >= COMMERCIAL_FROM_KW
    return MeteredLoad(
        bus=bus,
        name=name,
        nominal_kw=nominal_kw,
        nominal_kvar=nominal_kvar,
        profile=Profile.COMMERCIAL if commercial else Profile.HOUSEHOLD,
        scale=habits.uniform(0.75, 1.15),
        shift=timedelta(minutes=habits.gauss(0.0, 25.0)),
    )


def measure(
    load: MeteredLoad, at: datetime, setpoint: Setpoint, chance: random.Random
) -> Measurement:
    """What the meter sees at ``at`` (local time), its load obeying the setpoint.

    Nominal demand is taken as the highest of the year; the profile says how much of it is drawn.
    """
    share = relative_demand(load.profile, at + load.shift) * load.scale
    demand_kw = load.nominal_kw * share * max(0.0, 1.0 + chance.gauss(0.0, JITTER))
    kvar = demand_kw * load.nominal_kvar / load.nominal_kw if load.nominal_kw else 0.0
    return obeying(demand_kw, kvar, setpoint)


def obeying(demand_kw: float, demand_kvar: float, setpoint: Setpoint) -> Measurement:
    """What is measured of something that would draw so much (kW, kvar), and keeps to a setpoint."""
    kw = demand_kw if setpoint.max_kw is None else min(demand_kw, setpoint.max_kw)
    kvar = demand_kvar * kw / demand_kw if demand_kw else demand_kvar
    if setpoint.pf is not None:
        most = abs(kw) * math.tan(math.acos(setpoint.pf))
        kvar = max(-most, min(most, kvar))
    return Measurement(kw=round(kw, 4), kvar=round(kvar, 4), demand_kw=round(demand_kw, 4))


@dataclass(frozen=True, slots=True)
class Timelapse:
    """A clock that starts at ``simulated_start`` and runs ``speed`` times as fast as the wall's."""

    wall_start_s: float
    simulated_start: datetime
    speed: float

    def at(self, wall_s: float) -> datetime:
        return self.simulated_start + timedelta(seconds=(wall_s - self.wall_start_s) * self.speed)
