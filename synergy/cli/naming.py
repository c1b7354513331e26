"""What people type for processes and intervals, turned into what is meant."""

import difflib
from datetime import datetime

from synergy import app
from synergy.cli.output import clock, command
from synergy.core.catalog import Catalog
from synergy.core.intervals import BadLabel, Interval
from synergy.errors import BadInput, NotFound
from synergy.project import Project
from synergy.reading import Reading


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
