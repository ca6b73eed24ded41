"""Topics: what is built is what is taken apart, and filters match what they are for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from schemas import topics
from schemas.topics import ElementAddress
from schemas.wire import NAME_PATTERN

names = st.from_regex(NAME_PATTERN.replace("$", r"\Z"), fullmatch=True)

NO_NAMES = {
    "empty": "",
    "space": "bus 1",
    "newline-behind": "1\n",
    "newline-within": "1\n2",
    "quote": '1"',
    "dot": "1.2",
    "slash": "1/2",
    "plus": "+",
    "hash": "#",
    "NUL": "1\0",
    "not-ASCII": "Straße",
    "digit-not-ASCII": "\N{ARABIC-INDIC DIGIT ONE}",
    "dollar": "$SYS",
    "65-characters": "x" * 65,
}


class TestNames:
    @pytest.mark.parametrize("name", ["1", "Load_1", "25r", "EV-Charger-1", "_", "x" * 64])
    def test_names_are_letters_digits_underscores_and_hyphens(self, name: str) -> None:
        assert topics.is_name(name)

    @pytest.mark.parametrize("text", NO_NAMES.values(), ids=NO_NAMES)
    def test_nothing_else_is_a_name(self, text: str) -> None:
        assert not topics.is_name(text)

    @given(text=st.text())
    def test_a_name_is_one_level_of_a_topic_and_no_wildcard(self, text: str) -> None:
        assert not topics.is_name(text) or not set(text) & set("/+#\0\n ")


class TestTopics:
    def test_topics_read_as_documented(self) -> None:
        assert topics.command("ieee123", "set_load") == "flexfeeder/ieee123/command/set_load"
        assert topics.reply("gateway-1") == "flexfeeder/reply/gateway-1"
        assert topics.meter("ieee123", "1", "Load_1") == "flexfeeder/ieee123/meter/1/Load_1"
        assert topics.meters("ieee123") == "flexfeeder/ieee123/meters"
        assert topics.topology("ieee123") == "flexfeeder/ieee123/topology"
        assert topics.state("ieee123") == "flexfeeder/ieee123/state"
        assert topics.setpoint("ieee123", "1", "EV_1") == "flexfeeder/ieee123/setpoint/1/EV_1"
        assert topics.service_status("solver-ieee123") == "flexfeeder/service/solver-ieee123/status"

    @given(feeder=names, bus=names, element=names)
    def test_a_meter_topic_gives_its_address_back(
        self, feeder: str, bus: str, element: str
    ) -> None:
        topic = topics.meter(feeder, bus, element)
        assert topics.address_of(topic) == ElementAddress(bus, element)
        assert topics.feeder_of(topic) == feeder

    @given(feeder=names, bus=names, element=names)
    def test_a_setpoint_topic_gives_its_address_back(
        self, feeder: str, bus: str, element: str
    ) -> None:
        topic = topics.setpoint(feeder, bus, element)
        assert topics.address_of(topic) == ElementAddress(bus, element)
        assert topics.feeder_of(topic) == feeder

    @given(feeder=names, name=names)
    def test_a_command_topic_gives_its_command_back(self, feeder: str, name: str) -> None:
        topic = topics.command(feeder, name)
        assert topics.command_of(topic) == name
        assert topics.feeder_of(topic) == feeder

    @given(instance=names)
    def test_a_status_topic_gives_its_instance_back(self, instance: str) -> None:
        assert topics.instance_of(topics.service_status(instance)) == instance

    @pytest.mark.parametrize(
        "topic",
        [
            "flexfeeder/ieee123/meter",
            "flexfeeder/ieee123/meter/1",
            "flexfeeder/ieee123/meter/1/Load_1/kw",
        ],
    )
    def test_a_meter_topic_has_a_bus_and_an_element(self, topic: str) -> None:
        assert topics.address_of(topic) is None

    @pytest.mark.parametrize(
        ("topic", "name"),
        [
            ("flexfeeder/ieee123/command", ""),
            ("flexfeeder/ieee123/command/", ""),
            ("flexfeeder/ieee123/command/set_load/1", "set_load/1"),
        ],
    )
    def test_a_command_topic_of_another_shape_names_no_command(self, topic: str, name: str) -> None:
        """What stands there is given back, so that a refusal can show it."""
        assert topics.command_of(topic) == name


class TestReplyTopics:
    @given(client=names)
    def test_the_reply_topic_of_a_client_is_one(self, client: str) -> None:
        assert topics.is_reply(topics.reply(client))

    @pytest.mark.parametrize("below", ["/1", "/a/b/c/d", "/req-17_b"])
    def test_a_client_may_divide_its_replies(self, below: str) -> None:
        assert topics.is_reply(topics.reply("gateway-1") + below)

    @pytest.mark.parametrize(
        "topic",
        [
            "",
            "flexfeeder/reply",
            "flexfeeder/reply/",
            "flexfeeder/reply//x",
            "flexfeeder/reply/x/",
            "flexfeeder/reply/+",
            "flexfeeder/reply/x/#",
            "flexfeeder/reply/x y",
            "flexfeeder/reply/x\n",
            "flexfeeder/reply/x\0",
            "flexfeeder/reply/a/b/c/d/e/f",
            "flexfeeder/reply/" + "x" * 65,
            "/flexfeeder/reply/x",
            "elsewhere/flexfeeder/reply/x",
            "FlexFeeder/reply/x",
            "flexfeeder/ieee123/state",
            "flexfeeder/ieee123/command/set_load",
            "$SYS/broker",
        ],
    )
    def test_no_other_topic_is_answered_on(self, topic: str) -> None:
        """Else a sender could have a service write states, commands or wills."""
        assert not topics.is_reply(topic)

    @given(client=names, below=st.lists(names, max_size=4))
    def test_a_client_hears_all_its_replies_under_one_filter(
        self, client: str, below: list[str]
    ) -> None:
        topic = "/".join([topics.reply(client), *below])
        assert topics.is_reply(topic)
        assert topic_matches_sub(topics.replies(client), topic)


class TestFilters:
    @pytest.mark.parametrize(
        ("topic_filter", "topic"),
        [
            (topics.commands("ieee123"), topics.command("ieee123", "set_load")),
            (topics.commands("ieee123"), "flexfeeder/ieee123/command/set_load/too/deep"),
            (topics.every_meter("ieee123"), topics.meter("ieee123", "1", "Load_1")),
            (topics.every_meter("ieee123"), "flexfeeder/ieee123/meter/1"),
            (topics.every_state(), topics.state("ieee13")),
            (topics.every_topology(), topics.topology("ieee13")),
            (topics.setpoints("ieee123"), topics.setpoint("ieee123", "1", "EV_1")),
            (topics.every_service_status(), topics.service_status("solver-ieee123")),
        ],
    )
    def test_a_filter_matches_what_it_is_for(self, topic_filter: str, topic: str) -> None:
        """Misshapen commands and readings too: they are refused, not ignored."""
        assert topic_matches_sub(topic_filter, topic)

    @pytest.mark.parametrize(
        ("topic_filter", "topic"),
        [
            (topics.commands("ieee123"), topics.command("ieee13", "set_load")),
            (topics.every_meter("ieee123"), topics.meters("ieee123")),
            (topics.every_meter("ieee123"), topics.meter("ieee13", "1", "Load_1")),
            (topics.every_state(), topics.topology("ieee123")),
            (topics.every_state(), topics.service_status("solver-ieee123")),
            (topics.replies("a"), topics.reply("ab")),
        ],
    )
    def test_a_filter_matches_nothing_else(self, topic_filter: str, topic: str) -> None:
        assert not topic_matches_sub(topic_filter, topic)
