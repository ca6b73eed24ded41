"""Requests over HTTP that come again: the same ``Idempotency-Key``, the same answer, no further
effect.
"""

import asyncio
import os
import re
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import orjson
import pytest
import structlog
from gateway_peers import FEEDER as ALPHA
from gateway_peers import Gateway, Json, Peer, Scene, playing
from gateway_writes import TO_MANAGER, TO_SOLVER
from support import FEEDER, assert_error, assert_refused, bus, mqtt, results

from flexfeeder.testing import System, wait_until
from schemas.errors import ErrorCode, Refusal
from services.bus import BrokerAddress
from services.gateway import replies
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.replies import Replies
from services.gateway.streams import Streams

PEAK: Json = {"name": "peak_shaving", "min_power_kw": 10.0, "target_pf": 0.95}
NAMED: Json = {"dfp_name": "peak_shaving"}
BUS_1: Json = {"bus_name": "1", "dfp_name": "peak_shaving"}

WRITES = [("POST", path, body) for path, body, _, _ in TO_SOLVER] + [
    (method, path, body) for method, path, body, _, _ in TO_MANAGER
]
"""Every write, with the bodies of the contract."""


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


@contextmanager
def asking(gateway: Gateway, path: str, body: Json, key: str) -> Iterator[None]:
    """Somebody who asks for something, and has gone in the end without having read an answer."""
    url, content = httpx.URL(gateway.url), orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {url.host}\r\nIdempotency-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), timeout=10) as sock:
        sock.sendall(head.encode() + content)
        yield


@pytest.fixture
def key() -> str:
    """A key that nobody has used."""
    return str(uuid.uuid4())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(scene: Scene) -> Iterator[Gateway]:
    with scene.gateway() as running:
        yield running


