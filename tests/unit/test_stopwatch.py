"""What a command's time is spent on."""

from services.stopwatch import Interval, Stopwatch


def test_a_phase_that_comes_again_counts_as_long_as_it_took_altogether() -> None:
    """From its first beginning: nothing of the whole is lost, and nothing counts twice."""
    stopwatch = Stopwatch(10.0)
    stopwatch.enter("solver", 10.5)
    stopwatch.enter("answer", 12.0)
    stopwatch.enter("solver", 12.25)
    told = stopwatch.read(14.25)
    assert told == {
        "waited": Interval(10.0, 10.5),
        "solver": Interval(10.5, 14.0),  # 1.5 s and 2 s
        "answer": Interval(12.0, 12.25),
    }
    assert sum(each.seconds for each in told.values()) == 4.25
