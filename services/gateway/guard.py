"""Who is let in: one look at each request, before anything is made of it.

Every request passes here, so it is ASGI and nothing more: a look at the headers, at a table, and at
a few numbers.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import ErrorCode, Refusal
from services.api_keys import ApiKeys, Caller
from services.gateway import answers, policy
from services.gateway.limits import Limit
from services.gateway.server import hang_up_of

CALLER = "flexfeeder.caller"
"""Where the guard says in the scope who calls: a ``Caller``, None where nobody was identified."""

BURST_S = 0.5
"""A key may make the requests of so long a time at once."""

FAILURES_HZ = 10.0
"""How many requests a second without a good key are answered with what is wrong."""

_STREAM = "/events"
"""Has bounds of its own, and no end: it does not count as under way."""

_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"


class Keys(Protocol):
    """Whoever knows the keys in force."""

    def current(self) -> ApiKeys: ...


class _TooMany(Refusal):
    """A refusal for a time."""

    def __init__(self, code: ErrorCode, field: str, problem: str, wait_s: float) -> None:
        refusal = Refusal.of_field(code, field, problem)
        super().__init__(refusal.code, refusal.message, refusal.details)
        self.wait_s = max(1, math.ceil(wait_s))


class Guard:
    """ASGI middleware that lets in who may, as often as they may.

    With ``keys`` a request needs one. Without, the gateway is for this machine alone, and a request
    has to be addressed to it as such: one from a web page that has its own name resolve to here is
    not. Either way no web page may change anything but one from here, or of one of ``origins``: a
    browser would send a request for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys | None,
        origins: frozenset[str],
        rate: float,
        concurrency: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._keys = keys
        self._origins = origins
        self._rate = rate
        self._concurrency = concurrency
        self._clock = clock
        self._requests = Limit(rate, rate * BURST_S)
        self._failures = Limit(FAILURES_HZ, FAILURES_HZ)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[CALLER] = None
        # The pattern of a route matches before a last newline; so has to whatever is asked here.
        path = scope["path"].removesuffix("\n")
        try:
            self._admit(scope, scope["method"], path)
            counts = path not in policy.HEALTH and path != _STREAM
            if counts and self._under_way >= self._concurrency:
                problem = f"{self._concurrency} requests are under way; nothing was changed"
                raise _TooMany(ErrorCode.SERVICE_UNAVAILABLE, "gateway", problem, 1.0)
        except Refusal as refusal:
            await _answer(refusal, scope, receive, send)
            return
        self._under_way += counts
        caller: Caller | None = scope[CALLER]
        if path == _STREAM and caller is not None:
            send = self._while_in_force(caller, scope, send)
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= counts

    def _admit(self, scope: Scope, method: str, path: str) -> None:
        """Let a request in, and say who makes it.

        Raises:
            Refusal: where it may not be made.

        """
        needed = policy.role_needed(method, path)
        if needed is None:
            return
        found = _Found(scope)
        if self._keys is not None:
            scope[CALLER] = caller = self._caller(found, self._keys.current(), scope)
            self._count(caller)
            if not caller.role.may_do_what(needed):
                problem = f"this takes the role {needed}, and the key has the role {caller.role}"
                raise Refusal.of_field(ErrorCode.FORBIDDEN, "Authorization", problem)
        elif not all(map(policy.is_this_machine, found.hosts)):
            problem = "not a name of this machine for itself; see FLEXFEEDER_KEYS_FILE"
            raise Refusal.of_field(ErrorCode.FORBIDDEN, "Host", problem)
        if found.origins and not policy.is_reading(method):
            host = found.hosts[0] if found.hosts else None
            if not all(policy.is_allowed_origin(o, host, self._origins) for o in found.origins):
                problem = "a web page of this origin may change nothing here"
                raise Refusal.of_field(ErrorCode.FORBIDDEN, "Origin", problem)

    def _while_in_force(self, caller: Caller, scope: Scope, send: Send) -> Send:
        """What sends for as long as the caller's key is taken, and then hangs up."""
        hang_up = hang_up_of(scope)

        async def send_in_force(message: Message) -> None:
            if self._keys is not None and not self._keys.current().has(caller.key_id):
                hang_up()
            else:
                await send(message)

        return send_in_force

    def _count(self, caller: Caller) -> None:
        wait_s = self._requests.take(caller.key_id, self._clock())
        if wait_s:
            problem = f"the key may make {self._rate:g} requests a second"
            raise _TooMany(ErrorCode.TOO_MANY_REQUESTS, "Authorization", problem, wait_s)

    def _caller(self, found: "_Found", keys: ApiKeys, scope: Scope) -> Caller:
        """Who makes a request.

        A good key is taken however many bad ones came from the same address: it cannot be guessed,
        and its bearer must not pay for a neighbour.
        """
        if found.problem is None:
            caller = keys.verify(found.key)
            if caller is not None:
                return caller
        client = scope.get("client")
        wait_s = self._failures.take(client[0] if client else "", self._clock())
        if wait_s:
            problem = f"more than {FAILURES_HZ:g} requests a second without a key that is taken"
            raise _TooMany(ErrorCode.TOO_MANY_REQUESTS, "Authorization", problem, wait_s)
        problem = found.problem or "no key that is taken here"
        raise Refusal.of_field(ErrorCode.UNAUTHENTICATED, "Authorization", problem)


class _Found:
    """What a request's headers say that matters here; ``problem`` is what is wrong with its key."""

    __slots__ = ("hosts", "key", "origins", "problem")

    def __init__(self, scope: Scope) -> None:
        self.hosts: list[str] = []
        self.origins: list[str] = []
        keys: list[str] = []
        for name, value in scope["headers"]:
            if name == b"host":
                self.hosts.append(value.decode("latin-1"))
            elif name == b"origin":
                self.origins.append(value.decode("latin-1"))
            elif name == _API_KEY:
                keys.append(value.decode("latin-1"))
            elif name == _AUTHORIZATION:
                scheme, _, key = value.decode("latin-1").partition(" ")
                keys.append(key.strip() if scheme.lower() == "bearer" else "")
        self.key = keys[0] if keys else ""
        self.problem = None if len(keys) == 1 else _problem(keys)


def _problem(keys: list[str]) -> str:
    return "given more than once" if keys else "a key is needed, as Bearer or as X-API-Key"


async def _answer(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    answer = answers.refused(refusal)
    if isinstance(refusal, _TooMany):
        answer.headers["retry-after"] = str(refusal.wait_s)
    await answer(scope, receive, send)
