"""Every write of the REST table with everything that may be wrong about it: refused with the
field named, and nothing has changed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
from support import FEEDERS, State, assert_refused, bus, demands, results

from flexfeeder.testing import System, system

# What there is: a generator and a device at bus 1, and a program that executes there.
GENERATOR = {"bus_name": "1", "kw": 5.0, "generator_name": "PV_1"}
DEVICE = {"bus_name": "1", "device_name": "Charger", "kw": 3.0}
PROGRAM = {"name": "evening", "min_power_kw": 10.0, "target_pf": 0.9}

Json = dict[str, Any]


class Raw(str):
    """JSON text that stands for itself: NaN, say, which no serializer writes for us."""

    __slots__ = ()


NAME = "name"
TEXT = "text"
PHASE = "phase"
WHOLE = "whole"
NUMBER = "number"

NO_NUMBERS: dict[str, Any] = {
    "NaN": Raw("NaN"),
    "Infinity": Raw("Infinity"),
    "-Infinity": Raw("-Infinity"),
    "1e400": Raw("1e400"),
    "text": "1.0",
    "true": True,
    "a list": [1.0],
    "an object": {},
}
BAD_NAMES: dict[str, Any] = {
    "nothing": "",
    "a space": "a b",
    "a newline at the end": "a\n",
    "a tab": "a\tb",
    "NUL": "a\0",
    "a slash": "a/b",
    "a plus": "a+",
    "a hash": "a#",
    "a dot": "1.1",
    "a quote": 'a"b',
    "another alphabet": "lоad",  # noqa: RUF001 - that is the point
    "65 characters": "a" * 65,
    "a number": 1,
    "false": False,
    "a list": ["1"],
    "an object": {"a": "1"},
}
WRONG: dict[str, dict[str, Any]] = {
    NAME: BAD_NAMES,
    TEXT: {"a number": 1, "true": True, "a list": [], "501 characters": "a" * 501},
    PHASE: {"D": "D", "nothing": "", "AB": "AB", "0": 0, "4": 4, "true": True, "a list": ["A"]},
    WHOLE: {**NO_NUMBERS, "a fraction": 1.5},
    NUMBER: NO_NUMBERS,
}
"""What is wrong for each kind of field, whatever its bounds."""


@dataclass(frozen=True)
class Field:
    """A field of a body: its kind, values that are out of its bounds, and if it may be left out."""

    kind: str
    beyond: tuple[Any, ...] = ()
    required: bool = True


@dataclass(frozen=True)
class Write:
    """A route, a body that it would take, and its fields."""

    method: str
    path: str
    body: Json
    fields: dict[str, Field] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


name = Field(NAME)
power = Field(NUMBER, (-1e6 - 1, 1e6 + 1, 1e9, -1e30, 1e30))
optional_power = Field(power.kind, power.beyond, required=False)
rated = Field(NUMBER, (-0.001, -5.0, 1e6 + 1, 1e9))
factor = Field(NUMBER, (-0.001, 10.001, -1, 11, 1e30))
power_factor = Field(NUMBER, (0, 0.0, -0.5, 1.01, 1.000001, 2, 1e30))
optional_power_factor = Field(NUMBER, power_factor.beyond, required=False)
min_power = Field(NUMBER, (-0.001, -100.0, 1e6 + 1, 1e9))
phases = Field(WHOLE, (0, 4, -1), required=False)
phase = Field(PHASE, required=False)
pu = Field(NUMBER, (0, -1.0, 2.0), required=False)
description = Field(TEXT, required=False)

WRITES = (
    Write("POST", "/run_simulation", {}),
    Write(
        "POST",
        "/modify_load_neighbourhood",
        {"neighbourhood": 1, "factor": 0.5},
        {"neighbourhood": Field(WHOLE, (-1, 10**7, 10**30)), "factor": factor},
    ),
    Write(
        "POST",
        "/modify_load_household",
        {"bus_name": "1", "load_name": "Load_1", "new_kw": 7.0, "new_kvar": 1.0},
        {"bus_name": name, "load_name": name, "new_kw": power, "new_kvar": optional_power},
    ),
    Write(
        "POST",
        "/modify_load_household",
        {"bus_name": "1", "factor": 0.5},
        {"bus_name": name, "factor": factor},
    ),
    Write(
        "POST",
        "/release_load",
        {"bus_name": "2", "load_name": "Load_2"},
        {"bus_name": name, "load_name": Field(NAME, required=False)},
    ),
    Write(
        "POST",
        "/add_generator",
        {
            "bus_name": "1",
            "kv": 0.48,
            "kw": 50.0,
            "kvar": 10.0,
            "model": 1,
            "vmin_pu": 0.9,
            "vmax_pu": 1.1,
            "pf": 0.9,
            "phases": 1,
            "phase": "A",
            "generator_name": "PV_2",
        },
        {
            "bus_name": name,
            "kv": Field(NUMBER, (0, -4.16, 1e-9, 1e6), required=False),
            "kw": rated,
            "kvar": optional_power,
            "model": Field(WHOLE, (0, 6, 8, -1), required=False),
            "vmin_pu": pu,
            "vmax_pu": pu,
            "pf": optional_power_factor,
            "phases": phases,
            "phase": phase,
            "generator_name": Field(NAME, required=False),
        },
    ),
    Write("POST", "/remove_generator", {"generator_name": "PV_1"}, {"generator_name": name}),
    Write(
        "POST",
        "/add_device",
        {
            "bus_name": "1",
            "device_name": "Heater",
            "kw": 7.2,
            "kvar": 1.4,
            "pf": 0.98,
            "phases": 1,
            "phase": "A",
        },
        {
            "bus_name": name,
            "device_name": name,
            "kw": rated,
            "kvar": optional_power,
            "pf": optional_power_factor,
            "phases": phases,
            "phase": phase,
        },
    ),
    Write(
        "POST",
        "/disconnect_device",
        {"bus_name": "1", "device_name": "Charger"},
        {"bus_name": name, "device_name": name},
    ),
    Write(
        "POST",
        "/register_dfp",
        {"name": "morning", "min_power_kw": 5.0, "target_pf": 0.95, "description": "early"},
        {
            "name": name,
            "min_power_kw": min_power,
            "target_pf": power_factor,
            "description": description,
        },
    ),
    Write(
        "PUT",
        "/update_dfp",
        {"name": "evening", "min_power_kw": 5.0, "target_pf": 0.95, "description": "late"},
        {
            "name": name,
            "min_power_kw": min_power,
            "target_pf": power_factor,
            "description": description,
        },
    ),
    Write(
        "POST",
        "/subscribe_dfp",
        {"bus_name": "48", "dfp_name": "evening"},
        {"bus_name": name, "dfp_name": name},
    ),
    Write(
        "POST",
        "/subscribe_dfp",
        {"bus_name": "48", "dfp_number": 1},
        {"bus_name": name, "dfp_number": Field(WHOLE, (0, -1, 10**9 + 1, 10**30))},
    ),
    Write(
        "POST",
        "/unsubscribe_dfp",
        {"bus_name": "1", "dfp_name": "evening"},
        {"bus_name": name, "dfp_name": name},
    ),
    Write(
        "POST",
        "/unsubscribe_dfp",
        {"bus_name": "1", "dfp_number": 1},
        {"bus_name": name, "dfp_number": Field(WHOLE, (0, -1, 10**9 + 1, 10**30))},
    ),
    Write("POST", "/execute_dfp", {"dfp_name": "idle"}, {"dfp_name": name}),
    Write("POST", "/stop_dfp", {"dfp_name": "evening"}, {"dfp_name": name}),
    Write("DELETE", "/delete_dfp", {"name": "evening"}, {"name": name}),
)
ROUTES = {write.name: write for write in reversed(WRITES)}
"""One form of each route."""

MISFIT = {
    ("/modify_load_household", "factor"): "load_name",
    ("/subscribe_dfp", "dfp_name"): "dfp_number",
    ("/subscribe_dfp", "dfp_number"): "dfp_number",
    ("/unsubscribe_dfp", "dfp_name"): "dfp_number",
    ("/unsubscribe_dfp", "dfp_number"): "dfp_number",
}
"""What is named where a field is missing that tells one form of a body from the other."""


def text(body: Json) -> bytes:
    """A body as JSON, with what is raw in it as it stands."""
    parts = (
        f"{json.dumps(key)}: {value if isinstance(value, Raw) else json.dumps(value)}"
        for key, value in body.items()
    )
    return ("{" + ", ".join(parts) + "}").encode()


def without(body: Json, key: str) -> Json:
    return {name: value for name, value in body.items() if name != key}


def _malformed() -> Iterator[Any]:
    """Method, path, body and the field that is to be named, for each field and each fault."""
    for write in WRITES:

        def case(fault: str, body: Json, named: str, write: Write = write) -> Any:
            identity = f"{write.name} {fault}"
            return pytest.param(write.method, write.path, text(body), named, id=identity)

        for key, kind in write.fields.items():
            missing = MISFIT.get((write.path, key), key)
            if kind.required:
                yield case(f"without {key}", without(write.body, key), missing)
                named = missing if key.startswith("dfp_") else key
                yield case(f"{key} null", {**write.body, key: None}, named)
            for fault, value in WRONG[kind.kind].items():
                yield case(f"{key} {fault}", {**write.body, key: value}, key)
            for value in kind.beyond:
                yield case(f"{key} {value}", {**write.body, key: value}, key)
        for unknown in ("colour", "request_id", "reply_to", "deadline", "command", "Feeder"):
            yield case(f"unknown {unknown}", {**write.body, unknown: "x"}, unknown)
        yield case("feeder a number", {**write.body, "feeder": 1}, "feeder")
        yield case("feeder no name", {**write.body, "feeder": "a b"}, "feeder")


CONTRADICTIONS = {
    "vmin above vmax": ("POST", "/add_generator", {**GENERATOR, "vmin_pu": 1.2}, "vmin_pu"),
    "vmin as vmax": (
        "POST",
        "/add_generator",
        {**GENERATOR, "generator_name": "PV_2", "vmin_pu": 0.95, "vmax_pu": 0.95},
        "vmin_pu",
    ),
    "a phase, and three of them": (
        "POST",
        "/add_device",
        {**DEVICE, "device_name": "Heater", "phase": "A", "phases": 3},
        "phases",
    ),
    "a power factor that makes too many kvar": (
        "POST",
        "/add_device",
        {**DEVICE, "device_name": "Heater", "kw": 1e6, "pf": 0.1},
        "pf",
    ),
    "a number and a name": (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "48", "dfp_name": "evening", "dfp_number": 1},
        "dfp_number",
    ),
    "both forms of a household": (
        "POST",
        "/modify_load_household",
        {"bus_name": "1", "load_name": "Load_1", "new_kw": 1.0, "factor": 0.5},
        "new_kw",
    ),
    "a generator that no step-up carries": (
        "POST",
        "/add_generator",
        {"bus_name": "1", "kw": 50_000.0, "kv": 0.48},
        "kw",
    ),
}

PHASES = {
    "a generator on A where there is C": (
        "/add_generator",
        {"bus_name": "5", "kw": 1.0, "phase": "A"},
        "phase",
        "C",
    ),
    "a generator on B where there is A": (
        "/add_generator",
        {"bus_name": "10", "kw": 1.0, "phase": "b"},
        "phase",
        "A",
    ),
    "a generator on three where there is one": (
        "/add_generator",
        {"bus_name": "5", "kw": 1.0, "phases": 3},
        "phases",
        "C",
    ),
    "a generator on two where there is one": (
        "/add_generator",
        {"bus_name": "2", "kw": 1.0, "phases": 2},
        "phases",
        "B",
    ),
    "a device on B where there are A and C": (
        "/add_device",
        {"bus_name": "25r", "device_name": "x", "kw": 1.0, "phase": "B"},
        "phase",
        "A, C",
    ),
    "a device on three where there are two": (
        "/add_device",
        {"bus_name": "26", "device_name": "x", "kw": 1.0, "phases": 3},
        "phases",
        "A, C",
    ),
    "a device on phase 1 where there is C": (
        "/add_device",
        {"bus_name": "5", "device_name": "x", "kw": 1.0, "phase": 1},
        "phase",
        "C",
    ),
}
"""Path, body, field, and the phases that the bus has."""

UNKNOWN = {
    "neighbourhood": (
        "POST",
        "/modify_load_neighbourhood",
        {"neighbourhood": 99, "factor": 1.0},
        "neighbourhood_not_found",
        "neighbourhood",
    ),
    "neighbourhood 0": (
        "POST",
        "/modify_load_neighbourhood",
        {"neighbourhood": 0, "factor": 1.0},
        "neighbourhood_not_found",
        "neighbourhood",
    ),
    "bus to pin at": (
        "POST",
        "/modify_load_household",
        {"bus_name": "9999", "load_name": "Load_1", "new_kw": 1.0},
        "bus_not_found",
        "bus_name",
    ),
    "load to pin": (
        "POST",
        "/modify_load_household",
        {"bus_name": "1", "load_name": "Load_2", "new_kw": 1.0},
        "load_not_found",
        "load_name",
    ),
    "bus to scale": (
        "POST",
        "/modify_load_household",
        {"bus_name": "nowhere", "factor": 1.0},
        "bus_not_found",
        "bus_name",
    ),
    "bus to release": ("POST", "/release_load", {"bus_name": "9999"}, "bus_not_found", "bus_name"),
    "load to release": (
        "POST",
        "/release_load",
        {"bus_name": "1", "load_name": "nobody"},
        "load_not_found",
        "load_name",
    ),
    "bus of a generator": (
        "POST",
        "/add_generator",
        {"bus_name": "9999", "kw": 1.0},
        "bus_not_found",
        "bus_name",
    ),
    "low-voltage bus of ours": (
        "POST",
        "/add_generator",
        {"bus_name": "ff_generator_0", "kw": 1.0},
        "bus_not_found",
        "bus_name",
    ),
    "generator": (
        "POST",
        "/remove_generator",
        {"generator_name": "nobody"},
        "generator_not_found",
        "generator_name",
    ),
    "device in the place of a generator": (
        "POST",
        "/remove_generator",
        {"generator_name": "Charger"},
        "generator_not_found",
        "generator_name",
    ),
    "bus of a device": (
        "POST",
        "/add_device",
        {"bus_name": "9999", "device_name": "x", "kw": 1.0},
        "bus_not_found",
        "bus_name",
    ),
    "bus of a device that goes": (
        "POST",
        "/disconnect_device",
        {"bus_name": "9999", "device_name": "Charger"},
        "bus_not_found",
        "bus_name",
    ),
    "device at another bus": (
        "POST",
        "/disconnect_device",
        {"bus_name": "2", "device_name": "Charger"},
        "device_not_found",
        "device_name",
    ),
    "load in the place of a device": (
        "POST",
        "/disconnect_device",
        {"bus_name": "1", "device_name": "Load_1"},
        "device_not_found",
        "device_name",
    ),
    "generator in the place of a device": (
        "POST",
        "/disconnect_device",
        {"bus_name": "1", "device_name": "PV_1"},
        "device_not_found",
        "device_name",
    ),
    "program to update": (
        "PUT",
        "/update_dfp",
        {**PROGRAM, "name": "nobody"},
        "program_not_found",
        "name",
    ),
    "program to subscribe to": (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "1", "dfp_name": "nobody"},
        "program_not_found",
        "dfp_name",
    ),
    "number to subscribe to": (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "1", "dfp_number": 99},
        "program_not_found",
        "dfp_number",
    ),
    "very large number to subscribe to": (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "1", "dfp_number": 10**9},
        "program_not_found",
        "dfp_number",
    ),
    "bus to subscribe": (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "9999", "dfp_name": "evening"},
        "bus_not_found",
        "bus_name",
    ),
    "program to leave": (
        "POST",
        "/unsubscribe_dfp",
        {"bus_name": "1", "dfp_name": "nobody"},
        "program_not_found",
        "dfp_name",
    ),
    "number to leave": (
        "POST",
        "/unsubscribe_dfp",
        {"bus_name": "1", "dfp_number": 99},
        "program_not_found",
        "dfp_number",
    ),
    "bus that leaves": (
        "POST",
        "/unsubscribe_dfp",
        {"bus_name": "9999", "dfp_name": "evening"},
        "bus_not_found",
        "bus_name",
    ),
    "program to execute": (
        "POST",
        "/execute_dfp",
        {"dfp_name": "nobody"},
        "program_not_found",
        "dfp_name",
    ),
    "program to stop": (
        "POST",
        "/stop_dfp",
        {"dfp_name": "nobody"},
        "program_not_found",
        "dfp_name",
    ),
    "program to delete": (
        "DELETE",
        "/delete_dfp",
        {"name": "nobody"},
        "program_not_found",
        "name",
    ),
}

TAKEN = {
    "program": ("/register_dfp", PROGRAM, "name"),
    "program in another case": ("/register_dfp", {**PROGRAM, "name": "EVENING"}, "name"),
    "device": ("/add_device", DEVICE, "device_name"),
    "device in another case": ("/add_device", {**DEVICE, "device_name": "CHARGER"}, "device_name"),
    "device named like a load": (
        "/add_device",
        {**DEVICE, "device_name": "Load_1"},
        "device_name",
    ),
    "device named like a load in another case": (
        "/add_device",
        {**DEVICE, "device_name": "lOAD_1"},
        "device_name",
    ),
    "device named like a generator": (
        "/add_device",
        {**DEVICE, "device_name": "pv_1"},
        "device_name",
    ),
    "generator": ("/add_generator", GENERATOR, "generator_name"),
    "generator at another bus": (
        "/add_generator",
        {**GENERATOR, "bus_name": "48", "generator_name": "pV_1"},
        "generator_name",
    ),
    "generator named like a load": (
        "/add_generator",
        {**GENERATOR, "generator_name": "LOAD_1"},
        "generator_name",
    ),
    "generator named like a device": (
        "/add_generator",
        {**GENERATOR, "generator_name": "charger"},
        "generator_name",
    ),
}


def inventory(state: State) -> Any:
    """All that a command can change: demand, devices, generators, and what is in force."""
    equipment = [
        (details["bus"], kind, element["name"], element["set_kw"], element["held_by"])
        for details in state["bus_details"]
        for kind in ("loads", "devices", "generators")
        for element in details[kind]
    ]
    return demands(state), equipment, state["adjustments"]


@pytest.fixture(scope="module")
def _running() -> Iterator[System]:
    with system(feeders_dir=FEEDERS) as started:
        yield started


@pytest.fixture(scope="module")
def client(_running: System) -> Iterator[httpx.Client]:
    """A client of a system in which there is one of each kind."""
    with httpx.Client(base_url=_running.url, timeout=10) as made:
        results(made.post("/add_generator", json=GENERATOR))
        results(made.post("/add_device", json=DEVICE))
        results(made.post("/register_dfp", json=PROGRAM))
        results(made.post("/register_dfp", json={**PROGRAM, "name": "idle"}))
        results(made.post("/subscribe_dfp", json={"bus_name": "1", "dfp_number": 1}))
        results(made.post("/execute_dfp", json={"dfp_name": "evening"}))
        pin = {"bus_name": "2", "load_name": "Load_2", "new_kw": 5.0}
        results(made.post("/modify_load_household", json=pin))
        yield made
        assert "Traceback" not in _running.log.read_text(encoding="utf-8")


@pytest.fixture
def http(client: httpx.Client) -> Iterator[httpx.Client]:
    """Nothing of what is tried is done: not so much as a solve."""
    before = [client.get(path).content for path in ("/get_state", "/dfps")]
    yield client
    assert [client.get(path).content for path in ("/get_state", "/dfps")] == before


@pytest.fixture
def restored(client: httpx.Client) -> Iterator[httpx.Client]:
    """Everything is as it was in the end."""
    before = inventory(results(client.get("/get_state")))
    programs = results(client.get("/dfps"))
    yield client
    assert inventory(results(client.post("/run_simulation"))) == before
    assert results(client.get("/dfps")) == programs


class TestMalformed:
    @pytest.mark.parametrize(("method", "path", "body", "named"), [*_malformed()])
    def test_a_field(
        self, http: httpx.Client, method: str, path: str, body: bytes, named: str
    ) -> None:
        answer = http.request(method, path, content=body)
        assert_refused(answer, 422, "invalid_value", named)

    @pytest.mark.parametrize(
        ("method", "path", "body", "named"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
    )
    def test_what_does_not_go_together(
        self, http: httpx.Client, method: str, path: str, body: Json, named: str
    ) -> None:
        assert_refused(http.request(method, path, json=body), 422, "invalid_value", named)

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("content", [b"[]", b"null", b'"x"', b"1", b"true"])
    def test_what_is_no_object(self, http: httpx.Client, route: str, content: bytes) -> None:
        write = ROUTES[route]
        answer = http.request(write.method, write.path, content=content)
        assert_refused(answer, 422, "invalid_value", "message")

    @pytest.mark.parametrize("route", ROUTES)
    @pytest.mark.parametrize("content", [b"{", b"not json", b"{'a': 1}", b"\xff\xfe", b"{} {}"])
    def test_what_is_no_json(self, http: httpx.Client, route: str, content: bytes) -> None:
        write = ROUTES[route]
        answer = http.request(write.method, write.path, content=content)
        assert_refused(answer, 400, "not_json")

    @pytest.mark.parametrize("route", [name for name, write in ROUTES.items() if write.fields])
    def test_no_body_at_all(self, http: httpx.Client, route: str) -> None:
        write = ROUTES[route]
        assert_refused(http.request(write.method, write.path), 422, "invalid_value")

    @pytest.mark.parametrize("route", ROUTES)
    def test_more_than_a_mebibyte(self, http: httpx.Client, route: str) -> None:
        write = ROUTES[route]
        body = {**write.body, "description": "a" * (1 << 20)}
        answer = http.request(write.method, write.path, json=body)
        assert_refused(answer, 413, "too_large", "body")

    def test_every_problem_is_told_at_once(self, http: httpx.Client) -> None:
        body = {"bus_name": "a b", "kw": -1.0, "pf": 0, "colour": "red"}
        answer = http.post("/add_device", json=body)
        for named in ("bus_name", "device_name", "kw", "pf", "colour"):
            assert_refused(answer, 422, "invalid_value", named)

    @pytest.mark.parametrize(("path", "body", "named", "has"), PHASES.values(), ids=PHASES)
    def test_a_phase_that_the_bus_has_not(
        self, http: httpx.Client, path: str, body: Json, named: str, has: str
    ) -> None:
        """Those that it has are named."""
        answer = http.post(path, json=body)
        assert_refused(answer, 422, "invalid_value", named)
        assert f"has the phases {has}" in answer.json()["message"]


class TestUnknown:
    @pytest.mark.parametrize(
        ("method", "path", "body", "code", "named"), UNKNOWN.values(), ids=UNKNOWN
    )
    def test_what_is_not_there(
        self, http: httpx.Client, method: str, path: str, body: Json, code: str, named: str
    ) -> None:
        assert_refused(http.request(method, path, json=body), 404, code, named)

    @pytest.mark.parametrize("route", ROUTES)
    def test_a_feeder(self, http: httpx.Client, route: str) -> None:
        write = ROUTES[route]
        for query, body in (("?feeder=ieee9", write.body), ("", {**write.body, "feeder": "x"})):
            answer = http.request(write.method, f"{write.path}{query}", json=body)
            assert_refused(answer, 404, "feeder_not_found", "feeder")

    @pytest.mark.parametrize("route", ROUTES)
    def test_feeders_that_contradict_each_other(self, http: httpx.Client, route: str) -> None:
        write = ROUTES[route]
        body = {**write.body, "feeder": "ieee13"}
        answer = http.request(write.method, f"{write.path}?feeder=ieee123", json=body)
        assert_refused(answer, 422, "invalid_value", "feeder")

    @pytest.mark.parametrize(
        ("path", "status", "code"),
        [
            ("/dfps/nobody", 404, "program_not_found"),
            ("/dfps/a%20b", 422, "invalid_value"),
            ("/dfps/%23", 422, "invalid_value"),
            ("/buses/9999", 404, "bus_not_found"),
            ("/buses/a%20b", 422, "invalid_value"),
            ("/dfps?feeder=ieee9", 404, "feeder_not_found"),
            ("/transformers?feeder=ieee9", 404, "feeder_not_found"),
            ("/events?feeder=ieee9", 404, "feeder_not_found"),
            ("/events?feeder=a%20b", 422, "invalid_value"),
            ("/nowhere", 404, "not_found"),
            ("/execute_dfp", 405, "method_not_allowed"),
            ("/delete_dfp", 405, "method_not_allowed"),
        ],
    )
    def test_what_is_read(self, http: httpx.Client, path: str, status: int, code: str) -> None:
        assert_refused(http.get(path), status, code)


class TestTaken:
    @pytest.mark.parametrize(("path", "body", "named"), TAKEN.values(), ids=TAKEN)
    def test_a_name(self, http: httpx.Client, path: str, body: Json, named: str) -> None:
        assert_refused(http.post(path, json=body), 409, "already_exists", named)


class TestTwice:
    """What is gone cannot be taken away again; what was there before stays."""

    def test_a_program(self, restored: httpx.Client) -> None:
        results(restored.post("/register_dfp", json={**PROGRAM, "name": "short"}))
        results(restored.request("DELETE", "/delete_dfp", json={"name": "SHORT"}))
        answer = restored.request("DELETE", "/delete_dfp", json={"name": "short"})
        assert_refused(answer, 404, "program_not_found", "name")

    def test_a_device(self, restored: httpx.Client) -> None:
        results(restored.post("/add_device", json={**DEVICE, "device_name": "short"}))
        body = {"bus_name": "1", "device_name": "SHORT"}
        results(restored.post("/disconnect_device", json=body))
        answer = restored.post("/disconnect_device", json=body)
        assert_refused(answer, 404, "device_not_found", "device_name")

    def test_a_generator(self, restored: httpx.Client) -> None:
        results(restored.post("/add_generator", json={**GENERATOR, "generator_name": "short"}))
        body = {"generator_name": "SHORT"}
        results(restored.post("/remove_generator", json=body))
        answer = restored.post("/remove_generator", json=body)
        assert_refused(answer, 404, "generator_not_found", "generator_name")


class TestJustWithinBounds:
    """So that it is the bounds that are refused, and not more."""

    @pytest.mark.parametrize("target_pf", [1, 1.0, 0.01])
    @pytest.mark.parametrize("min_power_kw", [0, 1e6])
    def test_terms(self, restored: httpx.Client, target_pf: float, min_power_kw: float) -> None:
        terms = {"min_power_kw": min_power_kw, "target_pf": target_pf}
        made = results(restored.post("/register_dfp", json={"name": "limits", **terms}))
        assert (made["min_power_kw"], made["target_pf"]) == (min_power_kw, target_pf)
        results(restored.request("DELETE", "/delete_dfp", json={"name": "limits"}))

    def test_a_name_of_64_characters(self, restored: httpx.Client) -> None:
        longest = "a" * 62 + "-_"
        body = {"bus_name": "1", "device_name": longest}
        state = results(restored.post("/add_device", json={**body, "kw": 0}))
        assert bus(state, "1")["devices"][-1]["name"] == longest
        results(restored.post("/disconnect_device", json=body))

    @pytest.mark.parametrize(("phase", "kw"), [("c", 1.0), (3, 0.0), ("C", 1e-9)])
    def test_a_phase_that_the_bus_has(self, restored: httpx.Client, phase: Any, kw: float) -> None:
        body = {"bus_name": "5", "generator_name": "here"}
        state = results(restored.post("/add_generator", json={**body, "phase": phase, "kw": kw}))
        assert bus(state, "5")["gen_kw"] == pytest.approx(kw, abs=0.01)
        results(restored.post("/remove_generator", json={"generator_name": "here"}))

    def test_names_in_another_case(self, restored: httpx.Client) -> None:
        body = {"bus_name": "25R", "device_name": "Heater"}
        state = results(restored.post("/add_device", json={**body, "kw": 1.0}))
        assert [device["name"] for device in bus(state, "25r")["devices"]] == ["Heater"]
        body = {"bus_name": "25r", "device_name": "hEATER"}
        results(restored.post("/disconnect_device", json=body))

    def test_a_name_of_another_bus_is_free(self, restored: httpx.Client) -> None:
        body = {"bus_name": "2", "device_name": "Load_1"}
        state = results(restored.post("/add_device", json={**body, "kw": 1.0}))
        assert bus(state, "2")["devices"][0]["name"] == "Load_1"
        results(restored.post("/disconnect_device", json=body))

    def test_no_answer_has_a_number_that_is_none(self, restored: httpx.Client) -> None:
        """Parsed by one that takes no NaN."""
        for path in ("/get_state", "/dfps", "/transformers", "/violations", "/neighbourhoods"):
            orjson.loads(restored.get(path).content)
