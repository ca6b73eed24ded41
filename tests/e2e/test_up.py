"""``flexfeeder up``: the whole system as one command, and what is left when something dies."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import orjson
import patience
import psutil
import pytest
from scripted_broker import answers_connect
from support import FEEDER, FEEDERS, SERVICES, MqttClient, State, is_gone, loads, pids, results

from flexfeeder import ports
from flexfeeder.testing import (
    MOSQUITTO,
    READY_WITHIN_S,
    STOPS_WITHIN_S,
    System,
    system,
    wait_until,
)

BROKERS = [
    "embedded",
    pytest.param(
        "mosquitto",
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
    ),
]
CHILDREN = {*SERVICES, "broker", "store"}
UP = [sys.executable, "-m", "flexfeeder", "up"]
METER = f"flexfeeder/{FEEDER}/meter"
STATUS = "flexfeeder/service/{}/status"
PIN = {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0}


@pytest.fixture
def started() -> Iterator[System]:
    """A system of the test's own, to do harm to."""
    with system(feeders_dir=FEEDERS) as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[System]:
    """One whose log is for machines, and whose children are killed in turn: each comes back before
    the next test.
    """
    with system(feeders_dir=FEEDERS, env={"FLEXFEEDER_LOG_FORMAT": "json"}) as running:
        yield running


