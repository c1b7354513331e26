"""A whole installation in one thread: schedulers, workers and operators on a virtual clock.

The engine, the scheduler's loop and the worker's protocol are the real ones.  Each program is an
*actor*: a coroutine that reaches the world only through its store, its bell and its clocks.  There
everything can happen to it: it is killed, paused for longer than a lease, answered with an error
before or after the effect, its rings are lost, late or out of order, its clock jumps; and whenever
it waits, the others act.  In half of the worlds a broker (`carrier`) brings the units, and its
messages are lost, doubled, late or out of order, too.  One seed decides all of it, so that a seed
replays exactly.

The store checks every applied write (`invariants`).  Then the faults stop, and everything must come
to its end (L1–L3).  `cases` makes the timetables, `trials` runs many seeds and shrinks a failing
one.
"""

import heapq
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count, pairwise
from math import inf
from random import Random
from traceback import format_exc
from typing import Any, Final, TypeVar

from greenlet import getcurrent, greenlet

from synergy.core.backfills import Backfill, backfills_of, requested
from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.model import (
    Applied,
    Claim,
    Job,
    JobWrite,
    Json,
    Lease,
    Refused,
    Request,
    Unit,
    UnitWrite,
    embryo,
)
from synergy.core.operations import planned_anew
from synergy.core.plans import Place
from synergy.core.states import JobState, UnitState
from synergy.errors import Unreachable
from synergy.ports import Delivery, News, Published
from synergy.reading import Reading
from synergy.scheduler.loop import HOUSEKEEPING, Scheduler, Setting
from synergy.scheduler.sources import SourcesAtOnce
from synergy.stores.following import followed
from synergy.testing.carrier import PROMPT, Carrier, Link
from synergy.testing.cases import Case, Filed
from synergy.testing.invariants import Broken, CheckedStore, Violation
from synergy.worker import messages as at
from synergy.worker.outcomes import Outcome, Verdict, failed
from synergy.worker.protocol import WorkerProtocol
from synergy.worker.wire import HOLD_AFTER, SLOW_AFTER

#: Idle programs look around at most so often (seconds): rings, not polls, make the pace.
DOZE: Final = 2.0
#: Seconds of virtual time after the last fault within which everything must have ended, beside
#: those that the work itself takes, and not counting time in which there was nothing to do.
END_WITHIN: Final = 200.0
#: The wall clocks leap no further beyond the end of the case, whatever is open still: to where a
#: clock was that jumped, and waits that it has written are over.
BEYOND: Final = timedelta(days=4000)
#: Seconds after the faults within which everybody has looked at the clock and at the leases.
NOTICED: Final = 4 * DOZE
#: Requests of which the schedulers keep documents.
_OF_DOCUMENTS: Final = frozenset({"switch", "backfill"})
#: Who does so much without time passing is stuck.
TURNS: Final = 20_000
PROCESSED, NOOP = Verdict.PROCESSED, Verdict.NOOP

Result = TypeVar("Result")
Drawn = TypeVar("Drawn")


class Killed(BaseException):
    """Raised in an actor at the moment it dies; nothing of it reaches the world any more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong, by a name that stays when other faults are left out."""

    id: str
    kind: str
    #: Seconds since the world began.
    at: float
    where: str


@dataclass(slots=True)
class Dice:
    """How often what happens at a boundary of an actor, as cumulated chances."""

    switch: float
    pause: float
    kill: float
    error: float
    cut: float
    jump: float

    @classmethod
    def of(cls, case: Case) -> "Dice":
        """From the case's rates."""
        switch = case.switches
        pause = switch + case.pauses
        kill = pause + case.kills
        error = kill + case.errors
        cut = error + case.cuts
        return cls(switch, pause, kill, error, cut, cut + case.jumps)


