"""OpenDSS behind a thin wrapper: the only module that imports it.

The engine keeps a current element and circuit, so it belongs to one thread. The hot path uses
typed calls and array reads; text commands occur while a feeder is compiled and where ``placing``
connects something, and never with anything that came in a message.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

# Set before the import: arrays instead of lists (which would do, slower), and no editor that a
# script could start.
os.environ.setdefault("OPENDSSDIRECT_PY_USE_NUMPY", "1")
os.environ.setdefault("DSS_CAPI_ALLOW_EDITOR", "0")

from opendssdirect import dss

from services.solver.bus_rule import DemandInForce
from services.solver.demand import GenerationInForce
from services.solver.elements import NominalLoad
from services.solver.feeder import Feeder, FeederError, circuit_problems
from services.solver.network import (
    PHASE_LETTERS,
    Bus,
    Circuit,
    Floats,
    Indices,
    Line,
    Transformer,
    distances_km,
    grounded_buses,
    voltage_rows,
)
from services.solver.placing import Placing
from services.solver.roster import Placement
from services.solver.solution import Complexes, Solution


@dataclass(frozen=True, slots=True)
class LoadModel:
    """How a load depends on its voltage: OpenDSS's number, and between which pu it holds."""

    number: int
    min_pu: float
    max_pu: float

    def apply(self) -> None:
        """Give the engine's active load this model."""
        dss.Loads.Model(self.number)
        dss.Loads.Vminpu(self.min_pu)
        dss.Loads.Vmaxpu(self.max_pu)


_CONSTANT_POWER = LoadModel(1, 0.5, 1.5)

_DEGREES = 180.0 / np.pi

_DEAD_KW = 1e-6
"""What a load on a bus without voltage may seem to draw."""

_HIGHEST_PU = 5.0
"""A solved voltage above this is no voltage, whatever the engine says of convergence."""

_TOLERANCE = 1e-6
"""Change of voltage, pu, below which an iteration has converged. With the engine's own 1e-4 the
same demand gives voltages up to 2e-5 pu apart, depending on where the solve came from."""

_ITERATIONS = 60
_CONTROL_ITERATIONS = 60
"""What a feeder of 8500 nodes may need from a cold start: iterations of the power flow, and moves
of regulators and capacitors. The engine's own limits, 15 and 10, are too low for it."""

_CONTROLS_ACT = 0
_CONTROLS_OFF = -1
"""OpenDSS's control modes: static, and taps and capacitors locked."""

_KM = {0: 1.0, 1: 1.609344, 2: 0.3048, 3: 1.0, 4: 0.001, 5: 0.0003048, 6: 2.54e-5, 7: 1e-5}
"""Kilometres in OpenDSS's units of length, by their number; 0 is 'none', taken as kilometres."""


