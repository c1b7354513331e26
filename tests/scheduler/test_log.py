"""What the scheduler says in its log."""

import logging

import pytest

from synergy.core.context import Context, daily, hourly, tree
from synergy.testing.stage import Stage, finds_nothing

CONTEXT = Context(
    tree(
        "site",
        [daily("day", run="w:f"), hourly("hour", run="w:f")],
        start="2026-11-18",
        until="2026-11-19",
        lag=0,
    )
)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Action and text of what was said since the last call."""
    said = [(vars(record)["action"], record.getMessage()) for record in caplog.records]
    caplog.clear()
    return said


def test_jobs_that_move_alike_in_one_turn_share_a_line_and_few_have_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "synergy.scheduler")
    stage = Stage(CONTEXT, at="2026-11-18T02:10Z")
    assert lines(caplog) == [
        ("job", "hour@2026-11-18T00 embryo → in_progress"),
        ("job", "hour@2026-11-18T01 embryo → in_progress"),
    ]
    stage.until("2026-11-19T00:10Z")
    lines(caplog)
    stage.work(finds_nothing)
    said = lines(caplog)
    assert said[0] == (
        "jobs",
        "hour 2026-11-18T00 … 2026-11-18T23, 24 jobs: in_progress → noop: nothing",
    )
    assert said[1] == ("job", "day@2026-11-18 embryo → in_progress")
