"""The embedded store: one SQLite file that the programs of a box share.

A batch of writes is one transaction, so that it costs one wait for the disk; within it every
write is conditional by itself, as on stores that have no transactions.

SQLite lets one program write at a time, so the order of commits is known exactly.  Transitions
are therefore in the feed, with their number, as soon as their document is written: there is
nothing to fold, nothing is written twice, the order between documents is that of the commits, and
numbering is idempotent because a transition is news only to the version that did not have it.  A
document that is read back has its transitions from the feed; when that was pruned, it has those
that are left.
"""

import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from synergy.core.batches import followers
from synergy.core.model import (
    TRANSITIONS_KEPT,
    Applied,
    BoxRecord,
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
from synergy.core.states import UnitInput
from synergy.ports import Kind, News, Versioned
from synergy.records import (
    UNIT_STATES,
    box_from_document,
    box_to_document,
    from_micros,
    from_text,
    ledger_from_text,
    ledger_to_document,
    request_from_document,
    request_to_document,
    to_micros,
    to_text,
)
from synergy.stores.database import Database, open_database
from synergy.stores.following import followed
from synergy.stores.migrations import pending_migrations, upgrade
from synergy.stores.rows import (
    ENTRY_COLUMNS,
    HEAD,
    JOB_CHANGES,
    JOB_COLUMNS,
    TOLD,
    TRANSITION_COLUMNS,
    UNIT_CHANGES,
    UNIT_COLUMNS,
    UNIT_TAKEN,
    Head,
    Row,
    entry_from_row,
    head_of,
    histories,
    job_changes,
    job_from_row,
    take_row,
    taken_changes,
    task_of,
    transition_to_row,
    unit_changes,
    unit_from_row,
    unit_given,
)
from synergy.stores.rules import lease_after, may_replace, news

_APPLIED = Applied()

# Lists are one parameter, so that a statement is prepared once whatever their number.
_AMONG = "IN (SELECT value FROM json_each(?))"


def _insert(table: str, columns: Sequence[str]) -> str:
    places = ", ".join("?" for _ in columns)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"


def _change(table: str, columns: Sequence[str]) -> str:
    changes = ", ".join(f"{column} = ?" for column in (*columns, "told"))
    return f"UPDATE {table} SET {changes} WHERE key = ?"


_INSERT_JOB = _insert("jobs", JOB_COLUMNS)
_CHANGE_JOB = _change("jobs", JOB_CHANGES)
_JOBS = f"SELECT {', '.join(JOB_COLUMNS)} FROM jobs"
_JOBS_AMONG = f"{_JOBS} WHERE key {_AMONG}"
_STANDING_JOBS = f"SELECT key, version, told FROM jobs WHERE key {_AMONG}"
_ACTIVE_JOBS = f"{_JOBS} WHERE active = 1 ORDER BY process, start"
_JOBS_BETWEEN = f"{_JOBS} WHERE process = ? AND start >= ? AND start < ? ORDER BY start"
_LAST_JOBS = f"{_JOBS} WHERE process = ? ORDER BY start DESC LIMIT ?"
_JOBS_OVER = "SELECT key FROM jobs WHERE process = ? AND start >= ? AND start < ? AND active = 0"
_PRUNED_JOBS = """
SELECT key FROM jobs
WHERE process = ? AND start < ? AND active = 0
    AND NOT EXISTS (
        SELECT 1 FROM units
        WHERE units.key >= jobs.key || '#' AND units.key < jobs.key || '$' AND units.active = 1
    )
"""

_INSERT_UNIT = _insert("units", UNIT_COLUMNS)
_CHANGE_UNIT = _change("units", UNIT_CHANGES)
_TAKE_UNIT = _change("units", UNIT_TAKEN)
_UNITS = f"SELECT {', '.join(UNIT_COLUMNS)} FROM units"
_UNITS_AMONG = f"{_UNITS} WHERE key {_AMONG}"
_STANDING_UNITS = f"""
SELECT key, state, attempt, owner, lease_until, version, told FROM units WHERE key {_AMONG}
"""
_ACTIVE_UNITS = f"{_UNITS} WHERE active = 1 ORDER BY start, key"
_HELD_UNITS = f"""
{_UNITS} WHERE active = 1 AND state IN ('claimed', 'in_progress') ORDER BY start, key
"""
_CLAIMABLE = f"""
{_UNITS} WHERE state = 'requested' AND (not_before IS NULL OR not_before <= ?)
ORDER BY priority DESC, start, key LIMIT ?
"""
_CLAIMABLE_OF = _CLAIMABLE.replace("ORDER", f"AND process {_AMONG} ORDER")
_CLAIMABLE_AHEAD = _CLAIMABLE_OF.replace("ORDER", "AND attempt = 1 ORDER")
_WAITING = f"""
{_UNITS} WHERE state = 'requested' AND (not_before IS NULL OR not_before <= ?)
AND process = ? AND start >= ? AND attempt = 1 ORDER BY start, key LIMIT ?
"""
_NEXT_CLAIMABLE = "SELECT min(coalesce(not_before, 0)) FROM units WHERE state = 'requested'"
_RENEW = """
UPDATE units SET lease_until = ?, progress = coalesce(?, progress)
WHERE key = ? AND attempt = ? AND owner = ? AND state IN ('claimed', 'in_progress')
"""

# The one mark, which has its name from when there was something to fold, is the last number that
# was given before the feed was pruned, perhaps to nothing.
_LAST_SEQ = """
SELECT max(coalesce((SELECT max(seq) FROM feed), 0), value) FROM marks WHERE name = 'folded'
"""
_MARK_LAST = f"UPDATE marks SET value = ({_LAST_SEQ}) WHERE name = 'folded'"
_TELL = _insert("feed", ENTRY_COLUMNS)
_AFTER = "FROM feed WHERE seq > ? ORDER BY seq LIMIT ?"
_FEED = f"SELECT {', '.join(ENTRY_COLUMNS)} {_AFTER}"
_CHANGES = f"SELECT seq, kind, key, version {_AFTER}"
_ENTRIES = f"""
SELECT seq, {", ".join(TRANSITION_COLUMNS)} FROM json_each(?) CROSS JOIN feed ON seq = value
"""


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

    def together(self) -> AbstractContextManager[None]:
        """One transaction, which begins with the first write: one wait for the disk in all."""
        return self._database.together()

    def check(self) -> list[str]:
        """What is wrong with the file, empty when it is sound; reads all of it, so on demand."""
        return self._database.problems()

    # jobs

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """One conditional write each, all in one transaction."""
        if not writes:
            return []
        # What needs no look into the store is done before, as others wait for their turn to write.
        keys = [write.job.key for write in writes]
        heads = [head_of(write.job, key) for write, key in zip(writes, keys, strict=True)]
        rows = [job_changes(write.job) for write in writes]
        with self._database.writing() as connection:
            standing: dict[str, tuple[int, int]] = {
                key: (version, told)
                for key, version, told in connection.execute(_STANDING_JOBS, (to_text(keys),))
            }
            feed = _Telling(connection)
            answers: list[Applied | Refused[Job]] = []
            put: dict[str, Job] = {}
            inserts: list[Row] = []
            changes: list[Row] = []
            for write, head, row in zip(writes, heads, rows, strict=True):
                job, key = write.job, head[0]
                version, told = standing.get(key, (0, 0))
                if version != write.expected:
                    answers.append(Refused(put[key] if key in put else _job(connection, key)))
                    continue
                told = feed.tell("job", head, news(job.transitions, version), told)
                if key in standing:
                    changes.append((*row, told, key))
                else:
                    inserts.append((*head, *row, told))
                standing[key] = (job.version, told)
                put[key] = job
                answers.append(_APPLIED)
            connection.executemany(_INSERT_JOB, inserts)
            connection.executemany(_CHANGE_JOB, changes)
            feed.write()
        return answers

    def read_jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        """Those that are stored."""
        return {job.key: job for job in self._jobs(_JOBS_AMONG, (to_text(list(keys)),))}

    def active_jobs(self) -> list[Job]:
        """By process and start."""
        return self._jobs(_ACTIVE_JOBS, ())

    def jobs_between(self, process: str, start: datetime, end: datetime) -> list[Job]:
        """By start."""
        return self._jobs(_JOBS_BETWEEN, (process, to_micros(start), to_micros(end)))

    def last_jobs(self, process: str, limit: int) -> list[Job]:
        """Newest first."""
        return self._jobs(_LAST_JOBS, (process, max(0, limit)))

    def prune_jobs(self, process: str, before: datetime) -> int:
        """Forget what is over and has no unit at work."""
        with self._database.writing() as connection:
            keys = connection.execute(_PRUNED_JOBS, (process, to_micros(before))).fetchall()
            connection.executemany(
                "DELETE FROM units WHERE key >= ? || '#' AND key < ? || '$'",
                [(key, key) for (key,) in keys],
            )
            connection.executemany("DELETE FROM jobs WHERE key = ?", keys)
        return len(keys)

    def prune_units(self, process: str, start: datetime, end: datetime) -> int:
        """Forget those of jobs that are over."""
        parameters = (process, to_micros(start), to_micros(end))
        with self._database.writing() as connection:
            keys = connection.execute(_JOBS_OVER, parameters).fetchall()
            return connection.executemany(
                "DELETE FROM units WHERE key >= ? || '#' AND key < ? || '$' AND active = 0",
                [(key, key) for (key,) in keys],
            ).rowcount

    def _jobs(self, query: str, parameters: Row) -> list[Job]:
        with self._database.reading() as connection:
            return _jobs_of(connection, connection.execute(query, parameters).fetchall())

    # units of work

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """One conditional write each, all in one transaction."""
        if not writes:
            return []
        keys = [write.unit.key for write in writes]
        heads = [head_of(write.unit, key) for write, key in zip(writes, keys, strict=True)]
        rows = [unit_changes(write.unit) for write in writes]
        with self._database.writing() as connection:
            standing: dict[str, tuple[Fence, int, int]] = {
                key: (Fence(UNIT_STATES[state], attempt, owner, _instant(lease)), version, told)
                for key, state, attempt, owner, lease, version, told in connection.execute(
                    _STANDING_UNITS, (to_text(keys),)
                )
            }
            feed = _Telling(connection)
            answers: list[Applied | Refused[Unit]] = []
            put: dict[str, Unit] = {}
            inserts: list[Row] = []
            changes: list[Row] = []
            for write, head, row in zip(writes, heads, rows, strict=True):
                unit, key = write.unit, head[0]
                fence, version, told = standing.get(key, (None, 0, 0))
                if not may_replace(fence, version, write):
                    answers.append(Refused(put[key] if key in put else _unit(connection, key)))
                    continue
                told = feed.tell("unit", head, news(unit.transitions, version), told)
                if key in standing:
                    changes.append((*row, told, key))
                else:
                    inserts.append((*head, *unit_given(unit), *row, told))
                standing[key] = (unit.fence_with_lease, unit.version, told)
                put[key] = unit
                answers.append(_APPLIED)
            connection.executemany(_INSERT_UNIT, inserts)
            connection.executemany(_CHANGE_UNIT, changes)
            feed.write()
        return answers

    def read_units(self, keys: Iterable[str], *, history: bool = True) -> dict[str, Unit]:
        """Those that are stored."""
        among = (to_text(list(keys)),)
        units = self._units(_UNITS_AMONG, among, history=history)
        return {unit.key: unit for unit in units}

    def active_units(self) -> list[Unit]:
        """By start and key."""
        return self._units(_ACTIVE_UNITS, ())

    def held_units(self) -> list[Unit]:
        """By start and key."""
        return self._units(_HELD_UNITS, ())

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
            feed = _Telling(connection)
            held: list[Row] = []
            for applied, query, parameters in wishes:
                changes: list[Row] = []
                rows = connection.execute(query, parameters).fetchall()
                if applied is UnitInput.START and any(task_of(row).batch > 1 for row in rows):
                    rows += _followers(connection, rows, to_micros(claim.now))
                for found in rows:
                    row = list(found)
                    made = take_row(row, claim, applied)
                    row[TOLD] = feed.tell("unit", found[:HEAD], (made,), found[TOLD])
                    changes.append(taken_changes(row))
                    held.append(tuple(row))
                connection.executemany(_TAKE_UNIT, changes)
            feed.write()
        with self._database.reading() as connection:
            return _units_of(connection, held)

    def save_and_claim(
        self, writes: Sequence[UnitWrite], claim: Claim
    ) -> tuple[list[Applied | Refused[Unit]], list[Unit]]:
        """One after the other."""
        with self.together():
            return self.save_units(writes), self.claim(claim)

    def next_claimable(self) -> datetime | None:
        """The earliest `not_before` among requested units; the epoch for one without."""
        with self._database.reading() as connection:
            return _instant(connection.execute(_NEXT_CLAIMABLE).fetchone()[0])

    def renew(self, renewals: Sequence[Renewal]) -> list[bool]:
        """Extend leases where they are still held, in one transaction."""
        if not renewals:
            return []
        with self._database.writing() as connection:
            return [
                connection.execute(
                    _RENEW,
                    (
                        to_micros(renewal.lease_until),
                        None if renewal.progress is None else to_text(list(renewal.progress)),
                        renewal.key,
                        renewal.attempt,
                        renewal.owner,
                    ),
                ).rowcount
                == 1
                for renewal in renewals
            ]

    def _units(self, query: str, parameters: Row, *, history: bool = True) -> list[Unit]:
        with self._database.reading() as connection:
            rows = connection.execute(query, parameters).fetchall()
            return (
                _units_of(connection, rows) if history else [unit_from_row(row, ()) for row in rows]
            )

    # the feed

    def fold(self, limit: int) -> int:
        """Nothing: what is written is in the feed at once."""
        return 0

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Entries, ascending."""
        with self._database.reading() as connection:
            rows = connection.execute(_FEED, (after, max(0, limit))).fetchall()
        return [entry_from_row(row) for row in rows]

    def changes(self, after: int, limit: int) -> list[tuple[int, str, str, int]]:
        """What of entries tells which documents to read."""
        with self._database.reading() as connection:
            return connection.execute(_CHANGES, (after, max(0, limit))).fetchall()

    def follow(self, after: int, limit: int, known: Container[tuple[str, int]]) -> News:
        """Step by step."""
        return followed(self, after, limit, known)

    def prune_feed(self, through: int) -> int:
        """Forget entries."""
        with self._database.writing() as connection:
            connection.execute(_MARK_LAST)
            return connection.execute("DELETE FROM feed WHERE seq <= ?", (through,)).rowcount

    def read_ledgers(self) -> dict[str, LedgerRecord]:
        """All of them."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT process, through, document FROM ledgers").fetchall()
        return {row[0]: ledger_from_text(*row) for row in rows}

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

    def last_requests(self, limit: int) -> list[Request]:
        """Newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT document FROM requests ORDER BY arrival DESC LIMIT ?", (max(0, limit),)
            ).fetchall()
        return [request_from_document(from_text(text)) for (text,) in rows]

    def move_request(self, request: Request, expected: str) -> bool:
        """Only one that stands in that state."""
        text = to_text(request_to_document(request))
        with self._database.writing() as connection:
            moved = connection.execute(
                "UPDATE requests SET state = ?, document = ? WHERE id = ? AND state = ?",
                (request.state, text, request.id, expected),
            ).rowcount
            if moved:
                return True
            row = connection.execute(
                "SELECT document FROM requests WHERE id = ?", (request.id,)
            ).fetchone()
            return row is not None and row[0] == text

    # documents

    def read_documents(self, kind: Kind) -> dict[str, Versioned]:
        """All of them."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT key, version, document FROM documents WHERE kind = ? ORDER BY key", (kind,)
            ).fetchall()
        return {key: Versioned(version, from_text(text)) for key, version, text in rows}

    def save_document(
        self, kind: Kind, key: str, content: Mapping[str, Json] | None, expected: int | None
    ) -> bool:
        """Its version becomes one more."""
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT version FROM documents WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
            version = 0 if row is None else row[0]
            if expected is not None and version != expected:
                return False
            if content is None:
                connection.execute("DELETE FROM documents WHERE kind = ? AND key = ?", (kind, key))
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
                    (kind, key, version + 1, to_text(content)),
                )
            return True

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """The lease as it stands after."""
        with self._database.writing() as connection:
            held = _lease(connection, name)
            lease = lease_after(held, owner, now, until)
            if lease != held:
                connection.execute(
                    "INSERT INTO leases (name, owner, epoch, until, since) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, "
                    "epoch = excluded.epoch, until = excluded.until, since = excluded.since",
                    (
                        *(name, lease.owner, lease.epoch),
                        *(to_micros(lease.until), to_micros(lease.since)),
                    ),
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

    # boxes

    def save_box(self, record: BoxRecord) -> None:
        """In the place of the one before."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO boxes VALUES (?, ?) "
                "ON CONFLICT (box) DO UPDATE SET document = excluded.document",
                (record.box, to_text(box_to_document(record))),
            )

    def read_boxes(self) -> list[BoxRecord]:
        """By name."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT document FROM boxes ORDER BY box").fetchall()
        return [box_from_document(from_text(text)) for (text,) in rows]

    def switch_program(self, box: str, program: str, on: bool) -> None:
        """On or off."""
        change = (
            "DELETE FROM switched_off WHERE box = ? AND program = ?"
            if on
            else "INSERT INTO switched_off VALUES (?, ?) ON CONFLICT DO NOTHING"
        )
        with self._database.writing() as connection:
            connection.execute(change, (box, program))

    def switched_off(self, box: str) -> frozenset[str]:
        """Of this box."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT program FROM switched_off WHERE box = ?", (box,))
            return frozenset(program for (program,) in rows)


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
    if claim.keys is None:
        return wishes
    named = to_text(list(claim.keys))
    return [
        (applied, among_named(query), (named, *parameters)) for applied, query, parameters in wishes
    ]


def _followers(connection: sqlite3.Connection, rows: Sequence[Row], now: int) -> list[Row]:
    """The rows of those that make the calls full which a claim begins with these."""
    read: dict[str, Row] = {}

    def waiting(last: Unit) -> Iterator[Unit]:
        asked = (now, last.process, to_micros(last.interval.end), last.task.batch)
        for row in connection.execute(_WAITING, asked).fetchall():
            read[row[0]] = row
            yield unit_from_row(row, ())

    begun = [unit_from_row(row, ()) for row in rows]
    return [read[unit.key] for unit in followers(begun, waiting)]


def among_named(query: str) -> str:
    """A query for claimable units as one for those among so many keys, its first parameter.

    They are found by their keys: the sign keeps SQLite from walking through all requested ones.
    """
    return query.replace("state = 'requested'", f"key {_AMONG} AND +state = 'requested'")


class _Telling:
    """Transitions on their way into the feed, numbered in the order in which they are told."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # The last number given, also when the feed has been pruned to nothing.
        self._seq: int = connection.execute(_LAST_SEQ).fetchone()[0]
        self._rows: list[Row] = []

    def tell(self, kind: str, head: Head, transitions: Iterable[Transition], told: int) -> int:
        """Number a document's new transitions, `told` being its last entry, and return the last."""
        for transition in transitions:
            self._seq += 1
            self._rows.append((self._seq, kind, *head, *transition_to_row(transition, told)))
            told = self._seq
        return told

    def write(self) -> None:
        """Store them."""
        self._connection.executemany(_TELL, self._rows)


