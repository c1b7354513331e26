"""What is told of a moment that has passed is what was the case then."""

from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from synergy.core.model import Job, Unit
from synergy.core.states import UnitState
from synergy.errors import NotFound
from synergy.hindsight import Hindsight
from synergy.reading import Reading
from tests.explanation.small_worlds import SmallWorld

SEEDS = 40
START = datetime.fromisoformat("2026-11-01T00:00Z")
END = datetime.fromisoformat("2027-01-01T00:00Z")


def known(reading: Reading) -> dict[str, Any]:
    """What readiness and explanation consult of a reading."""
    return {
        "ledgers": {
            name: [*ledger.runs(START, END)] for name, ledger in reading.timetable.ledgers.items()
        },
        "active": {
            key: of_job(job) for key, job in reading.timetable.active.items() if job.version
        },
        "units": {
            key: of_unit(unit) for key, unit in reading.units.items() if not unit.state.terminal
        },
    }


def of_job(job: Job) -> tuple[object, ...]:
    unit = job.unit if job.state.at_work else None
    return (job.state, job.version, job.generation, job.result, job.reason, job.holds, unit)


def of_unit(unit: Unit) -> tuple[object, ...]:
    wait = unit.not_before if unit.state is UnitState.REQUESTED else None
    return (unit.state, unit.attempt, unit.version, unit.reason, wait)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_past_moment_is_as_it_was(seed: int) -> None:
    random = Random(seed)
    world = SmallWorld(random)
    moments = {}
    for _ in range(40):
        world.happen()
        if random.random() < 0.3:
            now = world.stage.clock.now()
            moments[now] = known(Reading(world.stage.store, world.stage.catalog))
            world.stage.advance(seconds=1)
    reading = Reading(world.stage.store, world.stage.catalog)
    several = {key for key in moments_of(moments) if held_by_several(reading, key)}
    for at, then in moments.items():
        told = known(Hindsight(reading, at))
        for key in several:  # which of them still did is a guess, see `Hindsight`
            then["active"].pop(key, None)
            told["active"].pop(key, None)
        assert told == then, (seed, at)


def moments_of(moments: dict[datetime, dict[str, Any]]) -> set[tuple[str, datetime]]:
    """All jobs that were active at one of them."""
    return {key for then in moments.values() for key in then["active"]}


def held_by_several(reading: Reading, key: tuple[str, datetime]) -> bool:
    """Whether more than one backfill has had it in its hands."""
    interval = reading.catalog.processes[key[0]].calendar.starting_at(key[1])
    job = reading.document(key[0], interval)
    backfills = {each.id for each in reading.store.last_requests(1000) if each.action == "backfill"}
    return job is not None and len(backfills & {*job.requests}) > 1


def test_it_costs_what_happened_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synergy.hindsight.BATCH", 10)
    world = SmallWorld(Random(1))
    world.stage.advance(hours=10)
    world.stage.work()
    at = world.stage.clock.now()
    world.stage.advance(hours=1)
    reading = Reading(world.stage.store, world.stage.catalog)
    feed, pages = world.stage.store.feed, []

    def counted(after: int, limit: int) -> Any:
        pages.append(after)
        return feed(after, limit)

    monkeypatch.setattr(world.stage.store, "feed", counted)
    Hindsight(reading, at)
    assert len(pages) <= 3
    assert reading.through > 60


def test_what_the_feed_has_forgotten_is_refused_with_the_moment_that_it_knows() -> None:
    world = SmallWorld(Random(2))
    begun = world.stage.clock.now()
    world.stage.advance(hours=10)
    world.stage.work()
    later = world.stage.clock.now()
    world.stage.advance(hours=10)
    world.stage.work()
    reading = Reading(world.stage.store, world.stage.catalog)
    first = next(e for e in world.stage.store.feed(0, 1000) if e.transition.at > later)
    world.stage.store.prune_feed(first.seq - 1)
    known_from = "does not reach back to 2026-11-20 00:00 UTC.*from 2026-11-20 1"
    with pytest.raises(NotFound, match=known_from):
        Hindsight(reading, begun)
    world.stage.store.prune_feed(reading.through)
    with pytest.raises(NotFound, match="can be told no moment before"):
        Hindsight(reading, begun)


def test_before_anything_happened_nothing_is_known() -> None:
    world = SmallWorld(Random(3))
    world.stage.advance(hours=10)
    world.stage.work()
    reading = Reading(world.stage.store, world.stage.catalog)
    past = Hindsight(reading, world.stage.clock.now() - timedelta(days=365))
    assert not past.units
    assert not past.timetable.active
