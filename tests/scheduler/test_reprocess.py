"""Reprocessing: what is built on a result is made anew, once, and nothing of the old gets in."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.context import (
    Context,
    daily,
    hourly,
    monthly,
    offset,
    previous,
    tree,
    yearly,
)
from synergy.core.model import Applied, Job, JobWrite, Refused, Request
from synergy.core.states import UnitState
from synergy.stores.memory import MemoryStore
from synergy.testing.stage import Stage, fails, finds_nothing, processes, processes_with

SPAN: dict[str, Any] = {"start": "2026-11-18", "until": "2026-11-20", "lag": 0}


def clients_of_sites(**hour: Any) -> Context:
    """hour → day → month → year, and a client tree that depends on the days."""
    return Context(
        tree(
            "site",
            [
                yearly("y", run="w:f"),
                monthly("m", run="w:f"),
                daily("d", run="w:f"),
                hourly("h", run="w:f", **hour),
            ],
            **SPAN,
        ),
        tree("client", [monthly("cm", run="w:f"), daily("c", run="w:f", after="d")], **SPAN),
    )


def finished(context: Context, worker: Any = processes) -> Stage:
    """A stage on which everything is done."""
    stage = Stage(context, at="2027-01-01T00:00Z")
    stage.work(worker)
    stage.started.clear()
    return stage


def jobs_at_rest(stage: Stage) -> None:
    """Nothing is held, under way, or built on an old generation (I4, L3)."""
    assert stage.store.active_jobs() == []
    assert stage.store.active_units() == []
    for name, process in stage.catalog.processes.items():
        start, end = stage.catalog.spans[name]
        assert end is not None
        for interval in process.calendar.between(start, end):
            job = stage.job(name, interval.label)
            if job.state == "skipped":
                continue
            now = {
                f"{given.process}@{one.label}": stage.job(given.process, one.label).generation
                for given in stage.catalog.inputs(name, interval)
                for one in stage.catalog.intervals_of(given)
            }
            assert job.consumed == {key: value for key, value in now.items() if value > 1}, job.key


def test_one_hour_brings_day_month_year_and_clients_up_to_date_each_once() -> None:
    stage = finished(clients_of_sites())
    answer = stage.request("reprocess", "h", "2026-11-18T07", reason="late events")
    assert answer.state == "done"
    assert [(item["process"], item["was"], item["is"]) for item in answer.answer["touched"]] == [  # type: ignore[union-attr,index,call-overload]
        ("y", "processed", "embryo"),
        ("m", "processed", "embryo"),
        ("cm", "processed", "embryo"),
        ("c", "processed", "embryo"),
        ("d", "processed", "embryo"),
        ("h", "processed", "embryo"),
    ]
    assert stage.job("h", "2026-11-18T07").stale
    assert stage.job("y", "2026").stale
    assert len(stage.requested) == 1
    stage.work()
    assert Counter(stage.started) == Counter(
        [
            "h@2026-11-18T07#2!1",
            "d@2026-11-18#2!1",
            "c@2026-11-18#2!1",
            "m@2026-11#2!1",
            "cm@2026-11#2!1",
            "y@2026#2!1",
        ]
    )
    assert stage.job("d", "2026-11-18").consumed == {"h@2026-11-18T07": 2}
    assert stage.job("d", "2026-11-19").generation == 1
    jobs_at_rest(stage)


def test_one_request_for_twenty_four_hours_runs_the_day_once() -> None:
    stage = finished(clients_of_sites())
    stage.request("reprocess", "h", *[f"2026-11-18T{hour:02}" for hour in range(24)])
    stage.work()
    assert Counter(key.split("@")[0] for key in stage.started) == {
        "h": 24, "d": 1, "m": 1, "y": 1, "c": 1, "cm": 1,
    }  # fmt: skip
    jobs_at_rest(stage)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_twenty_four_requests_run_the_day_once_in_whatever_order_they_end(
    chance: random.Random, restarted: bool
) -> None:
    stage = finished(clients_of_sites())
    hours = [f"2026-11-18T{hour:02}" for hour in range(24)]
    chance.shuffle(hours)
    for hour in hours:
        assert stage.request("reprocess", "h", hour).state == "done"
        if restarted and chance.random() < 0.2:
            stage.restart()
    assert stage.job("d", "2026-11-18").generation == 2
    while units := stage.claim():
        chance.shuffle(units)
        for unit in units:
            stage.report(unit)
    assert Counter(key.split("@")[0] for key in stage.started) == {
        "h": 24, "d": 1, "m": 1, "y": 1, "c": 1, "cm": 1,
    }  # fmt: skip
    assert stage.job("d", "2026-11-18").generation == 2
    jobs_at_rest(stage)


def test_when_no_input_has_changed_the_old_results_stand_without_a_run() -> None:
    stage = finished(clients_of_sites(), processes_with("same"))
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(processes_with("same"))
    assert stage.started == ["h@2026-11-18T07#2!1"]
    day = stage.job("d", "2026-11-18")
    assert (day.state, day.generation, day.result) == ("processed", 2, 1)
    assert day.reason == "kept: no input has changed"
    assert day.consumed == {"h@2026-11-18T07": 2}
    jobs_at_rest(stage)


def test_when_one_of_two_inputs_has_changed_the_parent_runs() -> None:
    stage = finished(clients_of_sites(), processes_with("same"))
    stage.request("reprocess", "h", "2026-11-18T07", "2026-11-18T08")
    first, second = stage.claim()
    stage.report(first, processes_with("same"))
    stage.report(second, processes_with("other"))
    (day,) = stage.claim()
    assert day.key == "d@2026-11-18#2"
    stage.report(day, processes_with("same"))
    assert stage.claim() == [], "the wave ends where a result came back unchanged"
    assert stage.job("y", "2026").reason == "kept: no input has changed"
    jobs_at_rest(stage)


def test_a_result_without_a_fingerprint_always_counts_as_changed() -> None:
    stage = finished(clients_of_sites())
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work()
    assert "y@2026#2!1" in stage.started


def test_nothing_again_is_unchanged() -> None:
    stage = finished(clients_of_sites(), finds_nothing)
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(finds_nothing)
    assert stage.started == ["h@2026-11-18T07#2!1"]
    assert stage.state("d", "2026-11-18") == "noop"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (finds_nothing, processes_with("x")),
        (processes_with("x"), finds_nothing),
        (processes_with("x"), processes_with("y")),
        (processes_with("x"), processes),
        (processes, processes_with("x")),
    ],
)
def test_another_outcome_is_a_change(before: Any, after: Any) -> None:
    stage = finished(clients_of_sites(), before)
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(after)
    assert "d@2026-11-18#2!1" in stage.started


def test_a_job_reprocessed_by_name_runs_though_no_input_has_changed() -> None:
    stage = finished(clients_of_sites(), processes_with("same"))
    stage.request("reprocess", "d", "2026-11-18")
    stage.work(processes_with("same"))
    assert stage.started == ["d@2026-11-18#2!1"]


def test_the_unchanged_are_kept_again_and_a_later_change_is_still_seen() -> None:
    stage = finished(clients_of_sites(), processes_with("same"))
    for _ in range(3):
        stage.request("reprocess", "h", "2026-11-18T07")
        stage.work(processes_with("same"))
    assert stage.job("d", "2026-11-18").generation == 4
    stage.started.clear()
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(processes_with("new"))
    assert len(stage.started) == 6
    jobs_at_rest(stage)


def test_a_change_seen_by_no_finished_parent_is_not_forgotten_by_a_kept_one() -> None:
    """h changes at generation 2, and comes back unchanged at 3 before the day has run."""
    stage = finished(clients_of_sites(), processes_with("old"))
    stage.request("reprocess", "h", "2026-11-18T07", "2026-11-18T08")
    first, second = stage.claim()
    stage.report(first, processes_with("new"))
    stage.request("reprocess", "h", "2026-11-18T07")
    (again,) = stage.claim()
    stage.report(again, processes_with("new"))
    stage.report(second, processes_with("old"))
    assert [unit.key for unit in stage.claim()] == ["d@2026-11-18#2"]


def test_a_result_of_the_generation_before_is_refused_when_the_parent_was_at_work() -> None:
    stage = Stage(clients_of_sites(), at="2027-01-01T00:00Z")
    stage.work(only="h")
    days = {unit.interval.label: unit for unit in stage.claim(only="d")}
    stage.request("reprocess", "h", "2026-11-18T07")
    old = stage.unit("d@2026-11-18#1")
    assert old is not None
    assert (old.state, old.reason) == (UnitState.CANCELED, "reprocess r1")
    assert not stage.report(days["2026-11-18"]), "I6, I7: a canceled unit takes no result"
    assert stage.report(days["2026-11-19"])
    assert stage.claim(only="d") == [], "I3: its hour is not finished"
    stage.work()
    assert stage.job("d", "2026-11-18").generation == 2
    jobs_at_rest(stage)


def test_a_result_reported_with_the_request_loses_or_wins_but_never_both() -> None:
    stage = Stage(clients_of_sites(), at="2027-01-01T00:00Z")
    stage.work(only="h")
    (day,) = stage.claim(only="d", limit=1)
    now = stage.clock.now()
    stage.store.file_request(
        Request(
            id="r", action="reprocess", process="h", filed_at=now,
            starts=(stage.interval("h", "2026-11-18T07").start,),
        )
    )  # fmt: skip
    assert stage.report(day), "the request was not executed yet"
    stage.work()
    assert stage.job("d", "2026-11-18").generation == 2
    jobs_at_rest(stage)


def test_a_failed_job_is_resolved_by_a_reprocess() -> None:
    stage = Stage(clients_of_sites(max_attempts=1), at="2027-01-01T00:00Z")
    stage.report(stage.claim(limit=1)[0], fails)
    stage.work()
    assert stage.state("h", "2026-11-18T00") == "failed"
    stage.request("reprocess", "h", "2026-11-18T00")
    stage.work()
    assert stage.state("h", "2026-11-18T00") == "processed"
    assert stage.state("y", "2026") == "processed"
    assert stage.job("d", "2026-11-18").generation == 1, "it had not begun: nothing to reopen"
    jobs_at_rest(stage)


def test_a_skipped_job_comes_back_by_a_reprocess_and_its_consumers_run_again() -> None:
    stage = Stage(clients_of_sites(), at="2027-01-01T00:00Z")
    stage.request("skip", "h", "2026-11-18T00")
    stage.work(processes_with("x"))
    stage.started.clear()
    stage.request("reprocess", "h", "2026-11-18T00")
    stage.work(processes_with("x"))
    assert stage.started == ["h@2026-11-18T00#2!1", "d@2026-11-18#2!1"]
    jobs_at_rest(stage)


def test_a_reprocess_of_what_fails_again_holds_until_it_is_skipped() -> None:
    stage = finished(clients_of_sites(max_attempts=1), processes_with("x"))
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(fails)
    assert stage.state("h", "2026-11-18T07") == "failed"
    assert stage.state("d", "2026-11-18") == "embryo"
    stage.request("skip", "h", "2026-11-18T07")
    stage.work(processes_with("x"))
    assert "d@2026-11-18#2!1" in stage.started, "a skip is a change"
    jobs_at_rest(stage)


def test_a_parent_named_with_its_child_is_reopened_once_and_waits_for_it() -> None:
    stage = finished(clients_of_sites())
    stage.store.file_request(
        Request(
            id="r", action="reprocess", process="d", filed_at=stage.clock.now(),
            starts=(stage.interval("d", "2026-11-18").start,),
        )
    )  # fmt: skip
    stage.request("reprocess", "h", "2026-11-18T07")
    assert [unit.key for unit in stage.claim()] == ["h@2026-11-18T07#2"]
    day = stage.job("d", "2026-11-18")
    assert day.forced
    assert day.generation in (2, 3)


def test_in_a_sequential_process_all_later_intervals_run_again_in_order() -> None:
    context = Context(tree("t", [daily("p", run="w:f", after=previous("p"))],
                           start="2026-11-01", until="2026-11-06", lag=0))  # fmt: skip
    stage = finished(context)
    stage.request("reprocess", "p", "2026-11-02")
    stage.work()
    assert stage.started == [f"p@2026-11-{day:02}#2!1" for day in range(2, 6)]


def test_several_targets_that_build_on_each_other_each_run_once() -> None:
    context = Context(tree("t", [daily("p", run="w:f", after=previous("p"))],
                           start="2026-11-01", until="2026-11-06", lag=0))  # fmt: skip
    stage = finished(context)
    stage.request("reprocess", "p", *[f"2026-11-{day:02}" for day in range(1, 6)])
    stage.work()
    assert stage.started == [f"p@2026-11-{day:02}#2!1" for day in range(1, 6)]
    jobs_at_rest(stage)


def test_who_looks_back_by_an_offset_is_brought_up_to_date() -> None:
    context = Context(
        tree("t", [daily("d", run="w:f")], start="2026-11-01", until="2026-11-15", lag=0),
        tree("u", [daily("a", run="w:f", after=["d", offset(-7, "d")])],
             start="2026-11-01", until="2026-11-15", lag=0),
    )  # fmt: skip
    stage = finished(context)
    stage.request("reprocess", "d", "2026-11-03")
    stage.work()
    assert sorted(stage.started) == ["a@2026-11-03#2!1", "a@2026-11-10#2!1", "d@2026-11-03#2!1"]


def test_what_has_not_begun_is_not_touched_by_a_reprocess() -> None:
    stage = Stage(
        Context(tree("t", [daily("d", run="w:f"), hourly("h", run="w:f")], start="2026-11-19",
                     lag=0)),
        at="2026-11-19T05:00Z",
    )  # fmt: skip
    stage.work()
    stage.request("reprocess", "h", "2026-11-19T02")
    stage.work()
    day = stage.job("d", "2026-11-19")
    assert (day.state, day.generation, day.holds) == ("embryo", 1, ())
    stage.until("2026-11-20T00:00Z")
    stage.work()
    assert stage.started.count("d@2026-11-19#1!1") == 1


def test_a_request_filed_twice_is_executed_once() -> None:
    stage = finished(clients_of_sites())
    request = stage.request("reprocess", "h", "2026-11-18T07")
    stage.store.file_request(request)
    stage.settle()
    stage.restart()
    assert stage.job("h", "2026-11-18T07").generation == 2


def test_more_requests_than_a_job_remembers_still_open_it_once() -> None:
    stage = finished(clients_of_sites())
    for hour in range(24):
        stage.request("reprocess", "h", f"2026-11-18T{hour:02}")
    for hour in range(24):
        stage.request("reprocess", "h", f"2026-11-18T{hour:02}")
    assert {stage.job("h", f"2026-11-18T{hour:02}").generation for hour in range(24)} <= {2, 3}
    stage.work()
    jobs_at_rest(stage)


def test_a_trigger_starts_at_once_what_waits_for_its_back_off() -> None:
    stage = Stage(clients_of_sites(backoff=3600), at="2026-11-18T01:00Z")
    stage.report(stage.claim()[0], fails)
    assert stage.claim() == []
    assert stage.request("trigger", "h", "2026-11-18T00").state == "done"
    assert [unit.attempt for unit in stage.claim()] == [2]


@pytest.mark.parametrize(
    ("process", "label", "why"),
    [
        ("h", "2026-11-18T00", "h 2026-11-18T00 has ended; reprocess it to run it again"),
        ("h", "2026-11-18T01", "h 2026-11-18T01 is at work already"),
        ("d", "2026-11-18", "d 2026-11-18 waits: the interval is due at 2026-11-19 00:00:00 UTC"),
    ],
)
def test_a_trigger_says_why_there_is_nothing_to_hurry(process: str, label: str, why: str) -> None:
    stage = Stage(clients_of_sites(), at="2026-11-18T02:00Z")
    first, _ = stage.claim()
    stage.report(first)
    answer = stage.request("trigger", process, label)
    assert (answer.state, answer.answer) == ("refused", {"why": why})


class WritingStore(MemoryStore):
    """Remembers the writes of jobs in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Job] = []

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        self.written += [write.job for write in writes]
        return super().save_jobs(writes)


def test_consumers_are_held_before_the_target_is_reopened_and_released_after() -> None:
    """D7: whoever looks in between finds nothing that may start."""
    store = WritingStore()
    stage = Stage(clients_of_sites(), at="2027-01-01T00:00Z", store=store)
    stage.work()
    store.written.clear()
    stage.request("reprocess", "h", "2026-11-18T07")
    place = next(n for n, job in enumerate(store.written) if job.process == "h")
    before, after = store.written[:place], store.written[place + 1 :]
    assert [job.process for job in before] == ["y", "m", "cm", "c", "d"]
    assert all(job.holds == ("r1",) and job.generation == 2 for job in before)
    assert store.written[place].holds == ()
    released = [job for job in after if job.process != "h"]
    assert [job.process for job in released] == ["y", "m", "cm", "c", "d"]
    assert all(job.holds == () and job.generation == 2 for job in released)
