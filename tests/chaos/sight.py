"""What a state shows of loads, devices and generators: no more than commands can change."""

from collections.abc import Collection
from typing import Any, NamedTuple


class Key(NamedTuple):
    """An element: ``load``, ``device`` or ``generator``, its bus and its name."""

    kind: str
    bus: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} at bus {self.bus}"


class Shown(NamedTuple):
    """An element as a state has it; of a generator the demand is what is available."""

    demand_kw: float
    set_kw: float
    factor: float
    source: str
    held_by: tuple[str, ...]


class View(NamedTuple):
    """The elements at some buses."""

    buses: frozenset[str]
    elements: dict[Key, Shown]


def view_of(state: dict[str, Any], buses: Collection[str] | None = None) -> View:
    """What a state, or a minimal one, shows at these of its buses, or at all that it has."""
    elements = {}
    seen = set()
    for bus in state["bus_details"]:
        if buses is not None and bus["bus"] not in buses:
            continue
        seen.add(bus["bus"])
        for kind in ("load", "device", "generator"):
            for element in bus[f"{kind}s"]:
                elements[Key(kind, bus["bus"], element["name"])] = _shown(element)
    return View(frozenset(seen), elements)


def _shown(element: dict[str, Any]) -> Shown:
    return Shown(
        element["demand_kw"] if "demand_kw" in element else element["available_kw"],
        element["set_kw"],
        element.get("factor", 1.0),
        element["source"],
        tuple(element["held_by"]),
    )
