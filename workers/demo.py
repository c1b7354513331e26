"""``./launch.py demo``: the illustration suite at work, on logs of yours or on generated visitors.

It only writes down what it was told (``.synergy/demo.json``), reads the logs, and runs the very
programs that `./launch.py up` runs, on the store and the broker that it is told; everything else is
the project's own context.  Killed at any moment and started again, it goes on.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import settings
from db.intake import Reading as LogReading
from synergy.app import broker_trouble, programs_of, reading_of, supervisor_of
from synergy.cli import console
from synergy.cli import main as command_line
from synergy.cli.output import Output, duration
from synergy.cli.programs import checked, refuse_memory
from synergy.clock import SystemClock
from synergy.core.readiness import Waiting, judge
from synergy.core.states import JobState
from synergy.errors import BadInput, Conflict, NotFound, SynergyError, Unreachable
from synergy.programs import AlreadyRunning, PidFile, stop
from synergy.project import Project, absolute_url, open_project
from synergy.reading import Reading
from synergy.services import Unavailable
from synergy.signals import stop_on_signals
from synergy.stores import is_mongodb
from synergy.supervisor.children import holder_of, pid_file
from synergy.supervisor.loop import SUPERVISOR, Supervisor
from synergy.urls import masked
from workers import generate, report, stream
from workers.servers import SUFFIX, Servers, Where

FOLDER = Path(__file__).resolve().parent.parent
#: Held while a demonstration runs.
DEMO_PID = FOLDER / ".synergy" / "demo.pid"
#: File of the figures, in the folder of a demonstration.
FIGURES = "traffic.db"
#: How servers that a demonstration brought up are ended.
STAYING = "they stay up, for a look afterwards; to end them: ./launch.py demo --reset"
#: Seconds between looks whether the broker answers.
BROKER_LOOK = 5.0
#: Days of generated visitors.
DAYS = 3
#: The hour of yesterday that fails on purpose.
FAILING_HOUR = 7
#: Seconds between looks at the timetable.
LOOK = 0.3
#: Exit code of a demonstration that ended with failed intervals (DESIGN §8.8).
WITH_FAILURES = 7


def main(argv: list[str]) -> int:
    """Run it; the exit code."""
    output = Output(json=False)
    try:
        args = _parser().parse_args(argv)
        if args.heal:
            return heal(output)
        if args.reset:
            return reset(output)
        return run(args, output)
    except SynergyError as error:
        output.error(str(error))
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch.py demo",
        description="Aggregate web traffic hour → day → month → year: generated visitors of the "
        "last days beside live samples of this machine, or the logs that you name.",
    )
    parser.add_argument(
        "--input", nargs="+", metavar="FILE", help="access logs, plain or gzip, in any order"
    )
    parser.add_argument(
        "--site-segment", type=int, default=1, metavar="N", help="path segment that names the site"
    )
    parser.add_argument("--clients", metavar="FILE", help="JSON object, site to client")
    parser.add_argument(
        "--exit-when-done", action="store_true", help="end when all that is due has ended"
    )
    parser.add_argument("--report", metavar="FILE", help="write all figures there as JSON")
    parser.add_argument(
        "--fail-hour", metavar="LABEL", help="let this hour fail on purpose, such as 2024-05-14T07"
    )
    parser.add_argument(
        "--servers",
        action="store_true",
        help="on a MongoDB and a RabbitMQ, brought up on this machine where none runs here",
    )
    parser.add_argument("--store", metavar="URL", help="keep the timetable there: mongodb://…")
    parser.add_argument("--broker", metavar="URL", help="bring units to the workers by: amqp://…")
    parser.add_argument("--heal", action="store_true", help="let the failing hour pass")
    parser.add_argument("--reset", action="store_true", help="forget what demonstrations made")
    return parser


def run(args: argparse.Namespace, output: Output) -> int:
    """Prepare, run the programs, watch them."""
    check_arguments(args)
    only_one = PidFile(DEMO_PID)
    try:
        only_one.acquire()
    except AlreadyRunning as error:
        raise Conflict(f"a demonstration is {error}; stop it with Ctrl-C") from error
    try:
        stop_others()
        where = place(args, output)
        data = FOLDER / ".synergy" / where.name
        match_figures(data, where.project(FOLDER))
        data.mkdir(parents=True, exist_ok=True)
        told = generated(data) if args.input is None else replay(args, data, output)
        configure({**where.told, **told})
        project = where.project(FOLDER)
        if args.fail_hour:
            Path(settings.FAIL_FILE).write_text(args.fail_hour, "utf-8")
        return show(args, project, output)
    finally:
        only_one.release()


def show(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Run what was prepared; the exit code."""
    catalog = checked(project, output)
    embedded = project.broker == "none"
    output.note(f"data       {settings.DATA}")
    output.note(f"store      {masked(project.store)}")
    by = "none (workers look into the store)" if embedded else masked(project.broker)
    output.note(f"broker     {by}")
    output.note(f"loaded     {len(catalog.trees)} trees, {len(catalog.processes)} processes")
    output.note(f"supervisor keeps {', '.join(programs_of(catalog))}: what ends is begun anew")
    console.expected(project, output.note)
    stopping = stop_on_signals()
    supervisor = supervisor_of(project, catalog, lambda _, text: output.note(text))
    with pid_file(project, SUPERVISOR), contextlib.closing(supervisor):
        failed = watch(project, supervisor, stopping, output, until_done=args.exit_when_done)
        reading = reading_of(project)
        summary(reading, output)
        if args.report:
            report.write(args.report, report.report(settings.TRAFFIC_DB))
            output.note(f"report     {args.report}")
    try_next(reading, output, live=False)
    if args.servers:
        output.note(f"servers    {STAYING}")
    return WITH_FAILURES if failed and args.exit_when_done else 0


