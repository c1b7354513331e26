"""``backfill``: past intervals run again little by little, beside the live work."""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import islice

from synergy.cli.filing import carried_out, filing_options, new_request, stored
from synergy.cli.naming import interval_range, process_named, reading_of
from synergy.cli.output import Output, Styled, clock, command, duration, instant
from synergy.cli.requests import ASKS_ABOVE, confirm, overlaps, overlaps_as_json, show_stored
from synergy.clock import SystemClock
from synergy.core import plans
from synergy.core.backfills import (
    HOLDING,
    MAX_SHARE,
    MIN_SHARE,
    ORDERS,
    RUNNING,
    Backfill,
    backfills_of,
    built_on_itself,
    units_out,
)
from synergy.core.intervals import Interval
from synergy.core.lanes import CHANGES, needs_run
from synergy.core.model import Json, job_key
from synergy.core.states import TERMINAL, JobState
from synergy.errors import BadInput, Conflict, NotFound
from synergy.history import recent_units, typical_duration
from synergy.project import Project
from synergy.reading import Reading

#: Jobs read in one go.
CHUNK = 500
#: What an interval needs a run for, the worst first, and what is left as it is.
_WANTED = ("failed", "marked stale", "not caught up", "done already")
_LEFT = ("skipped by somebody", "finished", "open, and runs anyway")


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
    terms = _Terms(args.force, args.order, args.min_share, args.max_share)
    start, end = interval_range(reading.catalog, process, args.range)
    planned = Planned(reading, process, _within(reading, process, start, min(end, now)), terms, now)
    if args.plan:
        return _plan(args, reading, planned, output)
    if not planned.targets:
        planned.show_nothing(output)
        return 0
    if len(planned.targets) > ASKS_ABOVE and not args.yes:
        _confirm(planned, output)
    return _begin(args, project, reading, planned, output)


@dataclass(frozen=True, slots=True)
class _Terms:
    """How it is to go."""

    force: bool
    order: str
    min_share: float
    max_share: float


class Planned:
    """What a backfill would do, as the timetable stands."""

    def __init__(
        self,
        reading: Reading,
        process: str,
        intervals: Iterable[Interval],
        terms: _Terms,
        now: datetime,
    ) -> None:
        self.reading, self.process, self.terms = reading, process, terms
        self.reasons: Counter[str] = Counter()
        self.targets: list[Interval] = []
        for interval, reason in _reasons(reading, process, intervals):
            if terms.force and reason in ("finished", "skipped by somebody"):
                reason = "done already"
            self.reasons[reason] += 1
            if reason in _WANTED:
                self.targets.append(interval)
        order = plans.to_reopen(
            reading.catalog,
            ((process, interval) for interval in self.targets),
            lambda place: reading.timetable.begun(*place, now),
        )
        self.above = Counter(name for name, _ in order if name != process)
        self.reach = plans.reach_of(reading.timetable, order, now)
        self.slots = reading.slots_for(process, now)
        self.least, self.most = units_out(terms.min_share, terms.max_share, self.slots)
        typical = typical_duration(recent_units(reading.store, process))
        self.lasts = None if typical is None else typical * len(self.targets) / self.most

    @classmethod
    def anew(cls, reading: Reading, backfill: Backfill, now: datetime) -> "Planned":
        """What one that was planned would do by now."""
        terms = _Terms(backfill.force, backfill.order, backfill.min_share, backfill.max_share)
        intervals = (interval for _, interval in backfill.targets(reading.catalog))
        return cls(reading, backfill.process, intervals, terms, now)

    def options(self) -> dict[str, Json]:
        """As the request says it."""
        bounds = plans.Ranges.of((self.process, interval) for interval in self.targets).bounds
        return {
            "targets": [*bounds.get(self.process, ())],
            "total": len(self.targets),
            **asdict(self.terms),
        }

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "process": self.process,
            "intervals": len(self.targets),
            "reasons": {reason: self.reasons[reason] for reason in _WANTED if self.reasons[reason]},
            "left": {reason: self.reasons[reason] for reason in _LEFT if self.reasons[reason]},
            "above": dict(self.above),
            "slots": self.slots,
            "at_most": self.most,
            "at_least": self.least,
            "seconds": None if self.lasts is None else round(self.lasts.total_seconds(), 1),
        }

    def show_nothing(self, output: Output) -> None:
        """That nothing needs a run."""
        if output.json:
            output.data({"id": None, "state": "nothing changes", **self.as_json()})
            return
        for line in self.lines():
            output.line(line)

    def lines(self) -> Iterator[str]:
        """What it would do, in words."""
        number = len(self.targets)
        what = f"{counted(number)} of {self.process}"
        yield (
            f"{what}, {self.terms.order} first:"
            if number
            else f"nothing of {self.process} needs a run"
        )
        for reason in _WANTED:
            if self.reasons[reason]:
                yield f"  {self.reasons[reason]:>7}  {reason}"
        left = [f"{self.reasons[one]} {one}" for one in _LEFT if self.reasons[one]]
        if left:
            yield f"left as they are: {', '.join(left)}"
        if not number:
            return
        if self.above:
            told = ", ".join(f"{count} of {name}" for name, count in self.above.items())
            yield f"what is built on them runs once, each when all below it has: {told}"
        slots = "1 slot" if self.slots == 1 else f"{self.slots} slots"
        least = f", {self.least} of them whatever else there is" if self.least else ""
        yield f"at most {self.most} at once, of {slots}{least}"
        if self.lasts is not None:
            yield f"by how long intervals took lately: about {_about(self.lasts)}"


