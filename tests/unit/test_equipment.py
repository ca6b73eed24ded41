"""Devices and generators: what may be asked for, and what becomes of it in the demand.

Bus 1 has Load_1 of 40 kW and 20 kvar, bus 2 Load_2 of 30 kW and 40 kvar, bus 150 no load. All have
three phases, are grounded, and of 4.16 kV.
"""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)
from pydantic import TypeAdapter, ValidationError
from support import buses_named

from schemas.commands import SOLVER_COMMANDS
from schemas.equipment import (
    MOST_DEVICES,
    MOST_GENERATORS,
    AddDevice,
    AddGenerator,
    DeviceAddition,
    DisconnectDevice,
    GeneratorAddition,
    RemoveGenerator,
)
from schemas.errors import ErrorCode, Refusal
from schemas.programs import Adjustments, BusAdjustment, ProgramInForce
from schemas.readings import Reading
from services.outcomes import Done
from services.solver.bus_rule import DemandInForce, ReliefCap
from services.solver.demand import Demand, GenerationInForce, ReadingOutcome
from services.solver.elements import Held, Kind, NominalLoad, Power, Source
from services.solver.handlers import handle
from services.solver.roster import Placement

T0 = 1_800_000_000.0

LOADS = (
    NominalLoad("Load_1", bus="1", kw=40.0, kvar=20.0),
    NominalLoad("Load_2", bus="2", kw=30.0, kvar=40.0),
)
NOMINAL = {"Load_1": Power(40.0, 20.0), "Load_2": Power(30.0, 40.0)}

