"""The newest state and topology of each feeder, as its solver encoded them, and who waits."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from schemas import topics
from schemas.state import VERSIONS_PER_FENCE, State, version_of
from schemas.topology import Topology

MOST_FEEDERS = 200
"""Feeders that are kept, whatever anybody publishes."""

PLAUSIBLE_STEP = 1000
"""A version that is further ahead than this is looked at more closely."""


@dataclass(frozen=True, slots=True)
class HeldState:
    """The newest state of a feeder, as the solver encoded it."""

    version: int
    body: bytes


class Newest:
    """Keeps what arrives, and tells ``on_state`` of each state that is newer than the last."""

    def __init__(self, on_state: Callable[[str, HeldState], None] = lambda *_: None) -> None:
        self.states: dict[str, HeldState] = {}
        self.topologies: dict[str, bytes] = {}
        self._on_state = on_state
        self._waiting: dict[str, list[tuple[int, asyncio.Future[HeldState]]]] = {}

    async def reached(self, feeder: str, version: int) -> HeldState:
        """The feeder's newest state, once it is of ``version`` or newer."""
        held = self.states.get(feeder)
        if held is not None and held.version >= version:
            return held
        future: asyncio.Future[HeldState] = asyncio.get_running_loop().create_future()
        waiter = (version, future)
        self._waiting.setdefault(feeder, []).append(waiter)
        try:
            return await future
        finally:
            with contextlib.suppress(ValueError):  # it is gone where the state has come
                self._waiting[feeder].remove(waiter)

    def take_state(self, feeder: str, body: bytes) -> None:
        """Keep a state, unless it is older than the one that is held, or none at all."""
        version = version_of(body)
        if version is None or not _may_keep(feeder, self.states):
            return
        held = self.states.get(feeder)
        if held is not None and version < held.version:
            return
        is_plausible = held is not None and version <= held.version + PLAUSIBLE_STEP
        if not is_plausible and not _is_state(feeder, body):
            return
        state = self.states[feeder] = HeldState(version, body)
        waiting = self._waiting.get(feeder)
        if waiting:
            self._waiting[feeder] = [w for w in waiting if w[0] > version]
            for wanted, future in waiting:
                if wanted <= version and not future.done():
                    future.set_result(state)
        if held is None or version > held.version:
            self._on_state(feeder, state)

    def take_topology(self, feeder: str, payload: bytes) -> None:
        """Keep a topology that reads as one."""
        with contextlib.suppress(ValidationError):
            Topology.model_validate_json(payload)
            if _may_keep(feeder, self.topologies):
                self.topologies[feeder] = payload

    def forget(self, feeder: str) -> None:
        """Make room for the state that the solver publishes next."""
        self.states.pop(feeder, None)

    def drop_above(self, feeder: str, fence: float) -> None:
        """Forget a state that no solver can surpass: the store that counted it has been reset."""
        held = self.states.get(feeder)
        if held is not None and held.version >= (fence + 1) * VERSIONS_PER_FENCE:
            del self.states[feeder]


def _may_keep(feeder: str, kept: Mapping[str, object]) -> bool:
    return feeder in kept or (
        len(kept) < MOST_FEEDERS and topics.is_name(feeder) and feeder not in topics.RESERVED
    )


def _is_state(feeder: str, body: bytes) -> bool:
    """True if the whole of it reads as a state of that feeder."""
    try:
        return State.model_validate_json(body).feeder == feeder
    except ValidationError:
        return False
