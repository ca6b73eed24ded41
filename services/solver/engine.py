"""OpenDSS behind a thin wrapper: the only module that imports it.

The engine keeps a current element and circuit, so it belongs to one thread. The hot path uses
typed calls and array reads; text commands occur while a feeder is compiled and where ``placing``
connects something, and never with anything that came in a message.

What a solve leaves behind may spoil every later one, so the circuit is expendable: what it was told
is kept here, and where it gives no solution it is compiled and told again.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

# Set before the import: arrays instead of lists (which would do, slower), and nothing that a
# script could start or go to, whatever the environment says.
os.environ.setdefault("OPENDSSDIRECT_PY_USE_NUMPY", "1")
os.environ["DSS_CAPI_ALLOW_EDITOR"] = "0"
os.environ["DSS_CAPI_ALLOW_DOSCMD"] = "0"
os.environ["DSS_CAPI_ALLOW_CHANGE_DIR"] = "0"

from opendssdirect import dss

from schemas.wire import canonical
from services.solver.bus_rule import DemandInForce
from services.solver.circuit_reader import CircuitReader
from services.solver.controls import Controls
from services.solver.demand import GenerationInForce
from services.solver.doubt import Doubt
from services.solver.feeder import Feeder, FeederError, circuit_problems
from services.solver.load_powers import LoadPowers
from services.solver.placing import Placing
from services.solver.readout import Readout
from services.solver.roster import Placement
from services.solver.solution import Positions, Solution


@dataclass(frozen=True, slots=True)
class LoadModel:
    """How a load depends on its voltage: OpenDSS's number, and between which pu it holds."""

    number: int
    min_pu: float
    max_pu: float

    def replace(self, other: "LoadModel") -> None:
        """Give the engine's active load this model in place of the other. What they have in common
        is not set again: for a limit of voltage, even the same one, the engine builds its matrix
        anew, which takes many times as long as a solve.
        """
        if self.number != other.number:
            dss.Loads.Model(self.number)
        if self.min_pu != other.min_pu:
            dss.Loads.Vminpu(self.min_pu)
        if self.max_pu != other.max_pu:
            dss.Loads.Vmaxpu(self.max_pu)


_CONSTANT_POWER = LoadModel(1, 0.5, 1.5)

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


