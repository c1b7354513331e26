"""Scenarios, played: each says what happened when, as the store's feed has it."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from synergy.core import engine
from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import FeedEntry
from synergy.core.readiness import READY
from synergy.testing.play import Play
from synergy.testing.scenario import read

FINISHED = {"processed", "noop", "skipped"}
DAY = {"name": "day", "granularity": "daily"}
HOUR = {"name": "hour", "granularity": "hourly"}
TREE = {"name": "tree", "processes": ["day", "hour"]}


def scenario(*processes: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A day and its hours, or a tree of each of these; from the first of May on, without lag."""
    document: dict[str, Any] = {
        "clock": "2024-05-01T00:00:00Z",
        "until": "2024-05-02T12:30:00Z",
        "processes": [DAY, HOUR] if not processes else list(processes),
        "trees": [{**TREE, "lag": 0}],
        "default": {"duration": 10},
    }
    if processes:
        names = [process["name"] for process in processes]
        document["trees"] = [{"name": f"t_{n}", "processes": [n], "lag": 0} for n in names]
    return {**document, **given}


class Story:
    """What came of a scenario."""

    def __init__(self, document: dict[str, Any], **options: Any) -> None:
        self.play: Play = read(document).play(**options)
        self.entries: list[FeedEntry] = [entry for batch in self.play.run() for entry in batch]
        self.summary = self.play.summary()

    def of(self, key: str) -> list[str]:
        """All that happened to a job or unit: ``01T07:00:10 processed``."""
        return [
            f"{entry.transition.at:%dT%H:%M:%S} {entry.transition.after}"
            for entry in self.entries
            if entry.key == key
        ]

    def at(self, key: str, state: str) -> datetime:
        """When it last came into this state."""
        return max(
            entry.transition.at
            for entry in self.entries
            if entry.key == key and entry.transition.after == state
        )

    def started(self) -> list[str]:
        """What was started, in order: ``hour@2024-05-01T00#1!1``."""
        return [
            f"{entry.key}!{entry.transition.attempt}"
            for entry in self.entries
            if entry.kind == "unit" and entry.transition.after == "in_progress"
        ]

    def state(self, key: str) -> str:
        """How a job stands in the end."""
        states = [e.transition.after for e in self.entries if e.key == key]
        return states[-1] if states else "embryo"

    def reasons(self, key: str) -> list[str]:
        return [e.transition.reason for e in self.entries if e.key == key and e.transition.reason]


def outcome(label: str, named: str, process: str = "hour", **more: Any) -> dict[str, Any]:
    return {"process": process, "interval": label, "outcome": named, **more}


def request(at: str, action: str, process: str, label: str) -> dict[str, Any]:
    return {"at": at, "action": action, "process": process, "interval": label}


def test_a_day_is_worked_after_its_last_hour() -> None:
    story = Story(scenario())
    assert story.of("hour@2024-05-01T00") == ["01T01:00:00 in_progress", "01T01:00:10 processed"]
    assert story.of("hour@2024-05-01T00#1") == ["01T01:00:00 in_progress", "01T01:00:10 processed"]
    assert story.of("day@2024-05-01") == ["02T00:00:10 in_progress", "02T00:00:20 processed"]
    assert story.summary.jobs == {"embryo": 2, "processed": 37}
    assert (story.summary.units, story.summary.attempts, story.summary.violations) == (37, 37, 0)


def test_transitions_come_in_order_and_as_the_feed_has_them() -> None:
    story = Story(scenario(outcomes=[outcome("2024-05-01T05", "failed", attempt=1)]))
    assert [e.seq for e in story.entries] == list(range(1, len(story.entries) + 1))
    times = [e.transition.at for e in story.entries]
    assert times == sorted(times)
    assert story.entries == story.play.store.feed(0, 1000)


def test_an_interval_is_due_five_minutes_after_its_end_by_default() -> None:
    story = Story(scenario(trees=[TREE]))
    assert story.of("hour@2024-05-01T00")[0] == "01T01:05:00 in_progress"
    late = Story(scenario({**DAY, "lag": 90}, trees=[{"name": "t", "processes": ["day"]}]))
    assert late.of("day@2024-05-01")[0] == "02T00:01:30 in_progress"


