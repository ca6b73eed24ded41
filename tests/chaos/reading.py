"""The past of one client, read from its beginning on: each answer must fit what came before it."""

from collections.abc import Callable
from functools import partial

from chaos import rules
from chaos.blame import concerns, shows, shows_program
from chaos.history import Answer, Attempt, Past
from chaos.operations import PROGRAM, Kind, Operation, Owner
from chaos.sight import Key, Shown, View
from chaos.violations import Subject, Violation, Wrong
from chaos.world import ProgramFacts, facts_of, is_close

NEVER = -1

_UNDONE_BY_ITSELF = {
    Kind.ADD_DEVICE: "already_exists",
    Kind.DISCONNECT_DEVICE: "device_not_found",
    Kind.ADD_GENERATOR: "already_exists",
    Kind.REMOVE_GENERATOR: "generator_not_found",
    Kind.REGISTER: "already_exists",
    Kind.DELETE: "program_not_found",
}
"""What an operation is refused with that has taken effect already."""


class Reading:
    """Follows one client; what it finds wrong is kept in :attr:`violations`.

    A deviation is taken over once it is told, so that one is not told again and again. It counts
    as doubled where an operation that was sent again since explains it, and else as lost.
    """

    def __init__(self, client: str, past: Past) -> None:
        self.client = client
        self.world = past.beginning.copy()
        self.violations: list[Violation] = []
        self.answered: dict[int, Answer] = {}
        """The first definite answer to each operation, by its number."""
        self._attempts = past.attempts
        self._sent: dict[int, int] = {}
        """How often each operation has been sent, by its number."""
        self._changed: set[int] = set()
        """Operations of which it was told that their answers differ."""
        self._read = 0
        self._told_generators = set(past.beginning.generators)
        self._settled: dict[Key | str, int] = {}
        """By element, or name of a program: the attempt whose answer last changed it."""

    @property
    def programs(self) -> set[str]:
        """Names of the programs that are this client's."""
        asked = (attempt.operation.body for attempt in self._attempts)
        named = {body.get("dfp_name") or body.get("name") for body in asked}
        return {name for name in named if name} | set(self.world.programs)

    def read(self) -> None:
        for index, attempt in enumerate(self._attempts):
            self._read = index + 1
            self._take(index, attempt)
        for operation in {a.operation.number: a.operation for a in self._attempts}.values():
            if operation.number not in self.answered:
                self._wrong(Wrong.NEVER_ANSWERED, str(operation), operation)

    def look(
        self,
        view: View,
        noticed_by: Operation | None = None,
        before: dict[Key, Shown] | None = None,
        *,
        is_final: bool = False,
    ) -> None:
        """Hold a view of the client's buses against what there has to be.

        ``before`` is what there was before the operation whose answer this is; setpoints follow
        the programs in force within a moment, and are judged only when all is at rest.
        """
        buses = view.buses.intersection(self.world.buses)
        expected = {k: v for k, v in self.world.shown().items() if k.bus in buses}
        seen = {k: v for k, v in view.elements.items() if k.bus in buses}
        for key in sorted({*expected, *seen}):
            there, shown = expected.get(key), seen.get(key)
            if _is_same(there, shown, is_final=is_final):
                continue
            what = f"{key} is {_worded(shown)}, and should be {_worded(there)}"
            if before is not None and _is_same(before.get(key), shown, is_final=False):
                self._wrong(Wrong.NOT_IN_ANSWER, what, noticed_by, key)
                continue
            is_doubled = self._is_untold(key) or self._is_explained(
                key, partial(_shows, key=key, shown=shown)
            )
            self._wrong(Wrong.DOUBLED if is_doubled else Wrong.LOST, what, noticed_by, key)
            self.world.adopt(key, shown)

    def look_at_program(
        self, name: str, facts: ProgramFacts | None, noticed_by: Operation | None = None
    ) -> None:
        """The same for what the registry says of a program."""
        expected = self.world.registered().get(name)
        if facts == expected:
            return
        is_doubled = self._is_explained(
            name, lambda each: shows_program(each, name, expected, facts)
        )
        self._wrong(
            Wrong.DOUBLED if is_doubled else Wrong.LOST,
            f"program {name} is {facts}, and should be {expected}",
            noticed_by,
            name,
        )
        self.world.adopt_program(name, facts)

    def _take(self, index: int, attempt: Attempt) -> None:
        operation, answer = attempt.operation, attempt.outcome
        self._sent[operation.number] = self._sent.get(operation.number, 0) + attempt.times
        if isinstance(answer, str):
            return
        if answer.code == "internal_error":
            self._wrong(Wrong.INTERNAL_ERROR, answer.message, operation)
        if not answer.is_definite:
            return
        first = self.answered.setdefault(operation.number, answer)
        before = None
        if first is answer:
            before = self.world.shown() if answer.view is not None else None
            self._decide(index, operation, answer)
        elif answer.essence != first.essence and operation.number not in self._changed:
            self._changed.add(operation.number)
            what = f"{operation}: {answer.essence}, and was {first.essence}"
            self._wrong(Wrong.ANSWER_CHANGED, what, operation)
        if answer.view is not None:
            self.look(answer.view, operation, before)

    def _decide(self, index: int, operation: Operation, answer: Answer) -> None:
        expected = rules.refusal(self.world, operation)
        if not answer.is_success:
            if expected is None:
                self._refused(operation, answer)
            elif expected != answer.code:
                what = f"{operation} refused as {answer.code}, and not as {expected}"
                self._wrong(Wrong.WRONG_ANSWER, what, operation)
            return
        if expected is not None:
            # What should be there is gone, or what should be gone is there.
            self._wrong(Wrong.LOST, f"{operation} accepted, for all that {expected}", operation)
        before = self.world.shown()
        rules.apply(self.world, operation, answer.said)
        if operation.kind is Kind.ADD_GENERATOR:
            self._told_generators.add(answer.said["generator_name"])
        for key in {**before, **self.world.shown()}:
            if concerns(operation, key):
                self._settled[key] = index
        if operation.way.owner is Owner.MANAGER:
            self._settled[answer.said["name"]] = index
            if "subscriptions" in answer.said:
                self.look_at_program(answer.said["name"], facts_of(answer.said), operation)

    def _refused(self, operation: Operation, answer: Answer) -> None:
        """An operation was refused that should have been accepted."""
        was_sent_again = self._sent[operation.number] > 1
        is_doubled = was_sent_again and answer.code == _UNDONE_BY_ITSELF.get(operation.kind)
        what = f"{operation} refused as {answer.code}"
        if is_doubled:
            what += ", which it has brought about itself"
        self._wrong(Wrong.DOUBLED if is_doubled else Wrong.LOST, what, operation)
        self._adopt_refusal(operation, answer)

    def _adopt_refusal(self, operation: Operation, answer: Answer) -> None:
        body = operation.body
        if answer.code == "device_not_found":
            self.world.adopt(Key("device", body["bus_name"], body["device_name"]), None)
        elif answer.code == "generator_not_found":
            self.world.adopt(Key("generator", "", body["generator_name"]), None)
        elif answer.code == "program_not_found":
            name = self.world.named_or_numbered(body)
            if name is not None:
                self.world.adopt_program(name, None)
        elif operation.kind in {Kind.ADD_DEVICE, Kind.ADD_GENERATOR}:
            rules.apply(self.world, operation, {"generator_name": body.get("generator_name")})

    def _is_untold(self, key: Key) -> bool:
        return key.kind == "generator" and key.name not in self._told_generators

    def _is_explained(self, what: Key | str, shows_it: Callable[[Operation], bool]) -> bool:
        """True if an operation that was sent again since the last change of it explains it."""
        last = self._settled.get(what, NEVER)
        changed_by = None if last == NEVER else self._attempts[last].operation
        since = {a.operation.number: a.operation for a in self._attempts[last + 1 : self._read]}
        return any(
            operation is not changed_by and self._sent[number] > 1 and shows_it(operation)
            for number, operation in since.items()
        )

    def _wrong(
        self, wrong: Wrong, what: str, noticed_by: Operation | None, subject: Subject = None
    ) -> None:
        about = _subject(noticed_by) if subject is None and noticed_by is not None else subject
        self.violations.append(Violation(wrong, self.client, what, noticed_by, about))


def _is_same(expected: Shown | None, shown: Shown | None, *, is_final: bool) -> bool:
    if expected is None or shown is None:
        return expected is shown
    is_judged = is_final and all(held.startswith(PROGRAM) for held in shown.held_by)
    return (
        is_close(expected.demand_kw, shown.demand_kw)
        and is_close(expected.factor, shown.factor)
        and expected.source == shown.source
        and (not is_judged or is_close(expected.set_kw, shown.set_kw))
    )


def _subject(operation: Operation) -> Subject:
    """What an operation is about, where that is one thing."""
    body = operation.body
    match operation.kind:
        case Kind.ADD_DEVICE | Kind.DISCONNECT_DEVICE:
            return Key("device", body["bus_name"], body["device_name"])
        case Kind.REMOVE_GENERATOR:
            return Key("generator", "", body["generator_name"])
    return body.get("dfp_name") or body.get("name")


def _shows(operation: Operation, key: Key, shown: Shown | None) -> bool:
    return concerns(operation, key) and shows(operation, shown)


def _worded(shown: Shown | None) -> str:
    if shown is None:
        return "not there"
    return f"{shown.demand_kw:g} kW (set {shown.set_kw:g}, factor {shown.factor:g}, {shown.source})"
