"""What was told of promises: one document for each interval that was at risk or too late.

The scheduler alone writes them (`scheduler.promises`); whoever looks at a timetable reads them.
Beside them, under the name of each process that promises, stands up to when its promises were
judged: nobody is told of what was promised before anybody watched.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.model import Json
from synergy.ports import Store, Versioned


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseRecord:
    """What was told of one interval; None what was not."""

    process: str
    #: Start of the interval, and its label.
    start: datetime
    label: str
    promised: datetime
    warned_at: datetime | None = None
    broken_at: datetime | None = None
    #: When it was found complete.
    ended_at: datetime | None = None
    #: Why it is at risk, or what held it when the promise was broken.
    reason: str = ""

    @property
    def key(self) -> str:
        """``process@label``."""
        return f"{self.process}@{self.label}"

    @property
    def told(self) -> frozenset[str]:
        """What was told of it."""
        known = {"warned": self.warned_at, "broken": self.broken_at, "ended": self.ended_at}
        return frozenset(what for what, at in known.items() if at is not None)

    def told_until(self, instant: datetime) -> "PromiseRecord | None":
        """Without what was told later; None where that was all."""

        def known(at: datetime | None) -> datetime | None:
            return at if at is not None and at <= instant else None

        warned, broken, ended = map(known, (self.warned_at, self.broken_at, self.ended_at))
        if warned is None and broken is None:
            return None
        return replace(self, warned_at=warned, broken_at=broken, ended_at=ended)

    @property
    def open(self) -> bool:
        """Whether it was not found complete yet."""
        return self.ended_at is None

    @property
    def state(self) -> str:
        """In words."""
        if self.broken_at is None:
            return "at risk" if self.open else "kept"
        return "broken" if self.open else "broken, complete now"

    def content(self) -> dict[str, Json]:
        """As the document that is stored."""
        return {
            "process": self.process,
            "start": _text(self.start),
            "label": self.label,
            "promised": _text(self.promised),
            "warned_at": _text(self.warned_at),
            "broken_at": _text(self.broken_at),
            "ended_at": _text(self.ended_at),
            "reason": self.reason,
        }


def record_of(content: Mapping[str, Json]) -> PromiseRecord:
    """The record that a stored document holds."""
    start, promised = _instant(content["start"]), _instant(content["promised"])
    assert start is not None
    assert promised is not None
    return PromiseRecord(
        process=str(content["process"]),
        start=start,
        label=str(content["label"]),
        promised=promised,
        warned_at=_instant(content["warned_at"]),
        broken_at=_instant(content["broken_at"]),
        ended_at=_instant(content["ended_at"]),
        reason=str(content["reason"]),
    )


def interval_of(catalog: Catalog, record: PromiseRecord) -> Interval | None:
    """The interval that it is of; None where there is no such one any more, or nothing is promised
    of it: what never began may be cut anew."""
    process = catalog.processes.get(record.process)
    if process is None or process.complete_by is None:
        return None
    interval = process.calendar.containing(record.start)
    same = (interval.start, interval.label) == (record.start, record.label)
    return interval if same and catalog.exists(process.name, interval) else None


def read_promises(store: Store) -> list[PromiseRecord]:
    """All that is remembered, by what was promised."""
    return records_of(store.read_documents("promises"))


def records_of(documents: Mapping[str, Versioned]) -> list[PromiseRecord]:
    """Those among the documents that are of intervals."""
    found = [record_of(each.content) for each in documents.values() if "label" in each.content]
    return sorted(found, key=lambda record: (record.promised, record.key))


def judged_until(documents: Mapping[str, Versioned]) -> dict[str, datetime]:
    """Up to when the promises of each process were judged."""
    found = ((name, _instant(each.content.get("until"))) for name, each in documents.items())
    return {name: until for name, until in found if until is not None}


def judged(until: datetime) -> dict[str, Json]:
    """The document of a process."""
    return {"until": _text(until)}


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat()


def _instant(text: Json) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
