"""Whatever happens to broker and store, what was accepted stays, once; and the system heals."""

from collections.abc import Iterator

import pytest
from chaos.explain import explained
from chaos.faults import Fault
from support import FEEDERS, pids

from containers.harm import Ordeal, faults_of, ordeal
from containers.servers import servers
from containers.trusting import trusting
from flexfeeder.testing import System, system, wait_until

SEED = 20261123
UNDER_LOAD = 40
"""Commands that are accepted before anything happens."""

FAULTS = (*faults_of("broker"), *faults_of("store"))


@pytest.fixture(scope="module")
def played() -> Iterator[tuple[Ordeal, System]]:
    with (
        servers() as made,
        system(env=made.env, feeders_dir=FEEDERS) as running,
        ordeal(running, made, SEED) as at_work,
    ):
        yield at_work, running
        print("\n".join(at_work.figures.lines()))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind.replace(" ", "-"))
def test_nothing_is_lost_and_nothing_done_twice(
    fault: Fault, played: tuple[Ordeal, System]
) -> None:
    made, running = played
    services = pids(running)
    made.begin()
    wait_until(lambda: made.accepted().total() >= UNDER_LOAD, "clients are at work")
    with trusting(running, f"t{FAULTS.index(fault)}", made.nobodys_bus) as client:
        wait_until(lambda: client.accepted > 0, "it is served")
        made.inject(fault)
        wait_until(running.is_ready, "the system heals by itself")
        accepted = client.accepted
        wait_until(lambda: client.accepted > accepted, "it is served again")
    history, violations = made.settle()
    told = [line for violation in violations[:3] for line in explained(violation, history)]
    assert not violations, "\n".join(told)
    assert pids(running) == services, "no service ends of it"
