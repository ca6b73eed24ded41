"""Relief from a request to the setpoint that a device gets, on a whole system."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import patience
import pytest
from support import FEEDER, FEEDERS, MqttClient, State, bus, demands, loads, results

from flexfeeder.testing import System, system, wait_until
from schemas.alerts import Alert
from schemas.setpoints import Setpoint

SETPOINT = f"flexfeeder/{FEEDER}/setpoint"
ALERT = f"flexfeeder/{FEEDER}/alert"
METER = f"flexfeeder/{FEEDER}/meter"

# Neighbourhood 1 by feeders/ieee123: 160 kW and 80 kvar nominal, of 225 kVA; no load at bus 3.
ZONE_1 = "neighbourhood_1"
LOADS_1 = {"1": 40.0, "2": 20.0, "4": 40.0, "5": 20.0, "6": 40.0}
"""Buses of neighbourhood 1 and the nominal demand of their load in kW."""

Json = dict[str, Any]


class Operator:
    """Somebody who changes the feeder over REST, and looks at what relief makes of it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def post(self, path: str, **body: Any) -> State:
        state: State = results(self.http.post(path, json=body))
        return state

    def state(self) -> State:
        state: State = results(self.http.get("/get_state"))
        return state

    def add_device(self, bus_name: str, name: str, kw: float, **others: Any) -> State:
        return self.post("/add_device", bus_name=bus_name, device_name=name, kw=kw, **others)

    def disconnect(self, bus_name: str, name: str) -> State:
        return self.post("/disconnect_device", bus_name=bus_name, device_name=name)

    def add_generator(self, bus_name: str, name: str, kw: float, **others: Any) -> State:
        return self.post("/add_generator", bus_name=bus_name, generator_name=name, kw=kw, **others)

    def remove(self, name: str) -> State:
        return self.post("/remove_generator", generator_name=name)

    def pin_1(self, factor: float) -> State:
        """Every load of neighbourhood 1 at a multiple of its nominal demand, as constant power."""
        state: State = {}
        for bus_name, kw in LOADS_1.items():
            body = {"bus_name": bus_name, "load_name": f"Load_{bus_name}"}
            state = self.post("/modify_load_household", **body, new_kw=factor * kw)
        return state

    def restore(self) -> None:
        """Whatever has been added is gone, and nothing is pinned."""
        for details in self.state()["bus_details"]:
            for device in details["devices"]:
                self.disconnect(details["bus"], device["name"])
            for generator in details["generators"]:
                self.remove(generator["name"])
            if any(load["source"] == "operator" for load in details["loads"]):
                self.post("/release_load", bus_name=details["bus"])


@pytest.fixture(scope="module")
def running() -> Iterator[System]:
    """A system without meters, so that nothing moves by itself."""
    with system(feeders_dir=FEEDERS) as started:
        yield started


@pytest.fixture
def operator(running: System) -> Iterator[Operator]:
    with patience.client(running.url) as client:
        found = Operator(client)
        before = demands(found.state())
        yield found
        found.restore()
        after = found.state()
        assert demands(after) == before
        assert all(load["held_by"] == [] for load in loads(after).values())
    assert "Traceback" not in running.log.read_text(encoding="utf-8")


@pytest.fixture
def listener(running: System) -> Iterator[MqttClient]:
    """Somebody who hears every setpoint and alert."""
    with MqttClient(running.mqtt_port, protocol="3.1.1") as client:
        client.subscribe(f"{SETPOINT}/#")
        client.subscribe(ALERT)
        yield client


@pytest.fixture
def fresh() -> Iterator[Operator]:
    """A system of the test's own: what regulators do depends on what they have done."""
    with (
        system(feeders_dir=FEEDERS) as started,
        patience.client(started.url) as client,
    ):
        yield Operator(client)


@pytest.fixture(scope="module")
def careless() -> Iterator[Operator]:
    """A system for what may leave regulators where no other test wants them."""
    with (
        system(feeders_dir=FEEDERS) as started,
        patience.client(started.url) as client,
    ):
        yield Operator(client)


def transformer(state: State, name: str) -> Json:
    found: Json = next(t for t in state["transformers"] if t["name"] == name)
    return found


