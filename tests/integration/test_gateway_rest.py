"""REST to command and back, against a solver and a program manager that the tests play."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from gateway_peers import FEEDER, OTHER, Answer, Gateway, Json, Scene, playing, state
from gateway_writes import DEVICE, TO_MANAGER, TO_SOLVER
from support import assert_refused, results

from flexfeeder.testing import wait_until
from schemas import topics

REFUSED_BODIES: list[tuple[str, str, bytes, str]] = [
    ("POST", "/add_device", b'{"device_name":"x","kw":1}', "bus_name"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"x","kw":-1}', "kw"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"x","kw":NaN}', "kw"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"x","kw":1,"pf":0}', "pf"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"x","kw":1,"phases":4}', "phases"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"x","kw":1,"phase":"D"}', "phase"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"a b","kw":1}', "device_name"),
    ("POST", "/add_device", b'{"bus_name":"1","device_name":"x","kw":1,"kv":1}', "kv"),
    ("POST", "/disconnect_device", b'{"bus_name":"1"}', "device_name"),
    ("POST", "/add_generator", b'{"bus_name":"1"}', "kw"),
    ("POST", "/add_generator", b'{"bus_name":"1","kw":1,"kv":0}', "kv"),
    ("POST", "/add_generator", b'{"bus_name":"1","kw":1,"model":6}', "model"),
    ("POST", "/add_generator", b'{"bus_name":"1","kw":1,"kvar":Infinity}', "kvar"),
    ("POST", "/add_generator", b'{"bus_name":"1","kw":1,"vmin_pu":1.2}', "vmin_pu"),
    ("POST", "/remove_generator", b"", "generator_name"),
    ("POST", "/register_dfp", b'{"name":"x","min_power_kw":-1,"target_pf":1}', "min_power_kw"),
    ("POST", "/register_dfp", b'{"name":"x","min_power_kw":1,"target_pf":1.1}', "target_pf"),
    ("POST", "/register_dfp", b'{"name":"x","min_power_kw":NaN,"target_pf":1}', "min_power_kw"),
    ("PUT", "/update_dfp", b'{"name":"x y","min_power_kw":1,"target_pf":1}', "name"),
    ("POST", "/subscribe_dfp", b'{"bus_name":"1"}', "dfp_number"),
    ("POST", "/subscribe_dfp", b'{"bus_name":"1","dfp_number":1,"dfp_name":"x"}', "dfp_number"),
    ("POST", "/unsubscribe_dfp", b'{"bus_name":"1","dfp_number":0}', "dfp_number"),
    ("POST", "/unsubscribe_dfp", b'{"bus_name":"1","dfp_number":true}', "dfp_number"),
    ("POST", "/execute_dfp", b'{"name":"x"}', "dfp_name"),
    ("POST", "/stop_dfp", b"[]", "message"),
    ("DELETE", "/delete_dfp", b"", "name"),
    ("DELETE", "/delete_dfp", b'{"name":"x","force":true}', "force"),
]
"""Method, path, body, and the field that is named for it."""

OTHER_METHODS = [("DELETE", "/delete_dfp"), ("PUT", "/update_dfp")]
"""What takes a body and is no POST."""

ASKING_THE_MANAGER: list[tuple[str, str, Json | None]] = [
    *((method, path, body) for method, path, body, _, _ in TO_MANAGER),
    ("GET", "/dfps", None),
    ("GET", "/dfps/peak_shaving", None),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(scene: Scene) -> Iterator[Gateway]:
    with scene.gateway() as running:
        yield running


@pytest.fixture(scope="module")
def _http(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield client


@pytest.fixture
def http(_http: httpx.Client, gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of the gateway, which must not meet an error of its own, and misses nobody."""
    wait_until(lambda: _http.get("/readyz").status_code == 200, "everybody is there")
    yield _http
    assert gateway.logged("request_failed") == []
    assert gateway.process.poll() is None


