"""What the engine asks of a container: how its service is, in plain HTTP or in HTTPS."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flexfeeder import authority, ports
from services import health


class _Answers(BaseHTTPRequestHandler):
    """Well at one path, and at no other."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
        self.wfile.write(b"so it is")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked and asking are one process, for which this machine may have no time."""
    monkeypatch.setattr(health, "TIMEOUT_S", 30.0)


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[int]:
    """A server on loopback; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_it_says_what_the_gateway_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        monkeypatch.setenv("FLEXFEEDER_HTTP_PORT", str(port))
        assert health.main(["/readyz"]) == 0
        assert health.main(["/elsewhere"]) == 1


def test_it_asks_a_gateway_that_speaks_https_in_https(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    made = authority.new_server(authority.new_authority(now), ["feeder.example"], now)
    certificate = tmp_path / "server.pem"
    certificate.write_bytes(made.certificate + made.key)
    with serving(certificate) as port:
        monkeypatch.setenv("FLEXFEEDER_HTTP_PORT", str(port))
        assert health.main(["/readyz"]) == 1
        monkeypatch.setenv("FLEXFEEDER_HTTP_CERT", str(certificate))
        assert health.main(["/readyz"]) == 0


def test_a_service_is_asked_at_its_own_port(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as port:
        monkeypatch.setenv("FLEXFEEDER_METRICS_PORT", str(port))
        assert health.main([]) == 1
        assert "503 so it is" in capsys.readouterr().out
    monkeypatch.setenv("FLEXFEEDER_METRICS_PORT", str(ports.free_port()))
    assert health.main([]) == 1
    assert "no answer" in capsys.readouterr().out
