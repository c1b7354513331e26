"""What `why` says is true, and doing what it says helps."""

from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from synergy.core import machines
from synergy.core.building import build
from synergy.core.context import (
    Context,
    TreeDeclaration,
    daily,
    last,
    previous,
    program,
    tree,
)
from synergy.core.intervals import Interval
from synergy.core.model import JobWrite, Renewal, Request
from synergy.core.states import UnitState
from synergy.explanation import Cause, Explanation, Link, explain
from synergy.leases import LEADER
from synergy.presence import WorkerRecord, save_worker
from synergy.reading import Reading
from synergy.testing.stage import Stage, fails, processes
from tests.explanation.small_worlds import SmallWorld
from tests.scheduler import test_backfills as backfills

SEEDS = 60
#: Steps within which an interval must have ended when each does what is told.
STEPS = 400

Place = tuple[str, Interval]


def told(world: SmallWorld, place: Place) -> Explanation:
    stage = world.stage
    return explain(Reading(stage.store, stage.catalog), *place, stage.clock.now())


def held(world: SmallWorld) -> list[Place]:
    """Intervals that have begun and not ended."""
    reading = Reading(world.stage.store, world.stage.catalog)
    now = world.stage.clock.now()
    return [
        (name, row.interval)
        for name in world.stage.catalog.processes
        for row in reading.rows(name, None, now)
        if not row.state.terminal
    ]


def obey(world: SmallWorld, link: Link) -> None:
    """Do what is named as the next thing."""
    stage = world.stage
    match link.cause:
        case Cause.FUTURE | Cause.OPEN | Cause.PAUSING | Cause.BACK_OFF:
            assert link.at is not None
            assert link.at > stage.clock.now()
            stage.until(link.at)
        case Cause.GIVEN_UP:
            verb = world.random.choice(["reprocess", "skip"])
            hint = next(hint for hint in link.hints if hint.words.startswith(verb))
            action, process, label = hint.words.split()
            assert stage.request(action, process, label).state == "done"
        case Cause.OFF:
            (hint,) = link.hints
            name = hint.words.removeprefix("process on ")
            assert stage.request("switch", name, on=True, catch_up="all").state == "done"
        case Cause.PAUSED:
            for key, each in Reading(stage.store, stage.catalog).backfills.items():
                if each.paused and f"backfill {key} " in link.text:
                    stage.request("backfill", each.process, change="resume", id=key)
        case Cause.BACKFILL | Cause.LANE:
            stage.advance(seconds=16)
            world.listens(True)
            stage.work()
        case Cause.NO_WORKER:
            assert [hint.words for hint in link.hints] == ["start worker"]
            world.listens(True)
        case Cause.FREE_WORKER | Cause.WORKERS_BUSY:
            world.listens(True)
            finish(world)
            for unit in stage.claim():
                stage.report(unit)
        case Cause.AT_WORK:
            finish(world)
        case Cause.WORKER_GONE:
            stage.until(link.at or stage.clock.now() + timedelta(minutes=1))
        case Cause.READY | Cause.HOPELESS | Cause.REQUEST:
            raise AssertionError(f"the scheduler does nothing about it: {link}")
        case _:
            raise AssertionError(link)
    world.listens(bool(world.stage.store.read_documents("workers")))


def finish(world: SmallWorld) -> None:
    """Those who are at work end."""
    for unit in world.stage.store.active_units():
        if unit.state is UnitState.IN_PROGRESS:
            world.stage.report(unit)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_doing_what_is_said_makes_a_held_interval_run(seed: int) -> None:
    random = Random(seed)
    world = SmallWorld(random)
    for _ in range(random.choice([3, 10, 30])):
        world.happen()
    for place in random.sample(found := held(world), min(3, len(found))):
        for _ in range(STEPS):
            explanation = told(world, place)
            if explanation.asked.cause is Cause.ENDED:
                break
            obey(world, explanation.root)
        else:
            raise AssertionError((seed, place, explanation.chain))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_held_without_a_reason(seed: int) -> None:
    world = SmallWorld(Random(seed))
    for _ in range(15):
        world.happen()
        for place in held(world):
            explanation = told(world, place)
            for link in explanation.chain:
                assert link.text, link
                assert link.next or link.cause is Cause.ENDED, link
            assert explanation.root.cause not in (Cause.READY, Cause.INPUTS, Cause.ENDED), (
                explanation.chain
            )


def a_stage(*trees: object, at: str = "2026-11-20T00:00Z") -> Stage:
    return Stage(Context(*trees), at=at)


def explained(stage: Stage, process: str, label: str) -> Explanation:
    reading = Reading(stage.store, stage.catalog)
    return explain(reading, process, stage.interval(process, label), stage.clock.now())


def listening(stage: Stage, **changes: Any) -> None:
    record = WorkerRecord(
        owner="worker",
        program="worker",
        box="web-1",
        slots=1,
        processes=None,
        busy=0,
        seen_at=stage.clock.now(),
    )
    save_worker(stage.store, replace(record, **changes))


def days(start: str = "2026-11-10", **options: Any) -> TreeDeclaration:
    return tree("site", [daily("day", run="w:f", **options)], start=start, lag=0)


