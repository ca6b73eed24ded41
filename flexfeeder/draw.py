"""``flexfeeder draw``: a picture of the feeder as it is now."""

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import orjson
from pydantic import ValidationError

from flexfeeder.drawing import svg
from schemas import topics
from schemas.state import State
from schemas.topology import Topology
from schemas.wire import WireModel, canonical
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
    models: dict[str, type[WireModel]] = {
        topics.topology(feeder): Topology,
        topics.state(feeder): State,
    }
    documents: dict[str, dict[str, Any]] = {}

    def arrived(message: Message) -> None:
        with suppress(ValidationError):  # anybody may publish there
            models[message.topic].model_validate_json(message.payload)
            documents[message.topic] = orjson.loads(message.payload)
        connection.acknowledge(message)

    connection = Connection(
        BrokerAddress.of(settings),
        f"draw-{uuid.uuid4().hex[:12]}",
        log=configure(settings, "draw"),
        on_message=arrived,
        subscriptions=[Subscription(topic, qos=0) for topic in models],
    )
    reactor = Reactor(connection)
    reactor.poll_until(lambda: len(documents) == len(models), WAIT_S)
    connection.close()
    reactor.close()
    if len(documents) < len(models):
        raise click.ClickException(f"no state of {feeder!r} came; is `flexfeeder up` running?")
    path.write_text(svg(*(documents[topic] for topic in models)), encoding="utf-8")
