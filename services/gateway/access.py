"""What the settings say of who reaches the gateway, and how."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from services.api_keys import KeysError
from services.gateway import policy
from services.gateway.guard import Keys
from services.gateway.server import tls_context
from services.keys_file import KeysFile
from services.logs import Log
from services.settings import Settings

T = TypeVar("T")


class Problem(NamedTuple):
    """Why the gateway must not listen like this: an event for the log, and the words."""

    event: str
    reason: str


class AccessError(Exception):
    """Settings with which the gateway must not listen."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(problem.reason for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in; without ``keys`` everybody who gets here, who is on this machine then."""

    keys: Keys | None
    tls: ssl.SSLContext | None
    origins: frozenset[str]
    """Of web pages that may call."""
    rate: float
    concurrency: int

    @classmethod
    def of(cls, settings: Settings, log: Log) -> "Access":
        """What the settings say.

        Raises:
            AccessError: with every problem there is.

        """
        problems: list[Problem] = []

        def sound(found: Callable[[], T]) -> T | None:
            try:
                return found()
            except AccessError as error:
                problems.extend(error.problems)
                return None

        keys = sound(lambda: _keys(settings, log))
        tls = sound(lambda: _tls(settings))
        origins = sound(lambda: _origins(settings))
        if problems or origins is None:
            raise AccessError(problems)
        return cls(keys, tls, origins, settings.http_rate, settings.http_concurrency)

    @property
    def security(self) -> str:
        """What is in force, in words."""
        return "none: only this machine can reach it" if self.keys is None else "API keys"

    @property
    def scheme(self) -> str:
        return "http" if self.tls is None else "https"


def _keys(settings: Settings, log: Log) -> KeysFile | None:
    if settings.keys_file is not None:
        try:
            return KeysFile(settings.keys_file, log)
        except KeysError as error:
            raise _refused("keys_unusable", f"FLEXFEEDER_KEYS_FILE: {error}") from None
    if not policy.listens_to_this_machine(settings.http_host):
        raise _refused(
            "keys_wanted",
            f"FLEXFEEDER_HTTP_HOST={settings.http_host} lets other machines operate the feeder: "
            "give FLEXFEEDER_KEYS_FILE too (flexfeeder keys add)",
        )
    return None


def _tls(settings: Settings) -> ssl.SSLContext | None:
    certificate, key = settings.http_cert, settings.http_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing, there = ("CERT", "KEY") if certificate is None else ("KEY", "CERT")
        reason = f"FLEXFEEDER_HTTP_{missing}: missing; FLEXFEEDER_HTTP_{there} is nothing without"
        raise _refused("https_unusable", reason)
    try:
        return tls_context(certificate, key)
    except OSError as error:
        why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        reason = f"FLEXFEEDER_HTTP_CERT={certificate}, FLEXFEEDER_HTTP_KEY={key}: {why}"
        raise _refused("https_unusable", reason) from None


def _origins(settings: Settings) -> frozenset[str]:
    try:
        return policy.origins_of(settings.cors_origins)
    except ValueError as error:
        raise _refused("origins_unusable", f"FLEXFEEDER_CORS_ORIGINS: {error}") from None


def _refused(event: str, reason: str) -> AccessError:
    return AccessError([Problem(event, reason)])
