"""States, topologies, statuses, setpoints and events, from anybody: whoever hears them goes on, and
shows nothing but what is documented.
"""

import asyncio
import io
import logging
import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import orjson
import pytest
import structlog
from hypothesis import Phase, given
from hypothesis import strategies as st

from flexfeeder.drawing import svg
from flexfeeder.liveline import LiveLine
from flexfeeder.meters import Fleet
from flexfeeder.simulation import measure
from flexfeeder.watcher import Watcher
from fuzz.addresses import topics_below
from fuzz.effort import effort, patient
from fuzz.heard import EXAMPLES, messages
from fuzz.payloads import Payload, one_spoilt, payloads, spoilt
from fuzz.shapes import assert_finite
from fuzz.tried import tried
from schemas import topics
from schemas.alerts import Alert
from schemas.programs import Program, ProgramEvent
from schemas.readings import Reading, ReadingBatch
from schemas.replies import ServiceStatus
from schemas.setpoints import Setpoint
from schemas.state import State
from schemas.topology import Topology
from services.bus import BrokerAddress, Message
from services.dfp_manager import effect, programs
from services.dfp_manager.effect import NoState
from services.dfp_manager.feeders import Feeders
from services.dfp_manager.programs import FeederPrograms
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.streams import Streams
from services.settings import Settings
from services.solver.owner import LONGEST_LEAP

pytestmark = patient

FEEDER = "ieee123"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings(log_level="ERROR", mqtt_host="127.0.0.1")
LOG = structlog.wrap_logger(
    None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
)

STATE = EXAMPLES[State]
BUS = EXAMPLES[Topology]["buses"][0]
TOPOLOGY = {
    **EXAMPLES[Topology],
    "buses": [{**BUS, "bus": name} for name in ("1", "149", "150", "150r")],
}
STATUS = {**EXAMPLES[ServiceStatus], "figures": {"fence": 1.0, "solves": 36000.0}}

VIEWS = (
    *("/get_state", "/neighbourhoods", "/transformers", "/violations", "/voltage_profile"),
    *("/feeders", "/buses/1", "/buses/48", "/metrics", "/readyz"),
)

_LABELS = r'\{(\w+="([^"\\]|\\["\\n])*",?)*\}'
_METRIC = re.compile(rf"# (HELP|TYPE) \w+ .+|\w+({_LABELS})? [-+]?([\d.]+(e[-+]?\d+)?|Inf|NaN)")


def heard(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, False, None, None, (1, 1, 1))


def said(model: type[Any], topic: str) -> st.SearchStrategy[Message]:
    return messages(EXAMPLES[model], among=st.just(topic))


class Gateway:
    """A gateway without a broker: what it hears is handed to it."""

    def __init__(self) -> None:
        streams = Streams(LOG)
        self._bridge = Bridge(BrokerAddress("127.0.0.1", 1), FEEDER, streams, LOG)
        self._app = create_app(self._bridge, streams, LOG)
        for topic, example in (
            (topics.topology(FEEDER), TOPOLOGY),
            (topics.state(FEEDER), STATE),
            (topics.service_status(f"solver-{FEEDER}"), STATUS),
        ):
            self.hears(heard(topic, orjson.dumps(example)))

    def hears(self, message: Message) -> None:
        self._bridge._take(message)

    def answers(self, paths: Iterable[str] = VIEWS) -> dict[str, httpx.Response]:
        """By path."""

        async def ask() -> dict[str, httpx.Response]:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return {path: await client.get(path) for path in paths}

        return asyncio.run(ask())


to_the_gateway = st.one_of(
    said(State, topics.state(FEEDER)),
    said(State, topics.state(FEEDER)),
    said(Topology, topics.topology(FEEDER)),
    said(ServiceStatus, topics.service_status(f"solver-{FEEDER}")),
    said(ServiceStatus, topics.service_status("a\n b")),
    said(Alert, topics.alert(FEEDER)),
    said(ProgramEvent, topics.program_event(FEEDER)),
    messages(STATE, TOPOLOGY, STATUS, among=topics_below.filter(lambda it: it.count("/") > 2)),
)


def assert_views_answer(messages: Iterable[Message]) -> None:
    gateway = Gateway()
    for message in messages:
        gateway.hears(message)
    for path, answer in gateway.answers().items():
        assert answer.status_code in {200, 404, 503}, (path, answer.text)


class TestGateway:
    @given(messages=st.lists(to_the_gateway, min_size=1, max_size=4))
    @effort(100)
    def test_no_message_makes_a_view_fail(self, messages: list[Message]) -> None:
        """It is shown, or there is nothing to show: never an error of ours."""
        assert_views_answer(messages)

    @given(state=one_spoilt(STATE))
    @effort(200)
    def test_no_spoilt_state_makes_a_view_fail(self, state: Payload) -> None:
        assert_views_answer([heard(topics.state(FEEDER), state.content)])

    @given(topology=one_spoilt(TOPOLOGY))
    @effort(200)
    def test_no_spoilt_topology_makes_a_view_fail(self, topology: Payload) -> None:
        assert_views_answer([heard(topics.topology(FEEDER), topology.content)])

    @given(messages=st.lists(to_the_gateway, min_size=1, max_size=4))
    @effort(100)
    def test_metrics_have_a_line_each_whatever_services_are_called(
        self, messages: list[Message]
    ) -> None:
        gateway = Gateway()
        for message in messages:
            gateway.hears(message)
        lines = gateway.answers(["/metrics"])["/metrics"].text.splitlines()
        assert [line for line in lines if not _METRIC.fullmatch(line)] == []


