"""The embedded store: one SQLite file that the programs of a box share.

A batch of writes is one transaction, so that it costs one wait for the disk; within it every
write is conditional by itself, as on stores that have no transactions.

SQLite lets one program write at a time, so the order of commits is known exactly.  Transitions
therefore get their number in the feed right when their document is written, and stay private
until `fold` moves the mark ``folded`` beyond them: nothing is written twice, the order between
documents is that of the commits, and numbering is idempotent because a transition is news only
to the version that did not have it.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from synergy.core.intervals import Interval
from synergy.core.model import (
    Applied,
    Claim,
    FeedEntry,
    Fence,
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
)
from synergy.core.states import UnitInput, UnitState
from synergy.records import (
    from_micros,
    from_text,
    job_from_document,
    job_to_document,
    ledger_from_document,
    ledger_to_document,
    request_from_document,
    request_to_document,
    to_micros,
    to_text,
    transition_from_list,
    transition_to_list,
    unit_from_document,
    unit_to_document,
)
from synergy.stores.database import Database, open_database
from synergy.stores.migrations import pending_migrations, upgrade
from synergy.stores.rules import (
    HELD,
    fence_lets_pass,
    job_is_active,
    lease_after,
    news,
    take_document,
)

_APPLIED = Applied()
_HELD = frozenset(state.value for state in HELD)

# Lists of keys are one parameter, so that a statement is prepared once whatever their number.
_AMONG = "IN (SELECT value FROM json_each(?))"

_PUT_JOB = """
INSERT INTO jobs (key, process, start, version, active, told, document)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    version = excluded.version, active = excluded.active,
    told = max(told, excluded.told), document = excluded.document
"""
_PRUNED_JOBS = """
SELECT key FROM jobs
WHERE process = ? AND start < ? AND active = 0
    AND told <= (SELECT value FROM marks WHERE name = 'folded')
    AND NOT EXISTS (
        SELECT 1 FROM units
        WHERE units.key >= jobs.key || '#' AND units.key < jobs.key || '$'
            AND units.state IN ('requested', 'claimed', 'in_progress')
    )
