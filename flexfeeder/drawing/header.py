"""What the picture says in words: its header, and its description for those who do not see it."""

from collections.abc import Iterator

from flexfeeder.drawing.canvas import Point, text
from flexfeeder.drawing.model import Feeder, short
from flexfeeder.drawing.theme import BAD, GOOD, INK, MUTED, WIDTH


def about(feeder: Feeder) -> str:
    extremes = "".join(f", {e.word} {e.pu:.3f} pu at {e.where}" for e in feeder.extremes)
    dead = sum(not bus.pu for bus in feeder.buses.values())
    return (
        f"Map and voltage profile of {feeder.name}: {len(feeder.buses)} buses, {dead} of them"
        f" de-energised{extremes}, {_solved(feeder)}. {_status(feeder)}."
    )


def header(feeder: Feeder) -> Iterator[str]:
    yield text(short(feeder.name, 40), Point(26, 50), 27, INK, weight=700)
    good = feeder.converged and not feeder.violating and not feeder.overloads
    yield f'<circle cx="33" cy="79" r="6" fill="{GOOD if good else BAD}"/>'
    yield text(_status(feeder), Point(47, 84), 15, INK, weight=600)
    figures = [
        ("Source", _kw(feeder.source_kw)),
        ("Losses", _kw(feeder.losses_kw)),
        *((e.word.capitalize(), f"{e.pu:.3f} pu") for e in feeder.extremes),
    ]
    for place, (label, figure) in enumerate(reversed(figures)):
        right = WIDTH - 26 - 122 * place
        yield text(label, Point(right, 30), 14, MUTED, "end")
        yield text(figure, Point(right, 54), 20, INK, "end", weight=700)
    solved = f"{_solved(feeder)}, version {feeder.version}"
    yield text(solved, Point(WIDTH - 26, 84), 14, MUTED, "end")


def _status(feeder: Feeder) -> str:
    if not feeder.converged:
        return "Not converged"
    troubles = (
        _count(len(feeder.violating), "bus outside limits", "buses outside limits"),
        _count(len(feeder.overloads), "transformer overloaded", "transformers overloaded"),
    )
    return f"Converged, {', '.join(filter(None, troubles)) or 'within all limits'}"


def _solved(feeder: Feeder) -> str:
    return f"solved {feeder.solved_at:%Y-%m-%d %H:%M:%S} UTC"


def _count(many: int, one: str, more: str) -> str:
    return f"{many} {one if many == 1 else more}" if many else ""


def _kw(kw: float) -> str:
    digits = 0 if abs(kw) >= 1000 else 1
    return f"{kw:,.{digits}f} kW".replace("-", "\N{MINUS SIGN}")
