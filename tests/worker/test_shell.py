"""The worker's shell in this process, over a store in memory that can be made to fail."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from synergy.brokers.memory import MemoryBroker
from synergy.clock import SystemClock
from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Applied, Claim, Refused, Task, Unit, UnitWrite
from synergy.core.states import UnitState
from synergy.errors import Unreachable
from synergy.ports import Store
from synergy.stores import open_store
from synergy.stores.bell import MemoryBell
from synergy.worker.holding import SlotState
from synergy.worker.protocol import WorkerProtocol
from synergy.worker.shell import Shell
from tests.worker.yard import PROJECT, until

#: After which a unit that would last is over.
LIMIT = timedelta(seconds=1)


class Failing:
    """A store whose next calls of some methods do not answer, before or after their effect."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failures: dict[str, int] = {}
        self.too_late = False
        #: What was taken by each claim that took something, and whether it was named.
        self.taken: list[tuple[str, bool]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Its end may fail, too: then what was answered within says nothing."""
        with self._store.together():
            yield
        if self.failures.get("together", 0) > 0:
            self.failures["together"] -= 1
            raise Unreachable("the disk is full")

    def claim(self, claim: Claim) -> list[Unit]:
        units: list[Unit] = self._call("claim", claim)
        self.taken += [(unit.key, claim.keys is not None) for unit in units]
        return units

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        return self._call("save_units", writes)

    def save_and_claim(
        self, writes: Sequence[UnitWrite], claim: Claim
    ) -> tuple[list[Applied | Refused[Unit]], list[Unit]]:
        return self.save_units(writes), self.claim(claim)

    def _call(self, name: str, argument: Any) -> Any:
        fails = self.failures.get(name, 0) > 0
        if fails:
            self.failures[name] -= 1
        if fails and not self.too_late:
            raise Unreachable("disk full")
        answer = getattr(self._store, name)(argument)
        if fails:
            raise Unreachable("the answer was lost")
        return answer


class Desk:
    """A shell that is turned by hand."""

    def __init__(self, log_dir: Path) -> None:
        self.store = Failing(open_store("memory://"))
        self.bell = MemoryBell()
        self.broker = MemoryBroker()
        self.publisher = self.broker.publisher()
        self.protocol = WorkerProtocol("w", 1, grace=timedelta(seconds=5))
        self.shell = Shell(
            self.store,  # type: ignore[arg-type]
            self.bell,
            SystemClock(),
            self.protocol,
            1,
            PROJECT,
            log_dir,
            logging.getLogger("tests.worker"),
            self.broker.consume(["p"], window=2),
        )
        self.shell._listen_to_bell()
        self.shell._listen_to_broker()

    def request(self, generation: int = 1, **task: Any) -> Unit:
        unit = Unit(
            process="p",
            interval=Calendar(Granularity.DAILY).parse("2026-11-19"),
            generation=generation,
            task=Task(**task),
            created_at=datetime.now(UTC),
        )
        self.store.save_units([UnitWrite(unit, None)])
        return unit

    def ended(self, unit: Unit) -> Unit:
        def once() -> bool:
            self.shell.once()
            return self.store.read_units([unit.key])[unit.key].state.terminal

        until(once, pace=0)
        found: Unit = self.store.read_units([unit.key])[unit.key]
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "logs")
    with contextlib.closing(desk.shell):
        yield desk


@pytest.mark.parametrize("too_late", [False, True])
@pytest.mark.parametrize("method", ["claim", "save_units", "together"])
def test_a_store_that_did_not_answer_costs_time_and_no_attempt(
    desk: Desk, method: str, too_late: bool
) -> None:
    unit = desk.request(entry="tasks:result")
    desk.store.failures[method], desk.store.too_late = 2, too_late
    ended = desk.ended(unit)
    assert (ended.state, ended.attempt, ended.count) == (UnitState.PROCESSED, 1, 3)
    until(lambda: desk.shell.once() or not desk.protocol.held)
    assert (desk.protocol.counts.applied, desk.protocol.counts.superseded) == (1, 0)


def test_a_log_that_cannot_be_written_costs_the_log_and_no_attempt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    desk = Desk(tmp_path / "file" / "logs")
    with contextlib.closing(desk.shell):
        unit = desk.request(entry="tasks:prints", arguments={"text": "x"})
        assert desk.ended(unit).state is UnitState.PROCESSED
        assert "the log of its attempt is not complete" in caplog.text


def test_the_scheduler_is_rung_after_a_report(desk: Desk) -> None:
    ear = desk.bell.listen("scheduler")
    unit = desk.request(command=("true",))
    desk.ended(unit)
    until(lambda: desk.shell.once() or ear.wait(0))
    ear.close()


def test_a_slot_that_dies_during_a_command_does_not_disturb_it(desk: Desk, tmp_path: Path) -> None:
    unit = desk.request(command=("sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.01; done"))
    until(lambda: desk.shell.once() or desk.protocol.held, pace=0)
    slot = desk.shell._slots[0].process
    assert slot is not None
    slot.contained.kill()
    until(lambda: desk.shell.once() or desk.shell._slots[0].process is None, pace=0)
    (tmp_path / "go").touch()
    assert desk.ended(unit).state is UnitState.PROCESSED
    second = desk.request(entry="tasks:nothing")
    assert second.key == unit.key
    until(lambda: desk.shell.once() or desk.protocol.slot_state(0) is SlotState.READY, pace=0)


# the broker


def test_what_the_broker_brings_is_claimed_by_name_run_and_acknowledged(desk: Desk) -> None:
    until(lambda: desk.shell.once() or desk.protocol.slot_state(0) is SlotState.READY, pace=0)
    units = [desk.request(number, entry="tasks:result") for number in range(1, 6)]
    desk.publisher.publish(units)  # more than the window
    assert [desk.ended(unit).count for unit in units] == [3] * 5
    assert desk.store.taken == [(unit.key, True) for unit in units]
    desk.shell._stop_consuming()
    with contextlib.closing(desk.broker.consume(["p"], window=9)) as other:
        assert other.receive() == []


def test_a_broker_that_is_gone_costs_only_time(desk: Desk) -> None:
    desk.broker.leave("gone")
    unit = desk.request(entry="tasks:result")
    desk.publisher.publish([unit])
    assert desk.ended(unit).count == 3
    assert desk.store.taken == [(unit.key, False)]
    desk.broker.come_back()
    second = desk.request(2, entry="tasks:result")
    desk.publisher.publish([second])
    desk.ended(second)
    assert desk.store.taken[1] == (second.key, True)


@pytest.mark.parametrize("task", [{"command": ("sleep", "60")}, {"entry": "tasks:waits"}])
def test_what_was_offered_to_a_worker_at_a_long_unit_is_another_s_until_it_ends(
    desk: Desk, tmp_path: Path, task: dict[str, Any]
) -> None:
    until(lambda: desk.shell.once() or desk.protocol.slot_state(0) is SlotState.READY, pace=0)
    long = desk.request(1, arguments={"folder": str(tmp_path)}, time_limit=LIMIT, **task)
    unit = desk.request(2, entry="tasks:result")
    desk.publisher.publish([long, unit])
    with contextlib.closing(desk.broker.consume(["p"], window=1)) as other:
        assert other.receive() == []
        [brought] = until(lambda: desk.shell.once() or other.receive(), pace=0)
        assert brought.unit.key == unit.key
    assert [held.key for held in desk.protocol.held] == [long.key]
    assert desk.ended(unit).count == 3
    assert desk.store.taken[:2] == [(long.key, True), (unit.key, True)]


def test_what_was_offered_to_a_worker_that_stops_is_another_s_at_once(desk: Desk) -> None:
    until(lambda: desk.shell.once() or desk.protocol.slot_state(0) is SlotState.READY, pace=0)
    units = [desk.request(number, command=("sleep", "60")) for number in (1, 2)]
    desk.publisher.publish(units)
    # The rings keep it from sleeping on what it has.
    until(lambda: desk.bell.ring("worker") or desk.shell.once() or desk.protocol.held, pace=0)
    desk.shell.stop_soon()
    desk.bell.ring("worker")
    desk.shell.once()
    with contextlib.closing(desk.broker.consume(["p"], window=9)) as other:
        assert [each.unit.key for each in other.receive()] == [units[1].key]
