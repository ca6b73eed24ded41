"""The registry in the store: programs, subscriptions and executions of every feeder, and what each
request came to that changed them.

Each write of a feeder leaves a stamp that no other write bears, and is done only if the stamp of
what it was decided on still stands. So two managers cannot undo each other's changes, and a write
that got no answer can be found, or made sure of that it will never be done. What requests came to
stays in the store; what is asked for under an id is looked up there, so a start loads none of it.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import redis

from services import store
from services.dfp_manager import decided as records
from services.dfp_manager import layout
from services.dfp_manager.decided import Decided
from services.dfp_manager.layout import BOUNDS, Bounds, Held
from services.dfp_manager.programs import FeederPrograms

TIMEOUT_S = 1.0
"""How long an answer of the store is waited for; it takes a thousandth of that."""

MOST_TRIES = 10
"""How often a change is decided again because somebody else was faster."""


class StoreAway(Exception):
    """The store did not answer, or what it holds is no registry. Nothing was changed."""


class WritesRefused(StoreAway):
    """The store answers, and takes no writes: it has no room or no right to, say. Nothing was
    changed, and what it holds can be read.
    """


class WriteUnknown(Exception):
    """The store has not said whether it did a write; :meth:`Registry.settle` is to find out."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a request meets in the store."""

    programs: FeederPrograms
    decided: Decided | None = None
    """What it came to, if it was decided before and that is remembered."""
    horizon: float = 0.0
    """Epoch seconds up to which requests may have been decided, and forgotten for want of room."""


@dataclass(frozen=True, slots=True)
class Write:
    """What the store is to hold: the programs, and what a request came to, if one did."""

    programs: FeederPrograms
    decided: Decided | None = None


