"""Readings from message to demand: what is taken, what is refused, counted and logged."""

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import LogCapture
from support import buses_named

from schemas import topics
from schemas.errors import Refusal
from schemas.readings import AddressedReading, Reading, ReadingBatch
from services.bus import Message
from services.logs import OncePerTopic
from services.solver.demand import Demand
from services.solver.elements import NominalLoad, Power
from services.solver.intake import LARGEST_BATCH, Intake

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOON_S = NOON.timestamp()

LOAD_1 = topics.meter("ieee123", "1", "Load_1")
BATCH = topics.meters("ieee123")


class Meters:
    """An intake for the feeder ieee123 with its demand, and what it logged. Load_1 at bus 1 is
    nominally 40 kW and 20 kvar, Load_2 at bus 2 is 20 kW and 10 kvar, bus 150 has no load.
    """

    def __init__(self) -> None:
        loads = [NominalLoad("Load_1", "1", 40.0, 20.0), NominalLoad("Load_2", "2", 20.0, 10.0)]
        self.demand = Demand(loads, buses_named("1", "2", "150"), {})
        capture = LogCapture()
        log = structlog.wrap_logger(
            None,
            processors=[capture],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )
        self.intake = Intake("ieee123", self.demand, log)
        self.logged = capture.entries

    def take(self, topic: str, payload: object, *, retained: bool = False) -> None:
        """A message that arrives at noon; what is not bytes is sent as JSON."""
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self.intake.take(Message(topic, content, retained, None, None, (1, 1, 0)), NOON_S)

    @property
    def outcomes(self) -> dict[str, int]:
        return dict(self.intake.outcomes)

    def demands(self) -> list[Power]:
        return [Power(each.kw, each.kvar) for each in self.demand.demands()]

    def logged_topics(self) -> list[str]:
        return [entry["topic"] for entry in self.logged]


NOMINAL = Meters().demands()


class TestSchema:
    def test_only_kw_is_required(self) -> None:
        assert Reading.model_validate_json(b'{"kw": 3.2}') == Reading(kw=3.2)

    def test_a_reading_may_say_all(self) -> None:
        payload = b'{"kw": 3.2, "kvar": 0.9, "demand_kw": 4.0, "at": "2026-11-22T12:00:00Z"}'
        expected = Reading(kw=3.2, kvar=0.9, demand_kw=4.0, at=NOON)
        assert expected == Reading.model_validate_json(payload)

    @pytest.mark.parametrize(
        ("payload", "field"),
        [
            (b"{}", "kw"),
            (b'{"kw": null}', "kw"),
            (b'{"kw": "3.2"}', "kw"),
            (b'{"kw": true}', "kw"),
            (b'{"kw": NaN}', "kw"),
            (b'{"kw": Infinity}', "kw"),
            (b'{"kw": 1e400}', "kw"),
            (b'{"kw": 1e30}', "kw"),
            (b'{"kw": 1, "kvar": NaN}', "kvar"),
            (b'{"kw": 1, "kvar": -1e30}', "kvar"),
            (b'{"kw": 1, "demand_kw": -Infinity}', "demand_kw"),
            (b'{"kw": 1, "at": "2026-11-22T12:00:00"}', "at"),
            (b'{"kw": 1, "at": "noon"}', "at"),
            (b'{"kw": 1, "at": 1795348800}', "at"),
            (b'{"kw": 1, "kWh": 7}', "kWh"),
            (b"[1]", "message"),
            (b"3.2", "message"),
            (b"kw=3.2", "message"),
        ],
    )
    def test_a_bad_value_is_refused_under_its_field(self, payload: bytes, field: str) -> None:
        with pytest.raises(ValidationError) as found:
            Reading.model_validate_json(payload)
        refusal = Refusal.of_validation(found.value)
        assert [detail.field for detail in refusal.details] == [field]

    def test_a_reading_of_a_batch_says_where_it_was_taken(self) -> None:
        payload = b'{"readings": [{"bus": "1", "element": "Load_1", "kw": 3.2}]}'
        expected = ReadingBatch(readings=(AddressedReading(bus="1", element="Load_1", kw=3.2),))
        assert expected == ReadingBatch.model_validate_json(payload)

    def test_a_problem_in_a_batch_is_named_with_its_place(self) -> None:
        payload = b'{"readings": [{"bus": "1", "element": "x", "kw": 1}, {"bus": "a b", "kw": 1}]}'
        with pytest.raises(ValidationError) as found:
            ReadingBatch.model_validate_json(payload)
        refusal = Refusal.of_validation(found.value)
        expected = ["readings.1.bus", "readings.1.element"]
        assert expected == sorted(detail.field for detail in refusal.details)


