"""Claiming ahead, at a table: what is claimed, given, marked, reported and handed back when."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from synergy.core.model import Applied, Claim, Refused, Unit
from synergy.core.recovery import canceled
from synergy.core.states import UnitInput, UnitState
from synergy.stores.rules import taken
from synergy.worker import messages as at
from synergy.worker.messages import Action
from synergy.worker.outcomes import Outcome, Verdict, failed
from synergy.worker.pace import HANDFUL_UNITS, WINDOW_UNITS, Pace
from synergy.worker.protocol import LINGER, MARK, TURN
from tests.worker.test_protocol import DONE, START, Table, the


class Ahead(Table):
    """A table at which units may be claimed ahead."""

    def claim(self) -> Claim:
        """The claim that was made last."""
        return the(at.ClaimUnits, self.actions)[-1].claim

    def several(self, ahead: int, started: int = 0, **task: Any) -> list[Unit]:
        """What the store answers to the claim that was made last."""
        found = []
        for number in range(started + ahead):
            asked = replace(
                self.unit(**task), state=UnitState.REQUESTED, version=1, owner=None, started_at=None
            )
            applied = UnitInput.START if number < started else UnitInput.CLAIM
            found.append(taken(asked, self.claim(), applied))
        return found

    def quick(self) -> None:
        """A process of which the worker knows that it is quick; its slots are free."""
        self.ready()
        for _ in range(20):
            self.tell(at.Claimed([self.unit()]))
            self.over(seconds=0.000_1)
            self.tell(at.NextDue(None), at.Reported([Applied()]), at.Rang())

    def pool(self, count: int, **task: Any) -> list[Unit]:
        """Units that were claimed ahead, one of them started; the slots have what they can take."""
        self.quick()
        units = self.several(count, started=1, **task)
        self.tell(at.Claimed(units))
        return units

    def over(self, outcome: Outcome = DONE, slot: int = 0, seconds: float = 0.001) -> list[Action]:
        """The slot's unit is over, after so long."""
        self.time += seconds
        return self.tell(at.Ended(slot, outcome, self.time - seconds, self.time))


def reported(actions: Sequence[Action]) -> list[Unit]:
    """All that is reported."""
    return [write.unit for report in the(at.Report, actions) for write in report.writes]


def given(actions: Sequence[Action]) -> list[str]:
    """The keys of all that is run."""
    return [unit.key for run in the(at.Run, actions) for unit in run.units]


# what is claimed


def test_the_first_unit_of_a_process_is_claimed_alone_and_quick_ones_by_the_window() -> None:
    table = Ahead()
    table.ready()
    assert (table.claim().limit, table.claim().ahead, table.claim().quick) == (1, 0, frozenset())
    table.tell(at.Claimed([table.unit()]))
    table.over(seconds=0.000_1)
    assert (table.claim().limit, table.claim().quick) == (1, frozenset({"p"}))
    assert 10 < table.claim().ahead <= WINDOW_UNITS


def test_a_process_that_takes_long_is_claimed_singly() -> None:
    table = Ahead()
    table.ready()
    for _ in range(5):
        table.tell(at.Claimed([table.unit()]))
        table.over(seconds=0.006)
    assert (table.claim().limit, table.claim().ahead) == (1, 0)


def test_without_leave_nothing_is_claimed_ahead() -> None:
    table = Ahead(ahead=False)
    table.quick()
    assert (table.claim().limit, table.claim().ahead) == (1, 0)


def test_a_command_says_nothing_about_its_process() -> None:
    table = Ahead()
    table.ready()
    table.tell(at.Claimed([table.unit(command=("true",))]))
    table.over()
    assert table.claim().quick == frozenset()


def test_the_pace_follows_what_units_take() -> None:
    pace = Pace()
    assert pace.window() == 0
    pace.note("p", 0.001)
    first = pace.window()
    for _ in range(50):
        pace.note("p", 0.001)
    assert first < pace.window() in (49, 50)
    assert pace.handful() in (24, 25)
    for _ in range(50):
        pace.note("p", 0.000_01)
    assert (pace.window(), pace.handful()) == (WINDOW_UNITS, HANDFUL_UNITS)
    pace.note("p", 1.0)
    assert pace.quick == frozenset()
    while not pace.quick:
        pace.note("p", 0.001)
    pace.forget("p")
    assert pace.quick == frozenset()


def test_the_next_window_is_claimed_while_the_slot_works_on_the_last() -> None:
    table = Ahead()
    table.quick()
    table.tell(at.Claimed(table.several(table.claim().ahead, started=1)))
    claims = len(the(at.ClaimUnits, table.actions))
    while len(the(at.ClaimUnits, table.actions)) == claims:
        table.over(seconds=0.000_5)
        assert table.protocol.held, "the slot never waits"
    assert table.claim().limit == 0
    assert table.claim().ahead > 0


def test_a_window_that_was_not_filled_is_not_claimed_again_before_the_bell_rings() -> None:
    table = Ahead()
    table.pool(5)
    claims = len(the(at.ClaimUnits, table.actions))
    table.over()
    table.over()
    assert len(the(at.ClaimUnits, table.actions)) == claims
    table.tell(at.Rang())
    assert len(the(at.ClaimUnits, table.actions)) == claims + 1
    assert table.claim().limit == 0


