"""A feeder at one moment as an SVG picture: its one-line map and its voltage profile. Pure.

The colours of the map are the scheme "sunset" of Paul Tol, "Colour Schemes", SRON/EPS/TN/09-002,
without its two darkest ends, which are lost on a dark ground. It is safe for colour-blind readers.
"""

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

__all__ = ["svg"]

LOW_PU, HIGH_PU = 0.95, 1.05
DEAD_PU = 1e-3

WIDTH, HEIGHT = 1200, 660
SUNSET = (
    *("#4a7bb7", "#6ea6cd", "#98cae1", "#c2e4ef"),
    *("#eaeccc", "#feda8b", "#fdb366", "#f67e4b", "#dd3d2d"),
)
PHASES = {"A": "#ffc145", "B": "#35d0a5", "C": "#b794ff"}
PAIRS = {"AB": "A", "BC": "B", "CA": "C"}
PAGE, PANEL, BORDER, GRID = "#0d1520", "#121d2b", "#26364a", "#22303f"
INK, MUTED, DEAD = "#eef3f8", "#a9b8ca", "#5d6b7c"
GOOD, BAD, OVERLOAD = "#46d18c", "#ff6b6b", "#ffe14d"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MOST_OVERLOAD_LABELS = 5

SYMBOLS = {
    "closed": f'<path d="M-3.5-3.5h7v7h-7z" fill="{INK}"/>',
    "open": f'<path d="M-3.5-3.5h7v7h-7z" fill="{PANEL}" stroke="{INK}" stroke-width="1.5"/>',
    "regulator": f'<g fill="none" stroke="{INK}" stroke-width="1.5">'
    f'<circle r="5.5" fill="{PANEL}"/><path d="M-7 7 7-7M2.5-7H7v4.5"/></g>',
    "transformer": f'<g fill="none" stroke="{INK}" stroke-width="1.5">'
    f'<circle cx="-3" r="5" fill="{PANEL}"/><circle cx="3" r="5"/></g>',
    "source": f'<circle r="9" fill="{PANEL}" stroke="{INK}" stroke-width="1.8"/>'
    f'<path d="M-5 0q2.5-6 5 0t5 0" fill="none" stroke="{INK}" stroke-width="1.8"/>',
    "dead": f'<circle r="3.5" fill="{DEAD}"/>',
    "violation": f'<circle r="6" fill="none" stroke="{BAD}" stroke-width="2"/>',
    "overload": f'<path d="M0-9 8.5 6h-17z" fill="{OVERLOAD}" stroke="{PANEL}"/>'
    f'<path d="M0-4v5M0 3v1.5" stroke="{PAGE}" stroke-width="2"/>',
}
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


class Point(NamedTuple):
    """A place on the canvas in px, or in the units of the feeder's own drawing."""

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


MAP_PANEL = Box(24, 112, 708, 636)
MAP = Box(64, 176, 668, 520)
PROFILE_PANEL = Box(724, 112, 1176, 636)
PROFILE = Box(786, 176, 1146, 580)


@dataclass(frozen=True, slots=True)
class Bus:
    """A bus; ``pu`` has its energised phases or phase pairs only."""

    name: str
    at: Point | None
    km: float
    pu: dict[str, float]

    @property
    def colour(self) -> str:
        return _colour(self.pu.values())

    @property
    def tip(self) -> str:
        volts = ", ".join(f"{phase} {pu:.4f}" for phase, pu in self.pu.items())
        return f"{self.name}: {volts or 'de-energised'}"


@dataclass(frozen=True, slots=True)
class Branch:
    """A line, switch, regulator or transformer; ``phases`` is None where all may pass."""

    name: str
    kind: str
    ends: tuple[Bus, Bus]
    phases: frozenset[str] | None
    closed: bool = True

    def shared(self) -> list[str]:
        """Phases and phase pairs that are energised at both ends and pass through the branch."""
        first, second = self.ends
        return [
            phase
            for phase in first.pu
            if phase in second.pu and (self.phases is None or self.phases.issuperset(phase))
        ]

    @property
    def colour(self) -> str:
        """By its own phases, so that a lateral shows its phase and not the mean of three."""
        own = [bus.pu[phase] for phase in self.shared() for bus in self.ends]
        # A transformer from phases to phase pairs shares none.
        return _colour(own or [pu for bus in self.ends for pu in bus.pu.values() if self.live])

    @property
    def symbol(self) -> str:
        if self.kind == "switch":
            return "closed" if self.closed else "open"
        return "regulator" if self.kind == "regulator" else "transformer"

    @property
    def live(self) -> bool:
        return all(bus.pu for bus in self.ends)


