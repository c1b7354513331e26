"""One interval: where it is and why, what it is made of, who waits for it, what was tried."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from urllib.parse import quote

from synergy.core.catalog import Catalog, Process
from synergy.core.intervals import Interval
from synergy.core.model import Job, Unit, unit_key
from synergy.core.states import JobState
from synergy.explanation import Link
from synergy.history import duration
from synergy.mx.looks import LOOKS, NOT_DUE, OF_JOBS, Look, look_of
from synergy.mx.picture import Picture
from synergy.mx.views.matrix import counts_shown, state_of
from synergy.mx.words import ago, clock, took, who

#: Intervals of one input that are shown one by one; more are counted.
SHOWN = 62
#: Those who wait for it that are shown.
CONSUMERS = 40
#: Generations and provisional runs that are looked for.
GENERATIONS, RUNS = 4, 5


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another interval, as a link."""

    process: str
    label: str
    look: Look
    #: "parent", "dependent", …
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Related:
    """The intervals of one process that this one waits for."""

    kind: str
    process: str
    total: int
    finished: int
    #: ``22 processed, 2 in_progress``.
    counted: str
    shown: Sequence[Neighbour]


@dataclass(frozen=True, slots=True)
class Reason:
    """One link of the chain that says why."""

    process: str
    label: str
    look: Look
    text: str
    next: str
    at: str
    hints: Sequence[str]
    #: Its page; of a firing that of its freerun.
    href: str


