"""``flexfeeder secrets``: certificates, passwords and access lists of a deployed system."""

import re
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import click

from flexfeeder import environment
from flexfeeder.broker_users import RELOAD
from schemas.wire import canonical

DEFAULT_FOLDER = Path("deploy/secrets")

FEEDER_FILE = "feeder.env"
"""Of the folder: what compose reads first. Without it, it says so and stops."""

_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\Z")

folder_option = click.option(
    "--folder",
    default=DEFAULT_FOLDER,
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder that `flexfeeder secrets` fills.",
)


def feeder_of(folder: Path) -> str:
    """The feeder that a folder was made for; that of the settings where it is still to be made.

    Raises:
        click.ClickException: the settings name another: rights that name a feeder are of no use
            to a second one.

    """
    settings = environment.settings()
    wanted = canonical(settings.feeder)
    made_for = folder / FEEDER_FILE
    if not made_for.is_file():
        return wanted
    found = made_for.read_text(encoding="utf-8").strip().partition("=")[2]
    if "feeder" in settings.model_fields_set and wanted != found:
        raise click.ClickException(
            f"{folder} is for {found}, and FLEXFEEDER_FEEDER is {wanted}: take another --folder"
        )
    return found


def _canonical_hosts(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Host names, and addresses in their usual form."""
    hosts = []
    for value in values:
        try:
            hosts.append(str(ip_address(value)))
        except ValueError:
            if not _HOST.match(value):
                raise click.BadParameter(f"{value!r} is no host name and no address") from None
            hosts.append(value.lower())
    return tuple(hosts)


@click.command()
@folder_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    callback=_canonical_hosts,
    help="A name or address under which broker and gateway are reached; may be repeated.",
)
@click.option("--renew", is_flag=True, help="Make new certificates of broker and gateway.")
def secrets(folder: Path, hosts: tuple[str, ...], *, renew: bool) -> None:
    """Make the certificates, passwords and access lists of a deployed system.

    What is there is kept: whatever is deleted is made anew, so running it twice does nothing, and
    a password is changed by deleting its file. One broker serves one feeder, FLEXFEEDER_FEEDER.
    """
    try:
        from flexfeeder.secrets_folder import SecretsError, SecretsFolder  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "cryptography":
            raise
        raise click.ClickException("certificates need: pip install 'flexfeeder[deploy]'") from None
    feeder = feeder_of(folder)
    is_news = False

    def say(line: str) -> None:
        nonlocal is_news
        is_news |= line.startswith("replaced")
        click.echo(line, err=True)

    try:
        SecretsFolder(folder, feeder, datetime.now(UTC), say).fill(hosts, renew=renew)
    except SecretsError as error:
        raise click.ClickException(str(error)) from None
    if is_news:
        click.echo(
            "A running system takes over what is new when it is started again:\n"
            "  docker compose -f deploy/docker-compose.yml restart\n"
            f"Users and rights of the broker alone: {RELOAD}",
            err=True,
        )
