"""What stands in the journal: commands with what became of them, adjustments, and what is void.
Pure.

An entry is known by its id, ``<fence>-<number>``, which the journal gives it; ids rise.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from services import outcomes
from services.once import Remembered
from services.outcomes import Done, Outcome


class UnreadableEntry(Exception):
    """An entry that is not one of ours; nothing can be made of what follows it."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A command by its name, with what it asks for as JSON, and what became of it.

    ``at`` is when, in epoch seconds; without a request id nobody can ask for it again.
    """

    name: str
    asked: bytes
    at: float
    outcome: Outcome
    request_id: str | None = None

    @property
    def remembered(self) -> Remembered | None:
        """What is to be remembered of it."""
        if self.request_id is None:
            return None
        digest = outcomes.digest_of(self.name, self.asked)
        return Remembered(self.request_id, digest, self.at, self.outcome)

    @property
    def takes_effect(self) -> bool:
        return isinstance(self.outcome, Done)


@dataclass(frozen=True, slots=True)
class Adjusted:
    """Adjustments that were put in force, as JSON."""

    adjustments: bytes


@dataclass(frozen=True, slots=True)
class Voided:
    """An earlier entry takes no effect: the engine does not survive it."""

    entry: str
    reason: str


@dataclass(frozen=True, slots=True)
class Barrier:
    """Takes the id that a write of unknown fate would have had, so that it cannot come late."""


Entry = Decided | Adjusted | Voided | Barrier


def encode(entry: Entry) -> bytes:
    """An entry as JSON."""
    return orjson.dumps(_content(entry))


def _content(entry: Entry) -> dict[str, Any]:
    match entry:
        case Decided():
            return {
                "command": entry.name,
                "asked": orjson.Fragment(entry.asked),
                "at": entry.at,
                "outcome": outcomes.to_json(entry.outcome),
                "request_id": entry.request_id,
            }
        case Adjusted():
            return {"adjustments": orjson.Fragment(entry.adjustments)}
        case Voided():
            return {"voids": entry.entry, "reason": entry.reason}
        case Barrier():
            return {"barrier": True}


def decode(payload: bytes) -> Entry:
    """What :func:`encode` was given.

    Raises:
        UnreadableEntry: for anything else.

    """
    try:
        content = orjson.loads(payload)
        if "command" in content:
            return Decided(
                name=_text(content["command"]),
                asked=orjson.dumps(content["asked"]),
                at=float(content["at"]),
                outcome=outcomes.from_json(content["outcome"]),
                request_id=None if content["request_id"] is None else _text(content["request_id"]),
            )
        if "adjustments" in content:
            return Adjusted(orjson.dumps(content["adjustments"]))
        if "voids" in content:
            return Voided(_text(content["voids"]), _text(content["reason"]))
        if "barrier" in content:
            return Barrier()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableEntry(f"{payload[:200]!r}: {error}") from None
    raise UnreadableEntry(f"{payload[:200]!r}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r}")
    return value


def encode_segment(segment: list[Remembered]) -> bytes:
    """Remembered requests, oldest first, as JSON."""
    return orjson.dumps(
        [
            [each.request_id, each.digest, each.at, outcomes.to_json(each.outcome)]
            for each in segment
        ]
    )


def decode_segment(payload: bytes) -> list[Remembered]:
    """What :func:`encode_segment` was given.

    Raises:
        UnreadableEntry: for anything else.

    """
    try:
        return [
            Remembered(_text(request_id), _text(digest), float(at), outcomes.from_json(outcome))
            for request_id, digest, at, outcome in orjson.loads(payload)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableEntry(f"{payload[:200]!r}: {error}") from None
