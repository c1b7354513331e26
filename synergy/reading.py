"""Reads the timetable out of a store: for the scheduler at its start, and for those who only look.

Readers never write, never touch the engine, and work with no scheduler alive (DESIGN §3.9).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from synergy.core.admission import Counted, LaneFull, lane_full
from synergy.core.backfills import Backfill, backfills_of
from synergy.core.catalog import Catalog
from synergy.core.events import Loaded
from synergy.core.intervals import Interval
from synergy.core.lanes import slots_for
from synergy.core.model import BoxRecord, FeedEntry, Job, Lease, Standing, Unit, embryo, job_key
from synergy.core.states import JobState
from synergy.core.switches import switches_of
from synergy.core.timetable import Timetable
from synergy.leases import LEADER
from synergy.ports import Store
from synergy.presence import WorkerRecord, holder_of, read_workers

#: Feed entries read in one go.
BATCH = 2000
#: Firings of a freerun that are looked at for the last one: those of a clock that was wrong for a
#: while may stand before it.
FIRINGS = 50
#: Firings of a freerun that are remembered.
FIRINGS_KEPT = 1000
#: Looks at a store that others write to, before what was read is taken as it is.
ROUNDS = 20


def read_loaded(store: Store, catalog: Catalog, *, only_jobs: bool = False) -> tuple[Loaded, int]:
    """Everything the engine needs to begin, and the number of the last feed entry in it.

    With `only_jobs`, without units and firings: for those who look at few of them.
    """
    ledgers = store.read_ledgers()
    # A process without a ledger is new: all of its entries come after every stored ledger.
    known = [record.through for name, record in ledgers.items() if name in catalog.processes]
    after = min(known, default=0)
    entries: list[FeedEntry] = []
    units: dict[str, Unit] = {}
    # What moves between two of these looks would be in neither: look again until nothing moved.
    for _ in range(ROUNDS):
        before = after
        while batch := store.feed(after, BATCH):
            entries += batch
            after = batch[-1].seq
        jobs = store.active_jobs()
        if not only_jobs:
            units = read_units_of(store, jobs)
        if (after == before or only_jobs) and not store.feed(after, 1):
            break
    fired = {
        name: tuple(job.interval.start for job in store.last_jobs(name, FIRINGS))
        for name in (() if only_jobs else catalog.freeruns)
    }
    requests = store.open_requests()
    plans = {request.of: store.read_request(request.of) for request in requests if request.of}
    loaded = Loaded(
        ledgers=ledgers,
        entries=tuple(entries),
        jobs=tuple(jobs),
        units=tuple(units.values()),
        requests=tuple(requests),
        plans={name: plan for name, plan in plans.items() if plan is not None},
        fired=fired,
        # Read last: what an open request has done already is there, and it is not done again.
        switches=store.read_documents("switches"),
        backfills=store.read_documents("backfills"),
    )
    return loaded, after


def read_units_of(store: Store, jobs: Iterable[Job]) -> dict[str, Unit]:
    """The units that have not ended, and those of these jobs, by key."""
    units = {unit.key: unit for unit in store.active_units()}
    units.update(store.read_units([job.unit for job in jobs if job.unit and job.unit not in units]))
    return units


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job as it is listed."""

    process: str
    interval: Interval
    state: JobState
    generation: int
    attempts: int
    #: Its result is out of date: being made anew, waiting to be, or marked.
    stale: bool
    reason: str
    #: Finished, and marked stale.
    outdated: bool = False
    #: The generation that its result came out in; 0 where it has none.
    result: int = 0

    @property
    def kept(self) -> bool:
        """Whether it is finished with the result of an earlier generation."""
        return self.state.finished and 0 < self.result < self.generation