EV = {"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.2, "kvar": 1.4, "pf": 0.98}
"""As it stands in the contract; kvar wins over pf."""
EV_AT_ONE_PHASE = {"bus_name": "1", "device_name": "EV_Charger_1", "kw": 7.5, "phases": 1}
GENERATOR: dict[str, Any] = {
    "bus_name": "1",
    "kv": 0.48,
    "kw": 50.0,
    "kvar": 10.0,
    "model": 1,
    "vmin_pu": 0.9,
    "vmax_pu": 1.1,
}
GENERATOR_ON_THREE_PHASES = {"bus_name": "1", "kw": 100, "phases": 3}


def feeder() -> Demand:
    return Demand(LOADS, buses_named("1", "2", "150"), {1: ["1", "2"]})


def device(name: str = "EV", bus: str = "1", kw: float = 10.0, **more: Any) -> DeviceAddition:
    return DeviceAddition(bus_name=bus, device_name=name, kw=kw, **more)


def generator(
    name: str | None = None, bus: str = "1", kw: float = 50.0, **more: Any
) -> GeneratorAddition:
    return GeneratorAddition(bus_name=bus, generator_name=name, kw=kw, **more)


def program(max_kw: float, pf: float = 1e-9, bus: str = "1") -> Adjustments:
    """The program "dfp" in force at one bus."""
    asked = (BusAdjustment(bus=bus, max_kw=max_kw, target_pf=pf),)
    return Adjustments(revision=1, programs=(ProgramInForce(name="dfp", number=1, buses=asked),))


def in_force(demand: Demand) -> dict[str, DemandInForce]:
    return {demand.consumer(each.row).name: each for each in demand.demands()}


def demands(demand: Demand) -> dict[str, Power]:
    return {name: Power(each.kw, each.kvar) for name, each in in_force(demand).items()}


def production(demand: Demand) -> dict[str, GenerationInForce]:
    return {demand.generator(each.row).name: each for each in demand.generation()}


def refusal(call: Any, *arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        call(*arguments)
    return refused.value


def metered(demand: Demand, bus: str, element: str, reading: Reading, at_s: float = 0.0) -> str:
    return demand.take_reading(bus, element, reading, T0 + at_s, retained=False)


def as_seen(placements: list[Placement]) -> list[tuple[str, int, bool]]:
    return [(each.element.name, each.element.row, each.is_there) for each in placements]


def valid(command: str, body: dict[str, Any]) -> Any:
    return SOLVER_COMMANDS[command].validate_json(json.dumps(body))


def problems(command: str, body: dict[str, Any]) -> set[str]:
    """The fields that are wrong in a body."""
    with pytest.raises(ValidationError) as invalid:
        valid(command, body)
    return {detail.field for detail in Refusal.of_validation(invalid.value).details}


class TestBodies:
    def test_the_devices_of_the_contract(self) -> None:
        expected = AddDevice(bus_name="1", device_name="EV_Charger_1", kw=7.2, kvar=1.4, pf=0.98)
        assert valid("add_device", EV) == expected
        expected = AddDevice(bus_name="1", device_name="EV_Charger_1", kw=7.5, phases=1)
        assert valid("add_device", EV_AT_ONE_PHASE) == expected

    def test_the_generators_of_the_contract(self) -> None:
        expected = AddGenerator(
            bus_name="1", kv=0.48, kw=50.0, kvar=10.0, model=1, vmin_pu=0.9, vmax_pu=1.1
        )
        assert valid("add_generator", GENERATOR) == expected
        expected = AddGenerator(bus_name="1", kw=100.0, phases=3)
        assert valid("add_generator", GENERATOR_ON_THREE_PHASES) == expected

    def test_what_takes_them_away_again(self) -> None:
        body = {"bus_name": "1", "device_name": "EV_Charger_1"}
        expected = DisconnectDevice(bus_name="1", device_name="EV_Charger_1")
        assert valid("disconnect_device", body) == expected
        body = {"generator_name": "generator_1"}
        assert valid("remove_generator", body) == RemoveGenerator(generator_name="generator_1")

    @pytest.mark.parametrize(
        ("said", "phase"),
        [("A", "A"), ("b", "B"), ("c", "C"), (1, "A"), (2, "B"), (3, "C")],
    )
    def test_a_phase_goes_by_letter_or_number(self, said: str | int, phase: str) -> None:
        assert valid("add_device", {**EV, "phase": said}).phase == phase
        assert valid("add_generator", {**GENERATOR, "phase": said}).phase == phase

    @pytest.mark.parametrize("model", [1, 2, 3, 4, 5, 7])
    def test_models_are_those_of_opendss_without_its_user_code(self, model: int) -> None:
        assert valid("add_generator", {**GENERATOR, "model": model}).model == model

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("kw", -0.1),
            ("kw", 1.1e6),
            ("kw", float("nan")),
            ("kw", float("inf")),
            ("kw", "7.2"),
            ("kw", True),
            ("kw", None),
            ("kvar", -1.1e6),
            ("kvar", float("nan")),
            ("pf", 0.0),
            ("pf", 1.01),
            ("pf", -0.9),
            ("phases", 0),
            ("phases", 4),
            ("phases", 20000),
            ("phases", 1.5),
            ("phases", True),
            ("phase", "D"),
            ("phase", 4),
            ("phase", 0),
            ("phase", True),
            ("phase", "AB"),
            ("phase", ["A"]),
            ("bus_name", "1.2"),
            ("bus_name", "1 2"),
            ("bus_name", ""),
            ("bus_name", 1),
            ("phasse", 1),
        ],
    )
    def test_what_is_wrong_is_named(self, field: str, value: Any) -> None:
        assert problems("add_device", {**EV, field: value}) == {field}
        assert problems("add_generator", {**GENERATOR, field: value}) == {field}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("kv", 0.0),
            ("kv", 0.09),
            ("kv", 501.0),
            ("kv", float("nan")),
            ("model", 0),
            ("model", 6),
            ("model", 8),
            ("model", "1"),
            ("vmin_pu", 0.0),
            ("vmax_pu", 2.0),
            ("vmax_pu", float("inf")),
            ("generator_name", "x=y.so"),
            ("generator_name", "a\n"),
            ("usermodel", "x.so"),
        ],
    )
    def test_what_is_wrong_with_a_generator_is_named(self, field: str, value: Any) -> None:
        """Model 6 would load code."""
        assert problems("add_generator", {**GENERATOR, field: value}) == {field}

    @pytest.mark.parametrize("name", ["EV 1", "EV\nclear", "EV.1", "", "x" * 65, 'EV"', None])
    def test_a_device_has_a_name_of_letters_and_digits(self, name: str | None) -> None:
        assert problems("add_device", {**EV, "device_name": name}) == {"device_name"}

    @pytest.mark.parametrize(("vmin_pu", "vmax_pu"), [(1.1, 0.9), (1.0, 1.0)])
    def test_the_lowest_voltage_is_below_the_highest(self, vmin_pu: float, vmax_pu: float) -> None:
        body = {**GENERATOR, "vmin_pu": vmin_pu, "vmax_pu": vmax_pu}
        with pytest.raises(ValidationError, match="must be below vmax_pu"):
            valid("add_generator", body)

    @pytest.mark.parametrize("field", ["bus_name", "kw"])
    def test_bus_and_power_are_required(self, field: str) -> None:
        assert problems("add_generator", {k: GENERATOR[k] for k in GENERATOR if k != field}) == {
            field
        }

    def test_all_problems_are_named_together(self) -> None:
        body = {**GENERATOR, "kw": -1, "phases": 4, "model": 6}
        assert problems("add_generator", body) == {"kw", "phases", "model"}

    @given(body=st.builds(GeneratorAddition, bus_name=st.just("1"), kw=st.floats(0, 1e6)))
    def test_a_body_survives_its_way(self, body: GeneratorAddition) -> None:
        adapter = TypeAdapter(GeneratorAddition)
        assert adapter.validate_json(body.model_dump_json()) == body


