"""The FastAPI application: routes, the one shape of every error, and the bridge's life."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from schemas.errors import ErrorCode, Refusal
from services.gateway import answers, events, health, programs, reads, writes
from services.gateway.access import Access
from services.gateway.bridge import Bridge
from services.gateway.guard import Guard
from services.gateway.headers import SecurityHeaders
from services.gateway.openapi import Documentation
from services.gateway.streams import Streams
from services.logs import Log

DESCRIPTION = """A live digital twin of an electricity distribution feeder.

Every answer is `{"status": "success", "message", "results"}` or
`{"status": "error", "code", "message", "details"}`. Consumption is positive; powers are in kW and
kvar, voltages in pu of the bus's base.

A gateway that others than its own machine can reach asks for an API key, as
`Authorization: Bearer ff_...` or as `X-API-Key`. A viewer's may read, an operator's also change a
feeder and run programs, an admin's also define programs; each operation names the least of the
roles that it takes."""

CALLERS_HEADERS = ("Authorization", "X-API-Key", "Idempotency-Key", "Prefer", "Content-Type")
"""What a web page of another origin may say."""


def create_app(bridge: Bridge, streams: Streams, log: Log) -> FastAPI:
    """Compose the application around a bridge, which lives as long as the application does, and
    the streams that it feeds.
    """

    def ended(task: asyncio.Task[None]) -> None:
        # Without its bridge a gateway only looks alive: it had better start again.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("bridge_failed", exc_info=error)
            signal.raise_signal(signal.SIGTERM)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(bridge.run())
        task.add_done_callback(ended)
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = FastAPIOffline(
        title="FlexFeeder",
        description=DESCRIPTION,
        version="0.1.0",
        lifespan=lifespan,
        redirect_slashes=False,  # it would lead to wherever the request says that it came to
    )
    routes = Documentation(app)
    # In the order in which a path is looked for.
    writes.install(routes, bridge)
    reads.install(routes, bridge)
    programs.install(routes, bridge)
    events.install(routes, bridge, streams)
    health.install(routes, bridge)

    async def failed(_request: Request, error: Exception) -> Response:
        log.error("request_failed", exc_info=error)
        message = "an error of ours; it is in the log"
        return answers.error(500, ErrorCode.INTERNAL_ERROR, message)

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, Refusal):
            return answers.refused(error)
        return await failed(request, error)

    async def http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return await failed(request, error)
        code = _CODES.get(error.status_code, ErrorCode.INTERNAL_ERROR)
        answer = answers.error(error.status_code, code, error.detail)
        answer.headers.update(error.headers or {})  # which methods are allowed, say
        return answer

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nobody is there to read it

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)
    return app


def guarded(app: ASGIApp, access: Access) -> ASGIApp:
    """The application behind all that looks at a request first. What is put around it last sees
    the request first, and the answer last.
    """
    app = Guard(
        app,
        keys=access.keys,
        origins=access.origins,
        rate=access.rate,
        concurrency=access.concurrency,
    )
    if access.origins:
        app = CORSMiddleware(
            app,
            allow_origins=access.origins,
            allow_methods=("GET", "POST", "PUT", "DELETE"),
            allow_headers=CALLERS_HEADERS,
            expose_headers=("Retry-After",),
        )
    return SecurityHeaders(app)


_CODES = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED, 400: ErrorCode.NOT_JSON}
