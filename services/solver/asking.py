"""What is asked of each element after a cycle: setpoints, who does not follow, and who is to be
asked again. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence

from schemas.alerts import AlertKind
from services.solver.bus_rule import DemandInForce, ReliefCap
from services.solver.demand import Demand, GenerationInForce
from services.solver.elements import FREE, Element, Held, Kind
from services.solver.findings import Finding
from services.solver.relief import OVERVOLTAGE, Limits, Relief
from services.solver.setpoints import Setpoints
from services.solver.zones import Zones


class Asking:
    """The side of a twin that faces the devices."""

    def __init__(self, demand: Demand, zones: Zones, limits: Limits) -> None:
        # A zone may be back soon after it has let go.
        self.setpoints = Setpoints(automatic=[*(zone.name for zone in zones.zones), OVERVOLTAGE])
        self._demand = demand
        self._zones = zones
        self._limits = limits
        self._load_caps: dict[int, ReliefCap] = {}
        self._generator_caps: dict[int, ReliefCap] = {}
        self._asked: set[int] = set()
        """Rows of loads and devices that have a setpoint."""
        self._exact: set[int] = set()
        self._not_following: dict[Element, Finding] = {}

    @property
    def findings(self) -> Sequence[Finding]:
        """Who does not follow."""
        return list(self._not_following.values())

    def forget(self, element: Element, *, is_generator: bool) -> None:
        """An element has come or gone: what was asked at its row was asked of another."""
        self.setpoints.forget(element)
        self._not_following.pop(element, None)
        if is_generator:
            self._generator_caps.pop(element.row, None)
        else:
            self._load_caps.pop(element.row, None)
            self._asked.discard(element.row)

    def resume(self, elements: Iterable[Element]) -> None:
        """Go on from what an earlier owner has asked: what is asked no more is lifted."""
        for element in elements:
            if element.held != FREE:
                self.setpoints.resume(element)
                if element.kind is not Kind.GENERATOR:
                    self._asked.add(element.row)

    def be_exact(self, elements: Iterable[Element]) -> None:
        """Send the next setpoints of these to the last digit: what they are asked has changed,
        and not only their demand.
        """
        self._exact.update(element.row for element in elements)

    def name_caps(self, relief: Relief) -> bool:
        """Put the caps of relief in force under the names of those who ask; False if there are
        none.

        Whoever does not follow stays asked for what he was, while a zone of his needs it: to let
        go would be to forget that he does not follow, and to begin again.
        """
        caps = relief.caps
        if not (caps.loads or caps.generators or self._load_caps or self._generator_caps):
            return False
        demand, zones = self._demand, self._zones
        needy = {*relief.held.zones, *relief.over}
        highest = float(relief.measured.v_pu.max(initial=0.0))
        is_high = highest > self._limits.max_pu + self._limits.tolerance_pu or any(
            OVERVOLTAGE in names for names in relief.generator_held_by.values()
        )
        self._load_caps = _named(caps.loads, relief.load_held_by) | {
            row: cap
            for row, cap in self._load_caps.items()
            if demand.consumer(row).not_following and needy.intersection(zones.load_zones(row))
        }
        self._generator_caps = _named(caps.generators, relief.generator_held_by) | {
            row: cap
            for row, cap in self._generator_caps.items()
            if demand.generator(row).not_following
            and (
                needy.intersection(zones.generator_zones(row))
                or (is_high and OVERVOLTAGE in cap.zones)
            )
        }
        demand.relieve(self._load_caps, self._generator_caps)
        return True

    def ask(
        self,
        demands: Iterable[DemandInForce],
        generation: Iterable[GenerationInForce],
        now: float,
    ) -> None:
        """Have these elements keep to what follows for them; ``now`` in epoch seconds."""
        asked = self._asked
        for demand in demands:
            is_asked = demand.max_kw is not None or demand.pf is not None
            if is_asked or demand.row in asked:
                element = self._demand.consumer(demand.row)
                self.setpoints.ask(
                    element,
                    Held(demand.max_kw, demand.pf),
                    demand.asked_by,
                    now,
                    is_exact=demand.row in self._exact,
                )
                self._note(element, demand.kw, demand.max_kw, demand.not_following)
                (asked.add if is_asked else asked.discard)(demand.row)
        for produced in generation:
            element = self._demand.generator(produced.row)
            self.setpoints.ask(element, Held(produced.max_kw, None), produced.asked_by, now)
            self._note(element, produced.kw, produced.max_kw, produced.not_following)
        self._exact.clear()

    def _note(self, element: Element, kw: float, max_kw: float | None, not_following: bool) -> None:
        if not_following:
            who = f"{element.kind.value} {element.name} at bus {element.bus}"
            asked = 0.0 if max_kw is None else max_kw
            self._not_following[element] = Finding(
                AlertKind.NOT_FOLLOWING,
                who,
                f"not following: {who} is at {kw:.3f} kW, asked to keep to {asked:.3f} kW",
                kw,
                max_kw,
            )
        else:
            self._not_following.pop(element, None)


def _named(caps: Mapping[int, float], zones: Mapping[int, tuple[str, ...]]) -> dict[int, ReliefCap]:
    return {row: ReliefCap(kw, zones[row]) for row, kw in caps.items()}
