"""Who may do what in the store: its access list, in the format of Redis. Pure.

Each service has the keys that it builds (``services.solver.journal``, ``services.dfp_manager.
layout``) and the commands that it and its scripts call, and nothing else: no other's keys, no
settings of the store, no emptying it.
"""

import hashlib
from collections.abc import Mapping

SOLVER = "solver"
MANAGER = "dfp_manager"

USERS = (SOLVER, MANAGER)
"""The users that have a password."""

HEALTH = "health"
"""A user without a password, who can learn that the store answers, and nothing more."""

_CONNECTING = ("ping", "client|setinfo", "multi", "exec", "evalsha", "script|load")
"""What both call on the way to the rest. A script's calls are held against the list like any."""

_SOLVER_CALLS = (
    *("get", "set", "del", "incr", "pexpire"),
    *("hget", "hset", "hdel", "hmget", "hgetall", "hincrby"),
    *("lrange", "lindex", "rpush", "ltrim"),
    *("xadd", "xrange", "xrevrange", "xtrim"),
)

_MANAGER_CALLS = (
    *("exists", "del", "expire", "persist", "sadd", "smembers"),
    *("hget", "hset", "hdel", "hmget", "hgetall", "hstrlen"),
    *("lrange", "lindex", "llen", "lpop", "rpush", "rpop", "ltrim"),
)

_SOLVER_KEYS = ("fence", "holder", "owner", "journal", "in_flight", "snapshot", "requests")


def users_acl(feeder: str, passwords: Mapping[str, str]) -> str:
    """The store's ``aclfile``; ``passwords`` has those of :data:`USERS`."""
    solver_keys = [f"flexfeeder:{feeder}:{name}" for name in _SOLVER_KEYS]
    manager_keys = [
        "flexfeeder:dfp:feeders",
        f"flexfeeder:{feeder}:dfp",
        f"flexfeeder:{feeder}:dfp:*",
    ]
    lines = [
        # Nobody can be this user. But the store is, when it reads its own file at start: what that
        # user may not do, of a transaction, is left out then, and with it all that there was.
        "user default off resetpass allkeys allchannels +@all",
        f"user {HEALTH} on nopass resetkeys resetchannels -@all +ping",
        _user(SOLVER, passwords[SOLVER], solver_keys, _SOLVER_CALLS),
        _user(MANAGER, passwords[MANAGER], manager_keys, _MANAGER_CALLS),
    ]
    return "\n".join(lines) + "\n"


def store_url(user: str, password: str) -> str:
    """How a service of the composition reaches the store; the password needs no quotes."""
    return f"redis://{user}:{password}@store:6379/0"


def password_in(url: str) -> str | None:
    """The password of a URL that :func:`store_url` made; None where it is another's."""
    start, _, rest = url.partition("@")
    password = start.rpartition(":")[2]
    user = start.removeprefix("redis://").partition(":")[0]
    return password if rest and url == store_url(user, password) else None


def _user(name: str, password: str, keys: list[str], calls: tuple[str, ...]) -> str:
    digest = hashlib.sha256(password.encode()).hexdigest()
    allowed = " ".join(f"+{call}" for call in (*_CONNECTING, *calls))
    patterns = " ".join(f"~{key}" for key in keys)
    return f"user {name} on #{digest} {patterns} resetchannels -@all {allowed}"
