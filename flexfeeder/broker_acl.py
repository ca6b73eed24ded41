"""Who may do what on the broker: its access list, in Mosquitto's format. Pure.

What is not listed is denied. A broker serves one feeder: a user's rights name it.

===========  ========================================  =======================================
user         hears                                     publishes
===========  ========================================  =======================================
bus/element  its own setpoint                          its own reading
solver       commands, adjustments, readings,          topology, state, alerts, setpoints,
             setpoints, its own status                 replies, its own status
dfp_manager  its commands, topologies, states          adjustments, program events, replies,
                                                       its own status
gateway      all that the solver and the manager       commands to both, its own status
             tell, replies
simulator    topology, setpoints, readings             readings, its own status
operator     what a viewer hears, its own replies      commands to both
viewer       topology, states, alerts, program         nothing
             events, status of the services
head_end     nothing                                   readings in batches
===========  ========================================  =======================================

A meter's name is its bus and element, ``1/Load_1``: two patterns serve all of them.

A gateway and a fleet of simulated meters have names drawn at random, which no rule of the list can
foresee; so everybody may publish the status of the instance whose name is his client id, unless
that is his user name too. Where the listener makes it so (``use_username_as_clientid``), this
gives nobody anything, and where services choose their ids, nobody speaks for another but by
driving him off the broker.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas import topics

SOLVER = "solver"
MANAGER = "dfp_manager"
GATEWAY = "gateway"
SIMULATOR = "simulator"
OPERATOR = "operator"
VIEWER = "viewer"
HEAD_END = "head_end"

USERS = (SOLVER, MANAGER, GATEWAY, SIMULATOR, OPERATOR, VIEWER, HEAD_END)
"""All users but the meters."""

_ANY = "+"


@dataclass(frozen=True, slots=True)
class Rights:
    """Topic filters of what a user may hear, and of what he may publish."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


def meter_user(bus: str, element: str) -> str:
    """The name under which a meter connects; both as the feeder spells them."""
    return f"{bus}/{element}"


def rights(feeder: str) -> Mapping[str, Rights]:
    """What each user may do beside the patterns that are for all."""
    every_reading = (topics.every_meter(feeder), topics.meters(feeder))
    every_reply = topics.replies(_ANY)
    commands = (topics.command(feeder, _ANY), topics.dfp_command(_ANY))
    solver_status = topics.service_status(f"solver-{feeder}")
    told = (
        topics.every_topology(),
        topics.every_state(),
        topics.every_alert(),
        topics.every_program_event(),
        topics.every_service_status(),
    )
    return {
        SOLVER: Rights(
            read=(
                topics.commands(feeder),
                topics.adjustments(feeder),
                *every_reading,
                topics.setpoints(feeder),
                solver_status,
            ),
            write=(
                topics.topology(feeder),
                topics.state(feeder),
                topics.alert(feeder),
                topics.setpoint(feeder, _ANY, _ANY),
                every_reply,
                solver_status,
            ),
        ),
        MANAGER: Rights(
            read=(topics.dfp_commands(), topics.every_topology(), topics.every_state()),
            write=(
                topics.adjustments(feeder),
                topics.program_event(feeder),
                every_reply,
                topics.service_status(MANAGER),
            ),
        ),
        GATEWAY: Rights(read=(*told, every_reply), write=commands),
        SIMULATOR: Rights(
            read=(topics.topology(feeder), topics.setpoints(feeder), *every_reading),
            write=(topics.meter(feeder, _ANY, _ANY),),
        ),
        OPERATOR: Rights(read=(*told, topics.replies(OPERATOR)), write=commands),
        VIEWER: Rights(read=told),
        HEAD_END: Rights(write=(topics.meters(feeder),)),
    }


def acl(feeder: str) -> str:
    """The broker's ``acl_file``."""
    own_meter = topics.meter(feeder, "%u", "").removesuffix("/")
    own_setpoint = topics.setpoint(feeder, "%u", "").removesuffix("/")
    lines = [
        "# Made by `flexfeeder secrets`, which says in flexfeeder/broker_acl.py why it is so.",
        f"pattern write {own_meter}",
        f"pattern read {own_setpoint}",
        f"pattern deny {topics.service_status('%u')}",
        f"pattern write {topics.service_status('%c')}",
    ]
    for user, may in rights(feeder).items():
        lines += ["", f"user {user}"]
        lines += [f"topic read {topic}" for topic in may.read]
        lines += [f"topic write {topic}" for topic in may.write]
    return "\n".join(lines) + "\n"
