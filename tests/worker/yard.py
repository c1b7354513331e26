"""A yard: a store with units, a project, and worker programs at work on it."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil

from synergy.capture import attempt_log_path, read_log
from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Applied, Task, Unit, UnitWrite
from synergy.core.recovery import after_lost_lease, canceled
from synergy.core.states import UnitState
from synergy.ports import Store
from synergy.stores import open_bell, open_store

HERE = Path(__file__).parent
PROJECT = HERE / "project"
#: Where synergy is found.
ROOT = HERE.parent.parent
HOURS = Calendar(Granularity.HOURLY)
#: Seconds that anything may take on a slow machine before a test fails.
PATIENCE = 20.0
T = TypeVar("T")


def until(fact: Callable[[], T], patience: float = PATIENCE, pace: float = 0.005) -> T:
    """Wait for a fact; what it gave."""
    give_up = time.monotonic() + patience
    while not (found := fact()):
        assert time.monotonic() < give_up, f"not within {patience} s"
        time.sleep(pace)
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def gone(pid: int) -> bool:
    """Whether this process has ended; a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Program:
    """A worker program as a process of its own."""

    def __init__(self, settings: dict[str, Any], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "program.py"), json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def tree(self) -> list[int]:
        """The process ids below it."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def slots(self) -> list[int]:
        """The process ids of its slots."""
        return [pid for pid in self.tree() if _is_slot(pid)]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it has one."""
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """End it, the gentle way; its exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        return self.end()


def _is_slot(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        command = psutil.Process(pid).cmdline()
        return "synergy.worker.slot" in command and not any("containment" in c for c in command)
    return False


class Yard:
    """Units in a SQLite store, and programs that work them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/yard.db"
        self.store: Store = open_store(self.url)
        self.bell = open_bell(self.url)
        self.log_dir = folder / "logs"
        self.programs: list[Program] = []
        self._numbers = itertools.count(1)

    def program(self, **settings: Any) -> Program:
        """Start a worker program."""
        number = next(self._numbers)
        program = Program(
            {
                "url": self.url,
                "worker_id": f"w{number}",
                "project": str(PROJECT),
                "log_dir": str(self.log_dir),
                **settings,
            },
            self.folder / f"program{number}.log",
        )
        self.programs.append(program)
        return program

    def request(self, entry: str | None = None, process: str | None = None, **task: Any) -> Unit:
        """A unit to be worked."""
        unit = Unit(
            process=process or f"p{next(self._numbers)}",
            interval=HOURS.parse("2026-11-19T00"),
            generation=1,
            task=Task(entry=f"tasks:{entry}" if entry and ":" not in entry else entry, **task),
            created_at=datetime.now(UTC),
        )
        self.store.save_units([UnitWrite(unit, None)])
        self.bell.ring("worker")
        return unit

    def herd(self, entry: str, count: int, **task: Any) -> list[Unit]:
        """Units of one process, requested at once, after one by which the worker knows it."""
        process = f"p{next(self._numbers)}"
        hours = [HOURS.parse("2026-11-19T00")]
        while len(hours) <= count:
            hours.append(HOURS.shift(hours[-1], 1))
        units = [
            Unit(
                process=process,
                interval=hour,
                generation=1,
                task=Task(entry=f"tasks:{entry}", **task),
                created_at=datetime.now(UTC),
            )
            for hour in hours
        ]
        for first, last in ((0, 1), (1, count + 1)):
            self.store.save_units([UnitWrite(unit, None) for unit in units[first:last]])
            self.bell.ring("worker")
            if first == 0:
                self.ended(units[0])
        return units[1:]

    def backlog(
        self, entry: str, count: int, process: str | None = None, **task: Any
    ) -> list[Unit]:
        """Units of as many adjacent hours of one process, requested at once."""
        process = process or f"p{next(self._numbers)}"
        hours = [HOURS.parse("2026-11-19T00")]
        while len(hours) < count:
            hours.append(HOURS.shift(hours[-1], 1))
        said = Task(entry=f"tasks:{entry}", **task)
        units = [
            Unit(process=process, interval=hour, generation=1, task=said, created_at=_now())
            for hour in hours
        ]
        self.store.save_units([UnitWrite(unit, None) for unit in units])
        self.bell.ring("worker")
        return units

    def now(self, unit: Unit) -> Unit:
        """The unit as it stands."""
        return self.store.read_units([unit.key])[unit.key]

    def ended(self, unit: Unit) -> Unit:
        """The unit once it is terminal."""
        until(lambda: self.now(unit).state.terminal)
        return self.now(unit)

    def worked(self, entry: str | None = None, **task: Any) -> Unit:
        """The unit that was worked, in its only attempt."""
        return self.ended(self.request(entry, max_attempts=1, **task))

    def log(self, unit: Unit, attempt: int = 1) -> bytes:
        """The attempt's log."""
        path = attempt_log_path(
            self.log_dir, unit.process, unit.interval.label, unit.generation, unit.run, attempt
        )
        try:
            return read_log(path)
        except FileNotFoundError:
            return b""

    def pid(self, unit: Unit, attempt: int = 1) -> int:
        """The process in which a `waits` runs, once it does."""
        path = self.folder / f"{unit.process}.{attempt}.pid"
        until(path.exists)
        return int(path.read_text())

    def go(self, unit: Unit, attempt: int = 1) -> None:
        """Let a `waits` end."""
        (self.folder / f"{unit.process}.{attempt}.go").touch()

    def lose(self, unit: Unit) -> None:
        """What the scheduler does when the lease has run out, once it has."""
        until(lambda: (self.now(unit).lease_until or datetime.max) < datetime.now(UTC))
        self._replace(unit, after_lost_lease(self.now(unit), datetime.now(UTC)))

    def cancel(self, unit: Unit) -> None:
        """What the scheduler does when its generation is reopened."""
        self._replace(unit, canceled(self.now(unit), datetime.now(UTC), "reprocessed"))

    def _replace(self, unit: Unit, after: Unit) -> None:
        assert self.store.save_units([UnitWrite(after, self.now(unit).fence)]) == [Applied()]
        self.bell.ring("worker")

    def running(self, unit: Unit) -> bool:
        """Whether somebody works it."""
        return self.now(unit).state is UnitState.IN_PROGRESS

    def close(self) -> None:
        """End what still runs."""
        for program in self.programs:
            if program.process.poll() is None:
                program.signal(signal.SIGCONT)
                program.process.kill()
            program.process.wait()
        self.store.close()
