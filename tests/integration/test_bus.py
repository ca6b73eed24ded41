"""A connection of a service against real brokers that come late, die, and come back."""

import gc
import os
import select
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import structlog
from patience import PATIENCE_S
from scripted_broker import CONNACK, Peer, ScriptedBroker, publish_packet
from structlog.testing import LogCapture
from support import Broker, MqttClient

from flexfeeder.testing import wait_until
from services.bus import (
    MAX_INFLIGHT,
    BrokerAddress,
    Connection,
    Message,
    Subscription,
    Will,
)
from services.reactor import Reactor

TOPIC = "flexfeeder/test/topic"


@pytest.fixture
def down(broker_kind: str, tmp_path: Path) -> Iterator[Broker]:
    """A broker that is not there yet."""
    broker = Broker(broker_kind, tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def broker(down: Broker) -> Broker:
    """A broker that is there."""
    down.start()
    return down


class Service:
    """A connection as a service has it, with what it hears and what it logs."""

    def __init__(self, broker: Broker | ScriptedBroker, **options: Any) -> None:
        self.heard: list[Message] = []
        self._logged = LogCapture()
        log = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self._logged],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.connection = Connection(
            BrokerAddress("127.0.0.1", broker.port, ca=options.pop("ca", None)),
            options.pop("client_id", "the-service"),
            log=log,
            on_message=self.heard.append,
            **options,
        )
        self._reactor = Reactor(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._reactor.close()

    def logged(self, event: str, **having: object) -> int:
        """How often an event stands in the log."""
        wanted = {"event": event, **having}
        return sum(wanted.items() <= entry.items() for entry in self._logged.entries)

    def serve_until(self, predicate: Callable[[], bool], description: str) -> None:
        """Let the reactor run until a fact has come true."""
        poll_until(self._reactor, predicate, description)

    def connect(self) -> None:
        self.serve_until(lambda: self.connection.connected, "connected")

    def cut(self) -> None:
        """Cut the wire, and notice."""
        sock = self.connection._socket
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        self.serve_until(lambda: not self.connection.connected, "noticed")

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.heard]

    @property
    def births(self) -> int:
        """How often it has connected."""
        return self.connection._number


def poll_until(reactor: Reactor, predicate: Callable[[], bool], description: str) -> None:
    def polled() -> bool:
        reactor.poll(0.01)
        return predicate()

    wait_until(polled, description, PATIENCE_S, every_s=0)


def number_of(service: Service) -> int:
    """The number of its socket."""
    sock = service.connection._socket
    assert sock is not None
    return sock.fileno()


def welcomed(scripted: ScriptedBroker, service: Service) -> Peer:
    """The broker's end of a connection, once it is up."""
    service.serve_until(lambda: service.connection._socket is not None, "it knocks")
    accepted = scripted.accept()
    accepted.send(CONNACK)
    service.connect()
    return accepted


@contextmanager
def peer(broker: Broker) -> Iterator[MqttClient]:
    with MqttClient(broker.port, protocol="5") as client:
        yield client