# where it is kept


def place(args: argparse.Namespace, output: Output) -> Where:
    """Where to keep the timetable, what brings the units; servers are brought up for it."""
    name = "generated" if args.input is None else _name_of(args)
    if args.servers:
        output.note("servers    a MongoDB and a RabbitMQ on this machine, for this machine only")
        try:
            where = Servers(FOLDER).up(name, lambda text: output.note(f"servers    {text}"))
        except Unavailable as error:
            raise Unavailable(
                f"{error}\nname servers of yours (--store mongodb://… --broker amqp://…), or go "
                "without: ./launch.py demo"
            ) from error
        output.note(f"servers    {STAYING}")
        return where
    store = args.store or os.environ.get("SYNERGY_STORE")
    broker = args.broker or os.environ.get("SYNERGY_BROKER", "none")
    if store:
        store = absolute_url(store, FOLDER)
        # Figures of another store are others: theirs is another timetable.
        name = f"{name}-{_digest(masked(store).partition('?')[0])}"
    return Where(name=name, store=store or None, broker=None if broker == "none" else broker)


def _name_of(args: argparse.Namespace) -> str:
    """The same for the same logs, counted in the same way."""
    files = [Path(name).resolve() for name in args.input]
    marks = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    owners = Path(args.clients).read_text("utf-8") if args.clients else ""
    text = "\n".join([*marks, str(args.site_segment), owners])
    return f"input-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def match_figures(data: Path, project: Project) -> None:
    """See that the figures in `data` are those of the timetable in the store.

    Figures whose timetable is gone are removed, to be counted anew.

    Raises:
        Conflict: there is a timetable without its figures.
        Unreachable: the store or the broker does not answer.
        SynergyError: one of them cannot be used at all.
    """
    refuse_memory(project)
    if trouble := broker_trouble(project):
        raise Unreachable(trouble)
    try:
        reading_of(project).store.close()
    except NotFound:
        for file in data.glob(f"{FIGURES}*"):
            file.unlink()
        return
    if not (data / FIGURES).exists():
        raise Conflict(
            f"{masked(project.store)} has a timetable already, and its figures are not in {data}: "
            "something else made it; name another database"
        )


# what to process


