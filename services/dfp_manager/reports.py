"""The result files of the manager: what is registered, and what has happened."""

from collections.abc import Iterator
from datetime import UTC, datetime

from schemas.programs import BusOutcome, BusPower, ExecutionReport, Program, ProgramEvent
from schemas.programs import ProgramEventKind as Kind
from services.dfp_manager.programs import FeederPrograms
from services.files import FileWriter
from services.logs import printable

REGISTRY = "dfp_registry.txt"
LOG = "dfps_logs.txt"


class Reports:
    """Writes both files, in the background."""

    def __init__(self, files: FileWriter) -> None:
        self._files = files
        self._feeders: tuple[FeederPrograms, ...] | None = None

    def registered(self, feeders: tuple[FeederPrograms, ...]) -> None:
        """Have the registry file say what is registered, if that is not what it says."""
        known = self._feeders
        if known is None or not _are_same(known, feeders):
            self._feeders = feeders
            self._files.replace(REGISTRY, lambda: registry_text(feeders))

    def happened(
        self, event: ProgramEvent, program: Program, report: ExecutionReport | None = None
    ) -> None:
        """Add a line about an event, and one about each bus of an execution."""
        for line in log_lines(event, program, report):
            self._files.append(LOG, line)


def registry_text(feeders: tuple[FeederPrograms, ...]) -> str:
    """What ``dfp_registry.txt`` says."""
    lines = ["Demand flexibility programs"]
    for programs in feeders:
        count = len(programs.by_number)
        lines += [
            "",
            f"Feeder {programs.feeder}: {count} program{_s(count)}, {programs.executing} executing",
            f"Revision of the adjustments: {programs.revision}",
        ]
        for _, program in sorted(programs.by_number.items()):
            lines += ["", *_program_lines(program)]
    return "\n".join(lines) + "\n"


def log_lines(
    event: ProgramEvent, program: Program, report: ExecutionReport | None
) -> Iterator[str]:
    """What ``dfps_logs.txt`` says of an event; ``report`` where an execution was seen to act."""
    head = f"{_time(event.at)} {event.feeder} {program.name} (number {program.number})"
    yield f"{head} {_happened(event, program, report)}"
    for outcome in report.buses if report is not None else ():
        yield f"{head}   bus {outcome.bus}: {_effect(outcome)}"


def _program_lines(program: Program) -> Iterator[str]:
    yield f"  {program.number}  {program.name}"
    rows = {
        "minimum power": f"{program.min_power_kw:g} kW at each bus",
        "target power factor": f"{program.target_pf:g}",
        "registered": _time(program.registered_at),
        "subscriptions": ", ".join(program.subscriptions) or "none",
        "executing": "yes" if program.executing else "no",
    }
    if program.description:
        rows["description"] = printable(program.description)
    for label, value in rows.items():
        yield f"     {label:<22}{value}"


def _happened(event: ProgramEvent, program: Program, report: ExecutionReport | None) -> str:
    match event.event:
        case Kind.REGISTERED | Kind.UPDATED:
            terms = f"minimum {program.min_power_kw:g} kW, power factor {program.target_pf:g}"
            return f"{event.event}: {terms}"
        case Kind.SUBSCRIBED | Kind.UNSUBSCRIBED:
            return f"{event.event}: bus {event.bus}"
        case Kind.EXECUTED:
            count = len(program.subscriptions)
            where = f"{event.event}: revision {event.revision}, {count} bus{_es(count)}"
            if report is None:
                return f"{where}; the solver did not show it in time"
            return f"{where}, shed {report.total_shed_kw:g} kW"
        case Kind.STOPPED | Kind.DELETED:
            return str(event.event)


def _effect(outcome: BusOutcome) -> str:
    if outcome.left_alone is not None:
        return f"{_power(outcome.after)}, left alone: {outcome.left_alone}"
    return (
        f"{_power(outcome.before)} before, {_power(outcome.after)} after, "
        f"shed {outcome.shed_kw:g} kW"
    )


def _power(power: BusPower) -> str:
    pf = "" if power.pf is None else f" (power factor {power.pf:.3f})"
    return f"{power.kw:g} kW {power.kvar:g} kvar{pf}"


def _are_same(some: tuple[FeederPrograms, ...], others: tuple[FeederPrograms, ...]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _es(count: int) -> str:
    return "" if count == 1 else "es"
