"""What the peers of the gateway's tests publish is what the contract says."""

from collections.abc import Iterator

import orjson
import pytest
from gateway_peers import FEEDER, FIRST, OTHER, Scene, playing, state, topology
from support import MqttClient

from schemas import topics
from schemas.commands import MANAGER_COMMANDS, SOLVER_COMMANDS
from schemas.replies import Accepted, ServiceStatus
from schemas.state import State
from schemas.topology import Topology


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as found:
        yield found


def asked(scene: Scene, topic: str) -> Accepted:
    """The reply to a command without a body."""
    with MqttClient(scene.broker.port, protocol="5") as caller:
        caller.subscribe(f"{caller.reply_topic}/#")
        caller.publish(topic, orjson.dumps({"request_id": "1", "reply_to": caller.reply_topic}))
        return Accepted.model_validate_json(orjson.dumps(caller.reply_to("1")))


def test_state_and_topology_are_what_their_schemas_say() -> None:
    assert State.model_validate_json(state(FEEDER, FIRST)).version == FIRST
    assert Topology.model_validate_json(topology(FEEDER)).feeder == FEEDER


def test_the_solver_answers_as_the_schema_says(scene: Scene) -> None:
    topic = topics.command(FEEDER, "run_simulation")
    assert topics.command_of(topic) in SOLVER_COMMANDS
    assert asked(scene, topic).version == scene.solver.version
    assert scene.solver.heard[-1][0] == topic


def test_the_manager_answers_as_the_schema_says(scene: Scene) -> None:
    topic = topics.dfp_command("list")
    assert topics.command_of(topic) in MANAGER_COMMANDS
    assert asked(scene, topic).results == {"did": "list"}
    assert scene.manager.heard[-1][0] == topic


def test_each_says_that_it_is_there(scene: Scene) -> None:
    with MqttClient(scene.broker.port, protocol="5") as late:
        late.subscribe(topics.every_service_status())
        for instance in (f"solver-{FEEDER}", f"solver-{OTHER}", "dfp_manager"):
            said = late.first_on(topics.service_status(instance)).payload
            assert ServiceStatus.model_validate_json(said).status == "online"
