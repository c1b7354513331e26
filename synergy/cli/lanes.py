"""How backfills stand: how far each is, and when it will be over."""

from datetime import datetime, timedelta

from synergy.cli.backfill_plan import about, counted
from synergy.cli.output import clock, command, instant
from synergy.core.backfills import CANCELED, DONE, HOLDING, RUNNING, Backfill, backfills_of
from synergy.core.states import TERMINAL
from synergy.reading import Reading

#: How a terminal shows each state.
STYLES = {
    HOLDING: "cyan",
    RUNNING: "cyan",
    "paused": "yellow",
    DONE: "green",
    CANCELED: "yellow",
}


def canceled(backfill: Backfill) -> str:
    """What became of one that was given up; it may have come to its end by then."""
    left = counted(backfill.total - backfill.passed)
    return f"backfill {backfill.id} is {backfill.state}; {left} left as they were"


def where_to_look() -> str:
    """What to type to see how far it is."""
    return f"how far it is: {command('backfill list')}"


def ended(reading: Reading, backfill: Backfill) -> int:
    """How many of its targets have ended."""
    active = sum(
        name == backfill.process
        and job.state not in TERMINAL
        and backfill.has(start)
        and backfill.is_passed(start)
        for (name, start), job in reading.timetable.active.items()
    )
    return backfill.passed - active


def going_on(reading: Reading) -> list[str]:
    """A line for each backfill that is not over."""
    return [in_short(reading, each) for each in all_of(reading).values() if not each.over]


def in_short(reading: Reading, backfill: Backfill) -> str:
    """How far it is: ``4f1c2a9b of hour: 12 of 48, paused``."""
    state = state_of(backfill)
    how = "" if state in (HOLDING, RUNNING) else f", {state}"
    if _is_asleep(reading, backfill):
        how += f", and {backfill.process} is not registered"
    far = f"{ended(reading, backfill)} of {backfill.total}"
    return f"{backfill.id} of {backfill.process}: {far}{how}"


def _is_asleep(reading: Reading, backfill: Backfill) -> bool:
    return not backfill.over and backfill.process not in reading.catalog.processes


def all_of(reading: Reading) -> dict[str, Backfill]:
    """All of them as they stand now, by id."""
    return backfills_of(reading.store.read_documents("backfills"))


def state_of(backfill: Backfill) -> str:
    """Its state, or that it is paused."""
    return "paused" if backfill.paused and not backfill.over else backfill.state


def _remaining(reading: Reading, backfill: Backfill, now: datetime) -> timedelta | None:
    """How long it goes on yet, by its own pace; None where that is not known."""
    done = ended(reading, backfill)
    if _is_asleep(reading, backfill):
        return None
    if backfill.state != RUNNING or backfill.paused or backfill.began_at is None or done <= 0:
        return None
    return (now - backfill.began_at) / done * (backfill.total - done)


def end_of(reading: Reading, backfill: Backfill, now: datetime) -> str:
    """When it ended, or will, in words."""
    if backfill.ended_at is not None:
        return clock(backfill.ended_at)
    if _is_asleep(reading, backfill):
        return f"when {backfill.process} is registered"
    remaining = _remaining(reading, backfill, now)
    if remaining is not None:
        return f"in about {about(remaining)}"
    return "after what is built on it is held" if backfill.state == HOLDING else "–"


def as_json(reading: Reading, backfill: Backfill, now: datetime) -> dict[str, object]:
    """All of it, for programs."""
    remaining = _remaining(reading, backfill, now)
    return {
        "id": backfill.id,
        "process": backfill.process,
        "state": state_of(backfill),
        "intervals": backfill.total,
        "opened": backfill.passed,
        "ended": ended(reading, backfill),
        "order": backfill.order,
        "force": backfill.force,
        "min_share": backfill.min_share,
        "max_share": backfill.max_share,
        "filed_at": instant(backfill.filed_at),
        "actor": backfill.actor,
        "reason": backfill.reason,
        "began_at": _instant(backfill.began_at),
        "ended_at": _instant(backfill.ended_at),
        "estimated_end": None if remaining is None else instant(now + remaining),
    }


def _instant(when: datetime | None) -> str | None:
    return None if when is None else instant(when)
