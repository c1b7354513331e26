"""Plays a timetable on a virtual clock: the real scheduler and store, and workers that are played.

Time jumps from one thing that happens to the next: an attempt ends, a back-off is over, a request
is filed, the scheduler wants to be woken.  All that happens at one instant is given to the store
together, then the scheduler does what follows, then free workers claim what is there.  That they
have, the scheduler learns when it is woken next: nothing follows from it before.

A play begins with an empty store, or with one in which something stands already: what is at work
there then goes on.

A played worker is a perfect one: it claims the moment that it can, is never slowed down, and its
renewals always arrive.  Nothing else depends on the machine that plays, on chance or on the order
of a set: the same play gives the same transitions, in the same order.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

from synergy.core import admission
from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.model import (
    Applied,
    Claim,
    FeedEntry,
    Job,
    Json,
    Renewal,
    Request,
    Unit,
    UnitWrite,
)
from synergy.core.readiness import Waiting, judge
from synergy.core.recovery import LEASE, LONGEST_LEASE, RENEWAL
from synergy.core.states import JobState, UnitState
from synergy.scheduler.loop import Scheduler, Setting
from synergy.scheduler.sources import SourcesAtOnce
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.testing.clock import VirtualClock
from synergy.testing.invariants import CheckedStore, Violation
from synergy.worker.outcomes import Outcome, Verdict, failed, limit_reason, unit_after

#: Units claimed, documents folded and feed entries read in one go.
BATCH = 2000
#: How an attempt ends of which nothing else is said.
PROCESSED = Outcome(Verdict.PROCESSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How long an attempt runs from its start, and how it ends then."""

    duration: timedelta
    #: None: its worker vanishes and reports nothing.
    outcome: Outcome | None = PROCESSED


#: Says of an attempt that starts, or is at work when the play begins, how it will end.
Plot = Callable[[Unit], Ending]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Workers that take the same units."""

    #: So many units at once; None for as many as there are.
    slots: int | None = None
    #: Only these processes; None for all.
    processes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What there was in all."""

    #: How many jobs stand how, in the order of `JobState`: all whose interval has begun.
    jobs: Mapping[str, int]
    units: int
    attempts: int
    violations: int


@dataclass(frozen=True, slots=True)
class Held:
    """A job that was due and is not over, and why: empty where it was just about to go on."""

    job: Job
    because: str


@dataclass(slots=True)
class _Attempt:
    """A unit at work in a crew's slot."""

    unit: Unit
    crew: int
    ends: datetime
    outcome: Outcome | None
    #: When its lease runs out in the end.
    leased: datetime


@dataclass(slots=True)
class _Renewing:
    """An attempt lasts longer than a lease may."""

    attempt: _Attempt


