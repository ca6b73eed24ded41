"""Dashboards and alerts: as they are generated, and every metric that they name is one that the
services tell.
"""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import orjson
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
NAMED = re.compile(r"\b(?:flexfeeder|process|python)_[a-z0-9_]+\b")
OF_EVERY_PROCESS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented() -> set[str]:
    """Every series that docs/metrics.md lists, which a test of the registries holds true."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    series = set(OF_EVERY_PROCESS)
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", page, flags=re.MULTILINE):
        series |= (
            {f"{name}_bucket", f"{name}_sum", f"{name}_count"} if kind == "histogram" else {name}
        )
    return series


@pytest.mark.parametrize(
    "path", sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")), ids=lambda p: p.stem
)
def test_a_dashboard_is_as_it_is_generated(path: Path) -> None:
    """Run ``python deploy/dashboards.py`` after a change."""
    assert path.read_bytes() == generator().files()[path]


def test_there_is_a_dashboard_for_each_side_of_the_system() -> None:
    found = {path.stem for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    assert found == {"feeder", "programs", "messages", "health"}


def test_every_metric_of_a_dashboard_is_told() -> None:
    named = set()
    for path in (DEPLOY / "grafana" / "dashboards").glob("*.json"):
        for panel in orjson.loads(path.read_bytes())["panels"]:
            for target in panel["targets"]:
                found = set(NAMED.findall(target["expr"]))
                assert found or target["expr"].startswith("up{")
                named |= found
    assert len(named) > 30
    assert named - documented() == set()


def test_every_metric_of_an_alert_is_told_and_every_alert_is_explained() -> None:
    rules = (DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    expressions = re.findall(r"^ +expr: (.+)$", rules, flags=re.MULTILINE)
    alerts = re.findall(r"- alert: (\w+)$", rules, flags=re.MULTILINE)
    assert len(alerts) == len(expressions) > 10
    named = {name for expression in expressions for name in NAMED.findall(expression)}
    assert named - documented() == set()
    operating = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert [alert for alert in alerts if f"`{alert}`" not in operating] == []