def test_a_window_is_told_in_the_words_of_the_context() -> None:
    week = tree("week", [daily("sum", run="w:f", after=last(7, "day"))], start="2026-11-18", lag=0)
    stage = a_stage(days(max_attempts=1), week)
    for unit in stage.claim(only="day"):
        stage.report(unit, fails if unit.interval.label == "2026-11-17" else processes)
    told = explained(stage, "sum", "2026-11-19")
    assert told.asked.text == "waits for the last 7 of day, of which 2026-11-17 (failed) is missing"
    assert (told.root.process, told.root.cause) == ("day", Cause.GIVEN_UP)
    assert str(explained(stage, "day", "2026-11-17").behind) == (
        "3 intervals wait for it (3 of sum), the oldest due since 2026-11-19 00:00 UTC"
    )


def test_a_long_row_is_not_walked_but_told() -> None:
    stage = a_stage(days("2020-01-01", after=previous("day"), max_attempts=1))
    listening(stage)
    stage.report(stage.claim()[0], fails)
    told = explained(stage, "day", "2026-11-19")
    assert [link.interval.label for link in told.chain] == [
        "2020-01-01",
        "2020-01-02",
        "2026-11-19",
    ]
    assert told.root.cause is Cause.GIVEN_UP
    assert told.asked.text == (
        "waits for its previous interval, 2026-11-18 (embryo); "
        "at least 1000 in a row wait so, from 2020-01-02 on"
    )
    behind = explained(stage, "day", "2020-01-01").behind
    assert not behind.complete
    assert str(behind).startswith("at least 1000 intervals wait for it (1000 of day), the oldest")


def test_all_workers_busy_are_told_with_what_and_since_when() -> None:
    stage = a_stage(days())
    listening(stage)
    first = stage.claim(limit=1)[0]
    stage.clock.advance(timedelta(seconds=10))
    told = explained(stage, "day", "2026-11-19").root
    assert told.cause is Cause.WORKERS_BUSY
    assert f"all 1 slots that could take it are at work: {first.key} begun 10 s ago" in told.text


def test_a_silent_worker_does_not_listen_and_what_it_had_is_told_lost() -> None:
    stage = a_stage(days())
    listening(stage)
    stage.claim(limit=1)
    unit = stage.store.held_units()[0]
    stage.clock.advance(timedelta(seconds=14))
    stage.store.renew([Renewal(unit.key, 1, "worker", stage.clock.now() + timedelta(seconds=15))])
    stage.clock.advance(timedelta(seconds=2))
    told = explained(stage, "day", "2026-11-10").root
    assert told.cause is Cause.WORKER_GONE
    assert "not heard of since 2026-11-20 00:00 UTC" in told.text
    waiting = explained(stage, "day", "2026-11-11").root
    assert waiting.cause is Cause.NO_WORKER
    assert "no worker listens for day: worker on web-1 was heard of last, 16 s ago" in waiting.text


def test_a_worker_of_other_processes_does_not_count() -> None:
    other = tree("other", [daily("other_day", run="w:f")], start="2026-11-18")
    programs = program("loader", processes=["day"]), program("other", processes=["other_day"])
    stage = a_stage(days(), other, *programs)
    listening(stage, program="other", processes=frozenset({"other_day"}))
    told = explained(stage, "day", "2026-11-19").root
    assert (told.cause, [hint.words for hint in told.hints]) == (Cause.NO_WORKER, ["start loader"])


def test_what_is_off_says_who_and_why_and_how_to_switch_it_on() -> None:
    stage = a_stage(days())
    stage.request("switch", "day", reason="the vendor is away", on=False)
    told = explained(stage, "day", "2026-11-19").root
    assert told.cause is Cause.OFF
    assert "day is switched off since 2026-11-20 00:00:00 UTC: the vendor is away" in told.text
    assert [hint.words for hint in told.hints] == ["process on day"]


def test_a_source_that_cannot_be_measured_is_told_with_its_error() -> None:
    def measure(source: str, interval: Interval) -> None:
        raise AssertionError

    level = daily("day", run="w:f", machine="recomputing", source="lines")
    context = Context(tree("t", [level], start="2026-11-18", lag=0), sources={"lines": "w:lines"})
    stage = Stage(context, at="2026-11-20T00:00Z", measure=measure)
    told = explained(stage, "day", "2026-11-19").root
    assert told.cause is Cause.SOURCE
    assert "its source could not be measured" in told.text


def test_no_scheduler_is_said_before_all() -> None:
    stage = a_stage(days())
    assert explained(stage, "day", "2026-11-19").standstill == "no scheduler has ever run"


def test_chance_brings_about_most_of_what_can_hold_an_interval() -> None:
    seen = set()
    for seed in range(20):
        world = SmallWorld(Random(seed))
        for _ in range(15):
            world.happen()
            seen |= {link.cause for place in held(world) for link in told(world, place).chain}
    assert seen >= {
        *(Cause.OPEN, Cause.INPUTS, Cause.OFF, Cause.LIMIT, Cause.POOL, Cause.GIVEN_UP),
        *(Cause.NO_WORKER, Cause.WORKERS_BUSY, Cause.FREE_WORKER, Cause.AT_WORK),
        *(Cause.WORKER_GONE, Cause.BACK_OFF),
    }


