"""Files for people to read, written by a thread of their own: whoever serves waits for no disk."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.logs import Log

INTERVAL_S = 0.5
"""A file is written at most this often, so what is handed over is there within a second."""

MOST_LINES = 10_000
"""Lines that wait for a file; more are dropped, and counted."""

Render = Callable[[], str | bytes]


@dataclass(slots=True)
class _File:
    """What waits to be written to a file; ``due`` in monotonic seconds."""

    render: Render | None = None
    lines: deque[str] = field(default_factory=deque)
    dropped: int = 0
    due: float = 0.0

    @property
    def waits(self) -> bool:
        return self.render is not None or bool(self.lines)


class FileWriter:
    """Writes the files of a folder, which it makes when there is something to write.

    What cannot be written is kept and tried again, and the log says so once; nothing here raises
    for it. A file is for :meth:`replace` or for :meth:`append`, not for both.
    """

    def __init__(self, folder: Path, log: Log, interval_s: float = INTERVAL_S) -> None:
        self._folder = folder
        self._log = log.bind(folder=str(folder))
        self._interval_s = interval_s
        self._changed = threading.Condition()
        self._files: dict[str, _File] = {}
        self._failing: set[str] = set()
        self._closing = False
        self._thread: threading.Thread | None = None

    def replace(self, name: str, render: Render) -> None:
        """Have a whole file replaced at once by what ``render`` returns.

        ``render`` is called by the thread that writes, so it may only read what does not change.
        Of several calls for one file the newest wins.
        """
        with self._changed:
            self._file(name).render = render
            self._wake()

    def append(self, name: str, line: str) -> None:
        """Have a line added to a file; ``line`` is without its end."""
        with self._changed:
            file = self._file(name)
            if len(file.lines) < MOST_LINES:
                file.lines.append(line)
            else:
                file.dropped += 1
            self._wake()

    def close(self, timeout: float) -> bool:
        """Write what waits, for up to ``timeout`` seconds; True if the thread has ended in time.

        Each file is tried once more; what is handed over from now on is not written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _file(self, name: str) -> _File:
        return self._files.setdefault(name, _File())

    def _wake(self) -> None:
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="files", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while (name := self._next()) is not None:
            self._write(name)

    def _next(self) -> str | None:
        """The file to write next, once it is due; None when closing and all are done."""
        with self._changed:
            while True:
                waiting = [(file.due, name) for name, file in self._files.items() if file.waits]
                if self._closing:
                    return min(waiting)[1] if waiting else None
                if not waiting:
                    self._changed.wait()
                    continue
                due, name = min(waiting)
                if (left := due - time.monotonic()) <= 0:
                    return name
                self._changed.wait(left)

    def _write(self, name: str) -> None:
        with self._changed:
            file = self._files[name]
            render, lines = file.render, list(file.lines)
        is_done = self._try(name, render, lines)
        dropped = 0
        with self._changed:
            file.due = time.monotonic() + self._interval_s
            if is_done or self._closing:
                if file.render is render:
                    file.render = None
                for _ in lines:
                    file.lines.popleft()
                dropped, file.dropped = file.dropped, 0
        if dropped:
            self._log.warning("lines_dropped", file=name, lines=dropped)

    def _try(self, name: str, render: Render | None, lines: list[str]) -> bool:
        """Write to a file; False where it is to be tried again."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if render is not None:
                self._replace(name, render)
            if lines:
                self._append(name, lines)
        except OSError as error:
            self._failed(name, error)
            return False
        except Exception:  # noqa: BLE001 - a mistake in one render must not end the thread
            self._log.exception("file_not_rendered", file=name)
            return True
        self._written(name)
        return True

    def _replace(self, name: str, render: Render) -> None:
        content = render()
        written = self._folder / f".{name}.new"
        written.write_bytes(_encoded(content) if isinstance(content, str) else content)
        written.replace(self._folder / name)

    def _append(self, name: str, lines: list[str]) -> None:
        with (self._folder / name).open("ab", buffering=0) as file:
            start = file.tell()
            try:
                _write_all(file.write, _encoded("".join(f"{line}\n" for line in lines)))
            except OSError:
                # These lines will be written again: not a second time after half a first.
                file.truncate(start)
                raise

    def _failed(self, name: str, error: OSError) -> None:
        if not self._failing:
            self._log.warning("files_not_written", file=name, reason=str(error))
        self._failing.add(name)

    def _written(self, name: str) -> None:
        if name in self._failing:
            self._failing.remove(name)
            if not self._failing:
                self._log.info("files_written_again")


def _write_all(write: Callable[[memoryview], int], content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[write(left) :]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
