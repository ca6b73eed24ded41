"""How the other commands find the system that ``flexfeeder up`` has started on this machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from services.settings import Settings

LOCK = "run/lock"
"""Held by ``up`` for as long as it uses the data folder."""

_FILE = "run/system.json"


@contextmanager
def published(settings: Settings) -> Iterator[None]:
    """Leave the broker's addresses in the data folder for as long as the system runs."""
    path = settings.data_dir / _FILE
    addresses = {
        "mqtt_host": settings.mqtt_host,
        "mqtt_port": settings.mqtt_port,
        "mqtt5_port": settings.mqtt5_port,
    }
    path.write_bytes(orjson.dumps(addresses))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def discovered(settings: Settings) -> Settings:
    """The settings, with the broker of the system that runs here unless they name one."""
    path = settings.data_dir / _FILE
    if settings.mqtt_host is not None or not path.is_file() or not _is_running(settings):
        return settings
    return settings.model_copy(update=orjson.loads(path.read_bytes()))


def _is_running(settings: Settings) -> bool:
    """True while ``up`` holds the data folder; one that was killed leaves its file behind."""
    with (settings.data_dir / LOCK).open("a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        return False