class TestSolverCommands:
    @pytest.mark.parametrize(("path", "body", "command", "said"), TO_SOLVER)
    def test_a_body_becomes_its_command(
        self, scene: Scene, http: httpx.Client, path: str, body: Json, command: str, said: Json
    ) -> None:
        answer = results(http.post(path, json=body))
        assert scene.solver.last() == (topics.command(FEEDER, command), said)
        assert answer["version"] == scene.solver.version

    def test_the_state_is_passed_on_as_the_solver_wrote_it(
        self, scene: Scene, http: httpx.Client
    ) -> None:
        """Also what no parser would write like this."""
        body = state(FEEDER, scene.solver.version + 1)[:-1] + b', "new" : 1e0 }'

        def solved(_command: str, _body: Json) -> Json:
            scene.solver.version += 1
            scene.solver.client._client.publish(topics.state(FEEDER), body)
            return {"version": scene.solver.version, "message": 'with "quotes"'}

        with scene.solver.answering(solved):
            answer = http.post("/run_simulation")
        head = b'{"status":"success","message":"with \\"quotes\\"","results":'
        assert answer.content == head + body + b"}"

    def test_what_else_the_solver_says_stands_in_front(
        self, scene: Scene, http: httpx.Client
    ) -> None:
        solver = scene.solver
        with solver.answering(lambda *_: solver.solved(results={"generator_name": "gen_1"})):
            answer = results(http.post("/add_generator", json={"bus_name": "1", "kw": 5}))
        assert list(answer)[:3] == ["generator_name", "feeder", "version"]
        assert answer["generator_name"] == "gen_1"
        assert answer["version"] == solver.version

    def test_also_with_return_minimal(self, scene: Scene, http: httpx.Client) -> None:
        solver = scene.solver
        with solver.answering(lambda *_: solver.solved(results={"generator_name": "gen_1"})):
            answer = http.post(
                "/add_generator",
                json={"bus_name": "1", "kw": 5},
                headers={"Prefer": "return=minimal"},
            )
        found = results(answer)
        assert list(found) == [
            "generator_name",
            "version",
            "power_summary",
            "voltage_profile",
            "management_status",
            "bus_details",
        ]
        assert [details["bus"] for details in found["bus_details"]] == ["1"]

    @pytest.mark.parametrize("path", ["/add_device", "/disconnect_device", "/remove_generator"])
    def test_nothing_stands_in_front_where_nothing_is_said(
        self, scene: Scene, http: httpx.Client, path: str
    ) -> None:
        body = {
            "/add_device": {**DEVICE, "kw": 1},
            "/disconnect_device": DEVICE,
            "/remove_generator": {"generator_name": "gen_1"},
        }[path]

        def saying(nothing: Json | None) -> Answer:
            return lambda _command, _body: scene.solver.solved(results=nothing)

        for answer in (saying(None), saying({})):
            with scene.solver.answering(answer):
                assert next(iter(results(http.post(path, json=body)))) == "feeder"

    def test_a_refusal_is_passed_on(self, scene: Scene, http: httpx.Client) -> None:
        refusal = {
            "status": "error",
            "code": "already_exists",
            "message": "device_name: there is one",
            "details": [{"field": "device_name", "problem": "there is one"}],
        }
        with scene.solver.answering(lambda *_: refusal):
            answer = http.post("/add_device", json={**DEVICE, "kw": 1})
        assert_refused(answer, 409, "already_exists", "device_name")


class TestManagerCommands:
    @pytest.mark.parametrize(("method", "path", "body", "command", "said"), TO_MANAGER)
    def test_a_body_becomes_its_command(
        self,
        scene: Scene,
        http: httpx.Client,
        method: str,
        path: str,
        body: Json,
        command: str,
        said: Json,
    ) -> None:
        answer = http.request(method, path, json=body)
        assert results(answer) == {"did": command}
        assert scene.manager.last() == (topics.dfp_command(command), {**said, "feeder": FEEDER})

    def test_programs_are_listed_by_the_manager(self, scene: Scene, http: httpx.Client) -> None:
        with scene.manager.answering(lambda *_: {"results": [{"name": "a"}, {"name": "b"}]}):
            assert results(http.get("/dfps")) == [{"name": "a"}, {"name": "b"}]
        assert scene.manager.last() == (topics.dfp_command("list"), {"feeder": FEEDER})

    def test_a_program_is_told_by_the_manager(self, scene: Scene, http: httpx.Client) -> None:
        assert results(http.get("/dfps/Peak_Shaving")) == {"did": "get"}
        said = {"name": "Peak_Shaving", "feeder": FEEDER}
        assert scene.manager.last() == (topics.dfp_command("get"), said)

    def test_one_that_there_is_not(self, scene: Scene, http: httpx.Client) -> None:
        refusal = {
            "status": "error",
            "code": "program_not_found",
            "message": "name: there is no program 'x'",
            "details": [{"field": "name", "problem": "there is no program 'x'"}],
        }
        with scene.manager.answering(lambda *_: refusal):
            assert_refused(http.get("/dfps/x"), 404, "program_not_found", "name")

    @pytest.mark.parametrize("name", ["a%20b", "%00", "1.1", "%0a", "a" * 65])
    def test_a_bad_name_is_refused_before_anybody_is_asked(
        self, scene: Scene, http: httpx.Client, name: str
    ) -> None:
        before = len(scene.manager.heard)
        assert_refused(http.get(f"/dfps/{name}"), 422, "invalid_value", "name")
        assert len(scene.manager.heard) == before

    def test_the_manager_may_have_nothing_to_say(self, scene: Scene, http: httpx.Client) -> None:
        with scene.manager.answering(lambda *_: {"message": "done"}):
            assert results(http.post("/stop_dfp", json={"dfp_name": "x"})) is None


