"""The checker finds each thing that can be wrong in a history made by hand, and nothing in one
where all is well.
"""

from collections.abc import Sequence
from typing import Any

from chaos.checker import check
from chaos.explain import explained
from chaos.history import Answer, Attempt, Ending, Happened, History, Past
from chaos.operations import Kind, Operation
from chaos.sight import view_of
from chaos.violations import Violation, Wrong
from chaos.world import World

LOADS = {("1", "Load_1"): 40.0, ("2", "Load_2"): 20.0}
PIN = Kind.PIN, {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0}
RELEASE = Kind.RELEASE, {"bus_name": "1"}
FACTOR = Kind.BUS_FACTOR, {"bus_name": "1", "factor": 0.5}
ADD_DEVICE = Kind.ADD_DEVICE, {"bus_name": "1", "device_name": "ev", "kw": 7.0}
DISCONNECT = Kind.DISCONNECT_DEVICE, {"bus_name": "1", "device_name": "ev"}
ADD_GENERATOR = Kind.ADD_GENERATOR, {"bus_name": "1", "kw": 3.0}
REGISTER = Kind.REGISTER, {"name": "program_peak", "min_power_kw": 10.0, "target_pf": 0.9}
SUBSCRIBE = Kind.SUBSCRIBE, {"bus_name": "1", "dfp_name": "program_peak"}
EXECUTE = Kind.EXECUTE, {"dfp_name": "program_peak"}
STOP = Kind.STOP, {"dfp_name": "program_peak"}

NO_REPLY = "no reply in time"
AWAY = Answer("error", "service_unavailable", "the solver is away")

Elements = list[dict[str, Any]]


def consumer(
    name: str, demand_kw: float, *, factor: float = 1.0, source: str = "nominal", set_kw: float = -1
) -> dict[str, Any]:
    """A load or device; what is set is what is demanded unless told."""
    return {
        "name": name,
        "demand_kw": demand_kw,
        "set_kw": demand_kw if set_kw < 0 else set_kw,
        "factor": factor,
        "source": source,
        "held_by": ["program_peak"] if set_kw >= 0 else [],
    }


def generator(name: str, kw: float) -> dict[str, Any]:
    shown = {"name": name, "available_kw": kw, "set_kw": kw, "source": "nominal", "held_by": []}
    return dict(shown)


NOMINAL = consumer("Load_1", 40.0)
PINNED = consumer("Load_1", 5.0, source="operator")


def state(
    load: dict[str, Any] = NOMINAL,
    *,
    devices: Sequence[dict[str, Any]] = (),
    generators: Sequence[dict[str, Any]] = (),
    version: int = 100,
    revision: int = 0,
) -> dict[str, Any]:
    """Two buses, the second one as it is by nature; and bus 3, which is nobody's."""
    at_1 = {"loads": [load], "devices": list(devices), "generators": list(generators)}
    at_2 = {"loads": [consumer("Load_2", 20.0)], "devices": [], "generators": []}
    at_3 = {"loads": [consumer("Load_3", 9.0)], "devices": [], "generators": []}
    buses = [{"bus": bus, **each} for bus, each in (("1", at_1), ("2", at_2), ("3", at_3))]
    return {"version": version, "bus_details": buses, "adjustments": {"revision": revision}}


def program(
    number: int = 1, *, buses: Sequence[str] = (), executing: bool = False, executions: int = 0
) -> dict[str, Any]:
    """Program ``program_peak``, as the registry has it."""
    return {
        "name": "program_peak",
        "number": number,
        "description": "",
        "min_power_kw": 10.0,
        "target_pf": 0.9,
        "subscriptions": list(buses),
        "executing": executing,
        "executions": [{}] * executions,
    }


def done(said: Any = None, *, state: dict[str, Any] | None = None, version: int = 1) -> Answer:
    """A success, and the state that the answer carries."""
    view = None if state is None else view_of(state, ("1", "2"))
    return Answer("success", None, "done", said, version, view)


def refused(code: str) -> Answer:
    return Answer("error", code, "no")


