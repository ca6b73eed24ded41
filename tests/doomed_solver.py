"""The solver with an engine that does not survive some names: what they are decides how it ends.

``python tests/doomed_solver.py`` in the place of ``python -m services.solver``.

A device ``poison`` kills the process when the engine is to connect it, ``hang`` makes the engine
never come back, and ``twice_<anything>`` kills as often as the file ``DOOMED_LIVES`` says, one less
each time: a kill that has nothing to do with what was asked. A number as argument is for how many
seconds the watchdog waits for a hanging engine, where that is not to take as long as it does.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from services.solver import __main__ as solver
from services.solver import watchdog
from services.solver.engine import Engine
from services.solver.roster import Placement


class Doomed(Engine):
    def place(self, placements: Sequence[Placement]) -> None:
        for placement in placements:
            _meet(placement.element.name)
        super().place(placements)


def _meet(name: str) -> None:
    if name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hang":
        ctypes.PyDLL(None).sleep(600)  # and the interpreter stays locked
    if name.startswith("twice"):
        lives = Path(os.environ["DOOMED_LIVES"])
        left = int(lives.read_text(encoding="ascii"))
        if left:
            lives.write_text(str(left - 1), encoding="ascii")
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        watchdog.Watchdog.__init__.__defaults__ = (float(sys.argv[1]),)
    solver.Engine = Doomed  # type: ignore[attr-defined]  # where it makes its engine
    sys.exit(solver.main())
