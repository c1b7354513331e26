"""The worker's machine, without a worker: events in, actions out, time handed in."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Applied, Refused, Task, Unit
from synergy.core.recovery import after_lost_lease, canceled
from synergy.core.states import UnitState
from synergy.worker import messages as at
from synergy.worker.holding import SlotState
from synergy.worker.messages import Action, Event
from synergy.worker.outcomes import Outcome, Verdict, failed, unit_after
from synergy.worker.protocol import PATIENCE, WorkerProtocol

START = datetime(2026, 11, 20, 17, tzinfo=UTC)
HOURS = Calendar(Granularity.HOURLY)
FIRST = HOURS.parse("2026-11-19T00")
DONE = Outcome(Verdict.PROCESSED, count=1)
A = TypeVar("A")
#: What the store is asked.
STORE = (at.ClaimUnits, at.FindClaimed, at.LookAhead, at.Renew, at.Report)


class Table:
    """A worker's protocol at a table: you are its shell, its store and its clock."""

    def __init__(self, slots: int = 1, **options: Any) -> None:
        self.protocol = WorkerProtocol("w", slots, **options)
        self.time = 100.0
        self.actions: list[Action] = []
        self._hour = 0

    def tell(self, *events: Event) -> list[Action]:
        """Tell it; everything it says is kept in `actions` too."""
        now = START + timedelta(seconds=self.time)
        actions = self.protocol.handle(events, now, self.time)
        self.actions += actions
        return actions

    def after(self, seconds: float, *events: Event) -> list[Action]:
        """Let time pass, then tell it."""
        self.time += seconds
        return self.tell(*events)

    def silence(self, seconds: float, renewed: bool | None = None) -> list[Action]:
        """Let time pass while the store answers nothing, or nothing but renewals."""
        begin, end = len(self.actions), self.time + seconds
        while self.time < end - 1e-9:
            asked = self.after(0.05)
            while events := [self._silent(a, renewed) for a in asked if isinstance(a, STORE)]:
                asked = self.tell(*events)
        return self.actions[begin:]

    def _silent(self, asked: Any, renewed: bool | None) -> Event:
        if isinstance(asked, at.Renew) and renewed is not None:
            return at.Renewed([renewed] * len(asked.renewals))
        return at.Unanswered(asked, "disk full")

    def ready(self) -> list[Action]:
        """All slots start."""
        self.tell()
        return self.tell(*(at.SlotReady(a.slot) for a in the(at.StartSlot, self.actions)))

    def unit(self, **task: Any) -> Unit:
        """A unit as the store's claim would return it, of the claim that was made last."""
        claim = the(at.ClaimUnits, self.actions)[-1].claim
        interval = HOURS.shift(FIRST, self._hour)
        self._hour += 1
        return Unit(
            process="p",
            interval=interval,
            generation=1,
            task=Task(entry="m:f", **task),
            created_at=START,
            state=UnitState.IN_PROGRESS,
            version=2,
            owner=claim.owner,
            lease_until=claim.lease_until,
            started_at=claim.now,
        )

    def running(self, **task: Any) -> Unit:
        """A unit that runs in slot 0 of a new worker."""
        self.ready()
        unit = self.unit(**task)
        actions = self.tell(at.Claimed([unit]))
        assert the(at.Run, actions) == [at.Run(0, (unit,))]
        return unit


def the(kind: type[A], actions: Sequence[object]) -> list[A]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def written(actions: Sequence[Action]) -> Unit:
    """The one unit that is reported."""
    [report] = the(at.Report, actions)
    [write] = report.writes
    return write.unit


# claims


def test_nothing_is_claimed_before_a_slot_is_ready() -> None:
    table = Table(slots=2)
    actions = table.tell()
    assert actions == [at.StartSlot(0), at.StartSlot(1)]
    [claim] = the(at.ClaimUnits, table.tell(at.SlotReady(1)))
    assert claim.claim.limit == 1


def test_as_many_are_claimed_as_slots_are_free() -> None:
    table = Table(slots=3, processes=["p"])
    [claim] = the(at.ClaimUnits, table.ready())
    assert (claim.claim.limit, claim.claim.processes) == (3, frozenset({"p"}))
    assert claim.claim.lease_until == claim.claim.now + timedelta(seconds=15)
    table.tell(at.Claimed([table.unit(), table.unit()]))
    assert [table.protocol.slot_state(n) for n in range(3)] == [
        SlotState.BUSY,
        SlotState.BUSY,
        SlotState.READY,
    ]


