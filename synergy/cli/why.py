"""``why``: what an interval waits for, the root of it first, and what happens next.

The reasons come from `readiness.judge`, the predicate by which the scheduler decides.  Of all that
an interval waits for, directly or not, the root is what is the least likely to end by itself.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from synergy.cli.naming import interval_named, process_named, reading_of
from synergy.cli.output import Output, ago, clock, command, instant, who
from synergy.clock import SystemClock
from synergy.core.intervals import Interval
from synergy.core.model import Job, Unit, job_key
from synergy.core.readiness import (
    Awaited,
    Held,
    Hopeless,
    IntervalOpen,
    NotBegun,
    Pausing,
    Waiting,
    judge,
)
from synergy.core.states import JobState, UnitState
from synergy.presence import bound_in_vain
from synergy.project import Project
from synergy.reading import Reading
from synergy.scheduler.loop import LEASE_NAME

#: Blockers of one interval that are counted, and that JSON lists.
COUNTED, LISTED = 1000, 100
#: Blockers that are named one by one; more are summed up.
NAMED = 3
#: Intervals looked at in search of the root.
LOOKED_AT = 500
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
#: How a root ends: never by itself, by somebody's request or work, or by the clock.
_STUCK, _AT_WORK, _BY_THE_CLOCK = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Link:
    """One interval of the chain."""

    process: str
    interval: Interval
    state: str
    #: Why it is there, and what happens next, in words.
    text: str
    next: str
    #: When that happens, where it is known.
    at: datetime | None = None
    waits_for: tuple[Awaited, ...] = ()
    #: As a root: how likely it is to end by itself.
    weight: int = _AT_WORK
    #: Commands that may help, each with what it is for.
    hints: tuple[str, ...] = ()


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("process", metavar="PROCESS")
    parser.add_argument(
        "interval", metavar="INTERVAL", help="label such as 2026-11-20T17, 2026-11-20, 2026-11"
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Explain it."""
    reading = reading_of(project)
    process = process_named(reading.catalog, args.process)
    interval = interval_named(reading.catalog, process, args.interval)
    now = SystemClock().now()
    chain = explain(reading, process, interval, now)
    absent = scheduler_absent(reading, now)
    if output.json:
        output.data(
            {
                "process": process,
                "interval": interval.label,
                "state": chain[-1].state,
                "scheduler": absent or "alive",
                "root": _as_json(chain[0]),
                "chain": [_as_json(link) for link in chain],
            }
        )
        return 0
    for depth, link in enumerate(chain):
        lead = "   " * (depth - 1) + "└─ " if depth else ""
        output.line(f"{lead}{link.process} {link.interval.label}  ", output.state(link.state))
        indent = "   " * (depth + 1)
        output.line(f"{indent}{link.text}")
        if link.next:
            when = f", {ago(link.at, now)} ({clock(link.at)} UTC)" if link.at is not None else ""
            output.line(f"{indent}next: {link.next}{when}")
        for hint in link.hints:
            output.line(f"{indent}      {hint}")
    if absent and chain[-1].next:
        output.line(f"! {absent}, so nothing moves; start one: {command('up')}")
    return 0


def explain(reading: Reading, process: str, interval: Interval, now: datetime) -> tuple[Link, ...]:
    """The chain from the root blocker to the interval that was asked about.

    Breadth first, the worst before the better: the nearest of the worst roots is found.
    """
    first = _link(reading, process, interval, now)
    chains: list[tuple[Link, ...]] = [(first,)]
    roots: list[tuple[Link, ...]] = []
    seen = {(process, interval.start)}
    for chain in chains:  # it grows while it is walked
        link = chain[0]
        following = [
            awaited
            for awaited in link.waits_for
            if (awaited.process, awaited.interval.start) not in seen
        ]
        if not following:
            roots.append(chain)
            if link.weight == _STUCK:
                break
        for awaited in following:
            if len(seen) > LOOKED_AT:
                break
            seen.add((awaited.process, awaited.interval.start))
            chains.append((_link(reading, awaited.process, awaited.interval, now), *chain))
    return min(roots, key=lambda chain: chain[0].weight)


def scheduler_absent(reading: Reading, now: datetime) -> str:
    """That no scheduler is alive, and since when; empty where one is."""
    lease = reading.store.read_lease(LEASE_NAME)
    if lease is None:
        return "no scheduler has ever run"
    if lease.until >= now:
        return ""
    if now - lease.until > timedelta(days=10_000):
        return "no scheduler is running"
    return f"no scheduler has been running since {clock(lease.until)} UTC"


def _link(reading: Reading, process: str, interval: Interval, now: datetime) -> Link:
    state = reading.row(process, interval).state
    job = reading.timetable.job(process, interval)
    if job is None:
        return _ended(reading, process, interval, state)
    unit = reading.unit_of(job)
    if unit is not None:
        text, following, at = _at_work(unit, now)
        bound = reading.catalog.boxes_of(process)
        if bound and unit.state is UnitState.REQUESTED and at is None:
            in_vain = bound_in_vain(bound, reading.store.read_boxes(), now)
            text += f"; it is {in_vain or 'bound to boxes ' + ', '.join(bound)}"
            following = "a worker on one of these boxes takes it"
            weight = _STUCK if in_vain else _AT_WORK
            return Link(process, interval, state.value, text, following, weight=weight)
        return Link(process, interval, state.value, text, following, at)
    due = reading.catalog.processes[process].due(interval)
    verdict = judge(reading.timetable, job, now, final=due <= now, limit=COUNTED)
    if isinstance(verdict, Hopeless):
        return Link(process, interval, state.value, str(verdict), "it will be skipped")
    if isinstance(verdict, Waiting):
        return _waiting(reading, job, verdict, now)
    return Link(process, interval, state.value, "nothing holds it", "its unit is requested")


