"""What each command does: command in, change of the programs out. The registry is at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.commands import ManagerCommand
from schemas.programs import (
    DeleteProgram,
    ExecuteProgram,
    GetProgram,
    ListPrograms,
    RegisterProgram,
    StopProgram,
    Subscribe,
    Unsubscribe,
    UpdateProgram,
)
from services.dfp_manager import programs
from services.dfp_manager.programs import Buses, Change, FeederPrograms
from services.outcomes import Done


@dataclass(frozen=True, slots=True)
class Context:
    """What a command meets: the feeder's buses, None while they are not known, and the time."""

    buses: Buses | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """The programs after a command, and its answer; an execution's results come with the solve."""

    programs: FeederPrograms
    done: Done
    change: Change | None = None
    """What happened; None where the command is about all programs."""


def decide(command: ManagerCommand, held: FeederPrograms, context: Context) -> Decision:
    """Decide one command.

    Raises:
        Refusal: when it cannot be done; nothing has changed then.

    """
    return HANDLERS[type(command)](command, held, context)


def _register(command: RegisterProgram, held: FeederPrograms, context: Context) -> Decision:
    return _with_view(programs.register(held, command, context.at))


def _update(command: UpdateProgram, held: FeederPrograms, context: Context) -> Decision:
    return _with_view(programs.update(held, command, context.at))


def _delete(command: DeleteProgram, held: FeederPrograms, context: Context) -> Decision:
    change = programs.delete(held, command, context.at)
    gone = change.program
    results = {"name": gone.name, "number": gone.number}
    return Decision(change.programs, Done(change.message, gone.subscriptions, results), change)


def _subscribe(command: Subscribe, held: FeederPrograms, context: Context) -> Decision:
    return _with_view(programs.subscribe(held, command, context.buses, context.at))


def _unsubscribe(command: Unsubscribe, held: FeederPrograms, context: Context) -> Decision:
    return _with_view(programs.unsubscribe(held, command, context.buses, context.at))


def _execute(command: ExecuteProgram, held: FeederPrograms, context: Context) -> Decision:
    change = programs.execute(held, command, context.at)
    return Decision(change.programs, Done(change.message, change.program.subscriptions), change)


def _stop(command: StopProgram, held: FeederPrograms, context: Context) -> Decision:
    return _with_view(programs.stop(held, command, context.at))


def _list(_command: ListPrograms, held: FeederPrograms, _context: Context) -> Decision:
    found = [program.model_dump(mode="json") for _, program in sorted(held.by_number.items())]
    message = f"{len(found)} program{'s' * (len(found) != 1)}"
    return Decision(held, Done(message, results=found))


def _get(command: GetProgram, held: FeederPrograms, _context: Context) -> Decision:
    return _with_view(programs.get(held, command))


def _with_view(change: Change) -> Decision:
    """The answer is the program as it now is; it concerns the bus, or all buses of the program."""
    program = change.program
    buses = tuple(event.bus for event in change.events if event.bus) or program.subscriptions
    done = Done(change.message, buses, program.model_dump(mode="json"))
    return Decision(change.programs, done, change)


HANDLERS: dict[type[Any], Callable[[Any, FeederPrograms, Context], Decision]] = {
    RegisterProgram: _register,
    UpdateProgram: _update,
    DeleteProgram: _delete,
    Subscribe: _subscribe,
    Unsubscribe: _unsubscribe,
    ExecuteProgram: _execute,
    StopProgram: _stop,
    ListPrograms: _list,
    GetProgram: _get,
}
"""The handler of every command."""
