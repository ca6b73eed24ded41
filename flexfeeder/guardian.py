"""The guardian: a process that outlives ``flexfeeder up`` for a moment, to leave nothing behind.

``up`` tells it over a pipe which processes it has started (``+PID``) and which have ended
(``-PID``). When the pipe closes, however ``up`` came to its end, what is left is stopped.
"""

import contextlib
import os
import signal
import sys
import time

GRACE_S = 1.0
"""How long processes may take to stop by themselves."""


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wards: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        if line.startswith("+"):
            wards.add(pid)
        else:
            wards.discard(pid)
    _signal(wards, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while wards and time.monotonic() < deadline:
        wards = {pid for pid in wards if _is_alive(pid)}
        time.sleep(0.02)
    _signal(wards, signal.SIGKILL)


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def _is_alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
