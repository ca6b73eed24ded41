"""A real Mosquitto, deployed as we deploy it, attacked from outside.

Whether an attack came to nothing is seen by an observer who hears everything. Each attacker also
does something that is allowed, after the attack and on the same connection: once that has been
heard, the attack would have been heard too.
"""

import shutil
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from containers import engine
from containers.contained import ContainedBroker
from paho.mqtt.client import topic_matches_sub
from secured import FEEDER, METERS, OBSERVER, Person, SecuredBroker, make_secrets, unique

from flexfeeder import authority
from flexfeeder.__main__ import main
from flexfeeder.authority import Pair
from flexfeeder.broker_acl import USERS, rights
from flexfeeder.testing import MOSQUITTO, wait_until
from schemas import topics

BROKERS = [
    pytest.param(
        SecuredBroker,
        marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
        id="mosquitto",
    ),
    pytest.param(ContainedBroker, marks=engine.needed(), id="mosquitto-in-a-container"),
]

ATTACKER, VICTIM = METERS

OWN = topics.meter(FEEDER, "1", "Load_1")
OWN_SETPOINT = topics.setpoint(FEEDER, "1", "Load_1")

FOREIGN = (
    topics.meter(FEEDER, "2", "Load_2"),
    topics.meter(FEEDER, "1", "Load_10"),
    topics.meter(FEEDER, "1", "load_1"),
    topics.meter(FEEDER, "1", "Load_1") + "/x",
    topics.meter("ieee13", "1", "Load_1"),
    topics.meters(FEEDER),
    topics.setpoint(FEEDER, "1", "Load_1"),
    topics.setpoint(FEEDER, "2", "Load_2"),
    topics.command(FEEDER, "set_load"),
    topics.dfp_command("execute"),
    topics.state(FEEDER),
    topics.topology(FEEDER),
    topics.alert(FEEDER),
    topics.adjustments(FEEDER),
    topics.program_event(FEEDER),
    topics.reply("operator"),
    topics.reply("1") + "/Load_1",
    topics.service_status(f"solver-{FEEDER}"),
    topics.service_status("1/Load_1"),
    "flexfeeder",
    "1/Load_1",
    "$SYS/broker/version",
)
"""Where a meter has nothing to say: all but its own reading."""

EAVESDROPPING = (
    "#",
    "+/#",
    "flexfeeder/#",
    "flexfeeder/+/+/+/+",
    "flexfeeder/+/setpoint/#",
    "flexfeeder/reply/#",
    "$share/group/#",
)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    make_secrets(folder)
    return folder


@pytest.fixture(scope="module", params=BROKERS)
def broker_class(request: pytest.FixtureRequest) -> type[SecuredBroker]:
    """Where the broker runs."""
    found: type[SecuredBroker] = request.param
    return found


