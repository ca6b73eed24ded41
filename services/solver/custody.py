"""Being the owner of a feeder: the lease kept, the journal written, what the store does survived.

While the store is away nothing can be accepted, and everything else goes on. It is asked for in
the background, so that its silence costs the owner's loop one timeout and no more.
"""

import math
import time
from collections.abc import Callable, Sequence
from enum import Enum

from services.logs import Log
from services.once import Once, Remembered
from services.probe import Probe
from services.solver import entries
from services.solver.entries import Barrier, Decided, Entry
from services.solver.journal import (
    LEASE_MS,
    Forgotten,
    Journal,
    LeaseLost,
    StoreAway,
    WriteUnknown,
)
from services.stopwatch import Interval

RENEW_S = LEASE_MS / 4000
"""How often the lease is renewed where there is nothing else to say."""

SOLVED_S = 0.02
"""How long after a batch was solved the store is told so.

Not at once: that would be a second round trip for each, while others wait for a core to pass the
answer on, and the next batch takes the place of one that is in flight anyway. Not much later: who
is found in flight by the next owner is a suspect.
"""

SNAPSHOT_S = 10.0
"""How old the readings in the snapshot may get."""

ENTRIES_A_SNAPSHOT = 1000
"""Entries after which a snapshot leaves them behind: at most twice as many are ever replayed."""


MOST_TOLD = 5000
"""Requests of which a store without memory is told at once: the latest."""


class Written(Enum):
    """What became of a batch."""

    DONE = "done"
    NOT_DONE = "not done"
    UNKNOWN = "unknown"


__all__ = ["Custody", "LeaseLost", "Written"]


