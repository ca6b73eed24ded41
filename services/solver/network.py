"""How a feeder is wired, and what follows from it: distances, grounding. Pure."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.solver.elements import NominalLoad

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

PHASE_LETTERS = {1: "A", 2: "B", 3: "C"}
"""Phases by the engine's node number; other nodes are neutrals."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line or switch; an open switch has ``closed`` False."""

    name: str
    from_bus: str
    to_bus: str
    phases: tuple[int, ...]
    length_km: float
    is_switch: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class Transformer:
    """A transformer; buses, their phases and delta connections in the order of its windings."""

    name: str
    buses: tuple[str, ...]
    phases: tuple[tuple[int, ...], ...]
    delta: tuple[bool, ...]
    kva: float
    regulates: bool


@dataclass(frozen=True, slots=True)
class Bus:
    """A bus; ``kv_base`` is line to line."""

    name: str
    phases: tuple[int, ...]
    kv_base: float
    x: float | None
    y: float | None
    distance_km: float
    grounded: bool


@dataclass(frozen=True, slots=True)
class Voltages:
    """What is shown of each bus's voltage: a row per phase, or per phase pair where ungrounded.

    ``bus`` is the row's bus by index, ``phase`` its name ("A", "AB"), ``base_v`` its base.
    """

    bus: Indices
    phase: tuple[str, ...]
    base_v: Floats


@dataclass(frozen=True, slots=True)
class Circuit:
    """A compiled feeder: everything about it that a solve does not change."""

    source_bus: str
    buses: tuple[Bus, ...]
    lines: tuple[Line, ...]
    transformers: tuple[Transformer, ...]
    loads: tuple[NominalLoad, ...]
    load_phases: tuple[tuple[int, ...], ...]
    regulators: tuple[str, ...]
    voltages: Voltages


def distances_km(
    source: str, buses: Iterable[str], lines: Sequence[Line], transformers: Sequence[Transformer]
) -> dict[str, float]:
    """Length of line from the source to each bus, over closed branches (Dijkstra).

    A bus that nothing closed leads to gets its distance over open switches, so that it still
    has a place in a drawing; one that nothing leads to at all gets 0.
    """
    closed = _shortest(source, _edges([line for line in lines if line.closed], transformers))
    any_way = _shortest(source, _edges(lines, transformers))
    return {bus: closed.get(bus, any_way.get(bus, 0.0)) for bus in buses}


def grounded_buses(
    sources: Iterable[str],
    buses: Iterable[str],
    lines: Sequence[Line],
    transformers: Sequence[Transformer],
) -> set[str]:
    """Buses whose wires lead to a grounded point: a source, or a wye winding.

    Elsewhere (behind a delta winding) the voltage to neutral means nothing. Open switches count
    as closed: how a bus is shown must not change when one is operated.
    """
    parent = {bus: bus for bus in buses}

    def root(bus: str) -> str:
        while parent[bus] != bus:
            parent[bus] = parent[parent[bus]]
            bus = parent[bus]
        return bus

    for line in lines:
        parent[root(line.from_bus)] = root(line.to_bus)
    earthed = {root(bus) for bus in sources}
    for transformer in transformers:
        for bus, delta in zip(transformer.buses, transformer.delta, strict=True):
            if not delta:
                earthed.add(root(bus))
    return {bus for bus in parent if root(bus) in earthed}


def voltage_rows(buses: Sequence[Bus]) -> Voltages:
    """The rows in which the buses' voltages are shown, bus by bus."""
    bus_of_row: list[int] = []
    phase: list[str] = []
    base_v: list[float] = []
    for index, bus in enumerate(buses):
        letters = [PHASE_LETTERS[number] for number in bus.phases]
        if bus.grounded:
            shown = letters
            base = bus.kv_base * 1000 / 3**0.5
        else:
            shown = [pair for pair in ("AB", "BC", "CA") if set(pair) <= set(letters)]
            base = bus.kv_base * 1000
        bus_of_row += [index] * len(shown)
        phase += shown
        base_v += [base or 1.0] * len(shown)
    return Voltages(np.array(bus_of_row, dtype=np.intp), tuple(phase), np.array(base_v))


def _edges(
    lines: Iterable[Line], transformers: Sequence[Transformer]
) -> dict[str, list[tuple[str, float]]]:
    edges: dict[str, list[tuple[str, float]]] = {}

    def join(a: str, b: str, km: float) -> None:
        edges.setdefault(a, []).append((b, km))
        edges.setdefault(b, []).append((a, km))

    for line in lines:
        join(line.from_bus, line.to_bus, line.length_km)
    for transformer in transformers:
        for bus in transformer.buses[1:]:
            join(transformer.buses[0], bus, 0.0)
    return edges


def _shortest(source: str, edges: dict[str, list[tuple[str, float]]]) -> dict[str, float]:
    reached: dict[str, float] = {}
    queue = [(0.0, source)]
    while queue:
        km, bus = heapq.heappop(queue)
        if bus in reached:
            continue
        reached[bus] = km
        for neighbour, length in edges.get(bus, ()):
            if neighbour not in reached:
                heapq.heappush(queue, (km + length, neighbour))
    return reached
