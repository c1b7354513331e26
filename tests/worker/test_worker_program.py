"""The life and death of worker programs: stops, kills, pauses, lost leases."""

import contextlib
import signal
import sqlite3
import time
from datetime import timedelta

import psutil
import pytest

from synergy.core.states import UnitState
from tests.worker.yard import Yard, gone, until


def test_sigterm_lets_units_finish(yard: Yard) -> None:
    program = yard.program(slots=2)
    unit = yard.request("waits", arguments={"folder": str(yard.folder)})
    yard.pid(unit)
    tree = program.tree()
    program.signal(signal.SIGTERM)
    later = yard.request("nothing")
    until(lambda: b"stop" in program.log.read_bytes())
    yard.go(unit)
    assert program.end() == 0
    assert yard.now(unit).state is UnitState.PROCESSED
    assert yard.now(later).state is UnitState.REQUESTED
    assert len(tree) == 4
    assert all(gone(pid) for pid in tree)


@pytest.mark.parametrize("signals", [1, 2])
def test_without_grace_units_are_handed_back_and_their_processes_end(
    yard: Yard, signals: int
) -> None:
    program = yard.program(slots=2, grace=0 if signals == 1 else 60)
    function = yard.request("waits", arguments={"folder": str(yard.folder)})
    pid_file = yard.folder / "command.pid"
    command = yard.request(command=("sh", "-c", f"echo $$ > {pid_file}; exec sleep 600"))
    pids = [yard.pid(function), int(until(lambda: pid_file.exists() and pid_file.read_text()))]
    program.signal(signal.SIGTERM)
    if signals == 2:
        until(lambda: b"stop" in program.log.read_bytes())
        program.signal(signal.SIGTERM)
    assert program.end() == 0
    assert all(gone(pid) for pid in pids)
    for unit in (function, command):
        now = yard.now(unit)
        assert (now.state, now.attempt, now.failures) == (UnitState.REQUESTED, 2, 0)
        assert now.reason == "its worker was stopped"
    assert yard.log(function) == b"attempt 1 begins\n"


def test_a_killed_worker_leaves_nothing_running_and_its_unit_is_recovered(yard: Yard) -> None:
    program = yard.program(slots=1, lease=1.5)
    arguments = {"pid_file": str(yard.folder / "daemon.pid"), "wait": True}
    lost = yard.request("leaves_daemon", arguments=arguments)
    daemon = int(until(lambda: _text(yard, "daemon.pid")))
    tree = program.tree()
    program.signal(signal.SIGKILL)
    until(lambda: all(gone(pid) for pid in [daemon, *tree]), patience=1)
    program.end()
    yard.lose(lost)
    again = yard.now(lost)
    assert (again.state, again.attempt, again.failures) == (UnitState.REQUESTED, 2, 1)
    (yard.folder / "daemon.pid").unlink()
    yard.program()
    int(until(lambda: _text(yard, "daemon.pid")))
    assert yard.now(lost).attempt == 2
    assert yard.running(lost)


def test_a_canceled_unit_is_killed_within_a_renewal(yard: Yard) -> None:
    yard.program(lease=1.5)
    unit = yard.request("waits", arguments={"folder": str(yard.folder)})
    pid = yard.pid(unit)
    yard.cancel(unit)
    until(lambda: gone(pid), patience=1.5)
    after = yard.request("nothing")
    assert yard.ended(after).state is UnitState.PROCESSED
    assert yard.now(unit).state is UnitState.CANCELED
    assert yard.log(unit) == b"attempt 1 begins\n"


def test_a_paused_worker_is_overtaken_and_its_result_refused(yard: Yard) -> None:
    """F41: pause beyond the lease; the second attempt wins, in the store and in the sink."""
    paused = yard.program(lease=1.5)
    sink = yard.folder / "sink.db"
    unit = yard.request("sinks", arguments={"folder": str(yard.folder)}, sink=str(sink))
    yard.pid(unit)
    paused.signal(signal.SIGSTOP)
    yard.lose(unit)
    yard.program()
    yard.pid(unit, attempt=2)
    yard.go(unit, attempt=2)
    assert yard.ended(unit).attempt == 2
    yard.go(unit, attempt=1)
    until((yard.folder / f"{unit.process}.1.refused").exists)
    paused.signal(signal.SIGCONT)
    until(lambda: b"attempt_superseded" in paused.log.read_bytes())
    now = yard.now(unit)
    assert (now.state, now.attempt) == (UnitState.PROCESSED, 2)
    assert yard.log(unit, 1).startswith(b"attempt 1 begins\n")
    assert yard.log(unit, 2) == b"attempt 2 begins\nattempt 2 ends\n"
    with contextlib.closing(sqlite3.connect(sink)) as db:
        assert db.execute("SELECT fence FROM sink").fetchall() == [("00000001.99999999.00000002",)]


def test_a_worker_takes_only_its_processes(yard: Yard) -> None:
    other = yard.request("nothing", process="other")
    mine = yard.request("nothing", process="mine")
    program = yard.program(processes=["mine"])
    assert yard.ended(mine).state is UnitState.PROCESSED
    assert program.stop() == 0
    assert yard.now(other).state is UnitState.REQUESTED


def test_a_unit_that_kills_its_slot_disturbs_no_other(yard: Yard) -> None:
    poison = yard.request("leaves", max_attempts=3, backoff=timedelta(0))
    others = [yard.request("nothing") for _ in range(10)]
    yard.program(slots=2)
    assert all(yard.ended(unit).state is UnitState.PROCESSED for unit in others)
    assert yard.ended(poison).failures == 3


def test_an_idle_worker_costs_no_processor_time(yard: Yard) -> None:
    program = yard.program()
    yard.ended(yard.request("nothing"))
    process = psutil.Process(program.process.pid)
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    switches = process.num_ctx_switches().voluntary
    until(lambda: time.monotonic() > began + 1)
    assert sum(process.cpu_times()[:2]) - before < 0.1
    assert process.num_ctx_switches().voluntary - switches < 60


def _text(yard: Yard, name: str) -> str:
    path = yard.folder / name
    return path.read_text() if path.exists() else ""
