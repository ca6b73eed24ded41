"""The configuration of the deployed broker and store, but for who may do what: limits, queues and
what is kept on disk are as they are in production.
"""

from collections.abc import Collection
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

_OF_BROKERS_USERS = frozenset(
    {
        *("listener", "certfile", "keyfile", "tls_version", "use_username_as_clientid"),
        *("allow_anonymous", "password_file", "acl_file"),
    }
)
_OF_STORES_USERS = frozenset({"protected-mode", "aclfile"})


def broker() -> bytes:
    """A broker for anybody who reaches it; it says when it is ready, too."""
    conf = DEPLOY / "mosquitto" / "mosquitto.conf"
    instead = ("listener 1883", "allow_anonymous true", "log_type information")
    return _without(_OF_BROKERS_USERS, conf, *instead)


def store() -> bytes:
    """A store for anybody who reaches it."""
    return _without(_OF_STORES_USERS, DEPLOY / "redis" / "redis.conf", "protected-mode no")


def _without(settings: Collection[str], conf: Path, *instead: str) -> bytes:
    lines = conf.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition(" ")[0] not in settings]
    return "\n".join([*instead, *kept, ""]).encode()
