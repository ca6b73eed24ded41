"""What `flexfeeder up` makes of signals that its parent had ignored."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flexfeeder import ports
from flexfeeder.testing import READY_WITHIN_S, STOPS_WITHIN_S, wait_until

IGNORING = """
import os, signal, sys
signal.signal(getattr(signal, sys.argv[1]), signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "flexfeeder", "up"])
"""


def started_ignoring(name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """`up`, as a shell starts it that lets it ignore a signal."""
    http_port, mqtt_port = ports.free_ports(2)
    env = {
        **{name: v for name, v in os.environ.items() if not name.startswith("FLEXFEEDER_")},
        "FLEXFEEDER_HTTP_PORT": str(http_port),
        "FLEXFEEDER_MQTT_PORT": str(mqtt_port),
        "FLEXFEEDER_DATA_DIR": str(folder / "data"),
        "FLEXFEEDER_RESULTS_DIR": str(folder / "results"),
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", IGNORING, name], env=env, stdout=log, stderr=log
        )


def is_ready(folder: Path) -> bool:
    return b"ready" in (folder / "log").read_bytes()


def test_an_interrupt_stops_a_background_job_too(tmp_path: Path) -> None:
    """A shell without job control lets its background jobs ignore SIGINT; who sends it means it."""
    process = started_ignoring("SIGINT", tmp_path)
    try:
        wait_until(lambda: is_ready(tmp_path), "ready", READY_WITHIN_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOPS_WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()


def test_a_hang_up_is_ignored_under_nohup(tmp_path: Path) -> None:
    process = started_ignoring("SIGHUP", tmp_path)
    try:
        wait_until(lambda: is_ready(tmp_path), "ready", READY_WITHIN_S)
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    finally:
        process.terminate()
        process.wait(STOPS_WITHIN_S)
