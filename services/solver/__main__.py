"""The solver process: composes engine, demand and connections for one feeder, and runs them."""

import gc
import os
import signal
import sys
import threading

from schemas import topics
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Subscription
from services.logs import Log, configure
from services.presence import Presence
from services.settings import Settings, SettingsError
from services.solver.demand import Demand
from services.solver.document import StateDocument
from services.solver.engine import Engine, version
from services.solver.feeder import Feeder, FeederError
from services.solver.fence import VERSIONS_PER_FENCE, FenceRegister, StoreAway
from services.solver.intake import Intake
from services.solver.owner import Owner
from services.solver.topology import topology

EXIT_BAD_INPUT = 2
"""Exit status for a feeder or an environment that cannot be used: starting again will not help."""


def main() -> int:
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    log = configure(settings, "solver")
    try:
        feeder = Feeder.load(settings.feeders_dir, canonical(settings.feeder))
        engine = Engine(feeder)
    except FeederError as error:
        log.error("feeder_refused", feeder=settings.feeder, problems=error.problems)
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    fence = _take_fence(settings, feeder.id, stop, log)
    if fence is not None:
        _serve(settings, feeder, engine, fence, stop, log)
    log.info("stopped")
    return 0


def _serve(
    settings: Settings, feeder: Feeder, engine: Engine, fence: int, stop: threading.Event, log: Log
) -> None:
    circuit = engine.circuit
    demand = Demand(circuit.loads, {n.number: n.buses for n in feeder.config.neighbourhoods})
    demand.know_buses(bus.name for bus in circuit.buses)
    presence = Presence("solver", f"solver-{feeder.id}", feeder.id)
    owner = Owner(
        feeder=feeder.id,
        engine=engine,
        demand=demand,
        document=StateDocument(feeder.id, feeder.config, circuit, demand.in_force()),
        intake=Intake(feeder.id, demand, log),
        presence=presence,
        first_version=fence * VERSIONS_PER_FENCE,
        solve_hz=settings.solve_hz,
        log=log,
    )
    address = BrokerAddress.of(settings)
    commands = Connection(
        address,
        f"solver-{feeder.id}",
        log=log,
        on_message=owner.receive_command,
        subscriptions=[Subscription(topics.commands(feeder.id), qos=1)],
        session=True,
        will=presence.will,
    )
    commands.retain(
        topics.topology(feeder.id),
        topology(feeder, circuit).model_dump_json().encode(),
        qos=1,
    )
    presence.announce(commands, owner.figures())
    readings = Connection(
        address,
        f"solver-{feeder.id}-readings",
        log=log,
        on_message=owner.receive_reading,
        subscriptions=[
            Subscription(topics.every_meter(feeder.id), qos=0),
            Subscription(topics.meters(feeder.id), qos=0),
        ],
    )
    log.info("starting", feeder=feeder.id, fence=fence, engine=version())
    # What is loaded by now lives as long as the process: keep it out of every later collection.
    gc.collect()
    gc.freeze()
    owner.use(commands)
    owner.run(readings, stop.is_set)


def _take_fence(settings: Settings, feeder: str, stop: threading.Event, log: Log) -> int | None:
    """The fencing number of this start, waiting for the store if need be; None when stopped."""
    url = settings.redis_url
    register = FenceRegister(url.get_secret_value() if url else "redis://127.0.0.1:6379/0")
    said = False
    while not stop.is_set():
        try:
            return register.take(feeder)
        except StoreAway as error:
            if not said:
                log.warning("store_away", reason=str(error))
                said = True
            stop.wait(0.2)
    return None


if __name__ == "__main__":
    sys.exit(main())
