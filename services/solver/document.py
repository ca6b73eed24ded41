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

from schemas.alerts import AlertKind
from services.solver.body import OVERLOAD_PERCENT, Body
from services.solver.elements import Element
from services.solver.feeder import FeederConfig
from services.solver.findings import Finding
from services.solver.network import Circuit, Floats, Indices
from services.solver.solution import Solution

VOLTAGE_TOLERANCE_PU = 5e-4
"""How far beyond a limit a voltage may be before it counts as a violation."""

DEAD_PU = 1e-3
"""Below this a node is not energised: it is shown, and left out of statistics and limits."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a state says of itself. ``solved_at`` and ``oldest_reading_at`` in epoch seconds;
    ``since`` is what had changed when it stopped converging, where it has.
    """

    version: int
    solved_at: float
    oldest_reading_at: float | None
    since: str = ""


class StateDocument:
    """The newest state of a feeder, by the contract of ``schemas.state``."""

    def __init__(
        self, feeder: str, config: FeederConfig, circuit: Circuit, loads: Sequence[Element]
    ) -> None:
        self.body = Body(config, circuit, loads)
        self._feeder = feeder
        self._limits = config.voltage_limits
        self._circuit = circuit
        self._bus_of_row: list[int] = circuit.voltages.bus.tolist()

    def update(
        self,
        solution: Solution,
        loading_kva: Floats,
        stamp: Stamp,
        actions: Sequence[str],
        findings: Sequence[Finding],
    ) -> tuple[bytes, list[Finding]]:
        """The state with this solution in it, encoded, and everything that is wrong in it.

        ``loading_kva`` is by transformer as the state lists them; ``actions`` say what relief does,
        ``findings`` what is known to be wrong beside voltages and loading.
        """
        profile = self._voltage_profile(solution.v_pu)
        overloaded = self.body.set_loading(loading_kva)
        if solution.converged:
            found = [
                *(_voltage(violation) for violation in profile["violations"]),
                *(_overload(rated.name, rated.bus, rated.kva, *at) for rated, *at in overloaded),
                *findings,
            ]
            status = "ALERT" if found else "OK"
        else:
            found = [_no_convergence(stamp.since)]
            status = "ERROR"
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
            "management_status": {
                "status": status,
                "management_log": [*(finding.message for finding in found), *actions],
            },
            "power_summary": _power_summary(solution),
            "voltage_profile": profile,
        }
        return self.body.encoded(solution, orjson.dumps(head)), found

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


def _no_convergence(since: str) -> Finding:
    return Finding(
        AlertKind.NO_CONVERGENCE,
        "feeder",
        "no convergence"
        + (f" since: {since}" if since else "")
        + "; the figures are those of the last solve that converged",
    )


def _voltage(violation: dict[str, Any]) -> Finding:
    kind, bus, phase = violation["kind"], violation["bus"], violation["phase"]
    v_pu, limit_pu = violation["v_pu"], violation["limit_pu"]
    return Finding(
        AlertKind(kind),
        f"bus {bus} phase {phase}",
        f"{kind}: bus {bus} phase {phase} at {v_pu:.4f} pu, limit {limit_pu} pu",
        v_pu,
        limit_pu,
    )


def _overload(name: str, bus: str, rating_kva: float, kva: float, percent: float) -> Finding:
    return Finding(
        AlertKind.OVERLOAD,
        f"transformer {name}",
        f"overload: transformer {name} at bus {bus} carries {kva:.1f} kVA of {rating_kva:g} kVA "
        f"({percent:.1f} %)",
        round(percent, 4),
        OVERLOAD_PERCENT,
    )


def _power_summary(solution: Solution) -> dict[str, float]:
    return {
        "total_circuit_power_kw": round(solution.source_kva.real, 4),
        "total_circuit_power_kvar": round(solution.source_kva.imag, 4),
        "total_losses_kw": round(solution.losses_kva.real, 4),
        "total_losses_kvar": round(solution.losses_kva.imag, 4),
        "total_load_kw": round(float(np.add.reduce(solution.load_kva.real)), 4),
        "total_generation_kw": round(float(np.add.reduce(solution.generator_kva.real)) + 0.0, 4),
    }


def _timestamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
