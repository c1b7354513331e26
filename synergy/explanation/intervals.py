"""Why one interval stands as it does.

Whether it may run is asked of `readiness.judge`, by which the scheduler decides; so what is told
here is what was consulted there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice

from synergy.core import admission, machines
from synergy.core.admission import ProcessOff
from synergy.core.backfills import Backfill
from synergy.core.catalog import Dependency, Input
from synergy.core.intervals import Interval
from synergy.core.model import Job, Request
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
from synergy.core.states import JobState
from synergy.explanation.causes import COUNTED, NAMED, NOTHING, Cause, Hint, Link, ready, stands
from synergy.explanation.dispatch import backfill_in_words, obstructed, with_unit
from synergy.reading import Reading
from synergy.words import ago, clock

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


def link_of(reading: Reading, process: str, interval: Interval, now: datetime) -> Link:
    """The link of an interval."""
    job = reading.timetable.job(process, interval)
    if job is None:
        return _ended(reading, process, interval)
    unit = reading.unit_of(job)
    if unit is None and not (job.unit and job.state.at_work):
        return _before_its_unit(reading, job, now)
    if unit is None:
        return ready(job, "its unit is to be made")
    return with_unit(reading, job, unit, now)


def _before_its_unit(reading: Reading, job: Job, now: datetime) -> Link:
    """It may not run yet, or may not be dispatched."""
    link = _not_ready(reading, job, now)
    closed = admission.closed_by(job.process, reading.switches.get(job.process))
    if link.cause in (Cause.FUTURE, Cause.OFF) or not isinstance(closed, ProcessOff):
        return link
    besides = "" if link.cause is Cause.READY else f"; besides, {link.text}"
    off = obstructed(reading, job, closed)
    return replace(off, text=f"{off.text}{besides}")


def _not_ready(reading: Reading, job: Job, now: datetime) -> Link:
    due = reading.catalog.processes[job.process].due(job.interval)
    verdict = judge(reading.timetable, job, now, final=due <= now, limit=COUNTED)
    if isinstance(verdict, Hopeless):
        return stands(job, Cause.HOPELESS, str(verdict), "it will be skipped")
    if isinstance(verdict, Waiting):
        return _waiting(reading, job, verdict, now)
    if job.reason.startswith(machines.UNMEASURED):
        source = reading.catalog.processes[job.process].task.source
        text = f"{job.reason} (source {source})"
        return stands(job, Cause.SOURCE, text, "it is measured again, every 10 s")
    obstacle = next(admission.obstacles(reading.under_way(), job.process), None)
    lane = reading.lane_of(job)
    if obstacle is None and lane is not None:
        obstacle = reading.lane_full(lane, job.process, now)
    if obstacle is not None:
        return obstructed(reading, job, obstacle)
    return ready(job, "it waits for nothing any more")


def _waiting(reading: Reading, job: Job, verdict: Waiting, now: datetime) -> Link:
    awaited = tuple(reason for reason in verdict.for_ if isinstance(reason, Awaited))
    if awaited:
        text = f"waits for {_summed_up(reading, job, awaited)}"
        have = "that has" if len(awaited) == 1 else "all have"
        following = f"it runs as soon as {have} finished"
        return _in_a_row(
            reading, stands(job, Cause.INPUTS, text, following, waits_for=_worst_first(awaited))
        )
    first = verdict.for_[0]
    if isinstance(first, Held) and first.request in reading.backfills:
        return _held_by_backfill(reading, job, reading.backfills[first.request], now)
    if isinstance(first, Held):
        text = _held(reading, first, now)
        return stands(job, Cause.REQUEST, text, "the request is carried out to its end")
    link = _by_the_clock(job, first)
    if link.cause is Cause.FUTURE:
        return link
    failed = _failed_inputs(reading, job)
    if failed:
        link = replace(
            link,
            cause=Cause.INPUTS,
            text=f"{link.text}; even then it would wait for {_summed_up(reading, job, failed)}",
            waits_for=failed,
        )
    return link


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
    return stands(job, cause, "its time has not come", following, until)


_UNTIL = {NotBegun: Cause.FUTURE, IntervalOpen: Cause.OPEN, Pausing: Cause.PAUSING}


def _held(reading: Reading, held: Held, now: datetime) -> str:
    """Whose request holds it, since when and why."""
    found = [request for request in reading.requests if request.id == held.request]
    return f"{request_in_words(found[0], now)}, holds it" if found else str(held)


def _held_by_backfill(reading: Reading, job: Job, backfill: Backfill, now: datetime) -> Link:
    """It is made anew once, when all of the backfill's targets below it are done."""
    text = f"{backfill_in_words(backfill)}; it holds this until all below is done"
    if backfill.paused:
        return stands(job, Cause.PAUSED, text, NOTHING)
    if backfill.process not in reading.catalog.processes:
        text += f", and {backfill.process} is not registered: register it again, or cancel that"
        return stands(job, Cause.BACKFILL, text, NOTHING)
    held = stands(job, Cause.BACKFILL, text, "it is released when all below it is done")
    due = reading.catalog.processes[job.process].due(job.interval) <= now
    later = judge(reading.timetable, replace(job, holds=()), now, final=due, limit=COUNTED)
    if isinstance(later, Waiting):
        awaited = tuple(reason for reason in later.for_ if isinstance(reason, Awaited))
        return replace(held, waits_for=_worst_first(awaited))
    closed = admission.closed_by(backfill.process, reading.switches.get(backfill.process))
    if not isinstance(closed, ProcessOff):
        return held
    return replace(obstructed(reading, job, closed), text=f"{text}; {closed}")


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
            next=NOTHING,
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
