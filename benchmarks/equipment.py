"""What devices, generators and relief add to a cycle, and what a thousand of them leave behind."""

import random
from collections.abc import Callable

import psutil

from benchmarks.cycle import Solver
from benchmarks.figures import Row, percentile, progress
from flexfeeder.testing import MOSQUITTO, mosquitto
from schemas.equipment import DeviceAddition, GeneratorAddition

COUNT = 1000
WARM_UP = 50
DEVICES = 200
GENERATORS = 50
PASSING = 1000
MOST_SOLVES = 6


def run() -> list[Row]:
    if MOSQUITTO is None:
        progress("devices, generators and relief: left out, mosquitto is not installed")
        return []
    progress("cycles with devices and generators, with relief, and after a thousand have passed")
    with mosquitto() as port, Solver("ieee123", port) as solver:
        return [_relieved(solver), _left_behind(solver), *_full(solver)]


def _relieved(solver: Solver) -> Row:
    """Two neighbourhoods and their loads: one over its rating, one just so."""
    demand = solver.twin.demand

    def overload(turn: int) -> None:
        demand.pin("1", "Load_1", 120.0 + 0.01 * (turn % 100), 30.0)

    def ease(turn: int) -> None:
        demand.pin("1", "Load_1", 40.0 + 0.01 * (turn % 100), 20.0)

    plain = _cycles(solver, ease)
    relieved = _cycles(solver, overload)
    solves = solver.twin.cycle(10**9, 0.0).solves
    demand.release("1", None)
    solver.owner.cycle()
    p50, base = percentile(relieved, 0.5), percentile(plain, 0.5)
    return Row(
        "cycle in which relief acts",
        f"p50 {p50:.2f} ms, {solves} solves",
        f"without p50 {base:.2f} ms",
        f"at most {MOST_SOLVES} solves, less than 3 ms more: {p50 - base:.2f} ms",
        solves <= MOST_SOLVES and p50 - base < 3.0,
    )


def _left_behind(solver: Solver) -> Row:
    demand, chance = solver.twin.demand, random.Random(1)
    buses = [load.bus for load in demand.loads]
    process = psutil.Process()

    def touch(turn: int) -> None:
        demand.pin("48", "Load_48", 200.0 + 0.01 * (turn % 100), 100.0)

    def pass_by(count: int) -> None:
        for number in range(count):
            bus = chance.choice(buses)
            if number % 4:
                demand.add_device(DeviceAddition(bus_name=bus, device_name="passing", kw=5.0))
                solver.owner.cycle()
                demand.disconnect_device(bus, "passing")
            else:
                wanted = GeneratorAddition(bus_name=bus, kw=5.0, kv=0.48, generator_name="passing")
                demand.add_generator(wanted)
                solver.owner.cycle()
                demand.remove_generator("passing")
            solver.owner.cycle()

    pass_by(100)
    before, memory = percentile(_cycles(solver, touch), 0.5), process.memory_info().rss / 1e6
    pass_by(PASSING)
    after, grown = percentile(_cycles(solver, touch), 0.5), process.memory_info().rss / 1e6 - memory
    return Row(
        f"after {PASSING} devices and generators have come and gone",
        f"cycle p50 {after:.3f} ms, {grown:+.1f} MB",
        f"before p50 {before:.3f} ms, {memory:.0f} MB",
        f"nothing left behind: ratio {after / before:.2f}",
        after <= 1.15 * before and grown < 5.0,
    )


def _full(solver: Solver) -> list[Row]:
    demand = solver.twin.demand
    buses = sorted({load.bus for load in demand.loads})

    def touch(turn: int) -> None:
        demand.pin("48", "Load_48", 200.0 + 0.01 * (turn % 100), 100.0)

    plain = _cycles(solver, touch)
    size = len(solver.twin.cycle(10**9, 0.0).state)
    for number in range(DEVICES):
        bus = buses[number % len(buses)]
        demand.add_device(DeviceAddition(bus_name=bus, device_name=f"d{number}", kw=0.1))
    for number in range(GENERATORS):
        bus = buses[number % len(buses)]
        demand.add_generator(GeneratorAddition(bus_name=bus, kw=1.0, kv=0.48))
    full = _cycles(solver, touch)
    full_size = len(solver.twin.cycle(10**9, 0.0).state)
    p50, base = percentile(full, 0.5), percentile(plain, 0.5)
    return [
        Row(
            f"cycle with {DEVICES} devices and {GENERATORS} generators",
            f"p50 {p50:.2f} ms, state of {full_size} bytes",
            f"without p50 {base:.2f} ms, {size} bytes",
            f"ratio at most 1.5: {p50 / base:.2f}",
            p50 <= 1.5 * base,
        )
    ]


def _cycles(solver: Solver, change: Callable[[int], None]) -> list[float]:
    """Milliseconds of each cycle after a change."""
    taken = []
    for turn in range(WARM_UP + COUNT):
        change(turn)
        taken.append(1000 * solver.owner.cycle())
    return taken[WARM_UP:]
