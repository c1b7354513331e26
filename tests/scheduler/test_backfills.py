"""Backfills go little by little beside the live work, and everything built on them runs once."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from synergy.core import plans
from synergy.core.admission import lane_full
from synergy.core.backfills import KEPT, LOWERED, Backfill, backfills_of
from synergy.core.building import build
from synergy.core.commands import AnswerRequest
from synergy.core.context import Context, daily, hourly, monthly, offset, previous, tree
from synergy.core.events import RequestFiled
from synergy.core.intervals import Calendar, Granularity
from synergy.core.lanes import OPENED
from synergy.core.model import Job, Request
from synergy.core.plans import Ranges
from synergy.presence import WorkerRecord
from synergy.testing.invariants import CheckedStore
from synergy.testing.stage import Stage, fails, processes

FIRST: dict[str, Any] = {"start": "2026-11-01", "lag": 0}


def context(**hour: Any) -> Context:
    """Months of days of hours, a tree that depends on the days, one that looks back a week."""
    site = [monthly("m", run="w:f"), daily("d", run="w:f"), hourly("h", run="w:f", **hour)]
    return Context(
        tree("site", site, **FIRST),
        tree("client", [daily("c", run="w:f", after="d")], **FIRST),
        tree("alert", [daily("a", run="w:f", after=offset(-2, "d"))], **FIRST),
    )


def stage_of(at: str = "2026-11-06T00:00Z", **hour: Any) -> Stage:
    """Everything until then is done."""
    stage = Stage(context(**hour), at=at)
    stage.work()
    stage.started.clear()
    return stage


def backfill(stage: Stage, first: str, last: str, process: str = "h", **options: Any) -> Request:
    start = stage.interval(process, first).start
    end = stage.interval(process, last).end
    calendar = stage.catalog.processes[process].calendar
    intervals = [*calendar.between(start, end)]
    bounds = Ranges.of((process, interval) for interval in intervals).bounds[process]
    given = {"targets": [*bounds], "total": len(intervals), "force": True, **options}
    return stage.request("backfill", process, **given)


def touched_by(stage: Stage, first: str, last: str) -> plans.Plan:
    """What it would touch, as a plan of it says."""
    start, end = stage.interval("h", first).start, stage.interval("h", last).end
    named = [("h", each) for each in stage.catalog.processes["h"].calendar.between(start, end)]
    return plans.plan(stage.timetable, "reprocess", named, stage.clock.now())


def planned(stage: Stage, first: str, last: str, **options: Any) -> Request:
    """The plan of one, stored; nothing comes of it until it is applied."""
    made = touched_by(stage, first, last)
    targets = made.reach.bounds["h"]
    total = sum(step.process == "h" for step in made.steps)
    given: dict[str, Any] = {"targets": [*targets], "total": total, "force": True, **options}
    return stage.file(
        Request(
            id="plan",
            action="backfill",
            process="h",
            starts=(),
            filed_at=stage.clock.now(),
            reason="the new rules",
            options={**given, **made.options()},
            state="planned",
        )
    )


def everything(stage: Stage) -> dict[str, Job]:
    """All jobs as they are stored."""
    return dict(stage.store._jobs)  # type: ignore[attr-defined]


def change(stage: Stage, what: str, of: Request) -> Request:
    return stage.request("backfill", of.process, change=what, id=of.id)


def stored(stage: Stage) -> Backfill:
    (found,) = backfills_of(stage.store.read_documents("backfills")).values()
    return found


def runs(stage: Stage) -> Counter[str]:
    """How often jobs were started since."""
    return Counter(key.partition("#")[0] for key in stage.started)


def keys_of(stage: Stage, process: str) -> list[str]:
    return sorted(key for key in runs(stage) if key.startswith(f"{process}@"))


def test_everything_in_it_and_everything_built_on_it_runs_once() -> None:
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-02T23")
    assert (asked.state, asked.answer["backfill"]) == ("done", asked.id)
    stage.work()
    assert set(runs(stage).values()) == {1}
    assert len(keys_of(stage, "h")) == 48
    assert keys_of(stage, "d") == ["d@2026-11-01", "d@2026-11-02"]
    assert keys_of(stage, "c") == ["c@2026-11-01", "c@2026-11-02"]
    assert keys_of(stage, "a") == ["a@2026-11-03", "a@2026-11-04"]
    done = stored(stage)
    assert (done.state, done.passed, done.total) == ("done", 48, 48)
    assert stage.store.active_units() == []
    assert all(not job.holds for job in stage.store.active_jobs())
    assert not stage.scheduler.engine.lanes.lanes


def test_a_day_runs_when_its_hours_have_and_not_at_the_end_of_all() -> None:
    stage = stage_of()
    backfill(stage, "2026-11-01T00", "2026-11-04T23")
    order = []
    while units := stage.claim(limit=1):
        order += [unit.key.partition("#")[0] for unit in units]
        stage.report(units[0])
    assert order.index("d@2026-11-01") < order.index("h@2026-11-02T05")
    assert order.index("c@2026-11-01") < order.index("h@2026-11-03T00")


def test_nothing_is_let_go_while_more_is_to_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The month is held in one turn of the loop, its days in the next ones."""
    monkeypatch.setattr("synergy.core.lanes.CHUNK", 1)
    at = datetime(2026, 12, 2, tzinfo=UTC)
    store = CheckedStore(build(context(), at), strict=True)
    stage = Stage(context(), at=at, store=store)
    stage.work()
    stage.started.clear()
    backfill(stage, "2026-11-01T00", "2026-11-03T23")
    stage.work()
    assert set(runs(stage).values()) == {1}
    assert keys_of(stage, "m") == ["m@2026-11"]
    assert stored(stage).state == "done"


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_a_few_targets_are_open_at_a_time_in_the_order_asked_for(order: str) -> None:
    stage = stage_of()
    backfill(stage, "2026-11-01T00", "2026-11-05T23", order=order)
    opened = [job for job in stage.store.active_jobs() if job.process == "h"]
    assert len(opened) == OPENED
    first = "2026-11-01T00" if order == "oldest" else "2026-11-05T23"
    assert stage.job("h", first).generation == 2
    (unit,) = stage.claim()
    assert unit.interval.label == first
    stage.report(unit)
    stage.work()
    assert len(keys_of(stage, "h")) == 120
    assert set(runs(stage).values()) == {1}


