"""The table of the REST interface, from its first row to its last on a system that knows nothing
yet: each documented body as it is written, on either broker.
"""

import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import patience
import pytest
from support import FEEDER, FEEDERS, State, assert_refused, bus, loads, results

from flexfeeder.testing import MOSQUITTO, System, system
from schemas.programs import ExecutionReport, Program
from schemas.state import State as StateModel

BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    ),
]
REPLAY = Path(__file__).resolve().parents[2] / "docs" / "replay.sh"
CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

# Nominal demand by feeders/ieee123/loads.dss: 40 kW and 20 kvar, constant power.
LOAD_1 = ("1", "Load_1")

NEIGHBOURHOOD = '{"neighbourhood": 1, "factor": 0.8}'
PIN = '{"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}'
FACTOR = '{"bus_name": "1", "factor": 0.9}'
RELEASE = '{"bus_name": "1", "load_name": "Load_1"}'
RELEASE_BUS = '{"bus_name": "1"}'
GENERATOR = (
    '{"bus_name": "1", "kv": 0.48, "kw": 50.0, "kvar": 10.0, "model": 1,'
    ' "vmin_pu": 0.9, "vmax_pu": 1.1}'
)
GENERATOR_SHORT = '{"bus_name": "1", "kw": 100, "phases": 3}'
GENERATOR_NAMED = '{"bus_name": "1", "kw": 8, "pf": 0.8, "phase": "B", "generator_name": "PV_1"}'
DEVICE = '{"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.2, "kvar": 1.4, "pf": 0.98}'
DEVICE_SHORT = '{"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.5, "phases": 1}'
DEVICE_GONE = '{"bus_name": "1", "device_name": "EV_Charger_1"}'
REGISTER = '{"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95}'
UPDATE = '{"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98}'
BY_NUMBER = '{"bus_name": "1", "dfp_number": 1}'
BY_NAME = '{"bus_name": "1", "dfp_name": "peak_shaving"}'
RUN = '{"dfp_name": "peak_shaving"}'
NAME = '{"name": "peak_shaving"}'

ADD_AND_REMOVE = [
    ("/add_device", DEVICE, "/disconnect_device", DEVICE_GONE),
    ("/add_generator", GENERATOR_NAMED, "/remove_generator", '{"generator_name": "PV_1"}'),
]
"""Path and body that add something, and that remove it again."""

PROGRAM_FIELDS = {
    "name",
    "number",
    "description",
    "min_power_kw",
    "target_pf",
    "registered_at",
    "subscriptions",
    "executing",
    "executions",
}
SUMMARY_FIELDS = {
    "version",
    "power_summary",
    "voltage_profile",
    "management_status",
    "bus_details",
}


class Walk(NamedTuple):
    """A system, and what it has answered, by row of the table."""

    running: System
    answers: dict[str, httpx.Response]

    def results(self, row: str) -> Any:
        return results(self.answers[row])

    def state(self, row: str) -> State:
        """The state that a write was answered with, which is one by its schema."""
        found = self.results(row)
        found.pop("generator_name", None)
        StateModel.model_validate_json(orjson.dumps(found))
        state: State = found
        return state

    def message(self, row: str) -> str:
        self.results(row)
        return str(self.answers[row].json()["message"])