def test_a_failed_attempt_is_repeated_after_its_back_off() -> None:
    story = Story(scenario(outcomes=[outcome("2024-05-01T05", "failed", attempt=1, duration=3)]))
    unit = "hour@2024-05-01T05#1"
    assert [line.split()[1] for line in story.of(unit)] == [
        "in_progress",
        "requested",
        "in_progress",
        "processed",
    ]
    failed = datetime(2024, 5, 1, 6, 0, 3, tzinfo=UTC)
    again = story.at(unit, "in_progress")
    assert story.at(unit, "requested") == failed
    assert timedelta(seconds=10) <= again - failed <= timedelta(seconds=11)
    assert story.at(unit, "processed") == again + timedelta(seconds=10)


def test_an_interval_that_fails_for_good_holds_its_day() -> None:
    story = Story(scenario(outcomes=[outcome("2024-05-01T05", "failed", reason="no data")]))
    assert [key for key in story.started() if "T05" in key and "05-01" in key] == [
        "hour@2024-05-01T05#1!1",
        "hour@2024-05-01T05#1!2",
        "hour@2024-05-01T05#1!3",
    ]
    assert story.state("hour@2024-05-01T05") == "failed"
    assert "no data" in story.reasons("hour@2024-05-01T05")[0]
    assert story.state("day@2024-05-01") == "embryo"
    held = [*story.play.held()]
    assert [(one.job.key, one.because) for one in held] == [
        ("day@2024-05-01", "child hour 2024-05-01T05 is failed")
    ]


def test_attempts_and_back_off_are_those_of_the_process() -> None:
    hour = {**HOUR, "max_attempts": 2, "backoff": 600, "on_failure": "skip"}
    story = Story(scenario(processes=[DAY, hour], outcomes=[outcome("2024-05-01T05", "failed")]))
    first, second = story.of("hour@2024-05-01T05#1")[1:3]
    assert first == "01T06:00:10 requested"
    assert "01T06:10:10" <= second.split()[0] <= "01T06:11:10"
    assert story.state("hour@2024-05-01T05") == "skipped"
    assert story.state("day@2024-05-01") == "processed"


def test_what_finds_nothing_is_noop() -> None:
    story = Story(scenario(default={"outcome": "noop", "duration": 0}))
    assert story.of("day@2024-05-01") == ["02T00:00:00 in_progress", "02T00:00:00 noop"]
    assert story.summary.jobs["noop"] == 37


@pytest.mark.parametrize(
    ("duration", "missed"),
    [
        pytest.param(0, 15, id="at once"),
        pytest.param(5, 15, id="just before its first renewal"),
        pytest.param(6, 20, id="after it"),
        pytest.param(3601, 3615, id="after an hour of renewals"),
    ],
)
def test_a_lost_worker_is_missed_when_its_lease_has_run_out(duration: float, missed: int) -> None:
    story = Story(
        scenario(outcomes=[outcome("2024-05-01T05", "lost", attempt=1, duration=duration)])
    )
    unit = "hour@2024-05-01T05#1"
    begun = datetime(2024, 5, 1, 6, tzinfo=UTC)
    assert story.at(unit, "requested") == begun + timedelta(seconds=missed)
    assert "worker-1 was lost (lease ran out)" in story.reasons(unit)[0]
    # The next attempt starts at once.
    assert story.at(unit, "in_progress") == begun + timedelta(seconds=missed)
    assert story.at(unit, "processed") == begun + timedelta(seconds=missed + 10)
    assert story.state("day@2024-05-01") == "processed"


def test_a_long_attempt_keeps_its_lease() -> None:
    story = Story(scenario(outcomes=[outcome("2024-05-01T05", "processed", duration=7200)]))
    unit = "hour@2024-05-01T05#1"
    assert story.of(unit) == ["01T06:00:00 in_progress", "01T08:00:00 processed"]


def test_a_time_limit_ends_an_attempt() -> None:
    hour = {**HOUR, "time_limit": 30, "max_attempts": 1}
    late = [outcome("2024-05-01T05", "processed", duration=31), outcome("2024-05-01T06", "lost")]
    story = Story(scenario(processes=[DAY, hour], outcomes=late))
    assert story.of("hour@2024-05-01T05")[1] == "01T06:00:30 failed"
    assert "time limit of 30 s" in story.reasons("hour@2024-05-01T05")[0]
    assert "lost" in story.reasons("hour@2024-05-01T06")[0]


