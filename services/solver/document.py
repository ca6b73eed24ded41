"""The state as it is published: kept up to date in place, and encoded once a solve.

Figures that follow from the demand rules stay to the last digit; solved ones are rounded to what
means something (1e-6 pu, 1e-4 degree, 0.1 W).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from services.solver.demand import DemandInForce, Source
from services.solver.engine import Solution
from services.solver.feeder import FeederConfig
from services.solver.network import Circuit, Floats, Indices
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
        self._details = _BusDetails(config, circuit)
        self._transformers = _Transformers(config, circuit)
        self.set_demand(demands)

    def set_demand(self, demands: Sequence[DemandInForce]) -> None:
        """Take over the demand of these loads."""
        self._details.set_demand(demands)

    def update(self, solution: Solution, stamp: Stamp) -> bytes:
        """The state with this solution in it, encoded."""
        bus_kva = self._details.set_solution(solution)
        profile = self._voltage_profile(solution.v_pu)
        transformers = self._transformers.loaded(bus_kva, solution.transformer_kva)
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
                solution.converged, profile["violations"], transformers
            ),
            "power_summary": _power_summary(solution),
            "voltage_profile": profile,
        }
        tail = {"transformers": transformers, "adjustments": {"revision": 0, "programs": []}}
        return b"".join(
            (
                orjson.dumps(head)[:-1],
                b',"bus_details":',
                self._details.encoded(),
                b",",
                orjson.dumps(tail)[1:],
            )
        )

    def _voltage_profile(self, v_pu: Floats) -> dict[str, Any]:
        energised = v_pu > DEAD_PU
        if not energised.any():
            return {
                "min_voltage_pu": 0.0,
                "min_voltage_bus": self._circuit.source_bus,
                "max_voltage_pu": 0.0,
                "max_voltage_bus": self._circuit.source_bus,
                "avg_voltage_pu": 0.0,
                "violations": [],
            }
        lowest = int(np.where(energised, v_pu, np.inf).argmin())
        highest = int(v_pu.argmax())
        low, high = self._limits.min_pu, self._limits.max_pu
        too_low = energised & (v_pu < low - VOLTAGE_TOLERANCE_PU)
        too_high = v_pu > high + VOLTAGE_TOLERANCE_PU
        return {
            "min_voltage_pu": round(float(v_pu[lowest]), 6),
            "min_voltage_bus": self._bus_of(lowest),
            "max_voltage_pu": round(float(v_pu[highest]), 6),
            "max_voltage_bus": self._bus_of(highest),
            "avg_voltage_pu": round(float(v_pu[energised].mean()), 6),
            "violations": [
                {
                    "bus": self._bus_of(row),
                    "phase": self._circuit.voltages.phase[row],
                    "v_pu": round(float(v_pu[row]), 6),
                    "limit_pu": high if too_high[row] else low,
                    "kind": "overvoltage" if too_high[row] else "undervoltage",
                }
                for row in np.flatnonzero(too_low | too_high).tolist()
            ],
        }

    def _bus_of(self, row: int) -> str:
        return self._circuit.buses[int(self._circuit.voltages.bus[row])].name


class _BusDetails:
    """The buses with their voltages and loads: text that rarely changes, around figures.

    All figures stand in one array, in the order in which they stand in the text.
    """

    def __init__(self, config: FeederConfig, circuit: Circuit) -> None:
        bus_index = {bus.name: index for index, bus in enumerate(circuit.buses)}
        self._load_bus = np.array([bus_index[load.bus] for load in circuit.loads], dtype=np.intp)
        self._neighbourhood = {
            bus.lower(): area.number for area in config.neighbourhoods for bus in area.buses
        }
        self._circuit = circuit
        self._sources = [Source.NOMINAL] * len(circuit.loads)
        self._template: Template | None = None
        self._place = _Places(circuit, self._load_bus)
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

    def set_solution(self, solution: Solution) -> "tuple[Floats, Floats]":
        """Take over what was solved; returns load in kW and kvar by bus."""
        place, figures = self._place, self._figures
        kw, kvar = solution.load_kva.real, solution.load_kva.imag
        bus_kw, bus_kvar = self._by_bus(kw), self._by_bus(kvar)
        figures[place.v_pu] = solution.v_pu.round(6)
        figures[place.angle_deg] = solution.angle_deg.round(4)
        figures[place.kw] = kw.round(4)
        figures[place.kvar] = kvar.round(4)
        figures[place.bus_kw] = figures[place.bus_net_kw] = bus_kw.round(4)
        figures[place.bus_kvar] = bus_kvar.round(4)
        return bus_kw, bus_kvar

    def _by_bus(self, of_load: Floats) -> Floats:
        sums = np.bincount(self._load_bus, weights=of_load, minlength=len(self._circuit.buses))
        return sums.astype(np.float64, copy=False)

    def encoded(self) -> bytes:
        if self._template is None:
            self._template = Template(self._with_holes())
        return self._template.fill(self._figures)

    def _with_holes(self) -> list[dict[str, Any]]:
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
        return [
            {
                "bus": bus.name,
                "kv_base": bus.kv_base,
                "phases": phases[index],
                "load_kw": HOLE,
                "load_kvar": HOLE,
                "gen_kw": 0.0,
                "net_kw": HOLE,
                "neighbourhood": self._neighbourhood.get(bus.name),
                "loads": loads[index],
                "devices": [],
                "generators": [],
                "dfps": [],
            }
            for index, bus in enumerate(circuit.buses)
        ]


class _Places:
    """Where each figure stands among the holes of :meth:`_BusDetails._with_holes`."""

    def __init__(self, circuit: Circuit, load_bus: Indices) -> None:
        self.count = 0
        rows_of_bus: list[list[int]] = [[] for _ in circuit.buses]
        for row, bus in enumerate(circuit.voltages.bus.tolist()):
            rows_of_bus[bus].append(row)
        loads_of_bus: list[list[int]] = [[] for _ in circuit.buses]
        for load, bus in enumerate(load_bus.tolist()):
            loads_of_bus[bus].append(load)
        rows, buses, loads = len(circuit.voltages.phase), len(circuit.buses), len(circuit.loads)
        self.v_pu, self.angle_deg = _places(rows, 2)
        self.bus_kw, self.bus_kvar, self.bus_net_kw = _places(buses, 3)
        self.demand_kw, self.set_kw, self.kw, self.kvar, self.factor = _places(loads, 5)
        for bus in range(buses):
            for row in rows_of_bus[bus]:
                self._next(row, self.v_pu, self.angle_deg)
            self._next(bus, self.bus_kw, self.bus_kvar, self.bus_net_kw)
            for load in loads_of_bus[bus]:
                self._next(load, self.demand_kw, self.set_kw, self.kw, self.kvar, self.factor)

    def _next(self, index: int, *places: Indices) -> None:
        for place in places:
            place[index] = self.count
            self.count += 1


class _Transformers:
    """Service transformers of the neighbourhoods, and the real ones that are no regulators."""

    def __init__(self, config: FeederConfig, circuit: Circuit) -> None:
        bus_index = {bus.name: index for index, bus in enumerate(circuit.buses)}
        areas = [[bus_index[bus.lower()] for bus in a.buses] for a in config.neighbourhoods]
        self._area_buses = np.array([bus for area in areas for bus in area], dtype=np.intp)
        self._area_starts = np.cumsum([0, *map(len, areas)], dtype=np.intp)[:-1]
        self._rated: list[tuple[str, str, str, float]] = [
            (f"neighbourhood_{a.number}", "service", a.transformer_bus.lower(), a.transformer_kva)
            for a in config.neighbourhoods
        ] + [
            (t.name, "transformer", t.buses[-1], t.kva)
            for t in circuit.transformers
            if not t.regulates
        ]

    def loaded(
        self, bus_kva: tuple[Floats, Floats], transformer_kva: Sequence[float]
    ) -> list[dict[str, Any]]:
        """Each with its loading, from load in kW and kvar by bus and from the solved flows."""
        kw, kvar = bus_kva
        loading: list[float] = []
        if len(self._area_starts):
            kw = np.add.reduceat(kw[self._area_buses], self._area_starts)
            kvar = np.add.reduceat(kvar[self._area_buses], self._area_starts)
            loading += np.hypot(kw, kvar).tolist()
        loading += transformer_kva
        return [
            {
                "name": name,
                "kind": kind,
                "bus": bus,
                "rating_kva": rating,
                "loading_kva": round(kva, 4),
                "loading_percent": round(100.0 * kva / rating, 4),
                "status": "OVERLOADED" if 100.0 * kva > OVERLOAD_PERCENT * rating else "OK",
            }
            for (name, kind, bus, rating), kva in zip(self._rated, loading, strict=True)
        ]


def _places(length: int, count: int) -> list[Indices]:
    return [np.zeros(length, dtype=np.intp) for _ in range(count)]


def _power_summary(solution: Solution) -> dict[str, float]:
    return {
        "total_circuit_power_kw": round(solution.source_kva.real, 4),
        "total_circuit_power_kvar": round(solution.source_kva.imag, 4),
        "total_losses_kw": round(solution.losses_kva.real, 4),
        "total_losses_kvar": round(solution.losses_kva.imag, 4),
        "total_load_kw": round(float(solution.load_kva.real.sum()), 4),
        "total_generation_kw": 0.0,
    }


def _management_status(
    converged: bool, violations: list[dict[str, Any]], transformers: list[dict[str, Any]]
) -> dict[str, Any]:
    if not converged:
        text = "no convergence: the figures are those of the last solve that converged"
        return {"status": "ERROR", "management_log": [text]}
    log = [
        f"{v['kind']}: bus {v['bus']} phase {v['phase']} at {v['v_pu']:.4f} pu, "
        f"limit {v['limit_pu']} pu"
        for v in violations
    ] + [
        f"overload: transformer {t['name']} at bus {t['bus']} carries {t['loading_kva']:.1f} kVA "
        f"of {t['rating_kva']:g} kVA ({t['loading_percent']:.1f} %)"
        for t in transformers
        if t["status"] != "OK"
    ]
    return {"status": "ALERT" if log else "OK", "management_log": log}


def _timestamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
