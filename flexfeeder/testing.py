"""A whole system on free ports, for tests and benchmarks, ours and yours."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from flexfeeder import ports

MOSQUITTO = shutil.which(
    "mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
)
"""The Mosquitto broker of this machine, None where there is none."""

READY_WITHIN_S = 60.0
"""A second or two where nobody else wants the machine."""

STOPS_WITHIN_S = 20.0
"""As long as `flexfeeder up` may take to stop everything."""

_MOSQUITTO_CONF = """listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_queued_messages 10000
max_inflight_messages 1000
persistence false
"""


def wait_until(
    predicate: Callable[[], bool], description: str, timeout_s: float = 30.0, every_s: float = 0.01
) -> None:
    """Wait for a fact, and for no longer than it takes.

    ``timeout_s`` is when there is no hope left: far more than is needed, since a busy machine may
    let anybody wait for seconds. It is looked for every ``every_s``, and more often at first, since
    most of what is waited for is there at once.

    Raises:
        TimeoutError: when it has not come true in time; the message describes it.

    """
    deadline = time.monotonic() + timeout_s
    pause_s = every_s / 16
    while True:
        # Read first: whoever is held up between the two looks once more.
        is_late = time.monotonic() > deadline
        if predicate():
            return
        if is_late:
            raise TimeoutError(f"not within {timeout_s:g} s: {description}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, every_s)


@dataclass(frozen=True, slots=True)
class System:
    """A running system and where to find it."""

    http_host: str
    http_port: int
    mqtt_port: int
    mqtt5_port: int
    data_dir: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.http_host}:{self.http_port}"

    def pid(self, name: str) -> int:
        """Process id of a child: solver, dfp_manager, gateway, broker, store or meters."""
        return int((self.data_dir / "run" / f"{name}.pid").read_text(encoding="ascii"))

    def is_ready(self) -> bool:
        return ports.fetch(f"{self.url}/readyz", timeout_s=1.0) is not None


@contextmanager
def mosquitto() -> Iterator[int]:
    """A Mosquitto broker on a free port, which is what is yielded."""
    if MOSQUITTO is None:
        raise FileNotFoundError("mosquitto is not installed")
    port = ports.free_port()
    with tempfile.TemporaryDirectory(prefix="flexfeeder-mosquitto-") as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(_MOSQUITTO_CONF.format(port=port), encoding="utf-8")
        process = subprocess.Popen(
            [MOSQUITTO, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: ports.is_open("127.0.0.1", port), "mosquitto listens")
            yield port
        finally:
            process.terminate()
            process.wait()


@contextmanager
def system(
    *,
    meters: bool = False,
    on_mosquitto: bool = False,
    env: Mapping[str, str] | None = None,
    feeders_dir: Path | None = None,
) -> Iterator[System]:
    """Run ``flexfeeder up`` on free ports with a data folder of its own, and stop it after.

    ``env`` says otherwise where it is to: a broker's port, say.
    """
    with ExitStack() as stack:
        for tries_left in (2, 1, 0):
            try:
                running = stack.enter_context(_system(meters, on_mosquitto, env or {}, feeders_dir))
                break
            except PortTaken:
                if not tries_left:
                    raise
        yield running


class PortTaken(RuntimeError):
    """Somebody else took a port that was free a moment ago."""


@contextmanager
def _system(
    meters: bool, on_mosquitto: bool, env: Mapping[str, str], feeders_dir: Path | None
) -> Iterator[System]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flexfeeder-")))
        http_port, mqtt_port = ports.free_ports(2)
        settings = {
            "FLEXFEEDER_HTTP_PORT": str(http_port),
            "FLEXFEEDER_DATA_DIR": str(folder / "data"),
            "FLEXFEEDER_RESULTS_DIR": str(folder / "results"),
        }
        if feeders_dir is not None:
            settings["FLEXFEEDER_FEEDERS_DIR"] = str(feeders_dir)
        if on_mosquitto:
            mqtt_port = stack.enter_context(mosquitto())
            settings["FLEXFEEDER_MQTT_HOST"] = "127.0.0.1"
        settings["FLEXFEEDER_MQTT_PORT"] = str(mqtt_port)
        settings |= env
        mqtt_port = mqtt5_port = int(settings["FLEXFEEDER_MQTT_PORT"])
        log = folder / "up.log"
        process = stack.enter_context(_up(settings, log, meters=meters))
        running = System(
            "127.0.0.1", http_port, mqtt_port, mqtt5_port, folder / "data", process, log
        )

        def is_ready() -> bool:
            if process.poll() is not None:
                said = log.read_text(encoding="utf-8")
                # By `up` before it starts anything, or by a service that comes to it later.
                is_taken = " is taken" in said or "port_taken" in said
                kind = PortTaken if is_taken else RuntimeError
                raise kind(f"flexfeeder up ended:\n{said}")
            return running.is_ready()

        try:
            wait_until(is_ready, "the system is ready", timeout_s=READY_WITHIN_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n{log.read_text(encoding='utf-8')[-10_000:]}") from None
        if "FLEXFEEDER_MQTT_HOST" not in settings:
            addresses = orjson.loads((folder / "data/run/system.json").read_bytes())
            mqtt5_port = int(addresses["mqtt5_port"])
        yield System("127.0.0.1", http_port, mqtt_port, mqtt5_port, folder / "data", process, log)


@contextmanager
def _up(env: Mapping[str, str], log: Path, *, meters: bool) -> "Iterator[subprocess.Popen[bytes]]":
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flexfeeder", "up", "--meters" if meters else "--no-meters"],
            env={**_without_settings(os.environ), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _without_settings(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith("FLEXFEEDER_")}
