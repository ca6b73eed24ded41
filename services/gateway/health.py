"""Whether the gateway is alive, whether everything is there that it needs, and how it all does."""

import time
from collections.abc import Iterator

import orjson
from fastapi import Request, Response
from prometheus_client import generate_latest

from schemas.errors import Detail, ErrorCode, Refusal
from services.gateway import metrics
from services.gateway.answers import success
from services.gateway.bridge import MANAGER, Bridge
from services.gateway.metrics import Sample
from services.gateway.openapi import Documentation, Operation
from services.gateway.results import Alive

TAG = "health"


def install(routes: Documentation, bridge: Bridge) -> None:
    """Add the routes for whoever watches over the system."""
    _install_healthz(routes)
    _install_readyz(routes, bridge)
    _install_metrics(routes, bridge)


def _install_healthz(routes: Documentation) -> None:
    async def healthz(_request: Request) -> Response:
        return success("alive", b'{"gateway":"alive"}')

    operation = Operation(
        tag=TAG,
        summary="The gateway is alive",
        description="It says nothing of the services behind it.",
        message="alive",
        results=Alive,
        example={"gateway": "alive"},
    )
    routes.add("GET", "/healthz", healthz, operation)


def _install_readyz(routes: Documentation, bridge: Bridge) -> None:
    async def readyz(_request: Request) -> Response:
        checks = readiness(bridge)
        missing = [name for name, state in checks.items() if state != "ok"]
        if missing:
            raise Refusal(
                ErrorCode.SERVICE_UNAVAILABLE,
                f"not ready: {', '.join(missing)}",
                [Detail(field=name, problem=checks[name]) for name in missing],
            )
        return success("ready", orjson.dumps(checks))

    operation = Operation(
        tag=TAG,
        summary="Everything needed is there",
        description="Each dependency by its name; where one is missing, `details` names it.",
        message="ready",
        results=dict[str, str],
        example={
            "broker": "ok",
            "solver-ieee123": "ok",
            MANAGER: "ok",
            "store": "ok",
            "state": "ok",
        },
        errors=(ErrorCode.SERVICE_UNAVAILABLE,),
    )
    routes.add("GET", "/readyz", readyz, operation)


def _install_metrics(routes: Documentation, bridge: Bridge) -> None:
    async def get_metrics(_request: Request) -> Response:
        heard = metrics.rendered(_samples(bridge))
        bridge.look(time.monotonic())
        own = generate_latest(bridge.figures.registry).decode()
        return Response(heard + own, media_type=metrics.MEDIA_TYPE)

    operation = Operation(
        tag=TAG,
        summary="Figures for Prometheus",
        description=(
            "What each service says of itself in its heartbeat, as "
            "`flexfeeder_{service}_{figure}`; `flexfeeder_service_online` and "
            "`flexfeeder_broker_connected` are 1 or 0. Beside them the gateway's own figures."
        ),
        media_type="text/plain",
        example=metrics.rendered([Sample("flexfeeder_broker_connected", {}, 1)]),
    )
    routes.add("GET", "/metrics", get_metrics, operation)


def _samples(bridge: Bridge) -> Iterator[Sample]:
    yield Sample("flexfeeder_broker_connected", {}, bridge.broker_connected)
    for feeder, state in bridge.newest.states.items():
        yield Sample("flexfeeder_gateway_state_version", {"feeder": feeder}, state.version)
    for instance, status in bridge.services.statuses():
        online = bridge.services.is_online(instance)
        yield Sample("flexfeeder_service_online", {"instance": instance}, online)
        yield from metrics.figures(instance, status)


def readiness(bridge: Bridge) -> dict[str, str]:
    """Each dependency by name: ok, or what is wrong with it."""
    solver = f"solver-{bridge.default_feeder}"
    return {
        "broker": "ok" if bridge.broker_connected else "not connected",
        solver: "ok" if bridge.services.is_online(solver) else "away",
        MANAGER: "ok" if bridge.services.is_online(MANAGER) else "away",
        "store": _store(bridge, (solver, MANAGER)),
        "state": "ok" if bridge.default_feeder in bridge.newest.states else "none received yet",
    }


def _store(bridge: Bridge, clients: tuple[str, ...]) -> str:
    """How those who use the store find it: the gateway does not."""
    status = dict(bridge.services.statuses())
    said = {
        name: status[name].figures.get("store_away", 0.0)
        for name in clients
        if bridge.services.is_online(name)
    }
    without = [name for name, is_away in said.items() if is_away]
    if without:
        return f"away, or takes no writes: {', '.join(without)}"
    return "ok" if said else "nobody is there to tell"
