"""What the documentation says of each route; put together when somebody asks for it.

Bodies are read, and answers written, by ourselves; so FastAPI cannot know of them. What stands here
in their place is made of the same models that check the bodies, and that tests hold the answers
against.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from schemas.errors import ErrorCode
from schemas.wire import NAME_PATTERN
from services.gateway.failures import JSON, failures
from services.gateway.keys import HEADER, LONGEST_KEY
from services.gateway.policy import role_needed
from services.gateway.results import Failure, Success
from services.once import MOST_REMEMBERED

Endpoint = Callable[[Request], Awaitable[Response]]

READ_ERRORS = (
    ErrorCode.INVALID_VALUE,
    ErrorCode.FEEDER_NOT_FOUND,
    ErrorCode.SERVICE_UNAVAILABLE,
)
"""What any read of a feeder may be refused for."""

ASK_ERRORS = (*READ_ERRORS, ErrorCode.DEADLINE_PASSED, ErrorCode.NO_REPLY)
"""What anything that a service is asked for may be refused for."""

WRITE_ERRORS = (
    *ASK_ERRORS,
    ErrorCode.NOT_JSON,
    ErrorCode.TOO_LARGE,
    ErrorCode.REQUEST_TIMEOUT,
    ErrorCode.REQUEST_IN_PROGRESS,
    ErrorCode.REQUEST_ID_REUSED,
    ErrorCode.REQUEST_TOO_OLD,
)
"""What any write may be refused for."""

GUARD_ERRORS = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.FORBIDDEN,
    ErrorCode.TOO_MANY_REQUESTS,
    ErrorCode.SERVICE_UNAVAILABLE,
)
"""What anything may be refused for that is not open to everybody."""

SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, as `flexfeeder keys add` prints it.",
    },
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The same, for whoever cannot set `Authorization`.",
    },
}

_Key = tuple[str, str, str]
"""Path, method, and the part of the operation that a schema is for."""

_FAILURE: _Key = ("", "", "failure")

_REF = "#/components/schemas/{model}"

FEEDER = {
    "name": "feeder",
    "in": "query",
    "required": False,
    "description": "Another feeder than the default one.",
    "schema": {"type": "string", "pattern": NAME_PATTERN},
}

PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": (
        "With `return=minimal` the results are no more than version, power summary, voltage "
        "profile, management status and the buses touched."
    ),
    "schema": {"type": "string"},
    "example": "return=minimal",
}

IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Makes it safe to ask again: the same key and body get the recorded answer (with the "
        "newest state, where the results are one), and have no further effect. It is remembered "
        "for 24 h, by the service that the request is for, unless that has more than "
        f"{MOST_REMEMBERED} to remember of a feeder. A request id from the message of a `504` is a "
        "key too. Take a new one for each request, a UUID say."
    ),
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": LONGEST_KEY,
        "pattern": "^[ -~]*$",
    },
    "example": "3f0f2b7c-5a55-4b0e-9d0e-6f3a1c9d2e41",
}


def name_in_path(name: str, description: str) -> dict[str, Any]:
    """A part of the path that is a name."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string", "pattern": NAME_PATTERN},
    }


@dataclass(frozen=True, slots=True)
class Operation:
    """What is said of a route. ``results`` is the type of a success's results, ``body`` that of the
    request's body; without ``body`` there is none.
    """

    tag: str
    summary: str
    description: str
    name: str = ""
    """What a client that is generated calls it; the path says it where nothing is given."""
    message: str = ""
    """What a success may say."""
    results: Any = None
    example: Any = None
    errors: Sequence[ErrorCode] = ()
    body: Any = None
    body_required: bool = True
    body_examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: Sequence[dict[str, Any]] = ()
    media_type: str = JSON
    """Of a success; where it is not JSON, ``example`` is a whole answer."""
    events: dict[str, Any] = field(default_factory=dict)
    """Of a stream: the type of the data of each event."""


class Documentation:
    """Adds routes to an application, and describes them at ``/openapi.json``."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._operations: dict[tuple[str, str], Operation] = {}
        self._document: dict[str, Any] | None = None
        self._base = app.openapi
        app.openapi = self.document  # type: ignore[method-assign]  # FastAPI's way to extend it

    def add(
        self,
        method: Literal["GET", "POST", "PUT", "DELETE"],
        path: str,
        endpoint: Endpoint,
        operation: Operation,
    ) -> None:
        """Add a route, and what there is to say of it."""
        self._operations[path, method.lower()] = operation
        self._app.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_class=Response,
            operation_id=operation.name or path.strip("/"),
            summary=operation.summary,
            description=operation.description,
            tags=[operation.tag],
        )

    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self._document is None:
            self._document = self._described(self._base())
        return self._document

    def _described(self, document: dict[str, Any]) -> dict[str, Any]:
        schemas, components = self._schemas()
        for (path, method), operation in self._operations.items():
            described = document["paths"][path][method]
            if operation.parameters:
                described["parameters"] = list(operation.parameters)
            if operation.body is not None:
                described["requestBody"] = _request_body(operation, schemas[path, method, "body"])
            errors: Iterable[ErrorCode] = operation.errors
            if (role := role_needed(method.upper(), path)) is not None:
                errors = dict.fromkeys((*errors, *GUARD_ERRORS))
                described["security"] = [{}, *({name: [role]} for name in SECURITY_SCHEMES)]
            described["responses"] = {
                "200": {
                    "description": operation.summary,
                    "content": {operation.media_type: _success(operation, schemas, path, method)},
                },
                **failures(errors, schemas[_FAILURE]),
            }
        document["components"] = {"schemas": components, "securitySchemes": SECURITY_SCHEMES}
        return document

    def _schemas(self) -> tuple[dict[_Key, Any], dict[str, Any]]:
        """The schema of each body and answer, and the components that they refer to."""
        answer: Any = Success
        inputs: list[tuple[_Key, JsonSchemaMode, TypeAdapter[Any]]] = [
            (_FAILURE, "serialization", TypeAdapter(Failure))
        ]
        for (path, method), operation in self._operations.items():
            if operation.body is not None:
                adapter = TypeAdapter(operation.body)
                inputs.append(((path, method, "body"), "validation", adapter))
            if operation.results is not None:
                adapter = TypeAdapter(answer[operation.results])
                inputs.append(((path, method, "results"), "serialization", adapter))
            for event, data in operation.events.items():
                inputs.append(((path, method, event), "serialization", TypeAdapter(data)))
        schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF)
        by_key = {key: schema for (key, _mode), schema in schemas.items()}
        return by_key, definitions["$defs"]


def _request_body(operation: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    examples = {name: {"value": body} for name, body in operation.body_examples.items()}
    return {
        "required": operation.body_required,
        "content": {JSON: {"schema": schema, "examples": examples}},
    }


def _success(
    operation: Operation, schemas: dict[_Key, Any], path: str, method: str
) -> dict[str, Any]:
    if operation.media_type == JSON:
        example = {
            "status": "success",
            "message": operation.message,
            "results": operation.example,
        }
        return {"schema": schemas[path, method, "results"], "example": example}
    text: dict[str, Any] = {"schema": {"type": "string"}, "example": operation.example}
    if operation.events:
        events = [_event(name, schemas[path, method, name]) for name in operation.events]
        text["itemSchema"] = {"oneOf": events}
    return text


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """A server-sent event, the way OpenAPI 3.2 describes it."""
    return {
        "type": "object",
        "properties": {
            "event": {"const": name},
            "data": {"type": "string", "contentMediaType": JSON, "contentSchema": data},
            "id": {"type": "string"},
        },
        "required": ["event", "data"],
    }