"""

_PUT_UNIT = """
INSERT INTO units (key, process, start, priority, state, attempt, owner, lease_until,
    not_before, version, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    state = excluded.state, attempt = excluded.attempt, owner = excluded.owner,
    lease_until = excluded.lease_until, not_before = excluded.not_before,
    version = excluded.version, document = excluded.document
"""
_ACTIVE_UNITS = """
SELECT document FROM units
WHERE state IN ('requested', 'claimed', 'in_progress') ORDER BY start, key
"""
_CLAIMABLE = """
SELECT key, document FROM units
WHERE state = 'requested' AND (not_before IS NULL OR not_before <= ?)
ORDER BY priority DESC, start, key LIMIT ?
"""
_CLAIMABLE_OF = _CLAIMABLE.replace("ORDER", f"AND process {_AMONG} ORDER")
_CLAIMABLE_AHEAD = _CLAIMABLE_OF.replace("ORDER", "AND attempt = 1 ORDER")
_NEXT_CLAIMABLE = "SELECT min(coalesce(not_before, 0)) FROM units WHERE state = 'requested'"
_TAKE_UNIT = """
UPDATE units SET state = ?, owner = ?, lease_until = ?, version = ?, document = ?
WHERE key = ?
"""

_LAST_SEQ = """
SELECT max(coalesce((SELECT max(seq) FROM feed), 0), value) FROM marks WHERE name = 'folded'
"""
_TELL = "INSERT INTO feed VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FOLDED = "SELECT value FROM marks WHERE name = 'folded'"
_PENDING = f"SELECT ({_LAST_SEQ}) - ({_FOLDED})"
_FOLD = "UPDATE marks SET value = value + ? WHERE name = 'folded'"

#: A row of the table ``feed``.
_Row = tuple[int, str, str, str, str, int, int, str]


class SQLiteStore:
    """The `Store` port over one file; may be used from several threads, not across a fork."""

    def __init__(self, url: str, database: Database) -> None:
        self.url = url
        self._database = database

    @classmethod
    def open(cls, path: Path, url: str, *, create: bool = True) -> "SQLiteStore":
        """The store in the file at `path`, upgraded; a newer one is refused untouched."""
        pending_migrations(path)

        def prepare(connection: sqlite3.Connection) -> None:
            upgrade(connection, path)

        return cls(url, open_database(path, create=create, prepare=prepare))

    def close(self) -> None:
        """Close the file in all threads; twice is harmless."""
        self._database.close()

    def checkpoint(self, *, idle: bool = False) -> None:
        """Move the write-ahead log into the file: the scheduler's business, and only its.

        With `idle`, or when it has grown large, the log's file is cut to nothing too.  What is
        left because somebody reads just now is moved the next time.
        """
        self._database.checkpoint(truncate=idle)

    def check(self) -> list[str]:
        """What is wrong with the file, empty when it is sound; reads all of it, so on demand."""
        return self._database.problems()

    # jobs

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """One conditional write each, all in one transaction."""
        if not writes:
            return []
        with self._database.writing() as connection:
            keys = [write.job.key for write in writes]
            versions: dict[str, int] = dict(
                connection.execute(
                    f"SELECT key, version FROM jobs WHERE key {_AMONG}", (to_text(keys),)
                ).fetchall()
            )
            seq = _last_seq(connection)
            answers: list[Applied | Refused[Job]] = []
            put: dict[str, Job] = {}
            rows: list[tuple[Any, ...]] = []
            feed: list[_Row] = []
            for key, write in zip(keys, writes, strict=True):
                job = write.job
                if versions.get(key, 0) != write.expected:
                    answers.append(Refused(put[key] if key in put else _job(connection, key)))
                    continue
                fresh = news(job.transitions, write.expected)
                versions[key] = job.version
                put[key] = job
                document = job_to_document(job)
                rows.append(
                    (
                        key,
                        job.process,
                        document["start"],
                        job.version,
                        job_is_active(job),
                        seq + len(fresh) if fresh else 0,
                        to_text(document),
                    )
                )
                if fresh:
                    seq = _tell(feed, seq, "job", key, document, fresh)
                answers.append(_APPLIED)
            connection.executemany(_PUT_JOB, rows)
            connection.executemany(_TELL, feed)
        return answers

    def read_jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        """Those that are stored."""
        return {
            job.key: job
            for job in self._jobs(
                f"SELECT document FROM jobs WHERE key {_AMONG}", (to_text(list(keys)),)
            )
        }

    def active_jobs(self) -> list[Job]:
        """By process and start."""
        return self._jobs(
            "SELECT document FROM (SELECT process, start, document FROM jobs WHERE active = 1 "
            "UNION SELECT process, start, document FROM jobs WHERE key IN (SELECT key FROM feed "
            "WHERE seq > (SELECT value FROM marks WHERE name = 'folded') AND kind = 'job')) "
            "ORDER BY process, start",
            (),
        )

    def jobs_between(self, process: str, start: datetime, end: datetime) -> list[Job]:
        """By start."""
        return self._jobs(
            "SELECT document FROM jobs WHERE process = ? AND start >= ? AND start < ? "
            "ORDER BY start",
            (process, to_micros(start), to_micros(end)),
        )

    def last_jobs(self, process: str, limit: int) -> list[Job]:
        """Newest first."""
        return self._jobs(
            "SELECT document FROM jobs WHERE process = ? ORDER BY start DESC LIMIT ?",
            (process, max(0, limit)),
        )

    def prune_jobs(self, process: str, before: datetime) -> int:
        """Forget what is over, folded and has no unit at work."""
        with self._database.writing() as connection:
            keys = connection.execute(_PRUNED_JOBS, (process, to_micros(before))).fetchall()
            connection.executemany(
                "DELETE FROM units WHERE key >= ? || '#' AND key < ? || '$'",
                [(key, key) for (key,) in keys],
            )
            connection.executemany("DELETE FROM jobs WHERE key = ?", keys)
        return len(keys)

    def _jobs(self, query: str, parameters: tuple[Any, ...]) -> list[Job]:
        with self._database.reading() as connection:
            rows = connection.execute(query, parameters).fetchall()
        return [job_from_document(from_text(text)) for (text,) in rows]

    # units of work

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """One conditional write each, all in one transaction."""
        if not writes:
            return []
        with self._database.writing() as connection:
            keys = [write.unit.key for write in writes]
            standing: dict[str, tuple[Fence, int]] = {
                key: (Fence(UnitState(state), attempt, owner, _instant(lease)), version)
                for key, state, attempt, owner, lease, version in connection.execute(
                    "SELECT key, state, attempt, owner, lease_until, version FROM units "
                    f"WHERE key {_AMONG}",
                    (to_text(keys),),
                ).fetchall()
            }
            seq = _last_seq(connection)
            answers: list[Applied | Refused[Unit]] = []
            put: dict[str, Unit] = {}
            rows: list[tuple[Any, ...]] = []
            feed: list[_Row] = []
            for key, write in zip(keys, writes, strict=True):
                unit = write.unit
                stands = standing.get(key)
                if not _may_replace(stands, write):
                    answers.append(Refused(put[key] if key in put else _unit(connection, key)))
                    continue
                fresh = news(unit.transitions, 0 if stands is None else stands[1])
                standing[key] = (
                    Fence(unit.state, unit.attempt, unit.owner, unit.lease_until),
                    unit.version,
                )
                put[key] = unit
                document = unit_to_document(unit)
                rows.append(
                    (
                        key,
                        unit.process,
                        document["start"],
                        unit.task.priority,
                        document["state"],
                        unit.attempt,
                        unit.owner,
                        document.get("lease_until"),
                        document.get("not_before"),
                        unit.version,
                        to_text(document),
                    )
                )
                seq = _tell(feed, seq, "unit", key, document, fresh)
                answers.append(_APPLIED)
            connection.executemany(_PUT_UNIT, rows)
            connection.executemany(_TELL, feed)
        return answers

    def read_units(self, keys: Iterable[str]) -> dict[str, Unit]:
        """Those that are stored."""
        return {
            unit.key: unit
            for unit in self._units(
                f"SELECT document FROM units WHERE key {_AMONG}", (to_text(list(keys)),)
            )
        }

    def active_units(self) -> list[Unit]:
        """By start and key."""
        return self._units(_ACTIVE_UNITS, ())

    def claim(self, claim: Claim) -> list[Unit]:
        """Start up to so many units for this owner and claim some ahead, in one transaction."""
        wishes = _wishes(claim)
        # Workers ask often and in vain, so they first look without keeping others from writing.
        with self._database.reading() as connection:
            if not any(
                connection.execute(f"SELECT EXISTS ({query})", parameters).fetchone()[0]
                for _, query, parameters in wishes
            ):
                return []
        with self._database.writing() as connection:
            seq = _last_seq(connection)
            units: list[Unit] = []
            feed: list[_Row] = []
            for applied, query, parameters in wishes:
                rows: list[tuple[Any, ...]] = []
                for key, text in connection.execute(query, parameters).fetchall():
                    document = from_text(text)
                    take_document(document, claim, applied)
                    unit = unit_from_document(document)
                    units.append(unit)
                    rows.append(
                        (
                            document["state"],
                            document["owner"],
                            document["lease_until"],
                            document["version"],
                            to_text(document),
                            key,
                        )
                    )
                    seq = _tell(feed, seq, "unit", key, document, unit.transitions[-1:])
                connection.executemany(_TAKE_UNIT, rows)
            connection.executemany(_TELL, feed)
        return units

    def next_claimable(self) -> datetime | None:
        """The earliest `not_before` among requested units; the epoch for one without."""
        with self._database.reading() as connection:
            return _instant(connection.execute(_NEXT_CLAIMABLE).fetchone()[0])

    def renew(self, renewals: Sequence[Renewal]) -> list[bool]:
        """Extend leases where they are still held, in one transaction."""
        if not renewals:
            return []
        with self._database.writing() as connection:
            documents: dict[str, Any] = {
                key: from_text(text)
                for key, text in connection.execute(
                    f"SELECT key, document FROM units WHERE key {_AMONG}",
                    (to_text([renewal.key for renewal in renewals]),),
                ).fetchall()
            }
            answers = []
            rows = []
            for renewal in renewals:
                document = documents.get(renewal.key)
                held = (
                    document is not None
                    and document["state"] in _HELD
                    and document.get("attempt", 1) == renewal.attempt
                    and document.get("owner") == renewal.owner
                )
                answers.append(held)
                if held and document is not None:
                    document["lease_until"] = to_micros(renewal.lease_until)
                    if renewal.progress is not None:
                        document["progress"] = list(renewal.progress)
                    rows.append((document["lease_until"], to_text(document), renewal.key))
            connection.executemany(
                "UPDATE units SET lease_until = ?, document = ? WHERE key = ?", rows
            )
        return answers

    def _units(self, query: str, parameters: tuple[Any, ...]) -> list[Unit]:
        with self._database.reading() as connection:
            rows = connection.execute(query, parameters).fetchall()
        return [unit_from_document(from_text(text)) for (text,) in rows]

    # the feed

    def fold(self, limit: int) -> int:
        """Publish so many entries, which are of so many documents at most."""
        with self._database.reading() as connection:
            if not connection.execute(_PENDING).fetchone()[0]:
                return 0
        with self._database.writing() as connection:
            count = min(max(0, limit), int(connection.execute(_PENDING).fetchone()[0]))
            connection.execute(_FOLD, (count,))
        return count

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Published entries, ascending."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT * FROM feed WHERE seq > ? AND seq <= ({_FOLDED}) ORDER BY seq LIMIT ?",
                (after, max(0, limit)),
            ).fetchall()
        return _entries(rows)

    def prune_feed(self, through: int) -> int:
        """Forget published entries."""
        with self._database.writing() as connection:
            return connection.execute(
                f"DELETE FROM feed WHERE seq <= min(?, ({_FOLDED}))", (through,)
            ).rowcount

    def read_ledgers(self) -> dict[str, LedgerRecord]:
        """All of them."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT process, document FROM ledgers").fetchall()
        return {process: ledger_from_document(from_text(text)) for process, text in rows}

    def save_ledgers(self, records: Sequence[LedgerRecord]) -> None:
        """Keep the one that reaches further."""
        if not records:
            return
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT INTO ledgers VALUES (?, ?, ?) ON CONFLICT (process) DO UPDATE SET "
                "through = excluded.through, document = excluded.document "
                "WHERE through <= excluded.through",
                [
                    (record.process, record.through, to_text(ledger_to_document(record)))
                    for record in records
                ],
            )

    # requests, catalog, leases

    def file_request(self, request: Request) -> None:
        """Insert; a second time changes nothing."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO requests (id, state, document) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO NOTHING",
                (request.id, request.state, to_text(request_to_document(request))),
            )

    def read_request(self, request_id: str) -> Request | None:
        """As it stands."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT document FROM requests WHERE id = ?", (request_id,)
            ).fetchone()
        return None if row is None else request_from_document(from_text(row[0]))

    def open_requests(self) -> list[Request]:
        """In the order of filing."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT document FROM requests WHERE state = 'filed' ORDER BY arrival"
            ).fetchall()
        return [request_from_document(from_text(text)) for (text,) in rows]

    def answer_request(self, request: Request) -> None:
        """Only an open one."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE requests SET state = ?, document = ? WHERE id = ? AND state = 'filed'",
                (request.state, to_text(request_to_document(request)), request.id),
            )

    def read_catalog(self) -> Mapping[str, Json] | None:
        """With its version."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT version, document FROM catalog").fetchone()
        return None if row is None else {**from_text(row[1]), "version": row[0]}

    def save_catalog(self, content: Mapping[str, Json], expected: int) -> bool:
        """Its version becomes ``expected + 1``."""
        with self._database.writing() as connection:
            row = connection.execute("SELECT version FROM catalog").fetchone()
            if (0 if row is None else row[0]) != expected:
                return False
            version = expected + 1
            connection.execute(
                "INSERT INTO catalog VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET "
                "version = excluded.version, document = excluded.document",
                (version, to_text({**content, "version": version})),
            )
            return True

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """The lease as it stands after."""
        with self._database.writing() as connection:
            held = _lease(connection, name)
            lease = lease_after(held, owner, now, until)
            if lease != held:
                connection.execute(
                    "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                    "owner = excluded.owner, epoch = excluded.epoch, until = excluded.until",
                    (name, lease.owner, lease.epoch, to_micros(lease.until)),
                )
            return lease

    def read_lease(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        with self._database.reading() as connection:
            return _lease(connection, name)

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """Over at once, if it is this owner's."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE leases SET until = ? WHERE name = ? AND owner = ?",
                (to_micros(now), name, owner),
            )


