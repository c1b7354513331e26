"""Tiling where it is hardest: odd zones, all groupings, the ends of time, and trees that begin and
end within an interval.

`test_calendar_zones` goes through the changes of all zones since 2000. Here every cut is compared
with a count that knows nothing of the calendar: the clock is read step by step, and cut by the two
sentences at the top of `synergy.core.intervals`.
"""

import os
import struct
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest

from synergy.core.building import build
from synergy.core.catalog import Catalog
from synergy.core.context import (
    Context,
    ProcessDeclaration,
    daily,
    hourly,
    minutely,
    monthly,
    quarterly,
    tree,
    weekly,
    yearly,
)
from synergy.core.intervals import BadLabel, Calendar, Granularity, Interval
from synergy.testing.stage import Stage

MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY = Granularity

ALL = "SYNERGY_ALL_ZONES" in os.environ
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

#: Zone, a day with a change of its clock, and seconds: its offsets differ by multiples of them, and
#: its changes come at multiples of them on the wall.
ODD = (
    ("Australia/Lord_Howe", "2026-04-05", 60),  # half an hour back
    ("Australia/Lord_Howe", "2026-10-04", 60),
    ("Pacific/Apia", "2011-12-30", 60),  # a day that is skipped
    ("Pacific/Kwajalein", "1993-08-21", 60),  # another, going back to its side of the date line
    ("Pacific/Kwajalein", "1969-10-01", 60),  # a day lived nearly twice
    ("America/Juneau", "1867-10-19", 4),  # a day that Russia and America both had
    ("Africa/Monrovia", "1972-01-07", 30),  # three quarters of an hour forward, less half a minute
    ("Europe/Dublin", "2026-03-29", 60),  # summer is standard time, winter is set back from it
    ("Europe/Dublin", "2026-10-25", 60),
    ("Europe/Amsterdam", "1937-07-01", 4),  # 28 seconds forward
    ("Antarctica/Troll", "2026-03-29", 60),  # two hours forward
    ("Antarctica/Troll", "2026-10-25", 60),
    ("Africa/Casablanca", "2026-02-15", 60),  # summer time interrupted for Ramadan
    ("America/Sao_Paulo", "2018-11-04", 60),  # midnight is skipped
    ("America/Sao_Paulo", "2018-02-17", 60),  # set back from midnight to eleven
    ("America/St_Johns", "2006-10-29", 60),  # set back when the next day has begun
    ("Pacific/Chatham", "2026-04-05", 60),  # at a quarter to three
    ("Asia/Pyongyang", "2018-05-05", 60),  # half an hour at half past eleven
    ("Europe/Berlin", "1945-05-24", 60),  # summer time twice over
)
#: How far around a change it is looked at intervals of a granularity; the longer ones further.
REACHES = {MINUTELY: timedelta(hours=1.5), HOURLY: DAY, DAILY: 4 * DAY}
IDS = [f"{zone}-{day}" for zone, day, _ in ODD]
BY_MINUTES = [Calendar(MINUTELY, n) for n in range(1, 60) if 60 % n == 0]
BY_HOURS = [Calendar(HOURLY, n) for n in range(1, 25) if 24 % n == 0]
BY_MONTHS = [Calendar(MONTHLY, n) for n in range(1, 13) if 12 % n == 0]
BY_DATES = [Calendar(DAILY), Calendar(WEEKLY), *BY_MONTHS, Calendar(QUARTERLY), Calendar(YEARLY)]


def in_zone(calendar: Calendar, zone: str) -> Calendar:
    return Calendar(calendar.granularity, calendar.grouping, zone)


def readings(
    zone: str, start: datetime, end: datetime, step: int
) -> Iterator[tuple[datetime, datetime, int]]:
    """Each step of time with what the clock on the wall shows, and its offset in seconds."""
    info, pace = ZoneInfo(zone), timedelta(seconds=step)
    first = start.astimezone(info).utcoffset()
    assert first is not None
    start -= first % pace  # so that the steps are round ones on the wall
    while start < end:
        wall = start.astimezone(info)
        offset = wall.utcoffset()
        assert offset is not None
        yield start, wall.replace(tzinfo=UTC, fold=0), int(offset.total_seconds())
        start += pace


Read = tuple[datetime, datetime, int]


