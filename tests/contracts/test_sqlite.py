"""What is SQLite's own: its file, its locks, its failures and its upgrades."""

import contextlib
import fcntl
import hashlib
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from synergy.core.model import (
    JobWrite,
    Lease,
    LedgerRecord,
    Task,
    Transition,
    UnitWrite,
)
from synergy.core.states import JobState, UnitState
from synergy.errors import BadInput, NewerSchema, NotFound, Unreachable
from synergy.ports import Versioned
from synergy.stores import database, migrate, open_store, sqlite
from synergy.stores.database import Damaged, refuse_network, refuse_old_sqlite
from synergy.stores.migrations import MIGRATIONS, Migration, pending_migrations, upgrade
from synergy.stores.sqlite import SQLiteStore
from synergy.testing.contracts import (
    APPLIED,
    LEASE_END,
    MICROSECOND,
    NOW,
    a_claim,
    a_job,
    a_request,
    a_stored_job,
    a_unit,
    an_hour,
    fold_all,
    labels,
    put_job,
    put_unit,
)

#: Saves batches of jobs, version after version, and prints each version once it is stored.
WRITER = """
import sys, time
from synergy.core.model import Applied, JobWrite
from synergy.core.states import JobState
from synergy.stores import open_store
from synergy.testing.contracts import NOW, a_job
url, name, seconds = sys.argv[1:]
store = open_store(url)
jobs = [a_job(number, name) for number in range(10)]
end = time.monotonic() + float(seconds)
while time.monotonic() < end:
    writes = [JobWrite(job.moved(JobState.EMBRYO, NOW), job.version) for job in jobs]
    answers = store.save_jobs(writes)
    assert all(isinstance(answer, Applied) for answer in answers), answers
    jobs = [write.job for write in writes]
    print(jobs[0].version, flush=True)
    if jobs[0].version % 3 == 0:
        store.fold(7)
store.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with contextlib.closing(open_sqlite(path)) as store:
        yield store


def open_sqlite(path: Path, *, create: bool = True) -> SQLiteStore:
    return SQLiteStore.open(path, f"sqlite:///{path}", create=create)


def run(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# addresses


@pytest.mark.parametrize(
    "url",
    ["", "store.db", "mysql://x/y", "sqlite://store.db", "sqlite:///", "sqlite:///x/", "sqlite:"],
)
def test_what_is_no_address_is_refused_with_what_would_be(url: str) -> None:
    with pytest.raises(BadInput, match="accepted are memory://, sqlite:///"):
        open_store(url)


def test_a_relative_address_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///data/store.db").close()
    assert (tmp_path / "data" / "store.db").exists()


def test_without_create_a_missing_store_is_not_found_and_not_made(path: Path) -> None:
    with pytest.raises(NotFound, match=re.escape(str(path))):
        open_sqlite(path, create=False)
    assert list(path.parent.iterdir()) == []


# the file


def test_files_and_folders_are_the_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with contextlib.closing(open_sqlite(tmp_path / "new" / "store.db")) as store:
            a_stored_job(store)
            names = sorted(each.name for each in (tmp_path / "new").iterdir())
            assert names == ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"]
            modes = {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "new").iterdir()}
            assert modes == {0o600}
            assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_connections_are_set_up_for_safety(store: SQLiteStore) -> None:
    def look(_: int = 0) -> list[Any]:
        with store._database.reading() as connection:
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint", "busy_timeout")

    seen = [look()]
    thread = threading.Thread(target=lambda: seen.append(look()))
    thread.start()
    thread.join()
    assert seen == [["wal", 2, 1, 0, 10_000]] * 2


def test_every_write_waits_for_the_disk(store: SQLiteStore) -> None:
    with store._database.reading() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_log_stays_until_the_scheduler_moves_it(store: SQLiteStore, path: Path) -> None:
    log = Path(f"{path}-wal")
    for number in range(50):
        a_stored_job(store, number=number, reason="x" * 9000)
    grown = log.stat().st_size
    assert grown > 400_000  # SQLite itself would have moved it at 1000 pages, or 4 MB
    store.checkpoint()
    a_stored_job(store, number=50)
    assert log.stat().st_size == grown  # begun again from its start
    store.checkpoint(idle=True)
    assert log.stat().st_size == 0
    assert len(store.active_jobs()) == 51


def test_a_large_log_is_cut_off(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LARGE_LOG", 10_000)
    a_stored_job(store, reason="x" * 9000)
    store.checkpoint()
    assert Path(f"{path}-wal").stat().st_size == 0


def test_a_reader_does_not_hold_up_a_checkpoint(store: SQLiteStore, path: Path) -> None:
    a_stored_job(store)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        a_stored_job(store, number=1)
        before = time.monotonic()
        store.checkpoint(idle=True)
        assert time.monotonic() - before < 5
        reader.execute("COMMIT")
    store.checkpoint(idle=True)
    assert Path(f"{path}-wal").stat().st_size == 0


def test_threads_that_ended_leave_no_connection(store: SQLiteStore) -> None:
    for number in range(20):
        thread = threading.Thread(target=a_stored_job, args=(store,), kwargs={"number": number})
        thread.start()
        thread.join()
    assert len(store._database._sessions) <= 2
    store.close()
    with pytest.raises(RuntimeError, match="was closed"):
        store.active_jobs()


def test_a_store_is_refused_across_a_fork(store: SQLiteStore, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(RuntimeError, match="before a fork"):
        store.active_jobs()
    store.close()  # leaves the parent's connections alone
    monkeypatch.undo()
    assert store.active_jobs() == []


# the lock file


def test_who_writes_waits_for_the_lock_file(store: SQLiteStore, path: Path) -> None:
    with open(f"{path}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=a_stored_job, args=(store,))
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert store.active_jobs() == []  # readers do not wait
        fcntl.flock(lock, fcntl.LOCK_UN)
        thread.join()
    assert len(store.active_jobs()) == 1


@pytest.mark.parametrize("write", ["save", "checkpoint"])
def test_a_lock_that_is_never_let_go_is_named(
    store: SQLiteStore, path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.05)
    with open(f"{path}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unreachable, match=f"{re.escape(str(path))} is locked by another"):
            store.checkpoint() if write == "checkpoint" else a_stored_job(store)
    a_stored_job(store)


def test_a_foreign_program_that_locks_the_file_is_waited_for_and_named(path: Path) -> None:
    with (
        contextlib.closing(open_sqlite(path)) as store,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        with store._database.reading() as connection:
            connection.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unreachable, match="is locked by another program"):
            a_stored_job(store)
        other.execute("ROLLBACK")
        a_stored_job(store)


def test_a_writer_holds_the_file_from_its_first_look(store: SQLiteStore, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with (
            store._database.writing(),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")


# failures


def test_a_full_disk_is_named_and_nothing_is_half_written(store: SQLiteStore) -> None:
    kept = a_stored_job(store)
    with store._database.reading() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    batch = [a_job(n).moved(JobState.IN_PROGRESS, NOW, "x" * 3000) for n in range(1, 50)]
    for _ in range(2):
        with pytest.raises(Unreachable, match="the disk is full"):
            store.save_jobs([JobWrite(job, 0) for job in batch])
    assert store.active_jobs() == [kept]
    assert len(fold_all(store)) == 1
    with store._database.reading() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert store.save_jobs([JobWrite(job, 0) for job in batch]) == [APPLIED] * 49
    assert store.check() == []


def test_a_file_size_limit_stops_writers_cleanly_and_they_resume(path: Path) -> None:
    code = """