@dataclass(frozen=True, slots=True)
class Try:
    """A unit of work."""

    key: str
    generation: int
    run: int
    look: Look
    attempt: str
    worker: str
    requested: str
    started: str
    took: str
    count: str
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A transition."""

    at: str
    before: Look
    after: Look
    generation: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """A station of the strip of states."""

    look: Look
    reached: str
    current: bool


@dataclass(frozen=True, slots=True)
class IntervalView:
    """The page."""

    process: str
    label: str
    tree: str
    granularity: str
    span: str
    zone: str
    look: Look
    since: str
    due: str
    generation: int
    stale: bool
    machine: str
    previous: str
    next: str
    parent: Neighbour | None
    steps: Sequence[Step]
    why: Sequence[Reason]
    inputs: Sequence[Related]
    consumers: Sequence[Neighbour]
    more_consumers: bool
    tries: Sequence[Try]
    moved: Sequence[Moved]
    #: What may be asked for: "reprocess", "skip", "unskip", "trigger".
    actions: Sequence[str]


def unit_keys(process: str, interval: Interval, job: Job) -> list[str]:
    """The units that are shown, the newest first."""
    keys = []
    for generation in range(job.generation, max(0, job.generation - GENERATIONS), -1):
        keys.append(unit_key(process, interval, generation))
        if generation == job.generation:
            keys += [
                unit_key(process, interval, generation, run)
                for run in range(job.runs, max(0, job.runs - RUNS), -1)
            ]
    return keys


def interval_view(
    picture: Picture,
    process: Process,
    interval: Interval,
    job: Job,
    units: Sequence[Unit],
    why: Sequence[Link],
    now: datetime,
) -> IntervalView:
    """The page; `job` is the document, `units` are those found of `unit_keys`, `why` the chain."""
    catalog, name, zone = picture.catalog, process.name, process.calendar.zone
    state = job.state.value
    if job.state is JobState.EMBRYO and process.due(interval) > now:
        state = NOT_DUE
    before, after = process.calendar.previous(interval), process.calendar.next(interval)
    parent = catalog.parent(name, interval)
    consumers = list(islice(catalog.consumers(name, interval), CONSUMERS + 1))
    last = job.transitions[-1] if job.transitions else None
    return IntervalView(
        process=name,
        label=interval.label,
        tree=process.tree,
        granularity=process.calendar.granularity.value,
        span=f"{clock(interval.start, zone)} – {clock(interval.end, zone)}",
        zone=zone,
        look=look_of(state),
        since=f"{clock(last.at, zone)} ({ago(last.at, now)})" if last else "",
        due=f"{clock(process.due(interval), zone)} ({ago(process.due(interval), now)})",
        generation=job.generation,
        stale=job.stale,
        machine=process.machine,
        previous=before.label if catalog.exists(name, before) else "",
        next=after.label if catalog.exists(name, after) else "",
        parent=_neighbour(picture, *parent, now, "parent") if parent else None,
        steps=_steps(process, job, state, zone),
        why=reasons_of(why, catalog, zone),
        inputs=[
            _related(picture, given.kind, given.process, given.start, given.end, now)
            for given in catalog.inputs(name, interval)
        ],
        consumers=[_neighbour(picture, *each, now) for each in consumers[:CONSUMERS]],
        more_consumers=len(consumers) > CONSUMERS,
        tries=[_try(unit, zone) for unit in units],
        moved=[
            Moved(
                clock(move.at, zone),
                look_of(move.before),
                look_of(move.after),
                move.generation,
                move.attempt,
                move.reason,
            )
            for move in reversed(job.transitions)
        ],
        actions=_actions(job, interval, now),
    )


def _actions(job: Job, interval: Interval, now: datetime) -> list[str]:
    found = []
    if interval.start <= now:
        found.append("reprocess")
    if not job.state.finished:
        found.append("skip")
    if job.state is JobState.SKIPPED:
        found.append("unskip")
    if job.state.at_work:
        found.append("trigger")
    return found


def _neighbour(
    picture: Picture, process: str, interval: Interval, now: datetime, kind: str = ""
) -> Neighbour:
    registered = picture.catalog.processes[process]
    return Neighbour(
        process, interval.label, look_of(state_of(picture, registered, interval, now)), kind
    )


def _related(
    picture: Picture, kind: str, process: str, start: datetime, end: datetime, now: datetime
) -> Related:
    registered = picture.catalog.processes[process]
    counted = counts_shown(picture, registered, start, end, now)
    total = sum(counted.values())
    words = [word for word in (*OF_JOBS, NOT_DUE) if counted[word]]
    intervals: Iterable[Interval] = (
        registered.calendar.between(start, end) if total <= SHOWN else ()
    )
    return Related(
        kind,
        process,
        total,
        _finished(counted),
        ", ".join(f"{counted[word]:,} {word}" for word in words),
        [_neighbour(picture, process, interval, now) for interval in intervals],
    )


def _finished(counted: Counter[str]) -> int:
    return counted["processed"] + counted["noop"] + counted["skipped"]


def reasons_of(chain: Sequence[Link], catalog: Catalog, zone: str) -> list[Reason]:
    """The links of an explanation as a page shows them, the root first."""
    return [_reason(link, link.process in catalog.freeruns, zone) for link in chain]


def _reason(link: Link, is_firing: bool, zone: str) -> Reason:
    label = link.interval.label
    return Reason(
        process=link.process,
        label=label,
        look=look_of(link.state),
        text=link.text,
        next=link.next,
        at=clock(link.at, zone) if link.at is not None else "",
        hints=[f"{hint.purpose}: ./launch.py {hint.words}" for hint in link.hints],
        href=f"/freeruns/{link.process}" if is_firing else f"/t/{link.process}/{quote(label)}",
    )


def _try(unit: Unit, zone: str) -> Try:
    length = duration(unit)
    return Try(
        key=unit.key,
        generation=unit.generation,
        run=unit.run,
        look=look_of(unit.state.value),
        attempt=f"{unit.attempt} of {unit.task.max_attempts}",
        worker=who(unit.owner or ""),
        requested=clock(unit.created_at, zone),
        started=clock(unit.started_at, zone) if unit.started_at else "",
        took=took(length) if length is not None else "",
        count=f"{unit.count:,}" if unit.count is not None else "",
        reason=unit.reason,
    )


def _steps(process: Process, job: Job, state: str, zone: str) -> list[Step]:
    """The way of a job: where it was, where it is, where it goes."""
    way = ["embryo", "in_progress"]
    if process.open_ended:
        way.append("final_run")
    end = state if job.state.terminal else "processed"
    reached = {move.after: clock(move.at, zone) for move in job.transitions}
    current = "embryo" if state == NOT_DUE else state
    return [
        Step(LOOKS[word], reached.get(word, ""), word == current)
        for word in dict.fromkeys([*way, end])
    ]