class Reading:
    """The timetable as it stands in the store at one moment."""

    #: Whether it is of now, so that who listens and who leads is known.
    present = True

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self.store = store
        self.catalog = catalog
        self.loaded, self.through = read_loaded(store, catalog, only_jobs=True)
        #: Those that are filed and not answered.
        self.requests = self.loaded.requests
        self.timetable = Timetable(catalog)
        loaded = self.loaded
        self.timetable.load(loaded.ledgers, loaded.entries, loaded.jobs, lazily=True)
        #: Units that were looked at, one by one.
        self._seen: dict[str, Unit | None] = {}
        self.switches = switches_of(self.loaded.switches)

    def document(self, process: str, interval: Interval) -> Job | None:
        """The stored job, as the ledger does not keep all of it; None where none was written."""
        key = job_key(process, interval)
        return self.store.read_jobs([key]).get(key)

    @cached_property
    def units(self) -> Mapping[str, Unit]:
        """All units that are out, by key."""
        return read_units_of(self.store, self.loaded.jobs)

    @cached_property
    def workers(self) -> list[WorkerRecord]:
        """The workers that tell of themselves."""
        return read_workers(self.store)

    @cached_property
    def boxes(self) -> list[BoxRecord]:
        """Every box that was ever seen."""
        return self.store.read_boxes()

    @property
    def leader(self) -> Lease | None:
        """The lease of the scheduler that leads, or did last."""
        return self.store.read_lease(LEADER)

    @cached_property
    def held(self) -> dict[str, list[Unit]]:
        """What each worker holds, by its token."""
        found: dict[str, list[Unit]] = {}
        for unit in self.store.held_units():
            holder = holder_of(unit.owner, self.workers) if unit.owner else None
            if holder is not None:
                found.setdefault(holder.owner, []).append(unit)
        return found

    def rows(
        self,
        process: str,
        start: datetime | None = None,
        end: datetime | None = None,
        passed_over: Callable[[Standing], bool] | None = None,
    ) -> Iterator[Row]:
        """The jobs of a process that begin within ``[start, end)`` and its tree's span.

        Terminal ones that stand so that they are `passed_over` are left out, and cost nothing.
        """
        calendar = self.catalog.processes[process].calendar
        ledger = self.timetable.ledgers[process]
        first, last = self.catalog.spans[process]
        begin = max(start, first) if start else first
        stop = min(filter(None, (end, last))) if end or last else None
        interval = calendar.containing(begin)
        if interval.start < begin:
            interval = calendar.next(interval)
        while stop is None or interval.start < stop:
            standing = ledger.at(interval.start)
            if standing is None or passed_over is None or not passed_over(standing):
                yield self._row(process, interval, standing)
                interval = calendar.next(interval)
            else:
                following = ledger.end_of_run(interval.start)
                assert following is not None, "a ledger ends with a gap"
                interval = calendar.starting_at(following)

    def row(self, process: str, interval: Interval) -> Row:
        """One job."""
        return self._row(process, interval, self.timetable.ledgers[process].at(interval.start))

    def _row(self, process: str, interval: Interval, standing: Standing | None) -> Row:
        if standing is not None:
            return Row(
                process=process,
                interval=interval,
                state=standing.state,
                generation=standing.generation,
                attempts=standing.attempts,
                stale=standing.outdated,
                reason="",
                outdated=standing.outdated,
                result=standing.result,
            )
        job = self.timetable.active.get((process, interval.start))
        if job is None:
            job = embryo(process, interval)
        unit = self.units.get(job.unit) if job.unit and job.state.at_work else None
        return Row(
            process=process,
            interval=interval,
            state=job.state,
            generation=job.generation,
            attempts=unit.attempt if unit is not None else job.attempts,
            stale=job.stale,
            reason=unit.reason if unit is not None and unit.reason else job.reason,
            outdated=job.outdated,
            result=job.result,
        )

    def unit_of(self, job: Job) -> Unit | None:
        """The unit that is out for an active job."""
        self.look_at((job,))
        return self._seen.get(job.unit) if job.unit and job.state.at_work else None

    def look_at(self, jobs: Iterable[Job]) -> None:
        """Read the units of these together, so that looking at them one by one costs no more."""
        keys = [job.unit for job in jobs if job.unit and job.state.at_work]
        unseen = [key for key in keys if key not in self._seen]
        if unseen:
            found = self.store.read_units(unseen)
            self._seen.update({key: found.get(key) for key in unseen})

    def under_way(self) -> Counted:
        """What `admission.obstacles` consults: how much of what is out, and what is off."""
        active = (*self.timetable.active.values(), *self.firings_at_work.values())
        return Counted(self.catalog, self.switches, active)

    @cached_property
    def firings_at_work(self) -> dict[str, Job]:
        """The firing of each freerun that is not over, if one is."""
        return {
            job.process: job for job in self._active_jobs() if job.process in self.catalog.freeruns
        }

    def _active_jobs(self) -> Sequence[Job]:
        return self.loaded.jobs

    @cached_property
    def backfills(self) -> dict[str, Backfill]:
        """Those that go on, or are paused, by id."""
        found = backfills_of(self.loaded.backfills)
        return {key: each for key, each in found.items() if not each.over}

    def lane_of(self, job: Job) -> Backfill | None:
        """The backfill that a job goes by: it was opened or held for it last."""
        return self.backfills.get(job.requests[-1]) if job.requests else None

    def out_of_lane(self, backfill: Backfill) -> list[Job]:
        """The jobs of a backfill that wait for their unit, the oldest first."""
        active = self.timetable.active.values()
        found = [
            job
            for job in active
            if job.unit and job.state.at_work and self.lane_of(job) is backfill
        ]
        return sorted(found, key=lambda job: job.interval.start)

    def slots_for(self, process: str, now: datetime) -> int:
        """Slots that are counted with for a backfill of a process."""
        heard = (worker for worker in self.workers if not worker.is_silent(now))
        told = sum(worker.slots for worker in heard if worker.takes(process))
        return slots_for(self.catalog, process, told)

    def lane_full(self, backfill: Backfill, name: str, now: datetime) -> LaneFull | None:
        """Why no unit more of a process goes out for a backfill now."""
        slots = self.slots_for(backfill.process, now)
        out = [job.process for job in self.out_of_lane(backfill)]
        return lane_full(self.catalog, backfill, slots, out, name)

    def out_of(self, process: str) -> list[Job]:
        """The jobs of a process or freerun that wait for their unit, the oldest first."""
        if process in self.catalog.freeruns:
            firing = self.firings_at_work.get(process)
            return [] if firing is None else [firing]
        found = [
            job
            for (name, _), job in self.timetable.active.items()
            if name == process and job.unit and job.state.at_work
        ]
        return sorted(found, key=lambda job: job.interval.start)

    def firings(self, freerun: str, limit: int) -> list[Job]:
        """The latest firings of a freerun, newest first."""
        return self.store.last_jobs(freerun, limit)
