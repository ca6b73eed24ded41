"""The program manager's process: connects and announces itself."""

import sys
import time

from services.bus import BrokerAddress, Connection, Message
from services.logs import configure
from services.presence import Presence
from services.process import settings_or_exit, stop_event
from services.reactor import Reactor

INSTANCE = "dfp_manager"


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, INSTANCE)
    stop = stop_event()
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
    while not stop.is_set():
        presence.beat(connection, time.monotonic())
        reactor.poll(0.1)
    connection.close(lambda: presence.farewell(connection))
    reactor.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
