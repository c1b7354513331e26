"""A timetable as it stands at an instant, ready to be played from there."""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from synergy.app import programs_of
from synergy.core.boxes import admits
from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.model import Job, JobWrite, Json, LedgerRecord, Standing, Unit, UnitWrite
from synergy.core.promises import without_promises
from synergy.core.states import JobState, UnitState
from synergy.core.timetable import Ledger, Timetable
from synergy.core.triggers import parse_trigger
from synergy.forecast.durations import UNKNOWN, Durations, recorded
from synergy.ports import KINDS, Kind
from synergy.reading import Reading
from synergy.stores.memory import MemoryStore
from synergy.testing.play import PROCESSED, Crew, Ending, Play
from synergy.worker.outcomes import Outcome, Verdict, failed

#: While their interval is open, processes run so often in a play; each further provisional run
#: would cost time and change little.
SELDOM = parse_trigger("every 86400")
#: Units of a play that may be spent on what is not needed for its interval.
MANY = 800
#: So long before it is due the end of a far interval is played, and how busy workers may be for
#: that to be enough.
WINDOW, BUSY = timedelta(hours=36), 0.5
#: So few recorded runs are worth a word.
FEW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A timetable as it stands at an instant, to be played from there."""

    catalog: Catalog
    now: datetime
    timetable: Timetable
    jobs: tuple[Job, ...]
    units: tuple[Unit, ...]
    ledgers: tuple[LedgerRecord, ...]
    documents: tuple[tuple[Kind, str, Mapping[str, Json]], ...]
    durations: Mapping[str, Durations]
    crews: tuple[Crew, ...]
    #: Processes and freeruns that are switched off.
    off: frozenset[str]
    #: Requests that are filed, and that no scheduler has answered.
    filed: int
    #: Whether these are workers that listen, and not those that there might be.
    listening: bool

    def store(self) -> MemoryStore:
        """All of it in a store of its own."""
        store = MemoryStore()
        store.save_ledgers(self.ledgers)
        store.save_jobs([JobWrite(job, 0) for job in self.jobs])
        store.save_units([UnitWrite(unit, None) for unit in self.units])
        for kind, key, content in self.documents:
            store.save_document(kind, key, content, None)
        return store

    def lessened(
        self, needed: Iterable[str], until: datetime, room: float = MANY
    ) -> tuple["Scene", Mapping[str, float]]:
        """What of it can be played often enough; and what is left out, with the share of the
        workers' time that it takes.

        All that is needed is played, and of the rest, which only shares the workers, what is
        little; what would take most of the time is left out.  `room`: for so many units in a play.
        """
        kept = set(needed)
        units = sum(expected(self, name, until) for name in kept)
        room = max(room, 1.5 * units)
        left: dict[str, float] = {}
        others = [name for name in self.durations if name not in kept]
        for name in sorted(others, key=lambda one: (expected(self, one, until), one)):
            with_it = self.catalog.closure([name]) if name in self.catalog.processes else {name}
            more = sum(expected(self, one, until) for one in with_it - kept)
            if units + more <= room:
                kept |= with_it
                units += more
            elif name not in kept:
                left[name] = self.load(name, until)
        part = replace(
            self,
            catalog=lessened(self.catalog, kept),
            jobs=tuple(job for job in self.jobs if job.process in kept),
            units=tuple(unit for unit in self.units if unit.process in kept),
            documents=tuple(each for each in self.documents if _concerns(kept, *each)),
        )
        return part, left

    def leap_to(self, due: datetime) -> datetime | None:
        """From where on the end of what is due then has to be played, when nothing is behind; None
        where it is near, or where workers are so busy that being behind may last."""
        slowest = max(
            sum(known.seconds) / len(known.seconds)
            for name, known in self.durations.items()
            if name in self.catalog.processes
        )
        leap = due - max(WINDOW, timedelta(seconds=slowest) * 20)
        if leap - self.now < WINDOW:
            return None
        busy = sum(self.load(name, due) for name in self.catalog.processes)
        return leap if busy < BUSY else None

    def leapt(self, to: datetime) -> "Scene":
        """The scene at a later instant, where nothing is behind."""
        ledgers = []
        done = Standing(JobState.PROCESSED, 1, 1, 1)
        for name, process in self.catalog.processes.items():
            ledger = Ledger.of_content(self.timetable.ledgers[name].content())
            start, end = self.catalog.spans[name]
            stop = process.calendar.containing(max(to - process.lag, start)).start
            stop = stop if end is None else min(stop, end)
            for begin, until, standing in [*ledger.runs(start, stop)]:
                if standing is None:
                    ledger.put(Interval(begin, until, ""), done)
            ledgers.append(LedgerRecord(name, 0, ledger.content()))
        freeruns = {
            name: replace(freerun, start=to) for name, freerun in self.catalog.freeruns.items()
        }
        catalog = replace(self.catalog, freeruns=freeruns)
        return replace(
            self,
            catalog=catalog,
            now=to,
            jobs=(),
            units=(),
            ledgers=tuple(ledgers),
            documents=tuple(each for each in self.documents if not _goes_on(*each)),
        )

    def given_up(self, name: str, start: datetime, end: datetime) -> float:
        """The chance that one of the intervals of a process between these instants is given up."""
        process = self.catalog.processes[name]
        if process.on_failure != "hold" or end <= start:
            return 0.0
        one = process.calendar.containing(start)
        number = (end - start) / (one.end - one.start)
        each = self.durations[name].chance_of_failure(process.task.max_attempts)
        kept: float = (1.0 - each) ** number
        return 1.0 - kept

    def load(self, name: str, until: datetime) -> float:
        """Which share of the workers' time a process will take, about."""
        known = self.durations[name].seconds
        seconds = expected(self, name, until) * sum(known) / len(known)
        slots = sum(
            crew.slots or 1
            for crew in self.crews
            if crew.processes is None or name in crew.processes
        )
        time_left = max((until - self.now).total_seconds(), 1.0) * max(slots, 1)
        return min(seconds / time_left, 1.0)

    def assumed(self, names: Iterable[str]) -> Iterator[str]:
        """What is not known of the processes that matter, and of the workers."""
        if not self.listening:
            yield "no worker listens now: played as if all programs of context.py were up"
        if self.filed:
            requests = "request waits" if self.filed == 1 else "requests wait"
            yield f"{self.filed} {requests} for the scheduler: what comes of that is not played"
        for name in names:
            known = self.durations[name]
            if not known.of:
                yield f"nothing is recorded at all: {name} is taken to last {UNKNOWN:g} s"
            elif known.of != (name,):
                others = ", ".join(known.of)
                yield f"nothing is recorded of {name}: it is taken to last as long as {others}"
            elif len(known.seconds) < FEW:
                runs = "run" if len(known.seconds) == 1 else "runs"
                yield f"only {len(known.seconds)} {runs} of {name} recorded"

    def play(self, seed: str, until: datetime) -> Play:
        """One play of what comes."""
        chance, now = random.Random(seed), self.now
        durations: dict[str, Durations] = {}

        def plot(unit: Unit) -> Ending:
            known = durations.get(unit.process)
            if known is None:
                known = durations[unit.process] = self.durations[unit.process].resampled(chance)
            been = (now - unit.started_at).total_seconds() if unit.started_at is not None else 0.0
            seconds, ended = known.draw(chance, max(been, 0.0))
            if known.fails(chance, unit.failures):
                return Ending(duration=timedelta(seconds=seconds), outcome=_FAILED)
            outcome = _NOOP if ended is UnitState.NOOP else PROCESSED
            return Ending(duration=timedelta(seconds=seconds), outcome=outcome)

        return Play(self.catalog, now, until, plot, crews=self.crews, store=self.store())


