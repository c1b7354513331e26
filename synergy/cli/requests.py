"""``reprocess``, ``skip``, ``trigger``: file a request, wait for it, say what it did."""

import argparse
import getpass
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime

from synergy.app import bell_of
from synergy.cli.naming import interval_range, process_named, reading_of
from synergy.cli.output import Output, command
from synergy.clock import SystemClock
from synergy.core import plans
from synergy.core.intervals import Interval
from synergy.core.model import Request
from synergy.core.states import JobState
from synergy.errors import BadInput, Conflict, TimedOut
from synergy.explanation import scheduler_absent
from synergy.project import Project
from synergy.reading import Reading

#: Above so many intervals it asks (DESIGN §8.8).
ASKS_ABOVE = 100
#: Changed intervals of one process that are told one by one; more are summed up.
TOLD = 12
#: What an answer without a change means.
_NO_CHANGE = {
    "reprocess": "nothing to run again: what was named has not run yet, and will when it is due",
    "skip": "nothing to skip: what was named has ended already",
    "trigger": "nothing to trigger",
}


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verbs."""
    parser.add_argument(
        "process",
        metavar="NAME" if verb == "trigger" else "PROCESS",
        help="a freerun, or a process with intervals" if verb == "trigger" else "which process",
    )
    parser.add_argument(
        "intervals",
        nargs="*" if verb == "trigger" else "+",
        metavar="INTERVAL",
        help="label such as 2026-11-20T17, or FROM..TO (both included); several may be given",
    )
    parser.add_argument(
        "--reason",
        default="",
        metavar="TEXT",
        help="why; kept with every job that it touches",
    )
    if verb == "trigger":
        parser.set_defaults(yes=True)
    else:
        parser.add_argument(
            "--yes", action="store_true", help=f"do not ask, though it be over {ASKS_ABOVE} jobs"
        )
    parser.add_argument(
        "--wait",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for the scheduler's answer (10)",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """File it and report."""
    reading = reading_of(project)
    process = process_named(reading.catalog, args.process, freeruns=args.verb == "trigger")
    targets = _targets(reading, process, args.intervals)
    clock = SystemClock()
    _confirm(args, reading, process, targets, clock.now())
    request = Request(
        id=secrets.token_hex(4),
        action=args.verb,
        process=process,
        starts=tuple(interval.start for interval in targets),
        filed_at=clock.now(),
        actor=_actor(),
        reason=args.reason,
    )
    bell = bell_of(project)
    listener = bell.listen("operator")
    try:
        reading.store.file_request(request)
        bell.ring("scheduler")
        absent = scheduler_absent(reading, clock.now())
        if absent:
            return _filed(request, absent, output)
        answered = reading.store.read_request(request.id)
        until = clock.monotonic() + args.wait
        while answered is None or answered.state == "filed":
            if clock.monotonic() > until:
                raise TimedOut(
                    f"filed as {request.id}, but the scheduler has not answered within "
                    f"{args.wait:g} s; it will be carried out once. "
                    f"See who leads: {command('status')}"
                )
            listener.wait(0.1)
            answered = reading.store.read_request(request.id)
    finally:
        listener.close()
    return _report(answered, output)


def _targets(reading: Reading, process: str, texts: list[str]) -> list[Interval]:
    if process in reading.catalog.freeruns:
        if texts:
            raise BadInput(
                f"{process} is a freerun: it has no intervals; {command(f'trigger {process}')}"
            )
        return []
    if not texts:
        raise BadInput(
            f"{process} is a process of a tree: name the interval; those there are: "
            f"{command(f'jobs {process}')}"
        )
    calendar = reading.catalog.processes[process].calendar
    found: dict[datetime, Interval] = {}
    for text in texts:
        start, end = interval_range(reading.catalog, process, text)
        found.update((interval.start, interval) for interval in calendar.between(start, end))
    return list(found.values())


def _confirm(
    args: argparse.Namespace,
    reading: Reading,
    process: str,
    targets: list[Interval],
    now: datetime,
) -> None:
    """Ask before many intervals change."""
    named = [(process, interval) for interval in targets]
    if args.verb == "reprocess":
        order = plans.to_reopen(
            reading.catalog, named, lambda place: reading.timetable.begun(*place, now)
        )
        touched = [
            place for place in order if reading.timetable.state(*place) is not JobState.EMBRYO
        ]
    elif args.verb == "skip":
        order = plans.to_skip(reading.catalog, named)
        touched = [place for place in order if not reading.timetable.state(*place).finished]
    else:
        return
    if len(touched) <= ASKS_ABOVE or args.yes:
        return
    question = f"{args.verb} changes {len(touched)} intervals"
    if not sys.stdin.isatty():
        raise BadInput(f"{question}, more than {ASKS_ABOVE}; if that is meant, add --yes")
    print(f"{question}; go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Conflict("nothing was done")


def _filed(request: Request, absent: str, output: Output) -> int:
    if output.json:
        output.data({"id": request.id, "state": "filed", "scheduler": absent, "touched": []})
    else:
        output.line(
            f"filed as {request.id}; {absent}: it is carried out when one starts, {command('up')}"
        )
    return 0


def _report(answered: Request, output: Output) -> int:
    touched = answered.answer.get("touched", [])
    assert isinstance(touched, list)
    if answered.state == "refused":
        raise Conflict(f"refused: {answered.answer.get('why')}")
    if output.json:
        output.data({"id": answered.id, "state": answered.state, **answered.answer})
        return 0
    if not touched:
        output.line(_NO_CHANGE[answered.action])
    groups: dict[str, list[Mapping[str, object]]] = {}
    for item in touched:
        assert isinstance(item, dict)
        groups.setdefault(str(item["process"]), []).append(item)
    for process, items in groups.items():
        for line in _told(process, items):
            output.line(line)
    return 0


def _told(process: str, items: Sequence[Mapping[str, object]]) -> list[str]:
    """A line for each interval that changed; one for many that changed alike."""
    if len(items) <= TOLD:
        return [f"{process} {item['interval']}{_change(item)}" for item in items]
    alike: dict[str, list[str]] = {}
    for item in items:
        alike.setdefault(_change(item), []).append(str(item["interval"]))
    return [
        f"{process} {labels[0]}{change}"
        if len(labels) == 1
        else f"{process} {len(labels)} intervals, {min(labels)} to {max(labels)}{change}"
        for change, labels in alike.items()
    ]


def _change(item: Mapping[str, object]) -> str:
    change = f"  {item['was']} → {item['is']}" if "was" in item else ""
    return change + (f"  generation {item['generation']}" if "generation" in item else "")


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
