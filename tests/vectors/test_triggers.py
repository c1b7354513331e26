"""Recorded firings of other schedulers' triggers, written in ours.

We fire at whole minutes, at whole multiples of a pace, or by a cron line; what asks for more is
listed as not ours.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from synergy.core.triggers import BadTrigger, parse_trigger
from tests.vectors.recorded import Case, each

_MOMENT = datetime.resolution


def instant(text: str) -> datetime:
    """An instant; what names no zone is meant in UTC."""
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def firings(text: str, zone: str, after: datetime, count: int) -> list[datetime | None] | str:
    """The next firings, None once there is no more; "refused" where there is no such trigger."""
    try:
        trigger = parse_trigger(text, zone)
    except BadTrigger:
        return "refused"
    found: list[datetime | None] = []
    while len(found) < count:
        fire = trigger.next_after(after)
        found.append(fire)
        if fire is None:
            break
        after = fire
    return found


def before(text: str, times: list[datetime], until: datetime) -> list[datetime | None] | str:
    """Those of the given times, latest first, at which it fires, with nothing in between.

    We only look forward, so what comes before an instant is proposed and verified.
    """
    try:
        trigger = parse_trigger(text)
    except BadTrigger:
        return "refused"
    found: list[datetime | None] = []
    for time in times:
        following = trigger.next_after(time)
        if trigger.next_after(time - _MOMENT) == time and (following or until) >= until:
            found.append(time)
            until = time
    return found


def told(times: list[datetime | None] | str) -> list[str | None] | str:
    """As text, for the table of exceptions."""
    if isinstance(times, str):
        return times
    return [time.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-7] if time else None for time in times]


@each("cron_next_contested")
def test_where_crons_differ_ours_reads_as_debians(case: Case) -> None:
    """Cronsim answers for Debian's cron; it was recorded beside the ones that differ from it."""
    answers = case["answers"]
    debian: Any = answers.get("cronsim", answers.get("cronsim (recomputed)"))
    times = next(answer for answer in (debian, *answers.values()) if answer != "rejects")
    text, start = f"cron {case['expr']}", instant(case["start"])
    if case["direction"] == "next":
        ours = firings(text, "UTC", start, len(times))
    else:
        ours = before(text, [instant(time) for time in times], start)
    case.compare(told(ours), "refused" if debian == "rejects" else debian)


@each("small_dependency_scheduler")
def test_a_schedule_fires_when_recorded(case: Case) -> None:
    text = f"cron {case['expr'] if 'expr' in case.vector else case['schedule']}"
    at, expected = instant(case["at"]), instant(case["expected"])
    itself = _MOMENT if case["inclusive"] else timedelta(0)
    if case["op"].startswith("next"):
        ours = firings(text, "UTC", at - itself, 1)
    else:
        ours = before(text, [expected], at + itself)
    case.compare(told(ours), [case["expected"]])


#: Recorded recurrences in our words; the file tells them as parameters of iCalendar's rules.
RECURRENCES = {
    "HOURLY": "cron 45 * * * *",
    "HOURLY interval:6": "cron 45 4/6 * * *",
    "DAILY": "at 22:45",
    "DAILY byhour:6;byminute:30;bysecond:0": "at 06:30",
    "WEEKLY byweekday:MO,TH": "at Mon-22:45,Thu-22:45",
    "WEEKLY byweekday:1,2,4,5": "at 1-22:45,2-22:45,4-22:45,5-22:45",
    "MONTHLY": "cron 45 22 31 * *",
    "MONTHLY bymonthday:1;byhour:0;byminute:0;bysecond:0": "@monthly",
    "MONTHLY bymonthday:-1": "cron 45 22 L * *",
    "MONTHLY bymonthday:31": "cron 45 22 31 * *",
    "YEARLY": "cron 45 22 31 1 *",
    "YEARLY bymonth:2;bymonthday:29": "cron 45 22 29 2 *",
    "MINUTELY interval:15": "every 15m",
    "HOURLY byhour:9,10,11;byminute:0;bysecond:0": "cron 0 9-11 * * *",
    "MONTHLY byweekday:FR;bysetpos:-1": "cron 45 22 * * 5L",
}


@each("chroniker", "recurrence")
def test_what_recurs_fires_when_recorded_to_the_minute(case: Case) -> None:
    text = RECURRENCES[f"{case['frequency']} {case['params']}".strip()]
    recorded = [instant(time).replace(second=0) for time in case["expected"]]
    found = firings(text, "UTC", instant(case["start"]), len(recorded))
    case.compare(told(found), told([*recorded]))


@each("chroniker", "params")
def test_what_cannot_be_read_is_refused(case: Case) -> None:
    name, value = case["params"].split(":")
    text = {"byweekday": f"at {value}-10:00", "interval": f"every {value}"}[name]
    case.compare(firings(text, "UTC", instant("2024-01-31"), 1), case["expected"])


