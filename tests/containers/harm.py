"""What is done to broker and store while clients write: the faults of ``chaos``, to containers."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from random import Random

import httpx
import paho.mqtt.client as paho
from chaos.campaign import Campaign
from chaos.client import LEISURELY_S
from chaos.faults import Fault, Step
from chaos.observers import MqttObserver, RestObserver
from support import FEEDER

from containers.servers import Server, Servers
from flexfeeder.testing import System, wait_until


class Harm(StrEnum):
    """What is done to a server."""

    RESTART = "restart"
    KILL = "kill"
    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    CUT_OFF = "cut off"
    RECONNECT = "reconnect"


_DO: dict[StrEnum, Callable[[Server], None]] = {
    Harm.RESTART: Server.restart,
    Harm.KILL: Server.kill,
    Harm.START: Server.start,
    Harm.PAUSE: Server.pause,
    Harm.UNPAUSE: Server.unpause,
    Harm.CUT_OFF: Server.cut_off,
    Harm.RECONNECT: Server.reconnect,
}

_GONE: set[StrEnum] = {Harm.KILL, Harm.CUT_OFF}

AWAY_S = 2.0
"""How long a server is away: more than a lease, and more than a timeout of the store."""

SILENT_S = 5.0
"""How long one takes connections and answers nothing: more than a command waits for the store."""


def faults_of(server: str) -> tuple[Fault, ...]:
    """Everything that is done to a broker or a store, one fault each."""
    return (
        _fault(server, (Harm.RESTART, 0.0)),
        _fault(server, (Harm.KILL, 0.0), (Harm.START, AWAY_S)),
        _fault(server, (Harm.PAUSE, 0.0), (Harm.UNPAUSE, SILENT_S)),
        _fault(server, (Harm.CUT_OFF, 0.0), (Harm.RECONNECT, AWAY_S)),
    )


class Injector:
    """In the place of the injector of ``chaos``: its steps name a server and a harm.

    ``missed`` waits until a store that is gone is missed.
    """

    def __init__(
        self, servers: Servers, tell: Callable[[str], None], missed: Callable[[], None]
    ) -> None:
        self._servers = {"broker": servers.broker, "store": servers.store}
        self._tell = tell
        self._missed = missed

    def inject(self, fault: Fault) -> tuple[list[str], float]:
        """Take every step; returns who was killed, and when the last step was taken (monotonic)."""
        started = time.monotonic()
        for step in fault.steps:
            time.sleep(max(0.0, started + step.at_s - time.monotonic()))
            self._tell(f"{step.action} {step.process}")
            _DO[step.action](self._servers[step.process])
            if step.process == "store" and step.action in _GONE:
                self._missed()
        killed = [step.process for step in fault.steps if step.action is Harm.KILL]
        return killed, time.monotonic()

    def resume(self) -> None:
        """Each fault here ends with everything going on."""


class Listener(MqttObserver):
    """Hears what is published, and passes over what the broker has kept.

    A broker that keeps its messages on disk, and is killed, comes back with the state that it
    saved last: for a moment, until the solver publishes the next.
    """

    def __init__(self, system: System, feeder: str) -> None:
        super().__init__(system, feeder)
        self._client.on_message = self._on_message

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        if not message.retain:
            self._heard(bytes(message.payload))


class Ordeal(Campaign):
    """A campaign in which harm comes to the servers; made by :func:`ordeal`."""

    def __init__(
        self,
        system: System,
        rng: Random,
        observers: tuple[MqttObserver, RestObserver],
        servers: Servers,
    ) -> None:
        super().__init__(system, rng, observers, LEISURELY_S)
        self._injector = Injector(servers, self._tell, self._missed)
        self._url = system.url
        (self.nobodys_bus, _), *_ = self._cast.nobodys.consumers
        """A bus that belongs to no client."""

    def _missed(self) -> None:
        """Without the store a write is refused: one that changes nothing, should it be done."""
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as http:

            def is_refused() -> bool:
                answer = http.post("/release_load", json={"bus_name": self.nobodys_bus}).json()
                fields = [detail["field"] for detail in answer.get("details", ())]
                return answer.get("code") == "service_unavailable" and "store" in fields

            wait_until(is_refused, "it says that it cannot write", every_s=0.05)


@contextmanager
def ordeal(system: System, servers: Servers, seed: int) -> Iterator[Ordeal]:
    """An ordeal for a system that nobody has done anything to."""
    with ExitStack() as stack:
        observers = Listener(system, FEEDER), RestObserver(system)
        for observer in observers:
            stack.enter_context(observer)
        made = Ordeal(system, Random(seed), observers, servers)
        stack.callback(made.close)
        yield made


def _fault(server: str, *harms: tuple[Harm, float]) -> Fault:
    steps = tuple(Step(at_s, harm, server) for harm, at_s in harms)
    return Fault(f"{harms[0][0]} {server}", steps, cuts=0, quiet_s=0.0)