class TestSingleReadings:
    def test_a_reading_becomes_demand(self) -> None:
        meters = Meters()
        meters.take(LOAD_1, {"kw": 3.0, "kvar": 1.0})
        assert meters.demands() == [Power(3.0, 1.0), Power(20.0, 10.0)]
        assert meters.outcomes == {"accepted": 1}
        assert meters.logged == []

    def test_names_in_a_topic_are_found_in_any_case(self) -> None:
        meters = Meters()
        meters.take(topics.meter("ieee123", "1", "LOAD_1"), {"kw": 3.0, "kvar": 1.0})
        assert meters.outcomes == {"accepted": 1}

    def test_an_older_reading_is_counted_and_not_logged(self) -> None:
        """Messages overtake each other; that is no fault of anyone's."""
        meters = Meters()
        meters.take(LOAD_1, {"kw": 3.0, "kvar": 1.0, "at": "2026-11-22T11:00:00Z"})
        meters.take(LOAD_1, {"kw": 9.0, "kvar": 1.0, "at": "2026-11-22T10:59:59Z"})
        assert meters.demands()[0] == Power(3.0, 1.0)
        assert meters.outcomes == {"accepted": 1, "stale": 1}
        assert meters.logged == []

    def test_a_retained_reading_without_time_only_fills_a_gap(self) -> None:
        meters = Meters()
        meters.take(LOAD_1, {"kw": 3.0, "kvar": 1.0}, retained=True)
        meters.take(LOAD_1, {"kw": 9.0, "kvar": 1.0}, retained=True)
        assert meters.demands()[0] == Power(3.0, 1.0)
        assert meters.outcomes == {"accepted": 1, "stale": 1}

    def test_clearing_a_retained_reading_is_no_reading(self) -> None:
        """MQTT clears a retained message with an empty one; demand stays as it was read."""
        meters = Meters()
        meters.take(LOAD_1, {"kw": 3.0, "kvar": 1.0})
        meters.take(LOAD_1, b"")
        assert meters.demands()[0] == Power(3.0, 1.0)
        assert meters.outcomes == {"accepted": 1}

    @pytest.mark.parametrize(
        ("topic", "payload", "reason"),
        [
            (LOAD_1, b"kw=3.2", "invalid"),
            (LOAD_1, b'{"kw": NaN}', "invalid"),
            (LOAD_1, b"\xff", "invalid"),
            (LOAD_1, b"[" * 10_000 + b"]" * 10_000, "invalid"),
            (LOAD_1, b"x" * (2 << 20), "too_large"),
            (LOAD_1, b'{"kw": 1, "at": "2026-11-22T12:01:01Z"}', "future"),
            ("flexfeeder/ieee123/meter/77/Load_1", b'{"kw": 1}', "unknown_bus"),
            ("flexfeeder/ieee123/meter/1/Load_2", b'{"kw": 1}', "unknown_element"),
            ("flexfeeder/ieee123/meter/150/Load_1", b'{"kw": 1}', "unknown_element"),
            ("flexfeeder/ieee123/meter/1/", b'{"kw": 1}', "unknown_element"),
            ("flexfeeder/ieee123/meter/1", b'{"kw": 1}', "topic"),
            ("flexfeeder/ieee123/meter", b'{"kw": 1}', "topic"),
            ("flexfeeder/ieee123/meter/1/Load_1/kw", b"1", "topic"),
        ],
    )
    def test_what_is_refused_is_counted_by_reason_and_logged_with_its_topic(
        self, topic: str, payload: bytes, reason: str
    ) -> None:
        meters = Meters()
        meters.take(topic, payload)
        assert meters.demands() == NOMINAL
        assert meters.outcomes == {reason: 1}
        assert meters.logged_topics() == [topic]
        assert meters.logged[0]["log_level"] == "warning"
        assert meters.logged[0]["problem"]

    def test_each_topic_is_logged_once_and_counted_every_time(self) -> None:
        meters = Meters()
        for _ in range(3):
            meters.take(LOAD_1, b"{}")
            meters.take(topics.meter("ieee123", "2", "Load_2"), b"{}")
        assert meters.outcomes == {"invalid": 6}
        assert meters.logged_topics() == [LOAD_1, topics.meter("ieee123", "2", "Load_2")]

    def test_the_log_is_bounded_in_topics_and_in_length(self) -> None:
        """Whoever may publish readings must not be able to fill the disk with topics."""
        meters = Meters()
        for number in range(OncePerTopic.MOST_TOPICS + 10):
            meters.take(topics.meter("ieee123", str(number + 1000), "x" * 1000), b'{"kw": 1}')
        assert meters.outcomes == {"unknown_bus": OncePerTopic.MOST_TOPICS + 10}
        assert len(meters.logged) == OncePerTopic.MOST_TOPICS
        assert max(len(entry["topic"]) for entry in meters.logged) == 200

    def test_an_unknown_field_of_a_megabyte_makes_a_short_log_line(self) -> None:
        meters = Meters()
        meters.take(LOAD_1, {"kw": 1.0, "x" * (1 << 20): 1})
        assert len(meters.logged[0]["problem"]) <= 500


