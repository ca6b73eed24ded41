"""Who may do what over HTTP: the one table of it, and whom a request comes from. Pure."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from services.api_keys import Role

HEALTH = frozenset({"/healthz", "/readyz"})
"""For whoever watches over the gateway: answered however busy it is."""

_OPEN = HEALTH | {"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
_OPEN_FOLDER = "/static-offline-docs/"
"""What may be read without a key."""

_OPERATING = frozenset(
    {
        "/run_simulation",
        *("/modify_load_neighbourhood", "/modify_load_household", "/release_load"),
        *("/add_generator", "/remove_generator", "/add_device", "/disconnect_device"),
        *("/subscribe_dfp", "/unsubscribe_dfp", "/execute_dfp", "/stop_dfp"),
    }
)
"""What an operator may do. Whatever else changes something defines programs, or is new."""

_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::\d*)?")
"""A host with a port or without; an IPv6 address is in brackets."""

_LONGEST_HOST = 260
"""Characters of a name in the DNS and its port: what is longer is not worth remembering."""

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def is_reading(method: str) -> bool:
    """True for a method that changes nothing."""
    return method in _READING


def role_needed(method: str, path: str) -> Role | None:
    """The least role that may do this, whether or not there is such a route; None: anybody may."""
    if method in _READING:
        is_open = path in _OPEN or path.startswith(_OPEN_FOLDER)
        return None if is_open else Role.VIEWER
    return Role.OPERATOR if path in _OPERATING else Role.ADMIN


def is_this_machine(host: str) -> bool:
    """True if a host, with a port or without, is a name of this machine for itself alone.

    What a web page can have its own name resolve to does not count: that is how it would get here.
    """
    return len(host) <= _LONGEST_HOST and _is_this_machine(host)


@lru_cache(maxsize=1024)
def _is_this_machine(host: str) -> bool:
    name = _without_port(host).lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def listens_to_this_machine(host: str) -> bool:
    """True for an address, or the name, that nobody else reaches who listens there."""
    return host == "localhost" or _is_loopback(host)


def is_allowed_origin(origin: str, host: str | None, allowed: frozenset[str]) -> bool:
    """True for a web page that is of the host that it calls, or of one of the origins ``allowed``.

    The scheme is not compared: whoever speaks HTTPS for the gateway passes HTTP on to it.
    """
    _, _, origin_host = origin.partition("://")
    is_same = bool(origin_host) and host is not None and origin_host.lower() == host.lower()
    return is_same or origin in allowed


def origins_of(setting: str) -> frozenset[str]:
    """The origins that a setting lists, separated by commas.

    Raises:
        ValueError: where one of them is none.

    """
    origins = frozenset(part.strip().lower() for part in setting.split(",") if part.strip())
    for origin in sorted(origins):
        parts = urlsplit(origin)
        whole = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in {"http", "https"} or not parts.hostname or origin != whole:
            raise ValueError(f"{origin!r} is no origin, as https://example.org or http://host:8080")
    return origins


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]) if found else ""
