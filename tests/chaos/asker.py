"""Asks on behalf of one client, and writes down what came of it."""

import time
from collections import deque
from collections.abc import Callable

from chaos import rules
from chaos.history import Answer, Attempt, Past
from chaos.operations import Operation
from chaos.wire import Wire
from chaos.wishes import Wish
from chaos.world import World

Clock = Callable[[], float]

PAUSE_S = 0.05
"""Between two attempts at the same."""

RECENT = 20
"""Answered operations that may be asked again."""


class Asker:
    """The one who speaks for a client. ``clock`` gives the seconds of the run."""

    def __init__(self, client: str, wire: Wire, world: World, clock: Clock) -> None:
        self.client = client
        self.world = world
        self.past = Past(world.copy())
        self.recent: deque[Operation] = deque(maxlen=RECENT)
        """Operations that have their answer."""
        self._wire = wire
        self._clock = clock
        self._number = 0
        self._operations: dict[str, Operation] = {}
        self._answered: set[int] = set()

    def begin(self) -> None:
        """Start a new past; what was asked in the old one is not asked again."""
        self._wire.close()
        self._wire.overheard()
        self.past = Past(self.world.copy())
        self.recent.clear()
        self._operations.clear()
        self._answered.clear()

    def new(self, wish: Wish) -> Operation:
        """An operation that nobody has sent yet."""
        kind, body = wish
        self._number += 1
        operation = Operation(self.client, self._number, kind, body)
        self._operations[operation.request_id] = operation
        return operation

    def attempt(
        self,
        operation: Operation,
        patience_s: float,
        *,
        hangs_up: bool = False,
        times: int = 1,
    ) -> Answer | str:
        """Send an operation, once more or for the first time."""
        sent_at = self._clock()
        outcome = self._wire.ask(operation, patience_s, hangs_up=hangs_up, times=times)
        ended_at = self._clock()
        for request_id, answer in self._wire.overheard():
            if request_id in self._operations:
                heard_of = self._operations[request_id]
                self._take(Attempt(heard_of, ended_at, ended_at, answer, times=0))
        self._take(Attempt(operation, sent_at, ended_at, outcome, times))
        return outcome

    def until_definite(self, operation: Operation, patience_s: float, deadline: float) -> None:
        """Ask again and again until there is an answer or time (monotonic) is up."""
        while not self.is_answered(operation) and time.monotonic() < deadline:
            outcome = self.attempt(operation, patience_s)
            if isinstance(outcome, str) or not outcome.is_definite:
                time.sleep(PAUSE_S)

    def is_answered(self, operation: Operation) -> bool:
        return operation.number in self._answered

    def close(self) -> None:
        self._wire.close()

    def _take(self, attempt: Attempt) -> None:
        operation, outcome = attempt.operation, attempt.outcome
        self.past.attempts.append(attempt)
        if isinstance(outcome, str) or not outcome.is_definite or self.is_answered(operation):
            return
        self._answered.add(operation.number)
        self.recent.append(operation)
        if outcome.is_success:
            rules.apply(self.world, operation, outcome.said)
