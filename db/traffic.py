"""The database file of the suite: its schema, and how several processes share it.

One SQLite file in WAL mode with ``synchronous=FULL``: a transaction that returned is on the disk,
one that was killed never happened. Every writer works inside `Traffic.writing`, a short
transaction that begins with the write lock in its hand, so what it reads cannot change before it
writes.

Beside the file lies ``….lock``. It is held around write transactions (with the checkpoint that a
commit may start) and around opening and closing, because SQLite before 3.51.3 can lose a commit
when two processes reset the WAL at the same moment. The system releases it when its holder is
killed.

Instants are whole seconds since 1970-01-01 UTC, sizes are bytes.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

#: Version of the schema below; a file of a newer one is refused untouched.
SCHEMA_VERSION = 1
#: Seconds to wait for another writer before giving up.
BUSY_TIMEOUT = 10.0

_SCHEMA = """
CREATE TABLE files (
    id           INTEGER PRIMARY KEY,
    path         TEXT    NOT NULL,             -- where it was first read
    offset       INTEGER NOT NULL DEFAULT 0,   -- bytes of content counted, whole lines only
    head         BLOB    NOT NULL DEFAULT x'', -- the first 4096 bytes counted
    tail         BLOB    NOT NULL DEFAULT x'', -- counted bytes after the last full block
    loose        BLOB,                         -- a last line counted without its newline
    loose_kind   TEXT,                         -- record, malformed or continuation
    lines        INTEGER NOT NULL DEFAULT 0,
    records      INTEGER NOT NULL DEFAULT 0,
    malformed    INTEGER NOT NULL DEFAULT 0,
    continuation INTEGER NOT NULL DEFAULT 0,
    ending       TEXT    NOT NULL DEFAULT 'open',
    note         TEXT    NOT NULL DEFAULT ''
);
CREATE TABLE paths (                           -- every path under which a file was met
    path TEXT PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES files
) WITHOUT ROWID;
CREATE TABLE blocks (                          -- checksum of each full block of 4096 bytes
    file   INTEGER NOT NULL REFERENCES files,
    number INTEGER NOT NULL,
    crc    INTEGER NOT NULL,
    PRIMARY KEY (file, number)
) WITHOUT ROWID;
CREATE TABLE rejected (                        -- malformed lines, kept aside
    file   INTEGER NOT NULL REFERENCES files,
    offset INTEGER NOT NULL,
    text   TEXT    NOT NULL,
    reason TEXT    NOT NULL,
    PRIMARY KEY (file, offset)
) WITHOUT ROWID;
CREATE TABLE visitors (
    id      INTEGER PRIMARY KEY,
    address TEXT NOT NULL,
    agent   TEXT NOT NULL,
    browser TEXT NOT NULL,
    system  TEXT NOT NULL,
    UNIQUE (address, agent)
);
CREATE TABLE events (
    file    INTEGER NOT NULL REFERENCES files,
    offset  INTEGER NOT NULL,                  -- of the line: no line can be an event twice
    time    INTEGER NOT NULL,
    site    TEXT    NOT NULL,
    visitor INTEGER NOT NULL REFERENCES visitors,
    status  INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    PRIMARY KEY (file, offset)
) WITHOUT ROWID;
CREATE INDEX events_by_time ON events (time);
CREATE TABLE sessions (
    visitor  INTEGER NOT NULL REFERENCES visitors,
    site     TEXT    NOT NULL,
    start    INTEGER NOT NULL,                 -- first request
    last     INTEGER NOT NULL,                 -- last request
    requests INTEGER NOT NULL,
    PRIMARY KEY (visitor, site, start)
) WITHOUT ROWID;
CREATE INDEX sessions_by_start ON sessions (start);
CREATE TABLE results (
    process TEXT NOT NULL,
    label   TEXT NOT NULL,
    fence   TEXT NOT NULL,                     -- generation, run and attempt that wrote last
    PRIMARY KEY (process, label)
) WITHOUT ROWID;
CREATE TABLE figures (
    granularity TEXT    NOT NULL,
    label       TEXT    NOT NULL,
    site        TEXT    NOT NULL,
    start       INTEGER NOT NULL,
    requests    INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    visits      INTEGER NOT NULL,
    status      TEXT    NOT NULL,              -- JSON objects: family to requests
    browsers    TEXT    NOT NULL,
    systems     TEXT    NOT NULL,
    PRIMARY KEY (granularity, label, site)
) WITHOUT ROWID;
CREATE INDEX figures_by_start ON figures (granularity, start);
CREATE TABLE client_figures (
    granularity TEXT    NOT NULL,
    label       TEXT    NOT NULL,
    client      TEXT    NOT NULL,
    start       INTEGER NOT NULL,
    requests    INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    visits      INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    browsers    TEXT    NOT NULL,
    systems     TEXT    NOT NULL,
    PRIMARY KEY (granularity, label, client)
) WITHOUT ROWID;
CREATE TABLE alerts (
    label           TEXT    PRIMARY KEY,
    start           INTEGER NOT NULL,
    requests        INTEGER NOT NULL,
    requests_before INTEGER NOT NULL,          -- of the same weekday a week ago
    message         TEXT    NOT NULL
) WITHOUT ROWID;
CREATE TABLE samples (                         -- of this machine; counters run since its start
    taken         REAL    PRIMARY KEY,
    cpu           REAL    NOT NULL,            -- per cent
    memory        REAL    NOT NULL,            -- per cent
    load          REAL    NOT NULL,            -- mean of one minute
    disk_read     INTEGER NOT NULL,            -- bytes
    disk_written  INTEGER NOT NULL,
    net_received  INTEGER NOT NULL,
    net_sent      INTEGER NOT NULL
);
CREATE TABLE host_figures (
    granularity TEXT    NOT NULL,
    label       TEXT    NOT NULL,
    metric      TEXT    NOT NULL,
    start       INTEGER NOT NULL,
    low         REAL    NOT NULL,
    mean        REAL    NOT NULL,
    high        REAL    NOT NULL,
    samples     INTEGER NOT NULL,              -- how many the mean is of
    PRIMARY KEY (granularity, label, metric)
) WITHOUT ROWID;
CREATE INDEX host_figures_by_start ON host_figures (granularity, start);
"""


class TrafficError(Exception):
    """The suite's database cannot do what was asked."""


