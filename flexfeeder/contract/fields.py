"""The fields of a message as rows for people, read off its JSON schema."""

from dataclasses import dataclass

from flexfeeder.contract.channel import Json
from flexfeeder.contract.components import REF, meaning, unit
from flexfeeder.contract.markdown import link
from schemas.wire import NAME_PATTERN

_TYPES = {
    "string": "text",
    "number": "number",
    "integer": "integer",
    "boolean": "true or false",
    "object": "object",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A field in words."""

    name: str
    type: str
    unit: str
    required: str
    bounds: str
    meaning: str


def rows(model: str, schemas: dict[str, Json]) -> list[Row]:
    """The fields of a model; its schema and those that it refers to are among ``schemas``."""
    schema = schemas[model]
    required = schema.get("required", ())
    return [
        Row(
            name=name,
            type=type_of(field, schemas),
            unit=unit(name),
            required="yes" if name in required else _optional(field),
            bounds=_bounds(field),
            meaning=meaning(model, name),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def type_of(field: Json, schemas: dict[str, Json]) -> str:
    """The type of a field in words; a model by a link to its heading."""
    if "anyOf" in field:
        return " or ".join(type_of(each, schemas) for each in field["anyOf"])
    if "$ref" in field:
        name = field["$ref"].removeprefix(REF)
        return _one_of(schemas[name]) or link(name)
    if field.get("type") == "array":
        return f"list of {type_of(field['items'], schemas)}" if field["items"] else "list"
    if isinstance(field.get("additionalProperties"), dict):
        return f"{type_of(field['additionalProperties'], schemas)} by name"
    return _one_of(field) or _plain(field)


def _plain(field: Json) -> str:
    if field.get("format") == "date-time":
        return "time"
    if field.get("pattern") == NAME_PATTERN:
        return "name"
    return _TYPES[field["type"]]


def parts(model: str, schemas: dict[str, Json]) -> list[str]:
    """The models that a model has for parts, and their parts, in order and each once.

    Enumerations are none: their values stand where they are used.
    """
    found: dict[str, None] = {}
    for field in schemas[model].get("properties", {}).values():
        found |= dict.fromkeys(parts_of(field, schemas))
    return list(found)


def parts_of(schema: Json, schemas: dict[str, Json]) -> list[str]:
    """The models in the schema of a field, and their parts."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REF)
        return [name, *parts(name, schemas)] if "properties" in schemas[name] else []
    inner = [*schema.get("anyOf", ()), schema.get("items"), schema.get("additionalProperties")]
    return [part for each in inner if isinstance(each, dict) for part in parts_of(each, schemas)]


def _one_of(schema: Json) -> str:
    """The values that are allowed, where they are listed; of many, a link to the list."""
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    if len(values) > 10:
        return link(schema["title"])
    return ", ".join(f"`{value}`" for value in values)


def _optional(field: Json) -> str:
    default = field.get("default")
    return "no" if "const" in field or default in (None, "", []) else f"default {default}"


def _bounds(field: Json) -> str:
    for each in field.get("anyOf", [field]):
        found = [*_range(each), *_length(each)]
        if found:
            return ", ".join(found)
    return ""


def _range(schema: Json) -> list[str]:
    if "minimum" in schema and "maximum" in schema:
        return [f"{_number(schema['minimum'])} to {_number(schema['maximum'])}"]
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {_number(schema[key])}" for key, sign in signs.items() if key in schema]


def _length(schema: Json) -> list[str]:
    if schema.get("pattern") not in (None, NAME_PATTERN):
        return [f"`{schema['pattern']}`"]
    things = {"maxLength": "characters", "maxItems": "entries"}
    return [f"at most {schema[key]:,} {of}" for key, of in things.items() if key in schema]


def _number(value: float) -> str:
    """Without trailing zeros, and with a minus that looks like one."""
    return f"{value:,.10g}".replace("-", "\N{MINUS SIGN}")
