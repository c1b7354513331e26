"""One SQLite file, shared by the threads of this program and by the other programs of the box.

How it is kept sound (RELIABILITY F30-F36):

* WAL and ``synchronous=FULL``: what was committed is there after a power loss.
* Writers start with ``BEGIN IMMEDIATE``, so that nobody finds out halfway that another was first.
* SQLite before 3.51.3 can corrupt a file when a checkpoint meets a writer (the WAL-reset bug).
  So ``<file>.lock`` is locked around every write transaction, checkpoint and close, and no
  connection checkpoints by itself; `Database.checkpoint` is for the scheduler alone.
* Every thread has its own connection and its own descriptor of the lock file.  None of them may
  be used in a forked child: closing one there would drop the parent's locks.
* What SQLite raises is told as `Unreachable`, naming the file and what to do.  A transaction that
  fails is rolled back, by us or by SQLite itself, so that the next one finds no leftovers.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from synergy.errors import BadInput, NotFound, Unreachable

#: How long a program waits for its turn to write before it gives up.
PATIENCE_SECONDS = 10.0

#: Bytes of write-ahead log that are cut off when they have been moved.
LARGE_LOG = 32 * 1024 * 1024

#: STRICT tables.
OLDEST_SQLITE = (3, 37, 0)

#: Their locks and shared memory do not reach other machines, or do not hold what they promise.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs"),
        *("ceph", "gfs2", "ocfs2", "lustre", "beegfs", "gpfs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone"),
    }
)

_FAULTS = (
    (
        "SQLITE_BUSY",
        "is locked by another program since more than "
        f"{PATIENCE_SECONDS:.0f} s: see which one hangs (`fuser` names them), then try again",
    ),
    ("SQLITE_FULL", "cannot grow, the disk is full: free some space, then try again"),
    ("SQLITE_READONLY", "cannot be written: it, its folder or its disk is read-only for this user"),
    ("SQLITE_IOERR", "cannot be read or written: look at the disk, its quota and its limits"),
    ("SQLITE_CANTOPEN", "cannot be opened: see that its folder is there and may be written"),
)
_DAMAGES = (
    ("SQLITE_NOTADB", "is not an SQLite database: see that the address is right"),
    ("SQLITE_CORRUPT", "is damaged: keep a copy of it for evidence and restore a backup"),
)


class Damaged(Unreachable):
    """The file is not, or no longer, a sound database."""


class Database:
    """Connections to one file, one for each thread; made by `open_database`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._here = threading.local()
        self._guard = threading.Lock()
        self._sessions: list[_Session] = []
        self._closed = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to look with.  Every statement sees one state; several may not."""
        with told_plainly(self.path):
            yield self._session().connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: durable when the block ends well, without effect when it raises.

        Within `together` it is a part of that one.
        """
        with told_plainly(self.path):
            session = self._session()
            if session.shared is None:
                with session.transaction():
                    yield session.connection
            else:
                with session.shared.part():
                    yield session.connection

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make one durable transaction of all those in this block, from the first of them on.

        Without effect when the block raises, or when one of them did.
        """
        with told_plainly(self.path):
            session = self._session()
            if session.shared is not None:
                yield  # a part of what is shared already
                return
            with contextlib.ExitStack() as stack:
                session.shared = _Shared(session, stack)
                stack.callback(setattr, session, "shared", None)
                yield
                session.shared.check()

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Move the log into the file; True when nothing of it is left over.

        For the scheduler only.  `truncate`, and a log above `LARGE_LOG`, also cuts the log's file
        to nothing, which needs a moment in which no program reads.
        """
        with told_plainly(self.path):
            session = self._session()
            connection = session.connection
            with session.turn():
                connection.execute("PRAGMA busy_timeout = 0")  # writers must not wait for readers
                try:
                    log = Path(f"{self.path}-wal")
                    large = log.exists() and log.stat().st_size > LARGE_LOG
                    mode = "TRUNCATE" if truncate or large else "PASSIVE"
                    busy, logged, moved = connection.execute(
                        f"PRAGMA wal_checkpoint({mode})"
                    ).fetchone()
                finally:
                    connection.execute(f"PRAGMA busy_timeout = {PATIENCE_SECONDS * 1000:.0f}")
        return not busy and bool(logged == moved)

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the whole file; takes time in proportion to its size."""
        try:
            with self.reading() as connection:
                rows = connection.execute("PRAGMA quick_check").fetchall()
        except Damaged as error:
            return [str(error)]
        return [text for (text,) in rows if text != "ok"]

    def close(self) -> None:
        """Close the connections of all threads; twice is harmless."""
        if self._pid != os.getpid():
            return  # they are the parent's
        with self._guard:
            self._closed = True
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _session(self) -> "_Session":
        session: _Session | None = getattr(self._here, "session", None)
        if session is None or self._closed or self._pid != os.getpid():
            session = self._here.session = self._new_session()
        return session

    def _new_session(self) -> "_Session":
        if self._pid != os.getpid():
            raise RuntimeError(f"the store {self.path} was opened before a fork; open it anew")
        if self._closed:
            raise RuntimeError(f"the store {self.path} was closed")
        session = _Session(self.path)
        with self._guard:
            orphans = [each for each in self._sessions if not each.thread.is_alive()]
            self._sessions = [each for each in self._sessions if each.thread.is_alive()]
            self._sessions.append(session)
        for orphan in orphans:
            orphan.close()
        return session


class _Session:
    """The connection of one thread, and its own descriptor of the lock file."""

    def __init__(self, path: Path) -> None:
        self.thread = threading.current_thread()
        self.path = path
        #: What `Database.together` has begun.
        self.shared: _Shared | None = None
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.connection = sqlite3.connect(
                path,
                timeout=PATIENCE_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # closed by another thread when the program ends
                cached_statements=64,
            )
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA foreign_keys = ON")
            self.connection.execute("PRAGMA wal_autocheckpoint = 0")
        except BaseException:
            os.close(self._lock)
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit when the block ends well, else roll back."""
        connection = self.connection
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.turn())
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    # SQLite has rolled back some failures itself, a full disk for one.
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the lock file; `Unreachable` when it cannot be had in time."""
        # flock cannot wait for a limited time, so it is asked again: soon at first, because a
        # transaction takes a millisecond, and then after a tenth of the time that it has taken.
        if not self._lock_at_once():
            began = time.monotonic()
            while not self._lock_at_once():
                waited = time.monotonic() - began
                if waited > PATIENCE_SECONDS:
                    raise Unreachable(f"the store {self.path} {_FAULTS[0][1]}")
                time.sleep(min(max(0.000_05, waited / 10), 0.002))
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _lock_at_once(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Under the lock, as the last one to close moves the log into the file."""
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, self._lock)
            # Who holds the lock all the time is still connected, so we are not the last one.
            with contextlib.suppress(Unreachable):
                stack.enter_context(self.turn())
            with contextlib.suppress(sqlite3.Error):
                self.connection.close()


