"""Forecasts: they come true as often as they say, they are the same for the same store, and they
say what they rest on."""

import math
import random
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest

from synergy.bench.foresight import World, coverage
from synergy.core.building import build
from synergy.core.context import (
    Context,
    Declaration,
    ProcessDeclaration,
    daily,
    freerun,
    hourly,
    monthly,
    offset,
    previous,
    program,
    tree,
    yearly,
)
from synergy.core.model import Request, Unit
from synergy.core.states import UnitState
from synergy.forecast import agenda, foretell, scene_of
from synergy.forecast import scene as scenes
from synergy.forecast.durations import Durations, durations_of, recorded
from synergy.forecast.needs import rests_on
from synergy.forecast.scene import expected
from synergy.presence import WorkerRecord, save_worker
from synergy.reading import Reading
from synergy.stores.memory import MemoryStore
from synergy.testing.play import Crew, Ending, Play
from synergy.testing.stage import Stage, fails, processes_with

START = "2026-11-01"


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}:00Z")


def levels(**options: Any) -> list[ProcessDeclaration]:
    return [daily("day", run="w:f"), hourly("hour", run="w:f", **options)]


def played(context: Context, until: datetime, seconds: float = 120) -> Reading:
    """A timetable whose attempts have all taken so long until then."""
    begin = at(f"{START}T00:00")
    catalog, store = build(context, begin), MemoryStore()
    ending = Ending(duration=timedelta(seconds=seconds))
    for _ in Play(catalog, begin, until, lambda unit: ending, store=store).run():
        pass
    return Reading(store, catalog)


def days(*more: Declaration, **options: Any) -> Context:
    return Context(tree("t", levels(**options), start=START, lag=0), *more)


# one interval


def test_a_certain_future_is_told_to_the_second() -> None:
    now = at("2026-11-04T12:30")
    reading = played(days(), now)
    day = reading.catalog.processes["day"].calendar.parse("2026-11-04")
    told = foretell(scene_of(reading, now), "day", day, budget=math.inf)
    assert told.plays == 199
    end = day.end + timedelta(seconds=240)
    assert told.median is not None
    # Three days are recorded, all alike; an hour was never seen to last longer or shorter.
    assert (told.low, told.median, told.high) == (end, end, end)
    assert [(step.process, step.interval.label) for step in told.path] == [
        ("hour", "2026-11-04T23"),
        ("day", "2026-11-04"),
    ]
    first, last = told.path
    assert (first.ready, first.by_the_calendar) == (day.end, True)
    assert (last.ready, last.by_the_calendar) == (first.ended, False)
    assert any("only 3 runs of day" in text for text in told.assumed)


@pytest.mark.parametrize(
    ("label", "hours", "end"), [("2026-10-25", 25, "25T23:00"), ("2026-10-26", 24, "26T23:00")]
)
def test_a_day_of_the_zone_has_the_hours_that_its_clock_has(
    label: str, hours: int, end: str
) -> None:
    context = Context(tree("t", levels(), start="2026-10-20", lag=0, zone="Europe/Berlin"))
    begin, now = at("2026-10-19T22:00"), at("2026-10-24T12:30")
    catalog, store = build(context, begin), MemoryStore()
    ending = Ending(duration=timedelta(seconds=120))
    for _ in Play(catalog, begin, now, lambda unit: ending, store=store).run():
        pass
    scene = scene_of(Reading(store, catalog), now)
    day = catalog.processes["day"].calendar.parse(label)
    told = foretell(scene, "day", day, plays=3, budget=math.inf)
    assert told.median == at(f"2026-10-{end}") + timedelta(minutes=4)
    assert told.path[0].interval.label == f"{label}T23"
    starts = agenda(scene, day.end + timedelta(hours=1), plays=1, budget=math.inf).starts
    assert sum(s.process == "hour" and s.interval.label.startswith(label) for s in starts) == hours


def test_the_same_store_at_the_same_instant_gives_the_same_forecast() -> None:
    world = World(3)
    one, other = world.forecast(plays=19), world.forecast(plays=19)
    assert one == other
    assert len(set(one.ends)) > 10


