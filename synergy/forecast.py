"""When an interval will be complete: the timetable as it stands, played on a virtual clock.

What stands in the store (`Scene`) is put into a store in memory, and the real scheduler plays it
from now on (`testing.play`), many times.  How long an attempt takes and how it ends is drawn anew
each time, from what is recorded of its process (`Durations`).  The ends of all these plays, in
order, are the forecast: half of them lie before the median, and of n plays the k-th and the k-th
last enclose what really happens with a chance of ``(n + 1 - 2k) / (n + 1)``, if the time to come is
as the one that is recorded.

Each play has a seed of its own, made of the instant, the interval and the number of the play, so
that the same store at the same instant gives the same forecast.
"""

import random
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from math import prod
from statistics import pstdev

from synergy.app import programs_of
from synergy.core.backfills import backfills_of
from synergy.core.boxes import admits
from synergy.core.catalog import Catalog, Input
from synergy.core.intervals import Interval
from synergy.core.model import (
    FeedEntry,
    Job,
    JobWrite,
    Json,
    LedgerRecord,
    Standing,
    Unit,
    UnitWrite,
    job_key,
)
from synergy.core.promises import without_promises
from synergy.core.states import TERMINAL, JobState, UnitState
from synergy.core.timetable import Ledger, Timetable
from synergy.core.triggers import parse_trigger
from synergy.history import due_of, duration, latest_units
from synergy.ports import KINDS, Kind, Store
from synergy.reading import Reading
from synergy.stores.memory import MemoryStore
from synergy.testing.play import PROCESSED, Crew, Ending, Play
from synergy.worker.outcomes import Outcome, Verdict, failed

#: Plays of a forecast, where there is time for so many.  Of 20 k - 1 plays, the k-th and the k-th
#: last enclose nine tenths.
PLAYS = 199
#: The fewest of which a band of nine tenths can be made.
FEWEST = 19
#: Recorded units from which durations are drawn.
RECORDED = 100
#: Seconds that a forecast may take.
BUDGET = 4.0
#: A play is given up when the interval is not complete so long after it was due.
LONGEST = timedelta(days=366)
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
#: Batches of transitions between looks at the clock.
LOOK = 64
#: What exceeds all records does so by this share of their standard deviation, on average.
BEYOND = 2 / 3
#: How long is assumed where nothing at all is recorded.
UNKNOWN = 1.0

_TICK = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# how long attempts take


@dataclass(frozen=True)
class Durations:
    """What is recorded of the attempts of a process, or of others in its place."""

    #: Seconds, ascending, and beside each how its unit ended.
    seconds: tuple[float, ...]
    ended: tuple[UnitState, ...]
    #: Failures of each unit before its end, ascending.
    failures: tuple[int, ...]
    #: Whose they are: the process itself, other processes, or nobody's.
    of: tuple[str, ...]

    def draw(self, chance: random.Random, above: float = 0.0) -> tuple[float, UnitState]:
        """How long an attempt takes that has taken so long already, and how it ends, if it does
        not fail.

        The next value falls between any two neighbours with the same chance, and beyond the
        outermost with that chance, too: so few records make a wide forecast.  One that has taken
        longer than all that are recorded is taken to begin anew.
        """
        known = self.seconds
        first = bisect_right(known, above) if above > 0 else 0
        number = len(known) - first
        if number == 0:
            more, ended = self.draw(chance)
            return above + more, ended
        place = first + chance.randrange(number + 1)
        if place == len(known):
            return known[-1] + self._spread * chance.expovariate(1.0), self.ended[-1]
        low = known[place - 1] if place > first else max(above, known[0] - self._spread)
        return max(low + (known[place] - low) * chance.random(), 0.0), self.ended[place]

    @cached_property
    def _spread(self) -> float:
        """How far the outermost may be exceeded: a share of the standard deviation, as it is of
        most distributions."""
        known = self.seconds
        return pstdev(known) * BEYOND if len(known) > 1 else known[0] * BEYOND

    def resampled(self, chance: random.Random) -> "Durations":
        """What might have been recorded as well: as many, drawn from these.  What few records say
        is uncertain, and by this each play has it differ."""
        number = len(self.seconds)
        places = sorted(chance.choices(range(number), k=number))
        return replace(
            self,
            seconds=tuple(self.seconds[place] for place in places),
            ended=tuple(self.ended[place] for place in places),
            failures=tuple(sorted(chance.choices(self.failures, k=len(self.failures)))),
        )

    def fails(self, chance: random.Random, failures: int) -> bool:
        """Whether the attempt after so many failures fails, too."""
        return chance.random() < self._failing(failures)

    def _failing(self, failures: int) -> float:
        """The share of those that failed as often before and failed once more."""
        reached = len(self.failures) - bisect_left(self.failures, failures)
        beyond = len(self.failures) - bisect_right(self.failures, failures)
        return beyond / reached if reached else 0.0

    def chance_of_failure(self, attempts: int) -> float:
        """The chance that so many attempts fail one after the other."""
        return prod(map(self._failing, range(attempts)))


