"""A caller that does as the answers say: what was not done for now, or not answered in time, is
asked for again. On a busy machine any service may be held up for longer than others wait for it.

For tests of what is done. Those of what is said while somebody is away ask without patience.
"""

import time
from collections.abc import Collection
from typing import Any

import httpx
import orjson

PATIENCE_S = 30.0
PAUSE_S = 0.05

_FOR_NOW = frozenset({"service_unavailable", "no_reply", "deadline_passed", "request_in_progress"})
"""Codes of answers after which the same is to be asked again."""

_KEY = "Idempotency-Key"


class Patient(httpx.BaseTransport):
    """Asks again as long as there is hope; the last answer is the one that counts.

    What went unanswered is asked for under the request id that the answer names, so that nothing
    is done twice.
    """

    def __init__(self, meant: Collection[str]) -> None:
        self._again = _FOR_NOW.difference(meant)
        self._inner = httpx.HTTPTransport(verify=False)  # loopback, without TLS

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            response = self._inner.handle_request(request)
            if not response.is_error:
                return response
            response.read()
            error = _error(response)
            if error.get("code") not in self._again or time.monotonic() > deadline:
                return response
            for detail in error["details"]:
                if detail["field"] == "request_id" and error["code"] == "no_reply":
                    request.headers.setdefault(_KEY, detail["problem"])
            time.sleep(PAUSE_S)

    def close(self) -> None:
        self._inner.close()


def client(url: str, meant: Collection[str] = (), **headers: str) -> httpx.Client:
    """A patient client of the gateway at an address; ``meant`` are codes that are answers to it."""
    return httpx.Client(
        base_url=url,
        transport=Patient(meant),
        headers=headers,
        timeout=PATIENCE_S,
        trust_env=False,
    )


def get(url: str) -> httpx.Response:
    """One question, asked with patience."""
    with client("") as asking:
        return asking.get(url)


def _error(response: httpx.Response) -> dict[str, Any]:
    try:
        found = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
