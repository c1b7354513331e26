"""A disk that takes nothing more: the programs say so, wait, and go on when there is room again.

The limit on file sizes (RLIMIT_FSIZE) of the running programs is lowered below the store's size:
every write then fails as on a full disk, which no permission check as root would bring about.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

CONTEXT = """
from synergy import Context, daily, hourly, tree

context = Context(
    tree(
        "t",
        [daily("t_daily", run="work:quick"), hourly("t_hourly", run="work:quick", parallel=4)],
        start="2026-01-01",
        until="2026-01-11",
        lag=0,
    )
)
"""
WORK = """
import time
from synergy import processed

def quick(work):
    time.sleep(0.01)
    return processed(count=1)
"""
#: Seconds that a fact may take to come about.
PATIENCE = 60.0


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "context.py").write_text(CONTEXT)
    (tmp_path / "work.py").write_text(WORK)
    yield tmp_path
    for program in ("worker", "scheduler"):
        synergy(tmp_path, "stop", program)


def synergy(project: Path, *arguments: str) -> str:
    """What a command prints on stdout."""
    command = [sys.executable, "-m", "synergy.cli", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True).stdout


def jobs(project: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(synergy(project, "jobs", "--json") or "[]")
    return found


def finished(project: Path) -> int:
    return sum(job["state"] == "processed" for job in jobs(project))


def wait_for(fact: Callable[[], bool], what: Callable[[], str]) -> None:
    until = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < until, what()
        time.sleep(0.05)


def test_a_full_disk_stops_the_work_and_room_resumes_it(project: Path) -> None:
    programs = {}
    for name in ("scheduler", "worker"):
        programs[name] = json.loads(synergy(project, "start", name, "--json"))
    log = Path(programs["scheduler"]["log"])
    wait_for(lambda: finished(project) >= 10, lambda: synergy(project, "status"))

    processes = [psutil.Process(program["pid"]) for program in programs.values()]
    for process in processes:
        process.rlimit(psutil.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    stuck = -1
    while stuck != (stuck := finished(project)):
        time.sleep(1)  # longer than any unit
    assert all(process.is_running() for process in processes)

    for process in processes:
        process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: finished(project) == 250, lambda: synergy(project, "status"))
    assert stuck < 250
    assert "the store answers again" in log.read_text()
    assert {job["generation"] for job in jobs(project)} == {1}
