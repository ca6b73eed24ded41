"""When a circuit that gives no solution is built anew: the doubt whether it is still sound. Pure.

What cannot be solved may have no solution, and then building the circuit anew is for nothing. It
takes as long as a hundred solves or more, so one that did not help is followed by another only
after as many: what has no solution at most doubles its price. Nor is there another before anything
was solved or asked for since: to the same question a sound circuit has the same answer.
"""

RESTS = 100
"""Solves from one circuit built for nothing to the next."""


class Doubt:
    """Told of every solve, and of everything that is asked for."""

    def __init__(self) -> None:
        self._rests = 0
        self._has_news = True

    def asked(self) -> None:
        """Something else is asked for."""
        self._has_news = True

    def solved(self) -> None:
        """A solve gave a solution."""
        self._rests -= 1
        self._has_news = True

    def failed(self) -> bool:
        """A solve gave none; True where the circuit is to be built anew."""
        self._rests -= 1
        return self._has_news and self._rests <= 0

    def rebuilt(self, *, helped: bool) -> None:
        """The circuit was built anew, and the same solve tried again."""
        if not helped:
            self._rests = RESTS
            self._has_news = False
