"""What a request came to, as the registry keeps it under the request's id. Pure."""

from dataclasses import dataclass
from typing import Any

import orjson

from services import outcomes
from services.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Decided:
    """A request that was decided, and when: epoch seconds."""

    request_id: str
    digest: str
    """Of its command, by :func:`services.outcomes.digest`."""
    at: float
    outcome: Outcome
    revision: int | None = None
    """Of the adjustments that the solver is to show before a success is told; None: of none."""
    is_whole: bool = True
    """False for an execution of which nobody has told yet what it did: the results of its outcome
    are no more than :func:`running` then."""


def running(name: str, number: int, revision: int) -> dict[str, Any]:
    """What can be said of an execution before its effect has been seen: its program, and the
    revision of the adjustments that put it in force.
    """
    return {"name": name, "number": number, "revision": revision}


def encode(decided: Decided) -> bytes:
    """All but the request id, as JSON."""
    return orjson.dumps(
        {
            "digest": decided.digest,
            "at": decided.at,
            "outcome": outcomes.to_json(decided.outcome),
            "revision": decided.revision,
            "whole": decided.is_whole,
        }
    )


def decode(request_id: str, record: bytes) -> Decided:
    """What :func:`encode` was given.

    Raises:
        KeyError, TypeError, ValueError: for what it has not written.

    """
    content = orjson.loads(record)
    return Decided(
        request_id,
        content["digest"],
        content["at"],
        outcomes.from_json(content["outcome"]),
        content["revision"],
        content["whole"],
    )
