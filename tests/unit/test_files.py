"""Files that are written in the background, and folders that cannot be written to."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from flexfeeder.testing import wait_until
from services import files
from services.files import FileWriter

TIMEOUT_S = 10.0


class Writer:
    """A writer that hardly pauses, with what it logs."""

    def __init__(self, folder: Path, interval_s: float = 0.01) -> None:
        self.folder = folder
        self._logged = LogCapture()
        log = structlog.wrap_logger(
            structlog.PrintLogger(),
            processors=[self._logged],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.files = FileWriter(folder, log, interval_s)

    def logged(self, event: str) -> list[Any]:
        """Entries of the log under an event."""
        return [entry for entry in self._logged.entries if entry["event"] == event]

    def reads(self, name: str, content: str) -> None:
        """Wait until a file has this content."""
        wait_until(lambda: self.content(name) == content, f"{name} reads {content!r}")

    def content(self, name: str) -> str | None:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.is_file() else None


@contextmanager
def largest_file(length: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(tmp_path / "made" / "when needed")
    yield opened
    assert opened.files.close(TIMEOUT_S)


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[Writer]:
    """A writer whose folder cannot be made, because there is a file of that name."""
    (tmp_path / "results").write_text("in the way")
    opened = Writer(tmp_path / "results")
    yield opened
    assert opened.files.close(TIMEOUT_S)


class TestReplace:
    def test_a_file_holds_what_was_rendered_last(self, writer: Writer) -> None:
        writer.files.replace("a.txt", lambda: "first")
        writer.reads("a.txt", "first")
        writer.files.replace("a.txt", lambda: b"second")
        writer.reads("a.txt", "second")

    def test_nothing_else_is_left_in_the_folder(self, writer: Writer) -> None:
        writer.files.replace("a.txt", lambda: "content")
        writer.reads("a.txt", "content")
        assert [path.name for path in writer.folder.iterdir()] == ["a.txt"]

    def test_it_is_rendered_by_another_thread(self, writer: Writer) -> None:
        rendered_by: list[threading.Thread] = []

        def render() -> str:
            rendered_by.append(threading.current_thread())
            return "content"

        writer.files.replace("a.txt", render)
        writer.reads("a.txt", "content")
        assert rendered_by
        assert threading.current_thread() not in rendered_by

    def test_of_many_at_once_only_the_newest_is_rendered(self, tmp_path: Path) -> None:
        """The first is written at once; the rest come within its interval."""
        writer = Writer(tmp_path, interval_s=3600.0)
        rendered: list[int] = []

        def render(number: int) -> str:
            rendered.append(number)
            return str(number)

        writer.files.replace("a.txt", lambda: render(0))
        writer.reads("a.txt", "0")
        for number in range(1, 100):
            writer.files.replace("a.txt", partial(render, number))
        assert writer.files.close(TIMEOUT_S)
        assert rendered == [0, 99]
        assert writer.content("a.txt") == "99"

    def test_a_render_that_fails_is_logged_and_the_next_is_written(self, writer: Writer) -> None:
        def render() -> str:
            raise ValueError("a mistake")

        writer.files.replace("a.txt", render)
        wait_until(lambda: bool(writer.logged("file_not_rendered")), "it is logged")
        writer.files.replace("a.txt", lambda: "content")
        writer.reads("a.txt", "content")
        assert len(writer.logged("file_not_rendered")) == 1

    def test_one_that_comes_while_an_older_is_written_is_written_too(self, writer: Writer) -> None:
        started, go_on = threading.Event(), threading.Event()

        def older() -> str:
            started.set()
            assert go_on.wait(TIMEOUT_S)
            return "older"

        writer.files.replace("a.txt", older)
        assert started.wait(TIMEOUT_S)
        writer.files.replace("a.txt", lambda: "newer")
        go_on.set()
        writer.reads("a.txt", "newer")


class TestAppend:
    def test_lines_follow_each_other_and_what_was_there(self, writer: Writer) -> None:
        writer.folder.mkdir(parents=True)
        (writer.folder / "log.txt").write_text("before\n")
        for number in range(1000):
            writer.files.append("log.txt", str(number))
        writer.reads("log.txt", "before\n" + "".join(f"{number}\n" for number in range(1000)))

    def test_what_utf_8_has_no_form_for_is_escaped(self, writer: Writer) -> None:
        writer.files.append("log.txt", "ö \ud800")
        writer.reads("log.txt", "ö \\ud800\n")

    def test_lines_beyond_the_bound_are_dropped_and_counted(
        self, blocked: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "MOST_LINES", 2)
        for number in range(5):
            blocked.files.append("log.txt", str(number))
        blocked.folder.unlink()
        blocked.reads("log.txt", "0\n1\n")
        wait_until(lambda: bool(blocked.logged("lines_dropped")), "it is logged")
        [entry] = blocked.logged("lines_dropped")
        assert (entry["file"], entry["lines"]) == ("log.txt", 3)

    def test_half_a_write_is_taken_back(self, writer: Writer) -> None:
        """A disk that is full takes what fits; the lines come again once there is room."""
        writer.files.append("log.txt", "first")
        writer.reads("log.txt", "first\n")
        with largest_file(10):
            writer.files.append("log.txt", "second")
            wait_until(lambda: bool(writer.logged("files_not_written")), "it is logged")
            writer.reads("log.txt", "first\n")
        writer.reads("log.txt", "first\nsecond\n")


class TestAFolderThatCannotBeWritten:
    def test_it_is_logged_once_and_what_waited_is_written_when_it_can_be(
        self, blocked: Writer
    ) -> None:
        attempts: list[None] = []

        def render() -> str:
            attempts.append(None)
            return "content"

        blocked.files.append("log.txt", "line")
        wait_until(lambda: bool(blocked.logged("files_not_written")), "it is logged")
        blocked.files.replace("a.txt", render)
        blocked.files.append("log.txt", "another")
        blocked.folder.unlink()
        blocked.reads("a.txt", "content")
        blocked.reads("log.txt", "line\nanother\n")
        wait_until(lambda: bool(blocked.logged("files_written_again")), "that is logged too")
        assert len(blocked.logged("files_not_written")) == 1
        assert len(blocked.logged("files_written_again")) == 1
        assert len(attempts) == 1

    def test_one_file_that_cannot_be_written_does_not_hold_up_another(self, writer: Writer) -> None:
        (writer.folder / "a.txt").mkdir(parents=True)
        writer.files.replace("a.txt", lambda: "content")
        wait_until(lambda: bool(writer.logged("files_not_written")), "it is logged")
        for number in range(3):
            writer.files.replace("b.txt", partial(str, number))
            writer.reads("b.txt", str(number))
        (writer.folder / "a.txt").rmdir()
        writer.reads("a.txt", "content")
        assert len(writer.logged("files_not_written")) == 1

    def test_closing_gives_up_on_it(self, blocked: Writer) -> None:
        blocked.files.replace("a.txt", lambda: "content")
        blocked.files.append("log.txt", "line")
        assert blocked.files.close(TIMEOUT_S)


class TestClose:
    def test_what_waits_is_written_at_once(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path, interval_s=3600.0)
        for number in range(3):
            writer.files.replace("a.txt", partial(str, number))
            writer.files.append("log.txt", str(number))
        assert writer.files.close(TIMEOUT_S)
        assert writer.content("a.txt") == "2"
        assert writer.content("log.txt") == "0\n1\n2\n"

    def test_a_writer_that_never_wrote_closes_and_leaves_no_folder(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path / "results")
        assert writer.files.close(TIMEOUT_S)
        assert not writer.folder.exists()

    def test_one_that_is_stuck_is_left_after_the_timeout(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path)
        go_on = threading.Event()

        def stuck() -> str:
            assert go_on.wait(TIMEOUT_S)
            return "content"

        writer.files.replace("a.txt", stuck)
        assert not writer.files.close(0.01)
        go_on.set()
        assert writer.files.close(TIMEOUT_S)