_NOOP = Outcome(Verdict.NOOP)
_FAILED = failed("as some of the recorded ones")


def scene_of(reading: Reading, now: datetime) -> Scene:
    """The timetable as it stands in a store."""
    store, catalog = reading.store, _seldom(reading.catalog)
    firings = [job for name in catalog.freeruns for job in store.last_jobs(name, 1)]
    jobs = {job.key: job for job in (*firings, *reading.loaded.jobs)}
    return Scene(
        catalog=catalog,
        now=now,
        timetable=reading.timetable,
        # Their history is in no feed here.
        jobs=tuple(replace(job, transitions=()) for job in jobs.values()),
        units=tuple(_at_rest(unit) for unit in reading.units.values()),
        ledgers=tuple(
            LedgerRecord(name, 0, ledger.content())
            for name, ledger in reading.timetable.ledgers.items()
        ),
        documents=tuple(
            (kind, key, stored.content)
            for kind in KINDS
            if kind not in ("catalog", "workers", "promises")
            for key, stored in store.read_documents(kind).items()
        ),
        durations=recorded(store, catalog, (*catalog.processes, *catalog.freeruns)),
        crews=crews_of(reading, catalog, now),
        filed=sum(request.state == "filed" for request in reading.requests),
        listening=any(not worker.is_silent(now) for worker in reading.workers),
        off=frozenset(name for name, switch in reading.switches.items() if not switch.on),
    )


