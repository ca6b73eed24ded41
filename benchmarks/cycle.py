"""What the solver adds to the engine: set all loads, solve, read, encode, publish."""

import tempfile
from pathlib import Path
from typing import Self

from opendssdirect import dss

from benchmarks.figures import Row, percentile, progress, times_ms
from flexfeeder.testing import MOSQUITTO, mosquitto
from schemas.readings import Reading
from services.bus import BrokerAddress, Connection
from services.files import FileWriter
from services.inbox import Inbox
from services.logs import configure
from services.once import Once
from services.presence import Presence
from services.probe import Probe
from services.reactor import Reactor
from services.settings import Settings
from services.solver.custody import Custody
from services.solver.desk import Desk
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.herald import Herald
from services.solver.intake import Intake
from services.solver.journal import Journal
from services.solver.owner import Owner
from services.solver.reports import Reports
from services.solver.telling import Telling
from services.solver.twin import Twin

COUNT = 2000
WARM_UP = 200


def run() -> list[Row]:
    if MOSQUITTO is None:
        progress("solver's cycle: left out, mosquitto is not installed")
        return []
    progress("solver's cycle")
    taken: list[float] = []
    baseline: list[float] = []
    with mosquitto() as port, Solver("ieee123", port) as solver:
        # In turns, so that both find the machine, and its caches, in the same condition.
        for turn in range(WARM_UP + COUNT):
            if turn == WARM_UP:
                taken.clear()
                baseline.clear()
            share = 0.9 + 0.0001 * (turn % 1000)
            baseline += times_ms(lambda: solver.bare_cycle(share), 1, 0)  # noqa: B023
            solver.take_readings(share, turn)
            taken.append(1000 * solver.owner.cycle())
    ours, bare = percentile(taken, 0.5), percentile(baseline, 0.5)
    return [
        Row(
            "solver's cycle, all loads set",
            f"p50 {ours:.3f} ms",
            f"bare engine {bare:.3f} ms",
            f"ratio at most 3: {ours / bare:.2f}",
            ours <= 3 * bare,
        )
    ]


class Solver:
    """The solver's parts, composed as its process does it, in this one."""

    def __init__(self, feeder_id: str, port: int) -> None:
        log = configure(Settings(log_level="ERROR"), "bench")
        feeder = Feeder.load(Path("feeders"), feeder_id)
        engine = Engine(feeder)
        self._loads = engine.circuit.loads
        self.twin = Twin(feeder, engine)
        self._connection = Connection(
            BrokerAddress("127.0.0.1", port), "bench", log=log, on_message=lambda _: None
        )
        self._reactor = Reactor(self._connection)
        once, url = Once(), "redis://127.0.0.1:1"  # nothing is kept, and nobody asked
        custody = Custody(Journal(url, feeder.id), Probe(url), once, bytes, log)
        files = FileWriter(Path(tempfile.mkdtemp(prefix="flexfeeder-bench-")), log)
        self.owner = Owner(
            feeder=feeder.id,
            twin=self.twin,
            desk=Desk(feeder.id, self.twin.demand, once, log),
            custody=custody,
            intake=Intake(feeder.id, self.twin.demand, log),
            presence=Presence("solver", "solver-bench", feeder.id),
            commands=self._connection,
            inbox=Inbox(),
            herald=lambda newest: Herald(
                feeder.id, self.twin, self._connection, Reports(files, newest)
            ),
            telling=Telling(feeder.id, log),
            fence=0,
            solve_hz=20,
            log=log,
        )

    def __enter__(self) -> Self:
        self._reactor.poll_until(lambda: self._connection.connected, 5)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._reactor.close()

    def take_readings(self, share: float, at: float) -> None:
        """A reading for every load."""
        for load in self._loads:
            reading = Reading(kw=load.kw * share, kvar=load.kvar * share)
            self.twin.demand.take_reading(load.bus, load.name, reading, at, retained=False)

    def bare_cycle(self, share: float) -> None:
        """The same sets, solve and reads on the engine alone, by its public calls."""
        for index, load in enumerate(self._loads, 1):
            dss.Loads.Idx(index)
            dss.Loads.kW(load.kw * share)
            dss.Loads.kvar(load.kvar * share)
        dss.Solution.Solve()
        dss.Circuit.AllBusVolts()
        dss.Circuit.AllElementLosses()
        dss.Circuit.Losses()
        for _ in dss.RegControls:
            dss.RegControls.TapNumber()
