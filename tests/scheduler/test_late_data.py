"""Late data: sources that grow after their interval was finished."""

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.building import CatalogError, build
from synergy.core.context import Context, ProcessDeclaration, daily, hourly, tree
from synergy.core.intervals import Interval
from synergy.core.late import ACTOR, grown
from synergy.core.model import Json
from synergy.testing.invariants import CheckedStore
from synergy.testing.stage import Stage, processes, processes_with
from tests.scheduler.test_marks import checked

DAY = "2026-11-18"
LABELS = [f"{DAY}T{hour:02}" for hour in range(24)]


class Source:
    """First and last key of each hour."""

    def __init__(self) -> None:
        self.last: Counter[str] = Counter()
        self.asked: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, source: str, interval: Interval) -> tuple[Json, Json] | None:
        self.asked.append(interval.label)
        if interval.label in self.broken:
            raise OSError("the disk is gone")
        return 1, 10 + self.last[interval.label]


def watched(hour: dict[str, Any] | None = None, until: str = "2026-11-19") -> Context:
    options = {"late": "reprocess", **(hour or {})}
    return Context(
        tree(
            "t",
            [
                daily("d", run="w:f"),
                hourly("h", run="w:f", machine="recomputing", source="s", **options),
            ],
            start=DAY,
            until=until,
            lag=0,
        ),
        sources={"s": "w:k"},
    )


def finished(at: str = "2026-11-19T00:30Z", **hour: Any) -> tuple[Stage, Source]:
    """Everything is done, and nothing of it was looked at yet."""
    source, context = Source(), watched(hour)
    store = CheckedStore(Stage(context, at="2026-11-17T00:00Z", measure=source).catalog)
    stage = Stage(context, at=at, measure=source, store=store)
    stage.work()
    stage.started.clear()
    source.asked.clear()
    return stage, source


def requests(stage: Stage) -> list[Any]:
    return [each for each in stage.store.last_requests(100) if each.actor == ACTOR]


def test_what_grew_is_processed_again_and_its_day_once() -> None:
    stage, source = finished()
    for label in LABELS:
        source.last[label] += 5
    stage.until("2026-11-19T01:00Z")
    [request] = requests(stage)
    assert (request.action, request.state, len(request.starts)) == ("reprocess", "done", 24)
    assert request.reason == (
        f"{DAY}T00 was made from 1 … 10, and its source has 1 … 15; "
        f"{DAY}T01 was made from 1 … 10, and its source has 1 … 15; and 22 more"
    )
    assert request.options["late"][0] == {
        "interval": f"{DAY}T00",
        "generation": 1,
        "had": [1, 10],
        "has": [1, 15],
    }
    stage.work()
    assert Counter(stage.started) == {
        **{f"h@{label}#2!1": 1 for label in LABELS},
        f"d@{DAY}#2!1": 1,
    }
    unit = stage.unit(f"h@{DAY}T00#2")
    assert unit is not None
    assert (unit.low, unit.high) == (1, 15)
    assert any(request.reason in each.reason for each in stage.job("d", DAY).transitions)
    stage.until("2026-11-19T12:00Z")
    assert len(requests(stage)) == 1
    checked(stage)


def test_what_is_only_to_be_marked_stands() -> None:
    stage, source = finished(late="mark")
    source.last[f"{DAY}T07"] += 1
    stage.until("2026-11-19T01:00Z")
    hour = stage.job("h", f"{DAY}T07")
    assert (hour.state, hour.generation, hour.outdated, hour.forced) == ("processed", 1, True, True)
    assert stage.job("d", DAY).outdated
    assert stage.work() == 0
    source.last[f"{DAY}T07"] += 1
    stage.until("2026-11-19T05:00Z")
    assert len(requests(stage)) == 1, "it is marked already"
    stage.request("reprocess", "h", f"{DAY}T07")
    stage.work()
    source.last[f"{DAY}T07"] += 1
    stage.until("2026-11-19T06:00Z")
    assert len(requests(stage)) == 2, "it grew again, after a new generation"
    checked(stage)


def test_nobody_is_looked_at_who_does_not_want_it() -> None:
    stage, source = finished(late="ignore")
    source.last[f"{DAY}T07"] += 1
    stage.until("2026-12-19T00:00Z")
    assert source.asked == []


