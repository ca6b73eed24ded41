"""Every write of the gateway, and the command that it becomes."""

from gateway_peers import Json

DEVICE: Json = {"bus_name": "1", "device_name": "EV_Charger_1"}
GENERATOR_DEFAULTS: Json = {"model": 1, "vmin_pu": 0.9, "vmax_pu": 1.1}
TERMS: Json = {"name": "peak_shaving", "min_power_kw": 100.0, "target_pf": 0.95}

TO_SOLVER: list[tuple[str, Json, str, Json]] = [
    ("/run_simulation", {}, "run_simulation", {}),
    (
        "/modify_load_neighbourhood",
        {"neighbourhood": 1, "factor": 0.8},
        "set_factor",
        {"neighbourhood": 1, "factor": 0.8},
    ),
    (
        "/modify_load_household",
        {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0},
        "set_load",
        {"bus_name": "1", "load_name": "Load_1", "new_kw": 5.0, "new_kvar": 1.0},
    ),
    (
        "/modify_load_household",
        {"bus_name": "1", "factor": 0.9},
        "set_factor",
        {"bus_name": "1", "factor": 0.9},
    ),
    (
        "/release_load",
        {"bus_name": "1", "load_name": "Load_1"},
        "release_load",
        {"bus_name": "1", "load_name": "Load_1"},
    ),
    ("/release_load", {"bus_name": "1"}, "release_load", {"bus_name": "1"}),
    (
        "/add_generator",
        {
            "bus_name": "1",
            "kv": 0.48,
            "kw": 50.0,
            "kvar": 10.0,
            "model": 1,
            "vmin_pu": 0.9,
            "vmax_pu": 1.1,
        },
        "add_generator",
        {"bus_name": "1", "kv": 0.48, "kw": 50.0, "kvar": 10.0, **GENERATOR_DEFAULTS},
    ),
    (
        "/add_generator",
        {"bus_name": "1", "kw": 100, "phases": 3},
        "add_generator",
        {"bus_name": "1", "kw": 100.0, "phases": 3, **GENERATOR_DEFAULTS},
    ),
    (
        "/add_generator",
        {"bus_name": "1", "kw": 5.0, "pf": 0.9, "phase": "b", "generator_name": "PV_1"},
        "add_generator",
        {
            "bus_name": "1",
            "kw": 5.0,
            "pf": 0.9,
            "phase": "B",
            "generator_name": "PV_1",
            **GENERATOR_DEFAULTS,
        },
    ),
    (
        "/remove_generator",
        {"generator_name": "gen_1"},
        "remove_generator",
        {"generator_name": "gen_1"},
    ),
    (
        "/add_device",
        {**DEVICE, "kw": 7.2, "kvar": 1.4, "pf": 0.98},
        "add_device",
        {**DEVICE, "kw": 7.2, "kvar": 1.4, "pf": 0.98},
    ),
    (
        "/add_device",
        {**DEVICE, "kw": 7.5, "phases": 1},
        "add_device",
        {**DEVICE, "kw": 7.5, "phases": 1},
    ),
    ("/disconnect_device", DEVICE, "disconnect_device", DEVICE),
]
"""Path, body as the contract has it, command, and what the command says."""

TO_MANAGER: list[tuple[str, str, Json, str, Json]] = [
    ("POST", "/register_dfp", TERMS, "register", {**TERMS, "description": ""}),
    (
        "POST",
        "/register_dfp",
        {**TERMS, "description": "of the evening"},
        "register",
        {**TERMS, "description": "of the evening"},
    ),
    (
        "PUT",
        "/update_dfp",
        {"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98},
        "update",
        {"name": "peak_shaving", "min_power_kw": 120.0, "target_pf": 0.98},
    ),
    (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "1", "dfp_number": 1},
        "subscribe",
        {"bus_name": "1", "dfp_number": 1},
    ),
    (
        "POST",
        "/subscribe_dfp",
        {"bus_name": "1", "dfp_name": "peak_shaving"},
        "subscribe",
        {"bus_name": "1", "dfp_name": "peak_shaving"},
    ),
    (
        "POST",
        "/unsubscribe_dfp",
        {"bus_name": "1", "dfp_number": 1},
        "unsubscribe",
        {"bus_name": "1", "dfp_number": 1},
    ),
    (
        "POST",
        "/execute_dfp",
        {"dfp_name": "peak_shaving"},
        "execute",
        {"dfp_name": "peak_shaving"},
    ),
    ("POST", "/stop_dfp", {"dfp_name": "peak_shaving"}, "stop", {"dfp_name": "peak_shaving"}),
    ("DELETE", "/delete_dfp", {"name": "peak_shaving"}, "delete", {"name": "peak_shaving"}),
]
"""Method, path, body as the contract has it, command, and what it says beside the feeder."""