def test_what_waits_for_a_failed_one_never_ends_and_what_to_do_is_said() -> None:
    stage = Stage(days(max_attempts=1), at=f"{START}T02:00Z")
    (unit, *_) = stage.claim(limit=1)
    stage.report(unit, fails)
    stage.work()
    reading = Reading(stage.store, stage.catalog)
    now = stage.clock.now()
    told = foretell(scene_of(reading, now), "day", stage.interval("day", START), budget=math.inf)
    assert told.stuck == (f"hour {START}T00 has failed: reprocess or skip it",)
    assert (told.plays, told.median, told.path) == (0, None, ())
    after = stage.interval("hour", f"{START}T05")
    assert foretell(scene_of(reading, now), "hour", after, plays=19).median is not None


def test_failures_of_the_past_are_failures_to_come() -> None:
    """A quarter of all hours is given up: no day of twenty-four will do without one."""
    stage = Stage(days(max_attempts=1), at=f"{START}T00:00Z")
    stage.until(f"{START}T13:00Z")
    for place, unit in enumerate(stage.claim()):
        stage.report(unit, fails) if place % 4 == 0 else stage.report(unit)
    reading = Reading(stage.store, stage.catalog)
    day = stage.interval("day", "2026-11-02")
    told = foretell(scene_of(reading, stage.clock.now()), "day", day, plays=19, budget=math.inf)
    assert (told.median, told.high) == (None, None)
    assert told.never["hour was given up"] >= 17


def test_what_is_at_work_goes_on_and_takes_as_long_as_others_that_took_so_long() -> None:
    """Hours take one minute or an hour: one at work for ten minutes is one of the long."""
    begin, now = at(f"{START}T00:00"), at("2026-11-03T12:10")
    context = Context(
        tree("t", [hourly("hour", run="w:f")], start=START, lag=0), program("w", slots=1)
    )
    catalog, store = build(context, begin), MemoryStore()

    def plot(unit: Unit) -> Ending:
        hour = unit.interval.start.hour
        return Ending(duration=timedelta(minutes=1 if hour % 3 and hour != 11 else 50))

    for _ in Play(catalog, begin, now, plot, crews=[Crew(slots=1)], store=store).run():
        pass
    (unit,) = store.active_units()
    assert unit.state is UnitState.IN_PROGRESS
    scene = scene_of(Reading(store, catalog), now)
    told = foretell(scene, "hour", unit.interval, plays=199, budget=math.inf)
    assert told.low is not None
    assert told.low > now + timedelta(minutes=30)
    assert told.path[0].started == unit.started_at
    following = catalog.processes["hour"].calendar.next(unit.interval)
    after = foretell(scene, "hour", following, plays=19, budget=math.inf)
    assert after.median is not None
    assert after.median > following.end


def test_a_lost_worker_is_not_waited_for() -> None:
    stage = Stage(days(), at=f"{START}T01:00Z")
    stage.claim()
    stage.clock.advance(timedelta(hours=5))
    now = stage.clock.now()
    scene = scene_of(Reading(stage.store, stage.catalog), now)
    told = foretell(scene, "hour", stage.interval("hour", f"{START}T00"), plays=19)
    assert told.median is not None
    assert told.median - now < timedelta(minutes=1)


def test_few_slots_make_a_queue() -> None:
    now = at("2026-11-02T00:00")
    reading = played(days(program("w", slots=2)), now, seconds=600)
    scene = scene_of(reading, now)
    assert [crew.slots for crew in scene.crews] == [2]
    context = days(program("w", slots=2))
    stage = Stage(context, at=f"{START}T00:00Z")
    stage.clock.set(now)
    stage.settle()
    waiting = scene_of(Reading(stage.store, stage.catalog), now)
    waiting = replace(waiting, durations=scene.durations)
    told = foretell(waiting, "day", stage.interval("day", START), plays=19)
    assert told.median is not None
    assert told.median - now == timedelta(minutes=130), "12 rounds of hours, then the day"


