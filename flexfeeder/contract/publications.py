"""Table: what is published without being asked for, from readings to service status."""

from flexfeeder.contract import examples
from flexfeeder.contract.channel import Channel, Group, Message, Party, Retained
from schemas import topics
from schemas.alerts import Alert
from schemas.programs import Adjustments, ProgramEvent
from schemas.readings import Reading, ReadingBatch
from schemas.replies import ServiceStatus
from schemas.setpoints import Setpoint
from schemas.state import State
from schemas.topology import Topology

PUBLICATIONS = (
    Channel(
        id="meter",
        title="Reading",
        group=Group.READINGS,
        topic=topics.meter("{feeder}", "{bus}", "{element}"),
        summary=(
            "What the meter of a load, device or generator saw. Of each element the newest counts. "
            "A generator's reading is its production, positive."
        ),
        senders=(Party.METERS, Party.METER),
        receivers=(Party.SOLVER, Party.METERS),
        messages=(Message("Reading", "One reading of one meter.", Reading, examples.READING),),
        qos=(0, 1),
        retained=Retained.ALLOWED,
        when="At the meter's own interval. One that is retained needs `at` to override another.",
        empty="Clears what was retained; says nothing of demand.",
    ),
    Channel(
        id="meters",
        title="Readings in a batch",
        group=Group.READINGS,
        topic=topics.meters("{feeder}"),
        summary="What a head-end collected; in a valid batch each reading stands for itself.",
        senders=(Party.HEAD_END,),
        receivers=(Party.SOLVER, Party.METERS),
        messages=(Message("ReadingBatch", "Many readings.", ReadingBatch, examples.READING_BATCH),),
        qos=(0, 1),
        when="At the head-end's own interval.",
    ),
    Channel(
        id="topology",
        title="Topology",
        group=Group.FEEDER,
        topic=topics.topology("{feeder}"),
        summary="The feeder as it is built: what does not change from one solve to the next.",
        senders=(Party.SOLVER,),
        receivers=(Party.MANAGER, Party.GATEWAY, Party.METERS, Party.EVERYONE),
        messages=(Message("Topology", "The feeder as it is built.", Topology, examples.TOPOLOGY),),
        retained=Retained.YES,
        when="When the solver connects.",
    ),
    Channel(
        id="state",
        title="State",
        group=Group.FEEDER,
        topic=topics.state("{feeder}"),
        summary=(
            "The feeder as it was last solved. Readers drop versions lower than the one they have."
        ),
        senders=(Party.SOLVER,),
        receivers=(Party.MANAGER, Party.GATEWAY, Party.EVERYONE),
        messages=(
            Message(
                "State",
                "The feeder as it was last solved.",
                State,
                examples.STATE,
                user_properties={
                    "version": "The payload's version, where one port of the broker speaks both "
                    "MQTT 3.1.1 and 5."
                },
            ),
        ),
        qos=(0,),
        retained=Retained.YES,
        when=(
            "After every solve: at once for commands, at most `FLEXFEEDER_SOLVE_HZ` (20) times a "
            "second for readings, and at least once a second."
        ),
    ),
    Channel(
        id="alert",
        title="Alert",
        group=Group.FEEDER,
        topic=topics.alert("{feeder}"),
        summary="Something is over a limit or not as it should be, or no longer so.",
        senders=(Party.SOLVER,),
        receivers=(Party.GATEWAY, Party.EVERYONE),
        messages=(Message("Alert", "Begin or end of an alert.", Alert, examples.ALERT),),
        when="Once when it begins and once when it ends.",
    ),
    Channel(
        id="adjustments",
        title="Adjustments",
        group=Group.PROGRAMS,
        topic=topics.adjustments("{feeder}"),
        summary=(
            "Every program in force on the feeder, with what it asks of each of its buses: the "
            "whole of it each time. A lower revision than the last is ignored."
        ),
        senders=(Party.MANAGER,),
        receivers=(Party.SOLVER, Party.DEVICE),
        messages=(
            Message("Adjustments", "Everything in force.", Adjustments, examples.ADJUSTMENTS),
        ),
        retained=Retained.YES,
        when="On change, and again each second until the state shows the revision.",
    ),
    Channel(
        id="setpoint",
        title="Setpoint",
        group=Group.PROGRAMS,
        topic=topics.setpoint("{feeder}", "{bus}", "{element}"),
        summary="What a load, device or generator is asked to keep to.",
        senders=(Party.SOLVER,),
        receivers=(Party.METERS, Party.DEVICE),
        messages=(
            Message("Setpoint", "The setpoint of one element.", Setpoint, examples.SETPOINT),
        ),
        retained=Retained.YES,
        when="On change; when the solver connects, those in force, and any other is cleared.",
        empty="Lifts the setpoint.",
    ),
    Channel(
        id="program",
        title="Program event",
        group=Group.PROGRAMS,
        topic=topics.program_event("{feeder}"),
        summary="What happened to a program.",
        senders=(Party.MANAGER,),
        receivers=(Party.GATEWAY, Party.EVERYONE),
        messages=(Message("ProgramEvent", "An event.", ProgramEvent, examples.PROGRAM_EVENT),),
        when="After each command that changed something.",
    ),
    Channel(
        id="service_status",
        title="Service status",
        group=Group.STATUS,
        topic=topics.service_status("{instance}"),
        summary="Birth, heartbeat and last will of a service, with its counters.",
        senders=(Party.SOLVER, Party.MANAGER, Party.GATEWAY, Party.METERS),
        receivers=(Party.GATEWAY, Party.EVERYONE),
        messages=(
            Message("ServiceStatus", "A sign of life.", ServiceStatus, examples.SERVICE_STATUS),
        ),
        retained=Retained.YES,
        when="Once a second. Silence for four seconds counts as offline.",
        empty="An instance with a random name has gone, and leaves nothing behind.",
    ),
)
