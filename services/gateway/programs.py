"""Demand flexibility programs: each route with the manager's command that it becomes. The results
are what the manager says.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from pydantic import TypeAdapter

from schemas.envelope import Body
from schemas.errors import ErrorCode
from schemas.programs import (
    DeletedProgram,
    DeleteProgram,
    ExecuteProgram,
    ExecutionReport,
    GetProgram,
    ListPrograms,
    Program,
    ProgramName,
    RegisterProgram,
    Registration,
    Run,
    StopProgram,
    Subscribe,
    SubscriptionChange,
    Unsubscribe,
    Update,
    UpdateProgram,
)
from services.gateway import examples
from services.gateway.answers import success
from services.gateway.bridge import Bridge, Outcome
from services.gateway.incoming import (
    feeder_meant,
    name_in_path,
    read_body,
    request_id_of,
    validated,
)
from services.gateway.openapi import (
    ASK_ERRORS,
    FEEDER,
    IDEMPOTENCY_KEY,
    WRITE_ERRORS,
    Documentation,
    Endpoint,
    Operation,
)
from services.gateway.openapi import name_in_path as name_parameter

TAG = "programs"

_SUBSCRIPTIONS: dict[str, dict[str, Any]] = {
    "by number": {"bus_name": "1", "dfp_number": 1},
    "by name": {"bus_name": "1", "dfp_name": "peak_shaving"},
}
"""Both ways to name the program of a subscription."""


@dataclass(frozen=True, slots=True)
class ProgramWrite:
    """A route that changes a program; ``errors`` beside those of any write."""

    method: Literal["POST", "PUT", "DELETE"]
    path: str
    summary: str
    description: str
    body: type[Body]
    command: str
    body_examples: dict[str, dict[str, Any]]
    message: str
    errors: tuple[ErrorCode, ...] = (ErrorCode.PROGRAM_NOT_FOUND,)
    results: Any = Program
    example: Any = field(default_factory=lambda: examples.PROGRAM)


PROGRAM_WRITES = (
    ProgramWrite(
        "POST",
        "/register_dfp",
        "Register a program",
        "A program leaves each subscribed bus `min_power_kw` (kW, 0 or more) and asks it for a "
        "power factor of at least `target_pf` (over 0, up to 1). Its number is never used again.",
        Registration,
        RegisterProgram.command,
        {"peak shaving": {"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95}},
        "program peak_shaving registered as number 1",
        (ErrorCode.ALREADY_EXISTS, ErrorCode.LIMIT_REACHED),
        example=examples.NEW_PROGRAM,
    ),
    ProgramWrite(
        "PUT",
        "/update_dfp",
        "Change a program's terms",
        "New `min_power_kw` (kW) and `target_pf`, for a running execution too.",
        Update,
        UpdateProgram.command,
        {"more": {"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98}},
        "program peak_shaving updated",
    ),
    ProgramWrite(
        "POST",
        "/subscribe_dfp",
        "Subscribe a bus to a program",
        "The program is named by its number or by its name. Subscribing again changes nothing.",
        SubscriptionChange,
        Subscribe.command,
        _SUBSCRIPTIONS,
        "bus 1 subscribed to program peak_shaving",
        (ErrorCode.PROGRAM_NOT_FOUND, ErrorCode.BUS_NOT_FOUND),
    ),
    ProgramWrite(
        "POST",
        "/unsubscribe_dfp",
        "Unsubscribe a bus from a program",
        "The program is named by its number or by its name. A running execution lets the bus go.",
        SubscriptionChange,
        Unsubscribe.command,
        _SUBSCRIPTIONS,
        "bus 1 unsubscribed from program peak_shaving",
        (ErrorCode.PROGRAM_NOT_FOUND, ErrorCode.BUS_NOT_FOUND),
    ),
    ProgramWrite(
        "POST",
        "/execute_dfp",
        "Execute a program",
        "Puts the adjustments in force, and answers once the feeder has been solved with them: "
        "kW, kvar (consumption positive) and power factor of each bus before and after, what was "
        "shed in kW, and why a bus was left alone. Where nobody is subscribed the message says so.",
        Run,
        ExecuteProgram.command,
        {"by name": {"dfp_name": "peak_shaving"}},
        "program peak_shaving is in force at 1 bus",
        results=ExecutionReport,
        example=examples.EXECUTION_REPORT,
    ),
    ProgramWrite(
        "POST",
        "/stop_dfp",
        "Stop a program",
        "Lifts the adjustments; demand is what it was without them.",
        Run,
        StopProgram.command,
        {"by name": {"dfp_name": "peak_shaving"}},
        "program peak_shaving stopped",
    ),
    ProgramWrite(
        "DELETE",
        "/delete_dfp",
        "Delete a program",
        "Ends its execution, and removes it with its subscriptions. Its number stays used.",
        ProgramName,
        DeleteProgram.command,
        {"by name": {"name": "peak_shaving"}},
        "program peak_shaving deleted",
        results=DeletedProgram,
        example=examples.DELETED_PROGRAM,
    ),
)


def install(routes: Documentation, bridge: Bridge) -> None:
    """Add every route about programs."""
    for write in PROGRAM_WRITES:
        operation = Operation(
            tag=TAG,
            summary=write.summary,
            description=write.description,
            message=write.message,
            results=write.results,
            example=write.example,
            errors=(*WRITE_ERRORS, *write.errors),
            body=write.body,
            body_examples=write.body_examples,
            parameters=(FEEDER, IDEMPOTENCY_KEY),
        )
        routes.add(write.method, write.path, _endpoint(write, bridge), operation)
    _install_list(routes, bridge)
    _install_get(routes, bridge)


def _install_list(routes: Documentation, bridge: Bridge) -> None:
    async def list_programs(request: Request) -> Response:
        feeder = feeder_meant(request, bridge)
        return _answer(await bridge.manage(feeder, ListPrograms.command, {}))

    operation = Operation(
        tag=TAG,
        summary="Every program of a feeder",
        name="get_dfps",
        description="With its terms, its subscribed buses, and its latest executions.",
        message="1 program",
        results=list[Program],
        example=[examples.PROGRAM],
        errors=ASK_ERRORS,
        parameters=(FEEDER,),
    )
    routes.add("GET", "/dfps", list_programs, operation)


def _install_get(routes: Documentation, bridge: Bridge) -> None:
    async def get_program(request: Request) -> Response:
        name = name_in_path(request, "name")
        feeder = feeder_meant(request, bridge)
        return _answer(await bridge.manage(feeder, GetProgram.command, {"name": name}))

    operation = Operation(
        tag=TAG,
        summary="One program",
        name="get_dfp",
        description="Its terms, its subscribed buses, and its latest executions.",
        message="program peak_shaving",
        results=Program,
        example=examples.PROGRAM,
        errors=(*ASK_ERRORS, ErrorCode.PROGRAM_NOT_FOUND),
        parameters=(name_parameter("name", "The program; upper and lower case are one."), FEEDER),
    )
    routes.add("GET", "/dfps/{name}", get_program, operation)


def _endpoint(write: ProgramWrite, bridge: Bridge) -> Endpoint:
    adapter: TypeAdapter[Body] = TypeAdapter(write.body)

    async def endpoint(request: Request) -> Response:
        body = validated(adapter, await read_body(request))
        feeder = feeder_meant(request, bridge, body.feeder)
        fields = body.model_dump(exclude={"feeder"}, exclude_none=True)
        request_id = request_id_of(request)
        return _answer(await bridge.manage(feeder, write.command, fields, request_id))

    return endpoint


def _answer(outcome: Outcome) -> Response:
    return success(outcome.message, orjson.dumps(outcome.results))