@pytest.mark.parametrize(
    "context",
    [
        days(program("w", slots=24), parallel=1),
        Context(
            tree("t", levels(pool="db"), start=START, lag=0),
            program("w", slots=24),
            pools={"db": 1},
        ),
        days(program("w", slots=24), after=previous("hour")),
    ],
    ids=["parallel", "pool", "previous"],
)
def test_what_goes_one_after_the_other_is_played_so(context: Context) -> None:
    stage = Stage(context, at="2026-11-02T00:00Z")
    scene = replace(
        scene_of(Reading(stage.store, stage.catalog), stage.clock.now()),
        durations={
            name: Durations((600.0,) * 50, (UnitState.PROCESSED,) * 50, (0,) * 50, (name,))
            for name in ("day", "hour")
        },
    )
    told = foretell(scene, "day", stage.interval("day", START), plays=3, budget=math.inf)
    assert told.median is not None
    assert told.median - stage.clock.now() == timedelta(minutes=250), "24 hours, then the day"
    before_last = told.path[-2]
    assert (before_last.process, before_last.interval.label) == ("hour", f"{START}T23")


def test_no_worker_for_a_process_is_said() -> None:
    context = days(program("w", slots=2, processes=["hour"]))
    now = at(f"{START}T05:00")
    reading = played(context, now)
    day = reading.catalog.processes["day"].calendar.parse(START)
    told = foretell(scene_of(reading, now), "day", day)
    assert told.stuck == ("no worker takes units of day: start one that does",)


def test_what_is_switched_off_never_ends_but_what_is_at_work_does() -> None:
    stage = Stage(days(), at=f"{START}T02:00Z")
    stage.claim()
    stage.request("switch", "hour", on=False)
    scene = scene_of(Reading(stage.store, stage.catalog), stage.clock.now())
    told = foretell(scene, "day", stage.interval("day", START))
    assert told.stuck == ("hour is switched off: switch it on with process on hour",)
    running = foretell(scene, "hour", stage.interval("hour", f"{START}T01"), plays=3)
    assert (running.stuck, running.plays) == ((), 3)


def test_a_provisional_run_at_work_does_not_end_what_is_switched_off() -> None:
    stage = Stage(days(machine="continuous", every="every 600"), at=f"{START}T02:20Z")
    stage.work()
    stage.until(f"{START}T02:40Z")
    (unit,) = stage.claim(only="hour")
    assert unit.provisional
    stage.request("switch", "hour", on=False)
    scene = scene_of(Reading(stage.store, stage.catalog), stage.clock.now())
    told = foretell(scene, "hour", unit.interval, plays=1)
    assert told.stuck == ("hour is switched off: switch it on with process on hour",)


def test_what_fails_between_the_inputs_of_an_interval_does_not_hold_it() -> None:
    """A day waits for this day and the same day of last week, and for none between."""
    context = Context(
        tree("b", [daily("base", run="w:f", max_attempts=1)], start=START, lag=0),
        tree("a", [daily("both", run="w:f", after=["base", offset(-7, "base")])], start=START),
    )
    stage = Stage(context, at="2026-11-20T12:00Z")
    for unit in stage.claim(only="base"):
        bad = unit.key == "base@2026-11-17#1"
        stage.report(unit, fails) if bad else stage.report(unit)
    stage.work()
    scene = scene_of(Reading(stage.store, stage.catalog), stage.clock.now())
    told = foretell(scene, "both", stage.interval("both", "2026-11-21"), plays=3)
    assert (told.stuck, told.plays) == ((), 3)
    held = foretell(scene, "both", stage.interval("both", "2026-11-24"), plays=3)
    assert held.stuck == ("base 2026-11-17 has failed: reprocess or skip it",)


