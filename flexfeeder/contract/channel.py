"""What the table of channels is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.wire import WireModel

Json = dict[str, Any]
"""A JSON object, or a description of one."""


class Party(StrEnum):
    """Who sends or receives."""

    SOLVER = "solver"
    MANAGER = "dfp_manager"
    GATEWAY = "gateway"
    METERS = "meters"
    CLIENT = "any client"
    METER = "any meter"
    HEAD_END = "a head-end"
    DEVICE = "devices"
    EVERYONE = "everyone"


SERVICES: Mapping[Party, str] = {
    Party.SOLVER: "Keeps one feeder's power flow solved; there is one for each feeder.",
    Party.MANAGER: "Keeps the registry of demand flexibility programs and runs them.",
    Party.GATEWAY: "Translates REST into commands, and states into answers.",
    Party.METERS: "Simulated smart meters; real meters and devices do the same.",
}
"""The parties that are FlexFeeder's own, and what each does."""


class Group(StrEnum):
    """What a channel is about, in the order of the catalogue."""

    SOLVER_COMMANDS = "Commands to the solver"
    MANAGER_COMMANDS = "Commands to the program manager"
    REPLIES = "Replies"
    READINGS = "Readings"
    FEEDER = "The feeder"
    PROGRAMS = "Programs and setpoints"
    STATUS = "Services"


class Retained(StrEnum):
    """Whether the broker keeps the newest message for those who come later."""

    YES = "yes"
    NO = "no"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A payload by its model, with an example.

    ``results`` is what the model of a reply leaves open: the type of its field of that name.
    ``user_properties`` are those of MQTT 5 that it may bear, each with its meaning.
    """

    id: str
    summary: str
    model: type[WireModel]
    example: Json
    results: Any = None
    user_properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Channel:
    """A topic and what travels on it.

    ``qos`` are those that senders may use; FlexFeeder's services send and subscribe at the lowest.
    A command has a ``reply``, the message that answers it if it is not refused. ``empty`` says
    what a message without payload means, where it means something.
    """

    id: str
    title: str
    group: Group
    topic: str
    summary: str
    senders: tuple[Party, ...]
    receivers: tuple[Party, ...]
    messages: tuple[Message, ...]
    qos: tuple[int, ...] = (1,)
    retained: Retained = Retained.NO
    when: str = ""
    empty: str = ""
    reply: Message | None = None
