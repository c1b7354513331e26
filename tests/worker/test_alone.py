"""A program that works on one box at a time: who has the lease works, and stops before it ends."""

import contextlib
import logging
import os
import signal
from datetime import datetime, timedelta
from typing import Any

import pytest

from synergy.errors import Unreachable
from synergy.ports import STANDBY
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.testing.clock import VirtualClock
from synergy.worker.alone import ASK_AFTER, KILL_AFTER, LEASE, RENEWAL, Turn, alone, lease_name

LOG = logging.getLogger("synergy.alone")


class Box:
    """One box that wants its turn, on a clock and a store that it shares with others."""

    def __init__(self, owner: str, store: MemoryStore, clock: VirtualClock) -> None:
        self.asked: list[float] = []
        self.turn = Turn(
            store, clock, "loader", owner, LOG, lambda: self.asked.append(clock.monotonic())
        )


class AwayStore(MemoryStore):
    """It does not answer while it is away."""

    away = False

    def take_lease(self, *given: Any) -> Any:
        if self.away:
            raise Unreachable("the store does not answer")
        return super().take_lease(*given)

    def read_lease(self, name: str) -> Any:
        if self.away:
            raise Unreachable("the store does not answer")
        return super().read_lease(name)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(datetime.fromisoformat("2026-11-20T00:00Z"))


def test_one_has_the_turn_and_the_next_gets_it_when_it_is_dropped(clock: VirtualClock) -> None:
    store = MemoryStore()
    one, other = Box("one", store, clock), Box("other", store, clock)
    assert one.turn.taken()
    assert not other.turn.taken()
    for _ in range(10):
        clock.advance(timedelta(seconds=one.turn.patience()))
        one.turn.keep()
        assert not other.turn.taken()
    one.turn.drop()
    assert other.turn.taken()
    assert one.asked == other.asked == []


def test_a_turn_that_is_not_renewed_is_over_when_its_lease_ends(clock: VirtualClock) -> None:
    store = MemoryStore()
    one, other = Box("one", store, clock), Box("other", store, clock)
    assert one.turn.taken()
    clock.advance(LEASE - timedelta(seconds=0.001))
    assert not other.turn.taken()
    clock.advance(timedelta(seconds=0.001))
    assert other.turn.taken()


def test_a_lease_that_stands_still_is_over_whatever_its_end_says(clock: VirtualClock) -> None:
    """Its holder died while its clock was ten years ahead."""
    store = MemoryStore()
    ahead = clock.now() + timedelta(days=3652)
    store.take_lease(lease_name("loader"), "dead", ahead, ahead + LEASE)
    one, seconds = Box("one", store, clock), 0
    while not one.turn.taken():
        clock.advance(timedelta(seconds=1))
        seconds += 1
    assert LEASE.total_seconds() <= seconds <= LEASE.total_seconds() + 2 * RENEWAL
    one.turn.keep()
    lease = store.read_lease(lease_name("loader"))
    assert lease is not None
    assert lease.until == clock.now() + LEASE
    assert one.asked == []


def test_who_cannot_renew_stops_before_anybody_else_may_begin(clock: VirtualClock) -> None:
    store = AwayStore()
    one = Box("one", store, clock)
    assert one.turn.taken()
    began = clock.monotonic()
    store.away = True
    while clock.monotonic() - began < LEASE.total_seconds():
        clock.advance(timedelta(seconds=one.turn.patience()))
        one.turn.keep()
    asked = [when - began for when in one.asked]
    assert len(asked) == 2, "once gently, once for good"
    assert ASK_AFTER <= asked[0] < ASK_AFTER + RENEWAL
    assert KILL_AFTER <= asked[1] < LEASE.total_seconds() - 1


def test_a_short_silence_of_the_store_is_survived(clock: VirtualClock) -> None:
    store = AwayStore()
    one = Box("one", store, clock)
    assert one.turn.taken()
    store.away = True
    clock.advance(timedelta(seconds=ASK_AFTER - 0.1))
    one.turn.keep()
    store.away = False
    one.turn.keep()
    clock.advance(timedelta(seconds=ASK_AFTER - 0.1))
    one.turn.keep()
    assert one.asked == []


def test_who_has_lost_it_to_another_stops_at_once(clock: VirtualClock) -> None:
    """As after a pause that was longer than the lease."""
    store = MemoryStore()
    one, other = Box("one", store, clock), Box("other", store, clock)
    assert one.turn.taken()
    clock.advance(timedelta(minutes=1))
    assert other.turn.taken()
    one.turn.keep()
    assert len(one.asked) == 2
    one.turn.drop()
    other.turn.keep()
    assert other.asked == [], "what is another's is not dropped"


def test_who_waits_while_the_store_is_away_goes_on_waiting(clock: VirtualClock) -> None:
    store = AwayStore()
    store.away = True
    one = Box("one", store, clock)
    assert not one.turn.taken()
    store.away = False
    assert one.turn.taken()


def test_inside_the_lease_is_held_and_afterwards_it_is_free(clock: VirtualClock) -> None:
    store, bell = MemoryStore(), MemoryBell()
    with contextlib.closing(bell.listen(STANDBY)) as ear:
        with alone(store, bell, clock, "loader", "one", LOG):
            lease = store.read_lease(lease_name("loader"))
            assert lease is not None
            assert (lease.owner, lease.until) == ("one", clock.now() + LEASE)
            assert not ear.wait(0)
        assert ear.wait(0), "the next one is rung"
    dropped = store.read_lease(lease_name("loader"))
    assert dropped is not None
    assert dropped.until == clock.now()


def test_a_signal_ends_the_wait(clock: VirtualClock) -> None:
    store = MemoryStore()
    assert Box("other", store, clock).turn.taken()

    class Told(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise Told

    class Impatient(MemoryBell):
        def listen(self, role: str) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().listen(role)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Told), alone(store, Impatient(), clock, "loader", "one", LOG):
            raise AssertionError("it was not its turn")
    finally:
        signal.signal(signal.SIGTERM, before)
    lease = store.read_lease(lease_name("loader"))
    assert lease is not None
    assert lease.owner == "other"
