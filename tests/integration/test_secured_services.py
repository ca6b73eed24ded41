"""The services themselves on a broker and a store as they are deployed, each as its own user: they
work, and nothing that any of them does is denied.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import patience
import pytest
from secured import (
    FEEDER,
    Person,
    SecuredBroker,
    SecuredStore,
    make_secrets,
)
from support import FEEDERS, loads, results

from flexfeeder import ports
from flexfeeder.testing import MOSQUITTO, wait_until
from schemas import topics

pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@contextmanager
def process(folder: Path, module: str, env: dict[str, str]) -> Iterator[None]:
    """A service, or the simulated meters, until the end; it has to end well."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    with (folder / f"{env['FLEXFEEDER_MQTT_USERNAME']}.log").open("w+", encoding="utf-8") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", *module.split()], env=bare | env, stderr=log
        )
        try:
            yield
        finally:
            running.terminate()
            status = running.wait(20)
        log.seek(0)
        said = log.read()
        assert status == 0, said
        assert "Traceback" not in said


class Deployed:
    """Where the deployed system is reached."""

    def __init__(self, url: str, broker: SecuredBroker, store: SecuredStore) -> None:
        key = (broker.secrets / "api_admin.key").read_text(encoding="utf-8").strip()
        self.http = patience.client(url, Authorization=f"Bearer {key}")
        self.broker = broker
        self._store = store

    def state(self) -> Any:
        return results(self.http.get("/get_state"))

    def denied(self) -> list[str]:
        """What broker and store have denied to anybody."""
        by_broker = [line for line in self.broker.logged().splitlines() if "Denied" in line]
        return by_broker + self._store.denied()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    secrets = folder / "secrets"
    make_secrets(secrets)
    with ExitStack() as stack:
        store = stack.enter_context(SecuredStore(secrets, folder))
        broker = stack.enter_context(SecuredBroker(secrets, folder))
        port = ports.free_port()

        def start(user: str, module: str) -> None:
            env = {
                "FLEXFEEDER_FEEDER": FEEDER,
                "FLEXFEEDER_FEEDERS_DIR": str(FEEDERS),
                "FLEXFEEDER_RESULTS_DIR": str(folder / "results"),
                "FLEXFEEDER_HTTP_PORT": str(port),
                "FLEXFEEDER_KEYS_FILE": str(secrets / "gateway/keys.json"),
                "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
                "FLEXFEEDER_MQTT_PORT": str(broker.inside),
                "FLEXFEEDER_MQTT_CA": str(secrets / "ca.crt"),
                "FLEXFEEDER_MQTT_USERNAME": user,
                "FLEXFEEDER_MQTT_PASSWORD_FILE": str(secrets / "mqtt" / user),
            }
            if (secrets / f"redis/{user}_url").exists():
                env["FLEXFEEDER_REDIS_URL"] = store.url_of(user)
            stack.enter_context(process(folder, module, env))

        start("solver", "services.solver")
        start("dfp_manager", "services.dfp_manager")
        start("gateway", "services.gateway")
        start("simulator", "flexfeeder meters --interval 0.2")
        found = Deployed(f"http://127.0.0.1:{port}", broker, store)
        stack.enter_context(found.http)
        wait_until(
            lambda: ports.fetch(f"http://127.0.0.1:{port}/readyz", timeout_s=1.0) is not None,
            "all services are there",
            timeout_s=30.0,
        )
        yield found


def test_all_that_the_services_do_is_allowed(deployed: Deployed) -> None:
    """Readings, commands, a program from its registration to its end. What is denied would have
    been seen.
    """
    http = deployed.http
    wait_until(
        lambda: any(load["source"] == "meter" for load in loads(deployed.state()).values()),
        "simulated meters are heard",
    )
    pin = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}
    assert loads(results(http.post("/modify_load_household", json=pin)))["1", "Load_1"]["kw"] == 5.0
    program = {"name": "peak", "min_power_kw": 1.0, "target_pf": 0.95}
    results(http.post("/register_dfp", json=program))
    results(http.post("/subscribe_dfp", json={"bus_name": "9", "dfp_name": "peak"}))
    results(http.post("/execute_dfp", json={"dfp_name": "peak"}))
    results(http.post("/stop_dfp", json={"dfp_name": "peak"}))
    results(http.request("DELETE", "/delete_dfp", json={"name": "peak"}))
    assert deployed.denied() == []
    with Person(deployed.broker, "viewer") as viewer:
        viewer.publish(topics.command(FEEDER, "run_simulation"), b"{}")
    wait_until(lambda: bool(deployed.denied()), "the log says so")
    assert "Denied PUBLISH" in deployed.denied()[0]


def test_an_operator_asks_from_outside_and_is_answered(deployed: Deployed) -> None:
    with Person(deployed.broker, "operator") as operator:
        operator.subscribe("flexfeeder/reply/operator/#")
        topic = topics.command(FEEDER, "run_simulation")
        operator.publish(topic, b'{"reply_to": "flexfeeder/reply/operator/1"}')
        wait_until(lambda: bool(operator.heard), "an answer")
        assert b'"status":"success"' in operator.heard[0].payload
