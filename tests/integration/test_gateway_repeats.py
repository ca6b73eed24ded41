"""What a broker takes into its grave is asked for again by the gateway, on either broker."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from gateway_peers import FEEDER, OTHER, Gateway, Json, Manager, Scene, Solver
from support import Broker, results

from flexfeeder.testing import wait_until

UNDER_WAY: Json = {
    "status": "error",
    "code": "request_in_progress",
    "message": "it is being carried out",
    "details": [],
}


@contextmanager
def everybody(scene: Scene) -> Iterator[None]:
    """Solvers and manager as they come to a broker that has just started."""
    with (
        Solver(scene.broker.port, FEEDER) as scene.solver,
        Solver(scene.broker.port, OTHER) as scene.other,
        Manager(scene.broker.port) as scene.manager,
    ):
        yield


AWAY: Json = {
    "status": "error",
    "code": "service_unavailable",
    "message": "store: it is away; nothing was changed",
    "details": [],
}
FIRST = {"nothing": None, "under way": UNDER_WAY, "away": AWAY}
"""What the service that is back says to the first copy that it hears."""


@pytest.fixture
def scene(tmp_path: Path, broker_kind: str) -> Iterator[Scene]:
    """A broker, and nobody on it yet."""
    made = Scene(Broker(broker_kind, tmp_path), tmp_path)
    made.broker.start()
    try:
        yield made
    finally:
        made.broker.kill()


def remove_generator(gateway: Gateway) -> httpx.Response:
    body = {"generator_name": "g"}
    return httpx.post(f"{gateway.url}/remove_generator", json=body, timeout=30)


def was_in_time(answer: httpx.Response) -> bool:
    """False where a busy machine has taken the five seconds after which a caller is not kept."""
    return answer.status_code != 504


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_a_command_that_was_lost_is_put_again_under_its_id(
    scene: Scene, first: Json | None
) -> None:
    """The service may say that another copy is under way, or that it cannot write: nothing is known
    of the first by that.
    """

    def ask_while_the_broker_dies() -> httpx.Response:
        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            with everybody(scene):
                gateway = stack.enter_context(scene.gateway())
                scene.solver.answer = lambda _command, _body: None
                asked = pool.submit(remove_generator, gateway)
                wait_until(lambda: bool(scene.solver.heard), "it is heard")
                lost.append(scene.solver.heard[0][1])
            scene.broker.kill()
            scene.broker.start()
            with everybody(scene):
                solver, solved = scene.solver, scene.solver.answer

                def answer(command: str, body: Json) -> Json | None:
                    is_first = len(solver.heard) == 1 and first is not None
                    return first if is_first else solved(command, body)

                solver.answer = answer
                return asked.result()

    lost: list[Json] = []
    answers = (ask_while_the_broker_dies() for _ in range(3))
    answer = next(filter(was_in_time, answers))
    assert results(answer)["version"] == scene.solver.version
    copies = [content for _, content in scene.solver.heard]
    assert {copy["request_id"] for copy in copies} == {lost[-1]["request_id"]}
    assert {copy["deadline"] for copy in copies} == {lost[-1]["deadline"]}
    assert len({copy["reply_to"] for copy in [lost[-1], *copies]}) == 1 + len(copies)
    assert len(copies) == (1 if first is None else 2)


def test_what_is_asked_before_the_service_is_back_is_put_again(scene: Scene) -> None:
    """The gateway is faster: it still takes the service for online, and nobody hears the command.
    On a machine that lets it wait for four seconds it says that the service is away.
    """

    def ask_when_nobody_is_there() -> httpx.Response:
        refused: list[str] = []

        def ask() -> httpx.Response:
            while (answer := remove_generator(gateway)).status_code == 503:
                refused.append(answer.json()["details"][0]["field"])
            return answer

        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            with everybody(scene):
                gateway = stack.enter_context(scene.gateway())
            scene.broker.kill()
            scene.broker.start()
            asked = pool.submit(ask)
            wait_until(lambda: awaited(gateway) == 1 or "solver" in refused, "it waits for a reply")
            with everybody(scene):
                return asked.result()

    answers = (ask_when_nobody_is_there() for _ in range(3))
    answer = next(filter(was_in_time, answers))
    assert results(answer)["version"] == scene.solver.version
    assert len(scene.solver.heard) == 1


def awaited(gateway: Gateway) -> float:
    """How many replies it waits for."""
    metrics = httpx.get(f"{gateway.url}/metrics", timeout=30).text
    name = "flexfeeder_gateway_replies_awaited"
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(name))
