"""How long the fuzzing looks: seconds in every run of the tests, minutes under ``make fuzz``."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""Minutes that the whole folder may take; 0 in every other run, which is the same each time."""

USUAL_MINUTES = 1.5
"""What it takes otherwise."""

TIMES = max(1.0, MINUTES / USUAL_MINUTES)

patient = pytest.mark.timeout(240 * TIMES)
"""For tests whose time is that of their examples."""


def effort(examples: int, **more: Any) -> settings:
    """So many examples: always the same ones, or under ``make fuzz`` more, and others each time."""
    return settings(
        max_examples=int(examples * TIMES),
        derandomize=not MINUTES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
