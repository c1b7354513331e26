"""Why an interval stands as it does: what holds it, the root of that first, and what happens next.

Pure functions over a `Reading` and an instant.  Whether a job may run is asked of
`readiness.judge`, by which the scheduler decides; so what is told here is what was consulted there.
What comes after (who could work its unit, whether that is at work, lost, or waits for its time) is
read from the units and from what workers and boxes tell of themselves.

Of all that an interval waits for, directly or not, the root is what is the least likely to end by
itself.  The walk is bounded: so is what waits behind the interval, which is told as "at least".
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from synergy.core import admission, machines
from synergy.core.admission import LaneFull, LimitReached, PoolFull, ProcessOff
from synergy.core.backfills import Backfill
from synergy.core.catalog import Dependency, Input
from synergy.core.intervals import Interval
from synergy.core.model import Job, Json, Request, Unit
from synergy.core.readiness import (
    Awaited,
    Held,
    Hopeless,
    IntervalOpen,
    NotBegun,
    Pausing,
    Reason,
    Waiting,
    judge,
)
from synergy.core.states import JobState, UnitState
from synergy.history import recent_units, typical_duration
from synergy.presence import WorkerRecord, bound_in_vain, holder_of
from synergy.reading import Reading
from synergy.words import ago, clock, duration, instant, who

#: Blockers of one interval that are counted, and that JSON lists.
COUNTED, LISTED = 1000, 100
#: Blockers that are named one by one; more are summed up.
NAMED = 3
#: Intervals looked at in search of the root.
LOOKED_AT = 500
#: Intervals behind the one in question that are looked at.
LOOKED_BEHIND = 1000
#: A request that has not been answered for so long is told of.
UNANSWERED = timedelta(seconds=10)

#: The sooner in this list, the likelier somebody has to do something about it.
_WORST_FIRST = (
    JobState.FAILED,
    JobState.SKIPPED,
    JobState.IN_PROGRESS,
    JobState.FINAL_RUN,
    JobState.EMBRYO,
    JobState.NOOP,
    JobState.PROCESSED,
)


class Cause(StrEnum):
    """What kind of thing holds an interval, or how it has ended."""

    #: The interval lies in the future.
    FUTURE = "future"
    #: It has not ended, or its lag has not passed.
    OPEN = "open"
    #: Its next provisional run has its time.
    PAUSING = "pausing"
    #: A child or dependency is not as far as it must be.
    INPUTS = "inputs"
    #: A request is reopening it together with others.
    REQUEST = "request"
    #: Its source cannot be measured.
    SOURCE = "source"
    #: Its process is switched off.
    OFF = "off"
    #: What its process has missed is being recorded as skipped first.
    RECORDING = "recording"
    #: As many units of its process are out as may be.
    LIMIT = "limit"
    #: As many units of the processes that share its pool are out as may be.
    POOL = "pool"
    #: As many units of the backfill that it belongs to are out as may be.
    LANE = "lane"
    #: A backfill holds it until all of its targets below are done.
    BACKFILL = "backfill"
    #: The backfill that it belongs to, or that holds it, is paused.
    PAUSED = "paused"
    #: It may run; the scheduler requests its unit at its next turn.
    READY = "ready"
    #: What it builds on was skipped; it will be skipped too.
    HOPELESS = "hopeless"
    #: Its attempt failed; the next one has its time.
    BACK_OFF = "back_off"
    #: The boxes that it is bound to are away.
    BOX_AWAY = "box_away"
    #: No worker that is heard of takes units of its process.
    NO_WORKER = "no_worker"
    #: Every slot that could take it is at work.
    WORKERS_BUSY = "workers_busy"
    #: A worker is about to take it.
    FREE_WORKER = "free_worker"
    #: A worker is at it.
    AT_WORK = "at_work"
    #: The worker that has it is not heard of.
    WORKER_GONE = "worker_gone"
    #: It was given up after its attempts.
    GIVEN_UP = "given_up"
    #: It has finished.
    ENDED = "ended"
    #: It has finished, and its result is marked stale.
    STALE = "stale"


#: How a cause ends: never by itself, by somebody's request or work, or by the clock.
_STUCK, _AT_WORK, _BY_THE_CLOCK = 0, 1, 2
_WEIGHTS = {
    Cause.GIVEN_UP: _STUCK,
    Cause.OFF: _STUCK,
    Cause.PAUSED: _STUCK,
    Cause.NO_WORKER: _STUCK,
    Cause.BOX_AWAY: _STUCK,
    Cause.SOURCE: _STUCK,
    Cause.FUTURE: _BY_THE_CLOCK,
    Cause.OPEN: _BY_THE_CLOCK,
    Cause.PAUSING: _BY_THE_CLOCK,
}


@dataclass(frozen=True, slots=True)
class Hint:
    """A command that may help: its verb and arguments, and what it is for."""

    words: str
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One interval of the chain."""

    process: str
    interval: Interval
    state: JobState
    cause: Cause
    #: Why it stands so, and what happens next, in words; empty where nothing does.
    text: str
    next: str
    #: When that happens, where it is known.
    at: datetime | None = None
    waits_for: tuple[Awaited, ...] = ()
    hints: tuple[Hint, ...] = ()

    @property
    def weight(self) -> int:
        """As a root: how likely it is to end by itself."""
        return _WEIGHTS.get(self.cause, _AT_WORK)

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {
            "process": self.process,
            "interval": self.interval.label,
            "state": self.state.value,
            "cause": self.cause.value,
            "text": self.text,
            "next": self.next,
            "at": instant(self.at) if self.at is not None else None,
            "waits_for": [
                {
                    "kind": awaited.kind,
                    "process": awaited.process,
                    "interval": awaited.interval.label,
                    "state": awaited.state.value,
                }
                for awaited in self.waits_for[:LISTED]
            ],
            "waits_for_count": len(self.waits_for),
            "hints": [{"command": hint.words, "purpose": hint.purpose} for hint in self.hints],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What waits for an interval, directly or not, and has begun."""

    #: By process, how many of its intervals.
    intervals: dict[str, int] = field(default_factory=dict)
    #: Since when the first of them has been due; None where none is yet.
    since: datetime | None = None
    #: Whether these are all; else there are at least so many.
    complete: bool = True

    @property
    def number(self) -> int:
        """How many they are."""
        return sum(self.intervals.values())

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {
            "intervals": self.number,
            "processes": dict(self.intervals),
            "since": instant(self.since) if self.since is not None else None,
            "complete": self.complete,
        }

    def __str__(self) -> str:
        told = ", ".join(f"{number} of {name}" for name, number in self.intervals.items())
        least = "" if self.complete else "at least "
        since = f", the oldest due since {clock(self.since)} UTC" if self.since else ""
        are = "interval waits" if self.number == 1 else "intervals wait"
        return f"{least}{self.number} {are} for it ({told}){since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The chain from the root to the interval that was asked about, and what waits behind that."""

    chain: tuple[Link, ...]
    behind: Behind
    #: Why nothing of it moves whatever the chain says: no scheduler is at work, or the one that
    #: leads does nothing; empty where neither is so.
    standstill: str = ""
    #: Whether it is that no scheduler is at work.
    abandoned: bool = False

    @property
    def root(self) -> Link:
        """What is to be looked at first."""
        return self.chain[0]

    @property
    def asked(self) -> Link:
        """The interval that was asked about."""
        return self.chain[-1]


def explain(reading: Reading, process: str, interval: Interval, now: datetime) -> Explanation:
    """Why it stands as it does."""
    root, *others = _chain(reading, process, interval, now)
    chain = (_with_typical(reading, root), *others)
    ended = chain[-1].cause in (Cause.ENDED, Cause.STALE)
    if ended or not reading.present:
        after = Behind() if ended else behind(reading, process, interval, now)
        return Explanation(chain=chain, behind=after)
    absent = scheduler_absent(reading, now)
    return Explanation(
        chain=chain,
        behind=behind(reading, process, interval, now),
        standstill=absent or _unanswered(reading, now),
        abandoned=bool(absent),
    )


def _with_typical(reading: Reading, root: Link) -> Link:
    """With how long its like took lately, where it is at work."""
    if root.cause is not Cause.AT_WORK:
        return root
    typical = typical_duration(recent_units(reading.store, root.process))
    if typical is None:
        return root
    took = duration(typical.total_seconds())
    return replace(root, next=f"{root.next}; those of {root.process} take {took} (median)")


def scheduler_absent(reading: Reading, now: datetime) -> str:
    """That no scheduler is alive, and since when; empty where one is."""
    lease = reading.leader
    if lease is None:
        return "no scheduler has ever run"
    if lease.until >= now:
        return ""
    if now - lease.until > timedelta(days=10_000):
        return "no scheduler is running"
    return f"no scheduler has been running since {clock(lease.until)} UTC"


def _unanswered(reading: Reading, now: datetime) -> str:
    """That the scheduler does not carry out what was filed; empty where it does."""
    waiting = [each for each in reading.requests if now - each.filed_at > UNANSWERED]
    if not waiting:
        return ""
    oldest = min(waiting, key=lambda request: request.filed_at)
    return f"a scheduler leads and has not carried out {request_in_words(oldest, now)}"


def behind(reading: Reading, process: str, interval: Interval, now: datetime) -> Behind:
    """What waits for it, directly or not: intervals that have begun and not ended."""
    found: Counter[str] = Counter()
    since: datetime | None = None
    seen = {(process, interval.start)}
    places = deque([(process, interval)])
    while places:
        for name, waiting in reading.catalog.consumers(*places.popleft()):
            key = (name, waiting.start)
            if key in seen or not _waits(reading, name, waiting, now):
                continue
            if len(seen) > LOOKED_BEHIND:
                return Behind(intervals=dict(found), since=since, complete=False)
            seen.add(key)
            found[name] += 1
            due = reading.catalog.processes[name].due(waiting)
            if due <= now and (since is None or due < since):
                since = due
            places.append((name, waiting))
    return Behind(intervals=dict(found), since=since)


def _waits(reading: Reading, process: str, interval: Interval, now: datetime) -> bool:
    if interval.start > now:
        return False
    return reading.timetable.job(process, interval) is not None


def _chain(reading: Reading, process: str, interval: Interval, now: datetime) -> tuple[Link, ...]:
    """Breadth first, the worst before the better: the nearest of the worst roots is found."""
    chains: list[tuple[Link, ...]] = [(_link(reading, process, interval, now),)]
    roots: list[tuple[Link, ...]] = []
    seen = {(process, interval.start)}
    for chain in chains:  # it grows while it is walked
        link = chain[0]
        following = [
            awaited
            for awaited in link.waits_for
            if (awaited.process, awaited.interval.start) not in seen
        ]
        if not link.waits_for or len(seen) > LOOKED_AT:
            roots.append(chain)
            if link.weight == _STUCK:
                break
        following = following[: max(0, LOOKED_AT + 1 - len(seen))]
        reading.look_at(_active(reading, following))
        for awaited in following:
            seen.add((awaited.process, awaited.interval.start))
            chains.append((_link(reading, awaited.process, awaited.interval, now), *chain))
    return min(roots, key=lambda chain: chain[0].weight)


def _active(reading: Reading, places: Iterable[Awaited]) -> Iterator[Job]:
    """Those of them of which something is written."""
    active = reading.timetable.active
    found = (active.get((place.process, place.interval.start)) for place in places)
    return (job for job in found if job is not None)


def _link(reading: Reading, process: str, interval: Interval, now: datetime) -> Link:
    job = reading.timetable.job(process, interval)
    if job is None:
        return _ended(reading, process, interval)
    unit = reading.unit_of(job)
    if unit is None and not (job.unit and job.state.at_work):
        return _before_its_unit(reading, job, now)
    if unit is None:
        return _Told(job).link
    found = _with_unit(reading, job, unit, now)
    return found.link


@dataclass(frozen=True, slots=True)
class _Told:
    """A link in the making."""

    job: Job
    cause: Cause = Cause.READY
    text: str = "its unit is to be made"
    next: str = "the scheduler requests it at its next turn"
    at: datetime | None = None
    hints: tuple[Hint, ...] = ()

    @property
    def link(self) -> Link:
        return Link(
            process=self.job.process,
            interval=self.job.interval,
            state=self.job.state,
            cause=self.cause,
            text=self.text,
            next=self.next,
            at=self.at,
            hints=self.hints,
        )


# before its unit is requested


def _before_its_unit(reading: Reading, job: Job, now: datetime) -> Link:
    """It may not run yet, or may not be dispatched."""
    link = _not_ready(reading, job, now)
    closed = admission.closed_by(job.process, reading.switches.get(job.process))
    if link.cause in (Cause.FUTURE, Cause.OFF) or not isinstance(closed, ProcessOff):
        return link
    besides = "" if link.cause is Cause.READY else f"; besides, {link.text}"
    told = _obstructed(reading, job, closed)
    return replace(told, text=f"{told.text}{besides}")


def _not_ready(reading: Reading, job: Job, now: datetime) -> Link:
    due = reading.catalog.processes[job.process].due(job.interval)
    verdict = judge(reading.timetable, job, now, final=due <= now, limit=COUNTED)
    if isinstance(verdict, Hopeless):
        return _Told(job, Cause.HOPELESS, str(verdict), "it will be skipped").link
    if isinstance(verdict, Waiting):
        return _waiting(reading, job, verdict, now)
    if job.reason.startswith(machines.UNMEASURED):
        source = reading.catalog.processes[job.process].task.source
        text = f"{job.reason} (source {source})"
        return _Told(job, Cause.SOURCE, text, "it is measured again, every 10 s").link
    obstacle = next(admission.obstacles(reading.under_way(), job.process), None)
    lane = reading.lane_of(job)
    if obstacle is None and lane is not None:
        obstacle = reading.lane_full(lane, now)
    if obstacle is not None:
        return _obstructed(reading, job, obstacle)
    return _Told(job, text="it waits for nothing any more").link


def _obstructed(reading: Reading, job: Job, obstacle: admission.Obstacle) -> Link:
    """It may run, and no unit of its process may go out now."""
    out: list[Job]
    match obstacle:
        case ProcessOff(name):
            hint = Hint(f"process on {name}", "to switch it on")
            told = _Told(job, Cause.OFF, str(obstacle), "nothing by itself", None, (hint,))
            return told.link
        case LimitReached(name):
            cause, out = Cause.LIMIT, reading.out_of(name)
        case PoolFull(_, _, members):
            cause = Cause.POOL
            out = [each for name, _ in members for each in reading.out_of(name)]
        case LaneFull(key) if reading.backfills[key].paused:
            text = backfill_in_words(reading.backfills[key])
            return _Told(job, Cause.PAUSED, text, "nothing by itself").link
        case LaneFull(key):
            cause, out = Cause.LANE, reading.out_of_lane(reading.backfills[key])
        case _:
            following = "it goes on when that is done"
            return _Told(job, Cause.RECORDING, str(obstacle), following).link
    oldest = sorted(out, key=lambda each: each.interval.start)[:NAMED]
    told = _Told(job, cause, str(obstacle), "one of these ends")
    return replace(told.link, waits_for=tuple(map(_ahead, oldest)))


def _ahead(job: Job) -> Awaited:
    """One whose unit is out in its place."""
    return Awaited("ahead", job.process, job.interval, job.state)


def _waiting(reading: Reading, job: Job, verdict: Waiting, now: datetime) -> Link:
    awaited = tuple(reason for reason in verdict.for_ if isinstance(reason, Awaited))
    if awaited:
        told = _Told(job, Cause.INPUTS, f"waits for {_summed_up(reading, job, awaited)}").link
        following = "it runs as soon as " + ("that has" if len(awaited) == 1 else "all have")
        told = replace(told, next=f"{following} finished", waits_for=_worst_first(awaited))
        return _in_a_row(reading, told)
    first = verdict.for_[0]
    if isinstance(first, Held) and first.request in reading.backfills:
        return _held_by_backfill(reading, job, reading.backfills[first.request], now)
    if isinstance(first, Held):
        text = _held(reading, first, now)
        return _Told(job, Cause.REQUEST, text, "the request is carried out to its end").link
    told = _by_the_clock(job, first)
    if told.cause is Cause.FUTURE:
        return told
    failed = _failed_inputs(reading, job)
    if failed:
        told = replace(
            told,
            cause=Cause.INPUTS,
            text=f"{told.text}; even then it would wait for {_summed_up(reading, job, failed)}",
            waits_for=failed,
        )
    return told


def _in_a_row(reading: Reading, link: Link) -> Link:
    """Where each waits for the one before it, what it waits for in truth is the first of the row:
    no look at all those between."""
    name = link.process
    before = next((each for each in link.waits_for if each.process == name), None)
    if before is None or before.state is JobState.FAILED:
        return link
    calendar, ledger = reading.catalog.processes[name].calendar, reading.timetable.ledgers[name]
    begins = ledger.start_of_run(before.interval.start) or reading.catalog.spans[name][0]
    first = calendar.starting_at(max(begins, reading.catalog.spans[name][0]))
    if first.end >= before.interval.start:
        return link
    number = sum(1 for _ in islice(calendar.between(first.start, link.interval.start), COUNTED))
    row = f"at least {number}" if number == COUNTED else str(number)
    state = reading.timetable.state(name, first)
    return replace(
        link,
        text=f"{link.text}; {row} in a row wait so, from {first.label} on",
        waits_for=tuple(
            Awaited(each.kind, name, first, state) if each is before else each
            for each in link.waits_for
            if each is before or each.process != name
        ),
    )


def _by_the_clock(job: Job, reason: Reason) -> Link:
    cause, until = _UNTIL[type(reason)], getattr(reason, "until", None)
    following = {
        Cause.FUTURE: "the interval begins",
        Cause.OPEN: "it falls due",
        Cause.PAUSING: "its next provisional run",
    }[cause]
    return _Told(job, cause, "its time has not come", following, until).link


_UNTIL = {NotBegun: Cause.FUTURE, IntervalOpen: Cause.OPEN, Pausing: Cause.PAUSING}


def _held(reading: Reading, held: Held, now: datetime) -> str:
    """Whose request holds it, since when and why."""
    found = [request for request in reading.requests if request.id == held.request]
    return f"{request_in_words(found[0], now)}, holds it" if found else str(held)


def _held_by_backfill(reading: Reading, job: Job, backfill: Backfill, now: datetime) -> Link:
    """It is made anew once, when all of the backfill's targets below it are done."""
    text = f"{backfill_in_words(backfill)}; it holds this until all below is done"
    if backfill.paused:
        return _Told(job, Cause.PAUSED, text, "nothing by itself").link
    if backfill.process not in reading.catalog.processes:
        text += f", and {backfill.process} is not registered: register it again, or cancel that"
        return _Told(job, Cause.BACKFILL, text, "nothing by itself").link
    told = _Told(job, Cause.BACKFILL, text, "it is released when all below it is done").link
    due = reading.catalog.processes[job.process].due(job.interval) <= now
    later = judge(reading.timetable, replace(job, holds=()), now, final=due, limit=COUNTED)
    if isinstance(later, Waiting):
        awaited = tuple(reason for reason in later.for_ if isinstance(reason, Awaited))
        return replace(told, waits_for=_worst_first(awaited))
    closed = admission.closed_by(backfill.process, reading.switches.get(backfill.process))
    if not isinstance(closed, ProcessOff):
        return told
    return replace(_obstructed(reading, job, closed), text=f"{text}; {closed}")


def backfill_in_words(backfill: Backfill) -> str:
    """Whose it is, since when, and how far."""
    by = f" by {backfill.actor}" if backfill.actor else ""
    why = f" ({backfill.reason})" if backfill.reason else ""
    how = "is paused" if backfill.paused else "goes on"
    return (
        f"backfill {backfill.id} of {backfill.process}, filed{by} {clock(backfill.filed_at)} UTC"
        f"{why}, {how} with {backfill.passed} of {backfill.total} opened"
    )


def request_in_words(request: Request, now: datetime) -> str:
    """Who filed it, when and why."""
    by = f" by {request.actor}" if request.actor else ""
    why = f" ({request.reason})" if request.reason else ""
    filed = ago(request.filed_at, now)
    return f"request {request.id}, {request.action} {request.process} filed{by} {filed}{why}"


def _failed_inputs(reading: Reading, job: Job) -> tuple[Awaited, ...]:
    """What has failed already of all that the interval will wait for once it is due."""
    due = reading.catalog.processes[job.process].due(job.interval)
    later = judge(reading.timetable, job, due, final=True, limit=COUNTED)
    if not isinstance(later, Waiting):
        return ()
    return tuple(
        reason
        for reason in later.for_
        if isinstance(reason, Awaited) and reason.state is JobState.FAILED
    )


def _summed_up(reading: Reading, job: Job, awaited: Sequence[Awaited]) -> str:
    """``its child site_hourly 2026-11-20T07 (failed)``, ``the last 7 of site_daily, of which
    2026-11-18 (failed) is missing``, or how many in which states."""
    least = "at least " if len(awaited) >= COUNTED else ""
    rest, parts = list(awaited), []
    for given, words in _inputs_in_words(reading, job):
        mine = [one for one in rest if _belongs(one, given)]
        if mine:
            parts.append(_missing(reading, given, words, mine))
            rest = [one for one in rest if not _belongs(one, given)]
    return least + "; ".join(parts)


def _inputs_in_words(reading: Reading, job: Job) -> Iterator[tuple[Input, str]]:
    """What the interval waits for, each with what the context calls it; empty where that says no
    more than the interval itself."""
    catalog, process = reading.catalog, reading.catalog.processes[job.process]
    for given in catalog.inputs(process.name, job.interval):
        if given.kind == "child":
            yield given, ""
    for dependency in process.after:
        found = catalog.input_by(process.name, job.interval, dependency)
        if found is not None:
            yield found, _dependency_in_words(process.name, dependency)


def _dependency_in_words(process: str, dependency: Dependency) -> str:
    name, back = dependency.process, -dependency.offset
    if dependency.window is not None:
        shifted = f", ending {back} before its own" if back > 0 else ""
        return f"the last {dependency.window} of {name}{shifted}"
    if back == 1:
        return "its previous interval" if name == process else f"the previous {name}"
    return f"{name}, {back} intervals back" if back > 0 else ""


def _belongs(awaited: Awaited, given: Input) -> bool:
    return (awaited.kind, awaited.process) == (given.kind, given.process) and (
        given.start <= awaited.interval.start < given.end
    )


def _missing(reading: Reading, given: Input, words: str, awaited: Sequence[Awaited]) -> str:
    named = [f"{one.interval.label} ({one.state.value})" for one in _worst_first(awaited)]
    if words:
        whole = reading.catalog.processes[given.process].calendar
        single = whole.starting_at(given.start).end >= given.end
        are = "is" if len(awaited) == 1 else "are"
        if single:
            return f"{words}, {named[0]}"
        if len(awaited) <= NAMED:
            return f"{words}, of which {' and '.join(named)} {are} missing"
        return f"{words}, of which {len(awaited)} are missing: {_states_of(awaited)}"
    if len(awaited) <= NAMED:
        return ", ".join(f"its {given.kind} {given.process} {one}" for one in named)
    several = {"child": "children", "dependency": "dependencies"}[given.kind]
    return f"{len(awaited)} {several} {given.process}: {_states_of(awaited)}"


def _states_of(awaited: Iterable[Awaited]) -> str:
    states = Counter(one.state for one in awaited)
    return ", ".join(f"{states[s]} {s.value}" for s in _WORST_FIRST if states[s])


def _worst_first(awaited: Sequence[Awaited]) -> tuple[Awaited, ...]:
    return tuple(sorted(awaited, key=lambda one: _WORST_FIRST.index(one.state)))


# its unit is out


def _with_unit(reading: Reading, job: Job, unit: Unit, now: datetime) -> _Told:
    if unit.state.terminal:
        text = f"its unit has ended as {unit.state.value}"
        return _Told(job, text=text, next="the scheduler takes that over at its next turn")
    if unit.state is not UnitState.REQUESTED:
        return _at_work(reading, job, unit, now)
    kind = "provisional unit" if unit.provisional else "unit"
    named = f"{job.process} {job.interval.label}"
    if unit.not_before is not None and unit.not_before > now:
        return _Told(
            job,
            Cause.BACK_OFF,
            f"its {kind} failed: {unit.reason}",
            f"attempt {unit.attempt} of {unit.task.max_attempts} starts",
            unit.not_before,
            (
                Hint(f"trigger {named}", "to start it at once"),
                Hint(f"log {named}", "what it printed"),
            ),
        )
    before = f" (before: {unit.reason})" if unit.reason else ""
    if not reading.present:
        text = f"its {kind} waits for a worker{before}; who listened is not remembered"
        return _Told(job, Cause.FREE_WORKER, text, "a worker takes it")
    return _unclaimed(reading, job, f"its {kind} waits for a free worker{before}", now)


def _unclaimed(reading: Reading, job: Job, text: str, now: datetime) -> _Told:
    """Who could take its unit, and why nobody does."""
    bound = reading.catalog.boxes_of(job.process)
    in_vain = bound_in_vain(bound, reading.boxes, now)
    takers = [worker for worker in reading.workers if worker.takes(job.process)]
    heard = [worker for worker in takers if not worker.is_silent(now)]
    if in_vain:
        following = "a worker on one of these boxes takes it"
        return _Told(job, Cause.BOX_AWAY, f"{text}; it is {in_vain}", following)
    if not heard:
        return _no_worker(reading, job, text, takers, now)
    if bound:
        text += f"; it is bound to boxes {', '.join(bound)}"
    busy = {worker.owner: _work_of(reading, worker) for worker in heard}
    if all(len(busy[worker.owner]) >= worker.slots for worker in heard):
        return _all_busy(job, text, heard, busy, now)
    return _Told(job, Cause.FREE_WORKER, text, "a worker takes it")


def _no_worker(
    reading: Reading, job: Job, text: str, silent: Sequence[WorkerRecord], now: datetime
) -> _Told:
    """Nobody listens for it: who did last, and which program should."""
    text += f"; no worker listens for {job.process}"
    if silent:
        last = max(silent, key=lambda worker: worker.seen_at)
        text += f": {last.program} on {last.box} was heard of last, {ago(last.seen_at, now)}"
    should = [each for each in reading.catalog.programs.values() if each.works_on(job.process)]
    names = [each.name for each in should] or ["worker"]
    if reading.catalog.programs and not should:
        text += ", and no program of the context takes its units"
    hints = tuple(Hint(f"start {name}", "to work on it, on this box") for name in names)
    return _Told(job, Cause.NO_WORKER, text, "a worker that is started takes it", None, hints)


def _work_of(reading: Reading, worker: WorkerRecord) -> list[Unit]:
    """What a worker has in its slots."""
    return [
        unit for unit in reading.held.get(worker.owner, ()) if unit.state is UnitState.IN_PROGRESS
    ]


def _all_busy(
    job: Job,
    text: str,
    workers: Sequence[WorkerRecord],
    busy: dict[str, list[Unit]],
    now: datetime,
) -> _Told:
    units = [unit for worker in workers for unit in busy[worker.owner]]
    units.sort(key=lambda unit: unit.started_at or now)
    told = [f"{unit.key} begun {ago(unit.started_at or now, now)}" for unit in units[:NAMED]]
    more = f" and {len(units) - NAMED} more" if len(units) > NAMED else ""
    slots = sum(worker.slots for worker in workers)
    text += f"; all {slots} slots that could take it are at work: {', '.join(told)}{more}"
    hint = Hint("status", "which workers there are")
    return _Told(job, Cause.WORKERS_BUSY, text, "one of these ends", None, (hint,))


def _at_work(reading: Reading, job: Job, unit: Unit, now: datetime) -> _Told:
    """What its worker does, or that the worker is gone."""
    kind = "provisional unit" if unit.provisional else "unit"
    by, until = who(unit.owner or "a worker"), unit.lease_until
    holder = holder_of(unit.owner or "", reading.workers)
    if until is not None and until <= now:
        text = f"its {kind} was at work by {by}, whose lease ran out {ago(until, now)}"
        following = "the scheduler takes it from that worker, and another begins it again"
        return _Told(job, Cause.WORKER_GONE, text, following)
    if holder is not None and holder.is_silent(now):
        text = f"its {kind} was at work by {by}, not heard of since {clock(holder.seen_at)} UTC"
        return _Told(job, Cause.WORKER_GONE, text, "its lease runs out; another begins it", until)
    if unit.state is UnitState.CLAIMED:
        text = f"its {kind} was claimed ahead by {by}"
        return _Told(job, Cause.AT_WORK, text, "it starts, or is handed back", until)
    done = ""
    if unit.progress is not None:
        parts, total, words = unit.progress
        done = f", {parts:g}" + (f" of {total:g}" if total else "") + (f" {words}" if words else "")
    begun = ago(unit.started_at, now) if unit.started_at else "just now"
    return _Told(
        job,
        Cause.AT_WORK,
        f"its {kind} is at work: attempt {unit.attempt} by {by}, begun {begun}{done}",
        "it ends; if its worker is gone, the next attempt starts when the lease runs out",
        until,
    )


# it has ended


def _ended(reading: Reading, process: str, interval: Interval) -> Link:
    state = reading.timetable.state(process, interval)
    job = reading.document(process, interval)
    reason = job.reason if job is not None else ""
    if state is JobState.FAILED:
        named = f"{process} {interval.label}"
        return Link(
            process=process,
            interval=interval,
            state=state,
            cause=Cause.GIVEN_UP,
            text=f"given up: {reason}",
            next="nothing by itself",
            hints=(
                Hint(f"reprocess {named}", "when its cause is cured"),
                Hint(f"log {named}", "what it printed"),
                Hint(f"skip {named}", "to do without it"),
            ),
        )
    told = f" {clock(job.transitions[-1].at)} UTC" if job and job.transitions else ""
    generation = f"generation {job.generation}" if job is not None else ""
    why = f" ({reason})" if reason else ""
    stale = job is not None and job.outdated
    return Link(
        process=process,
        interval=interval,
        state=state,
        cause=Cause.STALE if stale else Cause.ENDED,
        text=f"its result of {generation} stands and is marked stale{why}"
        if stale
        else f"it has ended{told}{f', {generation}' if generation else ''}{why}",
        next="",
        hints=(Hint(f"reprocess {process} {interval.label}", "to make it anew"),) if stale else (),
    )
