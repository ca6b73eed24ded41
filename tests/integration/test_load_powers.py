"""Many loads are set at once as they are one by one, and as cheaply as can be."""

from collections.abc import Iterator

import numpy as np
import pytest
from opendssdirect import dss
from support import FEEDERS

from services.solver.bus_rule import DemandInForce
from services.solver.elements import Source
from services.solver.engine import Engine
from services.solver.feeder import Feeder
from services.solver.load_powers import LoadPowers
from services.solver.network import Floats, Indices


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    yield
    dss.Basic.ClearAll()


def compiled(feeder: str) -> int:
    """Compiles a feeder; the number of its loads."""
    dss.Text.Command(f'Compile "{FEEDERS / feeder / "master.dss"}"')
    return int(dss.Loads.Count())


def read() -> list[tuple[float, float, float]]:
    """What the engine knows of each load: kW, kvar, power factor."""
    return [(dss.Loads.kW(), dss.Loads.kvar(), dss.Loads.PF()) for _ in dss.Loads]


def volts() -> Floats:
    dss.Solution.Solve()
    assert dss.Solution.Converged()
    return np.array(dss.Circuit.AllBusVolts())


def set_one_by_one(rows: Indices, kw: Floats, kvar: Floats) -> None:
    for row, its_kw, its_kvar in zip(rows.tolist(), kw.tolist(), kvar.tolist(), strict=True):
        dss.Loads.Idx(row + 1)
        dss.Loads.kW(its_kw)
        dss.Loads.kvar(its_kvar)


def some(count: int, share: float) -> tuple[Indices, Floats, Floats]:
    """Rows in any order, with demand of any sign."""
    dice = np.random.default_rng(count)
    rows = dice.permutation(count)[: max(1, int(share * count))]
    return rows, dice.uniform(-5.0, 60.0, len(rows)), dice.uniform(-20.0, 30.0, len(rows))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0], ids=["all", "half", "one"])
@pytest.mark.parametrize("feeder", ["ieee13", "ieee34", "ieee37", "ieee123"])
def test_the_engine_knows_and_solves_what_it_would_from_calls_for_each(
    feeder: str, share: float
) -> None:
    demand = some(compiled(feeder), share)
    set_one_by_one(*demand)
    known, solved = read(), volts()
    LoadPowers(dss).set(*some(compiled(feeder), share))
    assert read() == known
    np.testing.assert_allclose(volts(), solved, rtol=1e-9)


def test_the_matrix_is_not_built_anew() -> None:
    """Which would take longer than the solve."""
    count = compiled("ieee123")
    powers = LoadPowers(dss)
    dss.Solution.Solve()
    powers.set(*some(count, 1.0))
    assert not dss.Solution.SystemYChanged()


def test_loads_that_come_later_are_set_too() -> None:
    count = compiled("ieee123")
    powers = LoadPowers(dss)
    dss.Text.Command("New Load.late bus1=47 kv=4.16 kW=0 kvar=0")
    powers.set(np.array([0, count]), np.array([7.0, 8.0]), np.array([1.0, 2.0]))
    assert [known[:2] for known in (read()[0], read()[-1])] == [(7.0, 1.0), (8.0, 2.0)]
    assert len(read()) == count + 1


def test_whole_numbers_are_numbers() -> None:
    compiled("ieee13")
    LoadPowers(dss).set(np.array([1, 2]), np.array([7, 8]), np.array([[1, 0], [2, 0]])[:, 0])
    assert [known[:2] for known in read()[1:3]] == [(7.0, 1.0), (8.0, 2.0)]


def test_nothing_is_set_where_there_are_no_such_loads_and_solve_says_so() -> None:
    count = compiled("ieee123")
    powers = LoadPowers(dss)
    fewer = compiled("ieee13")
    before = read()
    powers.set(*some(count, 1.0))
    with pytest.raises(dss.DSSException):
        dss.Solution.Solve()
    assert read() == before
    assert fewer < count


def test_a_circuit_that_is_gone_does_no_harm() -> None:
    count = compiled("ieee123")
    powers = LoadPowers(dss)
    dss.Basic.ClearAll()
    powers.set(*some(count, 1.0))
    with pytest.raises(dss.DSSException):
        dss.Solution.Solve()


class TestModels:
    """A load of the 123 node feeder draws constant power, current or impedance, until it is known
    what it draws.
    """

    def test_a_load_that_is_metered_does_not_make_the_engine_build_its_matrix_anew(self) -> None:
        engine = Engine(Feeder.load(FEEDERS, "ieee123"))
        engine.solve()
        engine.set_loads(metered(engine))
        assert not dss.Solution.SystemYChanged()

    def test_nor_is_what_it_solves_any_different(self) -> None:
        engine = Engine(Feeder.load(FEEDERS, "ieee123"))
        engine.solve()
        engine.set_loads(metered(engine))
        solved = volts()
        for _ in dss.Loads:
            dss.Loads.Vminpu(dss.Loads.Vminpu())
        assert dss.Solution.SystemYChanged()
        np.testing.assert_allclose(volts(), solved, rtol=1e-5)


def metered(engine: Engine) -> list[DemandInForce]:
    """A tenth more than nominal at every load, of constant power."""
    return [
        DemandInForce(row, load.kw, 1.1 * load.kw, 1.1 * load.kvar, 1.0, Source.METER, True)
        for row, load in enumerate(engine.circuit.loads)
    ]
