"""The state as it is published: one document, kept up to date in place and encoded once a solve.

What a solve does not change is written once; each update fills in solved figures only. Figures
that follow from the demand rules stay to the last digit, solved ones are rounded to what means
something (1e-6 pu, 1e-4 degree, 0.1 W).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from services.solver.demand import LoadDemand
from services.solver.engine import Solution
from services.solver.feeder import FeederConfig
from services.solver.network import Circuit, Floats

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
        self, feeder: str, config: FeederConfig, circuit: Circuit, loads: Iterable[LoadDemand]
    ) -> None:
        self._limits = config.voltage_limits
        self._circuit = circuit
        bus_index = {bus.name: index for index, bus in enumerate(circuit.buses)}
        neighbourhood = {
            bus.lower(): area.number for area in config.neighbourhoods for bus in area.buses
        }
        self._buses: list[dict[str, Any]] = [
            {
                "bus": bus.name,
                "kv_base": bus.kv_base,
                "phases": {},
                "load_kw": 0.0,
                "load_kvar": 0.0,
                "gen_kw": 0.0,
                "net_kw": 0.0,
                "neighbourhood": neighbourhood.get(bus.name),
                "loads": [],
                "devices": [],
                "generators": [],
                "dfps": [],
            }
            for bus in circuit.buses
        ]
        self._voltage_cells: list[dict[str, float]] = []
        rows = zip(circuit.voltages.bus, circuit.voltages.phase, strict=True)
        for bus, phase in rows:
            cell = {"v_pu": 0.0, "angle_deg": 0.0}
            self._buses[bus]["phases"][phase] = cell
            self._voltage_cells.append(cell)
        self._load_cells: list[dict[str, Any]] = []
        for load in loads:
            figures: dict[str, Any] = {
                "name": load.name,
                "demand_kw": 0.0,
                "set_kw": 0.0,
                "kw": 0.0,
                "kvar": 0.0,
                "factor": 1.0,
                "source": "nominal",
                "held_by": [],
            }
            self._buses[bus_index[load.bus]]["loads"].append(figures)
            self._load_cells.append(figures)
        self._load_bus = np.array([bus_index[load.bus] for load in circuit.loads], dtype=np.intp)
        self._loaded = [self._buses[i] for i in sorted(set(self._load_bus.tolist()))]
        self._loaded_index = np.unique(self._load_bus)
        self._areas = [
            np.array([bus_index[bus.lower()] for bus in area.buses], dtype=np.intp)
            for area in config.neighbourhoods
        ]
        self._area_kva = np.array([area.transformer_kva for area in config.neighbourhoods])
        rated = [t for t in circuit.transformers if not t.regulates]
        self._rated_kva = np.array([t.kva for t in rated])
        self._transformers: list[dict[str, Any]] = [
            _transformer(f"neighbourhood_{a.number}", "service", a.transformer_bus.lower(), kva)
            for a, kva in zip(config.neighbourhoods, self._area_kva.tolist(), strict=True)
        ] + [_transformer(t.name, "transformer", t.buses[-1], t.kva) for t in rated]
        self._document: dict[str, Any] = {
            "feeder": feeder,
            "version": 0,
            "solved_at": "",
            "converged": False,
            "iterations": 0,
            "oldest_reading_s": None,
            "taps": dict.fromkeys(circuit.regulators, 0),
            "management_status": {"status": "OK", "management_log": []},
            "power_summary": {},
            "voltage_profile": {},
            "bus_details": self._buses,
            "transformers": self._transformers,
            "adjustments": {"revision": 0, "programs": []},
        }
        self.set_demand(loads)

    def set_demand(self, loads: Iterable[LoadDemand]) -> None:
        """Take over the demand of these loads."""
        for load in loads:
            cell = self._load_cells[load.index]
            kw = load.demand().kw
            cell["demand_kw"] = kw
            cell["set_kw"] = kw
            cell["factor"] = load.factor
            cell["source"] = load.source.value

    def update(self, solution: Solution, stamp: Stamp) -> bytes:
        """Fill in a solution and encode the whole."""
        document = self._document
        document["version"] = stamp.version
        document["solved_at"] = _timestamp(stamp.solved_at)
        document["converged"] = solution.converged
        document["iterations"] = solution.iterations
        document["oldest_reading_s"] = (
            None
            if stamp.oldest_reading_at is None
            else round(stamp.solved_at - stamp.oldest_reading_at, 3)
        )
        document["taps"].update(zip(self._circuit.regulators, solution.taps, strict=True))
        self._fill_voltages(solution)
        self._fill_loads(solution)
        document["voltage_profile"], problems = self._voltage_profile(solution.v_pu)
        problems += self._fill_transformers(solution)
        document["power_summary"] = self._power_summary(solution)
        document["management_status"] = _management_status(solution.converged, problems)
        return orjson.dumps(document)

    def _fill_voltages(self, solution: Solution) -> None:
        v_pu = solution.v_pu.round(6).tolist()
        angle_deg = solution.angle_deg.round(4).tolist()
        for cell, v, angle in zip(self._voltage_cells, v_pu, angle_deg, strict=True):
            cell["v_pu"] = v
            cell["angle_deg"] = angle

    def _fill_loads(self, solution: Solution) -> None:
        kw = solution.load_kva.real
        kvar = solution.load_kva.imag
        drawn = zip(self._load_cells, kw.round(4).tolist(), kvar.round(4).tolist(), strict=True)
        for cell, load_kw, load_kvar in drawn:
            cell["kw"] = load_kw
            cell["kvar"] = load_kvar
        self._bus_kw = np.bincount(self._load_bus, weights=kw, minlength=len(self._buses))
        self._bus_kvar = np.bincount(self._load_bus, weights=kvar, minlength=len(self._buses))
        of_bus = zip(
            self._loaded,
            self._bus_kw[self._loaded_index].round(4).tolist(),
            self._bus_kvar[self._loaded_index].round(4).tolist(),
            strict=True,
        )
        for bus, bus_kw, bus_kvar in of_bus:
            bus["load_kw"] = bus_kw
            bus["load_kvar"] = bus_kvar
            bus["net_kw"] = bus_kw

    def _voltage_profile(self, v_pu: Floats) -> tuple[dict[str, Any], list[str]]:
        energised = v_pu > DEAD_PU
        if not energised.any():
            nothing: dict[str, Any] = {
                "min_voltage_pu": 0.0,
                "min_voltage_bus": self._circuit.source_bus,
                "max_voltage_pu": 0.0,
                "max_voltage_bus": self._circuit.source_bus,
                "avg_voltage_pu": 0.0,
                "violations": [],
            }
            return nothing, []
        lowest = int(np.where(energised, v_pu, np.inf).argmin())
        highest = int(v_pu.argmax())
        violations = []
        low, high = self._limits.min_pu, self._limits.max_pu
        outside = (v_pu > high + VOLTAGE_TOLERANCE_PU) | (
            energised & (v_pu < low - VOLTAGE_TOLERANCE_PU)
        )
        for row in np.flatnonzero(outside).tolist():
            is_high = v_pu[row] > high
            violations.append(
                {
                    "bus": self._bus_of(row),
                    "phase": self._circuit.voltages.phase[row],
                    "v_pu": round(float(v_pu[row]), 6),
                    "limit_pu": high if is_high else low,
                    "kind": "overvoltage" if is_high else "undervoltage",
                }
            )
        profile = {
            "min_voltage_pu": round(float(v_pu[lowest]), 6),
            "min_voltage_bus": self._bus_of(lowest),
            "max_voltage_pu": round(float(v_pu[highest]), 6),
            "max_voltage_bus": self._bus_of(highest),
            "avg_voltage_pu": round(float(v_pu[energised].mean()), 6),
            "violations": violations,
        }
        return profile, [
            f"{v['kind']}: bus {v['bus']} phase {v['phase']} at {v['v_pu']:.4f} pu, "
            f"limit {v['limit_pu']} pu"
            for v in violations
        ]

    def _fill_transformers(self, solution: Solution) -> list[str]:
        apparent = self._bus_kw + 1j * self._bus_kvar
        loading = [abs(complex(apparent[buses].sum())) for buses in self._areas]
        loading += solution.transformer_kva
        problems = []
        for cell, kva in zip(self._transformers, loading, strict=True):
            percent = 100.0 * kva / cell["rating_kva"]
            overloaded = percent > OVERLOAD_PERCENT
            cell["loading_kva"] = round(kva, 4)
            cell["loading_percent"] = round(percent, 4)
            cell["status"] = "OVERLOADED" if overloaded else "OK"
            if overloaded:
                problems.append(
                    f"overload: transformer {cell['name']} at bus {cell['bus']} carries "
                    f"{kva:.1f} kVA of {cell['rating_kva']:g} kVA ({percent:.1f} %)"
                )
        return problems

    def _power_summary(self, solution: Solution) -> dict[str, float]:
        return {
            "total_circuit_power_kw": round(solution.source_kva.real, 4),
            "total_circuit_power_kvar": round(solution.source_kva.imag, 4),
            "total_losses_kw": round(solution.losses_kva.real, 4),
            "total_losses_kvar": round(solution.losses_kva.imag, 4),
            "total_load_kw": round(float(solution.load_kva.real.sum()), 4),
            "total_generation_kw": 0.0,
        }

    def _bus_of(self, row: int) -> str:
        return self._circuit.buses[int(self._circuit.voltages.bus[row])].name


def _transformer(name: str, kind: str, bus: str, kva: float) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "bus": bus,
        "rating_kva": kva,
        "loading_kva": 0.0,
        "loading_percent": 0.0,
        "status": "OK",
    }


def _management_status(converged: bool, problems: list[str]) -> dict[str, Any]:
    if not converged:
        text = "no convergence: the figures are those of the last solve that converged"
        return {"status": "ERROR", "management_log": [text]}
    return {"status": "ALERT" if problems else "OK", "management_log": problems}


def _timestamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
