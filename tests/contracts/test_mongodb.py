"""What is MongoDB's own: its addresses, its failures, lost answers, its feed and its upgrades."""

import contextlib
import re
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import bson
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from synergy.cli import main
from synergy.core.model import JobWrite, Refused, Renewal, UnitWrite
from synergy.core.states import JobState, UnitState
from synergy.errors import BadInput, Conflict, NewerSchema, NotFound, Unreachable
from synergy.ports import Versioned
from synergy.stores import create_roles, migrate, open_bell, open_store
from synergy.stores.bell import SocketBell
from synergy.stores.mongodb import MongoStore
from synergy.stores.mongodb_feed import HEAD_MOST
from synergy.stores.mongodb_schema import MIGRATIONS
from synergy.testing.contracts import (
    APPLIED,
    LEASE_END,
    NOW,
    a_claim,
    a_job,
    a_request,
    a_stored_job,
    a_unit,
    an_hour,
    an_offered_claim,
    fold_all,
    put_job,
    put_unit,
)
from tests import servers
from tests.certificates import make_certificates
from tests.contracts.mongodb import CuttingProxy, Mongod, a_database, a_mongod

SECRET = "s3cret"

#: Saves batches of jobs, version after version, folds, and prints what was answered as stored.
WRITER = """
import sys
from synergy.core.model import Applied, JobWrite
from synergy.core.states import JobState
from synergy.errors import Conflict, Unreachable
from synergy.stores import open_store
from synergy.testing.contracts import NOW, a_job
url, name = sys.argv[1:]
store = open_store(url)
jobs = [a_job(number, name) for number in range(50)]
while True:
    writes = [JobWrite(job.moved(JobState.EMBRYO, NOW), job.version) for job in jobs]
    try:
        answers = store.save_jobs(writes)
        assert all(isinstance(answer, Applied) for answer in answers), answers
        store.fold(30)
    except Unreachable as error:
        print("unreachable", error, flush=True)
        continue
    jobs = [write.job for write in writes]
    print(jobs[0].version, flush=True)
"""


@pytest.fixture
def url() -> Iterator[str]:
    with a_database(servers.mongodb()) as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[MongoStore]:
    with contextlib.closing(MongoStore.open(url)) as store:
        yield store


@pytest.fixture
def database(url: str) -> Iterator[Database[Any]]:
    with MongoClient[Any](url) as client:
        yield client.get_default_database()


# addresses


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://",
        f"mongodb://user:{SECRET}@",
        f"mongodb://user:{SECRET}@host:port/db",
        f"mongodb://user:{SECRET}@host:99999/db",
        f"mongodb://user:{SECRET}@host/no such name",
        f"mongodb://user:{SECRET}@host/db.jobs",
        f"mongodb://user:{SECRET}@host/db?nonsense=1",
        f"mongodb://user:{SECRET}@host/db?tls=perhaps",
        f"mongodb://user:{SECRET}@host/db?tls=true&tlsCAFile=/no/such/file",
        f"mongodb://user:{SECRET}@{SECRET}@host/db",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        open_store(url)
    assert "mongodb://" in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "option",
    ["w=0", "w=1", "w=2", "journal=false", "readPreference=secondary", "readPreference=nearest"],
)
def test_an_address_that_lowers_what_is_promised_is_refused(option: str) -> None:
    with pytest.raises(BadInput, match=f"lowers what the store promises.*{option.split('=')[0]}"):
        open_store(f"mongodb://127.0.0.1:1/db?{option}")


def test_an_address_may_say_what_is_done_anyway() -> None:
    options = "w=majority&journal=true&readPreference=primary&serverSelectionTimeoutMS=100"
    with pytest.raises(Unreachable):
        open_store(f"mongodb://127.0.0.1:1/db?{options}")


def test_programs_of_a_box_meet_at_the_same_bell_whoever_they_are() -> None:
    def place(url: str) -> Path:
        bell = open_bell(url)
        assert isinstance(bell, SocketBell)
        return bell.place

    mine = place("mongodb://scheduler:x@b,A:1/db?replicaSet=rs")
    assert mine == place("mongodb://worker:y@a:1,b/db")
    assert len({mine, place("mongodb://a:1,b/other"), place("mongodb://a:1/db")}) == 3