def test_few_workers_work_one_after_another() -> None:
    hours = [{"name": name, "granularity": "hourly"} for name in "abc"]
    story = Story(scenario(*hours, workers=1, until="2024-05-01T01:30:00Z"))
    ends = [story.of(f"{name}@2024-05-01T00#1") for name in "abc"]
    assert ends == [
        ["01T01:00:00 in_progress", "01T01:00:10 processed"],
        ["01T01:00:10 in_progress", "01T01:00:20 processed"],
        ["01T01:00:20 in_progress", "01T01:00:30 processed"],
    ]


def test_priority_goes_first_and_parallel_limits_a_process() -> None:
    hours = [{"name": name, "granularity": "hourly"} for name in "ab"]
    hours[1]["priority"] = 1  # type: ignore[assignment]
    story = Story(scenario(*hours, workers=1, until="2024-05-01T01:30:00Z"))
    assert story.started() == ["b@2024-05-01T00#1!1", "a@2024-05-01T00#1!1"]
    slow = scenario({**HOUR, "parallel": 1}, default={"duration": 7200})
    assert Story(slow).of("hour@2024-05-01T01#1")[0] == "01T03:00:00 in_progress"


def test_a_pool_is_shared_and_the_highest_priority_has_its_place() -> None:
    hours = [{**HOUR, "name": name, "pool": "db"} for name in "abc"]
    hours[2]["priority"] = 1
    document = scenario(
        *hours, pools={"db": 1}, until="2024-05-01T01:30:00Z", default={"duration": 60}
    )
    story = Story(document)
    assert [key[0] for key in story.started()] == ["c", "a", "b"]
    assert story.of("b@2024-05-01T00#1") == ["01T01:02:00 in_progress", "01T01:03:00 processed"]
    assert story.summary.violations == 0
    wider = Story({**document, "pools": {"db": 3}})
    assert {story.of(f"{name}@2024-05-01T00#1")[0] for story in [wider] for name in "abc"} == {
        "01T01:00:00 in_progress"
    }


def test_what_waits_for_its_pool_in_the_end_says_so() -> None:
    hours = [{**HOUR, "name": name, "pool": "db"} for name in "ab"]
    story = Story(scenario(*hours, pools={"db": 1}, default={"duration": 1e6}))
    because = {one.job.process: one.because for one in story.play.held()}
    assert because["b"] == ("pool db is full: 1 unit is out (1 of a), and no more than 1 may be")


def switch(at: str, action: str, **more: Any) -> dict[str, Any]:
    return {"at": f"2024-05-01T{at}:00Z", "action": action, "process": "hour", **more}


@pytest.mark.parametrize(
    ("policy", "processed"),
    [({"catch_up": "all"}, "0123456"), ({"catch_up": "latest"}, "0156"), ({}, "0123456")],
)
def test_a_process_is_switched_off_and_on_again(policy: dict[str, str], processed: str) -> None:
    requests = [switch("02:30", "off", reason="moved"), switch("06:30", "on", **policy)]
    story = Story(scenario(HOUR, until="2024-05-01T07:30:00Z", requests=requests))
    assert [
        hour for hour in "0123456" if story.state(f"hour@2024-05-01T0{hour}") == "processed"
    ] == [*processed]
    skipped = [hour for hour in "0123456" if hour not in processed]
    for hour in skipped:
        assert story.reasons(f"hour@2024-05-01T0{hour}")[0].startswith("not caught up: ")
    assert story.at("hour@2024-05-01T05", "in_progress") >= datetime(2024, 5, 1, 6, 30, tzinfo=UTC)
    assert [answer.answer["changed"] for answer in story.play.answers()] == [True, True]
    assert story.summary.violations == 0


def test_what_a_process_says_of_catching_up_counts_where_the_switch_says_nothing() -> None:
    requests = [switch("02:30", "off"), switch("06:30", "on")]
    hours = {**HOUR, "catch_up": "none"}
    story = Story(scenario(hours, until="2024-05-01T07:30:00Z", requests=requests))
    states = [story.state(f"hour@2024-05-01T0{hour}") for hour in range(7)]
    assert states == ["processed"] * 2 + ["skipped"] * 4 + ["processed"]


def test_what_is_off_in_the_end_is_told() -> None:
    document = scenario(
        HOUR, until="2024-05-01T04:30:00Z", requests=[switch("02:30", "off", reason="moved")]
    )
    held = [*Story(document).play.held()]
    assert [one.job.interval.label for one in held] == ["2024-05-01T02", "2024-05-01T03"]
    assert held[0].because == "hour is switched off since 2024-05-01 02:30:00 UTC: moved"


