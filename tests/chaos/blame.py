"""Which operation explains what is seen."""

from chaos.operations import Kind, Operation
from chaos.sight import Key, Shown
from chaos.world import ProgramFacts, is_close

_FACTORS = {Kind.BUS_FACTOR, Kind.NEIGHBOURHOOD_FACTOR}


def concerns(operation: Operation, key: Key) -> bool:
    """True if an operation is about an element of its client."""
    kind, body = operation.kind, operation.body
    if key.kind == "generator":
        name = body.get("generator_name")
        is_meant = kind is Kind.REMOVE_GENERATOR or body.get("bus_name") == key.bus or not key.bus
        return kind in {Kind.ADD_GENERATOR, Kind.REMOVE_GENERATOR} and (
            is_meant and name in {None, key.name}
        )
    if kind in _FACTORS:
        return key.kind == "load" and body.get("bus_name") in {None, key.bus}
    if kind in {Kind.PIN, Kind.RELEASE}:
        return body["bus_name"] == key.bus and body.get("load_name") in {None, key.name}
    if kind in {Kind.ADD_DEVICE, Kind.DISCONNECT_DEVICE}:
        return key.kind == "device" and (body["bus_name"], body["device_name"]) == key[1:]
    return False


def shows(operation: Operation, shown: Shown | None) -> bool:
    """True if an element that is shown so may be the operation's doing."""
    kind, body = operation.kind, operation.body
    if kind in {Kind.DISCONNECT_DEVICE, Kind.REMOVE_GENERATOR}:
        return shown is None
    if shown is None:
        return False
    if kind is Kind.PIN:
        pin_kw = body["new_kw"] * shown.factor
        return shown.source == "operator" and is_close(shown.demand_kw, pin_kw)
    if kind is Kind.RELEASE:
        return shown.source == "nominal"
    if kind in _FACTORS:
        return is_close(shown.factor, body["factor"])
    return kind in {Kind.ADD_DEVICE, Kind.ADD_GENERATOR}


def is_about(operation: Operation, program: str, number: int | None = None) -> bool:
    """True if an operation names a program, by its name or else by its number."""
    body = operation.body
    is_numbered = number is not None and body.get("dfp_number") == number
    return is_numbered or program in {body.get("name"), body.get("dfp_name")}


def shows_program(
    operation: Operation, name: str, expected: ProgramFacts | None, facts: ProgramFacts | None
) -> bool:
    """True if what differs about a program may be the operation's doing."""
    kind, body = operation.kind, operation.body
    if not is_about(operation, name, (facts or expected or {}).get("number")):
        return False
    if expected is None or facts is None:
        return kind is (Kind.DELETE if facts is None else Kind.REGISTER)
    if kind is Kind.UPDATE:
        return bool(facts["min_power_kw"] == body["min_power_kw"])
    if kind in {Kind.SUBSCRIBE, Kind.UNSUBSCRIBE}:
        return (body["bus_name"] in facts["subscriptions"]) is (kind is Kind.SUBSCRIBE)
    if kind in {Kind.EXECUTE, Kind.STOP}:
        return facts["executing"] is (kind is Kind.EXECUTE)
    return False
