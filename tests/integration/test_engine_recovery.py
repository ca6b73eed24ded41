"""The engine spoilt from behind its back: what it then gives is what a fresh engine gives.

Text and typed calls go to the same circuit that the engine holds, past everything it remembers.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from opendssdirect import dss
from support import FEEDERS

from schemas.equipment import DeviceAddition, GeneratorAddition, Model
from services.solver.demand import Demand
from services.solver.doubt import RESTS
from services.solver.engine import Engine
from services.solver.feeder import Feeder, FeederError
from services.solver.solution import Positions, Solution

NAN = float("nan")

SAME_PU = 1e-5
SAME_KVA = 0.5
"""How near two solves of the same demand and positions are, from whatever start: a generator that
holds its voltage comes to a little other kvar for the same."""

FOLDERS = (
    Path(__file__).parents[2] / "feeders-large",
    Path(__file__).parents[3] / "shared" / "feeders-large",
)
LARGE = next((folder for folder in FOLDERS if folder.is_dir()), None)
MASTERS = {"ieee8500": "Master.dss", "epri_ckt5": "Master_ckt5.dss"}
needs_large = pytest.mark.skipif(LARGE is None, reason="feeders-large is not beside the repository")


class Plant:
    """An engine and the demand that it is told, without anything between them."""

    def __init__(self, feeder: str = "ieee123", folder: Path = FEEDERS) -> None:
        self.engine = Engine(Feeder.load(folder, feeder))
        circuit = self.engine.circuit
        self.demand = Demand(circuit.loads, circuit.buses, {})
        self.engine.set_loads(self.demand.demands())

    @classmethod
    def equipped(cls) -> "Plant":
        """With demand of every kind, and equipment that has come, gone and moved."""
        plant = cls()
        demand = plant.demand
        for index, load in enumerate(plant.engine.circuit.loads):
            if index % 2:
                demand.pin(load.bus, load.name, load.kw * (0.5 + index % 7 / 10), None)
        for name, at, kw in (("a", "47", 12.0), ("b", "76", 20.0), ("c", "60", 8.0)):
            demand.add_device(DeviceAddition(bus_name=at, device_name=name, kw=kw, kvar=kw / 4))
        generators: tuple[tuple[str, str, float | None, Model], ...] = (
            ("direct", "13", None, 1),
            ("behind a step-up", "47", 0.48, 1),
            ("gone", "76", 0.48, 1),
            ("holds its voltage", "60", 0.48, 3),
            ("moves", "35", 0.48, 1),
        )
        for name, at, kv, model in generators:
            demand.add_generator(
                GeneratorAddition(
                    bus_name=at,
                    generator_name=name.replace(" ", "_"),
                    kw=30.0,
                    kvar=5.0,
                    kv=kv,
                    model=model,
                )
            )
        plant.solve()
        demand.disconnect_device("76", "b")
        demand.remove_generator("gone")
        demand.remove_generator("moves")
        plant.solve()
        # In the place of the one that moves, without a step-up.
        demand.add_generator(
            GeneratorAddition(bus_name="35", generator_name="moved", kw=10.0, kvar=0.0)
        )
        plant.solve()
        return plant

    def solve(self, *, controls: bool = True) -> Solution:
        self.engine.place(self.demand.take_placements())
        demands, generation = self.demand.take_changed()
        self.engine.set_loads(demands)
        self.engine.set_generators(generation)
        solution = self.engine.solve(controls=controls)
        assert_finite(solution)
        return solution


def assert_finite(solution: Solution) -> None:
    for figures in (
        solution.v_pu,
        solution.angle_deg,
        solution.load_kva,
        solution.generator_kva,
        solution.transformer_kva,
        [solution.source_kva, solution.losses_kva],
    ):
        assert np.isfinite(figures).all()


def assert_same(actual: Solution, expected: Solution) -> None:
    assert actual.converged
    assert expected.converged
    assert actual.taps == expected.taps
    assert actual.steps == expected.steps
    assert np.abs(actual.v_pu - expected.v_pu).max() < SAME_PU
    for ours, theirs in (
        (actual.load_kva, expected.load_kva),
        (actual.generator_kva, expected.generator_kva),
        (actual.transformer_kva, expected.transformer_kva),
        (actual.source_kva, expected.source_kva),
        (actual.losses_kva, expected.losses_kva),
    ):
        assert np.shape(ours) == np.shape(theirs)
        assert np.abs(np.subtract(ours, theirs)).max(initial=0.0) < SAME_KVA


def assert_as_fresh(plant: Plant, solution: Solution, fresh: Callable[[], Plant]) -> None:
    """The solution is that of another engine from the start, with the same positions."""
    positions = plant.engine.positions()
    other = fresh()
    other.engine.set_positions(positions)
    assert_same(solution, other.solve(controls=False))


def spread() -> None:
    """Solve with the poison in it, so that nothing is left that it has not reached."""
    with suppress(dss.DSSException):
        dss.Solution.Solve()


def text(command: str) -> Callable[[], None]:
    return lambda: dss.Text.Command(command)


def of_load(index: int, **power: float) -> Callable[[], None]:
    """Give the load of an index (from 1) a kW or kvar."""

    def set_power() -> None:
        dss.Loads.Idx(index)
        for name, value in power.items():
            getattr(dss.Loads, name)(value)

    return set_power


def of_generator(index: int, kw: float) -> Callable[[], None]:
    def set_power() -> None:
        dss.Generators.Idx(index)
        dss.Generators.kW(kw)

    return set_power


POISONS = {
    "NaN kW of a load": of_load(2, kW=NAN),
    "NaN kvar of a load": of_load(1, kvar=NAN),
    "NaN kW of a device": of_load(92, kW=NAN),
    "NaN kW of a generator": of_generator(2, NAN),
    "infinite kW": of_load(2, kW=float("inf")),
    "1e30 kW": of_load(2, kW=1e30),
    "1e300 kvar": of_load(2, kvar=1e300),
    "-1e12 kW of a generator": of_generator(1, -1e12),
    "a line of 1e9 ohm": text("Edit Line.67_72 r1=1e9 x1=1e9"),
    "a line of NaN ohm": text("Edit Line.67_72 r1=nan"),
    "a line of no ohm": text("Edit Line.67_72 r1=0 x1=0 r0=0 x0=0 c1=0 c0=0"),
    "a line to the moon": text("Edit Line.67_72 length=1e12"),
    "a line switched off": text("Edit Line.67_72 enabled=no"),
    "a line opened": text("Open Line.67_72 1"),
    "a load disabled": text("Disable Load.load_7"),
    "a load of nominal demand disabled": text("Disable Load.load_1"),
    "a device disabled": text("Edit Load.ff_device_0 enabled=no"),
    "a source of NaN": text("Edit Vsource.source pu=nan"),
    "a source of ten times its voltage": text("Edit Vsource.source pu=10"),
    "a tap of NaN": text("Edit Transformer.reg1a wdg=2 tap=nan"),
    "one iteration": text("Set MaxIterations=1"),
    "another mode": text("Set mode=yearly number=3"),
    "no circuit": dss.Basic.ClearAll,
    "another circuit": text(f'Compile "{FEEDERS / "ieee13" / "master.dss"}"'),
}


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    yield
    dss.Basic.ClearAll()


class TestPoison:
    @pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
    @pytest.mark.parametrize("is_spread", [True, False], ids=["solved with", "unsolved"])
    def test_the_next_solve_is_that_of_a_fresh_engine(
        self, poison: Callable[[], None], is_spread: bool
    ) -> None:
        plant = Plant.equipped()
        poison()
        if is_spread:
            spread()
        assert_as_fresh(plant, plant.solve(), Plant.equipped)
        assert plant.engine.rebuilds <= 1

    def test_everything_can_be_changed_afterwards(self) -> None:
        """Rows and places are where they were: what comes, goes and is set reaches its element."""

        def changed(plant: Plant) -> Solution:
            demand = plant.demand
            demand.disconnect_device("47", "a")
            demand.remove_generator("behind_a_step-up")
            for index, (at, kw) in enumerate((("18", 3.0), ("47", 5.0), ("105", 7.0))):
                name = f"new_{index}"
                demand.add_device(DeviceAddition(bus_name=at, device_name=name, kw=kw))
                demand.add_generator(
                    GeneratorAddition(bus_name=at, generator_name=f"g{index}", kw=2 * kw, kv=0.24)
                )
            for load in plant.engine.circuit.loads[::3]:
                demand.pin(load.bus, load.name, 0.8 * load.kw, 0.1 * load.kw)
            for load in plant.engine.circuit.loads[1::3]:
                demand.release(load.bus, load.name)
            return plant.solve()

        def fresh() -> Plant:
            other = Plant.equipped()
            changed(other)
            return other

        plant = Plant.equipped()
        of_load(2, kW=NAN)()
        spread()
        plant.solve()
        assert plant.engine.rebuilds == 1
        solution = changed(plant)
        devices = solution.load_kva[len(plant.engine.circuit.loads) :]
        assert devices.real == pytest.approx([5.0, 0.0, 8.0, 3.0, 7.0], abs=0.01)
        assert_as_fresh(plant, solution, fresh)

    def test_what_is_put_right_needs_no_other_circuit(self) -> None:
        plant = Plant.equipped()
        of_load(2, kW=NAN)()
        spread()
        plant.engine.set_loads(plant.demand.demands())
        assert_as_fresh(plant, plant.solve(), Plant.equipped)
        assert plant.engine.rebuilds == 0

    def test_one_that_helped_is_followed_by_another_at_once(self) -> None:
        plant = Plant.equipped()
        for times in (1, 2, 3):
            of_load(2, kW=NAN)()
            assert plant.solve().converged
            assert plant.engine.rebuilds == times

    def test_nan_that_is_asked_for_comes_to_nothing(self) -> None:
        """The demand model refuses it; if it ever did not, nothing of it would be published."""
        plant = Plant.equipped()
        before = plant.solve(controls=False)
        [wanted, *_] = plant.demand.demands()
        plant.engine.set_loads([wanted._replace(kw=NAN, kvar=NAN)])
        failed = plant.solve()
        assert not failed.converged
        assert (failed.v_pu == before.v_pu).all()
        plant.engine.set_loads([wanted])
        assert_as_fresh(plant, plant.solve(), Plant.equipped)

    def test_as_often_as_it_takes_without_growing(self) -> None:
        """200 circuits after another are no more to keep than one: less than 100 kB each."""
        plant = Plant.equipped()

        def poisoned(times: int) -> None:
            for _ in range(times):
                of_load(2, kW=NAN)()
                assert plant.solve().converged

        poisoned(20)
        before = resident_kb()
        poisoned(200)
        assert plant.engine.rebuilds == 220
        assert resident_kb() - before < 200 * 100


class TestNoSolution:
    def test_the_last_good_figures_stay_and_few_circuits_are_built_for_nothing(self) -> None:
        """1e6 kW at bus 61, and another demand elsewhere at each of 4 * RESTS solves: one at once,
        and one each time that as many solves as RESTS have passed.
        """
        plant = Plant.equipped()
        before = plant.solve()
        plant.demand.add_device(DeviceAddition(bus_name="61", device_name="mill", kw=1e6))
        load = plant.engine.circuit.loads[0]
        for number in range(4 * RESTS):
            plant.demand.pin(load.bus, load.name, 10 + number % 10, None)
            failed = plant.solve()
            assert failed.converged is False
            assert (failed.v_pu == before.v_pu).all()
            assert (failed.taps, failed.steps) == (before.taps, before.steps)
            assert (failed.load_kva[:-1] == before.load_kva).all()
        assert plant.engine.rebuilds == 4
        plant.demand.disconnect_device("61", "mill")
        plant.demand.pin(load.bus, load.name, 10, None)

        def fresh() -> Plant:
            other = Plant.equipped()
            other.demand.add_device(DeviceAddition(bus_name="61", device_name="mill", kw=1.0))
            other.solve()
            other.demand.disconnect_device("61", "mill")
            other.demand.pin(load.bus, load.name, 10, None)
            return other

        assert_as_fresh(plant, plant.solve(), fresh)
        assert plant.engine.rebuilds == 4

    def test_the_same_question_is_put_to_one_new_circuit_only(self) -> None:
        plant = Plant.equipped()
        plant.demand.add_device(DeviceAddition(bus_name="61", device_name="mill", kw=1e6))
        for _ in range(3 * RESTS):
            assert not plant.solve().converged
        assert plant.engine.rebuilds == 1

    def test_what_is_solvable_with_relief_only_is_as_cheap(self) -> None:
        """A solve without relief that fails, and one with it that does not, in turn."""
        plant = Plant.equipped()
        for number in range(RESTS):
            plant.demand.pin("1", "Load_1", 1e6 + number, None)
            assert not plant.solve().converged
            plant.demand.pin("1", "Load_1", 20.0, None)
            assert plant.solve().converged
        assert plant.engine.rebuilds == 2

    def test_a_circuit_spoilt_meanwhile_is_not_for_ever(self) -> None:
        """Spoilt after one was built for nothing: it has to wait for its turn."""
        plant = Plant.equipped()
        plant.demand.pin("1", "Load_1", 1e6, None)
        assert not plant.solve().converged
        plant.demand.pin("1", "Load_1", 20.0, None)
        of_load(1, kW=20.0)()
        of_load(2, kW=NAN)()
        load = plant.engine.circuit.loads[2]
        for number in range(RESTS):
            plant.demand.pin(load.bus, load.name, 10.0 + number, None)
            if plant.solve().converged:
                break
        assert plant.engine.rebuilds == 2
        assert plant.solve().converged


class TestFilesThatChange:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The 123 node feeder with the last of its scripts outside of its folder."""
        shutil.copytree(FEEDERS / "ieee123", tmp_path / "feeders" / "ieee123")
        folder = tmp_path / "feeders" / "ieee123"
        (folder / "capacitors.dss").rename(tmp_path / "capacitors.dss")
        master = folder / "master.dss"
        script = master.read_text()
        assert "Redirect capacitors.dss" in script
        master.write_text(script.replace("capacitors.dss", "../../capacitors.dss"))
        return folder

    def test_a_circuit_is_not_given_up_for_another(self, folder: Path) -> None:
        plant = Plant(folder=folder.parent)
        before = plant.solve()
        loads = folder / "loads.dss"
        script = loads.read_text()
        loads.write_text(script + "\nNew Load.more bus1=1.1 phases=1 kv=2.4 kw=1 kvar=0\n")
        of_load(2, kW=NAN)()
        spread()
        failed = plant.solve()
        assert not failed.converged
        assert (failed.v_pu == before.v_pu).all()
        assert plant.engine.rebuilds == 0
        plant.engine.set_loads(plant.demand.demands())
        assert_same(plant.solve(controls=False), before)

        of_load(2, kW=NAN)()
        loads.write_text(script)
        assert any(plant.solve().converged for _ in range(RESTS))
        assert plant.engine.rebuilds == 1

    @pytest.mark.parametrize(
        ("script", "problem"),
        [
            ("New Capacitor.C83 bus1=83", "has other elements"),
            ("Redirect nowhere.dss", "does not compile"),
        ],
    )
    def test_one_that_cannot_be_built_any_more_is_the_end(
        self, folder: Path, script: str, problem: str
    ) -> None:
        plant = Plant(folder=folder.parent)
        plant.solve()
        (folder.parents[1] / "capacitors.dss").write_text(script)
        of_load(2, kW=NAN)()
        with pytest.raises(FeederError, match=problem):
            plant.engine.solve()