def test_what_waits_for_a_backfill_that_is_switched_off_is_stuck() -> None:
    stage = Stage(days(program("w", slots=2)), at="2026-11-10T00:00Z")
    stage.work()
    bounds = [int(at(f"{START}T00:00").timestamp()), int(at("2026-11-05T00:00").timestamp())]
    stage.request("switch", "hour", on=False)
    asked = stage.request("backfill", "hour", targets=bounds, total=96, force=True)
    assert stage.state("day", "2026-11-04") == "embryo", "it is held"
    scene = scene_of(Reading(stage.store, stage.catalog), stage.clock.now())
    told = foretell(scene, "day", stage.interval("day", "2026-11-04"), plays=1)
    assert told.stuck == (
        f"hour is switched off, and its backfill {asked.id} with it: switch it on with process on "
        "hour",
    )


def test_a_backfill_that_ends_before_a_leap_is_not_made_once_more_after_it() -> None:
    """Five hundred hours, two at a time, are longer than what is played after the leap."""
    stage = Stage(days(program("w", slots=2)), at="2026-11-22T00:00Z")
    stage.work()
    bounds = [int(at(f"{START}T00:00").timestamp()), int(at("2026-11-21T20:00").timestamp())]
    stage.request(
        "backfill", "hour", targets=bounds, total=500, force=True, min_share=1.0, max_share=1.0
    )
    scene = replace(
        scene_of(Reading(stage.store, stage.catalog), stage.clock.now()),
        durations={
            name: Durations((600.0,) * 50, (UnitState.PROCESSED,) * 50, (0,) * 50, (name,))
            for name in ("day", "hour")
        },
    )
    far = stage.interval("day", "2026-12-01")
    told = foretell(scene, "day", far, plays=1, budget=math.inf)
    assert any("nothing is behind until" in text for text in told.assumed)
    assert told.ends == (far.end + timedelta(minutes=20),)


def test_what_is_filed_and_not_taken_up_is_said_to_be_left_out() -> None:
    now = at("2026-11-04T12:30")
    reading = played(days(), now)
    request = Request(
        id="r", action="reprocess", process="hour", starts=(at("2026-11-03T00:00"),), filed_at=now
    )
    reading.store.file_request(request)
    reading.store.file_request(replace(request, id="p", state="planned"))
    scene = scene_of(Reading(reading.store, reading.catalog), now)
    day = reading.catalog.processes["day"].calendar.parse("2026-11-04")
    assert (
        "1 request waits for the scheduler: what comes of that is not played"
        in foretell(scene, "day", day, plays=1).assumed
    )
    assert not any(
        "request" in text for text in foretell(scene_of(reading, now), "day", day, plays=1).assumed
    )


def test_workers_that_listen_are_those_that_are_played() -> None:
    now = at(f"{START}T05:00")
    reading = played(days(program("w", slots=7)), now)
    for owner, seconds in (("here", 3), ("silent", 300)):
        worker = WorkerRecord(
            owner=owner,
            program="w",
            box="b",
            slots=3,
            processes=frozenset({"hour", "day"}),
            busy=0,
            seen_at=now - timedelta(seconds=seconds),
        )
        save_worker(reading.store, worker)
    scene = scene_of(Reading(reading.store, reading.catalog), now)
    (crew,) = scene.crews
    assert scene.listening
    assert not scene_of(reading, now + timedelta(minutes=1)).listening
    assert crew == Crew(slots=3, processes=frozenset({"hour", "day"}))


