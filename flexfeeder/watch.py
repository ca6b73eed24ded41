"""``flexfeeder watch``: the state of a feeder, as it comes."""

import sys
import uuid

import orjson

from flexfeeder.liveline import describe
from schemas import topics
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import configure
from services.reactor import Reactor
from services.settings import Settings


def watch(settings: Settings, *, as_json: bool, count: int | None) -> None:
    """Print ``count`` states, or all until interrupted: a line each, or the whole JSON."""
    shown = 0

    def show(message: Message) -> None:
        nonlocal shown
        if count is not None and shown >= count:
            return
        try:
            state = orjson.loads(message.payload)
            text = message.payload.decode() if as_json else describe(state)
        except (ValueError, KeyError, TypeError):
            return  # anybody may publish there
        shown += 1
        print(text, flush=True)

    connection = Connection(
        BrokerAddress.of(settings),
        f"watch-{uuid.uuid4().hex[:12]}",
        log=configure(settings, "watch"),
        on_message=show,
        subscriptions=[Subscription(topics.state(canonical(settings.feeder)), qos=0)],
    )
    reactor = Reactor(connection)
    try:
        while count is None or shown < count:
            reactor.poll(0.5)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.stderr.write("\n")
    finally:
        connection.close()
        reactor.close()