@pytest.fixture(scope="module", params=BROKERS)
def talking(request: pytest.FixtureRequest, shared: System) -> Iterator[System]:
    """One on either broker, whose log is for machines and whose gateways end."""
    if request.param == "embedded":
        yield shared
        return
    env = {"FLEXFEEDER_LOG_FORMAT": "json"}
    with system(on_mosquitto=True, feeders_dir=FEEDERS, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[System]:
    """One that hears devices at another address, where the environment names a proxy that is
    dead.
    """
    proxy = f"http://127.0.0.1:{ports.free_port()}"
    env = {"http_proxy": proxy, "HTTP_PROXY": proxy, "no_proxy": "", "NO_PROXY": ""}
    listen = {"FLEXFEEDER_MQTT_LISTEN": "127.0.0.2"}
    with system(feeders_dir=FEEDERS, env=env | listen) as running:
        yield running


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Settings for another ``up``: free ports and a folder of its own unless told."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    http_port, mqtt_port = ports.free_ports(2)
    return env | {
        "FLEXFEEDER_HTTP_PORT": str(http_port),
        "FLEXFEEDER_MQTT_PORT": str(mqtt_port),
        "FLEXFEEDER_DATA_DIR": str(folder / "data"),
        "FLEXFEEDER_RESULTS_DIR": str(folder / "results"),
        "FLEXFEEDER_FEEDERS_DIR": str(FEEDERS),
        **settings,
    }


def up_ends(folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run ``flexfeeder up`` where it cannot run, to its end."""
    return subprocess.run(
        UP,
        env=environment(folder, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=READY_WITHIN_S,
        check=False,
    )


@contextmanager
def up_again(data_dir: Path) -> Iterator[str]:
    """Run ``flexfeeder up`` in a folder that has been used before; yields the gateway's address."""
    env = environment(data_dir.parent)
    url = f"http://127.0.0.1:{env['FLEXFEEDER_HTTP_PORT']}"

    def is_ready() -> bool:
        assert process.poll() is None
        return ports.fetch(f"{url}/readyz", timeout_s=1.0) is not None

    with subprocess.Popen(UP, env=env, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(is_ready, "ready again", timeout_s=READY_WITHIN_S)
            yield url
        finally:
            process.terminate()


def processes_of(running: System) -> set[int]:
    """Everything that ``up`` has started, itself included."""
    process = psutil.Process(running.process.pid)
    return {process.pid, *(child.pid for child in process.children(recursive=True))}


def guardian_of(running: System) -> psutil.Process:
    """The child that is recorded nowhere."""
    recorded = set(pids(running).values())
    children = psutil.Process(running.process.pid).children()
    [guardian] = [child for child in children if child.pid not in recorded]
    return guardian


def log_of(running: System) -> str:
    return running.log.read_text(encoding="utf-8")


def wait_until_gone(running: System, numbers: set[int]) -> None:
    running.process.wait(STOPS_WITHIN_S)
    wait_until(lambda: all(is_gone(pid) for pid in numbers), f"{numbers} are gone")


class TestStart:
    def test_it_is_ready_and_solved(self, shared: System) -> None:
        state: State = results(patience.get(f"{shared.url}/get_state"))
        assert state["converged"]
        assert results(patience.get(f"{shared.url}/readyz"))["state"] == "ok"

    def test_the_pid_of_each_child_is_in_the_data_folder(self, shared: System) -> None:
        found = pids(shared)
        assert set(found) == CHILDREN | {"up"}
        assert found["up"] == shared.process.pid
        children = {c.pid for c in psutil.Process(shared.process.pid).children()}
        assert {found[name] for name in CHILDREN} <= children
        assert len(set(found.values())) == len(found)

    def test_everything_listens_on_loopback_only(self, shared: System) -> None:
        for pid in processes_of(shared):
            for connection in psutil.Process(pid).net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip == "127.0.0.1"

    def test_a_taken_http_port_is_told_with_who_has_it_and_a_way_out(
        self, shared: System, tmp_path: Path
    ) -> None:
        port = shared.http_port
        ended = up_ends(tmp_path, FLEXFEEDER_HTTP_PORT=str(port))
        assert ended.returncode != 0
        assert f"HTTP port {port}" in ended.stderr
        assert f"pid {shared.pid('gateway')}" in ended.stderr
        assert "FLEXFEEDER_HTTP_PORT=" in ended.stderr
        assert "Traceback" not in ended.stderr
        wait_until(shared.is_ready, "nobody minds")

    def test_a_taken_mqtt_port_is_told_with_who_has_it_and_a_way_out(
        self, shared: System, tmp_path: Path
    ) -> None:
        port = shared.mqtt_port
        ended = up_ends(tmp_path, FLEXFEEDER_MQTT_PORT=str(port))
        assert ended.returncode != 0
        assert f"MQTT port {port}" in ended.stderr
        assert f"pid {shared.pid('broker')}" in ended.stderr
        assert "FLEXFEEDER_MQTT_PORT=" in ended.stderr

    def test_one_port_for_both_is_told(self, tmp_path: Path) -> None:
        port = str(ports.free_port())
        ended = up_ends(tmp_path, FLEXFEEDER_HTTP_PORT=port, FLEXFEEDER_MQTT_PORT=port)
        assert ended.returncode != 0
        assert f"MQTT port {port} is wanted twice" in ended.stderr

    def test_the_way_out_leads_to_a_free_port(self, shared: System, tmp_path: Path) -> None:
        ended = up_ends(tmp_path, FLEXFEEDER_HTTP_PORT=str(shared.http_port))
        suggested = int(ended.stderr.split("FLEXFEEDER_HTTP_PORT=")[1].split()[0])
        assert ports.is_free("127.0.0.1", suggested)

    def test_all_taken_ports_are_told_at_once(self, shared: System, tmp_path: Path) -> None:
        ended = up_ends(
            tmp_path,
            FLEXFEEDER_HTTP_PORT=str(shared.http_port),
            FLEXFEEDER_MQTT_PORT=str(shared.mqtt_port),
        )
        assert f"HTTP port {shared.http_port}" in ended.stderr
        assert f"MQTT port {shared.mqtt_port}" in ended.stderr

    def test_a_data_folder_in_use_is_told_with_who_uses_it_and_a_way_out(
        self, shared: System, tmp_path: Path
    ) -> None:
        before = pids(shared)
        ended = up_ends(tmp_path, FLEXFEEDER_DATA_DIR=str(shared.data_dir))
        assert ended.returncode != 0
        assert str(shared.data_dir) in ended.stderr
        assert f"pid {shared.process.pid}" in ended.stderr
        assert "FLEXFEEDER_DATA_DIR=" in ended.stderr
        assert pids(shared) == before
        wait_until(shared.is_ready, "nobody minds")

    def test_settings_that_there_are_not_are_told(self, tmp_path: Path) -> None:
        ended = up_ends(tmp_path, FLEXFEEDER_HTTP_PROT="80", FLEXFEEDER_SOLVE_HZ="fast")
        assert ended.returncode != 0
        assert "FLEXFEEDER_HTTP_PROT" in ended.stderr
        assert "FLEXFEEDER_SOLVE_HZ" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_a_feeder_that_there_is_not_is_told_with_those_there_are(self, tmp_path: Path) -> None:
        ended = up_ends(tmp_path, FLEXFEEDER_FEEDER="ieee9")
        assert ended.returncode != 0
        assert "ieee123" in ended.stderr
        assert "ieee13" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_every_problem_of_a_broken_feeder_is_told_and_nothing_is_left(
        self, tmp_path: Path
    ) -> None:
        folder = tmp_path / "feeders"
        shutil.copytree(FEEDERS / "ieee13", folder / "ieee13")
        toml = folder / "ieee13" / "feeder.toml"
        text = toml.read_text(encoding="utf-8")
        text = text.replace("load_floor = 0.5", "load_floor = 1.5\ncolour = 3", 1)
        text = text.replace("min_pu = 0.95", "min_pu = 1.5", 1)
        text = text.replace("transformer_kva = 2500", "transformer_kva = -1", 1)
        text = text.replace('"675", "692"', '"675", "692", "633"', 1)
        text = text.replace("number          = 2", "number          = 1", 1)
        toml.write_text(text, encoding="utf-8")
        ended = up_ends(tmp_path, FLEXFEEDER_FEEDERS_DIR=str(folder), FLEXFEEDER_FEEDER="ieee13")
        assert ended.returncode != 0
        for problem in (
            "load_floor",
            "colour",
            "min_pu must be below max_pu",
            "transformer_kva",
            "number 1 is given 2 times",
            "'633' is listed 2 times",
        ):
            assert problem in ended.stderr
        assert "Traceback" not in ended.stderr
        assert [p for p in (tmp_path / "data/run").glob("*.pid") if p.read_text().strip()] == []

    def test_a_store_and_an_authority_that_there_are_not_are_told_by_their_variables(
        self, tmp_path: Path
    ) -> None:
        ended = up_ends(
            tmp_path,
            FLEXFEEDER_REDIS_URL="localhost:6379",
            FLEXFEEDER_MQTT_CA=str(tmp_path / "authority.pem"),
        )
        assert ended.returncode != 0
        assert "FLEXFEEDER_REDIS_URL: " in ended.stderr
        assert "FLEXFEEDER_MQTT_CA: " in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_a_proxy_that_is_dead_is_not_asked(self, elsewhere: System) -> None:
        address = f"http=http://127.0.0.1:{elsewhere.http_port}/docs"
        wait_until(lambda: address in log_of(elsewhere), "it says that it is ready")

    def test_devices_may_be_heard_at_another_address(self, elsewhere: System) -> None:
        with MqttClient(elsewhere.mqtt_port, protocol="3.1.1", host="127.0.0.2") as meter:
            meter.publish(f"{METER}/1/Load_1", b'{"kw": 7.0}')

            def demand_kw() -> float:
                state: State = results(patience.get(f"{elsewhere.url}/get_state"))
                return float(loads(state)["1", "Load_1"]["demand_kw"])

            wait_until(lambda: demand_kw() == 7.0, "the reading is taken")
            assert not ports.is_open("127.0.0.1", elsewhere.mqtt_port)
            wait_until(lambda: "mqtt=127.0.0.2:" in log_of(elsewhere), "it says where it listens")

    def test_devices_of_other_machines_need_the_password(self) -> None:
        password = 'a "quoted" secret'
        env = {
            "FLEXFEEDER_MQTT_LISTEN": "0.0.0.0",
            "FLEXFEEDER_MQTT_USERNAME": "device",
            "FLEXFEEDER_MQTT_PASSWORD": password,
        }
        with system(feeders_dir=FEEDERS, env=env) as running:
            refused = [
                ports.refuses_mqtt311("127.0.0.1", running.mqtt_port, credentials, timeout_s=20.0)
                for credentials in (("device", password), ("device", "a guess"), None)
            ]
            assert refused == [False, True, True]
            wait_until(lambda: "one password for all" in log_of(running), "it says what it asks")
            assert "secret" not in log_of(running)
            config = running.data_dir / "broker.toml"
            assert config.stat().st_mode & 0o777 == 0o600

    def test_strangers_are_not_let_in_unasked(self, tmp_path: Path) -> None:
        ended = up_ends(
            tmp_path,
            FLEXFEEDER_MQTT_LISTEN="0.0.0.0",
            FLEXFEEDER_HTTP_HOST="0.0.0.0",
            FLEXFEEDER_METRICS_PORT="9100",
            FLEXFEEDER_HTTP_CERT=__file__,
        )
        assert ended.returncode != 0
        for setting in ("MQTT_PASSWORD", "KEYS_FILE", "METRICS_PORT", "HTTP_CERT"):
            assert f"FLEXFEEDER_{setting}" in ended.stderr

    @pytest.mark.parametrize("feeder", ["ieee13", "ieee34", "ieee37"])
    def test_another_feeder_is_another_folder(self, feeder: str) -> None:
        written = (FEEDERS / feeder / "loads.dss").read_text(encoding="utf-8")
        with system(feeders_dir=FEEDERS, env={"FLEXFEEDER_FEEDER": feeder}) as running:
            state: State = results(patience.get(f"{running.url}/get_state"))
            assert (state["feeder"], state["converged"]) == (feeder, True)
            assert len(loads(state)) == written.count("New Load.")
            answer = patience.get(f"{running.url}/get_state?feeder=ieee123")
            assert answer.status_code == 404


class TestJunk:
    @pytest.mark.parametrize(
        "topic", ["service/somebody/status", "nowhere/topology", "ieee123/topology"]
    )
    def test_what_cannot_be_read_stops_nothing(self, shared: System, topic: str) -> None:
        """Anyone on the bus may send it, and whoever listens gets it."""
        before, said_before = pids(shared), len(log_of(shared))
        with MqttClient(shared.mqtt_port, protocol="3.1.1") as client:
            for payload in (b"\x00\xff", b"{", b"[]", b"null", b'"x"', b"{}", b"3", b"[" * 10_000):
                client.publish(f"flexfeeder/{topic}", payload)
                for path in ("/readyz", "/feeders", "/neighbourhoods"):
                    results(patience.get(f"{shared.url}{path}"))
        with patience.client(shared.url) as http:
            results(http.post("/run_simulation"))
        assert shared.process.poll() is None
        assert pids(shared) == before
        assert "Traceback" not in log_of(shared)[said_before:]


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_stops_everything_in_order(self, number: signal.Signals) -> None:
        """Nobody has to be killed, which `up` does to what is left after two and a half seconds.

        A busy machine may hold somebody up for that long once, and not every time.
        """
        assert any(self._stops_without_a_kill(number) for _ in range(3))

    def _stops_without_a_kill(self, number: signal.Signals) -> bool:
        with system(feeders_dir=FEEDERS) as started:
            everything = processes_of(started)
            assert set(pids(started).values()) <= everything
            started.process.send_signal(number)
            assert started.process.wait(STOPS_WITHIN_S) == 0
            wait_until_gone(started, everything)
            assert pids(started) == {}
            left = {path.name for path in (started.data_dir / "run").iterdir()}
            assert left <= {"lock"}
            return "killed" not in log_of(started)

    def test_versions_go_on_when_it_is_started_again_in_the_same_folder(
        self, started: System
    ) -> None:
        before = results(patience.get(f"{started.url}/get_state"))["version"]
        started.process.terminate()
        started.process.wait(STOPS_WITHIN_S)
        with up_again(started.data_dir) as url:
            assert results(patience.get(f"{url}/get_state"))["version"] > before

    def test_nothing_outlives_a_killed_up_and_it_can_be_started_again_in_the_same_folder(
        self,
    ) -> None:
        """What it has recorded is gone then: without meters this time, nobody writes over the
        number of theirs.
        """
        with system(meters=True, feeders_dir=FEEDERS) as running:
            everything = processes_of(running)
            assert set(pids(running).values()) <= everything
            running.process.kill()
            wait_until_gone(running, everything)
            assert set(pids(running)) == CHILDREN | {"meters", "up"}
            with up_again(running.data_dir) as url:
                assert set(pids(running)) == CHILDREN | {"up"}
                assert not everything & set(pids(running).values())
                assert results(patience.get(f"{url}/get_state"))["converged"]

    def test_a_guardian_that_is_killed_meanwhile_does_not_spoil_the_end(
        self, started: System
    ) -> None:
        """The solver keeps everybody waiting, so that the guardian is gone for the rest."""
        everything = processes_of(started)
        solver, gateway = started.pid("solver"), started.pid("gateway")
        guardian = guardian_of(started)
        os.kill(solver, signal.SIGSTOP)
        started.process.terminate()
        wait_until(lambda: is_gone(gateway), "it stops")
        # For the solver `up` waits two and a half seconds; who comes later finds nobody.
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            guardian.kill()
            os.kill(solver, signal.SIGCONT)
        assert started.process.wait(STOPS_WITHIN_S) == 0
        wait_until_gone(started, everything)
        assert pids(started) == {}
        assert "Traceback" not in log_of(started)


class TestGatewayEnds:
    def test_one_that_is_asked_to_stop_says_so(self, talking: System) -> None:
        """To uvicorn itself a signal is something to die of."""
        wait_until(talking.is_ready, "ready before")
        said_before = len(log_of(talking))
        os.kill(talking.pid("gateway"), signal.SIGTERM)

        def said() -> list[tuple[str, str]]:
            lines = log_of(talking)[said_before:].splitlines(keepends=True)
            whole = [line for line in lines if line.startswith("{") and line.endswith("\n")]
            entries = [orjson.loads(line) for line in whole]
            return [
                (entry["event"], entry.get("cause", ""))
                for entry in entries
                if "gateway" in (entry["service"], entry.get("child"))
            ]

        wait_until(lambda: ("died", "exit status 0") in said(), "its end is noticed")
        assert ("stopped", "") in said()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_its_status_does_not_outlive_it(self, talking: System, number: signal.Signals) -> None:
        """Its name is random: what nobody clears would be there for ever."""
        wait_until(talking.is_ready, "ready before")
        with MqttClient(talking.mqtt_port, protocol="3.1.1") as watcher:
            watcher.subscribe(STATUS.format("+"))

            def topic_of(pid: int) -> str:
                """Where the process of that number says that it is online, "" while it does not."""
                for message in watcher.heard:
                    if message.payload and orjson.loads(message.payload)["pid"] == pid:
                        return str(message.topic)
                return ""

            first = talking.pid("gateway")
            wait_until(lambda: bool(topic_of(first)), "its status")
            os.kill(first, number)
            wait_until(lambda: watcher.on(topic_of(first))[-1].payload == b"", "it is cleared")
            wait_until(lambda: pids(talking).get("gateway", first) != first, "there is another")
            wait_until(lambda: bool(topic_of(talking.pid("gateway"))), "the status of the other")
            ended, alive = topic_of(first), topic_of(talking.pid("gateway"))
            with MqttClient(talking.mqtt_port, protocol="3.1.1") as late:
                late.subscribe(STATUS.format("+"))
                late.first_on(alive)
                late.first_on(STATUS.format("dfp_manager"))
                assert late.on(ended) == []


class TestWhatDiesComesBack:
    @pytest.mark.parametrize("name", sorted(CHILDREN))
    def test_a_killed_child_is_back_and_everything_is_ready(
        self, shared: System, name: str
    ) -> None:
        wait_until(shared.is_ready, "ready before")
        others = {child: pid for child, pid in pids(shared).items() if child != name}
        killed = shared.pid(name)
        os.kill(killed, signal.SIGKILL)

        def is_back() -> bool:
            return pids(shared).get(name, killed) != killed and shared.is_ready()

        wait_until(is_back, f"{name} is back")
        assert is_gone(killed)
        assert {child: pid for child, pid in pids(shared).items() if child != name} == others
        with patience.client(shared.url) as client:
            results(client.post("/modify_load_household", json=PIN))
            assert loads(results(client.get("/get_state")))["1", "Load_1"]["set_kw"] == 5.0
            results(client.post("/release_load", json={"bus_name": "1"}))

    def test_without_solver_writes_are_refused_and_never_fail(self, shared: System) -> None:
        wait_until(shared.is_ready, "ready before")
        before = results(patience.get(f"{shared.url}/get_state"))["version"]
        killed = shared.pid("solver")
        answers = []
        with httpx.Client(base_url=shared.url, timeout=30) as client:

            def asked() -> int:
                answer = client.post("/run_simulation")
                answers.append(answer.status_code)
                if answer.status_code == 503:
                    error = answer.json()
                    assert error["code"] == "service_unavailable"
                    assert [detail["field"] for detail in error["details"]] == ["solver"]
                # What was read before is still there to be read.
                assert client.get("/get_state").status_code == 200
                return answer.status_code

            def is_back() -> bool:
                return asked() == 200 and results(client.get("/get_state"))["version"] > before

            # Nobody starts another one before it was missed.
            shared.process.send_signal(signal.SIGSTOP)
            try:
                os.kill(killed, signal.SIGKILL)
                wait_until(lambda: not shared.is_ready(), "it is missed")
                wait_until(lambda: asked() == 503, "a write is refused")
            finally:
                shared.process.send_signal(signal.SIGCONT)
            wait_until(is_back, "the solver is back")
            assert set(answers) <= {200, 503, 504}

    def test_a_killed_guardian_does_not_leave_the_children_unguarded(self, started: System) -> None:
        recorded = set(pids(started).values())
        guardian = guardian_of(started)
        guardian.kill()
        wait_until(
            lambda: bool(
                {c.pid for c in psutil.Process(started.process.pid).children()}
                - recorded
                - {guardian.pid}
            ),
            "there is another guardian",
        )
        # It has been told of everybody by the time that the next one is started again.
        gateway = started.pid("gateway")
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: pids(started).get("gateway", gateway) != gateway, "and a gateway")
        everything = processes_of(started)
        started.process.kill()
        wait_until_gone(started, everything)

    def test_a_broker_that_refuses_mqtt_3_is_replaced(self, shared: System) -> None:
        """A property that meets a 3.1.1 subscriber breaks the embedded one, as told in
        docs/decisions/0002.
        """
        wait_until(shared.is_ready, "ready before")
        host, port, name = "127.0.0.1", shared.mqtt_port, "victim"
        broken = shared.pid("broker")
        with (
            MqttClient(port, protocol="3.1.1", client_id=name) as victim,
            MqttClient(shared.mqtt5_port, protocol="5") as client,
        ):
            victim.subscribe("elsewhere")
            client.publish("elsewhere", b"", user_property=("a", "b"))
            wait_until(lambda: not victim.is_connected(), "its connection is dead")
        wait_until(lambda: not answers_connect(host, port, name), "the listener hangs up")

        def is_replaced() -> bool:
            return pids(shared).get("broker", broken) != broken and answers_connect(
                host, port, name
            )

        wait_until(is_replaced, "there is another broker")
        wait_until(shared.is_ready, "ready again")
        with MqttClient(port, protocol="3.1.1") as meter:
            state_topic = f"flexfeeder/{FEEDER}/state"
            meter.subscribe(state_topic)
            meter.first_on(state_topic)


class TestSolverStops:
    def test_a_solver_that_hangs_is_away_until_it_goes_on(self, shared: System) -> None:
        wait_until(shared.is_ready, "ready before")
        solver, said = shared.pid("solver"), len(log_of(shared))
        with httpx.Client(base_url=shared.url, timeout=30) as client:
            os.kill(solver, signal.SIGSTOP)
            try:
                wait_until(lambda: not shared.is_ready(), "its heartbeat is stale")
                answer = client.get("/readyz")
                assert answer.status_code == 503
                fields = [detail["field"] for detail in answer.json()["details"]]
                assert fields == ["solver-ieee123"]
                answer = client.post("/modify_load_household", json=PIN)
                assert answer.status_code == 503
                assert answer.json()["code"] == "service_unavailable"
                assert client.get("/healthz").status_code == 200
                assert client.get("/get_state").status_code == 200
            finally:
                os.kill(solver, signal.SIGCONT)
        with patience.client(shared.url) as client:
            state = results(client.post("/run_simulation"))
            assert loads(state)["1", "Load_1"]["source"] == "nominal", "refused is not done later"
        wait_until(shared.is_ready, "ready again")
        # After five seconds its own watchdog takes it for one that hangs.
        assert shared.pid("solver") == solver or "Timeout (0:00:05)!" in log_of(shared)[said:]


class TestMeters:
    def test_every_load_has_a_meter(self) -> None:
        with system(meters=True, feeders_dir=FEEDERS) as running:
            assert set(pids(running)) == CHILDREN | {"meters", "up"}
            with patience.client(running.url) as client:

                def sources() -> set[str]:
                    found = loads(results(client.get("/get_state")))
                    return {load["source"] for load in found.values()}

                wait_until(lambda: sources() == {"meter"}, "every load is metered")
                state: State = results(client.get("/get_state"))
                assert state["converged"]
                assert state["oldest_reading_s"] < 10