class Extreme(NamedTuple):
    """The lowest or the highest voltage of the feeder."""

    word: str
    bus: Bus
    phase: str

    @property
    def pu(self) -> float:
        return self.bus.pu[self.phase]

    @property
    def where(self) -> str:
        return f"{_short(self.bus.name, 16)} {self.phase}"


@dataclass(frozen=True, slots=True)
class Feeder:
    """What the two drawings show, read from the two documents."""

    buses: dict[str, Bus]
    branches: list[Branch]
    source: Bus | None
    extremes: list[Extreme]
    violating: list[str]
    overloads: list[dict[str, Any]]
    taps: dict[str, int]


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
            at = _between(start, end, step / steps)
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
        near = Point(_clamp(at.x, box.left, box.right), _clamp(at.y, box.top, box.bottom))
        middle = (box.left + box.right) / 2
        away = math.dist(at, near)
        rim = _between(at, near, 4.5 / away) if away > 4.5 else near
        words = (
            _text(line, Point(middle, box.top + y), 14, colour, "middle", weight, halo=True)
            for line, y, weight in zip(lines, (13, 30), (700, 400), strict=True)
        )
        return (
            f'<path d="M{_xy(rim)}L{_xy(near)}" stroke="{colour}" stroke-opacity=".7"/>'
            f'<circle cx="{_n(at.x)}" cy="{_n(at.y)}" r="4.5" fill="none" stroke="{colour}"'
            f' stroke-width="1.5"/>{"".join(words)}'
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


def svg(topology: dict[str, Any], state: dict[str, Any]) -> str:
    """The map and the voltage profile of a feeder, as an SVG document of 1200 by 660 px.

    `topology` and `state` are the decoded JSON of `schemas.topology.Topology` and of
    `schemas.state.State`. Colours run from 0.95 to 1.05 pu; what lies beyond has the end colours.
    A bus without coordinates is left off the map, and one without voltage off the profile.
    """
    feeder = _feeder(topology, state)
    about = _escape(_about(topology, state, feeder))
    content = (*_header(topology, state, feeder), *_map(feeder), *_legend(), *_profile(feeder))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{about}"'
        f' font-family="{FONT}"><title>{_escape(topology["name"])}</title><desc>{about}</desc>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="{PAGE}" stroke="{BORDER}"/>'
        f"{''.join(content)}</svg>\n"
    )


def _feeder(topology: dict[str, Any], state: dict[str, Any]) -> Feeder:
    volts = {
        bus["bus"]: {
            phase: value["v_pu"]
            for phase, value in bus["phases"].items()
            if DEAD_PU < value["v_pu"] < math.inf
        }
        for bus in state["bus_details"]
    }
    fit = _fit([p for bus in topology["buses"] if (p := _place(bus))])
    buses = {
        bus["bus"]: Bus(
            name=bus["bus"],
            at=fit(place) if (place := _place(bus)) else None,
            km=bus["distance_km"],
            pu=volts.get(bus["bus"], {}),
        )
        for bus in topology["buses"]
    }
    nodes = [(bus, phase) for bus in buses.values() for phase in bus.pu]
    return Feeder(
        buses=buses,
        branches=list(_branches(topology, buses)),
        # The source is listed first among those at its distance.
        source=min(buses.values(), key=lambda bus: (bus.km, not bus.pu), default=None),
        extremes=[
            Extreme(word, *pick(nodes, key=_node_pu))
            for word, pick in (("lowest", min), ("highest", max))
            if nodes
        ],
        violating=list(dict.fromkeys(v["bus"] for v in state["voltage_profile"]["violations"])),
        overloads=sorted(
            (t for t in state["transformers"] if t["status"] == "OVERLOADED"),
            key=lambda transformer: -float(transformer["loading_percent"]),
        ),
        taps=state["taps"],
    )


