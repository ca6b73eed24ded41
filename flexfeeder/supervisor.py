"""Child processes, kept running: started, watched, restarted, and stopped without a remainder."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.logs import Log
from services.process import EXIT_BAD_INPUT

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 10.0


@dataclass(frozen=True, slots=True)
class Spec:
    """What a child is. ``is_ready`` is asked with its pid and says whether it serves."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    is_ready: Callable[[int], bool]


class GaveUp(Exception):
    """A child says that what it was given cannot be used."""


class Supervisor:
    """Keeps its children running.

    One that has been ready and dies is started again at once; one that never was waits longer
    each time. The pid of each stands in ``run_dir/<name>.pid``; other pid files there are cleared
    away, but for those to ``keep``.
    """

    def __init__(
        self, run_dir: Path, log_dir: Path | None, log: Log, *, keep: Collection[str] = ()
    ) -> None:
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._log = log
        self._children: dict[str, _Child] = {}
        self._guardian = self._start_guardian()
        run_dir.mkdir(parents=True, exist_ok=True)
        for stale in run_dir.glob("*.pid"):  # of an earlier life that was killed
            if stale.name not in keep:
                stale.unlink()
        if log_dir is not None:
            log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, spec: Spec) -> None:
        """Start a child and keep it running from now on."""
        child = self._children[spec.name] = _Child(spec)
        self._spawn(child)

    def is_ready(self, name: str) -> bool:
        """Ask whether a child serves; once it does, its death is no failure to start."""
        child = self._children[name]
        ready = child.process is not None and child.spec.is_ready(child.process.pid)
        child.was_ready = child.was_ready or ready
        return ready

    def tick(self, now: float) -> None:
        """Notice who has died, and start again who is due.

        Raises:
            GaveUp: when a child that never was ready says that its input cannot be used.

        """
        if self._guardian.poll() is not None:
            self._guardian = self._start_guardian()
            for child in self._children.values():
                if child.process is not None:
                    self._tell_guardian("+", child.process.pid)
        for child in self._children.values():
            if child.process is not None and (status := child.process.poll()) is not None:
                self._died(child, status, now)
            if child.process is None and now >= child.restart_at:
                self._spawn(child)
            if not child.was_ready:
                self.is_ready(child.spec.name)

    def restart(self, name: str) -> None:
        """Kill a child that no longer serves; ``tick`` starts it again."""
        process = self._children[name].process
        if process is not None:
            process.kill()

    def stop(self, *groups: Sequence[str], grace_s: float) -> None:
        """Stop the children group by group, killing what is left after ``grace_s`` in all."""
        deadline = time.monotonic() + grace_s
        for group in groups:
            children = [self._children[name] for name in group if name in self._children]
            for child in children:
                if child.process is not None:
                    child.process.terminate()
            for child in children:
                if child.process is None:
                    continue
                try:
                    child.process.wait(max(0.05, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._log.warning("killed", child=child.spec.name, reason="did not stop")
                    child.process.kill()
                    child.process.wait()
                self._forget(child)
        if self._guardian.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # somebody may have killed it
                self._guardian.stdin.close()
        self._guardian.wait()

    def _spawn(self, child: "_Child") -> None:
        spec = child.spec
        output = None
        if self._log_dir is not None:
            output = (self._log_dir / f"{spec.name}.log").open("ab")
        try:
            child.process = subprocess.Popen(
                spec.command,
                env={**os.environ, **spec.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for us; we stop the children in order
            )
        finally:
            if output is not None:
                output.close()
        self._tell_guardian("+", child.process.pid)
        self._pid_file(spec.name).write_text(f"{child.process.pid}\n", encoding="ascii")

    def _died(self, child: "_Child", status: int, now: float) -> None:
        name = child.spec.name
        self._forget(child)
        if child.was_ready:
            child.backoff_s = FIRST_BACKOFF_S
            child.restart_at = now
        elif status == EXIT_BAD_INPUT:
            raise GaveUp(name)
        else:
            child.restart_at = now + child.backoff_s
            child.backoff_s = min(2 * child.backoff_s, LONGEST_BACKOFF_S)
        wait_s = round(child.restart_at - now, 1)
        self._log.warning("died", child=name, cause=_cause(status), restart_in_s=wait_s)
        child.was_ready = False

    def _forget(self, child: "_Child") -> None:
        if child.process is not None:
            self._tell_guardian("-", child.process.pid)
            child.process = None
        self._pid_file(child.spec.name).unlink(missing_ok=True)

    def _start_guardian(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "flexfeeder.guardian"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _tell_guardian(self, sign: str, pid: int) -> None:
        if self._guardian.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guardian.stdin.write(f"{sign}{pid}\n")
                self._guardian.stdin.flush()

    def _pid_file(self, name: str) -> Path:
        return self._run_dir / f"{name}.pid"


class _Child:
    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.was_ready = False
        self.restart_at = 0.0
        self.backoff_s = FIRST_BACKOFF_S


def _cause(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
