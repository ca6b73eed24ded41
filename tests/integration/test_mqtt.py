"""What devices, head-ends and callers meet on the bus of a running system, on either broker.

On the embedded broker a 3.1.1 subscriber must not meet an MQTT 5 message with properties, so
nobody listens to command topics here, and each caller to its own reply topic only.
"""

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from support import (
    FEEDER,
    LoadName,
    MqttClient,
    State,
    assert_error,
    demands,
    loads,
    mqtt,
    results,
)

from flexfeeder.testing import System, wait_until
from schemas.replies import ServiceStatus
from schemas.state import State as StateModel
from schemas.topology import Topology

COMMAND = f"flexfeeder/{FEEDER}/command"
METER = f"flexfeeder/{FEEDER}/meter"
METERS = f"flexfeeder/{FEEDER}/meters"
STATE = f"flexfeeder/{FEEDER}/state"
SOLVER_STATUS = f"flexfeeder/service/solver-{FEEDER}/status"

LOAD_1 = ("1", "Load_1")
PIN_1 = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}

MARKER = ("10", "Load_10")
"""This load gets readings that tell which earlier ones have been taken: they come in order. Nobody
asks it for less, in any test: for two minutes its readings might be taken for obedience.
"""
_marks = itertools.count(1)


@pytest.fixture(params=["3.1.1", "5"])
def caller(request: pytest.FixtureRequest, running: System) -> Iterator[MqttClient]:
    """A client that sends commands, by either protocol."""
    with mqtt(running, request.param) as client:
        yield client


@pytest.fixture
def caller5(running: System) -> Iterator[MqttClient]:
    """A client that speaks MQTT 5."""
    with mqtt(running, "5") as client:
        yield client


@pytest.fixture
def meter(running: System) -> Iterator[MqttClient]:
    """A device: it speaks MQTT 3.1.1, and listens to nothing."""
    with MqttClient(running.mqtt_port, protocol="3.1.1") as client:
        yield client


def state_of(http: httpx.Client) -> State:
    state: State = results(http.get("/get_state"))
    return state


def reading(kw: Any, at: datetime | None = None, **others: Any) -> bytes:
    content = {"kw": kw, **others}
    if at is not None:
        content["at"] = at
    return orjson.dumps(content)


def topic_of(load: LoadName) -> str:
    return f"{METER}/{load[0]}/{load[1]}"


def wait_for_demand(http: httpx.Client, load: LoadName, kw: float) -> dict[str, Any]:
    """The load, once its demand is that."""

    def found() -> dict[str, Any]:
        return loads(state_of(http))[load]

    wait_until(lambda: found()["demand_kw"] == kw, f"{load} demands {kw} kW")
    return found()


def settle(http: httpx.Client, client: MqttClient) -> State:
    """The state once everything that this client has sent to meter topics is in it."""
    kw = 10.0 + next(_marks) / 1000
    client.publish(topic_of(MARKER), reading(kw))
    wait_for_demand(http, MARKER, kw)
    return state_of(http)


def without_marker(state: State) -> dict[LoadName, tuple[float, float, float, str]]:
    return {name: demand for name, demand in demands(state).items() if name != MARKER}


def figure(client: MqttClient, name: str) -> float:
    """A counter from the solver's newest heartbeat."""
    wait_until(lambda: bool(client.on(SOLVER_STATUS)), "the solver's heartbeat")
    figures = orjson.loads(client.on(SOLVER_STATUS)[-1].payload)["figures"]
    return float(figures.get(name, 0.0))


def hear_a_fresh_heartbeat(client: MqttClient) -> None:
    """Heartbeats are a second apart: wait for one that knows of everything so far.

    The next one may have been on its way already.
    """
    client.first_on(SOLVER_STATUS)
    heard = len(client.on(SOLVER_STATUS))
    wait_until(lambda: len(client.on(SOLVER_STATUS)) > heard + 1, "a fresh heartbeat")


