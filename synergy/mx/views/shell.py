"""What stands on every page: the scheduler's heartbeat, the store's trouble, the clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from synergy.core.model import Lease
from synergy.mx.words import ago, clock, took, who

#: A scheduler that is late by so much is gone, not late.
GONE = timedelta(seconds=6)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Whether somebody keeps the timetable moving."""

    #: "alive", "late" or "gone".
    state: str
    text: str


def heartbeat(lease: Lease | None, now: datetime) -> Heartbeat:
    """What the lease says of the scheduler."""
    if lease is None:
        return Heartbeat("gone", "no scheduler has ever run")
    late = now - lease.until
    if late <= timedelta(0):
        since = f" for {took(now - lease.since)}" if lease.since <= now else ""
        return Heartbeat("alive", f"{who(lease.owner)} leads{since}")
    if late < GONE:
        return Heartbeat("late", f"the scheduler is late by {took(late)}")
    return Heartbeat(
        "gone", f"no scheduler since {clock(lease.until)} UTC ({ago(lease.until, now)})"
    )
