"""What is taken apart without being JSON: topics, keys, heads of states, feeder folders."""

import hashlib
import string
import uuid
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub
from pydantic import TypeAdapter

from fuzz.addresses import feeders, levels, topics_below
from fuzz.effort import effort, patient
from fuzz.payloads import Payload, payloads
from fuzz.shapes import assert_finite
from fuzz.tried import tried
from schemas import topics
from schemas.envelope import RequestId
from schemas.errors import Refusal
from schemas.programs import HIGHEST_REVISION
from schemas.state import version_of
from services.dfp_manager.feeders import revision_of
from services.gateway import examples, keys
from services.solver.feeder import Feeder, FeederError

pytestmark = patient

REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)

FOLDER = """
name = "Two buses"
master = "master.dss"
load_floor = 0.25

[voltage_limits]
min_pu = 0.94
max_pu = 1.06

[[neighbourhoods]]
number = 1
buses = ["1", "2"]
transformer_bus = "1"
transformer_kva = 75

[[neighbourhoods]]
number = 2
buses = ["3"]
transformer_bus = "3"
transformer_kva = 25.5
"""

WORDS = (
    *("nan", "inf", "-inf", "1e400", "0", "-1", "true", '""', "[]", "{}", "{a = 1}", '"../x.dss"'),
    *("1979-05-27", "07:32:00", "0xff", "9" * 400, '"x\\u0000"', '"' + "x" * 300 + '"', "'1'"),
    *("[[neighbourhoods]]", "[voltage_limits]", "number", "=", "\n", "#", '"""', "'''", "[1, 'a']"),
    *("[" * 2000, "{a=" * 500, "a." * 2000 + "b = 1", '"/etc/hostname"', '"."', '["a b"]', "1_0"),
)


class TestTopics:
    @given(topic=topics_below)
    @effort(500)
    def test_a_topic_that_a_service_hears_is_taken_apart(self, topic: str) -> None:
        """By each of the filters that services subscribe to."""
        levels = topic.split("/")
        assert topics.feeder_of(topic) == levels[1]
        if topic_matches_sub(topics.every_service_status(), topic):
            assert topics.instance_of(topic) == levels[2]
        if topic_matches_sub(topics.commands(levels[1] or "x"), topic):
            assert topics.command(levels[1], topics.command_of(topic)).rstrip("/") in {
                topic,
                topic.rstrip("/"),
            }
        address = topics.address_of(topic)
        assert (address is not None) == (len(levels) == 5)
        if address is not None:
            assert topics.meter(levels[1], *address).split("/")[3:] == levels[3:]

    @given(topic=topics_below | st.text() | st.lists(levels).map("/".join))
    @example("flexfeeder/reply/a\n")
    @effort(500)
    def test_what_is_answered_on_is_a_topic_below_reply_and_nothing_else(self, topic: str) -> None:
        """All of it letters, digits, hyphens and underscores, a few levels deep, and short."""
        if not topics.is_reply(topic):
            return
        root, reply, *client = topic.split("/")
        assert (root, reply) == ("flexfeeder", "reply")
        assert 1 <= len(client) <= 5
        assert all(map(topics.is_name, client))
        assert set(topic) <= set(string.ascii_letters + string.digits + "_-/")
        assert topic_matches_sub(topics.replies(client[0]), topic)

    @given(name=levels | feeders | st.text())
    @effort(300)
    def test_a_name_is_plain(self, name: str) -> None:
        plain = set(string.ascii_letters + string.digits + "_-")
        assert topics.is_name(name) == (0 < len(name) <= 64 and set(name) <= plain)


HEADERS = st.one_of(
    st.text(max_size=300),
    st.text(string.printable, max_size=20),
    st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    st.from_regex(r"key:[A-Za-z0-9_.:-]{1,130}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_.:-]{1,130}", fullmatch=True),
    st.from_regex(r"(key:)?sha256:[0-9a-f]{64}", fullmatch=True),
    st.integers(120, 260).map(lambda count: "k" * count),
)