def line_of(fields: dict[str, Any]) -> str:
    """The cron line of recorded fields: those finer than the finest given one are zero."""
    names = ("minute", "hour", "day", "month", "day_of_week")
    lowest = {"minute": "0", "hour": "0", "day": "1"}
    # Weekdays stand beside the days of the month: they leave those open, and the hour at zero.
    coarse_first = ("month", "day", "day_of_week", "hour", "minute")
    given = [name for name in coarse_first if name in fields]
    finest = coarse_first.index(given[-1])
    line = {
        name: "*" if place <= finest or name in ("day_of_week", "month") else lowest[name]
        for place, name in enumerate(coarse_first)
    }
    return "cron " + " ".join(str(fields.get(name, line[name])) for name in names)


def pace_of(fields: dict[str, Any]) -> str:
    seconds = {"seconds": 1, "hours": 3_600, "days": 86_400}
    return f"every {sum(fields.get(unit, 0) * size for unit, size in seconds.items())}"


def text_of(case: Case) -> str:
    """A recorded trigger in our words."""
    fields = case["fields"]
    match case["trigger"]:
        case "CronTrigger":
            return line_of(fields)
        case "IntervalTrigger":
            return pace_of(fields)
        case "CalendarIntervalTrigger" if fields.get("months") == 1:
            return "@monthly"
    return pace_of({})


@each("apscheduler_triggers", "fire_times")
def test_a_trigger_fires_when_recorded(case: Case) -> None:
    fields = case["fields"]
    recorded = [fire and instant(fire["utc"]) for fire in case["expected"]]
    start = fields.get("start_time", fields.get("start_date"))
    after = (instant(start["utc"]) if start else recorded[0]) - _MOMENT
    zone = fields.get("timezone", "UTC").replace("datetime.timezone.utc", "UTC")
    case.compare(told(firings(text_of(case), zone, after, len(recorded))), told(recorded))


@each("apscheduler_triggers", "refuse")
def test_a_trigger_that_means_nothing_is_refused(case: Case) -> None:
    found = firings(text_of(case), "UTC", instant("2009-01-01"), 1)
    case.compare(told(found), "refused")


@each("apscheduler_triggers", "crontab_fields")
def test_a_cron_line_keeps_its_fields(case: Case) -> None:
    names = ("minute", "hour", "day", "month", "day_of_week")
    recorded = {name: case["fields"][name] for name in names}
    try:
        line = str(parse_trigger(f"cron {case['expr']}"))
    except BadTrigger:
        case.compare("refused", recorded)
        return
    ours = dict(zip(names, line.lower().split()[1:], strict=True))
    case.compare(ours, recorded)


#: Recorded calendar expressions in our words, by their place in the file. Those of one year are
#: the same date of every year, looked at from the beginning of that year.
CALENDAR = {
    **dict.fromkeys((68, 71, 72, 73, 74), ("cron 17 3 27 3 *", "UTC")),
    69: ("cron 17 3 27 3 *", "Europe/Berlin"),
    70: ("cron 17 3 27 3 *", "Europe/Helsinki"),
    80: ("at Sun-16:00", "Europe/Berlin"),
    81: ("cron 0 0 31 4 *", "UTC"),
    82: ("cron 0 0 L 2 *", "UTC"),
    **dict.fromkeys((83, 84), ("cron 0 0 * 5 1L", "UTC")),
    85: ("cron 0 4 1/5 * *", "UTC"),
    86: ("cron 0 4 1 1/7 *", "UTC"),
    87: ("cron 0 9,11,13,15,17 6 8 *", "UTC"),
    88: ("cron 0 9-17/2 6 8 *", "UTC"),
    89: ("cron 0 3-21/6 * 12 *", "UTC"),
    90: ("cron 30 3 24 9 *", "Pacific/Auckland"),
    91: ("cron 30 2 24 9 *", "Pacific/Auckland"),
    **dict.fromkeys((92, 93), ("cron 30 2 2 4 *", "Pacific/Auckland")),
    94: ("cron 30 3 2 4 *", "Pacific/Auckland"),
    **dict.fromkeys((95, 96), ("cron 42 20 9 9 *", "Pacific/Auckland")),
    **dict.fromkeys((97, 98), ("at Sun-01:00", "Europe/Dublin")),
    99: ("@hourly", "Europe/Dublin"),
    100: ("cron 0 23 1/11 * *", "UTC"),
}


@each("systemd_calendar", "next")
def test_a_calendar_expression_elapses_when_recorded(case: Case) -> None:
    text, zone = CALENDAR[int(case.name.partition(":")[2])]
    after = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=case["after_usec"])
    of_one_year = re.search(r"(\d{4})-", case["expr"])
    if of_one_year is not None:
        after = max(after, datetime(int(of_one_year[1]), 1, 1, tzinfo=UTC))
    found = firings(text, zone, after, 1)
    fire = found[0] if isinstance(found, list) else None
    if fire is not None and of_one_year is not None and fire.year != int(of_one_year[1]):
        fire = None
    case.compare(fire and fire.isoformat(), case["expected_utc"])


@each("systemd_calendar", "reject")
def test_what_is_no_calendar_expression_is_no_trigger_either(case: Case) -> None:
    case.compare(firings(case["expr"], "UTC", instant("2009-01-01"), 1), "refused")
