"""When freeruns fire: each firing once, under the unique key of its entry and instant (D11).

What becomes of a firing that is due is decided here (`serve`); ``why`` asks the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from synergy.core.catalog import Freerun
from synergy.core.intervals import Interval
from synergy.core.triggers import Trigger

#: Missed firings are counted one by one up to this many.
COUNTED = 10_000
#: A firing served later than this was missed (matters for the misfire policy ``skip``).
PUNCTUAL = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Firing:
    """An instant that is due, and how many before it nobody served."""

    instant: datetime
    missed: int
    #: Whether these are all that were missed; else there are at least so many.
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Served:
    """A run is started for it."""

    #: What else it stands for; empty where for nothing.
    reason: str


@dataclass(frozen=True, slots=True)
class Omitted:
    """It is recorded as skipped."""

    reason: str


@dataclass(frozen=True, slots=True)
class Queued:
    """It waits until the run of that instant has ended."""

    behind: datetime


Serving = Served | Omitted | Queued


def firing_interval(instant: datetime) -> Interval:
    """The key of a firing: the instant in UTC, to the microsecond only where it has some."""
    label = instant.isoformat().replace("+00:00", "Z")
    return Interval(instant, instant + timedelta(seconds=1), label)


def is_due_at(freerun: Freerun, instant: datetime) -> bool:
    """Whether its trigger names this instant: a firing at another one was asked for by somebody."""
    return freerun.trigger.next_after(instant - datetime.resolution) == instant


def upcoming(freerun: Freerun, now: datetime) -> Iterator[datetime]:
    """The instants after now that its trigger names, ascending."""
    instant = freerun.trigger.next_after(max(now, freerun.start))
    while instant is not None:
        yield instant
        instant = freerun.trigger.next_after(instant)


def last_served(freerun: Freerun, instants: Iterable[datetime], now: datetime) -> datetime:
    """The latest of the firings that are recorded, or the start: what comes after is to be served.

    One in the future was served while the clock was wrong.
    """
    past = (each for each in instants if each <= now and is_due_at(freerun, each))
    return max(max(past, default=freerun.start), freerun.start)


def serve(freerun: Freerun, firing: Firing, busy: datetime | None, now: datetime) -> Serving:
    """What becomes of a firing that is due and may go out; `busy`: that of the run at work."""
    if busy is not None:
        if freerun.misfire == "all":
            return Queued(busy)
        return Omitted(overlapping(busy))
    late = now - firing.instant
    if freerun.misfire == "skip" and late > PUNCTUAL:
        return Omitted(f"missed, {late} late")
    if not firing.missed:
        return Served("")
    number = f"{firing.missed}{'' if firing.complete else ' and more'}"
    return Served(f"also for {number} missed firing{'s' if firing.missed > 1 else ''}")


def overlapping(busy: datetime) -> str:
    """Why a firing is omitted while the run of another is at work."""
    return f"the run of {firing_interval(busy).label} was still at work"


def due_firing(
    freerun: Freerun, last: datetime, now: datetime, counted: int = COUNTED
) -> Firing | None:
    """The next firing to serve after `last`, by the misfire policy; None while none is due.

    ``all`` serves the oldest one, ``once`` and ``skip`` the latest; whether that is too late is
    `serve`'s to say.  Missed ones are counted up to `counted`.
    """
    instant = freerun.trigger.next_after(last)
    if instant is None or instant > now:
        return None
    missed = 0
    if freerun.misfire != "all":
        while missed < counted:
            following = freerun.trigger.next_after(instant)
            if following is None or following > now:
                break
            instant, missed = following, missed + 1
        else:
            instant = _latest(freerun.trigger, instant, now)
    return Firing(instant, missed, complete=missed < counted)


def _latest(trigger: Trigger, instant: datetime, now: datetime) -> datetime:
    """The last firing up to now, known to be `instant` or later: sought backwards from now."""
    back = timedelta(seconds=1)
    while (last := trigger.next_after(max(instant, now - back))) is None or last > now:
        if now - back <= instant:
            return instant
        back *= 2
    while (following := trigger.next_after(last)) is not None and following <= now:
        last = following
    return last
