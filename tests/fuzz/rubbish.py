"""Messages that somebody may publish below ``flexfeeder/``, and what they leave behind."""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from fuzz.addresses import topics_below
from fuzz.heard import EXAMPLES
from fuzz.payloads import Payload, encoded, payloads
from schemas import topics
from schemas.alerts import Alert
from schemas.commands import MANAGER_COMMANDS, SOLVER_COMMANDS
from schemas.envelope import LARGEST_COMMAND
from schemas.programs import Adjustments, ProgramEvent
from schemas.readings import Reading, ReadingBatch
from schemas.replies import Accepted, ServiceStatus
from schemas.setpoints import Setpoint
from schemas.state import State, version_of
from schemas.topology import Topology

FEEDER = "ieee123"
ASKER = "fuzz"
REPLIES = topics.reply(ASKER)
"""Where answers are wanted."""

LARGEST_SENT = 1 << 20


class Rubbish(NamedTuple):
    """A message, and how it is published."""

    topic: str
    payload: Payload
    qos: int
    retain: bool
    protocol: str
    with_properties: bool = False

    @property
    def wants_answer(self) -> bool:
        """It says in its payload that it is to be answered where we listen."""
        levels = self.topic.split("/")
        if levels[1] not in {FEEDER, "dfp"} or levels[2] != "command":
            return False
        content = self.payload.content
        try:
            read = from_json(content) if len(content) <= LARGEST_COMMAND else None
        except ValueError:
            return False
        return isinstance(read, dict) and read.get("reply_to") == REPLIES


def _sent(topic: st.SearchStrategy[str], *valid: Any) -> st.SearchStrategy[tuple[str, Payload]]:
    return st.tuples(topic, payloads(*valid))


def _commands() -> list[st.SearchStrategy[tuple[str, Payload]]]:
    """Each command as it may be, and gone wrong; with an answer wanted."""
    found = []
    kinds: tuple[tuple[Mapping[str, TypeAdapter[Any]], Callable[[str], str]], ...] = (
        (SOLVER_COMMANDS, lambda name: topics.command(FEEDER, name)),
        (MANAGER_COMMANDS, topics.dfp_command),
    )
    for commands, topic_of in kinds:
        for name, adapter in commands.items():
            plain = {**EXAMPLES[adapter._type], "reply_to": REPLIES}
            del plain["request_id"]
            valid = [plain, *({**plain, "request_id": f"r{number}"} for number in range(4))]
            topic = st.just(topic_of(name))
            intact = st.sampled_from(valid).map(encoded).map(Payload)
            found += [_sent(topic, *valid), st.tuples(topic, intact)]
    return found


def _only(topic: str, model: Any) -> st.SearchStrategy[tuple[str, Payload]]:
    return _sent(st.just(topic), EXAMPLES[model])


OTHERS = (
    _only(topics.meter(FEEDER, "1", "Load_1"), Reading),
    _only(topics.meter(FEEDER, "48", "LOAD_48"), Reading),
    _only(topics.meters(FEEDER), ReadingBatch),
    _only(topics.adjustments(FEEDER), Adjustments),
    _only(topics.state(FEEDER), State),
    _only(topics.state("ieee13"), State),
    _only(topics.topology(FEEDER), Topology),
    _only(topics.topology("ieee13"), Topology),
    _only(topics.alert(FEEDER), Alert),
    _only(topics.program_event(FEEDER), ProgramEvent),
    _only(topics.setpoint(FEEDER, "48", "Load_48"), Setpoint),
    _only(topics.service_status(f"solver-{FEEDER}"), ServiceStatus),
    _only(topics.service_status("dfp_manager"), ServiceStatus),
    _only(topics.service_status("gateway-1"), ServiceStatus),
    _only(REPLIES + "/elsewhere", Accepted),
)


def is_taken(topic: str) -> bool:
    """Mosquitto cuts off who publishes on topics with control characters or none at all."""
    return not any(unicodedata.category(character) in {"Cc", "Cn"} for character in topic)


_ANYTHING = _sent(
    topics_below.filter(is_taken), *(EXAMPLES[model] for model in (Reading, Adjustments, State))
)


def rubbish(*, with_properties: bool) -> st.SearchStrategy[Rubbish]:
    """Commands, what else services listen to, and anything on any topic, a third of each."""
    kinds = [st.one_of(_commands()), st.one_of(OTHERS), _ANYTHING]
    sent = st.sampled_from(kinds).flatmap(lambda kind: kind)
    return st.builds(
        lambda sent, *how: Rubbish(*sent, *how),
        sent,
        st.integers(0, 1),
        st.sampled_from([False, False, True]),
        st.sampled_from(["3.1.1", "5"]),
        st.booleans() if with_properties else st.just(False),
    ).filter(is_no_forgery)


def is_no_forgery(sent: Rubbish) -> bool:
    """Not one of those that take over: they have tests of their own. Nor too much to send."""
    payload = sent.payload.content
    kind = sent.topic.split("/")[-1]
    if kind == "topology":
        try:
            Topology.model_validate_json(payload)
        except ValidationError:
            return len(payload) < LARGEST_SENT
        return False
    return not (kind == "state" and version_of(payload)) and len(payload) < LARGEST_SENT
