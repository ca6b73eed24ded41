"""Replay: a twin that is recovered from the store is the one that lived through it all."""

import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import Store
from support import FEEDERS, quiet_log

from schemas import topics
from schemas.programs import Adjustments
from schemas.readings import Reading
from services.bus import Message
from services.once import Once
from services.outcomes import Done
from services.solver import entries, recovery
from services.solver.desk import Decision, Desk
from services.solver.engine import Engine
from services.solver.entries import Adjusted, Barrier
from services.solver.feeder import Feeder
from services.solver.journal import InFlight, Journal
from services.solver.recovery import Unrecoverable
from services.solver.twin import Twin

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
FEEDER = Feeder.load(FEEDERS, "ieee13")
LOG = quiet_log()
BUSES = ("634", "645", "646", "652", "671", "675", "692", "611")


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as started:
        yield started


class Life:
    """One owner, from its start on: what it takes it decides, writes, and solves."""

    def __init__(self, store: Store, name: str) -> None:
        self.twin = Twin(FEEDER, Engine(FEEDER))
        self.once = Once()
        self.journal = Journal(store.url, name)
        taken = self.journal.take()
        assert taken
        in_flight = taken if isinstance(taken, InFlight) else None
        self.recovered = recovery.recover(
            self.twin, self.once, self.journal, in_flight, self.solve, lambda: None
        )
        self._desk = Desk("ieee13", self.twin.demand, self.once, LOG)

    def take(self, command: str, body: dict[str, Any]) -> Decision:
        message = Message(
            topics.command("ieee13", command), orjson.dumps(body), False, None, None, (1, 1, 1)
        )
        decision = self._desk.decide(message, NOW, may_write=True, arrived_at=0.0)
        if decision.entry is not None:
            self.journal.append([entries.encode(decision.entry)])
        self.twin.demand.commit()
        return decision

    def adjust(self, revision: int, bus: str, max_kw: float) -> None:
        adjustments = Adjustments.model_validate(
            {
                "revision": revision,
                "programs": (
                    {
                        "name": "p",
                        "number": 1,
                        "buses": ({"bus": bus, "max_kw": max_kw, "target_pf": 0.95},),
                    },
                ),
            }
        )
        self.journal.append([entries.encode(Adjusted(adjustments.model_dump_json().encode()))])
        self.twin.adjust(adjustments)

    def read(self, bus: str, element: str, kw: float) -> None:
        self.twin.demand.take_reading(bus, element, Reading(kw=kw), NOW_S, retained=False)

    def solve(self) -> dict[str, Any]:
        state: dict[str, Any] = orjson.loads(self.twin.cycle(1, NOW_S).state)
        return state

    def save(self, *, leave_behind: bool = False) -> None:
        segment = entries.encode_segment(list(self.once)) if leave_behind else None
        content = recovery.content(self.twin, self.once)
        self.journal.save(content, self.journal.last, segment)

    def end(self) -> None:
        self.journal.release()


NOTHING_SAID = [None, 1.0, None, None]

power = st.floats(0.0, 60.0).map(lambda kw: round(kw, 3))
buses = st.sampled_from(BUSES)
names = st.sampled_from(["a", "B", "c"])
LOADS = [(load.bus, load.name) for load in Twin(FEEDER, Engine(FEEDER)).demand.loads]

steps = st.one_of(
    st.tuples(st.just("pin"), st.sampled_from(LOADS), power),
    st.tuples(st.just("release"), st.sampled_from(LOADS)),
    st.tuples(st.just("factor"), buses, st.floats(0.0, 3.0)),
    st.tuples(st.just("device"), buses, names, power),
    st.tuples(st.just("no device"), buses, names),
    st.tuples(st.just("generator"), buses, power),
    st.tuples(st.just("no generator"), st.integers(1, 6)),
    st.tuples(st.just("read"), st.sampled_from(LOADS), power),
    st.tuples(st.just("adjust"), buses, power),
    st.tuples(st.just("save"), st.booleans()),
    st.tuples(st.just("solve")),
)


def live(life: Life, step: tuple[Any, ...], number: int) -> None:  # noqa: C901 - a table
    """One step of a life; each command has a request id of its own."""
    request_id = {"request_id": f"r{number}"}
    match step:
        case "pin", (bus, load), kw:
            life.take("set_load", {"bus_name": bus, "load_name": load, "new_kw": kw, **request_id})
        case "release", (bus, load):
            life.take("release_load", {"bus_name": bus, "load_name": load, **request_id})
        case "factor", bus, factor:
            life.take("set_factor", {"bus_name": bus, "factor": factor, **request_id})
        case "device", bus, name, kw:
            body = {"bus_name": bus, "device_name": name, "kw": kw}
            life.take("add_device", {**body, **request_id})
        case "no device", bus, name:
            life.take("disconnect_device", {"bus_name": bus, "device_name": name, **request_id})
        case "generator", bus, kw:
            life.take("add_generator", {"bus_name": bus, "kw": kw, **request_id})
        case "no generator", which:
            name = {"generator_name": f"generator_{which}"}
            life.take("remove_generator", {**name, **request_id})
        case "read", (bus, load), kw:
            life.read(bus, load, kw)
            life.save()  # readings are in the snapshot only
        case "adjust", bus, kw:
            life.adjust(number + 1, bus, kw)
        case "save", leave_behind:
            life.save(leave_behind=leave_behind)
        case ("solve",):
            life.solve()


