"""Zones of a feeder: what each rated transformer supplies, and what it carries. Pure.

A neighbourhood zone is its listed buses. A transformer zone is what loses supply when that
transformer opens; in a mesh that is nothing, and then only its loading is known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from services.solver.feeder import FeederConfig
from services.solver.network import Circuit, Floats, Indices
from services.solver.solution import Complexes
from services.solver.supply import Supply


@dataclass(frozen=True, slots=True)
class Zone:
    """What one transformer supplies; its rating in kVA.

    ``position`` is the zone's place in the list of transformers that the state shows:
    neighbourhoods, then the transformers that do not regulate, in the order of the circuit.
    ``transformer`` is its index in the circuit, ``source_windings`` are those that face the
    source: first reached from there, and both given for transformer zones only.
    """

    name: str
    kind: Literal["neighbourhood", "transformer"]
    bus: str
    rating_kva: float
    relievable: bool
    position: int
    transformer: int | None = None
    source_windings: tuple[int, ...] = ()


class Zones:
    """The zones of a feeder in the order in which relief treats them, and who is in them.

    Neighbourhoods come first, in the order of ``feeder.toml``, then transformers from the leaves
    upward; one that another depends on comes after it.
    """

    def __init__(self, circuit: Circuit, config: FeederConfig) -> None:
        supply = Supply(circuit)
        rated = [i for i, each in enumerate(circuit.transformers) if not each.regulates]
        upward = sorted(range(len(rated)), key=lambda i: -supply.depth[rated[i]])
        lost = [supply.lost_without(rated[i]) for i in upward]
        areas = config.neighbourhoods
        self.zones: tuple[Zone, ...] = tuple(
            Zone(
                name=f"neighbourhood_{area.number}",
                kind="neighbourhood",
                bus=area.transformer_bus,
                rating_kva=area.transformer_kva,
                relievable=True,
                position=position,
            )
            for position, area in enumerate(areas)
        ) + tuple(
            Zone(
                name=circuit.transformers[rated[i]].name,
                kind="transformer",
                bus=circuit.transformers[rated[i]].buses[-1],
                rating_kva=circuit.transformers[rated[i]].kva,
                relievable=bool(sections),
                position=len(areas) + i,
                transformer=rated[i],
                source_windings=supply.source_windings[rated[i]],
            )
            for i, sections in zip(upward, lost, strict=True)
        )
        self._upward = np.array(upward, dtype=np.intp)
        self._area_of_bus = {bus: index for index, area in enumerate(areas) for bus in area.buses}
        self._phases = {bus.name: bus.phases for bus in circuit.buses}
        self._section = supply.section
        self._zones_of_section: dict[int, list[int]] = {}
        for zone, sections in enumerate(lost, len(areas)):
            for section in sections:
                self._zones_of_section.setdefault(section, []).append(zone)
        self._loads = _Rows(len(areas))
        self._generators = _Rows(len(areas))
        for row, load in enumerate(circuit.loads):
            self.place_load(row, load.bus, circuit.load_phases[row])

    def zones_of(self, bus: str, phases: Iterable[int] | None = None) -> tuple[int, ...]:
        """Zones, ascending, of an element at these phases of a bus; None: at all of them.

        It is in a transformer zone if that transformer supplies any of its phases.
        """
        found: set[int] = set()
        for phase in self._phases.get(bus, ()) if phases is None else phases:
            section = self._section.get((bus, phase), -1)
            found.update(self._zones_of_section.get(section, ()))
        if bus in self._area_of_bus:
            found.add(self._area_of_bus[bus])
        return tuple(sorted(found))

    def place_load(self, row: int, bus: str, phases: Iterable[int] | None = None) -> None:
        """Say where the load or device of a row is; the circuit's own loads are placed already."""
        self._loads.place(row, self.zones_of(bus, phases))

    def remove_load(self, row: int) -> None:
        """Take the load or device of a row out of its zones."""
        self._loads.place(row, ())

    def load_zones(self, row: int) -> tuple[int, ...]:
        """Zones of the load or device of a row, ascending."""
        return self._loads.zones(row)

    def place_generator(self, row: int, bus: str, phases: Iterable[int] | None = None) -> None:
        """Say where the generator of a row is."""
        self._generators.place(row, self.zones_of(bus, phases))

    def remove_generator(self, row: int) -> None:
        """Take the generator of a row out of its zones."""
        self._generators.place(row, ())

    def generator_zones(self, row: int) -> tuple[int, ...]:
        """Zones of the generator of a row, ascending."""
        return self._generators.zones(row)

    def loading(
        self,
        load_kva: Complexes,
        generator_kva: Complexes,
        transformer_kva: Complexes | Sequence[complex],
    ) -> Complexes:
        """Complex power into each zone in kVA, by zone; negative real part where it exports.

        ``load_kva`` is drawn, by row of loads and devices; ``generator_kva`` produced, by row of
        generators; ``transformer_kva`` into what the transformer supplies, by transformer that
        does not regulate, in the order of the circuit.
        """
        loading = np.empty(len(self.zones), dtype=np.complex128)
        areas = len(self.zones) - len(self._upward)
        loading[:areas] = self._loads.sums(load_kva) - self._generators.sums(generator_kva)
        loading[areas:] = np.asarray(transformer_kva, dtype=np.complex128)[self._upward]
        return loading


class _Rows:
    """The neighbourhood in which the power of each row counts, for rows that come and go."""

    def __init__(self, areas: int) -> None:
        self._areas = areas
        self._zones: dict[int, tuple[int, ...]] = {}
        # Two bins a neighbourhood, for real and imaginary parts, and two for rows in none: so
        # complex numbers are summed by one call.
        self._bins: Indices = np.zeros(0, dtype=np.intp)

    def place(self, row: int, zones: tuple[int, ...]) -> None:
        self._cover(row + 1)
        self._zones[row] = zones
        area = next((zone for zone in zones if zone < self._areas), self._areas)
        self._bins[2 * row : 2 * row + 2] = 2 * area, 2 * area + 1

    def zones(self, row: int) -> tuple[int, ...]:
        return self._zones.get(row, ())

    def sums(self, kva: Complexes) -> Complexes:
        """Sum by neighbourhood."""
        if not len(kva):
            return np.zeros(self._areas, dtype=np.complex128)
        self._cover(len(kva))
        parts: Floats = np.ascontiguousarray(kva, dtype=np.complex128).view(np.float64)
        sums = np.bincount(self._bins[: len(parts)], parts, 2 * self._areas + 2)
        return sums[: 2 * self._areas].view(np.complex128)

    def _cover(self, rows: int) -> None:
        missing = rows - len(self._bins) // 2
        if missing > 0:
            in_none = np.array([2 * self._areas, 2 * self._areas + 1], dtype=np.intp)
            self._bins = np.concatenate((self._bins, np.tile(in_none, max(missing, 64))))
