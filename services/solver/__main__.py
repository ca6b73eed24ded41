"""The solver process: becomes the owner of a feeder, recovers what it was, and serves it.

While the feeder has an owner, a second solver waits as a standby: connected to the store, and not
to the broker.
"""

import gc
import os
import sys
import threading
import time
from contextlib import suppress
from functools import partial

from schemas import topics
from schemas.wire import canonical
from services import scrape
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.files import FileWriter
from services.inbox import Inbox
from services.logs import Log, configure
from services.metrics import Pulse
from services.once import Once
from services.presence import Presence
from services.probe import Probe
from services.process import EXIT_AGAIN, EXIT_BAD_INPUT, settings_or_exit, stop_event
from services.settings import Settings
from services.solver import recovery
from services.solver.custody import RENEW_S, Custody
from services.solver.desk import Desk
from services.solver.engine import Engine, version
from services.solver.feeder import Feeder, FeederError
from services.solver.herald import Herald
from services.solver.intake import Intake
from services.solver.journal import (
    LEASE_MS,
    NOTHING_SOLVED,
    Forgotten,
    InFlight,
    Journal,
    LeaseLost,
    StoreAway,
)
from services.solver.owner import Broken, Owner
from services.solver.recovery import Recovered, Unrecoverable
from services.solver.reports import Reports
from services.solver.telling import Sight, Telling
from services.solver.topology import topology
from services.solver.twin import Twin
from services.solver.watchdog import Watchdog
from services.store import store_url
from services.tracing import tracing_of

TAKE_EVERY_S = 0.05
"""How often a standby looks whether the feeder has lost its owner."""


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, "solver")
    feeder_id = canonical(settings.feeder)
    tracing = tracing_of(os.environ, "solver", f"solver-{feeder_id}", log)
    telling = Telling(feeder_id, log, tracing)
    scrape.serve_or_exit(settings, log, telling.registry, telling.pulse)
    try:
        return _run(settings, feeder_id, telling, log)
    finally:
        if tracing is not None:
            tracing.close()


def _run(settings: Settings, feeder_id: str, telling: Telling, log: Log) -> int:
    try:
        feeder = Feeder.load(settings.feeders_dir, feeder_id)
        engine = Engine(feeder)
    except FeederError as error:
        log.error("feeder_refused", feeder=settings.feeder, problems=error.problems)
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    try:
        _Solver(settings, feeder, engine, telling, log).run(stop_event())
    except Unrecoverable as unreadable:
        log.error("journal_unreadable", reason=str(unreadable))
        return EXIT_BAD_INPUT
    except (LeaseLost, Forgotten, StoreAway, Broken, FeederError) as error:
        log.error("starting_again", reason=str(error))
        return EXIT_AGAIN
    log.info("stopped")
    return 0


