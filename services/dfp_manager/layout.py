"""How the registry lies in the store: its keys, what is written under them, and the scripts that
write. Keys are built here and nowhere else.

What a request came to is written by the script that writes what it did, so there is never one
without the other.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from schemas.programs import Program
from services.dfp_manager import decided as records
from services.dfp_manager.decided import Decided
from services.dfp_manager.programs import MOST_EXECUTIONS, FeederPrograms
from services.once import MOST_REMEMBERED, REMEMBERED_S

HISTORY_S = 90 * 24 * 3600
"""How long executions are kept after the last one of a program has ended."""

MOST_FORGOTTEN = 1000
"""Requests that one write forgets: the store serves nobody meanwhile, 10 ms long."""

MEMORY_S = int(REMEMBERED_S) + 3600
"""How long what requests came to is kept after the last of them: somewhat longer than it is asked
for, as the store has a clock of its own."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many requests of a feeder are remembered, and bytes of what they came to; beyond that the
    oldest are forgotten before their time. A program of a large feeder has thousands of buses, and
    most answers name them all.
    """

    requests: int = MOST_REMEMBERED
    bytes: int = 64 << 20


BOUNDS = Bounds()

WRITE = """
-- KEYS: head, programs, feeders, requests, their order; then the executions of each program that
-- has changed.
-- ARGV: stamp expected, stamp left, next number, revision, feeder, most executions, lifetime;
-- request id (empty: none is decided), at, record, most requests, most bytes, how long in s, how
-- many are forgotten at most, lifetime;
-- then of each program: number, record (empty: deleted), execution, what to do with it.
local head, requests, order = KEYS[1], KEYS[4], KEYS[5]

local function remember(id, at, record, most, largest, kept_s, most_forgotten, lifetime)
  local bytes, horizon = 0, tonumber(redis.call('HGET', head, 'horizon') or 0)
  if redis.call('EXISTS', requests) == 1 then bytes = redis.call('HGET', head, 'bytes') or 0 end
  bytes = bytes + #record - redis.call('HSTRLEN', requests, id)
  if redis.call('HSET', requests, id, record) == 1 then
    redis.call('RPUSH', order, at .. ' ' .. id)
  end
  local left = redis.call('LLEN', order)
  for _ = 1, most_forgotten do
    if left <= 1 then break end
    local decided_at, oldest = string.match(redis.call('LINDEX', order, 0), '(%S+) (%S+)')
    local is_kept = tonumber(decided_at) >= at - kept_s
    if is_kept and left <= tonumber(most) and bytes <= tonumber(largest) then break end
    bytes = bytes - redis.call('HSTRLEN', requests, oldest)
    redis.call('HDEL', requests, oldest)
    redis.call('LPOP', order)
    left = left - 1
    if tonumber(decided_at) > horizon then
      horizon = tonumber(decided_at)
      redis.call('HSET', head, 'horizon', decided_at)
    end
  end
  redis.call('HSET', head, 'bytes', string.format('%d', bytes))
  redis.call('EXPIRE', requests, lifetime)
  redis.call('EXPIRE', order, lifetime)
end

if (redis.call('HGET', head, 'stamp') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', head, 'stamp', ARGV[2], 'next_number', ARGV[3], 'revision', ARGV[4])
redis.call('SADD', KEYS[3], ARGV[5])
if ARGV[8] ~= '' then remember(unpack(ARGV, 8, 15)) end
for index = 6, #KEYS do
  local executions, at = KEYS[index], 16 + 4 * (index - 6)
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

SETTLE = """
-- KEYS: head. ARGV: the stamp that is looked for, the stamp to leave if it is not there.
if redis.call('HGET', KEYS[1], 'stamp') == ARGV[1] then return 1 end
redis.call('HSET', KEYS[1], 'stamp', ARGV[2])
return 0
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A feeder's programs, and the stamp under which the store holds them."""

    stamp: str
    programs: FeederPrograms


def write_arguments(
    before: Held, after: Held, decided: Decided | None, bounds: Bounds
) -> tuple[list[str], list[str | int | float | bytes]]:
    """Keys and arguments of :data:`WRITE` that turn the one into the other, and remember what was
    decided.
    """
    old, new = before.programs.by_number, after.programs.by_number
    feeder = after.programs.feeder
    keys = [
        head_key(feeder),
        programs_key(feeder),
        feeders_key(),
        requests_key(feeder),
        order_key(feeder),
    ]
    args: list[str | int | float | bytes] = [
        before.stamp,
        after.stamp,
        after.programs.next_number,
        after.programs.revision,
        feeder,
        MOST_EXECUTIONS,
        HISTORY_S,
        decided.request_id if decided is not None else "",
        decided.at if decided is not None else 0.0,
        records.encode(decided) if decided is not None else b"",
        bounds.requests,
        bounds.bytes,
        REMEMBERED_S,
        MOST_FORGOTTEN,
        MEMORY_S,
    ]
    for number in sorted(old.keys() | new.keys()):
        was, now = old.get(number), new.get(number)
        if was is not now:
            keys.append(executions_key(feeder, number))
            args += [number, _record(now), *_latest_execution(was, now)]
    return keys, args


def read(
    feeder: str,
    head: dict[bytes, bytes],
    programs: dict[bytes, bytes],
    executions: dict[int, list[bytes]],
) -> Held:
    """A feeder as it was written; ``executions`` by the number of the program.

    Raises:
        LookupError, TypeError, ValueError: for what is no registry.

    """
    by_number = {
        number: _program(programs[str(number).encode()], history)
        for number, history in executions.items()
    }
    return Held(
        head.get(b"stamp", b"").decode(),
        FeederPrograms(
            feeder,
            next_number=int(head.get(b"next_number", 1)),
            revision=int(head.get(b"revision", 0)),
            by_number=by_number,
        ),
    )


def feeders_key() -> str:
    """Set of the feeders that have a registry. Permanent: no TTL."""
    return "flexfeeder:dfp:feeders"


def head_key(feeder: str) -> str:
    """Hash of a feeder: stamp of the last write, next number, revision; horizon (epoch seconds up
    to which requests were forgotten) and bytes of those that are not. Permanent: no TTL.
    """
    return f"flexfeeder:{feeder}:dfp"


def programs_key(feeder: str) -> str:
    """Hash of the programs of a feeder, by number, with their subscriptions, as JSON. Permanent:
    no TTL; a program goes when it is deleted.
    """
    return f"flexfeeder:{feeder}:dfp:programs"


def executions_key(feeder: str, number: int) -> str:
    """List of the latest executions of a program, as JSON, oldest first. Permanent while it
    executes, then gone :data:`HISTORY_S` after its last execution has ended, or with the program.
    """
    return f"flexfeeder:{feeder}:dfp:executions:{number}"


def requests_key(feeder: str) -> str:
    """Hash of what requests came to, by request id, as JSON; bounded. Gone :data:`MEMORY_S` after
    the last of them.
    """
    return f"flexfeeder:{feeder}:dfp:requests"


def order_key(feeder: str) -> str:
    """List of the same requests in the order in which they were decided: when (epoch seconds), a
    space, the request id. Gone with them.
    """
    return f"flexfeeder:{feeder}:dfp:requests:order"


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
    fields: dict[str, Any] = orjson.loads(record)
    fields["executions"] = [orjson.loads(execution) for execution in executions]
    return Program.model_validate_json(orjson.dumps(fields))
