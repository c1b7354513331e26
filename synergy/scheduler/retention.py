"""Forgets the units of what ended long ago, if the project says so.

Jobs stay, and with them how each interval stands: what goes is the record of its attempts, which
history, forecasts and stories are told from.  Little by little, from the oldest on: how far it has
come stands in the store, so nothing is looked at twice.

The days are counted back from now, or from the newest interval of the process that was worked,
whichever is earlier.  So a clock that is years ahead forgets no more than is worked anew, and what
rests for a year has its last runs to tell of when it goes on.
"""

from datetime import datetime, timedelta
from typing import Final

from synergy.core.catalog import Process
from synergy.core.timetable import Timetable
from synergy.ports import Store
from synergy.records import from_micros, to_micros

#: Intervals of one process whose units are forgotten in one go.
AT_ONCE: Final = 500


class Retention:
    """For a scheduler that leads."""

    def __init__(self, store: Store, timetable: Timetable, keep: timedelta) -> None:
        self._store = store
        self._timetable = timetable
        self._catalog = timetable.catalog
        self._keep = keep
        self._through = {
            name: from_micros(through)
            for name, document in store.read_documents("retention").items()
            if isinstance(through := document.content["through"], int)
        }

    def tidy(self, now: datetime) -> None:
        """Forget some more; to be called now and then."""
        for name, process in self._catalog.processes.items():
            first = self._catalog.spans[name][0]
            begin = max(self._through.get(name, first), first)
            end = self._end(process, begin, now)
            if end > begin:
                self._store.prune_units(name, begin, end)
                self._store.save_document("retention", name, {"through": to_micros(end)}, None)
                self._through[name] = end

    def _end(self, process: Process, begin: datetime, now: datetime) -> datetime:
        """The end of the last interval to be forgotten in this go; `begin` where there is none."""
        # Late data is noticed by what the units say.
        watched = process.late_for if process.late != "ignore" else timedelta(0)
        worked = self._timetable.ledgers[process.name].worked_until()
        if worked is None:
            return begin
        before = min(now - max(self._keep, watched), worked - self._keep)
        calendar = process.calendar
        if calendar.containing(begin).end > before:
            return begin
        end = calendar.shift(calendar.containing(begin), AT_ONCE).start
        return end if end <= before else calendar.containing(before).start
