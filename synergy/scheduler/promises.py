"""Watches what the catalog promises: tells the log, and remembers in the store what was told.

It is looked at once a turn, which costs a comparison while nothing is due.  What was told is told
once: a document of the interval says so, also to the next scheduler.  When a scheduler comes back,
it judges what was promised meanwhile.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from synergy.core.engine import Engine
from synergy.core.model import job_key
from synergy.core.promises import Promises, Told, promising
from synergy.history import recent_units, typical_duration
from synergy.logs import logger
from synergy.ports import Store
from synergy.promises import PromiseRecord, interval_of, judged, judged_until, records_of

#: How long work typically takes is read anew so often.
FRESH = timedelta(minutes=10)
#: How far it has judged is remembered so often: what lies behind is judged again, to the same end.
#: A clock that is set back by more was wrong, and what was told by it is forgotten.
SAVED = timedelta(hours=1)
#: So many intervals of a process are remembered of which something was told.
KEPT = 200
#: What is told alike of so many at once shares a line of the log.
MANY = 4

_log = logger("scheduler")


class PromiseWatch:
    """The promises of a catalog, for a scheduler that has just read the timetable."""

    def __init__(self, store: Store, engine: Engine, now: datetime) -> None:
        self._store = store
        self._engine = engine
        self._catalog = engine.catalog
        self._names = [*promising(engine.catalog)]
        self._promises: Promises | None = None
        #: The time that it was told last.
        self._seen = now
        if self._names:
            self._begin(now)

    def _begin(self, now: datetime) -> None:
        """Go on from what the store remembers."""
        documents = self._store.read_documents("promises")
        since = judged_until(documents)
        for name in self._names:
            if name not in since or since[name] > now:
                since[name] = now
                self._store.save_document("promises", name, judged(now), None)
        self._since = since
        self._records: dict[str, PromiseRecord] = {}
        for record in records_of(documents):
            self._keep(record, now)
        told = {
            (record.process, record.start): record.told
            for record in self._records.values()
            if self._is_watched(record)
        }
        engine = self._engine
        self._promises = Promises(
            engine.timetable, engine.unit_out, engine.switchboard.on, since, told
        )
        self._fresh_until = self._seen = now

    def _keep(self, record: PromiseRecord, now: datetime) -> None:
        """Keep of it what was not told by a clock that was far ahead."""
        told = record.told_until(now + SAVED)
        if told is not None:
            self._records[record.key] = told
        if told != record:
            content = None if told is None else told.content()
            self._store.save_document("promises", record.key, content, None)

    def wake_at(self) -> datetime | None:
        """When it wants to look; None where nothing is promised."""
        return None if self._promises is None else self._promises.wake_at()

    def look(self, now: datetime) -> None:
        """Look at what it is time for, tell what is to be told."""
        if self._promises is not None and now < self._seen - SAVED:
            self._begin(now)  # the clock was set back
        self._seen = now
        promises = self._promises
        if promises is None or (wake := promises.wake_at()) is None or wake > now:
            return
        if now >= self._fresh_until:
            self._fresh_until = now + FRESH
            promises.typical = self._typical()
        told = promises.look(now)
        for one in told:
            self._remember(one)
        _say(told)

    def tidy(self, now: datetime) -> None:
        """Remember how far it has judged, and forget what is long over."""
        if self._promises is None:
            return
        for name in self._names:
            if self._since[name] < now - SAVED:
                self._since[name] = now
                self._store.save_document("promises", name, judged(now), None)
        for name in {record.process for record in self._records.values()}:
            over = [
                record
                for record in self._records.values()
                if record.process == name and not self._is_watched(record)
            ]
            over.sort(key=lambda record: record.promised)
            for record in over[: max(len(over) - KEPT, 0)]:
                del self._records[record.key]
                self._store.save_document("promises", record.key, None, None)

    def _is_watched(self, record: PromiseRecord) -> bool:
        """Whether more will be told of it."""
        return record.open and interval_of(self._catalog, record) is not None

    def _typical(self) -> dict[str, timedelta]:
        """The median duration of all that promises rest on."""
        assert self._promises is not None
        found = {}
        for name in self._promises.catalog.closure(self._names):
            typical = typical_duration(recent_units(self._store, name))
            if typical is not None:
                found[name] = typical
        return found

    def _remember(self, told: Told) -> None:
        key = job_key(told.process, told.interval)
        record = self._records.get(key) or PromiseRecord(
            process=told.process,
            start=told.interval.start,
            label=told.interval.label,
            promised=told.promised,
        )
        record = replace(record, promised=told.promised, reason=told.reason or record.reason)
        match told.what:
            case "warned":
                record = replace(record, warned_at=told.at)
            case "broken":
                record = replace(record, broken_at=told.at)
            case "ended":
                record = replace(record, ended_at=told.at)
        self._records[key] = record
        self._store.save_document("promises", key, record.content(), None)


def _say(told: Iterable[Told]) -> None:
    """A line for each; one for all of a process of which the same is told at once."""
    alike: dict[tuple[str, str], list[Told]] = {}
    for one in told:
        alike.setdefault((one.process, one.what), []).append(one)
    for (process, what), some in alike.items():
        for one in some if len(some) < MANY else some[-1:]:
            by = one.promised.strftime("%Y-%m-%d %H:%M:%S UTC")
            many = "" if len(some) < MANY else f"{len(some)} intervals, the last of them "
            because = f": {one.reason}" if one.reason else ""
            level, words = _WORDS[what]
            text = f"{process} {many}{one.interval.label} {words.format(by=by)}{because}"
            _log.log(level, text, extra={"action": "promise"})


_WORDS = {
    "warned": (logging.WARNING, "is to be complete by {by}, and will probably be late"),
    "broken": (logging.ERROR, "was to be complete by {by}, and is not"),
    "ended": (logging.INFO, "is complete; promised was {by}"),
}
