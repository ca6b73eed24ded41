"""Alerts begin with a finding and end a second after it was last seen."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.alerts import AlertEvent, AlertKind
from services.solver.findings import AlertBook, Finding

BEGIN, END = AlertEvent.BEGIN, AlertEvent.END


def overload(percent: float = 104.0, name: str = "XFM1") -> Finding:
    subject = f"transformer {name}"
    return Finding(AlertKind.OVERLOAD, subject, f"{percent} %", percent, 100.0)


def test_a_finding_begins_an_alert() -> None:
    assert AlertBook().update([overload()], 10.0) == [(BEGIN, overload())]


def test_nothing_found_is_nothing_to_tell() -> None:
    assert AlertBook().update([], 10.0) == []


def test_a_finding_that_stays_is_told_once() -> None:
    book = AlertBook()
    book.update([overload()], 10.0)
    assert [book.update([overload()], 10.0 + second) for second in range(60)] == [[]] * 60


def test_a_finding_that_stays_may_change_its_figures() -> None:
    """It is the same transformer, at 104 % and then at 120 %; the end tells the newest."""
    book = AlertBook()
    book.update([overload(104.0)], 10.0)
    assert book.update([overload(120.0)], 11.0) == []
    assert book.update([], 12.0) == [(END, overload(120.0))]


def test_an_alert_ends_one_second_after_its_finding_was_last_seen() -> None:
    book = AlertBook()
    book.update([overload()], 10.0)
    assert book.update([], 10.999) == []
    assert book.update([], 11.0) == [(END, overload())]
    assert book.update([], 12.0) == []


def test_a_finding_seen_again_after_the_end_is_a_new_alert() -> None:
    book = AlertBook()
    book.update([overload()], 10.0)
    book.update([], 11.0)
    assert book.update([overload()], 11.1) == [(BEGIN, overload())]


def test_a_value_that_hovers_about_its_limit_makes_one_alert() -> None:
    """Over it in every other solve for a minute, 20 solves a second."""
    book = AlertBook()
    events = []
    for solve in range(1200):
        events += book.update([overload()] if solve % 2 else [], 10.0 + solve / 20)
    assert events == [(BEGIN, overload())]


def test_subjects_and_kinds_are_told_apart() -> None:
    undervoltage = Finding(AlertKind.UNDERVOLTAGE, "bus 1 phase A", "low", 0.94, 0.95)
    overvoltage = Finding(AlertKind.OVERVOLTAGE, "bus 1 phase A", "high", 1.06, 1.05)
    found = [overload(name="a"), overload(name="b"), undervoltage, overvoltage]
    book = AlertBook()
    assert book.update(found, 10.0) == [(BEGIN, each) for each in found]
    assert book.update(found[1:], 11.0) == [(END, found[0])]


@given(seen=st.lists(st.tuples(st.floats(0.01, 2.0), st.booleans()), max_size=40))
def test_begin_and_end_take_turns(seen: list[tuple[float, bool]]) -> None:
    """And whatever began has ended a second after the last finding."""
    book, now = AlertBook(), 0.0
    events = []
    for step, is_over in seen:
        now += step
        events += [event for event, _ in book.update([overload()] if is_over else [], now)]
    events += [event for event, _ in book.update([], now + 1.1)]
    assert events == [BEGIN, END] * (len(events) // 2)
    assert bool(events) == any(is_over for _, is_over in seen)