def cuts_by_clock(read: list[Read], size: int) -> list[datetime]:
    """Where the rounded clock changes, or is set back by the whole group."""
    group = timedelta(seconds=size)
    floors = [(wall - EPOCH) // group for _, wall, _ in read]
    return [
        instant
        for place, (instant, _, offset) in enumerate(read[1:], 1)
        if floors[place] != floors[place - 1] or read[place - 1][2] - offset >= size
    ]


def cuts_by_date(read: list[Read], unit: Callable[[date], object]) -> list[datetime]:
    """Where the latest date that was ever shown gets into another unit."""
    found, latest = [], read[0][1].date()
    for instant, wall, _ in read[1:]:
        shown = wall.date()
        if shown > latest:
            if unit(shown) != unit(latest):
                found.append(instant)
            latest = shown
    return found


def unit_of(calendar: Calendar) -> Callable[[date], object]:
    """What two dates have in common that lie in one interval."""
    match calendar.granularity:
        case Granularity.DAILY:
            return date.toordinal
        case Granularity.WEEKLY:
            return lambda day: day.isocalendar()[:2]
        case Granularity.MONTHLY:
            return lambda day: (day.year, (day.month - 1) // calendar.grouping)
        case Granularity.QUARTERLY:
            return lambda day: (day.year, (day.month - 1) // 3)
    return lambda day: day.year


def require_tiles(calendar: Calendar, read: list[Read], cuts: list[datetime]) -> None:
    """Require just these cuts, and labels that differ and lead back."""
    first, last = read[0][0], read[-1][0] + (read[1][0] - read[0][0])
    found = list(calendar.between(first, last))
    assert all(one.end == other.start for one, other in pairwise(found)), calendar
    assert [interval.start for interval in found if interval.start > first] == cuts, calendar
    assert found[0].start <= first < last <= found[-1].end, calendar
    assert len({interval.label for interval in found}) == len(found), calendar
    for interval in found:
        assert calendar.parse(interval.label) == interval, calendar
    # Also of an instant alone, within an hour that the clock shows again, it is told where it lies.
    known = set(found)
    for instant, *_ in read[:: max(len(read) // 500, 1)]:
        its = calendar.containing(instant)
        assert its in known, (calendar, instant)
        assert its.contains(instant), (calendar, instant)


def changed_at(read: list[Read]) -> datetime:
    """The first step at which the clock was set."""
    return next(later[0] for earlier, later in pairwise(read) if earlier[2] != later[2])


@pytest.mark.parametrize(("zone", "day", "step"), ODD, ids=IDS)
def test_every_cut_is_where_the_clock_says(zone: str, day: str, step: int) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
    around = list(readings(zone, noon - 1.5 * DAY, noon + 1.5 * DAY, step))
    assert len({offset for *_, offset in around}) > 1, "its clock does not change there"
    for calendar in BY_HOURS:
        require_tiles(
            in_zone(calendar, zone), around, cuts_by_clock(around, calendar.grouping * 3600)
        )
    # Dates are compared from some days before on, as an earlier one may be shown again.
    dates = list(readings(zone, noon - 3 * DAY, noon + 3 * DAY, step))
    for calendar in BY_DATES:
        require_tiles(in_zone(calendar, zone), dates, cuts_by_date(dates, unit_of(calendar)))
    change = changed_at(around)
    near = [read for read in around if abs(read[0] - change) < timedelta(hours=2)]
    for calendar in BY_MINUTES:
        require_tiles(in_zone(calendar, zone), near, cuts_by_clock(near, calendar.grouping * 60))


@pytest.mark.parametrize(("zone", "day", "step"), ODD, ids=IDS)
def test_what_nests_is_cut_wherever_the_larger_is(zone: str, day: str, step: int) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
    change = changed_at(list(readings(zone, noon - 1.5 * DAY, noon + 1.5 * DAY, 60)))
    calendars = [in_zone(each, zone) for each in (*BY_MINUTES, *BY_HOURS, *BY_DATES)]
    for coarse in calendars:
        reach = REACHES.get(coarse.granularity, 100 * DAY)
        for whole in coarse.between(change - reach, change + reach):
            for fine in calendars:
                if fine.nests_in(coarse):
                    assert fine.containing(whole.start).start == whole.start, (fine, whole)
                    last = fine.containing(whole.end - timedelta(seconds=1))
                    assert last.end == whole.end, (fine, whole)


@pytest.mark.parametrize("letter", sorted({zone[0] for zone in available_timezones()}))
def test_weeks_and_longer_begin_with_a_day_in_every_zone(letter: str) -> None:
    spans = ((1970, 2038),) if ALL else ((2011, 2012), (2025, 2027))
    for zone in sorted(available_timezones()):
        if zone[0] != letter:
            continue
        days = Calendar(DAILY, zone=zone)
        for first, last in spans:
            start, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last, 1, 1, tzinfo=UTC)
            begins: dict[Granularity, set[datetime]] = {}
            for granularity in (WEEKLY, MONTHLY, QUARTERLY, YEARLY):
                found = list(Calendar(granularity, zone=zone).between(start, end))
                assert all(one.end == other.start for one, other in pairwise(found)), zone
                begins[granularity] = {interval.start for interval in found}
                for interval in found:
                    day = days.containing(interval.start)
                    assert day.start == interval.start, (zone, interval)
                    wall = datetime.fromisoformat(day.label)
                    assert _named(granularity, wall.date()) == interval.label, (zone, interval)
            assert {s for s in begins[QUARTERLY] if s >= start} <= begins[MONTHLY], zone
            assert {s for s in begins[YEARLY] if s >= start} <= begins[QUARTERLY], zone


def _named(granularity: Granularity, day: date) -> str:
    year, week, _ = day.isocalendar()
    return {
        WEEKLY: f"{year:04}-W{week:02}",
        MONTHLY: f"{day:%Y-%m}",
        QUARTERLY: f"{day:%Y}-Q{(day.month + 2) // 3}",
        YEARLY: f"{day:%Y}",
    }[granularity]


@pytest.fixture
def files_of_zones() -> None:
    """Skip where Python has its zones from a package, not from the system's files."""
    if not any((Path(folder) / "Europe/Berlin").is_file() for folder in zoneinfo.TZPATH):
        pytest.skip("the system has no files of zones")


def recorded_changes(zone: str) -> list[tuple[int, int, int]]:
    """The changes that the file of a zone lists: second, and the offsets before and from it."""
    found = next(
        path for folder in zoneinfo.TZPATH if (path := Path(folder) / zone).is_file()
    ).read_bytes()
    # RFC 8536: a header with six counts, a block of 32-bit times, then both again with 64 bits.
    counts = struct.unpack(">6l", found[20:44])
    isut, isstd, leap, times, types, chars = counts
    second = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isut
    isut, isstd, leap, times, types, chars = struct.unpack(">6l", found[second + 20 : second + 44])
    at = second + 44
    instants = struct.unpack(f">{times}q", found[at : at + times * 8])
    which = found[at + times * 8 : at + times * 9]
    at += times * 9
    offsets = [struct.unpack(">l", found[at + 6 * n : at + 6 * n + 4])[0] for n in range(types)]
    changes, before = [], offsets[0]
    for instant, its in zip(instants, which, strict=True):
        if offsets[its] != before:
            changes.append((instant, before, offsets[its]))
        before = offsets[its]
    return changes


@pytest.mark.usefixtures("files_of_zones")
def test_no_zone_ever_did_what_the_calendar_takes_for_impossible() -> None:
    """It looks at a clock every other day, and only so far for what a change may reach."""
    for zone in available_timezones():
        changes = recorded_changes(zone)
        for (one, *_), (other, *_) in pairwise(changes):
            assert other - one > 3 * 86_400, (zone, one)
        for second, before, after in changes:
            assert abs(after - before) <= 86_400, (zone, second)


def kinds_of_changes() -> dict[object, tuple[str, datetime]]:
    """Every change that any file lists, with its zone; those alike (time, offsets) taken once."""
    kinds: dict[object, tuple[str, datetime]] = {}
    for zone in sorted(available_timezones()):
        for second, before, after in recorded_changes(zone):
            kind = ((second + before) % 86_400, before, after)
            place = zone, EPOCH + timedelta(seconds=second)
            kinds.setdefault((zone, second) if ALL else kind, place)
    return kinds


@pytest.mark.usefixtures("files_of_zones")
def test_hours_tile_days_and_quarters_tile_hours_around_every_kind_of_change_in_history() -> None:
    for zone, change in kinds_of_changes().values():
        days = list(Calendar(DAILY, zone=zone).between(change - DAY, change + DAY))
        for calendar in BY_HOURS:
            require_inside(days, in_zone(calendar, zone))
        reach = timedelta(hours=2)
        hours = list(Calendar(HOURLY, zone=zone).between(change - reach, change + reach))
        require_inside(hours, Calendar(MINUTELY, 15, zone))


def require_inside(wholes: list[Interval], fine: Calendar) -> None:
    """Require that the finer intervals tile the larger ones, and are named by the clock."""
    found = list(fine.between(wholes[0].start, wholes[-1].end))
    where = f"{fine} around {wholes[0].start}"
    assert (found[0].start, found[-1].end) == (wholes[0].start, wholes[-1].end), where
    assert all(one.end == other.start for one, other in pairwise(found)), where
    assert {whole.start for whole in wholes} <= {interval.start for interval in found}, where
    assert len({interval.label for interval in found}) == len(found), where
    for interval in found:
        assert fine.parse(interval.label) == interval, where
        shown = interval.start.astimezone(ZoneInfo(fine.zone))
        assert interval.label[:10] == shown.date().isoformat(), where


# ---- the ends of time


def told(calendar: Calendar, instant: datetime) -> Interval | None:
    try:
        return calendar.containing(instant)
    except BadLabel:
        return None


@pytest.mark.parametrize(
    "zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/New_York", "Europe/Amsterdam"]
)
@pytest.mark.parametrize("calendar", [*BY_MINUTES[-1:], *BY_HOURS, *BY_DATES], ids=str)
def test_at_the_ends_of_time_intervals_tile_until_none_can_be_told(
    calendar: Calendar, zone: str
) -> None:
    calendar = in_zone(calendar, zone)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    pace = timedelta(hours=1)
    reach = 3 * DAY if calendar.granularity in (MINUTELY, HOURLY) else 800 * DAY
    for edge, inwards in ((first, pace), (last, -pace)):
        if reach > 3 * DAY:
            inwards *= 24
        steps = [edge + n * inwards for n in range(reach // abs(inwards))]
        seen = [told(calendar, instant) for instant in steps]
        known = [interval for interval in seen if interval is not None]
        assert known, "far from the edge all is told"
        assert None not in seen[seen.index(known[0]) :], "what is told stays told"
        outermost = known[0]
        assert outermost.start >= first
        assert outermost.end <= last
        assert calendar.parse(outermost.label) == outermost
        further = calendar.previous if edge is first else calendar.next
        while True:  # between two steps there may be some more
            try:
                outer = further(outermost)
            except BadLabel:
                break
            assert outer.end == outermost.start or outermost.end == outer.start
            outermost = outer
        inner = calendar.next(outermost) if edge is first else calendar.previous(outermost)
        assert inner.start == outermost.end or outermost.start == inner.end


@pytest.mark.parametrize(
    ("calendar", "first", "last"),
    [
        (Calendar(MINUTELY, 15), "0001-01-01T00:00", "9999-12-31T23:30"),
        (Calendar(HOURLY), "0001-01-01T00", "9999-12-31T22"),
        (Calendar(DAILY), "0001-01-01", "9999-12-30"),
        (Calendar(WEEKLY), "0001-W01", "9999-W51"),
        (Calendar(MONTHLY), "0001-01", "9999-11"),
        (Calendar(QUARTERLY), "0001-Q1", "9999-Q3"),
        (Calendar(YEARLY), "0001", "9998"),
    ],
    ids=str,
)
def test_the_first_and_last_intervals_that_can_be_told(
    calendar: Calendar, first: str, last: str
) -> None:
    assert calendar.containing(datetime.min.replace(tzinfo=UTC)).label == first
    outermost = calendar.parse(last)
    with pytest.raises(BadLabel, match="beyond what can be told"):
        calendar.next(outermost)


def test_years_have_as_many_weeks_as_iso_says() -> None:
    weeks = Calendar(WEEKLY)
    # The years of one cycle of the Gregorian calendar, after which all repeats, and both ends.
    for year in (*range(1, 30), *range(1969, 2370), *range(9970, 9999)):
        long = date(year, 12, 28).isocalendar().week == 53
        last = weeks.parse(f"{year:04}-W{53 if long else 52}")
        assert last.end.date().isocalendar()[:2] == (year + 1, 1)
        assert last.start.weekday() == last.end.weekday() == 0
        if not long:
            with pytest.raises(BadLabel):
                weeks.parse(f"{year:04}-W53")


# ---- trees that begin and end within their intervals


def levels() -> list[ProcessDeclaration]:
    return [
        yearly("y", run="w:f"),
        quarterly("q", run="w:f"),
        monthly("m", run="w:f"),
        daily("d", run="w:f"),
        hourly("h3", run="w:f", grouping=3),
        hourly("h", run="w:f"),
        minutely("n", run="w:f", grouping=15),
    ]


def by_weeks() -> list[ProcessDeclaration]:
    return [weekly("w", run="w:f"), daily("d", run="w:f"), hourly("h", run="w:f", grouping=12)]


#: Zone, start and end: within an hour, an hour lived twice, around what is skipped.
SPANS = (
    ("UTC", "2026-11-20T07:20:00+00:00", "2026-12-01T00:00:00+00:00"),
    ("UTC", "2025-12-31T23:59:59+00:00", "2026-01-01T00:00:01+00:00"),
    ("Europe/Berlin", "2026-10-25T02:30:00+01:00", "2026-10-25T03:01:00+01:00"),
    ("Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:10:00+01:00"),
    ("Australia/Lord_Howe", "2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30"),
    ("Pacific/Apia", "2011-12-29T23:10:00-10:00", "2011-12-31T00:10:00+14:00"),
    ("America/Sao_Paulo", "2018-11-03T23:30:00-03:00", "2018-11-04T01:30:00-02:00"),
    ("America/Sao_Paulo", "2018-02-17T23:30:00-03:00", "2018-02-18T02:00:00-03:00"),
    ("Africa/Monrovia", "1972-01-06T23:00:00+00:00", "1972-01-07T02:00:00+00:00"),
    ("Antarctica/Troll", "2026-10-25T01:10:00+02:00", "2026-10-25T01:10:00+00:00"),
)


def catalog_of(declared: list[ProcessDeclaration], zone: str, start: str, until: str) -> Catalog:
    begin, end = datetime.fromisoformat(start), datetime.fromisoformat(until)
    return build(Context(tree("t", declared, zone=zone, start=begin, until=end)), begin)


@pytest.mark.parametrize("declare", [levels, by_weeks])
@pytest.mark.parametrize(("zone", "start", "until"), SPANS, ids=str)
def test_children_tile_their_parents_also_at_the_ends_of_a_tree(
    zone: str, start: str, until: str, declare: Callable[[], list[ProcessDeclaration]]
) -> None:
    catalog = catalog_of(declare(), zone, start, until)
    begin, end = datetime.fromisoformat(start), datetime.fromisoformat(until)
    names = catalog.trees["t"].processes
    of_level = {name: list(catalog.processes[name].calendar.between(begin, end)) for name in names}
    for name, intervals in of_level.items():
        calendar = catalog.processes[name].calendar
        assert all(catalog.exists(name, interval) for interval in intervals)
        assert not catalog.exists(name, calendar.previous(intervals[0]))
        assert not catalog.exists(name, calendar.next(intervals[-1]))
    for coarse, fine in pairwise(names):
        children = [
            (parent, child)
            for parent in of_level[coarse]
            for given in catalog.inputs(coarse, parent)
            for child in catalog.intervals_of(given)
        ]
        assert [child for _, child in children] == of_level[fine]
        for parent, child in children:
            assert parent.encloses(child)
            assert catalog.parent(fine, child) == (coarse, parent)


@pytest.mark.parametrize(("zone", "start", "until"), SPANS, ids=str)
def test_a_tree_with_cut_ends_is_worked_to_its_end(zone: str, start: str, until: str) -> None:
    declared = tree(
        "t",
        levels(),
        zone=zone,
        start=datetime.fromisoformat(start),
        until=datetime.fromisoformat(until),
        lag=0,
    )
    end = datetime.fromisoformat(until)
    stage = Stage(Context(declared), at=end + 400 * DAY)
    stage.work()
    wanted = {
        f"{name}@{interval.label}#1!1"
        for name, process in stage.catalog.processes.items()
        for interval in process.calendar.between(datetime.fromisoformat(start), end)
    }
    assert sorted(stage.started) == sorted(wanted)
    (year, *_) = stage.catalog.processes["y"].calendar.between(end - DAY / 86_400, end)
    assert stage.state("y", year.label) == "processed"
