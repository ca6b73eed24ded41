"""What the documentation says of each error."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas.errors import HTTP_STATUS, Detail, ErrorCode
from services.gateway.answers import error_body

JSON = "application/json"


class Meaning(NamedTuple):
    """What a code means; field and problem of an example."""

    words: str
    field: str
    problem: str


def failures(codes: Iterable[ErrorCode], schema: dict[str, Any]) -> dict[str, Any]:
    """The description of each status that the codes travel as."""
    by_status: dict[int, list[ErrorCode]] = {}
    for code in codes:
        by_status.setdefault(HTTP_STATUS[code], []).append(code)
    return {
        str(status): {
            "description": " ".join(f"`{code.value}`: {MEANINGS[code].words}." for code in found),
            **_HEADERS.get(status, {}),
            "content": {
                JSON: {
                    "schema": schema,
                    "examples": {code.value: {"value": _example(code)} for code in found},
                }
            },
        }
        for status, found in sorted(by_status.items())
    }


def _example(code: ErrorCode) -> dict[str, Any]:
    _, field, problem = MEANINGS[code]
    return error_body(code, f"{field}: {problem}", (Detail(field=field, problem=problem),))


def _header(name: str, description: str, kind: str) -> dict[str, Any]:
    return {"headers": {name: {"description": description, "schema": {"type": kind}}}}


_HEADERS = {
    401: _header("WWW-Authenticate", "`Bearer`.", "string"),
    429: _header("Retry-After", "Seconds to wait.", "integer"),
    503: _header("Retry-After", "Seconds to wait, where too much is under way.", "integer"),
}
"""What comes with a status, in the words of OpenAPI."""

MEANINGS = {
    ErrorCode.NOT_JSON: Meaning("the body is not JSON", "message", "Invalid JSON"),
    ErrorCode.TOO_LARGE: Meaning("the body is over 1 MiB", "body", "more than 1048576 bytes"),
    ErrorCode.INVALID_VALUE: Meaning(
        "a value is out of bounds, NaN or infinite, a name is bad, a field unknown, or the bus "
        "has not that phase; `details` names each",
        "factor",
        "Input should be less than or equal to 10",
    ),
    ErrorCode.UNAUTHENTICATED: Meaning(
        "the gateway asks for API keys, and none was given that it takes",
        "Authorization",
        "no key that is taken here",
    ),
    ErrorCode.FORBIDDEN: Meaning(
        "the key's role may not do this; or the request comes from a web page of an origin that "
        "may not, or was addressed to another host",
        "Authorization",
        "a viewer may not do this; it takes an operator",
    ),
    ErrorCode.TOO_MANY_REQUESTS: Meaning(
        "more requests than the key may make, or too many without a key that is taken; "
        "`Retry-After` says when to go on",
        "Authorization",
        "more than 500 requests a second",
    ),
    ErrorCode.REQUEST_TIMEOUT: Meaning(
        "the body did not come in time; nothing was changed", "body", "not here within 10 s"
    ),
    ErrorCode.FEEDER_NOT_FOUND: Meaning("no such feeder", "feeder", "there is no feeder 'ieee9'"),
    ErrorCode.BUS_NOT_FOUND: Meaning("no such bus", "bus_name", "there is no bus '9999'"),
    ErrorCode.LOAD_NOT_FOUND: Meaning("no such load", "load_name", "bus 1 has no load 'Load_2'"),
    ErrorCode.NEIGHBOURHOOD_NOT_FOUND: Meaning(
        "no such neighbourhood", "neighbourhood", "there is no neighbourhood 99"
    ),
    ErrorCode.DEVICE_NOT_FOUND: Meaning(
        "no such device", "device_name", "bus 1 has no device 'EV_Charger_2'"
    ),
    ErrorCode.GENERATOR_NOT_FOUND: Meaning(
        "no such generator", "generator_name", "there is no generator 'gen_9'"
    ),
    ErrorCode.PROGRAM_NOT_FOUND: Meaning(
        "no such program", "name", "there is no program 'peak_shaving'"
    ),
    ErrorCode.ALREADY_EXISTS: Meaning("the name is taken", "name", "there is one of that name"),
    ErrorCode.LIMIT_REACHED: Meaning(
        "there are as many as there may be", "feeder", "it has as many as it may have"
    ),
    ErrorCode.REQUEST_IN_PROGRESS: Meaning(
        "a request with this `Idempotency-Key` is under way; ask again for its answer",
        "Idempotency-Key",
        "a request with this key is under way",
    ),
    ErrorCode.REQUEST_ID_REUSED: Meaning(
        "this `Idempotency-Key` was used for something else",
        "request_id",
        "it was used for something else",
    ),
    ErrorCode.REQUEST_TOO_OLD: Meaning(
        "so old that nobody remembers whether it was carried out; it is not carried out now",
        "issued_at",
        "it may have been carried out already, and is not remembered any more",
    ),
    ErrorCode.SERVICE_UNAVAILABLE: Meaning(
        "what it takes is away, or has too much to do; nothing was changed",
        "solver",
        "the solver of 'ieee123' is away; nothing was changed",
    ),
    ErrorCode.DEADLINE_PASSED: Meaning(
        "the service came to it too late and refused it; nothing was changed",
        "deadline",
        "it had passed when the command arrived",
    ),
    ErrorCode.NO_REPLY: Meaning(
        "the command was published, and no reply came in time: ask again with the request id in "
        "the message",
        "request_id",
        "5b0c1d9ee1344a0ab9a2f4f0c4c2b9aa",
    ),
}
