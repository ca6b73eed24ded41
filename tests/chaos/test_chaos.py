"""What got a success answer survives kills of anything at any moment, and takes effect once."""

from random import Random

import pytest
from support import FEEDERS

from chaos.broken_system import broken_system
from chaos.campaign import campaign
from chaos.faults import PROCESSES, kill, kills
from chaos.operations import Kind
from chaos.play import play
from chaos.report import report
from chaos.violations import Wrong
from flexfeeder.testing import system, wait_until

KILLS = 16
SEED = 20261122
MOST_CHAPTERS = 5
"""What a broken solver spoils may make no difference: one that has just saved a snapshot, say, has
next to nothing left to forget.
"""


@pytest.mark.timeout(300)
def test_kills_lose_nothing_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with system(feeders_dir=FEEDERS) as running, campaign(running, SEED) as made:
        played = play(made, kills(Random(SEED)), KILLS)
        missing = set(Kind).difference(made.figures.kinds)
        if missing and not played.violations:
            # How much clients come to do meanwhile is the machine's affair.
            made.begin()
            wait_until(lambda: missing <= set(made.accepted()), "the others are accepted", 100.0)
            played.take(*made.settle())
        told = "\n".join(["", f"seed {SEED}", *report(made.figures, played, running)])
        with capsys.disabled():
            print(told)
        assert not played.violations, f"{len(played.violations)} violations, told above"
        assert set(made.figures.kills) == set(PROCESSES)
        assert set(made.figures.kinds) == set(Kind), "every kind of command was accepted"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("how", "wrong"),
    [
        ("loses", Wrong.LOST),
        ("doubles", Wrong.DOUBLED),
        ("forgets", Wrong.LOST),
        ("repeats", Wrong.DOUBLED),
    ],
)
def test_a_solver_that_breaks_the_promise_is_found_out(how: str, wrong: Wrong) -> None:
    found: set[Wrong] = set()
    with broken_system(how) as running, campaign(running, SEED) as made:
        for _ in range(MOST_CHAPTERS):
            made.begin()
            wait_until(
                lambda: made.accepted()[Kind.ADD_GENERATOR] >= 20, "generators are added", 100.0
            )
            if how == "forgets":
                made.inject(kill("solver"))
            _, violations = made.settle()
            found |= {violation.wrong for violation in violations}
            if wrong in found:
                break
    assert wrong in found
