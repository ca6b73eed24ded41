"""Taking times and showing them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the result: what was asked for, what was measured, and whether it is met."""

    question: str
    measured: str
    baseline: str
    asked: str
    met: bool

    def __str__(self) -> str:
        mark = "yes" if self.met else "NO"
        return f"| {self.question} | {self.measured} | {self.baseline} | {self.asked} | {mark} |"


HEAD = "| question | measured | baseline of the same run | asked for | met |\n|---|---|---|---|---|"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def times_ms(action: Callable[[], object], count: int, warm_up: int) -> list[float]:
    """Milliseconds of each of ``count`` calls, after some that are not counted."""
    for _ in range(warm_up):
        action()
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - start))
    return taken


def progress(text: str) -> None:
    print(f"  {text}", flush=True)
