"""What is remembered of requests: whatever is decided, repeated and forgotten, the memory knows
what one plain list knows.
"""

import math
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from schemas.errors import Detail, ErrorCode, Refusal
from schemas.loads import SetFactor
from services import outcomes
from services.once import REMEMBERED_S, Once, Remembered
from services.outcomes import Done, digest

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()
"""Epoch seconds."""

DONE = Done("factor of bus 1 set to 0.5", ("1",))
REFUSED = Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", "there is no bus '1'")


def asked(
    request_id: str | None, factor: float = 0.5, issued_at: float | None = None, **way: Any
) -> SetFactor:
    """A command; ``issued_at`` in epoch seconds."""
    issued = datetime.fromtimestamp(issued_at, UTC) if issued_at is not None else None
    return SetFactor(bus_name="1", factor=factor, request_id=request_id, issued_at=issued, **way)


def remembered(request_id: str, at: float, outcome: outcomes.Outcome = DONE) -> Remembered:
    return Remembered(request_id, digest(asked(request_id)), at, outcome)


def same(one: object, other: outcomes.Outcome) -> bool:
    """Refusals are exceptions, and equal where they say the same."""
    assert isinstance(one, Done | Refusal)
    said = [orjson.dumps(outcomes.to_json(each)) for each in (one, other)]
    return said[0] == said[1]


def recalled(once: Once, command: SetFactor) -> outcomes.Outcome | ErrorCode | None:
    """What is recalled of a command, or the code with which it is refused."""
    try:
        return once.recall(command, digest(command))
    except Refusal as refusal:
        return refusal.code


class TestRecall:
    def test_what_is_new_has_no_outcome(self) -> None:
        assert recalled(Once(), asked("a")) is None
        assert recalled(Once(), asked("a", issued_at=0.0)) is None

    @pytest.mark.parametrize("outcome", [DONE, REFUSED])
    def test_what_comes_again_has_the_outcome_that_it_had(self, outcome: outcomes.Outcome) -> None:
        once = Once()
        once.remember(remembered("a", NOON, outcome))
        assert same(recalled(once, asked("a")), outcome)

    def test_the_way_that_it_comes_is_of_no_account(self) -> None:
        once = Once()
        once.remember(remembered("a", NOON))
        late = datetime.fromtimestamp(NOON + 60, UTC)
        again = asked("a", issued_at=NOON + 50, deadline=late, reply_to="flexfeeder/reply/b")
        assert recalled(once, again) == DONE
        assert recalled(once, again.model_copy(update={"feeder": "ieee123"})) == DONE

    def test_another_command_under_the_same_id_is_refused_and_named(self) -> None:
        once = Once()
        once.remember(remembered("a", NOON))
        with pytest.raises(Refusal) as refused:
            once.recall(asked("a", 0.6), digest(asked("a", 0.6)))
        assert refused.value.code is ErrorCode.REQUEST_ID_REUSED
        assert [detail.field for detail in refused.value.details] == ["request_id"]

    def test_without_an_id_everything_is_new(self) -> None:
        once = Once(most=1)
        once.remember(remembered("a", NOON))
        once.remember(remembered("b", NOON + 1))
        assert recalled(once, asked(None, issued_at=0.0)) is None

    def test_one_that_was_not_decided_after_all_is_new(self) -> None:
        once = Once()
        once.remember(remembered("a", NOON))
        once.forget("a")
        once.forget("b")
        assert recalled(once, asked("a", issued_at=NOON)) is None
        assert len(once) == 0


class TestForgetting:
    def test_beyond_the_bound_the_oldest_make_room(self) -> None:
        once = Once(most=2)
        for number, request_id in enumerate("abc"):
            once.remember(remembered(request_id, NOON + number))
        assert [each.request_id for each in once] == ["b", "c"]
        assert once.horizon == NOON

    def test_what_is_as_old_as_what_was_forgotten_is_refused(self) -> None:
        once = Once(most=1)
        once.remember(remembered("a", NOON))
        once.remember(remembered("b", NOON + 10))
        assert recalled(once, asked("a", issued_at=NOON - 1)) is ErrorCode.REQUEST_TOO_OLD
        assert recalled(once, asked("new", issued_at=NOON)) is ErrorCode.REQUEST_TOO_OLD
        assert recalled(once, asked("new", issued_at=NOON + 0.001)) is None
        assert recalled(once, asked("new")) is None, "it does not say how old it is"
        assert recalled(once, asked("b", issued_at=NOON - 1)) == DONE

    def test_after_a_day_it_is_forgotten_and_not_before(self) -> None:
        once = Once()
        once.remember(remembered("a", NOON))
        once.remember(remembered("b", NOON + REMEMBERED_S))
        assert recalled(once, asked("a")) == DONE
        once.remember(remembered("c", NOON + REMEMBERED_S + 0.001))
        assert recalled(once, asked("a")) is None
        assert once.horizon == NOON

    def test_nothing_is_forgotten_for_what_is_remembered_again(self) -> None:
        once = Once(most=2)
        for request_id in "abab":
            once.remember(remembered(request_id, NOON))
        assert len(once) == 2
        assert once.horizon == -math.inf

    def test_the_horizon_never_falls(self) -> None:
        """Whatever the clock does."""
        once = Once(most=1)
        for at in (NOON, NOON - 3600, NOON - 7200):
            once.remember(remembered(str(at), at))
        assert once.horizon == NOON


