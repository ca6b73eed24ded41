"""What can be wrong."""

from dataclasses import dataclass
from enum import StrEnum

from chaos.operations import Operation
from chaos.sight import Key

Subject = Key | str | None
"""An element, or a program by its name, where it is about one."""


class Wrong(StrEnum):
    LOST = "lost"
    """An accepted operation is not, or no longer, in effect."""
    DOUBLED = "doubled"
    """An operation has taken effect again, or for somebody who was not told."""
    NOT_IN_ANSWER = "not in its answer"
    """The state that an answer carries is one without the write."""
    WRONG_ANSWER = "wrong answer"
    """Refused for a reason that there is not."""
    ANSWER_CHANGED = "answer changed"
    """The same, asked again, was answered otherwise."""
    NEVER_ANSWERED = "never answered"
    INTERNAL_ERROR = "internal error"
    VERSION_FELL = "version fell"
    NUMBER_REUSED = "number reused"
    NOT_IN_FORCE = "not in force"
    """Registry, retained adjustments and state do not agree."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, for whom, in words; about what, and the operation by which it was noticed."""

    wrong: Wrong
    who: str
    what: str
    noticed_by: Operation | None = None
    subject: Subject = None

    def __str__(self) -> str:
        return f"{self.wrong.upper()} ({self.who}): {self.what}"
