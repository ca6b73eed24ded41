"""The password file of the broker: who may connect, each with a hash of its password.

Mosquitto's format: a line ``user:$7$101$salt$hash`` each, PBKDF2 with SHA-512.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services import whole_files

RELOAD = "docker compose -f deploy/docker-compose.yml kill -s HUP broker"
"""Has the broker read its users and their rights again."""

SALT_BYTES = 12

_ITERATIONS = 101
"""Mosquitto's own number. A password of 256 random bits is not guessed, however fast a guess is,
and each connect of each meter costs the broker so many."""

_HASH_BYTES = 64


class UsersError(Exception):
    """The password file cannot be read."""


def new_password() -> str:
    """256 random bits, as text that needs no quotes anywhere."""
    return secrets.token_urlsafe(32)


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def hashed(password: str, salt: bytes) -> str:
    """What the broker keeps of a password."""
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS, _HASH_BYTES)
    return f"$7${_ITERATIONS}${_text(salt)}${_text(key)}"


def is_of(password: str, kept: str) -> bool:
    """True if ``kept`` is what :func:`hashed` makes of a password."""
    try:
        salt = base64.b64decode(kept.split("$")[3], validate=True)
    except (IndexError, ValueError):
        return False
    return hmac.compare_digest(hashed(password, salt), kept)


def parse(text: str) -> dict[str, str]:
    """The hash of each user.

    Raises:
        UsersError: a line has no user or no hash.

    """
    users = {}
    for number, line in enumerate(text.splitlines(), 1):
        user, colon, kept = line.partition(":")
        if not (user and colon and kept):
            raise UsersError(f"line {number} is no user and hash")
        users[user] = kept
    return users


def render(users: Mapping[str, str]) -> str:
    return "".join(f"{user}:{kept}\n" for user, kept in users.items())


def read(path: Path) -> dict[str, str]:
    """The users of a password file.

    Raises:
        UsersError: it is not there, or is none.

    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsersError(f"{path} cannot be read: {error}") from None
    except UsersError as error:
        raise UsersError(f"{path}: {error}") from None


@contextmanager
def edited(path: Path, mode: int) -> Iterator[dict[str, str]]:
    """The users of a password file, to be changed; written back whole when the block is left
    without an error. Whoever else edits it waits.

    Raises:
        UsersError: it is not there, or is none.

    """
    with whole_files.locked(path.parent):
        before = read(path)
        users = dict(before)
        yield users
        if users != before:
            whole_files.replace(path, render(users).encode(), mode)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
