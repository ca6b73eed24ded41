"""A connection to the gateway cannot be held for nothing, whatever is sent on it, or not sent.

Server and callers share a process and a clock that stands still while anybody has something to do:
what a test measures is what they wait for, and not how long this machine takes for the rest.
"""

import asyncio
import resource
import selectors
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from support import quiet_log

from services.gateway.figures import Figures
from services.gateway.server import Connections, Protocol, Server

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

LARGE = 5_000_000
"""Bytes of an answer that no buffer between two processes takes in whole."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

STILL_S = 0.02
"""Where nothing has come for this long, in real seconds, everybody waits for the clock."""


class Stillness(selectors.DefaultSelector):
    """Lets the clock go on only where nothing comes; who waits has no longer to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(STILL_S)
        if not found:
            self.now += timeout
        return found


class Loop(asyncio.SelectorEventLoop):
    """A loop on such a clock."""

    def __init__(self) -> None:
        self._stillness = Stillness()
        super().__init__(self._stillness)

    def time(self) -> float:
        return self._stillness.now


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once; ``/large`` with much, ``/body`` once it has the body, ``/wait`` never."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/body":
        while (await receive()).get("more_body"):
            pass
    elif scope["path"] == "/wait":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    text = "x" * LARGE if scope["path"] == "/large" else "here"
    await PlainTextResponse(text)(scope, receive, send)


class Served(NamedTuple):
    port: int
    connections: Connections

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Streams]:
        reader, writer = await self.connect()
        try:
            yield reader, writer
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    served: Any = app, keep_alive_s: int = 60, **bounds: Any
) -> AsyncIterator[Served]:
    """The server in this process, with bounds of the test's own."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections = Connections(quiet_log(), Figures(), **bounds)
    config = uvicorn.Config(
        served,
        http=Protocol,
        ws="none",
        log_config=None,
        log_level="critical",
        lifespan="off",
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=0,
    )
    server = Server(config, connections, None, lambda: None)
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110 - it offers no more than this
            await asyncio.sleep(0.01)
        yield Served(listener.getsockname()[1], connections)
    finally:
        server.should_exit = True
        await task


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(bounded())


async def answer_of(streams: Streams, request: bytes) -> bytes:
    """The first line of the answer to a request that goes on with the connection."""
    reader, writer = streams
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15] == b"content-length:")
    await reader.readexactly(length)
    return head.partition(b"\r\n")[0]


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What else comes until the connection is closed, be it in order or not."""
    found = b""
    try:
        while piece := await reader.read(65536):
            found += piece
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET", b"GET / HTTP/1.1\r\nHost: loc", b"\r\n\r\n"],
    ids=["silent", "a word", "half a head", "empty lines"],
)
def test_a_first_head_that_does_not_come_is_not_waited_for(begin: bytes) -> None:
    async def test() -> None:
        async with serving(head_s=0.1) as served, served.connected() as (reader, writer):
            writer.write(begin)
            assert await rest(reader) == b""
            assert served.connections.closed == {"slow head": 1}

    run(test)


def test_a_head_that_comes_by_the_byte_has_no_more_time() -> None:
    async def test() -> None:
        async with serving(head_s=0.3) as served, served.connected() as (reader, writer):

            async def drip() -> None:
                while True:
                    writer.write(b"X-A: b\r\n")
                    await asyncio.sleep(0.01)

            writer.write(b"GET / HTTP/1.1\r\n")
            dripping = asyncio.create_task(drip())
            assert await rest(reader) == b""
            dripping.cancel()
            assert served.connections.closed == {"slow head": 1}

    run(test)


@pytest.mark.parametrize("begin", [b"GET / HT", b"\r\n"], ids=["half a head", "an empty line"])
def test_nor_is_a_later_one(begin: bytes) -> None:
    async def test() -> None:
        async with serving(head_s=0.1) as served, served.connected() as streams:
            assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
            streams[1].write(begin)
            assert await rest(streams[0]) == b""
            assert served.connections.closed == {"slow head": 1}

    run(test)


