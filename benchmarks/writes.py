"""How long each write takes beside the household write, and an execution at all load buses."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import orjson

from benchmarks.figures import Row, percentile, progress, times_ms
from benchmarks.rest_write import request
from flexfeeder.testing import MOSQUITTO, System, system

TURNS = 60
CALLS = 5
"""Calls of each kind in a turn: all take turns, so that they find the machine alike."""

HOUSEHOLD = "modify_load_household, a pin"
EXECUTE = "execute_dfp, all load buses"
ASKED = 1.3
ASKED_OF_EXECUTION = 5.0

Body = dict[str, Any]


def run() -> list[Row]:
    if MOSQUITTO is None:
        progress("each write: on the embedded broker, mosquitto is not installed")
    progress("each write, beside the household write")
    with system(
        on_mosquitto=MOSQUITTO is not None, env={"FLEXFEEDER_LOG_LEVEL": "ERROR"}
    ) as running:
        taken = _Caller(running).all()
    household = percentile(taken[HOUSEHOLD], 0.5)
    return [_row(name, times, household) for name, times in taken.items() if name != HOUSEHOLD]


def _row(name: str, times: list[float], household: float) -> Row:
    asked = ASKED_OF_EXECUTION if name == EXECUTE else ASKED
    p50 = percentile(times, 0.5)
    return Row(
        f"write: {name}",
        f"p50 {p50:.2f} ms, p99 {percentile(times, 0.99):.2f} ms",
        f"household write p50 {household:.2f} ms",
        f"ratio at most {asked:g}: {p50 / household:.2f}",
        p50 <= asked * household,
    )


@dataclass
class _Caller:
    """Calls every write in turn; what has to be undone in between is not timed."""

    running: System
    _number: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._http = HTTPConnection(self.running.http_host, self.running.http_port)
        state = orjson.loads(self._call("/run_simulation", {}))["results"]
        self._buses = [b["bus"] for b in state["bus_details"] if b["loads"]]
        self._call("/register_dfp", {"name": "bench", "min_power_kw": 20.0, "target_pf": 0.95})
        for bus in self._buses:
            self._call("/subscribe_dfp", {"bus_name": bus, "dfp_name": "bench"})
        self._call("/register_dfp", {"name": "small", "min_power_kw": 20.0, "target_pf": 0.95})

    def all(self) -> dict[str, list[float]]:
        kinds: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            HOUSEHOLD: (self._pin, _nothing),
            "modify_load_household, a factor": (self._factor, _nothing),
            "modify_load_neighbourhood": (self._neighbourhood, _nothing),
            "release_load": (self._release, _nothing),
            "add_device": (self._add_device, self._remove_device),
            "add_device, where none was before": (self._add_device_elsewhere, self._remove_device),
            "disconnect_device": (self._remove_device, self._add_device),
            "add_generator behind a step-up": (self._add_generator, self._remove_generator),
            "remove_generator": (self._remove_generator, self._add_generator),
            "register_dfp": (self._register, self._delete),
            "update_dfp": (self._update, _nothing),
            "subscribe_dfp": (self._subscribe, self._unsubscribe),
            "unsubscribe_dfp": (self._unsubscribe, self._subscribe),
            "delete_dfp": (self._delete, self._register),
            EXECUTE: (self._execute, self._stop),
            "stop_dfp": (self._stop, self._execute),
        }
        prepare = {
            "disconnect_device": self._add_device,
            "remove_generator": self._add_generator,
            "unsubscribe_dfp": self._subscribe,
            "delete_dfp": self._register,
            "stop_dfp": self._execute,
        }
        clean = {
            "disconnect_device": self._remove_device,
            "remove_generator": self._remove_generator,
            "unsubscribe_dfp": self._unsubscribe,
            "delete_dfp": self._delete,
            "stop_dfp": self._stop,
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for turn in range(TURNS + 3):
            for name, (timed, undo) in kinds.items():
                prepare.get(name, _nothing)()
                for _ in range(CALLS):
                    times = times_ms(timed, 1, 0)
                    undo()
                    if turn >= 3:
                        taken[name] += times
                clean.get(name, _nothing)()
        return taken

    def _call(self, path: str, body: Body, method: str = "POST") -> bytes:
        return request(self._http, path, body, method)

    def _pin(self) -> None:
        kw = 5.0 + next(self._number) % 7
        self._call(
            "/modify_load_household",
            {"bus_name": "1", "load_name": "Load_1", "new_kw": kw, "new_kvar": 1.0},
        )

    def _factor(self) -> None:
        factor = 1.0 + 0.01 * (next(self._number) % 7)
        self._call("/modify_load_household", {"bus_name": "2", "factor": factor})

    def _neighbourhood(self) -> None:
        factor = 1.0 + 0.01 * (next(self._number) % 7)
        self._call("/modify_load_neighbourhood", {"neighbourhood": 1, "factor": factor})

    def _release(self) -> None:
        self._call("/release_load", {"bus_name": "1", "load_name": "Load_1"})

    def _add_device(self, bus: str = "1") -> None:
        self._device_bus = bus
        self._call("/add_device", {"bus_name": bus, "device_name": "bench", "kw": 7.2})

    def _add_device_elsewhere(self) -> None:
        self._add_device(self._buses[next(self._number) % len(self._buses)])

    def _remove_device(self) -> None:
        body = {"bus_name": self._device_bus, "device_name": "bench"}
        self._call("/disconnect_device", body)

    def _add_generator(self) -> None:
        body = {"bus_name": "1", "kv": 0.48, "kw": 50.0, "generator_name": "bench"}
        self._call("/add_generator", body)

    def _remove_generator(self) -> None:
        self._call("/remove_generator", {"generator_name": "bench"})

    def _register(self) -> None:
        self._call("/register_dfp", {"name": "passing", "min_power_kw": 1.0, "target_pf": 0.9})

    def _delete(self) -> None:
        self._call("/delete_dfp", {"name": "passing"}, "DELETE")

    def _update(self) -> None:
        kw = 20.0 + next(self._number) % 7
        self._call("/update_dfp", {"name": "small", "min_power_kw": kw, "target_pf": 0.95}, "PUT")

    def _subscribe(self) -> None:
        self._call("/subscribe_dfp", {"bus_name": "1", "dfp_name": "small"})

    def _unsubscribe(self) -> None:
        self._call("/unsubscribe_dfp", {"bus_name": "1", "dfp_name": "small"})

    def _execute(self) -> None:
        self._call("/execute_dfp", {"dfp_name": "bench"})

    def _stop(self) -> None:
        self._call("/stop_dfp", {"dfp_name": "bench"})


def _nothing() -> None:
    pass
