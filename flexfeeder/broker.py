"""The embedded broker as a process: ``python -m flexfeeder.broker CONFIG``.

rumqttd, by way of iotcore. Its log is off: it reports each packet as an error.
"""

import logging
import sys

import orjson
from iotcore import IotCoreBroker

_LISTENER = """
[{version}.1]
name = "{name}"
listen = "{listen}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = {largest_message}
max_inflight_count = 1000
dynamic_filters = true
"""

_ROUTER = """id = 0
[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 5
"""

_SEGMENTS = {
    "flexfeeder/+/meter/#": 65536,
    "flexfeeder/reply/#": 262144,
    "flexfeeder/+/setpoint/#": 65536,
    "flexfeeder/+/alert": 262144,
    "flexfeeder/service/+/status": 65536,
}
"""Bytes of a segment of the logs of these topics; each has two."""

_SEGMENT = """[router.custom_segment."{topics}"]
max_segment_size = {size}
max_segment_count = 2
"""

LARGEST_MESSAGE = 32 << 20
"""Bytes; the state of a feeder of ten thousand nodes takes a tenth of it."""


def configuration(
    host: str, port: int, port5: int, credentials: tuple[str, str] | None = None
) -> str:
    """Rumqttd's configuration: MQTT 3.1.1 for devices at ``host:port``, MQTT 5 on loopback.

    With ``credentials``, a name and a password, devices need them; nobody does on the other port.

    It keeps a log of each topic in memory. The segments bound it to 5 MB a topic, and to 128 kB
    for each meter: half a minute of readings at fifty a second. A message that is kept keeps the
    whole buffer in which it was read, and what comes with a state therefore fifty kilobytes: of
    replies there are at most 512 kB for each who asks, two thousand or so, for 5 MB of them would
    hold 1.4 GB. So it is with alerts, setpoints and heartbeats.
    """
    return (
        _ROUTER
        + "".join(_SEGMENT.format(topics=topics, size=size) for topics, size in _SEGMENTS.items())
        + _LISTENER.format(
            version="v4", name="mqtt311", listen=f"{host}:{port}", largest_message=LARGEST_MESSAGE
        )
        + (_authentication(*credentials) if credentials else "")
        + _LISTENER.format(
            version="v5",
            name="mqtt5",
            listen=f"127.0.0.1:{port5}",
            largest_message=LARGEST_MESSAGE,
        )
    )


def _authentication(username: str, password: str) -> str:
    # What JSON says of a text, TOML understands.
    name, secret = (orjson.dumps(text).decode() for text in (username, password))
    return f"[v4.1.connections.auth]\n{name} = {secret}\n"


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    IotCoreBroker(config_path=sys.argv[1]).run_forever()


if __name__ == "__main__":
    main()
