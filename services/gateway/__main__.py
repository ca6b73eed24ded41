"""The gateway process: composes bridge, streams and application, and serves HTTP."""

import logging
import os
import socket
import sys

import uvicorn

from schemas.wire import canonical
from services import scrape
from services.bus import BrokerAddress
from services.gateway.access import Access, AccessError
from services.gateway.app import create_app, guarded
from services.gateway.bridge import Bridge
from services.gateway.figures import Figures
from services.gateway.observed import Observed
from services.gateway.server import (
    KEEP_ALIVE_S,
    Connections,
    Protocol,
    Server,
    room_for_connections,
)
from services.gateway.streams import Streams
from services.logs import configure
from services.process import EXIT_BAD_INPUT, settings_or_exit
from services.tracing import tracing_of


def main() -> int:
    settings = settings_or_exit()
    log = configure(settings, "gateway")
    try:
        access = Access.of(settings, log)
    except AccessError as error:
        for problem in error.problems:
            log.error(problem.event, reason=problem.reason)
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    host, port = settings.http_host, settings.http_port
    try:
        listener = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        log.error("port_taken", host=host, port=port, reason=str(error))
        return EXIT_BAD_INPUT
    streams = Streams(log)
    figures = Figures()
    address = BrokerAddress.of(settings)
    bridge = Bridge(address, canonical(settings.feeder), streams, log, figures)
    scrape.serve_or_exit(settings, log, figures.registry, figures.pulse)
    tracing = tracing_of(os.environ, "gateway", bridge.instance, log)
    app = guarded(create_app(bridge, streams, log), access)
    config = uvicorn.Config(
        Observed(app, figures, log, tracing),
        http=Protocol,
        ws="none",
        access_log=False,
        log_config=None,
        log_level=logging.ERROR,  # what a caller does wrong counts, and is not told line by line
        proxy_headers=False,  # anybody could say to be somebody else
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    log.info("listening", url=f"{access.scheme}://{host}:{port}", security=access.security)
    connections = Connections(log, figures, room_for_connections())
    try:
        Server(config, connections, access.tls, on_shutdown=streams.close).run(sockets=[listener])
    finally:
        if tracing is not None:
            tracing.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
