"""The programs of a feeder: who is subscribed, and what is in force. Pure: no clock, no I/O.

Each function takes the programs as they are and returns a :class:`Change`, or raises
:class:`~schemas.errors.Refusal` and nothing has changed. The rules stand in ``docs/programs.md``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from schemas.errors import ErrorCode, Refusal
from schemas.programs import (
    MOST_PROGRAMS,
    Adjustments,
    BusAdjustment,
    Execution,
    Program,
    ProgramEvent,
    ProgramEventKind,
    ProgramInForce,
    ProgramName,
    Registration,
    Run,
    SubscriptionChange,
    Update,
)
from schemas.wire import canonical

MOST_EXECUTIONS = 20
"""Executions of a program that are remembered: the latest."""

Buses = Mapping[str, str]
"""The feeder's spelling of each of its buses, by canonical name."""


@dataclass(frozen=True, slots=True)
class FeederPrograms:
    """Everything that is registered on a feeder. ``revision`` is that of the adjustments: it rises
    when their content changes, and not otherwise.
    """

    feeder: str
    next_number: int = 1
    revision: int = 0
    by_number: Mapping[int, Program] = field(default_factory=dict)

    def named(self, name: str) -> Program | None:
        """The program of that name, in whatever case."""
        wanted = canonical(name)
        return next((p for p in self.by_number.values() if canonical(p.name) == wanted), None)

    @property
    def executing(self) -> int:
        """How many programs execute."""
        return sum(program.executing for program in self.by_number.values())


@dataclass(frozen=True, slots=True)
class Change:
    """What a command makes of the programs. Without events it changes nothing that is registered;
    ``programs`` are then the very ones that were given.
    """

    programs: FeederPrograms
    program: Program
    """The one that it is about, as it is now; a deleted one as it was."""
    message: str
    events: tuple[ProgramEvent, ...] = ()
    adjusts: bool = False
    """The adjustments have changed, and with them their revision."""


def register(programs: FeederPrograms, asked: Registration, at: datetime) -> Change:
    """Register a program under the next number; its name must be free."""
    if (taken := programs.named(asked.name)) is not None:
        raise Refusal.of_field(
            ErrorCode.ALREADY_EXISTS, "name", f"program {taken.name} is registered already"
        )
    if len(programs.by_number) >= MOST_PROGRAMS:
        raise Refusal.of_field(
            ErrorCode.LIMIT_REACHED, "name", f"a feeder has at most {MOST_PROGRAMS} programs"
        )
    program = Program(
        name=asked.name,
        number=programs.next_number,
        description=asked.description,
        min_power_kw=asked.min_power_kw,
        target_pf=asked.target_pf,
        registered_at=at,
        subscriptions=(),
        executing=False,
        executions=(),
    )
    message = f"program {program.name} registered as number {program.number}"
    numbered = replace(programs, next_number=programs.next_number + 1)
    return _changed(numbered, program, message, ProgramEventKind.REGISTERED, at)


def update(programs: FeederPrograms, asked: Update, at: datetime) -> Change:
    """Give a program new terms, which hold at once if it executes."""
    program = _by_name(programs, asked.name, "name")
    terms: dict[str, Any] = {"min_power_kw": asked.min_power_kw, "target_pf": asked.target_pf}
    if asked.description is not None:
        terms["description"] = asked.description
    updated = program.model_copy(update=terms)
    if updated == program:
        return Change(programs, program, f"program {program.name} has these terms already")
    message = f"program {program.name} updated"
    return _changed(programs, updated, message, ProgramEventKind.UPDATED, at)


def delete(programs: FeederPrograms, asked: ProgramName, at: datetime) -> Change:
    """Remove a program with its subscriptions, after ending its execution."""
    program = _by_name(programs, asked.name, "name")
    left = _put(programs, program.number, None)
    kinds = [ProgramEventKind.STOPPED] * program.executing + [ProgramEventKind.DELETED]
    events = tuple(_event(left, kind, program, at) for kind in kinds)
    message = f"program {program.name} deleted"
    return Change(left, program, message, events, adjusts=program.executing)


def subscribe(
    programs: FeederPrograms, asked: SubscriptionChange, buses: Buses | None, at: datetime
) -> Change:
    """Subscribe a bus, which is adjusted at once if the program executes."""
    program = _addressed(programs, asked)
    bus = _spelled(buses, asked.bus_name)
    if _subscribed(program, bus) is not None:
        message = f"bus {bus} is subscribed to program {program.name} already"
        return Change(programs, program, message)
    joined = tuple(sorted((*program.subscriptions, bus), key=_natural))
    subscribed = program.model_copy(update={"subscriptions": joined})
    message = f"bus {bus} subscribed to program {program.name}"
    return _changed(programs, subscribed, message, ProgramEventKind.SUBSCRIBED, at, bus)


def unsubscribe(
    programs: FeederPrograms, asked: SubscriptionChange, buses: Buses | None, at: datetime
) -> Change:
    """Let a bus go, at once if the program executes; also one that the feeder no longer has."""
    program = _addressed(programs, asked)
    bus = _subscribed(program, asked.bus_name)
    if bus is None:
        known = _spelled(buses, asked.bus_name)
        message = f"bus {known} was not subscribed to program {program.name}"
        return Change(programs, program, message)
    left = tuple(each for each in program.subscriptions if each != bus)
    unsubscribed = program.model_copy(update={"subscriptions": left})
    message = f"bus {bus} unsubscribed from program {program.name}"
    return _changed(programs, unsubscribed, message, ProgramEventKind.UNSUBSCRIBED, at, bus)


