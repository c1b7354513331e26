"""What a worker does when: claim, run, renew, kill, report, hand back.  A pure machine.

The shell tells it what happened (`handle(events, now, monotonic)`) and does what it answers
(actions); what the store says to an action comes back as an event before the next call.  No IO,
no clock, no randomness, so every rule below is tested as a table.

*Claim* (D3).  Only as many units as slots are ready, so that a unit starts when it is claimed.
Each claim has a token of its own; when the store does not answer, the units that carry the token
are read back, run while their lease is fresh and handed back otherwise.  Claims are made when
somebody rings, when the last claim found as many as it asked for, when the next unit's back-off
ends, and every 250 ms (`POLL`) as long as something is due, else every second (`IDLE`): who hears
the bell needs neither.

*Lease* (D4).  All held units are renewed together every `renewal`, sooner when there is progress
to show.  A unit's deadline is the monotonic time *before* its last successful claim or renewal
was sent, plus the lease, minus a margin; when it passes, the attempt is killed, so that nobody
else starts it while it runs here.  A refused renewal means that the unit was canceled or taken
over: the attempt is killed and nothing is reported.

*Report* (D5).  One conditional write on the triple (state, attempt, owner) of the claim.  A report
that the store could not take is kept and repeated with back-off, and its unit renewed meanwhile;
the store is the judge of whether it is too late.  A refused report is compared with what stands:
if that is our own write, whose answer was lost, it was applied; else the attempt was superseded,
which is counted, and its result dropped.  Its log stays.

*Stop* (F48).  On the first `Stop` no further unit is claimed and those at work have `grace` to
finish; then, or at the second `Stop`, they are killed and handed back.  The worker ends when
nothing is held any more, or with `UNREPORTED` when the store did not answer for `PATIENCE` after
the grace: then the leases run out by themselves, and nothing is lost.

*Slots.*  ``down → starting → ready ⇄ busy``, and from each of them down when its process ends.
A slot that died at its work is replaced at once; one that dies again and again without having
worked, with back-off.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from synergy.core.model import Applied, Claim, Refused, Renewal, Unit, UnitWrite
from synergy.core.recovery import LEASE, LEASE_MARGIN, RENEWAL
from synergy.worker.outcomes import Outcome, Verdict, failed, limit_reason, unit_after
from synergy.worker.work import Progress

#: Seconds between two looks at the store while something is due that was not for us.
POLL: Final = 0.25
#: The same while nothing is due.
IDLE: Final = 1.0
#: Progress is brought to the store at most so often (seconds).
PROGRESS_PACE: Final = 1.0
#: First and longest wait before a store that did not answer is asked again (seconds).
RETRY_FIRST, RETRY_LONGEST = 0.25, 5.0
#: Seconds after the grace for which a stopping worker tries to hand in what it still has.
PATIENCE: Final = 5.0
#: First and longest wait before a slot that keeps dying is started again (seconds).
RESTART_FIRST, RESTART_LONGEST = 0.1, 30.0

#: Exit codes of the worker program: all handed in; something left for the leases to recover.
DONE, UNREPORTED = 0, 5


# events


@dataclass(frozen=True, slots=True)
class SlotReady:
    """The slot's process has started and waits for work."""

    slot: int


@dataclass(frozen=True, slots=True)
class SlotGone:
    """The slot's process and all its descendants have ended, and its attempt's log is closed.

    `outcome` is how its attempt came out, if it had one and said so before.
    """

    slot: int
    reason: str
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt in the slot is over, nothing of it runs, its log is closed; the slot is free."""

    slot: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Progressed:
    """The attempt in the slot said how far it is."""

    slot: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Rang:
    """Somebody rang the workers' bell: there may be units."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The worker shall end (SIGTERM, SIGINT); the second time, at once."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The store's answer to `ClaimUnits`, and to `FindClaimed`."""

    units: Sequence[Unit]


@dataclass(frozen=True, slots=True)
class NextDue:
    """The store's answer to `LookAhead`."""

    at: datetime | None


@dataclass(frozen=True, slots=True)
class Renewed:
    """The store's answer to `Renew`."""

    answers: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Reported:
    """The store's answer to `Report`."""

    answers: Sequence[Applied | Refused[Unit]]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The store did not answer the action: whether it was done is not known."""

    action: "Action"
    reason: str


Event = (
    SlotReady
    | SlotGone
    | Ended
    | Progressed
    | Rang
    | Stop
    | Claimed
    | NextDue
    | Renewed
    | Reported
    | Unanswered
)


# actions


@dataclass(frozen=True, slots=True)
class StartSlot:
    """Start the slot's process; answered by `SlotReady` or `SlotGone`."""

    slot: int


