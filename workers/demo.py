"""``./launch.py demo``: the illustration suite at work, on logs of yours or on generated visitors.

It only writes down what it was told (``.synergy/demo.json``), reads the logs, and runs the very
programs that `./launch.py up` runs; everything else is the project's own context.  Killed at any
moment and started again, it goes on.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
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
from synergy.app import reading_of, stop_on_signals, supervisor_of
from synergy.cli import main as command_line
from synergy.cli.output import Output, duration
from synergy.clock import SystemClock
from synergy.core.readiness import Waiting, judge
from synergy.core.states import JobState
from synergy.errors import BadInput, Conflict, NotFound, SynergyError
from synergy.programs import AlreadyRunning, PidFile, stop
from synergy.project import Project, check, load_context, open_project
from synergy.reading import Reading
from synergy.supervisor.children import holder_of, pid_file
from synergy.supervisor.loop import SUPERVISOR, Supervisor
from workers import generate, report, stream

FOLDER = Path(__file__).resolve().parent.parent
#: Held while a demonstration runs.
DEMO_PID = FOLDER / ".synergy" / "demo.pid"
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
        told = generated() if args.input is None else replay(args, output)
        project = configure(told)
        if args.fail_hour:
            Path(settings.FAIL_FILE).write_text(args.fail_hour, "utf-8")
        return show(args, project, output)
    finally:
        only_one.release()


def show(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Run what was prepared; the exit code."""
    output.note(f"data       {settings.DATA} (nothing else is touched)")
    output.note(f"store      {project.store}   broker  none (workers poll the store)")
    catalog = check(project, load_context(project), SystemClock().now())
    output.note(f"loaded     {len(catalog.trees)} trees, {len(catalog.processes)} processes")
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
    return WITH_FAILURES if failed and args.exit_when_done else 0


# what to process


def generated() -> dict[str, Any]:
    """Visitors of the last days, invented; one hour fails on purpose.

    The first day is remembered beside what was made of it: it stays the same on later days.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    data = FOLDER / ".synergy" / "generated"
    data.mkdir(parents=True, exist_ok=True)
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
        stream.read_files(data / "traffic.db", [log], progress=show)
    return {
        "name": "generated",
        "files": [str(log)],
        "clients": str(clients),
        "start": start,
        "generated": True,
        "host": True,
    }


def replay(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """The named logs, from the first event's hour to the last's."""
    files = [Path(name).resolve() for name in args.input]
    clients = Path(args.clients).resolve() if args.clients else None
    marks = [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    owners = clients.read_text("utf-8") if clients else ""
    text = "\n".join([*marks, str(args.site_segment), owners])
    name = f"input-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    data = FOLDER / ".synergy" / name
    data.mkdir(parents=True, exist_ok=True)
    database = data / "traffic.db"
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
        "name": name,
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


def configure(told: Mapping[str, Any]) -> Project:
    """Write down what was told, in the place where settings.py looks; programs of a demonstration
    before this one are stopped."""
    before = open_project(FOLDER)
    watched = holder_of(before, SUPERVISOR)
    if watched is not None:
        raise Conflict(
            f"a supervisor runs here, process {watched.pid}; stop it first: "
            "./launch.py super --stop"
        )
    file = FOLDER / ".synergy" / "demo.json"
    for pid in sorted(before.run_dir.glob("*.pid")) if before.run_dir.exists() else []:
        _stop_leftover(pid)
    if told != settings.DEMO:
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(told, indent=1), "utf-8")
        fresh.replace(file)
        importlib.reload(settings)
    return open_project(FOLDER)


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
    with progress("the timetable") as show:
        while True:
            supervisor.once(0.0)
            began = time.monotonic()
            with contextlib.suppress(NotFound):  # the scheduler has not made the store yet
                if reading is None:
                    reading = reading_of(project)
                else:
                    reading = Reading(reading.store, reading.catalog)
            seen = count(reading, SystemClock().now()) if reading else Count(0, 0, 0, False)
            failing = f", {seen.failed} failed" if seen.failed else ""
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
        output.line("  ./launch.py up                (keeps the scheduler and the worker running)")
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
    data = FOLDER / ".synergy"
    _stop_leftover(DEMO_PID)
    for pid in sorted(data.glob("*/run/*.pid")):
        _stop_leftover(pid)
    if data.exists():
        shutil.rmtree(data)
    output.note(f"removed    {data}")
    return 0