def device(state: State, bus_name: str) -> Json:
    """The only device of a bus."""
    [found] = bus(state, bus_name)["devices"]
    return dict(found)


def generator(state: State, bus_name: str) -> Json:
    """The only generator of a bus."""
    [found] = bus(state, bus_name)["generators"]
    return dict(found)


def said_of(state: State, zone: str) -> list[str]:
    """Lines of the management log that name a zone."""
    return [line for line in state["management_status"]["management_log"] if zone in line]


def assert_at_rating(state: State, zone: str) -> None:
    """Relieved by the least that does it: 99.5 to 100 %, but for what regulators make of it."""
    found = transformer(state, zone)
    assert found["status"] == "OK"
    assert 98.5 <= found["loading_percent"] <= 100.0
    [line] = said_of(state, zone)
    assert line.startswith(f"relief: zone {zone} would ")
    assert f"of {found['rating_kva']:g} kVA" in line


def newest(client: MqttClient, bus_name: str, name: str) -> Setpoint | None:
    """The last setpoint that was heard; None where there is none."""
    heard = client.on(f"{SETPOINT}/{bus_name}/{name}")
    payload = heard[-1].payload if heard else b""
    return Setpoint.model_validate_json(payload) if payload else None


def wait_for_setpoint(client: MqttClient, bus_name: str, name: str) -> Setpoint:
    wait_until(lambda: newest(client, bus_name, name) is not None, f"a setpoint of {name}")
    found = newest(client, bus_name, name)
    assert found is not None
    return found


def alerts(client: MqttClient, subject: str) -> list[Alert]:
    """What was told of a subject."""
    told = [Alert.model_validate_json(message.payload) for message in client.on(ALERT)]
    return [alert for alert in told if subject in alert.subject]


