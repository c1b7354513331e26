"""Promises: what is to be complete by when is watched by the clock, warned of, raised and told
once."""

import logging
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from synergy.cli.promises import open_promises
from synergy.core.building import build
from synergy.core.catalog import Catalog
from synergy.core.context import Context, TreeDeclaration, daily, hourly, previous, program, tree
from synergy.core.model import Unit
from synergy.core.promises import LAST_MOMENT, LAST_SHARE
from synergy.promises import PromiseRecord, read_promises
from synergy.reading import Reading
from synergy.scheduler import promises as watch
from synergy.stores.memory import MemoryStore
from synergy.testing.play import PROCESSED, Crew, Ending, Play
from synergy.testing.stage import Stage, fails
from synergy.worker.outcomes import failed

START = "2026-11-02"


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}:00Z")


def stage(complete_by: object = "06:00", **options: object) -> Stage:
    """Days of hours that promise to be complete by that."""
    levels = [
        daily("day", run="w:f", complete_by=complete_by),
        hourly("hour", run="w:f", max_attempts=1, **options),
    ]
    return Stage(Context(tree("t", levels, start=START, lag=0)), at=f"{START}T00:00Z")


def records(stage: Stage) -> dict[str, PromiseRecord]:
    return {record.key: record for record in read_promises(stage.store)}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("synergy")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level(logging.INFO, "synergy"):
        yield caplog
    logger.propagate = before


def said(lines: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in lines.records
        if getattr(record, "action", "") == "promise"
    ]


def test_work_that_never_started_breaks_its_promise_and_says_so_once(
    lines: pytest.LogCaptureFixture,
) -> None:
    one = stage()
    one.until("2026-11-03T12:00Z")
    (record,) = records(one).values()
    assert (record.key, record.promised) == (f"day@{START}", at("2026-11-03T06:00"))
    assert record.warned_at is not None
    assert record.warned_at < record.promised == record.broken_at
    assert (record.state, record.reason) == (
        "broken",
        "24 intervals of hour wait for workers",
    )
    because = "24 intervals of hour wait for workers"
    by = "to be complete by 2026-11-03 06:00:00 UTC, and"
    assert said(lines) == [
        ("WARNING", f"day {START} is {by} will probably be late: {because}"),
        ("ERROR", f"day {START} was {by} is not: {because}"),
    ]


def test_what_is_complete_in_time_is_not_spoken_of(lines: pytest.LogCaptureFixture) -> None:
    one = stage()
    for hour in range(1, 48):
        one.until(at(START + "T00:00") + timedelta(hours=hour))
        one.work()
    one.until("2026-11-03T23:30Z")
    assert (records(one), said(lines)) == ({}, [])


def test_what_has_failed_is_warned_of_when_its_interval_ends(
    lines: pytest.LogCaptureFixture,
) -> None:
    one = stage()
    one.until(f"{START}T02:00Z")
    one.report(one.claim(limit=1)[0], fails)
    one.work()
    for hour in range(3, 25):
        one.until(at(START + "T00:00") + timedelta(hours=hour))
        one.work()
    (record,) = records(one).values()
    assert record.warned_at == at("2026-11-03T00:00")
    assert record.reason == f"hour {START}T00 has failed"
    one.request("reprocess", "hour", f"{START}T00")
    one.work()
    one.until("2026-11-03T02:00Z")
    (record,) = records(one).values()
    assert (record.state, record.broken_at) == ("kept", None)
    assert [level for level, _ in said(lines)] == ["WARNING", "INFO"]


def test_what_is_switched_off_is_a_reason() -> None:
    one = stage()
    one.until(f"{START}T12:00Z")
    one.work()
    one.request("switch", "hour", on=False)
    one.until("2026-11-03T00:00Z")
    (record,) = records(one).values()
    assert (record.state, record.reason) == ("at risk", "hour is switched off")