def execute(programs: FeederPrograms, asked: Run, at: datetime) -> Change:
    """Put a program in force, also one without buses: those that join later are adjusted."""
    program = _by_name(programs, asked.dfp_name, "dfp_name")
    buses = len(program.subscriptions)
    if program.executing:
        message = f"program {program.name} was executing already: nothing was changed"
        return Change(programs, program, message)
    execution = Execution(
        started_at=at,
        stopped_at=None,
        revision=programs.revision + 1,
        buses=buses,
        total_shed_kw=None,
    )
    history = (*program.executions, execution)[-MOST_EXECUTIONS:]
    executing = program.model_copy(update={"executing": True, "executions": history})
    where = f"at {buses} bus{'es' * (buses > 1)}" if buses else "with nobody subscribed"
    message = f"program {program.name} is in force {where}"
    return _changed(programs, executing, message, ProgramEventKind.EXECUTED, at)


def stop(programs: FeederPrograms, asked: Run, at: datetime) -> Change:
    """Lift a program."""
    program = _by_name(programs, asked.dfp_name, "dfp_name")
    if not program.executing:
        return Change(programs, program, f"program {program.name} was not executing")
    history = _with_latest(program, stopped_at=at)
    stopped = program.model_copy(update={"executing": False, "executions": history})
    message = f"program {program.name} stopped"
    return _changed(programs, stopped, message, ProgramEventKind.STOPPED, at)


def get(programs: FeederPrograms, asked: ProgramName) -> Change:
    """One program; nothing changes."""
    program = _by_name(programs, asked.name, "name")
    return Change(programs, program, f"program {program.name}")


def with_shed(
    programs: FeederPrograms, number: int, revision: int, total_shed_kw: float
) -> FeederPrograms:
    """With what an execution took off the feeder, if it is still the program's latest one."""
    program = programs.by_number.get(number)
    if program is None or not program.executions or program.executions[-1].revision != revision:
        return programs
    history = _with_latest(program, total_shed_kw=total_shed_kw)
    return _put(programs, number, program.model_copy(update={"executions": history}))


def above(programs: FeederPrograms, revision: int) -> FeederPrograms:
    """With a revision above one that is known from elsewhere, where theirs is lower: the store has
    forgotten what it once counted, and lower revisions are ignored.
    """
    return replace(programs, revision=revision + 1) if programs.revision < revision else programs


def adjustments(programs: FeederPrograms) -> Adjustments:
    """Everything in force: programs by number, buses in natural order."""
    in_force = (_in_force(program) for _, program in sorted(programs.by_number.items()))
    return Adjustments(
        revision=programs.revision,
        programs=tuple(program for program in in_force if program is not None),
    )


def _in_force(program: Program | None) -> ProgramInForce | None:
    if program is None or not program.executing:
        return None
    return ProgramInForce(
        name=program.name,
        number=program.number,
        buses=tuple(
            BusAdjustment(bus=bus, max_kw=program.min_power_kw, target_pf=program.target_pf)
            for bus in program.subscriptions
        ),
    )


def _changed(
    programs: FeederPrograms,
    program: Program,
    message: str,
    kind: ProgramEventKind,
    at: datetime,
    bus: str | None = None,
) -> Change:
    after = _put(programs, program.number, program)
    event = _event(after, kind, program, at, bus)
    return Change(after, program, message, (event,), adjusts=after.revision != programs.revision)


def _put(programs: FeederPrograms, number: int, program: Program | None) -> FeederPrograms:
    """With a program in the place of what was there; the revision rises if that changes what is
    in force.
    """
    before = programs.by_number.get(number)
    others = {n: p for n, p in programs.by_number.items() if n != number}
    by_number = others if program is None else {**others, number: program}
    rise = int(_in_force(before) != _in_force(program))
    return replace(programs, by_number=by_number, revision=programs.revision + rise)


def _event(
    programs: FeederPrograms,
    kind: ProgramEventKind,
    program: Program,
    at: datetime,
    bus: str | None = None,
) -> ProgramEvent:
    return ProgramEvent(
        feeder=programs.feeder,
        event=kind,
        name=program.name,
        number=program.number,
        at=at,
        revision=programs.revision,
        bus=bus,
    )


def _with_latest(program: Program, **change: Any) -> tuple[Execution, ...]:
    """The executions with a change of the latest, if the store has kept any."""
    earlier, latest = program.executions[:-1], program.executions[-1:]
    return (*earlier, *(execution.model_copy(update=change) for execution in latest))


def _addressed(programs: FeederPrograms, asked: SubscriptionChange) -> Program:
    if asked.dfp_name is not None:
        return _by_name(programs, asked.dfp_name, "dfp_name")
    program = programs.by_number.get(asked.dfp_number or 0)
    if program is None:
        raise Refusal.of_field(
            ErrorCode.PROGRAM_NOT_FOUND, "dfp_number", f"there is no program {asked.dfp_number}"
        )
    return program


def _by_name(programs: FeederPrograms, name: str, said_in: str) -> Program:
    program = programs.named(name)
    if program is None:
        raise Refusal.of_field(
            ErrorCode.PROGRAM_NOT_FOUND, said_in, f"there is no program {name!r}"
        )
    return program


def _spelled(buses: Buses | None, name: str) -> str:
    if buses is None:
        raise Refusal.of_field(
            ErrorCode.SERVICE_UNAVAILABLE,
            "solver",
            "it has not said yet which buses there are; nothing was changed",
        )
    bus = buses.get(canonical(name))
    if bus is None:
        raise Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", f"there is no bus {name!r}")
    return bus


def _subscribed(program: Program, bus: str) -> str | None:
    wanted = canonical(bus)
    return next((each for each in program.subscriptions if canonical(each) == wanted), None)


def _natural(bus: str) -> list[str | int]:
    """Sorts bus 2 before bus 10; text and numbers take turns, so like meets like."""
    parts = re.split(r"([0-9]+)", canonical(bus))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
