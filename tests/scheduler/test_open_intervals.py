"""Continuous and recomputing processes: provisional runs while it is open, one final run after."""

from collections import Counter
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from synergy.core.admission import DISPATCH_AHEAD
from synergy.core.commands import MeasureSource
from synergy.core.context import Context, daily, hourly, tree
from synergy.core.engine import MEASURE_AGAIN
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.states import UnitState
from synergy.scheduler.sources import measured
from synergy.testing.stage import Stage, fails, finds_nothing

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = Calendar(Granularity.HOURLY).containing(NOON)


class Source:
    """A source whose boundaries are played."""

    def __init__(self) -> None:
        self.keys: tuple[int, int] | None = (1, 1)
        self.error: Any = None
        self.asked: list[str] = []

    def __call__(self, source: str, interval: Interval) -> tuple[int, int] | None:
        self.asked.append(interval.label)
        if self.error is not None:
            raise OSError(str(self.error()))
        return self.keys


def hours(machine: str = "continuous", **hour: Any) -> Context:
    given = {"machine": machine, "every": "every 600", "source": "s", **hour}
    return Context(
        tree(
            "t",
            [daily("d", run="w:f"), hourly("h", run="w:f", **given)],
            start="2026-11-19",
            lag=60,
        ),
        sources={"s": "w:k"},
    )


def played(at: str, machine: str = "continuous", **hour: Any) -> tuple[Stage, Source]:
    source = Source()
    return Stage(hours(machine, **hour), at=at, measure=source), source


BOTH = pytest.mark.parametrize("machine", ["continuous", "recomputing"])


@BOTH
def test_an_open_hour_runs_provisionally_at_its_pace_and_once_finally(machine: str) -> None:
    stage, _ = played("2026-11-19T00:00Z", machine)
    runs = []
    for _ in range(130):
        for unit in stage.claim():
            if unit.interval.label == "2026-11-19T00":
                runs.append((stage.clock.now().strftime("%H:%M"), unit.key, unit.provisional))
            stage.report(unit)
        stage.advance(minutes=1)
    assert runs == [
        ("00:00", "h@2026-11-19T00#1.1", True),
        ("00:10", "h@2026-11-19T00#1.2", True),
        ("00:20", "h@2026-11-19T00#1.3", True),
        ("00:30", "h@2026-11-19T00#1.4", True),
        ("00:40", "h@2026-11-19T00#1.5", True),
        ("00:50", "h@2026-11-19T00#1.6", True),
        ("01:00", "h@2026-11-19T00#1.7", True),
        ("01:01", "h@2026-11-19T00#1", False),
    ]
    job = stage.job("h", "2026-11-19T00")
    assert (job.state, job.runs, job.attempts) == ("processed", 7, 1)


@BOTH
def test_provisional_results_never_finish_a_parent(machine: str) -> None:
    stage, _ = played("2026-11-19T00:00Z", machine)
    for hour in range(24):
        stage.until(f"2026-11-19T{hour:02}:30Z")
        stage.work()
    stage.until("2026-11-20T00:00:59Z")
    assert stage.state("h", "2026-11-19T23") == "in_progress"
    assert stage.state("d", "2026-11-19") == "embryo"
    stage.until("2026-11-20T00:01:00Z")
    stage.work()
    assert stage.state("d", "2026-11-19") == "processed"
    finals = Counter(key for key in stage.started if "." not in key.split("#")[1])
    assert set(finals.values()) == {1}


def test_a_provisional_unit_that_nobody_has_started_is_dropped_when_the_hour_closes() -> None:
    stage, _ = played("2026-11-19T00:59Z")
    assert [unit.key for unit in stage.requested] == ["h@2026-11-19T00#1.1"]
    stage.until("2026-11-19T01:01Z")
    dropped = stage.unit("h@2026-11-19T00#1.1")
    assert dropped is not None
    assert (dropped.state, dropped.reason) == (UnitState.CANCELED, "its interval has closed")
    assert "h@2026-11-19T00#1" in {unit.key for unit in stage.requested}


def test_a_provisional_unit_that_is_at_work_ends_before_the_final_run_begins() -> None:
    stage, _ = played("2026-11-19T00:59:55Z")
    (unit,) = stage.claim()
    stage.advance(seconds=10)
    assert stage.report(unit)
    stage.until("2026-11-19T01:01:00Z")
    assert stage.state("h", "2026-11-19T00") == "final_run"


def test_a_provisional_unit_that_is_lost_after_closing_is_not_started_again() -> None:
    stage, _ = played("2026-11-19T01:00:55Z")
    (unit, *_) = stage.claim()
    assert unit.key == "h@2026-11-19T00#1.1"
    stage.advance(seconds=20)
    assert [each.key for each in stage.claim()][:1] == ["h@2026-11-19T00#1"]


