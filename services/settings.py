"""Settings of every service: the environment in, one frozen object out."""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
)

from schemas.wire import Name

PREFIX = "FLEXFEEDER_"
_SECRETS = ("mqtt_password", "redis_url")

Port = Annotated[int, Field(ge=1, le=65535)]


def _ipv4(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _store_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("a store is named by redis://, rediss:// or unix://")
    return url


class SettingsError(Exception):
    """The environment does not make valid settings; the message lists every problem."""


class Settings(BaseModel):
    """What the environment says, with the defaults of a single machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    http_host: str = "127.0.0.1"
    http_port: Port = 5000
    http_cert: FilePath | None = None
    """With ``http_key``: the gateway speaks HTTPS."""
    http_key: FilePath | None = None
    http_rate: Annotated[float, Field(gt=0, le=1e6)] = 500.0
    """Requests a second that one API key may make, on average; half a second of them at once."""
    http_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Requests that may be under way at once."""
    cors_origins: str = ""
    """Web pages of other origins that may call the gateway, separated by commas."""
    keys_file: Path | None = None
    """Hashes of the API keys that the gateway takes; without it nobody needs one."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port | None = None
    """Where the service tells Prometheus its figures, and whether it is well; nowhere without."""
    mqtt_host: str | None = None
    """Broker to use; without it ``flexfeeder up`` embeds one and services expect it here."""
    mqtt_port: Port = 1883
    mqtt_listen: Annotated[str, AfterValidator(_ipv4)] = "127.0.0.1"
    """Where the embedded broker listens for devices; other machines need more than loopback."""
    mqtt5_port: Port | None = None
    """MQTT 5 listener of a broker that keeps its protocols apart, as the embedded one does."""
    mqtt_username: str | None = None
    mqtt_password: SecretStr | None = None
    mqtt_ca: FilePath | None = None
    redis_url: Annotated[SecretStr, AfterValidator(_store_url)] | None = None
    feeder: Name = "ieee123"
    feeders_dir: Path = Path("feeders")
    data_dir: Path = Path(".flexfeeder")
    results_dir: Path = Path("results_api")
    solve_hz: Annotated[float, Field(gt=0, le=1000)] = 20.0
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)
    ] = "INFO"
    log_format: Annotated[Literal["console", "json"], BeforeValidator(str.lower)] = "console"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read ``FLEXFEEDER_*`` from ``env``; secrets may come from ``FLEXFEEDER_..._FILE``.

        Raises:
            SettingsError: with every problem, each under the name of its variable.

        """
        values: dict[str, str] = {}
        problems: list[str] = []
        for name in cls.model_fields:
            variable = PREFIX + name.upper()
            if text := env.get(variable, "").strip():
                values[name] = text
            elif name in _SECRETS and (path := env.get(variable + "_FILE")):
                try:
                    if secret := Path(path).read_text(encoding="utf-8").strip():
                        values[name] = secret
                except (OSError, UnicodeDecodeError) as error:
                    problems.append(f"{variable}_FILE: cannot be read: {error}")
        known = {PREFIX + name.upper() for name in cls.model_fields}
        known |= {PREFIX + name.upper() + "_FILE" for name in _SECRETS}
        problems += [
            f"{variable}: no such setting"
            for variable in sorted(env)
            if variable.startswith(PREFIX) and variable not in known
        ]
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}"
                for problem in error.errors()
            ]
        if problems:
            raise SettingsError("\n".join(problems))
        return settings

    def to_env(self) -> dict[str, str]:
        """The environment that makes these settings again, for child processes."""
        env: dict[str, str] = {}
        for name, value in self:
            if isinstance(value, SecretStr):
                env[PREFIX + name.upper()] = value.get_secret_value()
            elif value is not None:
                env[PREFIX + name.upper()] = str(value)
        return env
