"""What a request says: its body, read and validated by us to refuse it in our own words, the feeder
that it means, and the id under which it is to be remembered.
"""

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from schemas.envelope import LARGEST_COMMAND
from schemas.errors import ErrorCode, Refusal
from schemas.topics import is_name
from schemas.wire import canonical
from services.gateway import keys
from services.gateway.bridge import Bridge

LARGEST_BODY = 1 << 20
"""Bytes of a request body that are read."""

BODY_PATIENCE_S = 10.0
"""How long a body may take to come; so long may a slow one keep others from being served."""

T = TypeVar("T")


async def read_body(request: Request) -> bytes:
    """The request's body, read no further and no longer than allowed."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST_BODY:
                    problem = f"more than {LARGEST_BODY} bytes"
                    raise Refusal.of_field(ErrorCode.TOO_LARGE, "body", problem)
    except TimeoutError:
        problem = f"not here within {BODY_PATIENCE_S:g} s"
        raise Refusal.of_field(ErrorCode.REQUEST_TIMEOUT, "body", problem) from None
    return bytes(body)


def validated(adapter: TypeAdapter[T], body: bytes) -> T:
    """The body as its model; an empty one counts as ``{}``."""
    if len(body) > LARGEST_COMMAND:
        try:
            from_json(body)
        except ValueError:
            raise Refusal(ErrorCode.NOT_JSON, "the message is not valid JSON") from None
        raise Refusal.of_field(
            ErrorCode.INVALID_VALUE, "body", f"{len(body)} bytes; no valid request is that long"
        )
    try:
        return adapter.validate_json(body or b"{}")
    except ValidationError as error:
        raise Refusal.of_validation(error) from None


def name_in_path(request: Request, field: str) -> str:
    """A part of the path that is to be a name."""
    name: str = request.path_params[field]
    if not is_name(name):
        raise Refusal.of_field(ErrorCode.INVALID_VALUE, field, "not a name")
    return name


def feeder_meant(request: Request, bridge: Bridge, in_body: str | None = None) -> str:
    """The feeder that a request means: by its query, its body, or the default."""
    in_query = request.query_params.get("feeder")
    if in_query is not None and not is_name(in_query):
        raise Refusal.of_field(ErrorCode.INVALID_VALUE, "feeder", "not a name")
    if in_query and in_body and canonical(in_query) != canonical(in_body):
        raise Refusal.of_field(ErrorCode.INVALID_VALUE, "feeder", "query and body differ")
    feeder = canonical(in_query or in_body or bridge.default_feeder)
    if not bridge.knows(feeder):
        raise Refusal.of_field(
            ErrorCode.FEEDER_NOT_FOUND, "feeder", f"there is no feeder {feeder!r}"
        )
    return feeder


def request_id_of(request: Request) -> str | None:
    """The request id that its ``Idempotency-Key`` stands for; None where it has none."""
    return keys.request_id_of(request.headers.getlist(keys.HEADER))
