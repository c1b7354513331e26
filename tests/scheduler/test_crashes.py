"""A scheduler that dies after any single write, and another that takes over: the same end."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from synergy.core import plans
from synergy.core.context import Context, daily, freerun, hourly, monthly, previous, tree
from synergy.core.model import Applied, Job, JobWrite, Refused, Request, Unit, UnitWrite
from synergy.errors import Unreachable
from synergy.reading import Reading
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.testing.stage import Stage, fails, finds_nothing, processes, processes_with

SPAN: dict[str, Any] = {"start": "2026-11-18", "until": "2026-11-20", "lag": 0}


class BreakingStore(MemoryStore):
    """Dies at one of the scheduler's writes, before or after its effect."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        #: The number of the write at which it dies (None: it does not), and whether it is kept.
        self.dies_at: int | None = None
        self.after = False

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        return self._each(writes, super().save_jobs)

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        return self._each(writes, super().save_units)

    def save_document(self, *document: Any) -> bool:
        save = super().save_document
        (saved,) = self._each([document], lambda documents: [save(*documents[0])])
        return bool(saved)

    def move_request(self, request: Request, expected: str) -> bool:
        move = super().move_request
        (moved,) = self._each([request], lambda requests: [move(requests[0], expected)])
        return bool(moved)

    def _each(self, writes: Sequence[Any], save: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """One write at a time: a batch is no transaction."""
        answers = []
        for write in writes:
            self.writes += 1
            dying = self.writes == self.dies_at
            if dying and not self.after:
                raise Unreachable("before the write")
            answers += save([write])
            if dying:
                raise Unreachable("after the write")
        return answers


Step = Callable[[Stage], object]


def context(**hour: Any) -> Context:
    """month → day → hours in groups, a sequential tree and a recomputing one on top."""
    return Context(
        tree(
            "site",
            [
                monthly("m", run="w:f"),
                daily("d", run="w:f"),
                hourly("h", run="w:f", grouping=12, **{"max_attempts": 1, **hour}),
            ],
            **SPAN,
        ),
        tree("chain", [daily("c", run="w:f", after=["d", previous("c")])], **SPAN),
        tree(
            "measured",
            [daily("r", run="w:f", machine="recomputing", source="s", after="d")],
            **SPAN,
        ),
        freerun("f", at="every 3600", run="w:f"),
        sources={"s": "w:k"},
    )


def step(stage: Stage, act: Step) -> None:
    """Do it; where the scheduler dies of it, another begins."""
    try:
        act(stage)
    except Unreachable:
        store = stage.store
        assert isinstance(store, BreakingStore)
        store.dies_at = None
        stage.restart()


def reprocess(*labels: str, process: str = "h", number: str = "r") -> Step:
    def act(stage: Stage) -> None:
        stage.store.file_request(
            Request(
                id=number,
                action="reprocess",
                process=process,
                starts=tuple(stage.interval(process, label).start for label in labels),
                filed_at=stage.clock.now(),
            )
        )
        stage.settle()

    return act


def plan(process: str, label: str, number: str = "p") -> Step:
    def act(stage: Stage) -> None:
        interval = stage.interval(process, label)
        made = plans.plan(stage.timetable, "reprocess", [(process, interval)], stage.clock.now())
        stage.store.file_request(
            Request(
                id=number, action="reprocess", process=process, starts=(interval.start,),
                state="planned", options=made.options(), filed_at=stage.clock.now(),
            )
        )  # fmt: skip
        stage.settle()

    return act


def switch(process: str, number: str, **options: Any) -> Step:
    def act(stage: Stage) -> None:
        stage.store.file_request(
            Request(
                id=number,
                action="switch",
                process=process,
                starts=(),
                filed_at=stage.clock.now(),
                options=options,
            )
        )
        stage.settle()

    return act


def to(action: str, number: str = "p", again: str = "") -> Step:
    """Apply or withdraw a plan."""

    def act(stage: Stage) -> None:
        stage.store.file_request(
            Request(
                id=f"{action} {number}{again}", action=action, process="h", starts=(), of=number,
                filed_at=stage.clock.now(),
            )
        )  # fmt: skip
        stage.settle()

    return act


def only(label: str) -> Step:
    def act(stage: Stage) -> None:
        stage.store.file_request(
            Request(
                id="o", action="reprocess", process="h", options={"only": True},
                starts=(stage.interval("h", label).start,), filed_at=stage.clock.now(),
            )
        )  # fmt: skip
        stage.settle()

    return act


def skip(process: str, label: str, action: str = "skip") -> Step:
    def act(stage: Stage) -> None:
        start = stage.interval(process, label).start
        stage.store.file_request(
            Request(
                id=action[0], action=action, process=process, starts=(start,),
                filed_at=stage.clock.now(),
            )
        )  # fmt: skip
        stage.settle()

    return act


def unskip(process: str, label: str) -> Step:
    return skip(process, label, "unskip")


def backfill(number: str = "b", **options: Any) -> Step:
    """All hours, or a change of that."""

    def act(stage: Stage) -> None:
        intervals = [stage.interval("h", label) for label in H]
        bounds = [int(intervals[0].start.timestamp()), int(intervals[-1].end.timestamp())]
        given = options or {"targets": bounds, "total": len(H), "force": True}
        stage.store.file_request(
            Request(
                id=number,
                action="backfill",
                process="h",
                starts=(),
                filed_at=stage.clock.now(),
                options=given,
            )
        )
        stage.settle()

    return act


def plan_backfill(number: str = "b") -> Step:
    """Plan one of all hours."""

    def act(stage: Stage) -> None:
        labels = [stage.interval("h", label) for label in H]
        bounds = [int(labels[0].start.timestamp()), int(labels[-1].end.timestamp())]
        named = [("h", interval) for interval in labels]
        made = plans.plan(stage.timetable, "reprocess", named, stage.clock.now())
        given: Any = {"targets": bounds, "total": len(H), "force": True, **made.options()}
        stage.store.file_request(
            Request(
                id=number, action="backfill", process="h", starts=(), state="planned",
                options=given, filed_at=stage.clock.now(),
            )
        )  # fmt: skip
        stage.settle()

    return act


def claim(**options: Any) -> Step:
    return lambda stage: stage.claim(**options)


def report(worker: Any = processes) -> Step:
    """Report all that is at work, in one go, as workers do while nobody schedules."""

    def act(stage: Stage) -> None:
        now = stage.clock.now()
        for unit in stage.store.active_units():
            if unit.state == "in_progress":
                MemoryStore.save_units(
                    stage.store,  # type: ignore[arg-type]
                    [UnitWrite(worker(unit, now), unit.fence)],
                )
        stage.settle()

    return act


def trigger_freerun(stage: Stage) -> None:
    stage.store.file_request(
        Request(id="t", action="trigger", process="f", starts=(), filed_at=stage.clock.now())
    )
    stage.settle()


def later(**by: float) -> Step:
    def act(stage: Stage) -> None:
        end = stage.clock.now() + timedelta(**by)
        step(stage, lambda stage: stage.until(end))
        stage.until(end)

    return act


def to_the_end(stage: Stage) -> None:
    """Work until nothing is left, with whoever schedules."""
    for _ in range(50):
        step(stage, report(processes_with("same")))
        step(stage, claim())
        if not stage.store.active_units():
            return
    raise AssertionError("it does not come to an end")


H = [f"2026-11-{day}T{hour}/PT12H" for day in (18, 19) for hour in ("00", "12")]

SCENARIOS: dict[str, list[Step]] = {
    "ordinary work": [to_the_end],
    "reprocess of what is finished": [to_the_end, reprocess(H[0]), to_the_end],
    "reprocess while the day is at work": [
        claim(only="h"), report(), claim(only="d"), reprocess(H[0]), report(), to_the_end,
    ],
    "reprocess of two hours, then of a third while they are at work": [
        to_the_end, reprocess(H[0], H[1]), claim(limit=1), reprocess(H[2], number="r2"),
        to_the_end,
    ],
    "reprocess of the day and of its hour": [
        to_the_end, reprocess("2026-11-18", process="d"), reprocess(H[1], number="r2"), to_the_end,
    ],
    "reprocess of the first of a sequence": [
        to_the_end, reprocess("2026-11-18", process="c"), to_the_end,
    ],
    "reprocess of everything at once": [
        to_the_end, reprocess("2026-11-18", "2026-11-19", process="d"), to_the_end,
    ],
    "a failed hour, reprocessed": [
        claim(limit=1), report(fails), to_the_end, reprocess(H[0]), to_the_end,
    ],
    "a failed hour, skipped": [claim(limit=1), report(fails), skip("h", H[0]), to_the_end],
    "skip of a day whose hours are at work": [
        claim(only="h", limit=3), skip("d", "2026-11-18"), report(), to_the_end,
    ],
    "nothing to do": [claim(), report(finds_nothing), reprocess(H[3]), to_the_end],
    "a plan that is applied": [to_the_end, plan("h", H[0]), to("apply"), to_the_end],
    "a plan that is applied twice, and withdrawn after that": [
        to_the_end, plan("h", H[0]), to("apply"), to("apply", again="!"), report(),
        to("withdraw"), to_the_end,
    ],
    "a plan that is withdrawn": [
        to_the_end, plan("h", H[0]), to("withdraw"), to("apply"), to("withdraw", again="!"),
    ],
    "a plan of which nothing has begun, withdrawn": [
        to_the_end, reprocess(H[3]), claim(), plan("h", H[0]), to("apply"), to("withdraw"),
        to_the_end,
    ],
    "a request of which something has begun, withdrawn": [
        to_the_end, reprocess(H[0], H[2]), claim(), to("withdraw", "r"), to_the_end,
    ],
    "a request for what had failed, withdrawn": [
        claim(limit=1), report(fails), claim(limit=1), reprocess(H[0]), to("withdraw", "r"),
        to_the_end, reprocess(H[0], number="r2"), to_the_end,
    ],
    "a reprocess of only one hour": [to_the_end, only(H[0]), to_the_end],
    "a reprocess of only one hour while the day is at work": [
        claim(only="h"), report(), claim(only="d"), only(H[0]), report(), to_the_end,
    ],
    "a skipped day, unskipped": [
        skip("d", "2026-11-18"), to_the_end, unskip("d", "2026-11-18"), to_the_end,
    ],
    "a skipped day, unskipped, which is withdrawn": [
        skip("d", "2026-11-18"), to_the_end, reprocess(H[3]), claim(), unskip("d", "2026-11-18"),
        to("withdraw", "u"), to_the_end,
    ],
    "firings": [later(hours=1), trigger_freerun, to_the_end, later(hours=2), to_the_end],
    "off while units are requested and at work, and on again": [
        claim(only="h", limit=2), switch("h", "1", on=False), report(), to_the_end,
        switch("h", "2", on=True), to_the_end,
    ],
    "off, and on without what was missed": [
        claim(only="h", limit=1), switch("h", "1", on=False), report(), to_the_end,
        switch("h", "2", on=True, catch_up="none"), to_the_end,
    ],
    "off, and on with the latest of what was missed": [
        switch("d", "1", on=False), to_the_end,
        switch("d", "2", on=True, catch_up="latest"), to_the_end,
    ],
    "a freerun off and on": [
        switch("f", "1", on=False), later(hours=2), to_the_end, switch("f", "2", on=True),
        to_the_end,
    ],
    "a firing that is withdrawn": [
        later(hours=1), switch("f", "1", on=False), to_the_end, later(hours=2),
        switch("f", "2", on=True), to_the_end,
    ],
    "a backfill": [to_the_end, backfill(), to_the_end],
    "a backfill of what has failed and was skipped, beside a reprocess": [
        claim(limit=1), report(fails), skip("h", H[1]), to_the_end, backfill(), claim(limit=1),
        reprocess(H[3]), report(), to_the_end,
    ],
    "a backfill that is paused, goes on, and is given up": [
        to_the_end, backfill(), backfill("p", change="pause", id="b"), claim(), report(),
        backfill("q", change="resume", id="b"), claim(limit=1), report(),
        backfill("s", change="cancel", id="b"), to_the_end,
    ],
    "a plan of a backfill that is applied, twice": [
        to_the_end, plan_backfill(), to("apply", "b"), claim(limit=1), to("apply", "b", again="!"),
        to_the_end,
    ],
    "a plan of a backfill that is withdrawn": [
        to_the_end, plan_backfill(), to("withdraw", "b"), to("apply", "b"),
    ],
    "a plan of a backfill that is applied and withdrawn, twice": [
        to_the_end, plan_backfill(), to("apply", "b"), claim(limit=1), report(),
        to("withdraw", "b"), to("withdraw", "b", again="!"), to_the_end,
    ],
    "a lost worker": [claim(only="h", limit=2), later(seconds=16), to_the_end],
}  # fmt: skip


#: What is special about the hours of some.
HOURS: dict[str, dict[str, Any]] = {
    "a lost worker": {"max_attempts": 2},
    "a plan of which nothing has begun, withdrawn": {"parallel": 1},
    "a request of which something has begun, withdrawn": {"parallel": 1},
    "a request for what had failed, withdrawn": {"parallel": 1},
    "a skipped day, unskipped, which is withdrawn": {"parallel": 1},
}


def play(name: str, dies_at: int | None, after: bool) -> Stage:
    store = BreakingStore()
    stage = Stage(
        context(**HOURS.get(name, {})),
        at="2026-12-01T00:00Z",
        store=store,
        measure=lambda source, interval: (1, 2),
    )
    store.dies_at, store.after, store.writes = dies_at, after, 0
    for act in SCENARIOS[name]:
        step(stage, act) if act is not to_the_end else to_the_end(stage)
    return stage


def ends(stage: Stage) -> dict[str, tuple[Any, ...]]:
    """How every job came out."""
    store = stage.store
    assert isinstance(store, BreakingStore)
    return {
        key: (job.state, job.generation, job.result, job.attempts, job.consumed)
        for key, job in sorted(store._jobs.items())
    }


def starts(stage: Stage) -> dict[str, int]:
    store = stage.store
    assert isinstance(store, BreakingStore)
    return {key: unit.attempt for key, unit in sorted(store._units.items()) if unit.started_at}


def check(stage: Stage) -> None:
    assert stage.store.active_units() == []
    assert stage.store.open_requests() == []
    assert stage.scheduler.engine.switchboard.recordings == []
    assert not stage.scheduler.engine.lanes.lanes
    assert all(not job.holds for job in stage.store.active_jobs())
    assert [job.key for job in stage.store.active_jobs()] == []
    read = Reading(stage.store, stage.catalog).timetable
    for name, ledger in read.ledgers.items():
        start, end = stage.catalog.spans[name]
        assert end is not None
        believed = stage.timetable.ledgers[name]
        assert [*ledger.runs(start, end)] == [*believed.runs(start, end)], "I20"
    for job in stage.store._jobs.values():  # type: ignore[attr-defined]
        unit = stage.unit(job.unit) if job.unit and job.process == "r" else None
        if unit is not None:
            assert (unit.low, unit.high) == (1, 2), "no unit goes out unmeasured"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_end_is_the_same_wherever_the_scheduler_died(name: str, after: bool) -> None:
    undisturbed = play(name, None, False)
    check(undisturbed)
    store = undisturbed.store
    assert isinstance(store, BreakingStore)
    assert store.writes > 5
    wanted, started = ends(undisturbed), starts(undisturbed)
    for number in range(1, store.writes + 1):
        stage = play(name, number, after)
        check(stage)
        assert ends(stage) == wanted, f"died {'after' if after else 'before'} write {number}"
        assert starts(stage) == started, f"write {number}"


class UncertainStore(MemoryStore):
    """Its blocks end with what `at_end` does."""

    at_end: Callable[[], None] = staticmethod(lambda: None)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        yield
        self.at_end()


def test_nobody_is_told_before_it_is_certain_that_all_is_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "synergy.scheduler")
    store, bell = UncertainStore(), MemoryBell()
    stage = Stage(context(), at="2026-11-18T12:00Z", store=store, bell=bell)
    with contextlib.closing(bell.listen("worker")) as workers:
        caplog.clear()

        def fail() -> None:
            assert store.active_units()
            raise Unreachable("the answer to all of it was lost")

        store.at_end = fail
        stage.clock.set(stage.clock.now() + timedelta(hours=12))
        with pytest.raises(Unreachable):
            stage.settle()
        assert not workers.wait(0)
        assert not caplog.records
        store.at_end = lambda: None
        stage.restart()
        to_the_end(stage)
        assert workers.wait(0)
