"""A process's figures for Prometheus, and whether its loop comes round.

What happens is counted where it happens. What merely stands somehow is handed over by the thread
that owns it, from time to time and in one piece: whoever scrapes reads that, and never what is
being changed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER = "other"
"""In place of a label's value that anybody could have chosen."""

TELL_S = 1.0
"""How often what stands somehow is looked at."""

LONGEST_COMMAND = 64
"""Characters of a command's name that are logged."""

LONGEST_WORDS = 200
"""Characters that are logged of a refused command's topic, and of what is wrong with it."""

STALLED_S = 5.0
"""A loop that has not come round for so long is not well."""

FAST_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds in seconds for what a service does by itself."""

WAITED_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds in seconds for what somebody waits for."""

Value = float | Mapping[str, float]
"""A figure, or one for each value of its label."""

S = TypeVar("S")


def new_registry() -> CollectorRegistry:
    """A registry with what can be told of any Python process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that is handed over. A counter's name is given without its ``_total``; ``label`` is
    what tells its values apart, where it has several.
    """

    kind: Literal["gauge", "counter"]
    name: str
    meaning: str
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Sourced(Figure, Generic[S]):
    """A figure, and how it is taken from what there is to be seen; None where nobody knows it."""

    read: Callable[[S], Value | None] = field(kw_only=True)


def seen_in(sight: S, figures: Iterable[Sourced[S]]) -> dict[str, Value]:
    """Every figure that is known there, by its name."""
    read = ((figure.name, figure.read(sight)) for figure in figures)
    return {name: value for name, value in read if value is not None}


class Snapshot(Collector):
    """Figures as they were when they were last handed over; those that are not known are not told.

    ``labels`` are the same for all of them.
    """

    def __init__(self, figures: Sequence[Figure], labels: Mapping[str, str]) -> None:
        self.figures = tuple(figures)
        self.labels = dict(labels)
        self._values: Mapping[str, Value] = {}

    def tell(self, values: Mapping[str, Value]) -> None:
        """Hand over all figures, by name; nobody changes them afterwards."""
        self._values = values

    def describe(self) -> Iterator[Metric]:
        """Every figure, without its values."""
        for figure in self.figures:
            yield self._family(figure, {})

    def collect(self) -> Iterator[Metric]:
        """Every figure that is known."""
        values = self._values
        for figure in self.figures:
            value = values.get(figure.name)
            if value is not None:
                yield self._family(figure, value)

    def _family(self, figure: Figure, value: Value) -> Metric:
        family = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        own = [] if figure.label is None else [figure.label]
        metric = family(figure.name, figure.meaning, labels=[*self.labels, *own])
        constant = [*self.labels.values()]
        if isinstance(value, Mapping):
            for label, each in value.items():
                metric.add_metric([*constant, label], each)
        else:
            metric.add_metric(constant, value)
        return metric


class CommandMetrics:
    """What a service that carries out commands tells of them."""

    def __init__(
        self,
        service: str,
        known: Sequence[str],
        registry: CollectorRegistry,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        constant = labels or {}
        self._constant = tuple(constant.values())
        self._count = Counter(
            f"flexfeeder_{service}_commands",
            "Commands that were answered, by what became of them: success, or the code of a "
            "refusal.",
            [*constant, "command", "outcome"],
            registry=registry,
        )
        seconds = Histogram(
            f"flexfeeder_{service}_command_seconds",
            "Seconds from the arrival of a command to its reply.",
            [*constant, "command"],
            buckets=WAITED_S,
            registry=registry,
        )
        self._seconds = {
            command: seconds.labels(*self._constant, command) for command in (*known, OTHER)
        }

    def answered(self, command: str, outcome: str, seconds: float) -> None:
        """Count a command that has its answer; ``seconds`` since it arrived."""
        name = command if command in self._seconds else OTHER
        self._count.labels(*self._constant, name, outcome).inc()
        self._seconds[name].observe(seconds)


class Pulse:
    """Whether the loop of a service comes round and has what it needs: said by the thread that runs
    it, asked by another.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, str] | None = None

    def beat(self, problem: str = "") -> None:
        """The loop has come round; ``problem`` is what keeps it from serving."""
        self._last = (self._clock(), problem)

    def problem(self) -> str:
        """What is wrong; empty where nothing is."""
        last = self._last
        if last is None:
            return "starting"
        at, problem = last
        age = self._clock() - at
        if age > STALLED_S:
            return f"its loop has not come round for {age:.1f} s"
        return problem