def walk(running: System) -> dict[str, httpx.Response]:
    """Every row of the table, in its order; what follows a row in brackets is another form."""
    answers: dict[str, httpx.Response] = {}

    with patience.client(running.url) as http:

        def ask(row: str, method: str, path: str, body: str | None = None) -> httpx.Response:
            answer = answers[row] = http.request(method, path, content=body)
            return answer

        def remove(row: str, added: httpx.Response) -> None:
            name = results(added)["generator_name"]
            ask(row, "POST", "/remove_generator", f'{{"generator_name": "{name}"}}')

        ask("run_simulation", "POST", "/run_simulation")
        ask("run_simulation {}", "POST", "/run_simulation", "{}")
        ask("get_state", "GET", "/get_state")
        ask("neighbourhood", "POST", "/modify_load_neighbourhood", NEIGHBOURHOOD)
        ask("pin", "POST", "/modify_load_household", PIN)
        ask("factor", "POST", "/modify_load_household", FACTOR)
        ask("release", "POST", "/release_load", RELEASE)
        ask("release bus", "POST", "/release_load", RELEASE_BUS)
        in_full = ask("generator", "POST", "/add_generator", GENERATOR)
        in_short = ask("generator short", "POST", "/add_generator", GENERATOR_SHORT)
        named = ask("generator named", "POST", "/add_generator", GENERATOR_NAMED)
        remove("remove", in_full)
        remove("remove short", in_short)
        remove("remove named", named)
        ask("device", "POST", "/add_device", DEVICE)
        ask("device taken", "POST", "/add_device", DEVICE_SHORT)
        ask("disconnect", "POST", "/disconnect_device", DEVICE_GONE)
        ask("device short", "POST", "/add_device", DEVICE_SHORT)
        ask("disconnect short", "POST", "/disconnect_device", DEVICE_GONE)
        ask("register", "POST", "/register_dfp", REGISTER)
        ask("update", "PUT", "/update_dfp", UPDATE)
        ask("subscribe", "POST", "/subscribe_dfp", BY_NUMBER)
        ask("subscribe by name", "POST", "/subscribe_dfp", BY_NAME)
        ask("unsubscribe", "POST", "/unsubscribe_dfp", BY_NUMBER)
        ask("unsubscribe by name", "POST", "/unsubscribe_dfp", BY_NAME)
        ask("execute nobody", "POST", "/execute_dfp", RUN)
        ask("stop nobody", "POST", "/stop_dfp", RUN)
        results(http.post("/subscribe_dfp", content=BY_NAME))
        ask("execute", "POST", "/execute_dfp", RUN)
        ask("state executing", "GET", "/get_state")
        ask("dfp executing", "GET", "/dfps/peak_shaving")
        ask("stop", "POST", "/stop_dfp", RUN)
        ask("state stopped", "GET", "/get_state")
        ask("delete", "DELETE", "/delete_dfp", NAME)
        ask("dfp deleted", "GET", "/dfps/peak_shaving")
        ask("register again", "POST", "/register_dfp", REGISTER)
        ask("dfps", "GET", "/dfps")
        ask("dfp", "GET", "/dfps/peak_shaving")
        results(http.request("DELETE", "/delete_dfp", content=NAME))
        for view in ("feeders", "buses/1", "neighbourhoods", "transformers", "violations"):
            ask(view, "GET", f"/{view}")
        ask("voltage_profile", "GET", "/voltage_profile")
        for page in ("healthz", "readyz", "metrics", "docs"):
            ask(page, "GET", f"/{page}")
    return answers


@pytest.fixture(scope="module", params=BROKERS)
def walked(request: pytest.FixtureRequest) -> Iterator[Walk]:
    """The whole table, asked once of a fresh system."""
    with system(on_mosquitto=request.param == "mosquitto", feeders_dir=FEEDERS) as running:
        yield Walk(running, walk(running))


@pytest.fixture(scope="module")
def replayed(walked: Walk) -> "subprocess.CompletedProcess[str]":
    """The whole of docs/replay.sh, once."""
    return replay(walked.running)


@pytest.fixture
def http(walked: Walk) -> Iterator[httpx.Client]:
    with patience.client(walked.running.url) as client:
        yield client


class TestState:
    def test_run_simulation_solves_with_a_body_or_without(self, walked: Walk) -> None:
        first, second = (walked.state(f"run_simulation{body}") for body in ("", " {}"))
        assert first["converged"]
        assert second["version"] == first["version"] + 1

    def test_get_state_is_the_newest_without_a_solve(self, walked: Walk) -> None:
        assert walked.state("get_state") == walked.state("run_simulation {}")

    def test_everything_was_well_to_begin_with(self, walked: Walk) -> None:
        state = walked.state("run_simulation")
        assert state["feeder"] == FEEDER
        assert state["management_status"] == {"status": "OK", "management_log": []}
        assert state["adjustments"] == {"revision": 0, "programs": []}
        assert {load["source"] for load in loads(state).values()} == {"nominal"}