def test_a_lost_worker_holds_its_slot_until_it_is_missed() -> None:
    hours = [{"name": name, "granularity": "hourly"} for name in "ab"]
    lost = outcome("2024-05-01T00", "lost", process="a", attempt=1, duration=0)
    story = Story(scenario(*hours, workers=1, outcomes=[lost], until="2024-05-01T01:30:00Z"))
    assert story.started() == [
        "a@2024-05-01T00#1!1",
        "a@2024-05-01T00#1!2",
        "b@2024-05-01T00#1!1",
    ]
    assert story.of("b@2024-05-01T00#1")[0] == "01T01:00:25 in_progress"


def test_a_withdrawn_unit_frees_its_slot_at_the_next_renewal() -> None:
    hours = [{"name": name, "granularity": "hourly"} for name in "ab"]
    story = Story(
        scenario(
            *hours,
            workers=1,
            default={"duration": 600},
            until="2024-05-01T01:30:00Z",
            requests=[request("2024-05-01T01:00:12Z", "reprocess", "a", "2024-05-01T00")],
        )
    )
    assert story.of("a@2024-05-01T00#1")[-1] == "01T01:00:12 canceled"
    assert story.of("a@2024-05-01T00#2")[0] == "01T01:00:15 in_progress"


def test_a_reprocessed_hour_runs_what_is_built_on_it_once_more() -> None:
    story = Story(
        scenario(requests=[request("2024-05-02T06:30:00Z", "reprocess", "hour", "2024-05-01T05")])
    )
    assert story.of("hour@2024-05-01T05#2") == ["02T06:30:00 in_progress", "02T06:30:10 processed"]
    assert story.of("day@2024-05-01#2") == ["02T06:30:10 in_progress", "02T06:30:20 processed"]
    assert any("reprocess r1" in reason for reason in story.reasons("hour@2024-05-01T05"))


def test_unchanged_results_keep_what_is_built_on_them() -> None:
    story = Story(
        scenario(
            outcomes=[{"process": "hour", "interval": "2024-05-01T05", "fingerprint": "same"}],
            requests=[request("2024-05-02T06:30:00Z", "reprocess", "hour", "2024-05-01T05")],
        )
    )
    assert story.reasons("day@2024-05-01")[-1] == "kept: no input has changed"
    assert story.of("day@2024-05-01#2") == []


def test_a_skipped_hour_lets_its_day_go_on() -> None:
    story = Story(
        scenario(
            outcomes=[outcome("2024-05-01T05", "failed")],
            requests=[request("2024-05-02T06:30:00Z", "skip", "hour", "2024-05-01T05")],
        )
    )
    assert story.state("hour@2024-05-01T05") == "skipped"
    assert story.of("day@2024-05-01") == ["02T06:30:00 in_progress", "02T06:30:10 processed"]


def test_the_closest_outcome_counts() -> None:
    story = Story(
        scenario(
            outcomes=[
                {"process": "hour", "outcome": "noop"},
                {"process": "hour", "attempt": 1, "interval": "2024-05-01T05", "outcome": "failed"},
                {"process": "hour", "interval": "2024-05-01T05", "generation": 2, "duration": 60},
            ],
            requests=[request("2024-05-02T06:30:00Z", "reprocess", "hour", "2024-05-01T05")],
        )
    )
    assert story.of("hour@2024-05-01T04#1")[-1] == "01T05:00:10 noop"
    assert [line.split()[1] for line in story.of("hour@2024-05-01T05#1")] == [
        "in_progress",
        "requested",
        "in_progress",
        "noop",
    ]
    assert story.of("hour@2024-05-01T05#2")[-1] == "02T06:31:00 processed"


def test_a_dependency_with_an_offset_waits_for_the_one_before() -> None:
    copy = {
        "name": "copy",
        "granularity": "daily",
        "after": [{"process": "first", "offset": -1}],
    }
    first = {"name": "first", "granularity": "daily"}
    slow = [outcome("2024-05-01", "processed", process="first", duration=100_000)]
    story = Story(scenario(first, copy, until="2024-05-04T12:00:00Z", outcomes=slow))
    # The day before the first does not exist; the second waits for the slow first.
    assert story.of("copy@2024-05-01")[0] == "02T00:00:00 in_progress"
    assert story.of("first@2024-05-01")[-1] == "03T03:46:40 processed"
    assert story.of("copy@2024-05-02")[0] == "03T03:46:40 in_progress"
    assert story.of("copy@2024-05-03")[0] == "04T00:00:00 in_progress"


