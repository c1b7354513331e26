"""A project whose units do nothing, its real programs, and what they cost the machine.

As a program, this module is the scheduler or a worker of such a yard.
"""

import contextlib
import cProfile
import os
import pstats
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from synergy.app import SCHEDULER, run_program
from synergy.bench.place import LEVELS, Place, fresh, servers_here, used_by
from synergy.core.model import Request, Unit
from synergy.errors import SynergyError
from synergy.logs import log_to
from synergy.ports import Store
from synergy.project import open_project
from synergy.stores import open_bell, open_store

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
#: Seconds that anything may take before the measurement is given up.
PATIENCE = 600.0

_CONTEXT = """\
from synergy import Context, daily, hourly, monthly, program, tree, yearly

context = Context(
    tree(
        "bench",
        [
            hourly("hour", run="nothing:{function}"),
            daily("day", run="nothing:{function}"),
            monthly("month", run="nothing:{function}"),
            yearly("year", run="nothing:{function}"),
        ][:{levels}],
        start="{start}",
        until="{until}",
        lag=0,
    ),
    *(program(name, slots={slots}) for name in {workers}),
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


class Yard:
    """The project and its programs."""

    def __init__(
        self,
        place: Place,
        until: datetime,
        *,
        levels: int = len(LEVELS),
        function: str = "nothing",
        workers: int = 1,
        slots: int = 1,
        profile: bool = False,
    ) -> None:
        """A tree of so many of the finest `LEVELS`, from `BEGIN` on, all of it in the past, and so
        many worker programs with so many slots each.

        `function` is ``nothing``, or ``stamped``, which leaves the time of its call in `times`.
        """
        self.place = place
        self.store: Store = open_store(place.store)
        #: Seconds of processor time by program, with its children.
        self.processor: dict[str, float] = defaultdict(float)
        #: Where the programs spent their time, by name.
        self.profiles: dict[str, list[dict[str, Any]]] = {}
        self.times = place.folder / "times"
        self._bell = open_bell(place.store)
        self._profile = profile
        #: Process ids of the programs that run now, by name.
        self.running: dict[str, int] = {}
        self._workers = [f"worker-{number}" for number in range(1, workers + 1)]
        context = _CONTEXT.format(
            function=function,
            levels=levels,
            start=BEGIN.isoformat(),
            until=until.isoformat(),
            workers=self._workers,
            slots=slots,
        )
        (place.folder / "context.py").write_text(context)
        (place.folder / "nothing.py").write_text(_NOTHING)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    @contextlib.contextmanager
    def programs(self, *, ahead: bool = True) -> Iterator[None]:
        """Run the scheduler and the workers meanwhile; the workers are up before it.

        Without `ahead`, each unit is durably claimed just before it starts.
        """
        servers = servers_here(self.place)
        before = {name: used_by(found) for name, found in servers.items()}
        with contextlib.ExitStack() as running:
            for name in self._workers:
                running.enter_context(self._program("worker", name, ahead=ahead))
                ready = self.place.folder / f"{name}.ready"
                self.wait_until(ready.exists, "the worker is not up")
            running.enter_context(self._program(SCHEDULER, SCHEDULER, ahead=ahead))
            yield
        for name, found in servers.items():
            self.processor[name] = round(used_by(found) - before[name], 3)

    def file(self, request: Request) -> None:
        """File a request, and say so."""
        self.store.file_request(request)
        self._bell.ring(SCHEDULER)

    def stamps(self) -> list[float]:
        """The Unix times that the function ``stamped`` has left since `times` was emptied."""
        return [float(line.split()[0]) for line in self.times.read_text().splitlines()]

    def unit_of(self, job: str) -> Unit:
        """The latest unit of a job, by the job's key."""
        key = self.store.read_jobs([job])[job].unit
        assert key is not None
        return self.store.read_units([key])[key]

    def unit_when_over(self, key: str) -> Unit:
        """Wait for the end of a unit, which need not be there yet."""
        found: dict[str, Unit] = {}

        def over() -> bool:
            found.update(self.store.read_units([key]))
            return key in found and found[key].state.terminal

        self.wait_until(over, f"{key} is not over", pace=0.02)
        return found[key]

    def wait_until(self, done: Callable[[], bool], otherwise: str, pace: float = 0.1) -> None:
        """Look until it is so, every `pace` seconds.

        Raises:
            SynergyError: it took too long, which is told with `otherwise`, or a program has ended.
        """
        give_up = time.monotonic() + PATIENCE
        while not done():
            for name, pid in self.running.items():
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    raise SynergyError(f"the {name} has ended before its work was done")
            if time.monotonic() > give_up:
                raise SynergyError(f"{otherwise}, after {PATIENCE:g} s")
            time.sleep(pace)

    def wait_for(self, process: str, count: int) -> None:
        """Until so many jobs of a process are over."""
        self.wait_until(
            lambda: (
                sum(job.state.terminal for job in self.store.last_jobs(process, count)) == count
            ),
            f"the jobs of {process} are not over",
        )

    @contextlib.contextmanager
    def _program(self, kind: str, name: str, *, ahead: bool) -> Iterator[None]:
        folder = self.place.folder
        profile = folder / f"{name}.profile"
        argv = [sys.executable, "-m", "synergy.bench.yard", str(folder), name, str(int(ahead))]
        settings = {
            "STORE": self.place.store,
            "BROKER": self.place.broker,
            "LOG_DIR": str(folder / "logs"),
            "RUN_DIR": str(folder / "run"),
            "GRACE": "5",
        }
        process = subprocess.Popen(
            [*argv, *([str(profile)] if self._profile else [])],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env={**os.environ, **{f"SYNERGY_{key}": value for key, value in settings.items()}},
            start_new_session=True,
        )
        self.running[name] = process.pid
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGTERM)  # it is there until it is waited for
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = 0
            del self.running[name]
            self.processor[kind] = round(self.processor[kind] + used.ru_utime + used.ru_stime, 3)
            if profile.exists():
                self.profiles[name] = _slowest(profile)