def test_no_more_than_its_share_is_out_and_the_least_share_keeps_its_priority() -> None:
    stage = stage_of()
    stage.store.save_document("workers", "w", worker(stage, slots=10), None)
    backfill(stage, "2026-11-01T00", "2026-11-03T23", min_share=0.2, max_share=0.5)
    stage.clock.set(stage.clock.now() + timedelta(seconds=16))
    stage.store.save_document("workers", "w", worker(stage, slots=10), None)
    stage.settle()
    stage.until(stage.clock.now() + timedelta(hours=1))
    units = stage.requested
    lane = [unit for unit in units if unit.interval.start < datetime(2026, 11, 4, tzinfo=UTC)]
    assert len(lane) == 5
    assert sorted(unit.task.priority for unit in lane) == [-LOWERED] * 3 + [0] * 2
    fresh = [unit.interval.label for unit in units if unit not in lane]
    assert fresh == ["2026-11-06T00"]
    taken = [unit.interval.label for unit in stage.claim(limit=3)]
    assert taken[2:] == fresh, "right behind the least share"


def test_what_may_be_one_call_is_one_of_its_share() -> None:
    stage = stage_of(batch=24)
    backfill(stage, "2026-11-01T00", "2026-11-03T23", min_share=0.25, max_share=0.5)
    stage.clock.set(stage.clock.now() + timedelta(seconds=16))
    stage.store.save_document("workers", "w", worker(stage, slots=4), None)
    stage.until(stage.clock.now() + timedelta(seconds=16))
    assert len(stage.requested) == 48, "two calls, which is half of the slots"
    call = stage.claim(limit=1)
    assert [unit.interval.start.hour for unit in call] == [*range(24)]
    for unit in call:
        stage.report(unit)
    stage.work()
    assert set(runs(stage).values()) == {1}


