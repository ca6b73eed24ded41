"""Commands from bytes to effect: what is read, what is refused, and what each one does."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from support import buses_named

from schemas import topics
from schemas.commands import SOLVER_COMMANDS, SolverCommand
from schemas.envelope import LARGEST_COMMAND
from schemas.errors import HTTP_STATUS, ErrorCode, Refusal
from schemas.loads import (
    BusFactor,
    HouseholdChange,
    LoadPin,
    ReleaseLoad,
    RunSimulation,
    SetFactor,
    SetLoad,
)
from schemas.wire import WireModel
from services import requests
from services.bus import Message
from services.requests import decode, salvage
from services.solver.demand import Demand
from services.solver.elements import NominalLoad, Power
from services.solver.handlers import HANDLERS, check, handle

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

PIN = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0}
FACTOR = {"bus_name": "1", "factor": 0.9}

BAD_NAMES = {
    "space": "bus 1",
    "newline": "1\n",
    "quote": '1"',
    "apostrophe": "1'",
    "dot": "1.2",
    "slash": "1/2",
    "hash": "#",
    "plus": "+",
    "NUL": "1\0",
    "empty": "",
    "not-ASCII": "Straße",
    "65-characters": "x" * 65,
    "number": 1,
    "null": None,
    "list": ["1"],
}

BAD_POWERS = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus-Infinity": "-Infinity",
    "1e400": "1e400",
    "1e30": "1e30",
    "above-the-limit": "1000000.1",
    "below-the-limit": "-1000000.1",
    "text": '"5"',
    "boolean": "true",
    "null": "null",
    "list": "[5]",
}


def read(name: str, payload: bytes | dict[str, object]) -> SolverCommand:
    """Decode a command to the feeder ieee123; a dict is sent as JSON."""
    if isinstance(payload, dict):
        payload = json.dumps(payload).encode()
    return decode(topics.command("ieee123", name), payload, SOLVER_COMMANDS)


def refusal_of(name: str, payload: bytes | dict[str, object]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        read(name, payload)
    return refused.value


def fields(refusal: Refusal) -> list[str]:
    return [detail.field for detail in refusal.details]


def feeder() -> Demand:
    """Load_1 and Load_1b at bus 1, both in neighbourhood 3 with bus 2; no load at bus 150."""
    loads = [NominalLoad("Load_1", "1", 40.0, 20.0), NominalLoad("Load_1b", "1", 10.0, 0.0)]
    loads += [NominalLoad("Load_2", "2", 20.0, 10.0)]
    return Demand(loads, buses_named("1", "2", "150"), {3: ["1", "2"]})


def demands(demand: Demand) -> list[Power]:
    return [Power(each.kw, each.kvar) for each in demand.demands()]


class TestDecode:
    def test_each_command_is_read_from_its_topic_and_payload(self) -> None:
        assert read("run_simulation", {}) == RunSimulation()
        assert read("set_load", PIN) == SetLoad(bus_name="1", load_name="Load_1", new_kw=5.0)
        assert read("release_load", {"bus_name": "1"}) == ReleaseLoad(bus_name="1")
        assert read("set_factor", FACTOR) == SetFactor(bus_name="1", factor=0.9)
        by_number = read("set_factor", {"neighbourhood": 1, "factor": 0.8})
        assert by_number == SetFactor(neighbourhood=1, factor=0.8)

    def test_an_empty_payload_is_an_empty_object(self) -> None:
        assert read("run_simulation", b"") == RunSimulation()
        assert fields(refusal_of("release_load", b"")) == ["bus_name"]

    def test_a_whole_number_is_a_power(self) -> None:
        assert read("set_load", {**PIN, "new_kw": 5}) == read("set_load", PIN)

    @pytest.mark.parametrize("kw", [1e6, -1e6, 0.0])
    def test_the_limits_of_power_belong_to_it(self, kw: float) -> None:
        command = read("set_load", {**PIN, "new_kw": kw})
        assert command == SetLoad(bus_name="1", load_name="Load_1", new_kw=kw)

    def test_the_envelope_travels_beside_the_body(self) -> None:
        command = read(
            "release_load",
            {
                "bus_name": "1",
                "request_id": "a-1:b.2_c",
                "issued_at": "2026-11-22T13:00:00+01:00",
                "deadline": "2026-11-22T12:00:00Z",
                "reply_to": "flexfeeder/reply/me",
            },
        )
        assert command.request_id == "a-1:b.2_c"
        assert command.issued_at == command.deadline == NOON
        assert command.reply_to == "flexfeeder/reply/me"

    @pytest.mark.parametrize(
        "name", ["", "fly", "set_load/1", "Set_Load", "set_load ", "#", "x\n\0" * 50]
    )
    def test_an_unknown_command_is_refused_and_the_known_are_named(self, name: str) -> None:
        refusal = refusal_of(name, {})
        assert refusal.code == ErrorCode.UNKNOWN_COMMAND
        assert fields(refusal) == ["command"]
        assert ", ".join(sorted(SOLVER_COMMANDS)) in refusal.message


class TestRefusedValues:
    @pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
    @pytest.mark.parametrize("field", ["bus_name", "load_name"])
    def test_a_bad_name_is_refused_under_its_field(self, field: str, name: object) -> None:
        refusal = refusal_of("set_load", {**PIN, field: name})
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, [field])

    @pytest.mark.parametrize("number", BAD_POWERS.values(), ids=BAD_POWERS)
    def test_a_bad_power_is_refused_under_its_field(self, number: str) -> None:
        payload = b'{"bus_name":"1","load_name":"x","new_kw":%s}' % number.encode()
        refusal = refusal_of("set_load", payload)
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, ["new_kw"])

    @pytest.mark.parametrize(
        "number", [number for number in BAD_POWERS.values() if number != "null"]
    )
    def test_a_bad_reactive_power_is_refused_under_its_field(self, number: str) -> None:
        payload = b'{"bus_name":"1","load_name":"x","new_kw":1,"new_kvar":%s}' % number.encode()
        refusal = refusal_of("set_load", payload)
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, ["new_kvar"])

    @pytest.mark.parametrize("factor", ["-0.001", "10.001", "NaN", "Infinity", '"1"', "null"])
    def test_a_bad_factor_is_refused_under_its_field(self, factor: str) -> None:
        refusal = refusal_of("set_factor", b'{"bus_name":"1","factor":%s}' % factor.encode())
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, ["factor"])

    @pytest.mark.parametrize("number", ["-1", "1000001", "1.5", '"1"', "true", "NaN", "1e400"])
    def test_a_bad_neighbourhood_is_refused_under_its_field(self, number: str) -> None:
        refusal = refusal_of("set_factor", b'{"neighbourhood":%s,"factor":1}' % number.encode())
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, ["neighbourhood"])

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("request_id", "with space"),
            ("request_id", "x" * 129),
            ("request_id", ""),
            ("request_id", "1\n"),
            ("issued_at", "2026-11-22T12:00:00"),
            ("deadline", "2026-11-22T12:00:00"),
            ("deadline", "soon"),
            ("deadline", 0),
            ("reply_to", "x" * 513),
            ("feeder", "../ieee13"),
        ],
    )
    def test_a_bad_envelope_is_refused_under_its_field(self, field: str, value: object) -> None:
        """A time without its zone, for one, would be read differently by each reader."""
        refusal = refusal_of("run_simulation", {field: value})
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, [field])

    @pytest.mark.parametrize("field", ["kw", "NEW_KW", "a b", "a.b", "<b>"])
    def test_an_unknown_field_is_refused_under_its_name(self, field: str) -> None:
        refusal = refusal_of("run_simulation", {field: 1})
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, [field])

    def test_all_problems_are_collected(self) -> None:
        refusal = refusal_of("set_load", {"bus_name": "1.2", "new_kw": 1e30, "kvar": 1.0})
        assert sorted(fields(refusal)) == ["bus_name", "kvar", "load_name", "new_kw"]
        assert all(field in refusal.message for field in fields(refusal))

    @pytest.mark.parametrize(
        "body", [{"factor": 1.0}, {"factor": 1.0, "bus_name": "1", "neighbourhood": 1}]
    )
    def test_a_factor_is_for_a_bus_or_for_a_neighbourhood(self, body: dict[str, object]) -> None:
        refusal = refusal_of("set_factor", body)
        assert refusal.code == ErrorCode.INVALID_VALUE
        assert "bus_name" in refusal.message
        assert "neighbourhood" in refusal.message


class TestRefusedMessages:
    @pytest.mark.parametrize(
        "payload",
        [
            b"{",
            b"\xff\xfe",
            b"\0",
            b'{"bus_name":"\xe9"}',
            b'{"bus_name":"\\ud800"}',
            b"{'bus_name':'1'}",
            b'{"bus_name":"1"} {}',
            b"[" * 10_000 + b"]" * 10_000,
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        ],
        ids=[
            "cut-off",
            "not-UTF-8",
            "NUL",
            "latin-1",
            "half-a-surrogate",
            "single-quotes",
            "two-objects",
            "10000-arrays",
            "10000-objects",
        ],
    )
    def test_what_is_not_json_is_refused_as_such(self, payload: bytes) -> None:
        refusal = refusal_of("release_load", payload)
        assert (refusal.code, fields(refusal)) == (ErrorCode.NOT_JSON, ["message"])

    @pytest.mark.parametrize("payload", [b"[]", b"1", b"null", b'"set_load"', b"NaN"])
    def test_json_that_is_no_object_is_refused(self, payload: bytes) -> None:
        refusal = refusal_of("release_load", payload)
        assert (refusal.code, fields(refusal)) == (ErrorCode.INVALID_VALUE, ["message"])

    def test_an_oversize_message_is_refused_unread(self) -> None:
        """2 MiB of valid JSON."""
        payload = b'{"feeder":null}'.ljust(2 << 20)
        refusal = refusal_of("run_simulation", payload)
        assert (refusal.code, fields(refusal)) == (ErrorCode.TOO_LARGE, ["message"])

    def test_a_message_of_the_largest_size_is_read(self) -> None:
        payload = b"{}".ljust(LARGEST_COMMAND)
        assert read("run_simulation", payload) == RunSimulation()
        assert refusal_of("run_simulation", payload + b" ").code == ErrorCode.TOO_LARGE


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
near_misses = st.builds(
    lambda body, changes: body | changes,
    st.sampled_from([PIN, FACTOR, {"bus_name": "1"}, {"neighbourhood": 3, "factor": 2.0}]),
    st.fixed_dictionaries(
        {},
        optional={
            "bus_name": st.text() | json_values,
            "new_kw": st.floats() | json_values,
            "new_kvar": st.floats() | json_values,
            "factor": st.floats() | json_values,
            "neighbourhood": st.integers() | json_values,
            "deadline": st.datetimes(timezones=st.just(UTC)).map(str) | json_values,
            "request_id": st.text() | json_values,
        },
    ),
)
payloads = (
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | near_misses.map(lambda value: json.dumps(value).encode())
)
command_topics = (
    st.sampled_from([topics.command("ieee123", name) for name in SOLVER_COMMANDS])
    | st.text()
    | st.text().map(lambda name: topics.command("ieee123", name))
)


class TestAnyBytes:
    @given(topic=command_topics, payload=payloads)
    def test_bytes_are_a_command_or_a_refusal_and_nothing_else(
        self, topic: str, payload: bytes
    ) -> None:
        """And a refusal says what is wrong, where, under a code that has an HTTP status."""
        try:
            outcome: SolverCommand | Refusal = decode(topic, payload, SOLVER_COMMANDS)
        except Refusal as refusal:
            outcome = refusal
        if isinstance(outcome, Refusal):
            assert outcome.code in HTTP_STATUS
            assert outcome.message
            assert outcome.details
            assert all(detail.field and detail.problem for detail in outcome.details)
        else:
            assert type(outcome) in HANDLERS

    @given(payload=payloads)
    def test_a_command_that_was_read_is_done_or_refused(self, payload: bytes) -> None:
        """A refused one has changed nothing; no demand leaves what one command can reach, which
        is a pin at the limit of both powers.
        """
        for name in SOLVER_COMMANDS:
            demand = feeder()
            before = demands(demand)
            try:
                handle(read(name, payload), demand)
            except Refusal:
                assert demands(demand) == before
            assert all(abs(power.kw) + abs(power.kvar) <= 2e6 for power in demands(demand))

    @given(payload=payloads)
    def test_what_can_be_salvaged_is_text_or_nothing(self, payload: bytes) -> None:
        request_id, reply_to = salvage(payload)
        assert request_id is None or isinstance(request_id, str)
        assert reply_to is None or isinstance(reply_to, str)


class TestSalvage:
    def test_a_command_with_a_bad_body_can_still_be_answered(self) -> None:
        payload = b'{"request_id":"r-1","reply_to":"flexfeeder/reply/me","new_kw":"much"}'
        assert salvage(payload) == ("r-1", "flexfeeder/reply/me")

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{",
            b"[]",
            b'{"request_id":1,"reply_to":["x"]}',
            b'{"request_id":"%s"}' % (b"x" * 129),
            b'{"request_id":"r-1"}'.ljust(2 << 20),
            b"[" * 10_000,
        ],
        ids=["empty", "cut-off", "array", "other-types", "too-long", "oversize", "deep"],
    )
    def test_what_cannot_be_read_gives_nothing(self, payload: bytes) -> None:
        assert salvage(payload) == (None, None)


class TestCheck:
    def test_a_command_may_name_its_feeder_in_any_case(self) -> None:
        check(RunSimulation(feeder="IEEE123"), "ieee123")
        check(RunSimulation(), "ieee123")

    def test_a_command_for_another_feeder_is_refused(self) -> None:
        with pytest.raises(Refusal) as refused:
            check(RunSimulation(feeder="ieee13"), "ieee123")
        assert refused.value.code == ErrorCode.FEEDER_NOT_FOUND
        assert fields(refused.value) == ["feeder"]


def arrived(body: Mapping[str, object], now: datetime) -> RunSimulation | Refusal:
    """What ``run_simulation`` with this body comes to."""
    message = Message(
        topic=topics.command("ieee123", "run_simulation"),
        payload=json.dumps(body).encode(),
        retained=False,
        response_topic=None,
        correlation=None,
        receipt=(1, 1, 1),
    )
    command = requests.read(message, SOLVER_COMMANDS, arrived_at=0.0).command
    assert isinstance(command, RunSimulation)
    try:
        requests.check_deadline(command, now)
    except Refusal as refusal:
        return refusal
    return command


class TestDeadline:
    def test_a_command_is_in_time_up_to_its_deadline(self) -> None:
        body = {"deadline": NOON.isoformat()}
        assert isinstance(arrived(body, NOON), RunSimulation)
        refused = arrived(body, NOON + timedelta(microseconds=1))
        assert isinstance(refused, Refusal)
        assert refused.code == ErrorCode.DEADLINE_PASSED
        assert fields(refused) == ["deadline"]

    @pytest.mark.parametrize(
        ("deadline", "in_time"),
        [("0001-01-01T00:00:00+14:00", False), ("9999-12-31T23:59:59-14:00", True)],
    )
    def test_deadlines_at_the_ends_of_time_can_be_compared(
        self, deadline: str, in_time: bool
    ) -> None:
        assert isinstance(arrived({"deadline": deadline}, NOON), RunSimulation) == in_time


class TestHandle:
    def test_every_command_has_a_handler(self) -> None:
        assert {command.command for command in HANDLERS} == set(SOLVER_COMMANDS)

    def test_running_a_simulation_changes_no_demand(self) -> None:
        demand = feeder()
        done = handle(RunSimulation(), demand)
        assert done.buses == ()
        assert not demand.has_changed

    def test_setting_a_load_pins_it(self) -> None:
        demand = feeder()
        command = SetLoad(bus_name="1", load_name="LOAD_1", new_kw=5.0, new_kvar=1.0)
        assert handle(command, demand).buses == ("1",)
        assert demands(demand) == [Power(5.0, 1.0), Power(10.0, 0.0), Power(20.0, 10.0)]

    def test_releasing_a_load_leaves_the_others_pinned(self) -> None:
        demand = feeder()
        for load in ("Load_1", "Load_1b"):
            handle(SetLoad(bus_name="1", load_name=load, new_kw=5.0, new_kvar=1.0), demand)
        assert handle(ReleaseLoad(bus_name="1", load_name="Load_1"), demand).buses == ("1",)
        assert demands(demand) == [Power(40.0, 20.0), Power(5.0, 1.0), Power(20.0, 10.0)]

    def test_releasing_a_bus_releases_all_its_loads(self) -> None:
        demand = feeder()
        for load in ("Load_1", "Load_1b"):
            handle(SetLoad(bus_name="1", load_name=load, new_kw=5.0, new_kvar=1.0), demand)
        assert handle(ReleaseLoad(bus_name="1"), demand).buses == ("1",)
        assert demands(demand) == demands(feeder())

    def test_a_factor_reaches_a_bus_or_a_neighbourhood(self) -> None:
        """Half of bus 1 first; then half of all, which replaces it where it was set."""
        demand = feeder()
        assert handle(SetFactor(bus_name="1", factor=0.5), demand).buses == ("1",)
        assert demands(demand) == [Power(20.0, 10.0), Power(5.0, 0.0), Power(20.0, 10.0)]
        assert handle(SetFactor(neighbourhood=3, factor=0.5), demand).buses == ("1", "2")
        assert demands(demand) == [Power(20.0, 10.0), Power(5.0, 0.0), Power(10.0, 5.0)]

    @pytest.mark.parametrize(
        ("command", "code", "field"),
        [
            (SetLoad(bus_name="9", load_name="x", new_kw=1.0), "bus_not_found", "bus_name"),
            (SetLoad(bus_name="1", load_name="x", new_kw=1.0), "load_not_found", "load_name"),
            (ReleaseLoad(bus_name="150"), "load_not_found", "bus_name"),
            (SetFactor(bus_name="9", factor=1.0), "bus_not_found", "bus_name"),
            (SetFactor(neighbourhood=9, factor=1.0), "neighbourhood_not_found", "neighbourhood"),
        ],
    )
    def test_what_is_not_there_is_refused_and_nothing_changes(
        self, command: SolverCommand, code: str, field: str
    ) -> None:
        demand = feeder()
        with pytest.raises(Refusal) as refused:
            handle(command, demand)
        assert (refused.value.code, fields(refused.value)) == (code, [field])
        assert not demand.has_changed


class TestHouseholdChange:
    """The body of POST /modify_load_household."""

    form = TypeAdapter[LoadPin | BusFactor](HouseholdChange)

    def refused_fields(self, body: bytes) -> list[str]:
        with pytest.raises(ValidationError) as found:
            self.form.validate_json(body)
        return fields(Refusal.of_validation(found.value))

    def test_a_body_with_a_factor_sets_the_factor_of_a_bus(self) -> None:
        body = self.form.validate_json(b'{"bus_name": "1", "factor": 0.9}')
        assert body == BusFactor(bus_name="1", factor=0.9)

    def test_a_body_without_a_factor_pins_a_load(self) -> None:
        body = self.form.validate_json(
            b'{"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}'
        )
        assert body == LoadPin(bus_name="1", load_name="Load_1", new_kw=5.0, new_kvar=1.0)

    def test_details_name_the_field_and_not_the_form(self) -> None:
        assert self.refused_fields(b'{"bus_name":"1","factor":11}') == ["factor"]
        assert self.refused_fields(b'{"bus_name":"1","load_name":"x","new_kw":"5"}') == ["new_kw"]

    def test_the_two_forms_do_not_mix(self) -> None:
        assert self.refused_fields(b'{"bus_name":"1","factor":1,"new_kw":5}') == ["new_kw"]

    @pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"'])
    def test_a_body_is_an_object(self, body: bytes) -> None:
        assert self.refused_fields(body) == ["message"]


class TestRefusalOfValidation:
    class Outer(WireModel):
        class Inner(WireModel):
            kw: float

        parts: tuple[Inner, ...]

    def refusal(self, body: bytes) -> Refusal:
        with pytest.raises(ValidationError) as found:
            self.Outer.model_validate_json(body)
        return Refusal.of_validation(found.value)

    def test_a_field_inside_a_list_is_named_with_its_place(self) -> None:
        refusal = self.refusal(b'{"parts":[{"kw":1},{"kw":"x"}]}')
        assert fields(refusal) == ["parts.1.kw"]
        assert refusal.message == "parts.1.kw: Input should be a valid number"

    def test_details_list_every_problem_and_the_message_the_first_five(self) -> None:
        refusal = self.refusal(b'{"parts":[{},{},{},{},{},{},{}]}')
        assert fields(refusal) == [f"parts.{n}.kw" for n in range(7)]
        assert refusal.message.count("Field required") == 5

    def test_what_was_sent_is_not_sent_back(self) -> None:
        refusal = self.refusal(b'{"parts":[{"kw":"a secret"}]}')
        assert "secret" not in refusal.message
        assert "secret" not in repr(refusal.details)

    def test_unreadable_json_has_a_code_of_its_own(self) -> None:
        assert self.refusal(b"{").code == ErrorCode.NOT_JSON


def test_every_error_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(ErrorCode)
