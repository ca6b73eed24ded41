"""/events: who reads is told what happens, and nobody else is held up by who does not."""

import contextlib
import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple, Self

import httpx
import orjson
import pytest
from gateway_peers import FEEDER, OTHER, Gateway, Json, Scene, playing, state
from patience import PATIENCE_S
from support import assert_refused, results

from flexfeeder import ports
from flexfeeder.testing import wait_until
from schemas import topics
from services.gateway.outbox import MOST_WAITING
from services.gateway.streams import MOST_READERS

# Over loopback, without TLS: to read all authorities takes longer than a request.
get = partial(httpx.get, timeout=PATIENCE_S, verify=False)
post = partial(httpx.post, timeout=PATIENCE_S, verify=False)


class Event(NamedTuple):
    name: str
    identity: str | None
    data: str

    @property
    def content(self) -> Json:
        found: Json = orjson.loads(self.data)
        return found


class Reader:
    """Reads a stream in a thread of its own, and keeps what it is told."""

    def __init__(self, gateway: Gateway, feeder: str | None = None) -> None:
        self.events: list[Event] = []
        self.headers: dict[str, str] = {}
        self.ended_well = False
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        self._path = f"/events?feeder={feeder}" if feeder else "/events"
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._connection.connect()
        self._socket = self._connection.sock
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the gateway may have left before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    def versions(self) -> list[int]:
        """Of the states, in the order in which they came."""
        return [int(event.identity or "") for event in self.named("state")]

    def has_heard(self, name: str, times: int = 1) -> None:
        """Wait until it has been told of so many, or more."""
        wait_until(lambda: len(self.named(name)) >= times, f"{times} x {name}")

    def has_read_up_to(self, version: int) -> None:
        """Wait until it has been sent a state."""
        wait_until(lambda: self.versions()[-1:] == [version], f"version {version} has come")

    def _read(self) -> None:
        self._connection.request("GET", self._path)
        response = self._connection.getresponse()
        assert response.status == 200
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        fields: dict[str, str] = {}
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError), response:
            while line := response.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    assert name not in fields
                    fields[name] = value
                elif "event" in fields:
                    self.events.append(Event(fields["event"], fields.get("id"), fields["data"]))
                    fields = {}
                else:
                    assert fields == {"": "ping"}
                    fields = {}
            self.ended_well = not fields


@contextmanager
def reading(gateway: Gateway, feeder: str | None = None) -> Iterator[Reader]:
    """A reader, from its first state on."""
    with Reader(gateway, feeder) as reader:
        reader.has_heard("state")
        yield reader


@contextmanager
def calling(gateway: Gateway, buffer: int = 1 << 16) -> Iterator[socket.socket]:
    """A caller of the stream who reads only what the test reads."""
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        caller.settimeout(PATIENCE_S)
        caller.connect(("127.0.0.1", gateway.port))
        caller.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert caller.recv(12) == b"HTTP/1.1 200"
        yield caller


def readers_of(gateway: Gateway) -> int:
    """How many readers the gateway says that it has."""
    for line in (ports.fetch(f"{gateway.url}/metrics", PATIENCE_S) or b"").decode().splitlines():
        if line.startswith("flexfeeder_gateway_readers "):
            return int(float(line.split()[1]))
    raise AssertionError("there is no such figure")


def alert(feeder: str = FEEDER, **changes: object) -> Json:
    return {
        "feeder": feeder,
        "kind": "overload",
        "event": "begin",
        "subject": "neighbourhood_1",
        "at": "2026-11-22T10:00:00Z",
        "version": 7,
        "message": "too much",
        "value": 120.0,
        "limit": 100.0,
        **changes,
    }


def program(feeder: str = FEEDER, **changes: object) -> Json:
    return {
        "feeder": feeder,
        "event": "subscribed",
        "name": "peak_shaving",
        "number": 1,
        "at": "2026-11-22T10:00:00Z",
        "revision": 3,
        "bus": "1",
        "total_shed_kw": None,
        **changes,
    }


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(tmp_path_factory.mktemp("scene")) as found:
        yield found


@pytest.fixture(scope="module")
def _gateway(scene: Scene) -> Iterator[Gateway]:
    with scene.gateway() as running:
        yield running


@pytest.fixture
def gateway(_gateway: Gateway) -> Iterator[Gateway]:
    """A gateway that nobody reads from, and that meets no error of its own."""
    wait_until(lambda: readers_of(_gateway) == 0, "all others have left")
    wait_until(lambda: get(f"{_gateway.url}/readyz").status_code == 200, "everybody is there")
    yield _gateway
    assert _gateway.logged("request_failed") == []
    assert "Traceback" not in _gateway.log_path.read_text(encoding="utf-8")


