"""Places are used again: the engine keeps every element that was ever made."""

from hypothesis import given
from hypothesis import strategies as st

from services.solver.slots import MOST_IDLE, Slots


def test_places_are_numbered_from_the_first_on() -> None:
    slots: Slots[str] = Slots(first=85)
    assert [slots.take("a"), slots.take("a"), slots.take("b")] == [85, 86, 87]


def test_a_place_goes_to_the_next_one_that_wants_the_same_connection() -> None:
    slots: Slots[str] = Slots()
    for key in ("a", "b", "c"):
        slots.take(key)
    slots.give_back(0, "a")
    slots.give_back(1, "b")
    assert slots.take("b") == 1


def test_another_connection_gets_a_new_place_while_few_are_idle() -> None:
    """Moving an element costs the engine a rebuild, as making one does."""
    slots: Slots[str] = Slots()
    slots.give_back(slots.take("a"), "a")
    assert slots.take("b") == 1
    assert slots.take("a") == 0


def test_the_longest_free_place_is_moved_once_there_are_enough() -> None:
    slots: Slots[str] = Slots()
    for number in range(MOST_IDLE):
        slots.take(f"key {number}")
    for number in (5, *range(5), *range(6, MOST_IDLE)):
        slots.give_back(number, f"key {number}")
    assert slots.take("new") == 5
    assert slots.take("newer") == MOST_IDLE
    slots.give_back(5, "new")
    assert slots.take("newest") == 0
    assert slots.take("new") == 5


def test_a_thousand_that_come_and_go_each_elsewhere_leave_no_more_than_32_places() -> None:
    slots: Slots[int] = Slots()
    taken = set()
    for number in range(1000):
        place = slots.take(number)
        taken.add(place)
        slots.give_back(place, number)
    assert len(taken) == MOST_IDLE == 32


keys = st.integers(0, 50)


@given(steps=st.lists(st.tuples(st.booleans(), keys, st.integers(0, 99)), max_size=120))
def test_no_place_is_given_twice_and_few_are_idle(steps: list[tuple[bool, int, int]]) -> None:
    """At most 32 places more than were ever taken at once."""
    slots: Slots[int] = Slots(first=10)
    taken: dict[int, int] = {}
    most, ever = 0, set()
    for takes, key, which in steps:
        if takes or not taken:
            place = slots.take(key)
            assert place not in taken
            assert place >= 10
            taken[place] = key
            ever.add(place)
            most = max(most, len(taken))
        else:
            place = sorted(taken)[which % len(taken)]
            slots.give_back(place, taken.pop(place))
    assert len(ever) <= most + MOST_IDLE
    assert ever == set(range(10, 10 + len(ever)))
