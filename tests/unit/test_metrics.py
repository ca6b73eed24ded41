"""Figures for Prometheus: what is handed over, what each service tells, and that all of it is told
in the documentation.
"""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import LogCapture
from support import quiet_log

from flexfeeder import ports
from flexfeeder.testing import wait_until
from schemas.alerts import AlertKind
from schemas.commands import SOLVER_COMMANDS
from services import scrape
from services.dfp_manager.telling import Telling as ManagerTelling
from services.gateway.figures import Figures
from services.metrics import (
    CommandMetrics,
    Figure,
    Pulse,
    Snapshot,
    Sourced,
    new_registry,
    seen_in,
)
from services.process import EXIT_BAD_INPUT
from services.settings import Settings
from services.solver.findings import Finding
from services.solver.solution import Solution
from services.solver.standing import standing
from services.solver.telling import Telling as SolverTelling

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


class Told(NamedTuple):
    """A metric as it is told, and documented."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def told(registry: CollectorRegistry) -> Iterator[Told]:
    """Every metric of ours in a registry, whether or not it has a value yet."""
    for collector in registry._collector_to_names:
        if isinstance(collector, Snapshot):
            for figure in collector.figures:
                suffix = "_total" if figure.kind == "counter" else ""
                own = [figure.label] if figure.label else []
                labels = (*collector.labels, *own)
                yield Told(figure.name + suffix, figure.kind, labels, figure.meaning)
        elif isinstance(collector, Counter | Gauge | Histogram):
            suffix = "_total" if isinstance(collector, Counter) else ""
            labels = tuple(collector._labelnames)
            name = collector._name + suffix
            yield Told(name, collector._type, labels, collector._documentation)


def all_told() -> list[Told]:
    solver = SolverTelling("ieee123", quiet_log()).registry
    manager = ManagerTelling("ieee123", quiet_log()).registry
    return [*told(solver), *told(manager), *told(Figures().registry)]


def documented() -> list[Told]:
    rows = re.findall(
        r"^\| `(flexfeeder_\w+)` \| (\w+) \| (.*?) \| .*? \| (.*) \|$",
        DOCUMENT.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [
        Told(name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning)
        for name, kind, labels, meaning in rows
    ]


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


class TestDocument:
    def test_every_metric_is_documented_as_it_is_and_none_besides(self) -> None:
        assert sorted(documented()) == sorted(all_told())

    def test_every_name_is_one_of_ours_and_told_once(self) -> None:
        names = [each.name for each in all_told()]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"flexfeeder_[a-z_]+", name) for name in names)

    def test_a_counter_and_nothing_else_ends_in_total(self) -> None:
        for each in all_told():
            assert each.name.endswith("_total") == (each.kind == "counter")


class TestSnapshot:
    def test_what_is_not_known_is_not_told(self) -> None:
        registry = CollectorRegistry()
        registry.register(Snapshot([Figure("gauge", "a", "A."), Figure("gauge", "b", "B.")], {}))
        assert list(registry.collect()) == []

    def test_what_was_handed_over_last_is_told(self) -> None:
        registry = CollectorRegistry()
        figures = [Figure("gauge", "a", "A."), Figure("counter", "b", "B.", "kind")]
        snapshot = Snapshot(figures, {"feeder": "f"})
        registry.register(snapshot)
        snapshot.tell({"a": 1.0})
        snapshot.tell({"a": 2.0, "b": {"x": 3.0, "y": 4.0}})
        assert value(registry, "a", feeder="f") == 2.0
        assert value(registry, "b_total", feeder="f", kind="x") == 3.0
        assert value(registry, "b_total", feeder="f", kind="y") == 4.0

    def test_a_name_is_taken_before_it_has_a_value(self) -> None:
        registry = CollectorRegistry()
        registry.register(Snapshot([Figure("gauge", "a", "A.")], {}))
        with pytest.raises(ValueError, match="Duplicated"):
            Gauge("a", "A.", registry=registry)


class TestSourced:
    FIGURES: tuple[Sourced[dict[str, float]], ...] = (
        Sourced("gauge", "a", "A.", read=lambda seen: seen.get("a")),
        Sourced("counter", "b", "B.", "kind", read=lambda seen: {"x": seen["b"]}),
    )

    def test_each_is_taken_from_what_there_is_to_be_seen(self) -> None:
        assert seen_in({"a": 1.0, "b": 2.0}, self.FIGURES) == {"a": 1.0, "b": {"x": 2.0}}

    def test_what_nobody_knows_is_left_out(self) -> None:
        assert seen_in({"b": 2.0}, self.FIGURES) == {"b": {"x": 2.0}}


class TestCommands:
    def test_a_command_counts_by_its_outcome_and_by_how_long_it_took(self) -> None:
        registry = CollectorRegistry()
        commands = CommandMetrics("solver", list(SOLVER_COMMANDS), registry, {"feeder": "f"})
        commands.answered("set_load", "success", 0.004)
        commands.answered("set_load", "bus_not_found", 0.2)
        count = "flexfeeder_solver_commands_total"
        for outcome in ("success", "bus_not_found"):
            labels = {"feeder": "f", "command": "set_load", "outcome": outcome}
            assert value(registry, count, **labels) == 1.0
        seconds = "flexfeeder_solver_command_seconds"
        of_command = {"feeder": "f", "command": "set_load"}
        assert value(registry, f"{seconds}_bucket", le="0.005", **of_command) == 1.0
        assert value(registry, f"{seconds}_sum", **of_command) == pytest.approx(0.204)

    def test_names_that_anybody_may_think_of_are_one(self) -> None:
        registry = CollectorRegistry()
        commands = CommandMetrics("solver", list(SOLVER_COMMANDS), registry)
        for number in range(1000):
            commands.answered(f"do_{number}", "unknown_command", 0.001)
        labels = {"command": "other", "outcome": "unknown_command"}
        assert value(registry, "flexfeeder_solver_commands_total", **labels) == 1000.0


class TestPulse:
    def test_it_is_not_well_before_the_loop_has_come_round(self) -> None:
        assert Pulse(lambda: 0.0).problem() == "starting"

    def test_it_is_well_for_five_seconds_after_each_round(self) -> None:
        now = [100.0]
        pulse = Pulse(lambda: now[0])
        pulse.beat()
        now[0] = 105.0
        assert pulse.problem() == ""
        now[0] = 105.1
        assert pulse.problem() == "its loop has not come round for 5.1 s"
        pulse.beat()
        assert pulse.problem() == ""

    def test_what_keeps_it_from_serving_is_its_problem(self) -> None:
        pulse = Pulse()
        pulse.beat("the broker is not connected")
        assert pulse.problem() == "the broker is not connected"


@pytest.fixture
def server() -> Iterator[scrape.Server]:
    started = scrape.Server("127.0.0.1", 0, new_registry(), Pulse())
    started.start()
    yield started
    started.shutdown()
    started.server_close()


def asked(server: scrape.Server, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of an answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
        caller.sendall(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: caller.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


class TestServer:
    def test_figures_are_in_the_format_of_prometheus(self, server: scrape.Server) -> None:
        status, text = asked(server, "/metrics")
        assert status == 200
        names = [family.name for family in text_string_to_metric_families(text)]
        assert "python_info" in names
        assert "process_resident_memory_bytes" in names

    def test_health_is_what_the_pulse_says(self, server: scrape.Server) -> None:
        assert asked(server, "/healthz") == (503, "starting\n")
        server.pulse.beat()
        assert asked(server, "/healthz") == (200, "ok\n")
        server.pulse.beat("the broker is not connected")
        assert asked(server, "/healthz") == (503, "the broker is not connected\n")

    def test_there_is_nothing_else(self, server: scrape.Server) -> None:
        assert asked(server, "/")[0] == 404
        assert asked(server, "/metrics", "POST")[0] == 501

    def test_those_who_say_nothing_keep_few_others_out(self, server: scrape.Server) -> None:
        """And nobody once they are gone."""
        address = ("127.0.0.1", server.port)
        silent = [socket.create_connection(address) for _ in range(scrape.MOST_AT_ONCE)]
        with socket.create_connection(address, timeout=10) as one_more:
            assert one_more.recv(1) == b"", "it is hung up on"
        for caller in silent:
            caller.close()

        def is_let_in() -> bool:
            with suppress(OSError, IndexError):  # it is hung up on
                return asked(server, "/metrics")[0] == 200
            return False

        wait_until(is_let_in, "others are let in again")

    def test_those_for_whom_there_is_no_thread_keep_nobody_out(self, server: scrape.Server) -> None:
        """More of them than are served at once; the stack of a thread is to be larger than what
        any process can address.
        """
        before = threading.stack_size(1 << 50)
        try:
            for _ in range(scrape.MOST_AT_ONCE + 1):
                with socket.create_connection(("127.0.0.1", server.port), timeout=10) as caller:
                    assert caller.recv(1) == b"", "it is hung up on"
        finally:
            threading.stack_size(before)
        assert asked(server, "/metrics")[0] == 200

    def test_a_port_that_is_taken_ends_the_process(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            logged = LogCapture()
            log = structlog.wrap_logger(None, processors=[logged])
            with pytest.raises(SystemExit) as ended:
                scrape.serve_or_exit(Settings(metrics_port=port), log, new_registry(), Pulse())
        assert ended.value.code == EXIT_BAD_INPUT
        [entry] = logged.entries
        assert (entry["event"], entry["port"]) == ("metrics_not_served", port)

    def test_so_does_a_host_that_is_none_of_ours(self) -> None:
        settings = Settings(metrics_port=ports.free_port(), metrics_host="192.0.2.1")
        logged = LogCapture()
        log = structlog.wrap_logger(None, processors=[logged])
        with pytest.raises(SystemExit) as ended:
            scrape.serve_or_exit(settings, log, new_registry(), Pulse())
        assert ended.value.code == EXIT_BAD_INPUT
        [entry] = logged.entries
        assert (entry["event"], entry["host"]) == ("metrics_not_served", "192.0.2.1")
        assert "assign requested address" in entry["reason"]

    def test_without_a_port_nobody_listens(self) -> None:
        assert scrape.serve_or_exit(Settings(), quiet_log(), new_registry(), Pulse()) is None

    def test_a_port_that_is_given_is_listened_on(self) -> None:
        port = ports.free_port()
        settings = Settings(metrics_port=port)
        started = scrape.serve_or_exit(settings, quiet_log(), new_registry(), Pulse())
        assert started is not None
        assert ports.is_open("127.0.0.1", port)
        started.shutdown()
        started.server_close()


class TestStanding:
    """Two nodes at 0.98 and 1.02 pu, one that is dead; 3 kW and 4 kW drawn, 1 kW produced."""

    SOLUTION = Solution(
        converged=True,
        iterations=3,
        v_pu=np.array([0.98, 0.0, 1.02]),
        angle_deg=np.zeros(3),
        load_kva=np.array([3 + 1j, 4 + 0j]),
        generator_kva=np.array([1 + 0j]),
        source_kva=6.25 + 1j,
        losses_kva=0.25 + 0.5j,
        transformer_kva=np.zeros(0, dtype=complex),
        taps=(),
    )

    def test_it_is_what_the_solution_comes_to(self) -> None:
        found = [Finding(AlertKind.OVERLOAD, name, "over") for name in ("a", "b")]
        stands = standing(self.SOLUTION, found, held_kw=2.0, curtailed_kw=0.5)
        assert (stands.load_kw, stands.generation_kw) == (7.0, 1.0)
        assert (stands.losses_kw, stands.source_kw) == (0.25, 6.25)
        assert (stands.min_voltage_pu, stands.max_voltage_pu) == (0.98, 1.02)
        assert (stands.held_kw, stands.curtailed_kw) == (2.0, 0.5)
        assert stands.findings[AlertKind.OVERLOAD] == 2
        assert stands.findings[AlertKind.UNDERVOLTAGE] == 0

    def test_a_feeder_without_any_voltage_has_none(self) -> None:
        dead = replace(self.SOLUTION, v_pu=np.zeros(3))
        stands = standing(dead, [], 0.0, 0.0)
        assert (stands.min_voltage_pu, stands.max_voltage_pu) == (0.0, 0.0)
