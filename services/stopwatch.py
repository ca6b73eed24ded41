"""What a command's time is spent on, in seconds of ``time.perf_counter``. Pure."""

from typing import NamedTuple


class Interval(NamedTuple):
    """From when until when."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def ms(self) -> float:
        """Milliseconds, to the digits that mean something in a log."""
        return round(1000 * (self.end - self.start), 3)


class Stopwatch:
    """Phase after phase of one command, from its arrival on."""

    WAITED = "waited"
    """The first of them: nobody has looked at the command yet."""

    def __init__(self, arrived_at: float) -> None:
        self.arrived_at = arrived_at
        self._phases = [(self.WAITED, arrived_at)]

    def enter(self, phase: str, at: float) -> None:
        """Another phase begins; the one before ends."""
        self._phases.append((phase, at))

    def read(self, until: float) -> dict[str, Interval]:
        """Each phase by its name; the last one ends now. One that was entered more than once counts
        from its first beginning, for as long as it took altogether.
        """
        ends = [at for _, at in self._phases[1:]] + [until]
        told: dict[str, Interval] = {}
        for (phase, start), end in zip(self._phases, ends, strict=True):
            before = told.get(phase)
            if before is None:
                told[phase] = Interval(start, end)
            else:
                told[phase] = Interval(before.start, before.end + (end - start))
        return told
