"""Operations over REST: the request id is the ``Idempotency-Key``."""

import http.client
from collections.abc import Collection
from random import Random
from typing import Any

import orjson

from chaos.history import Answer
from chaos.operations import Operation, Owner
from chaos.sight import view_of


class RestWire:
    """One connection to the gateway, opened again when it breaks."""

    def __init__(self, host: str, port: int, buses: Collection[str], rng: Random) -> None:
        """``buses`` are those of which a state in an answer is looked at."""
        self._address = host, port
        self._buses = buses
        self._rng = rng
        self._connection: http.client.HTTPConnection | None = None

    def ask(
        self,
        operation: Operation,
        patience_s: float,
        *,
        hangs_up: bool = False,
        times: int = 1,
    ) -> Answer | str:
        for _ in range(times - 1):
            # A connection takes one request at a time: the answers to all but the last are left.
            self._ask(operation, patience_s, hangs_up=True)
        return self._ask(operation, patience_s, hangs_up=hangs_up)

    def overheard(self) -> list[tuple[str, Answer]]:
        return []

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, operation: Operation, patience_s: float, *, hangs_up: bool) -> Answer | str:
        connection = self._connection or http.client.HTTPConnection(*self._address)
        self._connection = None
        connection.timeout = patience_s
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(patience_s)
            way = operation.way
            headers = {"Content-Type": "application/json", "Idempotency-Key": operation.request_id}
            if self._rng.random() < 0.3:
                headers["Prefer"] = "return=minimal"
            connection.request(way.method, way.path, orjson.dumps(operation.body), headers)
            if hangs_up:
                connection.close()
                return "hung up"
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return type(error).__name__
        self._connection = connection
        return self._answer(operation, response.status, content)

    def _answer(self, operation: Operation, status: int, content: bytes) -> Answer | str:
        try:
            answer: dict[str, Any] = orjson.loads(content)
        except orjson.JSONDecodeError:
            return f"status {status} without JSON"
        if answer["status"] != "success":
            return Answer("error", answer["code"], answer["message"])
        results = answer["results"]
        if operation.way.owner is Owner.MANAGER:
            return Answer("success", None, answer["message"], results)
        name = results.get("generator_name")
        return Answer(
            "success",
            None,
            answer["message"],
            None if name is None else {"generator_name": name},
            results["version"],
            view_of(results, self._buses),
        )