def generated(data: Path) -> dict[str, Any]:
    """Visitors of the last days, invented; one hour fails on purpose.

    The first day is remembered beside what was made of it: it stays the same on later days.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first_day = data / "first-day"
    if not first_day.exists():
        failing = today - timedelta(days=1) + timedelta(hours=FAILING_HOUR)
        (data / "fail-hour").write_text(failing.strftime("%Y-%m-%dT%H"), "utf-8")
        first_day.write_text((today - timedelta(days=DAYS - 1)).isoformat(), "utf-8")
    start = first_day.read_text("utf-8")
    clients = data / "clients.json"
    clients.write_text(json.dumps(generate.OWNERS), "utf-8")
    log = data / generate.NAME
    generate.Visitors(log, datetime.fromisoformat(start)).write_until(datetime.now(UTC))
    with progress("reading the log") as show:
        stream.read_files(data / FIGURES, [log], progress=show)
    return {
        "files": [str(log)],
        "clients": str(clients),
        "start": start,
        "generated": True,
        "host": True,
    }


def replay(args: argparse.Namespace, data: Path, output: Output) -> dict[str, Any]:
    """The named logs, from the first event's hour to the last's."""
    files = [Path(name).resolve() for name in args.input]
    clients = Path(args.clients).resolve() if args.clients else None
    database = data / FIGURES
    with progress("reading the logs") as show:
        readings = stream.read_files(
            database, files, args.site_segment, complete=True, progress=show
        )
    _tell(readings, output)
    span = stream.span(database)
    if span is None:
        raise BadInput("there is no event in " + ", ".join(str(file) for file in files))
    hour = timedelta(hours=1)
    first, last = (datetime.fromtimestamp(second // 3600 * 3600, UTC) for second in span)
    output.note(f"events     from {first:%Y-%m-%dT%H} to {last:%Y-%m-%dT%H}")
    return {
        "files": [],
        "segment": args.site_segment,
        "clients": str(clients) if clients else None,
        "start": first.isoformat(),
        "until": (last + hour).isoformat(),
        "lag": 0,
        "host": False,
    }


def check_arguments(args: argparse.Namespace) -> None:
    """Every argument that cannot be used, reported at once before anything is done."""
    problems = [f"{name} is no file" for name in args.input or () if not Path(name).is_file()]
    if args.input is None and args.clients:
        problems.append("--clients goes with --input: generated visitors have clients of their own")
    if args.servers and (args.store or args.broker):
        problems.append("--servers brings its own: leave it out, or --store and --broker")
    if args.site_segment < 1:
        problems.append(f"--site-segment {args.site_segment}: segments are counted from 1")
    if args.clients:
        problems += _problems_of_clients(Path(args.clients))
    if args.fail_hour and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d", args.fail_hour):
        problems.append(f"--fail-hour {args.fail_hour}: a label such as 2024-05-14T07 is wanted")
    if args.report and not Path(args.report).resolve().parent.is_dir():
        problems.append(f"--report {args.report}: the folder does not exist")
    if problems:
        raise BadInput("the demonstration cannot start:", problems)


def _problems_of_clients(path: Path) -> list[str]:
    try:
        owners = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        return [f"--clients {path}: {error}"]
    if not isinstance(owners, dict) or not all(isinstance(v, str) for v in owners.values()):
        return [f'--clients {path}: a JSON object {{"site": "client", …}} is wanted']
    return []


def _tell(readings: list[LogReading], output: Output) -> None:
    for reading in readings:
        for note in reading.notes:
            output.note(f"note       {reading.path}: {note}")


def stop_others() -> None:
    """Stop the programs of a demonstration before this one.

    Raises:
        Conflict: a supervisor keeps them.
    """
    before = open_project(FOLDER)
    watched = holder_of(before, SUPERVISOR)
    if watched is not None:
        raise Conflict(
            f"a supervisor runs here, process {watched.pid}; stop it first: "
            "./launch.py super --stop"
        )
    for pid in sorted(before.run_dir.glob("*.pid")) if before.run_dir.exists() else []:
        _stop_leftover(pid)


def configure(told: Mapping[str, Any]) -> None:
    """Write down what was told, in the place where settings.py looks."""
    if told == settings.DEMO:
        return
    file = FOLDER / ".synergy" / "demo.json"
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)  # the addresses in it may have passwords
    fresh.write_text(json.dumps(told, indent=1), "utf-8")
    fresh.replace(file)
    importlib.reload(settings)


def _stop_leftover(pid: Path) -> None:
    """A demonstration that was killed leaves its programs behind."""
    holder = PidFile(pid).holder()
    if holder is not None:
        stop(holder, grace_seconds=5)


# while it runs


@dataclass(frozen=True, slots=True)
class Count:
    """How far the timetable is."""

    due: int
    finished: int
    failed: int
    #: Whether nothing can move any more before more time has passed.
    settled: bool


def count(reading: Reading, now: datetime) -> Count:
    """Count the jobs that are due, and see whether any of them can still move."""
    due = finished = failed = 0
    settled = not any(not unit.provisional for unit in reading.units.values())
    for name, process in reading.catalog.processes.items():
        if process.tree == "host":
            continue  # it goes on for ever
        for row in reading.rows(name, end=now):
            if process.due(row.interval) > now:
                break
            due += 1
            finished += row.state.finished
            failed += row.state is JobState.FAILED
            if settled and not row.state.terminal:
                job = reading.timetable.job(name, row.interval)
                assert job is not None
                verdict = judge(reading.timetable, job, now, final=True)
                settled = isinstance(verdict, Waiting)
    return Count(due, finished, failed, (settled and bool(failed)) or finished == due)


def watch(
    project: Project,
    supervisor: Supervisor,
    stopping: Callable[[], bool],
    output: Output,
    *,
    until_done: bool,
) -> int:
    """Show how it goes, until it is done or told to stop; how many intervals have failed."""
    told = False
    reading: Reading | None = None
    begun = time.monotonic()
    broker = BrokerWatch(project, output, begun)
    with progress("the timetable") as show:
        while True:
            supervisor.once(0.0)
            began = time.monotonic()
            broker.look(began)
            # The scheduler has not made it yet; or the supervisor says what is wrong with it.
            with contextlib.suppress(NotFound, Unreachable):
                if reading is None:
                    reading = reading_of(project)
                else:
                    reading = Reading(reading.store, reading.catalog)
            seen = count(reading, SystemClock().now()) if reading else Count(0, 0, 0, False)
            failing = f", {seen.failed} failed" if seen.failed else ""
            if reading is not None:
                show(seen.finished, max(seen.due, 1), f"{seen.finished} of {seen.due} due{failing}")
            if reading is not None and seen.settled and not told:
                told = True
                took = duration(time.monotonic() - begun)
                output.note(f"done       {seen.finished} of {seen.due} in {took}{failing}")
                if not until_done:
                    summary(reading, output)
                    try_next(reading, output, live=True)
                    output.note("live from here; Ctrl-C stops, run again to continue")
            if stopping() or (told and until_done):
                return seen.failed
            # Looking costs what there is to look at: it must not compete with the work.
            rest = time.monotonic() + max(LOOK, 5 * (time.monotonic() - began))
            while (patience := rest - time.monotonic()) > 0 and not stopping():
                supervisor.once(patience)


class BrokerWatch:
    """Says when the broker goes away and comes back; the supervisor does that for the store."""

    def __init__(self, project: Project, output: Output, now: float) -> None:
        self._project, self._output = project, output
        self._again_at = now + BROKER_LOOK
        self._trouble = ""

    def look(self, now: float) -> None:
        """Ask it, if it was not asked just now."""
        if self._project.broker == "none" or now < self._again_at:
            return
        self._again_at = now + BROKER_LOOK
        trouble = broker_trouble(self._project)
        if trouble and not self._trouble:
            self._output.note(f"{trouble}; until then the workers look into the store")
        elif self._trouble and not trouble:
            self._output.note("the broker answers again")
        self._trouble = trouble


@contextmanager
def progress(what: str) -> Iterator[Callable[[float, float, str], None]]:
    """A progress bar on a terminal; elsewhere a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description:10}"), BarColumn(), TextColumn("{task.fields[t]}"))
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=1, t="")
            yield lambda done, total, text: bar.update(
                task, completed=done, total=total, t=text.rpartition("/")[2]
            )
        return
    last = [0.0, -1.0]

    def line(done: float, total: float, text: str) -> None:
        now = time.monotonic()
        if now - last[0] >= 2 and done != last[1]:
            last[:] = [now, done]
            print(f"{what}: {done / total:.0%} {text}", file=sys.stderr, flush=True)

    yield line


