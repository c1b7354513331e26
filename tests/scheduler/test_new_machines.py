"""A process may be given another machine: what is at work ends by the one that it began with."""

from dataclasses import replace
from typing import Any

import pytest

from synergy.core import plans
from synergy.core.building import build
from synergy.core.context import Context, daily, hourly, tree
from synergy.testing.invariants import CheckedStore
from synergy.testing.stage import Stage, fails
from tests.scheduler.test_marks import checked


def context(machine: str) -> Context:
    given: dict[str, Any] = {"machine": machine, "source": "s", "every": "every 600"}
    return Context(
        tree("t", [daily("d", run="w:f"), hourly("h", run="w:f", **given)], start="2026-11-18"),
        sources={"s": "w:k"},
    )


def begun(machine: str, at: str) -> Stage:
    made = context(machine)
    store = CheckedStore(Stage(made, at=at).catalog)
    return Stage(made, at=at, store=store, measure=lambda source, interval: (1, 2))


def given(stage: Stage, machine: str) -> None:
    """The scheduler is stopped, and started again with the other machine."""
    stage.catalog = build(context(machine), stage.clock.now())
    stage.restart()


HOUR = "2026-11-18T00"
OTHERS = pytest.mark.parametrize("machine", ["continuous", "recomputing"])


@OTHERS
def test_a_final_run_ends_although_the_process_is_discrete_by_now(machine: str) -> None:
    stage = begun(machine, "2026-11-18T00:00Z")
    stage.until("2026-11-18T01:05Z")
    (unit,) = [each for each in stage.claim(only="h") if each.interval.label == HOUR]
    assert stage.state("h", HOUR) == "final_run"
    given(stage, "discrete")
    assert stage.report(unit)
    assert stage.state("h", HOUR) == "processed"
    checked(stage)


@OTHERS
def test_a_provisional_run_is_followed_by_a_final_one(machine: str) -> None:
    stage = begun(machine, "2026-11-18T00:30Z")
    (unit,) = stage.claim(only="h")
    assert unit.provisional
    given(stage, "discrete")
    assert stage.report(unit)
    assert stage.state("h", HOUR) == "in_progress"
    assert stage.claim() == [], "no further one over the open interval"
    stage.until("2026-11-18T01:05Z")
    assert stage.state("h", HOUR) == "final_run"
    stage.work()
    assert stage.state("h", HOUR) == "processed"
    stage.until("2026-11-18T02:05Z")
    assert stage.state("h", "2026-11-18T01") == "in_progress", "the next ones are discrete"
    stage.work()
    assert stage.job("h", "2026-11-18T01").runs == 0
    checked(stage)


@OTHERS
def test_one_run_ends_although_the_process_runs_in_stages_by_now(machine: str) -> None:
    stage = begun("discrete", "2026-11-18T01:05Z")
    (unit,) = stage.claim(only="h")
    given(stage, machine)
    assert stage.report(unit)
    assert stage.state("h", HOUR) == "processed"
    stage.work()
    assert stage.state("h", "2026-11-18T01") == "in_progress", "it is open, and runs provisionally"
    checked(stage)


@OTHERS
@pytest.mark.parametrize("action", ["reprocess", "skip"])
def test_what_is_at_work_may_be_reopened_and_given_up(machine: str, action: str) -> None:
    for before, after, at in (
        (machine, "discrete", "2026-11-18T01:05Z"),
        (machine, "discrete", "2026-11-18T00:30Z"),
        ("discrete", machine, "2026-11-18T01:05Z"),
    ):
        stage = begun(before, at)
        stage.claim(only="h")
        given(stage, after)
        assert stage.request(action, "h", HOUR).state == "done"
        stage.until("2026-11-18T01:10Z")
        stage.work()
        assert stage.state("h", HOUR) == {"reprocess": "processed", "skip": "skipped"}[action]
        checked(stage)


@OTHERS
def test_what_fails_is_given_up_as_ever(machine: str) -> None:
    stage = begun(machine, "2026-11-18T01:05Z")
    stage.work(only="h", worker=lambda unit, now: fails(replace(unit, failures=2), now))
    given(stage, "discrete")
    assert stage.state("h", HOUR) == "failed"
    stage = begun("discrete", "2026-11-18T01:05Z")
    (unit,) = stage.claim(only="h")
    given(stage, machine)
    assert stage.report(unit, lambda unit, now: fails(replace(unit, failures=2), now))
    assert stage.state("h", HOUR) == "failed"


def days(machine: str) -> Context:
    """A day of hours, which is worked by this machine."""
    day = daily("d", run="w:f", machine=machine, source="s", every="every 600")
    span: dict[str, Any] = {"start": "2026-11-18", "lag": 0}
    return Context(tree("t", [day, hourly("h", run="w:f")], **span), sources={"s": "w:k"})


@OTHERS
@pytest.mark.parametrize(
    ("to_discrete", "at", "reopened"),
    [(False, "2026-11-19T00:00Z", True), (True, "2026-11-18T12:00Z", False)],
    ids=["the only run of a discrete one", "a provisional run"],
)
def test_a_plan_knows_by_which_machine_what_is_at_work_was_begun(
    machine: str, to_discrete: bool, at: str, reopened: bool
) -> None:
    before, after = (machine, "discrete") if to_discrete else ("discrete", machine)
    stage = Stage(days(before), at=at, measure=lambda source, interval: (1, 2))
    stage.work(only="h")
    (unit,) = stage.claim(only="d")
    stage.catalog = build(days(after), stage.clock.now())
    stage.restart()
    hour = [("h", stage.interval("h", HOUR))]
    steps = plans.plan(stage.timetable, "reprocess", hour, stage.clock.now()).steps
    assert [(step.process, step.cancels) for step in steps] == (
        [("h", False), ("d", True)] if reopened else [("h", False)]
    )
    plan = stage.plan("reprocess", "h", HOUR)
    touched = stage.apply(plan).answer["touched"]
    assert isinstance(touched, list)
    assert len(touched) == len(steps)
    canceled = stage.unit(unit.key)
    assert canceled is not None
    assert (canceled.state == "canceled") is reopened
