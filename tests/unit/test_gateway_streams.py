"""Readers of /events who come, read or do not, and are ended, without a network."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import pytest
import structlog
from structlog.testing import LogCapture

from schemas.errors import ErrorCode, Refusal
from services.gateway.newest import HeldState
from services.gateway.outbox import MOST_WAITING
from services.gateway.server import hang_up_of
from services.gateway.streams import MOST_READERS, EventStream, Streams

FIRST = HeldState(1, b'{"version":1}')

ALERT = orjson.dumps(
    {
        "feeder": "f",
        "kind": "overload",
        "event": "begin",
        "subject": "t",
        "at": "2026-11-22T10:00:00Z",
        "version": 1,
        "message": "too much",
    }
)


@pytest.fixture
def logged() -> LogCapture:
    return LogCapture()


@pytest.fixture
def streams(logged: LogCapture) -> Streams:
    return Streams(
        structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[logged],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        ),
        patience_s=0.01,
    )


class Caller:
    """The other end of a stream. It takes what it is sent until it has as much as it ``wants``;
    from then on its connection is full.
    """

    def __init__(self, streams: Streams, wants: int = 1000) -> None:
        self.chunks: list[bytes] = []
        self.is_complete = False
        self._wants = wants
        self._gone = asyncio.Event()
        self._news = asyncio.Event()
        stream = streams.open("f", FIRST, self._gone.set, "somebody")
        self.task = asyncio.create_task(self._serve(stream))

    def was_hung_up_on(self) -> bool:
        return self._gone.is_set()

    async def has(self, count: int) -> None:
        """Wait until so many pieces have come."""
        while len(self.chunks) < count:
            self._news.clear()
            await self._news.wait()

    async def _serve(self, stream: EventStream) -> None:
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await stream(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] != "http.response.body":
            return
        if not message.get("more_body"):
            self.is_complete = True
            return
        self.chunks.append(message["body"])
        self._news.set()
        if len(self.chunks) >= self._wants:
            await self._gone.wait()


def run(script: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await script()

    asyncio.run(limited())


def test_who_reads_is_told_until_the_end(streams: Streams, logged: LogCapture) -> None:
    async def script() -> None:
        caller = Caller(streams)
        await caller.has(1)
        streams.on_event("f", "alert", ALERT)
        await caller.has(2)
        streams.close()
        await caller.task
        assert [chunk.split(b"\n")[0] for chunk in caller.chunks] == [
            b"event: state",
            b"event: alert",
        ]
        assert caller.is_complete
        assert not caller.was_hung_up_on()

    run(script)
    assert logged.entries == []


def test_who_does_not_take_an_event_in_time_is_cut_off(
    streams: Streams, logged: LogCapture
) -> None:
    async def script() -> None:
        caller = Caller(streams, wants=1)
        await caller.task
        assert caller.was_hung_up_on()
        assert streams.count == 0

    run(script)
    [entry] = logged.entries
    assert (entry["event"], entry["client"]) == ("reader_cut_off", "somebody")


def test_who_lets_too_many_wait_is_cut_off_once(logged: LogCapture) -> None:
    async def script() -> None:
        streams = Streams(structlog.wrap_logger(structlog.PrintLogger(), processors=[logged]))
        caller = Caller(streams, wants=1)
        await caller.has(1)
        for _ in range(MOST_WAITING):
            streams.on_event("f", "alert", ALERT)
        assert not caller.was_hung_up_on()
        for _ in range(10):
            streams.on_event("f", "alert", ALERT)
        assert caller.was_hung_up_on()
        await caller.task
        assert streams.count == 0

    run(script)
    assert [entry["event"] for entry in logged.entries] == ["reader_cut_off"]


def test_at_the_end_nobody_waits_for_one_that_does_not_read(logged: LogCapture) -> None:
    async def script() -> None:
        streams = Streams(structlog.wrap_logger(structlog.PrintLogger(), processors=[logged]))
        caller = Caller(streams, wants=1)
        await caller.has(1)
        streams.close()
        await caller.task
        assert caller.was_hung_up_on()

    run(script)
    assert logged.entries == []


def test_there_are_so_many_readers_and_no_more(streams: Streams) -> None:
    async def script() -> None:
        for _ in range(MOST_READERS):
            streams.open("f", None, lambda: None, "somebody")
        assert streams.count == MOST_READERS
        with pytest.raises(Refusal) as refused:
            streams.open("g", None, lambda: None, "somebody")
        assert refused.value.code == ErrorCode.SERVICE_UNAVAILABLE

    run(script)


def test_after_the_end_there_are_none(streams: Streams) -> None:
    async def script() -> None:
        streams.close()
        with pytest.raises(Refusal) as refused:
            streams.open("f", FIRST, lambda: None, "somebody")
        assert refused.value.code == ErrorCode.SERVICE_UNAVAILABLE

    run(script)


def test_without_readers_nothing_is_looked_at(streams: Streams, logged: LogCapture) -> None:
    streams.on_event("f", "alert", b"not even json")
    streams.on_state("f", FIRST)
    assert logged.entries == []


def test_under_another_server_hanging_up_does_nothing() -> None:
    hang_up_of({"type": "http"})()
