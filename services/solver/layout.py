"""Where each figure stands among the holes of a state's text, and how precisely. Pure."""

from collections.abc import Sequence

import numpy as np

from services.solver.network import Floats, Indices
from services.solver.solution import Solution

_SHOWN = 1e4
"""Solved figures are shown to 1e-4: a tenth of a watt, 1e-4 degree."""

_SHOWN_PU = 1e6
"""Voltages to 1e-6 pu."""


class Layout:
    """The order is that of the text. A bus has ``v_pu, angle_deg`` for each of its rows of
    voltages; ``load_kw, load_kvar, gen_kw, net_kw``; for each of its loads and devices
    ``demand_kw, set_kw, kw, kvar, factor``; and for each of its generators ``available_kw, set_kw,
    kw, kvar``. After all buses comes ``loading_kva, loading_percent`` of each transformer.

    ``voltages`` counts the rows of each bus; ``consumers`` and ``generators`` give their rows by
    bus.
    """

    def __init__(
        self,
        voltages: Sequence[int],
        consumers: Sequence[Sequence[int]],
        generators: Sequence[Sequence[int]],
        transformers: int,
    ) -> None:
        shown = np.array(voltages, dtype=np.intp)
        consuming = np.array([len(rows) for rows in consumers], dtype=np.intp)
        generating = np.array([len(rows) for rows in generators], dtype=np.intp)
        sizes = 2 * shown + 4 + 5 * consuming + 4 * generating
        starts = np.concatenate(([0], np.cumsum(sizes)))
        at = starts[:-1]
        voltage = _spread(at, shown, 2)
        bus = at + 2 * shown
        consumer = _spread(bus + 4, consuming, 5)
        generator = _spread(bus + 4 + 5 * consuming, generating, 4)
        loading = int(starts[-1]) + 2 * np.arange(transformers)
        count = int(starts[-1]) + 2 * transformers
        self._buses = len(shown)
        self._rows = _flat(consumers)
        self._bus_of_row = np.repeat(np.arange(self._buses), consuming)
        self._generator_rows = _flat(generators)
        self._bus_of_generator = np.repeat(np.arange(self._buses), generating)
        exact = [*(consumer + offset for offset in (0, 1, 4)), generator, generator + 1]
        solved = [
            voltage,
            voltage + 1,
            *(bus + offset for offset in range(4)),
            consumer + 2,
            consumer + 3,
            generator + 2,
            generator + 3,
            loading,
            loading + 1,
        ]
        # Where each figure of the text is found among those of figures(), one after the other.
        self._found_at = np.argsort(np.concatenate((*exact, *solved)))
        self._scale = np.full(count, _SHOWN)
        self._scale[voltage] = _SHOWN_PU
        self._is_exact = np.zeros(count, dtype=np.bool_)
        self._is_exact[np.concatenate(exact)] = True

    def figures(
        self,
        solution: Solution,
        demand: Floats,
        generation: Floats,
        loading_kva: Floats,
        loading_percent: Floats,
    ) -> Floats:
        """All figures in order. ``demand`` gives demanded kW, set kW and factor by row of loads
        and devices, ``generation`` available and set kW by row of generators; what follows from
        the demand rules stays to the last digit, what is solved is rounded.
        """
        drawn = solution.load_kva[self._rows]
        produced = solution.generator_kva[self._generator_rows]
        load_kw = self._by_bus(self._bus_of_row, drawn.real)
        gen_kw = self._by_bus(self._bus_of_generator, produced.real)
        exact = (*demand[:, self._rows], *generation[:, self._generator_rows])
        solved = (
            solution.v_pu,
            solution.angle_deg,
            load_kw,
            self._by_bus(self._bus_of_row, drawn.imag),
            gen_kw,
            load_kw - gen_kw,
            drawn.real,
            drawn.imag,
            produced.real,
            produced.imag,
            loading_kva,
            loading_percent,
        )
        figures: Floats = np.concatenate((*exact, *solved))[self._found_at]
        rounded: Floats = np.rint(figures * self._scale) / self._scale + 0.0  # no -0.0
        np.copyto(rounded, figures, where=self._is_exact)
        return rounded

    def _by_bus(self, bus: Indices, kw: Floats) -> Floats:
        if not len(bus):
            return np.zeros(self._buses)
        sums: Floats = np.bincount(bus, weights=kw, minlength=self._buses).astype(np.float64)
        return sums


def _spread(starts: Indices, counts: Indices, size: int) -> Indices:
    """The place of each of ``counts`` entries of ``size`` figures that begin at ``starts``."""
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.arange(int(counts.sum())) - firsts
    return np.repeat(starts, counts) + size * ranks


def _flat(rows: Sequence[Sequence[int]]) -> Indices:
    return np.array([row for of_bus in rows for row in of_bus], dtype=np.intp)
