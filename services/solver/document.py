"""The state as it is published: kept up to date in place, and encoded once a solve.

Figures that follow from the demand rules stay to the last digit; solved ones are rounded to what
means something (1e-6 pu, 1e-4 degree, 0.1 W).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import orjson

from services.solver.demand import DemandInForce, Source
from services.solver.feeder import FeederConfig
from services.solver.network import Circuit, Floats, Indices
from services.solver.solution import Solution
from services.solver.template import HOLE, Template

VOLTAGE_TOLERANCE_PU = 5e-4
"""How far beyond a limit a voltage may be before it counts as a violation."""

DEAD_PU = 1e-3
"""Below this a node is not energised: it is shown, and left out of statistics and limits."""

OVERLOAD_PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a state says of itself. ``solved_at`` and ``oldest_reading_at`` in epoch seconds."""

    version: int
    solved_at: float
    oldest_reading_at: float | None


class StateDocument:
    """The newest state of a feeder, by the contract of ``schemas.state``."""

    def __init__(
        self, feeder: str, config: FeederConfig, circuit: Circuit, demands: Sequence[DemandInForce]
    ) -> None:
        self._feeder = feeder
        self._limits = config.voltage_limits
        self._circuit = circuit
        self._bus_of_row: list[int] = circuit.voltages.bus.tolist()
        self._body = _Body(config, circuit)
        self.set_demand(demands)

    def set_demand(self, demands: Sequence[DemandInForce]) -> None:
        """Take over the demand of these loads."""
        self._body.set_demand(demands)

    def update(self, solution: Solution, stamp: Stamp) -> bytes:
        """The state with this solution in it, encoded."""
        overloads = self._body.set_solution(solution)
        profile = self._voltage_profile(solution.v_pu)
        head = {
            "feeder": self._feeder,
            "version": stamp.version,
            "solved_at": _timestamp(stamp.solved_at),
            "converged": solution.converged,
            "iterations": solution.iterations,
            "oldest_reading_s": (
                None
                if stamp.oldest_reading_at is None
                else round(stamp.solved_at - stamp.oldest_reading_at, 3)
            ),
            "taps": dict(zip(self._circuit.regulators, solution.taps, strict=True)),
            "management_status": _management_status(
                solution.converged, profile["violations"], overloads
            ),
            "power_summary": _power_summary(solution),
            "voltage_profile": profile,
        }
        return b"".join((orjson.dumps(head)[:-1], b",", self._body.encoded()[1:]))

    def _voltage_profile(self, v_pu: Floats) -> dict[str, Any]:
        rows = np.flatnonzero(v_pu > DEAD_PU)
        live = v_pu[rows]
        if not len(live):
            return {
                "min_voltage_pu": 0.0,
                "min_voltage_bus": self._circuit.source_bus,
                "max_voltage_pu": 0.0,
                "max_voltage_bus": self._circuit.source_bus,
                "avg_voltage_pu": 0.0,
                "violations": [],
            }
        lowest, highest = int(live.argmin()), int(live.argmax())
        low, high = float(live[lowest]), float(live[highest])
        return {
            "min_voltage_pu": round(low, 6),
            "min_voltage_bus": self._bus_of(rows[lowest]),
            "max_voltage_pu": round(high, 6),
            "max_voltage_bus": self._bus_of(rows[highest]),
            "avg_voltage_pu": round(float(np.add.reduce(live)) / len(live), 6),
            "violations": (
                self._violations(rows, live)
                if low < self._limits.min_pu - VOLTAGE_TOLERANCE_PU
                or high > self._limits.max_pu + VOLTAGE_TOLERANCE_PU
                else []
            ),
        }

    def _violations(self, rows: Indices, live: Floats) -> list[dict[str, Any]]:
        low, high = self._limits.min_pu, self._limits.max_pu
        found = []
        for row, v_pu in zip(rows.tolist(), live.tolist(), strict=True):
            if low - VOLTAGE_TOLERANCE_PU <= v_pu <= high + VOLTAGE_TOLERANCE_PU:
                continue
            found.append(
                {
                    "bus": self._bus_of(row),
                    "phase": self._circuit.voltages.phase[row],
                    "v_pu": round(v_pu, 6),
                    "limit_pu": high if v_pu > high else low,
                    "kind": "overvoltage" if v_pu > high else "undervoltage",
                }
            )
        return found

    def _bus_of(self, row: int | np.intp) -> str:
        return self._circuit.buses[self._bus_of_row[row]].name


