"""``start``, ``stop``, ``query``: the programs of this box.

Where a supervisor keeps the box, they change what it wants, and wait until it is so.
"""

import argparse
import contextlib
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from synergy.app import (
    CONSOLE,
    DEFAULT_WORKER,
    SCHEDULER,
    STOP_MARGIN,
    bell_of,
    broker_trouble,
    programs_of,
    reconciled,
    run_program,
    store_of,
    stored_context,
)
from synergy.cli import console
from synergy.cli.output import Output, Styled, ago, command, duration, instant
from synergy.clock import SystemClock
from synergy.core.boxes import admits
from synergy.core.catalog import Catalog
from synergy.core.context import ProgramDeclaration
from synergy.core.model import BoxRecord, ProgramRecord
from synergy.errors import BadInput, Conflict, NotFound, SynergyError, TimedOut
from synergy.logs import log_to
from synergy.programs import Identity, alive, collect, identity_of, stop
from synergy.project import Project, check, load_context, refuse
from synergy.supervisor.children import (
    holder_of,
    log_file,
    pid_file,
    printed_file,
    said_since,
    size_of,
    spawn,
)
from synergy.supervisor.loop import SUPERVISOR

T = TypeVar("T")

#: Seconds that a started program has to show itself.
APPEARANCE = 10.0
#: Seconds between looks at what is waited for.
LOOK = 0.05


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verbs."""
    parser.add_argument(
        "name",
        nargs="?" if verb == "query" else None,
        metavar="NAME",
        help="scheduler, worker, console, or a program that context.py declares",
    )
    if verb == "start":
        parser.add_argument("--console", action="store_true", help="here, in the foreground")
        parser.add_argument("--logged", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    match args.verb:
        case "start" if args.console:
            return be(project, args.name, lambda: _work(args, project), args.logged)
        case "start":
            return _start(args.name, project, output)
        case "stop":
            return _stop(args.name, project, output)
    return _query(args.name, project, output)


def _work(args: argparse.Namespace, project: Project) -> int:
    if args.name == CONSOLE:
        return console.serve(project, logged=args.logged)
    return run_program(project, args.name)


def checked(project: Project, output: Output) -> Catalog:
    """The project's catalog, after a look whether programs could work at all; says what it changes
    for the intervals that there are.

    Raises:
        SynergyError: the context is broken, or the store or broker cannot be used; nothing was
            made.
    """
    catalog = check(project, load_context(project), SystemClock().now())
    refuse_memory(project)
    with contextlib.suppress(NotFound):  # the scheduler makes it
        store = store_of(project)
        try:
            _, changes = reconciled(project, store, stored_context(store))
        finally:
            store.close()
        refuse(changes)
        for change in changes:
            output.note(f"changed: {change}")
    return catalog


def refuse_memory(project: Project) -> None:
    """That store and broker can be shared by several programs.

    Raises:
        BadInput: one of them lives within one.
    """
    if project.store.startswith("memory:"):
        raise BadInput(
            f"the store {project.store} lives within one program, and these are several; "
            "accepted are sqlite:///relative/path.db, sqlite:////absolute/path.db or mongodb://…"
        )
    if project.broker.startswith("memory:"):
        raise BadInput(
            f"the broker {project.broker} lives within one program, and these are several; "
            "accepted are none or amqp://USER:PASSWORD@HOST:PORT/VHOST"
        )


def warn_of_broker(project: Project, output: Output) -> None:
    """Say why the broker brings nothing, if so: programs start all the same and are slower.

    Raises:
        SynergyError: it never will, as the address is wrong or the server too old.
    """
    if trouble := broker_trouble(project):
        output.note(f"{trouble}; until then the workers look into the store, which takes longer")


def be(project: Project, name: str, work: Callable[[], int], logged: bool) -> int:
    """Be a program, here; `logged`: into its log file."""
    signal.signal(signal.SIGTERM, _end)  # until it listens for signals itself
    with pid_file(project, name):
        log_to(log_file(project, name) if logged else None)
        return work()


def launch(project: Project, name: str, *words: str) -> Identity:
    """Start a program in the background and wait until it has shown itself.

    Raises:
        Conflict: somebody else has just started it.
        SynergyError: it ended at once; the message has what it said.
    """
    printed = printed_file(project, name)
    before = size_of(printed)
    pid = spawn(project, *words, printed=printed)
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
        raise running_already(project, name, holder)
    how = collect(started) if started is not None else None
    said = "\n".join(f"  {line}" for line in said_since(printed, before)) or "  (nothing)"
    raise SynergyError(
        f"{name} did not start{f' ({how})' if how else ''}; it said (all of it: {printed}):\n{said}"
    )


def running_already(project: Project, name: str, holder: Identity) -> Conflict:
    """What a second start is told."""
    way = command("super --stop" if name == SUPERVISOR else f"stop {name}")
    return Conflict(
        f"{name} runs already, process {holder.pid} ({pid_file(project, name).path}); "
        f"stop it with: {way}"
    )


def record_of(project: Project) -> BoxRecord | None:
    """What the supervisor of this box recorded; None where none is at work."""
    if holder_of(project, SUPERVISOR) is None:
        return None
    store = store_of(project)
    try:
        boxes = {record.box: record for record in store.read_boxes()}
    finally:
        store.close()
    return boxes.get(project.box)


def _end(number: int, frame: FrameType | None) -> None:
    """Told to stop before it has begun: nothing is left behind, the pid file neither."""
    raise SystemExit(128 + number)


def _start(name: str, project: Project, output: Output) -> int:
    holder = holder_of(project, name)
    if holder is not None:
        raise running_already(project, name, holder)
    catalog = checked(project, output)
    known = {**programs_of(catalog), CONSOLE: None}
    if name not in known:
        raise NotFound(f"no program {name!r} is registered; known are {', '.join(known)}")
    program = known[name]
    if name == CONSOLE:
        boxes: tuple[str, ...] = ()
    else:
        boxes = catalog.schedulers if program is None else program.boxes
    if not admits(boxes, project.box):
        bound = ", ".join(boxes)
        raise Conflict(f"{name} is bound to boxes {bound}, and this box is {project.box}")
    if name == CONSOLE:
        console.refuse(project)
    else:
        warn_of_broker(project, output)
    before = size_of(printed_file(project, name))
    # A console that no setting asks for is no business of the supervisor's.
    alone = name == CONSOLE and not project.console.get("")
    if alone or holder_of(project, SUPERVISOR) is None:
        holder = launch(project, name, "start", name, "--console")
    else:
        holder = _switch_on(project, name)
    log = log_file(project, name)
    url = _listening(project, holder, before) if name == CONSOLE else ""
    if output.json:
        where = {"url": url} if url else {}
        output.data({"program": name, "pid": holder.pid, "log": str(log), **where})
    else:
        output.line(f"{name} started, process {holder.pid}, log {log}")
        if url:
            console.announce(project, output.line)
    return 0


def _listening(project: Project, holder: Identity, before: int) -> str:
    """Where a console that was just started answers; `before`: what it had printed until then.

    Raises:
        SynergyError: it has ended; the message has what it said.
    """
    give_up = time.monotonic() + APPEARANCE
    while time.monotonic() < give_up and alive(holder):
        if url := console.address_of(project):
            return url
        time.sleep(LOOK)
    printed = printed_file(project, CONSOLE)
    said = "\n".join(f"  {line}" for line in said_since(printed, before)) or "  (nothing)"
    raise SynergyError(f"{CONSOLE} did not start; it said (all of it: {printed}):\n{said}")


def _stop(name: str, project: Project, output: Output) -> int:
    holder = holder_of(project, name)
    supervised = name != SUPERVISOR and holder_of(project, SUPERVISOR) is not None
    if holder is None and not (supervised and _is_wanted(project, name)):
        running = [other for other in _names(project) if holder_of(project, other)]
        raise NotFound(
            f"{name} is not running here (no living process in {pid_file(project, name).path}); "
            f"running are {', '.join(running) or 'none'}"
        )
    if supervised and _is_wanted(project, name):
        gently = _switch_off(project, name)
    else:
        assert holder is not None
        gently = stop(holder, project.grace.total_seconds() + 2 * STOP_MARGIN)
    if output.json:
        pid = holder.pid if holder is not None else None
        output.data({"program": name, "pid": pid, "killed": not gently})
    else:
        process = f" (process {holder.pid})" if holder is not None else ""
        output.line(f"{name}{process} {'stopped' if gently else 'had to be killed'}")
    return 0


# under a supervisor


def _switch(project: Project, name: str, on: bool) -> None:
    store, bell = store_of(project), bell_of(project)
    try:
        store.switch_program(project.box, name, on)
    finally:
        store.close()
    bell.ring(SUPERVISOR)


def _switch_on(project: Project, name: str) -> Identity:
    """Have the supervisor start it; who it is then."""
    if _recorded(project, name) is None:
        raise _unknown_to_supervisor(name)
    _switch(project, name, True)
    holder = _until(APPEARANCE, lambda: holder_of(project, name))
    if holder is None:
        found = _recorded(project, name)
        reason = found.reason if found is not None else ""
        raise SynergyError(
            f"the supervisor has not brought {name} to run within {APPEARANCE:g} s"
            + (f": {reason}" if reason else f"; its log is {log_file(project, SUPERVISOR)}")
        )
    return holder


def _switch_off(project: Project, name: str) -> bool:
    """Have the supervisor stop it and keep it stopped; whether it ended by itself."""
    _switch(project, name, False)
    patience = project.grace.total_seconds() + 2 * STOP_MARGIN

    def stopped() -> ProgramRecord | None:
        found = _recorded(project, name)
        return found if found is not None and found.state == "stopped" else None

    found = _until(patience, stopped)
    if found is None:
        raise TimedOut(
            f"{name} is switched off, but the supervisor has not stopped it within {patience:g} s; "
            f"its log is {log_file(project, SUPERVISOR)}"
        )
    return not found.reason


def _recorded(project: Project, name: str) -> ProgramRecord | None:
    record = record_of(project)
    programs = record.programs if record is not None else ()
    return next((program for program in programs if program.name == name), None)


def _is_wanted(project: Project, name: str) -> bool:
    found = _recorded(project, name)
    return found is not None and found.wanted


def _unknown_to_supervisor(name: str) -> Conflict:
    return Conflict(
        f"the supervisor of this box does not know {name}: context.py has changed since it began; "
        f"begin it anew: {command('super --stop')}, then {command('super --start')}"
    )


def _until(patience: float, look: Callable[[], T | None]) -> T | None:
    """What a look gives, once it gives something; None when patience ends before."""
    give_up = time.monotonic() + patience
    while (found := look()) is None and time.monotonic() < give_up:
        time.sleep(LOOK)
    return found


# query


def _query(name: str | None, project: Project, output: Output) -> int:
    names = [name] if name else _names(project)
    found = {program: holder_of(project, program) for program in names}
    try:
        record, trouble = record_of(project), ""
    except SynergyError as error:
        record, trouble = None, str(error)
    recorded = {program.name: program for program in record.programs} if record else {}
    url = console.address_of(project) if CONSOLE in names else ""
    if output.json:
        told = [_as_json(each, found[each], recorded.get(each)) for each in names]
        output.data([{**each, "url": url} if each["program"] == CONSOLE else each for each in told])
    elif record is None:
        if trouble:
            output.note(f"only what runs can be told: {trouble}")
        output.table(
            ("program", "state", "process", "log"),
            (
                (program, _state(holder, None), _pid(holder), str(log_file(project, program)))
                for program, holder in found.items()
            ),
        )
    else:
        output.table(
            PROGRAM_HEADINGS, (program_row(each, found[each], recorded.get(each)) for each in names)
        )
    if url and not output.json:
        output.line(f"console at {url}")
    if name and found[name] is None:
        return NotFound.exit_code
    return 0


PROGRAM_HEADINGS = (
    *("program", "wanted", "state", "process", "since", "restarts", "cpu", "memory"),
    "why",
)


def program_row(
    name: str, holder: Identity | int | None, record: ProgramRecord | None
) -> tuple[object, ...]:
    """One program of a box in a table; `holder`: who it is, as far as that is known here."""
    now = SystemClock().now()
    if record is None:
        return (name, "", _state(holder, None), _pid(holder), "", "", "", "", "")
    return (
        name,
        "on" if record.wanted else "off",
        _state(holder, record),
        _pid(holder),
        ago(record.since, now) if record.since is not None else "",
        record.restarts,
        duration(record.cpu_seconds) if record.pid else "",
        f"{record.memory_bytes / 1e6:.0f} MB" if record.pid else "",
        record.reason,
    )


def _as_json(name: str, holder: Identity | None, record: ProgramRecord | None) -> dict[str, object]:
    plain: dict[str, object] = {
        "program": name,
        "running": holder is not None,
        "pid": holder.pid if holder else None,
    }
    return plain if record is None else {**plain, **program_json(record)}


def program_json(record: ProgramRecord) -> dict[str, object]:
    """What a supervisor recorded of a program."""
    return {
        "wanted": record.wanted,
        "state": record.state,
        "since": instant(record.since) if record.since is not None else None,
        "restarts": record.restarts,
        "cpu_seconds": record.cpu_seconds,
        "memory_bytes": record.memory_bytes,
        "reason": record.reason,
    }


def _state(holder: Identity | int | None, record: ProgramRecord | None) -> Styled:
    if record is not None and record.state == "crash_loop":
        return Styled("✕ crash loop", "red")
    if record is not None and record.state in ("waiting", "stopping"):
        return Styled(f"… {record.state}", "yellow")
    return Styled("▶ running", "cyan") if holder else Styled("· stopped", "dim")


def _pid(holder: Identity | int | None) -> object:
    if holder is None:
        return ""
    return holder if isinstance(holder, int) else holder.pid


def _names(project: Project) -> list[str]:
    """The programs of this box: those that the context declares, and whatever runs here."""
    try:
        declared = load_context(project).declared
        workers = [item.name for item in declared if isinstance(item, ProgramDeclaration)]
    except SynergyError:
        workers = []
    files = sorted(project.run_dir.glob("*.pid")) if project.run_dir.exists() else []
    names = [SCHEDULER, *(workers or [DEFAULT_WORKER.name])]
    names += [CONSOLE] if project.console.get("") else []
    names += [file.stem for file in files]
    return list(dict.fromkeys(names))
