"""The one-line map: buses where the feeder's own drawing has them, in the colour of their voltage.

A branch has the colour of its own phases, so that a lateral shows its phase and not the mean of
three.
"""

import math
from collections.abc import Iterator

from flexfeeder.drawing.canvas import (
    Box,
    Canvas,
    Point,
    between,
    clamp,
    escape,
    number,
    panel,
    symbol,
    text,
    xy,
)
from flexfeeder.drawing.model import Branch, Bus, Feeder, short
from flexfeeder.drawing.theme import (
    HIGH_PU,
    INK,
    LOW_PU,
    MUTED,
    OVERLOAD,
    SUNSET,
    voltage_colour,
)

MAP_PANEL = Box(24, 112, 708, 636)
MAP = Box(64, 176, 668, 520)
MOST_OVERLOAD_LABELS = 5
LEGEND = {
    "closed": "Switch, closed",
    "open": "Switch, open",
    "dead": "De-energised",
    "regulator": "Regulator",
    "transformer": "Transformer",
    "source": "Source",
    "violation": "Outside limits",
    "overload": "Overloaded",
}

Places = dict[str, Point]
"""In px, by the name of the bus; a bus without coordinates has none."""


def one_line_map(feeder: Feeder) -> Iterator[str]:
    yield panel(MAP_PANEL, "One-line map")
    places = _places(feeder)
    if not places:
        middle = Point((MAP.left + MAP.right) / 2, (MAP.top + MAP.bottom) / 2)
        yield text("No bus has coordinates", middle, 16, MUTED, "middle")
        return
    size = clamp(math.sqrt(150 / len(places)), 0.35, 1.3)
    canvas = Canvas(Box(MAP.left - 24, MAP.top - 16, MAP.right + 24, MAP.bottom + 16))
    yield '<g fill="none" stroke-linecap="round">'
    for branch in feeder.branches:
        yield from _line(branch, places, size, canvas)
    yield "</g>"
    for name, at in places.items():
        canvas.ink(at, at)
        yield _dot(feeder.buses[name], at, size)
    yield from _devices(feeder, places, size)
    yield from _violations(feeder, places, size)
    yield from _source(feeder, places)
    yield from _labels(feeder, places, canvas)


def _places(feeder: Feeder) -> Places:
    """From the units of the feeder's drawing to px, at one scale, in the middle of the map."""
    drawn = {bus.name: bus.at for bus in feeder.buses.values() if bus.at}
    if not drawn:
        return {}
    xs, ys = zip(*drawn.values(), strict=True)
    wide, tall = max(xs) - min(xs), max(ys) - min(ys)
    scale = min(
        (MAP.right - MAP.left) / wide if wide else math.inf,
        (MAP.bottom - MAP.top) / tall if tall else math.inf,
    )
    scale = scale if math.isfinite(scale) else 1.0
    left = (MAP.left + MAP.right - wide * scale) / 2
    bottom = (MAP.top + MAP.bottom + tall * scale) / 2
    west, south = min(xs), min(ys)
    return {
        name: Point(left + (x - west) * scale, bottom - (y - south) * scale)
        for name, (x, y) in drawn.items()
    }


def _line(branch: Branch, places: Places, size: float, canvas: Canvas) -> Iterator[str]:
    start, end = (places.get(bus.name) for bus in branch.ends)
    if start is None or end is None:
        return
    canvas.ink(start, end)
    colour = _colour(branch) if branch.closed else MUTED
    dash = "" if branch.closed else ' stroke-dasharray="3 5"'
    phases = 3 if branch.phases is None else len(branch.phases)
    width = number((0.9 + 0.5 * phases) * size)
    yield f'<path d="M{xy(start)}L{xy(end)}" stroke="{colour}" stroke-width="{width}"{dash}>'
    yield f"<title>{escape(_branch_tip(branch))}</title></path>"


def _colour(branch: Branch) -> str:
    first, second = branch.ends
    own = [bus.pu[phase] for phase in branch.shared() for bus in branch.ends]
    # A transformer from phases to phase pairs shares none.
    both = [*first.pu.values(), *second.pu.values()] if first.pu and second.pu else []
    return voltage_colour(own or both)


def _dot(bus: Bus, at: Point, size: float) -> str:
    return (
        f'<circle cx="{number(at.x)}" cy="{number(at.y)}" r="{number(2.8 * size)}"'
        f' fill="{voltage_colour(bus.pu.values())}"><title>{escape(_bus_tip(bus))}</title></circle>'
    )


