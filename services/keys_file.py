"""The file of API keys: the command line changes it, the gateway follows it."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services import whole_files
from services.api_keys import ApiKeys, KeysError
from services.logs import Log

LOOK_EVERY_S = 1.0
"""The file is looked at no more often than this; so long may a revoked key still be taken."""

_Signature = tuple[int, int, int]
"""Of a file: when it was changed in ns, its size in bytes, its inode."""


class KeysFile:
    """The keys of a file, read again whenever another file is in its place."""

    def __init__(self, path: Path, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        Raises:
            KeysError: where it cannot be read, or is none; the message names the file.

        """
        self._path = path
        self._log = log.bind(file=str(path))
        self._clock = clock
        self._keys, self._signature = _read(path)
        self._is_failing = False
        self._look_at = clock() + LOOK_EVERY_S

    def current(self) -> ApiKeys:
        """The keys in force: those of the last good file."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look()
        return self._keys

    def _look(self) -> None:
        try:
            if not self._is_failing and _signature(self._path.stat()) == self._signature:
                return
            self._keys, self._signature = _read(self._path)
        except (KeysError, OSError) as error:
            if not self._is_failing:
                self._log.error("keys_not_read", reason=str(error), kept="those read before")
            self._is_failing = True
            return
        self._is_failing = False
        self._log.info("keys_read_again", keys=len(self._keys.records))


def load(path: Path) -> ApiKeys:
    """The keys of a file; none where there is no file.

    Raises:
        KeysError: where it cannot be read; the message names it.

    """
    return _read(path)[0] if path.exists() else ApiKeys()


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile; its folder is made where there is none.

    Raises:
        KeysError: where that is not allowed.

    """
    try:
        _make_folder(path.parent)
        with whole_files.locked(path.parent):
            yield
    except OSError as error:
        raise KeysError(f"{path}: cannot be changed: {error.strerror}") from None


def save(path: Path, keys: ApiKeys) -> None:
    """Replace the file at once, as a whole.

    Anybody on this machine who gets to it may read it: a gateway in a container is another user.
    What keeps others out is its folder's folder, and what stands in the file opens nothing.

    Raises:
        KeysError: where it cannot be written.

    """
    try:
        whole_files.replace(path, keys.to_json(), 0o644)
    except OSError as error:
        raise KeysError(f"{path}: cannot be written: {error.strerror}") from None


def _make_folder(folder: Path) -> None:
    """The folder for everybody to read, and one around it, where that is missing too, for none but
    its owner: into a container the inner one is mounted.
    """
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)


def _read(path: Path) -> tuple[ApiKeys, _Signature]:
    try:
        with path.open("rb") as file:
            signature = _signature(os.fstat(file.fileno()))
            return ApiKeys.parse(file.read()), signature
    except OSError as error:
        raise KeysError(f"{path}: cannot be read: {error.strerror}") from None
    except KeysError as error:
        raise KeysError(f"{path}: {error}") from None


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_size, status.st_ino
