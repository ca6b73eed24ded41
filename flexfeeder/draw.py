"""``flexfeeder draw``: a picture of the feeder as it is now."""

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import orjson

from flexfeeder.drawing import svg
from schemas import topics
from schemas.wire import canonical
from services.bus import BrokerAddress, Connection, Message, Subscription
from services.logs import configure
from services.reactor import Reactor
from services.settings import Settings

WAIT_S = 5.0


def draw(settings: Settings, path: Path) -> None:
    """Write an SVG picture of the newest state.

    Raises:
        click.ClickException: when no state and topology come within five seconds.

    """
    feeder = canonical(settings.feeder)
    documents: dict[str, dict[str, Any]] = {}

    def arrived(message: Message) -> None:
        with suppress(orjson.JSONDecodeError):  # anybody may publish there
            documents[message.topic] = orjson.loads(message.payload)
        connection.acknowledge(message)

    wanted = [topics.topology(feeder), topics.state(feeder)]
    connection = Connection(
        BrokerAddress.of(settings),
        f"draw-{uuid.uuid4().hex[:12]}",
        log=configure(settings, "draw"),
        on_message=arrived,
        subscriptions=[Subscription(topic, qos=0) for topic in wanted],
    )
    reactor = Reactor(connection)
    reactor.poll_until(lambda: all(topic in documents for topic in wanted), WAIT_S)
    connection.close()
    reactor.close()
    if len(documents) < len(wanted):
        raise click.ClickException(f"no state of {feeder!r} came; is `flexfeeder up` running?")
    path.write_text(svg(*(documents[topic] for topic in wanted)), encoding="utf-8")
