"""The retained description of a feeder, from its folder and its compiled circuit. Pure."""

from schemas.topology import (
    BusNode,
    LineBranch,
    LoadPoint,
    NeighbourhoodArea,
    Topology,
    TransformerBranch,
)
from services.solver.feeder import Feeder
from services.solver.network import PHASE_LETTERS, Circuit


def topology(feeder: Feeder, circuit: Circuit) -> Topology:
    """Everything about the feeder that does not change from one solve to the next."""
    neighbourhood = feeder.config.neighbourhood_of_bus()
    return Topology(
        feeder=feeder.id,
        name=feeder.config.name,
        buses=tuple(
            BusNode(
                bus=bus.name,
                phases=_letters(bus.phases),
                kv_base=bus.kv_base,
                x=bus.x,
                y=bus.y,
                distance_km=round(bus.distance_km, 6),
                neighbourhood=neighbourhood.get(bus.name),
            )
            for bus in circuit.buses
        ),
        lines=tuple(
            LineBranch(
                name=line.name,
                from_bus=line.from_bus,
                to_bus=line.to_bus,
                phases=_letters(line.phases),
                length_km=round(line.length_km, 7),
                is_switch=line.is_switch,
                closed=line.closed,
            )
            for line in circuit.lines
        ),
        transformers=tuple(
            TransformerBranch(
                name=transformer.name,
                kind="regulator" if transformer.regulates else "transformer",
                buses=transformer.buses,
                kva=transformer.kva,
            )
            for transformer in circuit.transformers
        ),
        loads=tuple(
            LoadPoint(
                name=load.name,
                bus=load.bus,
                phases=_letters(phases),
                nominal_kw=load.kw,
                nominal_kvar=load.kvar,
            )
            for load, phases in zip(circuit.loads, circuit.load_phases, strict=True)
        ),
        neighbourhoods=tuple(
            NeighbourhoodArea(
                number=area.number,
                buses=area.buses,
                transformer_bus=area.transformer_bus,
                transformer_kva=area.transformer_kva,
            )
            for area in feeder.config.neighbourhoods
        ),
    )


def _letters(phases: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(PHASE_LETTERS[number] for number in phases)