def test_quick_units_do_not_go_before_others_for_ever() -> None:
    table = Ahead()
    table.pool(3)
    table.time += TURN
    table.tell(at.Rang())
    claims = len(the(at.ClaimUnits, table.actions))
    for _ in range(4):
        table.over(seconds=0)
    assert len(the(at.ClaimUnits, table.actions)) == claims + 1
    assert table.claim().limit == 1


# what is run


def test_units_are_given_to_the_slot_in_their_order_and_several_at_once() -> None:
    table = Ahead()
    units = table.pool(9)
    assert given(table.actions)[-10:] == [unit.key for unit in units]
    assert len(the(at.Run, table.actions)[-1].units) == 9


def test_units_are_divided_among_the_slots() -> None:
    table = Ahead(slots=2)
    table.quick()
    table.tell(at.Claimed(table.several(10, started=2)))
    assert [len(run.units) for run in the(at.Run, table.actions)[-2:]] == [5, 5]


def test_a_command_that_was_claimed_ahead_is_run_alone() -> None:
    table = Ahead()
    table.quick()
    units = [*table.several(2, started=1), *table.several(2, command=("true",))]
    table.tell(at.Claimed(units))
    for _ in units:
        table.over(seconds=0)
    runs = [run for run in the(at.Run, table.actions) if run.units[0].task.command]
    assert [len(run.units) for run in runs] == [1, 1]


def test_what_was_taken_back_is_run_by_another_slot() -> None:
    table = Ahead(slots=2)
    table.quick()
    units = table.several(4, started=2)
    table.tell(at.Claimed(units))
    assert given(table.tell(at.Slow(0))) == [units[2].key, units[3].key]


def test_what_cannot_be_started_soon_is_handed_back_unharmed() -> None:
    table = Ahead()
    units = table.pool(3)
    assert given(table.after(0.02, at.Slow(0))) == []
    assert reported(table.after(LINGER - 0.03)) == []
    table.protocol.wake_at()
    back = reported(table.after(0.02))
    assert [unit.key for unit in back] == [unit.key for unit in units[1:]]
    assert {(unit.state, unit.attempt, unit.failures) for unit in back} == {
        (UnitState.REQUESTED, 1, 0)
    }
    assert at.Ring("worker") in table.tell(at.Reported([Applied()] * 3))


def test_a_stopping_worker_hands_back_what_its_slots_were_not_given() -> None:
    table = Ahead(grace=timedelta(seconds=20))
    table.pool(3)
    table.tell(at.Slow(0))
    back = reported(table.tell(at.Stop()))
    assert [unit.state for unit in back] == [UnitState.REQUESTED] * 3


# what is reported


def test_a_unit_claimed_ahead_is_reported_with_its_start_and_its_end() -> None:
    table = Ahead()
    units = table.pool(2)
    table.over()
    table.tell(at.Reported([Applied()]))
    table.time += 0.004
    ended = table.time - 0.001
    [report] = the(at.Report, table.tell(at.Ended(0, DONE, ended - 0.002, ended)))
    [write] = report.writes
    assert write.expected == units[1].fence
    assert write.unit.state is UnitState.PROCESSED
    assert [each.after for each in write.unit.transitions] == [
        "claimed",
        "in_progress",
        "processed",
    ]
    began, over = (START + timedelta(seconds=each) for each in (ended - 0.002, ended))
    assert abs(write.unit.transitions[-2].at - began) < timedelta(microseconds=2)
    assert abs(write.unit.transitions[-1].at - over) < timedelta(microseconds=2)
    assert write.unit.started_at == write.unit.transitions[-2].at


def test_no_start_is_told_to_be_before_the_claim() -> None:
    table = Ahead()
    units = table.pool(1)
    table.over()
    table.tell(at.Reported([Applied()]))
    [unit] = reported(table.tell(at.Ended(0, DONE, table.time - 50, table.time)))
    assert unit.started_at == units[1].transitions[-1].at


def test_a_failure_of_a_unit_claimed_ahead_counts() -> None:
    table = Ahead()
    table.pool(1)
    table.over()
    table.tell(at.Reported([Applied()]))
    [unit] = reported(table.over(failed("KeyError: 'x'")))
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 2, 1)


def test_only_the_unit_at_which_a_slot_died_is_failed() -> None:
    table = Ahead()
    units = table.pool(3)
    table.over()
    table.tell(at.Reported([Applied()]))
    [unit] = reported(table.tell(at.SlotGone(0, "killed by SIGSEGV")))
    assert (unit.key, unit.failures) == (units[1].key, 1)
    assert given(table.tell(at.SlotReady(0))) == [units[2].key, units[3].key]
    assert table.claim().quick == frozenset({"p"}), "it was claimed before"


# what runs long