def take_name_away(port: int, client_id: str) -> None:
    """Connect under the name of another client, which the broker then disconnects, and leave."""
    name = client_id.encode()
    variable = b"\x00\x04MQTT\x05\x02\x00\x0a\x00" + len(name).to_bytes(2, "big") + name
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"\x10" + bytes([len(variable)]) + variable)
        assert sock.recv(1) == b"\x20", "CONNACK"
        with contextlib.suppress(OSError):  # the other may have taken it back already
            sock.sendall(b"\xe0\x00")
            # As long as the broker has not noticed, it may take who comes next for who has left.
            while sock.recv(4096):
                pass


class TestCommands:
    def test_a_load_is_pinned_and_released(self, http: httpx.Client, caller: MqttClient) -> None:
        before = demands(state_of(http))
        reply = caller.ask("set_load", PIN_1)
        assert reply["status"] == "success"
        assert reply["buses"] == ["1"]
        wait_until(lambda: state_of(http)["version"] >= reply["version"], "the state is there")
        assert demands(state_of(http))[LOAD_1] == (5.0, 5.0, 1.0, "operator")
        released = caller.ask("release_load", {"bus_name": "1", "load_name": "Load_1"})
        assert released["version"] > reply["version"]
        wait_until(lambda: state_of(http)["version"] >= released["version"], "the state is there")
        assert demands(state_of(http)) == before

    def test_a_factor_is_set(self, http: httpx.Client, caller: MqttClient) -> None:
        reply = caller.ask("set_factor", {"neighbourhood": 1, "factor": 0.8})
        assert set(reply["buses"]) == {"1", "2", "4", "5", "6"}
        wait_for_demand(http, LOAD_1, 32.0)
        assert caller.ask("set_factor", {"bus_name": "1", "factor": 0.5})["buses"] == ["1"]
        wait_for_demand(http, LOAD_1, 20.0)

    def test_run_simulation_takes_an_empty_message(self, caller5: MqttClient) -> None:
        reply = caller5.send(f"{COMMAND}/run_simulation", b"")
        assert reply["status"] == "success"
        assert caller5.send(f"{COMMAND}/run_simulation", b"{}")["version"] > reply["version"]

    def test_a_command_at_qos_0_is_answered_too(self, caller: MqttClient) -> None:
        assert caller.ask("run_simulation", {}, qos=0)["status"] == "success"

    def test_correlation_data_and_request_id_are_echoed(self, caller5: MqttClient) -> None:
        content = orjson.dumps({"request_id": "mine:1"})
        reply = caller5.send(f"{COMMAND}/run_simulation", content)
        assert reply["request_id"] == "mine:1"

    def test_a_reply_topic_may_have_levels_below_the_client(self, caller5: MqttClient) -> None:
        topic = f"{caller5.reply_topic}/set_load/17"
        caller5.publish(f"{COMMAND}/run_simulation", b"", response_topic=topic)
        assert orjson.loads(caller5.first_on(topic).payload)["status"] == "success"

    def test_reply_to_in_an_mqtt_5_message_will_do(self, caller5: MqttClient) -> None:
        envelope = {"request_id": "a", "reply_to": caller5.reply_topic}
        caller5.publish(f"{COMMAND}/run_simulation", orjson.dumps(envelope))
        assert caller5.reply_to("a")["status"] == "success"
        envelope["request_id"] = "b"
        caller5.publish(
            f"{COMMAND}/run_simulation",
            orjson.dumps(envelope),
            response_topic=caller5.reply_topic,
        )
        assert caller5.reply_to("b")["status"] == "success"

    def test_a_command_that_wants_no_answer_is_carried_out(
        self, http: httpx.Client, caller: MqttClient
    ) -> None:
        caller.publish(f"{COMMAND}/set_load", orjson.dumps(PIN_1))
        wait_for_demand(http, LOAD_1, 5.0)
        assert caller.heard == []

    def test_a_command_before_its_deadline_is_carried_out(self, caller: MqttClient) -> None:
        now = datetime.now(UTC)
        envelope = {"issued_at": now, "deadline": now + timedelta(seconds=30)}
        assert caller.ask("run_simulation", envelope)["status"] == "success"

    def test_names_are_compared_without_case(self, http: httpx.Client, caller: MqttClient) -> None:
        reply = caller.ask("set_load", {**PIN_1, "load_name": "LOAD_1", "feeder": "IEEE123"})
        assert reply["status"] == "success"
        wait_for_demand(http, LOAD_1, 5.0)


