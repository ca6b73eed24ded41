"""What a solver tells devices and watchers by itself: setpoints and alerts, on either broker."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
from paho.mqtt.client import MQTTMessage
from support import FEEDER, FEEDERS, MqttClient, State, bus, loads, pids, results

from flexfeeder import ports
from flexfeeder.testing import MOSQUITTO, System, mosquitto, system, wait_until
from schemas.alerts import Alert
from schemas.setpoints import Setpoint
from services.solver.findings import ENDS_AFTER_S

BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    ),
]
SETPOINT = f"flexfeeder/{FEEDER}/setpoint"
ALERT = f"flexfeeder/{FEEDER}/alert"
STATE = f"flexfeeder/{FEEDER}/state"

# By feeders/ieee123: neighbourhood 1 has 160 kW and 80 kvar of 225 kVA nominal; Load_48 has
# 210 kW and 150 kvar.
ZONE_1 = "neighbourhood_1"
LOAD_48 = f"{SETPOINT}/48/Load_48"
LOAD_1 = f"{SETPOINT}/1/Load_1"
CHARGER = f"{SETPOINT}/1/Charger"

Json = dict[str, Any]


class Operator:
    """Somebody who changes the feeder over REST."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def post(self, path: str, **body: Any) -> Any:
        return results(self.http.post(path, json=body))

    def state(self) -> State:
        state: State = results(self.http.get("/get_state"))
        return state

    def pin_48(self, kw: float) -> None:
        self.post("/modify_load_household", bus_name="48", load_name="Load_48", new_kw=kw)

    def execute(self, name: str, kw: float, pf: float, *buses: str) -> Json:
        self.post("/register_dfp", name=name, min_power_kw=kw, target_pf=pf)
        for each in buses:
            self.post("/subscribe_dfp", bus_name=each, dfp_name=name)
        report: Json = self.post("/execute_dfp", dfp_name=name)
        return report

    def add_charger(self, kw: float) -> State:
        state: State = self.post("/add_device", bus_name="1", device_name="Charger", kw=kw)
        return state

    def restore(self) -> None:
        """No programs, devices, generators, pins or factors."""
        for program in results(self.http.get("/dfps")):
            body = {"name": program["name"]}
            results(self.http.request("DELETE", "/delete_dfp", json=body))
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


@pytest.fixture(scope="module", params=BROKERS)
def alone(request: pytest.FixtureRequest) -> Iterator[System]:
    """A system without meters."""
    with system(on_mosquitto=request.param == "mosquitto", feeders_dir=FEEDERS) as started:
        yield started


@pytest.fixture
def listener(alone: System) -> Iterator[MqttClient]:
    """Somebody who hears every setpoint and alert from now on."""
    with MqttClient(alone.mqtt_port, protocol="3.1.1") as client:
        client.subscribe(f"{SETPOINT}/#")
        client.subscribe(ALERT)
        yield client


@pytest.fixture
def operator(alone: System, listener: MqttClient) -> Iterator[Operator]:
    """In the end nothing is held, no setpoint is retained, and what has not ended is what the
    state says.
    """
    with httpx.Client(base_url=alone.url, timeout=10) as client:
        found = Operator(client)
        yield found
        found.restore()
        violations = results(client.get("/violations"))
        assert (violations["transformers"], violations["not_following"]) == ([], [])
    left = {
        (violation["kind"], f"bus {violation['bus']} phase {violation['phase']}")
        for violation in violations["voltages"]
    }
    wait_until(lambda: in_force(listener) == {}, "every setpoint is lifted")
    assert_none_retained(alone)
    wait_until(lambda: open_alerts(listener) == left, "every other alert has ended")
    assert "Traceback" not in alone.log.read_text(encoding="utf-8")


def in_force(client: MqttClient) -> dict[str, Setpoint]:
    """The setpoints that were heard and not lifted, by topic."""
    newest = {m.topic: m.payload for m in list(client.heard) if m.topic.startswith(SETPOINT)}
    return {
        topic: Setpoint.model_validate_json(payload) for topic, payload in newest.items() if payload
    }


