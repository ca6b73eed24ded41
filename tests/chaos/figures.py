"""What is counted, and how it is told."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from chaos.faults import Fault
from chaos.history import Answer, History
from chaos.violations import Violation, Wrong


@dataclass(slots=True)
class Figures:
    """Of a whole run."""

    kills: Counter[str] = field(default_factory=Counter)
    """By process."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind."""
    cuts: int = 0
    attempts: int = 0
    """How often anything was sent."""
    accepted: int = 0
    refused: int = 0
    repeated: int = 0
    """Attempts at what had its answer already."""
    unanswered: int = 0
    """Attempts that got no definite answer."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Accepted operations, by kind."""
    wrong: Counter[Wrong] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    """From when an operation was first sent until it had its answer."""
    recovery_s: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By kind of fault: seconds until the solver, and until the manager, took writes again."""

    @property
    def killed(self) -> int:
        return self.kills.total()

    @property
    def longest_recovery_s(self) -> float:
        return max((max(pair) for pairs in self.recovery_s.values() for pair in pairs), default=0.0)

    def take(self, fault: Fault, killed: list[str], solver_s: float, manager_s: float) -> None:
        """Add a fault, and how long it took until solver and manager were written to again."""
        self.kills.update(killed)
        self.faults[fault.kind] += 1
        self.cuts += fault.cuts
        self.recovery_s[fault.kind].append((solver_s, manager_s))

    def count(
        self, history: History, violations: list[Violation], patient: Collection[str]
    ) -> None:
        """Add what clients did; ``patient`` are those that wait for their answers."""
        for client, past in history.clients.items():
            first_sent: dict[int, float] = {}
            answered = set()
            for operation, sent_at, ended_at, outcome, times in past.attempts:
                self.attempts += times
                number = operation.number
                first_sent.setdefault(number, sent_at)
                if number in answered:
                    self.repeated += 1
                elif isinstance(outcome, Answer) and outcome.is_definite:
                    answered.add(number)
                    if client in patient:
                        self.waits_s.append(ended_at - first_sent[number])
                    self.accepted += outcome.is_success
                    self.refused += not outcome.is_success
                    self.kinds[operation.kind] += outcome.is_success
                else:
                    self.unanswered += 1
        self.wrong.update(violation.wrong for violation in violations)

    def lines(self) -> Iterator[str]:
        """The figures as text."""
        kills = ", ".join(f"{name} {n}" for name, n in sorted(self.kills.items()))
        yield f"kills              {self.killed}  ({kills})"
        pauses = sum(n for kind, n in self.faults.items() if kind.startswith("pause"))
        yield f"pauses, cuts       {pauses}, {self.cuts}"
        yield f"commands accepted  {self.accepted}"
        yield f"commands refused   {self.refused}"
        yield f"sent               {self.attempts}"
        yield f"without an answer  {self.unanswered}"
        yield f"repeated           {self.repeated}"
        yield f"lost               {self.wrong[Wrong.LOST]}"
        yield f"doubled            {self.wrong[Wrong.DOUBLED]}"
        for wrong, n in self.wrong.items():
            if wrong not in {Wrong.LOST, Wrong.DOUBLED}:
                yield f"{wrong:18} {n}"
        if self.waits_s:
            p50, longest = statistics.median(self.waits_s), max(self.waits_s)
            yield f"wait for an answer p50 {1000 * p50:.0f} ms, longest {1000 * longest:.0f} ms"
        yield f"longest recovery   {self.longest_recovery_s:.2f} s"
        if self.recovery_s:
            yield "recovery, s                    n    solver p50  longest   manager p50  longest"
        for kind, pairs in sorted(self.recovery_s.items()):
            solver, manager = zip(*pairs, strict=True)
            yield (
                f"  {kind:27} {len(pairs):3} {statistics.median(solver):13.2f} {max(solver):8.2f}"
                f" {statistics.median(manager):13.2f} {max(manager):8.2f}"
            )