def test_an_interval_is_looked_at_as_often_and_as_long_as_is_said() -> None:
    stage, source = finished(late_for=7200, late_every=1800)
    stage.until("2026-11-19T04:00Z")
    assert Counter(source.asked) == {f"{DAY}T23": 2}, "at 1:00 and 1:30"
    assert requests(stage) == []


def test_a_look_has_its_own_time_which_a_restart_does_not_move() -> None:
    stage, source = finished(late_for=timedelta(days=9), late_every="at *-06:00")
    for _ in range(5):
        stage.restart()
        stage.advance(hours=1)
    assert source.asked == []
    stage.until("2026-11-19T06:00Z")
    assert source.asked == LABELS
    stage.restart()
    stage.until("2026-11-20T05:00Z")
    assert source.asked == LABELS


def test_the_cost_is_that_of_the_window() -> None:
    context = watched({"late_for": 3 * 3600}, until="2027-11-19")
    source = Source()
    stage = Stage(context, at="2026-11-26T00:30Z", measure=source)
    stage.work()
    source.asked.clear()
    stage.until("2026-11-26T01:00Z")
    before = [label for label in source.asked if not label.startswith("2026-11-26")]
    assert before == ["2026-11-25T22", "2026-11-25T23"]


def test_one_source_is_asked_at_a_time() -> None:
    stage, _ = finished()
    stage.clock.set(datetime.fromisoformat("2026-11-19T01:00Z"))
    sources = stage.scheduler.setting.sources
    asked = []
    ask = sources.ask
    sources.ask = lambda command: (asked.append(command.interval.label), ask(command))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    stage.scheduler.once(everything=False)
    assert asked == [f"{DAY}T00"]
    for _ in range(3):
        stage.scheduler.once(everything=False)
    assert asked == LABELS[:4]


def test_an_interval_that_is_reopened_meanwhile_is_left_alone() -> None:
    stage, source = finished()
    source.last[f"{DAY}T07"] += 1
    stage.clock.set(datetime.fromisoformat("2026-11-19T01:00Z"))
    for _ in range(12):
        stage.scheduler.once(everything=False)
    assert f"{DAY}T08" in source.asked
    stage.request("reprocess", "h", f"{DAY}T07")
    stage.settle()
    assert requests(stage) == []


def test_a_source_that_fails_is_said_and_asked_at_the_next_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage, source = finished()
    source.broken = {f"{DAY}T03", f"{DAY}T07"}
    source.last[f"{DAY}T07"] += 1
    source.last[f"{DAY}T09"] += 1
    with caplog.at_level("WARNING", logger="synergy"):
        stage.until("2026-11-19T01:00Z")
    said = [record.getMessage() for record in caplog.records if "late data" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"h could not be looked at for late data: {DAY}T03: OSError(")
    assert said[0].endswith("(and 1 more)")
    assert [len(each.starts) for each in requests(stage)] == [1], "the others were looked at"
    assert stage.state("h", f"{DAY}T07") == "processed"
    stage.work()
    source.broken.clear()
    stage.until("2026-11-19T02:00Z")
    found = sorted(each["interval"] for one in requests(stage) for each in one.options["late"])
    assert found == [f"{DAY}T07", f"{DAY}T09"]


def test_it_is_filed_once_however_often_it_is_noticed() -> None:
    stage, source = finished()
    source.last[f"{DAY}T07"] += 1
    other = Stage(watched(), at="2026-11-19T00:30Z", measure=source, store=stage.store)
    for each in (stage, other):
        each.clock.set(datetime.fromisoformat("2026-11-19T01:00Z"))
    for _ in range(60):
        for each in (stage, other):
            each.scheduler.once(everything=False)
    for each in (stage, other):
        each.settle()
    assert [request.state for request in requests(stage)] == ["done"]
    stage.work()
    other.settle()
    stage.restart()
    stage.until("2026-11-19T03:00Z")
    assert len(requests(stage)) == 1
    assert stage.job("h", f"{DAY}T07").generation == 2


def test_one_that_noticed_more_does_not_reopen_what_another_has() -> None:
    stage, source = finished()
    source.last[f"{DAY}T07"] += 1
    stage.until("2026-11-19T01:00Z")
    [first] = requests(stage)
    stage.work()
    again = replace(
        first,
        id="late-of-another",
        state="filed",
        starts=(*first.starts, stage.interval("h", f"{DAY}T08").start),
        options={
            "late": [
                *first.options["late"],
                {"interval": f"{DAY}T08", "generation": 1, "had": [1, 10], "has": [1, 11]},
            ]
        },
    )
    stage.store.file_request(again)
    stage.settle()
    stage.work()
    assert stage.job("h", f"{DAY}T07").generation == 2
    assert stage.job("h", f"{DAY}T08").generation == 2
    assert stage.job("d", DAY).generation == 3


