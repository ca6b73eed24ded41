"""What the picture shows, read from the two documents."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

DEAD_PU = 1e-3


@dataclass(frozen=True, slots=True)
class Bus:
    """A bus; ``pu`` has its energised phases or phase pairs only.

    ``at`` is x and y in the units of the feeder's own drawing, y upwards.
    """

    name: str
    at: tuple[float, float] | None
    km: float
    pu: dict[str, float]


@dataclass(frozen=True, slots=True)
class Branch:
    """A line, switch, regulator or transformer; ``phases`` is None where all may pass."""

    name: str
    kind: str
    ends: tuple[Bus, Bus]
    phases: frozenset[str] | None
    closed: bool = True

    def shared(self) -> list[str]:
        """Phases and phase pairs that are energised at both ends and pass through the branch."""
        first, second = self.ends
        return [
            phase
            for phase in first.pu
            if phase in second.pu and (self.phases is None or self.phases.issuperset(phase))
        ]


class Extreme(NamedTuple):
    """The lowest or the highest voltage of the feeder."""

    word: str
    bus: Bus
    phase: str

    @property
    def pu(self) -> float:
        return self.bus.pu[self.phase]

    @property
    def where(self) -> str:
        return f"{short(self.bus.name, 16)} {self.phase}"


class Overload(NamedTuple):
    """A transformer loaded above its rating, and the name of its bus."""

    name: str
    bus: str
    percent: float
    rating_kva: float


@dataclass(frozen=True, slots=True)
class Feeder:
    """A feeder at one moment; overloads are sorted, the highest first."""

    name: str
    version: int
    solved_at: datetime
    converged: bool
    source_kw: float
    losses_kw: float
    buses: dict[str, Bus]
    branches: tuple[Branch, ...]
    source: Bus | None
    extremes: tuple[Extreme, ...]
    violating: tuple[str, ...]
    overloads: tuple[Overload, ...]
    taps: dict[str, int]


def read(topology: dict[str, Any], state: dict[str, Any]) -> Feeder:
    buses = _buses(topology, state)
    return Feeder(
        name=topology["name"],
        version=state["version"],
        solved_at=datetime.fromisoformat(state["solved_at"]).astimezone(UTC),
        converged=state["converged"],
        source_kw=state["power_summary"]["total_circuit_power_kw"],
        losses_kw=state["power_summary"]["total_losses_kw"],
        buses=buses,
        branches=tuple(_branches(topology, buses)),
        # The source is listed first among those at its distance.
        source=min(buses.values(), key=lambda bus: (bus.km, not bus.pu), default=None),
        extremes=_extremes(buses),
        violating=tuple(dict.fromkeys(v["bus"] for v in state["voltage_profile"]["violations"])),
        overloads=_overloads(state),
        taps=state["taps"],
    )


def _buses(topology: dict[str, Any], state: dict[str, Any]) -> dict[str, Bus]:
    volts = {
        bus["bus"]: {
            phase: value["v_pu"]
            for phase, value in bus["phases"].items()
            if DEAD_PU < value["v_pu"] < math.inf
        }
        for bus in state["bus_details"]
    }
    return {
        bus["bus"]: Bus(
            name=bus["bus"],
            at=None if bus["x"] is None or bus["y"] is None else (bus["x"], bus["y"]),
            km=bus["distance_km"],
            pu=volts.get(bus["bus"], {}),
        )
        for bus in topology["buses"]
    }


def _branches(topology: dict[str, Any], buses: dict[str, Bus]) -> Iterator[Branch]:
    for line in topology["lines"]:
        yield Branch(
            name=line["name"],
            kind="switch" if line["is_switch"] else "line",
            ends=(buses[line["from_bus"]], buses[line["to_bus"]]),
            phases=frozenset(line["phases"]),
            closed=line["closed"],
        )
    for transformer in topology["transformers"]:
        first, *others = dict.fromkeys(transformer["buses"])
        for other in others:
            ends = (buses[first], buses[other])
            yield Branch(transformer["name"], transformer["kind"], ends, phases=None)


def _extremes(buses: dict[str, Bus]) -> tuple[Extreme, ...]:
    """The lowest and then the highest; none if nothing is energised."""
    nodes = [(bus, phase) for bus in buses.values() for phase in bus.pu]
    if not nodes:
        return ()
    return Extreme("lowest", *min(nodes, key=_node_pu)), Extreme(
        "highest", *max(nodes, key=_node_pu)
    )


def _node_pu(node: tuple[Bus, str]) -> float:
    bus, phase = node
    return bus.pu[phase]


def _overloads(state: dict[str, Any]) -> tuple[Overload, ...]:
    overloads = (
        Overload(t["name"], t["bus"], t["loading_percent"], t["rating_kva"])
        for t in state["transformers"]
        if t["status"] == "OVERLOADED"
    )
    return tuple(sorted(overloads, key=lambda overload: -overload.percent))


def short(name: str, most: int) -> str:
    """A name in at most `most` characters."""
    return name if len(name) <= most else name[: most - 1] + "…"
