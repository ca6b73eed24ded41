"""Answers for the documentation to show: a feeder of one bus, a program, an execution. A test holds
them against the models.
"""

from typing import Any

Example = dict[str, Any]

_AT = "2026-11-22T10:00:00Z"

_PHASES = {
    "A": {"v_pu": 1.0152, "angle_deg": -0.31},
    "B": {"v_pu": 1.0198, "angle_deg": -120.12},
    "C": {"v_pu": 1.0176, "angle_deg": 119.83},
}

_LOAD: Example = {
    "name": "Load_1",
    "demand_kw": 40.0,
    "set_kw": 35.0,
    "kw": 35.0,
    "kvar": 17.5,
    "factor": 1.0,
    "source": "nominal",
    "held_by": ["peak_shaving"],
    "not_following": False,
}

_DEVICE: Example = {
    "name": "EV_Charger_1",
    "demand_kw": 7.2,
    "set_kw": 0.0,
    "kw": 0.0,
    "kvar": 0.0,
    "factor": 1.0,
    "source": "nominal",
    "held_by": ["peak_shaving", "neighbourhood_1"],
    "not_following": False,
}

_GENERATOR: Example = {
    "name": "generator_1",
    "available_kw": 10.0,
    "set_kw": 10.0,
    "kw": 10.0,
    "kvar": 0.0,
    "source": "operator",
    "held_by": [],
    "not_following": False,
}

_BUS: Example = {
    "bus": "1",
    "kv_base": 2.4018,
    "phases": _PHASES,
    "load_kw": 35.0,
    "load_kvar": 17.5,
    "gen_kw": 10.0,
    "net_kw": 25.0,
    "neighbourhood": 1,
    "loads": [_LOAD],
    "devices": [_DEVICE],
    "generators": [_GENERATOR],
    "dfps": ["peak_shaving"],
}

_TRANSFORMER: Example = {
    "name": "neighbourhood_1",
    "kind": "service",
    "bus": "1",
    "rating_kva": 45.0,
    "loading_kva": 30.52,
    "loading_percent": 67.81,
    "status": "OK",
}

_VOLTAGES: Example = {
    "min_voltage_pu": 1.0152,
    "min_voltage_bus": "1",
    "max_voltage_pu": 1.0198,
    "max_voltage_bus": "1",
    "avg_voltage_pu": 1.0175,
    "violations": [],
}

STATE: Example = {
    "feeder": "ieee123",
    "version": 7000000042,
    "solved_at": _AT,
    "converged": True,
    "iterations": 4,
    "oldest_reading_s": None,
    "taps": {"reg1a": 7},
    "management_status": {"status": "OK", "management_log": []},
    "power_summary": {
        "total_circuit_power_kw": 25.4,
        "total_circuit_power_kvar": 18.1,
        "total_losses_kw": 0.4,
        "total_losses_kvar": 0.6,
        "total_load_kw": 35.0,
        "total_generation_kw": 10.0,
    },
    "voltage_profile": _VOLTAGES,
    "bus_details": [_BUS],
    "transformers": [_TRANSFORMER],
    "adjustments": {"revision": 3, "programs": ["peak_shaving"]},
}

BUS: Example = {**_BUS, "x": 3.25, "y": 1.5, "distance_km": 0.122, "version": STATE["version"]}

NEIGHBOURHOODS: list[Example] = [
    {
        "number": 1,
        "buses": ["1"],
        "loads": 1,
        "load_kw": 35.0,
        "load_kvar": 17.5,
        "generation_kw": 10.0,
        "min_voltage_pu": 1.0152,
        "max_voltage_pu": 1.0198,
        "transformer": _TRANSFORMER,
    }
]

TRANSFORMERS: list[Example] = [
    {
        **_TRANSFORMER,
        "neighbourhood": 1,
        "buses": ["1"],
        "holds": [
            {
                "bus": "1",
                "element": "EV_Charger_1",
                "kind": "device",
                "wanted_kw": 7.2,
                "set_kw": 0.0,
            }
        ],
    }
]

VIOLATIONS: Example = {
    "version": STATE["version"],
    "voltages": [
        {"bus": "66", "phase": "C", "v_pu": 0.9412, "limit_pu": 0.95, "kind": "undervoltage"}
    ],
    "transformers": [],
    "not_following": [
        {
            "bus": "1",
            "element": "EV_Charger_1",
            "kind": "device",
            "kw": 7.2,
            "held_by": ["peak_shaving"],
        }
    ],
}

VOLTAGE_PROFILE: Example = {
    "version": STATE["version"],
    **_VOLTAGES,
    "phases": {
        phase: [{"bus": "1", "distance_km": 0.122, "v_pu": voltage["v_pu"]}]
        for phase, voltage in _PHASES.items()
    },
}

FEEDERS: list[Example] = [
    {
        "feeder": "ieee123",
        "name": "IEEE 123-node test feeder",
        "solver": "online",
        "version": STATE["version"],
        "solved_at": _AT,
        "converged": True,
        "status": "OK",
        "buses": 132,
        "loads": 91,
    }
]

NEW_PROGRAM: Example = {
    "name": "peak_shaving",
    "number": 1,
    "description": "",
    "min_power_kw": 100.0,
    "target_pf": 0.95,
    "registered_at": _AT,
    "subscriptions": [],
    "executing": False,
    "executions": [],
}

PROGRAM: Example = {
    **NEW_PROGRAM,
    "min_power_kw": 35.0,
    "target_pf": 0.9,
    "subscriptions": ["1"],
    "executing": True,
    "executions": [
        {
            "started_at": _AT,
            "stopped_at": None,
            "revision": 3,
            "buses": 1,
            "total_shed_kw": 12.2,
        }
    ],
}

EXECUTION_REPORT: Example = {
    "name": "peak_shaving",
    "number": 1,
    "revision": 3,
    "version": STATE["version"],
    "total_shed_kw": 12.2,
    "buses": [
        {
            "bus": "1",
            "before": {"kw": 47.2, "kvar": 21.4, "pf": 0.9107},
            "after": {"kw": 35.0, "kvar": 16.95, "pf": 0.9},
            "shed_kw": 12.2,
            "left_alone": None,
        }
    ],
}

DELETED_PROGRAM: Example = {"name": "peak_shaving", "number": 1}

ALERT: Example = {
    "feeder": "ieee123",
    "kind": "undervoltage",
    "event": "begin",
    "subject": "66.C",
    "at": _AT,
    "version": STATE["version"],
    "message": "undervoltage: bus 66 phase C is at 0.9412 pu, the limit is 0.95 pu",
    "value": 0.9412,
    "limit": 0.95,
}

PROGRAM_EVENT: Example = {
    "feeder": "ieee123",
    "event": "executed",
    "name": "peak_shaving",
    "number": 1,
    "at": _AT,
    "revision": 3,
    "bus": None,
    "total_shed_kw": 12.2,
}
