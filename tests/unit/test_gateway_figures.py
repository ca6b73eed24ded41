"""How a gateway stands, as it is told to whoever asks for its figures."""

import time

import orjson
import pytest
from support import quiet_log

from schemas import topics
from services.bus import BrokerAddress, Message
from services.gateway.bridge import Bridge
from services.gateway.examples import STATE
from services.gateway.figures import FIGURES, Closed, Figures, Sight
from services.gateway.streams import Streams

FEEDER = "f"


def state(version: int) -> bytes:
    rest = {name: value for name, value in STATE.items() if name not in {"feeder", "version"}}
    return orjson.dumps({"feeder": FEEDER, "version": version, **rest})


class Hearing:
    """A gateway without a broker: what it hears is handed to it."""

    def __init__(self) -> None:
        self._figures = Figures()
        log = quiet_log()
        address = BrokerAddress("127.0.0.1", 1)
        self._bridge = Bridge(address, FEEDER, Streams(log), log, self._figures)
        self._later = time.monotonic() + 100.0

    def hears(self, payload: bytes) -> None:
        self._bridge._take(Message(topics.state(FEEDER), payload, False, None, None, (1, 1, 1)))

    def age_s(self) -> float | None:
        """Of the state, at one time that is far ahead; None where there is none."""
        self._bridge.look(self._later)
        name = "flexfeeder_gateway_state_age_seconds"
        return self._figures.registry.get_sample_value(name, {"feeder": FEEDER})


class TestAgeOfAState:
    @pytest.fixture
    def hearing(self) -> Hearing:
        hearing = Hearing()
        hearing.hears(state(5))
        return hearing

    def test_there_is_none_before_a_state_has_come(self) -> None:
        hearing = Hearing()
        hearing.hears(b"no state")
        assert hearing.age_s() is None

    @pytest.mark.parametrize("payload", [b"", b"no state", state(4), state(5)[:24]])
    def test_what_is_not_kept_makes_it_no_younger(self, hearing: Hearing, payload: bytes) -> None:
        before_s = hearing.age_s()
        assert before_s is not None
        hearing.hears(payload)
        assert hearing.age_s() == before_s

    @pytest.mark.parametrize("version", [5, 6])
    def test_one_that_is_said_again_does_as_a_newer_one_does(
        self, hearing: Hearing, version: int
    ) -> None:
        before_s = hearing.age_s()
        hearing.hears(state(version))
        after_s = hearing.age_s()
        assert before_s is not None
        assert after_s is not None
        assert after_s < before_s


def test_everything_that_is_looked_at_is_told() -> None:
    figures = Figures()
    figures.look(
        Sight(
            readers=1,
            replies_awaited=2,
            is_connected=True,
            connects=4,
            dropped=5,
            state_age_s={FEEDER: 0.5},
        )
    )
    told = {
        sample.name.removeprefix("flexfeeder_gateway_"): sample.value
        for metric in figures.registry.collect()
        if metric.name in {figure.name for figure in FIGURES}
        for sample in metric.samples
    }
    assert told == {
        "readers": 1.0,
        "replies_awaited": 2.0,
        "broker_connected": 1.0,
        "reconnects_total": 3.0,
        "messages_dropped_total": 5.0,
        "state_age_seconds": 0.5,
    }


def test_each_reason_for_which_connections_are_closed_counts_from_0() -> None:
    figures = Figures()
    figures.closed(Closed.SLOW_HEAD)
    told = {
        reason: figures.registry.get_sample_value(
            "flexfeeder_gateway_connections_closed_total", {"reason": reason}
        )
        for reason in Closed
    }
    assert told == {reason: float(reason == "slow head") for reason in Closed}
