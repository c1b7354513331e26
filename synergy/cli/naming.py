"""What people type for processes and intervals, turned into what is meant."""

import argparse
import difflib
import re
from datetime import UTC, datetime, timedelta

from synergy import app
from synergy.cli.output import clock, command
from synergy.core.catalog import Catalog
from synergy.core.freeruns import firing_interval, is_due_at
from synergy.core.intervals import BadLabel, Interval
from synergy.errors import BadInput, NotFound
from synergy.project import Project
from synergy.reading import Reading

#: Of the longest number of things.
DIGITS = 9


def reading_of(project: Project) -> Reading:
    """The timetable as it stands in the project's store.

    Raises:
        NotFound: there is none yet; with the command that makes one.
    """
    try:
        return app.reading_of(project)
    except NotFound as error:
        raise NotFound(f"{error}: {command('up')}") from error


def process_named(catalog: Catalog, name: str, *, freeruns: bool = False) -> str:
    """The name, if it is registered.

    Raises:
        NotFound: with the names that are close.
        BadInput: it is a freerun, where a process of a tree is wanted.
    """
    known = [*catalog.processes, *(catalog.freeruns if freeruns else ())]
    if name in known:
        return name
    if name in catalog.freeruns:
        raise BadInput(
            f"{name} is a freerun: it has no intervals; fire it with: {command(f'trigger {name}')}"
        )
    close = difflib.get_close_matches(name, known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    raise NotFound(f"no process {name!r} is registered; {hint}")


def none_named(process: str) -> BadInput:
    """What is said where a process is named, and an interval of it is wanted."""
    return BadInput(
        f"{process} is a process of a tree: name the interval; those there are: "
        f"{command(f'jobs {process}')}"
    )


def interval_named(catalog: Catalog, process: str, label: str) -> Interval:
    """The interval of a process that a label names.

    Raises:
        BadInput: the label does not fit the process's calendar.
        NotFound: it lies outside the span of the process's tree.
    """
    registered = catalog.processes[process]
    try:
        interval = registered.calendar.parse(label)
    except BadLabel as error:
        raise BadInput(f"{process}: {error}") from error
    if not catalog.exists(process, interval):
        tree = catalog.trees[registered.tree]
        until = f" until {clock(tree.until)}" if tree.until else ""
        raise NotFound(
            f"{process} has no interval {interval.label}: "
            f"tree {tree.name} spans from {clock(tree.start)}{until} (UTC)"
        )
    return interval


def firing_named(reading: Reading, freerun: str, text: str) -> Interval:
    """The firing of a freerun that a label or an instant names: one that was, or one to come.

    Raises:
        BadInput: it is no instant.
        NotFound: the freerun neither fired then nor will; with when it fires next after that.
    """
    registered = reading.catalog.freeruns[freerun]
    interval = firing_interval(instant_named(text))
    if is_due_at(registered, interval.start) or reading.document(freerun, interval) is not None:
        return interval
    following = registered.trigger.next_after(interval.start)
    after = f"; the next after that is {firing_interval(following).label}" if following else ""
    raise NotFound(
        f"{freerun} has no firing {interval.label}: it fires {registered.trigger}{after}; "
        f"those there were: {command(f'jobs {freerun}')}"
    )


def instant_named(text: str) -> datetime:
    """An instant; in UTC, where no offset is given.

    Raises:
        BadInput: it is none.
    """
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadInput(
            f"{text}: no time; accepted is such as 2026-11-20T17:30 (UTC) or 2026-11-20T17:30+02:00"
        ) from error


def interval_range(catalog: Catalog, process: str, text: str) -> tuple[datetime, datetime]:
    """Start and end of ``LABEL`` or ``FROM..TO`` (both included)."""
    first, dots, last = text.partition("..")
    if dots and not (first and last):
        raise BadInput(f"{text}: a range is FROM..TO, both included")
    start = interval_named(catalog, process, first)
    end = interval_named(catalog, process, last) if last else start
    if end.start < start.start:
        raise BadInput(f"{text}: the range ends before it begins; turned round: {last}..{first}")
    return start.start, end.end


def count_from_one(text: str) -> int:
    """A number of things, for `argparse`."""
    if not text.isdecimal() or not text.lstrip("0"):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    if len(text.lstrip("0")) > DIGITS:
        raise argparse.ArgumentTypeError(f"that is too many: at most {10**DIGITS - 1}")
    return int(text)


def instant_or_ago(text: str) -> datetime | timedelta:
    """An instant, or a duration that counts back from now; for `argparse`."""
    found = re.fullmatch(r"(\d{1,6})(s|min|h|d|w)", text)
    if found is not None:
        return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    try:
        return instant_named(text)
    except BadInput:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a duration such as 90min, 36h, 7d or 2w, nor an instant such as "
            "2026-11-20 or 2026-11-20T17:30 (UTC, where no offset is given)"
        ) from None


_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
