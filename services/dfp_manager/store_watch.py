"""Whether the store is there: what the manager knows of it, and what others are told."""

import time
from collections.abc import Callable
from dataclasses import replace

from services.bus import Connection
from services.dfp_manager.decided import Decided
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.registry import Registry, StoreAway, WritesRefused, WriteUnknown
from services.logs import Log
from services.presence import Presence

LOOK_S = 1.0
"""How often the store is asked whether it is there, and has changed by somebody else's hand."""

LOOK_AWAY_S = 0.25
"""How long after an attempt in vain a store that is away is tried again."""


class StoreWatch:
    """Looks after the store. While it is away the service tells what the store held last, once it
    has been read; all that is to change something is refused without asking it, as each would wait
    for its timeout.

    One that takes no writes can still be read. Each command that is to change something is tried;
    what nobody waits for stays undone, and every look tries whether it can be done again.
    """

    def __init__(
        self, registry: Registry, presence: Presence, connection: Connection, log: Log
    ) -> None:
        self.is_loaded = False
        """The registry has been read at least once."""
        self._registry = registry
        self._presence = presence
        self._connection = connection
        self._log = log
        self._is_there: bool | None = None
        self._refused: str | None = None
        """The feeder of the last write, if the store refused it."""
        self._look_due = 0.0

    @property
    def is_there(self) -> bool:
        """True if the store answered when it was last asked."""
        return self._is_there is True

    @property
    def is_writable(self) -> bool:
        """True if it is there, and did not refuse when it was last to write something."""
        return self.is_there and self._refused is None

    def look(self, now: float, settled: Callable[[str, bool], None]) -> None:
        """If it is due, take over what the store holds.

        ``settled`` is told of each feeder with a write that got no answer: whether it was done.
        """
        if now < self._look_due:
            return
        try:
            self._settle(settled)
            self._registry.refresh()
        except StoreAway as error:
            self.lost(error)
        else:
            if not self.is_there:
                self._log.info("registry_loaded", feeders=self._registry.feeders)
            self._is_there = self.is_loaded = True
            if self._refused is not None:
                self._write(self._refused, _written_again)
        self._look_due = time.monotonic() + (LOOK_S if self.is_there else LOOK_AWAY_S)

    def lost(self, error: Exception) -> None:
        """The store did not answer: say so, once."""
        if self._is_there is not False:
            self._is_there = False
            self._log.warning("store_away", reason=str(error))

    def takes_no_writes(self, feeder: str, error: Exception) -> None:
        """The store is there and refuses to write: say so, once. What it holds can be read."""
        if self._refused is None:
            self._log.warning("store_refuses_writes", reason=str(error))
        self._refused = feeder

    def takes_writes(self) -> None:
        """It has written: if it refused to before, say so, once."""
        if self._refused is not None:
            self._refused = None
            self._log.info("store_takes_writes")

    def change(
        self,
        feeder: str,
        decide: Callable[[FeederPrograms], FeederPrograms],
        decided: Decided | None = None,
    ) -> bool:
        """Change what nobody waits for; False while the store is away or takes no writes, and it is
        left undone.
        """
        return self.is_writable and self._write(feeder, decide, decided)

    def beat(self, now: float, figures: Callable[[], dict[str, float]]) -> None:
        """The heartbeat of a service that can serve: that knows what there is."""
        if self.is_loaded:
            self._presence.beat(self._connection, now, figures)

    def _settle(self, settled: Callable[[str, bool], None]) -> None:
        for feeder in self._registry.unknown:
            try:
                is_done = self._registry.settle(feeder)
            except WritesRefused as error:
                self.takes_no_writes(feeder, error)
            else:
                settled(feeder, is_done)

    def _write(
        self,
        feeder: str,
        decide: Callable[[FeederPrograms], FeederPrograms],
        decided: Decided | None = None,
    ) -> bool:
        try:
            has_written = self._registry.change(feeder, decide, decided)
        except WritesRefused as error:
            self.takes_no_writes(feeder, error)
            return False
        except (StoreAway, WriteUnknown) as error:
            self.lost(error)
            return False
        if has_written:
            self.takes_writes()
        return True


def _written_again(held: FeederPrograms) -> FeederPrograms:
    """What the store holds, for it to write that once more: another object counts as a change."""
    return replace(held)
