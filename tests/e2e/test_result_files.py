"""The result files of a whole system: what people find in a folder after the fact."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import patience
import pytest
from support import FEEDER, FEEDERS, State, bus, pids, results

from flexfeeder import ports
from flexfeeder.testing import (
    READY_WITHIN_S,
    STOPS_WITHIN_S,
    System,
    system,
    wait_until,
)

LATEST = "latest_api_results.txt"
MANAGEMENT_LOG = "management_log.txt"
REGISTRY = "dfp_registry.txt"
PROGRAM_LOG = "dfps_logs.txt"
ALL = {LATEST, MANAGEMENT_LOG, REGISTRY, PROGRAM_LOG}


class Folder:
    """A system and its results folder."""

    def __init__(self, running: System, http: httpx.Client) -> None:
        self.running = running
        self.http = http
        self.path = running.data_dir.parent / "results"

    def post(self, path: str, **body: Any) -> Any:
        return results(self.http.post(path, json=body))

    def state(self) -> State:
        state: State = results(self.http.get("/get_state"))
        return state

    def read(self, name: str) -> str:
        path = self.path / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def wait_for(self, name: str, *words: str) -> list[str]:
        """The lines of a file that have all these words, once there is one."""

        def found() -> list[str]:
            return [
                line for line in self.read(name).splitlines() if all(word in line for word in words)
            ]

        wait_until(lambda: bool(found()), f"{name} says {words}")
        return found()


@pytest.fixture(scope="module")
def _folder() -> Iterator[Folder]:
    with (
        system(feeders_dir=FEEDERS) as running,
        patience.client(running.url) as http,
    ):
        yield Folder(running, http)


@pytest.fixture
def folder(_folder: Folder) -> Iterator[Folder]:
    """The system of all tests here, and its folder."""
    yield _folder
    assert "Traceback" not in _folder.running.log.read_text(encoding="utf-8")


class Ended(NamedTuple):
    """A system that has ended, the version of its last state, and what it left in its files."""

    running: System
    version: int
    left: dict[str, str]


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    """One that is told to stop right after it has done something."""
    with system(feeders_dir=FEEDERS) as running:
        with patience.client(running.url) as http:
            folder = Folder(running, http)
            folder.post("/register_dfp", name="evening", min_power_kw=1.0, target_pf=1.0)
            pin = {"bus_name": "1", "load_name": "Load_1", "new_kw": 6.75}
            version = folder.post("/modify_load_household", **pin)["version"]
            running.process.terminate()
            assert running.process.wait(STOPS_WITHIN_S) == 0
        yield Ended(running, version, {name: folder.read(name) for name in ALL})


@contextmanager
def up_again(running: System) -> Iterator[str]:
    """Run ``flexfeeder up`` once more with the folders of a system that has ended."""
    own = {name: v for name, v in os.environ.items() if not name.startswith("FLEXFEEDER_")}
    url = f"http://127.0.0.1:{running.http_port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "flexfeeder", "up"],
        env={
            **own,
            "FLEXFEEDER_HTTP_PORT": str(running.http_port),
            "FLEXFEEDER_MQTT_PORT": str(ports.free_ports(1, avoid=[running.http_port])[0]),
            "FLEXFEEDER_DATA_DIR": str(running.data_dir),
            "FLEXFEEDER_RESULTS_DIR": str(running.data_dir.parent / "results"),
            "FLEXFEEDER_FEEDERS_DIR": str(FEEDERS),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: ports.fetch(f"{url}/readyz", 1.0) is not None, "ready again", READY_WITHIN_S
        )
        yield url
    finally:
        process.terminate()
        process.wait(STOPS_WITHIN_S)


class TestLatest:
    def test_it_says_how_the_newest_state_is(self, folder: Folder) -> None:
        state = folder.post("/run_simulation")
        lines = folder.wait_for(LATEST, f"version {state['version']}")
        text = folder.read(LATEST)
        power, profile = state["power_summary"], state["voltage_profile"]
        assert lines[0].startswith(f"feeder {FEEDER}, version ")
        assert "converged in " in text
        assert "NOT CONVERGED" not in text
        assert f"status {state['management_status']['status']}" in text
        for kind, *figures in (
            ("source", "total_circuit_power_kw", "total_circuit_power_kvar"),
            ("load", "total_load_kw"),
            ("generation", "total_generation_kw"),
            ("losses", "total_losses_kw", "total_losses_kvar"),
        ):
            [line] = [each for each in text.splitlines() if each.startswith(f"{kind} ")]
            for figure in figures:
                assert f"{power[figure]:.3f}" in line
        for which in ("min", "max"):
            voltage = f"{profile[f'{which}_voltage_pu']:.4f} pu"
            assert f"{voltage} at bus {profile[f'{which}_voltage_bus']}" in text
        assert f"average voltage {profile['avg_voltage_pu']:.4f} pu" in text

    def test_it_has_a_line_for_each_bus(self, folder: Folder) -> None:
        state = folder.post(
            "/modify_load_household", bus_name="1", load_name="Load_1", new_kw=5.125, new_kvar=1.0
        )
        folder.wait_for(LATEST, f"version {state['version']}")
        lines = folder.read(LATEST).splitlines()
        [head] = [n for n, line in enumerate(lines) if line.startswith("bus ")]
        rows = {line.split()[0]: line for line in lines[head + 1 :]}
        assert list(rows) == [details["bus"] for details in state["bus_details"]]
        for details in state["bus_details"]:
            figures = rows[details["bus"]].split()
            assert float(figures[1]) == pytest.approx(details["load_kw"], abs=1e-3)
            assert float(figures[2]) == pytest.approx(details["load_kvar"], abs=1e-3)
            for phase, voltage in details["phases"].items():
                assert f"{phase} {voltage['v_pu']:.4f}" in rows[details["bus"]]
        assert "5.125" in rows["1"]
        folder.post("/release_load", bus_name="1")

    def test_it_is_never_seen_half_written(self, folder: Folder) -> None:
        """It is replaced whole: whoever reads it meanwhile reads one that is complete."""
        folder.wait_for(LATEST, "version")
        buses = len(folder.state()["bus_details"])
        seen = set()

        def two_were_seen() -> bool:
            folder.post("/run_simulation")
            text = folder.read(LATEST)
            lines = text.splitlines()
            assert text.endswith("\n")
            head = next(n for n, line in enumerate(lines) if line.startswith("bus "))
            assert len(lines[head + 1 :]) == buses
            seen.add(lines[0])
            return len(seen) >= 2

        wait_until(two_were_seen, "two versions of it")


class TestManagementLog:
    def test_what_was_done_to_loads_stands_in_it_in_order(self, folder: Folder) -> None:
        here = {"bus_name": "4"}
        folder.post("/modify_load_household", **here, load_name="Load_4", new_kw=7.5)
        folder.post("/modify_load_household", **here, factor=0.9)
        folder.post("/modify_load_neighbourhood", neighbourhood=1, factor=1.0)
        folder.post("/release_load", **here, load_name="Load_4")
        folder.wait_for(MANAGEMENT_LOG, "Load_4", "released")
        lines = folder.read(MANAGEMENT_LOG).splitlines()[-4:]
        for line, words in zip(
            lines,
            (
                ("load Load_4 at bus 4", "pinned to 7.5 kW"),
                ("factor of bus 4", "set to 0.9"),
                ("factor of neighbourhood 1", "set to 1"),
                ("load Load_4 at bus 4", "released"),
            ),
            strict=True,
        ):
            assert all(word in line for word in words), line
        times = [datetime.fromisoformat(line.split()[0]) for line in lines]
        assert times == sorted(times)
        assert all(time.utcoffset() is not None for time in times)

    def test_what_comes_and_goes_stands_in_it(self, folder: Folder) -> None:
        here = {"bus_name": "1", "device_name": "charger"}
        folder.post("/add_device", **here, kw=5.0)
        folder.post("/disconnect_device", **here)
        folder.post("/add_generator", bus_name="1", kw=5.0, generator_name="PV_1")
        folder.post("/remove_generator", generator_name="PV_1")
        folder.wait_for(MANAGEMENT_LOG, "device charger added")
        folder.wait_for(MANAGEMENT_LOG, "device charger disconnected")
        folder.wait_for(MANAGEMENT_LOG, "generator PV_1 added")
        folder.wait_for(MANAGEMENT_LOG, "generator PV_1 removed")

    def test_relief_stands_in_it_with_its_numbers_from_begin_to_end(self, folder: Folder) -> None:
        """Neighbourhood 1 carries 160 kW and 80 kvar, of 225 kVA."""
        here = {"bus_name": "1", "device_name": "charger"}
        before = folder.read(MANAGEMENT_LOG)
        state = folder.post("/add_device", **here, kw=120.0)
        action = state["management_status"]["management_log"][0]
        assert folder.wait_for(MANAGEMENT_LOG, "  relief  ", action)
        folder.post("/run_simulation")
        folder.post("/disconnect_device", **here)

        def told() -> list[str]:
            lines = folder.read(MANAGEMENT_LOG).removeprefix(before).splitlines()
            return [line for line in lines if "neighbourhood_1" in line and "relief" in line]

        wait_until(lambda: any("relief ends" in line for line in told()), "it ends")
        assert sum("  relief  " in line for line in told()) == 1

    def test_alerts_stand_in_it_from_begin_to_end(self, folder: Folder) -> None:
        """Three times nominal is more than its load floor lets the transformer carry."""
        area = {"neighbourhood": 1}
        folder.post("/modify_load_neighbourhood", **area, factor=3.0)
        folder.wait_for(MANAGEMENT_LOG, "alert begins", "neighbourhood_1")
        folder.post("/modify_load_neighbourhood", **area, factor=1.0)
        folder.wait_for(MANAGEMENT_LOG, "alert ends", "neighbourhood_1")

    def test_what_was_refused_is_not_in_it(self, folder: Folder) -> None:
        folder.http.post("/disconnect_device", json={"bus_name": "1", "device_name": "nobody"})
        here = {"bus_name": "2", "load_name": "Load_2"}
        folder.post("/modify_load_household", **here, new_kw=9.875)
        folder.post("/release_load", bus_name="2")
        folder.wait_for(MANAGEMENT_LOG, "pinned to 9.875 kW")
        assert "nobody" not in folder.read(MANAGEMENT_LOG)


class TestPrograms:
    def test_the_registry_says_what_is_registered(self, folder: Folder) -> None:
        terms = {"min_power_kw": 12.5, "target_pf": 0.95}
        made = folder.post("/register_dfp", name="evening", **terms, description="after dark")
        folder.post("/subscribe_dfp", bus_name="1", dfp_name="evening")
        folder.post("/subscribe_dfp", bus_name="48", dfp_name="evening")
        folder.wait_for(REGISTRY, "subscriptions", "1, 48")
        text = folder.read(REGISTRY)
        lines = [line.split(None, 1) for line in text.splitlines() if line]
        assert [str(made["number"]), "evening"] in lines
        for said in ("12.5 kW", "0.95", made["registered_at"][:19], "after dark"):
            assert said in text
        gone = folder.http.request("DELETE", "/delete_dfp", json={"name": "evening"})
        results(gone)
        wait_until(lambda: "evening" not in folder.read(REGISTRY), "it is gone")

    def test_the_log_says_what_happened_and_what_an_execution_did(self, folder: Folder) -> None:
        """40 kW and 20 kvar down to 10 kW."""
        made = folder.post("/register_dfp", name="night", min_power_kw=20.0, target_pf=0.9)
        folder.post("/subscribe_dfp", bus_name="1", dfp_name="night")
        body = {"name": "night", "min_power_kw": 10.0, "target_pf": 0.95}
        results(folder.http.put("/update_dfp", json=body))
        folder.post("/execute_dfp", dfp_name="night")
        folder.post("/stop_dfp", dfp_name="night")
        folder.post("/unsubscribe_dfp", bus_name="1", dfp_name="night")
        results(folder.http.request("DELETE", "/delete_dfp", json={"name": "night"}))
        who = f"night (number {made['number']})"
        folder.wait_for(PROGRAM_LOG, who, "deleted")
        told = [line.split(who, 1)[1].strip() for line in folder.wait_for(PROGRAM_LOG, who)]
        assert [line.split(":")[0] for line in told] == [
            "registered",
            "subscribed",
            "updated",
            "executed",
            "bus 1",
            "stopped",
            "unsubscribed",
            "deleted",
        ]
        assert told[0] == "registered: minimum 20 kW, power factor 0.9"
        assert told[2] == "updated: minimum 10 kW, power factor 0.95"
        assert told[3].endswith(", 1 bus, shed 30 kW")
        assert "40 kW 20 kvar" in told[4]
        assert "10 kW 3.28" in told[4]
        assert told[4].endswith("shed 30 kW")
        assert all(
            datetime.fromisoformat(line.split()[0]).utcoffset() is not None
            for line in folder.wait_for(PROGRAM_LOG, who)
        )


class TestRestart:
    def test_a_service_that_dies_loses_no_line_of_before(self, folder: Folder) -> None:
        folder.post("/modify_load_household", bus_name="2", load_name="Load_2", new_kw=8.625)
        folder.post("/register_dfp", name="survivor", min_power_kw=1.0, target_pf=1.0)
        folder.wait_for(MANAGEMENT_LOG, "pinned to 8.625 kW")
        folder.wait_for(PROGRAM_LOG, "survivor")
        before = {name: folder.read(name) for name in (MANAGEMENT_LOG, PROGRAM_LOG)}
        killed = {name: folder.running.pid(name) for name in ("solver", "dfp_manager")}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: all(pids(folder.running).get(name, pid) != pid for name, pid in killed.items()),
            "both are back",
        )

        def pins() -> bool:
            body = {"bus_name": "2", "load_name": "Load_2", "new_kw": 8.375}
            return folder.http.post("/modify_load_household", json=body).status_code == 200

        def deletes() -> bool:
            answer = folder.http.request("DELETE", "/delete_dfp", json={"name": "survivor"})
            return answer.status_code == 200

        wait_until(pins, "the solver takes commands")
        wait_until(deletes, "the manager takes commands")
        folder.wait_for(MANAGEMENT_LOG, "pinned to 8.375 kW")
        folder.wait_for(PROGRAM_LOG, "survivor", "deleted")
        for name, text in before.items():
            assert folder.read(name).startswith(text)
        folder.post("/release_load", bus_name="2")

    def test_a_system_that_has_ended_has_written_what_it_did_last(self, ended: Ended) -> None:
        assert "pinned to 6.75 kW" in ended.left[MANAGEMENT_LOG]
        assert "evening" in ended.left[PROGRAM_LOG]
        assert "evening" in ended.left[REGISTRY]

    def test_a_system_that_has_ended_leaves_its_newest_state(self, ended: Ended) -> None:
        assert f"version {ended.version}," in ended.left[LATEST]

    def test_a_system_that_is_started_again_goes_on_in_the_same_files(self, ended: Ended) -> None:
        pin = {"bus_name": "1", "load_name": "Load_1"}
        with (
            up_again(ended.running) as url,
            patience.client(url) as http,
        ):
            again = Folder(ended.running, http)
            again.post("/modify_load_household", **pin, new_kw=7.25)
            again.post("/register_dfp", name="morning", min_power_kw=1.0, target_pf=1.0)
            again.wait_for(MANAGEMENT_LOG, "pinned to 7.25 kW")
            again.wait_for(PROGRAM_LOG, "morning")
            again.wait_for(REGISTRY, "2", "morning")
            state = again.state()
            assert state["version"] > ended.version
            again.wait_for(LATEST, f"version {state['version']}")
            for name in (MANAGEMENT_LOG, PROGRAM_LOG):
                assert again.read(name).startswith(ended.left[name])
            assert "evening" in again.read(REGISTRY)


class TestFolderThatCannotBeWritten:
    def test_nothing_stops_and_the_lines_come_when_it_can(self, tmp_path: Path) -> None:
        """There is a file where the folder is to be."""
        path = tmp_path / "results"
        path.write_text("in the way", encoding="utf-8")
        env = {"FLEXFEEDER_RESULTS_DIR": str(path)}
        with (
            system(feeders_dir=FEEDERS, env=env) as running,
            patience.client(running.url) as http,
        ):
            folder = Folder(running, http)
            folder.path = path

            def log() -> str:
                return running.log.read_text(encoding="utf-8")

            before = pids(running)
            folder.post("/modify_load_household", bus_name="1", load_name="Load_1", new_kw=5.5)
            folder.post("/register_dfp", name="evening", min_power_kw=1.0, target_pf=1.0)
            wait_until(lambda: log().count("files_not_written") == 2, "both services say so")
            for kw in (5.0, 6.0, 7.0):
                state = folder.post(
                    "/modify_load_household", bus_name="1", load_name="Load_1", new_kw=kw
                )
                assert bus(state, "1")["loads"][0]["set_kw"] == kw
            folder.post("/subscribe_dfp", bus_name="1", dfp_name="evening")
            assert folder.post("/execute_dfp", dfp_name="evening")["total_shed_kw"] > 5.0
            assert path.read_text(encoding="utf-8") == "in the way"
            path.unlink()
            for pinned in ("5.5", "5", "6", "7"):
                folder.wait_for(MANAGEMENT_LOG, f"pinned to {pinned} kW")
            for word in ("registered", "subscribed", "executed"):
                folder.wait_for(PROGRAM_LOG, "evening", word)
            folder.wait_for(REGISTRY, "evening")
            wait_until((path / LATEST).is_file, "the newest state is there")
            assert log().count("files_not_written") == 2, "said once by each"
            assert pids(running) == before
            assert "Traceback" not in log()

    def test_a_folder_in_the_place_of_a_file_spoils_no_other(self, folder: Folder) -> None:
        """Somebody makes it while the system runs."""
        path = folder.path / LATEST
        folder.post("/run_simulation")
        wait_until(path.is_file, "the newest state is there")

        def is_in_the_way() -> bool:
            path.unlink(missing_ok=True)
            try:
                path.mkdir()
            except FileExistsError:
                return False
            return True

        wait_until(is_in_the_way, "it is a folder")
        (path / "x").touch()
        folder.post("/modify_load_household", bus_name="2", load_name="Load_2", new_kw=3.125)
        folder.wait_for(MANAGEMENT_LOG, "pinned to 3.125 kW")
        folder.post("/release_load", bus_name="2")
        (path / "x").unlink()
        path.rmdir()
        version = folder.state()["version"]
        folder.wait_for(LATEST, f"version {version}")
