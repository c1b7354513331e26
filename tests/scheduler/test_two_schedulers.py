"""Two schedulers at once, each believing that it leads: the same end (I13; D9)."""

import random
from datetime import timedelta
from typing import Any

import pytest

from synergy.core.context import Context, daily, freerun, hourly, monthly, previous, tree
from synergy.core.model import UnitWrite
from synergy.scheduler.loop import Scheduler, Setting
from synergy.scheduler.sources import SourcesAtOnce
from synergy.testing.stage import Stage, processes, processes_with

SEEDS = 76


def context(**hour: Any) -> Context:
    span: dict[str, Any] = {"start": "2026-11-18", "until": "2026-11-20", "lag": 0}
    return Context(
        tree(
            "site",
            [
                monthly("m", run="w:f", max_attempts=50),
                daily("d", run="w:f", machine="continuous", every="every 21600", max_attempts=50),
                hourly("h", run="w:f", grouping=6, **hour),
            ],
            **span,
        ),
        tree("chain", [daily("c", run="w:f", after=["d", previous("c")], max_attempts=50)], **span),
        freerun("f", at="every 7200", run="w:f"),
    )


def second(stage: Stage) -> Scheduler:
    """Another scheduler over the same store."""
    scheduler = Scheduler(
        Setting(
            store=stage.store,
            bell=stage.bell,
            clock=stage.clock,
            catalog=stage.catalog,
            owner="second",
            sources=SourcesAtOnce(lambda source, interval: None),
        )
    )
    scheduler.load()
    return scheduler


@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_schedulers_that_take_turns_come_to_the_same_end(seed: int) -> None:
    chance = random.Random(seed)
    stage = Stage(context(max_attempts=50), at="2026-11-18T00:00Z")
    both = [stage.scheduler, second(stage)]
    for _ in range(150):
        match chance.randrange(4):
            case 0:
                chance.choice(both).once(everything=chance.random() < 0.5)
            case 1:
                stage.scheduler = chance.choice(both)
                stage.claim(limit=chance.randint(1, 5))
            case 2:
                running = [u for u in stage.store.active_units() if u.state == "in_progress"]
                for unit in running[: chance.randint(0, 4)]:
                    ended = chance.choice([processes, processes_with("a")])(unit, stage.clock.now())
                    stage.store.save_units([UnitWrite(ended, unit.fence)])
            case 3:
                stage.clock.advance(timedelta(minutes=chance.choice([0.1, 0.1, 30, 150])))
    stage.until("2026-12-02T00:00Z")
    for _ in range(60):
        for scheduler in both:
            stage.scheduler = scheduler
            stage.advance(seconds=20)
            stage.work()
    for name in stage.catalog.processes:
        start, end = stage.catalog.spans[name]
        assert end is not None
        for interval in stage.catalog.processes[name].calendar.between(start, end):
            job = stage.job(name, interval.label)
            assert job.state == "processed", f"{job.key} {job.state}: {job.reason}"
            assert job.generation == 1
    assert stage.store.active_units() == []