def test_every_claim_has_a_token_of_its_own() -> None:
    table = Table()
    table.ready()
    table.tell(at.Claimed([]))
    table.tell(at.NextDue(None))
    table.after(5)
    first, second = the(at.ClaimUnits, table.actions)
    assert first.claim.owner != second.claim.owner


def test_the_next_unit_is_claimed_with_the_report_of_the_last() -> None:
    table = Table()
    table.running()
    actions = table.tell(at.Ended(0, DONE))
    assert [type(a) for a in actions if not isinstance(a, at.Say)] == [at.Report, at.ClaimUnits]


@pytest.mark.parametrize(
    ("due", "wait"),
    [(None, 1.0), (-5.0, 0.25), (0.0, 0.25), (0.6, 0.6), (3600.0, 1.0)],
)
def test_an_idle_worker_looks_again(due: float | None, wait: float) -> None:
    table = Table()
    table.ready()
    assert the(at.LookAhead, table.tell(at.Claimed([]))) == [at.LookAhead()]
    now = START + timedelta(seconds=table.time)
    table.tell(at.NextDue(None if due is None else now + timedelta(seconds=due)))
    assert table.protocol.wake_at() == pytest.approx(table.time + wait)
    assert table.after(wait - 0.01) == []
    assert the(at.ClaimUnits, table.after(0.02))


def test_the_bell_is_answered_at_once() -> None:
    table = Table()
    table.ready()
    table.tell(at.Claimed([]))
    table.tell(at.NextDue(None))
    assert the(at.ClaimUnits, table.tell(at.Rang()))


def test_a_bell_that_rang_while_all_slots_worked_is_not_forgotten() -> None:
    table = Table()
    table.running()
    table.tell(at.Rang())
    assert the(at.ClaimUnits, table.tell(at.Ended(0, DONE)))


def test_units_of_a_claim_without_an_answer_are_read_back_and_run() -> None:
    table = Table()
    [claim] = the(at.ClaimUnits, table.ready())
    table.tell(at.Unanswered(claim, "disk full"))
    assert not the(at.FindClaimed, table.after(0.2))
    assert table.after(0.1) == [at.FindClaimed(claim.claim.owner)]
    unit = table.unit()
    assert the(at.Run, table.tell(at.Claimed([unit]))) == [at.Run(0, (unit,))]


def test_units_found_too_late_to_run_are_handed_back() -> None:
    table = Table()
    [claim] = the(at.ClaimUnits, table.ready())
    table.tell(at.Unanswered(claim, "disk full"))
    unit = table.unit()
    table.after(20)
    actions = table.tell(at.Claimed([unit]))
    assert not the(at.Run, actions)
    assert written(actions).state is UnitState.REQUESTED


def test_a_silent_store_is_asked_less_and_less_often() -> None:
    table = Table()
    [ask] = the(at.ClaimUnits, table.ready())
    waits = []
    for _ in range(8):
        table.tell(at.Unanswered(ask, "gone"))
        waits.append(table.protocol.wake_at() - table.time)
        [ask] = the(at.FindClaimed, table.after(waits[-1]))  # type: ignore[list-item]
    assert waits == pytest.approx([0.25, 0.5, 1, 2, 4, 5, 5, 5])
    assert [said.action for said in the(at.Say, table.actions)] == ["store_silent"]


def test_a_store_that_can_be_read_and_not_written_is_left_alone_as_well() -> None:
    table = Table()
    [ask] = the(at.ClaimUnits, table.ready())
    waits = []
    for _ in range(7):
        table.tell(at.Unanswered(ask, "disk full"))
        waits.append(table.protocol.wake_at() - table.time)
        assert the(at.FindClaimed, table.after(waits[-1]))
        [ask] = the(at.ClaimUnits, table.tell(at.Claimed([])))
    assert waits == pytest.approx([0.25, 0.5, 1, 2, 4, 5, 5])


# reports


