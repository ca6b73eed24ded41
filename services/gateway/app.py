"""The FastAPI application: routes, the one shape of every error, and the bridge's life."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import orjson
from fastapi import FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from schemas.errors import HTTP_STATUS, Detail, ErrorCode, Refusal
from services.gateway import routes
from services.gateway.bridge import Bridge
from services.logs import Log

DESCRIPTION = """A live digital twin of an electricity distribution feeder.

Every answer is `{"status": "success", "message", "results"}` or
`{"status": "error", "code", "message", "details"}`. Consumption is positive; powers are in kW and
kvar, voltages in pu of the bus's base."""


def create_app(bridge: Bridge, log: Log) -> FastAPI:
    """Compose the application around a bridge, which lives as long as the application does."""

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
        title="FlexFeeder", description=DESCRIPTION, version="0.1.0", lifespan=lifespan
    )
    routes.install(app, bridge)

    async def failed(_request: Request, error: Exception) -> Response:
        log.error("request_failed", exc_info=error)
        return _respond(500, ErrorCode.INTERNAL_ERROR, "an error of ours; it is in the log", ())

    async def refused(request: Request, error: Exception) -> Response:
        return _error(error) if isinstance(error, Refusal) else await failed(request, error)

    async def http_error(_request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = _CODES.get(status, ErrorCode.INTERNAL_ERROR)
        return _respond(status, code, str(getattr(error, "detail", error)), ())

    async def gone(_request: Request, _error: Exception) -> Response:
        return Response(status_code=499)  # nobody is there to read it

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, failed)
    return app


_CODES = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED, 400: ErrorCode.NOT_JSON}


def _error(refusal: Refusal) -> Response:
    return _respond(HTTP_STATUS[refusal.code], refusal.code, refusal.message, refusal.details)


def _respond(status: int, code: ErrorCode, message: str, details: tuple[Detail, ...]) -> Response:
    body = {
        "status": "error",
        "code": code.value,
        "message": message,
        "details": [detail.model_dump() for detail in details],
    }
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
