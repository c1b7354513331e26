"""The timetable in memory, kept up to date by the feed: what a page costs does not grow with it.

It is read whole once.  After that a look asks the store what has changed since, and for those
documents; somebody looks with every page, and every now and then when nobody does.  When more has
changed than the feed still tells, or a scheduler has begun with another context, it is read anew.

A store that does not answer is no reason to show nothing: what was known stays, with the moment
since when nothing is heard, and the next look that is answered ends that.
"""

import contextlib
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from synergy.core.admission import Counted
from synergy.core.catalog import Catalog
from synergy.core.intervals import Calendar, Interval
from synergy.core.model import BoxRecord, Job, Lease, Request, Standing, Unit, embryo
from synergy.core.states import JobState
from synergy.core.switches import Switch, switches_of
from synergy.core.timetable import Timetable
from synergy.errors import NotFound, SynergyError, Unreachable
from synergy.leases import LEADER
from synergy.logs import logger
from synergy.mx.counting import number_between
from synergy.ports import Clock, Store
from synergy.reading import BATCH, Reading, read_loaded

T = TypeVar("T")

#: Seconds for which what was read counts as it stands.
FRESH: Final = 0.5
#: Seconds between looks while somebody asks for pages, and while nobody does.
LOOK, IDLE_LOOK = 1.0, 10.0
#: Seconds after the last page until nobody asks any more.
ATTENTION: Final = 60.0
#: Roll-ups that are remembered.
REMEMBERED: Final = 50_000

#: The catalog by which the store's timetable is made, and its version; None where there is none.
ReadCatalog = Callable[[Store], tuple[int, Catalog] | None]
#: How many intervals are in which state; None stands for those that nobody has touched.
Counts = Mapping[JobState | None, int]


#: The end of all spans that have none.
FAR: Final = datetime(9000, 1, 1, tzinfo=UTC)
#: Failed intervals of a process that are told one by one.
NEWEST_FAILED: Final = 20


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
    _rolled: dict[str, dict[tuple[datetime, datetime], Counts]] = field(default_factory=dict)
    _remembered: int = 0
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
            rolled = self._rolled.get(job.process)
            if rolled:
                start = job.interval.start
                for span in [span for span in rolled if span[0] <= start < span[1]]:
                    del rolled[span]
                    self._remembered -= 1

    def summary(self, process: str) -> Summary:
        """How far a process is; costs what its exceptions are, and after that nothing until it
        changes."""
        found = self._summaries.get(process)
        if found is None:
            found = self._summaries[process] = self._summed_up(process)
        return found

    def _summed_up(self, process: str) -> Summary:
        calendar = self.catalog.processes[process].calendar
        start, end = self.catalog.spans[process]
        until, finishing = start, True
        skipped = failed = outdated = 0
        newest: list[Interval] = []
        for begin, stop, standing in self._runs(process, start, end or FAR):
            finishing = finishing and standing is not None and standing.state.finished
            if finishing:
                until = stop
            if standing is not None and standing.state is JobState.SKIPPED:
                skipped += number_between(calendar, begin, stop)
            if standing is not None and standing.outdated:
                outdated += number_between(calendar, begin, stop)
            if standing is not None and standing.state is JobState.FAILED:
                failed += number_between(calendar, begin, stop)
                interval = calendar.containing(stop - timedelta(microseconds=1))
                run: list[Interval] = []
                while interval.start >= begin and len(run) < NEWEST_FAILED:
                    run.append(interval)
                    interval = calendar.previous(interval)
                newest = (newest + run[::-1])[-NEWEST_FAILED:]
        begun = until if until > start else None
        return Summary(begun, failed, skipped, outdated, tuple(newest[::-1]))

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
        rolled = self._rolled.setdefault(process, {})
        found = rolled.get((start, end))
        if found is None:
            if self._remembered >= REMEMBERED:
                self._rolled.clear()
                self._remembered, rolled = 0, self._rolled.setdefault(process, {})
            found = rolled[start, end] = self._counted(process, start, end)
            self._remembered += 1
        return found

    def _counted(self, process: str, start: datetime, end: datetime) -> Counts:
        calendar = self.catalog.processes[process].calendar
        first, last = self.catalog.spans[process]
        start, end = max(start, first), min(end, last) if last is not None else end
        if start >= end:
            return {}
        start, end = _next_start(calendar, start), _next_start(calendar, end)
        counts: Counter[JobState | None] = Counter()
        for begin, until, standing in self._runs(process, start, end):
            number = number_between(calendar, begin, until)
            counts[standing.state if standing is not None else None] += number
        for job in self.active_between(process, start, end):
            standing = self.timetable.ledgers[process].at(job.interval.start)
            counts[standing.state if standing is not None else None] -= 1
            counts[job.state] += 1
        return {state: number for state, number in counts.items() if number > 0}

    def _runs(
        self, process: str, start: datetime, end: datetime
    ) -> Iterator[tuple[datetime, datetime, Standing | None]]:
        before: tuple[datetime, Standing | None] | None = None
        for begin, standing in self.timetable.ledgers[process].runs(start, end):
            if before is not None:
                yield before[0], begin, before[1]
            before = begin, standing
        if before is not None:
            yield before[0], end, before[1]


def _next_start(calendar: Calendar, instant: datetime) -> datetime:
    """The instant itself where an interval begins there, else where the next one begins."""
    interval = calendar.containing(instant)
    return interval.start if interval.start == instant else interval.end


