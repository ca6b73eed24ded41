"""The gateway process: composes bridge, streams and application, and serves HTTP."""

import socket
import sys

import uvicorn

from schemas.wire import canonical
from services.bus import BrokerAddress
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.server import Protocol, Server
from services.gateway.streams import Streams
from services.logs import configure
from services.process import EXIT_BAD_INPUT, settings_or_exit


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, "gateway")
    try:
        listener = socket.create_server((settings.http_host, settings.http_port), backlog=1024)
    except OSError as error:
        log.error("port_taken", host=settings.http_host, port=settings.http_port, reason=str(error))
        return EXIT_BAD_INPUT
    streams = Streams(log)
    bridge = Bridge(BrokerAddress.of(settings), canonical(settings.feeder), streams, log)
    config = uvicorn.Config(
        create_app(bridge, streams, log),
        http=Protocol,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    log.info("listening", url=f"http://{settings.http_host}:{settings.http_port}")
    Server(config, on_shutdown=streams.close).run(sockets=[listener])
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