class TestHandlers:
    def test_a_device_comes_and_goes(self) -> None:
        demand = feeder()
        done = handle(valid("add_device", EV), demand)
        assert done == Done("device EV_Charger_1 added at bus 1", ("1",))
        assert demands(demand)["EV_Charger_1"] == Power(7.2, 1.4)
        body = {"bus_name": "1", "device_name": "EV_Charger_1"}
        done = handle(valid("disconnect_device", body), demand)
        assert done == Done("device EV_Charger_1 disconnected from bus 1", ("1",))
        assert demands(demand) == NOMINAL

    def test_a_generator_comes_with_its_name_and_goes(self) -> None:
        demand = feeder()
        done = handle(valid("add_generator", GENERATOR), demand)
        name = done.results["generator_name"]
        assert done == Done(f"generator {name} added at bus 1", ("1",), {"generator_name": name})
        assert production(demand)[name].kw == 50.0
        done = handle(valid("remove_generator", {"generator_name": name}), demand)
        assert done == Done(f"generator {name} removed from bus 1", ("1",))
        assert demand.generation() == []


class TestDevices:
    def test_a_device_adds_to_demand_and_leaves_the_loads_alone(self) -> None:
        demand = feeder()
        assert demand.add_device(device(kw=7.2, kvar=1.4)) == ("1",)
        assert demands(demand) == {**NOMINAL, "EV": Power(7.2, 1.4)}

    @pytest.mark.parametrize(
        ("more", "kvar"),
        [
            ({}, 0.0),
            ({"pf": 1.0}, 0.0),
            ({"pf": 0.8}, 7.5),
            ({"pf": 0.8, "kvar": 1.4}, 1.4),
            ({"pf": 0.8, "kvar": 0.0}, 0.0),
            ({"kvar": -2.0}, -2.0),
        ],
    )
    def test_kvar_wins_over_the_power_factor_and_that_over_none(
        self, more: dict[str, Any], kvar: float
    ) -> None:
        """10 kW at 0.8 are 12.5 kVA, of which 7.5 kvar."""
        demand = feeder()
        demand.add_device(device(kw=10.0, **more))
        assert demands(demand)["EV"].kvar == pytest.approx(kvar)

    def test_it_is_solved_as_constant_power(self) -> None:
        demand = feeder()
        demand.add_device(device())
        found = in_force(demand)["EV"]
        assert found.constant_power
        assert (found.source, found.factor, found.held_by) == (Source.NOMINAL, 1.0, ())

    def test_its_row_comes_after_those_of_the_loads(self) -> None:
        demand = feeder()
        demand.add_device(device("a"))
        demand.add_device(device("b", "2"))
        assert [demand.consumer(row).name for row in range(4)] == ["Load_1", "Load_2", "a", "b"]
        assert [each.row for each in demand.demands()] == [0, 1, 2, 3]

    def test_its_place_is_used_again(self) -> None:
        demand = feeder()
        for _ in range(100):
            demand.add_device(device())
            demand.disconnect_device("1", "EV")
        assert {row for _, row, _ in as_seen(demand.take_placements())} == {2}

    def test_what_comes_and_goes_is_told_in_order(self) -> None:
        demand = feeder()
        demand.add_device(device("a"))
        demand.disconnect_device("1", "a")
        demand.add_device(device("b"))
        assert demand.has_changed
        expected = [("a", 2, True), ("a", 2, False), ("b", 2, True)]
        assert as_seen(demand.take_placements()) == expected
        assert demand.take_placements() == []
        assert [each.row for each in demand.take_changed()[0]] == [2]
        assert not demand.has_changed

    def test_it_says_how_it_is_connected(self) -> None:
        demand = feeder()
        demand.add_device(device(phase="B"))
        (placement,) = demand.take_placements()
        assert placement.connection.nodes == (2,)
        assert placement.machine is None

    @pytest.mark.parametrize(
        ("wanted", "code", "field", "message"),
        [
            (device(bus="77"), ErrorCode.BUS_NOT_FOUND, "bus_name", "there is no bus '77'"),
            (
                device("Load_1"),
                ErrorCode.ALREADY_EXISTS,
                "device_name",
                "bus '1' has a load 'Load_1' already",
            ),
            (
                device("LOAD_1"),
                ErrorCode.ALREADY_EXISTS,
                "device_name",
                "bus '1' has a load 'Load_1' already",
            ),
            (
                device("HEATER"),
                ErrorCode.ALREADY_EXISTS,
                "device_name",
                "bus '1' has a device 'heater' already",
            ),
            (
                device("PV"),
                ErrorCode.ALREADY_EXISTS,
                "device_name",
                "bus '1' has a generator 'pv' already",
            ),
            (
                device(phases=3, phase="A"),
                ErrorCode.INVALID_VALUE,
                "phases",
                "phase A is one phase, not 3",
            ),
            (
                device(kw=1e6, pf=0.5),
                ErrorCode.INVALID_VALUE,
                "pf",
                "gives 1.73e+06 kvar; at most 1e+06",
            ),
        ],
        ids=["bus", "load", "load-in-capitals", "device", "generator", "phases", "kvar"],
    )
    def test_what_is_refused_changes_nothing(
        self, wanted: DeviceAddition, code: ErrorCode, field: str, message: str
    ) -> None:
        demand = feeder()
        demand.add_device(device("heater"))
        demand.add_generator(generator("pv"))
        demand.take_placements()
        demand.take_changed()
        before = demand.demands()
        refused = refusal(demand.add_device, wanted)
        assert refused.code is code
        assert [(each.field, each.problem) for each in refused.details] == [(field, message)]
        assert demand.demands() == before
        assert not demand.has_changed

    def test_the_same_name_is_free_at_another_bus(self) -> None:
        demand = feeder()
        demand.add_device(device("Load_1", "2"))
        demand.add_device(device("Load_1", "150"))
        assert len(demand.demands()) == 4

    def test_a_name_is_free_again_once_its_device_is_gone(self) -> None:
        """And the new one has nothing of the old one's pins and readings."""
        demand = feeder()
        demand.add_device(device())
        demand.pin("1", "EV", 3.0, 0.0)
        metered(demand, "1", "EV", Reading(kw=4.0))
        demand.disconnect_device("1", "ev")
        demand.add_device(device())
        assert in_force(demand)["EV"].source is Source.NOMINAL
        assert demands(demand)["EV"] == Power(10.0, 0.0)
        assert demand.oldest_reading_at() is None

    @pytest.mark.parametrize(
        ("bus", "name", "code", "field"),
        [
            ("77", "EV", ErrorCode.BUS_NOT_FOUND, "bus_name"),
            ("1", "heater", ErrorCode.DEVICE_NOT_FOUND, "device_name"),
            ("2", "EV", ErrorCode.DEVICE_NOT_FOUND, "device_name"),
            ("150", "EV", ErrorCode.DEVICE_NOT_FOUND, "device_name"),
            ("1", "Load_1", ErrorCode.DEVICE_NOT_FOUND, "device_name"),
            ("1", "pv", ErrorCode.DEVICE_NOT_FOUND, "device_name"),
        ],
        ids=["bus", "name", "other-bus", "empty-bus", "load", "generator"],
    )
    def test_only_a_device_can_be_disconnected(
        self, bus: str, name: str, code: ErrorCode, field: str
    ) -> None:
        demand = feeder()
        demand.add_device(device())
        demand.add_generator(generator("pv"))
        refused = refusal(demand.disconnect_device, bus, name)
        assert refused.code is code
        assert [each.field for each in refused.details] == [field]
        assert "EV" in demands(demand)

    def test_a_device_is_pinned_and_released_like_a_load(self) -> None:
        """Without kvar it keeps its power factor: 10 kW and 2 kvar, so 5 kW and 1 kvar."""
        demand = feeder()
        demand.add_device(device(kvar=2.0))
        assert demand.pin("1", "EV", 5.0, None) == ("1",)
        assert demands(demand)["EV"] == Power(5.0, 1.0)
        assert in_force(demand)["EV"].source is Source.OPERATOR
        demand.release("1", "EV")
        assert demands(demand)["EV"] == Power(10.0, 2.0)

    def test_releasing_a_bus_releases_its_devices_too(self) -> None:
        demand = feeder()
        demand.add_device(device("heater", "150"))
        demand.pin("150", "heater", 5.0, None)
        assert demand.release("150", None) == ("150",)
        assert demands(demand)["heater"].kw == 10.0

    def test_factors_leave_devices_alone(self) -> None:
        demand = feeder()
        demand.add_device(device())
        demand.set_bus_factor("1", 0.5)
        assert demands(demand) == {**NOMINAL, "Load_1": Power(20.0, 10.0), "EV": Power(10.0, 0.0)}
        demand.set_neighbourhood_factor(1, 2.0)
        assert demands(demand)["EV"] == Power(10.0, 0.0)
        assert in_force(demand)["EV"].factor == 1.0

    def test_a_bus_with_devices_only_has_no_load_to_set_a_factor_of(self) -> None:
        demand = feeder()
        demand.add_device(device("heater", "150"))
        refused = refusal(demand.set_bus_factor, "150", 0.5)
        assert refused.code is ErrorCode.LOAD_NOT_FOUND

    def test_a_device_is_metered(self) -> None:
        demand = feeder()
        demand.add_device(device(kvar=2.0))
        assert metered(demand, "1", "ev", Reading(kw=3.0, kvar=0.5)) == ReadingOutcome.ACCEPTED
        assert demands(demand)["EV"] == Power(3.0, 0.5)
        assert in_force(demand)["EV"].source is Source.METER
        assert demand.oldest_reading_at() == T0

    def test_a_device_that_is_gone_is_not_metered(self) -> None:
        demand = feeder()
        demand.add_device(device())
        metered(demand, "1", "EV", Reading(kw=3.0))
        demand.disconnect_device("1", "EV")
        assert metered(demand, "1", "EV", Reading(kw=3.0)) == ReadingOutcome.UNKNOWN_ELEMENT
        assert demand.oldest_reading_at() is None

    def test_the_bus_of_a_device_that_is_gone_is_still_a_bus(self) -> None:
        demand = feeder()
        demand.add_device(device(bus="150"))
        demand.disconnect_device("150", "EV")
        refused = refusal(demand.pin, "150", "EV", 1.0, None)
        assert refused.code is ErrorCode.LOAD_NOT_FOUND
        assert metered(demand, "150", "EV", Reading(kw=3.0)) == ReadingOutcome.UNKNOWN_ELEMENT

    def test_there_are_so_many_at_once_and_no_more(self) -> None:
        demand = feeder()
        for number in range(MOST_DEVICES):
            demand.add_device(device(f"d{number}", "150"))
        refused = refusal(demand.add_device, device("one_more"))
        assert refused.code is ErrorCode.LIMIT_REACHED
        assert refused.details[0].problem == "a feeder has at most 2000 devices at once"
        demand.disconnect_device("150", "d7")
        demand.add_device(device("one_more"))