@contextlib.contextmanager
def yard(store: str | None, broker: str | None, until: datetime, **more: Any) -> Iterator[Yard]:
    """A yard in a fresh place; see `fresh` and `Yard`."""
    with fresh(store, broker) as place:
        made = Yard(place, until, **more)
        try:
            yield made
        finally:
            made.close()


def hours_for(units: int) -> int:
    """How many hours make about so many units, together with their days, months and years."""
    hours = round(units * 24 / (25 + 12 / 365.25 + 1 / 365.25))
    return max(1, hours)


def caught_up(made: Yard, until: datetime) -> dict[str, Any]:
    """What the catching up took, by what stands in the store: from the first unit made to the last
    job finished."""
    jobs = [job for level in LEVELS for job in made.store.jobs_between(level, BEGIN, until)]
    units = made.store.read_units([str(job.unit) for job in jobs]).values()
    first = min(unit.created_at for unit in units)
    last = max(job.transitions[-1].at for job in jobs)
    seconds = (last - first).total_seconds()
    return {
        "units": len(jobs),
        "seconds": round(seconds, 3),
        "per_second": round(len(jobs) / seconds),
        "processor_seconds": dict(made.processor),
        "processor_microseconds_per_unit": {
            name: round(used / len(jobs) * 1e6, 1) for name, used in made.processor.items()
        },
    }


def catch_up(
    store: str | None,
    broker: str | None,
    units: int,
    *,
    workers: int = 1,
    slots: int = 1,
    ahead: bool = True,
    profile: bool = False,
) -> dict[str, Any]:
    """Have about so many units done by real programs; what it took."""
    until = BEGIN + timedelta(hours=hours_for(units))
    years = (until - timedelta(hours=1)).year - BEGIN.year + 1
    made_of = {"workers": workers, "slots": slots, "profile": profile}
    with yard(store, broker, until, **made_of) as made:
        with made.programs(ahead=ahead):
            made.wait_for("year", years)
        found = caught_up(made, until)
        return found | ({"profile": made.profiles} if profile else {})


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


def main(folder: str, name: str, ahead: str, profile: str | None = None) -> None:
    """Be one of the programs."""
    project = open_project(Path(folder))
    log_to(project.log_dir / f"{name}.log")
    (project.folder / f"{name}.ready").touch()
    os.chdir(project.folder)
    profiler = cProfile.Profile() if profile else contextlib.nullcontext()
    with profiler:
        run_program(project, name, ahead=bool(int(ahead)))
    if isinstance(profiler, cProfile.Profile):
        profiler.dump_stats(str(profile))


if __name__ == "__main__":
    main(*sys.argv[1:])
