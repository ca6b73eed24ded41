"""The head of an encoded state, from which its version is read without parsing the rest."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.state import (
    AdjustmentsApplied,
    ManagementStatus,
    PowerSummary,
    State,
    VoltageProfile,
    version_of,
)
from schemas.wire import NAME_PATTERN

HEAD = b'{"feeder":"ieee123","version":42,'


def state(feeder: str, version: int) -> State:
    """A feeder on which nothing hangs."""
    return State(
        feeder=feeder,
        version=version,
        solved_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
        converged=True,
        iterations=1,
        oldest_reading_s=None,
        taps={},
        management_status=ManagementStatus(status="OK", management_log=()),
        power_summary=PowerSummary(
            total_circuit_power_kw=0.0,
            total_circuit_power_kvar=0.0,
            total_losses_kw=0.0,
            total_losses_kvar=0.0,
            total_load_kw=0.0,
            total_generation_kw=0.0,
        ),
        voltage_profile=VoltageProfile(
            min_voltage_pu=1.0,
            min_voltage_bus="150",
            max_voltage_pu=1.0,
            max_voltage_bus="150",
            avg_voltage_pu=1.0,
            violations=(),
        ),
        bus_details=(),
        transformers=(),
        adjustments=AdjustmentsApplied(revision=0, programs=()),
    )


class TestVersionOf:
    @given(
        feeder=st.from_regex(NAME_PATTERN.replace("$", r"\Z"), fullmatch=True),
        version=st.integers(0, 10**18 - 1),
    )
    def test_the_version_of_any_encoded_state_is_read(self, feeder: str, version: int) -> None:
        """The fields of a state are written in the order of its model: feeder, version first."""
        assert version_of(state(feeder, version).model_dump_json().encode()) == version

    def test_the_rest_is_not_looked_at(self) -> None:
        """Not even where it is cut off, is no text, or names another version."""
        assert version_of(HEAD) == 42
        assert version_of(HEAD + b"\xff\0") == 42
        assert version_of(HEAD + b'"version":43}') == 42

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{}",
            b"null",
            HEAD[:-1],
            b" " + HEAD,
            b"x" + HEAD,
            b'{"version":42,"feeder":"ieee123",',
            b'{"feeder":"ieee123","solved":{"version":42},',
            b'{"feeder":"ieee 123","version":42,',
            b'{"feeder":"","version":42,',
            b'{"feeder":"ieee123","version":-1,',
            b'{"feeder":"ieee123","version":4.2,',
            b'{"feeder":"ieee123","version":"42",',
            b'{"feeder":"ieee123","version":null,',
            b'{"feeder":"ieee123","version":1000000000000000000,',
            '{"feeder":"ieee123","version":\N{ARABIC-INDIC DIGIT FOUR},'.encode(),
        ],
    )
    def test_what_does_not_begin_like_a_state_has_no_version(self, payload: bytes) -> None:
        assert version_of(payload) is None

    @given(payload=st.binary())
    def test_bytes_that_are_no_state_have_no_version(self, payload: bytes) -> None:
        """No 30 random bytes begin like a state, and none of them raise."""
        assert version_of(payload) is None
