"""The rules of programs: what is registered, what is in force, and what an execution did."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from schemas.errors import ErrorCode, Refusal
from schemas.programs import (
    MOST_PROGRAMS,
    Adjustments,
    BusAdjustment,
    BusPower,
    Program,
    ProgramInForce,
    ProgramName,
    Registration,
    Run,
    SubscriptionChange,
    Update,
)
from services.acks import InOrder
from services.bus import Message
from services.dfp_manager import programs as rules
from services.dfp_manager.effect import NoState, report
from services.dfp_manager.feeders import Feeder, Feeders, revision_of
from services.dfp_manager.programs import Change, FeederPrograms
from services.dfp_manager.reports import log_lines, registry_text

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LATER = AT + timedelta(minutes=5)
BUSES = {"1": "1", "4": "4", "10": "10", "sourcebus": "SourceBus"}
NONE_YET = FeederPrograms("ieee123")

PEAK = Registration(name="peak_shaving", min_power_kw=30.0, target_pf=0.95)
NIGHT = Registration(name="night", min_power_kw=0.0, target_pf=1.0, description="at night")


def named(name: str) -> ProgramName:
    return ProgramName(name=name)


def run(name: str = "peak_shaving") -> Run:
    return Run(dfp_name=name)


def at_bus(bus: str, name: str = "peak_shaving") -> SubscriptionChange:
    return SubscriptionChange(bus_name=bus, dfp_name=name)


def registered(*asked: Registration) -> FeederPrograms:
    programs = NONE_YET
    for each in asked or (PEAK,):
        programs = rules.register(programs, each, AT).programs
    return programs


def subscribed(*buses: str) -> FeederPrograms:
    """One program, peak_shaving, with these buses."""
    programs = registered()
    for bus in buses:
        programs = rules.subscribe(programs, at_bus(bus), BUSES, AT).programs
    return programs


def executing(*buses: str) -> FeederPrograms:
    """The same, executing."""
    return rules.execute(subscribed(*buses), run(), AT).programs


def in_force(*buses: str, max_kw: float = 30.0, target_pf: float = 0.95) -> ProgramInForce:
    """What peak_shaving is expected to ask."""
    return ProgramInForce(
        name="peak_shaving",
        number=1,
        buses=tuple(BusAdjustment(bus=bus, max_kw=max_kw, target_pf=target_pf) for bus in buses),
    )


def events(change: Change) -> list[tuple[str, int, str | None]]:
    """Kind, number and bus of what has happened."""
    return [(event.event, event.number, event.bus) for event in change.events]


def assert_nothing_changed(change: Change, before: FeederPrograms) -> None:
    assert change.programs is before
    assert change.events == ()
    assert not change.adjusts


def assert_refused(act: Callable[[], object], code: ErrorCode, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        act()
    assert refused.value.code is code
    assert [detail.field for detail in refused.value.details] == [field]


class TestRegister:
    def test_the_first_program_is_number_1_and_neither_subscribed_nor_executing(self) -> None:
        change = rules.register(NONE_YET, PEAK, AT)
        expected = Program(
            name="peak_shaving",
            number=1,
            description="",
            min_power_kw=30.0,
            target_pf=0.95,
            registered_at=AT,
            subscriptions=(),
            executing=False,
            executions=(),
        )
        assert change.program == expected
        assert dict(change.programs.by_number) == {1: expected}
        assert events(change) == [("registered", 1, None)]
        assert change.events[0].at == AT

    def test_it_leaves_the_adjustments_as_they_are(self) -> None:
        change = rules.register(executing("1"), NIGHT, AT)
        assert not change.adjusts
        assert change.programs.revision == 1

    @pytest.mark.parametrize("name", ["peak_shaving", "Peak_Shaving"])
    def test_a_name_that_is_taken_is_refused_in_any_case(self, name: str) -> None:
        asked = Registration(name=name, min_power_kw=1.0, target_pf=1.0)
        assert_refused(
            lambda: rules.register(registered(), asked, AT), ErrorCode.ALREADY_EXISTS, "name"
        )

    def test_a_number_is_never_used_again(self) -> None:
        programs = registered(PEAK, NIGHT)
        for name in ("night", "peak_shaving"):
            programs = rules.delete(programs, named(name), AT).programs
        assert rules.register(programs, PEAK, AT).program.number == 3

    def test_there_are_at_most_so_many_and_a_deleted_one_makes_room(self) -> None:
        programs = NONE_YET
        for number in range(MOST_PROGRAMS):
            asked = Registration(name=f"p{number}", min_power_kw=1.0, target_pf=1.0)
            programs = rules.register(programs, asked, AT).programs
        assert_refused(lambda: rules.register(programs, PEAK, AT), ErrorCode.LIMIT_REACHED, "name")
        programs = rules.delete(programs, named("p7"), AT).programs
        assert rules.register(programs, PEAK, AT).program.number == MOST_PROGRAMS + 1


class TestUpdate:
    def test_terms_are_replaced_and_no_description_keeps_the_old_one(self) -> None:
        asked = Update(name="NIGHT", min_power_kw=5.0, target_pf=0.9)
        change = rules.update(registered(NIGHT), asked, LATER)
        program = change.program
        assert (program.name, program.min_power_kw, program.target_pf) == ("night", 5.0, 0.9)
        assert program.description == "at night"
        assert program.registered_at == AT
        assert events(change) == [("updated", 1, None)]

    def test_a_description_can_be_taken_away(self) -> None:
        asked = Update(name="night", min_power_kw=0.0, target_pf=1.0, description="")
        assert rules.update(registered(NIGHT), asked, AT).program.description == ""

    def test_one_that_executes_asks_the_new_terms_at_once(self) -> None:
        asked = Update(name="peak_shaving", min_power_kw=120.0, target_pf=0.98)
        change = rules.update(executing("1"), asked, AT)
        assert change.adjusts
        assert rules.adjustments(change.programs) == Adjustments(
            revision=2, programs=(in_force("1", max_kw=120.0, target_pf=0.98),)
        )

    def test_one_that_does_not_execute_adjusts_nothing(self) -> None:
        asked = Update(name="peak_shaving", min_power_kw=120.0, target_pf=0.98)
        change = rules.update(subscribed("1"), asked, AT)
        assert not change.adjusts
        assert change.programs.revision == 0

    def test_only_another_description_adjusts_nothing(self) -> None:
        asked = Update(name="peak_shaving", min_power_kw=30.0, target_pf=0.95, description="new")
        change = rules.update(executing("1"), asked, AT)
        assert events(change) == [("updated", 1, None)]
        assert not change.adjusts

    def test_the_same_terms_again_change_nothing(self) -> None:
        before = executing("1")
        asked = Update(name="peak_shaving", min_power_kw=30.0, target_pf=0.95)
        assert_nothing_changed(rules.update(before, asked, AT), before)

    def test_an_unknown_program_is_refused(self) -> None:
        asked = Update(name="nobody", min_power_kw=1.0, target_pf=1.0)
        assert_refused(
            lambda: rules.update(registered(), asked, AT), ErrorCode.PROGRAM_NOT_FOUND, "name"
        )


class TestSubscribe:
    def test_buses_stand_in_the_feeders_spelling_and_in_natural_order(self) -> None:
        programs = subscribed("sourceBUS", "10", "4")
        [program] = programs.by_number.values()
        assert program.subscriptions == ("4", "10", "SourceBus")

    def test_a_program_can_be_named_by_its_number(self) -> None:
        asked = SubscriptionChange(bus_name="1", dfp_number=2)
        change = rules.subscribe(registered(PEAK, NIGHT), asked, BUSES, AT)
        assert change.program.name == "night"
        assert events(change) == [("subscribed", 2, "1")]

    def test_again_is_a_success_that_changes_nothing(self) -> None:
        before = subscribed("SourceBus")
        change = rules.subscribe(before, at_bus("SOURCEBUS"), BUSES, AT)
        assert_nothing_changed(change, before)
        assert "already" in change.message

    def test_a_bus_that_joins_an_execution_is_adjusted_at_once(self) -> None:
        change = rules.subscribe(executing("1"), at_bus("4"), BUSES, AT)
        assert change.adjusts
        assert rules.adjustments(change.programs) == Adjustments(
            revision=2, programs=(in_force("1", "4"),)
        )

    def test_an_unknown_bus_is_refused(self) -> None:
        assert_refused(
            lambda: rules.subscribe(registered(), at_bus("99"), BUSES, AT),
            ErrorCode.BUS_NOT_FOUND,
            "bus_name",
        )

    @pytest.mark.parametrize("number", [2, 10**9])
    def test_an_unknown_number_is_refused(self, number: int) -> None:
        asked = SubscriptionChange(bus_name="1", dfp_number=number)
        assert_refused(
            lambda: rules.subscribe(registered(), asked, BUSES, AT),
            ErrorCode.PROGRAM_NOT_FOUND,
            "dfp_number",
        )

    def test_an_unknown_name_is_refused(self) -> None:
        assert_refused(
            lambda: rules.subscribe(registered(), at_bus("1", "nobody"), BUSES, AT),
            ErrorCode.PROGRAM_NOT_FOUND,
            "dfp_name",
        )

    def test_while_the_buses_are_not_known_it_is_refused(self) -> None:
        assert_refused(
            lambda: rules.subscribe(registered(), at_bus("1"), None, AT),
            ErrorCode.SERVICE_UNAVAILABLE,
            "solver",
        )


class TestUnsubscribe:
    def test_an_execution_lets_the_bus_go_at_once(self) -> None:
        change = rules.unsubscribe(executing("1", "SourceBus"), at_bus("SOURCEBUS"), BUSES, AT)
        assert events(change) == [("unsubscribed", 1, "SourceBus")]
        assert rules.adjustments(change.programs) == Adjustments(
            revision=2, programs=(in_force("1"),)
        )

    def test_a_bus_that_is_not_subscribed_is_a_success_that_changes_nothing(self) -> None:
        before = executing("1")
        change = rules.unsubscribe(before, at_bus("4"), BUSES, AT)
        assert_nothing_changed(change, before)
        assert "was not subscribed" in change.message

    def test_a_bus_that_the_feeder_no_longer_has_can_leave(self) -> None:
        change = rules.unsubscribe(subscribed("4"), at_bus("4"), {"1": "1"}, AT)
        assert change.program.subscriptions == ()

    def test_an_unknown_bus_is_refused(self) -> None:
        assert_refused(
            lambda: rules.unsubscribe(registered(), at_bus("99"), BUSES, AT),
            ErrorCode.BUS_NOT_FOUND,
            "bus_name",
        )


class TestExecute:
    def test_it_is_in_force_from_the_next_revision_on(self) -> None:
        change = rules.execute(subscribed("1", "4"), run("PEAK_SHAVING"), LATER)
        assert change.adjusts
        assert rules.adjustments(change.programs) == Adjustments(
            revision=1, programs=(in_force("1", "4"),)
        )
        assert events(change) == [("executed", 1, None)]
        [execution] = change.program.executions
        assert (execution.started_at, execution.stopped_at) == (LATER, None)
        assert (execution.revision, execution.buses, execution.total_shed_kw) == (1, 2, None)

    def test_again_is_a_success_that_changes_nothing(self) -> None:
        before = executing("1")
        change = rules.execute(before, run(), LATER)
        assert_nothing_changed(change, before)
        assert "already" in change.message

    def test_with_nobody_subscribed_it_is_in_force_and_says_so(self) -> None:
        change = rules.execute(registered(), run(), AT)
        assert "nobody subscribed" in change.message
        assert rules.adjustments(change.programs) == Adjustments(revision=1, programs=(in_force(),))

    def test_programs_in_force_stand_in_the_order_of_their_numbers(self) -> None:
        programs = registered(PEAK, NIGHT)
        for name in ("night", "peak_shaving"):
            programs = rules.execute(programs, run(name), AT).programs
        assert [each.number for each in rules.adjustments(programs).programs] == [1, 2]
        assert programs.executing == 2

    def test_the_latest_20_executions_are_remembered(self) -> None:
        programs = registered()
        for _ in range(25):
            programs = rules.execute(programs, run(), AT).programs
            programs = rules.stop(programs, run(), LATER).programs
        [program] = programs.by_number.values()
        # The n-th execution is put in force by revision 2n - 1, and lifted by 2n.
        assert [each.revision for each in program.executions] == list(range(11, 50, 2))

    def test_an_unknown_program_is_refused(self) -> None:
        assert_refused(
            lambda: rules.execute(registered(), run("nobody"), AT),
            ErrorCode.PROGRAM_NOT_FOUND,
            "dfp_name",
        )


class TestStop:
    def test_it_lifts_the_adjustments_and_ends_the_execution(self) -> None:
        change = rules.stop(executing("1"), run(), LATER)
        assert change.adjusts
        assert rules.adjustments(change.programs) == Adjustments(revision=2)
        assert events(change) == [("stopped", 1, None)]
        assert [each.stopped_at for each in change.program.executions] == [LATER]
        assert change.program.subscriptions == ("1",)

    def test_one_that_does_not_execute_is_a_success_that_changes_nothing(self) -> None:
        before = subscribed("1")
        change = rules.stop(before, run(), AT)
        assert_nothing_changed(change, before)
        assert "was not executing" in change.message

    def test_one_whose_history_is_lost_stops_all_the_same(self) -> None:
        programs = executing("1")
        lost = programs.by_number[1].model_copy(update={"executions": ()})
        change = rules.stop(replace(programs, by_number={1: lost}), run(), AT)
        assert rules.adjustments(change.programs).programs == ()


class TestDelete:
    def test_it_ends_the_execution_and_removes_everything(self) -> None:
        change = rules.delete(executing("1"), named("Peak_Shaving"), AT)
        assert change.adjusts
        assert rules.adjustments(change.programs) == Adjustments(revision=2)
        assert events(change) == [("stopped", 1, None), ("deleted", 1, None)]
        assert not change.programs.by_number

    def test_one_that_does_not_execute_adjusts_nothing(self) -> None:
        change = rules.delete(subscribed("1"), named("peak_shaving"), AT)
        assert not change.adjusts
        assert events(change) == [("deleted", 1, None)]

    def test_twice_is_refused(self) -> None:
        programs = rules.delete(registered(), named("peak_shaving"), AT).programs
        assert_refused(
            lambda: rules.delete(programs, named("peak_shaving"), AT),
            ErrorCode.PROGRAM_NOT_FOUND,
            "name",
        )


class TestShed:
    def test_what_an_execution_took_off_is_noted_with_it(self) -> None:
        programs = rules.with_shed(executing("1"), number=1, revision=1, total_shed_kw=12.5)
        [execution] = programs.by_number[1].executions
        assert execution.total_shed_kw == 12.5
        assert programs.revision == 1

    def test_also_when_it_has_been_stopped_meanwhile(self) -> None:
        stopped = rules.stop(executing("1"), run(), LATER).programs
        [execution] = rules.with_shed(stopped, 1, 1, 12.5).by_number[1].executions
        assert (execution.stopped_at, execution.total_shed_kw) == (LATER, 12.5)

    @pytest.mark.parametrize(("number", "revision"), [(2, 1), (1, 2)])
    def test_of_another_program_or_execution_nothing_is_noted(
        self, number: int, revision: int
    ) -> None:
        programs = executing("1")
        assert rules.with_shed(programs, number, revision, 12.5) is programs


class TestRevisionsFromElsewhere:
    def test_a_registry_that_is_behind_is_raised_above_what_is_known(self) -> None:
        assert rules.above(registered(), 7).revision == 8

    @pytest.mark.parametrize("known", [0, 1])
    def test_one_that_is_not_stays(self, known: int) -> None:
        programs = executing("1")
        assert rules.above(programs, known) is programs


Element = tuple[str, float, float]
"""Name, demand in kW, what the engine was given in kW."""


def bus(
    name: str,
    load_kw: float,
    load_kvar: float,
    loads: Sequence[Element] = (),
    devices: Sequence[Element] = (),
) -> dict[str, Any]:
    """What a state says of a bus, as far as a report looks at it."""

    def listed(elements: Sequence[Element]) -> list[dict[str, Any]]:
        return [{"name": n, "demand_kw": demand, "set_kw": given} for n, demand, given in elements]

    return {
        "bus": name,
        "load_kw": load_kw,
        "load_kvar": load_kvar,
        "loads": listed(loads),
        "devices": listed(devices),
    }


def state(*buses: dict[str, Any], version: int = 2) -> dict[str, Any]:
    return {"version": version, "bus_details": list(buses)}


def program_at(*buses: str, min_power_kw: float = 30.0, target_pf: float = 0.95) -> Program:
    asked = Registration(name="p", min_power_kw=min_power_kw, target_pf=target_pf)
    programs = rules.register(NONE_YET, asked, AT).programs
    return programs.by_number[1].model_copy(update={"subscriptions": buses})


class TestReport:
    def test_a_bus_that_was_cut_and_corrected(self) -> None:
        """40 kW and 20 kvar have a power factor of 40 / sqrt(2000); at 30 kW and 0.95 the kvar are
        30 x sqrt(1 / 0.95^2 - 1) = 9.8605.
        """
        before = state(bus("1", 40.0, 20.0, [("Load_1", 40.0, 40.0)]))
        after = state(bus("1", 30.0, 9.8605, [("Load_1", 40.0, 30.0)]), version=7)
        made = report(before, after, program_at("1"), revision=3)
        assert (made.name, made.number, made.revision, made.version) == ("p", 1, 3, 7)
        assert made.total_shed_kw == 10.0
        [outcome] = made.buses
        assert outcome.before == BusPower(kw=40.0, kvar=20.0, pf=0.894427)
        assert outcome.after == BusPower(kw=30.0, kvar=9.8605, pf=0.95)
        assert outcome.shed_kw == 10.0
        assert outcome.left_alone is None

    def test_the_total_is_that_of_the_subscribed_buses_to_the_digits_of_a_state(self) -> None:
        before = state(bus("1", 0.3, 0.0), bus("2", 0.3, 0.0), bus("3", 9.0, 0.0))
        after = state(bus("1", 0.1, 0.0), bus("2", 0.2, 0.0), bus("3", 1.0, 0.0))
        made = report(before, after, program_at("1", "2", min_power_kw=0.0), revision=1)
        assert [outcome.shed_kw for outcome in made.buses] == [0.2, 0.1]
        assert made.total_shed_kw == 0.3

    def test_a_bus_without_load_was_left_alone(self) -> None:
        idle = state(bus("1", 0.0, 0.0), bus("4", 0.0, 0.0, [("Load_4", 0.0, 0.0)]))
        made = report(idle, idle, program_at("1", "4"), revision=1)
        assert [outcome.left_alone for outcome in made.buses] == ["no load", "no load"]
        assert made.buses[0].before.pf is None

    def test_a_bus_at_its_minimum_and_at_the_power_factor_was_left_alone(self) -> None:
        """20 + 10 kW is the 30 that it keeps; 9.86 kvar is what 0.95 allows at 30 kW."""
        same = state(bus("1", 30.0, 9.86, [("Load_1", 20.0, 20.0)], [("EV", 10.0, 10.0)]))
        [outcome] = report(same, same, program_at("1"), revision=1).buses
        assert outcome.left_alone == "already at or below its minimum; already at the power factor"

    @pytest.mark.parametrize("kvar", [10.0, -10.0])
    def test_a_bus_below_its_minimum_whose_power_factor_was_corrected_was_not(
        self, kvar: float
    ) -> None:
        """20 kW at 0.95 may have 6.57 kvar, of either sign."""
        before = state(bus("1", 20.0, kvar, [("Load_1", 20.0, 20.0)]))
        after = state(bus("1", 20.0, 6.5737, [("Load_1", 20.0, 20.0)]))
        [outcome] = report(before, after, program_at("1"), revision=1).buses
        assert outcome.shed_kw == 0.0
        assert outcome.left_alone is None

    def test_a_device_that_brings_a_bus_over_its_minimum_counts(self) -> None:
        before = state(bus("1", 36.0, 0.0, [("Load_1", 29.0, 29.0)], [("EV", 7.0, 7.0)]))
        after = state(bus("1", 30.0, 0.0, [("Load_1", 29.0, 29.0)], [("EV", 7.0, 1.0)]))
        [outcome] = report(before, after, program_at("1"), revision=1).buses
        assert outcome.left_alone is None

    def test_what_exports_is_not_netted(self) -> None:
        """A load of 35 kW beside one of -10 kW: 35 is over 30, and is cut."""
        before = state(bus("1", 25.0, 0.0, [("a", 35.0, 35.0), ("b", -10.0, -10.0)]))
        after = state(bus("1", 20.0, 0.0, [("a", 35.0, 30.0), ("b", -10.0, -10.0)]))
        [outcome] = report(before, after, program_at("1"), revision=1).buses
        assert outcome.left_alone is None
        assert outcome.shed_kw == 5.0

    def test_a_bus_that_is_held_lower_already_was_left_alone(self) -> None:
        """Demand is 40 kW, and relief or another program keeps it at 25."""
        same = state(bus("1", 25.0, 0.0, [("Load_1", 40.0, 25.0)]))
        [outcome] = report(same, same, program_at("1"), revision=1).buses
        assert outcome.left_alone is not None
        assert "at or below its minimum" in outcome.left_alone

    def test_a_bus_that_has_gone_from_the_feeder_says_so(self) -> None:
        made = report(state(), state(), program_at("1"), revision=1)
        assert made.total_shed_kw == 0.0
        assert made.buses[0].left_alone == "not a bus of the feeder"

    @pytest.mark.parametrize(
        "document",
        [
            {},
            [],
            None,
            {"version": 1, "bus_details": [{"bus": 1}]},
            {"version": 1, "bus_details": [{"bus": "1"}]},
            {"version": "one", "bus_details": []},
            state(bus("1", 1e308, 1e308, [("a", 1e308, 1.0), ("b", 1e308, 1.0)])),
        ],
    )
    def test_what_is_no_state_is_refused(self, document: Any) -> None:
        with pytest.raises(NoState):
            report(document, document, program_at("1"), revision=1)


def encoded(version: int, revision: int, feeder: str = "ieee123") -> bytes:
    """The head and the tail of a state."""
    tail = {"adjustments": {"revision": revision, "programs": ["a", "b"]}}
    return orjson.dumps({"feeder": feeder, "version": version, "text": '"adjustments":', **tail})


class TestWhatIsHeardOfAFeeder:
    def test_the_revision_is_read_from_the_tail_of_a_state(self) -> None:
        assert revision_of(encoded(1, 17)) == 17

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{}",
            b'{"adjustments":{"revision":1,"programs":[]},"more":1}',
            b'{"adjustments":{"revision":-1,"programs":[]}}',
            b'{"adjustments":{"revision":1234567890123456,"programs":[]}}',
            b'{"adjustments":{"revision":1',
        ],
    )
    def test_what_does_not_end_like_a_state_has_none(self, payload: bytes) -> None:
        assert revision_of(payload) is None

    def test_the_newest_state_is_kept_as_it_came(self) -> None:
        feeder = Feeder("ieee123")
        assert feeder.take_state(encoded(5, 1), 0.0, retained=False)
        assert feeder.take_state(encoded(6, 2), 0.1, retained=False)
        assert (feeder.state, feeder.version, feeder.applied) == (encoded(6, 2), 6, 2)

    def test_an_older_one_is_dropped_while_the_solver_is_there(self) -> None:
        feeder = Feeder("ieee123")
        feeder.take_state(encoded(6, 2), 0.0, retained=False)
        assert feeder.take_state(encoded(5, 1), 3.9, retained=False)
        assert feeder.version == 6

    def test_an_older_one_counts_when_the_solver_had_fallen_silent(self) -> None:
        feeder = Feeder("ieee123")
        feeder.take_state(encoded(6, 2), 0.0, retained=False)
        feeder.take_state(encoded(1, 0), 4.1, retained=False)
        assert (feeder.version, feeder.applied) == (1, 0)

    def test_a_retained_state_does_not_show_that_a_solver_is_there(self) -> None:
        feeder = Feeder("ieee123")
        feeder.take_state(encoded(6, 2), 0.0, retained=True)
        assert feeder.is_silent(0.0)
        assert feeder.version == 6
        feeder.take_state(encoded(7, 2), 1.0, retained=False)
        assert not feeder.is_silent(5.0)
        assert feeder.is_silent(5.1)

    @pytest.mark.parametrize("payload", [b"", b"nonsense", b'{"feeder":"ieee123"}', b"[]"])
    def test_what_is_no_state_or_topology_changes_nothing(self, payload: bytes) -> None:
        feeder = Feeder("ieee123")
        assert not feeder.take_state(payload, 0.0, retained=False)
        assert not feeder.take_topology(payload)
        assert feeder == Feeder("ieee123")

    @pytest.mark.parametrize("name", ["dfp", "a b", "service", "x" * 65])
    def test_what_is_no_feeder_is_not_listened_to(self, name: str) -> None:
        feeders = Feeders("IEEE123")
        assert feeders.take(f"flexfeeder/{name}/state", encoded(1, 1), 0.0, retained=False) is None
        assert [feeder.id for feeder in feeders] == ["ieee123"]

    def test_no_more_feeders_are_listened_to_than_a_bound(self) -> None:
        feeders = Feeders("ieee123")
        for number in range(1000):
            feeders.take(f"flexfeeder/f{number}/state", encoded(1, 1), 0.0, retained=False)
        assert len(list(feeders)) == 200


class TestAcknowledgements:
    def test_they_go_out_in_the_order_of_arrival(self) -> None:
        acknowledged: list[int] = []
        acks = InOrder(lambda message: acknowledged.append(message.receipt[1]))
        messages = [message(number) for number in range(4)]
        for each in messages:
            acks.arrived(each)
        acks.done(messages[1])
        acks.done(messages[2])
        assert acknowledged == []
        acks.done(messages[0])
        assert acknowledged == [0, 1, 2]
        acks.done(messages[3])
        assert acknowledged == [0, 1, 2, 3]

    def test_those_of_qos_0_want_none_and_hold_nothing_up(self) -> None:
        acknowledged: list[int] = []
        acks = InOrder(lambda message: acknowledged.append(message.receipt[1]))
        acks.arrived(message(1, qos=0))
        acks.arrived(message(2))
        acks.done(message(2))
        acks.done(message(1, qos=0))
        assert acknowledged == [2]


def message(number: int, qos: int = 1) -> Message:
    return Message("topic", b"", False, None, None, (1, number, qos))


class TestFiles:
    def test_the_registry_file_says_all_that_is_registered(self) -> None:
        programs = rules.register(executing("1", "4"), NIGHT, LATER).programs
        assert registry_text((programs,)) == (
            "Demand flexibility programs\n"
            "\n"
            "Feeder ieee123: 2 programs, 1 executing\n"
            "Revision of the adjustments: 1\n"
            "\n"
            "  1  peak_shaving\n"
            "     minimum power         30 kW at each bus\n"
            "     target power factor   0.95\n"
            "     registered            2026-11-22T10:00:00+00:00\n"
            "     subscriptions         1, 4\n"
            "     executing             yes\n"
            "\n"
            "  2  night\n"
            "     minimum power         0 kW at each bus\n"
            "     target power factor   1\n"
            "     registered            2026-11-22T10:05:00+00:00\n"
            "     subscriptions         none\n"
            "     executing             no\n"
            "     description           at night\n"
        )

    def test_a_description_stays_on_its_line(self) -> None:
        asked = Registration(name="p", min_power_kw=1.0, target_pf=1.0, description="a\n  2  b")
        assert "a\\n  2  b\n" in registry_text((registered(asked),))

    def test_the_log_says_what_an_execution_did_at_each_bus(self) -> None:
        change = rules.execute(subscribed("1", "4"), run(), LATER)
        before = state(bus("1", 40.0, 20.0, [("Load_1", 40.0, 40.0)]), bus("4", 0.0, 0.0))
        after = state(bus("1", 30.0, 9.8605, [("Load_1", 40.0, 30.0)]), bus("4", 0.0, 0.0))
        made = report(before, after, change.program, revision=1)
        head = "2026-11-22T10:05:00+00:00 ieee123 peak_shaving (number 1)"
        before_it = "40 kW 20 kvar (power factor 0.894) before"
        after_it = "30 kW 9.8605 kvar (power factor 0.950) after"
        assert list(log_lines(change.events[0], change.program, made)) == [
            f"{head} executed: revision 1, 2 buses, shed 10 kW",
            f"{head}   bus 1: {before_it}, {after_it}, shed 10 kW",
            f"{head}   bus 4: 0 kW 0 kvar, left alone: no load",
        ]

    def test_the_log_has_a_line_for_everything_else_that_happens(self) -> None:
        programs = registered()
        said = []
        for change in (
            rules.register(NONE_YET, PEAK, AT),
            rules.subscribe(programs, at_bus("1"), BUSES, AT),
            rules.unsubscribe(subscribed("1"), at_bus("1"), BUSES, AT),
            rules.execute(programs, run(), AT),
            rules.delete(executing("1"), named("peak_shaving"), AT),
        ):
            for event in change.events:
                [line] = log_lines(event, change.program, None)
                said.append(line.removeprefix("2026-11-22T10:00:00+00:00 ieee123 "))
        unseen = "the solver did not show it in time"
        assert said == [
            "peak_shaving (number 1) registered: minimum 30 kW, power factor 0.95",
            "peak_shaving (number 1) subscribed: bus 1",
            "peak_shaving (number 1) unsubscribed: bus 1",
            f"peak_shaving (number 1) executed: revision 1, 0 buses; {unseen}",
            "peak_shaving (number 1) stopped",
            "peak_shaving (number 1) deleted",
        ]
