"""What a client asks for next: chance decides, mostly for what makes sense in its world."""

from collections.abc import Callable
from random import Random
from typing import Any

from chaos.operations import PROGRAM, Kind
from chaos.world import World

Wish = tuple[Kind, dict[str, Any]]

MOST_GENERATORS = 6
DEVICES = 3
"""Few and small, so that no zone comes near its rating: relief depends on the path."""

SENSE = 0.9
"""How often a client asks for what it knows to be possible."""


class Wishes:
    """The wishes of one client, about what it owns."""

    def __init__(self, client: str, world: World, rng: Random) -> None:
        self._client = client
        self._world = world
        self._rng = rng
        self._loads = {where: load.nominal_kw for where, load in world.consumers.items()}
        self._kinds = list(_WEIGHTS)
        self._weights = [weight for weight, _ in _WEIGHTS.values()]

    def next(self) -> Wish:
        [kind] = self._rng.choices(self._kinds, self._weights)
        if kind is Kind.ADD_GENERATOR and len(self._world.generators) >= MOST_GENERATORS:
            kind = Kind.REMOVE_GENERATOR
        _, body_of = _WEIGHTS[kind]
        return kind, body_of(self)

    def _sensible(self) -> bool:
        return self._rng.random() < SENSE

    def _bus(self) -> str:
        return self._rng.choice(self._world.buses)

    def _solve(self) -> dict[str, Any]:
        return {}

    def _pin(self) -> dict[str, Any]:
        (bus, name), nominal_kw = self._rng.choice(list(self._loads.items()))
        if not self._sensible():
            name = f"{name}_not"
        kw = round(self._rng.uniform(0.1, 1.0) * nominal_kw, 3)
        body = {"bus_name": bus, "load_name": name, "new_kw": kw}
        if self._rng.random() < 0.5:
            body["new_kvar"] = round(self._rng.uniform(0.0, 0.5) * kw, 3)
        return body

    def _release(self) -> dict[str, Any]:
        bus, name = self._rng.choice(list(self._loads))
        if self._rng.random() < 0.3:
            return {"bus_name": bus}
        return {"bus_name": bus, "load_name": name if self._sensible() else f"{name}_not"}

    def _bus_factor(self) -> dict[str, Any]:
        return {"bus_name": self._bus(), "factor": self._factor()}

    def _neighbourhood_factor(self) -> dict[str, Any]:
        return {"neighbourhood": self._world.neighbourhood, "factor": self._factor()}

    def _factor(self) -> float:
        return round(self._rng.uniform(0.25, 1.0), 2)

    def _add_device(self) -> dict[str, Any]:
        bus, name = self._device()
        body: dict[str, Any] = {"bus_name": bus, "device_name": name}
        body["kw"] = round(self._rng.uniform(0.2, 1.0), 2)
        if self._rng.random() < 0.5:
            body["pf"] = 0.95
        return body

    def _disconnect_device(self) -> dict[str, Any]:
        bus, name = self._device()
        consumers = self._world.consumers
        there = [where for where, each in consumers.items() if each.kind == "device"]
        if there and self._sensible():
            bus, name = self._rng.choice(there)
        return {"bus_name": bus, "device_name": name}

    def _device(self) -> tuple[str, str]:
        index = self._rng.randrange(DEVICES)
        return self._world.buses[index % len(self._world.buses)], f"device_{self._client}_{index}"

    def _add_generator(self) -> dict[str, Any]:
        body = {"bus_name": self._bus(), "kw": round(self._rng.uniform(0.2, 2.0), 2)}
        if self._rng.random() < 0.3:
            body["generator_name"] = self._generator()
        return body

    def _remove_generator(self) -> dict[str, Any]:
        there = sorted(self._world.generators)
        name = self._rng.choice(there) if there and self._sensible() else self._generator()
        return {"generator_name": name}

    def _generator(self) -> str:
        return f"gen_{self._client}_{self._rng.randrange(3)}"

    def _register(self) -> dict[str, Any]:
        free = [name for name in self._names() if name not in self._world.programs]
        name = self._rng.choice(free if free and self._sensible() else self._names())
        body = {"name": name, **self._terms()}
        if self._rng.random() < 0.5:
            body["description"] = f"of {self._client}"
        return body

    def _update(self) -> dict[str, Any]:
        return {"name": self._program(), **self._terms()}

    def _delete(self) -> dict[str, Any]:
        return {"name": self._program()}

    def _run(self) -> dict[str, Any]:
        return {"dfp_name": self._program()}

    def _subscription(self) -> dict[str, Any]:
        name, bus = self._program(), self._bus()
        program = self._world.programs.get(name)
        if program is not None and self._rng.random() < 0.5:
            return {"bus_name": bus, "dfp_number": program.number}
        return {"bus_name": bus, "dfp_name": name}

    def _terms(self) -> dict[str, Any]:
        min_power_kw = round(self._rng.uniform(1.0, 50.0), 1)
        return {"min_power_kw": min_power_kw, "target_pf": self._rng.choice([0.9, 0.95, 0.98])}

    def _program(self) -> str:
        there = sorted(self._world.programs)
        return self._rng.choice(there if there and self._sensible() else self._names())

    def _names(self) -> list[str]:
        return [f"{PROGRAM}{self._client}_{letter}" for letter in "ab"]


_WEIGHTS: dict[Kind, tuple[int, Callable[[Wishes], dict[str, Any]]]] = {
    Kind.SOLVE: (3, Wishes._solve),
    Kind.PIN: (16, Wishes._pin),
    Kind.RELEASE: (8, Wishes._release),
    Kind.BUS_FACTOR: (8, Wishes._bus_factor),
    Kind.NEIGHBOURHOOD_FACTOR: (3, Wishes._neighbourhood_factor),
    Kind.ADD_DEVICE: (8, Wishes._add_device),
    Kind.DISCONNECT_DEVICE: (6, Wishes._disconnect_device),
    Kind.ADD_GENERATOR: (12, Wishes._add_generator),
    Kind.REMOVE_GENERATOR: (9, Wishes._remove_generator),
    Kind.REGISTER: (5, Wishes._register),
    Kind.UPDATE: (5, Wishes._update),
    Kind.DELETE: (2, Wishes._delete),
    Kind.SUBSCRIBE: (7, Wishes._subscription),
    Kind.UNSUBSCRIBE: (4, Wishes._subscription),
    Kind.EXECUTE: (4, Wishes._run),
    Kind.STOP: (3, Wishes._run),
}
"""How often, and with what body."""
