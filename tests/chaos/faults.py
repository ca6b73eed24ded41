"""What is done to the system, and when: decided by a seed alone."""

from collections.abc import Iterator
from enum import StrEnum
from random import Random
from typing import NamedTuple

PROCESSES = ("solver", "dfp_manager", "gateway", "broker", "store")


class Action(StrEnum):
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"


class Step(NamedTuple):
    """Something is done to a process, so many seconds after the fault began; ``action`` is one of
    those of the injector that it is for.
    """

    at_s: float
    action: StrEnum
    process: str


class Fault(NamedTuple):
    """Steps that belong together; ``cuts`` are clients whose connections end in the middle of a
    request; so long it is quiet after the system has recovered.
    """

    kind: str
    steps: tuple[Step, ...]
    cuts: int
    quiet_s: float

    @property
    def kills(self) -> int:
        return sum(step.action is Action.KILL for step in self.steps)


def kills(rng: Random) -> Iterator[Fault]:
    """Faults without end, most of which kill; one process after the other has its turn."""
    waiting: list[str] = []
    while True:
        chance = rng.random()
        if chance < 0.6:
            waiting = waiting or rng.sample(PROCESSES, len(PROCESSES))
            yield _fault(rng, _kill(waiting.pop()))
        elif chance < 0.72:
            yield _fault(rng, _two_at_once(rng))
        elif chance < 0.79:
            yield _fault(rng, _again(rng))
        elif chance < 0.84:
            yield _fault(rng, _hounded(rng))
        elif chance < 0.89:
            yield _fault(rng, _while_paused(rng))
        else:
            yield _fault(rng, _pause(rng))


def pauses(rng: Random) -> Iterator[Fault]:
    """Faults without end, none of which kills."""
    while True:
        yield _fault(rng, _pause(rng))


def lone_kills(rng: Random) -> list[Fault]:
    """Each process is killed once, in any order."""
    return [_fault(rng, _kill(process)) for process in rng.sample(PROCESSES, len(PROCESSES))]


def kill(process: str) -> Fault:
    """One kill and nothing else."""
    kind, steps = _kill(process)
    return Fault(kind, steps, cuts=0, quiet_s=0.0)


Drawn = tuple[str, tuple[Step, ...]]


def _fault(rng: Random, drawn: Drawn) -> Fault:
    kind, steps = drawn
    return Fault(kind, steps, cuts=rng.choice((0, 0, 1, 2, 3)), quiet_s=rng.uniform(0.0, 1.0))


def _kill(process: str) -> Drawn:
    return f"kill {process}", (Step(0.0, Action.KILL, process),)


def _two_at_once(rng: Random) -> Drawn:
    first, second = rng.sample(PROCESSES, 2)
    after_s = rng.choice((0.0, rng.uniform(0.0, 0.05)))
    return "kill two", (Step(0.0, Action.KILL, first), Step(after_s, Action.KILL, second))


def _again(rng: Random) -> Drawn:
    """Another kill, perhaps of what has just come back, while the system recovers."""
    first, second = rng.choice(PROCESSES), rng.choice(PROCESSES)
    after_s = rng.uniform(0.1, 1.0)
    return "kill again", (Step(0.0, Action.KILL, first), Step(after_s, Action.KILL, second))


def _hounded(rng: Random) -> Drawn:
    """The same process is killed whenever it is about to be back."""
    process = rng.choice(PROCESSES)
    times = [0.0]
    for _ in range(rng.randint(2, 3)):
        times.append(times[-1] + rng.uniform(0.2, 1.0))
    return "kill one again and again", tuple(Step(at_s, Action.KILL, process) for at_s in times)


def _while_paused(rng: Random) -> Drawn:
    paused, killed = rng.sample(PROCESSES, 2)
    kill_s = rng.uniform(0.0, 0.5)
    resume_s = kill_s + rng.uniform(0.0, 1.0)
    return "kill while another is paused", (
        Step(0.0, Action.PAUSE, paused),
        Step(kill_s, Action.KILL, killed),
        Step(resume_s, Action.RESUME, paused),
    )


def _pause(rng: Random) -> Drawn:
    process = rng.choice(PROCESSES)
    resume_s = 0.1 * 30.0 ** rng.random()  # 0.1 to 3 s, short ones as often as long ones
    return f"pause {process}", (
        Step(0.0, Action.PAUSE, process),
        Step(resume_s, Action.RESUME, process),
    )
