"""What is known of the timetable at one moment, and what it comes to: counted by months, so that a
page over ten years costs no more than what has changed since the last one.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from synergy.core.catalog import Catalog, Freerun, Process
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.model import BoxRecord, Job, Lease, Request, Standing, Unit, embryo
from synergy.core.states import JobState
from synergy.core.switches import Switch
from synergy.core.timetable import Timetable
from synergy.errors import NotFound
from synergy.mx.counting import number_between

T = TypeVar("T")

#: Roll-ups that are remembered.
REMEMBERED: Final = 50_000

#: How many intervals are in which state; None stands for those that nobody has touched.
Counts = Mapping[JobState | None, int]


#: The end of all spans that have none.
FAR: Final = datetime(9000, 1, 1, tzinfo=UTC)
#: Failed intervals of a process that are told one by one.
NEWEST_FAILED: Final = 20


#: From the start of an interval to that of another.
Stretch = tuple[datetime, datetime]
#: Seconds of what is counted by its length; larger intervals differ in theirs, and are few.
_SECONDS: Final = {Granularity.MINUTELY: 60, Granularity.HOURLY: 3_600, Granularity.DAILY: 86_400}


@dataclass(frozen=True, slots=True)
class Tally:
    """What a stretch comes to."""

    states: Counts
    #: Finished, and marked stale.
    outdated: int


@dataclass(frozen=True, slots=True)
class Summary:
    """How far a process is."""

    #: All of it is finished until there; None where nothing is.
    finished_until: datetime | None
    failed: int
    skipped: int
    #: Finished, and marked stale.
    outdated: int
    newest_failed: tuple[Interval, ...]


@dataclass(slots=True)
class Picture:
    """What is known; to be looked at within `Living.picture` only."""

    catalog: Catalog
    catalog_version: int
    timetable: Timetable
    #: Number of the last entry of the feed that is in it.
    seq: int
    lease: Lease | None = None
    boxes: Sequence[BoxRecord] = ()
    switches: Mapping[str, Switch] = field(default_factory=dict)
    #: The units that workers hold, by key.
    held: Mapping[str, Unit] = field(default_factory=dict)
    requests: Sequence[Request] = ()
    read_at: datetime | None = None
    #: What was counted, by process and month.
    _months: dict[str, dict[datetime, dict[Stretch, Tally]]] = field(default_factory=dict)
    _remembered: int = 0
    #: The months of each process, by its own clock.
    _calendars: dict[str, Calendar] = field(default_factory=dict)
    _summaries: dict[str, Summary] = field(default_factory=dict)
    #: The active jobs by process; empty after a change.
    _active: dict[str, list[Job]] = field(default_factory=dict)

    def job(self, process: str, interval: Interval) -> Job:
        """The job as far as it is known without its document: of a terminal one its standing."""
        found = self.timetable.active.get((process, interval.start))
        if found is not None:
            return found
        standing = self.timetable.ledgers[process].at(interval.start)
        if standing is None:
            return embryo(process, interval)
        return Job(
            process=process,
            interval=interval,
            state=standing.state,
            generation=standing.generation,
            result=standing.result,
            attempts=standing.attempts,
            outdated=standing.outdated,
        )

    def knows(self, key: str) -> bool:
        """Whether a job's key is that of a process with intervals."""
        return key.partition("@")[0] in self.timetable.ledgers

    def put(self, job: Job) -> None:
        """Take over a stored job."""
        if job.process in self.timetable.ledgers:
            self.timetable.put(job)
            self._active.clear()
            self._summaries.pop(job.process, None)
            month = self._month(job.process, job.interval.start)
            known = self._months.get(job.process, {})
            # A stretch is shorter than two months, so it begins in this one or in the one before.
            for each in (month.start, self._calendar(job.process).previous(month).start):
                self._remembered -= len(known.pop(each, ()))

    def summary(self, process: str) -> Summary:
        """How far a process is; costs what has changed, month by month."""
        found = self._summaries.get(process)
        if found is None:
            found = self._summaries[process] = self._summed_up(process)
        return found

    def _summed_up(self, process: str) -> Summary:
        start, end = self.catalog.spans[process]
        known = self.timetable.ledgers[process].start_of_run(FAR)  # the last run, which is a gap
        if known is None or known <= start:
            return Summary(None, 0, 0, 0, ())
        tallies = [*self._tallies(process, start, min(known, end) if end is not None else known)]
        states: Counter[JobState | None] = Counter()
        newest: list[Interval] = []
        until = start
        for stretch, tally in tallies:
            states.update(tally.states)
            if until == stretch[0]:
                until = self._finished_until(process, *stretch, tally)
        for stretch, tally in reversed(tallies):
            if tally.states.get(JobState.FAILED) and len(newest) < NEWEST_FAILED:
                newest += reversed(self._failed(process, *stretch))
        return Summary(
            until if until > start else None,
            states[JobState.FAILED],
            states[JobState.SKIPPED],
            sum(tally.outdated for _, tally in tallies),
            tuple(newest[:NEWEST_FAILED]),
        )

    def _finished_until(
        self, process: str, start: datetime, end: datetime, tally: "Tally"
    ) -> datetime:
        """How far all of a stretch is finished; its end where all of it is."""
        if all(state is not None and state.finished for state in tally.states):
            return end
        for begin, _, standing in self.timetable.ledgers[process].runs(start, end):
            if standing is None or not standing.state.finished:
                return begin
        return end

    def _failed(self, process: str, start: datetime, end: datetime) -> list[Interval]:
        """The last failed intervals of a stretch, ascending."""
        calendar = self.catalog.processes[process].calendar
        found: list[Interval] = []
        for begin, stop, standing in self.timetable.ledgers[process].runs(start, end):
            if standing is not None and standing.state is JobState.FAILED:
                interval = calendar.containing(stop - timedelta(microseconds=1))
                run: list[Interval] = []
                while interval.start >= begin and len(run) < NEWEST_FAILED:
                    run.append(interval)
                    interval = calendar.previous(interval)
                found = (found + run[::-1])[-NEWEST_FAILED:]
        return found

    def active_of(self, process: str) -> Sequence[Job]:
        """The jobs of a process that are under way, by start."""
        if process not in self._active:
            jobs = sorted(self.timetable.active.values(), key=lambda job: job.interval.start)
            self._active = {name: [] for name in self.timetable.ledgers}
            for job in jobs:
                self._active[job.process].append(job)
        return self._active[process]

    def active_between(self, process: str, start: datetime, end: datetime) -> Sequence[Job]:
        """Those of them that begin in ``[start, end)``."""
        jobs = self.active_of(process)
        low = bisect_left(jobs, start, key=lambda job: job.interval.start)
        high = bisect_left(jobs, end, lo=low, key=lambda job: job.interval.start)
        return jobs[low:high]

    def counts(self, process: str, start: datetime, end: datetime) -> Counts:
        """How many intervals of a process that begin in ``[start, end)`` are in which state.

        Costs what changes of state there are in it, not what intervals; the next time nothing.
        """
        first, last = self.catalog.spans[process]
        start, end = max(start, first), min(end, last) if last is not None else end
        if start >= end:
            return {}
        calendar = self.catalog.processes[process].calendar
        start, end = _next_start(calendar, start), _next_start(calendar, end)
        total: dict[JobState | None, int] = {}
        for _, tally in self._tallies(process, start, end):
            for state, number in tally.states.items():
                total[state] = total.get(state, 0) + number
        return total

    def _calendar(self, process: str) -> Calendar:
        found = self._calendars.get(process)
        if found is None:
            zone = self.catalog.processes[process].calendar.zone
            found = self._calendars[process] = Calendar(Granularity.MONTHLY, 1, zone)
        return found

    def _month(self, process: str, instant: datetime) -> Interval:
        return self._calendar(process).containing(instant)

    def _tallies(
        self, process: str, start: datetime, end: datetime
    ) -> "Iterator[tuple[Stretch, Tally]]":
        """What a stretch of time comes to, month by month."""
        calendar = self.catalog.processes[process].calendar
        while start < end:
            month = self._month(process, start)
            stop = min(end, _next_start(calendar, month.end))
            yield (start, stop), self._tally(process, month.start, (start, stop))
            start = stop

    def _tally(self, process: str, month: datetime, stretch: "Stretch") -> "Tally":
        if self._remembered >= REMEMBERED:
            self._months.clear()
            self._remembered = 0
        known = self._months.setdefault(process, {}).setdefault(month, {})
        found = known.get(stretch)
        if found is None:
            found = known[stretch] = self._counted(process, *stretch)
            self._remembered += 1
        return found

    def process_named(self, name: str) -> Process:
        """The process of this name.

        Raises:
            NotFound: there is none; it names those that there are.
        """
        return _named("process", name, self.catalog.processes)

    def freerun_named(self, name: str) -> Freerun:
        """The same of freeruns."""
        return _named("freerun", name, self.catalog.freeruns)

    def _counted(self, process: str, start: datetime, end: datetime) -> "Tally":
        calendar, ledger = self.catalog.processes[process].calendar, self.timetable.ledgers[process]
        size = _SECONDS.get(calendar.granularity)
        lengths: Counter[Standing | None] = Counter()
        counts: Counter[JobState | None] = Counter()
        outdated = 0
        for begin, until, standing in ledger.runs(start, end):
            if size is None:
                lengths[standing] += number_between(calendar, begin, until)
            else:
                lengths[standing] += int((until - begin).total_seconds())
        for each, length in lengths.items():
            # A set clock makes one of them shorter or longer, which makes no other number of them.
            number = length if size is None else round(length / (size * calendar.grouping))
            counts[each.state if each is not None else None] += number
            outdated += number if each is not None and each.outdated else 0
        for job in self.active_between(process, start, end):
            known = ledger.at(job.interval.start)
            counts[known.state if known is not None else None] -= 1
            counts[job.state] += 1
        return Tally({state: number for state, number in counts.items() if number > 0}, outdated)


def _named(kind: str, name: str, registered: Mapping[str, T]) -> T:
    if name not in registered:
        known = ", ".join(registered) or "none"
        raise NotFound(f"no {kind} {name!r} is registered; known are {known}")
    return registered[name]


def _next_start(calendar: Calendar, instant: datetime) -> datetime:
    """The instant itself where an interval begins there, else where the next one begins."""
    interval = calendar.containing(instant)
    return interval.start if interval.start == instant else interval.end
