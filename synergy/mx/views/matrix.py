"""The timetable as a table: processes down, time across; never an interval for each cell that can
be rolled up into one.

A column is an hour, a day, a week, a month or a year.  A process of larger intervals has cells over
several columns, so that one sees what waits for what; one of smaller intervals has in each column
how many of its intervals are in which state.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from urllib.parse import quote
from zoneinfo import ZoneInfo

from synergy.core.catalog import Process
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.states import JobState
from synergy.errors import BadInput
from synergy.mx.looks import LOOKS, NOT_DUE, OF_JOBS, Look, look_of
from synergy.mx.picture import Picture
from synergy.mx.words import clock, number


@dataclass(frozen=True, slots=True)
class Level:
    """How wide a column is, and how many there are at first and at most."""

    name: str
    granularity: Granularity
    columns: int
    most: int
    #: Columns after the one that holds the present.
    ahead: int


LEVELS: Mapping[str, Level] = {
    level.name: level
    for level in (
        Level("hour", Granularity.HOURLY, 36, 24 * 8, 6),
        Level("day", Granularity.DAILY, 35, 100, 3),
        Level("week", Granularity.WEEKLY, 30, 110, 1),
        Level("month", Granularity.MONTHLY, 24, 72, 1),
        Level("year", Granularity.YEARLY, 10, 60, 0),
    )
}
_NOMINAL = {
    Granularity.MINUTELY: 60,
    Granularity.HOURLY: 3_600,
    Granularity.DAILY: 86_400,
    Granularity.WEEKLY: 7 * 86_400,
    Granularity.MONTHLY: 30 * 86_400,
    Granularity.QUARTERLY: 91 * 86_400,
    Granularity.YEARLY: 365 * 86_400,
}


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a rolled-up cell: left edge and width in hundredths."""

    family: str
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Some columns of a row."""

    span: int
    #: Empty outside the span of the tree.
    look: Look | None = None
    #: Of a single interval; empty for a roll-up.
    label: str = ""
    title: str = ""
    #: Where a closer look is.
    href: str = ""
    shares: Sequence[Share] = ()
    #: Intervals in it, and how many failed, of a roll-up.
    total: int = 0
    failed: int = 0
    #: Marks: "stale", "again" (a later generation), "retried".
    marks: tuple[str, ...] = ()
    current: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A process."""

    process: str
    granularity: str
    cells: Sequence[Cell]
    #: Its intervals in the window by state, for those who do not see the cells.
    counted: str


@dataclass(frozen=True, slots=True)
class Group:
    """A tree."""

    tree: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Head:
    """A heading over some columns."""

    text: str
    span: int
    title: str = ""
    current: bool = False


@dataclass(frozen=True, slots=True)
class Legend:
    """A state and how many intervals of the window are in it."""

    look: Look
    count: int


