"""REST to command and back, by two tables: writes become commands, reads become views."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.commands import (
    LARGEST_COMMAND,
    Body,
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
from schemas.errors import Detail, ErrorCode, Refusal
from schemas.topics import is_name
from schemas.wire import NAME_PATTERN, canonical
from services.gateway import views
from services.gateway.bridge import Bridge, HeldState

LARGEST_BODY = 1 << 20
"""Bytes of a request body that are read."""


@dataclass(frozen=True, slots=True)
class Write:
    """A route that changes the feeder: the bodies it takes, each with the command it becomes."""

    path: str
    summary: str
    adapter: TypeAdapter[Body]
    commands: dict[type[Body], str]
    examples: dict[str, dict[str, Any]]


WRITES = (
    Write(
        "/run_simulation",
        "Solve now",
        TypeAdapter(Body),
        {Body: RunSimulation.name},
        {"empty": {}},
    ),
    Write(
        "/modify_load_neighbourhood",
        "Set the factor of every load of a neighbourhood",
        TypeAdapter(NeighbourhoodFactor),
        {NeighbourhoodFactor: SetFactor.name},
        {"less": {"neighbourhood": 1, "factor": 0.8}},
    ),
    Write(
        "/modify_load_household",
        "Pin one load to a value, or set the factor of all loads of a bus",
        TypeAdapter(HouseholdChange),
        {LoadPin: SetLoad.name, BusFactor: SetFactor.name},
        {
            "pin": {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0},
            "factor": {"bus_name": "1", "factor": 0.9},
        },
    ),
    Write(
        "/release_load",
        "Lift the pin of a load, or of all loads of a bus",
        TypeAdapter(Release),
        {Release: ReleaseLoad.name},
        {"load": {"bus_name": "1", "load_name": "Load_1"}, "bus": {"bus_name": "1"}},
    ),
)


@dataclass(frozen=True, slots=True)
class Read:
    """A view of the newest state and topology of a feeder."""

    path: str
    summary: str
    view: Callable[[views.Document, views.Document], Any]


READS = (
    Read("/neighbourhoods", "Demand, loading and voltages by neighbourhood", views.neighbourhoods),
    Read("/voltage_profile", "Voltage against distance, by phase", views.voltage_profile),
    Read("/violations", "What is over a limit", lambda state, _topology: views.violations(state)),
)


_FEEDER = {
    "name": "feeder",
    "in": "query",
    "required": False,
    "description": "another feeder than the default",
    "schema": {"type": "string", "pattern": NAME_PATTERN},
}


def install(app: FastAPI, bridge: Bridge) -> None:
    """Add every route to the application."""
    for write in WRITES:
        app.add_api_route(
            write.path,
            _write_endpoint(write, bridge),
            methods=["POST"],
            summary=write.summary,
            openapi_extra=_request_body(write),
            operation_id=write.path.strip("/"),
        )
    for read in READS:
        app.add_api_route(
            read.path,
            _read_endpoint(read, bridge),
            summary=read.summary,
            openapi_extra={"parameters": [_FEEDER]},
            operation_id=read.path.strip("/"),
        )

    @app.get(
        "/get_state",
        summary="The newest state, from memory",
        operation_id="get_state",
        openapi_extra={"parameters": [_FEEDER]},
    )
    async def get_state(request: Request) -> Response:
        held = _held(bridge, _feeder(request, bridge))
        return success("newest state", held.body)

    @app.get(
        "/buses/{bus}",
        summary="One bus",
        operation_id="get_bus",
        openapi_extra={"parameters": [_FEEDER]},
    )
    async def get_bus(request: Request, bus: str) -> Response:
        if not is_name(bus):
            raise Refusal.of_field(ErrorCode.INVALID_VALUE, "bus", "not a name")
        state, topology = _documents(bridge, _feeder(request, bridge))
        found = views.bus(state, topology, bus)
        if found is None:
            raise Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus", f"there is no bus {bus!r}")
        return success(f"bus {found['bus']}", orjson.dumps(found))

    @app.get("/feeders", summary="The feeders that are served", operation_id="get_feeders")
    async def get_feeders() -> Response:
        names = sorted({bridge.default_feeder, *bridge.states, *bridge.topologies})
        found = [
            views.feeder(
                name,
                _parsed(bridge.states[name].body) if name in bridge.states else None,
                _parsed(bridge.topologies[name]) if name in bridge.topologies else None,
                online=bridge.is_online(f"solver-{name}"),
            )
            for name in names
        ]
        return success(f"{len(found)} feeders", orjson.dumps(found))

    _install_health(app, bridge)


def _install_health(app: FastAPI, bridge: Bridge) -> None:
    @app.get("/healthz", summary="The gateway is alive", operation_id="healthz")
    async def healthz() -> Response:
        return success("alive", b'{"gateway":"alive"}')

    @app.get("/readyz", summary="Everything needed is there", operation_id="readyz")
    async def readyz() -> Response:
        checks = readiness(bridge)
        missing = [name for name, state in checks.items() if state != "ok"]
        if missing:
            raise Refusal(
                ErrorCode.SERVICE_UNAVAILABLE,
                f"not ready: {', '.join(missing)}",
                [Detail(field=name, problem=checks[name]) for name in missing],
            )
        return success("ready", orjson.dumps(checks))


def readiness(bridge: Bridge) -> dict[str, str]:
    """Each dependency by name: ok, or what is wrong with it."""
    solver = f"solver-{bridge.default_feeder}"
    return {
        "broker": "ok" if bridge.broker_connected else "not connected",
        solver: "ok" if bridge.is_online(solver) else "away",
        "dfp_manager": "ok" if bridge.is_online("dfp_manager") else "away",
        "state": "ok" if bridge.default_feeder in bridge.states else "none received yet",
    }


def success(message: str, results: bytes) -> Response:
    """The answer of every success, around results that are JSON already."""
    head = b'{"status":"success","message":' + orjson.dumps(message) + b',"results":'
    return Response(head + results + b"}", media_type="application/json")


def _write_endpoint(write: Write, bridge: Bridge) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = _validated(write.adapter, await _read_body(request))
        feeder = _feeder(request, bridge, body.feeder)
        fields = body.model_dump(exclude={"feeder"}, exclude_none=True)
        executed = await bridge.execute(feeder, write.commands[type(body)], fields)
        if "return=minimal" in request.headers.get("prefer", ""):
            small = views.minimal(_parsed(executed.state.body), executed.buses)
            return success(executed.message, orjson.dumps(small))
        return success(executed.message, executed.state.body)

    return endpoint


def _read_endpoint(read: Read, bridge: Bridge) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        state, topology = _documents(bridge, _feeder(request, bridge))
        return success(read.summary, orjson.dumps(read.view(state, topology)))

    return endpoint


async def _read_body(request: Request) -> bytes:
    """The request's body, read no further than allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise Refusal.of_field(ErrorCode.TOO_LARGE, "body", f"more than {LARGEST_BODY} bytes")
    return bytes(body)