def _branches(topology: dict[str, Any], buses: dict[str, Bus]) -> Iterator[Branch]:
    for line in topology["lines"]:
        yield Branch(
            name=line["name"],
            kind="switch" if line["is_switch"] else "line",
            ends=(buses[line["from_bus"]], buses[line["to_bus"]]),
            phases=frozenset(line["phases"]),
            closed=line["closed"],
        )
    for transformer in topology["transformers"]:
        first, *others = dict.fromkeys(transformer["buses"])
        for other in others:
            ends = (buses[first], buses[other])
            yield Branch(transformer["name"], transformer["kind"], ends, phases=None)


def _about(topology: dict[str, Any], state: dict[str, Any], feeder: Feeder) -> str:
    """What the picture shows, in words, for those who do not see it."""
    extremes = "".join(f", {e.word} {e.pu:.3f} pu at {e.where}" for e in feeder.extremes)
    dead = sum(not bus.pu for bus in feeder.buses.values())
    return (
        f"Map and voltage profile of {topology['name']}: {len(feeder.buses)} buses, {dead} of them"
        f" de-energised{extremes}, {_solved(state)}. {_status(state, feeder)}."
    )


def _header(topology: dict[str, Any], state: dict[str, Any], feeder: Feeder) -> Iterator[str]:
    yield _text(_short(topology["name"], 40), Point(26, 50), 27, INK, weight=700)
    good = state["converged"] and not feeder.violating and not feeder.overloads
    colour = GOOD if good else BAD
    yield f'<circle cx="33" cy="79" r="6" fill="{colour}"/>'
    yield _text(_status(state, feeder), Point(47, 84), 15, INK, weight=600)
    power = state["power_summary"]
    figures = [
        ("Source", _kw(power["total_circuit_power_kw"])),
        ("Losses", _kw(power["total_losses_kw"])),
        *((e.word.capitalize(), f"{e.pu:.3f} pu") for e in feeder.extremes),
    ]
    for place, (label, figure) in enumerate(reversed(figures)):
        right = WIDTH - 26 - 122 * place
        yield _text(label, Point(right, 30), 14, MUTED, "end")
        yield _text(figure, Point(right, 54), 20, INK, "end", weight=700)
    yield _text(
        f"{_solved(state)}, version {state['version']}", Point(WIDTH - 26, 84), 14, MUTED, "end"
    )


def _status(state: dict[str, Any], feeder: Feeder) -> str:
    if not state["converged"]:
        return "Not converged"
    troubles = (
        _count(len(feeder.violating), "bus outside limits", "buses outside limits"),
        _count(len(feeder.overloads), "transformer overloaded", "transformers overloaded"),
    )
    return f"Converged, {', '.join(filter(None, troubles)) or 'within all limits'}"


def _solved(state: dict[str, Any]) -> str:
    at = datetime.fromisoformat(state["solved_at"]).astimezone(UTC)
    return f"solved {at:%Y-%m-%d %H:%M:%S} UTC"


def _map(feeder: Feeder) -> Iterator[str]:
    yield _panel(MAP_PANEL, "One-line map")
    placed = [(bus, bus.at) for bus in feeder.buses.values() if bus.at]
    if not placed:
        middle = Point((MAP.left + MAP.right) / 2, (MAP.top + MAP.bottom) / 2)
        yield _text("No bus has coordinates", middle, 16, MUTED, "middle")
        return
    size = _clamp(math.sqrt(150 / len(placed)), 0.35, 1.3)
    canvas = Canvas(Box(MAP.left - 24, MAP.top - 16, MAP.right + 24, MAP.bottom + 16))
    yield '<g fill="none" stroke-linecap="round">'
    for branch in feeder.branches:
        yield from _map_line(branch, size, canvas)
    yield "</g>"
    for bus, at in placed:
        canvas.ink(at, at)
        yield (
            f'<circle cx="{_n(at.x)}" cy="{_n(at.y)}" r="{_n(2.8 * size)}"'
            f' fill="{bus.colour}"><title>{_escape(bus.tip)}</title></circle>'
        )
    yield from _map_symbols(feeder, size)
    yield from _map_labels(feeder, canvas)