PROGRAM = Program(
    name="peak_shaving",
    number=1,
    description="",
    min_power_kw=100.0,
    target_pf=0.95,
    registered_at=NOON,
    subscriptions=("1", "48", "150"),
    executing=True,
    executions=(),
)


class TestManager:
    @given(
        messages=st.lists(
            said(State, topics.state(FEEDER))
            | said(Topology, topics.topology(FEEDER))
            | messages(STATE, TOPOLOGY, among=st.sampled_from([topics.state("x")]) | topics_below),
            max_size=6,
        )
    )
    @effort(300)
    def test_a_feeder_is_what_could_be_read_of_it(self, messages: list[Message]) -> None:
        """And what an execution did is told from any two states, or that it cannot be."""
        feeders = Feeders(FEEDER)
        for now, message in enumerate(messages):
            feeders.take(message.topic, message.payload, float(now), retained=message.retained)
        for feeder in feeders:
            assert topics.is_name(feeder.id)
            assert all(map(topics.is_name, feeder.buses or ()))
            documents = [_read(state) for state in (feeder.earlier, feeder.state)]
            _assert_told_or_not(*documents)

    @pytest.mark.xfail(strict=True, reason="a revision that a state shows is believed, always")
    @given(spoilt_state=one_spoilt(STATE), revision=st.integers(0, 10**16))
    @effort(200, phases=[Phase.generate])
    def test_what_is_published_next_is_what_the_solver_takes_next(
        self, spoilt_state: Payload, revision: int
    ) -> None:
        """Whatever revision a state says that it was solved with: a registry that is behind is
        raised above it, and a solver takes no revision that is a leap.
        """
        feeders, ours = Feeders(FEEDER), STATE["adjustments"]["revision"]
        forged = {**STATE, "adjustments": {"revision": revision, "programs": []}}
        for state in (orjson.dumps(STATE), spoilt_state.content, orjson.dumps(forged)):
            feeder = feeders.take(topics.state(FEEDER), state, 0.0, retained=False)
            applied = feeder.applied if feeder is not None else 0
            held = programs.above(FeederPrograms(FEEDER, revision=ours), applied)
            assert programs.adjustments(held).revision <= ours + LONGEST_LEAP

    def test_what_an_execution_did_is_told_from_a_spoilt_state_or_not(self) -> None:
        for state in spoilt(STATE):
            _assert_told_or_not(STATE, _read(state))


def _read(state: bytes) -> Any:
    read = tried(ValueError, lambda: orjson.loads(state))
    return STATE if isinstance(read, ValueError) else read


def _assert_told_or_not(before: Any, after: Any) -> None:
    told = tried(NoState, lambda: effect.report(before, after, PROGRAM, 7))
    if not isinstance(told, NoState):
        assert_finite(told)
        assert {outcome.bus for outcome in told.buses} == set(PROGRAM.subscriptions)


class TestMeters:
    @given(
        messages=st.lists(
            said(Topology, topics.topology(FEEDER))
            | said(Setpoint, topics.setpoint(FEEDER, "48", "Load_48"))
            | said(Reading, topics.meter(FEEDER, "48", "Load_48"))
            | said(ReadingBatch, topics.meters(FEEDER))
            | messages(TOPOLOGY, EXAMPLES[Setpoint], among=topics_below),
            max_size=6,
        )
    )
    @effort(200)
    def test_they_publish_what_the_solver_reads_whatever_they_hear(
        self, messages: list[Message]
    ) -> None:
        fleet = Fleet(SETTINGS, seed=1, speed=1.0, interval_s=15.0, log=LOG)
        for message in messages:
            fleet._arrived(message)
        for load in fleet._loads:
            held = fleet._setpoints.get((load.bus.lower(), load.name.lower()), Setpoint())
            measured = measure(load, NOON, held, random.Random(1))
            assert_finite(measured)


class TestUp:
    @given(
        messages=st.lists(
            messages(STATUS, among=topics_below.filter(lambda topic: topic.count("/") > 2)),
            max_size=6,
        )
    )
    @effort(200)
    def test_a_status_is_kept_or_not(self, messages: list[Message]) -> None:
        watcher = Watcher(SETTINGS, LOG, with_states=True)
        for message in messages:
            watcher._arrived(message)
        for instance in watcher.statuses:
            assert_finite(watcher.solver_figures(instance.removeprefix("solver-")))
        assert not watcher.is_online(0)

    @given(answer=payloads({"status": "success", "message": "newest state", "results": STATE}))
    @effort(300)
    def test_the_line_shows_a_state_or_that_it_cannot(self, answer: Payload) -> None:
        """In as many characters as there are columns, and none that moves the cursor."""
        terminal = io.StringIO()
        line = LiveLine(terminal, lambda: 80)
        line.show(answer.content, {"solves": 1.0}, 0.0)
        shown = terminal.getvalue().removeprefix("\r\x1b[K")
        assert 0 < len(shown) < 80
        assert shown.isprintable()


class TestDrawing:
    @pytest.mark.xfail(strict=False, reason="a valid topology is believed to be consistent")
    @given(topology=payloads(TOPOLOGY), state=payloads(STATE))
    @effort(200)
    def test_a_topology_and_a_state_that_are_valid_make_a_picture(
        self, topology: Payload, state: Payload
    ) -> None:
        assert_drawn(topology.content, state.content)


def assert_drawn(topology: bytes, state: bytes) -> None:
    """Well-formed, where both are valid."""
    for model, document in ((Topology, topology), (State, state)):
        if isinstance(tried(ValueError, partial(model.model_validate_json, document)), ValueError):
            return
    ET.fromstring(svg(orjson.loads(topology), orjson.loads(state)))