def test_an_idle_connection_is_closed_in_order() -> None:
    async def test() -> None:
        async with serving(keep_alive_s=1) as served, served.connected() as streams:
            assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
            assert await streams[0].read() == b""
            assert not served.connections.closed

    run(test)


def test_time_between_requests_and_time_of_an_answer_do_not_count_as_of_a_head() -> None:
    """A head may take 0.5 s; the connection rests for longer, and a body takes longer."""

    async def test() -> None:
        async with serving(head_s=0.5) as served, served.connected() as streams:
            for _ in range(2):
                assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
                await asyncio.sleep(0.8)
            streams[1].write(b"POST /body HTTP/1.1\r\nContent-Length: 2\r\n\r\na")
            await asyncio.sleep(0.8)
            assert await answer_of(streams, b"b") == b"HTTP/1.1 200 OK"
            assert not served.connections.closed

    run(test)


def test_the_rest_of_a_body_that_nobody_wants_is_not_waited_for() -> None:
    """The answer came before it; where it does come, the connection is as good as before."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\n"

    async def test() -> None:
        async with serving(head_s=0.6) as served:
            async with served.connected() as streams:
                assert await answer_of(streams, head + b"ab") == b"HTTP/1.1 200 OK"
                streams[1].write(b"cd")
                assert await rest(streams[0]) == b""
            async with served.connected() as streams:
                assert await answer_of(streams, head + b"ab") == b"HTTP/1.1 200 OK"
                streams[1].write(b"cd")
                await asyncio.sleep(0.05)
                streams[1].write(b"ef")
                await asyncio.sleep(0.9)
                assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
            assert served.connections.closed == {"slow head": 1}

    run(test)


def test_what_is_long_in_coming_after_an_unwanted_body_is_not_cut_off() -> None:
    """The rest of a body and the next request in one piece: its idle time is over by then."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"

    async def test() -> None:
        async with serving(keep_alive_s=1) as served, served.connected() as streams:
            assert await answer_of(streams, head + b"a") == b"HTTP/1.1 200 OK"
            streams[1].write(b"b")
            await asyncio.sleep(0.05)
            streams[1].write(b"cdPOST /body HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
            await asyncio.sleep(1.5)
            assert await answer_of(streams, b"x") == b"HTTP/1.1 200 OK"
            assert not served.connections.closed

    run(test)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-A: 0123456789\r\n" * 5_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 700_000,
        b"GET / HTTP/1.1\r\n" + b"X-A: 0123456789\r\n" * 50_000,
    ],
    ids=["path", "header", "headers", "a header without end", "headers without end"],
)
def test_a_head_of_more_than_64_kib_is_refused(head: bytes) -> None:
    async def test() -> None:
        async with serving() as served, served.connected() as (reader, writer):
            writer.write(head)
            # It hangs up with much unread, so that its words may be lost on the way.
            assert (await rest(reader) or b"HTTP/1.1 431 ").startswith(b"HTTP/1.1 431 ")
            assert served.connections.closed == {"the head of the request is too long": 1}

    run(test)


def test_a_long_head_that_is_within_bounds_is_taken_in_one_piece_or_many() -> None:
    head = b"GET / HTTP/1.1\r\nX-A: " + b"a" * 60_000 + b"\r\n\r\n"

    async def test() -> None:
        async with serving() as served, served.connected() as streams:
            assert await answer_of(streams, head) == b"HTTP/1.1 200 OK"
            for start in range(0, len(head) - 5_000, 5_000):
                streams[1].write(head[start : start + 5_000])
                await asyncio.sleep(0.001)
            assert await answer_of(streams, head[60_000:]) == b"HTTP/1.1 200 OK"

    run(test)


@pytest.mark.parametrize("ending", [b"", b"\r\n"], ids=["one", "many"])
def test_what_follows_a_body_in_pieces_is_bounded_too(ending: bytes) -> None:
    """A chunked body may have headers after it."""
    begin = b"POST /body HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"

    async def test() -> None:
        async with serving() as served, served.connected() as (reader, writer):
            writer.write(begin)
            writer.write((b"X-A: " + b"a" * 1_000 + ending) * 1_000)
            await rest(reader)
            assert served.connections.closed == {"the head of the request is too long": 1}

    run(test)


