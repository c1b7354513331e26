"""What `why` says is true, and doing what it says helps."""

from datetime import timedelta
from random import Random

import pytest

from synergy.core.intervals import Interval
from synergy.core.states import UnitState
from synergy.explanation import Cause, Explanation, Link, explain
from synergy.reading import Reading
from tests.explanation.small_worlds import SmallWorld

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