def marked(table: Ahead) -> at.Report:
    """A unit that was claimed ahead runs in slot 0 and is just being marked."""
    table.pool(1)
    table.over()
    table.tell(at.Reported([Applied()]))
    assert reported(table.after(MARK - 0.01, at.Slow(0))) == []
    assert table.protocol.wake_at() == pytest.approx(table.time + 0.01)
    [report] = the(at.Report, table.after(0.01))
    return report


def test_what_runs_longer_than_a_moment_is_marked_as_started() -> None:
    table = Ahead()
    [write] = marked(table).writes
    assert write.expected is not None
    assert (write.expected.state, write.unit.state) == (UnitState.CLAIMED, UnitState.IN_PROGRESS)
    assert write.unit.started_at == START + timedelta(seconds=table.time - MARK)
    assert at.Ring("scheduler") not in table.tell(at.Reported([Applied()]))
    assert reported(table.after(1)) == []
    [report] = the(at.Report, table.tell(at.Ended(0, DONE)))
    assert report.writes[0].expected == write.unit.fence
    assert len(report.writes[0].unit.transitions) == 3


@pytest.mark.parametrize("over_before", [False, True])
def test_a_mark_that_was_applied_without_an_answer_is_found_out(over_before: bool) -> None:
    table = Ahead()
    report = marked(table)
    stands = report.writes[0].unit
    table.tell(at.Unanswered(report, "the answer was lost"))
    if over_before:
        table.tell(at.Ended(0, DONE))
    [again] = the(at.Report, table.after(0.3))
    assert again.writes[0].expected == report.writes[0].expected
    actions = table.tell(at.Reported([Refused(stands)]))
    if not over_before:
        actions = table.tell(at.Ended(0, DONE))
    [last] = the(at.Report, actions)
    assert last.writes[0].expected == stands.fence
    assert last.writes[0].unit.version == stands.version + 1
    table.tell(at.Reported([Applied()]))
    assert (table.protocol.counts.applied, table.protocol.counts.superseded) == (22, 0)
    assert table.protocol.held == []


def test_a_unit_that_ends_while_its_mark_is_out_is_reported_as_it_stands_then() -> None:
    table = Ahead()
    [write] = marked(table).writes
    assert reported(table.tell(at.Ended(0, DONE))) == []
    [report] = the(at.Report, table.tell(at.Reported([Applied()])))
    assert report.writes[0].expected == write.unit.fence


def test_a_refused_mark_means_that_the_unit_is_lost() -> None:
    table = Ahead()
    [write] = marked(table).writes
    gone = canceled(write.unit, START, "reopened")
    assert the(at.Kill, table.tell(at.Reported([Refused(gone)]))) == [at.Kill(0)]
    assert reported(table.tell(at.SlotGone(0, "killed"))) == []
    assert table.protocol.counts.superseded == 1


# what is killed


def test_a_unit_among_others_is_killed_only_when_it_runs_for_certain() -> None:
    table = Ahead()
    table.pool(3, time_limit=timedelta(seconds=1))
    assert the(at.Kill, table.after(1.5)) == []
    assert the(at.Kill, table.tell(at.Slow(0))) == [at.Kill(0)]


def test_a_unit_that_may_have_been_started_when_its_slot_was_killed_is_numbered_on() -> None:
    table = Ahead()
    units = table.pool(3)
    table.tell(at.Stop())
    assert the(at.Kill, table.actions) == [at.Kill(0)]
    gone = table.tell(at.Ended(0, DONE), at.SlotGone(0, "killed"))
    first, second, *others = reported(gone)
    assert first.key == units[0].key
    assert (second.state, second.attempt, second.failures) == (UnitState.REQUESTED, 2, 0)
    assert [(unit.state, unit.attempt) for unit in others] == [(UnitState.REQUESTED, 1)] * 2


def test_a_canceled_unit_in_the_pool_is_dropped_without_a_run() -> None:
    table = Ahead(renewal=timedelta(seconds=0.1))
    units = table.pool(3)
    table.tell(at.Slow(0))
    [renew] = the(at.Renew, table.after(0.1))
    table.tell(at.Renewed([renewal.key != units[2].key for renewal in renew.renewals]))
    assert given(table.tell(at.Ended(0, DONE))) == [units[1].key, units[3].key]
    assert table.protocol.counts.superseded == 1


def test_a_hand_back_is_not_counted_as_an_attempt() -> None:
    table = Ahead()
    table.pool(3)
    table.tell(at.Slow(0))
    table.after(LINGER)
    assert Verdict.HANDED_BACK.value not in table.protocol.counts.ended


def test_what_was_lost_in_a_slots_queue_is_not_renewed_again_and_again() -> None:
    """It cannot be killed before it is known to run: until then its refused lease is let be."""
    table = Ahead()
    units = table.pool(3)
    [renew] = the(at.Renew, table.after(5.0))
    answers = [renewal.key != units[1].key for renewal in renew.renewals]
    assert answers.count(False) == 1
    assert the(at.Renew, table.tell(at.Renewed(answers))) == []
    assert the(at.Renew, table.after(0.001)) == []
    [again] = the(at.Renew, table.after(5.0))
    assert units[1].key not in [renewal.key for renewal in again.renewals]
