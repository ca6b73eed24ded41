"""What a solve gave. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.solver.network import Floats

Complexes = npt.NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Solution:
    """What one solve gave: pu and degrees by row of :class:`Voltages`, kVA by row of loads and
    devices (drawn), of generators (produced at their terminals), and by transformer that does not
    regulate (at the winding that power leaves, positive towards the loads).

    ``source_kva`` is positive when importing.
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
