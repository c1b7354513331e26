"""What was started, as it is kept between two commands: ``state.json`` in the servers' folder."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from synergy.errors import SynergyError
from synergy.programs import Identity
from synergy.services.sources import Source, Way

FILE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What was started of one server."""

    #: `Way.PROGRAM` or `Way.CONTAINER`.
    way: Way
    #: Path of the program, or the words that call the container engine's compose.
    program: str
    members: int
    ports: Mapping[str, int]
    #: Of RabbitMQ's user; also what tells our containers from others'.
    password: str
    #: Name → who it was when it was started.
    processes: Mapping[str, Identity] = field(default_factory=dict)

    @property
    def native(self) -> str:
        """The program, where it runs on this machine itself; empty for a container."""
        return self.program if self.way is Way.PROGRAM else ""

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return str(Source(way=self.way, program=self.program))


def read(folder: Path) -> dict[str, Standing]:
    """Server → what stands of it; empty when nothing was started.

    Raises:
        SynergyError: the file is none of ours.
    """
    path = folder / FILE
    try:
        document = json.loads(path.read_text("utf-8"))
        return {
            name: Standing(
                way=Way(one["way"]),
                program=one["program"],
                members=one["members"],
                ports=one["ports"],
                password=one["password"],
                processes={name: Identity(**who) for name, who in one["processes"].items()},
            )
            for name, one in document.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SynergyError(
            f"{path} cannot be read ({error!r}); end the servers by hand and remove {folder}"
        ) from error


def write(folder: Path, standing: Mapping[str, Standing]) -> None:
    """Keep it; whole or not at all, for its owner only: it holds a password."""
    path = folder / FILE
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump({name: asdict(one) for name, one in standing.items()}, file, indent=1)
    os.replace(new, path)
