"""``python -m flexfeeder.contract``: write the contract's documents into ``docs/``."""

import json
import string
import sys
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import click

from flexfeeder.contract.asyncapi import document
from flexfeeder.contract.catalogue import catalogue
from schemas.envelope import LARGEST_COMMAND
from schemas.errors import MOST_DETAILS
from schemas.wire import POWER_LIMIT

DOCS = Path(__file__).parents[2] / "docs"


def documents() -> dict[str, str]:
    """The text of each document, by the name of its file."""
    text = conventions()
    described = document(version("flexfeeder"), text)
    return {
        "asyncapi.json": json.dumps(described, indent=2, ensure_ascii=False) + "\n",
        "messages.md": catalogue(text),
    }


def conventions() -> str:
    """What holds for all messages, in Markdown, with the limits as they are."""
    text = files("flexfeeder.contract").joinpath("conventions.md").read_text(encoding="utf-8")
    return string.Template(text.strip()).substitute(
        largest_command=f"{LARGEST_COMMAND:,}",
        most_details=MOST_DETAILS,
        power_limit=f"{POWER_LIMIT:,.0f}",
    )


def outdated(written: Mapping[str, str], folder: Path) -> list[Path]:
    """The files of a folder that are missing, or not as they are to be written."""
    paths = {folder / name: text for name, text in written.items()}
    return [
        path
        for path, text in paths.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


@click.command()
@click.option("--check", is_flag=True, help="Only say what is out of date; 1 if anything is.")
@click.option(
    "--into",
    "folder",
    default=DOCS,
    show_default="docs of this checkout",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
def main(*, check: bool, folder: Path) -> None:
    """Write asyncapi.json and messages.md from schemas/."""
    written = documents()
    paths = outdated(written, folder)
    for path in paths:
        if not check:
            path.write_text(written[path.name], encoding="utf-8")
        click.echo(f"{'out of date' if check else 'written'}: {path}")
    sys.exit(1 if check and paths else 0)


if __name__ == "__main__":
    main()