def test_a_provisional_run_that_fails_is_said_and_the_final_run_is_made() -> None:
    stage, _ = played("2026-11-19T00:00Z", max_attempts=1)
    stage.work(fails)
    job = stage.job("h", "2026-11-19T00")
    assert job.state == "in_progress"
    assert job.reason.startswith("provisional run 1 was given up: attempt 1")
    stage.until("2026-11-19T01:01Z")
    stage.work()
    assert stage.state("h", "2026-11-19T00") == "processed"


@BOTH
def test_hours_that_closed_meanwhile_go_straight_to_their_final_run(machine: str) -> None:
    stage, source = played("2026-11-19T12:30Z", machine)
    stage.work()
    assert [key for key in stage.started if "." in key] == ["h@2026-11-19T12#1.1!1"]
    assert len(stage.started) == 13
    if machine == "recomputing":
        assert Counter(source.asked).most_common(1)[0][1] == 1
    assert stage.state("h", "2026-11-19T11") == "processed"


@BOTH
def test_each_generation_has_exactly_one_final_run(machine: str) -> None:
    stage, _ = played("2026-11-19T03:30Z", machine)
    stage.work()
    stage.request("reprocess", "h", "2026-11-19T01", "2026-11-19T03")
    stage.work()
    stage.until("2026-11-19T04:01Z")
    stage.work()
    finals = Counter(key.split("!")[0] for key in stage.started if "." not in key)
    assert finals["h@2026-11-19T01#1"] == finals["h@2026-11-19T01#2"] == 1
    assert finals["h@2026-11-19T03#2"] == 1
    assert finals["h@2026-11-19T03#1"] == 0, "it was reopened while it was open"


@BOTH
@pytest.mark.parametrize("runs", [1, 2, 5])
def test_a_reprocess_withdraws_the_provisional_unit_whatever_its_number(
    machine: str, runs: int
) -> None:
    stage, _ = played("2026-11-19T00:00Z", machine)
    for _ in range(runs - 1):
        stage.work()
        stage.advance(minutes=10)
    (unit,) = stage.claim()
    assert unit.run == runs
    stage.request("reprocess", "h", "2026-11-19T00")
    assert not stage.report(unit)
    assert [each.key for each in stage.claim()] == ["h@2026-11-19T00#2.1"]


def test_a_wave_from_below_leaves_the_open_day_its_generation() -> None:
    context = Context(
        tree(
            "t",
            [
                daily("d", run="w:f", machine="continuous", every="every 3600"),
                hourly("h", run="w:f"),
            ],
            start="2026-11-19",
            lag=0,
        )
    )
    stage = Stage(context, at="2026-11-19T05:00Z")
    stage.work()
    stage.request("reprocess", "h", "2026-11-19T02")
    day = stage.job("d", "2026-11-19")
    assert (day.generation, day.holds, day.state) == (1, (), "in_progress")
    stage.until("2026-11-19T06:00Z")
    stage.work()
    assert stage.started[-1] in ("d@2026-11-19#1.2!1", "h@2026-11-19T05#1!1")


def test_blocking_on_children_keeps_provisional_runs_waiting() -> None:
    def day(blocking: str) -> Stage:
        levels = [
            daily("d", run="w:f", machine="continuous", every="every 3600", blocking=blocking),
            hourly("h", run="w:f"),
        ]
        return Stage(Context(tree("t", levels, start="2026-11-19", lag=0)), at="2026-11-19T05:00Z")

    free, blocked = day("normal"), day("children")
    for stage in (free, blocked):
        stage.work()
    assert "d@2026-11-19#1.1!1" in free.started
    assert "d@2026-11-19#1.1!1" not in blocked.started
    blocked.until("2026-11-20T00:00Z")
    blocked.work()
    assert "d@2026-11-19#1!1" in blocked.started


# what is measured


def test_the_boundaries_that_were_measured_go_with_the_unit() -> None:
    stage, source = played("2026-11-19T00:20Z", "recomputing")
    bounds: list[tuple[int, int] | None] = [(3, 9), None, (4, 4)]
    for keys in bounds:
        stage.work()
        source.keys = keys
        stage.advance(minutes=10)
        (unit,) = stage.claim()
        assert (unit.low, unit.high) == (keys or (None, None))
        assert stage.report(unit)
    assert source.asked == ["2026-11-19T00"] * 4


def test_the_final_run_is_measured_after_the_close() -> None:
    stage, source = played("2026-11-19T00:30Z", "recomputing")
    stage.report(stage.claim()[0])
    source.keys = (1, 1000)
    stage.until("2026-11-19T01:01Z")
    (unit,) = [unit for unit in stage.claim() if not unit.provisional]
    assert (unit.low, unit.high) == (1, 1000)


