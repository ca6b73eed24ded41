"""Those who only watch: which versions of the state came by, in their order."""

import http.client
import threading
from typing import Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from flexfeeder.testing import System
from schemas import topics
from schemas.state import version_of

EVERY_S = 0.1


class Sightings:
    """What one observer saw; a version that stays is written down once."""

    def __init__(self) -> None:
        self._versions: list[int] = []

    def see(self, version: int) -> None:
        if not self._versions or self._versions[-1] != version:
            self._versions.append(version)

    def take(self) -> list[int]:
        """All since the last call, and the last one before."""
        taken = self._versions
        self._versions = taken[-1:]
        return taken


class MqttObserver:
    """Subscribes to the state."""

    name = "who listens to the state"

    def __init__(self, system: System, feeder: str) -> None:
        self.sightings = Sightings()
        self._address = system.http_host, system.mqtt_port
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="chaos-observer")
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda each, *_: each.subscribe(topics.state(feeder))
        client.on_message = lambda _client, _userdata, message: self._heard(bytes(message.payload))

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _heard(self, payload: bytes) -> None:
        version = version_of(payload)
        if version is not None:
            self.sightings.see(version)


class RestObserver:
    """Reads ``GET /get_state`` again and again."""

    name = "who reads the state"

    def __init__(self, system: System) -> None:
        self.sightings = Sightings()
        self._address = system.http_host, system.http_port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-reader")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            connection = http.client.HTTPConnection(*self._address, timeout=1.0)
            try:
                connection.request("GET", "/get_state")
                body = connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()
            version = version_of(body[body.find(b'{"feeder"') :])
            if version is not None:
                self.sightings.see(version)