class TestOverload:
    """160 kW and 80 kvar leave 50.3 kW to a device at 225 kVA, if voltages were nominal."""

    def test_a_device_that_overloads_a_service_transformer_is_held_down(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        state = operator.add_device("1", "charger", 120.0)
        assert_at_rating(state, ZONE_1)
        assert state["management_status"]["status"] == "OK"
        assert "devices -" in said_of(state, ZONE_1)[0]
        charger = device(state, "1")
        assert charger["held_by"] == [ZONE_1]
        assert charger["demand_kw"] == 120.0
        assert charger["set_kw"] == pytest.approx(50.3, abs=5.0)
        assert charger["kw"] == pytest.approx(charger["set_kw"], abs=0.1)
        setpoint = wait_for_setpoint(listener, "1", "charger")
        assert setpoint.max_kw == pytest.approx(charger["set_kw"], rel=0.005)
        assert (setpoint.pf, setpoint.reason) == (None, ZONE_1)

    def test_the_setpoint_is_retained(self, running: System, operator: Operator) -> None:
        state = operator.add_device("1", "charger", 120.0)
        topic = f"{SETPOINT}/1/charger"
        with MqttClient(running.mqtt_port, protocol="3.1.1") as device_itself:
            # It may come a moment before the setpoint does, and is told all the same.
            device_itself.subscribe(topic)
            device_itself.first_on(topic)
        with MqttClient(running.mqtt_port, protocol="3.1.1") as late:
            late.subscribe(topic)
            message = late.first_on(topic)
        assert message.retain
        assert orjson.loads(message.payload)["max_kw"] == pytest.approx(
            device(state, "1")["set_kw"], rel=0.005
        )

    def test_when_the_device_goes_its_setpoint_is_lifted(
        self, running: System, operator: Operator, listener: MqttClient
    ) -> None:
        before = demands(operator.state())
        operator.add_device("1", "charger", 120.0)
        wait_for_setpoint(listener, "1", "charger")
        state = operator.disconnect("1", "charger")
        assert transformer(state, ZONE_1)["loading_percent"] < 95.0
        assert demands(state) == before
        topic = f"{SETPOINT}/1/charger"
        wait_until(lambda: listener.on(topic)[-1].payload == b"", "it is lifted")

    def test_when_its_demand_falls_its_setpoint_is_lifted(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """A reading below 0.9 of the setpoint is no obedience but demand."""
        operator.add_device("1", "charger", 120.0)
        wait_for_setpoint(listener, "1", "charger")
        listener.publish(f"{METER}/1/charger", b'{"kw": 20.0}')
        wait_until(lambda: newest(listener, "1", "charger") is None, "it is lifted")
        # The state is on its way to the gateway, as the setpoint was on its way here.
        wait_until(lambda: device(operator.state(), "1")["demand_kw"] == 20.0, "it is read")
        state = operator.state()
        charger = device(state, "1")
        assert (charger["demand_kw"], charger["set_kw"], charger["held_by"]) == (20.0, 20.0, [])
        assert transformer(state, ZONE_1)["loading_percent"] < 95.0

    def test_a_device_that_obeys_stays_held(self, operator: Operator, listener: MqttClient) -> None:
        operator.add_device("250", "marker", 1.0)
        operator.add_device("1", "charger", 120.0)
        setpoint = wait_for_setpoint(listener, "1", "charger")
        assert setpoint.max_kw is not None
        for share in (1.0, 0.95, 1.04):
            kw = round(share * setpoint.max_kw, 3)
            listener.publish(f"{METER}/1/charger", orjson.dumps({"kw": kw}))
            listener.publish(f"{METER}/250/marker", orjson.dumps({"kw": share}))
            wait_until(lambda: device(operator.state(), "250")["demand_kw"] == share, "both came")  # noqa: B023
            charger = device(operator.state(), "1")
            assert charger["demand_kw"] == 120.0
            assert charger["held_by"] == [ZONE_1]
        assert newest(listener, "1", "charger") == setpoint

    def test_it_stays_held_until_95_percent(self, operator: Operator) -> None:
        """With 45 kW it would carry 220 kVA, which is 98 %; with 25 kW 202 kVA, which is 90 %."""
        operator.add_device("1", "charger", 120.0)
        pin = {"bus_name": "1", "load_name": "charger", "new_kvar": 0.0}
        state = operator.post("/modify_load_household", **pin, new_kw=45.0)
        assert 95.0 < transformer(state, ZONE_1)["loading_percent"] <= 100.0
        assert "stays until 95 %" in said_of(state, ZONE_1)[0]
        state = operator.post("/modify_load_household", **pin, new_kw=25.0)
        assert transformer(state, ZONE_1)["loading_percent"] < 95.0
        assert said_of(state, ZONE_1)[0].endswith(": lifted")
        assert said_of(operator.post("/run_simulation"), ZONE_1) == []

    def test_two_devices_give_pro_rata(self, operator: Operator) -> None:
        operator.add_device("1", "charger", 60.0)
        state = operator.add_device("3", "heater", 120.0)
        assert_at_rating(state, ZONE_1)
        charger, heater = device(state, "1"), device(state, "3")
        assert heater["set_kw"] == pytest.approx(2 * charger["set_kw"], rel=1e-3)

    def test_loads_give_where_devices_have_given_all(self, operator: Operator) -> None:
        """Half as much again as nominal: 240 kW and 120 kvar."""
        operator.add_device("3", "heater", 30.0)
        state = operator.pin_1(1.5)
        assert_at_rating(state, ZONE_1)
        assert state["management_status"]["status"] == "OK"
        assert device(state, "3")["set_kw"] == 0.0
        shares = {
            bus_name: loads(state)[bus_name, f"Load_{bus_name}"]["set_kw"] / (1.5 * kw)
            for bus_name, kw in LOADS_1.items()
        }
        assert all(0.5 < share < 1.0 for share in shares.values())
        assert max(shares.values()) == pytest.approx(min(shares.values()), rel=1e-3)

    def test_a_transformer_of_the_feeder_is_relieved_too(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """XFM1 has 150 kVA, and nothing behind it but what comes there."""
        state = operator.add_device("610", "pump", 400.0)
        assert_at_rating(state, "XFM1")
        assert device(state, "610")["set_kw"] == pytest.approx(150.0, rel=0.01)
        setpoint = wait_for_setpoint(listener, "610", "pump")
        assert setpoint.reason == "XFM1"
        assert setpoint.max_kw == pytest.approx(149.6, rel=0.01)

    def test_a_device_of_any_size_is_held_down(self, operator: Operator) -> None:
        """A GW is a slip of the pen; no power flow has a solution with it. It gets what is left,
        though that is less than a ten-thousandth of it.
        """
        for bus_name, zone in (("1", ZONE_1), ("610", "XFM1")):
            state = operator.add_device(bus_name, "slip", 1e6)
            assert state["converged"]
            assert 99.4 <= transformer(state, zone)["loading_percent"] <= 100.0
            assert device(state, bus_name)["held_by"] == [zone]
            assert operator.disconnect(bus_name, "slip")["converged"]

    def test_what_the_view_says_is_held(self, operator: Operator) -> None:
        state = operator.add_device("1", "charger", 120.0)
        views = results(operator.http.get("/transformers"))
        [view] = [each for each in views if each["name"] == ZONE_1]
        set_kw = device(state, "1")["set_kw"]
        assert view["holds"] == [
            {
                "bus": "1",
                "element": "charger",
                "kind": "device",
                "wanted_kw": 120.0,
                "set_kw": set_kw,
            }
        ]


class TestNothingMoreToGive:
    """Three times nominal is 480 kW and 240 kvar: at half of it still 268 kVA of 225."""

    def test_it_is_an_alert_that_names_the_zone(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        state = operator.pin_1(3.0)
        found = transformer(state, ZONE_1)
        assert found["status"] == "OVERLOADED"
        assert found["loading_kva"] == pytest.approx(268.3, abs=0.5)
        assert state["management_status"]["status"] == "ALERT"
        overload, relief = said_of(state, ZONE_1)
        assert overload.startswith(f"overload: transformer {ZONE_1}")
        assert relief.endswith("still over: nothing more to give")
        for bus_name, kw in LOADS_1.items():
            load = loads(state)[bus_name, f"Load_{bus_name}"]
            assert load["set_kw"] == pytest.approx(1.5 * kw)
            assert load["held_by"] == [ZONE_1]
        wait_until(lambda: bool(alerts(listener, ZONE_1)), "it has begun")
        operator.restore()
        wait_until(lambda: len(alerts(listener, ZONE_1)) == 2, "it has ended")
        begin, end = alerts(listener, ZONE_1)
        assert (begin.kind, begin.event, begin.limit) == ("overload", "begin", 100.0)
        assert (end.kind, end.event) == ("overload", "end")
        assert ZONE_1 in begin.message
        assert begin.value is not None
        assert begin.value > 100.0
        assert end.at > begin.at
        assert end.version > begin.version
        assert operator.state()["management_status"]["status"] == "OK"

    def test_what_is_over_is_among_the_violations(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        state = operator.pin_1(3.0)
        found = results(operator.http.get("/violations"))
        assert found["transformers"] == [transformer(state, ZONE_1)]
        operator.restore()
        # What comes back before an alert has ended is no other one.
        wait_until(lambda: bool(alerts(listener, ZONE_1)), "it is told")
        wait_until(lambda: alerts(listener, ZONE_1)[-1].event == "end", "it has ended")


class TestExport:
    def test_generation_is_curtailed_to_what_the_transformer_carries(
        self, operator: Operator, listener: MqttClient
    ) -> None:
        """At 80 kvar of load, 225 kVA are 210 kW of export: 370 kW with what the loads draw."""
        state = operator.add_generator("1", "PV", 600.0)
        assert_at_rating(state, ZONE_1)
        assert state["management_status"]["status"] == "OK"
        assert "would export" in said_of(state, ZONE_1)[0]
        found = generator(state, "1")
        assert (found["available_kw"], found["held_by"]) == (600.0, [ZONE_1])
        assert found["set_kw"] == pytest.approx(370.0, abs=10.0)
        assert bus(state, "1")["gen_kw"] == pytest.approx(found["set_kw"], abs=0.4)
        assert all(load["held_by"] == [] for load in loads(state).values())
        setpoint = wait_for_setpoint(listener, "1", "PV")
        assert setpoint.reason == ZONE_1
        assert setpoint.max_kw == pytest.approx(found["set_kw"], rel=0.005)
        operator.remove("PV")
        wait_until(lambda: newest(listener, "1", "PV") is None, "its setpoint is lifted")

    def test_kw_and_kvar_go_down_together(self, operator: Operator) -> None:
        state = operator.add_generator("1", "PV", 600.0, kvar=150.0)
        found = generator(state, "1")
        assert found["kw"] < 500.0
        assert found["kvar"] == pytest.approx(found["kw"] / 4, rel=2e-3)

    def test_generators_of_a_zone_give_pro_rata(self, operator: Operator) -> None:
        operator.add_generator("1", "PV_1", 200.0)
        state = operator.add_generator("3", "PV_3", 400.0)
        assert_at_rating(state, ZONE_1)
        one, three = generator(state, "1"), generator(state, "3")
        assert three["set_kw"] == pytest.approx(2 * one["set_kw"], rel=1e-3)

    def test_generation_that_serves_the_zone_is_not_curtailed(self, operator: Operator) -> None:
        state = operator.add_generator("1", "PV", 300.0)
        assert generator(state, "1")["held_by"] == []
        assert said_of(state, ZONE_1) == []

    @pytest.mark.parametrize("kw", [200.0, 1000.0, 2000.0])
    def test_behind_a_transformer_of_the_feeder_it_is_curtailed_likewise(
        self, operator: Operator, kw: float
    ) -> None:
        """XFM1 has 150 kVA. What it loses itself goes with the square of what it carries."""
        state = operator.add_generator("610", "PV", kw)
        assert_at_rating(state, "XFM1")
        assert generator(state, "610")["set_kw"] == pytest.approx(151.0, rel=0.02)


class TestOvervoltage:
    """Bus 61 is in no neighbourhood, so that no rating limits what is generated there."""

    def test_generation_is_curtailed_until_voltages_are_at_their_limit(
        self, fresh: Operator
    ) -> None:
        state = fresh.add_generator("61", "PV", 2000.0)
        found = generator(state, "61")
        assert found["held_by"] == ["overvoltage"]
        assert 1000.0 < found["set_kw"] < 2000.0
        assert found["kw"] == pytest.approx(found["set_kw"], rel=1e-3)
        assert 1.0495 <= state["voltage_profile"]["max_voltage_pu"] <= 1.0505
        assert state["voltage_profile"]["violations"] == []
        assert state["management_status"]["status"] == "OK"
        [line] = said_of(state, "overvoltage")
        assert line.startswith("overvoltage: generation curtailed to ")
        assert "at limit 1.05 pu" in line
        state = fresh.remove("PV")
        assert said_of(state, "curtailed") == []
        assert state["converged"]

    def test_its_setpoint_says_why(self, fresh: Operator) -> None:
        fresh.add_generator("61", "PV", 2000.0)
        view = results(fresh.http.get("/buses/61"))["generators"][0]
        assert view["held_by"] == ["overvoltage"]


class TestSlipsOfThePen:
    """Generators of which no feeder of this size has any: W for kW, or a digit too many."""

    @pytest.mark.parametrize(
        ("bus_name", "zone", "kw"),
        [
            ("1", ZONE_1, 50_000.0),
            ("1", ZONE_1, 1e6),
            ("66", "neighbourhood_9", 7_500.0),
            ("66", "neighbourhood_9", 100_000.0),
            ("300", "neighbourhood_16", 10_000.0),
            ("300", "neighbourhood_16", 1e6),
        ],
    )
    def test_what_is_far_too_large_is_curtailed_and_leaves_no_trace(
        self, careless: Operator, bus_name: str, zone: str, kw: float
    ) -> None:
        state = careless.add_generator(bus_name, "slip", kw)
        gone = careless.remove("slip")
        assert zone in generator(state, bus_name)["held_by"]
        assert transformer(state, zone)["loading_percent"] <= 100.5
        assert state["voltage_profile"]["min_voltage_pu"] > 0.9
        assert gone["converged"]
        assert gone["management_status"]["status"] != "ERROR"
