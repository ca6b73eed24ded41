"""What programs and relief leave to a bus, worked by hand.

The bus of most tests has two loads, of 60 kW with 30 kvar and 40 kW with 20 kvar, and two devices,
of 20 kW with 4 kvar and 10 kW without: 130 kW and 54 kvar together.
"""

import math
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.programs import BusAdjustment, ProgramInForce
from services.solver.bus_rule import (
    BusRule,
    DemandInForce,
    ReliefCap,
    ruled,
    rules_by_bus,
    unruled,
)
from services.solver.elements import Element, Kind, Power, Source

TAN = math.tan(math.acos(0.95))
"""kvar per kW at a power factor of 0.95: 0.3287."""


def program(name: str, *buses: tuple[str, float, float], number: int = 1) -> ProgramInForce:
    """A program, and the most kW and least power factor that it asks of each bus."""
    asked = tuple(BusAdjustment(bus=bus, max_kw=kw, target_pf=pf) for bus, kw, pf in buses)
    return ProgramInForce(name=name, number=number, buses=asked)


def rule(max_kw: float = 1e6, pf: float = 1e-9) -> BusRule:
    """What the program "dfp" asks for; it asks nothing of what is not given."""
    return BusRule(max_kw, ("dfp",), pf, ("dfp",), ("dfp",))


def loads(*powers: tuple[float, float]) -> list[Element]:
    return [
        Element(Kind.LOAD, row, f"Load_{row}", "1", Power(*power))
        for row, power in enumerate(powers)
    ]


def bus() -> list[Element]:
    found = loads((60.0, 30.0), (40.0, 20.0))
    found.append(Element(Kind.DEVICE, 2, "EV", "1", Power(20.0, 4.0)))
    found.append(Element(Kind.DEVICE, 3, "heater", "1", Power(10.0, 0.0)))
    return found


def powers(demands: Sequence[DemandInForce]) -> list[Power]:
    return [Power(each.kw, each.kvar) for each in demands]


def kws(demands: Sequence[DemandInForce]) -> list[float]:
    return [each.kw for each in demands]


def net(demands: Sequence[DemandInForce]) -> Power:
    """Positive kW, and the net kvar, of a bus."""
    return Power(
        math.fsum(max(each.kw, 0.0) for each in demands), math.fsum(each.kvar for each in demands)
    )


def power_factor(power: Power) -> float:
    return power.kw / math.hypot(*power)


some_kw = st.floats(-100, 1000).map(lambda kw: round(kw, 3))
some_kvar = st.floats(-300, 300).map(lambda kvar: round(kvar, 3))
some_factor = st.sampled_from([0.0, 0.001, 1 / 3, 0.5, 1.0, 2.0, 10.0])
some_elements = st.lists(
    st.tuples(st.sampled_from([Kind.LOAD, Kind.DEVICE]), some_kw, some_kvar, some_factor),
    min_size=1,
    max_size=6,
).map(
    lambda drawn: [
        _element(row, kind, kw, kvar, factor) for row, (kind, kw, kvar, factor) in enumerate(drawn)
    ]
)
some_rule = st.builds(rule, max_kw=st.floats(0, 2000), pf=st.floats(0.01, 1.0))


def _element(row: int, kind: Kind, kw: float, kvar: float, factor: float) -> Element:
    element = Element(kind, row, f"x{row}", "1", Power(kw, kvar))
    if kind is Kind.LOAD:
        element.factor = factor
    return element


class TestUnruled:
    def test_a_load_is_nominal_times_its_factor_and_keeps_its_model(self) -> None:
        (load,) = loads((60.0, 30.0))
        load.factor = 0.5
        assert unruled(load) == DemandInForce(
            row=0,
            demand_kw=30.0,
            kw=30.0,
            kvar=15.0,
            factor=0.5,
            source=Source.NOMINAL,
            constant_power=False,
        )

    def test_a_device_is_constant_power(self) -> None:
        device = bus()[2]
        assert powers([unruled(device)]) == [Power(20.0, 4.0)]
        assert unruled(device).constant_power
        assert unruled(device).source is Source.NOMINAL

    def test_without_rule_and_relief_nothing_is_held(self) -> None:
        elements = bus()
        assert ruled(elements, None, {}) == [unruled(element) for element in elements]


