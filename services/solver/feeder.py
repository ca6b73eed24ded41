"""A feeder folder: ``feeder.toml`` read and checked, all problems at once."""

import contextlib
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas import topics
from schemas.wire import NAME_PATTERN, canonical

FeederName = Annotated[str, Field(min_length=1, max_length=200)]
BusName = Annotated[str, Field(pattern=NAME_PATTERN), AfterValidator(canonical)]
Kva = Annotated[float, Field(gt=0, le=1e6)]


class FeederError(Exception):
    """A feeder folder that cannot be used; ``problems`` lists everything that is wrong."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{path} cannot be used:\n{lines}")
        self.problems = problems


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class VoltageLimits(_Table):
    """Bounds of service voltage in pu."""

    min_pu: Annotated[float, Field(gt=0, lt=2)] = 0.95
    max_pu: Annotated[float, Field(gt=0, lt=2)] = 1.05

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_pu >= self.max_pu:
            raise ValueError("min_pu must be below max_pu")
        return self


class Neighbourhood(_Table):
    """Buses behind one service transformer."""

    number: Annotated[int, Field(ge=0, le=1_000_000)]
    buses: Annotated[tuple[BusName, ...], Field(min_length=1)]
    transformer_bus: BusName
    transformer_kva: Kva


class FeederConfig(_Table):
    """The content of ``feeder.toml``."""

    name: FeederName
    master: str
    load_floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    voltage_limits: VoltageLimits = VoltageLimits()
    neighbourhoods: tuple[Neighbourhood, ...] = ()

    def neighbourhood_of_bus(self) -> dict[str, int]:
        """Number of the neighbourhood of each bus that is in one."""
        return {bus: area.number for area in self.neighbourhoods for bus in area.buses}


@dataclass(frozen=True, slots=True)
class Feeder:
    """A feeder folder that reads well; whether it fits its circuit, the engine can tell."""

    id: str
    folder: Path
    config: FeederConfig

    @property
    def master(self) -> Path:
        return self.folder / self.config.master

    @classmethod
    def load(cls, feeders_dir: Path, feeder_id: str) -> "Feeder":
        """Read ``feeders_dir/feeder_id``.

        Raises:
            FeederError: with every problem found.

        """
        folder = feeders_dir / feeder_id
        path = folder / "feeder.toml"
        if feeder_id in topics.RESERVED:
            raise FeederError(path, [f"a feeder cannot be called {feeder_id!r}: topics use it"])
        content = _toml(path)
        problems: list[str] = []
        config = None
        try:
            config = FeederConfig.model_validate(content)
        except ValidationError as error:
            problems += [
                f"{'.'.join(map(str, problem['loc'])) or 'feeder'}: {problem['msg']}"
                for problem in error.errors()
            ]
        if isinstance(master := content.get("master"), str):
            problems += _master_problems(folder, master)
        problems += neighbourhood_problems(_readable_neighbourhoods(content))
        if problems or config is None:
            raise FeederError(path, problems)
        return cls(feeder_id, folder, config)

    def spelling(self) -> dict[str, str]:
        """Element names as the OpenDSS files spell them, by their lower-case form.

        The engine gives every name back in lower case; people look for the one they wrote.
        """
        spelled: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.dss")):
            for kind, name in _NEW.findall(path.read_text(encoding="utf-8", errors="replace")):
                spelled.setdefault(canonical(f"{kind}.{name}"), name)
        return spelled


_NEW = re.compile(
    r"^\s*new\s+(?:object\s*=\s*)?[\"']?(\w+)\.([\w-]+)", re.IGNORECASE | re.MULTILINE
)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(p.parent.name for p in path.parent.parent.glob("*/feeder.toml"))
        here = ", ".join(known) or "none"
        raise FeederError(path, [f"there is no such file; feeders here: {here}"]) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FeederError(path, [f"cannot be read: {error}"]) from None


def _readable_neighbourhoods(content: dict[str, Any]) -> tuple[Neighbourhood, ...]:
    """Those neighbourhoods that are right in themselves, to be held against each other."""
    found = []
    listed = content.get("neighbourhoods")
    for table in listed if isinstance(listed, list) else []:
        with contextlib.suppress(ValidationError):
            found.append(Neighbourhood.model_validate(table))
    return tuple(found)


def _master_problems(folder: Path, master: str) -> list[str]:
    try:
        path = (folder / master).resolve()
        is_inside, is_file = path.is_relative_to(folder.resolve()), path.is_file()
    except (OSError, ValueError):
        return [f"master: {master[:100]!r} is no name of a file"]
    if not is_inside:
        return [f"master: {master!r} lies outside of the feeder's folder"]
    if not is_file:
        return [f"master: there is no file {master!r} in the feeder's folder"]
    return []


def neighbourhood_problems(neighbourhoods: tuple[Neighbourhood, ...]) -> list[str]:
    """Numbers given twice, and buses in more than one neighbourhood."""
    numbers = Counter(n.number for n in neighbourhoods)
    problems = [
        f"neighbourhoods: number {number} is given {count} times"
        for number, count in numbers.items()
        if count > 1
    ]
    buses = Counter(bus for n in neighbourhoods for bus in n.buses)
    problems += [
        f"neighbourhoods: bus {bus!r} is listed {count} times"
        for bus, count in buses.items()
        if count > 1
    ]
    return problems


def circuit_problems(
    neighbourhoods: tuple[Neighbourhood, ...], buses: set[str], load_buses: set[str]
) -> list[str]:
    """Where the neighbourhoods do not fit the circuit: unknown buses, loads outside of all."""
    listed = {bus for n in neighbourhoods for bus in n.buses}
    problems = [
        f"neighbourhoods: bus {bus!r} is not in the circuit" for bus in sorted(listed - buses)
    ]
    problems += [
        f"neighbourhoods: transformer_bus {n.transformer_bus!r} of number {n.number} "
        "is not in the circuit"
        for n in neighbourhoods
        if n.transformer_bus not in buses
    ]
    if neighbourhoods:
        problems += [
            f"neighbourhoods: bus {bus!r} has a load but is in none of them"
            for bus in sorted(load_buses - listed)
        ]
    return problems