def tell(scene: Scene, topic: str, content: Json) -> None:
    scene.solver.client.publish(topic, orjson.dumps(content))


class TestStates:
    def test_the_first_comes_at_once_as_the_solver_wrote_it(
        self, scene: Scene, gateway: Gateway
    ) -> None:
        held = get(f"{gateway.url}/get_state")
        with reading(gateway) as reader:
            first = reader.events[0]
        assert (first.name, first.identity) == ("state", str(scene.solver.version))
        assert held.text.endswith(f'"results":{first.data}}}')

    def test_the_answer_is_a_stream_that_nobody_keeps(self, gateway: Gateway) -> None:
        with reading(gateway) as reader:
            assert reader.headers["content-type"].startswith("text/event-stream")
            assert reader.headers["cache-control"] == "no-cache"

    def test_of_many_the_last_is_sent_but_not_all(self, scene: Scene, gateway: Gateway) -> None:
        """Forty, as fast as they can be published; two a second are sent."""
        with reading(gateway) as reader:
            for _ in range(40):
                scene.solver.publish_state()
            last = scene.solver.version
            reader.has_read_up_to(last)
            versions = reader.versions()
        assert versions == sorted(set(versions))
        assert len(versions) < 40

    def test_one_that_is_said_again_is_sent_once(self, scene: Scene, gateway: Gateway) -> None:
        with reading(gateway) as reader:
            body = state(FEEDER, scene.solver.version)
            scene.solver.client.publish(topics.state(FEEDER), body)
            last = scene.solver.publish_state()
            reader.has_read_up_to(last)
            assert reader.versions() == [last - 1, last]

    def test_a_feeder_may_have_none_yet(self, scene: Scene, gateway: Gateway) -> None:
        status = orjson.dumps({"status": "online", "service": "solver", "feeder": "late"})
        scene.solver.client.publish(topics.service_status("solver-late"), status)
        url = f"{gateway.url}/get_state?feeder=late"
        wait_until(lambda: get(url).status_code == 503, "it has been heard of")
        with Reader(gateway, "late") as reader:
            wait_until(lambda: readers_of(gateway) == 1, "it reads")
            scene.solver.client.publish(topics.state("late"), state("late", 1))
            reader.has_read_up_to(1)


class TestEvents:
    def test_alerts_and_program_events_arrive(self, scene: Scene, gateway: Gateway) -> None:
        with reading(gateway) as reader:
            tell(scene, topics.alert(FEEDER), alert())
            tell(scene, topics.program_event(FEEDER), program())
            tell(scene, topics.alert(FEEDER), alert(event="end", value=None))
            reader.has_heard("alert", 2)
            reader.has_heard("program")
        assert [event.content for event in reader.named("alert")] == [
            alert(),
            alert(event="end", value=None),
        ]
        assert [event.content for event in reader.named("program")] == [program()]
        assert {event.identity for event in reader.events if event.name != "state"} == {None}

    def test_each_reader_hears_of_its_feeder(self, scene: Scene, gateway: Gateway) -> None:
        with reading(gateway) as ours, reading(gateway, OTHER.upper()) as theirs:
            tell(scene, topics.alert(FEEDER), alert())
            tell(scene, topics.alert(OTHER), alert(OTHER))
            tell(scene, topics.program_event(OTHER), program(OTHER))
            tell(scene, topics.program_event(FEEDER), program())
            last = scene.other.publish_state()
            for reader in (ours, theirs):
                reader.has_heard("program")
            theirs.has_read_up_to(last)
        assert {event.content["feeder"] for event in ours.events} == {FEEDER}
        assert {event.content["feeder"] for event in theirs.events} == {OTHER}

    def test_what_is_forged_is_passed_on_to_nobody(self, scene: Scene, gateway: Gateway) -> None:
        forged: list[tuple[str, bytes]] = [
            (topics.alert(FEEDER), b""),
            (topics.alert(FEEDER), b"not json"),
            (topics.alert(FEEDER), orjson.dumps(program())),
            (topics.alert(FEEDER), orjson.dumps(alert(kind="party"))),
            (topics.alert(FEEDER), orjson.dumps(alert(extra=1))),
            (topics.alert(FEEDER), orjson.dumps(alert(OTHER))),
            (topics.program_event(FEEDER), orjson.dumps(program(number="1"))),
            (topics.program_event(FEEDER), b"\xff\xfe"),
        ]
        with reading(gateway) as reader:
            for topic, payload in forged:
                scene.solver.client.publish(topic, payload)
            tell(scene, topics.alert(FEEDER), alert(subject="the real one"))
            tell(scene, topics.program_event(FEEDER), program())
            reader.has_heard("program")
            reader.has_heard("alert")
        assert [event.content["subject"] for event in reader.named("alert")] == ["the real one"]
        assert len(reader.named("program")) == 1
        refused = [entry["topic"] for entry in gateway.logged("event_refused")]
        assert sorted(refused) == [f"{FEEDER}/alert", f"{FEEDER}/program"], "once for each topic"

    def test_line_breaks_in_an_event_make_no_other(self, scene: Scene, gateway: Gateway) -> None:
        broken = alert(message="a\n\nevent: alert\ndata: {}\r\n")
        pretty = orjson.dumps(broken, option=orjson.OPT_INDENT_2)
        with reading(gateway) as reader:
            scene.solver.client.publish(topics.alert(FEEDER), pretty)
            tell(scene, topics.program_event(FEEDER), program())
            reader.has_heard("program")
        assert [event.content for event in reader.named("alert")] == [broken]