def test_a_backfill_under_way_goes_on_in_the_plays() -> None:
    """A hundred hours are run again, two at a time: the day that the last of them is in waits."""
    stage = Stage(days(program("w", slots=2)), at="2026-11-10T00:00Z")
    stage.work()
    begin, end = at(f"{START}T00:00"), at("2026-11-05T00:00")
    bounds = [int(begin.timestamp()), int(end.timestamp())]
    asked = stage.request(
        "backfill", "hour", targets=bounds, total=96, force=True, min_share=1.0, max_share=1.0
    )
    reading = Reading(stage.store, stage.catalog)
    now = stage.clock.now()
    scene = replace(
        scene_of(reading, now),
        durations={
            name: Durations((600.0,) * 50, (UnitState.PROCESSED,) * 50, (0,) * 50, (name,))
            for name in ("day", "hour")
        },
    )
    day = stage.interval("day", "2026-11-04")
    assert stage.state("day", "2026-11-04") == "embryo", "it is held, or waits for its hours"
    told = foretell(scene, "day", day, plays=3, budget=math.inf)
    assert told.median is not None
    # Ninety-six hours and five days of ten minutes each, by two workers; the new hours beside them.
    assert timedelta(hours=8) <= told.median - now <= timedelta(hours=9, minutes=30)
    stage.request("backfill", "hour", change="pause", id=asked.id)
    paused = foretell(scene_of(Reading(stage.store, stage.catalog), now), "day", day)
    assert paused.stuck == (f"backfill {asked.id} of hour is paused: resume it, or cancel it",)


def test_out_of_time_is_told_by_the_number_of_plays() -> None:
    now = at("2026-11-04T12:30")
    reading = played(days(), now)
    day = reading.catalog.processes["day"].calendar.parse("2026-11-04")
    ticks = iter(range(1000))
    told = foretell(scene_of(reading, now), "day", day, budget=30.0, clock=lambda: next(ticks))
    assert 0 < told.plays < 19
    assert told.chance < 0.9


def test_a_month_of_hours_is_foretold_in_a_few_seconds() -> None:
    """By the number of units that are played: a second has some thousand."""
    now = at("2026-11-02T00:00")
    context = Context(
        tree("t", [monthly("month", run="w:f"), *levels()], start=START, lag=0),
        tree("other", [daily("odd", run="w:f")], start=START),
        freerun("often", run="w:f", at="every 10", start=at(f"{START}T00:00")),
    )
    reading = played(context, at(f"{START}T01:00"))
    month = reading.catalog.processes["month"].calendar.parse("2026-11")
    scene = scene_of(reading, now)
    part, left = scene.lessened(scene.catalog.closure(["month"]), month.end)
    assert {*part.catalog.processes} == {"month", "day", "hour", "odd"}
    assert left
    assert [*left] == ["often"]
    assert sum(expected(part, name, month.end) for name in part.catalog.processes) < 900
    told = foretell(scene, "month", month, plays=1, budget=math.inf)
    assert [step.process for step in told.path] == ["hour", "day", "month"]


def test_a_far_interval_is_leapt_to_when_nothing_is_behind() -> None:
    """Of a month and of a year only the last days are played."""
    now = at("2026-11-02T02:20")
    context = Context(
        tree("t", [yearly("year", run="w:f"), monthly("month", run="w:f"), *levels()], start=START),
        freerun("often", run="w:f", at="every 3600", start=at(f"{START}T00:00")),
    )
    reading = played(context, now)
    scene = scene_of(reading, now)
    for name, label in (("month", "2026-11"), ("year", "2026"), ("day", "2027-03-28")):
        interval = reading.catalog.processes[name].calendar.parse(label)
        ticks = count()
        told = foretell(scene, name, interval, plays=3, budget=1e9, clock=lambda t=ticks: next(t))
        lasts = timedelta(minutes={"month": 6, "year": 8, "day": 4}[name])
        assert told.plays == 3
        assert told.median is not None
        apart = told.median - interval.end - timedelta(minutes=5) - lasts
        assert abs(apart) < lasts, "of days, months and years one is recorded, or none"
        assert next(ticks) < 3 * 12, "looks at the clock: one for each 64 steps"
        assert any("nothing is behind until" in text for text in told.assumed)


