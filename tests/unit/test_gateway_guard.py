"""Who is let in by the gateway's guard, and what every answer of it says to a browser."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from operator import mul
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from support import assert_refused

from schemas.errors import ErrorCode
from services.api_keys import ApiKeys, Caller, Role
from services.gateway import policy
from services.gateway.access import Access
from services.gateway.app import guarded
from services.gateway.guard import CALLER, FAILURES_HZ, Guard
from services.gateway.headers import SecurityHeaders

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HERE = "http://localhost:5000"


class Keys:
    """A key of each role."""

    def __init__(self) -> None:
        self._keys, self.text = ApiKeys(), {}
        for number, role in enumerate(Role, start=1):
            self._keys, self.text[role] = self._keys.issue(
                role, role, NOON, partial(mul, bytes([number]))
            )

    def current(self) -> ApiKeys:
        return self._keys


KEYS = Keys()
BEARER = {role: {"Authorization": f"Bearer {key}"} for role, key in KEYS.text.items()}
VIEWER, OPERATOR, ADMIN = (BEARER[role] for role in Role)


class App:
    """What is behind the guard: keeps the scope of what it was asked, and answers at once, or once
    it may.
    """

    def __init__(self) -> None:
        self.asked: list[Scope] = []
        self.may_answer: asyncio.Event | None = None
        self.headers: dict[str, str] = {}
        self._was_asked = asyncio.Event()

    async def has_been_asked(self, times: int) -> None:
        """Wait until it has been."""
        while len(self.asked) < times:
            self._was_asked.clear()
            await self._was_asked.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope)
        self._was_asked.set()
        if self.may_answer is not None:
            await self.may_answer.wait()
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        await PlainTextResponse("in", headers=self.headers)(scope, receive, send)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A guard before an application."""

    def __init__(
        self,
        keys: Keys | None = KEYS,
        origins: str = "",
        rate: float = 500.0,
        concurrency: int = 1000,
    ) -> None:
        self.app, self.clock = App(), Clock()
        self._served = SecurityHeaders(
            Guard(
                self.app,
                keys=keys,
                origins=policy.origins_of(origins),
                rate=rate,
                concurrency=concurrency,
                clock=self.clock,
            )
        )

    def client(self, address: str = "10.0.0.1", base_url: str = HERE) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self._served, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url=base_url)

    def ask(
        self,
        method: str,
        path: str,
        headers: Any = None,
        *,
        address: str = "10.0.0.1",
        base_url: str = HERE,
    ) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with self.client(address, base_url) as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(asked())

    def lets_in(self, method: str, path: str, headers: Any = None, **how: Any) -> bool:
        """Whether the application is asked; who is not let in is told so."""
        before = len(self.app.asked)
        answer = self.ask(method, path, headers, **how)
        is_in = len(self.app.asked) > before
        assert answer.status_code == 200 if is_in else answer.status_code >= 400
        return is_in


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


class TestPolicy:
    @pytest.mark.parametrize(
        ("method", "path", "role"),
        [
            ("GET", "/healthz", None),
            ("HEAD", "/readyz", None),
            ("GET", "/docs", None),
            ("GET", "/redoc", None),
            ("GET", "/openapi.json", None),
            ("GET", "/static-offline-docs/swagger-ui-bundle.js", None),
            ("GET", "/static-offline-docs", Role.VIEWER),
            ("POST", "/docs", Role.ADMIN),
            ("GET", "/get_state", Role.VIEWER),
            ("GET", "/metrics", Role.VIEWER),
            ("GET", "/events", Role.VIEWER),
            ("GET", "/register_dfp", Role.VIEWER),
            ("GET", "/no_such_page", Role.VIEWER),
            ("GET", "/healthz/", Role.VIEWER),
            ("GET", "//healthz", Role.VIEWER),
            ("POST", "/run_simulation", Role.OPERATOR),
            ("POST", "/execute_dfp", Role.OPERATOR),
            ("POST", "/subscribe_dfp", Role.OPERATOR),
            ("PATCH", "/no_such_page", Role.ADMIN),
            ("BREW", "/get_state", Role.ADMIN),
            ("POST", "/register_dfp", Role.ADMIN),
            ("PUT", "/update_dfp", Role.ADMIN),
            ("DELETE", "/delete_dfp", Role.ADMIN),
        ],
    )
    def test_what_is_not_open_takes_a_role(self, method: str, path: str, role: Role | None) -> None:
        assert policy.role_needed(method, path) == role

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "localhost:5000",
            "LocalHost.",
            "twin.localhost:80",
            "127.0.0.1:5000",
            "127.9.8.7",
            "[::1]:5000",
            "[::1]",
        ],
    )
    def test_names_of_this_machine_for_itself(self, host: str) -> None:
        assert policy.is_this_machine(host)

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "127.0.0.1:5000:5000",
            "127.1",
            "mylocalhost",
            "192.168.1.5:5000",
            "0.0.0.0",
            "[::]:5000",
            "[::1].example.org",
            "localhost@example.org",
            "example.org:localhost",
            "a" * 300 + ".localhost",
        ],
    )
    def test_names_that_others_can_have(self, host: str) -> None:
        assert not policy.is_this_machine(host)

    def test_where_only_this_machine_is_listened_to(self) -> None:
        alone = ["127.0.0.1", "127.0.0.2", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "twin"]
        assert [policy.listens_to_this_machine(host) for host in alone] == [True] * 4 + [False] * 4

    def test_origins_are_listed_with_commas(self) -> None:
        assert policy.origins_of(" https://a.example , http://B.example:8080,") == {
            "https://a.example",
            "http://b.example:8080",
        }
        assert policy.origins_of("") == frozenset()

    @pytest.mark.parametrize(
        "setting",
        [
            "*",
            "null",
            "a.example",
            "https://",
            "https://a.example/",
            "ftp://a.example",
            "https://a/b",
        ],
    )
    def test_what_is_no_origin_is_refused(self, setting: str) -> None:
        with pytest.raises(ValueError, match="is no origin"):
            policy.origins_of(setting)


