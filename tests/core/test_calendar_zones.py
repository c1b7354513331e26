"""Calendars in the zones of the world: nothing is missed, counted twice or misnamed.

Hours and minutes are cut around every change of a local clock from 2000 to 2040, days and longer
in some zones from 1990 to 2037. With SYNERGY_ALL_ZONES=1 both are done in every zone; otherwise a
change that several zones share is taken in one of them.
"""

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest

from synergy.core.intervals import Calendar, Granularity, Interval

MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY = Granularity

ALL = "SYNERGY_ALL_ZONES" in os.environ
ZONES = sorted(available_timezones())
SEED = 20261120

#: An instant, and the offsets before and from it.
Change = tuple[datetime, timedelta, timedelta]

COUNTED = {
    MINUTELY: "%Y-%m-%dT%H:%M",
    HOURLY: "%Y-%m-%dT%H",
    DAILY: "%Y-%m-%d",
    WEEKLY: "%G-W%V",
    MONTHLY: "%Y-%m",
    YEARLY: "%Y",
}


def offset(zone: str, instant: datetime) -> timedelta:
    found = instant.astimezone(ZoneInfo(zone)).utcoffset()
    assert found is not None
    return found


def changes(zone: str) -> Iterator[Change]:
    """Every change of the local clock from 2000 to 2040, found without help of the calendar."""
    step, second = timedelta(days=3), timedelta(seconds=1)
    low = datetime(2000, 1, 1, tzinfo=UTC)
    before = offset(zone, low)
    while low.year < 2040:
        high = low + step
        after = offset(zone, high)
        if after != before:
            early, late = low, high
            while late - early > second:
                middle = early + (late - early) // 2 // second * second
                early, late = (middle, late) if offset(zone, middle) == before else (early, middle)
            yield late, before, after
        low, before = high, after


@cache
def changes_of_all() -> dict[Change, list[str]]:
    """Every change with the zones that make it."""
    found: dict[Change, list[str]] = {}
    for zone in ZONES:
        for change in changes(zone):
            found.setdefault(change, []).append(zone)
    return found


def check(calendar: Calendar, start: datetime, end: datetime) -> list[Interval]:
    """Require that the intervals tile the time, are named apart and by the clock."""
    found = list(calendar.between(start, end))
    where = f"{calendar} from {start}"
    assert found[0].start <= start < found[0].end, where
    assert found[-1].start < end <= found[-1].end, where
    assert all(one.end == other.start for one, other in pairwise(found)), where
    assert len({interval.label for interval in found}) == len(found), where
    written = COUNTED.get(calendar.granularity)
    zone = ZoneInfo(calendar.zone)
    for interval in found:
        assert calendar.parse(interval.label) == interval, where
        if written and calendar.grouping == 1:
            shown = interval.start.astimezone(zone).strftime(written)
            assert interval.label.startswith(shown), (where, interval, shown)
            last = (interval.end - timedelta(seconds=1)).astimezone(zone).strftime(written)
            assert last == shown, (where, interval, last)
    return found


def test_hours_tile_days_around_every_change_of_a_clock() -> None:
    two_days = timedelta(days=2)
    for (instant, *_), zones in changes_of_all().items():
        for zone in zones if ALL else zones[:1]:
            days = check(Calendar(DAILY, zone=zone), instant - two_days, instant + two_days)
            hours = check(Calendar(HOURLY, zone=zone), days[0].start, days[-1].end)
            assert {day.start for day in days} <= {hour.start for hour in hours}
            assert hours[0].start == days[0].start


def test_groups_tile_hours_and_minutes_tile_groups_around_every_kind_of_change() -> None:
    kinds = {}
    for (instant, before, after), zones in changes_of_all().items():
        wall = (instant + before).time()
        for zone in zones if ALL else zones[:1]:
            kinds[(zone, instant) if ALL else (wall, before, after)] = zone, instant
    for zone, instant in kinds.values():
        day, hour = timedelta(days=2), timedelta(hours=4)
        for finer, coarser in ((1, 2), (2, 6), (3, 12), (1, 24)):
            groups = check(Calendar(HOURLY, coarser, zone), instant - day, instant + day)
            parts = check(Calendar(HOURLY, finer, zone), groups[0].start, groups[-1].end)
            assert {group.start for group in groups} <= {part.start for part in parts}
        hours = check(Calendar(HOURLY, zone=zone), instant - hour, instant + hour)
        for minutes in (15, 1):
            parts = check(Calendar(MINUTELY, minutes, zone), hours[0].start, hours[-1].end)
            assert {whole.start for whole in hours} <= {part.start for part in parts}


@pytest.mark.parametrize("zone", ZONES if ALL else random.Random(SEED).sample(ZONES, 12))
def test_days_and_longer_tile_half_a_century(zone: str) -> None:
    start, end = datetime(1990, 1, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
    days = check(Calendar(DAILY, zone=zone), start, end)
    begins = {day.start for day in days}
    for longer in (WEEKLY, MONTHLY, QUARTERLY, YEARLY):
        assert {
            whole.start for whole in check(Calendar(longer, zone=zone), start, end)[1:]
        } <= begins
    for day in days:
        # A day begins when the clock first shows its date, so just before it shows an earlier one.
        wall = (day.start - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
        assert wall.date().isoformat() < day.label


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_hours_tile_some_years(zone: str) -> None:
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert len(check(Calendar(HOURLY, zone=zone), start, end)) >= 2 * 365 * 24
