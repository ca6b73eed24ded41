"""The written contract: it tells of every topic and message, and of each as the code has it."""

import inspect
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter

from flexfeeder.contract.__main__ import DOCS, documents, main, outdated
from flexfeeder.contract.asyncapi import document
from flexfeeder.contract.channel import SERVICES, Channel, Message
from flexfeeder.contract.components import components
from flexfeeder.contract.glossary import CODES, MEANINGS
from flexfeeder.contract.layout import WIDTH, pretty
from flexfeeder.contract.markdown import anchor
from flexfeeder.contract.table import CHANNELS, MESSAGES, PARAMETERS
from schemas import topics
from schemas.commands import MANAGER_COMMANDS, SOLVER_COMMANDS
from schemas.errors import ErrorCode
from services.solver.intake import LARGEST_BATCH, LARGEST_READING

Json = dict[str, Any]

BY_TOPIC = {channel.topic: channel for channel in CHANNELS}


def concrete_topics() -> dict[str, str]:
    """What the functions of ``schemas.topics`` build that is no filter, by function."""
    built = {}
    for name, function in inspect.getmembers(topics, inspect.isfunction):
        parameters = inspect.signature(function).parameters
        if not set(parameters) <= {*PARAMETERS, "name"}:
            continue  # it takes a topic apart
        topic = function(*(f"{{{parameter}}}" for parameter in parameters))
        if isinstance(topic, str) and not set(topic) & set("+#"):
            built[name] = topic
    return built


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        yield from chain.from_iterable(references(each) for each in value.values())
    elif isinstance(value, list):
        yield from chain.from_iterable(references(each) for each in value)


def target(whole: Json, reference: str) -> Any:
    found: Any = whole
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


@pytest.fixture(scope="module")
def asyncapi() -> Json:
    return document("1.2.3", "Conventions.")


@pytest.fixture(scope="module")
def catalogue() -> str:
    return documents()["messages.md"]


class TestTable:
    def test_the_functions_that_build_topics_are_found(self) -> None:
        assert concrete_topics()["command"] == "flexfeeder/{feeder}/command/{name}"
        assert "replies" not in concrete_topics()
        assert "command_of" not in concrete_topics()

    @pytest.mark.parametrize("topic", concrete_topics().values(), ids=concrete_topics())
    def test_every_topic_is_told_of(self, topic: str) -> None:
        pattern = re.escape(topic).replace(re.escape("{name}"), "[a-z_]+")
        assert any(re.fullmatch(pattern, known) for known in BY_TOPIC)

    @pytest.mark.parametrize("name", SOLVER_COMMANDS)
    def test_every_command_to_the_solver_is_told_of(self, name: str) -> None:
        channel = BY_TOPIC[topics.command("{feeder}", name)]
        assert [message.model for message in channel.messages] == [SOLVER_COMMANDS[name]._type]

    @pytest.mark.parametrize("name", MANAGER_COMMANDS)
    def test_every_command_to_the_manager_is_told_of(self, name: str) -> None:
        channel = BY_TOPIC[topics.dfp_command(name)]
        assert [message.model for message in channel.messages] == [MANAGER_COMMANDS[name]._type]

    def test_no_topic_and_no_id_is_there_twice(self) -> None:
        assert len(BY_TOPIC) == len(CHANNELS) == len({channel.id for channel in CHANNELS})
        assert len(MESSAGES) == len({message.id for message in MESSAGES})

    @pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.id)
    def test_every_example_is_valid(self, message: Message) -> None:
        message.model.model_validate_json(json.dumps(message.example))
        if message.results is not None:
            results = json.dumps(message.example["results"])
            TypeAdapter(message.results).validate_json(results)

    @pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.id)
    def test_what_stands_in_braces_is_explained(self, channel: Channel) -> None:
        assert set(re.findall(r"{(\w+)}", channel.topic)) <= set(PARAMETERS)


class TestGlossary:
    def test_every_field_has_a_meaning_and_every_meaning_a_field(self) -> None:
        models = components(MESSAGES).models
        used = set()
        for model, schema in models.items():
            for field in schema.get("properties", ()):
                own = f"{model}.{field}"
                used.add(own if own in MEANINGS else field)
        assert used == set(MEANINGS)

    def test_every_error_code_is_explained(self) -> None:
        assert list(CODES) == list(ErrorCode)