def test_the_bounds_are_those_of_the_last_unit_also_where_the_result_came_back_as_it_was() -> None:
    source, context = Source(), watched()
    stage = Stage(context, at="2026-11-19T00:30Z", measure=source)
    stage.work(processes_with("as ever"))
    source.last[f"{DAY}T07"] += 1
    stage.until("2026-11-19T01:00Z")
    stage.work(processes_with("as ever"))
    assert stage.job("h", f"{DAY}T07").result == 1
    stage.until("2026-11-19T03:00Z")
    assert len(requests(stage)) == 1


@pytest.mark.parametrize(
    ("had", "has", "is_more"),
    [
        ((1, 9), (1, 9), False),
        ((1, 9), (1, 10), True),
        ((1, 9), (0, 9), True),
        ((1, 9), (3, 9), False),
        ((1, 9), (3, 8), False),
        ((1, 9), (None, None), False),
        ((None, None), (1, 1), True),
        ((None, None), (None, None), False),
        ((["a", 1], ["b", 2]), (["a", 1], ["b", 3]), True),
        (("2026", "2027"), ("2026", "2026"), False),
        ((1, 9), ("1", "9"), True),
        (({"id": 1}, {"id": 2}), ({"id": 1}, {"id": 2}), False),
    ],
)
def test_only_more_is_late_data(had: Any, has: Any, is_more: bool) -> None:
    assert grown(had, has) is is_more


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"late": "redo"}, "late 'redo' is none of ignore, mark, reprocess"),
        ({"late": "mark", "machine": "discrete"}, "late='mark' is for recomputing processes"),
        ({"late_for": 60}, "late_for says nothing without late='mark' or 'reprocess'"),
        ({"late_every": 60}, "late_every says nothing without late='mark' or 'reprocess'"),
        ({"late": "mark", "late_for": -1}, "late_for -1 is not a number of seconds"),
        ({"late": "mark", "late_every": 0}, "late_every: "),
        ({"late": "mark", "late_every": 0.5}, "late_every 0.5 is no trigger"),
        ({"late": "mark", "late_every": "often"}, "late_every: "),
    ],
)
def test_what_cannot_be_meant_is_told(options: dict[str, Any], problem: str) -> None:
    given: dict[str, Any] = {"machine": "recomputing", "source": "s", **options}
    level = hourly("h", run="w:f", **given)
    assert isinstance(level, ProcessDeclaration)
    context = Context(tree("t", [level], start=DAY), sources={"s": "w:k"})
    with pytest.raises(CatalogError) as found:
        build(context, datetime.fromisoformat("2026-11-19T00:00Z"))
    assert len(found.value.problems) == 1
    assert problem in found.value.problems[0]


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False), st.sampled_from(["mark", "reprocess"]))
def test_in_the_end_no_result_is_made_from_less_than_there_is_unsaid(
    rng: random.Random, policy: str
) -> None:
    """However late it comes, with restarts at any moment: within its window nothing is missed."""
    stage, source = finished(late=policy)
    for _ in range(rng.randrange(1, 25)):
        match rng.randrange(6):
            case 0 | 1:
                source.last[rng.choice(LABELS)] += 1
            case 2:
                stage.restart()
            case 3:
                stage.scheduler.once(everything=False)
            case 4:
                stage.advance(minutes=rng.randrange(1, 70))
            case _:
                for unit in stage.claim(rng.randrange(1, 30)):
                    stage.report(unit, rng.choice([processes, processes_with("a")]))
    source.broken.clear()
    for _ in range(3):
        stage.work()
        stage.advance(hours=1)
    for label in LABELS:
        job = stage.job("h", label)
        units = [stage.unit(f"h@{label}#{number}") for number in range(1, job.generation + 1)]
        high = [unit.high for unit in units if unit is not None and unit.state == "processed"][-1]
        current = high == 10 + source.last[label]
        assert current if policy == "reprocess" else (current or job.outdated), label
    checked(stage)
