"""The voltage profile: each energised phase of each bus, by its distance from the source."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from flexfeeder.drawing.canvas import Box, Canvas, Point, clamp, escape, number, panel, text, xy
from flexfeeder.drawing.model import Feeder
from flexfeeder.drawing.theme import BAD, GRID, HIGH_PU, INK, LOW_PU, MUTED, PAIRS, PHASES

PROFILE_PANEL = Box(724, 112, 1176, 636)
PROFILE = Box(786, 176, 1146, 580)


@dataclass(frozen=True, slots=True)
class Plot:
    """The ranges of the voltage profile: pu upwards, km from the source to the right."""

    low: float
    high: float
    far: float

    def at(self, km: float, pu: float) -> Point:
        left, top, right, bottom = PROFILE
        return Point(
            left + (right - left) * km / self.far,
            bottom - (bottom - top) * (pu - self.low) / (self.high - self.low),
        )


def voltage_profile(feeder: Feeder) -> Iterator[str]:
    yield panel(PROFILE_PANEL, "Voltage profile")
    shown = [(bus.km, bus.pu) for bus in feeder.buses.values()]
    values = [pu for _, volts in shown for pu in volts.values()]
    plot = Plot(
        low=min([LOW_PU, *values]) - 0.005,
        high=max([HIGH_PU, *values]) + 0.005,
        far=max((km for km, volts in shown if volts), default=0) or 1.0,
    )
    yield from _axes(plot)
    canvas = Canvas(PROFILE)
    segments = _segments(feeder, plot)
    limits = [(plot.at(0, pu), plot.at(plot.far, pu)) for pu in (LOW_PU, HIGH_PU)]
    for start, end in (*limits, *(ends for lines in segments.values() for ends in lines)):
        canvas.ink(start, end)
    fine = clamp(math.sqrt(150 / (len(shown) or 1)), 0.35, 1)
    for phase in (*PHASES, *PAIRS):
        paths = "".join(f"M{xy(start)}L{xy(end)}" for start, end in segments.get(phase, ()))
        dots = "".join(f"M{xy(plot.at(km, pu[phase]))}h0" for km, pu in shown if phase in pu)
        yield from _phase(phase, paths, dots, fine)
    yield from _phase_key({phase for _, volts in shown for phase in volts})
    yield from _phase_ends(shown, plot)
    for extreme in feeder.extremes:
        words = f"{extreme.pu:.3f}", f"bus {extreme.where}"
        yield canvas.label(plot.at(extreme.bus.km, extreme.pu), words)


def _segments(feeder: Feeder, plot: Plot) -> dict[str, dict[tuple[Point, Point], None]]:
    """By phase, each closed branch's two ends; regulators side by side give one."""
    segments: dict[str, dict[tuple[Point, Point], None]] = {}
    for branch in feeder.branches:
        first, second = branch.ends
        if branch.closed:
            for phase in branch.shared():
                ends = plot.at(first.km, first.pu[phase]), plot.at(second.km, second.pu[phase])
                segments.setdefault(phase, {})[ends] = None
    return segments


def _phase(phase: str, lines: str, dots: str, fine: float) -> Iterator[str]:
    """Lines run along the branches; a dot is a line without length, which takes few bytes."""
    colour = PHASES[PAIRS.get(phase, phase)]
    cap = "square" if phase in PAIRS else "round"
    name = escape(f"phase {phase}")
    if lines:
        yield (
            f'<path d="{lines}" fill="none" stroke="{colour}" stroke-width="{number(1.6 * fine)}"'
            f' stroke-linecap="round"><title>{name}</title></path>'
        )
    if dots:
        yield (
            f'<path d="{dots}" fill="none" stroke="{colour}" stroke-width="{number(4 * fine)}"'
            f' stroke-linecap="{cap}"><title>{name}, buses</title></path>'
        )


def _phase_key(present: set[str]) -> Iterator[str]:
    """The key, from right to left: three squares for the phase pairs, a line for each phase."""
    x, y = PROFILE.right, PROFILE_PANEL.top + 28
    if present & PAIRS.keys():
        yield text(" ".join(PAIRS), Point(x, y), 14, INK, "end", weight=600)
        x -= 106
        for place, colour in enumerate(PHASES.values()):
            yield f'<rect x="{x + 9 * place}" y="{y - 8}" width="6" height="6" fill="{colour}"/>'
        x -= 18
    for phase in reversed([phase for phase in PHASES if phase in present]):
        yield text(phase, Point(x, y), 14, INK, "end", weight=600)
        yield f'<path d="M{x - 30} {y - 5}h15" stroke="{PHASES[phase]}" stroke-width="3"/>'
        x -= 42


def _phase_ends(shown: list[tuple[float, dict[str, float]]], plot: Plot) -> Iterator[str]:
    """Each phase's letter beside its farthest bus, for readers to whom the colours are alike."""
    ends = {
        phase: plot.at(*max((km, volts[phase]) for km, volts in shown if phase in volts))
        for phase in PHASES
        if any(phase in volts for _, volts in shown)
    }
    above = -math.inf
    for phase, end in sorted(ends.items(), key=lambda item: item[1].y):
        above = max(end.y + 5, above + 15)
        beside = Point(PROFILE.right + 8, above)
        yield text(phase, beside, 14, PHASES[phase], weight=700)


def _axes(plot: Plot) -> Iterator[str]:
    left, top, right, bottom = PROFILE
    high_y, low_y = plot.at(0, HIGH_PU).y, plot.at(0, LOW_PU).y
    for y, height in ((top, high_y - top), (low_y, bottom - low_y)):
        yield (
            f'<rect x="{left}" y="{number(y)}" width="{right - left}" height="{number(height)}"'
            f' fill="{BAD}" fill-opacity="0.13"/>'
        )
    for pu in _ticks(plot.low, plot.high, 12):
        y = plot.at(0, pu).y
        yield f'<path d="M{left} {number(y)}H{right}" stroke="{GRID}"/>'
        yield text(f"{pu:.2f}", Point(left - 8, y + 5), 14, MUTED, "end")
    for km in _ticks(0, plot.far, 6):
        x = plot.at(km, 1).x
        yield f'<path d="M{number(x)} {top}V{bottom}" stroke="{GRID}"/>'
        yield text(f"{km:g}", Point(x, bottom + 21), 14, MUTED, "middle")
    for y in (high_y, low_y):
        yield (
            f'<path d="M{left} {number(y)}H{right}" stroke="{BAD}" stroke-width="1.4"'
            ' stroke-dasharray="7 4"/>'
        )
    yield text("pu", Point(left - 8, top - 9), 14, MUTED, "end")
    yield text("km from the source", Point((left + right) / 2, bottom + 43), 14, MUTED, "middle")


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, at most `most` of them and one."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 9) for n in range(first, last + 1)]
