"""Half-open UTC intervals of the calendar, cut by the local clock of a zone.

A `Calendar` cuts the whole time line into intervals: they follow one another without gap or
overlap, each has a label of its own, and the label leads back to it. The rule has two halves.

*Days and longer.* A date begins at the first instant at which the local clock shows that date or
a later one, and lasts until the next date begins. Where the clock is set forward over midnight
the day begins at the change itself; where it is set back over midnight, the hour that is lived
twice stays with the day that has already begun. A date that the clock skips altogether (Apia,
30 December 2011) would have no length and is no interval. Weeks, months, quarters and years begin
with their first day.

*Hours, minutes and groups of them.* The local clock, rounded down to the group, is constant for a
while: such a while is an interval. A clock set forward or back within a group therefore only
shortens or lengthens it: three hours by the clock last two or four, and the hour in which Lord
Howe gains half an hour lasts ninety minutes. There is one exception: when the clock is set back
by the whole group, from its end to its beginning, the two passes are two intervals, as people
expect of an hour that is lived twice. Intervals that would share a label carry the offset with
which they begin: `2026-10-25T02+02:00`, `2026-10-25T02+01:00`. What the clock skips has no
interval.

A date begins where the rounded clock changes too, so hours tile days, and finer groups tile the
coarser groups that they divide. The arithmetic is done in whole seconds since 1970: offsets, and
so all cuts, are whole seconds.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from dataclasses import field
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from synergy.core.values import dataclass


class BadCalendar(ValueError):
    """A calendar was described by a zone or a grouping that does not exist."""


class BadLabel(ValueError):
    """A text or an instant does not denote an interval of the calendar."""


class Granularity(enum.Enum):
    """How long the intervals of a calendar are."""

    #: minutes, or N of them: `2026-11-20T17:30`
    MINUTELY = "minutely"
    #: hours, or N of them: `2026-11-20T17`, `2026-11-20T15/PT3H`
    HOURLY = "hourly"
    #: days: `2026-11-20`
    DAILY = "daily"
    #: ISO weeks, from Monday: `2026-W47`
    WEEKLY = "weekly"
    #: months, or N of them: `2026-11`, `2026-11/P2M`
    MONTHLY = "monthly"
    #: quarters: `2026-Q4`
    QUARTERLY = "quarterly"
    #: years: `2026`
    YEARLY = "yearly"

    def nests_in(self, other: Granularity) -> bool:
        """Whether one `other` always holds whole ones of this; each nests in itself."""
        return _NOMINAL[other] % _NOMINAL[self] == 0


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open stretch of time `[start, end)` and its label."""

    #: the first instant that belongs to it, aware UTC
    start: datetime
    #: the first instant that no longer does, aware UTC
    end: datetime
    #: ISO 8601 at reduced precision, unique within its calendar
    label: str

    def __post_init__(self) -> None:
        if self.start.tzinfo is not UTC or self.end.tzinfo is not UTC:
            raise ValueError(
                f"interval {self.label!r} has bounds {self.start!r}, {self.end!r}; "
                "they must be aware datetimes with tzinfo datetime.UTC"
            )
        if self.start >= self.end:
            raise ValueError(
                f"interval {self.label!r} ends at {self.end}, not after its start {self.start}"
            )

    @property
    def duration(self) -> timedelta:
        """How long it lasts on a clock that is never set."""
        return self.end - self.start

    def contains(self, instant: datetime) -> bool:
        """Whether the instant lies in it; the end does not."""
        return self.start <= instant < self.end

    def intersects(self, other: Interval) -> bool:
        """Whether they share any instant."""
        return self.start < other.end and other.start < self.end

    def encloses(self, other: Interval) -> bool:
        """Whether all of the other lies in it."""
        return self.start <= other.start and other.end <= self.end


