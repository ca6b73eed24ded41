"""Traces: off unless asked for, the caller's gone on with, and harmless where nobody takes them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from collector import Collector, Span
from pydantic import ValidationError
from structlog.testing import LogCapture
from support import quiet_log

from flexfeeder import ports
from flexfeeder.testing import wait_until
from schemas.commands import SOLVER_COMMANDS
from schemas.envelope import Envelope
from services import outcomes
from services.stopwatch import Interval, Stopwatch
from services.tracing import ENDPOINTS, Tracing, tracing_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as started:
        yield started


def tracing(endpoint: str, monkeypatch: pytest.MonkeyPatch, log: Any = None) -> Tracing:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    found = tracing_of(os.environ, "solver", "solver-f", log or quiet_log())
    assert found is not None
    return found


def just_now() -> Interval:
    now = time.perf_counter()
    return Interval(now - 0.010, now)


class TestOff:
    def test_nothing_is_traced_unless_a_collector_is_named(self) -> None:
        assert tracing_of({}, "solver", "solver-f", quiet_log()) is None

    @pytest.mark.parametrize("name", ENDPOINTS)
    def test_an_empty_name_names_none(self, name: str) -> None:
        assert tracing_of({name: " "}, "solver", "solver-f", quiet_log()) is None

    def test_services_do_not_even_load_it(self) -> None:
        """Other than what libraries of theirs load of it, and never use."""
        code = (
            "import sys, services.solver.__main__, services.dfp_manager.__main__, "
            "services.gateway.__main__, services.gateway.observed\n"
            "named = ('opentelemetry.exporter', 'opentelemetry.sdk.trace')\n"
            "print([name for name in sys.modules if name.startswith(named)])"
        )
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert said.stdout.strip() == b"[]"


class TestOn:
    @pytest.fixture
    def spans(self, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> list[Span]:
        """Those of a command that a caller's trace led to, of two parts."""
        self.whole = just_now()
        middle = self.whole.start + 0.004
        parts = {
            "journal": Interval(self.whole.start, middle),
            "solve": Interval(middle, self.whole.end),
        }
        traced = tracing(collector.endpoint, monkeypatch)
        traced.record("set_load", TRACEPARENT, self.whole, {"flexfeeder.batch_size": 2}, parts)
        traced.close()
        wait_until(lambda: len(collector.spans) == 3, "all has come")
        return sorted(collector.spans, key=lambda span: span.start - len(span.name) / 1e6)

    def test_a_command_belongs_to_its_sender(self, spans: list[Span]) -> None:
        [command] = [span for span in spans if span.name == "set_load"]
        assert (command.trace_id, command.parent_id) == (TRACE, CALLER)
        assert command.service == "flexfeeder-solver"
        assert command.attributes == {"flexfeeder.batch_size": 2}

    def test_its_parts_are_below_it_with_their_times(self, spans: list[Span]) -> None:
        by_name = {span.name: span for span in spans}
        command, journal, solve = (by_name[name] for name in ("set_load", "journal", "solve"))
        assert {journal.parent_id, solve.parent_id} == {command.span_id}
        taken = {name: (span.end - span.start) / 1e6 for name, span in by_name.items()}
        assert taken == pytest.approx({"set_load": 10.0, "journal": 4.0, "solve": 6.0}, abs=0.5)

    @pytest.mark.parametrize("said", [None, "", "nonsense", f"00-{'0' * 32}-{CALLER}-01"])
    def test_what_says_nothing_of_a_trace_begins_one(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch, said: str | None
    ) -> None:
        traced = tracing(collector.endpoint, monkeypatch)
        traced.record("set_load", said, just_now(), {}, {})
        traced.close()
        wait_until(lambda: bool(collector.spans), "it has come")
        [span] = collector.spans
        assert span.parent_id == ""
        assert re.fullmatch(r"[0-9a-f]{32}", span.trace_id)
        assert span.trace_id != TRACE

    def test_a_caller_who_does_not_want_to_be_traced_is_not(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        traced = tracing(collector.endpoint, monkeypatch)
        traced.record("set_load", TRACEPARENT.removesuffix("01") + "00", just_now(), {}, {})
        traced.record("set_factor", TRACEPARENT, just_now(), {}, {})
        traced.close()
        wait_until(lambda: bool(collector.spans), "one has come")
        assert [span.name for span in collector.spans] == ["set_factor"]

    def test_a_request_passes_on_what_a_command_may_say(
        self, collector: Collector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        traced = tracing(collector.endpoint, monkeypatch)
        span = traced.begin("POST", TRACEPARENT, time.perf_counter())
        passed_on = traced.traceparent(span)
        traced.end(span, "POST /modify_load_household", {}, time.perf_counter())
        traced.close()
        wait_until(lambda: bool(collector.spans), "it has come")
        [request] = collector.spans
        assert passed_on == f"00-{TRACE}-{request.span_id}-01"
        assert Envelope(traceparent=passed_on).traceparent == passed_on
        assert request.name == "POST /modify_load_household"


def test_a_collector_that_is_away_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    logged = LogCapture()
    log = structlog.wrap_logger(None, processors=[logged])
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    traced = tracing(f"http://127.0.0.1:{ports.free_port()}", monkeypatch, log)
    for _ in range(3):
        traced.record("set_load", None, just_now(), {}, {})
        wait_until(lambda: len(logged.entries) > 0, "it is told")
    for _ in range(5000):  # more than are kept
        traced.record("set_load", None, just_now(), {}, {})
    traced.close()
    assert [entry["event"] for entry in logged.entries] == ["traces_not_sent"]


class TestEnvelope:
    @pytest.mark.parametrize(
        "text", ["", TRACEPARENT + "x", TRACEPARENT.upper(), "01" + TRACEPARENT[2:], "0" * 55]
    )
    def test_it_is_of_version_00_and_nothing_else(self, text: str) -> None:
        with pytest.raises(ValidationError):
            Envelope(traceparent=text)

    def test_the_same_command_within_another_trace_is_the_same(self) -> None:
        """It is answered as it was, and the journal knows nothing of traces."""
        body = b'{"bus_name": "1", "factor": 0.9'
        plain = SOLVER_COMMANDS["set_factor"].validate_json(body + b"}")
        traced = SOLVER_COMMANDS["set_factor"].validate_json(
            body + b', "traceparent": "' + TRACEPARENT.encode() + b'"}'
        )
        assert traced.traceparent == TRACEPARENT
        assert outcomes.asked(traced) == outcomes.asked(plain)
        assert outcomes.digest(traced) == outcomes.digest(plain)


def test_a_stopwatch_tells_phase_after_phase() -> None:
    stopwatch = Stopwatch(10.0)
    stopwatch.enter("store", 10.5)
    stopwatch.enter("solver", 12.0)
    assert stopwatch.read(12.25) == {
        "waited": Interval(10.0, 10.5),
        "store": Interval(10.5, 12.0),
        "solver": Interval(12.0, 12.25),
    }
    assert Interval(12.0, 12.25).ms == 250.0