class TestLoads:
    """40 kW; 32 with the neighbourhood's 0.8; pinned to 5, which forgets the factor; 4.5 with the
    bus's 0.9; 36 once released, since the factor stays.
    """

    @pytest.mark.parametrize(
        ("row", "kw", "factor", "source"),
        [
            ("neighbourhood", 32.0, 0.8, "nominal"),
            ("pin", 5.0, 1.0, "operator"),
            ("factor", 4.5, 0.9, "operator"),
            ("release", 36.0, 0.9, "nominal"),
            ("release bus", 36.0, 0.9, "nominal"),
        ],
    )
    def test_the_answer_is_the_state_with_the_write_in_it(
        self, walked: Walk, row: str, kw: float, factor: float, source: str
    ) -> None:
        load = loads(walked.state(row))[LOAD_1]
        assert (load["demand_kw"], load["set_kw"], load["factor"]) == (kw, kw, factor)
        assert load["kw"] == pytest.approx(kw, abs=max(0.01, 0.001 * kw))
        assert load["source"] == source

    def test_a_pin_has_its_kvar(self, walked: Walk) -> None:
        assert loads(walked.state("pin"))[LOAD_1]["kvar"] == pytest.approx(1.0, abs=0.01)

    def test_the_neighbourhood_is_all_of_it(self, walked: Walk) -> None:
        state = walked.state("neighbourhood")
        scaled = {name for name, load in loads(state).items() if load["factor"] == 0.8}
        [area] = [a for a in walked.results("neighbourhoods") if a["number"] == 1]
        assert {bus_name for bus_name, _ in scaled} <= set(area["buses"])
        assert len(scaled) == area["loads"]


class TestGenerators:
    def test_fifty_kw_at_480_volts_are_fifty_kw_at_the_bus(self, walked: Walk) -> None:
        """Put straight onto the 4.16 kV bus they would be 3.2 MW."""
        at = bus(walked.state("generator"), "1")
        assert at["gen_kw"] == pytest.approx(50.0, abs=0.05)
        [generator] = at["generators"]
        assert (generator["set_kw"], generator["held_by"]) == (50.0, [])
        assert generator["kvar"] == pytest.approx(10.0, abs=0.05)
        assert at["net_kw"] == pytest.approx(at["load_kw"] - 50.0, abs=0.05)

    def test_the_low_voltage_bus_of_its_transformer_is_not_shown(self, walked: Walk) -> None:
        before, after = walked.state("release bus"), walked.state("generator")
        names = [details["bus"] for details in before["bus_details"]]
        assert [details["bus"] for details in after["bus_details"]] == names
        assert after["voltage_profile"]["min_voltage_pu"] > 0.9

    def test_the_short_form_generates_too(self, walked: Walk) -> None:
        at = bus(walked.state("generator short"), "1")
        assert at["gen_kw"] == pytest.approx(150.0, abs=0.1)
        assert at["generators"][1]["kvar"] == pytest.approx(0.0, abs=0.05)

    def test_a_power_factor_and_a_phase_may_be_given(self, walked: Walk) -> None:
        """8 kW at 0.8 are 6 kvar."""
        generator = bus(walked.state("generator named"), "1")["generators"][2]
        assert generator["name"] == "PV_1"
        assert generator["kw"] == pytest.approx(8.0, abs=0.01)
        assert generator["kvar"] == pytest.approx(6.0, abs=0.01)

    def test_the_source_delivers_what_is_not_generated(self, walked: Walk) -> None:
        power = walked.state("generator short")["power_summary"]
        assert power["total_generation_kw"] == pytest.approx(150.0, abs=0.1)
        into = power["total_circuit_power_kw"] + power["total_generation_kw"]
        out = power["total_load_kw"] + power["total_losses_kw"]
        assert into == pytest.approx(out, abs=0.5)

    def test_each_name_is_told_and_is_of_one_generator(self, walked: Walk) -> None:
        rows = ("generator", "generator short", "generator named")
        names = [walked.results(row)["generator_name"] for row in rows]
        assert names[2] == "PV_1"
        assert len(set(names)) == 3
        shown = bus(walked.state("generator named"), "1")["generators"]
        assert [generator["name"] for generator in shown] == names

    def test_each_is_removed_by_the_name_that_was_told(self, walked: Walk) -> None:
        for row, left in (("remove", 2), ("remove short", 1), ("remove named", 0)):
            assert len(bus(walked.state(row), "1")["generators"]) == left
        at = bus(walked.state("remove named"), "1")
        assert at["gen_kw"] == 0.0
        assert walked.state("remove named")["power_summary"]["total_generation_kw"] == 0.0