def test_of_a_backfill_what_is_called_singly_counts_by_units() -> None:
    """Also beside what is called for several: a day is a call of its own."""
    out = ["h"] * 23
    catalog = build(context(batch=24), datetime(2026, 11, 6, tzinfo=UTC))
    made = Backfill(
        id="fill", process="h", bounds=(), total=0, order="oldest", force=True, min_share=0,
        max_share=0.5, filed_at=datetime(2026, 11, 6, tzinfo=UTC),
    )  # fmt: skip
    assert lane_full(catalog, made, 2, out, "h") is None
    assert lane_full(catalog, made, 4, out, "d") is None
    assert str(lane_full(catalog, made, 2, out, "d")) == (
        "23 units of backfill fill are out as 1 call, and no more than 1 call may be"
    )
    assert str(lane_full(catalog, made, 2, [*out, "h"], "h")) == (
        "24 units of backfill fill are out as 1 call, and no more than 1 call may be"
    )
    assert str(lane_full(catalog, made, 4, ["d", "d"], "h")) == (
        "2 units of backfill fill are out, and no more than 2 may be"
    )


def worker(stage: Stage, slots: int) -> Any:
    return WorkerRecord(
        owner="w",
        program="worker",
        box="b",
        slots=slots,
        processes=None,
        busy=0,
        seen_at=stage.clock.now(),
    ).content()


def test_what_needs_no_run_is_left_without_force() -> None:
    stage = stage_of(max_attempts=1)
    stage.until("2026-11-06T01:00Z")
    stage.work(fails, only="h")
    stage.work()
    stage.request("switch", "h", on=False)
    stage.until("2026-11-06T05:00Z")
    stage.request("switch", "h", on=True, catch_up="none")
    stage.work()
    stage.started.clear()
    backfill(stage, "2026-11-05T00", "2026-11-06T04", force=False)
    stage.work()
    assert keys_of(stage, "h") == [f"h@2026-11-06T0{hour}" for hour in range(5)]
    assert stored(stage).state == "done"
    assert stage.state("h", "2026-11-06T03") == "processed"


def test_pause_opens_nothing_more_and_resume_goes_on() -> None:
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-05T23")
    change(stage, "pause", asked)
    for unit in stage.claim():
        stage.report(unit)
    assert stage.work() == 0
    stage.advance(hours=2)
    assert {key.partition("@")[0] for key in keys_of(stage, "h")} == {"h"}
    before = len(stage.started)
    stage.restart()
    stage.work()
    assert len(stage.started) - before <= 2, "the live work alone"
    change(stage, "resume", asked)
    stage.work()
    assert stored(stage).state == "done"
    assert set(runs(stage).values()) == {1}


def test_cancel_leaves_what_was_not_opened_and_releases_all() -> None:
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-05T23")
    assert change(stage, "cancel", asked).state == "done"
    assert all(not job.holds for job in stage.store.active_jobs())
    stage.work()
    assert len(keys_of(stage, "h")) == OPENED
    assert stage.job("h", "2026-11-05T00").generation == 1
    job = stage.job("d", "2026-11-05")
    assert (job.state, job.generation, job.reason) == (
        "processed",
        2,
        "kept: no input has changed",
    )
    assert stored(stage).state == "canceled"
    assert "goes on" in str(change(stage, "pause", asked).answer["why"])


