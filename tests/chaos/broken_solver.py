"""A solver that breaks the promise in one way, to see that the checker notices.

``CHAOS_BREAKS`` says which: it ``loses`` every twentieth command, answering success; it ``doubles``
every fifth generator; it ``forgets`` every fifth entry of its journal when it starts; it
``repeats`` a command that comes again.
"""

import os
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import count
from typing import Any

from schemas.equipment import AddGenerator
from schemas.loads import RunSimulation
from services.once import Once
from services.outcomes import Done
from services.solver import __main__ as solver
from services.solver.demand import Demand
from services.solver.handlers import HANDLERS
from services.solver.journal import Journal, Past

LOST = 20
DOUBLED = 5
FORGOTTEN = 5

Handler = Callable[[Any, Demand], Done]

_numbers = count(1)


def losing(handler: Handler) -> Handler:
    """A handler that now and then only looks as if it did something."""

    def handle(command: Any, demand: Demand) -> Done:
        is_lost = next(_numbers) % LOST == 0
        return handler(command, deepcopy(demand) if is_lost else demand)

    return handle


def doubling(handler: Handler) -> Handler:
    """A handler of generators that now and then adds another one."""

    def handle(command: AddGenerator, demand: Demand) -> Done:
        done = handler(command, demand)
        if next(_numbers) % DOUBLED == 0:
            handler(command.model_copy(update={"generator_name": None}), demand)
        return done

    return handle


def forgetting(load: Callable[[Journal], Past]) -> Callable[[Journal], Past]:
    """A way to load a journal that leaves something out."""

    def load_some(journal: Journal) -> Past:
        past = load(journal)
        kept = [entry for n, entry in enumerate(past.entries, start=1) if n % FORGOTTEN]
        return replace(past, entries=tuple(kept))

    return load_some


def loses() -> None:
    HANDLERS.update(
        {model: losing(each) for model, each in HANDLERS.items() if model is not RunSimulation}
    )


def doubles() -> None:
    HANDLERS[AddGenerator] = doubling(HANDLERS[AddGenerator])


def forgets() -> None:
    Journal.load = forgetting(Journal.load)  # type: ignore[assignment, method-assign]


def repeats() -> None:
    Once.recall = lambda *_: None  # type: ignore[method-assign]


if __name__ == "__main__":
    {"loses": loses, "doubles": doubles, "forgets": forgets, "repeats": repeats}[
        os.environ["CHAOS_BREAKS"]
    ]()
    sys.exit(solver.main())