class TestBrokerAway:
    def test_a_broker_that_comes_late_is_found(self, down: Broker) -> None:
        with Service(down) as service:
            service.serve_until(lambda: service.logged("broker_away") > 0, "tried in vain")
            down.start()
            service.serve_until(lambda: service.connection.connected, "connected")
            assert service.logged("broker_connected") == 1

    def test_it_is_tried_at_least_every_two_seconds_however_long_it_is_away(
        self, down: Broker
    ) -> None:
        with Service(down) as service:
            now = time.monotonic()
            for _ in range(20):
                due = service.connection.maintain(now)
                assert now < due <= now + 2.0
                now = due

    def test_that_it_is_away_is_logged_once(self, down: Broker) -> None:
        with Service(down) as service:
            now = time.monotonic()
            for _ in range(10):
                now = service.connection.maintain(now)
            assert service.logged("broker_away") == 1

    def test_a_killed_broker_is_found_again(self, broker: Broker) -> None:
        with Service(broker) as service:
            service.connect()
            broker.kill()
            service.serve_until(lambda: not service.connection.connected, "noticed")
            assert service.logged("broker_away") == 1
            broker.start()
            service.serve_until(lambda: service.connection.connected, "connected")
            assert service.logged("broker_away") == 1
            assert service.births == 2

    def test_a_port_that_never_answers_is_given_up_and_tried_again(self, tmp_path: Path) -> None:
        """The kernel accepts for a listener that does not: there is a socket and no answer."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            silent = Broker("embedded", tmp_path)
            silent.port = listener.getsockname()[1]
            with Service(silent) as service:
                now = time.monotonic()
                service.connection.maintain(now)
                first = service.connection._socket
                assert first is not None
                service.connection.maintain(now + 6.0)
                assert service.connection._socket is not None
                assert service.connection._socket is not first
                assert service.logged("broker_away") == 1

    def test_a_broker_that_hangs_up_while_it_is_given_up_does_no_harm(self) -> None:
        with ScriptedBroker() as silent, Service(silent) as service:
            now = time.monotonic()
            service.connection.maintain(now)
            sock = service.connection._socket
            assert sock is not None
            silent.accept().reset()
            assert select.select([sock], [], [], PATIENCE_S)[0], "the reset has come"
            service.connection.maintain(now + 6.0)
            assert service.connection._socket is not sock
            assert service.logged("broker_away") == 1


class TestBounds:
    def test_what_too_many_wait_for_is_dropped_counted_and_logged_once(self) -> None:
        """A broker that takes everything and acknowledges nothing."""
        with ScriptedBroker() as silent, Service(silent) as service:
            welcomed(silent, service)
            connection = service.connection
            sent = [connection.publish(TOPIC, b"", qos=1) for _ in range(10 * MAX_INFLIGHT + 5)]
            assert sent.count(False) == connection.dropped == 5
            assert not any(sent[-5:])
            assert service.logged("message_dropped") == 1


class TestSubscribed:
    def test_it_is_true_from_the_brokers_word_on_until_the_connection_is_lost(
        self, broker: Broker
    ) -> None:
        subscriptions = [Subscription(TOPIC, qos=0)]
        with Service(broker, subscriptions=subscriptions) as service:
            assert not service.connection.subscribed
            service.serve_until(lambda: service.connection.subscribed, "subscribed")
            service.cut()
            assert not service.connection.subscribed


class TestTwoOfOneName:
    def test_two_that_take_the_session_from_each_other_pause_and_do_not_fill_the_log(
        self, broker: Broker
    ) -> None:
        with Service(broker, client_id="twin") as one, Service(broker, client_id="twin") as other:
            until = time.monotonic() + 2.0
            while time.monotonic() < until or min(one.births, other.births) < 2:
                one._reactor.poll(0.01)
                other._reactor.poll(0.01)
            for service in (one, other):
                # One that lasted, as while the broker had no time for the other, begins anew.
                begun = 1 + service.logged("broker_connected", steady=True)
                assert 2 <= service.births <= 10 * begun
                assert service.logged("broker_away") <= 2 * begun
                assert service.logged("broker_connected") <= 2 * begun


@pytest.fixture
def numbers_stay() -> Iterator[None]:
    """Nobody else gives a file number back: what earlier tests left lying stays where it is."""
    gc.disable()
    with ExitStack() as stack:
        taken = [os.dup(0)]
        highest = max(int(open_file.name) for open_file in Path("/dev/fd").iterdir())
        while taken[-1] < highest and len(taken) < 256:
            taken.append(os.dup(0))
        for number in taken:
            stack.callback(os.close, number)
        yield
    gc.enable()


class TestTwoInOneReactor:
    def test_two_that_drop_together_are_both_back_when_their_sockets_have_swapped_numbers(
        self, broker: Broker, numbers_stay: None
    ) -> None:
        listening = {"subscriptions": [Subscription(TOPIC, qos=1)]}
        with (
            Service(broker, client_id="a", **listening) as one,
            Service(broker, client_id="b", **listening) as other,
        ):
            reactor = Reactor(one.connection, other.connection)
            # A new socket takes the lowest free number. The reactor serves the first connection
            # first, so that this one gets the lower number from now on; at first it has the higher.
            other.connection.maintain(time.monotonic())
            one.connection.maintain(time.monotonic())
            before = [number_of(service) for service in (one, other)]
            assert before[0] > before[1]

            def are_born(times: int) -> bool:
                return one.births == other.births == times

            poll_until(reactor, partial(are_born, 1), "both are connected")
            for births in range(2, 8):
                for service in (one, other):
                    sock = service.connection._socket
                    assert sock is not None
                    sock.shutdown(socket.SHUT_RDWR)
                poll_until(reactor, partial(are_born, births), "both are back")
                # Whoever is held up between the two may find the other's turn to have come first.
                if [number_of(service) for service in (one, other)] == before[::-1]:
                    break
            assert [number_of(service) for service in (one, other)] == before[::-1]
            with peer(broker) as client:

                def both_hear() -> bool:
                    client.publish(TOPIC, b"hello")
                    return bool(one.heard and other.heard)

                poll_until(reactor, both_hear, "both hear what is published now")
        reactor.close()


class TestAfterReconnect:
    def test_it_subscribes_again(self, broker: Broker) -> None:
        with Service(broker, subscriptions=[Subscription(TOPIC, qos=1)]) as service:
            service.connect()
            broker.kill()
            broker.start()
            service.serve_until(lambda: service.births == 2, "connected again")
            with peer(broker) as client:

                def arrives() -> bool:
                    client.publish(TOPIC, b"hello")
                    return bool(service.heard)

                service.serve_until(arrives, "it hears what is published now")

    def test_it_publishes_again_what_is_retained_in_its_newest_form(self, broker: Broker) -> None:
        with Service(broker) as service:
            service.connection.retain(TOPIC, b"before it was connected", qos=1)
            service.connect()
            service.connection.retain(TOPIC, b"newest", qos=1, version=7)
            broker.kill()
            broker.start()
            service.serve_until(lambda: service.births == 2, "connected again")
            with peer(broker) as client:
                client.subscribe("end")
                service.connection.publish("end", b"", qos=1)
                service.serve_until(lambda: bool(client.on("end")), "the broker has had it all")
                client.subscribe(TOPIC)
                service.serve_until(lambda: bool(client.on(TOPIC)), "it is there")
                [message] = client.on(TOPIC)
                assert message.payload == b"newest"
                assert getattr(message.properties, "UserProperty", None) == [("version", "7")]

    def test_the_newest_retained_message_is_the_last_even_if_an_older_is_repeated(self) -> None:
        """What the broker has not acknowledged is sent again on connecting."""
        with ScriptedBroker() as scripted, Service(scripted) as service:
            service.connection.retain(TOPIC, b"older", qos=1)
            first = welcomed(scripted, service)
            assert first.published_until(TOPIC) == [(TOPIC, b"older")]
            first.close()
            service.serve_until(lambda: not service.connection.connected, "noticed")
            service.connection.retain(TOPIC, b"newest", qos=1)
            second = welcomed(scripted, service)
            service.connection.publish("end", b"")
            heard = second.published_until("end")
            assert (TOPIC, b"newest") in heard
            assert [payload for topic, payload in heard if topic == TOPIC][-1] == b"newest"

    def test_its_will_is_published_when_it_dies_without_a_goodbye(self, broker: Broker) -> None:
        with peer(broker) as client:
            client.subscribe(TOPIC)
            with Service(broker, will=Will(TOPIC, b"gone")) as service:
                service.connect()
                service.cut()
            wait_until(lambda: bool(client.on(TOPIC)), "the will")
            assert client.on(TOPIC)[0].payload == b"gone"

    def test_its_farewell_is_published_and_its_will_is_not_when_it_closes(
        self, broker: Broker
    ) -> None:
        with peer(broker) as client:
            client.subscribe(TOPIC)
            service = Service(broker, will=Will(TOPIC, b"gone"))
            service.connect()
            connection = service.connection
            connection.close(lambda: connection.retain(TOPIC, b"goodbye", qos=1))
            assert connection._socket is None
            client.first_on(TOPIC)
            client.publish(TOPIC, b"later")
            wait_until(lambda: len(client.on(TOPIC)) > 1, "what came later")
            assert [message.payload for message in client.on(TOPIC)] == [b"goodbye", b"later"]


class TestSession:
    """QoS 1 messages to a client whose session the broker keeps."""

    @pytest.fixture
    def service(self, broker: Broker) -> Iterator[Service]:
        with Service(broker, session=True, subscriptions=[Subscription(TOPIC, qos=1)]) as service:
            service.connect()
            with peer(broker) as client:

                def is_subscribed() -> bool:
                    client.publish(TOPIC, b"probe")
                    return bool(service.heard)

                service.serve_until(is_subscribed, "subscribed")
            self.quiet(service, broker)
            yield service

    def quiet(self, service: Service, broker: Broker) -> None:
        """Everything so far has come and is acknowledged."""
        self.send(broker, b"end")
        service.serve_until(lambda: b"end" in service.payloads(), "the end")
        for message in service.heard:
            service.connection.acknowledge(message)
        service.heard.clear()

    def send(self, broker: Broker, *payloads: bytes) -> None:
        with peer(broker) as client:
            for payload in payloads:
                client.publish(TOPIC, payload)

    def reconnect(self, service: Service) -> None:
        service.cut()
        service.heard.clear()
        service.connect()

    def test_what_is_not_acknowledged_comes_again_after_the_wire_was_cut(
        self, broker: Broker, service: Service
    ) -> None:
        self.send(broker, b"1", b"2")
        service.serve_until(lambda: len(service.heard) == 2, "both")
        self.reconnect(service)
        service.serve_until(lambda: len(service.heard) == 2, "both again")
        assert service.payloads() == [b"1", b"2"]

    def test_what_is_acknowledged_does_not(self, broker: Broker, service: Service) -> None:
        self.send(broker, b"1", b"2")
        service.serve_until(lambda: len(service.heard) == 2, "both")
        service.connection.acknowledge(service.heard[0])
        # The broker has the acknowledgement once it has answered what was sent after it.
        self.send(broker, b"3")
        service.serve_until(lambda: len(service.heard) == 3, "a third")
        self.reconnect(service)
        service.serve_until(lambda: len(service.heard) == 2, "the others again")
        assert service.payloads() == [b"2", b"3"]

    def test_a_user_property_with_u_feff_is_delivered_and_can_be_acknowledged(
        self, broker: Broker, service: Service
    ) -> None:
        """MQTT allows U+FEFF, and paho by itself does not."""
        with peer(broker) as client:
            client.publish(TOPIC, b"1", user_property=("\ufeffname", "value\ufeff"))
        service.serve_until(lambda: bool(service.heard), "it is delivered")
        assert service.payloads() == [b"1"]
        assert service.births == 1
        self.quiet(service, broker)
        self.reconnect(service)
        self.send(broker, b"2")
        service.serve_until(lambda: bool(service.heard), "the next")
        assert service.payloads() == [b"2"]

    def test_what_comes_while_it_is_away_is_kept_for_it(
        self, broker: Broker, service: Service
    ) -> None:
        service.cut()
        self.send(broker, b"1")
        service.connect()
        service.serve_until(lambda: bool(service.heard), "it is delivered")
        assert service.payloads() == [b"1"]

    def test_an_acknowledgement_that_comes_after_the_reconnect_is_dropped(
        self, broker: Broker, service: Service
    ) -> None:
        """It would acknowledge whatever bears the same number on the new connection."""
        self.send(broker, b"1")
        service.serve_until(lambda: bool(service.heard), "it is delivered")
        late = service.heard[0]
        self.reconnect(service)
        service.serve_until(lambda: bool(service.heard), "it is delivered again")
        service.connection.acknowledge(late)
        self.reconnect(service)
        service.serve_until(lambda: bool(service.heard), "and again")
        assert service.payloads() == [b"1"]
        self.quiet(service, broker)
        self.reconnect(service)
        self.send(broker, b"2")
        service.serve_until(lambda: bool(service.heard), "the next")
        assert service.payloads() == [b"2"]


class TestPublish:
    def test_without_a_connection_it_says_so_and_nothing_is_sent_later(self, down: Broker) -> None:
        with Service(down) as service:
            assert service.connection.publish(TOPIC, b"1", qos=1) is False
            down.start()
            with peer(down) as client:
                client.subscribe(TOPIC)
                service.connect()
                assert service.connection.publish(TOPIC, b"2", qos=1) is True
                service.serve_until(lambda: bool(client.on(TOPIC)), "the second")
                service.cut()
                assert service.connection.publish(TOPIC, b"3", qos=1) is False
                service.connect()
                assert service.connection.publish(TOPIC, b"4", qos=1) is True
                service.serve_until(lambda: client.on(TOPIC)[-1].payload == b"4", "the fourth")
                # What was not acknowledged when the wire was cut comes twice.
                heard = dict.fromkeys(message.payload for message in client.on(TOPIC))
                assert list(heard) == [b"2", b"4"]

    def test_what_is_sent_together_arrives_whole_and_in_order(self, broker: Broker) -> None:
        sent = [bytes([n]) * 10_000 for n in range(20)]
        with Service(broker) as service, peer(broker) as client:
            client.subscribe(TOPIC)
            service.connect()
            with service.connection.together():
                for payload in sent:
                    service.connection.publish(TOPIC, payload, qos=1)
            service.serve_until(lambda: len(client.on(TOPIC)) == len(sent), "all of it")
            assert [message.payload for message in client.on(TOPIC)] == sent

    def test_correlation_data_goes_with_it(self, broker: Broker) -> None:
        with Service(broker) as service, peer(broker) as client:
            client.subscribe(TOPIC)
            service.connect()
            service.connection.publish(TOPIC, b"reply", correlation=b"\x00\xff")
            service.serve_until(lambda: bool(client.on(TOPIC)), "it is there")
            message = client.on(TOPIC)[0]
            assert getattr(message.properties, "CorrelationData", None) == b"\x00\xff"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    found = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-out", str(found[0]), "-keyout", str(found[1]), "-subj", "/CN=127.0.0.1"]
    subprocess.run(
        [*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    return found


class TestTls:
    def test_many_messages_in_one_record_are_all_handed_over(
        self, certificate: tuple[Path, Path]
    ) -> None:
        """Once the record is decrypted the socket says nothing of what is left of it."""
        payloads = [b"%d" % n for n in range(300)]
        record = CONNACK + b"".join(publish_packet(TOPIC, payload) for payload in payloads)
        assert len(record) < 16_384, "what fits into a record"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)

        def serve() -> None:
            with context.wrap_socket(scripted.accept_raw(), server_side=True) as sock:
                accepted = Peer(sock)
                accepted.next_packet()
                accepted.send(record)
                with suppress(ConnectionError):
                    while accepted.next_packet():
                        pass

        with ScriptedBroker() as scripted, ThreadPoolExecutor(1) as threads:
            served = threads.submit(serve)
            with Service(scripted, ca=certificate[0]) as service:
                service.serve_until(lambda: len(service.heard) == len(payloads), "all of them")
                assert service.payloads() == payloads
            served.result(PATIENCE_S)
