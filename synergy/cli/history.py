"""``history``: how long the intervals of a process took, and waited."""

import argparse
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from synergy.cli.naming import count_from_one, interval_range, process_named, reading_of
from synergy.cli.output import Output, clock, duration, instant, terminal
from synergy.cli.plot import columns
from synergy.core.model import Job
from synergy.errors import BadInput
from synergy.history import Past, past, percentile
from synergy.project import Project
from synergy.reading import Reading

#: Intervals that are told of when nobody says which.
SHOWN = 30
#: Per cent, and how they are called.
PERCENTILES = ((50, "p50"), (90, "p90"), (99, "p99"), (100, "max"))
#: What is told of an interval in seconds.
MEASURES: Sequence[tuple[str, Callable[[Past], timedelta | None]]] = (
    ("waited", lambda one: one.waited),
    ("queued", lambda one: one.queued),
    ("ran", lambda one: one.ran),
)


#: The columns of the CSV form.
FIELDS = (
    *("process", "interval", "state", "generation", "attempts"),
    *("due", "requested", "started", "ended"),
    *(name for name, _ in MEASURES),
)


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("process", metavar="PROCESS", help="a process, or a freerun")
    parser.add_argument(
        "interval",
        nargs="?",
        metavar="INTERVAL",
        help="only this interval, or FROM..TO (both included)",
    )
    parser.add_argument(
        "--last",
        type=count_from_one,
        metavar="N",
        help=f"the latest N intervals; {SHOWN} without a range",
    )
    parser.add_argument("--csv", action="store_true", help="print CSV (RFC 4180)")
    parser.add_argument(
        "--plot", action="store_true", help="draw the plots also where stdout is no terminal"
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Tell them."""
    if args.interval is not None and args.last is not None:
        raise BadInput("a range of intervals, or --last N; not both")
    output.one_form(args.csv)
    reading = reading_of(project)
    process = process_named(reading.catalog, args.process, freeruns=True)
    found = [*past(reading.store, reading.catalog, _jobs(args, reading, process))]
    if output.json:
        output.data({"process": process, **_summary(found), "intervals": [*map(_as_json, found)]})
        return 0
    if args.csv:
        output.csv(FIELDS, (_as_json(one).values() for one in found))
        return 0
    if not found:
        there = " there" if args.interval else ""
        output.note(f"nothing of {process} has been worked{there} yet")
        return 0
    _tell(found, output, plot=args.plot or terminal())
    return 0


def _jobs(args: argparse.Namespace, reading: Reading, process: str) -> list[Job]:
    """The jobs that are asked for, the oldest first."""
    if args.interval is None:
        return reading.store.last_jobs(process, args.last or SHOWN)[::-1]
    if process in reading.catalog.freeruns:
        raise BadInput(f"{process} is a freerun; it has firings, and no intervals: --last N")
    start, end = interval_range(reading.catalog, process, args.interval)
    return reading.store.jobs_between(process, start, end)


def _as_json(one: Past) -> dict[str, object]:
    return {
        "process": one.process,
        "interval": one.interval.label,
        "state": one.state.value,
        "generation": one.generation,
        "attempts": one.attempts,
        "due": instant(one.due),
        "requested": _instant(one.requested),
        "started": _instant(one.started),
        "ended": _instant(one.ended),
        **{name: _seconds(of(one)) for name, of in MEASURES},
    }


def _summary(found: Sequence[Past]) -> dict[str, object]:
    """Percentiles of what is known of them; none of what is not known of any."""
    summary: dict[str, object] = {}
    for name, of in MEASURES:
        known = sorted(value for one in found if (value := of(one)) is not None)
        told = {called: _seconds(percentile(known, p)) for p, called in PERCENTILES if known}
        summary[name] = {"intervals": len(known), **told}
    return summary


def _tell(found: Sequence[Past], output: Output, *, plot: bool) -> None:
    output.table(
        ("interval", "state", "generation", "attempts", "due (UTC)", "started", "waited", "ran"),
        (
            (
                one.interval.label,
                output.state(one.state.value),
                one.generation,
                one.attempts,
                clock(one.due),
                clock(one.started) if one.started else "–",
                _words(one.waited),
                _words(one.ran),
            )
            for one in found
        ),
    )
    output.line()
    rows = []
    for name, of in MEASURES:
        known = sorted(value for one in found if (value := of(one)) is not None)
        told = [_words(percentile(known, p)) if known else "–" for p, _ in PERCENTILES]
        rows.append((name, len(known), *told))
    output.table(("", "intervals", *(called for _, called in PERCENTILES)), rows)
    if plot:
        width = shutil.get_terminal_size().columns
        for title, of in (("ran", MEASURES[2][1]), ("waited", MEASURES[0][1])):
            points = [(one.interval.label, _seconds(of(one))) for one in found]
            lines = columns(title, points, width)
            if lines:
                output.line()
            for line in lines:
                output.line(line)


def _words(value: timedelta | None) -> str:
    return "–" if value is None else duration(value.total_seconds())


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()


def _instant(when: datetime | None) -> str | None:
    return None if when is None else instant(when)
