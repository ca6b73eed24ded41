"""The twin of one feeder: from what is demanded to a solved, relieved and documented state.

Everything but messages: what comes in goes to :attr:`Twin.demand`, and each :meth:`Twin.cycle`
gives what is to be published.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import orjson

from schemas.alerts import AlertEvent
from schemas.programs import Adjustments
from services.solver.asking import Asking
from services.solver.bus_rule import ReliefCap
from services.solver.demand import Demand, GenerationInForce
from services.solver.document import VOLTAGE_TOLERANCE_PU, Stamp, StateDocument
from services.solver.elements import Element, Kind
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.findings import AlertBook, Finding
from services.solver.relief import (
    Caps,
    Held,
    Hold,
    Limits,
    Measured,
    Producer,
    Relief,
    Shiftable,
    relieve,
)
from services.solver.setpoints import Setpoints
from services.solver.solution import Positions
from services.solver.standing import Standing, standing
from services.solver.zones import Zones

_ROW = attrgetter("row")

LONGEST_CAUSE = 500
"""Characters of what led to a failure that are told."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a cycle gave: the state, encoded, and how much it took to get there."""

    state: bytes
    converged: bool
    solves: int
    solve_s: float
    """Seconds that all of them took."""
    relieved: frozenset[str]
    """Names of the zones that relief acts on."""
    actions: tuple[str, ...]
    is_over: bool
    """True where a zone is over its rating all the same; another cycle may do better."""