@pytest.mark.parametrize(
    ("outcome", "state", "attempt"),
    [
        (DONE, UnitState.PROCESSED, 1),
        (Outcome(Verdict.NOOP), UnitState.NOOP, 1),
        (Outcome(Verdict.RETRY), UnitState.REQUESTED, 2),
        (Outcome(Verdict.GIVE_UP), UnitState.INVALID, 1),
        (failed("KeyError: 'x'"), UnitState.REQUESTED, 2),
    ],
)
def test_an_outcome_is_reported_under_the_fence_of_the_claim(
    outcome: Outcome, state: UnitState, attempt: int
) -> None:
    table = Table()
    unit = table.running()
    [report] = the(at.Report, table.tell(at.Ended(0, outcome)))
    [write] = report.writes
    assert write.expected == unit.fence
    assert (write.unit.state, write.unit.attempt) == (state, attempt)
    actions = table.tell(at.Reported([Applied()]))
    assert at.Ring("scheduler") in actions
    assert (at.Ring("worker") in actions) == (not state.terminal)
    assert table.protocol.held == []
    assert table.protocol.counts.applied == 1


def test_what_ended_together_is_reported_together() -> None:
    table = Table(slots=2)
    table.ready()
    table.tell(at.Claimed([table.unit(), table.unit()]))
    [report] = the(at.Report, table.tell(at.Ended(0, DONE), at.Ended(1, failed("x"))))
    assert len(report.writes) == 2


def test_a_slot_that_dies_at_work_is_a_failed_attempt_and_is_replaced_at_once() -> None:
    table = Table()
    table.running()
    actions = table.tell(at.SlotGone(0, "killed by SIGSEGV"))
    assert written(actions).reason == "attempt 1: its slot ended: killed by SIGSEGV"
    assert the(at.StartSlot, actions) == [at.StartSlot(0)]


def test_a_slot_that_ends_with_an_answer_counts_by_its_answer() -> None:
    table = Table()
    table.running()
    actions = table.tell(at.SlotGone(0, "left something running", DONE))
    assert written(actions).state is UnitState.PROCESSED


def test_a_report_that_the_store_did_not_take_is_kept_repeated_and_renewed() -> None:
    table = Table()
    unit = table.running()
    [report] = the(at.Report, table.tell(at.Ended(0, DONE)))
    table.tell(at.Unanswered(report, "disk full"), at.Claimed([]))
    actions = table.silence(60, renewed=True)
    assert all(each == report for each in the(at.Report, actions))
    assert 10 <= len(the(at.Report, actions)) <= 250
    renewals = [renewal for renew in the(at.Renew, actions) for renewal in renew.renewals]
    assert {renewal.key for renewal in renewals} == {unit.key}
    assert 10 <= len(renewals) <= 13
    assert the(at.Report, table.after(10))
    table.tell(at.Reported([Applied()]))
    assert table.protocol.held == []
    assert (table.protocol.counts.superseded, table.protocol.counts.applied) == (0, 1)


def test_a_refused_report_is_counted_and_dropped() -> None:
    table = Table()
    unit = table.running()
    table.tell(at.Ended(0, DONE))
    now = START + timedelta(seconds=table.time)
    table.tell(at.Reported([Refused(after_lost_lease(unit, now))]))
    assert (table.protocol.counts.superseded, table.protocol.counts.applied) == (1, 0)
    assert table.protocol.held == []


@pytest.mark.parametrize("outcome", [DONE, failed("x"), Outcome(Verdict.GIVE_UP)])
@pytest.mark.parametrize("folded", [False, True])
def test_a_refusal_that_shows_our_own_write_means_that_it_was_applied(
    outcome: Outcome, folded: bool
) -> None:
    table = Table()
    table.running()
    [report] = the(at.Report, table.tell(at.Ended(0, outcome)))
    table.tell(at.Unanswered(report, "the answer was lost"))
    table.after(1)
    stored = report.writes[0].unit
    if folded:
        stored = replace(stored, transitions=())
    table.tell(at.Reported([Refused(stored)]))
    assert (table.protocol.counts.superseded, table.protocol.counts.applied) == (0, 1)


def test_a_refusal_that_shows_what_followed_from_our_own_write_is_one_too() -> None:
    table = Table()
    table.running()
    [report] = the(at.Report, table.tell(at.Ended(0, failed("x"))))
    table.tell(at.Unanswered(report, "the answer was lost"))
    later = canceled(report.writes[0].unit, START, "reprocessed")
    table.after(1)
    table.tell(at.Reported([Refused(later)]))
    assert (table.protocol.counts.superseded, table.protocol.counts.applied) == (0, 1)