def test_a_target_that_fails_holds_what_is_built_on_it_and_nothing_else() -> None:
    stage = stage_of(max_attempts=1)
    backfill(stage, "2026-11-01T00", "2026-11-02T23")
    (unit,) = stage.claim()
    stage.report(unit, fails)
    stage.work()
    assert stage.state("d", "2026-11-01") == "embryo"
    assert stage.state("d", "2026-11-02") == "processed"
    assert stored(stage).state == "done"
    stage.request("reprocess", "h", "2026-11-01T00")
    stage.work()
    assert stage.state("m", "2026-11") == "embryo"
    assert stage.state("d", "2026-11-01") == "processed"


def test_what_came_to_be_built_on_it_meanwhile_is_held_too() -> None:
    """A process is registered that depends on the hours, and runs before they are opened."""
    hours = tree("t", [hourly("h", run="w:f")], **FIRST)
    later = tree("u", [hourly("x", run="w:f", after="h")], **FIRST)
    stage = Stage(Context(hours), at="2026-11-06T00:00Z")
    stage.work()
    asked = backfill(stage, "2026-11-01T00", "2026-11-05T23")
    change(stage, "pause", asked)
    stage.catalog = build(Context(hours, later), stage.clock.now())
    stage.restart()
    stage.work()
    early = stage.job("x", "2026-11-05T05")
    assert (early.state, early.generation, early.consumed) == ("processed", 1, {})
    change(stage, "resume", asked)
    stage.work()
    again = stage.job("x", "2026-11-05T05")
    assert (again.state, again.consumed) == ("processed", {"h@2026-11-05T05": 2})
    assert stored(stage).state == "done"


def test_what_builds_on_itself_is_refused() -> None:
    chain = tree("t", [daily("s", run="w:f", after=previous("s"))], **FIRST)
    stage = Stage(Context(chain), at="2026-11-06T00:00Z")
    refused = backfill(stage, "2026-11-01", "2026-11-02", process="s")
    assert "build on one another: a reprocess of the first" in str(refused.answer["why"])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"order": "random"}, "order 'random' is none of oldest, newest"),
        ({"min_share": 0.6}, "are not 0 ≤ least ≤ most ≤ 1"),
        ({"max_share": 0}, "are not 0 ≤ least ≤ most ≤ 1"),
        ({"targets": "all"}, "needs its targets as bounds"),
        ({"targets": ["first", "last"]}, "needs its targets as bounds"),
        ({"change": "stop"}, "change 'stop' is none of pause, resume, cancel"),
        ({"change": "pause", "id": "x"}, "no backfill x goes on"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], why: str) -> None:
    stage = stage_of("2026-11-02T00:00Z")
    refused = backfill(stage, "2026-11-01T00", "2026-11-01T23", **options)
    assert refused.state == "refused"
    assert why in str(refused.answer["why"])


def test_it_goes_on_after_a_restart_wherever_it_was() -> None:
    stage = stage_of()
    backfill(stage, "2026-11-01T00", "2026-11-05T23", order="newest")
    for number in range(40):
        for unit in stage.claim(limit=1 + number % 3):
            stage.report(unit, processes)
        stage.restart()
    stage.work()
    assert len(keys_of(stage, "h")) == 120
    assert set(runs(stage).values()) == {1}
    assert stored(stage).state == "done"