class TestAtTheGateway:
    """Against a solver and a manager that the tests play: it is they who remember."""

    @pytest.fixture
    def http(self, gateway: Gateway) -> Iterator[httpx.Client]:
        """A client of a gateway that meets no error of its own."""
        with httpx.Client(base_url=gateway.url, timeout=10) as client:
            yield client
        assert gateway.logged("request_failed") == []
        assert gateway.process.poll() is None

    @staticmethod
    def owner(scene: Scene, path: str) -> Peer:
        return scene.manager if path.endswith("_dfp") else scene.solver

    @pytest.mark.parametrize(("method", "path", "body"), WRITES)
    def test_the_owner_of_the_effect_is_told_what_the_key_stands_for(
        self, scene: Scene, http: httpx.Client, key: str, method: str, path: str, body: Json
    ) -> None:
        for _ in range(2):
            results(http.request(method, path, json=body, headers=keyed(key)))
            assert self.owner(scene, path).heard[-1][1]["request_id"] == f"key:{key}"

    def test_without_a_key_each_request_has_an_id_of_its_own(
        self, scene: Scene, http: httpx.Client
    ) -> None:
        ids = set()
        for _ in range(2):
            results(http.post("/run_simulation"))
            ids.add(scene.solver.heard[-1][1]["request_id"])
        assert len(ids) == 2
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)

    @pytest.mark.parametrize(
        "values",
        [[b""], [b"x" * 256], [b"\xe9"], [b"a\tb"], [b"a", b"b"], [b"a", b"a"]],
        ids=["empty", "long", "no ASCII", "not printable", "two", "twice"],
    )
    @pytest.mark.parametrize(("method", "path", "body"), WRITES[:1] + WRITES[-1:])
    def test_what_is_no_key_is_named_and_nobody_is_asked(
        self,
        scene: Scene,
        http: httpx.Client,
        method: str,
        path: str,
        body: Json,
        values: list[bytes],
    ) -> None:
        before = len(scene.solver.heard) + len(scene.manager.heard)
        headers = [(b"Idempotency-Key", value) for value in values]
        answer = http.request(method, path, json=body, headers=headers)
        assert_refused(answer, 422, "invalid_value", "Idempotency-Key")
        assert len(scene.solver.heard) + len(scene.manager.heard) == before

    @pytest.mark.parametrize(("method", "path", "body"), WRITES[:1] + WRITES[-1:])
    def test_while_the_first_is_under_way_the_second_is_told_so(
        self, scene: Scene, http: httpx.Client, key: str, method: str, path: str, body: Json
    ) -> None:
        owner = self.owner(scene, path)
        may_answer, usual = threading.Event(), owner.answer
        first: list[httpx.Response] = []

        def answer(command: str, asked: Json) -> Json | None:
            may_answer.wait(10)
            return usual(command, asked)

        def ask() -> None:
            first.append(http.request(method, path, json=body, headers=keyed(key)))

        before = len(owner.heard)
        with owner.answering(answer):
            thread = threading.Thread(target=ask)
            thread.start()
            try:
                wait_until(lambda: len(owner.heard) > before, "the owner is asked")
                again = http.request(method, path, json=body, headers=keyed(key))
                assert_refused(again, 409, "request_in_progress", "Idempotency-Key")
            finally:
                may_answer.set()
                thread.join()
        assert len(owner.heard) == before + 1
        results(first[0])
        results(http.request(method, path, json=body, headers=keyed(key)))

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("request_in_progress", 409),
            ("request_id_reused", 422),
            ("request_too_old", 409),
            ("already_exists", 409),
        ],
    )
    def test_what_the_owner_says_of_it_is_passed_on(
        self, scene: Scene, http: httpx.Client, key: str, code: str, status: int
    ) -> None:
        detail = {"field": "request_id", "problem": "so it is"}
        refusal = {"status": "error", "code": code, "message": "so it is", "details": [detail]}
        with scene.manager.answering(lambda *_: refusal):
            answer = http.post("/register_dfp", json=PEAK, headers=keyed(key))
        assert_refused(answer, status, code, "request_id")

    def test_an_answer_that_comes_when_the_caller_has_gone_does_no_harm(
        self, scene: Scene, http: httpx.Client, gateway: Gateway, key: str
    ) -> None:
        manager = scene.manager
        before = len(manager.heard)
        with manager.answering(lambda *_: None), asking(gateway, "/register_dfp", PEAK, key):
            wait_until(lambda: len(manager.heard) > before, "the manager is asked")
        asked = manager.heard[-1][1]
        reply = {"request_id": asked["request_id"], "status": "success", "message": "done"}
        for _ in range(2):
            manager.client.publish(asked["reply_to"], orjson.dumps(reply))

        def is_free() -> bool:
            return http.post("/register_dfp", json=PEAK, headers=keyed(key)).status_code == 200

        wait_until(is_free, "it has come, and the key is free")

    @pytest.mark.parametrize("key_", [None, "with spaces"])
    def test_who_gets_no_answer_is_told_a_key_that_asks_again(
        self, scene: Scene, http: httpx.Client, key_: str | None
    ) -> None:
        headers = keyed(key_) if key_ is not None else {}
        with scene.manager.answering(lambda *_: None):
            answer = http.post("/register_dfp", json=PEAK, headers=headers)
        first = scene.manager.heard[-1][1]["request_id"]
        assert_names(answer, first)
        results(http.post("/register_dfp", json=PEAK, headers=keyed(first)))
        assert scene.manager.heard[-1][1]["request_id"] == first

    def test_a_late_answer_to_the_first_is_none_to_the_second(
        self, scene: Scene, http: httpx.Client, key: str
    ) -> None:
        """It may say that nothing was changed, when the second one is still to be carried out."""
        manager = scene.manager
        with manager.answering(lambda *_: None):
            assert_names(http.post("/register_dfp", json=PEAK, headers=keyed(key)), f"key:{key}")
        first = manager.heard[-1][1]
        refused = {
            "request_id": first["request_id"],
            "status": "error",
            "code": "deadline_passed",
            "message": "too late",
            "details": [],
        }

        def answer(_command: str, asked: Json) -> Json:
            assert asked["request_id"] == first["request_id"]
            manager.client._client.publish(first["reply_to"], orjson.dumps(refused), 1)
            return {"results": "of the second"}

        with manager.answering(answer):
            again = http.post("/register_dfp", json=PEAK, headers=keyed(key))
        assert results(again) == "of the second"

    def test_also_if_it_is_the_owner_who_has_none(
        self, scene: Scene, http: httpx.Client, key: str
    ) -> None:
        detail = {"field": "solver", "problem": "it has not said"}
        refusal = {
            "status": "error",
            "code": "no_reply",
            "message": "solver: it has not said",
            "details": [detail],
        }
        with scene.manager.answering(lambda *_: refusal):
            answer = http.post("/execute_dfp", json=NAMED, headers=keyed(key))
        assert answer.json()["details"][0] == detail
        assert answer.json()["message"].startswith("solver: it has not said; ")
        assert_names(answer, f"key:{key}")