class TestRefusedBodies:
    @pytest.mark.parametrize(("method", "path", "body", "field"), REFUSED_BODIES)
    def test_the_field_is_named_and_nobody_is_asked(
        self, scene: Scene, http: httpx.Client, method: str, path: str, body: bytes, field: str
    ) -> None:
        before = len(scene.solver.heard) + len(scene.manager.heard)
        answer = http.request(method, path, content=body)
        assert_refused(answer, 422, "invalid_value", field)
        assert len(scene.solver.heard) + len(scene.manager.heard) == before

    @pytest.mark.parametrize(
        ("method", "path"), [("DELETE", "/delete_dfp"), ("PUT", "/update_dfp")]
    )
    def test_what_is_no_json(self, http: httpx.Client, method: str, path: str) -> None:
        assert_refused(http.request(method, path, content=b"{"), 400, "not_json")

    @pytest.mark.parametrize(
        ("method", "path"), [("DELETE", "/delete_dfp"), ("PUT", "/update_dfp")]
    )
    def test_a_body_over_a_mebibyte(self, http: httpx.Client, method: str, path: str) -> None:
        content = b" " * ((1 << 20) + 1)
        assert_refused(http.request(method, path, content=content), 413, "too_large", "body")

    def test_another_method_is_told_which_are_allowed(self, http: httpx.Client) -> None:
        answer = http.post("/delete_dfp", json={"name": "x"})
        assert_refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "DELETE"


class TestFeeder:
    @pytest.mark.parametrize(("path", "body", "command", "said"), TO_SOLVER)
    def test_another_feeders_solver_is_asked(
        self, scene: Scene, http: httpx.Client, path: str, body: Json, command: str, said: Json
    ) -> None:
        asked = (topics.command(OTHER, command), said)
        for answer in (
            http.post(path, json={**body, "feeder": OTHER.upper()}),
            http.post(f"{path}?feeder={OTHER}", json=body),
        ):
            assert results(answer)["feeder"] == OTHER
            assert scene.other.last() == asked

    @pytest.mark.parametrize(("method", "path", "body"), ASKING_THE_MANAGER)
    def test_the_manager_is_told_the_feeder(
        self, scene: Scene, http: httpx.Client, method: str, path: str, body: Json | None
    ) -> None:
        results(http.request(method, path, params={"feeder": OTHER.upper()}, json=body))
        assert scene.manager.last()[1]["feeder"] == OTHER
        if body is not None:
            results(http.request(method, path, json={**body, "feeder": OTHER}))
            assert scene.manager.last()[1]["feeder"] == OTHER

    @pytest.mark.parametrize(("method", "path", "body"), ASKING_THE_MANAGER)
    def test_one_that_there_is_not(
        self, scene: Scene, http: httpx.Client, method: str, path: str, body: Json | None
    ) -> None:
        before = len(scene.manager.heard)
        answer = http.request(method, path, params={"feeder": "gamma"}, json=body)
        assert_refused(answer, 404, "feeder_not_found", "feeder")
        assert len(scene.manager.heard) == before

    @pytest.mark.parametrize(
        "path",
        [
            "/get_state",
            "/buses/1",
            "/neighbourhoods",
            "/transformers",
            "/violations",
            "/voltage_profile",
        ],
    )
    def test_each_has_its_own_state(self, http: httpx.Client, path: str) -> None:
        results(http.get(path, params={"feeder": OTHER}))
        answer = http.get(path, params={"feeder": "gamma"})
        assert_refused(answer, 404, "feeder_not_found", "feeder")


class TestReadYourWrites:
    @pytest.mark.parametrize("who", ["solver", "manager"])
    def test_an_answer_waits_for_the_state_that_its_reply_names(
        self, scene: Scene, http: httpx.Client, who: str
    ) -> None:
        """The reply overtakes the state."""
        version = scene.solver.version + 1
        peer = scene.solver if who == "solver" else scene.manager
        reply: Json = {"version": version, "results": None}
        body = {} if who == "solver" else {"dfp_name": "x"}
        path = "/run_simulation" if who == "solver" else "/execute_dfp"
        before = len(peer.heard)
        with peer.answering(lambda *_: reply), ThreadPoolExecutor(1) as pool:
            answer = pool.submit(http.post, path, json=body)
            wait_until(lambda: len(peer.heard) > before, "the command has come")
            assert not answer.done()
            assert scene.solver.publish_state() == version
            results(answer.result(30))
        assert results(http.get("/get_state"))["version"] == version

    def test_an_answer_without_a_version_waits_for_nothing(
        self, scene: Scene, http: httpx.Client
    ) -> None:
        with scene.manager.answering(lambda *_: {"version": None, "results": {}}):
            assert (
                results(http.post("/subscribe_dfp", json={"bus_name": "1", "dfp_number": 1})) == {}
            )


