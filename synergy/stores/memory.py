"""A store in this process: for tests, simulations and trying things out.

It keeps the same promises as the others, about the same costs of history included: what is
active, requested or not folded is found without looking at what is over.
"""

import threading
from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import islice

from synergy.core.batches import followers
from synergy.core.intervals import Interval
from synergy.core.model import (
    Applied,
    BoxRecord,
    Claim,
    FeedEntry,
    Job,
    JobWrite,
    Json,
    Lease,
    LedgerRecord,
    Refused,
    Renewal,
    Request,
    Transition,
    Unit,
    UnitWrite,
    job_key,
    may_be_ahead,
)
from synergy.core.states import UnitInput, UnitState
from synergy.ports import Kind, News, Versioned
from synergy.records import EPOCH
from synergy.stores.following import followed
from synergy.stores.rules import (
    HELD,
    job_is_active,
    lease_after,
    may_replace,
    news,
    taken,
)

_APPLIED = Applied()

#: Place in the queue: high priority first, then the oldest interval, then the key.
_Turn = tuple[int, datetime, str]


class MemoryStore:
    """The `Store` port over dictionaries.  Public methods lock; the private ones expect that."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._active_jobs: set[str] = set()
        self._job_starts: dict[str, list[tuple[datetime, str]]] = {}
        self._units: dict[str, Unit] = {}
        self._units_of: dict[str, set[str]] = {}
        self._active_units: set[str] = set()
        self._queue: list[_Turn] = []
        #: Entries in order; those numbered above `_folded` are not public yet.
        self._feed: list[FeedEntry] = []
        self._last_seq = 0
        self._folded = 0
        #: Number of the last entry of each job.
        self._told: dict[str, int] = {}
        self._ledgers: dict[str, LedgerRecord] = {}
        self._requests: dict[str, Request] = {}
        self._open_requests: dict[str, None] = {}
        self._documents: dict[tuple[str, str], Versioned] = {}
        self._leases: dict[str, Lease] = {}
        self._boxes: dict[str, BoxRecord] = {}
        self._off: set[tuple[str, str]] = set()

    def close(self) -> None:
        """Nothing to let go of."""

    def checkpoint(self) -> None:
        """Nothing to tidy up."""

    def together(self) -> AbstractContextManager[None]:
        """Nothing to share."""
        return nullcontext()

    # jobs

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """One conditional write each."""
        answers: list[Applied | Refused[Job]] = []
        with self._lock:
            for write in writes:
                job, key = write.job, write.job.key
                current = self._jobs.get(key)
                if (0 if current is None else current.version) != write.expected:
                    answers.append(Refused(current))
                    continue
                self._jobs[key] = job
                if current is None:
                    insort(self._job_starts.setdefault(job.process, []), (job.interval.start, key))
                if job_is_active(job):
                    self._active_jobs.add(key)
                else:
                    self._active_jobs.discard(key)
                fresh = news(job.transitions, write.expected)
                if fresh:
                    self._tell("job", key, job.process, job.interval, fresh)
                    self._told[key] = self._last_seq
                answers.append(_APPLIED)
        return answers

    def read_jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        """Those that are stored."""
        with self._lock:
            return {key: self._jobs[key] for key in keys if key in self._jobs}

    def active_jobs(self) -> list[Job]:
        """By process and start."""
        with self._lock:
            unfolded = {
                entry.key
                for entry in self._feed[self._place_after(self._folded) :]
                if entry.kind == "job" and entry.key in self._jobs
            }
            jobs = [self._jobs[key] for key in self._active_jobs | unfolded]
        return sorted(jobs, key=lambda job: (job.process, job.interval.start))

    def jobs_between(self, process: str, start: datetime, end: datetime) -> list[Job]:
        """By start."""
        with self._lock:
            starts = self._job_starts.get(process, [])
            first, last = bisect_left(starts, (start, "")), bisect_left(starts, (end, ""))
            return [self._jobs[key] for _, key in starts[first:last]]

    def last_jobs(self, process: str, limit: int) -> list[Job]:
        """Newest first."""
        with self._lock:
            starts = self._job_starts.get(process, [])
            return [self._jobs[key] for _, key in islice(reversed(starts), limit)]

    def prune_jobs(self, process: str, before: datetime) -> int:
        """Forget what is over, folded and has no unit at work."""
        with self._lock:
            starts = self._job_starts.get(process, [])
            old = starts[: bisect_left(starts, (before, ""))]
            gone = [turn for turn in old if self._is_over(turn[1])]
            for _, key in gone:
                del self._jobs[key]
                self._told.pop(key, None)
                for unit in self._units_of.pop(key, ()):
                    del self._units[unit]
            forgotten = set(gone)
            starts[: len(old)] = [turn for turn in old if turn not in forgotten]
            return len(gone)

    def prune_units(self, process: str, start: datetime, end: datetime) -> int:
        """Forget those of jobs that are over and folded."""
        with self._lock:
            starts = self._job_starts.get(process, [])
            part = starts[bisect_left(starts, (start, "")) : bisect_left(starts, (end, ""))]
            over = [
                (key, unit)
                for _, key in part
                if key not in self._active_jobs and self._told.get(key, 0) <= self._folded
                for unit in self._units_of.get(key, ())
                if unit not in self._active_units
            ]
            for key, unit in over:
                self._units_of[key].discard(unit)
                del self._units[unit]
            return len(over)

    def _is_over(self, key: str) -> bool:
        return (
            key not in self._active_jobs
            and self._told.get(key, 0) <= self._folded
            and self._active_units.isdisjoint(self._units_of.get(key, ()))
        )

    # units of work

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """One conditional write each."""
        answers: list[Applied | Refused[Unit]] = []
        with self._lock:
            for write in writes:
                current = self._units.get(write.unit.key)
                standing = None if current is None else current.fence_with_lease
                if may_replace(standing, 0 if current is None else current.version, write):
                    self._put_unit(write.unit, current)
                    answers.append(_APPLIED)
                else:
                    answers.append(Refused(current))
        return answers

    def read_units(self, keys: Iterable[str], *, history: bool = True) -> dict[str, Unit]:
        """Those that are stored, always with their history, which is there."""
        with self._lock:
            return {key: self._units[key] for key in keys if key in self._units}

    def active_units(self) -> list[Unit]:
        """By start and key."""
        with self._lock:
            units = [self._units[key] for key in self._active_units]
        return sorted(units, key=lambda unit: (unit.interval.start, unit.key))

    def held_units(self) -> list[Unit]:
        """By start and key."""
        return [unit for unit in self.active_units() if unit.state in HELD]

    def claim(self, claim: Claim) -> list[Unit]:
        """Start up to so many units for this owner, and claim some ahead."""
        with self._lock:
            ready = (
                unit
                for unit in self._requested(claim.keys)
                if (unit.not_before is None or unit.not_before <= claim.now)
                and (claim.processes is None or unit.process in claim.processes)
            )
            to_start = list(islice(ready, max(0, claim.limit)))
            if more := followers(to_start, partial(self._waiting, claim)):
                to_start += more
                left = {unit.key for unit in more}
                ready = (unit for unit in ready if unit.key not in left)
            quick = (unit for unit in ready if may_be_ahead(unit, claim.quick))
            ahead = list(islice(quick, max(0, claim.ahead)))
            units = [taken(unit, claim, UnitInput.START) for unit in to_start]
            units += [taken(unit, claim, UnitInput.CLAIM) for unit in ahead]
            for before, after in zip(to_start + ahead, units, strict=True):
                self._put_unit(after, before)
            return units

    def _waiting(self, claim: Claim, last: Unit) -> Iterable[Unit]:
        """What of a process starts no earlier than a unit ends, by starts."""
        requested = (self._units[key] for _, _, key in self._queue)
        found = [
            unit
            for unit in requested
            if unit.process == last.process
            and unit.interval.start >= last.interval.end
            and (unit.not_before is None or unit.not_before <= claim.now)
        ]
        return sorted(found, key=lambda unit: (unit.interval.start, unit.key))

    def _requested(self, keys: Iterable[str] | None) -> Iterable[Unit]:
        """Those among the keys, in the order in which units are claimed."""
        if keys is None:
            return (self._units[key] for _, _, key in self._queue)
        named = (self._units[key] for key in set(keys) if key in self._units)
        requested = [unit for unit in named if unit.state is UnitState.REQUESTED]
        return sorted(requested, key=lambda unit: unit.turn)

    def save_and_claim(
        self, writes: Sequence[UnitWrite], claim: Claim
    ) -> tuple[list[Applied | Refused[Unit]], list[Unit]]:
        """One after the other."""
        with self.together():
            return self.save_units(writes), self.claim(claim)

    def next_claimable(self) -> datetime | None:
        """The earliest `not_before` among requested units; the epoch for one without."""
        with self._lock:
            return min(
                (self._units[key].not_before or EPOCH for _, _, key in self._queue), default=None
            )

    def renew(self, renewals: Sequence[Renewal]) -> list[bool]:
        """Extend leases where they are still held."""
        answers = []
        with self._lock:
            for renewal in renewals:
                unit = self._units.get(renewal.key)
                held = (
                    unit is not None
                    and unit.state in HELD
                    and (unit.attempt, unit.owner) == (renewal.attempt, renewal.owner)
                )
                answers.append(held)
                if held and unit is not None:
                    self._units[renewal.key] = replace(
                        unit,
                        lease_until=renewal.lease_until,
                        progress=renewal.progress or unit.progress,
                    )
        return answers

    def _put_unit(self, unit: Unit, before: Unit | None) -> None:
        key = unit.key
        self._units[key] = unit
        if before is None:
            job = job_key(unit.process, unit.interval)
            self._units_of.setdefault(job, set()).add(key)
        elif before.state is UnitState.REQUESTED:
            del self._queue[bisect_left(self._queue, before.turn)]
        if unit.state is UnitState.REQUESTED:
            insort(self._queue, unit.turn)
        if unit.state.terminal:
            self._active_units.discard(key)
        else:
            self._active_units.add(key)
        fresh = news(unit.transitions, 0 if before is None else before.version)
        self._tell("unit", key, unit.process, unit.interval, fresh)

    # the feed

    def fold(self, limit: int) -> int:
        """Publish so many entries, which are of so many documents at most."""
        with self._lock:
            count = min(max(0, limit), self._last_seq - self._folded)
            self._folded += count
            return count

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Published entries, ascending."""
        with self._lock:
            first = self._place_after(after)
            return self._feed[first : min(first + limit, self._place_after(self._folded))]

    def changes(self, after: int, limit: int) -> list[tuple[int, str, str, int]]:
        """What of published entries tells which documents to read."""
        return [
            (entry.seq, entry.kind, entry.key, entry.transition.version)
            for entry in self.feed(after, limit)
        ]

    def follow(self, after: int, limit: int, known: Container[tuple[str, int]]) -> News:
        """Step by step."""
        return followed(self, after, limit, known)

    def prune_feed(self, through: int) -> int:
        """Forget published entries."""
        with self._lock:
            count = self._place_after(min(through, self._folded))
            del self._feed[:count]
            return count

    def _place_after(self, seq: int) -> int:
        """Index of the first kept entry numbered above `seq`: they are numbered without gaps."""
        return max(0, seq - (self._last_seq - len(self._feed)))

    def _tell(
        self,
        kind: str,
        key: str,
        process: str,
        interval: Interval,
        transitions: Iterable[Transition],
    ) -> None:
        for transition in transitions:
            self._last_seq += 1
            self._feed.append(
                FeedEntry(
                    seq=self._last_seq,
                    kind=kind,
                    key=key,
                    process=process,
                    interval=interval,
                    transition=transition,
                )
            )

    def read_ledgers(self) -> dict[str, LedgerRecord]:
        """All of them."""
        with self._lock:
            return dict(self._ledgers)

    def save_ledgers(self, records: Sequence[LedgerRecord]) -> None:
        """Keep the one that reaches further."""
        with self._lock:
            for record in records:
                stored = self._ledgers.get(record.process)
                if stored is None or stored.through <= record.through:
                    self._ledgers[record.process] = record

    # requests, catalog, leases

    def file_request(self, request: Request) -> None:
        """Insert; a second time changes nothing."""
        with self._lock:
            if request.id not in self._requests:
                self._requests[request.id] = request
                if request.state == "filed":
                    self._open_requests[request.id] = None

    def read_request(self, request_id: str) -> Request | None:
        """As it stands."""
        with self._lock:
            return self._requests.get(request_id)

    def open_requests(self) -> list[Request]:
        """In the order of filing."""
        with self._lock:
            return [self._requests[request_id] for request_id in self._open_requests]

    def last_requests(self, limit: int) -> list[Request]:
        """Newest first."""
        with self._lock:
            return [*reversed(self._requests.values())][: max(0, limit)]

    def move_request(self, request: Request, expected: str) -> bool:
        """Only one that stands in that state."""
        with self._lock:
            standing = self._requests.get(request.id)
            if standing is None or standing.state != expected:
                return standing == request
            if expected == "filed":
                del self._open_requests[request.id]
            if request.state == "filed":
                self._open_requests[request.id] = None
            self._requests[request.id] = request
            return True

    # documents

    def read_documents(self, kind: Kind) -> dict[str, Versioned]:
        """All of them."""
        with self._lock:
            return {key: found for (of, key), found in self._documents.items() if of == kind}

    def save_document(
        self, kind: Kind, key: str, content: Mapping[str, Json] | None, expected: int | None
    ) -> bool:
        """Its version becomes one more."""
        with self._lock:
            standing = self._documents.get((kind, key))
            version = 0 if standing is None else standing.version
            if expected is not None and version != expected:
                return False
            if content is None:
                self._documents.pop((kind, key), None)
            else:
                self._documents[kind, key] = Versioned(version + 1, dict(content))
            return True

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """The lease as it stands after."""
        with self._lock:
            lease = lease_after(self._leases.get(name), owner, now, until)
            self._leases[name] = lease
            return lease

    def read_lease(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        with self._lock:
            return self._leases.get(name)

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """Over at once, if it is this owner's."""
        with self._lock:
            lease = self._leases.get(name)
            if lease is not None and lease.owner == owner:
                self._leases[name] = replace(lease, until=now)

    # boxes

    def save_box(self, record: BoxRecord) -> None:
        """In the place of the one before."""
        with self._lock:
            self._boxes[record.box] = record

    def read_boxes(self) -> list[BoxRecord]:
        """By name."""
        with self._lock:
            return [self._boxes[box] for box in sorted(self._boxes)]

    def switch_program(self, box: str, program: str, on: bool) -> None:
        """On or off."""
        with self._lock:
            if on:
                self._off.discard((box, program))
            else:
                self._off.add((box, program))

    def switched_off(self, box: str) -> frozenset[str]:
        """Of this box."""
        with self._lock:
            return frozenset(program for of, program in self._off if of == box)
