"""Each figure of a state is in its place, whatever has come and gone: held against a naive build.

The feeder has a grounded bus of three phases, one of two, an ungrounded one (AB, BC, CA) and one
of a single phase; two loads at the first, one at the third; two neighbourhoods, a transformer.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.equipment import DeviceAddition, GeneratorAddition
from schemas.errors import Refusal
from schemas.programs import Adjustments, BusAdjustment, ProgramInForce
from schemas.state import State
from services.solver.body import Body
from services.solver.demand import Demand
from services.solver.document import Stamp, StateDocument
from services.solver.elements import Kind, NominalLoad
from services.solver.feeder import FeederConfig, Neighbourhood
from services.solver.layout import Layout
from services.solver.network import Bus, Circuit, Floats, Transformer, voltage_rows
from services.solver.solution import Complexes, Solution

BUSES = (
    Bus("1", (1, 2, 3), 4.16, x=None, y=None, distance_km=0.0, grounded=True),
    Bus("2", (1, 3), 4.16, x=None, y=None, distance_km=0.0, grounded=True),
    Bus("610", (1, 2, 3), 0.48, x=None, y=None, distance_km=0.0, grounded=False),
    Bus("9", (2,), 4.16, x=None, y=None, distance_km=0.0, grounded=True),
)
PHASES = {"1": "A B C", "2": "A C", "610": "AB BC CA", "9": "B"}
LOADS = (
    NominalLoad("Load_1_a", "1", 40.0, 20.0),
    NominalLoad("Load_610", "610", 30.0, 10.0),
    NominalLoad("Load_1_b", "1", 20.0, 5.0),
)
CIRCUIT = Circuit(
    source_bus="1",
    buses=BUSES,
    lines=(),
    transformers=(
        Transformer("reg1", ("1", "2"), ((1, 3), (1, 3)), (False, False), 2000.0, regulates=True),
        Transformer(
            "XFM1", ("1", "610"), ((1, 2, 3), (1, 2, 3)), (True, True), 150.0, regulates=False
        ),
    ),
    loads=LOADS,
    load_phases=((1, 2, 3), (1, 2, 3), (2,)),
    regulators=("reg1",),
    voltages=voltage_rows(BUSES),
)
CONFIG = FeederConfig(
    name="A feeder",
    master="master.dss",
    neighbourhoods=(
        Neighbourhood(number=1, buses=("1", "2"), transformer_bus="1", transformer_kva=100.0),
        Neighbourhood(number=7, buses=("610",), transformer_bus="610", transformer_kva=50.0),
    ),
)
NODES = len(CIRCUIT.voltages.phase)
TRANSFORMERS = 3
"""The two of the neighbourhoods, and XFM1: the regulator is none."""


def shown(figure: float, digits: int = 4) -> float:
    """A solved figure, as precise as it is told."""
    return float(np.rint(figure * 10**digits) / 10**digits)


def solution(demand: Demand, chance: np.random.Generator) -> Solution:
    """Figures of which no two are the same; rows of what is gone have some too."""
    rows = 1 + max((each.row for each in demand.demands()), default=0)
    generators = 1 + max((each.row for each in demand.generation()), default=-1)

    def complexes(count: int) -> Complexes:
        return chance.uniform(-900, 900, count) + 1j * chance.uniform(-900, 900, count)

    return Solution(
        converged=True,
        iterations=7,
        v_pu=chance.uniform(0.96, 1.04, NODES),
        angle_deg=chance.uniform(-180, 180, NODES),
        load_kva=complexes(rows + 3),
        generator_kva=complexes(generators + 2),
        source_kva=complex(123.45678, -2.0),
        losses_kva=complex(1.23456, 3.0),
        transformer_kva=complexes(1),
        taps=(-4,),
    )


def naive(demand: Demand, solved: Solution, bus: Bus, executing: bool) -> dict[str, Any]:
    """One bus of the state, built with loops and lookups."""
    loads: list[dict[str, Any]] = []
    devices: list[dict[str, Any]] = []
    generators: list[dict[str, Any]] = []
    drawn = produced = 0j
    for each in demand.demands():
        element = demand.consumer(each.row)
        if element.bus != bus.name:
            continue
        kva = complex(solved.load_kva[each.row])
        drawn += kva
        (devices if element.kind is Kind.DEVICE else loads).append(
            {
                "name": element.name,
                "demand_kw": each.demand_kw,
                "set_kw": each.kw,
                "kw": shown(kva.real),
                "kvar": shown(kva.imag),
                "factor": each.factor,
                "source": each.source.value,
                "held_by": list(each.held_by),
                "not_following": False,
            }
        )
    for generation in demand.generation():
        element = demand.generator(generation.row)
        if element.bus != bus.name:
            continue
        kva = complex(solved.generator_kva[generation.row])
        produced += kva
        generators.append(
            {
                "name": element.name,
                "available_kw": generation.available_kw,
                "set_kw": generation.kw,
                "kw": shown(kva.real),
                "kvar": shown(kva.imag),
                "source": generation.source.value,
                "held_by": [],
                "not_following": False,
            }
        )
    rows = np.flatnonzero(CIRCUIT.voltages.bus == BUSES.index(bus))
    return {
        "bus": bus.name,
        "kv_base": bus.kv_base,
        "phases": {
            phase: {"v_pu": shown(solved.v_pu[row], 6), "angle_deg": shown(solved.angle_deg[row])}
            for phase, row in zip(PHASES[bus.name].split(), rows, strict=True)
        },
        "load_kw": pytest.approx(drawn.real, abs=1e-4),
        "load_kvar": pytest.approx(drawn.imag, abs=1e-4),
        "gen_kw": pytest.approx(produced.real, abs=1e-4),
        "net_kw": pytest.approx(drawn.real - produced.real, abs=2e-4),
        "neighbourhood": {"1": 1, "2": 1, "610": 7}.get(bus.name),
        "loads": loads,
        "devices": in_order_of_coming(devices),
        "generators": in_order_of_coming(generators),
        "dfps": ["dfp"] if executing and bus.name == "1" else [],
    }


def in_order_of_coming(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The names of what comes in these tests count upward."""
    return sorted(found, key=lambda each: int(each["name"].removeprefix("x")))