def durations_of(units: Iterable[Unit], of: Iterable[str]) -> Durations | None:
    """What these units tell; None where none of them tells anything."""
    told = [
        (found.total_seconds(), unit.state, unit.failures)
        for unit in units
        if (found := duration(unit)) is not None
    ]
    if not told:
        return None
    told.sort(key=lambda one: one[0])
    good = [
        state if state is not UnitState.INVALID else UnitState.PROCESSED for _, state, _ in told
    ]
    return Durations(
        seconds=tuple(one[0] for one in told),
        ended=tuple(good),
        failures=tuple(sorted(one[2] for one in told)),
        of=tuple(of),
    )


def recorded(store: Store, catalog: Catalog, names: Iterable[str]) -> dict[str, Durations]:
    """What there is to draw from, of each of these processes: where nothing is recorded of one,
    what is recorded of the others of its tree, then of all."""
    names = [*names]
    units = {name: latest_units(store, name, RECORDED) for name in names}
    found: dict[str, Durations] = {}
    for name in names:
        process = catalog.processes.get(name)
        tree = catalog.trees[process.tree].processes if process is not None else ()
        for others in ([name], [other for other in tree if other in units], names):
            told = [other for other in others if units[other]]
            known = durations_of((unit for other in told for unit in units[other]), told)
            if known is not None:
                break
        else:
            known = Durations((UNKNOWN,), (UnitState.PROCESSED,), (0,), ())
        found[name] = known
    return found


# what stands


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

    def lessened(self, needed: Iterable[str], until: datetime) -> tuple["Scene", tuple[str, ...]]:
        """What of it can be played often enough, and what is left out, in words.

        All that is needed is played, and of the rest, which only shares the workers, what is
        little; what would take most of the time is left out.
        """
        kept = set(needed)
        units = sum(expected(self, name, until) for name in kept)
        room = max(MANY, 1.5 * units)
        left: dict[str, float] = {}
        others = [name for name in self.durations if name not in kept]
        for name in sorted(others, key=lambda one: (expected(self, one, until), one)):
            with_it = self.catalog.closure([name]) if name in self.catalog.processes else {name}
            more = sum(expected(self, one, until) for one in with_it - kept)
            if units + more <= room:
                kept |= with_it
                units += more
            elif name not in kept:
                left[name] = self._load(name, until)
        told = ", ".join(f"{name} ({load:.1%})" for name, load in left.items())
        part = replace(
            self,
            catalog=lessened(self.catalog, kept),
            jobs=tuple(job for job in self.jobs if job.process in kept),
            units=tuple(unit for unit in self.units if unit.process in kept),
            documents=tuple(each for each in self.documents if _concerns(kept, *each)),
        )
        words = (f"left out, beside the share of the workers' time that they take: {told}",)
        return part, words if left else ()

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
        busy = sum(self._load(name, due) for name in self.catalog.processes)
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
            runs = [*ledger.runs(start, stop), (stop, None)]
            for (at, standing), (following, _) in pairwise(runs):
                if standing is None:
                    ledger.put(Interval(at, following, ""), done)
            ledgers.append(LedgerRecord(name, 0, ledger.content()))
        freeruns = {
            name: replace(freerun, start=to) for name, freerun in self.catalog.freeruns.items()
        }
        catalog = replace(self.catalog, freeruns=freeruns)
        return replace(self, catalog=catalog, now=to, jobs=(), units=(), ledgers=tuple(ledgers))

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

    def _load(self, name: str, until: datetime) -> float:
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
        listening=any(not worker.is_silent(now) for worker in reading.workers),
        off=frozenset(name for name, switch in reading.switches.items() if not switch.on),
    )


