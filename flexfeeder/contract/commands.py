"""Table: the commands, to the solver and to the program manager."""

from flexfeeder.contract import replies
from flexfeeder.contract.channel import Channel, Group, Json, Message, Party
from schemas import topics
from schemas.commands import ManagerCommand, SolverCommand
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

_ENVELOPE: Json = {"request_id": "r-17", "reply_to": topics.reply("my-script")}


def _to_solver(
    model: type[SolverCommand], summary: str, body: Json, reply: Message = replies.ACCEPTED
) -> Channel:
    return Channel(
        id=model.command,
        title=model.command,
        group=Group.SOLVER_COMMANDS,
        topic=topics.command("{feeder}", model.command),
        summary=summary,
        senders=(Party.GATEWAY, Party.CLIENT),
        receivers=(Party.SOLVER,),
        messages=(Message(model.__name__, summary, model, {**body, **_ENVELOPE}),),
        reply=reply,
    )


def _to_manager(
    model: type[ManagerCommand], summary: str, body: Json, reply: Message = replies.WITH_PROGRAM
) -> Channel:
    return Channel(
        id=f"dfp_{model.command}",
        title=model.command,
        group=Group.MANAGER_COMMANDS,
        topic=topics.dfp_command(model.command),
        summary=summary,
        senders=(Party.GATEWAY, Party.CLIENT),
        receivers=(Party.MANAGER,),
        messages=(Message(model.__name__, summary, model, {**body, **_ENVELOPE}),),
        reply=reply,
    )


COMMANDS = (
    _to_solver(RunSimulation, "Solve now, whatever has changed.", {}),
    _to_solver(
        SetLoad,
        "Pin one load to a value, whatever its meter says; its factor goes back to 1.",
        {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0},
    ),
    _to_solver(
        ReleaseLoad,
        "Lift the pin of one load, or of all loads of a bus.",
        {"bus_name": "1", "load_name": "Load_1"},
    ),
    _to_solver(
        SetFactor,
        "Set the factor of all loads of a bus, or of a neighbourhood; it replaces the one before.",
        {"neighbourhood": 1, "factor": 0.8},
    ),
    _to_solver(
        AddDevice,
        "Add a flexible load to a bus. Its kvar is `kvar`, else follows from `pf`, else 0.",
        {"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.2, "pf": 0.98},
    ),
    _to_solver(
        DisconnectDevice,
        "Take a device off its bus.",
        {"bus_name": "1", "device_name": "EV_Charger_1"},
    ),
    _to_solver(
        AddGenerator,
        "Add a generator to a bus. Its kvar is `kvar`, else follows from `pf`, else 0.",
        {"bus_name": "1", "kw": 50.0, "kvar": 10.0, "kv": 0.48},
        replies.WITH_GENERATOR,
    ),
    _to_solver(
        RemoveGenerator,
        "Take a generator, and its step-up transformer, off the feeder.",
        {"generator_name": "PV_1"},
    ),
    _to_manager(
        RegisterProgram,
        "Register a program, under a number that is never used again.",
        {"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95},
    ),
    _to_manager(
        UpdateProgram,
        "Change a program's terms, in a running execution too.",
        {"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98},
    ),
    _to_manager(
        DeleteProgram,
        "End a program's execution, and remove it with its subscriptions.",
        {"name": "peak_shaving"},
        replies.WITH_DELETED,
    ),
    _to_manager(
        Subscribe,
        "Subscribe a bus to a program; a second time changes nothing.",
        {"bus_name": "48", "dfp_number": 1},
    ),
    _to_manager(
        Unsubscribe,
        "Take a bus out of a program; a running execution lets it go.",
        {"bus_name": "48", "dfp_name": "peak_shaving"},
    ),
    _to_manager(
        ExecuteProgram,
        "Put a program in force; answered once the feeder has been solved with it.",
        {"dfp_name": "peak_shaving"},
        replies.WITH_REPORT,
    ),
    _to_manager(StopProgram, "Lift a program.", {"dfp_name": "peak_shaving"}),
    _to_manager(ListPrograms, "Ask for every program of the feeder.", {}, replies.WITH_PROGRAMS),
    _to_manager(GetProgram, "Ask for one program.", {"name": "peak_shaving"}),
)
