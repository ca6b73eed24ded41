"""What relief did, as lines of the management log, with the numbers behind it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.solver.flexibility import Role

_GIVERS = {Role.DEVICE: "devices", Role.LOAD: "loads", Role.GENERATOR: "generation"}


@dataclass(frozen=True, slots=True)
class ZoneAction:
    """What relief did about one zone.

    ``would_kva`` is its loading without relief, ``now_kva`` with it, both in kVA. What its
    members give is in kW; ``stands`` where caps that were out before stay as they are.
    """

    zone: str
    rating_kva: float
    would_kva: float
    now_kva: float
    exports: bool
    given_kw: Mapping[Role, float]
    stands: bool
    is_exhausted: bool
    """True where its members have given all they can."""

    def line(self) -> str:
        """The line for the log."""
        stays = f" ({self._percent(self.would_kva):.1f} %), stays until 95 %" if self.stands else ""
        given = ", ".join(
            f"{_GIVERS[role]} -{kw:.1f} kW" for role, kw in self.given_kw.items() if kw >= 0.05
        )
        return (
            f"relief: {self._would()}{stays}; {given or 'nothing given'}: {self.now_kva:.1f} kVA "
            f"({self._percent(self.now_kva):.1f} %){self._verdict()}"
        )

    def lifted(self) -> str:
        """The line where its relief ends."""
        return f"relief: {self._would()} ({self._percent(self.would_kva):.1f} %): lifted"

    def _would(self) -> str:
        verb = "export" if self.exports else "carry"
        return f"zone {self.zone} would {verb} {self.would_kva:.1f} kVA of {self.rating_kva:g} kVA"

    def _verdict(self) -> str:
        if self.now_kva <= self.rating_kva:
            return ""
        return ", still over: nothing more to give" if self.is_exhausted else ", still over"

    def _percent(self, kva: float) -> float:
        return 100.0 * kva / self.rating_kva


def curtailment_line(let_through: float, given_kw: float, highest_pu: float, max_pu: float) -> str:
    """The line about generation that is curtailed for voltage; ``let_through`` from 0 to 1."""
    return (
        f"overvoltage: generation curtailed to {100.0 * let_through:.0f} % (-{given_kw:.1f} kW): "
        f"highest {highest_pu:.4f} pu at limit {max_pu:g} pu"
    )
