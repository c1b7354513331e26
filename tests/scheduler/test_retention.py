"""What the scheduler forgets, and that nobody misses it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from synergy.core.context import Context, daily, hourly, tree
from synergy.scheduler import loop, retention
from synergy.testing.stage import Stage

DAYS = 3


def test_the_feed_is_cut_behind_the_ledgers_and_a_restart_knows_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "FEED_KEPT", 10)
    monkeypatch.setattr(loop, "LEDGERS_AFTER", 100)
    levels = [daily("day", run="w:f"), hourly("hour", run="w:f")]
    context = Context(tree("t", levels, start="2026-05-01", until=f"2026-05-0{1 + DAYS}", lag=0))
    stage = Stage(context, at="2026-06-01T00:00Z")
    assert stage.work() == DAYS * 25
    stage.clock.advance(2 * loop.HOUSEKEEPING)
    stage.settle()
    assert len(stage.store.feed(0, 10_000)) == 10
    before = {name: one.content() for name, one in stage.timetable.ledgers.items()}
    stage.restart()
    assert {name: one.content() for name, one in stage.timetable.ledgers.items()} == before
    assert stage.work() == 0


def kept(stage: Stage, process: str, *labels: str) -> list[str]:
    """Those of the intervals whose unit is remembered."""
    found = {label: stage.job(process, label).unit or "" for label in labels}
    units = stage.store.read_units(found.values())
    return [label for label, key in found.items() if key in units]


HOURS = [f"2026-05-{day:02}T{hour:02}" for day in (1, 2, 3) for hour in range(24)]


def month(**hour: Any) -> Context:
    levels = [daily("day", run="w:f"), hourly("hour", run="w:f", **hour)]
    return Context(
        tree("t", levels, start="2026-05-01", until="2026-06-01", lag=0), sources={"s": "w:s"}
    )


def housekept(stage: Stage) -> None:
    stage.clock.advance(2 * loop.HOUSEKEEPING)
    stage.settle()


def test_units_are_forgotten_so_long_after_their_interval_and_the_jobs_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 10)
    stage = Stage(month(), at="2026-05-04T00:00Z", keep_units=timedelta(days=2))
    stage.work()
    for gone in (10, 20, 24, 24):
        housekept(stage)
        assert kept(stage, "hour", *HOURS) == HOURS[gone:]
    assert kept(stage, "day", "2026-05-01", "2026-05-02") == ["2026-05-02"]
    assert {stage.state("hour", label) for label in HOURS} == {"processed"}
    stage.until("2026-05-05T12:00Z")
    stage.restart()
    stage.work()
    for _ in range(5):
        housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS[60:]
    stage.request("reprocess", "hour", HOURS[0])
    assert stage.work() == 2
    assert stage.state("day", "2026-05-01") == "processed"


def test_what_is_looked_at_for_late_data_keeps_its_units() -> None:
    late = {"machine": "recomputing", "source": "s", "late": "mark", "late_for": 86_400 * 3}
    stage = Stage(
        month(**late),
        at="2026-05-04T00:00Z",
        keep_units=timedelta(days=1),
        measure=lambda source, interval: (1, 2),
    )
    stage.work()
    housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS
    assert kept(stage, "day", "2026-05-01", "2026-05-02", "2026-05-03") == ["2026-05-03"]


def test_a_clock_that_is_years_ahead_forgets_no_more_than_is_worked_anew() -> None:
    levels = [daily("day", run="w:f"), hourly("hour", run="w:f")]
    context = Context(tree("t", levels, start="2026-05-01", lag=0))
    stage = Stage(context, at="2026-05-04T00:00Z", keep_units=timedelta(days=2))
    stage.work()
    housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS[24:]
    stage.clock.set(datetime.fromisoformat("2026-10-01T00:00Z"))
    stage.restart()
    for _ in range(3):
        housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS[24:], "nothing was worked since"
    for unit in stage.claim(only="hour", limit=12):
        stage.report(unit)
    assert stage.state("hour", "2026-05-04T11") == "processed"
    for _ in range(3):
        housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS[36:], "half a day for half a day"
    assert kept(stage, "day", "2026-05-01", "2026-05-02") == ["2026-05-02"]


def test_what_was_left_out_while_a_process_was_off_counts_for_nothing() -> None:
    stage = Stage(
        Context(tree("t", [hourly("hour", run="w:f")], start="2026-05-01", lag=0)),
        at="2026-05-04T00:00Z",
        keep_units=timedelta(days=2),
    )
    stage.work()
    stage.request("switch", "hour", on=False)
    stage.until("2026-06-04T00:00Z")
    stage.request("switch", "hour", on=True, catch_up="none")
    stage.work()
    assert stage.state("hour", "2026-06-03T22") == "skipped"
    for _ in range(3):
        housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS[24:]
    stage.advance(hours=2)
    stage.work()
    for _ in range(3):
        housekept(stage)
    assert kept(stage, "hour", *HOURS) == []


def test_without_a_limit_nothing_is_forgotten() -> None:
    stage = Stage(month(), at="2026-05-04T00:00Z")
    stage.work()
    stage.until("2027-05-04T00:00Z")
    housekept(stage)
    assert kept(stage, "hour", *HOURS) == HOURS
    assert stage.store.read_documents("retention") == {}
