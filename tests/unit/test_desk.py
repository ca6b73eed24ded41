"""What a decision leaves behind."""

import gc
import weakref
from collections.abc import Container
from datetime import UTC, datetime

import orjson
from support import buses_named, quiet_log

from schemas import topics
from schemas.errors import ErrorCode, Refusal
from services.bus import Message
from services.once import Once, Remembered
from services.solver.demand import Demand
from services.solver.desk import IN_PROGRESS, STORE_AWAY, Decision, Desk
from services.solver.elements import NominalLoad

LOG = quiet_log()


class Topic(str):
    """One that can be watched."""

    __slots__ = ("__weakref__",)


def new_desk() -> Desk:
    load = NominalLoad("load", "one", 10.0, 1.0)
    return Desk("test", Demand([load], buses_named("one"), {}), Once(), LOG)


def message(load: str = "load", topic: str = topics.command("test", "set_load")) -> Message:
    body = {"bus_name": "one", "load_name": load, "new_kw": 1.0, "request_id": "r1"}
    return Message(topic, orjson.dumps(body), False, None, None, (1, 1, 1))


def decided(
    desk: Desk, asked: Message, *, may_write: bool = True, in_progress: Container[str | None] = ()
) -> Decision:
    return desk.decide(
        asked, datetime.now(UTC), may_write=may_write, arrived_at=0.0, in_progress=in_progress
    )


def refused(desk: Desk) -> tuple[Remembered | None, "weakref.ref[Topic]"]:
    """What is to be remembered of a command that is refused, and the topic on which it came."""
    topic = Topic(topics.command("test", "set_load"))
    decision = decided(desk, message("other", topic))
    assert decision.entry is not None
    return decision.entry.remembered, weakref.ref(topic)


def test_a_refusal_that_is_kept_keeps_nothing_else_of_its_round() -> None:
    """Up to two thousand wait for a snapshot: each with its messages would be megabytes."""
    kept, topic = refused(new_desk())
    gc.collect()
    assert kept is not None
    assert isinstance(kept.outcome, Refusal)
    assert kept.outcome.code is ErrorCode.LOAD_NOT_FOUND
    assert topic() is None


def test_what_is_refused_while_the_store_is_away_leaves_nothing_behind() -> None:
    """An exception that is raised again and again keeps every place where it ever was."""
    desk = new_desk()
    away = decided(desk, message(), may_write=False)
    under_way = decided(desk, message(), in_progress=["r1"])
    assert [away.outcome, under_way.outcome] == [STORE_AWAY, IN_PROGRESS]
    assert desk.refused == 2
    assert STORE_AWAY.__traceback__ is None
    assert IN_PROGRESS.__traceback__ is None
