"""Which reply the gateway takes for the answer to which copy of a request."""

import asyncio
from typing import Any

import orjson
import pytest

from services.gateway.replies import Replies

TOPIC = "flexfeeder/reply/gateway-1"
UNDER_WAY = {"status": "error", "code": "request_in_progress"}
AWAY = {"status": "error", "code": "service_unavailable"}
DONE = {"status": "success"}


def said(reply: dict[str, str]) -> bytes:
    return orjson.dumps({"request_id": "1", **reply})


def answered(expected: Any) -> str | None:
    return expected.reply.result()["status"] if expected.reply.done() else None


def test_a_reply_on_its_topic_is_the_answer() -> None:
    async def ask() -> None:
        replies = Replies(TOPIC)
        with replies.expect("1") as expected:
            assert replies.take(f"{TOPIC}/9", said(DONE)), "another copy"
            assert answered(expected) is None
            assert replies.take(TOPIC, said(AWAY))
            assert answered(expected) == "error"

    asyncio.run(ask())


def test_a_refusal_of_an_earlier_copy_is_no_answer() -> None:
    """The store was away for the first: that nothing was changed says nothing of the second."""

    async def ask() -> None:
        replies = Replies(TOPIC)
        with replies.expect("1") as expected:
            first = expected.topic
            replies.repeat(expected)
            assert expected.topic != first
            replies.take(first, said(AWAY))
            assert answered(expected) is None
            replies.take(expected.topic, said(DONE))
            assert answered(expected) == "success"
        with replies.expect("1") as again:
            assert again.topic not in {first, f"{TOPIC}/0"}

    asyncio.run(ask())


def test_a_success_is_one_whichever_copy_it_answers() -> None:
    async def ask() -> None:
        replies = Replies(TOPIC)
        with replies.expect("1") as expected:
            first = expected.topic
            replies.repeat(expected)
            replies.take(first, said(DONE))
            assert answered(expected) == "success"

    asyncio.run(ask())


@pytest.mark.parametrize("reply", [UNDER_WAY, AWAY], ids=lambda reply: reply["code"])
def test_a_later_copy_may_leave_open_what_became_of_the_first(reply: dict[str, str]) -> None:
    async def ask() -> None:
        replies = Replies(TOPIC)
        with replies.expect("1") as expected:
            replies.repeat(expected)
            replies.take(expected.topic, said(reply))
            assert answered(expected) is None
            was_open = expected.is_open
            replies.repeat(expected)
            assert (was_open, expected.is_open) == (True, False)
            replies.take(expected.topic, said(DONE))
            assert answered(expected) == "success"

    asyncio.run(ask())


def test_somebody_elses_request_under_way_is_an_answer_to_a_single_copy() -> None:
    async def ask() -> None:
        replies = Replies(TOPIC)
        with replies.expect("1") as expected:
            replies.take(expected.topic, said(UNDER_WAY))
            assert answered(expected) == "error"

    asyncio.run(ask())