class _Bell(MemoryBell):
    """Remembers that the workers were rung for."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = False

    def ring(self, role: str) -> None:
        """Nobody sleeps here who would have to be woken."""
        self.rung |= role == "worker"


class Play:
    """One play, from an instant until another; see `run`.

    Without a store that is given, every write is checked against the promise as it is applied
    (`invariants`).
    """

    def __init__(
        self,
        catalog: Catalog,
        begin: datetime,
        until: datetime,
        plot: Plot,
        *,
        requests: Iterable[Request] = (),
        crews: Sequence[Crew] = (Crew(),),
        store: MemoryStore | None = None,
    ) -> None:
        self.catalog = catalog
        self.until = until
        self.store = CheckedStore(catalog) if store is None else store
        self.clock = VirtualClock(begin)
        self._plot = plot
        self._crews = crews
        self._free = [crew.slots for crew in crews]
        #: Rung by the scheduler for new units, and by ourselves for those that had to wait.
        self._bell = _Bell()
        #: Whether the last claim left units behind for want of slots, so far as is known.
        self._full = False
        #: Whether an attempt was begun that outlasts its first lease.
        self._long = False
        self._order = count()
        #: What is going to happen: an attempt ends, a crew's slot is free again, a request is
        #: filed, or nothing but that somebody must look.
        self._coming: list[tuple[datetime, int, _Attempt | _Renewing | int | Request | None]] = []
        self._running: dict[str, _Attempt] = {}
        self._position = 0
        self._states: dict[str, str] = {}
        self._units: set[str] = set()
        self._attempts = 0
        self._requests = tuple(requests)
        for request in self._requests:
            self._comes(request.filed_at, request)
        self.scheduler = Scheduler(
            Setting(
                store=self.store,
                bell=self._bell,
                clock=self.clock,
                catalog=catalog,
                owner="play",
                sources=SourcesAtOnce(self._measured),
            )
        )

    def run(self) -> Iterator[Sequence[FeedEntry]]:
        """Play it; the transitions of jobs and units, in order, in batches as they come."""
        self._take_over(self.clock.now())
        self.scheduler.load()
        self._bell.rung = True
        yield from self._turn(self.clock.now())
        while (now := self._next()) is not None and now <= self.until:
            self.clock.set(now)
            self._happen(now)
            yield from self._turn(now)
        self.clock.set(self.until)
        self._settle(self.until)
        yield from self._news(self.until)

    def summary(self) -> Summary:
        """What there was so far."""
        counted = Counter(self._states.values())
        unwritten = sum(job.version == 0 for job in self._unfinished())
        counted[JobState.EMBRYO.value] += unwritten
        return Summary(
            jobs={state.value: counted[state.value] for state in JobState if counted[state.value]},
            units=len(self._units.union(unit.key for unit in self.store.active_units())),
            attempts=self._attempts,
            violations=len(self.violations),
        )

    @property
    def violations(self) -> Sequence[Violation]:
        """What was found to break the promise; nothing where the store does not look."""
        return self.store.violations if isinstance(self.store, CheckedStore) else ()

    def answers(self) -> list[Request]:
        """The requests that were filed so far, as answered."""
        found = (self.store.read_request(request.id) for request in self._requests)
        return [request for request in found if request is not None]

    def held(self) -> Iterator[Held]:
        """The jobs that are due by now and not over, oldest first in each process."""
        timetable = self.scheduler.engine.timetable
        now = self.clock.now()
        for job in self._unfinished():
            if self.catalog.processes[job.process].due(job.interval) > now:
                continue
            unit = self.store.read_units([job.unit or ""]).get(job.unit or "")
            if unit is not None and job.state.at_work:
                why = f": {unit.reason}" if unit.reason else ""
                yield Held(job, f"attempt {unit.attempt} is {unit.state.value}{why}")
                continue
            verdict = judge(timetable, job, now, final=True)
            if isinstance(verdict, Waiting):
                yield Held(job, str(verdict.for_[0]))
                continue
            obstacle = next(admission.obstacles(self.scheduler.engine, job.process), None)
            yield Held(job, "" if obstacle is None else str(obstacle))

    # time

    def _next(self) -> datetime | None:
        """When something happens next; never before now."""
        wake = self.scheduler.wake_at()
        if self._coming and (wake is None or self._coming[0][0] < wake):
            wake = self._coming[0][0]
        return None if wake is None else max(wake, self.clock.now())

    def _comes(self, when: datetime, what: _Attempt | _Renewing | int | Request | None) -> None:
        heapq.heappush(self._coming, (when, next(self._order), what))

    def _happen(self, now: datetime) -> None:
        """Everything that comes at this instant."""
        ended: list[_Attempt] = []
        while self._coming and self._coming[0][0] <= now:
            match heapq.heappop(self._coming)[2]:
                case _Attempt() as attempt:
                    if self._running.get(attempt.unit.key) is attempt:
                        ended.append(attempt)
                case Request() as request:
                    self.store.file_request(request)
                case int(crew):
                    self._release(crew)
                case _Renewing(attempt):
                    self._renew(attempt, now)
                case None:
                    self._bell.rung = True
        if ended:
            self._report(ended, now)

    def _turn(self, now: datetime) -> Iterator[Sequence[FeedEntry]]:
        """Let the scheduler and the workers do all that they can at this instant."""
        self._settle(now)
        if self._bell.rung:
            self._bell.rung = False
            self._claim(now)
            if self._long:
                self._settle(now)  # it must watch leases from their beginning
                self._long = False
        return self._news(now)

    def _news(self, now: datetime) -> Iterator[Sequence[FeedEntry]]:
        """What the feed has that was not told yet."""
        while entries := self.store.feed(self._position, BATCH):
            self._position = entries[-1].seq
            self._note(entries, now)
            yield entries

    def _settle(self, now: datetime) -> None:
        scheduler = self.scheduler
        while scheduler.once() or ((wake := scheduler.wake_at()) and wake <= now):
            pass

    # workers

    def _take_over(self, now: datetime) -> None:
        """What stands in the store when the play begins: attempts at work go on, in slots that
        may take them, and nobody forgets what waits for its time."""
        for unit in self.store.active_units():
            if unit.state is UnitState.REQUESTED and unit.not_before is not None:
                self._comes(max(unit.not_before, now), None)
            elif unit.state is UnitState.IN_PROGRESS and _is_held(unit, now):
                crew = self._crew_of(unit.process)
                free = self._free[crew]
                if free is not None:
                    self._free[crew] = free - 1  # below zero where there are fewer than there were
                self._start(unit, crew, now)

    def _crew_of(self, process: str) -> int:
        """One that takes these units, with a free slot where there is one."""
        able = [
            number
            for number, crew in enumerate(self._crews)
            if crew.processes is None or process in crew.processes
        ]
        free = (n for n in able if (slots := self._free[n]) is None or slots > 0)
        return next(free, able[0] if able else 0)

    def _claim(self, now: datetime) -> None:
        """Start what free workers can have."""
        self._full = False
        for number, crew in enumerate(self._crews):
            while (free := self._free[number]) is None or free > 0:
                claim = Claim(
                    owner=f"worker-{number + 1}",
                    now=now,
                    lease_until=now + LEASE,
                    limit=BATCH if free is None else min(free, BATCH),
                    processes=crew.processes,
                )
                units = self.store.claim(claim)
                if free is not None:
                    self._free[number] = free - len(units)
                for unit in units:
                    self._start(unit, number, now)
                if len(units) < claim.limit:
                    break
            else:
                self._full = True

    def _start(self, unit: Unit, crew: int, now: datetime) -> None:
        """Begin an attempt."""
        self._attempts += 1
        ending = self._plot(unit)
        limit = unit.task.time_limit
        if limit is not None and ending.duration > limit:
            ending = Ending(duration=limit, outcome=failed(limit_reason(limit)))
        ends = max((unit.started_at or now) + ending.duration, now)
        renewed = now + max(-((now - ends) // RENEWAL) - 1, 0) * RENEWAL
        attempt = _Attempt(unit, crew, ends, ending.outcome, renewed + LEASE)
        self._running[unit.key] = attempt
        if ending.outcome is None:
            # Whoever replaces the worker comes when it is missed.
            attempt.ends = attempt.leased
        self._comes(attempt.ends, attempt)
        self._long |= attempt.ends >= now + LEASE
        before = unit.started_at is not None and unit.started_at < now
        if before or (attempt.ends >= now + LEASE and renewed > now):
            self._renew(attempt, now)

    def _renew(self, attempt: _Attempt, now: datetime) -> None:
        """All renewals of the time to come in one, as far as a lease may reach.

        That a worker renews every few seconds shows only in when the lease runs out in the end.
        """
        unit, until = attempt.unit, min(attempt.leased, now + LONGEST_LEASE)
        if self._running.get(unit.key) is attempt and unit.owner is not None:
            self.store.renew(
                [Renewal(key=unit.key, attempt=unit.attempt, owner=unit.owner, lease_until=until)]
            )
            if until < attempt.leased:
                self._comes(until - LEASE, _Renewing(attempt))

    def _report(self, ended: Iterable[_Attempt], now: datetime) -> None:
        writes = []
        for attempt in ended:
            del self._running[attempt.unit.key]
            self._release(attempt.crew)
            if attempt.outcome is not None:
                after = unit_after(attempt.unit, attempt.outcome, now)
                writes.append(UnitWrite(after, attempt.unit.fence))
        if not writes:
            return
        for write, answer in zip(writes, self.store.save_units(writes), strict=True):
            if isinstance(answer, Applied) and write.unit.not_before is not None:
                if not write.unit.state.terminal:
                    self._comes(write.unit.not_before, None)

    def _release(self, crew: int) -> None:
        free = self._free[crew]
        if free is not None:
            self._free[crew] = free + 1
            self._bell.rung |= self._full

    def _note(self, entries: Iterable[FeedEntry], now: datetime) -> None:
        """Count what happened; a worker whose unit was withdrawn learns it at its next renewal."""
        for entry in entries:
            transition = entry.transition
            if entry.kind == "job":
                self._states[entry.key] = transition.after
                continue
            self._units.add(entry.key)
            if transition.after == UnitState.CANCELED.value:
                attempt = self._running.pop(entry.key, None)
                if attempt is not None:
                    begun = attempt.unit.started_at or now
                    told = begun + -((begun - now) // RENEWAL) * RENEWAL
                    self._comes(min(told, attempt.ends), attempt.crew)

    # sources

    def _measured(self, source: str, interval: Interval) -> tuple[Json, Json]:
        """What a source has: as much of the interval as has passed."""
        passed = min(interval.end, max(interval.start, self.clock.now()))
        return interval.start.isoformat(), passed.isoformat()

    # the timetable

    def _unfinished(self) -> Iterator[Job]:
        """The jobs of the trees whose interval has begun by now and that are not over."""
        timetable, now = self.scheduler.engine.timetable, self.clock.now()
        for name, process in self.catalog.processes.items():
            ledger = timetable.ledgers[name]
            start, end = self.catalog.spans[name]
            end = now if end is None else min(now, end)
            while start < end:
                following = ledger.end_of_run(start)
                if ledger.at(start) is None:
                    interval = process.calendar.starting_at(start)
                    job = timetable.job(name, interval)
                    assert job is not None
                    yield job
                    following = interval.end
                assert following is not None, "a ledger ends with a gap"
                start = following


def _is_held(unit: Unit, now: datetime) -> bool:
    """Whether its worker is still there, for all that is known."""
    return unit.owner is not None and unit.lease_until is not None and unit.lease_until > now
