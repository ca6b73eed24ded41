"""Devices and generators in OpenDSS: made once, then moved and used again.

The engine keeps what was ever made, and each move makes it build its matrix anew. So an element
that is taken away stays where it is and draws nothing, until its place is wanted again; one that
comes to the same connection costs nothing more than setting its power.

Text goes to the engine here, but only with names of ours and of the circuit's buses.
"""

from collections.abc import Callable
from typing import Any

from services.solver.connection import Connection, Machine

DEVICE = "ff_device_{}"
GENERATOR = "ff_generator_{}"
STEP_UP = "ff_stepup_{}"

OWN_KVAR = frozenset({3, 4, 5})
"""Models that hold their voltage or their kvar by values that the typed calls do not reach."""


class Placing:
    """The elements of ours in the compiled circuit. ``made`` is told each time that one is made."""

    def __init__(self, dss: Any, first_device: int) -> None:
        self._dss = dss
        self._first_device = first_device
        self._devices: list[Connection] = []
        self._generators: list[Machine] = []
        self._stepped_up: set[int] = set()
        self._silent: set[int] = set()
        self._bases: list[str] = []

    def make_again(
        self, device_made: Callable[[], None], generator_made: Callable[[], None]
    ) -> None:
        """Make everything in a circuit that was compiled anew, in the same rows."""
        devices, generators, silent = self._devices, self._generators, self._silent
        self._devices, self._generators, self._silent = [], [], set()
        self._stepped_up.clear()
        self._bases.clear()
        for row, connection in enumerate(devices, self._first_device):
            self.device(row, connection, device_made)
        for row, machine in enumerate(generators):
            self.generator(row, machine, generator_made)
        for row in silent:
            self.silence(row)

    def device(self, row: int, connection: Connection, made: Callable[[], None]) -> bool:
        """Have the load of this row at this connection; its power is set elsewhere. True where
        that is something new to the engine.
        """
        place = row - self._first_device
        where = _wires(connection)
        if place == len(self._devices):
            name = DEVICE.format(place)
            self._dss.Text.Command(
                f"New Load.{name} {where} kW=0 kvar=0 model=1 vminpu=0.5 vmaxpu=1.5"
            )
            self._devices.append(connection)
            made()
            return True
        if self._devices[place] != connection:
            self._dss.Text.Command(f"Edit Load.{DEVICE.format(place)} {where}")
            self._devices[place] = connection
            return True
        return False

    def generator(self, row: int, machine: Machine, made: Callable[[], None]) -> bool:
        """Have the generator of this row connected like this, behind its transformer if it has
        one; its power is set elsewhere. True where that is something new to the engine.
        """
        self._silent.discard(row)
        if row < len(self._generators) and self._generators[row] == machine:
            self._model(row, machine)
            return False
        name = GENERATOR.format(row)
        at = machine.connection
        if machine.stepup_kva is not None:
            self._step_up(row, machine)
            # On its low-voltage side, grounded-wye whatever the bus is.
            nodes = tuple(range(1, at.phases + 1))
            at = Connection(name, nodes, at.phases, delta=False, kv=machine.kv)
        elif row in self._stepped_up:
            self._dss.Text.Command(f"Edit Transformer.{STEP_UP.format(row)} enabled=no")
        where = _wires(at._replace(kv=machine.kv))
        if row == len(self._generators):
            self._dss.Text.Command(f"New Generator.{name} {where} kW=0 kvar=0 model=1")
            self._generators.append(machine)
            made()
        else:
            self._dss.Text.Command(f"Edit Generator.{name} {where}")
            self._generators[row] = machine
        self._model(row, machine)
        return True

    def has_own_kvar(self, row: int) -> bool:
        """True where the model makes of its kvar what only an edit by text tells the engine."""
        return self._generators[row].model in OWN_KVAR

    def power(self, row: int, kw: float, kvar: float) -> None:
        """Set the production of a generator that has its own way with kvar."""
        most = 2 * abs(kvar)
        self._dss.Text.Command(
            f"Edit Generator.{GENERATOR.format(row)} kW={kw:.12g} kvar={kvar:.12g} "
            f"maxkvar={most:.12g} minkvar={-most:.12g}"
        )

    def silence(self, row: int) -> None:
        """Leave the generator of this row where it is, without any effect."""
        self._silent.add(row)
        self._dss.Generators.Name(GENERATOR.format(row))
        self._dss.Generators.Model(1)  # another one would go on holding its voltage
        self._dss.Generators.kW(0.0)
        self._dss.Generators.kvar(0.0)

    def settle(self) -> None:
        """After a solve: give new low-voltage buses their base, which they cannot have earlier."""
        for command in self._bases:
            self._dss.Text.Command(command)
        self._bases.clear()

    def _step_up(self, row: int, machine: Machine) -> None:
        at, low = machine.connection, GENERATOR.format(row)
        name = STEP_UP.format(row)
        verb = "Edit" if row in self._stepped_up else "New"
        high_nodes = ".".join(map(str, at.nodes))
        low_nodes = ".".join(map(str, range(1, at.phases + 1)))
        conn = "delta" if at.delta else "wye"
        self._dss.Text.Command(
            f"{verb} Transformer.{name} enabled=yes phases={at.phases} windings=2 "
            f"buses=({at.bus}.{high_nodes} {low}.{low_nodes}) conns=({conn} wye) "
            f"kvs=({at.kv:.9g} {machine.kv:.9g}) kvas=({machine.stepup_kva} {machine.stepup_kva}) "
            "xhl=4 %loadloss=1"
        )
        self._stepped_up.add(row)
        base = "kVLL" if at.phases > 1 else "kVLN"
        self._bases.append(f"SetkVBase Bus={low} {base}={machine.kv:.9g}")

    def _model(self, row: int, machine: Machine) -> None:
        self._dss.Generators.Name(GENERATOR.format(row))
        self._dss.Generators.Model(machine.model)
        self._dss.Generators.Vminpu(machine.vmin_pu)
        self._dss.Generators.Vmaxpu(machine.vmax_pu)


def _wires(at: Connection) -> str:
    nodes = ".".join(map(str, at.nodes))
    conn = "delta" if at.delta else "wye"
    return f"bus1={at.bus}.{nodes} phases={at.phases} conn={conn} kv={at.kv:.9g}"
