"""A job about which nothing can be decided stands in nobody else's way (protocol D12)."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from synergy import Context, daily, hourly, tree
from synergy.core import machines
from synergy.core.model import Applied, Job, JobWrite, Refused, Request, Unit, UnitWrite
from synergy.core.states import IllegalTransition, UnitInput, next_unit_state
from synergy.ports import Store
from synergy.stores.memory import MemoryStore
from synergy.testing.stage import Stage, processes

HOURS = "2026-11-20T00", "2026-11-20T01"


def sound_stage(store: Store | None = None) -> Stage:
    levels = [daily("d", run="a:b"), hourly("h", run="a:b")]
    context = Context(tree("t", levels, start="2026-11-20", lag=0))
    return Stage(context, at="2026-11-20T00:30Z", store=store)


def broken_stage(store: Store | None = None) -> tuple[Stage, Unit]:
    """Its first hour runs provisionally, though no such run was begun: no machine has that."""
    stage = sound_stage(store)
    now = stage.clock.now()
    job = stage.job("h", HOURS[0])
    open_run = machines.dispatched("continuous", job, now, final=False, consuming={})
    unit = machines.unit_of(open_run, stage.catalog.processes["h"].task, now)
    sent = replace(open_run, runs=0)
    stage.store.save_jobs([JobWrite(sent, 0)])
    stage.store.save_units([UnitWrite(unit, None)])
    return stage, unit


def ended(stage: Stage, unit: Unit) -> None:
    """Its unit is worked: what that means for a discrete job nobody can tell."""
    now = stage.clock.now()
    started = unit.moved(next_unit_state(unit.state, UnitInput.START), now, started_at=now)
    stage.store.save_units([UnitWrite(started, unit.fence)])
    stage.store.save_units([UnitWrite(processes(started, now), started.fence)])


def test_it_fails_with_the_reason_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    stage, unit = broken_stage()
    ended(stage, unit)
    with caplog.at_level(logging.ERROR):
        stage.until("2026-11-20T02:00Z")
    job = stage.job("h", HOURS[0])
    assert job.state == "failed"
    assert job.reason.startswith("parked, as nothing can be decided about it: IllegalTransition: ")
    (record,) = [each for each in caplog.records if "parked" in each.getMessage()]
    assert record.exc_info is not None
    stage.work()
    assert stage.state("h", HOURS[1]) == "processed"
    stage.until("2026-11-21T00:00Z")
    stage.work()
    assert stage.state("d", "2026-11-20") == "embryo"  # it waits for what has failed


def test_a_reprocess_tries_again() -> None:
    stage, unit = broken_stage()
    ended(stage, unit)
    stage.until("2026-11-21T00:00Z")
    stage.work()
    stage.request("reprocess", "h", HOURS[0])
    stage.work()
    assert stage.state("h", HOURS[0]) == stage.state("d", "2026-11-20") == "processed"


def test_it_is_parked_also_by_who_only_starts() -> None:
    stage, unit = broken_stage()
    ended(stage, unit)
    stage.restart()
    assert stage.state("h", HOURS[0]) == "failed"


class RefusingStore(MemoryStore):
    """Takes no job any more, once it is told so."""

    refuses = False

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        return [Refused(None) for _ in writes] if self.refuses else super().save_jobs(writes)


def test_what_cannot_be_parked_is_a_failure_of_the_program() -> None:
    store = RefusingStore()
    stage, unit = broken_stage(store)
    ended(stage, unit)
    store.refuses = True
    with pytest.raises(IllegalTransition):
        stage.settle()


class Odd(dict[str, Any]):
    """Options that nobody can read: what no border has kept out."""

    def get(self, *args: Any) -> Any:
        raise RuntimeError("no such thing")


def test_a_request_on_which_deciding_fails_is_refused_and_no_job_is_parked() -> None:
    stage = sound_stage()
    stage.until("2026-11-20T02:00Z")
    (unit,) = stage.claim(only="h", limit=1)
    now = stage.clock.now()
    # What comes first in the same turn goes well, and has nothing to do with it.
    stage.store.save_units([UnitWrite(processes(unit, now), unit.fence)])
    odd = Request(
        id="odd", action="reprocess", process="h", filed_at=now, options=Odd(),
        starts=(stage.interval("h", HOURS[1]).start,),
    )  # fmt: skip
    stage.store.file_request(odd)
    stage.settle()
    answered = stage.store.read_request("odd")
    assert answered is not None
    assert answered.state == "refused"
    assert answered.answer == {"why": "it cannot be decided about: RuntimeError: no such thing"}
    states = [stage.state("h", label) for label in HOURS]
    assert "failed" not in states
    assert stage.request("reprocess", "h", HOURS[1]).state == "done"
