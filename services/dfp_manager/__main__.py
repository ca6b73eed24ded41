"""The program manager's process: connects and announces itself."""

import os
import signal
import sys
import threading
import time

from services.bus import BrokerAddress, Connection, Message
from services.logs import configure
from services.presence import HEARTBEAT_S, Presence
from services.reactor import Reactor
from services.settings import Settings, SettingsError

EXIT_BAD_INPUT = 2
"""Exit status for an environment that cannot be used: starting again will not help."""

INSTANCE = "dfp_manager"


def main() -> int:
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    log = configure(settings, INSTANCE)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    presence = Presence("dfp_manager", INSTANCE)

    def receive(message: Message) -> None:
        connection.acknowledge(message)

    connection = Connection(
        BrokerAddress.of(settings),
        INSTANCE,
        log=log,
        on_message=receive,
        session=True,
        will=presence.will,
    )
    reactor = Reactor(connection)
    heartbeat_due = 0.0
    while not stop.is_set():
        if (now := time.monotonic()) >= heartbeat_due:
            presence.announce(connection, {})
            heartbeat_due = now + HEARTBEAT_S
        reactor.poll(0.1)
    connection.close(lambda: presence.farewell(connection))
    reactor.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
