"""What is wrong, what runs and what comes next: the page that one looks at first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from synergy.core.intervals import Interval
from synergy.core.model import BoxRecord, Job, Unit, job_key
from synergy.core.states import JobState, UnitState
from synergy.mx.picture import Picture
from synergy.mx.words import ago, clock, number, took, who
from synergy.presence import is_silent

#: Failed intervals of a process that are named, the newest first; more are counted.
NAMED = 20
#: Intervals looked at to tell what a failure holds up.
LOOKED_AT = 300
#: Units at work that are listed.
LISTED = 50
#: Intervals to come that are listed.
COMING = 12


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed interval and what it holds up."""

    process: str
    label: str
    reason: str
    #: ``site_daily 1, site_monthly 1``; empty where it holds nothing.
    holds: str


@dataclass(frozen=True, slots=True)
class Running:
    """A unit at work."""

    process: str
    label: str
    state: str
    attempt: str
    worker: str
    elapsed: str
    #: Share done, 0 to 1; None where it is not known.
    share: float | None
    progress: str
    remaining: str


@dataclass(frozen=True, slots=True)
class Coming:
    """An interval that falls due."""

    process: str
    label: str
    due: str
    within: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a process is."""

    process: str
    tree: str
    finished_until: str
    active: int
    failed: int
    skipped: int
    stale: int


@dataclass(frozen=True, slots=True)
class NowView:
    """The page."""

    failures: Sequence[Failure]
    more_failures: int
    troubles: Sequence[str]
    running: Sequence[Running]
    more_running: int
    waiting_units: str
    coming: Sequence[Coming]
    processes: Sequence[Progress]
    open_requests: int


#: A failed interval.
Place = tuple[str, Interval]


def failed_places(picture: Picture) -> tuple[list[Place], int]:
    """The failed intervals that are named, the newest first, and how many more there are."""
    found: list[Place] = []
    total = 0
    for name in picture.catalog.processes:
        summary = picture.summary(name)
        total += summary.failed
        found += [(name, interval) for interval in summary.newest_failed]
    found.sort(key=lambda place: place[1].start, reverse=True)
    return found[:NAMED], total - len(found[:NAMED])


def now_view(
    picture: Picture,
    now: datetime,
    jobs: Mapping[str, Job],
    typical: Mapping[str, timedelta | None],
) -> NowView:
    """The page; `jobs` are the documents of what failed, `typical` how long units take."""
    places, more = failed_places(picture)
    held = [unit for unit in picture.held.values() if unit.state is UnitState.IN_PROGRESS]
    held.sort(key=lambda unit: unit.started_at or now)
    claimed = len(picture.held) - len(held)
    return NowView(
        failures=[_failure(picture, place, jobs) for place in places],
        more_failures=more,
        troubles=_troubles(picture.boxes, now),
        running=[_running(unit, now, typical.get(unit.process)) for unit in held[:LISTED]],
        more_running=max(0, len(held) - LISTED),
        waiting_units=f"{number(claimed, 'unit')} claimed ahead" if claimed else "",
        coming=_coming(picture, now),
        processes=[
            progress_of(picture, name)
            for tree in picture.catalog.trees.values()
            for name in tree.processes
        ],
        open_requests=len(picture.requests),
    )


def progress_of(picture: Picture, name: str) -> Progress:
    """How far a process is."""
    summary, active = picture.summary(name), picture.active_of(name)
    return Progress(
        process=name,
        tree=picture.catalog.processes[name].tree,
        finished_until=clock(summary.finished_until) if summary.finished_until else "–",
        active=len(active),
        failed=summary.failed,
        skipped=summary.skipped,
        stale=sum(job.stale for job in active) + summary.outdated,
    )


def _troubles(boxes: Sequence[BoxRecord], now: datetime) -> list[str]:
    found = []
    for record in boxes:
        if is_silent(record, now):
            found.append(f"box {record.box} is silent, last heard {ago(record.seen_at, now)}")
            continue
        if record.trouble:
            found.append(f"box {record.box}: {record.trouble}")
        found += [
            f"{program.name} of {record.box} is in a crash loop: {program.reason}"
            for program in record.programs
            if program.state == "crash_loop"
        ]
    return found


def _failure(picture: Picture, place: Place, jobs: Mapping[str, Job]) -> Failure:
    process, interval = place
    job = jobs.get(job_key(process, interval))
    held = Counter(name for name, _ in _held_up(picture, place))
    holds = ", ".join(f"{count} {name}" for name, count in held.items())
    return Failure(process, interval.label, job.reason if job is not None else "", holds)


def _held_up(picture: Picture, place: Place) -> list[Place]:
    """Who waits for it, directly or not, as far as one looks."""
    waiting, seen = [place], {(place[0], place[1].start)}
    for process, interval in waiting:  # it grows while it is walked
        for name, other in picture.catalog.consumers(process, interval):
            key = (name, other.start)
            if key in seen or len(seen) > LOOKED_AT:
                continue
            seen.add(key)
            if picture.timetable.state(name, other) is JobState.EMBRYO:
                waiting.append((name, other))
    return waiting[1:]


def _running(unit: Unit, now: datetime, typical: timedelta | None) -> Running:
    elapsed = now - unit.started_at if unit.started_at is not None else timedelta(0)
    share, told = None, ""
    if unit.progress is not None:
        done, total, text = unit.progress
        share = min(1.0, max(0.0, done / total)) if total else None
        told = f"{done:g}" + (f" of {total:g}" if total else "") + (f" {text}" if text else "")
    remaining = ""
    if typical is not None and not unit.provisional:
        left = typical - elapsed
        remaining = f"≈ {took(left)}" if left > timedelta(0) else f"over by {took(-left)}"
    return Running(
        process=unit.process,
        label=unit.interval.label,
        state=unit.state.value,
        attempt=f"{unit.attempt} of {unit.task.max_attempts}",
        worker=who(unit.owner or ""),
        elapsed=took(elapsed),
        share=share,
        progress=told,
        remaining=remaining,
    )


def _coming(picture: Picture, now: datetime) -> list[Coming]:
    """The next interval of each process that falls due, the soonest first."""
    found = []
    for name, process in picture.catalog.processes.items():
        first, last = picture.catalog.spans[name]
        interval = process.calendar.containing(max(now - process.lag, first))
        if last is None or interval.end <= last:
            found.append((process.due(interval), name, interval.label))
    found.sort()
    return [Coming(name, label, clock(due), took(due - now)) for due, name, label in found[:COMING]]
