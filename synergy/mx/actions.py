"""What an operator asks for: checked as far as it can be here, written down, filed in the store.

The console decides nothing of it: the scheduler carries it out, once, and answers.
"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from synergy.core import plans
from synergy.core.intervals import BadLabel, Interval
from synergy.core.model import Request
from synergy.errors import BadInput, NotFound
from synergy.mx.console import Console
from synergy.mx.picture import Picture
from synergy.mx.routes import Call
from synergy.mx.words import clock

#: What may be asked for of intervals, and of freeruns.
ACTIONS = (*plans.ACTIONS, "trigger")
#: Characters of a reason, at most.
LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    action: str
    process: str
    intervals: Sequence[Interval]
    reason: str
    #: What it would do, as the timetable stands; nothing where it is only triggered.
    plan: plans.Plan
    #: What the asker called it, so that asking twice is asking once; empty: nothing.
    key: str = ""


def wish_of(
    picture: Picture,
    now: datetime,
    action: str,
    process: str,
    labels: Sequence[str],
    reason: str,
    key: str = "",
) -> Wish:
    """What is asked for, if it can be meant, and what it would do.

    Raises:
        NotFound: there is no such process or interval.
        BadInput: naming everything else that is wrong.
    """
    problems = []
    catalog = picture.catalog
    if process in catalog.freeruns:
        intervals: list[Interval] = []
        if action != "trigger":
            problems.append(f"{process} is a freerun, it can only be triggered")
        if labels:
            problems.append(f"{process} is a freerun, it has no intervals")
    else:
        intervals = [interval_named(picture, process, label) for label in dict.fromkeys(labels)]
        if not labels:
            problems.append("it names no interval")
    if action not in ACTIONS:
        problems.append(f"there is no action {action!r}; there are {', '.join(ACTIONS)}")
    elif action != "trigger" and not reason.strip():
        problems.append("it has no reason; say why, it is kept with every job that it touches")
    first = min(intervals, key=lambda interval: interval.start, default=None)
    if action == "reprocess" and first is not None and first.start > now:
        begins = f"{process} {first.label} begins at {clock(first.start)} UTC"
        problems.append(f"{begins}, so it cannot run again yet")
    if len(reason) > LONGEST_REASON:
        problems.append(f"its reason is longer than {LONGEST_REASON} characters")
    if problems:
        raise BadInput("nothing was asked for:", problems)
    return Wish(
        action,
        process,
        intervals,
        " ".join(reason.split()),
        planned(picture, now, action, process, intervals),
        key,
    )


def planned(
    picture: Picture, now: datetime, action: str, process: str, intervals: Sequence[Interval]
) -> plans.Plan:
    """What it would do; a trigger only ends a wait."""
    if action not in plans.ACTIONS:
        return plans.Plan()
    named = [(process, interval) for interval in intervals]
    return plans.plan(picture.timetable, action, named, now)


def refusal(wish: Wish, agreed: str) -> str:
    """That more would change by now than was agreed to; empty while it would not.

    `agreed` is what the form carries of the plan that was shown.  A normal finish meanwhile, by
    which less changes, is no reason to ask again.
    """
    try:
        before = plans.Ranges.of_content(json.loads(agreed))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return "look at what it would do first"
    joined = wish.plan.joined(before)
    return plans.outdated("shown before", joined) if joined else ""


def interval_named(picture: Picture, process: str, label: str) -> Interval:
    """The interval of a process that a label names.

    Raises:
        NotFound: there is no such process, or its tree does not span the interval.
        BadInput: the label does not fit the process's calendar.
    """
    registered = picture.process_named(process)
    try:
        interval = registered.calendar.parse(label)
    except BadLabel as error:
        raise BadInput(f"{process}: {error}") from error
    if not picture.catalog.exists(process, interval):
        tree = picture.catalog.trees[registered.tree]
        until = f" until {clock(tree.until)}" if tree.until else ""
        raise NotFound(
            f"{process} has no interval {interval.label}: "
            f"tree {tree.name} spans from {clock(tree.start)}{until} (UTC)"
        )
    return interval


def ask_for(console: Console, call: Call, wish: Wish) -> Request:
    """File it; the request as it stands then."""
    number = _number(call, wish.key) if wish.key else secrets.token_hex(4)
    if wish.key:
        known = console.living.ask(lambda store: store.read_request(number))
        if known is not None:
            return known
    request = Request(
        id=number,
        action=wish.action,
        process=wish.process,
        starts=tuple(interval.start for interval in wish.intervals),
        filed_at=call.now,
        actor=call.visitor.name,
        reason=wish.reason,
        options=wish.plan.options() if wish.action in plans.ACTIONS else {},
    )
    console.file(call, request)
    return request


def _number(call: Call, key: str) -> str:
    """The same for the same asker and key, and never another's."""
    text = f"{call.visitor.name}\0{key}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