def left_out(left: Mapping[str, float]) -> str:
    """What was left out, in words."""
    told = ", ".join(f"{name} ({load:.1%})" for name, load in left.items())
    return f"left out to save time, and their share of the workers' time: {told}"


def _concerns(kept: set[str], kind: Kind, key: str, content: Mapping[str, Json]) -> bool:
    """Whether a document is of one of these processes: a backfill names its own, a switch is kept
    under the name of what is switched."""
    return (content["process"] if kind == "backfills" else key) in kept


def _goes_on(kind: Kind, key: str, content: Mapping[str, Json]) -> bool:
    """Whether it is of a backfill that will be over when nothing is behind."""
    return kind == "backfills" and not content["paused"]


def _seldom(catalog: Catalog) -> Catalog:
    """The catalog with few provisional runs, and nobody to be warned."""
    catalog = without_promises(catalog)
    processes = {
        name: replace(process, every=SELDOM) if process.open_ended else process
        for name, process in catalog.processes.items()
    }
    return replace(catalog, processes=processes)


def _at_rest(unit: Unit) -> Unit:
    """A unit as it is put into another store: one that was claimed ahead of its start waits."""
    if unit.state is UnitState.CLAIMED:
        unit = replace(unit, state=UnitState.REQUESTED, owner=None, lease_until=None)
    return replace(unit, transitions=())


def crews_of(reading: Reading, catalog: Catalog, now: datetime) -> tuple[Crew, ...]:
    """The workers that listen; where none tells of itself, those that the programs make."""
    present = [
        Crew(slots=worker.slots, processes=worker.processes)
        for worker in reading.workers
        if not worker.is_silent(now)
    ]
    if present:
        return tuple(present)
    boxes = [record.box for record in reading.boxes if record.supervisor is not None]
    crews = []
    for program in programs_of(catalog).values():
        if program is not None:
            on = [box for box in boxes if admits(program.boxes, box)]
            for box in on[:1] if program.alone else on:
                crews.append(Crew(slots=program.slots, processes=catalog.workable(program, box)))
            if not on:
                crews.append(Crew(slots=program.slots, processes=program.processes))
    return tuple(crews)


def expected(scene: Scene, name: str, until: datetime) -> float:
    """How many units of a process or freerun there will be until an instant, about."""
    if name in scene.catalog.freeruns:
        trigger = scene.catalog.freeruns[name].trigger
        first = trigger.next_after(scene.now)
        second = trigger.next_after(first) if first is not None else None
        if first is None or second is None:
            return 1.0
        return max((until - first) / (second - first), 0.0) + 1
    calendar = scene.catalog.processes[name].calendar
    one = calendar.containing(scene.now)
    start, end = scene.catalog.spans[name]
    stop = until if end is None else min(until, end)
    if stop <= start:
        return 0.0
    ledger = scene.timetable.ledgers[name]
    runs = ledger.runs(start, stop)
    behind = (after - begin for begin, after, standing in runs if standing is None)
    runs_of_each = 2 if scene.catalog.processes[name].open_ended else 1
    return sum(behind, timedelta(0)) / (one.end - one.start) * runs_of_each


def lessened(catalog: Catalog, kept: set[str]) -> Catalog:
    """The catalog with these processes and freeruns only."""
    trees = {
        name: replace(tree, processes=tuple(each for each in tree.processes if each in kept))
        for name, tree in catalog.trees.items()
    }
    return replace(
        catalog,
        processes={name: one for name, one in catalog.processes.items() if name in kept},
        trees={name: tree for name, tree in trees.items() if tree.processes},
        freeruns={name: one for name, one in catalog.freeruns.items() if name in kept},
    )
