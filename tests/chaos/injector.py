"""Does harm to the processes of one system, and to no others."""

import signal
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import psutil

from chaos.faults import Action, Fault
from flexfeeder.testing import System

_SIGNALS: dict[StrEnum, signal.Signals] = {
    Action.KILL: signal.SIGKILL,
    Action.PAUSE: signal.SIGSTOP,
    Action.RESUME: signal.SIGCONT,
}


class Injecting(Protocol):
    """Whatever does harm."""

    def inject(self, fault: Fault) -> tuple[list[str], float]:
        """Take every step; returns who was killed, and when the last step was taken (monotonic)."""

    def resume(self) -> None:
        """Let everything that is paused go on."""


class Injector:
    """``tell`` hears of everything that is done, in words."""

    def __init__(self, system: System, tell: Callable[[str], None]) -> None:
        self._system = system
        self._tell = tell
        self._paused: dict[str, psutil.Process] = {}

    def inject(self, fault: Fault) -> tuple[list[str], float]:
        """Take every step; returns who was killed, and when the last step was taken (monotonic)."""
        started = time.monotonic()
        killed = []
        for step in sorted(fault.steps):
            time.sleep(max(0.0, started + step.at_s - time.monotonic()))
            if self._do(step.action, step.process) and step.action is Action.KILL:
                killed.append(step.process)
        return killed, time.monotonic()

    def resume(self) -> None:
        """Let everything that is paused go on."""
        for name in list(self._paused):
            self._do(Action.RESUME, name)

    def _do(self, action: StrEnum, name: str) -> bool:
        """Send the signal, if the process is there: it may not have come back yet."""
        process = self._paused.pop(name, None) if action is Action.RESUME else self._found(name)
        if process is None:
            return False
        try:
            # psutil sends nothing to another process of the same number.
            process.send_signal(_SIGNALS[action])
        except psutil.NoSuchProcess:
            return False
        if action is Action.PAUSE:
            self._paused[name] = process
        self._tell(f"{action} {name} ({process.pid})")
        return True

    def _found(self, name: str) -> psutil.Process | None:
        """The process that has this name now, and is a child of the system's ``up``."""
        try:
            process = psutil.Process(self._system.pid(name))
            is_ours = process.ppid() == self._system.process.pid
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None
        return process if is_ours else None
