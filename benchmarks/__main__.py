"""``make bench``: every question, or those that are named: ``python -m benchmarks cycle ...``."""

import os
import platform
import sys

from benchmarks import (
    composed,
    cycle,
    equipment,
    journal,
    memory,
    readings,
    rest_write,
    startup,
    writers,
    writes,
)
from benchmarks.figures import HEAD

QUESTIONS = {
    "cycle": cycle.run,
    "equipment": equipment.run,
    "rest_write": rest_write.run,
    "writes": writes.run,
    "writers": writers.run,
    "journal": journal.run,
    "readings": readings.run,
    "memory": memory.run,
    "startup": startup.run,
    "composed": composed.run,
}


def main() -> int:
    asked = sys.argv[1:] or list(QUESTIONS)
    unknown = [name for name in asked if name not in QUESTIONS]
    if unknown:
        print(f"no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors", flush=True)
    rows = [row for name in asked for row in QUESTIONS[name]()]
    print("", HEAD, *rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