class TestPositions:
    def test_a_fresh_engine_goes_on_from_them(self) -> None:
        """To 1e-9 pu: a cold start from the same positions comes to the same end."""
        plant = Plant.equipped()
        for load in plant.engine.circuit.loads:
            plant.demand.set_bus_factor(load.bus, 1.2)
        plant.solve()
        positions = plant.engine.positions()
        assert set(positions.taps) == {
            "reg1a", "reg2a", "reg3a", "reg3c", "reg4a", "reg4b", "reg4c"
        }  # fmt: skip
        assert positions.steps == {"c83": (1,), "c88": (1,), "c90": (1,), "c92": (1,)}
        plant.engine.set_positions(positions)
        expected = plant.solve(controls=False)

        other = Plant.equipped()
        for load in other.engine.circuit.loads:
            other.demand.set_bus_factor(load.bus, 1.2)
        other.engine.set_positions(Positions.from_json(positions.to_json()))
        actual = other.solve(controls=False)
        assert actual.taps == expected.taps
        assert np.abs(actual.v_pu - expected.v_pu).max() < 1e-9

    def test_names_are_what_counts(self) -> None:
        plant = Plant()
        before = plant.engine.positions()
        wanted = Positions({"REG2A": 3, "unknown": 5}, {"C88": (0,), "c92": (1, 1), "none": (0,)})
        plant.engine.set_positions(wanted)
        after = plant.engine.positions()
        assert after.taps == {**before.taps, "reg2a": 3}
        assert after.steps == {**before.steps, "c88": (0,)}
        assert plant.solve(controls=False).taps == tuple(after.taps.values())

    def test_a_capacitor_that_is_out_stays_out(self) -> None:
        """C83 is 600 kvar. Out it stays through a failure, and through another circuit."""
        plant = Plant.equipped()
        before = plant.solve(controls=False)
        plant.engine.set_positions(Positions({}, {"C83": (0,)}))
        out = plant.solve(controls=False)
        assert out.source_kva.imag - before.source_kva.imag > 500
        plant.demand.pin("1", "Load_1", 1e6, None)
        assert not plant.solve().converged
        assert plant.engine.rebuilds == 1
        assert plant.engine.positions().steps["c83"] == (0,)
        load = plant.engine.circuit.loads[0]
        plant.demand.release(load.bus, load.name)
        assert_same(plant.solve(controls=False), out)

    @pytest.mark.parametrize(
        "content",
        [
            None,
            [],
            {},
            {"taps": {}},
            {"taps": {"a": "x"}, "steps": {}},
            {"taps": {"a": 2**40}, "steps": {}},
            {"taps": {}, "steps": {"c": 1}},
            {"taps": {}, "steps": {"c": [7]}},
        ],
    )
    def test_what_are_no_positions_is_refused(self, content: object) -> None:
        with pytest.raises(ValueError, match="no positions"):
            Positions.from_json(content)


