"""The broker's access list: who may say and hear what. What the broker makes of it is tested on a
real one.
"""

import re
from collections.abc import Iterable

import pytest
from paho.mqtt.client import topic_matches_sub
from support import quiet_log

from flexfeeder import broker_acl
from flexfeeder.broker_acl import USERS, rights
from flexfeeder.contract.publications import PUBLICATIONS
from flexfeeder.meters import Fleet
from schemas import topics
from services.bus import BrokerAddress, Connection
from services.gateway.bridge import Bridge
from services.gateway.streams import Streams
from services.settings import Settings

FEEDER = "ieee123"
RIGHTS = rights(FEEDER)
ADDRESS = BrokerAddress("127.0.0.1", 1)


def allows(filters: Iterable[str], topic: str) -> bool:
    return any(topic_matches_sub(each, topic) for each in filters)


def writers(topic: str) -> set[str]:
    return {user for user in USERS if allows(RIGHTS[user].write, topic)}


def readers(topic: str) -> set[str]:
    return {user for user in USERS if allows(RIGHTS[user].read, topic)}


@pytest.mark.parametrize(
    ("topic", "users"),
    [
        (topics.topology(FEEDER), {"solver"}),
        (topics.state(FEEDER), {"solver"}),
        (topics.alert(FEEDER), {"solver"}),
        (topics.setpoint(FEEDER, "1", "Load_1"), {"solver"}),
        (topics.adjustments(FEEDER), {"dfp_manager"}),
        (topics.program_event(FEEDER), {"dfp_manager"}),
        (topics.command(FEEDER, "set_load"), {"gateway", "operator"}),
        (topics.dfp_command("execute"), {"gateway", "operator"}),
        (topics.reply("gateway-1a2b"), {"solver", "dfp_manager"}),
        (topics.reply("operator") + "/a", {"solver", "dfp_manager"}),
        (topics.meter(FEEDER, "1", "Load_1"), {"simulator"}),
        (topics.meters(FEEDER), {"head_end"}),
        (topics.service_status(f"solver-{FEEDER}"), {"solver"}),
        (topics.service_status("dfp_manager"), {"dfp_manager"}),
        (topics.service_status("gateway-1a2b"), set()),
        (topics.state("ieee13"), set()),
        (topics.command("ieee13", "set_load"), set()),
        (topics.meter("ieee13", "1", "Load_1"), set()),
        ("flexfeeder/anything", set()),
        ("anything", set()),
    ],
)
def test_who_publishes(topic: str, users: set[str]) -> None:
    assert writers(topic) == users


@pytest.mark.parametrize(
    ("topic", "users"),
    [
        (topics.command(FEEDER, "set_load"), {"solver"}),
        (topics.dfp_command("execute"), {"dfp_manager"}),
        (topics.adjustments(FEEDER), {"solver"}),
        (topics.meter(FEEDER, "1", "Load_1"), {"solver", "simulator"}),
        (topics.meters(FEEDER), {"solver", "simulator"}),
        (topics.setpoint(FEEDER, "1", "Load_1"), {"solver", "simulator"}),
        (topics.reply("gateway-1a2b"), {"gateway"}),
        (topics.reply("operator") + "/a", {"gateway", "operator"}),
        (topics.state(FEEDER), {"dfp_manager", "gateway", "operator", "viewer"}),
        (topics.topology(FEEDER), set(USERS) - {"solver", "head_end"}),
        (topics.alert(FEEDER), {"gateway", "operator", "viewer"}),
        (topics.program_event(FEEDER), {"gateway", "operator", "viewer"}),
        (topics.service_status(f"solver-{FEEDER}"), {"solver", "gateway", "operator", "viewer"}),
        ("$SYS/broker/version", set()),
        ("flexfeeder/anything", set()),
    ],
)
def test_who_hears(topic: str, users: set[str]) -> None:
    assert readers(topic) == users


def subscriptions(connection: Connection) -> set[str]:
    return {each.topic_filter for each in connection._subscriptions}


def test_a_gateway_hears_all_that_it_asks_for() -> None:
    """Its replies are below its own name."""
    bridge = Bridge(ADDRESS, FEEDER, Streams(quiet_log()), quiet_log())
    for asked in subscriptions(bridge._connection):
        assert allows(RIGHTS["gateway"].read, asked.replace("#", "a")), asked


def test_simulated_meters_hear_all_that_they_ask_for() -> None:
    fleet = Fleet(Settings(feeder=FEEDER), 1, 60.0, 1.0, quiet_log())
    for asked in subscriptions(fleet._connection):
        assert allows(RIGHTS["simulator"].read, asked.replace("#", "a/b")), asked


def test_every_topic_that_is_for_everyone_is_for_viewers() -> None:
    """As the catalogue of messages says."""
    public = [
        re.sub(r"\{\w+\}", "a", channel.topic)
        for channel in PUBLICATIONS
        if "everyone" in {party.name.lower() for party in channel.receivers}
    ]
    assert len(public) == 5
    for topic in public:
        assert allows(RIGHTS["viewer"].read, topic), topic


class TestFile:
    """Mosquitto's format."""

    LINES = broker_acl.acl(FEEDER).splitlines()

    def test_meters_share_two_patterns_and_statuses_have_two(self) -> None:
        assert [line for line in self.LINES if line.startswith("pattern")] == [
            "pattern write flexfeeder/ieee123/meter/%u",
            "pattern read flexfeeder/ieee123/setpoint/%u",
            "pattern deny flexfeeder/service/%u/status",
            "pattern write flexfeeder/service/%c/status",
        ]

    def test_each_user_has_a_block(self) -> None:
        named = [line.removeprefix("user ") for line in self.LINES if line.startswith("user ")]
        assert named == list(USERS)

    def test_nothing_is_for_those_without_a_name(self) -> None:
        """What stands before the first user is for anonymous clients."""
        first = next(n for n, line in enumerate(self.LINES) if line.startswith("user"))
        assert not [line for line in self.LINES[:first] if line.startswith("topic")]

    def test_what_the_head_end_may(self) -> None:
        at = self.LINES.index("user head_end")
        assert self.LINES[at:] == ["user head_end", "topic write flexfeeder/ieee123/meters"]


def test_no_other_user_is_called_as_a_meter_could_be() -> None:
    assert broker_acl.meter_user("1", "Load_1") == "1/Load_1"
    assert all("/" not in user for user in USERS)
