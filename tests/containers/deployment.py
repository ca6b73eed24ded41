"""The composed system as it is deployed, on free ports, with secrets of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import patience

from containers.engine import Project, docker, project
from flexfeeder import ports

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "deploy" / "docker-compose.yml"
OFTEN = Path(__file__).with_name("often.yml")
"""The engine looks after health three times as often: nothing waits for anything but that."""
SERVICES = ("broker", "store", "solver", "dfp_manager", "gateway")
OURS = ("solver", "dfp_manager", "gateway")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A composed system that is up, and what its operator knows."""

    project: Project
    secrets: Path
    http_port: int
    mqtt_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def key(self) -> str:
        """The API key of the first administrator."""
        return (self.secrets / "api_admin.key").read_text(encoding="utf-8").strip()

    def http(self) -> httpx.Client:
        """A patient HTTP client with that key."""
        return patience.client(self.url, Authorization=f"Bearer {self.key}")

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def secret_values(self) -> dict[str, str]:
        """Everything that nobody else is to see, by the file that holds it."""
        files = [
            *(self.secrets / "mqtt").iterdir(),
            *(self.secrets / "redis").glob("*_url"),
            self.secrets / "api_admin.key",
            self.secrets / "grafana_password",
        ]
        values = {path.name: path.read_text(encoding="utf-8").strip() for path in files}
        return {
            name: text.rpartition("@")[0].rpartition(":")[2] if name.endswith("_url") else text
            for name, text in values.items()
        }


def flexfeeder(*args: str) -> str:
    """Run our command line, and return what it prints."""
    env = {name: v for name, v in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    command = [sys.executable, "-m", "flexfeeder", *args]
    done = subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout


@contextmanager
def deployment(secrets: Path, **env: str) -> Iterator[Deployment]:
    """The composed system, built and up; nothing is left of it but its images."""
    flexfeeder("secrets", "--folder", str(secrets))
    http_port, mqtt_port = ports.free_ports(2)
    settings = {
        "DEPLOY_SECRETS": str(secrets),
        "DEPLOY_HTTP_PORT": str(http_port),
        "DEPLOY_MQTT_PORT": str(mqtt_port),
        "DEPLOY_IMAGE": "flexfeeder:test",
        **env,
    }
    # One image for all of ours.
    Project((COMPOSE_FILE,), settings).compose("build", "--quiet", OURS[0], timeout_s=600)
    with project(COMPOSE_FILE, OFTEN, env=settings) as made:
        yield Deployment(made, secrets, http_port, mqtt_port)


def details(container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    [found] = orjson.loads(docker("inspect", container))
    return dict(found)
