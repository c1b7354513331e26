"""Why one firing of a freerun stands as it does: still to come, due and held, at work, or over.

What becomes of one that is due is asked of `freeruns.serve`, and whether it may go out of
`admission`: by these the scheduler decides.
"""

from dataclasses import replace
from datetime import datetime

from synergy.core import admission, freeruns
from synergy.core.admission import PoolFull
from synergy.core.catalog import Freerun
from synergy.core.freeruns import Firing, Omitted, Queued, Served, Serving, firing_interval
from synergy.core.intervals import Interval
from synergy.core.model import Job, embryo
from synergy.core.readiness import Awaited
from synergy.core.states import JobState
from synergy.explanation.causes import NOTHING, Cause, Hint, Link, ready, stands
from synergy.explanation.dispatch import obstructed, with_unit
from synergy.reading import FIRINGS, FIRINGS_KEPT, Reading
from synergy.words import clock

#: Missed firings that are counted one by one.
MISSED = 100


def link_of(reading: Reading, freerun: str, interval: Interval, now: datetime) -> Link:
    """The link of a firing."""
    job = reading.document(freerun, interval)
    if job is None:
        return _unrecorded(reading, embryo(freerun, interval), now)
    if job.state.terminal:
        return _ended(reading, job)
    unit = reading.unit_of(job)
    if unit is None:
        return ready(job, "its unit is to be made")
    link = with_unit(reading, job, unit, now)
    return replace(link, text=f"{link.text} ({job.reason})") if job.reason else link


def in_question(reading: Reading, name: str, now: datetime) -> Interval | None:
    """The firing that whoever asks about a freerun wants to know of: that at work, else that which
    is due, else the next while it is switched off, else the latest; None where there is none."""
    at_work = reading.firings_at_work.get(name)
    if at_work is not None:
        return at_work.interval
    due = _due(reading, reading.catalog.freeruns[name], now)
    if due is not None:
        return firing_interval(due.instant)
    following = upcoming(reading, name, now)
    if following is not None and _closed(reading, name) is not None:
        return following
    latest = reading.firings(name, 1)
    return latest[0].interval if latest else following


def upcoming(reading: Reading, name: str, now: datetime) -> Interval | None:
    """The next firing that its trigger names; None where it names none any more."""
    instant = next(freeruns.upcoming(reading.catalog.freeruns[name], now), None)
    return None if instant is None else firing_interval(instant)


def latest_over(reading: Reading, name: str) -> Job | None:
    """The latest firing that is over; None where none is known."""
    # At most one is not: that at work.
    return next((job for job in reading.firings(name, 2) if job.state.terminal), None)


def trigger_in_words(freerun: Freerun) -> str:
    """``cron 30 2 * * * (Europe/Berlin)``."""
    zone = getattr(freerun.trigger, "zone", "UTC")
    return f"{freerun.trigger}{f' ({zone})' if zone != 'UTC' else ''}"


def _due(reading: Reading, freerun: Freerun, now: datetime) -> Firing | None:
    return freeruns.due_firing(freerun, _last(reading, freerun, now), now, MISSED)


def _last(reading: Reading, freerun: Freerun, now: datetime) -> datetime:
    recorded = (job.interval.start for job in reading.firings(freerun.name, FIRINGS))
    return freeruns.last_served(freerun, recorded, now)


def _closed(reading: Reading, name: str) -> admission.Obstacle | None:
    return admission.closed_by(name, reading.switches.get(name))


def _busy(reading: Reading, name: str) -> datetime | None:
    job = reading.firings_at_work.get(name)
    return None if job is None else job.interval.start


# nothing is written of it


def _unrecorded(reading: Reading, job: Job, now: datetime) -> Link:
    freerun, at = reading.catalog.freeruns[job.process], job.interval.start
    if at > now:
        return _to_come(reading, job, freerun)
    due = _due(reading, freerun, now)
    if due is None or at <= _last(reading, freerun, now):
        return _passed_over(reading, job, freerun)
    if at == due.instant:
        return _pending(reading, job, due, now)
    other = firing_interval(due.instant)
    if at > due.instant:
        text = f"that of {other.label} goes before it, as misfire {freerun.misfire} says"
        following = "it goes out when that has ended"
        return _after(job, Cause.BUSY, text, following, other, JobState.EMBRYO)
    text = f"missed; {_latest_serves(freerun)}, that of {other.label}"
    return _after(job, Cause.MISSED, text, "that one goes out", other, JobState.EMBRYO)


def _to_come(reading: Reading, job: Job, freerun: Freerun) -> Link:
    at, closed = job.interval.start, _closed(reading, job.process)
    if closed is not None:
        link = obstructed(reading, job, closed)
        then = _POLICIES[freerun.misfire]
        return replace(link, text=f"{link.text}; {then}")
    busy = _busy(reading, job.process)
    serving = freeruns.serve(freerun, Firing(at, 0), busy, at)
    text = f"its time has not come; its trigger: {trigger_in_words(freerun)}"
    if isinstance(serving, Omitted):
        text += "; where the one before is still at work then, it is recorded as skipped"
    if isinstance(serving, Queued):
        text += "; where the one before is still at work then, it waits for that"
    return stands(job, Cause.FUTURE, text, "it fires", at)