def _concerns(kept: set[str], kind: Kind, key: str, content: Mapping[str, Json]) -> bool:
    """Whether a document is of one of these processes: a backfill names its own, a switch is kept
    under the name of what is switched."""
    return (content["process"] if kind == "backfills" else key) in kept


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


# what an interval rests on


def rests_on(
    catalog: Catalog, timetable: Timetable, process: str, interval: Interval
) -> dict[str, tuple[datetime, datetime]]:
    """The unfinished that must be finished before an interval is, itself among it: for each
    process the range in which it lies.  Costs what is unfinished, not what is behind."""
    found = {process: (interval.start, interval.end)}
    todo = [(process, interval.start, interval.end)]
    while todo:
        name, start, end = todo.pop()
        for given in _inputs(catalog, name, start, end):
            begin = _unfinished_from(timetable.ledgers[given.process], given.start, given.end)
            if begin is None:
                continue
            known = found.get(given.process, (begin, given.end))
            reach = min(known[0], begin), max(known[1], given.end)
            if given.process not in found or reach != known:
                found[given.process] = reach
                todo.append((given.process, *reach))
    return found


def _inputs(catalog: Catalog, name: str, start: datetime, end: datetime) -> Iterator[Input]:
    """What all intervals of a range wait for, as far as the first and the last of it reach."""
    calendar = catalog.processes[name].calendar
    hull: dict[tuple[str, str], Input] = {}
    for one in (calendar.containing(start), calendar.containing(end - _TICK)):
        for given in catalog.inputs(name, one):
            key = given.kind, given.process
            known = hull.get(key, given)
            low, high = min(known.start, given.start), max(known.end, given.end)
            hull[key] = Input(given.kind, given.process, low, high)
    yield from hull.values()


def _unfinished_from(ledger: Ledger, start: datetime, end: datetime) -> datetime | None:
    """The first instant of a range whose interval is not finished."""
    for at, standing in ledger.runs(start, end):
        if standing is None or not standing.state.finished:
            return at
    return None


