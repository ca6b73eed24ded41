"""The dashboards of Grafana, from a line a panel: ``python deploy/dashboards.py`` writes
``deploy/grafana/dashboards``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
HEIGHT = 8


@dataclass(frozen=True)
class Panel:
    """A graph of some expressions, each under what its legend says; ``unit`` is Grafana's."""

    title: str
    unit: str
    graphs: tuple[tuple[str, str], ...]
    width: int = 12
    kind: str = "timeseries"


def panel(title: str, unit: str, *graphs: tuple[str, str], width: int = 12) -> Panel:
    return Panel(title, unit, graphs, width)


def stat(title: str, unit: str, expression: str) -> Panel:
    """A single number."""
    return Panel(title, unit, ((expression, ""),), 4, "stat")


def quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """Median and 99th percentile of a histogram over the last minute."""
    grouped, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    return tuple(
        (f"histogram_quantile({q}, sum by ({grouped}) (rate({metric}_bucket[1m])))", name + legend)
        for q, name in (("0.5", "p50"), ("0.99", "p99"))
    )


def rate(metric: str, by: str) -> tuple[str, str]:
    return f"sum by ({by}) (rate({metric}[1m]))", " ".join(f"{{{{{b}}}}}" for b in by.split(", "))


S, M, G = "flexfeeder_solver_", "flexfeeder_dfp_manager_", "flexfeeder_gateway_"

DASHBOARDS = {
    "feeder": (
        "Feeder",
        [
            stat("Converged", "bool_yes_no", f"min({S}converged)"),
            stat("From the source", "kwatt", f"sum({S}source_kw)"),
            stat("Lowest voltage", "none", f"min({S}min_voltage_pu)"),
            stat("Highest voltage", "none", f"max({S}max_voltage_pu)"),
            stat("Overloaded transformers", "none", f"sum({S}overloaded_transformers)"),
            stat("Voltages out of limits", "none", f"sum({S}voltage_violations)"),
            panel(
                "Power",
                "kwatt",
                (f"{S}source_kw", "source {{feeder}}"),
                (f"{S}load_kw", "loads and devices {{feeder}}"),
                (f"{S}generation_kw", "generation {{feeder}}"),
            ),
            panel(
                "Voltage, pu",
                "none",
                (f"{S}min_voltage_pu", "lowest {{feeder}}"),
                (f"{S}max_voltage_pu", "highest {{feeder}}"),
            ),
            panel(
                "Held back",
                "kwatt",
                (f"{S}shed_kw", "demand {{feeder}}"),
                (f"{S}curtailed_generation_kw", "generation {{feeder}}"),
            ),
            panel("Losses", "kwatt", (f"{S}losses_kw", "{{feeder}}")),
            panel(
                "Over a limit",
                "none",
                (f"{S}overloaded_transformers", "transformers {{feeder}}"),
                (f"{S}voltage_violations", "voltages, {{kind}} {{feeder}}"),
            ),
            panel("Not following a setpoint", "none", (f"{S}not_following", "{{feeder}}")),
        ],
    ),
    "programs": (
        "Programs",
        [
            panel(
                "Programs",
                "none",
                (f"{M}programs", "registered {{feeder}}"),
                (f"{M}executing", "executing {{feeder}}"),
            ),
            panel(
                "Power held back",
                "kwatt",
                (f"{M}shed_kw", "by executions as they began {{feeder}}"),
                (f"{S}shed_kw", "now, by programs and relief {{feeder}}"),
            ),
            panel(
                "Revision of the adjustments",
                "none",
                (f"{M}revision", "to be in force {{feeder}}"),
                (f"{M}applied_revision", "in the state {{feeder}}"),
            ),
            panel("Commands", "reqps", rate(f"{M}commands_total", "command, outcome")),
            panel("Time to the answer", "s", *quantiles(f"{M}command_seconds", "command")),
            panel("Time of the store", "s", *quantiles(f"{M}store_seconds")),
        ],
    ),
    "messages": (
        "Message flow",
        [
            panel("Readings", "reqps", rate(f"{S}readings_total", "outcome")),
            panel("Age of the oldest reading", "s", (f"{S}oldest_reading_seconds", "{{feeder}}")),
            panel("Commands", "reqps", rate(f"{S}commands_total", "command, outcome")),
            panel("Arrival to reply", "s", *quantiles(f"{S}command_seconds", "command")),
            panel("Waiting in the inbox", "none", (f"{S}inbox_messages", "{{feeder}}")),
            panel("Commands in a batch", "none", *quantiles(f"{S}batch_commands")),
            panel("Requests", "reqps", rate(f"{G}requests_total", "method, route, status")),
            panel("Request to answer", "s", *quantiles(f"{G}request_seconds", "route")),
            panel(
                "Under way",
                "none",
                (f"{G}requests_in_flight", "requests"),
                (f"{G}replies_awaited", "replies awaited"),
                (f"{G}readers", "readers of events"),
            ),
            panel(
                "Dropped",
                "none",
                (f"{S}messages_dropped_total", "solver"),
                (f"{M}messages_dropped_total", "program manager"),
                (f"{G}messages_dropped_total", "gateway"),
            ),
        ],
    ),
    "health": (
        "Service health",
        [
            panel("Up", "bool_yes_no", ('up{job="flexfeeder"}', "{{instance}}")),
            panel(
                "Owner and its fence",
                "none",
                (f"{S}owner", "owns {{feeder}} {{instance}}"),
                (f"{S}fence", "fence {{feeder}} {{instance}}"),
            ),
            panel("Cycle", "s", *quantiles(f"{S}cycle_seconds")),
            panel("Solve", "s", *quantiles(f"{S}solve_seconds")),
            panel("Journal, append", "s", *quantiles(f"{S}journal_append_seconds")),
            panel(
                "Snapshots",
                "s",
                (f"{S}snapshot_seconds", "the last one took {{feeder}}"),
            ),
            panel(
                "Away",
                "bool_yes_no",
                (f"{S}store_away", "store, for the solver"),
                (f"{M}store_away", "store, for the program manager"),
                (f"1 - {G}broker_connected", "broker, for the gateway"),
            ),
            panel(
                "Reconnects",
                "none",
                (f"{S}reconnects_total", "solver {{connection}}"),
                (f"{M}reconnects_total", "program manager {{connection}}"),
                (f"{G}reconnects_total", "gateway"),
            ),
            panel("Age of the newest state", "s", (f"{G}state_age_seconds", "{{feeder}}")),
            panel("Engine rebuilt", "none", (f"{S}rebuilds_total", "{{feeder}}")),
            panel("Memory", "bytes", ("process_resident_memory_bytes", "{{instance}}")),
            panel(
                "Processor", "percentunit", ("rate(process_cpu_seconds_total[1m])", "{{instance}}")
            ),
        ],
    ),
}