class TestKeys:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/get_state", [VIEWER, OPERATOR, ADMIN]),
            ("POST", "/run_simulation", [OPERATOR, ADMIN]),
            ("POST", "/register_dfp", [ADMIN]),
        ],
    )
    def test_each_role_is_let_in_where_it_may_be(
        self, method: str, path: str, allowed: list[dict[str, str]]
    ) -> None:
        scene = Scene()
        for headers in (VIEWER, OPERATOR, ADMIN):
            assert scene.lets_in(method, path, headers) == (headers in allowed)
        assert_refused(scene.ask(method, path), 401, "unauthenticated", "Authorization")

    def test_who_may_not_is_told_what_it_takes(self) -> None:
        answer = Scene().ask("POST", "/register_dfp", OPERATOR)
        assert_refused(answer, 403, "forbidden", "Authorization")
        assert "takes the role admin, and the key has the role operator" in answer.text

    def test_the_application_is_told_who_calls(self) -> None:
        scene = Scene()
        scene.ask("GET", "/get_state", OPERATOR)
        scene.ask("GET", "/healthz")
        caller = Caller("02020202", "operator", Role.OPERATOR)
        assert [scope[CALLER] for scope in scene.app.asked] == [caller, None]

    def test_either_header_carries_the_key(self) -> None:
        scene, key = Scene(), KEYS.text[Role.VIEWER]
        for headers in (
            {"X-API-Key": key},
            {"x-api-key": key},
            {"Authorization": f"bearer {key}"},
            {"Authorization": f"BEARER   {key} "},
        ):
            assert scene.lets_in("GET", "/get_state", headers)

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("Authorization", "Bearer")],
            [("Authorization", "Bearer ff_01010101_")],
            [("Authorization", "Basic {key}")],
            [("Authorization", "{key}")],
            [("Authorization", "Bearer {key}, Bearer {key}")],
            [("Authorization", "Bearer {key}"), ("Authorization", "Bearer {key}")],
            [("Authorization", "Bearer {key}"), ("X-API-Key", "{key}")],
            [("Authorization", "Basic eDp5"), ("X-API-Key", "{key}")],
            [("X-API-Key", "{key}"), ("X-API-Key", "{key}")],
            [("X-API-Key", "{key}x")],
            [("X-API-Key", "")],
            [("Cookie", "key={key}")],
        ],
    )
    def test_without_one_good_key_nobody_is_let_in(self, headers: list[tuple[str, str]]) -> None:
        scene, key = Scene(), KEYS.text[Role.ADMIN]
        filled = [(name, value.replace("{key}", key)) for name, value in headers]
        answer = scene.ask("GET", "/get_state", filled)
        assert_refused(answer, 401, "unauthenticated", "Authorization")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert scene.app.asked == []
        assert key.split("_", 2)[2] not in answer.text

    def test_a_key_in_the_query_is_none(self) -> None:
        key = KEYS.text[Role.ADMIN]
        assert not Scene().lets_in("GET", f"/get_state?key={key}&api_key={key}&X-API-Key={key}")

    def test_header_bytes_beyond_ascii_are_no_key(self) -> None:
        assert not Scene().lets_in("GET", "/get_state", [(b"X-API-Key", b"ff_\xff\xfe")])

    def test_what_is_open_takes_no_key_and_does_not_mind_a_bad_one(self) -> None:
        scene = Scene()
        for path in ("/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"):
            assert scene.lets_in("GET", path)
            assert scene.lets_in("GET", path, {"X-API-Key": "no key"})


