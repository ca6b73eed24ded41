"""Which setpoint each element has been sent, and which it is to be sent next. Pure."""

from collections.abc import Collection
from typing import NamedTuple

from schemas.setpoints import Setpoint
from schemas.wire import POWER_LIMIT, canonical
from services.solver.elements import FREE, Element, Held

DEAD_BAND = 0.005
"""A setpoint that moves by less than this share of itself is not sent again: demand is never
still, and each message costs a device more than so little power is worth."""

LEAST_PF = 1e-5
LONGEST_REASON = 1000
"""Characters of a reason that are sent."""

DEAD_BAND_KW = 0.001
DEAD_BAND_PF = 0.001


class Change(NamedTuple):
    """What is to be sent to an element; None lifts its setpoint."""

    bus: str
    element: str
    setpoint: Setpoint | None


class Setpoints:
    """One owner's account of them. ``automatic`` are those who ask of their own accord, and may
    be back soon after they have let go: zones.
    """

    def __init__(self, automatic: Collection[str] = ()) -> None:
        self._automatic = frozenset(automatic)
        self._sent: dict[tuple[str, str], tuple[Held, str]] = {}
        self._spelled: dict[tuple[str, str], tuple[str, str]] = {}
        self._asked_by: dict[tuple[str, str], tuple[str, ...]] = {}
        self._changes: dict[tuple[str, str], Change] = {}

    def ask(
        self,
        element: Element,
        held: Held,
        held_by: tuple[str, ...],
        now: float,
        *,
        is_exact: bool = False,
    ) -> None:
        """Have an element keep to this; ``now`` in epoch seconds. Small moves are not sent, unless
        ``is_exact``.
        """
        key = _key(element.bus, element.name)
        reason = ", ".join(held_by)[:LONGEST_REASON]
        sent = self._sent.get(key)
        if held == FREE:
            if sent is not None:
                for_now = not self._automatic.isdisjoint(self._asked_by[key])
                self._lift(key, element)
                element.hold(FREE, now, for_now=for_now)
            return
        self._asked_by[key] = held_by
        sendable = _sendable(held)
        is_near = sent is not None and not is_exact and _is_near(sent[0], held)
        if sent == (sendable, reason) or (is_near and sent is not None and sent[1] == reason):
            return
        held = sendable
        self._sent[key] = held, reason
        self._spelled[key] = element.bus, element.name
        setpoint = Setpoint(max_kw=held.max_kw, pf=held.pf, reason=reason)
        self._changes[key] = Change(element.bus, element.name, setpoint)
        element.hold(held, now)

    def resume(self, element: Element) -> None:
        """An element was sent a setpoint by an earlier owner, and keeps to it."""
        key = _key(element.bus, element.name)
        self._sent[key] = element.held, ""
        self._asked_by[key] = ()
        self._spelled[key] = element.bus, element.name

    def forget(self, element: Element) -> None:
        """An element is gone, and its setpoint with it."""
        key = _key(element.bus, element.name)
        if key in self._sent:
            self._lift(key, element)

    def take_changes(self, most: int) -> list[Change]:
        """Up to ``most`` changes that are to be sent; the newest of each element only."""
        keys = [key for key, _ in zip(self._changes, range(most), strict=False)]
        return [self._changes.pop(key) for key in keys]

    @property
    def has_changes(self) -> bool:
        return bool(self._changes)

    def in_force(self, address: tuple[str, str] | None) -> tuple[str, str] | None:
        """Bus and name, as they are spelled, of an element that has a setpoint; else None."""
        return None if address is None else self._spelled.get(_key(*address))

    def _lift(self, key: tuple[str, str], element: Element) -> None:
        del self._sent[key], self._asked_by[key], self._spelled[key]
        self._changes[key] = Change(element.bus, element.name, None)


def _sendable(held: Held) -> Held:
    """What of it fits a message: nobody draws more than its bound, or at no power factor at all."""
    max_kw, pf = held
    return Held(
        None if max_kw is None else min(round(max_kw, 4), POWER_LIMIT),
        None if pf is None else max(round(pf, 5), LEAST_PF),
    )


def _is_near(sent: Held, held: Held) -> bool:
    if (sent.max_kw is None) != (held.max_kw is None) or (sent.pf is None) != (held.pf is None):
        return False
    if sent.max_kw is not None and held.max_kw is not None:
        moved = abs(held.max_kw - sent.max_kw)
        if moved > max(DEAD_BAND_KW, DEAD_BAND * abs(sent.max_kw)):
            return False
    return sent.pf is None or held.pf is None or abs(held.pf - sent.pf) <= DEAD_BAND_PF


def _key(bus: str, element: str) -> tuple[str, str]:
    return canonical(bus), canonical(element)