class TestGenerators:
    def test_a_generator_produces_and_leaves_demand_alone(self) -> None:
        demand = feeder()
        assert demand.add_generator(generator("pv", kvar=10.0)) == (("1",), "pv")
        assert demands(demand) == NOMINAL
        found = production(demand)["pv"]
        assert (found.available_kw, found.kw, found.kvar) == (50.0, 50.0, 10.0)
        assert (found.source, found.held_by, found.max_kw) == (Source.NOMINAL, (), None)

    @pytest.mark.parametrize(
        ("more", "kvar"),
        [({}, 0.0), ({"pf": 0.8}, 37.5), ({"pf": 0.8, "kvar": -3.0}, -3.0)],
    )
    def test_kvar_wins_over_the_power_factor(self, more: dict[str, Any], kvar: float) -> None:
        """50 kW at 0.8 are 62.5 kVA, of which 37.5 kvar; positive kvar injects."""
        demand = feeder()
        demand.add_generator(generator("pv", **more))
        assert production(demand)["pv"].kvar == pytest.approx(kvar)

    def test_names_are_assigned_where_none_is_given(self) -> None:
        demand = feeder()
        names = [demand.add_generator(generator())[1] for _ in range(3)]
        assert names == ["generator_1", "generator_2", "generator_3"]

    def test_assigned_names_are_never_used_again(self) -> None:
        demand = feeder()
        names = []
        for _ in range(5):
            names.append(demand.add_generator(generator())[1])
            demand.remove_generator(names[-1])
        assert len(set(names)) == 5

    def test_assigned_names_avoid_those_that_are_taken(self) -> None:
        """One by a generator elsewhere, in other letters, and one by a device of the bus."""
        demand = feeder()
        demand.add_generator(generator("GENERATOR_1", "2"))
        demand.add_device(device("generator_2"))
        assert demand.add_generator(generator())[1] == "generator_3"

    def test_a_refused_generator_uses_up_no_name(self) -> None:
        demand = feeder()
        refusal(demand.add_generator, generator(kv=0.48, kw=9000.0))
        assert demand.add_generator(generator())[1] == "generator_1"

    @pytest.mark.parametrize(
        ("wanted", "code", "field", "message"),
        [
            (generator(bus="77"), ErrorCode.BUS_NOT_FOUND, "bus_name", "there is no bus '77'"),
            (
                generator("PV", "2"),
                ErrorCode.ALREADY_EXISTS,
                "generator_name",
                "there is a generator 'PV' already",
            ),
            (
                generator("pv"),
                ErrorCode.ALREADY_EXISTS,
                "generator_name",
                "bus '1' has a generator 'pv' already",
            ),
            (
                generator("load_1"),
                ErrorCode.ALREADY_EXISTS,
                "generator_name",
                "bus '1' has a load 'Load_1' already",
            ),
            (
                generator("EV"),
                ErrorCode.ALREADY_EXISTS,
                "generator_name",
                "bus '1' has a device 'EV' already",
            ),
            (
                generator(phases=2, phase="A"),
                ErrorCode.INVALID_VALUE,
                "phases",
                "phase A is one phase, not 2",
            ),
            (
                generator(kv=0.48, kw=8000.1),
                ErrorCode.INVALID_VALUE,
                "kw",
                "no standard transformer carries 10000 kVA from 0.48 kV to the bus's 4.16 kV",
            ),
            (
                generator(kw=1e6, pf=0.5),
                ErrorCode.INVALID_VALUE,
                "pf",
                "gives 1.73e+06 kvar; at most 1e+06",
            ),
        ],
        ids=["bus", "elsewhere", "at-the-bus", "load", "device", "phases", "too-large", "kvar"],
    )
    def test_what_is_refused_changes_nothing(
        self, wanted: GeneratorAddition, code: ErrorCode, field: str, message: str
    ) -> None:
        demand = feeder()
        demand.add_device(device("EV"))
        demand.add_generator(generator("pv"))
        demand.take_placements()
        demand.take_changed()
        before = demand.generation()
        refused = refusal(demand.add_generator, wanted)
        assert refused.code is code
        assert [(each.field, each.problem) for each in refused.details] == [(field, message)]
        assert demand.generation() == before
        assert not demand.has_changed

    def test_a_generator_is_found_in_any_case_wherever_it_is(self) -> None:
        demand = feeder()
        demand.add_generator(generator("PV_Roof", "2"))
        assert demand.remove_generator("pv_roof") == ("2",)
        assert demand.generation() == []

    @pytest.mark.parametrize("name", ["pv2", "EV", "Load_1"])
    def test_only_a_generator_can_be_removed(self, name: str) -> None:
        demand = feeder()
        demand.add_device(device("EV"))
        demand.add_generator(generator("pv"))
        refused = refusal(demand.remove_generator, name)
        assert refused.code is ErrorCode.GENERATOR_NOT_FOUND
        assert [each.field for each in refused.details] == ["generator_name"]
        assert list(production(demand)) == ["pv"]

    def test_it_is_no_load_to_pin_or_to_set_a_factor_of(self) -> None:
        demand = feeder()
        demand.add_generator(generator("pv", "150"))
        assert refusal(demand.pin, "150", "pv", 1.0, None).code is ErrorCode.LOAD_NOT_FOUND
        assert refusal(demand.release, "150", None).code is ErrorCode.LOAD_NOT_FOUND
        assert refusal(demand.set_bus_factor, "150", 0.5).code is ErrorCode.LOAD_NOT_FOUND
        demand.set_neighbourhood_factor(1, 0.0)
        assert production(demand)["pv"].kw == 50.0

    def test_it_is_metered_with_positive_production(self) -> None:
        """Without kvar it keeps its power factor: 10 kvar at 50 kW, so 4 at 20 kW."""
        demand = feeder()
        demand.add_generator(generator("pv", kvar=10.0))
        assert metered(demand, "1", "pv", Reading(kw=20.0)) == ReadingOutcome.ACCEPTED
        found = production(demand)["pv"]
        assert (found.available_kw, found.kw, found.kvar) == (20.0, 20.0, 4.0)
        assert found.source is Source.METER

    def test_an_inverter_may_consume_at_night(self) -> None:
        demand = feeder()
        demand.add_generator(generator("pv"))
        metered(demand, "1", "pv", Reading(kw=-0.1, kvar=0.0))
        assert production(demand)["pv"].kw == -0.1

    def test_relief_curtails_kw_and_kvar_together(self) -> None:
        """30 of 50 kW, so 6 of 10 kvar."""
        demand = feeder()
        demand.add_generator(generator("pv", kvar=10.0))
        demand.relieve({}, {0: ReliefCap(30.0, ("XFM1",))})
        found = production(demand)["pv"]
        assert (found.available_kw, found.kw, found.kvar) == (50.0, 30.0, 6.0)
        assert (found.held_by, found.max_kw) == (("XFM1",), 30.0)
        demand.relieve({}, {})
        assert production(demand)["pv"].kw == 50.0

    def test_one_that_does_not_follow_is_solved_as_metered(self) -> None:
        demand = feeder()
        demand.add_generator(generator("pv"))
        demand.relieve({}, {0: ReliefCap(30.0, ("XFM1",))})
        demand.generator(0).hold(Held(30.0, None), T0)
        for at_s in (1.0, 31.0):
            metered(demand, "1", "pv", Reading(kw=48.0), at_s)
        found = production(demand)["pv"]
        assert (found.kw, found.max_kw, found.not_following) == (48.0, 30.0, True)

    def test_without_a_setpoint_there_is_nothing_not_to_follow(self) -> None:
        demand = feeder()
        demand.add_generator(generator("pv"))
        demand.generator(0).not_following = True
        assert not production(demand)["pv"].not_following

    def test_relief_of_the_one_before_does_not_hold_the_next_in_its_place(self) -> None:
        demand = feeder()
        demand.add_generator(generator("old"))
        demand.relieve({}, {0: ReliefCap(0.0, ("XFM1",))})
        demand.remove_generator("old")
        demand.add_generator(generator("new"))
        assert production(demand)["new"].row == 0
        assert production(demand)["new"].kw == 50.0

    def test_it_says_how_it_is_connected(self) -> None:
        demand = feeder()
        demand.add_generator(GeneratorAddition(**GENERATOR))
        (placement,) = demand.take_placements()
        assert placement.connection.nodes == (1, 2, 3)
        assert placement.machine is not None
        assert (placement.machine.kv, placement.machine.stepup_kva) == (0.48, 75.0)

    def test_without_kv_it_has_that_of_its_bus(self) -> None:
        demand = feeder()
        demand.add_generator(generator("pv", phase="B"))
        (placement,) = demand.take_placements()
        assert placement.machine is not None
        assert placement.machine.kv == pytest.approx(4.16 / math.sqrt(3))
        assert placement.machine.stepup_kva is None

    def test_its_place_is_used_again(self) -> None:
        demand = feeder()
        for _ in range(100):
            demand.remove_generator(demand.add_generator(generator(kv=0.48))[1])
        assert {row for _, row, _ in as_seen(demand.take_placements())} == {0}

    def test_there_are_so_many_at_once_and_no_more(self) -> None:
        demand = feeder()
        for _ in range(MOST_GENERATORS):
            demand.add_generator(generator())
        refused = refusal(demand.add_generator, generator())
        assert refused.code is ErrorCode.LIMIT_REACHED
        assert refused.details[0].problem == "a feeder has at most 500 generators at once"
        demand.remove_generator("generator_7")
        assert demand.add_generator(generator())[1] == "generator_501"


