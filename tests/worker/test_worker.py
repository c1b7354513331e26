"""Units of every kind through one real worker program of two slots, over SQLite."""

import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from synergy.core.model import Unit
from synergy.core.states import UnitState
from tests.worker.yard import PROJECT, ROOT, Yard, gone, until


@pytest.mark.parametrize(
    ("entry", "arguments", "state", "count", "fingerprint", "reason"),
    [
        ("result", {}, UnitState.PROCESSED, 3, "2026-11-19T00", ""),
        ("quiet", {}, UnitState.NOOP, None, None, "no lines"),
        ("Adds", {"left": 2, "right": 3}, UnitState.PROCESSED, 5, None, ""),
        ("returns_none", {}, UnitState.PROCESSED, None, None, ""),
    ],
)
def test_results(
    busy: Yard,
    entry: str,
    arguments: dict[str, Any],
    state: UnitState,
    count: int | None,
    fingerprint: str | None,
    reason: str,
) -> None:
    unit = busy.worked(entry, arguments=arguments)
    assert (unit.state, unit.count, unit.fingerprint) == (state, count, fingerprint)
    assert unit.reason == reason
    assert unit.finished_at is not None


@pytest.mark.parametrize(
    ("entry", "reason", "log"),
    [
        ("raises", "KeyError: 'colour'", 'raise KeyError("colour")'),
        ("returns_number", "returned 42 (int); a worker returns processed(", "returned 42"),
        ("is_async", "(coroutine); a worker returns", "coroutine"),
        ("returns_forged", "a worker returns processed(", "returned Result("),
        ("gives_up", "attempt 1 gave up: no such site", ""),
        ("exits", "its worker called sys.exit(0)", "SystemExit"),
        ("interrupts", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("recurses", "RecursionError: maximum recursion depth", "RecursionError"),
        ("says_too_much", "ValueError: xxx", "ValueError: xxx"),
        ("raises_unprintable", "Unprintable (whose text cannot be shown)", "Unprintable"),
        ("segfaults", "its slot ended: killed by SIGSEGV", "before the end\nFatal Python error"),
        ("leaves", "its slot ended: exit code 139", ""),
        ("closes_everything", "its slot ended: exit code 70", ""),
        ("writes_everywhere", "something that is no answer came through", "rubbish"),
        ("absent", "tasks:absent names nothing that can be called", "BadEntry"),
        ("broken:any", "does not import: RuntimeError('broken on purpose')", "broken.py"),
        ("nowhere:any", "does not import: ModuleNotFoundError", "No module named 'nowhere'"),
        ("Adds", "TypeError: ", "missing 2 required positional arguments"),
    ],
)
def test_failures_leave_their_reason_and_their_evidence(
    busy: Yard, entry: str, reason: str, log: str
) -> None:
    unit = busy.worked(entry)
    assert unit.state is UnitState.INVALID
    assert reason in unit.reason
    assert log in busy.log(unit).decode("utf-8", "replace")
    assert len(unit.reason) <= 2000


@pytest.mark.parametrize("entry", ["segfaults", "leaves", "raises", "returns_number"])
def test_a_failed_attempt_is_repeated_and_each_has_its_own_log(busy: Yard, entry: str) -> None:
    unit = busy.ended(busy.request(entry, max_attempts=2, backoff=timedelta(0)))
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.INVALID, 2, 2)
    assert busy.log(unit, 1).decode().count("before the end") == (entry == "segfaults")
    assert busy.log(unit, 2).decode().count("before the end") == (entry == "segfaults")


def test_a_retry_waits_as_long_as_its_worker_says(busy: Yard) -> None:
    unit = busy.request("retries")
    until(lambda: busy.now(unit).attempt == 2)
    now = busy.now(unit)
    assert now.state is UnitState.REQUESTED
    assert now.reason == "attempt 1: not there yet"
    assert now.not_before is not None
    assert timedelta(minutes=59) < now.not_before - datetime.now(UTC) <= timedelta(hours=1)
    busy.cancel(unit)


