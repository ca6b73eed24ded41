"""Whatever comes on a command topic is decided once, answered where it can be, and leaves nothing
behind that cannot be kept.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support import buses_named, quiet_log

from fuzz.addresses import topics_below
from fuzz.effort import effort, patient
from fuzz.heard import EXAMPLES, messages
from fuzz.payloads import Payload, payloads
from fuzz.shapes import assert_finite
from fuzz.tried import tried
from schemas import topics
from schemas.commands import MANAGER_COMMANDS, SOLVER_COMMANDS
from schemas.errors import Refusal
from schemas.programs import Adjustments, ExecuteProgram, RegisterProgram, Subscribe
from schemas.readings import Reading, ReadingBatch
from schemas.replies import Accepted, Refused
from schemas.wire import POWER_LIMIT
from services import requests
from services.bus import Connection, Message
from services.dfp_manager import decided as records
from services.dfp_manager import handlers, layout
from services.dfp_manager.attempt import Attempt
from services.dfp_manager.handlers import Context
from services.dfp_manager.layout import BOUNDS, Held
from services.dfp_manager.programs import FeederPrograms, adjustments
from services.dfp_manager.registry import Found
from services.once import Once
from services.requests import Request
from services.solver.bus_rule import DemandInForce
from services.solver.demand import Demand, GenerationInForce
from services.solver.desk import Desk
from services.solver.elements import NominalLoad
from services.solver.intake import Intake

pytestmark = patient

FEEDER = "ieee123"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LOG = quiet_log()
CONTEXT = Context({"1": "1", "48": "48"}, NOW)

COMMANDS: dict[str, TypeAdapter[Any]] = {**SOLVER_COMMANDS, **MANAGER_COMMANDS}

REPLY: TypeAdapter[Accepted | Refused] = TypeAdapter(Accepted | Refused)

FARTHEST = 10 * math.hypot(POWER_LIMIT, POWER_LIMIT)
"""What one can ask for, in kVA: both powers at their limit, and the largest factor."""


class Sent:
    """A connection that keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, **_options: object) -> bool:
        self.published.append((topic, payload))
        return True


def feeder() -> Demand:
    """A load at each of buses 1 and 48, none at 150."""
    loads = [NominalLoad("Load_1", "1", 40.0, 20.0), NominalLoad("Load_48", "48", 210.0, 150.0)]
    return Demand(loads, buses_named("1", "48", "150"), {1: ["1"], 2: ["48"]})


def executing() -> FeederPrograms:
    """One program that is in force at bus 48."""
    held = FeederPrograms(FEEDER)
    subscribed = Subscribe(bus_name="48", dfp_name="peak_shaving")
    registered, executed = (
        model.model_validate_json(orjson.dumps(EXAMPLES[model]))
        for model in (RegisterProgram, ExecuteProgram)
    )
    for command in (registered, subscribed, executed):
        held = handlers.decide(command, held, CONTEXT).programs
    return held


def commands_among(names: Iterable[str]) -> st.SearchStrategy[Message]:
    valid = [EXAMPLES[COMMANDS[name]._type] for name in names]
    named = st.sampled_from([topics.command(FEEDER, name) for name in names])
    return st.one_of(
        *(
            messages(EXAMPLES[COMMANDS[name]._type], among=st.just(topics.command(FEEDER, name)))
            for name in names
        ),
        messages(*valid, among=named | topics_below),
    )


def assert_answered(request: Request[Any], outcome: Any) -> None:
    """With one documented reply, where there is a topic to answer on, and else not at all."""
    sent = Sent()
    requests.reply(cast("Connection", sent), request, outcome, version=7)
    wanted = request.reply_topic
    if wanted is None or not topics.is_reply(wanted):
        assert sent.published == []
        return
    [(topic, reply)] = sent.published
    assert topic == wanted
    assert REPLY.validate_json(reply).request_id == request.request_id


def assert_within_reach(demand: Demand) -> None:
    everything: list[DemandInForce | GenerationInForce] = [*demand.demands(), *demand.generation()]
    for each in everything:
        assert_finite(each)
        assert math.hypot(each.kw, each.kvar) <= FARTHEST


