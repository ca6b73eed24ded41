"""From what the store holds to a twin as it was: snapshot, then the entries after it.

What was in flight when the last owner died is replayed like the rest. If it was in flight when two
died, its entries are tried one by one, each with a solve of its own; one that was being tried when
a third died is void from then on.
"""

import gc
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from schemas.commands import SOLVER_COMMANDS
from schemas.equipment import AddGenerator
from schemas.errors import ErrorCode, Refusal
from schemas.programs import Adjustments
from services.once import Once, Remembered
from services.outcomes import Done
from services.solver import entries, handlers
from services.solver.entries import Adjusted, Decided, Entry, Voided
from services.solver.journal import MOST_SEGMENTS, InFlight, Journal, Past, StoreAway, order
from services.solver.twin import Twin

STRIKES = 2
"""So many owners have to die over a batch before its entries are tried one by one."""

MARK_AGAIN_S = 0.1

FORMAT = 1
"""Of the snapshot."""


class Unrecoverable(Exception):
    """The store holds something that is no journal of ours."""


@dataclass(slots=True)
class Recovered:
    """What was found: how many entries, which requests are remembered of them, what did not fit
    the feeder, and what was voided on the way.
    """

    entries: int = 0
    requests: list[Remembered] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    voided: list[str] = field(default_factory=list)


def content(twin: Twin, once: Once) -> bytes:
    """The snapshot of a twin, and of how far back requests are remembered."""
    horizon = once.horizon if once.horizon > 0 else None
    with _no_collection():
        return orjson.dumps({"format": FORMAT, "horizon": horizon, **twin.to_json()})


