"""``flexfeeder up``: the whole system on this machine, from one command to one Ctrl-C."""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flexfeeder import checks, discovery, ports
from flexfeeder.checks import CannotStart
from flexfeeder.embedded import credentials, embed
from flexfeeder.liveline import LiveLine
from flexfeeder.supervisor import GaveUp, Spec, Supervisor
from flexfeeder.watcher import Watcher
from schemas.wire import canonical
from services.logs import Log, configure
from services.process import EXIT_BAD_INPUT
from services.settings import Settings

SERVICES = ("solver", "dfp_manager", "gateway")
STOP_WITHIN_S = 2.5
PROBE_EVERY_S = 5.0
PROBE_FAILURES = 2
UP_PID = "up.pid"


def up(settings: Settings, *, with_meters: bool) -> int:
    """Run everything until told to stop; returns the exit status.

    Raises:
        CannotStart: when a port or the data folder is taken, or strangers would be let in.

    """
    shows_line = sys.stderr.isatty()
    log = configure(settings, "up")
    with ExitStack() as stack:
        stack.enter_context(_locked(settings.data_dir))
        checks.check(settings)
        settings, infrastructure = embed(settings)
        stack.enter_context(discovery.published(settings))
        supervisor = Supervisor(
            settings.data_dir / "run",
            settings.data_dir / "log" if shows_line else None,
            log,
            keep={UP_PID},
        )
        watcher = Watcher(settings, log, with_states=shows_line)
        run = _Run(settings, supervisor, watcher, infrastructure, log)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, run.stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(signal.SIGHUP, run.stop)
        return run.run(with_meters=with_meters, line=LiveLine(sys.stderr) if shows_line else None)


class _Run:
    """One life of the system."""

    def __init__(
        self,
        settings: Settings,
        supervisor: Supervisor,
        watcher: Watcher,
        infrastructure: list[Spec],
        log: Log,
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._watcher = watcher
        self._infrastructure = infrastructure
        self._log = log
        self._stopping = False
        self._probe_due = 0.0
        self._probe_failures = 0
        self._embedded_broker = any(spec.name == "broker" for spec in infrastructure)

    def stop(self, *_: object) -> None:
        self._stopping = True

    def run(self, *, with_meters: bool, line: LiveLine | None) -> int:
        """Start, watch over and stop everything; returns the exit status."""
        started = time.monotonic()
        try:
            self._start(with_meters=with_meters)
            self._watch_over(started, line)
        except GaveUp as gave_up:
            self._log.error("gave_up", child=str(gave_up), reason="its input cannot be used")
            self._show_log_of(str(gave_up))
            return EXIT_BAD_INPUT
        finally:
            if line is not None:
                line.close()
            self._watcher.close()
            self._supervisor.stop(("meters", *SERVICES), ("broker", "store"), grace_s=STOP_WITHIN_S)
        self._log.info("stopped")
        return 0

    def _start(self, *, with_meters: bool) -> None:
        for spec in self._infrastructure:
            self._supervisor.start(spec)
        while not all(self._supervisor.is_ready(spec.name) for spec in self._infrastructure):
            if self._stopping:
                return
            self._supervisor.tick(time.monotonic())
            time.sleep(0.01)
        for name in SERVICES:
            self._supervisor.start(self._child(name, f"services.{name}"))
        if with_meters:
            self._supervisor.start(self._child("meters", "flexfeeder", "meters"))

    def _watch_over(self, started: float, line: LiveLine | None) -> None:
        announced = False
        while not self._stopping:
            self._watcher.poll(0.05)
            now = time.monotonic()
            self._supervisor.tick(now)
            self._probe_broker(now)
            if not announced and self._is_ready():
                announced = True
                self._announce(now - started)
            if line is not None and announced and line.is_due(now):
                figures = self._watcher.solver_figures(canonical(self._settings.feeder))
                line.show(self._watcher.state, figures, now)

    def _child(self, name: str, *module: str) -> Spec:
        """A Python module of ours as a child that announces itself on the bus."""
        command = [sys.executable, "-m", *module]
        return Spec(name, command, self._settings.to_env(), self._watcher.is_online)

    def _is_ready(self) -> bool:
        """Whether the gateway says that everything is there."""
        host, port = ports.reachable(self._settings.http_host), self._settings.http_port
        return ports.fetch(f"http://{host}:{port}/readyz", timeout_s=0.5) is not None

    def _announce(self, seconds: float) -> None:
        settings = self._settings
        self._log.info(
            "ready",
            after_s=round(seconds, 2),
            http=f"http://{settings.http_host}:{settings.http_port}/docs",
            mqtt=(
                f"{settings.mqtt_listen if self._embedded_broker else settings.mqtt_host}"
                f":{settings.mqtt_port}"
            ),
            security=self._security(),
        )

    def _security(self) -> str:
        if not self._embedded_broker:
            return "that of the broker"
        if credentials(self._settings) is not None:
            return "one password for all devices, in plain text: for a network that you trust"
        return "none, and none needed: everything is on loopback"

    def _probe_broker(self, now: float) -> None:
        """Restart the embedded broker when its 3.1.1 listener has broken down.

        An MQTT 5 message with properties that meets a 3.1.1 subscriber kills that connection
        and then the listener, while the process lives on (docs/decisions/0002).
        """
        if not self._embedded_broker or now < self._probe_due:
            return
        self._probe_due = now + PROBE_EVERY_S
        settings = self._settings
        host, port = ports.reachable(settings.mqtt_listen), settings.mqtt_port
        is_down = ports.refuses_mqtt311(host, port, credentials(settings))
        self._probe_failures = self._probe_failures + 1 if is_down else 0
        if self._probe_failures >= PROBE_FAILURES:
            self._probe_failures = 0
            self._log.warning("broker_restart", reason="its MQTT 3.1.1 listener hangs up")
            self._supervisor.restart("broker")

    def _show_log_of(self, name: str) -> None:
        path = self._settings.data_dir / "log" / f"{name}.log"
        if sys.stderr.isatty() and path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            print(*lines[-20:], sep="\n", file=sys.stderr)


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data folder: a second system in it would spoil what the first one keeps."""
    run_dir = data_dir / "run"
    run_dir.mkdir(parents=True, exist_ok=True)
    pid_file = run_dir / UP_PID
    with (data_dir / discovery.LOCK).open("a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = pid_file.read_text(encoding="ascii").strip() if pid_file.exists() else "unknown"
            raise CannotStart(
                f"the data folder {data_dir} is in use by flexfeeder up (pid {pid}); "
                "stop it, or choose another folder and other ports: "
                "FLEXFEEDER_DATA_DIR=... FLEXFEEDER_HTTP_PORT=... FLEXFEEDER_MQTT_PORT=..."
            ) from None
        pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
        try:
            yield
        finally:
            pid_file.unlink(missing_ok=True)
