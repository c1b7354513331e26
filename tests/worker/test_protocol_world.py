"""Two workers' protocols on one store and broker, under silences, pauses, deaths, cancelations.

Whatever happens, no attempt runs in two places that are awake or is started twice, no worker that
is awake runs an attempt beyond its deadline, no message is acknowledged before its unit was claimed
or refused, nobody asks to be called again at once for ever, and when the faults stop every unit
ends.
"""

import select
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synergy.brokers.memory import MemoryBroker
from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Task, Unit, UnitWrite
from synergy.core.recovery import after_lost_lease, canceled
from synergy.core.states import UnitState
from synergy.ports import Consumer
from synergy.stores import open_store
from synergy.worker import messages as at
from synergy.worker.messages import Action, Event
from synergy.worker.outcomes import Outcome, Verdict, failed
from synergy.worker.protocol import PATIENCE, WorkerProtocol
from synergy.worker.wire import SLOW_AFTER

START = datetime(2026, 11, 20, tzinfo=UTC)
HOURS = Calendar(Granularity.HOURLY)
OUTCOMES = (
    Outcome(Verdict.PROCESSED, count=1),
    Outcome(Verdict.NOOP),
    Outcome(Verdict.RETRY, after=timedelta(seconds=2)),
    failed("boom"),
)


