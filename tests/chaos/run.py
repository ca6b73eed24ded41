"""``python tests/chaos/run.py --kills N --seed S``: kill, pause and cut off a running system while
clients write to it, and check that nothing is lost and nothing done twice.
"""

import sys

import click

from chaos.faults import kills
from chaos.play import Played, play
from chaos.stage import Stage, perform
from chaos.terminal import progress


@click.command()
@click.option("--kills", "wanted", default=1000, show_default=True, help="How many.")
@click.option("--seed", type=int, help="Repeats what is done to the system.")
def main(wanted: int, seed: int | None) -> None:
    """Prove a system by killing its processes."""

    def act(stage: Stage) -> Played:
        with progress(wanted, "kills", every=10) as told:
            return play(
                stage.made, kills(stage.rng), wanted, told=told, is_over=stage.is_interrupted
            )

    sys.exit(0 if perform(seed, act) else 1)


if __name__ == "__main__":
    main()