def test_a_request_that_holds_says_whose_it_is_and_since_when() -> None:
    stage = a_stage(days())
    stage.work()
    request = Request(
        id="r1",
        action="reprocess",
        process="day",
        starts=(),
        filed_at=stage.clock.now(),
        actor="anna",
        reason="late data",
    )
    stage.store.file_request(request)
    job = stage.job("day", "2026-11-18")
    held = machines.reopened(
        "discrete", job, "r1", stage.clock.now(), target=True, hold=True, reason="reprocess r1"
    )
    assert held is not None
    stage.store.save_jobs([JobWrite(held, job.version)])
    stage.clock.advance(timedelta(minutes=2))
    told = explained(stage, "day", "2026-11-18")
    assert told.root.cause is Cause.REQUEST
    assert told.root.text == (
        "request r1, reprocess day filed by anna 2 min ago (late data), holds it"
    )


def test_a_scheduler_that_leads_and_does_nothing_is_told() -> None:
    stage = a_stage(days())
    now = stage.clock.now()
    stage.store.take_lease(LEADER, "scheduler", now, now + timedelta(minutes=5))
    assert explained(stage, "day", "2026-11-19").standstill == ""
    request = Request(id="r1", action="skip", process="day", starts=(), filed_at=now)
    stage.store.file_request(request)
    stage.clock.advance(timedelta(minutes=2))
    assert explained(stage, "day", "2026-11-19").standstill == (
        "a scheduler leads and has not carried out request r1, skip day filed 2 min ago"
    )
    stage.clock.advance(timedelta(minutes=10))
    standstill = explained(stage, "day", "2026-11-19").standstill
    assert standstill == "no scheduler has been running since 2026-11-20 00:05 UTC"


def test_what_is_marked_stale_says_why_and_what_makes_it_anew() -> None:
    stage = a_stage(days())
    stage.work()
    stage.request("mark", "day", "2026-11-18", reason="the vendor sent more")
    told = explained(stage, "day", "2026-11-18").root
    assert told.cause is Cause.STALE
    assert told.text.startswith("its result of generation 1 stands and is marked stale (mark r1")
    assert [hint.words for hint in told.hints] == ["reprocess day 2026-11-18"]


def test_what_is_at_work_says_how_long_its_like_took() -> None:
    stage = a_stage(days())
    for _ in range(3):
        unit = stage.claim(limit=1)[0]
        stage.clock.advance(timedelta(seconds=12))
        stage.report(unit)
    stage.claim(limit=1)
    told = explained(stage, "day", "2026-11-13").root
    assert told.cause is Cause.AT_WORK
    assert told.next.endswith("; those of day take 12 s (median)")


def test_what_a_backfill_holds_whose_process_is_not_registered_says_so() -> None:
    stage = backfills.stage_of()
    backfills.backfill(stage, "2026-11-01T00", "2026-11-02T23")
    stage.catalog = build(
        Context(tree("client", [daily("c", run="w:f")], **backfills.FIRST)), stage.clock.now()
    )
    stage.restart()
    asked = explained(stage, "c", "2026-11-01").asked
    assert asked.cause is Cause.BACKFILL
    assert asked.text.endswith("and h is not registered: register it again, or cancel that")
    assert asked.next == "nothing by itself"


def test_what_a_backfill_holds_or_lets_wait_says_so_and_how_far_it_is() -> None:
    stage = backfills.stage_of()
    listening(stage, slots=4)
    filed = backfills.backfill(stage, "2026-11-01T00", "2026-11-04T23")
    stage.advance(seconds=10)
    listening(stage, slots=4)
    stage.advance(seconds=6)  # by then the scheduler has seen how many slots there are
    told = explained(stage, "d", "2026-11-04")
    assert told.asked.cause is Cause.BACKFILL
    assert f"backfill {filed.id} of h, filed 2026-11-06 00:00 UTC, goes on with" in told.asked.text
    assert " of 96 opened; it holds this until all below is done" in told.asked.text
    waiting = explained(stage, "h", "2026-11-01T15")
    assert waiting.asked.cause is Cause.LANE
    assert "2 units of backfill" in waiting.asked.text
    backfills.change(stage, "pause", filed)
    for process, label in (("h", "2026-11-01T15"), ("d", "2026-11-04")):
        paused = explained(stage, process, label).root
        assert (paused.cause, paused.next) == (Cause.PAUSED, "nothing by itself")
    backfills.change(stage, "resume", filed)
    for _ in range(STEPS):
        explanation = explained(stage, "d", "2026-11-04")
        if explanation.asked.cause is not Cause.BACKFILL:
            break
        assert explanation.root.cause in (
            *(Cause.BACKFILL, Cause.FREE_WORKER, Cause.AT_WORK, Cause.WORKERS_BUSY),
        )
        for unit in stage.claim(limit=4):
            stage.report(unit)
    assert explanation.asked.cause is Cause.FREE_WORKER