import resource, sys
from synergy.errors import Unreachable
from synergy.stores import open_store
from synergy.testing.contracts import a_stored_job
store = open_store(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
number = 0
try:
    while number < 500:
        a_stored_job(store, number=number, reason="x" * 1000)
        number += 1
except Unreachable as error:
    print(error)
stored = len(store.active_jobs())
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
a_stored_job(store, number=number)
print(number, stored, len(store.active_jobs()), store.check())
"""
    program = run(code, f"sqlite:///{path}")
    output, errors = program.communicate(timeout=60)
    assert errors == ""
    sentence, counts = output.splitlines()
    assert f"the store {path} cannot " in sentence
    number, stored, after, *_ = counts.split()
    assert 0 < int(number) < 500
    assert int(stored) == int(number)
    assert int(after) == int(stored) + 1
    assert counts.endswith("[]")


def test_a_read_only_database_is_named(store: SQLiteStore) -> None:
    kept = a_stored_job(store)
    with store._database.reading() as connection:
        connection.execute("PRAGMA query_only = 1")
    with pytest.raises(Unreachable, match="read-only"):
        a_stored_job(store, number=1)
    assert store.active_jobs() == [kept]
    with store._database.reading() as connection:
        connection.execute("PRAGMA query_only = 0")
    a_stored_job(store, number=1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    with contextlib.closing(open_sqlite(tmp_path / "data" / "store.db")) as store:
        a_stored_job(store)
    code = """
import os, sys
import synergy.stores as stores
from synergy.errors import Unreachable
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for create in (True, False):
    try:
        stores.open_store(sys.argv[1], create=create)
    except Unreachable as error:
        print(error)
"""
    output, errors = run(code, f"sqlite:///{tmp_path}/data/store.db").communicate(timeout=30)
    assert errors == ""
    assert output.count("cannot be reached") == 2


def test_a_file_that_is_no_database_is_named_and_left(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)
    before = digest(path)
    with pytest.raises(Damaged, match="is not an SQLite database"):
        open_sqlite(path)
    assert digest(path) == before


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    before = digest(path)
    with pytest.raises(BadInput, match="something else"):
        open_sqlite(path)
    assert digest(path) == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_folder_in_the_files_place_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(Unreachable, match=re.escape(str(path))):
        open_sqlite(path)


def test_a_damaged_file_is_found_out(path: Path) -> None:
    with contextlib.closing(open_sqlite(path)) as store:
        store.save_jobs(
            [JobWrite(a_job(n).moved(JobState.IN_PROGRESS, NOW, "x" * 500), 0) for n in range(300)]
        )
        assert store.check() == []
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = random.Random(1).randbytes(8192)
    path.write_bytes(content)
    with contextlib.closing(open_sqlite(path)) as store:
        assert store.check() != []


def test_an_error_in_a_batch_leaves_no_transaction_behind(store: SQLiteStore) -> None:
    broken = replace(a_unit(1), low=float("nan"))
    with pytest.raises(ValueError):
        store.save_units([UnitWrite(a_unit(), None), UnitWrite(broken, None)])
    assert store.active_units() == []
    put_unit(store, a_unit())


def test_an_old_sqlite_is_refused() -> None:
    with pytest.raises(BadInput, match=r"SQLite 3\.36\.0; the embedded store needs 3\.37\.0"):
        refuse_old_sqlite((3, 36, 0))
    refuse_old_sqlite((3, 37, 0))


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "smb3", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    mounts = f"/dev/vda / ext4 rw 0 0\nhost:/x {tmp_path}/my\\040share {kind} rw 0 0\n"
    with pytest.raises(BadInput, match=kind):
        refuse_network(tmp_path / "my share" / "sub" / "store.db", mounts)
    refuse_network(tmp_path / "my share2" / "store.db", mounts)
    refuse_network(tmp_path / "store.db", mounts)
    refuse_network(tmp_path / "my share" / "x.db", mounts + f"tmp {tmp_path}/my\\040share tmpfs r")
    refuse_network(tmp_path / "store.db", "nonsense\n\n")


# other processes


def test_writers_that_are_killed_lose_nothing_they_had_stored(path: Path) -> None:
    """30 kills: what was printed is there, batches are whole, the feed has no gap."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    url = f"sqlite:///{path}"
    kept = 0
    for turn in range(6):
        with contextlib.ExitStack() as stack:
            writers = {f"w{turn}.{n}": run(WRITER, url, f"w{turn}.{n}", 60) for n in range(5)}
            for writer in writers.values():
                stack.callback(writer.communicate)
                stack.callback(writer.kill)
            for writer in writers.values():
                assert writer.stdout is not None
                assert writer.stdout.readline() == "1\n"  # it is at work
            for name, writer in writers.items():
                time.sleep(chance.random() * 0.03)
                writer.kill()
                assert writer.stdout is not None
                assert writer.stderr is not None
                acknowledged = max([1, *map(int, writer.stdout.read().split())])
                assert writer.stderr.read() == ""
                with contextlib.closing(open_sqlite(path)) as store:
                    jobs = store.last_jobs(name, 99)
                assert len(jobs) == 10
                [version] = {job.version for job in jobs}
                assert version in (acknowledged, acknowledged + 1)
                kept += version
    with contextlib.closing(open_sqlite(path)) as store:
        assert store.check() == []
        fold_all(store)
        seqs = [entry.seq for entry in store.feed(0, 10**9)]
    assert seqs == list(range(1, kept * 10 + 1))


def test_4_processes_write_without_one_being_busy(path: Path) -> None:
    url = f"sqlite:///{path}"
    writers = [run(WRITER, url, f"w{number}", 3) for number in range(4)]
    for number, writer in enumerate(writers):
        output, errors = writer.communicate(timeout=60)
        assert (writer.returncode, errors) == (0, "")
        assert len(output.splitlines()) > 10, f"writer {number} hardly had a turn"
    assert not Path(f"{path}-wal").exists()  # the last one tidied up


def test_processes_that_start_together_make_one_store(path: Path) -> None:
    writers = [run(WRITER, f"sqlite:///{path}", f"w{number}", 0.01) for number in range(6)]
    for writer in writers:
        assert writer.communicate(timeout=60)[1] == ""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM schema_migrations").fetchone() == (
            len(MIGRATIONS),
        )


