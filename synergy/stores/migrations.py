"""The schema of the SQLite store, as numbered steps, and how a file is brought up to date.

Steps only go forward and are never edited once released.  Each is one transaction together with
its row in ``schema_migrations``; before the first of them a copy ``<file>.v<N>.bak`` is made of a
file that held something.  A file that knows more steps than this version is `NewerSchema`, found
out by looking at it in a way that leaves every byte as it is.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from synergy.errors import BadInput, NewerSchema
from synergy.stores.database import told_plainly


@dataclass(frozen=True, slots=True)
class Migration:
    """One step: SQL statements, or a function of the connection that must not end transactions."""

    number: int
    name: str
    change: str | Callable[[sqlite3.Connection], None]


#: Of every document the JSON is the truth; the other columns are what is searched for.
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

#: Every field has its column, so that a write changes what changed and encodes nothing anew; what
#: may be any text or structure is JSON.  Transitions are in the feed only, linked by `told` and
#: `previous`.  The partial indexes hold what is active or requested only, so that history costs
#: nothing.
_COLUMNS = """
CREATE TABLE jobs (
    key TEXT NOT NULL PRIMARY KEY,      -- process@label
    process TEXT NOT NULL,
    label TEXT NOT NULL,
    start INTEGER NOT NULL,             -- microseconds since the epoch, as all instants
    "end" INTEGER NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    active INTEGER NOT NULL,            -- 1: not terminal, or held
    generation INTEGER NOT NULL,
    result INTEGER NOT NULL,
    result_state TEXT,
    fingerprint TEXT,                   -- JSON
    consumed TEXT,                      -- JSON
    consuming TEXT,                     -- JSON
    attempts INTEGER NOT NULL,
    unit TEXT,
    runs INTEGER NOT NULL,
    next_run INTEGER,
    forced INTEGER NOT NULL,
    holds TEXT,                         -- JSON, NULL: none
    requests TEXT,                      -- JSON, NULL: none
    reason TEXT,                        -- JSON, NULL: none
    told INTEGER NOT NULL               -- number of its last feed entry, 0: none
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_by_start ON jobs (process, start);
CREATE INDEX jobs_active ON jobs (process, start) WHERE active = 1;

CREATE TABLE units (
    key TEXT NOT NULL PRIMARY KEY,      -- process@label#generation
    process TEXT NOT NULL,
    label TEXT NOT NULL,
    start INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    run INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    task TEXT NOT NULL,                 -- JSON
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    active INTEGER NOT NULL,            -- 1: not terminal
    attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    owner TEXT,
    lease_until INTEGER,
    not_before INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    low TEXT,                           -- JSON
    high TEXT,                          -- JSON
    count INTEGER,
    fingerprint TEXT,                   -- JSON
    progress TEXT,                      -- JSON
    reason TEXT,                        -- JSON, NULL: none
    told INTEGER NOT NULL               -- number of its last feed entry, 0: none
) STRICT, WITHOUT ROWID;
CREATE INDEX units_active ON units (start, key) WHERE active = 1;
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
    previous INTEGER NOT NULL,          -- number of the document's entry before, 0: none
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    result INTEGER NOT NULL,
    reason TEXT                         -- JSON, NULL: none
) STRICT;
"""


#: Since when a lease is held (one of before: since its end), and which programs run where.
_BOXES = """
ALTER TABLE leases ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE leases SET since = until;

CREATE TABLE boxes (
    box TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE switched_off (
    box TEXT NOT NULL,
    program TEXT NOT NULL,
    PRIMARY KEY (box, program)
) STRICT, WITHOUT ROWID;
"""


#: What is remembered in few documents of a kind, of which the catalog is one.
_DOCUMENTS = """
CREATE TABLE documents (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
INSERT INTO documents SELECT 'catalog', 'catalog', version, document FROM catalog;
DROP TABLE catalog;
"""


#: Finished jobs that are marked stale: 1; NULL: not.
_OUTDATED = """
ALTER TABLE jobs ADD COLUMN outdated INTEGER;
ALTER TABLE feed ADD COLUMN outdated INTEGER;
"""


#: How jobs stood that were reopened: JSON; NULL: unknown, or not terminal.
_REOPENED_FROM = "ALTER TABLE jobs ADD COLUMN reopened_from TEXT;"


def _spread(connection: sqlite3.Connection) -> None:
    """From documents to columns; what the feed has forgotten, documents forget too."""
    for index in ("jobs_by_start", "jobs_active", "units_active", "units_requested"):
        connection.execute(f"DROP INDEX {index}")
    for table in ("jobs", "units", "feed"):
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in _statements(_COLUMNS):
        connection.execute(statement)

    def json_or_null(value: Any) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    told: dict[tuple[str, str], tuple[int, int]] = {}  # number and version of the last entry
    for seq, *document, transition in connection.execute("SELECT * FROM old_feed ORDER BY seq"):
        version, at, before, after, generation, attempt, *tail = json.loads(transition)
        result, reason = tail[0] if tail else 0, tail[1] if tail[1:] else None
        name = (document[0], document[1])
        last, last_version = told.get(name, (0, 0))
        # A job that was forgotten and begun anew counts from 1 again.
        previous = last if last_version < version else 0
        told[name] = (seq, version)
        row = [seq, *document, previous, version, at, before, after, generation, attempt, result]
        connection.execute(_insert("feed", 16), [*row, json_or_null(reason)])

    for key, active, last, text in connection.execute(
        "SELECT key, active, told, document FROM old_jobs"
    ):
        get = json.loads(text).get
        row = [key, get("process"), get("label"), get("start"), get("end"), get("state")]
        row += [get("version"), active, get("generation", 1), get("result", 0)]
        row += [get("result_state"), json_or_null(get("fingerprint"))]
        row += [json_or_null(get("consumed")), json_or_null(get("consuming"))]
        row += [get("attempts", 0), get("unit"), get("runs", 0), get("next_run")]
        row += [int(get("forced", False)), json_or_null(get("holds"))]
        row += [json_or_null(get("requests")), json_or_null(get("reason")), last]
        connection.execute(_insert("jobs", 23), row)

    for key, priority, text in connection.execute("SELECT key, priority, document FROM old_units"):
        get = json.loads(text).get
        active = int(get("state") in ("requested", "claimed", "in_progress"))
        last, _ = told.get(("unit", key), (0, 0))
        row = [key, get("process"), get("label"), get("start"), get("end"), get("generation")]
        row += [get("run", 0), priority, get("created_at"), json_or_null(get("task"))]
        row += [get("state"), get("version"), active, get("attempt", 1), get("failures", 0)]
        row += [get("owner"), get("lease_until"), get("not_before"), get("started_at")]
        row += [get("finished_at"), json_or_null(get("low")), json_or_null(get("high"))]
        row += [get("count"), json_or_null(get("fingerprint")), json_or_null(get("progress"))]
        row += [json_or_null(get("reason")), last]
        connection.execute(_insert("units", 27), row)

    for table in ("jobs", "units", "feed"):
        connection.execute(f"DROP TABLE old_{table}")


def _insert(table: str, width: int) -> str:
    return f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "tables", _TABLES),
    Migration(2, "columns", _spread),
    Migration(3, "boxes", _BOXES),
    Migration(4, "documents", _DOCUMENTS),
    Migration(5, "outdated", _OUTDATED),
    Migration(6, "reopened from", _REOPENED_FROM),
)

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
