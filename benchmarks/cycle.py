"""What the solver adds to the engine: set all loads, solve, read, encode, publish."""

import os
import sys
from pathlib import Path

from benchmarks.figures import Row, percentile, progress, times_ms
from flexfeeder.testing import MOSQUITTO, mosquitto, wait_until
from schemas.readings import Reading
from services.bus import BrokerAddress, Connection
from services.logs import configure
from services.presence import Presence
from services.reactor import Reactor
from services.settings import Settings
from services.solver.demand import Demand
from services.solver.document import StateDocument
from services.solver.engine import Engine, dss
from services.solver.feeder import Feeder
from services.solver.intake import Intake
from services.solver.owner import Owner

COUNT = 2000
WARM_UP = 200


def run() -> list[Row]:
    if MOSQUITTO is None:
        sys.exit("this question needs mosquitto")
    log = configure(Settings(log_level="ERROR"), "bench")
    feeder = Feeder.load(Path("feeders"), os.environ.get("BENCH_FEEDER", "ieee123"))
    engine = Engine(feeder)
    demand = Demand(engine.circuit.loads, {})
    owner = Owner(
        feeder=feeder.id,
        engine=engine,
        demand=demand,
        document=StateDocument(feeder.id, feeder.config, engine.circuit, demand.in_force()),
        intake=Intake(feeder.id, demand, log),
        presence=Presence("solver", "solver-bench", feeder.id),
        first_version=0,
        solve_hz=20,
        log=log,
    )
    loads = engine.circuit.loads
    level = 0

    def levels() -> float:
        nonlocal level
        level += 1
        return 0.9 + 0.0001 * (level % 1000)

    def bare() -> None:
        share = levels()
        for index, load in enumerate(loads, 1):
            dss.Loads.Idx(index)
            dss.Loads.kW(load.kw * share)
            dss.Loads.kvar(load.kvar * share)
        dss.Solution.Solve()
        dss.Circuit.AllBusVolts()
        dss.Circuit.AllElementLosses()
        dss.Circuit.TotalPower()
        dss.Circuit.Losses()
        for _ in dss.RegControls:
            dss.RegControls.TapNumber()

    with mosquitto() as port:
        connection = Connection(
            BrokerAddress("127.0.0.1", port), "bench", log=log, on_message=lambda _: None
        )
        reactor = Reactor(connection)

        def connected() -> bool:
            reactor.poll(0.01)
            return connection.connected

        wait_until(connected, "the broker is connected")
        owner.use(connection)

        def ours() -> None:
            share = levels()
            for load in loads:
                reading = Reading(kw=load.kw * share, kvar=load.kvar * share)
                demand.take_reading(load.bus, load.name, reading, level, retained=False)
            taken.append(1000 * owner.cycle())

        progress("solver's cycle")
        taken: list[float] = []
        baseline: list[float] = []
        # In turns, so that both find the machine, and its caches, in the same condition.
        for turn in range(WARM_UP + COUNT):
            baseline.append(times_ms(bare, 1, 0)[0])
            ours()
            if turn == WARM_UP:
                taken.clear()
                baseline.clear()
        connection.close()
        reactor.close()
    ratio = percentile(taken, 0.5) / percentile(baseline, 0.5)
    return [
        Row(
            "solver's cycle, all loads set",
            f"p50 {percentile(taken, 0.5):.3f} ms",
            f"bare engine {percentile(baseline, 0.5):.3f} ms",
            f"ratio at most 3: {ratio:.2f}",
            ratio <= 3,
        )
    ]
