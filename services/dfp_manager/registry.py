"""The registry in the store: programs, subscriptions and executions of every feeder.

Each write of a feeder leaves a stamp that no other write bears, and is done only if the stamp of
what it was decided on still stands. So two managers cannot undo each other's changes, and a write
that got no answer can be found, or made sure of that it will never be done.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import orjson
import redis

from schemas.programs import Program
from services import store
from services.dfp_manager.programs import MOST_EXECUTIONS, FeederPrograms

TIMEOUT_S = 1.0
"""How long an answer of the store is waited for; it takes a thousandth of that."""

HISTORY_S = 90 * 24 * 3600
"""How long executions are kept after the last one of a program has ended."""

MOST_TRIES = 10
"""How often a change is decided again because somebody else was faster."""

_WRITE = """
-- KEYS: head, programs, feeders; then the executions of each program that has changed.
-- ARGV: stamp expected, stamp left, next number, revision, feeder, most executions, lifetime;
-- then of each program: number, record (empty: deleted), execution, what to do with it.
if (redis.call('HGET', KEYS[1], 'stamp') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'stamp', ARGV[2], 'next_number', ARGV[3], 'revision', ARGV[4])
redis.call('SADD', KEYS[3], ARGV[5])
for index = 4, #KEYS do
  local executions, at = KEYS[index], 8 + 4 * (index - 4)
  local number, record, execution, how = unpack(ARGV, at, at + 3)
  if record == '' then
    redis.call('HDEL', KEYS[2], number)
    redis.call('DEL', executions)
  else
    redis.call('HSET', KEYS[2], number, record)
    if execution ~= '' then
      if how ~= 'started' then redis.call('RPOP', executions) end
      redis.call('RPUSH', executions, execution)
      redis.call('LTRIM', executions, -ARGV[6], -1)
      if how == 'ended' then
        redis.call('EXPIRE', executions, ARGV[7])
      else
        redis.call('PERSIST', executions)
      end
    end
  end
end
return 1
"""

_SETTLE = """
-- KEYS: head. ARGV: the stamp that is looked for, the stamp to leave if it is not there.
if redis.call('HGET', KEYS[1], 'stamp') == ARGV[1] then return 1 end
redis.call('HSET', KEYS[1], 'stamp', ARGV[2])
return 0
"""


class StoreAway(Exception):
    """The store did not answer, or what it holds is no registry. Nothing was changed."""


class WriteUnknown(Exception):
    """The store has not said whether it did a write; :meth:`Registry.settle` is to find out."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A feeder's programs, and the stamp under which the store holds them."""

    stamp: str
    programs: FeederPrograms


class Registry:
    """What the store holds, kept in memory, and the only way to change it."""

    def __init__(self, redis_url: str) -> None:
        self._store = store.connect(redis_url, TIMEOUT_S)
        self._write = self._store.register_script(_WRITE)
        self._settle = self._store.register_script(_SETTLE)
        self._held: dict[str, _Held] = {}
        self._unknown: dict[str, _Held] = {}

    @property
    def feeders(self) -> tuple[str, ...]:
        """Those that have a registry."""
        return tuple(sorted(self._held))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Those with a write that got no answer: nothing is changed there until it is settled."""
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
        with _Errors():
            members = cast("set[bytes]", self._store.smembers(_feeders_key()))
            known = {member.decode() for member in members} | set(self._held)
            feeders = sorted(known - set(self._unknown))
            pipeline = self._store.pipeline(transaction=False)
            for feeder in feeders:
                pipeline.hget(_head_key(feeder), "stamp")
            stamps = pipeline.execute()
        for feeder, stamp in zip(feeders, stamps, strict=True):
            self._renew(feeder, _text(stamp))

    def change(
        self, feeder: str, decide: Callable[[FeederPrograms], FeederPrograms]
    ) -> FeederPrograms:
        """Have the store hold what ``decide`` makes of what it holds now.

        ``decide`` is called again if somebody else has changed the programs meanwhile; what it
        raises is passed on, and nothing is changed.

        Raises:
            StoreAway: nothing was changed.
            WriteUnknown: it may have been, and the store does not answer.

        """
        if feeder in self._unknown:
            raise StoreAway("it has not said yet whether it did the last write")
        for _ in range(MOST_TRIES):
            with _Errors():
                # Also finds out that the store is away while nothing has been sent that matters.
                stamp = _text(self._store.hget(_head_key(feeder), "stamp"))
            self._renew(feeder, stamp)
            before = self._held.get(feeder) or _Held("", FeederPrograms(feeder))
            programs = decide(before.programs)
            if programs is before.programs:
                return programs
            if self._replace(before, _Held(uuid.uuid4().hex, programs)):
                return programs
        raise StoreAway(f"others change the programs of {feeder} all the time")

    def settle(self, feeder: str) -> bool:
        """Whether the write that got no answer was done; if not, it never will be.

        A write that still lies in some buffer finds another stamp than it expects from now on.

        Raises:
            StoreAway: it is still unknown.

        """
        wanted = self._unknown[feeder]
        args = [wanted.stamp, uuid.uuid4().hex]
        with _Errors():
            is_done = bool(self._settle(keys=[_head_key(feeder)], args=args))
        del self._unknown[feeder]
        if is_done:
            self._held[feeder] = wanted
        return is_done

    def close(self) -> None:
        self._store.close()

    def _replace(self, before: _Held, after: _Held) -> bool:
        """Write; False where the stamp is no longer that of ``before``."""
        feeder = after.programs.feeder
        keys, args = _write_arguments(before, after)
        try:
            is_done = bool(self._write(keys=keys, args=args))
        except redis.ResponseError as error:
            raise StoreAway(str(error)) from None
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

    def _load(self, feeder: str) -> _Held | None:
        """A feeder as the store holds it; None where it has changed while it was read."""
        pipeline = self._store.pipeline(transaction=True)
        pipeline.hgetall(_head_key(feeder))
        pipeline.hgetall(_programs_key(feeder))
        head, records = pipeline.execute()
        numbers = sorted(int(number) for number in records)
        pipeline = self._store.pipeline(transaction=True)
        for number in numbers:
            pipeline.lrange(_executions_key(feeder, number), 0, -1)
        pipeline.hget(_head_key(feeder), "stamp")
        *histories, stamp = pipeline.execute()
        if stamp != head.get(b"stamp"):
            return None
        programs = FeederPrograms(
            feeder,
            next_number=int(head.get(b"next_number", 1)),
            revision=int(head.get(b"revision", 0)),
            by_number={
                number: _program(records[str(number).encode()], history)
                for number, history in zip(numbers, histories, strict=True)
            },
        )
        return _Held(_text(stamp), programs)


class _Errors:
    """Turns what the store says no with, or holds that cannot be read, into StoreAway."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, redis.RedisError):
            raise StoreAway(str(error)) from None
        if isinstance(error, (LookupError, TypeError, ValueError)):
            raise StoreAway(f"the registry cannot be read: {error}") from None