class _Shared:
    """A transaction that others are parts of; it begins with the first one."""

    def __init__(self, session: _Session, stack: contextlib.ExitStack) -> None:
        self._session = session
        self._stack = stack
        self._begun = self._broken = False

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Where one part fails, the whole does, though the failure be caught."""
        self.check()
        if not self._begun:
            self._stack.enter_context(self._session.transaction())
            self._begun = True
        try:
            yield
        except BaseException:
            self._broken = True
            raise

    def check(self) -> None:
        """`Unreachable` when a part has failed."""
        if self._broken:
            raise Unreachable(f"the store {self._session.path} could not take all that it was told")


def open_database(
    path: Path, *, create: bool, prepare: Callable[[sqlite3.Connection], None]
) -> Database:
    """The database at `path`, made when it is not there, after `prepare` saw to its tables.

    `prepare` runs while the lock file is held, outside a transaction.  `NotFound` without
    `create`; `BadInput` where SQLite is too old or the file system is a network's.
    """
    refuse_old_sqlite()
    refuse_network(path)
    with told_plainly(path):
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        elif not path.exists():
            raise NotFound(f"there is no store at {path}; starting the scheduler makes one")
        database = Database(path)
        try:
            session = database._session()
            with session.turn():
                mode = session.connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                if mode != "wal":
                    raise Unreachable(f"the store {path} cannot keep a write-ahead log ({mode})")
                prepare(session.connection)
        except BaseException:
            database.close()
            raise
    return database


@contextlib.contextmanager
def told_plainly(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into `Unreachable` with a sentence."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a defect of ours
    except sqlite3.IntegrityError:
        raise  # the same
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        for prefix, advice in _DAMAGES:
            if name.startswith(prefix):
                raise Damaged(f"the store {path} {advice} ({error})") from error
        for prefix, advice in _FAULTS:
            if name.startswith(prefix):
                raise Unreachable(f"the store {path} {advice} ({error})") from error
        raise Unreachable(f"the store {path} does not work: {error}") from error
    except OSError as error:
        raise Unreachable(f"the store {path} cannot be reached: {error}") from error


def refuse_old_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """`BadInput` where this Python's SQLite lacks what the tables need."""
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, each)) for each in (version, OLDEST_SQLITE))
        raise BadInput(
            f"this Python comes with SQLite {have}; the embedded store needs {need} or newer"
        )


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """`BadInput` where `path` lies on a network file system, as far as the system tells.

    `mounts` replaces the text of ``/proc/mounts``.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text(errors="surrogateescape")
        except OSError:
            return  # not Linux
    place = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        _, point, file_system, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        if place.is_relative_to(point) and len(point) >= best:  # the last mount on a point counts
            best, kind = len(point), file_system
    if kind in NETWORK_FILE_SYSTEMS:
        raise BadInput(
            f"the store {path} lies on a network file system ({kind}), whose locks do not protect "
            "it; put it on a local disk, or use MongoDB for several boxes"
        )
