"""What each command does: message in, demand changed or refused. The registry is at the end."""

from collections.abc import Callable
from typing import Any

from schemas.commands import SolverCommand
from schemas.equipment import AddDevice, AddGenerator, DisconnectDevice, RemoveGenerator
from schemas.errors import ErrorCode, Refusal
from schemas.loads import ReleaseLoad, RunSimulation, SetFactor, SetLoad
from schemas.wire import canonical
from services.outcomes import Done
from services.solver.demand import Demand


def check(command: SolverCommand, feeder: str) -> None:
    """Refuse what is meant for another feeder."""
    if command.feeder is not None and canonical(command.feeder) != canonical(feeder):
        raise Refusal.of_field(
            ErrorCode.FEEDER_NOT_FOUND, "feeder", f"this is the solver of {feeder!r}"
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
    what = f"load {command.load_name} at bus {buses[0]}"
    return Done(f"{what} pinned to {command.new_kw:g} kW", buses)


def _release_load(command: ReleaseLoad, demand: Demand) -> Done:
    buses = demand.release(command.bus_name, command.load_name)
    what = f"load {command.load_name} at" if command.load_name else "loads of"
    return Done(f"{what} bus {buses[0]} released", buses)


def _set_factor(command: SetFactor, demand: Demand) -> Done:
    if command.neighbourhood is not None:
        buses = demand.set_neighbourhood_factor(command.neighbourhood, command.factor)
        where = f"neighbourhood {command.neighbourhood}"
    else:
        buses = demand.set_bus_factor(command.bus_name or "", command.factor)
        where = f"bus {command.bus_name}"
    return Done(f"factor of {where} set to {command.factor:g}", buses)


def _add_device(command: AddDevice, demand: Demand) -> Done:
    buses = demand.add_device(command)
    return Done(f"device {command.device_name} added at bus {buses[0]}", buses)


def _disconnect_device(command: DisconnectDevice, demand: Demand) -> Done:
    buses = demand.disconnect_device(command.bus_name, command.device_name)
    return Done(f"device {command.device_name} disconnected from bus {buses[0]}", buses)


def _add_generator(command: AddGenerator, demand: Demand) -> Done:
    buses, name = demand.add_generator(command)
    return Done(f"generator {name} added at bus {buses[0]}", buses, {"generator_name": name})


def _remove_generator(command: RemoveGenerator, demand: Demand) -> Done:
    buses = demand.remove_generator(command.generator_name)
    return Done(f"generator {command.generator_name} removed from bus {buses[0]}", buses)


HANDLERS: dict[type[Any], Callable[[Any, Demand], Done]] = {
    RunSimulation: _run_simulation,
    SetLoad: _set_load,
    ReleaseLoad: _release_load,
    SetFactor: _set_factor,
    AddDevice: _add_device,
    DisconnectDevice: _disconnect_device,
    AddGenerator: _add_generator,
    RemoveGenerator: _remove_generator,
}
"""The handler of every command."""
