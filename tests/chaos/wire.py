"""What a client sees of the ways to the system, whichever it takes."""

from typing import Protocol

from chaos.history import Answer
from chaos.operations import Operation


class Wire(Protocol):
    """A way to ask, for one client at a time."""

    def ask(
        self,
        operation: Operation,
        patience_s: float,
        *,
        hangs_up: bool = False,
        times: int = 1,
    ) -> Answer | str:
        """Send an operation, so many times in a row, and wait for its answer; in words why there
        is none.

        Who ``hangs_up`` closes the connection as soon as the request has left.
        """

    def overheard(self) -> list[tuple[str, Answer]]:
        """Answers that came beside those that were waited for, by request id."""

    def close(self) -> None:
        """Leave no socket behind."""
