"""Which requests were decided, and how: one that comes again has no second effect. Pure."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from schemas.envelope import Envelope
from schemas.errors import ErrorCode, Refusal
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


class Once:
    """The memory of one owner."""

    def __init__(self, most: int = MOST_REMEMBERED, for_s: float = REMEMBERED_S) -> None:
        self.horizon = -math.inf
        """A request issued no later than this may have been decided, and forgotten."""
        self._most = most
        self._for_s = for_s
        self._by_id: dict[str, Remembered] = {}
        """In the order in which they were decided."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Remembered]:
        """All that is remembered, oldest first."""
        return iter(self._by_id.values())

    def recall(self, command: Envelope, digest: str) -> Outcome | None:
        """The outcome of a request that was decided before; None where it is new, or has no id.
        ``digest`` is the command's, by :func:`services.outcomes.digest`.

        Raises:
            Refusal: where its id was used for something else, or it is so old that it may have
                been decided and forgotten.

        """
        if command.request_id is None:
            return None
        known = self._by_id.get(command.request_id)
        check(command, digest, known.digest if known is not None else None, self.horizon)
        return known.outcome if known is not None else None

    def remember(self, decided: Remembered) -> None:
        """Keep what was decided, in the place of the oldest where there is no room, and forget
        what is out of date.
        """
        self._by_id.pop(decided.request_id, None)
        self._by_id[decided.request_id] = decided
        oldest_kept = decided.at - self._for_s
        while self._by_id:
            oldest = next(iter(self._by_id.values()))
            if len(self._by_id) <= self._most and oldest.at >= oldest_kept:
                break
            del self._by_id[oldest.request_id]
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
