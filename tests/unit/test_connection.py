"""How devices and generators are connected: phases, wires, voltages, step-up transformers."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ErrorCode, Refusal
from services.solver.connection import Connection, Wish, connect, step_up_kva
from services.solver.network import Bus

LINE_TO_NEUTRAL = 4.16 / math.sqrt(3)
"""2.402 kV."""


def grounded(*phases: int) -> Bus:
    return Bus("1", phases, 4.16, x=None, y=None, distance_km=0.0, grounded=True)


def ungrounded(*phases: int) -> Bus:
    """A bus behind a delta winding: there is no neutral."""
    return Bus("1", phases, 4.8, x=None, y=None, distance_km=0.0, grounded=False)


def wye(*nodes: int, kv: float) -> Connection:
    about: Any = pytest.approx(kv)
    return Connection("1", nodes, len(nodes), delta=False, kv=about)


def refusal(bus: Bus, wish: Wish) -> Refusal:
    with pytest.raises(Refusal) as refused:
        connect(bus, wish)
    assert refused.value.code is ErrorCode.INVALID_VALUE
    return refused.value


class TestGrounded:
    @pytest.mark.parametrize("phases", [(1, 2, 3), (1, 3), (2,), (3, 1)])
    def test_it_takes_all_phases_of_its_bus_unless_said(self, phases: tuple[int, ...]) -> None:
        found = connect(grounded(*phases), Wish(None, None))
        assert (found.nodes, found.phases, found.delta) == (phases, len(phases), False)

    def test_several_phases_have_the_voltage_from_line_to_line(self) -> None:
        assert connect(grounded(1, 2, 3), Wish(3, None)) == wye(1, 2, 3, kv=4.16)
        assert connect(grounded(1, 2, 3), Wish(2, None)) == wye(1, 2, kv=4.16)

    def test_one_phase_has_the_voltage_from_line_to_neutral(self) -> None:
        assert connect(grounded(1, 2, 3), Wish(1, None)) == wye(1, kv=LINE_TO_NEUTRAL)
        assert connect(grounded(2), Wish(None, None)) == wye(2, kv=LINE_TO_NEUTRAL)

    def test_fewer_phases_than_the_bus_has_are_its_first(self) -> None:
        assert connect(grounded(2, 3), Wish(1, None)).nodes == (2,)

    @pytest.mark.parametrize(("letter", "node"), [("A", 1), ("B", 2), ("C", 3)])
    @pytest.mark.parametrize("phases", [None, 1])
    def test_a_letter_picks_its_phase(self, letter: str, node: int, phases: int | None) -> None:
        assert connect(grounded(1, 2, 3), Wish(phases, letter)) == wye(node, kv=LINE_TO_NEUTRAL)

    def test_a_phase_that_the_bus_has_not_is_refused_with_those_that_it_has(self) -> None:
        refused = refusal(grounded(1, 3), Wish(None, "B"))
        assert [(each.field, each.problem) for each in refused.details] == [
            ("phase", "bus '1' has the phases A, C")
        ]
        assert refused.message == "phase: bus '1' has the phases A, C"

    def test_more_phases_than_the_bus_has_are_refused_with_those_that_it_has(self) -> None:
        refused = refusal(grounded(3), Wish(3, None))
        assert [(each.field, each.problem) for each in refused.details] == [
            ("phases", "bus '1' has the phases C")
        ]

    def test_a_letter_and_several_phases_contradict_each_other(self) -> None:
        refused = refusal(grounded(1, 2, 3), Wish(3, "A"))
        assert [(each.field, each.problem) for each in refused.details] == [
            ("phases", "phase A is one phase, not 3")
        ]

    def test_nothing_connects_to_a_bus_without_phases(self) -> None:
        """A bus of which only the neutral is wired."""
        refused = refusal(grounded(), Wish(None, None))
        assert [(each.field, each.problem) for each in refused.details] == [
            ("phases", "bus '1' has the phases none")
        ]


class TestUngrounded:
    """Without a neutral, three phases are a delta, and anything less is between two of them."""

    def test_three_phases_are_a_delta(self) -> None:
        expected = Connection("1", (1, 2, 3), 3, delta=True, kv=4.8)
        assert connect(ungrounded(1, 2, 3), Wish(None, None)) == expected
        assert connect(ungrounded(1, 2, 3), Wish(3, None)) == expected

    @pytest.mark.parametrize(("letter", "nodes"), [("A", (1, 2)), ("B", (2, 3)), ("C", (3, 1))])
    def test_a_letter_picks_the_pair_that_begins_with_it(
        self, letter: str, nodes: tuple[int, ...]
    ) -> None:
        """A is AB, B is BC, C is CA; OpenDSS counts a pair as one phase."""
        expected = Connection("1", nodes, 1, delta=True, kv=4.8)
        assert connect(ungrounded(1, 2, 3), Wish(None, letter)) == expected

    @pytest.mark.parametrize("phases", [1, 2])
    def test_one_or_two_phases_are_the_first_pair(self, phases: int) -> None:
        expected = Connection("1", (1, 2), 1, delta=True, kv=4.8)
        assert connect(ungrounded(1, 2, 3), Wish(phases, None)) == expected

    def test_a_bus_of_two_phases_has_one_pair(self) -> None:
        expected = Connection("1", (3, 1), 1, delta=True, kv=4.8)
        assert connect(ungrounded(1, 3), Wish(None, None)) == expected
        assert connect(ungrounded(1, 3), Wish(None, "C")) == expected

    def test_a_pair_that_the_bus_has_not_is_refused_with_the_phases_that_it_has(self) -> None:
        """A is AB; the bus has A and C."""
        refused = refusal(ungrounded(1, 3), Wish(None, "A"))
        wired = "without a neutral, what is not three-phase is between two"
        assert [(each.field, each.problem) for each in refused.details] == [
            ("phase", f"bus '1' has the phases A, C; {wired}")
        ]

    def test_nothing_connects_to_a_single_phase(self) -> None:
        assert refusal(ungrounded(2), Wish(None, None)).details[0].field == "phases"
        assert refusal(ungrounded(2), Wish(None, "B")).details[0].field == "phase"

    def test_more_phases_than_the_bus_has_are_refused(self) -> None:
        assert refusal(ungrounded(1, 3), Wish(3, None)).details[0].field == "phases"


any_bus = st.builds(
    lambda phases, is_grounded: grounded(*phases) if is_grounded else ungrounded(*phases),
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3, unique=True),
    st.booleans(),
)
any_wish = st.builds(Wish, st.none() | st.integers(1, 3), st.none() | st.sampled_from("ABC"))


@given(bus=any_bus, wish=any_wish)
def test_whatever_is_asked_is_at_phases_of_the_bus_or_refused(bus: Bus, wish: Wish) -> None:
    found = connect_or_none(bus, wish)
    if found is None:
        assert refusal(bus, wish).details[0].field in {"phase", "phases"}
        return
    assert set(found.nodes) <= set(bus.phases)
    assert found.delta is not bus.grounded
    assert found.kv > 0
    assert len(found.nodes) == (2 if found.delta and found.phases == 1 else found.phases)
    if wish.phase is not None:
        assert found.nodes[0] == "ABC".index(wish.phase) + 1
        assert found.phases == 1


@given(bus=any_bus)
def test_only_a_single_phase_without_neutral_connects_nothing_by_itself(bus: Bus) -> None:
    found = connect_or_none(bus, Wish(None, None))
    assert (found is None) == (not bus.grounded and len(bus.phases) == 1)


def connect_or_none(bus: Bus, wish: Wish) -> Connection | None:
    try:
        return connect(bus, wish)
    except Refusal:
        return None


def rating(
    kv: float, kw: float, kvar: float = 0.0, *, bus: Bus | None = None, phases: int | None = None
) -> float | None:
    connection = connect(bus or grounded(1, 2, 3), Wish(phases, None))
    return step_up_kva(connection, kv, kw, kvar)


class TestStepUp:
    def test_the_voltage_of_the_bus_connects_directly(self) -> None:
        assert rating(4.16, 50.0) is None
        assert rating(LINE_TO_NEUTRAL, 50.0, phases=1) is None
        assert rating(4.8, 50.0, bus=ungrounded(1, 2, 3), phases=1) is None

    @pytest.mark.parametrize(
        ("kv", "is_direct"),
        [(4.16 * 1.0499, True), (4.16 * 0.9501, True), (4.16 * 1.0501, False), (3.951, False)],
    )
    def test_five_percent_is_near_enough(self, kv: float, is_direct: bool) -> None:
        """Of 4.16 kV: from 3.952 to 4.368 kV."""
        assert (rating(kv, 50.0) is None) is is_direct

    def test_line_to_line_is_no_voltage_of_a_single_phase(self) -> None:
        """4.16 kV across 2.402 kV: 50 kW need 62.5 kVA, and 75 is the next size."""
        assert rating(4.16, 50.0, phases=1) == 75

    def test_480_v_on_4160_v_comes_in_through_the_next_size(self) -> None:
        """50 kW and 10 kvar are 50.99 kVA; 1.25 times that is 63.7, and 75 kVA is the next size."""
        assert rating(0.48, 50.0, 10.0) == 75

    @pytest.mark.parametrize(
        ("kw", "expected"),
        [(0.0, 15), (12.0, 15), (12.1, 30), (60.0, 75), (60.1, 112.5), (8000.0, 10000)],
    )
    def test_three_phase_sizes(self, kw: float, expected: float) -> None:
        """12 kW need 15 kVA, 60 kW 75 kVA, 8000 kW 10 000 kVA."""
        assert rating(0.48, kw) == expected

    @pytest.mark.parametrize(
        ("kw", "expected"), [(0.0, 5), (4.0, 5), (4.1, 10), (40.0, 50), (1333.6, 1667)]
    )
    def test_single_phase_sizes(self, kw: float, expected: float) -> None:
        assert rating(0.24, kw, phases=1) == expected

    def test_a_pair_of_phases_takes_a_single_phase_size(self) -> None:
        assert rating(0.24, 4.0, bus=ungrounded(1, 2, 3), phases=1) == 5

    def test_kvar_counts_whatever_its_sign(self) -> None:
        """30 kW and -40 kvar are 50 kVA, which need 62.5."""
        assert rating(0.48, 30.0, -40.0) == rating(0.48, 30.0, 40.0) == 75

    @pytest.mark.parametrize(
        ("kw", "phases", "message"),
        [
            (8000.1, 3, "no standard transformer carries 10000 kVA from 0.48 kV to the bus's 4.16"),
            (1e6, 3, "no standard transformer carries 1250000 kVA from 0.48 kV"),
            (1334.0, 1, "no standard transformer carries 1668 kVA from 0.48 kV to the bus's 2.402"),
        ],
    )
    def test_what_no_standard_size_carries_is_refused(
        self, kw: float, phases: int, message: str
    ) -> None:
        with pytest.raises(Refusal, match=message) as refused:
            rating(0.48, kw, phases=phases)
        assert refused.value.code is ErrorCode.INVALID_VALUE
        assert [detail.field for detail in refused.value.details] == ["kw"]

    @given(kw=st.floats(0, 8000), kvar=st.floats(0, 100))
    def test_a_step_up_has_a_quarter_to_spare(self, kw: float, kvar: float) -> None:
        if 1.25 * math.hypot(kw, kvar) > 10000:
            return
        found = rating(0.48, kw, kvar)
        assert found is not None
        assert found >= 1.25 * math.hypot(kw, kvar)