def test_a_dependency_with_a_window_waits_for_all_of_it() -> None:
    sums = {"name": "sums", "granularity": "daily", "after": [{"process": "first", "window": 3}]}
    first = {"name": "first", "granularity": "daily", "max_attempts": 1}
    failing = [outcome("2024-05-02", "failed", process="first")]
    story = Story(scenario(first, sums, until="2024-05-07T12:00:00Z", outcomes=failing))
    states = {n: story.state(f"sums@2024-05-0{n}") for n in range(1, 7)}
    assert states == {
        1: "processed",
        2: "embryo",
        3: "embryo",
        4: "embryo",
        5: "processed",
        6: "processed",
    }


def test_blocking_decides_what_provisional_runs_wait_for() -> None:
    def provisional(blocking: str) -> str:
        day = {
            **DAY,
            "machine": "continuous",
            "every": "every 3600",
            "blocking": blocking,
        }
        document = scenario(processes=[day, HOUR], until="2024-05-02T01:00:00Z")
        return Story(document).of("day@2024-05-01#1.1")[0]

    assert provisional("normal") == "01T00:00:00 in_progress"
    # An open day always has hours that are not finished.
    with pytest.raises(IndexError):
        provisional("children")


def test_blocking_by_dependencies_passes_a_skip_on() -> None:
    copy = {"name": "copy", "granularity": "daily", "after": ["first"], "blocking": "dependencies"}
    first = {"name": "first", "granularity": "daily", "on_failure": "skip", "max_attempts": 1}
    failing = [outcome("2024-05-01", "failed", process="first")]
    story = Story(scenario(first, copy, outcomes=failing))
    assert story.state("copy@2024-05-01") == "skipped"
    assert story.reasons("copy@2024-05-01") == ["dependency first 2024-05-01 was skipped"]


def test_a_continuous_process_runs_over_its_open_interval() -> None:
    hour = {**HOUR, "machine": "continuous", "every": "every 1200"}
    story = Story(scenario(hour, until="2024-05-01T01:30:00Z"))
    assert [key for key in story.started() if "T00" in key] == [
        "hour@2024-05-01T00#1.1!1",
        "hour@2024-05-01T00#1.2!1",
        "hour@2024-05-01T00#1.3!1",
        "hour@2024-05-01T00#1!1",
    ]
    assert story.of("hour@2024-05-01T00")[-1] == "01T01:00:10 processed"


def test_a_recomputing_process_measures_what_has_passed() -> None:
    hour = {**HOUR, "machine": "recomputing", "every": "every 1200"}
    story = Story(scenario(hour, until="2024-05-01T01:30:00Z"))
    units = story.play.store.read_units(["hour@2024-05-01T00#1.2", "hour@2024-05-01T00#1"])
    assert [(unit.low, unit.high) for unit in units.values()] == [
        ("2024-05-01T00:00:00+00:00", "2024-05-01T00:20:00+00:00"),
        ("2024-05-01T00:00:00+00:00", "2024-05-01T01:00:00+00:00"),
    ]


@pytest.mark.parametrize(
    ("date", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)]
)
def test_a_day_has_the_hours_of_its_zone(date: str, hours: int) -> None:
    begin = Calendar(Granularity.DAILY, zone="Europe/Berlin").parse(date).start
    story = Story(
        scenario(
            zone="Europe/Berlin",
            clock=begin.isoformat(),
            until=(begin + timedelta(hours=hours, minutes=30)).isoformat(),
        )
    )
    assert story.summary.jobs == {"embryo": 2, "processed": hours + 1}
    last = begin + timedelta(hours=hours)
    assert story.at(f"day@{date}", "in_progress") == last + timedelta(seconds=10)


def test_an_outcome_names_one_of_two_repeated_hours() -> None:
    story = Story(
        scenario(
            zone="Europe/Berlin",
            clock="2026-10-25T00:00+02:00",
            until="2026-10-26T01:30+01:00",
            outcomes=[outcome("2026-10-25T02+01:00", "noop")],
        )
    )
    assert story.state("hour@2026-10-25T02+02:00") == "processed"
    assert story.state("hour@2026-10-25T02+01:00") == "noop"


