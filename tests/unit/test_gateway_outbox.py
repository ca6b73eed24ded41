"""What a reader of /events is sent, and when, by a clock that the tests set."""

import pytest

from services.gateway.outbox import (
    MOST_WAITING,
    PING,
    PING_S,
    STATE_INTERVAL_S,
    Outbox,
    encoded,
)

START = 1000.0


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(START)


def all_of(outbox: Outbox, now: float) -> list[bytes]:
    """Everything that is to be sent by now."""
    sent = []
    while (chunk := outbox.take(now)) is not None:
        sent.append(chunk)
    return sent


class TestStates:
    def test_the_first_goes_at_once(self, outbox: Outbox) -> None:
        assert outbox.put_state(b"1")
        assert outbox.due() <= START
        assert all_of(outbox, START) == [b"1"]

    def test_the_next_waits_for_its_time(self, outbox: Outbox) -> None:
        outbox.put_state(b"1")
        outbox.take(START)
        outbox.put_state(b"2")
        assert outbox.take(START + STATE_INTERVAL_S - 0.01) is None
        assert outbox.due() == START + STATE_INTERVAL_S
        assert outbox.take(outbox.due()) == b"2"

    def test_of_those_that_wait_the_newest_wins(self, outbox: Outbox) -> None:
        assert outbox.put_state(b"1")
        assert not outbox.put_state(b"2")
        assert all_of(outbox, START) == [b"2"]

    def test_one_that_comes_after_a_pause_goes_at_once(self, outbox: Outbox) -> None:
        outbox.put_state(b"1")
        outbox.take(START)
        outbox.put_state(b"2")
        assert outbox.take(START + 60) == b"2"

    def test_of_a_hundred_in_ten_seconds_twenty_are_sent_and_none_is_old(
        self, outbox: Outbox
    ) -> None:
        """Ten a second; sent at 0.0, 0.5, ... 9.5 s: the one that has just come."""
        sent = []
        for n in range(100):
            outbox.put_state(b"%d" % n)
            sent += all_of(outbox, START + n / 10)
        assert sent == [b"%d" % n for n in range(0, 100, 5)]


class TestEvents:
    def test_they_go_at_once_and_in_their_order(self, outbox: Outbox) -> None:
        assert outbox.put_event(b"a")
        assert outbox.put_event(b"b")
        assert all_of(outbox, START) == [b"a", b"b"]

    def test_a_state_that_is_due_goes_before_them(self, outbox: Outbox) -> None:
        outbox.put_event(b"a")
        outbox.put_state(b"1")
        assert all_of(outbox, START) == [b"1", b"a"]

    def test_a_state_that_is_not_due_does_not_hold_them_up(self, outbox: Outbox) -> None:
        outbox.put_state(b"1")
        outbox.take(START)
        outbox.put_state(b"2")
        outbox.put_event(b"a")
        assert all_of(outbox, START) == [b"a"]

    def test_so_many_wait_and_no_more(self, outbox: Outbox) -> None:
        assert all(outbox.put_event(b"%d" % n) for n in range(MOST_WAITING))
        assert not outbox.put_event(b"one too many")
        assert all_of(outbox, START) == [b"%d" % n for n in range(MOST_WAITING)]
        assert outbox.put_event(b"there is room again")

    def test_states_take_none_of_their_room(self, outbox: Outbox) -> None:
        for n in range(10 * MOST_WAITING):
            outbox.put_state(b"%d" % n)
        assert outbox.put_event(b"a")


class TestPing:
    def test_after_a_silence_there_is_a_comment(self, outbox: Outbox) -> None:
        assert outbox.due() == START + PING_S
        assert outbox.take(START + PING_S - 0.01) is None
        assert all_of(outbox, START + PING_S) == [PING]

    def test_silences_are_shorter_than_ten_seconds(self) -> None:
        assert PING_S < 10

    def test_whatever_is_sent_breaks_the_silence(self, outbox: Outbox) -> None:
        outbox.put_event(b"a")
        outbox.take(START + 4)
        assert outbox.due() == START + 4 + PING_S
        outbox.take(outbox.due())
        assert outbox.due() == START + 4 + 2 * PING_S


class TestEncoded:
    def test_it_is_a_server_sent_event(self) -> None:
        assert encoded("alert", b'{"a":1}') == b'event: alert\ndata: {"a":1}\n\n'

    def test_a_state_has_its_version_for_an_id(self) -> None:
        assert encoded("state", b"{}", 7) == b"event: state\nid: 7\ndata: {}\n\n"

    @pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n", b"\n\n"])
    def test_data_cannot_pass_for_another_event(self, line_break: bytes) -> None:
        """JSON may have line breaks between its parts; in an event they would end it."""
        forged = b'{"a":1,' + line_break + b"event: alert" + line_break + b'"b":2}'
        lines = encoded("state", forged, 7).splitlines()
        assert [line.split(b":")[0] for line in lines] == [b"event", b"id", b"data", b""]
