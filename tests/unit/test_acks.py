"""Acknowledgements leave in the order in which messages came."""

from services.acks import InOrder
from services.bus import Message


class Acked:
    """What has been acknowledged, by connection and number."""

    def __init__(self) -> None:
        self.receipts: list[tuple[int, int]] = []
        self.acks = InOrder(lambda message: self.receipts.append(message.receipt[:2]))

    def arrives(self, connection: int, number: int, qos: int = 1) -> Message:
        message = Message("t", b"", False, None, None, (connection, number, qos))
        self.acks.arrived(message)
        return message


def test_one_that_is_done_waits_for_those_before_it() -> None:
    acked = Acked()
    first, second, third = (acked.arrives(1, number) for number in (1, 2, 3))
    acked.acks.done(second)
    acked.acks.done(third)
    assert acked.receipts == []
    acked.acks.done(first)
    assert acked.receipts == [(1, 1), (1, 2), (1, 3)]


def test_what_came_on_a_connection_that_is_gone_holds_nobody_up() -> None:
    """The broker brings it again on the next one."""
    acked = Acked()
    acked.arrives(1, 1)
    again, other = acked.arrives(2, 1), acked.arrives(2, 2)
    acked.acks.done(other)
    acked.acks.done(again)
    assert acked.receipts == [(2, 1), (2, 2)]


def test_at_qos_0_there_is_nothing_to_acknowledge() -> None:
    acked = Acked()
    acked.acks.done(acked.arrives(1, 0, qos=0))
    assert acked.receipts == []
