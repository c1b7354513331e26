"""``super``: the supervisor of this box, which keeps its programs running."""

import argparse
import logging
from datetime import datetime

from synergy.app import STOP_MARGIN, store_of, supervisor_of
from synergy.cli.boxes import standing_of
from synergy.cli.output import Output, Styled, command, instant
from synergy.cli.programs import (
    PROGRAM_HEADINGS,
    be,
    checked,
    launch,
    program_json,
    program_row,
    running_already,
    warn_of_broker,
)
from synergy.clock import SystemClock
from synergy.core.model import BoxRecord
from synergy.errors import NotFound, Unreachable
from synergy.logs import logger
from synergy.presence import is_silent
from synergy.programs import stop
from synergy.project import Project, check, load_context
from synergy.signals import stop_on_signals
from synergy.supervisor.children import holder_of, log_file, pid_file
from synergy.supervisor.loop import SUPERVISOR

#: What of a supervisor's doings is a warning.
_WARNINGS = frozenset({"ended", "crash_loop", "unreachable"})


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--start", action="store_true", help="keep the programs of this box running")
    what.add_argument("--stop", action="store_true", help="stop the supervisor and its programs")
    what.add_argument("--query", action="store_true", help="all boxes, and what they run")
    what.add_argument("--boxid", action="store_true", help="print the id of this box")
    parser.add_argument("--console", action="store_true", help="start it here, in the foreground")
    parser.add_argument("--logged", action="store_true", help=argparse.SUPPRESS)


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    if args.boxid:
        return _boxid(project, output)
    if args.stop:
        return _stop(project, output)
    if args.query:
        return _query(project, output)
    if args.console:
        return be(project, SUPERVISOR, lambda: _supervise(project), args.logged)
    return _start(project, output)


def _boxid(project: Project, output: Output) -> int:
    if output.json:
        output.data({"box": project.box})
    else:
        output.line(project.box)
    return 0


def _start(project: Project, output: Output) -> int:
    holder = holder_of(project, SUPERVISOR)
    if holder is not None:
        raise running_already(project, SUPERVISOR, holder)
    try:
        checked(project, output)
    except Unreachable as error:  # as after a power cut, when all start at once
        output.note(f"{error}; the supervisor starts nothing until the store answers")
    warn_of_broker(project, output)
    holder = launch(project, SUPERVISOR, "super", "--start", "--console")
    log = log_file(project, SUPERVISOR)
    if output.json:
        output.data({"box": project.box, "pid": holder.pid, "log": str(log)})
    else:
        output.line(f"the supervisor of {project.box} started, process {holder.pid}, log {log}")
    return 0


def _supervise(project: Project) -> int:
    """Be the supervisor."""
    catalog = check(project, load_context(project), SystemClock().now())
    log = logger(SUPERVISOR)

    def say(action: str, text: str) -> None:
        level = logging.WARNING if action in _WARNINGS else logging.INFO
        log.log(level, text, extra={"action": action})

    stopping = stop_on_signals()
    say("supervising", f"keeping the programs of box {project.box}")
    supervisor_of(project, catalog, say).run(stopping)
    say("stopped", "stopped")
    return 0


def _stop(project: Project, output: Output) -> int:
    holder = holder_of(project, SUPERVISOR)
    if holder is None:
        raise NotFound(
            f"no supervisor is running here "
            f"(no living process in {pid_file(project, SUPERVISOR).path})"
        )
    gently = stop(holder, project.grace.total_seconds() + 2 * STOP_MARGIN)
    if output.json:
        output.data({"box": project.box, "pid": holder.pid, "killed": not gently})
    else:
        end = "stopped, its programs too" if gently else "had to be killed"
        output.line(f"the supervisor of {project.box} (process {holder.pid}) {end}")
    return 0


def _query(project: Project, output: Output) -> int:
    """All boxes as the store has them."""
    try:
        store = store_of(project)
    except NotFound:
        boxes = []
    else:
        boxes = store.read_boxes()
        store.close()
    here, now = holder_of(project, SUPERVISOR), SystemClock().now()
    if output.json:
        output.data([_as_json(record, now) for record in boxes])
    elif not boxes:
        output.line("no box was ever seen; start one: " + command("super --start"))
    for record in boxes if not output.json else ():
        output.line(f"{record.box}  ", standing_of(record, now))
        if record.trouble:
            output.line("! ", Styled(record.trouble, "red"))
        if record.programs:
            output.table(
                PROGRAM_HEADINGS,
                (program_row(each.name, each.pid, each) for each in record.programs),
            )
        output.line()
    return 0 if here is not None else NotFound.exit_code


def _as_json(record: BoxRecord, now: datetime) -> dict[str, object]:
    return {
        "box": record.box,
        "supervised": record.supervisor is not None,
        "alive": record.supervisor is not None and not is_silent(record, now),
        "since": instant(record.since) if record.since is not None else None,
        "seen_at": instant(record.seen_at),
        "trouble": record.trouble,
        "programs": [
            {"program": each.name, "pid": each.pid, **program_json(each)}
            for each in record.programs
        ],
    }