@dataclass(frozen=True, slots=True)
class Calendar:
    """All intervals of one granularity, grouping and zone."""

    granularity: Granularity
    #: how many make one interval: minutes dividing 60, hours dividing 24, months dividing 12
    grouping: int = 1
    #: IANA name of the zone whose local clock cuts
    zone: str = "UTC"
    _cut: _Cut = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole = _GROUPED.get(self.granularity, 1)
        if self.grouping < 1 or whole % self.grouping:
            accepted = ", ".join(str(n) for n in range(1, whole + 1) if whole % n == 0)
            raise BadCalendar(
                f"{self.granularity.value} intervals cannot be grouped by {self.grouping}; "
                f"accepted: {accepted}"
            )
        _zone_info(self.zone)
        object.__setattr__(self, "_cut", _cut(self.granularity, self.grouping, self.zone))

    def containing(self, instant: datetime) -> Interval:
        """Return the interval in which the instant lies."""
        told = self._cut.told
        if told is not None and told.start <= instant < told.end:
            return told
        since = instant - _EPOCH
        return self._around(since.days * _DAY + since.seconds)

    def next(self, interval: Interval) -> Interval:
        """Return the interval that follows, beginning where the given one ends."""
        cut = self._cut
        if interval is cut.told and (following := cut.following(interval)) is not None:
            cut.told = following
            return following
        since = interval.end - _EPOCH
        return self._around(since.days * _DAY + since.seconds)

    def previous(self, interval: Interval) -> Interval:
        """Return the interval that precedes, ending where the given one begins."""
        since = interval.start - _EPOCH
        return self._around(since.days * _DAY + since.seconds - 1)

    def shift(self, interval: Interval, n: int) -> Interval:
        """Return the n-th interval after the given one, or before it when n is negative."""
        step = self.next if n > 0 else self.previous
        for _ in range(abs(n)):
            interval = step(interval)
        return interval

    def between(self, start: datetime, end: datetime) -> Iterator[Interval]:
        """Yield all intervals that intersect `[start, end)`, in order."""
        if start >= end:
            return
        interval = self.containing(start)
        yield interval
        while interval.end < end:
            interval = self.next(interval)
            yield interval

    def parse(self, label: str) -> Interval:
        """Return the interval with this label.

        Accepts besides the old ten digits `YYYYMMDDHH`, and minute groups with `/PT15M` added.
        """
        text = self._modern(label)
        try:
            candidates = self._cut.named(text)
        except (ValueError, OverflowError):
            candidates = []
        for interval in candidates:
            if interval.label == text:
                return interval
        if len(candidates) > 1:
            accepted = " or ".join(interval.label for interval in candidates)
            raise BadLabel(f"{label!r} happens twice in {self.zone}; accepted: {accepted}")
        raise BadLabel(
            f"{label!r} is no interval of the {self}; accepted: labels such as "
            f"{_EXAMPLES[self.granularity]}{self._cut.suffix} that its clock does not skip"
        )

    def starting_at(self, instant: datetime) -> Interval:
        """Return the interval that starts exactly at the instant."""
        interval = self.containing(instant)
        if interval.start != instant:
            raise BadLabel(
                f"no interval of the {self} starts at {instant.isoformat()}; "
                f"accepted: {interval.start.isoformat()}, the start of {interval.label}"
            )
        return interval

    def nests_in(self, other: Calendar) -> bool:
        """Whether every interval of this calendar lies within one of the other."""
        return (
            self.zone == other.zone
            and self.granularity.nests_in(other.granularity)
            and other._nominal % self._nominal == 0
        )

    def __str__(self) -> str:
        by = f" by {self.grouping}" if self.grouping > 1 else ""
        return f"{self.granularity.value}{by} calendar of {self.zone}"

    @property
    def _nominal(self) -> int:
        return _NOMINAL[self.granularity] * self.grouping

    def _around(self, second: int) -> Interval:
        cut = self._cut
        try:
            cut.told = told = cut.containing(second)
            return told
        except (ValueError, OverflowError):
            raise BadLabel(
                f"an interval of the {self} would reach beyond what can be told; "
                "accepted: intervals that begin and end within the years 1 to 9999"
            ) from None

    def _modern(self, label: str) -> str:
        """Rewrite the other accepted spellings as the label, which `parse` then looks up."""
        minutes, _, suffix = label.partition("/")
        if self.granularity is Granularity.MINUTELY and suffix == f"PT{self.grouping}M":
            return minutes
        old = _TEN_DIGITS.fullmatch(label)
        if old is None:
            return label
        year, month, day, hour = old.groups()
        match self.granularity, month, day, hour:
            case Granularity.HOURLY, _, _, _:
                return f"{year}-{month}-{day}T{hour}{self._cut.suffix}"
            case Granularity.DAILY, _, _, "00":
                return f"{year}-{month}-{day}"
            case Granularity.MONTHLY, _, "00", "00":
                return f"{year}-{month}{self._cut.suffix}"
            case Granularity.YEARLY, "00", "00", "00":
                return year
        return label


