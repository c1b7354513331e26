"""When freeruns fire: each firing once, under the unique key of its entry and instant (D11)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from synergy.core.catalog import Freerun
from synergy.core.intervals import Interval
from synergy.core.triggers import Trigger

#: Missed firings are counted one by one up to this many.
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Firing:
    """An instant that is due, and how many before it nobody served."""

    instant: datetime
    missed: int


def firing_interval(instant: datetime) -> Interval:
    """The key of a firing: the instant in UTC, to the microsecond only where it has some."""
    label = instant.isoformat().replace("+00:00", "Z")
    return Interval(instant, instant + timedelta(seconds=1), label)


def is_due_at(freerun: Freerun, instant: datetime) -> bool:
    """Whether its trigger names this instant: a firing at another one was asked for by somebody."""
    return freerun.trigger.next_after(instant - datetime.resolution) == instant


def due_firing(freerun: Freerun, last: datetime, now: datetime) -> Firing | None:
    """The next firing to serve after `last`, by the misfire policy; None while none is due.

    ``all`` serves the oldest one, ``once`` and ``skip`` the latest; what ``skip`` finds too old to
    be on time the engine records as skipped.
    """
    instant = freerun.trigger.next_after(last)
    if instant is None or instant > now:
        return None
    missed = 0
    if freerun.misfire != "all":
        while missed < COUNTED:
            following = freerun.trigger.next_after(instant)
            if following is None or following > now:
                break
            instant, missed = following, missed + 1
        else:
            instant = _latest(freerun.trigger, instant, now)
    return Firing(instant, missed)


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
