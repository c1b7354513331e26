"""What of the recorded vectors we answer differently, what is not ours, what is tested elsewhere.

`BETTERED` is the one list of deliberate differences. Each entry says what we answer and why; the
tests require that we answer exactly so, and that this still differs from what was recorded.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Bettered:
    """Our answer, and the reason in a sentence."""

    ours: object
    because: str


def _alike(file: str, places: Iterable[int], ours: object, because: str) -> dict[str, Bettered]:
    return {f"{file}:{place:02}": Bettered(ours, because) for place in places}


def _untouched(state: str) -> dict[str, Any]:
    """A unit that is left as it was."""
    return {
        "queue_length": 0,
        "canceled": 0,
        "republished": 0,
        "status_messages": 0,
        "unit_states": [state],
    }


def _clock(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


_NEW, _EXISTING = "new unit published", "existing unit recovered"

BETTERED: dict[str, Bettered] = {
    **_alike(
        "synergy_nodes",
        [9],
        {"job_requested": 0, "reprocess_requested": 1, "skip_requested": 0},
        "no job has to be asked for: an interval that nobody has touched is an embryo by itself",
    ),
    **_alike(
        "synergy_state_machines",
        [0],
        ("no interval", []),
        "an hour within a group is no interval, so there is no job to be closed as empty",
    ),
    **_alike(
        "synergy_state_machines",
        [3, 17],
        ("failed", []),
        "a final run that is withdrawn is a failure that somebody must see; nothing is skipped "
        "silently unless its process says so",
    ),
    **_alike(
        "synergy_state_machines",
        [4, 18],
        ("final_run", [_EXISTING]),
        "a unit that another scheduler made first is taken over; the collision is no error",
    ),
    **_alike(
        "synergy_state_machines",
        [6],
        ("final_run", [_NEW]),
        "when the interval closes, a provisional unit that nobody has started is not waited for",
    ),
    **_alike(
        "synergy_state_machines",
        [9, 22],
        ("final_run", [_NEW]),
        "the first run of an interval that has closed is its final one, not another before it",
    ),
    **_alike(
        "synergy_state_machines",
        [15, 16],
        ("embryo", []),
        "a discrete run is not requested before all that it waits for has finished, so it cannot "
        "be at work before that",
    ),
    **_alike(
        "synergy_garbage_collector",
        [0, 1],
        _untouched("state_invalid"),
        "a unit that was given up has used up its attempts: it stays so, and the failed job with "
        "its reason asks for an operator",
    ),
    **_alike(
        "synergy_garbage_collector",
        [2],
        _untouched("state_invalid"),
        "a failure does not turn into a cancellation with age: it stays visible until resolved",
    ),
    **_alike(
        "synergy_garbage_collector",
        [5],
        _untouched("state_requested"),
        "a unit waits for a worker as long as it takes: an outage costs latency, never work",
    ),
    **_alike(
        "chroniker",
        [66],
        True,
        "the needed interval has finished; that its process is at work on a later one is no matter",
    ),
    **_alike(
        "chroniker",
        [71],
        False,
        "the needed process has yet to run for the very interval, so nothing can build on it",
    ),
    **_alike(
        "chroniker",
        [160],
        False,
        "a run that has just started has shown its first sign of life by that",
    ),
    **_alike(
        "luigi_ranges",
        [9],
        ["2014-03-20T17:00", "2014-03-20T17:05", "2014-03-20T17:10"],
        "a catch-up begins where the span does: nothing is given up for being long ago",
    ),
    **_alike(
        "cron_next_contested",
        [45, 46],
        ["2026-02-01T00:00:00"],
        "where both days are given, either will do: a month without the one still has the other",
    ),
    **_alike(
        "cron_next_contested",
        [47],
        ["2026-04-05T00:00:00"],
        "where both days are given, either will do: a month without the one still has the other",
    ),
    **_alike(
        "cron_next_contested",
        [48],
        ["2026-02-22T00:00:00"],
        "where both days are given, either will do: a month without the one still has the other",
    ),
    **_alike(
        "apscheduler_triggers",
        [3],
        [_clock(datetime(2020, 5, 16, 12, 17, 32) + n * timedelta(seconds=4)) for n in range(60)],
        "a pace is counted from 1970 in whole seconds, so that every restart agrees on it",
    ),
    **_alike(
        "apscheduler_triggers",
        [14],
        ["2009-02-01T00:00:00"],
        "as in Debian's cron, a step beyond the end of a field leaves its first value",
    ),
    **_alike(
        "apscheduler_triggers",
        [31],
        "refused",
        "as in Debian's cron, a range that runs backwards is refused, not guessed at",
    ),
    **_alike(
        "systemd_calendar",
        [70],
        "2016-03-27T01:00:00+00:00",
        "a time that the clock skips fires at the change, it is not left out",
    ),
    **_alike(
        "systemd_calendar",
        [91],
        "2017-09-23T14:00:00+00:00",
        "a time that the clock skips fires at the change, it is not left out",
    ),
    **_alike(
        "systemd_calendar",
        [97, 98],
        "2021-03-28T01:00:00+00:00",
        "a time that the clock skips fires at the change, it is not left out for a week",
    ),
}

#: Files that other tests read: every case of them is tested there, with its own exceptions.
ELSEWHERE = {
    "cron_match": "tests/core/test_triggers.py",
    "cron_next_consensus": "tests/core/test_triggers.py",
    "cron_range": "tests/core/test_triggers.py",
    "cron_reject": "tests/core/test_triggers.py",
    "synergy_grouping": "tests/core/test_intervals.py",
    "synergy_timeperiods": "tests/core/test_intervals.py",
    "synergy_triggers": "tests/core/test_triggers.py",
}

#: Files that concern nothing that the engine does.
NOT_OURS_AT_ALL = {
    "debian_cron_rules": "the text of manual pages, no cases; those derived from it stand in "
    "tests/core/test_triggers.py",
    "ds_scheduler": "the options of another command line, told in words",
    "jobsched_rest": "requests and answers of another REST interface",
}


@dataclass(frozen=True, slots=True)
class NotOurs:
    """Cases of a file that ask for something that we do not have, and why not."""

    file: str
    meant: Callable[[Mapping[str, Any]], bool]
    because: str


NOT_OURS = (
    NotOurs(
        "chroniker",
        lambda case: case["op"] == "is_due" and case["given"]["host"] != "any",
        "no host is named: a worker program of any box may take a unit",
    ),
    NotOurs(
        "chroniker",
        lambda case: case["op"] == "is_due" and not case["given"]["enabled"],
        "nothing is switched off in place: a freerun that must not run is not registered",
    ),
    NotOurs(
        "chroniker",
        lambda case: (
            case["op"] == "dependency_met"
            and not all(on for wait, on in case["given"].items() if wait.startswith("wait_for_"))
        ),
        "a dependency always waits until the interval has finished; there are no switches to make "
        "it wait for less",
    ),
    NotOurs(
        "chroniker",
        lambda case: (
            case["op"] == "recurrence"
            and (
                case["frequency"] == "SECONDLY"
                or "byyearday" in case["parsed"]
                or ("interval" in case["parsed"] and case["frequency"] in ("DAILY", "WEEKLY"))
            )
        ),
        "every nth day or week from a first one, and the nth day of the year, are no triggers; a "
        "pace is not counted from a first firing",
    ),
    NotOurs(
        "apscheduler_triggers",
        lambda case: "year" in case["fields"] or "week" in case["fields"],
        "a cron line has no field for years or weeks",
    ),
    NotOurs(
        "apscheduler_triggers",
        lambda case: (
            case["op"] != "crontab_fields"
            and not {"end_time", "end_date"}.isdisjoint(case["fields"])
        ),
        "a trigger has no end; spans of time belong to trees",
    ),
    NotOurs(
        "apscheduler_triggers",
        lambda case: case["op"] != "crontab_fields" and {"days", "hour"} <= {*case["fields"]},
        "every nth day from a first one is no trigger",
    ),
    NotOurs(
        "small_dependency_scheduler",
        lambda case: case["op"] == "next_trigger" and case["schedule"] is None,
        "freeruns do not follow one another; what depends on another process is one in a tree",
    ),
    NotOurs(
        "systemd_calendar",
        lambda case: case["op"] == "normalise",
        "the normal form of a notation that we do not read",
    ),
    NotOurs(
        "systemd_calendar",
        lambda case: case["op"] == "next" and re.search(r"\d\.\d", case["expr"]) is not None,
        "nothing fires within a second",
    ),
)


def not_ours(file: str, vector: Mapping[str, Any]) -> NotOurs | None:
    """Why a case is not handed to any test; None where it is."""
    return next((rule for rule in NOT_OURS if rule.file == file and rule.meant(vector)), None)