class Story:
    """The history of one client, told one attempt after the other."""

    def __init__(self) -> None:
        self.past = Past(World(1, LOADS))
        self.history = History({"c": self.past}, World(None, {("3", "Load_3"): 9.0}, ["3"]))
        self._operations: list[Operation] = []

    def tell(self, wish: tuple[Kind, dict[str, Any]], *outcomes: Answer | str) -> Operation:
        """A new operation, and what came of each attempt at it."""
        kind, body = wish
        operation = Operation("c", len(self._operations) + 1, kind, body)
        self._operations.append(operation)
        for outcome in outcomes:
            self.again(operation, outcome)
        return operation

    def again(self, operation: Operation, outcome: Answer | str) -> None:
        """One more attempt."""
        at = float(len(self.past.attempts))
        self.past.attempts.append(Attempt(operation, at, at + 0.5, outcome))

    def ends(
        self,
        left: dict[str, Any],
        programs: Sequence[dict[str, Any]] = (),
        adjustments: dict[str, Any] | None = None,
    ) -> list[Violation]:
        """What the checker says when this is left."""
        retained = {"revision": 0, "programs": []} if adjustments is None else adjustments
        self.history.ending = Ending(left, list(programs), retained)
        return check(self.history)

    def wrongs(self, left: dict[str, Any], *rest: Any) -> list[Wrong]:
        return [violation.wrong for violation in self.ends(left, *rest)]


class TestInnocent:
    def test_nothing_happened(self) -> None:
        assert Story().ends(state()) == []

    def test_what_is_there_at_the_end_is_what_was_accepted(self) -> None:
        """5 kW pinned, a device of 7 kW, a generator, and a program that leaves bus 1 10 kW: the
        device gives way first, 12 - 10 = 2 kW of it.
        """
        story = Story()
        pin = story.tell(PIN, AWAY, NO_REPLY, done(state=state(PINNED), version=3))
        story.tell(FACTOR, done(version=4))
        story.tell(RELEASE, done(version=5))
        story.again(pin, done(state=state(consumer("Load_1", 20.0, factor=0.5)), version=5))
        story.tell(PIN, done(version=6))
        story.tell(ADD_DEVICE, NO_REPLY, done(version=7))
        story.tell(ADD_DEVICE, refused("already_exists"))
        story.tell(ADD_GENERATOR, done({"generator_name": "generator_1"}, version=8))
        registered = story.tell(REGISTER, done(program()))
        story.again(registered, done(program()))
        story.tell(SUBSCRIBE, done(program(buses=["1"])))
        story.tell(EXECUTE, AWAY, done({"name": "program_peak", "number": 1}))
        left = state(
            consumer("Load_1", 5.0, source="operator", set_kw=5.0),
            devices=[consumer("ev", 7.0, set_kw=5.0)],
            generators=[generator("generator_1", 3.0)],
            revision=1,
        )
        in_force = {"bus": "1", "max_kw": 10.0, "target_pf": 0.9}
        adjustments = {
            "revision": 1,
            "programs": [{"name": "program_peak", "number": 1, "buses": [in_force]}],
        }
        executing = program(buses=["1"], executing=True, executions=1)
        assert story.ends(left, [executing], adjustments) == []

    def test_an_element_that_a_zone_holds_down_may_be_set_to_less(self) -> None:
        held = {**NOMINAL, "set_kw": 33.0, "held_by": ["neighbourhood 1"]}
        assert Story().ends(state(held)) == []

    def test_what_a_message_says_of_the_moment_may_change(self) -> None:
        story = Story()
        first = story.tell(RELEASE, done()._replace(message="done; the solver is late"))
        story.again(first, done())
        assert story.ends(state()) == []

    def test_what_was_refused_was_not_done(self) -> None:
        story = Story()
        story.tell(DISCONNECT, refused("device_not_found"))
        story.tell(EXECUTE, refused("program_not_found"))
        assert story.ends(state()) == []


