"""What is read from memory: the newest state, and views of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response

from schemas.errors import ErrorCode, Refusal
from schemas.state import State
from services.gateway import examples, views
from services.gateway.answers import success
from services.gateway.bridge import Bridge
from services.gateway.incoming import feeder_meant, name_in_path
from services.gateway.newest import HeldState
from services.gateway.openapi import FEEDER, READ_ERRORS, Documentation, Endpoint, Operation
from services.gateway.openapi import name_in_path as name_parameter
from services.gateway.results import (
    BusView,
    FeederView,
    NeighbourhoodView,
    TransformerView,
    Violations,
    VoltageProfileView,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """A view of the newest state and topology of a feeder."""

    path: str
    summary: str
    description: str
    view: Callable[[views.Document, views.Document], Any]
    results: Any
    example: Any


READS = (
    Read(
        "/neighbourhoods",
        "Demand, loading and voltages by neighbourhood",
        "What the loads and generators of each neighbourhood draw and produce now, in kW and kvar, "
        "and how its service transformer stands with that.",
        views.neighbourhoods,
        list[NeighbourhoodView],
        examples.NEIGHBOURHOODS,
    ),
    Read(
        "/transformers",
        "Every transformer, with what is held down for its sake",
        "Loading in kVA and in percent of the rating. A service transformer has the number and "
        "buses of its neighbourhood. `holds` lists the loads, devices and generators that relief "
        "holds at `set_kw` instead of the `wanted_kw` that they would draw or produce, in kW.",
        views.transformers,
        list[TransformerView],
        examples.TRANSFORMERS,
    ),
    Read(
        "/violations",
        "What is not as it should be",
        "Voltages out of their limits (pu of the bus's base), transformers over their rating, and "
        "loads, devices and generators that do not keep to their setpoints.",
        lambda state, _topology: views.violations(state),
        Violations,
        examples.VIOLATIONS,
    ),
    Read(
        "/voltage_profile",
        "Voltage against distance, by phase",
        "Voltage in pu of each bus's base against its distance from the source in km, for each "
        "phase, nearest first.",
        views.voltage_profile,
        VoltageProfileView,
        examples.VOLTAGE_PROFILE,
    ),
)


def install(routes: Documentation, bridge: Bridge) -> None:
    """Add every route that reads from memory."""
    _install_state(routes, bridge)
    for read in READS:
        operation = Operation(
            tag="views",
            summary=read.summary,
            description=read.description,
            message=read.summary,
            results=read.results,
            example=read.example,
            errors=READ_ERRORS,
            parameters=(FEEDER,),
        )
        routes.add("GET", read.path, _endpoint(read, bridge), operation)
    _install_bus(routes, bridge)
    _install_feeders(routes, bridge)


def _install_state(routes: Documentation, bridge: Bridge) -> None:
    async def get_state(request: Request) -> Response:
        return success("newest state", newest_state(bridge, feeder_meant(request, bridge)).body)

    operation = Operation(
        tag="state",
        summary="The newest state, from memory",
        description=(
            "No solve. Powers are in kW and kvar, consumption positive, generation given as "
            "positive production, source power positive when importing; voltages are in pu of the "
            "bus's base, angles in degrees."
        ),
        message="newest state",
        results=State,
        example=examples.STATE,
        errors=READ_ERRORS,
        parameters=(FEEDER,),
    )
    routes.add("GET", "/get_state", get_state, operation)


def _install_bus(routes: Documentation, bridge: Bridge) -> None:
    async def get_bus(request: Request) -> Response:
        bus = name_in_path(request, "bus")
        feeder = feeder_meant(request, bridge)
        state, topology = _documents(bridge, feeder)
        found = _viewed(bridge, feeder, lambda: views.bus(state, topology, bus))
        if found == b"null":
            raise Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus", f"there is no bus {bus!r}")
        return success(f"bus {orjson.loads(found)['bus']}", found)

    operation = Operation(
        tag="views",
        summary="One bus",
        name="get_bus",
        description=(
            "Voltages in pu of the bus's base by phase, what its loads and devices draw and its "
            "generators produce in kW and kvar, the programs that hold it, and where it is: x and "
            "y in the units of the feeder's drawing, distance from the source in km."
        ),
        message="bus 1",
        results=BusView,
        example=examples.BUS,
        errors=(*READ_ERRORS, ErrorCode.BUS_NOT_FOUND),
        parameters=(name_parameter("bus", "The bus; upper and lower case are one."), FEEDER),
    )
    routes.add("GET", "/buses/{bus}", get_bus, operation)


def _install_feeders(routes: Documentation, bridge: Bridge) -> None:
    async def get_feeders(_request: Request) -> Response:
        states, topologies = bridge.newest.states, bridge.newest.topologies

        def line(name: str) -> views.Document:
            return views.feeder(
                name,
                parsed(states[name].body) if name in states else None,
                parsed(topologies[name]) if name in topologies else None,
                online=bridge.services.is_online(f"solver-{name}"),
            )

        names = sorted({bridge.default_feeder, *states, *topologies})
        found = [_viewed(bridge, name, partial(line, name)) for name in names]
        return success(f"{len(found)} feeder{'s' * (len(found) != 1)}", b"[%b]" % b",".join(found))

    operation = Operation(
        tag="views",
        summary="The feeders that are served",
        name="get_feeders",
        description="A line about each; null is what is not known yet.",
        message="1 feeders",
        results=list[FeederView],
        example=examples.FEEDERS,
    )
    routes.add("GET", "/feeders", get_feeders, operation)


def _endpoint(read: Read, bridge: Bridge) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        feeder = feeder_meant(request, bridge)
        state, topology = _documents(bridge, feeder)
        found = _viewed(bridge, feeder, lambda: read.view(state, topology))
        return success(read.summary, found)

    return endpoint


def newest_state(bridge: Bridge, feeder: str) -> HeldState:
    """The newest state of a feeder.

    Raises:
        Refusal: 503 while there is none.

    """
    held = bridge.newest.states.get(feeder)
    if held is None:
        raise Refusal.of_field(
            ErrorCode.SERVICE_UNAVAILABLE, "solver", f"no state of {feeder!r} has come yet"
        )
    return held


def _viewed(bridge: Bridge, feeder: str, view: Callable[[], Any]) -> bytes:
    """What a view makes of a state, encoded.

    Raises:
        Refusal: as :func:`_sound`.

    """
    return _sound(bridge, feeder, lambda: orjson.dumps(view()))


def _sound(bridge: Bridge, feeder: str, read: Callable[[], T]) -> T:
    """What is read in a state. Anybody may publish one that only looks like one, and states are
    too large to be checked whole as they come.

    Raises:
        Refusal: 503 where it is none; the solver's next one takes its place.

    """
    try:
        return read()
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError):
        bridge.newest.forget(feeder)
        raise Refusal.of_field(
            ErrorCode.SERVICE_UNAVAILABLE, "solver", f"the newest state of {feeder!r} is no state"
        ) from None


def parsed(body: bytes) -> views.Document:
    """A state or topology as a document."""
    document: views.Document = orjson.loads(body)
    return document


def _documents(bridge: Bridge, feeder: str) -> tuple[views.Document, views.Document]:
    held = newest_state(bridge, feeder)
    topology = bridge.newest.topologies.get(feeder)
    if topology is None:
        raise Refusal.of_field(
            ErrorCode.SERVICE_UNAVAILABLE, "solver", f"no topology of {feeder!r} has come yet"
        )
    return _sound(bridge, feeder, lambda: parsed(held.body)), parsed(topology)
