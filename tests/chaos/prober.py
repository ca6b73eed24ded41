"""Finds out from when on writes succeed again."""

import time

from chaos.asker import Asker
from chaos.client import DRAIN_S
from chaos.history import Answer
from chaos.operations import PROGRAM, Kind, Operation
from chaos.wishes import Wish

PATIENCE_S = 0.5
"""A write that was lost with what was killed must not be waited for."""

PAUSE_S = 0.01
GIVE_UP_S = 30.0


class NotRecovered(Exception):
    """Nothing can be written any more."""


class Prober:
    """Writes until a write succeeds, under a new id wherever the last one may be under way.

    All of a round ask for the same, so that it makes no difference which of those that got no
    answer were carried out; before the next round each is asked again until that is known.
    """

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self._round = 0
        self._open: list[Operation] = []

    def first(self) -> Wish | None:
        """What there has to be before the first round."""
        return None

    def wish(self, _round: int) -> Wish:
        raise NotImplementedError

    def start(self) -> None:
        """Begin a new past."""
        self.asker.begin()
        first = self.first()
        if first is not None and not self._round:
            self.asker.until_definite(self.asker.new(first), PATIENCE_S, time.monotonic() + DRAIN_S)

    def settle(self) -> None:
        """Find out what became of every write."""
        deadline = time.monotonic() + DRAIN_S
        for operation in self._open:
            self.asker.until_definite(operation, PATIENCE_S, deadline)
        self._open.clear()

    def measure(self, since: float) -> float:
        """Write until it succeeds; seconds from ``since`` (monotonic) until then.

        Raises:
            NotRecovered: when nothing does for half a minute.

        """
        self._round += 1
        wish = self.wish(self._round)
        operation = self.asker.new(wish)
        while time.monotonic() < since + GIVE_UP_S:
            outcome = self.asker.attempt(operation, PATIENCE_S)
            if isinstance(outcome, Answer) and outcome.is_definite:
                return time.monotonic() - since
            if isinstance(outcome, str) or outcome.code != "service_unavailable":
                self._open.append(operation)
                operation = self.asker.new(wish)
            time.sleep(PAUSE_S)
        raise NotRecovered(f"no write of {self.asker.client} within {GIVE_UP_S:g} s: {outcome}")


class LoadProber(Prober):
    """Pins a load of its own."""

    def wish(self, round_: int) -> Wish:
        (bus, name), load = next(iter(self.asker.world.consumers.items()))
        new_kw = load.nominal_kw * (0.5 + 0.5 / (1 + round_ % 20))
        return Kind.PIN, {"bus_name": bus, "load_name": name, "new_kw": new_kw}


class ProgramProber(Prober):
    """Updates a program of its own."""

    def first(self) -> Wish:
        return Kind.REGISTER, {"name": self._name, "min_power_kw": 0.0, "target_pf": 0.9}

    def wish(self, round_: int) -> Wish:
        terms = {"min_power_kw": float(round_ % 1000), "target_pf": 0.9}
        return Kind.UPDATE, {"name": self._name, **terms}

    @property
    def _name(self) -> str:
        return f"{PROGRAM}{self.asker.client}"
