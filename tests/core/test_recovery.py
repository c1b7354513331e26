"""Attempts: how long one waits for the next, how many there are, and what a lost worker costs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Task, Unit
from synergy.core.recovery import (
    LEASE,
    LEASE_MARGIN,
    LONGEST_BACKOFF,
    REASON_LIMIT,
    RENEWAL,
    after_failure,
    after_lost_lease,
    backoff_after,
    canceled,
    given_up,
    handed_back,
    jitter,
)
from synergy.core.states import IllegalTransition, UnitState

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
INTERVAL = Calendar(Granularity.HOURLY).containing(NOW)


def at_work(state: UnitState = UnitState.IN_PROGRESS, attempts: int = 3, **task: object) -> Unit:
    return Unit(
        process="h",
        interval=INTERVAL,
        generation=2,
        task=Task(entry="w:f", max_attempts=attempts, **task),  # type: ignore[arg-type]
        created_at=NOW,
        state=state,
        owner="w1",
        lease_until=NOW + LEASE,
        progress=(1.0, None, "half"),
        version=3,
    )


def again(unit: Unit) -> Unit:
    """Claimed anew, as a store does it."""
    return unit.moved(UnitState.IN_PROGRESS, NOW, owner="w2", lease_until=NOW + LEASE)


def test_the_back_off_doubles_up_to_an_hour() -> None:
    first = timedelta(seconds=10)
    waits = [backoff_after(failures, first).total_seconds() for failures in range(1, 13)]
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]


@given(st.integers(0, 10**6), st.integers(0, 10**9))
def test_the_back_off_is_never_negative_nor_beyond_the_limit(failures: int, first: int) -> None:
    wait = backoff_after(failures, timedelta(seconds=first))
    assert timedelta(0) <= wait <= LONGEST_BACKOFF


def test_without_a_back_off_there_is_no_wait() -> None:
    assert backoff_after(7, timedelta(0)) == timedelta(0)


@given(st.text(), st.integers(0, 3600))
def test_jitter_adds_up_to_a_tenth_and_the_same_for_the_same_seed(seed: str, wait: int) -> None:
    given_ = timedelta(seconds=wait)
    assert timedelta(0) <= jitter(seed, given_) <= given_ / 10
    assert jitter(seed, given_) == jitter(seed, given_)


def test_jitter_spreads_a_herd() -> None:
    waits = {jitter(f"h@{number}#1!1", timedelta(hours=1)) for number in range(100)}
    assert len(waits) == 100
    assert max(waits) - min(waits) > timedelta(minutes=5)


def test_a_failed_attempt_is_requested_again_after_its_back_off() -> None:
    unit = after_failure(at_work(backoff=timedelta(seconds=60)), NOW, "boom")
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 2, 1)
    assert unit.not_before is not None
    assert timedelta(seconds=60) <= unit.not_before - NOW <= timedelta(seconds=66)
    assert (unit.owner, unit.lease_until, unit.progress) == (None, None, None)
    assert unit.reason == "attempt 1: boom"
    assert unit.transitions[-1].reason == "attempt 1: boom"
    assert unit == after_failure(at_work(backoff=timedelta(seconds=60)), NOW, "boom")


def test_a_worker_may_say_when_to_try_again() -> None:
    unit = after_failure(at_work(), NOW, "busy", retry_after=timedelta(hours=5))
    assert unit.not_before == NOW + timedelta(hours=5)
    assert after_failure(at_work(), NOW, "busy", retry_after=timedelta(0)).not_before == NOW


def test_after_its_last_attempt_a_unit_is_given_up_with_the_reason() -> None:
    unit = at_work()
    for attempt in (1, 2):
        unit = again(after_failure(unit, NOW, "boom"))
        assert unit.attempt == attempt + 1
    unit = after_failure(unit, NOW, "boom")
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.INVALID, 3, 3)
    assert unit.reason == "attempt 3 (the last of 3): boom"
    assert unit.finished_at == NOW
    assert unit.owner is None


EVENTS = ["fail", "lose", "back", "lose claimed", "back claimed"]


@given(st.integers(1, 8), st.lists(st.sampled_from(EVENTS)))
def test_there_are_never_more_failures_than_allowed_and_attempts_only_grow(
    allowed: int, events: list[str]
) -> None:
    unit, failures = at_work(attempts=allowed), 0
    for event in events:
        before = unit
        if event == "lose claimed":
            unit = after_lost_lease(
                unit.moved(UnitState.CLAIMED, NOW, owner="w", lease_until=NOW), NOW
            )
            assert (unit.attempt, unit.failures) == (before.attempt + 1, before.failures)
        elif event == "back claimed":
            unit = handed_back(unit.moved(UnitState.CLAIMED, NOW, owner="w"), NOW, "not started")
            assert (unit.attempt, unit.failures) == (before.attempt, before.failures)
        elif event == "back":
            unit = handed_back(unit, NOW, "stopping")
            assert (unit.attempt, unit.failures) == (before.attempt + 1, before.failures)
        else:
            unit = (
                after_failure(unit, NOW, "boom") if event == "fail" else after_lost_lease(unit, NOW)
            )
            failures += 1
        assert unit.failures == failures <= allowed
        assert (unit.state is UnitState.INVALID) == (failures == allowed)
        if unit.state is UnitState.INVALID:
            return
        unit = again(unit)


def test_handing_back_is_at_once_and_no_failure_but_fences_off_what_was_started() -> None:
    unit = handed_back(at_work(), NOW, "the worker is stopping")
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 2, 0)
    assert (unit.not_before, unit.owner, unit.lease_until) == (None, None, None)
    assert unit.reason == "the worker is stopping"


def test_handing_back_what_was_only_claimed_costs_nothing() -> None:
    unit = handed_back(at_work(UnitState.CLAIMED), NOW, "not started")
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 1, 0)


def test_losing_what_was_claimed_fences_it_off_and_is_no_failure() -> None:
    unit = after_lost_lease(at_work(UnitState.CLAIMED), NOW)
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 2, 0)
    assert (unit.not_before, unit.owner, unit.lease_until) == (None, None, None)
    assert unit.reason == ("its worker w1, which may have started it, was lost (lease ran out)")


def test_losing_what_was_started_costs_an_attempt_and_says_whose_it_was() -> None:
    unit = after_lost_lease(at_work(), NOW)
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 2, 1)
    assert unit.not_before == NOW, "nobody is waited for: the worker is gone, not the work bad"
    assert unit.reason == "attempt 1: its worker w1 was lost (lease ran out)"


def test_a_long_reason_is_cut_and_says_so() -> None:
    for unit in (
        after_failure(at_work(), NOW, "x" * 10_000),
        given_up(at_work(), NOW, "x" * 10_000),
    ):
        assert len(unit.reason) == REASON_LIMIT
        assert unit.reason.endswith("…")


def test_a_worker_may_give_up_before_its_last_attempt() -> None:
    unit = given_up(at_work(), NOW, "no such file")
    assert (unit.state, unit.reason, unit.failures) == (UnitState.INVALID, "no such file", 1)


@pytest.mark.parametrize("state", [UnitState.REQUESTED, UnitState.CLAIMED, UnitState.IN_PROGRESS])
def test_what_has_not_ended_can_be_withdrawn(state: UnitState) -> None:
    unit = canceled(at_work(state), NOW, "reopened")
    assert (unit.state, unit.reason, unit.finished_at) == (UnitState.CANCELED, "reopened", NOW)


@pytest.mark.parametrize("state", [state for state in UnitState if state.terminal])
def test_what_has_ended_stays_as_it_is(state: UnitState) -> None:
    ended = at_work(state)
    for change in (after_failure, given_up, handed_back, canceled):
        with pytest.raises(IllegalTransition):
            change(ended, NOW, "again")
    with pytest.raises(IllegalTransition):
        after_lost_lease(ended, NOW)


def test_a_lease_outlives_two_missed_renewals_and_its_margin() -> None:
    assert 2 * RENEWAL + LEASE_MARGIN < LEASE


def in_a_batch(attempts: int = 3) -> Unit:
    """At work in its first attempt, perhaps in one call with others."""
    return at_work(attempts=attempts, batch=8)


@pytest.mark.parametrize("attempts", [1, 3])
def test_an_attempt_that_may_have_been_one_call_with_others_counts_against_none(
    attempts: int,
) -> None:
    for after in (
        after_failure(in_a_batch(attempts), NOW, "boom"),
        after_lost_lease(in_a_batch(attempts), NOW),
    ):
        assert (after.state, after.attempt, after.failures) == (UnitState.REQUESTED, 2, 0)


def test_the_next_attempt_is_its_own() -> None:
    unit = in_a_batch(1)
    alone = again(after_failure(unit, NOW, "boom"))
    assert (alone.attempt, alone.failures) == (2, 0)
    after = after_failure(alone, NOW, "boom")
    assert (after.state, after.attempt, after.failures) == (UnitState.INVALID, 2, 1)