class Solver:
    """What keeps a document up to date, with figures of chance instead of solved ones."""

    def __init__(self, seed: int) -> None:
        self.demand = Demand(LOADS, BUSES, {1: ["1", "2"], 7: ["610"]})
        self.document = StateDocument("test", CONFIG, CIRCUIT, self.demand.loads)
        self.chance = np.random.default_rng(seed)
        self.executing = False
        self.version = 0
        self.document.body.set_demand(self.demand.demands())

    def execute(self, max_kw: float | None) -> None:
        """Put a program in force at bus 1, or stop it."""
        self.executing = max_kw is not None
        bus = BusAdjustment(bus="1", max_kw=max_kw or 0.0, target_pf=0.9)
        program = ProgramInForce(name="dfp", number=1, buses=(bus,))
        programs = (program,) if self.executing else ()
        self.demand.adjust(Adjustments(revision=5, programs=programs))
        names = ["dfp"] if self.executing else []
        self.document.body.set_programs(5, names, self.demand.programs_by_bus())

    def assert_every_figure_is_in_its_place(self) -> None:
        demand, body = self.demand, self.document.body
        body.place(demand.take_placements())
        demands, generation = demand.take_changed()
        body.set_demand(demands)
        body.set_generation(generation)
        solved = solution(demand, self.chance)
        loading = self.chance.uniform(0, 160, TRANSFORMERS)
        self.version += 1
        stamp = Stamp(self.version, 1_800_000_000.25, None)
        encoded, _ = self.document.update(solved, loading, stamp, ["an action"], [])
        State.model_validate_json(encoded)
        state = json.loads(encoded)
        for bus, found in zip(BUSES, state["bus_details"], strict=True):
            assert found == naive(demand, solved, bus, self.executing)
        assert state["transformers"] == transformers(loading)
        assert state["adjustments"]["programs"] == (["dfp"] if self.executing else [])
        assert state["version"] == self.version
        assert state["management_status"]["management_log"][-1] == "an action"
        total = sum(float(solved.load_kva[each.row].real) for each in demand.demands())
        of_buses = sum(found["load_kw"] for found in state["bus_details"])
        assert of_buses == pytest.approx(total, abs=1e-3)


