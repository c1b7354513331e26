"""``reprocess``, ``skip``, ``unskip``, ``trigger``: plan it, file it, say what it did."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from synergy.cli.filing import carried_out, filing_options, new_request, stored
from synergy.cli.naming import interval_range, none_named, process_named, reading_of
from synergy.cli.output import Output, clock, command
from synergy.cli.telling import (
    estimate,
    in_short,
    items,
    plan_as_json,
    show_left,
    show_plan,
    show_touched,
    to_apply,
)
from synergy.clock import SystemClock
from synergy.core import plans
from synergy.core.intervals import Interval
from synergy.core.model import Json, Request
from synergy.errors import BadInput, Conflict, NotFound, SynergyError
from synergy.project import Project
from synergy.reading import Reading

#: Above so many intervals it asks (DESIGN §8.8).
ASKS_ABOVE = 100
#: The latest requests among which open plans are looked for, and intervals named of each.
LATEST, NAMED = 200, 3
#: A plan that is open and touches some of the same, with the first of these.
Overlap = tuple[Request, list[str]]


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verbs."""
    parser.add_argument(
        "process",
        metavar="NAME" if verb == "trigger" else "PROCESS",
        help="a freerun, or a process with intervals" if verb == "trigger" else "which process",
    )
    parser.add_argument(
        "intervals",
        nargs="*" if verb == "trigger" else "+",
        metavar="INTERVAL",
        help="label such as 2026-11-20T17, or FROM..TO (both included); several may be given",
    )
    parser.set_defaults(only=False)
    if verb == "trigger":
        parser.set_defaults(yes=True, plan=False)
    else:
        if verb == "reprocess":
            parser.add_argument(
                "--only",
                action="store_true",
                help="run nothing but what is named; what is built on it is marked stale",
            )
        parser.add_argument(
            "--plan",
            action="store_true",
            help="only say what would change, and store that: to be applied or withdrawn later",
        )
        parser.add_argument(
            "--yes", action="store_true", help=f"do not ask, though it be over {ASKS_ABOVE} jobs"
        )
    filing_options(parser, "every job that it touches")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Plan it, then store the plan, or file the request and report."""
    reading = reading_of(project)
    process = process_named(reading.catalog, args.process, freeruns=args.verb == "trigger")
    targets = _targets(reading, process, args.intervals)
    starts = tuple(interval.start for interval in targets)
    now = SystemClock().now()
    made = plans.Plan()
    options: dict[str, Json] = {}
    if args.verb != "trigger":
        if args.verb == "reprocess":
            _refuse_future(process, targets, now)
        named = [(process, interval) for interval in targets]
        made = plans.plan(reading.timetable, args.verb, named, now, only=args.only)
        options = made.options()
    request = new_request(args.verb, process, starts, reason=args.reason, options=options)
    about = what(args.verb, process, targets) + (" only" if args.only else "")
    if args.plan:
        return _plan(reading, request, made, about, output)
    _confirm(args, made)
    answered = carried_out(project, reading, request, args.wait, output)
    if answered is not None:
        _report(answered, made, output)
    return 0


def what(action: str, process: str, targets: list[Interval]) -> str:
    """``reprocess site_hourly 2026-11-20T07``."""
    labels = [interval.label for interval in sorted(targets, key=lambda one: one.start)]
    return f"{action} {process} {in_short(labels)}" if labels else f"{action} {process}"


def _targets(reading: Reading, process: str, texts: list[str]) -> list[Interval]:
    if process in reading.catalog.freeruns:
        if texts:
            raise BadInput(
                f"{process} is a freerun: it has no intervals; {command(f'trigger {process}')}"
            )
        return []
    if not texts:
        raise none_named(process)
    calendar = reading.catalog.processes[process].calendar
    found: dict[datetime, Interval] = {}
    errors: list[SynergyError] = []
    for text in texts:
        try:
            start, end = interval_range(reading.catalog, process, text)
        except (BadInput, NotFound) as error:
            errors.append(error)
            continue
        found.update((interval.start, interval) for interval in calendar.between(start, end))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BadInput(f"{len(errors)} of these are no intervals", [str(each) for each in errors])
    return list(found.values())


def _refuse_future(process: str, targets: list[Interval], now: datetime) -> None:
    """What has not begun has not run, so it cannot run again."""
    first = min(targets, key=lambda interval: interval.start)
    if first.start > now:
        raise BadInput(
            f"nothing to run again: {process} {first.label} begins at {clock(first.start)} UTC"
            + (" and the others later" if len(targets) > 1 else "")
        )


def _plan(reading: Reading, request: Request, made: plans.Plan, about: str, output: Output) -> int:
    """Store the plan and show it."""
    estimated = estimate(reading, made)
    overlapping = list(overlaps(reading, made.reach))
    if made.steps:
        stored(reading, request)
    if output.json:
        found: dict[str, Json] = {
            "id": request.id if made.steps else None,
            "state": "planned" if made.steps else "nothing changes",
            "action": request.action,
            "process": request.process,
            **plan_as_json(made, estimated),
            "overlaps": overlaps_as_json(overlapping),
        }
        output.data(found)
        return 0
    show_plan(made, estimated, about, output)
    show_stored(request.id if made.steps else None, overlapping, output)
    return 0


def show_stored(plan: str | None, overlapping: Sequence[Overlap], output: Output) -> None:
    """That a plan is stored, what to type next, and which others are about the same."""
    if plan is not None:
        output.line(f"planned as {plan}; nothing has changed yet")
        for line in to_apply(plan):
            output.line(f"  {line}")
    for other, some in overlapping:
        more = " and more" if len(some) > NAMED else ""
        output.line(
            f"! plan {other.id} ({other.action} {other.process}, {clock(other.filed_at)} UTC) "
            f"would change some of the same: {', '.join(some[:NAMED])}{more}"
        )


def overlaps_as_json(overlapping: Sequence[Overlap]) -> list[Json]:
    """For programs."""
    return [{"id": other.id, "intervals": [*some]} for other, some in overlapping]


def overlaps(reading: Reading, reach: plans.Ranges) -> Iterator[Overlap]:
    """The plans that are open and touch some of the same."""
    for other in reading.store.last_requests(LATEST):
        if other.state == "planned":
            theirs = plans.Ranges.of_content(other.options.get("touched"))
            shared = (
                f"{process} {interval.label}"
                for process, start, end in reach.overlap(theirs)
                for interval in reading.catalog.processes[process].calendar.between(start, end)
            )
            some = list(islice(shared, NAMED + 1))
            if some:
                yield other, some


def _confirm(args: argparse.Namespace, made: plans.Plan) -> None:
    """Ask before many intervals change."""
    number = len(made.steps)
    if number <= ASKS_ABOVE or args.yes:
        return
    confirm(f"{args.verb} changes {number} intervals", " (--plan says what they are)")


def confirm(question: str, hint: str = "") -> None:
    """Go on only if that is meant; `hint`: what else to type, where nobody can be asked.

    Raises:
        BadInput: nobody can be asked.
        Conflict: it is not.
    """
    if not sys.stdin.isatty():
        raise BadInput(f"{question}, more than {ASKS_ABOVE}; if that is meant, add --yes{hint}")
    print(f"{question}; go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Conflict("nothing was done")


def _report(answered: Request, made: plans.Plan, output: Output) -> None:
    if output.json:
        more: dict[str, Json] = {"left": [*made.left]} if made.left else {}
        output.data({"id": answered.id, "state": answered.state, **more, **answered.answer})
        return
    touched = items(answered, "touched")
    left = made.left
    if not touched:
        nothing = f"nothing to {_AGAIN.get(answered.action, answered.action)}"
        output.line(f"{nothing}: {left[0]}" if left else nothing)
        left = left[1:]
    show_touched(answered, output)
    show_left(left, output)
    if touched and answered.action in ("reprocess", "unskip"):
        output.line(f"to take back what has not begun: {command(f'withdraw {answered.id}')}")


_AGAIN = {"reprocess": "run again"}
