"""A whole system whose solver breaks the promise."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import FEEDERS

from flexfeeder import ports
from flexfeeder.testing import READY_WITHIN_S, STOPS_WITHIN_S, System, wait_until

TESTS = Path(__file__).resolve().parents[1]


@contextmanager
def broken_system(how: str) -> Iterator[System]:
    """Like ``flexfeeder.testing.system``; ``how`` is for ``chaos.broken_solver``."""
    with tempfile.TemporaryDirectory(prefix="flexfeeder-broken-") as name:
        folder = Path(name)
        http_port, mqtt_port = ports.free_ports(2)
        env = {k: v for k, v in os.environ.items() if not k.startswith("FLEXFEEDER_")} | {
            "CHAOS_BREAKS": how,
            "PYTHONPATH": str(TESTS),
            "FLEXFEEDER_HTTP_PORT": str(http_port),
            "FLEXFEEDER_MQTT_PORT": str(mqtt_port),
            "FLEXFEEDER_DATA_DIR": str(folder / "data"),
            "FLEXFEEDER_RESULTS_DIR": str(folder / "results"),
            "FLEXFEEDER_FEEDERS_DIR": str(FEEDERS),
        }
        log = folder / "up.log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-m", "chaos.broken_up"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            ) as process,
        ):
            try:
                made = System(
                    "127.0.0.1", http_port, mqtt_port, mqtt_port, folder / "data", process, log
                )
                wait_until(made.is_ready, f"it is ready, see {log}", timeout_s=READY_WITHIN_S)
                yield made
            finally:
                process.terminate()
                process.wait(STOPS_WITHIN_S)