def test_a_provisional_run_does_not_hide_that_a_process_is_off() -> None:
    hour = hourly("hour", run="w:f", machine="continuous", every="every 60", complete_by=1800)
    one = Stage(Context(tree("t", [hour], start=START, lag=0)), at=f"{START}T00:59:58Z")
    (unit,) = one.claim()
    assert unit.provisional
    one.request("switch", "hour", on=False)
    one.until(f"{START}T01:00Z")
    (record,) = records(one).values()
    assert (record.reason, record.warned_at) == ("hour is switched off", at(f"{START}T01:00"))


def test_the_typical_duration_makes_the_warning() -> None:
    """An hour takes forty minutes, and is promised fifty minutes after its end."""
    context = Context(
        tree("t", [hourly("hour", run="w:f", complete_by=3000)], start=START, lag=0),
        program("w", slots=1),
    )
    begin = at(f"{START}T00:00")
    store, catalog = MemoryStore(), build(context, begin)

    def plot(unit: Unit) -> Ending:
        slow = unit.interval.start >= begin + timedelta(hours=10)
        return Ending(duration=timedelta(minutes=90 if slow else 40))

    play = Play(
        catalog, begin, begin + timedelta(hours=14), plot, crews=[Crew(slots=1)], store=store
    )
    for _ in play.run():
        pass
    found = {record.label: record for record in read_promises(store)}
    assert [*found][:2] == [f"{START}T10", f"{START}T11"]
    first, second = found[f"{START}T10"], found[f"{START}T11"]
    assert first.warned_at is not None
    assert first.broken_at == first.promised == at(f"{START}T11:50")
    # It was over the median at 11:40, when there were ten minutes left: it was late from then on.
    assert at(f"{START}T11:40") < first.warned_at < at(f"{START}T11:50")
    # The next waits for the slot, and is at risk as soon as forty minutes are more than are left.
    assert second.warned_at is not None
    assert at(f"{START}T12:00") <= second.warned_at <= at(f"{START}T12:12")


def test_who_comes_back_judges_what_was_promised_meanwhile(
    lines: pytest.LogCaptureFixture,
) -> None:
    one = stage()
    one.until("2026-11-03T00:00Z")
    one.clock.set(at("2026-11-05T07:00"))
    one.restart()
    assert {record.state for record in records(one).values()} == {"broken"}
    assert [*records(one)] == [f"day@2026-11-0{day}" for day in (2, 3, 4)]
    told = len(said(lines))
    one.restart()
    assert len(said(lines)) == told, "nothing is told twice"


def test_who_comes_back_warns_of_nothing_twice_and_tells_the_end_of_what_was_warned_of(
    lines: pytest.LogCaptureFixture,
) -> None:
    one = stage()
    one.until(f"{START}T12:00Z")
    one.work()
    one.request("switch", "hour", on=False)
    one.until("2026-11-03T00:10Z")
    assert [level for level, _ in said(lines)] == ["WARNING"]
    before = records(one)
    one.restart()
    one.until("2026-11-03T03:00Z")
    assert [level for level, _ in said(lines)] == ["WARNING"], "not warned of again"
    assert records(one) == before
    one.restart()
    one.until("2026-11-03T06:30Z")
    one.restart()
    one.until("2026-11-03T07:00Z")
    assert [level for level, _ in said(lines)] == ["WARNING", "ERROR"], "raised once, too"
    one.restart()
    one.request("switch", "hour", on=True)
    one.work()
    one.until("2026-11-03T08:00Z")
    one.restart()
    one.until("2026-11-03T09:00Z")
    assert [level for level, _ in said(lines)] == ["WARNING", "ERROR", "INFO"]


