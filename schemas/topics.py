"""Every MQTT topic, built and taken apart in this one place."""

import re
from typing import NamedTuple

from schemas.wire import NAME_PATTERN

ROOT = "flexfeeder"

RESERVED = frozenset({"dfp", "reply", "service"})
"""Second levels that are no feeders."""

_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")
_REPLY = re.compile(r"flexfeeder/reply/[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,4}\Z")


def command(feeder: str, name: str) -> str:
    return f"{ROOT}/{feeder}/command/{name}"


def commands(feeder: str) -> str:
    """Filter for every command to a feeder, well-formed or not."""
    return f"{ROOT}/{feeder}/command/#"


def dfp_command(name: str) -> str:
    return f"{ROOT}/dfp/command/{name}"


def dfp_commands() -> str:
    """Filter for every command to the program manager."""
    return f"{ROOT}/dfp/command/#"


def reply(client: str) -> str:
    return f"{ROOT}/reply/{client}"


def replies(client: str) -> str:
    return f"{ROOT}/reply/{client}/#"


def meter(feeder: str, bus: str, element: str) -> str:
    return f"{ROOT}/{feeder}/meter/{bus}/{element}"


def every_meter(feeder: str) -> str:
    """Filter for single readings."""
    return f"{ROOT}/{feeder}/meter/#"


def meters(feeder: str) -> str:
    """Topic for readings in batches, from a head-end."""
    return f"{ROOT}/{feeder}/meters"


def topology(feeder: str) -> str:
    return f"{ROOT}/{feeder}/topology"


def state(feeder: str) -> str:
    return f"{ROOT}/{feeder}/state"


def every_state() -> str:
    """Filter for the states of all feeders."""
    return f"{ROOT}/+/state"


def every_topology() -> str:
    """Filter for the topologies of all feeders."""
    return f"{ROOT}/+/topology"


def adjustments(feeder: str) -> str:
    return f"{ROOT}/{feeder}/adjustments"


def alert(feeder: str) -> str:
    return f"{ROOT}/{feeder}/alert"


def every_alert() -> str:
    """Filter for the alerts of all feeders."""
    return f"{ROOT}/+/alert"


def program_event(feeder: str) -> str:
    return f"{ROOT}/{feeder}/program"


def every_program_event() -> str:
    """Filter for what happens to the programs of all feeders."""
    return f"{ROOT}/+/program"


def setpoint(feeder: str, bus: str, element: str) -> str:
    return f"{ROOT}/{feeder}/setpoint/{bus}/{element}"


def setpoints(feeder: str) -> str:
    """Filter for the setpoints of all devices of a feeder."""
    return f"{ROOT}/{feeder}/setpoint/#"


def service_status(instance: str) -> str:
    return f"{ROOT}/service/{instance}/status"


def every_service_status() -> str:
    return f"{ROOT}/service/+/status"


class ElementAddress(NamedTuple):
    """Where a meter or setpoint topic points, as written by the sender."""

    bus: str
    element: str


def is_name(text: str) -> bool:
    return _NAME.match(text) is not None


def is_reply(topic: str) -> bool:
    """True for the only topics that services answer on: below ``flexfeeder/reply/{client}``."""
    return _REPLY.match(topic) is not None


def feeder_of(topic: str) -> str:
    """The feeder whose topic it is."""
    return topic.split("/", 2)[1]


def instance_of(status_topic: str) -> str:
    return status_topic.split("/", 3)[2]


def command_of(topic: str) -> str:
    """What follows ``command/``: the name of the command, or whatever stands there instead."""
    return topic.split("/", 3)[3] if topic.count("/") >= 3 else ""


def address_of(topic: str) -> ElementAddress | None:
    """Bus and element of a meter or setpoint topic; None if it has another shape."""
    levels = topic.split("/")
    return ElementAddress(levels[3], levels[4]) if len(levels) == 5 else None
