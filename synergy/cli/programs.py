"""``start``, ``stop``, ``query``: the programs of this box."""

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from synergy.app import (
    DEFAULT_WORKER,
    SCHEDULER,
    programs_of,
    reconciled,
    run_program,
    store_of,
)
from synergy.cli.output import Output, Styled, command
from synergy.clock import SystemClock
from synergy.core.catalog import Catalog
from synergy.core.context import ProgramDeclaration
from synergy.errors import BadInput, Conflict, NotFound, SynergyError
from synergy.logs import log_to
from synergy.programs import (
    Identity,
    PidFile,
    alive,
    identity_of,
    killed_by,
    start_detached,
    stop,
)
from synergy.project import Project, check, load_context

#: Seconds that a started program has to show itself.
APPEARANCE = 10.0
#: Seconds that a stopped program gets beyond the grace of its units.
STOP_MARGIN = 10.0
#: Lines of what a program said that did not start.
LAST_WORDS = 30


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verbs."""
    parser.add_argument(
        "name",
        nargs="?" if verb == "query" else None,
        metavar="NAME",
        help="scheduler, worker, or a program that context.py declares",
    )
    if verb == "start":
        parser.add_argument("--console", action="store_true", help="here, in the foreground")
        parser.add_argument("--logged", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    match args.verb:
        case "start" if args.console:
            return _be(args.name, project, logged=args.logged)
        case "start":
            return _start(args.name, project, output)
        case "stop":
            return _stop(args.name, project, output)
    return _query(args.name, project, output)


def pid_file(project: Project, name: str) -> PidFile:
    """Where a program of the project leaves its pid."""
    return PidFile(project.run_dir / f"{name}.pid")


def holder_of(project: Project, name: str) -> Identity | None:
    """The living process that is this program.

    Raises:
        PermissionError: it is somebody else's, so nothing can be told.
    """
    file = pid_file(project, name)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        file.path.open("rb").close()
    return file.holder()


def log_file(project: Project, name: str) -> Path:
    """Where a program of the project logs to."""
    return project.log_dir / f"{name}.log"


def checked(project: Project) -> Catalog:
    """The project's catalog, after a look whether programs could work at all.

    Raises:
        SynergyError: the context is broken, or the store cannot be used; nothing was made.
    """
    catalog = check(project, load_context(project), SystemClock().now())
    if project.store.startswith("memory:"):
        raise BadInput(
            f"the store {project.store} lives within one program, and these are several; "
            "accepted are sqlite:///relative/path.db or sqlite:////absolute/path.db"
        )
    with contextlib.suppress(NotFound):  # the scheduler makes it
        store = store_of(project)
        reconciled(project, store.read_catalog())
        store.close()
    return catalog


class KilledEarly(SynergyError):
    """A program was killed from outside before it had shown itself: no fault of its own."""


def launch(project: Project, name: str) -> Identity:
    """Start a program in the background and wait until it has shown itself.

    Raises:
        Conflict: somebody else has just started it.
        KilledEarly: somebody killed it before it had shown itself; trying again is reasonable.
        SynergyError: it ended at once by itself; the message has what it said.
    """
    printed = project.log_dir / f"{name}.out"
    before = printed.stat().st_size if printed.exists() else 0
    argv = [sys.executable, "-m", "synergy.cli", "start", name, "--console", "--logged"]
    # As the settings are now: they may change between this moment and the program's start.
    settings = {"SYNERGY_LOG_DIR": str(project.log_dir), "SYNERGY_RUN_DIR": str(project.run_dir)}
    pid = start_detached(
        [*argv, "--store", project.store],
        printed,
        cwd=project.folder,
        env={**os.environ, **settings},
    )
    started = identity_of(pid)
    until = time.monotonic() + APPEARANCE
    while time.monotonic() < until:
        holder = holder_of(project, name)
        if holder is not None and holder.pid == pid:
            return holder
        if started is None or not alive(started):
            break
        time.sleep(0.02)
    holder = holder_of(project, name)
    if holder is not None and holder.pid != pid:
        raise _running(project, name, holder)
    killer = killed_by(pid)
    if killer is not None:
        raise KilledEarly(f"{name} (process {pid}) was killed by {killer} while it started")
    said = printed.read_bytes()[before:].decode("utf-8", "replace").strip().splitlines()
    words = "\n".join(f"  {line}" for line in said[-LAST_WORDS:]) or "  (nothing)"
    raise SynergyError(f"{name} did not start; it said (all of it: {printed}):\n{words}")


def _running(project: Project, name: str, holder: Identity) -> Conflict:
    return Conflict(
        f"{name} runs already, process {holder.pid} ({pid_file(project, name).path}); "
        f"stop it with: {command(f'stop {name}')}"
    )


def _be(name: str, project: Project, *, logged: bool) -> int:
    """Be the program, here."""
    signal.signal(signal.SIGTERM, _end)  # until it listens for signals itself
    with pid_file(project, name):
        log_to(log_file(project, name) if logged else None)
        return run_program(project, name)


def _end(number: int, frame: FrameType | None) -> None:
    """Told to stop before it has begun: nothing is left behind, the pid file neither."""
    raise SystemExit(128 + number)


def _start(name: str, project: Project, output: Output) -> int:
    holder = holder_of(project, name)
    if holder is not None:
        raise _running(project, name, holder)
    known = programs_of(checked(project))
    if name not in known:
        raise NotFound(f"no program {name!r} is registered; known are {', '.join(known)}")
    holder = launch(project, name)
    if output.json:
        output.data({"program": name, "pid": holder.pid, "log": str(log_file(project, name))})
    else:
        output.line(f"{name} started, process {holder.pid}, log {log_file(project, name)}")
    return 0


def _stop(name: str, project: Project, output: Output) -> int:
    holder = holder_of(project, name)
    if holder is None:
        running = [other for other in _names(project) if holder_of(project, other)]
        raise NotFound(
            f"{name} is not running here (no living process in {pid_file(project, name).path}); "
            f"running are {', '.join(running) or 'none'}"
        )
    gently = stop(holder, project.grace.total_seconds() + STOP_MARGIN)
    if output.json:
        output.data({"program": name, "pid": holder.pid, "killed": not gently})
    else:
        output.line(f"{name} (process {holder.pid}) {'stopped' if gently else 'had to be killed'}")
    return 0


def _query(name: str | None, project: Project, output: Output) -> int:
    names = [name] if name else _names(project)
    found = {program: holder_of(project, program) for program in names}
    if output.json:
        output.data(
            [
                {
                    "program": program,
                    "running": holder is not None,
                    "pid": holder.pid if holder else None,
                }
                for program, holder in found.items()
            ]
        )
    else:
        output.table(
            ("program", "state", "process", "log"),
            (
                (
                    program,
                    Styled("▶ running", "cyan") if holder else Styled("· stopped", "dim"),
                    holder.pid if holder else "",
                    str(log_file(project, program)),
                )
                for program, holder in found.items()
            ),
        )
    if name and found[name] is None:
        return NotFound.exit_code
    return 0


def _names(project: Project) -> list[str]:
    """The programs of this box: those that the context declares, and whatever runs here."""
    try:
        declared = load_context(project).declared
        workers = [item.name for item in declared if isinstance(item, ProgramDeclaration)]
    except SynergyError:
        workers = []
    files = sorted(project.run_dir.glob("*.pid")) if project.run_dir.exists() else []
    names = [SCHEDULER, *(workers or [DEFAULT_WORKER.name]), *(file.stem for file in files)]
    return list(dict.fromkeys(names))