class Living:
    """One picture of the timetable for all pages of a console."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        read_catalog: ReadCatalog,
        clock: Clock,
    ) -> None:
        self._open_store = open_store
        self._read_catalog = read_catalog
        self._clock = clock
        self._guard = threading.RLock()
        self._store: Store | None = None
        self._picture: Picture | None = None
        self._looked = self._asked = -1e9
        self._stop = threading.Event()
        #: Since when the store does not answer, and what was said last; None while it does.
        self.away_since: datetime | None = None
        self.trouble = ""

    @contextlib.contextmanager
    def picture(self) -> Iterator[Picture]:
        """What is known now; nothing of it changes within the block.

        Raises:
            Unreachable: nothing is known yet, since the store has never answered.
            NotFound: nobody has ever worked on the store.
        """
        with self._guard:
            self._asked = self._clock.monotonic()
            if self._asked - self._looked > FRESH and self.away_since is None:
                self.look()
            if self._picture is None:
                self.look()
            if self._picture is None:
                raise Unreachable(self.trouble)
            yield self._picture

    def ask(self, question: Callable[[Store], T]) -> T:
        """What the store answers to a question of its documents.

        Raises:
            Unreachable: it is away, of which is not made sure with every page.
        """
        with self._guard:
            if self._picture is None:
                self.look()
            store = self._store
            if store is None or self.away_since is not None:
                raise Unreachable(self.trouble)
        try:
            return question(store)
        except Unreachable as error:
            with self._guard:
                self._went_away(error)
            raise

    def consult(self, question: Callable[["Glance"], T]) -> T:
        """What follows from the picture and the store together.

        Raises:
            Unreachable: the store is away.
        """
        with self.picture() as picture:
            return self.ask(lambda store: question(Glance(store, picture)))

    def look(self) -> None:
        """Bring the picture up to date; what goes wrong is remembered, not raised.

        Raises:
            NotFound: nobody has ever worked on the store.
        """
        with self._guard:
            try:
                self._look()
                self.away_since, self.trouble = None, ""
            except Unreachable as error:
                self._went_away(error)
            except NotFound as error:
                if self._picture is None:
                    raise
                self._went_away(error)
            finally:
                self._looked = self._clock.monotonic()

    def keep_looking(self) -> None:
        """Look now and then, until `close`; for a thread of its own."""
        while True:
            attentive = self._clock.monotonic() - self._asked < ATTENTION
            away = self.away_since is not None
            if self._stop.wait(LOOK if attentive or away else IDLE_LOOK):
                return
            try:
                self.look()
            except NotFound:
                continue
            except Exception:
                # A thread that dies would leave the pages old for ever, and nobody told.
                logger("console").exception("a look failed", extra={"action": "look_failed"})

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        with self._guard:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _went_away(self, error: SynergyError) -> None:
        if self.away_since is None:
            self.away_since = self._clock.now()
            logger("console").warning(str(error), extra={"action": "store_away"})
        self.trouble = str(error)

    def _look(self) -> None:
        if self._store is None:
            self._store = self._open_store()
        store, picture = self._store, self._picture
        lease = store.read_lease(LEADER)
        if (
            picture is None
            or self._is_another(store, picture, lease)
            or not self._follow(store, picture)
        ):
            picture = self._read(store)
        picture.lease = lease
        picture.switches = switches_of(store.read_documents("switches"))
        picture.boxes = store.read_boxes()
        picture.held = {unit.key: unit for unit in store.held_units()}
        picture.requests = store.open_requests()
        picture.read_at = self._clock.now()
        self._picture = picture

    def _is_another(self, store: Store, picture: Picture, lease: Lease | None) -> bool:
        """Whether the scheduler has changed, and with it the context."""
        before = picture.lease
        if (before and (before.owner, before.epoch)) == (lease and (lease.owner, lease.epoch)):
            return False
        found = self._read_catalog(store)
        return found is None or found[0] != picture.catalog_version

    def _read(self, store: Store) -> Picture:
        found = self._read_catalog(store)
        if found is None:
            raise NotFound("no scheduler has ever worked on the store; ./launch.py up starts one")
        version, catalog = found
        loaded, seq = read_loaded(store, catalog)
        timetable = Timetable(catalog)
        timetable.load(loaded.ledgers, loaded.entries, loaded.jobs)
        return Picture(catalog, version, timetable, seq)

    def _follow(self, store: Store, picture: Picture) -> bool:
        """Take over what has changed; False where that is not told any more."""
        while batch := store.changes(picture.seq, BATCH):
            if batch[0][0] != picture.seq + 1:
                return False
            keys = {key for _, kind, key, _ in batch if kind == "job" and picture.knows(key)}
            jobs = store.read_jobs(keys)
            if len(jobs) < len(keys):
                return False  # pruned since
            for job in jobs.values():
                picture.put(job)
            picture.seq = batch[-1][0]
            if len(batch) < BATCH:
                break
        return True


class Glance(Reading):
    """The picture as the explanations consult it; to be used within `Living.picture` only.

    Of units only those that workers hold are known beforehand; others are read when asked for.
    """

    def __init__(self, store: Store, picture: Picture) -> None:
        # Not as the others: nothing is loaded.
        self.store = store
        self.catalog = picture.catalog
        self.through = picture.seq
        self.requests = tuple(picture.requests)
        self.timetable = picture.timetable
        self.units = dict(picture.held)
        self._seen = {**picture.held}
        self.switches = dict(picture.switches)

    def under_way(self) -> Counted:
        """What `admission.obstacles` consults; firings are asked for when one wants to know."""
        firings = [job for job in self.store.active_jobs() if job.process in self.catalog.freeruns]
        return Counted(self.catalog, self.switches, (*self.timetable.active.values(), *firings))
