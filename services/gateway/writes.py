"""What changes a feeder: each route with the bodies it takes and the solver's command that each of
them becomes. The answer is the state with the write in it.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import Request, Response
from pydantic import TypeAdapter

from schemas.envelope import Body
from schemas.equipment import (
    AddDevice,
    AddGenerator,
    DeviceAddition,
    DeviceRemoval,
    DisconnectDevice,
    GeneratorAddition,
    GeneratorRemoval,
    RemoveGenerator,
)
from schemas.errors import ErrorCode
from schemas.loads import (
    BusFactor,
    HouseholdChange,
    LoadPin,
    NeighbourhoodFactor,
    Release,
    ReleaseLoad,
    RunSimulation,
    SetFactor,
    SetLoad,
)
from schemas.state import State
from services.gateway import examples, views
from services.gateway.answers import success, with_first
from services.gateway.bridge import Bridge
from services.gateway.incoming import feeder_meant, read_body, request_id_of, validated
from services.gateway.openapi import (
    FEEDER,
    IDEMPOTENCY_KEY,
    PREFER,
    WRITE_ERRORS,
    Documentation,
    Endpoint,
    Operation,
)
from services.gateway.reads import newest_state, parsed
from services.gateway.results import (
    MinimalState,
    MinimalStateWithGenerator,
    StateWithGenerator,
)


@dataclass(frozen=True, slots=True)
class Write:
    """A route that changes a feeder; ``errors`` beside those of any write."""

    path: str
    tag: str
    summary: str
    description: str
    body: Any
    commands: dict[type[Body], str]
    """The command that each form of the body becomes."""
    body_examples: dict[str, dict[str, Any]]
    message: str
    errors: tuple[ErrorCode, ...] = ()
    results: Any = State | MinimalState
    example: Any = field(default_factory=lambda: examples.STATE)


WRITES = (
    Write(
        "/run_simulation",
        "state",
        "Solve now",
        "Solves the power flow as everything stands now. The results are the state.",
        Body,
        {Body: RunSimulation.command},
        {"nothing": {}},
        "power flow solved",
    ),
    Write(
        "/modify_load_neighbourhood",
        "loads",
        "Set the factor of every load of a neighbourhood",
        "`factor` (0 to 10, dimensionless) multiplies the demand of each load, be it pinned, "
        "metered or nominal. Setting it again replaces it; 1 restores the demand.",
        NeighbourhoodFactor,
        {NeighbourhoodFactor: SetFactor.command},
        {"less": {"neighbourhood": 1, "factor": 0.8}},
        "factor of neighbourhood 1 set to 0.8",
        (ErrorCode.NEIGHBOURHOOD_NOT_FOUND,),
    ),
    Write(
        "/modify_load_household",
        "loads",
        "Pin one load to a value, or set the factor of all loads of a bus",
        "`new_kw` in kW and `new_kvar` in kvar are consumption where positive, export where "
        "negative; without `new_kvar` the load keeps its nominal power factor. A pinned load is "
        "solved as constant power, and its factor goes back to 1. With `factor` (0 to 10) instead, "
        "the demand of every load of the bus is multiplied.",
        HouseholdChange,
        {LoadPin: SetLoad.command, BusFactor: SetFactor.command},
        {
            "pin": {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0},
            "factor": {"bus_name": "1", "factor": 0.9},
        },
        "load Load_1 pinned to 5 kW",
        (ErrorCode.BUS_NOT_FOUND, ErrorCode.LOAD_NOT_FOUND),
    ),
    Write(
        "/release_load",
        "loads",
        "Lift the pin of a load, or of all loads of a bus",
        "The load follows its meter again, or its nominal demand. Releasing what is not pinned "
        "changes nothing.",
        Release,
        {Release: ReleaseLoad.command},
        {"load": {"bus_name": "1", "load_name": "Load_1"}, "bus": {"bus_name": "1"}},
        "load Load_1 released",
        (ErrorCode.BUS_NOT_FOUND, ErrorCode.LOAD_NOT_FOUND),
    ),
    Write(
        "/add_generator",
        "equipment",
        "Add a generator",
        "`kw` is positive production in kW, at the generator's terminals; `kvar` is positive where "
        "it injects, and follows from `pf` where it is not given. `kv` is line to line for several "
        "phases, line to neutral for one; one that is not the bus's gets a step-up transformer. "
        "`phases` defaults to all of the bus; `phase` picks one. `model` is OpenDSS's; outside of "
        "`vmin_pu` to `vmax_pu` the generator turns into an impedance. A name is assigned where "
        "none is given; `generator_name` in the results says it.",
        GeneratorAddition,
        {GeneratorAddition: AddGenerator.command},
        {
            "in full": {
                "bus_name": "1",
                "kv": 0.48,
                "kw": 50.0,
                "kvar": 10.0,
                "model": 1,
                "vmin_pu": 0.9,
                "vmax_pu": 1.1,
            },
            "in short": {"bus_name": "1", "kw": 100, "phases": 3},
        },
        "generator generator_1 added at bus 1",
        (ErrorCode.BUS_NOT_FOUND, ErrorCode.ALREADY_EXISTS, ErrorCode.LIMIT_REACHED),
        StateWithGenerator | MinimalStateWithGenerator,
        {"generator_name": "generator_1", **examples.STATE},
    ),
    Write(
        "/remove_generator",
        "equipment",
        "Remove a generator",
        "Takes the generator off the feeder, with its step-up transformer if it has one.",
        GeneratorRemoval,
        {GeneratorRemoval: RemoveGenerator.command},
        {"by name": {"generator_name": "generator_1"}},
        "generator generator_1 removed",
        (ErrorCode.GENERATOR_NOT_FOUND,),
    ),
    Write(
        "/add_device",
        "equipment",
        "Add a flexible load",
        "`kw` is consumption in kW, `kvar` inductive consumption in kvar; without `kvar` it "
        "follows from `pf`, and is 0 without either. The device takes all phases of its bus unless "
        "`phases` or `phase` says otherwise. Programs and relief reduce devices before loads.",
        DeviceAddition,
        {DeviceAddition: AddDevice.command},
        {
            "in full": {
                "bus_name": "1",
                "device_name": "EV_Charger_1",
                "kw": 7.2,
                "kvar": 1.4,
                "pf": 0.98,
            },
            "in short": {"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.5, "phases": 1},
        },
        "device EV_Charger_1 added at bus 1",
        (ErrorCode.BUS_NOT_FOUND, ErrorCode.ALREADY_EXISTS, ErrorCode.LIMIT_REACHED),
    ),
    Write(
        "/disconnect_device",
        "equipment",
        "Remove a device",
        "Takes a device off its bus.",
        DeviceRemoval,
        {DeviceRemoval: DisconnectDevice.command},
        {"by name": {"bus_name": "1", "device_name": "EV_Charger_1"}},
        "device EV_Charger_1 removed from bus 1",
        (ErrorCode.BUS_NOT_FOUND, ErrorCode.DEVICE_NOT_FOUND),
    ),
)


def install(routes: Documentation, bridge: Bridge) -> None:
    """Add every route that changes a feeder."""
    for write in WRITES:
        operation = Operation(
            tag=write.tag,
            summary=write.summary,
            description=write.description,
            message=write.message,
            results=write.results,
            example=write.example,
            errors=(*WRITE_ERRORS, *write.errors),
            body=write.body,
            body_required=write.body is not Body,
            body_examples=write.body_examples,
            parameters=(FEEDER, PREFER, IDEMPOTENCY_KEY),
        )
        routes.add("POST", write.path, _endpoint(write, bridge), operation)


def _endpoint(write: Write, bridge: Bridge) -> Endpoint:
    adapter: TypeAdapter[Body] = TypeAdapter(write.body)

    async def endpoint(request: Request) -> Response:
        body = validated(adapter, await read_body(request))
        feeder = feeder_meant(request, bridge, body.feeder)
        fields = body.model_dump(exclude={"feeder"}, exclude_none=True)
        command, request_id = write.commands[type(body)], request_id_of(request)
        outcome = await bridge.execute(feeder, command, fields, request_id)
        state = outcome.state or newest_state(bridge, feeder)
        results = state.body
        if "return=minimal" in request.headers.get("prefer", ""):
            results = orjson.dumps(views.minimal(parsed(results), outcome.buses))
        return success(outcome.message, with_first(outcome.results, results))

    return endpoint