class TestAsyncApi:
    def test_every_reference_leads_somewhere(self, asyncapi: Json) -> None:
        for reference in references(asyncapi):
            target(asyncapi, reference)

    def test_nothing_stands_beside_a_reference(self, asyncapi: Json) -> None:
        """It would not be read."""
        schemas = asyncapi["components"]["schemas"]
        fields = chain.from_iterable(s.get("properties", {}).values() for s in schemas.values())
        assert [field for field in fields if "$ref" in field and len(field) > 1] == []

    def test_every_operation_is_that_of_one_service(self, asyncapi: Json) -> None:
        for name, operation in asyncapi["operations"].items():
            service = target(asyncapi, operation["tags"][0]["$ref"])["name"]
            assert service in SERVICES
            assert name.startswith(f"{service}_{operation['action']}_")

    def test_operations_use_messages_of_their_channel(self, asyncapi: Json) -> None:
        for operation in asyncapi["operations"].values():
            for part in (operation, operation.get("reply")):
                if part is not None:
                    channel = part["channel"]["$ref"]
                    for message in part["messages"]:
                        assert message["$ref"].startswith(f"{channel}/messages/")

    def test_a_command_says_where_its_reply_goes(self, asyncapi: Json) -> None:
        """AsyncAPI 3.0: a channel whose address is known at run time only has none."""
        reply = asyncapi["operations"]["solver_receive_set_load"]["reply"]
        assert (
            target(asyncapi, reply["address"]["$ref"])["location"] == "$message.payload#/reply_to"
        )
        assert target(asyncapi, reply["channel"]["$ref"])["address"] is None

    def test_a_reply_says_to_what_it_replies(self, asyncapi: Json) -> None:
        messages = asyncapi["components"]["messages"]
        for message in ("SetLoad", "Accepted", "Refused"):
            identity = target(asyncapi, messages[message]["correlationId"]["$ref"])
            assert identity["location"] == "$message.payload#/request_id"

    def test_results_of_a_reply_are_typed(self, asyncapi: Json) -> None:
        payload = asyncapi["components"]["messages"]["AcceptedWithPrograms"]["payload"]
        assert payload == {
            "allOf": [
                {"$ref": "#/components/schemas/Accepted"},
                {
                    "properties": {
                        "results": {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/Program"},
                        }
                    }
                },
            ]
        }

    def test_delivery_is_as_in_the_table(self, asyncapi: Json) -> None:
        def delivery(operation: str) -> Json:
            bound: Json = asyncapi["operations"][operation]["bindings"]["mqtt"]
            return {key: bound[key] for key in bound if key != "bindingVersion"}

        assert delivery("solver_send_state") == {"qos": 0, "retain": True}
        assert delivery("solver_receive_meter") == {"qos": 0}
        assert delivery("gateway_send_set_load") == {"qos": 1, "retain": False}

    def test_a_field_tells_its_unit(self, asyncapi: Json) -> None:
        bus = asyncapi["components"]["schemas"]["BusState"]["properties"]
        assert bus["load_kw"]["description"] == "Drawn by loads and devices. [kW]"
        assert bus["kv_base"]["description"] == "Base voltage, line to line. [kV]"


class TestCatalogue:
    def test_every_topic_has_a_section(self, catalogue: str) -> None:
        for channel in CHANNELS:
            assert f"### {channel.title}\n\n`{channel.topic}`\n" in catalogue

    def test_every_link_leads_to_one_heading(self, catalogue: str) -> None:
        headings = re.findall(r"^#+ (.*)$", catalogue, re.MULTILINE)
        anchors = [anchor(heading) for heading in headings]
        assert len(anchors) == len(set(anchors))
        assert set(re.findall(r"\]\(#([^)]*)\)", catalogue)) <= set(anchors)

    def test_a_field_is_a_row(self, catalogue: str) -> None:
        assert (
            "| `vmin_pu` | number | pu | default 0.9 | > 0, < 2 "
            "| Voltage below which it turns into an impedance. |"
        ) in catalogue

    def test_limits_are_those_of_the_solver(self, catalogue: str) -> None:
        assert "larger than 64 KiB (a batch: 4 MiB)" in catalogue
        assert (LARGEST_READING, LARGEST_BATCH) == (64 << 10, 4 << 20)

    def test_an_example_is_as_narrow_as_it_can_be(self) -> None:
        """What fits on a line stands on one; it is the same JSON in any case."""
        entry = {"name": "x" * 40, "numbers": [1, 2]}
        value = {"short": [1, {"a": None}], "long": [entry, entry]}
        text = pretty(value)
        assert json.loads(text) == value
        assert '\n  "short": [1, {"a": null}],\n' in text
        assert max(map(len, text.splitlines())) <= WIDTH


class TestDocuments:
    def test_docs_are_up_to_date(self) -> None:
        stale = [path.name for path in outdated(documents(), DOCS)]
        assert not stale, f"{stale} in docs/: regenerate with `python -m flexfeeder.contract`"

    def test_what_is_missing_or_differs_is_out_of_date(self, tmp_path: Path) -> None:
        (tmp_path / "same").write_text("1", encoding="utf-8")
        (tmp_path / "other").write_text("2", encoding="utf-8")
        stale = outdated({"same": "1", "other": "1", "missing": "1"}, tmp_path)
        assert [path.name for path in stale] == ["other", "missing"]

    def test_check_writes_nothing(self, tmp_path: Path) -> None:
        check = ["--check", "--into", str(tmp_path)]
        assert CliRunner().invoke(main, check).exit_code == 1
        assert list(tmp_path.iterdir()) == []
        assert CliRunner().invoke(main, ["--into", str(tmp_path)]).exit_code == 0
        assert CliRunner().invoke(main, check).exit_code == 0
