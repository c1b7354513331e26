"""What an explanation is made of: causes, and links that tell what holds one interval."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from synergy.core.intervals import Interval
from synergy.core.model import Job, Json
from synergy.core.readiness import Awaited
from synergy.core.states import JobState
from synergy.words import instant

#: Blockers of one interval that are counted, and that JSON lists.
COUNTED, LISTED = 1000, 100
#: Blockers that are named one by one; more are summed up.
NAMED = 3
#: What happens next where somebody has to do something.
NOTHING = "nothing by itself"


class Cause(StrEnum):
    """What kind of thing holds an interval or a firing, or how it has ended."""

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
    #: The run of the firing before it is at work, and it waits for that.
    BUSY = "busy"
    #: A firing that was not served, or only together with a later one.
    MISSED = "missed"
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
STUCK, _AT_WORK, _BY_THE_CLOCK = 0, 1, 2
_WEIGHTS = {
    Cause.GIVEN_UP: STUCK,
    Cause.MISSED: STUCK,
    Cause.OFF: STUCK,
    Cause.PAUSED: STUCK,
    Cause.NO_WORKER: STUCK,
    Cause.BOX_AWAY: STUCK,
    Cause.SOURCE: STUCK,
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
    """One interval or firing of the chain."""

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


def stands(
    job: Job,
    cause: Cause,
    text: str,
    following: str,
    at: datetime | None = None,
    hints: tuple[Hint, ...] = (),
    waits_for: tuple[Awaited, ...] = (),
) -> Link:
    """The link of a job; `following` is what happens next."""
    return Link(
        process=job.process,
        interval=job.interval,
        state=job.state,
        cause=cause,
        text=text,
        next=following,
        at=at,
        waits_for=waits_for,
        hints=hints,
    )


def ready(job: Job, text: str) -> Link:
    """The link of a job that nothing holds."""
    return stands(job, Cause.READY, text, "the scheduler requests its unit at its next turn")
