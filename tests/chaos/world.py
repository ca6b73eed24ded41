"""What there has to be: what one client owns, and what a state and the registry are to show of it,
by the rules of ``docs/demand.md`` and ``docs/programs.md``, written down once more.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from chaos.sight import Key, Shown

MOST_EXECUTIONS = 20
"""Executions of a program that the registry remembers."""


@dataclass(slots=True)
class Consumer:
    """A load or a device; powers in kW."""

    kind: str
    nominal_kw: float
    pin_kw: float | None = None
    factor: float = 1.0

    @property
    def demand_kw(self) -> float:
        return (self.nominal_kw if self.pin_kw is None else self.pin_kw) * self.factor

    @property
    def source(self) -> str:
        return "nominal" if self.pin_kw is None else "operator"


@dataclass(slots=True)
class Generator:
    bus: str
    kw: float


@dataclass(slots=True)
class Program:
    number: int
    min_power_kw: float
    target_pf: float
    description: str
    subscriptions: set[str] = field(default_factory=set)
    executing: bool = False
    executions: int = 0


ProgramFacts = dict[str, Any]
"""What the registry says of a program, as far as operations can change it."""


class World:
    """What one client owns: buses, all of a neighbourhood's if it has one, and its programs."""

    def __init__(
        self,
        neighbourhood: int | None,
        loads: Mapping[tuple[str, str], float],
        buses: Iterable[str] | None = None,
    ) -> None:
        """``loads`` are nominal kW by bus and name; ``buses`` are theirs unless given."""
        self.neighbourhood = neighbourhood
        self.buses = tuple(dict.fromkeys(bus for bus, _ in loads) if buses is None else buses)
        self.consumers = {where: Consumer("load", kw) for where, kw in loads.items()}
        self.generators: dict[str, Generator] = {}
        self.programs: dict[str, Program] = {}

    def copy(self) -> "World":
        return deepcopy(self)

    def consumers_at(self, bus: str) -> list[tuple[str, Consumer]]:
        """Loads and devices of a bus, with their names."""
        return [(name, each) for (at, name), each in self.consumers.items() if at == bus]

    def named_or_numbered(self, body: dict[str, Any]) -> str | None:
        """The name of the program that a body is about, None where there is none such."""
        if "dfp_number" in body:
            number = body["dfp_number"]
            return next((n for n, p in self.programs.items() if p.number == number), None)
        name: str = body["name"] if "name" in body else body["dfp_name"]
        return name if name in self.programs else None

    def shown(self) -> dict[Key, Shown]:
        """What a state is to show, once the programs in force are applied."""
        expected = {}
        for bus in self.buses:
            for (name, consumer), set_kw in zip(
                self.consumers_at(bus), self._set_kw(bus), strict=True
            ):
                expected[Key(consumer.kind, bus, name)] = Shown(
                    consumer.demand_kw, set_kw, consumer.factor, consumer.source, ()
                )
        for name, generator in self.generators.items():
            expected[Key("generator", generator.bus, name)] = Shown(
                generator.kw, generator.kw, 1.0, "nominal", ()
            )
        return expected

    def registered(self) -> dict[str, ProgramFacts]:
        """What the registry is to say of the programs, by name."""
        return {
            name: {
                "number": program.number,
                "min_power_kw": program.min_power_kw,
                "target_pf": program.target_pf,
                "description": program.description,
                "subscriptions": sorted(program.subscriptions),
                "executing": program.executing,
                "executions": min(program.executions, MOST_EXECUTIONS),
            }
            for name, program in self.programs.items()
        }

    def adopt(self, key: Key, shown: Shown | None) -> None:
        """Take over what is shown of an element, so that a deviation is found once."""
        if key.kind == "generator":
            self.generators.pop(key.name, None)
            if shown is not None:
                self.generators[key.name] = Generator(key.bus, shown.demand_kw)
            return
        if shown is None:
            self.consumers.pop((key.bus, key.name), None)
            return
        base_kw = shown.demand_kw / shown.factor if shown.factor else 0.0
        consumer = self.consumers.setdefault((key.bus, key.name), Consumer(key.kind, base_kw))
        consumer.factor = shown.factor
        consumer.pin_kw = base_kw if shown.source == "operator" else None

    def adopt_program(self, name: str, facts: ProgramFacts | None) -> None:
        """The same for a program."""
        self.programs.pop(name, None)
        if facts is not None:
            self.programs[name] = Program(
                **{**facts, "subscriptions": set(facts["subscriptions"])},
            )

    def _set_kw(self, bus: str) -> Iterator[float]:
        """What programs leave: devices give way first, then loads, pro rata."""
        consumers = [consumer for _, consumer in self.consumers_at(bus)]
        caps = [
            program.min_power_kw
            for program in self.programs.values()
            if program.executing and bus in program.subscriptions
        ]
        demands = {"load": 0.0, "device": 0.0}
        for consumer in consumers:
            demands[consumer.kind] += consumer.demand_kw
        left_kw = min([*caps, sum(demands.values())])
        loads_kw = min(left_kw, demands["load"])
        left = {"load": loads_kw, "device": left_kw - loads_kw}
        for consumer in consumers:
            of_kind = demands[consumer.kind]
            yield consumer.demand_kw * (left[consumer.kind] / of_kind if of_kind else 1.0)


def facts_of(program: dict[str, Any]) -> ProgramFacts:
    """What the registry's own words (``schemas.programs.Program``) say of a program."""
    return {
        **{
            name: program[name]
            for name in ("number", "min_power_kw", "target_pf", "description", "executing")
        },
        "subscriptions": sorted(program["subscriptions"]),
        "executions": len(program["executions"]),
    }


def is_close(one: float, other: float) -> bool:
    """The same but for what a sum of floats in another order may lose."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