@pytest.fixture
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Plant]:
    """A feeder of thousands of buses, copied: the engine writes beside its files."""
    assert LARGE is not None
    name = request.param
    shutil.copytree(LARGE / name, tmp_path / name)
    config = f'name = "{name}"\nmaster = "{MASTERS[name]}"\n'
    (tmp_path / name / "feeder.toml").write_text(config)
    return lambda: Plant(name, tmp_path)


@needs_large
class TestLargeFeeders:
    @pytest.mark.parametrize("large", MASTERS, indirect=True)
    def test_a_fresh_engine_goes_on_from_the_positions(self, large: Callable[[], Plant]) -> None:
        plant = large()
        plant.solve()
        positions = plant.engine.positions()
        plant.engine.set_positions(positions)
        expected = plant.solve(controls=False)
        other = large()
        other.engine.set_positions(Positions.from_json(positions.to_json()))
        actual = other.solve(controls=False)
        assert np.abs(actual.v_pu - expected.v_pu).max() < 1e-9
        assert other.engine.positions() == positions

    @pytest.mark.parametrize("large", MASTERS, indirect=True)
    def test_poison_is_overcome(self, large: Callable[[], Plant]) -> None:
        plant = large()
        before = plant.solve()
        plant.engine.set_positions(plant.engine.positions())
        before = plant.solve(controls=False)
        of_load(5, kvar=NAN)()
        spread()
        assert_same(plant.solve(controls=False), before)
        assert plant.engine.rebuilds == 1

    @pytest.mark.parametrize("large", ["epri_ckt5"], indirect=True)
    def test_controls_know_of_capacitors_that_were_set(self, large: Callable[[], Plant]) -> None:
        """Their controls switch all four out; put in again, they are switched out again."""
        plant = large()
        first = plant.solve()
        assert first.steps == ((0,),) * 4
        out = plant.engine.positions()
        plant.engine.set_positions(Positions({}, dict.fromkeys(out.steps, (1,))))
        locked = plant.solve(controls=False)
        assert locked.steps == ((1,),) * 4
        assert locked.source_kva.imag - first.source_kva.imag < -1000
        assert_same(plant.solve(), first)


