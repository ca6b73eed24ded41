"""The rules of demand, on a feeder of four loads whose figures are worked by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import buses_named

from schemas.errors import ErrorCode, Refusal
from schemas.readings import Reading
from services.solver.bus_rule import DemandInForce
from services.solver.demand import Demand, ReadingOutcome
from services.solver.elements import NominalLoad, Power, Source

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON_S = NOON.timestamp()

LOADS = (
    NominalLoad("Load_1", bus="1", kw=40.0, kvar=20.0),
    NominalLoad("Load_2_a", bus="2", kw=20.0, kvar=10.0),
    NominalLoad("Load_2_b", bus="2", kw=30.0, kvar=40.0),
    NominalLoad("Load_9", bus="9r", kw=0.0, kvar=5.0),
)

NOMINAL = {
    "Load_1": Power(40.0, 20.0),
    "Load_2_a": Power(20.0, 10.0),
    "Load_2_b": Power(30.0, 40.0),
    "Load_9": Power(0.0, 5.0),
}


def feeder() -> Demand:
    """Bus 1 and bus 2 are neighbourhood 1, bus 9r is neighbourhood 7, bus 150 has no load."""
    return Demand(LOADS, buses_named("1", "2", "9r", "150"), {1: ["1", "2"], 7: ["9R"]})


def demands(demand: Demand) -> dict[str, Power]:
    return {LOADS[each.row].name: Power(each.kw, each.kvar) for each in demand.demands()}


def of_load_1(demand: Demand) -> DemandInForce:
    return demand.demands()[0]


def take_changed(demand: Demand) -> set[str]:
    return {LOADS[each.row].name for each in demand.take_changed()[0]}


def meter(
    demand: Demand,
    kw: float,
    kvar: float | None = None,
    *,
    at: datetime | None = None,
    arrived_at: float = NOON_S,
    retained: bool = False,
) -> ReadingOutcome:
    """A reading of the meter at Load_1."""
    reading = Reading(kw=kw, kvar=kvar, at=at)
    return demand.take_reading("1", "Load_1", reading, arrived_at, retained=retained)


Call = tuple[str, tuple[Any, ...]]
"""A method of Demand and its arguments; for readings, without arrival and retain flag."""


def do(demand: Demand, calls: Sequence[Call]) -> Demand:
    for method, arguments in calls:
        if method == "take_reading":
            bus, element, reading = arguments
            demand.take_reading(bus, element, reading, NOON_S, retained=False)
        else:
            getattr(demand, method)(*arguments)
    return demand


kws = st.floats(-1e6, 1e6)
kvars = st.none() | st.floats(-1e6, 1e6)
factors = st.floats(0, 10)
seconds = st.integers(-(10**6), 60)
readings = st.builds(
    lambda kw, kvar, s: Reading(kw=kw, kvar=kvar, at=NOON + timedelta(seconds=s)),
    kws,
    kvars,
    seconds,
)


def pins(bus: str, load: str) -> st.SearchStrategy[Call]:
    return st.tuples(st.just("pin"), st.tuples(st.just(bus), st.just(load), kws, kvars))


def releases(bus: str, load: str | None) -> st.SearchStrategy[Call]:
    return st.just(("release", (bus, load)))


def bus_factors(bus: str) -> st.SearchStrategy[Call]:
    return st.tuples(st.just("set_bus_factor"), st.tuples(st.just(bus), factors))


def neighbourhood_factors(number: int) -> st.SearchStrategy[Call]:
    return st.tuples(st.just("set_neighbourhood_factor"), st.tuples(st.just(number), factors))


def metered(bus: str, load: str) -> st.SearchStrategy[Call]:
    return st.tuples(st.just("take_reading"), st.tuples(st.just(bus), st.just(load), readings))


any_call = st.one_of(
    pins("1", "Load_1"),
    pins("2", "Load_2_b"),
    pins("9r", "Load_9"),
    releases("1", "Load_1"),
    releases("2", None),
    bus_factors("2"),
    neighbourhood_factors(1),
    metered("1", "Load_1"),
    metered("2", "Load_2_b"),
)

calls_on_different_targets = st.tuples(
    pins("1", "Load_1"),
    metered("1", "Load_1"),
    bus_factors("2"),
    metered("2", "Load_2_a"),
    neighbourhood_factors(7),
    metered("9r", "Load_9"),
)


class TestBaseline:
    def test_a_load_starts_at_its_nominal_demand(self) -> None:
        demand = feeder()
        assert demands(demand) == NOMINAL
        assert {each.source for each in demand.demands()} == {Source.NOMINAL}

    def test_a_reading_overrides_the_nominal_demand(self) -> None:
        demand = feeder()
        meter(demand, 12.5, 3.0)
        assert demands(demand)["Load_1"] == Power(12.5, 3.0)
        assert of_load_1(demand).source == Source.METER

    def test_a_pin_overrides_the_reading_before_and_after_it(self) -> None:
        demand = feeder()
        meter(demand, 12.5, 3.0)
        demand.pin("1", "Load_1", 7.0, 1.0)
        meter(demand, 13.5, 3.0)
        assert demands(demand)["Load_1"] == Power(7.0, 1.0)
        assert of_load_1(demand).source == Source.OPERATOR

    def test_a_released_load_has_the_reading_that_came_while_it_was_pinned(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        meter(demand, 13.5, 3.0)
        demand.release("1", "Load_1")
        assert demands(demand)["Load_1"] == Power(13.5, 3.0)
        assert of_load_1(demand).source == Source.METER

    def test_a_pin_to_zero_is_a_pin(self) -> None:
        """Zero is a value like any other, and does not fall through to the reading."""
        demand = feeder()
        meter(demand, 12.5, 3.0)
        demand.pin("1", "Load_1", 0.0, 0.0)
        assert demands(demand)["Load_1"] == Power(0.0, 0.0)

    def test_a_reading_of_zero_is_a_reading(self) -> None:
        demand = feeder()
        meter(demand, 0.0, 0.0)
        assert demands(demand)["Load_1"] == Power(0.0, 0.0)

    def test_one_load_of_a_bus_leaves_the_other_alone(self) -> None:
        demand = feeder()
        demand.pin("2", "Load_2_a", 1.0, 2.0)
        assert demands(demand) == {**NOMINAL, "Load_2_a": Power(1.0, 2.0)}

    def test_releasing_a_bus_releases_all_its_loads(self) -> None:
        demand = feeder()
        demand.pin("2", "Load_2_a", 1.0, 2.0)
        demand.pin("2", "Load_2_b", 1.0, 2.0)
        assert demand.release("2", None) == ("2",)
        assert demands(demand) == NOMINAL

    def test_names_are_found_in_any_case(self) -> None:
        demand = feeder()
        assert demand.pin("9R", "LOAD_9", 1.0, 2.0) == ("9r",)
        assert demands(demand)["Load_9"] == Power(1.0, 2.0)


class TestPowerFactor:
    def test_a_pin_without_kvar_keeps_the_nominal_power_factor(self) -> None:
        """Load_2_b is 30 kW and 40 kvar, so 15 kW come with 20 kvar."""
        demand = feeder()
        demand.pin("2", "Load_2_b", 15.0, None)
        assert demands(demand)["Load_2_b"] == Power(15.0, 20.0)

    def test_a_reading_without_kvar_keeps_the_nominal_power_factor(self) -> None:
        """Load_1 is 40 kW and 20 kvar, so 10 kW come with 5 kvar."""
        demand = feeder()
        meter(demand, 10.0)
        assert demands(demand)["Load_1"] == Power(10.0, 5.0)

    def test_export_is_allowed_and_keeps_the_power_factor_too(self) -> None:
        """-10 kW at the power factor of 40 kW and 20 kvar is -5 kvar."""
        demand = feeder()
        assert meter(demand, -10.0) == ReadingOutcome.ACCEPTED
        assert demands(demand)["Load_1"] == Power(-10.0, -5.0)

    def test_a_load_without_nominal_kw_has_no_power_factor_to_keep(self) -> None:
        demand = feeder()
        demand.pin("9r", "Load_9", 3.0, None)
        assert demands(demand)["Load_9"] == Power(3.0, 0.0)


class TestFactor:
    def test_the_factor_of_a_bus_scales_kw_and_kvar_of_its_loads(self) -> None:
        """Half of 20 kW and 10 kvar, and half of 30 kW and 40 kvar."""
        demand = feeder()
        assert demand.set_bus_factor("2", 0.5) == ("2",)
        expected = {**NOMINAL, "Load_2_a": Power(10.0, 5.0), "Load_2_b": Power(15.0, 20.0)}
        assert expected == demands(demand)

    def test_the_factor_of_a_neighbourhood_reaches_every_load_of_its_buses(self) -> None:
        demand = feeder()
        assert demand.set_neighbourhood_factor(1, 2.0) == ("1", "2")
        assert demands(demand) == {
            "Load_1": Power(80.0, 40.0),
            "Load_2_a": Power(40.0, 20.0),
            "Load_2_b": Power(60.0, 80.0),
            "Load_9": Power(0.0, 5.0),
        }

    def test_neighbourhoods_name_their_buses_in_any_case(self) -> None:
        """Neighbourhood 7 lists 9R, the circuit has 9r."""
        demand = feeder()
        assert demand.set_neighbourhood_factor(7, 3.0) == ("9r",)
        assert demands(demand) == {**NOMINAL, "Load_9": Power(0.0, 15.0)}

    def test_a_factor_replaces_the_one_before_it(self) -> None:
        demand = feeder()
        demand.set_neighbourhood_factor(1, 0.5)
        demand.set_bus_factor("1", 0.25)
        assert demands(demand)["Load_1"] == Power(10.0, 5.0)

    def test_a_factor_scales_a_reading_that_comes_later(self) -> None:
        """Half of the 12 kW and 4 kvar that the meter saw."""
        demand = feeder()
        demand.set_bus_factor("1", 0.5)
        meter(demand, 12.0, 4.0)
        assert demands(demand)["Load_1"] == Power(6.0, 2.0)

    def test_pinning_sets_the_factor_back_to_one(self) -> None:
        """And releasing does not bring the old factor back."""
        demand = feeder()
        demand.set_bus_factor("1", 0.5)
        demand.pin("1", "Load_1", 7.0, 1.0)
        assert demands(demand)["Load_1"] == Power(7.0, 1.0)
        demand.release("1", "Load_1")
        assert demands(demand)["Load_1"] == Power(40.0, 20.0)

    def test_a_factor_after_the_pin_scales_the_pin(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        demand.set_bus_factor("1", 2.0)
        assert demands(demand)["Load_1"] == Power(14.0, 2.0)

    def test_the_factor_in_force_is_told_beside_the_demand(self) -> None:
        demand = feeder()
        assert of_load_1(demand).factor == 1.0
        demand.set_bus_factor("1", 0.5)
        assert of_load_1(demand).factor == 0.5

    @given(factor=factors)
    def test_demand_is_the_nominal_demand_times_the_factor(self, factor: float) -> None:
        demand = feeder()
        demand.set_bus_factor("2", factor)
        assert demands(demand)["Load_2_b"] == Power(30.0 * factor, 40.0 * factor)


class TestModel:
    def test_nominal_demand_keeps_the_model_of_the_load_whatever_its_factor(self) -> None:
        demand = feeder()
        demand.set_bus_factor("1", 0.5)
        assert not of_load_1(demand).constant_power

    def test_a_pinned_load_is_constant_power_until_released(self) -> None:
        demand = feeder()
        demand.pin("1", "Load_1", 7.0, 1.0)
        assert of_load_1(demand).constant_power
        demand.release("1", "Load_1")
        assert not of_load_1(demand).constant_power

    def test_a_metered_load_is_constant_power(self) -> None:
        demand = feeder()
        meter(demand, 12.5)
        assert of_load_1(demand).constant_power


class TestLaws:
    @given(
        calls=calls_on_different_targets.flatmap(
            lambda c: st.tuples(st.just(c), st.permutations(c))
        )
    )
    def test_order_does_not_matter(self, calls: tuple[Sequence[Call], Sequence[Call]]) -> None:
        """Commands and readings on different targets give the same demand in any order."""
        one, other = calls
        assert demands(do(feeder(), one)) == demands(do(feeder(), other))

    @given(calls=st.lists(any_call, max_size=8), last=any_call)
    def test_repeating_a_command_changes_nothing(self, calls: list[Call], last: Call) -> None:
        once = do(feeder(), [*calls, last])
        twice = do(feeder(), [*calls, last, last])
        assert demands(once) == demands(twice)

    @given(calls=st.lists(metered("2", "Load_2_b"), max_size=4), pin=pins("2", "Load_2_b"))
    def test_release_restores_demand_to_the_last_digit(self, calls: list[Call], pin: Call) -> None:
        """What was metered or nominal before the pin is there after it, exactly."""
        demand = do(feeder(), calls)
        before = demands(demand)
        do(demand, [pin, ("release", ("2", "Load_2_b"))])
        assert demands(demand) == before

    @given(factor=factors, number=st.sampled_from([1, 7]))
    def test_a_factor_of_one_restores_demand_to_the_last_digit(
        self, factor: float, number: int
    ) -> None:
        demand = feeder()
        demand.set_neighbourhood_factor(number, factor)
        demand.set_neighbourhood_factor(number, 1.0)
        assert demands(demand) == NOMINAL


class TestReadings:
    def test_an_older_reading_never_overrides(self) -> None:
        demand = feeder()
        assert meter(demand, 5.0, 1.0, at=NOON) == ReadingOutcome.ACCEPTED
        older = NOON - timedelta(seconds=1)
        assert meter(demand, 9.0, 1.0, at=older) == ReadingOutcome.STALE
        assert demands(demand)["Load_1"] == Power(5.0, 1.0)

    def test_time_zones_are_told_apart(self) -> None:
        """13:30 at +02:00 is 11:30 UTC, which is before noon UTC."""
        demand = feeder()
        meter(demand, 5.0, 1.0, at=NOON)
        older = datetime.fromisoformat("2026-11-22T13:30:00+02:00")
        assert meter(demand, 9.0, 1.0, at=older) == ReadingOutcome.STALE

    def test_a_reading_without_time_counts_from_its_arrival(self) -> None:
        """It arrived at noon, so one taken at 11:59:59 is older and one at 12:00:01 newer."""
        demand = feeder()
        assert meter(demand, 5.0, arrived_at=NOON_S) == ReadingOutcome.ACCEPTED
        before, after = NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)
        assert meter(demand, 6.0, at=before) == ReadingOutcome.STALE
        assert meter(demand, 7.0, at=after) == ReadingOutcome.ACCEPTED

    def test_a_clock_that_has_been_put_right_makes_no_live_reading_old(self) -> None:
        """It was an hour ahead when 5 kW came; what comes live at noon is newer all the same."""
        demand = feeder()
        meter(demand, 5.0, arrived_at=NOON_S + 3600)
        assert meter(demand, 6.0, arrived_at=NOON_S) == ReadingOutcome.ACCEPTED
        before = NOON - timedelta(seconds=1)
        assert meter(demand, 7.0, at=before, arrived_at=NOON_S) == ReadingOutcome.STALE

    def test_what_the_broker_has_kept_is_not_newer_for_that(self) -> None:
        """The clock has fallen two minutes behind, and the broker brings what it kept at 11:30."""
        demand = feeder()
        meter(demand, 10.0, at=NOON, arrived_at=NOON_S)
        half_an_hour_ago = NOON - timedelta(minutes=30)
        kept = meter(demand, 99.0, at=half_an_hour_ago, arrived_at=NOON_S - 120, retained=True)
        assert kept == ReadingOutcome.STALE

    def test_a_retained_reading_without_time_never_overrides(self) -> None:
        """Nobody knows when it was taken, even if what is there is a day old."""
        demand = feeder()
        meter(demand, 5.0, 1.0, at=NOON - timedelta(days=1))
        assert meter(demand, 9.0, 1.0, retained=True) == ReadingOutcome.STALE
        assert demands(demand)["Load_1"] == Power(5.0, 1.0)

    def test_a_retained_reading_without_time_fills_a_gap_and_gives_way_to_any_other(self) -> None:
        demand = feeder()
        assert meter(demand, 9.0, 1.0, retained=True) == ReadingOutcome.ACCEPTED
        assert demands(demand)["Load_1"] == Power(9.0, 1.0)
        assert meter(demand, 5.0, 1.0, at=datetime(1970, 1, 1, tzinfo=UTC)) == "accepted"
        assert demands(demand)["Load_1"] == Power(5.0, 1.0)

    def test_a_retained_reading_with_a_time_is_ordered_by_it(self) -> None:
        demand = feeder()
        meter(demand, 5.0, 1.0, at=NOON - timedelta(hours=1))
        assert meter(demand, 9.0, 1.0, at=NOON, retained=True) == ReadingOutcome.ACCEPTED
        assert demands(demand)["Load_1"] == Power(9.0, 1.0)

    def test_a_minute_ahead_is_the_limit(self) -> None:
        demand = feeder()
        too_far = NOON + timedelta(seconds=60, microseconds=1000)
        assert meter(demand, 5.0, 1.0, at=too_far) == ReadingOutcome.FUTURE
        assert demands(demand) == NOMINAL
        assert meter(demand, 5.0, 1.0, at=NOON + timedelta(seconds=60)) == ReadingOutcome.ACCEPTED

    @pytest.mark.parametrize(
        ("bus", "element", "outcome"),
        [
            ("1", "Load_2_a", ReadingOutcome.UNKNOWN_ELEMENT),
            ("150", "Load_1", ReadingOutcome.UNKNOWN_ELEMENT),
            ("77", "Load_1", ReadingOutcome.UNKNOWN_BUS),
        ],
        ids=["load-of-another-bus", "bus-without-load", "no-such-bus"],
    )
    def test_a_reading_of_nothing_known_is_refused(
        self, bus: str, element: str, outcome: ReadingOutcome
    ) -> None:
        demand = feeder()
        reading = Reading(kw=5.0)
        assert demand.take_reading(bus, element, reading, NOON_S, retained=False) == outcome
        assert demands(demand) == NOMINAL

    @given(
        offsets=st.lists(st.integers(-(10**6), 60), min_size=1, max_size=8, unique=True).flatmap(
            st.permutations
        )
    )
    def test_readings_in_any_order_leave_the_newest(self, offsets: list[int]) -> None:
        """Each reading's kW is its time, so the one that is left says which it is."""
        demand = feeder()
        for offset in offsets:
            meter(demand, float(offset), 0.0, at=NOON + timedelta(seconds=offset))
        assert demands(demand)["Load_1"] == Power(float(max(offsets)), 0.0)

    @given(
        at=st.datetimes(timezones=st.just(UTC)),
        arrived_at=st.floats(0, 4e9),
        retained=st.booleans(),
    )
    def test_no_reading_more_than_a_minute_ahead_is_accepted(
        self, at: datetime, arrived_at: float, retained: bool
    ) -> None:
        """The first reading of a load is accepted exactly when it is no more than 60 s ahead."""
        outcome = meter(feeder(), 5.0, at=at, arrived_at=arrived_at, retained=retained)
        ahead = at.timestamp() > arrived_at + 60
        assert outcome == (ReadingOutcome.FUTURE if ahead else ReadingOutcome.ACCEPTED)

    @given(ahead_s=st.floats(60.001, 1e9), calls=st.lists(any_call, max_size=5))
    def test_a_reading_from_the_future_changes_nothing(
        self, ahead_s: float, calls: list[Call]
    ) -> None:
        demand = do(feeder(), calls)
        before = demands(demand)
        outcome = meter(demand, 999.0, 9.0, at=NOON + timedelta(seconds=ahead_s))
        assert outcome == ReadingOutcome.FUTURE
        assert demands(demand) == before

    def test_the_oldest_reading_is_the_oldest_of_the_newest(self) -> None:
        """Load_1 was last read at noon, Load_2_a at 11:59; the reading of 11:00 is history."""
        demand = feeder()
        assert demand.oldest_reading_at() is None
        meter(demand, 5.0, at=NOON - timedelta(hours=1))
        meter(demand, 5.0, at=NOON)
        at = NOON - timedelta(minutes=1)
        demand.take_reading("2", "Load_2_a", Reading(kw=5.0, at=at), NOON_S, retained=False)
        assert demand.oldest_reading_at() == NOON_S - 60

    def test_a_reading_of_unknown_age_is_not_the_oldest(self) -> None:
        demand = feeder()
        meter(demand, 5.0, retained=True)
        assert demand.oldest_reading_at() is None


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "code", "field"),
        [
            (("pin", ("77", "Load_1", 1.0, None)), ErrorCode.BUS_NOT_FOUND, "bus_name"),
            (("pin", ("150", "Load_1", 1.0, None)), ErrorCode.LOAD_NOT_FOUND, "bus_name"),
            (("pin", ("1", "Load_2_a", 1.0, None)), ErrorCode.LOAD_NOT_FOUND, "load_name"),
            (("release", ("77", None)), ErrorCode.BUS_NOT_FOUND, "bus_name"),
            (("release", ("150", None)), ErrorCode.LOAD_NOT_FOUND, "bus_name"),
            (("release", ("1", "Load_9")), ErrorCode.LOAD_NOT_FOUND, "load_name"),
            (("set_bus_factor", ("77", 0.5)), ErrorCode.BUS_NOT_FOUND, "bus_name"),
            (("set_bus_factor", ("150", 0.5)), ErrorCode.LOAD_NOT_FOUND, "bus_name"),
            (
                ("set_neighbourhood_factor", (2, 0.5)),
                ErrorCode.NEIGHBOURHOOD_NOT_FOUND,
                "neighbourhood",
            ),
        ],
    )
    def test_a_refused_command_names_the_field_and_changes_nothing(
        self, call: Call, code: ErrorCode, field: str
    ) -> None:
        demand = feeder()
        with pytest.raises(Refusal) as refused:
            do(demand, [call])
        assert refused.value.code == code
        assert [detail.field for detail in refused.value.details] == [field]
        assert demands(demand) == NOMINAL
        assert not demand.has_changed

    def test_an_unknown_load_is_answered_with_the_loads_that_the_bus_has(self) -> None:
        with pytest.raises(Refusal, match="it has Load_2_a, Load_2_b"):
            feeder().pin("2", "Load_2", 1.0, None)


