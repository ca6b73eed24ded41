"""A running system among clients that publish anything anywhere: it loses nobody, answers whoever
can be answered, and is afterwards what it was.
"""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support import MqttClient, mqtt, pids

from flexfeeder.testing import System, wait_until
from fuzz.asking import answered, assert_programs_work, demanded, taken_back
from fuzz.effort import effort, patient
from fuzz.rubbish import ASKER, FEEDER, REPLIES, Rubbish, rubbish
from fuzz.shapes import assert_finite
from schemas import topics
from schemas.readings import Reading
from schemas.replies import Accepted, Refused
from schemas.state import State, version_of

pytestmark = patient

BATCHES, A_BATCH = 90, 10
"""Messages that are published, and after how many it is looked how the system does."""

OURS = frozenset(
    {
        topics.state(FEEDER),
        topics.topology(FEEDER),
        topics.adjustments(FEEDER),
        topics.service_status(f"solver-{FEEDER}"),
        topics.service_status("dfp_manager"),
    }
)
"""What services keep retained under names of their own."""

METERED = {
    topics.meter(FEEDER, "1", "Load_1"): Reading(kw=40.0, kvar=20.0),
    topics.meter(FEEDER, "48", "Load_48"): Reading(kw=210.0, kvar=150.0),
}
"""The loads for which rubbish may be a reading, at their nominal demand."""

REPLY: TypeAdapter[Accepted | Refused] = TypeAdapter(Accepted | Refused)


class Publisher:
    """A client of each protocol, what they have left at the broker, and what was answered."""

    def __init__(self, old: MqttClient, new: MqttClient) -> None:
        self._clients = {"3.1.1": old, "5": new}
        self.device = old
        self.retained: set[str] = set()
        self.wanted = 0
        """Answers."""

    @property
    def answers(self) -> list[bytes]:
        return [bytes(message.payload) for message in self.device.on(REPLIES)]

    def publish(self, sent: Rubbish) -> None:
        properties: dict[str, Any] = {}
        if sent.with_properties and sent.protocol == "5":
            properties = {"correlation": b"c" * 8, "user_property": ("a", "b")}
        if sent.retain:
            self.retained.add(sent.topic)
        self.wanted += sent.wants_answer
        self._clients[sent.protocol].publish(
            sent.topic, sent.payload.content, qos=sent.qos, retain=sent.retain, **properties
        )

    def clear(self) -> None:
        """Have the broker forget what is nobody's."""
        for topic in sorted(self.retained - OURS):
            self.device.publish(topic, b"", retain=True)


@pytest.fixture
def publisher(running: System) -> Iterator[Publisher]:
    with (
        mqtt(running, "3.1.1", client_id=ASKER) as old,
        MqttClient(running.mqtt5_port, protocol="5") as new,
    ):
        yield Publisher(old, new)


def kept_by_broker(running: System) -> dict[str, bytes]:
    """Everything that a late subscriber hears at once: what is ours, at the least."""
    found: dict[str, bytes] = {}

    def is_whole() -> bool:
        with MqttClient(running.mqtt_port, protocol="3.1.1") as client:
            client.subscribe("flexfeeder/#")
            state = topics.state(FEEDER)
            wait_until(lambda: any(not it.retain for it in client.on(state)), "a state of now")
            found.clear()
            kept = [it for it in client.heard if it.retain and it.payload]
            found.update({it.topic: bytes(it.payload) for it in kept})
        return OURS.issubset(found)

    wait_until(is_whole, "all that services keep")
    return found


def published(running: System, version: int) -> State:
    """The first state of a version or a newer one, read by its schema."""
    with MqttClient(running.mqtt_port, protocol="3.1.1") as client:
        client.subscribe(topics.state(FEEDER))

        def states() -> list[bytes]:
            heard = [bytes(message.payload) for message in client.on(topics.state(FEEDER))]
            return [state for state in heard if (version_of(state) or 0) >= version]

        wait_until(lambda: bool(states()), f"state {version} is published")
        return State.model_validate_json(states()[0])


def assert_unharmed(running: System, before: dict[str, int]) -> None:
    """Everybody is there who was there, and none has met an error of his own."""
    assert pids(running) == before
    assert "Traceback" not in running.log.read_text(encoding="utf-8")


def test_whatever_is_published_everybody_serves_on(
    running: System, broker_kind: str, http: httpx.Client, publisher: Publisher
) -> None:
    """What says whom to answer is answered once, and when all that was asked for is taken back, the
    feeder is what it was.
    """
    sent = rubbish(with_properties=broker_kind == "mosquitto")
    there, was, kept = pids(running), answered(http, "GET", "/get_state"), kept_by_broker(running)

    @given(batch=st.lists(sent, min_size=A_BATCH, max_size=A_BATCH))
    @effort(BATCHES, phases=[Phase.generate])
    def holds(batch: list[Rubbish]) -> None:
        for each in batch:
            publisher.publish(each)
        wait_until(
            lambda: len(publisher.answers) >= publisher.wanted, f"{publisher.wanted} answers"
        )
        assert_unharmed(running, there)
        assert_finite(answered(http, "GET", "/get_state"))

    holds()
    assert publisher.wanted > BATCHES
    assert len(publisher.answers) == publisher.wanted
    for answer in publisher.answers:
        REPLY.validate_json(answer)
    publisher.clear()
    # A solver publishes its topology when it connects, and not again.
    topology = topics.topology(FEEDER)
    publisher.device.publish(topology, kept[topology], retain=True)
    for topic, reading in METERED.items():
        publisher.device.publish(topic, reading.model_dump_json().encode())
    # A reading takes another way than a command, and may come after it.
    wait_until(
        lambda: demanded(taken_back(http)) == demanded(was), "it is what it was", every_s=0.1
    )
    now = answered(http, "POST", "/run_simulation")
    assert now["converged"]
    assert demanded(now) == demanded(was)
    assert published(running, now["version"]).converged
    assert_programs_work(http)
    # Setpoints are lifted a moment after the demand.
    wait_until(
        lambda: kept_by_broker(running).keys() == kept.keys(),
        "the broker keeps what it did",
    )
    assert_unharmed(running, there)
