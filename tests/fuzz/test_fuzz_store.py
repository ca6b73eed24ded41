"""What a service finds in the store when it starts: it is read back, or refused as unreadable.

The store is ours, and what is in it is our own writing; but disks, restores and other versions
are not.
"""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, cast

import orjson
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st
from support import FEEDERS

from fuzz.effort import effort, patient
from fuzz.payloads import Payload, one_spoilt, payloads, spoilt
from fuzz.shapes import assert_finite
from fuzz.tried import tried
from schemas.errors import Detail, ErrorCode, Refusal
from schemas.programs import Execution, Program
from schemas.readings import Reading
from schemas.state import State
from services import outcomes
from services.dfp_manager import decided as records
from services.dfp_manager import layout
from services.dfp_manager.decided import Decided as Record
from services.once import Once, Remembered
from services.outcomes import Done
from services.solver import entries, recovery
from services.solver.engine import Engine
from services.solver.entries import Adjusted, Barrier, Decided, UnreadableEntry, Voided
from services.solver.feeder import Feeder
from services.solver.journal import InFlight, Journal, Past
from services.solver.recovery import Unrecoverable
from services.solver.twin import Twin

pytestmark = patient
NOW_S = 1_800_000_000.0
FEEDER = Feeder.load(FEEDERS, "ieee13")

DONE = Done("load 671 at bus 671 pinned to 5 kW", ("671",))
REFUSED = Refusal(ErrorCode.BUS_NOT_FOUND, "no bus", [Detail(field="bus_name", problem="none")])
OUTCOMES: tuple[outcomes.Outcome, ...] = (DONE, REFUSED)


def decided(command: str, asked: bytes, outcome: outcomes.Outcome, request_id: str | None) -> bytes:
    return entries.encode(Decided(command, asked, NOW_S, outcome, request_id))


PIN = b'{"bus_name":"671","load_name":"Load_671","new_kw":5.0,"new_kvar":null}'
DEVICE = b'{"bus_name":"671","device_name":"EV","kw":7.2,"phases":3}'
ADJUSTED = (
    b'{"revision":3,"programs":[{"name":"p","number":1,'
    b'"buses":[{"bus":"671","max_kw":5.0,"target_pf":0.95}]}]}'
)

ENTRIES: tuple[bytes, ...] = (
    decided("set_load", PIN, DONE, "r1"),
    decided("add_device", DEVICE, DONE, None),
    decided(
        "add_generator",
        b'{"bus_name":"671","kw":5.0}',
        Done("added", ("671",), {"generator_name": "generator_1"}),
        "r2",
    ),
    decided("set_load", PIN, REFUSED, "r3"),
    entries.encode(Adjusted(ADJUSTED)),
    entries.encode(Voided("1-4", "because")),
    entries.encode(Barrier()),
)
SEGMENT = entries.encode_segment(
    [Remembered(f"r{n}", "d" * 32, NOW_S + n, OUTCOMES[n % 2]) for n in range(3)]
)


def _json(*encoded: bytes) -> list[Any]:
    return [orjson.loads(each) for each in encoded]


def assert_entry_or_unreadable(payload: bytes) -> None:
    """One that is read can be written again, and remembered."""
    try:
        entry = entries.decode(payload)
    except UnreadableEntry:
        return
    assert entries.encode(entries.decode(entries.encode(entry))) == entries.encode(entry)
    if isinstance(entry, Decided):
        assert_finite(entry.at)
        Once().remember(entry.remembered or Remembered("", "", 0.0, DONE))


def assert_segment_or_unreadable(payload: bytes) -> None:
    try:
        segment = entries.decode_segment(payload)
    except UnreadableEntry:
        return
    once = Once()
    for remembered in segment:
        assert_finite(remembered.at)
        once.remember(remembered)
    assert len(entries.decode_segment(entries.encode_segment(segment))) == len(segment)


class TestEntries:
    @pytest.mark.xfail(strict=False, reason="the types of what stands in the store are believed")
    @given(payload=payloads(*_json(*ENTRIES)))
    @effort(200)
    def test_any_bytes_are_an_entry_or_unreadable(self, payload: Payload) -> None:
        assert_entry_or_unreadable(payload.content)

    @pytest.mark.xfail(strict=True, reason="the types of what stands in the store are believed")
    def test_an_entry_with_one_value_spoilt_is_read_or_unreadable(self) -> None:
        for payload in spoilt(*_json(*ENTRIES)):
            assert_entry_or_unreadable(payload)

    @given(payload=payloads(*_json(SEGMENT)))
    @effort(200)
    def test_any_bytes_are_a_segment_or_unreadable(self, payload: Payload) -> None:
        assert_segment_or_unreadable(payload.content)

    @pytest.mark.xfail(strict=True, reason="the types of what stands in the store are believed")
    def test_a_segment_with_one_value_spoilt_is_read_or_unreadable(self) -> None:
        for payload in spoilt(*_json(SEGMENT)):
            assert_segment_or_unreadable(payload)


class Written:
    """A journal that holds this, and takes note of nothing."""

    def __init__(self, past: Past) -> None:
        self._past = past

    def load(self) -> Past:
        return self._past

    def begin_trial(self, entry: str) -> None: ...

    def end_trial(self) -> None: ...

    def void(self, entry: bytes) -> None: ...


def recovered(past: Past, in_flight: InFlight | None = None) -> tuple[Twin, Once]:
    twin, once = Twin(FEEDER, Engine(FEEDER)), Once()
    solve = partial(twin.cycle, 0, NOW_S)
    recovery.recover(twin, once, cast("Journal", Written(past)), in_flight, solve, lambda: None)
    return twin, once


