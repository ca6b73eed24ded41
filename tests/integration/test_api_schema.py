"""The REST interface against its own OpenAPI document, by requests that schemathesis makes up.

What is well-formed may still be refused (a bus that is not there, two fields that contradict), so
that alone is not held against it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, given, settings
from patience import PATIENCE_S
from schemathesis.checks import CHECKS
from support import FEEDERS

from flexfeeder.testing import System, system, wait_until
from services.bus import BrokerAddress
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.streams import Streams

EXAMPLES = 60
"""Requests made up for each route, of each kind."""

SLOW = (503, 504)
"""What is answered for a service that this machine has no time for; once more is asked then."""

_LOG = structlog.get_logger()
_STREAMS = Streams(_LOG)
_BRIDGE = Bridge(BrokerAddress("127.0.0.1", 1), "ieee123", _STREAMS, _LOG)
_APP = create_app(_BRIDGE, _STREAMS, _LOG)
_DOCUMENTED: Iterable[Any] = schemathesis.openapi.from_dict(_APP.openapi()).get_all_operations()
OPERATIONS = {
    operation.ok().label: operation.ok()
    for operation in _DOCUMENTED
    if operation.ok().path != "/events"  # a stream has no end to wait for
}
CASES = [
    pytest.param(label, kind, id=f"{label} {kind.value}")
    for label, operation in OPERATIONS.items()
    for kind in schemathesis.GenerationMode
    # Nothing can be malformed where nothing is asked.
    if kind.is_positive or operation.body or operation.query or operation.path_parameters
]
NOT_HELD: list[Any] = [
    check for check in CHECKS.get_all() if check.__name__ == "positive_data_acceptance"
]


@pytest.fixture(scope="module")
def served() -> Iterator[System]:
    with system(feeders_dir=FEEDERS) as running:
        yield running


@pytest.mark.parametrize(("label", "kind"), CASES)
def test_every_answer_is_as_documented(
    label: str, kind: schemathesis.GenerationMode, served: System
) -> None:
    """No server error, a documented status and shape; and what is malformed is refused."""

    @given(case=OPERATIONS[label].as_strategy(generation_mode=kind))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: schemathesis.Case[Any]) -> None:
        answer = case.call(base_url=served.url, timeout=PATIENCE_S)
        if answer.status_code in SLOW:
            wait_until(served.is_ready, "everybody is there")
            answer = case.call(base_url=served.url, timeout=PATIENCE_S)
        case.validate_response(answer, excluded_checks=NOT_HELD)

    holds()
