"""Which firing is served next, by the misfire policy."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.catalog import Freerun
from synergy.core.freeruns import COUNTED, Firing, due_firing, firing_interval
from synergy.core.model import Task
from synergy.core.triggers import parse_trigger

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def entry(at: str = "every 600", misfire: str = "once", zone: str = "UTC") -> Freerun:
    return Freerun(
        name="f",
        task=Task(entry="w:f"),
        trigger=parse_trigger(at, zone),
        misfire=misfire,
        start=NOON,
    )


def test_nothing_is_due_before_the_next_instant() -> None:
    assert due_firing(entry(), NOON, NOON) is None
    assert due_firing(entry(), NOON, NOON + timedelta(seconds=599)) is None


@pytest.mark.parametrize("misfire", ["once", "skip", "all"])
def test_what_is_due_is_served_at_its_instant(misfire: str) -> None:
    instant = NOON + timedelta(minutes=10)
    assert due_firing(entry(misfire=misfire), NOON, instant) == Firing(instant, 0)


@pytest.mark.parametrize(
    ("misfire", "minutes", "missed"), [("once", 60, 5), ("skip", 60, 5), ("all", 10, 0)]
)
def test_of_several_the_policy_says_which(misfire: str, minutes: int, missed: int) -> None:
    found = due_firing(entry(misfire=misfire), NOON, NOON + timedelta(minutes=65))
    assert found == Firing(NOON + timedelta(minutes=minutes), missed)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["every 1", "every 7", "cron */2 * * * *", "at Mon-10:00,Thu-23:59"]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    st.integers(0, 400 * 86_400),
)
def test_the_latest_is_the_latest_however_many_were_missed(at: str, zone: str, later: int) -> None:
    now = NOON + timedelta(seconds=later)
    freerun = entry(at, zone=zone)
    found = due_firing(freerun, NOON, now)
    if found is None:
        following = freerun.trigger.next_after(NOON)
        assert following is not None
        assert following > now
        return
    following = freerun.trigger.next_after(found.instant)
    assert found.instant <= now
    assert following is not None
    assert following > now
    assert found.missed <= COUNTED


def test_all_serves_every_one_in_turn() -> None:
    freerun, last, served = entry(misfire="all"), NOON, []
    while (found := due_firing(freerun, last, NOON + timedelta(hours=1))) is not None:
        last = found.instant
        served.append(last)
    assert served == [NOON + timedelta(minutes=minutes) for minutes in range(10, 61, 10)]


def test_a_firing_is_known_by_its_instant() -> None:
    assert firing_interval(NOON).label == "2026-11-20T12:00:00Z"
    assert firing_interval(NOON + timedelta(microseconds=5)).label == "2026-11-20T12:00:00.000005Z"
    assert firing_interval(NOON) == firing_interval(NOON)