class Box:
    """One worker: its protocol, what its slots were given, and how its store answers."""

    def __init__(self, name: str, slots: int = 2, consumer: Consumer | None = None) -> None:
        self.protocol = WorkerProtocol(name, slots, grace=timedelta(seconds=3))
        self.consumer = consumer
        self.healthy: bool | None = None
        #: Keys that a claim has named which the store has decided.
        self.decided: set[str] = set()
        #: The first one runs, since its time.
        self.queues: dict[int, deque[Unit]] = {slot: deque() for slot in range(slots)}
        self.began = dict.fromkeys(self.queues, 0.0)
        self.slow: set[int] = set()
        self.store = "fine"
        self.paused = False
        self.code: int | None = None
        self.waiting: list[Event] = []

    @property
    def running(self) -> dict[int, Unit]:
        return {slot: queue[0] for slot, queue in self.queues.items() if queue}

    def call(self, slot: int) -> list[Unit]:
        """What it runs: of a process with a batch, all that it was given."""
        queue = self.queues[slot]
        return list(queue) if queue and queue[0].task.batch > 1 else list(queue)[:1]

    def slow_at(self) -> float:
        """When the next slot will be seen to take long."""
        fronts = self.running.keys() - self.slow
        return min((self.began[slot] + SLOW_AFTER for slot in fronts), default=inf)

    def wake_at(self) -> float:
        return 0.0 if self.brings() else min(self.protocol.wake_at(), self.slow_at())

    def brings(self) -> bool:
        """Whether the broker has something new."""
        return self.consumer is not None and bool(select.select([self.consumer], [], [], 0)[0])

    def brought(self) -> Iterator[Event]:
        """What the broker has brought since."""
        if self.consumer is not None and self.brings():
            deliveries = self.consumer.receive()
            if self.healthy != self.consumer.healthy:
                self.healthy = self.consumer.healthy
                yield at.BrokerHealth(self.healthy)
            if deliveries:
                yield at.Offered(deliveries)


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.store = open_store("memory://")
        self.units: list[Unit] = []
        self.names = 0
        self.started: set[tuple[str, int]] = set()
        self.broker = MemoryBroker()
        self.publisher = self.broker.publisher()
        self.boxes = [self.box(), self.box()]
        for box in self.boxes:
            self.settle(box)

    def box(self) -> Box:
        self.names += 1
        box = Box(f"w{self.names}", consumer=self.broker.consume("pqb", 8))
        box.healthy = not self.publisher.trouble
        box.waiting.append(at.BrokerHealth(box.healthy))
        return box

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.time)

    # what happens

    @rule(
        limit=st.sampled_from([None, 1, 30]), process=st.sampled_from("pq"), brought=st.booleans()
    )
    def request(self, limit: int | None, process: str, brought: bool) -> None:
        unit = self.add(process, limit)
        if brought:
            self.publisher.publish([unit])
        self.advance(1.2)

    @rule(count=st.sampled_from([3, 30]), box=st.integers(0, 1), copies=st.integers(0, 2))
    def herd(self, count: int, box: int, copies: int) -> None:
        """Many units of one process, of which some are claimed at once."""
        units = [self.add("p") for _ in range(count)]
        for _ in range(copies):
            self.publisher.publish(units)
        self.ring(box)

    @rule(count=st.sampled_from([2, 5, 12]), box=st.integers(0, 1), brought=st.booleans())
    def batch(self, count: int, box: int, brought: bool) -> None:
        """Units of one process that are called for several at once."""
        units = [self.add("b", batch=5) for _ in range(count)]
        if brought:
            self.publisher.publish(units)
        self.ring(box)

    @rule()
    def broker_leaves(self) -> None:
        self.broker.leave("gone")

    @rule()
    def broker_comes_back(self) -> None:
        self.broker.come_back()

    @rule()
    def broker_is_wiped(self) -> None:
        self.broker.wipe()

    @rule(box=st.integers(0, 1), count=st.sampled_from([3, 30]))
    def quick(self, box: int, count: int) -> None:
        """What it was given is over in no time."""
        for _ in range(count):
            for slot in list(self.boxes[box].running):
                self.end(box, OUTCOMES[0], slot)
            self.advance(0.0005)

    def add(
        self, process: str, limit: int | None = None, max_attempts: int = 1000, batch: int = 1
    ) -> Unit:
        unit = Unit(
            process=process,
            interval=HOURS.shift(HOURS.containing(START), len(self.units)),
            generation=1,
            task=Task(
                entry="m:f",
                max_attempts=max_attempts,
                backoff=timedelta(0),
                time_limit=None if limit is None else timedelta(seconds=limit),
                batch=batch,
            ),
            created_at=self.now,
        )
        self.units.append(unit)
        self.store.save_units([UnitWrite(unit, None)])
        return unit

    @rule(box=st.integers(0, 1))
    def ring(self, box: int) -> None:
        self.tell(self.boxes[box], at.Rang())

    @rule(seconds=st.sampled_from([0.01, 0.03, 0.3, 1.0, 4.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(box=st.integers(0, 1), outcome=st.sampled_from(OUTCOMES), slot=st.integers(0, 1))
    def end(self, box: int, outcome: Outcome, slot: int) -> None:
        there = self.boxes[box]
        if there.queues[slot]:
            ended = at.Ended(slot, outcome, there.began[slot], self.time)
            for _ in there.call(slot):
                there.queues[slot].popleft()
            self.begin(there, slot)
            self.tell(there, ended)

    @rule(box=st.integers(0, 1), slot=st.integers(0, 1))
    def slot_dies(self, box: int, slot: int) -> None:
        if self.boxes[box].queues[slot]:
            self.boxes[box].queues[slot].clear()
            self.boxes[box].slow.discard(slot)
            self.tell(self.boxes[box], at.SlotGone(slot, "killed by SIGKILL"))

    @rule(box=st.integers(0, 1), manner=st.sampled_from(["fine", "deaf", "mute"]))
    def store_answers(self, box: int, manner: str) -> None:
        self.boxes[box].store = manner

    @rule(box=st.integers(0, 1), manner=st.sampled_from(["deaf", "mute"]))
    def outage(self, box: int, manner: str) -> None:
        self.boxes[box].store = manner
        self.advance(16)
        self.nobody_who_is_awake_runs_beyond_a_deadline()
        self.recover()
        self.advance(2)
        self.boxes[box].store = "fine"

    @rule(box=st.integers(0, 1), seconds=st.sampled_from([4.0, 15.0, 30.0]))
    def pause(self, box: int, seconds: float) -> None:
        self.boxes[box].paused = True
        self.advance(seconds)
        self.recover()
        self.advance(2)
        self.boxes[box].paused = False
        self.tell(self.boxes[box])

    @rule(number=st.integers(0, 300))
    def cancel(self, number: int) -> None:
        for unit in self.store.active_units()[number : number + 1]:
            self.store.save_units([UnitWrite(canceled(unit, self.now, "reopened"), unit.fence)])

    @rule()
    def recover(self) -> None:
        for unit in self.store.active_units():
            if unit.lease_until is not None and unit.lease_until <= self.now:
                self.store.save_units([UnitWrite(after_lost_lease(unit, self.now), unit.fence)])

    @rule(box=st.integers(0, 1))
    def stop(self, box: int) -> None:
        self.tell(self.boxes[box], at.Stop())
        self.advance(10)
        assert self.boxes[box].code is not None
        self.restart(box)

    @rule(box=st.integers(0, 1))
    def restart(self, box: int) -> None:
        """It is killed, and another takes its place."""
        self.leave(self.boxes[box])
        self.boxes[box] = self.box()
        self.settle(self.boxes[box])

    def leave(self, box: Box) -> None:
        """With it goes its connection."""
        if box.consumer is not None:
            box.consumer.close()
            box.consumer = None

    # what is always so

    @invariant()
    def no_two_who_are_awake_run_the_same_unit(self) -> None:
        awake = [box for box in self.boxes if not box.paused]
        keys = [unit.key for box in awake for slot in box.queues for unit in box.call(slot)]
        assert len(keys) == len(set(keys))

    @invariant()
    def nobody_who_is_awake_runs_beyond_a_deadline(self) -> None:
        for box in self.boxes:
            for slot in () if box.paused else box.running:
                deadline = box.protocol.stop_at(slot)
                assert deadline is not None
                assert self.time < deadline + 1e-6

    def teardown(self) -> None:
        for box in self.boxes:
            box.paused, box.store = False, "fine"
            self.settle(box)
        for box in self.boxes:
            if box.protocol.stopping:
                self.leave(box)
        self.boxes = [self.box() if box.protocol.stopping else box for box in self.boxes]
        for count in range(3000):
            if not self.store.active_units() and not any(b.protocol.held for b in self.boxes):
                break
            self.advance(0.4 if count % 10 == 0 else 0.001)
            self.recover()
            for number, box in enumerate(self.boxes):
                for slot in list(box.running):
                    self.end(number, OUTCOMES[0], slot)
        assert self.store.active_units() == []
        for box in self.boxes:
            assert box.protocol.held == []
            self.tell(box, at.Stop())
            self.advance(PATIENCE / 2)
            assert box.code == at.DONE
        self.broker.close()

    # how it happens

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while True:
            awake = [b for b in self.boxes if not b.paused and b.code is None]
            wake = min((max(b.wake_at(), self.time) for b in awake), default=end)
            self.time = min(wake, end)
            for box in awake:
                if box.wake_at() <= self.time:
                    self.settle(box)
            if wake >= end:
                return

    def begin(self, box: Box, slot: int) -> None:
        """The slot goes on by itself with the next of what it was given."""
        box.slow.discard(slot)
        box.began[slot] = self.time
        for unit in box.call(slot):
            assert (unit.key, unit.attempt) not in self.started
            self.started.add((unit.key, unit.attempt))

    def see_slow(self, box: Box) -> Iterator[Event]:
        for slot in box.running:
            if slot not in box.slow and self.time >= box.began[slot] + SLOW_AFTER:
                box.slow.add(slot)
                box.queues[slot] = deque(box.call(slot))
                yield at.Slow(slot)

    def tell(self, box: Box, *events: Event) -> None:
        box.waiting += events
        self.settle(box)

    def settle(self, box: Box) -> None:
        """Let it act until it waits; at once when it is awake."""
        rounds = 0
        while not box.paused and box.code is None:
            events, box.waiting = [*box.waiting, *box.brought(), *self.see_slow(box)], []
            actions = box.protocol.handle(events, self.now, self.time)
            box.waiting = [event for action in actions for event in self.do(box, action)]
            rounds += 1
            assert rounds < 50, actions
            if not box.waiting and not box.brings():
                assert box.code is not None or box.wake_at() > self.time
                return

    def do(self, box: Box, action: Action) -> Iterator[Event]:
        match action:
            case at.StartSlot(slot):
                yield at.SlotReady(slot)
            case at.Run(slot, units):
                assert slot not in box.slow
                idle = not box.queues[slot]
                box.queues[slot].extend(units)
                if idle:
                    self.begin(box, slot)
            case at.Kill(slot):
                box.queues[slot].clear()
                box.slow.discard(slot)
                yield at.SlotGone(slot, "killed")
            case at.Exit(code):
                assert not box.running
                box.code = code
            case at.Acknowledge(deliveries):
                assert {each.unit.key for each in deliveries} <= box.decided
                assert box.consumer is not None
                box.consumer.acknowledge(deliveries)
            case at.PauseConsuming():
                assert box.consumer is not None
                box.consumer.pause()
            case at.ResumeConsuming(window):
                assert box.consumer is not None
                box.consumer.resume(window)
            case at.StopConsuming():
                self.leave(box)
            case at.Say() | at.Ring():
                pass
            case _ if box.store == "deaf":
                yield at.Unanswered(action, "gone")
            case _:
                answer = self.ask(action)
                if isinstance(action, at.ClaimUnits) and isinstance(answer, at.Claimed):
                    box.decided.update(action.claim.keys or ())
                    box.decided.update(u.key for u in answer.units if u.task.batch > 1)
                yield at.Unanswered(action, "lost") if box.store == "mute" else answer

    def ask(self, action: Action) -> Event:
        match action:
            case at.ClaimUnits(claim):
                return at.Claimed(self.store.claim(claim))
            case at.FindClaimed(owner):
                return at.Claimed([u for u in self.store.active_units() if u.owner == owner])
            case at.LookAhead():
                return at.NextDue(self.store.next_claimable())
            case at.Renew(renewals):
                return at.Renewed(self.store.renew(renewals))
            case at.Report(writes):
                return at.Reported(self.store.save_units(writes))
        raise TypeError(action)


World.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestWorld = World.TestCase


def test_a_unit_that_kills_its_worker_is_given_up_and_no_other_is_blamed() -> None:
    """It goes free once, among those claimed with it; from then on each loss is its own."""
    world = World()
    world.boxes = [Box("w", slots=1)]
    units = [world.add("p", max_attempts=3) for _ in range(101)]
    poison = units[60].key
    deaths = 0
    world.settle(world.boxes[0])
    while world.store.active_units():
        assert world.time < 1000
        [box] = world.boxes
        if box.running and box.running[0].key == poison:
            deaths += 1
            world.boxes = [Box(f"w{deaths}", slots=1)]
            world.advance(15.1)
            world.recover()
            world.settle(world.boxes[0])
        elif box.running:
            world.end(0, OUTCOMES[0], 0)
        world.advance(0.001)
    ended = world.store.read_units([unit.key for unit in units])
    given_up = ended.pop(poison)
    assert (given_up.state, given_up.failures, given_up.attempt) == (UnitState.INVALID, 3, 4)
    assert deaths == 4
    assert {unit.state for unit in ended.values()} == {UnitState.PROCESSED}
    assert {unit.failures for unit in ended.values()} == {0}
    assert max(unit.attempt for unit in ended.values()) == 2, "some were claimed with it"
    world.broker.close()