# leases


def test_all_units_are_renewed_together_when_the_first_wants_it() -> None:
    table = Table(slots=2)
    table.ready()
    table.tell(at.Claimed([table.unit()]))
    table.tell(at.NextDue(None))
    table.after(2, at.Rang())
    table.tell(at.Claimed([table.unit()]))
    [renew] = the(at.Renew, table.after(3))
    assert len(renew.renewals) == 2
    table.tell(at.Renewed([True, True]))
    assert the(at.Renew, table.after(4.9)) == []
    assert the(at.Renew, table.after(0.1))


def test_a_refused_renewal_kills_and_nothing_is_reported() -> None:
    table = Table()
    table.running()
    table.after(5)
    assert the(at.Kill, table.tell(at.Renewed([False]))) == [at.Kill(0)]
    actions = table.tell(at.SlotGone(0, "killed"))
    assert the(at.Report, actions) == []
    assert table.protocol.counts.superseded == 1
    assert table.protocol.held == []


def test_a_refused_renewal_of_a_reported_unit_waits_for_the_answer_to_the_report() -> None:
    table = Table()
    table.running()
    [report] = the(at.Report, table.tell(at.Ended(0, DONE)))
    table.tell(at.Unanswered(report, "the answer was lost"), at.Claimed([]))
    assert the(at.Renew, table.silence(6, renewed=False))
    assert table.protocol.counts.superseded == 0
    table.silence(60)
    assert the(at.Report, table.after(10))
    table.tell(at.Reported([Refused(report.writes[0].unit)]))
    assert (table.protocol.counts.superseded, table.protocol.counts.applied) == (0, 1)


def test_who_cannot_renew_stops_before_the_lease_ends() -> None:
    table = Table()
    table.running()
    assert the(at.Kill, table.silence(13.9)) == []
    assert the(at.Kill, table.silence(0.2)) == [at.Kill(0)]
    table.tell(at.SlotGone(0, "killed"))
    actions = table.after(10)
    assert (written(actions).state, written(actions).failures) == (UnitState.REQUESTED, 0)


def test_the_deadline_counts_from_before_the_claim_was_sent() -> None:
    table = Table()
    table.ready()
    sent = table.time
    table.after(3, at.Claimed([table.unit()]))
    assert table.protocol.stop_at(0) == sent + 14


def test_the_deadline_counts_from_before_the_renewal_was_sent() -> None:
    table = Table()
    table.running()
    table.after(5)
    sent = table.time
    table.time += 3  # the store takes three seconds to answer
    table.tell(at.Renewed([True]))
    assert table.protocol.stop_at(0) == sent + 14


def test_progress_is_brought_to_the_store_soon_and_not_too_often() -> None:
    table = Table()
    table.running()
    assert the(at.Renew, table.after(0.5, at.Progressed(0, (1.0, 9.0, "")))) == []
    [renew] = the(at.Renew, table.after(0.5))
    assert renew.renewals[0].progress == (1.0, 9.0, "")
    table.tell(at.Renewed([True]))
    assert the(at.Renew, table.after(0.9, at.Progressed(0, (2.0, 9.0, "")))) == []
    assert the(at.Renew, table.after(0.1))
    table.tell(at.Renewed([True]))
    assert the(at.Renew, table.after(4.9)) == []


def test_a_time_limit_is_a_failed_attempt() -> None:
    table = Table()
    table.running(time_limit=timedelta(seconds=3))
    assert table.protocol.wake_at() == table.time + 3
    assert the(at.Kill, table.after(2.9)) == []
    assert the(at.Kill, table.after(0.1)) == [at.Kill(0)]
    assert the(at.Kill, table.after(0.1)) == []
    unit = written(table.tell(at.SlotGone(0, "killed")))
    assert unit.reason == "attempt 1: time limit of 3 s exceeded"
    assert (unit.state, unit.failures) == (UnitState.REQUESTED, 1)


