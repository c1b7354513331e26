"""How long work took: read from the jobs and units that the store remembers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.model import Job, Unit, unit_key
from synergy.core.states import JobState, UnitState
from synergy.ports import Store

#: Units that tell how long the next one will take: enough for a median, few enough to be read at
#: once.
RECENT = 50
#: Units read in one go.
BATCH = 500
#: What is over the typical delay by less than this is never called late: it has just been due.
JUST_DUE = timedelta(seconds=60)

_WORKED = frozenset({UnitState.PROCESSED, UnitState.NOOP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How one interval went, in its latest generation; what is not known, or has not been, is
    None."""

    process: str
    interval: Interval
    state: JobState
    generation: int
    #: Attempts that have begun.
    attempts: int
    due: datetime
    #: When its deciding unit was handed to the workers.
    requested: datetime | None
    #: When its first attempt was started.
    started: datetime | None
    ended: datetime | None
    #: From when it was due (opened again: requested) to the start of its first attempt.
    waited: timedelta | None
    #: Of that, from its request on: the wait for a worker.
    queued: timedelta | None
    #: From the start of its last attempt to its end.
    ran: timedelta | None


def due_of(catalog: Catalog, process: str, interval: Interval) -> datetime:
    """When an interval was due; a firing of a freerun at its instant."""
    registered = catalog.processes.get(process)
    return interval.start if registered is None else registered.due(interval)


def past(store: Store, catalog: Catalog, jobs: Sequence[Job]) -> Iterator[Past]:
    """How these went, in their order."""
    for first in range(0, len(jobs), BATCH):
        some = jobs[first : first + BATCH]
        units = store.read_units([job.unit for job in some if job.unit])
        for job in some:
            unit = units.get(job.unit or "")
            yield _past(job, unit, due_of(catalog, job.process, job.interval))


def _past(job: Job, unit: Unit | None, due: datetime) -> Past:
    if unit is not None and unit.provisional:
        unit = None
    started = first_start(unit) if unit is not None else None
    requested = unit.created_at if unit is not None else None
    since = due if job.generation == 1 or requested is None else requested
    return Past(
        process=job.process,
        interval=job.interval,
        state=job.state,
        generation=job.generation,
        attempts=attempts_made(unit) if unit is not None else job.attempts,
        due=due,
        requested=requested,
        started=started,
        ended=unit.finished_at if unit is not None else None,
        waited=_between(since, started),
        queued=_between(requested, started),
        ran=duration(unit) if unit is not None else None,
    )


def attempts_made(unit: Unit) -> int:
    """Attempts of a unit that have begun."""
    return unit.attempt - (unit.state in (UnitState.REQUESTED, UnitState.CLAIMED))


def first_start(unit: Unit) -> datetime | None:
    """When its first attempt began; None where none has, or where that is forgotten."""
    if unit.started_at is None or unit.attempt == 1:
        return unit.started_at
    known = unit.transitions
    if not known or known[0].version > 2 or known[0].attempt > 1:
        return None
    begun = UnitState.IN_PROGRESS.value
    return next((made.at for made in known if made.after == begun), None)


def recent_units(store: Store, process: str, limit: int = RECENT) -> list[Unit]:
    """The deciding units of the latest intervals that ended by themselves, newest first.

    At most `limit` intervals are looked at, those under way among them.
    """
    return [unit for unit in latest_units(store, process, limit) if unit.state in _WORKED]


def latest_units(store: Store, process: str, limit: int = RECENT) -> list[Unit]:
    """The deciding units of the latest intervals however they stand, newest first; of those that
    have none in their latest generation the one that made the standing result."""
    keys = [key for job in store.last_jobs(process, limit) if (key := _latest_of(job))]
    found = store.read_units(keys, history=False)
    units = (found.get(key) for key in keys)
    return [unit for unit in units if unit is not None and not unit.provisional]


def _latest_of(job: Job) -> str | None:
    return job.unit or (unit_key(job.process, job.interval, job.result) if job.result else None)


def duration(unit: Unit) -> timedelta | None:
    """From the start of its last attempt to its end; None where it did not get that far."""
    if unit.state not in _ENDED:
        return None
    return _between(unit.started_at, unit.finished_at)


def durations(units: Iterable[Unit]) -> Iterator[tuple[Unit, timedelta]]:
    """Those that have a duration, with it; what was one call with others of them is shared out."""
    known = [(unit, found) for unit in units if (found := duration(unit)) is not None]
    calls = Counter(_call_of(unit) for unit, _ in known)
    for unit, found in known:
        yield unit, found / calls[_call_of(unit)]


def _call_of(unit: Unit) -> object:
    """The same for units that were one call: they begin and end together."""
    return (unit.process, unit.started_at, unit.finished_at) if unit.task.batch > 1 else unit.key


def typical_duration(units: Iterable[Unit]) -> timedelta | None:
    """The median of their durations; None where none has any."""
    known = [found for _, found in durations(units)]
    return percentile(sorted(known), 50) if known else None


def typical_delay(catalog: Catalog, units: Iterable[Unit]) -> timedelta | None:
    """The median of the time from when they were due to their end, of those that were not opened
    again; None where none is known."""
    known = [
        found
        for unit in units
        if unit.generation == 1
        and (found := _between(due_of(catalog, unit.process, unit.interval), unit.finished_at))
        is not None
    ]
    return percentile(sorted(known), 50) if known else None


def percentile(values: Sequence[timedelta], percent: float) -> timedelta:
    """The smallest of ascending values that at least so many per cent do not exceed."""
    return values[max(ceil(len(values) * percent / 100), 1) - 1]


def _between(start: datetime | None, end: datetime | None) -> timedelta | None:
    """Never negative: clocks of boxes differ."""
    return None if start is None or end is None else max(end - start, timedelta(0))


_ENDED = frozenset({UnitState.PROCESSED, UnitState.NOOP, UnitState.INVALID})