def test_the_warning_is_one_also_where_the_scheduler_dies_at_every_look(
    lines: pytest.LogCaptureFixture,
) -> None:
    one = stage()
    for hour in range(24, 36):
        one.until(at(START + "T00:00") + timedelta(hours=hour, minutes=1))
        one.restart()
    assert [level for level, _ in said(lines)] == ["WARNING", "ERROR"]
    (record,) = records(one).values()
    assert record.warned_at is not None
    assert record.warned_at < record.promised == at("2026-11-03T06:00")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_months_ahead_is_forgotten_when_it_is_set_right(restarted: bool) -> None:
    day = daily("day", run="w:f", complete_by="06:00")
    one = Stage(Context(tree("t", [day], start=START, lag=0)), at=f"{START}T00:00Z")
    one.request("switch", "day", on=False)
    one.until("2026-11-04T00:10Z")
    before = records(one)
    assert [*before] == [f"day@{START}", "day@2026-11-03"]
    one.clock.set(at("2027-03-01T00:10"))
    one.settle()
    one.advance(hours=1)
    assert len(records(one)) > 100
    one.clock.set(at("2026-11-04T00:20"))
    if restarted:
        one.restart()
    one.until("2026-11-04T00:30Z")
    assert records(one)[f"day@{START}"] == before[f"day@{START}"]
    one.until("2026-11-05T12:00Z")
    found = records(one)
    assert [*found] == [*before, "day@2026-11-04"]
    assert [record.broken_at for record in found.values()] == [
        at(f"2026-11-0{day}T06:00") for day in (3, 4, 5)
    ]


def test_a_chain_of_any_length_is_estimated() -> None:
    """Each day waits for the one before, and none of a thousand is done."""
    day = daily("day", run="w:f", complete_by=3600, after=previous("day"))
    one = Stage(Context(tree("t", [day], start="2024-01-01", lag=0)), at="2026-11-02T23:00Z")
    one.until("2026-11-03T00:59Z")
    (record,) = records(one).values()
    assert (record.label, record.state) == (START, "at risk")


def hours(**options: Any) -> TreeDeclaration:
    return tree(
        "t", [hourly("work", run="w:f", complete_by=600)], **{"start": START, "lag": 0, **options}
    )