@given(heard=messages(*(EXAMPLES[each._type] for each in COMMANDS.values()), among=topics_below))
@effort(300)
def test_any_message_is_a_request_or_a_refusal(heard: Message) -> None:
    """What is accepted was not retained, and names no topic to answer on but one for replies."""
    request = requests.read(heard, COMMANDS, arrived_at=0.0)
    if isinstance(request.command, Refusal):
        assert_answered(request, request.command)
    else:
        assert not heard.retained
        assert request.reply_topic is None or topics.is_reply(request.reply_topic)


class TestSolver:
    @given(heard=st.lists(commands_among(SOLVER_COMMANDS), min_size=1, max_size=6))
    @effort(200)
    def test_any_command_is_decided_and_answered(self, heard: list[Message]) -> None:
        """None meets an error of ours, and one that is refused has changed nothing."""
        demand = feeder()
        desk = Desk(FEEDER, demand, Once(), LOG)
        for message in heard:
            before = demand.to_json()
            decision = desk.decide(message, NOW, may_write=True, arrived_at=0.0)
            assert not desk.is_broken
            assert decision.takes_effect or demand.to_json() == before
            assert_answered(decision.request, decision.outcome)
            assert_within_reach(demand)
            demand.commit()

    @given(
        heard=messages(
            EXAMPLES[Reading], among=st.just(topics.meter(FEEDER, "1", "LOAD_1")) | topics_below
        )
        | messages(EXAMPLES[ReadingBatch], among=st.just(topics.meters(FEEDER)))
    )
    @effort(300)
    def test_any_reading_is_taken_or_counted(self, heard: Message) -> None:
        demand = feeder()
        intake = Intake(FEEDER, demand, LOG)
        intake.take(heard, NOW.timestamp())
        assert_within_reach(demand)
        assert intake.outcomes["accepted"] or demand.to_json() == feeder().to_json()
        if heard.topic != topics.meters(FEEDER) and heard.payload:
            assert intake.outcomes.total() == 1

    @given(payload=payloads(EXAMPLES[Adjustments]))
    @effort(300)
    def test_any_adjustments_that_are_read_hold_demand_and_let_it_go(
        self, payload: Payload
    ) -> None:
        demand = feeder()
        before = demand.demands()
        read = tried(ValueError, lambda: Adjustments.model_validate_json(payload.content))
        if isinstance(read, Adjustments):
            demand.adjust(read)
            assert_within_reach(demand)
            assert all(now.kw <= was.kw for now, was in zip(demand.demands(), before, strict=True))
            demand.adjust(Adjustments(revision=read.revision))
        assert demand.demands() == before


class TestManager:
    @given(heard=st.lists(commands_among(MANAGER_COMMANDS), min_size=1, max_size=6))
    @effort(200)
    def test_any_command_is_decided_answered_and_can_be_kept(self, heard: list[Message]) -> None:
        held = Held("s", executing())
        for message in heard:
            request = requests.read(message, MANAGER_COMMANDS, arrived_at=0.0)
            outcome, held = self._carried_out(request, held)
            assert_answered(request, outcome)

    def _carried_out(self, request: Request[Any], held: Held) -> tuple[Any, Held]:
        """What is answered, and what the store holds then."""
        command = request.command
        if isinstance(command, Refusal):
            return command, held
        attempt = Attempt(command, lambda it: handlers.decide(command, it, CONTEXT), NOW)
        write = tried(Refusal, lambda: attempt.write(Found(held.programs)))
        if isinstance(write, Refusal):
            return write, held
        after = Held("s", write.programs)
        layout.write_arguments(held, after, write.decided, BOUNDS)
        if write.decided is not None:
            kept = records.encode(write.decided)
            assert records.encode(records.decode(write.decided.request_id, kept)) == kept
        adjustments(write.programs)
        done = attempt.refusal or (attempt.decision and attempt.decision.done)
        return done, after