def _within(reading: Reading, process: str, start: datetime, end: datetime) -> Iterator[Interval]:
    """Every interval of a range that there is."""
    first, last = reading.catalog.spans[process]
    calendar = reading.catalog.processes[process].calendar
    return calendar.between(max(start, first), min(end, last) if last else end)


def _reasons(
    reading: Reading, process: str, found: Iterable[Interval]
) -> Iterator[tuple[Interval, str]]:
    """Each of these intervals with what it needs a run for, or why it is left as it is."""
    intervals = iter(found)
    while some := [*islice(intervals, CHUNK)]:
        standings = {each: reading.timetable.standing(process, each) for each in some}
        skipped = [
            each for each, standing in standings.items() if standing and standing.state == "skipped"
        ]
        jobs = reading.store.read_jobs(job_key(process, each) for each in skipped)
        for interval, standing in standings.items():
            if standing is None:
                yield interval, "open, and runs anyway"
                continue
            job = jobs.get(job_key(process, interval))
            need = needs_run(standing, "" if job is None else job.reason)
            skipped_by = standing.state is JobState.SKIPPED
            yield interval, need or ("skipped by somebody" if skipped_by else "finished")


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
    output.line(f"begun as {request.id}; {where_to_look()}")
    return 0


def _change(args: argparse.Namespace, project: Project, reading: Reading, output: Output) -> int:
    known = all_of(reading)
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
    now = all_of(reading)[backfill.id]
    if output.json:
        output.data(_as_json(reading, now))
        return 0
    left = counted(now.total - now.passed)
    match args.what:
        case "pause":
            output.line(f"backfill {now.id} is paused; what is at work ends, {left} not opened yet")
        case "resume":
            output.line(f"backfill {now.id} goes on, {left} not opened yet")
        case _:
            output.line(canceled(now))
    return 0


def canceled(backfill: Backfill) -> str:
    """What became of one that was given up."""
    left = counted(backfill.total - backfill.passed)
    return f"backfill {backfill.id} is canceled; {left} left as they were"


def where_to_look() -> str:
    """What to type to see how far it is."""
    return f"how far it is: {command('backfill list')}"


