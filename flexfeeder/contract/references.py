"""How parts of the AsyncAPI document refer to each other, and the binding that they are in."""

from flexfeeder.contract.channel import Json, Message

BINDING = "0.2.0"
"""Version of AsyncAPI's MQTT binding."""


def ref(kind: str, name: str) -> Json:
    """A reference to one of the document's components."""
    return {"$ref": f"#/components/{kind}/{name}"}


def in_channel(channel: str, message: Message) -> Json:
    """A reference to a message as one of a channel's."""
    return {"$ref": f"#/channels/{channel}/messages/{message.id}"}
