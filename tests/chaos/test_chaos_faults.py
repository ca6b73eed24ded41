"""What chance decides: the same for the same seed, and everything some time."""

from itertools import islice
from random import Random

from chaos.faults import PROCESSES, Action, Fault, kills, pauses
from chaos.operations import Kind
from chaos.wishes import Wishes
from chaos.world import World


def test_a_seed_repeats_what_is_done() -> None:
    def first(seed: int) -> list[Fault]:
        return list(islice(kills(Random(seed)), 200))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_every_process_is_killed_and_paused() -> None:
    for faults, action in ((kills, Action.KILL), (pauses, Action.PAUSE)):
        steps = [step for fault in islice(faults(Random(1)), 200) for step in fault.steps]
        assert {step.process for step in steps if step.action is action} == set(PROCESSES)


def test_what_is_paused_goes_on_within_three_seconds() -> None:
    for fault in islice(kills(Random(1)), 500):
        paused = [step for step in fault.steps if step.action is Action.PAUSE]
        resumed = [step for step in fault.steps if step.action is Action.RESUME]
        assert [s.process for s in paused] == [s.process for s in resumed]
        assert all(0.1 <= step.at_s <= 3.0 for step in resumed if fault.kills == 0)


def test_a_client_wishes_for_everything_within_its_means() -> None:
    world = World(1, {("1", "Load_1"): 40.0, ("2", "Load_2"): 20.0})
    wishes = Wishes("c1", world, Random(1))
    kinds = set()
    for _ in range(1000):
        kind, body = wishes.next()
        kinds.add(kind)
        assert body.get("bus_name", "1") in world.buses
    assert kinds == set(Kind)