def _validated(adapter: TypeAdapter[Body], body: bytes) -> Body:
    if len(body) > LARGEST_COMMAND:
        raise Refusal.of_field(
            ErrorCode.INVALID_VALUE, "body", f"{len(body)} bytes; no valid request is that long"
        )
    try:
        return adapter.validate_json(body or b"{}")
    except ValidationError as error:
        raise Refusal.of_validation(error) from None


def _feeder(request: Request, bridge: Bridge, in_body: str | None = None) -> str:
    """The feeder that a request means: by its query, its body, or the default."""
    in_query = request.query_params.get("feeder")
    if in_query is not None and not is_name(in_query):
        raise Refusal.of_field(ErrorCode.INVALID_VALUE, "feeder", "not a name")
    if in_query and in_body and canonical(in_query) != canonical(in_body):
        raise Refusal.of_field(ErrorCode.INVALID_VALUE, "feeder", "query and body differ")
    feeder = canonical(in_query or in_body or bridge.default_feeder)
    if not bridge.knows(feeder):
        raise Refusal.of_field(
            ErrorCode.FEEDER_NOT_FOUND, "feeder", f"there is no feeder {feeder!r}"
        )
    return feeder


def _held(bridge: Bridge, feeder: str) -> HeldState:
    held = bridge.states.get(feeder)
    if held is None:
        raise Refusal.of_field(
            ErrorCode.SERVICE_UNAVAILABLE, "solver", f"no state of {feeder!r} has come yet"
        )
    return held


def _documents(bridge: Bridge, feeder: str) -> tuple[views.Document, views.Document]:
    held = _held(bridge, feeder)
    topology = bridge.topologies.get(feeder)
    if topology is None:
        raise Refusal.of_field(
            ErrorCode.SERVICE_UNAVAILABLE, "solver", f"no topology of {feeder!r} has come yet"
        )
    return _parsed(held.body), _parsed(topology)


def _parsed(body: bytes) -> views.Document:
    document: views.Document = orjson.loads(body)
    return document


def _request_body(write: Write) -> dict[str, Any]:
    """The OpenAPI description of a body that we read ourselves, to refuse it in our own words."""
    schemas = [_schema(model) for model in write.commands]
    return {
        "parameters": [_FEEDER],
        "requestBody": {
            "required": Body not in write.commands,
            "content": {
                "application/json": {
                    "schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas},
                    "examples": {name: {"value": body} for name, body in write.examples.items()},
                }
            },
        },
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(ref_template="#/components/schemas/{model}")
