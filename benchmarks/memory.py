"""Whether a million readings leave anything behind in the memory of the services."""

import threading

import numpy as np
import psutil

from benchmarks.figures import Row, progress
from benchmarks.generator import Generator
from benchmarks.readings import QUIET, loads_of
from flexfeeder.testing import System, system

WATCHED = ("solver", "gateway", "dfp_manager", "broker", "store")
RATE = 20_000
WARM_UP_S = 20
SECONDS = 50
TREND_MB = 1.0
"""Growth over a million readings that is still taken for noise."""


def run() -> list[Row]:
    with system(env=QUIET) as running:
        generator = Generator(running.mqtt_port, loads_of(running))
        progress(f"memory: warm-up, {RATE * WARM_UP_S:,} readings")
        generator.singles(RATE, WARM_UP_S)
        progress(f"memory: {RATE * SECONDS:,} readings")
        done = threading.Event()
        samples: list[list[float]] = []
        sampler = threading.Thread(target=_sample, args=(running, samples, done))
        sampler.start()
        before = generator.sent
        generator.singles(RATE, SECONDS)
        sent = generator.sent - before
        done.set()
        sampler.join()
        generator.close()
    megabytes = np.array(samples)
    at = np.linspace(0.0, 1.0, len(megabytes))
    rows = []
    for column, name in enumerate(WATCHED):
        growth = float(np.polyfit(at, megabytes[:, column], 1)[0])
        rows.append(
            Row(
                f"memory of {name} over {sent:,} readings",
                f"{megabytes[-1, column]:.1f} MB, trend {growth:+.2f} MB",
                f"{megabytes[0, column]:.1f} MB after warm-up",
                f"no upward trend (less than {TREND_MB:g} MB)",
                growth < TREND_MB,
            )
        )
    return rows


def _sample(running: System, samples: list[list[float]], done: threading.Event) -> None:
    processes = [psutil.Process(running.pid(name)) for name in WATCHED]
    while not done.wait(0.5):
        samples.append([p.memory_info().rss / (1 << 20) for p in processes])