def _map_line(branch: Branch, size: float, canvas: Canvas) -> Iterator[str]:
    start, end = (bus.at for bus in branch.ends)
    if start is None or end is None:
        return
    canvas.ink(start, end)
    colour = branch.colour if branch.closed else MUTED
    dash = "" if branch.closed else ' stroke-dasharray="3 5"'
    phases = 3 if branch.phases is None else len(branch.phases)
    width = (0.9 + 0.5 * phases) * size
    yield f'<path d="M{_xy(start)}L{_xy(end)}" stroke="{colour}" stroke-width="{_n(width)}"{dash}>'
    yield f"<title>{_escape(_branch_tip(branch))}</title></path>"


def _branch_tip(branch: Branch) -> str:
    phases = " " + "".join(sorted(branch.phases)) if branch.phases else ""
    position = "" if branch.closed else ", open"
    return f"{branch.kind} {branch.name}{phases}{position}"


def _map_symbols(feeder: Feeder, size: float) -> Iterator[str]:
    devices: dict[tuple[str, str, str], list[Branch]] = {}
    for branch in feeder.branches:
        if branch.kind != "line":
            first, second = branch.ends
            # The regulators of three phases stand side by side: one symbol, three names.
            devices.setdefault((branch.symbol, first.name, second.name), []).append(branch)
    for (symbol, *names), side_by_side in devices.items():
        first, second = (feeder.buses[name] for name in names)
        start, end = first.at or second.at, second.at or first.at
        if start and end:
            turn = math.degrees(math.atan2(end.y - start.y, end.x - start.x))
            tip = "\n".join(_device_tip(device, feeder.taps) for device in side_by_side)
            middle = _between(start, end, 0.5)
            yield _symbol(symbol, middle, size, tip, 0 if symbol == "regulator" else turn)
    for name in feeder.violating:
        bus = feeder.buses.get(name)
        if bus and bus.at:
            yield _symbol("violation", bus.at, size, bus.tip)
    yield from _source(feeder)


def _device_tip(device: Branch, taps: dict[str, int]) -> str:
    tap = f", tap {taps[device.name]:+d}" if device.name in taps else ""
    return _branch_tip(device) + tap


def _source(feeder: Feeder) -> Iterator[str]:
    """The source's symbol, set off from its bus, away from the feeder."""
    if feeder.source is None or feeder.source.at is None:
        return
    at = feeder.source.at
    beside = next(
        (
            bus.at
            for branch in feeder.branches
            if feeder.source in branch.ends
            for bus in branch.ends
            if bus.at and bus.at != at
        ),
        Point(at.x + 1, at.y),
    )
    away = math.dist(at, beside)
    place = Point(at.x - 22 * (beside.x - at.x) / away, at.y - 22 * (beside.y - at.y) / away)
    yield f'<path d="M{_xy(at)}L{_xy(place)}" stroke="{INK}" stroke-width="2"/>'
    yield _symbol("source", place, 1, f"Source, {feeder.source.tip}")


def _map_labels(feeder: Feeder, canvas: Canvas) -> Iterator[str]:
    overloads = [
        (transformer, bus.at)
        for transformer in feeder.overloads
        if (bus := feeder.buses.get(transformer["bus"])) and bus.at
    ]
    extremes = [(extreme, extreme.bus.at) for extreme in feeder.extremes if extreme.bus.at]
    for _, at in (*overloads, *extremes):
        canvas.keep_clear(at)
    for extreme, at in extremes:
        yield canvas.label(at, (f"{extreme.word} {extreme.pu:.3f}", f"bus {extreme.where}"))
    for rank, (transformer, at) in enumerate(overloads):
        load = f"{transformer['loading_percent']:.0f} %"
        if rank < MOST_OVERLOAD_LABELS:
            yield canvas.label(at, (_short(transformer["name"], 20), load), OVERLOAD)
        tip = f"{transformer['name']}: {load} of {transformer['rating_kva']:g} kVA"
        yield _symbol("overload", at, 1, tip)


