"""Workers tell the store that they listen, and take leave; who died is not told of for ever."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from synergy.app import hand_on
from synergy.errors import Unreachable
from synergy.owners import new_owner
from synergy.ports import Store
from synergy.presence import (
    FORGOTTEN,
    SILENT,
    Forgetting,
    WorkerRecord,
    holder_of,
    read_workers,
    save_worker,
)
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.testing.clock import VirtualClock
from synergy.worker.attendance import attending

NOW = datetime.fromisoformat("2026-11-20T00:00:00.000001Z")


def a_record(owner: str = "worker@box:7:1:b:ff", **changes: Any) -> WorkerRecord:
    record = WorkerRecord(
        owner=owner, program="worker", box="box", slots=2, processes=None, busy=0, seen_at=NOW
    )
    return replace(record, **changes)


def until(fact: Callable[[], object]) -> None:
    give_up = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.mark.parametrize("processes", [None, frozenset(), frozenset({"day", "hour"})])
def test_a_record_comes_back_as_it_was_put(processes: frozenset[str] | None) -> None:
    store, record = MemoryStore(), a_record(processes=processes, busy=1)
    save_worker(store, a_record())
    save_worker(store, record)
    assert read_workers(store) == [record]
    assert record.takes("hour") is (processes is None or "hour" in processes)


def test_a_worker_is_silent_when_it_was_not_heard_of_for_three_beats() -> None:
    record = a_record()
    assert not record.is_silent(NOW + timedelta(seconds=SILENT))
    assert record.is_silent(NOW + timedelta(seconds=SILENT + 1))
    assert not record.is_silent(NOW - timedelta(days=1)), "its clock is ahead of ours"


def test_the_holder_of_a_claim_is_found_by_its_token() -> None:
    one, other = a_record("worker@box:7:1:b:f"), a_record("worker@box:7:1:b:ff")
    assert holder_of("worker@box:7:1:b:ff/12", [one, other]) is other
    assert holder_of("worker@box:7:1:b:f/1", [one, other]) is one
    assert holder_of("worker@box:8:1:b:f/1", [one, other]) is None


def test_a_worker_is_there_while_it_works_and_gone_afterwards() -> None:
    store, clock, busy = MemoryStore(), VirtualClock(NOW), [0]
    with attending(store, clock, a_record(), lambda: busy[0], beat=0.005):
        until(lambda: read_workers(store))
        busy[0] = 2
        clock.advance(timedelta(seconds=5))
        until(lambda: read_workers(store)[0].busy == 2)
        assert read_workers(store)[0].seen_at == NOW + timedelta(seconds=5)
    assert read_workers(store) == []


def test_a_store_that_is_away_is_tried_again_and_disturbs_nobody() -> None:
    class Away(MemoryStore):
        tried = 0

        def save_document(self, *given: Any) -> bool:
            self.tried += 1
            if self.tried < 3:
                raise Unreachable("the store does not answer")
            return super().save_document(*given)

    store = Away()
    with attending(store, VirtualClock(NOW), a_record(), lambda: 1, beat=0.005):
        until(lambda: read_workers(store))


def test_the_leader_forgets_whom_it_has_not_heard_of_for_an_hour_by_its_steady_clock() -> None:
    store, clock = MemoryStore(), VirtualClock(NOW)
    forgetting = Forgetting(clock)
    dead, ahead = a_record("dead"), a_record("ahead", seen_at=NOW + timedelta(days=3650))
    save_worker(store, dead)
    for _ in range(8):
        save_worker(store, ahead)
        clock.advance(FORGOTTEN / 6)
        forgetting.look(store)
    assert [each.owner for each in read_workers(store)] == ["ahead"]


def test_who_starts_removes_the_dead_of_its_own_host() -> None:
    store = MemoryStore()
    code = "from synergy.owners import new_owner; print(new_owner('worker', 'here'))"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    mine = new_owner("worker", "here")
    elsewhere = f"worker@other/host:{os.getpid()}:1:b:ff"
    for owner in (dead.stdout.strip(), mine, elsewhere):
        save_worker(store, a_record(owner))
    hand_on(store, MemoryBell())
    assert {each.owner for each in read_workers(store)} == {mine, elsewhere}


def test_a_worker_program_tells_of_itself(yard: Any) -> None:
    store: Store = yard.store
    program = yard.program(slots=3, processes=["counted"], told=True)
    until(lambda: read_workers(store))
    told = read_workers(store)[0]
    assert (told.program, told.slots, told.processes) == ("worker", 3, frozenset({"counted"}))
    assert program.stop() == 0
    assert read_workers(store) == []
