"""The registry on a real store: whatever several managers do in turn, the store holds what one
plain model holds, also where a write or its reply is lost on the way, or a request comes again.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from stores import Fault, Store, Way

from schemas.commands import ManagerCommand
from schemas.errors import ErrorCode, Refusal
from schemas.programs import (
    DeleteProgram,
    ExecuteProgram,
    ProgramName,
    RegisterProgram,
    Registration,
    Run,
    StopProgram,
    Subscribe,
    SubscriptionChange,
    Unsubscribe,
    Update,
    UpdateProgram,
)
from schemas.wire import canonical
from services.dfp_manager import handlers, layout
from services.dfp_manager import programs as rules
from services.dfp_manager.attempt import Attempt
from services.dfp_manager.decided import Decided, encode
from services.dfp_manager.handlers import Context, Decision
from services.dfp_manager.layout import BOUNDS, HISTORY_S, MEMORY_S, Bounds
from services.dfp_manager.programs import Change, FeederPrograms, adjustments
from services.dfp_manager.registry import Registry, StoreAway, WriteUnknown
from services.once import REMEMBERED_S
from services.outcomes import Done, digest

FEEDER = "ieee123"
AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BUSES = {"1": "1", "4": "4", "sourcebus": "SourceBus"}

REGISTER = RegisterProgram(name="a", min_power_kw=30.0, target_pf=0.95, request_id="r1")
DELETE = DeleteProgram(name="a", request_id="r0")

REPEATED = "answered as before"

MOST_REMEMBERED = 3
"""Requests that the managers remember here."""

Decide = Callable[[FeederPrograms], Change]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as started:
        yield started


@pytest.fixture
def way(store: Store) -> Iterator[Way]:
    with store.client() as client:
        client.flushall()
    with Way(store) as opened:
        yield opened


@pytest.fixture
def registry(way: Way) -> Iterator[Registry]:
    opened = Registry(way.url)
    opened.refresh()
    yield opened
    opened.close()


Start = Callable[..., Registry]


@pytest.fixture
def start(way: Way) -> Iterator[Start]:
    """Starts more of them; all are closed in the end, as the way wants it."""
    with ExitStack() as stack:

        def opened(bounds: Bounds = BOUNDS, kind: type[Registry] = Registry) -> Registry:
            registry = kind(way.url, bounds)
            stack.callback(registry.close)
            return registry

        yield opened


def register(name: str, min_power_kw: float = 30.0) -> Decide:
    asked = Registration(name=name, min_power_kw=min_power_kw, target_pf=0.95)
    return lambda held: rules.register(held, asked, AT)


def update(name: str, min_power_kw: float) -> Decide:
    asked = Update(name=name, min_power_kw=min_power_kw, target_pf=0.95)
    return lambda held: rules.update(held, asked, AT)


def delete(name: str) -> Decide:
    return lambda held: rules.delete(held, ProgramName(name=name), AT)


def subscribe(name: str, bus: str) -> Decide:
    asked = SubscriptionChange(bus_name=bus, dfp_name=name)
    return lambda held: rules.subscribe(held, asked, BUSES, AT)


def unsubscribe(name: str, bus: str) -> Decide:
    asked = SubscriptionChange(bus_name=bus, dfp_name=name)
    return lambda held: rules.unsubscribe(held, asked, BUSES, AT)


def execute(name: str) -> Decide:
    return lambda held: rules.execute(held, Run(dfp_name=name), AT)


def stop(name: str) -> Decide:
    return lambda held: rules.stop(held, Run(dfp_name=name), AT + timedelta(minutes=1))


def change(registry: Registry, *decides: Decide) -> None:
    for decide in decides:
        registry.change(FEEDER, partial(_changed, decide))


def _changed(decide: Decide, held: FeederPrograms) -> FeederPrograms:
    return decide(held).programs


def carried_out(
    registry: Registry,
    command: ManagerCommand,
    at: datetime = AT,
    buses: Mapping[str, str] | None = BUSES,
) -> Attempt:
    """What became of a command that a manager was asked for."""
    context = Context(buses, at)
    attempt = Attempt(command, lambda held: handlers.decide(command, held, context), at)
    registry.carry_out(FEEDER, attempt.request_id, attempt.write)
    return attempt


def loaded(store: Store) -> FeederPrograms:
    """What a manager that starts now finds."""
    fresh = Registry(store.url)
    try:
        fresh.refresh()
        return fresh.programs(FEEDER)
    finally:
        fresh.close()


@dataclass
class ModelProgram:
    """What the plain model knows of a program."""

    name: str
    number: int
    min_power_kw: float
    buses: set[str] = field(default_factory=set)
    is_executing: bool = False
    runs: int = 0

    def seen(self) -> tuple[Any, ...]:
        return (
            self.name,
            self.number,
            self.min_power_kw,
            frozenset(self.buses),
            self.is_executing,
            min(self.runs, rules.MOST_EXECUTIONS),
        )


class Model:
    """Programs and requests as a person would keep them on a sheet of paper."""

    def __init__(self) -> None:
        self.programs: dict[str, ModelProgram] = {}
        self.kept: dict[str, Decided] = {}
        """What the last requests came to, oldest first."""
        self.horizon = 0.0
        """When the last one was decided that is forgotten, in epoch seconds."""
        self.registered = 0
        self.revision = 0
        self._in_force = self.in_force()

    def in_force(self) -> dict[int, dict[str, float]]:
        """What each executing program asks of each of its buses, in kW."""
        return {
            program.number: dict.fromkeys(program.buses, program.min_power_kw)
            for program in self.programs.values()
            if program.is_executing
        }

    def of(self, name: str, effect: Callable[[ModelProgram], None]) -> Callable[[], str]:
        """An effect on a program, if there is one of that name, and what it comes to."""

        def outcome() -> str:
            program = self.programs.get(canonical(name))
            if program is None:
                return ErrorCode.PROGRAM_NOT_FOUND
            effect(program)
            return "success"

        return outcome

    def expected(self, command: ManagerCommand, effect: Callable[[], str]) -> str:
        """What a command comes to, with its effect if it has one; one without an id is always
        carried out, as its deadline is looked at before.
        """
        if command.request_id is None:
            return effect()
        known = self.kept.get(command.request_id)
        if known is not None:
            return REPEATED if known.digest == digest(command) else ErrorCode.REQUEST_ID_REUSED
        if command.issued_at is not None and command.issued_at.timestamp() <= self.horizon:
            return ErrorCode.REQUEST_TOO_OLD
        return ErrorCode.DEADLINE_PASSED if command.deadline is not None else effect()

    def remember(self, decided: Decided) -> None:
        self.kept[decided.request_id] = decided
        if len(self.kept) > MOST_REMEMBERED:
            oldest = next(iter(self.kept))
            self.horizon = self.kept.pop(oldest).at

    def done(self) -> None:
        """After each command: the revision counts the changes of what is in force."""
        if self.in_force() != self._in_force:
            self._in_force = self.in_force()
            self.revision += 1

    def seen(self) -> list[tuple[Any, ...]]:
        return sorted(program.seen() for program in self.programs.values())


def seen(held: FeederPrograms) -> list[tuple[Any, ...]]:
    """The same of a registry."""
    return sorted(
        (
            program.name,
            program.number,
            program.min_power_kw,
            frozenset(program.subscriptions),
            program.executing,
            len(program.executions),
        )
        for program in held.by_number.values()
    )


class Asking(NamedTuple):
    """How a command is asked for: of which manager, under which id, issued how long ago in s."""

    manager: int
    request_id: str | None
    age_s: float | None
    is_late: bool
    fault: Fault | None


class Managers(RuleBasedStateMachine):
    """Two managers that know nothing of each other, restart, lose what they send, and remember the
    last three requests.
    """

    def __init__(self, store: Store) -> None:
        super().__init__()
        with store.client() as client:
            client.flushall()
        self._open = ExitStack()
        self._way = self._open.enter_context(Way(store))
        self._client = self._open.enter_context(store.client())
        self._managers = [self._started(), self._started()]
        self._model = Model()
        self._now = AT

    def _started(self) -> Registry:
        registry = Registry(self._way.url, Bounds(requests=MOST_REMEMBERED))
        registry.refresh()
        return registry

    def teardown(self) -> None:
        for manager in self._managers:
            manager.close()
        self._open.close()

    names = st.sampled_from(["a", "A", "b", "c"])
    buses = st.sampled_from(["1", "4", "sourcebus", "SourceBus"])
    powers = st.sampled_from([0.0, 10.0, 30.0])
    asking = st.builds(
        Asking,
        manager=st.integers(0, 1),
        request_id=st.sampled_from([None, None, "r1", "r2", "r3", "r4", "r5"]),
        age_s=st.sampled_from([None, None, 0.0, 2.5, 8.5]),
        is_late=st.sampled_from([False, False, False, True]),
        fault=st.sampled_from([None, None, None, "request lost", "request late", "reply lost"]),
    )

    def _ask(self, how: Asking, command: ManagerCommand, effect: Callable[[], str]) -> None:
        """Ask for something that has an effect, and comes to what ``effect`` says, where it is
        carried out; a request that was held back arrives after all.
        """
        self._now += timedelta(seconds=1)
        update: dict[str, Any] = {"request_id": how.request_id}
        if how.age_s is not None:
            update["issued_at"] = self._now - timedelta(seconds=how.age_s)
        if how.is_late:
            update["deadline"] = self._now - timedelta(seconds=1)
        command = command.model_copy(update=update)
        known = self._model.kept.get(how.request_id or "")
        expected = self._model.expected(command, effect)
        came_to, decided = self._attempted(how, command)
        assert came_to == expected
        if expected == REPEATED:
            assert known is not None
            assert decided is not None
            assert encode(decided) == encode(known)
        elif decided is not None:
            self._model.remember(decided)

    def _attempted(self, how: Asking, command: ManagerCommand) -> tuple[str, Decided | None]:
        """Success, that it was repeated, or the code of the refusal; and what is remembered."""
        self._way.fault = how.fault
        try:
            attempt = carried_out(self._managers[how.manager], command, self._now)
        except Refusal as refusal:
            return refusal.code, None
        finally:
            self._way.fault = None
            self._way.deliver_late()
        if attempt.refusal is not None:
            return attempt.refusal.code, attempt.decided
        return "success" if attempt.decision is not None else REPEATED, attempt.decided

    @rule(how=asking, name=names, kw=powers)
    def register(self, how: Asking, name: str, kw: float) -> None:
        model = self._model

        def effect() -> str:
            if canonical(name) in model.programs:
                return ErrorCode.ALREADY_EXISTS
            model.registered += 1
            model.programs[canonical(name)] = ModelProgram(name, model.registered, kw)
            return "success"

        self._ask(how, RegisterProgram(name=name, min_power_kw=kw, target_pf=0.95), effect)

    @rule(how=asking, name=names, kw=powers)
    def update(self, how: Asking, name: str, kw: float) -> None:
        def effect(program: ModelProgram) -> None:
            program.min_power_kw = kw

        command = UpdateProgram(name=name, min_power_kw=kw, target_pf=0.95)
        self._ask(how, command, self._model.of(name, effect))

    @rule(how=asking, name=names)
    def delete(self, how: Asking, name: str) -> None:
        def effect(_program: ModelProgram) -> None:
            del self._model.programs[canonical(name)]

        self._ask(how, DeleteProgram(name=name), self._model.of(name, effect))

    @rule(how=asking, name=names, bus=buses)
    def subscribe(self, how: Asking, name: str, bus: str) -> None:
        def effect(program: ModelProgram) -> None:
            program.buses.add(BUSES[canonical(bus)])

        self._ask(how, Subscribe(bus_name=bus, dfp_name=name), self._model.of(name, effect))

    @rule(how=asking, name=names, bus=buses)
    def unsubscribe(self, how: Asking, name: str, bus: str) -> None:
        def effect(program: ModelProgram) -> None:
            program.buses.discard(BUSES[canonical(bus)])

        self._ask(how, Unsubscribe(bus_name=bus, dfp_name=name), self._model.of(name, effect))

    @rule(how=asking, name=names)
    def execute(self, how: Asking, name: str) -> None:
        def effect(program: ModelProgram) -> None:
            program.runs += not program.is_executing
            program.is_executing = True

        self._ask(how, ExecuteProgram(dfp_name=name), self._model.of(name, effect))

    @rule(how=asking, name=names)
    def stop(self, how: Asking, name: str) -> None:
        def effect(program: ModelProgram) -> None:
            program.is_executing = False

        self._ask(how, StopProgram(dfp_name=name), self._model.of(name, effect))

    @rule(how=asking)
    def what_an_execution_did_is_noted(self, how: Asking) -> None:
        """In its place: it is remembered no longer for that."""
        decided = self._model.kept.get(how.request_id or "")
        if decided is None or decided.is_whole:
            return
        whole = replace(decided, outcome=Done("shed 5 kW"), is_whole=True)
        self._way.fault = how.fault
        self._managers[how.manager].change(FEEDER, lambda held: held, whole)
        self._way.fault = None
        self._way.deliver_late()
        self._model.kept[whole.request_id] = whole

    @rule(manager=st.integers(0, 1))
    def restart(self, manager: int) -> None:
        self._managers[manager].close()
        self._managers[manager] = self._started()

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        self._model.done()
        for manager in self._managers:
            manager.refresh()
            held = manager.programs(FEEDER)
            assert seen(held) == self._model.seen()
            assert held.revision == self._model.revision
            assert {
                program.number: {bus.bus: bus.max_kw for bus in program.buses}
                for program in adjustments(held).programs
            } == self._model.in_force()

    @invariant()
    def it_remembers_what_the_model_remembers_and_has_counted_it_right(self) -> None:
        records = self._client.hgetall(layout.requests_key(FEEDER))
        order = self._client.lrange(layout.order_key(FEEDER), 0, -1)
        assert [each.decode().split(" ")[1] for each in order] == list(self._model.kept)
        kept = self._model.kept.items()
        assert {id_.decode(): record for id_, record in records.items()} == {
            request_id: encode(decided) for request_id, decided in kept
        }
        counted = int(self._client.hget(layout.head_key(FEEDER), "bytes") or 0)
        assert counted == sum(map(len, records.values()))


def test_whatever_two_managers_do_the_store_holds_what_one_model_holds(store: Store) -> None:
    """No change is ever lost or done twice: neither where a reply is lost, nor where a request
    comes again.
    """
    few = settings(max_examples=60, stateful_step_count=40)
    run_state_machine_as_test(
        lambda: Managers(store),  # type: ignore[arg-type]  # whatever makes one will do
        settings=few,
    )


class TestAReplyThatIsLost:
    def test_a_write_that_was_done_counts_as_done(self, registry: Registry, way: Way) -> None:
        way.fault = "reply lost"
        change(registry, register("a"))
        assert way.has_failed(), "it was lost"
        assert list(registry.programs(FEEDER).by_number) == [1]

    @pytest.mark.parametrize("fault", ["request lost", "request late"])
    def test_a_write_that_was_not_is_done_again(
        self, registry: Registry, way: Way, store: Store, fault: Fault
    ) -> None:
        way.fault = fault
        change(registry, register("a"), register("b"))
        way.deliver_late()
        assert [program.name for program in loaded(store).by_number.values()] == ["a", "b"]

    @pytest.mark.parametrize(
        ("fault", "is_done"),
        [("reply lost", True), ("request lost", False), ("request late", False)],
    )
    def test_while_the_store_is_away_it_is_unknown_and_nothing_else_is_done(
        self, registry: Registry, way: Way, store: Store, fault: Fault, is_done: bool
    ) -> None:
        change(registry, register("a"))
        way.fault = fault
        way.is_closed = True  # for connections that are opened from now on
        with pytest.raises(WriteUnknown):
            change(registry, register("b"))
        assert list(registry.unknown) == [FEEDER]
        with pytest.raises(StoreAway):
            registry.settle(FEEDER)
        with pytest.raises(StoreAway):
            change(registry, register("c"))
        way.is_closed = False
        with pytest.raises(StoreAway):
            change(registry, register("c"))
        assert registry.settle(FEEDER) is is_done
        way.deliver_late()
        registry.refresh()
        assert registry.unknown == ()
        assert len(registry.programs(FEEDER).by_number) == 1 + is_done
        assert loaded(store) == registry.programs(FEEDER)

    def test_other_feeders_are_served_meanwhile(self, registry: Registry, way: Way) -> None:
        way.fault = "reply lost"
        way.is_closed = True
        with pytest.raises(WriteUnknown):
            change(registry, register("a"))
        way.is_closed = False
        registry.change("ieee13", lambda held: register("b")(held).programs)
        registry.refresh()
        assert registry.feeders == ("ieee13",)
        assert registry.unknown == (FEEDER,)


class TestAStoreThatIsAway:
    def test_nothing_is_changed_and_it_heals_by_itself(self, way: Way, store: Store) -> None:
        registry = Registry(way.url)
        way.is_closed = True
        for attempt in (registry.refresh, lambda: change(registry, register("a"))):
            with pytest.raises(StoreAway):
                attempt()
        assert registry.unknown == ()
        way.is_closed = False
        change(registry, register("a"))
        registry.close()
        assert list(loaded(store).by_number) == [1]

    def test_one_that_hangs_counts_as_away(self, registry: Registry, store: Store) -> None:
        store.freeze()
        try:
            with pytest.raises(StoreAway):
                change(registry, register("a"))
        finally:
            store.thaw()
        change(registry, register("a"))
        assert list(registry.programs(FEEDER).by_number) == [1]

    @pytest.mark.parametrize(
        ("key", "value"), [("1", b"nonsense"), ("1", b"{}"), ("1", b"[]"), ("one", b"{}")]
    )
    def test_what_is_no_registry_is_not_taken_for_an_empty_one(
        self, registry: Registry, store: Store, key: str, value: bytes
    ) -> None:
        change(registry, register("a"))
        before = registry.programs(FEEDER)
        with store.client() as client:
            client.hset(f"flexfeeder:{FEEDER}:dfp", "stamp", "another")
            client.hset(f"flexfeeder:{FEEDER}:dfp:programs", key, value)
        with pytest.raises(StoreAway):
            registry.refresh()
        with pytest.raises(StoreAway):
            change(registry, register("b"))
        assert registry.programs(FEEDER) is before


class TestWhatIsKept:
    def test_a_restart_finds_everything_to_the_last_digit(
        self, registry: Registry, store: Store
    ) -> None:
        change(registry, register("a", 0.1 + 0.2), subscribe("a", "sourcebus"), execute("a"))
        change(registry, register("b"), stop("a"), execute("a"), delete("b"))
        assert loaded(store) == registry.programs(FEEDER)
        assert registry.programs(FEEDER).by_number[1].min_power_kw == 0.1 + 0.2

    def test_what_another_manager_changes_is_taken_over(self, registry: Registry, way: Way) -> None:
        other = Registry(way.url)
        change(other, register("a"))
        registry.refresh()
        assert registry.feeders == (FEEDER,)
        assert registry.programs(FEEDER) == other.programs(FEEDER)
        other.close()

    def test_a_store_that_was_emptied_is_an_empty_registry(
        self, registry: Registry, store: Store
    ) -> None:
        change(registry, register("a"))
        with store.client() as client:
            client.flushall()
        registry.refresh()
        assert registry.programs(FEEDER) == FeederPrograms(FEEDER)

    def test_each_key_is_permanent_but_history_and_requests(
        self, registry: Registry, store: Store
    ) -> None:
        """The history of what no longer executes, that is."""
        change(registry, register("a"), register("b"), execute("a"), execute("b"), stop("b"))
        registry.change(FEEDER, lambda held: rules.with_shed(held, 1, 1, 5.0))
        carried_out(registry, UpdateProgram(name="b", min_power_kw=1, target_pf=1, request_id="r"))
        prefix = f"flexfeeder:{FEEDER}:dfp"
        permanent = -1
        with store.client() as client:
            kept = {key.decode(): client.ttl(key) for key in client.scan_iter()}
        assert 0 <= HISTORY_S - kept.pop(f"{prefix}:executions:2") < 60
        assert 0 <= MEMORY_S - kept.pop(f"{prefix}:requests") < 60
        assert 0 <= MEMORY_S - kept.pop(f"{prefix}:requests:order") < 60
        assert MEMORY_S > REMEMBERED_S
        assert kept == {
            "flexfeeder:dfp:feeders": permanent,
            prefix: permanent,
            f"{prefix}:programs": permanent,
            f"{prefix}:executions:1": permanent,
        }

    def test_the_history_is_bounded_and_goes_with_its_program(
        self, registry: Registry, store: Store
    ) -> None:
        change(registry, register("a"))
        for _ in range(25):
            change(registry, execute("a"), stop("a"))
        key = f"flexfeeder:{FEEDER}:dfp:executions:1"
        with store.client() as client:
            assert client.llen(key) == 20
            assert loaded(store) == registry.programs(FEEDER)
            change(registry, delete("a"))
            assert not client.exists(key)


class TestWhatRequestsCameTo:
    def test_it_is_written_with_what_they_did(
        self, registry: Registry, way: Way, start: Start
    ) -> None:
        """Whoever asks next finds both, though nobody has heard of the first one."""
        way.fault, way.is_closed = "reply lost", True
        with pytest.raises(WriteUnknown):
            carried_out(registry, REGISTER)
        way.is_closed = False
        next_one = start()
        again = carried_out(next_one, REGISTER)
        assert again.decision is None
        assert again.decided is not None
        program = again.programs.by_number[1].model_dump(mode="json")
        assert again.decided.outcome == Done("program a registered as number 1", (), program)
        assert len(next_one.programs(FEEDER).by_number) == 1

    def test_a_refusal_stays_one_though_it_would_be_accepted_now(self, registry: Registry) -> None:
        refused = carried_out(registry, DELETE)
        assert refused.refusal is not None
        carried_out(registry, REGISTER)
        again = carried_out(registry, DELETE)
        assert again.decided is not None
        assert isinstance(again.decided.outcome, Refusal)
        assert again.decided.outcome.code is ErrorCode.PROGRAM_NOT_FOUND
        assert len(registry.programs(FEEDER).by_number) == 1

    def test_what_is_no_answer_for_good_is_not_remembered(self, registry: Registry) -> None:
        carried_out(registry, REGISTER)
        command = Subscribe(bus_name="1", dfp_name="a", request_id="r2")
        with pytest.raises(Refusal) as refused:
            carried_out(registry, command, buses=None)
        assert refused.value.code is ErrorCode.SERVICE_UNAVAILABLE
        assert carried_out(registry, command).decision is not None

    def test_of_two_managers_that_are_asked_at_once_one_carries_it_out(
        self, registry: Registry, start: Start
    ) -> None:
        """The other one finds what came of it, also if it came between looking and deciding."""
        other = start()
        meanwhile = [REGISTER]

        def decide(held: FeederPrograms) -> Decision:
            while meanwhile:
                carried_out(other, meanwhile.pop())
            return handlers.decide(REGISTER, held, Context(BUSES, AT))

        attempt = Attempt(REGISTER, decide, AT)
        registry.carry_out(FEEDER, attempt.request_id, attempt.write)
        assert attempt.decision is None
        assert attempt.refusal is None
        assert attempt.decided is not None
        assert list(registry.programs(FEEDER).by_number) == [1]

    @pytest.mark.parametrize("is_up_to_date", [False, True])
    def test_nor_is_it_carried_out_twice_where_the_other_comes_between_two_looks(
        self, start: Start, *, is_up_to_date: bool
    ) -> None:
        other = start()
        meanwhile = [REGISTER]

        class Slow(Registry):
            def _look_up(self, *asked: Any) -> Any:
                found = super()._look_up(*asked)
                while meanwhile:
                    carried_out(other, meanwhile.pop())
                return found

        slow = start(kind=Slow)
        carried_out(other, DELETE)
        if is_up_to_date:
            slow.refresh()
        again = carried_out(slow, REGISTER)
        assert again.decision is None
        assert again.refusal is None
        assert list(slow.programs(FEEDER).by_number) == [1]

    def test_a_day_later_it_is_forgotten_and_not_carried_out_again(
        self, registry: Registry, store: Store
    ) -> None:
        issued = REGISTER.model_copy(update={"issued_at": AT})
        carried_out(registry, issued)
        day = timedelta(seconds=REMEMBERED_S)
        delete = DELETE.model_copy(update={"request_id": "r2"})
        carried_out(registry, delete, AT + day)
        assert carried_out(registry, issued, AT + day).decided is not None, "it is still known"
        second = timedelta(seconds=1)
        carried_out(registry, delete.model_copy(update={"request_id": "r3"}), AT + day + second)
        with store.client() as client:
            assert set(client.hkeys(layout.requests_key(FEEDER))) == {b"r2", b"r3"}
        with pytest.raises(Refusal) as refused:
            carried_out(registry, issued, AT + day + second)
        assert refused.value.code is ErrorCode.REQUEST_TOO_OLD

    def test_also_where_the_store_has_let_all_of_it_lapse(
        self, registry: Registry, store: Store
    ) -> None:
        issued = REGISTER.model_copy(update={"issued_at": AT})
        carried_out(registry, issued)
        with store.client() as client:
            client.delete(layout.requests_key(FEEDER), layout.order_key(FEEDER))
        with pytest.raises(Refusal) as refused:
            carried_out(registry, issued, AT + timedelta(seconds=REMEMBERED_S))
        assert refused.value.code is ErrorCode.REQUEST_TOO_OLD
        carried_out(registry, DELETE, AT + timedelta(seconds=REMEMBERED_S))
        with store.client() as client:
            [record] = client.hvals(layout.requests_key(FEEDER))
            assert int(client.hget(layout.head_key(FEEDER), "bytes") or 0) == len(record)

    def test_how_far_back_it_is_remembered_outlives_those_who_remember(self, start: Start) -> None:
        few = start(Bounds(requests=2))
        for number in range(3):
            issued_at = AT + timedelta(seconds=number)
            name = {"name": f"p{number}", "request_id": f"r{number}", "issued_at": issued_at}
            carried_out(few, REGISTER.model_copy(update=name), issued_at)
        few.close()
        fresh = start()
        late = AT + timedelta(hours=1)
        old = REGISTER.model_copy(update={"request_id": "r9", "issued_at": AT})
        with pytest.raises(Refusal) as refused:
            carried_out(fresh, old, late)
        assert refused.value.code is ErrorCode.REQUEST_TOO_OLD
        newer = old.model_copy(update={"issued_at": AT + timedelta(seconds=0.5)})
        assert carried_out(fresh, newer, late).decision is not None

    def test_its_bytes_are_bounded_too(self, start: Start, store: Store) -> None:
        narrow = start(Bounds(bytes=2000))
        for number in range(20):
            name = {"name": f"p{number}", "request_id": f"r{number}"}
            carried_out(narrow, REGISTER.model_copy(update=name))
            with store.client() as client:
                assert sum(map(len, client.hvals(layout.requests_key(FEEDER)))) <= 2000
        with store.client() as client:
            order = client.lrange(layout.order_key(FEEDER), 0, -1)
            assert order[-1].endswith(b" r19")
            assert len(order) == client.hlen(layout.requests_key(FEEDER)) > 2

    def test_much_is_forgotten_little_by_little(self, registry: Registry, store: Store) -> None:
        """The store serves nobody else while it forgets."""
        old = {f"r{number}": b"{}" for number in range(1500)}
        with store.client() as client:
            client.hset(layout.requests_key(FEEDER), mapping=old)
            client.rpush(layout.order_key(FEEDER), *(f"1.0 {id_}" for id_ in old))
            client.hset(layout.head_key(FEEDER), "bytes", 2 * len(old))
            for left in (501, 2):
                name = {"name": f"p{left}", "request_id": f"new-{left}"}
                carried_out(registry, REGISTER.model_copy(update=name))
                assert client.hlen(layout.requests_key(FEEDER)) == left

    def test_what_cannot_be_read_is_no_answer_and_concerns_no_other_request(
        self, registry: Registry, store: Store
    ) -> None:
        carried_out(registry, REGISTER)
        with store.client() as client:
            client.hset(layout.requests_key(FEEDER), "r1", b"nonsense")
        with pytest.raises(StoreAway):
            carried_out(registry, REGISTER)
        assert carried_out(registry, DELETE).decision is not None
