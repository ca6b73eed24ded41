"""What holds for everything that was read: finite numbers, within what its schema says."""

import json
import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import jsonschema_rs
from pydantic import BaseModel, TypeAdapter


def numbers(value: Any) -> Iterator[float]:
    """Every number in a value that may not be finite, however deep."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, BaseModel):
        yield from numbers(list(value.__dict__.values()))
    elif is_dataclass(value):
        yield from numbers([getattr(value, field.name) for field in fields(value)])
    elif isinstance(value, dict):
        yield from numbers([*value, *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from numbers(each)


def assert_finite(value: Any) -> None:
    assert all(map(math.isfinite, numbers(value))), value


def assert_as_its_schema_says(model: BaseModel) -> None:
    """Finite, valid by the JSON schema that is published of it, and read again as the same."""
    assert_finite(model)
    written = model.model_dump_json()
    errors = [error.message for error in _schema(type(model)).iter_errors(json.loads(written))]
    assert not errors, (model, errors)
    assert type(model).model_validate_json(written) == model


@cache
def _schema(model: type[BaseModel]) -> Any:
    return jsonschema_rs.validator_for(TypeAdapter(model).json_schema())
