"""Figures as Prometheus reads them."""

from schemas.replies import ServiceStatus
from services.gateway.metrics import Sample, figures, rendered


def status(**changes: object) -> ServiceStatus:
    return ServiceStatus.model_validate({"status": "online", "service": "solver", **changes})


def test_samples_of_a_metric_stand_together_under_its_type() -> None:
    samples = [
        Sample("b", {"instance": "x"}, 1.0),
        Sample("a", {}, True),
        Sample("b", {"instance": "y", "feeder": "f"}, 0.1),
    ]
    assert rendered(samples) == (
        "# TYPE a untyped\n"
        "a 1\n"
        "# TYPE b untyped\n"
        'b{instance="x"} 1\n'
        'b{instance="y",feeder="f"} 0.10000000000000001\n'
    )


def test_a_version_is_given_to_the_last_digit() -> None:
    assert rendered([Sample("v", {}, 12_000_000_042)]).endswith("\nv 12000000042\n")


def test_a_service_is_told_by_its_instance_and_feeder() -> None:
    said = status(feeder="ieee123", figures={"solves": 3.0})
    assert list(figures("solver-ieee123", said)) == [
        Sample("flexfeeder_solver_solves", {"instance": "solver-ieee123", "feeder": "ieee123"}, 3.0)
    ]


def test_what_has_no_proper_name_is_left_out() -> None:
    """A status comes from anybody."""
    assert list(figures("x", status(service='a"} 1\nb', figures={"solves": 1.0}))) == []
    assert list(figures("x", status(figures={"a b": 1.0, "": 2.0, "x\n": 3.0}))) == []
    [sample] = figures("x", status(feeder='f"', figures={"solves": 1.0}))
    assert sample.labels == {"instance": "x"}