def _legend() -> Iterator[str]:
    left, top, bar = 48, 576, 196
    yield _text("Mean voltage, pu", Point(left, top), 14, MUTED)
    stops = "".join(
        f'<stop offset="{_n(100 * place / (len(SUNSET) - 1))}%" stop-color="{colour}"/>'
        for place, colour in enumerate(SUNSET)
    )
    yield f'<defs><linearGradient id="flexfeeder-pu">{stops}</linearGradient></defs>'
    yield (
        f'<rect x="{left}" y="{top + 10}" width="{bar}" height="12" rx="2"'
        ' fill="url(#flexfeeder-pu)"/>'
    )
    for pu, anchor in ((LOW_PU, "start"), (1.0, "middle"), (HIGH_PU, "end")):
        at = Point(left + bar * (pu - LOW_PU) / (HIGH_PU - LOW_PU), top + 40)
        yield _text(f"{pu:.2f}", at, 14, INK, anchor)
    for place, (symbol, words) in enumerate(LEGEND.items()):
        column, row = divmod(place, 3)
        at = Point(left + bar + 42 + 140 * column, top - 5 + 22 * row)
        yield _symbol(symbol, at, 0.9)
        yield _text(words, Point(at.x + 16, at.y + 5), 14, MUTED)


def _profile(feeder: Feeder) -> Iterator[str]:
    yield _panel(PROFILE_PANEL, "Voltage profile")
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
    fine = _clamp(math.sqrt(150 / (len(shown) or 1)), 0.35, 1)
    for phase in (*PHASES, *PAIRS):
        paths = "".join(f"M{_xy(start)}L{_xy(end)}" for start, end in segments.get(phase, ()))
        dots = "".join(f"M{_xy(plot.at(km, pu[phase]))}h0" for km, pu in shown if phase in pu)
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
    name = _escape(f"phase {phase}")
    if lines:
        yield (
            f'<path d="{lines}" fill="none" stroke="{colour}" stroke-width="{_n(1.6 * fine)}"'
            f' stroke-linecap="round"><title>{name}</title></path>'
        )
    if dots:
        yield (
            f'<path d="{dots}" fill="none" stroke="{colour}" stroke-width="{_n(4 * fine)}"'
            f' stroke-linecap="{cap}"><title>{name}, buses</title></path>'
        )


def _phase_key(present: set[str]) -> Iterator[str]:
    """The key, from right to left: three squares for the phase pairs, a line for each phase."""
    x, y = PROFILE.right, PROFILE_PANEL.top + 28
    if present & PAIRS.keys():
        yield _text(" ".join(PAIRS), Point(x, y), 14, INK, "end", weight=600)
        x -= 106
        for place, colour in enumerate(PHASES.values()):
            yield f'<rect x="{x + 9 * place}" y="{y - 8}" width="6" height="6" fill="{colour}"/>'
        x -= 18
    for phase in reversed([phase for phase in PHASES if phase in present]):
        yield _text(phase, Point(x, y), 14, INK, "end", weight=600)
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
        yield _text(phase, beside, 14, PHASES[phase], weight=700)


def _axes(plot: Plot) -> Iterator[str]:
    left, top, right, bottom = PROFILE
    high_y, low_y = plot.at(0, HIGH_PU).y, plot.at(0, LOW_PU).y
    for y, height in ((top, high_y - top), (low_y, bottom - low_y)):
        yield (
            f'<rect x="{left}" y="{_n(y)}" width="{right - left}" height="{_n(height)}"'
            f' fill="{BAD}" fill-opacity="0.13"/>'
        )
    for pu in _ticks(plot.low, plot.high, 12):
        y = plot.at(0, pu).y
        yield f'<path d="M{left} {_n(y)}H{right}" stroke="{GRID}"/>'
        yield _text(f"{pu:.2f}", Point(left - 8, y + 5), 14, MUTED, "end")
    for km in _ticks(0, plot.far, 6):
        x = plot.at(km, 1).x
        yield f'<path d="M{_n(x)} {top}V{bottom}" stroke="{GRID}"/>'
        yield _text(f"{km:g}", Point(x, bottom + 21), 14, MUTED, "middle")
    for y in (high_y, low_y):
        yield (
            f'<path d="M{left} {_n(y)}H{right}" stroke="{BAD}" stroke-width="1.4"'
            ' stroke-dasharray="7 4"/>'
        )
    yield _text("pu", Point(left - 8, top - 9), 14, MUTED, "end")
    yield _text("km from the source", Point((left + right) / 2, bottom + 43), 14, MUTED, "middle")