def numbered(written: Iterable[bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple((f"1-{number + 1}", entry) for number, entry in enumerate(written))


@cache
def snapshot() -> Any:
    """Of a twin of which something of everything was said."""
    twin, once = recovered(Past("0-0", None, (SEGMENT,), numbered(ENTRIES)))
    twin.cycle(1, NOW_S)
    reading = Reading(kw=20.0, kvar=5.0)
    twin.demand.take_reading("671", "EV", reading, NOW_S, retained=False)
    content = orjson.loads(recovery.content(twin, once))
    content["held"] = [["neighbourhood_1", False, [["671", "EV", 2.0]]]]
    return {**content, "horizon": NOW_S}


WHERE = st.sampled_from(
    [None, InFlight("1-2", "1-9", strikes=2, trial=None), InFlight("1-2", "1-9", 2, trial="1-3")]
)
"""In flight when the last owner died: nothing, or what is tried one by one."""


def assert_recovered_or_not(past: Past, in_flight: InFlight | None = None) -> None:
    """A twin that was recovered solves, and says so in a valid state."""
    found = tried(Unrecoverable, lambda: recovered(past, in_flight))
    if isinstance(found, Unrecoverable):
        assert str(found)
        return
    twin, once = found
    State.model_validate_json(twin.cycle(1, NOW_S).state)
    assert_finite(orjson.loads(recovery.content(twin, once)))


class TestRecovery:
    def test_a_twin_begins_with_what_it_wrote(self) -> None:
        """So that it is not for its form that the others are refused."""
        twin, once = recovered(Past("1-7", orjson.dumps(snapshot()), (), ()))
        assert twin.demand.find("671", "EV") is not None
        assert once.horizon == NOW_S

    @given(any_snapshot=st.deferred(lambda: payloads(snapshot())))
    @effort(100)
    def test_a_twin_begins_with_any_snapshot_or_says_that_it_cannot(
        self, any_snapshot: Payload
    ) -> None:
        assert_recovered_or_not(Past("1-7", any_snapshot.content, (), ()))

    @pytest.mark.xfail(strict=False, reason="the types of what stands in the store are believed")
    @given(spoilt_snapshot=st.deferred(lambda: one_spoilt(snapshot())))
    @effort(200, phases=[Phase.generate])
    def test_a_twin_begins_with_a_spoilt_snapshot_or_says_that_it_cannot(
        self, spoilt_snapshot: Payload
    ) -> None:
        assert_recovered_or_not(Past("1-7", spoilt_snapshot.content, (), ()))

    @pytest.mark.xfail(strict=False, reason="the types of what stands in the store are believed")
    @given(spoilt_entry=one_spoilt(*_json(*ENTRIES)), at=st.integers(0, 7), in_flight=WHERE)
    @effort(200, phases=[Phase.generate])
    def test_a_twin_goes_on_with_a_spoilt_entry_or_says_that_it_cannot(
        self, spoilt_entry: Payload, at: int, in_flight: InFlight | None
    ) -> None:
        written = [*ENTRIES[:at], spoilt_entry.content, *ENTRIES[at:]]
        assert_recovered_or_not(Past("0-0", None, (SEGMENT,), numbered(written)), in_flight)


RECORD = Record("r1", "d" * 32, NOW_S, DONE, 3, is_whole=False)
PROGRAM = orjson.loads(
    Program(
        name="p",
        number=1,
        description="",
        min_power_kw=5.0,
        target_pf=0.95,
        registered_at=datetime.fromtimestamp(NOW_S, UTC),
        subscriptions=("1", "48"),
        executing=True,
        executions=(),
    ).model_dump_json(exclude={"executions"})
)
EXECUTION = orjson.loads(
    Execution(
        started_at=datetime.fromtimestamp(NOW_S, UTC),
        stopped_at=None,
        revision=3,
        buses=2,
        total_shed_kw=None,
    ).model_dump_json()
)
HEADS = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers().map(lambda number: str(number).encode()) | st.binary(max_size=8)
        for name in (b"stamp", b"next_number", b"revision", b"horizon", b"bytes")
    },
)


def assert_record_or_not(content: bytes) -> None:
    try:
        record = records.decode("r1", content)
    except (KeyError, TypeError, ValueError):
        return
    assert_finite(record.at)
    assert records.encode(records.decode("r1", records.encode(record))) == records.encode(record)


class TestRegistry:
    """What is documented is what the registry takes for unreadable, and goes on without."""

    @given(content=payloads(orjson.loads(records.encode(RECORD))))
    @effort(200)
    def test_any_bytes_are_what_a_request_came_to_or_not(self, content: Payload) -> None:
        assert_record_or_not(content.content)

    @pytest.mark.xfail(strict=True, reason="the types of what stands in the store are believed")
    def test_a_spoilt_record_is_what_a_request_came_to_or_not(self) -> None:
        for content in spoilt(orjson.loads(records.encode(RECORD))):
            assert_record_or_not(content)

    @given(program=payloads(PROGRAM), execution=payloads(EXECUTION), head=HEADS)
    @effort(400)
    def test_anything_in_the_store_is_the_programs_of_a_feeder_or_not(
        self, program: Payload, execution: Payload, head: dict[bytes, bytes]
    ) -> None:
        held = {b"1": program.content}
        with suppress(LookupError, TypeError, ValueError):
            found = layout.read("ieee123", head, held, {1: [execution.content]})
            assert_finite(found.programs.by_number)
