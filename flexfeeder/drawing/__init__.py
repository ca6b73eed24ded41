"""A feeder at one moment as an SVG picture: its one-line map and its voltage profile. Pure.

The documents are read into a `model`; `header`, `one_line` and `voltage_profile` each draw a part
of it, in the colours of `theme`, with the marks and labels of `canvas`.
"""

from typing import Any

from flexfeeder.drawing.canvas import escape
from flexfeeder.drawing.header import about, header
from flexfeeder.drawing.model import read
from flexfeeder.drawing.one_line import legend, one_line_map
from flexfeeder.drawing.theme import BORDER, FONT, HEIGHT, PAGE, WIDTH
from flexfeeder.drawing.voltage_profile import voltage_profile

__all__ = ["svg"]


def svg(topology: dict[str, Any], state: dict[str, Any]) -> str:
    """The map and the voltage profile of a feeder, as an SVG document of 1200 by 660 px.

    `topology` and `state` are the decoded JSON of `schemas.topology.Topology` and of
    `schemas.state.State`. Colours run from 0.95 to 1.05 pu; what lies beyond has the end colours.
    A bus without coordinates is left off the map, and one without voltage off the profile.
    """
    feeder = read(topology, state)
    words = escape(about(feeder))
    content = (*header(feeder), *one_line_map(feeder), *legend(), *voltage_profile(feeder))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{words}"'
        f' font-family="{FONT}"><title>{escape(feeder.name)}</title><desc>{words}</desc>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="12" fill="{PAGE}" stroke="{BORDER}"/>'
        f"{''.join(content)}</svg>\n"
    )
