"""Where a process tells Prometheus its figures, and whoever watches over it whether it is well.

A few requests at once in threads of their own, which end with the process. It speaks plain HTTP to
whoever reaches it: it belongs on loopback or on a network of the operator's.
"""

import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from services.logs import Log
from services.metrics import Pulse
from services.process import EXIT_BAD_INPUT
from services.settings import Settings

MOST_AT_ONCE = 8
"""Callers that are served at once; any more are hung up on, and so are any without a thread."""

PATIENCE_S = 5.0
"""How long a caller may take to say, or to read, the next piece."""


def serve_or_exit(
    settings: Settings, log: Log, registry: CollectorRegistry, pulse: Pulse
) -> "Server | None":
    """Serve from now on, if the settings say where; where that cannot be, the process ends."""
    if settings.metrics_port is None:
        return None
    host, port = settings.metrics_host, settings.metrics_port
    try:
        server = Server(host, port, registry, pulse)
    except OSError as error:
        log.error("metrics_not_served", host=host, port=port, reason=str(error))
        sys.exit(EXIT_BAD_INPUT)
    server.start()
    return server


class Server(socketserver.ThreadingTCPServer):
    """Serves ``/metrics`` and ``/healthz``.

    Raises:
        OSError: when it is made, where the port is taken or the host is none of ours.

    """

    allow_reuse_address = True
    allow_reuse_port = False
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry, pulse: Pulse) -> None:
        self.registry = registry
        self.pulse = pulse
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((host, port), _Handler)

    @property
    def port(self) -> int:
        """The one that it listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there is no thread to be had, and so none that would let go
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away in the middle is nobody's error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = PATIENCE_S
    server_version = "FlexFeeder"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, media_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.registry), media_type)
        elif path == "/healthz":
            problem = self.server.pulse.problem()
            text = f"{problem or 'ok'}\n".encode()
            self._answer(503 if problem else 200, text, "text/plain; charset=utf-8")
        else:
            self._answer(404, b"there are /metrics and /healthz\n", "text/plain; charset=utf-8")

    def log_message(self, *_: Any) -> None:
        """Whoever scrapes comes every few seconds; that is no news."""

    def _answer(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
