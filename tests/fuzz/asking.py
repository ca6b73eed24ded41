"""What people ask of a running system by REST, whatever has been published meanwhile."""

import uuid
from typing import Any

import httpx
import pytest
from support import results

Json = dict[str, Any]


def answered(http: httpx.Client, method: str, path: str, **body: Any) -> Any:
    """The results; ``http`` is patient: a forged status may have called somebody away."""
    return results(http.request(method, path, json=body or None))


def demanded(state: Json) -> dict[tuple[str, str, str], float]:
    """What is let through of each load and of everything that was added, kW."""
    return {
        (bus["bus"], kind, element["name"]): element["set_kw"]
        for bus in state["bus_details"]
        for kind in ("loads", "devices", "generators")
        for element in bus[kind]
    }


def taken_back(http: httpx.Client) -> Json:
    """The state once all that commands have done is taken back, the way anybody can."""
    for program in answered(http, "GET", "/dfps"):
        answered(http, "DELETE", "/delete_dfp", name=program["name"])
    for bus in answered(http, "GET", "/get_state")["bus_details"]:
        name = bus["bus"]
        for generator in bus["generators"]:
            answered(http, "POST", "/remove_generator", generator_name=generator["name"])
        for device in bus["devices"]:
            gone = {"bus_name": name, "device_name": device["name"]}
            answered(http, "POST", "/disconnect_device", **gone)
        if any(load["source"] == "operator" for load in bus["loads"]):
            answered(http, "POST", "/release_load", bus_name=name)
        if any(load["factor"] != 1.0 for load in bus["loads"]):
            answered(http, "POST", "/modify_load_household", bus_name=name, factor=1.0)
    state: Json = answered(http, "POST", "/run_simulation")
    return state


def assert_programs_work(http: httpx.Client) -> None:
    """One is put in force at bus 48, leaves it 10 of its 210 kW, and lets it go."""
    before = demanded(answered(http, "POST", "/run_simulation"))
    name = f"p-{uuid.uuid4().hex}"
    answered(http, "POST", "/register_dfp", name=name, min_power_kw=10.0, target_pf=0.9)
    try:
        answered(http, "POST", "/subscribe_dfp", bus_name="48", dfp_name=name)
        report = answered(http, "POST", "/execute_dfp", dfp_name=name)
        [bus] = report["buses"]
        assert (bus["bus"], bus["left_alone"]) == ("48", None)
        assert bus["after"]["kw"] == pytest.approx(10.0, abs=0.1)
    finally:
        answered(http, "DELETE", "/delete_dfp", name=name)
    assert demanded(answered(http, "POST", "/run_simulation")) == before