class TestCap:
    def test_a_bus_below_its_cap_is_left_alone(self) -> None:
        elements = bus()
        assert ruled(elements, rule(131.0), {}) == [unruled(element) for element in elements]

    def test_a_bus_at_its_cap_is_left_alone(self) -> None:
        """Its loads keep their model too: nothing is held."""
        elements = bus()
        assert ruled(elements, rule(130.0), {}) == [unruled(element) for element in elements]

    def test_devices_give_way_first(self) -> None:
        """130 kW to 115: the devices keep 15 of 30 kW, half each; kvar follows."""
        held = ruled(bus(), rule(115.0), {})
        assert powers(held) == [(60.0, 30.0), (40.0, 20.0), (10.0, 2.0), (5.0, 0.0)]
        assert [each.held_by for each in held] == [(), (), ("dfp",), ("dfp",)]
        assert [each.max_kw for each in held] == [None, None, 10.0, 5.0]
        assert [each.constant_power for each in held] == [False, False, True, True]

    def test_loads_give_way_once_devices_are_at_zero(self) -> None:
        """130 kW to 50: devices 0, the loads half of theirs; kvar follows."""
        held = ruled(bus(), rule(50.0), {})
        assert powers(held) == [(30.0, 15.0), (20.0, 10.0), (0.0, 0.0), (0.0, 0.0)]
        assert all(each.held_by == ("dfp",) for each in held)
        assert all(each.constant_power for each in held)

    def test_a_cap_at_the_loads_takes_the_devices_whole(self) -> None:
        """Exactly 100 kW: loads are not touched, and keep their model."""
        held = ruled(bus(), rule(100.0), {})
        assert kws(held) == [60.0, 40.0, 0.0, 0.0]
        assert [each.held_by for each in held] == [(), (), ("dfp",), ("dfp",)]
        assert not held[0].constant_power

    def test_a_cap_of_zero_takes_everything(self) -> None:
        assert kws(ruled(bus(), rule(0.0), {})) == [0.0, 0.0, 0.0, 0.0]

    def test_demand_and_factor_are_told_as_they_are_without_the_cap(self) -> None:
        elements = bus()
        elements[0].factor = 2.0
        held = ruled(elements, rule(50.0), {})
        assert [each.demand_kw for each in held] == [120.0, 40.0, 20.0, 10.0]
        assert [each.factor for each in held] == [2.0, 1.0, 1.0, 1.0]

    def test_export_is_neither_counted_nor_capped(self) -> None:
        """60 kW drawn beside 100 kW exported are 60 kW: 30 kW are left of them."""
        held = ruled(loads((60.0, 30.0), (-100.0, -10.0)), rule(30.0), {})
        assert powers(held) == [(30.0, 15.0), (-100.0, -10.0)]
        assert held[1].held_by == ()
        assert held[1].max_kw is None

    def test_a_bus_that_only_exports_is_left_alone(self) -> None:
        elements = loads((-60.0, -30.0))
        assert ruled(elements, rule(0.0), {}) == [unruled(elements[0])]

    def test_a_load_without_demand_is_left_alone(self) -> None:
        held = ruled(loads((60.0, 0.0), (0.0, 5.0)), rule(30.0), {})
        assert powers(held) == [(30.0, 0.0), (0.0, 5.0)]
        assert held[1].held_by == ()

    def test_pins_and_readings_are_capped_like_any_demand(self) -> None:
        """120 and 40 kW to 80: half of each."""
        elements = loads((60.0, 30.0), (40.0, 20.0))
        elements[0].pin = Power(120.0, 8.0)
        elements[1].reading = Power(40.0, 2.0)
        held = ruled(elements, rule(80.0), {})
        assert powers(held) == [(60.0, 4.0), (20.0, 1.0)]
        assert [each.source for each in held] == [Source.OPERATOR, Source.METER]

    @given(elements=some_elements, asked=some_rule)
    def test_nobody_gets_more_than_he_demands(
        self, elements: list[Element], asked: BusRule
    ) -> None:
        for each in ruled(elements, asked, {}):
            assert each.kw <= each.demand_kw
            assert each.max_kw is None or each.kw <= each.max_kw
            assert each.kw == each.demand_kw or each.held_by == ("dfp",)

    @given(elements=some_elements, asked=some_rule)
    def test_what_is_drawn_together_is_at_most_the_cap(
        self, elements: list[Element], asked: BusRule
    ) -> None:
        demanded = math.fsum(max(unruled(each).kw, 0.0) for each in elements)
        drawn = net(ruled(elements, asked, {})).kw
        assert drawn == pytest.approx(min(demanded, asked.max_kw), rel=1e-12, abs=1e-9)

    @given(elements=some_elements, asked=some_rule)
    def test_loads_give_only_where_devices_have_given_all(
        self, elements: list[Element], asked: BusRule
    ) -> None:
        held = ruled(elements, asked, {})
        both = list(zip(elements, held, strict=True))
        if any(e.kind is Kind.LOAD and d.kw < d.demand_kw - 1e-6 for e, d in both):
            assert all(d.kw <= 0 for e, d in both if e.kind is Kind.DEVICE)

    @given(elements=some_elements, max_kw=st.floats(0.01, 2000))
    def test_a_cap_keeps_every_power_factor(self, elements: list[Element], max_kw: float) -> None:
        for each, element in zip(ruled(elements, rule(max_kw), {}), elements, strict=True):
            free = unruled(element)
            assert each.kw * free.kvar == pytest.approx(each.kvar * free.kw, rel=1e-9, abs=1e-9)

    @given(elements=some_elements, asked=some_rule, data=st.data())
    def test_the_order_of_elements_does_not_matter(
        self, elements: list[Element], asked: BusRule, data: st.DataObject
    ) -> None:
        shuffled = data.draw(st.permutations(elements))
        assert sorted(ruled(shuffled, asked, {})) == sorted(ruled(elements, asked, {}))

    @given(elements=some_elements, asked=some_rule)
    def test_lifting_restores_demand_to_the_last_digit(
        self, elements: list[Element], asked: BusRule
    ) -> None:
        before = ruled(elements, None, {})
        ruled(elements, asked, {0: ReliefCap(1.0, ("zone",))})
        assert ruled(elements, None, {}) == before