def test_a_leap_and_a_play_without_one_foretell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(6)
    reading = Reading(world.store, world.catalog)
    scene = scene_of(reading, world.now)
    day = scene.catalog.processes["day"].calendar.containing(world.now + timedelta(days=5))
    busy = sum(scene.load(name, day.end) for name in scene.catalog.processes)
    assert busy < scenes.BUSY, "a world that leaps"
    leapt = foretell(scene, "day", day, plays=59, budget=math.inf)
    monkeypatch.setattr(scenes, "BUSY", 0.0)
    through = foretell(scene, "day", day, plays=59, budget=math.inf)
    assert any("nothing is behind" in text for text in leapt.assumed)
    assert not any("nothing is behind" in text for text in through.assumed)
    assert leapt.median is not None
    assert through.median is not None
    assert leapt.low is not None
    assert leapt.high is not None
    apart = abs(leapt.median - through.median)
    assert apart < (leapt.high - leapt.low) / 3
    assert leapt.low < through.median < leapt.high


def test_where_workers_are_busy_nothing_is_leapt_over() -> None:
    now = at("2026-11-02T00:00")
    reading = played(days(program("w", slots=1)), now, seconds=2400)
    day = reading.catalog.processes["day"].calendar.parse("2026-11-06")
    told = foretell(scene_of(reading, now), "day", day, plays=1, budget=math.inf)
    assert not any("nothing is behind" in text for text in told.assumed)


def test_what_is_given_up_on_the_way_counts() -> None:
    """One of forty hours was given up: of three hundred that are leapt over, some will be."""
    stage = Stage(days(max_attempts=1), at=f"{START}T00:00Z")
    stage.until("2026-11-02T16:00Z")
    for place, unit in enumerate(stage.claim(only="hour")):
        stage.report(unit, fails) if place == 39 else stage.report(unit)
    scene = scene_of(Reading(stage.store, stage.catalog), stage.clock.now())
    month = stage.clock.now() + timedelta(days=30)
    chance = scene.given_up("hour", stage.clock.now(), month)
    assert chance > 0.99
    assert scene.given_up("day", stage.clock.now(), month) == 0.0
    far = stage.interval("day", "2026-12-01")
    told = foretell(scene, "day", far, plays=19, budget=math.inf)
    assert told.median is not None, "the day itself does not rest on those before"


# what an interval rests on


def test_an_interval_rests_on_what_is_unfinished_only() -> None:
    now = at("2026-11-04T12:30")
    context = days(
        tree("u", [daily("total", run="w:f", after=["day", previous("total")])], start=START)
    )
    reading = played(context, now)
    total = reading.catalog.processes["total"].calendar
    reach = rests_on(reading.catalog, reading.timetable, "total", total.parse("2026-11-05"))
    assert reach == {
        "total": [(at("2026-11-04T00:00"), at("2026-11-06T00:00"))],
        "day": [(at("2026-11-04T00:00"), at("2026-11-06T00:00"))],
        "hour": [(at("2026-11-04T12:00"), at("2026-11-06T00:00"))],
    }


def test_a_hole_long_ago_is_found() -> None:
    stage = Stage(days(max_attempts=1), at=f"{START}T00:00Z")
    stage.until("2026-11-05T00:00Z")
    while units := stage.claim(limit=1):
        bad = units[0].key == "hour@2026-11-02T07#1"
        stage.report(units[0], fails) if bad else stage.report(units[0])
    reading = Reading(stage.store, stage.catalog)
    reach = rests_on(reading.catalog, reading.timetable, "day", stage.interval("day", "2026-11-02"))
    assert reach["hour"] == [(at("2026-11-02T07:00"), at("2026-11-03T00:00"))]


# what may come


def test_a_draw_falls_between_any_two_records_and_beyond_them_alike() -> None:
    known = Durations((10.0, 20.0, 40.0), (UnitState.PROCESSED,) * 3, (0, 0, 0), ("p",))
    chance = random.Random(1)
    drawn = [known.draw(chance)[0] for _ in range(8000)]
    shares = [
        sum(low <= value < high for value in drawn) / len(drawn)
        for low, high in ((0, 10), (10, 20), (20, 40), (40, math.inf))
    ]
    assert all(abs(share - 0.25) < 0.02 for share in shares), shares
    assert all(known.draw(chance, 20.0)[0] > 20 for _ in range(100))
    assert all(known.draw(chance, 50.0)[0] > 50 for _ in range(100))


