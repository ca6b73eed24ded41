"""How the other commands find the system that ``flexfeeder up`` has started on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from services.settings import Settings

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
    if settings.mqtt_host is not None or not path.is_file():
        return settings
    return settings.model_copy(update=orjson.loads(path.read_bytes()))