class Twin:
    """Owns demand, engine, zones and state of a feeder."""

    def __init__(self, feeder: Feeder, engine: Engine) -> None:
        circuit = engine.circuit
        self._engine = engine
        self._load_floor = feeder.config.load_floor
        self.demand = Demand(
            circuit.loads,
            circuit.buses,
            {area.number: area.buses for area in feeder.config.neighbourhoods},
        )
        self._adjustments = Adjustments(revision=0, programs=())
        self.findings: list[Finding] = []
        """Everything that is wrong in the newest state."""
        self._alerts = AlertBook()
        self._zones = Zones(circuit, feeder.config)
        self._position = np.array([zone.position for zone in self._zones.zones], dtype=np.intp)
        self._limits = Limits(
            self._zones.zones, feeder.config.voltage_limits.max_pu, VOLTAGE_TOLERANCE_PU
        )
        engine.face_source(
            {
                zone.transformer: zone.source_windings
                for zone in self._zones.zones
                if zone.transformer is not None
            }
        )
        self._asking = Asking(self.demand, self._zones, self._limits)
        self._document = StateDocument(feeder.id, feeder.config, circuit, self.demand.loads)
        self._held = Relief.NOTHING_HELD
        self._touched = {demand.row: demand for demand in self.demand.demands()}
        """What has changed since it was last shown, by row; likewise the generators."""
        self._touched_generators: dict[int, GenerationInForce] = {}
        self._solution = engine.blank()
        self._solve_s = 0.0
        """Seconds that the solves of the cycle have taken so far."""
        self._since = ""
        """What had changed when it stopped converging; empty while it converges."""

    @property
    def setpoints(self) -> Setpoints:
        return self._asking.setpoints

    @property
    def rebuilds(self) -> int:
        """How often the engine had to build its circuit anew."""
        return self._engine.rebuilds

    @property
    def revision(self) -> int:
        """Revision of the adjustments in force."""
        return self._adjustments.revision

    def to_json(self) -> dict[str, Any]:
        """Everything that the next cycle depends on, in terms of JSON."""
        return {
            "demand": self.demand.to_json(),
            "adjustments": self._adjustments.model_dump(mode="json"),
            "held": [self._hold_to_json(zone, hold) for zone, hold in self._held.zones.items()],
            "positions": self._engine.positions().to_json(),
        }

    def restore(self, content: dict[str, Any]) -> list[str]:
        """Put back what :meth:`to_json` gave, on a twin that has not seen anything yet.

        Returns what no longer fits the feeder, a line each; it is left out.

        Raises:
            ValueError: for what is no such content.

        """
        try:
            problems = self.demand.restore(content["demand"])
            self.adjust(Adjustments.model_validate_json(orjson.dumps(content["adjustments"])))
            self._follow_placements()
            self._asking.resume(self.demand.elements())
            holds = [hold for hold in content["held"] if hold[0] in self._limits.names]
            self._held = Held(dict(map(self._hold_from_json, holds)))
            self._engine.set_positions(Positions.from_json(content["positions"]))
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"not a snapshot: {error!r}") from None
        return problems

    def adjust(self, adjustments: Adjustments) -> bool:
        """Put these programs in force; False where they are no newer than those that are."""
        if adjustments.revision <= self.revision:
            return False
        self._adjustments = adjustments
        self._asking.be_exact(self.demand.adjust(adjustments))
        names = [program.name for program in adjustments.programs]
        self._document.body.set_programs(adjustments.revision, names, self.demand.programs_by_bus())
        return True

    def cycle(self, version: int, now: float, cause: Sequence[str] = ()) -> Cycle:
        """Solve for everything as it is now; ``now`` in epoch seconds, ``cause`` what commands
        have changed since the last cycle.
        """
        self._follow_placements()
        self._solve_s = 0.0
        relief = relieve(self._limits, self._elements, self._held, self._solve)
        self._held = relief.held
        if not self._solution.converged and not self._since:
            self._since = "; ".join(cause)[:LONGEST_CAUSE] or "demand or generation has moved"
        elif self._solution.converged:
            self._since = ""
        self._show(relief, now)
        loading = np.empty(len(self._position))
        loading[self._position] = np.abs(relief.measured.zone_kva)
        stamp = Stamp(version, now, self.demand.oldest_reading_at(), self._since)
        state, self.findings = self._document.update(
            self._solution, loading, stamp, relief.actions, self._asking.findings
        )
        relieved = frozenset(
            name
            for names in (*relief.load_held_by.values(), *relief.generator_held_by.values())
            for name in names
        )
        return Cycle(
            state,
            self._solution.converged,
            relief.solves,
            self._solve_s,
            relieved,
            relief.actions,
            bool(relief.over),
        )

    def take_alerts(self, now: float) -> list[tuple[AlertEvent, Finding]]:
        """The alerts that begin or end by the newest state; ``now`` in seconds of any clock."""
        return self._alerts.update(self.findings, now)

    def standing(self) -> Standing:
        """How the feeder stands by the newest cycle."""
        return standing(self._solution, self.findings, *self._document.body.held_kw())

    def oldest_reading_s(self, now: float) -> float | None:
        """Age of the oldest of the newest readings; None where there is none, or nobody knows.
        ``now`` in epoch seconds.
        """
        oldest = self.demand.oldest_reading_at()
        return now - oldest if oldest is not None and math.isfinite(oldest) else None

    def _hold_to_json(self, zone: int, hold: Hold) -> list[Any]:
        of_row = self.demand.generator if hold.exporting else self.demand.consumer
        caps = [(element.bus, element.name, kw) for element, kw in _by_element(of_row, hold)]
        return [self._limits.names[zone], hold.exporting, caps]

    def _hold_from_json(self, content: list[Any]) -> tuple[int, Hold]:
        name, exporting, caps = content
        found = ((self.demand.find(bus, element), kw) for bus, element, kw in caps)
        rows = {element.row: float(kw) for element, kw in found if element is not None}
        return self._limits.names.index(name), Hold(bool(exporting), rows)

    def _follow_placements(self) -> None:
        placements = self.demand.take_placements()
        if not placements:
            return
        self._engine.place(placements)
        self._document.body.place(placements)
        zones = self._zones
        for element, connection, machine, is_there in placements:
            row, is_generator = element.row, machine is not None
            self._asking.forget(element, is_generator=is_generator)
            if is_generator:
                self._touched_generators.pop(row, None)
                self._held = self._held.without_generator(row)
                zones.remove_generator(row)
                if is_there:
                    zones.place_generator(row, element.bus, connection.nodes)
            else:
                self._touched.pop(row, None)
                self._held = self._held.without_load(row)
                zones.remove_load(row)
                if is_there:
                    zones.place_load(row, element.bus, connection.nodes)

    def _solve(self, caps: Caps, controls: bool) -> Measured:
        """Solve with these caps of relief in force."""
        self.demand.relieve(_unnamed(caps.loads), _unnamed(caps.generators))
        self._take_changed()
        started = time.perf_counter()
        solution = self._solution = self._engine.solve(controls=controls)
        self._solve_s += time.perf_counter() - started
        return Measured(
            converged=solution.converged,
            zone_kva=self._zones.loading(
                solution.load_kva, solution.generator_kva, solution.transformer_kva
            ),
            load_kva=solution.load_kva,
            generator_kva=solution.generator_kva,
            v_pu=solution.v_pu,
        )

    def _take_changed(self) -> None:
        demands, generation = self.demand.take_changed()
        self._engine.set_loads(demands)
        self._engine.set_generators(generation)
        self._touched.update(zip(map(_ROW, demands), demands, strict=True))
        self._touched_generators.update(zip(map(_ROW, generation), generation, strict=True))

    def _elements(self) -> tuple[list[Shiftable], list[Producer]]:
        """What relief may act on, as it is without relief."""
        zones = self._zones
        shiftables = []
        for demand in self.demand.demands():
            element = self.demand.consumer(demand.row)
            if demand.kw > 0 and not element.not_following:
                is_device = element.kind is Kind.DEVICE
                shiftables.append(
                    Shiftable(
                        row=demand.row,
                        zones=zones.load_zones(demand.row),
                        is_device=is_device,
                        kw=demand.kw,
                        kvar=demand.kvar,
                        floor_kw=0.0 if is_device else self._load_floor * demand.demand_kw,
                    )
                )
        producers = [
            Producer(produced.row, zones.generator_zones(produced.row), produced.kw, produced.kvar)
            for produced in self.demand.generation()
            if produced.kw > 0 and not self.demand.generator(produced.row).not_following
        ]
        return shiftables, producers

    def _show(self, relief: Relief, now: float) -> None:
        """Bring document and setpoints up to what relief has decided."""
        if self._asking.name_caps(relief):
            self._take_changed()
        touched, generators = self._touched, self._touched_generators
        self._document.body.set_demand(touched.values())
        self._document.body.set_generation(generators.values())
        self._asking.ask(touched.values(), generators.values(), now)
        touched.clear()
        generators.clear()


def _by_element(of_row: Callable[[int], Element], hold: Hold) -> Iterator[tuple[Element, float]]:
    return ((of_row(row), kw) for row, kw in hold.caps.items())


def _unnamed(caps: Mapping[int, float]) -> dict[int, ReliefCap]:
    return {row: ReliefCap(kw, ()) for row, kw in caps.items()}
