"""The feeder folders against the published solutions of the IEEE test feeders.

Voltages are magnitudes line to neutral in pu, published to 1e-4 pu. The engine holds one circuit
at a time: every test compiles the feeder it is about.
"""

import csv
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opendssdirect import dss
from opendssdirect.enums import ControlModes

ROOT = Path(__file__).resolve().parents[2]
FEEDERS = ROOT / "feeders"
PUBLISHED = ROOT / "tests" / "data"

STANDARD_KVA = (15, 30, 45, 75, 112.5, 150, 225, 300, 500, 750, 1000, 1500, 2000, 2500)
HIGHEST_NOMINAL_LOADING = 0.90

NODE_OF_PHASE = {"A": "1", "B": "2", "C": "3"}
FLOATING_BUS = "610"  # unloaded delta winding: its line-to-neutral voltages have no meaning

# What a regulator may be off its band, in volts on the 120 V base: the tolerance of the solution.
BAND_SLACK_V = 0.02


@dataclass(frozen=True)
class Fidelity:
    """How near a feeder comes to its published solution."""

    largest_pu: float
    mean_pu: float
    source_kw: float
    source_kvar: float
    losses_kw: float


FIDELITY = {
    "ieee123": Fidelity(
        largest_pu=5.5e-4, mean_pu=1.8e-4, source_kw=1.0, source_kvar=3.0, losses_kw=0.2
    ),
    "ieee13": Fidelity(
        largest_pu=3e-4, mean_pu=1e-4, source_kw=0.5, source_kvar=1.0, losses_kw=0.1
    ),
}

# The normally open ties of the 123 node feeder: the buses at their two ends, and how many phases.
OPEN_TIES = {
    "sw7": ("250", "251", 3),
    "sw8": ("450", "451", 3),
    "sw9": ("54", "94", 1),
    "sw10": ("151", "300", 3),
    "sw11": ("300", "350", 3),
}
ISOLATED_BUSES = {"251", "451", "350"}


@pytest.fixture(autouse=True)
def engine() -> Iterator[None]:
    """An engine that stays in the working directory and is empty afterwards."""
    dss.Basic.AllowChangeDir(False)
    yield
    dss.Basic.ClearAll()


@pytest.fixture(params=sorted(FIDELITY))
def feeder(request: pytest.FixtureRequest) -> str:
    """The id of a compiled feeder; nothing of it is solved yet."""
    compile_feeder(request.param)
    return str(request.param)


@pytest.fixture
def ieee123() -> None:
    """The 123 node feeder, compiled."""
    compile_feeder("ieee123")


def compile_feeder(feeder: str) -> None:
    dss.Text.Command(f'Compile "{FEEDERS / feeder / "master.dss"}"')


def settings(feeder: str) -> dict[str, Any]:
    """The content of feeder.toml."""
    return tomllib.loads((FEEDERS / feeder / "feeder.toml").read_text())


def published(feeder: str, table: str) -> list[dict[str, str]]:
    """The rows of a published table."""
    with (PUBLISHED / f"{feeder}_published_{table}.csv").open() as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def published_taps(feeder: str) -> dict[str, int]:
    return {row["regulator"]: int(row["tap"]) for row in published(feeder, "taps")}


def taps() -> dict[str, int]:
    """The position of every regulator, 0 being neutral."""
    positions = {}
    for name in dss.RegControls.AllNames():
        dss.RegControls.Name(name)
        positions[name] = int(dss.RegControls.TapNumber())
    return positions


def set_taps(positions: dict[str, int]) -> None:
    for name, position in positions.items():
        dss.RegControls.Name(name)
        dss.RegControls.TapNumber(position)


def voltages() -> dict[str, float]:
    """Magnitude in pu of every node, by bus.node."""
    return dict(zip(dss.Circuit.AllNodeNames(), dss.Circuit.AllBusMagPu(), strict=True))


def energised_voltages() -> dict[str, float]:
    return {node: pu for node, pu in voltages().items() if node.split(".")[0] not in ISOLATED_BUSES}


def differences(feeder: str) -> dict[str, float]:
    """Distance in pu of every published node from its published voltage."""
    solved = voltages()
    rows = [row for row in published(feeder, "voltages") if row["bus"] != FLOATING_BUS]
    nodes = {f"{row['bus']}.{NODE_OF_PHASE[row['phase']]}": float(row["vmag_pu"]) for row in rows}
    return {node: abs(solved[node] - pu) for node, pu in nodes.items()}


def bus_of(terminal: str) -> str:
    return terminal.split(".", maxsplit=1)[0]


def loads() -> dict[str, tuple[str, complex]]:
    """Bus and nominal kW + j kvar of every load, by name."""
    found = {}
    for name in dss.Loads.AllNames():
        dss.Loads.Name(name)
        bus = bus_of(dss.CktElement.BusNames()[0])
        found[name] = (bus, complex(dss.Loads.kW(), dss.Loads.kvar()))
    return found