@dataclass(frozen=True, slots=True)
class Run:
    """Run the unit's attempt in the slot; answered by `Ended` or `SlotGone`."""

    slot: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill what runs in the slot, with all its descendants; answered by `Ended` or `SlotGone`."""

    slot: int


@dataclass(frozen=True, slots=True)
class ClaimUnits:
    """Claim in the store."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class FindClaimed:
    """Read the active units back that carry this owner's token."""

    owner: str


@dataclass(frozen=True, slots=True)
class LookAhead:
    """Ask the store when the next unit is due."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew in the store."""

    renewals: tuple[Renewal, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Write in the store."""

    writes: tuple[UnitWrite, ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """Ring the bell of "scheduler" or "worker"."""

    role: str


@dataclass(frozen=True, slots=True)
class Say:
    """One line for the worker's own log."""

    action: str
    text: str
    key: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this exit code."""

    code: int


Action = (
    StartSlot
    | Run
    | Kill
    | ClaimUnits
    | FindClaimed
    | LookAhead
    | Renew
    | Report
    | Ring
    | Say
    | Exit
)


# state


class SlotState(Enum):
    """Where a slot is."""

    #: Its process does not run.
    DOWN = "down"
    #: Its process was started and has not said that it is ready.
    STARTING = "starting"
    #: Waits for work.
    READY = "ready"
    #: Runs an attempt.
    BUSY = "busy"


@dataclass(slots=True)
class _Held:
    """A unit that we claimed and have not handed in yet."""

    unit: Unit
    #: Monotonic time at which it must have stopped, unless it is renewed before.
    deadline: float
    #: Monotonic time at which its time limit ends.
    limit: float | None = None
    progress: Progress | None = None
    shown: Progress | None = None
    #: Why it was killed, once it was: this decides what becomes of it.
    cause: Outcome | None = None
    #: What we want the store to write, once it is over.
    report: UnitWrite | None = None


@dataclass(slots=True)
class _Slot:
    state: SlotState = SlotState.DOWN
    held: _Held | None = None
    #: Ends of its process without an attempt in between.
    deaths: int = 0
    restart: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Claiming:
    """The claim that is out, and when it was sent."""

    sent: float
    claim: Claim


@dataclass(slots=True)
class Counts:
    """What happened since the worker started."""

    claimed: int = 0
    applied: int = 0
    superseded: int = 0
    #: By verdict.
    ended: dict[str, int] = field(default_factory=dict)


class WorkerProtocol:
    """The machine; `worker_id` must be unique in time too: it makes the tokens of the claims."""

    def __init__(
        self,
        worker_id: str,
        slots: int,
        *,
        lease: timedelta = LEASE,
        renewal: timedelta = RENEWAL,
        margin: timedelta = LEASE_MARGIN,
        grace: timedelta = timedelta(0),
        processes: Iterable[str] | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"a worker has at least one slot, not {slots}")
        if renewal + margin >= lease:
            raise ValueError(f"a lease of {lease} does not outlast a renewal in {renewal}")
        self._id = worker_id
        self._lease, self._renewal = lease, renewal.total_seconds()
        self._validity = (lease - margin).total_seconds()
        self._grace = grace.total_seconds()
        self._processes = None if processes is None else frozenset(processes)
        self._slots = [_Slot() for _ in range(slots)]
        self._over: list[_Held] = []
        self._out: list[Action] = []
        self._now = datetime.min
        self._time = 0.0
        # claims
        self._claims = 0
        self._claiming: _Claiming | None = None
        self._unsure = False
        self._look_at = float("-inf")
        self._looking = False
        # renewals and reports
        self._renewing: tuple[Renewal, ...] = ()
        self._renewed_at = float("-inf")
        self._renew_retry = float("-inf")
        self._reporting: list[_Held] = []
        # the store's silence
        self._silences = 0
        self._retry_at = float("-inf")
        # stop
        self._stop_by: float | None = None
        self._exited = False
        self.counts = Counts()

    # what the shell may look at

    @property
    def stopping(self) -> bool:
        """Whether no further unit will be claimed."""
        return self._stop_by is not None

    @property
    def held(self) -> list[Unit]:
        """The units that are running here or not handed in yet."""
        return [held.unit for held in self._holdings()]

    def slot_state(self, slot: int) -> SlotState:
        """Where a slot is."""
        return self._slots[slot].state

    def stop_at(self, slot: int) -> float | None:
        """The monotonic time by which the attempt in the slot must not run any more."""
        held = self._slots[slot].held
        return None if held is None else held.deadline

    def wake_at(self) -> float:
        """The monotonic time at which it wants to be called, whatever happens; maybe past."""
        return min(self._wishes(), default=self._time + IDLE)

    # the machine

    def handle(self, events: Sequence[Event], now: datetime, monotonic: float) -> list[Action]:
        """What to do after these events; without any, what the time asks for."""
        self._now, self._time = now, monotonic
        for event in events:
            self._take(event)
        self._decide()
        actions, self._out = self._out, []
        return actions

    def _take(self, event: Event) -> None:
        match event:
            case SlotReady(slot):
                self._slot_ready(self._slots[slot])
            case SlotGone(slot, reason, outcome):
                self._slot_gone(slot, reason, outcome)
            case Ended(slot, outcome):
                self._ended(self._slots[slot], outcome)
            case Progressed(slot, progress):
                self._progressed(self._slots[slot], progress)
            case Rang():
                self._look_at = self._time
            case Stop():
                self._stop()
            case Claimed(units):
                self._claimed(units)
            case NextDue(at):
                self._next_due(at)
            case Renewed(answers):
                self._renewals_answered(answers)
            case Reported(answers):
                self._reports_answered(answers)
            case Unanswered(action, reason):
                self._unanswered(action, reason)
            case _:
                raise TypeError(f"not an event of the worker protocol: {event!r}")

    def _decide(self) -> None:
        if self._exited:
            return
        self._enforce()
        self._hand_in()
        self._renew()
        self._start_slots()
        self._find_claimed()
        self._claim()
        self._look_ahead()
        self._leave()

    # slots and attempts

    def _slot_ready(self, slot: _Slot) -> None:
        if slot.state is SlotState.STARTING:
            slot.state = SlotState.READY

    def _slot_gone(self, index: int, reason: str, outcome: Outcome | None) -> None:
        slot = self._slots[index]
        if slot.held is not None:
            self._ended(slot, outcome or failed(f"its slot ended: {reason}"))
            slot.deaths = 0
        else:
            slot.deaths += 1
            self._say("slot_gone", f"slot {index} ended without work: {reason}", warning=True)
        slot.state = SlotState.DOWN
        slot.restart = self._time + _restart_wait(slot.deaths)

    def _ended(self, slot: _Slot, outcome: Outcome) -> None:
        held, slot.held = slot.held, None
        slot.state, slot.deaths = SlotState.READY, 0
        if held is None:
            return
        outcome = held.cause or outcome
        ended = self.counts.ended
        ended[outcome.verdict.value] = ended.get(outcome.verdict.value, 0) + 1
        if outcome.verdict is Verdict.SUPERSEDED:
            self._superseded(held, outcome.reason)
            return
        after = unit_after(held.unit, outcome, self._now, held.progress)
        held.report = UnitWrite(after, held.unit.fence)
        self._over.append(held)
        self._say(
            "attempt_ended",
            f"attempt {held.unit.attempt} {outcome.verdict.value}"
            + (f": {_headline(outcome.reason)}" if outcome.reason else ""),
            held.unit.key,
            warning=outcome.verdict is Verdict.FAILED,
        )

    def _progressed(self, slot: _Slot, progress: Progress) -> None:
        if slot.held is not None:
            slot.held.progress = progress

    def _enforce(self) -> None:
        """Kill what may not run any longer."""
        for index, slot in enumerate(self._slots):
            held = slot.held
            if held is None or held.cause is not None:
                continue
            held.cause = self._why_stop(held)
            if held.cause is not None:
                reason = f"attempt {held.unit.attempt} is killed: {held.cause.reason}"
                self._say("attempt_killed", reason, held.unit.key, warning=True)
                self._out.append(Kill(index))

    def _why_stop(self, held: _Held) -> Outcome | None:
        if self._stop_by is not None and self._time >= self._stop_by:
            return Outcome(Verdict.HANDED_BACK, "its worker was stopped")
        if held.limit is not None and self._time >= held.limit:
            assert held.unit.task.time_limit is not None
            return failed(limit_reason(held.unit.task.time_limit))
        if self._time >= held.deadline:
            return Outcome(Verdict.HANDED_BACK, "its worker could not renew its lease in time")
        return None

    def _start_slots(self) -> None:
        if self.stopping:
            return
        for index, slot in enumerate(self._slots):
            if slot.state is SlotState.DOWN and self._time >= slot.restart:
                slot.state = SlotState.STARTING
                self._out.append(StartSlot(index))

    # claims

    def _claim(self) -> None:
        free = self._free()
        if not free or not self._may_claim() or self._time < max(self._look_at, self._retry_at):
            return
        self._claims += 1
        claim = Claim(
            owner=f"{self._id}/{self._claims}",
            now=self._now,
            lease_until=self._now + self._lease,
            limit=len(free),
            processes=self._processes,
        )
        self._claiming = _Claiming(self._time, claim)
        self._out.append(ClaimUnits(claim))

    def _may_claim(self) -> bool:
        return not (self.stopping or self._claiming or self._looking)

    def _find_claimed(self) -> None:
        """After a claim that the store did not answer: which units carry its token?"""
        if self._claiming and self._unsure and self._time >= self._retry_at:
            self._out.append(FindClaimed(self._claiming.claim.owner))

    def _free(self) -> list[int]:
        return [n for n, slot in enumerate(self._slots) if slot.state is SlotState.READY]

    def _claimed(self, units: Sequence[Unit]) -> None:
        if not self._unsure and not self._over:
            # Reading back, or finding nothing, says nothing of a store that cannot be written.
            self._answered()
        found, asked = self._unsure, self._claiming
        self._claiming, self._unsure = None, False
        if asked is None:
            raise ValueError("units were claimed that nobody asked for")
        self.counts.claimed += len(units)
        deadline = asked.sent + self._validity
        for unit in units:
            self._begin(_Held(unit, deadline))
        self._looking = not found and len(units) < asked.claim.limit
        self._look_at = self._time

    def _begin(self, held: _Held) -> None:
        free = self._free()
        if not free or self.stopping or self._time >= held.deadline:
            outcome = Outcome(Verdict.HANDED_BACK, "its worker could not start it in time")
            after = unit_after(held.unit, outcome, self._now)
            held.report = UnitWrite(after, held.unit.fence)
            self._over.append(held)
            return
        if (limit := held.unit.task.time_limit) is not None:
            held.limit = self._time + limit.total_seconds()
        slot = self._slots[free[0]]
        slot.state, slot.held = SlotState.BUSY, held
        self._out.append(Run(free[0], held.unit))

    def _look_ahead(self) -> None:
        """After a claim that found less than it asked for."""
        if self._looking and self._time >= self._retry_at and not self.stopping:
            self._out.append(LookAhead())

    def _next_due(self, at: datetime | None) -> None:
        self._looking = False
        self._look_at = self._time + _poll_wait(at, self._now)

    # renewals

    def _renew(self) -> None:
        held = [each for each in self._holdings() if each not in self._reporting]
        if self._renewing or not held or self._time < self._renewal_due():
            return
        until = self._now + self._lease
        renewals = tuple(_renewal(each, until) for each in held)
        for each in held:
            each.shown = each.progress
        self._renewing = renewals
        self._renewed_at = self._time
        self._out.append(Renew(renewals))

    def _renewal_due(self) -> float:
        """All at one time: when the first of them wants it."""
        holdings = self._holdings()
        if not holdings:
            return float("inf")
        oldest = min(held.deadline for held in holdings) - self._validity
        due = oldest + self._renewal
        if any(held.progress != held.shown for held in holdings if held.report is None):
            due = min(due, max(self._renewed_at, oldest) + PROGRESS_PACE)
        return max(due, self._renew_retry)

    def _renewals_answered(self, answers: Sequence[bool]) -> None:
        self._answered()
        renewals, self._renewing = self._renewing, ()
        holdings = {(held.unit.key, held.unit.attempt): held for held in self._holdings()}
        for renewal, granted in zip(renewals, answers, strict=True):
            held = holdings.get((renewal.key, renewal.attempt))
            if held is None:
                continue
            if granted or held.report is not None:
                # The store's answer to a report that is out says more than this refusal.
                held.deadline = self._renewed_at + self._validity
            else:
                self._lose(held)

    def _lose(self, held: _Held) -> None:
        """Kill an attempt that is not ours any more; an earlier cause counts no more either."""
        first = held.cause is None
        held.cause = Outcome(Verdict.SUPERSEDED, "the unit was canceled or taken over")
        if first:
            self._say("attempt_killed", held.cause.reason, held.unit.key, warning=True)
            slot = next(n for n, slot in enumerate(self._slots) if slot.held is held)
            self._out.append(Kill(slot))

    # reports

    def _hand_in(self) -> None:
        if self._reporting or not self._over or self._time < self._retry_at:
            return
        self._reporting = list(self._over)
        self._out.append(Report(tuple(each.report for each in self._over if each.report)))

    def _reports_answered(self, answers: Sequence[Applied | Refused[Unit]]) -> None:
        self._answered()
        reported, self._reporting = self._reporting, []
        for held, answer in zip(reported, answers, strict=True):
            assert held.report is not None
            self._over.remove(held)
            if isinstance(answer, Applied) or _is_ours(answer.current, held.report.unit):
                self.counts.applied += 1
            else:
                self._superseded(held, "the unit was canceled or taken over")
        self._out.append(Ring("scheduler"))
        if any(held.report and not held.report.unit.state.terminal for held in reported):
            self._out.append(Ring("worker"))

    def _superseded(self, held: _Held, reason: str) -> None:
        self.counts.superseded += 1
        text = f"the result of attempt {held.unit.attempt} is dropped: {reason}"
        self._say("attempt_superseded", text, held.unit.key, warning=True)

    # the store's silence

    def _unanswered(self, action: Action, reason: str) -> None:
        match action:
            case ClaimUnits():
                self._unsure = True
            case Report():
                self._reporting = []
            case Renew():
                self._renewing = ()
            case FindClaimed() | LookAhead():
                pass
            case _:
                raise TypeError(f"the store is not asked by {action!r}")
        if not self._silences:
            self._say("store_silent", f"the store does not answer: {reason}", warning=True)
        if self._time >= self._retry_at:
            self._silences += 1
        longest = RETRY_FIRST if self.stopping else RETRY_LONGEST
        wait = min(RETRY_FIRST * 2 ** min(self._silences - 1, 20), longest)
        self._retry_at = self._time + wait
        if isinstance(action, Renew):
            self._renew_retry = self._time + min(wait, PROGRESS_PACE)

    def _answered(self) -> None:
        if self._silences:
            self._say("store_answers", "the store answers again")
        self._silences = 0
        self._retry_at = self._renew_retry = float("-inf")

    # stop

    def _stop(self) -> None:
        by = self._time if self.stopping else self._time + self._grace
        self._stop_by = by if self._stop_by is None else min(by, self._stop_by)
        self._retry_at = min(self._retry_at, self._time)  # there is no time for long waits now
        count = sum(slot.held is not None for slot in self._slots)
        grace = max(by - self._time, 0)
        self._say("stop", f"stops: {count} units at work have {grace:g} s to finish")

    def _leave(self) -> None:
        if self._stop_by is None:
            return
        if not self._holdings() and not self._claiming:
            self._exit(DONE)
        elif self._time >= self._stop_by + PATIENCE:
            self._exit(UNREPORTED)

    def _exit(self, code: int) -> None:
        self._exited = True
        self._out.append(Exit(code))

    # small things

    def _holdings(self) -> list[_Held]:
        return [*(slot.held for slot in self._slots if slot.held is not None), *self._over]

    def _say(self, action: str, text: str, key: str = "", *, warning: bool = False) -> None:
        self._out.append(Say(action, text, key, warning))

    def _wishes(self) -> Iterable[float]:
        """The times at which `_decide` has something to do."""
        if self._exited:
            return
        for held in self._holdings():
            if held.report is None and held.cause is None:
                yield held.deadline
                yield held.limit if held.limit is not None else float("inf")
        yield self._renewal_due()
        if self._over or self._unsure or (self._looking and not self.stopping):
            yield self._retry_at
        if self._free() and self._may_claim():
            yield max(self._look_at, self._retry_at)
        if self._stop_by is not None:
            yield self._stop_by if self._time < self._stop_by else self._stop_by + PATIENCE
        else:
            yield from (slot.restart for slot in self._slots if slot.state is SlotState.DOWN)


def _renewal(held: _Held, until: datetime) -> Renewal:
    assert held.unit.owner is not None
    return Renewal(held.unit.key, held.unit.attempt, held.unit.owner, until, held.progress)


def _poll_wait(due: datetime | None, now: datetime) -> float:
    """How long to leave the store alone after a claim that found too little."""
    if due is None:
        return IDLE
    if due <= now:
        return POLL
    return min((due - now).total_seconds(), IDLE)


def _restart_wait(deaths: int) -> float:
    """None after the first death in a row, then doubling."""
    if deaths <= 1:
        return 0.0
    return float(min(RESTART_FIRST * 2 ** min(deaths - 2, 20), RESTART_LONGEST))


def _is_ours(stored: Unit | None, written: Unit) -> bool:
    """Whether the store refused a write because it had taken it before (F21)."""
    if stored is None:
        return False
    ours = written.transitions[-1]
    return ours in stored.transitions or (
        (stored.version, stored.state, stored.attempt)
        == (ours.version, written.state, written.attempt)
        and (stored.finished_at, stored.not_before) == (written.finished_at, written.not_before)
    )


def _headline(reason: str) -> str:
    """The last line of a traceback, or the one line of anything else, for the worker's own log."""
    lines = reason.strip().splitlines()
    return lines[-1][:200] if lines else ""
