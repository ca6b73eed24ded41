"""``flexfeeder watch`` and ``flexfeeder draw`` where somebody publishes junk for a state."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest
from paho.mqtt.client import MQTTMessage
from support import FEEDER, MqttClient

from flexfeeder.testing import System, wait_until

STATE = f"flexfeeder/{FEEDER}/state"
JUNK = (b"", b"{", b"\xff", b"[]", b"null", b"{}")


def run_amid(
    junk: tuple[bytes, ...], running: System, arguments: list[str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end while junk takes the place of the retained state; in the end a
    state is retained again.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    env |= {
        "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
        "FLEXFEEDER_MQTT_PORT": str(running.mqtt5_port),
        "FLEXFEEDER_FEEDER": FEEDER,
    }
    command = [sys.executable, "-m", "flexfeeder", *arguments]
    with MqttClient(running.mqtt5_port, protocol="5") as client, ThreadPoolExecutor(1) as threads:
        ended = threads.submit(
            subprocess.run, command, env=env, capture_output=True, text=True, timeout=60
        )

        def has_ended() -> bool:
            for payload in junk:
                client.publish(STATE, payload, retain=True)
            return ended.done()

        wait_until(has_ended, f"{arguments} ends", timeout_s=70.0, every_s=0.05)
        client.subscribe(STATE)
        wait_until(lambda: any(map(is_state, client.on(STATE))), "the solver has said it again")
        return ended.result()


def is_state(message: MQTTMessage) -> bool:
    return message.payload.startswith(b'{"feeder"')


@pytest.mark.usefixtures("unharmed")
class TestJunk:
    def test_watch_shows_states_and_nothing_else(self, running: System) -> None:
        ended = run_amid(JUNK, running, ["watch", "-n", "2"])
        assert (ended.returncode, ended.stderr) == (0, "")
        assert [line.split()[0] for line in ended.stdout.splitlines()] == [FEEDER] * 2

    def test_watch_json_prints_no_empty_state(self, running: System) -> None:
        ended = run_amid((b"",), running, ["watch", "--json", "-n", "2"])
        assert (ended.returncode, ended.stderr) == (0, "")
        states = [orjson.loads(line) for line in ended.stdout.splitlines()]
        assert [state["feeder"] for state in states] == [FEEDER] * 2

    def test_draw_waits_for_a_state(self, running: System, tmp_path: Path) -> None:
        """Nothing, and what is no JSON, is no state yet."""
        path = tmp_path / "feeder.svg"
        ended = run_amid((b"", b"{"), running, ["draw", "-o", str(path)])
        assert (ended.returncode, ended.stderr) == (0, "")
        assert path.read_text(encoding="utf-8").startswith("<svg")
