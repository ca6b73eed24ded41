"""The gateway process: composes bridge and application, and serves HTTP."""

import os
import socket
import sys

import uvicorn

from schemas.wire import canonical
from services.bus import BrokerAddress
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.logs import configure
from services.settings import Settings, SettingsError

EXIT_BAD_INPUT = 2
"""Exit status for an environment that cannot be used: starting again will not help."""


def main() -> int:
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT
    log = configure(settings, "gateway")
    try:
        listener = socket.create_server((settings.http_host, settings.http_port), backlog=1024)
    except OSError as error:
        log.error("port_taken", host=settings.http_host, port=settings.http_port, reason=str(error))
        return EXIT_BAD_INPUT
    bridge = Bridge(BrokerAddress.of(settings), canonical(settings.feeder), log)
    config = uvicorn.Config(
        create_app(bridge, log),
        http="httptools",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    log.info("listening", url=f"http://{settings.http_host}:{settings.http_port}")
    uvicorn.Server(config).run(sockets=[listener])
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
