"""The story of a job: what it waited for, and its shares, which add up."""

from datetime import timedelta
from random import Random

import pytest

from synergy.core.context import Context, daily, hourly, tree
from synergy.reading import Reading
from synergy.story import Share, Story, tell
from synergy.testing.stage import Stage, fails
from tests.explanation.small_worlds import SmallWorld

SECOND = timedelta(seconds=1)


def story(stage: Stage, process: str, label: str) -> Story:
    reading = Reading(stage.store, stage.catalog)
    told = tell(reading, process, stage.interval(process, label), stage.clock.now())
    assert told is not None
    return told


def texts(told: Story) -> list[str]:
    return [step.text for step in told.steps]


def seconds(told: Story) -> dict[str, float]:
    return {share.value: spent / SECOND for share, spent in told.shares.items() if spent}


def a_stage() -> Stage:
    levels = [daily("day", run="w:f"), hourly("hour", run="w:f", backoff=100, max_attempts=3)]
    context = Context(tree("t", levels, start="2026-11-20", until="2026-11-21", lag=0))
    return Stage(context, at="2026-11-20T00:30Z")


def test_each_share_is_told_and_they_add_up() -> None:
    stage = a_stage()
    stage.until("2026-11-21T00:00Z")
    stage.work(only="hour")
    stage.advance(seconds=7)
    unit = stage.claim(limit=1, only="day")[0]
    stage.clock.advance(20 * SECOND)
    assert seconds(story(stage, "day", "2026-11-20")) == {"worker": 7, "working": 20}
    stage.report(unit)
    stage.advance(hours=1)
    told = story(stage, "day", "2026-11-20")
    assert seconds(told) == {"worker": 7, "working": 20}
    assert texts(told) == [
        "it fell due",
        "the last of its inputs had finished, hour@2026-11-20T23",
        "its unit was requested",
        "attempt 1 begun",
        "it ended as processed",
    ]


def test_failures_and_back_offs_have_their_share() -> None:
    stage = a_stage()
    stage.until("2026-11-20T01:00Z")
    stage.report(stage.claim()[0], fails)
    stage.advance(minutes=10)
    unit = stage.claim()[0]
    stage.clock.advance(5 * SECOND)
    stage.report(unit)
    told = story(stage, "hour", "2026-11-20T00")
    shares = seconds(told)
    assert 100 <= shares["back_off"] <= 110
    assert shares["working"] == 5
    assert sum(shares.values()) == 605
    assert any(
        text.startswith("attempt 1: it failed; attempt 2 not before") for text in texts(told)
    )


def test_a_day_that_waited_for_its_hours_says_for_which() -> None:
    stage = a_stage()
    stage.until("2026-11-21T00:00Z")
    late = stage.claim(only="hour")
    for unit in late[:-1]:
        stage.report(unit)
    stage.clock.advance(10 * SECOND)
    stage.report(late[-1])
    stage.work()
    told = story(stage, "day", "2026-11-20")
    assert seconds(told) == {"inputs": 10}
    assert f"the last of its inputs had finished, {late[-1].process}@2026-11-20T23" in texts(told)


def test_a_new_generation_begins_with_who_wanted_it() -> None:
    stage = a_stage()
    stage.until("2026-11-21T00:00Z")
    stage.work()
    stage.advance(hours=5)
    stage.request("reprocess", "hour", "2026-11-20T07", reason="late data")
    stage.advance(seconds=3)
    stage.work()
    told = story(stage, "hour", "2026-11-20T07")
    assert texts(told)[0].startswith("generation 1: processed in attempt 1, which took")
    assert texts(told)[1] == "it was opened again, generation 2: reprocess r1: late data"
    assert seconds(told) == {"worker": 3}


@pytest.mark.parametrize("seed", range(40))
def test_the_shares_of_every_story_add_up(seed: int) -> None:
    world = SmallWorld(Random(seed))
    for _ in range(30):
        world.happen()
    reading = Reading(world.stage.store, world.stage.catalog)
    now = world.stage.clock.now()
    number = 0
    for name in world.stage.catalog.processes:
        for row in reading.rows(name, None, now):
            told = tell(reading, name, row.interval, now)
            if told is None:
                continue
            number += 1
            assert sum(told.shares.values(), timedelta(0)) == told.ends - told.begins
            assert all(spent >= timedelta(0) for spent in told.shares.values())
            assert [step.at for step in told.steps] == sorted(step.at for step in told.steps)
            assert set(told.shares) == set(Share)
    assert number or world.stage.started == []
