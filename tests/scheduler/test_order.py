"""What runs when: parents after children, old before new, as many as allowed, and failures."""

from datetime import UTC, datetime, timedelta

import pytest

from synergy.core.admission import DISPATCH_AHEAD
from synergy.core.context import (
    Context,
    TreeDeclaration,
    daily,
    hourly,
    last,
    monthly,
    offset,
    previous,
    tree,
    weekly,
    yearly,
)
from synergy.core.engine import READY_AHEAD
from synergy.core.model import Renewal, Unit, UnitWrite
from synergy.core.recovery import LEASE
from synergy.core.states import UnitState
from synergy.testing.stage import Stage, fails, finds_nothing, processes


def site(**options: object) -> TreeDeclaration:
    """Days of hours."""
    given = {"start": "2026-11-01", "lag": 0, **options}
    return tree("site", [daily("d", run="w:f"), hourly("h", run="w:f")], **given)  # type: ignore[arg-type]


def keys(units: list[Unit]) -> list[str]:
    return [unit.key for unit in units]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-03-29", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24),
    ],
)
def test_a_day_waits_for_the_last_of_its_hours(zone: str, day: str, hours: int) -> None:
    following = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    stage = Stage(Context(site(zone=zone, start=day, until=following)), at="2026-12-01T00:00+00:00")
    units = stage.claim()
    assert [unit.process for unit in units] == ["h"] * hours
    for unit in reversed(units):
        assert stage.claim() == []
        assert stage.state("d", day) == "embryo"
        stage.report(unit)
    assert keys(stage.claim()) == [f"d@{day}#1"]


def test_nothing_runs_before_its_interval_has_ended_and_its_lag_has_passed() -> None:
    stage = Stage(Context(site(start="2026-11-20", lag=300)), at="2026-11-20T00:30Z")
    assert stage.claim() == []
    stage.until("2026-11-20T01:04:59Z")
    assert stage.claim() == []
    stage.until("2026-11-20T01:05:00Z")
    assert keys(stage.claim()) == ["h@2026-11-20T00#1"]


def test_the_oldest_interval_goes_first_and_parents_as_soon_as_they_can() -> None:
    stage = Stage(Context(site(start="2026-11-18")), at="2026-11-20T00:00Z")
    started = []
    while units := stage.claim(limit=1):
        started += keys(units)
        stage.report(units[0])
    hours = [f"h@2026-11-{day}T{hour:02}#1" for day in (18, 19) for hour in range(24)]
    assert started == [*hours[:24], "d@2026-11-18#1", *hours[24:], "d@2026-11-19#1"]


def test_nothing_to_do_finishes_a_child_too() -> None:
    stage = Stage(Context(site(start="2026-11-19", until="2026-11-20")), at="2026-11-20T00:00Z")
    stage.work(finds_nothing, only="h")
    assert stage.state("h", "2026-11-19T05") == "noop"
    stage.work()
    assert stage.state("d", "2026-11-19") == "processed"


def test_a_failed_attempt_is_repeated_after_a_back_off_and_then_given_up() -> None:
    levels = [daily("d", run="w:f"), hourly("h", run="w:f", max_attempts=3, backoff=60)]
    stage = Stage(
        Context(tree("t", levels, start="2026-11-19", until="2026-11-20", lag=0)),
        at="2026-11-19T01:00Z",
    )
    for attempt, wait in enumerate([60, 120], 1):
        (unit,) = stage.claim()
        assert unit.attempt == attempt
        stage.report(unit, fails)
        assert stage.claim() == []
        stage.advance(seconds=wait - 1)
        assert stage.claim() == [], "not before the back-off has passed"
        assert stage.state("h", "2026-11-19T00") == "in_progress"
        stage.advance(seconds=1 + wait * 0.1)
    (unit,) = stage.claim()
    stage.report(unit, fails)
    job = stage.job("h", "2026-11-19T00")
    assert (job.state, job.attempts) == ("failed", 3)
    assert job.reason == "attempt 3 (the last of 3): it failed"
    ended = stage.unit(unit.key)
    assert ended is not None
    assert (ended.state, ended.failures) == ("invalid", 3)


