"""Places in px, the marks put there as SVG, and labels that find a free place among them."""

import html
import math
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from flexfeeder.drawing.theme import BORDER, INK, PANEL, SYMBOLS


class Point(NamedTuple):
    """A place on the page in px, y downwards."""

    x: float
    y: float


class Box(NamedTuple):
    """An upright rectangle in px."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


@dataclass(slots=True)
class Canvas:
    """Ink already on a drawing, in cells of a few px, so that labels find a free place."""

    frame: Box
    cell_px: float = 5
    inked: set[tuple[int, int]] = field(default_factory=set)
    kept_clear: list[Box] = field(default_factory=list)

    def ink(self, start: Point, end: Point) -> None:
        steps = max(1, int(math.dist(start, end) / self.cell_px))
        for step in range(steps + 1):
            at = between(start, end, step / steps)
            self.inked.add((int(at.x // self.cell_px), int(at.y // self.cell_px)))

    def keep_clear(self, at: Point) -> None:
        """No label may hide the mark at ``at``."""
        self.kept_clear.append(Box(at.x - 9, at.y - 9, at.x + 9, at.y + 9))

    def label(self, at: Point, lines: tuple[str, str], colour: str = INK) -> str:
        """A label where it hides least, with a leader from a ring around ``at``."""
        width, height = 9 * max(map(len, lines)), 34
        options = [
            (distance, _box_beside(at, distance, n * math.pi / 8, width, height))
            for distance in (13, 22, 34, 48, 64, 84, 110)
            for n in range(16)
        ]
        _, box = min(options, key=lambda option: self._cost(option[1]) + option[0] / 10)
        self.kept_clear.append(box)
        near = Point(clamp(at.x, box.left, box.right), clamp(at.y, box.top, box.bottom))
        middle = (box.left + box.right) / 2
        away = math.dist(at, near)
        rim = between(at, near, 4.5 / away) if away > 4.5 else near
        words = (
            text(line, Point(middle, box.top + y), 14, colour, "middle", weight, halo=True)
            for line, y, weight in zip(lines, (13, 30), (700, 400), strict=True)
        )
        return (
            f'<path d="M{xy(rim)}L{xy(near)}" stroke="{colour}" stroke-opacity=".7"/>'
            f'<circle cx="{number(at.x)}" cy="{number(at.y)}" r="4.5" fill="none"'
            f' stroke="{colour}" stroke-width="1.5"/>{"".join(words)}'
        )

    def _cost(self, box: Box) -> float:
        columns = range(int(box.left // self.cell_px), int(box.right // self.cell_px) + 1)
        rows = range(int(box.top // self.cell_px), int(box.bottom // self.cell_px) + 1)
        hidden = sum((column, row) in self.inked for column in columns for row in rows)
        outside = (
            box.left < self.frame.left
            or box.right > self.frame.right
            or box.top < self.frame.top
            or box.bottom > self.frame.bottom
        )
        return hidden + 1000 * outside + 100 * sum(box.overlaps(other) for other in self.kept_clear)


def _box_beside(at: Point, distance: float, angle: float, width: float, height: float) -> Box:
    x = at.x + math.cos(angle) * (distance + width / 2)
    y = at.y + math.sin(angle) * (distance + height / 2)
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def between(start: Point, end: Point, share: float) -> Point:
    return Point(start.x + (end.x - start.x) * share, start.y + (end.y - start.y) * share)


def clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def panel(box: Box, heading: str) -> str:
    left, top, right, bottom = box
    return (
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="10"'
        f' fill="{PANEL}" stroke="{BORDER}"/>'
        + text(heading, Point(left + 20, top + 28), 16, INK, weight=600)
    )


def symbol(name: str, at: Point, size: float, tip: str = "", turn: float = 0) -> str:
    """A symbol of the theme, turned clockwise by `turn` degrees."""
    rotate = f" rotate({turn:.0f})" if turn else ""
    title = f"<title>{escape(tip)}</title>" if tip else ""
    move = f"translate({xy(at)}) scale({size:.2f}){rotate}"
    return f'<g class="{name}" transform="{move}">{title}{SYMBOLS[name]}</g>'


def text(
    words: str,
    at: Point,
    size: int,
    colour: str,
    anchor: str = "start",
    weight: int = 400,
    *,
    halo: bool = False,
) -> str:
    behind = f' paint-order="stroke" stroke="{PANEL}" stroke-width="4"' if halo else ""
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    side = f' text-anchor="{anchor}"' if anchor != "start" else ""
    place = f'x="{number(at.x)}" y="{number(at.y)}" font-size="{size}" fill="{colour}"'
    return f"<text {place}{side}{bold}{behind}>{escape(words)}</text>"


def xy(point: Point) -> str:
    return f"{number(point.x)} {number(point.y)}"


def number(value: float) -> str:
    """A number to a tenth, in the fewest characters."""
    return f"{round(value, 1) + 0.0:g}"


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escape(words: str) -> str:
    return html.escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", words))
