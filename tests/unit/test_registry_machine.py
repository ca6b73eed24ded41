"""The registry on a real store: whatever several managers do in turn, the store holds what one
plain model holds, also where a write or its reply is lost on the way.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from stores import Fault, Store, Way

from schemas.errors import ErrorCode, Refusal
from schemas.programs import ProgramName, Registration, Run, SubscriptionChange, Update
from schemas.wire import canonical
from services.dfp_manager import programs as rules
from services.dfp_manager.programs import Change, FeederPrograms, adjustments
from services.dfp_manager.registry import HISTORY_S, Registry, StoreAway, WriteUnknown

FEEDER = "ieee123"
AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BUSES = {"1": "1", "4": "4", "sourcebus": "SourceBus"}

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
        registry.change(FEEDER, lambda held, decide=decide: decide(held).programs)


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
    """Programs as a person would keep them on a sheet of paper."""

    def __init__(self) -> None:
        self.programs: dict[str, ModelProgram] = {}
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


class Managers(RuleBasedStateMachine):
    """Two managers that know nothing of each other, restart, and lose what they send."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        with store.client() as client:
            client.flushall()
        self._open = ExitStack()
        self._way = self._open.enter_context(Way(store))
        self._managers = [self._started(), self._started()]
        self._model = Model()

    def _started(self) -> Registry:
        registry = Registry(self._way.url)
        registry.refresh()
        return registry

    def teardown(self) -> None:
        for manager in self._managers:
            manager.close()
        self._open.close()

    managers = st.integers(0, 1)
    names = st.sampled_from(["a", "A", "b", "c"])
    buses = st.sampled_from(["1", "4", "sourcebus", "SourceBus"])
    powers = st.sampled_from([0.0, 10.0, 30.0])
    faults = st.sampled_from([None, None, None, "request lost", "request late", "reply lost"])

    def _ask(self, manager: int, decide: Decide, fault: Fault | None) -> str:
        """Success, or the code of the refusal; a request that was held back arrives after all."""
        self._way.fault = fault
        registry = self._managers[manager]
        try:
            registry.change(FEEDER, lambda held: decide(held).programs)
        except Refusal as refusal:
            return refusal.code
        finally:
            self._way.fault = None
            self._way.deliver_late()
        return "success"

    @rule(manager=managers, name=names, kw=powers, fault=faults)
    def register(self, manager: int, name: str, kw: float, fault: Fault | None) -> None:
        model = self._model
        expected = "success"
        if canonical(name) in model.programs:
            expected = ErrorCode.ALREADY_EXISTS
        else:
            model.registered += 1
            model.programs[canonical(name)] = ModelProgram(name, model.registered, kw)
        assert self._ask(manager, register(name, kw), fault) == expected

    @rule(manager=managers, name=names, kw=powers, fault=faults)
    def update(self, manager: int, name: str, kw: float, fault: Fault | None) -> None:
        program = self._model.programs.get(canonical(name))
        if program is not None:
            program.min_power_kw = kw
        self._agree(program, self._ask(manager, update(name, kw), fault))

    @rule(manager=managers, name=names, fault=faults)
    def delete(self, manager: int, name: str, fault: Fault | None) -> None:
        program = self._model.programs.pop(canonical(name), None)
        self._agree(program, self._ask(manager, delete(name), fault))

    @rule(manager=managers, name=names, bus=buses, fault=faults)
    def subscribe(self, manager: int, name: str, bus: str, fault: Fault | None) -> None:
        program = self._model.programs.get(canonical(name))
        if program is not None:
            program.buses.add(BUSES[canonical(bus)])
        self._agree(program, self._ask(manager, subscribe(name, bus), fault))

    @rule(manager=managers, name=names, bus=buses, fault=faults)
    def unsubscribe(self, manager: int, name: str, bus: str, fault: Fault | None) -> None:
        program = self._model.programs.get(canonical(name))
        if program is not None:
            program.buses.discard(BUSES[canonical(bus)])
        self._agree(program, self._ask(manager, unsubscribe(name, bus), fault))

    @rule(manager=managers, name=names, fault=faults)
    def execute(self, manager: int, name: str, fault: Fault | None) -> None:
        program = self._model.programs.get(canonical(name))
        if program is not None:
            program.runs += not program.is_executing
            program.is_executing = True
        self._agree(program, self._ask(manager, execute(name), fault))

    @rule(manager=managers, name=names, fault=faults)
    def stop(self, manager: int, name: str, fault: Fault | None) -> None:
        program = self._model.programs.get(canonical(name))
        if program is not None:
            program.is_executing = False
        self._agree(program, self._ask(manager, stop(name), fault))

    @rule(manager=managers)
    def restart(self, manager: int) -> None:
        self._managers[manager].close()
        self._managers[manager] = self._started()

    def _agree(self, program: ModelProgram | None, outcome: str) -> None:
        assert outcome == (ErrorCode.PROGRAM_NOT_FOUND if program is None else "success")

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


def test_whatever_two_managers_do_the_store_holds_what_one_model_holds(store: Store) -> None:
    """Neither a change nor a lost reply is ever lost or done twice."""
    few = settings(max_examples=60, stateful_step_count=40)
    run_state_machine_as_test(lambda: Managers(store), settings=few)


class TestAReplyThatIsLost:
    def test_a_write_that_was_done_counts_as_done(self, registry: Registry, way: Way) -> None:
        way.fault = "reply lost"
        change(registry, register("a"))
        assert way.fault is None, "it was lost"
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
        assert registry.unknown == (FEEDER,)
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

    def test_each_key_is_permanent_but_the_history_of_what_no_longer_executes(
        self, registry: Registry, store: Store
    ) -> None:
        change(registry, register("a"), register("b"), execute("a"), execute("b"), stop("b"))
        registry.change(FEEDER, lambda held: rules.with_shed(held, 1, 1, 5.0))
        prefix = f"flexfeeder:{FEEDER}:dfp"
        permanent = -1
        with store.client() as client:
            kept = {key.decode(): client.ttl(key) for key in client.scan_iter()}
        assert 0 <= HISTORY_S - kept.pop(f"{prefix}:executions:2") < 60
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
