"""The composed system: brought up whole, used as it is documented, killed, backed up, and taken
down.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import paho.mqtt.client as paho
import patience
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from support import results

from containers import deployment, engine
from containers.deployment import OURS, SERVICES, Deployment
from flexfeeder.testing import wait_until

REPLAY = deployment.ROOT / "docs" / "replay.sh"
GENERATOR = {"bus_name": "1", "kw": 50.0}
PROGRAM = {"name": "evening", "min_power_kw": 100.0, "target_pf": 0.95}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One system for all of them: it takes a while to build and to start."""
    with deployment.deployment(tmp_path_factory.mktemp("secrets")) as made:
        # It looks around every five seconds only: meanwhile there are other tests.
        start = ("--profile", "monitoring", "up", "--detach", "--no-deps", "prometheus")
        made.project.compose(*start)
        yield made


@pytest.fixture
def http(deployed: Deployment) -> Iterator[httpx.Client]:
    """Its administrator, once everything is there."""
    wait_until(deployed.is_ready, "the system is ready", every_s=0.1)
    with deployed.http() as client:
        yield client


def generators(http: httpx.Client) -> list[str]:
    found: Any = results(http.get("/buses/1"))
    return [each["name"] for each in found["generators"]]


def kill(container: str) -> None:
    """Kill -9 of its first process: unlike `docker kill`, nobody has asked for that."""
    os.kill(deployment.details(container)["State"]["Pid"], signal.SIGKILL)


