"""How one request leads to another, as OpenAPI links: what was added is changed, used, asked for
again and removed.
"""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]

FEEDER = "ieee123"

BUSES = (3, 60, 100)
"""Places in the state of some buses of which to go on."""


class Link(NamedTuple):
    """After a success of ``source``, ``target`` with this body, or parts of it; by operation id."""

    source: str
    target: str
    body: Any = None
    parameters: Json | None = None
    is_whole: bool = True
    """False where the rest of the body is made up."""


_NAME = "$response.body#/results/name"
_NUMBER = "$response.body#/results/number"
_DEVICE = {
    "bus_name": "$request.body#/bus_name",
    "device_name": "$request.body#/device_name",
}
_GENERATOR = {"generator_name": "$response.body#/results/generator_name"}
_SAME_KEY = {"header.Idempotency-Key": "$request.header.Idempotency-Key"}


def _from_the_state() -> Iterator[Link]:
    for place in BUSES:
        bus = f"$response.body#/results/bus_details/{place}"
        at = {"bus_name": f"{bus}/bus"}
        load = {**at, "load_name": f"{bus}/loads/0/name"}
        for target in ("add_device", "add_generator", "subscribe_dfp", "release_load"):
            yield Link("get_state", target, at, is_whole=False)
        yield Link("get_state", "add_generator", {**at, "kw": 50.0})
        yield Link("get_state", "add_generator", {**at, "kw": 50.0, "kv": 0.48})
        yield Link("get_state", "modify_load_household", {**load, "new_kw": 5.0})
        yield Link("get_state", "modify_load_household", {**at, "factor": 2.0})
        yield Link("get_state", "release_load", load)
        yield Link("get_state", "get_bus", parameters={"path.bus": f"{bus}/bus"})
        area = {"neighbourhood": f"{bus}/neighbourhood"}
        yield Link("get_state", "modify_load_neighbourhood", area, is_whole=False)


def _from_programs() -> Iterator[Link]:
    by_name, run = {"name": _NAME}, {"dfp_name": _NAME}
    for source in ("register_dfp", "subscribe_dfp", "update_dfp", "stop_dfp"):
        yield Link(source, "update_dfp", by_name, is_whole=False)
        yield Link(source, "subscribe_dfp", {"bus_name": "48", "dfp_number": _NUMBER})
        yield Link(source, "unsubscribe_dfp", {"bus_name": "48", **run})
        yield Link(source, "execute_dfp", run)
        yield Link(source, "stop_dfp", run)
        yield Link(source, "delete_dfp", by_name)
        yield Link(source, "get_dfp", parameters={"path.name": _NAME})
    for target in ("stop_dfp", "execute_dfp"):
        yield Link("execute_dfp", target, run)
    yield Link("execute_dfp", "delete_dfp", by_name)
    yield Link("delete_dfp", "get_dfp", parameters={"path.name": _NAME})
    yield Link("delete_dfp", "delete_dfp", by_name)


def _from_equipment() -> Iterator[Link]:
    yield Link("add_device", "disconnect_device", _DEVICE)
    yield Link("disconnect_device", "disconnect_device", _DEVICE)
    pinned = {"bus_name": _DEVICE["bus_name"], "load_name": _DEVICE["device_name"]}
    yield Link("add_device", "modify_load_household", {**pinned, "new_kw": 1.0, "new_kvar": 0.5})
    yield Link("add_device", "release_load", pinned)
    yield Link("add_generator", "remove_generator", _GENERATOR)
    for path in ("get_state", "transformers", "violations", "voltage_profile", "get_feeders"):
        yield Link("add_generator", path)
    for again in ("add_device", "add_generator", "register_dfp", "modify_load_household"):
        yield Link(again, again, "$request.body")
        yield Link(again, again, "$request.body", _SAME_KEY)
        yield Link(again, again, parameters=_SAME_KEY)
        yield Link(again, "run_simulation", {})


def linked(document: Json) -> Json:
    """An OpenAPI document with the links, and of the one feeder that there is."""
    document = copy.deepcopy(document)
    for schema in document["components"]["schemas"].values():
        if "anyOf" in schema.get("properties", {}).get("feeder", {}):
            schema["properties"]["feeder"] = {"enum": [FEEDER, FEEDER.upper(), None]}
    operations = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    for operation in operations.values():
        for parameter in operation.get("parameters", ()):
            if parameter["name"] == "feeder":
                parameter["schema"] = {"enum": [FEEDER, FEEDER.upper()]}
    links = [*_from_the_state(), *_from_programs(), *_from_equipment()]
    for number, link in enumerate(links):
        described: Json = {
            "operationId": link.target,
            "x-schemathesis": {"merge_body": not link.is_whole},
        }
        if link.body is not None:
            described["requestBody"] = link.body
        if link.parameters is not None:
            described["parameters"] = link.parameters
        success = operations[link.source]["responses"]["200"]
        success.setdefault("links", {})[f"{link.target}_{number}"] = described
    return document
