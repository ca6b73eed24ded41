"""The REST interface by sequences of requests that schemathesis makes up: each goes on from what an
earlier one was answered, as its OpenAPI document says, or not quite.
"""

import uuid
from contextlib import suppress
from typing import Any

import patience
import schemathesis
import structlog
from hypothesis import Phase
from schemathesis.checks import CHECKS
from support import pids

from flexfeeder.testing import System, wait_until
from fuzz.asking import taken_back
from fuzz.effort import effort, patient
from fuzz.links import linked
from services.bus import BrokerAddress
from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.keys import HEADER, LONGEST_KEY
from services.gateway.streams import Streams

pytestmark = patient

_LOG = structlog.get_logger()
_STREAMS = Streams(_LOG)
_APP = create_app(Bridge(BrokerAddress("127.0.0.1", 1), "ieee123", _STREAMS, _LOG), _STREAMS, _LOG)
SCHEMA = schemathesis.openapi.from_dict(linked(_APP.openapi()))
NOT_HELD: list[Any] = [
    check for check in CHECKS.get_all() if check.__name__ == "positive_data_acceptance"
]
"""What is well-formed may still be refused: a bus that is not there, a name that is taken."""

FOR_NOW = {503, 504}
"""Somebody is away, or does not answer: on a busy machine that may be so for a moment."""


def test_no_sequence_of_requests_is_answered_otherwise_than_documented(served: System) -> None:
    """No server error, a documented status and shape; and what is malformed is refused."""
    before = pids(served)

    class Requests(SCHEMA.as_state_machine()):  # type: ignore[misc]
        """Each sequence begins with the feeder as it was, and with keys of its own."""

        def setup(self) -> None:
            self.own = uuid.uuid4().hex

        def before_call(self, case: schemathesis.Case[Any]) -> None:
            key = case.headers.get(HEADER)
            if isinstance(key, str) and 0 < len(key) <= LONGEST_KEY - len(self.own):
                case.headers[HEADER] = self.own + key

        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            return {"base_url": served.url}

        def validate_response(
            self, response: schemathesis.Response, case: schemathesis.Case[Any], **_kwargs: object
        ) -> None:
            answers = [response]

            def is_told() -> bool:
                if answers[-1].status_code in FOR_NOW:
                    answers.append(case.call(**self.get_call_kwargs(case)))
                return answers[-1].status_code not in FOR_NOW

            with suppress(TimeoutError):
                wait_until(is_told, "nobody is held up", every_s=0.1)
            response = answers[-1]
            case.validate_response(response, excluded_checks=NOT_HELD, recorder=self.recorder)

        def teardown(self) -> None:
            with patience.client(served.url) as http:
                taken_back(http)

    Requests.run(settings=effort(40, stateful_step_count=12, phases=[Phase.generate]))
    assert pids(served) == before
    assert "Traceback" not in served.log.read_text(encoding="utf-8")
