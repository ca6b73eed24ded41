"""Table: the replies, and the topic on which they come."""

from flexfeeder.contract.channel import Channel, Group, Json, Message, Party
from schemas import topics
from schemas.programs import DeletedProgram, ExecutionReport, Program
from schemas.replies import Accepted, Refused
from schemas.wire import WireModel


class AddedGenerator(WireModel):
    """What is said of a generator that was added."""

    generator_name: str


_REGISTERED: Json = {
    "name": "peak_shaving",
    "number": 1,
    "description": "",
    "min_power_kw": 100.0,
    "target_pf": 0.95,
    "registered_at": "2026-11-22T09:58:00Z",
    "subscriptions": [],
    "executing": False,
    "executions": [],
}

_EXECUTING: Json = {
    **_REGISTERED,
    "subscriptions": ["48"],
    "executing": True,
    "executions": [
        {
            "started_at": "2026-11-22T10:00:00Z",
            "stopped_at": None,
            "revision": 7,
            "buses": 1,
            "total_shed_kw": 20.0,
        }
    ],
}

ACCEPTED = Message(
    "Accepted",
    "The command took effect.",
    Accepted,
    {
        "request_id": "r-17",
        "status": "success",
        "message": "load Load_1 at bus 1 pinned to 5 kW",
        "version": 1_000_000_061,
        "buses": ["1"],
        "results": None,
    },
)

WITH_GENERATOR = Message(
    "AcceptedWithGenerator",
    "The generator is connected; `results` is its name.",
    Accepted,
    {
        "request_id": "r-17",
        "status": "success",
        "message": "generator PV_1 added at bus 1",
        "version": 1_000_000_062,
        "buses": ["1"],
        "results": {"generator_name": "PV_1"},
    },
    results=AddedGenerator,
)

WITH_DELETED = Message(
    "AcceptedWithDeleted",
    "The program is gone; `results` is what it was called.",
    Accepted,
    {
        "request_id": "r-17",
        "status": "success",
        "message": "program peak_shaving deleted",
        "buses": ["48"],
        "results": {"name": "peak_shaving", "number": 1},
    },
    results=DeletedProgram,
)

WITH_PROGRAM = Message(
    "AcceptedWithProgram",
    "The command took effect; `results` is the program.",
    Accepted,
    {
        "request_id": "r-17",
        "status": "success",
        "message": "program peak_shaving registered as number 1",
        "results": _REGISTERED,
    },
    results=Program,
)

WITH_PROGRAMS = Message(
    "AcceptedWithPrograms",
    "`results` is the list of the feeder's programs.",
    Accepted,
    {
        "request_id": "r-17",
        "status": "success",
        "message": "1 program",
        "results": [_EXECUTING],
    },
    results=tuple[Program, ...],
)

WITH_REPORT = Message(
    "AcceptedWithReport",
    "The program is in force; `results` is what it did.",
    Accepted,
    {
        "request_id": "r-17",
        "status": "success",
        "message": "program peak_shaving is in force at 1 bus; shed 20 kW",
        "version": 1_000_000_084,
        "buses": ["48"],
        "results": {
            "name": "peak_shaving",
            "number": 1,
            "revision": 7,
            "version": 1_000_000_084,
            "total_shed_kw": 20.0,
            "buses": [
                {
                    "bus": "48",
                    "before": {"kw": 120.0, "kvar": 40.0, "pf": 0.9487},
                    "after": {"kw": 100.0, "kvar": 32.87, "pf": 0.95},
                    "shed_kw": 20.0,
                    "left_alone": None,
                }
            ],
        },
    },
    results=ExecutionReport,
)

REFUSED = Message(
    "Refused",
    "The command was refused and changed nothing; with `no_reply` that is not known.",
    Refused,
    {
        "request_id": "r-17",
        "status": "error",
        "code": "bus_not_found",
        "message": "bus_name: there is no bus '9999'",
        "details": [{"field": "bus_name", "problem": "there is no bus '9999'"}],
    },
)

REPLIES = (
    Channel(
        id="reply",
        title="Reply",
        group=Group.REPLIES,
        topic=topics.reply("{client}"),
        summary=(
            "The one answer to a command, on the topic that its sender named: this one, or up to "
            "four levels below it."
        ),
        senders=(Party.SOLVER, Party.MANAGER),
        receivers=(Party.GATEWAY, Party.CLIENT),
        messages=(ACCEPTED, REFUSED),
        when="Once for each command that names a reply topic.",
    ),
)
