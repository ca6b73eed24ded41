"""What the checker expects of operations, with figures worked by hand."""

import pytest

from chaos import rules
from chaos.operations import Kind, Operation
from chaos.sight import Key, Shown
from chaos.world import World

LOAD_1, LOAD_2 = Key("load", "1", "Load_1"), Key("load", "2", "Load_2")
EV = Key("device", "1", "ev")
SAID = {"name": "peak", "number": 3}


@pytest.fixture
def world() -> World:
    return World(1, {("1", "Load_1"): 40.0, ("2", "Load_2"): 20.0})


def do(world: World, kind: Kind, said: object = None, **body: object) -> None:
    rules.apply(world, Operation("c", 1, kind, body), said)


def refusal(world: World, kind: Kind, **body: object) -> str | None:
    return rules.refusal(world, Operation("c", 1, kind, body))


class TestDemand:
    def test_a_pin_sets_the_demand_and_the_factor_back(self, world: World) -> None:
        do(world, Kind.NEIGHBOURHOOD_FACTOR, neighbourhood=1, factor=0.5)
        do(world, Kind.PIN, bus_name="1", load_name="Load_1", new_kw=8.0)
        assert world.shown()[LOAD_1] == Shown(8.0, 8.0, 1.0, "operator", ())
        assert world.shown()[LOAD_2] == Shown(10.0, 10.0, 0.5, "nominal", ())

    def test_a_factor_multiplies_what_is_pinned(self, world: World) -> None:
        do(world, Kind.PIN, bus_name="1", load_name="Load_1", new_kw=8.0)
        do(world, Kind.BUS_FACTOR, bus_name="1", factor=0.25)
        assert world.shown()[LOAD_1] == Shown(2.0, 2.0, 0.25, "operator", ())

    def test_a_release_leaves_the_factor(self, world: World) -> None:
        do(world, Kind.PIN, bus_name="1", load_name="Load_1", new_kw=8.0)
        do(world, Kind.BUS_FACTOR, bus_name="1", factor=0.25)
        do(world, Kind.RELEASE, bus_name="1")
        assert world.shown()[LOAD_1] == Shown(10.0, 10.0, 0.25, "nominal", ())

    def test_a_device_has_no_factor(self, world: World) -> None:
        do(world, Kind.ADD_DEVICE, bus_name="1", device_name="ev", kw=7.0)
        do(world, Kind.BUS_FACTOR, bus_name="1", factor=0.5)
        assert world.shown()[EV] == Shown(7.0, 7.0, 1.0, "nominal", ())
        do(world, Kind.DISCONNECT_DEVICE, bus_name="1", device_name="ev")
        assert EV not in world.shown()


class TestPrograms:
    def test_devices_give_way_before_loads_to_the_lowest_cap(self, world: World) -> None:
        """40 + 7 kW; 42 leaves the device 2, and 30 leaves it nothing and the load 30."""
        do(world, Kind.ADD_DEVICE, bus_name="1", device_name="ev", kw=7.0)
        for name, number, kw in (("peak", 3, 42.0), ("low", 4, 30.0)):
            said = {"name": name, "number": number}
            do(world, Kind.REGISTER, said, name=name, min_power_kw=kw, target_pf=0.9)
            do(world, Kind.SUBSCRIBE, bus_name="1", dfp_number=number)
        do(world, Kind.EXECUTE, dfp_name="peak")
        assert (world.shown()[LOAD_1].set_kw, world.shown()[EV].set_kw) == (40.0, 2.0)
        do(world, Kind.EXECUTE, dfp_name="low")
        assert (world.shown()[LOAD_1].set_kw, world.shown()[EV].set_kw) == (30.0, 0.0)
        do(world, Kind.STOP, dfp_name="low")
        do(world, Kind.UNSUBSCRIBE, bus_name="1", dfp_name="peak")
        assert (world.shown()[LOAD_1].set_kw, world.shown()[EV].set_kw) == (40.0, 7.0)

    def test_executing_what_executes_is_no_new_execution(self, world: World) -> None:
        do(world, Kind.REGISTER, SAID, name="peak", min_power_kw=1.0, target_pf=0.9)
        for kind in (Kind.EXECUTE, Kind.EXECUTE, Kind.STOP, Kind.EXECUTE):
            do(world, kind, dfp_name="peak")
        assert world.registered()["peak"]["executions"] == 2

    def test_a_deleted_program_is_gone(self, world: World) -> None:
        do(world, Kind.REGISTER, SAID, name="peak", min_power_kw=1.0, target_pf=0.9)
        do(world, Kind.DELETE, name="peak")
        assert world.registered() == {}


class TestRefusals:
    def test_what_is_not_there(self, world: World) -> None:
        assert refusal(world, Kind.RELEASE, bus_name="1", load_name="x") == "load_not_found"
        assert (
            refusal(world, Kind.DISCONNECT_DEVICE, bus_name="1", device_name="Load_1")
            == "device_not_found"
        )
        assert refusal(world, Kind.REMOVE_GENERATOR, generator_name="g") == "generator_not_found"
        assert refusal(world, Kind.STOP, dfp_name="peak") == "program_not_found"
        assert refusal(world, Kind.SUBSCRIBE, bus_name="1", dfp_number=3) == "program_not_found"

    def test_what_is_there_already(self, world: World) -> None:
        do(world, Kind.REGISTER, SAID, name="peak", min_power_kw=1.0, target_pf=0.9)
        do(world, Kind.ADD_GENERATOR, {"generator_name": "g"}, bus_name="1", kw=2.0)
        taken = {"bus_name": "1", "device_name": "Load_1", "kw": 1.0}
        assert refusal(world, Kind.ADD_DEVICE, **taken) == "already_exists"
        assert (
            refusal(world, Kind.ADD_GENERATOR, bus_name="2", kw=1.0, generator_name="g")
            == "already_exists"
        )
        assert refusal(world, Kind.REGISTER, name="peak") == "already_exists"
        assert refusal(world, Kind.ADD_GENERATOR, bus_name="2", kw=1.0) is None