class TestDevices:
    def test_a_device_is_among_the_devices_and_its_kvar_wins(self, walked: Walk) -> None:
        """At a power factor of 0.98 it would be 1.46 kvar."""
        at = bus(walked.state("device"), "1")
        [device] = at["devices"]
        assert device["name"] == "EV_Charger_1"
        assert (device["demand_kw"], device["set_kw"]) == (7.2, 7.2)
        assert device["kw"] == pytest.approx(7.2, abs=0.01)
        assert device["kvar"] == pytest.approx(1.4, abs=0.01)
        assert at["load_kw"] == pytest.approx(36.0 + 7.2, abs=0.05)
        assert [load["name"] for load in at["loads"]] == ["Load_1"]

    def test_its_name_is_taken_as_long_as_it_is_there(self, walked: Walk) -> None:
        assert_refused(walked.answers["device taken"], 409, "already_exists", "device_name")

    def test_disconnected_it_is_gone(self, walked: Walk) -> None:
        for row in ("disconnect", "disconnect short"):
            at = bus(walked.state(row), "1")
            assert at["devices"] == []
            assert at["load_kw"] == pytest.approx(36.0, abs=0.05)

    def test_the_short_form_draws_too(self, walked: Walk) -> None:
        [device] = bus(walked.state("device short"), "1")["devices"]
        assert device["kw"] == pytest.approx(7.5, abs=0.01)
        assert device["kvar"] == pytest.approx(0.0, abs=0.01)


class TestPrograms:
    def test_a_program_has_the_fields_of_the_contract(self, walked: Walk) -> None:
        for row in ("register", "update", "subscribe", "dfp executing", "dfp", "register again"):
            found = walked.results(row)
            assert set(found) == PROGRAM_FIELDS
            Program.model_validate_json(orjson.dumps(found))
        for found in walked.results("dfps"):
            assert set(found) == PROGRAM_FIELDS

    def test_the_first_is_number_one(self, walked: Walk) -> None:
        found = walked.results("register")
        assert (found["number"], found["name"], found["description"]) == (1, "peak_shaving", "")
        assert (found["min_power_kw"], found["target_pf"]) == (100.0, 0.95)
        assert (found["subscriptions"], found["executing"], found["executions"]) == ([], False, [])

    def test_an_update_changes_its_terms_only(self, walked: Walk) -> None:
        changed = {"min_power_kw": 120.0, "target_pf": 0.98}
        assert walked.results("update") == {**walked.results("register"), **changed}

    def test_subscribing_again_is_a_success_without_change(self, walked: Walk) -> None:
        assert walked.results("subscribe")["subscriptions"] == ["1"]
        assert walked.results("subscribe by name") == walked.results("subscribe")

    def test_unsubscribed_it_has_nobody(self, walked: Walk) -> None:
        assert walked.results("unsubscribe")["subscriptions"] == []
        assert walked.results("unsubscribe by name") == walked.results("unsubscribe")

    def test_an_execution_with_nobody_subscribed_is_a_success_that_says_so(
        self, walked: Walk
    ) -> None:
        report = walked.results("execute nobody")
        assert (report["total_shed_kw"], report["buses"]) == (0.0, [])
        assert "nobody subscribed" in walked.message("execute nobody")
        assert not walked.results("stop nobody")["executing"]

    def test_an_execution_reports_each_bus_before_and_after(self, walked: Walk) -> None:
        """36 kW and 18 kvar are below 120 kW; a power factor of 0.98 leaves 7.31 kvar."""
        found = walked.results("execute")
        report = ExecutionReport.model_validate_json(orjson.dumps(found))
        assert (report.name, report.number) == ("peak_shaving", 1)
        assert report.total_shed_kw == pytest.approx(0.0, abs=0.04)
        [outcome] = report.buses
        assert outcome.bus == "1"
        assert outcome.left_alone is None
        assert outcome.before.kw == pytest.approx(36.0, abs=0.04)
        assert outcome.before.kvar == pytest.approx(18.0, abs=0.04)
        assert outcome.before.pf == pytest.approx(0.8944, abs=1e-3)
        assert outcome.after.kw == pytest.approx(36.0, abs=0.04)
        assert outcome.after.kvar == pytest.approx(36.0 * math.tan(math.acos(0.98)), abs=0.02)
        assert outcome.after.pf == pytest.approx(0.98, abs=1e-4)

    def test_the_state_read_next_was_solved_with_it(self, walked: Walk) -> None:
        state = walked.state("state executing")
        revision = walked.results("execute")["revision"]
        assert state["adjustments"] == {"revision": revision, "programs": ["peak_shaving"]}
        assert bus(state, "1")["dfps"] == ["peak_shaving"]
        assert loads(state)[LOAD_1]["held_by"] == ["peak_shaving"]

    def test_stopped_it_holds_nobody(self, walked: Walk) -> None:
        state = walked.state("state stopped")
        assert state["adjustments"]["programs"] == []
        before = loads(walked.state("disconnect short"))
        assert {n: (d["demand_kw"], d["set_kw"]) for n, d in loads(state).items()} == {
            n: (d["demand_kw"], d["set_kw"]) for n, d in before.items()
        }
        assert all(load["held_by"] == [] for load in loads(state).values())

    def test_both_runs_are_remembered(self, walked: Walk) -> None:
        nobody, executing = walked.results("dfp executing")["executions"]
        assert nobody["stopped_at"] is not None
        assert (nobody["buses"], executing["buses"]) == (0, 1)
        assert executing["stopped_at"] is None
        assert executing["revision"] == walked.results("execute")["revision"]
        assert walked.results("stop")["executions"][1]["stopped_at"] is not None

    def test_deleted_it_is_gone_and_its_number_is_not_used_again(self, walked: Walk) -> None:
        gone = walked.results("delete")
        assert (gone["name"], gone["number"]) == ("peak_shaving", 1)
        assert_refused(walked.answers["dfp deleted"], 404, "program_not_found")
        assert walked.results("register again")["number"] == 2

    def test_list_get_and_register_say_the_same(self, walked: Walk) -> None:
        assert walked.results("dfps") == [walked.results("dfp")]
        assert walked.results("dfp") == walked.results("register again")


