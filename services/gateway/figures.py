"""The gateway's own figures: what is counted, and what is looked at from time to time. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Counter, Gauge, Histogram

from services.metrics import WAITED_S, Pulse, Snapshot, Sourced, new_registry, seen_in


class Closed(StrEnum):
    """Why a connection was closed that did not keep to its bounds."""

    TOO_MANY = "too many connections"
    SLOW_HEAD = "slow head"
    LONG_HEAD = "the head of the request is too long"
    NOT_HTTP = "this is not HTTP"
    TOO_FAST = "too many requests before an answer"
    UNREAD = "does not read"


@dataclass(frozen=True, slots=True)
class Sight:
    """How the gateway stands. ``state_age_s`` is, by feeder, how long ago a state last came."""

    readers: int
    replies_awaited: int
    is_connected: bool
    connects: int
    dropped: int
    state_age_s: Mapping[str, float]


class Figures:
    """Everything that one gateway tells Prometheus of itself."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self.registry = registry = new_registry()
        self.requests = Counter(
            "flexfeeder_gateway_requests",
            "HTTP requests that were answered, by the template of their route.",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "flexfeeder_gateway_request_seconds",
            "Seconds from the arrival of a request to the head of its answer.",
            ["method", "route"],
            buckets=WAITED_S,
            registry=registry,
        )
        self.in_flight = Gauge(
            "flexfeeder_gateway_requests_in_flight",
            "HTTP requests under way, readers of events among them.",
            registry=registry,
        )
        self._closed = Counter(
            "flexfeeder_gateway_connections_closed",
            "Connections that were closed for not keeping to their bounds.",
            ["reason"],
            registry=registry,
        )
        for reason in Closed:
            self._closed.labels(reason)  # so that it is told as 0 before there is any
        self._snapshot = Snapshot(FIGURES, {})
        registry.register(self._snapshot)

    def closed(self, reason: Closed) -> None:
        """Count a connection that was closed."""
        self._closed.labels(reason).inc()

    def look(self, sight: Sight) -> None:
        """Tell from now on how the gateway stands here."""
        self._snapshot.tell(seen_in(sight, FIGURES))


FIGURES: tuple[Sourced[Sight], ...] = (
    Sourced(
        "gauge",
        "flexfeeder_gateway_readers",
        "Callers that read events.",
        read=lambda sight: float(sight.readers),
    ),
    Sourced(
        "gauge",
        "flexfeeder_gateway_replies_awaited",
        "Commands that were sent, and whose reply or state has not come yet.",
        read=lambda sight: float(sight.replies_awaited),
    ),
    Sourced(
        "gauge",
        "flexfeeder_gateway_broker_connected",
        "1 while it is connected to the broker; 0 otherwise.",
        read=lambda sight: float(sight.is_connected),
    ),
    Sourced(
        "counter",
        "flexfeeder_gateway_reconnects",
        "Times that the connection to the broker was made again.",
        read=lambda sight: float(max(0, sight.connects - 1)),
    ),
    Sourced(
        "counter",
        "flexfeeder_gateway_messages_dropped",
        "Messages that were not sent because too many waited for the broker.",
        read=lambda sight: float(sight.dropped),
    ),
    Sourced(
        "gauge",
        "flexfeeder_gateway_state_age_seconds",
        "Seconds since a state of the feeder last came that is no older than the one before.",
        "feeder",
        read=lambda sight: sight.state_age_s,
    ),
)
"""What is looked at once a second, and whenever somebody asks the gateway itself."""
