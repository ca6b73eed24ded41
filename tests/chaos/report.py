"""What a run has to say at its end."""

from collections.abc import Iterator

from chaos.figures import Figures
from chaos.play import MOST_EXPLAINED, Played
from flexfeeder.testing import System

TAIL_LINES = 60


def report(figures: Figures, played: Played, running: System) -> Iterator[str]:
    """Figures; and of what is wrong, how it came about and what the system said."""
    if played.violations:
        yield from played.told
        yield f"{max(0, len(played.violations) - MOST_EXPLAINED)} more violations"
        yield from log_tail(running)
        yield ""
    yield from figures.lines()


def log_tail(running: System) -> Iterator[str]:
    """The last lines of the system's log."""
    yield f"{running.log}:"
    lines = running.log.read_text(encoding="utf-8", errors="replace").splitlines()
    yield from (f"  {line}" for line in lines[-TAIL_LINES:])