def test_every_call_of_the_documented_table_is_answered(
    deployed: Deployment, http: httpx.Client
) -> None:
    done = subprocess.run(
        ["bash", str(REPLAY), deployed.url],
        env={**os.environ, "API_KEY": deployed.key},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    statuses = re.findall(r"^  (\d{3}) ", done.stdout, flags=re.MULTILINE)
    assert len(statuses) > 25
    assert set(statuses) == {"200"}
    assert deployed.key not in done.stdout


def test_nobody_is_let_in_without_a_key(deployed: Deployment, http: httpx.Client) -> None:
    with patience.client(deployed.url) as nobody:
        assert nobody.get("/get_state").status_code == 401
        guess = {"Authorization": "Bearer ff_00000000_guess"}
        assert nobody.post("/run_simulation", headers=guess).status_code == 401
        assert nobody.get("/readyz").status_code == 200


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_more_rights_than_it_needs(deployed: Deployment, service: str) -> None:
    found = deployment.details(deployed.project.container(service))
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert found["Config"]["User"] not in {"", "0", "root"}
    assert host["Memory"] > 0
    published = [each for ports in host["PortBindings"].values() for each in ports]
    assert {each["HostIp"] for each in published} <= {"127.0.0.1"}
    assert bool(published) == (service in {"broker", "gateway"})


def inside(deployed: Deployment, service: str, *command: str) -> str:
    return engine.docker("exec", deployed.project.container(service), *command)


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_writes_only_where_it_has_something_to_write(
    deployed: Deployment, service: str
) -> None:
    folders = ("/", "/usr/local", "/etc", "/run")
    write = f'for folder in {" ".join(folders)}; do (echo x > "$folder/x") 2>&1; done; true'
    problems = inside(deployed, service, "sh", "-c", write).splitlines()
    assert len(problems) == len(folders)
    for problem in problems:
        assert problem.endswith(("Read-only file system", "Permission denied"))
    inside(deployed, service, "sh", "-c", "echo x > /tmp/x && rm /tmp/x")


def test_what_need_not_be_reached_has_no_way_out(deployed: Deployment) -> None:
    """What is on another network is as far away as the world; the gateway reaches it."""
    found = deployment.details(deployed.project.container("broker"))["NetworkSettings"]["Networks"]
    address = found[f"{deployed.project.name}_outside"]["IPAddress"]
    look = f"import socket; socket.create_connection(('{address}', 8883), timeout=%d)"
    inside(deployed, "gateway", "python", "-c", look % 20)
    for service in ("solver", "dfp_manager"):
        with pytest.raises(engine.EngineError, match=r"timed out|unreachable"):
            inside(deployed, service, "python", "-c", look % 1)


def test_no_secret_is_in_an_image_an_environment_or_a_log(
    deployed: Deployment, http: httpx.Client
) -> None:
    assert http.get("/get_state").status_code == 200
    told = deployed.project.logs(lines=100_000)
    told += engine.docker("history", "--no-trunc", "flexfeeder:test")
    for service in SERVICES:
        told += orjson.dumps(deployment.details(deployed.project.container(service))).decode()
    assert "broker_connected" in told
    values = deployed.secret_values()
    assert len(values) == 11
    assert [name for name, value in values.items() if value in told] == []
    grep = ("grep", "--recursive", "--quiet", "--fixed-strings", "--regexp", deployed.key)
    run = ("run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "sh")
    search = f"! {' '.join(grep)} /app /opt /etc /var /usr/local"
    engine.docker(*run, "flexfeeder:test", "-c", search)


def test_there_is_no_tool_to_build_with_in_the_image() -> None:
    look = "for tool in pip pip3 gcc make git curl sh; do command -v $tool || echo none; done"
    run = ("run", "--rm", "--network", "none", "--entrypoint", "sh", "flexfeeder:test", "-c")
    *found, shell = engine.docker(*run, look).split()
    assert found == ["none"] * 6
    assert shell.endswith("/sh"), "what is there is found"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_killed_comes_back_with_what_was_accepted(
    deployed: Deployment, http: httpx.Client, service: str
) -> None:
    name = results(http.post("/add_generator", json=GENERATOR))["generator_name"]
    container = deployed.project.container(service)
    before = deployment.details(container)["RestartCount"]
    kill(container)

    def is_back() -> bool:
        found = deployment.details(container)
        return bool(found["RestartCount"] > before and found["State"]["Running"])

    wait_until(is_back, f"{service} is started again", every_s=0.1)
    wait_until(deployed.is_ready, "the system is ready", every_s=0.1)
    assert generators(http).count(name) == 1
    wait_until(lambda: removed(http, name), "it can be removed", every_s=0.2)


def removed(http: httpx.Client, name: str) -> bool:
    """Whether it has gone; while a service is away, nothing is removed."""
    answer = http.post("/remove_generator", json={"generator_name": name})
    assert answer.status_code in {200, 503, 504, 404}, answer.text
    return answer.status_code in {200, 404}


class TestMeter:
    def test_a_meter_that_is_issued_speaks_for_itself_alone(
        self, deployed: Deployment, http: httpx.Client
    ) -> None:
        meter = orjson.loads(
            deployment.flexfeeder(
                "meters", "add", "48", "Load_48", "--folder", str(deployed.secrets)
            )
        )
        assert meter["username"] == "48/Load_48"
        # Nobody has told the broker yet.
        assert not self._publishes(deployed, meter, {})
        deployed.project.compose("kill", "--signal", "HUP", "broker")
        wait_until(lambda: self._publishes(deployed, meter, {}), "it is let in", every_s=0.1)
        other = "flexfeeder/ieee123/meter/47/Load_47"

        def demands() -> dict[str, Any]:
            return {
                load["name"]: (load["demand_kw"], load["source"])
                for bus in ("47", "48")
                for load in results(http.get(f"/buses/{bus}"))["loads"]
            }

        def counts() -> bool:
            # A solver that comes back to the broker misses what is said meanwhile.
            assert self._publishes(deployed, meter, {other: 44.0, meter["topic"]: 33.0})
            return bool(demands()["Load_48"] == (33.0, "meter"))

        wait_until(counts, "its reading counts", every_s=0.2)
        assert demands()["Load_47"][1] == "nominal"

        deployment.flexfeeder(
            "meters", "remove", "48", "Load_48", "--folder", str(deployed.secrets)
        )
        deployed.project.compose("kill", "--signal", "HUP", "broker")
        wait_until(lambda: not self._publishes(deployed, meter, {}), "it is let out", every_s=0.1)

    def _publishes(
        self, deployed: Deployment, meter: dict[str, str], readings: dict[str, float]
    ) -> bool:
        """Connect as a meter does, and publish; False where the broker does not let it in."""
        client = paho.Client(
            CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311, reconnect_on_failure=False
        )
        answers: list[bool] = []
        client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(
            not reason.is_failure
        )
        client.username_pw_set(meter["username"], meter["password"])
        client.tls_set(str(deployed.secrets / "ca.crt"))
        client.connect("localhost", deployed.mqtt_port)
        client.loop_start()
        try:
            wait_until(lambda: bool(answers), "the broker answers")
            for topic, kw in readings.items():
                sent = client.publish(topic, orjson.dumps({"kw": kw}), qos=1)
                sent.wait_for_publish(20)
                assert sent.is_published()
            return answers[0]
        finally:
            client.disconnect()
            client.loop_stop()


def test_the_simulated_meters_of_the_demo_are_heard(
    deployed: Deployment, http: httpx.Client
) -> None:
    deployed.project.compose("--profile", "demo", "up", "--detach", "meters")

    def metered() -> int:
        state: Any = results(http.get("/get_state"))
        loads = [load for bus in state["bus_details"] for load in bus["loads"]]
        return sum(load["source"] == "meter" for load in loads)

    wait_until(lambda: metered() > 80, "readings of the whole feeder", every_s=0.2)
    deployed.project.compose("--profile", "demo", "rm", "--stop", "--force", "meters")


def test_prometheus_finds_every_service(deployed: Deployment, http: httpx.Client) -> None:
    container = deployed.project.container("prometheus")
    ask = ("exec", deployed.project.container("solver"), "python", "-c")
    # From inside: its port would be one that somebody else may have.
    script = (
        "import urllib.request as r; print(r.urlopen("
        "'http://prometheus:9090/api/v1/query?query=up%20or%20flexfeeder_solver_converged').read().decode())"
    )

    def told() -> list[tuple[str, str]]:
        try:
            answer = orjson.loads(engine.docker(*ask, script))
        except engine.EngineError:
            return []
        return sorted(
            (each["metric"]["__name__"], each["value"][1]) for each in answer["data"]["result"]
        )

    expected = [("flexfeeder_solver_converged", "1"), *[("up", "1")] * len(OURS)]
    wait_until(lambda: told() == expected, "its figures", timeout_s=60, every_s=0.5)
    engine.docker("rm", "--force", "--volumes", container)


class TestStopping:
    """Last: the system goes down and comes up here."""

    def test_what_is_backed_up_is_there_again_after_a_restore(
        self, deployed: Deployment, http: httpx.Client, tmp_path: Path
    ) -> None:
        """As docs/operating.md says."""
        compose = deployed.project.compose
        kept = results(http.post("/add_generator", json=GENERATOR))["generator_name"]
        backup = tmp_path / "store.tar"
        tar = ("run", "--rm", "--no-deps", "-T", "store")
        restarts = self._restarts(deployed)
        compose("stop", "store")
        backup.write_bytes(self._piped(deployed, *tar, "tar", "-C", "/data", "-cf", "-", "."))
        assert results(http.post("/run_simulation"))["converged"]
        compose("start", "store")
        wait_until(lambda: removed(http, kept), "writes are taken", every_s=0.2)
        assert self._restarts(deployed) == restarts, "nobody ends because the store is away"
        late = results(http.post("/add_generator", json=GENERATOR))["generator_name"]

        compose("stop", "gateway", "solver", "dfp_manager", "store")
        wipe = "rm -rf /data/* && tar -C /data -xf -"
        self._piped(deployed, *tar, "sh", "-c", wipe, given=backup.read_bytes())
        compose("up", "--detach", "--wait", timeout_s=120)
        assert generators(http).count(kept) == 1
        assert late not in generators(http) or late == kept
        assert removed(http, kept)

    def _restarts(self, deployed: Deployment) -> list[int]:
        containers = [deployed.project.container(service) for service in OURS]
        return [deployment.details(container)["RestartCount"] for container in containers]

    def _piped(self, deployed: Deployment, *args: str, given: bytes = b"") -> bytes:
        project = deployed.project
        files = [part for file in project.files for part in ("--file", str(file))]
        done = subprocess.run(
            ["docker", "compose", "--project-name", project.name, *files, *args],
            env={**os.environ, **project.env},
            input=given,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def test_nobody_ends_because_the_broker_is_away(
        self, deployed: Deployment, http: httpx.Client
    ) -> None:
        """Its name cannot be found then, and nobody waits for that for long."""
        restarts = self._restarts(deployed)
        deployed.project.compose("stop", "broker")
        wait_until(lambda: not deployed.is_ready(), "it is missed", every_s=0.2)
        deployed.project.compose("start", "broker")
        wait_until(deployed.is_ready, "all are back", every_s=0.2)
        assert self._restarts(deployed) == restarts

    def test_asked_to_stop_each_service_stops_and_volumes_outlive_the_containers(
        self, deployed: Deployment, http: httpx.Client
    ) -> None:
        """By itself: the engine would kill after five seconds, and say 137."""
        results(http.post("/register_dfp", json=PROGRAM))
        results(http.post("/add_generator", json={**GENERATOR, "generator_name": "PV_kept"}))
        containers = {name: deployed.project.container(name) for name in SERVICES}

        def exit_codes() -> dict[str, int]:
            deployed.project.compose("stop", *OURS)
            ended = {name: deployment.details(containers[name])["State"] for name in OURS}
            return {name: state["ExitCode"] for name, state in ended.items()}

        for _ in range(2):
            if exit_codes() == dict.fromkeys(OURS, 0):
                break
            # A busy machine may hold somebody up for that long once, and not every time.
            deployed.project.compose("start", *OURS)
            wait_until(deployed.is_ready, "all are back", every_s=0.2)
        assert exit_codes() == dict.fromkeys(OURS, 0)
        deployed.project.compose("down")
        deployed.project.compose("up", "--detach", "--wait", timeout_s=120)
        with deployed.http() as again:
            assert "PV_kept" in generators(again)
            assert [each["name"] for each in results(again.get("/dfps"))] == ["evening"]


def test_without_its_secrets_compose_says_which_file_is_missing(
    deployed: Deployment, tmp_path: Path
) -> None:
    project = engine.Project((deployment.COMPOSE_FILE,), {"DEPLOY_SECRETS": str(tmp_path)})
    with pytest.raises(engine.EngineError, match=r"feeder\.env"):
        project.compose("config", "--quiet")


def test_with_one_secret_missing_compose_says_which(deployed: Deployment, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    deployment.flexfeeder("secrets", "--folder", str(secrets))
    (secrets / "mqtt" / "dfp_manager").unlink()
    env = {**deployed.project.env, "DEPLOY_SECRETS": str(secrets)}
    project = engine.Project((deployment.COMPOSE_FILE,), env)
    try:
        with pytest.raises(engine.EngineError, match="mqtt/dfp_manager"):
            project.compose("up", "--no-start", "--no-deps", "dfp_manager")
    finally:
        project.compose("--profile", "*", "down", "--volumes", "--remove-orphans")
