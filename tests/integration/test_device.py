"""``flexfeeder device``: its mind without a bus, and the process on either broker."""

import math
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from support import Broker, MqttClient

from flexfeeder import ports
from flexfeeder.__main__ import main
from flexfeeder.device import Device, Habits
from flexfeeder.testing import wait_until
from schemas.readings import Reading
from schemas.setpoints import Setpoint

FEEDER = "street"
METER = f"flexfeeder/{FEEDER}/meter/1/Heater"
SETPOINT = f"flexfeeder/{FEEDER}/setpoint/1/Heater"
HEATER = ("--bus", "1", "--name", "Heater", "--kw", "20", "--interval", "0.02")
COMMAND = [sys.executable, "-m", "flexfeeder", "device"]


def device(
    kw: float = 20.0, kvar: float = 10.0, *, late_s: float = 0.0, follows: bool = True
) -> Device:
    return Device(Habits(kw, kvar, 1.0, late_s, follows), random.Random(1))


class TestMind:
    """20 kW and 10 kvar, give or take some percent; times in seconds of any clock."""

    def test_free_it_draws_about_what_it_wants(self) -> None:
        heater = device()
        drawn = [heater.measured(float(n)) for n in range(400)]
        assert statistics.mean(each.kw for each in drawn) == pytest.approx(20.0, rel=0.02)
        assert 0.01 < statistics.stdev(each.kw for each in drawn) / 20.0 < 0.1
        assert all(each.demand_kw == each.kw for each in drawn)
        assert all(each.kvar == pytest.approx(each.kw / 2, abs=1e-3) for each in drawn)

    def test_it_keeps_to_its_setpoint_and_says_what_it_would_draw(self) -> None:
        heater = device()
        heater.asked(Setpoint(max_kw=8.0), 0.0)
        drawn = [heater.measured(float(n)) for n in range(100)]
        assert {each.kw for each in drawn} == {8.0}
        assert all(each.kvar == pytest.approx(4.0, abs=1e-3) for each in drawn)
        assert statistics.mean(each.demand_kw for each in drawn) == pytest.approx(20.0, rel=0.02)

    def test_asked_for_nothing_it_draws_nothing(self) -> None:
        heater = device()
        heater.asked(Setpoint(max_kw=0.0), 0.0)
        assert (heater.measured(1.0).kw, heater.measured(1.0).kvar) == (0.0, 0.0)

    def test_a_setpoint_above_what_it_wants_changes_nothing(self) -> None:
        heater, free = device(), device()
        heater.asked(Setpoint(max_kw=100.0), 0.0)
        assert [heater.measured(1.0) for _ in range(20)] == [free.measured(1.0) for _ in range(20)]

    @pytest.mark.parametrize("kvar", [10.0, -10.0])
    def test_it_keeps_to_a_power_factor_of_either_sign(self, kvar: float) -> None:
        heater = device(kvar=kvar)
        heater.asked(Setpoint(max_kw=10.0, pf=0.98), 0.0)
        measured = heater.measured(1.0)
        most = 10.0 * math.tan(math.acos(0.98))
        assert measured.kvar == pytest.approx(math.copysign(most, kvar), abs=1e-3)

    def test_a_power_factor_that_it_has_already_changes_nothing(self) -> None:
        heater = device(kvar=1.0)
        heater.asked(Setpoint(pf=0.9), 0.0)
        measured = heater.measured(1.0)
        assert measured.kvar == pytest.approx(measured.kw / 20.0, abs=1e-3)

    def test_lifted_it_is_free(self) -> None:
        heater = device()
        heater.asked(Setpoint(max_kw=0.0), 0.0)
        assert heater.measured(1.0).kw == 0.0
        heater.asked(Setpoint(), 2.0)
        assert heater.measured(2.0).kw > 15.0

    def test_a_late_one_follows_later_and_in_order(self) -> None:
        heater = device(late_s=5.0)
        heater.asked(Setpoint(max_kw=8.0), 10.0)
        heater.asked(Setpoint(max_kw=4.0), 12.0)
        assert heater.measured(14.9).kw > 15.0
        assert heater.measured(15.0).kw == 8.0
        assert heater.measured(16.9).kw == 8.0
        assert heater.measured(17.0).kw == 4.0

    def test_of_several_that_are_due_the_newest_holds(self) -> None:
        heater = device(late_s=1.0)
        for kw in (8.0, 4.0, 2.0):
            heater.asked(Setpoint(max_kw=kw), 0.0)
        assert heater.measured(1.0).kw == 2.0

    def test_one_that_ignores_setpoints_draws_what_it_wants(self) -> None:
        heater = device(follows=False)
        heater.asked(Setpoint(max_kw=0.0, pf=1.0), 0.0)
        measured = heater.measured(1.0)
        assert measured.kw > 15.0
        assert measured.kvar > 7.0
        assert measured.demand_kw == measured.kw

    def test_it_never_draws_less_than_nothing(self) -> None:
        class Wild(random.Random):
            def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
                return -100.0

        heater = Device(Habits(20.0, 10.0, 1.0, 0.0, follows=True), Wild())
        assert (heater.measured(0.0).kw, heater.measured(0.0).demand_kw) == (0.0, 0.0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the tests that leave nothing on it."""
    found = Broker("embedded", tmp_path_factory.mktemp("broker"))
    found.start()
    yield found
    found.kill()


@pytest.fixture
def client(shared: Broker) -> Iterator[MqttClient]:
    """Somebody on the bus who hears every reading, and asks devices for things."""
    with MqttClient(shared.port, protocol="5") as listener:
        listener.subscribe(f"flexfeeder/{FEEDER}/meter/#")
        yield listener
        listener.publish(SETPOINT, b"", retain=True)


def environment(folder: Path, port: int) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    return env | {
        "FLEXFEEDER_MQTT_HOST": "127.0.0.1",
        "FLEXFEEDER_MQTT_PORT": str(port),
        "FLEXFEEDER_FEEDER": FEEDER.upper(),
        "FLEXFEEDER_DATA_DIR": str(folder),
    }


class Running:
    """The process of a device, and what it logs."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")


