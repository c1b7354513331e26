"""Projects in folders of their own, and the command line as people and scripts run it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

#: Seconds that anything may take; what is waited for takes far less.
PATIENCE = 30.0


@dataclass(frozen=True)
class Project:
    """A user's project and its command line."""

    folder: Path

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "synergy.cli"]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            [*self.command, *words],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Ours, without what would steer the project from outside."""
        own = {name: value for name, value in os.environ.items() if "SYNERGY_" not in name}
        return {**own, "COLUMNS": "100", **more}

    def ok(self, *words: str) -> str:
        """What a command prints that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done
        return done.stdout

    def json(self, *words: str) -> Any:
        """What it prints as JSON."""
        return json.loads(self.ok(*words, "--json"))

    def jobs(self, *words: str) -> dict[str, dict[str, Any]]:
        """Jobs by ``process@label``."""
        return {f"{job['process']}@{job['interval']}": job for job in self.json("jobs", *words)}

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def pids(self) -> dict[str, int]:
        """The programs that left a pid, by name."""
        run = self.folder / ".synergy" / "run"
        files = list(run.glob("*.pid")) if run.exists() else []
        return {file.stem: int(file.read_text().split()[0]) for file in files if file.read_text()}

    def processes(self) -> list[int]:
        """Everything alive that works in this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                at_work = process.status() != psutil.STATUS_ZOMBIE
                if at_work and Path(process.cwd()) == self.folder:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def titles(self) -> list[str]:
        """What everybody can read of the processes that work in this folder."""
        return [" ".join(psutil.Process(pid).cmdline()) for pid in self.processes()]

    def stop_all(self) -> None:
        for name in self.pids():
            self.run("stop", name)


def wait_for(fact: Callable[[], Any], what: str = "it") -> Any:
    """What the fact gives once it is true."""
    until = time.monotonic() + PATIENCE
    while not (found := fact()):
        assert time.monotonic() < until, f"{what} did not come true"
        time.sleep(0.05)
    return found


@contextmanager
def new_project(folder: Path) -> Iterator[Project]:
    """As `init` makes it; whatever runs there afterwards is stopped."""
    done = subprocess.run(
        [sys.executable, "-m", "synergy.cli", "init", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    project = Project(folder.resolve())
    assert "launch.py" in done.stdout
    try:
        yield project
    finally:
        project.stop_all()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Project]:
    """A project that has never run."""
    with new_project(tmp_path / "project") as project:
        yield project


@pytest.fixture
def wait() -> Callable[..., Any]:
    """See `wait_for`."""
    return wait_for


#: Five days of hours, long past; the files of the folder tell the worker what to do.
CONTEXT = """
from synergy import Context, daily, freerun, hourly, last, program, tree

SPAN = {"start": "2024-05-12", "until": "2024-05-17", "lag": 0}
hours = tree(
    "hours",
    [
        daily("day", run="workers.play:run", blocking="children"),
        hourly("hour", run="workers.play:run", max_attempts=2, backoff=0),
    ],
    **SPAN,
)
copies = tree("copies", [daily("copy", run="workers.play:run", after="day")], **SPAN)
late = tree(
    "late", [daily("late", run="workers.play:later")], start="2024-05-12", until="2024-05-13", lag=0
)
ping = freerun("ping", command=["echo", "pong"], at="cron 0 0 1 1 *")
context = Context(hours, copies, late, ping, program("worker", slots=2))
"""

PLAY = """
import pathlib

from synergy import Result, Retry, Work, processed


def run(work: Work) -> Result:
    print(f"at {work.key} attempt {work.attempt}")
    if pathlib.Path(f"fail-{work.process}-{work.interval.label}").exists():
        raise RuntimeError("told to fail")
    return processed(count=1)


def later(work: Work) -> Result:
    raise Retry("not there yet", after=3600)
"""

FAILING = "2024-05-13T07"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Five days of hours, done; one hour of the second day has failed and holds its day."""
    with new_project(tmp_path_factory.mktemp("running") / "project") as project:
        project.write("context.py", CONTEXT)
        project.write("workers/play.py", PLAY)
        project.write(f"fail-hour-{FAILING}", "")
        for name in ("scheduler", "worker"):
            project.ok("start", name)
        wait_for(lambda: settled(project), "the five days")
        yield project


def settled(project: Project) -> bool:
    """Whether all is finished but what the failing hour holds."""
    try:
        states = {key: job["state"] for key, job in project.jobs().items()}
    except AssertionError:
        return False
    held = {"day@2024-05-13", "copy@2024-05-13", "late@2024-05-12"}
    finished = {key for key, state in states.items() if state == "processed"}
    return states[f"hour@{FAILING}"] == "failed" and {*states} - finished == {
        *held,
        f"hour@{FAILING}",
    }