class Actor(ABC):
    """A program: its coroutine, its clock, and what may happen to it."""

    role = ""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.chance = Random(f"{world.case.seed}/{name}")
        #: How many lives it has had.
        self.life = 0
        #: Boundaries that it has come to in this life.
        self.steps = 0
        self.alive = False
        #: The wall clock that it sees is off by this much.
        self.skew = timedelta(0)
        self.rung = False
        self.listening = False
        self.paused = False
        #: Until when it cannot reach the store.
        self.cut_until = -inf
        #: When its last pause ended.
        self.resumed_at = -inf
        #: Which of its wake-ups counts.
        self.ticket = 0
        self.coroutine: greenlet | None = None

    @property
    def id(self) -> str:
        """Name of this life."""
        return f"{self.name}.{self.life}"

    # ports.Clock

    def now(self) -> datetime:
        """The wall clock as this program sees it."""
        return self.world.now + self.skew

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self.world.seconds

    # ports.Bell and ports.Listener

    def ring(self, role: str) -> None:
        """Wake the others; a hint that may get lost."""
        self.world.ring(role)

    def listen(self, role: str) -> "Actor":
        """Everybody listens to its own role."""
        return self

    def wait(self, seconds: float) -> bool:
        """Sleep until rung."""
        if not self.rung:
            self.listening = True
            self.sleep(max(seconds, 0.0) if seconds < DOZE / 10 else DOZE)
            while self.alive and not self.rung and self.idles():
                self.sleep(DOZE)
            self.listening = False
        return self.rung

    def idles(self) -> bool:
        """Whether a look at the store would find nothing: such looks are left out."""
        return False

    def fileno(self) -> int:
        """There is none."""
        return -1

    def drain(self) -> None:
        """Forget the rings so far."""
        self.rung = False

    def close(self) -> None:
        """Stop listening."""
        self.listening = False

    # life

    def begin(self) -> None:
        """Come to life."""
        self.life += 1
        self.steps = 0
        self.alive, self.rung, self.listening, self.paused = True, False, False, False
        self.cut_until = -inf
        self.coroutine = greenlet(self._live)
        self.world.tell(self, "starts")
        self.world.wake(self, 0.0)

    def _live(self) -> None:
        end = "ends"
        try:
            self.main()
        except Killed:
            end = "is dead"
        self.alive = False
        self.world.tell(self, end)
        self.world.ended(self)

    @abstractmethod
    def main(self) -> None:
        """What the program does until it ends."""

    def sleep(self, seconds: float) -> None:
        """Let the others act for so long, or until woken."""
        self.world.wake(self, seconds)
        self.world.hub.switch()

    def boundary(self, what: str, *, after: bool, sore: bool = False, alone: bool = False) -> None:
        """Here the program talks to the world: anything may happen now.

        At a `sore` point it happens more often; while it is `alone`, nobody else comes in between.

        Raises:
            Killed: it dies here.
            Unreachable: the store does not answer; `after` tells whether it did what was asked.
        """
        if not self.alive:
            raise Killed
        world = self.world
        self.steps += 1
        world.hasten()
        drawn = self.chance.random()
        if world.seconds < self.cut_until and world.faulty:
            raise Unreachable(f"cut off before {what}")
        if sore:
            drawn *= SORENESS
        dice = world.dice
        if drawn >= dice.jump:
            return
        if alone and drawn < dice.pause:
            return
        if drawn < dice.switch:
            if world.faulty:
                self.sleep(0.05 * drawn / dice.switch)
                if not self.alive:
                    raise Killed
            return
        where = f"{'after' if after else 'before'} {what}"
        if drawn < dice.pause:
            if world.fault(self, "pause", where):
                self.paused = True
                self.sleep(world.detail(self, PAUSES))
                self.paused, self.resumed_at = False, world.seconds
                if not self.alive:
                    raise Killed
        elif drawn < dice.kill:
            if world.fault(self, "kill", where):
                self.alive = False
                raise Killed
        elif drawn < dice.error:
            if world.fault(self, "error", where):
                raise Unreachable(f"no answer {where}")
        elif drawn < dice.cut:
            if world.fault(self, "cut", where):
                self.cut_until = world.seconds + world.detail(self, CUTS)
                raise Unreachable(f"no answer {where}")
        elif world.fault(self, "clock", where):
            self.skew = world.detail(self, SKEWS)


#: What the number drawn at a sore point is multiplied by.
SORENESS: Final = 0.15
#: Pauses in seconds: shorter and longer than the leases of schedulers (4 s) and workers (15 s).
PAUSES: Final = (1.0, 3.0, 5.0, 6.0, 14.5, 16.0, 21.0, 40.0)
#: Seconds for which a program cannot reach the store.
CUTS: Final = (2.0, 10.0, 17.0, 30.0)
#: Where a clock that jumps jumps to (I15).
SKEWS: Final = tuple(
    sign * by
    for by in (
        timedelta(seconds=3),
        timedelta(seconds=17),
        timedelta(hours=1),
        timedelta(days=3653),
    )
    for sign in (1, -1)
)


class Wire:
    """An actor's connection to the store: every call may be late, fail, or be its last.

    In some worlds calls that are made together are one transaction, in the others each is by
    itself: stores may do either.
    """

    url = "world://"

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._store = actor.world.store
        self._author = actor.id if isinstance(actor, WorkerActor) else None
        #: Whether it is within a transaction, in which nobody else reaches the store.
        self._alone = False
        #: What the store held before the first write of the transaction.
        self._before: dict[str, Any] | None = None
        #: Keys that claims have named whose outcome is durable, and those of the transaction.
        self.decided: set[str] = set()
        self._named: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        def read(*args: Any, **kwargs: Any) -> Any:
            self._boundary(name, after=False)
            return method(*args, **kwargs)

        def write(*args: Any, **kwargs: Any) -> Any:
            self._boundary(name, after=False)
            self._remember()
            answer = method(*args, **kwargs)
            self._boundary(name, after=True)
            return answer

        call = read if name.startswith(READS) else write
        setattr(self, name, call)
        return call

    @contextmanager
    def together(self) -> Iterator[None]:
        """All of it or nothing, where the world has transactions."""
        if not self._actor.world.transactions:
            yield
            return
        self._boundary("begin", after=False)
        self._alone = True
        self._named.clear()
        try:
            yield
            self._boundary("commit", after=False)
            self.decided |= self._named
        except BaseException:
            if self._before is not None:
                vars(self._store).update(self._before)
                self._actor.world.tell(self._actor, "what it wrote together is undone")
            raise
        finally:
            self._alone, self._before = False, None
        self._boundary("commit", after=True)

    @property
    def alone(self) -> bool:
        """Whether what it has written last may still be undone."""
        return self._alone

    def _remember(self) -> None:
        # Without faults every transaction is committed.
        if self._alone and self._before is None and self._actor.world.faulty:
            self._before = _contents(self._store)

    def _boundary(self, what: str, *, after: bool, sore: bool = False) -> None:
        self._actor.boundary(what, after=after, sore=sore, alone=self._alone)

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """Others act between any two writes of a batch: it is no transaction."""
        return [self._write("save_jobs", self._store.save_jobs, write) for write in writes]

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """The same."""
        return [self._write("save_units", self._store.save_units, write) for write in writes]

    def claim(self, claim: Claim) -> list[Unit]:
        """One call, as for stores that take many with one statement; each taken is told."""
        self._boundary("claim", after=False)
        self._remember()
        units = self._store.claim(claim)
        along = [unit.key for unit in units if unit.task.batch > 1]
        (self._named if self._alone else self.decided).update(claim.keys or (), along)
        for unit in units:
            self._actor.world.given.add((unit.key, unit.attempt, unit.owner))
            self._actor.world.tell(self._actor, f"claims {unit.key}!{unit.attempt} {unit.state}")
        self._boundary("claim", after=True)
        return units

    def follow(self, after: int, limit: int, known: Container[tuple[str, int]]) -> News:
        """Others act between its steps."""
        return followed(self, after, limit, known)

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """With the lease off, everybody is told that it leads (I13)."""
        if self._actor.world.case.leaseless:
            return Lease(owner=owner, epoch=1, until=until, since=now)
        self._actor.boundary("take_lease", after=False)
        return self._store.take_lease(name, owner, now, until)

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """Hand over."""
        self._actor.boundary("drop_lease", after=False)
        self._store.drop_lease(name, owner, now)

    def _write(self, what: str, method: Callable[[Any], list[Result]], write: Any) -> Result:
        # Between the writes of a request the order matters most.
        sore = isinstance(write, JobWrite) and bool(write.job.holds)
        self._boundary(what, after=False, sore=sore)
        self._remember()
        self._store.author = self._author
        try:
            (answer,) = method((write,))
        finally:
            self._store.author = None
        self._actor.world.tell_write(self._actor, write, answer)
        self._boundary(what, after=True, sore=sore)
        return answer


