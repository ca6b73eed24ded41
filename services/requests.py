"""Commands as a service meets them: read from a message, checked, and answered once.

What a command means is its service's business; who asked, by when, and where the answer goes is
the same for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from schemas import topics
from schemas.envelope import LARGEST_COMMAND, Envelope
from schemas.errors import ErrorCode, Refusal
from services.bus import Connection, Message
from services.metrics import LONGEST_WORDS
from services.outcomes import Done, Outcome
from services.stopwatch import Stopwatch

SUCCESS = "success"

C = TypeVar("C", bound=Envelope)


@dataclass(frozen=True, slots=True)
class Request(Generic[C]):
    """A message on a command topic: the command, or why there is none, and where to answer."""

    message: Message
    command: C | Refusal
    request_id: str | None
    reply_topic: str | None
    stopwatch: Stopwatch = field(compare=False)
    """What its time is spent on; it goes on while the request is carried out."""


def read(message: Message, commands: Mapping[str, TypeAdapter[C]], arrived_at: float) -> Request[C]:
    """The request that a message makes; ``commands`` by their names on the topic, ``arrived_at`` in
    seconds of ``time.perf_counter``.
    """
    request_id: str | None = None
    reply_topic = message.response_topic
    stopwatch = Stopwatch(arrived_at)
    try:
        if message.retained:
            raise Refusal.of_field(
                ErrorCode.INVALID_VALUE, "message", "a command is never retained; clear the topic"
            )
        command = decode(message.topic, message.payload, commands)
        request_id = command.request_id
        reply_topic = _reply_topic(message.response_topic, command.reply_to)
    except Refusal as refusal:
        if request_id is None:
            request_id, reply_to = salvage(message.payload)
            reply_topic = reply_topic or reply_to
        return Request(message, refusal, request_id, reply_topic, stopwatch)
    return Request(message, command, request_id, reply_topic, stopwatch)


def check_deadline(command: Envelope, now: datetime) -> None:
    """Refuse a command that comes too late."""
    if command.deadline is not None and now > command.deadline:
        raise Refusal.of_field(
            ErrorCode.DEADLINE_PASSED, "deadline", "it had passed when the command arrived"
        )


def reply(
    connection: Connection,
    request: Request[C],
    outcome: Outcome,
    version: int | None = None,
) -> None:
    """Answer a request, if its sender wants to hear of it on a topic that is for replies.

    ``version`` is that of a state with the command in it, where it concerns one.
    """
    topic = request.reply_topic
    if topic is not None and topics.is_reply(topic):
        payload = _encoded(request.request_id, outcome, version)
        connection.publish(topic, payload, qos=1, correlation=request.message.correlation)


def outcome_of(outcome: Outcome) -> str:
    """What became of a command, in one word: success, or the code of the refusal."""
    return SUCCESS if isinstance(outcome, Done) else outcome.code.value


def traceparent_of(request: Request[C]) -> str | None:
    """What its sender was doing, for who follows a request from service to service."""
    command = request.command
    return None if isinstance(command, Refusal) else command.traceparent


def is_brought_again(earlier: Message, later: Message) -> bool:
    """Whether it is the broker that brings a message again, on a new connection: its sender waits
    for one answer only.
    """
    is_new_connection = later.receipt[0] != earlier.receipt[0]
    return is_new_connection and earlier == replace(later, receipt=earlier.receipt)


def decode(topic: str, payload: bytes, commands: Mapping[str, TypeAdapter[C]]) -> C:
    """The command that a message on a command topic holds.

    Raises:
        Refusal: for an unknown command, an oversize message, or one that does not validate.

    """
    name = topics.command_of(topic)
    adapter = commands.get(name)
    if adapter is None:
        known = ", ".join(sorted(commands))
        raise Refusal.of_field(
            ErrorCode.UNKNOWN_COMMAND, "command", f"there is no command {name!r}; known: {known}"
        )
    if len(payload) > LARGEST_COMMAND:
        raise Refusal.of_field(
            ErrorCode.TOO_LARGE,
            "message",
            f"{len(payload)} bytes; at most {LARGEST_COMMAND} are read",
        )
    try:
        return adapter.validate_json(payload or b"{}")
    except ValidationError as error:
        raise Refusal.of_validation(error) from None


def salvage(payload: bytes) -> tuple[str | None, str | None]:
    """Request id and reply topic of a refused message, as far as they can be read."""
    try:
        # The parser of the validation, which takes the NaN for which it was refused.
        content = from_json(payload) if len(payload) <= LARGEST_COMMAND else None
    except ValueError:
        return None, None
    if not isinstance(content, dict):
        return None, None
    request_id, reply_to = content.get("request_id"), content.get("reply_to")
    return (
        request_id if isinstance(request_id, str) and len(request_id) <= 128 else None,
        reply_to if isinstance(reply_to, str) else None,
    )


def _reply_topic(response_topic: str | None, reply_to: str | None) -> str | None:
    """Where to answer: the response topic of MQTT 5, or ``reply_to`` from the payload.

    Raises:
        Refusal: where they differ, or one is no reply topic: nobody is answered elsewhere.

    """
    wanted = response_topic or reply_to
    if response_topic and reply_to and response_topic != reply_to:
        raise Refusal.of_field(
            ErrorCode.REPLY_TOPIC_REFUSED, "reply_to", "it differs from the response topic"
        )
    if wanted is not None and not topics.is_reply(wanted):
        field = "reply_to" if reply_to else "response_topic"
        raise Refusal.of_field(
            ErrorCode.REPLY_TOPIC_REFUSED, field, "answers go to flexfeeder/reply/{client}/... only"
        )
    return wanted


def _encoded(request_id: str | None, outcome: Outcome, version: int | None) -> bytes:
    """The reply by the contract of ``schemas.replies``, without building its model."""
    if isinstance(outcome, Done):
        return orjson.dumps(
            {
                "request_id": request_id,
                "status": "success",
                "message": outcome.message,
                "version": version,
                "buses": outcome.buses,
                "results": outcome.results,
            }
        )
    return orjson.dumps(
        {
            "request_id": request_id,
            "status": "error",
            "code": outcome.code,
            "message": outcome.message,
            "details": [detail.model_dump() for detail in outcome.details],
        }
    )


def refusal_told(topic: str, outcome: Outcome) -> dict[str, str]:
    """What a log says of a refusal, and where it came from; nothing of a success."""
    if not isinstance(outcome, Refusal):
        return {}
    return {"topic": topic[:LONGEST_WORDS], "problem": outcome.message[:LONGEST_WORDS]}