class TestSeveralPrograms:
    def test_the_lowest_cap_and_the_highest_power_factor_hold(self) -> None:
        found = rules_by_bus(
            [
                program("evening", ("1", 50.0, 0.90)),
                program("tight", ("1", 30.0, 0.85)),
                program("pure", ("1", 80.0, 0.99)),
            ]
        )
        assert found == {
            "1": BusRule(
                max_kw=30.0,
                capped_by=("tight",),
                pf=0.99,
                corrected_by=("pure",),
                programs=("evening", "tight", "pure"),
            )
        }

    def test_all_that_ask_for_the_lowest_are_named(self) -> None:
        found = rules_by_bus([program("a", ("1", 30.0, 0.95)), program("b", ("1", 30.0, 0.95))])
        assert found["1"].capped_by == ("a", "b")
        assert found["1"].corrected_by == ("a", "b")

    def test_each_bus_has_a_rule_of_its_own(self) -> None:
        found = rules_by_bus(
            [program("a", ("1", 30.0, 0.9), ("2", 40.0, 0.9)), program("b", ("2", 20.0, 0.8))]
        )
        assert {bus: each.max_kw for bus, each in found.items()} == {"1": 30.0, "2": 20.0}
        assert found["1"].programs == ("a",)

    def test_buses_are_found_in_any_case(self) -> None:
        assert list(rules_by_bus([program("a", ("9R", 30.0, 0.9))])) == ["9r"]

    def test_no_programs_no_rules(self) -> None:
        assert rules_by_bus([]) == {}
        assert rules_by_bus([program("a")]) == {}

    def test_each_is_named_for_what_it_asks(self) -> None:
        """Cut to 30 kW by one program, brought to 0.95 by the other."""
        asked = rules_by_bus(
            [program("cut", ("1", 30.0, 0.5)), program("straighten", ("1", 900.0, 0.95))]
        )["1"]
        (held,) = ruled(loads((60.0, 60.0)), asked, {})
        assert held.held_by == ("cut", "straighten")
        assert (held.kw, held.kvar) == pytest.approx((30.0, 30.0 * TAN))

    def test_a_program_that_asks_for_both_is_named_once(self) -> None:
        (held,) = ruled(loads((60.0, 60.0)), rule(30.0, 0.95), {})
        assert held.held_by == ("dfp",)

    @given(
        asked=st.lists(st.tuples(st.floats(0, 200), st.floats(0.1, 1.0)), min_size=1, max_size=4),
        data=st.data(),
    )
    def test_the_order_of_programs_does_not_matter(
        self, asked: list[tuple[float, float]], data: st.DataObject
    ) -> None:
        programs = [program(f"p{n}", ("1", kw, pf)) for n, (kw, pf) in enumerate(asked)]
        shuffled = data.draw(st.permutations(programs))
        one = ruled(bus(), rules_by_bus(programs)["1"], {})
        other = ruled(bus(), rules_by_bus(shuffled)["1"], {})
        assert powers(one) == powers(other)
        assert [sorted(each.held_by) for each in one] == [sorted(each.held_by) for each in other]


