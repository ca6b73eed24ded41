"""Feeders of thousands of buses, where their files are at hand."""

import shutil
from pathlib import Path

import pytest

from schemas.state import State
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.twin import Twin

FOLDERS = (
    Path(__file__).parents[2] / "feeders-large",
    Path(__file__).parents[3] / "shared" / "feeders-large",
)
FOLDER = next((folder for folder in FOLDERS if folder.is_dir()), None)

CASES = {
    # folder: master file, buses, source kW (figures of the circuits solved by OpenDSS itself)
    "ieee8500": ("Master.dss", 4876, 11983.7),
    "epri_ckt5": ("Master_ckt5.dss", 2998, 7281.2),
    "epri_ckt24": ("master_ckt24.dss", 6058, 52124.6),
}


@pytest.mark.skipif(FOLDER is None, reason="feeders-large is not beside the repository")
@pytest.mark.parametrize("name", CASES)
def test_a_large_feeder_is_another_folder(name: str, tmp_path: Path) -> None:
    """It converges from a cold start with its controls acting, and its state keeps the contract.

    Its loads are left as they are: relief would shed some to spare a transformer.
    """
    assert FOLDER is not None
    master, buses, source_kw = CASES[name]
    (tmp_path / name).mkdir()
    for file in (FOLDER / name).iterdir():
        shutil.copyfile(file, tmp_path / name / file.name)
    config = f'name = "{name}"\nmaster = "{master}"\nload_floor = 1.0\n'
    (tmp_path / name / "feeder.toml").write_text(config)
    feeder = Feeder.load(tmp_path, name)
    twin = Twin(feeder, Engine(feeder))
    state = State.model_validate_json(twin.cycle(version=1, now=0.0).state)
    assert state.converged
    assert len(state.bus_details) == buses
    assert state.power_summary.total_circuit_power_kw == pytest.approx(source_kw, abs=1.0)
