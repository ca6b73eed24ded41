"""Figures in the text format of Prometheus. Pure."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from schemas.replies import ServiceStatus
from schemas.topics import is_name

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

OWN = "flexfeeder_gateway_"
"""How the gateway's own figures begin."""

_FIGURE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class Sample(NamedTuple):
    """A figure; ``labels`` are names, so nothing in them needs an escape."""

    metric: str
    labels: dict[str, str]
    value: float


def figures(instance: str, status: ServiceStatus) -> Iterable[Sample]:
    """What a service says of itself, as ``flexfeeder_{service}_{figure}``; what has no proper name
    is left out, and so is what bears a name of the gateway's own figures.
    """
    labels = {"instance": instance}
    if status.feeder is not None and is_name(status.feeder):
        labels["feeder"] = status.feeder
    for name, value in status.figures.items():
        metric = f"flexfeeder_{status.service}_{name}"
        is_proper = _FIGURE.match(status.service) and _FIGURE.match(name)
        if is_proper and not metric.startswith(OWN):
            yield Sample(metric, labels, value)


def rendered(samples: Iterable[Sample]) -> str:
    """All samples, those of a metric together."""
    lines: dict[str, list[str]] = {}
    for metric, labels, value in samples:
        within = ",".join(f'{name}="{text}"' for name, text in labels.items())
        where = f"{{{within}}}" if within else ""
        lines.setdefault(metric, []).append(f"{metric}{where} {value:.17g}\n")
    return "".join(
        f"# TYPE {metric} untyped\n{''.join(found)}" for metric, found in sorted(lines.items())
    )