def branches() -> list[tuple[str, str]]:
    """The two buses of every closed line, switch and transformer."""
    names = [f"Line.{name}" for name in dss.Lines.AllNames()]
    names += [f"Transformer.{name}" for name in dss.Transformers.AllNames()]
    ends = []
    for name in names:
        dss.Circuit.SetActiveElement(name)
        if not dss.CktElement.IsOpen(2, 0):
            first, second = dss.CktElement.BusNames()
            ends.append((bus_of(first), bus_of(second)))
    return ends


def reachable(start: str, buses: set[str], ends: list[tuple[str, str]]) -> set[str]:
    """The buses of the set that can be reached without leaving it."""
    seen, fresh = {start}, {start}
    while fresh:
        touching = {pair for pair in ends if buses.issuperset(pair) and fresh.intersection(pair)}
        fresh = {bus for pair in touching for bus in pair} - seen
        seen |= fresh
    return seen


def compensated_volts(regulator: str) -> float:
    """What a regulator's control sees, in volts on the 120 V base.

    Its output less the drop it models to the load centre: |V / pt - (R + jX) I / ct|.
    """
    dss.RegControls.Name(regulator)
    pt, ct = dss.RegControls.PTRatio(), dss.RegControls.CTPrimary()
    drop = complex(dss.RegControls.ForwardR(), dss.RegControls.ForwardX())
    dss.Circuit.SetActiveElement(f"Transformer.{dss.RegControls.Transformer()}")
    secondary = 2 * dss.CktElement.NumConductors()  # first conductor of winding 2, as re, im pairs
    volts = complex(*dss.CktElement.Voltages()[secondary : secondary + 2])
    amperes = -complex(*dss.CktElement.Currents()[secondary : secondary + 2])
    return float(abs(volts / pt - drop * amperes / ct))


# The published case


def test_compiled_and_solved_alone_it_is_the_published_case(feeder: str) -> None:
    """The file's own taps are the published ones, its controls are off, and it solves."""
    dss.Solution.Solve()

    assert dss.Solution.Converged()
    assert dss.Solution.ControlMode() == ControlModes.Off
    assert taps() == published_taps(feeder)


def test_every_node_has_its_published_voltage(feeder: str) -> None:
    """With the published taps no node is off its published voltage by more than the fidelity."""
    set_taps(published_taps(feeder))
    dss.Solution.Solve()

    off = differences(feeder)
    bound = FIDELITY[feeder]
    assert {node: pu for node, pu in off.items() if pu > bound.largest_pu} == {}
    assert sum(off.values()) / len(off) <= bound.mean_pu


def test_source_and_losses_are_the_published_ones(feeder: str) -> None:
    """The source delivers, and the feeder loses, what the published totals say."""
    set_taps(published_taps(feeder))
    dss.Solution.Solve()

    totals = {row["quantity"]: float(row["value"]) for row in published(feeder, "totals")}
    drawn_kw, drawn_kvar = dss.Circuit.TotalPower()
    bound = FIDELITY[feeder]
    assert -drawn_kw == pytest.approx(totals["source_kw"], abs=bound.source_kw)
    assert -drawn_kvar == pytest.approx(totals["source_kvar"], abs=bound.source_kvar)
    assert dss.Circuit.Losses()[0] / 1000 == pytest.approx(totals["losses_kw"], abs=bound.losses_kw)


def test_figures_of_the_123_node_feeder() -> None:
    """The 123 node case is 3490 kW nominal, 3620.5 kW at the source, 95.6 kW of losses."""
    compile_feeder("ieee123")
    nominal = sum(power for _, power in loads().values())
    dss.Solution.Solve()

    assert nominal == pytest.approx(3490 + 1920j)
    assert -dss.Circuit.TotalPower()[0] == pytest.approx(3620.5, abs=1.0)
    assert dss.Circuit.Losses()[0] / 1000 == pytest.approx(95.6, abs=0.2)


# Regulators acting


def test_published_taps_are_a_rest_position(feeder: str) -> None:
    """Regulators that are switched on at the published taps have no reason to move."""
    dss.Solution.ControlMode(ControlModes.Static)
    dss.Solution.Solve()

    assert taps() == published_taps(feeder)


def test_regulators_converge_from_neutral(feeder: str) -> None:
    """From neutral taps every regulator brings what it watches into its band.

    Every energised node then lies within 0.95 to 1.07 pu (13 node: published at up to 1.0687).
    """
    set_taps(dict.fromkeys(taps(), 0))
    dss.Solution.ControlMode(ControlModes.Static)
    dss.Solution.Solve()

    assert dss.Solution.Converged()
    for regulator in dss.RegControls.AllNames():
        seen = compensated_volts(regulator)
        half_band = dss.RegControls.ForwardBand() / 2
        assert seen == pytest.approx(dss.RegControls.ForwardVreg(), abs=half_band + BAND_SLACK_V)
    assert all(0.95 < pu < 1.07 for pu in energised_voltages().values())


# The folder


def test_loads_are_named_after_their_bus(feeder: str) -> None:
    """A load is Load_<bus> where its bus has one, else Load_<bus>_<a|b|c>."""
    count = Counter(bus for bus, _ in loads().values())

    for name, (bus, _) in loads().items():
        rule = f"load_{bus}" if count[bus] == 1 else f"load_{bus}_[abc]"
        assert re.fullmatch(rule, name), f"{name} at bus {bus}"