# at the end


def summary(reading: Reading, output: Output) -> None:
    """A line for each process: how many intervals are in which state."""
    now = SystemClock().now()
    states = ("processed", "noop", "skipped", "failed", "in_progress", "embryo")
    rows = []
    for tree in reading.catalog.trees.values():
        for name in tree.processes:
            counted = Counter(row.state.value for row in reading.rows(name, end=now))
            counted["in_progress"] += counted.pop("final_run", 0)
            rows.append((name, *(counted.get(state, 0) or "" for state in states)))
    output.line()
    output.table(("process", *(output.state(state) for state in states)), rows)
    if settings.GENERATED:
        output.line("the visitors are generated; the samples of this machine (host_…) are real")


def try_next(reading: Reading, output: Output, *, live: bool) -> None:
    """What a newcomer may type now."""
    hours = [*reading.rows("site_hourly", end=SystemClock().now())]
    failed = next((row for row in hours if row.state is JobState.FAILED), None)
    day = (failed or hours[0]).interval.label[:10]
    of_day = [row.interval.label for row in hours if row.interval.label.startswith(day)]
    output.line()
    output.line("try:")
    if not live:
        output.line("  ./launch.py up                (keeps the scheduler and the workers running)")
    output.line(f"  ./launch.py why site_daily {day}")
    output.line(f"  ./launch.py jobs site_hourly {of_day[0]}..{of_day[-1]}")
    output.line(f"  ./launch.py reprocess site_hourly {of_day[-1]}")
    if failed is not None:
        output.line(f"  ./launch.py log site_hourly {failed.interval.label}")
        output.line("  ./launch.py demo --heal        (while the demo runs, in another terminal)")


