"""Any sequence of well-formed requests, held against a plain model of what there is: each is done
or refused as the model says, and once, whatever key it bears and however often it is asked again.
"""

import uuid
from typing import Any, NamedTuple

import httpx
import patience
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import assert_error, loads, pids, results

from flexfeeder.testing import System
from fuzz.asking import answered, taken_back
from fuzz.effort import effort, patient
from fuzz.shapes import assert_finite
from schemas.wire import canonical

pytestmark = patient

Json = dict[str, Any]
Key = tuple[str, str]
"""Bus and name, in the form in which names are compared."""

BUSES = ("1", "48", "150", "25R")
"""Buses of the feeder, as they may be written; 150 and 25r have no load."""

buses = st.sampled_from(["1", "1", "1", "48", "48", "48", "150", "25R", "9999"])
names = st.sampled_from(["a", "a", "A", "b", "Load_1", "LOAD_1", "Load_48", "Load_48"])
powers = st.sampled_from([0, 0.1, 7.5, 50]) | st.floats(0, 300)
factors = st.sampled_from([0, 1, 0.5, 10]) | st.floats(0, 10)
programs = st.sampled_from(["p", "p", "P", "q", "nobody"])
power_factors = st.sampled_from([1, 0.95, 1e-9]) | st.floats(0, 1, exclude_min=True)