@pytest.mark.parametrize(
    ("command", "state", "reason"),
    [
        (["true"], UnitState.PROCESSED, ""),
        (["sh", "-c", "exit 4"], UnitState.NOOP, "exit code 4"),
        (["sh", "-c", "exit 3"], UnitState.INVALID, "exit code 3"),
        (["sh", "-c", "kill -SEGV $$"], UnitState.INVALID, "killed by SIGSEGV"),
        (["sh", "-c", "kill -KILL $$"], UnitState.INVALID, "killed by SIGKILL"),
        (["sh", "-c", "kill -KILL $PPID; sleep 60"], UnitState.INVALID, "killed by SIGKILL"),
        (["no-such-program"], UnitState.INVALID, "exit code 127"),
        (["/etc/passwd"], UnitState.INVALID, "exit code 126"),
        (["sh", "-c", "cat; exit $?"], UnitState.PROCESSED, ""),
    ],
)
def test_commands(busy: Yard, command: list[str], state: UnitState, reason: str) -> None:
    unit = busy.worked(command=tuple(command), noop_codes=(4,))
    assert unit.state is state
    assert reason in unit.reason


def test_a_command_knows_its_unit_and_runs_in_the_project(busy: Yard) -> None:
    script = "echo $SYNERGY_UNIT $SYNERGY_GENERATION $SYNERGY_ATTEMPT $SYNERGY_START; pwd"
    unit = busy.worked(command=("sh", "-c", script))
    printed = f"{unit.key} 1 1 2026-11-19T00:00:00+00:00\n{PROJECT}\n"
    assert busy.log(unit).decode() == printed


def test_a_function_knows_its_unit_and_runs_in_the_project(busy: Yard) -> None:
    unit = busy.worked("environment")
    fence = "00000001.99999999.00000001"
    assert busy.log(unit).decode() == f"{unit.key} 1 1 {fence} {PROJECT} {ROOT}\n"


@pytest.mark.parametrize(
    ("entry", "count", "log"),
    [
        ("forks", 1, b"child\nparent\n"),
        ("forks_and_raises", 3, None),
        ("closes_output", None, b"first words\n"),
        ("prints_protocol", 1, None),
        ("prints_binary", None, bytes(range(256)) + b"\\udcff\n"),
        ("wanders_off", None, b""),
    ],
)
def test_bad_manners_confuse_nobody(
    busy: Yard, entry: str, count: int | None, log: bytes | None
) -> None:
    unit = busy.worked(entry)
    assert (unit.state, unit.count) == (UnitState.PROCESSED, count)
    assert log is None or busy.log(unit) == log


def test_logs_of_a_slots_attempts_are_never_mixed(busy: Yard) -> None:
    units = [busy.request("prints", arguments={"text": f"of unit {n}"}) for n in range(40)]
    for n, unit in enumerate(units):
        assert busy.ended(unit).state is UnitState.PROCESSED
        assert busy.log(unit).decode() == f"begin of unit {n}\nend of unit {n}"


def was_claimed_ahead(unit: Unit) -> bool:
    return UnitState.CLAIMED in [transition.after for transition in unit.transitions]


def test_units_run_several_at_once_keep_their_logs_and_progress_apart(yard: Yard) -> None:
    yard.program(slots=1)
    units = [yard.ended(unit) for unit in yard.herd("herd", 240)]
    assert sum(was_claimed_ahead(unit) for unit in units) > 100
    for unit in units:
        assert (unit.state, unit.attempt, unit.failures) == (UnitState.PROCESSED, 1, 0)
        kind, said = unit.interval.start.hour % 8, f"{unit.key}\n".encode()
        assert yard.log(unit) == (said if kind in (1, 2, 3, 6) else b"")
        hour = unit.interval.start.hour
        assert unit.progress == ((hour, 24, "") if kind == 4 else None)
        states = [transition.after for transition in unit.transitions]
        assert states[-2:] == ["in_progress", "processed"]
        times = [transition.at for transition in unit.transitions]
        assert times == sorted(times)
    assert len({unit.count for unit in units}) == 1, "in one process"


@pytest.mark.parametrize("dies", [True, False])
def test_a_bad_unit_among_others_disturbs_none_of_them(yard: Yard, dies: bool) -> None:
    yard.program(slots=1)
    units = yard.herd(
        "herd_with_a_bad_one",
        60,
        arguments={"dies": dies},
        time_limit=timedelta(seconds=1),
        backoff=timedelta(0),
    )
    bad = [unit for unit in units if unit.interval.start.hour == 20]
    for unit in units:
        ended = yard.ended(unit)
        assert ended.state is UnitState.PROCESSED
        assert (ended.attempt, ended.failures) == ((2, 1) if unit in bad else (1, 0))
        assert yard.log(unit) == (f"{unit.key}\n".encode() if unit in bad else b"")
        assert yard.log(unit, 2) == b""
    assert sum(was_claimed_ahead(yard.now(unit)) for unit in units) > 20


