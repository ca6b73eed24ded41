"""Log lines: what anybody puts into a topic or a name cannot move a reader's cursor."""

import json
import unicodedata
from collections.abc import Iterator

import pytest
import structlog

from services.logs import configure, printable
from services.settings import Settings

NASTY = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "lines": "a\r\nb [critical ] forged",
    "back": "abc\x08\x08\x7f",
    "one byte escape": "\x9b2J",
    "right to left": "\u202egnp",
    "separators": "a\u2028b\u2029",
    "nothing": "\x00",
    "surrogate": "\udcff",
    "U+FEFF": "\ufeff",
}


@pytest.fixture
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def is_plain(text: str) -> bool:
    """True if there is nothing in it that a terminal would take for a command."""
    return not any(unicodedata.category(character)[0] == "C" for character in text)


class TestPrintable:
    @pytest.mark.parametrize("text", ["flexfeeder/ieee123/state", "a b", "", "Straße", "電力"])
    def test_what_can_be_printed_is_left_alone(self, text: str) -> None:
        assert printable(text) == text

    @pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
    def test_what_cannot_is_escaped_and_can_be_told_from_the_escape(self, text: str) -> None:
        escaped = printable(text)
        assert escaped.isprintable()
        assert escaped.encode("ascii").decode("unicode_escape") == text


@pytest.mark.usefixtures("_as_before")
class TestLog:
    @pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
    def test_control_characters_of_a_topic_are_escaped_on_the_console(
        self, capsys: pytest.CaptureFixture[str], text: str
    ) -> None:
        log = configure(Settings(log_format="console"), "solver")
        log.warning("unknown_command", topic=f"flexfeeder/{text}")
        written = capsys.readouterr().err
        assert written.endswith("\n")
        line = written.removesuffix("\n")
        assert is_plain(line)
        assert len(line.splitlines()) == 1
        assert "unknown_command" in line

    @pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
    def test_control_characters_of_a_topic_are_escaped_in_json(
        self, capsys: pytest.CaptureFixture[str], text: str
    ) -> None:
        """So that a program that prints what it reads harms nobody either."""
        log = configure(Settings(log_format="json"), "solver")
        log.bind(client=text).warning("unknown_command", topic=f"flexfeeder/{text}")
        [line] = capsys.readouterr().err.splitlines()
        entry = json.loads(line)
        assert is_plain(line)
        assert entry["topic"] == printable(f"flexfeeder/{text}")
        assert entry["client"] == printable(text)
        assert entry["event"] == "unknown_command"

    @pytest.mark.parametrize("log_format", ["console", "json"])
    def test_an_exception_whose_text_has_them_is_escaped_too(
        self, capsys: pytest.CaptureFixture[str], log_format: str
    ) -> None:
        log = configure(Settings.from_env({"FLEXFEEDER_LOG_FORMAT": log_format}), "gateway")
        error = ValueError("\x1b[2J")
        log.critical("bridge_failed", exc_info=error)
        written = capsys.readouterr().err
        assert "ValueError" in written
        assert "\x1b" not in written
