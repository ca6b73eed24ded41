"""The services as seen by whoever runs them: figures, health, a line for each request, traces."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import orjson
import patience
import pytest
from collector import Collector, Span
from patience import PATIENCE_S
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from stores import Store
from support import FEEDER, FEEDERS, Broker, MqttClient, assert_refused, loads, results

from flexfeeder import ports
from flexfeeder.testing import wait_until
from services.gateway.figures import FIGURES as GATEWAY_FIGURES
from services.process import EXIT_BAD_INPUT
from services.solver.telling import FIGURES as SOLVER_FIGURES

PIN = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}
AT_60 = f"flexfeeder/{FEEDER}/meter/60/Load_60"
STATUS = f"flexfeeder/service/solver-{FEEDER}/status"
CALLER = "00f067aa0ba902b7"
SERVER, CONSUMER, INTERNAL = 2, 5, 1
"""Kinds of spans, as OpenTelemetry counts them."""

Line = dict[str, Any]

# Over loopback, without TLS: to read all authorities takes longer than a request.
get = partial(httpx.get, trust_env=False, verify=False)


class Service:
    """A service's process, its log and its port for figures."""

    def __init__(self, name: str, env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.port = ports.free_port()
        self._env = env | {"FLEXFEEDER_METRICS_PORT": str(self.port)}
        self._log = folder / f"{name}-{self.port}.log"

    def __enter__(self) -> Self:
        own = {name: v for name, v in os.environ.items() if not name.startswith("FLEXFEEDER_")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                env=own | self._env,
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ends(self) -> int:
        """Ask it to stop; returns its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def lines(self, event: str, **having: object) -> list[Line]:
        """Lines of its log, whole ones only."""
        text = self._log.read_bytes()
        entries = [orjson.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        return [
            entry
            for entry in entries
            if entry["event"] == event and all(entry.get(key) == v for key, v in having.items())
        ]

    def line(self, event: str, **having: object) -> Line:
        """The one line that says so, once it is there."""
        what = f"{self.name}: {event} {having}"
        wait_until(lambda: bool(self.lines(event, **having)), what)
        [line] = self.lines(event, **having)
        return line

    def figures(self) -> list[Metric]:
        url = f"http://127.0.0.1:{self.port}/metrics"
        answer = get(url, timeout=PATIENCE_S)
        assert answer.status_code == 200
        return list(text_string_to_metric_families(answer.text))

    def figure(self, name: str, **labels: str) -> float | None:
        """The value of a figure; None where there is none with these labels."""
        found = [
            sample.value
            for metric in self.figures()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    def health(self) -> tuple[int, str]:
        """Status and text; (0, "") where nobody answers."""
        try:
            answer = get(f"http://127.0.0.1:{self.port}/healthz")
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text.strip()

    def is_well(self) -> bool:
        return self.health() == (200, "ok")


class Place:
    """A broker, a store and a folder for services."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.broker = Broker("embedded", self._folder)
        self._stack.callback(self.broker.kill)
        self.broker.start()
        self.store = self._stack.enter_context(Store(self._folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def service(self, name: str, **env: str) -> Service:
        """One more service, which ends with the place."""
        http_port = ports.free_port()
        settings = {
            "FLEXFEEDER_HTTP_PORT": str(http_port),
            "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
            "FLEXFEEDER_MQTT_PORT": str(self.broker.port),
            "FLEXFEEDER_REDIS_URL": self.store.url,
            "FLEXFEEDER_FEEDERS_DIR": str(FEEDERS),
            "FLEXFEEDER_RESULTS_DIR": str(self._folder / "results"),
            "FLEXFEEDER_LOG_FORMAT": "json",
            # The library's own, so that nobody waits for spans.
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        service = self._stack.enter_context(Service(name, settings | env, self._folder))
        self.url = f"http://127.0.0.1:{http_port}"
        return service


class Running:
    """All three services, whose traces go to a collector."""

    def __init__(self, place: Place, collector: Collector) -> None:
        self.collector = collector
        to_collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        self.solver = place.service("solver", **to_collector)
        self.manager = place.service("dfp_manager", **to_collector)
        self.gateway = place.service("gateway", **to_collector)
        self.port = place.broker.port
        self.url = place.url
        self.http = patience.client(place.url)

    @property
    def services(self) -> list[Service]:
        return [self.solver, self.manager, self.gateway]

    def is_ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def spans(self, trace_id: str, number: int) -> list[Span]:
        """The spans of a trace, once there are so many."""
        of_trace = self.collector.of_trace
        what = f"{number} spans of {trace_id}"
        wait_until(lambda: len(of_trace(trace_id)) >= number, what)
        return of_trace(trace_id)


@contextmanager
def placed(folder: Path) -> Iterator[Place]:
    with Place(folder) as place:
        yield place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with placed(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("observed")
    with Collector() as collector, placed(folder) as found:
        started = Running(found, collector)
        with started.http:
            wait_until(started.is_ready, "everything is there")
            yield started


def new_trace() -> tuple[str, dict[str, str]]:
    """A trace, and the headers of a request within it."""
    trace_id = uuid.uuid4().hex
    return trace_id, {"traceparent": f"00-{trace_id}-{CALLER}-01"}


class TestOneRequest:
    """Followed from HTTP through MQTT to the solve and back, by its id and by its trace."""

    def test_its_id_is_in_the_line_of_each_service(self, running: Running) -> None:
        before = len(running.gateway.lines("request", route="/modify_load_household"))
        state = results(running.http.post("/modify_load_household?feeder=ieee123", json=PIN))

        def told() -> list[Line]:
            return running.gateway.lines("request", route="/modify_load_household")[before:]

        wait_until(lambda: bool(told()), "it has its line")
        [request] = told()
        command = running.solver.line("command", request_id=request["request_id"])
        assert request["path"] == "/modify_load_household", "and not what it asks for"
        assert (request["method"], request["status"]) == ("POST", 200)
        assert request["version"] == command["version"] == state["version"]
        assert (command["command"], command["outcome"]) == ("set_load", "success")
        assert command["batch"] == 1
        parts_ms = [command[part] for part in ("waited_ms", "journal_ms", "cycle_ms")]
        assert min(parts_ms) > 0
        # The whole ends when all is told: whoever waits for the answer may be done before.
        assert sum(parts_ms) < min(command["total_ms"], request["ms"])

    def test_a_key_is_the_id_of_all_its_attempts(self, running: Running) -> None:
        key = str(uuid.uuid4())
        for _ in range(2):
            answer = running.http.post(
                "/modify_load_household", json=PIN, headers={"Idempotency-Key": key}
            )
            results(answer)
        for service, event in ((running.solver, "command"), (running.gateway, "request")):
            wait_until(
                lambda: len(service.lines(event, request_id=f"key:{key}")) == 2,  # noqa: B023
                f"both in the log of {service.name}",
            )

    def test_a_refusal_has_its_code_in_both(self, running: Running) -> None:
        body = {**PIN, "bus_name": "no_such_bus"}
        assert_refused(running.http.post("/modify_load_household", json=body), 404, "bus_not_found")
        request = running.gateway.line("request", error="bus_not_found")
        command = running.solver.line("command", request_id=request["request_id"])
        assert (request["status"], command["outcome"]) == (404, "bus_not_found")
        assert "no_such_bus" in command["problem"]

    def test_a_program_is_followed_through_the_manager_and_its_wait(self, running: Running) -> None:
        name = f"p_{uuid.uuid4().hex[:8]}"
        terms = {"name": name, "min_power_kw": 1.0, "target_pf": 0.9}
        results(running.http.post("/register_dfp", json=terms))
        results(running.http.post("/subscribe_dfp", json={"bus_name": "48", "dfp_name": name}))
        trace_id, headers = new_trace()
        report = results(
            running.http.post("/execute_dfp", json={"dfp_name": name}, headers=headers)
        )
        request = running.gateway.line("request", route="/execute_dfp")
        command = running.manager.line("command", request_id=request["request_id"])
        assert (command["command"], command["outcome"]) == ("execute", "success")
        assert (command["feeder"], command["version"]) == (FEEDER, report["version"])
        assert command["store_ms"] > 0
        assert command["solver_ms"] > 0
        self._is_traced(running, trace_id, "POST /execute_dfp", "execute", {"store", "solver"})
        shed_kw = report["total_shed_kw"]
        assert shed_kw > 0
        wait_until(
            lambda: running.manager.figure("flexfeeder_dfp_manager_shed_kw") == shed_kw,
            "the manager tells what is shed",
        )
        wait_until(
            lambda: (
                running.solver.figure("flexfeeder_solver_shed_kw")
                == pytest.approx(_held_kw(running))
            ),
            "so does the solver",
        )
        results(running.http.post("/stop_dfp", json={"dfp_name": name}))
        wait_until(
            lambda: running.solver.figure("flexfeeder_solver_shed_kw") == 0.0, "nothing is shed"
        )

    def test_its_trace_is_the_callers(self, running: Running) -> None:
        trace_id, headers = new_trace()
        results(running.http.post("/modify_load_household", json=PIN, headers=headers))
        name = "POST /modify_load_household"
        request, command = self._is_traced(
            running, trace_id, name, "set_load", {"journal", "solve"}
        )
        assert request.attributes["http.response.status_code"] == 200
        assert command.attributes["flexfeeder.outcome"] == "success"
        assert command.attributes["flexfeeder.batch_size"] == 1
        for same in ("flexfeeder.request_id", "flexfeeder.version"):
            assert request.attributes[same] == command.attributes[same]

    def test_a_read_is_traced_and_logged_with_the_version_of_its_state(
        self, running: Running
    ) -> None:
        trace_id, headers = new_trace()
        version = results(running.http.get("/get_state", headers=headers))["version"]
        [span] = running.spans(trace_id, 1)
        assert span.name == "GET /get_state"
        assert span.attributes["flexfeeder.version"] == version
        assert "flexfeeder.request_id" not in span.attributes

    def test_health_and_figures_are_no_news(self, running: Running) -> None:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert running.http.get(path).status_code == 200
            assert running.gateway.lines("request", path=path) == []

    @staticmethod
    def _is_traced(
        running: Running, trace_id: str, route: str, command: str, parts: set[str]
    ) -> tuple[Span, Span]:
        """Caller, gateway, service, parts: each is below the one before."""
        spans = {span.name: span for span in running.spans(trace_id, 2 + len(parts))}
        assert set(spans) == {route, command, *parts}
        request, carried_out = spans[route], spans[command]
        assert request.service == "flexfeeder-gateway"
        assert carried_out.service != request.service
        assert (request.kind, request.parent_id) == (SERVER, CALLER)
        assert (carried_out.kind, carried_out.parent_id) == (CONSUMER, request.span_id)
        for part in parts:
            span = spans[part]
            assert (span.kind, span.parent_id) == (INTERNAL, carried_out.span_id)
            assert carried_out.start <= span.start <= span.end <= carried_out.end
        return request, carried_out


def _held_kw(running: Running) -> float:
    """What the newest state says that is held back."""
    state = results(running.http.get("/get_state"))
    return float(sum(load["demand_kw"] - load["set_kw"] for load in loads(state).values()))


class TestFigures:
    def test_each_service_is_well(self, running: Running) -> None:
        for service in running.services:
            wait_until(service.is_well, f"{service.name} is well")

    def test_nothing_is_told_twice(self, running: Running) -> None:
        """By none of them, nor by the gateway at its own port, where it tells of the others too."""
        public = running.http.get("/metrics").text
        told = [service.figures() for service in running.services]
        for metrics in (*told, list(text_string_to_metric_families(public))):
            samples = [(s.name, tuple(s.labels.items())) for m in metrics for s in m.samples]
            assert len(set(samples)) == len(samples)
        assert "flexfeeder_gateway_requests_total{" in public
        assert f'flexfeeder_solver_fence{{instance="solver-{FEEDER}"' in public

    def test_commands_and_requests_count(self, running: Running) -> None:
        def counted() -> list[float]:
            of_solver = running.solver.figure(
                "flexfeeder_solver_commands_total", command="set_load", outcome="success"
            )
            of_gateway = running.gateway.figure(
                "flexfeeder_gateway_requests_total",
                method="POST",
                route="/modify_load_household",
                status="200",
            )
            return [of_solver or 0.0, of_gateway or 0.0]

        # An answer is there before it counts, and it has counted before it has its line.
        key = str(uuid.uuid4())
        headers = {"Idempotency-Key": key}
        results(running.http.post("/modify_load_household", json=PIN, headers=headers))
        for service, event in ((running.solver, "command"), (running.gateway, "request")):
            wait_until(
                lambda: bool(service.lines(event, request_id=f"key:{key}")),  # noqa: B023
                f"it is in the log of {service.name}",
            )
        before = counted()
        for _ in range(3):
            results(running.http.post("/modify_load_household", json=PIN))
        wait_until(lambda: counted() == [each + 3 for each in before], "three more")
        for name in ("cycle_seconds", "solve_seconds", "journal_append_seconds", "batch_commands"):
            assert (running.solver.figure(f"flexfeeder_solver_{name}_count") or 0) >= 3

    def test_a_route_is_its_template_and_anything_else_is_other(self, running: Running) -> None:
        for path in ("/buses/1", "/buses/2", "/no/such/path", "/nor/this"):
            running.http.get(path)
        routes = {
            sample.labels["route"]
            for metric in running.gateway.figures()
            for sample in metric.samples
            if sample.name == "flexfeeder_gateway_requests_total"
        }
        assert {"/buses/{bus}", "other"} <= routes
        assert not any("such" in route or "/1" in route for route in routes)

    def test_the_solver_tells_how_the_feeder_stands(self, running: Running) -> None:
        state = results(running.http.post("/modify_load_household", json={**PIN, "new_kw": 6.0}))
        figure = running.solver.figure

        def is_told() -> bool:
            return bool(figure("flexfeeder_solver_version") == state["version"])

        wait_until(is_told, "this state is told")
        power, profile = state["power_summary"], state["voltage_profile"]
        expected = {
            "load_kw": power["total_load_kw"],
            "generation_kw": power["total_generation_kw"],
            "losses_kw": power["total_losses_kw"],
            "source_kw": power["total_circuit_power_kw"],
            "min_voltage_pu": profile["min_voltage_pu"],
            "max_voltage_pu": profile["max_voltage_pu"],
            "voltage_violations": len(profile["violations"]),
            "converged": 1,
            "owner": 1,
            "store_away": 0,
        }
        told = {name: figure(f"flexfeeder_solver_{name}", feeder=FEEDER) for name in expected}
        assert told == pytest.approx(expected, abs=1e-3)

    def test_readings_count_by_what_became_of_them(self, running: Running) -> None:
        with MqttClient(running.port, protocol="5") as meter:
            meter.publish(AT_60, b'{"kw": 3.0}')
            meter.publish(AT_60, b'{"kw": "much"}')

        def told(outcome: str) -> float:
            name = "flexfeeder_solver_readings_total"
            return running.solver.figure(name, outcome=outcome) or 0.0

        wait_until(lambda: told("accepted") >= 1 and told("invalid") >= 1, "both are counted")
        name = "flexfeeder_solver_oldest_reading_seconds"
        wait_until(lambda: running.solver.figure(name) is not None, "there is a reading")
        age_s = running.solver.figure(name)
        assert age_s is not None
        assert 0 <= age_s < 60
        names = {metric.name for metric in running.solver.figures()}
        assert {figure.name for figure in SOLVER_FIGURES} <= names, "now all of them are told"

    def test_a_reading_of_a_clock_that_is_ahead_is_not_of_the_future(
        self, running: Running
    ) -> None:
        """Half a minute; the solver forgives as much."""
        at = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
        name = "flexfeeder_solver_oldest_reading_seconds"
        with MqttClient(running.port, protocol="5") as meter:
            meter.publish(AT_60, orjson.dumps({"kw": 3.0, "at": at}))
            wait_until(lambda: running.solver.figure(name) == 0.0, "it is of now")

    def test_a_gateway_tells_everything_that_it_looks_at(self, running: Running) -> None:
        names = {metric.name for metric in running.gateway.figures()}
        assert {figure.name for figure in GATEWAY_FIGURES} <= names

    def test_rubbish_makes_no_state_younger(self, running: Running) -> None:
        """Of a feeder that nobody serves; the same state once more does."""
        feeder = "unserved"
        state = {**results(running.http.get("/get_state")), "feeder": feeder}
        older = {**state, "version": state["version"] - 1}
        topic = f"flexfeeder/{feeder}/state"

        def age_s() -> float:
            name = "flexfeeder_gateway_state_age_seconds"
            age = running.gateway.figure(name, feeder=feeder)
            return -1.0 if age is None else age

        with MqttClient(running.port, protocol="5") as client:
            client.publish(topic, orjson.dumps(state))
            wait_until(lambda: age_s() >= 0, "the gateway has it")

            def is_older_however_much_comes() -> bool:
                client.publish(topic, b"no state")
                client.publish(topic, orjson.dumps(older))
                return age_s() > 2

            wait_until(is_older_however_much_comes, "nothing makes it younger")

            def is_younger() -> bool:
                client.publish(topic, orjson.dumps(state))
                return age_s() < 2

            wait_until(is_younger, "it has come again")

    def test_connections_that_are_closed_count(self, running: Running) -> None:
        def closed() -> float | None:
            name = "flexfeeder_gateway_connections_closed_total"
            return running.gateway.figure(name, reason="this is not HTTP")

        assert closed() == 0
        with socket.create_connection(("127.0.0.1", httpx.URL(running.url).port or 0)) as caller:
            caller.sendall(b"\x00")
            wait_until(lambda: closed() == 1, "it counts")


class TestHealth:
    def test_a_solver_whose_broker_is_away_says_so(self, place: Place) -> None:
        solver = place.service("solver")
        wait_until(solver.is_well, "it serves")
        place.broker.kill()
        wait_until(
            lambda: solver.health() == (503, "the broker is not connected"), "it says what is wrong"
        )
        place.broker.start()
        wait_until(solver.is_well, "it serves again")
        wait_until(
            lambda: solver.figure("flexfeeder_solver_reconnects_total", connection="commands") == 1,
            "it has connected once more",
        )

    def test_a_standby_is_well_without_a_broker(self, place: Place) -> None:
        owner = place.service("solver")
        wait_until(owner.is_well, "the owner serves")
        standby = place.service("solver")
        wait_until(lambda: bool(standby.lines("standby")), "it waits")
        wait_until(standby.is_well, "it is well")
        owns = standby.figure("flexfeeder_solver_owner")
        is_connected = standby.lines("broker_connected") != []
        # Where this machine had no time for the owner for a second, it has lost the feeder.
        has_lost = owner.ends() != 0
        assert has_lost == bool(owner.lines("starting_again"))
        assert has_lost or (owns == 0.0 and not is_connected)
        wait_until(
            lambda: standby.figure("flexfeeder_solver_owner") == 1.0,
            "it has taken over",
        )
        wait_until(standby.is_well, "it is well again")

    @pytest.mark.parametrize("name", ["solver", "dfp_manager", "gateway"])
    def test_a_port_that_is_taken_is_told_and_not_tried_again(
        self, place: Place, name: str
    ) -> None:
        taken = str(place.broker.port)
        service = place.service(name)
        service.process.kill()
        service.process.wait()
        service._env["FLEXFEEDER_METRICS_PORT"] = taken
        with service:
            assert service.process.wait(PATIENCE_S) == EXIT_BAD_INPUT
            assert service.line("metrics_not_served")["port"] == int(taken)


def test_a_collector_that_is_away_holds_nothing_up(place: Place) -> None:
    nowhere = f"http://127.0.0.1:{ports.free_port()}"
    solver = place.service("solver", OTEL_EXPORTER_OTLP_ENDPOINT=nowhere)
    wait_until(solver.is_well, "it serves")
    with MqttClient(place.broker.port, protocol="5") as client:
        client.subscribe(f"{client.reply_topic}/#")
        client.subscribe(STATUS)
        wait_until(lambda: bool(client.on(STATUS)), "it says that it is there")
        for number in range(200):
            envelope = {"request_id": f"r-{number}", "reply_to": client.reply_topic}
            client.publish(
                f"flexfeeder/{FEEDER}/command/set_load", orjson.dumps({**PIN, **envelope})
            )
        wait_until(lambda: len(client.on(client.reply_topic)) == 200, "all have their answers")
    solver.line("traces_not_sent")
    wait_until(lambda: len(solver.lines("command")) == 200, "each has its line")
    assert solver.ends() == 0
    assert len(solver.lines("traces_not_sent")) == 1