def test_a_failed_hour_holds_its_day_but_neither_the_other_hours_nor_later_days() -> None:
    levels = [
        monthly("m", run="w:f"),
        daily("d", run="w:f"),
        hourly("h", run="w:f", max_attempts=1),
    ]
    stage = Stage(Context(tree("t", levels, start="2026-11-01", lag=0)), at="2026-12-01T00:00Z")
    (first,) = stage.claim(limit=1)
    stage.report(first, fails)
    stage.work()
    assert stage.state("h", "2026-11-01T00") == "failed"
    assert stage.state("d", "2026-11-01") == "embryo"
    assert stage.state("m", "2026-11") == "embryo"
    assert {stage.state("d", f"2026-11-{day:02}") for day in range(2, 31)} == {"processed"}
    assert stage.request("skip", "h", "2026-11-01T00").state == "done"
    stage.work()
    assert stage.state("h", "2026-11-01T00") == "skipped"
    assert stage.state("m", "2026-11") == "processed"


def test_a_process_that_skips_on_failure_says_so_and_holds_nobody() -> None:
    levels = [daily("d", run="w:f"), hourly("h", run="w:f", max_attempts=1, on_failure="skip")]
    stage = Stage(
        Context(tree("t", levels, start="2026-11-19", until="2026-11-20", lag=0)),
        at="2026-11-20T00:00Z",
    )
    (first,) = stage.claim(limit=1)
    stage.report(first, fails)
    stage.work()
    job = stage.job("h", "2026-11-19T00")
    assert job.state == "skipped"
    assert job.reason.startswith("skipped, as its process says on failure: attempt 1")
    assert stage.state("d", "2026-11-19") == "processed"


def test_when_all_children_are_skipped_so_is_the_parent() -> None:
    levels = [
        daily("d", run="w:f"),
        hourly("h", run="w:f", grouping=12, max_attempts=1, on_failure="skip"),
    ]
    stage = Stage(
        Context(tree("t", levels, start="2026-11-19", until="2026-11-20", lag=0)),
        at="2026-11-20T00:00Z",
    )
    stage.work(fails)
    job = stage.job("d", "2026-11-19")
    assert (job.state, job.reason) == ("skipped", "all its children were skipped")
    assert stage.started == ["h@2026-11-19T00/PT12H#1!1", "h@2026-11-19T12/PT12H#1!1"]


def test_a_job_blocking_on_dependencies_is_skipped_with_them_and_no_other() -> None:
    span = {"start": "2026-11-19", "until": "2026-11-20", "lag": 0}
    context = Context(
        tree("t", [daily("d", run="w:f", max_attempts=1, on_failure="skip")], **span),  # type: ignore[arg-type]
        tree("u", [daily("c", run="w:f", after="d", blocking="dependencies")], **span),  # type: ignore[arg-type]
        tree("v", [daily("n", run="w:f", after="d")], **span),  # type: ignore[arg-type]
    )
    stage = Stage(context, at="2026-11-20T00:00Z")
    (unit,) = stage.claim()
    stage.report(unit, fails)
    job = stage.job("c", "2026-11-19")
    assert (job.state, job.reason) == ("skipped", "dependency d 2026-11-19 was skipped")
    stage.work()
    assert stage.state("n", "2026-11-19") == "processed"


def test_a_skip_goes_on_to_children_and_dependents_but_not_to_what_looks_back() -> None:
    context = Context(
        tree("m", [monthly("month", run="w:f")], start="2026-11-18", lag=0),
        site(start="2026-11-18"),
        tree(
            "u",
            [daily("c", run="w:f", after="d"), hourly("g", run="w:f")],
            start="2026-11-18",
            lag=0,
        ),
        tree("v", [daily("n", run="w:f", after=previous("d"))], start="2026-11-18", lag=0),
    )
    stage = Stage(context, at="2026-11-20T00:00Z")
    answer = stage.request("skip", "d", "2026-11-18", reason="lost")
    touched = {str(item["process"]) for item in answer.answer["touched"]}  # type: ignore[union-attr,index]
    assert touched == {"d", "h", "c", "g"}
    assert len(answer.answer["touched"]) == 50  # type: ignore[arg-type]
    assert stage.job("h", "2026-11-18T05").reason == f"skip {answer.id}: lost"
    stage.work()
    assert stage.state("n", "2026-11-19") == "processed"
    assert stage.state("d", "2026-11-19") == "processed"
    assert stage.state("c", "2026-11-18") == "skipped"


def test_what_is_finished_is_not_skipped() -> None:
    stage = Stage(Context(site(start="2026-11-19", until="2026-11-20")), at="2026-11-19T12:00Z")
    stage.work()
    stage.request("skip", "d", "2026-11-19")
    assert stage.state("h", "2026-11-19T03") == "processed"
    assert stage.state("h", "2026-11-19T23") == "skipped"
    assert stage.state("d", "2026-11-19") == "skipped"