class TestRulesFollowWhatComesAndGoes:
    def test_a_device_that_comes_is_under_the_rule_of_its_bus(self) -> None:
        """45 kW at the bus of Load_1: its device of 10 kW keeps 5."""
        demand = feeder()
        demand.adjust(program(45.0))
        demand.add_device(device(kvar=2.0))
        assert demands(demand) == {**NOMINAL, "EV": Power(5.0, 1.0)}
        assert in_force(demand)["EV"].held_by == ("dfp",)

    def test_a_load_is_free_again_once_the_device_is_gone(self) -> None:
        """20 kW at the bus: with the device or without, the load keeps 20 of 40 kW."""
        demand = feeder()
        demand.adjust(program(40.0))
        demand.add_device(device())
        assert demands(demand)["EV"] == Power(0.0, 0.0)
        demand.disconnect_device("1", "EV")
        assert demands(demand) == NOMINAL

    def test_all_of_the_bus_are_handed_over_when_one_comes_or_goes(self) -> None:
        demand = feeder()
        demand.adjust(program(20.0))
        demand.take_changed()
        demand.add_device(device())
        assert {demand.consumer(d.row).name for d in demand.take_changed()[0]} == {"Load_1", "EV"}
        demand.disconnect_device("1", "EV")
        assert {demand.consumer(d.row).name for d in demand.take_changed()[0]} == {"Load_1"}

    def test_generation_is_not_netted(self) -> None:
        demand = feeder()
        demand.adjust(program(20.0))
        demand.add_generator(generator("pv"))
        assert demands(demand)["Load_1"] == Power(20.0, 10.0)
        assert production(demand)["pv"].kw == 50.0

    def test_a_program_at_a_bus_that_there_is_not_is_left_out(self) -> None:
        demand = feeder()
        demand.adjust(program(20.0, bus="77"))
        assert demands(demand) == NOMINAL
        assert demand.programs_by_bus() == {}

    def test_a_program_waits_at_a_bus_without_demand(self) -> None:
        demand = feeder()
        demand.adjust(program(4.0, bus="150"))
        assert demand.programs_by_bus() == {"150": ("dfp",)}
        demand.add_device(device(bus="150"))
        assert demands(demand)["EV"] == Power(4.0, 0.0)

    def test_relief_of_the_one_before_does_not_hold_the_next_in_its_place(self) -> None:
        demand = feeder()
        demand.add_device(device("old"))
        demand.relieve({2: ReliefCap(0.0, ("neighbourhood_1",))}, {})
        demand.disconnect_device("1", "old")
        demand.add_device(device("new"))
        assert in_force(demand)["new"].row == 2
        assert demands(demand)["new"] == Power(10.0, 0.0)

    def test_stopping_restores_demand_to_the_last_digit(self) -> None:
        demand = feeder()
        demand.add_device(device(kw=7.3, kvar=1.1))
        demand.set_bus_factor("1", 0.7)
        before = demand.demands()
        demand.adjust(program(3.3, 0.99))
        assert demand.demands() != before
        demand.adjust(Adjustments(revision=2))
        assert demand.demands() == before


