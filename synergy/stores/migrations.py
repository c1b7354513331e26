"""The schema of the SQLite store, as numbered steps, and how a file is brought up to date.

Steps only go forward and are never edited once released.  Each is one transaction together with
its row in ``schema_migrations``; before the first of them a copy ``<file>.v<N>.bak`` is made of a
file that held something.  A file that knows more steps than this version is `NewerSchema`, found
out by looking at it in a way that leaves every byte as it is.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from synergy.errors import BadInput, NewerSchema
from synergy.stores.database import told_plainly


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: SQL statements, or a function of the connection that must not end transactions."""

    number: int
    name: str
    change: str | Callable[[sqlite3.Connection], None]


#: Of every document the JSON is the truth; the other columns are what is searched for.  The
#: partial indexes hold what is active or requested only, so that history costs nothing.
_TABLES = """
CREATE TABLE jobs (
    key TEXT NOT NULL PRIMARY KEY,      -- process@label
    process TEXT NOT NULL,
    start INTEGER NOT NULL,             -- microseconds since the epoch, as all instants
    version INTEGER NOT NULL,
    active INTEGER NOT NULL,            -- 1: not terminal, or held
    told INTEGER NOT NULL,              -- number of its last feed entry
    document TEXT NOT NULL
) STRICT;
CREATE INDEX jobs_by_start ON jobs (process, start);
CREATE INDEX jobs_active ON jobs (process, start) WHERE active = 1;

CREATE TABLE units (
    key TEXT NOT NULL PRIMARY KEY,      -- process@label#generation
    process TEXT NOT NULL,
    start INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    owner TEXT,
    lease_until INTEGER,
    not_before INTEGER,
    version INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX units_active ON units (start, key)
    WHERE state IN ('requested', 'claimed', 'in_progress');
CREATE INDEX units_requested ON units (priority DESC, start, key, not_before, process)
    WHERE state = 'requested';

CREATE TABLE feed (
    seq INTEGER NOT NULL PRIMARY KEY,   -- without gaps; above marks.folded: not public yet
    kind TEXT NOT NULL,                 -- job or unit
    key TEXT NOT NULL,
    process TEXT NOT NULL,
    label TEXT NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    transition TEXT NOT NULL            -- as in the document
) STRICT;
CREATE TABLE marks (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO marks VALUES ('folded', 0);

CREATE TABLE ledgers (
    process TEXT NOT NULL PRIMARY KEY,
    through INTEGER NOT NULL,           -- all feed entries up to this number are in it
    document TEXT NOT NULL
) STRICT;

CREATE TABLE requests (
    arrival INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX requests_open ON requests (arrival) WHERE state = 'filed';

CREATE TABLE catalog (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;
"""

MIGRATIONS: tuple[Migration, ...] = (Migration(1, "tables", _TABLES),)

_REGISTER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL
) STRICT
"""


def pending_migrations(path: Path, known: Sequence[Migration] = MIGRATIONS) -> list[Migration]:
    """What the file at `path` still needs; all of it where there is no file.  Changes nothing."""
    with told_plainly(path):
        size = path.stat().st_size if path.exists() else 0
        log = Path(f"{path}-wal")
        logged = log.exists() and log.stat().st_size > 0
        if not size and not logged:
            return list(known)
        # Even a read-only connection makes the files of the log, unless the database is called
        # immutable; which it is when it has no log, since then nobody is at work on it.
        way = "mode=ro" if logged else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"file:{quote(os.fspath(path.absolute()))}?{way}", uri=True, isolation_level=None
        )
        with contextlib.closing(connection):
            return _missing(connection, path, known)


def upgrade(
    connection: sqlite3.Connection, path: Path, known: Sequence[Migration] = MIGRATIONS
) -> list[Migration]:
    """Apply what is missing; the caller holds the lock file, so that nobody else does."""
    missing = _missing(connection, path, known)
    if missing and missing[0].number > known[0].number:
        _back_up(connection, Path(f"{path}.v{missing[0].number - 1}.bak"))
    for migration in missing:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_REGISTER)
            if isinstance(migration.change, str):
                for statement in _statements(migration.change):
                    connection.execute(statement)
            else:
                migration.change(connection)
            connection.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, strftime('%Y-%m-%dT%H:%M:%fZ'))",
                (migration.number, migration.name),
            )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    return missing


def _missing(
    connection: sqlite3.Connection, path: Path, known: Sequence[Migration]
) -> list[Migration]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return list(known)
    if "schema_migrations" not in tables:
        raise BadInput(f"{path} is a database of something else: it holds no store of synergy")
    standing = connection.execute(
        "SELECT coalesce(max(number), 0) FROM schema_migrations"
    ).fetchone()[0]
    if standing > known[-1].number:
        raise NewerSchema(
            f"the store {path} was written by a newer synergy (schema {standing}, this version "
            f"knows {known[-1].number}); it is left untouched.  Use that version, or restore the "
            "copy that it made before it upgraded the file"
        )
    return [migration for migration in known if migration.number > standing]


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    draft = Path(f"{target}.tmp")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(draft)) as copy:
        connection.backup(copy)
    draft.replace(target)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: ``executescript`` would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
