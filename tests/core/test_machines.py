"""What one step makes of one job."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from synergy.core import machines
from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import REQUESTS_REMEMBERED, TRANSITIONS_KEPT, Job, Task, Unit
from synergy.core.states import IllegalTransition, JobState, UnitState
from synergy.core.triggers import Every

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
INTERVAL = Calendar(Granularity.DAILY).containing(NOW)
TASK = Task(entry="w:f", arguments={"a": 1})
MACHINES = pytest.mark.parametrize("machine", ["discrete", "continuous", "recomputing"])


def job(state: JobState = JobState.EMBRYO, **changes: Any) -> Job:
    return Job(process="d", interval=INTERVAL, state=state, **changes)


def ended(begun: Job, state: UnitState, **changes: Any) -> Unit:
    return replace(machines.unit_of(begun, TASK, NOW), state=state, **changes)


def final(machine: str, of: Job, consuming: dict[str, int] | None = None) -> Job:
    return machines.dispatched(machine, of, NOW, final=True, consuming=consuming or {})


@MACHINES
def test_a_deciding_unit_has_the_key_of_its_generation(machine: str) -> None:
    begun = final(machine, job(generation=3), {"h@x": 2})
    assert begun.state is (JobState.IN_PROGRESS if machine == "discrete" else JobState.FINAL_RUN)
    assert begun.unit == "d@2026-11-20#3"
    assert begun.consuming == {"h@x": 2}
    unit = machines.unit_of(begun, TASK, NOW, 1, 9)
    assert (unit.key, unit.run, unit.low, unit.high) == ("d@2026-11-20#3", 0, 1, 9)
    assert not unit.provisional
    assert unit.task == TASK


def test_provisional_units_are_numbered_within_their_generation() -> None:
    begun = job()
    for number in (1, 2, 3):
        begun = machines.dispatched("continuous", begun, NOW, final=False, consuming={"x": 1})
        unit = machines.unit_of(begun, TASK, NOW)
        assert (unit.key, unit.run) == (f"d@2026-11-20#1.{number}", number)
        assert begun.consuming is None, "a provisional run is no consumption"
        begun = machines.after_unit(
            "continuous", "hold", begun, ended(begun, UnitState.PROCESSED), NOW, Every(60)
        )
        assert (begun.state, begun.unit) == (JobState.IN_PROGRESS, None)
        assert begun.next_run == NOW + timedelta(seconds=60)
        assert (begun.result, begun.consumed) == (0, None)


def test_what_a_discrete_process_has_begun_has_no_provisional_end() -> None:
    begun = final("discrete", job())
    ends_early = replace(machines.unit_of(begun, TASK, NOW), run=1, state=UnitState.PROCESSED)
    with pytest.raises(IllegalTransition):
        machines.after_unit("discrete", "hold", begun, ends_early, NOW, Every(60))


@MACHINES
def test_a_result_takes_over_what_was_consumed(machine: str) -> None:
    begun = final(machine, job(generation=2, result=1, forced=True), {"h@x": 2})
    done = machines.after_unit(
        machine,
        "hold",
        begun,
        ended(begun, UnitState.PROCESSED, attempt=2, fingerprint="f"),
        NOW,
        None,
    )
    assert done.state is JobState.PROCESSED
    assert (done.attempts, done.result, done.fingerprint) == (2, 2, "f")
    assert (done.consumed, done.consuming, done.forced) == ({"h@x": 2}, None, False)


@pytest.mark.parametrize(
    ("before", "state", "fingerprint", "unchanged"),
    [
        ((JobState.PROCESSED, "f"), UnitState.PROCESSED, "f", True),
        ((JobState.PROCESSED, "f"), UnitState.PROCESSED, "g", False),
        ((JobState.PROCESSED, None), UnitState.PROCESSED, None, False),
        ((JobState.PROCESSED, "f"), UnitState.PROCESSED, None, False),
        ((JobState.PROCESSED, "f"), UnitState.NOOP, None, False),
        ((JobState.NOOP, None), UnitState.NOOP, None, True),
        ((JobState.NOOP, None), UnitState.PROCESSED, "f", False),
        ((JobState.SKIPPED, None), UnitState.NOOP, None, False),
        ((None, None), UnitState.NOOP, None, False),
    ],
)
def test_a_result_is_unchanged_only_when_state_and_fingerprint_are(
    before: tuple[JobState | None, str | None],
    state: UnitState,
    fingerprint: str | None,
    unchanged: bool,
) -> None:
    stood = job(
        generation=2,
        result=1 if before[0] else 0,
        result_state=before[0],
        fingerprint=before[1],
    )
    begun = final("discrete", stood)
    done = machines.after_unit(
        "discrete", "hold", begun, ended(begun, state, fingerprint=fingerprint), NOW, None
    )
    assert done.result == (1 if unchanged else 2)


@MACHINES
@pytest.mark.parametrize("state", [UnitState.INVALID, UnitState.CANCELED])
def test_a_unit_given_up_fails_its_job_or_skips_it_as_its_process_says(
    machine: str, state: UnitState
) -> None:
    begun = final(machine, job(generation=2, result=1, result_state=JobState.PROCESSED))
    unit = ended(begun, state, attempt=3, reason="boom")
    held = machines.after_unit(machine, "hold", begun, unit, NOW, None)
    assert (held.state, held.reason, held.attempts) == (JobState.FAILED, "boom", 3)
    assert (held.result, held.result_state) == (1, JobState.PROCESSED), "the old result stands"
    given_up = machines.after_unit(machine, "skip", begun, unit, NOW, None)
    assert given_up.state is JobState.SKIPPED
    assert given_up.reason == "skipped, as its process says on failure: boom"
    assert (given_up.result, given_up.result_state) == (2, JobState.SKIPPED)


KEEPABLE: dict[str, Any] = {
    "generation": 3,
    "result": 1,
    "result_state": JobState.PROCESSED,
    "consumed": {"a": 2},
}


@pytest.mark.parametrize(
    ("changes", "results", "keeps"),
    [
        ({}, {}, True),
        ({}, {"a": 2}, True),
        ({}, {"a": 3}, False),
        ({}, {"b": 1}, True),
        ({}, {"b": 2}, False),
        ({"forced": True}, {}, False),
        ({"consumed": None}, {}, False),
        ({"result_state": JobState.NOOP}, {}, True),
        ({"result_state": JobState.SKIPPED}, {}, False),
        ({"result_state": None}, {}, False),
    ],
)
def test_a_result_is_kept_only_when_no_input_is_newer_than_what_it_consumed(
    changes: dict[str, Any], results: dict[str, int], keeps: bool
) -> None:
    reopened = job(**{**KEEPABLE, **changes})
    kept = machines.kept("discrete", reopened, {"a": 7}, results, NOW)
    assert (kept is not None) == keeps
    if kept is not None:
        assert kept.state is reopened.result_state
        assert (kept.generation, kept.result, kept.consumed) == (3, 1, {"a": 7})
        assert kept.reason == "kept: no input has changed"


@MACHINES
@pytest.mark.parametrize("state", [state for state in JobState if state.terminal])
def test_a_reprocess_opens_a_generation_of_what_has_ended(machine: str, state: JobState) -> None:
    stood = job(state, version=5, generation=2, unit="u", attempts=3, runs=4, next_run=NOW)
    opened = machines.reopened(machine, stood, "r1", NOW, target=True, hold=False, reason="why")
    assert opened is not None
    assert (opened.state, opened.generation, opened.version) == (JobState.EMBRYO, 3, 6)
    assert (opened.unit, opened.attempts, opened.runs, opened.next_run) == (None, 0, 0, None)
    assert (opened.forced, opened.requests, opened.holds) == (True, ("r1",), ())
    held = machines.reopened(machine, stood, "r1", NOW, target=False, hold=True, reason="why")
    assert held is not None
    assert (held.forced, held.holds) == (False, ("r1",))


@MACHINES
def test_the_same_request_changes_nothing_the_second_time(machine: str) -> None:
    opened = machines.reopened(
        machine, job(JobState.PROCESSED), "r", NOW, target=True, hold=True, reason=""
    )
    assert opened is not None
    for target in (True, False):
        again = machines.reopened(machine, opened, "r", NOW, target=target, hold=True, reason="")
        assert again is None


@MACHINES
def test_what_is_open_and_not_started_absorbs_further_requests(machine: str) -> None:
    opened = job(generation=2, result=1)
    absorbed = machines.reopened(machine, opened, "r2", NOW, target=True, hold=True, reason="")
    assert absorbed is not None
    assert (absorbed.generation, absorbed.forced, absorbed.holds) == (2, True, ("r2",))
    virgin = machines.reopened(machine, job(), "r2", NOW, target=True, hold=False, reason="")
    assert virgin is not None
    assert not virgin.forced, "it will run anyway"
    assert machines.reopened(machine, job(), "r", NOW, target=False, hold=False, reason="") is None


def test_a_provisional_run_is_not_fenced_by_a_wave_but_by_its_own_name() -> None:
    begun = machines.dispatched("continuous", job(), NOW, final=False, consuming={})
    wave = machines.reopened("continuous", begun, "r", NOW, target=False, hold=True, reason="")
    assert wave is not None
    assert (wave.state, wave.generation, wave.unit) == (JobState.IN_PROGRESS, 1, begun.unit)
    named = machines.reopened("continuous", begun, "r", NOW, target=True, hold=False, reason="")
    assert named is not None
    assert (named.state, named.generation, named.unit) == (JobState.EMBRYO, 2, None)


@MACHINES
def test_a_deciding_run_is_fenced_by_a_wave(machine: str) -> None:
    begun = final(machine, job())
    wave = machines.reopened(machine, begun, "r", NOW, target=False, hold=True, reason="")
    assert wave is not None
    assert (wave.state, wave.generation, wave.unit) == (JobState.EMBRYO, 2, None)


def test_a_hold_is_released_once_and_no_other_with_it() -> None:
    held = job(holds=("r1", "r2"), reason="why")
    released = machines.released(held, "r1", NOW)
    assert released is not None
    assert (released.holds, released.reason) == (("r2",), "why")
    assert machines.released(released, "r1", NOW) is None


@pytest.mark.parametrize("state", [JobState.PROCESSED, JobState.NOOP, JobState.SKIPPED])
def test_what_is_finished_cannot_be_skipped(state: JobState) -> None:
    with pytest.raises(IllegalTransition):
        machines.skipped("discrete", job(state), NOW, "why")


def test_a_skip_is_a_change_of_result() -> None:
    skipped = machines.skipped(
        "discrete",
        job(JobState.FAILED, generation=4, result=1, fingerprint="f", consumed={}, forced=True),
        NOW,
        "why",
        "r1",
    )
    assert (skipped.result, skipped.result_state) == (4, JobState.SKIPPED)
    assert (skipped.fingerprint, skipped.consumed, skipped.forced) == (None, None, False)
    assert (skipped.requests, skipped.reason) == (("r1",), "why")


def test_a_job_remembers_its_last_requests_and_transitions_and_no_more() -> None:
    stood = job(JobState.PROCESSED)
    for number in range(40):
        opened = machines.reopened(
            "discrete", stood, f"r{number}", NOW, target=True, hold=False, reason=""
        )
        assert opened is not None
        stood = machines.skipped("discrete", opened, NOW, "")
    assert stood.requests == tuple(f"r{n}" for n in range(40 - REQUESTS_REMEMBERED, 40))
    assert len(stood.transitions) == TRANSITIONS_KEPT
    assert [each.version for each in stood.transitions] == [*range(65, 81)]
    assert stood.version == 80
    assert stood.generation == 41


def test_a_job_is_stale_while_a_result_waits_to_be_made_anew() -> None:
    assert job(JobState.EMBRYO, result=1).stale
    assert job(JobState.FAILED, result=1).stale
    assert not job(JobState.EMBRYO).stale
    assert not job(JobState.PROCESSED, result=1).stale


@pytest.mark.parametrize("state", [JobState.PROCESSED, JobState.NOOP])
def test_a_finished_job_may_be_marked_stale_and_its_result_stands(state: JobState) -> None:
    done = job(state, version=3, result=1, result_state=state, fingerprint="f", consumed={})
    marked = machines.marked(done, NOW, "late data", request="r1")
    assert marked is not None
    assert (marked.state, marked.version, marked.generation) == (state, 4, 1)
    assert (marked.outdated, marked.stale, marked.forced) == (True, True, False)
    assert (marked.result, marked.fingerprint, marked.consumed) == (1, "f", {})
    assert marked.reason == marked.transitions[-1].reason == "late data"
    assert marked.transitions[-1].outdated
    assert marked.standing.outdated
    assert machines.marked(marked, NOW, "again", request="r2") is None, "it says as much already"


@pytest.mark.parametrize("state", sorted({*JobState} - {JobState.PROCESSED, JobState.NOOP}))
def test_what_has_no_result_is_not_marked(state: JobState) -> None:
    assert machines.marked(job(state, result=1), NOW, "late", own=True) is None


def test_a_mark_is_obeyed_once() -> None:
    assert machines.marked(job(JobState.PROCESSED, requests=("r1",)), NOW, "", request="r1") is None


def test_what_is_reopened_has_no_mark() -> None:
    done = job(JobState.PROCESSED, result=1, result_state=JobState.PROCESSED, consumed={})
    marked = machines.marked(done, NOW, "an input")
    assert marked is not None
    opened = machines.reopened("discrete", marked, "r1", NOW, target=False, hold=True, reason="")
    assert opened is not None
    assert (opened.outdated, opened.forced, opened.stale) == (False, False, True)
    assert not opened.transitions[-1].outdated
    assert machines.kept("discrete", opened, {}, {}, NOW) is not None


def test_what_was_marked_for_its_own_data_runs_although_its_inputs_are_as_they_were() -> None:
    done = job(JobState.PROCESSED, result=1, result_state=JobState.PROCESSED, consumed={})
    first = machines.marked(done, NOW, "an input")
    assert first is not None
    own = machines.marked(first, NOW, "late data", own=True)
    assert own is not None, "the mark says more now"
    opened = machines.reopened("discrete", own, "r1", NOW, target=False, hold=False, reason="")
    assert opened is not None
    assert (opened.outdated, opened.forced) == (False, True)
    assert machines.kept("discrete", opened, {}, {}, NOW) is None


@MACHINES
def test_what_ends_on_a_marked_input_is_marked_at_once(machine: str) -> None:
    begun = final(machine, job())
    unit = ended(begun, UnitState.PROCESSED)
    done = machines.after_unit(machine, "hold", begun, unit, NOW, None, outdated=True)
    assert (done.state, done.outdated, done.reason) == (
        JobState.PROCESSED,
        True,
        machines.BUILT_ON_STALE,
    )
    for failed in ("hold", "skip"):
        given_up = machines.after_unit(
            machine, failed, begun, ended(begun, UnitState.INVALID), NOW, None, outdated=True
        )
        assert not given_up.outdated


@MACHINES
def test_who_was_named_stays_forced_until_it_has_succeeded(machine: str) -> None:
    failed = job(JobState.FAILED, generation=2, result=1, forced=True)
    opened = machines.reopened(machine, failed, "r", NOW, target=False, hold=True, reason="")
    assert opened is not None
    assert opened.forced, "kept, it would stand with the result of before it was named"
    begun = final(machine, replace(opened, holds=()))
    fenced = machines.reopened(machine, begun, "s", NOW, target=False, hold=True, reason="")
    assert fenced is not None
    assert fenced.forced
    done = machines.after_unit(machine, "hold", begun, ended(begun, UnitState.PROCESSED), NOW, None)
    assert not done.forced


def stood(state: JobState = JobState.PROCESSED, **changes: Any) -> Job:
    result_state = state if state.finished else JobState.PROCESSED
    known: dict[str, Any] = {
        "generation": 3, "result": 2, "result_state": result_state, "consumed": {"a": 2},
        "attempts": 2, "fingerprint": "f",
    }  # fmt: skip
    return job(state, **{**known, **changes})


def opened(before: Job, request: str = "r", *, target: bool = True) -> Job:
    job = machines.reopened("discrete", before, request, NOW, target=target, hold=True, reason="")
    assert job is not None
    job_released = machines.released(job, request, NOW)
    assert job_released is not None
    return job_released


@pytest.mark.parametrize("state", [state for state in JobState if state.terminal])
@pytest.mark.parametrize("outdated", [False, True])
def test_what_was_reopened_may_be_closed_again_as_it_stood(state: JobState, outdated: bool) -> None:
    before = stood(state, outdated=outdated)
    reopened = opened(before)
    assert reopened.reopened_from == before.standing
    back = machines.taken_back("discrete", reopened, "w", {"a": 5}, {"a": 2}, NOW, "why")
    assert back is not None
    assert (back.state, back.generation) == (state, 4), "numbers are never given twice"
    assert (back.result, back.result_state, back.fingerprint, back.outdated) == (
        before.result, before.result_state, before.fingerprint, outdated,
    )  # fmt: skip
    renewed = state in (JobState.PROCESSED, JobState.NOOP)
    assert back.consumed == ({"a": 5} if renewed else before.consumed)
    assert (back.attempts, back.unit, back.reopened_from) == (0, None, None)
    assert back.requests == ("r", "w")
    assert back.forced == (outdated or state is JobState.FAILED)


@pytest.mark.parametrize("results", [{"a": 3}, {"b": 2}])
def test_what_was_made_from_older_inputs_is_not_closed_again(results: dict[str, int]) -> None:
    reopened = opened(stood())
    assert machines.taken_back("discrete", reopened, "w", results, results, NOW, "") is None


def test_nobody_knows_how_it_stood_what_others_want_too_or_was_at_work() -> None:
    joined = machines.reopened(
        "discrete", opened(stood()), "s", NOW, target=False, hold=True, reason=""
    )
    fenced = opened(final("discrete", job(result=1, result_state=JobState.PROCESSED, consumed={})))
    begun = final("discrete", opened(stood()))
    assert joined is not None
    for one in (joined, machines.released(joined, "s", NOW), fenced, begun, job()):
        assert one is not None
        assert machines.taken_back("discrete", one, "w", {}, {}, NOW, "") is None
