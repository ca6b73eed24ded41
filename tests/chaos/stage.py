"""A new system, a campaign on it, and what is to be said of it in the end."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

import click
from support import FEEDERS

from chaos.campaign import Campaign, campaign
from chaos.client import LEISURELY_S
from chaos.play import Played
from chaos.prober import NotRecovered
from chaos.report import log_tail, report
from chaos.terminal import Interrupt
from flexfeeder.testing import System, system


@dataclass(frozen=True, slots=True)
class Stage:
    """What it takes to play; ``rng`` decides what is done to the system."""

    running: System
    made: Campaign
    rng: Random
    is_interrupted: Interrupt


def perform(
    seed: int | None, act: Callable[[Stage], Played], longest_pause_s: float = LEISURELY_S
) -> bool:
    """Play, and print the figures; True if nothing is wrong. Without a seed one is drawn."""
    chosen = Random().randrange(10**6) if seed is None else seed
    click.echo(f"seed {chosen}")
    interrupt = Interrupt()
    with ExitStack() as stack:
        with interrupt.withheld():
            running = stack.enter_context(system(feeders_dir=FEEDERS))
        made = stack.enter_context(campaign(running, chosen, longest_pause_s))
        try:
            played = act(Stage(running, made, Random(chosen), interrupt))
        except (NotRecovered, TimeoutError) as error:
            click.echo("\n".join([*log_tail(running), "", *made.figures.lines(), "", str(error)]))
            return False
        click.echo("\n".join(report(made.figures, played, running)))
    click.echo(f"seed               {chosen}")
    return not played.violations
