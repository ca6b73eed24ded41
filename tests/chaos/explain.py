"""How a violation came about: what the client did and was told, and what was done meanwhile."""

import math
from collections.abc import Iterator

from chaos.blame import concerns, is_about
from chaos.history import Attempt, Happened, History, Past
from chaos.operations import Operation
from chaos.sight import Key
from chaos.violations import Subject, Violation

MOST_ATTEMPTS = 15

AROUND_S = 1.0
"""What was done to the system so long before the first attempt and after the last is told too."""


def explained(violation: Violation, history: History) -> Iterator[str]:
    """Lines: the violation, and in order of time what concerns its subject."""
    yield str(violation)
    past = history.clients.get(violation.who)
    if past is None:
        return
    attempts = _told(past, violation)
    if not attempts:
        return
    first, last = attempts[0].sent_at - AROUND_S, attempts[-1].ended_at + AROUND_S
    done = [each for each in history.happened if first <= each.at <= last]
    lines = [_line(each) for each in attempts]
    lines += [_done(each) for each in done if each.of in {None, violation.who}]
    yield from (line for _, line in sorted(lines))


def _told(past: Past, violation: Violation) -> list[Attempt]:
    """Attempts at the operation by which it was noticed, and the last ones about its subject until
    then.
    """
    noticed = list(past.of(violation.noticed_by)) if violation.noticed_by is not None else []
    until = noticed[-1].ended_at if noticed else math.inf
    others = [
        attempt
        for attempt in past.attempts
        if attempt.operation is not violation.noticed_by
        and attempt.sent_at <= until
        and _is_about(attempt.operation, violation.subject)
    ]
    return others[-MOST_ATTEMPTS:] + noticed


def _is_about(operation: Operation, subject: Subject) -> bool:
    if isinstance(subject, Key):
        return concerns(operation, subject)
    return subject is not None and is_about(operation, subject)


def _line(attempt: Attempt) -> tuple[float, str]:
    operation = attempt.operation
    times = f" x{attempt.times}" if attempt.times > 1 else ""
    return attempt.sent_at, (
        f"  {attempt.sent_at:9.3f} to {attempt.ended_at:9.3f}  "
        f"{operation.request_id}{times} {operation}: {attempt.outcome}"
    )


def _done(happened: Happened) -> tuple[float, str]:
    return happened.at, f"  {happened.at:9.3f}               {happened.what}"
