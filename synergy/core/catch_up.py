"""Which intervals of a process nobody has worked yet though they are due: what catching up is
about."""

from collections.abc import Iterator
from datetime import datetime

from synergy.core.catalog import Process
from synergy.core.intervals import Interval
from synergy.core.model import Job
from synergy.core.states import TERMINAL
from synergy.core.timetable import Timetable


def missed(
    timetable: Timetable, process: Process, until: datetime, after: datetime | None = None
) -> Iterator[Interval]:
    """The intervals that were due by `until` and were never finally run, oldest first.

    What is at work, held by a request, reopened by name or has a result is not among them: somebody
    wants it.  With `after`, those that begin then or later.  Costs what is open, not history.
    """
    start, end = timetable.catalog.spans[process.name]
    ledger = timetable.ledgers[process.name]
    calendar = process.calendar
    interval = calendar.starting_at(ledger.gap_from(max(start, after) if after else start))
    while (end is None or interval.start < end) and process.due(interval) <= until:
        job = timetable.active.get((process.name, interval.start))
        if job is None or _untouched(job):
            yield interval
        following = calendar.next(interval)
        gap = ledger.gap_from(following.start)
        interval = following if gap == following.start else calendar.starting_at(gap)


def newest(process: Process, until: datetime) -> Interval:
    """The last interval of its calendar that was due by `until`."""
    calendar = process.calendar
    interval = calendar.containing(until)
    while process.due(interval) > until:
        interval = calendar.shift(interval, -1)
    return interval


def _untouched(job: Job) -> bool:
    at_work = job.unit is not None and job.state.at_work
    return not (at_work or job.holds or job.forced or job.result or job.state in TERMINAL)
