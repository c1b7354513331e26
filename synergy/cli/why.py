"""``why``: what an interval or a firing waits for, the root first, and what happens next."""

import argparse
from datetime import datetime, timedelta

from synergy.cli.naming import (
    firing_named,
    instant_named,
    interval_named,
    none_named,
    process_named,
    reading_of,
)
from synergy.cli.output import Output, Styled, ago, clock, command, duration, instant
from synergy.clock import SystemClock
from synergy.core.intervals import Interval
from synergy.errors import BadInput
from synergy.explanation import Explanation, Link, explain, explain_freerun
from synergy.hindsight import Hindsight
from synergy.project import Project
from synergy.reading import Reading
from synergy.story import Share, Story, tell


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("process", metavar="PROCESS", help="a process, or a freerun")
    parser.add_argument(
        "interval",
        nargs="?",
        metavar="INTERVAL",
        help="label such as 2026-11-20T17, 2026-11-20, 2026-11; of a freerun the instant of a "
        "firing, without it the one at work, due, or the latest",
    )
    parser.add_argument(
        "--at", metavar="TIME", help="as it stood then: 2026-11-20T17:30, in UTC unless it says"
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Explain it."""
    reading = reading_of(project)
    process = process_named(reading.catalog, args.process, freeruns=True)
    now = SystemClock().now()
    if process in reading.catalog.freeruns:
        explanation = _of_freerun(args, reading, process, now)
    else:
        interval = _interval(args, reading, process)
        if args.at is not None:
            now = moment(args.at, now)
            reading = Hindsight(reading, now)
        explanation = explain(reading, process, interval, now)
    asked = explanation.asked.interval
    story = tell(reading, process, asked, now) if reading.present else None
    if output.json:
        told = story.content() if story is not None else None
        output.data({"at": instant(now), **explanation.content(), "story": told})
    else:
        if args.at is not None:
            output.line(f"as it stood at {clock(now)} UTC")
        _print(explanation, now, output)
        if story is not None:
            _print_story(story, output)
    return 0


def _of_freerun(
    args: argparse.Namespace, reading: Reading, name: str, now: datetime
) -> Explanation:
    """Of the firing that is named, or of the freerun as it stands."""
    if args.at is not None:
        raise BadInput(
            f"{name} is a freerun, which is explained as it stands now; what became of a firing: "
            f"{command(f'why {name} {args.at}')}"
        )
    if args.interval is None:
        return explain_freerun(reading, name, now)
    return explain(reading, name, firing_named(reading, name, args.interval), now)


def _interval(args: argparse.Namespace, reading: Reading, process: str) -> Interval:
    if args.interval is None:
        raise none_named(process)
    return interval_named(reading.catalog, process, args.interval)


def moment(text: str, now: datetime) -> datetime:
    """The past moment that is meant.

    Raises:
        BadInput: it is no time, or lies in the future.
    """
    found = instant_named(text)
    if found > now:
        raise BadInput(f"--at {text}: it is {clock(now)} UTC now, and that lies in the future")
    return found


def _print(explanation: Explanation, now: datetime, output: Output) -> None:
    if explanation.standstill:
        way = f", so nothing moves; start one: {command('up')}" if explanation.abandoned else ""
        text = f"{explanation.standstill}{way}"
        output.line("! ", Styled(text, "red"))
    for depth, link in enumerate(explanation.chain):
        _print_link(link, depth, now, output)
    for lead, other in (("latest: ", explanation.latest), ("then: ", explanation.upcoming)):
        if other is not None:
            output.line()
            _print_link(other, 0, now, output, lead)
    if explanation.behind.number:
        output.line(f"behind: {explanation.behind}")


def _print_link(link: Link, depth: int, now: datetime, output: Output, lead: str = "") -> None:
    lead = "   " * (depth - 1) + "└─ " if depth else lead
    output.line(f"{lead}{link.process} {link.interval.label}  ", output.state(link.state))
    indent = "   " * (depth + 1)
    output.line(f"{indent}{link.text}")
    if link.next:
        when = f", {ago(link.at, now)} ({clock(link.at)} UTC)" if link.at is not None else ""
        output.line(f"{indent}next: {link.next}{when}")
    for hint in link.hints:
        output.line(f"{indent}      {hint.purpose}: {command(hint.words)}")


#: What a share of the time is called.
_SHARES = {
    Share.INPUTS: "waiting for its inputs",
    Share.TURN: "waiting for its turn",
    Share.WORKER: "waiting for a worker",
    Share.BACK_OFF: "between attempts",
    Share.WORKING: "at work",
}


def _print_story(story: Story, output: Output) -> None:
    output.line()
    if not story.complete:
        output.line("(the beginning is forgotten)")
    for step in story.steps:
        output.line(f"{clock(step.at)} UTC  {step.text}")
    output.line()
    rows = [(_SHARES[share], _spent(spent)) for share, spent in story.shares.items() if spent]
    output.table(("time went into", ""), [*rows, ("in all", _spent(story.ends - story.begins))])


def _spent(time: timedelta) -> str:
    return duration(time.total_seconds())
