"""Which workers listen, and which boxes are heard of: what they leave in the store of themselves.

Each worker program puts a document of itself beside the others' and renews it while it runs; it is
for those who look only.  Nothing is decided by it: who may work a unit is settled by claims (D3),
and whether a worker is lost by leases (D6).

Clocks may be wrong.  A worker whose clock is ahead seems to have been seen in the future, and
counts as heard of; one whose clock is behind by more than `SILENT` seems silent, which costs
nothing but a warning that is not true.  What is removed by mistake is there again after a beat.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from synergy.core.boxes import admits
from synergy.core.model import BoxRecord, Json
from synergy.ports import Clock, Store
from synergy.records import from_micros, to_micros
from synergy.words import clock

#: Seconds between the records that a box or a worker leaves of itself.
BEAT: Final = 5.0
#: Seconds after which one that was not heard of is silent.
SILENT: Final = 3 * BEAT
#: A worker that was not heard of for so long is not told of any more.
FORGOTTEN: Final = timedelta(hours=1)

#: Seconds between looks for those.
_LOOK: Final = FORGOTTEN.total_seconds() / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker program as it told of itself last."""

    #: Its token: the beginning of that of each claim that it makes.
    owner: str
    program: str
    box: str
    slots: int
    #: The processes and freeruns whose units it takes; None for all.
    processes: frozenset[str] | None
    #: Slots that were at work.
    busy: int
    seen_at: datetime

    def takes(self, process: str) -> bool:
        """Whether it takes units of that process."""
        return self.processes is None or process in self.processes

    def is_silent(self, now: datetime) -> bool:
        """Whether it should have been heard of."""
        return (now - self.seen_at).total_seconds() > SILENT

    def content(self) -> dict[str, Json]:
        """As the document that is stored."""
        return {
            "program": self.program,
            "box": self.box,
            "slots": self.slots,
            "processes": None if self.processes is None else [*sorted(self.processes)],
            "busy": self.busy,
            "seen_at": to_micros(self.seen_at),
        }


def worker_of(owner: str, content: Mapping[str, Json]) -> WorkerRecord:
    """The record that a stored document holds."""
    listed, seen_at = content["processes"], content["seen_at"]
    slots, busy = content["slots"], content["busy"]
    assert isinstance(slots, int)
    assert isinstance(busy, int)
    assert isinstance(seen_at, int)
    return WorkerRecord(
        owner=owner,
        program=str(content["program"]),
        box=str(content["box"]),
        slots=slots,
        processes=frozenset(map(str, listed)) if isinstance(listed, list) else None,
        busy=busy,
        seen_at=from_micros(seen_at),
    )


def read_workers(store: Store) -> list[WorkerRecord]:
    """Every worker that has told of itself and not taken leave, by box and program."""
    documents = store.read_documents("workers")
    found = [worker_of(owner, stored.content) for owner, stored in documents.items()]
    return sorted(found, key=lambda each: (each.box, each.program, each.owner))


def save_worker(store: Store, record: WorkerRecord) -> None:
    """Put the record in the place of the worker's last one."""
    store.save_document("workers", record.owner, record.content(), None)


def remove_worker(store: Store, owner: str) -> None:
    """It does not listen any more."""
    store.save_document("workers", owner, None, None)


def holder_of(token: str, workers: Iterable[WorkerRecord]) -> WorkerRecord | None:
    """The worker that made a claim with this token."""
    mine = (each for each in workers if f"{token}/".startswith(f"{each.owner}/"))
    return next(mine, None)


class Forgetting:
    """Removes those that are not heard of any more; by a steady clock, so that no record is
    removed again and again because its worker's wall clock is wrong."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._look_at = clock.monotonic() + _LOOK
        #: Of each worker the version of its document, and since when it has that (monotonic).
        self._standing: dict[str, tuple[int, float]] = {}

    def look(self, store: Store) -> None:
        """Remove what has not changed for as long as `FORGOTTEN`; to be called now and then."""
        now = self._clock.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK
        found, before = store.read_documents("workers"), self._standing
        self._standing = {}
        for owner, stored in found.items():
            version, since = before.get(owner, (0, now))
            if version != stored.version:
                since = now
            if now - since >= FORGOTTEN.total_seconds():
                store.save_document("workers", owner, None, stored.version)
            else:
                self._standing[owner] = stored.version, since


def is_silent(record: BoxRecord, now: datetime) -> bool:
    """Whether a box's supervisor should have been heard of."""
    return record.supervisor is not None and (now - record.seen_at).total_seconds() > SILENT


def bound_in_vain(patterns: Sequence[str], boxes: Iterable[BoxRecord], now: datetime) -> str:
    """Why nobody can work what is bound to these boxes; empty where somebody may."""
    if not patterns:
        return ""
    meant = [record for record in boxes if admits(patterns, record.box)]
    bound = f"bound to boxes {', '.join(patterns)}"
    if not meant:
        return f"{bound}, none of which has been seen"
    if all(is_silent(record, now) for record in meant):
        last = max(meant, key=lambda record: record.seen_at)
        return f"{bound}, none of which is heard of: {last.box} last, {clock(last.seen_at)} UTC"
    return ""
