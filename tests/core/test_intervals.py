"""Intervals and calendars: labels, arithmetic, nesting, refusals, and days with odd clocks."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.core.intervals import (
    BadCalendar,
    BadLabel,
    Calendar,
    Granularity,
    Interval,
    first_reaching,
)

Vectors = Callable[[str], list[dict[str, Any]]]

MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY = Granularity


def utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def labels(calendar: Calendar, start: datetime, end: datetime) -> list[str]:
    return [interval.label for interval in calendar.between(start, end)]


def hours_of(day: str, zone: str) -> list[tuple[str, float]]:
    """The labels of the hours of a day, with their minutes, that are not ordinary hours."""
    whole = Calendar(DAILY, zone=zone).parse(day)
    hours = list(Calendar(HOURLY, zone=zone).between(whole.start, whole.end))
    return [
        (hour.label, hour.duration / timedelta(minutes=1))
        for hour in hours
        if len(hour.label) > len("2026-11-20T17") or hour.duration != timedelta(hours=1)
    ]


# A zone for each kind of surprise: half-hour and two-hour summer time, quarter-hour offsets,
# changes at 00:01 and at midnight, skipped and repeated days, local mean time with seconds.
ZONES = (
    "UTC",
    "Etc/GMT+5",
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kwajalein",
    "America/St_Johns",
    "America/Havana",
    "America/Asuncion",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Gaza",
)
GROUPINGS = {
    MINUTELY: (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60),
    HOURLY: (1, 2, 3, 4, 6, 8, 12, 24),
    MONTHLY: (1, 2, 3, 4, 6, 12),
}
calendars = st.sampled_from(
    [
        Calendar(granularity, grouping, zone)
        for zone in ZONES
        for granularity in Granularity
        for grouping in GROUPINGS.get(granularity, (1,))
    ]
)
instants = st.datetimes(datetime(1880, 1, 1), datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(calendars, instants)
def test_an_instant_lies_in_the_interval_that_contains_it(
    calendar: Calendar, instant: datetime
) -> None:
    assert calendar.containing(instant).contains(instant)


@given(calendars, instants)
def test_a_label_leads_back_to_its_interval(calendar: Calendar, instant: datetime) -> None:
    interval = calendar.containing(instant)
    assert calendar.parse(interval.label) == interval


@given(calendars, instants)
def test_neighbours_meet_without_gap_or_overlap(calendar: Calendar, instant: datetime) -> None:
    interval = calendar.containing(instant)
    following = calendar.next(interval)
    assert following.start == interval.end
    assert following.label != interval.label
    assert calendar.previous(following) == interval
    assert calendar.starting_at(interval.start) == interval


@given(calendars, instants, st.integers(-40, 40))
def test_a_shift_there_and_back_ends_where_it_began(
    calendar: Calendar, instant: datetime, n: int
) -> None:
    interval = calendar.containing(instant)
    assert calendar.shift(calendar.shift(interval, n), -n) == interval


@given(calendars, calendars, instants)
def test_what_nests_never_sticks_out(inner: Calendar, outer: Calendar, instant: datetime) -> None:
    outer = Calendar(outer.granularity, outer.grouping, inner.zone)
    if inner.nests_in(outer):
        assert outer.containing(instant).encloses(inner.containing(instant))


@given(calendars, instants, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_between_yields_all_that_intersect_and_nothing_else(
    calendar: Calendar, start: datetime, length: timedelta
) -> None:
    end = start + length / calendar.grouping
    found = list(calendar.between(start, end))
    if start == end:
        assert found == []
        return
    assert found[0] == calendar.containing(start)
    assert found[-1] == calendar.containing(end - datetime.resolution)
    assert all(one.end == other.start for one, other in pairwise(found))


LABELS = [
    (Calendar(MINUTELY), "2026-11-20T17:31", utc(2026, 11, 20, 17, 31), 1 / 60),
    (Calendar(MINUTELY, 15), "2026-11-20T17:30", utc(2026, 11, 20, 17, 30), 1 / 4),
    (Calendar(HOURLY), "2026-11-20T17", utc(2026, 11, 20, 17), 1),
    (Calendar(HOURLY, 3), "2026-11-20T15/PT3H", utc(2026, 11, 20, 15), 3),
    (Calendar(DAILY), "2026-11-20", utc(2026, 11, 20), 24),
    (Calendar(DAILY), "2028-02-29", utc(2028, 2, 29), 24),
    (Calendar(WEEKLY), "2026-W47", utc(2026, 11, 16), 7 * 24),
    (Calendar(WEEKLY), "2026-W53", utc(2026, 12, 28), 7 * 24),
    (Calendar(WEEKLY), "2025-W01", utc(2024, 12, 30), 7 * 24),
    (Calendar(MONTHLY), "2026-11", utc(2026, 11, 1), 30 * 24),
    (Calendar(MONTHLY, 2), "2026-11/P2M", utc(2026, 11, 1), 61 * 24),
    (Calendar(QUARTERLY), "2026-Q4", utc(2026, 10, 1), 92 * 24),
    (Calendar(YEARLY), "2026", utc(2026, 1, 1), 365 * 24),
    (Calendar(YEARLY), "2028", utc(2028, 1, 1), 366 * 24),
    (Calendar(YEARLY), "0001", utc(1, 1, 1), 365 * 24),
    (Calendar(WEEKLY), "0001-W01", utc(1, 1, 1), 7 * 24),
    (Calendar(DAILY), "9999-12-30", utc(9999, 12, 30), 24),
    (Calendar(HOURLY, zone="Asia/Kathmandu"), "2026-11-20T17", utc(2026, 11, 20, 11, 15), 1),
    (Calendar(DAILY, zone="Asia/Kathmandu"), "2026-11-20", utc(2026, 11, 19, 18, 15), 24),
]


@pytest.mark.parametrize(("calendar", "label", "start", "hours"), LABELS, ids=lambda x: str(x))
def test_a_label_is_iso_8601_at_reduced_precision(
    calendar: Calendar, label: str, start: datetime, hours: float
) -> None:
    expected = Interval(start, start + timedelta(hours=hours), label)
    assert calendar.parse(label) == expected
    assert calendar.containing(start) == expected


OTHER_SPELLINGS = [
    (Calendar(HOURLY), "2026112017", "2026-11-20T17"),
    (Calendar(HOURLY, 3), "2026112015", "2026-11-20T15/PT3H"),
    (Calendar(DAILY), "2026112000", "2026-11-20"),
    (Calendar(MONTHLY), "2026110000", "2026-11"),
    (Calendar(MONTHLY, 2), "2026110000", "2026-11/P2M"),
    (Calendar(YEARLY), "2026000000", "2026"),
    (Calendar(MINUTELY, 15), "2026-11-20T17:30/PT15M", "2026-11-20T17:30"),
]


@pytest.mark.parametrize(("calendar", "text", "label"), OTHER_SPELLINGS)
def test_the_old_ten_digits_and_the_length_of_minutes_are_read(
    calendar: Calendar, text: str, label: str
) -> None:
    assert calendar.parse(text).label == label


NO_LABELS = [
    (Calendar(MINUTELY, 15), "2026-11-20T17:31"),
    (Calendar(MINUTELY, 15), "2026-11-20T17:30/PT30M"),
    (Calendar(MINUTELY), "2026112017"),
    (Calendar(HOURLY), "2026-11-20T24"),
    (Calendar(HOURLY), "2026-11-20T17:00"),
    (Calendar(HOURLY), "2026-11-20T17Z"),
    (Calendar(HOURLY), "2026-11-20T17+00:00"),
    (Calendar(HOURLY), "2026-11-20 17"),
    (Calendar(HOURLY), "2026-11-20T15/PT3H"),
    (Calendar(HOURLY, 3), "2026-11-20T15"),
    (Calendar(HOURLY, 3), "2026-11-20T16/PT3H"),
    (Calendar(HOURLY, 3), "2026112016"),
    (Calendar(DAILY), "2026-02-29"),
    (Calendar(DAILY), "2026-11-20 "),
    (Calendar(DAILY), "20261120"),
    (Calendar(DAILY), "2026112017"),
    (Calendar(DAILY), "2026-W47-5"),
    (Calendar(DAILY), "2026-11-20T00"),
    (Calendar(DAILY), "٢٠٢٦-11-20"),
    (Calendar(DAILY), ""),
    (Calendar(DAILY), "0000-01-01"),
    (Calendar(DAILY), "9999-12-31"),  # its end is beyond what datetime can tell
    (Calendar(WEEKLY), "2026-W54"),
    (Calendar(WEEKLY), "2025-W53"),
    (Calendar(WEEKLY), "2026-W7"),
    (Calendar(WEEKLY), "2026112000"),
    (Calendar(MONTHLY), "2026-13"),
    (Calendar(MONTHLY), "2026-1"),
    (Calendar(MONTHLY), "2026110100"),
    (Calendar(MONTHLY, 2), "2026-12/P2M"),
    (Calendar(MONTHLY, 2), "2026-11"),
    (Calendar(QUARTERLY), "2026-Q5"),
    (Calendar(QUARTERLY), "2026-Q0"),
    (Calendar(QUARTERLY), "2026-q1"),
    (Calendar(QUARTERLY), "2026-Q+1"),
    (Calendar(YEARLY), "26"),
    (Calendar(YEARLY), "9999"),
    (Calendar(YEARLY), "10000"),
    (Calendar(YEARLY), "2026010000"),
    (Calendar(YEARLY, zone="Asia/Tokyo"), "0001"),
    (Calendar(DAILY, zone="Pacific/Apia"), "2011-12-30"),
    (Calendar(HOURLY, zone="Pacific/Apia"), "2011-12-30T12"),
    (Calendar(HOURLY, zone="America/New_York"), "2026-03-08T02"),
    (Calendar(HOURLY, zone="America/New_York"), "2026-11-01T01"),
    (Calendar(HOURLY, zone="America/New_York"), "2026-11-01T01-06:00"),
]


@pytest.mark.parametrize(("calendar", "text"), NO_LABELS, ids=lambda x: str(x))
def test_what_is_no_label_is_refused_with_what_would_be(calendar: Calendar, text: str) -> None:
    with pytest.raises(BadLabel, match=r"accepted: .*\d"):
        calendar.parse(text)


@given(calendars, st.text(alphabet="0123456789-:+TWQPHM/", max_size=24))
def test_any_text_is_a_label_or_is_refused(calendar: Calendar, text: str) -> None:
    try:
        interval = calendar.parse(text)
    except BadLabel:
        return
    assert calendar.parse(interval.label) == interval


def test_a_repeated_hour_is_refused_with_the_two_that_it_may_mean() -> None:
    with pytest.raises(BadLabel, match=r"accepted: 2026-11-01T01-04:00 or 2026-11-01T01-05:00$"):
        Calendar(HOURLY, zone="America/New_York").parse("2026110101")


def test_an_instant_within_an_interval_starts_none() -> None:
    with pytest.raises(BadLabel, match="accepted: 2026-11-20T17:00:00"):
        Calendar(HOURLY).starting_at(utc(2026, 11, 20, 17, 5))


@pytest.mark.parametrize(
    "calendar", [Calendar(HOURLY), Calendar(YEARLY), Calendar(DAILY, zone="Asia/Tokyo")], ids=str
)
def test_beyond_the_years_that_can_be_told_there_is_no_interval(calendar: Calendar) -> None:
    with pytest.raises(BadLabel, match="years 1 to 9999"):
        calendar.containing(datetime.max.replace(tzinfo=UTC))
    early = calendar.containing(utc(2, 1, 1))
    with pytest.raises(BadLabel, match="years 1 to 9999"):
        calendar.shift(early, -10_000)


def test_any_aware_instant_is_understood() -> None:
    noon_in_tokyo = datetime(2026, 11, 20, 12, tzinfo=timezone(timedelta(hours=9)))
    assert Calendar(HOURLY).containing(noon_in_tokyo).label == "2026-11-20T03"


@pytest.mark.parametrize(
    ("granularity", "grouping", "accepted"),
    [
        (MINUTELY, 7, "1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60"),
        (HOURLY, 5, "1, 2, 3, 4, 6, 8, 12, 24"),
        (HOURLY, 0, "1, 2, 3, 4, 6, 8, 12, 24"),
        (HOURLY, -1, "1, 2, 3, 4, 6, 8, 12, 24"),
        (HOURLY, 48, "1, 2, 3, 4, 6, 8, 12, 24"),
        (DAILY, 2, "1"),
        (WEEKLY, 2, "1"),
        (MONTHLY, 5, "1, 2, 3, 4, 6, 12"),
        (QUARTERLY, 2, "1"),
        (YEARLY, 5, "1"),
    ],
)
def test_a_grouping_that_does_not_divide_is_refused(
    granularity: Granularity, grouping: int, accepted: str
) -> None:
    with pytest.raises(BadCalendar, match=f"accepted: {accepted}$"):
        Calendar(granularity, grouping)


@pytest.mark.parametrize("zone", ["", "Mars", "America", "Europe/Berlin ", "/etc/passwd", "../UTC"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadCalendar, match="accepted: UTC or an IANA name"):
        Calendar(DAILY, zone=zone)


def test_equal_calendars_are_equal_and_travel() -> None:
    calendar = Calendar(HOURLY, 3, "Europe/Berlin")
    assert calendar == Calendar(HOURLY, 3, "Europe/Berlin")
    assert hash(calendar) == hash(Calendar(HOURLY, 3, "Europe/Berlin"))
    assert calendar != Calendar(HOURLY, 3)
    restored = pickle.loads(pickle.dumps(calendar))
    assert restored == calendar
    assert restored.parse("2026-11-20T15/PT3H") == calendar.parse("2026-11-20T15/PT3H")


NESTING = {
    MINUTELY: {MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY},
    HOURLY: {HOURLY, DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY},
    DAILY: {DAILY, WEEKLY, MONTHLY, QUARTERLY, YEARLY},
    WEEKLY: {WEEKLY},
    MONTHLY: {MONTHLY, QUARTERLY, YEARLY},
    QUARTERLY: {QUARTERLY, YEARLY},
    YEARLY: {YEARLY},
}


def test_the_lattice_of_granularities_is_fixed() -> None:
    found = {inner: {o for o in Granularity if inner.nests_in(o)} for inner in Granularity}
    assert found == NESTING


@pytest.mark.parametrize(
    ("inner", "outer", "nests"),
    [
        (Calendar(HOURLY, 3), Calendar(DAILY), True),
        (Calendar(HOURLY, 24), Calendar(DAILY), True),
        (Calendar(HOURLY, 3), Calendar(HOURLY, 6), True),
        (Calendar(HOURLY, 4), Calendar(HOURLY, 6), False),
        (Calendar(HOURLY, 2), Calendar(HOURLY), False),
        (Calendar(MINUTELY, 20), Calendar(HOURLY), True),
        (Calendar(MINUTELY, 20), Calendar(MINUTELY, 30), False),
        (Calendar(MINUTELY, 60), Calendar(HOURLY, 3), True),
        (Calendar(MONTHLY, 2), Calendar(QUARTERLY), False),
        (Calendar(MONTHLY, 3), Calendar(QUARTERLY), True),
        (Calendar(MONTHLY, 6), Calendar(QUARTERLY), False),
        (Calendar(MONTHLY, 6), Calendar(YEARLY), True),
        (Calendar(MONTHLY, 2), Calendar(MONTHLY, 4), True),
        (Calendar(DAILY), Calendar(MONTHLY, 2), True),
        (Calendar(WEEKLY), Calendar(MONTHLY), False),
        (Calendar(DAILY), Calendar(HOURLY, 24), False),
        (Calendar(HOURLY), Calendar(DAILY, zone="Europe/Berlin"), False),
    ],
    ids=str,
)
def test_groups_nest_where_they_divide(inner: Calendar, outer: Calendar, nests: bool) -> None:
    assert inner.nests_in(outer) is nests


def test_an_interval_is_half_open() -> None:
    hour = Calendar(HOURLY).parse("2026-11-20T17")
    assert hour.contains(hour.start)
    assert not hour.contains(hour.end)
    assert not hour.intersects(Calendar(HOURLY).next(hour))
    assert hour.duration == timedelta(hours=1)


def test_a_day_encloses_and_intersects_its_hours() -> None:
    day = Calendar(DAILY).parse("2026-11-20")
    last = Calendar(HOURLY).parse("2026-11-20T23")
    assert day.encloses(last)
    assert day.intersects(last)
    assert not last.encloses(day)
    assert not day.encloses(Calendar(HOURLY).next(last))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 2)),
        (utc(2026, 1, 1), datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1)))),
        (utc(2026, 1, 2), utc(2026, 1, 1)),
        (utc(2026, 1, 1), utc(2026, 1, 1)),
    ],
)
def test_an_interval_is_valid_or_is_not(start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="'odd'"):
        Interval(start, end, "odd")


def test_intervals_are_ordered_by_their_start() -> None:
    zone = "America/New_York"
    night = list(Calendar(HOURLY, zone=zone).between(utc(2026, 11, 1, 4), utc(2026, 11, 1, 9)))
    assert sorted(set(night)) == night


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        ("2026-03-08", "America/New_York", 23),
        ("2026-11-01", "America/New_York", 25),
        ("2026-11-02", "America/New_York", 24),
        ("2026-10-04", "Australia/Lord_Howe", 23.5),
        ("2026-04-05", "Australia/Lord_Howe", 24.5),
        ("2026-03-29", "Antarctica/Troll", 22),
        ("2026-10-25", "Antarctica/Troll", 26),
        ("2018-11-04", "America/Sao_Paulo", 23),  # begins at 01:00
        ("2018-02-17", "America/Sao_Paulo", 25),  # its last hour is lived twice
        ("2024-10-06", "America/Asuncion", 23),
        ("2026-11-01", "America/Havana", 25),
        ("2010-03-14", "America/St_Johns", 23),
        ("2010-11-06", "America/St_Johns", 24),  # its second 23:01 belongs to the day begun
        ("2010-11-07", "America/St_Johns", 25),
        ("2011-12-29", "Pacific/Apia", 24),
        ("2011-12-31", "Pacific/Apia", 24),
        ("1969-09-30", "Pacific/Kwajalein", 47),
        ("1883-11-18", "America/New_York", 24 + 238 / 3600),
    ],
)
def test_a_day_is_as_long_as_its_clock_makes_it(day: str, zone: str, hours: float) -> None:
    assert Calendar(DAILY, zone=zone).parse(day).duration == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("zone", "before", "skipped", "after"),
    [
        ("Pacific/Apia", "2011-12-29", "2011-12-30", "2011-12-31"),
        ("Pacific/Kwajalein", "1993-08-20", "1993-08-21", "1993-08-22"),
        ("Pacific/Kiritimati", "1994-12-30", "1994-12-31", "1995-01-01"),
    ],
)
def test_a_skipped_day_has_no_interval(zone: str, before: str, skipped: str, after: str) -> None:
    days = Calendar(DAILY, zone=zone)
    assert days.next(days.parse(before)) == days.parse(after)
    with pytest.raises(BadLabel, match="clock does not skip"):
        days.parse(skipped)


def test_a_week_with_a_skipped_day_has_six() -> None:
    week = Calendar(WEEKLY, zone="Pacific/Apia").parse("2011-W52")
    assert len(labels(Calendar(DAILY, zone="Pacific/Apia"), week.start, week.end)) == 6


@pytest.mark.parametrize(
    ("day", "zone", "odd"),
    [
        ("2026-03-08", "America/New_York", []),
        (
            "2026-11-01",
            "America/New_York",
            [("2026-11-01T01-04:00", 60), ("2026-11-01T01-05:00", 60)],
        ),
        (
            "2026-10-25",
            "Europe/London",
            [("2026-10-25T01+01:00", 60), ("2026-10-25T01+00:00", 60)],
        ),
        ("2026-10-04", "Australia/Lord_Howe", [("2026-10-04T02", 30)]),
        ("2026-04-05", "Australia/Lord_Howe", [("2026-04-05T01", 90)]),
        (
            "2026-04-05",
            "Pacific/Chatham",
            [
                ("2026-04-05T02+13:45", 60),
                ("2026-04-05T03+13:45", 45),
                ("2026-04-05T02+12:45", 15),
                ("2026-04-05T03+12:45", 60),
            ],
        ),
        ("2026-09-27", "Pacific/Chatham", [("2026-09-27T02", 45), ("2026-09-27T03", 15)]),
        (
            "2026-11-01",
            "America/Havana",
            [("2026-11-01T00-04:00", 60), ("2026-11-01T00-05:00", 60)],
        ),
        (
            "2018-02-17",
            "America/Sao_Paulo",
            [("2018-02-17T23-02:00", 60), ("2018-02-17T23-03:00", 60)],
        ),
        (
            "2010-11-07",
            "America/St_Johns",
            [
                ("2010-11-07T00-02:30", 1),
                ("2010-11-06T23-03:30", 59),
                ("2010-11-07T00-03:30", 60),
            ],
        ),
        ("1883-11-18", "America/New_York", [("1883-11-18T12", 60 + 238 / 60)]),
    ],
)
def test_hours_are_cut_by_the_local_clock(
    day: str, zone: str, odd: list[tuple[str, float]]
) -> None:
    assert hours_of(day, zone) == odd


@pytest.mark.parametrize(
    ("zone", "group", "hours"),
    [
        ("America/New_York", "2026-03-08T00/PT3H", 2),
        ("America/New_York", "2026-11-01T00/PT3H", 4),
        ("Antarctica/Troll", "2026-10-25T00/PT3H", 5),
        ("Australia/Lord_Howe", "2026-04-05T00/PT3H", 3.5),
    ],
)
def test_a_group_of_hours_around_a_change_is_one_interval(
    zone: str, group: str, hours: float
) -> None:
    assert Calendar(HOURLY, 3, zone).parse(group).duration == timedelta(hours=hours)


def test_a_group_that_is_wholly_repeated_is_two_intervals() -> None:
    # Troll sets its clock back from 03:00 to 01:00, Lord Howe from 02:00 to 01:30.
    troll = Calendar(HOURLY, 2, "Antarctica/Troll")
    assert labels(troll, utc(2026, 10, 24, 22), utc(2026, 10, 25, 4)) == [
        "2026-10-25T00+02:00/PT2H",
        "2026-10-25T02+02:00/PT2H",
        "2026-10-25T00+00:00/PT2H",
        "2026-10-25T02+00:00/PT2H",
    ]
    lord_howe = Calendar(MINUTELY, 30, "Australia/Lord_Howe")
    assert labels(lord_howe, utc(2026, 4, 4, 14), utc(2026, 4, 4, 16)) == [
        "2026-04-05T01:00",
        "2026-04-05T01:30+11:00",
        "2026-04-05T01:30+10:30",
        "2026-04-05T02:00",
    ]


def test_an_offset_with_seconds_is_written_with_them() -> None:
    minutes = Calendar(MINUTELY, zone="America/New_York")
    noon = utc(1883, 11, 18, 17)
    repeated = labels(minutes, noon - timedelta(minutes=1), noon + timedelta(minutes=1))
    assert repeated == [
        "1883-11-18T12:02-04:56:02",
        "1883-11-18T12:03-04:56:02",
        "1883-11-18T12:00-05:00",
    ]


@pytest.mark.parametrize(
    ("wall", "instant"),
    [
        (utc(2026, 3, 8, 2, 30), utc(2026, 3, 8, 7)),
        (utc(2026, 11, 1, 1, 30), utc(2026, 11, 1, 5, 30)),
        (utc(2026, 7, 1, 12), utc(2026, 7, 1, 16)),
    ],
)
def test_a_time_is_reached_when_the_clock_first_shows_it_or_more(
    wall: datetime, instant: datetime
) -> None:
    assert first_reaching("America/New_York", int(wall.timestamp())) == instant.timestamp()


UPSTREAM = {"hourly": HOURLY, "daily": DAILY, "monthly": MONTHLY, "yearly": YEARLY}

# Recorded operations that have no counterpart: sessions of one second are no intervals here, and
# labels are never taken apart.
NOT_OURS = {"raw_to_session", "session_to_epoch", "session_to_hour", "tokenize_timeperiod"}
CONVERSIONS = {
    "hour_to_day": (HOURLY, DAILY),
    "day_to_month": (DAILY, MONTHLY),
    "month_to_year": (MONTHLY, YEARLY),
}


def test_the_recorded_timeperiods_are_counted_alike(vectors: Vectors) -> None:
    for case in vectors("synergy_timeperiods"):
        operation = case["op"]
        given_label: Any = case.get("timeperiod", case.get("given"))
        if operation in NOT_OURS or case.get("qualifier") == "real_time":
            continue
        if operation in CONVERSIONS:
            finer, coarser = map(Calendar, CONVERSIONS[operation])
            whole = coarser.containing(finer.parse(given_label).start)
            assert whole == coarser.parse(case["expected"]), case
            continue
        calendar = Calendar(UPSTREAM[case["qualifier"]])
        match operation:
            case "increment":
                found = calendar.shift(calendar.parse(given_label), case["delta"])
            case "to_datetime":
                start = datetime.fromisoformat(case["expected"]).replace(tzinfo=UTC)
                assert calendar.parse(given_label).start == start
                continue
            case "from_datetime":
                instant = datetime.fromisoformat(case["utc"]).replace(tzinfo=UTC)
                found = calendar.containing(instant)
            case "cast":
                # Upstream writes a month as day 00, so only the digits up to the hour are told.
                year, month, day, hour = (
                    int(given_label[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (8, 10))
                )
                found = calendar.containing(utc(year, month or 1, day or 1, hour))
            case other:
                pytest.fail(f"no such operation: {other}")
        assert found == calendar.parse(case["expected"]), case


# Where our groups are better than the recorded ones, and why.
BETTERED = {
    ("hourly", 3): "a group is named by its start, not by its last hour, and hour 00 stands with "
    "01 and 02 instead of making the first group one of four",
    ("hourly", 5): "five hours do not divide a day: the last group would be shorter",
    ("daily", 3): "days are not grouped: the last group of a month would be shorter",
    ("daily", 5): "days are not grouped: the last group of a month would be shorter",
    ("monthly", 5): "five months do not divide a year: the last group would be shorter",
    ("yearly", 3): "years are not grouped: nothing larger says where a group would begin",
}


def test_the_recorded_groupings_are_kept_or_bettered(vectors: Vectors) -> None:
    met = set()
    for case in vectors("synergy_grouping"):
        granularity, grouping = UPSTREAM[case["qualifier"]], case["grouping"]
        if case["op"] == "refuse":
            with pytest.raises(BadCalendar):
                Calendar(granularity, grouping)
        elif (case["qualifier"], grouping) in BETTERED:
            met.add((case["qualifier"], grouping))
        else:
            calendar = Calendar(granularity, grouping)
            found = calendar.containing(Calendar(granularity).parse(case["timeperiod"]).start)
            assert found.start == Calendar(granularity).parse(case["expected"]).start, case
    assert met == set(BETTERED)
