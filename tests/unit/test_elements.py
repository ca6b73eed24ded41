"""What an element demands, by what is said of it: pins, readings, and setpoints that it obeys.

Load_1 is nominally 40 kW and 20 kvar: half as many kvar as kW, a power factor of 0.894.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.readings import Reading
from services.solver.elements import FREE, Element, Held, Kind, Power, Source

T0 = 1_800_000_000.0


def load_1() -> Element:
    return Element(Kind.LOAD, 0, "Load_1", "1", Power(40.0, 20.0))


def charger() -> Element:
    """A device of 7.2 kW and 1.44 kvar."""
    return Element(Kind.DEVICE, 1, "EV", "1", Power(7.2, 1.44))


def held_to(max_kw: float | None, pf: float | None = None) -> Element:
    """Load_1, whose meter saw 40 kW and 20 kvar before its setpoint was sent at T0."""
    load = load_1()
    read(load, 40.0, 20.0)
    load.hold(Held(max_kw, pf), T0)
    return load


def read(
    element: Element,
    kw: float,
    kvar: float | None = None,
    demand_kw: float | None = None,
    *,
    at_s: float = 0.0,
) -> None:
    """A reading that is taken, and arrives, so long after T0."""
    at = T0 + at_s
    element.read(Reading(kw=kw, kvar=kvar, demand_kw=demand_kw), at, at)


class TestBase:
    def test_without_pin_and_reading_it_is_nominal(self) -> None:
        assert load_1().base() == (Power(40.0, 20.0), Source.NOMINAL)

    def test_a_reading_goes_before_the_nominal_demand(self) -> None:
        load = load_1()
        read(load, 12.5, 3.0)
        assert load.base() == (Power(12.5, 3.0), Source.METER)

    def test_a_pin_goes_before_a_reading(self) -> None:
        load = load_1()
        load.pin = Power(7.0, 1.0)
        read(load, 12.5, 3.0)
        assert load.base() == (Power(7.0, 1.0), Source.OPERATOR)

    def test_kvar_that_is_not_given_keeps_the_nominal_power_factor(self) -> None:
        """Half as many kvar as kW, in export too."""
        assert load_1().power(10.0, None) == Power(10.0, 5.0)
        assert load_1().power(-10.0, None) == Power(-10.0, -5.0)

    def test_kvar_that_is_given_is_taken(self) -> None:
        assert load_1().power(10.0, 0.0) == Power(10.0, 0.0)
        assert load_1().power(0.0, 3.0) == Power(0.0, 3.0)

    def test_an_element_without_nominal_kw_has_no_power_factor_to_keep(self) -> None:
        idle = Element(Kind.LOAD, 0, "x", "1", Power(0.0, 5.0))
        assert idle.power(3.0, None) == Power(3.0, 0.0)

    def test_what_it_would_draw_says_nothing_where_no_setpoint_holds_it(self) -> None:
        load = load_1()
        read(load, 12.0, 6.0, 30.0)
        assert load.base()[0] == Power(12.0, 6.0)


class TestObedience:
    """A reading within 0.9 to 1.05 of the setpoint is obedience, not demand."""

    @pytest.mark.parametrize("kw", [18.0, 19.0, 20.0, 20.5, 21.0])
    def test_a_reading_near_the_setpoint_leaves_demand_as_it_was(self, kw: float) -> None:
        """Asked for 20 kW: from 0.9 * 20 = 18 to 1.05 * 20 = 21 kW, both included."""
        load = held_to(20.0)
        read(load, kw, 8.0, at_s=1)
        assert load.base() == (Power(40.0, 20.0), Source.METER)

    @pytest.mark.parametrize("kw", [17.999, 10.0, 0.0, -5.0])
    def test_a_lower_reading_is_demand(self, kw: float) -> None:
        """Whoever draws less than he may would not draw more without the setpoint."""
        load = held_to(20.0)
        read(load, kw, 4.0, at_s=1)
        assert load.base() == (Power(kw, 4.0), Source.METER)

    def test_a_higher_reading_is_demand(self) -> None:
        load = held_to(20.0)
        read(load, 41.0, 21.0, at_s=1)
        assert load.base()[0] == Power(41.0, 21.0)

    def test_a_meter_that_says_what_would_be_drawn_is_believed(self) -> None:
        """20 kW and 8 kvar now, 30 kW if free: 12 kvar at the power factor that it has."""
        load = held_to(20.0)
        read(load, 20.0, 8.0, 30.0, at_s=1)
        assert load.base()[0] == Power(30.0, 12.0)

    def test_what_would_be_drawn_has_the_nominal_power_factor_where_no_kvar_is_given(self) -> None:
        load = held_to(20.0)
        read(load, 20.0, None, 30.0, at_s=1)
        assert load.base()[0] == Power(30.0, 15.0)

    def test_obedience_of_an_element_that_was_never_metered_leaves_it_nominal(self) -> None:
        load = load_1()
        load.hold(Held(20.0, None), T0)
        read(load, 20.0, 10.0, at_s=1)
        assert load.base() == (Power(40.0, 20.0), Source.NOMINAL)

    def test_the_time_of_an_obeying_reading_counts(self) -> None:
        """So that an older one, which says something else, stays stale."""
        load = held_to(20.0)
        read(load, 20.0, at_s=9)
        assert load.reading_at == T0 + 9

    def test_the_setpoint_before_is_respected_for_30_s(self) -> None:
        """Asked for 20 kW, then for 30 kW at T0 + 100: 20 kW is obedience until T0 + 130 at least,
        and not for ever.
        """
        load = held_to(20.0)
        load.hold(Held(30.0, None), T0 + 100)
        read(load, 20.0, 8.0, at_s=130)
        assert load.base()[0] == Power(40.0, 20.0)
        read(load, 20.0, 8.0, at_s=400)
        assert load.base()[0] == Power(20.0, 8.0)

    def test_a_former_setpoint_is_no_demand_where_less_is_asked_for_now(self) -> None:
        """Asked for 20 kW, then for 10 kW: a device that still draws 20 kW is on its way."""
        load = held_to(20.0)
        load.hold(Held(10.0, None), T0 + 100)
        read(load, 20.0, 8.0, at_s=110)
        assert load.base()[0] == Power(40.0, 20.0)

    def test_there_is_no_former_setpoint_where_none_was_in_force(self) -> None:
        """Lifted in between: what is read then is what is demanded."""
        load = held_to(20.0)
        load.hold(FREE, T0 + 100)
        load.hold(Held(30.0, None), T0 + 101)
        read(load, 20.0, 8.0, at_s=102)
        assert load.base()[0] == Power(20.0, 8.0)

    def test_a_setpoint_that_says_the_same_does_not_make_it_the_former_one(self) -> None:
        """20, then 10, then 10 kW again with a power factor: 20 kW is still the one before."""
        load = held_to(20.0)
        load.hold(Held(10.0, None), T0 + 100)
        load.hold(Held(10.0, 0.95), T0 + 101)
        read(load, 20.0, 8.0, at_s=102)
        assert load.base()[0].kw == 40.0

    @pytest.mark.parametrize("kw", [0.0, 0.03, 0.05])
    def test_a_setpoint_of_zero_is_obeyed_with_standby(self, kw: float) -> None:
        """50 W may go on; it is no demand."""
        load = held_to(0.0)
        read(load, kw, 0.0, at_s=1)
        assert load.base()[0] == Power(40.0, 20.0)

    def test_more_than_standby_is_no_obedience(self) -> None:
        """51 W for half a minute."""
        load = held_to(0.0)
        read(load, 0.051, 0.0, at_s=1)
        read(load, 0.051, 0.0, at_s=31)
        assert load.base()[0] == Power(0.051, 0.0)
        assert load.not_following

    def test_export_is_no_obedience_to_a_setpoint_of_zero(self) -> None:
        load = held_to(0.0)
        read(load, -0.001, 0.0, at_s=1)
        assert load.base()[0] == Power(-0.001, 0.0)

    def test_standby_beside_what_would_be_drawn(self) -> None:
        """A charger at standby, 4 W, that would draw 7 kW: 1.4 kvar at its own power factor."""
        device = charger()
        device.hold(Held(0.0, None), T0)
        read(device, 0.004, None, 7.0, at_s=1)
        assert device.base()[0] == pytest.approx(Power(7.0, 1.4))

    def test_kvar_at_standby_is_no_power_factor(self) -> None:
        """The filter of a charger draws 20 var at 4 W. That it would draw 7 kW does not make it
        35 kvar: the power factor of standby says nothing of that of charging.
        """
        device = charger()
        device.hold(Held(0.0, None), T0)
        read(device, 0.004, 0.020, 7.0, at_s=1)
        assert device.base()[0] == pytest.approx(Power(7.0, 1.4))

    def test_almost_nothing_drawn_makes_no_infinite_demand(self) -> None:
        device = charger()
        device.hold(Held(0.0, None), T0)
        read(device, 1e-300, 1e6, 1e6, at_s=1)
        assert math.isfinite(device.base()[0].kvar)
        assert abs(device.base()[0].kvar) <= 1e6

    @given(kw=st.floats(0.001, 17.9), kvar=st.floats(-1e3, 1e3))
    def test_a_reading_that_is_demand_keeps_its_kvar_to_the_last_digit(
        self, kw: float, kvar: float
    ) -> None:
        """Also under a setpoint, as without one."""
        load = held_to(20.0)
        read(load, kw, kvar, at_s=1)
        assert load.base()[0] == Power(kw, kvar)

    @given(
        max_kw=st.floats(0.06, 1e6),
        share=st.floats(0.9, 1.05),
        kvar=st.none() | st.floats(-1e6, 1e6),
    )
    def test_any_obedience_leaves_demand_to_the_last_digit(
        self, max_kw: float, share: float, kvar: float | None
    ) -> None:
        load = held_to(max_kw)
        kw = min(max(share * max_kw, 0.9 * max_kw), 1.05 * max_kw, 1e6)
        read(load, kw, kvar, at_s=1)
        assert load.base()[0] == Power(40.0, 20.0)
        assert not load.not_following


class TestFormerSetpoints:
    """Setpoints follow each other faster than some devices do."""

    def test_a_setpoint_two_before_is_respected_too(self) -> None:
        """Asked for 10, 14 and then 20 kW within ten seconds: 10 kW is a device that is late, and
        no demand of 10 kW.
        """
        load = held_to(10.0)
        load.hold(Held(14.0, None), T0 + 5)
        load.hold(Held(20.0, None), T0 + 10)
        for kw in (10.0, 14.0, 20.0):
            read(load, kw, kw / 2, at_s=12)
            assert load.base()[0] == Power(40.0, 20.0)

    def test_one_that_is_lifted_only_for_now_is_respected_too(self) -> None:
        """Relief let go; a device that is late still draws the 20 kW of before."""
        load = held_to(20.0)
        load.hold(FREE, T0 + 100, for_now=True)
        read(load, 20.0, 8.0, at_s=110)
        assert load.base()[0] == Power(40.0, 20.0)
        assert not load.not_following

    @pytest.mark.parametrize("demand_kw", [None, 38.0])
    def test_one_that_was_lifted_long_ago_says_nothing_any_more(
        self, demand_kw: float | None
    ) -> None:
        """Nothing holds it: what is drawn is what is demanded."""
        load = held_to(20.0)
        load.hold(FREE, T0 + 100, for_now=True)
        read(load, 20.0, 8.0, demand_kw, at_s=900)
        assert load.base()[0] == Power(20.0, 8.0)

    def test_after_one_that_was_lifted_for_now_anything_else_is_demand(self) -> None:
        load = held_to(20.0)
        load.hold(FREE, T0 + 100, for_now=True)
        read(load, 33.0, 11.0, at_s=110)
        assert load.base()[0] == Power(33.0, 11.0)

    def test_what_is_drawn_below_the_setpoint_is_demand_whatever_is_told(self) -> None:
        """It draws 10 kW where it may draw 20, so 10 kW is what it wants."""
        load = held_to(20.0)
        read(load, 10.0, 5.0, 38.0, at_s=1)
        assert load.base()[0] == pytest.approx(Power(10.0, 5.0))

    def test_a_device_on_its_way_tells_of_its_demand(self) -> None:
        """Seen at 30 kW, asked for 20 kW, and it would draw 38."""
        load = held_to(20.0)
        read(load, 30.0, 15.0, 38.0, at_s=1)
        assert load.base()[0] == pytest.approx(Power(38.0, 19.0))

    def test_one_that_does_not_follow_is_solved_as_metered_whatever_it_tells(self) -> None:
        load = held_to(20.0)
        read(load, 30.0, 15.0, 38.0, at_s=1)
        read(load, 30.0, 15.0, 38.0, at_s=31)
        assert load.not_following
        assert load.base()[0] == Power(30.0, 15.0)


class TestSlowObedience:
    """Devices take their time. What is drawn on the way down is neither demand nor obedience."""

    def test_a_device_on_its_way_to_the_setpoint_still_demands_what_it_did(self) -> None:
        """40 kW, asked for 20 kW, seen at 35, 30 and 25 kW, then at 20 kW: it would draw 40 kW
        all the time. Were 25 kW its demand, its share of its bus's power would shrink for ever.
        """
        load = held_to(20.0)
        for second, kw in enumerate((35.0, 30.0, 25.0, 20.0), 1):
            read(load, kw, kw / 2, at_s=5 * second)
        assert load.base()[0] == Power(40.0, 20.0)


class TestPowerFactorObedience:
    """At a power factor of 0.95 an element draws at most tan(acos 0.95) = 0.3287 kvar per kW."""

    def test_a_reading_that_obeys_keeps_the_ratio_that_the_element_had(self) -> None:
        """40 kW and 20 kvar, corrected to 13.147 kvar. Then 30 kW with 9.861 kvar is obedience:
        free it would be 30 kW and 15 kvar.
        """
        load = held_to(None, 0.95)
        read(load, 30.0, 9.861, at_s=1)
        assert load.base()[0] == pytest.approx(Power(30.0, 15.0))

    def test_the_ratio_is_that_of_the_newest_reading_before(self) -> None:
        """32 kvar at 40 kW, so 24 kvar at 30 kW."""
        load = load_1()
        read(load, 40.0, 32.0)
        load.hold(Held(None, 0.95), T0)
        read(load, 30.0, 9.861, at_s=1)
        read(load, 30.0, 9.861, at_s=2)
        assert load.base()[0] == pytest.approx(Power(30.0, 24.0))

    @pytest.mark.parametrize(
        ("kvar", "is_obedience"),
        [(8.8, False), (8.9, True), (9.861, True), (10.34, True), (10.37, False), (15.0, False)],
    )
    def test_the_same_bounds_hold_for_kvar(self, kvar: float, is_obedience: bool) -> None:
        """At 30 kW, 9.861 kvar are allowed: 0.9 of it is 8.875, 1.05 of it 10.354 kvar."""
        load = held_to(None, 0.95)
        read(load, 30.0, kvar, at_s=1)
        assert load.base()[0] == pytest.approx(Power(30.0, 15.0 if is_obedience else kvar))

    def test_a_power_factor_of_one_is_obeyed_by_no_kvar(self) -> None:
        load = held_to(None, 1.0)
        read(load, 30.0, 0.0, at_s=1)
        assert load.base()[0] == Power(30.0, 15.0)

    def test_without_kvar_the_nominal_power_factor_holds(self) -> None:
        load = held_to(None, 0.95)
        read(load, 30.0, None, at_s=1)
        assert load.base()[0] == Power(30.0, 15.0)

    def test_cap_and_power_factor_obeyed_together_leave_demand_as_it_was(self) -> None:
        load = held_to(20.0, 0.95)
        read(load, 20.0, 6.574, at_s=1)
        assert load.base()[0] == Power(40.0, 20.0)

    def test_cap_and_power_factor_obeyed_by_a_meter_that_says_what_would_be_drawn(self) -> None:
        """50 kW if free: 25 kvar at the ratio it had, not 16.4 at the one that it is held to."""
        load = held_to(20.0, 0.95)
        read(load, 20.0, 6.574, 50.0, at_s=1)
        assert load.base()[0] == pytest.approx(Power(50.0, 25.0))

    def test_export_obeys_no_power_factor(self) -> None:
        load = held_to(None, 0.95)
        read(load, -30.0, 9.861, at_s=1)
        assert load.base()[0] == pytest.approx(Power(-30.0, 9.861))

    def test_the_ratio_of_next_to_no_power_is_not_carried_on(self) -> None:
        """1 mW with 5 kvar is no power factor that 30 kW could have."""
        load = load_1()
        read(load, 1e-6, 5.0)
        load.hold(Held(None, 0.95), T0)
        read(load, 30.0, 9.861, at_s=1)
        assert abs(load.base()[0].kvar) <= 1e3


class TestNotFollowing:
    """Asked for 20 kW: above 1.05 * 20 + 0.05 = 21.05 kW is above."""

    def test_above_for_30_s_is_not_following(self) -> None:
        load = held_to(20.0)
        for at_s, expected in ((1, False), (15, False), (30.9, False), (31, True), (60, True)):
            read(load, 40.0, at_s=at_s)
            assert load.not_following is expected, at_s

    def test_its_readings_are_demand(self) -> None:
        load = held_to(20.0)
        read(load, 39.0, 19.0, at_s=1)
        read(load, 41.0, 21.0, at_s=40)
        assert load.base()[0] == Power(41.0, 21.0)

    def test_one_reading_that_is_not_above_begins_the_time_again(self) -> None:
        load = held_to(20.0)
        for at_s, kw in ((1, 40.0), (20, 20.0), (25, 40.0), (54, 40.0)):
            read(load, kw, at_s=at_s)
            assert not load.not_following
        read(load, 40.0, at_s=55)
        assert load.not_following

    @pytest.mark.parametrize("kw", [21.0, 20.0, 5.0, 0.0, -3.0])
    def test_it_follows_again_with_the_first_reading_that_is_not_above(self, kw: float) -> None:
        load = held_to(20.0)
        read(load, 40.0, at_s=1)
        read(load, 40.0, at_s=31)
        read(load, kw, at_s=32)
        assert not load.not_following

    def test_lifting_its_setpoint_ends_it(self) -> None:
        load = held_to(20.0)
        read(load, 40.0, at_s=1)
        read(load, 40.0, at_s=31)
        load.hold(FREE, T0 + 32)
        assert not load.not_following
        load.hold(Held(20.0, None), T0 + 33)
        read(load, 40.0, at_s=34)
        assert not load.not_following

    def test_it_does_not_end_with_another_setpoint_that_is_not_followed_either(self) -> None:
        load = held_to(20.0)
        read(load, 40.0, at_s=1)
        load.hold(Held(19.0, None), T0 + 20)
        read(load, 40.0, at_s=31)
        assert load.not_following

    def test_a_power_factor_alone_is_nothing_to_be_above_of(self) -> None:
        load = held_to(None, 0.95)
        read(load, 400.0, at_s=1)
        read(load, 400.0, at_s=61)
        assert not load.not_following

    def test_standby_at_a_setpoint_of_zero_is_following(self) -> None:
        load = held_to(0.0)
        for at_s in (1, 31, 61):
            read(load, 0.05, at_s=at_s)
        assert not load.not_following

    @given(kws=st.lists(st.floats(-50, 21.0), max_size=20))
    def test_who_is_never_above_is_never_not_following(self, kws: list[float]) -> None:
        load = held_to(20.0)
        for index, kw in enumerate(kws):
            read(load, kw, at_s=7.0 * index)
            assert not load.not_following

    @given(kws=st.lists(st.floats(21.1, 1e6), min_size=2, max_size=9))
    def test_who_is_always_above_is_not_following_after_30_s(self, kws: list[float]) -> None:
        load = held_to(20.0)
        for index, kw in enumerate(kws):
            read(load, kw, at_s=30.0 * index)
        assert load.not_following


class TestLifting:
    @given(
        readings=st.lists(
            st.tuples(st.floats(18.0, 21.0), st.floats(-20, 20)),
            max_size=5,
        )
    )
    def test_demand_is_what_it_was_before_the_setpoint_to_the_last_digit(
        self, readings: list[tuple[float, float]]
    ) -> None:
        load = held_to(20.0)
        for index, (kw, kvar) in enumerate(readings):
            read(load, kw, kvar, at_s=index)
        load.hold(FREE, T0 + 99)
        assert load.base() == (Power(40.0, 20.0), Source.METER)

    def test_a_reading_after_it_is_demand(self) -> None:
        load = held_to(20.0)
        load.hold(FREE, T0 + 99)
        read(load, 20.0, 8.0, at_s=100)
        assert load.base()[0] == Power(20.0, 8.0)


class TestGenerators:
    """Production is positive; what a generator could produce takes the place of demand."""

    def test_a_curtailed_generator_that_obeys_could_still_produce_what_it_could(self) -> None:
        plant = Element(Kind.GENERATOR, 0, "pv", "1", Power(100.0, 0.0))
        plant.hold(Held(60.0, None), T0)
        read(plant, 59.0, 0.0, at_s=1)
        assert plant.base() == (Power(100.0, 0.0), Source.NOMINAL)

    def test_a_cloud_is_a_lower_reading(self) -> None:
        plant = Element(Kind.GENERATOR, 0, "pv", "1", Power(100.0, 0.0))
        plant.hold(Held(60.0, None), T0)
        read(plant, 20.0, 0.0, at_s=1)
        assert plant.base() == (Power(20.0, 0.0), Source.METER)