@pytest.fixture(scope="module")
def broker(
    broker_class: type[SecuredBroker], secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecuredBroker]:
    with broker_class(secrets, tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture
def own_broker(broker_class: type[SecuredBroker], secrets: Path, tmp_path: Path) -> SecuredBroker:
    """A broker with a copy of the secrets, which the test may change; it has not been started."""
    shutil.copytree(secrets, tmp_path / "secrets")
    return broker_class(tmp_path / "secrets", tmp_path)


@pytest.fixture(params=["5", "3.1.1"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def observer(broker: SecuredBroker) -> Iterator[Person]:
    with Person(broker, OBSERVER, inside=True) as person:
        person.subscribe("#")
        yield person


@pytest.fixture
def attacker(broker: SecuredBroker, protocol: str) -> Iterator[Person]:
    """A meter that has been broken open: its name and password are known."""
    with Person(broker, ATTACKER, protocol=protocol) as person:
        yield person


class TestMeter:
    @pytest.mark.parametrize("retain", [False, True], ids=["live", "retained"])
    def test_it_publishes_its_own_reading_and_nothing_else(
        self, broker: SecuredBroker, observer: Person, attacker: Person, retain: bool
    ) -> None:
        payload = unique()
        for topic in (*FOREIGN, OWN):
            attacker.publish(topic, payload, retain=retain)
        wait_until(lambda: OWN in observer.topics_of(payload), "its reading, which it said last")
        assert observer.topics_of(payload) == [OWN]
        with Person(broker, OBSERVER, inside=True) as newcomer:
            newcomer.subscribe("$SYS/#")
            newcomer.subscribe("#")
            end = unique()
            observer.publish("end", end)
            newcomer.wait_for(end)
            assert newcomer.topics_of(payload) == ([OWN] if retain else [])

    def test_nothing_that_others_have_retained_is_cleared(
        self, broker: SecuredBroker, observer: Person, attacker: Person
    ) -> None:
        """Its own reading is."""
        kept, own = unique(), unique()
        for topic in (topics.state(FEEDER), topics.setpoint(FEEDER, "2", "Load_2"), OWN_SETPOINT):
            observer.publish(topic, kept, retain=True)
        attacker.publish(OWN, own, retain=True)
        observer.wait_for(own)
        for topic in (topics.state(FEEDER), topics.setpoint(FEEDER, "2", "Load_2"), OWN_SETPOINT):
            attacker.publish(topic, b"", retain=True)
        attacker.publish(OWN, b"", retain=True)
        with Person(broker, OBSERVER, inside=True) as newcomer:
            newcomer.subscribe("#")
            wait_until(lambda: len(newcomer.topics_of(kept)) == 3, "what was retained")
            assert newcomer.topics_of(own) == []

    @pytest.mark.parametrize("topic_filter", EAVESDROPPING)
    def test_it_hears_its_own_setpoint_and_nothing_else(
        self, broker: SecuredBroker, observer: Person, attacker: Person, topic_filter: str
    ) -> None:
        """Neither what is said later, nor what was retained before."""
        secret, later, allowed = unique(), unique(), unique()
        foreign = [topic for topic in FOREIGN if topic != OWN_SETPOINT and topic[0] != "$"]
        for topic in (*foreign, OWN):
            observer.publish(topic, secret, retain=True)
        attacker.subscribe(topic_filter)
        attacker.subscribe(OWN_SETPOINT)
        for topic in (*foreign, OWN):
            observer.publish(topic, later)
        observer.publish(OWN_SETPOINT, allowed)
        attacker.wait_for(allowed)
        observer.wait_for(allowed)
        assert set(attacker.topics_of(allowed)) == {OWN_SETPOINT}
        assert attacker.topics_of(secret) == attacker.topics_of(later) == []
        assert set(observer.topics_of(later)) == {*foreign, OWN}
        for topic in (*foreign, OWN):
            observer.publish(topic, b"", retain=True)

    def test_it_learns_nothing_of_the_broker(self, observer: Person, attacker: Person) -> None:
        allowed = unique()
        for person in (attacker, observer):
            person.subscribe("$SYS/#")
        attacker.subscribe(OWN_SETPOINT)
        observer.publish(OWN_SETPOINT, allowed)
        attacker.wait_for(allowed)
        version = "$SYS/broker/version"
        wait_until(lambda: version in {m.topic for m in observer.heard}, "what the broker says")
        assert {message.topic for message in attacker.heard} == {OWN_SETPOINT}

    @pytest.mark.parametrize(
        ("topic", "is_heard"),
        [(OWN, True), *((topic, False) for topic in FOREIGN)],
    )
    def test_its_will_is_no_way_around(
        self, broker: SecuredBroker, observer: Person, protocol: str, topic: str, is_heard: bool
    ) -> None:
        """It is said when the same meter comes a second time, before it is let in."""
        will, after = unique(), unique()
        with (
            Person(broker, ATTACKER, protocol=protocol, will=(topic, will)) as first,
            Person(broker, ATTACKER, protocol=protocol) as second,
        ):
            wait_until(lambda: not first.is_connected(), "the first is thrown out")
            second.publish(OWN, after)
            observer.wait_for(after)
        assert observer.topics_of(will) == ([topic] if is_heard else [])


class TestSessions:
    """Outside, a client is known by the name of its user, whatever id it gives itself."""

    def test_nobody_takes_over_another_s_connection(
        self, broker: SecuredBroker, observer: Person, protocol: str
    ) -> None:
        """As one would who may come under that name: the victim itself, a second time."""
        setpoint, before, after = topics.setpoint(FEEDER, "2", "Load_2"), unique(), unique()
        with Person(broker, VICTIM, protocol=protocol) as victim:
            victim.subscribe(setpoint)
            with Person(broker, ATTACKER, protocol=protocol, client_id=VICTIM) as attacker:
                attacker.subscribe(setpoint)
                observer.publish(setpoint, before)
                victim.wait_for(before)
                assert attacker.heard == []
            with Person(broker, VICTIM, protocol=protocol, client_id="other") as again:
                wait_until(lambda: not victim.is_connected(), "the victim is thrown out")
                again.subscribe(setpoint)
                observer.publish(setpoint, after)
                again.wait_for(after)
            assert victim.topics_of(after) == []

    def test_nobody_takes_over_a_service(
        self, broker: SecuredBroker, observer: Person, protocol: str
    ) -> None:
        solver, command = f"solver-{FEEDER}", topics.command(FEEDER, "set_load")
        said = unique()
        with Person(broker, "solver", inside=True, client_id=solver) as service:
            service.subscribe(topics.commands(FEEDER))
            for user in (ATTACKER, "viewer", "operator", "head_end"):
                with Person(broker, user, protocol=protocol, client_id=solver):
                    pass
            observer.publish(command, said)
            service.wait_for(said)
            assert service.is_connected()
            with Person(broker, "solver", inside=True, client_id=solver):
                wait_until(lambda: not service.is_connected(), "it is thrown out by its like")

    def test_nobody_gets_what_was_kept_for_another(
        self, broker: SecuredBroker, observer: Person, protocol: str
    ) -> None:
        setpoint, kept = topics.setpoint(FEEDER, "2", "Load_2"), unique()
        with Person(broker, VICTIM, protocol=protocol, remembered=True) as victim:
            victim.subscribe(setpoint)
        observer.publish(setpoint, kept)
        allowed = unique()
        with Person(
            broker, ATTACKER, protocol=protocol, client_id=VICTIM, remembered=True
        ) as attacker:
            assert not attacker.had_session
            attacker.subscribe(OWN_SETPOINT)
            observer.publish(OWN_SETPOINT, allowed)
            attacker.wait_for(allowed)
            assert attacker.topics_of(kept) == []
        with Person(broker, VICTIM, protocol=protocol, remembered=True) as victim:
            assert victim.had_session
            victim.wait_for(kept)
        for user in METERS:
            with Person(broker, user, protocol=protocol):
                pass  # a clean start: nothing is kept for the next test


def shake_hands(port: int, ca: Path) -> None:
    """What a client does first that trusts an authority. (Refused, paho's leaves its socket.)"""
    context = ssl.create_default_context(cafile=ca)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1"),
    ):
        pass


class TestDoor:
    def test_who_has_no_name_or_a_wrong_password_is_turned_away(
        self, broker: SecuredBroker, protocol: str
    ) -> None:
        for inside in (False, True):
            for user, password in (
                (None, None),
                (ATTACKER, "wrong"),
                ("solver", "wrong"),
                ("solver", "password"),
                ("1/load_1", "password"),
                ("nobody", "password"),
                ("#", "password"),
                ("", "password"),
            ):
                person = Person(broker, user, password=password, protocol=protocol, inside=inside)
                assert person.is_turned_away(), (user, password)
            with Person(broker, ATTACKER, protocol=protocol, inside=inside):
                pass

    def test_nothing_is_taken_unencrypted(self, broker: SecuredBroker, protocol: str) -> None:

        def connected() -> int:
            """How many have connected; the log of a container comes late, but in order."""
            mark = f"test-{unique().decode()}"
            with Person(broker, OBSERVER, inside=True, client_id=mark):
                wait_until(lambda: f" as {mark} " in broker.logged(), "its own line is there")
            return broker.logged().partition(f" as {mark} ")[0].count("New client connected")

        def is_hung_up_on(person: Person) -> bool:
            return person._client.socket() is None

        for inside in (False, True):
            person = Person(broker, ATTACKER, protocol=protocol, inside=inside, encrypted=False)
            before = connected()
            person.connect()
            wait_until(partial(is_hung_up_on, person), "it is hung up on")
            person.leave()
            assert connected() == before + 1, "who counts, and nobody else"
            with Person(broker, ATTACKER, protocol=protocol, inside=inside):
                pass
            assert connected() == before + 3

    def test_a_meter_does_not_talk_to_a_broker_of_another_authority(
        self, broker: SecuredBroker, tmp_path: Path
    ) -> None:
        other = tmp_path / "ca.crt"
        other.write_bytes(authority.new_authority(datetime.now(UTC)).certificate)
        for port in (broker.outside, broker.inside):
            with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
                shake_hands(port, other)
            shake_hands(port, broker.secrets / "ca.crt")

    @pytest.mark.parametrize("age_d", [0, 826])
    def test_a_meter_does_not_talk_to_a_broker_whose_certificate_has_expired(
        self, own_broker: SecuredBroker, age_d: int
    ) -> None:
        """As it would where that is not so."""
        folder = own_broker.secrets
        trusted = Pair((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())
        made_at = datetime.now(UTC) - timedelta(days=age_d)
        made = authority.new_server(trusted, ["127.0.0.1"], made_at)
        (folder / "broker/server.crt").write_bytes(made.certificate)
        (folder / "broker/server.key").write_bytes(made.key)
        with own_broker:
            if age_d == 0:
                shake_hands(own_broker.outside, folder / "ca.crt")
                return
            with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
                shake_hands(own_broker.outside, folder / "ca.crt")


class TestChanges:
    """Meters come and go while the broker runs."""

    def meters(self, broker: SecuredBroker, *arguments: str) -> bytes:
        command, *names = arguments
        result = CliRunner(env={"FLEXFEEDER_FEEDER": FEEDER}).invoke(
            main, ["meters", command, "--folder", str(broker.secrets), *names]
        )
        assert result.exit_code == 0, result.output
        return result.stdout_bytes

    def test_a_meter_that_is_added_may_connect(
        self, own_broker: SecuredBroker, protocol: str
    ) -> None:
        with own_broker, Person(own_broker, OBSERVER, inside=True) as observer:
            observer.subscribe("#")
            made = orjson.loads(self.meters(own_broker, "add", "3", "EV_1"))
            user, password = made["username"], made["password"]
            early = Person(own_broker, user, password=password, protocol=protocol)
            assert early.is_turned_away()
            own_broker.hang_up()
            reading, setpoint = unique(), unique()
            with Person(own_broker, user, password=password, protocol=protocol) as meter:
                meter.publish(made["topic"], reading)
                observer.wait_for(reading)
                meter.subscribe(made["setpoint_topic"])
                observer.publish(made["setpoint_topic"], setpoint)
                meter.wait_for(setpoint)

    def test_a_meter_that_is_removed_is_driven_off_and_stays_out(
        self, own_broker: SecuredBroker, protocol: str
    ) -> None:
        """And no other."""
        with (
            own_broker,
            Person(own_broker, ATTACKER, protocol=protocol) as revoked,
            Person(own_broker, VICTIM, protocol=protocol) as other,
            Person(own_broker, OBSERVER, inside=True) as observer,
        ):
            observer.subscribe("#")
            self.meters(own_broker, "remove", "1", "Load_1")
            own_broker.hang_up()
            wait_until(lambda: not revoked.is_connected(), "it is driven off")
            assert Person(own_broker, ATTACKER, protocol=protocol).is_turned_away()
            reading = unique()
            other.publish(topics.meter(FEEDER, "2", "Load_2"), reading)
            observer.wait_for(reading)

    def test_a_password_that_is_replaced_is_the_only_one(self, own_broker: SecuredBroker) -> None:
        with own_broker, Person(own_broker, ATTACKER) as known:
            made = orjson.loads(self.meters(own_broker, "add", "1", "Load_1", "--replace"))
            own_broker.hang_up()
            wait_until(lambda: not known.is_connected(), "it is driven off")
            assert Person(own_broker, ATTACKER, password="password").is_turned_away()
            with Person(own_broker, ATTACKER, password=made["password"]):
                pass


INSIDE = {
    "solver": f"solver-{FEEDER}",
    "dfp_manager": "dfp_manager",
    "gateway": "gateway-1a2b3c4d5e6f",
    "simulator": f"meters-{FEEDER}-1a2b3c4d",
}
"""The services, and under which ids they come."""


def examples() -> list[str]:
    """A topic for each filter that stands in anybody's rights, and for each service's status."""
    filters = {
        topic
        for may in rights(FEEDER).values()
        for topic in (*may.read, *may.write)
        if "/service/+" not in topic
    }
    found = {
        each.replace("flexfeeder/+", f"flexfeeder/{FEEDER}")
        .replace("meter/#", "meter/1/Load_1")
        .replace("setpoint/#", "setpoint/1/Load_1")
        .replace("reply/+", f"reply/{INSIDE['gateway']}")
        .replace("/+/+", "/1/Load_1")
        .replace("+", "a")
        .replace("#", "a")
        for each in filters
    }
    return sorted(found | {topics.service_status(instance) for instance in INSIDE.values()})


class TestUsers:
    """Each may do what its rights say, which follow from what the services do, and no more."""

    @pytest.mark.parametrize("user", USERS)
    def test_who_publishes_what(self, broker: SecuredBroker, observer: Person, user: str) -> None:
        payload = unique()
        own_status = topics.service_status(INSIDE.get(user, ""))
        allowed = {
            topic
            for topic in examples()
            if topic == own_status
            or any(topic_matches_sub(each, topic) for each in rights(FEEDER)[user].write)
        }
        with Person(broker, user, inside=user in INSIDE, client_id=INSIDE.get(user)) as person:
            for topic in examples():
                person.publish(topic, payload)
        # All that he said has been answered, so what of it is allowed is before this.
        end = unique()
        observer.publish("end", end)
        observer.wait_for(end)
        assert set(observer.topics_of(payload)) == allowed

    @pytest.mark.parametrize("user", USERS)
    def test_who_hears_what(self, broker: SecuredBroker, observer: Person, user: str) -> None:
        """Whatever is asked for. A meter's pattern gives a user without a bus one topic more,
        where nobody speaks.
        """
        payload, end = unique(), unique()
        allowed = {
            topic
            for topic in examples()
            if any(topic_matches_sub(each, topic) for each in rights(FEEDER)[user].read)
        }
        with Person(broker, user, inside=user in INSIDE, client_id=INSIDE.get(user)) as person:
            person.subscribe("#")
            for topic in examples():
                observer.publish(topic, payload)
            observer.publish(f"flexfeeder/{FEEDER}/setpoint/{user}", end)
            person.wait_for(end)
        observer.wait_for(end)
        assert set(person.topics_of(payload)) == allowed
        assert set(observer.topics_of(payload)) == set(examples())

    def test_a_service_s_status_is_its_own(self, broker: SecuredBroker, observer: Person) -> None:
        """A gateway cannot say that the solver is away, and outside nobody has a status."""
        forged, allowed = unique(), unique()
        solver_status = topics.service_status(f"solver-{FEEDER}")
        with Person(broker, "gateway", inside=True, client_id="gateway-2") as gateway:
            gateway.publish(solver_status, forged)
            gateway.publish(topics.service_status("gateway-3"), forged)
            gateway.publish(topics.service_status("gateway-2"), allowed)
            observer.wait_for(allowed)
        for user in USERS:
            with Person(broker, user, client_id=f"solver-{FEEDER}") as person:
                person.publish(topics.service_status(user), forged)
                if user != "solver":
                    person.publish(solver_status, forged)
        end = unique()
        observer.publish("end", end)
        observer.wait_for(end)
        manager = topics.service_status("dfp_manager")
        assert set(observer.topics_of(forged)) == {manager}, "whose name is its instance's"
        assert observer.topics_of(allowed) == [topics.service_status("gateway-2")]
