"""What is told of each request to whoever runs the gateway: it counts, has a line, and is traced.

This stands before everything else that looks at a request, so that nothing goes untold.
"""

import re
import time

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api_keys import Caller
from services.gateway.figures import Figures
from services.gateway.guard import CALLER
from services.gateway.seen import SEEN, Seen
from services.logs import Log
from services.metrics import OTHER
from services.ration import LINES_A_SECOND, Ration
from services.stopwatch import Interval
from services.tracing import Attributes, Tracing

QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that are asked for every few seconds: no news at INFO."""

LONGEST_PATH = 200
"""Characters of a path that are logged."""

GIVEN_UP = 499
"""Status of a request without an answer: its caller has left, or the gateway has ended first."""

_TURNED_AWAY = frozenset({401, 429})
"""Statuses that anybody gets, as often as he likes."""

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})

_LARGEST_ERROR = 1 << 16
"""Bytes of an answer that are parsed for its code; no error of ours is longer."""

_VERSION = re.compile(rb'"results":\{"feeder":"[A-Za-z0-9_-]{1,64}","version":(\d{1,18}),')
_HEAD_BYTES = 256
"""Of an answer: so far in, a state has said its version."""


class Observed:
    """ASGI middleware that sees every request and its answer."""

    def __init__(
        self, app: ASGIApp, figures: Figures, log: Log, tracing: Tracing | None = None
    ) -> None:
        self._app = app
        self._figures = figures
        self._log = log.bind()
        self._tracing = tracing
        self._strangers = Ration(LINES_A_SECOND)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        seen, answer = Seen(), _Answer()
        span = None
        if self._tracing is not None:
            span = self._tracing.begin(scope["method"], _traceparent(scope), started)
            seen.traceparent = self._tracing.traceparent(span)

        async def watched(message: Message) -> None:
            answer.take(message)
            await send(message)

        SEEN.set(seen)
        self._figures.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        except Exception:
            answer.status = answer.status or 500
            raise
        finally:
            self._figures.in_flight.dec()
            attributes = self._told(scope, seen, answer, started)
            if self._tracing is not None and span is not None:
                name = f"{attributes['http.request.method']} {attributes['http.route']}"
                self._tracing.end(span, name, attributes, time.perf_counter())

    def _told(self, scope: Scope, seen: Seen, answer: "_Answer", started: float) -> Attributes:
        """Count and log a request; returns what a trace says of it."""
        now = time.perf_counter()
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        route = getattr(scope.get("route"), "path", OTHER)
        status = answer.status or GIVEN_UP
        self._figures.requests.labels(method, route, str(status)).inc()
        self._figures.seconds.labels(method, route).observe((answer.began_at or now) - started)
        said: dict[str, str | int] = {}
        if seen.request_id is not None:
            said["request_id"] = seen.request_id
        version = seen.version if seen.version is not None else answer.version
        if version is not None:
            said["version"] = version
        if (code := answer.code) is not None:
            said["error"] = code
        caller: Caller | None = scope.get(CALLER)
        if caller is not None:
            said |= {"key_id": caller.key_id, "key_name": caller.name}
        if status not in _TURNED_AWAY or caller is not None or self._strangers.allows():
            log = self._log.debug if scope["path"] in QUIET else self._log.info
            log(
                "request",
                method=method,
                route=route,
                path=scope["path"][:LONGEST_PATH],
                status=status,
                ms=Interval(started, now).ms,
                **said,
                **({"suppressed": left_out} if (left_out := self._strangers.left_out()) else {}),
            )
        return {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            **{f"flexfeeder.{name}": value for name, value in said.items()},
        }


class _Answer:
    """What can be seen of an answer as it passes."""

    def __init__(self) -> None:
        self.status = 0
        self.began_at = 0.0
        self._first = b""

    def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began_at = time.perf_counter()
        elif not self._first:
            self._first = message.get("body", b"")

    @property
    def version(self) -> int | None:
        """Of the state that it is, if it is one."""
        if self.status != 200:
            return None
        found = _VERSION.search(self._first[:_HEAD_BYTES])
        return int(found[1]) if found else None

    @property
    def code(self) -> str | None:
        """Of the error that it is, if it is one of ours."""
        if self.status < 400 or len(self._first) > _LARGEST_ERROR:
            return None
        try:
            code = orjson.loads(self._first)["code"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            return None
        return code if isinstance(code, str) else None


def _traceparent(scope: Scope) -> str | None:
    """What a caller says of the trace that its request belongs to."""
    for name, value in scope["headers"]:
        if name == b"traceparent":
            text: str = value.decode("latin-1")
            return text
    return None
