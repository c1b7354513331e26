"""Freeruns: each firing once, one at a time, and nothing missed in silence."""

from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from synergy.core.context import Context, FreerunDeclaration, freerun
from synergy.core.freeruns import COUNTED
from synergy.core.model import Job, Request
from synergy.core.states import UnitState
from synergy.testing.stage import Stage, fails, finds_nothing


def entry(**options: Any) -> FreerunDeclaration:
    return freerun("f", **{"at": "every 1800", "run": "w:f", **options})


def played(at: str = "2026-11-19T00:00Z", **options: Any) -> Stage:
    return Stage(Context(entry(**options)), at=at)


def firings(stage: Stage) -> list[tuple[str, str]]:
    """Label and state of all firings, oldest first."""
    jobs = reversed(stage.store.last_jobs("f", 10_000))
    return [(job.interval.label[11:-1], job.state.value) for job in jobs]


def last(stage: Stage) -> Job:
    return stage.store.last_jobs("f", 1)[0]


def run_through(stage: Stage, until: str, minutes: float = 1) -> None:
    while stage.clock.now() < datetime.fromisoformat(until):
        stage.work()
        stage.advance(minutes=minutes)
    stage.work()


@pytest.mark.parametrize(
    ("at", "zone", "until", "expected"),
    [
        ("every 1800", "UTC", "2026-11-19T01:30Z", ["00:30:00", "01:00:00", "01:30:00"]),
        ("at Thu-01:15,Fri-18:00", "UTC", "2026-11-20T00:00Z", ["01:15:00"]),
        ("at *-01:15", "Europe/Berlin", "2026-11-20T01:00Z", ["00:15:00", "00:15:00"]),
        ("cron 7 */6 * * *", "UTC", "2026-11-19T13:00Z", ["00:07:00", "06:07:00", "12:07:00"]),
    ],
)  # fmt: skip
def test_a_freerun_fires_once_at_each_of_its_instants(
    at: str, zone: str, until: str, expected: list[str]
) -> None:
    stage = Stage(Context(entry(at=at, zone=zone)), at="2026-11-19T00:00Z")
    run_through(stage, until)
    assert firings(stage) == [(label, "processed") for label in expected]
    assert set(Counter(stage.started).values()) == {1}


def test_the_spring_and_autumn_changes_lose_and_repeat_no_daily_firing() -> None:
    stage = Stage(Context(entry(at="at *-02:30", zone="Europe/Berlin")), at="2026-10-23T00:00Z")
    run_through(stage, "2026-10-28T00:00Z", minutes=15)
    assert [label for label, _ in firings(stage)] == [
        "00:30:00", "00:30:00", "00:30:00", "01:30:00", "01:30:00",
    ]  # fmt: skip


def test_a_firing_while_the_last_is_at_work_is_skipped_and_said() -> None:
    stage = played()
    stage.advance(minutes=30)
    (unit,) = stage.claim()
    stage.until("2026-11-19T00:30:10Z")
    stage.report(unit, fails)
    assert firings(stage) == [("00:30:00", "failed")]
    stage.until("2026-11-19T01:00Z")
    assert firings(stage)[-1] == ("01:00:00", "in_progress")
    stage.until("2026-11-19T01:30Z")
    assert firings(stage)[-1] == ("01:30:00", "skipped")
    assert last(stage).reason == "the run of 2026-11-19T01:00:00Z was still at work"
    assert [unit.key for unit in stage.requested] == ["f@2026-11-19T01:00:00Z#1"]
    stage.work()
    stage.until("2026-11-19T02:00Z")
    assert firings(stage)[-1] == ("02:00:00", "in_progress")


def test_under_the_policy_all_overlapping_firings_wait_their_turn() -> None:
    stage = played(misfire="all")
    stage.until("2026-11-19T02:00Z")
    assert firings(stage) == [("00:30:00", "in_progress")]
    stage.work()
    assert firings(stage) == [
        (label, "processed") for label in ("00:30:00", "01:00:00", "01:30:00", "02:00:00")
    ]


DOWNTIME = [
    ("once", ["00:30:00", "03:00:00"], "also for 4 missed firings"),
    ("skip", ["00:30:00", "03:00:00"], "missed, 0:15:00 late"),
    ("all", ["00:30:00", "01:00:00", "01:30:00", "02:00:00", "02:30:00", "03:00:00"], ""),
]


