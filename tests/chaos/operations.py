"""What clients ask for: every kind of write, as a REST request and as a message."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

PROGRAM = "program_"
"""What the names of all programs here begin with; so nobody takes a zone for one."""


class Owner(StrEnum):
    """The service that carries a write out."""

    SOLVER = "solver"
    MANAGER = "manager"


class Kind(StrEnum):
    SOLVE = "solve"
    PIN = "pin"
    RELEASE = "release"
    BUS_FACTOR = "bus factor"
    NEIGHBOURHOOD_FACTOR = "neighbourhood factor"
    ADD_DEVICE = "add device"
    DISCONNECT_DEVICE = "disconnect device"
    ADD_GENERATOR = "add generator"
    REMOVE_GENERATOR = "remove generator"
    REGISTER = "register"
    UPDATE = "update"
    DELETE = "delete"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    EXECUTE = "execute"
    STOP = "stop"


class Way(NamedTuple):
    """Who carries it out, the name of its command, and its route."""

    owner: Owner
    command: str
    method: str
    path: str


WAYS = {
    Kind.SOLVE: Way(Owner.SOLVER, "run_simulation", "POST", "/run_simulation"),
    Kind.PIN: Way(Owner.SOLVER, "set_load", "POST", "/modify_load_household"),
    Kind.RELEASE: Way(Owner.SOLVER, "release_load", "POST", "/release_load"),
    Kind.BUS_FACTOR: Way(Owner.SOLVER, "set_factor", "POST", "/modify_load_household"),
    Kind.NEIGHBOURHOOD_FACTOR: Way(
        Owner.SOLVER, "set_factor", "POST", "/modify_load_neighbourhood"
    ),
    Kind.ADD_DEVICE: Way(Owner.SOLVER, "add_device", "POST", "/add_device"),
    Kind.DISCONNECT_DEVICE: Way(Owner.SOLVER, "disconnect_device", "POST", "/disconnect_device"),
    Kind.ADD_GENERATOR: Way(Owner.SOLVER, "add_generator", "POST", "/add_generator"),
    Kind.REMOVE_GENERATOR: Way(Owner.SOLVER, "remove_generator", "POST", "/remove_generator"),
    Kind.REGISTER: Way(Owner.MANAGER, "register", "POST", "/register_dfp"),
    Kind.UPDATE: Way(Owner.MANAGER, "update", "PUT", "/update_dfp"),
    Kind.DELETE: Way(Owner.MANAGER, "delete", "DELETE", "/delete_dfp"),
    Kind.SUBSCRIBE: Way(Owner.MANAGER, "subscribe", "POST", "/subscribe_dfp"),
    Kind.UNSUBSCRIBE: Way(Owner.MANAGER, "unsubscribe", "POST", "/unsubscribe_dfp"),
    Kind.EXECUTE: Way(Owner.MANAGER, "execute", "POST", "/execute_dfp"),
    Kind.STOP: Way(Owner.MANAGER, "stop", "POST", "/stop_dfp"),
}
"""A body is the same on both ways."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One write of one client, however often it is sent."""

    client: str
    number: int
    kind: Kind
    body: dict[str, Any]

    @property
    def request_id(self) -> str:
        return f"{self.client}.{self.number}"

    @property
    def way(self) -> Way:
        return WAYS[self.kind]

    def __str__(self) -> str:
        return f"{self.kind} {self.body}"