# failures


def test_an_unreachable_server_is_told_with_its_address_and_the_cure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"mongodb://user:{SECRET}@127.0.0.1:1/db?serverSelectionTimeoutMS=200"
    assert main(["status", "--store", url]) == Unreachable.exit_code
    said = capsys.readouterr().err
    assert SECRET not in said
    assert re.search(
        r"mongodb://user:\*\*\*@127.0.0.1:1/db\?serverSelectionTimeoutMS=200 does not answer: "
        r"127.0.0.1:1: .*refused; see that it runs",
        said,
    )
    assert len(said.splitlines()) == 1


def test_a_server_that_takes_and_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(Unreachable, match="does not answer"):
            open_store(f"mongodb://127.0.0.1:{port}/db?serverSelectionTimeoutMS=300")


def test_a_server_that_is_too_old_is_told_so() -> None:
    greeting = {"ok": 1.0, "isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 6}
    body = bytes(5) + bson.encode({**greeting, "maxBsonObjectSize": 16777216})

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    asked = struct.unpack("<iiii", peer.recv(65536)[:16])[1]
                    peer.sendall(struct.pack("<iiii", 16 + len(body), 1, asked, 2013) + body)
                    peer.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        with pytest.raises(Conflict, match=r"of a version that does not do: .* 4\.4 or newer"):
            open_store(f"mongodb://127.0.0.1:{port}/db?serverSelectionTimeoutMS=2000")


@pytest.mark.parametrize("compressors", ["snappy,zlib", "snappy", "disabled"])
def test_a_server_that_leaks_is_told_of_only_where_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, compressors: str
) -> None:
    with a_mongod(tmp_path, compressors=compressors) as server:
        version = subprocess.run(
            [servers.program("mongod"), "--version"], capture_output=True, text=True, check=True
        ).stdout
        if "v6.0.5" not in version:
            pytest.skip("that mongod may have been mended")
        with caplog.at_level("WARNING", "synergy"):
            MongoStore.open(f"mongodb://127.0.0.1:{server.port}/some").close()
    assert ("CVE-2025-14847" in caplog.text) == ("zlib" in compressors)


def test_without_create_a_missing_store_is_not_found_and_not_made(
    url: str, database: Database[Any]
) -> None:
    with pytest.raises(NotFound, match="starting the scheduler makes one"):
        open_store(url, create=False)
    assert database.list_collection_names() == []


def test_a_store_is_not_used_across_a_fork(url: str) -> None:
    code = """
import os, sys
from synergy.stores import open_store
store = open_store(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        store.active_jobs()
    except RuntimeError as error:
        os._exit(7 if "opened before a fork" in str(error) else 8)
    os._exit(9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code, url], check=False).returncode == 7


# users


@pytest.fixture(scope="module")
def with_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an administrator of a server that knows users, and a database."""
    with a_mongod(tmp_path_factory.mktemp("mongod"), "--auth") as server:
        with MongoClient[Any]("127.0.0.1", server.port) as client:
            client.admin.command("createUser", "admin", pwd=SECRET, roles=["root"])
        yield f"mongodb://admin:{SECRET}@127.0.0.1:{server.port}/synergy?authSource=admin"


def as_user(admin: str, user: str, password: str = SECRET) -> str:
    """The URL of another user, who is known in the database itself."""
    parts = urlsplit(admin)
    return f"mongodb://{user}:{password}@{parts.hostname}:{parts.port}/synergy"


def test_a_wrong_password_is_told(with_users: str) -> None:
    wrong = with_users.replace(SECRET, "wr0ng")
    with pytest.raises(
        Unreachable, match=r"refuses this user: .*see the name, the password"
    ) as told:
        open_store(wrong)
    assert "wr0ng" not in str(told.value)
    with pytest.raises(Unreachable, match=r"does not let this user do that: .*`db roles`"):
        open_store(with_users.replace(f"admin:{SECRET}@", "").replace("?authSource=admin", ""))