class NewerSchema(TrafficError):
    """The database file was written by a newer version of the suite."""


class StaleResult(TrafficError):
    """A later generation or attempt has already written this interval; nothing was changed."""


class Traffic:
    """The open database. Use it in a `with` block, in one thread."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with self._locked():
                self.db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT, isolation_level=None)
                self._prepare()
        except BaseException:
            os.close(self._lock_file)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with self._locked():
                self.db.close()
        finally:
            os.close(self._lock_file)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: all of the block, or nothing of it."""
        with self._locked():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one and the same moment."""
        self.db.execute("BEGIN")
        try:
            yield self.db
        finally:
            self.db.execute("ROLLBACK")

    def _prepare(self) -> None:
        try:
            self.db.execute("PRAGMA foreign_keys = ON")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise NewerSchema(
                    f"{self.path} has schema {version}, this version of the suite knows up to "
                    f"{SCHEMA_VERSION}; it was left untouched"
                )
            if self.db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
            if version < SCHEMA_VERSION:
                self.db.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
        except BaseException:
            self.db.close()
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        until = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TrafficError(
                        f"{self.path} has been locked by another process for {BUSY_TIMEOUT:g} s"
                    ) from None
                time.sleep(0.001)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)


def claim(db: sqlite3.Connection, process: str, label: str, fence: str) -> None:
    """Become the writer of an interval's results, or raise `StaleResult` when a later one was.

    `fence` is text that is greater for every later attempt (generation, run, attempt). The same
    attempt may write again: it replaces its own result.
    """
    last = db.execute(
        "SELECT fence FROM results WHERE process = ? AND label = ?", (process, label)
    ).fetchone()
    if last is not None and last[0] > fence:
        raise StaleResult(
            f"{process} {label}: a later attempt ({last[0]}) has already written this interval; "
            f"this one ({fence}) is late and changed nothing"
        )
    db.execute("REPLACE INTO results VALUES (?, ?, ?)", (process, label, fence))


def seconds(instant: datetime) -> int:
    """An aware instant as the database keeps it."""
    return int(instant.timestamp())
