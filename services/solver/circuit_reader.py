"""What a compiled circuit is: read from OpenDSS once, element by element.

This takes as long as compiling it, so nothing here belongs where a feeder is solved.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from services.solver.elements import NominalLoad
from services.solver.network import (
    PHASE_LETTERS,
    Bus,
    Circuit,
    Indices,
    Line,
    Transformer,
    distances_km,
    grounded_buses,
    voltage_rows,
)

_KM = {0: 1.0, 1: 1.609344, 2: 0.3048, 3: 1.0, 4: 0.001, 5: 0.0003048, 6: 2.54e-5, 7: 1e-5}
"""Kilometres in OpenDSS's units of length, by their number; 0 is 'none', taken as kilometres."""


class VoltageNodes(NamedTuple):
    """The rows of :class:`Voltages` as indices into the engine's node voltages: each from one
    node, and the rows of ``paired`` to another, one for one in ``to``.
    """

    start: Indices
    paired: Indices
    to: Indices


def voltage_nodes(dss: Any, circuit: Circuit) -> VoltageNodes:
    """Where the engine has the voltages that are shown."""
    positions = {name.lower(): i for i, name in enumerate(dss.Circuit.AllNodeNames())}
    start = []
    paired = []
    to = []
    rows = zip(circuit.voltages.bus, circuit.voltages.phase, strict=True)
    for row, (bus, phase) in enumerate(rows):
        name = circuit.buses[int(bus)].name
        nodes = [positions[f"{name}.{'ABC'.index(letter) + 1}"] for letter in phase]
        start.append(nodes[0])
        if len(nodes) == 2:
            to.append(nodes[1])
            paired.append(row)
    return VoltageNodes(
        np.array(start, dtype=np.intp), np.array(paired, dtype=np.intp), np.array(to, dtype=np.intp)
    )


class CircuitReader:
    """Reads the active circuit; ``spelling`` has names as people wrote them, by ``kind.name``."""

    def __init__(self, dss: Any, spelling: Mapping[str, str]) -> None:
        self._dss = dss
        self._spelling = spelling

    def read(self) -> Circuit:
        """The whole of it."""
        dss = self._dss
        dss.Vsources.First()
        source = _bus_name(dss.CktElement.BusNames()[0])
        lines = self._lines() + self._series_reactors()
        transformers = self._transformers()
        buses = self._buses(source, lines, transformers)
        loads, load_phases = self._loads()
        return Circuit(
            source_bus=source,
            buses=buses,
            lines=lines,
            transformers=transformers,
            loads=loads,
            load_phases=load_phases,
            regulators=self._regulators(),
            voltages=voltage_rows(buses),
        )

    def _buses(
        self, source: str, lines: tuple[Line, ...], transformers: tuple[Transformer, ...]
    ) -> tuple[Bus, ...]:
        dss = self._dss
        names = [name.lower() for name in dss.Circuit.AllBusNames()]
        distance = distances_km(source, names, lines, transformers)
        grounded = grounded_buses([source], names, lines, transformers)
        buses = []
        for name in names:
            dss.Circuit.SetActiveBus(name)
            has_place = dss.Bus.Coorddefined()
            buses.append(
                Bus(
                    name=name,
                    phases=_phases(dss.Bus.Nodes()),
                    kv_base=round(float(dss.Bus.kVBase()) * 3**0.5, 6),
                    x=float(dss.Bus.X()) if has_place else None,
                    y=float(dss.Bus.Y()) if has_place else None,
                    distance_km=distance[name],
                    grounded=name in grounded,
                )
            )
        return tuple(buses)

    def _loads(self) -> tuple[tuple[NominalLoad, ...], tuple[tuple[int, ...], ...]]:
        """Loads, and the phases of each."""
        dss = self._dss
        loads = []
        phases = []
        for index in range(1, dss.Loads.Count() + 1):
            dss.Loads.Idx(index)
            loads.append(
                NominalLoad(
                    name=self._spelled("load", dss.Loads.Name()),
                    bus=_bus_name(dss.CktElement.BusNames()[0]),
                    kw=float(dss.Loads.kW()),
                    kvar=float(dss.Loads.kvar()),
                )
            )
            phases.append(_phases(dss.CktElement.NodeOrder()))
        return tuple(loads), tuple(phases)

    def _lines(self) -> tuple[Line, ...]:
        dss = self._dss
        lines = []
        for _ in dss.Lines:
            ends = [_bus_name(name) for name in dss.CktElement.BusNames()]
            is_open = any(dss.CktElement.IsOpen(terminal, 0) for terminal in (1, 2))
            lines.append(
                Line(
                    name=self._spelled("line", dss.Lines.Name()),
                    from_bus=ends[0],
                    to_bus=ends[1],
                    phases=_phases(dss.CktElement.NodeOrder()),
                    length_km=float(dss.Lines.Length()) * _KM[int(dss.Lines.Units())],
                    is_switch=bool(dss.Lines.IsSwitch()),
                    closed=not is_open,
                )
            )
        return tuple(lines)

    def _series_reactors(self) -> tuple[Line, ...]:
        """Reactors between two buses: what is behind one is supplied through it, as by a line."""
        dss = self._dss
        reactors = []
        for _ in dss.Reactors:
            ends = [_bus_name(name) for name in dss.CktElement.BusNames()]
            if len(ends) != 2 or ends[0] == ends[1]:
                continue
            reactors.append(
                Line(
                    name=self._spelled("reactor", dss.Reactors.Name()),
                    from_bus=ends[0],
                    to_bus=ends[1],
                    phases=_phases(dss.CktElement.NodeOrder()),
                    length_km=0.0,
                    is_switch=False,
                    closed=not any(dss.CktElement.IsOpen(terminal, 0) for terminal in (1, 2)),
                )
            )
        return tuple(reactors)

    def _transformers(self) -> tuple[Transformer, ...]:
        dss = self._dss
        regulated = {dss.RegControls.Transformer().lower() for _ in dss.RegControls}
        transformers = []
        for _ in dss.Transformers:
            name = dss.Transformers.Name()
            buses = tuple(_bus_name(bus) for bus in dss.CktElement.BusNames())
            delta = []
            for winding in range(1, dss.Transformers.NumWindings() + 1):
                dss.Transformers.Wdg(winding)
                delta.append(bool(dss.Transformers.IsDelta()))
            dss.Transformers.Wdg(1)
            nodes = np.array(dss.CktElement.NodeOrder()).reshape(len(buses), -1)
            transformers.append(
                Transformer(
                    name=self._spelled("transformer", name),
                    buses=buses,
                    phases=tuple(_phases(winding) for winding in nodes),
                    delta=tuple(delta),
                    kva=float(dss.Transformers.kVA()),
                    regulates=name.lower() in regulated,
                )
            )
        return tuple(transformers)

    def _regulators(self) -> tuple[str, ...]:
        dss = self._dss
        names = []
        # By index, as their taps are read: an iteration leaves out what is disabled.
        for index in range(1, dss.RegControls.Count() + 1):
            dss.RegControls.Idx(index)
            names.append(self._spelled("regcontrol", dss.RegControls.Name()))
        return tuple(names)

    def _spelled(self, kind: str, name: str) -> str:
        return self._spelling.get(f"{kind}.{name.lower()}", name)


def _bus_name(connection: str) -> str:
    return connection.split(".", 1)[0].lower()


def _phases(nodes: Any) -> tuple[int, ...]:
    return tuple(sorted({int(node) for node in nodes} & PHASE_LETTERS.keys()))
