"""Memory of processes over time, and whether it grows. Pure."""

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

ALLOWED_MB_PER_HOUR = 6.0
"""What a trend may be: less cannot be told from noise in twenty minutes."""

ALLOWED_MB = 2.0
"""And by how much it may grow in all: allocators keep a little more now and then."""

WARM_UP = 1 / 3
"""The share of a life that is not judged: caches fill, and so do memories of requests."""

MOST_POINTS = 400


class Sample(NamedTuple):
    """Seconds, and megabytes: resident, and the part of it that is mapped from no file. Whose the
    pages of a library are depends on who else runs.
    """

    at_s: float
    rss_mb: float
    own_mb: float


class Trend(NamedTuple):
    """How the memory of a process went over its life, after the warm-up."""

    name: str
    life_s: float
    first: Sample
    last: Sample
    mb_per_hour: float

    @property
    def grows(self) -> bool:
        risen_mb = self.mb_per_hour * self.life_s * (1 - WARM_UP) / 3600
        return self.mb_per_hour > ALLOWED_MB_PER_HOUR and risen_mb > ALLOWED_MB

    def __str__(self) -> str:
        return (
            f"{self.name:12} {self.life_s / 60:7.1f} {self.first.own_mb:9.1f} "
            f"{self.last.own_mb:9.1f} {self.last.rss_mb:9.1f} {self.mb_per_hour:9.1f}"
            f"{'  GROWS' if self.grows else ''}"
        )


HEADER = "              life min  own first   own last  RSS last   MB/hour"


def trend(name: str, life: Sequence[Sample]) -> Trend:
    """The trend of one process; ``life`` are its samples in order, two of them or more."""
    life_s = life[-1].at_s - life[0].at_s
    judged = [sample for sample in life if sample.at_s - life[0].at_s >= WARM_UP * life_s]
    return Trend(name, life_s, judged[0], judged[-1], slope(judged))


def slope(samples: Sequence[Sample]) -> float:
    """MB per hour: the median of the slopes of all pairs (Theil and Sen), which steps and single
    peaks do not move.
    """
    thinned = samples[:: 1 + len(samples) // MOST_POINTS]
    slopes = [
        (later.own_mb - earlier.own_mb) / (later.at_s - earlier.at_s)
        for earlier, later in combinations(thinned, 2)
    ]
    return 3600 * median(slopes) if slopes else 0.0
