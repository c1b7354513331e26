"""Lanes: each backfill goes its own way, little by little, beside the live work.

First all that is built on its targets is held, a chunk at a time, who consumes before what is
consumed.  Then targets are opened in batches, each as soon as few of the last one are left; what
is built on them is held before, where something new has come to be built on them meanwhile.  A
consumer is released when nothing below it is left: no target to be opened, none that has not
ended, no other consumer that is held.  So it runs once.

All of it is told by the document of the backfill and by how the jobs stand, so it goes on after a
crash wherever it was; chunks and batches are carried out like requests, and change nothing the
second time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from synergy.core import plans
from synergy.core.admission import LaneFull, lane_full
from synergy.core.backfills import (
    CANCELED,
    DONE,
    HOLDING,
    RUNNING,
    Backfill,
    backfills_of,
    built_on,
    requested,
)
from synergy.core.catalog import Catalog, Input
from synergy.core.commands import Command, SaveDocument
from synergy.core.events import DocumentRefused, DocumentSaved
from synergy.core.intervals import Interval
from synergy.core.model import Documents, Job, Json, Request, Standing, Unit
from synergy.core.operations import answered
from synergy.core.plans import Key, Place
from synergy.core.states import TERMINAL, JobState
from synergy.core.switches import NOT_CAUGHT_UP
from synergy.core.timetable import Timetable

#: Places that are looked at in one turn of the loop, while what is built on targets is held.
CHUNK = 500
#: Targets that are opened at once, at least; the next ones when half of them have ended.
OPENED = 16
#: Slots that are counted with where neither workers nor programs tell.
SLOTS = 2
#: What may be done to a backfill that is there.
CHANGES = ("pause", "resume", "cancel")


class Desk(Protocol):
    """What lanes need of the engine."""

    catalog: Catalog
    timetable: Timetable

    def ask(self, command: Command) -> None:
        """Have the command carried out."""

    def carry(
        self,
        request: Request,
        places: list[Place],
        targets: Iterable[Key],
        wanted: Callable[[Job], bool],
        then: Callable[[datetime], None],
        now: datetime,
    ) -> None:
        """Have these held but for the targets, then of the targets reopened what is wanted, then
        go on."""

    def release(self, job: Job, request: str, now: datetime) -> None:
        """Take a hold off, unless the job is just being written."""

    def stir_lanes(self) -> None:
        """Units of lanes may go out that could not before."""


@dataclass(slots=True)
class Lane:
    """A backfill that goes on, or whose holds are still to be released."""

    #: As it stands in the store.
    backfill: Backfill
    #: What is being written in its place, and the request that wants it so, where one does.
    writing: Backfill | None = None
    request: Request | None = None
    #: Requests that wait for that.
    filed: list[Request] = field(default_factory=list)
    #: Whether a chunk or a batch is being carried out.
    busy: bool = False
    #: What is still to be held; None before that is begun, or after its end.
    walk: Iterator[Place] | None = None
    #: Up to this front all is opened for certain.
    opened: int | None = None
    #: Targets that are opened and have not ended.
    open: set[Key] = field(default_factory=set)
    #: Consumers that it holds, in the order in which they were: what is done with all of them is
    #: done alike in every process.
    held: dict[Key, None] = field(default_factory=dict)
    #: Jobs below which nothing is left, and all processes that build on its own.
    clear: set[Key] = field(default_factory=set)
    above: frozenset[str] | None = None
    #: Those whose unit is out, or whose source is being measured; and those among them whose unit
    #: has the priority of its process.
    out: set[Key] = field(default_factory=set)
    eager: set[Key] = field(default_factory=set)

    @property
    def open_ahead(self) -> int:
        """How many targets of it are opened at once."""
        return max(OPENED, 4 * len(self.out))


class Lanes:
    """All backfills that are not over."""

    def __init__(self, desk: Desk) -> None:
        self.lanes: dict[str, Lane] = {}
        #: Those that are over, and hold nothing, for all we know.
        self._over: set[str] = set()
        #: Those whose process is not registered: they hold what they held, and go on when it is.
        self._asleep: dict[str, Backfill] = {}
        self._desk = desk
        #: Slots of the workers that take a process, as far as they have told.
        self._slots: Mapping[str, int] = {}

    # what is asked of them

    def of(self, job: Job) -> Lane | None:
        """The lane that a job goes by: it was opened or held for it last."""
        lane = self.lanes.get(job.requests[-1]) if job.requests else None
        return None if lane is None or lane.backfill.over else lane

    def full(self, lane: Lane, name: str) -> LaneFull | None:
        """Why no unit more of a process goes out for it; None where one may."""
        out = [process for process, _ in lane.out]
        return lane_full(self._desk.catalog, lane.backfill, self._slots_for(lane), out, name)

    def is_eager(self, lane: Lane) -> bool:
        """Whether the next unit of it has the priority of its process."""
        return len(lane.eager) < lane.backfill.least_out(self._slots_for(lane))

    def lowers(self, job: Job) -> bool:
        """Whether the unit of a job goes behind all others."""
        lane = self.of(job)
        return lane is not None and (job.process, job.interval.start) not in lane.eager

    def _slots_for(self, lane: Lane) -> int:
        name = lane.backfill.process
        return slots_for(self._desk.catalog, name, self._slots.get(name, 0))

    @property
    def hurrying(self) -> bool:
        """Whether one wants to go on in the next turn of the loop."""
        return any(
            lane.backfill.state == HOLDING
            and not (lane.busy or lane.writing or lane.backfill.paused)
            for lane in self.lanes.values()
        )

    # documents and requests

    def load(self, documents: Documents) -> None:
        """Take over what is stored, at the beginning; the timetable stands already."""
        for backfill in backfills_of(documents).values():
            self._meet(backfill)

    def read(self, documents: Documents, now: datetime) -> None:
        """Take over what another scheduler has written."""
        for key, backfill in backfills_of(documents).items():
            lane = self.lanes.get(key)
            if lane is None:
                self._meet(backfill)
            elif lane.backfill.version < backfill.version:
                self._take_over(lane, backfill, now)

    def knows(self, documents: Documents) -> bool:
        """Whether none of these is newer than what is known."""
        return all(
            known.version >= version
            if (known := self._known(key)) is not None
            else key in self._over
            for key, (version, _) in documents.items()
        )

    def _known(self, key: str) -> Backfill | None:
        """How one stands that is not over."""
        lane = self.lanes.get(key)
        return self._asleep.get(key) if lane is None else lane.backfill

    def slots_seen(self, slots: Mapping[str, int]) -> None:
        """How many slots of workers that are heard of take each process."""
        if slots != self._slots:
            self._slots = dict(slots)
            self._desk.stir_lanes()

    @property
    def holding(self) -> set[str]:
        """All that may hold something."""
        return {*self.lanes, *self._asleep}

    def goes_on(self, key: str) -> bool:
        """Whether there is such a backfill, and it is not over."""
        known = self._known(key)
        return known is not None and not known.over

    def file(self, request: Request, plan: Request, now: datetime) -> str:
        """Begin or change a backfill; why it cannot be, if so.

        `plan` is what it applies or withdraws, and has taken; else the request itself.
        """
        change = _change(request)
        if change is None:
            return self._file_new(request, replace(plan, filed_at=request.filed_at), now)
        key = _about(request)
        lane = self.lanes.get(key)
        if change not in CHANGES:
            return f"change {change!r} is none of {', '.join(CHANGES)}"
        if key in self._asleep:
            if change != "cancel":
                return f"no process {self._asleep[key].process} is registered"
            lane = self._begin(self._asleep.pop(key))
        if lane is not None and lane.writing is not None:
            lane.filed.append(request)
        elif lane is not None and (not lane.backfill.over or request.id in lane.backfill.requests):
            self._obey(lane, request, now)
        elif request.of:
            self._answer(request, now)  # it has ended since the plan was taken
        else:
            return f"no backfill {key} goes on"
        return ""

    def _file_new(self, request: Request, plan: Request, now: datetime) -> str:
        if self._known(plan.id) is not None:
            self._answer(request, now)
            return ""
        made = requested(self._desk.catalog, plan)
        if isinstance(made, str):
            return made
        lane = self.lanes[plan.id] = Lane(made)
        self._write(lane, made, request)
        return ""

    def _obey(self, lane: Lane, request: Request, now: datetime) -> None:
        backfill = lane.backfill
        if request.id in backfill.requests:
            self._answer(request, now)
            return
        match _change(request):
            case "pause":
                changed = backfill.obeying(request.id, paused=True)
            case "resume":
                changed = backfill.obeying(request.id, paused=False)
            case _:
                changed = backfill.obeying(request.id, state=CANCELED, ended_at=now)
        self._write(lane, changed, request)

    def _write(self, lane: Lane, backfill: Backfill, request: Request | None = None) -> None:
        lane.writing, lane.request = backfill, request
        content = backfill.content()
        self._desk.ask(SaveDocument("backfills", backfill.id, content, backfill.version))

    def saved(self, event: DocumentSaved, now: datetime) -> None:
        """The store took the write."""
        lane = self.lanes[event.key]
        written, request = lane.writing, lane.request
        assert written is not None
        lane.writing = lane.request = None
        lane.backfill = replace(written, version=event.version)
        if request is not None:
            self._answer(request, now)
        self._follow(lane, now)

    def refused(self, event: DocumentRefused, now: datetime) -> None:
        """Another scheduler has written it."""
        lane = self.lanes[event.key]
        request, lane.writing, lane.request = lane.request, None, None
        if event.current is None:
            del self.lanes[event.key]
            return
        self._take_over(lane, Backfill.of_content(event.key, *event.current), now)
        if request is not None and _change(request) is None:
            self._answer(request, now)
        elif request is not None:
            lane.filed.insert(0, request)
            self._next(lane, now)

    def _meet(self, backfill: Backfill) -> None:
        """Come to know one that has no lane."""
        self._asleep.pop(backfill.id, None)
        if backfill.over:
            self._over.add(backfill.id)
        elif backfill.process not in self._desk.catalog.processes:
            self._asleep[backfill.id] = backfill
        else:
            self._begin(backfill)

    def _begin(self, backfill: Backfill) -> Lane:
        lane = self.lanes[backfill.id] = Lane(backfill, opened=backfill.behind)
        for key, job in self._desk.timetable.active.items():
            if backfill.id in job.holds:
                lane.held[key] = None
            if self._is_open(lane, key):
                lane.open.add(key)
            if job.unit and job.state.at_work and self.of(job) is lane:
                lane.out.add(key)
        return lane

    def _take_over(self, lane: Lane, backfill: Backfill, now: datetime) -> None:
        """How it stands by another's hand: what that one may have left is looked at again."""
        lane.backfill, lane.opened, lane.walk = backfill, backfill.behind, None
        lane.clear.clear()
        for key in self._desk.timetable.active:
            if self._is_open(lane, key):
                lane.open.add(key)
        self._follow(lane, now)

    def _is_open(self, lane: Lane, key: Key) -> bool:
        """Whether an active job is a target that was opened, or found open, and has not ended."""
        name, start = key
        backfill = lane.backfill
        return name == backfill.process and backfill.has(start) and backfill.is_passed(start)

    def _follow(self, lane: Lane, now: datetime) -> None:
        """What follows from how it stands now."""
        self._desk.stir_lanes()
        if lane.backfill.over:
            for key in list(lane.held):
                self._try_release(lane, key, now)
        self._next(lane, now)

    def _next(self, lane: Lane, now: datetime) -> None:
        while lane.filed and lane.writing is None:
            request = lane.filed.pop(0)
            if not lane.backfill.over or request.id in lane.backfill.requests:
                self._obey(lane, request, now)
            elif request.of:
                self._answer(request, now)
            else:
                why = f"backfill {lane.backfill.id} is {lane.backfill.state}"
                self._desk.ask(answered(request, "refused", {"why": why}, now))

    def _answer(self, request: Request, now: datetime) -> None:
        answer: dict[str, Json] = {"touched": [], "backfill": _about(request)}
        self._desk.ask(answered(request, "done", answer, now))

    # how it goes on

    def hold_on(self, now: datetime) -> None:
        """Hold some more of what is built on the targets: a chunk in each turn of the loop."""
        for lane in self.lanes.values():
            backfill = lane.backfill
            if backfill.state != HOLDING or lane.busy or lane.writing or backfill.paused:
                continue
            if lane.walk is None:
                lane.walk = self._consumers(lane, backfill.ahead(self._calendar(lane), None), now)
            places = [*islice(lane.walk, CHUNK)]
            if places:
                held = [place for place in places if not self._is_target(lane, place)]
                self._carry(lane, held, (), lambda now: None, now)
            else:
                lane.walk = None
                self._write(lane, replace(backfill, state=RUNNING, began_at=now))

    def go_on(self, now: datetime) -> None:
        """Open what there is room for; end what is done."""
        for lane in list(self.lanes.values()):
            if not (lane.writing or lane.busy):
                self._go_on(lane, now)

    def _go_on(self, lane: Lane, now: datetime) -> None:
        backfill = lane.backfill
        if backfill.state == RUNNING and backfill.front != lane.opened:
            self._open(lane, now)
            if lane.busy:
                return
        if backfill.over:
            if not lane.held:
                del self.lanes[backfill.id]
                self._over.add(backfill.id)
        elif backfill.state == RUNNING and backfill.exhausted:
            if not (lane.open or lane.held):
                self._write(lane, replace(backfill, state=DONE, ended_at=now))
        elif backfill.state == RUNNING and not backfill.paused:
            if 2 * len(lane.open) <= lane.open_ahead:
                self._write(lane, backfill.advanced(self._calendar(lane), lane.open_ahead))

    def _open(self, lane: Lane, now: datetime) -> None:
        """Open the last batch, which may not be opened yet."""
        name, front = lane.backfill.process, lane.backfill.front
        batch = lane.backfill.batch(self._calendar(lane))
        places = [*self._consumers(lane, batch, now)]

        def done(now: datetime) -> None:
            lane.opened = front
            active = self._desk.timetable.active
            for interval in batch:
                job = active.get((name, interval.start))
                if job is not None and job.state not in TERMINAL:
                    lane.open.add((name, interval.start))
            for key in list(lane.held):
                self._try_release(lane, key, now)

        self._carry(lane, places, {(name, interval.start) for interval in batch}, done, now)

    def _consumers(self, lane: Lane, targets: Iterable[Interval], now: datetime) -> Iterator[Place]:
        """Targets, and what is built on them and not held yet, who consumes first."""
        catalog, timetable = self._desk.catalog, self._desk.timetable

        def following(place: Place) -> Iterator[Place]:
            if timetable.begun(*place, now):
                for name, interval in catalog.consumers(*place):
                    if (name, interval.start) not in lane.held:
                        yield name, interval

        name = lane.backfill.process
        return plans.followers_first(((name, interval) for interval in targets), following)

    def _carry(
        self,
        lane: Lane,
        places: list[Place],
        targets: Iterable[Key],
        then: Callable[[datetime], None],
        now: datetime,
    ) -> None:
        if not places:
            then(now)
            return
        lane.busy = True

        def done(now: datetime) -> None:
            lane.busy = False
            then(now)

        def wanted(job: Job) -> bool:
            return lane.backfill.force or bool(needs_run(job.standing, job.reason))

        self._desk.carry(lane.backfill.as_request(), places, targets, wanted, done, now)

    # how jobs stand

    def settled(self, job: Job, now: datetime) -> None:
        """A job stands so in the store now."""
        key = (job.process, job.interval.start)
        for hold in self._over.intersection(job.holds):
            # By another scheduler, which has not heard yet that it is over.
            self._desk.release(job, hold, now)
        for lane in self.lanes.values():
            if lane.backfill.id in job.holds:
                lane.held[key] = None
                self._try_release(lane, key, now)
            elif key in lane.held:
                lane.held.pop(key, None)
                self._look_above(lane, (job.process, job.interval), now)

    def ended(self, place: Place, now: datetime) -> None:
        """A job has ended."""
        key = (place[0], place[1].start)
        for lane in self.lanes.values():
            if key in lane.open:
                lane.open.discard(key)
                self._look_above(lane, place, now)

    def went_out(self, job: Job, out: bool) -> None:
        """Its unit is out or being prepared, or no longer."""
        key = (job.process, job.interval.start)
        mine = self.of(job) if out else None
        for lane in self.lanes.values():
            if lane is mine:
                lane.out.add(key)
            elif key in lane.out and not out:
                lane.out.discard(key)
                lane.eager.discard(key)
                self._desk.stir_lanes()

    def began(self, job: Job) -> None:
        """Its unit goes out, or its source is measured for that."""
        lane = self.of(job)
        if lane is not None:
            key = (job.process, job.interval.start)
            if key not in lane.out and self.is_eager(lane):
                lane.eager.add(key)
            lane.out.add(key)

    def found(self, unit: Unit) -> None:
        """A unit is out since before, with the priority of its process or with a lowered one."""
        key = (unit.process, unit.interval.start)
        eager = unit.task.priority == self._desk.catalog.processes[unit.process].task.priority
        for lane in self.lanes.values():
            if key in lane.out and eager:
                lane.eager.add(key)

    def _look_above(self, lane: Lane, place: Place, now: datetime) -> None:
        """Look at what is held next above a job, also where something between is not held."""
        todo, seen = [place], set[Key]()
        while todo and lane.held:
            for name, interval in self._desk.catalog.consumers(*todo.pop()):
                key = (name, interval.start)
                if key in seen:
                    continue
                seen.add(key)
                if key in lane.held:
                    self._try_release(lane, key, now)
                elif self._desk.timetable.begun(name, interval, now):
                    todo.append((name, interval))

    def _try_release(self, lane: Lane, key: Key, now: datetime) -> None:
        """Release what is held, if nothing is left below it; it is looked at again when it is
        written."""
        job = self._desk.timetable.active.get(key)
        if job is None or lane.backfill.id not in job.holds:
            lane.held.pop(key, None)
        elif lane.backfill.over or self._is_clear(lane, job):
            self._desk.release(job, lane.backfill.id, now)

    def _is_clear(self, lane: Lane, job: Job) -> bool:
        """Whether no target below a held job is left to be opened or is open, and nothing else
        below it is held; what is not held yet, as another scheduler is at it, counts as well."""
        if lane.backfill.state == HOLDING:
            return False
        todo: list[Place] = [(job.process, job.interval)]
        seen: set[Key] = set()
        while todo:
            for given in self._desk.catalog.inputs(*todo.pop()):
                if self._is_left(lane, given):
                    return False
                for name, interval in self._between(lane, given):
                    if (name, interval.start) not in seen:
                        seen.add((name, interval.start))
                        todo.append((name, interval))
        lane.clear |= seen
        return True

    def _is_left(self, lane: Lane, given: Input) -> bool:
        """Whether there are targets to be opened, open ones or held jobs among some inputs."""
        start, end = given.start, given.end
        if given.process != lane.backfill.process:
            held = (begin for name, begin in lane.held if name == given.process)
            return any(start <= begin < end for begin in held)
        left = lane.backfill.left_within(start, end, lane.opened)
        return left or any(start <= begin < end for _, begin in lane.open)

    def _between(self, lane: Lane, given: Input) -> Iterator[Place]:
        """Those of some inputs that may build on targets, and of which nothing is known yet.

        What ends before the first target builds on none: dependencies look back only.
        """
        first = lane.backfill.bounds[0]
        if given.process in self._above(lane):
            for interval in self._desk.catalog.intervals_of(given):
                known = (given.process, interval.start) in lane.clear
                if not known and interval.end.timestamp() > first:
                    yield given.process, interval

    def _above(self, lane: Lane) -> frozenset[str]:
        if lane.above is None:
            lane.above = built_on(self._desk.catalog, lane.backfill.process)
        return lane.above

    def _calendar(self, lane: Lane) -> Any:
        return self._desk.catalog.processes[lane.backfill.process].calendar

    def _is_target(self, lane: Lane, place: Place) -> bool:
        return place[0] == lane.backfill.process and lane.backfill.has(place[1].start)


def _change(request: Request) -> object:
    """What a request wants of a backfill that is there; None where it begins one."""
    return "cancel" if request.action == "withdraw" else request.options.get("change")


def _about(request: Request) -> str:
    """The id of the backfill that a request begins or changes."""
    return request.of or str(request.options.get("id", request.id))


def needs_run(standing: Standing, reason: str) -> str:
    """What an interval that has ended so needs a run for, in words; empty where it needs none: its
    result stands, or somebody has skipped it."""
    match standing.state:
        case JobState.FAILED:
            return "failed"
        case JobState.SKIPPED:
            return "not caught up" if reason.startswith(NOT_CAUGHT_UP) else ""
        case _:
            return "marked stale" if standing.outdated else ""


def slots_for(catalog: Catalog, name: str, told: int) -> int:
    """How many slots a backfill of a process counts with: what workers have told, else what the
    programs of the context have."""
    if told:
        return told
    programs = catalog.programs.values()
    return sum(each.slots for each in programs if each.works_on(name)) or SLOTS
