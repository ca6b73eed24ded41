"""Broker and store in containers, at ports of this machine, to be used and to be harmed."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from containers import deployed, engine
from flexfeeder import ports
from flexfeeder.testing import wait_until

_BROKER_CONF = "/mosquitto/config/mosquitto.conf"
_STORE_CONF = "/etc/redis.conf"

TMPFS = "/small"
"""Where a store keeps what it holds if that is in memory: no folder of its image, which would give
it another owner.
"""

READY_S = 60
LOOK_S = 0.05
STOP_WITHIN_S = "5"


@dataclass(frozen=True, slots=True)
class Server:
    """A container that serves at a port of this machine, and the one network that it is on."""

    container: str
    network: str
    port: int

    def restart(self) -> None:
        """Have it end in an orderly way, and start again."""
        engine.docker("restart", "--time", STOP_WITHIN_S, self.container)

    def kill(self) -> None:
        """Kill -9."""
        engine.docker("kill", self.container)

    def start(self) -> None:
        """Start it again, with what it has kept."""
        engine.docker("start", self.container)

    def pause(self) -> None:
        """Let it take connections, and answer nothing."""
        engine.docker("pause", self.container)

    def unpause(self) -> None:
        engine.docker("unpause", self.container)

    def cut_off(self) -> None:
        """Take it off its network: whoever was connected loses it, and nobody gets through."""
        engine.docker("network", "disconnect", self.network, self.container)

    def reconnect(self) -> None:
        """Put it back on its network; its port is the same."""
        engine.docker("network", "connect", self.network, self.container)

    def run(self, *command: str) -> str:
        """Run a command inside, and return what it prints."""
        return engine.docker("exec", self.container, *command)


@dataclass(frozen=True, slots=True)
class Servers:
    """What a system needs beside itself."""

    broker: Server
    store: Server

    @property
    def env(self) -> dict[str, str]:
        """The settings of services that use them."""
        return {
            "FLEXFEEDER_MQTT_HOST": ports.LOOPBACK,
            "FLEXFEEDER_MQTT_PORT": str(self.broker.port),
            "FLEXFEEDER_REDIS_URL": self.store_url,
        }

    @property
    def store_url(self) -> str:
        return f"redis://{ports.LOOPBACK}:{self.store.port}/0"


@contextmanager
def servers(
    store_options: Sequence[str] = ("--appendfsync", "always"),
    *,
    store_tmpfs: str | None = None,
    store_comes_back: bool = False,
) -> Iterator[Servers]:
    """A broker and a store as they are deployed, open to this machine, on a network of their own.

    What the store holds is in a volume, or, where a size is given, in memory. Unless its options
    say otherwise it keeps what it has answered through a kill, whatever its disk is doing. One that
    comes back is started again when it ends, in its container: what is in memory stays.
    """
    with ExitStack() as stack:
        network = stack.enter_context(engine.network())
        broker = DockerContainer("eclipse-mosquitto:2.0")
        broker.with_copy_into_container(deployed.broker(), _BROKER_CONF)
        folder = "/data" if store_tmpfs is None else TMPFS
        store = DockerContainer("redis:8")
        store.with_copy_into_container(deployed.store(), _STORE_CONF)
        command = ["redis-server", _STORE_CONF, "--dir", folder, *store_options]
        if store_comes_back:
            command = ["sh", "-c", f"while :; do {shlex.join(command)}; sleep 0.2; done"]
        store.with_command(command)
        if store_tmpfs is None:
            store.with_volume_mapping(stack.enter_context(engine.volume()), folder, "rw")
        else:
            store.with_tmpfs_mount(folder, f"size={store_tmpfs},mode=1777")
        yield Servers(
            stack.enter_context(_started(broker, network, 1883, "mosquitto .* running")),
            stack.enter_context(_started(store, network, 6379, "Ready to accept connections")),
        )


@contextmanager
def _started(
    container: DockerContainer, network: str, port_inside: int, says: str
) -> Iterator[Server]:
    """A server that says that it is ready; its port outlives whatever is done to it."""
    # The reaper's image cannot be had everywhere; engine.sweep does the same.
    testcontainers_config.ryuk_disabled = True
    port = ports.free_port()
    published: dict[str, Any] = container.ports  # takes an address too
    published[f"{port_inside}/tcp"] = (ports.LOOPBACK, port)
    container.with_kwargs(network=network, labels=engine.LABELS)
    ready = LogMessageWaitStrategy(says).with_startup_timeout(READY_S).with_poll_interval(LOOK_S)
    with container.waiting_for(ready):
        wait_until(lambda: ports.is_open(ports.LOOPBACK, port), "its port is open")
        yield Server(container.get_container_id(), network, port)
