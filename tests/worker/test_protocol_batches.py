"""Calls for several units, at a table: what is begun together, and what becomes of each."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from synergy.core.model import Applied, Claim, Renewal, Task, Unit
from synergy.core.states import UnitInput, UnitState
from synergy.ports import Delivery
from synergy.stores.rules import taken
from synergy.worker import messages as at
from synergy.worker.holding import SlotState
from synergy.worker.offers import decided
from synergy.worker.outcomes import Outcome, Verdict, failed
from tests.worker.test_protocol import DONE, START, Table, the
from tests.worker.test_protocol_ahead import Ahead, reported
from tests.worker.test_protocol_offers import Fed, acknowledged, claims, offered

NOTHING = Outcome(Verdict.NOOP, "nothing there")


def called(table: Table, count: int = 3, **task: Any) -> list[Unit]:
    """Units that are one call in slot 0 of a new worker."""
    table.ready()
    units = [table.unit(batch=8, **task) for _ in range(count)]
    assert the(at.Run, table.tell(at.Claimed(units))) == [at.Run(0, tuple(units))]
    return units


# what is begun


def test_adjacent_units_are_one_call() -> None:
    table = Table(slots=2)
    called(table)
    assert [table.protocol.slot_state(slot) for slot in (0, 1)] == [
        SlotState.BUSY,
        SlotState.READY,
    ]


def test_units_with_a_gap_are_two_calls() -> None:
    table = Table(slots=2)
    table.ready()
    first, _, third = units = [table.unit(batch=8) for _ in range(3)]
    runs = the(at.Run, table.tell(at.Claimed([first, third])))
    assert runs == [at.Run(0, (units[0],)), at.Run(1, (units[2],))]


def test_what_has_no_slot_is_handed_back_as_started() -> None:
    """A store that lost one of them to another worker makes two calls of one."""
    table = Table()
    table.ready()
    units = [table.unit(batch=8) for _ in range(4)]
    actions = table.tell(at.Claimed([units[0], units[2], units[3]]))
    assert the(at.Run, actions) == [at.Run(0, (units[0],))]
    assert [(unit.state, unit.attempt, unit.failures) for unit in reported(actions)] == [
        (UnitState.REQUESTED, 2, 0)
    ] * 2


def test_those_of_a_claim_whose_answer_was_lost_are_one_call() -> None:
    table = Table()
    [claim] = the(at.ClaimUnits, table.ready())
    units = [table.unit(batch=8) for _ in range(3)]
    table.tell(at.Unanswered(claim, "lost"))
    table.after(1)
    assert the(at.Run, table.tell(at.Claimed(units))) == [at.Run(0, tuple(units))]


def test_a_process_with_a_batch_is_not_claimed_ahead_however_quick() -> None:
    table = Ahead()
    table.quick()
    assert table.claim().quick == frozenset({"p"})
    units = [table.unit(batch=8) for _ in range(2)]
    table.tell(at.Claimed(units))
    table.over(seconds=0.000_1)
    assert table.claim().quick == frozenset()


def test_what_was_claimed_ahead_before_there_was_a_batch_runs_by_itself() -> None:
    table = Ahead()
    table.quick()
    claimed = table.several(3, batch=8)
    actions = table.tell(at.Claimed(claimed))
    assert the(at.Run, actions) == [at.Run(0, (claimed[0],))]
    assert the(at.Run, table.over()) == [at.Run(0, (claimed[1],))]


def test_messages_of_those_that_came_along_are_acknowledged_with_the_claim() -> None:
    table = Fed()
    table.hungry()
    deliveries = [
        Delivery(replace(each.unit, task=Task(entry="m:f", batch=8)), each.tag)
        for each in map(offered, range(4))
    ]
    [claim] = claims(table.offer(*deliveries[:3]))
    assert claim.keys == (deliveries[0].unit.key,), "the store knows of the others"
    actions = table.tell(at.Claimed(table.starts(*deliveries)))
    assert {each.tag for each in acknowledged(actions)} == {(0, 0), (0, 1), (0, 2)}
    assert [len(run.units) for run in the(at.Run, actions)] == [4]
    table.offer(deliveries[3])
    [claim] = claims(table.over(seconds=1))
    assert claim.keys == (deliveries[3].unit.key,), "it is refused, and acknowledged by that"


@pytest.mark.parametrize("limit", [1, 2])
def test_of_what_is_behind_a_call_nothing_is_taken_for_refused(limit: int) -> None:
    """Those that come along with a unit say nothing of what stands between them and it."""
    asked = replace(offered(0).unit, task=Task(entry="m:f", batch=8))
    claim = Claim(owner="w", now=START, lease_until=START, limit=limit)
    call = [
        taken(replace(asked, interval=offered(hour).unit.interval), claim, UnitInput.START)
        for hour in range(4)
    ]
    others = [offered(hour, "q") for hour in range(3)]
    brought = [Delivery(call[0], (0, 0)), *others]
    assert decided(brought, claim, call) == brought[:1]
    assert decided(brought, replace(claim, limit=9), call) == brought, "it wanted more"


# how it comes out


def test_each_unit_of_a_call_is_reported_by_itself() -> None:
    table = Table()
    units = called(table)
    actions = table.tell(at.Ended(0, DONE, others=(NOTHING, Outcome(Verdict.PROCESSED, count=7))))
    [report] = the(at.Report, actions)
    assert [(w.unit.key, w.unit.state, w.unit.count) for w in report.writes] == [
        (units[0].key, UnitState.PROCESSED, 1),
        (units[1].key, UnitState.NOOP, None),
        (units[2].key, UnitState.PROCESSED, 7),
    ]
    assert [write.expected for write in report.writes] == [unit.fence for unit in units]
    table.tell(at.Reported([Applied()] * 3))
    assert table.protocol.held == []


def test_one_outcome_is_that_of_all() -> None:
    table = Table()
    called(table)
    assert {unit.count for unit in reported(table.tell(at.Ended(0, DONE)))} == {1}


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (failed("boom"), "attempt 1: boom"),
        (Outcome(Verdict.GIVE_UP, "hopeless"), "attempt 1: gave up: hopeless"),
        (Outcome(Verdict.RETRY, "later", after=timedelta(seconds=7)), "attempt 1: later"),
    ],
    ids=["failed", "gave up", "retry"],
)
def test_a_call_that_fails_counts_against_none_of_them(outcome: Outcome, reason: str) -> None:
    """Who made it fail is found by attempts alone, even where one attempt is all there is."""
    table = Table()
    called(table, max_attempts=1)
    after = reported(table.tell(at.Ended(0, outcome)))
    assert {(u.state, u.attempt, u.failures, u.reason) for u in after} == {
        (UnitState.REQUESTED, 2, 0, reason)
    }
    assert all(unit.not_before is not None for unit in after)


def test_a_slot_that_dies_counts_against_none_of_them() -> None:
    table = Table()
    called(table)
    after = reported(table.tell(at.SlotGone(0, "killed by SIGSEGV")))
    assert {(u.state, u.attempt, u.failures, u.reason) for u in after} == {
        (UnitState.REQUESTED, 2, 0, "attempt 1: its slot ended: killed by SIGSEGV")
    }


def test_what_left_something_running_has_come_out_as_it_said() -> None:
    table = Table()
    called(table, 2)
    actions = table.tell(at.SlotGone(0, "left something", DONE, (NOTHING,)))
    assert [unit.state for unit in reported(actions)] == [UnitState.PROCESSED, UnitState.NOOP]


def test_progress_is_said_of_each() -> None:
    table = Table()
    units = called(table)
    actions = table.after(2, at.Progressed(0, (1, 3, ""), 1))
    [renew] = the(at.Renew, actions)
    assert {each.key: each.progress for each in renew.renewals} == {
        units[0].key: None,
        units[1].key: (1, 3, ""),
        units[2].key: None,
    }


# what ends it before


def renewed(table: Table, seconds: float) -> tuple[Renewal, ...]:
    """What is renewed after so long."""
    [renew] = the(at.Renew, table.after(seconds))
    return renew.renewals


def test_all_are_renewed() -> None:
    table = Table()
    units = called(table)
    assert [each.key for each in renewed(table, 5)] == [unit.key for unit in units]


@pytest.mark.parametrize("lost", [0, 2])
def test_the_call_is_killed_when_one_is_lost_and_the_others_are_handed_back(lost: int) -> None:
    table = Table()
    units = called(table)
    renewed(table, 5)
    actions = table.tell(at.Renewed([place != lost for place in range(3)]))
    assert the(at.Kill, actions) == [at.Kill(0)]
    after = reported(table.tell(at.SlotGone(0, "killed")))
    assert [unit.key for unit in after] == [
        unit.key for place, unit in enumerate(units) if place != lost
    ]
    assert {(u.state, u.attempt, u.failures, u.reason) for u in after} == {
        (UnitState.REQUESTED, 2, 0, "its slot was killed")
    }
    assert table.protocol.counts.superseded == 1


def test_the_time_limit_is_that_of_the_call() -> None:
    table = Table()
    called(table, time_limit=timedelta(seconds=3), max_attempts=1)
    assert table.protocol.wake_at() <= table.time + 3
    assert len(the(at.Kill, table.after(3))) == 1
    after = reported(table.tell(at.SlotGone(0, "killed")))
    assert {(u.state, u.attempt, u.failures) for u in after} == {(UnitState.REQUESTED, 2, 0)}
    assert {unit.reason for unit in after} == {"attempt 1: time limit of 3 s exceeded"}


def test_a_call_that_takes_long_keeps_all_its_units() -> None:
    table = Table()
    units = called(table)
    table.after(0.03, at.Slow(0))
    assert len(table.protocol.held) == len(units)
    assert len(reported(table.tell(at.Ended(0, DONE)))) == len(units)


def test_a_worker_that_stops_hands_all_of_them_back() -> None:
    table = Table()
    called(table)
    actions = table.tell(at.Stop())
    assert the(at.Kill, actions) == [at.Kill(0)]
    after = reported(table.tell(at.SlotGone(0, "killed")))
    assert {(unit.state, unit.attempt) for unit in after} == {(UnitState.REQUESTED, 2)}
    assert len(after) == 3