def assert_names(answer: httpx.Response, request_id: str) -> None:
    """The answer says that nobody answered, and under which id to ask again."""
    assert_refused(answer, 504, "no_reply", "request_id")
    assert answer.json()["message"].endswith(f"; ask again with request id {request_id}")
    assert answer.json()["details"][-1] == {"field": "request_id", "problem": request_id}


def test_no_more_replies_are_waited_for_than_a_bound() -> None:
    async def ask() -> None:
        waiting = Replies("flexfeeder/reply/gateway")
        with ExitStack() as stack:
            for number in range(replies.MOST_EXPECTED):
                stack.enter_context(waiting.expect(str(number)))
            with pytest.raises(Refusal) as refused, waiting.expect("one more"):
                pass
            assert refused.value.code is ErrorCode.SERVICE_UNAVAILABLE
        with waiting.expect("one more"):
            pass
        for number in range(replies.MOST_UNANSWERED):
            with waiting.expect(f"another {number}"):
                pass
        assert len(waiting._unanswered) == replies.MOST_UNANSWERED

    asyncio.run(ask())


def test_every_write_says_that_it_takes_a_key_and_no_read_does() -> None:
    log = structlog.get_logger()
    streams = Streams(log)
    bridge = Bridge(BrokerAddress("127.0.0.1", 1), ALPHA, streams, log)
    app = create_app(bridge, streams, log)
    described = {(method, path) for method, path, _ in WRITES}
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            takes = [p for p in operation.get("parameters", []) if p["name"] == "Idempotency-Key"]
            assert len(takes) == ((method.upper(), path) in described), path
            for parameter in takes:
                assert parameter["in"] == "header"
                assert not parameter["required"]
                assert parameter["description"]
                assert {"409", "422", "504"} <= set(operation["responses"])