def _pending(reading: Reading, job: Job, due: Firing, now: datetime) -> Link:
    """It is due, and the scheduler has not served it."""
    freerun = reading.catalog.freeruns[job.process]
    busy = _busy(reading, job.process)
    serving = freeruns.serve(freerun, due, busy, now)
    then = _then(serving)
    obstacle = next(admission.obstacles(reading.under_way(), job.process), None)
    # Where the last one is at work, its pool is not asked for a place.
    if obstacle is not None and not (busy is not None and isinstance(obstacle, PoolFull)):
        link = obstructed(reading, job, obstacle)
        return replace(link, text=f"{link.text}{then}")
    if isinstance(serving, Queued):
        before = firing_interval(serving.behind)
        text = f"the run of {before.label} is at work, and misfire {freerun.misfire} says to wait"
        following = "it goes out when that has ended"
        return _after(job, Cause.BUSY, text, following, before, JobState.IN_PROGRESS)
    link = ready(job, f"it is due, and nothing holds it{then}")
    if isinstance(serving, Omitted):
        return replace(link, next="the scheduler records that at its next turn")
    return link


def _then(serving: Serving) -> str:
    """What becomes of it once it may go out, where that is not plain."""
    match serving:
        case Omitted(reason):
            return f"; once it may go out, it is recorded as skipped: {reason}"
        case Served(reason) if reason:
            return f"; once it may go out, it runs, {reason}"
    return ""


def _after(
    job: Job, cause: Cause, text: str, following: str, other: Interval, state: JobState
) -> Link:
    """It waits for another firing of its freerun, which stands so."""
    waits_for = (Awaited("firing", job.process, other, state),)
    return stands(job, cause, text, following, waits_for=waits_for)


def _passed_over(reading: Reading, job: Job, freerun: Freerun) -> Link:
    """Its time is over, and it was not served by itself."""
    name, at = job.process, job.interval.start
    again = _again(reading, name)
    recorded = reading.firings(name, FIRINGS_KEPT)
    after = [each for each in recorded if each.interval.start > at]
    if at <= freerun.start:
        text = f"not run: {name} begins with its firings after {clock(freerun.start)} UTC"
        return stands(job, Cause.MISSED, text, NOTHING, None, again)
    if not after or len(after) == FIRINGS_KEPT or freerun.misfire == "all":
        text = "nothing is known of it: it is forgotten, or its trigger was another then"
        return stands(job, Cause.MISSED, text, NOTHING, None, again)
    served = after[-1].interval.label
    text = f"missed; {_latest_serves(freerun)}, that of {served}"
    asked = Hint(f"why {name} {served}", "what became of that")
    return stands(job, Cause.MISSED, text, NOTHING, None, (asked, *again))


def _latest_serves(freerun: Freerun) -> str:
    return f"of those missed the latest one counts (misfire {freerun.misfire})"


#: What becomes of what is missed while it is switched off.
_POLICIES = {
    "once": "of what it misses the latest firing is served when it is on again",
    "skip": "what it misses is recorded as skipped",
    "all": "what it misses is served in order when it is on again",
}


# it is over


def _ended(reading: Reading, job: Job) -> Link:
    name, label = job.process, job.interval.label
    again = _again(reading, name)
    if job.state is JobState.FAILED:
        hints = (Hint(f"log {name} {label}", "what it printed"), *again)
        return stands(job, Cause.GIVEN_UP, f"given up: {job.reason}", NOTHING, None, hints)
    if job.state is JobState.SKIPPED:
        text = f"not run: {job.reason}{_missed_since(reading, job)}"
        in_its_way = _overlapping(reading, job)
        return stands(job, Cause.MISSED, text, NOTHING, None, (*in_its_way, *again))
    ended = f" {clock(job.transitions[-1].at)} UTC" if job.transitions else ""
    why = f" ({job.reason})" if job.reason else ""
    return stands(job, Cause.ENDED, f"it has ended{ended}{why}", "")


def _again(reading: Reading, name: str) -> tuple[Hint, ...]:
    """How to run it by hand, where that would not be refused."""
    if _busy(reading, name) or next(admission.obstacles(reading.under_way(), name), None):
        return ()
    return (Hint(f"trigger {name}", "to run it now"),)


def _overlapping(reading: Reading, job: Job) -> tuple[Hint, ...]:
    """How to ask about the run that was still at work, where it was skipped for that."""
    found = (
        other
        for other in reading.firings(job.process, FIRINGS)
        if job.reason == freeruns.overlapping(other.interval.start)
    )
    return tuple(
        Hint(f"why {other.process} {other.interval.label}", "what became of that run")
        for other in found
    )


def _missed_since(reading: Reading, job: Job) -> str:
    """Who was away when its time came, where that can be told and its reason does not say."""
    if not job.transitions or not job.reason.startswith("missed"):
        return ""
    at, recorded = job.interval.start, job.transitions[-1].at
    switch, leader = reading.switches.get(job.process), reading.leader
    if switch is not None and switch.on and at < switch.since <= recorded:
        return f"; {job.process} was switched off until {clock(switch.since)} UTC"
    if leader is not None and at < leader.since <= recorded:
        return f"; the scheduler that served it took over at {clock(leader.since)} UTC"
    return ""