def _wishes(claim: Claim) -> list[tuple[UnitInput, str, tuple[Any, ...]]]:
    """What is to be applied to which units, in turn: the query that finds them."""
    now, wishes = to_micros(claim.now), list[tuple[UnitInput, str, tuple[Any, ...]]]()
    if claim.limit > 0 and claim.processes is None:
        wishes.append((UnitInput.START, _CLAIMABLE, (now, claim.limit)))
    elif claim.limit > 0 and claim.processes:
        among = to_text(sorted(claim.processes))
        wishes.append((UnitInput.START, _CLAIMABLE_OF, (now, among, claim.limit)))
    quick = claim.quick if claim.processes is None else claim.quick & claim.processes
    if claim.ahead > 0 and quick:
        among = to_text(sorted(quick))
        wishes.append((UnitInput.CLAIM, _CLAIMABLE_AHEAD, (now, among, claim.ahead)))
    return wishes


def _may_replace(stands: tuple[Fence, int] | None, write: UnitWrite) -> bool:
    if stands is None or write.expected is None:
        return stands is None and write.expected is None
    # A unit that was claimed and handed back passes the fence of who saw it before (same state,
    # attempt and owner); its version must not go back, or the feed would number one twice.
    return fence_lets_pass(write.expected, stands[0]) and write.unit.version >= stands[1]


