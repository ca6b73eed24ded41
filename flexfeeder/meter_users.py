"""``flexfeeder meters add|list|remove``: which meters and devices may connect to the broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import orjson

from flexfeeder import broker_users, environment
from flexfeeder.broker_acl import meter_user
from flexfeeder.broker_users import RELOAD, UsersError
from flexfeeder.secrets import feeder_of, folder_option
from schemas import topics
from schemas.wire import canonical
from services.solver.feeder import Feeder, FeederError

_MODE = 0o644
"""The broker reads the file as another user; the folder around it keeps others out."""


@click.command()
@click.argument("bus", metavar="BUS")
@click.argument("element", metavar="ELEMENT")
@click.option("--replace", is_flag=True, help="Give a meter that is known a new password.")
@folder_option
def add(bus: str, element: str, folder: Path, *, replace: bool) -> None:
    """Let the meter of a load, device or generator connect.

    Prints what the meter needs, password included: it is kept nowhere else.
    """
    for name in (bus, element):
        if not topics.is_name(name):
            raise click.BadParameter(f"{name!r} is no name")
    feeder = feeder_of(folder)
    # The engine has its buses in lower case, and setpoints are published under these names.
    bus, element = canonical(bus), _spelled(feeder, bus, element)
    user, password = meter_user(bus, element), broker_users.new_password()
    with _edited(folder) as users:
        known = _known(users, user)
        if known is not None and not replace:
            raise click.ClickException(f"{known} is known; --replace gives it a new password")
        if known is not None:
            del users[known]
        users[user] = broker_users.hashed(password, broker_users.new_salt())
    shown = {
        "username": user,
        "password": password,
        "topic": topics.meter(feeder, bus, element),
        "setpoint_topic": topics.setpoint(feeder, bus, element),
    }
    click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    click.echo(f"{user} may connect once the broker has been told:\n  {RELOAD}", err=True)


@click.command("list")
@folder_option
def list_meters(folder: Path) -> None:
    """Print the meters that may connect, each as BUS/ELEMENT."""
    try:
        users = broker_users.read(_passwords(folder))
    except UsersError as error:
        raise click.ClickException(str(error)) from None
    for user in sorted(users):
        if _is_meter(user):
            click.echo(user)


@click.command()
@click.argument("bus", metavar="BUS")
@click.argument("element", metavar="ELEMENT")
@folder_option
def remove(bus: str, element: str, folder: Path) -> None:
    """Let a meter connect no longer."""
    user = meter_user(bus, element)
    with _edited(folder) as users:
        known = _known(users, user)
        if known is None:
            raise click.ClickException(f"{user} is not known")
        del users[known]
    click.echo(
        f"{known} is out, and driven off, once the broker has been told:\n  {RELOAD}", err=True
    )


COMMANDS = (add, list_meters, remove)


def _passwords(folder: Path) -> Path:
    path = folder / "broker/passwords"
    if not path.is_file():
        raise click.ClickException(f"there is no {path}: run `flexfeeder secrets` first")
    return path


@contextmanager
def _edited(folder: Path) -> Iterator[dict[str, str]]:
    path = _passwords(folder)
    try:
        with broker_users.edited(path, _MODE) as users:
            yield users
    except OSError as error:
        raise click.ClickException(f"{error.filename or path}: {error.strerror}") from None
    except UsersError as error:
        raise click.ClickException(str(error)) from None


def _is_meter(user: str) -> bool:
    return "/" in user


def _known(users: dict[str, str], user: str) -> str | None:
    """The meter of that name, however it is spelled."""
    return next((each for each in users if canonical(each) == canonical(user)), None)


def _spelled(feeder_id: str, bus: str, element: str) -> str:
    """The element as the feeder's files spell it; says so where they do not name it, or the bus.

    That is no mistake: devices and generators are added to a feeder that runs.
    """
    try:
        feeder = Feeder.load(environment.settings().feeders_dir, feeder_id)
    except FeederError:
        click.echo(f"not checked: {feeder_id} is not among the feeders here", err=True)
        return element
    buses = feeder.config.neighbourhood_of_bus()
    if buses and canonical(bus) not in buses:
        click.echo(f"{feeder_id} has no neighbourhood with a bus {bus}; is it right?", err=True)
    spelled = feeder.spelling().get(f"load.{canonical(element)}")
    if spelled is None:
        click.echo(f"{feeder_id} is built without a load {element}; added later?", err=True)
    return spelled or element
