"""Values compare by what they hold; the next version is a copy, and takes along what it knows."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Fence, Job, Task, Unit
from synergy.core.states import JobState, UnitState

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = Calendar(Granularity.HOURLY).containing(NOW)


def test_equal_values_are_equal_and_hash_alike() -> None:
    one, other = (Fence(UnitState.CLAIMED, attempt, "w") for attempt in (1, 1))
    assert one == other
    assert hash(one) == hash(other)
    assert one != replace(one, attempt=2)


def test_the_next_version_is_another_job_and_leaves_this_one_alone() -> None:
    job = Job(process="h", interval=HOUR)
    assert job.key == "h@2026-11-20T00"
    moved = job.moved(JobState.IN_PROGRESS, NOW, "because", unit="h@2026-11-20T00#1", runs=1)
    assert moved == replace(
        job,
        state=JobState.IN_PROGRESS,
        version=1,
        reason="because",
        unit="h@2026-11-20T00#1",
        runs=1,
        transitions=moved.transitions,
    )
    assert job == Job(process="h", interval=HOUR)
    assert replace(moved, process="g").key == "g@2026-11-20T00", "not taken along by `replace`"
    (made,) = moved.transitions
    assert (made.version, made.before, made.after) == (1, "embryo", "in_progress")
    assert type(made.before) is str, "as it is stored"


def test_a_field_that_a_document_does_not_have_is_refused() -> None:
    unit = Unit(process="h", interval=HOUR, generation=1, task=Task(), created_at=NOW)
    with pytest.raises(AssertionError, match="ownr"):
        unit.moved(UnitState.CLAIMED, NOW, ownr="w")
