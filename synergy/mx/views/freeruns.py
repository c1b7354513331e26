"""Freeruns: when each fires, what became of its last firings, and whether it may."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from synergy.core.admission import closed_by
from synergy.core.catalog import Freerun
from synergy.core.freeruns import upcoming
from synergy.core.model import Job, Unit
from synergy.core.switches import Switch
from synergy.explanation.firings import trigger_in_words
from synergy.history import duration
from synergy.mx.looks import Look, look_of
from synergy.mx.views.interval import Reason
from synergy.mx.words import ago, clock, took

#: Firings to come that are told.
TO_COME: Final = 5


@dataclass(frozen=True, slots=True)
class FreerunRow:
    """A freerun in the list of all."""

    name: str
    fires: str
    off: bool
    next: str
    #: When it fired last, and how that stands; empty and None where it never did.
    last: str
    look: Look | None
    #: Address of what the last firing printed.
    log: str


@dataclass(frozen=True, slots=True)
class FiringRow:
    """One firing."""

    when: str
    look: Look
    attempts: int
    took: str
    count: str
    reason: str
    log: str


@dataclass(frozen=True, slots=True)
class FreerunView:
    """One freerun with its latest firings, the newest first."""

    name: str
    facts: Sequence[tuple[str, str]]
    #: Why it does not fire at all; empty where it does.
    off: str
    to_come: Sequence[str]
    #: Why the firing stands so that is under way, due, or the next one; the root first.
    why: Sequence[Reason]
    firings: Sequence[FiringRow]


def address_of(name: str, label: str) -> str:
    """The page of what a firing printed."""
    return f"/freeruns/{name}/{label}/log"


def row_of(
    freerun: Freerun, switch: Switch | None, firings: Sequence[Job], now: datetime
) -> FreerunRow:
    """How a freerun stands; `firings`: the latest first."""
    last = firings[0] if firings else None
    off = closed_by(freerun.name, switch) is not None
    coming = None if off else next(upcoming(freerun, now), None)
    return FreerunRow(
        name=freerun.name,
        fires=trigger_in_words(freerun),
        off=off,
        next=_told(coming, now) if coming is not None else "",
        last=_told(last.interval.start, now) if last is not None else "",
        look=look_of(last.state) if last is not None else None,
        log=address_of(freerun.name, last.interval.label) if last is not None else "",
    )


def freerun_view(
    freerun: Freerun,
    switch: Switch | None,
    firings: Sequence[Job],
    units: Mapping[str, Unit],
    why: Sequence[Reason],
    now: datetime,
) -> FreerunView:
    """All of one freerun; `units` are those of its firings, by key."""
    task = freerun.task
    facts = [
        ("Fires", trigger_in_words(freerun)),
        ("Runs", task.entry or " ".join(task.command)),
        ("Missed firings", freerun.misfire),
        ("Attempts", str(task.max_attempts)),
    ]
    if task.time_limit is not None:
        facts.append(("Time limit", took(task.time_limit)))
    if freerun.pool is not None:
        facts.append(("Pool", freerun.pool))
    if freerun.boxes:
        facts.append(("Boxes", ", ".join(freerun.boxes)))
    closed = closed_by(freerun.name, switch)
    off = "" if closed is None else str(closed)
    coming = [] if off else islice(upcoming(freerun, now), TO_COME)
    return FreerunView(
        name=freerun.name,
        facts=facts,
        off=off,
        to_come=[_told(each, now) for each in coming],
        why=why,
        firings=[_firing(freerun, job, units.get(job.unit or "")) for job in firings],
    )


def _firing(freerun: Freerun, job: Job, unit: Unit | None) -> FiringRow:
    length: timedelta | None = duration(unit) if unit is not None else None
    return FiringRow(
        when=clock(job.interval.start),
        look=look_of(job.state),
        attempts=job.attempts,
        took=took(length) if length is not None else "",
        count=f"{unit.count:,}" if unit is not None and unit.count is not None else "",
        reason=job.reason or (unit.reason if unit is not None else ""),
        log=address_of(freerun.name, job.interval.label) if unit is not None else "",
    )


def _told(when: datetime, now: datetime) -> str:
    return f"{clock(when)} ({ago(when, now)})"