def wait_for(client: MqttClient, topic: str, max_kw: float) -> Setpoint:
    """The setpoint of a topic, once it leaves so many kW, within half a percent."""

    def is_there() -> bool:
        found = in_force(client).get(topic)
        return found is not None and found.max_kw == pytest.approx(max_kw, rel=0.0051, abs=0.001)

    wait_until(is_there, f"{max_kw} kW on {topic}")
    return in_force(client)[topic]


def retained(running: System) -> dict[str, bytes]:
    """The setpoints that a newcomer finds. What it publishes itself tells when it has them all."""
    with MqttClient(running.mqtt_port, protocol="3.1.1") as newcomer:
        newcomer.subscribe(f"{SETPOINT}/#")
        newcomer.subscribe("elsewhere")
        newcomer.publish("elsewhere", b"")
        newcomer.first_on("elsewhere")
        found = [m for m in newcomer.heard if m.retain and m.topic != "elsewhere"]
        return {m.topic: bytes(m.payload) for m in found}


def assert_none_retained(running: System) -> None:
    assert retained(running) == {}


def alerts(client: MqttClient) -> list[Alert]:
    return [Alert.model_validate_json(message.payload) for message in client.on(ALERT)]


def open_alerts(client: MqttClient) -> set[tuple[str, str]]:
    """Kind and subject of what has begun and not ended."""
    found = set()
    for alert in alerts(client):
        key = (str(alert.kind), alert.subject)
        if alert.event == "begin":
            assert key not in found, f"{key} begins twice"
            found.add(key)
        else:
            assert key in found, f"{key} ends without a begin"
            found.remove(key)
    return found


def kill(running: System, name: str) -> None:
    """Kill -9 a child, and wait until there is another and everything is ready."""
    killed = running.pid(name)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: pids(running).get(name, killed) != killed, f"{name} is back")
    wait_until(running.is_ready, "everything is ready")


