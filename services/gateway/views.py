"""Views of a feeder's newest state, as pure functions of the parsed documents.

What they return is described in :mod:`services.gateway.results`.
"""

from collections.abc import Iterator
from typing import Any

from schemas.wire import canonical

Document = dict[str, Any]


def bus(state: Document, topology: Document, name: str) -> Document | None:
    """Everything about one bus, with its place; None if there is no such bus."""
    wanted = canonical(name)
    found = next((b for b in state["bus_details"] if canonical(b["bus"]) == wanted), None)
    if found is None:
        return None
    place: Document = next((b for b in topology["buses"] if b["bus"] == found["bus"]), {})
    return {
        **found,
        "x": place.get("x"),
        "y": place.get("y"),
        "distance_km": place.get("distance_km"),
        "version": state["version"],
    }


def neighbourhoods(state: Document, topology: Document) -> list[Document]:
    """Demand, loading and voltages of each neighbourhood."""
    by_bus = {b["bus"]: b for b in state["bus_details"]}
    service = {t["name"]: t for t in state["transformers"] if t["kind"] == "service"}
    result = []
    for area in topology["neighbourhoods"]:
        buses = [by_bus[name] for name in area["buses"]]
        voltages = [p["v_pu"] for b in buses for p in b["phases"].values() if p["v_pu"] > 0]
        result.append(
            {
                "number": area["number"],
                "buses": area["buses"],
                "loads": sum(len(b["loads"]) for b in buses),
                "load_kw": round(sum(b["load_kw"] for b in buses), 4),
                "load_kvar": round(sum(b["load_kvar"] for b in buses), 4),
                "generation_kw": round(sum(b["gen_kw"] for b in buses), 4),
                "min_voltage_pu": min(voltages, default=None),
                "max_voltage_pu": max(voltages, default=None),
                "transformer": service[f"neighbourhood_{area['number']}"],
            }
        )
    return result


def voltage_profile(state: Document, topology: Document) -> Document:
    """Voltage in pu against distance from the source in km, per phase, nearest first."""
    distance = {b["bus"]: b["distance_km"] for b in topology["buses"]}
    phases: dict[str, list[Document]] = {}
    for details in state["bus_details"]:
        for phase, voltage in details["phases"].items():
            if voltage["v_pu"] > 0:
                phases.setdefault(phase, []).append(
                    {
                        "bus": details["bus"],
                        "distance_km": distance[details["bus"]],
                        "v_pu": voltage["v_pu"],
                    }
                )
    for points in phases.values():
        points.sort(key=lambda point: point["distance_km"])
    return {
        "version": state["version"],
        **state["voltage_profile"],
        "phases": dict(sorted(phases.items())),
    }


def transformers(state: Document, topology: Document) -> list[Document]:
    """Every transformer, whom it serves, and what relief holds down for its sake."""
    areas = {canonical(f"neighbourhood_{a['number']}"): a for a in topology["neighbourhoods"]}
    held: dict[str, list[Document]] = {}
    for bus_name, kind, element in _elements(state):
        for zone in element["held_by"]:
            held.setdefault(canonical(zone), []).append(
                {
                    "bus": bus_name,
                    "element": element["name"],
                    "kind": kind,
                    "wanted_kw": element["available_kw" if kind == "generator" else "demand_kw"],
                    "set_kw": element["set_kw"],
                }
            )
    result = []
    for transformer in state["transformers"]:
        zone = canonical(transformer["name"])
        area = areas.get(zone) if transformer["kind"] == "service" else None
        result.append(
            {
                **transformer,
                "neighbourhood": area["number"] if area else None,
                "buses": area["buses"] if area else None,
                "holds": held.get(zone, []),
            }
        )
    return result


def violations(state: Document) -> Document:
    """Everything that is over a limit now, or does not do as it is told."""
    return {
        "version": state["version"],
        "voltages": state["voltage_profile"]["violations"],
        "transformers": [t for t in state["transformers"] if t["status"] != "OK"],
        "not_following": [
            {
                "bus": bus_name,
                "element": element["name"],
                "kind": kind,
                "kw": element["kw"],
                "held_by": element["held_by"],
            }
            for bus_name, kind, element in _elements(state)
            if element["not_following"]
        ],
    }


def feeder(
    name: str, state: Document | None, topology: Document | None, *, online: bool
) -> Document:
    """One line about a feeder; what is not known yet is null."""
    return {
        "feeder": name,
        "name": topology["name"] if topology else None,
        "solver": "online" if online else "offline",
        "version": state["version"] if state else None,
        "solved_at": state["solved_at"] if state else None,
        "converged": state["converged"] if state else None,
        "status": state["management_status"]["status"] if state else None,
        "buses": len(topology["buses"]) if topology else None,
        "loads": len(topology["loads"]) if topology else None,
    }


def minimal(state: Document, buses: tuple[str, ...]) -> Document:
    """What ``Prefer: return=minimal`` leaves of a state: the summary and the buses touched."""
    touched = set(buses)
    return {
        "version": state["version"],
        "power_summary": state["power_summary"],
        "voltage_profile": state["voltage_profile"],
        "management_status": state["management_status"],
        "bus_details": [b for b in state["bus_details"] if b["bus"] in touched],
    }


def _elements(state: Document) -> Iterator[tuple[str, str, Document]]:
    """Bus, kind and document of each load, device and generator."""
    for details in state["bus_details"]:
        for kind in ("load", "device", "generator"):
            for element in details[f"{kind}s"]:
                yield details["bus"], kind, element