class TestOutcomes:
    @pytest.mark.parametrize(
        "outcome",
        [
            DONE,
            Done("done"),
            Done("added", ("1", "4"), {"generator_name": "generator_1", "kw": [0.1 + 0.2, None]}),
            REFUSED,
            Refusal(ErrorCode.LIMIT_REACHED, "no"),
            Refusal(
                ErrorCode.INVALID_VALUE,
                "two",
                [Detail(field="a", problem="é"), Detail(field="b", problem="")],
            ),
        ],
    )
    def test_as_json_and_back_nothing_is_lost(self, outcome: outcomes.Outcome) -> None:
        again = outcomes.from_json(outcomes.to_json(outcome))
        if isinstance(outcome, Refusal):
            assert isinstance(again, Refusal)
            assert (again.code, again.message, again.details) == (
                outcome.code,
                outcome.message,
                outcome.details,
            )
        else:
            assert again == outcome

    @pytest.mark.parametrize("code", ErrorCode)
    def test_what_may_be_answered_otherwise_next_time_is_not_final(self, code: ErrorCode) -> None:
        passing = {
            "service_unavailable",
            "no_reply",
            "deadline_passed",
            "request_in_progress",
            "request_id_reused",
            "request_too_old",
        }
        assert outcomes.is_final(Refusal(code, "no")) is (code not in passing)

    def test_what_is_done_is_final(self) -> None:
        assert outcomes.is_final(DONE)


class Requests(RuleBasedStateMachine):
    """A memory of three, for 100 s, beside a list of all that was ever decided."""

    MOST, FOR_S = 3, 100.0

    def __init__(self) -> None:
        super().__init__()
        self._once = Once(self.MOST, self.FOR_S)
        self._now = NOON
        self._kept: list[tuple[str, float, float]] = []
        """Id, factor and time of what is remembered, oldest first."""
        self._ever: dict[str, float] = {}
        """When each id was last decided."""

    ids = st.sampled_from("abcdefg")
    factors = st.sampled_from([0.5, 0.6])

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 100.0, 101.0]))
    def time_passes(self, seconds: float) -> None:
        self._now += seconds

    @rule(request_id=ids, factor=factors, ago=st.sampled_from([None, 0.0, 0.5, 29.0, 200.0]))
    def ask(self, request_id: str, factor: float, ago: float | None) -> None:
        issued_at = self._now - ago if ago is not None else None
        command = asked(request_id, factor, issued_at)
        known = [each for each in self._kept if each[0] == request_id]
        found = recalled(self._once, command)
        if known:
            is_same = known[0][1] == factor
            assert found == (DONE if is_same else ErrorCode.REQUEST_ID_REUSED)
        elif issued_at is not None and issued_at <= self._once.horizon:
            assert found is ErrorCode.REQUEST_TOO_OLD
        else:
            assert found is None
            self._decide(request_id, factor, issued_at)

    def _decide(self, request_id: str, factor: float, issued_at: float | None) -> None:
        earlier = self._ever.get(request_id)
        if issued_at is not None and earlier is not None:
            assert issued_at > earlier, "what was decided is not decided again"
        self._ever[request_id] = self._now
        command = asked(request_id, factor)
        self._once.remember(Remembered(request_id, digest(command), self._now, DONE))
        self._kept.append((request_id, factor, self._now))
        self._kept = [
            each for each in self._kept[-self.MOST :] if each[2] >= self._now - self.FOR_S
        ]

    @invariant()
    def the_memory_holds_what_the_list_holds(self) -> None:
        assert [(each.request_id, each.at) for each in self._once] == [
            (request_id, at) for request_id, _, at in self._kept
        ]
        assert len(self._once) <= self.MOST

    @invariant()
    def all_that_was_forgotten_lies_behind_the_horizon(self) -> None:
        kept = {request_id for request_id, _, _ in self._kept}
        forgotten = [at for request_id, at in self._ever.items() if request_id not in kept]
        assert self._once.horizon >= max(forgotten, default=-math.inf)
        if forgotten:
            assert self._once.horizon <= self._now


def test_whatever_is_asked_nothing_is_decided_twice_that_says_when_it_was_issued() -> None:
    run_state_machine_as_test(Requests, settings=settings(max_examples=200, stateful_step_count=40))
