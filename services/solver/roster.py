"""Who is at which bus: the feeder's loads, and devices and generators as they come and go. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from schemas.equipment import MOST_DEVICES, MOST_GENERATORS, DeviceAddition, GeneratorAddition
from schemas.errors import ErrorCode, Refusal
from schemas.wire import POWER_LIMIT, canonical
from services.solver.connection import Connection, Machine, Wish, connect, step_up_kva
from services.solver.elements import Element, Kind, NominalLoad, Power
from services.solver.network import Bus
from services.solver.slots import Slots, Undo, insert


class Placement(NamedTuple):
    """A device or generator that comes or goes, for engine, zones and state to follow suit."""

    element: Element
    connection: Connection
    machine: Machine | None
    """None for a device."""
    is_there: bool


class Roster:
    """Elements by bus and name, names compared as OpenDSS does.

    What is asked for and is not there, or would be there twice, raises :class:`Refusal`, and
    nothing has changed. What takes a change back is left in ``undo``.
    """

    def __init__(self, loads: Sequence[NominalLoad], buses: Iterable[Bus], undo: Undo) -> None:
        self._undo = undo
        self._buses = {canonical(bus.name): bus for bus in buses}
        self.loads = tuple(
            Element(Kind.LOAD, row, load.name, load.bus, Power(load.kw, load.kvar))
            for row, load in enumerate(loads)
        )
        self._at_bus: dict[str, dict[str, Element]] = {}
        for load in self.loads:
            self._at_bus.setdefault(canonical(load.bus), {})[canonical(load.name)] = load
        self._placements: dict[Element, Placement] = {}
        """How the devices and generators came that are there."""
        self._device_slots: Slots[Connection] = Slots(len(self.loads), undo)
        self._generators: dict[str, Element] = {}
        self._generator_slots: Slots[Machine] = Slots(0, undo)
        self.generators_named = 0
        """The highest number that is in a name of ours."""
        self._consumer_by_row = {load.row: load for load in self.loads}
        self._generator_by_row: dict[int, Element] = {}

    def add_device(self, wanted: DeviceAddition) -> Placement:
        """Connect a flexible load."""
        bus = self.bus(wanted.bus_name)
        self.check_free(bus, "device_name", wanted.device_name)
        if len(self._consumer_by_row) - len(self.loads) >= MOST_DEVICES:
            raise _full("device_name", MOST_DEVICES, "devices")
        connection = connect(bus, Wish(wanted.phases, wanted.phase))
        nominal = _nominal(wanted.kw, wanted.kvar, wanted.pf)
        return self.place_device(wanted.device_name, nominal, connection)

    def place_device(self, name: str, nominal: Power, connection: Connection) -> Placement:
        """Have a device at a connection; its name is free there."""
        row = self._device_slots.take(connection)
        device = Element(Kind.DEVICE, row, name, connection.bus, nominal)
        return self._add(Placement(device, connection, None, is_there=True))

    def remove_device(self, bus: str, name: str) -> Placement:
        """Take a device off its bus."""
        at = self.bus(bus)
        device = self.find(bus, name)
        if device is None or device.kind is not Kind.DEVICE:
            raise Refusal.of_field(
                ErrorCode.DEVICE_NOT_FOUND,
                "device_name",
                f"bus {at.name!r} has no device {name!r}",
            )
        return self._remove(device)

    def add_generator(self, wanted: GeneratorAddition) -> Placement:
        """Connect a generator, under a name of ours where none is given."""
        bus = self.bus(wanted.bus_name)
        if wanted.generator_name is not None:
            self.check_free(bus, "generator_name", wanted.generator_name)
            if canonical(wanted.generator_name) in self._generators:
                raise Refusal.of_field(
                    ErrorCode.ALREADY_EXISTS,
                    "generator_name",
                    f"there is a generator {wanted.generator_name!r} already",
                )
        if len(self._generators) >= MOST_GENERATORS:
            raise _full("generator_name", MOST_GENERATORS, "generators")
        nominal = _nominal(wanted.kw, wanted.kvar, wanted.pf)
        machine = _machine(bus, wanted, nominal)
        return self.place_generator(wanted.generator_name or self._next_name(bus), nominal, machine)

    def place_generator(self, name: str, nominal: Power, machine: Machine) -> Placement:
        """Have a generator at a connection; its name is free on the feeder."""
        row = self._generator_slots.take(machine)
        generator = Element(Kind.GENERATOR, row, name, machine.connection.bus, nominal)
        return self._add(Placement(generator, machine.connection, machine, is_there=True))

    def remove_generator(self, name: str) -> Placement:
        """Take a generator off the feeder."""
        generator = self._generators.get(canonical(name))
        if generator is None:
            raise Refusal.of_field(
                ErrorCode.GENERATOR_NOT_FOUND, "generator_name", f"there is no generator {name!r}"
            )
        return self._remove(generator)

    def placed(self) -> Iterator[Placement]:
        """Devices and generators that are there, by bus in the feeder's order, those of a bus in
        the order in which they came.
        """
        for bus in self._buses:
            for element in self._at_bus.get(bus, {}).values():
                if element.kind is not Kind.LOAD:
                    yield self._placements[element]

    def bus(self, name: str) -> Bus:
        """The bus of a name."""
        found = self._buses.get(canonical(name))
        if found is None:
            raise Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", f"there is no bus {name!r}")
        return found

    def has_bus(self, name: str) -> bool:
        return canonical(name) in self._buses

    def find(self, bus: str, name: str) -> Element | None:
        """The load, device or generator of a name at a bus, if there is one."""
        at_bus = self._at_bus.get(canonical(bus))
        return None if at_bus is None else at_bus.get(canonical(name))

    def consumers_at(self, bus: str) -> list[Element]:
        """Loads and devices of a bus, in the order in which they came."""
        at_bus = self._at_bus.get(canonical(bus), {})
        return [element for element in at_bus.values() if element.kind is not Kind.GENERATOR]

    def consumers_of(self, bus: str) -> list[Element]:
        """The same where there has to be at least one."""
        self.bus(bus)
        found = self.consumers_at(bus)
        if not found:
            raise _no_load(bus)
        return found

    def loads_of(self, bus: str) -> list[Element]:
        """Loads of a bus, of which there has to be at least one."""
        found = [element for element in self.consumers_of(bus) if element.kind is Kind.LOAD]
        if not found:
            raise _no_load(bus)
        return found

    def loads_at(self, bus: str) -> list[Element]:
        return [element for element in self.consumers_at(bus) if element.kind is Kind.LOAD]

    def consumer(self, bus: str, name: str) -> Element:
        """One load or device."""
        elements = self.consumers_of(bus)
        for found in elements:
            if canonical(found.name) == canonical(name):
                return found
        names = ", ".join(found.name for found in elements)
        raise Refusal.of_field(
            ErrorCode.LOAD_NOT_FOUND,
            "load_name",
            f"bus {bus!r} has no load {name!r}; it has {names}",
        )

    def consumer_of_row(self, row: int) -> Element | None:
        """The load or device of a row; None where the row is free."""
        return self._consumer_by_row.get(row)

    def generator_of_row(self, row: int) -> Element | None:
        """The generator of a row; None where the row is free."""
        return self._generator_by_row.get(row)

    def buses_with_consumers(self) -> Iterable[str]:
        """Canonical names of the buses at which loads or devices are, or were."""
        return self._at_bus

    def consumers(self) -> Iterable[Element]:
        return self._consumer_by_row.values()

    def generators(self) -> Iterable[Element]:
        return self._generators.values()

    def check_free(self, bus: Bus, field: str, name: str) -> None:
        """Refuse a name that something at the bus bears."""
        found = self.find(bus.name, name)
        if found is not None:
            raise Refusal.of_field(
                ErrorCode.ALREADY_EXISTS,
                field,
                f"bus {bus.name!r} has a {found.kind.value} {found.name!r} already",
            )

    def _add(self, placement: Placement) -> Placement:
        self._enter(placement)
        self._undo.append(partial(self._leave, placement))
        return placement

    def _remove(self, element: Element) -> Placement:
        placement = self._placements[element]
        _, connection, machine, _ = placement
        index = self._leave(placement)
        self._undo.append(partial(self._enter, placement, index))
        if machine is None:
            self._device_slots.give_back(element.row, connection)
        else:
            self._generator_slots.give_back(element.row, machine)
        return Placement(element, connection, machine, is_there=False)

    def _enter(self, placement: Placement, index: int | None = None) -> None:
        """Have an element at its row and bus: there at ``index``, or after all that are there."""
        element = placement.element
        name, at_bus = canonical(element.name), self._at_bus.setdefault(canonical(element.bus), {})
        if index is None:
            at_bus[name] = element
        else:
            insert(at_bus, index, name, element)
        self._placements[element] = placement
        if placement.machine is None:
            self._consumer_by_row[element.row] = element
        else:
            self._generator_by_row[element.row] = element
            self._generators[name] = element

    def _leave(self, placement: Placement) -> int:
        """Have an element nowhere any more; returns which it was at its bus."""
        element = placement.element
        name, at_bus = canonical(element.name), self._at_bus[canonical(element.bus)]
        index = list(at_bus).index(name)
        del at_bus[name], self._placements[element]
        if placement.machine is None:
            del self._consumer_by_row[element.row]
        else:
            del self._generator_by_row[element.row], self._generators[name]
        return index

    def _next_name(self, bus: Bus) -> str:
        """The next name that nobody bears; a number is not used twice."""
        self._undo.append(partial(setattr, self, "generators_named", self.generators_named))
        while True:
            self.generators_named += 1
            name = f"generator_{self.generators_named}"
            if canonical(name) not in self._generators and self.find(bus.name, name) is None:
                return name


def _nominal(kw: float, kvar: float | None, pf: float | None) -> Power:
    """The power that was asked for: kvar wins over the power factor.

    Raises:
        Refusal: for a power factor that makes more kvar than there may be.

    """
    if kvar is None:
        kvar = 0.0 if pf is None else kw * math.tan(math.acos(pf))
        if kvar > POWER_LIMIT:
            raise Refusal.of_field(
                ErrorCode.INVALID_VALUE, "pf", f"gives {kvar:.3g} kvar; at most {POWER_LIMIT:g}"
            )
    return Power(kw, kvar)


def _machine(bus: Bus, wanted: GeneratorAddition, nominal: Power) -> Machine:
    connection = connect(bus, Wish(wanted.phases, wanted.phase))
    kv = connection.kv if wanted.kv is None else wanted.kv
    return Machine(
        connection=connection,
        model=wanted.model,
        vmin_pu=wanted.vmin_pu,
        vmax_pu=wanted.vmax_pu,
        kv=kv,
        stepup_kva=step_up_kva(connection, kv, nominal.kw, nominal.kvar),
    )


def _full(field: str, most: int, what: str) -> Refusal:
    return Refusal.of_field(
        ErrorCode.LIMIT_REACHED, field, f"a feeder has at most {most} {what} at once"
    )


def _no_load(bus: str) -> Refusal:
    return Refusal.of_field(ErrorCode.LOAD_NOT_FOUND, "bus_name", f"bus {bus!r} has no load")
