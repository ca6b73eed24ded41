"""What the solver answers, held against the contract."""

from schemas.errors import Detail, ErrorCode, Refusal
from schemas.replies import Accepted, Refused
from services.outcomes import Done
from services.requests import _encoded


def test_an_accepted_command_is_answered_with_its_version_and_buses() -> None:
    done = Done("load Load_1 at bus 1 pinned to 5 kW", ("1",))
    assert Accepted.model_validate_json(_encoded("r-1", done, 7)) == Accepted(
        request_id="r-1", message="load Load_1 at bus 1 pinned to 5 kW", version=7, buses=("1",)
    )


def test_a_refused_command_is_answered_with_its_code_and_fields() -> None:
    refusal = Refusal.of_field(ErrorCode.BUS_NOT_FOUND, "bus_name", "there is no bus '9'")
    assert Refused.model_validate_json(_encoded(None, refusal, 7)) == Refused(
        code=ErrorCode.BUS_NOT_FOUND,
        message="bus_name: there is no bus '9'",
        details=(Detail(field="bus_name", problem="there is no bus '9'"),),
    )