def test_each_program_has_the_least_that_it_needs(
    with_users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["db", "roles", "--create", "--store", with_users]) == 0
    said = capsys.readouterr().out.splitlines()
    names = ["synergy_scheduler", "synergy_worker", "synergy_console"]
    assert said == [f"created: {name}" for name in names]
    assert create_roles(with_users) == dict.fromkeys(names, False)
    with MongoClient[Any](with_users) as client:
        database = client.get_default_database()
        for name in names:
            database.command("createUser", name, pwd=SECRET, roles=[name])
    with contextlib.ExitStack() as stack:

        def open_as(role: str, *, create: bool) -> Any:
            url = as_user(with_users, f"synergy_{role}")
            return stack.enter_context(contextlib.closing(open_store(url, create=create)))

        scheduler = open_as("scheduler", create=True)
        job = a_stored_job(scheduler, JobState.PROCESSED)
        put_unit(scheduler, a_unit(1))
        fold_all(scheduler)
        scheduler.save_ledgers([])
        assert scheduler.save_document("catalog", "one", {"who": "scheduler"}, 0)
        scheduler.take_lease("scheduler", "a", NOW, LEASE_END)

        worker = open_as("worker", create=True)
        (unit,) = worker.claim(a_claim())
        assert worker.renew([Renewal(unit.key, 1, "worker-1", LEASE_END)]) == [True]
        put_unit(worker, unit.moved(UnitState.PROCESSED, NOW), unit.fence)
        worker.drop_lease("scheduler", "a", NOW)
        worker.take_lease("program", "w", NOW, LEASE_END)
        worker.switch_program("box", "program", False)
        assert worker.save_document("workers", "w", {"box": "box"}, None)
        assert (worker.active_units(), worker.next_claimable()) == ([], None)
        for refused in (
            lambda: worker.read_jobs([job.key]),
            lambda: worker.save_units([UnitWrite(a_unit(2), None)]),
            lambda: worker.prune_feed(9),
            lambda: worker.file_request(a_request()),
            lambda: worker.save_document("switches", "p", {}, 0),
        ):
            with pytest.raises(Unreachable, match="does not let this user do that"):
                refused()

        console = open_as("console", create=False)
        assert console.read_jobs([job.key]) == {job.key: job}
        assert [entry.key for entry in console.feed(0, 1)] == [job.key]
        assert console.read_documents("catalog")["one"].content == {"who": "scheduler"}
        assert console.active_jobs() == []
        console.file_request(a_request())
        for refused in (
            lambda: put_job(console, job.moved(JobState.EMBRYO, NOW)),
            lambda: console.move_request(a_request(state="done"), "filed"),
            lambda: console.take_lease("scheduler", "b", NOW, LEASE_END),
            lambda: console.save_document("catalog", "one", {}, 1),
        ):
            with pytest.raises(Unreachable, match="does not let this user do that"):
                refused()

        assert scheduler.open_requests() == [a_request()]
        scheduler.prune_jobs("site_hourly", an_hour(9).start)
        scheduler.prune_feed(99)


def test_roles_are_printed_and_only_where_there_are_any(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["db", "roles", "--store", f"mongodb://u:{SECRET}@127.0.0.1:1/mine"]) == 0
    said = capsys.readouterr().out
    assert '"createRole": "synergy_worker"' in said
    assert '{"db": "mine", "collection": "units"}, "actions": ["find", "update"]' in said
    assert SECRET not in said
    assert main(["db", "roles", "--store", f"sqlite:///{tmp_path}/s.db"]) == BadInput.exit_code
    assert "knows no users and roles" in capsys.readouterr().err


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("authority"))


def test_a_store_over_tls_and_a_wrong_certificate(authority: Path, tmp_path: Path) -> None:
    options = ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", f"{authority}/server.both"]
    with a_mongod(tmp_path, *options) as server:
        address = f"mongodb://localhost:{server.port}/synergy?serverSelectionTimeoutMS=3000"
        right = f"{address}&tls=true&tlsCAFile={authority}/ca.pem"
        with contextlib.closing(open_store(right)) as store:
            job = a_stored_job(store)
            assert store.read_jobs([job.key]) == {job.key: job}
        for wrong in (f"&tls=true&tlsCAFile={authority}/rival.pem", "&tls=true"):
            with pytest.raises(Unreachable, match=r"over TLS: .*see that both sides use it"):
                open_store(address.replace("3000", "500") + wrong)
        with pytest.raises(
            Unreachable, match=r"closes the connection: .* whether it wants TLS \(tls=true\)"
        ):
            open_store(address.replace("3000", "500"))


