"""``jobs``: every job of the timetable, or those that are asked for."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

from synergy.cli.naming import instant_or_ago, interval_range, process_named, reading_of
from synergy.cli.output import Output, Styled, clock, instant
from synergy.cli.process import off_notes
from synergy.cli.promises import open_promises
from synergy.clock import SystemClock
from synergy.core.model import Job, Json, Standing, job_key
from synergy.core.states import JobState
from synergy.errors import BadInput
from synergy.history import JUST_DUE, due_of, recent_units, typical_delay
from synergy.project import Project
from synergy.promises import PromiseRecord
from synergy.reading import FIRINGS_KEPT, Reading, Row

#: Newest lines for people, of one process and of each of many, unless they ask for more.
SHOWN, SHOWN_OF_EACH = 60, 10

_EARLIEST = datetime.min.replace(tzinfo=UTC)


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
        "--since",
        type=instant_or_ago,
        metavar="WHEN",
        help="only intervals that ended since then, and those that have not: an instant (UTC), or "
        "so long ago: 90min, 36h, 7d",
    )
    parser.add_argument(
        "--late",
        action="store_true",
        help="only what is late: not finished, and promised to be by now or at risk of being late; "
        "where nothing is promised, due for more than twice as long as the median of its process "
        "needs (and for a minute)",
    )
    parser.add_argument("--csv", action="store_true", help="print CSV (RFC 4180), all of them")
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"all of them, not only the newest {SHOWN} of one process or {SHOWN_OF_EACH} of each "
        "(with --json it is always all)",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """List them."""
    output.one_form(args.csv)
    reading = reading_of(project)
    asked = Asked(args, reading, SystemClock().now())
    groups = [[row for row in rows if asked.wants(row)] for rows in _rows(args, reading, asked)]
    rows = [row for group in groups for row in group]
    if args.csv:
        headings = (*FIELDS, "reason")
        reasons = _reasons(reading, rows)
        output.csv(headings, ([*as_json(row).values(), asked.why(row, reasons)] for row in rows))
        return 0
    # Of one interval more is told: its document is read.
    single = _document(reading, rows) if args.interval and ".." not in args.interval else None
    if output.json:
        details = {} if single is None else _details(single)
        output.data([{**as_json(row), **details} for row in rows])
        return 0
    shown_names = {row.process for row in rows} | {args.process}
    for name, text in off_notes(reading.catalog, reading.switches).items():
        if name in shown_names:
            output.note(text)
    if not rows:
        picky = args.state or args.stale or args.late or args.since is not None
        output.note("no job is as asked for" if picky else "no job has begun yet")
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
                asked.why(row, reasons),
            )
            for row in shown
        ),
    )
    for what, told in _details(single).items() if single is not None else ():
        if told:
            output.line(f"{what}  {told if isinstance(told, str) else json.dumps(told)}")
    counted = Counter(row.state.value for row in rows)
    states = ", ".join(f"{counted[s.value]} {s.value}" for s in JobState if counted[s.value])
    output.note(f"{len(rows)} job{'s' if len(rows) > 1 else ''}: {states}")
    if len(shown) < len(rows):
        output.note(f"shown are the newest and those that failed, {len(shown)} in all; --all: all")
    return 0


def _said(row: Row, reason: str) -> str:
    if not row.kept:
        return reason
    # Without an attempt no input had changed; with one, it came out as it was.
    how = "unchanged since" if row.attempts else "kept from"
    return f"{how} generation {row.result}" + (f"; {reason}" if reason else "")


def _document(reading: Reading, rows: Sequence[Row]) -> Job | None:
    """The job of the one row; None where there are none or several, or nothing is stored of it."""
    keys = [job_key(row.process, row.interval) for row in rows]
    return reading.store.read_jobs(keys).get(keys[0]) if len(keys) == 1 else None


def _details(job: Job) -> dict[str, Json]:
    """What is told of one job alone: what its worker said of the standing result, and the inputs
    that this was made from, where they were not in their first generation."""
    return {
        "fingerprint": job.fingerprint,
        "consumed": None if job.consumed is None else dict(job.consumed),
    }


def _reasons(reading: Reading, rows: Sequence[Row]) -> dict[tuple[str, datetime], str]:
    """Why jobs failed, were skipped or marked: the ledger does not keep it, their documents do."""
    keys = [
        job_key(row.process, row.interval)
        for row in rows
        if row.outdated or row.state in (JobState.FAILED, JobState.SKIPPED)
    ]
    jobs = reading.store.read_jobs(keys).values()
    return {(job.process, job.interval.start): job.reason for job in jobs}


#: What programs are told of a job.
FIELDS = (
    "process",
    "interval",
    "start",
    "end",
    "state",
    "generation",
    "attempts",
    "stale",
    "marked",
    "result",
)


def as_json(row: Row) -> dict[str, object]:
    """One job as the other commands and the API show it."""
    values = (
        row.process,
        row.interval.label,
        instant(row.interval.start),
        instant(row.interval.end),
        row.state.value,
        row.generation,
        row.attempts,
        row.stale,
        row.outdated,
        row.result or None,
    )
    return dict(zip(FIELDS, values, strict=True))


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


def _rows(
    args: argparse.Namespace, reading: Reading, asked: "Asked"
) -> Iterator[list[Row] | Iterator[Row]]:
    """The jobs that are asked for, process by process."""
    catalog = reading.catalog
    if args.process in catalog.freeruns:
        if args.interval:
            raise BadInput(f"{args.process} is a freerun; it has firings, and no intervals")
        yield _firings(reading, args.process)
    elif args.process is None:
        names = [name for tree in catalog.trees.values() for name in tree.processes]
        for name in names:
            yield asked.rows(name, asked.first(name), asked.now)
    else:
        process = process_named(catalog, args.process, freeruns=True)
        first, end = asked.first(process), asked.now
        if args.interval is not None:
            start, end = interval_range(catalog, process, args.interval)
            first = max(start, first or start)
        yield asked.rows(process, first, end)


class Asked:
    """Which jobs are asked for.

    What is not is passed over unseen as far as possible: a look at what is late or failed costs
    what there is of that, and not what there ever was.
    """

    def __init__(self, args: argparse.Namespace, reading: Reading, now: datetime) -> None:
        self.now = now
        self.reading = reading
        self.states = frozenset(args.state)
        self.stale: bool = args.stale
        self.late: bool = args.late
        since = args.since
        if isinstance(since, timedelta):
            since = now - min(since, now - _EARLIEST)
        self.since: datetime | None = since
        self._late_after: dict[str, timedelta | None] = {}

    @cached_property
    def promises(self) -> dict[str, PromiseRecord]:
        """What is at risk or broken, by ``process@label``."""
        return {record.key: record for record in open_promises(self.reading)} if self.late else {}

    def first(self, process: str) -> datetime | None:
        """Where to begin: with the interval that holds the instant, if one is named."""
        if self.since is None:
            return None
        begin, _ = self.reading.catalog.spans[process]
        at = max(min(self.since, self.now), begin)
        return self.reading.catalog.processes[process].calendar.containing(at).start

    def rows(self, process: str, first: datetime | None, end: datetime) -> Iterator[Row]:
        """The jobs of a process within these bounds that may be wanted."""
        return self.reading.rows(process, first, end, self.passes_over)

    def passes_over(self, standing: Standing) -> bool:
        """Whether none that stands so is wanted."""
        if self.states and standing.state.value not in self.states:
            return True
        if self.stale and not standing.outdated:
            return True
        return self.late and standing.state.finished

    def wants(self, row: Row) -> bool:
        """Whether this one is wanted."""
        return (
            (not self.states or row.state.value in self.states)
            and (row.stale or not self.stale)
            and (self.since is None or row.interval.end > self.since)
            and (not self.late or self.is_late(row))
        )

    def why(self, row: Row, reasons: Mapping[tuple[str, datetime], str]) -> str:
        """Why it stands so, and what was promised of it, where that is asked for."""
        said = _said(row, row.reason or reasons.get((row.process, row.interval.start), ""))
        record = self.promises.get(job_key(row.process, row.interval))
        if record is None:
            return said
        promise = f"{record.state}, promised by {clock(record.promised)} UTC"
        return f"{promise}: {said or record.reason}" if said or record.reason else promise

    def is_late(self, row: Row) -> bool:
        """Whether it is not finished, and should be by all that is known."""
        if row.state.finished:
            return False
        name, catalog = row.process, self.reading.catalog
        process = catalog.processes.get(name)
        promised = process.promised(row.interval) if process is not None else None
        if promised is not None:
            return promised <= self.now or job_key(name, row.interval) in self.promises
        if name not in self._late_after:
            typical = typical_delay(catalog, recent_units(self.reading.store, name))
            self._late_after[name] = None if typical is None else max(2 * typical, JUST_DUE)
        after = self._late_after[name]
        return after is not None and self.now - due_of(catalog, name, row.interval) > after


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
            result=job.result,
        )
        for job in reversed(reading.firings(name, FIRINGS_KEPT))
    ]
