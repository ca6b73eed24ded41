"""Who takes part, and what belongs to whom."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import patience
from support import FEEDER, results

from chaos.asker import Asker, Clock
from chaos.client import Client
from chaos.mqtt_wire import MqttWire
from chaos.prober import LoadProber, Prober, ProgramProber
from chaos.rest_wire import RestWire
from chaos.world import World
from flexfeeder.testing import System

CLIENTS = 8
"""Each has a neighbourhood of its own; every other one asks over MQTT."""

PROBERS_AT = 16
"""The neighbourhood whose first loads are the probers', one each."""

PROBERS = 4
"""In turn, so that one has time to find out what became of its writes."""

Loads = dict[tuple[str, str], float]
"""Nominal kW by bus and name."""


@dataclass(frozen=True, slots=True)
class Probers:
    """They write at the same time: one to the solver, one to the program manager."""

    solver: Prober
    manager: Prober

    def __iter__(self) -> Iterator[Prober]:
        yield self.solver
        yield self.manager


@dataclass(frozen=True, slots=True)
class Cast:
    clients: tuple[Client, ...]
    probers: tuple[Probers, ...]
    nobodys: World
    """What belongs to nobody, and is not to change."""

    def askers(self) -> Iterator[Asker]:
        yield from (client.asker for client in self.clients)
        yield from (prober.asker for pair in self.probers for prober in pair)

    @classmethod
    def of(cls, system: System, rng: Random, clock: Clock, longest_pause_s: float) -> "Cast":
        """Divide the feeder up, as it is when nobody has done anything."""
        state = results(patience.get(f"{system.url}/get_state"))
        loads: dict[int | None, Loads] = {}
        for bus in state["bus_details"]:
            at = loads.setdefault(bus["neighbourhood"], {})
            at.update({(bus["bus"], each["name"]): each["demand_kw"] for each in bus["loads"]})

        def rest(name: str, world: World) -> Asker:
            address = system.http_host, system.http_port
            return Asker(name, RestWire(*address, world.buses, _chance(rng)), world, clock)

        def mqtt(name: str, world: World) -> Asker:
            wire = MqttWire(system.http_host, system.mqtt_port, name, FEEDER)
            return Asker(name, wire, world, clock)

        ways: tuple[Callable[[str, World], Asker], ...] = (rest, mqtt)
        clients = tuple(
            Client(
                ways[number % 2](f"c{number}", World(number, loads[number])),
                _chance(rng),
                longest_pause_s,
            )
            for number in range(1, CLIENTS + 1)
        )
        probed = [World(None, {where: kw}) for where, kw in loads[PROBERS_AT].items()][:PROBERS]
        probers = tuple(
            Probers(
                LoadProber(rest(f"p{number}", world)),
                ProgramProber(rest(f"m{number}", World(None, {}))),
            )
            for number, world in enumerate(probed, start=1)
        )
        owned = {bus for c in clients for bus in c.asker.world.buses}
        owned |= {bus for world in probed for bus in world.buses}
        left = {k: kw for at in loads.values() for k, kw in at.items() if k[0] not in owned}
        buses = [bus["bus"] for bus in state["bus_details"] if bus["bus"] not in owned]
        return cls(clients, probers, World(None, left, buses))


def _chance(rng: Random) -> Random:
    return Random(rng.random())