class Custody:
    """One owner's. ``content`` gives the snapshot to keep; it is called between batches only."""

    def __init__(
        self,
        journal: Journal,
        probe: Probe,
        once: Once,
        content: Callable[[], bytes],
        log: Log,
    ) -> None:
        self._journal = journal
        self._probe = probe
        self._once = once
        self._content = content
        self._log = log
        self._is_away = False
        self._is_unsettled = False
        self._is_forgotten = False
        self._solved = journal.last
        self._renew_due = 0.0
        self._snapshot_due = time.monotonic() + SNAPSHOT_S
        self._entries = 0
        """Entries that are not left behind yet."""
        self._requests: list[Remembered] = []
        """What is to be remembered of them."""
        self._has_news = False
        """Something has changed since the snapshot, and be it a reading."""
        self.wrote = Interval(0.0, 0.0)
        """When the last batch was written, or was not."""
        self.figures = {"journal_calls": 0.0, "snapshots": 0.0, "snapshot_ms": 0.0}

    def inherit(self, requests: Sequence[Remembered], count: int) -> None:
        """Take over what an earlier owner has left in the journal: so many entries, and what is to
        be remembered of them.
        """
        self._requests.extend(requests)
        self._entries += count

    @property
    def is_writable(self) -> bool:
        """False while the store is away, or has not said what became of the last batch."""
        return not (self._is_away or self._is_unsettled or self._is_forgotten)

    def write(self, batch: Sequence[Entry]) -> Written:
        """Have the store keep a batch before it takes effect.

        Raises:
            LeaseLost: somebody else owns the feeder now.

        """
        started = time.perf_counter()
        try:
            self._journal.append([entries.encode(entry) for entry in batch])
        except StoreAway as error:
            self._away(error)
            return Written.NOT_DONE
        except Forgotten as error:
            self._has_been_forgotten(error)
            return Written.NOT_DONE
        except WriteUnknown as error:
            self._is_unsettled = True
            self._away(error)
            return Written.UNKNOWN
        finally:
            self.wrote = Interval(started, time.perf_counter())
        self.note(batch)
        return Written.DONE

    def note(self, batch: Sequence[Entry]) -> None:
        """These entries are in the journal."""
        self._entries += len(batch)
        self._requests += [
            entry.remembered
            for entry in batch
            if isinstance(entry, Decided) and entry.remembered is not None
        ]
        self._has_news = True

    def solved(self, last: str | None = None) -> None:
        """What was written, or everything up to an earlier owner's entry, has been solved, and was
        survived.
        """
        solved = last or self._journal.last
        if solved != self._solved:
            self._solved = solved
            self._renew_due = min(self._renew_due, time.monotonic() + SOLVED_S)

    @property
    def due(self) -> float:
        """When the store is to be told something, in monotonic seconds."""
        return math.inf if self._is_away else self._renew_due

    def has_news(self) -> None:
        """Something has changed that no entry tells of: a reading."""
        self._has_news = True

    def beat(self, now: float) -> bool | None:
        """Keep the lease, heal what can be healed, and save a snapshot when it is due; ``now`` in
        monotonic seconds.

        Returns whether the batch of unknown fate was written, once that is known.

        Raises:
            LeaseLost: somebody else owns the feeder now.

        """
        settled: bool | None = None
        try:
            if self._is_away:
                if not self._probe.has_answered:
                    return None
                settled = self._heal()
            elif now >= self._renew_due:
                self._journal.renew(self._solved)
                self._renew_due = now + RENEW_S
            if settled is None and not self._is_away and self._is_snapshot_due(now):
                self._save(now)
        except Forgotten as error:
            self._has_been_forgotten(error)
        except StoreAway as error:
            self._away(error)
        self.figures["journal_calls"] = float(self._journal.calls)
        return settled

    def is_doubted(self) -> None:
        """Somebody says that he owns the feeder: the store is to tell, soon.

        Raises:
            LeaseLost: where it cannot be asked, for then he may well.

        """
        if self._is_away:
            raise LeaseLost("somebody else serves the feeder, and the store is away")
        self._renew_due = 0.0

    def keep(self) -> None:
        """Save what is there, so that the next owner has nothing to replay."""
        if not self.is_writable:
            return
        try:
            self._save(time.monotonic())
            self._journal.renew(self._solved)
        except (Forgotten, LeaseLost, StoreAway) as error:
            self._log.warning("last_snapshot_not_saved", reason=str(error))

    def close(self) -> None:
        """Let the next owner in at once."""
        self._probe.close()
        self._journal.release()

    def _heal(self) -> bool | None:
        """The store answers again: go on where it was left."""
        settled: bool | None = None
        if self._is_forgotten:
            self._journal.reclaim()
            self._is_forgotten = False
            if self._is_unsettled:
                self._is_unsettled, settled = False, False
            self._tell_everything()
        elif self._is_unsettled:
            settled = self._journal.settle(entries.encode(Barrier()))
            self._is_unsettled = False
        else:
            self._journal.renew(self._solved)
        if settled is None and not self._journal.has_kept_everything():
            self._log.warning("store_lost_entries", last=self._journal.last)
            self._tell_everything()
        self._is_away = False
        self._log.info("store_back")
        return settled

    def _tell_everything(self) -> None:
        """Have the next snapshot say all that there is."""
        self._entries = ENTRIES_A_SNAPSHOT
        remembered = list(self._once)
        self._requests = remembered[-MOST_TOLD:]
        if untold := remembered[:-MOST_TOLD]:
            self._once.horizon = max(self._once.horizon, untold[-1].at)
        self._has_news = True

    def _is_snapshot_due(self, now: float) -> bool:
        if not self.is_writable:
            return False
        return self._entries >= ENTRIES_A_SNAPSHOT or (self._has_news and now >= self._snapshot_due)

    def _save(self, now: float) -> None:
        started = time.perf_counter()
        segment = None
        if self._entries >= ENTRIES_A_SNAPSHOT:
            segment = entries.encode_segment(self._requests)
        self._journal.save(self._content(), self._journal.last, segment)
        if segment is not None:
            self._entries = 0
            self._requests.clear()
        self._has_news = False
        self._snapshot_due = now + SNAPSHOT_S
        self.figures["snapshots"] += 1
        self.figures["snapshot_ms"] = round(1000 * (time.perf_counter() - started), 3)

    def _away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            self._log.warning("store_away", reason=str(error))
        self._probe.begin()

    def _has_been_forgotten(self, error: Exception) -> None:
        if not self._is_forgotten:
            self._is_forgotten = True
            self._log.warning("store_forgot", reason=str(error))
        self._away(error)