class TestAway:
    @pytest.mark.parametrize(("method", "path", "body"), ASKING_THE_MANAGER)
    def test_without_the_manager_nobody_is_asked(
        self, scene: Scene, http: httpx.Client, method: str, path: str, body: Json | None
    ) -> None:
        before = len(scene.manager.heard)
        with scene.manager.away():
            wait_until(lambda: http.get("/readyz").status_code == 503, "it is missed")
            answer = http.request(method, path, json=body)
            assert_refused(answer, 503, "service_unavailable", "dfp_manager")
            results(http.post("/run_simulation"))
        wait_until(lambda: http.get("/readyz").status_code == 200, "it is back")
        assert len(scene.manager.heard) == before

    def test_without_the_solver_the_manager_is_asked_all_the_same(
        self, scene: Scene, http: httpx.Client
    ) -> None:
        with scene.solver.away():
            wait_until(lambda: http.get("/readyz").status_code == 503, "it is missed")
            answer = http.post("/add_device", json={**DEVICE, "kw": 1})
            assert_refused(answer, 503, "service_unavailable", "solver")
            assert results(http.get("/dfps")) == {"did": "list"}
        wait_until(lambda: http.get("/readyz").status_code == 200, "it is back")

    def test_who_gets_no_reply_is_told_to_ask_again(self, scene: Scene, http: httpx.Client) -> None:
        """A reply without the state that it names is none either."""
        stateless: Json = {"version": scene.solver.version + 1000, "results": {}}

        def silence(command: str, _body: Json) -> Json | None:
            return stateless if command == "stop" else None

        asked: list[tuple[str, Json]] = [
            ("/remove_generator", {"generator_name": "g"}),
            ("/execute_dfp", {"dfp_name": "p"}),
            ("/stop_dfp", {"dfp_name": "p"}),
        ]
        with (
            scene.solver.answering(silence),
            scene.manager.answering(silence),
            ThreadPoolExecutor(3) as pool,
        ):
            answers = list(pool.map(lambda ask: http.post(ask[0], json=ask[1]), asked))
        heard = scene.solver.heard[-1:] + scene.manager.heard[-2:]
        for answer in answers:
            assert_refused(answer, 504, "no_reply", "request_id")
        told = {answer.json()["details"][0]["problem"] for answer in answers}
        assert told == {body["request_id"] for _, body in heard}
        assert all(answer.json()["message"].endswith(tuple(told)) for answer in answers)


class TestMetrics:
    def test_they_tell_of_every_service(self, scene: Scene, http: httpx.Client) -> None:
        answer = http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = dict(
            line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#")
        )
        assert samples["flexfeeder_broker_connected"] == "1"
        assert samples['flexfeeder_service_online{instance="dfp_manager"}'] == "1"
        labels = f'{{instance="solver-{FEEDER}",feeder="{FEEDER}"}}'
        assert samples[f"flexfeeder_solver_solves{labels}"] == "3"
        version = f'flexfeeder_gateway_state_version{{feeder="{FEEDER}"}}'
        assert samples[version] == str(scene.solver.version)


class TestForged:
    @pytest.mark.parametrize(
        "reply",
        [b"", b"[]", b"{", b'{"request_id":[]}', b'{"request_id":"unknown","status":"success"}'],
    )
    def test_junk_on_the_reply_topic_does_no_harm(
        self, scene: Scene, http: httpx.Client, reply: bytes
    ) -> None:
        results(http.post("/run_simulation"))
        reply_to = scene.solver.heard[-1][1]["reply_to"]
        for topic in (reply_to, f"{reply_to}/state", f"{reply_to}/alert"):
            scene.solver.client.publish(topic, reply)
        results(http.post("/run_simulation"))


def test_the_documentation_needs_no_internet(http: httpx.Client) -> None:
    page = http.get("/docs").text
    for link in set(httpx_links(page)):
        assert link.startswith("/"), link
        assert http.get(link).status_code == 200, link


def httpx_links(page: str) -> Iterator[str]:
    """Whatever a page loads."""
    for attribute in ('src="', 'href="', "url: '"):
        for part in page.split(attribute)[1:]:
            yield part.split(attribute[-1])[0]
