"""Every command, by the name in its topic: the solver's, and the program manager's."""

from typing import get_args

from pydantic import TypeAdapter

from schemas.equipment import AddDevice, AddGenerator, DisconnectDevice, RemoveGenerator
from schemas.loads import ReleaseLoad, RunSimulation, SetFactor, SetLoad
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

SolverCommand = (
    RunSimulation
    | SetLoad
    | ReleaseLoad
    | SetFactor
    | AddDevice
    | DisconnectDevice
    | AddGenerator
    | RemoveGenerator
)

SOLVER_COMMANDS: dict[str, TypeAdapter[SolverCommand]] = {
    model.command: TypeAdapter(model) for model in get_args(SolverCommand)
}
"""On ``flexfeeder/{feeder}/command/{name}``."""

ManagerCommand = (
    RegisterProgram
    | UpdateProgram
    | DeleteProgram
    | Subscribe
    | Unsubscribe
    | ExecuteProgram
    | StopProgram
    | ListPrograms
    | GetProgram
)

MANAGER_COMMANDS: dict[str, TypeAdapter[ManagerCommand]] = {
    model.command: TypeAdapter(model) for model in get_args(ManagerCommand)
}
"""On ``flexfeeder/dfp/command/{name}``."""
