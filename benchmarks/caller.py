"""A caller in a process of its own: has it solved now and then, and takes the time of it.

Run as ``python -m benchmarks.caller HOST PORT HZ``; at the end of its input it prints the
milliseconds of each call as JSON.
"""

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures import times_ms
from benchmarks.rest_write import request
from flexfeeder.testing import System


@contextmanager
def calling(running: System, hz: float) -> Iterator[list[float]]:
    """Call while the body runs; what it took is in the list afterwards."""
    taken: list[float] = []
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.caller"),
            *(running.http_host, str(running.http_port), str(hz)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield taken
    output, _ = process.communicate()
    taken += json.loads(output)


def main() -> None:
    host, port, hz = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    done = threading.Event()

    def read_to_the_end() -> None:
        sys.stdin.read()
        done.set()

    threading.Thread(target=read_to_the_end, daemon=True).start()
    connection = http.client.HTTPConnection(host, port)
    taken: list[float] = []
    while not done.wait(1 / hz):
        taken += times_ms(lambda: request(connection, "/run_simulation", {}), 1, 0)
    connection.close()
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
