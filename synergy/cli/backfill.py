"""``backfill``: past intervals run again little by little, beside the live work."""

import argparse
import math
import sys

from synergy.cli import lanes
from synergy.cli.backfill_plan import Planned, Terms, counted, within
from synergy.cli.filing import carried_out, filing_options, new_request, stored
from synergy.cli.naming import interval_range, process_named, reading_of
from synergy.cli.output import Output, Styled, clock, command
from synergy.cli.requests import ASKS_ABOVE, confirm, overlaps, overlaps_as_json, show_stored
from synergy.clock import SystemClock
from synergy.core.backfills import MAX_SHARE, MIN_SHARE, ORDERS, built_on_itself
from synergy.core.lanes import CHANGES
from synergy.core.model import Json
from synergy.errors import BadInput, Conflict, NotFound
from synergy.project import Project
from synergy.reading import Reading


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "what",
        metavar="PROCESS|list|pause|resume|cancel",
        help="which process; or: list all backfills, pause one, let it go on, or end it",
    )
    parser.add_argument(
        "range",
        nargs="?",
        metavar="FROM..TO|ID",
        help="labels, both included; or the id of a backfill",
    )
    parser.add_argument(
        "--force", action="store_true", help="run again what is finished and needs no run, too"
    )
    parser.add_argument(
        "--order", choices=ORDERS, default=ORDERS[0], help="which intervals go first (oldest)"
    )
    parser.add_argument(
        "--min-share",
        type=_share,
        default=MIN_SHARE,
        metavar="PERCENT",
        help=f"of the workers' slots, which it has whatever else there is ({MIN_SHARE:.0%})",
    )
    parser.add_argument(
        "--max-share",
        type=_share,
        default=MAX_SHARE,
        metavar="PERCENT",
        help=f"of the workers' slots, of which it never has more ({MAX_SHARE:.0%})",
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="only say what it would do, and store that: to be applied or withdrawn later",
    )
    parser.add_argument(
        "--yes", action="store_true", help=f"do not ask, though it be over {ASKS_ABOVE} intervals"
    )
    filing_options(parser, "every job that it runs again")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    reading = reading_of(project)
    if args.what == "list":
        return _list(reading, output)
    if args.what in CHANGES:
        return _change(args, project, reading, output)
    process = process_named(reading.catalog, args.what)
    if args.range is None:
        raise BadInput(f"name the intervals: {command(f'backfill {process} FROM..TO')}")
    if args.min_share > args.max_share:
        raise BadInput(
            f"--min-share {args.min_share:.0%} is more than --max-share {args.max_share:.0%}"
        )
    if not args.max_share:
        raise BadInput("--max-share 0% leaves it no slot at all; what is accepted: 1 to 100")
    if built_on_itself(reading.catalog, process):
        raise BadInput(
            f"the intervals of {process} build on one another: run the first of them again, "
            f"and all others follow: {command(f'reprocess {process} FROM')}"
        )
    now = SystemClock().now()
    terms = Terms(args.force, args.order, args.min_share, args.max_share)
    start, end = interval_range(reading.catalog, process, args.range)
    planned = Planned(reading, process, within(reading, process, start, min(end, now)), terms, now)
    if args.plan:
        return _plan(args, reading, planned, output)
    if not planned.targets:
        planned.show_nothing(output)
        return 0
    if len(planned.targets) > ASKS_ABOVE and not args.yes:
        _confirm(planned, output)
    return _begin(args, project, reading, planned, output)


def _plan(args: argparse.Namespace, reading: Reading, planned: Planned, output: Output) -> int:
    """Store the plan and show it."""
    if not planned.targets:
        planned.show_nothing(output)
        return 0
    options: dict[str, Json] = {**planned.options(), "touched": planned.reach.content()}
    request = new_request("backfill", planned.process, (), reason=args.reason, options=options)
    overlapping = list(overlaps(reading, planned.reach))
    stored(reading, request)
    if output.json:
        found = {"id": request.id, "state": "planned", "action": "backfill", **planned.as_json()}
        output.data({**found, "overlaps": overlaps_as_json(overlapping)})
        return 0
    for line in planned.lines():
        output.line(line)
    show_stored(request.id, overlapping, output)
    return 0


def _confirm(planned: Planned, output: Output) -> None:
    asked = sys.stdin.isatty()
    for line in planned.lines() if asked or not output.json else ():
        (output.note if asked else output.line)(line)
    confirm(f"the backfill runs {counted(len(planned.targets))} again")


def _begin(
    args: argparse.Namespace,
    project: Project,
    reading: Reading,
    planned: Planned,
    output: Output,
) -> int:
    request = new_request(
        "backfill", planned.process, (), reason=args.reason, options=planned.options()
    )
    answered = carried_out(project, reading, request, args.wait, output)
    if answered is None:
        return 0
    if output.json:
        output.data({"id": request.id, "state": "done", **planned.as_json()})
        return 0
    for line in planned.lines():
        output.line(line)
    output.line(f"begun as {request.id}; {lanes.where_to_look()}")
    return 0


def _change(args: argparse.Namespace, project: Project, reading: Reading, output: Output) -> int:
    known = lanes.all_of(reading)
    going = ", ".join(each.id for each in known.values() if not each.over) or "none"
    if args.range is None:
        raise BadInput(
            f"which backfill: {command(f'backfill {args.what} ID')}; there go on {going}"
        )
    backfill = known.get(args.range)
    if backfill is None:
        raise NotFound(f"no backfill {args.range}; there go on {going}")
    if backfill.over:
        raise Conflict(f"backfill {backfill.id} is {backfill.state}; there go on {going}")
    options: dict[str, Json] = {"change": args.what, "id": backfill.id}
    request = new_request("backfill", backfill.process, (), reason=args.reason, options=options)
    answered = carried_out(project, reading, request, args.wait, output)
    if answered is None:
        return 0
    now = lanes.all_of(reading)[backfill.id]
    if output.json:
        output.data(lanes.as_json(reading, now, SystemClock().now()))
        return 0
    left = counted(now.total - now.passed)
    match args.what:
        case "pause":
            output.line(f"backfill {now.id} is paused; what is at work ends, {left} not opened yet")
        case "resume":
            output.line(f"backfill {now.id} goes on, {left} not opened yet")
        case _:
            output.line(lanes.canceled(now))
    return 0


def _list(reading: Reading, output: Output) -> int:
    found = sorted(lanes.all_of(reading).values(), key=lambda each: each.filed_at)
    now = SystemClock().now()
    if output.json:
        output.data([lanes.as_json(reading, each, now) for each in found])
        return 0
    if not found:
        output.note("there is no backfill")
        return 0
    output.table(
        ("id", "process", "state", "done", "of", "filed (UTC)", "by", "end", "reason"),
        (
            (
                each.id,
                each.process,
                Styled(lanes.state_of(each), lanes.STYLES[lanes.state_of(each)]),
                lanes.ended(reading, each),
                each.total,
                clock(each.filed_at),
                each.actor or "–",
                lanes.end_of(reading, each, now),
                each.reason,
            )
            for each in found
        ),
    )
    return 0


def _share(text: str) -> float:
    """``30`` or ``30%`` as a share."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return percent / 100
