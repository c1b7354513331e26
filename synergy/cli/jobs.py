"""``jobs``: every job of the timetable, or those that are asked for."""

import argparse
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from synergy.cli.naming import interval_range, process_named, reading_of
from synergy.cli.output import Output, Styled, instant
from synergy.clock import SystemClock
from synergy.core.model import job_key
from synergy.core.states import JobState
from synergy.errors import BadInput
from synergy.project import Project
from synergy.reading import Reading, Row

#: Newest lines for people, of one process and of each of many, unless they ask for more.
SHOWN, SHOWN_OF_EACH = 60, 10


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "process", nargs="?", metavar="PROCESS", help="only this process, or this freerun's firings"
    )
    parser.add_argument(
        "interval",
        nargs="?",
        metavar="INTERVAL",
        help="only this interval, or FROM..TO (both included)",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="STATE",
        choices=[state.value for state in JobState],
        help="only jobs in this state: "
        + ", ".join(state.value for state in JobState)
        + " (may be given several times)",
    )
    parser.add_argument(
        "--stale",
        action="store_true",
        help="only results that are out of date: being made anew, or marked stale",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"all of them, not only the newest {SHOWN} of one process or {SHOWN_OF_EACH} of each "
        "(with --json it is always all)",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """List them."""
    reading = reading_of(project)
    groups = [[row for row in rows if _wanted(args, row)] for rows in _rows(args, reading) if rows]
    rows = [row for group in groups for row in group]
    if output.json:
        output.data([as_json(row) for row in rows])
        return 0
    if not rows:
        output.note("no job has begun yet, or none is as asked for")
        return 0
    shown = rows if args.all else [row for group in groups for row in _newest(group, len(groups))]
    reasons = _reasons(reading, shown)
    output.table(
        ("process", "interval", "state", "generation", "attempts", ""),
        (
            (
                row.process,
                row.interval.label,
                _state(row, output),
                row.generation,
                row.attempts,
                row.reason or reasons.get((row.process, row.interval.start), ""),
            )
            for row in shown
        ),
    )
    counted = Counter(row.state.value for row in rows)
    states = ", ".join(f"{counted[s.value]} {s.value}" for s in JobState if counted[s.value])
    output.note(f"{len(rows)} job{'s' if len(rows) > 1 else ''}: {states}")
    if len(shown) < len(rows):
        output.note(f"shown are the newest and those that failed, {len(shown)} in all; --all: all")
    return 0


def _reasons(reading: Reading, rows: Sequence[Row]) -> dict[tuple[str, datetime], str]:
    """Why jobs failed or were skipped: the ledger does not keep it, their documents do."""
    keys = [
        job_key(row.process, row.interval)
        for row in rows
        if row.state in (JobState.FAILED, JobState.SKIPPED)
    ]
    jobs = reading.store.read_jobs(keys).values()
    return {(job.process, job.interval.start): job.reason for job in jobs}


def as_json(row: Row) -> dict[str, object]:
    """One job as the other commands and the API show it."""
    return {
        "process": row.process,
        "interval": row.interval.label,
        "start": instant(row.interval.start),
        "end": instant(row.interval.end),
        "state": row.state.value,
        "generation": row.generation,
        "attempts": row.attempts,
        "stale": row.stale,
        "marked": row.outdated,
    }


def _state(row: Row, output: Output) -> Styled:
    state = output.state(row.state.value)
    if not row.stale:
        return state
    return Styled(f"{state} ({'marked stale' if row.outdated else 'stale'})", state.style)


def _newest(group: list[Row], groups: int) -> list[Row]:
    """The newest of a process, and whatever of it failed."""
    first = len(group) - (SHOWN if groups == 1 else SHOWN_OF_EACH)
    return [
        row for place, row in enumerate(group) if place >= first or row.state is JobState.FAILED
    ]


def _rows(args: argparse.Namespace, reading: Reading) -> list[list[Row]]:
    """The jobs that are asked for, process by process."""
    catalog = reading.catalog
    if args.process in catalog.freeruns:
        if args.interval:
            raise BadInput(f"{args.process} is a freerun; it has firings, and no intervals")
        return [list(_firings(reading, args.process))]
    if args.process is None:
        now = SystemClock().now()
        names = [name for tree in catalog.trees.values() for name in tree.processes]
        return [list(reading.rows(name, None, now)) for name in names]
    process = process_named(catalog, args.process, freeruns=True)
    if args.interval is None:
        return [list(reading.rows(process, None, SystemClock().now()))]
    start, end = interval_range(catalog, process, args.interval)
    return [list(reading.rows(process, start, end))]


def _firings(reading: Reading, name: str) -> list[Row]:
    """A freerun's firings, the oldest first."""
    return [
        Row(
            process=name,
            interval=job.interval,
            state=job.state,
            generation=job.generation,
            attempts=job.attempts,
            stale=False,
            reason=job.reason,
        )
        for job in reversed(reading.firings(name, 1000))
    ]


def _wanted(args: argparse.Namespace, row: Row) -> bool:
    return (not args.state or row.state.value in args.state) and (row.stale or not args.stale)
