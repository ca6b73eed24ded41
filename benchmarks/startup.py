"""How long `flexfeeder up` takes until everything is ready."""

import subprocess
import sys
import time

from benchmarks.figures import Row, percentile, progress, times_ms
from flexfeeder.testing import system

COUNT = 5


def run() -> list[Row]:
    progress(f"{COUNT} starts")
    taken = []
    for _ in range(COUNT):
        start = time.monotonic()
        with system(meters=True):
            taken.append(time.monotonic() - start)
    imports = [sys.executable, "-c", "import numpy, opendssdirect, paho.mqtt.client, pydantic"]
    baseline = times_ms(lambda: subprocess.run(imports, check=True), COUNT, 1)
    slowest = max(taken)
    return [
        Row(
            "start until ready, with meters",
            f"p50 {percentile(taken, 0.5):.2f} s, slowest {slowest:.2f} s",
            f"importing the libraries of the solver {percentile(baseline, 0.5) / 1000:.2f} s",
            "within 5 s",
            slowest <= 5,
        )
    ]
