"""``/events``: what happens on a feeder, as it happens."""

import orjson
from fastapi import Request, Response

from schemas.state import State
from services.api_keys import Caller
from services.gateway import examples
from services.gateway.bridge import Bridge
from services.gateway.guard import CALLER
from services.gateway.incoming import feeder_meant
from services.gateway.openapi import FEEDER, READ_ERRORS, Documentation, Operation
from services.gateway.outbox import MOST_WAITING, STATE_INTERVAL_S, encoded
from services.gateway.server import hang_up_of
from services.gateway.streams import EVENTS, MOST_READERS, MOST_READERS_A_KEY, Streams

_DESCRIPTION = f"""Server-sent events, each with JSON as its data:

- `state`: the state, as `/get_state` gives it; the newest at once, and then at most one in
  {STATE_INTERVAL_S:g} s. Its id is the version.
- `alert`: something is over a limit from now on (`begin`), or no longer (`end`).
- `program`: something happened to a demand flexibility program.

Comments in between say that the connection is alive. A caller for whom more than {MOST_WAITING}
events wait is cut off, and so is one whose key is revoked; at most {MOST_READERS} may read at once,
{MOST_READERS_A_KEY} of them with the same key."""


def install(routes: Documentation, bridge: Bridge, streams: Streams) -> None:
    """Add the route."""

    async def get_events(request: Request) -> Response:
        feeder = feeder_meant(request, bridge)
        client = f"{request.client.host}:{request.client.port}" if request.client else "unknown"
        newest = bridge.newest.states.get(feeder)
        caller: Caller | None = request.scope.get(CALLER)
        key_id = None if caller is None else caller.key_id
        return streams.open(feeder, newest, hang_up_of(request.scope), client, key_id)

    operation = Operation(
        tag="events",
        summary="What happens, as it happens",
        description=_DESCRIPTION,
        errors=READ_ERRORS,
        parameters=(FEEDER,),
        media_type="text/event-stream",
        example=_example(),
        events={"state": State, **EVENTS},
    )
    routes.add("GET", "/events", get_events, operation)


def _example() -> str:
    stream = (
        encoded("state", orjson.dumps(examples.STATE), examples.STATE["version"]),
        encoded("alert", orjson.dumps(examples.ALERT)),
        encoded("program", orjson.dumps(examples.PROGRAM_EVENT)),
    )
    return b"".join(stream).decode()
