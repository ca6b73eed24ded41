"""The deployed broker in a container, in the place of :class:`secured.SecuredBroker`."""

import signal
from pathlib import Path
from typing import Self

from secured import DEPLOY, SecuredBroker

from containers import engine
from flexfeeder import ports
from flexfeeder.testing import wait_until

IMAGE = "eclipse-mosquitto:2.0"
CONF = "/mosquitto/config/mosquitto.conf"


class ContainedBroker(SecuredBroker):
    """Mosquitto's image, with the rights and mounts of the compose file, published on loopback."""

    def __init__(self, secrets: Path, folder: Path) -> None:
        self.secrets = secrets
        self.outside, self.inside = ports.free_ports(2)
        self._conf = folder / "mosquitto.conf"
        text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text(encoding="utf-8")
        self._conf.write_text(f"{text}\nlog_type all\n", encoding="utf-8")
        self._container = ""

    def __enter__(self) -> Self:
        self._container = engine.docker(
            *("run", "--detach", "--read-only", "--cap-drop", "ALL", "--user", "1883:1883"),
            *("--security-opt", "no-new-privileges:true"),
            *("--label", f"{engine.OURS}={engine.LABELS[engine.OURS]}"),
            *("--publish", f"127.0.0.1:{self.outside}:8883"),
            *("--publish", f"127.0.0.1:{self.inside}:8884"),
            *("--volume", f"{self._conf}:{CONF}:ro"),
            *("--volume", f"{self.secrets / 'broker'}:/mosquitto/secrets:ro"),
            *("--tmpfs", "/mosquitto/data:uid=1883", "--tmpfs", "/mosquitto/log"),
            *(IMAGE, "mosquitto", "-c", CONF),
        ).strip()
        # The engine's own port is open before the broker's.
        wait_until(lambda: "running" in self.logged(), "the broker runs", every_s=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        engine.docker("rm", "--force", "--volumes", self._container)

    def hang_up(self) -> None:
        before = self.logged().count("Reloading config")
        engine.docker("kill", "--signal", signal.SIGHUP.name, self._container)
        wait_until(lambda: self.logged().count("Reloading config") > before, "it reads them again")

    def logged(self) -> str:
        return engine.run(["sh", "-c", 'docker logs "$0" 2>&1', self._container])
