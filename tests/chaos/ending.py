"""What is left of a system when everybody is at rest."""

from contextlib import suppress
from typing import Any

import orjson
import patience
from support import MqttClient, results

from chaos.history import Ending
from flexfeeder.testing import System, wait_until
from schemas import topics

READY_S = 60.0
AGREE_S = 30.0
"""How long state and retained adjustments may take to agree; that they do not is for the checker.
"""


def ending(system: System, feeder: str) -> Ending:
    """State, registry and retained adjustments, once they agree or have had the time to."""
    wait_until(system.is_ready, "the system is ready", READY_S, every_s=0.1)
    topic = topics.adjustments(feeder)
    with (
        MqttClient(system.mqtt_port, protocol="3.1.1") as listener,
        patience.client(system.url) as client,
    ):
        listener.subscribe(topic)
        listener.first_on(topic)

        def retained() -> dict[str, Any]:
            found: dict[str, Any] = orjson.loads(listener.on(topic)[-1].payload)
            return found

        def solved() -> dict[str, Any]:
            found: dict[str, Any] = results(client.post("/run_simulation"))
            return found

        def do_agree() -> bool:
            return bool(solved()["adjustments"]["revision"] == retained()["revision"])

        with suppress(TimeoutError):
            wait_until(do_agree, "the state shows the adjustments", AGREE_S, every_s=0.1)
        programs = results(client.get("/dfps"))
        return Ending(results(client.get("/get_state")), programs, retained())