class TestReadings:
    @pytest.mark.parametrize("qos", [0, 1])
    def test_a_reading_is_the_demand(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName, qos: int
    ) -> None:
        meter.publish(topic_of(unmetered), reading(12.5, kvar=3.0), qos=qos)
        load = wait_for_demand(http, unmetered, 12.5)
        assert load["source"] == "meter"
        assert load["set_kw"] == 12.5
        assert load["kw"] == pytest.approx(12.5, abs=0.0125)
        assert load["kvar"] == pytest.approx(3.0, abs=0.01)
        assert results(http.post("/run_simulation"))["oldest_reading_s"] > 0

    @pytest.mark.parametrize("qos", [0, 1])
    def test_a_batch_is_the_demand_of_many(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName, qos: int
    ) -> None:
        at = datetime.now(UTC).isoformat()
        batch = [
            {"bus": MARKER[0], "element": MARKER[1], "kw": 3.0 + qos, "at": at},
            {"bus": unmetered[0], "element": unmetered[1].upper(), "kw": 4.0, "kvar": 1.0},
        ]
        meter.publish(METERS, orjson.dumps({"readings": batch}), qos=qos)
        assert wait_for_demand(http, unmetered, 4.0)["source"] == "meter"
        wait_for_demand(http, MARKER, 3.0 + qos)

    def test_a_bad_address_in_a_batch_spoils_no_other_reading(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName
    ) -> None:
        batch = [
            {"bus": "9999", "element": "x", "kw": 1.0},
            {"bus": unmetered[0], "element": "x", "kw": 1.0},
            {"bus": unmetered[0], "element": unmetered[1], "kw": 6.5},
        ]
        meter.publish(METERS, orjson.dumps({"readings": batch}))
        wait_for_demand(http, unmetered, 6.5)

    def test_without_kvar_the_nominal_power_factor_is_kept(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName
    ) -> None:
        nominal = loads(state_of(http))[unmetered]
        meter.publish(topic_of(unmetered), reading(10.0))
        load = wait_for_demand(http, unmetered, 10.0)
        expected = 10.0 * nominal["kvar"] / nominal["kw"]
        assert load["kvar"] == pytest.approx(expected, rel=2e-3)

    def test_an_export_is_a_negative_reading(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName
    ) -> None:
        meter.publish(topic_of(unmetered), reading(-8.0, kvar=0.0))
        assert wait_for_demand(http, unmetered, -8.0)["kw"] == pytest.approx(-8.0, abs=0.01)

    def test_the_newest_at_holds_whatever_comes_later(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName
    ) -> None:
        now = datetime.now(UTC)
        meter.publish(topic_of(unmetered), reading(11.0, now))
        wait_for_demand(http, unmetered, 11.0)
        meter.publish(topic_of(unmetered), reading(22.0, now - timedelta(seconds=1)))
        assert demands(settle(http, meter))[unmetered][0] == 11.0
        meter.publish(topic_of(unmetered), reading(33.0, now + timedelta(seconds=1)))
        wait_for_demand(http, unmetered, 33.0)

    def test_a_reading_from_the_future_is_refused(
        self, http: httpx.Client, meter: MqttClient, unmetered: LoadName
    ) -> None:
        before = without_marker(settle(http, meter))
        now = datetime.now(UTC)
        meter.publish(topic_of(unmetered), reading(22.0, now + timedelta(seconds=75)))
        assert without_marker(settle(http, meter)) == before
        meter.publish(topic_of(unmetered), reading(23.0, now + timedelta(seconds=30)))
        wait_for_demand(http, unmetered, 23.0)

    def test_a_retained_reading_without_time_never_overrides(
        self, running: System, http: httpx.Client, meter: MqttClient, unmetered: LoadName
    ) -> None:
        """The solver hears it again whenever it comes back, here because another client takes
        its name away for a moment.
        """
        topic = topic_of(unmetered)
        meter.publish(topic, reading(11.0), retain=True)
        wait_for_demand(http, unmetered, 11.0)
        meter.publish(topic, reading(22.0))
        wait_for_demand(http, unmetered, 22.0)
        with mqtt(running, "5") as watcher:
            watcher.subscribe(SOLVER_STATUS)
            hear_a_fresh_heartbeat(watcher)
            stale = figure(watcher, "readings_stale")
            take_name_away(running.mqtt5_port, f"solver-{FEEDER}-readings")
            wait_until(
                lambda: figure(watcher, "readings_stale") > stale, "it was heard and found stale"
            )
        meter.publish(topic, b"", retain=True)
        assert demands(settle(http, meter))[unmetered][0] == 22.0

    def test_a_pin_outranks_a_reading(
        self, http: httpx.Client, meter: MqttClient, caller5: MqttClient, unmetered: LoadName
    ) -> None:
        caller5.ask(
            "set_load", {"bus_name": unmetered[0], "load_name": unmetered[1], "new_kw": 5.0}
        )
        meter.publish(topic_of(unmetered), reading(17.0))
        assert demands(settle(http, meter))[unmetered] == (5.0, 5.0, 1.0, "operator")
        caller5.ask("release_load", {"bus_name": unmetered[0]})
        wait_for_demand(http, unmetered, 17.0)


