"""One line for each message, with everything that is to be known of it."""

import logging
import time
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture
from support import buses_named

from schemas import topics
from schemas.commands import SOLVER_COMMANDS
from schemas.errors import ErrorCode, Refusal
from services import requests
from services.bus import Message
from services.outcomes import Done
from services.solver.demand import Demand
from services.solver.desk import Decision
from services.solver.elements import NominalLoad
from services.solver.intake import Intake
from services.solver.telling import Telling


def logged(level: int = logging.INFO) -> tuple[Any, list[Any]]:
    """A log, and what is said in it."""
    capture = LogCapture()
    wrapper = structlog.make_filtering_bound_logger(level)
    return structlog.wrap_logger(None, processors=[capture], wrapper_class=wrapper), capture.entries


def message(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, False, None, None, (1, 1, 0))


class TestReadings:
    @pytest.mark.parametrize(("level", "lines"), [(logging.INFO, 0), (logging.DEBUG, 2)])
    def test_a_message_has_a_line_at_debug_only(self, level: int, lines: int) -> None:
        log, entries = logged(level)
        demand = Demand([NominalLoad("Load_1", "1", 40.0, 20.0)], buses_named("1"), {})
        intake = Intake("f", demand, log)
        reading = b'{"bus": "1", "element": "Load_1", "kw": 1.0}'
        batch = b'{"readings": [%b, %b]}' % (reading, reading)
        intake.take(message(topics.meter("f", "1", "Load_1"), b'{"kw": 1.0}'), 0.0)
        intake.take(message(topics.meters("f"), batch), 0.0)
        assert [(entry["event"], entry["outcomes"]) for entry in entries] == [
            ("reading", {"accepted": 1}),
            ("reading", {"accepted": 2}),
        ][:lines]


class TestCommands:
    """Told by a solver that owns nothing: there is no journal, and no cycle."""

    @staticmethod
    def decision(command: str, outcome: Done | Refusal, *, is_told: bool = False) -> Decision:
        arrived_at = time.perf_counter()
        payload = b'{"request_id": "r-17", "bus_name": "1", "factor": 0.5}'
        heard = message(topics.command("f", command), payload)
        return Decision(requests.read(heard, SOLVER_COMMANDS, arrived_at), outcome, is_told=is_told)

    @staticmethod
    def rubbish(payload: bytes = b"no JSON", command: str = "set_factor") -> Decision:
        """What the desk makes of what is no command."""
        heard = message(topics.command("f", command), payload)
        request = requests.read(heard, SOLVER_COMMANDS, time.perf_counter())
        assert isinstance(request.command, Refusal)
        return Decision(request, request.command)

    def told(self, *decisions: Decision) -> tuple[Telling, list[Any]]:
        log, entries = logged()
        telling = Telling("f", log)
        telling.answered(decisions, time.perf_counter(), 12_000_000_042)
        return telling, entries

    def test_a_command_has_a_line(self) -> None:
        _, [entry] = self.told(self.decision("set_factor", Done("factor set")))
        waited_ms, total_ms = entry.pop("waited_ms"), entry.pop("total_ms")
        assert 0 < waited_ms <= total_ms
        assert entry == {
            "event": "command",
            "log_level": "info",
            "command": "set_factor",
            "request_id": "r-17",
            "outcome": "success",
            "version": 12_000_000_042,
            "batch": 1,
            "journal_ms": 0.0,
            "cycle_ms": 0.0,
        }

    def test_a_refusal_says_why(self) -> None:
        refusal = Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", "there is no bus '1'")
        _, [entry] = self.told(self.decision("set_factor", refusal))
        assert entry["outcome"] == "bus_not_found"
        assert entry["problem"] == "bus_name: there is no bus '1'"
        assert entry["topic"] == "flexfeeder/f/command/set_factor"

    def test_those_of_a_batch_say_how_many_they_are(self) -> None:
        decided = [self.decision("set_factor", Done("factor set")) for _ in range(3)]
        telling, entries = self.told(*decided)
        assert [entry["batch"] for entry in entries] == [3, 3, 3]
        labels = {"feeder": "f", "le": "4.0"}
        batches = "flexfeeder_solver_batch_commands_bucket"
        assert telling.registry.get_sample_value(batches, labels) == 1.0

    def test_one_that_turns_out_to_be_written_after_all_does_not_count_twice(self) -> None:
        """Its sender was told that nobody knew."""
        settled = self.decision("set_factor", Done("factor set"), is_told=True)
        telling, [entry] = self.told(settled)
        assert (entry["event"], entry["outcome"]) == ("command_settled", "success")
        labels = {"feeder": "f", "command": "set_factor", "outcome": "success"}
        count = "flexfeeder_solver_commands_total"
        assert telling.registry.get_sample_value(count, labels) is None

    def test_a_name_that_somebody_thought_of_is_logged_as_far_as_it_fits(self) -> None:
        name = "x" * 100
        _, [entry] = self.told(self.decision(name, Refusal(ErrorCode.UNKNOWN_COMMAND, "none")))
        assert entry["command"] == "x" * 64

    def test_a_refusal_is_logged_as_far_as_it_fits(self) -> None:
        _, [entry] = self.told(self.rubbish(command="x" * 1000))
        topic = "flexfeeder/f/command/" + "x" * 1000
        assert entry["topic"] == topic[:200]
        assert len(entry["problem"]) == 200
        assert entry["outcome"] == "unknown_command"

    def test_of_what_is_no_command_there_are_ten_lines_within_a_second(self) -> None:
        """And all of it counts; the next line says how much of it was left out."""
        now = [100.0]
        log, entries = logged()
        telling = Telling("f", log, clock=lambda: now[0])

        def takes(*decisions: Decision) -> list[int | None]:
            """What each line says that was left out before it."""
            entries.clear()
            telling.answered(decisions, time.perf_counter(), 12_000_000_042)
            return [entry.get("suppressed") for entry in entries]

        unknown, unreadable = self.rubbish(command="do_it"), self.rubbish()
        assert takes(*[unknown, unreadable] * 50) == [None] * 10
        assert takes(self.decision("set_factor", Done("factor set"))) == [90]
        assert takes(*[unreadable] * 5) == []
        now[0] = 101.0
        assert takes(*[unreadable] * 2) == [5, None]
        count = "flexfeeder_solver_commands_total"
        labels = {"feeder": "f", "command": "set_factor", "outcome": "not_json"}
        assert telling.registry.get_sample_value(count, labels) == 57.0

    def test_commands_that_can_be_read_have_a_line_each(self) -> None:
        refusal = Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", "there is no bus '1'")
        _, entries = self.told(*[self.decision("set_factor", refusal)] * 100)
        assert len(entries) == 100