@lru_cache(maxsize=4096)
def first_reaching(zone: str, local: int) -> int:
    """Return the first second at which the clock of the zone shows `local` or later.

    Both are counted from 1970, `local` by the calendar on the wall. A time that is skipped is
    reached when the clock is set forward over it, a repeated one when it is first shown.
    """
    for start, end, offset in _stretches(zone, local // _CHUNK):
        if local - offset < end:
            return max(start, local - offset)
    raise OverflowError(local)


class _Cut(Protocol):
    """A way to cut the time line."""

    #: what follows the time in the labels of groups, such as `/PT3H`
    suffix: str
    #: the interval that was told last: of a day, its hours ask one after the other
    told: Interval | None

    def containing(self, second: int) -> Interval:
        """Return the interval in which the second lies."""

    def following(self, interval: Interval) -> Interval | None:
        """Return the interval after the given one of this cut, where that takes no search."""

    def named(self, label: str) -> list[Interval]:
        """Return the intervals at the time that the label tells: several if it is repeated.

        Reads generously (ValueError where there is no time at all): that an interval has exactly
        this label is for the caller to compare.
        """


class _ClockCut:
    """Hours and minutes: while the local clock, rounded down to `size` seconds, is constant."""

    def __init__(self, zone: str, size: int, timespec: str, suffix: str) -> None:
        self.suffix = suffix
        self.told: Interval | None = None
        self._zone = zone
        #: a stretch of constant offset without its ends, and the offset: where no clock is set
        self._calm = 0, 0, 0
        #: its bounds in the types of datetime, and what the local clock shows at the first
        self._calm_time = _EPOCH, _EPOCH, _WALL_EPOCH
        self._size = size
        self._length = timedelta(0, size)
        self._timespec = timespec
        self._width = len(_WALL_EPOCH.isoformat(timespec=timespec))

    def containing(self, second: int) -> Interval:
        start, end, offset = self._calm
        if not start < second < end:
            start, end, offset = _stretch(self._zone, second)
            start, end, offset = self._calm = start + _REACH, end - _REACH, offset
            first = max(start, _FIRST)
            wall = _WALL_EPOCH + timedelta(0, first + offset)
            self._calm_time = _instant(first), _instant(min(end, _LAST)), wall
        floor = (second + offset) // self._size * self._size
        if start < second < end:
            return self._interval(floor, floor - offset, floor - offset + self._size)
        runs = self._runs(floor)
        run = next(run for run in runs if run.start <= second < run.end)
        return self._interval(floor, run.start, run.end, run.offset if len(runs) > 1 else None)

    def following(self, interval: Interval) -> Interval | None:
        first, last, wall = self._calm_time
        start = interval.end
        if not first < start < last:
            return None
        label = (wall + (start - first)).isoformat("T", self._timespec) + self.suffix
        return Interval(start, start + self._length, label)

    def named(self, label: str) -> list[Interval]:
        wall = datetime.fromisoformat(label[: self._width])
        floor = (wall - _WALL_EPOCH) // _SECOND // self._size * self._size
        runs = self._runs(floor)
        return [
            self._interval(floor, start, end, offset if len(runs) > 1 else None)
            for start, end, offset in runs
        ]

    def _runs(self, floor: int) -> list[_Stretch]:
        """Return every while for which the rounded clock shows `floor`, with its first offset."""
        runs: list[_Stretch] = []
        before = 0
        for start, end, offset in _stretches(self._zone, floor // _CHUNK):
            begin = max(start, floor - offset)
            finish = min(end, floor - offset + self._size)
            if begin < finish:
                if runs and runs[-1].end == begin and before - offset < self._size:
                    runs[-1] = runs[-1]._replace(end=finish)
                else:
                    runs.append(_Stretch(begin, finish, offset))
            before = offset
        return runs

    def _interval(self, floor: int, start: int, end: int, offset: int | None = None) -> Interval:
        """Of what begins when the clock shows `floor`; with its offset where that is repeated."""
        wall = _WALL_EPOCH + timedelta(0, floor)
        if offset is not None:
            wall = wall.replace(tzinfo=timezone(offset * _SECOND))
        label = wall.isoformat(timespec=self._timespec) + self.suffix
        return Interval(_instant(start), _instant(end), label)


class _DateCut:
    """Days and longer: from the first instant of one date to the first instant of another."""

    def __init__(self, zone: str, granularity: Granularity, grouping: int) -> None:
        self.suffix = f"/P{grouping}M" if grouping > 1 else ""
        self.told: Interval | None = None
        self._zone = zone
        self._write, self._read = _SPELLINGS[granularity]
        #: the length of a unit, in months or in days
        self._months = _NOMINAL[granularity] * grouping // _NOMINAL[Granularity.MONTHLY]
        self._days = _NOMINAL[granularity] // _DAY
        # The same few units are asked for by all that is built on them.
        self._begin = lru_cache(maxsize=_REMEMBERED)(self._first_second)
        self._interval = lru_cache(maxsize=_REMEMBERED)(self._cut_out)

    def containing(self, second: int) -> Interval:
        today = date.fromordinal((second + _stretch(self._zone, second).offset) // _DAY + _DAY_ZERO)
        unit = self._unit(today)
        # The clock may show a date again after the next one has begun: that hour is the next one's.
        while self._begin(unit + 1) <= second:
            unit += 1
        return self._interval(unit)

    def following(self, interval: Interval) -> Interval | None:
        return None

    def named(self, label: str) -> list[Interval]:
        unit = self._unit(self._read(label.removesuffix(self.suffix)))
        return [self._interval(unit)] if self._begin(unit) < self._begin(unit + 1) else []

    def _unit(self, day: date) -> int:
        """Number the unit that the date lies in."""
        if self._months:
            return (day.year * 12 + day.month - 1) // self._months
        return (day.toordinal() - 1) // self._days  # the first day of year 1 is a Monday

    def _first_day(self, unit: int) -> date:
        if self._months:
            year, month = divmod(unit * self._months, 12)
            return date(year, month + 1, 1)
        return date.fromordinal(unit * self._days + 1)

    def _first_second(self, unit: int) -> int:
        return first_reaching(self._zone, (self._first_day(unit).toordinal() - _DAY_ZERO) * _DAY)

    def _cut_out(self, unit: int) -> Interval:
        return Interval(
            _instant(self._begin(unit)),
            _instant(self._begin(unit + 1)),
            self._write(self._first_day(unit)) + self.suffix,
        )


@lru_cache(maxsize=1024)
def _cut(granularity: Granularity, grouping: int, zone: str) -> _Cut:
    match granularity:
        case Granularity.MINUTELY:
            return _ClockCut(zone, 60 * grouping, "minutes", "")
        case Granularity.HOURLY:
            suffix = f"/PT{grouping}H" if grouping > 1 else ""
            return _ClockCut(zone, 3_600 * grouping, "hours", suffix)
        case _:
            return _DateCut(zone, granularity, grouping)


def _write_week(first: date) -> str:
    year, week, _ = first.isocalendar()
    return f"{year:04}-W{week:02}"


#: How the first day of an interval is written as its label, and a label read as a day.
_SPELLINGS: Final[dict[Granularity, tuple[Callable[[date], str], Callable[[str], date]]]] = {
    Granularity.DAILY: (date.isoformat, date.fromisoformat),
    Granularity.WEEKLY: (_write_week, lambda label: date.fromisoformat(f"{label}-1")),
    Granularity.MONTHLY: (
        lambda first: first.isoformat()[:7],
        lambda label: date.fromisoformat(f"{label}-01"),
    ),
    Granularity.QUARTERLY: (
        lambda first: f"{first.year:04}-Q{(first.month + 2) // 3}",
        lambda label: date(int(label[:4]), int(label[6:]) * 3 - 2, 1),
    ),
    Granularity.YEARLY: (
        lambda first: first.isoformat()[:4],
        lambda label: date.fromisoformat(f"{label}-01-01"),
    ),
}


class _Stretch(NamedTuple):
    """A stretch of time, in seconds, and the offset of the local clock in it."""

    start: int
    end: int
    offset: int


def _stretch(zone: str, second: int) -> _Stretch:
    """Return the stretch in which the second lies."""
    for stretch in _stretches(zone, second // _CHUNK):
        if second < stretch.end:
            return stretch
    raise OverflowError(second)


@lru_cache(maxsize=4096)
def _stretches(zone: str, chunk: int) -> tuple[_Stretch, ...]:
    """Return the stretches of constant offset in a chunk of time, and some days around it.

    Whoever asks about a second of the chunk, local or universal, is told about everything that
    can matter to it. zoneinfo does not list its transitions, so the offsets are compared.
    """
    first, last = chunk * _CHUNK - 2 * _REACH, (chunk + 1) * _CHUNK + 2 * _REACH
    info = _zone_info(zone)
    probes = [(second, _offset(info, second)) for second in range(first, last + _PROBE, _PROBE)]
    changes = [change for low, high in pairwise(probes) for change in _changes(info, low, high)]
    return tuple(
        _Stretch(start, end, offset)
        for (start, offset), (end, _) in pairwise([probes[0], *changes, probes[-1]])
    )


def _changes(
    info: ZoneInfo, low: tuple[int, int], high: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Yield the seconds between two probes at which the offset changes, with the new offset."""
    if low[1] == high[1]:
        return
    if high[0] - low[0] == 1:
        yield high
        return
    second = (low[0] + high[0]) // 2
    middle = second, _offset(info, second)
    yield from _changes(info, low, middle)
    yield from _changes(info, middle, high)


def _offset(info: ZoneInfo, second: int) -> int:
    # Beyond its first and last days datetime cannot tell local times; clocks are not set there.
    second = min(max(second, _FIRST), _LAST)
    offset = (_EPOCH + second * _SECOND).astimezone(info).utcoffset()
    assert offset is not None
    return offset // _SECOND


def _instant(second: int) -> datetime:
    return _EPOCH + timedelta(0, second)


@lru_cache(maxsize=1024)
def _zone_info(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # OSError: the name is that of a region, a folder
        raise BadCalendar(
            f"the zone {zone!r} is unknown; accepted: UTC or an IANA name such as Europe/Berlin"
        ) from None


_SECOND: Final = timedelta(seconds=1)
_DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WALL_EPOCH: Final = datetime(1970, 1, 1)
_DAY_ZERO: Final = _EPOCH.toordinal()
_FIRST: Final = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _SECOND
_LAST: Final = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _SECOND
#: How far a change of the clock reaches: no clock was ever set by more than a day, and the
#: longest group of hours lasts another.
_REACH: Final = 2 * _DAY
#: No zone ever changed its offset twice within three days (the closest, Freetown in September
#: 1939, took four): two probes that agree have nothing between them.
_PROBE: Final = 2 * _DAY
#: About a year: what is found out about a zone at a time.
_CHUNK: Final = 400 * _DAY
#: So many of its units does a cut remember: ten years of days.
_REMEMBERED: Final = 4096

#: Of what whole a group must be a part, for the granularities that can be grouped.
_GROUPED: Final = {Granularity.MINUTELY: 60, Granularity.HOURLY: 24, Granularity.MONTHLY: 12}
#: Nominal seconds. Months have thirty days here, of which weeks are no part, and this makes the
#: lattice of nesting a matter of division.
_NOMINAL: Final = {
    Granularity.MINUTELY: 60,
    Granularity.HOURLY: 3_600,
    Granularity.DAILY: _DAY,
    Granularity.WEEKLY: 7 * _DAY,
    Granularity.MONTHLY: 30 * _DAY,
    Granularity.QUARTERLY: 90 * _DAY,
    Granularity.YEARLY: 360 * _DAY,
}
_TEN_DIGITS: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})")
#: What a refusal shows as accepted.
_EXAMPLES: Final = {
    Granularity.MINUTELY: "2026-11-20T17:30",
    Granularity.HOURLY: "2026-11-20T12",
    Granularity.DAILY: "2026-11-20",
    Granularity.WEEKLY: "2026-W47",
    Granularity.MONTHLY: "2026-01",
    Granularity.QUARTERLY: "2026-Q4",
    Granularity.YEARLY: "2026",
}