class TestWhatIsRetained:
    def test_a_late_subscriber_hears_the_feeder_and_its_state(
        self, running: System, http: httpx.Client, caller: MqttClient
    ) -> None:
        topology_topic = f"flexfeeder/{FEEDER}/topology"
        for topic in (topology_topic, STATE, SOLVER_STATUS, "flexfeeder/service/+/status"):
            caller.subscribe(topic)
        topology = caller.first_on(topology_topic)
        assert topology.retain
        found = Topology.model_validate_json(topology.payload)
        assert (found.feeder, len(found.loads), len(found.neighbourhoods)) == (FEEDER, 91, 16)
        state = StateModel.model_validate_json(caller.first_on(STATE).payload)
        assert [b.bus for b in state.bus_details] == [b.bus for b in found.buses]
        status = ServiceStatus.model_validate_json(caller.first_on(SOLVER_STATUS).payload)
        assert (status.status, status.feeder) == ("online", FEEDER)
        assert status.pid == running.pid("solver")
        manager = caller.first_on("flexfeeder/service/dfp_manager/status")
        assert orjson.loads(manager.payload)["pid"] == running.pid("dfp_manager")

    def test_the_state_and_the_status_come_at_least_once_a_second(self, caller: MqttClient) -> None:
        """The first that comes is the retained one."""
        caller.subscribe(STATE)
        caller.subscribe(SOLVER_STATUS)

        def comes_again(topic: str) -> bool:
            return len(caller.on(topic)) >= 2

        for topic in (STATE, SOLVER_STATUS):
            wait_until(partial(comes_again, topic), topic)
        versions = [orjson.loads(message.payload)["version"] for message in caller.on(STATE)]
        assert versions == sorted(versions)
        assert figure(caller, "solves") > 0

    def test_its_version_is_a_user_property_where_the_broker_takes_one(
        self, request: pytest.FixtureRequest, caller5: MqttClient
    ) -> None:
        """The embedded broker breaks a 3.1.1 subscriber with it, so it gets none."""
        caller5.subscribe(STATE)
        caller5.ask("run_simulation", {})
        for message in caller5.on(STATE):
            found = getattr(message.properties, "UserProperty", [])
            version = str(orjson.loads(message.payload)["version"])
            on_mosquitto = "mosquitto" in request.node.callspec.id
            assert found == ([("version", version)] if on_mosquitto else [])


DEEP = b"[" * 10_000 + b"]" * 10_000
JUNK = bytes(range(256)) * 4
HUGE = b" " * 2_000_000

