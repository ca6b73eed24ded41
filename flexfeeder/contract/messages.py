"""The messages of the AsyncAPI document."""

from flexfeeder.contract.channel import Json, Message
from flexfeeder.contract.components import Components
from flexfeeder.contract.references import BINDING, ref


def described(message: Message, known: Components) -> Json:
    """A message with its payload, its example, and how a request and its reply find together."""
    payload = known.payloads[message.id]
    if message.id in known.results:
        payload = {"allOf": [payload, {"properties": {"results": known.results[message.id]}}]}
    whole: Json = {
        "name": message.id,
        "summary": message.summary,
        "contentType": "application/json",
        "payload": payload,
        "examples": [{"name": message.id, "payload": message.example}],
    }
    if message.user_properties:
        whole["headers"] = {
            "type": "object",
            "properties": {
                name: {"type": "string", "description": meaning}
                for name, meaning in message.user_properties.items()
            },
        }
    fields = message.model.model_fields
    if "request_id" in fields:
        mqtt: Json = {
            "correlationData": {
                "type": "string",
                "description": "MQTT 5 only; given back to those who sent some.",
            },
            "bindingVersion": BINDING,
        }
        if "reply_to" in fields:
            mqtt["responseTopic"] = {
                "type": "string",
                "description": "MQTT 5 only; in place of `reply_to`.",
            }
        whole["correlationId"] = ref("correlationIds", "request_id")
        whole["bindings"] = {"mqtt": mqtt}
    return whole