@pytest.mark.parametrize(("misfire", "expected", "reason"), DOWNTIME)
def test_what_was_missed_while_nobody_scheduled(
    misfire: str, expected: list[str], reason: str
) -> None:
    stage = played(misfire=misfire)
    stage.advance(minutes=30)
    stage.work()
    stage.clock.set(datetime.fromisoformat("2026-11-19T03:15Z"))
    stage.restart()
    assert last(stage).reason == reason
    stage.work()
    assert [label for label, _ in firings(stage)] == expected
    assert firings(stage)[-1][1] == ("skipped" if misfire == "skip" else "processed")
    stage.until("2026-11-19T03:30Z")
    stage.work()
    assert firings(stage)[-1] == ("03:30:00", "processed")


def test_a_firing_that_is_only_a_little_late_is_served_under_the_policy_skip_too() -> None:
    stage = played(misfire="skip")
    stage.clock.set(datetime.fromisoformat("2026-11-19T00:30:59Z"))
    stage.restart()
    stage.work()
    stage.clock.set(datetime.fromisoformat("2026-11-19T01:00:59Z"))
    stage.settle()
    assert firings(stage)[-1] == ("01:00:00", "in_progress")


def test_a_freerun_begins_with_the_first_scheduler_that_sees_it() -> None:
    stage = played("2026-11-19T00:10Z", misfire="all")
    assert firings(stage) == []
    stage.until("2026-11-19T00:30Z")
    assert firings(stage) == [("00:30:00", "in_progress")]


@pytest.mark.parametrize("misfire", ["once", "skip", "all"])
def test_restarts_neither_lose_nor_repeat_a_firing(misfire: str) -> None:
    stage = played(misfire=misfire)
    while stage.clock.now() < datetime.fromisoformat("2026-11-19T06:00Z"):
        stage.restart()
        stage.claim()
        stage.restart()
        for unit in stage.store.active_units():
            if unit.state is UnitState.IN_PROGRESS:
                stage.report(unit)
        stage.restart()
        stage.advance(minutes=10)
    assert [label for label, _ in firings(stage)] == [
        f"{minutes // 60:02}:{minutes % 60:02}:00" for minutes in range(30, 361, 30)
    ]
    assert set(Counter(stage.started).values()) == {1}


def test_a_failed_firing_does_not_stop_the_next() -> None:
    stage = played(max_attempts=1)
    stage.advance(minutes=30)
    stage.work(fails)
    stage.advance(minutes=30)
    stage.work(finds_nothing)
    assert firings(stage) == [("00:30:00", "failed"), ("01:00:00", "noop")]


def test_a_long_backlog_is_not_counted_for_ever() -> None:
    stage = Stage(Context(entry(at="every 1")), at="2026-11-19T00:00Z")
    stage.advance(seconds=1)
    stage.work()
    stage.clock.set(datetime.fromisoformat("2027-11-19T00:00Z"))
    stage.restart()
    assert last(stage).reason == f"also for {COUNTED} and more missed firings"
    assert last(stage).interval.label == "2027-11-19T00:00:00Z", "the latest one is served"
    assert len(stage.store.last_jobs("f", 10)) == 2


def test_a_triggered_run_is_made_at_once_and_is_not_made_twice() -> None:
    stage = played()
    stage.until("2026-11-19T00:10Z")
    assert stage.request("trigger", "f", reason="now").state == "done"
    stage.work()
    assert [state for _, state in firings(stage)] == ["processed"]
    assert last(stage).interval.label == "2026-11-19T00:10:00Z"
    stage.until("2026-11-19T00:30Z")
    assert len(firings(stage)) == 2


def test_a_triggered_run_is_refused_while_another_is_at_work() -> None:
    stage = played()
    stage.until("2026-11-19T00:30Z")
    stage.advance(minutes=1)
    answer = stage.request("trigger", "f")
    assert (answer.state, answer.answer["why"]) == (
        "refused",
        "the run of 2026-11-19T00:30:00Z is still at work",
    )
    assert "can be triggered, switched off and on" in str(
        stage.request("reprocess", "f").answer["why"]
    )


def test_a_trigger_executed_again_after_a_crash_is_answered_as_done() -> None:
    stage = played()
    stage.until("2026-11-19T00:10Z")
    request = Request(id="t", action="trigger", process="f", starts=(), filed_at=stage.clock.now())
    answer = stage.store.move_request
    stage.store.move_request = lambda request, expected: False  # type: ignore[method-assign]
    stage.store.file_request(request)
    stage.settle()
    stage.store.move_request = answer  # type: ignore[method-assign]
    stage.restart()
    answered = stage.store.read_request("t")
    assert answered is not None
    assert answered.state == "done"
    stage.work()
    assert len(firings(stage)) == 1