BAD_COMMANDS: dict[str, tuple[str, Any, str, str | None]] = {
    "no JSON": ("set_load", b"{", "not_json", None),
    "binary": ("set_load", JUNK, "not_json", None),
    "ten thousand levels": ("set_load", b'{"bus_name": ' + DEEP + b"}", "not_json", None),
    "2 MB": ("set_load", HUGE, "too_large", "message"),
    "a list": ("set_load", b"[]", "invalid_value", "message"),
    "null": ("run_simulation", b"null", "invalid_value", "message"),
    "nothing": ("set_load", b"", "invalid_value", "bus_name"),
    "kW as text": ("set_load", {**PIN_1, "new_kw": "5"}, "invalid_value", "new_kw"),
    "kW true": ("set_load", {**PIN_1, "new_kw": True}, "invalid_value", "new_kw"),
    "kW 1e30": ("set_load", {**PIN_1, "new_kw": 1e30}, "invalid_value", "new_kw"),
    "kvar -1e30": ("set_load", {**PIN_1, "new_kvar": -1e30}, "invalid_value", "new_kvar"),
    "bus a number": ("set_load", {**PIN_1, "bus_name": 1}, "invalid_value", "bus_name"),
    "bus a path": ("set_load", {**PIN_1, "bus_name": "1/2"}, "invalid_value", "bus_name"),
    "load two lines": (
        "set_load",
        {**PIN_1, "load_name": "Load_1\nclear"},
        "invalid_value",
        "load_name",
    ),
    "an unknown field": ("set_load", {**PIN_1, "kw": 1}, "invalid_value", "kw"),
    "factor 11": ("set_factor", {"bus_name": "1", "factor": 11}, "invalid_value", "factor"),
    "factor -1": ("set_factor", {"bus_name": "1", "factor": -1}, "invalid_value", "factor"),
    "two targets": (
        "set_factor",
        {"bus_name": "1", "neighbourhood": 1, "factor": 1},
        "invalid_value",
        None,
    ),
    "no target": ("set_factor", {"factor": 1}, "invalid_value", None),
    "unknown bus": ("set_load", {**PIN_1, "bus_name": "9999"}, "bus_not_found", "bus_name"),
    "unknown load": ("set_load", {**PIN_1, "load_name": "x"}, "load_not_found", "load_name"),
    "unknown neighbourhood": (
        "set_factor",
        {"neighbourhood": 99, "factor": 1},
        "neighbourhood_not_found",
        "neighbourhood",
    ),
    "another feeder": (
        "set_load",
        {**PIN_1, "feeder": "ieee13"},
        "feeder_not_found",
        "feeder",
    ),
    "deadline no time": (
        "set_load",
        {**PIN_1, "deadline": "soon"},
        "invalid_value",
        "deadline",
    ),
    "deadline without zone": (
        "set_load",
        {**PIN_1, "deadline": "2026-11-22T10:00:00"},
        "invalid_value",
        "deadline",
    ),
    "deadline passed": (
        "set_load",
        {**PIN_1, "deadline": "2020-01-01T00:00:00Z"},
        "deadline_passed",
        "deadline",
    ),
    "unknown command": ("explode", {}, "unknown_command", "command"),
    "command with levels": ("set_load/now", PIN_1, "unknown_command", "command"),
    "command in capitals": ("SET_LOAD", PIN_1, "unknown_command", "command"),
    "command of spaces": (" ", PIN_1, "unknown_command", "command"),
    "command without name": ("", PIN_1, "unknown_command", "command"),
}

ANSWERABLE = {name: case for name, case in BAD_COMMANDS.items() if isinstance(case[1], dict)}
"""Those in which a request id and a reply topic can be read."""

NO_NUMBERS = [b"NaN", b"Infinity", b"-Infinity", b"1e400"]

ELSEWHERE = [
    "elsewhere/answers",
    "flexfeeder/ieee123/alert",
    "flexfeeder/ieee123/setpoint/1/Load_1",
    "flexfeeder/reply",
    "flexfeeder/reply/",
    "flexfeeder/reply/a b",
    "flexfeeder/replies/a",
    "flexfeeder/reply/a/b/c/d/e/f",
]