def _write_arguments(before: _Held, after: _Held) -> tuple[list[str], list[str | int | bytes]]:
    """Keys and arguments of the script that turns the one into the other."""
    old, new = before.programs.by_number, after.programs.by_number
    feeder = after.programs.feeder
    keys = [_head_key(feeder), _programs_key(feeder), _feeders_key()]
    args: list[str | int | bytes] = [
        before.stamp,
        after.stamp,
        after.programs.next_number,
        after.programs.revision,
        feeder,
        MOST_EXECUTIONS,
        HISTORY_S,
    ]
    for number in sorted(old.keys() | new.keys()):
        was, now = old.get(number), new.get(number)
        if was is not now:
            keys.append(_executions_key(feeder, number))
            args += [number, _record(now), *_latest_execution(was, now)]
    return keys, args


def _record(program: Program | None) -> str:
    return program.model_dump_json(exclude={"executions"}) if program is not None else ""


def _latest_execution(was: Program | None, now: Program | None) -> tuple[str, str]:
    """The latest execution where it is new or has changed, and which: started, known, ended."""
    old = was.executions if was is not None else ()
    new = now.executions if now is not None else ()
    if not new or new == old:
        return "", ""
    latest = new[-1]
    if not old or old[-1].revision != latest.revision:
        how = "started"
    else:
        how = "known" if latest.stopped_at is None else "ended"
    return latest.model_dump_json(), how


def _program(record: bytes, executions: list[bytes]) -> Program:
    fields = orjson.loads(record)
    fields["executions"] = [orjson.loads(execution) for execution in executions]
    return Program.model_validate_json(orjson.dumps(fields))


def _text(value: Any) -> str:
    """A reply of the store as text; empty where it has nothing."""
    return value.decode() if value is not None else ""


def _feeders_key() -> str:
    """Set of the feeders that have a registry. Permanent: no TTL."""
    return "flexfeeder:dfp:feeders"


def _head_key(feeder: str) -> str:
    """Hash with the stamp, the next number and the revision of a feeder. Permanent: no TTL."""
    return f"flexfeeder:{feeder}:dfp"


def _programs_key(feeder: str) -> str:
    """Hash of the programs of a feeder, by number, with their subscriptions, as JSON. Permanent:
    no TTL; a program goes when it is deleted.
    """
    return f"flexfeeder:{feeder}:dfp:programs"


def _executions_key(feeder: str, number: int) -> str:
    """List of the latest executions of a program, as JSON, oldest first. Permanent while it
    executes, then gone :data:`HISTORY_S` after its last execution has ended, or with the program.
    """
    return f"flexfeeder:{feeder}:dfp:executions:{number}"
