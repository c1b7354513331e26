"""The engine: told what happened, it says what to do.  Pure, synchronous, one thread.

``handle(events, now)`` returns commands; the loop executes each and tells the engine how it went.
The engine takes a job for changed only when the store took the write: between asking and answer
the job is *being written*, and what concerns it waits.  A refused write brings the document as it
stands, which replaces what the engine believed; that is normal, not an error (DESIGN §3.11).

It never scans: an interval is considered when it falls due, when something that it waits for
finished, and when a timer of its own fires.  Considering is idempotent, so that a wake-up too many
costs little and one that is repeated changes nothing.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import assert_never

from synergy.core import admission, catch_up, freeruns, machines, plans, recovery
from synergy.core.backfills import LOWERED
from synergy.core.catalog import Catalog, Process
from synergy.core.commands import (
    Command,
    DocumentKind,
    MeasureSource,
    SaveJob,
    SaveUnit,
)
from synergy.core.events import (
    DocumentRefused,
    DocumentSaved,
    DocumentsRead,
    Event,
    JobRefused,
    JobSaved,
    JobsChanged,
    JobsRead,
    Loaded,
    PlanMoved,
    RequestFiled,
    SlotsSeen,
    SourceMeasured,
    TimePassed,
    UnitChanged,
    UnitRefused,
    UnitSaved,
    UnitsRead,
)
from synergy.core.intervals import Interval
from synergy.core.lanes import Lane, Lanes
from synergy.core.late import Looks
from synergy.core.model import Documents, Job, JobWrite, Json, Request, Unit, UnitWrite, embryo
from synergy.core.operations import Operations, answered, in_words
from synergy.core.plans import Key
from synergy.core.readiness import Hopeless, NotBegun, Pausing, Ready, Waiting, judge
from synergy.core.states import AT_WORK, TERMINAL, UNIT_TERMINAL, JobState, UnitState
from synergy.core.switchboard import Switchboard
from synergy.core.switches import NOT_CAUGHT_UP, Switch
from synergy.core.timetable import Timetable

#: Intervals of one process that stand ready before the calendar is followed beyond its limit.
READY_AHEAD = 1024
#: A source that could not be measured is measured again after this.
MEASURE_AGAIN = timedelta(seconds=10)
#: Missed intervals that are recorded in one turn of the loop: so few that it renews its lease and
#: hears of everything else in between.
RECORDED_AT_ONCE = 500
#: A clock set back by more than this makes what waits for its time be looked at anew.
SET_BACK = timedelta(seconds=60)


#: When something has its turn among others, the lowest first: priority, and age.
_Turn = tuple[int, datetime]
#: Before any interval.
_FIRST = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Line:
    """How far one process is, and which of its intervals are on their way."""

    process: Process
    #: Where the span of its tree ends; None where it does not.
    end: datetime | None
    #: The next interval of its calendar; None where the span of its tree has ended.
    due: Interval | None
    #: Whether intervals may have fallen due that were not considered yet.
    behind: bool = False
    #: Intervals that were woken and may run, a heap by their start, and their starts.
    ready: list[tuple[datetime, Interval]] = field(default_factory=list)
    queued: set[datetime] = field(default_factory=set)
    #: The same of each backfill: they go out beside the others.  The next one first.
    aside: dict[str, list[tuple[float, Interval]]] = field(default_factory=dict)
    #: Starts of those whose unit is out.
    out: set[datetime] = field(default_factory=set)
    #: Starts of those whose source is being measured, and whether they had closed by then.
    measuring: dict[datetime, bool] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How many units of it are out, those whose source is being measured included."""
        return len(self.out) + len(self.measuring)

    def within(self, interval: Interval) -> Interval | None:
        """The interval, where it does not lie beyond the span of its tree."""
        return interval if self.end is None or interval.start < self.end else None