class TestBadCommands:
    """Refused with a reason; the demand stays as it was, and the solver goes on."""

    @pytest.fixture(autouse=True)
    def _nothing_changes(self, http: httpx.Client, caller5: MqttClient) -> Iterator[None]:
        before = demands(state_of(http))
        yield
        reply = caller5.ask("run_simulation", {})
        assert reply["status"] == "success"
        wait_until(lambda: state_of(http)["version"] >= reply["version"], "the state is there")
        assert demands(state_of(http)) == before

    @pytest.mark.parametrize(
        ("command", "content", "code", "field"), BAD_COMMANDS.values(), ids=BAD_COMMANDS
    )
    def test_by_mqtt_5_each_is_told_what_is_wrong(
        self,
        caller5: MqttClient,
        command: str,
        content: bytes | dict[str, Any],
        code: str,
        field: str | None,
    ) -> None:
        payload = content if isinstance(content, bytes) else orjson.dumps(content)
        assert_error(caller5.send(f"{COMMAND}/{command}", payload), code, field)

    @pytest.mark.parametrize(
        ("command", "content", "code", "field"), ANSWERABLE.values(), ids=ANSWERABLE
    )
    def test_by_mqtt_3_each_is_told_what_is_wrong_where_it_says_whom_to_answer(
        self,
        running: System,
        command: str,
        content: dict[str, Any],
        code: str,
        field: str | None,
    ) -> None:
        with mqtt(running, "3.1.1") as caller:
            assert_error(caller.ask(command, content), code, field)

    @pytest.mark.parametrize("content", [JUNK, b"{", DEEP, HUGE, b"[]", b""])
    def test_what_cannot_be_answered_does_no_harm(self, meter: MqttClient, content: bytes) -> None:
        meter.publish(f"{COMMAND}/set_load", content)
        meter.publish(COMMAND, content)

    @pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda number: number.decode())
    def test_what_is_no_number(self, caller: MqttClient, number: bytes) -> None:
        """The rest of the message says whom to answer, so the sender hears of it."""
        fields = {**PIN_1, "new_kw": "?", "request_id": "a", "reply_to": caller.reply_topic}
        payload = orjson.dumps(fields).replace(b'"?"', number)
        caller.publish(f"{COMMAND}/set_load", payload)
        assert_error(caller.reply_to("a"), "invalid_value", "new_kw")

    @pytest.mark.parametrize("number", NO_NUMBERS, ids=lambda number: number.decode())
    def test_what_is_no_number_with_a_response_topic(
        self, caller5: MqttClient, number: bytes
    ) -> None:
        payload = orjson.dumps({**PIN_1, "new_kw": "?"}).replace(b'"?"', number)
        assert_error(caller5.send(f"{COMMAND}/set_load", payload), "invalid_value", "new_kw")

    @pytest.mark.parametrize("topic", ELSEWHERE)
    def test_nothing_is_answered_or_done_for_a_response_topic_elsewhere(
        self, caller5: MqttClient, topic: str
    ) -> None:
        caller5.subscribe(topic)
        caller5.publish(f"{COMMAND}/set_load", orjson.dumps(PIN_1), response_topic=topic)
        assert caller5.ask("run_simulation", {})["status"] == "success"
        assert caller5.on(topic) == []

    @pytest.mark.parametrize("topic", [*ELSEWHERE, "", "flexfeeder/reply/#", "+/#", "a" * 600])
    def test_nothing_is_answered_or_done_for_a_reply_to_elsewhere(
        self, caller: MqttClient, topic: str
    ) -> None:
        can_be_heard = topic and "#" not in topic and len(topic) < 100
        if can_be_heard:
            caller.subscribe(topic)
        envelope = {"request_id": "a", "reply_to": topic}
        caller.publish(f"{COMMAND}/set_load", orjson.dumps({**PIN_1, **envelope}))
        assert caller.ask("run_simulation", {})["status"] == "success"
        assert {message.topic for message in caller.heard} == {caller.reply_topic}
        assert len(caller.heard) == 1

    def test_a_reply_to_that_differs_from_the_response_topic_is_refused(
        self, caller5: MqttClient
    ) -> None:
        """The answer goes to the response topic, which the broker lets the sender use."""
        other = f"{caller5.reply_topic}/other"
        content = orjson.dumps({**PIN_1, "reply_to": other})
        reply = caller5.send(f"{COMMAND}/set_load", content)
        assert_error(reply, "reply_topic_refused", "reply_to")
        assert caller5.on(other) == []

    @pytest.mark.parametrize("request_id", ["a b", "", "é", "x" * 129, 5, None, ["a"]])
    def test_a_request_id_of_another_form_is_no_name_for_an_answer(
        self, caller5: MqttClient, request_id: Any
    ) -> None:
        content = orjson.dumps({**PIN_1, "new_kw": "x", "request_id": request_id})
        assert_error(caller5.send(f"{COMMAND}/set_load", content), "invalid_value", "new_kw")