class TestPrograms:
    """On a running system, on either broker."""

    @pytest.fixture(autouse=True)
    def _none_is_left(self, http: httpx.Client) -> Iterator[None]:
        yield
        for program in results(http.get("/dfps")):
            results(http.request("DELETE", "/delete_dfp", json={"name": program["name"]}))

    def test_each_write_takes_effect_once(self, http: httpx.Client) -> None:
        asked = [
            ("POST", "/register_dfp", PEAK),
            ("PUT", "/update_dfp", {**PEAK, "min_power_kw": 12.0}),
            ("POST", "/subscribe_dfp", BUS_1),
            ("POST", "/execute_dfp", NAMED),
            ("POST", "/unsubscribe_dfp", BUS_1),
            ("POST", "/stop_dfp", NAMED),
            ("DELETE", "/delete_dfp", {"name": "peak_shaving"}),
        ]
        keys = [str(uuid.uuid4()) for _ in asked]

        def run() -> list[tuple[str, Any]]:
            answers = [
                http.request(method, path, json=body, headers=keyed(key))
                for (method, path, body), key in zip(asked, keys, strict=True)
            ]
            return [(answer.json()["message"], results(answer)) for answer in answers]

        first = run()
        assert first[3][1]["total_shed_kw"] == pytest.approx(28.0, abs=0.5)
        assert run() == first
        assert results(http.get("/dfps")) == []

    def test_another_body_or_another_route_is_refused(self, http: httpx.Client, key: str) -> None:
        registered = results(http.post("/register_dfp", json=PEAK, headers=keyed(key)))
        for method, path, body in (
            ("POST", "/register_dfp", {**PEAK, "min_power_kw": 1.0}),
            ("PUT", "/update_dfp", PEAK),
            ("DELETE", "/delete_dfp", {"name": "peak_shaving"}),
        ):
            answer = http.request(method, path, json=body, headers=keyed(key))
            assert_refused(answer, 422, "request_id_reused", "request_id")
        assert results(http.get("/dfps")) == [registered]

    def test_a_refusal_is_an_answer_too(self, http: httpx.Client, key: str) -> None:
        delete = {"name": "peak_shaving"}
        refused = http.request("DELETE", "/delete_dfp", json=delete, headers=keyed(key))
        assert_refused(refused, 404, "program_not_found", "name")
        results(http.post("/register_dfp", json=PEAK))
        again = http.request("DELETE", "/delete_dfp", json=delete, headers=keyed(key))
        assert again.status_code == 404
        assert again.json() == refused.json()
        assert len(results(http.get("/dfps"))) == 1

    def test_over_mqtt_it_is_the_same_request(
        self, http: httpx.Client, running: System, key: str
    ) -> None:
        registered = results(http.post("/register_dfp", json=PEAK, headers=keyed(key)))
        with mqtt(running) as client:
            command = orjson.dumps({**PEAK, "request_id": f"key:{key}"})
            reply = client.send("flexfeeder/dfp/command/register", command)
            assert reply["results"] == registered
            late = {**PEAK, "request_id": f"key:{key}", "deadline": "2026-01-01T00:00:00Z"}
            reply = client.send("flexfeeder/dfp/command/register", orjson.dumps(late))
            assert reply["results"] == registered
            other = {**PEAK, "target_pf": 1, "request_id": f"key:{key}"}
            reply = client.send("flexfeeder/dfp/command/register", orjson.dumps(other))
            assert_error(reply, "request_id_reused", "request_id")

    def test_what_went_unanswered_is_asked_for_again_by_its_id(
        self, http: httpx.Client, running: System
    ) -> None:
        pid = running.pid("dfp_manager")
        os.kill(pid, signal.SIGSTOP)
        try:
            answer = http.post("/register_dfp", json=PEAK)
        finally:
            os.kill(pid, signal.SIGCONT)
        request_id = answer.json()["details"][-1]["problem"]
        assert_names(answer, request_id)
        wait_until(running.is_ready, "the manager is back")
        registered = results(http.post("/register_dfp", json=PEAK, headers=keyed(request_id)))
        assert results(http.get("/dfps")) == [registered]
        again = results(http.post("/register_dfp", json=PEAK, headers=keyed(request_id)))
        assert again == registered


