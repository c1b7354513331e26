"""What happens to one job: each step of its machine as a function from document to document.

Nothing here looks at other jobs; that is what readiness, plans and the engine are for.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from synergy.core.model import REQUESTS_REMEMBERED, Job, Json, Task, Unit, requested, unit_key
from synergy.core.recovery import REASON_LIMIT
from synergy.core.states import (
    IllegalTransition,
    JobInput,
    JobState,
    UnitState,
    next_job_state,
)
from synergy.core.triggers import Trigger

#: How the reason of a job begins whose source must be measured first, and cannot be.
UNMEASURED = "its source could not be measured"


def dispatched(
    machine: str,
    job: Job,
    now: datetime,
    *,
    final: bool,
    consuming: Mapping[str, int],
    reason: str = "",
) -> Job:
    """The job with a unit requested: the deciding one, or the next provisional one."""
    # What ran over its open interval has its final run even where its process is discrete by now.
    in_stages = machine in _TWO_STAGES or (job.state is JobState.IN_PROGRESS and job.runs > 0)
    applied = JobInput.RUN_FINAL if final and in_stages else JobInput.RUN
    runs = job.runs if final else job.runs + 1
    return job.moved(
        _state_after(machine, job, applied),
        now,
        reason,
        unit=unit_key(job.process, job.interval, job.generation, 0 if final else runs),
        runs=runs,
        consuming=dict(consuming) if final else None,
        attempts=0,
    )


def unit_of(job: Job, task: Task, now: datetime, low: Json = None, high: Json = None) -> Unit:
    """The unit that a dispatched job asks for; made again from the same job it has the same key."""
    final = job.unit == unit_key(job.process, job.interval, job.generation)
    run = 0 if final else job.runs
    unit = requested(job.process, job.interval, job.generation, run, task, now)
    return unit if low is None and high is None else replace(unit, low=low, high=high)


def after_unit(
    machine: str,
    on_failure: str,
    job: Job,
    unit: Unit,
    now: datetime,
    every: Trigger | None,
    *,
    outdated: bool = False,
) -> Job:
    """The job after its unit ended, whichever way; `outdated`: an input is marked stale."""
    if unit.provisional:
        return _after_provisional(machine, job, unit, now, every)
    attempts = unit.attempt
    if unit.state in (UnitState.INVALID, UnitState.CANCELED):
        applied = JobInput.SKIP if on_failure == "skip" else JobInput.UNIT_GIVEN_UP
        reason = unit.reason
        if on_failure == "skip":
            reason = f"skipped, as its process says on failure: {reason}"
        state = _state_after(machine, job, applied)
        changes = _skip_changes(job) if state is JobState.SKIPPED else {}
        return job.moved(state, now, reason, attempts=attempts, consuming=None, **changes)
    applied = JobInput.UNIT_NOOP if unit.state is UnitState.NOOP else JobInput.UNIT_PROCESSED
    state = _state_after(machine, job, applied)
    return job.moved(
        state,
        now,
        BUILT_ON_STALE if outdated else unit.reason if state is JobState.NOOP else "",
        attempts=attempts,
        outdated=outdated,
        result=job.result if _unchanged(job, state, unit.fingerprint) else job.generation,
        result_state=state,
        fingerprint=unit.fingerprint,
        consumed=job.consuming or {},
        consuming=None,
        forced=False,
    )


def _after_provisional(
    machine: str, job: Job, unit: Unit, now: datetime, every: Trigger | None
) -> Job:
    state = _state_after(machine, job, JobInput.PROVISIONAL_END)
    failed = unit.state is UnitState.INVALID
    return job.moved(
        state,
        now,
        f"provisional run {unit.run} was given up: {unit.reason}" if failed else "",
        unit=None,
        next_run=every.next_after(now) if every is not None else None,
    )


def _unchanged(job: Job, state: JobState, fingerprint: str | None) -> bool:
    """Whether the new result equals the standing one, so that what is built on it may be kept."""
    if job.result == 0 or job.result_state is not state:
        return False
    return state is JobState.NOOP or (fingerprint is not None and fingerprint == job.fingerprint)


def kept(
    machine: str,
    job: Job,
    generations: Mapping[str, int],
    results: Mapping[str, int],
    now: datetime,
    *,
    outdated: bool = False,
) -> Job | None:
    """The reopened job closed without a run, where no input has changed since its result.

    `generations` and `results` are those of its inputs, only those above 1.  An input is
    unchanged when its result is not newer than the generation that was consumed.  `outdated`: one
    of them is marked stale.
    """
    if job.forced or not _made_from(job, results):
        return None
    assert job.result_state is not None
    return job.moved(
        _state_after(machine, job, _KEPT_AS[job.result_state]),
        now,
        f"kept: no input has changed{f'; {BUILT_ON_STALE}' if outdated else ''}",
        outdated=outdated,
        consumed=dict(generations),
        attempts=0,
        unit=None,
    )


def reopened(
    machine: str, job: Job, request: str, now: datetime, *, target: bool, hold: bool, reason: str
) -> Job | None:
    """The job as a reprocess leaves it: a new generation, unless one is open and unstarted.

    None where the request has been obeyed already, or there is nothing to do.
    """
    if request in job.requests:
        return None
    holds = (*job.holds, request) if hold else job.holds
    if absorbs(machine, job, target=target):
        if not hold and not target:
            return None
        return job.moved(
            job.state,
            now,
            reason,
            holds=holds,
            requests=_remembered(job, request),
            reopened_from=None,
            forced=job.forced or (target and job.result > 0),
        )
    return job.moved(
        _state_after(machine, job, JobInput.REOPEN),
        now,
        reason,
        generation=job.generation + 1,
        holds=holds,
        requests=_remembered(job, request),
        reopened_from=job.standing if job.state.terminal else None,
        # Who was named runs until it has succeeded, however often it is reopened before.
        forced=job.forced or target,
        outdated=False,
        unit=None,
        attempts=0,
        runs=0,
        next_run=None,
        consuming=None,
    )


def marked(
    job: Job, now: datetime, reason: str, *, own: bool = False, request: str = ""
) -> Job | None:
    """The finished job marked stale: its result stands, but what it was made from has changed.

    `own`: what it reads itself has, and not only its inputs; once it is reopened it runs, whatever
    became of these.  None where there is no result to mark, or the mark says as much already.
    """
    if job.state not in _KEEPABLE or (request and request in job.requests):
        return None
    if job.outdated and (job.forced or not own):
        return None
    return job.moved(
        job.state,
        now,
        reason,
        outdated=True,
        forced=job.forced or own,
        requests=_remembered(job, request) if request else job.requests,
    )


def noted(job: Job, request: str, now: datetime) -> Job | None:
    """The job as it is, moved past whoever is about to write it on what stood before a request;
    None where it has been already."""
    if request in job.requests:
        return None
    return job.moved(job.state, now, job.reason, requests=_remembered(job, request))


def withdrawn(machine: str, job: Job, request: str, now: datetime, reason: str) -> Job:
    """The job without the unit that nobody has started, as a request wants it: a new generation of
    it waits for its next turn, for whoever wanted it before."""
    return job.moved(
        _state_after(machine, job, JobInput.REOPEN),
        now,
        reason,
        generation=job.generation + 1,
        requests=(*job.requests[:-1], request, *job.requests[-1:])[-REQUESTS_REMEMBERED:],
        reopened_from=None,  # a unit was made: it has begun
        unit=None,
        attempts=0,
        runs=0,
        next_run=None,
        consuming=None,
    )


def absorbs(machine: str, job: Job, *, target: bool) -> bool:
    """Whether a job stays as it is when it is to be reopened: the generation that is open has not
    started, or only runs provisionally so far, by the machine that it began with."""
    if job.state is JobState.EMBRYO:
        return True
    in_stages = _began_by(machine, job) in _TWO_STAGES
    return job.state is JobState.IN_PROGRESS and in_stages and not target


def taken_back(
    machine: str,
    job: Job,
    request: str,
    generations: Mapping[str, int],
    results: Mapping[str, int],
    now: datetime,
    reason: str,
) -> Job | None:
    """The reopened job closed again as it stood, on the word of a request that withdraws that.

    `generations` and `results` as of `kept`.  None where its result is not what could be made from
    these inputs, or nobody knows how it stood.
    """
    stood = job.reopened_from
    if stood is None or job.state is not JobState.EMBRYO or job.holds:
        return None
    if stood.state in _KEEPABLE and not _made_from(job, results):
        return None
    return job.moved(
        _state_after(machine, job, _KEPT_AS[stood.state]),
        now,
        reason,
        consumed=dict(generations) if stood.state in _KEEPABLE else job.consumed,
        requests=_remembered(job, request),
        # It was to run in any case before, too, where it had failed or had been marked.
        forced=job.forced and (stood.outdated or stood.state is JobState.FAILED),
        outdated=stood.outdated,
        reopened_from=None,
        attempts=0,
        unit=None,
    )


def _state_after(machine: str, job: Job, applied: JobInput) -> JobState:
    """The state that follows; what was at work when its process was given another machine goes on
    by the one that it began with."""
    try:
        return next_job_state(machine, job.state, applied)
    except IllegalTransition:
        began_by = _began_by(machine, job)
        if began_by == machine:
            raise
        return next_job_state(began_by, job.state, applied)


def _began_by(machine: str, job: Job) -> str:
    """The machine by which a job that is at work was begun: only the two stages number runs."""
    if job.state is JobState.IN_PROGRESS and machine in _TWO_STAGES and not job.runs:
        return "discrete"
    in_stages = job.state is JobState.FINAL_RUN or (
        job.state is JobState.IN_PROGRESS and job.runs > 0
    )
    return "continuous" if machine == "discrete" and in_stages else machine


def _made_from(job: Job, results: Mapping[str, int]) -> bool:
    """Whether its result stands and is no older than these of its inputs."""
    if job.consumed is None or job.result_state not in _KEEPABLE:
        return False
    consumed = job.consumed
    return all(result <= consumed.get(key, 1) for key, result in results.items())


def _remembered(job: Job, request: str) -> tuple[str, ...]:
    return (*job.requests, request)[-REQUESTS_REMEMBERED:]


def released(job: Job, request: str, now: datetime) -> Job | None:
    """The job without the hold of a request; None where it has none."""
    if request not in job.holds:
        return None
    holds = tuple(hold for hold in job.holds if hold != request)
    return job.moved(job.state, now, job.reason, holds=holds)


def parked(machine: str, job: Job, now: datetime, failure: str) -> Job:
    """The job given up because deciding about it fails; a reprocess tries again (protocol D12)."""
    state = _state_after(machine, job, JobInput.PARK)
    reason = f"{PARKED}{failure}"[:REASON_LIMIT]
    return job.moved(state, now, reason, holds=(), consuming=None)


def skipped(machine: str, job: Job, now: datetime, reason: str, request: str = "") -> Job:
    """The job given up."""
    remembered = _remembered(job, request) if request else job.requests
    return job.moved(
        _state_after(machine, job, JobInput.SKIP),
        now,
        reason,
        requests=remembered,
        consuming=None,
        **_skip_changes(job),
    )


def _skip_changes(job: Job) -> dict[str, object]:
    """A skip is a change of result: what was built on an older one must be made anew."""
    return {
        "result": job.generation,
        "result_state": JobState.SKIPPED,
        "fingerprint": None,
        "consumed": None,
        "forced": False,
    }


#: Why what has just ended is marked stale at once.
BUILT_ON_STALE = "built on what is marked stale"

#: How the reason of a parked job begins.
PARKED = "parked, as nothing can be decided about it: "

_TWO_STAGES = frozenset({"continuous", "recomputing"})
_KEEPABLE = frozenset({JobState.PROCESSED, JobState.NOOP})
_KEPT_AS = {
    JobState.PROCESSED: JobInput.KEEP_PROCESSED,
    JobState.NOOP: JobInput.KEEP_NOOP,
    JobState.SKIPPED: JobInput.KEEP_SKIPPED,
    JobState.FAILED: JobInput.KEEP_FAILED,
}
