"""``promises``: what is to be complete by when, what is at risk, and what was too late."""

import argparse
from datetime import datetime, time, timedelta

from synergy.cli.naming import process_named, reading_of
from synergy.cli.output import Output, Styled, ago, clock, command, duration, instant
from synergy.clock import SystemClock
from synergy.core.catalog import Process
from synergy.core.promises import promising
from synergy.project import Project
from synergy.promises import PromiseRecord, interval_of, read_promises
from synergy.reading import Reading

#: Intervals that are complete now and are told of nevertheless, the latest of them.
SHOWN = 20


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("process", nargs="?", metavar="PROCESS", help="only of this process")
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"all that is remembered, not only what is open and the latest {SHOWN} others",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Tell them."""
    reading, now = reading_of(project), SystemClock().now()
    kept = promising(reading.catalog)
    if args.process is not None:
        name = process_named(reading.catalog, args.process)
        kept = {name: kept[name]} if name in kept else {}
    records = [
        record
        for record in read_promises(reading.store)
        if record.process in kept and interval_of(reading.catalog, record) is not None
    ]
    if output.json:
        output.data(
            {
                "processes": [_process_json(process) for process in kept.values()],
                "promises": [record_json(reading, record) for record in records],
            }
        )
        return 0
    if not kept:
        who = "nothing is promised" if args.process is None else f"{args.process} promises nothing"
        output.note(f"{who}: complete_by of a process does, in context.py")
        return 0
    output.table(
        ("process", "promises to be complete by"),
        ((process.name, in_words(process)) for process in kept.values()),
    )
    opened = [record for record in records if is_open(reading, record)]
    others = [record for record in records if record not in opened]
    shown = others if args.all else others[-SHOWN:]
    if not (opened or shown):
        output.note("nothing is at risk, and nothing was too late")
        return 0
    output.line()
    output.table(
        ("process", "interval", "by (UTC)", "state", ""),
        (
            (
                record.process,
                record.label,
                clock(record.promised),
                _state(reading, record),
                _reason(reading, record, now),
            )
            for record in (*shown, *opened)
        ),
    )
    if len(shown) < len(others):
        output.note(f"{len(others) - len(shown)} more are remembered; --all: all")
    if opened:
        first = opened[0]
        output.note(f"when it will be: {command(f'forecast {first.process} {first.label}')}")
    return 0


def is_open(reading: Reading, record: PromiseRecord) -> bool:
    """Whether it is not complete yet: the scheduler may not have looked since it is."""
    interval = interval_of(reading.catalog, record)
    return (
        record.open
        and interval is not None
        and not reading.timetable.state(record.process, interval).finished
    )


def open_promises(reading: Reading) -> list[PromiseRecord]:
    """What is at risk or broken now, by what was promised."""
    if not promising(reading.catalog):
        return []
    return [record for record in read_promises(reading.store) if is_open(reading, record)]


def in_words(process: Process) -> str:
    """What a process promises."""
    match process.complete_by:
        case time() as by:
            return f"{by:%H:%M} {process.calendar.zone} after the end of the interval"
        case timedelta() as by:
            return f"{duration(by.total_seconds())} after the end of the interval"
        case _:
            return ""


def record_json(reading: Reading, record: PromiseRecord) -> dict[str, object]:
    """One interval as programs read it."""
    return {
        "process": record.process,
        "interval": record.label,
        "promised": instant(record.promised),
        "state": _state(reading, record),
        "open": is_open(reading, record),
        "warned": _instant(record.warned_at),
        "broken": _instant(record.broken_at),
        "ended": _instant(record.ended_at),
        "reason": record.reason,
    }


def _process_json(process: Process) -> dict[str, object]:
    by = process.complete_by
    return {
        "process": process.name,
        "complete_by": f"{by:%H:%M}" if isinstance(by, time) else None,
        "complete_within": by.total_seconds() if isinstance(by, timedelta) else None,
        "zone": process.calendar.zone,
    }


def _state(reading: Reading, record: PromiseRecord) -> Styled:
    if is_open(reading, record):
        return Styled(record.state, "red" if record.broken_at is not None else "yellow")
    return Styled("kept" if record.broken_at is None else "broken, complete now", "dim")


def _reason(reading: Reading, record: PromiseRecord, now: datetime) -> str:
    if not is_open(reading, record):
        return f"complete {ago(record.ended_at, now)}" if record.ended_at else ""
    return record.reason


def _instant(when: datetime | None) -> str | None:
    return None if when is None else instant(when)
