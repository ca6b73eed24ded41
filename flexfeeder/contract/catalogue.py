"""The message catalogue: for people, in Markdown."""

from collections.abc import Iterable

from flexfeeder.contract.channel import SERVICES, Group
from flexfeeder.contract.glossary import CODES
from flexfeeder.contract.markdown import link, table
from flexfeeder.contract.sections import Sections, qos, way
from flexfeeder.contract.table import CHANNELS, PARAMETERS
from schemas.errors import HTTP_STATUS

_HEAD = """# Messages

Every topic of FlexFeeder, and what travels on it: JSON in UTF-8. Written from `schemas/` by
`python -m flexfeeder.contract`, as is [asyncapi.json](asyncapi.json), the same for programs."""

_INTRODUCTIONS = {
    Group.SOLVER_COMMANDS: (
        "Answered by the solver of the feeder, with [Accepted](#accepted) or [Refused](#refused). "
        "Beside its own fields, each command may carry:"
    ),
    Group.MANAGER_COMMANDS: (
        "Answered by the program manager, likewise. Beside its own fields, each command may carry "
        "what those to the solver may."
    ),
}


def catalogue(conventions: str) -> str:
    """The whole page; ``conventions`` (Markdown) stand first."""
    return "\n\n".join([_HEAD, "## Conventions", conventions, *_topics(), *_groups()]) + "\n"


def _topics() -> Iterable[str]:
    yield "## Topics"
    yield table(
        ("topic", "from → to", "QoS", "retained", "payload"),
        (
            (
                f"`{channel.topic}`",
                way(channel),
                qos(channel),
                channel.retained,
                link(channel.title),
            )
            for channel in CHANNELS
        ),
    )
    yield table(("service", "does"), ((f"`{party}`", does) for party, does in SERVICES.items()))
    yield table(
        ("in a topic", "means", "for example"),
        (
            (f"`{{{name}}}`", meaning, ", ".join(f"`{each}`" for each in examples))
            for name, (meaning, examples) in PARAMETERS.items()
        ),
    )


def _groups() -> Iterable[str]:
    sections = Sections()
    for group in Group:
        yield f"## {group}"
        if group in _INTRODUCTIONS:
            yield _INTRODUCTIONS[group]
        if group is Group.SOLVER_COMMANDS:
            yield sections.envelope()
        for channel in CHANNELS:
            if channel.group is group:
                yield from sections.of(channel)
        if group is Group.REPLIES:
            yield from _codes()


def _codes() -> Iterable[str]:
    yield "#### ErrorCode"
    yield "Each stands for one HTTP status, with which the gateway passes it on."
    yield table(
        ("code", "HTTP", "says"),
        ((f"`{code}`", str(HTTP_STATUS[code]), says) for code, says in CODES.items()),
    )