class TestPowerFactor:
    def test_kvar_is_brought_exactly_to_the_target(self) -> None:
        """40 kW with 30 kvar, 0.8: at 0.95, 40 * 0.3287 = 13.147 kvar."""
        (held,) = ruled(loads((40.0, 30.0)), rule(pf=0.95), {})
        assert (held.kw, held.kvar) == pytest.approx((40.0, 13.1474), abs=1e-4)
        assert held.pf == pytest.approx(0.95)
        assert held.max_kw is None
        assert held.held_by == ("dfp",)
        assert held.constant_power

    def test_a_bus_that_is_better_already_is_left_alone(self) -> None:
        """40 kW with 13 kvar is 0.951."""
        elements = loads((40.0, 13.0))
        assert ruled(elements, rule(pf=0.95), {}) == [unruled(elements[0])]

    def test_leading_power_is_brought_to_the_target_too(self) -> None:
        """40 kW with -30 kvar: -13.147 kvar."""
        (held,) = ruled(loads((40.0, -30.0)), rule(pf=0.95), {})
        assert (held.kw, held.kvar) == pytest.approx((40.0, -13.1474), abs=1e-4)

    def test_those_with_the_sign_of_the_net_are_scaled_by_one_factor(self) -> None:
        """60 kW and 40 kW with 30 and 50 kvar: 80 net, to 100 * 0.3287 = 32.868; the share is
        0.41086 for both, so 12.326 and 20.543 kvar.
        """
        held = ruled(loads((60.0, 30.0), (40.0, 50.0)), rule(pf=0.95), {})
        assert [each.kvar for each in held] == pytest.approx([12.3257, 20.5427], abs=1e-4)
        assert kws(held) == [60.0, 40.0]

    def test_those_of_the_other_sign_are_untouched(self) -> None:
        """60 kW and 40 kW with 80 and -20 kvar: 60 net, to 32.868: 52.868 - 20."""
        held = ruled(loads((60.0, 80.0), (40.0, -20.0)), rule(pf=0.95), {})
        assert [each.kvar for each in held] == pytest.approx([52.8684, -20.0], abs=1e-4)
        assert held[1].held_by == ()
        assert held[1].pf is None
        assert not held[1].constant_power

    def test_those_of_the_other_sign_are_untouched_where_the_net_leads(self) -> None:
        """-80 and 20 kvar: -60 net, to -32.868: -52.868 + 20."""
        held = ruled(loads((60.0, -80.0), (40.0, 20.0)), rule(pf=0.95), {})
        assert [each.kvar for each in held] == pytest.approx([-52.8684, 20.0], abs=1e-4)

    def test_a_power_factor_of_one_leaves_no_net_kvar(self) -> None:
        held = ruled(loads((60.0, 80.0), (40.0, -20.0)), rule(pf=1.0), {})
        assert [each.kvar for each in held] == pytest.approx([20.0, -20.0])

    def test_the_setpoint_is_each_ones_own_power_factor(self) -> None:
        """12.326 kvar at 60 kW is 0.97954; 20.543 kvar at 40 kW is 0.88954."""
        held = ruled(loads((60.0, 30.0), (40.0, 50.0)), rule(pf=0.95), {})
        assert [each.pf for each in held] == pytest.approx([0.97954, 0.88954], abs=1e-5)

    def test_without_active_power_the_bus_is_left_alone(self) -> None:
        elements = loads((0.0, 30.0), (-10.0, 30.0))
        assert ruled(elements, rule(pf=0.95), {}) == [unruled(element) for element in elements]

    def test_it_holds_after_the_cap(self) -> None:
        """60 kW with 60 kvar cut to 30 kW with 30: at 0.95, 9.861 kvar."""
        (held,) = ruled(loads((60.0, 60.0)), rule(30.0, 0.95), {})
        assert (held.kw, held.kvar) == pytest.approx((30.0, 9.8605), abs=1e-4)
        assert (held.max_kw, held.pf) == pytest.approx((30.0, 0.95))

    def test_it_holds_where_no_kw_was_cut(self) -> None:
        (held,) = ruled(loads((60.0, 60.0)), rule(60.0, 0.95), {})
        assert (held.kw, held.kvar) == pytest.approx((60.0, 60.0 * TAN))
        assert held.max_kw is None

    def test_a_bus_cut_to_nothing_has_no_power_factor(self) -> None:
        """P = 0: left alone; the cap took kvar with kW, an idle load's 5 kvar stay."""
        held = ruled(loads((60.0, 60.0), (0.0, 5.0)), rule(0.0, 0.95), {})
        assert powers(held) == [(0.0, 0.0), (0.0, 5.0)]
        assert [each.pf for each in held] == [None, None]

    def test_export_counts_with_its_kvar_and_not_with_its_kw(self) -> None:
        """P is 60 kW, Q 30 + 20 = 50 kvar, to 60 * 0.3287 = 19.721: 11.833 and 7.888 kvar.

        What exports has no power factor that a setpoint could name.
        """
        held = ruled(loads((60.0, 30.0), (-40.0, 20.0)), rule(pf=0.95), {})
        assert [each.kvar for each in held] == pytest.approx([11.8326, 7.8884], abs=1e-4)
        assert [each.pf is None for each in held] == [False, True]

    @given(elements=some_elements, asked=some_rule)
    def test_no_bus_ends_below_its_target(self, elements: list[Element], asked: BusRule) -> None:
        after = net(ruled(elements, asked, {}))
        assume(after.kw > 1e-6)
        most = after.kw * math.tan(math.acos(asked.pf))
        assert abs(after.kvar) <= most + 1e-9 * max(1.0, most)
        assert power_factor(after) >= asked.pf - 1e-9

    @given(elements=some_elements, pf=st.floats(0.01, 1.0))
    def test_kvar_that_is_taken_leaves_the_bus_exactly_at_its_target(
        self, elements: list[Element], pf: float
    ) -> None:
        held = ruled(elements, rule(pf=pf), {})
        if any(each.held_by for each in held):
            after = net(held)
            most = after.kw * math.tan(math.acos(pf))
            assert abs(after.kvar) == pytest.approx(most, rel=1e-9, abs=1e-9)

    @given(elements=some_elements, pf=st.floats(0.01, 1.0))
    def test_kw_is_not_touched_and_no_kvar_grows_or_turns(
        self, elements: list[Element], pf: float
    ) -> None:
        for each, element in zip(ruled(elements, rule(pf=pf), {}), elements, strict=True):
            free = unruled(element)
            assert each.kw == free.kw
            assert abs(each.kvar) <= abs(free.kvar)
            assert each.kvar * free.kvar >= 0


