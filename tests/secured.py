"""A broker and a store as they are deployed, with the files that `flexfeeder secrets` makes, and
people who come to them with a password or without.
"""

import getpass
import re
import signal
import socket
import subprocess
import threading
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import redis
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from stores import Store

from flexfeeder import broker_users, ports
from flexfeeder.secrets_folder import SecretsFolder
from flexfeeder.testing import MOSQUITTO, wait_until

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"

FEEDER = "ieee123"

OBSERVER = "observer"
"""A user whom no deployed broker has: he may hear and say everything, and so bears witness."""

METERS = ("1/Load_1", "2/Load_2")


def make_secrets(folder: Path) -> None:
    """What `flexfeeder secrets` makes, an observer, and two meters; the password of each of these
    is ``password``.
    """
    SecretsFolder(folder, FEEDER, datetime.now(UTC), lambda _: None).fill([], renew=False)
    with broker_users.edited(folder / "broker/passwords", 0o644) as users:
        for user in (OBSERVER, *METERS):
            users[user] = broker_users.hashed("password", broker_users.new_salt())
    with (folder / "broker/acl").open("a", encoding="utf-8") as acl:
        acl.write(f"\nuser {OBSERVER}\ntopic readwrite #\ntopic read $SYS/#\n")


class SecuredBroker:
    """Mosquitto with the configuration that is deployed, but for its ports and folders."""

    def __init__(self, secrets: Path, folder: Path) -> None:
        self.secrets = secrets
        self.outside, self.inside = ports.free_ports(2)
        self.log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        data = folder / "data"
        data.mkdir(exist_ok=True)
        text = (DEPLOY / "mosquitto/mosquitto.conf").read_text(encoding="utf-8")
        for deployed, here in {
            r"^listener 8883$": f"listener {self.outside} 127.0.0.1",
            r"^listener 8884$": f"listener {self.inside} 127.0.0.1",
            r"/mosquitto/secrets/": f"{secrets}/broker/",
            r"/mosquitto/data/": f"{data}/",
        }.items():
            text, count = re.subn(deployed, here, text, flags=re.MULTILINE)
            assert count > 0, f"{deployed} is not in the configuration"
        # It would become another user, who cannot read what a test has written.
        text += f"\nuser {getpass.getuser()}\nlog_type all\n"
        self._config.write_text(text, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert MOSQUITTO is not None
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stderr=log)
        for port in (self.outside, self.inside):
            wait_until(partial(ports.is_open, "127.0.0.1", port), "the broker listens")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def hang_up(self) -> None:
        """Have it read users and rights again, as `docker compose kill -s HUP broker` does."""
        assert self._process is not None
        before = self.logged().count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.logged().count("Reloading config") > before, "it reads them again")

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def password(self, user: str) -> str:
        path = self.secrets / "mqtt" / user
        return path.read_text(encoding="utf-8").strip() if path.exists() else "password"


class Person:
    """A client of a secured broker, who comes from outside unless said otherwise, and keeps what
    is heard. ``remembered``: the broker keeps the session.
    """

    def __init__(
        self,
        broker: SecuredBroker,
        user: str | None,
        *,
        password: str | None = None,
        inside: bool = False,
        protocol: str = "5",
        client_id: str | None = None,
        will: tuple[str, bytes] | None = None,
        remembered: bool = False,
        encrypted: bool = True,
    ) -> None:
        self.heard: list[paho.MQTTMessage] = []
        self.refused: str | None = None
        self.had_session = False
        self._port = broker.inside if inside else broker.outside
        self._is_v5 = protocol == "5"
        self._remembered = remembered
        self._subscribed: set[int] = set()
        self._is_in = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id or f"test-{uuid.uuid4().hex[:12]}",
            clean_session=None if self._is_v5 else not remembered,
            protocol=paho.MQTTv5 if self._is_v5 else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        if user is not None:
            self._client.username_pw_set(user, password or broker.password(user))
        if encrypted:
            self._client.tls_set(str(broker.secrets / "ca.crt"))
        if will is not None:
            self._client.will_set(*will, qos=1)
        self._client.on_socket_open = _send_without_delay
        self._client.on_connect = self._connected
        self._client.on_disconnect = lambda *_: self._is_in.clear()
        self._client.on_message = lambda _client, _userdata, message: self.heard.append(message)
        self._client.on_subscribe = lambda _client, _userdata, mid, *_: self._subscribed.add(mid)

    def __enter__(self) -> Self:
        self.connect()
        wait_until(self.is_connected, f"connected; {self.refused}")
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def connect(self) -> None:
        """Say CONNECT."""
        if self._is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 3600 if self._remembered else 0
            self._client.connect(
                "127.0.0.1",
                self._port,
                clean_start=not self._remembered,
                properties=properties,
            )
        else:
            self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def is_connected(self) -> bool:
        return self._is_in.is_set()  # paho goes on to say so after a DISCONNECT of the broker's

    def is_turned_away(self) -> bool:
        """Whether the broker refuses who it is, and nothing else is wrong."""
        self.connect()
        wait_until(lambda: self.refused is not None, "an answer")
        self.leave()
        return self.refused in {"Not authorized", "Bad user name or password"}

    def subscribe(self, topic_filter: str) -> None:
        """Ask for it, and wait for an answer, whatever it is."""
        _, mid = self._client.subscribe(topic_filter, 1)
        assert mid is not None
        wait_until(lambda: mid in self._subscribed, f"an answer about {topic_filter}")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish, and wait until the broker has done with it, whatever it did."""
        sent = self._client.publish(topic, payload, 1, retain)
        sent.wait_for_publish(10)
        assert sent.is_published(), topic

    def topics_of(self, payload: bytes) -> list[str]:
        """Where a payload was heard."""
        return [message.topic for message in self.heard if message.payload == payload]

    def wait_for(self, payload: bytes) -> None:
        wait_until(lambda: bool(self.topics_of(payload)), f"{payload!r} is heard")

    def _connected(
        self, _client: Any, _userdata: Any, flags: paho.ConnectFlags, reason: Any, _properties: Any
    ) -> None:
        self.had_session = flags.session_present
        if reason.is_failure:
            self.refused = str(reason)
        else:
            self._is_in.set()


def _send_without_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unique() -> bytes:
    """A payload that nobody else has."""
    return uuid.uuid4().hex.encode()


class SecuredStore(Store):
    """A store with the access list of the secrets, and one user more: ``admin``, who may do
    everything. It keeps what it has when it is killed.
    """

    def __init__(self, secrets: Path, folder: Path) -> None:
        acl = folder / "users.acl"
        super().__init__(folder, "--aclfile", str(acl))
        self._secrets = secrets
        text = (secrets / "redis/users.acl").read_text(encoding="utf-8")
        acl.write_text(f"{text}user admin on nopass ~* &* +@all\n", encoding="utf-8")

    @property
    def url(self) -> str:
        """How a user reaches it who may do everything, and whom no deployed store has."""
        return self.url_of("admin")

    def url_of(self, user: str) -> str:
        """How a user reaches it."""
        password = "any"
        if (url := self._secrets / f"redis/{user}_url").exists():
            deployed = rf"redis://{user}:([A-Za-z0-9_-]+)@store:6379/0\n"
            found = re.fullmatch(deployed, url.read_text(encoding="utf-8"))
            assert found is not None, url
            password = found[1]
        return f"redis://{user}:{password}@127.0.0.1:{self.port}/0"

    def denied(self) -> list[str]:
        """What was denied to anybody since it started."""
        with redis.Redis.from_url(self.url, decode_responses=True) as admin:
            return [f"{each['username']}: {each['object']}" for each in admin.acl_log()]