def _list(reading: Reading, output: Output) -> int:
    found = sorted(all_of(reading).values(), key=lambda each: each.filed_at)
    if output.json:
        output.data([_as_json(reading, each) for each in found])
        return 0
    if not found:
        output.note("there is no backfill")
        return 0
    now = SystemClock().now()
    output.table(
        ("id", "process", "state", "done", "of", "filed (UTC)", "by", "end", "reason"),
        (
            (
                each.id,
                each.process,
                Styled(_state(each), _STYLES[_state(each)]),
                ended(reading, each),
                each.total,
                clock(each.filed_at),
                each.actor or "–",
                _end(reading, each, now),
                each.reason,
            )
            for each in found
        ),
    )
    return 0


def ended(reading: Reading, backfill: Backfill) -> int:
    """How many of its targets have ended."""
    active = sum(
        name == backfill.process
        and job.state not in TERMINAL
        and backfill.has(start)
        and backfill.is_passed(start)
        for (name, start), job in reading.timetable.active.items()
    )
    return backfill.passed - active


def going_on(reading: Reading) -> list[str]:
    """A line for each backfill that is not over."""
    return [in_short(reading, each) for each in all_of(reading).values() if not each.over]


def in_short(reading: Reading, backfill: Backfill) -> str:
    """How far it is: ``4f1c2a9b of hour: 12 of 48, paused``."""
    state = _state(backfill)
    how = "" if state in (HOLDING, RUNNING) else f", {state}"
    far = f"{ended(reading, backfill)} of {backfill.total}"
    return f"{backfill.id} of {backfill.process}: {far}{how}"


def all_of(reading: Reading) -> dict[str, Backfill]:
    """All of them as they stand now, by id."""
    return backfills_of(reading.store.read_documents("backfills"))


_STYLES = {
    "holding": "cyan",
    "running": "cyan",
    "paused": "yellow",
    "done": "green",
    "canceled": "yellow",
}


def _state(backfill: Backfill) -> str:
    return "paused" if backfill.paused and not backfill.over else backfill.state


def _remaining(reading: Reading, backfill: Backfill, now: datetime) -> timedelta | None:
    """How long it goes on yet, by its own pace; None where that is not known."""
    done = ended(reading, backfill)
    if backfill.state != RUNNING or backfill.paused or backfill.began_at is None or done <= 0:
        return None
    return (now - backfill.began_at) / done * (backfill.total - done)


def _end(reading: Reading, backfill: Backfill, now: datetime) -> str:
    if backfill.ended_at is not None:
        return clock(backfill.ended_at)
    remaining = _remaining(reading, backfill, now)
    if remaining is not None:
        return f"in about {_about(remaining)}"
    return "after what is built on it is held" if backfill.state == HOLDING else "–"


def _as_json(reading: Reading, backfill: Backfill) -> dict[str, object]:
    now = SystemClock().now()
    remaining = _remaining(reading, backfill, now)
    return {
        "id": backfill.id,
        "process": backfill.process,
        "state": _state(backfill),
        "intervals": backfill.total,
        "opened": backfill.passed,
        "ended": ended(reading, backfill),
        "order": backfill.order,
        "force": backfill.force,
        "min_share": backfill.min_share,
        "max_share": backfill.max_share,
        "filed_at": instant(backfill.filed_at),
        "actor": backfill.actor,
        "reason": backfill.reason,
        "began_at": _instant(backfill.began_at),
        "ended_at": _instant(backfill.ended_at),
        "estimated_end": None if remaining is None else instant(now + remaining),
    }


def _instant(when: datetime | None) -> str | None:
    return None if when is None else instant(when)


def _share(text: str) -> float:
    """``30`` or ``30%`` as a share."""
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage from 0 to 100")
    return percent / 100


def counted(number: int) -> str:
    """``1 interval``, ``48 intervals``."""
    return "1 interval" if number == 1 else f"{number} intervals"


def _about(lasts: timedelta) -> str:
    return duration(max(lasts.total_seconds(), 1.0))
