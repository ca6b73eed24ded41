"""``python tests/chaos/soak.py --minutes M``: load with pauses and cuts, and each process killed
once at the beginning; then none may grow, and nothing be lost or done twice.
"""

import sys
import time
from collections.abc import Callable, Iterator
from random import Random

import click

from chaos.faults import Fault, lone_kills, pauses
from chaos.memory import ALLOWED_MB, ALLOWED_MB_PER_HOUR, HEADER, Trend
from chaos.play import Played, play_chapters
from chaos.sampler import Sampler
from chaos.stage import Stage, perform
from chaos.terminal import progress

CHAPTER_S = 120.0

LONGEST_PAUSE_S = 0.05
QUIET_S = (1.0, 4.0)
"""Brisk clients and some quiet between two faults, so that the memories of requests, of twenty
thousand each, are full before anything is judged.
"""

KILLED_WITHIN = 0.15
"""The share of the time in which processes are killed; the rest is one life of each."""


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=30.0, show_default=True)
@click.option("--seed", type=int, help="Repeats what is done to the system.")
def main(minutes: float, seed: int | None) -> None:
    """Watch the memory of a system under load."""
    seconds = 60 * minutes
    trends: list[Trend] = []

    def act(stage: Stage) -> Played:
        with Sampler(stage.running) as sampler, progress(round(seconds), "seconds", 60) as told:
            try:
                return _soak(stage, seconds, told)
            finally:
                trends.extend(sampler.trends())

    is_right = perform(seed, act, LONGEST_PAUSE_S)
    click.echo("\n".join(["", HEADER, *map(str, trends)]))
    click.echo(
        f"a third of each life is warm-up; what grows by more than {ALLOWED_MB_PER_HOUR:g} MB an "
        f"hour and {ALLOWED_MB:g} MB in all grows"
    )
    sys.exit(0 if is_right and not any(each.grows for each in trends) else 1)


def _soak(stage: Stage, seconds: float, told: Callable[[int], None]) -> Played:
    started = time.monotonic()
    faults = _faults(stage.rng, seconds)

    def is_over() -> bool:
        return time.monotonic() >= started + seconds or stage.is_interrupted()

    def chapter() -> Iterator[Fault]:
        until = time.monotonic() + CHAPTER_S
        while time.monotonic() < until and not is_over():
            yield next(faults)
            told(round(time.monotonic() - started))

    return play_chapters(stage.made, chapter, is_over)


def _faults(rng: Random, seconds: float) -> Iterator[Fault]:
    """Pauses, and at first a kill between them now and then."""
    started = time.monotonic()
    waiting = lone_kills(rng)
    apart_s = KILLED_WITHIN * seconds / len(waiting)
    killed = 0
    for pause in pauses(rng):
        if waiting and time.monotonic() >= started + killed * apart_s:
            killed += 1
            yield waiting.pop()
        yield pause._replace(quiet_s=rng.uniform(*QUIET_S))


if __name__ == "__main__":
    main()
