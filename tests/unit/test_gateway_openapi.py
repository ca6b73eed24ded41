"""The documentation of the REST interface says what is true, and leaves nothing out."""

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import structlog
from fastapi import FastAPI
from pydantic import TypeAdapter

from schemas.errors import HTTP_STATUS, ErrorCode
from services.bus import BrokerAddress
from services.gateway import programs, writes
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.failures import JSON
from services.gateway.openapi import Documentation
from services.gateway.results import Failure, Success
from services.gateway.streams import Streams

Json = dict[str, Any]

VERBATIM: list[tuple[str, str, Json]] = [
    ("post", "/run_simulation", {}),
    ("post", "/modify_load_neighbourhood", {"neighbourhood": 1, "factor": 0.8}),
    (
        "post",
        "/modify_load_household",
        {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0},
    ),
    ("post", "/modify_load_household", {"bus_name": "1", "factor": 0.9}),
    ("post", "/release_load", {"bus_name": "1", "load_name": "Load_1"}),
    ("post", "/release_load", {"bus_name": "1"}),
    (
        "post",
        "/add_generator",
        {
            "bus_name": "1",
            "kv": 0.48,
            "kw": 50.0,
            "kvar": 10.0,
            "model": 1,
            "vmin_pu": 0.9,
            "vmax_pu": 1.1,
        },
    ),
    ("post", "/add_generator", {"bus_name": "1", "kw": 100, "phases": 3}),
    ("post", "/remove_generator", {"generator_name": "generator_1"}),
    (
        "post",
        "/add_device",
        {"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.2, "kvar": 1.4, "pf": 0.98},
    ),
    (
        "post",
        "/add_device",
        {"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.5, "phases": 1},
    ),
    ("post", "/disconnect_device", {"bus_name": "1", "device_name": "EV_Charger_1"}),
    (
        "post",
        "/register_dfp",
        {"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95},
    ),
    ("put", "/update_dfp", {"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98}),
    ("post", "/subscribe_dfp", {"bus_name": "1", "dfp_number": 1}),
    ("post", "/subscribe_dfp", {"bus_name": "1", "dfp_name": "peak_shaving"}),
    ("post", "/unsubscribe_dfp", {"bus_name": "1", "dfp_number": 1}),
    ("post", "/unsubscribe_dfp", {"bus_name": "1", "dfp_name": "peak_shaving"}),
    ("post", "/execute_dfp", {"dfp_name": "peak_shaving"}),
    ("post", "/stop_dfp", {"dfp_name": "peak_shaving"}),
    ("delete", "/delete_dfp", {"name": "peak_shaving"}),
]
"""The bodies of the contract, as they stand there."""

READS = {
    "/get_state",
    "/feeders",
    "/buses/{bus}",
    "/neighbourhoods",
    "/transformers",
    "/violations",
    "/voltage_profile",
    "/dfps",
    "/dfps/{name}",
    "/events",
    "/healthz",
    "/readyz",
    "/metrics",
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    log = structlog.get_logger()
    streams = Streams(log)
    bridge = Bridge(BrokerAddress("127.0.0.1", 1), "ieee123", streams, log)
    return create_app(bridge, streams, log)


@pytest.fixture(scope="module")
def document(app: FastAPI) -> Json:
    described: Json = orjson.loads(orjson.dumps(app.openapi()))
    return described


@pytest.fixture(scope="module")
def documentation(app: FastAPI) -> Documentation:
    routes = app.openapi.__self__  # type: ignore[attr-defined]
    assert isinstance(routes, Documentation)
    return routes


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and description of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def references(part: Any) -> Iterator[str]:
    """Every reference in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_route_of_the_contract_is_there_and_no_other(document: Json) -> None:
    found = {(method, path) for method, path, _ in operations(document)}
    expected = {("get", path) for path in READS} | {(method, path) for method, path, _ in VERBATIM}
    assert found == expected


def test_each_says_what_it_is(document: Json) -> None:
    identities = []
    for _, path, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        identities.append(operation["operationId"])
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"[a-z_]+", identity) for identity in identities)


def test_every_reference_leads_somewhere_and_nothing_is_left_within(document: Json) -> None:
    components = document["components"]["schemas"]
    found = set(references(document))
    assert found
    assert {name.removeprefix("#/components/schemas/") for name in found} <= set(components)
    assert b'"$defs"' not in orjson.dumps(document)


def test_the_examples_of_the_requests_are_the_bodies_of_the_contract(document: Json) -> None:
    found = [
        (method, path, example["value"])
        for method, path, operation in operations(document)
        if "requestBody" in operation
        for example in operation["requestBody"]["content"][JSON]["examples"].values()
    ]
    assert sorted(found, key=repr) == sorted(VERBATIM, key=repr)


def test_every_body_of_the_contract_is_accepted_as_it_stands() -> None:
    adapters = {w.path: TypeAdapter(w.body) for w in writes.WRITES}
    adapters |= {w.path: TypeAdapter(w.body) for w in programs.PROGRAM_WRITES}
    for _, path, body in VERBATIM:
        accepted = adapters[path].validate_json(orjson.dumps(body))
        assert orjson.loads(orjson.dumps(accepted.model_dump())).items() >= body.items()


def test_the_example_of_each_success_is_what_its_schema_says(
    document: Json, documentation: Documentation
) -> None:
    answer: Any = Success
    for (path, method), operation in documentation._operations.items():
        content = document["paths"][path][method]["responses"]["200"]["content"]
        if operation.media_type == JSON:
            example = orjson.dumps(content[JSON]["example"])
            TypeAdapter(answer[operation.results]).validate_json(example)
        else:
            assert content[operation.media_type]["example"]


def test_the_example_of_each_event_is_what_its_schema_says(
    document: Json, documentation: Documentation
) -> None:
    content = document["paths"]["/events"]["get"]["responses"]["200"]["content"]
    events = documentation._operations["/events", "get"].events
    shown = re.findall(
        r"event: (\w+)\n(?:id: \d+\n)?data: (.*)\n\n", content["text/event-stream"]["example"]
    )
    assert [name for name, _ in shown] == list(events) == ["state", "alert", "program"]
    for name, data in shown:
        TypeAdapter(events[name]).validate_json(data)


def test_the_example_of_each_error_has_its_code_and_status(document: Json) -> None:
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status == "200":
                continue
            for code, example in response["content"][JSON]["examples"].items():
                failure = Failure.model_validate_json(orjson.dumps(example["value"]))
                assert (failure.code, HTTP_STATUS[failure.code]) == (code, int(status)), path
                assert f"`{code}`" in response["description"]


def test_whatever_asks_a_service_may_go_unanswered(document: Json) -> None:
    """And nothing else may: what is read from memory is there or not."""
    for _, path, operation in operations(document):
        asks = "requestBody" in operation or path.startswith("/dfps")
        assert ("504" in operation["responses"]) == asks, path


def test_whatever_takes_a_body_may_be_refused_for_it(document: Json) -> None:
    for _, path, operation in operations(document):
        takes = "requestBody" in operation
        assert ({"400", "408", "413"} <= set(operation["responses"])) == takes, path


def test_each_feeder_may_be_named_in_the_query(document: Json) -> None:
    """Of what concerns one."""
    without = {"/feeders", "/healthz", "/readyz", "/metrics"}
    for _, path, operation in operations(document):
        named = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
        assert named == ([] if path in without else ["feeder"]), path


def test_whatever_is_not_open_takes_a_key_where_keys_are_asked_for(document: Json) -> None:
    """Or none, where they are not; and it says which role, and what becomes of others."""
    assert set(document["components"]["securitySchemes"]) == {"bearer", "api_key"}
    admins = {"/register_dfp", "/update_dfp", "/delete_dfp"}
    for method, path, operation in operations(document):
        if path in {"/healthz", "/readyz"}:
            assert "security" not in operation
            assert not {"401", "403", "429"} & set(operation["responses"])
            continue
        role = "viewer" if method == "get" else "admin" if path in admins else "operator"
        assert operation["security"] == [{}, {"bearer": [role]}, {"api_key": [role]}], path
        assert {"401", "403", "429", "503"} <= set(operation["responses"]), path
        assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
        assert "Retry-After" in operation["responses"]["429"]["headers"]


def test_every_code_that_a_caller_may_meet_is_explained(document: Json) -> None:
    """The others are of MQTT, of paths that do not exist, and of our own mistakes."""
    explained = {
        code
        for _, _, operation in operations(document)
        for status, response in operation["responses"].items()
        if status != "200"
        for code in response["content"][JSON]["examples"]
    }
    assert set(ErrorCode) - explained == {
        ErrorCode.UNKNOWN_COMMAND,
        ErrorCode.REPLY_TOPIC_REFUSED,
        ErrorCode.NOT_FOUND,
        ErrorCode.METHOD_NOT_ALLOWED,
        ErrorCode.INTERNAL_ERROR,
    }