@contextmanager
def running(port: int, folder: Path, *arguments: str) -> Iterator[Running]:
    """``flexfeeder device``; it ends well when it is told to."""
    path = folder / "device.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield Running(process, path)
    finally:
        process.terminate()
        status = process.wait(10)
    assert status == 0
    assert "Traceback" not in path.read_text(encoding="utf-8")


def ended(folder: Path, port: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """``flexfeeder device``, which ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(folder, port),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def readings(client: MqttClient, topic: str = METER) -> list[dict[str, Any]]:
    return [orjson.loads(message.payload) for message in client.on(topic)]


def wait_for_more(client: MqttClient, count: int) -> list[dict[str, Any]]:
    """So many more readings."""
    told = len(readings(client))
    wait_until(lambda: len(readings(client)) >= told + count, f"{count} more readings")
    return readings(client)[told:]


def ask(client: MqttClient, **setpoint: Any) -> None:
    """Ask the heater for something, as the solver does."""
    client.publish(SETPOINT, Setpoint(**setpoint).model_dump_json().encode(), retain=True)


def wait_until_at(client: MqttClient, kw: float) -> None:
    wait_until(lambda: readings(client)[-1]["kw"] == kw, f"it is at {kw} kW")


class TestProcess:
    def test_it_publishes_readings_of_itself(self, client: MqttClient, tmp_path: Path) -> None:
        with running(client._port, tmp_path, *HEATER, "--kvar", "5"):
            wait_for_more(client, 5)
        for message in client.on(METER):
            reading = Reading.model_validate_json(message.payload)
            assert reading.kw == pytest.approx(20.0, rel=0.3)
            assert reading.kvar == pytest.approx(reading.kw / 4, abs=1e-3)
            assert reading.demand_kw == reading.kw
            assert reading.at is not None
            assert not message.retain
        times = [reading["at"] for reading in readings(client)]
        assert times == sorted(times)
        assert {message.topic for message in client.heard} == {METER}

    def test_it_finds_the_setpoint_that_is_there_already(
        self, client: MqttClient, tmp_path: Path
    ) -> None:
        ask(client, max_kw=7.5, reason="neighbourhood_1")
        with running(client._port, tmp_path, *HEATER):
            wait_until(lambda: bool(readings(client)), "it speaks")
            wait_until_at(client, 7.5)

    def test_it_follows_one_setpoint_after_the_other(
        self, client: MqttClient, tmp_path: Path
    ) -> None:
        with running(client._port, tmp_path, *HEATER) as heater:
            wait_for_more(client, 1)
            for kw in (12.0, 3.25, 0.0):
                ask(client, max_kw=kw, reason="evening")
                wait_until_at(client, kw)
                assert all(reading["kw"] == kw for reading in wait_for_more(client, 3))
            client.publish(SETPOINT, b"", retain=True)
            wait_until(lambda: readings(client)[-1]["kw"] > 10.0, "it is free")
            assert heater.log().count(" setpoint ") == 4

    def test_what_is_no_setpoint_is_told_and_changes_nothing(
        self, client: MqttClient, tmp_path: Path
    ) -> None:
        junk = [b"{", b"\xff", b"[]", b"null", b'{"max_kw": "5"}', b'{"kw": 5}', b'{"pf": 0}']
        with running(client._port, tmp_path, *HEATER) as heater:
            wait_for_more(client, 1)
            ask(client, max_kw=5.0)
            wait_until_at(client, 5.0)
            for payload in junk:
                client.publish(SETPOINT, payload)
            wait_until(lambda: heater.log().count("setpoint_not_read") == len(junk), "all are told")
            assert all(reading["kw"] == 5.0 for reading in wait_for_more(client, 3))
            ask(client, max_kw=6.0)
            wait_until_at(client, 6.0)

    def test_setpoints_of_others_are_none_of_its_business(
        self, client: MqttClient, tmp_path: Path
    ) -> None:
        with running(client._port, tmp_path, *HEATER) as heater:
            wait_for_more(client, 1)
            for topic in ("setpoint/1/Other", "setpoint/2/Heater", "setpoint/1/Heater/x"):
                client.publish(f"flexfeeder/{FEEDER}/{topic}", b'{"max_kw": 1.0}')
            ask(client, max_kw=5.0)
            wait_until_at(client, 5.0)
            assert heater.log().count(" setpoint ") == 1

    def test_one_that_ignores_setpoints_does(self, client: MqttClient, tmp_path: Path) -> None:
        with running(client._port, tmp_path, *HEATER, "--ignores") as heater:
            wait_for_more(client, 1)
            ask(client, max_kw=1.0)
            wait_until(lambda: " setpoint " in heater.log(), "it has heard it")
            assert all(reading["kw"] > 10.0 for reading in wait_for_more(client, 5))

    def test_a_late_one_takes_its_time(self, client: MqttClient, tmp_path: Path) -> None:
        with running(client._port, tmp_path, *HEATER, "--late", "0.5") as heater:
            wait_for_more(client, 1)
            asked_at = datetime.now(UTC)
            ask(client, max_kw=1.0)
            wait_until_at(client, 1.0)
            assert heater.log().count(" setpoint ") == 1
        followed = next(reading for reading in readings(client) if reading["kw"] == 1.0)
        taken = datetime.fromisoformat(followed["at"]) - asked_at
        assert taken >= timedelta(seconds=0.5)

    @pytest.mark.parametrize("count", [1, 3])
    def test_it_stops_after_so_many_readings_all_of_which_arrive(
        self, client: MqttClient, tmp_path: Path, count: int
    ) -> None:
        finished = ended(tmp_path, client._port, *HEATER, "-n", str(count))
        assert finished.returncode == 0
        wait_until(lambda: len(readings(client)) >= count, "all arrive")
        # What comes after tells that nothing more does.
        client.publish(f"{METER}_end", b"{}")
        client.first_on(f"{METER}_end")
        assert len(readings(client)) == count

    def test_no_readings_are_none(self, client: MqttClient, tmp_path: Path) -> None:
        assert ended(tmp_path, client._port, *HEATER, "-n", "0").returncode == 0
        assert client.heard == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it(
        self, client: MqttClient, tmp_path: Path, number: signal.Signals
    ) -> None:
        with running(client._port, tmp_path, *HEATER) as heater:
            wait_for_more(client, 1)
            heater.process.send_signal(number)
            assert heater.process.wait(10) == 0

    def test_without_a_broker_it_waits_and_a_signal_ends_it(self, tmp_path: Path) -> None:
        with running(ports.free_port(), tmp_path, *HEATER) as heater:
            wait_until(lambda: "broker_away" in heater.log(), "it says that there is none")


class TestBroker:
    def test_it_goes_on_after_its_broker_was_away(self, broker_kind: str, tmp_path: Path) -> None:
        """One that forgets everything: what the solver asks comes again, on any broker."""
        broker = Broker(broker_kind, tmp_path)
        broker.start()
        try:
            with running(broker.port, tmp_path, *HEATER) as heater:
                with MqttClient(broker.port, protocol="5") as client:
                    client.subscribe(METER)
                    client.first_on(METER)
                    ask(client, max_kw=5.0)
                    wait_until_at(client, 5.0)
                broker.kill()
                wait_until(lambda: "broker_away" in heater.log(), "it notices")
                broker.start()
                with MqttClient(broker.port, protocol="5") as client:
                    client.subscribe(METER)
                    client.first_on(METER)
                    assert readings(client)[0]["kw"] == 5.0, "it keeps to what it was asked"
                    ask(client, max_kw=4.0)
                    wait_until_at(client, 4.0)
        finally:
            broker.kill()


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (("--name", "Heater", "--kw", "1"), "--bus"),
            (("--bus", "1", "--kw", "1"), "--name"),
            (("--bus", "1", "--name", "Heater"), "--kw"),
            (("--bus", "1", "--name", "a b", "--kw", "1"), "a b"),
            (("--bus", "1/2", "--name", "Heater", "--kw", "1"), "1/2"),
            (("--bus", "#", "--name", "Heater", "--kw", "1"), "#"),
            (("--bus", "", "--name", "Heater", "--kw", "1"), "no name"),
            ((*HEATER, "--kw", "nan"), "nan"),
            ((*HEATER, "--kw", "-1"), "-1"),
            ((*HEATER, "--kw", "1e9"), "--kw"),
            ((*HEATER, "--kvar", "inf"), "--kvar"),
            ((*HEATER, "--interval", "0"), "--interval"),
            ((*HEATER, "--late", "-1"), "--late"),
            ((*HEATER, "--count", "three"), "three"),
            ((*HEATER, "--colour", "red"), "--colour"),
        ],
    )
    def test_what_cannot_be_is_refused_in_words(
        self, arguments: tuple[str, ...], word: str
    ) -> None:
        refused = CliRunner().invoke(main, ["device", *arguments])
        assert refused.exit_code == 2
        assert word in refused.output

    def test_a_count_below_zero_is_refused(self, tmp_path: Path) -> None:
        finished = ended(tmp_path, ports.free_port(), *HEATER, "--count", "-1")
        assert finished.returncode == 2
