"""Programs and projects: init, start, stop, query, up, list, db, and what is broken."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Wait = Callable[..., Any]


def test_a_new_project_runs_and_its_test_is_green(fresh: Any, wait: Wait) -> None:
    tested = fresh.run("test")
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout
    assert fresh.run("jobs").returncode == 3, "there is no store yet"

    # start, and a second start is refused with the pid
    scheduler = fresh.json("start", "scheduler")
    assert scheduler["program"] == "scheduler"
    assert Path(scheduler["log"]).exists()
    second = fresh.run("start", "scheduler")
    assert second.returncode == 4
    assert str(scheduler["pid"]) in second.stderr
    assert "stop scheduler" in second.stderr
    fresh.ok("start", "worker")
    running = {entry["program"]: entry for entry in fresh.json("query")}
    assert running["scheduler"] == {
        "program": "scheduler",
        "running": True,
        "pid": scheduler["pid"],
    }
    assert running["worker"]["running"] is True

    # its jobs are processed, by its own worker
    start = next(iter(fresh.jobs("hello_hourly").values()))["interval"][:10]
    wait(lambda: fresh.jobs("hello_daily", start, "--state", "processed"), "the first day")
    assert (fresh.folder / "greetings" / f"{start}.count").read_text() == "24\n"

    # what is stopped is gone, what is asked for then is filed
    for name in ("worker", "scheduler"):
        assert fresh.json("stop", name)["killed"] is False
        assert fresh.run("query", name).returncode == 3
        again = fresh.run("stop", name)
        assert again.returncode == 3
        assert "running are" in again.stderr
    assert fresh.processes() == []
    filed = fresh.json("reprocess", "hello_hourly", f"{start}T05")
    assert (filed["state"], filed["touched"]) == ("filed", [])
    assert filed["scheduler"].startswith("no scheduler")
    skipped = fresh.ok("skip", "hello_hourly", f"{start}T06")
    assert "filed as" in skipped
    assert "up" in skipped, "the next command to type"

    # and carried out when a scheduler starts
    fresh.ok("start", "scheduler")
    wait(
        lambda: fresh.jobs("hello_hourly")[f"hello_hourly@{start}T05"]["generation"] == 2,
        "the filed request",
    )
    why = fresh.json("why", "hello_daily", start)
    assert why["root"]["process"] == "hello_hourly"
    assert "waits for a free worker" in why["root"]["text"]


@contextlib.contextmanager
def running_up(fresh: Any, wait: Wait) -> Iterator[subprocess.Popen[str]]:
    """``up``, as soon as both programs run."""
    with subprocess.Popen(
        [*fresh.command, "up"],
        cwd=fresh.folder,
        env=fresh.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as up:
        try:
            wait(lambda: {*fresh.pids()} == {"scheduler", "worker", "supervisor"}, "both programs")
            yield up
        finally:
            up.terminate()  # harmless when it has ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_everything_and_leaves_nothing_behind(
    fresh: Any, wait: Wait, number: signal.Signals
) -> None:
    with running_up(fresh, wait) as up:
        wait(lambda: any(process != up.pid for process in fresh.processes()), "the programs")
        up.send_signal(number)
        said, _ = up.communicate(timeout=30)
    assert up.returncode == 0, said
    assert "Ctrl-C stops" in said
    assert "worker stopped" in said
    assert fresh.processes() == []
    assert fresh.pids() == {}


def test_up_takes_over_what_it_finds_running(fresh: Any, wait: Wait) -> None:
    fresh.ok("start", "scheduler")
    found = fresh.pids()["scheduler"]
    with running_up(fresh, wait) as up:
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=30)
    assert f"scheduler runs already, process {found}" in said
    assert "scheduler stopped" in said
    assert fresh.pids() == {}


def test_a_program_killed_while_it_starts_is_started_again(fresh: Any, wait: Wait) -> None:
    """As the kernel does when memory is short: no fault of the program, so `up` goes on."""
    (fresh.folder / "die-once").touch()
    with (fresh.folder / "settings.py").open("a") as settings:
        settings.write(
            "\nimport os, pathlib, signal, sys\n"
            "if 'start' in sys.argv and 'scheduler' in sys.argv:\n"
            "    marker = pathlib.Path(__file__).with_name('die-once')\n"
            "    if marker.exists():\n"
            "        marker.unlink()\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
        )
    with running_up(fresh, wait) as up:
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=30)
    assert up.returncode == 0, said
    assert "ended: killed by SIGKILL; again at once" in said
    assert not (fresh.folder / "die-once").exists()


def test_two_starts_at_once_make_one_program(fresh: Any) -> None:
    starting = [
        subprocess.Popen(
            [*fresh.command, "start", "scheduler"],
            cwd=fresh.folder,
            env=fresh.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [program.communicate(timeout=60)[1] for program in starting]
    assert sorted(program.returncode for program in starting) == [0, 4], said
    pid = fresh.pids()["scheduler"]
    assert any(f"runs already, process {pid}" in text for text in said)


def test_a_process_keeps_its_calendar(fresh: Any, wait: Wait) -> None:
    for name in ("scheduler", "worker"):
        fresh.ok("start", name)
    recorded = ("jobs", "hello_daily", "--state", "processed")
    wait(lambda: any(fresh.json(*recorded)), "a day that is recorded as it was cut")
    fresh.stop_all()
    context = fresh.folder / "context.py"
    context.write_text(context.read_text().replace('zone="UTC"', 'zone="Asia/Kathmandu"'))
    refused = fresh.run("start", "scheduler")
    assert refused.returncode == 4, refused.stderr
    for name in ("hello_daily", "hello_hourly"):
        assert name in refused.stderr
    assert "give the process a new name" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert fresh.pids() == {}


BROKEN = """
from synergy import Context, daily, freerun, hourly, program, tree

