"""The inputs of a feeder's demand in terms of JSON, for whoever goes on from there. Pure.

A row for each element, its columns without names: there are thousands, and they are written every
few seconds. What was asked for is not kept, but what came of it: a device stays at the phases that
it has, whatever the rules that once chose them.
"""

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from schemas.equipment import Model
from schemas.errors import ErrorCode, Refusal
from schemas.wire import Name, WireModel, canonical, misfit
from services.solver.connection import SAME_KV, Connection, Machine, Wish, connect
from services.solver.elements import Element, Inputs, Kind, Power
from services.solver.network import PHASE_LETTERS, Bus
from services.solver.roster import Placement, Roster

_NOTHING_SAID = Element(Kind.LOAD, 0, "", "", Power(0.0, 0.0)).to_json()


class Restored(NamedTuple):
    """What was put back: what came, and every element of which something was said; and what was
    left out, a line each.
    """

    placements: list[Placement]
    elements: list[Element]
    problems: list[str]


class _Load(NamedTuple):
    bus: str
    name: str
    inputs: Inputs


class _Wires(NamedTuple):
    """A connection; kV."""

    bus: str
    nodes: Annotated[list[Annotated[int, Field(ge=1, le=3)]], Field(min_length=1)]
    phases: int
    delta: bool
    kv: float


class _Device(NamedTuple):
    name: Name
    nominal: Power
    wires: _Wires
    inputs: Inputs


class _Rating(NamedTuple):
    """What a machine has besides its connection."""

    model: Model
    vmin_pu: float
    vmax_pu: float
    kv: float
    stepup_kva: float | None


class _Generator(NamedTuple):
    name: Name
    nominal: Power
    wires: _Wires
    inputs: Inputs
    rating: _Rating


class _Content(WireModel):
    """What :func:`to_json` gives."""

    loads: list[_Load]
    devices: list[_Device]
    generators: list[_Generator]
    generators_named: Annotated[int, Field(ge=0, lt=2**63)]

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        generators = [(generator.name,) for generator in self.generators]
        at_bus = [(load.bus, load.name) for load in self.loads]
        at_bus += [(device.wires.bus, device.name) for device in self.devices]
        at_bus += [(generator.wires.bus, generator.name) for generator in self.generators]
        for field, names in (("generators", generators), ("devices", at_bus)):
            if (twice := _twice(names)) is not None:
                raise misfit(field, f"{twice} is there twice")
        return self


def to_json(roster: Roster) -> dict[str, Any]:
    """Everything that :func:`restore` puts back."""
    devices: list[list[Any]] = []
    generators: list[list[Any]] = []
    for element, (bus, nodes, phases, delta, kv), machine, _ in roster.placed():
        row = [
            element.name,
            [*element.nominal],
            [bus, [*nodes], phases, delta, kv],
            element.to_json(),
        ]
        if machine is None:
            devices.append(row)
        else:
            rating = [machine.model, machine.vmin_pu, machine.vmax_pu]
            row.append([*rating, machine.kv, machine.stepup_kva])
            generators.append(row)
    return {
        "loads": [
            [load.bus, load.name, said]
            for load in roster.loads
            if (said := load.to_json()) != _NOTHING_SAID
        ],
        "devices": devices,
        "generators": generators,
        "generators_named": roster.generators_named,
    }


def restore(roster: Roster, content: dict[str, Any]) -> Restored:
    """Put everything back of which the feeder still has the place.

    Raises:
        ValueError: for what :func:`to_json` has not given; nothing is changed.

    """
    try:
        was = _Content.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"no inputs of a demand: {Refusal.of_validation(error).message}") from None
    elements: list[Element] = []
    placements: list[Placement] = []
    problems: list[str] = []
    for load in was.loads:
        found = roster.find(load.bus, load.name)
        if found is None or found.kind is not Kind.LOAD:
            problems.append(_left_out(Kind.LOAD, load.bus, load.name, "there is no such load"))
        else:
            found.restore(load.inputs)
            elements.append(found)
    placed: list[_Device | _Generator] = [*was.devices, *was.generators]
    for each in placed:
        try:
            placement = _placed(roster, each)
        except Refusal as refused:
            kind = Kind.DEVICE if isinstance(each, _Device) else Kind.GENERATOR
            problem = refused.details[0].problem
            problems.append(_left_out(kind, each.wires.bus, each.name, problem))
        else:
            placement.element.restore(each.inputs)
            elements.append(placement.element)
            placements.append(placement)
    roster.generators_named = was.generators_named
    return Restored(placements, elements, problems)


def _placed(roster: Roster, was: _Device | _Generator) -> Placement:
    """The same device or generator once more.

    Raises:
        Refusal: where its bus does not have the place any more.

    """
    bus = roster.bus(was.wires.bus)
    roster.check_free(bus, "name", was.name)
    connection = _connected(bus, was.wires)
    if isinstance(was, _Device):
        return roster.place_device(was.name, was.nominal, connection)
    return roster.place_generator(was.name, was.nominal, Machine(connection, *was.rating))


def _connected(bus: Bus, was: _Wires) -> Connection:
    """The same connection once more.

    Raises:
        Refusal: for one that the bus would not be given today.

    """
    first = PHASE_LETTERS[was.nodes[0]]
    today = connect(bus, Wish(None, first) if was.phases == 1 else Wish(was.phases, None))
    connection = Connection(bus.name, tuple(was.nodes), was.phases, was.delta, was.kv)
    if today._replace(kv=was.kv) != connection:
        raise _unfit("phases", f"bus {bus.name!r} is not wired as it was")
    if abs(today.kv - was.kv) > SAME_KV * today.kv:
        raise _unfit("kv", f"it was at {was.kv:.4g} kV, and bus {bus.name!r} has {today.kv:.4g} kV")
    return connection


def _unfit(field: str, problem: str) -> Refusal:
    return Refusal.of_field(ErrorCode.INVALID_VALUE, field, problem)


def _left_out(kind: Kind, bus: str, name: str, problem: str) -> str:
    return f"{kind.value} {name!r} of bus {bus!r} is left out: {problem}"


def _twice(names: Iterable[tuple[str, ...]]) -> str | None:
    """The first name that is there more than once."""
    seen = set()
    for name in names:
        key = tuple(map(canonical, name))
        if key in seen:
            return ", ".join(name)
        seen.add(key)
    return None
