"""Where no container engine is, each test here is skipped by name, and says how it would run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import engine

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here need an engine; those of other folders come by too."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(engine.needed())


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Neither of this run, nor of earlier ones that were killed."""
    engine.sweep()
    yield
    engine.sweep(also=os.getpid())
