"""Triggers: what is read, what is refused, when they fire, and around changes of the clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.core.triggers import At, BadTrigger, Every, Slot, Trigger, parse_trigger

Vectors = Callable[[str], list[dict[str, Any]]]

NEW_YORK = "America/New_York"


def utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def firings(trigger: Trigger, start: datetime, end: datetime, zone: str = "UTC") -> list[str]:
    """The firings after the start and up to the end, by the local clock."""
    found = []
    fire = trigger.next_after(start)
    while fire is not None and fire <= end:
        found.append(fire.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes"))
        fire = trigger.next_after(fire)
    return found


FORMS = [
    ("every 1800", "every 1800"),
    ("every  30m", "every 1800"),
    ("Every 90s", "every 90"),
    ("every 2 h", "every 7200"),
    ("every 1d", "every 86400"),
    ("at Tue-10:00,Thu-10:00,Fri-18:00", "at Tue-10:00,Thu-10:00,Fri-18:00"),
    ("at 4-18:00 , 1-9:05", "at Tue-09:05,Fri-18:00"),
    ("at sun-00:00,SUN-00:00,6-0:00", "at Sun-00:00"),
    ("at 8:30", "at *-08:30"),
    ("at *-08:30,Mon-07:00", "at *-08:30,Mon-07:00"),
    ("cron 15 3 * * *", "cron 15 3 * * *"),
    ("15  3 * * mon-fri", "cron 15 3 * * MON-FRI"),
    ("@daily", "cron 0 0 * * *"),
    ("cron @midnight", "cron 0 0 * * *"),
    ("cron @hourly", "cron 0 * * * *"),
    ("cron @weekly", "cron 0 0 * * 0"),
    ("cron @monthly", "cron 0 0 1 * *"),
    ("cron @yearly", "cron 0 0 1 1 *"),
    ("@Annually", "cron 0 0 1 1 *"),
]


@pytest.mark.parametrize(("text", "canonical"), FORMS)
def test_the_text_of_a_trigger_is_canonical_and_parses_back(text: str, canonical: str) -> None:
    trigger = parse_trigger(text, NEW_YORK)
    assert str(trigger) == canonical
    assert parse_trigger(canonical, NEW_YORK) == trigger


REFUSED = [
    "",
    "never",
    "every",
    "every 0",
    "every -5",
    "every 1.5h",
    "every 5w",
    "every five",
    "every 99999d",
    "every 99999999999999999999",
    "at",
    "at ,",
    "at 24:00",
    "at 10:60",
    "at 7-10:00",
    "at Foo-10:00",
    "at 10",
    "at Mon 10:00",
    "10:00",
    "cron",
    "cron * * * *",
    "cron 0 * * * * *",
    "0 0 * * * *",
    "cron 60 * * * *",
    "cron 0 0 30 2 *",
    "cron 0 0 31 4,6 *",
    "cron 0 0 * 2 1#6",
    "cron @reboot",
    "@every 5m",
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_trigger_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(BadTrigger, match=r"accepted: 'every 1800' .*'at Tue.*'cron 15 3 \* \* \*'"):
        parse_trigger(text)


@pytest.mark.parametrize("parts", [(7, 0, 0), (-2, 0, 0), (0, 24, 0), (0, 0, 60), (0, -1, 0)])
def test_a_time_of_the_week_is_valid_or_is_not(parts: tuple[int, int, int]) -> None:
    with pytest.raises(BadTrigger, match="names no time of the week"):
        Slot(*parts)


def test_times_of_the_week_are_at_least_one() -> None:
    with pytest.raises(BadTrigger, match="names no time"):
        At(())


@pytest.mark.parametrize("text", ["at 10:00", "cron 0 0 * * *"])
def test_an_unknown_zone_is_refused(text: str) -> None:
    with pytest.raises(BadTrigger, match="accepted: UTC or an IANA name"):
        parse_trigger(text, "Mars")


def test_a_line_of_cron_that_never_fires_is_refused() -> None:
    with pytest.raises(BadTrigger, match="never fire"):
        parse_trigger("cron 0 0 */100 * MON#4")  # the first of a month is no fourth Monday


@given(st.text(alphabet="0123456789*/,-#L @:MonTueevrycat²٣", max_size=20))
def test_any_text_is_a_trigger_or_is_refused(text: str) -> None:
    for candidate in (text, f"every {text}", f"at {text}", f"cron {text}", f"{text} * * *"):
        try:
            trigger = parse_trigger(candidate)
        except BadTrigger:
            continue
        assert parse_trigger(str(trigger)) == trigger


ZONES = ("UTC", NEW_YORK, "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns")


@given(
    st.sampled_from([canonical for _, canonical in FORMS] + ["cron */20 1 * * *"]),
    st.sampled_from(ZONES),
    st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)),
)
def test_the_next_firing_is_strictly_after_and_the_first(
    text: str, zone: str, moment: datetime
) -> None:
    trigger = parse_trigger(text, zone)
    now = moment.replace(tzinfo=UTC)
    fire = trigger.next_after(now)
    assert fire is not None
    assert fire.tzinfo is UTC
    assert fire > now
    assert trigger.next_after(fire - datetime.resolution) == fire
    assert trigger.next_after(now + (fire - now) / 2) == fire


def test_a_steady_pace_is_counted_from_1970_so_that_restarts_do_not_shift_it() -> None:
    trigger = Every(1800)
    assert trigger.next_after(utc(2026, 11, 20, 17, 3, 9)) == utc(2026, 11, 20, 17, 30)
    assert trigger.next_after(utc(2026, 11, 20, 17, 30)) == utc(2026, 11, 20, 18)
    assert Every(7).next_after(utc(1969, 12, 31, 23, 59, 55)) == utc(1970, 1, 1)


def test_times_of_the_week_follow_the_local_clock() -> None:
    trigger = parse_trigger("at Tue-10:00,Thu-10:00,Fri-18:00", NEW_YORK)
    assert firings(trigger, utc(2026, 10, 28), utc(2026, 11, 6), NEW_YORK) == [
        "2026-10-29T10:00-04:00",
        "2026-10-30T18:00-04:00",
        "2026-11-03T10:00-05:00",
        "2026-11-05T10:00-05:00",
    ]


@pytest.mark.parametrize("text", ["at 02:30", "cron 30 2 * * *"])
def test_a_skipped_time_fires_once_when_the_clock_is_set(text: str) -> None:
    trigger = parse_trigger(text, NEW_YORK)
    assert firings(trigger, utc(2026, 3, 7, 12), utc(2026, 3, 10), NEW_YORK) == [
        "2026-03-08T03:00-04:00",
        "2026-03-09T02:30-04:00",
    ]


@pytest.mark.parametrize("text", ["at 01:30", "cron 30 1 * * *"])
def test_a_repeated_time_fires_once_the_first_time(text: str) -> None:
    trigger = parse_trigger(text, NEW_YORK)
    expected = ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]
    assert firings(trigger, utc(2026, 10, 31, 12), utc(2026, 11, 3), NEW_YORK) == expected
    in_the_second_pass = utc(2026, 11, 1, 6, 15)
    assert firings(trigger, in_the_second_pass, utc(2026, 11, 3), NEW_YORK) == expected[1:]


def test_a_time_of_a_skipped_day_fires_once_at_its_end() -> None:
    trigger = parse_trigger("at Fri-10:00,Fri-12:00", "Pacific/Apia")
    assert firings(trigger, utc(2011, 12, 29), utc(2012, 1, 7), "Pacific/Apia") == [
        "2011-12-31T00:00+14:00",
        "2012-01-06T10:00+14:00",
        "2012-01-06T12:00+14:00",
    ]


def test_a_cron_line_with_a_star_follows_elapsed_time() -> None:
    hourly = parse_trigger("@hourly", NEW_YORK)
    assert len(firings(hourly, utc(2026, 11, 1, 4), utc(2026, 11, 2, 5))) == 25
    assert len(firings(hourly, utc(2026, 3, 8, 5), utc(2026, 3, 9, 4))) == 23


@pytest.mark.parametrize("text", ["every 3600", "at 10:00", "cron 0 * * * *", "cron 0 0 29 2 *"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", NEW_YORK])
def test_after_the_last_year_nothing_fires(text: str, zone: str) -> None:
    trigger = parse_trigger(text, zone)
    assert trigger.next_after(datetime.max.replace(tzinfo=UTC)) is None


# The upstream suite takes "any day" for equal to each weekday, and prints weekdays as numbers in
# the order given. Here a trigger means one thing and is written in one way.
def recorded(case: dict[str, Any]) -> Trigger:
    value = case["value"]
    return parse_trigger(f"{case['kind']} {','.join(value) if case['kind'] == 'at' else value}")


def test_the_recorded_triggers_are_read_alike(vectors: Vectors) -> None:
    for case in vectors("synergy_triggers"):
        match case["op"]:
            case "parse":
                assert parse_trigger(case["text"]) == recorded(case["expected"])
            case "format":
                assert recorded(case["given"]) == parse_trigger(case["expected"])
            case "seconds_to_next_run":
                now = instant(case["now_utc"])
                fire = parse_trigger("at " + ",".join(case["at"])).next_after(now)
                assert fire == now + timedelta(seconds=case["expected_seconds"])
            case "same_event_time":
                same = parse_trigger(f"at {case['a']}") == parse_trigger(f"at {case['b']}")
                any_day = {"-" not in case[side] or "*" in case[side] for side in "ab"}
                assert same == (case["expected"] and any_day != {True, False})
            case other:
                pytest.fail(f"no such operation: {other}")


def test_cron_fires_when_two_other_implementations_agree_that_it_does(vectors: Vectors) -> None:
    for case in vectors("cron_next_consensus"):
        if case["expected"] in (None, [None]):
            with pytest.raises(BadTrigger, match="never fire"):
                parse_trigger(f"cron {case['expr']}")
            continue
        trigger = parse_trigger(f"cron {case['expr']}")
        now = instant(case["start"])
        for expected in map(instant, case["expected"]):
            if case["direction"] == "next":
                assert trigger.next_after(now) == expected, case
            else:  # we only look forward: the firing before `now` has nothing between them
                assert trigger.next_after(expected - datetime.resolution) == expected, case
                assert (trigger.next_after(expected) or now) >= now, case
            now = expected


def test_cron_refuses_what_two_other_implementations_refuse(vectors: Vectors) -> None:
    for case in vectors("cron_reject"):
        if case["cronsim"] == case["croniter"] == "rejects" or case["fields"] != 5:
            with pytest.raises(BadTrigger):
                parse_trigger(f"cron {case['expr']}")


# Recorded lines that other crons read differently: Debian's knows no `?`, and wants both days to
# match where either begins with a star.
NOT_DEBIAN = {"30 08 ? Jul Sun", "* * */10 * Sun"}


def test_cron_matches_the_recorded_minutes(vectors: Vectors) -> None:
    for case in vectors("cron_match"):
        if case["expr"] in NOT_DEBIAN:
            continue
        minute = instant(case["at"]).replace(second=0, microsecond=0)
        trigger = parse_trigger(f"cron {case['expr']}")
        assert (trigger.next_after(minute - datetime.resolution) == minute) is case["expected"]


def test_cron_fires_through_the_recorded_ranges(vectors: Vectors) -> None:
    for case in vectors("cron_range"):
        trigger = parse_trigger(f"cron {case['expr']}")
        first, last = instant(case["start"]), instant(case["stop"])
        if case["exclude_ends"]:
            last -= datetime.resolution
        else:
            first -= datetime.resolution
        expected = [f"{time[:16]}+00:00" for time in case["expected"]]
        assert firings(trigger, first, last) == expected