class _Solver:
    """Composes everything around one feeder."""

    def __init__(
        self, settings: Settings, feeder: Feeder, engine: Engine, telling: Telling, log: Log
    ) -> None:
        self._settings = settings
        self._feeder = feeder
        self._engine = engine
        self._telling = telling
        self._log = log
        self._journal = Journal(store_url(settings), feeder.id)

    def run(self, stop: threading.Event) -> None:
        """Wait for the lease, recover, serve.

        Raises:
            LeaseLost, Forgotten, StoreAway, Broken, FeederError: starting again will help, or will
                say what is wrong.
            Unrecoverable: it will not.

        """
        taken = self._take(stop)
        if taken is False:
            return
        in_flight = taken if isinstance(taken, InFlight) else None
        self._log.info(
            "starting", feeder=self._feeder.id, fence=self._journal.fence, engine=version()
        )
        came_round = _CameRound(self._journal, self._telling.pulse)
        came_round()
        twin, once = Twin(self._feeder, self._engine), Once()
        probe = Probe(store_url(self._settings))
        content = partial(recovery.content, twin, once)
        custody = Custody(self._journal, probe, once, content, self._log)
        try:
            solve = partial(twin.cycle, 0, time.time())
            recovered = recovery.recover(twin, once, self._journal, in_flight, solve, came_round)
            came_round()
            custody.inherit(recovered.requests, recovered.entries)
            owner, readings = self._owner(twin, once, custody, recovered)
            owner.cycle(["everything that was recovered"])
            custody.solved(in_flight.last if in_flight is not None else None)
            # What is loaded by now lives as long as the process: keep it out of every collection.
            gc.collect()
            gc.freeze()
            owner.run(readings, stop.is_set)
            custody.keep()
        finally:
            custody.close()

    def _take(self, stop: threading.Event) -> InFlight | bool:
        """The lease, once the store is there and nobody else has it; False when stopped."""
        standby_from = time.monotonic() + 1.5 * LEASE_MS / 1000
        said = ""
        while not stop.is_set():
            try:
                taken = self._journal.take()
            except StoreAway as error:
                if said != "store_away":
                    said = "store_away"
                    self._log.warning(said, reason=str(error))
                self._telling.pulse.beat("the store is away")
            else:
                if taken:
                    return taken
                self._telling.pulse.beat()
                if said != "standby" and time.monotonic() > standby_from:
                    said = "standby"
                    self._log.info(said, feeder=self._feeder.id, reason="it has an owner")
            stop.wait(TAKE_EVERY_S)
        return False

    def _owner(
        self, twin: Twin, once: Once, custody: Custody, recovered: Recovered
    ) -> tuple[Owner, Connection]:
        """The owner, and the connection on which readings come."""
        feeder, log = self._feeder.id, self._log
        name = f"solver-{feeder}"
        presence = Presence("solver", name, feeder)
        address = BrokerAddress.of(self._settings)
        inbox = Inbox()
        commands = Connection(
            address,
            name,
            log=log,
            on_message=inbox.put,
            subscriptions=[
                Subscription(topics.commands(feeder), qos=1),
                Subscription(topics.adjustments(feeder), qos=1),
            ],
            session=True,
            will=presence.will,
        )
        files = FileWriter(self._settings.results_dir, log)
        intake = Intake(feeder, twin.demand, log)
        owner = Owner(
            feeder=feeder,
            twin=twin,
            desk=Desk(feeder, twin.demand, once, log),
            custody=custody,
            intake=intake,
            herald=lambda newest: Herald(feeder, twin, commands, Reports(files, newest)),
            presence=presence,
            commands=commands,
            inbox=inbox,
            telling=self._telling,
            fence=self._journal.fence,
            solve_hz=self._settings.solve_hz,
            log=log,
        )
        for problem in recovered.problems:
            log.error("not_recovered", problem=problem)
        for what in recovered.voided:
            log.error("voided", what=what)
            owner.herald.voided(what)
        log.info("recovered", entries=recovered.entries, requests=len(once))
        setpoints = topics.setpoints(feeder).removesuffix("#")

        def take(message: Message) -> None:
            if message.topic.startswith(setpoints):
                owner.herald.take_setpoint(message)
            elif message.topic == presence.topic:
                owner.take_status(message)
            else:
                intake.take(message, time.time())

        readings = Connection(
            address,
            f"{name}-readings",
            log=log,
            on_message=take,
            subscriptions=[
                Subscription(topics.every_meter(feeder), qos=0),
                Subscription(topics.meters(feeder), qos=0),
                Subscription(topics.setpoints(feeder), qos=0),
                Subscription(presence.topic, qos=0),
            ],
        )
        sight = Sight(self._journal.fence, twin, custody, intake, commands, readings)
        self._telling.serves(sight)
        wiring = topology(self._feeder, self._engine.circuit).model_dump_json().encode()
        commands.retain(topics.topology(feeder), wiring, qos=1)
        return owner, readings


class _CameRound:
    """Keeps watchdog and lease quiet, and whoever asks, while a long recovery goes on."""

    def __init__(self, journal: Journal, pulse: Pulse) -> None:
        self._journal = journal
        self._pulse = pulse
        self._watchdog = Watchdog()
        self._renew_due = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        self._watchdog.arm(now)
        self._pulse.beat("recovering")
        if now >= self._renew_due:
            self._renew_due = now + RENEW_S
            with suppress(StoreAway):
                self._journal.renew(NOTHING_SOLVED)


if __name__ == "__main__":
    sys.exit(main())
