"""How long work took: read from the units that the store remembers."""

from collections.abc import Iterable
from datetime import timedelta
from statistics import median

from synergy.core.model import Unit
from synergy.core.states import UnitState
from synergy.ports import Store

#: Units that tell how long the next one will take: enough for a median, few enough to be read at
#: once.
RECENT = 50

_WORKED = frozenset({UnitState.PROCESSED, UnitState.NOOP})


def recent_units(store: Store, process: str, limit: int = RECENT) -> list[Unit]:
    """The deciding units of the latest intervals that ended by themselves, newest first.

    At most `limit` intervals are looked at, those under way among them.
    """
    keys = [job.unit for job in store.last_jobs(process, limit) if job.unit]
    found = store.read_units(keys, history=False)
    return [
        unit
        for unit in map(found.get, keys)
        if unit is not None and unit.state in _WORKED and not unit.provisional
    ]


def duration(unit: Unit) -> timedelta | None:
    """From the start of its last attempt to its end; None where it did not get that far."""
    if unit.started_at is None or unit.finished_at is None:
        return None
    return max(unit.finished_at - unit.started_at, timedelta(0))


def typical_duration(units: Iterable[Unit]) -> timedelta | None:
    """The median of their durations; None where none has any."""
    known = [found.total_seconds() for unit in units if (found := duration(unit)) is not None]
    return timedelta(seconds=median(known)) if known else None