# lost answers


@pytest.fixture
def proxy(url: str) -> Iterator[CuttingProxy]:
    port = urlsplit(url).port
    assert port is not None
    with contextlib.closing(CuttingProxy(port)) as proxy:
        yield proxy


@pytest.fixture
def cut_off(url: str, proxy: CuttingProxy) -> Iterator[MongoStore]:
    """A store that is reached through the proxy."""
    parts = urlsplit(url)
    through = parts._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
    with contextlib.closing(MongoStore.open(through)) as store:
        yield store


def test_an_offered_unit_is_claimed_once_where_the_answer_was_lost(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    unit = a_unit()
    put_unit(store, unit)
    proxy.losing.append((b"findAndModify", b"units"))
    (claimed,) = cut_off.claim(an_offered_claim(unit))
    assert proxy.lost == 1
    assert (claimed.state, claimed.version) == (UnitState.IN_PROGRESS, 2)
    assert store.read_units([unit.key]) == {unit.key: claimed}
    assert cut_off.claim(an_offered_claim(unit)) == []


def test_writes_whose_answers_were_lost_are_done_once(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    jobs = [a_job(number).moved(JobState.IN_PROGRESS, NOW) for number in range(3)]
    units = [a_unit(number) for number in range(3)]
    put_job(store, jobs[1])
    proxy.losing += [(b"insert", b"jobs"), (b"insert", b"units")]
    assert cut_off.save_jobs([JobWrite(job, 0) for job in jobs]) == [
        APPLIED,
        Refused(jobs[1]),
        APPLIED,
    ]
    assert cut_off.save_units([UnitWrite(unit, None) for unit in units]) == [APPLIED] * 3
    over = [job.moved(JobState.PROCESSED, NOW) for job in jobs]
    gone = [unit.moved(UnitState.CANCELED, NOW) for unit in units]
    put_unit(store, gone[2], units[2].fence)
    proxy.losing += [(b"update", b"jobs"), (b"update", b"units")]
    assert cut_off.save_jobs([JobWrite(job, 1) for job in over]) == [APPLIED] * 3
    writes = [UnitWrite(unit, units[0].fence) for unit in gone]
    assert cut_off.save_units(writes) == [APPLIED, APPLIED, Refused(gone[2])]
    assert proxy.lost == 4
    assert sorted(entry.transition.version for entry in fold_all(store)) == [1] * 6 + [2] * 6


def test_a_write_that_was_done_and_overtaken_while_its_answer_was_lost_is_applied(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    job = a_stored_job(store)
    mine = job.moved(JobState.PROCESSED, NOW)
    overtaken = threading.Event()
    ask = proxy._is_to_lose

    def is_to_lose(question: bytes) -> bool:
        if lost := ask(question):
            put_job(store, mine.moved(JobState.EMBRYO, NOW, generation=2))
            overtaken.set()
        return lost

    proxy._is_to_lose = is_to_lose  # type: ignore[method-assign]
    proxy.losing.append((b"update", b"jobs"))
    assert cut_off.save_jobs([JobWrite(mine, 1)]) == [APPLIED]
    assert overtaken.is_set()
    assert store.read_jobs([job.key])[job.key].version == 3


def test_a_claim_whose_answer_was_lost_tells_what_it_took(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    store.save_units([UnitWrite(a_unit(number), None) for number in range(5)])
    proxy.losing.append((b"update", b"units"))
    held = cut_off.claim(a_claim(3))
    assert proxy.lost == 1
    assert [unit.interval for unit in held] == [an_hour(number) for number in range(3)]
    assert store.held_units() == held
    assert len(cut_off.claim(a_claim(9))) == 2


@pytest.mark.parametrize("brought", [True, False])
def test_a_report_and_a_claim_whose_answer_was_lost_are_both_told(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore, brought: bool
) -> None:
    units = [put_unit(store, a_unit(number)) for number in range(3)]
    (begun,) = store.claim(a_claim())
    done = begun.moved(UnitState.PROCESSED, NOW)
    proxy.losing.append((b"update", b"units"))
    offer = {"keys": (units[1].key,), "offered": (units[1],)} if brought else {}
    answers, held = cut_off.save_and_claim(
        [UnitWrite(done, begun.fence)], a_claim(1, owner="worker-2", **offer)
    )
    assert proxy.lost == 1
    assert answers == [APPLIED]
    assert store.held_units() == held
    assert [unit.interval for unit in held] == [an_hour(1)]
    told = Counter((entry.key, entry.transition.version) for entry in fold_all(store))
    assert set(told.values()) == {1}


def test_a_fold_whose_answer_was_lost_gives_each_transition_one_number(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    for number in range(4):
        a_stored_job(store, number=number)
    proxy.losing.append((b"update", b"feed"))
    assert cut_off.fold(10) == 4
    assert proxy.lost == 1
    proxy.losing.append((b"update", b"jobs"))
    put_unit(store, a_unit())
    assert (cut_off.fold(10), cut_off.fold(10), store.fold(10)) == (1, 0, 0)
    store.prune_jobs("site_hourly", NOW)
    assert [entry.seq for entry in store.feed(0, 10)] == [1, 2, 3, 4, 5]


def test_single_documents_whose_answers_were_lost_are_written_once(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    proxy.losing += [(b"insert", b"catalog"), (b"insert", b"requests"), (b"insert", b"leases")]
    assert cut_off.save_document("catalog", "one", {"who": "a"}, 0)
    cut_off.file_request(a_request())
    assert cut_off.take_lease("scheduler", "a", NOW, LEASE_END).epoch == 1
    proxy.losing += [(b"update", b"catalog"), (b"update", b"leases")]
    assert cut_off.save_document("catalog", "one", {"who": "b"}, 1)
    assert not cut_off.save_document("catalog", "one", {"who": "c"}, 1)
    later = LEASE_END + timedelta(seconds=1)
    assert cut_off.take_lease("scheduler", "b", LEASE_END, later).epoch == 2
    assert proxy.lost == 5
    assert store.read_documents("catalog") == {"one": Versioned(2, {"who": "b"})}
    assert store.open_requests() == [a_request()]


def test_a_server_that_stays_away_is_unreachable_and_nothing_was_changed(
    cut_off: MongoStore, proxy: CuttingProxy, store: MongoStore
) -> None:
    job = a_stored_job(cut_off)
    cut_off._server.patience = 0.3
    proxy.close()  # and the connection that is open is lost with the next answer
    proxy.losing.append((b"find", b"jobs"))
    with pytest.raises(Unreachable, match="does not answer"):
        cut_off.active_jobs()
    over = job.moved(JobState.PROCESSED, NOW)
    with pytest.raises(Unreachable, match="does not answer"):
        cut_off.save_jobs([JobWrite(over, 1)])
    assert store.active_jobs() == [job]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoClient[Any]]:
    """A server that fails when it is told to."""
    options = ("--setParameter", "enableTestCommands=1")
    with (
        a_mongod(tmp_path_factory.mktemp("failing"), *options) as server,
        MongoClient[Any]("127.0.0.1", server.port) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "failure",
    [
        {"closeConnection": True},
        {"errorCode": 91},  # it is shutting down
        {"errorCode": 189},  # the primary has stepped down
        {"errorCode": 10107},  # it is not the primary
        {"errorCode": 50},  # out of time
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
        {"writeConcernError": {"code": 91, "errmsg": "it is shutting down"}},
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(failing: MongoClient[Any], failure: dict[str, Any]) -> None:
    host, port = failing.address or ("", 0)
    url = servers.with_database(f"mongodb://{host}:{port}", servers.fresh_name())

    def fail(*commands: str) -> None:
        mode = {"times": len(commands)}
        data = {"failCommands": list(commands), **failure}
        failing.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)

    with contextlib.closing(open_store(url)) as store:
        known = a_stored_job(store)
        fresh = a_job(1).moved(JobState.IN_PROGRESS, NOW)
        again = a_job().moved(JobState.FAILED, NOW)
        fail("insert")
        assert store.save_jobs([JobWrite(again, 0), JobWrite(fresh, 0)]) == [
            Refused(known),
            APPLIED,
        ]
        over = [job.moved(JobState.PROCESSED, NOW) for job in (known, fresh)]
        fail("update")
        assert store.save_jobs([JobWrite(job, 1) for job in over]) == [APPLIED] * 2
        put_unit(store, a_unit())
        fail("update")
        assert len(store.claim(a_claim())) == 1
        fail("update")
        assert sorted(entry.transition.version for entry in fold_all(store)) == [1, 1, 1, 2, 2, 2]
    with contextlib.closing(open_store(url)) as other:
        assert other.fold(10) == 0
        assert other.active_jobs() == []


def test_a_large_batch_is_sent_in_parts_and_answered_in_order(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synergy.stores.mongodb._AT_ONCE", 3)
    taken = a_stored_job(store, number=4)
    jobs = [a_job(number).moved(JobState.IN_PROGRESS, NOW) for number in range(8)]
    writes = [JobWrite(job, 0) for job in jobs]
    writes += [JobWrite(job.moved(JobState.PROCESSED, NOW), 1) for job in jobs]
    answers = store.save_jobs(writes)
    assert answers == [APPLIED] * 4 + [Refused(taken)] + [APPLIED] * 11
    assert {job.version for job in store.read_jobs(job.key for job in jobs).values()} == {2}


# the feed


def test_a_full_head_is_put_beside_and_read_as_one(store: MongoStore, url: str) -> None:
    count = 3 * HEAD_MOST
    jobs = [a_job(number).moved(JobState.IN_PROGRESS, NOW) for number in range(count)]
    for first in range(0, count, 100):
        store.save_jobs([JobWrite(job, 0) for job in jobs[first : first + 100]])
        store.fold(70)
    fold_all(store)
    with contextlib.closing(open_store(url)) as other:
        entries = other.feed(0, 10 * count)
        assert [entry.seq for entry in entries] == list(range(1, count + 1))
        assert {entry.key for entry in entries} == {job.key for job in jobs}
        for after in (0, 1, HEAD_MOST - 1, HEAD_MOST, HEAD_MOST + 170, count - 3, count):
            part = other.feed(after, 250)
            assert part == entries[after : after + 250]
            assert [change[0] for change in other.changes(after, 250)] == [e.seq for e in part]
        assert other.prune_feed(HEAD_MOST + 100) == HEAD_MOST + 100
        assert store.feed(0, 10 * count) == entries[HEAD_MOST + 100 :]
        assert other.prune_feed(count) == count - HEAD_MOST - 100
        assert store.feed(0, 10) == []
    a_stored_job(store, number=count)
    assert [entry.seq for entry in fold_all(store)] == [count + 1]


def test_who_dies_after_putting_the_head_beside_leaves_no_doubles(
    store: MongoStore, database: Database[Any], url: str
) -> None:
    jobs = [a_job(number).moved(JobState.IN_PROGRESS, NOW) for number in range(HEAD_MOST + 9)]
    store.save_jobs([JobWrite(job, 0) for job in jobs])
    fold_all(store)
    head = database["feed"].find_one({"_id": "head"})
    assert head is not None
    database["feed"].insert_one({"_id": head["through"], "entries": head["entries"]})
    before = store.feed(0, 10_000)
    assert [entry.seq for entry in before] == list(range(1, len(jobs) + 1))
    with contextlib.closing(open_store(url)) as other:
        put_unit(other, a_unit())
        assert other.fold(10) == 1
        assert other.feed(0, 10_000)[:-1] == before


def test_who_dies_before_telling_the_documents_leaves_no_doubles(
    store: MongoStore, database: Database[Any], url: str
) -> None:
    a_stored_job(store, JobState.PROCESSED, 0)
    moving = a_stored_job(store, JobState.IN_PROGRESS, 1)
    put_unit(store, a_unit(state=UnitState.PROCESSED))
    assert store.fold(10) == 3
    assert database["jobs"].count_documents({"pending": {"$exists": True}}) == 2
    with contextlib.closing(open_store(url)) as other:
        assert [job.interval for job in other.active_jobs()] == [an_hour(1)]
        put_job(other, moving.moved(JobState.PROCESSED, NOW))
        assert other.fold(10) == 1
        assert other.active_jobs() == []
        assert other.prune_jobs("site_hourly", NOW) == 2
        assert [entry.transition.version for entry in other.feed(0, 10)] == [1, 1, 1, 2]
    assert store.fold(10) == 0


def test_documents_that_move_on_between_two_folds_are_told_once_each(
    store: MongoStore, database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synergy.stores.mongodb_feed.TELL_MOST", 1)
    jobs = [a_stored_job(store, number=number) for number in range(6)]
    for state in (JobState.PROCESSED, JobState.EMBRYO, JobState.SKIPPED):
        assert store.fold(100) > 0
        jobs[:4] = [put_job(store, job.moved(state, NOW)) for job in jobs[:4]]
        assert store.fold(2) == 2
    fold_all(store)
    assert store.fold(9) == 0
    told = Counter((entry.key, entry.transition.version) for entry in store.feed(0, 100))
    assert set(told.values()) == {1}
    assert len(told) == 6 + 3 * 4
    assert database["jobs"].count_documents({"pending": {"$exists": True}}) == 0


def test_a_write_without_a_transition_after_a_fold_leaves_nothing_pending(
    store: MongoStore, url: str
) -> None:
    job = a_stored_job(store, JobState.PROCESSED)
    assert store.fold(10) == 1
    job = put_job(store, replace(job, version=2))
    assert store.fold(10) == 0
    assert store.active_jobs() == []
    with contextlib.closing(open_store(url)) as other:
        assert other.fold(10) == 0
        assert other.prune_jobs("site_hourly", NOW) == 1


def test_more_transitions_than_are_kept_all_come_to_the_feed(store: MongoStore) -> None:
    job = a_job()
    for _ in range(40):
        job = put_job(store, job.moved(JobState.EMBRYO, NOW))
    assert store.read_jobs([job.key]) == {job.key: job}
    assert [entry.transition.version for entry in fold_all(store)] == list(range(1, 41))
    store.prune_feed(0)
    assert store.read_jobs([job.key]) == {job.key: job}


# costs


def test_no_call_walks_through_the_history(
    store: MongoStore, database: Database[Any], url: str
) -> None:
    jobs = [a_job(number).moved(JobState.PROCESSED, NOW) for number in range(300)]
    store.save_jobs([JobWrite(job, 0) for job in jobs])
    over = [UnitWrite(a_unit(number, state=UnitState.PROCESSED), None) for number in range(300)]
    store.save_units(over)
    for number in range(300):
        request = a_request(number)
        store.file_request(request)
        store.move_request(replace(request, state="done"), "filed")
    fold_all(store)
    store.prune_feed(0)
    put_unit(store, a_unit(900, attempt=2, not_before=NOW))
    put_unit(store, a_unit(901, "elsewhere"))
    database.command("profile", 2)
    quick = frozenset({"site_hourly", "elsewhere"})
    assert store.next_claimable() is not None
    assert len(store.claim(a_claim(1, processes=frozenset({"elsewhere"})))) == 1
    assert len(store.claim(a_claim(1, ahead=1, quick=quick))) == 1
    keyed = a_claim(1, keys=(jobs[0].key, a_unit(900).key), ahead=1, quick=quick)
    assert store.claim(keyed) == []
    store.fold(10)
    with contextlib.closing(open_store(url)) as other:
        assert other.active_jobs() == []
        assert len(other.active_units()) == len(other.held_units()) == 2
        assert other.open_requests() == []
        assert other.next_claimable() is None
        assert other.fold(1) == 0
        assert len(other.last_jobs("site_hourly", 3)) == 3
    database.command("profile", 0)
    looks = list(database["system.profile"].find({"ns": {"$regex": r"\.(jobs|units|requests)$"}}))
    assert len(looks) > 10
    for look in looks:
        assert "COLLSCAN" not in look.get("planSummary", "")
        assert look.get("docsExamined", 0) <= 5, look


def test_a_claim_passes_over_the_backlog_of_other_processes(
    store: MongoStore, database: Database[Any]
) -> None:
    store.save_units([UnitWrite(a_unit(number, "busy"), None) for number in range(500)])
    put_unit(store, a_unit(900, "idle"))
    put_unit(store, a_unit(901, "idle", priority=1))
    put_unit(store, a_unit(0, "later", not_before=LEASE_END))
    database.command("profile", 2)
    idle = frozenset({"idle", "later", "never"})
    found = store.claim(a_claim(1, processes=idle, ahead=9, quick=idle))
    assert [unit.interval for unit in found] == [an_hour(901), an_hour(900)]
    assert store.claim(a_claim(1, processes=idle)) == []
    database.command("profile", 0)
    looks = list(database["system.profile"].find({"op": "query", "ns": {"$regex": "units$"}}))
    assert len(looks) == 3
    assert max(look["keysExamined"] for look in looks) < 20
    database.command("profile", 2)
    assert [unit.process for unit in store.claim(a_claim(2))] == ["busy", "busy"]
    database.command("profile", 0)
    looks = list(database["system.profile"].find({"command.distinct": "units"}))
    assert [look["planSummary"].split()[0] for look in looks] == ["DISTINCT_SCAN"]
    assert looks[0]["keysExamined"] < 10


def test_a_claim_of_more_processes_than_are_merged_at_once_keeps_the_order(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synergy.stores.mongodb._MERGED", 2)
    for number in range(14):
        put_unit(store, a_unit(number // 2, f"p{number % 7}", priority=number % 3))
    units = store.claim(a_claim(9))
    assert [unit.turn for unit in units] == sorted(unit.turn for unit in units)
    assert units[-1].turn < min(unit.turn for unit in store.claim(a_claim(9)))


# upgrades


def test_a_newer_schema_is_refused_and_left(
    store: MongoStore, database: Database[Any], url: str
) -> None:
    database["schema"].update_one({"_id": "version"}, {"$set": {"number": 99}})
    for create in (True, False):
        with pytest.raises(NewerSchema, match="has schema 99"):
            open_store(url, create=create)
    with pytest.raises(NewerSchema):
        migrate(url)
    assert database["schema"].find_one() == {"_id": "version", "number": 99}


def test_a_database_is_brought_up_to_date_once_and_step_by_step(
    url: str, database: Database[Any]
) -> None:
    steps = [migration.name for migration in MIGRATIONS]
    assert migrate(url, dry_run=True) == steps
    assert database.list_collection_names() == []
    assert migrate(url) == steps
    assert migrate(url) == []
    database["schema"].delete_many({})
    with contextlib.closing(open_store(url)) as store:
        job = a_stored_job(store)
        fold_all(store)
        # Somebody died between the steps and the note that they were taken.
        database["schema"].delete_many({})
        with contextlib.closing(open_store(url)) as other:
            assert other.read_jobs([job.key]) == {job.key: job}
            assert [entry.key for entry in other.feed(0, 9)] == [job.key]


# killed servers


@pytest.mark.slow
def test_what_was_answered_survives_killed_servers_and_is_numbered_once(tmp_path: Path) -> None:
    with a_mongod(tmp_path) as server:
        url = f"mongodb://127.0.0.1:{server.port}/synergy?serverSelectionTimeoutMS=20000"
        open_store(url).close()
        writers = [start_writer(url, name) for name in ("a", "b")]
        try:
            seen = [kill_in_the_middle(server, writers) for _ in range(5)][-1]
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()
        with contextlib.closing(open_store(url)) as store:
            fold_all(store)
            jobs = store.active_jobs()
            entries = store.feed(0, 1_000_000)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    told = Counter((entry.key, entry.transition.version) for entry in entries)
    assert set(told.values()) == {1}
    assert sorted(told) == sorted((job.key, v) for job in jobs for v in range(1, job.version + 1))
    for name, version in zip("ab", seen, strict=True):
        versions = {job.version for job in jobs if job.process == name}
        assert versions <= {*range(version, max(versions) + 1)}
        assert min(versions) >= version
        assert max(versions) - min(versions) <= 1


def start_writer(url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, url, name], stdout=subprocess.PIPE, text=True
    )


def kill_in_the_middle(server: Mongod, writers: list[subprocess.Popen[str]]) -> list[int]:
    """Kill the server while they write, start it again; the last versions answered as stored."""

    def read_on(writer: subprocess.Popen[str]) -> int:
        assert writer.stdout is not None
        line = writer.stdout.readline()
        assert re.fullmatch(r"\d+\n", line), line
        return int(line)

    for writer in writers:
        for _ in range(5):
            read_on(writer)
    server.kill()
    server.start()
    return [read_on(writer) for writer in writers]