def test_a_large_body_is_no_long_head() -> None:
    body = b"a" * 1_000_000

    async def test() -> None:
        async with serving() as served, served.connected() as streams:
            head = b"POST /body HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
            for _ in range(2):
                assert await answer_of(streams, head + body) == b"HTTP/1.1 200 OK"
            assert not served.connections.closed

    run(test)


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n:\r\n\r\n", b"\x00"]
)
def test_what_is_not_http_is_told_so_and_hung_up_on(noise: bytes) -> None:
    async def test() -> None:
        async with serving() as served, served.connected() as (reader, writer):
            writer.write(noise)
            answer = await rest(reader)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"\r\nx-content-type-options: nosniff\r\n" in answer
            assert answer.endswith(b"\r\n\r\nthis is not HTTP")
            assert served.connections.closed == {"this is not HTTP": 1}

    run(test)


def test_those_that_are_closed_are_in_the_figures() -> None:
    async def test() -> None:
        async with serving() as served:
            for noise in (b"\x00", b"\x00", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"):
                async with served.connected() as (reader, writer):
                    writer.write(noise)
                    await rest(reader)
            registry = served.connections.figures.registry
            told = {
                sample.labels["reason"]: sample.value
                for metric in registry.collect()
                for sample in metric.samples
                if sample.name == "flexfeeder_gateway_connections_closed_total" and sample.value
            }
            assert told == served.connections.closed
            assert told == {"this is not HTTP": 2, "the head of the request is too long": 1}

    run(test)


def test_noise_after_a_request_does_not_get_into_its_answer() -> None:
    async def test() -> None:
        async with serving() as served, served.connected() as (reader, writer):
            writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
            writer.write(b"\x00noise")
            assert await rest(reader) == b""
            assert served.connections.closed == {"this is not HTTP": 1}

    run(test)


def test_of_too_many_connections_the_last_are_closed_at_once() -> None:
    async def test() -> None:
        async with serving(most=3) as served:
            held = [await served.connect() for _ in range(3)]
            for streams in held:
                assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
            for number in range(1, 4):
                async with served.connected() as (reader, _):
                    assert await rest(reader) == b""
                assert served.connections.closed == {"too many connections": number}
            for streams in held:
                assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
            held[0][1].close()
            await held[0][1].wait_closed()
            async with served.connected() as streams:
                assert await answer_of(streams, GET) == b"HTTP/1.1 200 OK"
            for _, writer in held:
                writer.close()

    run(test)


def test_a_caller_that_does_not_read_its_answers_is_cut_off() -> None:
    async def test() -> None:
        async with serving(unread_s=0.2) as served:
            loop = asyncio.get_running_loop()
            with socket.create_connection(("127.0.0.1", served.port)) as deaf:
                deaf.setblocking(False)
                await loop.sock_sendall(deaf, b"GET /large HTTP/1.1\r\n\r\n" * 10)
                while not served.connections.closed:  # noqa: ASYNC110 - a counter has no event
                    await asyncio.sleep(0.01)
            assert served.connections.closed == {"does not read": 1}

    run(test)


def test_a_slow_reader_that_reads_is_not() -> None:
    async def test() -> None:
        async with serving(unread_s=0.5) as served, served.connected() as streams:
            for _ in range(3):
                assert (
                    await answer_of(streams, b"GET /large HTTP/1.1\r\n\r\n") == b"HTTP/1.1 200 OK"
                )
                await asyncio.sleep(0.3)
            assert not served.connections.closed

    run(test)


@pytest.mark.parametrize(
    ("soft", "hard", "room", "then"),
    [(256, 1000, 900, 1000), (256, 5000, 2000, 2100), (4000, 5000, 2000, 4000)],
)
def test_there_are_as_many_connections_as_there_may_be_files(
    soft: int, hard: int, room: int, then: int
) -> None:
    """A hundred files are something else; the process asks for no more than it needs."""
    script = (
        "import resource; from services.gateway.server import room_for_connections as room; "
        "print(room(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == [str(room), str(then), str(hard)]
