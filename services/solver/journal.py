"""The journal of a feeder in the store: who owns it, what was accepted, and from where to go on.

Every call is one script that first looks whether this owner still is the owner: the counter of
fencing numbers stands at its own as long as nobody has taken the feeder over. So nobody who was
paused, or cut off, writes after another has begun. Keys are built here and nowhere else.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from services import store
from services.solver import scripts

TIMEOUT_S = 1.0
"""How long an answer of the store is waited for; it takes a thousandth of that."""

LEASE_MS = 1000
"""How long a feeder stays owned by one that says nothing more."""

NOTHING_SOLVED = "0-0"
"""The id before all others."""

MOST_SEGMENTS = 20
"""Segments of remembered requests that are kept, each of about a thousand."""


class StoreAway(Exception):
    """The store did not answer, or would not write. Nothing was written."""


class WriteUnknown(Exception):
    """The store has not said whether it wrote; :meth:`Journal.settle` is to find out."""


class LeaseLost(Exception):
    """Another owner has taken the feeder over. Nothing was written."""


class Forgotten(Exception):
    """The store has lost what it once knew of this feeder. Nothing was written."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The batch that was written last and that nobody has seen solved.

    ``strikes``: how often its owner has died since. ``trial`` is the entry that was being tried
    alone when that happened, if any.
    """

    first: str
    last: str
    strikes: int
    trial: str | None


@dataclass(frozen=True, slots=True)
class Past:
    """Everything that the store holds of a feeder, undecoded.

    ``last`` is the id of the last entry that the snapshot contains; ``entries`` may begin before
    it. Ids are compared by :func:`order`.
    """

    last: str
    snapshot: bytes | None
    segments: tuple[bytes, ...]
    entries: tuple[tuple[str, bytes], ...]


class Journal:
    """One owner's, or would-be owner's, way to the journal. It never asks for anything twice."""

    def __init__(self, redis_url: str, feeder: str) -> None:
        self.fence = 0
        self.calls = 0
        """Round trips to the store."""
        self._store = store.connect(redis_url, TIMEOUT_S)
        self._keys = _Keys(feeder)
        self._token = uuid.uuid4().hex
        self._number = 0
        self._unknown: tuple[int, int] | None = None
        """Numbers of the first and last entry of a write that got no answer."""
        script = self._store.register_script
        self._take = script(scripts.TAKE)
        self._append = script(scripts.APPEND)
        self._settle = script(scripts.SETTLE)
        self._renew = script(scripts.RENEW)
        self._reclaim = script(scripts.RECLAIM)
        self._save = script(scripts.SAVE)
        self._try = script(scripts.TRY)
        self._void = script(scripts.VOID)
        self._release = script(scripts.RELEASE)

    @property
    def last(self) -> str:
        """Id of the newest entry of this owner; of none, where it has written none."""
        return f"{self.fence}-{self._number}"

    def take(self) -> InFlight | bool:
        """Own the feeder from now on; False while it has an owner. What was in flight when the
        last one died is returned.

        Raises:
            StoreAway: it is not known whether this owns the feeder; taking it again is harmless.

        """
        keys = self._keys
        with _Errors():
            taken = self._take(
                keys=[keys.fence, keys.holder, keys.owner, keys.in_flight, keys.journal],
                args=[self._token, LEASE_MS],
            )
        if not taken:
            return False
        self.fence, self._number = int(taken[0]), 0
        if len(taken) == 1:
            return True
        first, last, strikes, trial = taken[1:]
        return InFlight(first.decode(), last.decode(), int(strikes), trial.decode() or None)

    def load(self) -> Past:
        """What is there to go on from.

        Raises:
            StoreAway: it does not answer.

        """
        keys = self._keys
        with _Errors():
            pipeline = self._store.pipeline(transaction=True)
            pipeline.hgetall(keys.snapshot)
            pipeline.lrange(keys.requests, 0, -1)
            pipeline.xrange(keys.journal)
            snapshot, segments, entries = pipeline.execute()
        return Past(
            last=snapshot.get(b"last", b"0-0").decode(),
            snapshot=snapshot.get(b"content"),
            segments=tuple(segments),
            entries=tuple((id_.decode(), fields.get(b"entry", b"")) for id_, fields in entries),
        )

    def append(self, entries: Sequence[bytes]) -> None:
        """Write entries, all or none, and mark them as in flight.

        Raises:
            StoreAway, LeaseLost, Forgotten: none is written.
            WriteUnknown: nobody knows; nothing more can be written until it is settled.

        """
        if self._unknown is not None:
            raise StoreAway("it has not said yet whether it did the last write")
        keys, first = self._keys, self._number + 1
        with _Errors():
            # Finds out that the store is away while nothing has been sent yet.
            pool = self._store.connection_pool
            pool.release(pool.get_connection())
        try:
            self._call(
                self._append,
                [keys.owner, keys.in_flight, keys.journal],
                [LEASE_MS, first, *entries],
            )
        except redis.ResponseError as error:
            raise StoreAway(str(error)) from None
        except redis.RedisError as error:
            self._unknown = (first, self._number + len(entries))
            raise WriteUnknown(str(error)) from None
        self._number += len(entries)

    def settle(self, barrier: bytes) -> bool:
        """Whether the write that got no answer was done; if not, it never will be, as ``barrier``
        has the place of its first entry then.

        Raises:
            StoreAway: it is still unknown.
            LeaseLost, Forgotten: it is for the next owner to see, or gone.

        """
        if self._unknown is None:
            raise RuntimeError("there is nothing to settle")
        first, last = self._unknown
        keys = self._keys
        with _Errors():
            said = self._call(
                self._settle,
                [keys.journal],
                [f"{self.fence}-{last}", f"{self.fence}-{first}", barrier],
            )
        is_done = said == b"done"
        self._number = last if is_done else first
        self._unknown = None
        return is_done

    def renew(self, solved: str) -> None:
        """Stay the owner; the entries up to ``solved`` are no longer in flight.

        Raises:
            StoreAway, LeaseLost, Forgotten: as they say.

        """
        keys = self._keys
        with _Errors():
            self._call(self._renew, [keys.owner, keys.in_flight], [LEASE_MS, solved])

    def has_kept_everything(self) -> bool:
        """False where the store has lost the newest entries of this owner: killed in the wrong
        moment, it may have answered what it had not written.

        Raises:
            StoreAway: it does not answer.

        """
        if not self._number:
            return True
        with _Errors():
            self.calls += 1
            newest = cast("Any", self._store.xrevrange(self._keys.journal, count=1))
        return bool(newest) and order(newest[0][0].decode()) >= order(self.last)

    def reclaim(self) -> None:
        """Be the owner again in a store that has forgotten everything.

        Raises:
            StoreAway, LeaseLost: as they say.

        """
        keys = self._keys
        with _Errors():
            self._call(self._reclaim, [keys.owner], [LEASE_MS])
        if self._unknown is not None:
            self._number = self._unknown[1]  # a late write comes to be behind the next snapshot
        self._unknown = None

    def save(self, content: bytes, last: str, segment: bytes | None) -> None:
        """Replace the snapshot by one that contains everything up to the entry ``last``.

        With a segment of what is to be remembered of the entries, they are left behind.

        Raises:
            StoreAway: it may have been replaced, which does no harm.
            LeaseLost, Forgotten: it was not.

        """
        keys = self._keys
        args: list[Any] = [last, content, MOST_SEGMENTS]
        with _Errors():
            self._call(
                self._save,
                [keys.snapshot, keys.requests, keys.journal],
                args if segment is None else [*args, segment],
            )

    def begin_trial(self, entry: str) -> None:
        """An entry of the batch in flight is being tried alone."""
        self._mark_trial(entry)

    def end_trial(self) -> None:
        """It was survived."""
        self._mark_trial("")

    def void(self, entry: bytes) -> None:
        """Write an entry that voids the one that was being tried; the rest stays in flight."""
        keys = self._keys
        with _Errors():
            self._call(
                self._void,
                [keys.owner, keys.in_flight, keys.journal],
                [LEASE_MS, f"{self.fence}-{self._number + 1}", entry],
            )
        self._number += 1

    def release(self) -> None:
        """Let the next owner in at once; what is not released lapses by itself."""
        try:
            self._release(keys=[self._keys.owner], args=[self._token])
        except redis.RedisError:
            pass
        finally:
            self._store.close()

    def _mark_trial(self, entry: str) -> None:
        keys = self._keys
        with _Errors():
            self._call(self._try, [keys.owner, keys.in_flight], [LEASE_MS, entry])

    def _call(self, script: Any, keys: list[str], args: list[Any]) -> bytes | None:
        self.calls += 1
        whose = [self._keys.fence, self._keys.holder]
        said = cast(
            "bytes | None", script(keys=[*whose, *keys], args=[self.fence, self._token, *args])
        )
        if said == b"lost":
            raise LeaseLost("another owner has taken the feeder over")
        if said == b"forgotten":
            raise Forgotten("the store has lost its memory of this feeder")
        return said


class _Errors:
    """Turns what the store says no with into StoreAway."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, redis.RedisError):
            raise StoreAway(str(error)) from None


class _Keys:
    """The keys of a feeder. All are permanent but the owner's, whose lease lapses."""

    def __init__(self, feeder: str) -> None:
        prefix = f"flexfeeder:{feeder}"
        self.fence = f"{prefix}:fence"
        """Counter of fencing numbers: the newest owner's."""
        self.holder = f"{prefix}:holder"
        """Token of the newest owner."""
        self.owner = f"{prefix}:owner"
        """The same, for as long as its lease lasts."""
        self.journal = f"{prefix}:journal"
        """Stream of entries, a few thousand at most: what the snapshot contains is trimmed."""
        self.in_flight = f"{prefix}:in_flight"
        """Hash: first and last entry of the batch that nobody has seen solved, and its strikes."""
        self.snapshot = f"{prefix}:snapshot"
        """Hash: the snapshot, and the last entry that it contains."""
        self.requests = f"{prefix}:requests"
        """List of segments of remembered requests, oldest first, at most MOST_SEGMENTS."""


def order(entry: str) -> tuple[int, int]:
    """What the ids of entries are compared by."""
    fence, _, number = entry.partition("-")
    return int(fence), int(number)
