"""Harm is done to a system while clients write to it, in chapters.

A chapter ends when everybody has an answer to everything; what is left is then checked, and the
next one begins with what there has to be.
"""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from random import Random

from support import FEEDER

from chaos.cast import Cast
from chaos.checker import check, registrations
from chaos.client import DRAIN_S, LEISURELY_S
from chaos.ending import ending
from chaos.faults import Fault
from chaos.figures import Figures
from chaos.history import Answer, Happened, History
from chaos.injector import Injecting, Injector
from chaos.observers import MqttObserver, RestObserver
from chaos.operations import Kind
from chaos.violations import Violation
from flexfeeder.testing import System


class Campaign:
    """Made by :func:`campaign`."""

    def __init__(
        self,
        system: System,
        rng: Random,
        observers: tuple[MqttObserver, RestObserver],
        longest_pause_s: float,
    ) -> None:
        self.figures = Figures()
        self._system = system
        self._rng = rng
        self._started = time.monotonic()
        self._injector: Injecting = Injector(system, self._tell)
        self._cast = Cast.of(system, rng, self._now, longest_pause_s)
        self._observers = observers
        self._pool = ThreadPoolExecutor(2)
        self._happened: list[Happened] = []
        self._numbers: dict[int, str] = {}
        self._turn = 0

    def begin(self) -> None:
        """A new chapter."""
        self._happened.clear()
        for pair in self._cast.probers:
            for prober in pair:
                prober.start()
        for client in self._cast.clients:
            client.start()

    def inject(self, fault: Fault) -> None:
        """Do harm, and see how long it takes to be over."""
        probers = self._cast.probers[self._turn % len(self._cast.probers)]
        self._turn += 1
        for prober in probers:
            prober.settle()
        for client in self._rng.sample(self._cast.clients, fault.cuts):
            client.cut()
            name = client.asker.client
            self._happened.append(Happened(self._now(), f"cut {name}", of=name))
        killed, over_at = self._injector.inject(fault)
        solver_s, manager_s = self._pool.map(lambda prober: prober.measure(over_at), probers)
        self._tell(f"recovered after {solver_s:.2f} s, the manager after {manager_s:.2f} s")
        self.figures.take(fault, killed, solver_s, manager_s)
        time.sleep(fault.quiet_s)

    def settle(self) -> tuple[History, list[Violation]]:
        """End the chapter: what happened in it, and everything that is wrong with that."""
        self._rest(DRAIN_S)
        for pair in self._cast.probers:
            for prober in pair:
                prober.settle()
        history = History(
            clients={asker.client: asker.past for asker in self._cast.askers()},
            nobodys=self._cast.nobodys,
            numbers=dict(self._numbers),
            sightings={each.name: each.sightings.take() for each in self._observers},
            happened=list(self._happened),
            ending=ending(self._system, FEEDER),
        )
        violations = check(history)
        self.figures.count(
            history, violations, [client.asker.client for client in self._cast.clients]
        )
        for past in history.clients.values():
            self._numbers |= {number: each.request_id for each, number in registrations(past)}
        return history, violations

    def accepted(self) -> Counter[Kind]:
        """What was accepted in this chapter so far, by kind."""
        return Counter(
            attempt.operation.kind
            for asker in self._cast.askers()
            for attempt in tuple(asker.past.attempts)
            if isinstance(attempt.outcome, Answer) and attempt.outcome.is_success
        )

    def close(self) -> None:
        """Leave no thread and no socket behind."""
        self._rest(0.0)
        self._pool.shutdown()
        for asker in self._cast.askers():
            asker.close()

    def _rest(self, within_s: float) -> None:
        """Let everything go on that is paused, and have the clients come to an end."""
        self._injector.resume()
        for client in self._cast.clients:
            client.stop(within_s)
        for client in self._cast.clients:
            client.join()

    def _tell(self, what: str) -> None:
        self._happened.append(Happened(self._now(), what))

    def _now(self) -> float:
        return time.monotonic() - self._started


@contextmanager
def campaign(system: System, seed: int, longest_pause_s: float = LEISURELY_S) -> Iterator[Campaign]:
    """A campaign on a system that nobody has done anything to; clients pause between two of their
    operations for so long at most.
    """
    with ExitStack() as stack:
        observers = MqttObserver(system, FEEDER), RestObserver(system)
        for observer in observers:
            stack.enter_context(observer)
        made = Campaign(system, Random(seed), observers, longest_pause_s)
        stack.callback(made.close)
        yield made