class TestBatches:
    def test_each_reading_of_a_batch_becomes_demand(self) -> None:
        meters = Meters()
        readings = [
            {"bus": "1", "element": "Load_1", "kw": 3.0, "kvar": 1.0},
            {"bus": "2", "element": "Load_2", "kw": 4.0},
        ]
        meters.take(BATCH, {"readings": readings})
        assert meters.demands() == [Power(3.0, 1.0), Power(4.0, 2.0)]
        assert meters.outcomes == {"accepted": 2}

    def test_a_batch_may_be_empty(self) -> None:
        meters = Meters()
        meters.take(BATCH, {"readings": []})
        assert (meters.outcomes, meters.logged) == ({}, [])

    def test_each_reading_of_a_valid_batch_stands_for_itself(self) -> None:
        """One of an unknown bus, one from the future and one that is good."""
        meters = Meters()
        ahead = (NOON + timedelta(minutes=2)).isoformat()
        readings = [
            {"bus": "77", "element": "Load_1", "kw": 1.0},
            {"bus": "2", "element": "Load_2", "kw": 1.0, "at": ahead},
            {"bus": "1", "element": "Load_1", "kw": 3.0, "kvar": 1.0},
        ]
        meters.take(BATCH, {"readings": readings})
        assert meters.demands() == [Power(3.0, 1.0), Power(20.0, 10.0)]
        assert meters.outcomes == {"unknown_bus": 1, "future": 1, "accepted": 1}
        assert meters.logged_topics() == [BATCH]

    def test_a_batch_that_does_not_validate_is_refused_whole(self) -> None:
        meters = Meters()
        readings = [
            {"bus": "1", "element": "Load_1", "kw": 3.0},
            {"bus": "2", "element": "Load_2", "kw": "4.0"},
        ]
        meters.take(BATCH, {"readings": readings})
        assert meters.demands() == NOMINAL
        assert meters.outcomes == {"invalid": 1}
        assert "readings.1.kw" in meters.logged[0]["problem"]

    def test_a_batch_holds_ten_thousand_readings_and_no_more(self) -> None:
        reading = {"bus": "1", "element": "Load_1", "kw": 3.0}
        meters = Meters()
        meters.take(BATCH, {"readings": [reading] * 10_000})
        assert meters.outcomes == {"accepted": 10_000}
        meters.take(BATCH, {"readings": [reading] * 10_001})
        assert meters.outcomes == {"accepted": 10_000, "invalid": 1}

    def test_an_oversize_batch_is_refused_unread(self) -> None:
        meters = Meters()
        meters.take(BATCH, b'{"readings": []}'.ljust(LARGEST_BATCH + 1))
        assert meters.outcomes == {"too_large": 1}
        meters.take(BATCH, b'{"readings": []}'.ljust(LARGEST_BATCH))
        assert meters.outcomes == {"too_large": 1}

    def test_a_batch_for_another_feeder_is_none(self) -> None:
        meters = Meters()
        meters.take(topics.meters("ieee13"), {"readings": []})
        assert meters.outcomes == {"topic": 1}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
loose_readings = st.fixed_dictionaries(
    {"kw": st.floats(-2e6, 2e6)},
    optional={
        "bus": st.sampled_from(["1", "2", "150", "77", "a b"]),
        "element": st.sampled_from(["Load_1", "load_2"]),
        "kvar": st.floats(-1e6, 1e6) | json_values,
        "at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat) | json_values,
    },
)
payloads = (
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | loose_readings.map(lambda value: json.dumps(value).encode())
    | st.lists(loose_readings).map(lambda value: json.dumps({"readings": value}).encode())
)


class TestAnyMessage:
    @given(
        topic=st.sampled_from([LOAD_1, BATCH, "flexfeeder/ieee123/meter/#"]) | st.text(),
        payload=payloads,
        retained=st.booleans(),
    )
    def test_no_message_stops_the_intake(self, topic: str, payload: bytes, retained: bool) -> None:
        """Whatever came before it, the next good reading is taken, and demand is finite."""
        meters = Meters()
        meters.take(topic, payload, retained=retained)
        assert all(abs(power.kw) + abs(power.kvar) <= 2e6 for power in meters.demands())
        later = (NOON + timedelta(seconds=60)).isoformat()
        meters.take(LOAD_1, {"kw": 3.0, "kvar": 1.0, "at": later})
        assert meters.demands()[0] == Power(3.0, 1.0)

    @given(payload=payloads)
    def test_a_message_that_changed_demand_was_counted_as_accepted(self, payload: bytes) -> None:
        meters = Meters()
        meters.take(LOAD_1, payload)
        assert (meters.demands() == NOMINAL) or meters.outcomes == {"accepted": 1}
