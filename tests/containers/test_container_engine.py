"""The engine, as the other tests here use it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from containers import engine
from containers.servers import servers
from flexfeeder import ports

TESTS = Path(__file__).resolve().parents[1]

LEFT = """
import os, signal
from containers import engine
from containers.servers import servers
with servers():
    os.kill(os.getpid(), signal.SIGKILL)
"""

COMPOSE = """
services:
  store:
    image: redis:8
    ports: ["127.0.0.1:${STORE_PORT}:6379"]
    volumes: ["kept:/data"]
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 1s, timeout: 5s, retries: 10}
  broken:
    image: redis:8
    command: ["redis-server", "--no-such-option"]
    profiles: ["broken"]
volumes: {kept: {}}
"""


def left_by(maker: int) -> list[str]:
    """Kinds of what is left behind by a process."""
    return sorted(kind for kind, _, by in engine.left_behind() if by == maker)


def test_servers_serve_this_machine_alone_and_leave_nothing_behind() -> None:
    with servers() as made:
        for server in (made.broker, made.store):
            assert ports.is_open("127.0.0.1", server.port)
            form = "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}"
            hosts = engine.docker("inspect", "--format", form, server.container).split()
            assert hosts == ["127.0.0.1"]
        assert left_by(os.getpid()) == ["container", "container", "network", "volume"]
    assert left_by(os.getpid()) == []


def test_what_a_killed_run_has_left_is_removed_by_the_next() -> None:
    with subprocess.Popen([sys.executable, "-c", LEFT], cwd=TESTS) as killed:
        assert killed.wait(60) == -signal.SIGKILL
    assert left_by(killed.pid) == ["container", "container", "network", "volume"]
    engine.sweep()
    assert left_by(killed.pid) == []


def test_a_compose_project_is_healthy_and_one_s_own(tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE, encoding="utf-8")
    port = ports.free_port()
    with engine.project(file, env={"STORE_PORT": str(port)}) as made:
        assert engine.health(made.container("store")) == "healthy"
        engine.docker("restart", made.container("store"))
        engine.wait_until_healthy(made.container("store"))
        assert ports.is_open("127.0.0.1", port)
        assert left_by(os.getpid()) == ["container", "network", "volume"]
    assert left_by(os.getpid()) == []


def test_one_that_does_not_come_up_says_why_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE, encoding="utf-8")
    env = {"STORE_PORT": str(ports.free_port()), "COMPOSE_PROFILES": "broken"}
    with pytest.raises(engine.EngineError, match="no-such-option"), engine.project(file, env=env):
        pytest.fail("it is not up")
    assert left_by(os.getpid()) == []


def test_a_command_that_fails_says_what_it_printed() -> None:
    with pytest.raises(engine.EngineError, match="No such object: no-such-thing"):
        engine.docker("inspect", "no-such-thing")
