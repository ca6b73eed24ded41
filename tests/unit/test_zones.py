"""Which zones a feeder has, who is in them and what they carry, on feeders small enough to draw."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from services.solver.elements import NominalLoad
from services.solver.feeder import FeederConfig, Neighbourhood
from services.solver.network import Bus, Circuit, Line, Transformer, voltage_rows
from services.solver.zones import Zones

NOTHING = np.zeros(0, dtype=np.complex128)


def line(ends: str, phases: Sequence[int] = (1, 2, 3), *, closed: bool = True) -> Line:
    """A line or switch between two buses, as "1-2"."""
    from_bus, to_bus = ends.split("-")
    return Line(ends, from_bus, to_bus, tuple(phases), 1.0, is_switch=not closed, closed=closed)


def transformer(
    name: str,
    *windings: tuple[str, Sequence[int]],
    kva: float = 500.0,
    regulates: bool = False,
) -> Transformer:
    """A transformer of windings (bus, phases)."""
    buses = tuple(bus for bus, _ in windings)
    phases = tuple(tuple(phases) for _, phases in windings)
    return Transformer(name, buses, phases, (False,) * len(buses), kva, regulates)


def circuit(lines: Sequence[Line], transformers: Sequence[Transformer] = ()) -> Circuit:
    """A circuit fed at bus "150", on the phases of its lines and windings."""
    at: dict[str, set[int]] = {"150": {1, 2, 3}}
    for each in lines:
        for bus in (each.from_bus, each.to_bus):
            at.setdefault(bus, set()).update(each.phases)
    for unit in transformers:
        for bus, phases in zip(unit.buses, unit.phases, strict=True):
            at.setdefault(bus, set()).update(phases)
    buses = tuple(
        Bus(name, tuple(sorted(phases)), 4.16, None, None, 0.0, grounded=True)
        for name, phases in at.items()
    )
    return Circuit(
        source_bus="150",
        buses=buses,
        lines=tuple(lines),
        transformers=tuple(transformers),
        loads=(),
        load_phases=(),
        regulators=(),
        voltages=voltage_rows(buses),
    )


def config(*areas: tuple[int, Sequence[str], float]) -> FeederConfig:
    """Neighbourhoods (number, buses, kVA), each with its transformer at its first bus."""
    return FeederConfig(
        name="test",
        master="test.dss",
        neighbourhoods=tuple(
            Neighbourhood(
                number=number, buses=tuple(buses), transformer_bus=buses[0], transformer_kva=kva
            )
            for number, buses, kva in areas
        ),
    )


def zones_of(
    lines: Sequence[Line],
    transformers: Sequence[Transformer],
    *areas: tuple[int, Sequence[str], float],
) -> Zones:
    return Zones(circuit(lines, transformers), config(*areas))


def names_at(zones: Zones, bus: str, *phases: int) -> list[str]:
    """Names of the zones of an element at a bus; at all of its phases unless some are given."""
    return [zones.zones[index].name for index in zones.zones_of(bus, phases or None)]


THREE = (1, 2, 3)


def nested() -> Zones:
    """150 -- sub -- 1 -- 2 -- service -- 3; buses 2 and 3 are neighbourhood 7."""
    return zones_of(
        [line("1-2")],
        [
            transformer("sub", ("150", THREE), ("1", THREE), kva=5000.0),
            transformer("service", ("2", THREE), ("3", THREE), kva=150.0),
        ],
        (7, ["2", "3"], 75.0),
    )


class TestOrder:
    def test_neighbourhoods_come_first_then_transformers_from_the_leaves_upward(self) -> None:
        expected = ["neighbourhood_7", "service", "sub"]
        assert expected == [zone.name for zone in nested().zones]

    def test_neighbourhoods_keep_the_order_of_the_configuration(self) -> None:
        zones = zones_of([line("150-1"), line("1-2")], [], (9, ["2"], 50.0), (4, ["1"], 75.0))
        assert [zone.name for zone in zones.zones] == ["neighbourhood_9", "neighbourhood_4"]

    def test_the_order_of_the_circuit_does_not_decide(self) -> None:
        """Leaf before root in the circuit, or root before leaf: the same."""
        chain = [
            transformer("a", ("150", THREE), ("1", THREE)),
            transformer("b", ("1", THREE), ("2", THREE)),
            transformer("c", ("2", THREE), ("3", THREE)),
        ]
        for transformers in (chain, chain[::-1], [chain[1], chain[0], chain[2]]):
            zones = zones_of([], transformers)
            assert [zone.name for zone in zones.zones] == ["c", "b", "a"]

    def test_a_position_says_where_the_state_lists_the_zone(self) -> None:
        """The state lists neighbourhood 7, then sub and service as the circuit does."""
        assert {zone.name: zone.position for zone in nested().zones} == {
            "neighbourhood_7": 0,
            "sub": 1,
            "service": 2,
        }

    def test_regulators_are_no_zones_and_take_no_position(self) -> None:
        zones = zones_of(
            [line("2-3")],
            [
                transformer("reg", ("150", THREE), ("2", THREE), regulates=True),
                transformer("xfm", ("3", THREE), ("4", THREE)),
            ],
        )
        assert [(zone.name, zone.position, zone.transformer) for zone in zones.zones] == [
            ("xfm", 0, 1)
        ]
        assert names_at(zones, "3") == []

    def test_a_zone_tells_its_rating_and_where_its_transformer_is(self) -> None:
        area, service, sub = nested().zones
        assert (area.kind, area.bus, area.rating_kva) == ("neighbourhood", "2", 75.0)
        assert (area.transformer, area.source_windings) == (None, ())
        assert (service.kind, service.bus, service.rating_kva) == ("transformer", "3", 150.0)
        assert (sub.bus, sub.rating_kva, sub.transformer) == ("1", 5000.0, 0)

    def test_a_feeder_without_transformers_and_neighbourhoods_has_no_zones(self) -> None:
        zones = zones_of([line("150-1")], [])
        assert zones.zones == ()
        assert zones.zones_of("1") == ()
        assert zones.loading(NOTHING, NOTHING, ()).tolist() == []


class TestMembership:
    def test_a_zone_within_a_zone(self) -> None:
        zones = nested()
        assert names_at(zones, "150") == []
        assert names_at(zones, "1") == ["sub"]
        assert names_at(zones, "2") == ["neighbourhood_7", "sub"]
        assert names_at(zones, "3") == ["neighbourhood_7", "service", "sub"]
        assert zones.zones_of("3") == (0, 1, 2)

    def test_a_unit_of_a_wye_bank_loses_its_phase_only(self) -> None:
        units = [
            transformer(n, ("150", [p]), ("1", [p])) for n, p in (("a", 1), ("b", 2), ("c", 3))
        ]
        zones = zones_of([line("1-2"), line("2-3", [2])], units)
        assert names_at(zones, "2", 1) == ["a"]
        assert names_at(zones, "3") == ["b"]
        assert names_at(zones, "2", 2, 3) == ["b", "c"]
        assert names_at(zones, "2") == ["a", "b", "c"]

    def test_a_three_phase_transformer_behind_a_bank_depends_on_each_unit(self) -> None:
        """With a phase gone it does not feed that phase backwards, nor its own side properly."""
        units = [
            transformer(n, ("150", [p]), ("1", [p])) for n, p in (("a", 1), ("b", 2), ("c", 3))
        ]
        zones = zones_of([], [*units, transformer("xfm", ("1", THREE), ("2", THREE))])
        assert names_at(zones, "1", 1) == ["a"]
        assert names_at(zones, "2", 1) == ["xfm", "a", "b", "c"]

    def test_an_open_delta_loses_with_each_unit_what_only_that_supplies(self) -> None:
        """Two units, AB and BC: without the first A is lost, without the second C; B never."""
        zones = zones_of(
            [line("1-2")],
            [
                transformer("ab", ("150", [1, 2]), ("1", [1, 2])),
                transformer("bc", ("150", [2, 3]), ("1", [2, 3])),
            ],
        )
        assert names_at(zones, "2", 1) == ["ab"]
        assert names_at(zones, "2", 2) == []
        assert names_at(zones, "2", 3) == ["bc"]
        assert names_at(zones, "2") == ["ab", "bc"]

    def test_a_closed_delta_of_single_phase_units_loses_nothing_with_one(self) -> None:
        pairs = (("ab", [1, 2]), ("bc", [2, 3]), ("ca", [3, 1]))
        units = [transformer(name, ("150", pair), ("1", pair)) for name, pair in pairs]
        zones = zones_of([], units)
        assert [zone.relievable for zone in zones.zones] == [False] * 3
        assert names_at(zones, "1") == []

    def test_transformers_in_parallel_lose_nothing(self) -> None:
        both = [transformer(name, ("150", THREE), ("1", THREE)) for name in ("t1", "t2")]
        zones = zones_of([line("1-2")], both)
        assert [(zone.name, zone.relievable) for zone in zones.zones] == [
            ("t1", False),
            ("t2", False),
        ]
        assert names_at(zones, "2") == []

    def test_in_a_ring_nothing_is_lost(self) -> None:
        """150 -- t1 -- 1 -- 2 -- t2 -- 150; the service transformer at 2 is still radial."""
        zones = zones_of(
            [line("1-2"), line("150-3")],
            [
                transformer("t1", ("150", THREE), ("1", THREE)),
                transformer("t2", ("3", THREE), ("2", THREE)),
                transformer("service", ("2", [1]), ("4", [1])),
            ],
        )
        assert {zone.name: zone.relievable for zone in zones.zones} == {
            "service": True,
            "t1": False,
            "t2": False,
        }
        assert names_at(zones, "4") == ["service"]
        assert names_at(zones, "1") == []

    def test_a_tie_through_a_transformer_supplies_backwards(self) -> None:
        """Without t1 bus 1 is supplied from bus 2 by way of the tie; without the tie as ever."""
        zones = zones_of(
            [line("150-2")],
            [
                transformer("t1", ("150", THREE), ("1", THREE)),
                transformer("tie", ("1", THREE), ("2", THREE)),
            ],
        )
        assert [zone.relievable for zone in zones.zones] == [False, False]

    def test_an_open_switch_joins_nothing(self) -> None:
        """The tie from 150 to 2 would make a mesh; open, it leaves 2 to the transformer."""
        xfm = transformer("xfm", ("150", THREE), ("1", THREE))
        for closed, expected in ((True, []), (False, ["xfm"])):
            zones = zones_of([line("1-2"), line("150-2", closed=closed)], [xfm])
            assert names_at(zones, "2") == expected

    def test_a_tie_of_one_phase_leaves_the_others_to_the_transformer(self) -> None:
        zones = zones_of(
            [line("1-2"), line("150-2", [1])], [transformer("xfm", ("150", THREE), ("1", THREE))]
        )
        assert names_at(zones, "2", 1) == []
        assert names_at(zones, "2", 2) == ["xfm"]

    def test_behind_a_regulator_the_zone_goes_on(self) -> None:
        units = [transformer(f"reg{p}", ("1", [p]), ("1r", [p]), regulates=True) for p in (1, 2, 3)]
        xfm = transformer("xfm", ("150", THREE), ("1", THREE))
        zones = zones_of([line("1r-2")], [*units, xfm])
        assert names_at(zones, "2") == ["xfm"]

    def test_a_centre_tapped_transformer_supplies_both_legs(self) -> None:
        zones = zones_of([], [transformer("ct", ("150", [3]), ("1", [1]), ("1", [2]))])
        assert names_at(zones, "1", 1, 2) == ["ct"]

    def test_a_transformer_on_a_lateral_of_fewer_phases_supplies_what_is_behind_it(self) -> None:
        """Three-phase by its data, but its bus has two: the third asks nothing of it."""
        zones = zones_of([line("150-1", [1, 2])], [transformer("xfm", ("1", THREE), ("2", THREE))])
        assert names_at(zones, "2") == ["xfm"]
        assert zones.zones[0].source_windings == (0,)

    def test_what_nothing_supplies_is_in_no_zone(self) -> None:
        zones = zones_of([line("8-9")], [transformer("dead", ("9", THREE), ("10", THREE))])
        assert [zone.relievable for zone in zones.zones] == [False]
        assert names_at(zones, "10") == []
        assert zones.zones[0].source_windings == ()

    def test_an_unknown_bus_or_phase_is_in_no_zone(self) -> None:
        zones = nested()
        assert zones.zones_of("nowhere") == ()
        assert names_at(zones, "1", 4) == []

    @given(
        ends=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=12),
        phases=st.lists(st.sampled_from([(1,), (2,), (1, 2, 3)]), min_size=12, max_size=12),
    )
    def test_a_member_of_a_zone_has_no_supply_without_its_transformer(
        self, ends: list[tuple[int, int, bool]], phases: list[tuple[int, ...]]
    ) -> None:
        """Any wiring whose transformers have all of their phases: what is lost is what a search
        that leaves the transformer out does not reach.
        """
        lines, units = [], []
        for index, ((a, b, is_line), of) in enumerate(zip(ends, phases, strict=False)):
            names = ["150" if bus == 0 else str(bus) for bus in (a, b)]
            if is_line:
                lines.append(line("-".join(names), of))
            else:
                units.append(transformer(f"t{index}", (names[0], of), (names[1], of)))
        zones = zones_of(lines, units)
        supplied = reached(lines, units)
        for unit in units:
            at_windings = [
                (bus, phase) in supplied for bus in unit.buses for phase in unit.phases[0]
            ]
            assume(all(at_windings) or not any(at_windings))
        for index, zone in enumerate(zones.zones):
            rest = [unit for unit in units if unit.name != zone.name]
            lost = supplied - reached(lines, rest)
            members = {node for node in supplied if index in zones.zones_of(node[0], [node[1]])}
            assert lost == members


def reached(lines: Sequence[Line], units: Sequence[Transformer]) -> set[tuple[str, int]]:
    """Nodes supplied from 150, where a transformer passes on what it has on all its phases."""
    nodes = {("150", phase) for phase in THREE}
    while True:
        before = len(nodes)
        for each in lines:
            for one, other in ((each.from_bus, each.to_bus), (each.to_bus, each.from_bus)):
                nodes |= {(other, phase) for phase in each.phases if (one, phase) in nodes}
        for unit in units:
            for there, beyond in (unit.buses, unit.buses[::-1]):
                if all((there, phase) in nodes for phase in unit.phases[0]):
                    nodes |= {(beyond, phase) for phase in unit.phases[0]}
        if len(nodes) == before:
            return nodes


def windings(zones: Zones) -> dict[str, tuple[int, ...]]:
    return {zone.name: zone.source_windings for zone in zones.zones}


class TestSourceWindings:
    def test_the_winding_nearer_to_the_source_faces_it(self) -> None:
        """b is written against the flow: its second winding is at bus 1."""
        zones = zones_of(
            [],
            [
                transformer("a", ("150", THREE), ("1", THREE)),
                transformer("b", ("2", THREE), ("1", THREE)),
            ],
        )
        assert windings(zones) == {"a": (0,), "b": (1,)}

    def test_two_windings_on_one_side_both_face_the_source(self) -> None:
        """An open-wye pair in one element: A and B on the source side, one winding beyond."""
        zones = zones_of([], [transformer("t", ("150", [1]), ("150", [2]), ("1", [1, 2]))])
        assert zones.zones[0].source_windings == (0, 1)

    def test_regulators_on_the_way_bring_nothing_nearer(self) -> None:
        """t2 has two regulators before it, t1 none; both feed bus 1 from their first winding."""
        zones = zones_of(
            [],
            [
                transformer("t1", ("150", THREE), ("1", THREE)),
                transformer("r1", ("150", THREE), ("8", THREE), regulates=True),
                transformer("r2", ("8", THREE), ("9", THREE), regulates=True),
                transformer("t2", ("9", THREE), ("1", THREE)),
            ],
        )
        assert windings(zones) == {"t1": (0,), "t2": (0,)}


def two_areas() -> Zones:
    """150 -- a -- 1 and 150 -- b -- 2; bus 1 is neighbourhood 1, bus 2 neighbourhood 2."""
    zones = zones_of(
        [],
        [
            transformer("a", ("150", THREE), ("1", THREE)),
            transformer("b", ("150", THREE), ("2", THREE)),
        ],
        (1, ["1"], 75.0),
        (2, ["2"], 75.0),
    )
    zones.place_load(0, "1", [1])
    zones.place_load(1, "2", [2])
    zones.place_load(2, "1")
    zones.place_load(3, "150")
    return zones


class TestLoading:
    def test_a_neighbourhood_carries_its_loads(self) -> None:
        """Neighbourhood 1: 40+20j and 8+1j; neighbourhood 2: 30+40j; bus 150 is in none."""
        loads = np.array([40 + 20j, 30 + 40j, 8 + 1j, 99 + 99j])
        expected = [48 + 21j, 30 + 40j]
        assert two_areas().loading(loads, NOTHING, (0j, 0j)).tolist()[:2] == expected

    def test_generation_counts_against_load_and_exports_what_is_left(self) -> None:
        """48 + 21j kVA of load less 60 + 1j of generation: 12 kW go out."""
        zones = two_areas()
        zones.place_generator(0, "1")
        zones.place_generator(1, "150")
        loads = np.array([40 + 20j, 30 + 40j, 8 + 1j, 0j])
        loading = zones.loading(loads, np.array([60 + 1j, 500 + 0j]), (0j, 0j))
        assert loading.tolist()[:2] == [-12 + 20j, 30 + 40j]

    def test_transformers_carry_what_the_solve_says_in_the_order_of_the_zones(self) -> None:
        """The circuit lists sub before service; the zones have service before sub."""
        loading = nested().loading(NOTHING, NOTHING, (100 + 10j, -20 + 5j))
        assert loading.tolist() == [0j, -20 + 5j, 100 + 10j]

    def test_a_device_counts_from_when_it_is_placed_until_it_is_removed(self) -> None:
        zones = two_areas()
        loads = np.zeros(201, dtype=np.complex128)
        loads[200] = 7.2 + 1.4j
        assert zones.loading(loads, NOTHING, (0j, 0j))[1] == 0j
        zones.place_load(200, "2")
        assert zones.load_zones(200) == (1, 3)
        assert zones.loading(loads, NOTHING, (0j, 0j))[1] == 7.2 + 1.4j
        zones.remove_load(200)
        assert zones.load_zones(200) == ()
        assert zones.loading(loads, NOTHING, (0j, 0j))[1] == 0j

    def test_a_row_may_be_placed_elsewhere(self) -> None:
        zones = two_areas()
        zones.place_generator(0, "1")
        zones.place_generator(0, "2")
        assert zones.generator_zones(0) == (1, 3)
        assert zones.loading(NOTHING, np.array([5 + 0j]), (0j, 0j)).tolist()[:2] == [0j, -5 + 0j]
        zones.remove_generator(0)
        assert zones.generator_zones(0) == ()

    def test_the_loads_of_the_circuit_are_placed_from_the_start(self) -> None:
        wired = replace(
            circuit([line("150-1")]),
            loads=(NominalLoad("Load_1", "1", 40.0, 20.0),),
            load_phases=((1,),),
        )
        zones = Zones(wired, config((1, ["1"], 75.0)))
        assert zones.load_zones(0) == (0,)
        assert zones.loading(np.array([40 + 20j]), NOTHING, ()).tolist() == [40 + 20j]

    @given(
        kva=st.lists(
            st.tuples(
                st.sampled_from(["1", "2", "150"]), st.integers(-99, 99), st.integers(-99, 99)
            ),
            max_size=90,
        )
    )
    def test_every_row_counts_once_in_its_neighbourhood(
        self, kva: list[tuple[str, int, int]]
    ) -> None:
        """Whole numbers, so that the sums are the same in any order."""
        zones = two_areas()
        for row, (bus, _, _) in enumerate(kva):
            zones.place_load(row, bus)
        loads = np.array([complex(kw, kvar) for _, kw, kvar in kva], dtype=np.complex128)
        expected = [sum(complex(p, q) for at, p, q in kva if at == bus) for bus in ("1", "2")]
        assert zones.loading(loads, NOTHING, (0j, 0j)).tolist()[:2] == expected
