"""What became of a command, as it is answered and kept. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.envelope import Envelope
from schemas.errors import Detail, ErrorCode, Refusal

PASSING = frozenset(
    {
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.NO_REPLY,
        ErrorCode.DEADLINE_PASSED,
        ErrorCode.REQUEST_IN_PROGRESS,
        ErrorCode.REQUEST_ID_REUSED,
        ErrorCode.REQUEST_TOO_OLD,
    }
)
"""Refusals that say nothing of the command itself: asked again, it may well be accepted."""

_CODES = frozenset(ErrorCode)

_NOT_ASKED_FOR = frozenset({*Envelope.model_fields, "feeder"})


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was accepted: what it did, to which buses, what else its sender is to know."""

    message: str
    buses: tuple[str, ...] = ()
    results: Any = None


Outcome = Done | Refusal


def is_final(outcome: Outcome) -> bool:
    """True where the same command, asked for once more, is to get the same answer."""
    return isinstance(outcome, Done) or outcome.code not in PASSING


def asked(command: Envelope) -> bytes:
    """Everything that a command asks for, as JSON that its model reads, and nothing of its way."""
    content = command.model_dump(mode="json", exclude=set(_NOT_ASKED_FOR))
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def digest(command: Envelope) -> str:
    """What tells a command that comes again from another one under the same request id."""
    return digest_of(command.command, asked(command))


def digest_of(name: str, body: bytes) -> str:
    """The digest of a command by its name and by what it asks for."""
    return hashlib.blake2b(name.encode() + b" " + body, digest_size=16).hexdigest()


def to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome in terms of JSON; :func:`from_json` reads it back."""
    if isinstance(outcome, Done):
        return {"message": outcome.message, "buses": outcome.buses, "results": outcome.results}
    details = [[detail.field, detail.problem] for detail in outcome.details]
    return {"code": outcome.code, "message": outcome.message, "details": details}


def from_json(content: dict[str, Any]) -> Outcome:
    """What :func:`to_json` was given.

    Raises:
        KeyError, TypeError, ValueError: for what it has not written.

    """
    if not isinstance(content["message"], str):
        raise TypeError("a message is text")
    if "code" not in content:
        return Done(content["message"], tuple(map(str, content["buses"])), content["results"])
    details = [Detail(field=field, problem=problem) for field, problem in content["details"]]
    code = str(content["code"])
    # A later release may have had more of them.
    known = ErrorCode(code) if code in _CODES else ErrorCode.INTERNAL_ERROR
    return Refusal(known, content["message"], details)