class TestRelief:
    ZONE = ("neighbourhood_1",)

    def test_relief_alone_caps_one_element(self) -> None:
        held = ruled(bus(), None, {0: ReliefCap(45.0, self.ZONE)})
        assert powers(held) == [(45.0, 22.5), (40.0, 20.0), (20.0, 4.0), (10.0, 0.0)]
        assert held[0].held_by == self.ZONE
        assert held[0].max_kw == 45.0
        assert held[0].constant_power

    def test_relief_may_go_lower_than_the_program(self) -> None:
        """The program leaves 30 of 60 kW, relief 20."""
        held = ruled(bus(), rule(50.0), {0: ReliefCap(20.0, self.ZONE)})
        assert powers(held)[0] == Power(20.0, 10.0)
        assert held[0].held_by == self.ZONE
        assert held[1].held_by == ("dfp",)

    def test_a_program_that_leaves_less_than_relief_holds(self) -> None:
        """The program leaves 30 of 60 kW, relief 45."""
        held = ruled(bus(), rule(50.0), {0: ReliefCap(45.0, self.ZONE)})
        assert powers(held)[0] == Power(30.0, 15.0)
        assert held[0].held_by == ("dfp",)
        assert held[0].max_kw == 30.0

    def test_relief_does_not_change_what_the_program_asks_of_others(self) -> None:
        """What relief takes from one is not given to the next."""
        held = ruled(bus(), rule(50.0), {0: ReliefCap(20.0, self.ZONE)})
        assert kws(held)[1:] == [20.0, 0.0, 0.0]

    def test_the_power_factor_holds_after_relief(self) -> None:
        """60 kW with 60 kvar cut to 30 kW: at 0.95, 9.861 kvar."""
        (held,) = ruled(loads((60.0, 60.0)), rule(pf=0.95), {0: ReliefCap(30.0, self.ZONE)})
        assert powers([held])[0] == pytest.approx((30.0, 9.8605), abs=1e-4)
        assert held.held_by == (*self.ZONE, "dfp")

    def test_a_zone_that_asks_for_what_is_not_exceeded_still_asks(self) -> None:
        """Its setpoint stays, so that the element does not draw more; nothing is taken."""
        held = ruled(bus(), None, {0: ReliefCap(61.0, self.ZONE)})
        assert powers(held)[0] == Power(60.0, 30.0)
        assert held[0].max_kw == 61.0
        assert not held[0].constant_power

    def test_the_setpoint_of_a_device_at_zero(self) -> None:
        held = ruled(bus(), None, {2: ReliefCap(0.0, self.ZONE)})
        assert powers(held)[2] == Power(0.0, 0.0)
        assert held[2].max_kw == 0.0

    @given(elements=some_elements, asked=some_rule, cap=st.floats(0, 1000))
    def test_relief_never_leaves_more_than_the_program_and_the_cap(
        self, elements: list[Element], asked: BusRule, cap: float
    ) -> None:
        relief = {element.row: ReliefCap(cap, self.ZONE) for element in elements}
        without = ruled(elements, asked, {})
        for each, before in zip(ruled(elements, asked, relief), without, strict=True):
            assert each.kw == (min(before.kw, cap) if before.kw > 0 else before.kw)


