"""``forecast``: when an interval will be complete, and what starts within the next day."""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from synergy.cli.naming import count_from_one, interval_named, process_named, reading_of
from synergy.cli.output import Output, Styled, ago, clock, command, duration, instant
from synergy.clock import SystemClock
from synergy.core.states import JobState
from synergy.errors import BadInput, SynergyError
from synergy.forecast import (
    BUDGET,
    FEWEST,
    PLAYS,
    Agenda,
    Forecast,
    Start,
    Step,
    agenda,
    foretell,
    scene_of,
)
from synergy.garbage import seldom_collected
from synergy.project import Project
from synergy.reading import Reading, Row

#: Hours that are looked ahead where no interval is named, and lines that are shown of them.
HOURS, SHOWN = 24, 60
#: And so many of each process.
OF_EACH = 12
#: How far ahead anything is played.
REACH = timedelta(days=36_500)
_TOO_FAR = f"forecasts reach {REACH.days // 365} years ahead"
#: Links of the critical path that are shown.
LINKS = 12


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "process", nargs="?", metavar="PROCESS", help="whose interval; without it: all that starts"
    )
    parser.add_argument("interval", nargs="?", metavar="INTERVAL", help="its label")
    parser.add_argument(
        "--hours",
        type=count_from_one,
        metavar="N",
        help=f"without an interval: so many hours ahead; {HOURS}",
    )
    parser.add_argument(
        "--plays",
        type=count_from_one,
        metavar="N",
        help=f"so many plays, if there is time: {PLAYS}, without an interval {FEWEST}",
    )
    parser.add_argument(
        "--seconds",
        type=count_from_one,
        metavar="N",
        help=f"play no longer than that; {BUDGET:g} s",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help=f"all that starts, not only the first {OF_EACH} of each and {SHOWN} in all",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Foretell."""
    if args.process is not None and args.interval is None:
        raise BadInput(f"which interval of {args.process}? {command('forecast PROCESS INTERVAL')}")
    if args.process is not None and args.hours is not None:
        raise BadInput("--hours is for all that starts; an interval is played until it is complete")
    reading, now = reading_of(project), SystemClock().now()
    budget = float(args.seconds or BUDGET)
    with seldom_collected():
        if args.process is None:
            hours = args.hours or HOURS
            if hours > REACH.total_seconds() // 3600:
                raise BadInput(f"--hours {hours}: {_TOO_FAR}")
            until = now + timedelta(hours=hours)
            scene = scene_of(reading, now)
            _tell_agenda(
                agenda(scene, until, plays=args.plays or FEWEST, budget=budget), output, args.all
            )
            return 0
        process = process_named(reading.catalog, args.process)
        interval = interval_named(reading.catalog, process, args.interval)
        if interval.end > now + REACH:
            raise BadInput(f"{process} {interval.label}: {_TOO_FAR}")
        row = reading.row(process, interval)
        if row.state.finished:
            return _tell_over(reading, row, now, output)
        told = foretell(
            scene_of(reading, now),
            process,
            interval,
            plays=args.plays or PLAYS,
            budget=budget,
        )
    _tell(told, row.state, output)
    return 0 if told.plays or told.stuck else SynergyError.exit_code


# one interval


def _tell_over(reading: Reading, row: Row, now: datetime, output: Output) -> int:
    """It needs no forecast."""
    job = reading.document(row.process, row.interval)
    made = reversed(job.transitions if job is not None else ())
    ended = next((one.at for one in made if one.before != one.after), None)
    if output.json:
        over = Forecast(
            process=row.process, interval=row.interval, now=now, plays=0, ends=(), never={}
        )
        output.data({**_as_json(over, row.state), "complete": _instant(ended)})
        return 0
    since = f" since {clock(ended)} UTC" if ended is not None else ""
    marked = "; it is marked stale" if row.outdated else ""
    output.line(f"{row.process} {row.interval.label} is {row.state.value}{since}{marked}")
    return 0


def _tell(told: Forecast, state: JobState, output: Output) -> None:
    if output.json:
        output.data(_as_json(told, state))
        return
    what = f"{told.process} {told.interval.label}"
    if told.stuck:
        output.line(Styled(f"{what} will never be complete, unless something is done:", "red"))
        for text in told.stuck:
            output.line(f"  {text}")
        return
    if not told.plays:
        output.error(
            f"{what}: too much lies between now and then to be played in the time; "
            "give it more with --seconds N"
        )
        return
    if told.median is None:
        output.line(Styled(f"{what} will probably not be complete", "red"))
    else:
        output.line(
            f"{what} will be complete at ",
            Styled(clock(told.median), "bold"),
            f" UTC, {ago(told.median, told.now)}",
        )
    if told.plays >= FEWEST and told.low is not None:
        until = f"between {clock(told.low)} and {clock(told.high)}" if told.high else ""
        output.line(f"{told.chance:.0%} {until or f'not before {clock(told.low)}, or never'}")
    for why, number in told.never.items():
        output.line(Styled(f"never in {number} of {told.plays} plays: {why}", "yellow"))
    if told.path:
        output.line()
        _tell_path(told.path, told.now, output)
    output.line()
    plays = "play" if told.plays == 1 else "plays"
    few = "; too few for a band: --seconds N makes more" if told.plays < FEWEST else ""
    output.note(f"from {told.plays} {plays} of what comes, by what is recorded{few}")
    for text in told.assumed:
        output.note(text)


def _tell_path(path: Sequence[Step], now: datetime, output: Output) -> None:
    """The chain that makes the end, in the median play."""
    shown = path[-LINKS:]
    if len(shown) < len(path):
        output.line(f"… {len(path) - len(shown)} steps before")
    output.table(
        ("what makes the end", "interval", "starts (UTC)", "runs", "ends", "waits"),
        (
            (
                step.process,
                step.interval.label,
                clock(step.started),
                duration((step.ended - step.started).total_seconds()),
                clock(step.ended),
                _waits(step, now),
            )
            for step in shown
        ),
    )


def _waits(step: Step, now: datetime) -> str:
    """For what it waits before its start."""
    words = []
    if step.by_the_calendar:
        words.append(f"until it is due, {ago(step.ready, now)}")
    queued = (step.started - max(step.ready, now)).total_seconds()
    if queued >= 1:
        words.append(f"{duration(queued)} for a worker")
    if step.started <= now:
        words.append("at work now")
    if step.attempts > 1:
        words.append(f"{step.attempts} attempts")
    return ", ".join(words)


def _as_json(told: Forecast, state: JobState) -> dict[str, object]:
    return {
        "process": told.process,
        "interval": told.interval.label,
        "state": state.value,
        "now": instant(told.now),
        "complete": _instant(told.median),
        "band": {
            "chance": round(told.chance, 4) if told.plays else None,
            "from": _instant(told.low),
            "until": _instant(told.high),
        },
        "plays": told.plays,
        "never": dict(told.never),
        "stuck": [*told.stuck],
        "path": [
            {
                "process": step.process,
                "interval": step.interval.label,
                "ready": instant(step.ready),
                "started": instant(step.started),
                "ended": instant(step.ended),
                "attempts": step.attempts,
                "waits_for": "calendar" if step.by_the_calendar else "step before",
            }
            for step in told.path
        ],
        "assumed": [*told.assumed],
    }


def _instant(when: datetime | None) -> str | None:
    return None if when is None else instant(when)


# all that starts


def _tell_agenda(told: Agenda, output: Output, everything: bool) -> None:
    if output.json:
        output.data(
            {
                "now": instant(told.now),
                "until": instant(told.until),
                "plays": told.plays,
                "starts": [_start_json(start) for start in told.starts],
                "left_out": [*told.left],
                "assumed": [*told.assumed],
            }
        )
        return
    shown = told.starts if everything else _first(told.starts)
    if shown:
        output.table(
            ("starts (UTC)", "ends", "process", "interval", ""),
            (
                (
                    clock(start.starts),
                    clock(start.ends) if start.ends is not None else "–",
                    start.process,
                    start.interval.label,
                    _spread(start),
                )
                for start in shown
            ),
        )
    else:
        beside = "beside what is left out, " if told.left else ""
        output.note(f"{beside}nothing starts until {clock(told.until)} UTC")
    if len(shown) < len(told.starts):
        output.note(
            f"shown are the first {OF_EACH} of each, {len(shown)} of {len(told.starts)} in all; "
            "--all: all"
        )
    plays = "play" if told.plays == 1 else "plays"
    output.note(
        f"the middle of {told.plays} {plays} of what comes, by what is recorded; listed is what "
        "starts in half of them at least"
    )
    for text in told.assumed:
        output.note(text)


def _first(starts: Iterable[Start]) -> list[Start]:
    """The first of each process, and of those the first."""
    seen: Counter[str] = Counter()
    some = []
    for start in starts:
        seen[start.process] += 1
        if seen[start.process] <= OF_EACH:
            some.append(start)
    return some[:SHOWN]


def _spread(start: Start) -> str:
    """What else is to be known of a start."""
    words = []
    if start.high is not None and (start.high - start.low).total_seconds() >= 60:
        words.append(f"between {clock(start.low)} and {clock(start.high)}")
    if start.share < 1:
        words.append(f"in {start.share:.0%} of the plays")
    return ", ".join(words)


def _start_json(start: Start) -> dict[str, object]:
    return {
        "process": start.process,
        "interval": start.interval.label,
        "starts": instant(start.starts),
        "between": [instant(start.low), _instant(start.high)],
        "ends": _instant(start.ends),
        "share": round(start.share, 3),
    }
