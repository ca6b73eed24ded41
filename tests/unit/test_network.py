"""What follows from a feeder's wiring, on networks small enough to draw."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.solver.network import (
    Bus,
    Line,
    Transformer,
    distances_km,
    grounded_buses,
    voltage_rows,
)


def line(from_bus: str, to_bus: str, km: float = 1.0, *, closed: bool = True) -> Line:
    name = f"{from_bus}-{to_bus}"
    return Line(name, from_bus, to_bus, (1, 2, 3), km, is_switch=not closed, closed=closed)


def transformer(*windings: tuple[str, str]) -> Transformer:
    """A transformer of windings (bus, "wye" or "delta")."""
    buses = tuple(bus for bus, _ in windings)
    delta = tuple(connection == "delta" for _, connection in windings)
    phases = ((1, 2, 3),) * len(buses)
    return Transformer("-".join(buses), buses, phases, delta, kva=500.0, regulates=False)


def bus(name: str, phases: Sequence[int], kv_base: float = 4.16, *, grounded: bool = True) -> Bus:
    return Bus(name, tuple(phases), kv_base, None, None, 0.0, grounded)


class TestDistances:
    def test_lengths_add_up_from_the_source(self) -> None:
        """150 to 1 is 1 km, 1 to 2 half a km, 1 to 3 a quarter."""
        lines = [line("150", "1", 1.0), line("1", "2", 0.5), line("1", "3", 0.25)]
        expected = {"150": 0.0, "1": 1.0, "2": 1.5, "3": 1.25}
        assert expected == distances_km("150", ["150", "1", "2", "3"], lines, [])

    def test_the_shortest_way_counts_in_a_mesh(self) -> None:
        """2 is 2 km away directly, 1.5 km by way of 1."""
        lines = [line("150", "2", 2.0), line("150", "1", 1.0), line("1", "2", 0.5)]
        assert distances_km("150", ["2"], lines, []) == {"2": 1.5}

    def test_a_line_may_be_written_against_the_flow(self) -> None:
        assert distances_km("150", ["1"], [line("1", "150", 0.5)], []) == {"1": 0.5}

    def test_a_transformer_has_no_length(self) -> None:
        """Each of its windings is as far away as the first."""
        three_windings = transformer(("1", "delta"), ("1s", "wye"), ("1t", "wye"))
        lines = [line("150", "1", 1.0), line("1t", "5", 0.5)]
        expected = {"1": 1.0, "1s": 1.0, "1t": 1.0, "5": 1.5}
        assert expected == distances_km("150", ["1", "1s", "1t", "5"], lines, [three_windings])

    def test_an_open_switch_is_no_short_cut(self) -> None:
        """2 hangs on 1 at 1.5 km; the open tie from the source is 0.1 km long."""
        lines = [
            line("150", "1", 1.0),
            line("1", "2", 0.5),
            line("150", "2", 0.1, closed=False),
        ]
        assert distances_km("150", ["2"], lines, []) == {"2": 1.5}

    def test_behind_an_open_switch_the_way_over_it_counts(self) -> None:
        lines = [line("150", "1", 1.0), line("1", "9", 0.25, closed=False)]
        assert distances_km("150", ["9"], lines, []) == {"9": 1.25}

    def test_a_bus_that_nothing_leads_to_is_at_zero(self) -> None:
        lines = [line("150", "1", 1.0), line("8", "9", 1.0)]
        assert distances_km("150", ["8", "9"], lines, []) == {"8": 0.0, "9": 0.0}

    def test_two_closed_lines_in_parallel_are_as_long_as_the_shorter(self) -> None:
        lines = [line("150", "1", 2.0), line("150", "1", 1.0)]
        assert distances_km("150", ["1"], lines, []) == {"1": 1.0}

    @given(
        ends=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=15),
        data=st.data(),
    )
    def test_no_line_leads_further_than_its_length(
        self, ends: list[tuple[int, int]], data: st.DataObject
    ) -> None:
        """In any network whose lines are closed: what makes a set of distances the shortest."""
        lengths = data.draw(
            st.lists(st.floats(0, 100), min_size=len(ends), max_size=len(ends)), label="km"
        )
        lines = [line(str(a), str(b), km) for (a, b), km in zip(ends, lengths, strict=True)]
        names = [str(number) for number in range(8)]
        far = distances_km("0", names, lines, [])
        fed = {"0"}
        for _ in names:
            fed |= {
                end for x in lines for end in (x.from_bus, x.to_bus) if {x.from_bus, x.to_bus} & fed
            }
        assert far["0"] == 0.0
        for x in lines:
            if x.from_bus in fed:
                assert far[x.from_bus] <= far[x.to_bus] + x.length_km
                assert far[x.to_bus] <= far[x.from_bus] + x.length_km

    @given(
        lines=st.lists(
            st.builds(
                line,
                st.sampled_from("0123456"),
                st.sampled_from("0123456"),
                st.floats(0, 100),
                closed=st.booleans(),
            ),
            max_size=12,
        ).flatmap(lambda lines: st.tuples(st.just(lines), st.permutations(lines)))
    )
    def test_the_order_of_the_lines_does_not_matter(
        self, lines: tuple[list[Line], list[Line]]
    ) -> None:
        one, other = lines
        assert distances_km("0", "0123456", one, []) == distances_km("0", "0123456", other, [])


class TestGrounding:
    def test_lines_carry_the_neutral_of_the_source(self) -> None:
        lines = [line("150", "1"), line("1", "2")]
        assert grounded_buses(["150"], ["150", "1", "2"], lines, []) == {"150", "1", "2"}

    def test_behind_a_delta_winding_nothing_is_grounded(self) -> None:
        """XFM1 of the IEEE 123-node feeder: delta to delta, from 61s to 610."""
        buses = ["150", "61s", "610", "611"]
        lines = [line("150", "61s"), line("610", "611")]
        xfm1 = transformer(("61s", "delta"), ("610", "delta"))
        assert grounded_buses(["150"], buses, lines, [xfm1]) == {"150", "61s"}

    def test_a_wye_winding_grounds_what_is_behind_it(self) -> None:
        """A delta to wye transformer: the service of most customers."""
        lines = [line("150", "1"), line("1s", "5")]
        service = transformer(("1", "delta"), ("1s", "wye"))
        expected = {"150", "1", "1s", "5"}
        assert expected == grounded_buses(["150"], ["150", "1", "1s", "5"], lines, [service])

    def test_one_wye_winding_is_enough_for_all_that_lines_join(self) -> None:
        """2 and 3 are behind a delta winding, but a wye winding stands at 3."""
        buses = ["150", "2", "3", "4"]
        deltas = transformer(("150", "delta"), ("2", "delta"))
        wye = transformer(("3", "wye"), ("4", "delta"))
        assert grounded_buses(["150"], buses, [line("2", "3")], [deltas, wye]) == {"150", "2", "3"}

    def test_operating_a_switch_does_not_change_what_is_grounded(self) -> None:
        buses = ["150", "1"]
        for closed in (True, False):
            lines = [line("150", "1", closed=closed)]
            assert grounded_buses(["150"], buses, lines, []) == {"150", "1"}

    def test_a_bus_that_nothing_leads_to_is_not_grounded(self) -> None:
        assert grounded_buses(["150"], ["150", "9"], [], []) == {"150"}

    def test_every_source_is_grounded(self) -> None:
        assert grounded_buses(["150", "9"], ["150", "9"], [], []) == {"150", "9"}


class TestVoltageRows:
    def test_a_grounded_bus_has_a_row_for_each_phase_to_neutral(self) -> None:
        """4.16 kV line to line is 4160 / 1.7320508 = 2401.777 V to neutral."""
        rows = voltage_rows([bus("1", [1, 2, 3])])
        assert rows.phase == ("A", "B", "C")
        assert rows.bus.tolist() == [0, 0, 0]
        assert rows.base_v.tolist() == pytest.approx([2401.777] * 3, abs=1e-3)

    def test_an_ungrounded_bus_has_a_row_for_each_pair_of_phases(self) -> None:
        rows = voltage_rows([bus("610", [1, 2, 3], 0.48, grounded=False)])
        assert rows.phase == ("AB", "BC", "CA")
        assert rows.base_v.tolist() == [480.0, 480.0, 480.0]

    @pytest.mark.parametrize(
        ("phases", "pairs"),
        [((1, 2), ("AB",)), ((2, 3), ("BC",)), ((1, 3), ("CA",)), ((2,), ())],
    )
    def test_an_ungrounded_lateral_has_the_pairs_that_its_phases_make(
        self, phases: tuple[int, ...], pairs: tuple[str, ...]
    ) -> None:
        assert voltage_rows([bus("5", phases, grounded=False)]).phase == pairs

    def test_rows_stand_bus_by_bus_in_the_order_of_the_buses(self) -> None:
        rows = voltage_rows(
            [bus("3", [3]), bus("610", [1, 2, 3], 0.48, grounded=False), bus("1", [1, 2])]
        )
        assert rows.bus.tolist() == [0, 1, 1, 1, 2, 2]
        assert rows.phase == ("C", "AB", "BC", "CA", "A", "B")

    def test_without_a_base_the_voltage_is_shown_in_volts(self) -> None:
        """A base of 1 V, because a base of 0 would divide by zero."""
        assert voltage_rows([bus("1", [1], 0.0)]).base_v.tolist() == [1.0]

    def test_no_buses_make_no_rows(self) -> None:
        rows = voltage_rows([])
        assert (rows.bus.tolist(), rows.phase, rows.base_v.tolist()) == ([], (), [])

    @given(
        buses=st.lists(
            st.builds(
                bus,
                st.just("x"),
                st.sets(st.sampled_from([1, 2, 3]), min_size=1).map(sorted),
                st.floats(0, 500),
                grounded=st.booleans(),
            )
        )
    )
    def test_every_row_has_a_bus_a_phase_and_a_base_to_divide_by(self, buses: list[Bus]) -> None:
        rows = voltage_rows(buses)
        assert len(rows.bus) == len(rows.phase) == len(rows.base_v)
        assert all(base > 0 and math.isfinite(base) for base in rows.base_v)
