"""The channels of the AsyncAPI document, and what each service does with them."""

from collections.abc import Iterable

from flexfeeder.contract.channel import SERVICES, Channel, Json, Party, Retained
from flexfeeder.contract.references import BINDING, in_channel, ref
from flexfeeder.contract.replies import REFUSED
from flexfeeder.contract.table import ANSWERS, CHANNELS, PARAMETERS

_ANSWER = "reply_to"
"""The channel of replies as a command names it: its address is known when the command comes."""


def channels() -> Json:
    """Every channel by its id, and that on which commands want their replies."""
    return {channel.id: _channel(channel) for channel in CHANNELS} | {_ANSWER: _answer_channel()}


def operations() -> Json:
    """What each service sends and receives, by an id that names the service first."""
    return {
        f"{party}_{action}_{channel.id}": _operation(channel, party, action)
        for channel in CHANNELS
        for party, action in _operators(channel)
    }


def _channel(channel: Channel) -> Json:
    described: Json = {
        "address": channel.topic,
        "title": channel.title,
        "summary": channel.summary,
        "description": _description(channel),
        "messages": {m.id: ref("messages", m.id) for m in channel.messages},
        "parameters": {
            name: ref("parameters", name) for name in PARAMETERS if f"{{{name}}}" in channel.topic
        },
    }
    return {key: value for key, value in described.items() if value}


def _answer_channel() -> Json:
    return {
        "address": None,
        "title": "The reply's topic",
        "summary": "Where a command wants its reply: `flexfeeder/reply/{client}` or below.",
        "messages": {m.id: ref("messages", m.id) for m in ANSWERS},
    }


def _description(channel: Channel) -> str:
    parts = [channel.when]
    if len(channel.qos) > 1:
        parts.append("Any of QoS " + " and ".join(str(qos) for qos in channel.qos) + ".")
    if channel.retained is Retained.ALLOWED:
        parts.append("May be retained.")
    if channel.empty:
        parts.append(f"An empty payload: {channel.empty}")
    return " ".join(part for part in parts if part)


def _operators(channel: Channel) -> Iterable[tuple[Party, str]]:
    for party in SERVICES:
        if party in channel.senders:
            yield party, "send"
        if party in channel.receivers:
            yield party, "receive"


def _operation(channel: Channel, party: Party, action: str) -> Json:
    mqtt: Json = {"qos": min(channel.qos), "bindingVersion": BINDING}
    if channel.retained is not Retained.ALLOWED:
        mqtt["retain"] = channel.retained is Retained.YES
    operation: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.id}"},
        "summary": channel.summary,
        "tags": [ref("tags", party)],
        "messages": [in_channel(channel.id, message) for message in channel.messages],
        "bindings": {"mqtt": mqtt},
    }
    if channel.reply:
        operation["reply"] = {
            "address": ref("replyAddresses", "reply_to"),
            "channel": {"$ref": f"#/channels/{_ANSWER}"},
            "messages": [in_channel(_ANSWER, each) for each in (channel.reply, REFUSED)],
        }
    return operation