def test_attempts_fail_as_often_as_recorded_ones() -> None:
    known = Durations((1.0,), (UnitState.PROCESSED,), (0, 0, 0, 1, 2), ("p",))
    chance = random.Random(1)

    def share(failures: int) -> float:
        return sum(known.fails(chance, failures) for _ in range(4000)) / 4000

    assert abs(share(0) - 0.4) < 0.03, "two of five failed at least once"
    assert abs(share(1) - 0.5) < 0.03
    assert share(2) == share(3) == 0.0


def test_what_was_kept_tells_how_long_it_took_to_make() -> None:
    stage = Stage(days(), at="2026-11-04T00:30Z")
    stage.work(processes_with("the same"))
    stage.request("reprocess", "hour", *(f"2026-11-0{day}T05" for day in (1, 2, 3)))
    stage.work(processes_with("the same"))
    assert stage.job("day", "2026-11-03").generation == 2
    assert stage.job("day", "2026-11-03").unit is None
    found = recorded(stage.store, stage.catalog, ["day", "hour"])["day"]
    assert (found.of, len(found.seconds)) == (("day",), 3)


def test_nothing_recorded_is_nothing_to_draw_from() -> None:
    assert durations_of([], ["p"]) is None


# all that starts


def test_what_starts_next_is_told_in_order() -> None:
    now = at("2026-11-03T21:30")
    reading = played(days(), now)
    told = agenda(scene_of(reading, now), now + timedelta(hours=4), budget=math.inf)
    assert [(start.process, start.interval.label) for start in told.starts] == [
        ("hour", "2026-11-03T21"),
        ("hour", "2026-11-03T22"),
        ("hour", "2026-11-03T23"),
        ("day", "2026-11-03"),
        ("hour", "2026-11-04T00"),
    ]
    first = told.starts[0]
    assert (first.starts, first.ends) == (at("2026-11-03T22:00"), at("2026-11-03T22:02"))
    assert {start.share for start in told.starts} == {1.0}


def many_levels() -> Reading:
    """Forty hourly processes, and a freerun every ten seconds."""
    trees = [tree(f"t{n}", [hourly(f"p{n}", run="w:f")], start="2026-11-03") for n in range(40)]
    often = freerun("often", run="w:f", at="every 10", start=at("2026-11-03T00:00"))
    return played(Context(*trees, often), at("2026-11-03T01:20"), 1)


def test_what_starts_in_a_day_leaves_out_no_ordinary_process() -> None:
    now = at("2026-11-03T21:30")
    scene = scene_of(many_levels(), now)
    told = agenda(scene, now + timedelta(hours=24), plays=1)
    assert {start.process for start in told.starts} == {f"p{n}" for n in range(40)}
    assert told.left == ("often",)
    assert any("often (" in text and "--seconds" in text for text in told.assumed)


def test_more_time_takes_more_in() -> None:
    now = at("2026-11-03T02:00")
    scene = scene_of(many_levels(), now)
    hour = now + timedelta(hours=1)
    assert agenda(scene, hour, plays=1).left == ()
    assert agenda(scene, hour, plays=1, budget=0.4).left == ("often",)


def test_provisional_runs_do_not_make_a_forecast_long() -> None:
    now = at("2026-11-03T21:30")
    reading = played(days(machine="continuous", every="every 600"), now)
    scene = scene_of(reading, now)
    told = agenda(scene, now + timedelta(hours=4), plays=3, budget=math.inf)
    assert len(told.starts) == 5
    day = reading.catalog.processes["day"].calendar.parse("2026-11-03")
    assert foretell(scene, "day", day, plays=3, budget=math.inf).median == day.end + timedelta(
        seconds=240
    )


# whether they come true


@pytest.mark.slow
def test_nine_of_ten_bands_hold_what_happens() -> None:
    told = coverage(120)
    assert told["band"] == pytest.approx(0.9)
    assert 0.85 <= told["within"] <= 0.95, told
    assert 0.4 <= told["before_the_median"] <= 0.6, told
