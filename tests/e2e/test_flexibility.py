"""Demand flexibility programs from a request to what devices draw, on whole systems."""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import patience
import pytest
from support import (
    FEEDER,
    FEEDERS,
    LoadName,
    MqttClient,
    State,
    bus,
    demands,
    loads,
    results,
)

from flexfeeder.testing import STOPS_WITHIN_S, System, system, wait_until
from schemas.programs import Adjustments

# Nominal demand and model by feeders/ieee123/loads.dss.
LOAD_1 = ("1", "Load_1")  # 40 kW, 20 kvar, constant power
LOAD_48 = ("48", "Load_48")  # 210 kW, 150 kvar, constant impedance
LARGE = {"47": 105.0, "48": 210.0, "49": 140.0, "65": 140.0, "76": 245.0}
"""Buses with large loads, and what they demand together in kW."""

ADJUSTMENTS = f"flexfeeder/{FEEDER}/adjustments"
METER = f"flexfeeder/{FEEDER}/meter"
STATUS = "flexfeeder/service/{}/status"

Json = dict[str, Any]


class Operator:
    """Somebody who runs programs over REST, and looks at what they do."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def post(self, path: str, **body: Any) -> Any:
        return results(self.http.post(path, json=body))

    def state(self) -> State:
        state: State = results(self.http.get("/get_state"))
        return state

    def load(self, name: LoadName) -> Json:
        return loads(self.state())[name]

    def devices(self, bus_name: str) -> dict[str, Json]:
        return {device["name"]: device for device in bus(self.state(), bus_name)["devices"]}

    def programs(self) -> list[Json]:
        found: list[Json] = results(self.http.get("/dfps"))
        return found

    def register(self, name: str, kw: float, pf: float, *buses: str) -> Json:
        """A new program, to which these buses are subscribed."""
        made: Json = self.post("/register_dfp", name=name, min_power_kw=kw, target_pf=pf)
        for each in buses:
            made = self.post("/subscribe_dfp", bus_name=each, dfp_number=made["number"])
        return made

    def execute(self, name: str) -> Json:
        report: Json = self.post("/execute_dfp", dfp_name=name)
        return report

    def stop(self, name: str) -> Json:
        stopped: Json = self.post("/stop_dfp", dfp_name=name)
        return stopped

    def delete(self, name: str) -> Json:
        gone: Json = results(self.http.request("DELETE", "/delete_dfp", json={"name": name}))
        return gone

    def update(self, name: str, kw: float, pf: float) -> Json:
        body = {"name": name, "min_power_kw": kw, "target_pf": pf}
        updated: Json = results(self.http.put("/update_dfp", json=body))
        return updated

    def restore(self) -> None:
        """No programs, devices, generators, pins or factors."""
        for program in self.programs():
            self.delete(program["name"])
        for details in self.state()["bus_details"]:
            here = {"bus_name": details["bus"]}
            for device in details["devices"]:
                self.post("/disconnect_device", **here, device_name=device["name"])
            for generator in details["generators"]:
                self.post("/remove_generator", generator_name=generator["name"])
            if any(load["source"] == "operator" for load in details["loads"]):
                self.post("/release_load", **here)
            if any(load["factor"] != 1.0 for load in details["loads"]):
                self.post("/modify_load_household", **here, factor=1.0)


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    """A system without meters, so that nothing moves by itself."""
    with system(feeders_dir=FEEDERS) as started:
        yield started


@pytest.fixture
def operator(running: System) -> Iterator[Operator]:
    """Nothing is left of a test, and no service met an error of its own."""
    with patience.client(running.url) as client:
        found = Operator(client)
        yield found
        found.restore()
    assert "Traceback" not in running.log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def metered() -> Iterator[System]:
    """A system with a simulated meter at every load, each of which has spoken."""
    with system(meters=True, feeders_dir=FEEDERS) as started:
        with patience.client(started.url) as client:

            def is_metered() -> bool:
                found = loads(results(client.get("/get_state"))).values()
                return all(load["source"] == "meter" for load in found)

            wait_until(is_metered, "every load is metered")
        yield started


def kvar_at(kw: float, pf: float) -> float:
    return kw * math.tan(math.acos(pf))


def source_kw(state: State) -> float:
    return float(state["power_summary"]["total_circuit_power_kw"])


def held(state: State) -> dict[LoadName, float]:
    """What is held down, and at which kW."""
    return {name: load["set_kw"] for name, load in loads(state).items() if load["held_by"]}


class TestExecution:
    def test_it_is_seen_in_the_state(self, operator: Operator) -> None:
        operator.register("peak_shaving", 100.0, 0.95, "48")
        report = operator.execute("peak_shaving")
        state = operator.state()
        load = loads(state)[LOAD_48]
        assert (load["demand_kw"], load["set_kw"]) == (210.0, 100.0)
        assert load["held_by"] == ["peak_shaving"]
        assert load["kw"] == pytest.approx(100.0, abs=0.1)
        assert load["kvar"] == pytest.approx(kvar_at(100.0, 0.95), abs=0.1)
        assert bus(state, "48")["dfps"] == ["peak_shaving"]
        assert state["adjustments"] == {
            "revision": report["revision"],
            "programs": ["peak_shaving"],
        }
        assert held(state) == {LOAD_48: 100.0}

    def test_what_was_answered_is_in_the_very_next_state(self, operator: Operator) -> None:
        """Twenty times over: each of these answers once the solver has solved with it."""
        operator.register("peak_shaving", 100.0, 0.95, "48")
        for n in range(20):
            report = operator.execute("peak_shaving")
            state = operator.state()
            assert state["version"] >= report["version"]
            assert state["adjustments"]["revision"] == report["revision"]
            assert held(state) == {LOAD_48: pytest.approx(100.0)}
            operator.update("peak_shaving", 50.0 + n, 0.95)
            assert held(operator.state()) == {LOAD_48: pytest.approx(50.0 + n)}
            operator.update("peak_shaving", 100.0, 0.95)
            operator.stop("peak_shaving")
            assert held(operator.state()) == {}

    def test_the_report_is_what_was_and_what_is(self, operator: Operator) -> None:
        """40 kW and 20 kvar down to 10 kW take 5 kvar along; 0.95 leaves 3.29 of them."""
        operator.register("night", 10.0, 0.95, "1", "2", "450")
        report = operator.execute("night")
        outcomes = {outcome["bus"]: outcome for outcome in report["buses"]}
        before, after = outcomes["1"]["before"], outcomes["1"]["after"]
        assert (before["kw"], before["kvar"]) == pytest.approx((40.0, 20.0), abs=0.04)
        assert (after["kw"], after["kvar"]) == pytest.approx((10.0, kvar_at(10, 0.95)), abs=0.02)
        assert after["pf"] == pytest.approx(0.95, abs=1e-4)
        assert outcomes["1"]["shed_kw"] == pytest.approx(30.0, abs=0.05)
        assert outcomes["2"]["shed_kw"] == pytest.approx(10.0, abs=0.05)
        assert outcomes["450"]["left_alone"] == "no load"
        assert report["total_shed_kw"] == pytest.approx(40.0, abs=0.1)

    def test_the_feeder_draws_less_by_about_what_was_shed(self, operator: Operator) -> None:
        """And by the losses that it saves."""
        before = operator.state()
        operator.register("dark", 0.0, 1.0, *LARGE)
        report = operator.execute("dark")
        after = operator.state()
        shed_kw = report["total_shed_kw"]
        assert shed_kw == pytest.approx(sum(LARGE.values()), rel=0.05)
        fallen_kw = source_kw(before) - source_kw(after)
        assert fallen_kw == pytest.approx(shed_kw, rel=0.1)
        [run] = operator.programs()[0]["executions"]
        assert run["total_shed_kw"] == pytest.approx(shed_kw, abs=1e-3)

    def test_stopping_restores_demand_to_the_last_digit(self, operator: Operator) -> None:
        operator.post("/modify_load_household", bus_name="65", factor=1.1)
        before = demands(operator.state())
        operator.register("dark", 33.3, 0.97, "1", "6", *LARGE)
        operator.execute("dark")
        assert demands(operator.state()) != before
        operator.stop("dark")
        assert demands(operator.state()) == before
        assert held(operator.state()) == {}

    def test_devices_give_way_first_then_loads_pro_rata(self, operator: Operator) -> None:
        """20 and 10 kW of devices and 40 kW of load."""
        for name, kw in (("heater", 20.0), ("charger", 10.0)):
            operator.post("/add_device", bus_name="1", device_name=name, kw=kw)
        operator.register("evening", 55.0, 0.5, "1")
        operator.execute("evening")
        devices = operator.devices("1")
        assert devices["heater"]["set_kw"] == pytest.approx(10.0)
        assert devices["charger"]["set_kw"] == pytest.approx(5.0)
        assert operator.load(LOAD_1)["set_kw"] == 40.0
        assert operator.load(LOAD_1)["held_by"] == []
        operator.update("evening", 30.0, 0.5)
        assert [d["set_kw"] for d in operator.devices("1").values()] == [0.0, 0.0]
        assert operator.load(LOAD_1)["set_kw"] == pytest.approx(30.0)

    def test_loads_of_a_bus_give_way_pro_rata(self, operator: Operator) -> None:
        """35, 35 and 70 kW, of which half is kept."""
        operator.register("half", 70.0, 0.5, "65")
        operator.execute("half")
        assert [load["set_kw"] for load in bus(operator.state(), "65")["loads"]] == pytest.approx(
            [17.5, 17.5, 35.0]
        )

    def test_generation_at_the_bus_is_not_netted(self, operator: Operator) -> None:
        operator.post("/add_generator", bus_name="1", kw=35.0)
        operator.register("evening", 10.0, 0.5, "1")
        operator.execute("evening")
        assert operator.load(LOAD_1)["set_kw"] == pytest.approx(10.0)
        assert bus(operator.state(), "1")["gen_kw"] == pytest.approx(35.0, abs=0.05)

    def test_the_rule_holds_as_demand_moves(self, operator: Operator) -> None:
        operator.register("peak_shaving", 100.0, 0.5, "48")
        operator.execute("peak_shaving")
        pin = {"bus_name": "48", "load_name": "Load_48"}
        for kw, left_kw, held_by in (
            (300.0, 100.0, ["peak_shaving"]),
            (60.0, 60.0, []),
            (-20.0, -20.0, []),
            (100.0, 100.0, []),
            (100.5, 100.0, ["peak_shaving"]),
        ):
            operator.post("/modify_load_household", **pin, new_kw=kw, new_kvar=0.0)
            load = operator.load(LOAD_48)
            assert (load["demand_kw"], load["set_kw"]) == (kw, pytest.approx(left_kw))
            assert load["held_by"] == held_by

    def test_names_are_compared_without_case(self, operator: Operator) -> None:
        made = operator.register("peak_shaving", 100.0, 0.95)
        subscribed = operator.post("/subscribe_dfp", bus_name="25R", dfp_name="PEAK_SHAVING")
        assert subscribed["subscriptions"] == ["25r"]
        operator.post("/subscribe_dfp", bus_name="48", dfp_name="Peak_Shaving")
        assert operator.execute("PEAK_SHAVING")["name"] == "peak_shaving"
        assert bus(operator.state(), "48")["dfps"] == ["peak_shaving"]
        assert operator.update("PEAK_shaving", 90.0, 0.9)["number"] == made["number"]
        assert operator.load(LOAD_48)["set_kw"] == pytest.approx(90.0)
        left = operator.post("/unsubscribe_dfp", bus_name="25R", dfp_name="peak_SHAVING")
        assert left["subscriptions"] == ["48"]
        assert results(operator.http.get("/dfps/PEAK_SHAVING"))["executing"]
        assert not operator.stop("pEAK_SHAVING")["executing"]
        assert operator.delete("PEAK_SHAVINg")["name"] == "peak_shaving"
        assert operator.programs() == []


class TestWhileItExecutes:
    @pytest.fixture
    def executing(self, operator: Operator) -> Operator:
        operator.register("peak_shaving", 20.0, 0.5, "1", "48")
        operator.execute("peak_shaving")
        assert held(operator.state()) == {LOAD_1: pytest.approx(20), LOAD_48: pytest.approx(20)}
        return operator

    @pytest.mark.parametrize("kw", [0.0, 10.0, 30.0, 40.0])
    def test_new_terms_hold_at_once(self, executing: Operator, kw: float) -> None:
        revision = executing.state()["adjustments"]["revision"]
        executing.update("peak_shaving", kw, 0.95)
        state = executing.state()
        assert loads(state)[LOAD_1]["set_kw"] == pytest.approx(kw)
        assert loads(state)[LOAD_1]["kvar"] == pytest.approx(kvar_at(kw, 0.95), abs=0.04)
        assert state["adjustments"]["revision"] == revision + 1

    def test_a_bus_that_leaves_is_let_go_at_once(self, executing: Operator) -> None:
        executing.post("/unsubscribe_dfp", bus_name="48", dfp_name="peak_shaving")
        state = executing.state()
        assert held(state) == {LOAD_1: pytest.approx(20.0)}
        assert loads(state)[LOAD_48]["set_kw"] == 210.0
        assert bus(state, "48")["dfps"] == []

    def test_a_bus_that_joins_is_adjusted_at_once(self, executing: Operator) -> None:
        executing.post("/subscribe_dfp", bus_name="76", dfp_name="peak_shaving")
        state = executing.state()
        assert sum(load["set_kw"] for load in bus(state, "76")["loads"]) == pytest.approx(20.0)

    def test_deleted_it_ends_at_once(self, executing: Operator) -> None:
        executing.delete("peak_shaving")
        state = executing.state()
        assert held(state) == {}
        assert state["adjustments"]["programs"] == []
        assert executing.programs() == []

    def test_executed_again_it_changes_nothing(self, executing: Operator) -> None:
        before = executing.state()
        answer = executing.http.post("/execute_dfp", json={"dfp_name": "peak_shaving"})
        assert "was executing already" in answer.json()["message"]
        assert results(answer)["revision"] == before["adjustments"]["revision"]
        assert executing.state()["adjustments"] == before["adjustments"]
        assert len(executing.programs()[0]["executions"]) == 1

    def test_what_does_not_change_what_is_in_force_raises_no_revision(
        self, executing: Operator
    ) -> None:
        revision = executing.state()["adjustments"]["revision"]
        executing.post("/subscribe_dfp", bus_name="48", dfp_name="peak_shaving")
        executing.update("peak_shaving", 20.0, 0.5)
        executing.register("another", 5.0, 1.0, "48")
        executing.stop("another")
        executing.delete("another")
        assert executing.post("/run_simulation")["adjustments"]["revision"] == revision


class TestSeveralPrograms:
    def test_the_lowest_power_and_the_highest_power_factor_hold(self, operator: Operator) -> None:
        operator.register("low", 100.0, 0.5, "48", "1")
        operator.register("pure", 200.0, 0.98, "48")
        operator.execute("low")
        operator.execute("pure")
        state = operator.state()
        load = loads(state)[LOAD_48]
        assert load["set_kw"] == pytest.approx(100.0)
        assert load["kvar"] == pytest.approx(kvar_at(100.0, 0.98), abs=0.1)
        assert set(load["held_by"]) == {"low", "pure"}
        assert bus(state, "48")["dfps"] == ["low", "pure"]
        assert bus(state, "1")["dfps"] == ["low"]
        assert state["adjustments"]["programs"] == ["low", "pure"]

    def test_one_that_stops_leaves_the_other_in_force(self, operator: Operator) -> None:
        before = demands(operator.state())
        operator.register("low", 100.0, 0.5, "48")
        operator.register("lower", 50.0, 0.5, "48")
        operator.execute("low")
        operator.execute("lower")
        assert held(operator.state()) == {LOAD_48: pytest.approx(50.0)}
        operator.stop("lower")
        load = operator.load(LOAD_48)
        assert (load["set_kw"], load["held_by"]) == (pytest.approx(100.0), ["low"])
        operator.stop("low")
        assert demands(operator.state()) == before

    def test_the_order_does_not_matter(self, operator: Operator) -> None:
        names = ("low", "lower", "pure")
        for name, kw, pf in zip(names, (100.0, 50.0, 200.0), (0.9, 0.5, 0.97), strict=True):
            operator.register(name, kw, pf, "48", "65")
        seen = []
        for order in (names, names[::-1]):
            for name in order:
                operator.execute(name)
            seen.append(demands(operator.state()))
            for name in names:
                operator.stop(name)
        assert seen[0] == seen[1]


class TestNobodySubscribed:
    def test_it_is_in_force_and_says_so(self, operator: Operator) -> None:
        before = demands(operator.state())
        operator.register("empty", 0.0, 1.0)
        answer = operator.http.post("/execute_dfp", json={"dfp_name": "empty"})
        report = results(answer)
        assert "nobody subscribed" in answer.json()["message"]
        assert (report["buses"], report["total_shed_kw"]) == ([], 0.0)
        state = operator.state()
        assert state["adjustments"]["programs"] == ["empty"]
        assert demands(state) == before
        operator.post("/subscribe_dfp", bus_name="1", dfp_name="empty")
        assert held(operator.state()) == {LOAD_1: 0.0}

    def test_a_bus_without_loads_may_be_subscribed(self, operator: Operator) -> None:
        """Until something comes to it."""
        operator.register("evening", 10.0, 0.5, "3")
        [outcome] = operator.execute("evening")["buses"]
        assert (outcome["left_alone"], outcome["shed_kw"]) == ("no load", 0.0)
        operator.post("/add_device", bus_name="3", device_name="heater", kw=30.0)
        [heater] = operator.devices("3").values()
        assert (heater["set_kw"], heater["held_by"]) == (pytest.approx(10.0), ["evening"])


@contextmanager
def device(running: System, *arguments: str) -> Iterator[None]:
    """``flexfeeder device``, which finds the running system by its data folder."""
    own = {name: v for name, v in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "flexfeeder", "device", *arguments],
        env={**own, "FLEXFEEDER_DATA_DIR": str(running.data_dir)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(STOPS_WITHIN_S) == 0


def readings(client: MqttClient, name: LoadName) -> list[Json]:
    """What a meter has said."""
    heard = client.on(f"{METER}/{name[0]}/{name[1]}")
    return [orjson.loads(message.payload) for message in heard]


class TestDevice:
    def test_it_obeys_and_the_feeder_draws_less_until_it_is_free_again(
        self, running: System, operator: Operator
    ) -> None:
        """40 kW of load and a device of 30 kW, of which 45 kW are kept: 5 for the device."""
        name = ("1", "heater")
        operator.post("/add_device", bus_name="1", device_name="heater", kw=30.0)
        operator.register("evening", 45.0, 0.5, "1")
        arguments = ("--bus", "1", "--name", "heater", "--kw", "30", "--interval", "0.05")
        with (
            device(running, *arguments),
            MqttClient(running.mqtt_port, protocol="3.1.1") as client,
        ):
            client.subscribe(f"{METER}/#")

            def heater() -> Json:
                return operator.devices("1")["heater"]

            def last() -> Json:
                return readings(client, name)[-1]

            client.first_on(f"{METER}/1/heater")
            wait_until(lambda: heater()["source"] == "meter", "it is metered")
            free = operator.state()
            assert heater()["set_kw"] == pytest.approx(30.0, rel=0.25)
            report = operator.execute("evening")
            assert report["total_shed_kw"] == pytest.approx(25.0, rel=0.3)
            assert heater()["set_kw"] == pytest.approx(5.0)
            assert source_kw(free) - source_kw(operator.state()) == pytest.approx(25.0, rel=0.3)
            wait_until(lambda: last()["kw"] == 5.0, "it draws what is left to it")
            # Its obedience is not taken for a lower demand, however long it lasts.
            told = len(readings(client, name))
            wait_until(lambda: len(readings(client, name)) > told + 20, "twenty more readings")
            assert all(reading["kw"] == 5.0 for reading in readings(client, name)[told:])
            assert last()["demand_kw"] == pytest.approx(30.0, rel=0.25)
            held_down = heater()
            assert held_down["demand_kw"] == pytest.approx(30.0, rel=0.25)
            assert (held_down["set_kw"], held_down["held_by"]) == (
                pytest.approx(5.0),
                ["evening"],
            )
            assert operator.state()["management_status"]["status"] == "OK"
            operator.stop("evening")
            wait_until(lambda: last()["kw"] > 15.0, "it is free")
            wait_until(lambda: heater()["set_kw"] > 15.0, "and that is seen")
            assert heater()["held_by"] == []


class TestMeters:
    def test_simulated_meters_obey_and_the_feeder_draws_less(self, metered: System) -> None:
        """Each speaks once a second, and its load moves with the hour."""
        with (
            patience.client(metered.url) as http,
            MqttClient(metered.mqtt_port, protocol="3.1.1") as client,
        ):
            operator = Operator(http)
            client.subscribe(f"{METER}/#")
            operator.register("dark", 1.0, 0.99, *LARGE)
            before = operator.state()
            report = operator.execute("dark")
            after = operator.state()
            shed_kw = report["total_shed_kw"]
            assert shed_kw > 50.0
            assert source_kw(before) - source_kw(after) == pytest.approx(shed_kw, rel=0.15)
            caps = held(after)
            assert {bus_name for bus_name, _ in caps} == set(LARGE)
            told = len(client.heard)

            def drawn_kw(bus_name: str) -> float:
                """By the newest readings of a bus, once each of its meters has spoken twice."""
                said = [
                    [m.payload for m in client.heard[told:] if m.topic == f"{METER}/{b}/{name}"]
                    for b, name in caps
                    if b == bus_name
                ]
                if min(len(each) for each in said) < 2:
                    return math.inf
                return float(sum(orjson.loads(each[-1])["kw"] for each in said))

            def obey() -> bool:
                """Its setpoints are renewed when they move by more than half a percent."""
                return all(drawn_kw(bus_name) <= 1.05 for bus_name in LARGE)

            wait_until(obey, "every meter obeys")
            [load_48] = readings(client, LOAD_48)[-1:]
            assert load_48["demand_kw"] > 5.0
            assert abs(load_48["kvar"]) <= kvar_at(load_48["kw"], 0.99) + 1e-3
            state = operator.state()
            assert set(held(state)) == set(caps)
            for name in caps:
                assert loads(state)[name]["demand_kw"] > loads(state)[name]["set_kw"]
            operator.stop("dark")
            wait_until(lambda: readings(client, LOAD_48)[-1]["kw"] > 5.0, "they are free")
            wait_until(lambda: operator.load(LOAD_48)["set_kw"] > 5.0, "and that is seen")


class TestServicesThatDie:
    @pytest.fixture
    def in_force(self, operator: Operator) -> Operator:
        operator.register("low", 100.0, 0.95, "48", "1")
        operator.register("lower", 10.0, 0.9, "1", "76")
        operator.register("idle", 0.0, 1.0, "49")
        operator.execute("low")
        operator.execute("lower")
        return operator

    def expected(self, operator: Operator) -> Json:
        """The adjustments that follow from the registry, but for their revision."""
        return {
            "programs": [
                {
                    "name": program["name"],
                    "number": program["number"],
                    "buses": [
                        {
                            "bus": each,
                            "max_kw": program["min_power_kw"],
                            "target_pf": program["target_pf"],
                        }
                        for each in program["subscriptions"]
                    ],
                }
                for program in operator.programs()
                if program["executing"]
            ]
        }

    def retained(self, running: System) -> Json:
        """The adjustments that a newcomer finds."""
        with MqttClient(running.mqtt_port, protocol="3.1.1") as newcomer:
            newcomer.subscribe(ADJUSTMENTS)
            message = newcomer.first_on(ADJUSTMENTS)
            assert message.retain
            Adjustments.model_validate_json(message.payload)
            found: Json = orjson.loads(message.payload)
            return found

    def kill(self, running: System, name: str) -> None:
        """Kill -9 a service, and wait until there is another that says that it serves."""
        topic = STATUS.format("dfp_manager" if name == "dfp_manager" else f"{name}-{FEEDER}")
        killed = running.pid(name)
        with MqttClient(running.mqtt_port, protocol="3.1.1") as watcher:
            watcher.subscribe(topic)
            os.kill(killed, signal.SIGKILL)

            def serves() -> bool:
                said = [orjson.loads(message.payload) for message in watcher.on(topic)]
                return any(each["status"] == "online" and each["pid"] != killed for each in said)

            wait_until(serves, f"{name} is back")
        wait_until(running.is_ready, "everything is ready")

    def test_what_is_retained_follows_from_the_registry(
        self, running: System, in_force: Operator
    ) -> None:
        found = self.retained(running)
        revision = found.pop("revision")
        assert found == self.expected(in_force)
        assert in_force.state()["adjustments"]["revision"] == revision

    def test_a_solver_that_comes_back_has_the_programs_in_force(
        self, running: System, in_force: Operator
    ) -> None:
        """From the retained message: nobody executes anything again."""
        before = in_force.state()
        self.kill(running, "solver")

        def is_new() -> bool:
            return bool(in_force.state()["version"] > before["version"] + 10**8)

        wait_until(is_new, "a state of the new solver")
        revision = before["adjustments"]["revision"]
        wait_until(
            lambda: in_force.state()["adjustments"]["revision"] == revision, "it has the programs"
        )
        state = in_force.state()
        assert state["adjustments"] == before["adjustments"]
        assert held(state) == held(before)
        assert bus(state, "1")["dfps"] == ["low", "lower"]
        in_force.stop("low")
        in_force.stop("lower")
        assert held(in_force.state()) == {}

    def test_a_manager_that_comes_back_has_the_same_in_force(
        self, running: System, in_force: Operator
    ) -> None:
        """Even if nobody knew it meanwhile: somebody has cleared what was retained."""
        programs, before = in_force.programs(), self.retained(running)
        demand = demands(in_force.state())
        with MqttClient(running.mqtt_port, protocol="3.1.1") as client:
            client.subscribe(ADJUSTMENTS)
            client.first_on(ADJUSTMENTS)
            client.publish(ADJUSTMENTS, b"", retain=True)
            wait_until(lambda: client.on(ADJUSTMENTS)[-1].payload == b"", "there are none")
            self.kill(running, "dfp_manager")
            wait_until(lambda: client.on(ADJUSTMENTS)[-1].payload != b"", "there are some again")
        assert self.retained(running) == before
        assert in_force.programs() == programs
        state = in_force.state()
        assert state["adjustments"]["revision"] == before["revision"]
        assert demands(state) == demand

    def test_a_manager_that_comes_back_is_obeyed_at_once(
        self, running: System, operator: Operator
    ) -> None:
        """Ready is who knows whether there is a solver: the answers wait for it."""
        operator.register("evening", 10.0, 0.5)
        self.kill(running, "dfp_manager")
        operator.execute("evening")
        assert operator.state()["adjustments"]["programs"] == ["evening"]
        operator.stop("evening")
        assert operator.state()["adjustments"]["programs"] == []

    def test_a_manager_that_comes_back_knows_the_buses(
        self, running: System, operator: Operator
    ) -> None:
        operator.register("evening", 10.0, 0.5)
        self.kill(running, "dfp_manager")
        operator.post("/subscribe_dfp", bus_name="48", dfp_name="evening")
        operator.execute("evening")
        assert held(operator.state()) == {LOAD_48: pytest.approx(10.0)}
