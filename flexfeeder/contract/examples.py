"""Examples of what is published: one street of the IEEE 123-node feeder at ten in the morning."""

from flexfeeder.contract.channel import Json

READING: Json = {"kw": 3.2, "kvar": 0.9, "demand_kw": 4.0, "at": "2026-11-22T10:00:00Z"}

READING_BATCH: Json = {
    "readings": [
        {"bus": "1", "element": "Load_1", "kw": 3.2, "kvar": 0.9, "at": "2026-11-22T10:00:00Z"},
        {"bus": "48", "element": "Load_48", "kw": 120.0},
    ]
}

TOPOLOGY: Json = {
    "feeder": "ieee123",
    "name": "IEEE 123-node test feeder",
    "buses": [
        {
            "bus": "1",
            "phases": ["A", "B", "C"],
            "kv_base": 4.16,
            "x": 700.0,
            "y": 1500.0,
            "distance_km": 0.12253,
            "neighbourhood": 1,
        }
    ],
    "lines": [
        {
            "name": "149_1",
            "from_bus": "149",
            "to_bus": "1",
            "phases": ["A", "B", "C"],
            "length_km": 0.12192,
            "is_switch": False,
            "closed": True,
        }
    ],
    "transformers": [
        {"name": "reg1a", "kind": "regulator", "buses": ["150", "150r"], "kva": 5000.0}
    ],
    "loads": [
        {
            "name": "Load_1",
            "bus": "1",
            "phases": ["A"],
            "nominal_kw": 40.0,
            "nominal_kvar": 20.0,
        }
    ],
    "neighbourhoods": [
        {
            "number": 1,
            "buses": ["1", "2", "3", "4", "5", "6"],
            "transformer_bus": "1",
            "transformer_kva": 225.0,
        }
    ],
}

STATE: Json = {
    "feeder": "ieee123",
    "version": 1_000_000_061,
    "solved_at": "2026-11-22T10:00:00.050Z",
    "converged": True,
    "iterations": 4,
    "oldest_reading_s": 0.94,
    "taps": {"reg1a": 7},
    "management_status": {"status": "OK", "management_log": []},
    "power_summary": {
        "total_circuit_power_kw": 2294.3867,
        "total_circuit_power_kvar": 426.7235,
        "total_losses_kw": 40.1107,
        "total_losses_kvar": 80.9727,
        "total_load_kw": 2254.276,
        "total_generation_kw": 0.0,
    },
    "voltage_profile": {
        "min_voltage_pu": 0.993666,
        "min_voltage_bus": "65",
        "max_voltage_pu": 1.048141,
        "max_voltage_bus": "83",
        "avg_voltage_pu": 1.018626,
        "violations": [],
    },
    "bus_details": [
        {
            "bus": "1",
            "kv_base": 4.16,
            "phases": {
                "A": {"v_pu": 1.018056, "angle_deg": -0.5034},
                "B": {"v_pu": 1.025202, "angle_deg": -120.1954},
                "C": {"v_pu": 1.019674, "angle_deg": 119.7314},
            },
            "load_kw": 5.0,
            "load_kvar": 1.0,
            "gen_kw": 0.0,
            "net_kw": 5.0,
            "neighbourhood": 1,
            "loads": [
                {
                    "name": "Load_1",
                    "demand_kw": 5.0,
                    "set_kw": 5.0,
                    "kw": 5.0,
                    "kvar": 1.0,
                    "factor": 1.0,
                    "source": "operator",
                    "held_by": [],
                    "not_following": False,
                }
            ],
            "devices": [],
            "generators": [],
            "dfps": [],
        }
    ],
    "transformers": [
        {
            "name": "neighbourhood_1",
            "kind": "service",
            "bus": "1",
            "rating_kva": 225.0,
            "loading_kva": 121.4,
            "loading_percent": 53.96,
            "status": "OK",
        }
    ],
    "adjustments": {"revision": 7, "programs": []},
}

ALERT: Json = {
    "feeder": "ieee123",
    "kind": "overload",
    "event": "begin",
    "subject": "transformer neighbourhood_1",
    "at": "2026-11-22T10:00:00.050Z",
    "version": 1_000_000_061,
    "message": "transformer neighbourhood_1 at bus 1 carries 234.5 kVA of 225 kVA (104.2 %)",
    "value": 104.2,
    "limit": 100.0,
}

ADJUSTMENTS: Json = {
    "revision": 7,
    "programs": [
        {
            "name": "peak_shaving",
            "number": 1,
            "buses": [{"bus": "48", "max_kw": 100.0, "target_pf": 0.95}],
        }
    ],
}

SETPOINT: Json = {"max_kw": 100.0, "pf": 0.95, "reason": "peak_shaving"}

PROGRAM_EVENT: Json = {
    "feeder": "ieee123",
    "event": "executed",
    "name": "peak_shaving",
    "number": 1,
    "at": "2026-11-22T10:00:00Z",
    "revision": 7,
    "total_shed_kw": 20.0,
}

SERVICE_STATUS: Json = {
    "status": "online",
    "service": "solver",
    "feeder": "ieee123",
    "at": "2026-11-22T10:00:00Z",
    "started_at": "2026-11-22T09:30:00Z",
    "pid": 4711,
    "figures": {"fence": 1.0, "solves": 36000.0, "commands": 12.0, "commands_refused": 1.0},
}
