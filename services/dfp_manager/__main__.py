"""The program manager's process: composes registry, connection and files, and runs them."""

import os
import sys
import threading

from schemas import topics
from services import scrape
from services.bus import BrokerAddress, Connection, Subscription
from services.dfp_manager.manager import Manager
from services.dfp_manager.registry import Registry
from services.dfp_manager.reports import Reports
from services.dfp_manager.telling import Telling
from services.files import FileWriter
from services.inbox import Inbox
from services.logs import Log, configure
from services.presence import Presence
from services.process import settings_or_exit, stop_event
from services.settings import Settings
from services.store import store_url
from services.tracing import tracing_of

INSTANCE = "dfp_manager"

LAST_WRITES_S = 2.0
"""How long stopping may take because of the result files."""


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, INSTANCE)
    stop = stop_event()
    tracing = tracing_of(os.environ, INSTANCE, INSTANCE, log)
    telling = Telling(settings.feeder, log, tracing)
    scrape.serve_or_exit(settings, log, telling.registry, telling.pulse)
    try:
        _run(settings, telling, log, stop)
    finally:
        if tracing is not None:
            tracing.close()
    log.info("stopped")
    return 0


def _run(settings: Settings, telling: Telling, log: Log, stop: threading.Event) -> None:
    """Compose everything, and serve until stopped."""
    presence = Presence(INSTANCE, INSTANCE)
    registry = Registry(store_url(settings), took=telling.store_took)
    files = FileWriter(settings.results_dir, log)
    inbox = Inbox()
    commands, feeders = _connections(settings, presence, inbox, log)
    manager = Manager(
        feeder=settings.feeder,
        registry=registry,
        connection=commands,
        inbox=inbox,
        presence=presence,
        reports=Reports(files),
        telling=telling,
        log=log,
    )
    log.info("starting", feeder=settings.feeder)
    try:
        manager.run(feeders, stop.is_set)
    finally:
        registry.close()
        files.close(LAST_WRITES_S)


def _connections(
    settings: Settings, presence: Presence, inbox: Inbox, log: Log
) -> tuple[Connection, Connection]:
    """The one on which commands come, and the one on which topologies and states come."""
    address = BrokerAddress.of(settings)
    commands = Connection(
        address,
        INSTANCE,
        log=log,
        on_message=inbox.put,
        subscriptions=[Subscription(topics.dfp_commands(), qos=1)],
        session=True,
        will=presence.will,
    )
    # What is retained comes again at each clean start only: the broker of a session that goes on
    # takes it for known, and a manager that comes back would not hear which buses there are.
    feeders = Connection(
        address,
        f"{INSTANCE}-feeders",
        log=log,
        on_message=inbox.put,
        subscriptions=[
            Subscription(topics.every_topology(), qos=0),
            Subscription(topics.every_state(), qos=0),
        ],
    )
    return commands, feeders


if __name__ == "__main__":
    sys.exit(main())