# schema versions

NEXT = Migration(MIGRATIONS[-1].number + 1, "colours", "ALTER TABLE jobs ADD COLUMN colour TEXT;\n")


def with_known(monkeypatch: pytest.MonkeyPatch, *known: Migration) -> None:
    """Be a version of synergy that knows these steps."""
    monkeypatch.setattr(sqlite, "upgrade", lambda c, p: upgrade(c, p, known))
    monkeypatch.setattr(sqlite, "pending_migrations", lambda p: pending_migrations(p, known))
    monkeypatch.setattr("synergy.stores.pending_migrations", lambda p: pending_migrations(p, known))


def test_the_steps_are_numbered_from_1() -> None:
    assert [each.number for each in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_an_older_store_upgrades_itself_and_leaves_a_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(open_sqlite(path)) as store:
        job = a_stored_job(store)
    with_known(monkeypatch, *MIGRATIONS, NEXT)
    assert migrate(f"sqlite:///{path}", dry_run=True) == ["colours"]
    assert not Path(f"{path}.v{MIGRATIONS[-1].number}.bak").exists()
    with contextlib.closing(open_sqlite(path)) as store:
        assert store.active_jobs() == [job]
        put_job(store, job.moved(JobState.PROCESSED, NOW))
    assert migrate(f"sqlite:///{path}") == []
    copy = Path(f"{path}.v{MIGRATIONS[-1].number}.bak")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    monkeypatch.undo()
    with contextlib.closing(open_sqlite(copy)) as store:
        assert store.active_jobs() == [job]


def test_a_store_of_schema_1_is_read_as_it_was(path: Path) -> None:
    """Each claim, report and text of it was written by the version that kept documents."""
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript((Path(__file__).parent / "schema_1.sql").read_text())
    odd = 'straße "x" \\ \n\t\0 日本 🕰 \udcff'
    first = a_unit(0, owner="worker-1", lease_until=LEASE_END, started_at=NOW)
    begun = Transition(
        version=2, at=NOW, before="requested", after="in_progress", generation=1, attempt=1
    )
    first = replace(
        first,
        state=UnitState.IN_PROGRESS,
        version=2,
        transitions=(*first.transitions, begun),
    ).moved(
        UnitState.PROCESSED,
        NOW + MICROSECOND,
        finished_at=NOW,
        count=5,
        fingerprint="",
        low=["a", 1],
        high={"é": None},
    )
    task = Task(
        command=("wc", "-l", "a b"),
        noop_codes=(3, 99),
        arguments={"deep": [1, 2.5, None, {"é": True}]},
        source="events",
        sink="hourly",
        time_limit=MICROSECOND,
        max_attempts=1,
        backoff=timedelta(days=1000, microseconds=7),
        priority=-5,
    )
    second = replace(
        a_unit(1, generation=3, run=1, task=task, attempt=3, failures=2, not_before=NOW).moved(
            UnitState.IN_PROGRESS, NOW, owner="box-1/4/é", started_at=NOW
        ),
        lease_until=LEASE_END + MICROSECOND,
        progress=(0.5, None, "half"),
    )
    over = (
        a_job(0)
        .moved(JobState.IN_PROGRESS, NOW, unit="site_hourly@2024-05-01T00#1")
        .moved(JobState.PROCESSED, NOW, result=1, result_state=JobState.PROCESSED, attempts=1)
    )
    over = replace(over, consumed={}, fingerprint="")
    held = a_job(
        1,
        generation=3,
        result=2,
        result_state=JobState.NOOP,
        fingerprint=odd,
        consumed={"site_hourly@2024-05-01T00": 2},
        consuming={},
        attempts=2,
        unit="x#3.1",
        runs=1,
        next_run=NOW + MICROSECOND,
        forced=True,
        holds=("request-1", odd),
        requests=("request-0",),
    ).moved(JobState.FINAL_RUN, NOW, odd)
    with contextlib.closing(open_sqlite(path)) as store:
        assert store.read_jobs([over.key, held.key]) == {over.key: over, held.key: held}
        assert store.read_units([first.key, second.key]) == {first.key: first, second.key: second}
        assert store.active_jobs() == [held]
        assert store.active_units() == [second, a_unit(2)]
        entries = fold_all(store)
        assert [entry.seq for entry in entries] == list(range(1, 10))
        for document in (over, held, first, second, a_unit(2)):
            told = tuple(entry.transition for entry in entries if entry.key == document.key)
            assert told == document.transitions
        assert store.read_ledgers() == {"site_hourly": LedgerRecord("site_hourly", 2, {"runs": []})}
        assert store.open_requests() == [a_request()]
        assert store.read_documents("catalog") == {
            "catalog": Versioned(1, {"who": "é", "version": 1})
        }
        assert store.read_lease("scheduler") == Lease(
            owner="a", epoch=1, until=LEASE_END, since=LEASE_END
        )
        assert store.check() == []
        assert labels(store.claim(a_claim(9))) == [an_hour(2).label]
        put_unit(store, second.moved(UnitState.PROCESSED, NOW), second.fence)
        put_job(store, held.moved(JobState.PROCESSED, NOW))
        assert len(fold_all(store)) == 3
    assert Path(f"{path}.v1.bak").exists()


def test_a_document_whose_entries_were_forgotten_is_read_without_them(store: SQLiteStore) -> None:
    job = a_stored_job(store)
    fold_all(store)
    assert store.prune_feed(99) == 1
    over = put_job(store, job.moved(JobState.PROCESSED, NOW))
    assert store.read_jobs([job.key]) == {job.key: replace(over, transitions=over.transitions[1:])}


def test_a_job_begun_anew_does_not_remember_the_one_before(store: SQLiteStore) -> None:
    a_stored_job(store, JobState.PROCESSED)
    fold_all(store)
    assert store.prune_jobs("site_hourly", NOW) == 1
    again = a_stored_job(store)
    assert store.read_jobs([again.key]) == {again.key: again}


def test_migrate_does_what_its_dry_run_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{path}"
    names = [each.name for each in MIGRATIONS]
    assert migrate(url, dry_run=True) == names
    assert not path.exists()
    assert migrate(url) == names
    assert migrate(url) == []
    with_known(monkeypatch, *MIGRATIONS, NEXT)
    assert migrate(url) == ["colours"]
    assert migrate("memory://") == []


def test_a_step_may_be_a_function(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def repaint(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE colours (name TEXT) STRICT")

    with_known(monkeypatch, *MIGRATIONS, replace(NEXT, change=repaint))
    with contextlib.closing(open_sqlite(path)) as store, store._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM colours").fetchone() == (0,)


def test_a_step_that_fails_leaves_the_version_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(open_sqlite(path)) as store:
        job = a_stored_job(store)
    broken = replace(NEXT, change="CREATE TABLE half (x TEXT) STRICT;\nCREATE TABLE oops (;\n")
    with_known(monkeypatch, *MIGRATIONS, broken)
    with pytest.raises(Unreachable, match="syntax error"):
        open_sqlite(path)
    monkeypatch.undo()
    with contextlib.closing(open_sqlite(path)) as store:
        assert store.active_jobs() == [job]
        with store._database.reading() as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        assert "half" not in tables


@pytest.mark.parametrize("logged", [False, True], ids=["at rest", "in use"])
def test_a_newer_store_is_refused_untouched(
    path: Path, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    with monkeypatch.context() as newer:
        with_known(newer, *MIGRATIONS, NEXT)
        user = open_sqlite(path)
        a_stored_job(user)
        if not logged:
            user.close()
    before = {each.name: digest(each) for each in path.parent.iterdir() if "-shm" not in each.name}
    told = rf"schema {NEXT.number}, this version knows {MIGRATIONS[-1].number}.*untouched"
    with pytest.raises(NewerSchema, match=told):
        open_sqlite(path)
    with pytest.raises(NewerSchema):
        migrate(f"sqlite:///{path}", dry_run=True)
    after = {each.name: digest(each) for each in path.parent.iterdir() if "-shm" not in each.name}
    assert after == before
    user.close()


# the cost of history


def plan_of(store: SQLiteStore, query: str, *parameters: Any) -> str:
    with store._database.reading() as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {query}", parameters).fetchall()
    return "; ".join(row[3] for row in rows)


@pytest.mark.parametrize(
    ("query", "parameters", "index"),
    [
        (sqlite._ACTIVE_JOBS, (), "jobs_active"),
        (sqlite._ACTIVE_UNITS, (), "units_active"),
        (sqlite._CLAIMABLE, (0, 1), "units_requested"),
        (sqlite._CLAIMABLE_OF, (0, "[]", 1), "units_requested"),
        (sqlite._CLAIMABLE_AHEAD, (0, "[]", 1), "units_requested"),
        (sqlite._NEXT_CLAIMABLE, (), "units_requested"),
        ("SELECT document FROM requests WHERE state = 'filed' ORDER BY arrival", (),
         "requests_open"),
        (sqlite._LAST_JOBS, ("p", 1), "jobs_by_start"),
        (sqlite._JOBS_BETWEEN, ("p", 0, 1), "jobs_by_start"),
        (sqlite._PRUNED_JOBS, ("p", 0), "jobs_by_start"),
        (sqlite._JOBS_AMONG, ("[]",), "jobs USING PRIMARY KEY"),
        (sqlite._UNITS_AMONG, ("[]",), "units USING PRIMARY KEY"),
        (sqlite._STANDING_JOBS, ("[]",), "jobs USING PRIMARY KEY"),
        (sqlite._STANDING_UNITS, ("[]",), "units USING PRIMARY KEY"),
        (sqlite._RENEW, (0, None, "", 1, ""), "units USING PRIMARY KEY"),
        (sqlite._FEED, (0, 1), "PRIMARY KEY"),
        (sqlite._CHANGES, (0, 1), "PRIMARY KEY"),
        (sqlite._LAST_SEQ, (), "SEARCH feed"),
        (sqlite._ENTRIES, ("[]",), "SEARCH feed USING INTEGER PRIMARY KEY"),
    ],
)  # fmt: skip
def test_hot_queries_use_their_index_and_sort_nothing(
    store: SQLiteStore, query: str, parameters: tuple[Any, ...], index: str
) -> None:
    plan = plan_of(store, query, *parameters)
    assert index in plan
    assert "TEMP B-TREE" not in plan
    assert not re.search(r"SCAN (jobs|units|requests|feed)(?! USING)", plan)


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        (sqlite._CLAIMABLE, (0, 1)),
        (sqlite._CLAIMABLE_OF, (0, "[]", 1)),
        (sqlite._CLAIMABLE_AHEAD, (0, "[]", 1)),
    ],
)
def test_units_that_are_named_are_found_by_their_keys(
    store: SQLiteStore, query: str, parameters: tuple[Any, ...]
) -> None:
    plan = plan_of(store, sqlite.among_named(query), "[]", *parameters)
    assert "SEARCH units USING PRIMARY KEY (key=?)" in plan


def test_no_operation_costs_history(store: SQLiteStore) -> None:
    """The steps SQLite takes are as many with 10,000 finished jobs and units as with none."""

    def steps() -> dict[str, int]:
        number = next(numbers)
        taken: dict[str, int] = {}
        acts: dict[str, Callable[[], object]] = {
            "save_jobs": lambda: a_stored_job(store, JobState.PROCESSED, number),
            "active_jobs": store.active_jobs,
            "save_units": lambda: put_unit(store, a_unit(number)),
            "claim": lambda: store.claim(a_claim(5)),
            "active_units": store.active_units,
            "next_claimable": store.next_claimable,
            "report": lambda: [
                put_unit(store, unit.moved(UnitState.PROCESSED, NOW), unit.fence)
                for unit in store.active_units()
            ],
            "fold": lambda: store.fold(10),
            "file_request": lambda: store.file_request(a_request(number)),
            "move_request": lambda: store.move_request(a_request(number, state="done"), "filed"),
            "open_requests": store.open_requests,
            "last_jobs": lambda: store.last_jobs("site_hourly", 3),
        }
        with store._database.reading() as connection:
            for name, act in acts.items():
                count = [0]

                def tick(count: list[int] = count) -> int:
                    count[0] += 1
                    return 0

                connection.set_progress_handler(tick, 10)
                act()
                connection.set_progress_handler(None, 0)
                taken[name] = count[0]
        return taken

    numbers = iter(range(20_000, 30_000))
    steps()
    before = steps()
    over = [a_job(n).moved(JobState.PROCESSED, NOW) for n in range(10_000)]
    store.save_jobs([JobWrite(job, 0) for job in over])
    done = [a_unit(n, state=UnitState.PROCESSED) for n in range(10_000)]
    store.save_units([UnitWrite(unit, None) for unit in done])
    fold_all(store, 100_000)
    after = steps()
    assert {name: after[name] for name in after if after[name] > before[name] + 10} == {}


# one transaction for several calls


def test_what_is_written_together_is_seen_at_once(store: SQLiteStore, path: Path) -> None:
    with contextlib.closing(open_sqlite(path)) as other:
        with store.together():
            job, unit = (
                a_stored_job(store),
                put_unit(store, a_unit()),
            )
            assert store.read_jobs([job.key]) == {job.key: job}
            assert (other.read_jobs([job.key]), other.read_units([unit.key])) == ({}, {})
        assert other.read_jobs([job.key]) == {job.key: job}
        assert other.read_units([unit.key]) == {unit.key: unit}


def test_who_has_only_looked_keeps_nobody_from_writing(store: SQLiteStore, path: Path) -> None:
    with contextlib.closing(open_sqlite(path)) as other, store.together():
        assert store.active_jobs() == []
        job = a_stored_job(other)
        assert store.read_jobs([job.key]) == {job.key: job}
        put_unit(store, a_unit())


def test_a_block_that_raises_leaves_nothing(store: SQLiteStore) -> None:
    with contextlib.suppress(RuntimeError), store.together():
        job, unit = a_stored_job(store), put_unit(store, a_unit())
        fold_all(store)
        raise RuntimeError
    assert (store.read_jobs([job.key]), store.read_units([unit.key])) == ({}, {})
    assert (fold_all(store), store.feed(0, 10)) == ([], [])


def test_a_part_that_fails_undoes_the_others_even_where_its_failure_is_caught(
    store: SQLiteStore,
) -> None:
    circle: list[Any] = []
    circle.append(circle)
    broken = LedgerRecord("site", 1, {"runs": circle})

    def write_together() -> None:
        with store.together():
            put_unit(store, a_unit())
            with pytest.raises(RecursionError):
                store.save_ledgers([broken])
            with pytest.raises(Unreachable):
                put_unit(store, a_unit(1))

    with pytest.raises(Unreachable, match="could not take all"):
        write_together()
    assert store.active_units() == []
    put_unit(store, a_unit())


def test_a_disk_that_is_full_at_the_end_of_a_block_undoes_all_of_it(store: SQLiteStore) -> None:
    connection = store._database._session().connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def write_together() -> None:
        with store.together():
            for number in range(1000):
                put_unit(store, a_unit(number))

    with pytest.raises(Unreachable, match="disk is full"):
        write_together()
    connection.execute("PRAGMA max_page_count = 1000000")
    assert store.active_units() == []
    put_unit(store, a_unit())