class TestKeys:
    @given(values=st.lists(HEADERS, max_size=1) | st.lists(HEADERS, max_size=3))
    @effort(500)
    def test_a_key_stands_for_a_request_id_or_is_refused(self, values: list[str]) -> None:
        found = tried(Refusal, lambda: keys.request_id_of(values))
        if isinstance(found, Refusal):
            assert found.details[0].field == keys.HEADER
            is_key = len(values) == 1 and 1 <= len(values[0]) <= keys.LONGEST_KEY
            assert not (is_key and all(" " <= character <= "~" for character in values[0]))
        else:
            assert (found is None) == (not values)
            assert found is None or REQUEST_ID.validate_python(found) == found
            assert found == keys.request_id_of(values)

    @given(one=HEADERS, other=HEADERS)
    @effort(500)
    def test_only_the_written_out_form_of_a_key_is_the_same_request(
        self, one: str, other: str
    ) -> None:
        """A caller that is told its request id may ask again with it instead of its key."""
        assume(one != other)
        try:
            ids = [keys.request_id_of([one]), keys.request_id_of([other])]
        except Refusal:
            return
        if ids[0] == ids[1]:
            assert ids[0] in {one, other}

    @given(key=HEADERS)
    @effort(300)
    def test_no_key_stands_for_the_id_of_somebody_elses_request(self, key: str) -> None:
        """What the gateway makes up itself is one only for those who were told it."""
        made_up = uuid.uuid4().hex
        try:
            found = keys.request_id_of([key])
        except Refusal:
            return
        assert found != made_up
        assert found == key or (found or "").startswith(keys.PREFIX)
        hashed = hashlib.sha256(key.encode()).hexdigest()
        assert found in {key, keys.PREFIX + key, f"{keys.PREFIX}sha256:{hashed}"}


class TestHeads:
    @given(payload=payloads(examples.STATE))
    @effort(300)
    def test_a_state_that_is_not_parsed_has_numbers_within_bounds_or_none(
        self, payload: Payload
    ) -> None:
        version, revision = version_of(payload.content), revision_of(payload.content)
        assert version is None or 0 <= version < 10**18
        assert revision is None or 0 <= revision <= HIGHEST_REVISION


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of feeders, one of which has an OpenDSS file."""
    root = tmp_path_factory.mktemp("feeders")
    (root / "mine").mkdir()
    (root / "mine" / "master.dss").write_text("New Circuit.x\n", encoding="utf-8")
    return root


@st.composite
def _folders(draw: st.DrawFn) -> bytes:
    """A feeder.toml of which a few things are not as they were."""
    lines = FOLDER.strip().split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        word = draw(st.sampled_from(WORDS) | st.text(max_size=5))
        match draw(st.sampled_from(["value", "drop", "twice", "insert", "key"])):
            case "value":
                lines[at] = f"{lines[at].split('=')[0]}= {word}"
            case "drop":
                lines[at] = ""
            case "twice":
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "insert":
                lines.insert(at, word)
            case "key":
                lines[at] = f"{word} ={lines[at].partition('=')[2]}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


class TestFeederFolders:
    @given(content=_folders() | st.binary(max_size=60))
    @effort(400)
    def test_a_folder_is_read_or_refused_with_its_problems(
        self, folder: Path, content: bytes
    ) -> None:
        (folder / "mine" / "feeder.toml").write_bytes(content)
        feeder = tried(FeederError, lambda: Feeder.load(folder, "mine"))
        if isinstance(feeder, FeederError):
            assert feeder.problems
            assert all(feeder.problems)
        else:
            assert_finite(feeder.config)
            assert feeder.master.resolve() == folder.resolve() / "mine" / "master.dss"
            assert all(map(topics.is_name, feeder.config.neighbourhood_of_bus()))

    @given(feeder_id=st.sampled_from(["..", ".", "mine/", "/", "x" * 300, "a\0b"]) | st.text())
    @effort(200)
    def test_a_feeder_of_any_name_is_there_or_refused(self, folder: Path, feeder_id: str) -> None:
        (folder / "mine" / "feeder.toml").write_text(FOLDER, encoding="utf-8")
        feeder = tried(FeederError, lambda: Feeder.load(folder, feeder_id))
        assert not isinstance(feeder, FeederError) or feeder.problems
