"""The solver process: composes engine, demand and connections for one feeder, and runs them."""

import gc
import sys
import threading
import time

from schemas import topics
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.files import FileWriter
from services.logs import Log, configure
from services.presence import Presence
from services.process import EXIT_BAD_INPUT, settings_or_exit, stop_event
from services.settings import Settings
from services.solver.engine import Engine, version
from services.solver.feeder import Feeder, FeederError
from services.solver.fence import FenceRegister, StoreAway
from services.solver.intake import Intake
from services.solver.owner import Owner
from services.solver.reports import Reports
from services.solver.topology import topology
from services.solver.twin import Twin
from services.store import store_url


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, "solver")
    try:
        feeder = Feeder.load(settings.feeders_dir, canonical(settings.feeder))
        engine = Engine(feeder)
    except FeederError as error:
        log.error("feeder_refused", feeder=settings.feeder, problems=error.problems)
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    stop = stop_event()
    fence = _take_fence(settings, feeder.id, stop, log)
    if fence is not None:
        log.info("starting", feeder=feeder.id, fence=fence, engine=version())
        _serve(settings, feeder, engine, fence, stop, log)
    log.info("stopped")
    return 0


def _serve(
    settings: Settings, feeder: Feeder, engine: Engine, fence: int, stop: threading.Event, log: Log
) -> None:
    twin = Twin(feeder, engine)
    presence = Presence("solver", f"solver-{feeder.id}", feeder.id)
    intake = Intake(feeder.id, twin.demand, log)
    address = BrokerAddress.of(settings)
    inbox: list[Message] = []
    commands = Connection(
        address,
        f"solver-{feeder.id}",
        log=log,
        on_message=inbox.append,
        subscriptions=[
            Subscription(topics.commands(feeder.id), qos=1),
            Subscription(topics.adjustments(feeder.id), qos=1),
        ],
        session=True,
        will=presence.will,
    )
    files = FileWriter(settings.results_dir, log)
    owner = Owner(
        feeder=feeder.id,
        twin=twin,
        intake=intake,
        presence=presence,
        commands=commands,
        inbox=inbox,
        reports=lambda newest: Reports(files, newest),
        fence=fence,
        solve_hz=settings.solve_hz,
        log=log,
    )
    setpoints = topics.setpoints(feeder.id).removesuffix("#")

    def take(message: Message) -> None:
        if message.topic.startswith(setpoints):
            owner.take_setpoint(message)
        else:
            intake.take(message, time.time())

    readings = Connection(
        address,
        f"solver-{feeder.id}-readings",
        log=log,
        on_message=take,
        subscriptions=[
            Subscription(topics.every_meter(feeder.id), qos=0),
            Subscription(topics.meters(feeder.id), qos=0),
            Subscription(topics.setpoints(feeder.id), qos=0),
        ],
    )
    wiring = topology(feeder, engine.circuit).model_dump_json().encode()
    commands.retain(topics.topology(feeder.id), wiring, qos=1)
    presence.announce(commands, owner.figures())
    # What is loaded by now lives as long as the process: keep it out of every later collection.
    gc.collect()
    gc.freeze()
    owner.run(readings, stop.is_set)


def _take_fence(settings: Settings, feeder: str, stop: threading.Event, log: Log) -> int | None:
    """The fencing number of this start, waiting for the store if need be; None when stopped."""
    register = FenceRegister(store_url(settings))
    said = False
    while not stop.is_set():
        try:
            fence = register.take(feeder)
        except StoreAway as error:
            if not said:
                log.warning("store_away", reason=str(error))
                said = True
            stop.wait(0.2)
        else:
            register.close()
            return fence
    return None


if __name__ == "__main__":
    sys.exit(main())