def test_a_cancelation_wins_over_a_time_limit() -> None:
    table = Table()
    table.running(time_limit=timedelta(seconds=5))
    actions = table.after(5)
    assert the(at.Kill, actions) == [at.Kill(0)]
    assert the(at.Renew, actions)
    assert the(at.Kill, table.tell(at.Renewed([False]))) == []
    assert the(at.Report, table.tell(at.SlotGone(0, "killed"))) == []


# stop


def test_an_idle_worker_stops_at_once() -> None:
    table = Table()
    table.ready()
    table.tell(at.Claimed([]))
    assert the(at.Exit, table.tell(at.Stop())) == [at.Exit(0)]
    assert table.after(100) == []


def test_a_stopping_worker_lets_its_units_finish_and_claims_no_more() -> None:
    table = Table(grace=timedelta(seconds=20))
    table.running()
    assert the(at.Kill, table.tell(at.Stop())) == []
    actions = table.after(19, at.Ended(0, DONE), at.Rang())
    assert written(actions).state is UnitState.PROCESSED
    assert the(at.ClaimUnits, actions) == []
    assert the(at.Exit, actions) == []
    assert the(at.Exit, table.tell(at.Reported([Applied()]))) == [at.Exit(0)]


@pytest.mark.parametrize("grace", [0, 20])
def test_after_the_grace_units_are_killed_and_handed_back(grace: int) -> None:
    table = Table(grace=timedelta(seconds=grace))
    table.running()
    table.tell(at.Stop())
    table.after(grace)
    assert the(at.Kill, table.actions) == [at.Kill(0)]
    unit = written(table.tell(at.SlotGone(0, "killed")))
    assert (unit.state, unit.attempt, unit.failures) == (UnitState.REQUESTED, 2, 0)
    actions = table.tell(at.Reported([Applied()]))
    assert at.Ring("worker") in actions
    assert the(at.Exit, actions) == [at.Exit(0)]
    assert len(the(at.StartSlot, table.actions)) == 1


def test_the_second_signal_ends_the_grace() -> None:
    table = Table(grace=timedelta(seconds=20))
    table.running()
    table.tell(at.Stop())
    assert the(at.Kill, table.after(1, at.Stop())) == [at.Kill(0)]


def test_units_claimed_just_when_told_to_stop_are_handed_back() -> None:
    table = Table(grace=timedelta(seconds=20))
    table.ready()
    actions = table.tell(at.Stop(), at.Claimed([table.unit()]))
    assert not the(at.Run, actions)
    assert written(actions).state is UnitState.REQUESTED


def test_a_stopping_worker_looks_for_what_it_may_have_claimed() -> None:
    table = Table()
    [claim] = the(at.ClaimUnits, table.ready())
    assert not the(at.Exit, table.tell(at.Unanswered(claim, "gone"), at.Stop()))
    assert the(at.FindClaimed, table.after(0.5))
    assert the(at.Exit, table.tell(at.Claimed([]))) == [at.Exit(0)]


def test_a_stopping_worker_does_not_wait_for_ever_for_a_silent_store() -> None:
    table = Table()
    table.running()
    [report] = the(at.Report, table.tell(at.Ended(0, DONE)))
    table.tell(at.Unanswered(report, "gone"), at.Claimed([]), at.Stop())
    assert the(at.Exit, table.silence(PATIENCE - 0.1)) == []
    assert the(at.Exit, table.silence(0.2)) == [at.Exit(at.UNREPORTED)]


# slots


def test_a_slot_that_keeps_dying_is_started_less_and_less_often() -> None:
    table = Table()
    table.tell()
    starts = []
    for _ in range(12):
        table.tell(at.SlotGone(0, "exit code 1"))
        died = table.time
        while table.protocol.slot_state(0) is not SlotState.STARTING:
            table.after(table.protocol.wake_at() - table.time)
        starts.append(round(table.time - died, 3))
    assert starts == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


@pytest.mark.parametrize("options", [{"slots": 0}, {"lease": timedelta(seconds=5)}])
def test_settings_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        WorkerProtocol(**{"worker_id": "w", "slots": 1, **options})


def test_after_our_own_unit_the_document_is_what_recovery_says() -> None:
    table = Table()
    unit = table.running()
    actions = table.after(1, at.Ended(0, DONE))
    assert written(actions) == unit_after(unit, DONE, START + timedelta(seconds=table.time))
