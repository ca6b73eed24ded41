"""How much generation voltage allows, taken as linear in it. Pure.

A voltage may be at the limit, or, where it is higher without generation, what it is then.
"""

import numpy as np

from services.solver.network import Floats
from services.solver.relief_terms import Limits, Measured


def generation_raises(measured: Measured, limits: Limits) -> bool:
    """True where a voltage is over its limit while something generates."""
    highest = np.maximum.reduce(measured.v_pu, initial=0.0)
    return bool(highest > limits.max_pu + limits.tolerance_pu) and bool(
        (measured.generator_kva.real > 0.0).any()
    )


def allowed_part(none_pu: Floats, full_pu: Floats, limits: Limits) -> float:
    """The part of generation, 0 to 1, that keeps voltages where they may be.

    ``none_pu`` and ``full_pu`` are voltages without generation and with all of it; 1 where it is
    not what raises them. The aim is half the tolerance beyond the limit.
    """
    aim = _aim(none_pu, limits)
    if not (full_pu > aim + limits.tolerance_pu / 2).any():
        return 1.0
    return _part_within(none_pu, full_pu, aim)


def corrected_part(
    part: float, none_pu: Floats, partly_pu: Floats, full_pu: Floats, limits: Limits
) -> float:
    """The same once more from voltages solved with a part; that part where it is right."""
    aim = _aim(none_pu, limits)
    beyond = float(np.max(partly_pu - aim))
    if beyond > limits.tolerance_pu / 2:
        return part * _part_within(none_pu, partly_pu, aim)
    if beyond < -limits.tolerance_pu / 2:
        return part + (1.0 - part) * _part_within(partly_pu, full_pu, aim)
    return part


def _aim(none_pu: Floats, limits: Limits) -> Floats:
    aim: Floats = np.maximum(limits.max_pu, none_pu) + limits.tolerance_pu / 2
    return aim


def _part_within(start: Floats, end: Floats, most: Floats) -> float:
    """How far all may go along from ``start`` to ``end`` (0 to 1) with none beyond ``most``."""
    over = end > most
    if not over.any():
        return 1.0
    parts = (most[over] - start[over]) / (end[over] - start[over])
    return float(np.clip(parts.min(), 0.0, 1.0))