BAD_READINGS = {
    "no JSON": b"{",
    "nothing": b"",
    "binary": JUNK,
    "ten thousand levels": b'{"kw": ' + DEEP + b"}",
    "2 MB": HUGE,
    "2 MB of text": b'{"kw": 1.0, "at": "' + b"2" * 2_000_000 + b'"}',
    "a list": b"[1.0]",
    "a number": b"1.0",
    "null": b"null",
    "kW missing": b"{}",
    "kW as text": b'{"kw": "1.0"}',
    "kW true": b'{"kw": true}',
    "kW null": b'{"kw": null}',
    "kW NaN": b'{"kw": NaN}',
    "kW Infinity": b'{"kw": Infinity}',
    "kW 1e400": b'{"kw": 1e400}',
    "kW 1e30": b'{"kw": 1e30}',
    "kvar NaN": b'{"kw": 1.0, "kvar": NaN}',
    "kvar 1e30": b'{"kw": 1.0, "kvar": -1e30}',
    "demand 1e30": b'{"kw": 1.0, "demand_kw": 1e30}',
    "an unknown field": b'{"kw": 1.0, "volts": 240}',
    "at no time": b'{"kw": 1.0, "at": "noon"}',
    "at without zone": b'{"kw": 1.0, "at": "2026-11-22T10:00:00"}',
    "at far too late": b'{"kw": 1.0, "at": "9999-12-31T23:59:59Z"}',
    "at 1e300": b'{"kw": 1.0, "at": 1e300}',
}

BAD_BATCHES = {
    "a list": b"[]",
    "no list": b'{"readings": {}}',
    "no bus": b'{"readings": [{"element": "Load_1", "kw": 1.0}]}',
    "a bad bus": b'{"readings": [{"bus": "1 2", "element": "Load_1", "kw": 1.0}]}',
    "an element of two lines": (
        b'{"readings": [{"bus": "1", "element": "Load_1\\nclear", "kw": 1.0}]}'
    ),
    "a good one and a bad one": (
        b'{"readings": [{"bus": "1", "element": "Load_1", "kw": 1.0},'
        b' {"bus": "1", "element": "Load_1", "kw": NaN}]}'
    ),
    "too many": b'{"readings": [' + b"{}," * 10_000 + b"{}]}",
    "binary": JUNK,
    "ten thousand levels": DEEP,
    "5 MB": b" " * 5_000_000,
}

BAD_METER_TOPICS = [
    METER,
    f"{METER}/",
    f"{METER}/1",
    f"{METER}/1/",
    f"{METER}//Load_1",
    f"{METER}/1/2/3",
    f"{METER}/1/Load_1/kw",
    f"{METER}/9999/Load_1",
    f"{METER}/1/Load_2",
    f"{METER}/149/x",
    f"{METER}/1/Load 1",
    f'{METER}/1/"Load_1"',
    f"{METER}/1.1/Load_1",
    f"{METER}/é/Load_1",
    f"{METER}/{'a' * 1000}/Load_1",
    f"{METERS}/1/Load_1",
]