#: How the calls begin that write nothing.
READS: Final = ("read_", "active_", "open_", "changes", "feed", "next_", "jobs_between", "last_")


def _contents(store: CheckedStore) -> dict[str, Any]:
    """A copy of all that writes change."""
    return {
        name: _copied(value)
        for name, value in vars(store).items()
        if isinstance(value, dict | list | set | int) and name != "_inputs"
    }


def _copied(value: Any) -> Any:
    """With the collections in it, as far as they change."""
    if isinstance(value, dict):
        copied = copy(value)
        for key, item in value.items():
            if isinstance(item, list | set):
                copied[key] = copy(item)
        return copied
    return copy(value)


class SchedulerActor(Actor):
    """A scheduler program."""

    role = "scheduler"
    scheduler: Scheduler | None = None

    def main(self) -> None:
        """The real loop."""
        world = self.world
        self.sources = SourcesAtOnce(world.measure)
        self.wire = Wire(self)
        scheduler = Scheduler(
            Setting(
                store=self.wire,
                bell=self,
                clock=self,
                catalog=world.catalog,
                owner=self.id,
                sources=self.sources,
                publisher=None if world.carrier is None else self,
            )
        )
        self.scheduler = scheduler
        turns = iter(range(self.chance.choice([30, 200, TURNS])))
        try:
            scheduler.run(lambda: not world.over and next(turns, None) is None and world.faulty)
        finally:
            self.scheduler = None  # before its next life begins, which may be looked at, too

    # ports.Publisher

    published = Published()

    def publish(self, units: Sequence[Unit]) -> None:
        """Hand them to the broker: they must stand in the store for certain (I14)."""
        assert self.world.carrier is not None
        self.world.check_written(self, units, may_be_undone=self.wire.alone)
        self.world.carrier.publish(units)

    def flush(self, seconds: float) -> bool:
        """Nobody waits for it here."""
        return True

    @property
    def trouble(self) -> str:
        """Whether the broker is away."""
        assert self.world.carrier is not None
        return "away" if self.world.carrier.away else ""

    # what the world asks

    def idles(self) -> bool:
        """Whether all is seen; with the lease on it must be renewed."""
        leader, store = self.leader, self.world.store
        if leader is None or not self.world.case.leaseless:
            return False
        if self.sources.pending or store._open_requests:
            return False
        if leader._seen is not None and self.now() < leader._seen:
            return False
        wake = leader.engine.wake_at()
        return leader._position == store._last_seq and (wake is None or wake > self.now())

    @property
    def leader(self) -> Scheduler | None:
        """Its scheduler, if that is alive and believes to lead."""
        leads = self.alive and self.scheduler is not None and self.scheduler.leading
        return self.scheduler if leads else None

    def wake_at(self) -> datetime | None:
        """When its engine wants to be woken, by the world's time."""
        leader = self.leader
        wake = None if leader is None else leader.engine.wake_at()
        with suppress(OverflowError):
            return None if wake is None else wake - self.skew
        return None


@dataclass(slots=True)
class _Attempt:
    """An attempt that a slot was given."""

    unit: Unit
    lasts: float
    outcome: Outcome
    crash: bool
    #: Those that are the same call.
    others: tuple["_Attempt", ...] = ()

    def units(self) -> list[Unit]:
        """All that it is for."""
        return [self.unit, *(other.unit for other in self.others)]


@dataclass(slots=True)
class _Slot:
    """A slot's child: it works off what it was given, also while its worker is paused."""

    queue: deque[_Attempt] = field(default_factory=deque)
    #: Since when the first one runs.
    began: float = 0.0
    slow: bool = False

    @property
    def ends(self) -> float:
        """When the first one is over."""
        return self.began + self.queue[0].lasts if self.queue else inf

    @property
    def wake_at(self) -> float:
        """When its worker has something to do about it."""
        return min(self.ends, inf if self.slow or not self.queue else self.began + SLOW_AFTER)