class TestSolver:
    """On a running system, on either broker."""

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self, http: httpx.Client) -> Iterator[None]:
        yield
        for details in results(http.get("/get_state"))["bus_details"]:
            for generator in details["generators"]:
                body = {"generator_name": generator["name"]}
                results(http.post("/remove_generator", json=body))
            for device in details["devices"]:
                body = {"bus_name": details["bus"], "device_name": device["name"]}
                results(http.post("/disconnect_device", json=body))

    @staticmethod
    def at_bus_1(http: httpx.Client, kind: str) -> list[str]:
        state = results(http.get("/get_state"))
        return [element["name"] for element in bus(state, "1")[kind]]

    def test_a_generator_without_a_name_is_added_once(self, http: httpx.Client, key: str) -> None:
        body = {"bus_name": "1", "kw": 10.0}
        first = http.post("/add_generator", json=body, headers=keyed(key))
        name = results(first)["generator_name"]
        again = http.post("/add_generator", json=body, headers=keyed(key))
        assert results(again)["generator_name"] == name
        assert again.json()["message"] == first.json()["message"]
        assert results(again)["version"] >= results(first)["version"]
        assert self.at_bus_1(http, "generators") == [name]
        results(http.post("/remove_generator", json={"generator_name": name}))
        results(http.post("/add_generator", json=body, headers=keyed(key)))
        assert self.at_bus_1(http, "generators") == [], "it is not added again"

    def test_a_device_is_added_once(self, http: httpx.Client, key: str) -> None:
        body = {"bus_name": "1", "device_name": "EV_1", "kw": 7.2}
        for _ in range(2):
            answer = http.post("/add_device", json=body, headers=keyed(key))
            assert [d["name"] for d in bus(results(answer), "1")["devices"]] == ["EV_1"]
        assert_refused(http.post("/add_device", json=body), 409, "already_exists", "device_name")

    def test_a_pin_that_was_lifted_since_stays_lifted(self, http: httpx.Client, key: str) -> None:
        load = {"bus_name": "1", "load_name": "Load_1"}
        pin = {**load, "new_kw": 5.0, "new_kvar": 1.0}
        first = http.post("/modify_load_household", json=pin, headers=keyed(key))
        [pinned] = bus(results(first), "1")["loads"]
        assert pinned["source"] == "operator"
        results(http.post("/release_load", json=load))
        again = http.post("/modify_load_household", json=pin, headers=keyed(key))
        [released] = bus(results(again), "1")["loads"]
        assert released["source"] != "operator", "the results are the state as it is now"
        assert again.json()["message"] == first.json()["message"]

    def test_minimal_results_name_the_same_buses(self, http: httpx.Client, key: str) -> None:
        headers = {**keyed(key), "Prefer": "return=minimal"}
        body = {"bus_name": "1", "factor": 0.9}
        for _ in range(2):
            answer = http.post("/modify_load_household", json=body, headers=headers)
            assert [details["bus"] for details in results(answer)["bus_details"]] == ["1"]

    def test_another_body_or_another_route_is_refused(self, http: httpx.Client, key: str) -> None:
        results(http.post("/add_generator", json={"bus_name": "1", "kw": 10.0}, headers=keyed(key)))
        for path, body in (
            ("/add_generator", {"bus_name": "1", "kw": 11.0}),
            ("/modify_load_household", {"bus_name": "1", "factor": 0.5}),
        ):
            answer = http.post(path, json=body, headers=keyed(key))
            assert_refused(answer, 422, "request_id_reused", "request_id")
        assert len(self.at_bus_1(http, "generators")) == 1

    def test_a_refusal_is_an_answer_too(self, http: httpx.Client, key: str) -> None:
        device = {"bus_name": "1", "device_name": "EV_1"}
        refused = http.post("/disconnect_device", json=device, headers=keyed(key))
        assert_refused(refused, 404, "device_not_found", "device_name")
        results(http.post("/add_device", json={**device, "kw": 7.2}))
        again = http.post("/disconnect_device", json=device, headers=keyed(key))
        assert again.status_code == 404
        assert again.json() == refused.json()
        assert self.at_bus_1(http, "devices") == ["EV_1"]

    def test_a_solve_may_be_asked_for_again(self, http: httpx.Client, key: str) -> None:
        versions = [
            results(http.post("/run_simulation", headers=keyed(key)))["version"] for _ in range(2)
        ]
        assert versions[1] >= versions[0]

    def test_over_mqtt_it_is_the_same_request(
        self, http: httpx.Client, running: System, key: str
    ) -> None:
        body = {"bus_name": "1", "kw": 10.0}
        added = results(http.post("/add_generator", json=body, headers=keyed(key)))
        with mqtt(running) as client:
            command = {**body, "request_id": f"key:{key}", "deadline": "2026-01-01T00:00:00Z"}
            topic = f"flexfeeder/{FEEDER}/command/add_generator"
            reply = client.send(topic, orjson.dumps(command))
            assert reply["results"] == {"generator_name": added["generator_name"]}
        assert self.at_bus_1(http, "generators") == [added["generator_name"]]