class TestBadReadings:
    """Counted and dropped; the demand stays as it was, and readings go on."""

    @pytest.fixture(autouse=True)
    def _nothing_changes(self, http: httpx.Client, meter: MqttClient) -> Iterator[None]:
        before = without_marker(state_of(http))
        yield
        assert without_marker(settle(http, meter)) == before

    @pytest.mark.parametrize("payload", BAD_READINGS.values(), ids=BAD_READINGS)
    def test_a_bad_reading(self, meter: MqttClient, payload: bytes) -> None:
        meter.publish(f"{METER}/1/Load_1", payload)

    @pytest.mark.parametrize("payload", BAD_BATCHES.values(), ids=BAD_BATCHES)
    def test_a_bad_batch(self, meter: MqttClient, payload: bytes) -> None:
        meter.publish(METERS, payload)

    @pytest.mark.parametrize("topic", BAD_METER_TOPICS)
    def test_a_bad_topic(self, meter: MqttClient, topic: str) -> None:
        meter.publish(topic, reading(1.0))

    def test_what_is_refused_is_counted_by_reason(
        self, running: System, http: httpx.Client, meter: MqttClient
    ) -> None:
        reasons = ("invalid", "topic", "too_large", "future", "unknown_bus", "unknown_element")
        with mqtt(running, "5") as watcher:
            watcher.subscribe(SOLVER_STATUS)
            settle(http, meter)
            hear_a_fresh_heartbeat(watcher)
            before = {reason: figure(watcher, f"readings_{reason}") for reason in reasons}
            ahead = datetime.fromtimestamp(time.time() + 100, UTC)
            meter.publish(f"{METER}/1/Load_1", b"{")
            meter.publish(f"{METER}/1", reading(1.0))
            meter.publish(f"{METER}/1/Load_1", HUGE)
            meter.publish(f"{METER}/1/Load_1", reading(1.0, ahead))
            meter.publish(f"{METER}/9999/x", reading(1.0))
            meter.publish(f"{METER}/1/x", reading(1.0))

            def is_counted(reason: str) -> bool:
                return figure(watcher, f"readings_{reason}") == before[reason] + 1

            for reason in reasons:
                wait_until(partial(is_counted, reason), f"one more counted as {reason}")


FORGED = {
    "no JSON": b'"bus_details":[',
    "binary": JUNK,
    "no state": b'"bus_count":1}',
}
"""What follows the head of a state."""


class TestBadElsewhere:
    @pytest.mark.parametrize("rest", FORGED.values(), ids=FORGED)
    def test_a_forged_state_of_a_huge_version_is_not_taken_for_the_newest(
        self, http: httpx.Client, meter: MqttClient, caller5: MqttClient, rest: bytes
    ) -> None:
        before = state_of(http)
        forged = f'{{"feeder":"{FEEDER}","version":{10**18 - 1},'.encode() + rest
        caller5.subscribe(STATE)
        meter.publish(STATE, forged)
        wait_until(
            lambda: forged in [message.payload for message in caller5.on(STATE)], "it is heard"
        )
        written = results(http.post("/run_simulation"))
        read = state_of(http)
        assert before["version"] < written["version"] <= read["version"] < 10**18 - 1
        assert demands(read) == demands(before)

    @pytest.mark.parametrize("payload", [JUNK, b"", b"{}", b"null", b'"x"', DEEP])
    def test_junk_on_a_reply_topic_of_the_gateway_does_no_harm(
        self, http: httpx.Client, meter: MqttClient, caller5: MqttClient, payload: bytes
    ) -> None:
        caller5.subscribe("flexfeeder/service/+/status")

        def gateways() -> set[str]:
            return {
                message.topic.split("/")[2]
                for message in caller5.heard
                if message.topic.startswith("flexfeeder/service/gateway-")
            }

        wait_until(lambda: bool(gateways()), "the gateway's status")
        for gateway in gateways():
            meter.publish(f"flexfeeder/reply/{gateway}", payload)
        assert results(http.post("/run_simulation"))["converged"]

    @pytest.mark.parametrize("payload", [JUNK, b"", b"{}", b"null", DEEP])
    def test_junk_on_the_state_of_another_feeder_does_no_harm(
        self, http: httpx.Client, meter: MqttClient, payload: bytes
    ) -> None:
        meter.publish("flexfeeder/nowhere/state", payload)
        assert results(http.post("/run_simulation"))["converged"]
        assert http.get("/get_state?feeder=nowhere").status_code == 404
