"""Ends the process when its loop has not come round for too long: a solve that hangs holds it up
for ever, and what was accepted is in the journal.
"""

import faulthandler
import sys

HANGS_AFTER_S = 5.0
"""A round takes milliseconds; of the largest feeders, a tenth of a second."""

REARM_S = 1.0


class Watchdog:
    """Armed again in each round. The thread that waits is native: it needs no interpreter, which
    a call into the engine may never give back.
    """

    def __init__(self, hangs_after_s: float = HANGS_AFTER_S) -> None:
        self._hangs_after_s = hangs_after_s
        self._rearm_due = 0.0

    def arm(self, now: float) -> None:
        """The loop has come round; ``now`` in monotonic seconds."""
        if now >= self._rearm_due:
            self._rearm_due = now + REARM_S
            faulthandler.dump_traceback_later(self._hangs_after_s, exit=True, file=sys.stderr)

    def disarm(self) -> None:
        """Nobody waits any more."""
        faulthandler.cancel_dump_traceback_later()
