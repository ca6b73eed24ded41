"""How services reach the store (Redis): one connection each, and never a call made twice."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.settings import Settings


def store_url(settings: Settings) -> str:
    """Where the store is; this machine's unless the settings say otherwise."""
    url = settings.redis_url
    return url.get_secret_value() if url else "redis://127.0.0.1:6379/0"


def connect(url: str, timeout_s: float) -> redis.Redis:
    """A client that does not retry: a call of which nobody knows the result may have been made."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