class WorkerActor(Actor):
    """A worker program: the real protocol, with played attempts in its slots."""

    role = "worker"
    #: Those of this life.
    slots: Sequence[_Slot] = ()
    #: Whether the store did not answer.
    unsure = False
    #: Its connection to the broker, whether that was well when it last looked, and whether
    #: something has happened there since.
    link: Link | None = None
    healthy: bool | None = None
    stirred = False

    def begin(self) -> None:
        """Come to life, with nothing in its slots."""
        self.slots = ()
        super().begin()

    def main(self) -> None:
        """Handle what happens, do what is said, sleep until there is more."""
        store = Wire(self)
        protocol = WorkerProtocol(self.id, self.world.case.slots, grace=timedelta(seconds=2))
        slots = [_Slot() for _ in range(self.world.case.slots)]
        self.slots, self.unsure = slots, False
        self._connect()
        events: list[at.Event] = self._brought()
        stop_after = self.monotonic() + self.chance.choice([20.0, 60.0, inf])
        while True:
            if self.monotonic() > stop_after and not protocol.stopping and self.world.faulty:
                self.world.tell(self, "is asked to stop")
                events.append(at.Stop())
            actions = protocol.handle(events, self.now(), self.monotonic())
            events = []
            self.world.hasten()
            questions = [action for action in actions if isinstance(action, at.Question)]
            for action in actions:
                self._do(action, slots, events)
                self._do_at_broker(action, store.decided)
            if questions:
                events += self._ask(store, questions)
            if any(isinstance(action, at.Exit) for action in actions):
                return
            if not events:
                wake = min([protocol.wake_at(), *(slot.wake_at for slot in slots)])
                self._nap(wake - self.monotonic(), bool(protocol.held))
                events = self._happened(slots)

    def running(self) -> list[str]:
        """Keys of the units that its slots are at."""
        at_work = (slot.queue[0] for slot in self.slots if slot.queue)
        return [unit.key for attempt in at_work for unit in attempt.units()]

    def _nap(self, seconds: float, busy: bool) -> None:
        if seconds > 0 and not self.rung and not self.stirred:
            self.listening = True
            self.sleep(seconds if busy else max(seconds, DOZE))
            while not busy and self.alive and self.idles():
                self.sleep(DOZE)
            self.listening = False
        if not self.alive:
            raise Killed

    def idles(self) -> bool:
        """Whether nobody wakes it, nothing is requested, and no answer is missing."""
        woken = self.rung or self.stirred
        return not woken and not self.unsure and not self.world.store._queue

    def _happened(self, slots: list[_Slot]) -> list[at.Event]:
        events: list[at.Event] = []
        for index, slot in enumerate(slots):
            while slot.ends <= self.monotonic():
                events.append(self._ended(index, slot))
            if slot.queue and not slot.slow and self.monotonic() >= slot.wake_at:
                slot.slow = True
                slot.queue = deque([slot.queue[0]])
                events.append(at.Slow(index))
        if self.rung:
            self.rung = False
            events.append(at.Rang())
        return events + self._brought()

    # the broker

    def _connect(self) -> None:
        self.link = self.healthy = None
        if self.world.carrier is not None:
            self.link = self.world.carrier.consume(self._stir)
            self.stirred = True

    def disconnect(self) -> None:
        """It is dead, or wants no more."""
        if self.link is not None:
            self.link.close()
            self.link, self.stirred = None, False

    def _stir(self) -> None:
        self.stirred = True
        self.world.stir(self)

    def _brought(self) -> list[at.Event]:
        events: list[at.Event] = []
        if self.link is not None and self.stirred:
            self.stirred = False
            deliveries, healthy = self.link.receive(), self.link.healthy
            if healthy != self.healthy:
                self.healthy = healthy
                events.append(at.BrokerHealth(healthy))
            if deliveries:
                self.world.tell(self, f"is brought {', '.join(d.unit.key for d in deliveries)}")
                events.append(at.Offered(deliveries))
        return events

    def _do_at_broker(self, action: at.Action, decided: set[str]) -> None:
        match action:
            case at.Acknowledge(deliveries):
                assert self.link is not None
                self.world.check_decided(self, deliveries, decided)
                self.link.acknowledge(deliveries)
            case at.PauseConsuming():
                assert self.link is not None
                self.link.pause()
            case at.ResumeConsuming(window):
                assert self.link is not None
                self.link.resume(window)
            case at.StopConsuming():
                self.disconnect()
            case _:
                pass

    # its slots

    def _ended(self, index: int, slot: _Slot) -> at.Event:
        over = slot.ends
        attempt = slot.queue.popleft()
        self.world.tell(self, f"finishes {attempt.unit.key}!{attempt.unit.attempt}")
        if attempt.crash:
            slot.queue.clear()
            slot.slow = False
            return at.SlotGone(index, "killed by SIGSEGV")
        others = tuple(other.outcome for other in attempt.others)
        event = at.Ended(index, attempt.outcome, slot.began, over, others)
        # After what took long a child waits for leave, else it goes on by itself.
        self._begin(slot, self.monotonic() if attempt.lasts > HOLD_AFTER else over)
        return event

    def _begin(self, slot: _Slot, when: float) -> None:
        slot.began, slot.slow = when, False
        for unit in slot.queue[0].units() if slot.queue else ():
            self.world.begins(self, unit)

    def _do(self, action: at.Action, slots: list[_Slot], events: list[at.Event]) -> None:
        match action:
            case at.StartSlot(slot):
                events.append(at.SlotReady(slot))
            case at.Run(slot, units):
                idle = not slots[slot].queue
                slots[slot].queue.extend(self.world.attempts(self, units))
                if idle:
                    self._begin(slots[slot], self.monotonic())
            case at.Kill(slot):
                if slots[slot].queue and slots[slot].queue[0].others:
                    self.world.tell(self, "kills a call")
                slots[slot].queue.clear()
                slots[slot].slow = False
                events.append(at.SlotGone(slot, "killed"))
            case at.Ring(role):
                self.ring(role)
            case _:
                pass

    def _ask(self, store: Wire, questions: Sequence[at.Question]) -> list[at.Event]:
        try:
            with store.together():
                answers = [self._answer(store, question) for question in questions]
            self.unsure = False
            return answers
        except Unreachable as error:
            self.unsure = True
            return [at.Unanswered(question, str(error)) for question in questions]

    def _answer(self, store: Wire, question: at.Question) -> at.Event:
        match question:
            case at.ClaimUnits(claim):
                return at.Claimed(store.claim(claim))
            case at.FindClaimed(owner):
                return at.Claimed([u for u in store.active_units() if u.owner == owner])
            case at.LookAhead():
                return at.NextDue(store.next_claimable())
            case at.Renew(renewals):
                return at.Renewed(store.renew(renewals))
            case at.Report(writes):
                for write in writes:
                    self.world.check_reported(self, write.unit)
                return at.Reported(store.save_units(writes))


