"""The REST interface of a running system, on either broker."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support import (
    FEEDER,
    State,
    assert_refused,
    bus,
    demands,
    loads,
    results,
)

from flexfeeder.testing import System, wait_until
from schemas.state import State as StateModel

# Nominal demand and model by feeders/ieee123/loads.dss; bus 25r is the far side of a regulator.
LOAD_1 = ("1", "Load_1")  # 40 kW, 20 kvar, constant power
LOAD_5 = ("5", "Load_5")  # 20 kW, 10 kvar, constant current
LOAD_6 = ("6", "Load_6")  # 40 kW, 20 kvar, constant impedance
NEIGHBOURHOOD_1 = {"1", "2", "3", "4", "5", "6"}

PIN_1: dict[str, Any] = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}

WRITES: dict[str, dict[str, Any]] = {
    "/run_simulation": {},
    "/modify_load_neighbourhood": {"neighbourhood": 1, "factor": 0.8},
    "/modify_load_household": PIN_1,
    "/release_load": {"bus_name": "1", "load_name": "Load_1"},
}
READS = (
    "/get_state",
    "/feeders",
    "/buses/1",
    "/neighbourhoods",
    "/voltage_profile",
    "/violations",
    "/healthz",
    "/readyz",
)


def state_of(http: httpx.Client) -> State:
    state: State = results(http.get("/get_state"))
    return state


def state_with(http: httpx.Client, path: str) -> tuple[State, Any]:
    """A state, and a view of the same one: while a zone is over its rating others follow."""
    found: list[tuple[State, Any]] = []

    def are_of_one_version() -> bool:
        found.append((state_of(http), results(http.get(path))))
        state, view = found[-1]
        return bool(state["version"] == view["version"])

    wait_until(are_of_one_version, f"{path} and the state of one version")
    return found[-1]


def write(http: httpx.Client, path: str, body: dict[str, Any]) -> State:
    state: State = results(http.post(path, json=body))
    return state


def balance_kw(state: State) -> float:
    power = state["power_summary"]
    return float(
        power["total_circuit_power_kw"]
        + power["total_generation_kw"]
        - power["total_load_kw"]
        - power["total_losses_kw"]
    )


class TestState:
    def test_the_state_is_what_the_schema_says(self, http: httpx.Client) -> None:
        answer = json.dumps(state_of(http))
        assert StateModel.model_validate_json(answer).feeder == FEEDER

    def test_get_state_answers_from_memory_without_a_solve(self, http: httpx.Client) -> None:
        solved = write(http, "/run_simulation", {})
        assert state_of(http)["version"] == solved["version"]
        assert state_of(http)["solved_at"] == solved["solved_at"]

    @pytest.mark.parametrize("content", [b"", b"{}", b" { } "])
    def test_run_simulation_solves_now(self, http: httpx.Client, content: bytes) -> None:
        before = state_of(http)
        solved = results(http.post("/run_simulation", content=content))
        assert solved["version"] == before["version"] + 1
        assert solved["solved_at"] > before["solved_at"]
        assert demands(solved) == demands(before)

    def test_source_power_is_load_and_losses(self, http: httpx.Client) -> None:
        assert balance_kw(write(http, "/run_simulation", {})) == pytest.approx(0, abs=0.5)
        heavy = write(http, "/modify_load_neighbourhood", {"neighbourhood": 1, "factor": 3.0})
        assert balance_kw(heavy) == pytest.approx(0, abs=0.5)

    def test_what_a_bus_draws_is_the_sum_of_its_loads(self, http: httpx.Client) -> None:
        state = state_of(http)
        for details in state["bus_details"]:
            drawn = sum(load["kw"] for load in details["loads"])
            assert details["load_kw"] == pytest.approx(drawn, abs=1e-3)
            assert details["net_kw"] == details["load_kw"]
        total = sum(details["load_kw"] for details in state["bus_details"])
        assert total == pytest.approx(state["power_summary"]["total_load_kw"], abs=0.01)


class TestHousehold:
    def test_a_pinned_load_draws_what_it_is_pinned_to(self, http: httpx.Client) -> None:
        """Load 6 is a constant impedance by its model: pinned, it is constant power."""
        body = {"bus_name": "6", "load_name": "Load_6", "new_kw": 33.0, "new_kvar": 4.0}
        load = loads(write(http, "/modify_load_household", body))[LOAD_6]
        assert (load["demand_kw"], load["set_kw"], load["source"]) == (33.0, 33.0, "operator")
        assert load["kw"] == pytest.approx(33.0, abs=max(0.01, 0.001 * 33.0))
        assert load["kvar"] == pytest.approx(4.0, abs=0.01)

    def test_without_kvar_the_nominal_power_factor_is_kept(self, http: httpx.Client) -> None:
        """Load 1 has half as many kvar as kW."""
        body = {"bus_name": "1", "load_name": "Load_1", "new_kw": 30.0}
        load = loads(write(http, "/modify_load_household", body))[LOAD_1]
        assert load["kvar"] == pytest.approx(15.0, abs=0.02)

    def test_a_load_may_be_pinned_to_an_export_or_to_nothing(self, http: httpx.Client) -> None:
        for kw in (-25.0, 0.0):
            load = loads(write(http, "/modify_load_household", {**PIN_1, "new_kw": kw}))[LOAD_1]
            assert load["set_kw"] == kw
            assert load["kw"] == pytest.approx(kw, abs=0.025)

    def test_numbers_may_be_whole(self, http: httpx.Client) -> None:
        state = write(http, "/modify_load_household", {**PIN_1, "new_kw": 7, "new_kvar": 2})
        assert loads(state)[LOAD_1]["set_kw"] == 7.0

    def test_a_factor_scales_every_load_of_the_bus(self, http: httpx.Client) -> None:
        """Bus 65 has a load on each pair of phases: 35, 35 and 70 kW."""
        state = write(http, "/modify_load_household", {"bus_name": "65", "factor": 0.5})
        found = {load["name"]: load for load in bus(state, "65")["loads"]}
        assert {name: load["demand_kw"] for name, load in found.items()} == {
            "Load_65_a": 17.5,
            "Load_65_b": 17.5,
            "Load_65_c": 35.0,
        }
        assert {load["factor"] for load in found.values()} == {0.5}

    def test_a_factor_on_nominal_demand_keeps_the_model(self, http: httpx.Client) -> None:
        """Constant current draws with the voltage, constant impedance with its square."""
        write(http, "/modify_load_household", {"bus_name": "5", "factor": 0.9})
        state = write(http, "/modify_load_household", {"bus_name": "6", "factor": 0.9})
        v5, v6 = (bus(state, name)["phases"]["C"]["v_pu"] for name in "56")
        drawn = loads(state)
        assert (drawn[LOAD_5]["set_kw"], drawn[LOAD_6]["set_kw"]) == (18.0, 36.0)
        assert drawn[LOAD_5]["kw"] == pytest.approx(18.0 * v5, rel=1e-3)
        assert drawn[LOAD_6]["kw"] == pytest.approx(36.0 * v6**2, rel=1e-3)
        assert abs(v6 - 1.0) > 2e-3, "too near to nominal voltage to tell the models apart"

    def test_a_factor_applies_to_a_pin_and_pinning_again_resets_it(
        self, http: httpx.Client
    ) -> None:
        write(http, "/modify_load_household", PIN_1)
        state = write(http, "/modify_load_household", {"bus_name": "1", "factor": 0.5})
        assert loads(state)[LOAD_1]["set_kw"] == 2.5
        state = write(http, "/modify_load_household", PIN_1)
        assert (loads(state)[LOAD_1]["set_kw"], loads(state)[LOAD_1]["factor"]) == (5.0, 1.0)

    def test_names_are_compared_without_case(self, http: httpx.Client) -> None:
        state = write(http, "/modify_load_household", {**PIN_1, "load_name": "lOAD_1"})
        assert loads(state)[LOAD_1]["set_kw"] == 5.0
        assert results(http.get("/buses/25R"))["bus"] == "25r"


class TestRelease:
    @pytest.mark.parametrize(
        "body",
        [
            {"bus_name": "1", "load_name": "Load_1"},
            {"bus_name": "1"},
            {"bus_name": "1", "load_name": "LOAD_1"},
        ],
    )
    def test_releasing_restores_the_demand_to_the_last_digit(
        self, http: httpx.Client, body: dict[str, Any]
    ) -> None:
        before = demands(state_of(http))
        assert demands(write(http, "/modify_load_household", PIN_1)) != before
        assert demands(write(http, "/release_load", body)) == before

    def test_a_bus_alone_releases_all_of_its_loads(self, http: httpx.Client) -> None:
        before = demands(state_of(http))
        for name in ("Load_65_a", "Load_65_c"):
            body = {"bus_name": "65", "load_name": name, "new_kw": 1.0}
            write(http, "/modify_load_household", body)
        assert demands(write(http, "/release_load", {"bus_name": "65"})) == before

    def test_a_load_that_is_not_pinned_is_released_without_change(self, http: httpx.Client) -> None:
        before = demands(state_of(http))
        assert demands(write(http, "/release_load", {"bus_name": "1"})) == before


class TestNeighbourhoodFactor:
    def test_it_scales_every_load_of_the_neighbourhood_and_no_other(
        self, http: httpx.Client
    ) -> None:
        before = demands(state_of(http))
        body = {"neighbourhood": 1, "factor": 0.8}
        after = demands(write(http, "/modify_load_neighbourhood", body))
        for name, (kw, _, _, source) in before.items():
            inside = name[0] in NEIGHBOURHOOD_1
            expected = (kw * 0.8, kw * 0.8, 0.8, source) if inside else before[name]
            assert after[name] == expected

    def test_setting_it_again_replaces_it_and_one_restores(self, http: httpx.Client) -> None:
        before = demands(state_of(http))
        for factor in (0.8, 0.0, 10.0, 0.8, 1):
            body = {"neighbourhood": 1, "factor": factor}
            state = write(http, "/modify_load_neighbourhood", body)
            assert loads(state)[LOAD_1]["demand_kw"] == 40.0 * factor
        assert demands(state) == before


class TestReadYourWrites:
    def test_fifty_writers_at_once_each_see_their_own_value(self, http: httpx.Client) -> None:
        before = demands(state_of(http))
        written = {name: 1.0 + 0.1 * n for n, name in enumerate(sorted(before)[:50])}

        def pin(name: tuple[str, str]) -> State:
            body = {"bus_name": name[0], "load_name": name[1], "new_kw": written[name]}
            return write(http, "/modify_load_household", body)

        with ThreadPoolExecutor(50) as pool:
            answers = dict(zip(written, pool.map(pin, written), strict=True))
        for name, answer in answers.items():
            assert demands(answer)[name] == (written[name], written[name], 1.0, "operator")
            assert balance_kw(answer) == pytest.approx(0, abs=0.5)
        now = demands(state_of(http))
        assert {name: now[name][1] for name in written} == written

    def test_a_later_read_is_never_older_than_the_write(self, http: httpx.Client) -> None:
        for n in range(20):
            written = write(http, "/modify_load_household", {**PIN_1, "new_kw": float(n)})
            read = state_of(http)
            assert read["version"] >= written["version"]
            assert loads(read)[LOAD_1]["set_kw"] == n

    @pytest.mark.parametrize(("path", "body"), WRITES.items())
    def test_return_minimal_is_the_summary_and_the_buses_touched(
        self, http: httpx.Client, path: str, body: dict[str, Any]
    ) -> None:
        before = state_of(http)["version"]
        answer = results(http.post(path, json=body, headers={"Prefer": "return=minimal"}))
        assert set(answer) == {
            "version",
            "power_summary",
            "voltage_profile",
            "management_status",
            "bus_details",
        }
        assert answer["version"] > before
        touched = {
            "/run_simulation": set(),
            "/modify_load_neighbourhood": NEIGHBOURHOOD_1 - {"3"},  # bus 3 has no load
            "/modify_load_household": {"1"},
            "/release_load": {"1"},
        }
        assert {details["bus"] for details in answer["bus_details"]} == touched[path]


class TestViews:
    def test_the_gateway_is_alive_and_everything_is_ready(self, http: httpx.Client) -> None:
        assert results(http.get("/healthz")) == {"gateway": "alive"}
        checks = results(http.get("/readyz"))
        assert set(checks) == {"broker", "solver-ieee123", "dfp_manager", "store", "state"}
        assert set(checks.values()) == {"ok"}

    def test_the_documentation_names_every_route(self, http: httpx.Client) -> None:
        described = http.get("/openapi.json").json()["paths"]
        paths = {path.replace("/buses/1", "/buses/{bus}") for path in READS}
        assert paths | set(WRITES) <= set(described)
        page = http.get("/docs")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "openapi.json" in page.text

    def test_the_documented_examples_are_accepted(self, http: httpx.Client) -> None:
        described = http.get("/openapi.json").json()["paths"]
        for path in WRITES:
            content = described[path]["post"]["requestBody"]["content"]["application/json"]
            for example in content["examples"].values():
                results(http.post(path, json=example["value"]))

    def test_feeders(self, http: httpx.Client) -> None:
        state = state_of(http)
        [feeder] = results(http.get("/feeders"))
        assert feeder["feeder"] == FEEDER
        assert feeder["name"] == "IEEE 123-node test feeder"
        assert (feeder["solver"], feeder["converged"]) == ("online", True)
        assert feeder["buses"] == len(state["bus_details"])
        assert feeder["loads"] == len(loads(state)) == 91

    def test_a_bus_is_that_of_the_state_with_its_place(self, http: httpx.Client) -> None:
        state = state_of(http)
        found = results(http.get("/buses/1"))
        place = {name: found.pop(name) for name in ("x", "y", "distance_km", "version")}
        assert found == bus(state, "1")
        assert place["version"] == state["version"]
        assert place["distance_km"] > 0
        assert None not in place.values()

    def test_neighbourhoods_sum_what_their_buses_draw(self, http: httpx.Client) -> None:
        state = state_of(http)
        areas = results(http.get("/neighbourhoods"))
        assert [area["number"] for area in areas] == list(range(1, 17))
        for area in areas:
            drawn = sum(bus(state, name)["load_kw"] for name in area["buses"])
            assert area["load_kw"] == pytest.approx(drawn, abs=1e-3)
            apparent = (area["load_kw"] ** 2 + area["load_kvar"] ** 2) ** 0.5
            assert area["transformer"]["loading_kva"] == pytest.approx(apparent, abs=1e-2)
            assert area["min_voltage_pu"] <= area["max_voltage_pu"]
        assert set(areas[0]["buses"]) >= {"1", "3", "4", "6"}
        assert areas[0]["transformer"]["bus"] == "1"

    def test_the_voltage_profile_goes_from_the_source_outwards(self, http: httpx.Client) -> None:
        state = state_of(http)
        profile = results(http.get("/voltage_profile"))
        assert {"A", "B", "C"} <= set(profile["phases"])
        for points in profile["phases"].values():
            distances = [point["distance_km"] for point in points]
            assert distances == sorted(distances)
        voltages = {(p["bus"], p["v_pu"]) for p in profile["phases"]["A"]}
        assert ("1", bus(state, "1")["phases"]["A"]["v_pu"]) in voltages
        assert profile["phases"]["A"][0]["distance_km"] == 0.0
        assert {p["bus"] for ps in profile["phases"].values() for p in ps} <= {
            details["bus"] for details in state["bus_details"]
        }

    def test_violations_are_what_is_over_a_limit(self, http: httpx.Client) -> None:
        write(http, "/modify_load_neighbourhood", {"neighbourhood": 1, "factor": 4.0})
        state, found = state_with(http, "/violations")
        assert found["voltages"] == state["voltage_profile"]["violations"]
        over = [t for t in state["transformers"] if t["loading_percent"] > 100]
        assert found["transformers"] == over
        assert "neighbourhood_1" in [t["name"] for t in over]
        assert state["management_status"]["status"] == "ALERT"
        assert any(
            "neighbourhood_1" in line for line in state["management_status"]["management_log"]
        )


class TestFeeder:
    @pytest.mark.parametrize("name", ["ieee123", "IEEE123"])
    def test_it_may_be_named_in_query_and_body(self, http: httpx.Client, name: str) -> None:
        answer = http.post(f"/modify_load_household?feeder={name}", json={**PIN_1, "feeder": name})
        assert loads(results(answer))[LOAD_1]["set_kw"] == 5.0
        assert results(http.post("/run_simulation", json={"feeder": name}))["feeder"] == FEEDER
        assert results(http.get(f"/get_state?feeder={name}"))["feeder"] == FEEDER

    @pytest.mark.parametrize("path", WRITES)
    def test_a_write_to_an_unknown_one_is_refused(self, http: httpx.Client, path: str) -> None:
        in_query = http.post(f"{path}?feeder=ieee9", json=WRITES[path])
        assert_refused(in_query, 404, "feeder_not_found", "feeder")
        in_body = http.post(path, json={**WRITES[path], "feeder": "ieee9"})
        assert_refused(in_body, 404, "feeder_not_found", "feeder")

    @pytest.mark.parametrize(
        "path", ["/get_state", "/buses/1", "/neighbourhoods", "/voltage_profile", "/violations"]
    )
    def test_a_read_of_an_unknown_one_is_refused(self, http: httpx.Client, path: str) -> None:
        assert_refused(http.get(f"{path}?feeder=ieee9"), 404, "feeder_not_found", "feeder")

    def test_query_and_body_must_not_contradict_each_other(self, http: httpx.Client) -> None:
        answer = http.post("/run_simulation?feeder=ieee123", json={"feeder": "ieee13"})
        assert_refused(answer, 422, "invalid_value", "feeder")

    @pytest.mark.parametrize("name", ["", "a%20b", "a%2Fb", "%00", "%ff", "a" * 65, "%23"])
    def test_a_bad_name_is_refused(self, http: httpx.Client, name: str) -> None:
        answer = http.get(f"/get_state?feeder={name}")
        assert_refused(answer, 422, "invalid_value", "feeder")


HOUSEHOLD = "/modify_load_household"
NEIGHBOURHOOD = "/modify_load_neighbourhood"
RELEASE = "/release_load"

NO_JSON = {
    "nothing but a bracket": b"{",
    "words": b"not json",
    "no UTF-8": b"\xff\xfe\x00",
    "single quotes": b"{'bus_name': '1'}",
    "a comma too many": b'{"bus_name": "1",}',
    "something after it": b'{"bus_name": "1", "factor": 1.0} x',
    "cut off": b'{"bus_name": "1", "factor": 1.',
    "half a surrogate pair": b'{"bus_name": "\\ud800", "factor": 1.0}',
    "ten thousand brackets": b'{"bus_name": ' + b"[" * 10_000,
    "ten thousand levels": b'{"bus_name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "ten thousand objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}

INVALID = {
    "empty body": (HOUSEHOLD, b"", "bus_name"),
    "empty object": (HOUSEHOLD, b"{}", "load_name"),
    "empty release": (RELEASE, b"", "bus_name"),
    "empty neighbourhood": (NEIGHBOURHOOD, b"", "neighbourhood"),
    "a list": (HOUSEHOLD, b"[]", "message"),
    "null": (HOUSEHOLD, b"null", "message"),
    "a string": (RELEASE, b'"x"', "message"),
    "a number": (NEIGHBOURHOOD, b"1", "message"),
    "a list to run_simulation": ("/run_simulation", b"[]", "message"),
    "an unknown field to run_simulation": ("/run_simulation", b'{"now": true}', "now"),
    "kW as text": (HOUSEHOLD, {**PIN_1, "new_kw": "5"}, "new_kw"),
    "kW true": (HOUSEHOLD, {**PIN_1, "new_kw": True}, "new_kw"),
    "kW null": (HOUSEHOLD, {**PIN_1, "new_kw": None}, "new_kw"),
    "kW a list": (HOUSEHOLD, {**PIN_1, "new_kw": [5.0]}, "new_kw"),
    "kvar an object": (HOUSEHOLD, {**PIN_1, "new_kvar": {}}, "new_kvar"),
    "bus a number": (HOUSEHOLD, {**PIN_1, "bus_name": 1}, "bus_name"),
    "bus null": (HOUSEHOLD, {**PIN_1, "bus_name": None}, "bus_name"),
    "load a list": (HOUSEHOLD, {**PIN_1, "load_name": ["Load_1"]}, "load_name"),
    "neighbourhood as text": (NEIGHBOURHOOD, {"neighbourhood": "1", "factor": 1}, "neighbourhood"),
    "neighbourhood 1.5": (NEIGHBOURHOOD, {"neighbourhood": 1.5, "factor": 1}, "neighbourhood"),
    "neighbourhood true": (NEIGHBOURHOOD, {"neighbourhood": True, "factor": 1}, "neighbourhood"),
    "neighbourhood -1": (NEIGHBOURHOOD, {"neighbourhood": -1, "factor": 1}, "neighbourhood"),
    "feeder a number": ("/run_simulation", {"feeder": 7}, "feeder"),
    "an unknown field": (HOUSEHOLD, {**PIN_1, "kw": 5.0}, "kw"),
    "both forms at once": (HOUSEHOLD, {**PIN_1, "factor": 0.5}, "new_kw"),
    "factor missing": (NEIGHBOURHOOD, {"neighbourhood": 1}, "factor"),
    "factor -1": (NEIGHBOURHOOD, {"neighbourhood": 1, "factor": -1}, "factor"),
    "factor 11": (NEIGHBOURHOOD, {"neighbourhood": 1, "factor": 11}, "factor"),
    "bus factor -1": (HOUSEHOLD, {"bus_name": "1", "factor": -1}, "factor"),
    "bus factor 11": (HOUSEHOLD, {"bus_name": "1", "factor": 11}, "factor"),
    "100 kB of spaces": (HOUSEHOLD, b" " * 100_000 + b"{}", "body"),
}

NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e30", "-1e30", "1" + "0" * 400]

BAD_NAMES = {
    "a space": "Load 1",
    "a newline": "Load_1\nnew load.x",
    "a newline at the end": "Load_1\n",
    "a quote": 'Load_1"',
    "an apostrophe": "Load'1",
    "a dot": "1.1",
    "a slash": "Load/1",
    "a hash": "Load#1",
    "a plus": "Load+1",
    "NUL": "Load_1\0",
    "a letter of another alphabet": "Lоad_1",  # noqa: RUF001 - that is the point
    "65 characters": "a" * 65,
    "nothing": "",
}

UNKNOWN = {
    "bus to pin": (HOUSEHOLD, {**PIN_1, "bus_name": "9999"}, "bus_not_found", "bus_name"),
    "bus to scale": (
        HOUSEHOLD,
        {"bus_name": "nowhere", "factor": 1.0},
        "bus_not_found",
        "bus_name",
    ),
    "bus to release": (RELEASE, {"bus_name": "9999"}, "bus_not_found", "bus_name"),
    "load to pin": (HOUSEHOLD, {**PIN_1, "load_name": "Load_2"}, "load_not_found", "load_name"),
    "load to release": (
        RELEASE,
        {"bus_name": "1", "load_name": "x"},
        "load_not_found",
        "load_name",
    ),
    "load of a bus without": (
        HOUSEHOLD,
        {"bus_name": "149", "factor": 1.0},
        "load_not_found",
        "bus_name",
    ),
    "neighbourhood": (
        NEIGHBOURHOOD,
        {"neighbourhood": 99, "factor": 1.0},
        "neighbourhood_not_found",
        "neighbourhood",
    ),
}


class TestBadInput:
    """Refused with its reason; the demand stays as it was, and the service goes on."""

    @pytest.fixture(autouse=True)
    def _nothing_changes(self, http: httpx.Client) -> Iterator[None]:
        before = demands(write(http, HOUSEHOLD, PIN_1))
        yield
        assert demands(write(http, "/run_simulation", {})) == before

    @pytest.mark.parametrize("path", WRITES)
    @pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
    def test_what_is_no_json(self, http: httpx.Client, path: str, content: bytes) -> None:
        assert_refused(http.post(path, content=content), 400, "not_json")

    @pytest.mark.parametrize(("path", "body", "field"), INVALID.values(), ids=INVALID)
    def test_what_is_no_valid_body(
        self, http: httpx.Client, path: str, body: bytes | dict[str, Any], field: str
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert_refused(http.post(path, content=content), 422, "invalid_value", field)

    @pytest.mark.parametrize("number", NO_NUMBERS)
    @pytest.mark.parametrize("field", ["new_kw", "new_kvar"])
    def test_a_power_that_is_none(self, http: httpx.Client, field: str, number: str) -> None:
        content = json.dumps({**PIN_1, field: "?"}).replace('"?"', number)
        assert_refused(http.post(HOUSEHOLD, content=content), 422, "invalid_value", field)

    @pytest.mark.parametrize("number", NO_NUMBERS)
    def test_a_factor_that_is_none(self, http: httpx.Client, number: str) -> None:
        content = f'{{"neighbourhood": 1, "factor": {number}}}'
        assert_refused(http.post(NEIGHBOURHOOD, content=content), 422, "invalid_value", "factor")

    @pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
    @pytest.mark.parametrize("field", ["bus_name", "load_name"])
    def test_a_name_that_is_none(self, http: httpx.Client, field: str, name: str) -> None:
        answer = http.post(HOUSEHOLD, json={**PIN_1, field: name})
        assert_refused(answer, 422, "invalid_value", field)
        answer = http.post(RELEASE, json={**WRITES[RELEASE], field: name})
        assert_refused(answer, 422, "invalid_value", field)

    @pytest.mark.parametrize(("path", "body", "code", "field"), UNKNOWN.values(), ids=UNKNOWN)
    def test_what_there_is_not(
        self, http: httpx.Client, path: str, body: dict[str, Any], code: str, field: str
    ) -> None:
        assert_refused(http.post(path, json=body), 404, code, field)

    def test_a_bus_to_look_at_that_there_is_not(self, http: httpx.Client) -> None:
        assert_refused(http.get("/buses/9999"), 404, "bus_not_found", "bus")

    @pytest.mark.parametrize("name", ["a%20b", "%00", "%22", "1.1", "%1b", "a" * 200])
    def test_a_bus_to_look_at_whose_name_is_none(self, http: httpx.Client, name: str) -> None:
        assert_refused(http.get(f"/buses/{name}"), 422, "invalid_value", "bus")

    def test_all_problems_are_told_at_once(self, http: httpx.Client) -> None:
        answer = http.post(HOUSEHOLD, json={"bus_name": "a b", "load_name": 3, "new_kw": "x"})
        assert_refused(answer, 422, "invalid_value", "bus_name")
        fields = {detail["field"] for detail in answer.json()["details"]}
        assert fields == {"bus_name", "load_name", "new_kw"}

    @pytest.mark.parametrize("path", WRITES)
    @pytest.mark.parametrize("size", [(1 << 20) + 1, 2_000_000])
    def test_a_body_over_a_mebibyte(self, http: httpx.Client, path: str, size: int) -> None:
        assert_refused(http.post(path, content=b" " * size), 413, "too_large", "body")

    def test_a_body_over_a_mebibyte_that_does_not_say_its_length(self, http: httpx.Client) -> None:
        chunks = (b" " * 50_000 for _ in range(40))
        assert_refused(http.post(HOUSEHOLD, content=chunks), 413, "too_large", "body")

    def test_an_unknown_path(self, http: httpx.Client) -> None:
        assert_refused(http.get("/"), 404, "not_found")
        assert_refused(http.post("/modify_load", json=PIN_1), 404, "not_found")
        assert_refused(http.get("/buses/a%2Fb"), 404, "not_found")

    @pytest.mark.parametrize("path", WRITES)
    def test_a_write_by_another_method(self, http: httpx.Client, path: str) -> None:
        assert_refused(http.get(path), 405, "method_not_allowed")
        assert_refused(http.put(path, json=WRITES[path]), 405, "method_not_allowed")

    @pytest.mark.parametrize("path", READS)
    def test_a_read_by_another_method(self, http: httpx.Client, path: str) -> None:
        assert_refused(http.post(path, json={}), 405, "method_not_allowed")
        assert_refused(http.delete(path), 405, "method_not_allowed")

    @pytest.mark.parametrize(
        "junk",
        [
            b"\x00\xff" * 500 + b"\r\n\r\n",
            b"POST /run_simulation HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /run_simulation HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
        ],
        ids=["binary", "negative length", "no such protocol", "gone before the end"],
    )
    def test_what_is_no_http(self, running: System, http: httpx.Client, junk: bytes) -> None:
        with socket.create_connection((running.http_host, running.http_port), timeout=20) as raw:
            raw.sendall(junk)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
        assert results(http.get("/healthz")) == {"gateway": "alive"}