def _jobs_of(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[Job]:
    known = _histories(connection, rows)
    return [job_from_row(row, known.get(row[TOLD], ())) for row in rows]


def _units_of(connection: sqlite3.Connection, rows: Sequence[Row]) -> list[Unit]:
    known = _histories(connection, rows)
    return [unit_from_row(row, known.get(row[TOLD], ())) for row in rows]


def _histories(
    connection: sqlite3.Connection, rows: Sequence[Row]
) -> dict[int, tuple[Transition, ...]]:
    """The last transitions of the documents in these rows, by what they have told.

    Entries never change, so that they may be read after the documents.
    """
    entries: list[Row] = []
    wanted = [row[TOLD] for row in rows]
    for _ in range(TRANSITIONS_KEPT):
        found = connection.execute(_ENTRIES, (to_text(wanted),)).fetchall()
        entries += found
        wanted = [previous for _, previous, *_ in found if previous]
        if not wanted:
            break
    return histories(reversed(entries))


def _job(connection: sqlite3.Connection, key: str) -> Job | None:
    rows = connection.execute(f"{_JOBS} WHERE key = ?", (key,)).fetchall()
    return _jobs_of(connection, rows)[0] if rows else None


def _unit(connection: sqlite3.Connection, key: str) -> Unit | None:
    rows = connection.execute(f"{_UNITS} WHERE key = ?", (key,)).fetchall()
    return _units_of(connection, rows)[0] if rows else None


def _lease(connection: sqlite3.Connection, name: str) -> Lease | None:
    row = connection.execute(
        "SELECT owner, epoch, until, since FROM leases WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    owner, epoch, until, since = row
    return Lease(owner=owner, epoch=epoch, until=from_micros(until), since=from_micros(since))


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
