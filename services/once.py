"""Which requests were decided, and how: one that comes again has no second effect. Pure."""

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple, Self

import orjson

from schemas.envelope import Envelope
from schemas.errors import ErrorCode, Refusal
from services import outcomes
from services.outcomes import Outcome

REMEMBERED_S = 24 * 3600.0
"""How long a request id is remembered."""

MOST_REMEMBERED = 20_000
"""Request ids that are remembered at once; beyond that the oldest are forgotten earlier."""


class Remembered(NamedTuple):
    """A request that was decided, and when: epoch seconds."""

    request_id: str
    digest: str
    at: float
    outcome: Outcome


class _Kept(NamedTuple):
    """What is remembered under an id, in a third of the space: there are many, and few are ever
    asked for.
    """

    digest: bytes
    at: float
    outcome: bytes

    @classmethod
    def of(cls, decided: Remembered) -> Self:
        # What orjson gives lies in a block of a kilobyte: a copy takes what it needs.
        outcome = bytes(memoryview(orjson.dumps(outcomes.to_json(decided.outcome))))
        return cls(decided.digest.encode(), decided.at, outcome)

    def remembered(self, request_id: str) -> Remembered:
        outcome = outcomes.from_json(orjson.loads(self.outcome))
        return Remembered(request_id, self.digest.decode(), self.at, outcome)


class Once:
    """The memory of one owner."""

    def __init__(self, most: int = MOST_REMEMBERED, for_s: float = REMEMBERED_S) -> None:
        self.horizon = -math.inf
        """A request issued no later than this may have been decided, and forgotten."""
        self._most = most
        self._for_s = for_s
        self._by_id: OrderedDict[str, _Kept] = OrderedDict()
        """In the order in which they were decided."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Remembered]:
        """All that is remembered, oldest first."""
        return (kept.remembered(request_id) for request_id, kept in self._by_id.items())

    def recall(self, command: Envelope, digest: str) -> Outcome | None:
        """The outcome of a request that was decided before; None where it is new, or has no id.
        ``digest`` is the command's, by :func:`services.outcomes.digest`.

        Raises:
            Refusal: where its id was used for something else, or it is so old that it may have
                been decided and forgotten.

        """
        if command.request_id is None:
            return None
        kept = self._by_id.get(command.request_id)
        known = kept.remembered(command.request_id) if kept is not None else None
        check(command, digest, known.digest if known is not None else None, self.horizon)
        return known.outcome if known is not None else None

    def remember(self, decided: Remembered) -> None:
        """Keep what was decided, in the place of the oldest where there is no room, and forget
        what is out of date.
        """
        self._by_id.pop(decided.request_id, None)
        self._by_id[decided.request_id] = _Kept.of(decided)
        oldest_kept = decided.at - self._for_s
        while self._by_id:
            request_id, oldest = next(iter(self._by_id.items()))
            if len(self._by_id) <= self._most and oldest.at >= oldest_kept:
                break
            del self._by_id[request_id]
            self.horizon = max(self.horizon, oldest.at)

    def forget(self, request_id: str) -> None:
        """A request that was not decided after all."""
        self._by_id.pop(request_id, None)


def check(command: Envelope, digest: str, known: str | None, horizon: float) -> None:
    """Whether a command that bears a request id may be decided, or answered as it was decided.

    ``known`` is the digest of what was decided under its id, None where nothing is remembered;
    up to ``horizon``, in epoch seconds, something may have been decided and forgotten.

    Raises:
        Refusal: where its id was used for something else, or it is so old that it may have been
            decided and forgotten.

    """
    if known is None:
        issued_at = command.issued_at
        if issued_at is not None and issued_at.timestamp() <= horizon:
            raise Refusal.of_field(
                ErrorCode.REQUEST_TOO_OLD,
                "issued_at",
                "it may have been carried out already, and is not remembered any more",
            )
    elif known != digest:
        raise Refusal.of_field(
            ErrorCode.REQUEST_ID_REUSED, "request_id", "it was used for something else"
        )