NAMES = st.sampled_from(["a", "A", "b", "c", "Load_1", "load_2", "generator_2"])
BUSES = st.sampled_from(["1", "2", "150"])
KW = st.floats(-1e3, 1e3)
GIVEN_KW = st.floats(0, 1e3)
MAYBE_KVAR = st.none() | st.floats(-1e3, 1e3)


class ComeAndGo(RuleBasedStateMachine):
    """Whatever is done: once everything that came is gone, and everything that was said taken
    back, demand is what it was at the start, to the last digit.
    """

    devices = Bundle("devices")
    generators = Bundle("generators")

    def __init__(self) -> None:
        super().__init__()
        self.demand = feeder()
        self.seen: dict[int, DemandInForce] = {}
        self.produced: dict[int, GenerationInForce] = {}
        self.now = T0
        self.assigned: set[str] = set()
        self.start = self.demand.demands()
        self.seen |= {each.row: each for each in self.start}

    def follow(self) -> None:
        """What the engine does: keep up with what comes, goes and changes."""
        for placement in self.demand.take_placements():
            kept = self.produced if placement.machine is not None else self.seen
            kept.pop(placement.element.row, None)
        demands, generation = self.demand.take_changed()
        self.seen |= {each.row: each for each in demands}
        self.produced |= {each.row: each for each in generation}

    @rule(target=devices, name=NAMES, bus=BUSES, kw=GIVEN_KW, kvar=MAYBE_KVAR)
    def add_device(self, name: str, bus: str, kw: float, kvar: float | None) -> Any:
        try:
            self.demand.add_device(device(name, bus, kw, kvar=kvar))
        except Refusal as refused:
            if refused.code is not ErrorCode.ALREADY_EXISTS:
                raise
            return multiple()
        return bus, name

    @rule(target=generators, name=st.none() | NAMES, bus=BUSES, kw=GIVEN_KW)
    def add_generator(self, name: str | None, bus: str, kw: float) -> Any:
        try:
            _, given = self.demand.add_generator(generator(name, bus, kw, kv=0.48))
        except Refusal as refused:
            if refused.code is not ErrorCode.ALREADY_EXISTS:
                raise
            return multiple()
        if name is None:
            assert given not in self.assigned
            self.assigned.add(given)
        return given

    @rule(which=consumes(devices))
    def disconnect(self, which: tuple[str, str]) -> None:
        self.demand.disconnect_device(*which)

    @rule(which=consumes(generators))
    def remove(self, which: str) -> None:
        self.demand.remove_generator(which)

    @rule(which=devices, kw=KW, kvar=MAYBE_KVAR)
    def pin_device(self, which: tuple[str, str], kw: float, kvar: float | None) -> None:
        self.demand.pin(*which, kw, kvar)

    @rule(which=devices, kw=KW)
    def meter_device(self, which: tuple[str, str], kw: float) -> None:
        assert metered(self.demand, *which, Reading(kw=kw), self.now - T0) == "accepted"

    @rule(kw=KW, kvar=MAYBE_KVAR)
    def pin_load(self, kw: float, kvar: float | None) -> None:
        self.demand.pin("1", "Load_1", kw, kvar)

    @rule(factor=st.floats(0, 10))
    def scale_loads(self, factor: float) -> None:
        self.demand.set_neighbourhood_factor(1, factor)

    @rule(bus=BUSES, max_kw=GIVEN_KW, pf=st.floats(0.1, 1.0))
    def execute(self, bus: str, max_kw: float, pf: float) -> None:
        self.demand.adjust(program(max_kw, pf, bus))

    @rule()
    def stop(self) -> None:
        self.demand.adjust(Adjustments(revision=1))

    @rule(row=st.integers(0, 4), cap=GIVEN_KW)
    def relieve(self, row: int, cap: float) -> None:
        kept = {row: ReliefCap(cap, ("zone",))}
        rows = {each.row for each in self.demand.demands()}
        generators = {each.row for each in self.demand.generation()}
        self.demand.relieve(kept if row in rows else {}, kept if row in generators else {})

    @rule()
    def send_setpoints(self) -> None:
        for each in self.demand.demands():
            held = Held(each.max_kw, each.pf)
            self.demand.consumer(each.row).hold(held, self.now)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def what_was_handed_over_is_what_is_in_force(self) -> None:
        self.follow()
        assert sorted(self.seen.values()) == self.demand.demands()
        assert sorted(self.produced.values()) == self.demand.generation()
        assert not self.demand.has_changed

    @invariant()
    def nobody_gets_more_than_he_demands(self) -> None:
        for each in self.demand.demands():
            assert each.kw <= each.demand_kw

    def teardown(self) -> None:
        for each in self.demand.demands():
            element = self.demand.consumer(each.row)
            if element.kind is Kind.DEVICE:
                self.demand.disconnect_device(element.bus, element.name)
        for produced in self.demand.generation():
            self.demand.remove_generator(self.demand.generator(produced.row).name)
        self.demand.adjust(Adjustments(revision=9))
        self.demand.relieve({}, {})
        self.demand.release("1", None)
        self.demand.set_neighbourhood_factor(1, 1.0)
        assert self.demand.demands() == self.start
        self.follow()
        assert sorted(self.seen.values()) == self.start
        assert self.produced == {}


TestComeAndGo = ComeAndGo.TestCase
TestComeAndGo.settings = settings(max_examples=150, stateful_step_count=40)
