"""The program manager's process: composes registry, connection and files, and runs them."""

import sys

from schemas import topics
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.dfp_manager.manager import Manager
from services.dfp_manager.registry import Registry
from services.dfp_manager.reports import Reports
from services.files import FileWriter
from services.logs import configure
from services.presence import Presence
from services.process import settings_or_exit, stop_event
from services.store import store_url

INSTANCE = "dfp_manager"

LAST_WRITES_S = 2.0
"""How long stopping may take because of the result files."""


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, INSTANCE)
    stop = stop_event()
    presence = Presence(INSTANCE, INSTANCE)
    registry = Registry(store_url(settings))
    files = FileWriter(settings.results_dir, log)
    inbox: list[Message] = []
    connection = Connection(
        BrokerAddress.of(settings),
        INSTANCE,
        log=log,
        on_message=inbox.append,
        subscriptions=[Subscription(topics.dfp_commands(), qos=1)],
        session=True,
        will=presence.will,
    )
    # What is retained comes again at each clean start only: the broker of a session that goes on
    # takes it for known, and a manager that comes back would not hear which buses there are.
    feeders = Connection(
        BrokerAddress.of(settings),
        f"{INSTANCE}-feeders",
        log=log,
        on_message=inbox.append,
        subscriptions=[
            Subscription(topics.every_topology(), qos=0),
            Subscription(topics.every_state(), qos=0),
        ],
    )
    manager = Manager(
        feeder=settings.feeder,
        registry=registry,
        connection=connection,
        inbox=inbox,
        presence=presence,
        reports=Reports(files),
        log=log,
    )
    log.info("starting", feeder=settings.feeder)
    manager.run(feeders, stop.is_set)
    registry.close()
    files.close(LAST_WRITES_S)
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