class TestViews:
    def test_the_feeder_is_there(self, walked: Walk) -> None:
        [feeder] = walked.results("feeders")
        assert (feeder["feeder"], feeder["solver"], feeder["status"]) == (FEEDER, "online", "OK")

    def test_a_bus_is_that_of_the_state(self, walked: Walk) -> None:
        shown = bus(walked.state("state stopped"), "1")
        found = walked.results("buses/1")
        assert {name: found[name] for name in shown} == shown

    def test_each_neighbourhood_has_its_transformer(self, walked: Walk) -> None:
        areas = walked.results("neighbourhoods")
        assert set(areas[0]["buses"]) >= {"1", "3", "4", "6"}
        assert areas[0]["transformer"]["bus"] == "1"
        assert set(areas[1]["buses"]) >= {"24", "25", "26", "27"}
        assert areas[1]["transformer"]["bus"] == "24"

    def test_transformers_are_those_of_the_state_with_whom_they_serve(self, walked: Walk) -> None:
        shown = walked.state("state stopped")["transformers"]
        found = walked.results("transformers")
        assert [{n: t[n] for n in shown[0]} for t in found] == shown
        assert found[0]["buses"] == walked.results("neighbourhoods")[0]["buses"]
        assert all(transformer["holds"] == [] for transformer in found)

    def test_nothing_is_violated(self, walked: Walk) -> None:
        found = walked.results("violations")
        assert (found["voltages"], found["transformers"], found["not_following"]) == ([], [], [])

    def test_the_profile_is_voltage_against_distance_by_phase(self, walked: Walk) -> None:
        phases = walked.results("voltage_profile")["phases"]
        assert set(phases) >= {"A", "B", "C"}
        for points in phases.values():
            distances = [point["distance_km"] for point in points]
            assert distances == sorted(distances)
            assert all(0.9 < point["v_pu"] < 1.1 for point in points)