class _Body:
    """Buses, loads and transformers: text that rarely changes, around figures.

    All figures stand in one array, in the order in which they stand in the text.
    """

    def __init__(self, config: FeederConfig, circuit: Circuit) -> None:
        self._circuit = circuit
        self._neighbourhood = config.neighbourhood_of_bus()
        bus_index = {bus.name: index for index, bus in enumerate(circuit.buses)}
        self._load_bus = np.array([bus_index[load.bus] for load in circuit.loads], dtype=np.intp)
        self._loads_by_bus = np.argsort(self._load_bus, kind="stable")
        _, self._bus_starts = np.unique(self._load_bus[self._loads_by_bus], return_index=True)
        self._areas = len(config.neighbourhoods)
        area_index = {a.number: index for index, a in enumerate(config.neighbourhoods)}
        area_of_bus = {bus: area_index[n] for bus, n in self._neighbourhood.items()}
        self._load_area = np.array(
            [area_of_bus.get(load.bus, self._areas) for load in circuit.loads], dtype=np.intp
        )
        self._rated = _rated(config, circuit)
        self._rating_kva = np.array([rated.kva for rated in self._rated])
        self._sources = [Source.NOMINAL] * len(circuit.loads)
        self._overloaded: list[int] = []
        self._template: Template | None = None
        self._place = _Places(circuit, self._load_bus, len(self._rated))
        self._figures = np.zeros(self._place.count)

    def set_demand(self, demands: Sequence[DemandInForce]) -> None:
        """Take over demand in kW and factor of some loads, and who says so."""
        if not demands:
            return
        place, figures = self._place, self._figures
        indices, kw, _, factors, sources, _ = zip(*demands, strict=True)
        rows = np.array(indices, dtype=np.intp)
        figures[place.demand_kw[rows]] = figures[place.set_kw[rows]] = kw
        figures[place.factor[rows]] = factors
        for index, source in zip(indices, sources, strict=True):
            if self._sources[index] is not source:
                self._sources[index] = source
                self._template = None

    def set_solution(self, solution: Solution) -> list[str]:
        """Take over what was solved; returns a line about each transformer that is overloaded."""
        place, figures = self._place, self._figures
        load_kva = solution.load_kva
        figures[place.v_pu] = solution.v_pu
        figures[place.angle_deg] = solution.angle_deg
        figures[place.kw] = load_kva.real
        figures[place.kvar] = load_kva.imag
        if len(self._bus_starts):
            bus_kva = np.add.reduceat(load_kva[self._loads_by_bus], self._bus_starts)
            figures[place.bus_kw] = figures[place.bus_net_kw] = bus_kva.real
            figures[place.bus_kvar] = bus_kva.imag
        loading_kva = np.concatenate(
            (
                np.hypot(self._by_area(load_kva.real), self._by_area(load_kva.imag)),
                solution.transformer_kva,
            )
        )
        percent = 100.0 * loading_kva / self._rating_kva
        figures[place.loading_kva] = loading_kva
        figures[place.loading_percent] = percent
        overloaded: list[int] = np.flatnonzero(percent > OVERLOAD_PERCENT).tolist()
        if overloaded != self._overloaded:
            self._overloaded = overloaded
            self._template = None
        return [
            f"overload: transformer {rated.name} at bus {rated.bus} carries "
            f"{loading_kva[index]:.1f} kVA of {rated.kva:g} kVA ({percent[index]:.1f} %)"
            for index, rated in ((index, self._rated[index]) for index in overloaded)
        ]

    def encoded(self) -> bytes:
        if self._template is None:
            self._template = Template(self._with_holes())
        place, figures = self._place, self._figures
        rounded = np.rint(figures * place.scale) / place.scale
        rounded[place.exact] = figures[place.exact]
        return self._template.fill(rounded)

    def _by_area(self, of_load: Floats) -> Floats:
        """Sums of loads by neighbourhood; those in none come last, and are left out."""
        sums = np.bincount(self._load_area, weights=of_load, minlength=self._areas + 1)
        return sums[: self._areas].astype(np.float64, copy=False)

    def _with_holes(self) -> dict[str, Any]:
        circuit = self._circuit
        phases: list[dict[str, Any]] = [{} for _ in circuit.buses]
        rows = zip(circuit.voltages.bus.tolist(), circuit.voltages.phase, strict=True)
        for bus, phase in rows:
            phases[bus][phase] = {"v_pu": HOLE, "angle_deg": HOLE}
        loads: list[list[dict[str, Any]]] = [[] for _ in circuit.buses]
        of_load = zip(self._load_bus.tolist(), circuit.loads, self._sources, strict=True)
        for bus, load, source in of_load:
            loads[bus].append(
                {
                    "name": load.name,
                    "demand_kw": HOLE,
                    "set_kw": HOLE,
                    "kw": HOLE,
                    "kvar": HOLE,
                    "factor": HOLE,
                    "source": source,
                    "held_by": [],
                }
            )
        return {
            "bus_details": [
                {
                    "bus": bus.name,
                    "kv_base": bus.kv_base,
                    "phases": phases[index],
                    "load_kw": HOLE if loads[index] else 0.0,
                    "load_kvar": HOLE if loads[index] else 0.0,
                    "gen_kw": 0.0,
                    "net_kw": HOLE if loads[index] else 0.0,
                    "neighbourhood": self._neighbourhood.get(bus.name),
                    "loads": loads[index],
                    "devices": [],
                    "generators": [],
                    "dfps": [],
                }
                for index, bus in enumerate(circuit.buses)
            ],
            "transformers": [
                {
                    "name": rated.name,
                    "kind": rated.kind,
                    "bus": rated.bus,
                    "rating_kva": rated.kva,
                    "loading_kva": HOLE,
                    "loading_percent": HOLE,
                    "status": "OVERLOADED" if index in self._overloaded else "OK",
                }
                for index, rated in enumerate(self._rated)
            ],
            "adjustments": {"revision": 0, "programs": []},
        }