@contextmanager
def _no_collection() -> Iterator[None]:
    """Thousands of lists that live for a moment would have everything else searched for garbage,
    which takes several times as long as they do.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def recover(
    twin: Twin,
    once: Once,
    journal: Journal,
    in_flight: InFlight | None,
    solve: Callable[[], Any],
    came_round: Callable[[], None],
) -> Recovered:
    """Bring a twin, and the memory of requests, to where the journal ends.

    ``solve`` solves the twin as it is; ``came_round`` hears that the work goes on, several times a
    second.

    Raises:
        Unrecoverable: when the store holds what cannot be read.
        StoreAway, LeaseLost, Forgotten: as the journal says.

    """
    past = journal.load()
    try:
        return _Recovery(twin, once, journal, solve, came_round).run(past, in_flight)
    except (
        entries.UnreadableEntry,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise Unrecoverable(f"{type(error).__name__}: {error}") from None


class _Recovery:
    def __init__(
        self,
        twin: Twin,
        once: Once,
        journal: Journal,
        solve: Callable[[], Any],
        came_round: Callable[[], None],
    ) -> None:
        self._twin = twin
        self._once = once
        self._journal = journal
        self._solve = solve
        self._came_round = came_round
        self._recovered = Recovered()

    def run(self, past: Past, in_flight: InFlight | None) -> Recovered:
        self._restore(past)
        written = [(id_, entries.decode(payload)) for id_, payload in past.entries]
        void = {entry.entry for _, entry in written if isinstance(entry, Voided)}
        after = [(id_, entry) for id_, entry in written if order(id_) > order(past.last)]
        tried: list[tuple[str, Entry]] = []
        if in_flight is not None and in_flight.strikes >= STRIKES:
            first = order(in_flight.first)
            tried = [(id_, entry) for id_, entry in after if order(id_) >= first]
            after = after[: len(after) - len(tried)]
        newest = max((n for n, (_, e) in enumerate(after) if isinstance(e, Adjusted)), default=-1)
        for place, (id_, entry) in enumerate(after):
            self._came_round()
            if place >= newest or not isinstance(entry, Adjusted):  # a newer one takes its place
                self._apply(id_, entry, void)
        if tried and in_flight is not None:
            self._try(tried, void, in_flight)
        self._remember(past, written, void)
        self._recovered.entries = len(written) + len(self._recovered.voided)
        return self._recovered

    def _restore(self, past: Past) -> None:
        if past.snapshot is None:
            return
        snapshot = orjson.loads(past.snapshot)
        if not isinstance(snapshot, dict) or snapshot.get("format") != FORMAT:
            raise Unrecoverable(f"the snapshot is not of format {FORMAT}")
        if snapshot["horizon"] is not None:
            self._once.horizon = float(snapshot["horizon"])
        self._recovered.problems += self._twin.restore(snapshot)

    def _remember(
        self, past: Past, written: Iterable[tuple[str, Entry]], void: Container[str]
    ) -> None:
        kept = list(_remembered(past.segments))
        if len(past.segments) >= MOST_SEGMENTS and kept:
            # What was remembered before these is gone.
            self._once.horizon = max(self._once.horizon, kept[0].at)
        for id_, entry in written:
            if isinstance(entry, Decided) and (remembered := entry.remembered) is not None:
                outcome = VOID if id_ in void else remembered.outcome
                self._recovered.requests.append(remembered._replace(outcome=outcome))
        for remembered in (*kept, *self._recovered.requests):
            self._once.remember(remembered)

    def _try(self, tried: list[tuple[str, Entry]], void: set[str], in_flight: InFlight) -> None:
        """One by one, so that it is known which of them nobody survives."""
        if in_flight.trial:
            self._void(in_flight.trial, tried, void)
        self._solve()
        for id_, entry in tried:
            if id_ in void:
                self._apply(id_, entry, void)
                continue
            self._mark(partial(self._journal.begin_trial, id_))
            self._apply(id_, entry, void)
            self._solve()
            self._mark(self._journal.end_trial)

    def _mark(self, mark: Callable[[], None]) -> None:
        """Have the store note a trial, however long it takes: one that is left open because the
        store was away would look like a death.
        """
        while True:
            self._came_round()
            try:
                return mark()
            except StoreAway:
                time.sleep(MARK_AGAIN_S)

    def _void(self, id_: str, tried: list[tuple[str, Entry]], void: set[str]) -> None:
        reason = "the solver did not survive it"
        self._journal.void(entries.encode(Voided(id_, reason)))
        void.add(id_)
        for other, entry in tried:
            if other == id_:
                what = entry.name if isinstance(entry, Decided) else "adjustments"
                self._recovered.voided.append(f"{what} (journal entry {id_}): {reason}")

    def _apply(self, id_: str, entry: Entry, void: set[str]) -> None:
        if isinstance(entry, Adjusted):
            adjustments = Adjustments.model_validate_json(entry.adjustments)
            if id_ in void:
                # They will be published again, as long as nobody shows their revision.
                adjustments = Adjustments(revision=adjustments.revision, programs=())
            self._twin.adjust(adjustments)
        elif isinstance(entry, Decided) and entry.takes_effect:
            if id_ not in void:
                self._carry_out(id_, entry)
            elif _has_named(entry):
                # Later commands may go by the name of a later one.
                self._twin.demand.use_up_name()

    def _carry_out(self, id_: str, entry: Decided) -> None:
        try:
            command = SOLVER_COMMANDS[entry.name].validate_json(entry.asked)
            outcome = handlers.handle(command, self._twin.demand)
        except (KeyError, ValueError, Refusal) as error:
            self._recovered.problems.append(f"entry {id_}, {entry.name}: {error}")
            return
        finally:
            self._twin.demand.commit()
        was = entry.outcome
        if isinstance(was, Done) and outcome.results != was.results:
            self._recovered.problems.append(
                f"entry {id_}, {entry.name}: gives {outcome.results!r}, gave {was.results!r}"
            )


VOID = Refusal(ErrorCode.INTERNAL_ERROR, "the solver did not survive this command; it was voided")


def _has_named(entry: Decided) -> bool:
    """True where a generator was given a name of ours."""
    is_unnamed = orjson.loads(entry.asked).get("generator_name") is None
    return entry.name == AddGenerator.command and is_unnamed


def _remembered(segments: Iterable[bytes]) -> Iterator[Remembered]:
    for segment in segments:
        yield from entries.decode_segment(segment)
