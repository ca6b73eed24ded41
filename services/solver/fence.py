"""The fencing number of a feeder's owner: each start takes the next one from the store."""

import redis

from services import store


class StoreAway(Exception):
    """The store did not answer."""


class FenceRegister:
    """Where the fencing numbers are counted. A number taken and not used does no harm."""

    def __init__(self, redis_url: str) -> None:
        self._store = store.connect(redis_url, timeout_s=2.0)

    def take(self, feeder: str) -> int:
        """The next fencing number, above every earlier one. Permanent: the key has no TTL.

        Raises:
            StoreAway: when the store cannot be reached or is still loading.

        """
        try:
            return int(self._store.incr(_fence_key(feeder)))
        except redis.RedisError as error:
            raise StoreAway(str(error)) from None

    def close(self) -> None:
        self._store.close()


def _fence_key(feeder: str) -> str:
    return f"flexfeeder:{feeder}:fence"
