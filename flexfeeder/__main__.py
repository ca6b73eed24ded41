"""The ``flexfeeder`` command."""

import math
import sys
from pathlib import Path
from typing import Any

import click

from flexfeeder import __version__, environment, meter_users
from flexfeeder.keys import keys
from flexfeeder.secrets import secrets
from schemas.topics import is_name
from services.settings import Settings


def _quiet(settings: Settings) -> Settings:
    """For commands whose output is the point: only what goes wrong is logged."""
    return settings.model_copy(update={"log_level": "WARNING"})


class _Finite(click.FloatRange):
    """A number within bounds; click lets NaN through any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """A live digital twin of an electricity distribution feeder.

    Settings come from the environment (FLEXFEEDER_...); the README lists them.
    """


@main.command()
@click.option("--meters/--no-meters", default=False, help="Simulate a smart meter for every load.")
def up(*, meters: bool) -> None:
    """Run the whole system on this machine, until Ctrl-C."""
    from flexfeeder.up import up as run_system  # noqa: PLC0415 - imports what only it needs

    sys.exit(run_system(environment.settings(), with_meters=meters))


@main.group(invoke_without_command=True)
@click.option("--seed", default=1, show_default=True, help="Gives each meter its habits.")
@click.option(
    "--speed",
    type=_Finite(min=0.001, max=100_000),
    default=60.0,
    show_default=True,
    help="Simulated seconds a second; 60: a day in 24 min.",
)
@click.option(
    "--interval",
    type=_Finite(min=0.01),
    default=1.0,
    show_default=True,
    help="Seconds between two readings of a meter.",
)
@click.pass_context
def meters(context: click.Context, seed: int, speed: float, interval: float) -> None:
    """Simulate a smart meter for every load of the feeder; or, with a command, say which real ones
    may connect.
    """
    if context.invoked_subcommand is not None:
        return
    from flexfeeder.discovery import discovered  # noqa: PLC0415
    from flexfeeder.meters import run  # noqa: PLC0415

    run(discovered(environment.settings()), seed=seed, speed=speed, interval_s=interval)


@main.command()
@click.option("--bus", required=True, help="Its bus, as the feeder spells it.")
@click.option("--name", required=True, help="Its name, as it was added (/add_device).")
@click.option("--kw", type=_Finite(min=0, max=1e6), required=True, help="What it draws if free.")
@click.option("--kvar", type=_Finite(min=-1e6, max=1e6), default=0.0, show_default=True)
@click.option("--interval", type=_Finite(min=0.01), default=1.0, show_default=True, help="s.")
@click.option("--late", type=_Finite(min=0), default=0.0, help="Seconds it takes to follow.")
@click.option("--follows/--ignores", default=True, help="Whether it keeps to setpoints.")
@click.option("-n", "--count", type=click.IntRange(min=0), help="Stop after so many readings.")
def device(
    *,
    bus: str,
    name: str,
    kw: float,
    kvar: float,
    interval: float,
    late: float,
    follows: bool,
    count: int | None,
) -> None:
    """Simulate one device: it publishes what it draws, and keeps to its setpoint."""
    from flexfeeder.device import Habits, run  # noqa: PLC0415
    from flexfeeder.discovery import discovered  # noqa: PLC0415

    for what in (bus, name):
        if not is_name(what):
            raise click.BadParameter(f"{what!r} is no name")
    run(
        discovered(environment.settings()),
        bus,
        name,
        Habits(kw, kvar, interval, late, follows),
        count,
    )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print whole states, not a line each.")
@click.option("-n", "--count", type=click.IntRange(min=0), help="Stop after so many states.")
def watch(*, as_json: bool, count: int | None) -> None:
    """Print the feeder's state as it comes."""
    from flexfeeder.discovery import discovered  # noqa: PLC0415
    from flexfeeder.watch import watch as watch_states  # noqa: PLC0415

    watch_states(discovered(_quiet(environment.settings())), as_json=as_json, count=count)


@main.command()
@click.option(
    "-o",
    "--output",
    default=Path("feeder.svg"),
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
)
def draw(output: Path) -> None:
    """Draw the feeder as it is now: its map and its voltage profile, as SVG."""
    from flexfeeder.discovery import discovered  # noqa: PLC0415
    from flexfeeder.draw import draw as draw_feeder  # noqa: PLC0415

    draw_feeder(discovered(_quiet(environment.settings())), output)
    click.echo(f"drawn: {output}")


main.add_command(secrets)
main.add_command(keys)
for command in meter_users.COMMANDS:
    meters.add_command(command)


if __name__ == "__main__":
    main()
