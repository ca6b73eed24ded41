"""Who waits for which reply."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.errors import ErrorCode, Refusal
from services.gateway.keys import HEADER

MOST_EXPECTED = 5000
"""Replies that are waited for at once."""

MOST_UNANSWERED = 10_000
"""Requests of which it is remembered how often they went unanswered."""

TOPICS = 8
"""Topics for the replies to requests that went unanswered before."""


_LEAVES_OPEN = frozenset({ErrorCode.REQUEST_IN_PROGRESS, ErrorCode.SERVICE_UNAVAILABLE})
"""Said of a copy, these leave open what became of those before it."""


@dataclass(slots=True)
class Expected:
    """A reply that is waited for, and the topic on which it is to come."""

    request_id: str
    topic: str
    reply: asyncio.Future[dict[str, Any]]
    earlier: set[str] = field(default_factory=set)
    """The topics of the copies that were sent before, here and now."""
    is_open: bool = False
    """The newest copy was answered, and not what became of those before it."""


class Replies:
    """The replies to one client, on its topic or below it.

    A request that went unanswered and is asked again may be answered twice, and what is said of
    the first does not hold for the second: that nothing was changed, say. So the second is to be
    answered on another topic, and so is one of which another copy is sent meanwhile.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._expected: dict[str, Expected] = {}
        self._unanswered: dict[str, int] = {}
        """How often a request went unanswered, by its id; latest last."""

    @contextmanager
    def expect(self, request_id: str) -> Iterator[Expected]:
        """Wait for a reply, inside.

        Raises:
            Refusal: one is waited for under that id already, or too many are.

        """
        self._check(request_id)
        reply = asyncio.get_running_loop().create_future()
        expected = Expected(request_id, self._topic_for(request_id), reply)
        self._expected[request_id] = expected
        try:
            yield expected
        finally:
            del self._expected[request_id]
            if not reply.done() or reply.cancelled():
                self._went_unanswered(request_id)

    def repeat(self, expected: Expected) -> None:
        """Another copy of a request is to be sent: what is said of the earlier ones counts no
        more.
        """
        self._went_unanswered(expected.request_id)
        expected.earlier.add(expected.topic)
        expected.topic = self._topic_for(expected.request_id)
        expected.is_open = False

    def take(self, topic: str, payload: bytes) -> bool:
        """Hand a message over to whoever waits for it; False for what is no reply."""
        if not topic.startswith(self._topic):
            return False
        try:
            reply = orjson.loads(payload)
            expected = self._expected.get(reply["request_id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return True
        if expected is None or expected.reply.done():
            return True
        if topic != expected.topic:
            if topic in expected.earlier and reply.get("status") == "success":
                expected.reply.set_result(reply)  # it is one, whichever copy it answers
        elif expected.earlier and reply.get("code") in _LEAVES_OPEN:
            expected.is_open = True
        else:
            expected.reply.set_result(reply)
        return True

    def _topic_for(self, request_id: str) -> str:
        times = self._unanswered.get(request_id, 0)
        return f"{self._topic}/{times % TOPICS}" if times else self._topic

    def _check(self, request_id: str) -> None:
        if request_id in self._expected:
            raise Refusal.of_field(
                ErrorCode.REQUEST_IN_PROGRESS, HEADER, "a request with this key is under way"
            )
        if len(self._expected) >= MOST_EXPECTED:
            raise Refusal.of_field(
                ErrorCode.SERVICE_UNAVAILABLE,
                "gateway",
                f"{MOST_EXPECTED} requests are under way already; nothing was changed",
            )

    def _went_unanswered(self, request_id: str) -> None:
        self._unanswered[request_id] = self._unanswered.pop(request_id, 0) + 1
        if len(self._unanswered) > MOST_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
