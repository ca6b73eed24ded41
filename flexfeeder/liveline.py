"""One line on a terminal that says how the feeder is."""

import shutil
from collections.abc import Callable
from typing import Any, TextIO

import orjson

from services.logs import printable

REFRESH_S = 0.5
RATE_OVER_S = 3.0


def terminal_columns() -> int:
    """Width of this terminal."""
    return shutil.get_terminal_size().columns


class LiveLine:
    """Rewrites one line of a terminal as states come."""

    def __init__(self, terminal: TextIO, columns: Callable[[], int] = terminal_columns) -> None:
        self._terminal = terminal
        self._columns = columns
        self._due = 0.0
        self._samples: list[tuple[float, float, float]] = []

    def is_due(self, now: float) -> bool:
        """True when it is time to show something new."""
        return now >= self._due

    def show(self, state: bytes | None, figures: dict[str, float], now: float) -> None:
        """Show the newest state and the solver's counters."""
        self._due = now + REFRESH_S
        if state is None:
            self._write("no state has come yet")
            return
        solves = figures.get("solves", 0.0)
        readings = figures.get("readings_accepted", 0.0) + figures.get("readings_stale", 0.0)
        if self._samples and solves < self._samples[-1][1]:
            self._samples.clear()  # a new solver counts from zero
        self._samples.append((now, solves, readings))
        while now - self._samples[0][0] > RATE_OVER_S and len(self._samples) > 2:
            self._samples.pop(0)
        then, solves_then, readings_then = self._samples[0]
        span = max(now - then, REFRESH_S)
        rates = (
            f"{(readings - readings_then) / span:.0f} readings/s, "
            f"{(solves - solves_then) / span:.1f} solves/s"
        )
        try:
            text = describe(orjson.loads(state))
        except (ValueError, KeyError, TypeError):
            text = "the state cannot be read"
        self._write(f"{text} | {rates}")

    def _write(self, text: str) -> None:
        self._terminal.write(f"\r\x1b[K{text[: self._columns() - 1]}")
        self._terminal.flush()

    def close(self) -> None:
        self._terminal.write("\n")
        self._terminal.flush()


def describe(content: dict[str, Any]) -> str:
    """A state in a line: convergence, power, losses, lowest and highest voltage."""
    power = content["power_summary"]
    volts = content["voltage_profile"]
    text = (
        f"{content['feeder']} {'converged' if content['converged'] else 'NOT CONVERGED'} | "
        f"{power['total_circuit_power_kw']:,.1f} kW, losses {power['total_losses_kw']:.1f} kW | "
        f"{volts['min_voltage_pu']:.4f} pu ({volts['min_voltage_bus']}) to "
        f"{volts['max_voltage_pu']:.4f} pu ({volts['max_voltage_bus']})"
    )
    return printable(text)
