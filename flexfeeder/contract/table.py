"""The table of all channels, in the order in which they are told of."""

from flexfeeder.contract.channel import Channel, Message
from flexfeeder.contract.commands import COMMANDS
from flexfeeder.contract.publications import PUBLICATIONS
from flexfeeder.contract.replies import REFUSED, REPLIES

CHANNELS: tuple[Channel, ...] = (*COMMANDS, *REPLIES, *PUBLICATIONS)

ANSWERS: tuple[Message, ...] = tuple(
    dict.fromkeys([*(c.reply for c in COMMANDS if c.reply), REFUSED])
)
"""Every message that answers a command."""

MESSAGES: tuple[Message, ...] = tuple(
    dict.fromkeys([*(message for channel in CHANNELS for message in channel.messages), *ANSWERS])
)
"""Every message, once."""

PARAMETERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "feeder": ("Feeder, as its folder is named.", ("ieee123",)),
    "bus": ("Bus.", ("1", "48")),
    "element": ("Load, device or generator at the bus.", ("Load_48", "EV_Charger_1")),
    "client": ("Whatever the client calls itself, different from all others.", ("my-script",)),
    "instance": (
        "Service instance: a solver by its feeder, the manager by its name, others at random.",
        ("solver-ieee123", "dfp_manager", "gateway-5f0c2a9be1d4"),
    ),
}
"""What stands in braces in a topic: its meaning, and examples."""