context = Context(
    tree(
        "a",
        [
            daily("d", run="workers.hello:count", after="nobody"),
            hourly("h", run="workers.missing:greet", grouping=5),
        ],
        zone="Mars/Olympus",
    ),
    freerun("never", command=["true"], at="cron 0 0 30 2 *"),
    program("worker", slots=0),
)
"""


@pytest.mark.parametrize("words", [["start", "scheduler"], ["up"], ["list", "--json"]])
def test_a_broken_context_is_told_completely_and_nothing_starts(
    fresh: Any, words: list[str]
) -> None:
    fresh.write("context.py", BROKEN)
    done = fresh.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    for problem in (
        '"nobody"',
        "workers.missing",
        "5",
        "Mars/Olympus",
        "cron 0 0 30 2 *",
        "slots 0",
    ):
        assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("context.py:") >= 4, "each problem with its place"
    assert not (fresh.folder / ".synergy").exists()
    assert fresh.processes() == []


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("context.py", "1/0", "ZeroDivisionError"),
        ("context.py", "context = 3", "context = Context("),
        ("settings.py", "GRACE = 'soon'", "GRACE 'soon'"),
        ("settings.py", "KEEP_UNITS_DAYS = '999999'", "days from 1 to 36500"),
        ("settings.py", "import nothing_of_that_name", "nothing_of_that_name"),
    ],
)
def test_files_that_do_not_import_are_named(fresh: Any, file: str, text: str, said: str) -> None:
    fresh.write(file, text)
    done = fresh.run("start", "scheduler")
    assert done.returncode == 2
    assert said in done.stderr
    assert file in done.stderr
    assert "Traceback" not in done.stderr
    assert fresh.run("--help").returncode == 0, "help always comes"
    assert fresh.run("jobs", "--help").returncode == 0


def test_a_verb_of_the_project_that_does_not_import_is_named(fresh: Any) -> None:
    fresh.write("settings.py", 'COMMANDS = {"greet": "workers.nothing:main"}')
    done = fresh.run("greet")
    assert done.returncode == 2
    assert "workers.nothing:main" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_context_is_no_project(tmp_path: Path, fresh: Any) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for verb in ("jobs", "up", "query"):
        done = subprocess.run(
            [*fresh.command, verb],
            cwd=empty,
            env=fresh.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert "init DIR" in done.stderr
    assert [*empty.iterdir()] == []


def test_a_program_that_cannot_write_says_where(fresh: Any) -> None:
    done = fresh.run("start", "scheduler", SYNERGY_LOG_DIR="/dev/null/logs")
    assert done.returncode == 1
    assert "/dev/null" in done.stderr
    assert "Traceback" not in done.stderr
    full = subprocess.run(
        ["bash", "-c", '"$@" list > /dev/full', "_", *fresh.command],
        cwd=fresh.folder,
        env=fresh.environment(),
        capture_output=True,
        text=True,
    )
    assert full.returncode == 1
    assert "No space left" in full.stderr
    assert "Traceback" not in full.stderr


def test_the_store_is_brought_up_to_date_and_a_newer_one_is_left_alone(fresh: Any) -> None:
    planned = fresh.json("db", "migrate", "--dry-run")
    assert planned["migrations"]
    assert not (fresh.folder / ".synergy").exists(), "a dry run makes nothing"
    assert fresh.json("db", "migrate")["migrations"] == planned["migrations"]
    assert fresh.json("db", "migrate")["migrations"] == []
    assert "up to date" in fresh.ok("db", "migrate")
    assert fresh.run("jobs").returncode == 3, "no scheduler has worked on it"

    file = fresh.folder / ".synergy" / "synergy.db"
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute("INSERT INTO schema_migrations VALUES (999, 'of tomorrow', '2099')")
    before = file.read_bytes()
    for words in (["jobs"], ["start", "scheduler"], ["up"], ["db", "migrate"]):
        done = fresh.run(*words)
        assert done.returncode == 4, done
        assert "newer" in done.stderr
    assert file.read_bytes() == before
    assert fresh.processes() == []


def test_the_programs_of_a_context_are_listed(fresh: Any) -> None:
    told = fresh.json("list")
    assert [entry["process"] for entry in told["processes"]] == ["hello_daily", "hello_hourly"]
    assert told["programs"] == [
        {"program": "scheduler", "slots": None, "boxes": [], "on": "all"},
        {"program": "worker", "slots": 2, "boxes": [], "on": "all"},
    ]
    assert "hello_hourly" in fresh.ok("list")


def test_a_program_is_not_started_on_a_box_that_it_is_not_bound_to(fresh: Any) -> None:
    context = fresh.folder / "context.py"
    text = context.read_text()
    assert "context = Context(" in text
    bound = 'program("loader", boxes=["db-1", "db-2"]), schedulers="ctl-*"'
    lines = [line for line in text.splitlines() if not line.startswith("context = ")]
    context.write_text(
        "\n".join(lines) + f"\nfrom synergy import program\ncontext = Context({bound})\n"
    )
    for name, boxes in (("loader", "db-1, db-2"), ("scheduler", "ctl-*")):
        refused = fresh.run("start", name, SYNERGY_BOX="web-1")
        assert refused.returncode == 4
        assert f"{name} is bound to boxes {boxes}, and this box is web-1" in refused.stderr
    told = {each["program"]: each["boxes"] for each in fresh.json("list")["programs"]}
    assert told == {"scheduler": ["ctl-*"], "loader": ["db-1", "db-2"]}
    assert fresh.run("jobs", SYNERGY_BOX="web 1").returncode == 2


def test_help_names_every_verb_and_needs_nothing_heavy(fresh: Any) -> None:
    done = subprocess.run(
        [os.sys.executable, "-X", "importtime", "-m", "synergy.cli", "--help"],
        cwd=fresh.folder,
        env=fresh.environment(),
        capture_output=True,
        text=True,
    )
    from synergy.cli import VERBS

    for verb in VERBS:
        assert f"  {verb} " in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"rich", "sqlite3", "psutil", "synergy.app", "subprocess.Popen"}