def transformers(loading_kva: Floats) -> list[dict[str, Any]]:
    ratings = (
        ("neighbourhood_1", "service", "1", 100.0),
        ("neighbourhood_7", "service", "610", 50.0),
        ("XFM1", "transformer", "610", 150.0),
    )
    return [
        {
            "name": name,
            "kind": kind,
            "bus": bus,
            "rating_kva": rating,
            "loading_kva": shown(kva),
            "loading_percent": shown(100 * kva / rating),
            "status": "OVERLOADED" if kva > rating else "OK",
        }
        for (name, kind, bus, rating), kva in zip(ratings, loading_kva.tolist(), strict=True)
    ]


def test_a_feeder_without_devices_and_generators() -> None:
    solver = Solver(1)
    for _ in range(3):
        solver.assert_every_figure_is_in_its_place()


def test_devices_and_generators_at_every_bus() -> None:
    """With rows in another order than buses."""
    solver = Solver(2)
    for number, bus in enumerate(("9", "610", "2", "1", "1", "610")):
        solver.demand.add_device(
            DeviceAddition(bus_name=bus, device_name=f"x{number}", kw=1.0 + number)
        )
        solver.demand.add_generator(
            GeneratorAddition(bus_name=bus, generator_name=f"x{number + 10}", kw=2.0 + number)
        )
    solver.assert_every_figure_is_in_its_place()
    solver.demand.disconnect_device("2", "x2")
    solver.demand.remove_generator("x11")
    solver.assert_every_figure_is_in_its_place()
    solver.demand.add_device(DeviceAddition(bus_name="1", device_name="x20", kw=3.0))
    solver.demand.add_generator(GeneratorAddition(bus_name="9", generator_name="x21", kw=4.0))
    solver.assert_every_figure_is_in_its_place()


STEPS = st.tuples(
    st.sampled_from(["device", "generator", "remove", "program", "pin", "solve"]),
    st.sampled_from(["1", "2", "610", "9"]),
    st.floats(0, 1000),
)


@given(seed=st.integers(0, 2**32 - 1), steps=st.lists(STEPS, max_size=25))
def test_whatever_comes_and_goes(seed: int, steps: list[tuple[str, str, float]]) -> None:
    solver = Solver(seed)
    demand = solver.demand
    here: list[tuple[str, str, bool]] = []
    for number, (what, bus, kw) in enumerate(steps):
        name = f"x{number}"
        if what == "device":
            demand.add_device(DeviceAddition(bus_name=bus, device_name=name, kw=kw, kvar=kw / 3))
            here.append((bus, name, True))
        elif what == "generator":
            demand.add_generator(GeneratorAddition(bus_name=bus, generator_name=name, kw=kw))
            here.append((bus, name, False))
        elif what == "remove" and here:
            at, gone, is_device = here.pop(int(kw) % len(here))
            if is_device:
                demand.disconnect_device(at, gone)
            else:
                demand.remove_generator(gone)
        elif what == "program":
            solver.execute(kw if kw < 500 else None)
        elif what == "pin":
            demand.pin("610", "Load_610", kw, None)
        else:
            solver.assert_every_figure_is_in_its_place()
    solver.assert_every_figure_is_in_its_place()


def rows(counts: Sequence[int], numbers: Sequence[int]) -> list[list[int]]:
    """The numbers dealt out to buses."""
    dealt = iter(numbers)
    return [[next(dealt) for _ in range(count)] for count in counts]


