"""The long part of a state, buses and transformers: text that rarely changes, around figures."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from services.solver.bus_rule import DemandInForce
from services.solver.demand import GenerationInForce
from services.solver.elements import Element, Kind, Source
from services.solver.feeder import FeederConfig
from services.solver.layout import Layout
from services.solver.network import Circuit, Floats
from services.solver.roster import Placement
from services.solver.solution import Solution
from services.solver.template import HOLE, Template, punched

OVERLOAD_PERCENT = 100.0


class Rated(NamedTuple):
    """A transformer whose loading is shown; rating in kVA."""

    name: str
    kind: str
    bus: str
    kva: float


_Said = tuple[Source, tuple[str, ...], bool]
"""What a state says of an element in words: its source, what holds it, and not following."""

_NOTHING_SAID: _Said = (Source.NOMINAL, (), False)


class Body:
    """Buses with their loads, devices and generators, transformers, and adjustments."""

    def __init__(self, config: FeederConfig, circuit: Circuit, loads: Sequence[Element]) -> None:
        self.rated = _rated(config, circuit)
        self._circuit = circuit
        self._neighbourhood = config.neighbourhood_of_bus()
        self._bus_index = {bus.name: index for index, bus in enumerate(circuit.buses)}
        self._rating_kva = np.array([rated.kva for rated in self.rated])
        self._phases: list[list[str]] = [[] for _ in circuit.buses]
        for bus, phase in zip(circuit.voltages.bus.tolist(), circuit.voltages.phase, strict=True):
            self._phases[bus].append(phase)
        self._consumers: list[list[Element]] = [[] for _ in circuit.buses]
        self._generators: list[list[Element]] = [[] for _ in circuit.buses]
        for load in loads:
            self._consumers[self._bus_index[load.bus]].append(load)
        self._programs: dict[int, tuple[str, ...]] = {}
        self._said: list[_Said] = [_NOTHING_SAID] * len(loads)
        self._generator_said: list[_Said] = []
        self._bus_of_row = [self._bus_index[load.bus] for load in loads]
        self._bus_of_generator: list[int] = []
        self._texts = [b""] * len(circuit.buses)
        self._stale = set(range(len(circuit.buses)))
        self._overloaded: list[int] = []
        self._adjustments: dict[str, Any] = {"revision": 0, "programs": []}
        self._demand = np.zeros((3, len(loads)))
        """By row of loads and devices: demanded kW, set kW, factor."""
        self._generation = np.zeros((2, 0))
        """By row of generators: available kW, set kW."""
        self._layout: Layout | None = None
        self._template: Template | None = None

    def place(self, placements: Iterable[Placement]) -> None:
        """Show what has come, and no longer what has gone."""
        for element, _, machine, is_there in placements:
            bus, row = self._bus_index[element.bus], element.row
            at_bus = (self._consumers if machine is None else self._generators)[bus]
            if is_there:
                at_bus.append(element)
            else:
                at_bus.remove(element)
            if machine is None:
                self._demand = _widened(self._demand, row)
                _put(self._said, row, _NOTHING_SAID)
                _put(self._bus_of_row, row, bus)
            else:
                self._generation = _widened(self._generation, row)
                _put(self._generator_said, row, _NOTHING_SAID)
                _put(self._bus_of_generator, row, bus)
            self._stale.add(bus)
            self._layout = None

    def set_demand(self, demands: Collection[DemandInForce]) -> None:
        """Take over the demand of some loads and devices, and who says so."""
        if not demands:
            return
        rows, demand_kw, kw, _, factors, sources, _, held_by, not_following, *_ = zip(
            *demands, strict=True
        )
        self._demand[:, rows] = (demand_kw, kw, factors)
        self._say(self._said, self._bus_of_row, rows, sources, held_by, not_following)

    def set_generation(self, generation: Collection[GenerationInForce]) -> None:
        """Take over the production of some generators, and who says so."""
        if not generation:
            return
        rows, available_kw, kw, _, sources, held_by, not_following, *_ = zip(
            *generation, strict=True
        )
        self._generation[:, rows] = (available_kw, kw)
        self._say(
            self._generator_said, self._bus_of_generator, rows, sources, held_by, not_following
        )

    def held_kw(self) -> tuple[float, float]:
        """What programs and relief hold back, in kW: of what loads and devices ask for, and of what
        generators could produce.
        """
        demand_kw, set_kw = self._demand[0], self._demand[1]
        available_kw, let_through_kw = self._generation
        return (
            _held_kw(demand_kw, set_kw, self._said),
            _held_kw(available_kw, let_through_kw, self._generator_said),
        )

    def set_programs(
        self, revision: int, names: Sequence[str], at: dict[str, tuple[str, ...]]
    ) -> None:
        """Take over which programs are in force, and at which buses (by the bus's own name)."""
        programs = {self._bus_index[bus]: found for bus, found in at.items()}
        self._stale |= {
            bus
            for bus in {*programs, *self._programs}
            if programs.get(bus) != self._programs.get(bus)
        }
        self._programs = programs
        self._adjustments = {"revision": revision, "programs": list(names)}
        self._template = None

    def set_loading(self, loading_kva: Floats) -> list[tuple[Rated, float, float]]:
        """Take over each transformer's loading in kVA; returns those that are overloaded, each
        with its kVA and percent.
        """
        self._loading = loading_kva
        self._percent = percent = 100.0 * loading_kva / self._rating_kva
        overloaded: list[int] = np.flatnonzero(percent > OVERLOAD_PERCENT).tolist()
        if overloaded != self._overloaded:
            self._overloaded = overloaded
            self._template = None
        return [(self.rated[i], float(loading_kva[i]), float(percent[i])) for i in overloaded]

    def encoded(self, solution: Solution, head: bytes) -> bytes:
        """The JSON object, with this solution in it, and the members of another one before."""
        layout = self._layout
        if layout is None:
            layout = self._layout = Layout(
                [len(phases) for phases in self._phases],
                [[element.row for element in at_bus] for at_bus in self._consumers],
                [[element.row for element in at_bus] for at_bus in self._generators],
                len(self.rated),
            )
            self._template = None
        if self._stale:
            for bus in self._stale:
                self._texts[bus] = self._bus_text(bus)
            self._stale.clear()
            self._template = None
        if self._template is None:
            self._template = Template(self._text())
        figures = layout.figures(
            solution, self._demand, self._generation, self._loading, self._percent
        )
        return self._template.fill(figures, head)

    def _say(
        self,
        said: list[_Said],
        bus_of_row: list[int],
        rows: Iterable[int],
        *words: Iterable[Any],
    ) -> None:
        """Take over what is said of these rows; the text of a bus is stale where it is new."""
        for row, what in zip(rows, zip(*words, strict=True), strict=True):
            if said[row] != what:
                said[row] = what
                self._stale.add(bus_of_row[row])

    def _text(self) -> bytes:
        transformers = [
            {
                "name": rated.name,
                "kind": rated.kind,
                "bus": rated.bus,
                "rating_kva": rated.kva,
                "loading_kva": HOLE,
                "loading_percent": HOLE,
                "status": "OVERLOADED" if index in self._overloaded else "OK",
            }
            for index, rated in enumerate(self.rated)
        ]
        return b"".join(
            (
                b'{"bus_details":[',
                b",".join(self._texts),
                b'],"transformers":',
                punched(transformers),
                b',"adjustments":',
                punched(self._adjustments),
                b"}",
            )
        )

    def _bus_text(self, index: int) -> bytes:
        bus = self._circuit.buses[index]
        consumers = self._consumers[index]
        return punched(
            {
                "bus": bus.name,
                "kv_base": bus.kv_base,
                "phases": {
                    phase: {"v_pu": HOLE, "angle_deg": HOLE} for phase in self._phases[index]
                },
                "load_kw": HOLE,
                "load_kvar": HOLE,
                "gen_kw": HOLE,
                "net_kw": HOLE,
                "neighbourhood": self._neighbourhood.get(bus.name),
                "loads": [self._consumer(e) for e in consumers if e.kind is Kind.LOAD],
                "devices": [self._consumer(e) for e in consumers if e.kind is Kind.DEVICE],
                "generators": [self._generator(e) for e in self._generators[index]],
                "dfps": self._programs.get(index, ()),
            }
        )

    def _consumer(self, element: Element) -> dict[str, Any]:
        source, held_by, not_following = self._said[element.row]
        return {
            "name": element.name,
            "demand_kw": HOLE,
            "set_kw": HOLE,
            "kw": HOLE,
            "kvar": HOLE,
            "factor": HOLE,
            "source": source,
            "held_by": held_by,
            "not_following": not_following,
        }

    def _generator(self, element: Element) -> dict[str, Any]:
        source, held_by, not_following = self._generator_said[element.row]
        return {
            "name": element.name,
            "available_kw": HOLE,
            "set_kw": HOLE,
            "kw": HOLE,
            "kvar": HOLE,
            "source": source,
            "held_by": held_by,
            "not_following": not_following,
        }


def _rated(config: FeederConfig, circuit: Circuit) -> list[Rated]:
    """Service transformers of the neighbourhoods, then the real ones that are no regulators."""
    return [
        Rated(f"neighbourhood_{a.number}", "service", a.transformer_bus, a.transformer_kva)
        for a in config.neighbourhoods
    ] + [
        Rated(t.name, "transformer", t.buses[-1], t.kva)
        for t in circuit.transformers
        if not t.regulates
    ]


def _held_kw(asked_kw: Floats, set_kw: Floats, said: Sequence[_Said]) -> float:
    """What is missing of the kW that are asked for, over the rows that are held."""
    missing = asked_kw - set_kw
    rows = np.flatnonzero(missing > 0.0).tolist()
    return math.fsum(float(missing[row]) for row in rows if said[row][1])


def _put(values: list[Any], row: int, value: Any) -> None:
    """Set the value of a row, which may be the next one."""
    values[row : row + 1] = [value]


def _widened(table: Floats, row: int) -> Floats:
    """The table with a column for ``row``."""
    missing = row + 1 - table.shape[1]
    return table if missing <= 0 else np.pad(table, ((0, 0), (0, missing)))
