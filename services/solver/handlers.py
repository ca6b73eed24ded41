"""What each command does: message in, demand changed or refused. The registry is at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from schemas import topics
from schemas.commands import (
    LARGEST_COMMAND,
    SOLVER_COMMANDS,
    ReleaseLoad,
    RunSimulation,
    SetFactor,
    SetLoad,
    SolverCommand,
)
from schemas.errors import ErrorCode, Refusal
from schemas.wire import canonical
from services.solver.demand import Demand


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was accepted: what it did, and to which buses."""

    message: str
    buses: tuple[str, ...] = ()


def decode(topic: str, payload: bytes) -> SolverCommand:
    """The command that a message on a command topic holds.

    Raises:
        Refusal: for an unknown command, an oversize message, or one that does not validate.

    """
    name = topics.command_of(topic)
    adapter = SOLVER_COMMANDS.get(name)
    if adapter is None:
        known = ", ".join(sorted(SOLVER_COMMANDS))
        raise Refusal.of_field(
            ErrorCode.UNKNOWN_COMMAND, "command", f"there is no command {name!r}; known: {known}"
        )
    if len(payload) > LARGEST_COMMAND:
        raise Refusal.of_field(
            ErrorCode.TOO_LARGE,
            "message",
            f"{len(payload)} bytes; at most {LARGEST_COMMAND} are read",
        )
    try:
        return adapter.validate_json(payload or b"{}")
    except ValidationError as error:
        raise Refusal.of_validation(error) from None


def salvage(payload: bytes) -> tuple[str | None, str | None]:
    """Request id and reply topic of a refused message, as far as they can be read."""
    try:
        # The parser of the validation, which takes the NaN for which it was refused.
        content = from_json(payload) if len(payload) <= LARGEST_COMMAND else None
    except ValueError:
        return None, None
    if not isinstance(content, dict):
        return None, None
    request_id, reply_to = content.get("request_id"), content.get("reply_to")
    return (
        request_id if isinstance(request_id, str) and len(request_id) <= 128 else None,
        reply_to if isinstance(reply_to, str) else None,
    )


def check(command: SolverCommand, feeder: str, now: datetime) -> None:
    """Refuse what is meant for another feeder or comes after its deadline."""
    if command.feeder is not None and canonical(command.feeder) != canonical(feeder):
        raise Refusal.of_field(
            ErrorCode.FEEDER_NOT_FOUND, "feeder", f"this is the solver of {feeder!r}"
        )
    if command.deadline is not None and now > command.deadline:
        raise Refusal.of_field(
            ErrorCode.DEADLINE_PASSED, "deadline", "it had passed when the command arrived"
        )


def handle(command: SolverCommand, demand: Demand) -> Done:
    """Apply one command to the demand.

    Raises:
        Refusal: when it cannot be; the demand is then unchanged.

    """
    return HANDLERS[type(command)](command, demand)


def _run_simulation(_command: RunSimulation, _demand: Demand) -> Done:
    return Done("power flow solved")


def _set_load(command: SetLoad, demand: Demand) -> Done:
    buses = demand.pin(command.bus_name, command.load_name, command.new_kw, command.new_kvar)
    return Done(f"load {command.load_name} pinned to {command.new_kw:g} kW", buses)


def _release_load(command: ReleaseLoad, demand: Demand) -> Done:
    buses = demand.release(command.bus_name, command.load_name)
    what = f"load {command.load_name}" if command.load_name else f"loads of bus {buses[0]}"
    return Done(f"{what} released", buses)


def _set_factor(command: SetFactor, demand: Demand) -> Done:
    if command.neighbourhood is not None:
        buses = demand.set_neighbourhood_factor(command.neighbourhood, command.factor)
        where = f"neighbourhood {command.neighbourhood}"
    else:
        buses = demand.set_bus_factor(command.bus_name or "", command.factor)
        where = f"bus {command.bus_name}"
    return Done(f"factor of {where} set to {command.factor:g}", buses)


HANDLERS: dict[type[Any], Callable[[Any, Demand], Done]] = {
    RunSimulation: _run_simulation,
    SetLoad: _set_load,
    ReleaseLoad: _release_load,
    SetFactor: _set_factor,
}
"""The handler of every command."""