class Engine:
    """One compiled feeder in OpenDSS.

    Raises:
        FeederError: when the feeder does not compile, or does not fit its ``feeder.toml``.

    """

    def __init__(self, feeder: Feeder) -> None:
        self._feeder = feeder
        self._spelling = feeder.spelling()
        self._compile()
        self.circuit = self._read_circuit()
        self._rows_from, self._rows_to = self._voltage_rows()
        names = [name.lower() for name in dss.Circuit.AllElementNames()]
        positions = {name: index for index, name in enumerate(names)}
        self._load_positions = np.array(
            [positions[f"load.{load.name.lower()}"] for load in self.circuit.loads], dtype=np.intp
        )
        self._generator_positions = np.zeros(0, dtype=np.intp)
        self._own_generators = int(dss.Generators.Count())
        self._source_positions = np.array(
            [i for i, name in enumerate(names) if name.startswith("vsource.")], dtype=np.intp
        )
        self._nominal = self._nominal_models()
        self._is_constant = [False] * len(self._nominal)
        self._asked_kw = np.zeros(len(self._nominal))
        self._slack_kw = np.full(len(self._nominal), np.inf)
        self._rated = [i for i, t in enumerate(self.circuit.transformers, 1) if not t.regulates]
        self._placing = Placing(dss, len(self._nominal))
        self._source_windings: dict[int, Collection[int]] = {}
        self._check_neighbourhoods()
        self._last = self.blank()

    def face_source(self, windings: Mapping[int, Collection[int]]) -> None:
        """Say which windings of a transformer (by its index in the circuit) face the source, so
        that its power has a direction; the first one unless said.
        """
        self._source_windings = {index + 1: faced for index, faced in windings.items()}

    def place(self, placements: Sequence[Placement]) -> None:
        """Connect what has come, and leave what has gone where it draws nothing."""
        placing = self._placing
        is_rebuilt = False
        for element, connection, machine, is_there in placements:
            row = element.row
            if is_there:
                is_rebuilt |= (
                    placing.device(row, connection, self._device_made)
                    if machine is None
                    else placing.generator(row, machine, self._generator_made)
                )
            elif machine is not None:
                placing.silence(row)
            else:
                self._set_load(row, 0.0, 0.0)
                self._asked_kw[row] = 0.0
        if is_rebuilt:
            # From the old voltages, one solve in 500 or so would not converge.
            self._start_cold()

    def set_loads(self, demands: Sequence[DemandInForce]) -> None:
        """Give loads and devices their demand (kW, kvar) and their model."""
        if not demands:
            return
        # The layer below dss.Loads: the same typed calls without an error check after each, which
        # is half their time. The next checked call, Solve at the latest, reports what went wrong.
        native = dss.dss_lib
        activate, set_kw, set_kvar = (
            native.Loads_Set_idx,
            native.Loads_Set_kW,
            native.Loads_Set_kvar,
        )
        is_constant = self._is_constant
        rows, _, kws, kvars, _, _, constant, *_ = zip(*demands, strict=True)
        for row, kw, kvar, is_now_constant in zip(rows, kws, kvars, constant, strict=True):
            activate(row + 1)
            set_kw(kw)
            set_kvar(kvar)  # after kW, which would derive it from the power factor
            if is_now_constant != is_constant[row]:
                is_constant[row] = is_now_constant
                (_CONSTANT_POWER if is_now_constant else self._nominal[row]).apply()
        where = np.array(rows, dtype=np.intp)
        self._asked_kw[where] = asked = np.array(kws)
        slack = np.maximum(0.01, 0.001 * np.abs(asked))
        self._slack_kw[where] = np.where(constant, slack, np.inf)

    def set_generators(self, generation: Sequence[GenerationInForce]) -> None:
        """Give generators their production (kW, kvar)."""
        native = dss.dss_lib
        for row, _, kw, kvar, *_ in generation:
            if self._placing.has_own_kvar(row):
                self._placing.power(row, kw, kvar)
                continue
            native.Generators_Set_idx(self._own_generators + row + 1)
            native.Generators_Set_kW(kw)
            native.Generators_Set_kvar(kvar)  # after kW, as with loads

    def solve(self, *, controls: bool = True) -> Solution:
        """Solve, with regulators and capacitors acting unless ``controls`` is false.

        What does not converge from the voltages of the last solve is tried once more from a cold
        start: they may be what spoils it. If that fails too, or gives what no feeder can, the
        last good solution is returned, marked as not converged, and the engine is left fit to
        try again, with the taps of that solution.
        """
        dss.Solution.ControlMode(_CONTROLS_ACT if controls else _CONTROLS_OFF)
        solution, iterations = self._try()
        if solution is None:
            self._start_cold(controls=controls)
            self._set_taps(self._last.taps)
            solution, iterations = self._try()
        if solution is None:
            self._start_cold()
            self._set_taps(self._last.taps)
            return replace(self._last, converged=False, iterations=iterations)
        self._last = solution
        return solution

    def _try(self) -> tuple[Solution | None, int]:
        """One solve, and its iterations; None where it gives nothing to go by."""
        try:
            dss.Solution.Solve()
            converged = bool(dss.Solution.Converged())
        except dss.DSSException:
            # The limit of control iterations ends in an exception and leaves Converged() true.
            converged = False
        iterations = int(dss.Solution.Iterations())
        self._placing.settle()
        return (self._read(iterations) if converged else None), iterations

    def _set_load(self, row: int, kw: float, kvar: float) -> None:
        dss.Loads.Idx(row + 1)
        dss.Loads.kW(kw)
        dss.Loads.kvar(kvar)

    def _device_made(self) -> None:
        """A row more of loads and devices, at the end of the engine's list of elements."""
        newest = int(dss.Circuit.NumCktElements()) - 1
        self._load_positions = np.append(self._load_positions, newest)
        self._asked_kw = np.append(self._asked_kw, 0.0)
        self._slack_kw = np.append(self._slack_kw, 0.01)
        self._is_constant.append(True)
        self._nominal.append(_CONSTANT_POWER)
        self._last = replace(self._last, load_kva=np.append(self._last.load_kva, 0j))

    def _generator_made(self) -> None:
        newest = int(dss.Circuit.NumCktElements()) - 1
        self._generator_positions = np.append(self._generator_positions, newest)
        self._last = replace(self._last, generator_kva=np.append(self._last.generator_kva, 0j))

    def _read(self, iterations: int) -> Solution | None:
        """The engine's arrays as a solution; None if anything in them is not finite."""
        circuit = dss.Circuit
        volts = _complexes(circuit.AllBusVolts())
        across = volts[self._rows_from]
        if len(self._paired):
            across[self._paired] -= volts[self._rows_to]
        v_pu = np.abs(across) / self.circuit.voltages.base_v
        losses = _complexes(circuit.AllElementLosses())
        lost = complex(*circuit.Losses())
        # One comparison covers everything: NaN and infinity spread through sums.
        total = np.add.reduce(losses) + lost
        if not (np.isfinite(total) and np.maximum.reduce(v_pu, initial=0.0) < _HIGHEST_PU):
            return None
        load_kva = losses[self._load_positions]
        if self._has_collapsed(load_kva.real):
            return None
        return Solution(
            converged=True,
            iterations=iterations,
            v_pu=v_pu,
            angle_deg=_DEGREES * np.arctan2(across.imag, across.real),
            load_kva=load_kva,
            generator_kva=-losses[self._generator_positions],
            source_kva=-complex(np.add.reduce(losses[self._source_positions])),
            losses_kva=lost / 1000,
            transformer_kva=np.array(
                [self._transformer_kva(index) for index in self._rated], dtype=np.complex128
            ),
            taps=self._taps(),
        )

    def _has_collapsed(self, drawn_kw: Floats) -> bool:
        """True where a load of constant power draws something else.

        At a voltage where the feeder cannot supply it, the engine turns it into an impedance and
        calls the result converged. A load that draws nothing is not energised, and no sign of it.
        """
        off = np.abs(drawn_kw - self._asked_kw) > self._slack_kw
        return bool(np.logical_or.reduce(off)) and bool((np.abs(drawn_kw[off]) > _DEAD_KW).any())

    def _taps(self) -> tuple[int, ...]:
        native = dss.dss_lib
        taps = []
        for index in range(1, len(self.circuit.regulators) + 1):
            native.RegControls_Set_idx(index)
            taps.append(int(native.RegControls_Get_TapNumber()))
        return tuple(taps)

    def _set_taps(self, taps: tuple[int, ...]) -> None:
        for index, tap in enumerate(taps, 1):
            dss.RegControls.Idx(index)
            dss.RegControls.TapNumber(tap)

    def _transformer_kva(self, index: int) -> complex:
        """KVA at the winding that power leaves, positive where it leaves towards the loads."""
        dss.Transformers.Idx(index)
        windings = dss.Transformers.NumWindings()
        powers = _complexes(dss.CktElement.Powers()).reshape(windings, -1).sum(axis=1)
        leaves = int(np.argmin(powers.real))
        power = complex(powers[leaves])
        return power if leaves in self._source_windings.get(index, (0,)) else -power

    def _compile(self) -> None:
        dss.Basic.AllowChangeDir(False)
        dss.Basic.AllowEditor(False)
        try:
            dss.Text.Command("Clear")
            dss.Text.Command(f'Compile "{self._feeder.master.resolve()}"')
        except dss.DSSException as error:
            raise FeederError(self._feeder.master, [f"does not compile: {error}"]) from None
        if not dss.Circuit.NumBuses():
            raise FeederError(self._feeder.master, ["defines no circuit"])
        self._start_cold()

    def _start_cold(self, *, controls: bool = True) -> None:
        """Forget the voltages of the last solve, which may be what spoils the next one."""
        dss.Solution.Mode(0)
        dss.Solution.ControlMode(_CONTROLS_ACT if controls else _CONTROLS_OFF)
        dss.Solution.Convergence(_TOLERANCE)
        dss.Solution.MaxIterations(_ITERATIONS)
        dss.Solution.MaxControlIterations(_CONTROL_ITERATIONS)

    def _read_circuit(self) -> Circuit:
        dss.Vsources.First()
        source = _bus_name(dss.CktElement.BusNames()[0])
        lines = self._lines()
        transformers = self._transformers()
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
        loads = []
        load_phases = []
        for index in range(1, dss.Loads.Count() + 1):
            dss.Loads.Idx(index)
            where = dss.CktElement.BusNames()[0]
            loads.append(
                NominalLoad(
                    name=self._spelled("load", dss.Loads.Name()),
                    bus=_bus_name(where),
                    kw=float(dss.Loads.kW()),
                    kvar=float(dss.Loads.kvar()),
                )
            )
            load_phases.append(_phases(dss.CktElement.NodeOrder()))
        regulators = tuple(
            self._spelled("regcontrol", dss.RegControls.Name()) for _ in dss.RegControls
        )
        return Circuit(
            source_bus=source,
            buses=tuple(buses),
            lines=lines,
            transformers=transformers,
            loads=tuple(loads),
            load_phases=tuple(load_phases),
            regulators=regulators,
            voltages=voltage_rows(buses),
        )

    def _lines(self) -> tuple[Line, ...]:
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
        return tuple(lines) + self._series_reactors()

    def _series_reactors(self) -> tuple[Line, ...]:
        """Reactors between two buses: what is behind one is supplied through it, as by a line."""
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

    def _voltage_rows(self) -> tuple[Indices, Indices]:
        """Indices into the engine's node voltages: from where, and to where for phase pairs."""
        positions = {name.lower(): i for i, name in enumerate(dss.Circuit.AllNodeNames())}
        rows_from = []
        rows_to = []
        paired = []
        rows = zip(self.circuit.voltages.bus, self.circuit.voltages.phase, strict=True)
        for row, (bus, phase) in enumerate(rows):
            name = self.circuit.buses[int(bus)].name
            nodes = [positions[f"{name}.{'ABC'.index(letter) + 1}"] for letter in phase]
            rows_from.append(nodes[0])
            if len(nodes) == 2:
                rows_to.append(nodes[1])
                paired.append(row)
        self._paired = np.array(paired, dtype=np.intp)
        return np.array(rows_from, dtype=np.intp), np.array(rows_to, dtype=np.intp)

    def _nominal_models(self) -> list[LoadModel]:
        models = []
        for index in range(1, len(self.circuit.loads) + 1):
            dss.Loads.Idx(index)
            models.append(
                LoadModel(
                    int(dss.Loads.Model()), float(dss.Loads.Vminpu()), float(dss.Loads.Vmaxpu())
                )
            )
        return models

    def _check_neighbourhoods(self) -> None:
        problems = circuit_problems(
            self._feeder.config.neighbourhoods,
            {bus.name for bus in self.circuit.buses},
            {load.bus for load in self.circuit.loads},
        )
        if problems:
            raise FeederError(self._feeder.folder / "feeder.toml", problems)

    def blank(self) -> Solution:
        """What there is before the first solve."""
        rows = len(self.circuit.voltages.phase)
        return Solution(
            converged=False,
            iterations=0,
            v_pu=np.zeros(rows),
            angle_deg=np.zeros(rows),
            load_kva=np.zeros(len(self.circuit.loads), dtype=np.complex128),
            generator_kva=np.zeros(0, dtype=np.complex128),
            source_kva=0j,
            losses_kva=0j,
            transformer_kva=np.zeros(len(self._rated), dtype=np.complex128),
            taps=self._taps(),
        )

    def _spelled(self, kind: str, name: str) -> str:
        return self._spelling.get(f"{kind}.{name.lower()}", name)


def version() -> str:
    """The engine's own account of itself."""
    text: Any = dss.Basic.Version()
    return str(text).splitlines()[0]


def _complexes(pairs: Any) -> Complexes:
    """The engine's real and imaginary parts in turn, as complex numbers."""
    return np.asarray(pairs, dtype=np.float64).view(np.complex128)


def _bus_name(connection: str) -> str:
    return connection.split(".", 1)[0].lower()


def _phases(nodes: Any) -> tuple[int, ...]:
    return tuple(sorted({int(node) for node in nodes} & PHASE_LETTERS.keys()))
