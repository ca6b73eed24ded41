"""The checker: a history in, everything that is wrong with it out. Pure."""

from collections.abc import Iterator
from itertools import pairwise

from chaos.history import Answer, Ending, History, Past
from chaos.operations import Kind, Operation, Owner
from chaos.reading import Reading
from chaos.sight import view_of
from chaos.violations import Violation, Wrong
from chaos.world import facts_of

NOBODY = "nobody"


def check(history: History) -> list[Violation]:
    """Everything that contradicts the promise: a write that got a success answer stays, and takes
    effect once; one that got none may be repeated.
    """
    readings = [Reading(client, past) for client, past in history.clients.items()]
    for reading in readings:
        reading.read()
    found = [*_numbers(history), *_versions(history)]
    ending = history.ending
    if ending is not None:
        readings.append(Reading(NOBODY, Past(history.nobodys)))
        _look_at(ending, readings)
        found += _in_force(ending)
    return [each for reading in readings for each in reading.violations] + found


def _look_at(ending: Ending, readings: list[Reading]) -> None:
    """Hold what is left against what there has to be."""
    view = view_of(ending.state)
    registered = {program["name"]: facts_of(program) for program in ending.programs}
    unclaimed = set(registered)
    for reading in readings:
        reading.look(view, is_final=True)
        is_nobody = reading.client == NOBODY
        for name in sorted(unclaimed if is_nobody else reading.programs):
            reading.look_at_program(name, registered.get(name))
            unclaimed.discard(name)


def registrations(past: Past) -> Iterator[tuple[Operation, int]]:
    """Each registration that was accepted, and the number that it got."""
    seen = set()
    for operation, _, _, outcome, _ in past.attempts:
        is_first = operation.number not in seen
        if operation.kind is Kind.REGISTER and is_first and isinstance(outcome, Answer):
            if outcome.is_success:
                yield operation, outcome.said["number"]
            if outcome.is_definite:
                seen.add(operation.number)


def _numbers(history: History) -> Iterator[Violation]:
    """A program's number is never used again."""
    owners = dict(history.numbers)
    for client, past in history.clients.items():
        for operation, number in registrations(past):
            if number in owners:
                what = f"{operation} got number {number}, which {owners[number]} had"
                yield Violation(Wrong.NUMBER_REUSED, client, what, operation)
            owners[number] = operation.request_id


def _versions(history: History) -> Iterator[Violation]:
    """Whoever watches the state sees it go forward."""
    streams = {**history.sightings}
    for client, past in history.clients.items():
        streams[client] = list(_told(past))
    for observer, versions in streams.items():
        for before, after in pairwise(versions):
            if after < before:
                what = f"version {after} came after {before}"
                yield Violation(Wrong.VERSION_FELL, observer, what)


def _told(past: Past) -> Iterator[int]:
    """Versions that the solver's answers gave; the manager tells of states that it has heard of."""
    for operation, _, _, outcome, _ in past.attempts:
        if isinstance(outcome, Answer) and operation.way.owner is Owner.SOLVER:
            yield from () if outcome.version is None else (outcome.version,)


def _in_force(ending: Ending) -> Iterator[Violation]:
    """What is retained is what the registry says, and what the state was solved with."""
    executing = sorted((p for p in ending.programs if p["executing"]), key=lambda p: p["number"])
    registered = [
        {
            "name": program["name"],
            "number": program["number"],
            "buses": [
                {"bus": bus, "max_kw": program["min_power_kw"], "target_pf": program["target_pf"]}
                for bus in program["subscriptions"]
            ],
        }
        for program in executing
    ]
    retained = ending.adjustments["programs"]
    if retained != registered:
        what = f"retained are {retained}, and the registry says {registered}"
        yield Violation(Wrong.NOT_IN_FORCE, NOBODY, what)
    revision = ending.state["adjustments"]["revision"]
    if revision != ending.adjustments["revision"]:
        what = f"the state has revision {revision}, retained is {ending.adjustments['revision']}"
        yield Violation(Wrong.NOT_IN_FORCE, NOBODY, what)