class TestRefused:
    def test_another_feeder_than_there_is(self, gateway: Gateway) -> None:
        answer = get(f"{gateway.url}/events?feeder=gamma")
        assert_refused(answer, 404, "feeder_not_found", "feeder")
        assert_refused(get(f"{gateway.url}/events?feeder=a%20b"), 422, "invalid_value")

    def test_one_reader_too_many(self, gateway: Gateway) -> None:
        """Until somebody leaves."""
        with ExitStack() as stack:
            for _ in range(MOST_READERS):
                caller = stack.enter_context(calling(gateway))
            assert readers_of(gateway) == MOST_READERS
            answer = get(f"{gateway.url}/events")
            assert_refused(answer, 503, "service_unavailable", "events")
            caller.close()
            wait_until(lambda: readers_of(gateway) == MOST_READERS - 1, "one has left")
            with reading(gateway):
                pass


class TestSlowReaders:
    def test_one_that_does_not_read_is_cut_off_and_nobody_else_waits(
        self, scene: Scene, gateway: Gateway
    ) -> None:
        """Its socket takes a few events of 200 kB; when it is full, one more than may wait is too
        many.
        """
        long = "x" * 200_000
        with calling(gateway, buffer=4096) as stuck, reading(gateway) as reader:
            told = 0
            while not gateway.logged("reader_cut_off"):
                assert told < 10 * MOST_WAITING
                tell(scene, topics.alert(FEEDER), alert(message=long, version=told))
                told += 1
                reader.has_heard("alert", told)
            [entry] = gateway.logged("reader_cut_off")
            # Or for not reading, where it took this machine that long to tell so many.
            assert told > MOST_WAITING or "not read" in entry["reason"]
            assert entry["client"] == "{}:{}".format(*stuck.getsockname())
            results(post(f"{gateway.url}/run_simulation"))
            wait_until(lambda: readers_of(gateway) == 1, "it is no reader any more")
            # The connection is gone, not only the stream: what is in the socket is all there is.
            with contextlib.suppress(ConnectionResetError):
                while stuck.recv(1 << 20):
                    pass

    def test_one_that_leaves_is_forgotten(self, gateway: Gateway) -> None:
        with calling(gateway):
            assert readers_of(gateway) == 1
        wait_until(lambda: readers_of(gateway) == 0, "it has left")
        assert len(gateway.logged("reader_cut_off")) <= 1, "that is not being cut off"


class TestShutdown:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_open_streams_end_and_hold_up_nothing(
        self, scene: Scene, number: signal.Signals
    ) -> None:
        """One reads, one does not: neither is waited for until uvicorn's patience is over."""
        with (
            scene.gateway() as gateway,
            reading(gateway) as reader,
            calling(gateway, buffer=4096),
        ):
            for told in range(1, 21):
                tell(scene, topics.alert(FEEDER), alert(message="x" * 500_000))
                reader.has_heard("alert", told)
            gateway.process.send_signal(number)
            assert gateway.process.wait(20) == 0
            wait_until(lambda: reader.ended_well, "its stream has ended as it should")
            log = gateway.log_path.read_text(encoding="utf-8")
        assert '"event": "stopped"' in log
        assert "Traceback" not in log
        assert "timeout graceful shutdown exceeded" not in log
