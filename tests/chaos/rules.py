"""What an operation makes of a client's world: refused, and why, or carried out."""

from collections.abc import Callable
from typing import Any

from chaos.operations import Kind, Operation
from chaos.world import Consumer, Generator, Program, World

Body = dict[str, Any]


def refusal(world: World, operation: Operation) -> str | None:
    """Why an operation is to be refused, as the code of an error; None where it is not."""
    kind, body = operation.kind, operation.body
    if kind in _OF_PROGRAMS:
        return None if world.named_or_numbered(body) is not None else "program_not_found"
    is_refused, code = _REFUSALS.get(kind, (_never, ""))
    return code if is_refused(world, body) else None


def apply(world: World, operation: Operation, said: Any) -> None:
    """Carry out what was accepted; ``said`` is what its answer says beside the state.

    Also what should have been refused, as well as can be.
    """
    kind, body = operation.kind, operation.body
    if kind in _OF_PROGRAMS:
        name = world.named_or_numbered(body)
        if name is not None:
            _OF_PROGRAMS[kind](world, name, body)
    elif kind in _OTHERS:
        _OTHERS[kind](world, body, said)


def _never(_world: World, _body: Body) -> bool:
    return False


def _is_no_consumer(world: World, body: Body) -> bool:
    name = body.get("load_name")
    return name is not None and (body["bus_name"], name) not in world.consumers


def _is_consumer(world: World, body: Body) -> bool:
    return (body["bus_name"], body["device_name"]) in world.consumers


def _is_no_device(world: World, body: Body) -> bool:
    found = world.consumers.get((body["bus_name"], body["device_name"]))
    return found is None or found.kind != "device"


def _is_generator(world: World, body: Body) -> bool:
    return body.get("generator_name") in world.generators


def _is_no_generator(world: World, body: Body) -> bool:
    return body["generator_name"] not in world.generators


def _is_program(world: World, body: Body) -> bool:
    return body["name"] in world.programs


def _pin(world: World, body: Body, _said: Any) -> None:
    consumer = world.consumers.get((body["bus_name"], body["load_name"]))
    if consumer is not None:
        consumer.pin_kw, consumer.factor = body["new_kw"], 1.0


def _release(world: World, body: Body, _said: Any) -> None:
    name = body.get("load_name")
    for each, consumer in world.consumers_at(body["bus_name"]):
        if name in {None, each}:
            consumer.pin_kw = None


def _factor(world: World, body: Body, _said: Any) -> None:
    bus = body.get("bus_name")
    for (at, _), consumer in world.consumers.items():
        if bus in {None, at} and consumer.kind == "load":
            consumer.factor = body["factor"]


def _add_device(world: World, body: Body, _said: Any) -> None:
    world.consumers[body["bus_name"], body["device_name"]] = Consumer("device", body["kw"])


def _disconnect_device(world: World, body: Body, _said: Any) -> None:
    world.consumers.pop((body["bus_name"], body["device_name"]), None)


def _add_generator(world: World, body: Body, said: Any) -> None:
    world.generators[said["generator_name"]] = Generator(body["bus_name"], body["kw"])


def _remove_generator(world: World, body: Body, _said: Any) -> None:
    world.generators.pop(body["generator_name"], None)


def _register(world: World, body: Body, said: Any) -> None:
    world.programs[body["name"]] = Program(
        said["number"], body["min_power_kw"], body["target_pf"], body.get("description", "")
    )


def _update(world: World, name: str, body: Body) -> None:
    program = world.programs[name]
    program.min_power_kw, program.target_pf = body["min_power_kw"], body["target_pf"]
    program.description = body.get("description", program.description)


def _delete(world: World, name: str, _body: Body) -> None:
    del world.programs[name]


def _subscribe(world: World, name: str, body: Body) -> None:
    world.programs[name].subscriptions.add(body["bus_name"])


def _unsubscribe(world: World, name: str, body: Body) -> None:
    world.programs[name].subscriptions.discard(body["bus_name"])


def _execute(world: World, name: str, _body: Body) -> None:
    program = world.programs[name]
    program.executions += not program.executing
    program.executing = True


def _stop(world: World, name: str, _body: Body) -> None:
    world.programs[name].executing = False


_REFUSALS: dict[Kind, tuple[Callable[[World, Body], bool], str]] = {
    Kind.PIN: (_is_no_consumer, "load_not_found"),
    Kind.RELEASE: (_is_no_consumer, "load_not_found"),
    Kind.ADD_DEVICE: (_is_consumer, "already_exists"),
    Kind.DISCONNECT_DEVICE: (_is_no_device, "device_not_found"),
    Kind.ADD_GENERATOR: (_is_generator, "already_exists"),
    Kind.REMOVE_GENERATOR: (_is_no_generator, "generator_not_found"),
    Kind.REGISTER: (_is_program, "already_exists"),
}
"""What makes a refusal, and its code; beside what holds for all operations on a program."""

_OTHERS: dict[Kind, Callable[[World, Body, Any], None]] = {
    Kind.PIN: _pin,
    Kind.RELEASE: _release,
    Kind.BUS_FACTOR: _factor,
    Kind.NEIGHBOURHOOD_FACTOR: _factor,
    Kind.ADD_DEVICE: _add_device,
    Kind.DISCONNECT_DEVICE: _disconnect_device,
    Kind.ADD_GENERATOR: _add_generator,
    Kind.REMOVE_GENERATOR: _remove_generator,
    Kind.REGISTER: _register,
}

_OF_PROGRAMS: dict[Kind, Callable[[World, str, Body], None]] = {
    Kind.UPDATE: _update,
    Kind.DELETE: _delete,
    Kind.SUBSCRIBE: _subscribe,
    Kind.UNSUBSCRIBE: _unsubscribe,
    Kind.EXECUTE: _execute,
    Kind.STOP: _stop,
}
