"""Whether the store is there: what the manager knows of it, and what others are told."""

import time
from collections.abc import Callable

from services.bus import Connection
from services.dfp_manager.decided import Decided
from services.dfp_manager.programs import FeederPrograms
from services.dfp_manager.registry import Registry, StoreAway, StoreFull, WriteUnknown
from services.logs import Log
from services.presence import Presence

LOOK_S = 1.0
"""How often the store is asked whether it is there, and has changed by somebody else's hand."""

LOOK_AWAY_S = 0.25
"""How long after an attempt in vain a store that is away is tried again."""


class StoreWatch:
    """Looks after the store. While it is away the service says that it is offline, for nobody can
    be served; commands are then refused without asking it, as each would wait for its timeout.
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
        self._is_full = False
        self._look_due = 0.0

    @property
    def is_there(self) -> bool:
        """True if the store answered when it was last asked."""
        return self._is_there is True

    def look(self, now: float, settled: Callable[[str, bool], None]) -> None:
        """If it is due, take over what the store holds.

        ``settled`` is told of each feeder with a write that got no answer: whether it was done.
        """
        if now < self._look_due:
            return
        try:
            for feeder in self._registry.unknown:
                settled(feeder, self._registry.settle(feeder))
            self._registry.refresh()
        except StoreAway as error:
            self.lost(error)
        else:
            if not self.is_there:
                self._log.info("registry_loaded", feeders=self._registry.feeders)
            self._is_there = self.is_loaded = True
        self._look_due = time.monotonic() + (LOOK_S if self.is_there else LOOK_AWAY_S)

    def lost(self, error: Exception) -> None:
        """The store did not answer: say so, once."""
        if self._is_there is not False:
            self._is_there = False
            self._log.warning("store_away", reason=str(error))
            self._presence.farewell(self._connection)

    def takes_no_writes(self, error: Exception) -> None:
        """The store is there and has no room: say so, once. What it holds can be read."""
        if not self._is_full:
            self._is_full = True
            self._log.warning("store_full", reason=str(error))

    def takes_writes(self) -> None:
        """It has written, or had nothing to write."""
        if self._is_full:
            self._is_full = False
            self._log.info("store_has_room")

    def change(
        self,
        feeder: str,
        decide: Callable[[FeederPrograms], FeederPrograms],
        decided: Decided | None = None,
    ) -> bool:
        """Change what nobody waits for; False while the store is away, and it is left undone."""
        if not self.is_there:
            return False
        try:
            self._registry.change(feeder, decide, decided)
        except StoreFull as error:
            self.takes_no_writes(error)
            return False
        except (StoreAway, WriteUnknown) as error:
            self.lost(error)
            return False
        return True

    def beat(self, now: float, figures: Callable[[], dict[str, float]]) -> None:
        """The heartbeat of a service that can serve."""
        if self.is_there:
            self._presence.beat(self._connection, now, figures)
