"""The JSON schemas of all models, side by side under their names, each field with its meaning."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from flexfeeder.contract.channel import Json, Message
from flexfeeder.contract.glossary import MEANINGS

REF = "#/components/schemas/"
_RESULTS = ".results"

_UNITS = {
    "kw": "kW",
    "kvar": "kvar",
    "kva": "kVA",
    "kv": "kV",
    "pu": "pu",
    "deg": "°",
    "s": "s",
    "km": "km",
    "percent": "%",
}


class _Untitled(GenerateJsonSchema):
    """Gives fields no titles: they would only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


@dataclass(frozen=True, slots=True)
class Components:
    """The schemas of messages.

    ``payloads`` and ``results`` are by message id, and refer below :data:`REF` to ``models``,
    which are by name.
    """

    payloads: dict[str, Json]
    results: dict[str, Json]
    models: dict[str, Json]


def components(messages: Iterable[Message]) -> Components:
    """The schemas of messages, and of everything that they are made of."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
    for message in messages:
        adapters.append((message.id, "validation", TypeAdapter(message.model)))
        if message.results is not None:
            adapters.append((message.id + _RESULTS, "validation", TypeAdapter(message.results)))
    found, shared = TypeAdapter.json_schemas(
        adapters, ref_template=REF + "{model}", schema_generator=_Untitled
    )
    schemas = {key: schema for (key, _mode), schema in found.items()}
    return Components(
        payloads={key: schemas[key] for key in schemas if not key.endswith(_RESULTS)},
        results={
            key.removesuffix(_RESULTS): schemas[key] for key in schemas if key.endswith(_RESULTS)
        },
        models={name: _described(name, model) for name, model in sorted(shared["$defs"].items())},
    )


def unit(field: str) -> str:
    """Unit of a quantity, which its name ends with (or begins with, as in ``kv_base``)."""
    words = field.split("_")
    return _UNITS.get(words[-1]) or _UNITS.get(words[0], "")


def meaning(model: str, field: str) -> str:
    return MEANINGS.get(f"{model}.{field}") or MEANINGS[field]


def _described(model: str, schema: Json) -> Json:
    if "description" in schema:
        schema["description"] = _in_markdown(schema["description"])
    for field, properties in schema.get("properties", {}).items():
        # Beside a reference nothing else is read; what is referred to describes itself.
        if "$ref" not in properties:
            said = meaning(model, field)
            properties["description"] = f"{said} [{unit(field)}]" if unit(field) else said
    return schema


def _in_markdown(docstring: str) -> str:
    """A docstring for those who see JSON: no None, no line breaks, one backtick for two."""
    return re.sub(r"\bNone\b", "null", docstring).replace("``", "`").replace("\n", " ")
