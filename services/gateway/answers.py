"""The one shape of every answer, around results that are JSON already."""

from typing import Any

import orjson
from fastapi import Response

from schemas.errors import HTTP_STATUS, Detail, ErrorCode, Refusal

_HEADERS = {
    ErrorCode.UNAUTHENTICATED: {"www-authenticate": "Bearer"},
    # What else comes of the body is nobody's next request.
    ErrorCode.REQUEST_TIMEOUT: {"connection": "close"},
}
"""What goes with the answer of a code."""


def success(message: str, results: bytes) -> Response:
    """The answer of every success."""
    head = b'{"status":"success","message":' + orjson.dumps(message) + b',"results":'
    return Response(head + results + b"}", media_type="application/json")


def error_body(code: ErrorCode, message: str, details: tuple[Detail, ...] = ()) -> dict[str, Any]:
    """What is said of every error."""
    return {
        "status": "error",
        "code": code.value,
        "message": message,
        "details": [detail.model_dump() for detail in details],
    }


def error(status: int, code: ErrorCode, message: str, details: tuple[Detail, ...] = ()) -> Response:
    """The answer of every error."""
    body = orjson.dumps(error_body(code, message, details))
    return Response(body, status, _HEADERS.get(code), media_type="application/json")


def refused(refusal: Refusal) -> Response:
    """The answer to a request that was refused."""
    return error(HTTP_STATUS[refusal.code], refusal.code, refusal.message, refusal.details)


def with_first(fields: dict[str, Any] | None, results: bytes) -> bytes:
    """Results, a JSON object with a field at least, with other fields put in front of its own."""
    return orjson.dumps(fields)[:-1] + b"," + results[1:] if fields else results
