"""The little Markdown that the catalogue is made of."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns that are empty in every row are left out."""
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    shown = [index for index in range(len(head)) if any(row[index] for row in body)]
    lines = [[head[index] for index in shown], ["---" for _ in shown]]
    lines += [[row[index] for index in shown] for row in body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def anchor(heading: str) -> str:
    """The anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def link(heading: str) -> str:
    """A link to a heading of the same page."""
    return f"[{heading}](#{anchor(heading)})"
