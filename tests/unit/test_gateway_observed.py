"""What is told of each request, whoever answered it and however it ended."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from structlog.testing import LogCapture

from schemas.errors import Detail, ErrorCode
from services.api_keys import Caller, Role
from services.gateway import answers
from services.gateway.figures import Figures
from services.gateway.guard import CALLER
from services.gateway.observed import Observed
from services.gateway.seen import SEEN, Seen

STATE = b'{"feeder":"f","version":12000000042,"solved_at":"..."}'


class Broken(Exception):
    """An error of ours."""


async def write(_request: Request) -> Response:
    """Like the bridge, it says what nobody else knows."""
    seen = SEEN.get()
    assert seen is not None
    seen.request_id, seen.version = "r-17", 7
    return answers.success("done", STATE)


async def read(_request: Request) -> Response:
    return answers.success("newest state", STATE)


async def refused(_request: Request) -> Response:
    details = (Detail(field="bus", problem="there is no bus '9'"),)
    return answers.error(404, ErrorCode.BUS_NOT_FOUND, "bus: there is no bus '9'", details)


async def closed(_request: Request) -> Response:
    return answers.error(401, ErrorCode.UNAUTHENTICATED, "a key is needed")


async def broken(_request: Request) -> Response:
    raise Broken


async def foreign(_request: Request) -> Response:
    return JSONResponse(["no error of ours"], 400)


async def streamed(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"event: state\n\n"
        yield b"event: state\n\n"

    return StreamingResponse(pieces(), media_type="text/event-stream")


ROUTES = {
    "/write": write,
    "/state": read,
    "/buses/{bus}": refused,
    "/broken": broken,
    "/closed": closed,
    "/foreign": foreign,
    "/events": streamed,
    "/healthz": read,
}


class Known:
    """Stands where the guard does: everybody has a key."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CALLER] = Caller("k1", "somebody", Role.VIEWER)
        await self._app(scope, receive, send)


class Gateway:
    def __init__(self, level: int = logging.INFO, *, is_known: bool = True) -> None:
        self.figures = Figures()
        capture = LogCapture()
        log = structlog.wrap_logger(
            None,
            processors=[capture],
            wrapper_class=structlog.make_filtering_bound_logger(level),
        )
        self.entries = capture.entries
        routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in ROUTES.items()]
        app: Any = Starlette(routes=routes)
        self._app = Observed(Known(app) if is_known else app, self.figures, log)

    def ask(self, path: str, method: str = "GET") -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://g") as client:
                return await client.request(method, path)

        return asyncio.run(asked())

    def line(self, path: str, method: str = "GET") -> dict[str, Any]:
        """What is logged of a request, but how long it took."""
        self.ask(path, method)
        [entry] = self.entries
        assert entry.pop("ms") >= 0
        assert (entry.pop("event"), entry.pop("log_level")) == ("request", "info")
        assert (entry.pop("key_id"), entry.pop("key_name")) == ("k1", "somebody")
        return dict(entry)

    def count(self, **labels: str) -> float | None:
        return self.figures.registry.get_sample_value("flexfeeder_gateway_requests_total", labels)


def test_a_write_is_told_with_what_the_bridge_knows() -> None:
    expected = {"method": "GET", "route": "/write", "path": "/write", "status": 200}
    assert Gateway().line("/write?secret=1") == {**expected, "request_id": "r-17", "version": 7}


def test_a_state_says_its_version_itself() -> None:
    expected = {"method": "GET", "route": "/state", "path": "/state", "status": 200}
    assert Gateway().line("/state") == {**expected, "version": 12_000_000_042}


def test_a_refusal_is_told_by_its_code_under_the_template_of_its_route() -> None:
    gateway = Gateway()
    expected = {"route": "/buses/{bus}", "path": "/buses/9", "status": 404}
    assert gateway.line("/buses/9") == {"method": "GET", "error": "bus_not_found", **expected}
    assert gateway.count(method="GET", route="/buses/{bus}", status="404") == 1.0


@pytest.mark.parametrize(
    ("path", "method", "told"),
    [
        ("/nowhere", "GET", {"method": "GET", "route": "other", "status": "404"}),
        ("/state", "BREW", {"method": "other", "route": "/state", "status": "405"}),
        ("/foreign", "GET", {"method": "GET", "route": "/foreign", "status": "400"}),
    ],
)
def test_what_anybody_may_think_of_is_other(path: str, method: str, told: dict[str, str]) -> None:
    gateway = Gateway()
    gateway.ask(path, method)
    assert gateway.count(**told) == 1.0


def test_an_error_of_ours_counts_and_goes_on() -> None:
    gateway = Gateway()
    with pytest.raises(Broken):
        gateway.ask("/broken")
    assert gateway.count(method="GET", route="/broken", status="500") == 1.0
    assert gateway.figures.in_flight._value.get() == 0.0


def test_a_stream_is_told_once_at_its_end() -> None:
    gateway = Gateway()
    assert gateway.line("/events")["status"] == 200
    seconds = "flexfeeder_gateway_request_seconds_count"
    labels = {"method": "GET", "route": "/events"}
    assert gateway.figures.registry.get_sample_value(seconds, labels) == 1.0


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.DEBUG, 1)])
def test_who_watches_over_it_is_no_news(level: int, lines: int) -> None:
    gateway = Gateway(level)
    gateway.ask("/healthz")
    assert len(gateway.entries) == lines
    assert gateway.count(method="GET", route="/healthz", status="200") == 1.0


def test_a_request_that_is_given_up_has_no_answer() -> None:
    gateway = Gateway()

    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    observed = Observed(never, gateway.figures, gateway._app._log)
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}

    async def given_up() -> None:
        task = asyncio.create_task(observed(scope, None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(given_up())
    assert gateway.count(method="GET", route="other", status="499") == 1.0


def test_requests_do_not_see_each_other() -> None:
    """What one says of itself is not told of the other, however they are mixed."""
    gateway = Gateway()
    both_are_there = asyncio.Barrier(2)

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        seen = SEEN.get()
        assert isinstance(seen, Seen)
        seen.request_id = scope["path"]
        await both_are_there.wait()
        assert SEEN.get() is seen
        await send({"type": "http.response.start", "status": 200})

    async def sent(_message: Any) -> None:
        pass

    async def received() -> Any:
        return {}

    async def both() -> None:
        observed = Observed(app, gateway.figures, gateway._app._log)
        scopes: list[Scope] = [
            {"type": "http", "method": "GET", "path": path, "headers": []} for path in ("/a", "/b")
        ]
        await asyncio.gather(*(observed(scope, received, sent) for scope in scopes))

    asyncio.run(both())
    assert {(entry["path"], entry["request_id"]) for entry in gateway.entries} == {
        ("/a", "/a"),
        ("/b", "/b"),
    }


def test_strangers_fill_no_log() -> None:
    """Ten lines within any second, however many are turned away; none goes unsaid."""
    gateway = Gateway(is_known=False)
    for _ in range(200):
        gateway.ask("/closed")
    gateway.ask("/state")
    lines = [entry for entry in gateway.entries if entry["event"] == "request"]
    left_out = sum(line.get("suppressed", 0) for line in lines)
    assert left_out > 0
    assert len(lines) + left_out == 201
    assert gateway.count(method="GET", route="/closed", status="401") == 200.0