def test_a_skip_withdraws_the_unit_that_is_at_work() -> None:
    stage = Stage(Context(site(start="2026-11-19")), at="2026-11-19T01:00Z")
    (unit,) = stage.claim()
    stage.request("skip", "h", "2026-11-19T00")
    assert not stage.report(unit)
    canceled = stage.unit(unit.key)
    assert canceled is not None
    assert canceled.state is UnitState.CANCELED
    assert stage.state("h", "2026-11-19T00") == "skipped"


# workers that are lost


def test_a_lost_worker_costs_an_attempt_as_soon_as_its_lease_has_run_out() -> None:
    stage = Stage(Context(site(start="2026-11-19")), at="2026-11-19T01:00Z")
    (unit,) = stage.claim()
    stage.advance(seconds=LEASE.total_seconds() - 1)
    assert stage.claim() == []
    stage.advance(seconds=1)
    (again,) = stage.claim()
    assert (again.key, again.attempt, again.failures) == (unit.key, 2, 1)
    assert "was lost (lease ran out)" in stage.unit(unit.key).transitions[-2].reason  # type: ignore[union-attr]
    assert not stage.report(unit), "the superseded attempt is refused"
    assert stage.report(again)
    assert (stage.job("h", "2026-11-19T00").state, stage.job("h", "2026-11-19T00").attempts) == (
        "processed",
        2,
    )


def test_a_renewed_lease_is_not_taken_for_a_lost_one() -> None:
    stage = Stage(Context(site(start="2026-11-19")), at="2026-11-19T01:00Z")
    (unit,) = stage.claim()
    assert unit.owner is not None
    for _ in range(20):
        stage.advance(seconds=10)
        until = stage.clock.now() + LEASE
        assert stage.store.renew([Renewal(unit.key, unit.attempt, unit.owner, until)]) == [True]
    assert stage.claim() == []
    assert stage.report(unit)
    assert stage.started == ["h@2026-11-19T00#1!1"]


def test_a_unit_whose_workers_are_all_lost_is_given_up_visibly() -> None:
    stage = Stage(Context(site(start="2026-11-19")), at="2026-11-19T01:00Z")
    for _ in range(3):
        assert len(stage.claim()) == 1
        stage.advance(seconds=20)
    job = stage.job("h", "2026-11-19T00")
    assert job.state == "failed"
    assert "lost" in job.reason


# dependencies


def test_a_sequential_process_runs_its_intervals_one_after_the_other() -> None:
    context = Context(
        tree("t", [daily("p", run="w:f", after=previous("p"))], start="2026-11-01", lag=0)
    )
    stage = Stage(context, at="2026-11-20T00:00Z")
    started = []
    while units := stage.claim():
        assert len(units) == 1, "never two at once"
        started += keys(units)
        stage.report(units[0])
    assert started == [f"p@2026-11-{day:02}#1" for day in range(1, 20)]


def test_a_failed_interval_stops_a_sequential_process_until_it_is_resolved() -> None:
    context = Context(
        tree(
            "t",
            [daily("p", run="w:f", after=previous("p"), max_attempts=1)],
            start="2026-11-01",
            lag=0,
        )
    )
    stage = Stage(context, at="2026-11-05T00:00Z")
    stage.work(fails)
    stage.advance(days=5)
    assert stage.started == ["p@2026-11-01#1!1"]
    stage.request("reprocess", "p", "2026-11-01")
    stage.work()
    assert stage.state("p", "2026-11-09") == "processed"