class TestScriptsDoNoHarm:
    def test_nothing_runs_and_nobody_moves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An editor, a shell and another folder, as text has them, after start and rebuild."""
        monkeypatch.chdir(tmp_path)
        ran = tmp_path / "ran"
        editor = tmp_path / "editor.sh"
        editor.write_text(f"#!/bin/sh\ntouch {ran}\n")
        editor.chmod(0o755)
        plant = Plant()
        for _ in range(2):
            assert Path.cwd() == tmp_path
            dss.Text.Command(f"Set Editor={editor}")
            for command in (
                f"FileEdit {editor}",
                f"DOScmd {editor}",
                f"DOScmd=({editor})",
                f"CD {tmp_path.parent}",
                f"Set DataPath={tmp_path.parent}",
            ):
                with suppress(dss.DSSException):
                    dss.Text.Command(command)
            of_load(2, kW=NAN)()
            assert plant.solve().converged
        assert plant.engine.rebuilds == 2
        assert Path.cwd() == tmp_path
        assert not ran.exists()

    def test_the_environment_does_not_allow_it_again(self) -> None:
        script = (
            "from services.solver.engine import dss; basic = dss.Basic; "
            "print(basic.AllowEditor(), basic.AllowDOScmd(), basic.AllowChangeDir())"
        )
        allowed = dict.fromkeys(
            ("DSS_CAPI_ALLOW_EDITOR", "DSS_CAPI_ALLOW_DOSCMD", "DSS_CAPI_ALLOW_CHANGE_DIR"), "1"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, **allowed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["False"] * 3


def resident_kb() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")
