"""Everything that makes a message of bytes: it is read, or refused in the one documented way."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from pydantic import BaseModel, TypeAdapter, ValidationError

from flexfeeder.contract.table import MESSAGES
from fuzz.effort import effort, patient
from fuzz.payloads import Payload, payloads, spoilt
from fuzz.shapes import assert_as_its_schema_says
from schemas import topics
from schemas.commands import MANAGER_COMMANDS, SOLVER_COMMANDS
from schemas.errors import HTTP_STATUS, ErrorCode, Refusal
from schemas.replies import Accepted
from services import requests
from services.gateway.incoming import validated
from services.gateway.programs import PROGRAM_WRITES
from services.gateway.writes import WRITES

pytestmark = patient

COMMANDS: dict[str, TypeAdapter[Any]] = {**SOLVER_COMMANDS, **MANAGER_COMMANDS}

EXAMPLES: dict[Any, dict[str, Any]] = {message.model: message.example for message in MESSAGES}


class Decoder(NamedTuple):
    """Reads bytes, or raises what it ``refuses`` with; ``valid`` are messages that it reads."""

    read: Callable[[bytes], BaseModel]
    refuses: type[Exception]
    valid: list[Any]


def _commands() -> Iterator[tuple[str, Decoder]]:
    for name, adapter in COMMANDS.items():

        def read(payload: bytes, name: str = name) -> Any:
            return requests.decode(topics.command("ieee123", name), payload, COMMANDS)

        yield f"command {name}", Decoder(read, Refusal, [EXAMPLES[adapter._type]])


def _bodies() -> Iterator[tuple[str, Decoder]]:
    for write in (*WRITES, *PROGRAM_WRITES):
        read = partial(validated, TypeAdapter(write.body))
        yield f"body {write.path}", Decoder(read, Refusal, [*write.body_examples.values()])


def _messages() -> Iterator[tuple[str, Decoder]]:
    commands = {adapter._type for adapter in COMMANDS.values()}
    for message in MESSAGES:
        if message.model not in commands:
            read = message.model.model_validate_json
            yield f"message {message.id}", Decoder(read, ValidationError, [message.example])


DECODERS = dict([*_commands(), *_bodies(), *_messages()])


@pytest.mark.parametrize("name", DECODERS)
class TestDecoders:
    """What is read is finite and as the published schema says; a refusal says what is wrong."""

    def test_a_message_with_one_value_spoilt_is_read_or_refused(self, name: str) -> None:
        """Each value of a valid message in turn, in every way that there is."""
        decoder = DECODERS[name]
        for payload in spoilt(*decoder.valid):
            assert_read_or_refused(decoder, payload)

    def test_any_bytes_are_read_or_refused(self, name: str) -> None:
        decoder = DECODERS[name]

        @given(payload=payloads(*decoder.valid))
        @effort(100)
        def holds(payload: Payload) -> None:
            assert_read_or_refused(decoder, payload.content)

        holds()


def assert_read_or_refused(decoder: Decoder, payload: bytes) -> None:
    try:
        found = decoder.read(payload)
    except decoder.refuses as error:
        assert_says_what_is_wrong(error)
    else:
        assert_as_its_schema_says(without_results(found))


def assert_says_what_is_wrong(error: Exception) -> None:
    refusal = Refusal.of_validation(error) if isinstance(error, ValidationError) else error
    assert isinstance(refusal, Refusal)
    assert refusal.code in HTTP_STATUS
    assert refusal.message
    assert refusal.details or refusal.code is ErrorCode.NOT_JSON
    assert all(detail.field and detail.problem for detail in refusal.details)


def without_results(found: BaseModel) -> BaseModel:
    """The model of a reply leaves open what its results are."""
    return found.model_copy(update={"results": None}) if isinstance(found, Accepted) else found