@given(
    buses=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6
    ),
    transformers=st.integers(0, 3),
    data=st.data(),
)
def test_a_layout_has_each_figure_where_the_text_has_its_hole(
    buses: list[tuple[int, int, int]], transformers: int, data: st.DataObject
) -> None:
    """Against the description of :class:`Layout`, figure by figure."""
    voltages, consuming, generating = (list(counts) for counts in zip(*buses, strict=True))
    loads, machines = sum(consuming), sum(generating)
    consumers = rows(consuming, data.draw(st.permutations(range(loads + 2))))
    generators = rows(generating, data.draw(st.permutations(range(machines + 1))))
    chance = np.random.default_rng(data.draw(st.integers(0, 999)))
    solved = Solution(
        converged=True,
        iterations=1,
        v_pu=chance.uniform(0, 2, sum(voltages)),
        angle_deg=chance.uniform(-180, 180, sum(voltages)),
        load_kva=chance.uniform(-9, 9, loads + 2) + 1j * chance.uniform(-9, 9, loads + 2),
        generator_kva=chance.uniform(-9, 9, machines + 1)
        + 1j * chance.uniform(-9, 9, machines + 1),
        source_kva=0j,
        losses_kva=0j,
        transformer_kva=np.zeros(0, dtype=np.complex128),
        taps=(),
    )
    demand = chance.uniform(-1e6, 1e6, (3, loads + 2))
    generation = chance.uniform(0, 1e6, (2, machines + 1))
    loading, percent = chance.uniform(0, 200, (2, transformers))
    expected: list[float] = []
    node = 0
    for shown_here, at, producing in zip(voltages, consumers, generators, strict=True):
        for _ in range(shown_here):
            expected += [shown(solved.v_pu[node], 6), shown(solved.angle_deg[node])]
            node += 1
        drawn = sum(complex(solved.load_kva[row]) for row in at)
        produced = sum(solved.generator_kva[row].real for row in producing)
        expected += [drawn.real, drawn.imag, produced, drawn.real - produced]
        for row in at:
            kva = solved.load_kva[row]
            asked, given_kw, factor = demand[:, row]
            expected += [asked, given_kw, shown(kva.real), shown(kva.imag), factor]
        for row in producing:
            kva = solved.generator_kva[row]
            expected += [*generation[:, row], shown(kva.real), shown(kva.imag)]
    for kva, part in zip(loading, percent, strict=True):
        expected += [shown(kva), shown(part)]
    layout = Layout(voltages, consumers, generators, transformers)
    figures = layout.figures(solved, demand, generation, loading, percent)
    assert figures.tolist() == pytest.approx(expected, rel=0, abs=1.01e-4)


def test_what_was_asked_for_is_told_to_the_last_digit() -> None:
    """A third of a kW is not rounded, a third of a drawn kW is; nothing is shown as minus zero."""
    third = 1 / 3
    layout = Layout([1], [[0]], [[0]], 1)
    solved = Solution(
        converged=True,
        iterations=1,
        v_pu=np.array([third]),
        angle_deg=np.array([-third]),
        load_kva=np.array([complex(third, -1e-9)]),
        generator_kva=np.array([complex(third, 2 * third)]),
        source_kva=0j,
        losses_kva=0j,
        transformer_kva=np.zeros(0, dtype=np.complex128),
        taps=(),
    )
    figures = layout.figures(
        solved,
        np.array([[third], [third / 2], [third / 4]]),
        np.array([[third], [third / 8]]),
        np.array([third]),
        np.array([100 * third]),
    )
    assert figures.tolist() == [
        *(0.333333, -0.3333),
        *(0.3333, 0.0, 0.3333, 0.0),
        *(third, third / 2, 0.3333, 0.0, third / 4),
        *(third, third / 8, 0.3333, 0.6667),
        *(0.3333, 33.3333),
    ]
    assert not np.signbit(figures[3])


def test_a_feeder_on_which_nothing_hangs() -> None:
    """No loads, no generators: sums are zero."""
    layout = Layout([1], [[]], [[]], 0)
    nothing = np.zeros(0, dtype=np.complex128)
    solved = Solution(
        converged=True,
        iterations=1,
        v_pu=np.array([1.0]),
        angle_deg=np.array([0.0]),
        load_kva=nothing,
        generator_kva=nothing,
        source_kva=0j,
        losses_kva=0j,
        transformer_kva=nothing,
        taps=(),
    )
    empty = np.zeros(0)
    figures = layout.figures(solved, np.zeros((3, 0)), np.zeros((2, 0)), empty, empty)
    assert figures.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_transformers_that_regulate_are_not_rated() -> None:
    demand = Demand(LOADS, BUSES, {})
    names = [rated.name for rated in Body(CONFIG, CIRCUIT, demand.loads).rated]
    assert names == ["neighbourhood_1", "neighbourhood_7", "XFM1"]


def test_a_bus_without_room_for_three_phases_refuses_them() -> None:
    """What these tests rely on: bus 9 has phase B only."""
    demand = Demand(LOADS, BUSES, {})
    with pytest.raises(Refusal, match="has the phases B"):
        demand.add_device(DeviceAddition(bus_name="9", device_name="x", kw=1.0, phases=3))