@pytest.mark.parametrize(
    "after",
    [
        tree("t", [daily("work", run="w:f", complete_by=600)], start=START, lag=0),
        hours(start=f"{START}T12:00"),
        hours(zone="Asia/Kolkata"),
        tree("t", [daily("other", run="w:f", complete_by=600)], start=START, lag=0),
    ],
)
def test_what_was_told_of_intervals_that_are_no_more_is_over(
    after: TreeDeclaration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never began may be cut anew, begin later or promise nothing any more."""
    monkeypatch.setattr(watch, "KEPT", 3)
    one = Stage(Context(hours()), at=f"{START}T00:00Z")
    one.request("switch", "work", on=False)
    one.until(f"{START}T05:15Z")
    told = [*records(one)]
    assert told == [f"work@{START}T0{hour}" for hour in range(5)]
    then = Stage(Context(after), at=one.clock.now(), store=one.store)
    then.until(f"{START}T06:05Z")
    assert [key for key in records(then) if key in told] == told[-3:], "those forgotten are old"
    opened = open_promises(Reading(then.store, then.catalog))
    assert not {record.key for record in opened} & {*told}


def test_nothing_is_told_of_what_was_promised_before_anybody_watched() -> None:
    context = Context(tree("t", [daily("day", run="w:f", complete_by="06:00")], start=START, lag=0))
    one = Stage(context, at="2026-11-20T12:00Z")
    one.advance(hours=1)
    assert records(one) == {}
    one.until("2026-11-21T07:00Z")
    assert [*records(one)] == ["day@2026-11-20"]


def test_what_is_made_anew_was_complete_in_its_time() -> None:
    one = stage()
    for hour in range(1, 27):
        one.until(at(START + "T00:00") + timedelta(hours=hour))
        one.work()
    one.request("reprocess", "hour", f"{START}T05")
    one.restart()
    one.until("2026-11-03T12:00Z")
    assert f"day@{START}" not in records(one)


def test_old_ones_are_forgotten_and_open_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KEPT", 3)
    context = Context(tree("t", [hourly("hour", run="w:f", complete_by=600)], start=START, lag=0))
    one = Stage(context, at=f"{START}T00:00Z")
    one.until(f"{START}T12:15Z")
    assert len(records(one)) == 12
    one.work()
    one.until(f"{START}T12:30Z")
    assert len(records(one)) == 3
    assert {record.state for record in records(one).values()} == {"broken, complete now"}


def test_a_promise_by_the_clock_is_by_that_of_the_zone() -> None:
    day = daily("day", run="w:f", complete_by="06:00")
    catalog = build(
        Context(tree("t", [day], start="2026-10-20", zone="Europe/Berlin")), at("2026-10-20T00:00")
    )
    process = catalog.processes["day"]

    def promised(label: str) -> datetime | None:
        return process.promised(process.calendar.parse(label))

    assert promised("2026-10-23") == at("2026-10-24T04:00"), "summer time"
    assert promised("2026-10-24") == at("2026-10-25T05:00"), "the day on which it ends"
    hours = build(
        Context(tree("t", [hourly("hour", run="w:f", complete_by="06:00")], start="2026-10-20")),
        at("2026-10-20T00:00"),
    ).processes["hour"]
    assert hours.promised(hours.calendar.parse("2026-10-20T04")) == at("2026-10-20T06:00")
    assert hours.promised(hours.calendar.parse("2026-10-20T05")) == at("2026-10-21T06:00")


def world(seed: int) -> tuple[Catalog, MemoryStore]:
    """Queues, slow days, failures, sudden breaks: two days of it."""
    chance = random.Random(seed)
    slots = chance.choice((1, 2))
    by = chance.choice(("00:40", "06:00", 2400))
    promise = chance.choice((600, 1800, 3600))
    levels = [
        daily("day", run="w:f", complete_by=by),
        hourly("hour", run="w:f", complete_by=promise, backoff=30, max_attempts=4),
    ]
    begin = at(f"{START}T00:00")
    lag = chance.choice((0, 300))
    context = Context(tree("t", levels, start=START, lag=lag), program("w", slots=slots))
    catalog, store = build(context, begin), MemoryStore()
    typical = chance.uniform(60, 3600 * slots * 0.8)

    def plot(unit: Unit) -> Ending:
        seconds = typical * chance.lognormvariate(0, 0.5) * (5 if chance.random() < 0.05 else 1)
        outcome = failed("by chance") if chance.random() < 0.05 else PROCESSED
        return Ending(duration=timedelta(seconds=seconds), outcome=outcome)

    end, crews = begin + timedelta(hours=54), [Crew(slots=slots)]
    for _ in Play(catalog, begin, end, plot, crews=crews, store=store).run():
        pass
    return catalog, store


@pytest.mark.parametrize("seed", range(40))
def test_the_warning_leads_the_miss(seed: int) -> None:
    catalog, store = world(seed)
    for record in read_promises(store):
        if record.broken_at is None:
            continue
        process = catalog.processes[record.process]
        due = process.due(process.calendar.starting_at(record.start))
        least = max((record.promised - due) / LAST_SHARE, LAST_MOMENT)
        assert record.warned_at is not None, record
        assert record.promised - record.warned_at >= least - timedelta(seconds=1), record
        assert record.broken_at == record.promised


def test_in_those_worlds_promises_are_broken_and_kept_and_most_warnings_are_true() -> None:
    found = [record for seed in range(10) for record in read_promises(world(seed)[1])]
    broken = sum(record.broken_at is not None for record in found)
    spoken_of = len(found)
    assert broken > 100
    assert spoken_of < 10 * 50, "of most intervals nothing is told"
    assert broken > spoken_of / 2, (broken, spoken_of)
