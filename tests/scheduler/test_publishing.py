"""What is requested is published when it is written for certain; otherwise the workers are rung."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from synergy.brokers.memory import MemoryBroker
from synergy.core.context import Context, daily, hourly, tree
from synergy.core.model import Unit, UnitWrite
from synergy.core.recovery import after_lost_lease
from synergy.errors import Unreachable
from synergy.stores import open_store
from synergy.testing.stage import Stage, fails

CONTEXT = Context(
    tree(
        "site",
        [daily("day", run="w:f"), hourly("hour", run="w:f", max_attempts=5)],
        start="2026-11-18",
        until="2026-11-19",
        lag=0,
    )
)
PROCESSES = ("day", "hour")


class Ear:
    """Hears who is rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, role: str) -> None:
        self.rung.append(role)

    def listen(self, role: str) -> Any:
        raise NotImplementedError


class Brought:
    """A stage whose scheduler publishes, and a consumer for what comes."""

    def __init__(self, store: Any = None) -> None:
        self.broker = MemoryBroker()
        self.consumer = self.broker.consume(PROCESSES, window=1000)
        self.ear = Ear()
        self.stage = Stage(CONTEXT, at="2026-11-18T00:00Z", bell=self.ear, store=store)
        self.publisher = self.broker.publisher()
        scheduler = self.stage.scheduler
        scheduler.setting = replace(scheduler.setting, publisher=self.publisher)
        self.ear.rung.clear()

    def units(self) -> list[Unit]:
        """What has come since."""
        return [delivery.unit for delivery in self.consumer.receive()]

    def rings(self) -> list[str]:
        """Who has been rung since."""
        rung, self.ear.rung = self.ear.rung, []
        return rung


@pytest.fixture
def brought() -> Iterator[Brought]:
    made = Brought()
    with contextlib.closing(made.broker):
        yield made


def test_a_requested_unit_is_brought_and_nobody_is_rung_for_it(brought: Brought) -> None:
    brought.stage.advance(hours=3)
    assert [unit.key for unit in brought.units()] == [
        f"hour@2026-11-18T{hour:02}#1" for hour in range(3)
    ]
    assert brought.rings() == []


def test_what_comes_is_the_unit_that_stands(brought: Brought) -> None:
    brought.stage.advance(hours=1)
    [unit] = brought.units()
    stands = brought.stage.store.read_units([unit.key])[unit.key]
    assert replace(stands, transitions=()) == unit


def test_while_the_broker_is_away_the_workers_are_rung(brought: Brought) -> None:
    brought.broker.leave("gone")
    brought.stage.advance(hours=1)
    assert brought.rings() == ["worker"]
    brought.broker.come_back()
    brought.stage.advance(hours=1)
    assert [unit.interval.label[-2:] for unit in brought.units()] == ["00", "01"]
    assert brought.rings() == []


def test_what_a_lost_worker_had_is_brought_again(brought: Brought) -> None:
    brought.stage.advance(hours=1)
    brought.units()
    [unit] = brought.stage.claim()
    brought.rings()
    brought.stage.advance(seconds=16)  # its lease runs out
    assert [(each.key, each.attempt) for each in brought.units()] == [(unit.key, 2)]
    brought.stage.advance(seconds=1)
    assert (brought.units(), brought.rings()) == ([], [])


def test_what_has_to_wait_for_its_time_is_not_brought(brought: Brought) -> None:
    brought.stage.advance(hours=1)
    brought.units()
    brought.stage.work(fails)
    assert brought.units() == []


def test_what_others_have_requested_again_is_brought(brought: Brought) -> None:
    """As when a supervisor sees a worker die: what that held is free at once."""
    brought.stage.advance(hours=1)
    brought.units()
    [unit] = brought.stage.claim()
    freed = after_lost_lease(unit, brought.stage.clock.now(), "its process has ended")
    brought.stage.store.save_units([UnitWrite(freed, unit.fence_with_lease)])
    brought.stage.advance(seconds=1)
    assert [(each.key, each.attempt) for each in brought.units()] == [(unit.key, 2)]
    brought.stage.advance(seconds=1)
    assert (brought.units(), brought.rings()) == ([], [])


class Unsure:
    """A store in which what is written together may come to nothing."""

    def __init__(self) -> None:
        self.store = open_store("memory://")
        self.fails = False
        #: What had come to the consumer before the block ended.
        self.early: list[Sequence[Unit]] = []
        self.look: Any = list

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        with self.store.together():
            yield
        self.early.append(self.look())
        if self.fails:
            raise Unreachable("the disk is full")


def test_nothing_is_published_before_it_is_written_for_certain() -> None:
    store = Unsure()
    brought = Brought(store)
    with contextlib.closing(brought.broker):
        store.look = brought.units
        store.fails = True
        with contextlib.suppress(Unreachable):
            brought.stage.advance(hours=1)
        store.fails = False
        assert brought.units() == []
        brought.stage.scheduler.load()
        brought.stage.advance(hours=1)
        assert [unit.interval.label[-2:] for unit in brought.units()] == ["01"]
        assert not any(store.early)
