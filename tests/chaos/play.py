"""A campaign, chapter by chapter, for as long as it is known what there has to be."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from chaos.campaign import Campaign
from chaos.explain import explained
from chaos.faults import Fault
from chaos.history import History
from chaos.violations import Violation, Wrong

CHAPTER = 25
"""Kills after which everybody comes to rest, and all is checked."""

MOST_EXPLAINED = 5

FATAL = frozenset({Wrong.LOST, Wrong.DOUBLED, Wrong.NEVER_ANSWERED})
"""After these nobody knows what there has to be."""


@dataclass(slots=True)
class Played:
    """Everything that is wrong with the chapters so far, and how the first of it came about."""

    violations: list[Violation] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return any(violation.wrong in FATAL for violation in self.violations)

    def take(self, history: History, violations: list[Violation]) -> None:
        """Add a chapter."""
        for violation in violations:
            if len(self.violations) < MOST_EXPLAINED:
                self.told += [*explained(violation, history), ""]
            self.violations.append(violation)


def play(
    made: Campaign,
    faults: Iterator[Fault],
    kills: int,
    *,
    told: Callable[[int], None] = lambda _: None,
    is_over: Callable[[], bool] = lambda: False,
) -> Played:
    """Inject faults until so many processes were killed, or ``is_over`` says so; ``told`` hears
    how many were.
    """
    figures = made.figures

    def chapter() -> Iterator[Fault]:
        until = min(kills, figures.killed + CHAPTER)
        while figures.killed < until and not is_over():
            yield next(faults)
            told(figures.killed)

    return play_chapters(made, chapter, lambda: figures.killed >= kills or is_over())


def play_chapters(
    made: Campaign, chapter: Callable[[], Iterable[Fault]], is_over: Callable[[], bool]
) -> Played:
    """Play what ``chapter`` gives, again and again."""
    played = Played()
    while True:
        made.begin()
        for fault in chapter():
            made.inject(fault)
        played.take(*made.settle())
        if played.is_over or is_over():
            return played
