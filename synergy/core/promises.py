"""Whether intervals will be complete by when their process promises it, watched by the clock.

An interval is looked at when it has ended, whether or not anything of it ever began, and again
whenever it could have become too late, until it is complete.  It is *at risk* when what is left to
do typically takes longer than the time that is left, or when only a twentieth of its time is left;
so there is a warning before each promise that is broken, however suddenly.  What is left to do is
estimated by medians along the chain of what it waits for: a look costs what is unfinished.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, islice
from typing import Any

from synergy.core.catalog import Catalog, Input, Process
from synergy.core.intervals import Interval
from synergy.core.model import Job, Unit
from synergy.core.states import JobState, UnitState
from synergy.core.timetable import Timetable
from synergy.core.values import dataclass

#: The share of the time from due to promised with which there is a warning in any case, and the
#: least that this is.
LAST_SHARE, LAST_MOMENT = 20, timedelta(seconds=2)
#: Looks at one interval are never closer, nor farther apart than the longer of a minute and a share
#: of the time that is left.
CLOSEST, FARTHEST, SHARE = timedelta(seconds=1), timedelta(seconds=60), 20
#: Unfinished intervals of one input that are estimated one by one; of all twice as many.
LOOKED = 100
#: So much of the time that a unit has run is it taken to need still, once it is over the median.
OVERTIME = 0.1
#: Slots where no program is declared, and the most that are counted.
DEFAULT_SLOTS, DEFAULT_LIMIT = 2, 256

_TICK = timedelta(microseconds=1)
_NONE = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is to be told of the promise of one interval, each once."""

    #: "warned", "broken" or "ended".
    what: str
    process: str
    interval: Interval
    promised: datetime
    at: datetime
    #: Why it is at risk, or what holds it.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """When something will be complete, typically; None where it will not be by itself."""

    at: datetime | None
    because: str


#: A process, and the start of an interval.
Key = tuple[str, datetime]