class Engine:
    """One compiled feeder in OpenDSS.

    Raises:
        FeederError: when the feeder does not compile, or does not fit its ``feeder.toml``.

    """

    def __init__(self, feeder: Feeder) -> None:
        self.rebuilds = 0
        """How often the circuit was built anew."""
        self._feeder = feeder
        self._scripts = _scripts(feeder.folder)
        self._compile()
        self.circuit = CircuitReader(dss, feeder.spelling()).read()
        self._check_neighbourhoods()
        self._elements = dss.Circuit.AllElementNames()
        self._own_generators = int(dss.Generators.Count())
        self._nominal = self._nominal_models()
        self._is_constant = [False] * len(self._nominal)
        self._placing = Placing(dss, len(self._nominal))
        self._load_powers = LoadPowers(dss)
        self._controls = Controls(dss)
        self._readout = Readout(dss, self.circuit, self._controls)
        self._demands: dict[int, DemandInForce] = {}
        self._generation: dict[int, GenerationInForce] = {}
        self._doubt = Doubt()
        self._last = self.blank()

    def face_source(self, windings: Mapping[int, Collection[int]]) -> None:
        """Say which windings of a transformer (by its index in the circuit) face the source, so
        that its power has a direction; the first one unless said.
        """
        self._readout.face_source(windings)

    def place(self, placements: Sequence[Placement]) -> None:
        """Connect what has come, and leave what has gone where it draws nothing."""
        if not placements:
            return
        self._doubt.asked()
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
                self._generation.pop(row, None)
            else:
                self._set_load(row, 0.0, 0.0)
                self._demands.pop(row, None)
        if is_rebuilt:
            # From the old voltages, one solve in 500 or so would not converge.
            self._start_cold()

    def set_loads(self, demands: Sequence[DemandInForce]) -> None:
        """Give loads and devices their demand (kW, kvar) and their model."""
        if not demands:
            return
        self._doubt.asked()
        rows, _, kws, kvars, _, _, constant, *_ = zip(*demands, strict=True)
        where, kw = np.array(rows, dtype=np.intp), np.array(kws, dtype=np.float64)
        self._load_powers.set(where, kw, np.array(kvars))
        is_constant = self._is_constant
        for row, is_now_constant in zip(rows, constant, strict=True):
            if is_now_constant != is_constant[row]:
                is_constant[row] = is_now_constant
                dss.Loads.Idx(row + 1)
                if is_now_constant:
                    _CONSTANT_POWER.replace(self._nominal[row])
                else:
                    self._nominal[row].replace(_CONSTANT_POWER)
        self._demands.update(zip(rows, demands, strict=True))
        self._readout.expect(where, kw, constant)

    def set_generators(self, generation: Sequence[GenerationInForce]) -> None:
        """Give generators their production (kW, kvar)."""
        if not generation:
            return
        self._doubt.asked()
        # The layer below dss.Generators: the same typed calls without an error check after each,
        # which is half their time. The next checked call, Solve at the latest, reports what went
        # wrong.
        native = dss.dss_lib
        for produced in generation:
            row, _, kw, kvar, *_ = produced
            self._generation[row] = produced
            if self._placing.has_own_kvar(row):
                self._placing.power(row, kw, kvar)
                continue
            native.Generators_Set_idx(self._own_generators + row + 1)
            native.Generators_Set_kW(kw)
            native.Generators_Set_kvar(kvar)  # after kW, as with loads

    def solve(self, *, controls: bool = True) -> Solution:
        """Solve, with regulators and capacitors acting unless ``controls`` is false.

        What does not converge from the voltages of the last solve, or gives what no feeder can, is
        tried once more from a cold start, with taps and capacitors as the last good solution left
        them: those voltages may be what spoils it. If that fails too, the circuit may be: it is
        built anew, as often as :class:`Doubt` allows, and tried a third time. If nothing helps,
        the last good solution is returned, marked as not converged, and the engine is left fit to
        try again from there.

        Raises:
            FeederError: when the circuit can no longer be built from the feeder's files. There is
                nothing left to solve then.

        """
        solution = self._try(controls=controls)
        if solution is None:
            solution = self._try(controls=controls, is_cold=True)
        if solution is None and self._doubt.failed():
            if self._rebuild():
                solution = self._try(controls=controls, is_cold=True)
            self._doubt.rebuilt(helped=solution is not None)
        if solution is None:
            return self._give_up()
        self._doubt.solved()
        self._last = solution
        return solution

    def positions(self) -> Positions:
        """Where regulators and capacitors stand by the last good solution, or were set since."""
        return Positions(
            dict(zip(self.circuit.regulators, self._last.taps, strict=True)),
            dict(zip(self._controls.capacitors, self._last.steps, strict=True)),
        )

    def set_positions(self, positions: Positions) -> None:
        """Put regulators and capacitors there, as a start for the next solve, which is a cold one:
        it depends on nothing else that was. Others stay where they are, and names that the feeder
        does not have are ignored.
        """
        taps = {canonical(name): tap for name, tap in positions.taps.items()}
        steps = {canonical(name): of for name, of in positions.steps.items()}
        now = self.positions()
        self._controls.set(
            tuple(taps.get(canonical(name), tap) for name, tap in now.taps.items()),
            tuple(steps.get(canonical(name), of) for name, of in now.steps.items()),
        )
        self._last = replace(self._last, taps=self._controls.taps(), steps=self._controls.steps())
        self._rewind()

    def blank(self) -> Solution:
        """What there is before the first solve."""
        return self._readout.blank()

    def _try(self, *, controls: bool, is_cold: bool = False) -> Solution | None:
        """One solve; None where it gives nothing to go by."""
        try:
            if is_cold:
                self._rewind()
            dss.Solution.ControlMode(_CONTROLS_ACT if controls else _CONTROLS_OFF)
            dss.Solution.Solve()
            self._placing.settle()
            if not dss.Solution.Converged():
                return None
            return self._readout.read(int(dss.Solution.Iterations()))
        except (dss.DSSException, IndexError):
            # The limit of control iterations, which leaves Converged() true; or a circuit that the
            # engine can do nothing with, or that is another one.
            return None

    def _give_up(self) -> Solution:
        """The last good solution, and an engine that goes on from there, if there still is one."""
        iterations = 0
        with suppress(dss.DSSException):
            iterations = int(dss.Solution.Iterations())
            self._rewind()
        return replace(self._last, converged=False, iterations=iterations)

    def _rewind(self) -> None:
        """Where the last good solution left off, but for its voltages, and for the kvar with which
        generators held theirs.
        """
        self._start_cold()
        self._controls.set(self._last.taps, self._last.steps)
        for row, produced in self._generation.items():
            if self._placing.has_own_kvar(row):
                self._placing.power(row, produced.kw, produced.kvar)

    def _rebuild(self) -> bool:
        """The circuit compiled anew, and told everything again; False where the feeder's scripts
        are no longer those it was compiled from. One that may be sound is not given up for another.

        Raises:
            FeederError: when it does not compile, or to something else than before.

        """
        if _scripts(self._feeder.folder) != self._scripts:
            return False
        self._compile()
        if dss.Circuit.AllElementNames() != self._elements:
            raise FeederError(self._feeder.master, ["has other elements than it had at the start"])
        self.rebuilds += 1
        own = len(self.circuit.loads)
        self._is_constant = [row >= own for row in range(len(self._is_constant))]
        self._readout.forget_placed()
        self._placing.make_again(self._readout.add_load, self._readout.add_generator)
        self.set_loads(list(self._demands.values()))
        self.set_generators(list(self._generation.values()))
        return True

    def _set_load(self, row: int, kw: float, kvar: float) -> None:
        dss.Loads.Idx(row + 1)
        dss.Loads.kW(kw)
        dss.Loads.kvar(kvar)
        self._readout.expect(np.array([row]), np.array([kw]), [True])

    def _device_made(self) -> None:
        """A row more of loads and devices."""
        self._readout.add_load()
        self._is_constant.append(True)
        self._nominal.append(_CONSTANT_POWER)
        self._last = replace(self._last, load_kva=np.append(self._last.load_kva, 0j))

    def _generator_made(self) -> None:
        self._readout.add_generator()
        self._last = replace(self._last, generator_kva=np.append(self._last.generator_kva, 0j))

    def _compile(self) -> None:
        dss.Basic.AllowChangeDir(False)
        dss.Basic.AllowDOScmd(False)
        dss.Basic.AllowEditor(False)
        try:
            dss.Text.Command("Clear")
            dss.Text.Command(f'Compile "{self._feeder.master.resolve()}"')
        except dss.DSSException as error:
            raise FeederError(self._feeder.master, [f"does not compile: {error}"]) from None
        if not dss.Circuit.NumBuses():
            raise FeederError(self._feeder.master, ["defines no circuit"])
        self._start_cold()

    def _start_cold(self) -> None:
        """Forget the voltages of the last solve, which may be what spoils the next one."""
        dss.Solution.Mode(0)
        dss.Solution.Convergence(_TOLERANCE)
        dss.Solution.MaxIterations(_ITERATIONS)
        dss.Solution.MaxControlIterations(_CONTROL_ITERATIONS)

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


def version() -> str:
    """The engine's own account of itself."""
    text: Any = dss.Basic.Version()
    return str(text).splitlines()[0]


def _scripts(folder: Path) -> dict[Path, bytes]:
    """What the scripts of a feeder say, as far as telling one from another. Not what else is in its
    folder: the engine writes there what scripts tell it to.
    """
    found = {}
    for path in folder.rglob("*"):
        if path.suffix.lower() == ".dss":
            with suppress(OSError):
                found[path] = blake2b(path.read_bytes()).digest()
    return found
