"""What the scheduler forgets, and that nobody misses it."""

import pytest

from synergy.core.context import Context, daily, hourly, tree
from synergy.scheduler import loop
from synergy.testing.stage import Stage

DAYS = 3


def test_the_feed_is_cut_behind_the_ledgers_and_a_restart_knows_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "FEED_KEPT", 10)
    monkeypatch.setattr(loop, "LEDGERS_AFTER", 100)
    levels = [daily("day", run="w:f"), hourly("hour", run="w:f")]
    context = Context(tree("t", levels, start="2026-05-01", until=f"2026-05-0{1 + DAYS}", lag=0))
    stage = Stage(context, at="2026-06-01T00:00Z")
    assert stage.work() == DAYS * 25
    stage.clock.advance(2 * loop.HOUSEKEEPING)
    stage.settle()
    assert len(stage.store.feed(0, 10_000)) == 10
    before = {name: one.content() for name, one in stage.timetable.ledgers.items()}
    stage.restart()
    assert {name: one.content() for name, one in stage.timetable.ledgers.items()} == before
    assert stage.work() == 0
