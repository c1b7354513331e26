"""What a worker does when: claim, run, renew, kill, report, hand back.  A pure machine.

The shell tells it what happened (`handle(events, now, monotonic)`) and does what it answers
(actions); what the store says to an action comes back as an event before the next call.  No IO,
no clock, no randomness, so every rule below is tested as a table.

*Claim* (D3).  As many units as slots are free, so that a unit starts when it is claimed.  Each
claim has a token of its own; when the store does not answer, the units that carry the token are
read back, run while their lease is fresh and handed back otherwise.  Claims are made when
somebody rings, when the last claim found as many as it asked for, when the next unit's back-off
ends, and every 250 ms (`POLL`) as long as something is due, else every second (`IDLE`): who hears
the bell needs neither.

*Offers* (D10).  A broker brings units, and to be brought is to be told: each is claimed in the
store like any other, by its key, and acknowledged when that claim was answered, whether it was
taken or refused; never before, so that no message is gone whose unit nobody has looked at.  What
was offered waits in the order in which units are claimed until a slot or the window has room for
it.  While the broker is well, what it brings goes first.  The store is looked into when it has
brought nothing for a while (`POLL`), so that looking does not take what is on its way, and not more
often than every second (`IDLE`) unless the bell rings or a look finds as many as it asked for: so
is found what was handed back, never published or lost.  While the broker is not well, nothing of it
counts: the store is looked into as without one.

A worker all of whose slots take long gives back what it was brought after a moment (`OCCUPIED`) and
lets nothing be brought, so that whoever is free gets it; when a slot is free it is brought again.
From then on only as many of each process as there are slots, because they would go back and forth
with every unit, until a process is quick.

*Claim ahead* (`synergy.worker.pace`).  Of processes whose units take milliseconds, a window of
units is claimed with them, ``claimed`` and not started: the pool, from which the slots are given
handfuls.  The next window is claimed while less than half of the last is left, so that no slot
waits for the store; but at least every `TURN` the pool runs out, and the unit whose turn it is
is started, be it quick or not.  A unit that was claimed ahead is reported by one write with two
transitions, its start and its end.  One that runs longer than `MARK` is marked as started by a
write of its own, so that the store tells the truth about what runs long, and its loss counts.
What could not be started within `LINGER` is handed back.

*Lease* (D4).  All held units are renewed together every `renewal`, sooner when there is progress
to show.  A unit's deadline is the monotonic time *before* its last successful claim or renewal
was sent, plus the lease, minus a margin; when it passes, the attempt is killed, so that nobody
else starts it while it runs here.  A refused renewal means that the unit was canceled or taken
over: the attempt is killed and nothing is reported.

*Report* (D5).  One conditional write on the triple (state, attempt, owner) of the claim.  A report
that the store could not take is kept and repeated with back-off, and its unit renewed meanwhile;
the store is the judge of whether it is too late.  A refused report is compared with what stands:
if that is our own write, whose answer was lost, it was applied; if it is still ours and only
marked, which was not answered either, the report is repeated with the fence as it stands; else
the attempt was superseded, which is counted, and its result dropped.  Its log stays.

*Calls* (`synergy.core.batches`).  Where a process declares a batch, the store gives with a unit
those which follow it without a gap, and a slot makes one call for them; each is a unit as any other
with its own lease, fence and report, and all are in progress before the call begins.  The call is
killed when one of them may not run any longer; the others are handed back then.

*Stop* (F48).  On the first `Stop` no further unit is claimed, those in the pool are handed back,
and those at work have `grace` to finish; then, or at the second `Stop`, they are killed and handed
back.  The worker ends when nothing is held any more, or with `UNREPORTED` when the store did not
answer for `PATIENCE` after the grace: then the leases run out by themselves, and nothing is lost.

*Slots.*  ``down → starting → ready ⇄ busy``, and from each of them down when its process ends.
A slot that died at its work is replaced at once; one that dies again and again without having
worked, with back-off.  Only the unit that it was at is failed by that.  Which one that is, the
machine knows for certain only of a slot that is `Slow` or has but one unit: so a unit among others
is not killed for itself before that, which takes milliseconds, and when a slot is killed for
good, the unit that it may have been at meanwhile is handed back as started.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from synergy.core.batches import calls_of
from synergy.core.model import Applied, Claim, Refused, Renewal, Unit, UnitWrite
from synergy.core.recovery import LEASE, LEASE_MARGIN, RENEWAL
from synergy.core.states import UnitState
from synergy.ports import Delivery
from synergy.worker.holding import (
    Held,
    Slot,
    SlotState,
    is_ours,
    is_still_held,
    renewal_of,
    report_of,
)
from synergy.worker.messages import (
    DONE,
    UNREPORTED,
    Acknowledge,
    Action,
    BrokerHealth,
    Claimed,
    ClaimUnits,
    Ended,
    Event,
    Exit,
    FindClaimed,
    Kill,
    LookAhead,
    NextDue,
    Offered,
    PauseConsuming,
    Progressed,
    Rang,
    Renew,
    Renewed,
    Report,
    Reported,
    ResumeConsuming,
    Ring,
    Run,
    Say,
    SlotGone,
    SlotReady,
    Slow,
    StartSlot,
    Stop,
    StopConsuming,
    Unanswered,
)
from synergy.worker.offers import Offers, decided
from synergy.worker.outcomes import Outcome, Verdict, begun, failed, limit_reason
from synergy.worker.pace import Pace
from synergy.worker.work import Progress

#: Seconds between two looks at the store while something is due that was not for us.
POLL: Final = 0.25
#: The same while nothing is due, or a broker brings what is: so long does a unit wait at most whose
#: message was lost, and a hundred idle workers ask a store a hundred times a second for nothing,
#: which is a few per cent of what any can answer.
IDLE: Final = 1.0
#: How many offers a claim names at most, beyond what it takes, when those before were refused:
#: as after an outage, when a queue is full of messages whose units are long done.
STALE: Final = 256
#: Seconds for which all slots are at what takes long before what was offered is given back.
OCCUPIED: Final = 0.1
#: Seconds after which a unit that was claimed ahead and still runs is marked as started.
MARK: Final = 0.25
#: Seconds after which a unit that was claimed ahead and has not been started is handed back.
LINGER: Final = 0.25
#: Seconds for which units may be claimed ahead past others, whose turn it is.
TURN: Final = 0.25
#: Progress is brought to the store at most so often (seconds).
PROGRESS_PACE: Final = 1.0
#: First and longest wait before a store that did not answer is asked again (seconds).
RETRY_FIRST, RETRY_LONGEST = 0.25, 5.0
#: Seconds after the grace for which a stopping worker tries to hand in what it still has.
PATIENCE: Final = 5.0
#: First and longest wait before a slot that keeps dying is started again (seconds).
RESTART_FIRST, RESTART_LONGEST = 0.1, 30.0


# state


@dataclass(frozen=True, slots=True)
class _Claiming:
    """The claim that is out, and when it was sent."""

    sent: float
    claim: Claim
    #: What the broker offered and the claim names.
    offered: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wish:
    """When to claim, how many units to start and how many ahead."""

    at: float
    limit: int
    ahead: int
    #: Whether of what the broker has offered, else of what the store has.
    offered: bool = False


@dataclass(slots=True)
class Counts:
    """What happened since the worker started."""

    claimed: int = 0
    #: Of these, by a name that a broker had brought.
    brought: int = 0
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
        ahead: bool = True,
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
        self._slots = [Slot() for _ in range(slots)]
        #: Claimed ahead and not given to a slot; the oldest first.
        self._pool: deque[Held] = deque()
        self._over: list[Held] = []
        self._out: list[Action] = []
        self._now = datetime.min
        self._time = 0.0
        self._ahead = ahead
        self._pace = Pace()
        # claims
        self._claims = 0
        self._claiming: _Claiming | None = None
        self._unsure = False
        self._look_at = float("-inf")
        self._looking = False
        #: Whether the last claim found fewer units to take ahead than it asked for.
        self._dry = False
        self._turn_at = float("-inf")
        # the broker
        self._offers = Offers()
        self._healthy = False
        self._consuming = False
        self._offered_at = self._looked_at = float("-inf")
        #: How many offers to name although fewer can be taken; 0 while they are not refused.
        self._stale = 0
        #: Whether an offer was claimed in the place of a look that was overdue.
        self._passed_over = False
        #: Since when all slots are at what takes long; None while they are not.
        self._occupied_at: float | None = None
        #: Whether nothing is brought; when that ended last, and whether with a narrow window.
        self._paused = self._narrow = False
        self._resumed_at = float("-inf")
        # renewals and reports
        self._renewing: tuple[Renewal, ...] = ()
        self._renewed_at = float("-inf")
        self._renew_retry = float("-inf")
        #: No held unit's deadline is earlier; looked up anew when it would matter.
        self._first_deadline = float("inf")
        self._reporting: list[tuple[Held, UnitWrite]] = []
        #: The units of quick attempts that ended well: they are told together.
        self._well: list[str] = []
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
        return min((held.deadline for held in self._slots[slot].at_work()), default=None)

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
            case SlotGone(slot):
                self._slot_gone(self._slots[slot], event)
            case Ended(slot):
                self._ended(self._slots[slot], event)
            case Slow(slot):
                self._slow(self._slots[slot])
            case Progressed(slot, progress, place):
                self._progressed(self._slots[slot], progress, place)
            case Rang():
                self._look_at, self._dry = self._time, False
            case Offered(deliveries):
                self._offered(deliveries)
            case BrokerHealth(healthy):
                self._broker_health(healthy)
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
        self._fill()
        self._hand_in()
        self._renew()
        self._start_slots()
        self._find_claimed()
        self._consume()
        self._claim()
        self._look_ahead()
        self._leave()

    # slots and attempts

    def _slot_ready(self, slot: Slot) -> None:
        if slot.state is SlotState.STARTING:
            slot.state = SlotState.READY

    def _slot_gone(self, slot: Slot, gone: SlotGone) -> None:
        if slot.queue:
            outcome = gone.outcome
            if outcome is None and slot.killed:
                outcome = Outcome(Verdict.HANDED_BACK, "its slot was killed")
            outcome = outcome or failed(f"its slot ended: {gone.reason}")
            for held, own in slot.over(outcome, gone.others):
                self._pace.forget(held.unit.process)
                self._over_with(held, own, self._time)
            self._take_back(slot)
            slot.deaths = 0
        else:
            slot.deaths += 1
            text = f"slot {gone.slot} ended without work: {gone.reason}"
            self._say("slot_gone", text, warning=True)
        slot.state, slot.slow, slot.killed = SlotState.DOWN, False, False
        slot.restart = self._time + _restart_wait(slot.deaths)

    def _slow(self, slot: Slot) -> None:
        slot.slow = True
        if slot.queue and not slot.together:
            held = slot.queue.popleft()
            self._take_back(slot)
            slot.queue.append(held)

    def _take_back(self, slot: Slot) -> None:
        """What the slot has not started is to be run by whoever is free."""
        for held in slot.queue:
            held.began = held.limit = None
        self._pool.extendleft(reversed(slot.queue))
        slot.queue.clear()

    def _ended(self, slot: Slot, event: Ended) -> None:
        slot.deaths, slot.slow = 0, False
        ended = self._time if event.ended is None else min(event.ended, self._time)
        for held, outcome in slot.over(event.outcome, event.others) if slot.queue else ():
            if event.began is not None:
                held.began = min(event.began, ended)
            assert held.began is not None
            if held.unit.task.batch > 1:
                self._pace.forget(held.unit.process)  # what it was before it said so
            elif not held.unit.task.command:
                self._pace.note(held.unit.process, ended - held.began)
            self._over_with(held, outcome, ended)
        if slot.queue:
            self._start(slot.queue[0], ended)
        else:
            slot.state, slot.killed = SlotState.READY, False

    def _start(self, held: Held, at: float) -> None:
        held.began = at
        if (limit := held.unit.task.time_limit) is not None:
            held.limit = at + limit.total_seconds()

    def _over_with(self, held: Held, outcome: Outcome, ended: float) -> None:
        """Its attempt is over, or will not be made: have it reported."""
        outcome = held.cause or outcome
        verdict = outcome.verdict
        if held.began is not None:
            self.counts.ended[verdict.value] = self.counts.ended.get(verdict.value, 0) + 1
        if verdict is Verdict.SUPERSEDED:
            self._superseded(held, outcome.reason)
            return
        held.outcome, held.ended_at = outcome, self._wall(held, ended)
        if held.began is not None:
            held.started_at = self._wall(held, held.began)
        held.report = report_of(held)
        self._over.append(held)
        if held.began is None:
            return
        if held.ahead and verdict in (Verdict.PROCESSED, Verdict.NOOP):
            self._well.append(held.unit.key)
            return
        self._say(
            "attempt_ended",
            f"attempt {held.unit.attempt} {verdict.value}"
            + (f": {_headline(outcome.reason)}" if outcome.reason else ""),
            held.unit.key,
            warning=verdict is Verdict.FAILED,
        )

    def _wall(self, held: Held, monotonic: float) -> datetime:
        """A moment of our past on the clock of the store's documents."""
        passed = self._time - monotonic
        at = self._now - timedelta(seconds=passed) if passed > 0 else self._now
        return max(at, held.claimed_at)

    def _progressed(self, slot: Slot, progress: Progress, place: int) -> None:
        if place < len(slot.queue):
            slot.queue[place].progress = progress

    def _enforce(self) -> None:
        """Kill what may not run any longer."""
        for index, slot in enumerate(self._slots):
            if not slot.queue or slot.killed:
                continue
            for held in slot.at_work():
                why = self._why_stop(held, slot.certain)
                if why is not None:
                    held.cause = held.cause or why
                    slot.killed = True
                    reason = f"attempt {held.unit.attempt} is killed: {held.cause.reason}"
                    self._say("attempt_killed", reason, held.unit.key, warning=True)
            if slot.killed:
                self._out.append(Kill(index))

    def _why_stop(self, held: Held, certain: bool) -> Outcome | None:
        """Why the slot is to be killed: for this unit's sake only when it runs it for certain."""
        if certain and held.cause is not None:
            return held.cause
        if self._stop_by is not None and self._time >= self._stop_by:
            return Outcome(Verdict.HANDED_BACK, "its worker was stopped")
        if certain and held.limit is not None and self._time >= held.limit:
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
        wish = self._wish()
        if wish is None or self._time < max(wish.at, self._retry_at):
            return
        if wish.limit:
            self._turn_at = self._time + TURN
        offered, quick = list[Delivery](), self._pace.quick
        if wish.offered:
            offered = self._offers.take(max(wish.limit, self._stale), wish.ahead, quick)
            self._passed_over = self._look_is_overdue()
        else:
            self._looked_at, self._passed_over = self._time, False
        units = {each.unit.key: each.unit for each in offered}
        self._claims += 1
        claim = Claim(
            owner=f"{self._id}/{self._claims}",
            now=self._now,
            lease_until=self._now + self._lease,
            limit=wish.limit,
            processes=self._processes,
            keys=tuple(units) if wish.offered else None,
            offered=tuple(units.values()),
            ahead=wish.ahead,
            quick=quick,
        )
        self._claiming = _Claiming(self._time, claim, tuple(offered))
        self._out.append(ClaimUnits(claim))

    def _wish(self) -> _Wish | None:
        """What to claim next; None for no claim now."""
        if self.stopping or self._claiming or self._looking:
            return None
        free = len(self._free())
        if free:
            if self._offers and not (self._passed_over and self._look_is_overdue()):
                return _Wish(self._time, free, self._room(), offered=True)
            # What a look takes whose message is under way, the broker brings for nothing.
            ahead = 0 if self._offers else self._room()
            silence = min(self._offered_at + POLL, self._looked_at + IDLE)
            if not self._offers:  # what is brought again comes in a moment
                silence = max(silence, self._resumed_at + POLL)
            return _Wish(max(self._look_at, silence), free, ahead)
        if (self._dry and not self._offers) or self._time >= self._turn_at:
            return None
        room = self._room()
        if 2 * room <= self._window():
            return None
        if self._offers:  # so few of them wait for a slot, or for more
            enough = 4 * self._offers.ahead(self._pace.quick) >= room
            return _Wish(self._time, 0, room, offered=True) if enough else None
        return _Wish(max(self._time, self._offered_at + POLL), 0, room)

    def _look_is_overdue(self) -> bool:
        return self._time >= max(self._look_at, self._looked_at + IDLE)

    def _window(self) -> int:
        """How many units may be held ahead, for those slots that get on with their work."""
        return self._ahead * self._pace.window() * sum(self._gets_on(slot) for slot in self._slots)

    def _room(self) -> int:
        have = len(self._pool) + sum(len(slot.queue) for slot in self._slots)
        return max(0, self._window() - have)

    def _gets_on(self, slot: Slot) -> bool:
        """Whether it will have time for another unit in a moment."""
        if slot.state is not SlotState.BUSY:
            return slot.state is SlotState.READY
        unit = slot.queue[0].unit
        return (
            unit.process in self._pace.quick
            and not unit.task.alone
            and not slot.slow
            and not slot.killed
        )

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
        self._acknowledge(asked, units, found)
        self.counts.claimed += len(units)
        self.counts.brought += len(units) if asked.offered else 0
        deadline = asked.sent + self._validity
        self._first_deadline = min(self._first_deadline, deadline)
        shared = []
        for unit in units:
            held = Held(unit, asked.claim.now, self._time, deadline)
            if unit.state is UnitState.CLAIMED:
                self._pool.append(held)
            elif unit.task.batch > 1:
                shared.append(held)
            else:
                self._begin([held])
        if shared:
            self._begin_calls(shared)
        if found or asked.claim.keys is None:
            self._looking = not found and len(units) < asked.claim.limit
            self._dry = not found and len(units) < asked.claim.limit + asked.claim.ahead
            self._look_at = self._time

    def _acknowledge(self, asked: _Claiming, units: Sequence[Unit], found: bool) -> None:
        """What the claim took or refused (I14); of one that was only read back, what was found."""
        if not asked.offered or self.stopping:
            return
        if found:
            ours = {unit.key for unit in units}
            settled = [each for each in asked.offered if each.unit.key in ours]
        else:
            settled = decided(asked.offered, asked.claim, units)
            self._stale = 0 if units else min(2 * len(asked.offered), STALE)
        if settled:
            self._out.append(Acknowledge(tuple(settled)))
        if self._healthy:
            left = {each.tag for each in settled}
            self._offers.add(each for each in asked.offered if each.tag not in left)

    def _begin_calls(self, shared: Sequence[Held]) -> None:
        """Begin units of which each call is one attempt at several, as far as they are adjacent."""
        came_along = self._offers.withdraw(held.unit.key for held in shared)
        if came_along:
            self._out.append(Acknowledge(tuple(came_along)))
        held_of = {held.unit.key: held for held in shared}
        for call in calls_of(held.unit for held in shared):
            self._begin([held_of[unit.key] for unit in call])

    def _begin(self, call: Sequence[Held]) -> None:
        """Begin units that are one call."""
        free = self._free()
        if not free or self.stopping or self._time >= call[0].deadline:
            for held in call:
                self._not_started(held)
            return
        self._give(free[0], call)

    def _give(self, index: int, given: Sequence[Held]) -> None:
        slot = self._slots[index]
        if not slot.queue:
            slot.together = given[0].unit.task.batch > 1
            for held in given if slot.together else given[:1]:
                self._start(held, self._time)
        slot.state = SlotState.BUSY
        slot.queue.extend(given)
        self._out.append(Run(index, tuple(held.unit for held in given)))

    def _not_started(self, held: Held) -> None:
        outcome = Outcome(Verdict.HANDED_BACK, "its worker could not start it in time")
        self._over_with(held, outcome, self._time)

    def _fill(self) -> None:
        """Give what was claimed ahead to the slots; hand back what they have no time for."""
        pool = self._pool
        while pool and (self.stopping or self._time >= self._patience_with(pool[0])):
            self._not_started(pool.popleft())
        handful = self._pace.handful()
        slots = [
            index
            for index, slot in enumerate(self._slots)
            if self._gets_on(slot) and 2 * len(slot.queue) < handful
        ]
        for count, index in enumerate(slots):
            share = -(-len(pool) // (len(slots) - count))
            given = self._handful(min(share, handful - len(self._slots[index].queue)), index)
            if given:
                self._give(index, given)

    def _handful(self, count: int, index: int) -> list[Held]:
        """Up to so many of the oldest, for this slot; a command, or a call, only by itself."""
        pool, given = self._pool, list[Held]()
        while pool and len(given) < count:
            if pool[0].cause is not None:
                held = pool.popleft()
                self._over_with(held, held.cause or _LOST, self._time)
                continue
            if not pool[0].unit.task.alone:
                given.append(pool.popleft())
            elif given or self._slots[index].queue:
                break
            else:
                return [pool.popleft()]
        return given

    def _patience_with(self, held: Held) -> float:
        """Until when a unit may wait to be started."""
        return min(held.since + LINGER, held.deadline)

    def _look_ahead(self) -> None:
        """After a claim that found less than it asked for."""
        if self._looking and self._time >= self._retry_at and not self.stopping:
            self._out.append(LookAhead())

    def _next_due(self, at: datetime | None) -> None:
        self._looking = False
        self._look_at = self._time + _poll_wait(at, self._now, self._healthy)

    # the broker

    def _consume(self) -> None:
        """Have what is offered go to others while no slot has time for it."""
        if not self._consuming:
            return
        if not self._occupied():
            self._occupied_at = None
            if self._paused or (self._narrow and self._pace.quick and not self._claiming):
                self._resume()
            return
        if self._occupied_at is None:
            self._occupied_at = self._time
        if (pause_at := self._pause_at()) is not None and self._time >= pause_at:
            self._pause()

    def _occupied(self) -> bool:
        """Whether none of the slots will have time for another unit in a moment."""
        return all(
            slot.state is SlotState.BUSY and (slot.slow or slot.queue[0].unit.task.command)
            for slot in self._slots
        )

    def _pause_at(self) -> float | None:
        """When to give back what was offered; not while a claim is out that names some of it."""
        if self._paused or self._claiming or not self._consuming:
            return None
        return None if self._occupied_at is None else self._occupied_at + OCCUPIED

    def _pause(self) -> None:
        self._paused = True
        self._offers.clear()
        self._out.append(PauseConsuming())

    def _resume(self) -> None:
        if not self._paused:  # to be brought more at a time
            self._pause()
        self._paused, self._narrow = False, not self._pace.quick
        self._resumed_at = self._time if self._healthy else float("-inf")
        self._out.append(ResumeConsuming(len(self._slots) if self._narrow else None))

    def _offered(self, deliveries: Sequence[Delivery]) -> None:
        if self._consuming and not self._paused and deliveries:
            self._offers.add(deliveries)
            self._offered_at = self._time

    def _broker_health(self, healthy: bool) -> None:
        """What was offered over a connection that is gone is offered again over the next."""
        self._consuming, self._healthy = not self.stopping, healthy
        if not healthy:
            self._offers.clear()
            self._offered_at = self._resumed_at = float("-inf")
            self._look_at, self._dry = min(self._look_at, self._time), False

    # renewals

    def _renew(self) -> None:
        if self._renewing or self._time < self._renewal_due():
            return
        self._first_deadline = self._earliest_deadline()
        if self._time < self._renewal_due():
            return
        asked = {id(held) for held, _ in self._reporting}
        held = [each for each in self._ours() if id(each) not in asked]
        if not held:
            return
        until = self._now + self._lease
        renewals = tuple(renewal_of(each, until) for each in held)
        for each in held:
            each.shown = each.progress
        self._renewing = renewals
        self._renewed_at = self._time
        self._out.append(Renew(renewals))

    def _earliest_deadline(self) -> float:
        return min((held.deadline for held in self._ours()), default=float("inf"))

    def _ours(self) -> Iterator[Held]:
        """What is held and not lost: the rest waits only for its end."""
        return (held for held in self._holdings() if held.cause is not _LOST)

    def _renewal_due(self) -> float:
        """All at one time: when the first of them wants it, or one has progress to show."""
        oldest = self._first_deadline - self._validity
        due = oldest + self._renewal
        if any(
            held.progress != held.shown
            for slot in self._slots
            for held in (slot.queue if slot.together else islice(slot.queue, 1))
        ):
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
        self._first_deadline = self._earliest_deadline()

    def _lose(self, held: Held) -> None:
        """It is not ours any more: its attempt is killed; an earlier cause counts no more."""
        held.cause = _LOST

    # reports

    def _hand_in(self) -> None:
        if self._reporting or self._time < self._retry_at:
            return
        if self._well:
            first, last = self._well[0], self._well[-1]
            count = len(self._well)
            self._say("attempts_ended", f"to {last}: {count} quick attempts ended well", first)
            self._well.clear()
        self._reporting = [(held, held.report) for held in self._over if held.report is not None]
        for held in self._unmarked():
            if held.began is not None and self._time >= held.began + MARK:
                unit = begun(held.unit, self._wall(held, held.began))
                self._reporting.append((held, UnitWrite(unit, held.unit.fence)))
        if self._reporting:
            self._out.append(Report(tuple(write for _, write in self._reporting)))

    def _unmarked(self) -> Iterator[Held]:
        """The units at work of which the store does not know it."""
        for slot in self._slots:
            if slot.queue and slot.queue[0].ahead and not slot.killed:
                if slot.queue[0].cause is None:
                    yield slot.queue[0]

    def _reports_answered(self, answers: Sequence[Applied | Refused[Unit]]) -> None:
        self._answered()
        reported, self._reporting = self._reporting, []
        settled: set[int] = set()
        back = False
        for (held, write), answer in zip(reported, answers, strict=True):
            if write is not held.report:
                self._mark_answered(held, write, answer)
                continue
            if isinstance(answer, Refused) and is_still_held(answer.current, held.unit):
                self._stands(held, answer.current)
                continue
            settled.add(id(held))
            back = back or not write.unit.state.terminal
            if isinstance(answer, Applied) or is_ours(answer.current, write.unit):
                self.counts.applied += 1
            else:
                self._superseded(held, _LOST.reason)
        if settled:
            self._over = [held for held in self._over if id(held) not in settled]
            self._out.append(Ring("scheduler"))
        if back:
            self._out.append(Ring("worker"))

    def _mark_answered(self, held: Held, write: UnitWrite, answer: Applied | Refused[Unit]) -> None:
        if isinstance(answer, Applied):
            self._stands(held, write.unit)
        elif is_still_held(answer.current, held.unit):
            self._stands(held, answer.current)
        elif held.report is None:
            self._lose(held)

    def _stands(self, held: Held, unit: Unit | None) -> None:
        """The unit is ours in another state than we took it to be in: so our fence is another."""
        assert unit is not None
        held.unit = unit
        if held.report is not None:
            held.report = report_of(held)

    def _superseded(self, held: Held, reason: str) -> None:
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
        count = sum(len(slot.queue) for slot in self._slots)
        grace = max(by - self._time, 0)
        self._offers.clear()
        if self._consuming:
            self._consuming = False
            self._out.append(StopConsuming())
        self._say("stop", f"stops: {count} units at work have {grace:g} s to finish")

    def _leave(self) -> None:
        if self._stop_by is None:
            return
        if not self._holding() and not self._claiming:
            self._exit(DONE)
        elif self._time >= self._stop_by + PATIENCE:
            self._exit(UNREPORTED)

    def _exit(self, code: int) -> None:
        self._exited = True
        self._out.append(Exit(code))

    # small things

    def _holdings(self) -> list[Held]:
        slots = [held for slot in self._slots for held in slot.queue]
        return [*slots, *self._pool, *self._over]

    def _holding(self) -> bool:
        return bool(self._pool or self._over or any(slot.queue for slot in self._slots))

    def _say(self, action: str, text: str, key: str = "", *, warning: bool = False) -> None:
        self._out.append(Say(action, text, key, warning))

    def _wishes(self) -> Iterable[float]:
        """The times at which `_decide` has something to do."""
        if self._exited:
            return
        for slot in self._slots:
            for held in () if slot.killed else slot.at_work():
                yield held.deadline
                if slot.certain and held.limit is not None:
                    yield held.limit
        for held in self._unmarked():
            if held.began is not None and not self._reporting:
                yield max(held.began + MARK, self._retry_at)
        if self._pool:
            yield self._patience_with(self._pool[0])
        if (pause_at := self._pause_at()) is not None:
            yield pause_at
        if self._holding():
            yield self._renewal_due()
        if self._over or self._unsure or (self._looking and not self.stopping):
            yield self._retry_at
        if (wish := self._wish()) is not None:
            yield max(wish.at, self._retry_at)
        if self._stop_by is not None:
            yield self._stop_by if self._time < self._stop_by else self._stop_by + PATIENCE
        else:
            yield from (slot.restart for slot in self._slots if slot.state is SlotState.DOWN)


_LOST: Final = Outcome(Verdict.SUPERSEDED, "the unit was canceled or taken over")


def _poll_wait(due: datetime | None, now: datetime, healthy: bool) -> float:
    """How long to leave the store alone after a claim that found too little."""
    if due is None:
        return IDLE
    if due <= now:
        return IDLE if healthy else POLL
    return min((due - now).total_seconds(), IDLE)


def _restart_wait(deaths: int) -> float:
    """None after the first death in a row, then doubling."""
    if deaths <= 1:
        return 0.0
    return float(min(RESTART_FIRST * 2 ** min(deaths - 2, 20), RESTART_LONGEST))


def _headline(reason: str) -> str:
    """The last line of a traceback, or the one line of anything else, for the worker's own log."""
    lines = reason.strip().splitlines()
    return lines[-1][:200] if lines else ""
