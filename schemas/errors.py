"""What can be wrong with a request, under one code each, with the HTTP status it travels as."""

from collections.abc import Sequence
from enum import StrEnum

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.loads import FORMS
from schemas.wire import WireModel


class ErrorCode(StrEnum):
    """Machine-readable reason of a refusal."""

    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    INVALID_VALUE = "invalid_value"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    TOO_MANY_REQUESTS = "too_many_requests"
    REQUEST_TIMEOUT = "request_timeout"
    FEEDER_NOT_FOUND = "feeder_not_found"
    BUS_NOT_FOUND = "bus_not_found"
    LOAD_NOT_FOUND = "load_not_found"
    NEIGHBOURHOOD_NOT_FOUND = "neighbourhood_not_found"
    DEVICE_NOT_FOUND = "device_not_found"
    GENERATOR_NOT_FOUND = "generator_not_found"
    PROGRAM_NOT_FOUND = "program_not_found"
    ALREADY_EXISTS = "already_exists"
    LIMIT_REACHED = "limit_reached"
    UNKNOWN_COMMAND = "unknown_command"
    REPLY_TOPIC_REFUSED = "reply_topic_refused"
    REQUEST_IN_PROGRESS = "request_in_progress"
    REQUEST_ID_REUSED = "request_id_reused"
    REQUEST_TOO_OLD = "request_too_old"
    DEADLINE_PASSED = "deadline_passed"
    SERVICE_UNAVAILABLE = "service_unavailable"
    NO_REPLY = "no_reply"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INTERNAL_ERROR = "internal_error"


HTTP_STATUS: dict[ErrorCode, int] = {
    ErrorCode.NOT_JSON: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.INVALID_VALUE: 422,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.TOO_MANY_REQUESTS: 429,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.FEEDER_NOT_FOUND: 404,
    ErrorCode.BUS_NOT_FOUND: 404,
    ErrorCode.LOAD_NOT_FOUND: 404,
    ErrorCode.NEIGHBOURHOOD_NOT_FOUND: 404,
    ErrorCode.DEVICE_NOT_FOUND: 404,
    ErrorCode.GENERATOR_NOT_FOUND: 404,
    ErrorCode.PROGRAM_NOT_FOUND: 404,
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.LIMIT_REACHED: 409,
    ErrorCode.UNKNOWN_COMMAND: 404,
    ErrorCode.REPLY_TOPIC_REFUSED: 422,
    ErrorCode.REQUEST_IN_PROGRESS: 409,
    ErrorCode.REQUEST_ID_REUSED: 422,
    ErrorCode.REQUEST_TOO_OLD: 409,
    ErrorCode.DEADLINE_PASSED: 503,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
    ErrorCode.NO_REPLY: 504,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.INTERNAL_ERROR: 500,
}


MOST_DETAILS = 50
"""Problems of one message that are reported; a hostile one may have thousands."""

LONGEST_NAME = 100
"""Characters of an unknown field's name that are reported."""


class Detail(WireModel):
    """One problem of an input."""

    field: str
    problem: str


class Refusal(Exception):
    """A request that is refused, and nothing of it done."""

    def __init__(self, code: ErrorCode, message: str, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)

    def untraced(self) -> "Refusal":
        """The same as a value to be kept: with its traceback it would keep whatever was on the way
        to where it was raised.
        """
        return Refusal(self.code, self.message, self.details)

    @classmethod
    def of_field(cls, code: ErrorCode, field: str, problem: str) -> "Refusal":
        """A refusal for one field, which its message names too."""
        return cls(code, f"{field}: {problem}", [Detail(field=field, problem=problem)])

    @classmethod
    def of_validation(cls, error: ValidationError) -> "Refusal":
        """All problems that pydantic found, collected; unreadable JSON is a case of its own."""
        found = error.errors(include_url=False, include_input=False)
        details = [
            Detail(field=_field(_location(problem)), problem=problem["msg"])
            for problem in found[:MOST_DETAILS]
        ]
        if any(problem["type"] == "json_invalid" for problem in found):
            return cls(ErrorCode.NOT_JSON, "the message is not valid JSON", details)
        message = "; ".join(f"{d.field}: {d.problem}" for d in details[:5])
        return cls(ErrorCode.INVALID_VALUE, message, details)


def _location(problem: ErrorDetails) -> tuple[int | str, ...]:
    """Where a problem is; one of the whole model may name its field (``schemas.wire.misfit``)."""
    if problem["type"] == "misfit":
        return (*problem["loc"], problem["ctx"]["field"])
    return problem["loc"]


def _field(location: tuple[int | str, ...]) -> str:
    fields = location[1:] if location and location[0] in FORMS else location
    parts = [str(part)[:LONGEST_NAME] for part in fields]
    return ".".join(parts) or "message"
