"""A wall clock that jumps changes when things happen, never what (I15)."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from synergy.core import recovery
from synergy.core.context import Context, daily, freerun, hourly, tree
from synergy.core.model import Claim, UnitWrite
from synergy.testing.stage import Stage, fails


def days_of_hours(**hour: Any) -> Context:
    return Context(
        tree(
            "t",
            [daily("d", run="w:f"), hourly("h", run="w:f", **hour)],
            start="2026-11-19",
            lag=0,
        ),
        freerun("f", at="every 1800", run="w:f"),
    )


def jump(stage: Stage, **by: float) -> None:
    stage.clock.advance(timedelta(**by))
    stage.settle()


def test_a_day_that_fell_due_before_the_clock_was_set_back_runs_when_it_is_due_again() -> None:
    stage = Stage(days_of_hours(), at="2026-11-19T23:59Z")
    stage.work()
    stage.advance(minutes=2)
    (unit,) = stage.claim(only="h")
    jump(stage, minutes=-30)
    stage.report(unit)
    assert stage.claim(only="d") == []
    stage.until("2026-11-20T00:00Z")
    assert [unit.key for unit in stage.claim(only="d")] == ["d@2026-11-19#1"]


def test_what_stood_ready_when_the_clock_was_set_back_runs_when_it_is_due_again() -> None:
    stage = Stage(days_of_hours(parallel=1), at="2026-11-19T12:00Z")
    (first,) = stage.claim(only="h")
    jump(stage, hours=-10)
    stage.report(first)
    stage.work(only="h")
    assert [key for key in stage.started if key[0] == "h"][1:] == ["h@2026-11-19T01#1!1"]
    stage.until("2026-11-19T12:00Z")
    stage.work(only="h")
    assert len([key for key in stage.started if key[0] == "h"]) == 12


@pytest.mark.parametrize("machine", ["discrete", "continuous"])
@pytest.mark.parametrize("hours", [-48, -5, -1, 1, 30, 24 * 60])
def test_after_a_jump_and_back_everything_is_done_once(machine: str, hours: int) -> None:
    stage = Stage(days_of_hours(machine=machine), at="2026-11-19T06:30Z")
    stage.work()
    stage.claim()
    jump(stage, hours=hours)
    stage.work()
    jump(stage, hours=-hours)
    end = datetime.fromisoformat("2026-11-21T00:10Z")
    while stage.clock.now() < end:
        stage.work()
        stage.advance(minutes=17)
    stage.until("2026-11-21T01:00Z")
    stage.work()
    for day in ("2026-11-19", "2026-11-20"):
        assert stage.state("d", day) == "processed"
        for hour in range(24):
            assert stage.state("h", f"{day}T{hour:02}") == "processed"
    finals = [key for key in stage.started if "." not in key]
    assert len(finals) == len(set(finals))


def test_a_freerun_fires_on_after_the_clock_was_a_year_ahead() -> None:
    stage = Stage(days_of_hours(), at="2026-11-19T06:15Z")
    jump(stage, days=365)
    stage.work(only="f")
    jump(stage, days=-365)
    stage.advance(minutes=20)
    fired = [unit.interval.label for unit in stage.claim(only="f")]
    assert fired == ["2026-11-19T06:30:00Z"]


def test_a_firing_is_not_repeated_when_the_clock_is_set_back_over_it() -> None:
    stage = Stage(days_of_hours(), at="2026-11-19T06:15Z")
    stage.advance(minutes=20)
    stage.work(only="f")
    jump(stage, minutes=-10)
    stage.advance(minutes=10)
    stage.work(only="f")
    assert [key for key in stage.started if key[0] == "f"] == ["f@2026-11-19T06:30:00Z#1!1"]
    stage.advance(minutes=25)
    stage.work(only="f")
    assert len([key for key in stage.started if key[0] == "f"]) == 2


def test_an_open_hour_goes_on_after_the_clock_was_set_back() -> None:
    stage = Stage(days_of_hours(machine="continuous", every="every 600"), at="2026-11-19T06:55Z")
    stage.work(only="h")
    jump(stage, minutes=-30)
    for _ in range(7):
        assert stage.state("h", "2026-11-19T06") == "in_progress"
        stage.work(only="h")
        stage.advance(minutes=5)
    stage.work(only="h")
    runs = [key for key in stage.started if "T06#" in key]
    assert runs == ["h@2026-11-19T06#1.1!1", "h@2026-11-19T06#1!1"], "7:00 was already told"
    assert stage.state("h", "2026-11-19T06") == "processed"


@pytest.mark.parametrize("misfire", ["once", "all"])
def test_a_scheduler_that_woke_up_ten_years_ago_does_not_replay_them(misfire: str) -> None:
    context = Context(
        freerun("f", at="every 1800", run="w:f", misfire=misfire, start="2026-11-19T06:00Z")
    )
    stage = Stage(context, at="2016-11-19T06:15Z")
    assert stage.claim() == []
    jump(stage, days=3652)
    assert stage.clock.now() == datetime.fromisoformat("2026-11-19T06:15Z")
    assert stage.claim() == []
    stage.advance(minutes=20)
    assert [unit.interval.label for unit in stage.claim()] == ["2026-11-19T06:30:00Z"]


def test_a_freerun_fires_on_when_a_scheduler_starts_after_the_clock_was_a_year_ahead() -> None:
    stage = Stage(days_of_hours(), at="2026-11-19T06:15Z")
    stage.advance(minutes=20)
    stage.work(only="f")
    jump(stage, days=365)
    stage.work(only="f")
    stage.clock.advance(timedelta(days=-365))
    stage.restart()
    stage.advance(minutes=40)
    assert [unit.interval.label for unit in stage.claim(only="f")] == ["2026-11-19T07:00:00Z"]


@pytest.mark.parametrize(
    ("years", "lost_after"), [(-10, recovery.LEASE), (10, recovery.LONGEST_LEASE)]
)
def test_a_lease_that_a_wrong_clock_wrote_is_lost_when_it_stays_as_it_is(
    years: int, lost_after: timedelta
) -> None:
    stage = Stage(days_of_hours(), at="2026-11-19T06:15Z")
    wrong = stage.clock.now() + timedelta(days=365 * years)
    (unit,) = stage.store.claim(
        Claim("w", wrong, wrong + recovery.LEASE, 1, processes=frozenset({"h"}))
    )
    stage.settle()
    end = stage.clock.now() + lost_after
    stage.until(end - timedelta(seconds=1))
    assert stage.unit(unit.key) == unit
    stage.until(end)
    lost = stage.unit(unit.key)
    assert lost is not None
    assert (lost.attempt, lost.owner) == (2, None)
    assert "lease ran out" in lost.reason


def test_a_wait_that_a_wrong_clock_wrote_is_taken_off() -> None:
    stage = Stage(days_of_hours(max_attempts=9), at="2026-11-19T06:15Z")
    unit = stage.claim(only="h")[0]
    later = stage.clock.now() + timedelta(days=3652)
    stage.store.save_units([UnitWrite(fails(unit, later), unit.fence)])
    stage.settle()
    waits = stage.unit(unit.key)
    assert waits is not None
    assert waits.not_before is None
    assert waits.reason == "its wait was set by a wrong clock"


def test_a_day_that_has_begun_by_another_clock_is_reopened_with_its_hour() -> None:
    """The scheduler's clock is set back to before the day, which is at work already (I3)."""
    stage = Stage(days_of_hours(), at="2026-11-20T00:00:01Z")
    stage.work(only="h")
    (day,) = stage.claim(only="d")
    stage.clock.advance(timedelta(days=-2))
    stage.request("reprocess", "h", "2026-11-19T07")
    assert stage.job("d", "2026-11-19").generation == 2
    assert not stage.report(day)