# one interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One interval of a chain, as a play had it."""

    process: str
    interval: Interval
    #: When it could have been handed to the workers: when it was due, or what it waited for ended.
    ready: datetime
    #: When its last attempt began.
    started: datetime
    ended: datetime
    attempts: int
    #: Whether the calendar was what it waited for, and not the step before.
    by_the_calendar: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When an interval will be complete."""

    process: str
    interval: Interval
    now: datetime
    #: Plays that were made in the time that there was.
    plays: int
    #: When it was complete, of each play, ascending; of those in which it was.
    ends: tuple[datetime, ...]
    #: Why it was not, in the others, and how often.
    never: Mapping[str, int]
    #: What it rests on and will not end by itself; then nothing was played.
    stuck: tuple[str, ...] = ()
    #: What made its end in the median play, the first of it first.
    path: tuple[Step, ...] = ()
    #: What was assumed in place of what is not known.
    assumed: tuple[str, ...] = ()

    @property
    def median(self) -> datetime | None:
        """Half of the plays have ended by then; None where they did not."""
        return self._place(self.plays // 2) if self.plays else None

    @property
    def low(self) -> datetime | None:
        """The beginning of the band."""
        return self._place(self._outside - 1) if self.plays else None

    @property
    def high(self) -> datetime | None:
        """The end of the band; None where it has none."""
        return self._place(self.plays - self._outside) if self.plays else None

    @property
    def chance(self) -> float:
        """The share of forecasts whose band encloses what happens."""
        return max(self.plays + 1 - 2 * self._outside, 0) / (self.plays + 1)

    @property
    def _outside(self) -> int:
        """The place of the first play within the band, from either side."""
        return max((self.plays + 1) // 20, 1)

    def _place(self, place: int) -> datetime | None:
        return self.ends[place] if place < len(self.ends) else None


def foretell(
    scene: Scene,
    process: str,
    interval: Interval,
    *,
    plays: int = PLAYS,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Forecast:
    """Play what comes until the interval is complete, as often as asked or as there is time for.

    `budget` in seconds, of `clock`.
    """
    reach = rests_on(scene.catalog, scene.timetable, process, interval)
    stuck = (
        *held_up(scene, reach),
        *_switched_off(scene, reach),
        *_paused(scene, reach),
        *_unserved(scene, reach),
    )
    if stuck:
        return Forecast(
            process=process, interval=interval, now=scene.now, plays=0, ends=(), never={},
            stuck=stuck, assumed=tuple(_assumed(scene, reach)),
        )  # fmt: skip
    needed = scene.catalog.closure([process])
    due = max(due_of(scene.catalog, process, interval), scene.now)
    part, left = scene.lessened(needed, min(due, scene.now + 2 * WINDOW))
    target = _Target(part, process, interval, reach)
    if target.leap is not None:
        left = (*left, _leapt_over(target.leap))
    until = clock() + budget
    made: list[_Made] = []
    while len(made) < plays and (not made or clock() < until):
        one = target.once(len(made), lambda: clock() > until)
        if one is None:
            break
        made.append(one)
    if len(made) >= FEWEST:
        del made[(len(made) + 1) // 20 * 20 - 1 :]
    ended = sorted((one.end, one.number) for one in made if one.end is not None)
    never = Counter(one.never for one in made if one.end is None)
    middle = len(made) // 2
    return Forecast(
        process=process,
        interval=interval,
        now=scene.now,
        plays=len(made),
        ends=tuple(end for end, _ in ended),
        never=dict(never.most_common()),
        path=target.path(ended[middle][1]) if middle < len(ended) else (),
        assumed=(*_assumed(scene, reach), *left),
    )


def held_up(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """What has failed, and holds what is built on it until somebody does something."""
    for name, (start, end) in reach.items():
        calendar = scene.catalog.processes[name].calendar
        runs = [*scene.timetable.ledgers[name].runs(start, end), (end, None)]
        for (begin, standing), (stop, _) in pairwise(runs):
            if standing is not None and standing.state is JobState.FAILED:
                first = calendar.starting_at(begin)
                last = calendar.containing(stop - _TICK)
                more = f" … {last.label}" if last != first else ""
                yield f"{name} {first.label}{more} has failed: reprocess or skip it"


def _switched_off(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """What nobody begins; what is at work of it ends all the same."""
    for name in scene.off & reach.keys():
        start, end = reach[name]
        calendar = scene.catalog.processes[name].calendar
        out = {unit.interval.start for unit in scene.units if unit.process == name}
        for begin, standing in scene.timetable.ledgers[name].runs(start, end):
            first = calendar.starting_at(begin)
            while standing is None and first.start in out and first.end < end:
                first = calendar.next(first)
            if standing is None and first.start not in out:
                yield f"{name} is switched off: switch it on with process on {name}"
                break


def _paused(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """Backfills that hold what is built on them, and do not go on."""
    stored = {key: (1, content) for kind, key, content in scene.documents if kind == "backfills"}
    if not stored:
        return
    # What it has not opened yet is finished still: so it is looked for beneath what is not.
    ranges = [Input("dependency", name, *reached) for name, reached in reach.items()]
    for name, (start, end) in reach.items():
        ranges += _inputs(scene.catalog, name, start, end)
    for one in backfills_of(stored).values():
        waited_for = (given for given in ranges if given.process == one.process)
        if one.paused and not one.over:
            if any(one.left_within(each.start, each.end, one.front) for each in waited_for):
                yield f"backfill {one.id} of {one.process} is paused: resume it, or cancel it"


def _unserved(scene: Scene, reach: Iterable[str]) -> Iterator[str]:
    for name in reach:
        if not any(crew.processes is None or name in crew.processes for crew in scene.crews):
            yield f"no worker takes units of {name}: start one that does"


def _assumed(scene: Scene, reach: Iterable[str]) -> Iterator[str]:
    """What is not known of the processes that matter, and of the workers."""
    if not scene.listening:
        yield "no worker listens now: played as if the programs that context.py declares were up"
    for name in reach:
        known = scene.durations[name]
        if not known.of:
            yield f"nothing is recorded at all: {name} is taken to last {UNKNOWN:g} s"
        elif known.of != (name,):
            others = ", ".join(known.of)
            yield f"nothing is recorded of {name}: it is taken to last as long as {others}"
        elif len(known.seconds) < FEW:
            runs = "run" if len(known.seconds) == 1 else "runs"
            yield f"only {len(known.seconds)} {runs} of {name} recorded"


@dataclass(frozen=True, slots=True)
class _Made:
    """How one play came out."""

    number: int
    end: datetime | None
    never: str


@dataclass(slots=True)
class _Seen:
    """What a play showed of an interval."""

    interval: Interval
    requested: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    attempts: int = 0

    def see(self, entry: FeedEntry) -> None:
        """Take in a transition of its job or deciding unit."""
        made = entry.transition
        if entry.kind == "job":
            if JobState(made.after) in TERMINAL:
                self.ended = made.at
            elif self.requested is None:
                self.requested = made.at
        elif made.after == _BEGUN:
            self.attempts += 1
            self.started = self.started or made.at


_BEGUN = UnitState.IN_PROGRESS.value
#: By process and start.
_Trace = dict[tuple[str, datetime], _Seen]


def _leapt_over(leap: datetime) -> str:
    until = leap.strftime("%Y-%m-%d %H:%M")
    return f"from when nothing is behind until {until} UTC only what is given up counts"


class _Target:
    """An interval, and the plays that are made for it.

    A far one is played in two parts.  When nothing is behind any more, it does not matter how long
    what has just ended took: the play leaps to shortly before the interval is due, where again
    nothing is behind.  What is given up on the way counts, by its share.
    """

    def __init__(
        self,
        scene: Scene,
        process: str,
        interval: Interval,
        reach: Mapping[str, tuple[datetime, datetime]],
    ) -> None:
        self.scene, self.process, self.interval, self.reach = scene, process, interval, reach
        self._key = job_key(process, interval)
        due = max(due_of(scene.catalog, process, interval), scene.now)
        self._until = due + LONGEST
        #: Where a play goes on that has leapt; None where it is to be played through.
        self.leap = scene.leap_to(due)
        self._after = None if self.leap is None else scene.leapt(self.leap)

    def once(
        self, number: int, out_of_time: Callable[[], bool], trace: _Trace | None = None
    ) -> _Made | None:
        """Play until it is complete, or never will be; None where there is no time for that."""
        play = self.scene.play(self._seed(number), self._until)
        for place, entries in enumerate(play.run()):
            made = self._over(number, entries, trace)
            if made is not None:
                return made
            if place % LOOK == 0 and out_of_time():
                return None
            now = play.clock.now()
            if self.leap is not None and now < self.leap and play.scheduler.engine.idle:
                return self._leap(number, now, out_of_time, trace)
        return _Made(number, None, _NOT_IN_TIME)

    def _leap(
        self, number: int, now: datetime, out_of_time: Callable[[], bool], trace: _Trace | None
    ) -> _Made | None:
        """Go on with a play shortly before the interval is due."""
        assert self.leap is not None
        assert self._after is not None
        seed = f"{self._seed(number)} leap"
        chance = random.Random(seed)
        for name, (start, end) in self.reach.items():
            share = self.scene.given_up(name, max(start, now), min(end, self.leap))
            if chance.random() < share:
                return _Made(number, None, f"{name} was given up")
        for place, entries in enumerate(self._after.play(seed, self._until).run()):
            made = self._over(number, entries, trace)
            if made is not None:
                return made
            if place % LOOK == 0 and out_of_time():
                return None
        return _Made(number, None, _NOT_IN_TIME)

    def _over(
        self, number: int, entries: Iterable[FeedEntry], trace: _Trace | None
    ) -> _Made | None:
        """How the play comes out, once that is known."""
        for entry in entries:
            if trace is not None:
                _note(trace, entry)
            if entry.kind == "job" and entry.transition.after in _OVER:
                if entry.transition.after == JobState.FAILED.value and self._rests_on(entry):
                    return _Made(number, None, f"{entry.process} was given up")
                if entry.key == self._key:
                    return _Made(number, entry.transition.at, "")
        return None

    def _seed(self, number: int) -> str:
        return f"{self.scene.now.isoformat()} {self._key} {number}"

    def _rests_on(self, entry: FeedEntry) -> bool:
        start, end = self.reach.get(entry.process, (_EPOCH, _EPOCH))
        return start <= entry.interval.start < end

    def path(self, number: int) -> tuple[Step, ...]:
        """What made the end in that play, the first of it first."""
        trace: _Trace = {}
        self.once(number, lambda: False, trace)
        steps = []
        at: tuple[str, Interval] | None = (self.process, self.interval)
        while at is not None:
            seen = trace.get((at[0], at[1].start))
            if seen is None or seen.ended is None:
                break
            step, at = self._step(trace, *at, seen)
            steps.append(step)
        return tuple(reversed(steps))

    def _step(
        self, trace: _Trace, process: str, interval: Interval, seen: _Seen
    ) -> tuple[Step, tuple[str, Interval] | None]:
        """One interval of the chain, and the one that it waited for last."""
        assert seen.ended is not None
        due = due_of(self.scene.catalog, process, interval)
        before: tuple[str, Interval] | None = None
        ready = due
        for given in self.scene.catalog.inputs(process, interval):
            for (name, start), other in trace.items():
                if name == given.process and given.start <= start < given.end:
                    if other.ended is not None and ready <= other.ended <= seen.ended:
                        ready, before = other.ended, (name, other.interval)
        unit = next((one for one in self.scene.units if _is_of(one, process, interval)), None)
        started = seen.started
        if started is None and unit is not None and unit.state is UnitState.IN_PROGRESS:
            started = unit.started_at
        if before is None and unit is not None:
            ready = max(ready, unit.created_at)
        elif before is None:
            ready = max(ready, self.scene.now) if due < self.scene.now else ready
        step = Step(
            process=process,
            interval=interval,
            ready=ready,
            started=started or seen.ended,
            ended=seen.ended,
            attempts=max(seen.attempts, 1),
            by_the_calendar=before is None and due > self.scene.now,
        )
        return step, before


def _is_of(unit: Unit, process: str, interval: Interval) -> bool:
    return unit.process == process and unit.interval == interval and not unit.provisional


def _note(trace: _Trace, entry: FeedEntry) -> None:
    """Write down what matters of a transition: not those of provisional runs."""
    if entry.kind == "unit" and "." in entry.key.rpartition("#")[2]:
        return
    key = entry.process, entry.interval.start
    seen = trace.get(key)
    if seen is None:
        seen = trace[key] = _Seen(entry.interval)
    seen.see(entry)


_NOT_IN_TIME = f"it was not complete within {LONGEST.days} days"
_OVER = frozenset(state.value for state in TERMINAL)


# all that starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One interval that will be worked, over all plays; instants are medians."""

    process: str
    interval: Interval
    starts: datetime
    #: The band of the start.
    low: datetime
    high: datetime | None
    #: None: it does not end within what was played.
    ends: datetime | None
    #: The share of the plays in which it starts.
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What will start until an instant."""

    now: datetime
    until: datetime
    plays: int
    starts: tuple[Start, ...]
    assumed: tuple[str, ...]


def agenda(
    scene: Scene,
    until: datetime,
    *,
    plays: int = FEWEST,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Agenda:
    """What starts until an instant, in order."""
    part, left = scene.lessened((), until)
    stop = clock() + budget
    seen: dict[tuple[str, datetime], list[_Seen]] = {}
    made = 0
    while made < plays and (made == 0 or clock() < stop):
        trace: _Trace = {}
        for entries in part.play(f"{scene.now.isoformat()} agenda {made}", until).run():
            for entry in entries:
                _note(trace, entry)
        for key, one in trace.items():
            if one.started is not None:
                seen.setdefault(key, []).append(one)
        made += 1
    starts = [_start(name, found, made) for (name, _), found in seen.items()]
    known = {start.process for start in starts}
    return Agenda(
        now=scene.now,
        until=until,
        plays=made,
        starts=tuple(sorted((s for s in starts if s.share >= 0.5), key=_in_order)),
        assumed=(*_assumed(scene, [name for name in scene.durations if name in known]), *left),
    )


def _in_order(start: Start) -> tuple[datetime, str, datetime]:
    return start.starts, start.process, start.interval.start


def _start(process: str, found: Sequence[_Seen], plays: int) -> Start:
    begun = sorted(one.started for one in found if one.started is not None)
    ended = sorted(one.ended for one in found if one.ended is not None)
    outside = max((plays + 1) // 20, 1)
    last = plays - outside
    return Start(
        process=process,
        interval=found[0].interval,
        starts=begun[min(plays // 2, len(begun) - 1)],
        low=begun[min(outside, len(begun)) - 1],
        high=begun[last] if last < len(begun) else None,
        ends=ended[plays // 2] if plays // 2 < len(ended) else None,
        share=len(begun) / plays,
    )


# which processes are played


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
    runs = [*ledger.runs(start, stop), (stop, None)]
    behind = (next_ - at for (at, standing), (next_, _) in pairwise(runs) if standing is None)
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
