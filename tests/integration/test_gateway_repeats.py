"""What a broker takes into its grave is asked for again by the gateway, on either broker."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from support import Broker, results
from test_gateway_peers import FEEDER, OTHER, Json, Manager, Scene, Solver

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


@pytest.mark.parametrize("first", ["nothing", "under way"])
def test_a_command_that_was_lost_is_put_again_under_its_id(
    tmp_path: Path, broker_kind: str, first: str
) -> None:
    """The service that is back says nothing of it at first, or that another copy is under way."""
    scene = Scene(Broker(broker_kind, tmp_path), tmp_path)
    scene.broker.start()
    try:
        with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
            with everybody(scene):
                gateway = stack.enter_context(scene.gateway())
                scene.solver.answer = lambda _command, _body: None
                asked = pool.submit(
                    httpx.post, f"{gateway.url}/remove_generator", json={"generator_name": "g"}
                )
                wait_until(lambda: bool(scene.solver.heard), "it is heard")
                lost = scene.solver.heard[0][1]
            scene.broker.kill()
            scene.broker.start()
            with everybody(scene):
                solver, solved = scene.solver, scene.solver.answer

                def answer(command: str, body: Json) -> Json | None:
                    is_first = len(solver.heard) == 1 and first == "under way"
                    return UNDER_WAY if is_first else solved(command, body)

                solver.answer = answer
                assert results(asked.result())["version"] == solver.version
                copies = [content for _, content in solver.heard]
                assert {copy["request_id"] for copy in copies} == {lost["request_id"]}
                assert {copy["deadline"] for copy in copies} == {lost["deadline"]}
                assert len({copy["reply_to"] for copy in [lost, *copies]}) == 1 + len(copies)
                assert len(copies) == (2 if first == "under way" else 1)
    finally:
        scene.broker.kill()
