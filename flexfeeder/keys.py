"""``flexfeeder keys``: who may use the gateway."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from services import keys_file
from services.api_keys import KeyRecord, KeysError, Role

DEFAULT_FILE = Path("deploy/secrets/gateway/keys.json")

_file = click.option(
    "--file",
    "path",
    envvar="FLEXFEEDER_KEYS_FILE",
    default=DEFAULT_FILE,
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of the keys' hashes; FLEXFEEDER_KEYS_FILE names it too.",
)


@click.group()
def keys() -> None:
    """Say who may use the gateway, and how far.

    A viewer may read, an operator also change a feeder and run programs, an admin also define
    programs. A gateway follows the file: it need not be started again.
    """


@keys.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@_file
def add(name: str, role: str, path: Path) -> None:
    """Make a key for NAME, and print it: the one time that it can be seen."""
    try:
        with keys_file.changing(path):
            changed, key = keys_file.load(path).issue(
                name, Role(role), datetime.now(UTC), secrets.token_bytes
            )
            keys_file.save(path, changed)
    except KeysError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"The key of {name} ({role}), shown this once; {path} has its hash:", err=True)
    click.echo(key)


@keys.command("list")
@_file
def list_keys(path: Path) -> None:
    """Print every key that was ever made, without its secret."""
    try:
        records = keys_file.load(path).records
    except KeysError as error:
        raise click.ClickException(str(error)) from None
    rows = [("ID", "NAME", "ROLE", "CREATED", "REVOKED"), *map(_row, records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@keys.command()
@click.argument("key_id", metavar="ID")
@_file
def revoke(key_id: str, path: Path) -> None:
    """Have the key ID taken no more; a running gateway knows within a second or two."""
    try:
        with keys_file.changing(path):
            keys_file.save(path, keys_file.load(path).revoke(key_id, datetime.now(UTC)))
    except KeysError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"key {key_id} is revoked", err=True)


def _row(record: KeyRecord) -> tuple[str, ...]:
    created, revoked = _when(record.created_at), _when(record.revoked_at)
    return record.id, record.name, record.role.value, created, revoked


def _when(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