def asked(element: dict[str, Any]) -> float | None:
    """What an element is asked for; None where relief asks: it finds that anew, by solving."""
    is_relieved = any(who != "p" for who in element["held_by"])
    return None if is_relieved else element["set_kw"]


def inputs(state: dict[str, Any]) -> Any:
    """Everything in a state that is no figure of a solve."""
    return [
        (
            b["bus"],
            b["dfps"],
            [
                (kind, e["name"], asked(e), e.get("demand_kw"), e.get("factor"), e.get("source"))
                for kind in ("loads", "devices", "generators")
                for e in b[kind]
            ],
        )
        for b in state["bus_details"]
    ]


def said(life: Life) -> Any:
    """What operators, meters and programs have said; not what devices were asked for meanwhile."""
    content = life.twin.to_json()
    demand = content["demand"]
    of_elements = [
        *((bus, name, of[:4]) for bus, name, of in demand["loads"] if of[:4] != NOTHING_SAID),
        *((name, power, wires, of[:4]) for name, power, wires, of in demand["devices"]),
        *((name, power, wires, of[:4]) for name, power, wires, of, _ in demand["generators"]),
    ]
    return of_elements, demand["generators_named"], content["adjustments"]


@given(st.lists(steps, max_size=25))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_replay_gives_the_same_to_the_last_digit(
    store: Store, lived: list[tuple[Any, ...]]
) -> None:
    name = f"f{uuid.uuid4().hex}"
    first = Life(store, name)
    for number, step in enumerate(lived):
        live(first, step, number)
    known = entries.encode_segment(list(first.once))
    was = first.solve()
    first.end()
    second = Life(store, name)
    assert second.recovered.problems == []
    assert said(second) == said(first)
    assert entries.encode_segment(list(second.once)) == known
    assert inputs(second.solve()) == inputs(was)
    # And it goes on alike: the next unnamed generator has the next name.
    added = second.take("add_generator", {"bus_name": "671", "kw": 1.0, "request_id": "next"})
    second.end()
    third = Life(store, name)
    again = third.take("add_generator", {"bus_name": "671", "kw": 1.0, "request_id": "next"})
    assert again.outcome == added.outcome
    assert not again.is_new
    third.end()


class TestTaps:
    def test_taps_and_voltages_are_those_of_the_snapshot(self, store: Store) -> None:
        name = f"f{uuid.uuid4().hex}"
        first = Life(store, name)
        for kw in (500.0, 10.0, 300.0):
            first.take("set_load", {"bus_name": "671", "load_name": "Load_671", "new_kw": kw})
            was = first.solve()
        first.save()
        first.end()
        second = Life(store, name)
        now = second.solve()
        second.end()
        assert now["taps"] == was["taps"]
        for one, other in zip(was["bus_details"], now["bus_details"], strict=True):
            for phase, voltage in one["phases"].items():
                assert other["phases"][phase]["v_pu"] == pytest.approx(voltage["v_pu"], abs=1e-5)


class TestWhatCannotBeRead:
    def test_an_entry_that_is_none_of_ours_is_refused(self, store: Store) -> None:
        name = f"f{uuid.uuid4().hex}"
        life = Life(store, name)
        life.journal.append([b"what is this"])
        life.end()
        with pytest.raises(Unrecoverable, match="what is this"):
            Life(store, name)

    def test_a_snapshot_of_another_format_is_refused(self, store: Store) -> None:
        name = f"f{uuid.uuid4().hex}"
        life = Life(store, name)
        life.journal.save(b'{"format": 99}', life.journal.last, None)
        life.end()
        with pytest.raises(Unrecoverable, match="format"):
            Life(store, name)

    def test_what_no_longer_fits_the_feeder_is_told_and_the_rest_is_there(
        self, store: Store
    ) -> None:
        name = f"f{uuid.uuid4().hex}"
        life = Life(store, name)
        gone = entries.Decided(
            "set_factor",
            b'{"bus_name":"999","factor":2.0}',
            NOW_S,
            Done("factor of bus 999 set to 2", ("999",)),
        )
        life.journal.append([entries.encode(gone), entries.encode(Barrier())])
        life.take("set_factor", {"bus_name": "671", "factor": 2.0})
        life.end()
        again = Life(store, name)
        assert [p for p in again.recovered.problems if "999" in p]
        found = again.twin.demand.find("671", "Load_671")
        assert found is not None
        assert found.factor == 2.0
        again.end()