class TestRate:
    def test_a_key_has_half_a_second_of_its_requests_at_once(self) -> None:
        """Ten a second: five at once, the next after 0.1 s; and other keys have their own."""
        scene = Scene(rate=10.0)
        assert [scene.lets_in("GET", "/get_state", VIEWER) for _ in range(6)] == [True] * 5 + [
            False
        ]
        answer = scene.ask("GET", "/get_state", VIEWER)
        assert_refused(answer, 429, "too_many_requests", "Authorization")
        assert answer.headers["retry-after"] == "1"
        assert scene.lets_in("GET", "/get_state", OPERATOR)
        assert scene.lets_in("GET", "/healthz", VIEWER)
        scene.clock.now += 0.1
        assert scene.lets_in("GET", "/get_state", VIEWER)

    def test_what_its_role_may_not_do_counts_too(self) -> None:
        scene = Scene(rate=10.0)
        statuses = [scene.ask("POST", "/run_simulation", VIEWER).status_code for _ in range(6)]
        assert statuses == [403] * 5 + [429]

    def test_who_has_no_key_is_told_so_ten_times_a_second(self) -> None:
        """By address; and a good key from there is taken all the same."""
        scene = Scene()
        statuses = [scene.ask("GET", "/get_state").status_code for _ in range(12)]
        assert statuses == [401] * int(FAILURES_HZ) + [429] * 2
        answer = scene.ask("GET", "/get_state", {"X-API-Key": "ff_no"})
        assert_refused(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"
        assert scene.lets_in("GET", "/get_state", VIEWER)
        assert scene.ask("GET", "/get_state", address="10.0.0.2").status_code == 401
        scene.clock.now += 0.1
        assert scene.ask("GET", "/get_state").status_code == 401

    def test_without_keys_there_is_no_rate(self) -> None:
        scene = Scene(keys=None, rate=1.0)
        assert all(scene.lets_in("GET", "/get_state") for _ in range(20))


class TestConcurrency:
    def test_beyond_so_many_under_way_the_next_has_to_wait(self) -> None:
        """Two may be. Health is told, and streams, which have no end, are not in the way."""
        scene = Scene(keys=None, concurrency=2)

        async def test() -> None:
            scene.app.may_answer = asyncio.Event()
            async with scene.client() as client:
                streams = [asyncio.create_task(client.get("/events")) for _ in range(3)]
                waiting = [asyncio.create_task(client.get("/get_state")) for _ in range(2)]
                await scene.app.has_been_asked(5)
                refused = await client.get("/get_state")
                assert_refused(refused, 503, ErrorCode.SERVICE_UNAVAILABLE, "gateway")
                assert refused.headers["retry-after"] == "1"
                assert "nothing was changed" in refused.text
                health = asyncio.create_task(client.get("/healthz"))
                await scene.app.has_been_asked(6)
                scene.app.may_answer.set()
                answers = await asyncio.gather(*streams, *waiting, health)
                assert [answer.status_code for answer in answers] == [200] * 6
                assert (await client.get("/get_state")).status_code == 200

        run(test)

    def test_whoever_fails_or_goes_away_leaves_its_place(self) -> None:
        scene = Scene(keys=None, concurrency=1)

        async def test() -> None:
            async with scene.client() as client:
                with pytest.raises(RuntimeError, match="broken"):
                    await client.get("/broken")
                assert (await client.get("/get_state")).status_code == 200
                scene.app.may_answer = asyncio.Event()
                gone = asyncio.create_task(client.get("/get_state"))
                await scene.app.has_been_asked(3)
                gone.cancel()
                await asyncio.wait([gone])
                scene.app.may_answer = None
                assert (await client.get("/get_state")).status_code == 200

        run(test)


PAGE = "https://page.example"
"""The origin of a web page from elsewhere."""


class TestWebPages:
    @pytest.mark.parametrize("keys", [KEYS, None], ids=["keys", "no keys"])
    def test_a_page_of_another_origin_changes_nothing(self, keys: Keys | None) -> None:
        scene = Scene(keys)
        for origin in (PAGE, "null", "http://localhost:3000", "http://localhost", ""):
            answer = scene.ask("POST", "/run_simulation", {**ADMIN, "Origin": origin})
            assert_refused(answer, 403, "forbidden", "Origin")
            assert scene.lets_in("GET", "/get_state", {**ADMIN, "Origin": origin})
        twice = [*ADMIN.items(), ("Origin", HERE), ("Origin", PAGE)]
        assert not scene.lets_in("POST", "/run_simulation", twice)

    @pytest.mark.parametrize("keys", [KEYS, None], ids=["keys", "no keys"])
    def test_a_page_from_here_or_of_a_listed_origin_may(self, keys: Keys | None) -> None:
        scene = Scene(keys, origins=PAGE)
        for origin in (HERE, "http://LOCALHOST:5000", "https://localhost:5000", PAGE):
            assert scene.lets_in("POST", "/run_simulation", {**ADMIN, "Origin": origin})
        assert not scene.lets_in(
            "POST", "/run_simulation", {**ADMIN, "Origin": "https://other.example"}
        )

    def test_without_keys_a_request_has_to_be_addressed_to_this_machine(self) -> None:
        """A page that has its own name resolve to 127.0.0.1 is no page from here."""
        scene = Scene(keys=None)
        rebound = "http://page.example:5000"
        for method in ("GET", "POST"):
            answer = scene.ask(method, "/get_state", {"Origin": rebound}, base_url=rebound)
            assert_refused(answer, 403, "forbidden", "Host")
            assert scene.lets_in(method, "/get_state", base_url="http://127.0.0.1:5000")
        two_hosts = [("Host", "localhost:5000"), ("Host", "page.example")]
        assert not scene.lets_in("GET", "/get_state", two_hosts)
        assert scene.lets_in("GET", "/healthz", base_url=rebound)

    def test_with_keys_it_is_the_key_that_counts(self) -> None:
        assert Scene().lets_in("GET", "/get_state", VIEWER, base_url="http://twin.example")


COMMON = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
"""What every answer says."""


class TestHeaders:
    def test_every_answer_has_them(self) -> None:
        scene = Scene()
        for answer in (
            scene.ask("GET", "/get_state", VIEWER),
            scene.ask("GET", "/get_state"),
            scene.ask("GET", "/healthz"),
            scene.ask("GET", "/docs"),
        ):
            assert COMMON.items() <= dict(answer.headers).items()
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
            assert "strict-transport-security" not in answer.headers
            assert "server" not in answer.headers

    def test_an_answer_loads_nothing_and_the_documentation_only_from_here(self) -> None:
        scene = Scene()
        policies = {
            path: scene.ask("GET", path, VIEWER).headers["content-security-policy"]
            for path in ("/get_state", "/docs", "/redoc")
        }
        assert policies["/get_state"] == "default-src 'none'; frame-ancestors 'none'"
        assert policies["/docs"] == policies["/redoc"]
        assert "script-src 'self'" in policies["/docs"]
        assert "connect-src 'self'" in policies["/docs"]
        assert "http" not in policies["/docs"]

    def test_what_the_application_says_of_keeping_it_stands(self) -> None:
        scene = Scene()
        scene.app.headers = {"cache-control": "no-cache"}
        assert scene.ask("GET", "/healthz").headers.get_list("cache-control") == ["no-cache"]

    def test_only_https_is_to_stay_https(self) -> None:
        answer = Scene().ask("GET", "/healthz", base_url="https://twin.example")
        assert answer.headers["strict-transport-security"].startswith("max-age=")

    def test_other_origins_are_let_in_only_where_they_are_listed(self) -> None:
        page = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
        asked = "authorization, x-api-key, idempotency-key, prefer, content-type"
        page["Access-Control-Request-Headers"] = asked

        async def preflight(origins: frozenset[str]) -> httpx.Response:
            served = guarded(App(), Access(KEYS, None, origins, 500.0, 1000))
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(served), base_url=HERE
            ) as client:
                return await client.options("/run_simulation", headers=page)

        closed = asyncio.run(preflight(frozenset()))
        assert closed.status_code == 401
        assert not any(name.startswith("access-control") for name in closed.headers)
        opened = asyncio.run(preflight(frozenset({PAGE})))
        assert opened.status_code == 200
        assert opened.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in opened.headers
        assert COMMON.items() <= dict(opened.headers).items()
        other = asyncio.run(preflight(frozenset({"https://other.example"})))
        assert "access-control-allow-origin" not in other.headers
