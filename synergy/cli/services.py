"""``services``: real MongoDB and RabbitMQ for development and tests."""

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from synergy.cli.output import Output, Styled, command
from synergy.errors import SynergyError
from synergy.project import Project
from synergy.services import (
    KINDS,
    Kind,
    Place,
    Server,
    choose_sources,
    kinds_named,
    servers_down,
    servers_status,
    servers_up,
)
from synergy.services.kinds import MEMBERS

#: State → its sign and colour.
STATES = {
    "running": ("▶", "cyan"),
    "given": ("▶", "cyan"),
    "broken": ("✕", "red"),
    "absent": ("–", "dim"),
}


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "what",
        choices=["up", "down", "status"],
        help="up: bring them up, or find them running; down: end what up started, and remove its "
        "data; status: which of them run",
    )
    parser.add_argument(
        "servers",
        nargs="*",
        metavar="SERVER",
        help=f"only these: {', '.join(kind.name for kind in KINDS)} (all)",
    )
    parser.add_argument(
        "--members",
        type=int,
        default=MEMBERS[0],
        metavar="N",
        help=f"of the replica set: {' or '.join(map(str, MEMBERS))} ({MEMBERS[0]})",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="up: only say where each server would come from, and what would be installed",
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where they keep everything (.synergy/services)"
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    place = Place(
        (args.folder or project.folder / ".synergy" / "services").absolute(),
        project.folder / "compose.yaml",
    )
    kinds = kinds_named(args.servers, args.members)
    match args.what:
        case "up" if args.dry_run:
            return _plan(place, kinds, output)
        case "up":
            return _up(place, kinds, output)
        case "down":
            return _down(place, kinds, output)
    return _status(place, kinds, output)


def _plan(place: Place, kinds: Sequence[Kind], output: Output) -> int:
    sources = choose_sources(place, kinds, os.environ)
    if output.json:
        output.data({name: str(source) for name, source in sources.items()})
    else:
        output.table(["server", "comes from"], [[name, str(one)] for name, one in sources.items()])
    return 0


def _up(place: Place, kinds: Sequence[Kind], output: Output) -> int:
    """One that cannot be had does not keep the others from coming up; its exit code is ours."""
    up: list[Server] = []
    missing: list[dict[str, str]] = []
    code = 0
    for kind in kinds:
        try:
            up += servers_up(place, [kind], os.environ, output.note)
        except SynergyError as error:
            output.error(str(error))
            missing.append({"name": kind.name, "variable": kind.variable, "why": str(error)})
            code = max(code, error.exit_code)
    if output.json:
        output.data({**_document(place, up), "missing": missing})
        return code
    for server in up:
        output.line(f"export {server.variable}={shlex.quote(server.url)}")
    return code


def _down(place: Place, kinds: Sequence[Kind], output: Output) -> int:
    ended = servers_down(place, kinds, output.note)
    if output.json:
        output.data({"folder": str(place.folder), "ended": ended})
    elif not ended:
        output.note("nothing was up")
    return 0


def _status(place: Place, kinds: Sequence[Kind], output: Output) -> int:
    wanted = {kind.name for kind in kinds}
    servers = [one for one in servers_status(place, os.environ) if one.name in wanted]
    if output.json:
        output.data(_document(place, servers))
        return 0
    rows = [
        [one.name, _state(one.state), _processes(one), one.url or one.source] for one in servers
    ]
    output.table(["server", "state", "processes", "url"], rows)
    if any(one.state in ("absent", "broken") for one in servers):
        output.note(f"bring them up with: {command('services up')}")
    return 0


def _document(place: Place, servers: Sequence[Server]) -> dict[str, object]:
    return {"folder": str(place.folder), "servers": [asdict(server) for server in servers]}


def _state(state: str) -> Styled:
    sign, style = STATES[state]
    return Styled(f"{sign} {state}", style)


def _processes(server: Server) -> str:
    return " ".join(map(str, server.pids.values())) or "-"