def _devices(feeder: Feeder, places: Places, size: float) -> Iterator[str]:
    """One symbol for regulators of three phases side by side, with the names of all."""
    groups: dict[tuple[str, str, str], list[Branch]] = {}
    for branch in feeder.branches:
        if branch.kind != "line":
            first, second = branch.ends
            groups.setdefault((_device(branch), first.name, second.name), []).append(branch)
    for (device, first_name, second_name), side_by_side in groups.items():
        one, other = places.get(first_name), places.get(second_name)
        start, end = one or other, other or one
        if start and end:
            turn = math.degrees(math.atan2(end.y - start.y, end.x - start.x))
            tip = "\n".join(_device_tip(branch, feeder.taps) for branch in side_by_side)
            middle = between(start, end, 0.5)
            yield symbol(device, middle, size, tip, 0 if device == "regulator" else turn)


def _device(branch: Branch) -> str:
    if branch.kind == "switch":
        return "closed" if branch.closed else "open"
    return "regulator" if branch.kind == "regulator" else "transformer"


def _violations(feeder: Feeder, places: Places, size: float) -> Iterator[str]:
    for name in feeder.violating:
        if at := places.get(name):
            yield symbol("violation", at, size, _bus_tip(feeder.buses[name]))


def _source(feeder: Feeder, places: Places) -> Iterator[str]:
    """The source's symbol, set off from its bus, away from the feeder."""
    at = places.get(feeder.source.name) if feeder.source else None
    if feeder.source is None or at is None:
        return
    beside = next(
        (
            place
            for branch in feeder.branches
            if feeder.source in branch.ends
            for bus in branch.ends
            if (place := places.get(bus.name)) and place != at
        ),
        Point(at.x + 1, at.y),
    )
    away = math.dist(at, beside)
    place = Point(at.x - 22 * (beside.x - at.x) / away, at.y - 22 * (beside.y - at.y) / away)
    yield f'<path d="M{xy(at)}L{xy(place)}" stroke="{INK}" stroke-width="2"/>'
    yield symbol("source", place, 1, f"Source, {_bus_tip(feeder.source)}")


def _labels(feeder: Feeder, places: Places, canvas: Canvas) -> Iterator[str]:
    overloads = [(o, at) for o in feeder.overloads if (at := places.get(o.bus))]
    extremes = [(e, at) for e in feeder.extremes if (at := places.get(e.bus.name))]
    for _, at in (*overloads, *extremes):
        canvas.keep_clear(at)
    for extreme, at in extremes:
        yield canvas.label(at, (f"{extreme.word} {extreme.pu:.3f}", f"bus {extreme.where}"))
    for rank, (overload, at) in enumerate(overloads):
        load = f"{overload.percent:.0f} %"
        if rank < MOST_OVERLOAD_LABELS:
            yield canvas.label(at, (short(overload.name, 20), load), OVERLOAD)
        yield symbol("overload", at, 1, f"{overload.name}: {load} of {overload.rating_kva:g} kVA")


def _bus_tip(bus: Bus) -> str:
    volts = ", ".join(f"{phase} {pu:.4f}" for phase, pu in bus.pu.items())
    return f"{bus.name}: {volts or 'de-energised'}"


def _branch_tip(branch: Branch) -> str:
    phases = " " + "".join(sorted(branch.phases)) if branch.phases else ""
    position = "" if branch.closed else ", open"
    return f"{branch.kind} {branch.name}{phases}{position}"


def _device_tip(device: Branch, taps: dict[str, int]) -> str:
    tap = f", tap {taps[device.name]:+d}" if device.name in taps else ""
    return _branch_tip(device) + tap


def legend() -> Iterator[str]:
    """The scale of the colours, and the symbols by name."""
    left, top, bar = 48, 576, 196
    yield text("Mean voltage, pu", Point(left, top), 14, MUTED)
    stops = "".join(
        f'<stop offset="{number(100 * place / (len(SUNSET) - 1))}%" stop-color="{colour}"/>'
        for place, colour in enumerate(SUNSET)
    )
    yield f'<defs><linearGradient id="flexfeeder-pu">{stops}</linearGradient></defs>'
    yield (
        f'<rect x="{left}" y="{top + 10}" width="{bar}" height="12" rx="2"'
        ' fill="url(#flexfeeder-pu)"/>'
    )
    for pu, anchor in ((LOW_PU, "start"), (1.0, "middle"), (HIGH_PU, "end")):
        at = Point(left + bar * (pu - LOW_PU) / (HIGH_PU - LOW_PU), top + 40)
        yield text(f"{pu:.2f}", at, 14, INK, anchor)
    for place, (name, words) in enumerate(LEGEND.items()):
        column, row = divmod(place, 3)
        at = Point(left + bar + 42 + 140 * column, top - 5 + 22 * row)
        yield symbol(name, at, 0.9)
        yield text(words, Point(at.x + 16, at.y + 5), 14, MUTED)