class Promises:
    """Watches the promises of a catalog; see the module."""

    def __init__(
        self,
        timetable: Timetable,
        unit_of: Callable[[Job], Unit | None],
        is_on: Callable[[str], bool],
        since: Mapping[str, datetime],
        told: Mapping[Key, frozenset[str]],
    ) -> None:
        """`since`: of each process that promises, up to which instant its promises were judged.
        `told`: what was told of those intervals whose end was not."""
        self.catalog = timetable.catalog
        self.timetable = timetable
        #: How long an attempt of each process takes, typically.
        self.typical: Mapping[str, timedelta] = {}
        self._unit_of = unit_of
        self._is_on = is_on
        self._told = {key: set(what) for key, what in told.items()}
        self._ticket = count()
        #: When to look at what, and whether it is the first look: then the next interval follows.
        self._looks: list[tuple[datetime, int, str, Interval, bool]] = []
        for name, process in promising(self.catalog).items():
            first = _first_after(self.catalog, process, since[name])
            if first is not None:
                self._look_at(first.end, name, first, first=True)
        for name, start in told:
            if name in self.catalog.processes:
                process = self.catalog.processes[name]
                interval = process.calendar.starting_at(start)
                promised = process.promised(interval)
                if promised is not None and promised <= since[name]:  # else it is looked at anyway
                    self._look_at(interval.end, name, interval)

    def wake_at(self) -> datetime | None:
        """When somebody is to be looked at."""
        return self._looks[0][0] if self._looks else None

    def look(self, now: datetime) -> list[Told]:
        """Look at whom it is time to look at; what is to be told then."""
        told: list[Told] = []
        while self._looks and self._looks[0][0] <= now:
            _, _, name, interval, first = heapq.heappop(self._looks)
            if first:
                following = self.catalog.processes[name].calendar.next(interval)
                if self.catalog.exists(name, following):
                    self._look_at(following.end, name, following, first=True)
            told += self._judged(name, interval, now)
        return told

    def _look_at(
        self, when: datetime, name: str, interval: Interval, *, first: bool = False
    ) -> None:
        heapq.heappush(self._looks, (when, next(self._ticket), name, interval, first))

    def _judged(self, name: str, interval: Interval, now: datetime) -> Iterator[Told]:
        """What is to be told of one, and when to look at it again."""
        process = self.catalog.processes[name]
        promised, key = process.promised(interval), (name, interval.start)
        if promised is None:
            return  # it is promised no more
        told = self._told.get(key, frozenset[str]())
        common: dict[str, Any] = {
            "process": name,
            "interval": interval,
            "promised": promised,
            "at": now,
        }
        if self._is_complete(name, interval):
            if told:
                del self._told[key]
                yield Told(what="ended", **common)
            return
        if promised <= now:
            if "broken" not in told:
                self._told.setdefault(key, set()).add("broken")
                estimate = self._estimated(process, interval, now, {})
                yield Told(what="broken", reason=estimate.because, **common)
            self._look_at(now + FARTHEST, name, interval)
            return
        left = promised - now
        estimate = self._estimated(process, interval, now, {})
        at_least = now + max((promised - process.due(interval)) / LAST_SHARE, LAST_MOMENT)
        done = None if estimate.at is None else max(estimate.at, at_least)
        if (done is None or done >= promised) and "warned" not in told:
            self._told.setdefault(key, set()).add("warned")
            yield Told(what="warned", reason=estimate.because, **common)
        farthest = max(FARTHEST, left / SHARE)
        spare = farthest if done is None or done >= promised else promised - done
        self._look_at(min(now + min(max(spare, CLOSEST), farthest), promised), name, interval)

    def _is_complete(self, name: str, interval: Interval) -> bool:
        """Whether it is finished, or was once: what is made anew was complete in its time."""
        job = self.timetable.active.get((name, interval.start))
        once = job is not None and job.result > 0
        return once or self.timetable.state(name, interval).finished

    # what is left to do

    def _estimated(
        self, process: Process, interval: Interval, now: datetime, known: dict[Key, Estimate]
    ) -> Estimate:
        """When an unfinished interval will be complete, typically."""
        key = process.name, interval.start
        found = known.get(key)
        if found is None:
            known[key] = Estimate(now, "")  # whoever comes by here again, has gone in a circle
            found = known[key] = self._estimate(process, interval, now, known)
        return found

    def _estimate(
        self, process: Process, interval: Interval, now: datetime, known: dict[Key, Estimate]
    ) -> Estimate:
        name = f"{process.name} {interval.label}"
        job = self.timetable.active.get((process.name, interval.start))
        typical = self.typical.get(process.name, _NONE)
        unit = self._unit_of(job) if job is not None else None
        if unit is not None and unit.state is UnitState.IN_PROGRESS and not unit.provisional:
            been = now - unit.started_at if unit.started_at is not None else _NONE
            left = max(typical - been, been * OVERTIME, _NONE)
            return Estimate(now + left, f"{name} is at work, attempt {unit.attempt}")
        state = self.timetable.state(process.name, interval)
        if state is JobState.FAILED:
            return Estimate(None, f"{name} has failed")
        if (unit is None or unit.provisional) and not self._is_on(process.name):
            return Estimate(None, f"{process.name} is switched off")
        begins = Estimate(max(process.due(interval), now), f"{name} waits for a worker")
        if begins.at is not None and process.due(interval) > now:
            begins = Estimate(begins.at, f"{name} is not due yet")
        for given in self.catalog.inputs(process.name, interval):
            begins = _later(begins, self._input(given, now, known))
        if unit is not None and unit.not_before is not None and unit.not_before > now:
            begins = _later(begins, Estimate(unit.not_before, f"{name}: {unit.reason}"))
        if begins.at is None:
            return begins
        return Estimate(begins.at + typical, begins.because)

    def _input(self, given: Input, now: datetime, known: dict[Key, Estimate]) -> Estimate:
        """When all of an input will be complete."""
        process = self.catalog.processes[given.process]
        latest, behind = Estimate(now, ""), 0.0
        for start, end in self._unfinished(given):
            begun = min(end, now)
            if start < begun:
                first = process.calendar.starting_at(start)
                behind += (begun - start) / (first.end - first.start)
            some = islice(process.calendar.between(start, max(begun, start)), LOOKED)
            for one in (*some, process.calendar.containing(end - _TICK)):
                if len(known) < LOOKED * 2:
                    latest = _later(latest, self._estimated(process, one, now, known))
        typical = self.typical.get(given.process, _NONE)
        row = now + typical * (behind / self._slots(given.process))
        words = f"{behind:.0f} intervals of {given.process} wait for workers"
        return latest if behind <= 1 else _later(latest, Estimate(row, words))

    def _unfinished(self, given: Input) -> Iterator[tuple[datetime, datetime]]:
        """Ranges of it in which nothing is finished."""
        for start, end, state in self.timetable.runs(given):
            if not state.finished:
                yield start, end

    def _slots(self, name: str) -> int:
        """How many units of a process can be worked at once, as its programs are declared."""
        programs = self.catalog.programs.values()
        slots = sum(program.slots for program in programs if program.works_on(name))
        return min(slots or DEFAULT_SLOTS, self.catalog.processes[name].parallel or DEFAULT_LIMIT)


def promising(catalog: Catalog) -> dict[str, Process]:
    """The processes that promise something."""
    return {
        name: process
        for name, process in catalog.processes.items()
        if process.complete_by is not None
    }


def without_promises(catalog: Catalog) -> Catalog:
    """The catalog for plays, in which nobody is to be warned."""
    processes = {
        name: replace(process, complete_by=None) for name, process in catalog.processes.items()
    }
    return replace(catalog, processes=processes)


def _first_after(catalog: Catalog, process: Process, since: datetime) -> Interval | None:
    """The first interval whose promise is for a later instant."""
    start, _ = catalog.spans[process.name]
    interval = process.calendar.containing(max(since - _longest(process), start))
    while catalog.exists(process.name, interval):
        promised = process.promised(interval)
        if promised is None or promised > since:
            return interval
        interval = process.calendar.next(interval)
    return None


def _longest(process: Process) -> timedelta:
    """From the end of an interval to what is promised, at most."""
    by = process.complete_by
    return by if isinstance(by, timedelta) else timedelta(hours=27)


def _later(one: Estimate, other: Estimate) -> Estimate:
    """The one that ends later; the first of two that never do, else the second of two alike: what
    is waited for, and not who waits."""
    if one.at is None or not other.because:
        return one
    return other if other.at is None or other.at >= one.at else one