class TestSetpoint:
    def test_it_says_what_is_asked_and_by_whom(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        operator.execute("evening", 100.0, 0.95, "48")
        setpoint = wait_for(listener, LOAD_48, 100.0)
        assert setpoint.pf == pytest.approx(0.95, abs=1e-4)
        assert setpoint.reason == "evening"
        [message] = listener.on(LOAD_48)
        assert set(orjson.loads(message.payload)) == {"max_kw", "pf", "reason"}
        assert message.qos == 1
        assert set(in_force(listener)) == {LOAD_48}

    def test_a_power_factor_alone_leaves_the_power_free(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        operator.execute("pure", 1000.0, 0.97, "48")
        wait_until(lambda: LOAD_48 in in_force(listener), "a setpoint")
        setpoint = in_force(listener)[LOAD_48]
        assert setpoint.max_kw is None
        assert setpoint.pf == pytest.approx(0.97, abs=1e-4)

    def test_names_are_spelled_as_they_were_given(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        operator.post("/add_device", bus_name="25R", device_name="HeatPump", kw=20.0)
        operator.execute("Evening", 5.0, 0.5, "25R")
        assert wait_for(listener, f"{SETPOINT}/25r/HeatPump", 5.0).reason == "Evening"

    def test_it_is_retained_until_it_is_lifted(
        self, alone: System, operator: Operator, listener: MqttClient
    ) -> None:
        operator.execute("evening", 100.0, 0.5, "48")
        wait_for(listener, LOAD_48, 100.0)
        assert Setpoint.model_validate_json(retained(alone)[LOAD_48]).max_kw == 100.0
        operator.post("/stop_dfp", dfp_name="evening")
        wait_until(lambda: listener.on(LOAD_48)[-1].payload == b"", "it is lifted")
        assert len(listener.on(LOAD_48)) == 2
        assert_none_retained(alone)

    def test_without_change_there_is_no_second_message(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """Whatever else is solved: bus 1 gets its own setpoint last."""
        operator.execute("evening", 100.0, 0.95, "48")
        wait_for(listener, LOAD_48, 100.0)
        for n in range(10):
            operator.post("/run_simulation")
            operator.post("/modify_load_neighbourhood", neighbourhood=1, factor=1.0 - 0.01 * n)
        operator.execute("later", 10.0, 0.5, "1")
        wait_for(listener, LOAD_1, 10.0)
        assert len(listener.on(LOAD_48)) == 1

    def test_it_stays_while_demand_moves_above_it(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        operator.execute("evening", 100.0, 0.5, "48")
        wait_for(listener, LOAD_48, 100.0)
        for kw in (150.0, 300.0, 120.0):
            operator.pin_48(kw)
        operator.execute("later", 10.0, 0.5, "1")
        wait_for(listener, LOAD_1, 10.0)
        assert len(listener.on(LOAD_48)) == 1
        operator.pin_48(60.0)
        wait_until(lambda: LOAD_48 not in in_force(listener), "demand is below: it is lifted")
        operator.pin_48(150.0)
        wait_for(listener, LOAD_48, 100.0)
        assert len(listener.on(LOAD_48)) == 3

    def test_half_a_percent_is_not_worth_a_message(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """Half of 35, 35 and 70 kW. Where the second demands 0.2 kW more, 0.02 kW less are left to
        the first; where it demands 2 kW more, 0.25 kW.
        """
        topic = f"{SETPOINT}/65/Load_65_a"
        operator.execute("half", 70.0, 0.5, "65")
        wait_for(listener, topic, 17.5)
        pin = {"bus_name": "65", "load_name": "Load_65_b", "new_kvar": 0.0}
        for kw in (35.2, 34.8, 37.0):
            operator.post("/modify_load_household", **pin, new_kw=kw)
        wait_for(listener, topic, 70.0 * 35.0 / 142.0)
        assert len(listener.on(topic)) == 2

    def test_another_reason_is(self, operator: Operator, listener: MqttClient) -> None:
        operator.execute("evening", 100.0, 0.5, "48")
        wait_for(listener, LOAD_48, 100.0)
        operator.execute("night", 100.0, 0.5, "48")
        wait_until(lambda: in_force(listener)[LOAD_48].reason == "evening, night", "both are named")
        assert in_force(listener)[LOAD_48].max_kw == 100.0

    def test_each_load_of_a_bus_has_its_own(self, operator: Operator, listener: MqttClient) -> None:
        """35, 35 and 70 kW, of which half is kept."""
        operator.execute("half", 70.0, 0.5, "65")
        for letter, kw in (("a", 17.5), ("b", 17.5), ("c", 35.0)):
            wait_for(listener, f"{SETPOINT}/65/Load_65_{letter}", kw)
        assert len(in_force(listener)) == 3

    def test_many_at_once_all_come(self, operator: Operator, listener: MqttClient) -> None:
        """Every load of the feeder; they go out a few at a time."""
        state = operator.state()
        buses = [details["bus"] for details in state["bus_details"] if details["loads"]]
        report = operator.execute("dark", 0.0, 1.0, *buses)
        assert len(report["buses"]) == len(buses)
        every = {f"{SETPOINT}/{bus_name}/{name}" for bus_name, name in loads(state)}
        wait_until(lambda: set(in_force(listener)) == every, "each load has one")
        assert all(setpoint.max_kw == 0.0 for setpoint in in_force(listener).values())
        operator.post("/stop_dfp", dfp_name="dark")
        wait_until(lambda: in_force(listener) == {}, "all are lifted")
        assert all(len(listener.on(topic)) == 2 for topic in every)

    def test_a_device_that_goes_takes_it_along(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        state = operator.add_charger(120.0)
        [charger] = bus(state, "1")["devices"]
        assert wait_for(listener, CHARGER, charger["set_kw"]).reason == ZONE_1
        operator.post("/disconnect_device", bus_name="1", device_name="Charger")
        wait_until(lambda: listener.on(CHARGER)[-1].payload == b"", "it is lifted")

    def test_a_generator_that_is_curtailed_has_one(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        state = operator.post("/add_generator", bus_name="1", kw=600.0, generator_name="PV_1")
        [generator] = bus(state, "1")["generators"]
        setpoint = wait_for(listener, f"{SETPOINT}/1/PV_1", generator["set_kw"])
        assert (setpoint.pf, setpoint.reason) == (None, ZONE_1)

    def test_program_and_relief_ask_for_the_lower_together(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """Relief leaves the charger some 50 kW, and the program leaves it 20."""
        operator.add_charger(120.0)
        wait_until(lambda: CHARGER in in_force(listener), "relief asks")
        assert in_force(listener)[CHARGER].reason == ZONE_1
        operator.execute("evening", 60.0, 0.5, "1")
        assert wait_for(listener, CHARGER, 20.0).reason == "evening"
        operator.post("/stop_dfp", dfp_name="evening")
        wait_until(lambda: in_force(listener)[CHARGER].reason == ZONE_1, "relief asks again")


class TestOnConnect:
    STRAYS = (
        f"{SETPOINT}/2/Load_2",
        f"{SETPOINT}/1/Gone",
        f"{SETPOINT}/9999/Nowhere",
        f"{SETPOINT}/25R/heatpump",
        f"{SETPOINT}/48/LOAD_48",
        f"{SETPOINT}/48/Load_48/more",
    )

    def test_those_in_force_are_there_and_all_others_are_cleared(
        self, alone: System, operator: Operator, listener: MqttClient
    ) -> None:
        """After kill -9: strays of an earlier life, and of whoever else has published some."""
        operator.execute("evening", 100.0, 0.95, "48")
        setpoint = wait_for(listener, LOAD_48, 100.0)
        for topic in self.STRAYS:
            listener.publish(topic, b'{"max_kw": 1.0, "pf": null, "reason": "x"}', retain=True)
        listener.publish(self.STRAYS[0], b"no setpoint at all", retain=True)
        listener.heard.clear()
        kill(alone, "solver")

        def is_cleared(topic: str) -> bool:
            return any(m.payload == b"" for m in listener.on(topic))

        for topic in self.STRAYS:
            wait_until(partial(is_cleared, topic), f"{topic} is cleared")

        def is_back() -> bool:
            return set(retained(alone)) == {LOAD_48}

        wait_until(is_back, "that in force, and no other")
        assert Setpoint.model_validate_json(retained(alone)[LOAD_48]) == setpoint
        state = operator.state()
        assert loads(state)["48", "Load_48"]["held_by"] == ["evening"]

    def test_a_stray_from_before_the_first_start_is_cleared(self) -> None:
        """A broker that outlives a system has them."""
        if MOSQUITTO is None:
            pytest.skip("mosquitto is not installed")
        with mosquitto() as port, MqttClient(port, protocol="3.1.1") as client:
            for topic in self.STRAYS:
                client.publish(topic, b'{"max_kw": 1.0}', retain=True)
            client.subscribe(f"{SETPOINT}/#")
            wait_until(lambda: len(client.heard) == len(self.STRAYS), "they are retained")
            env = {"FLEXFEEDER_MQTT_HOST": "127.0.0.1", "FLEXFEEDER_MQTT_PORT": str(port)}

            def is_told_of_again(topic: str) -> bool:
                return len(client.on(topic)) == 2

            with system(feeders_dir=FEEDERS, env=env):
                for topic in self.STRAYS:
                    wait_until(partial(is_told_of_again, topic), f"{topic} is cleared")
                    assert client.on(topic)[1].payload == b""

    def test_one_that_its_element_has_now_is_not_cleared(
        self, alone: System, operator: Operator, listener: MqttClient
    ) -> None:
        """A device hears no gap in what it is asked, though the solver's connection is another."""
        operator.execute("evening", 100.0, 0.95, "48")
        wait_for(listener, LOAD_48, 100.0)
        listener.heard.clear()
        take_name_away(alone, f"solver-{FEEDER}-readings")
        take_name_away(alone, f"solver-{FEEDER}")
        wait_until(lambda: bool(listener.on(LOAD_48)), "it is published again")

        def solves() -> bool:
            return operator.http.post("/run_simulation").status_code == 200

        wait_until(solves, "the gateway has heard that the solver is back")
        assert all(message.payload for message in listener.on(LOAD_48))
        assert set(retained(alone)) == {LOAD_48}


def take_name_away(running: System, client_id: str) -> None:
    """Connect under the name of another client, which the broker then disconnects, and leave."""
    with (
        contextlib.suppress(TimeoutError),
        MqttClient(running.mqtt5_port, protocol="5", client_id=client_id),
    ):
        pass


def test_setpoints_survive_a_broker_that_forgets_everything() -> None:
    """The embedded one keeps nothing on disk: the solver says again what is in force."""
    with (
        system(feeders_dir=FEEDERS) as running,
        httpx.Client(base_url=running.url, timeout=10) as http,
    ):
        operator = Operator(http)
        operator.execute("evening", 100.0, 0.95, "48")
        wait_until(lambda: set(retained(running)) == {LOAD_48}, "a setpoint")
        before = retained(running)
        killed = running.pid("broker")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: pids(running).get("broker", killed) != killed, "another broker")
        wait_until(
            lambda: (
                ports.is_open("127.0.0.1", running.mqtt_port)
                and running.is_ready()
                and retained(running) == before
            ),
            "the same setpoint",
        )
        operator.post("/stop_dfp", dfp_name="evening")
        wait_until(lambda: retained(running) == {}, "it is lifted")


class Episode(NamedTuple):
    """An overload from begin to end, as it was told to everybody who was there."""

    state: State
    """The state in which it began."""
    heard: list[MQTTMessage]
    late: list[MQTTMessage]
    """What somebody heard who came while it lasted."""
    events: list[Alert]
    """What was told at ``/events``."""


class Watch:
    """Somebody who overloads neighbourhood 1, and hears what is told of it on both ways.

    ``lines`` are those of ``/events``.
    """

    def __init__(self, running: System, http: httpx.Client, client: MqttClient, lines: Any) -> None:
        self._running = running
        self._operator = Operator(http)
        self._client = client
        self._lines = lines

    def episode(self) -> Episode | None:
        """Three times nominal is more than the load floor lets the transformer carry. A little more
        of it meanwhile is still the same alert, and so is one that comes back within a second.

        None where this took longer than the second, because a process was held up.
        """
        client = self._client
        client.heard.clear()
        self._scale(3.0)
        wait_until(lambda: len(alerts(client)) == 1, "it has begun")
        [begin] = alerts(client)
        wait_until(lambda: self._state_of(begin) is not None, "the state in which it began")
        state = self._state_of(begin)
        assert state is not None
        is_brief = self._is_brief(3.01, 1.0, 3.0) and self._is_brief(3.02, 1.0, 3.0)
        late = self._late()
        version = self._scale(1.0)["version"]
        wait_until(
            lambda: any(a.event == "end" and a.version >= version for a in alerts(client)),
            "it has ended",
        )
        heard = client.on(ALERT)
        events: list[Alert] = []
        while len(events) < len(heard):
            if next(self._lines) == "event: alert":
                payload = next(self._lines).removeprefix("data: ")
                events.append(Alert.model_validate_json(payload))
        return Episode(state, heard, late, events) if is_brief else None

    def _scale(self, factor: float) -> State:
        state: State = self._operator.post(
            "/modify_load_neighbourhood", neighbourhood=1, factor=factor
        )
        return state

    def _is_brief(self, *factors: float) -> bool:
        """True where all of it has happened before anything could be taken for gone."""
        started = time.monotonic()
        for factor in factors:
            self._scale(factor)
        return time.monotonic() - started < ENDS_AFTER_S

    def _state_of(self, alert: Alert) -> State | None:
        states = (orjson.loads(message.payload) for message in self._client.on(STATE))
        return next((state for state in states if state["version"] == alert.version), None)

    def _late(self) -> list[MQTTMessage]:
        with MqttClient(self._running.mqtt_port, protocol="3.1.1") as newcomer:
            newcomer.subscribe(ALERT)
            newcomer.subscribe("elsewhere")
            newcomer.publish("elsewhere", b"")
            newcomer.first_on("elsewhere")
            return newcomer.on(ALERT)


@pytest.fixture(scope="module")
def episode(alone: System) -> Episode:
    with (
        httpx.Client(base_url=alone.url, timeout=10) as http,
        MqttClient(alone.mqtt_port, protocol="3.1.1") as client,
        http.stream("GET", "/events") as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "event: state"
        client.subscribe(ALERT)
        client.subscribe(STATE, qos=0)
        watch = Watch(alone, http, client, lines)
        episodes: list[Episode] = []

        def is_over() -> bool:
            episodes.extend(filter(None, [watch.episode()]))
            return bool(episodes)

        wait_until(is_over, "an episode in which nobody was held up", timeout_s=60.0)
        return episodes[0]


class TestAlert:
    def test_it_begins_once_and_ends_once(self, episode: Episode) -> None:
        begin, end = (Alert.model_validate_json(message.payload) for message in episode.heard)
        assert (begin.feeder, begin.kind, begin.event) == (FEEDER, "overload", "begin")
        assert (end.feeder, end.kind, end.event) == (FEEDER, "overload", "end")
        assert ZONE_1 in begin.subject
        assert end.subject == begin.subject
        assert begin.value == pytest.approx(119.3, abs=1.0)
        assert begin.limit == 100.0
        assert end.version > begin.version
        assert end.at > begin.at

    def test_it_is_what_the_state_says(self, episode: Episode) -> None:
        begin = Alert.model_validate_json(episode.heard[0].payload)
        assert begin.version == episode.state["version"]
        status = episode.state["management_status"]
        assert status["status"] == "ALERT"
        assert begin.message in status["management_log"]

    def test_it_is_not_retained(self, episode: Episode) -> None:
        assert [(message.qos, message.retain) for message in episode.heard] == [(1, False)] * 2
        assert episode.late == []

    def test_those_who_read_events_are_told_the_same(self, episode: Episode) -> None:
        told = [Alert.model_validate_json(message.payload) for message in episode.heard]
        assert episode.events == told

    def test_each_node_beyond_a_limit_is_told_by_bus_and_phase_and_no_convergence_of_the_feeder(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """At bus 61 no rating limits what is drawn. 3 MW there are more than the regulators can
        hold, and with 20 MW there is no voltage at all. Regulators stay where they have moved to,
        so this comes last.
        """
        smelter = {"bus_name": "61", "device_name": "smelter"}
        state = operator.post("/add_device", **smelter, kw=3000.0)
        violations = state["voltage_profile"]["violations"]
        assert "undervoltage" in {violation["kind"] for violation in violations}
        expected = {
            (violation["kind"], f"bus {violation['bus']} phase {violation['phase']}")
            for violation in violations
        }
        wait_until(lambda: open_alerts(listener) == expected, "each is told")
        found = {(str(a.kind), a.subject): a for a in alerts(listener)}
        for violation in violations:
            alert = found[violation["kind"], f"bus {violation['bus']} phase {violation['phase']}"]
            assert (alert.value, alert.limit) == (violation["v_pu"], violation["limit_pu"])
        pin = {"bus_name": "61", "load_name": "smelter", "new_kw": 20_000.0}
        state = operator.post("/modify_load_household", **pin)
        assert (state["converged"], state["management_status"]["status"]) == (False, "ERROR")
        wait_until(lambda: ("no_convergence", "feeder") in open_alerts(listener), "it is told")
        assert operator.post("/disconnect_device", **smelter)["converged"]