class TestChanged:
    def test_nothing_has_changed_at_first(self) -> None:
        demand = feeder()
        assert not demand.has_changed
        assert demand.take_changed() == ([], [])

    def test_what_was_touched_is_handed_over_once(self) -> None:
        demand = feeder()
        demand.set_bus_factor("2", 0.5)
        meter(demand, 5.0)
        assert take_changed(demand) == {"Load_1", "Load_2_a", "Load_2_b"}
        assert not demand.has_changed
        assert demand.take_changed() == ([], [])

    def test_a_reading_that_is_not_accepted_changes_nothing(self) -> None:
        demand = feeder()
        meter(demand, 5.0, at=NOON + timedelta(hours=1))
        assert not demand.has_changed

    @given(calls=st.lists(any_call, max_size=6))
    def test_every_load_whose_demand_moved_is_among_the_changed(self, calls: list[Call]) -> None:
        demand = do(feeder(), calls)
        moved = {name for name, power in demands(demand).items() if power != NOMINAL[name]}
        assert moved <= take_changed(demand)

    @given(calls=st.lists(any_call, max_size=6))
    def test_what_is_handed_over_is_the_demand_in_force(self, calls: list[Call]) -> None:
        demand = do(feeder(), calls)
        in_force = demand.demands()
        assert all(each == in_force[each.row] for each in demand.take_changed()[0])