def _last_seq(connection: sqlite3.Connection) -> int:
    """The last number given, also when the feed has been pruned to nothing."""
    seq: int = connection.execute(_LAST_SEQ).fetchone()[0]
    return seq


def _tell(
    feed: list[_Row],
    seq: int,
    kind: str,
    key: str,
    document: Mapping[str, Any],
    transitions: Iterable[Transition],
) -> int:
    """Number a document's new transitions; returns the last number given."""
    for transition in transitions:
        seq += 1
        feed.append(
            (
                seq,
                kind,
                key,
                document["process"],
                document["label"],
                document["start"],
                document["end"],
                to_text(transition_to_list(transition)),
            )
        )
    return seq


def _entries(rows: Iterable[_Row]) -> list[FeedEntry]:
    intervals: dict[tuple[str, int, int], Interval] = {}  # most entries share theirs with others
    entries = []
    for seq, kind, key, process, label, start, end, transition in rows:
        interval = intervals.get((label, start, end))
        if interval is None:
            interval = Interval(from_micros(start), from_micros(end), label)
            intervals[label, start, end] = interval
        entries.append(
            FeedEntry(
                seq=seq,
                kind=kind,
                key=key,
                process=process,
                interval=interval,
                transition=transition_from_list(from_text(transition)),
            )
        )
    return entries


def _job(connection: sqlite3.Connection, key: str) -> Job | None:
    row = connection.execute("SELECT document FROM jobs WHERE key = ?", (key,)).fetchone()
    return None if row is None else job_from_document(from_text(row[0]))


def _unit(connection: sqlite3.Connection, key: str) -> Unit | None:
    row = connection.execute("SELECT document FROM units WHERE key = ?", (key,)).fetchone()
    return None if row is None else unit_from_document(from_text(row[0]))


def _lease(connection: sqlite3.Connection, name: str) -> Lease | None:
    row = connection.execute(
        "SELECT owner, epoch, until FROM leases WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    return Lease(owner=row[0], epoch=row[1], until=from_micros(row[2]))


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