class TestNotFollowing:
    def disobeying(self) -> list[Element]:
        """Load_0 draws its 60 kW whatever it is asked for."""
        elements = bus()
        elements[0].not_following = True
        return elements

    def test_it_is_solved_as_it_is_metered_and_its_setpoint_stays(self) -> None:
        """The program leaves 30 of 60 kW."""
        held = ruled(self.disobeying(), rule(50.0), {})
        assert powers(held)[0] == Power(60.0, 30.0)
        assert held[0].max_kw == 30.0
        assert held[0].held_by == ("dfp",)
        assert held[0].not_following

    def test_nothing_more_is_asked_of_the_others(self) -> None:
        assert kws(ruled(self.disobeying(), rule(50.0), {}))[1:] == [20.0, 0.0, 0.0]

    def test_relief_does_not_hold_it_either(self) -> None:
        held = ruled(self.disobeying(), None, {0: ReliefCap(20.0, ("zone",))})
        assert powers(held)[0] == Power(60.0, 30.0)
        assert held[0].max_kw == 20.0

    def test_its_power_factor_stays_asked_for_too(self) -> None:
        """A setpoint that came and went with obedience would swing with it."""
        following = ruled(loads((60.0, 30.0), (40.0, 50.0)), rule(80.0, 0.95), {})
        elements = loads((60.0, 30.0), (40.0, 50.0))
        elements[0].not_following = True
        held = ruled(elements, rule(80.0, 0.95), {})
        assert powers(held)[0] == Power(60.0, 30.0)
        assert (held[0].max_kw, held[0].pf) == (following[0].max_kw, following[0].pf)

    def test_what_is_asked_of_the_others_stays(self) -> None:
        """Neither kW nor kvar that one does not give is taken from another."""
        following = ruled(loads((60.0, 30.0), (40.0, 50.0)), rule(80.0, 0.95), {})
        elements = loads((60.0, 30.0), (40.0, 50.0))
        elements[0].not_following = True
        assert ruled(elements, rule(80.0, 0.95), {})[1] == following[1]

    def test_without_a_setpoint_there_is_nothing_not_to_follow(self) -> None:
        """Its program was stopped: the state says so at once, not with its next reading."""
        held = ruled(self.disobeying(), None, {})
        assert not held[0].not_following
        assert not unruled(self.disobeying()[0]).not_following
