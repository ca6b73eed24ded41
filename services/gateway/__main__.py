"""The gateway process: composes bridge and application, and serves HTTP."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from schemas.wire import canonical
from services.bus import BrokerAddress
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.logs import configure
from services.process import EXIT_BAD_INPUT, settings_or_exit


class _Server(uvicorn.Server):
    """uvicorn without its habit of dying of the signal that it has just obeyed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield


def main() -> int:
    settings = settings_or_exit()
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
    _Server(config).run(sockets=[listener])
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