class Registry:
    """What the store holds, its programs kept in memory, and the only way to change it. ``took`` is
    told how many seconds each look at the store, and each change, takes.
    """

    def __init__(
        self,
        redis_url: str,
        bounds: Bounds = BOUNDS,
        took: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._store = store.connect(redis_url, TIMEOUT_S)
        self._write = self._store.register_script(layout.WRITE)
        self._settle = self._store.register_script(layout.SETTLE)
        self._bounds = bounds
        self._took = took
        self._held: dict[str, Held] = {}
        self._unknown: dict[str, Held] = {}

    @property
    def feeders(self) -> tuple[str, ...]:
        """Those that have a registry."""
        return tuple(sorted(self._held))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Those with a write that got no answer: nothing is changed there until it is settled, and
        what is read there may be from before it.
        """
        return tuple(self._unknown)

    def programs(self, feeder: str) -> FeederPrograms:
        """The programs of a feeder as they were when the store was last asked."""
        held = self._held.get(feeder)
        return held.programs if held is not None else FeederPrograms(feeder)

    def refresh(self) -> None:
        """Take over what the store holds and we do not, of every feeder but the unknown ones.

        Raises:
            StoreAway: what is held is then as it was.

        """
        with self._timed(), _Errors():
            members = cast("set[bytes]", self._store.smembers(layout.feeders_key()))
            known = {member.decode() for member in members} | set(self._held)
            feeders = sorted(known - set(self._unknown))
            pipeline = self._store.pipeline(transaction=False)
            for feeder in feeders:
                pipeline.hget(layout.head_key(feeder), "stamp")
            stamps = pipeline.execute()
        for feeder, stamp in zip(feeders, stamps, strict=True):
            self._renew(feeder, _text(stamp))

    def change(
        self,
        feeder: str,
        decide: Callable[[FeederPrograms], FeederPrograms],
        decided: Decided | None = None,
    ) -> bool:
        """Have the store hold what ``decide`` makes of the programs, and what was decided; returns
        and raises as :meth:`carry_out`.
        """
        return self.carry_out(feeder, None, lambda found: Write(decide(found.programs), decided))

    def carry_out(
        self, feeder: str, request_id: str | None, decide: Callable[[Found], Write]
    ) -> bool:
        """Have the store hold what ``decide`` makes of what it holds now; False where it held that
        already, and nothing was written.

        ``decide`` is called again if somebody else has changed the programs meanwhile; what it
        raises is passed on, and nothing is changed. It finds what the request came to before.

        Raises:
            StoreAway: nothing was changed.
            WriteUnknown: it may have been, and the store does not answer.

        """
        with self._timed():
            return self._carry_out(feeder, request_id, decide)

    def _carry_out(
        self, feeder: str, request_id: str | None, decide: Callable[[Found], Write]
    ) -> bool:
        for _ in range(MOST_TRIES):
            # Also finds out that the store is away while nothing has been sent that matters.
            stamp, horizon, decided = self._look_up(feeder, request_id)
            self._renew(feeder, stamp)
            before = self._held.get(feeder) or Held("", FeederPrograms(feeder))
            if before.stamp != stamp:
                continue  # somebody has written since what the request came to was looked up
            write = decide(Found(before.programs, decided, horizon))
            if write.programs is before.programs and write.decided is None:
                return False
            if feeder in self._unknown:
                raise WritesRefused("it has not said yet whether it did the last write")
            if self._replace(before, Held(uuid.uuid4().hex, write.programs), write.decided):
                return True
        raise StoreAway(f"others change the programs of {feeder} all the time")

    def settle(self, feeder: str) -> bool:
        """Whether the write that got no answer was done; if not, it never will be.

        A write that still lies in some buffer finds another stamp than it expects from now on.

        Raises:
            StoreAway: it is still unknown.
            WritesRefused: so is it, and the store answers.

        """
        wanted = self._unknown[feeder]
        args = [wanted.stamp, uuid.uuid4().hex]
        with self._timed(), _Errors(), _RefusedWrites():
            is_done = bool(self._settle(keys=[layout.head_key(feeder)], args=args))
        del self._unknown[feeder]
        if is_done:
            self._held[feeder] = wanted
        return is_done

    def close(self) -> None:
        self._store.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._took(time.perf_counter() - started)

    def _look_up(self, feeder: str, request_id: str | None) -> tuple[str, float, Decided | None]:
        """Stamp and horizon of a feeder, and what a request came to.

        Whatever changes after the stamp was read makes a write that is decided on it come to
        nothing.
        """
        with _Errors():
            pipeline = self._store.pipeline(transaction=False)
            pipeline.hmget(layout.head_key(feeder), ["stamp", "horizon"])
            if request_id is not None:
                pipeline.hget(layout.requests_key(feeder), request_id)
            (stamp, horizon), *found = pipeline.execute()
            decided = None
            if request_id is not None and found[0] is not None:
                decided = records.decode(request_id, found[0])
            return _text(stamp), float(horizon or 0.0), decided

    def _replace(self, before: Held, after: Held, decided: Decided | None) -> bool:
        """Write; False where the stamp is no longer that of ``before``."""
        feeder = after.programs.feeder
        keys, args = layout.write_arguments(before, after, decided, self._bounds)
        try:
            with _RefusedWrites():
                is_done = bool(self._write(keys=keys, args=args))
        except redis.RedisError as error:
            self._unknown[feeder] = after
            return self._settle_at_once(feeder, error)
        if is_done:
            self._held[feeder] = after
        return is_done

    def _settle_at_once(self, feeder: str, error: redis.RedisError) -> bool:
        try:
            return self.settle(feeder)
        except StoreAway:
            raise WriteUnknown(str(error)) from None

    def _renew(self, feeder: str, stamp: str) -> None:
        """Load a feeder if what we hold of it does not bear the stamp."""
        held = self._held.get(feeder)
        if (held.stamp if held is not None else "") == stamp:
            return
        for _ in range(MOST_TRIES):
            with _Errors():
                loaded = self._load(feeder)
            if loaded is not None:
                self._held[feeder] = loaded
                return
        raise StoreAway(f"others change the programs of {feeder} all the time")

    def _load(self, feeder: str) -> Held | None:
        """A feeder as the store holds it; None where it has changed while it was read."""
        pipeline = self._store.pipeline(transaction=True)
        pipeline.hgetall(layout.head_key(feeder))
        pipeline.hgetall(layout.programs_key(feeder))
        head, programs = pipeline.execute()
        numbers = sorted(int(number) for number in programs)
        pipeline = self._store.pipeline(transaction=True)
        for number in numbers:
            pipeline.lrange(layout.executions_key(feeder, number), 0, -1)
        pipeline.hget(layout.head_key(feeder), "stamp")
        *histories, stamp = pipeline.execute()
        if stamp != head.get(b"stamp"):
            return None
        return layout.read(feeder, head, programs, dict(zip(numbers, histories, strict=True)))


class _Errors:
    """Turns what the store says no with, or holds that cannot be read, into StoreAway."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, redis.RedisError):
            raise StoreAway(str(error)) from None
        if isinstance(error, (LookupError, TypeError, ValueError)):
            raise StoreAway(f"the registry cannot be read: {error}") from None


class _RefusedWrites:
    """Turns what the store says no to a write with into WritesRefused."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, redis.ResponseError):
            raise WritesRefused(str(error)) from None


def _text(value: bytes | None) -> str:
    """A reply of the store as text; empty where it has nothing."""
    return value.decode() if value is not None else ""
