"""The machines are complete: every state is reached, what is not listed is an error."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest

from synergy.core.states import (
    FINISHED,
    FREERUN,
    JOB_MACHINES,
    TERMINAL,
    UNIT_MACHINE,
    UNIT_TERMINAL,
    IllegalTransition,
    JobInput,
    JobState,
    UnitInput,
    UnitState,
    next_job_state,
    next_unit_state,
)

MACHINES = pytest.mark.parametrize("machine", JOB_MACHINES)
TWO_STAGED = ("continuous", "recomputing")


def reachable(table: Mapping[tuple[Any, Any], Any], start: Any) -> set[Any]:
    found = {start}
    while True:
        more = {after for (before, _), after in table.items() if before in found} - found
        if not more:
            return found
        found |= more


@MACHINES
def test_a_pair_that_is_not_listed_is_an_error_that_names_it(machine: str) -> None:
    table = JOB_MACHINES[machine]
    for state, applied in product(JobState, JobInput):
        if (state, applied) in table:
            assert next_job_state(machine, state, applied) is table[state, applied]
        else:
            with pytest.raises(IllegalTransition) as raised:
                next_job_state(machine, state, applied)
            assert str(raised.value) == (
                f"the {machine} machine cannot take {applied.value!r} in state {state.value}"
            )


def test_a_pair_that_is_not_listed_of_a_unit_is_an_error_that_names_it() -> None:
    for state, applied in product(UnitState, UnitInput):
        if (state, applied) in UNIT_MACHINE:
            assert next_unit_state(state, applied) is UNIT_MACHINE[state, applied]
        else:
            with pytest.raises(IllegalTransition, match=f"'{applied.value}' in state {state}"):
                next_unit_state(state, applied)


def test_a_machine_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(IllegalTransition):
        next_job_state("perpetual", JobState.EMBRYO, JobInput.RUN)


@MACHINES
def test_a_terminal_job_is_left_by_a_reprocess_alone_and_a_failed_one_by_a_skip(
    machine: str,
) -> None:
    """I2; to skip what has failed is how an operator resolves it."""
    left = {
        (before, applied): after
        for (before, applied), after in JOB_MACHINES[machine].items()
        if before in TERMINAL
    }
    assert left == {
        **{(state, JobInput.REOPEN): JobState.EMBRYO for state in TERMINAL},
        (JobState.FAILED, JobInput.SKIP): JobState.SKIPPED,
    }


def test_nothing_leaves_a_terminal_state_of_a_unit() -> None:
    assert {before for before, _ in UNIT_MACHINE} == set(UnitState) - UNIT_TERMINAL


@MACHINES
def test_every_state_of_a_machine_can_be_reached(machine: str) -> None:
    without = set() if machine in TWO_STAGED else {JobState.FINAL_RUN}
    assert reachable(JOB_MACHINES[machine], JobState.EMBRYO) == set(JobState) - without


def test_every_state_of_a_unit_can_be_reached() -> None:
    assert reachable(UNIT_MACHINE, UnitState.REQUESTED) == set(UnitState)


@MACHINES
def test_from_every_state_an_end_can_be_reached(machine: str) -> None:
    table = JOB_MACHINES[machine]
    for state in reachable(table, JobState.EMBRYO):
        assert reachable(table, state) & FINISHED


def test_from_every_state_of_a_unit_an_end_can_be_reached() -> None:
    for state in UnitState:
        assert reachable(UNIT_MACHINE, state) & UNIT_TERMINAL


@MACHINES
def test_every_state_that_is_no_end_can_be_skipped_and_all_can_be_reopened(machine: str) -> None:
    table = JOB_MACHINES[machine]
    for state in reachable(table, JobState.EMBRYO):
        assert table[state, JobInput.REOPEN] is JobState.EMBRYO
        if state not in FINISHED:
            assert table[state, JobInput.SKIP] is JobState.SKIPPED


@MACHINES
def test_a_result_comes_only_from_the_deciding_run(machine: str) -> None:
    deciding = JobState.FINAL_RUN if machine in TWO_STAGED else JobState.IN_PROGRESS
    inputs = {JobInput.UNIT_PROCESSED, JobInput.UNIT_NOOP, JobInput.UNIT_GIVEN_UP}
    table = JOB_MACHINES[machine]
    assert {before for before, applied in table if applied in inputs} == {deciding}


@MACHINES
def test_only_machines_that_run_over_the_open_interval_have_provisional_ends(
    machine: str,
) -> None:
    ends = {applied for _, applied in JOB_MACHINES[machine]} & {
        JobInput.PROVISIONAL_END,
        JobInput.RUN_FINAL,
    }
    assert bool(ends) == (machine in TWO_STAGED)


def test_every_input_is_taken_somewhere() -> None:
    taken = {applied for table in JOB_MACHINES.values() for _, applied in table}
    assert taken == set(JobInput)
    assert {applied for _, applied in UNIT_MACHINE} == set(UnitInput)


def test_losing_what_was_only_claimed_and_what_was_started_both_return_to_the_queue() -> None:
    for state in (UnitState.CLAIMED, UnitState.IN_PROGRESS):
        assert UNIT_MACHINE[state, UnitInput.RETURN] is UnitState.REQUESTED


def test_finished_terminal_and_at_work_tell_the_states_apart() -> None:
    assert {state for state in JobState if state.finished} == FINISHED
    assert {state for state in JobState if state.terminal} == FINISHED | {JobState.FAILED}
    assert {state for state in JobState if state.at_work} == {
        JobState.IN_PROGRESS,
        JobState.FINAL_RUN,
    }
    assert {state for state in UnitState if state.terminal} == UNIT_TERMINAL
    assert all(not (state.terminal and state.at_work) for state in JobState)


def test_the_tables_can_be_drawn() -> None:
    """Diagrams are generated from them: texts that are words, each arrow once."""
    for table in (*JOB_MACHINES.values(), UNIT_MACHINE):
        for (before, applied), after in table.items():
            for text in (before.value, applied.value, after.value):
                assert text
                assert text == text.lower()
                assert text.replace("_", " ").replace(" ", "").isalpha()
    assert set(JOB_MACHINES) == {"discrete", "continuous", "recomputing", "freerun"}
    assert JOB_MACHINES["freerun"] is FREERUN
