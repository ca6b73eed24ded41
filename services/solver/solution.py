"""What a solve gave, and the positions that it left regulators and capacitors in. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from services.solver.network import Floats

Complexes = npt.NDArray[np.complex128]

Steps = tuple[int, ...]
"""Of a capacitor, 1 for each of its steps that is in and 0 for each that is out."""

MOST_TAPS = 1000
"""No regulator has more either way; OpenDSS's have 16."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What one solve gave: pu and degrees by row of :class:`Voltages`, kVA by row of loads and
    devices (drawn), of generators (produced at their terminals), and by transformer that does not
    regulate (at the winding that power leaves, positive towards the loads).

    ``source_kva`` is positive when importing. ``taps`` are by regulator, ``steps`` by capacitor,
    in the order of the circuit.
    """

    converged: bool
    iterations: int
    v_pu: Floats
    angle_deg: Floats
    load_kva: Complexes
    generator_kva: Complexes
    source_kva: complex
    losses_kva: complex
    transformer_kva: Complexes
    taps: tuple[int, ...]
    steps: tuple[Steps, ...] = ()


@dataclass(frozen=True, slots=True)
class Positions:
    """Taps of regulators and steps of capacitors, by name: what a feeder remembers of the path
    that it took, so that one that is started again goes on from there.
    """

    taps: Mapping[str, int]
    steps: Mapping[str, Steps]

    def to_json(self) -> dict[str, Any]:
        """In terms of JSON."""
        return {
            "taps": dict(self.taps),
            "steps": {name: list(steps) for name, steps in self.steps.items()},
        }

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """What :meth:`to_json` gave.

        Raises:
            ValueError: for what is no such content.

        """
        try:
            taps = {str(name): int(tap) for name, tap in content["taps"].items()}
            steps = {str(name): tuple(map(int, of)) for name, of in content["steps"].items()}
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"no positions: {error!r}") from None
        if any(abs(tap) > MOST_TAPS for tap in taps.values()) or any(
            step not in {0, 1} for of in steps.values() for step in of
        ):
            raise ValueError("no positions: a tap or a step is none")
        return cls(taps, steps)