def test_groups_of_intervals_nest() -> None:
    thirds = {"name": "thirds", "granularity": "hourly", "grouping": 8}
    tree = {"name": "tree", "processes": ["day", "thirds", "hour"], "lag": 0}
    story = Story(scenario(processes=[DAY, thirds, HOUR], trees=[tree]))
    assert story.of("thirds@2024-05-01T08/PT8H")[0] == "01T16:00:10 in_progress"
    assert story.of("day@2024-05-01")[0] == "02T00:00:20 in_progress"


def test_what_is_left_over_in_the_end_is_told() -> None:
    story = Story(
        scenario(
            until="2024-05-01T03:00:05Z",
            outcomes=[outcome("2024-05-01T01", "failed", attempt=1, duration=3600)],
        )
    )
    assert [(one.job.key, one.because) for one in story.play.held()] == [
        ("hour@2024-05-01T01", "attempt 2 is requested: attempt 1: the scenario says so"),
        ("hour@2024-05-01T02", "attempt 1 is in_progress"),
    ]
    assert story.summary.jobs == {"embryo": 2, "in_progress": 2, "processed": 1}
    assert story.summary.units == 3


def test_nothing_happens_in_no_time() -> None:
    story = Story(scenario(until="2024-05-01T00:00:00Z"))
    assert story.entries == []
    assert story.summary.jobs == {}


def test_a_broken_promise_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that starts a day before its hours have ended."""
    monkeypatch.setattr(engine, "judge", lambda *_, **__: READY)
    assert Story(scenario()).summary.violations > 0


@pytest.mark.slow
def test_a_year_of_four_levels() -> None:
    names = {"year": "yearly", "month": "monthly", "day": "daily", "hour": "hourly"}
    story = Story(
        scenario(
            processes=[{"name": name, "granularity": of} for name, of in names.items()],
            trees=[{"name": "tree", "processes": list(names)}],
            clock="2024-01-01T00:00:00Z",
            until="2025-01-01T01:00:00Z",
        )
    )
    finished = 366 * 24 + 366 + 12 + 1
    assert story.summary.units == story.summary.attempts == finished
    # The next ones of all four levels have begun.
    assert story.summary.jobs == {"embryo": 4, "processed": finished}
    year = datetime(2025, 1, 1, 0, 5, 30, tzinfo=UTC)
    assert story.at("year@2024", "in_progress") == year


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_nothing_runs_before_what_it_waits_for(seed: int) -> None:
    """Judged by the lines alone, whoever made them."""
    dice = random.Random(seed)
    labels = [f"2024-05-0{day}T{hour:02}" for day in (1, 2, 3) for hour in range(24)]
    outcomes = [
        outcome(
            label,
            dice.choice(["failed", "lost", "noop", "processed"]),
            attempt=dice.choice([1, 2]),
            duration=dice.choice([0, 7, 900, 20_000]),
        )
        for label in dice.sample(labels, 20)
    ]
    requests = [
        request(
            f"2024-05-0{dice.choice([2, 3, 4])}T{dice.randrange(24):02}:00:00Z",
            dice.choice(["reprocess", "reprocess", "skip"]),
            "hour",
            label,
        )
        for label in dice.sample(labels[:40], 6)
    ]
    copy = {"name": "copy", "granularity": "daily", "after": ["day"]}
    story = Story(
        scenario(
            processes=[DAY, HOUR, copy],
            trees=[{**TREE, "lag": 0}, {"name": "copies", "processes": ["copy"], "lag": 0}],
            until="2024-05-05T00:00:00Z",
            workers=dice.choice([1, 3, None]),
            outcomes=outcomes,
            requests=requests,
        )
    )
    states: dict[str, str] = {}
    begun = 0
    for entry in story.entries:
        states[entry.key] = entry.transition.after
        if entry.kind == "unit" and entry.transition.after == "in_progress":
            day = entry.interval.label
            needed = {
                "day": [f"hour@{day}T{hour:02}" for hour in range(24)],
                "copy": [f"day@{day}"],
                "hour": [],
            }[entry.process]
            waiting = [key for key in needed if states.get(key) not in FINISHED]
            assert not waiting, f"{entry.key} began at {entry.transition.at} before {waiting}"
            begun += bool(needed)
    assert begun >= 2
