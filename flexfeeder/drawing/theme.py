"""How the picture looks: its size, its colours and its symbols.

The colours of the map are the scheme "sunset" of Paul Tol, "Colour Schemes", SRON/EPS/TN/09-002,
without its two darkest ends, which are lost on a dark ground. It is safe for colour-blind readers.
"""

from collections.abc import Iterable

WIDTH, HEIGHT = 1200, 660
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

LOW_PU, HIGH_PU = 0.95, 1.05
SUNSET = (
    *("#4a7bb7", "#6ea6cd", "#98cae1", "#c2e4ef"),
    *("#eaeccc", "#feda8b", "#fdb366", "#f67e4b", "#dd3d2d"),
)
PHASES = {"A": "#ffc145", "B": "#35d0a5", "C": "#b794ff"}
PAIRS = {"AB": "A", "BC": "B", "CA": "C"}
PAGE, PANEL, BORDER, GRID = "#0d1520", "#121d2b", "#26364a", "#22303f"
INK, MUTED, DEAD = "#eef3f8", "#a9b8ca", "#5d6b7c"
GOOD, BAD, OVERLOAD = "#46d18c", "#ff6b6b", "#ffe14d"

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


def voltage_colour(values: Iterable[float]) -> str:
    """The colour of the mean of voltages in pu; grey if there are none."""
    pu = list(values)
    if not pu:
        return DEAD
    mean = sum(pu) / len(pu)
    place = min(max((mean - LOW_PU) / (HIGH_PU - LOW_PU), 0), 1) * (len(SUNSET) - 1)
    step = min(int(place), len(SUNSET) - 2)
    low, high = (bytes.fromhex(colour[1:]) for colour in SUNSET[step : step + 2])
    share = place - step
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return f"#{bytes(mixed).hex()}"