def heal(output: Output) -> int:
    """Let the failing hour pass: take the obstacle away and run the hour again."""
    obstacle = Path(settings.FAIL_FILE)
    if not obstacle.exists():
        raise NotFound("no hour fails on purpose; start the demonstration with: ./launch.py demo")
    label = obstacle.read_text("utf-8").strip()
    obstacle.unlink()
    output.note(f"healed     site_hourly {label}")
    reading = reading_of(open_project(FOLDER))
    interval = reading.catalog.processes["site_hourly"].calendar.parse(label)
    failed = reading.row("site_hourly", interval).state is JobState.FAILED
    verb = "reprocess" if failed else "trigger"
    return command_line([verb, "site_hourly", label, "--reason", "healed"], FOLDER)


def reset(output: Output) -> int:
    """Forget every demonstration; what runs of them is stopped first."""
    folder = FOLDER / ".synergy"
    _stop_leftover(DEMO_PID)
    pids = folder.glob("*/run/*.pid")
    for pid in sorted(pids, key=lambda pid: pid.stem != SUPERVISOR):  # it would begin them anew
        _stop_leftover(pid)
    Servers(FOLDER).take_back(lambda text: output.note(f"servers    {text}"))
    others = folder / "services"  # brought up by hand, for something else
    for path in folder.iterdir() if folder.exists() else ():
        if path == others:
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if others.exists():
        output.note(f"removed    what was in {folder}, but for {others}: ./launch.py services down")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        output.note(f"removed    {folder}")
    where = settings.DEMO.get("store", "")
    if is_mongodb(where) and not settings.DEMO["name"].endswith(SUFFIX):
        output.note(f"stays      {masked(where)}: you named it, so it is yours to drop")
    return 0
