"""Result files of the solver, for people: the newest state, and what was done to the feeder."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.alerts import AlertEvent
from services.files import FileWriter
from services.solver.findings import Finding

LATEST = "latest_api_results.txt"
MANAGEMENT_LOG = "management_log.txt"

EVERY_S = 0.5
"""How often the newest state is written, if there is a newer one."""


class Reports:
    """Hands over to the thread that writes; nothing here takes the solver's time."""

    def __init__(self, files: FileWriter, newest: Callable[[], bytes]) -> None:
        self._files = files
        self._newest = newest
        self._written = b""
        self._due = 0.0
        self._relieved: frozenset[str] = frozenset()

    def beat(self, now: float) -> None:
        """Have the newest state written if it is time; ``now`` in monotonic seconds."""
        if now < self._due:
            return
        self._due = now + EVERY_S
        newest = self._newest()
        if newest is not self._written:
            self._written = newest
            self._files.replace(LATEST, lambda: latest(orjson.loads(newest)))

    def done(self, message: str, at: float) -> None:
        """A command took effect; ``at`` in epoch seconds."""
        self._append(at, "command", message)

    def alerts(self, events: Iterable[tuple[AlertEvent, Finding]], at: float) -> None:
        for event, finding in events:
            self._append(at, f"alert {event}s", finding.message)

    def relief(self, zones: frozenset[str], actions: Sequence[str], at: float) -> None:
        """What relief does now; written where it begins or ends at a zone."""
        if zones == self._relieved:
            return
        for zone in sorted(self._relieved - zones):
            self._append(at, "relief ends", f"zone {zone}")
        if zones - self._relieved:
            for action in actions:
                self._append(at, "relief", action)
        self._relieved = zones

    def close(self) -> None:
        """Have everything written that is not yet."""
        self._due = 0.0
        self.beat(0.0)
        self._files.close(1.0)

    def _append(self, at: float, what: str, text: str) -> None:
        time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        self._files.append(MANAGEMENT_LOG, f"{time}  {what:<12}  {text}")


def latest(state: dict[str, Any]) -> str:
    """The state as a page of text: convergence, totals, voltages, and a line for each bus."""
    power, profile = state["power_summary"], state["voltage_profile"]
    status = state["management_status"]
    converged = "converged" if state["converged"] else "NOT CONVERGED"
    kw, kvar = power["total_circuit_power_kw"], power["total_circuit_power_kvar"]
    lost_kw, lost_kvar = power["total_losses_kw"], power["total_losses_kvar"]
    lines = [
        f"feeder {state['feeder']}, version {state['version']}, solved at {state['solved_at']}",
        f"{converged} in {state['iterations']} iterations; status {status['status']}",
        "",
        f"source          {kw:12.3f} kW {kvar:12.3f} kvar",
        f"load            {power['total_load_kw']:12.3f} kW",
        f"generation      {power['total_generation_kw']:12.3f} kW",
        f"losses          {lost_kw:12.3f} kW {lost_kvar:12.3f} kvar",
        "",
        f"lowest voltage  {profile['min_voltage_pu']:.4f} pu at bus {profile['min_voltage_bus']}",
        f"highest voltage {profile['max_voltage_pu']:.4f} pu at bus {profile['max_voltage_bus']}",
        f"average voltage {profile['avg_voltage_pu']:.4f} pu",
        f"violations      {len(profile['violations'])}",
        "",
        *(f"- {line}" for line in status["management_log"]),
        "",
        f"{'bus':<12} {'load kW':>10} {'load kvar':>10} {'gen kW':>10}  voltages in pu",
        *(_bus(details) for details in state["bus_details"]),
        "",
    ]
    return "\n".join(lines)


def _bus(details: dict[str, Any]) -> str:
    voltages = "  ".join(
        f"{phase} {voltage['v_pu']:.4f}" for phase, voltage in details["phases"].items()
    )
    return (
        f"{details['bus']:<12} {details['load_kw']:10.3f} {details['load_kvar']:10.3f} "
        f"{details['gen_kw']:10.3f}  {voltages}"
    )
