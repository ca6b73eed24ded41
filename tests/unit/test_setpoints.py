"""What is sent to an element: on change only, and lifted when nothing holds it any more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.readings import Reading
from schemas.setpoints import Setpoint
from services.solver.elements import FREE, Element, Held, Kind, Power
from services.solver.setpoints import Change, Setpoints

T0 = 1_800_000_000.0
BY = ("peak_shaving",)


def load_1() -> Element:
    return Element(Kind.LOAD, 0, "Load_1", "1", Power(40.0, 20.0))


def load_2() -> Element:
    return Element(Kind.LOAD, 1, "Load_2", "2", Power(40.0, 20.0))


def ask(
    setpoints: Setpoints,
    element: Element,
    max_kw: float | None,
    pf: float | None = None,
    by: tuple[str, ...] = BY,
    at_s: float = 0.0,
) -> list[Change]:
    """What is to be sent after this was asked."""
    setpoints.ask(element, Held(max_kw, pf), by, T0 + at_s)
    return setpoints.take_changes(100)


def to_load_1(max_kw: float | None, pf: float | None = None, reason: str = BY[0]) -> list[Change]:
    return [Change("1", "Load_1", Setpoint(max_kw=max_kw, pf=pf, reason=reason))]


class TestChanges:
    def test_an_element_that_nothing_holds_is_sent_nothing(self) -> None:
        assert ask(Setpoints(), load_1(), None) == []

    def test_a_setpoint_is_sent_once(self) -> None:
        setpoints, load = Setpoints(), load_1()
        assert ask(setpoints, load, 20.0, 0.95) == to_load_1(20.0, 0.95)
        assert ask(setpoints, load, 20.0, 0.95) == []
        assert not setpoints.has_changes

    def test_it_names_all_who_ask(self) -> None:
        (change,) = ask(Setpoints(), load_1(), 20.0, by=("neighbourhood_1", "peak_shaving"))
        assert change.setpoint is not None
        assert change.setpoint.reason == "neighbourhood_1, peak_shaving"

    def test_another_setpoint_is_sent(self) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        assert ask(setpoints, load, 19.0) == to_load_1(19.0)
        assert ask(setpoints, load, 19.0, 0.95) == to_load_1(19.0, 0.95)
        assert ask(setpoints, load, None, 0.95) == to_load_1(None, 0.95)

    def test_another_reason_is_sent(self) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        assert ask(setpoints, load, 20.0, by=("other",)) == to_load_1(20.0, reason="other")

    def test_it_is_rounded_to_a_tenth_of_a_watt(self) -> None:
        third = ask(Setpoints(), load_1(), 20.0 / 3, 2.0 / 3)
        assert third == to_load_1(6.6667, 0.66667)

    def test_a_setpoint_of_zero_is_a_setpoint(self) -> None:
        assert ask(Setpoints(), load_1(), 0.0) == to_load_1(0.0)

    def test_an_element_is_held_to_what_was_sent(self) -> None:
        """20 kW of obedience are no demand from then on."""
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0001234)
        assert load.held == Held(20.0001, None)
        load.read(Reading(kw=20.0), T0 + 1, T0 + 1)
        assert load.base()[0] == Power(40.0, 20.0)


class TestDeadBand:
    @pytest.mark.parametrize(
        ("max_kw", "is_sent"), [(20.09, False), (19.91, False), (20.11, True), (19.89, True)]
    )
    def test_half_a_percent_is_not_worth_a_message(self, max_kw: float, is_sent: bool) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        assert bool(ask(setpoints, load, max_kw)) is is_sent

    @pytest.mark.parametrize(("max_kw", "is_sent"), [(0.0009, False), (0.0011, True)])
    def test_nor_is_a_watt(self, max_kw: float, is_sent: bool) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 0.0)
        assert bool(ask(setpoints, load, max_kw)) is is_sent

    @pytest.mark.parametrize(("pf", "is_sent"), [(0.9509, False), (0.9491, False), (0.952, True)])
    def test_nor_is_a_thousandth_of_a_power_factor(self, pf: float, is_sent: bool) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0, 0.95)
        assert bool(ask(setpoints, load, 20.0, pf)) is is_sent

    def test_it_is_counted_from_what_was_sent(self) -> None:
        """Small steps add up: 20.0, 20.08 and 20.16 kW are 0.8 % together."""
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        assert ask(setpoints, load, 20.08) == []
        assert ask(setpoints, load, 20.16) == to_load_1(20.16)

    @given(kws=st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
    def test_what_was_sent_is_never_far_from_what_is_asked(self, kws: list[float]) -> None:
        setpoints, load = Setpoints(), load_1()
        for kw in kws:
            ask(setpoints, load, kw)
            assert load.held.max_kw is not None
            near = max(0.001, 0.005 * load.held.max_kw)
            assert abs(load.held.max_kw - kw) <= near + 1e-9


class TestBounds:
    """A setpoint is a message: what is asked, however odd, must fit one."""

    @pytest.mark.parametrize("pf", [1e-9, 4e-6, 1e-300])
    def test_next_to_no_power_factor_can_be_sent(self, pf: float) -> None:
        """1 W beside 300 kvar; on the wire a power factor is more than 0."""
        (change,) = ask(Setpoints(), load_1(), 0.001, pf)
        assert change.setpoint is not None
        assert change.setpoint.pf is not None
        assert 0.0 < change.setpoint.pf <= 1e-3

    def test_more_power_than_fits_a_message_can_be_asked_for(self) -> None:
        """1e6 kW pinned, times a factor of 10, of which relief leaves the half: on the wire
        there are no more than 1e6 kW.
        """
        (change,) = ask(Setpoints(), load_1(), 5e6)
        assert change.setpoint is not None
        assert change.setpoint.max_kw == 1e6

    def test_many_who_ask_can_be_named(self) -> None:
        """500 programs with names of 64 letters are 33 000 letters; a reason has 10 000."""
        names = tuple(f"{number:064d}" for number in range(500))
        (change,) = ask(Setpoints(), load_1(), 20.0, by=names)
        assert change.setpoint is not None
        assert change.setpoint.reason.startswith(names[0])


class TestLifting:
    def test_what_was_sent_is_lifted_once(self) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        assert ask(setpoints, load, None) == [Change("1", "Load_1", None)]
        assert ask(setpoints, load, None) == []
        assert load.held is FREE

    def test_what_was_never_sent_is_not_lifted(self) -> None:
        assert ask(Setpoints(), load_1(), None) == []

    def test_it_is_sent_again_after_it_was_lifted(self) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        ask(setpoints, load, None)
        assert ask(setpoints, load, 20.0) == to_load_1(20.0)

    def test_one_is_in_force_until_it_is_lifted(self) -> None:
        """And found in any case, as the topics of a broker may have it."""
        setpoints, load = Setpoints(), load_1()
        assert setpoints.in_force(("1", "Load_1")) is None
        ask(setpoints, load, 20.0)
        assert setpoints.in_force(("1", "LOAD_1")) is not None
        assert setpoints.in_force(("2", "Load_1")) is None
        ask(setpoints, load, None)
        assert setpoints.in_force(("1", "Load_1")) is None

    def test_what_a_program_lifts_is_over(self) -> None:
        """20 kW are demand from the next reading on."""
        setpoints, load = Setpoints(automatic=["zone"]), load_1()
        ask(setpoints, load, 20.0)
        ask(setpoints, load, None)
        load.read(Reading(kw=20.0, kvar=8.0), T0 + 1, T0 + 1)
        assert load.base()[0] == Power(20.0, 8.0)

    @pytest.mark.parametrize("by", [("zone",), ("zone", "peak_shaving")])
    def test_what_relief_lifts_may_be_back_soon(self, by: tuple[str, ...]) -> None:
        """A device that is late still draws its 20 kW; that is no demand."""
        setpoints, load = Setpoints(automatic=["zone"]), load_1()
        ask(setpoints, load, 20.0, by=by)
        ask(setpoints, load, None)
        load.read(Reading(kw=20.0, kvar=8.0), T0 + 1, T0 + 1)
        assert load.base()[0] == Power(40.0, 20.0)

    def test_an_element_that_is_gone_leaves_no_setpoint_behind(self) -> None:
        setpoints, load = Setpoints(), load_1()
        ask(setpoints, load, 20.0)
        setpoints.forget(load)
        assert setpoints.take_changes(9) == [Change("1", "Load_1", None)]
        assert setpoints.in_force(("1", "Load_1")) is None

    def test_an_element_that_was_never_held_is_forgotten_without_a_word(self) -> None:
        setpoints = Setpoints()
        setpoints.forget(load_1())
        assert not setpoints.has_changes

    def test_another_of_the_same_name_starts_anew(self) -> None:
        """The setpoint of the one that is gone is not taken for its own."""
        setpoints, gone, new = Setpoints(), load_1(), load_1()
        ask(setpoints, gone, 20.0)
        setpoints.forget(gone)
        assert ask(setpoints, new, 20.0) == to_load_1(20.0)
        assert new.held == Held(20.0, None)


class TestTakingChanges:
    def test_no_more_are_taken_than_asked_for(self) -> None:
        setpoints = Setpoints()
        for element in (load_1(), load_2()):
            setpoints.ask(element, Held(20.0, None), BY, T0)
        assert [change.element for change in setpoints.take_changes(1)] == ["Load_1"]
        assert setpoints.has_changes
        assert [change.element for change in setpoints.take_changes(1)] == ["Load_2"]
        assert setpoints.take_changes(1) == []
        assert not setpoints.has_changes

    def test_only_the_newest_of_an_element_is_sent(self) -> None:
        setpoints, load = Setpoints(), load_1()
        for kw in (20.0, 15.0, 10.0):
            setpoints.ask(load, Held(kw, None), BY, T0)
        assert setpoints.take_changes(9) == to_load_1(10.0)

    def test_what_is_lifted_before_it_was_sent_is_cleared_all_the_same(self) -> None:
        """Nobody knows what a broker still keeps."""
        setpoints, load = Setpoints(), load_1()
        setpoints.ask(load, Held(20.0, None), BY, T0)
        setpoints.ask(load, FREE, (), T0)
        assert setpoints.take_changes(9) == [Change("1", "Load_1", None)]

    @given(
        asked=st.lists(
            st.tuples(
                st.booleans(),
                st.none() | st.floats(0, 100),
                st.none() | st.floats(0.1, 1.0),
                st.integers(0, 3),
            ),
            max_size=30,
        )
    )
    def test_whoever_hears_all_changes_knows_what_is_in_force(
        self, asked: list[tuple[bool, float | None, float | None, int]]
    ) -> None:
        """However many are taken at a time."""
        setpoints, elements = Setpoints(), (load_1(), load_2())
        heard: dict[str, Setpoint] = {}

        def hear(most: int) -> None:
            for change in setpoints.take_changes(most):
                if change.setpoint is None:
                    heard.pop(change.element, None)
                else:
                    heard[change.element] = change.setpoint

        for first, max_kw, pf, most in asked:
            setpoints.ask(elements[not first], Held(max_kw, pf), BY, T0)
            hear(most)
        hear(99)
        for element in elements:
            setpoint = heard.get(element.name)
            found = FREE if setpoint is None else Held(setpoint.max_kw, setpoint.pf)
            assert found == element.held
            assert (setpoints.in_force((element.bus, element.name)) is None) == (setpoint is None)