def _waiting(reading: Reading, job: Job, verdict: Waiting, now: datetime) -> Link:
    process, interval, state = job.process, job.interval, job.state.value
    awaited = tuple(reason for reason in verdict.for_ if isinstance(reason, Awaited))
    if awaited:
        text = f"waits for {_summed_up(awaited)}"
        following = "it runs as soon as " + ("that has" if len(awaited) == 1 else "all have")
        return Link(
            process, interval, state, text, f"{following} finished", None, _worst_first(awaited)
        )
    match verdict.for_[0]:
        case NotBegun(until):
            following = "the interval begins"
        case IntervalOpen(until):
            following = "it falls due"
        case Pausing(until):
            following = "its next provisional run"
        case Held() as held:
            return Link(
                process, interval, state, str(held), "the request is carried out to its end"
            )
    text = "its time has not come"
    if not isinstance(verdict.for_[0], NotBegun):
        failed = _failed_inputs(reading, job)
        if failed:
            text += f"; even then it would wait for {_summed_up(failed)}"
            return Link(process, interval, state, text, following, until, failed)
    return Link(process, interval, state, text, following, until, weight=_BY_THE_CLOCK)


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


def _summed_up(awaited: Sequence[Awaited]) -> str:
    """``its child site_hourly 2026-11-20T07 (failed)``, or how many in which states."""
    if len(awaited) <= NAMED:
        return ", ".join(
            f"its {one.kind} {one.process} {one.interval.label} ({one.state.value})"
            for one in _worst_first(awaited)
        )
    groups = Counter((one.kind, one.process) for one in awaited)
    parts = []
    for (kind, process), number in groups.items():
        states = Counter(one.state for one in awaited if (one.kind, one.process) == (kind, process))
        told = ", ".join(f"{states[s]} {s.value}" for s in _WORST_FIRST if states[s])
        several = {"child": "children", "dependency": "dependencies"}[kind]
        parts.append(f"{number} {several if number > 1 else kind} {process}: {told}")
    least = "at least " if len(awaited) >= COUNTED else ""
    return least + "; ".join(parts)


def _worst_first(awaited: Sequence[Awaited]) -> tuple[Awaited, ...]:
    return tuple(sorted(awaited, key=lambda one: _WORST_FIRST.index(one.state)))


def _at_work(unit: Unit, now: datetime) -> tuple[str, str, datetime | None]:
    """What its unit is doing."""
    kind = "provisional unit" if unit.provisional else "unit"
    if unit.state is UnitState.REQUESTED:
        if unit.not_before is not None and unit.not_before > now:
            return (
                f"its {kind} failed: {unit.reason}",
                f"attempt {unit.attempt} of {unit.task.max_attempts} starts",
                unit.not_before,
            )
        before = f" (before: {unit.reason})" if unit.reason else ""
        return f"its {kind} waits for a free worker{before}", "a worker takes it", None
    done = ""
    if unit.progress is not None:
        parts, total, text = unit.progress
        done = f", {parts:g}" + (f" of {total:g}" if total else "") + (f" {text}" if text else "")
    begun = ago(unit.started_at, now) if unit.started_at else "just now"
    by = who(unit.owner or "?")
    return (
        f"its {kind} is at work: attempt {unit.attempt} by {by}, begun {begun}{done}",
        "it ends; if its worker is gone, the next attempt starts when the lease runs out",
        unit.lease_until,
    )


def _ended(reading: Reading, process: str, interval: Interval, state: JobState) -> Link:
    key = job_key(process, interval)
    job = reading.store.read_jobs([key]).get(key)
    reason = job.reason if job is not None else ""
    if state is JobState.FAILED:
        named = f"{process} {interval.label}"
        return Link(
            process,
            interval,
            state.value,
            f"given up: {reason}",
            f"nothing by itself; when its cause is cured: {command(f'reprocess {named}')}",
            weight=_STUCK,
            hints=(
                f"what it printed: {command(f'log {named}')}",
                f"to do without it: {command(f'skip {named}')}",
            ),
        )
    told = f" {clock(job.transitions[-1].at)} UTC" if job and job.transitions else ""
    generation = f", generation {job.generation}" if job is not None else ""
    why = f" ({reason})" if reason else ""
    return Link(process, interval, state.value, f"it has ended{told}{generation}{why}", "")


def _as_json(link: Link) -> dict[str, object]:
    return {
        "process": link.process,
        "interval": link.interval.label,
        "state": link.state,
        "text": link.text,
        "next": link.next,
        "at": instant(link.at) if link.at is not None else None,
        "waits_for": [
            {
                "kind": awaited.kind,
                "process": awaited.process,
                "interval": awaited.interval.label,
                "state": awaited.state.value,
            }
            for awaited in link.waits_for[:LISTED]
        ],
        "waits_for_count": len(link.waits_for),
        "hints": list(link.hints),
    }
