"""A real store with the access list that is deployed: each service does its work as its user, and
reaches nothing else.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import redis
from patience import PATIENCE_S
from redis.exceptions import NoPermissionError
from secured import FEEDER, SecuredStore, make_secrets
from stores import be_patient

from flexfeeder.testing import wait_until
from schemas.programs import ProgramName, Registration, Run, SubscriptionChange
from services import store
from services.dfp_manager import layout, programs
from services.dfp_manager.decided import Decided
from services.dfp_manager.layout import BOUNDS, Bounds
from services.dfp_manager.programs import Change, FeederPrograms
from services.dfp_manager.registry import Registry, StoreAway
from services.outcomes import Done
from services.probe import Probe
from services.solver import entries, journal
from services.solver.entries import Barrier
from services.solver.journal import Forgotten, InFlight, Journal

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
BARRIER = entries.encode(Barrier())

Connect = Callable[[str], redis.Redis]


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredStore]:
    make_secrets(tmp_path / "secrets")
    with SecuredStore(tmp_path / "secrets", tmp_path) as started:
        yield started


@pytest.fixture
def connect(secured: SecuredStore) -> Iterator[Connect]:
    """A client of a user, as a service makes one."""
    clients: list[redis.Redis] = []

    def connected(user: str) -> redis.Redis:
        clients.append(store.connect(secured.url_of(user), PATIENCE_S))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


def journal_of(secured: SecuredStore, feeder: str = FEEDER) -> Journal:
    journal = Journal(secured.url_of("solver"), feeder)
    be_patient(journal._store)
    return journal


def registry_of(secured: SecuredStore, bounds: Bounds = BOUNDS) -> Registry:
    registry = Registry(secured.url_of("dfp_manager"), bounds)
    be_patient(registry._store)
    return registry


class TestSolver:
    def test_its_journal_works_whole(self, secured: SecuredStore) -> None:
        """Every call that there is, of one owner and of the next."""
        first = journal_of(secured)
        assert first.take() is True
        assert first.load().snapshot is None
        first.append([BARRIER, BARRIER])
        first.renew("1-1")
        first.begin_trial("1-2")
        first.end_trial()
        first.begin_trial("1-2")
        first.void(BARRIER)
        assert first.has_kept_everything()
        first._unknown = (4, 4)  # as after a write that got no answer
        assert first.settle(BARRIER) is False
        first.save(b"{}", "1-3", b"[1]")
        first.append([BARRIER])
        first.release()
        second = journal_of(secured)
        assert isinstance(second.take(), InFlight)
        past = second.load()
        assert (past.last, past.snapshot, past.segments) == ("1-3", b"{}", (b"[1]",))
        assert [entry for entry, _ in past.entries] == ["1-3", "1-4", "1-5"]
        second.release()
        assert secured.denied() == []

    def test_it_goes_on_in_a_store_that_has_forgotten(
        self, secured: SecuredStore, connect: Connect
    ) -> None:
        owner = journal_of(secured)
        owner.take()
        connect("admin").flushall()
        with pytest.raises(Forgotten):
            owner.renew("1-0")
        owner.reclaim()
        owner.append([BARRIER])
        owner.release()
        assert secured.denied() == []

    def test_it_owns_no_other_feeder(self, secured: SecuredStore) -> None:
        other = journal_of(secured, "ieee13")
        with pytest.raises(journal.StoreAway, match=r"(?i)permission"):
            other.take()
        other.release()


def register(held: FeederPrograms) -> Change:
    asked = Registration(name="peak", min_power_kw=30.0, target_pf=0.95)
    return programs.register(held, asked, AT)


def subscribe(held: FeederPrograms) -> Change:
    asked = SubscriptionChange(bus_name="1", dfp_name="peak")
    return programs.subscribe(held, asked, {"1": "1"}, AT)


def execute(held: FeederPrograms) -> Change:
    return programs.execute(held, Run(dfp_name="peak"), AT)


def stop(held: FeederPrograms) -> Change:
    at = AT + timedelta(minutes=1)
    return programs.stop(held, Run(dfp_name="peak"), at)


def delete(held: FeederPrograms) -> Change:
    return programs.delete(held, ProgramName(name="peak"), AT)


def changed(step: Callable[[FeederPrograms], Change], held: FeederPrograms) -> FeederPrograms:
    return step(held).programs


class TestManager:
    def test_its_registry_works_whole(self, secured: SecuredStore) -> None:
        """A life of a program, with requests that are remembered, and forgotten."""
        registry = registry_of(secured, Bounds(requests=2))
        registry.refresh()
        steps = (register, subscribe, execute, stop, execute, stop, delete)
        for number, step in enumerate(steps):
            at = AT + timedelta(seconds=number)
            decided = Decided(f"request-{number}", "digest", at.timestamp(), Done("done"))
            registry.change(FEEDER, partial(changed, step), decided)
        registry.refresh()
        registry.close()
        again = registry_of(secured)
        again.refresh()
        assert again.feeders == (FEEDER,)
        assert again.programs(FEEDER).next_number == 2
        again.close()
        assert secured.denied() == []

    def test_it_has_no_programs_of_another_feeder(self, secured: SecuredStore) -> None:
        registry = registry_of(secured)
        with pytest.raises(StoreAway, match=r"(?i)permission"):
            registry.change("ieee13", lambda held: register(held).programs)
        registry.close()


@pytest.mark.parametrize("user", ["solver", "dfp_manager"])
def test_its_probe_finds_the_store(secured: SecuredStore, user: str) -> None:
    probe = Probe(secured.url_of(user))
    probe.begin()
    wait_until(lambda: probe.has_answered, "the store has answered")
    probe.close()


SOLVERS = f"flexfeeder:{FEEDER}:snapshot"
MANAGERS = layout.head_key(FEEDER)


def test_what_was_written_is_there_after_a_restart(secured: SecuredStore) -> None:
    """Whatever the access list says of who may write it: the store reads its own file."""
    owner = journal_of(secured)
    owner.take()
    owner.append([BARRIER, BARRIER])
    owner.save(b"{}", "1-1", b"[1]")
    registry = registry_of(secured)
    registry.change(FEEDER, lambda held: register(held).programs)
    registry.close()
    secured.kill()
    secured.start()
    past = journal_of(secured).load()
    assert (past.snapshot, past.segments) == (b"{}", (b"[1]",))
    assert [entry for entry, _ in past.entries] == ["1-1", "1-2"]
    again = registry_of(secured)
    again.refresh()
    assert again.programs(FEEDER).named("peak") is not None
    again.close()
    assert secured.denied() == []


class TestKeys:
    @pytest.mark.parametrize(
        ("user", "own", "foreign"),
        [
            ("solver", SOLVERS, (MANAGERS, layout.programs_key(FEEDER), layout.feeders_key())),
            ("dfp_manager", MANAGERS, (SOLVERS, f"flexfeeder:{FEEDER}:journal", "flexfeeder")),
        ],
    )
    def test_nobody_has_another_s(
        self, connect: Connect, user: str, own: str, foreign: tuple[str, ...]
    ) -> None:
        """Neither by a command nor by a script."""
        client, admin = connect(user), connect("admin")
        script = client.register_script("return redis.call('HGETALL', KEYS[1])")
        hidden = client.register_script("return redis.call('HSET', ARGV[1], 'a', 'b')")
        client.hset(own, "a", "b")
        assert client.hgetall(own) == {b"a": b"b"}
        assert script(keys=[own]) == [b"a", b"b"]
        for key in (*foreign, "anything"):
            admin.hset(key, "a", "secret")
            for attack in (
                lambda key=key: client.hgetall(key),
                lambda key=key: client.hset(key, "a", "forged"),
                lambda key=key: client.delete(key),
                lambda key=key: script(keys=[key]),
                lambda key=key: hidden(args=[key]),
            ):
                with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
                    attack()
            assert admin.hgetall(key) == {b"a": b"secret"}


ATTACKS = (
    *(
        "CONFIG GET *",
        "CONFIG SET maxmemory 1",
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "SCAN 0",
        "DBSIZE",
    ),
    *("ACL LIST", "ACL WHOAMI", "CLIENT LIST", "CLIENT KILL TYPE normal", "INFO", "MONITOR"),
    *("SHUTDOWN", "SAVE", "BGREWRITEAOF", "REPLICAOF 127.0.0.1 1", "SWAPDB 0 1"),
    *("SUBSCRIBE a", "PUBLISH a b", "SELECT 1", "MODULE LIST", "SCRIPT FLUSH", "FUNCTION LIST"),
    *("RANDOMKEY", "MIGRATE 127.0.0.1 1 a 0 1", "SORT a", "OBJECT ENCODING a", "EVAL return 0"),
)


class TestCommands:
    @pytest.mark.parametrize("user", ["solver", "dfp_manager", "health"])
    def test_nobody_rules_the_store(self, connect: Connect, user: str) -> None:
        client = connect(user)
        assert client.ping()
        for attack in ATTACKS:
            with pytest.raises(NoPermissionError):
                client.execute_command(*attack.split())  # type: ignore[no-untyped-call]
        assert client.ping()

    def test_health_has_no_keys(self, connect: Connect) -> None:
        attacks: tuple[Callable[[redis.Redis], object], ...] = (
            lambda c: c.get("a"),
            lambda c: c.set("a", "b"),
            lambda c: c.hgetall(SOLVERS),
        )
        for attack in attacks:
            with pytest.raises(NoPermissionError):
                attack(connect("health"))


def test_without_a_name_or_with_a_wrong_password_nobody_comes_in(
    secured: SecuredStore, connect: Connect
) -> None:
    right = secured.url_of("solver")
    address = right.partition("@")[2]
    assert connect("solver").ping()
    for who in ("", "default:@", ":any@", "solver:wrong@", "nobody:any@"):
        client = store.connect(f"redis://{who}{address}", PATIENCE_S)
        with pytest.raises((redis.AuthenticationError, redis.ResponseError)):
            client.ping()
        client.close()
