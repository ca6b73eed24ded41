"""From the engine's arrays to a solution, or to none: what converges need not be true.

A circuit that is spoilt may give no numbers, or numbers that no feeder has, and call both a
solution. So nothing leaves the engine that is not finite, within bounds, and what was asked for.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from services.solver.circuit_reader import voltage_nodes
from services.solver.controls import Controls
from services.solver.network import Circuit, Floats, Indices
from services.solver.solution import Complexes, Solution

_DEGREES = 180.0 / np.pi

_DEAD_KW = 1e-6
"""What a load on a bus without voltage may seem to draw."""

_DEAD_PU = 1e-3
"""Below this a node is not energised."""

_HIGHEST_PU = 5.0
"""A solved voltage above this is no voltage, whatever the engine says of convergence."""

_MOST_V = 1e7
"""More than ten times the highest voltage at which anything is transmitted."""

_MOST_KVA = 1e7
"""KW or kvar that no element has, nor a whole feeder: the largest demand of a message, 1e6 kW, with
the largest factor, 10, and a hundred times what the largest substation delivers."""

_SHARE_OFF = 0.001
_KW_OFF = 0.01
"""How far from what is asked a load of constant power may be: the larger of the two."""


class Readout:
    """Reads the solutions of one circuit; knows where in the engine's arrays which element is."""

    def __init__(self, dss: Any, circuit: Circuit, controls: Controls) -> None:
        self._dss = dss
        self._controls = controls
        self._nodes = voltage_nodes(dss, circuit)
        self._base_v = circuit.voltages.base_v
        names = [name.lower() for name in dss.Circuit.AllElementNames()]
        positions = {name: index for index, name in enumerate(names)}
        self._own_loads = np.array(
            [positions[f"load.{load.name.lower()}"] for load in circuit.loads], dtype=np.intp
        )
        self._sources = np.array(
            [index for name, index in positions.items() if name.startswith("vsource.")],
            dtype=np.intp,
        )
        self._loads = self._own_loads
        self._generators = np.zeros(0, dtype=np.intp)
        self._asked_kw = np.zeros(len(self._loads))
        self._slack_kw = np.full(len(self._loads), np.inf)
        self._disabled = frozenset(
            row for row in range(len(self._loads)) if not self._is_enabled(row)
        )
        """Rows of loads that are so by the feeder's files."""
        self._energised = 0
        """Rows of voltages that had some in the first solution: nothing here opens a switch."""
        self._rated: list[tuple[int, Collection[int]]] = [
            (index, (0,))
            for index, transformer in enumerate(circuit.transformers, 1)
            if not transformer.regulates
        ]
        """Transformers that do not regulate, with the windings that face the source."""

    def face_source(self, windings: Mapping[int, Collection[int]]) -> None:
        """Say which windings of a transformer, by its index in the circuit, face the source; the
        first one unless said.
        """
        self._rated = [(index, windings.get(index - 1, faced)) for index, faced in self._rated]

    def forget_placed(self) -> None:
        """The circuit was compiled anew: nothing of ours is in it yet, and nothing was solved."""
        self._loads = self._own_loads
        self._generators = self._generators[:0]
        self._energised = 0

    def add_load(self) -> None:
        """The newest element is the load or device of the next row."""
        self._loads = np.append(self._loads, self._newest())
        if len(self._loads) > len(self._asked_kw):
            self._asked_kw = np.append(self._asked_kw, 0.0)
            self._slack_kw = np.append(self._slack_kw, _KW_OFF)

    def add_generator(self) -> None:
        """The newest element is the generator of the next row."""
        self._generators = np.append(self._generators, self._newest())

    def expect(self, rows: Indices, kw: Floats, are_constant: Sequence[bool]) -> None:
        """What loads and devices are to draw in kW; others than of constant power, about that."""
        self._asked_kw[rows] = kw
        slack = np.maximum(_KW_OFF, _SHARE_OFF * np.abs(kw))
        self._slack_kw[rows] = np.where(are_constant, slack, np.inf)

    def read(self, iterations: int) -> Solution | None:
        """What was solved; None where it cannot be what this feeder does."""
        circuit = self._dss.Circuit
        volts = complexes(circuit.AllBusVolts())
        losses = complexes(circuit.AllElementLosses())
        if not (_are_within(volts, _MOST_V) and _are_within(losses, _MOST_KVA)):
            return None
        across = volts[self._nodes.start]
        if len(self._nodes.paired):
            across[self._nodes.paired] -= volts[self._nodes.to]
        v_pu = np.abs(across) / self._base_v
        energised = int(np.count_nonzero(v_pu > _DEAD_PU))
        load_kva = losses[self._loads]
        if (
            energised < self._energised
            or np.maximum.reduce(v_pu, initial=0.0) > _HIGHEST_PU
            or not self._is_asked_for(load_kva.real)
        ):
            return None
        transformer_kva = np.array(
            [self._transformer_kva(index, faced) for index, faced in self._rated],
            dtype=np.complex128,
        )
        source_kva = -complex(np.add.reduce(losses[self._sources]))
        losses_kva = complex(complexes(circuit.Losses())[0]) / 1000
        if not (
            _are_within(transformer_kva, _MOST_KVA)
            and abs(source_kva) <= _MOST_KVA
            and abs(losses_kva) <= _MOST_KVA
        ):
            return None
        self._energised = self._energised or energised
        return Solution(
            converged=True,
            iterations=iterations,
            v_pu=v_pu,
            angle_deg=_DEGREES * np.arctan2(across.imag, across.real),
            load_kva=load_kva,
            generator_kva=-losses[self._generators],
            source_kva=source_kva,
            losses_kva=losses_kva,
            transformer_kva=transformer_kva,
            taps=self._controls.taps(),
            steps=self._controls.steps(),
        )

    def blank(self) -> Solution:
        """What there is before the first solve."""
        return Solution(
            converged=False,
            iterations=0,
            v_pu=np.zeros(len(self._base_v)),
            angle_deg=np.zeros(len(self._base_v)),
            load_kva=np.zeros(len(self._loads), dtype=np.complex128),
            generator_kva=np.zeros(len(self._generators), dtype=np.complex128),
            source_kva=0j,
            losses_kva=0j,
            transformer_kva=np.zeros(len(self._rated), dtype=np.complex128),
            taps=self._controls.taps(),
            steps=self._controls.steps(),
        )

    def _is_asked_for(self, drawn_kw: Floats) -> bool:
        """False where a load of constant power draws something else, or one was switched off.

        At a voltage where the feeder cannot supply it, the engine turns a load into an impedance
        and calls the result converged. One that draws nothing is not energised, and no sign of it.
        """
        drawn = np.abs(drawn_kw)
        off = np.abs(drawn_kw - self._asked_kw) > self._slack_kw
        if np.logical_or.reduce(off) and (drawn[off] > _DEAD_KW).any():
            return False
        is_silent = drawn <= _DEAD_KW
        if not np.logical_or.reduce(is_silent):
            return True
        silent = np.flatnonzero(is_silent & (self._asked_kw != 0.0)).tolist()
        return all(row in self._disabled or self._is_enabled(row) for row in silent)

    def _is_enabled(self, row: int) -> bool:
        self._dss.Loads.Idx(row + 1)
        return bool(self._dss.CktElement.Enabled())

    def _transformer_kva(self, index: int, faced: Collection[int]) -> complex:
        """KVA at the winding that power leaves, positive where it leaves towards the loads."""
        # The layer below for what cannot fail: a large feeder has a thousand of them.
        self._dss.dss_lib.Transformers_Set_idx(index)
        powers = complexes(self._dss.CktElement.TotalPowers())
        leaves = int(powers.real.argmin())
        power = complex(powers[leaves])
        return power if leaves in faced else -power

    def _newest(self) -> int:
        return int(self._dss.Circuit.NumCktElements()) - 1


def complexes(pairs: Any) -> Complexes:
    """The engine's real and imaginary parts in turn, as complex numbers."""
    return np.asarray(pairs, dtype=np.float64).view(np.complex128)


def _are_within(values: Complexes, most: float) -> bool:
    """True where the root of the sum of their squares is within ``most``, and so is each of them.
    NaN and infinity spread through the sum, and no bound holds them.
    """
    parts = values.view(np.float64)
    return bool(parts.dot(parts) <= most * most)
