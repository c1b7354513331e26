"""What a unit of work costs, end to end: a scheduler and a worker on one SQLite file.

They are real programs, and every write is durable (``synchronous=FULL``).  The units call a
Python function that does nothing.

* ``batched``: a past of hours, days, months and years is caught up, as quick units are by
  default: claimed ahead, reported together.  Timed from the first dispatch to the last finish, by
  what stands in the store.
* ``serial``: the same with one slot and without claiming ahead: each unit is durably claimed just
  before it starts.
* ``parent``: on an otherwise idle system one hour is run again and again; from the moment in which
  it is over to the claim of its day (``claimed``, by the stored transitions), and to the moment in
  which the day's function begins (``started``, by the functions' own clock).
* ``peers``: huey on SQLite with fsync, one worker, the same nothing; from the first task sent to
  the last one done, the worker running before.
"""

import argparse
import contextlib
import cProfile
import json
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from synergy.app import DEFAULT_WORKER, bell_of, run_scheduler, store_of
from synergy.bench.frame import Figure, options, peer_python, report, spread
from synergy.clock import SystemClock
from synergy.core.model import Request, Unit
from synergy.errors import SynergyError
from synergy.logs import log_to, logger
from synergy.owners import new_owner
from synergy.ports import Store
from synergy.project import Project
from synergy.worker.shell import run_worker

#: The peer, at the version that is compared.
HUEY = "huey==3.5.4"
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
#: Seconds that anything may take before the measurement is given up.
PATIENCE = 600.0

_CONTEXT = """\
from synergy import Context, daily, hourly, monthly, tree, yearly

context = Context(
    tree(
        "bench",
        [
            yearly("year", run="nothing:nothing"),
            monthly("month", run="nothing:nothing"),
            daily("day", run="nothing:{day}"),
            hourly("hour", run="nothing:{hour}"),
        ][{levels}:],
        start="{start}",
        until="{until}",
        lag=0,
    ),
)
"""
_NOTHING = """\
import time
from pathlib import Path

from synergy.worker import processed

_TIMES = Path(__file__).with_name("times")


def nothing(work):
    return processed()


def stamped(work):
    with _TIMES.open("a") as file:
        file.write(f"{time.time()!r} {work.process}\\n")
    return processed()
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--hours", type=int, default=30_000, metavar="N", help="hours to catch up; 30000"
    )
    parser.add_argument("--slots", type=int, default=1, metavar="N", help="of the worker; 1")
    parser.add_argument(
        "--profile", action="store_true", help="tell where both programs spend their time"
    )
    options(parser, FIGURES)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures, or the one that is asked for."""
    return report("units", args, FIGURES)


def batched(args: argparse.Namespace) -> dict[str, Any]:
    """Units per second, claimed ahead and reported together."""
    return _catch_up(args, 48 if args.small else args.hours, "worker", args.slots)