@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_batches_cover_all_targets_once(order: str) -> None:
    calendar = Calendar(Granularity.HOURLY, 1, "Europe/Berlin")
    days = [(datetime(2026, 10, 24, tzinfo=UTC), 40), (datetime(2026, 10, 30, tzinfo=UTC), 3)]
    targets = [
        interval
        for start, hours in days
        for interval in calendar.between(start, start + timedelta(hours=hours))
    ]
    bounds = Ranges.of(("h", interval) for interval in targets).bounds["h"]
    given = Backfill(
        id="b",
        process="h",
        bounds=tuple(bounds),
        total=len(targets),
        order=order,
        force=False,
        min_share=0.1,
        max_share=0.5,
        filed_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    found = []
    while not given.exhausted:
        given = given.advanced(calendar, 7)
        assert Backfill.of_content("b", 0, given.content()) == given
        found += given.batch(calendar)
        for interval in targets:
            assert given.is_passed(interval.start) == (interval in found)
            left = given.left_within(interval.start, interval.end, given.front)
            assert left == (interval not in found)
    assert found == (targets if order == "oldest" else targets[::-1])
    assert given.passed == len(targets)


def test_a_target_that_is_opened_before_it_is_due_runs_when_it_is() -> None:
    stage = stage_of("2026-11-06T00:30Z")
    stage.request("skip", "h", "2026-11-06T00")
    backfill(stage, "2026-11-05T23", "2026-11-06T00")
    stage.work()
    assert stage.state("h", "2026-11-06T00") == "embryo"
    stage.until("2026-11-06T01:00Z")
    stage.work()
    assert stage.state("h", "2026-11-06T00") == "processed"


def test_what_is_left_of_a_canceled_backfill_takes_its_place_in_the_pool_at_once() -> None:
    level = hourly("h", run="w:f", pool="db")
    stage = Stage(Context(tree("t", [level], **FIRST), pools={"db": 3}), at="2026-11-02T00:00Z")
    stage.work()
    filed = backfill(stage, "2026-11-01T00", "2026-11-01T23")
    change(stage, "pause", filed)
    stage.work()
    assert not stage.requested
    change(stage, "cancel", filed)
    assert len(stage.requested) == 3


def test_the_latest_that_are_over_are_remembered() -> None:
    stage = stage_of("2026-11-02T00:00Z")
    for _ in range(KEPT + 3):
        stage.advance(seconds=0.01)
        backfill(stage, "2026-11-01T00", "2026-11-01T01")
        stage.work()
    going = backfill(stage, "2026-11-01T00", "2026-11-01T01")
    stage.clock.set(stage.clock.now() + timedelta(seconds=16))
    stage.settle()
    kept = stage.store.read_documents("backfills")
    assert len(kept) == KEPT + 1
    assert going.id in kept
    assert "r1" not in kept


def test_what_a_canceled_backfill_left_of_a_process_that_was_off_goes_with_the_next_one() -> None:
    stage = stage_of(catch_up="all")
    stage.request("switch", "h", on=False)
    first = backfill(stage, "2026-11-01T00", "2026-11-01T05")
    change(stage, "cancel", first)
    backfill(stage, "2026-11-01T00", "2026-11-01T05")
    stage.request("switch", "h", on=True)
    stage.work()
    assert len(keys_of(stage, "h")) == 6
    assert stage.state("d", "2026-11-01") == "processed"


def test_units_that_a_switch_takes_back_stay_in_their_lane() -> None:
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-02T23", max_share=1)
    out = [unit.key for unit in stage.requested]
    assert len(out) == 2, "as many as there are slots"
    stage.request("switch", "h", on=False)
    assert stage.requested == []
    stage.restart()
    stage.request("switch", "h", on=True)
    again = stage.requested
    assert [unit.key for unit in again] == ["h@2026-11-01T00#3", "h@2026-11-01T01#3"]
    assert sorted(unit.task.priority for unit in again) == [-LOWERED, 0]
    change(stage, "pause", asked)
    for unit in stage.claim():
        stage.report(unit)
    assert stage.requested == [], "nothing more of it while it is paused"
    change(stage, "resume", asked)
    stage.work()
    assert set(runs(stage).values()) == {1}
    assert stored(stage).state == "done"


def test_one_whose_process_is_not_registered_waits_until_it_is() -> None:
    at, later = "2026-11-06T00:00Z", tree("client", [daily("c", run="w:f")], **FIRST)
    hours = tree("site", [hourly("h", run="w:f")], **FIRST)
    both = tree("client", [daily("c", run="w:f", after="h")], **FIRST)
    stage = Stage(Context(hours, both), at=at)
    stage.work()
    stage.started.clear()
    asked = backfill(stage, "2026-11-01T00", "2026-11-02T23")
    stage.catalog = build(Context(later), stage.clock.now())
    stage.restart()
    stage.advance(minutes=5)
    assert stage.work(only="c") == 0
    assert stage.job("c", "2026-11-01").holds == (asked.id,)
    refused = change(stage, "pause", asked)
    assert refused.answer == {"why": "no process h is registered"}
    stage.catalog = build(Context(hours, both), stage.clock.now())
    stage.restart()
    stage.work()
    assert len(keys_of(stage, "h")) == 48
    assert stored(stage).state == "done"


def test_that_it_was_begun_is_said_though_its_process_is_not_registered_by_now() -> None:
    """Its scheduler died before it had said so."""
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-02T23")
    only = tree("client", [daily("c", run="w:f")], **FIRST)
    stage.catalog = build(Context(only), stage.clock.now())
    stage.restart()
    again = RequestFiled(replace(asked, state="filed", answer={}))
    commands = stage.scheduler.engine.handle([again], stage.clock.now())
    answers = [each.request for each in commands if isinstance(each, AnswerRequest)]
    assert [(each.state, each.answer) for each in answers] == [("done", asked.answer)]


def test_one_whose_process_is_not_registered_may_be_canceled() -> None:
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-02T23")
    only = tree("client", [daily("c", run="w:f")], **FIRST)
    stage.catalog = build(Context(only), stage.clock.now())
    stage.restart()
    assert change(stage, "cancel", asked).state == "done"
    stage.advance(minutes=5)
    assert stored(stage).state == "canceled"
    assert stage.job("c", "2026-11-01").holds == ()
    stage.work()
    assert stage.state("c", "2026-11-01") == "processed"
    assert not stage.scheduler.engine.lanes.lanes


def test_what_somebody_skipped_since_it_was_planned_stays_skipped() -> None:
    stage = stage_of(max_attempts=1)
    stage.until("2026-11-06T02:00Z")
    stage.work(fails, only="h")
    plan = planned(stage, "2026-11-06T00", "2026-11-06T01", force=False)
    stage.request("skip", "h", "2026-11-06T00")
    stage.apply(plan)
    stage.work()
    assert stage.state("h", "2026-11-06T00") == "skipped"
    assert stage.state("h", "2026-11-06T01") == "processed"
    assert stored(stage).state == "done"


# plans


def test_a_plan_that_is_applied_opens_what_it_said() -> None:
    stage = stage_of()
    plan = planned(stage, "2026-11-01T00", "2026-11-02T23")
    steps = touched_by(stage, "2026-11-01T00", "2026-11-02T23").steps
    before = everything(stage)
    stage.restart()
    assert everything(stage) == before
    answer = stage.apply(plan)
    assert (answer.state, answer.answer["backfill"]) == ("done", plan.id)
    begun = stored(stage)
    assert (begun.id, begun.reason, begun.total) == ("plan", "the new rules", 48)
    applied = stage.store.read_request(plan.id)
    assert applied is not None
    assert (applied.state, applied.answer) == ("done", {"applied_by": answer.id})
    stage.work()
    opened = {key for key, job in everything(stage).items() if job.generation > 1}
    assert opened == {f"{step.process}@{step.interval.label}" for step in steps}
    assert len(opened) == 48 + 2 + 2 + 2
    assert set(runs(stage).values()) == {1}
    assert stored(stage).state == "done"


def test_a_plan_is_applied_once_and_whoever_asks_again_takes_nothing_from_it() -> None:
    stage = stage_of()
    plan = planned(stage, "2026-11-01T00", "2026-11-04T23")
    assert stage.apply(plan).state == "done"
    stage.report(stage.claim(limit=1)[0])
    again = stage.apply(plan)
    assert (again.state, again.answer) == (
        "refused",
        {"why": "plan plan has been applied already"},
    )
    assert "plan" in stage.job("d", "2026-11-03").holds, "what it holds it holds still"
    stage.work()
    assert set(runs(stage).values()) == {1}


def test_a_plan_that_is_withdrawn_leaves_everything_as_it_was() -> None:
    stage = stage_of()
    before = everything(stage)
    plan = planned(stage, "2026-11-01T00", "2026-11-02T23")
    assert stage.withdraw(plan).state == "done"
    for again in (stage.apply, stage.withdraw):
        refused = again(plan)
        assert refused.answer == {"why": "plan plan has been withdrawn already"}
    assert everything(stage) == before
    assert stage.store.read_documents("backfills") == {}


@pytest.mark.parametrize("direct", [False, True], ids=["planned", "at once"])
def test_withdrawing_one_that_goes_on_ends_it(direct: bool) -> None:
    stage = stage_of()
    if direct:
        asked = backfill(stage, "2026-11-01T00", "2026-11-05T23")
    else:
        asked = planned(stage, "2026-11-01T00", "2026-11-05T23")
        stage.apply(asked)
    answer = stage.withdraw(asked)
    assert (answer.state, answer.answer["backfill"]) == ("done", asked.id)
    assert stored(stage).state == "canceled"
    assert stage.job("h", "2026-11-05T00").generation == 1
    assert all(not job.holds for job in stage.store.active_jobs())
    now = stage.store.read_request(asked.id)
    assert now is not None
    assert (now.state, now.answer["withdrawn_by"]) == ("withdrawn", answer.id)
    again = stage.withdraw(asked)
    assert "has been withdrawn already" in str(again.answer["why"])


def test_one_that_is_over_is_not_withdrawn() -> None:
    stage = stage_of()
    asked = backfill(stage, "2026-11-01T00", "2026-11-01T03")
    stage.work()
    assert stage.withdraw(asked).answer == {
        "why": f"backfill {asked.id} is over: nothing of it is left to be taken back"
    }
    pause = change(stage, "pause", backfill(stage, "2026-11-01T00", "2026-11-01T03"))
    assert stage.withdraw(pause).answer == {
        "why": f"{pause.id} is no plan: it is a request to backfill"
    }


def test_a_plan_by_which_more_would_run_by_now_is_outdated() -> None:
    """The alert two days later had not begun when it was planned."""
    stage = stage_of()
    plan = planned(stage, "2026-11-05T00", "2026-11-05T23")
    stage.until("2026-11-09T00:00Z")
    stage.work()
    before = everything(stage)
    refused = stage.apply(plan)
    assert refused.answer == {
        "why": "plan plan is outdated: a 2026-11-07 would change too by now; plan again"
    }
    assert everything(stage) == before
    assert stage.store.read_documents("backfills") == {}


def test_a_plan_of_which_less_is_to_be_done_by_now_is_applied() -> None:
    stage = stage_of(max_attempts=1)
    stage.until("2026-11-06T02:00Z")
    stage.work(fails, only="h")
    plan = planned(stage, "2026-11-06T00", "2026-11-06T01", force=False)
    stage.request("reprocess", "h", "2026-11-06T00")
    stage.work()
    stage.started.clear()
    assert stage.apply(plan).state == "done"
    stage.work()
    assert keys_of(stage, "h") == ["h@2026-11-06T01"]


def test_a_plan_whose_intervals_are_no_longer_registered_is_refused() -> None:
    stage = stage_of()
    plan = planned(stage, "2026-11-01T00", "2026-11-02T23")
    later = tree("site", [hourly("h", run="w:f")], start="2026-11-02", lag=0)
    stage.catalog = build(Context(later), stage.clock.now())
    stage.restart()
    why = "2026-11-01T00 lies outside the span of tree site"
    assert stage.apply(plan).answer == {"why": why}