def dashboard(uid: str, title: str, panels: list[Panel]) -> dict[str, Any]:
    """A dashboard in Grafana's JSON, its panels from left to right and from above to below."""
    placed = []
    x = y = 0
    for number, each in enumerate(panels, 1):
        height = HEIGHT // 2 if each.kind == "stat" else HEIGHT
        if x + each.width > COLUMNS:
            x, y = 0, y + height
        placed.append(_panel(number, each, {"x": x, "y": y, "w": each.width, "h": height}))
        x += each.width
        if x == COLUMNS:
            x, y = 0, y + height
    return {
        "uid": f"flexfeeder-{uid}",
        "title": f"FlexFeeder: {title}",
        "tags": ["flexfeeder"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["flexfeeder"], "title": "FlexFeeder"}],
        "panels": placed,
    }


def _panel(number: int, each: Panel, position: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": each.kind,
        "title": each.title,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": each.unit}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": expression} | _legend(legend)
            for n, (expression, legend) in enumerate(each.graphs)
        ],
    }


def _legend(legend: str) -> dict[str, str]:
    return {"legendFormat": legend} if legend else {}


def files() -> dict[Path, bytes]:
    """What is to stand in each file."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {
        FOLDER / f"{uid}.json": orjson.dumps(dashboard(uid, title, panels), option=option)
        for uid, (title, panels) in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, content in files().items():
        path.write_bytes(content)