def serial(args: argparse.Namespace) -> dict[str, Any]:
    """Units per second, each durably claimed just before it starts."""
    return _catch_up(args, 48 if args.small else args.hours // 10, "serial-worker", 1)


def parent(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from a child's end to its parent's claim and start."""
    runs, days = (3, 1) if args.small else (200, 10)
    until = BEGIN + timedelta(days=days)
    with _yard(args, until, levels=2, function="stamped") as yard:  # noqa: SIM117
        with yard.program("scheduler"), yard.program("worker", args.slots):
            _wait_for(yard.store, "day", days)
            times = yard.project.folder / "times"
            claimed, started = [], []
            for number in range(runs):
                day = BEGIN + timedelta(days=number % days)
                generation = 2 + number // days
                times.write_text("")
                clock = SystemClock()
                asked = Request(
                    id=f"bench-{number}",
                    action="reprocess",
                    process="hour",
                    starts=(day + timedelta(hours=number % 24),),
                    filed_at=clock.now(),
                )
                yard.store.file_request(asked)
                bell_of(yard.project).ring("scheduler")
                label = f"{day:%Y-%m-%d}"
                over = _unit_when_over(yard.store, f"day@{label}#{generation}")
                child = yard.store.read_jobs([f"hour@{label}T{number % 24:02}"]).popitem()[1].unit
                assert child is not None
                hour = yard.store.read_units([child])[child]
                assert hour.finished_at is not None
                assert over.started_at is not None
                claimed.append((over.started_at - hour.finished_at).total_seconds())
                first, last = (float(line.split()[0]) for line in times.read_text().splitlines())
                started.append(last - first)
                time.sleep(0.02)  # it is idle again
    return {"runs": runs, "claimed_ms": spread(claimed), "started_ms": spread(started)}


def peers(args: argparse.Namespace) -> dict[str, Any]:
    """The others at the same work."""
    count = 100 if args.small else min(args.hours, 10_000)
    python = peer_python(args.peers, HUEY)
    script = Path(__file__).with_name("huey_tasks.py")
    with tempfile.TemporaryDirectory(dir=_folder_of(args)) as folder:
        done = subprocess.run(
            [python, "-I", script, folder, str(count)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    return {"huey": {"version": HUEY.partition("==")[2], **json.loads(done.stdout)}}


FIGURES: Mapping[str, Figure] = {
    "batched": batched,
    "serial": serial,
    "parent": parent,
    "peers": peers,
}


def _catch_up(args: argparse.Namespace, hours: int, worker: str, slots: int) -> dict[str, Any]:
    until = BEGIN + timedelta(hours=hours)
    with _yard(args, until, levels=0, function="nothing") as yard:
        with yard.program(worker, slots), yard.program("scheduler"):
            _wait_for(yard.store, "year", (until - timedelta(hours=1)).year - BEGIN.year + 1)
        jobs = [
            job
            for process in ("hour", "day", "month", "year")
            for job in yard.store.jobs_between(process, BEGIN, until)
        ]
        units = yard.store.read_units([str(job.unit) for job in jobs]).values()
        first = min(unit.created_at for unit in units)
        last = max(unit.finished_at for unit in units if unit.finished_at is not None)
        found: dict[str, Any] = {
            "units": len(jobs),
            "seconds": round((last - first).total_seconds(), 3),
            "per_second": round(len(jobs) / (last - first).total_seconds()),
            "processor_seconds": yard.processor,
        }
        if args.profile:
            found["profile"] = yard.profiles
        return found


# the programs


class _Yard:
    """A project that does nothing, and its programs."""

    def __init__(self, project: Project, *, profile: bool) -> None:
        self.project = project
        self.store: Store = store_of(project, create=True)
        #: Seconds of processor time by program, with its children.
        self.processor: dict[str, float] = {}
        self.profiles: dict[str, list[dict[str, Any]]] = {}
        self._profile = profile

    @contextlib.contextmanager
    def program(self, name: str, slots: int = 1) -> Iterator[None]:
        """Run it meanwhile."""
        folder = self.project.folder
        profile = folder / f"{name}.profile"
        argv = [sys.executable, "-m", "synergy.bench.units", name, str(folder), str(slots)]
        process = subprocess.Popen(
            [*argv, *([str(profile)] if self._profile else [])],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
            self.processor[name] = round(used.ru_utime + used.ru_stime, 3)
            if self._profile:
                self.profiles[name] = _slowest(profile)


@contextlib.contextmanager
def _yard(
    args: argparse.Namespace, until: datetime, *, levels: int, function: str
) -> Iterator[_Yard]:
    with tempfile.TemporaryDirectory(dir=_folder_of(args)) as place:
        folder = Path(place)
        context = _CONTEXT.format(
            levels=levels,
            start=BEGIN.isoformat(),
            until=until.isoformat(),
            day=function,
            hour=function,
        )
        (folder / "context.py").write_text(context)
        (folder / "nothing.py").write_text(_NOTHING)
        yard = _Yard(_project(folder), profile=args.profile)
        try:
            yield yard
        finally:
            yard.store.close()


def _project(folder: Path) -> Project:
    return Project(
        folder=folder,
        store=f"sqlite:///{folder}/units.db",
        log_dir=folder / "logs",
        run_dir=folder / "run",
        grace=timedelta(seconds=5),
    )


def _folder_of(args: argparse.Namespace) -> Path | None:
    """Where to measure: on the disk of the store that is named; it is not touched itself."""
    store = getattr(args, "store", None)
    if not store:
        return None
    kind, _, path = str(store).partition(":///")
    if kind != "sqlite" or not path:
        raise SynergyError(f"bench units measures on sqlite:///…, not on {store}")
    folder = Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _wait_for(store: Store, process: str, count: int) -> None:
    """Until so many jobs of a process are over."""
    give_up = time.monotonic() + PATIENCE
    while sum(job.state.terminal for job in store.last_jobs(process, count)) < count:
        if time.monotonic() > give_up:
            raise SynergyError(f"the jobs of {process} did not end within {PATIENCE:g} s")
        time.sleep(0.2)


def _unit_when_over(store: Store, key: str) -> Unit:
    give_up = time.monotonic() + PATIENCE
    while True:
        unit = store.read_units([key]).get(key)
        if unit is not None and unit.state.terminal:
            return unit
        if time.monotonic() > give_up:
            raise SynergyError(f"{key} did not end within {PATIENCE:g} s")
        time.sleep(0.02)


def _slowest(path: Path) -> list[dict[str, Any]]:
    """The functions of a profile in which most time was spent, by themselves."""
    stats: Any = pstats.Stats(str(path))
    rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:40]
    return [
        {
            "function": f"{Path(file).name}:{line}:{name}",
            "calls": calls,
            "seconds": round(own, 3),
            "with_called": round(total, 3),
        }
        for (file, line, name), (_, calls, own, total, _) in rows
    ]


def main(name: str, folder: str, slots: str, profile: str | None = None) -> None:
    """Be one of the programs."""
    project = _project(Path(folder))
    log_to(project.log_dir / f"{name}.log")
    sys.path.insert(0, folder)
    os.chdir(folder)
    profiler = cProfile.Profile() if profile else None
    if profiler:
        profiler.enable()
    if name == "scheduler":
        run_scheduler(project)
    else:
        run_worker(
            store_of(project, create=True),
            bell_of(project),
            SystemClock(),
            worker_id=new_owner(DEFAULT_WORKER.name, project.box),
            slots=int(slots),
            project=project.folder,
            log_dir=project.log_dir,
            grace=project.grace,
            log=logger("worker"),
            ahead=name == "worker",
        )
    if profiler:
        profiler.disable()
        profiler.dump_stats(str(profile))


if __name__ == "__main__":
    main(*sys.argv[1:])
