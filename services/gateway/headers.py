"""What every answer says to a browser: to take it as it is, to show it in no other page, to keep
nothing of it, and to load nothing for it.
"""

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = Sequence[tuple[bytes, bytes]]

BASE: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)

NOTHING = b"default-src 'none'; frame-ancestors 'none'"
"""The content that an answer of the interface itself may load."""

_DOCS = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The pages of the documentation: scripts of their own, in the page too, and data from here."""

_DOCS_PAGES = frozenset({"/docs", "/docs/oauth2-redirect", "/redoc"})

POLICY = b"content-security-policy"

_NOT_KEPT = (b"cache-control", b"no-store")

_ONLY_HTTPS = (b"strict-transport-security", b"max-age=31536000")


def security_headers(path: str, scheme: str) -> Headers:
    """What the answer to a request for a path is given; whether it is kept is its own affair."""
    policy = (POLICY, _DOCS if path in _DOCS_PAGES else NOTHING)
    return (*BASE, policy, _ONLY_HTTPS) if scheme == "https" else (*BASE, policy)


class SecurityHeaders:
    """ASGI middleware that gives every answer its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._usual = {scheme: security_headers("", scheme) for scheme in ("http", "https")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, scheme = scope["path"], scope["scheme"]
        headers = security_headers(path, scheme) if path in _DOCS_PAGES else self._usual[scheme]

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = [*message.get("headers", ()), *headers]
                if not any(name == b"cache-control" for name, _ in found):
                    found.append(_NOT_KEPT)
                message["headers"] = found
            await send(message)

        await self._app(scope, receive, send_with)