@pytest.mark.parametrize("command", [False, True])
def test_a_flood_of_output_is_bounded_on_disk_and_in_memory(busy: Yard, command: bool) -> None:
    program = psutil.Process(busy.programs[0].process.pid)
    busy.worked("nothing")
    before = program.memory_info().rss
    size = 200_000_000
    if command:
        unit = busy.worked(command=("sh", "-c", f"head -c {size} /dev/zero; echo the very end"))
    else:
        unit = busy.worked("floods", arguments={"bytes": size})
    assert unit.state is UnitState.PROCESSED
    assert program.memory_info().rss - before < 20_000_000
    log = busy.log(unit)
    assert len(log) <= 4 * 1024 * 1024
    assert log.strip().endswith(b"the very end")
    assert re.search(rb"19\d,\d\d\d,\d\d\d bytes left out", log)


def test_a_daemon_ends_with_its_attempt(busy: Yard, tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    unit = busy.worked("leaves_daemon", arguments={"pid_file": str(pid_file)})
    assert unit.state is UnitState.PROCESSED
    assert gone(int(pid_file.read_text()))


@pytest.mark.parametrize("command", [False, True])
def test_a_time_limit_ends_the_whole_tree(busy: Yard, tmp_path: Path, command: bool) -> None:
    pid_file, limit = tmp_path / "daemon.pid", timedelta(seconds=1.2)
    if command:
        script = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 600' & echo waits; sleep 600"
        unit = busy.worked(command=("sh", "-c", script), time_limit=limit)
        assert busy.log(unit) == b"waits\n"
    else:
        arguments = {"pid_file": str(pid_file), "wait": True}
        unit = busy.worked("leaves_daemon", arguments=arguments, time_limit=limit)
    assert unit.reason == "attempt 1 (the last of 1): time limit of 1.2 s exceeded"
    assert gone(int(pid_file.read_text()))


def test_a_thread_left_running_costs_its_slot_and_nothing_else(busy: Yard) -> None:
    unit = busy.worked("leaves_thread")
    assert (unit.state, unit.count) == (UnitState.PROCESSED, 1)
    assert b"left threads running" in busy.log(unit)
    others = [busy.worked("prints", arguments={"text": "alone"}) for _ in range(4)]
    assert {busy.log(other) for other in others} == {b"begin alone\nend alone"}


def test_progress_is_seen_in_the_store_while_it_works(busy: Yard) -> None:
    unit = busy.request("progresses", arguments={"folder": str(busy.folder)})
    until(lambda: busy.now(unit).progress == (999.0, 1000.0, "the last"))
    assert busy.running(unit)
    busy.go(unit)
    assert busy.ended(unit).state is UnitState.PROCESSED


def test_a_killed_slot_is_a_failed_attempt_and_the_unit_is_repeated(busy: Yard) -> None:
    unit = busy.request("waits", arguments={"folder": str(busy.folder)}, backoff=timedelta(0))
    psutil.Process(busy.pid(unit)).send_signal(signal.SIGKILL)
    busy.pid(unit, attempt=2)
    busy.go(unit, attempt=2)
    ended = busy.ended(unit)
    assert (ended.state, ended.attempt, ended.failures) == (UnitState.PROCESSED, 2, 1)
    assert busy.log(unit, 1) == b"attempt 1 begins\n"
    assert busy.log(unit, 2) == b"attempt 2 begins\nattempt 2 ends\n"


def test_arguments_larger_than_a_pipe(busy: Yard) -> None:
    unit = busy.worked("prints", arguments={"text": "x" * 3_000_000})
    assert unit.state is UnitState.PROCESSED
    assert len(busy.log(unit)) > 3_000_000


def test_a_worker_at_rest_is_woken_by_the_bell(busy: Yard) -> None:
    busy.worked("nothing")
    waits = []
    for _ in range(5):
        unit = busy.worked("nothing")
        assert unit.started_at is not None
        waits.append((unit.started_at - unit.created_at).total_seconds())
    assert sorted(waits)[2] < 0.2