class Engine:
    """Decides everything; touches nothing."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.timetable = Timetable(catalog)
        self._commands: list[Command] = []
        self._writing: dict[Key, JobWrite] = {}
        self._later: dict[Key, list[Event]] = {}
        self._lines = {name: self._line(process) for name, process in catalog.processes.items()}
        #: The lines of which something may be considered or requested now.
        self._stirred: set[str] = set()
        #: The pools of which a member wants a place, or has left one.
        self._stirred_pools: set[str] = set()
        #: Jobs that have ended, whose consumers were not woken yet.
        self._ended: list[plans.Place] = []
        #: Units that have not ended, by their job and key.
        self._units: dict[Key, dict[str, Unit]] = {}
        self._bounds: dict[Key, tuple[Json, Json]] = {}
        self._unmeasured: dict[Key, datetime] = {}
        self._timers: list[tuple[datetime, int, tuple[object, ...]]] = []
        self._timed: dict[tuple[object, ...], datetime] = {}
        self._ticket = count()
        self._fired: dict[str, datetime] = {}
        self._firing: dict[str, datetime] = {}
        self.operations = Operations(self)
        self.switchboard = Switchboard(self)
        self.lanes = Lanes(self)
        #: Before where all is recorded, of processes whose missed intervals are.
        self._recorded: dict[str, datetime] = {}
        self._looks = Looks(self)
        self._now: datetime | None = None
        #: What is being decided about: a job, or a request.  Where that fails, it fails on this.
        self.deciding: Key | Request | None = None

    def _line(self, process: Process) -> _Line:
        start, end = self.catalog.spans[process.name]
        return _Line(process, end, process.calendar.starting_at(start))

    def handle(self, events: Iterable[Event], now: datetime) -> list[Command]:
        """Take in all that happened; returns what to do now, in this order.

        Nothing is requested and no timer fires before the last of the events is known.
        """
        self._commands = []
        if now != self._now:
            if self._now is not None and now < self._now - SET_BACK:
                self._clock_set_back(now)
            self._now = now
        for event in events:
            self.deciding = None
            self._take(event, now)
        self.deciding = None
        if self._ended:
            self._wake_consumers(now)
        if self.lanes.lanes:
            self.lanes.go_on(now)
        if self._timers and self._timers[0][0] <= now:
            self._fire_timers(now)
        if self._stirred or self._stirred_pools:
            self._move_on(now)
        return self._commands

    def wake_at(self) -> datetime | None:
        """When the engine wants to be told `TimePassed`, whatever happens before."""
        if self.switchboard.recordings or self.lanes.hurrying:
            return self._now
        return self._timers[0][0] if self._timers else None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no unit out, no write pending, nothing ready."""
        return not (
            self._units
            or self._writing
            or self.operations.busy
            or any(
                line.ready or line.behind or any(line.aside.values())
                for line in self._lines.values()
            )
        )

    # what happened

    def _take(self, event: Event, now: datetime) -> None:
        match event:
            case JobSaved():
                self._job_saved(event.write.job, now)
            case UnitChanged():
                self._unit_changed(event.unit, event, now)
            case UnitSaved():
                self._unit_changed(event.write.unit, event, now)
            case Loaded():
                self._load(event, now)
            case TimePassed():
                self._record(now)
                self.lanes.hold_on(now)
            case JobsChanged(jobs):
                self._jobs_changed(jobs, now)
            case RequestFiled(request, plan):
                self.deciding = request
                self.operations.file(request, plan, now)
            case PlanMoved():
                self.deciding = self.operations.carrying_out
                self.operations.taken(event, now)
            case JobRefused(write, current):
                self._job_refused(write, current, now)
            case UnitRefused(write, current):
                self._unit_refused(write, current, now)
            case JobsRead():
                # Another scheduler may have been quicker with the same request.
                known = self.timetable.agrees
                self._jobs_changed([job for job in event.jobs.values() if not known(job)], now)
                self.deciding = self.operations.carrying_out
                self.operations.begin(event, now)
            case SourceMeasured():
                if not self._looks.measured(event, now):
                    self._source_measured(event, now)
            case DocumentSaved():
                self._keeper(event.kind).saved(event, now)
            case DocumentRefused():
                self._keeper(event.kind).refused(event, now)
            case DocumentsRead():
                self._keeper(event.kind).read(event.documents, now)
            case SlotsSeen(slots):
                self.lanes.slots_seen(slots)
            case UnitsRead():
                self._looks.read(event, now)
            case _:
                assert_never(event)

    def _keeper(self, kind: DocumentKind) -> Switchboard | Lanes:
        """Who knows the documents of a kind."""
        return self.switchboard if kind == "switches" else self.lanes

    def knows(self, kind: DocumentKind, documents: Documents) -> bool:
        """Whether none of these documents is newer than what is known."""
        return self._keeper(kind).knows(documents)

    def _load(self, loaded: Loaded, now: datetime) -> None:
        self.timetable.load(loaded.ledgers, loaded.entries, loaded.jobs)
        self.switchboard.load(loaded.switches)
        self.lanes.load(loaded.backfills)
        for unit in loaded.units:
            if not unit.state.terminal and self._known(unit.process):
                self._put_unit((unit.process, unit.interval.start), unit)
        for name, line in self._lines.items():
            line.behind = True
            self._stirred.add(name)
            process = line.process
            if process.catch_up != "all" and self.switch(name) is None:
                new = not self.timetable.touched(name)
                self.switchboard.meet(name, process.catch_up, new=new, now=now)
            if process.open_ended:
                self._open(name, max(now - process.lag, self.catalog.spans[name][0]), now)
        for name in self.catalog.freeruns:
            instants = loaded.fired.get(name, ())
            self._fired[name] = freeruns.last_served(self.catalog.freeruns[name], instants, now)
        units = {unit.key: unit for unit in loaded.units}
        for job in loaded.jobs:
            if job.process in self.catalog.freeruns:
                self.timetable.put(job)
                self._firing[job.process] = job.interval.start
        # Jobs know a plan by its own id, whoever applies it.
        open_requests = {name for each in loaded.requests for name in (each.id, each.of)}
        open_requests |= self.lanes.holding
        for job in list(self.timetable.active.values()):
            self._resume(job, units, now)
            for hold in job.holds:
                if hold not in open_requests:  # refused when it was executed again
                    self.operations.release(job, hold, now)
        for unit in loaded.units:
            if self._known(unit.process):
                if unit.process in self.catalog.processes:
                    self.lanes.found(unit)
                self._unit_changed(unit, UnitChanged(unit), now)
                if unit.lease_until is not None and unit.lease_until <= now:
                    key = (unit.process, unit.interval.start)
                    self._timer(unit.lease_until, "lease", key, unit.key, unit.lease_until)
        for name in self.catalog.freeruns:
            self._fire(name, now)
        self._looks.plan(now)
        for request in loaded.requests:
            self._take(RequestFiled(request, loaded.plans.get(request.of)), now)

    def _resume(self, job: Job, units: Mapping[str, Unit], now: datetime) -> None:
        """Go on with an active job where the last scheduler left it."""
        if _has_unit(job):
            self._out(job, True)
            if job.unit not in units:
                self._insert_unit(job, now)
        else:
            self.consider(job.process, job.interval, now)

    def _job_saved(self, job: Job, now: datetime) -> None:
        key = (job.process, job.interval.start)
        self._writing.pop(key, None)
        self.timetable.put(job)
        self.operations.take_over(job)
        if not (job.outdated and _had_ended(job)):  # nothing follows from a mark
            self._settled(job, now)
        self._answered(key, job.version, now)

    def _job_refused(self, write: JobWrite, current: Job | None, now: datetime) -> None:
        key = (write.job.process, write.job.interval.start)
        self._writing.pop(key, None)
        self._bounds.pop(key, None)
        if current is None:
            self.timetable.active.pop(key, None)
            self._out(write.job, False)
            self.consider(write.job.process, write.job.interval, now)
            self._answered(key, 0, now)
        else:
            self._believe(current)
            self._settled(current, now)
            self._answered(key, current.version, now)

    def _jobs_changed(self, jobs: Iterable[Job], now: datetime) -> None:
        """Another scheduler moved them: take over all before anything follows from one (I13)."""
        taken = []
        for job in jobs:
            key = (job.process, job.interval.start)
            known = self.timetable.active.get(key)
            if key in self._writing:
                self._later.setdefault(key, []).append(JobsChanged((job,)))
            elif self._known(job.process) and (known is None or known.version < job.version):
                self._believe(job)
                taken.append(job)
        for job in taken:
            self._settled(job, now)

    def _believe(self, job: Job) -> None:
        self.timetable.put(job)
        if job.process in self.catalog.freeruns:
            instant = job.interval.start
            if freeruns.is_due_at(self.catalog.freeruns[job.process], instant):
                self._fired[job.process] = max(self._fired[job.process], instant)
            if not job.state.terminal:
                self._firing[job.process] = job.interval.start
        self.operations.take_over(job)

    def _settled(self, job: Job, now: datetime) -> None:
        """Everything that follows from how a job now stands in the store."""
        key = self.deciding = (job.process, job.interval.start)
        units = self._units.get(key)
        at_work = _has_unit(job)
        self._out(job, at_work)
        if self.lanes.lanes or job.holds:
            self.lanes.settled(job, now)
        if at_work:
            # Also where another scheduler dispatched it: it may have died before its insert, and
            # where it did not, the refusal tells how the unit stands.
            if units is None or job.unit not in units:
                self._insert_unit(job, now)
        else:
            self._bounds.pop(key, None)
        if units:
            self._cancel_orphans(units, job, now)
        if job.state in TERMINAL and not job.holds:
            self._ended.append((job.process, job.interval))
            if self._firing.get(job.process) == job.interval.start:
                del self._firing[job.process]
                self._stir_pool(job.process)
                self._fire(job.process, now)
        elif at_work and not job.runs:
            pass  # its deciding unit is out
        elif key not in self.operations.frozen and key not in self._writing:
            self._look(job, now)

    def _out(self, job: Job, out: bool) -> None:
        """Count it among those whose unit is out, or no longer."""
        line = self._lines.get(job.process)
        if line is None:
            return
        if out:
            line.out.add(job.interval.start)
        else:
            line.out.discard(job.interval.start)
            self._stirred.add(job.process)
        if self.lanes.lanes:
            self.lanes.went_out(job, out or job.interval.start in line.measuring)

    def _answered(self, key: Key, version: int, now: datetime) -> None:
        """A job is no longer being written: do what waited for that."""
        for event in self._later.pop(key, ()):
            if not (isinstance(event, JobsChanged) and event.jobs[0].version <= version):
                self._take(event, now)
        self.operations.go_on(key, now)

    def _unit_changed(self, unit: Unit, event: Event, now: datetime) -> None:
        if not self._known(unit.process):
            return
        key = self.deciding = (unit.process, unit.interval.start)
        if key in self._writing:
            self._later.setdefault(key, []).append(event)
            return
        out = self._units.get(key)
        known = out.get(unit.key) if out is not None else None
        if known is not None and known.version > unit.version:
            return
        job = self.timetable.active.get(key)
        current = job is not None and job.unit == unit.key and job.state in AT_WORK
        if unit.state in UNIT_TERMINAL:
            self._drop_unit(key, unit)
            self.operations.ended(unit.key, now)
            if current:
                assert job is not None
                self._finish(job, unit, now)
            return
        if unit is not known:
            self._put_unit(key, unit)
        if not current:
            self._cancel(unit, "its job has moved on", now)
            return
        assert job is not None
        if self._withdrawn(job, unit, now):
            return
        self._watch(unit, now)
        if unit.provisional and unit.lease_until is None:
            self.consider(unit.process, unit.interval, now)

    def _unit_refused(self, write: UnitWrite, current: Unit | None, now: datetime) -> None:
        if current is not None:
            self._unit_changed(current, UnitChanged(current), now)
        else:
            unit = write.unit
            self._drop_unit((unit.process, unit.interval.start), unit)
            self.operations.ended(unit.key, now)

    # one job

    def consider(self, name: str, interval: Interval, now: datetime) -> None:
        """Look whether a job can go a step further; harmless when it cannot."""
        key = (name, interval.start)
        if name not in self._lines or key in self.operations.frozen or key in self._writing:
            return
        job = self.timetable.job(name, interval)
        if job is not None:
            self._look(job, now)

    def _look(self, job: Job, now: datetime) -> None:
        """Queue it where it can go a step further, as it stands in the store."""
        line = self._lines.get(job.process)
        if line is None or self._judged(line, job, now) is None:
            return
        interval = job.interval
        if interval.start not in line.queued and interval.start not in line.measuring:
            line.queued.add(interval.start)
            lane = self.lanes.of(job)
            if lane is None:
                heapq.heappush(line.ready, (interval.start, interval))
            else:
                second = interval.start.timestamp()
                rank = -second if lane.backfill.order == "newest" else second
                heapq.heappush(line.aside.setdefault(lane.backfill.id, []), (rank, interval))
            self._stirred.add(job.process)

    def _judged(self, line: _Line, job: Job, now: datetime) -> Ready | Hopeless | None:
        """Whether a job can go a step further; None where it waits for its unit, for other jobs,
        which will wake it, or for a time, at which a timer will."""
        process, interval = line.process, job.interval
        self.deciding = (process.name, interval.start)
        due = process.due(interval)
        final = due <= now
        if not final and (line.due is None or interval.start < line.due.start):
            # Only after the clock was set back: the calendar will not come by here again.
            self._timer(due, "consider", process.name, interval)
        if _has_unit(job):
            if final and job.runs:
                self._drop_unstarted_provisional(job, now)
            return None
        if not final and not process.open_ended:
            return None
        verdict = judge(self.timetable, job, now, final=final)
        if not isinstance(verdict, Waiting):
            return verdict
        reason = verdict.for_[0]
        if isinstance(reason, Pausing | NotBegun):
            self._timer(reason.until, "consider", process.name, interval)
        return None

    def _move_on(self, now: datetime) -> None:
        """Request units for what is ready and for what has fallen due."""
        lines = [self._lines[name] for name in self._stirred]
        if len(lines) > 1:  # in the order of the catalog, whatever stirred them
            lines = [line for name, line in self._lines.items() if name in self._stirred]
            if self.lanes.lanes:  # what is built on targets goes before more of these
                processes = {lane.backfill.process for lane in self.lanes.lanes.values()}
                lines.sort(key=lambda line: line.process.name in processes)
        for line in lines:
            if line.process.open_ended:
                self._close(line, now)
        for line in lines:
            if line.process.pool is None:
                self._dispatch(line, now)
            else:
                self._stirred_pools.add(line.process.pool)
        for pool in self.catalog.pools if self._stirred_pools else ():
            if pool in self._stirred_pools:
                self._share_out(pool, now)
        self._stirred.clear()
        self._stirred_pools.clear()

    def _close(self, line: _Line, now: datetime) -> None:
        """Consider what has fallen due even where the limit leaves no room: a provisional unit
        that nobody has started must give way."""
        while len(line.ready) < READY_AHEAD and (interval := self._due(line, now)) is not None:
            self.consider(line.process.name, interval, now)
            line.due = line.within(line.process.calendar.next(interval))

    def _dispatch(self, line: _Line, now: datetime) -> None:
        """Request units, oldest interval first, as long as nothing is in the way."""
        while self._admitted(line.process.name) and self._request_oldest(line, now):
            pass

    def _admitted(self, name: str) -> bool:
        """Whether a unit of a process or freerun may go out now."""
        return next(admission.obstacles(self, name), None) is None

    def _request_oldest(self, line: _Line, now: datetime) -> bool:
        """Request a unit for the oldest interval, or for that of a backfill whose turn it is; False
        where there is none."""
        self.deciding = None
        lane = self._lane_turn(line, now)[1] if self.lanes.lanes or line.aside else None
        if lane is None:
            interval = self._oldest(line, now)
        else:
            _, interval = heapq.heappop(line.aside[lane.backfill.id])
            line.queued.discard(interval.start)
        if interval is None:
            return False
        key = (line.process.name, interval.start)
        if key not in self.operations.frozen and key not in self._writing:
            self._begin(line, interval, now)
        return True

    def _lane_turn(self, line: _Line, now: datetime) -> tuple[_Turn | None, Lane | None]:
        """When a line has its turn, and the lane that has it; None: those beside all lanes."""
        priority = line.process.task.priority
        if self.lanes.lanes:
            self._due(line, now)  # what has fallen due may belong to one of them
        waiting = self._waiting_lanes(line, now)
        oldest = self._first(line, now)
        best: _Turn | None = None if oldest is None else (-priority, oldest)
        of: Lane | None = None
        for lane, start in waiting:
            turn = (-priority, _FIRST) if self.lanes.is_eager(lane) else (LOWERED - priority, start)
            if best is None or turn < best:
                best, of = turn, lane
        return best, of

    def _waiting_lanes(self, line: _Line, now: datetime) -> list[tuple[Lane, datetime]]:
        """The lanes that have room for something of a line, and where the next of each begins."""
        lanes = self.lanes.lanes
        for key in list(line.aside):
            if not line.aside[key] or key not in lanes or lanes[key].backfill.over:
                # It is over: what is left of it goes with the others, or with another lane.
                for _, interval in line.aside.pop(key):
                    line.queued.discard(interval.start)
                    self.consider(line.process.name, interval, now)
        return [
            (lanes[key], waiting[0][1].start)
            for key, waiting in line.aside.items()
            if self.lanes.full(lanes[key], line.process.name) is None
        ]

    def _share_out(self, pool: str, now: datetime) -> None:
        """Give the free places of a pool to what is ready of its members: to the highest priority
        first, then to the oldest interval."""
        free = admission.free_places(self, pool)
        if free <= 0:
            return
        members = self.catalog.members[pool]
        turns = [
            (*turn, place)
            for place, name in enumerate(members)
            if (turn := self._turn(name, now)) is not None
        ]
        heapq.heapify(turns)
        while turns and free > 0:
            name = members[turns[0][2]]
            before = self.out(name)
            if name in self._lines:
                self._request_oldest(self._lines[name], now)
            else:
                self._serve(name, now)
            free -= self.out(name) - before
            following = self._turn(name, now)
            if following is None:
                heapq.heappop(turns)
            else:
                heapq.heapreplace(turns, (*following, turns[0][2]))

    def _turn(self, name: str, now: datetime) -> _Turn | None:
        """When the oldest that is ready of a pool's member has its turn among the others', the
        lowest first; None where nothing is ready or may go out."""
        if not self._admitted(name):
            return None
        line = self._lines.get(name)
        if line is not None:
            return self._lane_turn(line, now)[0]
        if name in self._firing:
            return None
        firing = self._due_firing(name, now)
        return (
            None if firing is None else (-self.catalog.freeruns[name].task.priority, firing.instant)
        )

    def _first(self, line: _Line, now: datetime) -> datetime | None:
        """Where the oldest interval begins that was woken or has fallen due."""
        due = self._due(line, now)
        starts = [line.ready[0][0]] if line.ready else []
        return min(starts if due is None else [*starts, due.start], default=None)

    def _oldest(self, line: _Line, now: datetime) -> Interval | None:
        """Take the oldest interval that was woken or has fallen due."""
        due = self._due(line, now)
        if line.ready and (due is None or line.ready[0][0] <= due.start):
            start, interval = heapq.heappop(line.ready)
            line.queued.discard(start)
            return interval
        if due is not None:
            line.due = line.within(line.process.calendar.next(due))
        return due

    def _due(self, line: _Line, now: datetime) -> Interval | None:
        """The next interval of the calendar that has fallen due and of which nothing is known."""
        if not line.behind:
            return None
        process, interval = line.process, line.due
        while interval is not None and process.due(interval) <= now:
            gap = self.timetable.ledgers[process.name].gap_from(interval.start)
            if gap != interval.start:
                line.due = interval = line.within(process.calendar.starting_at(gap))
            elif self._is_beside(process.name, interval):
                self.consider(process.name, interval, now)
                line.due = interval = line.within(process.calendar.next(interval))
            else:
                return interval
        line.behind = False
        if interval is not None:
            self._timer(process.due(interval), "due", process.name)
        return None

    def _begin(self, line: _Line, interval: Interval, now: datetime) -> None:
        process = line.process
        job = self.timetable.job(process.name, interval)
        if job is None or _has_unit(job):
            return
        verdict = self._judged(line, job, now)
        if isinstance(verdict, Hopeless):
            self.save(machines.skipped(process.machine, job, now, str(verdict)), job)
        elif verdict is not None:
            self._request(line, job, process.due(interval) <= now, now)
            if interval.start in line.out or interval.start in line.measuring:
                self.lanes.began(job)

    def _request(self, line: _Line, job: Job, final: bool, now: datetime) -> None:
        process = line.process
        generations: dict[str, int] = {}
        if final:
            generations, results = self.timetable.inputs_generations(process.name, job.interval)
            if job.state is JobState.EMBRYO:
                marked = self.timetable.built_on_marked(process.name, job.interval)
                kept = machines.kept(
                    process.machine, job, generations, results, now, outdated=marked
                )
                if kept is not None:
                    self.save(kept, job)
                    return
        if process.measured and (process.name, job.interval.start) not in self._bounds:
            self._measure(line, job.interval, now)
            return
        line.out.add(job.interval.start)
        self.save(
            machines.dispatched(process.machine, job, now, final=final, consuming=generations), job
        )

    def _finish(self, job: Job, unit: Unit, now: datetime) -> None:
        process = self.catalog.processes.get(job.process)
        machine = process.machine if process is not None else "freerun"
        on_failure = process.on_failure if process is not None else "hold"
        every = process.every if process is not None else None
        marked = process is not None and self.timetable.built_on_marked(job.process, job.interval)
        ended = machines.after_unit(machine, on_failure, job, unit, now, every, outdated=marked)
        self.save(ended, job)

    def save(self, job: Job, before: Job) -> None:
        """See `Desk`."""
        write = JobWrite(job, before.version)
        self._writing[job.process, job.interval.start] = write
        self._commands.append(SaveJob(write))

    def ask(self, command: Command) -> None:
        """See `Desk`."""
        self._commands.append(command)

    def look_at(self, name: str, when: datetime) -> None:
        """See `late.Desk`."""
        self._timer(when, "look", name)

    def is_written(self, key: Key) -> bool:
        """See `Desk`."""
        return key in self._writing

    # what is under way, for `admission`

    def switch(self, name: str) -> Switch | None:
        """See `admission.View`."""
        return self.switchboard.switches.get(name)

    def out(self, name: str) -> int:
        """See `admission.View`."""
        line = self._lines.get(name)
        return line.taken if line is not None else int(name in self._firing)

    def _stir_pool(self, name: str) -> None:
        pool = self.catalog.pool_of(name)
        if pool is not None:
            self._stirred_pools.add(pool)

    # switches

    def switch_over(self, request: Request, now: datetime) -> str:
        """See `operations.Desk`."""
        return self.switchboard.file(request, now)

    def switched(self, name: str, now: datetime) -> None:
        """See `switchboard.Desk`."""
        if not self._known(name):
            return
        if not self.switchboard.on(name):
            self._withdraw(name, now)
        elif name in self._lines:
            self._lines[name].behind = True
            self._stirred.add(name)
        else:
            self._fire(name, now)

    def _withdraw(self, name: str, now: datetime) -> None:
        """Take back the units that nobody has started of what was switched off."""
        mine = [(key, units) for key, units in self._units.items() if key[0] == name]
        for key, units in mine:
            job = self.timetable.active.get(key)
            unit = units.get(job.unit or "") if job is not None else None
            if job is not None and unit is not None and key not in self._writing:
                self._withdrawn(job, unit, now)

    def _withdrawn(self, job: Job, unit: Unit, now: datetime) -> bool:
        """Whether a job's unit is taken back: nobody has started it, and its process is off.

        Its job opens anew, so that the unit is superseded like any other (protocol D7); once for
        each switch, also where another scheduler has not heard of that yet and requests it again.
        """
        switch = self.switch(job.process)
        if switch is None or switch.on or unit.state is not UnitState.REQUESTED:
            return False
        if switch.requests[-1] in job.requests:
            return False
        if unit.provisional:
            self._cancel(unit, _OFF, now)
        elif job.process in self.catalog.freeruns:
            self.save(machines.skipped("freerun", job, now, _OFF), job)
        else:
            machine = self.catalog.processes[job.process].machine
            self.save(machines.withdrawn(machine, job, switch.requests[-1], now, _OFF), job)
        return True

    def _record(self, now: datetime) -> None:
        """Record some of what was missed as skipped: a batch at a time, the loop turns between."""
        left = RECORDED_AT_ONCE
        for name in self.switchboard.recordings:
            left -= self._record_some(name, left, now)
            if left <= 0:
                break

    def _record_some(self, name: str, most: int, now: datetime) -> int:
        """Record so many at most of a process; how many.  When it finds none, it is done."""
        process, switch = self.catalog.processes.get(name), self.switchboard.switches[name]
        recording = switch.recording
        if process is None or recording is None:
            return 0
        spared = None
        if recording.policy == "latest":
            spared = catch_up.newest(process, recording.until)
        reason = f"{NOT_CAUGHT_UP}: {recording.reason}"
        found = catch_up.missed(self.timetable, process, recording.until, self._recorded.get(name))
        number = 0
        for interval in islice(found, most):
            key = (name, interval.start)
            self._recorded[name] = interval.start
            if key in self._writing or key in self.operations.frozen:
                return max(number, 1)  # look at it again when that is over
            if interval != spared:
                job = self.timetable.job(name, interval)
                assert job is not None
                self.save(machines.skipped(process.machine, job, now, reason), job)
            number += 1
        if number < most:
            self._recorded.pop(name, None)
            self.switchboard.recorded(name)
        return number

    def _known(self, name: str) -> bool:
        return name in self.catalog.processes or name in self.catalog.freeruns

    # backfills

    def _is_beside(self, name: str, interval: Interval) -> bool:
        """Whether an interval of the calendar belongs to a backfill, and so goes its way."""
        if not self.lanes.lanes:
            return False
        job = self.timetable.active.get((name, interval.start))
        return job is not None and self.lanes.of(job) is not None

    def backfill(self, request: Request, plan: Request, now: datetime) -> str:
        """See `operations.Desk`."""
        return self.lanes.file(request, plan, now)

    def goes_on(self, backfill: str) -> bool:
        """See `operations.Desk`."""
        return self.lanes.goes_on(backfill)

    def carry(
        self,
        request: Request,
        places: list[plans.Place],
        targets: Iterable[Key],
        wanted: Callable[[Job], bool],
        then: Callable[[datetime], None],
        now: datetime,
    ) -> None:
        """See `lanes.Desk`."""
        self.operations.carry(request, places, targets, wanted, then, now)

    def release(self, job: Job, request: str, now: datetime) -> None:
        """See `lanes.Desk`."""
        self.operations.release(job, request, now)

    def stir_lanes(self) -> None:
        """See `lanes.Desk`."""
        self._stirred.update(name for name, line in self._lines.items() if line.aside)

    def _wake_consumers(self, now: datetime) -> None:
        """Consider those that the ended were in the way of: a parent only when its last child has
        ended."""
        parents: dict[Key, tuple[str, Interval]] = {}
        for name, interval in self._ended:
            if self.lanes.lanes:
                self.lanes.ended((name, interval), now)
            parent = self.catalog.parent(name, interval)
            if parent is not None:
                parents[parent[0], parent[1].start] = name, parent[1]
            for dependent, its, _ in self.catalog.dependents(name, interval):
                self.consider(dependent, its, now)
        for (above, _), (child, around) in parents.items():
            if self.timetable.all_ended(child, around):
                self.consider(above, around, now)
        self._ended.clear()

    # units

    def _unit(self, job: Key, unit_key: str | None) -> Unit | None:
        """A unit that has not ended."""
        out = self._units.get(job)
        return out.get(unit_key or "") if out else None

    def unit_out(self, job: Job) -> Unit | None:
        """The unit that a job waits for, as it is known; for those who only look."""
        return self._unit_of(job) if _has_unit(job) else None

    def _unit_of(self, job: Job) -> Unit | None:
        """The unit that a job waits for."""
        return self._unit((job.process, job.interval.start), job.unit)

    def _put_unit(self, job: Key, unit: Unit) -> None:
        out = self._units.get(job)
        if out is None:
            self._units[job] = {unit.key: unit}
        else:
            out[unit.key] = unit

    def _drop_unit(self, job: Key, unit: Unit) -> None:
        out = self._units.get(job)
        if out is not None and out.pop(unit.key, None) is not None and not out:
            del self._units[job]

    def _insert_unit(self, job: Job, now: datetime) -> None:
        process = self.catalog.processes.get(job.process)
        key = (job.process, job.interval.start)
        bounds = self._bounds.pop(key, None)
        if process is not None and process.measured and bounds is None:
            # Its scheduler died between dispatch and insert: no unit goes out unmeasured.
            self._measure(self._lines[process.name], job.interval, now)
            return
        task = (process or self.catalog.freeruns[job.process]).task
        if self.lanes.lowers(job):
            task = replace(task, priority=task.priority - LOWERED)
        unit = machines.unit_of(job, task, now, *(bounds or (None, None)))
        self._put_unit(key, unit)
        self._commands.append(SaveUnit(UnitWrite(unit, None)))
        if process is not None and process.measured and unit.provisional:
            self._measure_later(process, job.interval, now)

    def _cancel(self, unit: Unit, why: str, now: datetime) -> None:
        withdrawn = recovery.canceled(unit, now, why)
        self._commands.append(SaveUnit(UnitWrite(withdrawn, unit.fence)))
        self.operations.await_end(unit)

    def _cancel_orphans(self, units: Mapping[str, Unit], job: Job, now: datetime) -> None:
        """Withdraw those units of a job that it no longer waits for (protocol D7)."""
        current = job.unit if _has_unit(job) else None
        for key, unit in units.items():
            if key != current:
                self._cancel(unit, job.reason or "its job has moved on", now)

    def _drop_unstarted_provisional(self, job: Job, now: datetime) -> None:
        """The interval closed: a provisional unit that nobody started is not worth a wait."""
        unit = self._unit_of(job)
        if unit is not None and unit.provisional and unit.state is UnitState.REQUESTED:
            self._cancel(unit, "its interval has closed", now)

    def _watch(self, unit: Unit, now: datetime) -> None:
        """Look at its lease again when that ends, or at its wait where no right clock has set it.

        Where clocks differ, an end in the past is no reason to act at once, nor one in the far
        future to wait for it: a lease that stays as it is has run out (I15).
        """
        job = (unit.process, unit.interval.start)
        if unit.lease_until is not None:
            until = unit.lease_until
            if until <= now:
                until = now + recovery.LEASE
            elif until > now + recovery.LONGEST_LEASE:
                until = now + recovery.LONGEST_LEASE
            self._timer(until, "lease", job, unit.key, unit.lease_until)
        elif unit.not_before is not None and unit.not_before > now + 2 * recovery.LONGEST_WAIT:
            hurried = unit.moved(
                unit.state, now, "its wait was set by a wrong clock", not_before=None
            )
            self._commands.append(SaveUnit(UnitWrite(hurried, unit.fence)))

    def _lease_ran_out(self, job: Key, unit_key: str, lease_until: datetime, now: datetime) -> None:
        unit = self._unit(job, unit_key)
        if unit is not None and unit.lease_until == lease_until:
            lost = recovery.after_lost_lease(unit, now)
            self._commands.append(SaveUnit(UnitWrite(lost, unit.fence_with_lease)))

    # sources

    def _measure(self, line: _Line, interval: Interval, now: datetime) -> None:
        process = line.process
        key = (process.name, interval.start)
        if interval.start in line.measuring or process.task.source is None:
            return
        again = self._unmeasured.get(key)
        if again is not None and now < again <= now + MEASURE_AGAIN:
            self._timer(again, "consider", process.name, interval)
            return
        line.measuring[interval.start] = process.due(interval) <= now
        self._commands.append(MeasureSource(process.name, interval, process.task.source))

    def _measure_later(self, process: Process, interval: Interval, now: datetime) -> None:
        """A provisional unit that nobody starts is widened whenever another would be made."""
        following = process.every.next_after(now)
        if following is not None:
            self._timer(following, "consider", process.name, interval)

    def _source_measured(self, measured: SourceMeasured, now: datetime) -> None:
        name, interval = measured.process, measured.interval
        line = self._lines.get(name)
        key = (name, interval.start)
        if key in self._writing:
            self._later.setdefault(key, []).append(measured)
            return
        if line is None:
            return
        self._stirred.add(name)
        closed = line.measuring.pop(interval.start, None)
        job = self.timetable.job(name, interval)
        if job is not None:
            self.lanes.went_out(job, _has_unit(job))
        if job is None or closed is None:
            return
        if measured.error is not None:
            self._unmeasured[key] = now + MEASURE_AGAIN
            self._timer(now + MEASURE_AGAIN, "consider", name, interval)
            reason = f"{machines.UNMEASURED}: {measured.error}"
            if job.reason != reason:
                self.save(job.moved(job.state, now, reason), job)
            return
        self._unmeasured.pop(key, None)
        unit = self._unit_of(job)
        fresh = closed or line.process.due(interval) > now
        if _has_unit(job):
            if unit is None:
                self._bounds[key] = (measured.low, measured.high)
                self._insert_unit(job, now)
            elif unit.state is UnitState.REQUESTED and (fresh or unit.provisional):
                self._widen(unit, measured, now)
        elif admission.closed_by(name, self.switch(name)) is not None:
            self.consider(name, interval, now)  # it is measured again when it goes on
        elif key not in self.operations.frozen:
            # What was measured while the interval was open is not good enough for its final run.
            if fresh:
                self._bounds[key] = (measured.low, measured.high)
            self._begin(line, interval, now)
            if key not in self._writing:
                self._bounds.pop(key, None)

    def _widen(self, unit: Unit, measured: SourceMeasured, now: datetime) -> None:
        """An unstarted unit gets the new boundaries instead of a second one."""
        if (unit.low, unit.high) != (measured.low, measured.high):
            wider = replace(unit, low=measured.low, high=measured.high, version=unit.version + 1)
            self._commands.append(SaveUnit(UnitWrite(wider, unit.fence)))

    # time

    def _timer(self, when: datetime, *purpose: object) -> None:
        """One timer for each purpose: the earliest that was wished for."""
        set_for = self._timed.get(purpose)
        if set_for is None or when < set_for:
            self._timed[purpose] = when
            heapq.heappush(self._timers, (when, next(self._ticket), purpose))

    def _fire_timers(self, now: datetime) -> None:
        while self._timers and self._timers[0][0] <= now:
            when, _, purpose = heapq.heappop(self._timers)
            if self._timed.get(purpose) != when:
                continue
            del self._timed[purpose]
            match purpose:
                case "due", str(name):
                    self._lines[name].behind = True
                    self._stirred.add(name)
                case "open", str(name), datetime() as start:
                    self._open(name, start, now)
                case "consider", str(name), Interval() as interval:
                    self._again(name, interval, now)
                case "lease", (str(name), datetime() as start), str(key), datetime() as until:
                    self._lease_ran_out((name, start), key, until, now)
                case "fire", str(name):
                    self._fire(name, now)
                case "look", str(name):
                    self._looks.begin(name, now)

    def _again(self, name: str, interval: Interval, now: datetime) -> None:
        """A provisional run has its time: make it, or widen the one that nobody has started."""
        line = self._lines[name]
        job = self.timetable.job(name, interval)
        if line.process.measured and job is not None and _has_unit(job):
            unit = self._unit_of(job)
            if unit is None or unit.state is UnitState.REQUESTED:
                self._measure(line, interval, now)
            if unit is not None and unit.provisional:
                self._measure_later(line.process, interval, now)
        self.consider(name, interval, now)

    def _open(self, name: str, start: datetime, now: datetime) -> None:
        """Follow the calendar of a process that runs over its open intervals."""
        calendar = self.catalog.processes[name].calendar
        interval = calendar.containing(start)
        while interval.start <= now and self.catalog.exists(name, interval):
            self.consider(name, interval, now)
            interval = calendar.next(interval)
        if self.catalog.exists(name, interval):
            self._timer(interval.start, "open", name, interval.start)

    def _clock_set_back(self, now: datetime) -> None:
        """What was to happen later than now may be what has happened already: look anew.

        Nothing is done twice by that: firings and jobs have their keys (D11, I15).
        """
        for units in self._units.values():
            for unit in units.values():
                self._watch(unit, now)
        self._looks.plan(now)
        for name in self.catalog.freeruns:
            self._fired[name] = min(self._fired[name], now)
            self._fire(name, now)
        for name, process in self.catalog.processes.items():
            if process.open_ended:
                self._open(name, max(now - process.lag, self.catalog.spans[name][0]), now)

    # freeruns

    def _fire(self, name: str, now: datetime) -> None:
        """Serve what is due of a freerun, as soon as it may be; one firing at a time."""
        if not self.switchboard.on(name):
            return
        freerun = self.catalog.freeruns[name]
        if self._due_firing(name, now) is None:
            following = freerun.trigger.next_after(max(self._fired[name], freerun.start))
            if following is not None:
                self._timer(following, "fire", name)
        elif name not in self._firing and freerun.pool is not None:
            self._stirred_pools.add(freerun.pool)  # it has its turn among the others
        else:
            self._serve(name, now)

    def _due_firing(self, name: str, now: datetime) -> freeruns.Firing | None:
        freerun = self.catalog.freeruns[name]
        return freeruns.due_firing(freerun, max(self._fired[name], freerun.start), now)

    def _serve(self, name: str, now: datetime) -> None:
        """Start a run for the firing that is due, or record why there is none."""
        freerun = self.catalog.freeruns[name]
        firing = self._due_firing(name, now)
        assert firing is not None
        serving = freeruns.serve(freerun, firing, self._firing.get(name), now)
        job = embryo(name, freeruns.firing_interval(firing.instant))
        match serving:
            case freeruns.Queued():
                return  # its turn comes when that run has ended
            case freeruns.Omitted(reason):
                self.save(machines.skipped("freerun", job, now, reason), job)
            case freeruns.Served(reason):
                self._start_firing(job, reason, now)
        self._fired[name] = firing.instant
        following = freerun.trigger.next_after(firing.instant)
        if following is not None:
            self._timer(following, "fire", name)

    def _start_firing(self, job: Job, reason: str, now: datetime) -> None:
        self._firing[job.process] = job.interval.start
        begun = machines.dispatched("freerun", job, now, final=True, consuming={}, reason=reason)
        self.save(begun, job)

    # triggers

    def trigger(self, request: Request, targets: Iterable[plans.Place], now: datetime) -> str:
        """See `Desk`."""
        if request.process in self.catalog.freeruns:
            return self._trigger_freerun(request, now)
        return self._trigger_process(request, targets, now)

    def _trigger_freerun(self, request: Request, now: datetime) -> str:
        name = request.process
        busy = self._firing.get(name)
        job = embryo(name, freeruns.firing_interval(request.filed_at))
        if busy is None:
            obstacle = next(admission.obstacles(self, name), None)
            if obstacle is not None:
                return str(obstacle)
            self._start_firing(job, in_words(request), now)
        elif busy != request.filed_at:
            return f"the run of {freeruns.firing_interval(busy).label} is still at work"
        touched: list[Json] = [{"process": job.process, "interval": job.interval.label}]
        self.ask(answered(request, "done", {"touched": touched}, now))
        return ""

    def _trigger_process(
        self, request: Request, targets: Iterable[plans.Place], now: datetime
    ) -> str:
        """Run now what only waits for its time: a back-off, or the next provisional run."""
        closed = admission.closed_by(request.process, self.switch(request.process))
        if closed is not None:
            return str(closed)
        touched: list[Json] = []
        left: list[Json] = []
        for name, interval in targets:
            job = self.timetable.job(name, interval)
            unit = self._unit_of(job) if job is not None else None
            what = f"{name} {interval.label}"
            if (name, interval.start) in self._writing:
                left.append(f"{what} is just changing")
            elif job is None:
                left.append(f"{what} has ended; reprocess it to run it again")
            elif _has_unit(job) and unit is not None and unit.state is UnitState.REQUESTED:
                hurried = unit.moved(unit.state, now, unit.reason, not_before=None)
                self._commands.append(SaveUnit(UnitWrite(hurried, unit.fence)))
                touched.append({"process": name, "interval": interval.label})
            elif _has_unit(job):
                left.append(f"{what} is at work already")
            elif job.next_run is not None:
                self.save(job.moved(job.state, now, in_words(request), next_run=None), job)
                touched.append({"process": name, "interval": interval.label})
            else:
                final = self.catalog.processes[name].due(interval) <= now
                verdict = judge(self.timetable, job, now, final=final, limit=5)
                reasons: Iterable[object]
                if isinstance(verdict, Waiting):
                    reasons = verdict.for_
                else:
                    reasons = [*admission.obstacles(self, name)] or ("a free place",)
                left.append(f"{what} waits: " + "; ".join(map(str, reasons)))
        if not touched:
            return "; ".join(map(str, left))
        answer: dict[str, Json] = {"touched": touched}
        if left:
            answer["left"] = left
        self.ask(answered(request, "done", answer, now))
        return ""


#: Why units of what was switched off are taken back.
_OFF = "its process was switched off"


def _has_unit(job: Job) -> bool:
    """Whether it waits for a unit."""
    return job.unit is not None and job.state in AT_WORK


def _had_ended(job: Job) -> bool:
    """Whether its last transition left it where it was, ended."""
    return bool(job.transitions) and job.transitions[-1].before == job.state
