"""The line on a terminal."""

import io
import json
from typing import Any

from flexfeeder.liveline import LiveLine

STATE: dict[str, Any] = {
    "feeder": "ieee123",
    "converged": True,
    "power_summary": {"total_circuit_power_kw": 3620.92, "total_losses_kw": 95.75},
    "voltage_profile": {
        "min_voltage_pu": 0.98574,
        "min_voltage_bus": "65",
        "max_voltage_pu": 1.04374,
        "max_voltage_bus": "150r",
    },
}


def shown(*samples: tuple[float, dict[str, float]], state: dict[str, Any] = STATE) -> str:
    """What stands on the terminal after these times and counters of the solver."""
    terminal = io.StringIO()
    line = LiveLine(terminal, columns=lambda: 200)
    for now, figures in samples:
        line.show(json.dumps(state).encode(), figures, now)
    return terminal.getvalue().rsplit("\r\x1b[K", 1)[1]


def test_it_says_convergence_power_losses_voltages_and_rates() -> None:
    line = shown(
        (0.0, {"solves": 0, "readings_accepted": 0}),
        (2.0, {"solves": 40, "readings_accepted": 182}),
    )
    assert line == (
        "ieee123 converged | 3,620.9 kW, losses 95.8 kW | "
        "0.9857 pu (65) to 1.0437 pu (150r) | 91 readings/s, 20.0 solves/s"
    )


def test_it_shouts_when_the_feeder_does_not_converge() -> None:
    assert shown((0.0, {}), state={**STATE, "converged": False}).startswith("ieee123 NOT CONVERGED")


def test_rates_start_anew_when_the_solver_does() -> None:
    """Its counters fall to zero then, and no rate is negative."""
    line = shown((0.0, {"solves": 1000}), (1.0, {"solves": 3}))
    assert line.endswith("0 readings/s, 0.0 solves/s")


def test_it_says_so_while_there_is_nothing_to_show() -> None:
    terminal = io.StringIO()
    LiveLine(terminal, columns=lambda: 200).show(None, {}, 0.0)
    assert terminal.getvalue().endswith("no state has come yet")


def test_it_never_wraps() -> None:
    terminal = io.StringIO()
    line = LiveLine(terminal, columns=lambda: 20)
    line.show(json.dumps(STATE).encode(), {}, 0.0)
    assert len(terminal.getvalue().rsplit("\x1b[K", 1)[1]) == 19
