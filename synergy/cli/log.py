"""``log``: what an attempt printed."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from synergy.capture import attempt_log_path, read_log
from synergy.cli.naming import firing_named, interval_named, none_named, process_named, reading_of
from synergy.cli.output import Output, command
from synergy.core.intervals import Interval
from synergy.core.model import Job, Unit, embryo, job_key, unit_key
from synergy.errors import NotFound
from synergy.history import attempts_made
from synergy.project import Project
from synergy.reading import Reading


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("process", metavar="NAME", help="a process, or a freerun")
    parser.add_argument(
        "interval",
        nargs="?",
        metavar="INTERVAL",
        help="label; without it a freerun's latest firing",
    )
    parser.add_argument("--generation", type=_number, metavar="N", help="not the latest one")
    parser.add_argument("--run", type=_number, metavar="N", help="the nth provisional run")
    parser.add_argument("--attempt", type=_number, metavar="N", help="not the latest one")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Print it."""
    reading = reading_of(project)
    unit = _unit(args, reading)
    made = attempts_made(unit)
    if (args.attempt or made) > made or not made:
        number = f"{made or 'no'} attempt{'' if made == 1 else 's'}"
        raise NotFound(f"{unit.key} has had {number} yet; see {command('status')}")
    attempts = [args.attempt] if args.attempt else range(made, 0, -1)
    paths = {attempt: _path(project, unit, attempt) for attempt in attempts}
    attempt = next((number for number, path in paths.items() if path.exists()), attempts[0])
    path = paths[attempt]
    text = read_log(path) if path.exists() else b""
    if output.json:
        output.data(
            {
                "unit": unit.key,
                "attempt": attempt,
                "path": str(path),
                "log": text.decode("utf-8", "replace"),
            }
        )
        return 0
    said = "" if text else ": it printed nothing on this box"
    output.note(f"— {unit.key} attempt {attempt} of {made}{said} —")
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    return 0


def _path(project: Project, unit: Unit, attempt: int) -> Path:
    return attempt_log_path(
        project.log_dir, unit.process, unit.interval.label, unit.generation, unit.run, attempt
    )


def _unit(args: argparse.Namespace, reading: Reading) -> Unit:
    """The unit that is meant: the newest that fits."""
    process = process_named(reading.catalog, args.process, freeruns=True)
    if process in reading.catalog.freeruns:
        job = _firing(reading, process, args.interval)
    elif args.interval is None:
        raise none_named(process)
    else:
        interval = interval_named(reading.catalog, process, args.interval)
        key = job_key(process, interval)
        job = reading.store.read_jobs([key]).get(key, embryo(process, interval))
    for key in _keys(args, process, job.interval, job):
        unit = reading.store.read_units([key]).get(key)
        if unit is not None:
            return unit
    number = "such unit" if args.generation or args.run else "unit"
    raise NotFound(f"{process} {job.interval.label} has had no {number} of work yet")


def _firing(reading: Reading, freerun: str, label: str | None) -> Job:
    if label is None:
        latest = reading.firings(freerun, 1)
        job = latest[0] if latest else None
    else:
        job = reading.document(freerun, firing_named(reading, freerun, label))
    if job is None:
        what = "has not fired yet" if label is None else f"has no firing {label}"
        raise NotFound(f"{freerun} {what}; those there are: {command(f'jobs {freerun}')}")
    return job


def _keys(args: argparse.Namespace, process: str, interval: Interval, job: Job) -> Iterator[str]:
    """Units that may be meant, the newest first: the deciding run before the provisional ones."""
    for generation in [args.generation] if args.generation else range(job.generation, 0, -1):
        if args.run:
            runs = [args.run]
        else:
            runs = [0, *(range(job.runs, 0, -1) if generation == job.generation else ())]
        for run_number in runs:
            yield unit_key(process, interval, generation, run_number)


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return number