class World:
    """One case, lived through."""

    def __init__(
        self, case: Case, only: frozenset[str] | None = None, *, recording: bool = False
    ) -> None:
        self.case = case
        #: Let only these faults happen; None for all.
        self.only = only
        #: What happened, for people, as far as it is to be kept.
        self.story: list[str] = []
        self.recording = recording
        self.catalog: Catalog = case.catalog
        self.store = CheckedStore(self.catalog, strict=True, alone=case.schedulers == 1)
        self.now = case.begin
        self.seconds = 0.0
        self.dice = Dice.of(case)
        #: Whether what is written together is one transaction.
        self.transactions = Random(f"{case.seed}/store").random() < 0.5
        #: Whether faults happen still.
        self.faulty = True
        #: Whether everything is being taken down.
        self.over = False
        self.faults: list[Fault] = []
        self.hub = getcurrent()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._turns = 0
        self._started: set[tuple[str, int]] = set()
        #: Attempts that claims have taken, and for whom.
        self.given: set[tuple[str, int, str | None]] = set()
        self._restart = Random(f"{case.seed}/restarts")
        self._bell = Random(f"{case.seed}/bell")
        self.schedulers = [SchedulerActor(self, f"s{n}") for n in range(case.schedulers)]
        self.workers = [WorkerActor(self, f"w{n}") for n in range(case.workers)]
        self.actors: list[Actor] = [*self.schedulers, *self.workers]
        #: The broker, where there is one.
        self.carrier: Carrier | None = None
        chance = Random(f"{case.seed}/broker")
        if chance.random() < 0.5:
            self.carrier = Carrier(chance, self._at, self.fault)

    # the course of things

    def run(self) -> Violation | None:
        """Live through the case; the first violation, None when the promise was kept."""
        with _silence():
            try:
                for actor in self.actors:
                    self._at(self._restart.uniform(0, 0.3), actor.begin)
                for filed in self.case.requests:
                    self._at(filed.after, partial(self._file, filed))
                self._pass(until=self.case.calm_after)
                self._calm()
                self._pass(until=self.seconds + self._noticed())
                self._finish()
            except Broken as broken:
                return broken.violation
            except Exception as error:
                self.story += format_exc().splitlines()
                return Violation("crash", f"{type(error).__name__}: {error}")
            finally:
                self._take_down()
        return None

    def _noticed(self) -> float:
        """Seconds after which everybody has seen what others did: the feed does not tell of
        documents, which are looked at now and then."""
        by_documents = any(filed.action in _OF_DOCUMENTS for filed in self.case.requests)
        return HOUSEKEEPING.total_seconds() + NOTICED if by_documents else NOTICED

    def _finish(self) -> None:
        """No faults any more: everything ends, in the right state (L1–L3, I1, I4, I20)."""
        for round_ in range(8):
            self._settle()
            unresolved = [job for job in self._unfinished() if job.state is JobState.FAILED]
            if not unresolved:
                break
            for job in unresolved:
                self._ask(
                    Request(
                        id=f"last{round_}-{job.key}",
                        action="reprocess",
                        process=job.process,
                        starts=(job.interval.start,),
                        filed_at=self.now,
                    )
                )
        until = self.seconds + 3 * DOZE  # whoever else leads has seen it by then, too
        while self.seconds < until:
            self._next()
        self._check_end()

    def _settle(self) -> None:
        """Let everything happen that can happen."""
        count = sum(map(len, self.case.intervals.values()))
        longest = max(self.case.durations)
        within = END_WITHIN + 3 * count * longest
        by = self.seconds + within
        while True:
            if self._heap[0][0] > self.seconds and self._resting():
                if self._nothing_ahead():
                    return
                if self._leap():
                    by = self.seconds + within
            self._next()
            late = self.seconds > by and self.seconds > by + self._fired() * 3 * longest
            if late or self.now > self.case.end + BEYOND:
                self._found("L1", f"no end: {self._open_ends()}")

    def _fired(self) -> int:
        """How many firings there were: as clocks leap, there may be years of them to serve."""
        return sum(len(self.store._job_starts.get(name, ())) for name in self.case.catalog.freeruns)

    def _pass(self, until: float) -> None:
        """Let the actors act until an instant of the world's own clock, or all is done."""
        filed = max((each.after for each in self.case.requests), default=0.0)
        while self._heap[0][0] <= until:
            if self._heap[0][0] > self.seconds and self._resting():
                if self.faulty and self._nothing_ahead() and self.seconds > filed:
                    return
                self._leap()
            self._next()

    def _next(self) -> None:
        """One step of one actor."""
        when, _, act = heapq.heappop(self._heap)
        if when > self.seconds:
            self.now += timedelta(seconds=when - self.seconds)
            self.seconds = when
            self._turns = 0
        self.hasten()
        act()

    def hasten(self) -> None:
        """So much is done at one instant only by who does it for ever."""
        self._turns += 1
        if self._turns > TURNS:
            self._found("L1", "somebody acts for ever, and no time passes")

    def _resting(self) -> bool:
        """Whether there is nothing to do now, so that only time brings something."""
        store = self.store
        if store._open_requests:
            return False
        soon = self.now + timedelta(seconds=DOZE)
        for key in store._active_units:
            unit = store._units[key]
            if unit.owner is not None:
                if self._is_alive(unit.owner):
                    return False
            elif (unit.not_before or self.now) < soon:
                return False
        return any(
            leader._position == store._last_seq
            for actor in self.schedulers
            if actor.listening and (leader := actor.leader) is not None
        )

    def _is_alive(self, token: str) -> bool:
        return any(worker.alive and token.startswith(f"{worker.id}/") for worker in self.workers)

    def _wishes(self) -> list[datetime]:
        """When something wants to happen."""
        wishes = [wake for actor in self.schedulers if (wake := actor.wake_at()) is not None]
        units = (self.store._units[key] for key in self.store._active_units)
        waits = [each.not_before for each in units if each.owner is None]
        return [*wishes, *filter(None, waits)]

    def _nothing_ahead(self) -> bool:
        at_work = bool(self.store._active_units)
        return not at_work and all(wish > self.case.end for wish in self._wishes())

    def _leap(self) -> bool:
        """Let the time pass until something falls due; False where that is now.

        For the wall clocks only, as when all boxes sleep: what is idle has no other use for time.
        """
        target = min(self._wishes(), default=self.now)
        # What a clock that is years off waits for is waited for only when the clock is right.
        beyond = target > self.case.end and (self.faulty or not self.store._active_units)
        if target <= self.now or beyond:
            return False
        if self.recording:
            self.story.append(f"… {target - self.now} pass …")
        self.now = target
        return True

    def _calm(self) -> None:
        """The faults stop: clocks are right again, and who is paused goes on."""
        self.faulty = False
        if self.carrier is not None:
            self.carrier.calm()
        for actor in self.actors:
            actor.skew = timedelta(0)
            if actor.paused:
                self.wake(actor, 0.1)
        if self.recording:
            self.story.append("— no more faults —")

    def _take_down(self) -> None:
        self.over = True
        for actor in self.actors:
            actor.alive = False
            while actor.coroutine is not None and actor.coroutine:
                actor.coroutine.throw(Killed)

    # for the actors

    def wake(self, actor: Actor, seconds: float) -> None:
        """Let an actor go on in so many seconds."""
        actor.ticket += 1
        ticket, life = actor.ticket, actor.life

        def go_on() -> None:
            if actor.ticket == ticket and actor.life == life and actor.coroutine is not None:
                actor.coroutine.switch()

        heapq.heappush(self._heap, (self.seconds + seconds, next(self._order), go_on))

    def ended(self, actor: Actor) -> None:
        """A program is over: somebody starts it again in a while."""
        if isinstance(actor, WorkerActor):
            actor.disconnect()
        if not self.over:
            wait = self._restart.choice([0.05, 0.5, 2.0, 6.0, 18.0]) if self.faulty else 0.1
            self._at(wait, actor.begin)

    def ring(self, role: str) -> None:
        """A hint: it may be lost, late, and out of order."""
        for actor in self.actors:
            if actor.role == role and actor.alive:
                drawn = self._bell.random()
                if self.faulty and drawn < self.case.lost_rings:
                    continue
                late = PROMPT if drawn < 0.9 or not self.faulty else self._bell.uniform(0, 0.3)
                self._at(late, partial(self._rung, actor))

    def stir(self, actor: Actor) -> None:
        """Wake an actor, in a moment, for what has arrived."""
        self._at(PROMPT, partial(self._rouse, actor))

    def _rung(self, actor: Actor) -> None:
        actor.rung = True
        self._rouse(actor)

    def _rouse(self, actor: Actor) -> None:
        if actor.listening and actor.alive and actor.coroutine is not None:
            actor.ticket += 1
            actor.coroutine.switch()

    def fault(self, actor: Actor | Carrier, kind: str, where: str) -> bool:
        """Whether the fault that was drawn happens."""
        if not self.faulty:
            return False
        name = f"{actor.id}:{actor.steps}"
        if self.only is not None and name not in self.only:
            return False
        self.faults.append(Fault(name, kind, self.seconds, where))
        self.tell(actor, f"✗ {kind} {where}")
        return True

    def detail(self, actor: Actor, choices: Sequence[Drawn]) -> Drawn:
        """How bad a fault is: drawn apart, so that one left out changes nothing else."""
        return Random(f"{self.case.seed}/{actor.id}:{actor.steps}").choice(choices)

    def attempt(self, unit: Unit) -> _Attempt:
        """How an attempt will come out: decided by its name, not by who runs it or when."""
        lasts, outcome, chance = self._result(unit)
        crash = False
        drawn = chance.random()
        if self.faulty and drawn < self.case.failures:
            outcome = failed("boom")
            crash = drawn < self.case.failures / 4
        elif drawn > 0.9:
            outcome = Outcome(Verdict.NOOP, "nothing there")
        elif self.faulty and drawn > 0.86:
            outcome = Outcome(
                Verdict.RETRY, "later", after=timedelta(seconds=chance.choice([0, 3]))
            )
        elif self.faulty and drawn > 0.85:
            outcome = Outcome(Verdict.GIVE_UP, "useless")
        return _Attempt(unit, lasts, outcome, crash)

    def attempts(self, actor: Actor, units: Sequence[Unit]) -> list[_Attempt]:
        """What a slot does that is told to run these: one by one, or as one call."""
        made = [self.attempt(unit) for unit in units]
        if units[0].task.batch == 1:
            return made
        self._check_call(actor, units)
        if self.recording and len(units) > 1:
            self.tell(actor, f"calls for {len(units)} intervals")
        first, *others = made
        fails = [each for each in made if each.outcome.verdict not in (PROCESSED, NOOP)]
        if fails or first.crash:  # then all come out like it
            first = replace(first, outcome=fails[0].outcome, crash=any(e.crash for e in fails))
            others = [replace(each, outcome=first.outcome) for each in others]
        return [replace(first, others=tuple(others))]

    def _check_call(self, actor: Actor, units: Sequence[Unit]) -> None:
        """One call is for first attempts at adjacent intervals of one process (I21)."""
        adjacent = all(
            (one.process, one.interval.end) == (other.process, other.interval.start)
            for one, other in pairwise(units)
        )
        first = len(units) == 1 or all(unit.attempt == 1 for unit in units)
        if not (adjacent and first and len(units) <= units[0].task.batch):
            keys = ", ".join(f"{unit.key}!{unit.attempt}" for unit in units)
            self._found("I21", f"{actor.id} calls for what does not go together: {keys}")

    def check_reported(self, actor: Actor, unit: Unit) -> None:
        """A unit comes out as its own attempt did, whatever was one call with it (I21)."""
        made = self._result(unit)[1]
        if unit.state is UnitState.PROCESSED and unit.fingerprint != made.fingerprint:
            self._found("I21", f"{actor.id} reports of {unit.key} what is another's result")

    def _result(self, unit: Unit) -> tuple[float, Outcome, Random]:
        """How long an attempt lasts and what it makes, if it does, and the dice for the rest."""
        chance = Random(f"{self.case.seed}/{unit.key}/{unit.attempt}")
        lasts = chance.choice(self.case.durations)
        made = Outcome(Verdict.PROCESSED, fingerprint=chance.choice(FINGERPRINTS))
        return lasts, made, chance

    def begins(self, actor: Actor, unit: Unit) -> None:
        """An attempt starts to run: never twice under one number, never beside another one.

        Where clocks are right, a worker that can act has stopped before anybody else starts (D4).
        """
        place = (unit.key, unit.attempt)
        if (*place, unit.owner) not in self.given:
            self._found("I21", f"{actor.id} runs attempt {unit.attempt} of {unit.key} unclaimed")
        if place in self._started:
            self._found("I19", f"{actor.id} runs attempt {unit.attempt} of {unit.key} again")
        self._started.add(place)
        for other in () if self.case.jumps else self.workers:
            acts = other.alive and not other.paused and self.seconds - other.resumed_at > 1.0
            if acts and other is not actor and unit.key in other.running():
                self._found("I5", f"{actor.id} starts {unit.key}, which {other.id} runs still")
        if self.recording:
            self.tell(actor, f"runs {unit.key}!{unit.attempt}")

    def check_written(self, actor: Actor, units: Sequence[Unit], *, may_be_undone: bool) -> None:
        """What is published stands in the store, and for certain (I14)."""
        for unit in units:
            if may_be_undone or unit.key not in self.store._units:
                self._found("I14", f"{actor.id} publishes {unit.key}, which may not be written")
        if self.recording:
            self.tell(actor, f"publishes {', '.join(unit.key for unit in units)}")

    def check_decided(
        self, actor: Actor, deliveries: Sequence[Delivery], decided: set[str]
    ) -> None:
        """What is acknowledged has been named by a claim whose outcome is durable (I14)."""
        for delivery in deliveries:
            if delivery.unit.key not in decided:
                self._found("I14", f"{actor.id} acknowledges {delivery.unit.key} without a claim")

    def measure(self, source: str, interval: Interval) -> tuple[Json, Json] | None:
        """The source of recomputing processes."""
        if not self.case.grows:
            return (1, 2)
        drawn = Random(f"grows/{self.case.seed}/{interval.label}")
        late = [interval.end + timedelta(hours=drawn.uniform(0, 36)) for _ in range(2)]
        return (1, 2 + sum(self.now > instant for instant in late))

    # operators

    def _file(self, filed: Filed) -> None:
        options = dict(filed.options)
        if filed.only:
            options["only"] = True
        request = Request(
            id=filed.id,
            action=filed.action,
            process=filed.process,
            starts=filed.starts,
            filed_at=self.now,
            options=options,
            of=filed.of,
            state=filed.state,
        )
        if filed.state == "planned":
            timetable = Reading(self.store, self.catalog).timetable
            made = planned_anew(timetable, request, self._named(request), self.now)
            request = replace(request, options={**options, **made.options()})
        self._ask(request)

    def _named(self, request: Request) -> list[Place]:
        if request.action == "backfill":
            backfill = requested(self.catalog, request)
            assert isinstance(backfill, Backfill)
            return [*backfill.targets(self.catalog)]
        calendar = self.catalog.processes[request.process].calendar
        return [(request.process, calendar.starting_at(start)) for start in request.starts]

    def _ask(self, request: Request) -> None:
        if self.recording:
            names = ", ".join(f"{start:%m-%dT%H:%M}" for start in request.starts)
            what = request.of or f"{request.process} {names}"
            self._note("operator", f"{request.state} {request.id}: {request.action} {what}")
        self.store.file_request(request)
        self._at(0.001, lambda: self.ring("scheduler"))

    # the end

    def _unfinished(self) -> list[Job]:
        return [
            job
            for name in self.catalog.processes
            for interval in self.case.intervals[name]
            if not (job := self._stored(name, interval)).state.finished
        ]

    def _stored(self, process: str, interval: Interval) -> Job:
        derived = embryo(process, interval)
        return self.store._jobs.get(derived.key, derived)

    def _open_ends(self) -> str:
        units = [f"{unit.key} {unit.state}" for unit in self.store.active_units()]
        jobs = [f"{job.key} {job.state}" for job in self._unfinished()]
        return "; ".join([*units[:4], *jobs[:4], *list(self.store._open_requests)[:3]])

    def _check_end(self) -> None:
        store = self.store
        unfinished = self._unfinished()
        if unfinished:
            self._found("L1", f"never finished: {self._open_ends()}")
        for name in self.catalog.processes:
            for interval in self.case.intervals[name]:
                self._check_consumed(self._stored(name, interval))
                self._check_marked(self._stored(name, interval))
        if store._open_requests:
            self._found("L3", f"requests are left: {list(store._open_requests)}")
        held = [job.key for job in store.active_jobs() if job.holds]
        if held:
            self._found("L3", f"holds are left on {held}")
        units = [unit.key for unit in store.active_units()]
        if units:
            self._found("L3", f"units are left: {units}")
        documents = store.read_documents("backfills")
        going = [key for key, each in backfills_of(documents).items() if not each.over]
        if going:
            self._found("L3", f"backfills are left: {going}")
        self._check_feed()
        self._check_timetables()
        self._check_firings()

    def _check_consumed(self, job: Job) -> None:
        """I4 and L2: what a result was made from is what stands."""
        if job.state in (JobState.PROCESSED, JobState.NOOP):
            stands = {
                key: generation
                for _, key in self.store.inputs(job.process, job.interval)
                if (generation := self.store._jobs[key].generation) > 1
            }
            if job.consumed != stands and not job.outdated:
                self._found("I4", f"{job.key} consumed {job.consumed}, but {stands} stands")

    def _check_marked(self, job: Job) -> None:
        """What is built on what is marked stale is marked itself, and nobody is without a cause."""
        if job.state in (JobState.PROCESSED, JobState.NOOP):
            inputs = self.store.inputs(job.process, job.interval)
            marked = [key for _, key in inputs if self.store._jobs[key].outdated]
            if marked and not job.outdated:
                self._found("L3", f"{job.key} is not marked stale, and built on {marked[0]}")
            if self.case.grows and job.outdated and not marked and not job.forced:
                self._found("L3", f"{job.key} is marked stale, and built on nothing that is")

    def _check_feed(self) -> None:
        """Every applied transition stands in the feed once, in order."""
        seen: dict[tuple[str, str], int] = {}
        for entry in self.store.feed(0, 1 << 30):
            place = (entry.kind, entry.key)
            if entry.transition.version <= seen.get(place, 0):
                self._found("I20", f"{entry.key} version {entry.transition.version} twice")
            seen[place] = entry.transition.version
        for key, job in self.store._jobs.items():
            if seen.get(("job", key)) != job.version:
                self._found("I20", f"the feed misses {key} version {job.version}")

    def _check_timetables(self) -> None:
        """What the leaders believe, and what is read anew, is what stands (I20)."""
        tables = [Reading(self.store, self.catalog).timetable]
        tables += [
            leader.engine.timetable
            for actor in self.schedulers
            if (leader := actor.leader) is not None
        ]
        for name in self.catalog.processes:
            for interval in self.case.intervals[name]:
                job = self._stored(name, interval)
                for table in tables:
                    if table.ledgers[name].at(interval.start) != job.standing:
                        self._found("I20", f"{job.key} is not in the ledger as it stands")

    def _check_firings(self) -> None:
        """I12: the key of a firing is its instant; under policy ``all`` none is missing."""
        for name, freerun in self.catalog.freeruns.items():
            served = {job.interval.start for job in self.store.last_jobs(name, 10_000)}
            if freerun.misfire == "all" and served and not self.case.jumps:
                instant = freerun.trigger.next_after(min(served))
                while instant is not None and instant < max(served):
                    if instant not in served:
                        self._found("I12", f"{name} did not fire at {instant}")
                    instant = freerun.trigger.next_after(instant)

    def _found(self, invariant: str, text: str) -> None:
        raise Broken(Violation(invariant, text))

    @property
    def transitions(self) -> int:
        """How many were applied."""
        return self.store._last_seq

    # the story

    def tell(self, actor: Actor | Carrier, text: str) -> None:
        """A line of the story."""
        if self.recording:
            self._note(actor.id, text)

    def tell_write(self, actor: Actor, write: JobWrite | UnitWrite, answer: object) -> None:
        """A write, and how the store took it."""
        if not self.recording:
            return
        document = write.job if isinstance(write, JobWrite) else write.unit
        made = document.transitions[-1] if document.transitions else None
        if made is None:
            text = f"requests {document.key}"
        else:
            what = made.after if made.before == made.after else f"{made.before} → {made.after}"
            text = f"{document.key} v{document.version} g{document.generation}: {what}"
            text += f" ({made.reason})" if made.reason else ""
        if isinstance(write, JobWrite) and write.job.holds:
            text += f" held by {', '.join(write.job.holds)}"
        refused = "" if isinstance(answer, Applied) else "refused: "
        self._note(actor.id, refused + text)

    def _note(self, who: str, text: str) -> None:
        self.story.append(f"{self.seconds:10.3f}  {self.now:%m-%d %H:%M:%S}  {who:<8} {text}")

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.seconds + seconds, next(self._order), act))


#: What workers declare of their results: mostly the same, so that much is kept.
FINGERPRINTS: Final = (None, *["a"] * 8, "b")


@contextmanager
def _silence() -> Iterator[None]:
    """The programs' own logs would drown everything."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