def test_a_provisional_unit_that_nobody_starts_is_widened_at_the_pace_of_the_runs() -> None:
    stage, source = played("2026-11-19T00:30Z", "recomputing")
    for high in (5, 6):
        source.keys = (1, high)
        stage.advance(minutes=10)
        (unit,) = stage.requested
        assert (unit.key, unit.high, unit.attempt) == ("h@2026-11-19T00#1.1", high, 1)
    (started,) = stage.claim()
    assert started.high == 6
    assert stage.report(started)


def test_what_is_at_work_is_not_widened() -> None:
    stage, source = played("2026-11-19T00:30Z", "recomputing")
    (unit,) = stage.claim()
    source.keys = (1, 5)
    stage.advance(seconds=10)
    for _ in range(5):
        assert unit.owner is not None
        stage.advance(seconds=1)
    current = stage.unit(unit.key)
    assert current is not None
    assert current.high == 1


@pytest.mark.parametrize("text", ["always the same", "another each time"])
def test_a_source_that_cannot_be_measured_is_asked_again_in_a_while_and_said(text: str) -> None:
    number = count()
    stage, source = played("2026-11-19T00:30Z", "recomputing")
    stage.claim()
    source.error = (lambda: text) if text.startswith("always") else (lambda: f"{next(number)}")
    source.asked.clear()
    stage.until("2026-11-19T02:01Z")
    job = stage.job("h", "2026-11-19T01")
    assert job.state == "embryo"
    assert job.reason.startswith("its source could not be measured: OSError(")
    minutes = 91
    assert len(source.asked) <= 2 * minutes * 60 / MEASURE_AGAIN.total_seconds() + 5
    source.error = None
    stage.advance(seconds=MEASURE_AGAIN.total_seconds())
    assert "h@2026-11-19T01#1" in {unit.key for unit in stage.requested}


def test_a_restart_while_a_source_fails_goes_on_asking() -> None:
    stage, source = played("2026-11-19T00:30Z", "recomputing")
    source.error = lambda: "down"
    stage.restart()
    stage.advance(minutes=1)
    source.error = None
    stage.advance(minutes=1)
    stage.work()
    stage.until("2026-11-19T01:01Z")
    stage.work(finds_nothing)
    assert stage.state("h", "2026-11-19T00") == "noop"


def test_a_catch_up_measures_no_more_than_it_may_request() -> None:
    source = Source()
    context = Context(
        tree(
            "t",
            [hourly("h", run="w:f", machine="recomputing", source="s")],
            start="2016-11-19",
            lag=0,
        ),
        sources={"s": "w:k"},
    )
    stage = Stage(context, at="2026-11-19T00:00Z", measure=source)
    assert len(source.asked) <= DISPATCH_AHEAD + 1
    assert source.asked[:2] == ["2016-11-19T00", "2016-11-19T01"]
    assert len(stage.requested) <= DISPATCH_AHEAD
    first = stage.claim(limit=3)
    assert [unit.interval.label for unit in first] == [f"2016-11-19T{n:02}" for n in range(3)]
    for unit in first:
        stage.report(unit)
    assert len(source.asked) <= DISPATCH_AHEAD + 4


def test_a_restart_in_an_open_hour_goes_on_with_its_pace() -> None:
    stage, _ = played("2026-11-19T00:00Z")
    for _ in range(70):
        stage.restart()
        stage.work()
        stage.advance(minutes=1)
    of_the_first = [key for key in stage.started if "T00#" in key]
    assert of_the_first == [
        *(f"h@2026-11-19T00#1.{run}!1" for run in range(1, 8)),
        "h@2026-11-19T00#1!1",
    ]


def test_a_trigger_makes_the_next_provisional_run_at_once() -> None:
    stage, _ = played("2026-11-19T00:00Z")
    stage.work()
    assert stage.claim() == []
    assert stage.request("trigger", "h", "2026-11-19T00").state == "done"
    assert [unit.key for unit in stage.claim()] == ["h@2026-11-19T00#1.2"]
    assert stage.clock.now() == datetime.fromisoformat("2026-11-19T00:00Z")


@pytest.mark.parametrize(
    "answer", [(NOON, NOON), (1, 2, 3), 5, (float("nan"), 1), SystemExit(3)], ids=repr
)
def test_whatever_a_source_returns_is_its_error_and_not_ours(answer: object) -> None:
    def measure(source: str, interval: Interval) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    told = measured(measure, MeasureSource("p", HOUR, "events"))
    assert told.error is not None
    assert "None, or its first and last key" in told.error
