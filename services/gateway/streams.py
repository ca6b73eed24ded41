"""Who reads ``/events``, and what each of them is sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from pydantic import ValidationError
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from schemas.alerts import Alert
from schemas.errors import ErrorCode, Refusal
from schemas.programs import ProgramEvent
from schemas.wire import canonical
from services.gateway.newest import HeldState
from services.gateway.outbox import MOST_WAITING, Outbox, encoded
from services.logs import Log, OncePerTopic

MOST_READERS = 100

MOST_READERS_A_KEY = 20
"""So that no key takes them all."""

PATIENCE_S = 10.0
"""How long a reader may take to make room for the next event."""

EVENTS: dict[str, type[Alert] | type[ProgramEvent]] = {"alert": Alert, "program": ProgramEvent}
"""What is passed on beside the states, by its name as an event and in its topic."""


class Reader:
    """One caller of ``/events``; ``hang_up`` ends its connection even if it does not read."""

    def __init__(
        self, hang_up: Callable[[], None], patience_s: float, log: Log, key_id: str | None
    ) -> None:
        self.key_id = key_id
        self._hang_up = hang_up
        self._patience_s = patience_s
        self._log = log
        self._outbox = Outbox(time.monotonic())
        self._wake = asyncio.Event()
        self._sending: asyncio.TimerHandle | None = None
        self._ended = False

    def put_state(self, state: bytes) -> None:
        if self._outbox.put_state(state):
            self._wake.set()

    def put_event(self, event: bytes) -> None:
        if self._outbox.put_event(event):
            self._wake.set()
        elif not self._ended:
            self._cut_off(f"{MOST_WAITING} events wait for it")

    def end(self) -> None:
        """No more is sent; a reader that holds things up is not waited for."""
        self._ended = True
        self._wake.set()
        if self._sending is not None:
            self._hang_up()
            self.stop_waiting()

    def stop_waiting(self) -> None:
        """Whatever was being sent is through, or need not be."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """What is sent, piece by piece, until the end."""
        loop = asyncio.get_running_loop()
        while (chunk := await self._next()) is not None:
            self._sending = loop.call_later(
                self._patience_s, self._cut_off, f"it has not read for {self._patience_s:g} s"
            )
            yield chunk
            self.stop_waiting()

    async def _next(self) -> bytes | None:
        while not self._ended:
            now = time.monotonic()
            chunk = self._outbox.take(now)
            if chunk is not None:
                return chunk
            self._wake.clear()
            try:
                async with asyncio.timeout(self._outbox.due() - now):
                    await self._wake.wait()
            except TimeoutError:
                pass
        return None

    def _cut_off(self, reason: str) -> None:
        self._log.warning("reader_cut_off", reason=reason)
        self.end()


class Streams:
    """The readers by feeder. Whatever is not what its topic says is passed on to none."""

    def __init__(self, log: Log, patience_s: float = PATIENCE_S) -> None:
        self._log = log
        self._patience_s = patience_s
        self._readers: dict[str, set[Reader]] = {}
        self._refused = OncePerTopic(log, "event_refused")
        self._closing = False

    @property
    def count(self) -> int:
        """How many readers there are."""
        return sum(map(len, self._readers.values()))

    def on_state(self, feeder: str, state: HeldState) -> None:
        readers = self._readers.get(feeder)
        if readers:
            chunk = encoded("state", state.body, state.version)
            for reader in readers:
                reader.put_state(chunk)

    def on_event(self, feeder: str, kind: str, payload: bytes) -> None:
        readers = self._readers.get(feeder)
        if not readers:
            return
        try:
            event = EVENTS[kind].model_validate_json(payload)
        except ValidationError as error:
            self._refused.warn(f"{feeder}/{kind}", str(Refusal.of_validation(error)))
            return
        if canonical(event.feeder) != feeder:
            self._refused.warn(f"{feeder}/{kind}", "it speaks of another feeder")
            return
        chunk = encoded(kind, event.model_dump_json().encode())
        for reader in readers:
            reader.put_event(chunk)

    def open(
        self,
        feeder: str,
        newest: HeldState | None,
        hang_up: Callable[[], None],
        client: str,
        key_id: str | None = None,
    ) -> "EventStream":
        """A stream of what happens on a feeder, the newest state first, for the bearer of a key
        where keys are needed.

        Raises:
            Refusal: where there are too many readers, or the gateway is about to stop.

        """
        if self._closing or self.count >= MOST_READERS:
            problem = "stopping" if self._closing else f"{MOST_READERS} callers read already"
            raise Refusal.of_field(ErrorCode.SERVICE_UNAVAILABLE, "events", problem)
        if key_id is not None and self._readers_with(key_id) >= MOST_READERS_A_KEY:
            problem = f"{MOST_READERS_A_KEY} callers read already with this key"
            raise Refusal.of_field(ErrorCode.SERVICE_UNAVAILABLE, "events", problem)
        reader = Reader(hang_up, self._patience_s, self._log.bind(client=client), key_id)
        if newest is not None:
            reader.put_state(encoded("state", newest.body, newest.version))
        readers = self._readers.setdefault(feeder, set())
        readers.add(reader)
        return EventStream(reader, lambda: readers.discard(reader))

    def _readers_with(self, key_id: str) -> int:
        return sum(reader.key_id == key_id for each in self._readers.values() for reader in each)

    def close(self) -> None:
        """End every stream, and open no more."""
        self._closing = True
        for readers in self._readers.values():
            for reader in readers:
                reader.end()


class EventStream(StreamingResponse):
    """Server-sent events, not to be kept or held back on their way; ``on_end`` says that the
    reader is gone, however it went.
    """

    media_type = "text/event-stream"

    def __init__(self, reader: Reader, on_end: Callable[[], None]) -> None:
        super().__init__(
            reader.chunks(), headers={"cache-control": "no-cache", "x-accel-buffering": "no"}
        )
        self._reader = reader
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._reader.stop_waiting()
            self._on_end()