@dataclass(frozen=True, slots=True)
class MatrixView:
    """The page."""

    level: str
    levels: Sequence[str]
    zone: str
    first: str
    last: str
    tree: str
    trees: Sequence[str]
    #: Links to the windows beside this one, as their first column.
    earlier: str
    later: str
    columns: int
    upper: Sequence[Head]
    lower: Sequence[Head]
    groups: Sequence[Group]
    legend: Sequence[Legend]


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of the time line is looked at."""

    level: Level
    zone: str
    columns: Sequence[Interval]

    @property
    def start(self) -> datetime:
        """The first instant."""
        return self.columns[0].start

    @property
    def end(self) -> datetime:
        """The first that is not in it."""
        return self.columns[-1].end


def window_of(picture: Picture, now: datetime, level: str, first: str, last: str) -> Window:
    """The window that is asked for; without `first`, one around the present.

    Raises:
        BadInput: naming what cannot be understood.
    """
    found = LEVELS.get(level or "hour")
    if found is None:
        raise BadInput(f"there is no level {level!r}; there are {', '.join(LEVELS)}")
    zone = zone_of(picture)
    calendar = Calendar(found.granularity, 1, zone)
    if not first:
        begin = calendar.shift(calendar.containing(now), found.ahead - found.columns + 1)
    else:
        begin = calendar.containing(_midnight(first, zone))
    if last:
        end = calendar.containing(_midnight(last, zone, after=True) - timedelta(microseconds=1))
    else:
        end = calendar.shift(begin, found.columns - 1)
    if end.start < begin.start:
        raise BadInput(f"the window ends ({last}) before it begins ({first})")
    columns = []
    for interval in calendar.between(begin.start, end.end):
        columns.append(interval)
        if len(columns) == found.most:
            break
    return Window(found, zone, columns)


def zone_of(picture: Picture) -> str:
    """The zone of all trees, if they have one; else UTC."""
    zones = {tree.zone for tree in picture.catalog.trees.values()}
    return zones.pop() if len(zones) == 1 else "UTC"


def matrix_view(picture: Picture, window: Window, now: datetime, tree: str) -> MatrixView:
    """The page.

    Raises:
        BadInput: there is no such tree.
    """
    trees = picture.catalog.trees
    if tree and tree not in trees:
        raise BadInput(f"there is no tree {tree!r}; there are {', '.join(trees)}")
    totals: Counter[str] = Counter()
    groups = [
        Group(name, [_line(picture, window, now, each, totals) for each in found.processes])
        for name, found in trees.items()
        if tree in ("", name)
    ]
    calendar = Calendar(window.level.granularity, 1, window.zone)
    step = max(1, len(window.columns) * 2 // 3)
    upper, lower = _heads(window, now)
    return MatrixView(
        level=window.level.name,
        levels=list(LEVELS),
        zone=window.zone,
        first=_day(window.start, window.zone),
        last=_day(window.end - timedelta(microseconds=1), window.zone),
        tree=tree,
        trees=list(trees),
        earlier=_day(calendar.shift(window.columns[0], -step).start, window.zone),
        later=_day(calendar.shift(window.columns[0], step).start, window.zone),
        columns=len(window.columns),
        upper=upper,
        lower=lower,
        groups=groups,
        legend=[Legend(LOOKS[word], totals[word]) for word in (*OF_JOBS, NOT_DUE) if totals[word]],
    )


def state_of(picture: Picture, process: Process, interval: Interval, now: datetime) -> str:
    """The state as it is shown: what nobody has touched is `not_due` until it is due."""
    state = picture.timetable.state(process.name, interval)
    if state is JobState.EMBRYO and process.due(interval) > now:
        return NOT_DUE
    return state.value


def counts_shown(
    picture: Picture, process: Process, start: datetime, end: datetime, now: datetime
) -> Counter[str]:
    """The intervals that begin in ``[start, end)`` by the state as it is shown."""
    counted: Counter[str] = Counter()
    # From here on nothing is due yet.
    edge = process.calendar.containing(now - process.lag).start
    if start < edge:
        for state, count in picture.counts(process.name, start, min(end, edge)).items():
            counted[look_of(state).word] += count
    if end > edge:
        for state, count in picture.counts(process.name, max(start, edge), end).items():
            late = state is None or state is JobState.EMBRYO
            counted[NOT_DUE if late else look_of(state).word] += count
    return counted


def _line(picture: Picture, window: Window, now: datetime, name: str, totals: Counter[str]) -> Line:
    process = picture.catalog.processes[name]
    calendar = process.calendar
    nominal = _NOMINAL[calendar.granularity] * calendar.grouping
    single = nominal >= _NOMINAL[window.level.granularity]
    if single:  # also those that have begun before the window
        cells = list(_single_cells(picture, window, now, process))
        counted = Counter(cell.look.word for cell in cells if cell.look is not None)
    else:
        counted = Counter()
        cells = list(_rolled_cells(picture, window, now, process, counted))
    totals.update(counted)
    by = f" by {calendar.grouping}" if calendar.grouping > 1 else ""
    return Line(
        name,
        calendar.granularity.value + by,
        cells,
        ", ".join(f"{counted[word]:,} {word}" for word in (*OF_JOBS, NOT_DUE) if counted[word]),
    )


def _single_cells(
    picture: Picture, window: Window, now: datetime, process: Process
) -> Iterator[Cell]:
    starts = [column.start for column in window.columns]
    reached = 0
    for interval in process.calendar.between(window.start, window.end):
        left = max(reached, bisect_left(starts, interval.start))
        right = max(left, bisect_left(starts, min(interval.end, window.end)))
        if left > reached:
            yield Cell(left - reached)
        if right > left:
            yield _single(picture, process, interval, right - left, now)
        reached = max(reached, right)
    if reached < len(starts):
        yield Cell(len(starts) - reached)


def _single(
    picture: Picture, process: Process, interval: Interval, span: int, now: datetime
) -> Cell:
    if not picture.catalog.exists(process.name, interval):
        return Cell(span)
    job = picture.job(process.name, interval)
    look = look_of(state_of(picture, process, interval, now))
    marks = []
    told = [f"{process.name} {interval.label}", f"{look.word}: {look.meaning}"]
    if job.generation > 1:
        marks.append("again")
        told.append(f"generation {job.generation}")
    if job.attempts > 1:
        marks.append("retried")
        told.append(number(job.attempts, "attempt"))
    if job.stale:
        marks.append("stale")
        told.append("its result is out of date")
    return Cell(
        span,
        look=look,
        label=interval.label,
        title="; ".join(told),
        href=f"/t/{process.name}/{quote(interval.label)}",
        marks=tuple(marks),
        current=interval.contains(now),
    )


def _rolled_cells(
    picture: Picture, window: Window, now: datetime, process: Process, all_of_it: Counter[str]
) -> Iterator[Cell]:
    finer = {"year": "month", "month": "day", "week": "day", "day": "hour", "hour": "hour"}
    level = finer[window.level.name]
    for column in window.columns:
        counted = counts_shown(picture, process, column.start, column.end, now)
        all_of_it.update(counted)
        total = sum(counted.values())
        if not total:
            yield Cell(1)
            continue
        words = [word for word in (*OF_JOBS, NOT_DUE) if counted[word]]
        told = ", ".join(f"{counted[word]:,} {word}" for word in words)
        first = _day(column.start, window.zone)
        last = _day(column.end - timedelta(microseconds=1), window.zone)
        yield Cell(
            1,
            look=look_of(words[0]) if len(words) == 1 else None,
            title=f"{process.name} {column.label}: {told}",
            href=(
                f"/processes/{process.name}?from={first}&to={last}"
                if window.level.name == "hour"
                else f"/timetable?level={level}&from={first}&to={last}&tree={process.tree}"
            ),
            shares=list(_shares(counted, words, total)),
            total=total,
            failed=counted["failed"],
            current=column.contains(now),
        )


def _shares(counted: Counter[str], words: Sequence[str], total: int) -> Iterator[Share]:
    """Parts in proportion, none of them too small to be seen."""
    sizes = [max(100 * counted[word] / total, 8.0) for word in words]
    scale, left = 100 / sum(sizes), 0.0
    for word, size in zip(words, sizes, strict=True):
        width = round(size * scale, 1)
        yield Share("blank" if word == NOT_DUE else LOOKS[word].family, round(left, 1), width)
        left += width


def _heads(window: Window, now: datetime) -> tuple[list[Head], list[Head]]:
    """Two lines of headings: the larger unit of time, and the columns themselves."""
    zone = ZoneInfo(window.zone)
    upper_form, lower_form = {
        "hour": ("%a %-d %b %Y", "%H"),
        "day": ("%B %Y", "%-d"),
        "week": ("%Y", "W%V"),
        "month": ("%Y", "%b"),
        "year": ("", "%Y"),
    }[window.level.name]
    local = [column.start.astimezone(zone) for column in window.columns]
    upper = [
        Head(text, len(list(group)))
        for text, group in groupby(moment.strftime(upper_form) for moment in local)
    ]
    lower = [
        Head(moment.strftime(lower_form), 1, column.label, column.contains(now))
        for moment, column in zip(local, window.columns, strict=True)
    ]
    return upper, lower


def _midnight(text: str, zone: str, *, after: bool = False) -> datetime:
    """The beginning of a day that is written as ``2026-11-20``, or of the day after it; a month or
    a year stands for its first or last day."""
    try:
        found = _date(text, after)
        days = Calendar(Granularity.DAILY, 1, zone)
        interval = days.parse(found.isoformat())
    except (ValueError, OverflowError):
        raise BadInput(f"{text!r} is no day; accepted are such as 2026-11-20") from None
    return interval.end if after else interval.start


def _date(text: str, last: bool) -> date:
    parts = [int(part) for part in text[:10].split("-")]
    if len(parts) == 3:
        return date(*parts)
    if len(parts) == 2:
        year, month = parts
        if not last:
            return date(year, month, 1)
        return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return date(parts[0], 12, 31) if last else date(parts[0], 1, 1)


def _day(instant: datetime, zone: str) -> str:
    return clock(instant, zone)[:10]