class TestLost:
    def test_a_pin_that_is_gone_at_the_end(self) -> None:
        story = Story()
        story.tell(PIN, done())
        assert story.wrongs(state()) == [Wrong.LOST]

    def test_a_pin_that_a_later_answer_does_not_show_is_told_once(self) -> None:
        story = Story()
        story.tell(PIN, done(state=state(PINNED)))
        story.tell((Kind.SOLVE, {}), done(state=state()))
        story.tell((Kind.SOLVE, {}), done(state=state()))
        assert story.wrongs(state()) == [Wrong.LOST]

    def test_a_device_that_cannot_be_disconnected(self) -> None:
        story = Story()
        story.tell(ADD_DEVICE, done())
        story.tell(DISCONNECT, refused("device_not_found"))
        assert story.wrongs(state()) == [Wrong.LOST]

    def test_a_device_that_can_be_added_again(self) -> None:
        story = Story()
        story.tell(ADD_DEVICE, done())
        story.tell(ADD_DEVICE, done())
        assert story.wrongs(state(devices=[consumer("ev", 7.0)])) == [Wrong.LOST]

    def test_a_removal_that_did_not_stay(self) -> None:
        story = Story()
        story.tell(ADD_DEVICE, done())
        story.tell(DISCONNECT, done())
        assert story.wrongs(state(devices=[consumer("ev", 7.0)])) == [Wrong.LOST]

    def test_a_generator_whose_name_was_told(self) -> None:
        story = Story()
        story.tell(ADD_GENERATOR, done({"generator_name": "generator_1"}))
        assert story.wrongs(state()) == [Wrong.LOST]

    def test_a_program_and_a_subscription(self) -> None:
        story = Story()
        story.tell(REGISTER, done(program()))
        assert story.wrongs(state()) == [Wrong.LOST]
        story = Story()
        story.tell(REGISTER, done(program()))
        story.tell(SUBSCRIBE, done(program(buses=["1"])))
        assert story.wrongs(state(), [program()]) == [Wrong.LOST]

    def test_the_setpoint_of_a_program_in_force(self) -> None:
        story = Story()
        story.tell(REGISTER, done(program()))
        story.tell(SUBSCRIBE, done(program(buses=["1"])))
        story.tell(EXECUTE, done({"name": "program_peak", "number": 1}))
        in_force = {"bus": "1", "max_kw": 10.0, "target_pf": 0.9}
        adjustments = {
            "revision": 0,
            "programs": [{"name": "program_peak", "number": 1, "buses": [in_force]}],
        }
        executing = program(buses=["1"], executing=True, executions=1)
        assert story.wrongs(state(), [executing], adjustments) == [Wrong.LOST]

    def test_what_belongs_to_nobody_has_changed(self) -> None:
        left = state()
        left["bus_details"][2]["loads"] = [consumer("Load_3", 4.0, factor=0.5)]
        assert Story().wrongs(left) == [Wrong.LOST]


class TestDoubled:
    def test_a_generator_that_nobody_was_told_of(self) -> None:
        """The first attempt was carried out too, under another name."""
        story = Story()
        story.tell(ADD_GENERATOR, NO_REPLY, done({"generator_name": "generator_2"}))
        both = [generator("generator_1", 3.0), generator("generator_2", 3.0)]
        assert story.wrongs(state(generators=both)) == [Wrong.DOUBLED]

    def test_an_addition_that_is_refused_for_what_it_has_done_itself(self) -> None:
        story = Story()
        story.tell(ADD_DEVICE, NO_REPLY, refused("already_exists"))
        assert story.wrongs(state(devices=[consumer("ev", 7.0)])) == [Wrong.DOUBLED]

    def test_a_removal_that_is_refused_for_what_it_has_done_itself(self) -> None:
        story = Story()
        story.tell(ADD_DEVICE, done())
        story.tell(DISCONNECT, NO_REPLY, refused("device_not_found"))
        assert story.wrongs(state()) == [Wrong.DOUBLED]

    def test_a_pin_that_is_back_because_it_was_repeated(self) -> None:
        story = Story()
        pin = story.tell(PIN, done())
        story.tell(RELEASE, done())
        story.again(pin, done())
        assert story.wrongs(state(PINNED)) == [Wrong.DOUBLED]

    def test_a_device_that_is_gone_because_its_removal_was_repeated(self) -> None:
        story = Story()
        story.tell(ADD_DEVICE, done())
        removal = story.tell(DISCONNECT, done())
        story.tell(ADD_DEVICE, done())
        story.again(removal, done())
        assert story.wrongs(state()) == [Wrong.DOUBLED]

    def test_an_execution_that_began_again_because_it_was_repeated(self) -> None:
        story = Story()
        story.tell(REGISTER, done(program()))
        execution = story.tell(EXECUTE, done({"name": "program_peak", "number": 1}))
        story.tell(STOP, done(program(executions=1)))
        story.again(execution, done({"name": "program_peak", "number": 1}))
        executing = program(executing=True, executions=2)
        in_force = {"name": "program_peak", "number": 1, "buses": []}
        adjustments = {"revision": 0, "programs": [in_force]}
        assert story.wrongs(state(), [executing], adjustments) == [Wrong.DOUBLED]


