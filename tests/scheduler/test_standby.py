"""A second scheduler stands by: it costs next to nothing, and takes over at once."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from synergy.core.context import Context, daily, tree
from synergy.core.model import Lease
from synergy.leases import LEADER
from synergy.ports import STANDBY, Store
from synergy.scheduler.loop import LEASE, Scheduler, Setting
from synergy.scheduler.sources import SourcesAtOnce
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.testing.clock import VirtualClock
from synergy.testing.stage import Stage

DAYS = Context(tree("t", [daily("d", run="w:f")], start="2026-11-19", lag=0))


class Ear:
    """Never sleeps, and remembers for how long it should have; time passes meanwhile."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.clock.advance(timedelta(seconds=seconds))
        return False

    def fileno(self) -> int:
        return -1

    def drain(self) -> None:
        """Nobody rings."""

    def close(self) -> None:
        """Nothing to close."""


class CountingStore(MemoryStore):
    """Tells how often somebody wanted a lease."""

    wanted = 0

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        self.wanted += 1
        return super().take_lease(name, owner, now, until)


def a_clock() -> VirtualClock:
    return VirtualClock(datetime.fromisoformat("2026-11-20T00:00Z"))


def a_scheduler(store: Store, clock: VirtualClock, owner: str, bell: Any = None) -> Scheduler:
    return Scheduler(
        Setting(
            store=store,
            bell=bell or MemoryBell(),
            clock=clock,
            catalog=Stage(DAYS, at=clock.now()).catalog,
            owner=owner,
            sources=SourcesAtOnce(lambda source, interval: None),
        )
    )


def turns_until(fact: Callable[[], bool], scheduler: Scheduler, ears: tuple[Ear, Ear]) -> None:
    for _ in range(100):
        if fact():
            return
        scheduler.turn(*ears)
    raise AssertionError("it did not come true")


def test_who_stands_by_looks_once_a_renewal_and_writes_nothing() -> None:
    clock, store = a_clock(), CountingStore()
    ears = Ear(clock), Ear(clock)
    standby = a_scheduler(store, clock, "second")
    store.take_lease(LEADER, "first", clock.now(), clock.now() + LEASE)
    store.wanted = 0
    for _ in range(20):
        standby.turn(*ears)
        store.take_lease(LEADER, "first", clock.now(), clock.now() + LEASE)
    assert not standby.leading
    assert store.wanted == 20, "the leader's own"
    assert ears[0].waits == []
    assert ears[1].waits == [1.0] * 20


def test_a_lease_that_is_not_renewed_is_taken_the_moment_it_ends() -> None:
    clock, store = a_clock(), MemoryStore()
    ears = Ear(clock), Ear(clock)
    standby = a_scheduler(store, clock, "second")
    ends = clock.now() + timedelta(seconds=3.7)
    store.take_lease(LEADER, "killed", clock.now(), ends)
    turns_until(lambda: standby.leading, standby, ears)
    lease = store.read_lease(LEADER)
    assert lease is not None
    assert (lease.owner, lease.epoch, lease.since) == ("second", 2, ends)
    assert sum(ears[1].waits) < 3.71


def test_a_leader_that_stops_hands_over_and_rings() -> None:
    clock, store, bell = a_clock(), MemoryStore(), MemoryBell()
    leader = a_scheduler(store, clock, "first", bell)
    turns_until(lambda: leader.leading, leader, (Ear(clock), Ear(clock)))
    standby = a_scheduler(store, clock, "second", bell)
    standby.turn(Ear(clock), Ear(clock))
    assert not standby.leading
    with contextlib.closing(bell.listen(STANDBY)) as ear:
        leader.close()
        assert ear.wait(0)
    before = clock.now()
    standby.turn(Ear(clock), Ear(clock))
    assert standby.leading
    lease = store.read_lease(LEADER)
    assert lease is not None
    assert (lease.owner, lease.since) == ("second", before)


def test_a_leaders_lease_that_stands_still_is_taken_over_whatever_its_end_says() -> None:
    """The leader died while its clock was ten years ahead."""
    clock, store = a_clock(), MemoryStore()
    begun = clock.now()
    ahead = begun + timedelta(days=3652)
    store.take_lease(LEADER, "dead", ahead, ahead + LEASE)
    standby = a_scheduler(store, clock, "standby")
    turns_until(lambda: standby.leading, standby, (Ear(clock), Ear(clock)))
    assert timedelta(seconds=5) < clock.now() - begun < timedelta(seconds=7)
    standby.turn(Ear(clock), Ear(clock))
    lease = store.read_lease(LEADER)
    assert lease is not None
    assert (lease.owner, lease.epoch) == ("standby", 2)