class _Places:
    """Where each figure stands among the holes of :meth:`_Body._with_holes`, and its precision.

    Voltages and angles are by row, ``bus_...`` by bus that has a load, the rest by load or
    transformer. A figure is shown as a multiple of 1 / ``scale``, or to the last digit.
    """

    def __init__(self, circuit: Circuit, load_bus: Indices, transformers: int) -> None:
        self.count = 0
        rows_of_bus: list[list[int]] = [[] for _ in circuit.buses]
        for row, bus in enumerate(circuit.voltages.bus.tolist()):
            rows_of_bus[bus].append(row)
        loads_of_bus: list[list[int]] = [[] for _ in circuit.buses]
        for load, bus in enumerate(load_bus.tolist()):
            loads_of_bus[bus].append(load)
        loaded = sum(1 for loads in loads_of_bus if loads)
        self.v_pu, self.angle_deg = _places(len(circuit.voltages.phase), 2)
        self.bus_kw, self.bus_kvar, self.bus_net_kw = _places(loaded, 3)
        self.demand_kw, self.set_kw, self.kw, self.kvar, self.factor = _places(len(load_bus), 5)
        self.loading_kva, self.loading_percent = _places(transformers, 2)
        loaded = 0
        for rows, loads in zip(rows_of_bus, loads_of_bus, strict=True):
            for row in rows:
                self._next(row, self.v_pu, self.angle_deg)
            if loads:
                self._next(loaded, self.bus_kw, self.bus_kvar, self.bus_net_kw)
                loaded += 1
            for load in loads:
                self._next(load, self.demand_kw, self.set_kw, self.kw, self.kvar, self.factor)
        for transformer in range(transformers):
            self._next(transformer, self.loading_kva, self.loading_percent)
        self.exact = np.concatenate((self.demand_kw, self.set_kw, self.factor))
        self.scale = np.full(self.count, 1e4)
        self.scale[self.v_pu] = 1e6

    def _next(self, index: int, *places: Indices) -> None:
        for place in places:
            place[index] = self.count
            self.count += 1


class _Rated(NamedTuple):
    """A transformer whose loading is shown; rating in kVA."""

    name: str
    kind: str
    bus: str
    kva: float


def _rated(config: FeederConfig, circuit: Circuit) -> list[_Rated]:
    """Service transformers of the neighbourhoods, then the real ones that are no regulators."""
    return [
        _Rated(f"neighbourhood_{a.number}", "service", a.transformer_bus, a.transformer_kva)
        for a in config.neighbourhoods
    ] + [
        _Rated(t.name, "transformer", t.buses[-1], t.kva)
        for t in circuit.transformers
        if not t.regulates
    ]


def _places(length: int, count: int) -> list[Indices]:
    return [np.zeros(length, dtype=np.intp) for _ in range(count)]


def _power_summary(solution: Solution) -> dict[str, float]:
    return {
        "total_circuit_power_kw": round(solution.source_kva.real, 4),
        "total_circuit_power_kvar": round(solution.source_kva.imag, 4),
        "total_losses_kw": round(solution.losses_kva.real, 4),
        "total_losses_kvar": round(solution.losses_kva.imag, 4),
        "total_load_kw": round(float(np.add.reduce(solution.load_kva.real)), 4),
        "total_generation_kw": 0.0,
    }


def _management_status(
    converged: bool, violations: list[dict[str, Any]], overloads: list[str]
) -> dict[str, Any]:
    if not converged:
        text = "no convergence: the figures are those of the last solve that converged"
        return {"status": "ERROR", "management_log": [text]}
    log = [
        f"{v['kind']}: bus {v['bus']} phase {v['phase']} at {v['v_pu']:.4f} pu, "
        f"limit {v['limit_pu']} pu"
        for v in violations
    ] + overloads
    return {"status": "ALERT" if log else "OK", "management_log": log}


def _timestamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