class Program:
    """A program that was registered."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.terms: tuple[float, float] = (0.0, 1.0)
        self.subscriptions: set[str] = set()
        self.executing = False


class Asked(NamedTuple):
    """A request that bore a key, and its answer."""

    method: str
    path: str
    body: Json
    answer: httpx.Response


class Requests(RuleBasedStateMachine):
    """Requests to a system on which, at the start, there is what the feeder's model has."""

    served: System

    def __init__(self) -> None:
        super().__init__()
        self.http = patience.client(self.served.url)
        state = answered(self.http, "POST", "/run_simulation")
        self.nominal = {_key(*at): load["demand_kw"] for at, load in loads(state).items()}
        self.areas = answered(self.http, "GET", "/neighbourhoods")
        self.pins: dict[Key, float] = {}
        self.factors: dict[Key, float] = {}
        self.devices: dict[Key, float] = {}
        self.generators: dict[str, str] = {}
        """Bus by name."""
        self.programs: dict[str, Program] = {}
        self.last_number = 0
        self.keyed: dict[str, Asked] = {}

    def teardown(self) -> None:
        taken_back(self.http)
        self.http.close()

    @rule(bus=buses, name=names, kw=powers, keyed=st.booleans())
    def add_device(self, bus: str, name: str, kw: float, *, keyed: bool) -> None:
        at = _key(bus, name)
        body = {"bus_name": bus, "device_name": name, "kw": kw}
        expected = 404 if _is_none(bus) else 409 if self._is_taken(at) else 200
        if self._ask("POST", "/add_device", body, expected, keyed=keyed):
            self.devices[at] = kw

    @precondition(lambda self: self.devices)
    @rule(bus=buses, name=names, keyed=st.booleans())
    def disconnect_device(self, bus: str, name: str, *, keyed: bool) -> None:
        at = _key(bus, name)
        body = {"bus_name": bus, "device_name": name}
        expected = 200 if at in self.devices else 404
        if self._ask("POST", "/disconnect_device", body, expected, keyed=keyed):
            for of_element in (self.devices, self.pins, self.factors):
                of_element.pop(at, None)

    @rule(bus=buses, name=st.none() | names, kw=powers, keyed=st.booleans())
    def add_generator(self, bus: str, name: str | None, kw: float, *, keyed: bool) -> None:
        body = {"bus_name": bus, "kw": kw, **({} if name is None else {"generator_name": name})}
        is_taken = name is not None and (
            self._is_taken(_key(bus, name)) or canonical(name) in self.generators
        )
        expected = 404 if _is_none(bus) else 409 if is_taken else 200
        if found := self._ask("POST", "/add_generator", body, expected, keyed=keyed):
            self.generators[canonical(found["generator_name"])] = canonical(bus)

    @rule(which=st.integers(0, 5), name=names, keyed=st.booleans())
    def remove_generator(self, which: int, name: str, *, keyed: bool) -> None:
        """One that there is, or perhaps not."""
        name = sorted([*self.generators, name])[which % (len(self.generators) + 1)]
        expected = 200 if canonical(name) in self.generators else 404
        body = {"generator_name": name}
        if self._ask("POST", "/remove_generator", body, expected, keyed=keyed):
            del self.generators[canonical(name)]

    @rule(bus=buses, name=names, kw=powers, keyed=st.booleans())
    def pin(self, bus: str, name: str, kw: float, *, keyed: bool) -> None:
        at = _key(bus, name)
        body = {"bus_name": bus, "load_name": name, "new_kw": kw}
        expected = 200 if at in self.nominal or at in self.devices else 404
        if self._ask("POST", "/modify_load_household", body, expected, keyed=keyed):
            self.pins[at] = kw
            self.factors.pop(at, None)

    @rule(bus=buses, name=st.none() | names, keyed=st.booleans())
    def release(self, bus: str, name: str | None, *, keyed: bool) -> None:
        body = {"bus_name": bus, **({} if name is None else {"load_name": name})}
        there = [at for at in (*self.nominal, *self.devices) if at[0] == canonical(bus)]
        meant = there if name is None else [at for at in there if at == _key(bus, name)]
        expected = 200 if meant else 404
        if self._ask("POST", "/release_load", body, expected, keyed=keyed):
            for at in meant:
                self.pins.pop(at, None)

    @rule(bus=buses, factor=factors, keyed=st.booleans())
    def scale_bus(self, bus: str, factor: float, *, keyed: bool) -> None:
        meant = [at for at in self.nominal if at[0] == canonical(bus)]
        body = {"bus_name": bus, "factor": factor}
        expected = 200 if meant else 404
        if self._ask("POST", "/modify_load_household", body, expected, keyed=keyed):
            self.factors |= dict.fromkeys(meant, factor)

    @rule(number=st.sampled_from([0, 1, 2, 7, 99]), factor=factors, keyed=st.booleans())
    def scale_neighbourhood(self, number: int, factor: float, *, keyed: bool) -> None:
        area = next((area for area in self.areas if area["number"] == number), None)
        body = {"neighbourhood": number, "factor": factor}
        expected = 404 if area is None else 200
        if self._ask("POST", "/modify_load_neighbourhood", body, expected, keyed=keyed) and area:
            inside = set(map(canonical, area["buses"]))
            self.factors |= {at: factor for at in self.nominal if at[0] in inside}

    @rule(name=programs, min_kw=powers, pf=power_factors, keyed=st.booleans())
    def register(self, name: str, min_kw: float, pf: float, *, keyed: bool) -> None:
        """Under a number that was never used."""
        body = {"name": name, "min_power_kw": min_kw, "target_pf": pf}
        expected = 409 if canonical(name) in self.programs else 200
        if found := self._ask("POST", "/register_dfp", body, expected, keyed=keyed):
            assert found["number"] > self.last_number
            self.last_number = found["number"]
            program = self.programs[canonical(name)] = Program(name, found["number"])
            program.terms = min_kw, pf

    @rule(name=programs, min_kw=powers, pf=power_factors, keyed=st.booleans())
    def update(self, name: str, min_kw: float, pf: float, *, keyed: bool) -> None:
        body = {"name": name, "min_power_kw": min_kw, "target_pf": pf}
        if self._ask("PUT", "/update_dfp", body, self._known(name), keyed=keyed):
            self.programs[canonical(name)].terms = min_kw, pf

    @rule(
        bus=buses, name=programs, by_number=st.booleans(), leaves=st.booleans(), keyed=st.booleans()
    )
    def subscribe(self, bus: str, name: str, *, by_number: bool, leaves: bool, keyed: bool) -> None:
        program = self.programs.get(canonical(name))
        number = program.number if program is not None else 10**9
        meant: Json = {"dfp_number": number} if by_number else {"dfp_name": name}
        path = "/unsubscribe_dfp" if leaves else "/subscribe_dfp"
        expected = 404 if program is None or _is_none(bus) else 200
        body = {"bus_name": bus, **meant}
        if self._ask("POST", path, body, expected, keyed=keyed) and program is not None:
            change = program.subscriptions.discard if leaves else program.subscriptions.add
            change(canonical(bus))

    @rule(name=programs, keyed=st.booleans())
    def execute(self, name: str, *, keyed: bool) -> None:
        body = {"dfp_name": name}
        if found := self._ask("POST", "/execute_dfp", body, self._known(name), keyed=keyed):
            program = self.programs[canonical(name)]
            program.executing = True
            told = {canonical(outcome["bus"]) for outcome in found["buses"]}
            assert told == program.subscriptions

    @rule(name=programs, keyed=st.booleans())
    def stop(self, name: str, *, keyed: bool) -> None:
        if self._ask("POST", "/stop_dfp", {"dfp_name": name}, self._known(name), keyed=keyed):
            self.programs[canonical(name)].executing = False

    @precondition(lambda self: len(self.programs) > 1)
    @rule(name=programs, keyed=st.booleans())
    def delete(self, name: str, *, keyed: bool) -> None:
        if self._ask("DELETE", "/delete_dfp", {"name": name}, self._known(name), keyed=keyed):
            del self.programs[canonical(name)]

    @precondition(lambda self: self.keyed)
    @rule(which=st.integers(0, 100))
    def ask_again(self, which: int) -> None:
        """The answer is the one that there was; a state is the newest."""
        key = list(self.keyed)[which % len(self.keyed)]
        method, path, body, was = self.keyed[key]
        answer = self._send(method, path, body, key)
        assert answer.status_code == was.status_code
        said = [each.json() for each in (was, answer)]
        if "bus_details" in (said[0].get("results") or {}):
            for each in said:
                each["results"] = each["results"].get("generator_name")
        assert said[0] == said[1]

    @precondition(lambda self: self.keyed)
    @rule(which=st.integers(0, 100))
    def ask_for_something_else_under_the_same_key(self, which: int) -> None:
        key = list(self.keyed)[which % len(self.keyed)]
        method, path, body, _ = self.keyed[key]
        name = next(iter(body))
        other = {**body, name: body[name] + (1 if isinstance(body[name], int) else "x")}
        answer = self._send(method, path, other, key)
        assert answer.status_code == 422, answer.text[:500]
        assert_error(answer.json(), "request_id_reused", "request_id")

    @invariant()
    def the_state_is_what_was_asked_for(self) -> None:
        state = results(self.http.get("/get_state"))
        assert_finite(state)
        shown: dict[str, dict[Key, Json]] = {}
        for kind in ("loads", "devices", "generators"):
            shown[kind] = {
                _key(bus["bus"], element["name"]): element
                for bus in state["bus_details"]
                for element in bus[kind]
            }
        assert set(shown["devices"]) == set(self.devices)
        assert {name: bus for bus, name in shown["generators"]} == self.generators
        for at, load in (shown["loads"] | shown["devices"]).items():
            base = self.pins.get(at, self.nominal.get(at, self.devices.get(at)))
            assert base is not None
            assert load["demand_kw"] == base * self.factors.get(at, 1.0)
            assert load["source"] == ("operator" if at in self.pins else "nominal")

    @invariant()
    def the_programs_are_what_was_asked_for(self) -> None:
        found = results(self.http.get("/dfps"))
        assert {canonical(program["name"]) for program in found} == set(self.programs)
        for program in found:
            expected = self.programs[canonical(program["name"])]
            assert (program["name"], program["number"]) == (expected.name, expected.number)
            assert (program["min_power_kw"], program["target_pf"]) == expected.terms
            assert set(map(canonical, program["subscriptions"])) == expected.subscriptions
            assert program["executing"] == expected.executing

    def _ask(
        self, method: str, path: str, body: Json, expected: int, *, keyed: bool
    ) -> Json | None:
        """The results, or that it is refused as expected."""
        key = uuid.uuid4().hex + path if keyed else None
        answer = self._send(method, path, body, key)
        assert answer.status_code == expected, (method, path, body, answer.text[:500])
        if key is not None:
            self.keyed[key] = Asked(method, path, body, answer)
        if expected == 200:
            found: Json = results(answer)
            return found
        assert_error(answer.json(), answer.json()["code"])
        return None

    def _send(self, method: str, path: str, body: Json, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.http.request(method, path, json=body, headers=headers)

    def _is_taken(self, at: Key) -> bool:
        bus, name = at
        return at in self.nominal or at in self.devices or self.generators.get(name) == bus

    def _known(self, name: str) -> int:
        return 200 if canonical(name) in self.programs else 404


def _key(bus: str, name: str) -> Key:
    return canonical(bus), canonical(name)


def _is_none(bus: str) -> bool:
    return bus not in BUSES


def test_every_sequence_of_requests_does_what_it_says(served: System) -> None:
    before = pids(served)

    class OnThisSystem(Requests):
        pass

    OnThisSystem.served = served
    how = effort(25, stateful_step_count=20, phases=[Phase.generate])
    run_state_machine_as_test(OnThisSystem, settings=how)
    assert pids(served) == before
    assert "Traceback" not in served.log.read_text(encoding="utf-8")
