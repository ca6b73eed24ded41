"""The ``Idempotency-Key`` of a request, and the request id that it stands for. Pure."""

import hashlib
import re
from collections.abc import Sequence

from pydantic import TypeAdapter, ValidationError

from schemas.envelope import RequestId
from schemas.errors import ErrorCode, Refusal

HEADER = "Idempotency-Key"

LONGEST_KEY = 255
"""Characters of a key."""

PREFIX = "key:"
"""What the request ids that come from keys begin with, so that nobody's key is another's id."""

_OURS = re.compile(r"[0-9a-f]{32}\Z")
"""A request id of the gateway's own, which a caller learns when it goes unanswered."""

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


def request_id_of(keys: Sequence[str]) -> str | None:
    """The request id that the values of the header stand for; None where there is none.

    A request id that was given out, by an answer or in a message, is taken as it stands.

    Raises:
        Refusal: for several keys, or one that is none.

    """
    if not keys:
        return None
    if len(keys) > 1:
        raise _refused("given more than once")
    key = keys[0]
    if not key:
        raise _refused("empty")
    if len(key) > LONGEST_KEY:
        raise _refused(f"{len(key)} characters; at most {LONGEST_KEY} are taken")
    if not (key.isascii() and key.isprintable()):
        raise _refused("not printable ASCII")
    if _OURS.match(key) or (key.startswith(PREFIX) and _is_request_id(key)):
        return key
    if _is_request_id(PREFIX + key):
        return PREFIX + key
    return f"{PREFIX}sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _is_request_id(text: str) -> bool:
    try:
        _REQUEST_ID.validate_python(text)
    except ValidationError:
        return False
    return True


def _refused(problem: str) -> Refusal:
    return Refusal.of_field(ErrorCode.INVALID_VALUE, HEADER, problem)