def _panel(box: Box, heading: str) -> str:
    left, top, right, bottom = box
    return (
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="10"'
        f' fill="{PANEL}" stroke="{BORDER}"/>'
        + _text(heading, Point(left + 20, top + 28), 16, INK, weight=600)
    )


def _symbol(name: str, at: Point, size: float, tip: str = "", turn: float = 0) -> str:
    rotate = f" rotate({turn:.0f})" if turn else ""
    title = f"<title>{_escape(tip)}</title>" if tip else ""
    move = f"translate({_xy(at)}) scale({size:.2f}){rotate}"
    return f'<g class="{name}" transform="{move}">{title}{SYMBOLS[name]}</g>'


def _text(
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
    place = f'x="{_n(at.x)}" y="{_n(at.y)}" font-size="{size}" fill="{colour}"'
    return f"<text {place}{side}{bold}{behind}>{_escape(words)}</text>"


def _colour(values: Iterable[float]) -> str:
    """The colour of the mean of voltages in pu; grey if there are none."""
    pu = list(values)
    if not pu:
        return DEAD
    mean = sum(pu) / len(pu)
    place = _clamp((mean - LOW_PU) / (HIGH_PU - LOW_PU), 0, 1) * (len(SUNSET) - 1)
    step = min(int(place), len(SUNSET) - 2)
    low, high = (bytes.fromhex(colour[1:]) for colour in SUNSET[step : step + 2])
    share = place - step
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return f"#{bytes(mixed).hex()}"


def _place(bus: dict[str, Any]) -> Point | None:
    return None if bus["x"] is None or bus["y"] is None else Point(bus["x"], bus["y"])


def _fit(places: list[Point]) -> Callable[[Point], Point]:
    """From the drawing's units, y up, to px, y down: at one scale, in the middle of the map."""
    xs, ys = [p.x for p in places] or [0.0], [p.y for p in places] or [0.0]
    wide, tall = max(xs) - min(xs), max(ys) - min(ys)
    scale = min(
        (MAP.right - MAP.left) / wide if wide else math.inf,
        (MAP.bottom - MAP.top) / tall if tall else math.inf,
    )
    scale = scale if math.isfinite(scale) else 1.0
    left = (MAP.left + MAP.right - wide * scale) / 2
    bottom = (MAP.top + MAP.bottom + tall * scale) / 2
    x, y = min(xs), min(ys)
    return lambda place: Point(left + (place.x - x) * scale, bottom - (place.y - y) * scale)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, at most `most` of them and one."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 9) for n in range(first, last + 1)]


def _box_beside(at: Point, distance: float, angle: float, width: float, height: float) -> Box:
    x = at.x + math.cos(angle) * (distance + width / 2)
    y = at.y + math.sin(angle) * (distance + height / 2)
    return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _between(start: Point, end: Point, share: float) -> Point:
    return Point(start.x + (end.x - start.x) * share, start.y + (end.y - start.y) * share)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _node_pu(node: tuple[Bus, str]) -> float:
    bus, phase = node
    return bus.pu[phase]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}" if number else ""


def _kw(kw: float) -> str:
    digits = 0 if abs(kw) >= 1000 else 1
    return f"{kw:,.{digits}f} kW".replace("-", "\N{MINUS SIGN}")


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "…"


def _n(value: float) -> str:
    """A number of px, to a tenth, in the fewest characters."""
    return f"{round(value, 1) + 0.0:g}"


def _xy(point: Point) -> str:
    return f"{_n(point.x)} {_n(point.y)}"


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _escape(words: str) -> str:
    return html.escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", words))
