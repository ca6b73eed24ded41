"""How a feeder stands by its newest solution, in a few figures. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.alerts import AlertKind
from services.solver.document import DEAD_PU
from services.solver.findings import Finding
from services.solver.solution import Solution


@dataclass(frozen=True, slots=True)
class Standing:
    """Powers in kW: drawn by loads and devices, produced at the generators' terminals, lost, and
    drawn from the source (positive when importing). ``held_kw`` is what programs and relief hold
    back of the demand, ``curtailed_kw`` what relief holds back of the production.

    Voltages are of energised nodes; 0 where there is none.
    """

    converged: bool
    load_kw: float
    generation_kw: float
    losses_kw: float
    source_kw: float
    held_kw: float
    curtailed_kw: float
    min_voltage_pu: float
    max_voltage_pu: float
    findings: Counter[AlertKind]
    """How much is wrong, of each kind."""


def standing(
    solution: Solution, findings: Iterable[Finding], held_kw: float, curtailed_kw: float
) -> Standing:
    """What a solution comes to."""
    live = solution.v_pu[solution.v_pu > DEAD_PU]
    return Standing(
        solution.converged,
        float(np.add.reduce(solution.load_kva.real)),
        float(np.add.reduce(solution.generator_kva.real)),
        float(solution.losses_kva.real),
        float(solution.source_kva.real),
        held_kw,
        curtailed_kw,
        float(live.min()) if len(live) else 0.0,
        float(live.max()) if len(live) else 0.0,
        Counter(finding.kind for finding in findings),
    )
