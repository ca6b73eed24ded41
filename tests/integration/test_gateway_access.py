"""Who may do what over HTTP, of a gateway in a process of its own. No broker is there: what a
request becomes once it is let in is told elsewhere.
"""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from gateway_peers import Gateway
from patience import PATIENCE_S
from starlette.routing import Route
from support import assert_refused, quiet_log

from flexfeeder import authority, ports
from flexfeeder.testing import wait_until
from services import keys_file
from services.api_keys import Role
from services.bus import BrokerAddress
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.streams import Streams
from services.process import EXIT_BAD_INPUT

PAGE = "https://page.example"
"""The origin of a web page from elsewhere."""

# Over loopback, without TLS: to read all authorities takes longer than a request.
get = partial(httpx.get, timeout=PATIENCE_S, verify=False)
post = partial(httpx.post, timeout=PATIENCE_S, verify=False)
patch = partial(httpx.patch, timeout=PATIENCE_S, verify=False)
options = partial(httpx.options, timeout=PATIENCE_S, verify=False)
stream = partial(httpx.stream, timeout=PATIENCE_S, verify=False)

OPEN = {"/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
ADMINS = {"/register_dfp", "/update_dfp", "/delete_dfp"}


def environment(settings: dict[str, Any]) -> dict[str, str]:
    plain = {n: v for n, v in os.environ.items() if not n.startswith("FLEXFEEDER_")}
    return {**plain, **{f"FLEXFEEDER_{name}": str(value) for name, value in settings.items()}}


@contextmanager
def gateway(folder: Path, **settings: Any) -> Iterator[Gateway]:
    """Start a gateway, and stop it after; it listens when it is yielded."""
    port, broker_port = ports.free_ports(2)
    log_path = folder / f"gateway-{port}.log"
    env = environment(
        {
            "HTTP_PORT": port,
            "MQTT_HOST": "127.0.0.1",
            "MQTT_PORT": broker_port,
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "DEBUG",
            **settings,
        }
    )
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"],
            env=env,
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    scheme = "https" if "HTTP_CERT" in settings else "http"
    found = Gateway(f"{scheme}://127.0.0.1:{port}", port, process, log_path)
    try:
        wait_until(lambda: ports.is_open("127.0.0.1", port), "it listens")
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def refusal(**settings: Any) -> subprocess.CompletedProcess[str]:
    """What a gateway says that does not start."""
    command = [sys.executable, "-m", "services.gateway"]
    env = environment({"HTTP_PORT": ports.free_port(), "LOG_FORMAT": "json", **settings})
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def new_key(path: Path, role: Role, name: str | None = None) -> str:
    with keys_file.changing(path):
        keys, key = keys_file.load(path).issue(
            name or role, role, datetime.now(UTC), secrets.token_bytes
        )
        keys_file.save(path, keys)
    return key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def raw(port: int, request: bytes) -> bytes:
    """What is answered to bytes, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(request)
        return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the connection is closed, be it in order or not."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            found += piece
    return found


@pytest.fixture(scope="module")
def keys_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keys(keys_path: Path) -> dict[Role, str]:
    return {role: new_key(keys_path, role) for role in Role}


@pytest.fixture(scope="module")
def closed(
    keys: dict[Role, str], keys_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that asks for keys."""
    with gateway(tmp_path_factory.mktemp("closed"), KEYS_FILE=keys_path) as found:
        yield found


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that asks for none."""
    with gateway(tmp_path_factory.mktemp("unlocked")) as found:
        yield found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``ca.crt``, and ``server.crt`` and ``server.key`` for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificate")
    now = datetime.now(UTC)
    trusted = authority.new_authority(now)
    server = authority.new_server(trusted, {"127.0.0.1"}, now)
    (folder / "ca.crt").write_bytes(trusted.certificate)
    (folder / "server.crt").write_bytes(server.certificate)
    (folder / "server.key").write_bytes(server.key)
    (folder / "other.key").write_bytes(trusted.key)
    return folder


@pytest.fixture(scope="module")
def secure(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "HTTP_CERT": certificate / "server.crt",
        "HTTP_KEY": certificate / "server.key",
    }
    with gateway(tmp_path_factory.mktemp("secure"), **settings) as found:
        yield found


@pytest.fixture(scope="module")
def begun(unlocked: Gateway, secure: Gateway) -> Iterator[dict[str, socket.socket]]:
    """Connections on which something begins and does not go on: all at once, since each takes ten
    seconds until it is closed.
    """
    began = {
        "silent": (unlocked, b""),
        "head": (unlocked, b"GET /get_state HTTP/1.1\r\nHost: local"),
        "body": (
            unlocked,
            b"POST /run_simulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{",
        ),
        "handshake": (secure, b"\x16\x03\x01"),
    }
    with ExitStack() as stack:
        found = {}
        for name, (asked, request) in began.items():
            address = ("127.0.0.1", asked.port)
            connection = socket.create_connection(address, timeout=PATIENCE_S)
            found[name] = stack.enter_context(connection)
            connection.sendall(request)
        yield found


def every_route() -> list[tuple[str, str]]:
    """Method and path of whatever the application answers to, the documentation's files aside."""
    log = quiet_log()
    streams = Streams(log)
    app: FastAPI = create_app(
        Bridge(BrokerAddress("127.0.0.1", 1), "ieee123", streams, log), streams, log
    )
    found = [
        (method, route.path.replace("{bus}", "1").replace("{name}", "a"))
        for route in app.routes
        if isinstance(route, Route | APIRoute)
        for method in sorted(route.methods or ())
        if method != "HEAD"
    ]
    assert {path for _, path in found} > OPEN | ADMINS | {"/get_state", "/events", "/buses/1"}
    return found


ROUTES = every_route()


class TestRoles:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_each_route_is_for_its_role_and_those_above(
        self, method: str, path: str, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        needed = Role.VIEWER if method == "GET" else Role.OPERATOR
        if path in ADMINS:
            needed = Role.ADMIN

        def status(headers: dict[str, str]) -> int:
            with stream(method, closed.url + path, headers=headers) as answer:
                return answer.status_code

        with_key = {role: status(bearer(key)) for role, key in keys.items()}
        without = status({})
        if path in OPEN:
            assert not {without, *with_key.values()} & {401, 403, 429}
            return
        assert without in {401, 429}  # 429: after many a route that was asked for without a key
        assert {role: found == 403 for role, found in with_key.items()} == {
            role: not role.may_do_what(needed) for role in Role
        }
        assert not set(with_key.values()) & {401, 429}

    def test_files_of_the_documentation_are_open(self, closed: Gateway) -> None:
        for page in ("/docs", "/redoc"):
            answer = get(closed.url + page)
            assert answer.status_code == 200
            files = [part.split('"')[0] for part in answer.text.split('src="')[1:]]
            assert files
            for file in files:
                assert file.startswith("/static-offline-docs/")
                assert get(closed.url + file).status_code == 200

    def test_what_is_nowhere_is_asked_for_a_key_too(
        self, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        assert get(f"{closed.url}/nowhere").status_code in {401, 429}
        answer = get(f"{closed.url}/nowhere", headers=bearer(keys[Role.VIEWER]))
        assert_refused(answer, 404, "not_found")

    def test_a_path_that_is_not_quite_one_gets_nobody_further(
        self, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        """What it leads to asks again."""
        headers = bearer(keys[Role.OPERATOR])
        for path in ("/register_dfp/", "//register_dfp", "/%72egister_dfp", "/register_dfp/."):
            with httpx.Client(follow_redirects=True, timeout=PATIENCE_S) as client:
                answer = client.post(closed.url + path, headers=headers, json={})
            assert answer.status_code in {403, 404, 405}, path

    def test_keys_come_and_go_while_it_runs(self, closed: Gateway, keys_path: Path) -> None:
        key = new_key(keys_path, Role.VIEWER, "for_a_while")

        def status() -> int:
            return get(f"{closed.url}/metrics", headers=bearer(key)).status_code

        wait_until(lambda: status() == 200, "the new key is taken", every_s=0.2)
        with keys_file.changing(keys_path):
            revoked = keys_file.load(keys_path).revoke(key[3:11], datetime.now(UTC))
            keys_file.save(keys_path, revoked)
        wait_until(lambda: status() in {401, 429}, "the revoked key is not", every_s=0.2)

    def test_a_stream_ends_with_its_key(self, closed: Gateway, keys_path: Path) -> None:
        key = new_key(keys_path, Role.VIEWER, "reader_for_a_while")
        other = new_key(keys_path, Role.VIEWER, "reader")

        def is_let_in(key: str) -> bool:
            return get(f"{closed.url}/metrics", headers=bearer(key)).status_code == 200

        wait_until(lambda: is_let_in(key) and is_let_in(other), "both are taken", every_s=0.2)
        with (
            stream("GET", f"{closed.url}/events", headers=bearer(key)) as ending,
            stream("GET", f"{closed.url}/events", headers=bearer(other)) as other_s,
        ):
            with keys_file.changing(keys_path):
                revoked = keys_file.load(keys_path).revoke(key[3:11], datetime.now(UTC))
                keys_file.save(keys_path, revoked)
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in ending.iter_bytes():
                    pass
            assert next(other_s.iter_bytes())

    def test_no_key_takes_all_the_streams(self, closed: Gateway, keys_path: Path) -> None:
        greedy, other = (new_key(keys_path, Role.VIEWER, name) for name in ("greedy", "modest"))
        with ExitStack() as stack:

            def status(key: str) -> int:
                events = stream("GET", f"{closed.url}/events", headers=bearer(key))
                return stack.enter_context(events).status_code

            wait_until(lambda: status(greedy) == 503, "it has as many as it may", every_s=0.05)
            assert status(other) == 200

    def test_headers_given_twice_or_badly_are_no_key(
        self, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        key = keys[Role.ADMIN].encode()
        good = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n"
        assert raw(closed.port, good % (b"X-API-Key: %s\r\n" % key)).startswith(b"HTTP/1.1 200 ")
        for lines in (
            b"X-API-Key: %s\r\nX-API-Key: %s\r\n" % (key, key),
            b"Authorization: Bearer %s\r\nX-API-Key: %s\r\n" % (key, key),
            b"Authorization: Bearer %s\r\nAuthorization: Bearer x\r\n" % key,
            b"Authorization: Basic %s\r\n" % key,
            b"X-API-Key: \xff\xfe\r\n",
        ):
            answer = raw(closed.port, good % lines)
            assert answer.split()[1] in {b"401", b"429"}
            assert key not in answer

    def test_what_is_in_force_is_logged_and_no_secret_is(
        self, closed: Gateway, unlocked: Gateway, keys: dict[Role, str]
    ) -> None:
        key = keys[Role.OPERATOR]
        url = closed.url
        for role in (Role.VIEWER, Role.OPERATOR):
            post(f"{url}/register_dfp", headers=bearer(keys[role]))
        get(f"{url}/get_state?api_key={key}")
        post(f"{url}/run_simulation", headers=bearer(key), content=key)
        get(f"{url}/get_state", headers={**bearer(key), "X-API-Key": key})
        get(f"{url}/get_state", headers=bearer(key + "x"))
        raw(closed.port, b"X-API-Key: %s\r\n\r\n" % key.encode())
        [listening] = closed.logged("listening")
        assert listening["security"] == "API keys"
        [listening] = unlocked.logged("listening")
        assert listening["security"] == "none: only this machine can reach it"
        log = closed.log_path.read_text(encoding="utf-8")
        assert not any(text.split("_", 2)[2] in log for text in keys.values())


class TestLimits:
    def test_a_key_makes_no_more_requests_than_it_may(
        self, keys: dict[Role, str], keys_path: Path, tmp_path: Path
    ) -> None:
        """One in a hundred seconds."""
        with gateway(tmp_path, KEYS_FILE=keys_path, HTTP_RATE=0.01) as found:
            headers = bearer(keys[Role.VIEWER])
            assert get(f"{found.url}/metrics", headers=headers).status_code == 200
            answer = get(f"{found.url}/metrics", headers=headers)
            assert_refused(answer, 429, "too_many_requests")
            assert 0 < int(answer.headers["retry-after"]) <= 100
            other = get(f"{found.url}/metrics", headers=bearer(keys[Role.ADMIN]))
            assert other.status_code == 200

    def test_no_more_are_under_way_than_may_be(self, tmp_path: Path) -> None:
        """One is, whose body does not come: then the others have to wait, but for health."""

        def status(path: str = "/metrics") -> int:
            return get(found.url + path).status_code

        with gateway(tmp_path, HTTP_CONCURRENCY=1) as found:
            with socket.create_connection(("127.0.0.1", found.port)) as slow:
                slow.sendall(b"POST /run_simulation HTTP/1.1\r\nContent-Length: 5\r\n\r\n{")
                wait_until(lambda: status() == 503, "it is under way")
                answer = get(f"{found.url}/metrics")
                assert_refused(answer, 503, "service_unavailable", "gateway")
                assert answer.headers["retry-after"] == "1"
                assert status("/healthz") == 200
            wait_until(lambda: status() == 200, "its place is free again")

    def test_neither_a_head_nor_a_body_is_waited_for_longer_than_ten_seconds(
        self, unlocked: Gateway, begun: dict[str, socket.socket]
    ) -> None:
        answer = rest_of(begun["body"])
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert b'"code":"request_timeout"' in answer
        for unanswered in ("silent", "head"):
            assert rest_of(begun[unanswered]) == b""
        reasons = [entry["reason"] for entry in unlocked.logged("connection_closed")]
        assert reasons.count("slow head") == 1  # told the first time

    def test_a_flood_of_requests_before_an_answer_is_hung_up_on(self, unlocked: Gateway) -> None:
        """Each would be held, at a hundred times what it weighs."""
        answer = raw(unlocked.port, b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10_000)
        assert answer.count(b"HTTP/1.1 ") < 100
        assert get(f"{unlocked.url}/healthz").status_code == 200

    def test_a_head_of_many_headers_is_refused(self, unlocked: Gateway) -> None:
        few = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        assert raw(unlocked.port, few + b"a: b\r\n" * 90 + b"\r\n")[:13] == b"HTTP/1.1 200 "
        assert raw(unlocked.port, few + b"a: b\r\n" * 200 + b"\r\n")[:13] == b"HTTP/1.1 431 "

    def test_a_huge_head_is_refused(self, unlocked: Gateway) -> None:
        answer = raw(unlocked.port, b"GET / HTTP/1.1\r\nX-A: " + b"a" * 1_000_000 + b"\r\n\r\n")
        assert answer[:13] in {b"", b"HTTP/1.1 431 "}  # words may be lost where much is unread
        assert get(f"{unlocked.url}/healthz").status_code == 200


class TestPaths:
    """The table of rights and the routes see the same path."""

    @pytest.mark.parametrize(
        "ending", ["%0A", "%0D", "%00", "%0D%0A", "%E2%80%A8", "/", "//", "%20"]
    )
    @pytest.mark.parametrize("path", ["/register_dfp", "/update_dfp", "/delete_dfp"])
    def test_nothing_behind_a_path_makes_it_another(
        self, closed: Gateway, keys: dict[Role, str], path: str, ending: str
    ) -> None:
        """An operator would come through to the endpoint, which says 503 or 422."""
        for method in ("POST", "PUT", "DELETE"):
            request = f"{method} {path}{ending} HTTP/1.1\r\nHost: localhost\r\n"
            request += f"Authorization: Bearer {keys[Role.OPERATOR]}\r\nConnection: close\r\n\r\n"
            assert raw(closed.port, request.encode())[:13] in {b"HTTP/1.1 403 ", b"HTTP/1.1 404 "}

    def test_what_is_new_takes_an_administrator(
        self, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        for role, status in ((Role.OPERATOR, 403), (Role.ADMIN, 404)):
            answer = post(f"{closed.url}/something_new", headers=bearer(keys[role]))
            assert answer.status_code == status


class TestWebPages:
    def test_a_page_from_elsewhere_changes_nothing(
        self, unlocked: Gateway, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        for found, headers in ((unlocked, {}), (closed, bearer(keys[Role.OPERATOR]))):
            answer = post(
                f"{found.url}/run_simulation", headers={**headers, "Origin": PAGE}, json={}
            )
            assert_refused(answer, 403, "forbidden", "Origin")
            own = {**headers, "Origin": found.url}
            answer = post(f"{found.url}/run_simulation", headers=own, json={})
            assert_refused(answer, 503, "service_unavailable", "broker")

    def test_without_keys_a_name_of_elsewhere_leads_nowhere(self, unlocked: Gateway) -> None:
        rebound = {"Host": f"page.example:{unlocked.port}"}
        assert_refused(get(f"{unlocked.url}/get_state", headers=rebound), 403, "forbidden", "Host")
        for host in ("localhost", "127.0.0.1", "[::1]"):
            headers = {"Host": f"{host}:{unlocked.port}"}
            assert get(f"{unlocked.url}/metrics", headers=headers).status_code == 200

    def test_others_read_only_what_they_are_let_read(
        self, unlocked: Gateway, tmp_path: Path
    ) -> None:
        page = {"Origin": PAGE}
        preflight = {**page, "Access-Control-Request-Method": "POST"}
        allowed = "access-control-allow-origin"
        assert allowed not in get(f"{unlocked.url}/metrics", headers=page).headers
        refused = options(f"{unlocked.url}/run_simulation", headers=preflight)
        assert refused.status_code == 405
        assert allowed not in refused.headers
        with gateway(tmp_path, CORS_ORIGINS=PAGE) as found:
            answer = options(f"{found.url}/run_simulation", headers=preflight)
            assert (answer.status_code, answer.headers[allowed]) == (200, PAGE)
            answer = post(f"{found.url}/run_simulation", headers=page, json={})
            assert_refused(answer, 503, "service_unavailable", "broker")
            assert answer.headers[allowed] == PAGE
            other = {"Origin": "https://other.example"}
            answer = post(f"{found.url}/run_simulation", headers=other, json={})
            assert_refused(answer, 403, "forbidden", "Origin")
            assert allowed not in answer.headers

    def test_every_answer_has_the_headers_of_a_careful_server(
        self, closed: Gateway, keys: dict[Role, str]
    ) -> None:
        headers = bearer(keys[Role.ADMIN])
        for answer in (
            get(f"{closed.url}/docs"),
            get(f"{closed.url}/healthz"),
            get(f"{closed.url}/get_state"),
            get(f"{closed.url}/get_state", headers=headers),
            get(f"{closed.url}/nowhere", headers=headers),
            patch(f"{closed.url}/get_state", headers=headers),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"
            assert "content-security-policy" in answer.headers
            assert "server" not in answer.headers
        with stream("GET", f"{closed.url}/events", headers=headers) as events:
            assert events.headers["cache-control"] == "no-cache"


@pytest.fixture(scope="module")
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "ca.crt"))


class TestHttps:
    def test_it_is_spoken_with_whoever_trusts_the_authority(
        self, secure: Gateway, trusting: ssl.SSLContext
    ) -> None:
        with httpx.Client(verify=trusting, timeout=PATIENCE_S) as client:
            for _ in range(2):
                answer = client.get(f"{secure.url}/metrics")
                assert answer.status_code == 200
                assert answer.headers["strict-transport-security"].startswith("max-age=")
        [listening] = secure.logged("listening")
        assert listening["url"] == secure.url

    def test_http_is_not_spoken_beside_it(self, secure: Gateway) -> None:
        assert b"HTTP" not in raw(secure.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def test_nor_is_an_old_tls(self, secure: Gateway, certificate: Path) -> None:
        def version(newest: ssl.TLSVersion) -> str | None:
            context = ssl.create_default_context(cafile=str(certificate / "ca.crt"))
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            context.maximum_version = newest
            address = ("127.0.0.1", secure.port)
            with (
                socket.create_connection(address, timeout=PATIENCE_S) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
            ):
                return connection.version()

        assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError):
            version(ssl.TLSVersion.TLSv1_1)

    def test_a_handshake_that_does_not_come_is_not_waited_for_and_spoils_no_log(
        self, secure: Gateway, begun: dict[str, socket.socket]
    ) -> None:
        assert rest_of(begun["handshake"]) == b""
        assert secure.log()  # each line is JSON

    def test_a_stream_is_hung_up_on_there_too(
        self, secure: Gateway, trusting: ssl.SSLContext
    ) -> None:
        connection = http.client.HTTPSConnection("127.0.0.1", secure.port, context=trusting)
        connection.request("GET", "/events")
        assert connection.getresponse().status == 200
        connection.close()
        assert ports.is_open("127.0.0.1", secure.port)


class TestRefusalToStart:
    """Said in the log and plainly; and starting it again would not help."""

    @pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "twin.example"])
    def test_without_keys_nobody_else_may_reach_it(self, host: str) -> None:
        found = refusal(HTTP_HOST=host)
        assert found.returncode == EXIT_BAD_INPUT
        assert '"event": "keys_wanted"' in found.stderr
        plain = found.stderr.splitlines()[-1]
        assert plain.startswith(f"FLEXFEEDER_HTTP_HOST={host} ")
        assert "FLEXFEEDER_KEYS_FILE" in plain

    def test_with_keys_they_may(
        self, keys: dict[Role, str], keys_path: Path, tmp_path: Path
    ) -> None:
        with gateway(tmp_path, HTTP_HOST="0.0.0.0", KEYS_FILE=keys_path) as found:
            headers = {**bearer(keys[Role.VIEWER]), "Host": "twin.example"}
            assert get(f"{found.url}/metrics", headers=headers).status_code == 200

    def test_a_file_of_keys_must_be_one(self, tmp_path: Path) -> None:
        missing, broken = tmp_path / "missing.json", tmp_path / "broken.json"
        broken.write_text('{"keys": [{"secret": "hush"}]}')
        for path, problem in ((missing, "No such file"), (broken, "keys.0.hash: Field required")):
            found = refusal(KEYS_FILE=path)
            assert found.returncode == EXIT_BAD_INPUT
            assert '"event": "keys_unusable"' in found.stderr
            assert f"FLEXFEEDER_KEYS_FILE: {path}" in found.stderr.splitlines()[-1]
            assert problem in found.stderr
            assert "hush" not in found.stderr

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"HTTP_CERT": "server.crt"}, "FLEXFEEDER_HTTP_KEY: missing"),
            ({"HTTP_KEY": "server.key"}, "FLEXFEEDER_HTTP_CERT: missing"),
            ({"HTTP_CERT": "server.crt", "HTTP_KEY": "other.key"}, "KEY_VALUES_MISMATCH"),
            ({"HTTP_CERT": "server.key", "HTTP_KEY": "server.key"}, "FLEXFEEDER_HTTP_CERT="),
        ],
    )
    def test_certificate_and_key_belong_together(
        self, settings: dict[str, str], named: str, certificate: Path
    ) -> None:
        found = refusal(**{name: certificate / file for name, file in settings.items()})
        assert found.returncode == EXIT_BAD_INPUT
        assert '"event": "https_unusable"' in found.stderr
        assert named in found.stderr.splitlines()[-1]
        assert "PRIVATE" not in found.stderr

    def test_all_that_is_wrong_is_said_at_once(self, certificate: Path) -> None:
        found = refusal(
            HTTP_HOST="0.0.0.0", HTTP_CERT=certificate / "server.crt", CORS_ORIGINS=f"{PAGE},*"
        )
        assert found.returncode == EXIT_BAD_INPUT
        starts = [line.split("=")[0].split(":")[0] for line in found.stderr.splitlines()[-3:]]
        assert starts == ["FLEXFEEDER_HTTP_HOST", "FLEXFEEDER_HTTP_KEY", "FLEXFEEDER_CORS_ORIGINS"]
        assert "'*' is no origin" in found.stderr
