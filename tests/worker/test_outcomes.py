"""What becomes of a unit, by how its attempt ended: the whole table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Task, Unit
from synergy.core.states import IllegalTransition, UnitState
from synergy.worker.outcomes import (
    Outcome,
    Verdict,
    exit_reason,
    failed,
    limit_reason,
    of_answer,
    of_exit,
    unit_after,
)

NOW = datetime(2026, 11, 20, 17, tzinfo=UTC)
RUNNING = Unit(
    process="site_hourly",
    interval=Calendar(Granularity.HOURLY).parse("2026-11-20T16"),
    generation=1,
    task=Task(entry="workers.site:count", max_attempts=3, backoff=timedelta(seconds=10)),
    created_at=NOW,
    state=UnitState.IN_PROGRESS,
    version=2,
    owner="w/1",
    lease_until=NOW + timedelta(seconds=15),
    started_at=NOW,
)
LAST = replace(RUNNING, attempt=3, failures=2)
TABLE = [
    (RUNNING, Outcome(Verdict.PROCESSED), UnitState.PROCESSED, 1),
    (RUNNING, Outcome(Verdict.NOOP, "quiet"), UnitState.NOOP, 1),
    (RUNNING, Outcome(Verdict.RETRY), UnitState.REQUESTED, 2),
    (RUNNING, Outcome(Verdict.GIVE_UP, "no such site"), UnitState.INVALID, 1),
    (RUNNING, failed("exit code 3"), UnitState.REQUESTED, 2),
    (RUNNING, Outcome(Verdict.HANDED_BACK, "stopped"), UnitState.REQUESTED, 2),
    (LAST, Outcome(Verdict.PROCESSED), UnitState.PROCESSED, 3),
    (LAST, Outcome(Verdict.NOOP), UnitState.NOOP, 3),
    (LAST, Outcome(Verdict.RETRY), UnitState.INVALID, 3),
    (LAST, Outcome(Verdict.GIVE_UP), UnitState.INVALID, 3),
    (LAST, failed("exit code 3"), UnitState.INVALID, 3),
    (LAST, Outcome(Verdict.HANDED_BACK, "stopped"), UnitState.REQUESTED, 4),
]


@pytest.mark.parametrize("run", [0, 2])
@pytest.mark.parametrize(("unit", "outcome", "state", "attempt"), TABLE)
def test_every_outcome_of_every_attempt(
    unit: Unit, outcome: Outcome, state: UnitState, attempt: int, run: int
) -> None:
    after = unit_after(replace(unit, run=run), outcome, NOW)
    assert (after.state, after.attempt, after.run) == (state, attempt, run)
    assert after.version == unit.version + 1
    assert after.lease_until is None
    assert after.transitions[-1].after == state.value
    assert outcome.reason in after.reason


@pytest.mark.parametrize("state", [s for s in UnitState if s is not UnitState.IN_PROGRESS])
@pytest.mark.parametrize("verdict", [Verdict.PROCESSED, Verdict.NOOP, Verdict.GIVE_UP])
def test_only_a_running_attempt_ends(state: UnitState, verdict: Verdict) -> None:
    with pytest.raises(IllegalTransition):
        unit_after(replace(RUNNING, state=state), Outcome(verdict), NOW)


def test_a_result_is_kept_whole() -> None:
    after = unit_after(RUNNING, Outcome(Verdict.PROCESSED, "", 7, "abc"), NOW, (7.0, 7.0, ""))
    assert (after.count, after.fingerprint, after.finished_at) == (7, "abc", NOW)
    assert after.progress == (7.0, 7.0, "")


def test_a_retry_waits_as_long_as_the_worker_says() -> None:
    outcome = Outcome(Verdict.RETRY, "no data", after=timedelta(minutes=7))
    assert unit_after(RUNNING, outcome, NOW).not_before == NOW + timedelta(minutes=7)


def test_a_failure_waits_for_the_back_off_and_a_hand_back_does_not() -> None:
    first = unit_after(RUNNING, failed("boom"), NOW)
    assert timedelta(seconds=10) <= (first.not_before or NOW) - NOW <= timedelta(seconds=11)
    back = unit_after(RUNNING, Outcome(Verdict.HANDED_BACK, "stopped"), NOW)
    assert (back.not_before, back.failures) == (None, 0)


def test_nothing_is_written_of_a_superseded_attempt() -> None:
    with pytest.raises(ValueError, match="superseded"):
        unit_after(RUNNING, Outcome(Verdict.SUPERSEDED), NOW)


@pytest.mark.parametrize(
    ("code", "noop_codes", "verdict", "reason"),
    [
        (0, (), Verdict.PROCESSED, ""),
        (0, (0,), Verdict.NOOP, ""),
        (4, (3, 4), Verdict.NOOP, "exit code 4"),
        (1, (), Verdict.FAILED, "exit code 1"),
        (2, (3,), Verdict.FAILED, "exit code 2"),
        (126, (), Verdict.FAILED, "exit code 126"),
        (127, (), Verdict.FAILED, "exit code 127"),
        (255, (), Verdict.FAILED, "exit code 255"),
        (-11, (), Verdict.FAILED, "killed by SIGSEGV"),
        (-9, (), Verdict.FAILED, "killed by SIGKILL (not by synergy; out of memory?)"),
        (-250, (), Verdict.FAILED, "killed by signal 250"),
    ],
)
def test_exit_codes(code: int, noop_codes: tuple[int, ...], verdict: Verdict, reason: str) -> None:
    outcome = of_exit(code, noop_codes)
    assert (outcome.verdict, outcome.reason) == (verdict, reason)


def test_the_words_for_an_end() -> None:
    assert exit_reason(3) == "exit code 3"
    assert limit_reason(timedelta(seconds=30)) == "time limit of 30 s exceeded"
    assert limit_reason(timedelta(seconds=0.5)) == "time limit of 0.5 s exceeded"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"verdict": None},
        {"verdict": "fine"},
        {"verdict": "superseded"},
        {"verdict": "handed back"},
        {"verdict": "processed", "count": "many"},
        {"verdict": "retry", "after": []},
        {"verdict": "retry", "after": 1e300},
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(answer: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        of_answer(answer)
