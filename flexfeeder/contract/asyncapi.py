"""The AsyncAPI 3.0 document.

It tells of four applications at once: each operation is that of the one service whose tag it
bears, so ``send`` is what this service sends. Who writes a client takes the other side.
"""

from flexfeeder.contract.channel import SERVICES, Json
from flexfeeder.contract.components import components
from flexfeeder.contract.messages import described
from flexfeeder.contract.operations import channels, operations
from flexfeeder.contract.references import ref
from flexfeeder.contract.table import MESSAGES, PARAMETERS

_VIEW = """

## Operations

Each operation is that of the one service whose tag it bears: `send` is what this service sends,
`receive` what it subscribes to. Who writes a client takes the other side."""


def document(version: str, conventions: str) -> Json:
    """The document, for a version of FlexFeeder; ``conventions`` (Markdown) hold for all of it."""
    known = components(MESSAGES)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "FlexFeeder messages",
            "version": version,
            "description": conventions + _VIEW,
            "license": {"name": "BSD-3-Clause"},
            "tags": [ref("tags", party) for party in SERVICES],
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": channels(),
        "operations": operations(),
        "components": {
            "schemas": known.models,
            "messages": {message.id: described(message, known) for message in MESSAGES},
            "parameters": {
                name: {"description": meaning, "examples": list(examples)}
                for name, (meaning, examples) in PARAMETERS.items()
            },
            "correlationIds": {
                "request_id": {
                    "description": "Chosen by who asks, given back in the reply.",
                    "location": "$message.payload#/request_id",
                }
            },
            "replyAddresses": {
                "reply_to": {
                    "description": "MQTT 5 clients may name a response topic instead.",
                    "location": "$message.payload#/reply_to",
                }
            },
            "tags": {
                party.value: {"name": party.value, "description": does}
                for party, does in SERVICES.items()
            },
        },
    }


def _servers() -> Json:
    host = {"default": "127.0.0.1", "description": "`FLEXFEEDER_MQTT_HOST`."}
    return {
        "mqtt": {
            "host": "{host}:{port}",
            "protocol": "mqtt",
            "protocolVersion": "3.1.1",
            "description": "For meters, devices and clients.",
            "variables": {
                "host": host,
                "port": {"default": "1883", "description": "`FLEXFEEDER_MQTT_PORT`."},
            },
        },
        "mqtt5": {
            "host": "{host}:{port}",
            "protocol": "mqtt",
            "protocolVersion": "5",
            "description": (
                "For services, and for clients that want to. On a broker of your own this is "
                "usually the port of MQTT 3.1.1."
            ),
            "variables": {
                "host": host,
                "port": {
                    "default": "1883",
                    "description": (
                        "`FLEXFEEDER_MQTT5_PORT`; the embedded broker takes a free one without it."
                    ),
                },
            },
        },
    }