class TestPages:
    def test_it_is_alive_and_ready_by_name(self, walked: Walk) -> None:
        assert walked.results("healthz") == {"gateway": "alive"}
        ready = walked.results("readyz")
        assert {"broker", f"solver-{FEEDER}", "dfp_manager"} <= set(ready)
        assert set(ready.values()) == {"ok"}

    def test_the_figures_are_for_prometheus(self, walked: Walk) -> None:
        answer = walked.answers["metrics"]
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "flexfeeder_broker_connected 1\n" in answer.text
        for line in answer.text.splitlines():
            if not line.startswith("#"):
                assert math.isfinite(float(line.rpartition(" ")[2])), line

    def test_the_documentation_is_a_page(self, walked: Walk) -> None:
        answer = walked.answers["docs"]
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")

    def test_the_first_event_is_the_newest_state(self, walked: Walk, http: httpx.Client) -> None:
        state = results(http.get("/get_state"))
        with http.stream("GET", "/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            first = dict(next(lines).split(": ", 1) for _ in range(3))
        assert first["event"] == "state"
        assert first["id"] == str(state["version"])
        assert orjson.loads(first["data"]) == state


class TestForms:
    """What holds for any write, tried on those about equipment and programs."""

    @pytest.mark.parametrize(("add", "body", "remove", "gone"), ADD_AND_REMOVE)
    def test_return_minimal_is_the_summary_and_the_bus(
        self, http: httpx.Client, add: str, body: str, remove: str, gone: str
    ) -> None:
        for path, content in ((add, body), (remove, gone)):
            answer = http.post(path, content=content, headers={"Prefer": "return=minimal"})
            found = results(answer)
            assert set(found) - {"generator_name"} == SUMMARY_FIELDS
            assert [details["bus"] for details in found["bus_details"]] == ["1"]

    @pytest.mark.parametrize(("add", "body", "remove", "gone"), ADD_AND_REMOVE)
    def test_the_feeder_may_be_named_in_query_or_body(
        self, http: httpx.Client, add: str, body: str, remove: str, gone: str
    ) -> None:
        assert results(http.post(f"{add}?feeder=IEEE123", content=body))["feeder"] == FEEDER
        in_body = {**orjson.loads(gone), "feeder": "ieee123"}
        assert results(http.post(remove, json=in_body))["feeder"] == FEEDER

    def test_a_program_may_be_registered_for_a_feeder_by_name(self, http: httpx.Client) -> None:
        made = results(http.post("/register_dfp?feeder=IEEE123", content=REGISTER))
        assert results(http.get("/dfps?feeder=ieee123")) == [made]
        body = {"name": "peak_shaving", "feeder": "Ieee123"}
        results(http.request("DELETE", "/delete_dfp", json=body))
        assert results(http.get("/dfps")) == []


@CURL
class TestReplay:
    def test_it_runs_through(self, replayed: "subprocess.CompletedProcess[str]") -> None:
        assert (replayed.returncode, replayed.stderr) == (0, "")

    def test_it_asks_every_route(
        self, walked: Walk, replayed: "subprocess.CompletedProcess[str]"
    ) -> None:
        called = {
            tuple(line.split()[:2])
            for line in replayed.stdout.splitlines()
            if line.startswith(("GET ", "POST ", "PUT ", "DELETE "))
        }
        described = patience.get(f"{walked.running.url}/openapi.json").json()["paths"]
        documented = {
            (method.upper(), path.replace("{bus}", "1").replace("{name}", "peak_shaving"))
            for path, methods in described.items()
            for method in methods
        }
        assert documented - called == set()

    def test_it_may_be_run_again_and_leaves_nothing(
        self, http: httpx.Client, walked: Walk, replayed: "subprocess.CompletedProcess[str]"
    ) -> None:
        assert replay(walked.running).returncode == 0
        assert results(http.get("/dfps")) == []
        at = bus(results(http.get("/get_state")), "1")
        assert (at["devices"], at["generators"]) == ([], [])

    def test_it_ends_with_an_error_at_the_first_that_is_refused(
        self, http: httpx.Client, walked: Walk
    ) -> None:
        results(http.post("/add_device", content=DEVICE))
        ended = replay(walked.running)
        results(http.post("/disconnect_device", content=DEVICE_GONE))
        assert ended.returncode != 0
        assert "already_exists" in ended.stderr
        assert ended.stdout.splitlines()[-2].startswith("POST /add_device ")


def replay(running: System) -> "subprocess.CompletedProcess[str]":
    """Run docs/replay.sh against a system."""
    return subprocess.run(
        ["bash", str(REPLAY), running.url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