class TestAnswers:
    def test_a_state_without_the_write_that_it_answers(self) -> None:
        story = Story()
        story.tell(PIN, done(state=state()))
        assert story.wrongs(state(PINNED)) == [Wrong.NOT_IN_ANSWER]

    def test_a_refusal_for_a_reason_that_there_is_not(self) -> None:
        story = Story()
        story.tell(DISCONNECT, refused("already_exists"))
        assert story.wrongs(state()) == [Wrong.WRONG_ANSWER]

    def test_another_answer_to_the_same(self) -> None:
        story = Story()
        other = refused("bus_not_found")
        story.tell(DISCONNECT, refused("device_not_found"), other, other)
        assert story.wrongs(state()) == [Wrong.ANSWER_CHANGED]

    def test_an_operation_that_never_gets_one(self) -> None:
        story = Story()
        story.tell(RELEASE, NO_REPLY, AWAY)
        assert story.wrongs(state()) == [Wrong.NEVER_ANSWERED]

    def test_an_error_of_the_service_itself(self) -> None:
        story = Story()
        story.tell(RELEASE, refused("internal_error"), done())
        assert story.wrongs(state()) == [Wrong.INTERNAL_ERROR]


class TestOrder:
    def test_versions_that_fall_in_answers(self) -> None:
        story = Story()
        story.tell(RELEASE, done(version=8))
        story.tell(RELEASE, done(version=7))
        assert story.wrongs(state()) == [Wrong.VERSION_FELL]

    def test_versions_that_fall_before_an_observer(self) -> None:
        story = Story()
        story.history.sightings = {"observer": [4, 5, 5, 4], "another": [1, 9]}
        assert story.wrongs(state()) == [Wrong.VERSION_FELL]

    def test_a_number_that_was_given_out_before(self) -> None:
        story = Story()
        story.history.numbers = {1: "b.7"}
        story.tell(REGISTER, done(program()))
        assert story.wrongs(state(), [program()]) == [Wrong.NUMBER_REUSED]


class TestInForce:
    def test_retained_adjustments_that_are_not_the_registrys(self) -> None:
        adjustments = {"revision": 0, "programs": [{"name": "old", "number": 1, "buses": []}]}
        assert Story().wrongs(state(), [], adjustments) == [Wrong.NOT_IN_FORCE]

    def test_a_state_that_was_solved_with_others(self) -> None:
        adjustments = {"revision": 4, "programs": []}
        assert Story().wrongs(state(revision=3), [], adjustments) == [Wrong.NOT_IN_FORCE]


def test_an_explanation_tells_of_the_operation_its_answers_and_the_kills() -> None:
    story = Story()
    story.tell(PIN, NO_REPLY, done())
    story.tell((Kind.SOLVE, {}), done())
    story.history.happened = [Happened(0.7, "kill solver (4711)"), Happened(99.0, "kill broker")]
    [violation] = story.ends(state())
    lines = list(explained(violation, story.history))
    assert lines[0].startswith("LOST (c): load Load_1 at bus 1 is 40 kW")
    assert [("c.1" in line, "kill solver" in line) for line in lines[1:]] == [
        (True, False),
        (False, True),
        (True, False),
    ]
