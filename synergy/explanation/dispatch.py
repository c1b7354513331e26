"""What keeps a unit from being done, once nothing of the timetable does: what admission says, who
could work it, whether that is at work, lost, or waits for its time."""

from collections.abc import Sequence
from datetime import datetime

from synergy.core import admission
from synergy.core.admission import LaneFull, LimitReached, PoolFull, ProcessOff
from synergy.core.backfills import Backfill
from synergy.core.model import Job, Unit
from synergy.core.readiness import Awaited
from synergy.core.states import UnitState
from synergy.explanation.causes import NAMED, NOTHING, Cause, Hint, Link, stands
from synergy.presence import WorkerRecord, bound_in_vain, holder_of
from synergy.reading import Reading
from synergy.words import ago, clock, who


def obstructed(reading: Reading, job: Job, obstacle: admission.Obstacle) -> Link:
    """It may run, and no unit of its process may go out now."""
    out: list[Job]
    match obstacle:
        case ProcessOff(name):
            hint = Hint(f"process on {name}", "to switch it on")
            return stands(job, Cause.OFF, str(obstacle), NOTHING, None, (hint,))
        case LimitReached(name):
            cause, out = Cause.LIMIT, reading.out_of(name)
        case PoolFull(_, _, members):
            cause = Cause.POOL
            out = [each for name, _ in members for each in reading.out_of(name)]
        case LaneFull(key) if reading.backfills[key].paused:
            text = backfill_in_words(reading.backfills[key])
            return stands(job, Cause.PAUSED, text, NOTHING)
        case LaneFull(key):
            cause, out = Cause.LANE, reading.out_of_lane(reading.backfills[key])
        case _:
            following = "it goes on when that is done"
            return stands(job, Cause.RECORDING, str(obstacle), following)
    oldest = sorted(out, key=lambda each: each.interval.start)[:NAMED]
    ahead = tuple(map(_ahead, oldest))
    return stands(job, cause, str(obstacle), "one of these ends", waits_for=ahead)


def _ahead(job: Job) -> Awaited:
    """One whose unit is out in its place."""
    return Awaited("ahead", job.process, job.interval, job.state)


def backfill_in_words(backfill: Backfill) -> str:
    """Whose it is, since when, and how far."""
    by = f" by {backfill.actor}" if backfill.actor else ""
    why = f" ({backfill.reason})" if backfill.reason else ""
    how = "is paused" if backfill.paused else "goes on"
    return (
        f"backfill {backfill.id} of {backfill.process}, filed{by} {clock(backfill.filed_at)} UTC"
        f"{why}, {how} with {backfill.passed} of {backfill.total} opened"
    )


def with_unit(reading: Reading, job: Job, unit: Unit, now: datetime) -> Link:
    """Its unit is out."""
    if unit.state.terminal:
        text = f"its unit has ended as {unit.state.value}"
        return stands(job, Cause.READY, text, "the scheduler takes that over at its next turn")
    if unit.state is not UnitState.REQUESTED:
        return _at_work(reading, job, unit, now)
    kind = "provisional unit" if unit.provisional else "unit"
    named = f"{job.process} {job.interval.label}"
    if unit.not_before is not None and unit.not_before > now:
        printed = Hint(f"log {named}", "what it printed")
        hurried = Hint(f"trigger {named}", "to start it at once")
        return stands(
            job,
            Cause.BACK_OFF,
            f"its {kind} failed: {unit.reason}",
            f"attempt {unit.attempt} of {unit.task.max_attempts} starts",
            unit.not_before,
            (printed,) if job.process in reading.catalog.freeruns else (hurried, printed),
        )
    before = f" (before: {unit.reason})" if unit.reason else ""
    if not reading.present:
        text = f"its {kind} waits for a worker{before}; who listened is not remembered"
        return stands(job, Cause.FREE_WORKER, text, "a worker takes it")
    return _unclaimed(reading, job, f"its {kind} waits for a free worker{before}", now)


def _unclaimed(reading: Reading, job: Job, text: str, now: datetime) -> Link:
    """Who could take its unit, and why nobody does."""
    bound = reading.catalog.boxes_of(job.process)
    in_vain = bound_in_vain(bound, reading.boxes, now)
    takers = [worker for worker in reading.workers if worker.takes(job.process)]
    heard = [worker for worker in takers if not worker.is_silent(now)]
    if in_vain:
        following = "a worker on one of these boxes takes it"
        return stands(job, Cause.BOX_AWAY, f"{text}; it is {in_vain}", following)
    if not heard:
        return _no_worker(reading, job, text, takers, now)
    if bound:
        text += f"; it is bound to boxes {', '.join(bound)}"
    busy = {worker.owner: _work_of(reading, worker) for worker in heard}
    if all(len(busy[worker.owner]) >= worker.slots for worker in heard):
        return _all_busy(job, text, heard, busy, now)
    return stands(job, Cause.FREE_WORKER, text, "a worker takes it")


def _no_worker(
    reading: Reading, job: Job, text: str, silent: Sequence[WorkerRecord], now: datetime
) -> Link:
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
    return stands(job, Cause.NO_WORKER, text, "a worker that is started takes it", None, hints)


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
) -> Link:
    units = [unit for worker in workers for unit in busy[worker.owner]]
    units.sort(key=lambda unit: unit.started_at or now)
    told = [f"{unit.key} begun {ago(unit.started_at or now, now)}" for unit in units[:NAMED]]
    more = f" and {len(units) - NAMED} more" if len(units) > NAMED else ""
    slots = sum(worker.slots for worker in workers)
    text += f"; all {slots} slots that could take it are at work: {', '.join(told)}{more}"
    hint = Hint("status", "which workers there are")
    return stands(job, Cause.WORKERS_BUSY, text, "one of these ends", None, (hint,))


def _at_work(reading: Reading, job: Job, unit: Unit, now: datetime) -> Link:
    """What its worker does, or that the worker is gone."""
    kind = "provisional unit" if unit.provisional else "unit"
    by, until = who(unit.owner or "a worker"), unit.lease_until
    holder = holder_of(unit.owner or "", reading.workers)
    if until is not None and until <= now:
        text = f"its {kind} was at work by {by}, whose lease ran out {ago(until, now)}"
        following = "the scheduler takes it from that worker, and another begins it again"
        return stands(job, Cause.WORKER_GONE, text, following)
    if holder is not None and holder.is_silent(now):
        text = f"its {kind} was at work by {by}, not heard of since {clock(holder.seen_at)} UTC"
        return stands(job, Cause.WORKER_GONE, text, "its lease runs out; another begins it", until)
    if unit.state is UnitState.CLAIMED:
        text = f"its {kind} was claimed ahead by {by}"
        return stands(job, Cause.AT_WORK, text, "it starts, or is handed back", until)
    done = ""
    if unit.progress is not None:
        parts, total, words = unit.progress
        done = f", {parts:g}" + (f" of {total:g}" if total else "") + (f" {words}" if words else "")
    begun = ago(unit.started_at, now) if unit.started_at else "just now"
    return stands(
        job,
        Cause.AT_WORK,
        f"its {kind} is at work: attempt {unit.attempt} by {by}, begun {begun}{done}",
        "it ends; if its worker is gone, the next attempt starts when the lease runs out",
        until,
    )
