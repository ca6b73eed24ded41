"""The feeder as it is built: what does not change from one solve to the next."""

from schemas.wire import WireModel


class BusNode(WireModel):
    """A bus; coordinates in the units of the feeder's drawing, distance from the source in km."""

    bus: str
    phases: tuple[str, ...]
    kv_base: float
    x: float | None
    y: float | None
    distance_km: float
    neighbourhood: int | None


class LineBranch(WireModel):
    """A line or switch between two buses."""

    name: str
    from_bus: str
    to_bus: str
    phases: tuple[str, ...]
    length_km: float
    is_switch: bool
    closed: bool


class TransformerBranch(WireModel):
    """A transformer or regulator; buses in the order of its windings."""

    name: str
    kind: str
    buses: tuple[str, ...]
    kva: float


class LoadPoint(WireModel):
    """A load and its nominal demand."""

    name: str
    bus: str
    phases: tuple[str, ...]
    nominal_kw: float
    nominal_kvar: float


class NeighbourhoodArea(WireModel):
    """Buses behind one service transformer."""

    number: int
    buses: tuple[str, ...]
    transformer_bus: str
    transformer_kva: float


class Topology(WireModel):
    """Everything that a map or a simulated meter needs to know of a feeder."""

    feeder: str
    name: str
    buses: tuple[BusNode, ...]
    lines: tuple[LineBranch, ...]
    transformers: tuple[TransformerBranch, ...]
    loads: tuple[LoadPoint, ...]
    neighbourhoods: tuple[NeighbourhoodArea, ...]
