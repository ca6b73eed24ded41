"""What ``flexfeeder up`` looks at before it starts anything: ports, and who would be let in."""

import click

from flexfeeder import ports
from flexfeeder.embedded import credentials
from services.gateway.policy import listens_to_this_machine
from services.settings import Settings


class CannotStart(click.ClickException):
    """The system cannot be started as asked for; the message says what to do."""


def check(settings: Settings) -> None:
    """Refuse what cannot be, all at once.

    Raises:
        CannotStart: naming each setting.

    """
    wanted = [("HTTP", settings.http_host, settings.http_port, "FLEXFEEDER_HTTP_PORT")]
    if settings.mqtt_host is None:
        wanted.append(("MQTT", settings.mqtt_listen, settings.mqtt_port, "FLEXFEEDER_MQTT_PORT"))
        if settings.mqtt5_port is not None:
            wanted.append(("MQTT 5", ports.LOOPBACK, settings.mqtt5_port, "FLEXFEEDER_MQTT5_PORT"))
    problems = _unfit(settings)
    for index, (what, host, port, variable) in enumerate(wanted):
        if port in [each[2] for each in wanted[:index]]:
            problems.append(f"{what} port {port} is wanted twice; give {variable} another")
        if not ports.is_free(host, port):
            by = ports.holder(port)
            problems.append(
                f"{what} port {port} is taken{f' by {by}' if by else ''}; "
                f"choose another: {variable}={_suggestion(port)} flexfeeder up"
            )
    if problems:
        raise CannotStart("\n".join(problems))


def _unfit(settings: Settings) -> list[str]:
    """What would let others in without asking who they are, and what is not for this command."""
    problems = []
    is_open = settings.mqtt_host is None and not listens_to_this_machine(settings.mqtt_listen)
    if is_open and credentials(settings) is None:
        problems.append(
            f"FLEXFEEDER_MQTT_LISTEN={settings.mqtt_listen} lets other machines publish: give "
            "FLEXFEEDER_MQTT_USERNAME and FLEXFEEDER_MQTT_PASSWORD too, or use the deployment of "
            "deploy/docker-compose.yml, where each meter has a name of its own"
        )
    if settings.keys_file is None and not listens_to_this_machine(settings.http_host):
        problems.append(
            f"FLEXFEEDER_HTTP_HOST={settings.http_host} lets other machines operate the feeder: "
            "give FLEXFEEDER_KEYS_FILE too (flexfeeder keys add)"
        )
    if settings.http_cert is not None or settings.http_key is not None:
        problems.append(
            "FLEXFEEDER_HTTP_CERT and FLEXFEEDER_HTTP_KEY are for a gateway that runs by itself"
        )
    if settings.metrics_port is not None:
        problems.append(
            "FLEXFEEDER_METRICS_PORT is for services that run by themselves; here the gateway's "
            "/metrics tells of all of them"
        )
    return problems


def _suggestion(port: int) -> int:
    """A port near the one that is taken."""
    return next(
        (p for p in range(port + 1, port + 100) if ports.is_free(ports.LOOPBACK, p)), port + 1
    )
