"""The container engine of this machine: whether there is one, what it is told, and that nothing of
ours is left behind in it.
"""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest

from flexfeeder.testing import wait_until

NO_ENGINE = "no container engine: start Docker, then make test"

OURS = "flexfeeder-tests"
"""Label of everything that tests make, and the beginning of the name of every compose project; the
process that made it comes next.
"""

LABELS = {OURS: str(os.getpid())}
"""For everything that a test makes."""

ANSWERS_WITHIN_S = 20.0
COMMAND_S = 100.0

_COMPOSE = "com.docker.compose.project"
_LISTS = {
    "container": ("docker", "ps", "--all", "--no-trunc"),
    "network": ("docker", "network", "ls", "--no-trunc"),
    "volume": ("docker", "volume", "ls"),
}
"""What can be left behind, in the order in which it can be removed."""

_numbers = itertools.count(1)


class EngineError(Exception):
    """A command to the engine failed, or took too long; the message has its output."""


@cache
def is_there() -> bool:
    """True if an engine answers; it is asked once."""
    if shutil.which("docker") is None:
        return False
    try:
        docker("info", timeout_s=ANSWERS_WITHIN_S)
    except EngineError:
        return False
    return True


def needed() -> pytest.MarkDecorator:
    """Skips a test where no engine is, and says how it would run."""
    return pytest.mark.skipif(not is_there(), reason=NO_ENGINE)


def docker(*args: str, timeout_s: float = COMMAND_S) -> str:
    """Run ``docker`` and return what it prints.

    Raises:
        EngineError: when it fails.

    """
    return run(["docker", *args], timeout_s=timeout_s)


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = COMMAND_S,
) -> str:
    """Run a command, ``env`` added to the environment, and return what it prints.

    Raises:
        EngineError: when it fails, or is not there.

    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{' '.join(command)}: {error}") from None
    if done.returncode != 0:
        raise EngineError(
            f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def health(container: str) -> str:
    """``healthy``, ``unhealthy`` or ``starting``; the plain status where nobody looks after its
    health.
    """
    form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}}"
    return docker("inspect", "--format", form, container).strip()


def wait_until_healthy(container: str, timeout_s: float = 60.0) -> None:
    """Wait until a container is healthy, or runs where nobody looks after its health.

    Raises:
        EngineError: when it does not become so; the message has the end of its log.

    """
    try:
        wait_until(
            lambda: health(container) in {"healthy", "running"}, container, timeout_s, every_s=0.2
        )
    except TimeoutError:
        log = run(["sh", "-c", 'docker logs --tail 50 "$0" 2>&1', container])
        raise EngineError(f"{container} is {health(container)}:\n{log}") from None


@contextmanager
def network() -> Iterator[str]:
    """A network of one's own; its name."""
    name = _new_name()
    docker("network", "create", "--label", f"{OURS}={LABELS[OURS]}", name)
    try:
        yield name
    finally:
        docker("network", "rm", name)


@contextmanager
def volume() -> Iterator[str]:
    """A volume of one's own; its name."""
    name = _new_name()
    docker("volume", "create", "--label", f"{OURS}={LABELS[OURS]}", name)
    try:
        yield name
    finally:
        docker("volume", "rm", name)


def _new_name() -> str:
    return f"{OURS}-{os.getpid()}-{next(_numbers)}"


@dataclass(frozen=True, slots=True)
class Project:
    """A compose project that nobody else uses."""

    files: tuple[Path, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """What the files ask of the environment: ports, say."""
    name: str = field(default_factory=_new_name)

    def compose(self, *args: str, timeout_s: float = COMMAND_S) -> str:
        """Run ``docker compose`` and return what it prints.

        Raises:
            EngineError: when it fails.

        """
        files = [part for file in self.files for part in ("--file", str(file))]
        command = ["docker", "compose", "--project-name", self.name, *files, *args]
        return run(command, env=self.env, timeout_s=timeout_s)

    def container(self, service: str) -> str:
        """The id of the one container of a service."""
        [found] = self.compose("ps", "--all", "--quiet", service).split()
        return found

    def logs(self, *services: str, lines: int = 200) -> str:
        """The ends of the logs."""
        return self.compose("logs", "--no-color", "--tail", str(lines), *services)


@contextmanager
def project(
    *files: Path, env: Mapping[str, str] | None = None, up_within_s: float = 180.0
) -> Iterator[Project]:
    """A compose project that is up and healthy; nothing is left of it, volumes included.

    Raises:
        EngineError: when it does not come up; the message has the ends of its logs.

    """
    made = Project(files, env or {})
    try:
        try:
            seconds = str(round(up_within_s))
            args = ("up", "--detach", "--wait", "--wait-timeout", seconds)
            made.compose(*args, timeout_s=up_within_s + COMMAND_S)
        except EngineError as error:
            raise EngineError(f"{error}\n{made.logs()}") from None
        yield made
    finally:
        made.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")


def sweep(*, also: int | None = None) -> None:
    """Remove what test runs have left behind that were killed; ``also`` is a process that has not
    ended yet.

    What a run makes that goes on at the same time is left alone.
    """
    for kind, name, maker in left_behind():
        if maker == also or not psutil.pid_exists(maker):
            args = ("--volumes", "--force") if kind == "container" else ()
            docker(kind, "rm", *args, name)


def left_behind() -> list[tuple[str, str, int]]:
    """What tests have made and is there: kind, id, and the process that made it."""
    return [
        (kind, *found)
        for kind in _LISTS
        for label in (OURS, _COMPOSE)
        for found in _labelled(kind, label)
    ]


def _labelled(kind: str, label: str) -> Iterator[tuple[str, int]]:
    """Ids, and the processes that made them."""
    key = "{{.Name}}" if kind == "volume" else "{{.ID}}"
    form = f'{key} {{{{.Label "{label}"}}}}'
    for line in run([*_LISTS[kind], "--filter", f"label={label}", "--format", form]).splitlines():
        name, _, value = line.partition(" ")
        maker = value if label == OURS else value.removeprefix(f"{OURS}-").partition("-")[0]
        if label == OURS or value.startswith(f"{OURS}-"):
            yield name, int(maker)