def test_loads_keep_their_model_when_voltage_leaves_the_normal_range(feeder: str) -> None:
    """No load turns into an impedance between 0.5 and 1.5 pu."""
    for name in dss.Loads.AllNames():
        dss.Loads.Name(name)
        assert (dss.Loads.Vminpu(), dss.Loads.Vmaxpu()) == (0.5, 1.5)


def test_every_load_bus_belongs_to_one_neighbourhood(feeder: str) -> None:
    """Each bus with a load is listed once, and every listed bus and transformer bus exists."""
    areas = settings(feeder)["neighbourhoods"]
    membership = Counter(bus for area in areas for bus in area["buses"])
    load_buses = {bus for bus, _ in loads().values()}

    assert load_buses - membership.keys() == set()
    assert {bus for bus, times in membership.items() if times > 1} == set()
    assert membership.keys() - set(dss.Circuit.AllBusNames()) == set()
    assert all(area["transformer_bus"] in area["buses"] for area in areas)
    assert [area["number"] for area in areas] == list(range(1, len(areas) + 1))


def test_neighbourhoods_are_contiguous(feeder: str) -> None:
    """Every bus of a neighbourhood is reached from its transformer without leaving it."""
    ends = branches()

    for area in settings(feeder)["neighbourhoods"]:
        buses = set(area["buses"])
        assert reachable(area["transformer_bus"], buses, ends) == buses


def test_service_transformers_are_the_smallest_that_carry_the_nominal_demand(feeder: str) -> None:
    """A transformer is the smallest standard size that |sum of S| loads to at most 90 %."""
    for area in settings(feeder)["neighbourhoods"]:
        demand_kva = abs(sum(power for bus, power in loads().values() if bus in area["buses"]))
        fitting = min(k for k in STANDARD_KVA if demand_kva <= HIGHEST_NOMINAL_LOADING * k)
        assert fitting == area["transformer_kva"], f"neighbourhood {area['number']}"


def test_given_neighbourhoods_of_the_123_node_feeder() -> None:
    """Neighbourhood 1 holds 1, 3, 4 and 6 behind bus 1, and 2 holds 24 to 27 behind bus 24."""
    first, second = settings("ieee123")["neighbourhoods"][:2]

    assert {"1", "3", "4", "6"} <= set(first["buses"])
    assert first["transformer_bus"] == "1"
    assert {"24", "25", "26", "27"} <= set(second["buses"])
    assert second["transformer_bus"] == "24"


def test_every_bus_can_be_drawn(feeder: str) -> None:
    """Every bus of the circuit has coordinates of its own."""
    positions = []
    for bus in dss.Circuit.AllBusNames():
        dss.Circuit.SetActiveBus(bus)
        assert dss.Bus.Coorddefined(), bus
        positions.append((dss.Bus.X(), dss.Bus.Y()))

    assert len(set(positions)) == len(positions)


# Switches


def test_open_ties_stand_at_the_real_buses(ieee123: None) -> None:
    """The five ties are switches between buses of the feeder, open at their second end."""
    for name, (first, second, phases) in OPEN_TIES.items():
        dss.Circuit.SetActiveElement(f"Line.{name}")
        assert dss.Lines.IsSwitch()
        assert [bus_of(bus) for bus in dss.CktElement.BusNames()] == [first, second]
        assert dss.CktElement.NumPhases() == phases
        assert not dss.CktElement.IsOpen(1, 0)
        assert dss.CktElement.IsOpen(2, 0)


def test_isolated_buses_read_zero_until_their_tie_is_closed(ieee123: None) -> None:
    """A bus with nothing but an open tie reads 0 V; closed, it has the other side's voltage."""
    dss.Solution.Solve()
    without_supply = {node.split(".")[0] for node, pu in voltages().items() if pu < 1e-6}

    dss.Circuit.SetActiveElement("Line.SW7")
    dss.CktElement.Close(2, 0)
    dss.Solution.Solve()
    closed = voltages()

    assert without_supply == ISOLATED_BUSES
    assert all(math.isclose(closed[f"251.{n}"], closed[f"250.{n}"]) for n in (1, 2, 3))


def test_tie_to_94_joins_phase_a(ieee123: None) -> None:
    """SW9 closed, 94 has the voltage of phase A at 54; opened again, all is as before."""
    dss.Solution.Solve()
    before = voltages()
    dss.Circuit.SetActiveElement("Line.SW9")

    dss.CktElement.Close(2, 0)
    dss.Solution.Solve()
    joined = voltages()

    dss.Circuit.SetActiveElement("Line.SW9")
    dss.CktElement.Open(2, 0)
    dss.Solution.Solve()

    assert joined["94.1"] == pytest.approx(joined["54.1"], abs=1e-4)
    assert abs(before["94.1"] - before["54.1"]) > 0.03
    assert voltages() == pytest.approx(before, abs=2e-5)
