"""The section of each channel in the catalogue."""

from collections.abc import Iterable

from flexfeeder.contract import fields
from flexfeeder.contract.channel import SERVICES, Channel, Json, Message, Party, Retained
from flexfeeder.contract.components import components
from flexfeeder.contract.layout import pretty
from flexfeeder.contract.markdown import table
from flexfeeder.contract.table import MESSAGES
from schemas.loads import RunSimulation

_COLUMNS = ("field", "type", "unit", "required", "bounds", "meaning")

_ENVELOPE = RunSimulation
"""The command that has nothing but what every command has."""

_RETAINED = {
    Retained.YES: "retained",
    Retained.NO: "never retained",
    Retained.ALLOWED: "may be retained",
}


class Sections:
    """Writes the sections in their order: what several messages have in common is told of where
    it is first met, and linked to from then on.
    """

    def __init__(self) -> None:
        self._known = components(MESSAGES)
        self._told: set[str] = set()

    def envelope(self) -> str:
        """What every command may carry."""
        return self._fields(_ENVELOPE.__name__)

    def of(self, channel: Channel) -> Iterable[str]:
        """The section of a channel."""
        yield f"### {channel.title}"
        yield f"`{channel.topic}`"
        yield f"{way(channel)}; QoS {qos(channel)}; {_RETAINED[channel.retained]}"
        yield channel.summary
        if channel.when:
            yield f"**When:** {channel.when}"
        if channel.empty:
            yield f"**Empty payload:** {channel.empty}"
        for message in channel.messages:
            if len(channel.messages) > 1:
                yield f"#### {message.id}"
                yield message.summary
            yield from self._message(message, is_command=channel.reply is not None)
        if channel.reply is not None and channel.reply.id in self._known.results:
            yield from self._results(channel.reply)

    def _message(self, message: Message, *, is_command: bool) -> Iterable[str]:
        model = message.model.__name__
        common = frozenset(_ENVELOPE.model_fields) if is_command else frozenset()
        if frozenset(message.model.model_fields) - common:
            yield self._fields(model, common)
        else:
            yield "It has no fields of its own."
        for name, meaning in message.user_properties.items():
            yield f"**User property** `{name}`: {meaning}"
        yield _code(message.example)
        yield from self._parts(fields.parts(model, self._known.models))

    def _results(self, reply: Message) -> Iterable[str]:
        schema = self._known.results[reply.id]
        yield f"**Reply:** `results` is {fields.type_of(schema, self._known.models)}."
        if reply.id not in self._told:
            self._told.add(reply.id)
            yield _code(reply.example)
            yield from self._parts(fields.parts_of(schema, self._known.models))

    def _parts(self, models: Iterable[str]) -> Iterable[str]:
        for model in models:
            if model not in self._told:
                self._told.add(model)
                yield f"#### {model}"
                if description := self._known.models[model].get("description"):
                    yield description
                yield self._fields(model)

    def _fields(self, model: str, left_out: frozenset[str] = frozenset()) -> str:
        return table(
            _COLUMNS,
            (
                (f"`{row.name}`", row.type, row.unit, row.required, row.bounds, row.meaning)
                for row in fields.rows(model, self._known.models)
                if row.name not in left_out
            ),
        )


def way(channel: Channel) -> str:
    """Who sends to whom; services by the names of their processes."""
    return f"{_names(channel.senders)} → {_names(channel.receivers)}"


def qos(channel: Channel) -> str:
    return " or ".join(str(level) for level in channel.qos)


def _names(parties: Iterable[Party]) -> str:
    return ", ".join(f"`{party}`" if party in SERVICES else party for party in parties)


def _code(example: Json) -> str:
    return f"```json\n{pretty(example)}\n```"
