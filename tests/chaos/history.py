"""What happened, as those who were there saw it: the input of the checker."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chaos.operations import Operation
from chaos.sight import View
from chaos.world import World

INDEFINITE = frozenset(
    {
        "service_unavailable",
        "no_reply",
        "deadline_passed",
        "request_in_progress",
        "internal_error",
    }
)
"""Errors after which the same is to be asked again: they do not say what became of it for good."""


class Answer(NamedTuple):
    """What a client was told. ``said`` is what the answer says beside the state: the name of a
    generator, or all that the manager says; ``view`` is the state that it carries, of the client's
    own buses.
    """

    status: str
    code: str | None
    message: str
    said: Any = None
    version: int | None = None
    view: View | None = None

    @property
    def is_success(self) -> bool:
        return self.status == "success"

    @property
    def is_definite(self) -> bool:
        return self.is_success or self.code not in INDEFINITE

    @property
    def essence(self) -> tuple[Any, ...]:
        """What is the same whenever the same is asked again. What a message says after a semicolon
        is about the moment: that the solver is late, say.
        """
        what, _, _ = self.message.partition(";")
        return self.status, self.code, what, self.said

    def __str__(self) -> str:
        return f"{self.code or self.status}: {self.message}"


class Attempt(NamedTuple):
    """An operation was sent, so many ``times`` in a row; ``outcome`` is the answer, or in words why
    there is none.
    """

    operation: Operation
    sent_at: float
    """Seconds since the start of the run, as all times here."""
    ended_at: float
    outcome: Answer | str
    times: int = 1


@dataclass(slots=True)
class Past:
    """What one client did, one thing after the other, from its world at the beginning on."""

    beginning: World
    attempts: list[Attempt] = field(default_factory=list)
    """In the order in which they ended."""

    def of(self, operation: Operation) -> Iterator[Attempt]:
        return (attempt for attempt in self.attempts if attempt.operation is operation)


class Happened(NamedTuple):
    """Something was done to the system, or to one client."""

    at: float
    what: str
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What is left when everybody is at rest: state, registry, and what is retained."""

    state: dict[str, Any]
    programs: list[dict[str, Any]]
    adjustments: dict[str, Any]


@dataclass(slots=True)
class History:
    """A stretch of time, from one rest of all clients to the next."""

    clients: dict[str, Past]
    nobodys: World
    """What belongs to no client, and is not to change."""
    numbers: dict[int, str] = field(default_factory=dict)
    """Program numbers that were given out before, and to whom."""
    sightings: dict[str, list[int]] = field(default_factory=dict)
    """Versions of the state that each observer saw, in the order in which they came."""
    happened: list[Happened] = field(default_factory=list)
    ending: Ending | None = None
