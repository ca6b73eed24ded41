"""Looks at the memory of each process of a system every few seconds."""

import threading
import time
from collections.abc import Iterator
from typing import Self

import psutil

from chaos.faults import PROCESSES
from chaos.memory import Sample, Trend, trend
from flexfeeder.testing import System

EVERY_S = 3.0
MB = 1e6


class Sampler:
    """Samples from ``with`` to its end."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._lives: dict[tuple[str, int], list[Sample]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def trends(self) -> Iterator[Trend]:
        """Of each service, over its longest life."""
        for name in PROCESSES:
            lives = [life for (each, _), life in self._lives.items() if each == name]
            longest = max(lives, key=lambda life: life[-1].at_s - life[0].at_s, default=[])
            if len(longest) > 1:
                yield trend(name, longest)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            for name in PROCESSES:
                try:
                    pid = self._system.pid(name)
                    memory = psutil.Process(pid).memory_info()
                except (OSError, ValueError, psutil.Error):
                    continue  # it is being replaced
                own = memory.rss - memory.shared
                sample = Sample(time.monotonic(), memory.rss / MB, own / MB)
                self._lives.setdefault((name, pid), []).append(sample)