def test_dependencies_join_other_trees_with_offsets_and_windows_across_granularities() -> None:
    context = Context(
        site(start="2026-11-01"),
        tree("week", [weekly("w", run="w:f", after="d")], start="2026-11-01", lag=0),
        tree(
            "alert",
            [daily("a", run="w:f", after=["d", offset(-7, "d")])],
            start="2026-11-01",
            lag=0,
        ),
        tree("trend", [daily("t3", run="w:f", after=last(3, "d"))], start="2026-11-03", lag=0),
        tree(
            "hours",
            [hourly("after_day", run="w:f", after=previous("d"))],
            start="2026-11-01",
            lag=0,
        ),
    )
    stage = Stage(context, at="2026-11-10T00:00Z")
    stage.work(only="h")
    (_, second, *_rest) = days = stage.claim(only="d")
    assert len(days) == 9
    for unit in days:
        if unit is not second:
            stage.report(unit)
    assert stage.state("d", "2026-11-02") == "in_progress"
    hours = {unit.interval.start.day for unit in stage.claim(only="after_day")}
    assert hours == {1, 2, 4, 5, 6, 7, 8, 9}, "those of the 3rd wait for the 2nd"
    alerts = {unit.interval.start.day for unit in stage.claim(only="a")}
    assert alerts == {1, 3, 4, 5, 6, 7, 8}, "the 2nd and the 9th need the 2nd"
    trends = {unit.interval.start.day for unit in stage.claim(only="t3")}
    assert trends == {5, 6, 7, 8, 9}
    assert [unit.interval.label for unit in stage.claim(only="w")] == ["2026-W44"]
    stage.report(second)
    assert [unit.interval.label for unit in stage.claim(only="w")] == ["2026-W45"]


# the edges of a span


def test_levels_have_the_intervals_that_intersect_the_span_and_no_others() -> None:
    levels = [yearly("y", run="w:f"), monthly("m", run="w:f"), daily("d", run="w:f")]
    stage = Stage(
        Context(tree("t", levels, start="2025-12-30T12:00", until="2026-01-02T12:00", lag=0)),
        at="2027-06-01T00:00Z",
    )
    stage.work()
    assert sorted(key.split("#")[0] for key in stage.started) == [
        "d@2025-12-30", "d@2025-12-31", "d@2026-01-01", "d@2026-01-02",
        "m@2025-12", "m@2026-01",
        "y@2025", "y@2026",
    ]  # fmt: skip
    stage.advance(minutes=1)
    assert stage.scheduler.engine.wake_at() is None, "there is nothing left to wait for"
    assert stage.scheduler.engine.idle


def test_a_request_outside_the_span_is_refused_with_the_reason() -> None:
    stage = Stage(Context(site(start="2026-11-19")), at="2026-11-20T00:00Z")
    answer = stage.request("reprocess", "h", "2026-11-18T23")
    assert (answer.state, answer.answer["why"]) == (
        "refused",
        "2026-11-18T23 lies outside the span of tree site",
    )
    assert stage.request("reprocess", "nobody").answer["why"] == "no process nobody is registered"
    assert "is none of reprocess, skip, " in str(stage.request("undo", "h").answer["why"])


# how many at once


def test_no_more_units_are_out_than_the_process_allows() -> None:
    levels = [hourly("h", run="w:f", parallel=3)]
    stage = Stage(Context(tree("t", levels, start="2026-11-01", lag=0)), at="2026-11-02T00:00Z")
    while units := stage.claim():
        assert len(units) + len(stage.requested) <= 3
        stage.report(units[0])
        for unit in units[1:]:
            stage.report(unit, finds_nothing)
    assert len(stage.started) == 24


def test_ten_years_of_hours_are_caught_up_with_oldest_first_and_with_a_short_queue() -> None:
    stage = Stage(
        Context(tree("t", [hourly("h", run="w:f")], start="2016-11-20", lag=0)),
        at="2026-11-20T00:00Z",
    )
    engine = stage.scheduler.engine
    last_start = datetime(2016, 1, 1, tzinfo=UTC)
    for _ in range(20):
        units = stage.claim(limit=100)
        assert [unit.interval.start for unit in units] == sorted(
            unit.interval.start for unit in units
        )
        assert units[0].interval.start > last_start
        last_start = units[-1].interval.start
        assert len(stage.requested) + len(units) <= DISPATCH_AHEAD
        assert len(engine._lines["h"].ready) <= READY_AHEAD
        for unit in units[:-1]:
            stage.store.save_units([UnitWrite(processes(unit, stage.clock.now()), unit.fence)])
        stage.report(units[-1])
    assert engine.timetable.ledgers["h"].size < 200
    assert last_start == datetime(2016, 11, 20, tzinfo=UTC) + timedelta(hours=1999)


def test_what_is_requested_waits_for_a_worker_without_limit() -> None:
    stage = Stage(Context(site(start="2026-11-19")), at="2026-11-19T01:00Z")
    stage.advance(days=1)
    assert {unit.state for unit in stage.requested} == {UnitState.REQUESTED}
    assert len(stage.requested) == 25
    assert {unit.attempt for unit in stage.requested} == {1}
